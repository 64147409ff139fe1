"""Time PPO at 124M: TRL's PPOTrainer against train_ppo, on the same weights, prompts and settings, in short runs in turn.

    pip install --no-deps --target OLD trl==1.12.0      (the last release with PPOTrainer)
    PYTHONPATH=OLD python dev/bench_trl_ppo.py [--train ./train_ppo] [--rounds 2] [--updates 2] [--only REGEX]

64 prompts of 32 tokens, 24 tokens generated for each at temperature 0.7, 4 PPO epochs of one minibatch, AdamW; random
GPT-2 small weights for policy, reference, reward model and critic, four models in both. No completion ends early: no
model has an end-of-text token. Ours runs with 8 rows in a pass (less memory) and with all 64, then each update's first
epoch goes on from the rollout's pass; and with a head on the policy as critic (Ziegler et al. 2019), another algorithm
with half the work, which TRL does not have. TRL runs in bf16 autocast with gradient checkpointing, which are its defaults,
and without (faster), in fp32 and in bf16. It works with large tensors that glibc gives back to the system after
each use, so it also runs with glibc told to keep them ("kept").

A contestant's run takes too much memory for two at a time to be sure of their room, so whole runs alternate: a round is
a run of each, a process of its own. Times are those of all updates but each run's first, over all rounds. Memory is the
process's peak. The exit code only says that all ran.
"""
import argparse
import json
import os
import random
import re
import statistics
import subprocess
import sys
import tempfile
import time

import bench_turns

os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["TRL_EXPERIMENTAL_SILENCE"] = "1"
HERE = os.path.dirname(os.path.abspath(__file__))
PROMPTS, LENGTH, RESPONSE, EPOCHS = 64, 32, 24, 4
CONTESTANTS = [  # whose, rows a pass, form; the others' times are given as multiples of the first two's
    ("train_ppo", 64, "fp32"), ("train_ppo", 64, "bf16"), ("train_ppo", 8, "fp32"), ("train_ppo", 8, "bf16"),
    ("train_ppo", 64, "fp32 shared critic"), ("train_ppo", 64, "bf16 shared critic"), ("TRL", 64, "bf16 checkpointing"),
    ("TRL", 64, "fp32"), ("TRL", 8, "fp32"), ("TRL", 64, "fp32 kept"), ("TRL", 8, "fp32 kept"), ("TRL", 64, "bf16 kept"),
    ("TRL", 8, "bf16 kept")]


def run_trl(work, rows, form, updates):
    """In this process: print the seconds of each update but the first, then the peak of memory."""
    import resource
    import tokenizers
    import torch
    import transformers
    from datasets import Dataset
    from trl.experimental import ppo

    torch.set_num_threads(os.cpu_count())
    language, score = transformers.AutoModelForCausalLM, transformers.AutoModelForSequenceClassification

    def load(kind, name):
        return kind.from_pretrained(os.path.join(work, name), dtype=torch.float32)

    policy, reward = load(language, "policy"), load(score, "reward")
    words = {"a": 0, "pad": policy.config.vocab_size, "eos": policy.config.vocab_size + 1}
    tokenizer = transformers.PreTrainedTokenizerFast(
        tokenizer_object=tokenizers.Tokenizer(tokenizers.models.WordLevel(words, unk_token="a")), pad_token="pad",
        eos_token="eos", padding_side="left")
    with open(os.path.join(work, "prompts.jsonl")) as f:
        data = Dataset.from_dict({"input_ids": [json.loads(line)["prompt_ids"] for line in f]})
    config = ppo.PPOConfig(output_dir=tempfile.mkdtemp(), bf16="bf16" in form,
                           gradient_checkpointing="checkpointing" in form, use_cpu=True,
                           per_device_train_batch_size=rows, gradient_accumulation_steps=PROMPTS // rows,
                           local_rollout_forward_batch_size=PROMPTS, num_mini_batches=1, num_ppo_epochs=EPOCHS,
                           total_episodes=PROMPTS * updates, response_length=RESPONSE, temperature=0.7,
                           learning_rate=1e-6, num_sample_generations=0, save_strategy="no", report_to="none",
                           disable_tqdm=True, dataloader_pin_memory=False, logging_steps=1000)
    times = []

    class Clock(transformers.TrainerCallback):
        def on_step_end(self, *_, **__):
            times.append(time.monotonic())

    trainer = ppo.PPOTrainer(args=config, processing_class=tokenizer, model=policy, ref_model=load(language, "policy"),
                             reward_model=reward, value_model=load(score, "reward"), train_dataset=data,
                             callbacks=[Clock()])
    trainer.train()
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1.024e-3
    print("RESULT " + " ".join(f"{b - a:.4f}" for a, b in zip(times, times[1:])) + f" {peak:.0f}")


