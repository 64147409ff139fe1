// bandit.h: the smallest policy there is, a softmax over K arms, trained through losses.h. A
// completion is an arm and one token long; what a loss does to it can be written down exactly.
// test/test_exact.c and dev/repro/ipo_bandit.c use it.
#ifndef BANDIT_H
#define BANDIT_H

#include "batches.h"

enum { MAX_ARMS = 8, MAX_PAIRS = 64 };

// Where Adam adds eps. PyTorch and optax to sqrt(v / (1 - beta2^t)), TensorFlow 1 to sqrt(v): the
// second is the first with eps / sqrt(1 - beta2^t), 32 times as much at the first step.
typedef enum { ADAM_TORCH, ADAM_TENSORFLOW } AdamFlavour;

typedef struct {
    int K;                                // arms
    double theta[MAX_ARMS];               // the policy is softmax(theta)
    double pi[MAX_ARMS];                  // the policy
    float logp[MAX_ARMS], ref[MAX_ARMS];  // log-probs of policy and reference
    double dlogp[MAX_ARMS];               // gradient, += by the losses below
    double m[MAX_ARMS], v[MAX_ARMS], eps; // Adam with beta1 0.9, beta2 0.999
    int step;                             // updates made
    AdamFlavour flavour;
} Bandit;

// pi and logp from theta.
static void bandit_forward(Bandit *b) {
    double top = b->theta[0], sum = 0;
    for (int k = 1; k < b->K; k++) top = fmax(top, b->theta[k]);
    for (int k = 0; k < b->K; k++) sum += b->pi[k] = exp(b->theta[k] - top);
    for (int k = 0; k < b->K; k++) {
        b->pi[k] /= sum;
        b->logp[k] = (float)(b->theta[k] - top - log(sum));
    }
}

// A policy that is equal to its reference, probabilities ref (K).
static Bandit bandit_make(int K, const double *ref, AdamFlavour flavour) {
    Bandit b = {.K = K, .eps = 1e-8, .flavour = flavour};
    for (int k = 0; k < K; k++) {
        b.theta[k] = log(ref[k]);
        b.ref[k] = (float)b.theta[k];
    }
    bandit_forward(&b);
    return b;
}

// One Adam update with the gradient, which is zero afterwards, and the new policy. Through the
// softmax, d log pi_a / d theta_k = [a = k] - pi_k.
static void bandit_step(Bandit *b, double lr) {
    double sum = 0;
    for (int k = 0; k < b->K; k++) sum += b->dlogp[k];
    const double t = ++b->step, c1 = 1 - pow(0.9, t), c2 = 1 - pow(0.999, t);
    for (int k = 0; k < b->K; k++) {
        const double g = b->dlogp[k] - b->pi[k] * sum;
        b->m[k] = 0.9 * b->m[k] + 0.1 * g;
        b->v[k] = 0.999 * b->v[k] + 0.001 * g * g;
        if (b->flavour == ADAM_TORCH)
            b->theta[k] -= lr * (b->m[k] / c1) / (sqrt(b->v[k] / c2) + b->eps);
        else b->theta[k] -= lr * sqrt(c2) / c1 * b->m[k] / (sqrt(b->v[k]) + b->eps);
        b->dlogp[k] = 0;
    }
    bandit_forward(b);
}

typedef struct {
    int winner, loser;
} Duel;

// The loss of n pairs of arms; weight times its gradient is added to dlogp.
static PairStats bandit_dpo(Bandit *b, const Duel *duels, int n, DpoLoss type, double beta,
                            double label_smoothing, double weight) {
    float chosen[MAX_PAIRS] = {0}, rejected[MAX_PAIRS] = {0}; // (gcc doubts that n > 0)
    float ref_chosen[MAX_PAIRS] = {0}, ref_rejected[MAX_PAIRS] = {0};
    float dchosen[MAX_PAIRS], drejected[MAX_PAIRS];
    int length[MAX_PAIRS] = {0};
    for (int i = 0; i < n; i++) {
        chosen[i] = b->logp[duels[i].winner], rejected[i] = b->logp[duels[i].loser];
        ref_chosen[i] = b->ref[duels[i].winner], ref_rejected[i] = b->ref[duels[i].loser];
        length[i] = 1;
    }
    PairStats stats = dpo_loss(dchosen, drejected, chosen, rejected, ref_chosen, ref_rejected,
                               length, length, n, n, type, beta, label_smoothing);
    for (int i = 0; i < n; i++) {
        b->dlogp[duels[i].winner] += weight * dchosen[i];
        b->dlogp[duels[i].loser] += weight * drejected[i];
    }
    return stats;
}

// The data sets of Azar et al. 2023, section 5; arms a, b, c are 0, 1, 2 and the winner comes first.
// The third cannot show what the paper says of it: see DATA_3_READ.
static const Duel DATA_1[] = {{0, 1}, {1, 2}, {0, 2}}; // a total order
static const Duel DATA_2[] = {{0, 1}, {1, 2}, {2, 0}}; // a cycle
static const Duel DATA_3[] = {{0, 1}, {1, 0}};         // as printed
// An arm that never wins (b), and a pair (a, c) that is never seen, as the paper's prose has it.
static const Duel DATA_3_READ[] = {{0, 1}, {2, 1}};

#endif
