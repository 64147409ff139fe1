// kl.h: how far a policy is from its reference, summed over the whole vocabulary. At a state s, the
// tokens so far,
//
//     KL(pi || ref)(s) = sum over v of pi(v|s) (log pi(v|s) - log ref(v|s)),
//
// and the mean over sampled completions y of the sum of KL(s) over the states that y passes is the
// KL divergence of the two models' completions, since their log-ratio is a sum over tokens and each
// token's expectation, given its state, is KL(s). The mean of log pi(y|x) - log ref(y|x) estimates
// the same number and has the larger spread: it also depends on which token was drawn.
#ifndef KL_H
#define KL_H

#include "../../model.h"

// The logits (n; row length VP) by which a model predicts from the states of these tokens (n, at
// most HEAD_CHUNK) of the batch that gpt2_forward saw. They are in the first shard's scratch and
// are gone with the next pass.
static const float *kl_logits(const GPT2 *model, const int *sources, int n) {
    const GPT2Config *c = &model->config;
    const int C = c->n_embd, V = c->vocab_size;
    Shard *own = &model->shards[0];
    shard_logits(model, own, HEAD_CHUNK);
    own->logits_held = false;
    for (int i = 0; i < n; i++) {
        const Shard *s = own;
        while (sources[i] < s->token_begin || sources[i] >= s->token_begin + s->N) s++;
        memcpy(own->hidden + (size_t)i * C,
               shard_x(model, s, c->n_layer) + (size_t)(sources[i] - s->token_begin) * C,
               (size_t)C * sizeof(float));
    }
    layernorm_forward(own->hidden, own->head_stats, own->head_stats + HEAD_CHUNK, own->hidden,
                      model->w.ln_f_w, model->w.ln_f_b, n, C, c->layer_norm_epsilon);
    matmul_tied_forward(own->logits, own->hidden, model->w.wte, 1.0f / model->temperature, n, C, V,
                        round_up(V, 16));
    return own->logits;
}

// The divergence of the distributions that logits a and b (V) stand for. logp, ref_logp: their
// log-probabilities of `target`. With z = a - max a and w = b - max b,
//   KL = sum e^z (z - w) / sum e^z - log sum e^z + log sum e^w
static double kl_state(float *logp, float *ref_logp, const float *a, const float *b, int V,
                       int target) {
    const float max_a = max_of(a, V), max_b = max_of(b, V);
    double sum_a = 0, sum_b = 0, cross = 0;
    for (int begin = 0; begin < V; begin += 256) { // float in a block, double over the blocks
        const int end = begin + 256 < V ? begin + 256 : V;
        float block_a = 0, block_b = 0, block_cross = 0;
#pragma omp simd reduction(+ : block_a, block_b, block_cross)
        for (int v = begin; v < end; v++) {
            const float z = a[v] - max_a, w = b[v] - max_b, e = exp_poly(z);
            block_a += e, block_b += exp_poly(w), block_cross += e * (z - w);
        }
        sum_a += (double)block_a, sum_b += (double)block_b, cross += (double)block_cross;
    }
    const double lse_a = log(sum_a), lse_b = log(sum_b);
    *logp = (float)((double)(a[target] - max_a) - lse_a);
    *ref_logp = (float)((double)(b[target] - max_b) - lse_b);
    return cross / sum_a - lse_a + lse_b;
}

// kl, logp, ref_logp (N): for each masked token of the batch that both models' gpt2_forward saw
// last, the divergence KL(model || ref) in the state before it and the token's log-probabilities; 0
// elsewhere. Both models divide their logits by their own temperature and have one vocabulary.
static void kl_forward(float *kl, float *logp, float *ref_logp, const GPT2 *model,
                       const GPT2 *ref) {
    const Batch *b = model->batch;
    const int V = model->config.vocab_size, VP = round_up(V, 16);
    int sources[HEAD_CHUNK], targets[HEAD_CHUNK], n = 0, r = 0;
    for (int t = 0; t < b->N; t++) kl[t] = logp[t] = ref_logp[t] = 0;
    for (int t = 0; t <= b->N; t++) {
        if (t < b->N) {
            while (t == b->row_start[r + 1]) r++;
            const bool child_begins = t == b->row_start[r] && b->parent[r] >= 0;
            if (b->mask[t]) {
                sources[n] = child_begins ? b->row_start[b->parent[r] + 1] - 1 : t - 1;
                targets[n++] = t;
            }
        }
        if (n == 0 || (n < HEAD_CHUNK && t < b->N)) continue;
        const float *a = kl_logits(model, sources, n), *q = kl_logits(ref, sources, n);
#pragma omp parallel for
        for (int i = 0; i < n; i++) {
            const int at = targets[i];
            kl[at] = (float)kl_state(&logp[at], &ref_logp[at], a + (size_t)i * VP,
                                     q + (size_t)i * VP, V, b->tokens[at]);
        }
        n = 0;
    }
}

#endif
