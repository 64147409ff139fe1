"""Make the model goldens: tiny random GPT-2 checkpoints and what PyTorch computes from them.

    python dev/golden_model.py            # rewrites test/golden/{tiny_gpt2,tiny_score,model.txt,model_score.txt}

The checkpoints are saved by transformers in float32. Everything in the text files is computed by the same
transformers model in float64 from those float32 weights, each row run alone (no padding, no attention mask),
and printed with 9 digits. So a float32 program is compared with the truth, not with another rounding of it.

A text file is a list of records: "name count" on a line, then `count` numbers separated by blanks and newlines.
Lines that begin with # are comments. Names hold no blanks. Names of tensors are bare ("h.0.ln_1.weight").
"""
import os
import sys

import torch
import transformers

SEED = 2
HERE = os.path.dirname(os.path.abspath(__file__))
GOLDEN = os.path.join(HERE, "..", "test", "golden")

# The optimiser's ten steps. Ten is few, so the learning rate is high; weights of this size have a gradient
# norm well above 1, so that clipping acts in every step.
STEPS, WARMUP, LEARNING_RATE, WEIGHT_DECAY, MAX_GRAD_NORM = 10, 2, 1e-2, 0.1, 1.0


class Writer:
    """A golden text file: header comments, then records."""

    def __init__(self, path, about):
        self.file = open(path, "w")
        for line in about:
            self.file.write("# " + line + "\n")
        self.file.write(f"# made by dev/golden_model.py, seed {SEED}: torch {torch.__version__.split('+')[0]},"
                        f" transformers {transformers.__version__}, float64\n")

    def record(self, name, values, per_line=8):
        """Writes one record; `values` is a tensor, a number or a list, flattened in row-major order."""
        if not isinstance(values, torch.Tensor):
            values = torch.tensor(values)
        values = values.detach().flatten().tolist()
        self.file.write(f"{name} {len(values)}\n")
        for i in range(0, len(values), per_line):
            self.file.write(" ".join("%.9g" % v for v in values[i:i + per_line]) + "\n")


def bare(name):
    """The tensor's name as align.c's table has it."""
    return name.removeprefix("transformer.")


def make_config(**sizes):
    """A GPT-2 config without dropout. The last id is the end-of-text token, as in GPT-2."""
    last = sizes["vocab_size"] - 1
    return transformers.GPT2Config(bos_token_id=last, eos_token_id=last, embd_pdrop=0.0, attn_pdrop=0.0,
                                   resid_pdrop=0.0, **sizes)


def randomise(model):
    """Weights large enough that every tensor matters, LayerNorm scales around 1 and shifts around 0."""
    generator = torch.Generator().manual_seed(SEED)
    with torch.no_grad():
        for name, p in model.named_parameters():
            noise = 0.2 * torch.randn(p.shape, generator=generator)
            is_scale = ".ln_" in name and name.endswith(".weight")
            p.copy_(1.0 + noise if is_scale else noise)


def make_rows(vocab_size, lengths, generator):
    return [torch.randint(vocab_size, (n,), generator=generator) for n in lengths]


def write_batch(out, rows, mask_from):
    """The packed batch: tokens of all rows back to back, where each row starts, which log-probs count."""
    start = [0]
    mask = []
    for row, first in zip(rows, mask_from):
        start.append(start[-1] + len(row))
        mask += [int(t >= first) for t in range(len(row))]
    out.record("tokens", torch.cat(rows), 26)
    out.record("row_start", start)
    out.record("mask", mask, 26)
    return mask


def row_logits(model, row):
    return model(input_ids=row[None], use_cache=False).logits[0]


def batch_nll(model, rows, mask_from):
    """Mean over the masked tokens of all rows: their sum over their number, as one batch."""
    total, count = 0.0, 0
    for row, first in zip(rows, mask_from):
        logp = torch.log_softmax(row_logits(model, row)[:-1], -1)
        logp = logp.gather(-1, row[1:, None])[:, 0]
        total = total - logp[first - 1:].sum()
        count += len(row) - first
    return total / count


