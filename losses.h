// losses.h: every objective, l, as a function of the one or two numbers that it is about: a pair's
// log-ratios, an example's, a token's, with its slope l'. What goes in, where the slope goes and what
// a mean is divided by is in the program of the method. Nothing here knows models, tokens or files.
//
// Outputs come first, then inputs, then constants; all is double. What is not a number stays not a
// number: no loss turns NaN into something that looks well.
//
//   functions     sigmoid, its log, log(1 - e^x), at any argument
//   SFT           Radford et al. 2018
//   DPO, IPO ..   Rafailov et al. 2023, Azar et al. 2023: pairs, with a reference
//   KTO           Ethayarajh et al. 2024: single examples with a label, with a reference
//   SPIN          Chen et al. 2024: the data against the last player's own completions
//   ORPO          Hong et al. 2024: pairs, without a reference
//   reward model  Stiennon et al. 2020: pairs of scores
//   PPO           Ziegler et al. 2019, Schulman et al. 2016 and 2017: the KL term, its controller,
//                 advantages, whitening, the clipped losses
//
// Names: y is a completion of the prompt x; log pi(y|x) the sum of its tokens' log-probs; ref the
// frozen model that training started from; r = log pi(y|x) - log ref(y|x) its log-ratio, and
// beta * r what DPO calls the implicit reward of y.
#ifndef LOSSES_H
#define LOSSES_H

#include <math.h>
#include <stdbool.h>
#include <stddef.h>

// ------------------------------------------------------------------------------------------------
// Functions. Small values keep their digits, and nothing becomes inf - inf or 0 * inf.

// About e^x far below 0 (and 0 where e^-x is inf). 1 - sigmoid(x) is to be written sigmoid(-x).
static double sigmoid(double x) { return 1 / (1 + exp(-x)); }

// log(sigmoid(x)): about x far below 0, about -e^-x far above it. Its derivative is sigmoid(-x).
static double log_sigmoid(double x) { return (x < 0 ? x : 0) - log1p(exp(-fabs(x))); }

// log(1 - e^x) for x < 0: if x is the log-prob of something, that of anything else. Two forms, as
// Maechler 2012 ("Accurately computing log(1 - exp(-|a|))"): near 0 e^x is nearly 1 and expm1 keeps
// the digits of the difference, far from 0 e^x is small and log1p keeps them. -inf at 0.
static double log1mexp(double x) { return x > -0.693147 ? log(-expm1(x)) : log1p(-exp(x)); }

// x, or the end of [low, high] that it is beyond; NaN stays NaN.
static double clamp(double x, double low, double high) {
    return x < low ? low : x > high ? high : x;
}

// ------------------------------------------------------------------------------------------------
// Supervised fine-tuning: the mean negative log-likelihood of the tokens to be learned
// (Radford et al. 2018, eq. 1, over the completion only when the mask says so).
//
//     loss = -1/M sum over masked t of log p(token t | tokens before t)
//     d loss / d logp[t] = -1/M
//
// M is the number of masked tokens of the whole batch, all its accumulation steps taken together:
// every token weighs the same, however the batch is split and however long its rows are. (TRL's
// SFTTrainer divides by the same number; taking the mean in each split first would favour tokens
// that share their split with few others.)

// ------------------------------------------------------------------------------------------------
// DPO and its relatives: a pair of completions of one prompt, one chosen and one rejected. They all
// are a mean over the pairs of some l(h), where
//
//     h = r_chosen - r_rejected,   r = log pi(y|x) - log ref(y|x),   x = beta h below:
//
//   DPO_SIGMOID   -log sigmoid(x)                          Rafailov et al. 2023, eq. 7 (DPO)
//                 with label smoothing e: -(1-e) log sigmoid(x) - e log sigmoid(-x)
//                                                          Mitchell 2023 (conservative DPO)
//   DPO_ROBUST    (-(1-e) log sigmoid(x) + e log sigmoid(-x)) / (1 - 2e)
//                                                          Chowdhury et al. 2024 (robust DPO)
//   DPO_HINGE     max(0, 1 - x)                            Zhao et al. 2023 (SLiC), with the
//                                                          reference as Liu et al. 2023 (RSO)
//   DPO_IPO_SUM   (h - 1/(2 beta))^2                       Azar et al. 2023, eq. 17 (IPO)
//   DPO_IPO       the same with h = r_chosen / length - r_rejected / length
//
// Smoothing expects a share e < 1/2 of the pairs to be turned round. Conservative DPO fits that
// share: x stops at log((1-e)/e). Robust DPO removes its bias: averaged over the turned pairs it is
// the DPO loss of the true ones, at the price that a single pair's loss has no lower bound.
//
// The gradient follows from d log sigmoid(x) / dx = sigmoid(-x) and dx/dh = beta:
//
//   DPO_SIGMOID   l'(h) =  beta (e sigmoid(x) - (1-e) sigmoid(-x))
//   DPO_ROBUST    l'(h) = -beta (e sigmoid(x) + (1-e) sigmoid(-x)) / (1 - 2e)
//   DPO_HINGE     l'(h) = -beta where x < 1, else 0
//   DPO_IPO*      l'(h) =  2 (h - 1/(2 beta))
//
// and dh/d log pi(chosen) = 1, dh/d log pi(rejected) = -1 (1/length and -1/length in DPO_IPO).
//
// Elsewhere: the DPO authors' code has label smoothing as here; TRL lost it, its "sigmoid" takes
// label_smoothing and ignores it. Which IPO is meant on sequences the paper leaves open, since its
// actions are single tokens: the DPO authors' code sums, TRL divides by length and says that the
// authors of IPO confirmed it. After an empty prompt a completion's first token has no log-prob;
// it does not count in our length, and does in TRL's.

