"""Compare what evaluate measures with what PyTorch says of the same samples and answers.

    python dev/compare_evaluate.py --model out/dpo/final [--ref_model data/sft] [--dataset data/prefs_eval.jsonl]

Needs torch and transformers, and a policy that is not its reference (./train_dpo makes one). The exit code is the
verdict on
1. the samples, as token ids: KL by the sum over the vocabulary, KL from log-ratios, length, 4-grams said before;
2. the answers of the data: nats a token, accuracy of the implicit reward;
3. the standard errors of all of these, from residuals by prompt.
transformers works in float32, sums are made in float64: at most 1e-5 relative apart.
"""
import argparse
import collections
import json
import os
import shutil
import subprocess
import sys
import tempfile

os.environ["HF_HUB_OFFLINE"] = "1"
import torch
import transformers

HERE = os.path.dirname(os.path.abspath(__file__))
BOUND = 1e-5


def evaluate(program, work, *flags):
    """The entry of the policy in the results, and the samples' rows."""
    results, samples = os.path.join(work, "results.json"), os.path.join(work, "samples.jsonl")
    subprocess.run([program, *flags, "--output", results, "--samples_file", samples, "--overwrite_output"], check=True,
                   stdout=subprocess.DEVNULL)
    with open(results) as f, open(samples) as g:
        return json.load(f)["models"][0], [json.loads(line) for line in g]


def logprobs(model, prompt, completion):
    """(T, V) log-probabilities of what follows each state of the completion."""
    with torch.no_grad():
        logits = model(torch.tensor([prompt + completion]), use_cache=False).logits[0, len(prompt) - 1:-1]
    return torch.log_softmax(logits.double(), -1)


def logprob(model, prompt, completion):
    return logprobs(model, prompt, completion)[range(len(completion)), completion].sum().item()


def clustered(values):
    """Mean and standard error of a ratio of sums over prompts. values: prompt, sum, weight."""
    sums, weights = collections.Counter(), collections.Counter()
    for prompt, value, weight in values:
        sums[prompt] += value
        weights[prompt] += weight
    mean, n = sum(sums.values()) / sum(weights.values()), len(weights)
    squares = sum((sums[p] - mean * weights[p]) ** 2 for p in weights)
    return mean, (squares * n / (n - 1)) ** 0.5 / sum(weights.values())


def compare(failed, name, ours, values):
    for what, x, y in zip(("mean", "error"), (ours["mean"], ours["error"]), clustered(values)):
        ok = abs(x - y) <= BOUND * abs(y) + 1e-9
        print(f"{'ok      ' if ok else 'FAILED  '}{name:11} {what:5}  evaluate {x:.8f}  PyTorch {y:.8f}")
        if not ok:
            failed.append(name)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--model", required=True)
    parser.add_argument("--ref_model", default="data/sft")
    parser.add_argument("--dataset", default="data/prefs_eval.jsonl")
    parser.add_argument("--prompts", type=int, default=100)
    parser.add_argument("--program", default=os.path.join(HERE, "..", "evaluate"))
    args = parser.parse_args()
    torch.set_num_threads(2)
    tokenizer = transformers.AutoTokenizer.from_pretrained(args.model)
    policy = transformers.AutoModelForCausalLM.from_pretrained(args.model, dtype=torch.float32).eval()
    ref = transformers.AutoModelForCausalLM.from_pretrained(args.ref_model, dtype=torch.float32).eval()
    with open(args.dataset) as f:
        rows = [json.loads(line) for line in f]
    failed = []
    with tempfile.TemporaryDirectory() as work:
        # ids instead of text, so that PyTorch sees the tokens that were sampled
        dirs = []
        for name, path in (("policy", args.model), ("ref", args.ref_model)):
            dirs.append(os.path.join(work, name))
            os.mkdir(dirs[-1])
            for file in ("config.json", "model.safetensors"):
                shutil.copy(os.path.join(path, file), dirs[-1])
        prompts = list(dict.fromkeys(row["prompt"] for row in rows))[:args.prompts]
        ids = os.path.join(work, "ids.jsonl")
        with open(ids, "w") as f:
            f.writelines(json.dumps({"prompt_ids": tokenizer(p).input_ids}) + "\n" for p in prompts)
        ours, samples = evaluate(args.program, work, "--models", dirs[0], "--ref_model", dirs[1], "--dataset", ids,
                                 "--max_new_tokens", "40", "--num_return_sequences", "2")
        found = collections.defaultdict(list)
        for s in samples:
            key, prompt, completion = s["prompt_number"], s["prompt_ids"], s["completion_ids"]
            p, q = logprobs(policy, prompt, completion), logprobs(ref, prompt, completion)
            found["kl"].append((key, (p.exp() * (p - q)).sum().item(), 1))
            found["kl_sampled"].append((key, (p - q)[range(len(completion)), completion].sum().item(), 1))
            words = completion[:-1] if completion[-1] == tokenizer.eos_token_id else completion
            grams = [tuple(words[i:i + 4]) for i in range(len(words) - 3)]
            found["length"].append((key, len(words), 1))
            found["repeated"].append((key, 1 - len(set(grams)) / len(grams) if grams else 0, 1))
        for name, values in found.items():
            compare(failed, name, ours[name], values)

        ours, _ = evaluate(args.program, work, "--models", args.model, "--ref_model", args.ref_model, "--dataset",
                           args.dataset, "--eval_prompts", "1")
        found = collections.defaultdict(list)
        for row in rows:
            prompt = tokenizer(row["prompt"]).input_ids
            chosen, rejected = ([*tokenizer(row[side]).input_ids, tokenizer.eos_token_id] for side in ("chosen", "rejected"))
            if chosen == rejected:
                continue
            a, b = logprob(policy, prompt, chosen), logprob(policy, prompt, rejected)
            gain = a - logprob(ref, prompt, chosen) - (b - logprob(ref, prompt, rejected))
            found["nll"].append((row["prompt"], -a, len(chosen)))
            found["accuracy"].append((row["prompt"], 1 if gain > 0 else 0.5 if gain == 0 else 0, 1))
        for name, values in found.items():
            compare(failed, name, ours[name], values)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
