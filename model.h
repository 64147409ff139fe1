// model.h: GPT-2, forward and backward, in one scroll (Radford et al. 2019). From top to bottom:
//
//   config and tensors   the table of all weights; memory; random initialisation
//   layers               matmul, LayerNorm, attention, GELU, embedding: backward below forward
//   the model            gpt2_forward and gpt2_backward
//   heads                log-probabilities of tokens and of rows; one scalar per token
//   AdamW                clipping, the update
//   the machine          how products are made here
//
// Conventions. N tokens of R rows are back to back without padding (Batch in common.h), so
// everything but attention sees a matrix of N rows. C channels, L layers, NH heads of HS = C / NH
// channels, I inner channels of the MLP (4C), V vocabulary. All matrices are row-major, weights are
// (in, out) as GPT-2 stores them: y = x W + b. `d` marks a gradient. Gradients of weights
// accumulate (+=) and AdamW leaves them zero; gradients of activations are overwritten (=) unless
// the comment says otherwise. There is no dropout: alignment methods turn it off.
//
// Linear layers and attention tiles are OpenBLAS's sgemm (with --bf16 linear layers, and on a CPU
// with AMX attention too, are bf16.h's); the rest is plain C that the compiler vectorises. float
// throughout, double where many numbers are summed into one.
#ifndef MODEL_H
#define MODEL_H

#include "lib/base/common.h"
#include "batch.h"
#include "lib/base/machine.h"
#include "lib/base/bf16.h"
#include "lib/base/blas.h"
#include <omp.h>

// ------------------------------------------------------------------------------------------------
// Profile: with -DPROFILE the layers below note how long they take, by parts (dev/bench.c). A layer
// begins with
//
//     Profile scope __attribute__((cleanup(profile_end), unused)) = profile_begin(PART_NORM);
//
// and its end ends the scope. Without -DPROFILE nothing of this remains.

// clang-format off
enum { PART_LINEAR, PART_LINEAR_BACK, PART_HEAD, PART_ATT, PART_ATT_BACK, PART_NORM, PART_GELU,
       PART_EMBED, PARTS };
// clang-format on
typedef struct {
    int part;
    double began; // < 0: not counted
} Profile;

#ifdef PROFILE
static double profile_seconds[PARTS]; // of the first thread
static int profile_depth;             // a layer inside of another is a part of that one

static Profile profile_begin(int part) {
    const bool counted = omp_get_thread_num() == 0 && profile_depth++ == 0;
    return (Profile){part, counted ? seconds_now() : -1};
}

static void profile_end(const Profile *p) {
    if (omp_get_thread_num() == 0) profile_depth--;
    if (p->began >= 0) profile_seconds[p->part] += seconds_now() - p->began;
}
#else
static Profile profile_begin(int part) { return (Profile){part, -1}; }
static void profile_end(const Profile *p) { (void)p; }
#endif

// ------------------------------------------------------------------------------------------------
// Config and tensors

typedef struct {
    int vocab_size, n_positions, n_embd, n_layer, n_head, n_inner;
    float layer_norm_epsilon, initializer_range;
    int bos_token_id, eos_token_id, pad_token_id; // -1: none
    bool score_head;                              // has score.weight: a reward model or a critic
} GPT2Config;

// The one table of weights: field, rows, columns (0: a vector), name on disk, weight decay. It is
// a macro that takes a macro, so that the struct of pointers, the sizes, the names on disk and the
// decay groups all come from these lines.
#define GPT2_OUTER_TENSORS(X)                                                                      \
    X(wte, V, C, "wte.weight", true)                                                               \
    X(wpe, P, C, "wpe.weight", true)                                                               \
    X(ln_f_w, C, 0, "ln_f.weight", false)                                                          \
    X(ln_f_b, C, 0, "ln_f.bias", false)                                                            \
    X(score, S, C, "score.weight", true)
#define GPT2_LAYER_TENSORS(X)                                                                      \
    X(ln_1_w, C, 0, "ln_1.weight", false)                                                          \
    X(ln_1_b, C, 0, "ln_1.bias", false)                                                            \
    X(attn_w, C, 3 * C, "attn.c_attn.weight", true)                                                \
    X(attn_b, 3 * C, 0, "attn.c_attn.bias", false)                                                 \
    X(attn_proj_w, C, C, "attn.c_proj.weight", true)                                               \
    X(attn_proj_b, C, 0, "attn.c_proj.bias", false)                                                \
    X(ln_2_w, C, 0, "ln_2.weight", false)                                                          \
    X(ln_2_b, C, 0, "ln_2.bias", false)                                                            \
    X(fc_w, C, I, "mlp.c_fc.weight", true)                                                         \
    X(fc_b, I, 0, "mlp.c_fc.bias", false)                                                          \
    X(fc_proj_w, I, C, "mlp.c_proj.weight", true)                                                  \
    X(fc_proj_b, C, 0, "mlp.c_proj.bias", false)

#define FIELD(field, rows, cols, name, decay) float *field;
typedef struct {
    GPT2_LAYER_TENSORS(FIELD)
} LayerWeights;
typedef struct {
    GPT2_OUTER_TENSORS(FIELD)
    LayerWeights *h; // (L)
} Weights;
#undef FIELD

typedef struct {
    char name[48];       // as Hugging Face names it, without "transformer."
    int rows, cols;      // cols 0: a vector of `rows`
    size_t offset, size; // in floats, into params; offsets are multiples of 16
    bool decay;          // weight decay applies: not for biases and LayerNorm
} Tensor;

// What the language-model head sees on the way of each masked token's prediction.
typedef struct {
    float entropy; // nats
    float logit;   // the mean over the vocabulary
    float correct; // 1: the token was the arg max
} TokenStats;

// The same summed over tokens.
typedef struct {
    double entropy, logit;
    int64_t correct, count; // count: tokens
} HeadStats;

// What one worker keeps of its rows between forward and backward. A large model has one shard,
// and every matrix product inside uses all threads. A small model is faster with one shard per
// thread: each takes a part of the rows through all layers alone, with gradients of its own.
typedef struct {
    int row_begin, row_end; // rows of the batch that belong to this shard
    int token_begin, N;     // their tokens
    int max_N, max_T;       // capacities
    float *memory;          // all of the below, one block
    // Kept for the backward pass, per layer (only one layer's worth when nothing is to be kept).
    float *x;   // (L + 1, N, C) the residual stream before each layer, and after the last
    float *qkv; // (L, N, 3C)
    float *att; // (L, N, C) attention output
    float *lse; // (L, N, NH) log-sum-exp of attention scores
    float *mid; // (L, N, C) residual stream between attention and MLP
    float *fc;  // (L, N, I) before GELU
    float *mean_1, *rstd_1, *mean_2, *rstd_2; // (L, N) LayerNorm statistics
    // Scratch of one layer.
    float *mean_f, *rstd_f;  // (N) statistics of ln_f, for the scalar head
    float *norm;             // (N, C) LayerNorm output, recomputed in the backward pass
    float *dx;               // (N, C) gradient of the residual stream
    float *dnorm;            // (N, C)
    float *strips;           // (threads, attention_room) attention scores
    float *hidden, *dhidden; // (HEAD_CHUNK, C) rows gathered for a head
    float *head_stats;       // (HEAD_CHUNK, 2) mean, rstd
    int *targets, *sources;  // (HEAD_CHUNK) tokens to predict, tokens whose states predict them
    // One block for two uses, since no layer runs while the head needs its logits.
    float *wide;
    size_t wide_size;    // in floats
    float *gelu;         // (N, I) GELU output, recomputed in the backward pass
    float *dfc;          // (N, I)
    float *dqkv;         // (N, 3C)
    float *logits;       // (logits_room, VP), the same memory; no room until a head asks
    int logits_room;     // in tokens, at most HEAD_CHUNK
    bool logits_held;    // they are those of all masked tokens of the batch
    float *grads_memory; // private gradients, NULL for the first shard
    Weights grads;
    HeadStats stats;
} Shard;

typedef struct {
    GPT2Config config;
    int n_tensors;
    Tensor *tensors;
    size_t n_floats; // length of params: the tensors and the gaps between them
    float *params, *grads, *adam_m, *adam_v; // the last three are NULL until gpt2_train_begin
    Weights w;                               // pointers into params
    uint64_t weights_stamp;                  // no other weights in this process have this number
    int64_t adam_step;                       // AdamW updates made
    float temperature; // the language-model head divides logits by it; 1 unless a program sets it
    bool recompute;    // keep only the residual stream and run each layer again in the backward
    int n_shards;
    Shard *shards;
    const Batch *batch; // what gpt2_forward saw last
} GPT2;

enum { HEAD_CHUNK = 1024, TARGETS_CHUNK = 256 }; // tokens whose logits exist at a time

// A vocabulary row of logits is padded to whole cache lines.
static int round_up(int n, int to) { return (n + to - 1) / to * to; }

// Whoever has written params calls this: the weights get a new number, by which a sampler that keeps
// a packed copy of them (sample.h) sees that it is old. The functions of this file call it
// themselves. A number is never given twice, so no two models can be taken for each other.
static void weights_changed(GPT2 *model) {
    static uint64_t last;
    model->weights_stamp = ++last;
}

// Number of weights, gaps not counted: 124,439,808 for GPT-2 small.
static size_t gpt2_count_params(const GPT2 *model) {
    size_t n = 0;
    for (int i = 0; i < model->n_tensors; i++) n += model->tensors[i].size;
    return n;
}

