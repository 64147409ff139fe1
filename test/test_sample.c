// test_sample.c: the few-row products, float and bfloat16, against plain loops; the choice of a
// token against a direct implementation of transformers' rules; decoding with the cache against the
// full forward pass; everything that ends a row.
#include "test.h"
#include "../lib/base/json.h"
#include "../model.h"
#include "../lib/files/pretrained.h"
#include "../lib/run/sample.h"

// Sums of up to 600 products in another order: a few units in the last place of values around 1.
static const double SUM_TOLERANCE = 2e-5;
// Log-probabilities by decoding and by the forward pass, in nats.
static const double FLOAT_TOLERANCE = 5e-5;

static void fill(float *x, size_t n, uint64_t seed) {
    Rng r = rng_make(seed, RNG_DATA);
    for (size_t i = 0; i < n; i++) x[i] = (float)(rng_uniform(&r) - 0.5);
}

// ------------------------------------------------------------------------------------------------
// Products

enum { LINEAR_LD = 700 };

// out (rows, LINEAR_LD) after a linear layer of M rows has ended: it was fill(.., 4) before, and
// product (M, N) is the sum over K without bias, which may be NULL. `same`: whether 1 and 2 threads
// gave the same bits.
static void check_linear(const char *name, const float *out, int rows, const double *product,
                         const float *bias, int M, int K, int N, LinearEnd end, bool same) {
    const size_t size = (size_t)rows * LINEAR_LD;
    float *before = mem_floats(size);
    double worst = 0;
    bool outside = false;
    fill(before, size, 4);
    for (int m = 0; m < rows; m++)
        for (int j = 0; j < LINEAR_LD; j++) {
            float was = before[m * LINEAR_LD + j], got = out[m * LINEAR_LD + j];
            if (m >= M || j >= N) {
                outside |= got != was;
                continue;
            }
            double s =
                (bias ? bias[j] : 0.0) + (end == ADD_TO_OUT ? was : 0.0) + product[m * N + j];
            double u = 0.7978845608028654 * (s + 0.044715 * s * s * s);
            if (end == THEN_GELU) s = 0.5 * s * (1 + tanh(u));
            worst = fmax(worst, fabs(s - got));
        }
    CHECK(worst < SUM_TOLERANCE, "%s K %d N %d M %d end %d: off by %g", name, K, N, M, end, worst);
    CHECK(!outside, "%s K %d N %d M %d end %d wrote outside", name, K, N, M, end);
    CHECK(same, "%s K %d N %d M %d: 1 and 2 threads differ", name, K, N, M);
    free(before);
}

static void test_linear(int K, int N) {
    enum { ROWS = 33, LD = LINEAR_LD };
    float *x = mem_floats(ROWS * LD), *w = mem_floats((size_t)K * N), *bias = mem_floats(N);
    float *out = mem_floats(ROWS * LD), *first = mem_floats(ROWS * LD);
    float *partial = mem_floats((K_PARTS + STRIP_PARTS * ROWS) * (size_t)(N + TILE_COLS));
    fill(x, ROWS * LD, 1), fill(w, (size_t)K * N, 2), fill(bias, N, 3);
    double *product = mem_alloc(ROWS * (size_t)N, sizeof *product);
    for (int m = 0; m < ROWS; m++)
        for (int k = 0; k < K; k++)
            for (int j = 0; j < N; j++)
                product[m * N + j] += (double)x[m * LD + k] * w[(size_t)k * N + j];
    // both ways; the one that this CPU does not take with every fourth number of rows, and 33
    for (int strips = 0; strips <= 1; strips++)
        for (int M = 1; M <= ROWS; M += strips == IN_STRIPS ? 1 : 4)
            for (int end = THEN_NOTHING; end <= ADD_TO_OUT; end++) {
                for (int threads = 1; threads <= 2; threads++) {
                    omp_set_num_threads(threads);
                    fill(out, ROWS * LD, 4);
#pragma omp parallel
                    (strips ? strips_linear : blocks_linear)(out, LD, x, LD, w, bias, partial, M, K,
                                                             N, (LinearEnd)end);
                    if (threads == 1) memcpy(first, out, ROWS * LD * sizeof(float));
                }
                const bool same = !memcmp(first, out, ROWS * LD * sizeof(float));
                check_linear(strips ? "strips" : "blocks", out, ROWS, product, bias, M, K, N,
                             (LinearEnd)end, same);
            }
    free(x), free(w), free(bias), free(out), free(first), free(partial), free(product);
}

