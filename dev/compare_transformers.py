"""Compare align.c with transformers on GPT-2 directories with random weights.

    python dev/compare_transformers.py --data SHARED [--size gpt2] [--rows 64] [--double]

SHARED (or $ALIGN_TEST_DATA) holds data/hh_harmless_pairs.jsonl and gpt2_tokenizer/. The exit code is the verdict on:
1. log-probs: those of dev_logprobs (dev/logprobs.c) on HH-RLHF texts against transformers' in float32: at most 1e-4 apart
   at any token, and 1e-6 relative in the float64 sum over all texts.
2. odd forms: small directories in float16, in bfloat16, sharded, with bare names, with the old mask buffers.
3. what train_sft saves: after a step with learning rate 0 every weight is the same, bit for bit, when loaded by
   AutoModelForCausalLM; AutoTokenizer gives the same ids, with and without tokenizer.json. After real steps, transformers
   gives the log-probs of the saved model that dev_logprobs gives.

By default the weights are rough (make_gpt2.py --rough), so that predictions are as far from uniform as a trained
model's; --plain takes GPT-2's own initialisation. --double also runs transformers in float64 and prints how far
each float32 program is from that.
"""
import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile

os.environ["HF_HUB_OFFLINE"] = "1"
import torch
import transformers

import make_gpt2

HERE = os.path.dirname(os.path.abspath(__file__))
TOKEN_BOUND, SUM_BOUND = 1e-4, 1e-6

NASTY = ["", " ", "\n\n\n", "a\u00a0b", "don't DON'T we'll", "naïve café 日本語 🙂👍🏽", "x = 3.14159;\t\t// ok  \r\n",
         "<|endoftext|>", "one<|endoftext|>two", "\u200b\ufeff\u0301", "trailing   ", "  leading", "0123456789" * 9]


def check(failed, ok, what):
    print(("ok      " if ok else "FAILED  ") + what)
    if not ok:
        failed.append(what)


def read_texts(path, tokenizer, count, longest):
    """The first `count` chosen texts of 2 to `longest` tokens."""
    texts = []
    with open(path) as f:
        for line in f:
            text = json.loads(line)["chosen"]
            if 2 <= len(tokenizer(text).input_ids) <= longest:
                texts.append(text)
            if len(texts) == count:
                return texts
    sys.exit(f"{path}: only {len(texts)} texts of at most {longest} tokens")


def logprobs_theirs(model, tokenizer, texts):
    """Log-probs of all tokens from the second on, each text alone; a list of float64 tensors."""
    out = []
    with torch.no_grad():
        for text in texts:
            ids = torch.tensor([tokenizer(text).input_ids])
            logits = model(ids, use_cache=False).logits[0, :-1]
            # float32's log-softmax as transformers users have it, then exact sums
            out.append(torch.log_softmax(logits, -1).gather(-1, ids[0, 1:, None])[:, 0].double())
    return out


def run(command):
    result = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    if result.returncode:
        sys.exit(f"{' '.join(command)}\n{result.stderr}exit code {result.returncode}")
    return result.stdout


def logprobs_ours(program, directory, texts, work):
    path = os.path.join(work, "texts.jsonl")
    with open(path, "w") as f:
        f.writelines(json.dumps({"text": text}) + "\n" for text in texts)
    lines = run([program, directory, path]).splitlines()
    return [torch.tensor(json.loads(line)["logps"], dtype=torch.float64) for line in lines]


def compare(failed, what, ours, theirs):
    """Same numbers of tokens, largest difference at a token, relative difference of the sums."""
    if [len(a) for a in ours] != [len(b) for b in theirs]:
        check(failed, False, f"{what}: rows or token counts differ")
        return
    a, b = torch.cat(ours), torch.cat(theirs)
    apart = (a - b).abs().max().item()
    sums = abs(a.sum().item() - b.sum().item()) / abs(b.sum().item())
    check(failed, apart <= TOKEN_BOUND and sums <= SUM_BOUND,
          f"{what}: {len(a)} tokens, mean log-prob {b.mean().item():.6f}, spread {b.std().item():.3f}, "
          f"at most {apart:.2e} apart, sums {sums:.2e} relative")


def load(directory, dtype=torch.float32):
    return transformers.AutoModelForCausalLM.from_pretrained(directory, dtype=dtype).eval()


def check_logprobs(failed, args, directory, texts, work):
    tokenizer = transformers.AutoTokenizer.from_pretrained(directory)
    ours = logprobs_ours(args.logprobs, directory, texts, work)
    theirs = logprobs_theirs(load(directory), tokenizer, texts)
    compare(failed, f"log-probs, {args.size}, {len(texts)} texts", ours, theirs)
    if args.double:
        exact = torch.cat(logprobs_theirs(load(directory, torch.float64), tokenizer, texts))
        for who, logps in (("ours", ours), ("theirs", theirs)):
            a = torch.cat(logps)
            print(f"        {who} against float64: at most {(a - exact).abs().max().item():.2e} apart, sums "
                  f"{abs(a.sum().item() - exact.sum().item()) / abs(exact.sum().item()):.2e} relative")


def check_odd_forms(failed, args, vocab_dir, texts, work):
    forms = {
        "float16": dict(dtype="float16"),
        "bfloat16, bare names": dict(dtype="bfloat16", bare_names=True),
        "sharded": dict(max_shard_size="4MB"),
        "sharded, bare names, mask buffers, bfloat16": dict(max_shard_size="3MB", bare_names=True,
                                                            with_mask_buffers=True, dtype="bfloat16"),
        "mask buffers": dict(with_mask_buffers=True),
        "n_inner not 4 n_embd, other epsilon, head size 7": dict(n_embd=42, n_head=6, n_inner=100,
                                                                 layer_norm_epsilon=1e-3),
    }
    for name, form in forms.items():
        directory = os.path.join(work, "odd")
        shutil.rmtree(directory, ignore_errors=True)
        make_gpt2.make(directory, "tiny", vocab_dir, rough=True, **form)
        tokenizer = transformers.AutoTokenizer.from_pretrained(directory)
        compare(failed, name, logprobs_ours(args.logprobs, directory, texts, work),
                logprobs_theirs(load(directory), tokenizer, texts))