def run_ours(train, work, rows, form, updates):
    """Seconds of each update but the first, from the times at which the lines of the updates come; the peak of memory."""
    command = ["stdbuf", "-oL", train, "--model", f"{work}/policy", "--reward_model", f"{work}/reward", "--dataset",
               f"{work}/prompts.jsonl", "--output_dir", f"{work}/ours", "--overwrite_output_dir", "true",
               "--total_episodes", str(PROMPTS * updates), "--batch_size", str(PROMPTS), "--num_ppo_epochs",
               str(EPOCHS), "--per_device_train_batch_size", str(rows), "--response_length", str(RESPONSE),
               "--temperature", "0.7", "--learning_rate", "1e-6", "--save_steps", "0", "--samples", "0",
               "--eval_prompts", "0", "--bf16", "true" if "bf16" in form else "false",
               "--shared_critic", "true" if "shared" in form else "false"]
    times, text = [], ""
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        for line in process.stdout:
            text += line
            if line.startswith("step") and "episodes/s" in line:
                times.append(time.monotonic())
    if process.returncode:
        sys.exit(f"{train}: exit code {process.returncode}")
    peak = float(text.split("peak memory ")[1].split()[0])
    return [b - a for a, b in zip(times, times[1:])], peak


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--train", default="./train_ppo")
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--updates", type=int, default=2, help="of each run; the first is not timed")
    parser.add_argument("--only", default="", help="contestants whose name matches this regular expression")
    parser.add_argument("--size", default="gpt2", help="as in make_gpt2.py")
    parser.add_argument("--vocab", type=int, default=50257)
    parser.add_argument("--trl", nargs=3, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.trl:
        return run_trl(args.trl[0], int(args.trl[1]), args.trl[2], args.updates)
    bench_turns.clean_environment()
    with tempfile.TemporaryDirectory() as work:
        import make_gpt2
        vocab = args.vocab
        make_gpt2.make(f"{work}/policy", size=args.size, vocab_size=vocab, bos_token_id=None, eos_token_id=None)
        make_gpt2.make(f"{work}/reward", size=args.size, vocab_size=vocab + 1, bos_token_id=None, eos_token_id=None,
                       pad_token_id=vocab, score_head=True, seed=2)
        draw = random.Random(1)
        with open(f"{work}/prompts.jsonl", "w") as f:
            for _ in range(PROMPTS):
                f.write(json.dumps({"prompt_ids": [draw.randrange(vocab) for _ in range(LENGTH)]}) + "\n")
        chosen = [(f"{whose} {form}, {rows} rows a pass", whose, rows, form) for whose, rows, form in CONTESTANTS]
        chosen = [c for c in chosen if re.search(args.only, c[0])]
        times, peaks, watch = {c[0]: [] for c in chosen}, {}, bench_turns.Watch()
        for turn in range(args.rounds):
            for name, whose, rows, form in chosen:
                if whose == "train_ppo":
                    seconds, peaks[name] = run_ours(args.train, work, rows, form, args.updates)
                else:
                    environment = {**os.environ, **(bench_turns.KEPT if "kept" in form else {})}
                    result = subprocess.run([sys.executable, os.path.abspath(__file__), "--updates", str(args.updates),
                                             "--trl", work, str(rows), form], stdout=subprocess.PIPE,
                                            stderr=subprocess.PIPE, text=True, env=environment)
                    if "RESULT" not in result.stdout:
                        sys.exit(result.stderr[-3000:])
                    *seconds, peaks[name] = map(float, result.stdout.split("RESULT")[1].split())
                times[name] += seconds
                print(f"round {turn + 1}, {name}: " + " ".join(f"{s:.2f}" for s in seconds), file=sys.stderr, flush=True)
        print("| contestant | episodes/s, best | median | peak memory |" +
              "".join(f" time / {c[0]}: best, median |" for c in chosen[:2]))
        print("|---|---:|---:|---:|" + "---:|" * len(chosen[:2]))
        best, median = ({name: f(times[name]) for name in times} for f in (min, statistics.median))
        for name in times:
            print(f"| {name} | {PROMPTS / best[name]:.3f} | {PROMPTS / median[name]:.3f} | {peaks[name] * 1e-3:.1f} GB |" +
                  "".join(f" {best[name] / best[c[0]]:.2f}, {median[name] / median[c[0]]:.2f} |" for c in chosen[:2]))
        print("\n".join(watch.warnings()))


if __name__ == "__main__":
    main()
