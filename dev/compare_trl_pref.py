"""Step TRL's DPOTrainer, KTOTrainer and ORPOTrainer beside train_dpo, train_kto and train_orpo on the same tiny model,
rows and order, and compare what they log.

    make build/plain/split_prompts
    python dev/compare_trl_pref.py --data SHARED [--programs DIR] [--case NAME ...]
    python dev/compare_trl_pref.py --data SHARED --only-trl [--trl-double] [--trl-as-is]

SHARED (or $ALIGN_TEST_DATA) holds data/hh_harmless_pairs.jsonl and gpt2_tokenizer/. The exit code is the verdict over
20 AdamW steps and an evaluation after them: loss within 1e-4 relative at every step; gradient norm within 1e-4 at the
first step and 1e-2 at the others; log-probs, rewards / beta, margins / beta, kl and log-odds within 1e-6 times the
mean |log-prob| of a row; accuracies equal, but for rows whose margin is within that; entropy within 1e-4 relative;
logits/*, which may be near 0, within 1e-5; mean_token_accuracy, step, epoch, learning rate and num_tokens equal.

What has to be set for both to do the same (TRL 1.16, transformers 5.24; files named are theirs):
- bf16=False, gradient_checkpointing=False, use_cpu=True, train_sampling_strategy="sequential", dropout 0 in
  config.json: as in compare_trl_sft.py.
- An explicit prompt, cut by our rule (split_prompts.c). TRL's own cut of an implicit one is the longest common prefix
  by characters, which may end inside a word.
- Rows where prompt and completion have the same tokens alone as together. Of others TRL's DPO and KTO drop the end of
  the prompt (`common_prefix_length`; with a warning), and ORPO moves the border by a token. check_tokens compares ids.
- Rows short enough to need no cut.
- Gradient norm in float64. Trainer's own is torch.nn.utils.get_total_norm in float32, which sums the squares of a
  whole tensor in one float and is printed below the table: off by up to 1.2e-4 here, where the embedding is 50257
  by 64. So the clipping of both uses the float64 norm; --trl-as-is leaves TRL's in place.
- DPO: label_smoothing only with "robust". TRL's "sigmoid" takes it and ignores it, ours is cDPO then.
- KTO: one accumulation step, since TRL takes z from each micro-batch. y' is the previous row's completion, the first
  row of a batch gets the last one's (KTOTrainer._prepare_dataset; check_tokens), which is what train_kto does with the
  effective batch. A batch with one class has no rewards or logps of the other, on both sides.
- ORPO: tokenizer.bos_token = None. ORPOTrainer.tokenize_row puts BOS before the prompt, which for GPT-2 is
  <|endoftext|>; DPOTrainer and KTOTrainer do not, nor do we. With it the loss of the first step is 11.542624, without
  11.595619 (--case orpo --only-trl, with and without --trl-as-is). Its NLL runs over prompt and completion: --nll all.
  What was broken in its cut of long rows in earlier versions is mended in 1.16 (`tokenize_row`).
What TRL logs, and where that is not the mean over rows:
- Every figure is the mean over a batch's rows or tokens, then over the batches since the last line. In the log of
  training that is one batch. The evaluation is one batch for DPO and ORPO, so that TRL's means of means are plain
  means. For KTO it must be batches of the training's size, because y' goes round in blocks of that
  (per_device_train_batch_size in `_prepare_dataset`); each has as many rows of either class, and entropy and logits/*,
  means over tokens, are compared with a wider bound. Ours runs in batches of 2: it must not depend on them.
- rewards/chosen and /rejected are beta * log-ratio whatever the loss; for ORPO beta * mean log-prob of a token.
- logps/* are sums over the completion with its end-of-text, for ORPO means.
- logits/* are means over the vocabulary, then over the tokens of the completions. For ORPO TRL takes the mean over the
  whole batch, prompts and padding included, so there they are not compared.
- At equal weights TRL's margins are exactly 0, so its accuracy is 0. Ours may have rounding there: the rule above.
- num_tokens: DPO counts the prompt with both completions, KTO leaves out the mismatched rows. ORPO has none.

The memory allocator spends most of the time in large tensors: MALLOC_MMAP_THRESHOLD_=4294967296
MALLOC_TRIM_THRESHOLD_=68719476736 in the environment make it several times faster on glibc.
"""
import argparse
import json
import math
import os
import shutil
import subprocess
import sys
import tempfile
import warnings

