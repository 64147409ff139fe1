"""Step TRL's RewardTrainer beside train_rm on the same tiny model, rows and order, and compare what they log; then
score rows of HH-RLHF, padded, with transformers and with `score`.

    make build/plain/split_prompts
    python dev/compare_trl_rm.py --data SHARED [--program FILE] [--case NAME ...]

SHARED (or $ALIGN_TEST_DATA) holds data/hh_harmless_pairs.jsonl and gpt2_tokenizer/. The exit code is the verdict over
20 AdamW steps and an evaluation after them: loss within 1e-4 relative at every step; gradient norm within 1e-4 at the
first step and 1e-2 at the others; margin and rewards within 1e-4 of the rewards' range; accuracies equal, but for rows
whose margin is within that; step, epoch, learning rate and num_tokens equal. Scores of one model within 1e-5 of their
range, whoever reads it, before and after training, and with --normalize_rewards.

The model: train_rm makes a reward model of a language model that has no padding token, so the start of both is a
directory that it has written, with "[PAD]" after GPT-2's vocabulary. transformers must find every weight in it and
the padding token in its tokenizer.

What has to be set for both to do the same (TRL 1.16, transformers 5.24; files named are theirs):
- bf16=False, gradient_checkpointing=False, use_cpu=True, train_sampling_strategy="sequential", dropout 0 in
  config.json: as in compare_trl_sft.py. Gradient norm in float64: as in compare_trl_pref.py, where rows and prompts
  come from as well.
- A padding token that is not EOS. RewardTrainer appends EOS to both texts, and GPT2ForSequenceClassification
  (`modeling_layers.py`) reads the right-most token that is not padding. With GPT-2's usual pad_token = eos_token that
  is the last word; how far those scores are from ours is printed at the end.
- Rows short enough: RewardTrainer leaves out pairs that are too long.
Without centering the loss says nothing about the level of all scores together: the gradient of ln_f.bias is 0 but for
rounding, of which AdamW makes whole steps on both sides, and the levels drift apart by some 1e-4 of the range. There
min_reward and max_reward are compared as distances from mean_reward, and mean_reward within 1e-2.
min_reward and max_reward of TRL are means over batches, so in the case with two accumulation steps they are left out:
ours are those of the whole update. The evaluation is one batch for TRL, and batches of 3 for ours.
"""
import argparse
import json
import math
import os
import subprocess
import sys
import tempfile
import warnings

import make_gpt2
from compare_trl_pref import BATCH, EVAL_ROWS, HERE, LONGEST, ROWS, read_pairs
from compare_trl_sft import relative  # also keeps the libraries off the network

# No warm-up: every one of the 20 steps moves the weights, the first most.
COMMON = dict(max_steps=20, learning_rate=3e-4, lr_scheduler_type="linear", warmup_steps=0, weight_decay=0.1,
              max_grad_norm=1.0, logging_steps=1, seed=42, max_length=LONGEST)
CASES = {  # whether rows have a margin, accumulation steps, the options that differ
    "plain": (False, 1, {}),
    "centered": (False, 1, dict(center_rewards_coefficient=0.05)),
    "margins": (True, 1, {}),
    "margins, centered, accumulated": (True, 2, dict(center_rewards_coefficient=0.01)),
}
REWARDS = ("margin", "mean_reward", "min_reward", "max_reward")


def run(command):
    result = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    if result.returncode:
        sys.exit(f"{' '.join(command)}\n{result.stdout}exit code {result.returncode}")
    return result.stdout


def write_rows(path, rows):
    with open(path, "w") as f:
        f.writelines(json.dumps(row) + "\n" for row in rows)
    return path


def load_scored(directory):
    """The model as transformers has it. Nothing may be missing, left over or newly made."""
    import torch
    import transformers

    model, info = transformers.AutoModelForSequenceClassification.from_pretrained(
        directory, dtype=torch.float32, output_loading_info=True)
    odd = {name: found for name, found in info.items() if found}
    tokenizer = transformers.AutoTokenizer.from_pretrained(directory)
    pad = tokenizer.pad_token_id
    if odd or not isinstance(model, transformers.GPT2ForSequenceClassification) or model.config.num_labels != 1:
        sys.exit(f"{directory}: does not load as a reward model: {odd}")
    if tokenizer.pad_token != "[PAD]" or pad != len(tokenizer) - 1 or pad != model.config.pad_token_id:
        sys.exit(f"{directory}: pad_token {tokenizer.pad_token!r}, id {pad}, config {model.config.pad_token_id}")
    return model.eval(), tokenizer