// Whether the weights of one model fit the other.
static bool gpt2_same_shape(const GPT2 *a, const GPT2 *b) {
    return a->config.n_embd == b->config.n_embd && a->config.n_head == b->config.n_head &&
           a->config.n_layer == b->config.n_layer && a->n_floats == b->n_floats;
}

// Append one line of the table. A tensor of no rows (score.weight of a model without the score
// head) gets no entry.
static void gpt2_add_tensor(GPT2 *model, const char *name, int rows, int cols, bool decay) {
    if (rows == 0) return;
    Tensor *t = &model->tensors[model->n_tensors++];
    snprintf(t->name, sizeof t->name, "%s", name);
    t->rows = rows, t->cols = cols, t->decay = decay;
    t->offset = model->n_floats;
    t->size = size_product((size_t)rows, cols ? (size_t)cols : 1);
    model->n_floats += (t->size + 15) / 16 * 16;
}

// Point the fields of w into memory (n_floats), in the order of the table.
static void weights_place(Weights *w, float *memory, const GPT2 *model) {
    const Tensor *t = model->tensors;
    const int V = model->config.vocab_size, P = model->config.n_positions;
    const int C = model->config.n_embd, S = model->config.score_head;
    if (!w->h) w->h = mem_alloc((size_t)model->config.n_layer, sizeof *w->h);
#define PLACE(field, rows, cols, name, decay) w->field = (rows) ? memory + (t++)->offset : NULL;
#define PLACE_LAYER(field, rows, cols, name, decay) w->h[l].field = memory + (t++)->offset;
    GPT2_OUTER_TENSORS(PLACE)
    for (int l = 0; l < model->config.n_layer; l++) {
        GPT2_LAYER_TENSORS(PLACE_LAYER)
    }
#undef PLACE
#undef PLACE_LAYER
}

// Build the tensor table and zeroed params for a checked config. Dies when memory runs out.
static void gpt2_create(GPT2 *model, GPT2Config config) {
    *model = (GPT2){.config = config, .temperature = 1};
    const int V = config.vocab_size, P = config.n_positions, C = config.n_embd, I = config.n_inner;
    const int S = config.score_head;
    model->tensors = mem_alloc(5 + (size_t)config.n_layer * 12, sizeof(Tensor));
#define ADD(field, rows, cols, name, decay) gpt2_add_tensor(model, name, rows, cols, decay);
#define ADD_LAYER(field, rows, cols, name, decay)                                                  \
    snprintf(full, sizeof full, "h.%d.%s", l, name);                                               \
    gpt2_add_tensor(model, full, rows, cols, decay);
    GPT2_OUTER_TENSORS(ADD)
    for (int l = 0; l < config.n_layer; l++) {
        char full[48];
        GPT2_LAYER_TENSORS(ADD_LAYER)
    }
#undef ADD
#undef ADD_LAYER
    model->params = mem_floats(model->n_floats);
    weights_changed(model);
    weights_place(&model->w, model->params, model);
    // Measured (dev/bench.c): up to 256 channels whole rows per thread are faster, above that
    // threaded products are as fast and need no second copy of the gradients.
    model->n_shards = C <= 256 ? omp_get_max_threads() : 1;
    model->shards = mem_alloc((size_t)model->n_shards, sizeof(Shard));
}

// GPT-2's initialisation: N(0, initializer_range) for matrices, the two projections that write
// into the residual stream scaled by 1 / sqrt(2L), LayerNorm weights 1, all biases 0. The value of
// a weight depends on seed, tensor and index only, not on the number of threads.
static void gpt2_init_random(GPT2 *model, uint64_t seed) {
    for (int i = 0; i < model->n_tensors; i++) {
        const Tensor *t = &model->tensors[i];
        float *p = model->params + t->offset;
        bool residual = strstr(t->name, "c_proj.weight") != NULL;
        double sd = model->config.initializer_range;
        if (residual) sd /= sqrt(2.0 * model->config.n_layer);
        if (!t->cols) {
            float value = strstr(t->name, "weight") ? 1.0f : 0.0f;
            for (size_t k = 0; k < t->size; k++) p[k] = value;
            continue;
        }
#pragma omp parallel for
        for (size_t k = 0; k < t->size; k++) {
            Rng r = rng_make(seed, RNG_INIT + ((uint64_t)i << 8));
            r.counter = 2 * k; // two uniforms make one normal
            p[k] = (float)(sd * rng_normal(&r));
        }
    }
    weights_changed(model);
}

// The weights of `to` become those of `from`, a model of the same shape.
static void gpt2_copy_weights(GPT2 *to, const GPT2 *from) {
    memcpy(to->params, from->params, from->n_floats * sizeof(float));
    weights_changed(to);
}

// to = share * from + (1 - share) * to, weight by weight: a reference that follows a policy
// (Gorbatovski et al. 2024, soft update).
static void gpt2_mix(GPT2 *to, const GPT2 *from, double share) {
    const float alpha = (float)share;
#pragma omp parallel for simd
    for (size_t i = 0; i < from->n_floats; i++)
        to->params[i] = alpha * from->params[i] + (1 - alpha) * to->params[i];
    weights_changed(to);
}

// Allocate gradients and AdamW's moments: a model without them is forward only and keeps no
// activations. With `recompute` the activations of one layer are kept at a time and each layer runs
// again in the backward pass: 1/3 more work for much less memory in long rows.
static void gpt2_train_begin(GPT2 *model, bool recompute) {
    model->recompute = recompute;
    model->grads = mem_floats(model->n_floats);
    model->adam_m = mem_floats(model->n_floats);
    model->adam_v = mem_floats(model->n_floats);
    for (int s = 0; s < model->n_shards; s++) {
        Shard *shard = &model->shards[s];
        shard->max_N = 0; // a forward-only shard had less room
        if (s > 0) shard->grads_memory = mem_floats(model->n_floats);
        weights_place(&shard->grads, s ? shard->grads_memory : model->grads, model);
    }
}

static void gpt2_free(GPT2 *model) {
    for (int s = 0; s < model->n_shards; s++) {
        Shard *shard = &model->shards[s];
        free(shard->memory), free(shard->targets), free(shard->wide);
        free(shard->grads_memory), free(shard->grads.h);
    }
    free(model->shards), free(model->tensors), free(model->w.h);
    free(model->params), free(model->grads), free(model->adam_m), free(model->adam_v);
    *model = (GPT2){0};
}

// ------------------------------------------------------------------------------------------------
// Elementary functions that vectorise

// e^x within 2 ulp: x = n ln 2 + r, e^r by its series to r^6, 2^n by the exponent bits. Clamped
// to the range of normal floats; NaN stays NaN.
static inline float exp_poly(float x) {
    // x into [-87, 88] by masks: as a choice between floats GCC 12 makes branches of it for AVX2,
    // and no loop with an exp in it becomes one of vectors
    int32_t word, above = -(x > 88.0f), below = -(x < -87.0f);
    memcpy(&word, &x, 4);
    word = (word & ~above) | (0x42B00000 & above);          // 88
    word = (word & ~below) | ((int32_t)0xC2AE0000 & below); // -87
    memcpy(&x, &word, 4);
    const float magic = 12582912.0f; // 1.5 * 2^23: adding it rounds to the nearest integer
    float n = x * 1.44269504f + magic;
    int32_t bits;
    memcpy(&bits, &n, 4);
    n -= magic;
    float r = (x - n * 0.693359375f) + n * 2.12194440e-4f; // ln 2 in two parts
    float e = 1.0f / 720;
    e = e * r + 1.0f / 120;
    e = e * r + 1.0f / 24;
    e = e * r + 1.0f / 6;
    e = e * r + 0.5f;
    e = e * r + 1.0f;
    e = e * r + 1.0f;
    float scale;
    int32_t power = (int32_t)((uint32_t)bits << 23) + 0x3F800000;
    memcpy(&scale, &power, 4);
    return e * scale;
}

// The largest of x (n); 16 lanes, since compilers hesitate to reorder a plain maximum.
static inline float max_of(const float *x, int n) {
    float lane[16], m = -INFINITY;
    int i = 0;
    for (int k = 0; k < 16; k++) lane[k] = -INFINITY;
    for (; i + 16 <= n; i += 16)
        for (int k = 0; k < 16; k++) lane[k] = x[i + k] > lane[k] ? x[i + k] : lane[k];
    for (int k = 0; k < 16; k++) m = lane[k] > m ? lane[k] : m;
    for (; i < n; i++) m = x[i] > m ? x[i] : m;
    return m;
}

static inline float dot(const float *x, const float *y, int n) {
    float s = 0;
#pragma omp simd reduction(+ : s)
    for (int i = 0; i < n; i++) s += x[i] * y[i];
    return s;
}

// ------------------------------------------------------------------------------------------------
// Matmul: all products of linear layers and of the language-model head come through here.

// --bf16 sets this before the first pass. It is the process's, as the number of threads is, and not
// a model's.
static bool use_bf16;

// out (M, N; rows ld apart) = start + scale A B, by OpenBLAS in float or by bf16.h. A is (M, K) and
// B (K, N), each with rows lda or ldb apart; transposed, it is (K, M) or (N, K) in memory. start
// (M, N; rows start_ld apart) is NULL for 0, or out itself, or with start_ld 0 one row for all.
static void product(float *out, int ld, const float *a, int lda, bool a_transposed, const float *b,
                    int ldb, bool b_transposed, int M, int N, int K, float scale,
                    const float *start, int start_ld) {
    if (use_bf16) {
        bf16_product(out, ld, a, lda, a_transposed, b, ldb, b_transposed, M, N, K, scale, start,
                     start_ld);
        return;
    }
    lay_down(out, ld, start, start_ld, M, N);
    float_product(out, ld, a, lda, a_transposed, b, ldb, b_transposed, M, N, K, scale,
                  start != NULL);
}

