// batches.h: the losses of many examples by the functions of losses.h for one, with the divisors and
// slopes that the programs have in their loops. For tests and measurements, which want arrays; the
// programs' own loops are compared with these by what they train (dev/same_numbers.sh, TRL).
#ifndef BATCHES_H
#define BATCHES_H

#include "../losses.h"

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

// What the papers plot. loss is this split's part of the mean; the others are sums over its pairs.
typedef struct {
    double loss;
    double chosen, rejected; // implicit rewards, beta * r, whatever the loss (as TRL)
    double margin;           // their difference
    int correct;             // pairs whose chosen reward is the larger one; a tie is none
} PairStats;

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

// dreal, dgenerated (B): gradients with respect to the sums real, generated (B); old_real,
// old_generated (B) are the last player's. total: pairs of the whole batch. lambda > 0.
static PairStats spin_loss(float *dreal, float *dgenerated, const float *real,
                           const float *generated, const float *old_real,
                           const float *old_generated, int B, int total, double lambda) {
    return dpo_loss(dreal, dgenerated, real, generated, old_real, old_generated, NULL, NULL, B,
                    total, DPO_SIGMOID, lambda, 0);
}

// loss is this split's part of the mean; chosen and rejected are sums of beta * r over its
// desirable and undesirable examples, n_chosen and n_rejected count them.
typedef struct {
    double loss, chosen, rejected;
    int n_chosen, n_rejected;
} KtoStats;

// dlogp (B): the gradient with respect to the sums logp (B); ref (B); desirable (B): 1 or 0. total:
// examples of the whole batch. beta > 0, weights >= 0.
static KtoStats kto_loss(float *dlogp, const float *logp, const float *ref,
                         const unsigned char *desirable, int B, int total, double kl, KtoLoss type,
                         double beta, double desirable_weight, double undesirable_weight) {
    KtoStats stats = {0};
    const double z = type == KTO_APO_ZERO_UNPAIRED ? 0 : kl;
    for (int i = 0; i < B; i++) {
        const double r = (double)logp[i] - ref[i];
        const double weight = desirable[i] ? desirable_weight : undesirable_weight;
        double slope;
        stats.loss += kto_point(&slope, r, z, desirable[i], beta, weight) / total;
        dlogp[i] = (float)(slope / total);
        if (desirable[i]) stats.chosen += beta * r, stats.n_chosen++;
        else stats.rejected += beta * r, stats.n_rejected++;
    }
    return stats;
}

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
        double slope_c, slope_r, log_odds;
        const double l =
            orpo_point(&slope_c, &slope_r, &log_odds, chosen_mean[i], rejected_mean[i]);
        dchosen[i] = (float)(beta * slope_c / total);
        drejected[i] = (float)(beta * slope_r / total);
        stats.odds_ratio_loss += l / total;
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

// loss is this split's part of the mean; chosen, rejected and margin (of scores, R_c - R_j) are
// sums over its pairs; min and max run over both sides' scores (INFINITY, -INFINITY if B is 0).
typedef struct {
    double loss, chosen, rejected, margin;
    int correct; // pairs whose chosen score is the larger one; a tie is none
    float min, max;
} RewardStats;

// dchosen, drejected (B): gradients with respect to the scores chosen, rejected (B). margin (B) or
// NULL, which is 0 everywhere. total: pairs of the whole batch. center >= 0.
static RewardStats reward_loss(float *dchosen, float *drejected, const float *chosen,
                               const float *rejected, const float *margin, int B, int total,
                               double center) {
    RewardStats stats = {.min = INFINITY, .max = -INFINITY};
    for (int i = 0; i < B; i++) {
        double slope_c, slope_r;
        stats.loss += reward_point(&slope_c, &slope_r, chosen[i], rejected[i],
                                   margin ? margin[i] : 0, center) /
                      total;
        dchosen[i] = (float)(slope_c / total);
        drejected[i] = (float)(slope_r / total);
        stats.chosen += chosen[i];
        stats.rejected += rejected[i];
        stats.margin += (double)chosen[i] - rejected[i];
        stats.correct += chosen[i] > rejected[i];
        for (int side = 0; side < 2; side++) {
            const float score = side ? rejected[i] : chosen[i];
            if (score < stats.min || isnan(score)) stats.min = score; // NaN, once there, stays
            if (score > stats.max || isnan(score)) stats.max = score;
        }
    }
    return stats;
}

// Each is this split's part of a mean over masked tokens. loss = policy_loss + vf_coef value_loss.
typedef struct {
    double policy_loss, value_loss;
    double clip_fraction, value_clip_fraction; // tokens whose clipped loss is the larger one
    double approx_kl;                          // of (log pi - log pi_old)^2 / 2
    double ratio, ratio_squared;               // of rho and rho^2; their variance by difference
} PpoStats;

// dlogp, dvalue (N): gradients with respect to logp and value (N), 0 where mask is 0. old_logp,
// old_value, advantage, returns (N) are of the rollout. total_tokens: masked tokens of the whole
// minibatch. cliprange, cliprange_value > 0, INFINITY for no clipping.
static PpoStats ppo_loss(float *dlogp, float *dvalue, const float *logp, const float *old_logp,
                         const float *advantage, const float *value, const float *old_value,
                         const float *returns, const unsigned char *mask, int N, long total_tokens,
                         double cliprange, double cliprange_value, double vf_coef) {
    PpoStats stats = {0};
    const double total = (double)total_tokens;
    for (int t = 0; t < N; t++) {
        dlogp[t] = dvalue[t] = 0;
        if (!mask[t]) continue;
        const double A = advantage[t], difference = (double)logp[t] - old_logp[t];
        const double rho = exp(difference);
        bool clipped;
        double slope;
        stats.policy_loss += ppo_policy_point(&slope, &clipped, A, rho, cliprange) / total;
        stats.clip_fraction += clipped / total;
        dlogp[t] = (float)(slope / total);
        stats.value_loss +=
            ppo_value_point(&slope, &clipped, value[t], old_value[t], returns[t], cliprange_value) /
            total;
        stats.value_clip_fraction += clipped / total;
        dvalue[t] = (float)(vf_coef * slope / total);

        stats.approx_kl += difference * difference / 2 / total;
        stats.ratio += rho / total;
        stats.ratio_squared += rho * rho / total;
    }
    return stats;
}

#endif
