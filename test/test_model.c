// Tests of model.h. Three kinds of judge: naive loops and central differences for the layers,
// goldens that PyTorch made in float64 (dev/golden_model.py) for the whole model, and the model
// itself for what must not matter: threads, packing, splitting, recomputation.
#include "test.h"
#include "../model.h"
#include "../lib/run/run.h"
#include "../lib/base/tokenizer.h"
#include "../lib/files/pretrained.h"

// ------------------------------------------------------------------------------------------------
// Goldens: "name count" on a line, then the numbers

typedef struct {
    char *text;
} Golden;

static Golden golden_load(const char *path) { return (Golden){file_read(path, NULL)}; }

// The numbers of an entry; *n is their count. Dies if it is not there.
static double *golden_get(const Golden *g, const char *name, int *n) {
    char *key = text_format("\n%s ", name), *at = strstr(g->text, key), *end;
    if (!at) die(EXIT_BAD_INPUT, "golden %s is missing", name);
    at += strlen(key);
    *n = (int)strtol(at, &end, 10);
    double *x = mem_alloc((size_t)*n, sizeof *x);
    for (int i = 0; i < *n; i++) x[i] = strtod(end, &end);
    free(key);
    return x;
}

static Batch golden_batch(const Golden *g) {
    int N, R, M;
    double *tokens = golden_get(g, "tokens", &N), *rows = golden_get(g, "row_start", &R);
    double *mask = golden_get(g, "mask", &M);
    int *ids = mem_alloc((size_t)N, sizeof *ids);
    unsigned char *bits = mem_alloc((size_t)N, 1);
    for (int t = 0; t < N; t++) ids[t] = (int)tokens[t], bits[t] = mask[t] != 0;
    Batch b = {0};
    for (int r = 0; r + 1 < R; r++) {
        int from = (int)rows[r];
        batch_add_row(&b, ids + from, bits + from, (int)rows[r + 1] - from);
    }
    free(tokens), free(rows), free(mask), free(ids), free(bits);
    return b;
}

// max |got - want| / max |want|: the error of a tensor relative to its largest entry. Single
// entries far below it are sums that cancel, where float32 has no digits to give.
static double tensor_error(const float *got, const double *want, size_t n) {
    double worst = 0, largest = 0;
    for (size_t i = 0; i < n; i++) {
        double e = fabs((double)got[i] - want[i]);
        if (!(e <= worst)) worst = e;
        if (fabs(want[i]) > largest) largest = fabs(want[i]);
    }
    return worst / (largest > 0 ? largest : 1);
}

// ------------------------------------------------------------------------------------------------
// Central differences: the loss is sum r * out with random r, and out is smooth. With h = 1e-2 and
// values of order 1 the truncation error is about 1e-4, float32's rounding about 1e-5 / h = 1e-3 of
// the largest gradient; the bound is 5e-3 of the largest.

static void fill(float *x, size_t n, Rng *r) {
    for (size_t i = 0; i < n; i++) x[i] = (float)rng_normal(r);
}

static double weighted(const float *r, const float *out, size_t n) {
    double sum = 0;
    for (size_t i = 0; i < n; i++) sum += (double)r[i] * out[i];
    return sum;
}

// Compare dx (n) with differences of `loss` (an expression) in x; up to 200 entries.
#define CHECK_GRADIENT(x, dx, n, loss, name)                                                       \
    do {                                                                                           \
        double worst_ = 0, largest_ = 0;                                                           \
        size_t step_ = (size_t)(n) / 200 + 1;                                                      \
        for (size_t i_ = 0; i_ < (size_t)(n); i_ += step_) {                                       \
            const float saved_ = (x)[i_], h_ = 1e-2f;                                              \
            (x)[i_] = saved_ + h_;                                                                 \
            double up_ = (loss), wide_ = (x)[i_];                                                  \
            (x)[i_] = saved_ - h_;                                                                 \
            double down_ = (loss);                                                                 \
            wide_ -= (x)[i_];                                                                      \
            (x)[i_] = saved_;                                                                      \
            double want_ = (up_ - down_) / wide_, e_ = fabs(want_ - (dx)[i_]);                     \
            if (!(e_ <= worst_)) worst_ = e_;                                                      \
            if (fabs(want_) > largest_) largest_ = fabs(want_);                                    \
        }                                                                                          \
        CHECK(worst_ <= 5e-3 * largest_ && largest_ > 0, "%s: gradient off by %g of %g", name,     \
              worst_, largest_);                                                                   \
    } while (0)

static void test_elementary(void) {
    double worst = 0;
    for (double x = -87; x < 88; x += 0.00137) {
        double e = fabs(exp_poly((float)x) / exp((double)(float)x) - 1);
        if (e > worst) worst = e;
    }
    CHECK(worst < 3e-7, "exp_poly: relative error %g", worst); // 2.5 ulp of float
    CHECK(exp_poly(0) == 1 && exp_poly(-1e30f) < 1e-37f && exp_poly(-INFINITY) < 1e-37f,
          "exp ends");
    CHECK(isnan(exp_poly(NAN)), "NaN stays NaN");
    CHECK(max_of((float[]){1, 5, -2, 3, 4}, 5) == 5 && max_of((float[]){-3}, 1) == -3, "max");
}