// out (N, OC) = residual (N, OC) + bias (OC) + inp (N, C) W (C, OC). residual and bias may be NULL.
// The product starts from them: from one as it is, from their sum once that is laid down in out.
// residual may be out itself.
static void matmul_forward(float *out, const float *inp, const float *weight, const float *bias,
                           const float *residual, int N, int C, int OC) {
    Profile scope __attribute__((cleanup(profile_end), unused)) = profile_begin(PART_LINEAR);
    const float *start = residual ? residual : bias;
    int start_ld = residual ? OC : 0;
    if (residual && bias) {
#pragma omp parallel for
        for (int t = 0; t < N; t++) {
            float *o = out + (size_t)t * OC;
            const float *r = residual + (size_t)t * OC;
            for (int i = 0; i < OC; i++) o[i] = r[i] + bias[i];
        }
        start = out;
    }
    product(out, OC, inp, C, false, weight, OC, false, N, OC, C, 1.0f, start, start_ld);
}

// dinp (N, C) = dout (N, OC) W^T;   dW (C, OC) += inp^T dout;   dbias (OC) += column sums of dout.
// dinp NULL skips the first; dweight NULL skips the others (so that a caller can recompute inp
// between the two, when dinp is what it is recomputed with).
static void matmul_backward(float *dinp, float *dweight, float *dbias, const float *dout,
                            const float *inp, const float *weight, int N, int C, int OC) {
    Profile scope __attribute__((cleanup(profile_end), unused)) = profile_begin(PART_LINEAR_BACK);
    if (dinp) product(dinp, C, dout, OC, false, weight, OC, true, N, C, OC, 1.0f, NULL, 0);
    if (!dweight) return;
    product(dweight, OC, inp, C, true, dout, OC, false, C, OC, N, 1.0f, dweight, OC);
    // Threads split the columns, so the order of the sum does not depend on their number.
    const int block = 64;
#pragma omp parallel for
    for (int i0 = 0; i0 < OC; i0 += block) {
        float sum[64] = {0};
        int n = OC - i0 < block ? OC - i0 : block;
        for (int t = 0; t < N; t++)
            for (int i = 0; i < n; i++) sum[i] += dout[(size_t)t * OC + i0 + i];
        for (int i = 0; i < n; i++) dbias[i0 + i] += sum[i];
    }
}

// The head's product with the tied embedding: logits (N, V; row length VP) = scale h (N, C) wte^T
// (C, V), where the scale is 1 / temperature.
static void matmul_tied_forward(float *logits, const float *h, const float *wte, float scale, int N,
                                int C, int V, int VP) {
    product(logits, VP, h, C, false, wte, C, true, N, V, C, scale, NULL, 0);
}

// dh (N, C) = scale dlogits wte;   dwte (V, C) += scale dlogits^T h.
static void matmul_tied_backward(float *dh, float *dwte, const float *dlogits, const float *h,
                                 const float *wte, float scale, int N, int C, int V, int VP) {
    product(dh, C, dlogits, VP, false, wte, C, false, N, C, V, scale, NULL, 0);
    product(dwte, C, dlogits, VP, true, h, C, false, V, C, N, scale, dwte, C);
}

// ------------------------------------------------------------------------------------------------
// LayerNorm: out = (x - mean) / sqrt(var + eps) * w + b, over the channels of each token.

// inp, out (N, C); mean, rstd (N); w, b (C).
static void layernorm_forward(float *out, float *mean, float *rstd, const float *inp,
                              const float *w, const float *b, int N, int C, float eps) {
    Profile scope __attribute__((cleanup(profile_end), unused)) = profile_begin(PART_NORM);
#pragma omp parallel for
    for (int t = 0; t < N; t++) {
        const float *x = inp + (size_t)t * C;
        float *o = out + (size_t)t * C;
        float m = 0, v = 0;
#pragma omp simd reduction(+ : m)
        for (int i = 0; i < C; i++) m += x[i];
        m /= (float)C;
#pragma omp simd reduction(+ : v)
        for (int i = 0; i < C; i++) v += (x[i] - m) * (x[i] - m);
        float s = 1.0f / sqrtf(v / (float)C + eps);
        for (int i = 0; i < C; i++) o[i] = (x[i] - m) * s * w[i] + b[i];
        mean[t] = m, rstd[t] = s;
    }
}

// With xhat = (x - mean) rstd and g = dout * w:  dinp += rstd (g - mean(g) - xhat mean(g xhat)),
// dw += sum of dout xhat, db += sum of dout. Also writes out = xhat w + b again, which the weight
// gradient of the next product needs and the forward pass did not keep. dinp accumulates: it is
// the residual stream's gradient.
static void layernorm_backward(float *dinp, float *dw, float *db, float *out, const float *dout,
                               const float *inp, const float *mean, const float *rstd,
                               const float *w, const float *b, int N, int C) {
    Profile scope __attribute__((cleanup(profile_end), unused)) = profile_begin(PART_NORM);
#pragma omp parallel for
    for (int t = 0; t < N; t++) {
        const float *x = inp + (size_t)t * C, *dy = dout + (size_t)t * C;
        float *dx = dinp + (size_t)t * C, *o = out + (size_t)t * C;
        float m = mean[t], s = rstd[t], g_sum = 0, gx_sum = 0;
#pragma omp simd reduction(+ : g_sum, gx_sum)
        for (int i = 0; i < C; i++) {
            float g = dy[i] * w[i];
            g_sum += g, gx_sum += g * (x[i] - m) * s;
        }
        g_sum /= (float)C, gx_sum /= (float)C;
        for (int i = 0; i < C; i++) {
            float xhat = (x[i] - m) * s;
            dx[i] += s * (dy[i] * w[i] - g_sum - xhat * gx_sum);
            o[i] = xhat * w[i] + b[i];
        }
    }
    const int block = 64;
#pragma omp parallel for
    for (int i0 = 0; i0 < C; i0 += block) { // columns again, as in matmul_backward
        float sum_w[64] = {0}, sum_b[64] = {0};
        int n = C - i0 < block ? C - i0 : block;
        for (int t = 0; t < N; t++) {
            const float *x = inp + (size_t)t * C + i0, *dy = dout + (size_t)t * C + i0;
            float m = mean[t], s = rstd[t];
            for (int i = 0; i < n; i++) sum_w[i] += dy[i] * (x[i] - m) * s, sum_b[i] += dy[i];
        }
        for (int i = 0; i < n; i++) dw[i0 + i] += sum_w[i], db[i0 + i] += sum_b[i];
    }
}

// ------------------------------------------------------------------------------------------------
// Causal self-attention, per row and head: S = Q K^T / sqrt(HS), P = softmax(S), out = P V.
// A tile of queries at a time meets all keys to its left: the strip of scores (queries, keys) stays
// in the cache, the keys to the right are never touched and no T x T matrix is kept. The backward
// pass makes P again from the log-sum-exp of each query (Dao et al. 2022). A child row sees its
// parent's keys first, then its own: the strip has both, side by side.
//
// Products are OpenBLAS's sgemm, also with --bf16, but for the CPU that has AMX: there they are
// AMX's, and Q, K, V, P and the gradients that meet them are rounded to bfloat16, as they are in
// PyTorch's scaled_dot_product_attention under autocast.

// One row and head: where its queries, keys and values are.
typedef struct {
    int T, before;      // tokens of the row, and of its parent (0: none)
    size_t own, parent; // offsets of their first q in qkv; k and v are C and 2C after it
    size_t token;       // the row's first token, counted in the shard
    int HS, stride, ld; // head size; from token to token in qkv; from row to row in a strip
} Heads;

static Heads attention_locate(const Batch *b, int first_row, int r, int h, int C, int NH,
                              int max_T) {
    const int p = b->parent[r], first = b->row_start[first_row];
    Heads a = {.T = b->row_start[r + 1] - b->row_start[r], .HS = C / NH, .stride = 3 * C};
    a.token = (size_t)(b->row_start[r] - first);
    a.own = a.token * 3 * C + (size_t)h * a.HS;
    if (p >= 0) {
        a.before = b->row_start[p + 1] - b->row_start[p];
        a.parent = (size_t)(b->row_start[p] - first) * 3 * C + (size_t)h * a.HS;
    }
    a.ld = round_up(max_T, 16);
    return a;
}

// What a thread multiplies with: sgemm, or AMX and memory to pack into.
typedef struct {
    bool amx;
    int queries;    // in a tile: with AMX the factors that are packed anew for each should be rarer
    uint32_t *room; // the rest of the thread's memory; what is packed stays at its beginning
} Tiles;

// The right factor B (K, N) of products: as it is, at x[k ld + n] or, transposed, at x[n ld + k];
// and with AMX packed.
typedef struct {
    const float *x;
    int ld;
    bool transposed;
    const uint32_t *panels;
    size_t panel_words;
} RightFactor;

enum { QUERY_TILE = 64, QUERY_TILE_AMX = 128 };

// Floats that a thread needs in `strips` for rows of up to T tokens: two strips of scores, then
// room for panels (two numbers to a word). Right factors: three of (T, HS), of a row and of its
// parent, and two of (queries, HS). A left one: (queries, T) or its transpose.
static size_t attention_room(int T, int HS) {
    const size_t keys = (size_t)round_up(T, 32) + 32, width = (size_t)round_up(HS, 32);
    const size_t strips = 2 * (size_t)QUERY_TILE_AMX * (size_t)round_up(T, 16);
    return strips + (3 * keys * width + 2 * QUERY_TILE_AMX * width + QUERY_TILE_AMX * keys) / 2;
}

