"""Make the goldens of the losses: what PyTorch says of each loss and its gradient, in float64.

    python dev/golden_losses.py           # rewrites test/golden/losses.txt
    pip install --no-deps --target DIR trl==1.12.0 && python dev/golden_losses.py --trl DIR
                                          # the same, and compares with TRL's own functions of PPO

Every loss stands below as its paper prints it, and autograd finds the gradients; losses.h has both in closed form.
Inputs are float32 numbers, so that a program with float at its border reads exactly these. (TRL 1.12.0 is the last
release with PPO.)

The text file is a list of cases. A case is a line "FAMILY TYPE B CONSTANTS..." and then B lines of one example each:
inputs, its loss, and its gradients. Loss and gradients are the example's own; a batch's are their sum over its size.
Only the losses of PPO are given as a whole: means over the masked tokens, and gradients of the mean.
"""
import argparse
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


def reward(center, chosen, rejected, margin):
    """Bradley-Terry as in Stiennon et al. 2020, with TRL's margin and center_rewards_coefficient."""
    return -logsigmoid(chosen - rejected - margin) + center * (chosen + rejected) ** 2


def kl_term(kind, logp, ref):
    """Schulman 2020: r = ref / pi at a token that pi sampled."""
    logr = ref - logp
    return -logr if kind == "k1" else torch.exp(logr) - 1 - logr


def gae(gamma, lam, rewards, values):
    """Schulman et al. 2016, eq. 16, one row, as the sum that it is: sum_l (gamma lambda)^l delta[t + l]."""
    T = len(rewards)
    V = torch.cat([values, torch.zeros(1, dtype=torch.float64)])
    delta = rewards + gamma * V[1:] - V[:-1]
    powers = (gamma * lam) ** torch.arange(T, dtype=torch.float64)
    advantages = torch.stack([(powers[:T - t] * delta[t:]).sum() for t in range(T)])
    return advantages, advantages + values


def masked_mean(x, mask):
    return x[mask].sum() / mask.sum()


def masked_whiten(x, mask, shift_mean):
    """TRL's: the unbiased variance."""
    white = (x - x[mask].mean()) / torch.sqrt(x[mask].var(unbiased=True) + 1e-8)
    return white if shift_mean else white + x[mask].mean()


def ppo(cliprange, cliprange_value, vf_coef, mask, logp, old_logp, A, V, old_V, R):
    """Schulman et al. 2017, eq. 7, and the clipped value loss of its authors' code, in TRL's lines. Returns the loss
    and the statistics policy_loss value_loss clip_fraction value_clip_fraction approx_kl ratio ratio_squared."""
    difference = logp - old_logp
    ratio = torch.exp(difference)
    policy = -A * ratio
    policy_clipped = -A * torch.clamp(ratio, 1 - cliprange, 1 + cliprange)
    value = (V - R) ** 2
    value_clipped = (torch.clamp(V, old_V - cliprange_value, old_V + cliprange_value) - R) ** 2
    policy_loss = masked_mean(torch.max(policy, policy_clipped), mask)
    value_loss = 0.5 * masked_mean(torch.max(value, value_clipped), mask)
    stats = [policy_loss, value_loss, masked_mean((policy_clipped > policy).double(), mask),
             masked_mean((value_clipped > value).double(), mask), 0.5 * masked_mean(difference ** 2, mask),
             masked_mean(ratio, mask), masked_mean(ratio ** 2, mask)]
    return policy_loss + vf_coef * value_loss, stats


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