def decay_groups(model):
    """transformers' rule (Trainer.get_decay_parameter_names): no decay on biases and LayerNorm; embeddings decay."""
    decayed = [p for n, p in model.named_parameters() if not (n.endswith(".bias") or ".ln_" in n)]
    kept = [p for n, p in model.named_parameters() if n.endswith(".bias") or ".ln_" in n]
    return [{"params": decayed, "weight_decay": WEIGHT_DECAY}, {"params": kept, "weight_decay": 0.0}]


def train(model, rows, mask_from):
    """Ten AdamW steps on the one batch. Returns losses, gradient norms before clipping, learning rates."""
    optimizer = torch.optim.AdamW(decay_groups(model), lr=LEARNING_RATE, betas=(0.9, 0.999), eps=1e-8)
    schedule = transformers.get_linear_schedule_with_warmup(optimizer, WARMUP, STEPS)
    losses, norms, rates = [], [], []
    for _ in range(STEPS):
        optimizer.zero_grad()
        loss = batch_nll(model, rows, mask_from)
        loss.backward()
        norms.append(torch.nn.utils.clip_grad_norm_(model.parameters(), MAX_GRAD_NORM).item())
        rates.append(schedule.get_last_lr()[0])
        losses.append(loss.item())
        optimizer.step()
        schedule.step()
    losses.append(batch_nll(model, rows, mask_from).item())
    return losses, norms, rates


def without_key_bias(name, p):
    """The gradient of a key's bias is exactly zero (softmax does not see a constant added to a row of scores), so
    what is computed is rounding noise, and AdamW makes steps of it. Checksums leave those C numbers out."""
    if name.endswith("c_attn.bias"):
        third = p.numel() // 3
        return torch.cat([p[:third], p[2 * third:]])
    return p


def golden_language_model():
    config = make_config(vocab_size=64, n_positions=32, n_embd=16, n_layer=2, n_head=4)
    model = transformers.GPT2LMHeadModel(config).eval()
    randomise(model)
    model.save_pretrained(os.path.join(GOLDEN, "tiny_gpt2"))
    weights = {n: p.detach().clone() for n, p in model.named_parameters()}

    rows = make_rows(64, [7, 13, 6], torch.Generator().manual_seed(SEED))
    mask_from = [4, 1, 3]
    model.double()

    out = Writer(os.path.join(GOLDEN, "model.txt"), [
        "tiny_gpt2: one packed batch, its logits, log-probs, loss and gradients; then ten AdamW steps on that batch",
        "logits (N, V), entropy (N) and logp (N): each row run alone; logp[t] is that of token t, 0 at a row's first",
        "nll, accuracy, mean_entropy: means over mask; the entropy and the guess are those of the position before t",
        f"steps: lr {LEARNING_RATE}, linear schedule, warm-up {WARMUP} of {STEPS} steps, decay {WEIGHT_DECAY} on all but biases "
        f"and LayerNorm,",
        f"betas 0.9 0.999, eps 1e-8, clip {MAX_GRAD_NORM}; grad_norm is before clipping; losses has one more, after the last step",
        "final.NAME: sum and sum of squares after the steps; of c_attn.bias only q and v (the key's gradient is noise)",
    ])
    mask = write_batch(out, rows, mask_from)

    logits = [row_logits(model, row) for row in rows]
    logp, entropy, guess = [], [], []
    for row, z in zip(rows, logits):
        logs = torch.log_softmax(z, -1)
        logp.append(torch.cat([torch.zeros(1, dtype=torch.float64), logs[:-1].gather(-1, row[1:, None])[:, 0]]))
        entropy.append(-(logs.exp() * logs).sum(-1))
        guess.append(z.argmax(-1))
    out.record("logits", torch.cat(logits))
    out.record("logp", torch.cat(logp))
    out.record("entropy", torch.cat(entropy))

    picked = [t for t in range(len(mask)) if mask[t]]  # never a row's first token, so t - 1 is in the same row
    tokens, guesses, entropies = torch.cat(rows), torch.cat(guess), torch.cat(entropy)
    out.record("accuracy", sum(float(guesses[t - 1] == tokens[t]) for t in picked) / len(picked))
    out.record("mean_entropy", sum(entropies[t - 1].item() for t in picked) / len(picked))

    loss = batch_nll(model, rows, mask_from)
    loss.backward()
    out.record("nll", loss.item())
    for name, p in model.named_parameters():
        out.record("grad." + bare(name), p.grad)

    losses, norms, rates = train(model, rows, mask_from)
    out.record("learning_rate", rates)
    out.record("losses", losses)
    out.record("grad_norm", norms)
    for name, p in model.named_parameters():
        p = without_key_bias(name, p.detach())
        out.record("final." + bare(name), [p.sum().item(), (p * p).sum().item()])

    # The same ten steps in float32: how far rounding alone moves them. This sets the tests' tolerance.
    single = transformers.GPT2LMHeadModel(config).eval()
    single.load_state_dict(weights, strict=False)
    losses32, norms32, _ = train(single, rows, mask_from)
    far = max(abs(a - b) / abs(a) for a, b in zip(losses + norms, losses32 + norms32))
    print(f"tiny_gpt2: losses {losses[0]:.6f} .. {losses[-1]:.6f}, grad norms {min(norms):.3f} .. {max(norms):.3f}")
    print(f"float32 against float64 over the steps: {far:.2e} relative")
    for (name, p), q in zip(model.named_parameters(), single.parameters()):
        p, q = without_key_bias(name, p.detach()), without_key_bias(name, q.detach()).double()
        apart = (p - q).abs().max().item()
        if apart > 1e-5:
            print(f"  {bare(name)}: float32 ends {apart:.1e} away")