// A thread begins a task: memory (attention_room) <- two strips, whose rows are ld floats,
// and room.
static Tiles tiles_begin(float *memory, int ld) {
    Tiles t = {.amx = use_bf16 && bf16_road == BF16_AMX};
    t.queries = t.amx ? QUERY_TILE_AMX : QUERY_TILE;
    t.room = (uint32_t *)(memory + (size_t)2 * QUERY_TILE_AMX * ld);
    if (t.amx) amx_begin();
    return t;
}

static void tiles_end(const Tiles *t) {
    if (t->amx) amx_end();
}

// x as the right factor of any number of products; with AMX it is packed here, once. K or N
// may be 0.
static RightFactor right_factor(Tiles *t, const float *x, int ld, bool transposed, int K, int N) {
    RightFactor b = {x, ld, transposed, t->room, panel_words(K)};
    if (!t->amx) return b;
    panels_pack_group(t->room, x, ld, transposed, RIGHT_FACTOR, N, K);
    t->room += panels_words(N, K);
    return b;
}

// c (n, m; rows ldc apart) = alpha a (n, k) B (k, m), or += it if `add`; of B the first k rows and
// m columns. a is at a[i lda + j] or, if a_transposed, at a[j lda + i].
static void tile_multiply(const Tiles *t, float *c, int ldc, const float *a, int lda,
                          bool a_transposed, const RightFactor *b, int n, int m, int k, float alpha,
                          bool add) {
    if (t->amx) {
        panels_pack_group(t->room, a, lda, !a_transposed, LEFT_FACTOR, n, k);
        amx_multiply(c, ldc, add ? c : NULL, ldc, t->room, b->panels, b->panel_words, n, m, k,
                     alpha, false);
        return;
    }
    float_product(c, ldc, a, lda, a_transposed, b->x, b->ld, b->transposed, n, m, k, alpha, add);
}

// out (N, C), lse (N, NH) from qkv (N, 3C), for rows [row_begin, row_end) of the batch.
static void attention_forward(float *out, float *lse, const float *qkv, float *strips, int max_T,
                              const Batch *b, int row_begin, int row_end, int C, int NH) {
    Profile scope __attribute__((cleanup(profile_end), unused)) = profile_begin(PART_ATT);
#pragma omp parallel for schedule(dynamic)
    for (int task = row_begin * NH; task < row_end * NH; task++) {
        const int h = task % NH;
        const Heads a = attention_locate(b, row_begin, task / NH, h, C, NH, max_T);
        const int HS = a.HS, ld = a.ld, st = a.stride, before = a.before;
        const float *q = qkv + a.own, *k = q + C, *v = k + C;
        const float *pk = qkv + a.parent + C, *pv = pk + C; // the parent's
        const float scale = 1.0f / sqrtf((float)HS);
        float *S = strips + (size_t)omp_get_thread_num() * attention_room(max_T, HS);
        Tiles tiles = tiles_begin(S, ld);
        const RightFactor K_T = right_factor(&tiles, k, st, true, HS, a.T);
        const RightFactor V = right_factor(&tiles, v, st, false, a.T, HS);
        const RightFactor parent_K_T = right_factor(&tiles, pk, st, true, HS, before);
        const RightFactor parent_V = right_factor(&tiles, pv, st, false, before, HS);
        for (int q0 = 0; q0 < a.T; q0 += tiles.queries) {
            const int n = a.T - q0 < tiles.queries ? a.T - q0 : tiles.queries, keys = q0 + n;
            const float *qt = q + (size_t)q0 * st;
            float *o = out + (a.token + q0) * C + h * HS;
            if (before)
                tile_multiply(&tiles, S, ld, qt, st, false, &parent_K_T, n, before, HS, scale,
                              false);
            tile_multiply(&tiles, S + before, ld, qt, st, false, &K_T, n, keys, HS, scale, false);
            for (int i = 0; i < n; i++) {
                float *s = S + (size_t)i * ld, sum = 0;
                const int seen = before + q0 + i + 1;
                const float max = max_of(s, seen);
#pragma omp simd reduction(+ : sum)
                for (int j = 0; j < seen; j++) sum += s[j] = exp_poly(s[j] - max);
                for (int j = 0; j < seen; j++) s[j] *= 1.0f / sum;
                for (int j = seen; j < before + keys; j++) s[j] = 0.0f; // the future
                lse[(a.token + q0 + i) * NH + h] = max + logf(sum);
            }
            tile_multiply(&tiles, o, C, S + before, ld, false, &V, n, HS, keys, 1, false);
            if (before)
                tile_multiply(&tiles, o, C, S, ld, false, &parent_V, n, HS, before, 1, true);
        }
        tiles_end(&tiles);
    }
}

// dqkv (N, 3C) from dout (N, C) and what the forward pass left. Line by line:
//   P = exp(S - lse)      dV += P^T dout      dP = dout V^T
//   dS = scale * P * (dP - sum_j P dP)        dQ = dS K        dK += dS^T Q
// and sum_j P dP = dout . out. Query tiles go from right to left: the first covers all of the row's
// keys and writes dK and dV, the others add. A parent and its children are one task, so that no two
// threads add to the same dK and dV; the parent comes first and writes them.
static void attention_backward(float *dqkv, const float *dout, const float *qkv, const float *out,
                               const float *lse, float *strips, int max_T, const Batch *b,
                               int row_begin, int row_end, int C, int NH) {
    Profile scope __attribute__((cleanup(profile_end), unused)) = profile_begin(PART_ATT_BACK);
#pragma omp parallel for schedule(dynamic)
    for (int task = row_begin * NH; task < row_end * NH; task++) {
        const int h = task % NH, root = task / NH;
        if (b->parent[root] >= 0) continue;
        int r = root;
        do {
            const Heads a = attention_locate(b, row_begin, r, h, C, NH, max_T);
            const int HS = a.HS, ld = a.ld, st = a.stride, before = a.before;
            const float *q = qkv + a.own, *k = q + C, *v = k + C;
            const float *pk = qkv + a.parent + C, *pv = pk + C;
            float *dq = dqkv + a.own, *dk = dq + C, *dv = dk + C;
            float *dpk = dqkv + a.parent + C, *dpv = dpk + C;
            const float scale = 1.0f / sqrtf((float)HS);
            float *P = strips + (size_t)omp_get_thread_num() * attention_room(max_T, HS);
            Tiles tiles = tiles_begin(P, ld);
            const RightFactor K = right_factor(&tiles, k, st, false, a.T, HS);
            const RightFactor K_T = right_factor(&tiles, k, st, true, HS, a.T);
            const RightFactor V_T = right_factor(&tiles, v, st, true, HS, a.T);
            const RightFactor parent_K = right_factor(&tiles, pk, st, false, before, HS);
            const RightFactor parent_K_T = right_factor(&tiles, pk, st, true, HS, before);
            const RightFactor parent_V_T = right_factor(&tiles, pv, st, true, HS, before);
            const int last = (a.T - 1) / tiles.queries * tiles.queries;
            for (int q0 = last; q0 >= 0; q0 -= tiles.queries) {
                const int n = a.T - q0 < tiles.queries ? a.T - q0 : tiles.queries, keys = q0 + n;
                const bool add = q0 < last;
                const float *o = out + (a.token + q0) * C + h * HS;
                const float *d = dout + (a.token + q0) * C + h * HS, *qt = q + (size_t)q0 * st;
                float *dqt = dq + (size_t)q0 * st;
                Tiles t = tiles; // a copy: the next query tile gets the same room again
                float *dP = P + (size_t)tiles.queries * ld;
                const RightFactor Q = right_factor(&t, qt, st, false, n, HS);
                const RightFactor D = right_factor(&t, d, C, false, n, HS);
                tile_multiply(&t, P + before, ld, qt, st, false, &K_T, n, keys, HS, scale, false);
                tile_multiply(&t, dP + before, ld, d, C, false, &V_T, n, keys, HS, 1, false);
                if (before) {
                    tile_multiply(&t, P, ld, qt, st, false, &parent_K_T, n, before, HS, scale,
                                  false);
                    tile_multiply(&t, dP, ld, d, C, false, &parent_V_T, n, before, HS, 1, false);
                }
                for (int i = 0; i < n; i++) {
                    float *p = P + (size_t)i * ld, *dp = dP + (size_t)i * ld;
                    const float l = lse[(a.token + q0 + i) * NH + h];
                    const float sum = dot(o + (size_t)i * C, d + (size_t)i * C, HS);
                    const int seen = before + q0 + i + 1;
                    for (int j = 0; j < seen; j++) {
                        p[j] = exp_poly(p[j] - l);
                        dp[j] = scale * p[j] * (dp[j] - sum);
                    }
                    for (int j = seen; j < before + keys; j++) p[j] = dp[j] = 0.0f;
                }
                tile_multiply(&t, dv, st, P + before, ld, true, &D, keys, HS, n, 1, add);
                tile_multiply(&t, dqt, st, dP + before, ld, false, &K, n, HS, keys, 1, false);
                tile_multiply(&t, dk, st, dP + before, ld, true, &Q, keys, HS, n, 1, add);
                if (!before) continue;
                tile_multiply(&t, dpv, st, P, ld, true, &D, before, HS, n, 1, true);
                tile_multiply(&t, dqt, st, dP, ld, false, &parent_K, n, HS, before, 1, true);
                tile_multiply(&t, dpk, st, dP, ld, true, &Q, before, HS, n, 1, true);
            }
            tiles_end(&tiles);
        } while (++r < row_end && b->parent[r] == root);
    }
}

