"""Step the SPIN authors' loss in PyTorch beside train_spin on the same weights and pairs, two iterations, and compare.

    python dev/compare_spin.py [--program ./train_spin] [--case NAME ...] [--double]

Model and data are those of data/. train_spin goes first and records what it generates (iteration-N/synthetic.jsonl);
PyTorch then takes the same steps on these pairs: transformers' GPT-2, the loss as in uclaml/SPIN,
spin/alignment/trainer.py (spin_loss, _get_batch_logps),

    -logsigmoid(beta * ((policy_real - policy_generated) - (opponent_real - opponent_generated)))

with sums of log-probs over the completion and the mean over the batch; torch.optim.AdamW, a linear schedule, clipping.
As in their scripts the second iteration starts a new optimiser and a new schedule at the weights that the first has
left, takes these as its opponent, and has the pairs of both iterations. Unlike theirs the prompts have no template,
and a generated completion has end-of-text only where the model ended it.

The exit code is the verdict over 20 AdamW steps in each iteration: loss within 1e-4 relative at every step; gradient
norm within 1e-4 at an iteration's first step and 1e-2 at the others; log-probs, rewards / beta and margins / beta
within 1e-6 times the mean |log-prob| of a completion; accuracies equal, but for pairs whose margin is within that;
learning rates equal.
"""
import argparse
import json
import math
import os
import subprocess
import sys
import tempfile

from compare_trl_sft import relative, weights_apart  # also keeps the libraries off the network

HERE = os.path.dirname(os.path.abspath(__file__))
DATA = os.path.join(HERE, "..", "data")
ROWS, BATCH, STEPS, ITERATIONS = 64, 8, 20, 2
# The steps are long, so that an error would grow.
LR, WARMUP, DECAY, MAX_NORM = 3e-4, 4, 0.1, 1.0
CASES = {"lambda 1": 1.0, "lambda 0.1": 0.1, "lambda 5": 5.0}


def run_ours(program, beta, work):
    """Runs the program. Returns its log, a dict for each step, and its output's folder."""
    out, rows = os.path.join(work, "ours"), os.path.join(work, "rows.jsonl")
    with open(os.path.join(DATA, "reviews_train.jsonl")) as f, open(rows, "w") as g:
        g.writelines(next(f) for _ in range(ROWS))
    flags = dict(model=os.path.join(DATA, "sft"), dataset=rows, output_dir=out, num_iterations=ITERATIONS,
                 max_steps=STEPS, beta=beta, per_device_train_batch_size=BATCH, learning_rate=LR, warmup_steps=WARMUP,
                 weight_decay=DECAY, max_grad_norm=MAX_NORM, max_new_tokens=24, logging_steps=1, save_steps=0, samples=0,
                 train_sampling_strategy="sequential", save_players="true")
    command = [program] + [part for key, value in flags.items() for part in ("--" + key, str(value))]
    result = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    if result.returncode:
        sys.exit(f"{' '.join(command)}\n{result.stdout}exit code {result.returncode}")
    with open(os.path.join(out, "metrics.jsonl")) as f:
        metrics = [json.loads(line) for line in f]
    return [entry for entry in metrics if "loss" in entry], out


def read_pairs(out, iteration, tokenizer):
    """What an iteration generated, as (prompt, real, generated) ids. Real completions are cut as the program says."""
    pairs = []
    with open(os.path.join(out, f"iteration-{iteration}", "synthetic.jsonl")) as f:
        for line in f:
            row = json.loads(line)
            real = tokenizer(row["real"]).input_ids + [tokenizer.eos_token_id]
            pairs.append((tokenizer(row["prompt"]).input_ids, real[:24], row["generated_ids"]))
    return pairs


def log_probs(model, pairs):
    """Sums of log p(completion | prompt) for the real completions, then the generated ones: two tensors (pairs)."""
    import torch

    rows = [(prompt, real) for prompt, real, _ in pairs] + [(prompt, generated) for prompt, _, generated in pairs]
    longest = max(len(prompt) + len(completion) for prompt, completion in rows)
    ids = torch.zeros(len(rows), longest, dtype=torch.long)
    labels = torch.full((len(rows), longest), -100)
    attention = torch.zeros(len(rows), longest, dtype=torch.long)
    for i, (prompt, completion) in enumerate(rows):
        n = len(prompt) + len(completion)
        ids[i, :n] = torch.tensor(prompt + completion)
        labels[i, len(prompt):n] = torch.tensor(completion)
        attention[i, :n] = 1
    logits = model(input_ids=ids, attention_mask=attention).logits[:, :-1]
    labels = labels[:, 1:]
    mask = labels != -100
    tokens = torch.gather(logits.log_softmax(-1), 2, labels.clamp(min=0).unsqueeze(2)).squeeze(2)
    return (tokens * mask).sum(-1).split(len(pairs))


