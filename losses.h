// losses.h: every objective as a function of numbers that a model gives, log-probabilities, scores
// or values, with its gradient. Nothing here knows models, tokens or files.
//
// Outputs come first, then inputs, then sizes and constants. float at the border, double inside,
// and means are taken inside, so a gradient is final as it comes out. Where a batch is worked on in
// splits, each call gets the size of the whole batch: losses and gradients of the splits add up.
// What is not a number stays not a number: no loss turns NaN into something that looks well.
//
//   functions     sigmoid, its log, log(1 - e^x), at any argument
//   row sums      from log-probs of tokens to log-probs of completions, and back
//   SFT           Radford et al. 2018
//   DPO, IPO ..   Rafailov et al. 2023, Azar et al. 2023: pairs, with a reference
//   KTO           Ethayarajh et al. 2024: single examples with a label, with a reference
//   ORPO          Hong et al. 2024: pairs, without a reference
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

// ------------------------------------------------------------------------------------------------
// Row sums: log pi(y|x) = sum over masked t of log p(token t | tokens before t). Row r of a packed
// batch is tokens [row_start[r], row_start[r + 1]), the mask is 1 on completions.

// sum, count (R): the sum of logp and the number of tokens where mask is set; 0 and 0 for a row
// without any. logp, mask (N).
static void row_sum_forward(float *sum, int *count, const float *logp, const unsigned char *mask,
                            const int *row_start, int R) {
    for (int r = 0; r < R; r++) {
        double total = 0;
        count[r] = 0;
        for (int t = row_start[r]; t < row_start[r + 1]; t++)
            if (mask[t]) total += logp[t], count[r]++;
        sum[r] = (float)total;
    }
}