// ------------------------------------------------------------------------------------------------
// GELU, tanh form ("gelu_new"): x/2 (1 + tanh u) = x sigmoid(2u), u = sqrt(2/pi) (x + 0.044715 x^3)

// A unit that is all but closed (x below -7.8) is closed: its sigmoid would come down to 6e-39, a
// subnormal number (machine.h), and so would what the next products make of it.
static inline float gelu_sigmoid(float x) {
    const float a = 0.797884561f; // sqrt(2 / pi)
    float s = 1.0f / (1.0f + exp_poly(-2.0f * a * (x + 0.044715f * x * x * x)));
    int32_t word;
    memcpy(&word, &s, 4);
    word &= -(int32_t) !(s <= 1e-20f); // a mask, for the reason in exp_poly; NaN stays NaN
    memcpy(&s, &word, 4);
    return s;
}

// out, inp (n)
static void gelu_forward(float *out, const float *inp, size_t n) {
    Profile scope __attribute__((cleanup(profile_end), unused)) = profile_begin(PART_GELU);
#pragma omp parallel for simd
    for (size_t i = 0; i < n; i++) out[i] = inp[i] * gelu_sigmoid(inp[i]);
}

// dinp holds dout on entry and dinp on return; out = gelu(inp) is made again on the way.
// With s = sigmoid(2u):  d/dx (x s) = s + x s (1 - s) 2 du/dx.
static void gelu_backward(float *dinp, float *out, const float *inp, size_t n) {
    Profile scope __attribute__((cleanup(profile_end), unused)) = profile_begin(PART_GELU);
    const float a = 0.797884561f;
#pragma omp parallel for simd
    for (size_t i = 0; i < n; i++) {
        float x = inp[i], s = gelu_sigmoid(x);
        float du = a * (1.0f + 3.0f * 0.044715f * x * x);
        out[i] = x * s;
        dinp[i] *= s + 2.0f * x * s * (1.0f - s) * du;
    }
}

// ------------------------------------------------------------------------------------------------
// Embedding: x = wte[token] + wpe[position], the position counted from where the row begins, or its
// parent

// out (N, C) for rows [row_begin, row_end) of the batch
static void embedding_forward(float *out, const Batch *b, int row_begin, int row_end,
                              const float *wte, const float *wpe, int C) {
    Profile scope __attribute__((cleanup(profile_end), unused)) = profile_begin(PART_EMBED);
    const int first = b->row_start[row_begin];
#pragma omp parallel for schedule(static)
    for (int r = row_begin; r < row_end; r++) {
        const int shift = batch_row_length(b, r) - b->row_start[r + 1]; // token to position
        for (int t = b->row_start[r]; t < b->row_start[r + 1]; t++) {
            const float *e = wte + (size_t)b->tokens[t] * C, *p = wpe + (size_t)(t + shift) * C;
            float *o = out + (size_t)(t - first) * C;
            for (int i = 0; i < C; i++) o[i] = e[i] + p[i];
        }
    }
}

// dwte, dwpe += dout. Threads split the channels: a token may occur many times.
static void embedding_backward(float *dwte, float *dwpe, const float *dout, const Batch *b,
                               int row_begin, int row_end, int C) {
    Profile scope __attribute__((cleanup(profile_end), unused)) = profile_begin(PART_EMBED);
    const int first = b->row_start[row_begin], block = 64;
#pragma omp parallel for schedule(static)
    for (int i0 = 0; i0 < C; i0 += block) {
        const int i1 = i0 + block < C ? i0 + block : C;
        for (int r = row_begin; r < row_end; r++) {
            const int shift = batch_row_length(b, r) - b->row_start[r + 1];
            for (int t = b->row_start[r]; t < b->row_start[r + 1]; t++) {
                float *e = dwte + (size_t)b->tokens[t] * C, *p = dwpe + (size_t)(t + shift) * C;
                const float *d = dout + (size_t)(t - first) * C;
                for (int i = i0; i < i1; i++) e[i] += d[i], p[i] += d[i];
            }
        }
    }
}

// ------------------------------------------------------------------------------------------------
// The model

// How many layers' activations a shard keeps: all for a backward pass, else one.
static int kept_layers(const GPT2 *model) {
    return model->grads && !model->recompute ? model->config.n_layer : 1;
}

// Place a layer's widest scratch and the logits in one block; what was there is lost.
static void shard_reserve_wide(const GPT2 *model, Shard *s) {
    const size_t n = (size_t)round_up(s->max_N, 16);
    const size_t C = (size_t)model->config.n_embd, I = (size_t)model->config.n_inner;
    const size_t VP = (size_t)round_up(model->config.vocab_size, 16);
    const size_t layer = model->grads ? n * (2 * I + 3 * C) : n * I;
    const size_t logits = (size_t)s->logits_room * VP;
    const size_t size = layer > logits ? layer : logits;
    if (size > s->wide_size) {
        free(s->wide);
        s->wide = mem_floats(size);
        s->wide_size = size;
    }
    s->logits = s->wide;
    s->gelu = s->wide;
    s->dfc = s->gelu + n * I;
    s->dqkv = s->dfc + n * I;
}

// Make room for the logits of n tokens, at most HEAD_CHUNK. A model that only scores never comes
// here.
static void shard_logits(const GPT2 *model, Shard *s, int n) {
    if (n <= s->logits_room) return;
    s->logits_room = n;
    shard_reserve_wide(model, s);
}

// Give the shard room for N tokens and rows of T tokens; existing contents are lost.
static void shard_reserve(const GPT2 *model, Shard *s, int N, int T) {
    if (N <= s->max_N && T <= s->max_T) return;
    s->max_N = N > s->max_N ? N : s->max_N;
    s->max_T = T > s->max_T ? T : s->max_T;
    const bool train = model->grads != NULL;
    const size_t n = (size_t)round_up(s->max_N, 16), K = (size_t)kept_layers(model);
    const size_t C = (size_t)model->config.n_embd, I = (size_t)model->config.n_inner;
    const size_t L = (size_t)model->config.n_layer, NH = (size_t)model->config.n_head;
    const size_t threads = model->n_shards > 1 ? 1 : (size_t)omp_get_max_threads();
    const size_t strip = threads * attention_room(s->max_T, (int)(C / NH));
    const struct {
        float **field;
        size_t size;
    } parts[] = {
        {&s->x, (train ? L + 1 : 1) * n * C},
        {&s->qkv, K * n * 3 * C},
        {&s->att, K * n * C},
        {&s->lse, K * n * NH},
        {&s->mid, K * n * C},
        {&s->fc, K * n * I},
        {&s->mean_1, K * n},
        {&s->rstd_1, K * n},
        {&s->mean_2, K * n},
        {&s->rstd_2, K * n},
        {&s->mean_f, n},
        {&s->rstd_f, n},
        {&s->norm, n * C},
        {&s->dx, train ? n * C : 0},
        {&s->dnorm, train ? n * C : 0},
        {&s->strips, strip},
        {&s->hidden, HEAD_CHUNK * C},
        {&s->dhidden, HEAD_CHUNK * C},
        {&s->head_stats, HEAD_CHUNK * 2},
    };
    size_t total = 0;
    for (int i = 0; i < COUNT(parts); i++) total += (parts[i].size + 15) / 16 * 16;
    free(s->memory), free(s->targets);
    s->memory = mem_floats(total);
    s->targets = mem_alloc(2 * HEAD_CHUNK, sizeof(int));
    s->sources = s->targets + HEAD_CHUNK;
    float *p = s->memory;
    for (int i = 0; i < COUNT(parts); p += (parts[i].size + 15) / 16 * 16, i++)
        *parts[i].field = parts[i].size ? p : NULL;
    shard_reserve_wide(model, s);
}

// Deal the rows out to the shards in order, each about the same number of tokens. A parent and its
// children stay together.
static void shards_assign(GPT2 *model, const Batch *b) {
    int r = 0;
    for (int i = 0; i < model->n_shards; i++) {
        Shard *s = &model->shards[i];
        const bool last = i == model->n_shards - 1;
        const int64_t share_end = (int64_t)b->N * (i + 1) / model->n_shards; // in tokens
        int T = 1;
        s->row_begin = r;
        while (r < b->R) {
            int end = r + 1;
            while (end < b->R && b->parent[end] >= 0) end++;
            // they belong to the shard in whose share their middle is
            if (!last && (b->row_start[r] + b->row_start[end]) / 2 >= share_end) break;
            for (; r < end; r++)
                if (batch_row_length(b, r) > T) T = batch_row_length(b, r);
        }
        s->row_end = r;
        s->token_begin = b->row_start[s->row_begin];
        s->N = b->row_start[r] - s->token_begin;
        shard_reserve(model, s, s->N, T);
    }
}