os.environ["TRL_EXPERIMENTAL_SILENCE"] = "1"  # ORPOTrainer lives there, and says so
import make_gpt2
from compare_trl_sft import relative, weights_apart  # also keeps the libraries off the network

HERE = os.path.dirname(os.path.abspath(__file__))
ROWS, EVAL_ROWS, BATCH, LONGEST = 64, 8, 4, 256

# No warm-up: every one of the 20 steps moves the weights, the first most.
COMMON = dict(max_steps=20, learning_rate=3e-4, lr_scheduler_type="linear", warmup_steps=0, weight_decay=0.1,
              max_grad_norm=1.0, logging_steps=1, seed=42, per_device_train_batch_size=BATCH,
              gradient_accumulation_steps=1, max_length=LONGEST)
CASES = {  # method, whether the reference has other weights, the options that differ
    "sigmoid": ("dpo", False, dict(loss_type="sigmoid", beta=0.1)),
    "sigmoid, other reference": ("dpo", True, dict(loss_type="sigmoid", beta=0.1)),
    "ipo": ("dpo", False, dict(loss_type="ipo", beta=0.5)),
    "ipo, other reference": ("dpo", True, dict(loss_type="ipo", beta=0.5)),
    "hinge": ("dpo", False, dict(loss_type="hinge", beta=0.1)),
    "robust": ("dpo", False, dict(loss_type="robust", beta=0.1, label_smoothing=0.2)),
    "kto": ("kto", False, dict(loss_type="kto", beta=0.1)),
    "kto, other reference, weights": ("kto", True, dict(loss_type="kto", beta=0.1, desirable_weight=0.75,
                                                        undesirable_weight=1.5)),
    "apo_zero_unpaired": ("kto", False, dict(loss_type="apo_zero_unpaired", beta=0.1)),
    "orpo": ("orpo", False, dict(beta=0.5)),
}
# Which of the four rows of a batch are desirable, batch after batch: the last one has a single class.
LABELS = [(1, 0, 1, 1), (0, 1, 0, 0), (0, 1, 1, 0), (1, 1, 1, 1), (0, 0, 0, 1)]
EVAL_LABELS = [(1, 0, 0, 1), (0, 1, 0, 1)]