// dlogp (N): every token's log-prob enters its row's sum with factor 1. dsum (R).
static void row_sum_backward(float *dlogp, const float *dsum, const unsigned char *mask,
                             const int *row_start, int R) {
    for (int r = 0; r < R; r++)
        for (int t = row_start[r]; t < row_start[r + 1]; t++) dlogp[t] = mask[t] ? dsum[r] : 0.0f;
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

// dlogp (N): the gradient. It does not depend on logp, so it is there before the forward pass.
static void sft_loss_backward(float *dlogp, const unsigned char *mask, int N, long M) {
    for (int t = 0; t < N; t++) dlogp[t] = mask[t] ? (float)(-1.0 / (double)M) : 0.0f;
}

// This split's part of the loss: the parts of all splits add up to the mean. logp, mask (N).
static double sft_loss_forward(const float *logp, const unsigned char *mask, int N, long M) {
    double sum = 0;
    for (int t = 0; t < N; t++)
        if (mask[t]) sum -= logp[t];
    return sum / (double)M;
}

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

// What the papers plot. loss is this split's part of the mean; the others are sums over its pairs.
typedef struct {
    double loss;
    double chosen, rejected; // implicit rewards, beta * r, whatever the loss (as TRL)
    double margin;           // their difference
    int correct;             // pairs whose chosen reward is the larger one; a tie is none
} PairStats;

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

// dchosen, drejected (B): gradients with respect to the sums chosen, rejected (B); ref_chosen,
// ref_rejected (B) are the reference's sums. Lengths (B) in tokens, read by DPO_IPO only, and taken
// as 1 where 0. total: pairs of the whole batch. beta > 0 (IPO's tau); label_smoothing in
// [0, 1/2), read by DPO_SIGMOID and DPO_ROBUST only.
static PairStats dpo_loss(float *dchosen, float *drejected, const float *chosen,
                          const float *rejected, const float *ref_chosen, const float *ref_rejected,
                          const int *chosen_length, const int *rejected_length, int B, int total,
                          DpoLoss type, double beta, double label_smoothing) {
    PairStats stats = {0};
    for (int i = 0; i < B; i++) {
        const double r_chosen = (double)chosen[i] - ref_chosen[i];
        const double r_rejected = (double)rejected[i] - ref_rejected[i];
        double T_chosen = 1, T_rejected = 1; // what the log-ratios are divided by
        if (type == DPO_IPO && chosen_length[i] > 1) T_chosen = chosen_length[i];
        if (type == DPO_IPO && rejected_length[i] > 1) T_rejected = rejected_length[i];
        const double h = r_chosen / T_chosen - r_rejected / T_rejected;
        double slope;
        stats.loss += dpo_point(&slope, h, type, beta, label_smoothing) / total;
        dchosen[i] = (float)(slope / T_chosen / total);
        drejected[i] = (float)(-slope / T_rejected / total);
        stats.chosen += beta * r_chosen;
        stats.rejected += beta * r_rejected;
        stats.margin += beta * (r_chosen - r_rejected);
        stats.correct += r_chosen > r_rejected;
    }
    return stats;
}

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

// loss is this split's part of the mean; chosen and rejected are sums of beta * r over its
// desirable and undesirable examples, n_chosen and n_rejected count them.
typedef struct {
    double loss, chosen, rejected;
    int n_chosen, n_rejected;
} KtoStats;

// z in nats from the log-probs of n mismatched pairs under the policy and the reference.
static double kto_kl(const float *logp, const float *ref, int n) {
    double sum = 0;
    for (int i = 0; i < n; i++) sum += (double)logp[i] - ref[i];
    return n == 0 || sum < 0 ? 0 : sum / n;
}

// dlogp (B): the gradient with respect to the sums logp (B); ref (B); desirable (B): 1 or 0. total:
// examples of the whole batch. beta > 0, weights >= 0.
static KtoStats kto_loss(float *dlogp, const float *logp, const float *ref,
                         const unsigned char *desirable, int B, int total, double kl, KtoLoss type,
                         double beta, double desirable_weight, double undesirable_weight) {
    KtoStats stats = {0};
    const double z = type == KTO_APO_ZERO_UNPAIRED ? 0 : kl;
    for (int i = 0; i < B; i++) {
        const double r = (double)logp[i] - ref[i];
        const double s = desirable[i] ? 1 : -1, u = s * beta * (r - z);
        const double weight = desirable[i] ? desirable_weight : undesirable_weight;
        stats.loss += weight * sigmoid(-u) / total;
        dlogp[i] = (float)(-s * weight * beta * (sigmoid(u) * sigmoid(-u)) / total);
        if (desirable[i]) stats.chosen += beta * r, stats.n_chosen++;
        else stats.rejected += beta * r, stats.n_rejected++;
    }
    return stats;
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
// The NLL is sft_loss; which tokens it runs over stands in the program. From
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

// loss = beta * odds_ratio_loss, this split's parts of means; the others are sums over its pairs,
// by TRL's definitions.
typedef struct {
    double loss, odds_ratio_loss; // with and without beta; the NLL is not in them
    double log_odds_ratio;        // log sigmoid(log_odds)
    double log_odds_chosen;       // log_odds
    double chosen, rejected;      // beta * mean log-prob
    double margin;                // their difference
    int correct;                  // pairs whose chosen mean is the larger one; a tie is none
} OrpoStats;

// dchosen, drejected (B): gradients of the loss without NLL with respect to the means chosen_mean,
// rejected_mean (B). total: pairs of the whole batch. beta >= 0; 0 leaves the NLL alone.
static OrpoStats orpo_loss(float *dchosen, float *drejected, const float *chosen_mean,
                           const float *rejected_mean, int B, int total, double beta) {
    OrpoStats stats = {0};
    for (int i = 0; i < B; i++) {
        const double top = -0x1p-24;
        const double a_chosen = chosen_mean[i] > top ? top : chosen_mean[i];
        const double a_rejected = rejected_mean[i] > top ? top : rejected_mean[i];
        const double log_odds = a_chosen - a_rejected - (log1mexp(a_chosen) - log1mexp(a_rejected));
        const double push = beta * sigmoid(-log_odds) / total;
        dchosen[i] = (float)(push / expm1(a_chosen)); // expm1(a) = -(1 - P)
        drejected[i] = (float)(-push / expm1(a_rejected));
        stats.odds_ratio_loss -= log_sigmoid(log_odds) / total;
        stats.log_odds_ratio += log_sigmoid(log_odds);
        stats.log_odds_chosen += log_odds;
        stats.chosen += beta * chosen_mean[i];
        stats.rejected += beta * rejected_mean[i];
        stats.margin += beta * ((double)chosen_mean[i] - rejected_mean[i]);
        stats.correct += chosen_mean[i] > rejected_mean[i];
    }
    stats.loss = beta * stats.odds_ratio_loss;
    return stats;
}

#endif