static void test_head(int C, int V) {
    enum { ROWS = 70 };
    const int ld_h = C + 3, ld = V + 5;
    float *h = mem_floats((size_t)ROWS * ld_h), *wte = mem_floats((size_t)V * C);
    float *logits = mem_floats((size_t)ROWS * ld), *turned = mem_floats((size_t)C * HEAD_LANES);
    fill(h, (size_t)ROWS * ld_h, 5), fill(wte, (size_t)V * C, 6);
    const int sizes[] = {1, 2, 3, 4, 7, 8, 9, 15, 16, 17, 31, 32, 33, 36, 70};
    for (int i = 0; i < COUNT(sizes); i++)
        for (int threads = 1; threads <= 2; threads++) {
            omp_set_num_threads(threads);
            for (size_t k = 0; k < (size_t)ROWS * ld; k++) logits[k] = 77;
#pragma omp parallel
            skinny_head(logits, ld, h, ld_h, wte, turned, sizes[i], C, V);
            double worst = 0;
            bool outside = false;
            for (int m = 0; m < ROWS; m++)
                for (int v = 0; v < ld; v++) {
                    double s = m < sizes[i] && v < V ? 0 : 77;
                    outside |= s == 77 && logits[(size_t)m * ld + v] != 77;
                    for (int c = 0; s != 77 && c < C; c++)
                        s += (double)h[(size_t)m * ld_h + c] * wte[(size_t)v * C + c];
                    worst = fmax(worst, fabs(s - logits[(size_t)m * ld + v]));
                }
            CHECK(worst < SUM_TOLERANCE && !outside, "head C %d V %d M %d: off by %g", C, V,
                  sizes[i], worst);
        }
    free(h), free(wte), free(logits), free(turned);
}

// The float that a product in bfloat16 takes for x.
static float rounded(float x) {
    const uint32_t bits = bf16_round(x) << 16;
    memcpy(&x, &bits, 4);
    return x;
}

// packed_linear on this road: rounded factors, and sums within a few units in the last place of them
// in double. W is (K, N), or the head's (N, K), where it is packed `along`.
static void test_packed(Bf16Road road, const char *name, int K, int N, bool along) {
    enum { ROWS = 40, LD = LINEAR_LD };
    float *x = mem_floats(ROWS * LD), *w = mem_floats((size_t)K * N), *bias = mem_floats(N);
    float *out = mem_floats(ROWS * LD), *first = mem_floats(ROWS * LD);
    uint32_t *panels = (uint32_t *)(void *)mem_floats(panels_words(N, K));
    uint32_t *rows = (uint32_t *)(void *)mem_floats(rounded_words(ROWS, K));
    fill(x, ROWS * LD, 1), fill(w, (size_t)K * N, 2), fill(bias, N, 3);
    bf16_road = road;
    panels_pack(panels, w, along ? K : N, along, RIGHT_FACTOR, N, K);
    double *product = mem_alloc(ROWS * (size_t)N, sizeof *product);
    for (int m = 0; m < ROWS; m++)
        for (int k = 0; k < K; k++)
            for (int j = 0; j < N; j++)
                product[m * N + j] += (double)rounded(x[m * LD + k]) *
                                      rounded(along ? w[(size_t)j * K + k] : w[(size_t)k * N + j]);
    const int sizes[] = {1, 2, 3, 4, 7, 8, 12, 13, 16, 17, 25, 32, 33, 40};
    for (int i = 0; i < COUNT(sizes); i++)
        for (int end = THEN_NOTHING; end <= ADD_TO_OUT; end++) {
            const int M = sizes[i];
            const bool biased = end != THEN_NOTHING || M % 2;
            for (int threads = 1; threads <= 2; threads++) {
                omp_set_num_threads(threads);
                fill(out, ROWS * LD, 4);
                memset(rows, 0xFF, rounded_words(ROWS, K) * 4); // what was there does not matter
#pragma omp parallel
                {
                    round_rows(rows, x, LD, M, K);
                    packed_linear(out, LD, rows, panels, biased ? bias : NULL, M, K, N,
                                  (LinearEnd)end);
                }
                if (threads == 1) memcpy(first, out, ROWS * LD * sizeof(float));
            }
            const bool same = !memcmp(first, out, ROWS * LD * sizeof(float));
            check_linear(name, out, ROWS, product, biased ? bias : NULL, M, K, N, (LinearEnd)end,
                         same);
        }
    bf16_road = BF16_UNKNOWN;
    free(x), free(w), free(bias), free(out), free(first), free(panels), free(rows), free(product);
}

// roads <- those that this build and this CPU have. Returns how many.
static int available_roads(Bf16Road roads[3]) {
    int n = 0;
    bf16_begin();
    if (bf16_road == BF16_AMX) roads[n++] = BF16_AMX;
    if (AVX512_COMPILED) roads[n++] = BF16_AVX512;
    roads[n++] = BF16_ROUNDED;
    bf16_road = BF16_UNKNOWN;
    return n;
}

static void test_packed_roads(void) {
    const int sizes[][2] = {{7, 5}, {32, 32}, {50, 97}, {131, 61}, {600, 100}, {64, 65}, {1, 1}};
    const char *names[] = {
        [BF16_AMX] = "AMX", [BF16_AVX512] = "AVX512-BF16", [BF16_ROUNDED] = "pairs widened"};
    Bf16Road roads[3];
    const int n = available_roads(roads);
    for (int r = 0; r < n; r++)
        for (int i = 0; i < COUNT(sizes); i++)
            for (int along = 0; along < 2; along++)
                test_packed(roads[r], names[roads[r]], sizes[i][0], sizes[i][1], along);
}