typedef enum { DPO_SIGMOID, DPO_HINGE, DPO_IPO, DPO_IPO_SUM, DPO_ROBUST } DpoLoss;

// l(h) and *slope = l'(h) of one pair.
static double dpo_point(double *slope, double h, DpoLoss type, double beta, double e) {
    const double x = beta * h, gap = h - 0.5 / beta; // gap: IPO's distance from its goal
    switch (type) {
    case DPO_SIGMOID:
        *slope = beta * (e * sigmoid(x) - (1 - e) * sigmoid(-x));
        return -(1 - e) * log_sigmoid(x) - e * log_sigmoid(-x);
    case DPO_ROBUST:
        *slope = -beta * (e * sigmoid(x) + (1 - e) * sigmoid(-x)) / (1 - 2 * e);
        return (-(1 - e) * log_sigmoid(x) + e * log_sigmoid(-x)) / (1 - 2 * e);
    case DPO_HINGE:
        *slope = x >= 1 ? 0 : -beta;
        return x >= 1 ? 0 : 1 - x;
    default: // DPO_IPO and DPO_IPO_SUM: what differs is h
        *slope = 2 * gap;
        return gap * gap;
    }
}

// ------------------------------------------------------------------------------------------------
// SPIN (Chen et al. 2024, eq. 4.7, logistic loss): the policy learns to tell the data's completion
// y of a prompt from the completion y' that its own last version, old, generates for it:
//
//     l = log(1 + e^-x),   x = lambda (log pi(y)/old(y) - log pi(y')/old(y'))
//
// That is DPO with y as chosen, y' as rejected, old as reference and lambda as beta, gradient and
// all; the rewards in the statistics are lambda log pi/old. What makes it SPIN stands in the
// program: y' is sampled from old, and the next iteration's old is the policy that this one made.
//
// What to expect (their theorem 5.4, and a line of algebra): trained to its minimum, an iteration
// makes pi proportional to old (data/old)^(1/lambda), so the log of old/data shrinks by the factor
// 1 - 1/lambda. lambda 1 is there at once, lambda > 1 comes nearer each time, lambda 1/2 goes to
// and fro for ever, and lambda < 1/2 runs away: the authors' 0.1 holds only as long as every
// iteration stops far from its minimum. At old = data the loss is log 2, its expected gradient 0.
//
// Elsewhere: the authors' code calls lambda beta.

// ------------------------------------------------------------------------------------------------
// KTO (Ethayarajh et al. 2024, eq. 8): single completions, each called desirable or undesirable,
// whose value is judged against a reference point z, as people judge gains and losses:
//
//     desirable:    l = desirable_weight   (1 - sigmoid(beta (r - z)))
//     undesirable:  l = undesirable_weight (1 - sigmoid(beta (z - r)))
//     z = max(0, mean of r over mismatched pairs (prompt of one example, completion of another))
//
// z estimates KL(pi || ref) and is a constant in the gradient. It comes from the whole batch, not
// from a split. With s = +1 for desirable, -1 for undesirable, and u = s beta (r - z):
//
//     l = weight sigmoid(-u),   dl/dr = -s weight beta (sigmoid(u) sigmoid(-u)),
//
// a bell around u = 0: what is hopelessly wrong is left alone like what is right long since (the
// paper's proposition 4.1), where DPO would push on.
//
// KTO_APO_ZERO_UNPAIRED is the same with z = 0: APO-zero (D'Oosterlinck et al. 2024) taken apart
// into single examples, a form that TRL has.
//
// Elsewhere: TRL and the authors' code take z from each split alone (so accumulation changes their
// loss), and pair each prompt with the previous and the next completion, respectively. The authors'
// mean leaves out log-ratios that are exactly 0. The paper's loss has weight - weight sigmoid(u),
// the same number.

