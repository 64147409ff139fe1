"""Time a DPO step at 124M: TRL's DPOTrainer against train_dpo, on the same weights, pairs and settings; then what each
of our savings brings.

    make train_dpo build/plain/split_prompts build/plain/bench_dpo
    python dev/bench_trl_dpo.py --data SHARED [--split build/plain/split_prompts] [--train ./train_dpo]
                                [--savings build/plain/bench_dpo] [--steps 16]

64 HH-RLHF pairs (explicit prompts by our cut), max_length 512, batch 4, random GPT-2 small weights, dropout 0, AdamW,
reference log-probs computed before training in both and not counted. TRL runs in fp32 and in bf16 autocast (its
default), with gradient checkpointing off (faster) and, for its memory, on (its default). Ours runs with shared prompts
and without. Each contestant is a process of its own; pairs/s is that of the steps after the first; memory is the
process's peak, reference pass included. The second table is bench_dpo's: the same pairs, a step without any saving,
then one saving more in each line. The exit code only says that all ran.
"""
import argparse
import json
import os
import subprocess
import sys
import tempfile
import time

HERE = os.path.dirname(os.path.abspath(__file__))
BATCH, LONGEST, PAIRS = 4, 512, 64


def run_trl(model_dir, rows, steps, bf16, checkpointing):
    """In this process: print pairs per second and the peak of memory."""
    os.environ["HF_HUB_OFFLINE"] = "1"
    import resource
    import datasets
    import torch
    import transformers
    import trl

    torch.set_num_threads(os.cpu_count())
    tokenizer = transformers.AutoTokenizer.from_pretrained(model_dir)
    tokenizer.pad_token = tokenizer.eos_token
    with open(rows) as f:
        data = datasets.Dataset.from_list([json.loads(line) for line in f])
    config = trl.DPOConfig(output_dir=tempfile.mkdtemp(), bf16=bf16, gradient_checkpointing=checkpointing, use_cpu=True,
                           precompute_ref_log_probs=True, per_device_train_batch_size=BATCH, max_length=LONGEST,
                           max_steps=steps, learning_rate=1e-6, save_strategy="no", report_to="none", disable_tqdm=True,
                           train_sampling_strategy="sequential", dataloader_pin_memory=False, logging_steps=1000)
    model = transformers.AutoModelForCausalLM.from_pretrained(model_dir, dtype=torch.float32)
    times = []

    class Clock(transformers.TrainerCallback):
        def on_step_end(self, *_, **__):
            times.append(time.monotonic())

    trainer = trl.DPOTrainer(model=model, args=config, train_dataset=data, processing_class=tokenizer, callbacks=[Clock()])
    trainer.train()
    rate = BATCH * (len(times) - 1) / (times[-1] - times[0])
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1.024e-3
    print(f"RESULT {rate:.4f} {peak:.0f}")


def run_ours(train, model_dir, rows, steps, work, share):
    """pairs/s from the log lines of step 1 and of the last step: total times are (pairs so far) / (pairs/s so far)."""
    command = [train, "--model", model_dir, "--dataset", rows, "--output_dir", os.path.join(work, "ours"),
               "--overwrite_output_dir", "true", "--max_steps", str(steps), "--learning_rate", "1e-6", "--max_length",
               str(LONGEST), "--per_device_train_batch_size", str(BATCH), "--save_steps", "0", "--samples", "0",
               "--logging_steps", "1", "--shuffle_dataset", "false", "--share_prompt", share, "--eval_prompts", "0"]
    text = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True).stdout
    rates = [float(line.split(" pairs/s")[0].split()[-1]) for line in text.splitlines() if " pairs/s" in line]
    first, last = BATCH / rates[0], BATCH * len(rates) / rates[-1]
    peak = float(text.split("peak memory ")[1].split()[0])
    return BATCH * (len(rates) - 1) / (last - first), peak


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", default=os.environ.get("ALIGN_TEST_DATA"))
    parser.add_argument("--split", default="build/plain/split_prompts")
    parser.add_argument("--train", default="./train_dpo")
    parser.add_argument("--savings", default="build/plain/bench_dpo")
    parser.add_argument("--steps", type=int, default=PAIRS // BATCH)
    parser.add_argument("--trl", nargs=4, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.trl:
        return run_trl(args.trl[0], args.trl[1], args.steps, args.trl[2] == "bf16", args.trl[3] == "checkpointing")
    environment = {k: v for k, v in os.environ.items() if k not in ("OPENBLAS_CORETYPE", "OPENBLAS_L2_SIZE")}
    os.environ.clear()
    os.environ.update(environment)
    with tempfile.TemporaryDirectory() as work:
        model_dir, rows = os.path.join(work, "gpt2"), os.path.join(work, "pairs.jsonl")
        subprocess.run([sys.executable, os.path.join(HERE, "make_gpt2.py"), model_dir, "--size", "gpt2", "--vocab-dir",
                        os.path.join(args.data, "gpt2_tokenizer")], check=True, stdout=subprocess.DEVNULL)
        config = os.path.join(model_dir, "config.json")
        with open(config) as f:
            settings = json.load(f)
        settings.update(attn_pdrop=0.0, embd_pdrop=0.0, resid_pdrop=0.0)
        with open(config, "w") as f:
            json.dump(settings, f)
        split = subprocess.run([args.split, os.path.join(args.data, "data/hh_harmless_pairs.jsonl")], check=True,
                               stdout=subprocess.PIPE, text=True).stdout
        with open(rows, "w") as f:
            f.write("\n".join(split.splitlines()[:PAIRS]) + "\n")
        print(f"{'contestant':44} pairs/s  peak MB", flush=True)
        for share in ("true", "false"):
            rate, peak = run_ours(args.train, model_dir, rows, args.steps, work, share)
            print(f"{'train_dpo fp32, ' + ('shared prompts' if share == 'true' else 'prompt in each row'):44} "
                  f"{rate:7.3f}  {peak:7.0f}", flush=True)
        for dtype, checkpointing in (("fp32", "none"), ("bf16", "none"), ("bf16", "checkpointing")):
            text = subprocess.run([sys.executable, __file__, "--steps", str(args.steps), "--trl", model_dir, rows, dtype,
                                   checkpointing], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
            if "RESULT" not in text.stdout:
                sys.exit(text.stderr[-3000:])
            rate, peak = text.stdout.split("RESULT")[1].split()
            name = f"TRL DPOTrainer {dtype}" + (", gradient checkpointing" if checkpointing != "none" else "")
            print(f"{name:44} {float(rate):7.3f}  {float(peak):7.0f}", flush=True)
        print("\nwhat each saving brings:", flush=True)
        subprocess.run([args.savings, "--tokenizer", os.path.join(args.data, "gpt2_tokenizer"), "--dataset", rows,
                        "--max_length", str(LONGEST), "--batch_size", str(BATCH), "--pairs", str(BATCH * args.steps)],
                       check=True)


if __name__ == "__main__":
    main()
