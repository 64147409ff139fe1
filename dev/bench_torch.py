"""A GPT-2 training step in PyTorch, for dev/bench.c to be measured against: eager, transformers' model, AdamW, random
tokens, labels = inputs.

    python dev/bench_torch.py search 4 256 [--bf16]     which settings are the fastest here
    python dev/bench_torch.py serve 4 256 [--bf16] [--attention sdpa] [--adamw fused]
                                                        one step for each line on standard input, for `bench duel`

A step is forward, backward, gradient clipping to norm 1, AdamW, zero_grad. Dropout is off and gradient checkpointing
too, both in PyTorch's favour over TRL's default. --bf16 wraps the forward in autocast, which is TRL's default.

The search tries attention (eager, sdpa) and AdamW (fused, foreach) step by step in turn in one process; then the best
two with glibc's allocator as it is ("default"), told to keep freed blocks ("kept"), and to ask for huge pages as well
("huge"), each in a process of its own: PyTorch allocates the logits anew in each step and by default pays for their
page faults. It prints a line for each and, last, the command that serves the best:

    attention=sdpa adamw=fused memory=kept ms=1631.2
    best env MALLOC_..=.. python dev/bench_torch.py serve 4 256 --attention sdpa --adamw fused

A served step is answered by its milliseconds and those of its parts, as dev/bench.c says.
"""
import argparse
import os
import subprocess
import sys
import time

# glibc's environment variables; other C libraries ignore them
KEPT = {"MALLOC_MMAP_THRESHOLD_": "17179869184", "MALLOC_TRIM_THRESHOLD_": "17179869184", "MALLOC_TOP_PAD_": "67108864"}
MEMORY = {"default": {}, "kept": KEPT, "huge": {**KEPT, "GLIBC_TUNABLES": "glibc.malloc.hugetlb=1"}}
# what tunes a library is taken away from all contestants alike, see environment_clean in dev/bench.c
TUNED = ("OPENBLAS_", "GOTO_", "MKL_", "DNNL_", "ONEDNN_", "KMP_", "GOMP_", "MALLOC_", "GLIBC_TUNABLES", "OMP_WAIT_POLICY")
PARTS = ("forward", "backward", "clip", "AdamW")
ATTENTION, ADAMW = ("sdpa", "eager"), ("fused", "foreach")

# n_layer, n_head, n_embd, n_positions, vocab_size
SIZES = {"gpt2": (12, 12, 768, 1024, 50257), "tiny": (3, 4, 128, 64, 1558)}


class Trainer:
    """A model with random weights, its batch of random tokens and one AdamW of each kind."""

    def __init__(self, args):
        os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
        import torch
        import transformers

        if args.threads:
            torch.set_num_threads(args.threads)
        torch.manual_seed(1)
        sizes = dict(zip(("n_layer", "n_head", "n_embd", "n_positions", "vocab_size"), SIZES[args.size]))
        config = transformers.GPT2Config(embd_pdrop=0.0, attn_pdrop=0.0, resid_pdrop=0.0, use_cache=False, bos_token_id=0,
                                         eos_token_id=0, **sizes)
        self.torch, self.bf16 = torch, args.bf16
        self.model = transformers.GPT2LMHeadModel._from_config(config, attn_implementation=args.attention).train()
        self.tokens = torch.randint(config.vocab_size, (args.B, args.T))
        self.optimizers = {}

    def optimizer(self, kind):
        if kind not in self.optimizers:
            bare = [p for n, p in self.model.named_parameters() if n.endswith(".bias") or ".ln_" in n]
            rest = [p for n, p in self.model.named_parameters() if not (n.endswith(".bias") or ".ln_" in n)]
            groups = [{"params": rest, "weight_decay": 0.1}, {"params": bare, "weight_decay": 0.0}]
            self.optimizers[kind] = self.torch.optim.AdamW(groups, lr=1e-4, fused=kind == "fused", foreach=kind == "foreach")
        return self.optimizers[kind]

    def step(self, adamw):
        """Seconds of each part."""
        optimizer = self.optimizer(adamw)
        clock = [time.perf_counter()]
        with self.torch.autocast("cpu", self.torch.bfloat16, enabled=self.bf16):
            loss = self.model(self.tokens, labels=self.tokens).loss
        loss.item()
        clock.append(time.perf_counter())
        loss.backward()
        clock.append(time.perf_counter())
        self.torch.nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
        clock.append(time.perf_counter())
        optimizer.step()
        optimizer.zero_grad()
        clock.append(time.perf_counter())
        return [b - a for a, b in zip(clock, clock[1:])]


