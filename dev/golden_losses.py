"""Make the goldens of the preference losses: what PyTorch says of each loss and its gradient, in float64.

    python dev/golden_losses.py           # rewrites test/golden/losses.txt

Every loss stands below as its paper prints it, and autograd finds the gradients; losses.h has both in closed form.
Inputs are float32 numbers, so that a program with float at its border reads exactly these.

The text file is a list of cases. A case is a line "FAMILY TYPE B CONSTANTS..." and then B lines of one example each:
inputs, its loss, and its gradients. Loss and gradients are the example's own; a batch's are their sum over its size.
"""
import os
import sys

import torch
from torch.nn.functional import logsigmoid

SEED = 3
PATH = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "test", "golden", "losses.txt")

# Log-ratios h = r_chosen - r_rejected at and beyond the edges of exp: the sigmoid of beta h is 0 or 1 in float64.
EXTREME = [500.0, -500.0, 30.0, -30.0, 1e-4, -1e-4, 0.0]
# Mean log-probs towards probability 1 and towards 0.
MEANS = [-1e-7, -1e-6, -1e-3, -0.5, -0.7, -3.0, -80.0]


def dpo(kind, beta, e, chosen, rejected, ref_chosen, ref_rejected, T_chosen, T_rejected):
    """Rafailov et al. 2023, eq. 7; with smoothing the DPO authors' code; Chowdhury et al. 2024; RSO; Azar et al. 2023,
    eq. 17, with sums and (as TRL) with means over the completion's tokens."""
    r_chosen, r_rejected = chosen - ref_chosen, rejected - ref_rejected
    h = r_chosen - r_rejected
    if kind == "sigmoid":
        return -(1 - e) * logsigmoid(beta * h) - e * logsigmoid(-beta * h)
    if kind == "robust":
        return (-(1 - e) * logsigmoid(beta * h) + e * logsigmoid(-beta * h)) / (1 - 2 * e)
    if kind == "hinge":
        return torch.relu(1 - beta * h)
    if kind == "ipo":
        h = r_chosen / T_chosen - r_rejected / T_rejected
    return (h - 1 / (2 * beta)) ** 2


def kto(kind, beta, kl, weight_desirable, weight_undesirable, logp, ref, desirable):
    """Ethayarajh et al. 2024, eq. 8; apo_zero_unpaired as TRL has it."""
    r = logp - ref
    if kind == "kto":
        value = torch.sigmoid(beta * (r - kl)) if desirable else torch.sigmoid(beta * (kl - r))
        return (weight_desirable if desirable else weight_undesirable) * (1 - value)
    if desirable:
        return weight_desirable * (1 - torch.sigmoid(beta * r))
    return weight_undesirable * torch.sigmoid(beta * r)


def orpo(beta, a_chosen, a_rejected):
    """Hong et al. 2024, eq. 7, times lambda. odds = P / (1 - P), and 1 - P = -expm1(log P)."""
    log_odds = a_chosen - torch.log(-torch.expm1(a_chosen)) - (a_rejected - torch.log(-torch.expm1(a_rejected)))
    return -beta * logsigmoid(log_odds)


def single(x):
    """The nearest float32, as a Python float."""
    return torch.tensor(x, dtype=torch.float32).item()


def line(inputs, fixed, loss_of):
    """inputs: what is differentiated; fixed: what is not. Returns the text of one example's line."""
    x = [torch.tensor(single(v), dtype=torch.float64, requires_grad=True) for v in inputs]
    loss = loss_of(x)
    loss.backward()
    numbers = [v.item() for v in x] + fixed + [loss.item()] + [v.grad.item() for v in x]
    return " ".join("%.12g" % v for v in numbers) + "\n"


def main():
    random = torch.Generator().manual_seed(SEED)

    def uniform(low, high):
        return single(low + (high - low) * torch.rand(1, generator=random).item())

    out = open(PATH, "w")
    out.write("# losses.h: a case is FAMILY TYPE B CONSTANTS, then B examples; loss and gradients are each example's own\n"
              "# dpo TYPE B beta label_smoothing: chosen rejected ref_chosen ref_rejected chosen_length rejected_length"
              " loss dchosen drejected\n"
              "# kto TYPE B beta kl desirable_weight undesirable_weight: logp ref desirable loss dlogp\n"
              "# orpo - B beta: chosen_mean rejected_mean loss dchosen drejected\n"
              f"# made by dev/golden_losses.py, seed {SEED}: torch {torch.__version__.split('+')[0]}, float64\n")

    for kind, e in [("sigmoid", 0), ("sigmoid", 0.1), ("sigmoid", 0.4), ("hinge", 0), ("ipo", 0), ("ipo_sum", 0),
                    ("robust", 0), ("robust", 0.1), ("robust", 0.4)]:
        for beta in [0.05, 0.1, 1, 5]:
            out.write(f"dpo {kind} {6 + len(EXTREME)} {beta} {e}\n")
            for i in range(6 + len(EXTREME)):
                ref = [uniform(-120, -20), uniform(-120, -20)]
                h = [uniform(-9, 9), uniform(-9, 9)] if i < 6 else [0.5 * EXTREME[i - 6], -0.5 * EXTREME[i - 6]]
                T = [1 + int(uniform(0, 40)), 1 + int(uniform(0, 40))]
                ref = [single(v) for v in ref]
                out.write(line([ref[0] + h[0], ref[1] + h[1]], ref + T,
                               lambda x: dpo(kind, beta, e, x[0], x[1], *ref, *T)))

    for kind, kl, weights in [("kto", 0, (1, 1)), ("kto", 0.3, (1, 1)), ("kto", 7.25, (4 / 3, 1)), ("kto", 1, (1, 0)),
                              ("apo_zero_unpaired", 5, (1, 1)), ("apo_zero_unpaired", 0, (0.5, 2))]:
        for beta in [0.1, 1]:
            out.write(f"kto {kind} {6 + 2 * len(EXTREME)} {beta} {kl} {'%.17g %.17g' % weights}\n")
            for i in range(6 + 2 * len(EXTREME)):
                ref = uniform(-120, -20)
                r = uniform(-20, 20) if i < 6 else EXTREME[(i - 6) // 2]
                out.write(line([ref + r], [ref, i % 2], lambda x: kto(kind, beta, kl, *weights, x[0], ref, i % 2)))

    for beta in [0, 0.1, 1]:
        out.write(f"orpo - {len(MEANS) ** 2} {beta}\n")
        for a in MEANS:
            for b in MEANS:
                out.write(line([a, b], [], lambda x: orpo(beta, x[0], x[1])))
    out.close()


if __name__ == "__main__":
    if len(sys.argv) > 1:
        sys.exit(__doc__)
    torch.set_num_threads(1)
    main()
