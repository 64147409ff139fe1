"""Pre-training beside PyTorch: the same GPT-2 from the same weights on the same tokens, update by update.

    python dev/compare_pretrain.py --text out/pretrain/tried.txt [--updates 200] [--rows 32] [--bf16] [--float64]

A model of the shape that dev/repro/pretrain.sh has chosen, with random weights of `transformers`, is trained
by `train_sft` and by PyTorch (`GPT2LMHeadModel`, `torch.optim.AdamW`, that script's settings) on the text's
first rows, in their order. Prints both losses and how long an update took, each program alone with all its
threads. Rows and ids are made here by `tokenizers`, so they do not come from us. Exit code 0: in float32 the
first 20 losses agree within 0.0002 nats (the sums are in other orders, and training lets the differences grow),
and the means of the last 20 within 0.02. With --bf16 (train_sft alone) only the latter is asked for.

How far they grow depends on how fast the rate rises: with fewer updates the warm-up is shorter, and a
difference can double within an update. --float64 trains PyTorch a second time, in double precision, to tell
who strays: of 40 updates of 8 rows train_sft's first 20 losses stay within 0.0005 of those, PyTorch's float32 within 0.066. Then
the exit code asks for the first 20 within 0.0002 of float64's, or nearer to them than PyTorch's float32.
"""

import argparse
import copy
import json
import math
import pathlib
import subprocess
import sys
import tempfile
import time

import torch
from transformers import GPT2Config, GPT2LMHeadModel, GPT2Tokenizer

LENGTH, RATE, WARMUP = 256, 0.002, 0.2


def rows_of(tokenizer, path, rows):
    """The first rows of the text: each begins with the last token of the one before."""
    with open(path, encoding="utf-8") as file:
        text = file.read(rows * LENGTH * 8)
    ids = tokenizer(text)["input_ids"]
    assert len(ids) > rows * LENGTH, "the text is too short"
    return torch.tensor([ids[i * (LENGTH - 1) : i * (LENGTH - 1) + LENGTH] for i in range(rows)])


def factor(step, updates):
    """Warm-up, then half a cosine, as in transformers' get_cosine_schedule_with_warmup."""
    warmup = math.ceil(WARMUP * updates)
    if step < warmup:
        return step / warmup
    return 0.5 * (1 + math.cos(math.pi * (step - warmup) / (updates - warmup)))


def torch_losses(model, rows, updates):
    """The loss of each update, and seconds an update."""
    decayed = [p for p in model.parameters() if p.dim() > 1]
    others = [p for p in model.parameters() if p.dim() < 2]
    groups = [{"params": decayed, "weight_decay": 0.1}, {"params": others, "weight_decay": 0}]
    optimizer = torch.optim.AdamW(groups, lr=RATE, betas=(0.9, 0.98), eps=1e-8)
    losses, began = [], time.time()
    size = len(rows) // updates
    for step in range(updates):
        for group in optimizer.param_groups:
            group["lr"] = RATE * factor(step, updates)
        batch = rows[step * size : (step + 1) * size]
        loss = model(batch, labels=batch).loss
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        losses.append(loss.item())
    return losses, (time.time() - began) / updates


def our_losses(program, directory, start, text, updates, rows, bf16):
    command = [program, "--model", start, "--dataset", text, "--output_dir", f"{directory}/run"]
    command += f"--max_length {LENGTH} --per_device_train_batch_size {rows} --max_steps {updates}".split()
    command += f"--learning_rate {RATE} --lr_scheduler_type cosine --warmup_steps {WARMUP}".split()
    command += "--weight_decay 0.1 --adam_beta2 0.98 --train_sampling_strategy sequential".split()
    command += "--logging_steps 1 --save_steps 0 --samples 0".split() + ["--bf16"] * bf16
    began = time.time()
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    seconds = (time.time() - began) / updates
    rows = [json.loads(line) for line in open(f"{directory}/run/metrics.jsonl")]
    return [row["loss"] for row in rows if "loss" in row], seconds


def distance(a, b):
    """The largest difference of the first 20 losses, and that of the means of the last 20."""
    return max(abs(x - y) for x, y in zip(a[:20], b[:20])), (sum(a[-20:]) - sum(b[-20:])) / 20


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--text", required=True, help="plain text; dev/repro/pretrain.sh leaves tried.txt")
    parser.add_argument("--vocabulary", default="data/stories", help="directory with vocab.json and merges.txt")
    parser.add_argument("--program", default="build/plain/train_sft")
    parser.add_argument("--updates", type=int, default=200)
    parser.add_argument("--rows", type=int, default=32, help="of an update")
    parser.add_argument("--bf16", action="store_true")
    parser.add_argument("--float64", action="store_true", help="PyTorch in double precision, too")
    args = parser.parse_args()
    torch.manual_seed(1)
    tokenizer = GPT2Tokenizer.from_pretrained(args.vocabulary)
    config = GPT2Config(
        vocab_size=len(tokenizer), n_positions=LENGTH, n_embd=224, n_layer=2, n_head=7,
        resid_pdrop=0, embd_pdrop=0, attn_pdrop=0,
        bos_token_id=tokenizer.eos_token_id, eos_token_id=tokenizer.eos_token_id,
    )
    rows = rows_of(tokenizer, args.text, args.rows * args.updates)
    with tempfile.TemporaryDirectory() as directory:
        start = pathlib.Path(directory) / "start"
        model = GPT2LMHeadModel(config)
        model.save_pretrained(start)
        tokenizer.save_pretrained(start)
        text = pathlib.Path(directory) / "text.txt"
        with open(args.text, encoding="utf-8") as file:
            text.write_text(file.read(args.updates * args.rows * LENGTH * 8), encoding="utf-8")
        ours, our_time = our_losses(args.program, directory, str(start), str(text), args.updates, args.rows, args.bf16)
    double = copy.deepcopy(model).double() if args.float64 else None
    theirs, their_time = torch_losses(model, rows, args.updates)
    print("update  train_sft  PyTorch  difference")
    for step in sorted({0, 1, 2, 4, 9, 19, *range(49, args.updates, 50), args.updates - 1}):
        if step < args.updates:
            print(f"{step + 1:6}  {ours[step]:9.4f}  {theirs[step]:7.4f}  {ours[step] - theirs[step]:+.5f}")
    first, last = distance(ours, theirs)
    print(f"largest difference of the first 20: {first:.6f}; of the means of the last 20: {last:+.4f}")
    bound = 0.0002
    if double:
        exact, _ = torch_losses(double, rows, args.updates)
        bound = max(bound, distance(theirs, exact)[0])
        first, last = distance(ours, exact)
        print("from PyTorch's float64: train_sft {:.6f}; {:+.4f}".format(first, last))
        print("                        PyTorch   {:.6f}; {:+.4f}".format(*distance(theirs, exact)))
    print(f"seconds an update, with the start: train_sft {our_time:.3f}, PyTorch {their_time:.3f}")
    good = abs(last) < 0.02 and (args.bf16 or first <= bound)
    print("the same" if good else "NOT THE SAME")
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