def check_tokens(trainer, rows, tokenizer):
    """TRL's rows must be ours: prompt and completion tokenised apart, EOS after."""
    for i, (row, made) in enumerate(zip(rows, trainer.train_dataset, strict=True)):
        for side in ("chosen", "rejected"):
            ids = tokenizer(row["prompt"]).input_ids + tokenizer(row[side]).input_ids + [tokenizer.eos_token_id]
            if made[side + "_ids"] != ids:
                sys.exit(f"row {i + 1}: TRL made other tokens of it")


def run_trl(model_dir, rows, eval_rows, accumulation, options, work):
    """Returns TRL's log, one dict for each step, the log of the evaluation after it, and the trained model. "margins" in
    each dict are those of its rows."""
    import datasets
    import torch
    import transformers
    import trl

    torch.set_num_threads(1)
    datasets.disable_progress_bars()
    model, tokenizer = load_scored(model_dir)
    config = trl.RewardConfig(output_dir=os.path.join(work, "trl"), bf16=False, gradient_checkpointing=False,
                              use_cpu=True, train_sampling_strategy="sequential", report_to="none",
                              save_strategy="no", disable_tqdm=True, dataloader_pin_memory=False,
                              per_device_train_batch_size=BATCH // accumulation,
                              gradient_accumulation_steps=accumulation, per_device_eval_batch_size=EVAL_ROWS,
                              **COMMON, **options)
    trainer = trl.RewardTrainer(model=model, args=config, train_dataset=datasets.Dataset.from_list(rows),
                                eval_dataset=datasets.Dataset.from_list(eval_rows), processing_class=tokenizer)
    trainer.remove_callback(transformers.PrinterCallback)
    check_tokens(trainer, rows, tokenizer)

    def clip(parameters, max_norm, norm_type=2):
        grads = [p.grad for p in parameters if p.grad is not None]
        norm = math.sqrt(sum(g.double().square().sum().item() for g in grads))
        for g in grads:
            g.mul_(min(1.0, max_norm / (norm + 1e-6)))
        return norm

    trainer.accelerator.clip_grad_norm_ = clip
    margins, inner = [], trainer.compute_loss

    def loss_of_batch(model, inputs, return_outputs=False, num_items_in_batch=None):
        loss, outputs = inner(model, inputs, return_outputs=True, num_items_in_batch=num_items_in_batch)
        chosen, rejected = outputs.logits.detach().squeeze(-1).chunk(2)
        margins.append((chosen - rejected).tolist())
        return (loss, outputs) if return_outputs else loss

    trainer.compute_loss = loss_of_batch
    trainer.train()
    log = [entry for entry in trainer.state.log_history if "loss" in entry]
    for i, entry in enumerate(log):
        entry["margins"] = sum(margins[accumulation * i:accumulation * (i + 1)], [])
    steps = len(margins)
    trainer.evaluate()
    final = [entry for entry in trainer.state.log_history if "eval_loss" in entry][-1]
    final["margins"] = sum(margins[steps:], [])
    return log, final, model