// Every element of a product against a double loop; odd sizes.
static void test_matmul(void) {
    enum { N = 5, C = 19, OC = 23 };
    float x[N * C], w[C * OC], b[OC], res[N * OC], out[N * OC], r[N * OC];
    float dx[N * C], dw[C * OC] = {0}, db[OC] = {0};
    Rng rng = rng_make(1, 1);
    fill(x, N * C, &rng), fill(w, C * OC, &rng), fill(b, OC, &rng);
    fill(res, N * OC, &rng), fill(r, N * OC, &rng);
    matmul_forward(out, x, w, b, res, N, C, OC);
    for (int t = 0; t < N; t++)
        for (int o = 0; o < OC; o++) {
            double sum = (double)b[o] + res[t * OC + o];
            for (int i = 0; i < C; i++) sum += (double)x[t * C + i] * w[i * OC + o];
            CHECK_NEAR(out[t * OC + o], sum, 1e-5, 1e-5, "matmul [%d][%d]", t, o);
        }
    matmul_forward(out, x, w, NULL, NULL, N, C, OC);
    double first = 0;
    for (int i = 0; i < C; i++) first += (double)x[i] * w[i * OC];
    CHECK_NEAR(out[0], first, 1e-5, 1e-5, "matmul without bias");
    matmul_backward(dx, dw, db, r, x, w, N, C, OC);
#define LOSS (matmul_forward(out, x, w, b, res, N, C, OC), weighted(r, out, N * OC))
    CHECK_GRADIENT(x, dx, N * C, LOSS, "matmul dinp");
    CHECK_GRADIENT(w, dw, C * OC, LOSS, "matmul dweight");
    CHECK_GRADIENT(b, db, OC, LOSS, "matmul dbias");
#undef LOSS
    float before = dw[3];
    matmul_backward(dx, dw, db, r, x, w, N, C, OC);
    CHECK_NEAR(dw[3], 2 * before, 1e-5, 1e-6, "weight gradients accumulate");
}

static void test_layernorm(void) {
    enum { N = 4, C = 77 }; // more than one block of columns
    float x[N * C], w[C], b[C], out[N * C], again[N * C], r[N * C], mean[N], rstd[N];
    float dx[N * C] = {0}, dw[C] = {0}, db[C] = {0};
    Rng rng = rng_make(2, 1);
    fill(x, N * C, &rng), fill(w, C, &rng), fill(b, C, &rng), fill(r, N * C, &rng);
    layernorm_forward(out, mean, rstd, x, w, b, N, C, 1e-5f);
    for (int t = 0; t < N; t++) {
        double m = 0, v = 0;
        for (int i = 0; i < C; i++) m += (double)x[t * C + i] / C;
        for (int i = 0; i < C; i++) v += (x[t * C + i] - m) * (x[t * C + i] - m) / C;
        double want = (x[t * C + 5] - m) / sqrt(v + 1e-5) * w[5] + b[5];
        CHECK_NEAR(out[t * C + 5], want, 1e-5, 1e-5, "layernorm row %d", t);
    }
    layernorm_backward(dx, dw, db, again, r, x, mean, rstd, w, b, N, C);
    CHECK(tensor_error(again, (double[]){0}, 0) == 0 && fabsf(again[9] - out[9]) < 1e-6f,
          "the backward pass makes the output again");
#define LOSS (layernorm_forward(out, mean, rstd, x, w, b, N, C, 1e-5f), weighted(r, out, N * C))
    CHECK_GRADIENT(x, dx, N * C, LOSS, "layernorm dinp");
    CHECK_GRADIENT(w, dw, C, LOSS, "layernorm dw");
    CHECK_GRADIENT(b, db, C, LOSS, "layernorm db");
#undef LOSS
}

static void test_gelu(void) {
    enum { N = 64 };
    float x[N], out[N], again[N], r[N], dx[N];
    Rng rng = rng_make(3, 1);
    fill(x, N, &rng), fill(r, N, &rng);
    x[0] = 30, x[1] = -30, x[2] = 0;
    gelu_forward(out, x, N);
    for (int i = 0; i < N; i++) {
        double u = sqrt(2 / M_PI) * (x[i] + 0.044715 * pow(x[i], 3));
        CHECK_NEAR(out[i], 0.5 * x[i] * (1 + tanh(u)), 1e-5, 1e-6, "gelu(%g)", x[i]);
    }
    memcpy(dx, r, sizeof dx);
    gelu_backward(dx, again, x, N);
    CHECK(!memcmp(out, again, sizeof out), "the backward pass makes the output again");
#define LOSS (gelu_forward(out, x, N), weighted(r, out, N))
    CHECK_GRADIENT(x, dx, N, LOSS, "gelu");
#undef LOSS
}