// Layer l: x (N, C) -> x_next (N, C), its activations in slot k.
//   mid = x + attn_proj(attention(attn(ln_1(x))));  x_next = mid + fc_proj(gelu(fc(ln_2(mid))))
static void layer_forward(const GPT2 *model, Shard *s, int l, int k, const float *x,
                          float *x_next) {
    const LayerWeights *w = &model->w.h[l];
    const int N = s->N, C = model->config.n_embd, I = model->config.n_inner;
    const int NH = model->config.n_head;
    const float eps = model->config.layer_norm_epsilon;
    const size_t n = (size_t)k * (size_t)round_up(s->max_N, 16);
    float *qkv = s->qkv + n * 3 * C, *att = s->att + n * C, *mid = s->mid + n * C;
    float *fc = s->fc + n * I;
    layernorm_forward(s->norm, s->mean_1 + n, s->rstd_1 + n, x, w->ln_1_w, w->ln_1_b, N, C, eps);
    matmul_forward(qkv, s->norm, w->attn_w, w->attn_b, NULL, N, C, 3 * C);
    attention_forward(att, s->lse + n * NH, qkv, s->strips, s->max_T, model->batch, s->row_begin,
                      s->row_end, C, NH);
    matmul_forward(mid, att, w->attn_proj_w, w->attn_proj_b, x, N, C, C);
    layernorm_forward(s->norm, s->mean_2 + n, s->rstd_2 + n, mid, w->ln_2_w, w->ln_2_b, N, C, eps);
    matmul_forward(fc, s->norm, w->fc_w, w->fc_b, NULL, N, C, I);
    gelu_forward(s->gelu, fc, (size_t)N * I);
    matmul_forward(x_next, s->gelu, w->fc_proj_w, w->fc_proj_b, mid, N, I, C);
}

// The same lines from bottom to top. s->dx (N, C) is the gradient of x_next on entry and of x on
// return: the residual stream passes it on unchanged, each branch adds its own.
static void layer_backward(const GPT2 *model, Shard *s, int l, int k, const float *x) {
    const LayerWeights *w = &model->w.h[l], *d = &s->grads.h[l];
    const int N = s->N, C = model->config.n_embd, I = model->config.n_inner;
    const int NH = model->config.n_head;
    const size_t n = (size_t)k * (size_t)round_up(s->max_N, 16);
    const float *qkv = s->qkv + n * 3 * C, *att = s->att + n * C, *mid = s->mid + n * C;
    const float *fc = s->fc + n * I;
    // x_next = mid + fc_proj(gelu(fc(ln_2(mid))))
    matmul_backward(s->dfc, NULL, NULL, s->dx, NULL, w->fc_proj_w, N, I, C);
    gelu_backward(s->dfc, s->gelu, fc, (size_t)N * I);
    matmul_backward(NULL, d->fc_proj_w, d->fc_proj_b, s->dx, s->gelu, NULL, N, I, C);
    matmul_backward(s->dnorm, NULL, NULL, s->dfc, NULL, w->fc_w, N, C, I);
    layernorm_backward(s->dx, d->ln_2_w, d->ln_2_b, s->norm, s->dnorm, mid, s->mean_2 + n,
                       s->rstd_2 + n, w->ln_2_w, w->ln_2_b, N, C);
    matmul_backward(NULL, d->fc_w, d->fc_b, s->dfc, s->norm, NULL, N, C, I);
    // mid = x + attn_proj(attention(attn(ln_1(x)))); dnorm is free again and holds datt
    matmul_backward(s->dnorm, d->attn_proj_w, d->attn_proj_b, s->dx, att, w->attn_proj_w, N, C, C);
    attention_backward(s->dqkv, s->dnorm, qkv, att, s->lse + n * NH, s->strips, s->max_T,
                       model->batch, s->row_begin, s->row_end, C, NH);
    matmul_backward(s->dnorm, NULL, NULL, s->dqkv, NULL, w->attn_w, N, C, 3 * C);
    layernorm_backward(s->dx, d->ln_1_w, d->ln_1_b, s->norm, s->dnorm, x, s->mean_1 + n,
                       s->rstd_1 + n, w->ln_1_w, w->ln_1_b, N, C);
    matmul_backward(NULL, d->attn_w, d->attn_b, s->dqkv, s->norm, NULL, N, C, 3 * C);
}

// Where the residual stream before layer l is (l = L: after the last).
static float *shard_x(const GPT2 *model, const Shard *s, int l) {
    size_t stride = (size_t)round_up(s->max_N, 16) * (size_t)model->config.n_embd;
    return s->x + (model->grads ? (size_t)l : 0) * stride;
}

static void shard_forward(const GPT2 *model, Shard *s) {
    const int L = model->config.n_layer, C = model->config.n_embd;
    const bool keep = kept_layers(model) > 1;
    embedding_forward(shard_x(model, s, 0), model->batch, s->row_begin, s->row_end, model->w.wte,
                      model->w.wpe, C);
    for (int l = 0; l < L; l++)
        layer_forward(model, s, l, keep ? l : 0, shard_x(model, s, l), shard_x(model, s, l + 1));
    if (s->dx) memset(s->dx, 0, (size_t)s->N * C * sizeof(float)); // the heads add to it
    s->logits_held = false;
}

static void shard_backward(const GPT2 *model, Shard *s) {
    const int L = model->config.n_layer, C = model->config.n_embd;
    const bool keep = kept_layers(model) > 1;
    for (int l = L - 1; l >= 0; l--) {
        const float *x = shard_x(model, s, l);
        if (!keep) layer_forward(model, s, l, 0, x, shard_x(model, s, l + 1));
        layer_backward(model, s, l, keep ? l : 0, x);
    }
    embedding_backward(s->grads.wte, s->grads.wpe, s->dx, model->batch, s->row_begin, s->row_end,
                       C);
}

// What a shard can be asked to do: one of the passes, on its rows, with what the heads take.
typedef struct {
    enum { WORK_FORWARD, WORK_BACKWARD, WORK_LM_HEAD, WORK_VALUE_HEAD } kind;
    float *out;            // logp or value (N of the batch), or NULL
    const float *gradient; // dlogp or dvalue (N), or NULL
    TokenStats *tokens;    // (N) or NULL
} ShardWork;

// The heads' parts, below.
static HeadStats shard_lm_head(const GPT2 *model, Shard *s, float *logp, const float *dlogp,
                               TokenStats *tokens);
static void shard_value_head(const GPT2 *model, Shard *s, float *value, const float *dvalue);

static void shard_work(const GPT2 *model, Shard *s, const ShardWork *work) {
    if (s->N == 0) return;
    switch (work->kind) {
    case WORK_FORWARD:
        shard_forward(model, s);
        break;
    case WORK_BACKWARD:
        shard_backward(model, s);
        break;
    case WORK_LM_HEAD:
        s->stats = shard_lm_head(model, s, work->out, work->gradient, work->tokens);
        break;
    case WORK_VALUE_HEAD:
        shard_value_head(model, s, work->out, work->gradient);
        break;
    }
}

// Let every shard do its work: in parallel when there are several (inside, sgemm and the loops then
// use one thread), else on this thread (inside, they use all). No region of one thread is opened in
// the second case: OpenBLAS under LLVM's OpenMP hangs inside such a region.
static void shards_work(const GPT2 *model, const ShardWork *work) {
    if (model->n_shards == 1) {
        shard_work(model, &model->shards[0], work);
        return;
    }
#pragma omp parallel for num_threads(model->n_shards)
    for (int i = 0; i < model->n_shards; i++) shard_work(model, &model->shards[i], work);
}

// Run all layers over the batch. The batch must stay unchanged until the heads and gpt2_backward
// are done. Tokens must be below vocab_size and rows no longer than n_positions (dies otherwise).
static void gpt2_forward(GPT2 *model, const Batch *batch) {
    for (int t = 0; t < batch->N; t++)
        if (batch->tokens[t] < 0 || batch->tokens[t] >= model->config.vocab_size)
            die(EXIT_BAD_INPUT, "token id %d is outside the model's vocabulary of %d",
                batch->tokens[t], model->config.vocab_size);
    for (int r = 0; r < batch->R; r++) {
        const int T = batch_row_length(batch, r), p = batch->parent[r];
        if (T > model->config.n_positions)
            die(EXIT_BAD_INPUT, "a row of %d tokens is longer than the model's %d positions", T,
                model->config.n_positions);
        if (p >= 0 && (batch->parent[p] >= 0 || (p != r - 1 && p != batch->parent[r - 1])))
            die(EXIT_BAD_INPUT, "row %d does not come after its parent, row %d", r, p);
    }
    model->batch = batch;
    shards_assign(model, batch);
    shards_work(model, &(ShardWork){.kind = WORK_FORWARD});
}

// Carry what the heads left in dx back through all layers; gradients of weights accumulate.
static void gpt2_backward(GPT2 *model) {
    shards_work(model, &(ShardWork){.kind = WORK_BACKWARD});
    for (int k = 1; k < model->n_shards; k++) { // add up the private gradients, in order
        float *to = model->grads, *from = model->shards[k].grads_memory;
        if (model->shards[k].N == 0) continue;
#pragma omp parallel for simd
        for (size_t i = 0; i < model->n_floats; i++) to[i] += from[i], from[i] = 0.0f;
    }
}

// ------------------------------------------------------------------------------------------------
// Language-model head: log p(token t | all before it) for every t whose mask is set, read from the
// hidden state of the token before: t - 1, or the last of the parent for a child's first token.
// Tokens without mask cost nothing here, and the logits exist for HEAD_CHUNK tokens at a time only.
// They are divided by model->temperature, which is 1 but for a policy that samples at another (PPO).

// logits (one token's, V) -> its log-probability and statistics; with `seed` (dlogp), the logits
// become their own gradient dlogits = seed * (onehot(target) - softmax).
static float token_logp(float *logits, int V, int target, const float *seed, TokenStats *stats) {
    float max = max_of(logits, V), sum = 0, weighted = 0, all = 0, x = logits[target];
    if (seed) { // the exponentials stay: they are the softmax up to a factor
#pragma omp simd reduction(+ : sum, weighted, all)
        for (int v = 0; v < V; v++) {
            float z = logits[v] - max, e = exp_poly(z);
            sum += e, weighted += e * z, all += z, logits[v] = e;
        }
        float scale = -*seed / sum;
        for (int v = 0; v < V; v++) logits[v] *= scale;
        logits[target] += *seed;
    } else {
#pragma omp simd reduction(+ : sum, weighted, all)
        for (int v = 0; v < V; v++) {
            float z = logits[v] - max, e = exp_poly(z);
            sum += e, weighted += e * z, all += z;
        }
    }
    stats->entropy = logf(sum) - weighted / sum; // lse - sum p logit, both relative to max
    stats->logit = max + all / (float)V;
    stats->correct = x == max;
    return x - max - logf(sum);
}