// ------------------------------------------------------------------------------------------------
// Choosing

typedef struct {
    double logit;
    int id;
} Sorted;

static int sorted_compare(const void *a, const void *b) {
    const Sorted *x = a, *y = b;
    if (x->logit != y->logit) return x->logit < y->logit ? -1 : 1;
    return x->id - y->id;
}

// The distribution that transformers' warpers leave, written down as they are: scores / temperature;
// scores < the k-th score out; ascending stable sort, cumulative softmax <= 1 - top_p out, the last
// one stays.
static void warped(double *p, const float *logits, int V, const SampleOptions *o) {
    Sorted *s = mem_alloc((size_t)V, sizeof *s);
    double sum = 0, below = 0;
    for (int i = 0; i < V; i++) s[i] = (Sorted){logits[i] / o->temperature, i};
    qsort(s, (size_t)V, sizeof *s, sorted_compare);
    const double least = o->top_k > 0 && o->top_k < V ? s[V - o->top_k].logit : -INFINITY;
    const double max = s[V - 1].logit;
    for (int i = 0; i < V; i++) sum += s[i].logit < least ? 0 : exp(s[i].logit - max);
    double kept = 0;
    for (int i = 0; i < V; i++) {
        double q = s[i].logit < least ? 0 : exp(s[i].logit - max) / sum;
        below += q;
        p[s[i].id] = o->top_p < 1 && below <= 1 - o->top_p && i < V - 1 ? 0 : q;
        kept += p[s[i].id];
    }
    for (int i = 0; i < V; i++) p[i] /= kept;
    free(s);
}

// Draw many tokens: none outside the distribution's support, and frequencies within chance.
static void test_choice(const char *name, const float *logits, int V, double temperature, int top_k,
                        double top_p) {
    enum { DRAWS = 40000 };
    SampleOptions o = {.temperature = temperature, .top_k = top_k, .top_p = top_p};
    double *p = mem_alloc((size_t)V, sizeof *p), chi = 0;
    int *count = mem_alloc((size_t)V, sizeof *count), cells = 0, outside = 0;
    float *scratch = mem_floats((size_t)V);
    Candidate *c = mem_alloc((size_t)V, sizeof *c);
    Rng rng = rng_make(9, RNG_SAMPLE);
    warped(p, logits, V, &o);
    for (int i = 0; i < DRAWS; i++) {
        int token = sample_token(logits, V, &o, &rng, scratch, c);
        if (token < 0 || token >= V || p[token] == 0) outside++;
        else count[token]++;
    }
    double rest_p = 0, rest = 0; // cells with few expected draws are joined
    for (int i = 0; i < V; i++) {
        if (p[i] * DRAWS < 10) {
            rest_p += p[i], rest += count[i];
            continue;
        }
        double e = p[i] * DRAWS;
        chi += (count[i] - e) * (count[i] - e) / e, cells++;
    }
    if (rest_p * DRAWS > 5) chi += pow(rest - rest_p * DRAWS, 2) / (rest_p * DRAWS), cells++;
    CHECK(outside == 0, "%s: %d draws outside of what is allowed", name, outside);
    // chi-square has mean cells - 1 and variance twice that; five deviations
    CHECK(chi <= cells - 1 + 5 * sqrt(2.0 * cells) + 1e-9, "%s: chi-square %g over %d cells", name,
          chi, cells);
    free(p), free(count), free(scratch), free(c);
}