// Rows of 1, 2, 64, 65 and 130 tokens: below, at and above one and two query tiles; then a parent
// of 70 with children of 3 and 66, and one of 2 with a child of 1.
static void test_attention(void) {
    enum { R = 10, C = 12, NH = 3, HS = C / NH, N = 404, T = 136 };
    const int lengths[R] = {1, 2, 64, 65, 130, 70, 3, 66, 2, 1};
    const int parents[R] = {-1, -1, -1, -1, -1, -1, 5, 5, -1, 8};
    static float qkv[N * 3 * C], out[N * C], lse[N * NH], r[N * C], dqkv[N * 3 * C];
    const int zeros[130] = {0};
    Batch b = {0};
    for (int k = 0; k < R; k++) batch_add_child(&b, parents[k], zeros, NULL, lengths[k]);
    CHECK(b.N == N && batch_row_length(&b, 7) == T, "the batch is laid out");
    float *strips = mem_floats((size_t)omp_get_max_threads() * attention_room(T, HS));
    Rng rng = rng_make(4, 1);
    fill(qkv, N * 3 * C, &rng), fill(r, N * C, &rng);
    attention_forward(out, lse, qkv, strips, T, &b, 0, R, C, NH);
    double worst = 0;
    for (int k = 0; k < R; k++)
        for (int h = 0; h < NH; h++)
            for (int t = b.row_start[k]; t < b.row_start[k + 1]; t++) {
                double sum = 0, want[HS] = {0};
                for (int j = 0; j <= t; j++) {
                    const int p = b.parent[k];
                    bool in_row = j >= b.row_start[k];
                    bool in_parent = p >= 0 && j >= b.row_start[p] && j < b.row_start[p + 1];
                    if (!in_row && !in_parent) continue;
                    double score = 0;
                    for (int i = 0; i < HS; i++)
                        score +=
                            (double)qkv[t * 3 * C + h * HS + i] * qkv[j * 3 * C + C + h * HS + i];
                    sum += score = exp(score / sqrt(HS));
                    for (int i = 0; i < HS; i++)
                        want[i] += score * qkv[j * 3 * C + 2 * C + h * HS + i];
                }
                for (int i = 0; i < HS; i++) {
                    double e = fabs(want[i] / sum - out[t * C + h * HS + i]);
                    if (!(e <= worst)) worst = e;
                }
            }
    CHECK(worst < 2e-6, "attention differs from the naive loop by %g", worst);
    attention_backward(dqkv, r, qkv, out, lse, strips, T, &b, 0, R, C, NH);
#define LOSS (attention_forward(out, lse, qkv, strips, T, &b, 0, R, C, NH), weighted(r, out, N * C))
    CHECK_GRADIENT(qkv, dqkv, N * 3 * C, LOSS, "attention, all rows");
    const int rows[] = {4, 5, 7, 8}; // three tiles, a parent, a child of two tiles, a small parent
    for (int i = 0; i < COUNT(rows); i++) { // entry by entry at the row's start
        size_t at = (size_t)b.row_start[rows[i]] * 3 * C;
        CHECK_GRADIENT(qkv + at, dqkv + at, 36, LOSS, "attention, begin of a row");
    }
#undef LOSS
    free(strips), batch_free(&b);
}

// ------------------------------------------------------------------------------------------------
// The whole model against PyTorch

// Forward, heads and backward over the golden batch with the fused head or in two steps.
static double run_step(GPT2 *m, const Batch *b, float *logp, float *dlogp, bool fused) {
    int M = batch_count_mask(b);
    double loss = 0;
    for (int t = 0; t < b->N; t++) dlogp[t] = b->mask[t] ? -1.0f / (float)M : 0.0f;
    gpt2_forward(m, b);
    if (fused) lm_head_forward_backward(m, logp, dlogp);
    else lm_head_forward(m, logp), lm_head_backward(m, dlogp);
    gpt2_backward(m);
    for (int t = 0; t < b->N; t++) loss -= b->mask[t] ? logp[t] / (double)M : 0;
    return loss;
}

// All gradients by name against the golden; returns the largest error.
static double check_gradients(const GPT2 *m, const Golden *g, double bound) {
    double worst = 0;
    for (int i = 0; i < m->n_tensors; i++) {
        const Tensor *t = &m->tensors[i];
        char *name = text_format("grad.%s", t->name);
        int n;
        double *want = golden_get(g, name, &n);
        CHECK((size_t)n == t->size, "%s has %d numbers", name, n);
        double e = tensor_error(m->grads + t->offset, want, t->size);
        CHECK(e < bound, "%s: error %g", name, e);
        worst = e > worst ? e : worst;
        free(want), free(name);
    }
    return worst;
}