static void head_stats_add(HeadStats *sum, const TokenStats *token) {
    sum->entropy += token->entropy, sum->logit += token->logit;
    sum->correct += token->correct > 0, sum->count++;
}

// One shard's part of the head. logp, dlogp, tokens: (N of the batch) or NULL.
static HeadStats shard_lm_head(const GPT2 *model, Shard *s, float *logp, const float *dlogp,
                               TokenStats *tokens) {
    Profile scope __attribute__((cleanup(profile_end), unused)) = profile_begin(PART_HEAD);
    const Batch *b = model->batch;
    const int C = model->config.n_embd, V = model->config.vocab_size, VP = round_up(V, 16);
    const float *x = shard_x(model, s, model->config.n_layer);
    const float scale = 1.0f / model->temperature;
    float *mean = s->head_stats, *rstd = mean + HEAD_CHUNK;
    TokenStats seen[HEAD_CHUNK];
    HeadStats stats = {0};
    int t = s->token_begin, end = s->token_begin + s->N, r = s->row_begin;
    shard_logits(model, s, s->max_N < HEAD_CHUNK ? s->max_N : HEAD_CHUNK);
    while (t < end) {
        int n = 0;
        for (; t < end && n < HEAD_CHUNK; t++) {
            while (t == b->row_start[r + 1]) r++;
            if (!b->mask[t]) continue;
            const bool child_begins = t == b->row_start[r] && b->parent[r] >= 0;
            s->sources[n] = child_begins ? b->row_start[b->parent[r] + 1] - 1 : t - 1;
            s->targets[n++] = t;
        }
        if (n == 0) break;
        // gather the hidden states that predict them
        float *raw = s->norm; // (n, C), free between forward and backward
        for (int i = 0; i < n; i++)
            memcpy(raw + (size_t)i * C, x + (size_t)(s->sources[i] - s->token_begin) * C,
                   (size_t)C * sizeof(float));
        layernorm_forward(s->hidden, mean, rstd, raw, model->w.ln_f_w, model->w.ln_f_b, n, C,
                          model->config.layer_norm_epsilon);
        if (!s->logits_held)
            matmul_tied_forward(s->logits, s->hidden, model->w.wte, scale, n, C, V, VP);
        s->logits_held = !dlogp && stats.count == 0 && t == end; // else the next chunk's or dlogits
#pragma omp parallel for
        for (int i = 0; i < n; i++) {
            int at = s->targets[i];
            float lp = token_logp(s->logits + (size_t)i * VP, V, b->tokens[at],
                                  dlogp ? &dlogp[at] : NULL, &seen[i]);
            if (logp) logp[at] = lp;
            if (tokens) tokens[at] = seen[i];
        }
        for (int i = 0; i < n; i++) head_stats_add(&stats, &seen[i]);
        if (!dlogp) continue;
        matmul_tied_backward(s->dhidden, s->grads.wte, s->logits, s->hidden, model->w.wte, scale, n,
                             C, V, VP);
        float *draw = s->dnorm; // (n, C), free as well
        memset(draw, 0, (size_t)n * C * sizeof(float));
        layernorm_backward(draw, s->grads.ln_f_w, s->grads.ln_f_b, s->hidden, s->dhidden, raw, mean,
                           rstd, model->w.ln_f_w, model->w.ln_f_b, n, C);
        for (int i = 0; i < n; i++) {
            float *to = s->dx + (size_t)(s->sources[i] - s->token_begin) * C;
            for (int c = 0; c < C; c++) to[c] += draw[(size_t)i * C + c];
        }
    }
    return stats;
}

static HeadStats lm_head(GPT2 *model, float *logp, const float *dlogp, TokenStats *tokens) {
    HeadStats all = {0};
    if (logp) memset(logp, 0, (size_t)model->batch->N * sizeof(float));
    shards_work(model, &(ShardWork){WORK_LM_HEAD, logp, dlogp, tokens});
    for (int s = 0; s < model->n_shards; s++) {
        const Shard *shard = &model->shards[s];
        if (shard->N == 0) continue;
        all.entropy += shard->stats.entropy, all.logit += shard->stats.logit;
        all.correct += shard->stats.correct;
        all.count += shard->stats.count;
    }
    return all;
}

// logp (N): log-probabilities (nats) of the masked tokens of the batch that gpt2_forward saw, 0
// elsewhere.
static HeadStats lm_head_forward(GPT2 *model, float *logp) {
    return lm_head(model, logp, NULL, NULL);
}

// The same; also fills tokens (N) where the mask is set, for row_stats.
static HeadStats lm_head_forward_stats(GPT2 *model, float *logp, TokenStats *tokens) {
    return lm_head(model, logp, NULL, tokens);
}

// Sum of the masked tokens of row r.
static HeadStats row_stats(const TokenStats *tokens, const Batch *b, int r) {
    HeadStats stats = {0};
    for (int t = b->row_start[r]; t < b->row_start[r + 1]; t++)
        if (b->mask[t]) head_stats_add(&stats, &tokens[t]);
    return stats;
}

// dlogp (N): the loss's gradient with respect to logp. Adds to dx and to the gradients of wte and
// ln_f. A loss like DPO's knows dlogp only after all logp, so the logits are computed again, unless
// HEAD_CHUNK had room for all of them and lm_head_forward left them there.
static void lm_head_backward(GPT2 *model, const float *dlogp) { lm_head(model, NULL, dlogp, NULL); }

// Both in one pass, for a loss whose dlogp does not depend on logp (SFT: -1 / number of tokens).
// The logits are made once, however many tokens there are.
static HeadStats lm_head_forward_backward(GPT2 *model, float *logp, const float *dlogp) {
    return lm_head(model, logp, dlogp, NULL);
}

// h (C) <- the state of the batch's token t after all layers.
static void hidden_copy(float *h, const GPT2 *model, int t) {
    const Shard *s = model->shards;
    const size_t C = (size_t)model->config.n_embd;
    while (t >= s->token_begin + s->N) s++;
    memcpy(h, shard_x(model, s, model->config.n_layer) + (size_t)(t - s->token_begin) * C,
           C * sizeof(float));
}

// logp, tokens (n): log p(targets[i] | token sources[i] of the batch and all before it), and what the
// head saw there. Forward only, and for targets that are not in the batch: the last token of a text
// has to be predicted, but need not go through the layers, and several first words may follow one
// prompt. Targets of the same source that come one after another share its logits.
static void lm_head_targets(GPT2 *model, float *logp, TokenStats *tokens, const int *sources,
                            const int *targets, int n) {
    Profile scope __attribute__((cleanup(profile_end), unused)) = profile_begin(PART_HEAD);
    const int C = model->config.n_embd, V = model->config.vocab_size, VP = round_up(V, 16);
    const int room = n < TARGETS_CHUNK ? n : TARGETS_CHUNK;
    Shard *s = &model->shards[0]; // its scratch serves for all
    float *mean = s->head_stats, *rstd = mean + HEAD_CHUNK;
    int row[HEAD_CHUNK]; // of the logits, by target of a chunk
    shard_logits(model, s, room);
    for (int begin = 0, end; begin < n; begin = end) {
        int rows = 0;
        for (end = begin; end < n && end < begin + HEAD_CHUNK; end++) {
            const bool again = end > begin && sources[end] == sources[end - 1];
            if (!again && rows == room) break;
            if (!again) hidden_copy(s->dhidden + (size_t)rows++ * C, model, sources[end]);
            row[end - begin] = rows - 1;
        }
        layernorm_forward(s->hidden, mean, rstd, s->dhidden, model->w.ln_f_w, model->w.ln_f_b, rows,
                          C, model->config.layer_norm_epsilon);
        matmul_tied_forward(s->logits, s->hidden, model->w.wte, 1.0f / model->temperature, rows, C,
                            V, VP);
#pragma omp parallel for
        for (int i = begin; i < end; i++)
            logp[i] = token_logp(s->logits + (size_t)row[i - begin] * VP, V, targets[i], NULL,
                                 &tokens[i]);
    }
    s->logits_held = false;
}

// ------------------------------------------------------------------------------------------------
// Rows: log pi(y|x) of every row of a batch, and the way back. Most losses speak of nothing else.

// What a pass over a batch of R rows and N tokens gives. A zeroed one is ready for use; it grows.
typedef struct {
    float *sum, *dsum;   // (R) log pi(y|x), the sum over the row's masked tokens; its gradient
    int *count;          // (R) how many tokens those are
    float *logp, *dlogp; // (N) the same of tokens, 0 where the mask is 0
    TokenStats *tokens;  // (N) what the head saw at each masked token
    HeadStats stats;     // its sums
    int max_R, max_N;    // capacities
} Rows;

static void rows_free(Rows *r) {
    free(r->sum), free(r->dsum), free(r->count), free(r->logp), free(r->dlogp), free(r->tokens);
    *r = (Rows){0};
}