def run_torch(out, beta, double):
    """The same steps in PyTorch. Returns the log and the trained model."""
    import torch
    import torch.nn.functional as F
    import transformers

    torch.set_num_threads(1)
    torch.manual_seed(0)
    dtype = torch.float64 if double else torch.float32
    tokenizer = transformers.AutoTokenizer.from_pretrained(os.path.join(DATA, "sft"))
    load = transformers.AutoModelForCausalLM.from_pretrained
    model, opponent = (load(os.path.join(DATA, "sft"), dtype=dtype).eval() for _ in range(2))  # no dropout
    log, previous = [], []
    for iteration in range(ITERATIONS):
        own = read_pairs(out, iteration, tokenizer)
        pairs, previous = own + previous, own
        opponent.load_state_dict(model.state_dict())
        decay = [p for n, p in model.named_parameters() if "ln_" not in n and not n.endswith("bias")]
        rest = [p for n, p in model.named_parameters() if "ln_" in n or n.endswith("bias")]
        optimizer = torch.optim.AdamW([dict(params=decay, weight_decay=DECAY), dict(params=rest, weight_decay=0.0)],
                                      lr=LR, betas=(0.9, 0.999), eps=1e-8)
        schedule = transformers.get_linear_schedule_with_warmup(optimizer, WARMUP, STEPS)
        for step in range(STEPS):
            at = step * BATCH % len(pairs)
            batch = pairs[at:at + BATCH]
            with torch.no_grad():
                old_real, old_generated = log_probs(opponent, batch)
            real, generated = log_probs(model, batch)
            margins = (real - generated) - (old_real - old_generated)
            loss = -F.logsigmoid(beta * margins).mean()
            optimizer.zero_grad()
            loss.backward()
            parameters = [p for p in model.parameters() if p.grad is not None]
            norm = math.sqrt(sum(p.grad.double().square().sum().item() for p in parameters))
            for p in parameters:
                p.grad.mul_(min(1.0, MAX_NORM / (norm + 1e-6)))
            log.append({"step": len(log) + 1, "iteration": iteration, "loss": loss.item(), "grad_norm": norm,
                        "learning_rate": schedule.get_last_lr()[0], "logps/real": real.mean().item(),
                        "logps/generated": generated.mean().item(),
                        "rewards/real": beta * (real - old_real).mean().item(),
                        "rewards/generated": beta * (generated - old_generated).mean().item(),
                        "rewards/margins": beta * margins.mean().item(),
                        "rewards/accuracies": (margins > 0).double().mean().item(), "margins": margins.tolist()})
            optimizer.step()
            schedule.step()
    return log, model


def compare(ours, theirs, beta):
    """Prints the table, returns the list of what is wrong."""
    if len(ours) != len(theirs):
        return [f"{len(ours)} steps logged, PyTorch made {len(theirs)}"]
    wrong, worst = [], {}

    def check(entry, name, apart, bound):
        worst[name] = max(worst.get(name, 0), apart)
        if not apart <= bound:
            wrong.append(f"step {entry['step']}: {name} is {apart:.2e} away, allowed {bound:g}")

    print("step  it.  PyTorch loss  ours        relative  PyTorch norm  ours        relative  margin      ours")
    for a, b in zip(ours, theirs):
        loss, norm = relative(a["loss"], b["loss"]), relative(a["grad_norm"], b["grad_norm"])
        print(f"{b['step']:4}  {b['iteration']:3}  {b['loss']:<12.6f}  {a['loss']:<10.6f}  {loss:.1e}   "
              f"{b['grad_norm']:<12.6f}  {a['grad_norm']:<10.6f}  {norm:.1e}   {b['rewards/margins']:<10.6f}  "
              f"{a['rewards/margins']:<10.6f}")
        check(b, "step", a["step"] != b["step"] or a["iteration"] != b["iteration"], 0)
        check(b, "loss", loss, 1e-4)
        first = b["step"] % STEPS == 1
        check(b, "grad_norm at a first step" if first else "grad_norm", norm, 1e-4 if first else 1e-2)
        check(b, "learning_rate", abs(a["learning_rate"] - b["learning_rate"]), 1e-12)
        size = (abs(b["logps/real"]) + abs(b["logps/generated"])) / 2
        for name in ("logps/real", "logps/generated", "rewards/real", "rewards/generated", "rewards/margins"):
            check(b, name, abs(a[name] - b[name]) / (beta if "rewards" in name else 1) / size, 1e-6)
        open_pairs = sum(abs(m) <= 1e-6 * size for m in b["margins"])
        apart = abs(a["rewards/accuracies"] - b["rewards/accuracies"])
        check(b, "rewards/accuracies", max(0.0, apart - open_pairs / BATCH), 1e-6)
    print("furthest apart: " + ", ".join(f"{name} {apart:.1e}" for name, apart in worst.items()))
    return wrong


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--program", default=os.path.join(HERE, "..", "train_spin"))
    parser.add_argument("--case", choices=CASES, nargs="+", help="only these")
    parser.add_argument("--double", action="store_true", help="PyTorch's model in float64")
    args = parser.parse_args()

    import torch
    import transformers
    transformers.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    print(f"torch {torch.__version__}, transformers {transformers.__version__}")
    failed = []
    for name, beta in CASES.items():
        if args.case and name not in args.case:
            continue
        print(f"\n{name}: {ROWS} rows, {ITERATIONS} iterations of {STEPS} steps of {BATCH} pairs")
        with tempfile.TemporaryDirectory() as work:
            ours, out = run_ours(args.program, beta, work)
            theirs, trained = run_torch(out, beta, args.double)
            wrong = compare(ours, theirs, beta)
            apart = weights_apart(trained.float(), os.path.join(out, "final"))
        print(f"trained weights at most {apart:.1e} apart")
        print(f"{name}: {'FAILED' if wrong else 'ok'}")
        for line in wrong:
            print("  " + line)
        failed += [name] if wrong else []
    print(f"\nverdict: {'FAILED: ' + '; '.join(failed) if failed else 'ok'}")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