static void test_choices(void) {
    enum { V = 1000 };
    float few[10] = {1, 2, 3, 3, 3, 0, -1, -5, 2, 2}, many[V];
    Rng r = rng_make(11, RNG_DATA);
    for (int i = 0; i < V; i++) many[i] = (float)(2 * rng_normal(&r));
    const struct {
        double temperature;
        int top_k;
        double top_p;
    } cases[] = {{1, 0, 1},      {0.7, 0, 1},   {2, 0, 1},   {1, 1, 1},     {1, 2, 1},
                 {1, 3, 1},      {1, 4, 1},     {1, 7, 1},   {1, 50, 1},    {1, 999, 1},
                 {1, 1000, 1},   {1, 5000, 1},  {1, 0, 0.5}, {1, 0, 0.05},  {1, 0, 0},
                 {1, 0, 0.95},   {1, 0, 0.999}, {1, 0, 0.3}, {0.5, 5, 0.8}, {1.5, 40, 0.9},
                 {1.5, 400, 0.5}};
    for (int i = 0; i < COUNT(cases); i++) {
        char name[80];
        snprintf(name, sizeof name, "temperature %g top_k %d top_p %g", cases[i].temperature,
                 cases[i].top_k, cases[i].top_p);
        test_choice(name, few, 10, cases[i].temperature, cases[i].top_k, cases[i].top_p);
        test_choice(name, many, V, cases[i].temperature, cases[i].top_k, cases[i].top_p);
    }
    // greedy: the first of equal logits; not finite: -1
    SampleOptions greedy = {.temperature = 0};
    SampleOptions plain = {.temperature = 1, .top_p = 1};
    float p[10], bad[10];
    Candidate c[10];
    Rng rng = rng_make(1, 1);
    CHECK(sample_token(few, 10, &greedy, &rng, p, c) == 2, "greedy takes the first maximum");
    CHECK(rng.counter == 0, "greedy takes no random numbers");
    memcpy(bad, few, sizeof bad);
    bad[4] = NAN;
    CHECK(sample_token(bad, 10, &plain, &rng, p, c) == -1, "NaN is noticed");
    bad[4] = INFINITY;
    CHECK(sample_token(bad, 10, &greedy, &rng, p, c) == -1, "infinity is noticed");
    bad[4] = -INFINITY; // a token that is ruled out is no fault
    CHECK(sample_token(bad, 10, &plain, &rng, p, c) >= 0, "-infinity is a probability of 0");
    // the k-th largest, against sorting
    Candidate scratch[V];
    Sorted s[V];
    for (int round = 0; round < 2; round++) {
        for (int i = 0; round && i < V; i++) many[i] = floorf(many[i]); // ties
        for (int i = 0; i < V; i++) s[i] = (Sorted){many[i], i};
        qsort(s, V, sizeof *s, sorted_compare);
        for (int k = 1; k <= V; k += k < 40 ? 1 : 37)
            CHECK(kth_largest(many, V, k, scratch) == (float)s[V - k].logit, "%d-th largest", k);
    }
}

// ------------------------------------------------------------------------------------------------
// Decoding

static GPT2Config config_of(int V, int P, int C, int L, int NH, int I_) {
    return (GPT2Config){.vocab_size = V,
                        .n_positions = P,
                        .n_embd = C,
                        .n_layer = L,
                        .n_head = NH,
                        .n_inner = I_,
                        .layer_norm_epsilon = 1e-5f,
                        .initializer_range = 0.2f,
                        .bos_token_id = -1,
                        .eos_token_id = -1,
                        .pad_token_id = -1};
}

static GPT2 random_model(GPT2Config config, uint64_t seed) {
    GPT2 model;
    gpt2_create(&model, config);
    gpt2_init_random(&model, seed);
    return model;
}

// R rows of the given lengths, random tokens.
static void random_prompts(Batch *b, const int *lengths, int R, int V, uint64_t seed) {
    int tokens[512] = {0};
    Rng r = rng_make(seed, RNG_DATA);
    batch_clear(b);
    for (int i = 0; i < R; i++) {
        for (int t = 0; t < lengths[i]; t++) tokens[t] = (int)rng_below(&r, (uint64_t)V);
        batch_add_row(b, tokens, NULL, lengths[i]);
    }
}

// Sample and check, step by step, the log-probability of every drawn token and of another one
// against gpt2_forward over the whole row.
static void test_cache(const char *name, GPT2 *model, const int *lengths, int R, int new,
                       double tolerance) {
    const int V = model->config.vocab_size;
    Batch prompts = {0}, rows = {0};
    Sampler s = {0};
    SampleOptions o = {
        .temperature = 1, .top_p = 1, .seed = 5, .max_new_tokens = new, .eos_id = -1};
    random_prompts(&prompts, lengths, R, V, 3);
    float *logp = mem_floats((size_t)(prompts.N + R * new) * 2);
    double worst = 0;
    int compared = 0, live;
    sampler_begin(&s, model, &o, &prompts, 0);
    do {
        live = sampler_step(&s);
        batch_clear(&rows);
        for (int r = 0; r < R; r++)
            for (int k = 0; k < 2; k++) {
                SampleRow *row = &s.rows[r];
                batch_add_row(&rows, row->tokens, NULL, row->n);
                int *last = &rows.tokens[rows.N - 1];
                *last = (*last + 7 * k) % V;
            }
        gpt2_forward(model, &rows);
        lm_head_forward(model, logp);
        for (int r = 0; r < R; r++) {
            SampleRow *row = &s.rows[r];
            if (row->n_cached != row->n - 1 || !row->logits) continue;
            double max = max_of(row->logits, V), sum = 0;
            for (int v = 0; v < V; v++) sum += exp(row->logits[v] - max);
            for (int k = 0; k < 2; k++, compared++) {
                int at = rows.row_start[2 * r + k + 1] - 1;
                double got = row->logits[rows.tokens[at]] - max - log(sum);
                worst = fmax(worst, fabs(got - logp[at]));
            }
            if (row->finish) row->logits = NULL; // compared once
        }
    } while (live);
    CHECK(worst < tolerance, "%s: decoding differs from the forward pass by %g nats", name, worst);
    CHECK(compared >= 2 * new, "%s: compared only %d", name, compared);
    free(logp), batch_free(&prompts), batch_free(&rows), sampler_free(&s);
}