typedef enum { KTO_KTO, KTO_APO_ZERO_UNPAIRED } KtoLoss;

// z in nats from the log-probs of n mismatched pairs under the policy and the reference.
static double kto_kl(const float *logp, const float *ref, int n) {
    double sum = 0;
    for (int i = 0; i < n; i++) sum += (double)logp[i] - ref[i];
    return n == 0 || sum < 0 ? 0 : sum / n;
}

// l and *slope = dl/dr of one example with log-ratio r. z: 0 for KTO_APO_ZERO_UNPAIRED. weight: that of
// the example's class.
static double kto_point(double *slope, double r, double z, bool desirable, double beta,
                        double weight) {
    const double s = desirable ? 1 : -1, u = s * beta * (r - z);
    *slope = -s * weight * beta * (sigmoid(u) * sigmoid(-u));
    return weight * sigmoid(-u);
}

// ------------------------------------------------------------------------------------------------
// ORPO (Hong et al. 2024, eqs. 6 and 7): no reference; beside the likelihood of the chosen
// completion, the odds of the chosen one against those of the rejected one. With the mean log-prob
// of a completion's tokens a and P = e^a,
//
//     loss = NLL(chosen) + beta L_OR,   L_OR = -log sigmoid(log_odds),        (beta: their lambda)
//     log_odds = log(P_c / (1 - P_c)) - log(P_r / (1 - P_r))
//              = a_c - a_r - (log(1 - e^a_c) - log(1 - e^a_r))
//
// The NLL is that of supervised fine-tuning; the program says over which tokens it runs. From
// d/da (a - log(1 - e^a)) = 1 + P/(1 - P) = 1/(1 - P):
//
//     dL_OR/da_c = -sigmoid(-log_odds) / (1 - P_c),   dL_OR/da_r = +sigmoid(-log_odds) / (1 - P_r):
//
// descent raises the chosen mean and lowers the rejected one. (Their eq. 8 prints the gradient with
// the opposite sign; delta of their eq. 9 is sigmoid(-log_odds) here.)
//
// At P = 1 the odds are infinite. A float holds no probability nearer to 1 than 2^-24, and what
// a float log-prob says beyond is rounding: means above -2^-24 count as -2^-24.
//
// Elsewhere: TRL computes log(1 - e^a) in float by the same two forms, and its NLL runs over prompt
// and completion. The authors' code takes log(sigmoid()) and log1p(-exp()), which overflow, and its
// mean counts one token after the end.

// L_OR of a pair with mean log-probs `chosen` and `rejected`, and its slopes with respect to them.
// *log_odds gets what the paper calls so.
static double orpo_point(double *dchosen, double *drejected, double *log_odds, double chosen,
                         double rejected) {
    const double top = -0x1p-24;
    const double a_c = chosen > top ? top : chosen, a_r = rejected > top ? top : rejected;
    *log_odds = a_c - a_r - (log1mexp(a_c) - log1mexp(a_r));
    const double push = sigmoid(-*log_odds);
    *dchosen = push / expm1(a_c); // expm1(a) = -(1 - P)
    *drejected = -push / expm1(a_r);
    return -log_sigmoid(*log_odds);
}

// ------------------------------------------------------------------------------------------------
// Reward model: people prefer j with the Bradley-Terry probability sigmoid(R_c - R_j) (Stiennon et
// al. 2020, section 3.4; Ziegler et al. 2019, eq. 1, with two completions in place of four). R is
// the score of a prompt with its completion, and a pair's loss
//
//     l = -log sigmoid(d) + center (R_c + R_j)^2,   d = R_c - R_j - margin
//     dl/dR_c = -sigmoid(-d) + 2 center (R_c + R_j)
//     dl/dR_j = +sigmoid(-d) + 2 center (R_c + R_j)
//
// The margin asks for more than a win (Touvron et al. 2023, eq. 2). Only differences of scores
// matter to the first term; the second, small, pins their mean to 0 (Eisenstein et al. 2023).
//
// Elsewhere: TRL's RewardTrainer has the same loss. Ziegler's and Stiennon's code move the trained
// scores to mean 0 on a sample of reference completions, which is the program's business here.