def main(trl):
    """trl: TRL's module of PPO, or None."""
    random = torch.Generator().manual_seed(SEED)

    def uniform(low, high):
        return single(low + (high - low) * torch.rand(1, generator=random).item())

    out = open(PATH, "w")
    out.write("# losses.h: a case is FAMILY TYPE B CONSTANTS, then B examples; loss and gradients are each example's own\n"
              "# dpo TYPE B beta label_smoothing: chosen rejected ref_chosen ref_rejected chosen_length rejected_length"
              " loss dchosen drejected\n"
              "# kto TYPE B beta kl desirable_weight undesirable_weight: logp ref desirable loss dlogp\n"
              "# orpo - B beta: chosen_mean rejected_mean loss dchosen drejected\n"
              "# reward - B center: chosen rejected margin loss dchosen drejected\n"
              "# kl TYPE B: logp ref kl\n"
              "# gae - B gamma lambda: row mask reward value advantage return\n"
              "# whiten - B shift_mean: mask x whitened\n"
              "# ppo - B cliprange cliprange_value vf_coef, and of the whole batch policy_loss value_loss clip_fraction"
              " value_clip_fraction approx_kl ratio ratio_squared: mask logp old_logp advantage value old_value return"
              " dlogp dvalue\n"
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

    def numbers(*values):
        out.write(" ".join("%.12g" % v for v in values) + "\n")

    def floats(n, low, high):
        return torch.tensor([uniform(low, high) for _ in range(n)], dtype=torch.float64)

    def masked(n):  # two in three, never none
        return torch.tensor([i == 0 or uniform(0, 1) < 0.67 for i in range(n)])

    for center in [0, 0.01, 1]:
        out.write(f"reward - {6 + len(EXTREME)} {center}\n")
        for i in range(6 + len(EXTREME)):
            scores = [uniform(-4, 4), uniform(-4, 4)] if i < 6 else [0.5 * EXTREME[i - 6], -0.5 * EXTREME[i - 6]]
            margin = uniform(0, 2) if i % 2 else 0.0
            out.write(line(scores, [margin], lambda x: reward(center, x[0], x[1], margin)))

    for kind in ["k1", "k3"]:
        out.write(f"kl {kind} {10}\n")
        for i in range(10):
            logp = uniform(-9, 0)
            ref = single(logp + [0, 1e-3, -1e-3, 5, -5, 60][i]) if i < 6 else uniform(-9, 0)
            numbers(logp, ref, kl_term(kind, *torch.tensor([logp, ref], dtype=torch.float64)))

    for gamma, lam in [(1, 0.95), (1, 1), (0.9, 0), (0.99, 0.5)]:
        out.write(f"gae - {1 + 2 + 5 + 12} {gamma} {lam}\n")
        for row, T in enumerate([1, 2, 5, 12]):
            first = row % 3  # tokens of the prompt
            rewards, values = floats(T, -2, 2), floats(T, -2, 2)
            advantages, returns = gae(gamma, lam, rewards[first:], values[first:])
            for t in range(T):
                real = t >= first
                numbers(row, real, rewards[t], values[t], advantages[t - first] if real else 0,
                        returns[t - first] if real else 0)

    for shift_mean in [True, False]:
        for n, low, high in [(12, -3, 3), (40, 99, 100), (30, 0.5, 0.5)]:
            x, mask = floats(n, low, high), masked(n)
            white = masked_whiten(x, mask, shift_mean)
            if trl:  # it counts tokens in float32
                assert torch.allclose(trl.masked_whiten(x, mask, shift_mean)[mask], white[mask], rtol=1e-6, atol=1e-6)
            out.write(f"whiten - {n} {int(shift_mean)}\n")
            for t in range(n):
                numbers(mask[t], x[t], white[t] if mask[t] else x[t])

    for cliprange, cliprange_value, vf_coef in [(0.2, 0.2, 0.1), (0.125, 0.5, 1), (1000, 1000, 0.5)]:
        n = 48
        mask, old_logp, A, old_V, R = masked(n), floats(n, -6, 0), floats(n, -2, 2), floats(n, -1, 1), floats(n, -1, 1)
        logp, V = old_logp + floats(n, -0.6, 0.6), old_V + floats(n, -0.6, 0.6)
        logp[:4] = old_logp[:4]  # ratio 1
        V[2:6] = old_V[2:6]
        A[6:8] = 0
        old_V[8:12], V[8:12] = 0, torch.tensor([1, -1, 1, -1])
        R[8:12] = V[8:12] * (1 + cliprange_value) / 2  # in the middle of V and its clipped form: a tie where exact
        mask[:12] = True
        logp, V = logp.float().double(), V.float().double()
        old_logp, A, old_V, R = (x.float().double() for x in (old_logp, A, old_V, R))
        logp.requires_grad_(), V.requires_grad_()
        loss, stats = ppo(cliprange, cliprange_value, vf_coef, mask, logp, old_logp, A, V, old_V, R)
        loss.backward()
        stats, slopes = [v.item() for v in stats], zip(logp.grad.tolist(), V.grad.tolist())
        if trl:
            ratio = torch.exp(logp - old_logp)
            worse = torch.max(-A * ratio, -A * torch.clamp(ratio, 1 - cliprange, 1 + cliprange))
            assert torch.allclose(trl.masked_mean(worse, mask), torch.tensor(stats[0]).double())
        out.write(f"ppo - {n} {cliprange} {cliprange_value} {vf_coef} " + " ".join("%.12g" % v for v in stats) + "\n")
        for t, (dlogp, dV) in enumerate(slopes):
            numbers(mask[t], logp[t].item(), old_logp[t], A[t], V[t].item(), old_V[t], R[t], dlogp, dV)
    out.close()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trl", metavar="DIR", help="a folder with a TRL that has PPO")
    args = parser.parse_args()
    torch.set_num_threads(1)
    ppo_trainer = None
    if args.trl:
        sys.path.insert(0, args.trl)
        from trl.experimental.ppo import ppo_trainer
    main(ppo_trainer)