// Make room for the batch; what was there is lost.
static void rows_reserve(Rows *r, const Batch *b) {
    if (b->R <= r->max_R && b->N <= r->max_N) return;
    const int R = b->R > r->max_R ? b->R : r->max_R, N = b->N > r->max_N ? b->N : r->max_N;
    rows_free(r);
    r->max_R = R;
    r->max_N = N;
    r->sum = mem_floats((size_t)R);
    r->dsum = mem_floats((size_t)R);
    r->count = mem_alloc((size_t)R, sizeof *r->count);
    r->logp = mem_floats((size_t)N);
    r->dlogp = mem_floats((size_t)N);
    r->tokens = mem_alloc((size_t)N, sizeof *r->tokens);
}

// sum, count (R): the sum of logp and the number of tokens where mask is set; 0 and 0 for a row
// without any. logp, mask (N).
static void row_sum_forward(float *sum, int *count, const float *logp, const unsigned char *mask,
                            const int *row_start, int R) {
    for (int r = 0; r < R; r++) {
        double total = 0;
        count[r] = 0;
        for (int t = row_start[r]; t < row_start[r + 1]; t++) {
            if (!mask[t]) continue;
            total += logp[t];
            count[r]++;
        }
        sum[r] = (float)total;
    }
}

// dlogp (N): every token's log-prob enters its row's sum with factor 1. dsum (R).
static void row_sum_backward(float *dlogp, const float *dsum, const unsigned char *mask,
                             const int *row_start, int R) {
    for (int r = 0; r < R; r++)
        for (int t = row_start[r]; t < row_start[r + 1]; t++) dlogp[t] = mask[t] ? dsum[r] : 0.0f;
}

// Run the model over the batch, which stays as it is until rows_backward: fills all of r but the
// gradients, and sets dsum to 0, so that a loss need only set that of its own rows.
static void rows_forward(Rows *r, GPT2 *model, const Batch *b) {
    rows_reserve(r, b);
    gpt2_forward(model, b);
    r->stats = lm_head_forward_stats(model, r->logp, r->tokens);
    row_sum_forward(r->sum, r->count, r->logp, b->mask, b->row_start, b->R);
    memset(r->dsum, 0, (size_t)b->R * sizeof(float));
}

// From r->dsum, the loss's gradient with respect to r->sum, back through the model that saw the
// batch last; gradients of the weights accumulate.
static void rows_backward(Rows *r, GPT2 *model) {
    const Batch *b = model->batch;
    row_sum_backward(r->dlogp, r->dsum, b->mask, b->row_start, b->R);
    lm_head_backward(model, r->dlogp);
    gpt2_backward(model);
}

// ------------------------------------------------------------------------------------------------
// Scalar head: value[t] = score . ln_f(x[t]). A reward model reads it at a row's last token, a
// critic at every token.

// One shard's part: fills value (N of the batch), or, given dvalue, adds to dx and to the
// gradients.
static void shard_value_head(const GPT2 *model, Shard *s, float *value, const float *dvalue) {
    const int N = s->N, C = model->config.n_embd;
    const Weights *w = &model->w, *d = &s->grads;
    const float *x = shard_x(model, s, model->config.n_layer);
    layernorm_forward(s->norm, s->mean_f, s->rstd_f, x, w->ln_f_w, w->ln_f_b, N, C,
                      model->config.layer_norm_epsilon);
    for (int t = 0; value && t < N; t++)
        value[s->token_begin + t] = dot(w->score, s->norm + (size_t)t * C, C);
    if (!dvalue) return;
    for (int t = 0; t < N; t++) {
        float g = dvalue[s->token_begin + t];
        const float *h = s->norm + (size_t)t * C;
        for (int i = 0; i < C; i++) {
            d->score[i] += g * h[i];
            s->dnorm[(size_t)t * C + i] = g * w->score[i];
        }
    }
    layernorm_backward(s->dx, d->ln_f_w, d->ln_f_b, s->norm, s->dnorm, x, s->mean_f, s->rstd_f,
                       w->ln_f_w, w->ln_f_b, N, C);
}

// value (N): the scalar of every token of the batch that gpt2_forward saw. Needs score_head.
static void value_head_forward(GPT2 *model, float *value) {
    shards_work(model, &(ShardWork){WORK_VALUE_HEAD, .out = value});
}

// dvalue (N): the loss's gradient with respect to value. Adds to dx, score and ln_f.
static void value_head_backward(GPT2 *model, const float *dvalue) {
    shards_work(model, &(ShardWork){WORK_VALUE_HEAD, .gradient = dvalue});
}

// ------------------------------------------------------------------------------------------------
// AdamW (Loshchilov and Hutter 2019), as PyTorch computes it

// Euclidean norm of all gradients. Sums are made in blocks of fixed size and the blocks added in
// order, so that the result does not depend on the number of threads.
static double grad_norm(const GPT2 *model) {
    const size_t block = 1 << 16, blocks = (model->n_floats + block - 1) / block;
    double *sums = mem_alloc(blocks, sizeof *sums), total = 0;
#pragma omp parallel for
    for (size_t b = 0; b < blocks; b++) {
        size_t end = (b + 1) * block < model->n_floats ? (b + 1) * block : model->n_floats;
        double lane[16] = {0};                         // sums that do not wait for each other
        for (size_t i = b * block; i < end; i += 16) { // n_floats is a multiple of 16
            const float *g = model->grads + i;
            for (int k = 0; k < 16; k++) lane[k] += (double)g[k] * g[k];
        }
        for (int k = 0; k < 16; k++) sums[b] += lane[k];
    }
    for (size_t b = 0; b < blocks; b++) total += sums[b];
    free(sums);
    return sqrt(total);
}

// What torch.nn.utils.clip_grad_norm_ multiplies gradients by: min(1, max_norm / (norm + 1e-6)).
// max_norm 0: no clipping.
static float clip_scale(double norm, double max_norm) {
    double scale = max_norm > 0 ? max_norm / (norm + 1e-6) : 1.0;
    return (float)(scale < 1.0 ? scale : 1.0);
}

typedef struct {
    double beta1, beta2, epsilon, weight_decay;
    bool decay_embeddings; // transformers decays them too; false leaves wte and wpe out
    // Kingma and Ba 2015, end of section 2, and TensorFlow 1 (Ziegler et al. 2019): epsilon is added
    // to sqrt(v) itself, which makes it 1 / sqrt(1 - b2^t) times as large: 32 times at first.
    bool tensorflow_epsilon;
} AdamW;

// One update with gradients g = clip * grads, which are zero afterwards:
//   p -= lr wd p;   m = b1 m + (1 - b1) g;   v = b2 v + (1 - b2) g^2
//   p -= lr / (1 - b1^t) * m / (sqrt(v) / sqrt(1 - b2^t) + epsilon)
static void adamw_step(GPT2 *model, const AdamW *opt, double lr, float clip) {
    const double t = (double)++model->adam_step;
    const float b1 = (float)opt->beta1, b2 = (float)opt->beta2;
    const float c1 = (float)(1.0 - opt->beta1), c2 = (float)(1.0 - opt->beta2);
    const float rate = (float)(lr / (1.0 - pow(opt->beta1, t)));
    const double unbias = 1.0 / sqrt(1.0 - pow(opt->beta2, t));
    const float root = (float)unbias;
    const float eps = (float)(opt->epsilon * (opt->tensorflow_epsilon ? unbias : 1.0));
    for (int i = 0; i < model->n_tensors; i++) {
        const Tensor *tensor = &model->tensors[i];
        bool embedding = !strcmp(tensor->name, "wte.weight") || !strcmp(tensor->name, "wpe.weight");
        bool decays = tensor->decay && (opt->decay_embeddings || !embedding);
        const float keep = decays ? (float)(1.0 - lr * opt->weight_decay) : 1.0f;
        float *p = model->params + tensor->offset, *grad = model->grads + tensor->offset;
        float *m = model->adam_m + tensor->offset, *v = model->adam_v + tensor->offset;
#pragma omp parallel for simd
        for (size_t k = 0; k < tensor->size; k++) {
            float g = clip * grad[k];
            m[k] = b1 * m[k] + c1 * g;
            v[k] = b2 * v[k] + c2 * g * g;
            p[k] = keep * p[k] - rate * m[k] / (sqrtf(v[k]) * root + eps);
            grad[k] = 0.0f;
        }
    }
    weights_changed(model);
}

// ------------------------------------------------------------------------------------------------
// The machine

// Choose how products are made, before the first one: by the OpenBLAS kernels that fit the CPU, in
// bfloat16 or in float, without subnormals. Say on `out` which kernels run on how many threads. Warn
// about what makes everything slow: bfloat16 on a CPU that cannot multiply it, a kernel older than
// the CPU, and an OpenBLAS with threads of its own.
static void products_begin_on(FILE *out, bool bf16) {
    library_exit_begin();
    if (bf16) bf16_begin(); // before there are threads
    omp_set_dynamic(0);
    threads_check();
    flush_subnormals();
    kernel_choose();
    blas_set_threads(omp_get_max_threads());
    fprintf(out, "%s %s, %d threads", blas_name, blas_kernel(), omp_get_max_threads());
    if (bf16) fprintf(out, ", products in bfloat16 (%s)", bf16_road_name());
    fprintf(out, "\n");
    use_bf16 = bf16;
    if (bf16 && !bf16_in_hardware())
        warn("--bf16: this CPU (or the one that the program was built for) multiplies bfloat16 no "
             "faster than float; only sampling gains");
    if (!blas_is_openmp())
        warn("this OpenBLAS is not the OpenMP build (Debian: libopenblas-openmp-dev); its threads "
             "and ours get in each other's way");
}

static void products_begin(bool bf16) { products_begin_on(stdout, bf16); }

#endif