// l of a pair with scores `chosen` and `rejected`, and its slopes with respect to them. center >= 0.
static double reward_point(double *dchosen, double *drejected, double chosen, double rejected,
                           double margin, double center) {
    const double sum = chosen + rejected, d = chosen - rejected - margin;
    *dchosen = -sigmoid(-d) + 2 * center * sum;
    *drejected = sigmoid(-d) + 2 * center * sum;
    return -log_sigmoid(d) + center * sum * sum;
}

// ------------------------------------------------------------------------------------------------
// The KL term of RLHF (Ziegler et al. 2019, eq. 2): the reward of a completion is its score less
// coef * log pi(y|x)/ref(y|x), spread over the tokens of y, so that token t is rewarded with
//
//     -coef kl[t]   (and the score on the last token)
//
// where kl[t] estimates KL(pi || ref) in the state before t from the one token that pi sampled
// there. With d = log pi(token) - log ref(token) (Schulman 2020, "Approximating KL divergence"):
//
//     KL_K1   d                unbiased; of either sign, with a large variance
//     KL_K3   e^-d - 1 + d     unbiased as well; never negative, small where pi is near ref
//
// Both have the right mean, but PPO takes rewards as constants and follows sum pi(a) kl(a) grad log
// pi(a), and that is the gradient of KL(pi || ref) with k1 only: there kl's own derivative is
// grad log pi, of mean 0. With k3 what is missing is sum ref(a) grad log pi(a) and the optimum is
// not ref exp(r / coef) / Z. Worse, k3 grows as e^-d where pi has become rarer than ref, so it
// punishes a token for being rare, and tokens below ref are driven away from it (test_exact.c shows
// both). It measures well; as a reward take k1.
//
// Elsewhere: as TRL and Ziegler's code, but for positions after the end, which TRL lets cancel by a
// log-prob of +1 on both sides. (The post on the details of RLHF prints the reward as +beta kl.)

typedef enum { KL_K1, KL_K3 } KlEstimator;

// kl (N): nats per token, 0 where mask is 0. logp (under the policy that sampled), ref, mask (N).
static void kl_estimate(float *kl, const float *logp, const float *ref, const unsigned char *mask,
                        int N, KlEstimator k) {
    for (int t = 0; t < N; t++) {
        if (!mask[t]) {
            kl[t] = 0;
            continue;
        }
        const double d = (double)logp[t] - ref[t];
        kl[t] = (float)(k == KL_K1 ? d : expm1(-d) + d);
    }
}

// The next coefficient of the KL term (Ziegler et al. 2019, section 2.2), a proportional controller
// in log space: too much KL raises it, too little lowers it, by at most 20% in `horizon` episodes.
// kl: mean over the last `episodes` completions of their summed kl; target: what it should be, > 0.
//
// Elsewhere: as Ziegler's code (horizon 10,000; the paper's 0.1 per update is a batch of 1,024 at
// that horizon). TRL's coefficient is fixed.
static double kl_control(double coef, double kl, double target, double episodes, double horizon) {
    return coef * (1 + clamp(kl / target - 1, -0.2, 0.2) * episodes / horizon);
}

// ------------------------------------------------------------------------------------------------
// Generalised advantage estimation (Schulman et al. 2016, eq. 16): how much better than expected
// token t turned out, from rewards r and the critic's V of the states before each token:
//
//     delta[t] = r[t] + gamma V[t + 1] - V[t]
//     advantage[t] = delta[t] + gamma lambda advantage[t + 1] = sum_l (gamma lambda)^l delta[t + l]
//     returns[t] = advantage[t] + V[t]                    what the critic is to learn
//
// After the last token of a row comes nothing: V and advantage are 0 there. lambda 1 is the reward
// to come less V (no bias, much variance), lambda 0 is delta alone. All of it is constant in the
// policy's gradient.
//
// Elsewhere: TRL adds the score one position after the end where a row has room for it, so that the
// last token sees it through gamma lambda and a V of the state after the end, and trains that V as
// well; where a row fills its room the score is on the last token, as here and in Ziegler's code.