def read_pairs(path, split, tokenizer, count):
    """Pairs with the prompt apart that fit, and whose parts have the same ids alone as together."""
    result = subprocess.run([split, path], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    if result.returncode:
        sys.exit(f"{split}: {result.stderr}exit code {result.returncode}")
    pairs = []
    for line in result.stdout.splitlines():
        pair = json.loads(line)
        prompt = tokenizer(pair["prompt"]).input_ids
        parts = [tokenizer(pair[side]).input_ids for side in ("chosen", "rejected")]
        whole = [tokenizer(pair["prompt"] + pair[side]).input_ids for side in ("chosen", "rejected")]
        # half the room each: KTO puts prompts before other rows' completions. One more for end-of-text.
        if max(len(prompt), *(len(part) + 1 for part in parts)) > LONGEST // 2:
            continue
        if [prompt + part for part in parts] != whole:
            continue
        pairs.append(pair)
        if len(pairs) == count:
            return pairs
    sys.exit(f"{path}: {len(pairs)} pairs fit, {count} needed")


def make_rows(pairs, method, labels):
    """KTO gets one side of each pair, so that no two rows of a batch have the same prompt."""
    if method != "kto":
        return pairs
    rows = []
    for i, pair in enumerate(pairs):
        label = bool(labels[i // BATCH % len(labels)][i % BATCH])
        rows.append({"prompt": pair["prompt"], "completion": pair["chosen" if label else "rejected"], "label": label})
    return rows


def make_reference(model_dir, directory):
    """The model with every weight moved by a percent, so that log-ratios are not 0 at the first step."""
    import torch
    import transformers

    shutil.copytree(model_dir, directory)
    model = transformers.AutoModelForCausalLM.from_pretrained(model_dir, dtype=torch.float32)
    generator = torch.Generator().manual_seed(7)
    with torch.no_grad():
        for p in model.parameters():
            p.mul_(1 + 0.01 * torch.randn(p.shape, generator=generator))
    model.save_pretrained(directory)


def check_tokens(trainer, rows, tokenizer, method):
    """TRL's rows must be ours: prompt and completion tokenised apart, end-of-text after the completion."""
    eos = [tokenizer.eos_token_id]
    for i, (row, made) in enumerate(zip(rows, trainer.train_dataset, strict=True)):
        prompt = tokenizer(row["prompt"]).input_ids
        for side in ("completion",) if method == "kto" else ("chosen", "rejected"):
            completion = tokenizer(row[side]).input_ids + eos
            if method == "orpo":
                same = (made[side + "_input_ids"] == prompt + completion
                        and made[side + "_labels"] == [-100] * len(prompt) + completion)
            else:
                same = made["prompt_ids"] == prompt and made[side + "_ids"] == completion
            if not same:
                sys.exit(f"row {i + 1}: TRL made other tokens of it")
        if method == "kto" and "KL_completion_ids" in made:
            before = rows[i - 1 if i % BATCH else i + BATCH - 1]
            other = tokenizer(before["completion"]).input_ids + eos
            if made["KL_completion_ids"] != other:
                sys.exit(f"row {i + 1}: its mismatched completion is not the previous row's")


def run_trl(model_dir, ref_dir, rows, eval_rows, method, options, work, args):
    """Returns TRL's log, one dict for each step, the log of the evaluation after it, and the trained model. Each dict
    also has "margins", the margin of each row (DPO and ORPO), and "norm32", PyTorch's norm in float32."""
    import datasets
    import torch
    import transformers
    import trl
    import trl.experimental.orpo

    torch.set_num_threads(1)
    datasets.disable_progress_bars()
    dtype = torch.float64 if args.trl_double else torch.float32
    load = transformers.AutoModelForCausalLM.from_pretrained
    tokenizer = transformers.AutoTokenizer.from_pretrained(model_dir)
    tokenizer.pad_token = tokenizer.eos_token
    kinds = {"dpo": (trl.DPOConfig, trl.DPOTrainer), "kto": (trl.KTOConfig, trl.KTOTrainer),
             "orpo": (trl.experimental.orpo.ORPOConfig, trl.experimental.orpo.ORPOTrainer)}
    more = {} if method == "orpo" else {"ref_model": load(ref_dir, dtype=dtype)}
    if method == "orpo" and not args.trl_as_is:
        tokenizer.bos_token = None
    config = kinds[method][0](output_dir=os.path.join(work, "trl"), bf16=False, gradient_checkpointing=False,
                              use_cpu=True, train_sampling_strategy="sequential", report_to="none",
                              save_strategy="no", disable_tqdm=True, dataloader_pin_memory=False,
                              remove_unused_columns=method != "orpo",
                              per_device_eval_batch_size=BATCH if method == "kto" else EVAL_ROWS, **COMMON, **options)
    model = load(model_dir, dtype=dtype)
    trainer = kinds[method][1](model=model, args=config, train_dataset=datasets.Dataset.from_list(rows),
                               eval_dataset=datasets.Dataset.from_list(eval_rows), processing_class=tokenizer, **more)
    trainer.remove_callback(transformers.PrinterCallback)
    if not args.trl_as_is:
        check_tokens(trainer, rows, tokenizer, method)

    # PyTorch sums the squares of a whole tensor in float32 here; the same in float64 is what is meant.
    norms = []

    def clip(parameters, max_norm, norm_type=2):
        grads = [p.grad for p in parameters if p.grad is not None]
        norms.append(torch.nn.utils.get_total_norm(grads).item())
        norm = math.sqrt(sum(g.double().square().sum().item() for g in grads))
        scale = min(1.0, max_norm / ((norms[-1] if args.trl_as_is else norm) + 1e-6))
        for g in grads:
            g.mul_(scale)
        return norms[-1] if args.trl_as_is else norm

    trainer.accelerator.clip_grad_norm_ = clip

    # The mean of a batch is all that TRL logs of its rows: the fourth vector that it gathers has their margins.
    margins, gathered = [], []
    gather = trainer.accelerator.gather
    name = "get_batch_loss_metrics" if method == "orpo" else "compute_loss"
    inner = getattr(trainer, name)

    def record(tensor):
        if tensor.dim() == 1:
            gathered.append(tensor.tolist())
        return gather(tensor)

    def loss_of_batch(*positional, **named):
        gathered.clear()
        result = inner(*positional, **named)
        margins.append(gathered[3] if method != "kto" else [])
        return result

    trainer.accelerator.gather = record
    setattr(trainer, name, loss_of_batch)
    trainer.train()
    log = [entry for entry in trainer.state.log_history if "loss" in entry]
    for entry, rows_of, norm in zip(log, margins, norms, strict=True):
        entry.update(margins=rows_of, norm32=norm)
    steps = len(margins)
    trainer.evaluate()
    final = [entry for entry in trainer.state.log_history if "eval_loss" in entry][-1]
    final["margins"] = sum(margins[steps:], [])
    return log, final, model


def run_ours(program, model_dir, ref_dir, rows, eval_rows, method, options, work):
    """Runs the program with the flags of the same names. Returns its log as run_trl, and the trained model's folder."""
    out = os.path.join(work, "ours")
    files = [os.path.join(work, name) for name in ("rows.jsonl", "eval.jsonl")]
    for path, part in zip(files, (rows, eval_rows)):
        with open(path, "w") as f:
            f.writelines(json.dumps(row) + "\n" for row in part)
    command = [program, "--model", model_dir, "--dataset", files[0], "--eval_dataset", files[1], "--output_dir", out,
               "--train_sampling_strategy", "sequential", "--samples", "0", "--per_device_eval_batch_size", "2"]
    if ref_dir != model_dir:
        command += ["--ref_model", ref_dir]
    if method == "orpo":
        command += ["--nll", "all"]
    for key, value in {**COMMON, **options}.items():
        command += ["--" + key, str(value)]
    result = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    if result.returncode:
        sys.exit(f"{' '.join(command)}\n{result.stdout}exit code {result.returncode}")
    with open(os.path.join(out, "metrics.jsonl")) as f:
        metrics = [json.loads(line) for line in f]
    return ([entry for entry in metrics if "loss" in entry], [entry for entry in metrics if "eval_loss" in entry][-1],
            os.path.join(out, "final"))


# Metrics in nats of log-prob (True: times beta). What differs in them is rounding in sums of log-probs, so they are
# compared with the size of such a sum. ORPO's log-probs are means, and so is the size there.
NATS = {"logps/chosen": False, "logps/rejected": False, "rewards/chosen": True, "rewards/rejected": True,
        "rewards/margins": True, "kl": False, "log_odds_chosen": False, "log_odds_ratio": False}


LOGGED = set(NATS) | {"loss", "nll_loss", "rewards/accuracies", "logits/chosen", "logits/rejected",
                      "mean_token_accuracy"}


def distances(ours, theirs, beta, prefix="", token_bound=1e-4):
    """Every metric of TRL's entry that has a meaning here: name -> (distance, bound)."""
    result = {}
    size = [abs(theirs[prefix + name]) for name in ("logps/chosen", "logps/rejected") if prefix + name in theirs]
    size = sum(size) / len(size)
    for name, bound in (("loss", 1e-4), ("nll_loss", 1e-4), ("entropy", token_bound), ("mean_token_accuracy", 1e-6)):
        if prefix + name in theirs:
            result[prefix + name] = (relative(ours[prefix + name], theirs[prefix + name]), bound)
    for name in ("logits/chosen", "logits/rejected"):
        if prefix + name in theirs and prefix + "nll_loss" not in theirs:  # not ORPO's
            result[prefix + name] = (abs(ours[prefix + name] - theirs[prefix + name]), token_bound / 10)
    for name, is_reward in NATS.items():
        if prefix + name in theirs:
            apart = abs(ours[prefix + name] - theirs[prefix + name]) / (beta if is_reward else 1)
            result[prefix + name] = (apart / size, 1e-6)
    if prefix + "rewards/accuracies" in theirs:
        # rows whose margin is within the bound may be counted either way
        margins = theirs["margins"]
        open_rows = sum(abs(m) <= 1e-6 * beta * size for m in margins)
        apart = abs(ours[prefix + "rewards/accuracies"] - theirs[prefix + "rewards/accuracies"])
        result[prefix + "rewards/accuracies"] = (max(0.0, apart - open_rows / len(margins)), 1e-6)
    return result


def compare(ours, ours_eval, theirs, theirs_eval, method, beta):
    """Prints the table, returns the list of what is wrong."""
    if len(ours) != len(theirs):
        return [f"{len(ours)} steps logged, TRL has {len(theirs)}"]
    wrong, worst = [], {}

    def check(where, name, apart, bound):
        worst[name] = max(worst.get(name, 0), apart)
        if not apart <= bound:
            wrong.append(f"{where}: {name} is {apart:.2e} away, allowed {bound:g}")

    last = "kl" if method == "kto" else "rewards/accuracies"
    print("step  TRL loss    ours        relative  TRL norm    ours        relative  TRL margin  ours        "
          f"TRL {last.split('/')[-1]}")
    for i, (a, b) in enumerate(zip(ours, theirs)):
        where = f"step {b['step']}"
        unlike = sorted((a.keys() ^ b.keys()) & LOGGED)
        if unlike:
            return wrong + [f"{where}: logged by one side only: {', '.join(unlike)}"]
        norm = relative(a["grad_norm"], b["grad_norm"])
        margins = [f"{e['rewards/margins']:<10.6f}" if "rewards/margins" in e else f"{'-':10}" for e in (b, a)]
        loss = relative(a["loss"], b["loss"])
        print(f"{b['step']:4}  {b['loss']:<10.6f}  {a['loss']:<10.6f}  {loss:.1e}   {b['grad_norm']:<10.6f}  "
              f"{a['grad_norm']:<10.6f}  {norm:.1e}   {margins[0]}  {margins[1]}  {b[last]:.4g}")
        check(where, "step", a["step"] != b["step"], 0)
        check(where, "epoch", abs(a["epoch"] - b["epoch"]), 1e-6)
        check(where, "learning_rate", abs(a["learning_rate"] - b["learning_rate"]), 1e-10)
        check(where, "grad_norm at step 1" if i == 0 else "grad_norm", norm, 1e-4 if i == 0 else 1e-2)
        if "num_tokens" in b:
            check(where, "num_tokens", a["num_tokens"] != b["num_tokens"], 0)
        for name, (apart, bound) in distances(a, b, beta).items():
            check(where, name, apart, bound)
    token_bound = 1e-2 if method == "kto" else 1e-4
    for name, (apart, bound) in distances(ours_eval, theirs_eval, beta, "eval_", token_bound).items():
        check("evaluation", name, apart, bound)
    print("furthest apart: " + ", ".join(f"{name} {apart:.1e}" for name, apart in worst.items()))
    norm32 = max(relative(b["norm32"], b["grad_norm"]) for b in theirs)
    print(f"PyTorch's own norm in float32: {norm32:.1e} from the same in float64")
    return wrong


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", default=os.environ.get("ALIGN_TEST_DATA"))
    parser.add_argument("--programs", default=os.path.join(HERE, ".."), help="folder of train_dpo and the others")
    parser.add_argument("--split", default=os.path.join(HERE, "..", "build", "plain", "split_prompts"))
    parser.add_argument("--case", choices=CASES, nargs="+", help="only these")
    parser.add_argument("--trl-as-is", action="store_true", help="with ORPO's BOS and the norm in float32 (see above)")
    parser.add_argument("--trl-double", action="store_true", help="TRL's model in float64")
    parser.add_argument("--only-trl", action="store_true", help="print TRL's figures and run nothing of ours")
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
        model_dir, ref_dir = os.path.join(work, "model"), os.path.join(work, "reference")
        model = make_gpt2.make(model_dir, "tiny", os.path.join(args.data, "gpt2_tokenizer"), rough=True,
                               n_positions=LONGEST)
        make_reference(model_dir, ref_dir)
        print(f"model: tiny, {sum(p.numel() for p in model.parameters()):,} parameters, dropout 0")
        tokenizer = transformers.AutoTokenizer.from_pretrained(model_dir)
        pairs = read_pairs(os.path.join(args.data, "data", "hh_harmless_pairs.jsonl"), args.split, tokenizer,
                           ROWS + EVAL_ROWS)
        for name, (method, other_reference, options) in CASES.items():
            if args.case and name not in args.case:
                continue
            reference = ref_dir if other_reference else model_dir
            rows = make_rows(pairs[:ROWS], method, LABELS)
            eval_rows = make_rows(pairs[ROWS:], method, EVAL_LABELS)
            print(f"\n{name}: {method}, {ROWS} rows, {options}")
            with tempfile.TemporaryDirectory(dir=work) as here:
                theirs, theirs_eval, trained = run_trl(model_dir, reference, rows, eval_rows, method, options, here,
                                                       args)
                if args.only_trl:
                    for entry in theirs + [theirs_eval]:
                        print(json.dumps(entry))
                    continue
                ours, ours_eval, final = run_ours(os.path.join(args.programs, "train_" + method), model_dir,
                                                  reference, rows, eval_rows, method, options, here)
                wrong = compare(ours, ours_eval, theirs, theirs_eval, method, options["beta"])
                print(f"trained weights at most {weights_apart(trained, final):.1e} apart")
                print(f"{name}: {'FAILED' if wrong else 'ok'}")
                for line in wrong:
                    print("  " + line)
                failed += [name] if wrong else []
    if not args.only_trl:
        print(f"\nverdict: {'FAILED: ' + '; '.join(failed) if failed else 'ok'}")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