def serve(args):
    trainer = Trainer(args)
    print("ready " + ",".join(PARTS), flush=True)
    for _ in sys.stdin:
        parts = trainer.step(args.adamw)
        print(" ".join(f"{1e3 * x:.4f}" for x in [sum(parts), *parts]), flush=True)


def search_here(args, attentions, adamws):
    """In this process: milliseconds of the best of a few steps for each attention and AdamW, the best setting first."""
    trainer = Trainer(args)
    body, update = {}, {}  # forward to clipping does not depend on AdamW, nor AdamW on attention
    for turn in range(-1, args.steps):
        for attention, adamw in zip(attentions, adamws):
            trainer.model.set_attn_implementation(attention)
            parts = trainer.step(adamw)
            if turn >= 0:  # before: fresh memory
                body[attention] = min(body.get(attention, 1e9), sum(parts[:3]))
                update[adamw] = min(update.get(adamw, 1e9), parts[3])
    settings = sorted((body[a] + update[w], a, w) for a in attentions for w in adamws)
    for seconds, attention, adamw in settings:
        print(f"attention={attention} adamw={adamw} memory={args.memory} ms={1e3 * seconds:.1f}", flush=True)


def search(args):
    def command(what, attention, adamw):
        line = [sys.executable, os.path.relpath(__file__), what, str(args.B), str(args.T), "--size", args.size,
                "--attention", attention, "--adamw", adamw]
        return line + ["--bf16"] * args.bf16 + (["--threads", str(args.threads)] if args.threads else [])

    clean = {k: v for k, v in os.environ.items() if not k.startswith(TUNED)}

    def run(memory, steps, attention=ATTENTION[0], adamw=ADAMW[0], only=False):
        line = command("search", attention, adamw) + ["--memory", memory, "--steps", str(steps)] + ["--only"] * only
        result = subprocess.run(line, env={**clean, **MEMORY[memory]}, text=True, stdout=subprocess.PIPE)
        if result.returncode:
            sys.exit(f"{' '.join(line)}: exit code {result.returncode}")
        print(result.stdout, end="", flush=True)
        rows = [dict(word.split("=") for word in row.split()) for row in result.stdout.splitlines()]
        return [(float(row["ms"]), row["attention"], row["adamw"], memory) for row in rows]

    best = min(run("kept", args.steps))
    rest = [min(run(memory, args.steps, *best[1:3], only=True)) for memory in ("default", "huge")]
    _, attention, adamw, memory = min([best, *rest])
    settings = [f"{name}={value}" for name, value in MEMORY[memory].items()]
    print("best " + " ".join([*(["env"] if settings else []), *settings, *command("serve", attention, adamw)]))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("search", "serve"))
    parser.add_argument("B", type=int, help="rows")
    parser.add_argument("T", type=int, help="tokens in each")
    parser.add_argument("--size", choices=SIZES, default="gpt2", help="tiny: the model of the default run")
    parser.add_argument("--bf16", action="store_true")
    parser.add_argument("--attention", choices=ATTENTION, default=ATTENTION[0])
    parser.add_argument("--adamw", choices=ADAMW, default=ADAMW[0])
    parser.add_argument("--threads", type=int, help="as many as PyTorch takes by itself, unless given")
    parser.add_argument("--steps", type=int, default=2, help="of the search, for each setting")
    parser.add_argument("--memory", choices=MEMORY, help=argparse.SUPPRESS)  # a search in this process
    parser.add_argument("--only", action="store_true", help=argparse.SUPPRESS)  # of this attention and AdamW
    args = parser.parse_args()
    if args.what == "serve":
        return serve(args)
    if not args.memory:
        return search(args)
    search_here(args, *(((args.attention,), (args.adamw,)) if args.only else (ATTENTION, ADAMW)))


if __name__ == "__main__":
    main()
