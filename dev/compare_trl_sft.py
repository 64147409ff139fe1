"""Step TRL's SFTTrainer and train_sft on the same tiny model, data and order, and compare what they log.

    python dev/compare_trl_sft.py --data SHARED [--program ./train_sft] [--case NAME]
    python dev/compare_trl_sft.py --data SHARED --only-trl
    python dev/compare_trl_sft.py --data SHARED --bf16

SHARED (or $ALIGN_TEST_DATA) holds data/hh_harmless_pairs.jsonl and gpt2_tokenizer/. The exit code is the verdict:
loss within 1e-4 relative at every step, gradient norm within 1e-4 at the first step and 1e-2 at the others, learning
rate and num_tokens equal, entropy within 1e-4 and accuracy within 5e-3. --bf16 asks something else: how far bfloat16
takes each of them from its own float32 run, TRL's by PyTorch's autocast, ours by `--bf16`; ours may not go further.
On a CPU without AVX512-BF16 PyTorch takes minutes for a case of that.

What has to be set for TRL to do the same as train_sft (TRL 1.16, transformers 5.24; files named are theirs):
- bf16=False, gradient_checkpointing=False, use_cpu=True: BaseConfig turns the first two on, on a CPU too.
- train_sampling_strategy="sequential": `shuffle_dataset=False`, the default, only leaves out one more shuffle before
  the sampler's own, which is random by default (TrainingArguments).
- Dropout 0 in config.json: SFTConfig has no disable_dropout, so TRL trains GPT-2 with 0.1.
- model.loss_type = "ForCausalLM". transformers finds this from the class's name, which works for LlamaForCausalLM but
  leaves None for GPT2LMHeadModel (PreTrainedModel.__init__). Trainer then takes the loss for one that does not shift its
  labels, and counts each row's first token as well, which is never predicted (`_loss_shifts_labels`). On `text` data
  TRL's loss and gradients of GPT-2 are then too small by the factor (tokens - rows) / tokens; with a prompt the first
  label is -100 and nothing changes. Four rows of the model below: 11.129301 logged by TRL, 11.236572 the mean over the
  predicted tokens in float64; 11.129301 is the same sum divided by the number of all tokens. --trl-as-is shows it.
What TRL logs, and where it says so:
- loss: sum over kept tokens / number of labels != -100 in the whole accumulation window (`num_items_in_batch`, counted
  after the shift; SFTTrainer.compute_loss, Trainer._get_num_items_in_batch). So it does not depend on how a batch is
  cut into micro-batches, and logging_steps=1 gives the step's own loss, not rounded.
- learning_rate: read after optimizer.step() and before lr_scheduler.step(), so it is the rate the step used; with
  warm-up the first step has 0 (Trainer._run_epoch).
- grad_norm: before clipping, of the accumulated gradient.
- num_tokens: running sum of attention_mask: prompt and completion, no padding, since the start of training.
- entropy, mean_token_accuracy: mean over kept tokens of each micro-batch, then the plain mean over the micro-batches
  (SFTTrainer.log), so with accumulation they are not token-weighted. train_sft's are compared with a wider bound there.
- The last accumulation window of an epoch is short when the batches do not divide evenly; it still makes a step.
- The prompt's part of the ids is the common prefix of its own ids and those of prompt + completion
  (data_utils.common_prefix_length). The rows used here tokenise the same both ways, which this script checks.
- A row with more than max_length tokens keeps its start; rows with no label left are dropped without a count.
"""
import argparse
import json
import os
import subprocess
import sys
import tempfile
import warnings

os.environ["HF_HUB_OFFLINE"] = "1"  # read when the libraries are imported: nothing here is to be downloaded
import make_gpt2

HERE = os.path.dirname(os.path.abspath(__file__))
TURN = "\n\nAssistant:"

# Rows are few and the learning rate is high, so that 20 steps change the model much: an error would grow.
COMMON = dict(max_steps=20, learning_rate=1e-3, lr_scheduler_type="linear", warmup_steps=4, weight_decay=0.1,
              max_grad_norm=1.0, logging_steps=1, seed=42)