static void test_golden(int threads, bool recompute) {
    omp_set_num_threads(threads);
    Golden g = golden_load("test/golden/model.txt");
    Batch b = golden_batch(&g);
    GPT2 m;
    int n;
    model_load(&m, "test/golden/tiny_gpt2");
    CHECK(m.n_shards == threads, "a tiny model has one shard per thread");

    // Logits, forward only: with every mask set, the head's buffer holds a row's logits in order.
    Batch all = {0};
    for (int r = 0; r < b.R; r++)
        batch_add_row(&all, b.tokens + b.row_start[r], NULL, b.row_start[r + 1] - b.row_start[r]);
    float *logp = mem_floats((size_t)b.N), *dlogp = mem_floats((size_t)b.N);
    double *logits = golden_get(&g, "logits", &n), worst = 0;
    const int V = m.config.vocab_size;
    TokenStats *tokens = mem_alloc((size_t)b.N, sizeof *tokens);
    gpt2_forward(&m, &all);
    lm_head_forward_stats(&m, logp, tokens);
    for (int s = 0; s < m.n_shards; s++) {
        const float *row = m.shards[s].logits;
        for (int r = m.shards[s].row_begin; r < m.shards[s].row_end; r++)
            for (int t = b.row_start[r]; t + 1 < b.row_start[r + 1]; t++, row += round_up(V, 16)) {
                double e = tensor_error(row, logits + (size_t)t * V, (size_t)V);
                worst = e > worst ? e : worst;
            }
    }
    CHECK(worst < 1e-5, "logits: error %g", worst);
    double *want = golden_get(&g, "logp", &n);
    CHECK(tensor_error(logp, want, (size_t)n) < 1e-6, "logp: error %g",
          tensor_error(logp, want, (size_t)n));
    free(want);

    // What the head saw of each token, and its sums over rows
    want = golden_get(&g, "entropy", &n);
    for (int r = 0; r < b.R; r++) {
        double mean = 0, entropy = 0;
        int count = 0;
        for (int t = b.row_start[r] + 1; t < b.row_start[r + 1]; t++, count++) {
            double sum = 0;
            for (int v = 0; v < V; v++) sum += logits[(size_t)(t - 1) * V + v] / V;
            CHECK_NEAR(tokens[t].logit, sum, 1e-5, 1e-6, "mean logit before token %d", t);
            CHECK_NEAR(tokens[t].entropy, want[t - 1], 1e-5, 0, "entropy before token %d", t);
            mean += sum, entropy += want[t - 1];
        }
        HeadStats row = row_stats(tokens, &all, r);
        CHECK(row.count == count, "row %d: %d tokens", r, (int)row.count);
        CHECK_NEAR(row.logit, mean, 1e-5, 1e-5, "sum of mean logits of row %d", r);
        CHECK_NEAR(row.entropy, entropy, 1e-5, 0, "sum of entropies of row %d", r);
    }
    free(want), free(logits), free(tokens);

    // Loss, statistics and every gradient
    gpt2_train_begin(&m, recompute);
    double loss = run_step(&m, &b, logp, dlogp, true), *golden = golden_get(&g, "nll", &n);
    CHECK_NEAR(loss, golden[0], 1e-6, 0, "loss");
    free(golden);
    worst = check_gradients(&m, &g, 1e-5);
    printf("golden, %d threads%s: worst gradient error %.1e\n", threads,
           recompute ? ", recomputed" : "", worst);
    gpt2_forward(&m, &b);
    TokenStats *few = mem_alloc((size_t)b.N, sizeof *few);
    HeadStats stats = lm_head_forward_stats(&m, logp, few), sum = {0};
    for (int r = 0; r < b.R; r++) {
        const HeadStats row = row_stats(few, &b, r); // of masked tokens only
        sum.correct += row.correct, sum.count += row.count, sum.logit += row.logit;
    }
    CHECK(sum.correct == stats.correct && sum.count == stats.count, "rows add up to the batch");
    CHECK_NEAR(sum.logit, stats.logit, 1e-9, 0, "rows add up to the batch: logits");
    free(few);
    golden = golden_get(&g, "accuracy", &n);
    CHECK_NEAR((double)stats.correct / (double)stats.count, golden[0], 1e-9, 0, "accuracy");
    free(golden), golden = golden_get(&g, "mean_entropy", &n);
    CHECK_NEAR(stats.entropy / (double)stats.count, golden[0], 1e-6, 0, "entropy");
    free(golden);
    memset(m.grads, 0, m.n_floats * sizeof(float));
    run_step(&m, &b, logp, dlogp, false);
    check_gradients(&m, &g, 1e-5);

    // Ten AdamW steps as the golden's header says; the gradients are those just made
    double *losses = golden_get(&g, "losses", &n), *norms = golden_get(&g, "grad_norm", &n);
    double *rates = golden_get(&g, "learning_rate", &n);
    const AdamW opt = {0.9, 0.999, 1e-8, 0.1, true, false};
    memset(m.grads, 0, m.n_floats * sizeof(float));
    for (int step = 0; step < 10; step++) {
        loss = run_step(&m, &b, logp, dlogp, true);
        double norm = grad_norm(&m), lr = 0.01 * lr_factor("linear", step, 2, 10);
        CHECK_NEAR(loss, losses[step], 1e-5, 0, "loss of step %d", step);
        CHECK_NEAR(norm, norms[step], 1e-4, 0, "gradient norm of step %d", step);
        // 1e-7: the golden's rates are float32
        CHECK_NEAR(lr, rates[step], 1e-7, 0, "learning rate of step %d", step);
        adamw_step(&m, &opt, lr, clip_scale(norm, 1.0));
    }
    gpt2_forward(&m, &b);
    lm_head_forward(&m, logp);
    loss = 0;
    for (int t = 0; t < b.N; t++) loss -= b.mask[t] ? logp[t] / (double)batch_count_mask(&b) : 0;
    CHECK_NEAR(loss, losses[10], 1e-5, 0, "loss after the last step");
    for (int i = 0; i < m.n_tensors; i++) {
        if (strstr(m.tensors[i].name, "c_attn.bias")) continue; // see the golden's header
        char *name = text_format("final.%s", m.tensors[i].name);
        double *final = golden_get(&g, name, &n), square = 0;
        for (size_t k = 0; k < m.tensors[i].size; k++)
            square += pow(m.params[m.tensors[i].offset + k], 2);
        CHECK_NEAR(square, final[1], 1e-4, 0, "%s: sum of squares", name);
        free(final), free(name);
    }
    free(losses), free(norms), free(rates), free(logp), free(dlogp), free(g.text);
    batch_free(&b), batch_free(&all), gpt2_free(&m);
}

static void test_golden_score(void) {
    Golden g = golden_load("test/golden/model_score.txt");
    Batch b = golden_batch(&g);
    GPT2 m;
    int n;
    model_load_reward(&m, "test/golden/tiny_score");
    gpt2_train_begin(&m, false);
    float *value = mem_floats((size_t)b.N), *dvalue = mem_floats((size_t)b.N);
    double *want = golden_get(&g, "value", &n), *seed = golden_get(&g, "dvalue", &n);
    for (int t = 0; t < n; t++) dvalue[t] = (float)seed[t];
    gpt2_forward(&m, &b);
    value_head_forward(&m, value);
    CHECK(tensor_error(value, want, (size_t)n) < 1e-5, "values: error %g",
          tensor_error(value, want, (size_t)n));
    value_head_backward(&m, dvalue);
    gpt2_backward(&m);
    check_gradients(&m, &g, 1e-5);
    free(value), free(dvalue), free(want), free(seed), free(g.text);
    batch_free(&b), gpt2_free(&m);
}