static void test_decoding(void) {
    const int lengths[] = {1, 5, 17, 30, 64, 2, 3, 9, 40, 33, 16, 31};
    const int longer[] = {200, 3, 129, 1, 300, 128, 127};
    for (int threads = 1; threads <= 2; threads++) {
        omp_set_num_threads(threads);
        GPT2 odd = random_model(config_of(97, 90, 60, 3, 12, 130), 1);
        GPT2 one = random_model(config_of(131, 400, 49, 2, 1, 200), 2);
        GPT2 wide = random_model(config_of(515, 128, 288, 2, 4, 1152), 3);
        test_cache("odd sizes, one row", &odd, lengths + 1, 1, 40, FLOAT_TOLERANCE);
        test_cache("odd sizes, three rows", &odd, lengths, 3, 20, FLOAT_TOLERANCE);
        test_cache("odd sizes, twelve rows", &odd, lengths, 12, 20, FLOAT_TOLERANCE);
        test_cache("one head, long prompts", &one, longer, COUNT(longer), 12, FLOAT_TOLERANCE);
        test_cache("one head, long prompt alone", &one, longer + 4, 1, 30, FLOAT_TOLERANCE);
        test_cache("wide, nine rows", &wide, lengths, 9, 10, FLOAT_TOLERANCE);
        test_cache("wide, one row", &wide, lengths, 1, 10, FLOAT_TOLERANCE);
        gpt2_free(&odd), gpt2_free(&one), gpt2_free(&wide);
        GPT2 golden;
        model_load(&golden, "test/golden/tiny_gpt2");
        test_cache("tiny_gpt2", &golden, lengths, 3, 14, FLOAT_TOLERANCE);
        gpt2_free(&golden);
    }
}

// In bfloat16 decoding and the forward pass round the same factors, but sum in another order: a value
// close to the middle between two bfloat16 numbers may be rounded to either, which is 2^-9 of it.
// Measured, with weights this large: at most 0.026 nat. With AMX the forward pass's attention rounds
// its factors too, while attention with the cache is float: at most 0.16 nat. The tolerances are twice
// that.
static void test_bf16_decoding(Bf16Road road) {
    const int lengths[] = {1, 5, 17, 30, 64, 2, 3, 9, 40, 33, 16, 31};
    const double tolerance = road == BF16_AMX ? 0.3 : 0.05;
    use_bf16 = true;
    bf16_road = road;
    omp_set_num_threads(2);
    GPT2 odd = random_model(config_of(97, 90, 60, 3, 12, 130), 1);
    GPT2 wide = random_model(config_of(515, 128, 288, 2, 4, 1152), 3);
    test_cache("bfloat16, odd sizes, one row", &odd, lengths + 1, 1, 40, tolerance);
    test_cache("bfloat16, odd sizes, twelve rows", &odd, lengths, 12, 20, tolerance);
    test_cache("bfloat16, wide, nine rows", &wide, lengths, 9, 10, tolerance);
    test_cache("bfloat16, wide, one row", &wide, lengths, 1, 10, tolerance);
    gpt2_free(&odd), gpt2_free(&wide);
    use_bf16 = false;
    bf16_road = BF16_UNKNOWN;
}

static bool rows_equal(const Batch *a, int i, const Batch *b, int j) {
    int n = a->row_start[i + 1] - a->row_start[i];
    return n == b->row_start[j + 1] - b->row_start[j] &&
           !memcmp(a->tokens + a->row_start[i], b->tokens + b->row_start[j],
                   (size_t)n * sizeof(int)) &&
           !memcmp(a->mask + a->row_start[i], b->mask + b->row_start[j], (size_t)n);
}

