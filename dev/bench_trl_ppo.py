"""Time PPO at 124M: TRL's PPOTrainer against train_ppo, on the same weights, prompts and settings.

    pip install --no-deps --target OLD trl==1.12.0      (the last release with PPOTrainer)
    PYTHONPATH=OLD python dev/bench_trl_ppo.py [--train ./train_ppo] [--updates 2] [--only REGEX]

64 prompts of 32 tokens, 24 tokens generated for each at temperature 0.7, 4 PPO epochs of one minibatch, AdamW; random
GPT-2 small weights for policy, reference, reward model and critic, four models in both. No completion ends early: no
model has an end-of-text token. Ours runs with 8 rows in a pass (less memory) and with all 64, then each update's first
epoch goes on from the rollout's pass; and with a head on the policy as critic (Ziegler et al. 2019), another algorithm
with half the work, which TRL does not have. TRL runs in bf16 autocast with gradient checkpointing, which are its defaults,
and without (faster), in fp32 and in bf16. It works with large tensors that glibc gives back to the system after
each use, so it also runs with MALLOC_MMAP_THRESHOLD_ and MALLOC_TRIM_THRESHOLD_ set high ("malloc keeps").
Each contestant is a process of its own. On a CPU without AVX512-BF16, bfloat16 is slow in both. episodes/s is that of
the updates after the first; memory is the process's peak. The exit code only says that all ran.
"""
import argparse
import json
import os
import random
import re
import subprocess
import sys
import tempfile
import time

os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["TRL_EXPERIMENTAL_SILENCE"] = "1"
HERE = os.path.dirname(os.path.abspath(__file__))
PROMPTS, LENGTH, RESPONSE, EPOCHS = 64, 32, 24, 4
KEEP = {"MALLOC_MMAP_THRESHOLD_": "4294967296", "MALLOC_TRIM_THRESHOLD_": "68719476736"}
CONTESTANTS = [  # whose, rows a pass, form, environment
    ("train_ppo", 8, "bf16", {}), ("train_ppo", 64, "bf16", {}), ("train_ppo", 8, "fp32", {}),
    ("train_ppo", 64, "fp32", {}), ("train_ppo", 64, "fp32 shared critic", {}),
    ("train_ppo", 64, "bf16 shared critic", {}), ("TRL", 64, "bf16 checkpointing", {}),
    ("TRL", 64, "fp32", {}), ("TRL", 8, "fp32", {}), ("TRL", 64, "fp32", KEEP), ("TRL", 8, "fp32", KEEP),
    ("TRL", 64, "bf16", KEEP)]


def run_trl(work, rows, form, updates):
    """In this process: print episodes per second and the peak of memory."""
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
    rate = PROMPTS * (len(times) - 1) / (times[-1] - times[0])
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1.024e-3
    print(f"RESULT {rate:.4f} {peak:.0f}")


def run_ours(train, work, rows, form, updates):
    """episodes/s from the times at which the lines of the updates come."""
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
    return PROMPTS * (len(times) - 1) / (times[-1] - times[0]), peak


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--train", default="./train_ppo")
    parser.add_argument("--updates", type=int, default=2)
    parser.add_argument("--only", default="", help="contestants whose name matches this regular expression")
    parser.add_argument("--size", default="gpt2", help="as in make_gpt2.py")
    parser.add_argument("--vocab", type=int, default=50257)
    parser.add_argument("--trl", nargs=3, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.trl:
        return run_trl(args.trl[0], int(args.trl[1]), args.trl[2], args.updates)
    for name in ("OPENBLAS_CORETYPE", "OPENBLAS_L2_SIZE"):
        os.environ.pop(name, None)
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
        print(f"{'contestant':44} episodes/s  peak MB", flush=True)
        for whose, rows, form, environment in CONTESTANTS:
            name = f"{whose} {form}, {rows} rows a pass" + (", malloc keeps" if environment else "")
            if not re.search(args.only, name):
                continue
            if whose == "train_ppo":
                rate, peak = run_ours(args.train, work, rows, form, args.updates)
            else:
                result = subprocess.run([sys.executable, os.path.abspath(__file__), "--updates", str(args.updates),
                                         "--trl", work, str(rows), form], stdout=subprocess.PIPE,
                                        stderr=subprocess.PIPE, text=True, env={**os.environ, **environment})
                if "RESULT" not in result.stdout:
                    sys.exit(result.stderr[-3000:])
                rate, peak = map(float, result.stdout.split("RESULT")[1].split())
            print(f"{name:44} {rate:10.3f}  {peak:7.0f}", flush=True)


if __name__ == "__main__":
    main()