// advantage, returns (N): 0 where mask is 0. reward, value (N): value[t] is V of the state before
// token t. The masked tokens of a row are contiguous; row_start (R + 1).
static void gae(float *advantage, float *returns, const float *reward, const float *value,
                const unsigned char *mask, const int *row_start, int R, double gamma,
                double lambda) {
    for (int r = 0; r < R; r++) {
        double next_advantage = 0, next_value = 0;
        for (int t = row_start[r + 1] - 1; t >= row_start[r]; t--) {
            if (!mask[t]) {
                advantage[t] = returns[t] = 0;
                continue;
            }
            const double delta = reward[t] + gamma * next_value - value[t];
            next_advantage = delta + gamma * lambda * next_advantage;
            next_value = value[t];
            advantage[t] = (float)next_advantage;
            returns[t] = (float)(next_advantage + next_value);
        }
    }
}

// Whitening: x (N) <- (x - mean) / sqrt(variance + 1e-8) over the masked tokens; other tokens are
// neither read nor written. Without shift_mean the mean is added back, as for rewards, whose sign
// means something. The variance is the unbiased one (n - 1), as TRL's; Ziegler's code divides by n.
// A single token has no variance: 0 is taken, so that it becomes 0, or stays (in TRL it is NaN).
static void whiten(float *x, const unsigned char *mask, int N, bool shift_mean) {
    double mean = 0, variance = 0;
    long n = 0;
    for (int t = 0; t < N; t++)
        if (mask[t]) mean += x[t], n++;
    if (n > 0) mean /= (double)n;
    for (int t = 0; t < N; t++)
        if (mask[t]) variance += (x[t] - mean) * (x[t] - mean);
    if (n > 1) variance /= (double)(n - 1);
    const double scale = 1 / sqrt(variance + 1e-8);
    for (int t = 0; t < N; t++)
        if (mask[t]) x[t] = (float)((x[t] - mean) * scale + (shift_mean ? 0 : mean));
}

// ------------------------------------------------------------------------------------------------
// PPO (Schulman et al. 2017, eq. 7): several steps on one set of samples, as long as the policy
// stays near the one that made them. Per token, with rho = pi / pi_old and the advantage A,
//
//     policy:  l = max(-A rho, -A clip(rho, 1 - cliprange, 1 + cliprange))
//     value:   l = 1/2 max((V - R)^2, (V' - R)^2),
//              V' = clip(V, V_old - cliprange_value, V_old + cliprange_value)
//     loss = policy + vf_coef value, means over the masked tokens
//
// (the value's clipping is of their code, not in the paper). With d rho / d log pi = rho:
//
//     dl/dlogp  = -A rho   where -A rho is the larger one, 0 where the clipped one is
//     dl/dvalue =  V - R   where (V - R)^2 is the larger one, 0 where the clipped one is
//
// Inside the clip range the two are one and the same. At a tie outside of it half the gradient
// passes, as PyTorch's max has it. So a token that has moved far enough the way A wants is left
// alone; one that has moved too far the other way is still pulled back, with rho as its weight.
//
// Elsewhere: as TRL's and Ziegler's code token for token, but TRL's mean of the value's loss has
// one position more per row (see GAE above), and its means of approx_kl and ratio count padding.

// The larger of a loss and its clipped form, NaN if either is. *slope: in, the gradient of the
// first; out, that of the larger one. inside: the argument is in the clip range.
static double clipped_max(double *slope, bool *clipped_larger, double plain, double clipped,
                          bool inside) {
    *clipped_larger = clipped > plain;
    if (*clipped_larger) *slope = 0;
    else if (clipped == plain && !inside) *slope /= 2;
    return plain > clipped || isnan(plain) ? plain : clipped;
}

// The policy's l of one token with advantage A, rho = pi / pi_old, and *slope = dl/dlogp. *clipped: the
// clipped loss is the larger one. cliprange > 0, INFINITY for no clipping.
static double ppo_policy_point(double *slope, bool *clipped, double A, double rho,
                               double cliprange) {
    const double near = clamp(rho, 1 - cliprange, 1 + cliprange);
    *slope = -A * rho;
    return clipped_max(slope, clipped, -A * rho, -A * near, near == rho);
}

// The value's l of one token, and *slope = dl/dvalue. cliprange_value > 0, INFINITY for no clipping.
static double ppo_value_point(double *slope, bool *clipped, double value, double old_value,
                              double returns, double cliprange_value) {
    const double gap = value - returns, move = value - old_value;
    const double too_far = move - clamp(move, -cliprange_value, cliprange_value);
    const double gap_near = gap - too_far;
    *slope = gap;
    return clipped_max(slope, clipped, gap * gap / 2, gap_near * gap_near / 2, too_far == 0);
}

#endif