CASES = {  # kind of rows, number of rows, and the options that differ
    "prompt": ("prompt", 80, dict(per_device_train_batch_size=4, gradient_accumulation_steps=1, max_length=256)),
    "prompt, 4 micro-batches": ("prompt", 160, dict(per_device_train_batch_size=2, gradient_accumulation_steps=4,
                                                    max_length=256)),
    "text": ("text", 80, dict(per_device_train_batch_size=4, gradient_accumulation_steps=1, max_length=256)),
    "text, 4 micro-batches": ("text", 160, dict(per_device_train_batch_size=2, gradient_accumulation_steps=4,
                                                max_length=256)),
    # 30 rows are 15 batches of 2: windows of 4, 4, 4 and 3, then the next epoch
    "epochs": ("prompt", 30, dict(per_device_train_batch_size=2, gradient_accumulation_steps=4, max_length=256)),
    "cut": ("text", 80, dict(per_device_train_batch_size=4, gradient_accumulation_steps=1, max_length=60,
                             truncation_mode="keep_start")),
}


def make_rows(path, tokenizer, kind, count, longest):
    """HH-RLHF's chosen texts that fit; as `text`, or split before the last answer into prompt and completion."""
    rows = []
    with open(path) as f:
        for line in f:
            text = json.loads(line)["chosen"]
            at = text.rfind(TURN) + len(TURN)
            prompt, completion = text[:at], text[at:]
            ids = tokenizer(text).input_ids
            # one more for the end-of-text token that both sides append
            if at < len(TURN) or not completion.strip() or len(ids) + 1 > longest:
                continue
            if tokenizer(prompt).input_ids + tokenizer(completion).input_ids != ids:
                continue
            rows.append({"text": text} if kind == "text" else {"prompt": prompt, "completion": completion})
            if len(rows) == count:
                return rows
    sys.exit(f"{path}: {len(rows)} rows fit, {count} needed")


def run_trl(model_dir, rows, options, work, as_is=False, bf16=False):
    """Returns TRL's log, one dict for each step, and the trained model. `as_is` leaves its count of labels alone."""
    import datasets
    import torch
    import transformers
    import trl

    torch.set_num_threads(1)
    datasets.disable_progress_bars()
    model = transformers.AutoModelForCausalLM.from_pretrained(model_dir, dtype=torch.float32)
    if not as_is:
        model.loss_type = "ForCausalLM"
    config = trl.SFTConfig(output_dir=os.path.join(work, "trl"), bf16=bf16, gradient_checkpointing=False, use_cpu=True,
                           train_sampling_strategy="sequential", shuffle_dataset=False, report_to="none",
                           save_strategy="no", disable_tqdm=True, dataloader_pin_memory=False, **COMMON, **options)
    trainer = trl.SFTTrainer(model=model, args=config, train_dataset=datasets.Dataset.from_list(rows),
                             processing_class=transformers.AutoTokenizer.from_pretrained(model_dir))
    trainer.remove_callback(transformers.PrinterCallback)
    trainer.train()
    return [entry for entry in trainer.state.log_history if "loss" in entry], model


def run_ours(program, model_dir, rows, options, work, bf16=False):
    """Runs train_sft with the flags of the same names. Returns its metrics, and the folder of the trained model."""
    dataset, out = os.path.join(work, "rows.jsonl"), os.path.join(work, "ours")
    with open(dataset, "w") as f:
        f.writelines(json.dumps(row) + "\n" for row in rows)
    command = [program, "--model", model_dir, "--dataset", dataset, "--output_dir", out, "--overwrite_output_dir", "true",
               "--train_sampling_strategy", "sequential", "--bf16", str(bf16).lower()]
    for key, value in {**COMMON, **options}.items():
        command += ["--" + key, str(value)]
    result = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    if result.returncode:
        sys.exit(f"{' '.join(command)}\n{result.stdout}exit code {result.returncode}")
    with open(os.path.join(out, "metrics.jsonl")) as f:
        metrics = [json.loads(line) for line in f]
    return [entry for entry in metrics if "loss" in entry], os.path.join(out, "final")


def relative(a, b):
    return abs(a - b) / max(abs(b), 1e-30)