def train(args, directory, texts, work, learning_rate, steps):
    """A short train_sft run; returns the folder that it saved."""
    dataset, out = os.path.join(work, "train.jsonl"), os.path.join(work, "out")
    with open(dataset, "w") as f:
        f.writelines(json.dumps({"text": text}) + "\n" for text in texts)
    run([args.train, "--model", directory, "--dataset", dataset, "--output_dir", out, "--overwrite_output_dir", "true",
         "--max_steps", str(steps), "--per_device_train_batch_size", "2", "--learning_rate", str(learning_rate),
         "--max_length", "128"])
    return os.path.join(out, "final")


def check_saved(failed, args, directory, texts, work):
    before = load(directory)
    saved = train(args, directory, texts, work, 0, 1)
    after = load(saved)
    other = [name for (name, a), b in zip(before.named_parameters(), after.parameters()) if not torch.equal(a, b)]
    check(failed, not other, f"saved at learning rate 0: {len(list(after.parameters()))} tensors equal bit for bit")
    for name in other:
        print("        differs: " + name)
    ours, theirs = after.config.to_dict(), before.config.to_dict()
    keys = [k for k in theirs if ours.get(k) != theirs[k] and k not in ("transformers_version", "_name_or_path")]
    check(failed, not keys, "saved: the same config " + ", ".join(f"{k}: {theirs[k]} -> {ours.get(k)}" for k in keys))
    check(failed, after.generation_config.eos_token_id == before.config.eos_token_id, "saved: generation_config's end")

    tokenizer = transformers.AutoTokenizer.from_pretrained(directory)
    bare = os.path.join(work, "bare")
    shutil.copytree(saved, bare)
    os.remove(os.path.join(bare, "tokenizer.json"))
    for what, folder in (("with", saved), ("without", bare)):
        again = transformers.AutoTokenizer.from_pretrained(folder)
        same = all(again(t).input_ids == tokenizer(t).input_ids and again.decode(again(t).input_ids) ==
                   tokenizer.decode(tokenizer(t).input_ids) for t in texts + NASTY)
        check(failed, same, f"saved: AutoTokenizer {what} tokenizer.json gives the same ids on {len(texts + NASTY)} texts")
        check(failed, (again.eos_token, again.eos_token_id) == (tokenizer.eos_token, tokenizer.eos_token_id),
              f"saved: AutoTokenizer {what} tokenizer.json knows the end of text ({again.eos_token})")

    saved = train(args, directory, texts, work, 1e-4, 3)
    after = load(saved)
    moved = max((a - b).abs().max().item() for a, b in zip(before.parameters(), after.parameters()))
    check(failed, moved > 1e-5, f"three steps moved the weights, by {moved:.1e} at most")
    some = texts[:8]
    compare(failed, "log-probs of the trained model", logprobs_ours(args.logprobs, saved, some, work),
            logprobs_theirs(after, tokenizer, some))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", default=os.environ.get("ALIGN_TEST_DATA"))
    parser.add_argument("--logprobs", default=os.path.join(HERE, "..", "dev_logprobs"))
    parser.add_argument("--train", default=os.path.join(HERE, "..", "train_sft"))
    parser.add_argument("--size", choices=make_gpt2.SIZES, default="gpt2")
    parser.add_argument("--rows", type=int, default=64)
    parser.add_argument("--plain", action="store_true")
    parser.add_argument("--double", action="store_true")
    parser.add_argument("--threads", type=int, default=1, help="PyTorch's")
    parser.add_argument("--only", choices=("logprobs", "odd", "saved"))
    parser.add_argument("--dump", metavar="FILE", help="write transformers' log-probs as dev_logprobs prints, and stop")
    args = parser.parse_args()
    if not args.data:
        parser.error("--data or $ALIGN_TEST_DATA is needed")
    torch.set_num_threads(args.threads)
    transformers.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    print(f"torch {torch.__version__}, transformers {transformers.__version__}")

    vocab_dir = os.path.join(args.data, "gpt2_tokenizer")
    failed = []
    with tempfile.TemporaryDirectory() as work:
        directory = os.path.join(work, "model")
        model = make_gpt2.make(directory, args.size, vocab_dir, rough=not args.plain)
        print(f"model: {args.size}, {sum(p.numel() for p in model.parameters()):,} parameters")
        tokenizer = transformers.AutoTokenizer.from_pretrained(directory)
        longest = min(model.config.n_positions, 1024)
        texts = read_texts(os.path.join(args.data, "data", "hh_harmless_pairs.jsonl"), tokenizer, args.rows, longest)
        short = [t for t in texts if len(tokenizer(t).input_ids) <= 128][:8]
        if args.dump:
            with open(args.dump, "w") as f:
                for logps in logprobs_theirs(load(directory), tokenizer, texts):
                    f.write('{"logps":[' + ",".join("%.9g" % v for v in logps.tolist()) + "]}\n")
            return 0
        del model
        if args.only in (None, "logprobs"):
            check_logprobs(failed, args, directory, texts, work)
        if args.only in (None, "odd"):
            check_odd_forms(failed, args, vocab_dir, short, work)
        if args.only in (None, "saved"):
            check_saved(failed, args, directory, texts, work)
    print(f"verdict: {'FAILED: ' + str(len(failed)) + ' of the checks' if failed else 'ok'}")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