static void test_reproducible(void) {
    enum { R = 12 };
    const int lengths[R] = {1, 5, 17, 30, 44, 2, 3, 9, 40, 33, 16, 31};
    GPT2 model = random_model(config_of(97, 90, 64, 2, 4, 256), 4);
    Batch prompts = {0}, a = {0}, b = {0}, one = {0};
    Sampler s = {0};
    SampleOptions o = {.temperature = 0.8,
                       .top_k = 40,
                       .top_p = 0.9,
                       .seed = 5,
                       .max_new_tokens = 30,
                       .eos_id = 96};
    random_prompts(&prompts, lengths, R, 96, 8);
    Finish finish[R], again[R];
    omp_set_num_threads(2);
    sample_batch(&s, &model, &o, &prompts, 0, &a, finish);
    sample_batch(&s, &model, &o, &prompts, 0, &b, again);
    int same = 0, differ = 0;
    for (int r = 0; r < R; r++) same += rows_equal(&a, r, &b, r) && finish[r] == again[r];
    CHECK(same == R, "same seed: only %d rows are the same again", same);
    omp_set_num_threads(1);
    sample_batch(&s, &model, &o, &prompts, 0, &b, NULL);
    for (int r = same = 0; r < R; r++) same += rows_equal(&a, r, &b, r);
    CHECK(same == R, "one thread: only %d rows are the same", same);
    // alone, a row needs its number to get the same text; its neighbours do not matter
    for (int r = same = 0; r < R; r++) {
        batch_clear(&one);
        batch_add_row(&one, prompts.tokens + prompts.row_start[r], NULL, lengths[r]);
        sample_batch(&s, &model, &o, &one, (uint64_t)r, &b, NULL);
        same += rows_equal(&a, r, &b, 0);
    }
    CHECK(same == R, "alone: only %d rows are the same", same);
    // what comes back is prompt and completion, with the mask on the completion
    for (int r = 0; r < R; r++) {
        const int *row = a.tokens + a.row_start[r];
        const unsigned char *mask = a.mask + a.row_start[r];
        int n = a.row_start[r + 1] - a.row_start[r], wrong = 0;
        wrong += memcmp(row, prompts.tokens + prompts.row_start[r], (size_t)lengths[r] * 4) != 0;
        for (int t = 0; t < n; t++) wrong += mask[t] != (t >= lengths[r]);
        for (int t = lengths[r]; t < n - 1; t++) wrong += row[t] == o.eos_id;
        wrong += (finish[r] == FINISH_EOS) != (row[n - 1] == o.eos_id);
        wrong += finish[r] == FINISH_LENGTH && n != lengths[r] + o.max_new_tokens;
        CHECK(wrong == 0, "row %d of sample_batch is not as it should be", r);
    }
    o.seed = 6;
    sample_batch(&s, &model, &o, &prompts, 0, &b, NULL);
    for (int r = 0; r < R; r++) differ += !rows_equal(&a, r, &b, r);
    CHECK(differ > R / 2, "another seed: only %d rows differ", differ);
    // the weights change: the same sampler follows, as a new one would
    for (size_t i = 0; i < model.n_floats; i++) model.params[i] *= 1.1f;
    Sampler fresh = {0};
    sample_batch(&s, &model, &o, &prompts, 0, &a, NULL);
    sample_batch(&fresh, &model, &o, &prompts, 0, &b, NULL);
    for (int r = same = 0; r < R; r++) same += rows_equal(&a, r, &b, r);
    CHECK(same == R, "after a change of weights: only %d rows are the same", same);
    // a model of another shape in the same sampler
    GPT2 other = random_model(config_of(33, 70, 36, 1, 3, 50), 5);
    random_prompts(&prompts, lengths, R, 33, 8);
    sampler_free(&fresh);
    sample_batch(&s, &other, &o, &prompts, 0, &a, NULL);
    sample_batch(&fresh, &other, &o, &prompts, 0, &b, NULL);
    for (int r = same = 0; r < R; r++) same += rows_equal(&a, r, &b, r);
    CHECK(same == R, "another model: only %d rows are the same", same);
    // greedy takes the most probable token of the forward pass
    o = (SampleOptions){.temperature = 0, .top_p = 1, .max_new_tokens = 8, .eos_id = -1};
    sample_batch(&s, &other, &o, &prompts, 0, &a, NULL);
    float *logp = mem_floats((size_t)a.N);
    gpt2_forward(&other, &a);
    HeadStats stats = lm_head_forward(&other, logp);
    CHECK(stats.correct == stats.count && stats.count == 8 * R, "greedy: %d of %d are the arg max",
          (int)stats.correct, (int)stats.count);
    o.vocab_size = 5;
    sample_batch(&s, &other, &o, &prompts, 0, &a, NULL);
    for (int t = same = 0; t < a.N; t++) same += a.mask[t] && a.tokens[t] < 5;
    CHECK(same == 8 * R, "vocab_size: only %d ids are below it", same);
    free(logp), gpt2_free(&model), gpt2_free(&other), sampler_free(&s), sampler_free(&fresh);
    batch_free(&prompts), batch_free(&a), batch_free(&b), batch_free(&one);
}

