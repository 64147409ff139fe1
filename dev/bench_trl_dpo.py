"""Time a DPO step at 124M: TRL's DPOTrainer against train_dpo, on the same weights, pairs and settings, step by step in
turn; then what each of our savings brings.

    make train_dpo build/plain/split_prompts build/plain/bench_dpo
    python dev/bench_trl_dpo.py --data SHARED [--train ./train_dpo] [--batches 4] [--epochs 4] [--only REGEX]

--batches times 4 HH-RLHF pairs (explicit prompts by our cut) again and again, max_length 512, random GPT-2 small weights,
dropout 0, AdamW, reference log-probs computed before training in both and not counted. TRL runs in fp32 and in bf16
autocast (its default), with gradient checkpointing off (faster) and, for its memory, on (its default); without it also
with glibc told to keep freed blocks ("kept"). Ours runs with shared prompts, in float32 and with --bf16; and in float32
with the prompt in each row.

All contestants make the same steps in turn, each in a process of its own that is stopped between its turns. Where the
memory does not hold all of them, TRL's meet ours group by group, and ratios are of one group. The first step is not
timed. Work differs from batch to batch, so pairs/s is that of all batches, each at its best (or median) over the epochs.
Memory is the process's peak, reference pass included. The table after it is bench_dpo's: the same pairs, a step without any
saving, then one saving more in each line. The exit code only says that all ran.
"""
import argparse
import json
import os
import re
import subprocess
import sys
import tempfile

import bench_turns

HERE = os.path.dirname(os.path.abspath(__file__))
BATCH, LONGEST = 4, 512
# name, whose, form, room in GB; the first two run in every group
CONTESTANTS = [("train_dpo float32", "ours", "", 3), ("train_dpo --bf16", "ours", "bf16", 3.5),
               ("train_dpo float32, prompt in each row", "ours", "each", 3.2), ("TRL fp32", "trl", "fp32", 10.5),
               ("TRL bf16", "trl", "bf16", 10), ("TRL bf16, gradient checkpointing", "trl", "bf16 checkpointing", 8),
               ("TRL fp32, kept", "trl", "fp32 kept", 12), ("TRL bf16, kept", "trl", "bf16 kept", 12),
               ("TRL bf16, gradient checkpointing, kept", "trl", "bf16 checkpointing kept", 9)]


def run_trl(model_dir, rows, steps, longest, form):
    """In this process: a line for each step, then the peak of memory."""
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
    config = trl.DPOConfig(output_dir=tempfile.mkdtemp(), bf16="bf16" in form, gradient_checkpointing="checkpointing" in form,
                           use_cpu=True, precompute_ref_log_probs=True, per_device_train_batch_size=BATCH,
                           max_length=longest, max_steps=steps, learning_rate=1e-6, save_strategy="no", report_to="none",
                           disable_tqdm=True, train_sampling_strategy="sequential", dataloader_pin_memory=False,
                           logging_steps=1000000)
    model = transformers.AutoModelForCausalLM.from_pretrained(model_dir, dtype=torch.float32)

    class Clock(transformers.TrainerCallback):
        def on_step_end(self, *_, **__):
            print("STEP", flush=True)

    trainer = trl.DPOTrainer(model=model, args=config, train_dataset=data, processing_class=tokenizer, callbacks=[Clock()])
    trainer.train()
    print(f"peak memory {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1.024e-3:.0f} MB")


def begin(args, work, model_dir, rows, whose, form):
    """The contestant's Stepper."""
    steps = args.batches * args.epochs + 1
    if whose == "trl":
        command = [sys.executable, __file__, "--trl", model_dir, rows, str(steps), str(args.longest), form]
        return bench_turns.Stepper(command, lambda line: line == "STEP\n", bench_turns.KEPT if "kept" in form else {})
    out = os.path.join(work, "ours-" + form)
    command = ["stdbuf", "-oL", args.train, "--model", model_dir, "--dataset", rows, "--output_dir", out,
               "--overwrite_output_dir", "true", "--max_steps", str(steps), "--learning_rate", "1e-6", "--max_length",
               str(args.longest), "--per_device_train_batch_size", str(BATCH), "--save_steps", "0", "--samples", "0",
               "--logging_steps", "1", "--train_sampling_strategy", "sequential", "--eval_prompts", "0", "--share_prompt",
               "false" if form == "each" else "true", "--bf16", "true" if form == "bf16" else "false"]
    return bench_turns.Stepper(command, lambda line: " pairs/s" in line)