def golden_score_model():
    """The scalar head, in a model with odd sizes: n_inner is not 4 * n_embd, n_embd no multiple of 16, other epsilon."""
    config = make_config(vocab_size=50, n_positions=20, n_embd=12, n_layer=2, n_head=3, n_inner=20,
                         layer_norm_epsilon=1e-3, num_labels=1, pad_token_id=48)
    model = transformers.GPT2ForSequenceClassification(config).eval()
    randomise(model)
    model.save_pretrained(os.path.join(GOLDEN, "tiny_score"))
    model.double()

    generator = torch.Generator().manual_seed(SEED + 1)
    rows = make_rows(48, [20, 1, 9], generator)  # ids below 48: neither the pad nor the end token
    weights = [torch.randn(len(row), generator=generator, dtype=torch.float64) for row in rows]
    weights = [w.float().double() for w in weights]

    out = Writer(os.path.join(GOLDEN, "model_score.txt"), [
        "tiny_score (GPT2ForSequenceClassification): the scalar head at every position of one packed batch",
        "value (N): score.weight . h[t] after the last LayerNorm; score (R): what the model answers for a row (its last token)",
        "dvalue (N): arbitrary seed; grad.NAME: gradients of sum_t dvalue[t] * value[t]",
    ])
    write_batch(out, rows, [1, 1, 1])
    values = [model.score(model.transformer(input_ids=row[None]).last_hidden_state)[0, :, 0] for row in rows]
    scores = [model(input_ids=row[None]).logits[0, 0] for row in rows]
    assert all(v[-1] == s for v, s in zip(values, scores))
    out.record("value", torch.cat(values))
    out.record("score", torch.stack(scores))
    out.record("dvalue", torch.cat(weights))
    sum((w * v).sum() for w, v in zip(weights, values)).backward()
    for name, p in model.named_parameters():
        out.record("grad." + bare(name), p.grad)
    print(f"tiny_score: scores {[round(s.item(), 4) for s in scores]}")


if __name__ == "__main__":
    if len(sys.argv) > 1:
        sys.exit(__doc__)
    torch.set_num_threads(1)
    golden_language_model()
    golden_score_model()