// The sampler packs when the weights are others than those that it has packed, and only then.
static void test_repacking(void) {
    enum { R = 5 };
    const int lengths[R] = {3, 1, 9, 20, 4};
    use_bf16 = true;
    GPT2 models[2] = {random_model(config_of(97, 60, 64, 2, 4, 256), 4),
                      random_model(config_of(97, 60, 64, 2, 4, 256), 5)};
    GPT2 *model = &models[0];
    const AdamW adam = {.beta1 = 0.9, .beta2 = 0.999, .epsilon = 1e-8};
    Batch prompts = {0}, a = {0}, b = {0};
    Sampler s = {0}, fresh = {0};
    SampleOptions o = {.temperature = 1, .top_p = 1, .seed = 5, .max_new_tokens = 20, .eos_id = -1};
    random_prompts(&prompts, lengths, R, 97, 8);
    sample_batch(&s, model, &o, &prompts, 0, &a, NULL);
    CHECK(s.packed_stamp == model->weights_stamp, "the first call packs");
    // a mark in the packed weights is still there: they were not packed again
    s.packed[0] ^= 1;
    const uint32_t marked = s.packed[0];
    sample_batch(&s, model, &o, &prompts, 0, &b, NULL);
    CHECK(s.packed[0] == marked, "the same weights are not packed twice");
    s.packed[0] ^= 1;
    gpt2_train_begin(model, false);
    for (size_t i = 0; i < model->n_floats; i++) model->grads[i] = (float)(i % 7) - 3;
    adamw_step(model, &adam, 0.1, 1);
    sample_batch(&s, model, &o, &prompts, 0, &b, NULL);
    sample_batch(&fresh, model, &o, &prompts, 0, &a, NULL);
    int same = 0;
    for (int r = 0; r < R; r++) same += rows_equal(&a, r, &b, r);
    CHECK(same == R && s.packed[0] == fresh.packed[0], "after an update: %d rows are the same",
          same);
    // two models in turns, each as from a sampler of its own
    for (int i = 0; i < 4; i++) {
        model = &models[i % 2];
        sampler_free(&fresh);
        sample_batch(&s, model, &o, &prompts, 0, &a, NULL);
        sample_batch(&fresh, model, &o, &prompts, 0, &b, NULL);
        for (int r = same = 0; r < R; r++) same += rows_equal(&a, r, &b, r);
        CHECK(same == R, "two models in turns: %d rows are the same", same);
    }
    // a copy of weights
    gpt2_copy_weights(&models[1], &models[0]);
    sample_batch(&s, &models[0], &o, &prompts, 0, &a, NULL);
    sample_batch(&s, &models[1], &o, &prompts, 0, &b, NULL);
    for (int r = same = 0; r < R; r++) same += rows_equal(&a, r, &b, r);
    CHECK(same == R, "copied weights: %d rows are the same", same);
    // in float again, and for a model of another size
    use_bf16 = false;
    sample_batch(&s, &models[0], &o, &prompts, 0, &a, NULL);
    sampler_free(&fresh);
    sample_batch(&fresh, &models[0], &o, &prompts, 0, &b, NULL);
    for (int r = same = 0; r < R; r++) same += rows_equal(&a, r, &b, r);
    CHECK(same == R && !fresh.packed, "float after bfloat16: %d rows are the same", same);
    use_bf16 = true;
    GPT2 other = random_model(config_of(33, 70, 36, 1, 3, 50), 5);
    random_prompts(&prompts, lengths, R, 33, 8);
    o.vocab_size = 31;
    sample_batch(&s, &other, &o, &prompts, 0, &a, NULL);
    sample_batch(&fresh, &other, &o, &prompts, 0, &b, NULL);
    for (int r = same = 0; r < R; r++) same += rows_equal(&a, r, &b, r);
    CHECK(same == R, "another size: %d rows are the same", same);
    for (int t = same = 0; t < a.N; t++) same += a.mask[t] && a.tokens[t] < 31;
    CHECK(same == 20 * R, "bfloat16, vocab_size: only %d ids are below it", same);
    use_bf16 = false;
    gpt2_free(&models[0]), gpt2_free(&models[1]), gpt2_free(&other);
    sampler_free(&s), sampler_free(&fresh), batch_free(&prompts), batch_free(&a), batch_free(&b);
}

// The greedy text in bfloat16 is that of the forward pass's logits.
static void test_bf16_greedy(Bf16Road road) {
    const int lengths[] = {3, 1, 9, 20, 4, 11, 2, 2, 7};
    use_bf16 = true;
    bf16_road = road;
    GPT2 model = random_model(config_of(97, 60, 64, 2, 4, 256), 7);
    Batch prompts = {0}, rows = {0};
    Sampler s = {0};
    SampleOptions o = {.temperature = 0, .top_p = 1, .max_new_tokens = 30, .eos_id = -1};
    for (int R = 1; R <= COUNT(lengths); R += COUNT(lengths) - 1) {
        random_prompts(&prompts, lengths, R, 97, 8);
        sample_batch(&s, &model, &o, &prompts, 0, &rows, NULL);
        float *logp = mem_floats((size_t)rows.N);
        gpt2_forward(&model, &rows);
        const HeadStats stats = lm_head_forward(&model, logp);
        // but where two tokens are as good as equally probable: one in a hundred at most
        CHECK(stats.count == 30 * R && stats.correct >= stats.count * 99 / 100,
              "bfloat16, greedy, %d rows: %d of %d are the arg max", R, (int)stats.correct,
              (int)stats.count);
        free(logp);
    }
    use_bf16 = false;
    bf16_road = BF16_UNKNOWN;
    gpt2_free(&model), sampler_free(&s), batch_free(&prompts), batch_free(&rows);
}