// Sum of r[t] logp[t] (or of r[t] value[t]) of the batch: what the differences below differ.
static double head_loss(GPT2 *m, const Batch *b, const float *r, float *out, bool scalar) {
    gpt2_forward(m, b);
    if (scalar) value_head_forward(m, out);
    else lm_head_forward(m, out);
    return weighted(r, out, (size_t)b->N);
}

// Both heads and the embedding through the whole model, tensor by tensor.
static void test_heads(void) {
    GPT2 m;
    GPT2Config c = {.vocab_size = 37,
                    .n_positions = 12,
                    .n_embd = 12,
                    .n_layer = 1,
                    .n_head = 3,
                    .n_inner = 20,
                    .layer_norm_epsilon = 1e-5f,
                    .initializer_range = 0.4f,
                    .score_head = true};
    omp_set_num_threads(2);
    gpt2_create(&m, c);
    gpt2_init_random(&m, 3);
    gpt2_train_begin(&m, false);
    Batch b = {0};
    Rng rng = rng_make(9, 9);
    for (int k = 0; k < 3; k++) {
        int tokens[12];
        for (int t = 0; t < 12; t++) tokens[t] = (int)rng_below(&rng, 37);
        batch_add_row(&b, tokens, NULL, 12 - 5 * k);
    }
    b.mask[3] = b.mask[4] = 0;
    float *r = mem_floats((size_t)b.N), *out = mem_floats((size_t)b.N);
    fill(r, (size_t)b.N, &rng);
    for (int scalar = 0; scalar < 2; scalar++) {
        for (int t = 0; t < b.N; t++)
            if (!scalar && !b.mask[t]) r[t] = 0;
        memset(m.grads, 0, m.n_floats * sizeof(float));
        head_loss(&m, &b, r, out, scalar);
        if (scalar) value_head_backward(&m, r);
        else lm_head_backward(&m, r);
        gpt2_backward(&m);
        for (int i = 0; i < m.n_tensors; i++) {
            const Tensor *t = &m.tensors[i];
            if (!scalar && !strcmp(t->name, "score.weight")) continue;
            float *x = m.params + t->offset, *dx = m.grads + t->offset;
            CHECK_GRADIENT(x, dx, t->size, head_loss(&m, &b, r, out, scalar), t->name);
        }
    }
    free(r), free(out), batch_free(&b), gpt2_free(&m);
}

// ------------------------------------------------------------------------------------------------
// What must not matter

static GPT2Config odd_config(int C) {
    return (GPT2Config){.vocab_size = 83,
                        .n_positions = 100,
                        .n_embd = C,
                        .n_layer = 2,
                        .n_head = 3,
                        .n_inner = 41,
                        .layer_norm_epsilon = 1e-5f,
                        .initializer_range = 0.3f,
                        .bos_token_id = -1,
                        .eos_token_id = -1,
                        .pad_token_id = -1};
}

static Batch odd_batch(int rows) {
    Batch b = {0};
    Rng r = rng_make(7, 7);
    for (int k = 0; k < rows; k++) {
        int tokens[100], n = 1 + (int)rng_below(&r, 99);
        for (int t = 0; t < n; t++) tokens[t] = (int)rng_below(&r, 83);
        batch_add_row(&b, tokens, NULL, n);
    }
    return b;
}

static void copy_floats(double *to, const float *from, size_t n) {
    for (size_t i = 0; i < n; i++) to[i] = from[i];
}

static void test_invariance(void) {
    Batch b = odd_batch(9);
    float *logp = mem_floats((size_t)b.N), *dlogp = mem_floats((size_t)b.N);
    double *want = mem_alloc((size_t)b.N, sizeof *want), *grads = NULL;
    float *bits = NULL;
    for (int run = 0; run < 5; run++) { // 1 thread, 2 threads twice, 3 threads, 2 recomputing
        const int threads = run == 0 ? 1 : run == 3 ? 3 : 2;
        omp_set_num_threads(threads);
        GPT2 m;
        gpt2_create(&m, odd_config(39));
        gpt2_init_random(&m, 5);
        gpt2_train_begin(&m, run == 4);
        run_step(&m, &b, logp, dlogp, true);
        if (run == 0) {
            grads = mem_alloc(m.n_floats, sizeof *grads);
            copy_floats(want, logp, (size_t)b.N), copy_floats(grads, m.grads, m.n_floats);
        }
        // 1e-5: OpenBLAS adds in another order when a product has other sizes
        CHECK(tensor_error(logp, want, (size_t)b.N) < 1e-5, "logp, run %d", run);
        CHECK(tensor_error(m.grads, grads, m.n_floats) < 1e-5, "gradients, run %d", run);
        if (run == 1) {
            bits = mem_floats(m.n_floats);
            memcpy(bits, m.grads, m.n_floats * sizeof(float));
        }
        if (run == 2) CHECK(!memcmp(bits, m.grads, m.n_floats * sizeof(float)), "same bits again");
        gpt2_free(&m);
    }
    // Rows alone give what they give together, and their gradients add up to the batch's.
    omp_set_num_threads(2);
    GPT2 m;
    gpt2_create(&m, odd_config(39));
    gpt2_init_random(&m, 5);
    gpt2_train_begin(&m, false);
    const int M = batch_count_mask(&b);
    for (int r = 0; r < b.R; r++) {
        Batch one = {0};
        int from = b.row_start[r], n = b.row_start[r + 1] - from;
        batch_add_row(&one, b.tokens + from, NULL, n);
        for (int t = 0; t < n; t++) dlogp[t] = one.mask[t] ? -1.0f / (float)M : 0.0f;
        gpt2_forward(&m, &one);
        lm_head_forward_backward(&m, logp, dlogp);
        gpt2_backward(&m);
        CHECK(tensor_error(logp, want + from, (size_t)n) < 1e-5, "row %d alone", r);
        batch_free(&one);
    }
    CHECK(tensor_error(m.grads, grads, m.n_floats) < 1e-5, "accumulated gradients");
    // A forward-only model gives the same log-probs without room for gradients.
    GPT2 frozen;
    gpt2_create(&frozen, odd_config(39));
    gpt2_init_random(&frozen, 5);
    gpt2_forward(&frozen, &b);
    lm_head_forward(&frozen, logp);
    CHECK(tensor_error(logp, want, (size_t)b.N) < 1e-5, "forward only");
    gpt2_free(&frozen), gpt2_free(&m);
    free(logp), free(dlogp), free(want), free(grads), free(bits), batch_free(&b);
}