def run_ours(program, model_dir, rows, eval_rows, accumulation, options, work):
    """Returns the log as run_trl does, and the trained model's folder."""
    out = os.path.join(work, "ours")
    command = [program, "--model", model_dir, "--dataset", write_rows(os.path.join(work, "rows.jsonl"), rows),
               "--eval_dataset", write_rows(os.path.join(work, "eval.jsonl"), eval_rows), "--output_dir", out,
               "--train_sampling_strategy", "sequential", "--per_device_eval_batch_size", "3", "--per_device_train_batch_size",
               str(BATCH // accumulation), "--gradient_accumulation_steps", str(accumulation)]
    for key, value in {**COMMON, **options}.items():
        command += ["--" + key, str(value)]
    run(command)
    with open(os.path.join(out, "metrics.jsonl")) as f:
        metrics = [json.loads(line) for line in f]
    return ([entry for entry in metrics if "loss" in entry], [entry for entry in metrics if "eval_loss" in entry][-1],
            os.path.join(out, "final"))


def compare(ours, ours_eval, theirs, theirs_eval, accumulation, centered):
    """Prints the table, returns the list of what is wrong."""
    if len(ours) != len(theirs):
        return [f"{len(ours)} steps logged, TRL has {len(theirs)}"]
    wrong, worst = [], {}

    def check(where, name, apart, bound):
        worst[name] = max(worst.get(name, 0), apart)
        if not apart <= bound:
            wrong.append(f"{where}: {name} is {apart:.2e} away, allowed {bound:g}")

    def check_rewards(where, a, b, prefix, names):
        size = b[prefix + "max_reward"] - b[prefix + "min_reward"]
        for name in names:
            away = a[prefix + name] - b[prefix + name]
            if not centered and name in ("min_reward", "max_reward"):
                away -= a[prefix + "mean_reward"] - b[prefix + "mean_reward"]
            loose = not centered and name == "mean_reward"
            check(where, prefix + name, abs(away) / size, 1e-2 if loose else 1e-4)
        # rows whose margin is within the bound may be counted either way
        open_rows = sum(abs(m) <= 1e-4 * size for m in b["margins"])
        apart = abs(a[prefix + "accuracy"] - b[prefix + "accuracy"])
        check(where, prefix + "accuracy", max(0.0, apart - open_rows / len(b["margins"])), 1e-6)
        check(where, prefix + "loss", relative(a[prefix + "loss"], b[prefix + "loss"]), 1e-4)

    print("step  TRL loss    ours        relative  TRL norm    ours        relative  TRL margin  ours        accuracy")
    for i, (a, b) in enumerate(zip(ours, theirs)):
        where = f"step {b['step']}"
        norm, loss = relative(a["grad_norm"], b["grad_norm"]), relative(a["loss"], b["loss"])
        print(f"{b['step']:4}  {b['loss']:<10.6f}  {a['loss']:<10.6f}  {loss:.1e}   {b['grad_norm']:<10.6f}  "
              f"{a['grad_norm']:<10.6f}  {norm:.1e}   {b['margin']:<10.6f}  {a['margin']:<10.6f}  {b['accuracy']:.4g}")
        check(where, "step", a["step"] != b["step"], 0)
        check(where, "epoch", abs(a["epoch"] - b["epoch"]), 1e-6)
        check(where, "learning_rate", abs(a["learning_rate"] - b["learning_rate"]), 1e-10)
        check(where, "num_tokens", a["num_tokens"] != b["num_tokens"], 0)
        check(where, "grad_norm at step 1" if i == 0 else "grad_norm", norm, 1e-4 if i == 0 else 1e-2)
        check_rewards(where, a, b, "", REWARDS[:2] if accumulation > 1 else REWARDS)
    check_rewards("evaluation", ours_eval, theirs_eval, "eval_", REWARDS)
    print("furthest apart: " + ", ".join(f"{name} {apart:.1e}" for name, apart in worst.items()))
    return wrong


def scores_theirs(model, tokenizer, texts, pad_with_eos=False):
    """Scores by transformers: all texts in one batch, padded on the right."""
    import torch

    before = tokenizer.pad_token, model.config.pad_token_id
    if pad_with_eos:
        tokenizer.pad_token, model.config.pad_token_id = tokenizer.eos_token, tokenizer.eos_token_id
    batch = tokenizer([text + tokenizer.eos_token for text in texts], return_tensors="pt", padding=True)
    with torch.no_grad():
        scores = model(**batch).logits.squeeze(-1).tolist()
    tokenizer.pad_token, model.config.pad_token_id = before
    return scores


def scores_ours(program, directory, rows, work):
    """Scores by `score`, chosen and rejected of each row in turn."""
    out = os.path.join(work, "scores.txt")
    run([program, "--model", directory, "--dataset", write_rows(os.path.join(work, "score.jsonl"), rows),
         "--output", out, "--overwrite_output"])
    with open(out) as f:
        return [float(x) for line in f for x in line.split()]


def compare_scores(title, program, directory, rows, work):
    """Prints how far the two are apart; True if that is rounding."""
    model, tokenizer = load_scored(directory)
    texts = [row["prompt"] + row[side] for row in rows for side in ("chosen", "rejected")]
    ours, theirs = scores_ours(program, directory, rows, work), scores_theirs(model, tokenizer, texts)
    size = max(theirs) - min(theirs)
    apart = max(abs(a - b) for a, b in zip(ours, theirs, strict=True)) / size
    padded = scores_theirs(model, tokenizer, texts, pad_with_eos=True)
    other = max(abs(a - b) for a, b in zip(theirs, padded)) / size
    mean = sum(theirs) / len(theirs)
    deviation = math.sqrt(sum((x - mean) ** 2 for x in theirs) / (len(theirs) - 1))
    print(f"{title}: {len(texts)} scores from {min(theirs):.4f} to {max(theirs):.4f} (mean {mean:.4f}, deviation "
          f"{deviation:.4f}), {apart:.1e} of that range apart; padding with EOS moves them by up to {other:.1e}")
    return apart <= 1e-5


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", default=os.environ.get("ALIGN_TEST_DATA"))
    parser.add_argument("--program", default=os.path.join(HERE, "..", "train_rm"))
    parser.add_argument("--score", default=os.path.join(HERE, "..", "score"), help="the program that scores a file")
    parser.add_argument("--split", default=os.path.join(HERE, "..", "build", "plain", "split_prompts"))
    parser.add_argument("--case", choices=CASES, nargs="+", help="only these")
    args = parser.parse_args()
    if not args.data:
        parser.error("--data or $ALIGN_TEST_DATA is needed")

    import transformers
    import trl
    warnings.simplefilter("ignore", FutureWarning)  # options that later versions rename
    transformers.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    print(f"trl {trl.__version__}, transformers {transformers.__version__}")

    failed = []
    with tempfile.TemporaryDirectory() as work:
        lm_dir, made_dir = os.path.join(work, "lm"), os.path.join(work, "made")
        make_gpt2.make(lm_dir, "tiny", os.path.join(args.data, "gpt2_tokenizer"), rough=True, n_positions=LONGEST)
        tokenizer = transformers.AutoTokenizer.from_pretrained(lm_dir)
        pairs = read_pairs(os.path.join(args.data, "data", "hh_harmless_pairs.jsonl"), args.split, tokenizer,
                           ROWS + EVAL_ROWS)
        rows, eval_rows = pairs[:ROWS], pairs[ROWS:]
        with_margin = [dict(row, margin=(i * 7 % 11) / 4 - 0.5) for i, row in enumerate(rows)]
        # nothing is learnt at rate 0: a reward model with a fresh score, as it is and normalised
        start = [args.program, "--model", lm_dir, "--dataset", write_rows(os.path.join(work, "rows.jsonl"), rows),
                 "--max_steps", "1", "--learning_rate", "0", "--max_length", str(LONGEST)]
        run(start + ["--output_dir", made_dir])
        run(start + ["--output_dir", made_dir + "2", "--normalize_rewards", "64"])
        model_dir = os.path.join(made_dir, "final")
        print(f"model: tiny, {sum(p.numel() for p in load_scored(model_dir)[0].parameters()):,} parameters, dropout 0")
        for title, directory in (("start", model_dir), ("start, normalised", os.path.join(made_dir + "2", "final"))):
            if not compare_scores(title, args.score, directory, rows, work):
                failed.append(title)
        for name, (has_margin, accumulation, options) in CASES.items():
            if args.case and name not in args.case:
                continue
            print(f"\n{name}: {ROWS} rows, {accumulation} accumulation steps, {options}")
            train = with_margin if has_margin else rows
            with tempfile.TemporaryDirectory(dir=work) as here:
                theirs, theirs_eval, trained = run_trl(model_dir, train, eval_rows, accumulation, options, here)
                ours, ours_eval, final = run_ours(args.program, model_dir, train, eval_rows, accumulation, options,
                                                  here)
                wrong = compare(ours, ours_eval, theirs, theirs_eval, accumulation,
                                "center_rewards_coefficient" in options)
                # left out are biases whose gradient is rounding: the key's, and without centering ln_f's
                apart = max((a - b).abs().max().item()
                            for (n, a), b in zip(load_scored(final)[0].named_parameters(), trained.parameters())
                            if not n.endswith(("c_attn.bias", "ln_f.bias")))
                print(f"trained weights at most {apart:.1e} apart")
                if not compare_scores("trained", args.score, final, rows, here):
                    wrong.append("scores of the trained model")
                print(f"{name}: {'FAILED' if wrong else 'ok'}")
                for line in wrong:
                    print("  " + line)
                failed += [name] if wrong else []
    print(f"\nverdict: {'FAILED: ' + '; '.join(failed) if failed else 'ok'}")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