def compare(ours, theirs, accumulation):
    """Prints the table, returns the list of what is wrong."""
    wrong = []
    if len(ours) != len(theirs):
        return [f"{len(ours)} steps logged, TRL has {len(theirs)}"]
    worst = {}
    print("step  TRL loss    ours        relative  TRL norm    ours        relative  rate        tokens")
    for i, (a, b) in enumerate(zip(ours, theirs)):
        loss, norm = relative(a["loss"], b["loss"]), relative(a["grad_norm"], b["grad_norm"])
        print(f"{b['step']:4}  {b['loss']:<10.6f}  {a['loss']:<10.6f}  {loss:.1e}   {b['grad_norm']:<10.6f}  "
              f"{a['grad_norm']:<10.6f}  {norm:.1e}   {a['learning_rate']:<10.4g}  {a['num_tokens']:.0f}")
        bounds = {
            "step": (a["step"] != b["step"], 0),
            "epoch": (abs(a["epoch"] - b["epoch"]), 1e-6),
            "loss": (loss, 1e-4),
            "grad_norm at step 1" if i == 0 else "grad_norm": (norm, 1e-4 if i == 0 else 1e-2),
            "learning_rate": (abs(a["learning_rate"] - b["learning_rate"]), 1e-9),
            "num_tokens": (a["num_tokens"] != b["num_tokens"], 0),
            # means of means in TRL: equal to the token mean only when there is one micro-batch
            "entropy": (relative(a["entropy"], b["entropy"]), 1e-4 if accumulation == 1 else 1e-2),
            "mean_token_accuracy": (abs(a["mean_token_accuracy"] - b["mean_token_accuracy"]),
                                    5e-3 if accumulation == 1 else 5e-2),
        }
        for name, (apart, bound) in bounds.items():
            worst[name] = max(worst.get(name, 0), apart)
            if apart > bound:
                wrong.append(f"step {b['step']}: {name} is {apart:.2e} away, allowed {bound:g}")
    print("furthest apart: " + ", ".join(f"{name} {apart:.1e}" for name, apart in worst.items()))
    return wrong


def compare_bf16(ours, ours_bf16, theirs, theirs_bf16):
    """Prints how far bfloat16 takes the losses and gradient norms of each from float32's, returns what is wrong."""
    wrong = []
    for name in ("loss", "grad_norm"):
        first, mean = [], []
        for full, half in ((ours, ours_bf16), (theirs, theirs_bf16)):
            apart = [relative(b[name], a[name]) for a, b in zip(full, half, strict=True)]
            first.append(apart[0])
            mean.append(sum(apart) / len(apart))
        print(f"{name}: bfloat16 from float32, relative: first step ours {first[0]:.1e}, TRL {first[1]:.1e}; "
              f"mean of {len(ours)} steps ours {mean[0]:.1e}, TRL {mean[1]:.1e}")
        if mean[0] > 1.5 * mean[1]:  # rounding errors are random, and 20 of them make a mean to about a fifth
            wrong.append(f"{name}: ours goes further")
    return wrong


def weights_apart(model, directory):
    """Largest distance of any trained weight. For information: the key's bias has a gradient of pure rounding noise,
    of which AdamW makes whole steps on both sides, so it is left out."""
    import torch
    import transformers

    ours = transformers.AutoModelForCausalLM.from_pretrained(directory, dtype=torch.float32)
    apart = 0.0
    for (name, a), b in zip(ours.named_parameters(), model.parameters()):
        d = (a - b).abs().detach()
        if name.endswith("c_attn.bias"):
            d = d.view(3, -1)[[0, 2]]
        apart = max(apart, d.max().item())
    return apart


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", default=os.environ.get("ALIGN_TEST_DATA"))
    parser.add_argument("--program", default=os.path.join(HERE, "..", "train_sft"))
    parser.add_argument("--case", choices=CASES, help="only this one")
    parser.add_argument("--trl-as-is", action="store_true", help="leave TRL's count of GPT-2's labels alone (see above)")
    parser.add_argument("--bf16", action="store_true", help="compare each one's bfloat16 with its own float32")
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
        model_dir = os.path.join(work, "model")
        model = make_gpt2.make(model_dir, "tiny", os.path.join(args.data, "gpt2_tokenizer"), rough=True, n_positions=256)
        print(f"model: tiny, {sum(p.numel() for p in model.parameters()):,} parameters, dropout 0")
        tokenizer = transformers.AutoTokenizer.from_pretrained(model_dir)
        for name, (kind, count, options) in CASES.items():
            if args.case and name != args.case:
                continue
            rows = make_rows(os.path.join(args.data, "data", "hh_harmless_pairs.jsonl"), tokenizer, kind, count, 256)
            print(f"\n{name}: {count} rows, {options}")
            with tempfile.TemporaryDirectory(dir=work) as here:
                theirs, trained = run_trl(model_dir, rows, options, here, args.trl_as_is)
                if args.only_trl:
                    for entry in theirs:
                        print(json.dumps(entry))
                    continue
                ours, final = run_ours(args.program, model_dir, rows, options, here)
                if args.bf16:
                    wrong = compare_bf16(ours, run_ours(args.program, model_dir, rows, options, here, bf16=True)[0],
                                         theirs, run_trl(model_dir, rows, options, here, bf16=True)[0])
                else:
                    wrong = compare(ours, theirs, options["gradient_accumulation_steps"])
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