// Completions that share their prompt give what they give as rows of their own: log-probs, the
// gradients of all weights, and the values of the scalar head.
static void test_shared_prompts(int C, int threads) {
    omp_set_num_threads(threads);
    GPT2Config config = odd_config(C);
    config.score_head = true;
    // 0.3 at 39 channels; at any width sums of the same size, so that the bounds mean the same
    config.initializer_range *= sqrtf(39.0f / (float)C);
    GPT2 m;
    gpt2_create(&m, config);
    gpt2_init_random(&m, 5);
    gpt2_train_begin(&m, false);
    Batch shared = {0}, alone = {0};
    const int sizes[][3] = {{7, 3, 12}, {1, 1, 1}, {70, 20, 30}, {64, 1, 2}, {5, 80, 66}};
    int of_alone[400], n = 0; // for each masked token of `shared` in order, its place in `alone`
    Rng rng = rng_make(11, 11);
    for (int k = 0; k < COUNT(sizes); k++) {
        int tokens[200], prompt = sizes[k][0], root = shared.R;
        unsigned char mask[200] = {0};
        for (int t = 0; t < prompt; t++) tokens[t] = (int)rng_below(&rng, 83);
        batch_add_row(&shared, tokens, mask, prompt);
        for (int side = 1; side <= 2; side++) {
            for (int t = 0; t < sizes[k][side]; t++)
                tokens[prompt + t] = (int)rng_below(&rng, 83), mask[prompt + t] = t % 3 != 1;
            batch_add_child(&shared, root, tokens + prompt, mask + prompt, sizes[k][side]);
            batch_add_row(&alone, tokens, mask, prompt + sizes[k][side]);
            memset(mask, 0, sizeof mask);
        }
    }
    for (int t = 0; t < alone.N; t++)
        if (alone.mask[t]) of_alone[n++] = t;
    CHECK(n == batch_count_mask(&shared), "the same tokens");
    float *logp[2], *dlogp[2], *value[2], *dvalue[2];
    double *grads = mem_alloc(m.n_floats, sizeof *grads), *want = mem_alloc(400, sizeof *want);
    for (int i = 0; i < 2; i++) {
        logp[i] = mem_floats(2000), dlogp[i] = mem_floats(2000);
        value[i] = mem_floats(2000), dvalue[i] = mem_floats(2000);
    }
    for (int t = 0, k = 0; t < shared.N; t++) {
        if (!shared.mask[t]) continue;
        dlogp[0][of_alone[k]] = dlogp[1][t] = (float)rng_normal(&rng);
        dvalue[0][of_alone[k]] = dvalue[1][t] = (float)rng_normal(&rng);
        k++;
    }
    for (int i = 0; i < 2; i++) {
        memset(m.grads, 0, m.n_floats * sizeof(float));
        gpt2_forward(&m, i ? &shared : &alone);
        lm_head_forward(&m, logp[i]);
        value_head_forward(&m, value[i]);
        lm_head_backward(&m, dlogp[i]);
        value_head_backward(&m, dvalue[i]);
        gpt2_backward(&m);
        if (i == 0) copy_floats(grads, m.grads, m.n_floats);
    }
    float got[400], got_value[400];
    double want_value[400];
    for (int t = 0, k = 0; t < shared.N; t++)
        if (shared.mask[t]) {
            got[k] = logp[1][t], want[k] = logp[0][of_alone[k]];
            got_value[k] = value[1][t], want_value[k] = value[0][of_alone[k]], k++;
        }
    // 1e-5: the same sums in another order
    CHECK(tensor_error(got, want, (size_t)n) < 1e-5, "log-probs with shared prompts");
    CHECK(tensor_error(got_value, want_value, (size_t)n) < 1e-5, "values with shared prompts");
    CHECK(tensor_error(m.grads, grads, m.n_floats) < 1e-5, "gradients with shared prompts: %g",
          tensor_error(m.grads, grads, m.n_floats));
    for (int i = 0; i < 2; i++) free(logp[i]), free(dlogp[i]), free(value[i]), free(dvalue[i]);
    free(grads), free(want), batch_free(&shared), batch_free(&alone), gpt2_free(&m);
}