def run_group(args, work, model_dir, rows, group):
    """Print the group's table. Returns {name: seconds for all batches, best and median}."""
    watch, steppers, times = bench_turns.Watch(), [], [[] for _ in group]
    try:
        for name, whose, form, _ in group:
            print(f"{name}: setting up", file=sys.stderr, flush=True)
            steppers.append(begin(args, work, model_dir, rows, whose, form))
        for step in range(args.batches * args.epochs):
            for stepper, mine in zip(steppers, times):
                mine.append(stepper.step())
            print(f"step {step + 1}: " + " ".join(f"{mine[-1]:.2f}" for mine in times), file=sys.stderr, flush=True)
        texts = [stepper.finish() for stepper in steppers]
    finally:
        for stepper in steppers:
            stepper.kill()
    seconds = [bench_turns.best_and_median(mine, args.batches) for mine in times]
    pairs = BATCH * args.batches
    print("| contestant | pairs/s, best | median | peak memory |" +
          "".join(f" time / {name}: best, median |" for name, *_ in group[:2]))
    print("|---|---:|---:|---:|---:|---:|")
    for (name, *_), (best, median), text in zip(group, seconds, texts):
        peak = float(text.split("peak memory ")[-1].split()[0])
        print(f"| {name} | {pairs / best:.3f} | {pairs / median:.3f} | {peak * 1e-3:.1f} GB |" +
              "".join(f" {best / b:.2f}, {median / m:.2f} |" for b, m in seconds[:2]))
    print("\n".join(watch.warnings() + [""]), flush=True)
    return {name: times for (name, *_), times in zip(group, seconds)}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", default=os.environ.get("ALIGN_TEST_DATA"))
    parser.add_argument("--split", default="build/plain/split_prompts")
    parser.add_argument("--train", default="./train_dpo")
    parser.add_argument("--savings", default="build/plain/bench_dpo")
    parser.add_argument("--batches", type=int, default=4)
    parser.add_argument("--epochs", type=int, default=4)
    parser.add_argument("--only", default="", help="of the contestants after the first two, those that match this")
    parser.add_argument("--size", default="gpt2", help="as in make_gpt2.py")
    parser.add_argument("--no-savings", action="store_true", help="without bench_dpo's table")
    parser.add_argument("--trl", nargs=5, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.trl:
        return run_trl(args.trl[0], args.trl[1], int(args.trl[2]), int(args.trl[3]), args.trl[4])
    bench_turns.clean_environment()
    with tempfile.TemporaryDirectory() as work:
        model_dir, rows = os.path.join(work, "gpt2"), os.path.join(work, "pairs.jsonl")
        subprocess.run([sys.executable, os.path.join(HERE, "make_gpt2.py"), model_dir, "--size", args.size, "--vocab-dir",
                        os.path.join(args.data, "gpt2_tokenizer")], check=True, stdout=subprocess.DEVNULL)
        config = os.path.join(model_dir, "config.json")
        with open(config) as f:
            settings = json.load(f)
        args.longest = min(LONGEST, settings["n_positions"])
        settings.update(attn_pdrop=0.0, embd_pdrop=0.0, resid_pdrop=0.0)
        with open(config, "w") as f:
            json.dump(settings, f)
        split = subprocess.run([args.split, os.path.join(args.data, "data/hh_harmless_pairs.jsonl")], check=True,
                               stdout=subprocess.PIPE, text=True).stdout
        with open(rows, "w") as f:
            f.write("\n".join(split.splitlines()[:BATCH * args.batches]) + "\n")
        ours, rest = CONTESTANTS[:2], [c for c in CONTESTANTS[2:] if re.search(args.only, c[0])]
        ratios = {}  # of TRL's contestants: their time in ours, best and median
        while rest or not ratios:
            group, free = list(ours), bench_turns.free_gb() - sum(c[3] for c in ours) - 1
            while rest and (rest[0][3] <= free or len(group) == len(ours)):
                free -= rest[0][3]
                group.append(rest.pop(0))
            seconds = run_group(args, work, model_dir, rows, group)
            for name in seconds:
                if name.startswith("TRL"):
                    ratios[name] = [[t / o for t, o in zip(seconds[name], seconds[our[0]])] for our in ours]
            if not rest:
                break
        for k, what in enumerate(("best", "median")):
            if not ratios:
                break
            float32, name = min((ratio[0][k], name) for name, ratio in ratios.items())
            better, other = min((max(ratio[0][k], ratio[1][k]), name) for name, ratio in ratios.items())
            print(f"TRL's nearest by the {what}: {name}; float32 is {float32:.2f} times as fast, the better of ours "
                  f"{better:.2f} times ({other})")
        if args.no_savings:
            return
        print("\nwhat each saving brings:", flush=True)
        subprocess.run([args.savings, "--tokenizer", os.path.join(args.data, "gpt2_tokenizer"), "--dataset", rows,
                        "--max_length", str(args.longest), "--batch_size", str(BATCH), "--pairs", str(BATCH * args.batches)],
                       check=True)


if __name__ == "__main__":
    main()