static void test_endings(void) {
    GPT2 model = random_model(config_of(97, 30, 64, 2, 4, 256), 6);
    const int lengths[] = {4, 20, 30, 29};
    Batch prompts = {0}, a = {0}, b = {0};
    Sampler s = {0};
    Finish finish[4];
    SampleOptions o = {.temperature = 0, .top_p = 1, .max_new_tokens = 12, .eos_id = -1};
    random_prompts(&prompts, lengths, 4, 97, 12);
    sample_batch(&s, &model, &o, &prompts, 0, &a, finish);
    CHECK(finish[0] == FINISH_LENGTH && a.row_start[1] == 16, "length ends a row");
    CHECK(finish[1] == FINISH_CONTEXT && a.row_start[2] - a.row_start[1] == 30,
          "the context ends a row");
    CHECK(finish[2] == FINISH_CONTEXT && a.row_start[3] - a.row_start[2] == 30,
          "a full prompt gets nothing");
    CHECK(finish[3] == FINISH_CONTEXT && a.row_start[4] - a.row_start[3] == 30,
          "one token is left");
    // call the first token that came for the first time at its place EOS: the row ends there
    int at = 4 + 1;
    while (at < 15 && memchr(a.tokens + 4, a.tokens[at], 0)) at++;
    o.eos_id = a.tokens[at];
    int first = 4;
    while (a.tokens[first] != o.eos_id) first++;
    sample_batch(&s, &model, &o, &prompts, 0, &b, finish);
    CHECK(finish[0] == FINISH_EOS && b.row_start[1] == first + 1 && b.tokens[first] == o.eos_id,
          "EOS ends a row");
    CHECK(!memcmp(a.tokens, b.tokens, (size_t)first * sizeof(int)), "and changes nothing before");
    o.max_new_tokens = 0;
    sample_batch(&s, &model, &o, &prompts, 0, &b, finish);
    CHECK(b.N == prompts.N && finish[0] == FINISH_LENGTH, "no new tokens");
    batch_clear(&prompts);
    sample_batch(&s, &model, &o, &prompts, 0, &b, finish);
    CHECK(b.R == 0, "no rows");
    const char *names[] = {"none", "eos", "length", "context"};
    for (int f = FINISH_NONE; f <= FINISH_CONTEXT; f++)
        CHECK(!strcmp(finish_name((Finish)f), names[f]), "name of %d", f);
    gpt2_free(&model), batch_free(&prompts), batch_free(&a), batch_free(&b), sampler_free(&s);
}

// These end the process. They come first: no threads are running yet.
static void test_mistakes(void) {
    GPT2 model;
    gpt2_create(&model, config_of(10, 8, 16, 1, 1, 16)); // all zero, not random: no threads
    Batch prompts = {0}, out = {0};
    Sampler s = {0};
    SampleOptions o = {.temperature = 1, .top_p = 1, .max_new_tokens = 2, .eos_id = -1};
    const int tokens[9] = {1, 2, 3, 4, 5, 6, 7, 8, 9}, bad[1] = {10};
    batch_add_row(&prompts, tokens, NULL, 3);
    batch_add_row(&prompts, tokens, NULL, 0);
    CHECK_DIES(EXIT_BAD_INPUT, "prompt 2 has no tokens",
               sample_batch(&s, &model, &o, &prompts, 0, &out, NULL));
    batch_clear(&prompts);
    batch_add_row(&prompts, tokens, NULL, 9);
    CHECK_DIES(EXIT_BAD_INPUT, "prompt 1 has 9 tokens, the model has 8 positions",
               sample_batch(&s, &model, &o, &prompts, 0, &out, NULL));
    batch_clear(&prompts);
    batch_add_row(&prompts, bad, NULL, 1);
    CHECK_DIES(EXIT_BAD_INPUT, "token id 10 is outside the model's vocabulary of 10",
               sample_batch(&s, &model, &o, &prompts, 0, &out, NULL));
    batch_clear(&prompts);
    batch_add_row(&prompts, tokens, NULL, 3);
    model.w.ln_f_b[3] = NAN;
    CHECK_DIES(EXIT_DIVERGED, "logits are not finite at position 3",
               sample_batch(&s, &model, &o, &prompts, 0, &out, NULL));
    gpt2_free(&model), batch_free(&prompts), sampler_free(&s);
}

int main(void) {
    Bf16Road roads[3];
    const int n = available_roads(roads);
#ifndef AMX_EMULATED // what has nothing to do with bfloat16 need not run twice
    test_mistakes();
    const int sizes[][2] = {{7, 5}, {48, 48}, {50, 97}, {131, 60}, {600, 100}, {64, 64}, {1, 1}};
    for (int order = 0; order < 2; order++) {
        front_to_back = order; // whichever this CPU wants
        for (int i = 0; i < COUNT(sizes); i++) test_linear(sizes[i][0], sizes[i][1]);
        test_head(60, 97), test_head(7, 5), test_head(128, 300);
    }
    test_choices();
    test_decoding();
    test_reproducible();
    test_endings();
#endif
    for (int order = 0; order < 2; order++) {
        front_to_back = order;
        test_packed_roads();
    }
    for (int i = 0; i < n; i++) {
        test_bf16_decoding(roads[i]);
        test_bf16_greedy(roads[i]);
    }
    test_repacking();
    return test_end("sample");
}