// A wide model runs as one shard: the other half of the code's threading.
static void test_wide(void) {
    GPT2Config config = odd_config(264);
    config.initializer_range = 0.1f; // 0.3 gives scores of 100 here, rounded to 1e-5
    double want = 0;
    float *first = NULL;
    for (int threads = 1; threads <= 2; threads++) {
        omp_set_num_threads(threads);
        GPT2 m;
        gpt2_create(&m, config);
        CHECK(m.n_shards == 1, "one shard above 256 channels");
        gpt2_init_random(&m, 5);
        gpt2_train_begin(&m, false);
        Batch b = odd_batch(26); // more than HEAD_CHUNK tokens: the head works in chunks
        float *logp = mem_floats((size_t)b.N), *dlogp = mem_floats((size_t)b.N);
        CHECK(batch_count_mask(&b) > HEAD_CHUNK, "several chunks");
        double loss = run_step(&m, &b, logp, dlogp, true);
        if (threads == 1) {
            want = loss, first = mem_floats(m.n_floats);
            memcpy(first, m.grads, m.n_floats * sizeof(float));
            memset(m.grads, 0, m.n_floats * sizeof(float));
            run_step(&m, &b, logp, dlogp, true);
            CHECK(!memcmp(first, m.grads, m.n_floats * sizeof(float)), "same bits again");
        } else {
            double *grads = mem_alloc(m.n_floats, sizeof *grads);
            copy_floats(grads, first, m.n_floats);
            CHECK_NEAR(loss, want, 1e-6, 0, "loss with two threads");
            CHECK(tensor_error(m.grads, grads, m.n_floats) < 1e-5, "gradients with two threads: %g",
                  tensor_error(m.grads, grads, m.n_floats));
            free(grads);
        }
        free(logp), free(dlogp), batch_free(&b), gpt2_free(&m);
    }
    free(first);
}

// The head's backward pass takes the logits of the forward pass if all of them are there.
static void test_held_logits(int channels) {
    for (int rows = 3; rows <= 26; rows += 23) { // fewer than HEAD_CHUNK tokens, and more
        GPT2 m;
        Batch b = odd_batch(rows);
        gpt2_create(&m, odd_config(channels));
        gpt2_init_random(&m, 5);
        gpt2_train_begin(&m, false);
        float *logp = mem_floats((size_t)b.N), *dlogp = mem_floats((size_t)b.N);
        float *fused = mem_floats(m.n_floats);
        run_step(&m, &b, logp, dlogp, true);
        memcpy(fused, m.grads, m.n_floats * sizeof(float));
        memset(m.grads, 0, m.n_floats * sizeof(float));
        gpt2_forward(&m, &b);
        lm_head_forward(&m, logp);
        if (rows == 3) CHECK(m.shards[0].logits_held, "%d rows: logits are held", rows);
        else if (m.n_shards == 1) CHECK(!m.shards[0].logits_held, "no room for the logits");
        lm_head_forward(&m, logp); // a second time, from what is there
        lm_head_backward(&m, dlogp);
        CHECK(!m.shards[0].logits_held, "they are spent");
        gpt2_backward(&m);
        CHECK(!memcmp(fused, m.grads, m.n_floats * sizeof(float)), "%d rows: same bits", rows);
        free(logp), free(dlogp), free(fused), batch_free(&b), gpt2_free(&m);
    }
}

static void test_optimizer(void) {
    CHECK_NEAR(lr_factor("linear", 0, 4, 10), 0, 0, 0, "a warm-up begins at 0");
    CHECK_NEAR(lr_factor("linear", 3, 4, 10), 0.75, 0, 1e-12, "warm-up");
    CHECK_NEAR(lr_factor("linear", 7, 4, 10), 0.5, 0, 1e-12, "linear");
    CHECK_NEAR(lr_factor("cosine", 7, 4, 10), 0.5, 0, 1e-12, "cosine");
    CHECK_NEAR(lr_factor("cosine", 10, 4, 10), 0, 0, 1e-12, "cosine's end");
    CHECK_NEAR(lr_factor("constant", 0, 4, 10), 1, 0, 0, "constant has no warm-up");
    CHECK_NEAR(lr_factor("constant_with_warmup", 1, 4, 10), 0.25, 0, 1e-12, "warm-up");
    CHECK_NEAR(lr_factor("constant_with_warmup", 9, 4, 10), 1, 0, 0, "then constant");
    CHECK_NEAR(clip_scale(10, 1), 0.1, 1e-6, 0, "clipped");
    CHECK(clip_scale(0.5, 1) == 1 && clip_scale(10, 0) == 1, "not clipped");

    GPT2 m;
    gpt2_create(&m, odd_config(39));
    gpt2_init_random(&m, 5);
    gpt2_train_begin(&m, false);
    for (size_t i = 0; i < m.n_floats; i++) m.grads[i] = 0.5f;
    CHECK_NEAR(grad_norm(&m), 0.5 * sqrt((double)m.n_floats), 1e-9, 0, "norm");
    // With zero gradients only weight decay moves: matrices, not biases, embeddings by choice.
    memset(m.grads, 0, m.n_floats * sizeof(float));
    float wte = m.w.wte[0], fc = m.w.h[0].fc_w[0], ln = m.w.ln_f_w[0];
    adamw_step(&m, &(AdamW){0.9, 0.999, 1e-8, 0.1, false, false}, 0.5, 1);
    CHECK(m.w.wte[0] == wte && m.w.ln_f_w[0] == ln, "embeddings and LayerNorm do not decay");
    CHECK_NEAR(m.w.h[0].fc_w[0], 0.95 * fc, 1e-6, 0, "matrices decay by lr * weight_decay");
    adamw_step(&m, &(AdamW){0.9, 0.999, 1e-8, 0.1, true, false}, 0.5, 1);
    CHECK_NEAR(m.w.wte[0], 0.95 * wte, 1e-6, 0, "embeddings decay if asked");
    gpt2_free(&m);
}

