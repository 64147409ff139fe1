"""Time a GPT-2 training step in PyTorch: eager, transformers' model, AdamW, random tokens, labels = inputs.

    env -u OPENBLAS_CORETYPE -u OPENBLAS_L2_SIZE python dev/bench_torch.py 4 256 2 1024 [--bf16] [--quick]

Arguments are pairs of B and T. Each setting runs in a process of its own (thread counts and peak memory are clean)
and prints one line; then one line for each shape names the best. A step is forward, backward, gradient clipping to
norm 1, AdamW, zero_grad. Dropout is off and gradient checkpointing too, both in PyTorch's favour over TRL's default.

Settings tried: threads 1 and 2 (--threads), attention eager and sdpa, AdamW fused and foreach; then the best of these with
glibc's allocator told to keep freed blocks ("kept") and to ask for huge pages as well ("huge"), because PyTorch allocates
the logits anew in each step and by default pays for their page faults. --quick tries only the memory settings, with the
most threads, sdpa and fused. --bf16 wraps the forward in autocast, which is TRL's default.
Line: torch B= T= dtype= threads= attention= adamw= memory= ms= tokens_per_s= peak_mb= loss=
"""
import argparse
import itertools
import os
import resource
import subprocess
import sys
import time

# glibc's environment variables; other C libraries ignore them
KEPT = {"MALLOC_MMAP_THRESHOLD_": "17179869184", "MALLOC_TRIM_THRESHOLD_": "17179869184", "MALLOC_TOP_PAD_": "67108864"}
MEMORY = {"default": {}, "kept": KEPT, "huge": {**KEPT, "GLIBC_TUNABLES": "glibc.malloc.hugetlb=1"}}

# n_layer, n_head, n_embd, n_positions, vocab_size
SIZES = {"gpt2": (12, 12, 768, 1024, 50257), "small": (4, 4, 128, 256, 512)}


def measure(args):
    """One setting, in this process."""
    import torch
    import transformers

    torch.set_num_threads(args.threads)
    torch.manual_seed(1)
    sizes = dict(zip(("n_layer", "n_head", "n_embd", "n_positions", "vocab_size"), args.config))
    config = transformers.GPT2Config(embd_pdrop=0.0, attn_pdrop=0.0, resid_pdrop=0.0, use_cache=False, bos_token_id=0,
                                     eos_token_id=0, **sizes)
    model = transformers.GPT2LMHeadModel._from_config(config, attn_implementation=args.attention).train()
    bare = [p for n, p in model.named_parameters() if n.endswith(".bias") or ".ln_" in n]
    rest = [p for n, p in model.named_parameters() if not (n.endswith(".bias") or ".ln_" in n)]
    optimizer = torch.optim.AdamW([{"params": rest, "weight_decay": 0.1}, {"params": bare, "weight_decay": 0.0}],
                                  lr=1e-4, fused=args.adamw == "fused", foreach=args.adamw == "foreach")
    tokens = torch.randint(config.vocab_size, (args.B, args.T))
    best = float("inf")
    for step in range(args.warmup + args.steps):
        start = time.perf_counter()
        with torch.autocast("cpu", torch.bfloat16, enabled=args.bf16):
            loss = model(tokens, labels=tokens).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
        value = loss.item()
        if step >= args.warmup:
            best = min(best, time.perf_counter() - start)
    # ru_maxrss is in kilobytes on Linux, in bytes on macOS
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (1024 if sys.platform != "darwin" else 1024 ** 2)
    print(f"torch B={args.B} T={args.T} dtype={'bf16' if args.bf16 else 'fp32'} threads={args.threads} "
          f"attention={args.attention} adamw={args.adamw} memory={args.memory} ms={best * 1e3:.1f} "
          f"tokens_per_s={args.B * args.T / best:.0f} peak_mb={peak:.0f} loss={value:.4f}", flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("shape", type=int, nargs="+", help="pairs of B and T")
    parser.add_argument("--size", choices=SIZES, default="gpt2")
    parser.add_argument("--config", type=int, nargs=5, help="n_layer n_head n_embd n_positions vocab_size, for --size")
    parser.add_argument("--bf16", action="store_true")
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--warmup", type=int, default=2)
    parser.add_argument("--steps", type=int, default=5)
    parser.add_argument("--one", nargs=3, metavar=("attention", "adamw", "memory"), help=argparse.SUPPRESS)
    args = parser.parse_args()
    if len(args.shape) % 2:
        parser.error("shapes are pairs of B and T")
    args.config = args.config or SIZES[args.size]
    if args.one:
        args.attention, args.adamw, args.memory = args.one
        args.threads, (args.B, args.T) = args.threads[0], args.shape
        return measure(args)

    environment = {k: v for k, v in os.environ.items() if k not in ("OPENBLAS_CORETYPE", "OPENBLAS_L2_SIZE")}

    def run(B, T, threads, attention, adamw, memory):
        """One setting in its own process; returns milliseconds, the settings and the line."""
        command = [sys.executable, __file__, str(B), str(T), "--threads", str(threads), "--warmup", str(args.warmup),
                   "--steps", str(args.steps), "--config", *map(str, args.config), "--one", attention, adamw, memory]
        command += ["--bf16"] if args.bf16 else []
        result = subprocess.run(command, env={**environment, **MEMORY[memory]}, text=True, stdout=subprocess.PIPE,
                                stderr=subprocess.PIPE)
        if result.returncode:
            sys.exit(result.stderr)
        line = result.stdout.strip()
        print(line, flush=True)
        return float(line.split(" ms=")[1].split()[0]), (threads, attention, adamw), line

    settings = list(itertools.product(args.threads, ("eager", "sdpa"), ("fused", "foreach")))
    if args.quick:
        settings = [(max(args.threads), "sdpa", "fused")]
    for B, T in zip(args.shape[::2], args.shape[1::2]):
        runs = [run(B, T, *setting, "default") for setting in settings]
        best = min(runs)[1]
        runs += [run(B, T, *best, memory) for memory in ("kept", "huge")]
        print("best  " + min(runs)[2], flush=True)


if __name__ == "__main__":
    main()