// The two places of AdamW's epsilon, on one weight and small gradients, where it matters.
static void test_adam_flavours(void) {
    const double b1 = 0.9, b2 = 0.999, eps = 1e-5, lr = 1e-3;
    GPT2 m[3]; // TensorFlow's, PyTorch's with a scaled epsilon, PyTorch's
    for (int i = 0; i < 3; i++) {
        gpt2_create(&m[i], odd_config(39));
        gpt2_train_begin(&m[i], false);
    }
    double p = 0, mean = 0, square = 0; // TensorFlow's formula as it stands in the paper
    for (int t = 1; t <= 20; t++) {
        const double g = 1e-4 * (t % 3 ? 1 : -0.5), hat = sqrt(1 - pow(b2, t));
        for (int i = 0; i < 3; i++) {
            m[i].grads[0] = (float)g;
            adamw_step(&m[i], &(AdamW){b1, b2, i == 1 ? eps / hat : eps, 0, true, i == 0}, lr, 1);
        }
        mean = b1 * mean + (1 - b1) * g, square = b2 * square + (1 - b2) * g * g;
        p -= lr * hat / (1 - pow(b1, t)) * mean / (sqrt(square) + eps);
        CHECK_NEAR(m[0].params[0], p, 1e-5, 0, "TensorFlow's epsilon, step %d", t);
        CHECK_NEAR(m[1].params[0], m[0].params[0], 1e-6, 0, "scaled epsilon, step %d", t);
        if (t > 1) continue;
        // First steps: lr g / (|g| + eps), and lr g / (|g| + 32 eps)
        CHECK_NEAR(m[2].params[0], -lr / 1.1, 1e-5, 0, "PyTorch's first step");
        CHECK_NEAR(m[0].params[0], -lr / (1 + 0.1 / sqrt(0.001)), 1e-5, 0, "TensorFlow's");
    }
    CHECK(m[2].params[0] / m[0].params[0] > 2, "epsilon not scaled: PyTorch's steps are longer");
    for (int i = 0; i < 3; i++) gpt2_free(&m[i]);
}

static void test_init(void) {
    GPT2 m, again;
    GPT2Config c = odd_config(48);
    c.n_inner = 400, c.initializer_range = 0.02f;
    gpt2_create(&m, c), gpt2_create(&again, c);
    gpt2_init_random(&m, 1);
    omp_set_num_threads(1);
    gpt2_init_random(&again, 1);
    CHECK(!memcmp(m.params, again.params, m.n_floats * sizeof(float)), "independent of threads");
    double fc = 0, proj = 0;
    const size_t n = 48 * 400;
    for (size_t i = 0; i < n; i++)
        fc += pow(m.w.h[0].fc_w[i], 2), proj += pow(m.w.h[0].fc_proj_w[i], 2);
    CHECK_NEAR(sqrt(fc / (double)n), 0.02, 0.03, 0, "standard deviation"); // 3 % is 5 sigma here
    CHECK_NEAR(sqrt(proj / (double)n), 0.01, 0.03, 0, "residual projection: / sqrt(2L)");
    CHECK(m.w.ln_f_w[3] == 1 && m.w.ln_f_b[3] == 0 && m.w.h[1].fc_b[0] == 0, "ones and zeros");
    gpt2_free(&m), gpt2_free(&again);
    c = (GPT2Config){.vocab_size = 50257,
                     .n_positions = 1024,
                     .n_embd = 768,
                     .n_layer = 12,
                     .n_head = 12,
                     .n_inner = 3072};
    gpt2_create(&m, c);
    CHECK(m.n_tensors == 148 && gpt2_count_params(&m) == 124439808, "GPT-2 small's table");
    gpt2_free(&m);
}

static void test_bad_batches(void) {
    GPT2 m;
    gpt2_create(&m, odd_config(39));
    gpt2_init_random(&m, 1);
    Batch b = {0};
    int tokens[101] = {83};
    batch_add_row(&b, tokens, NULL, 1);
    CHECK_DIES(EXIT_BAD_INPUT, "token id 83 is outside", gpt2_forward(&m, &b));
    batch_clear(&b), tokens[0] = 0;
    batch_add_row(&b, tokens, NULL, 101);
    CHECK_DIES(EXIT_BAD_INPUT, "longer than the model's 100 positions", gpt2_forward(&m, &b));
    batch_clear(&b);
    batch_add_row(&b, tokens + 1, NULL, 60);
    batch_add_child(&b, 0, tokens + 1, NULL, 41);
    CHECK_DIES(EXIT_BAD_INPUT, "a row of 101 tokens is longer", gpt2_forward(&m, &b));
    batch_clear(&b);
    for (int r = 0; r < 3; r++) batch_add_child(&b, r - 1, tokens + 1, NULL, 2);
    CHECK_DIES(EXIT_BAD_INPUT, "row 2 does not come after its parent", gpt2_forward(&m, &b));
    batch_free(&b), gpt2_free(&m);
}

int main(void) {
    test_bad_batches(); // forks, so before any threads
    test_elementary();
    test_matmul();
    test_layernorm();
    test_gelu();
    test_attention();
    test_golden(1, false);
    test_golden(2, false);
    test_golden(2, true);
    test_golden_score();
    test_heads();
    test_invariance();
    test_wide();
    test_held_logits(64), test_held_logits(264);
    test_shared_prompts(39, 1);
    test_shared_prompts(39, 2);
    test_shared_prompts(264, 2);
    test_optimizer();
    test_adam_flavours();
    test_init();
    return test_end("model");
}
