// Tests of bf16.h: rounding; the product against sums in double of the rounded factors, at all
// edges; and a GPT-2 whose products are in bfloat16 against the same one in float.
#include "../model.h"
#include "test.h"

static float bf16_value(float x) {
    const uint32_t bits = bf16_round(x) << 16;
    float y;
    memcpy(&y, &bits, 4);
    return y;
}

static float from_bits(uint32_t bits) {
    float x;
    memcpy(&x, &bits, 4);
    return x;
}

static void test_rounding(void) {
    const struct {
        uint32_t from, to;
    } cases[] = {
        {0x3F800000, 0x3F80}, // 1
        {0x3F808000, 0x3F80}, // halfway: down to even
        {0x3F818000, 0x3F82}, // halfway: up to even
        {0x3F808001, 0x3F81}, {0x3F807FFF, 0x3F80}, {0xBF808001, 0xBF81},
        {0x7F7FFFFF, 0x7F80}, // the largest float is nearest to infinity
        {0x7F800000, 0x7F80}, {0xFF800000, 0xFF80}, {0x80000000, 0x8000},
        {0x00008000, 0x0000}, {0x00018000, 0x0002}, // subnormal
    };
    for (int i = 0; i < COUNT(cases); i++)
        CHECK(bf16_round(from_bits(cases[i].from)) == cases[i].to, "%08x rounds to %04x",
              cases[i].from, bf16_round(from_bits(cases[i].from)));
    CHECK(isnan(bf16_value(NAN)) && isnan(bf16_value(from_bits(0x7F800001))), "NaN stays NaN");
}

// What bf16_product must give: rounded factors, exact sum; *size gets the sum of absolute values.
static double reference(const float *a, int lda, bool a_turned, const float *b, int ldb,
                        bool b_turned, int m, int n, int K, double *size) {
    double sum = 0;
    *size = 0;
    for (int k = 0; k < K; k++) {
        const double x = bf16_value(a_turned ? a[(size_t)k * lda + m] : a[(size_t)m * lda + k]);
        const double y = bf16_value(b_turned ? b[(size_t)n * ldb + k] : b[(size_t)k * ldb + n]);
        sum += x * y, *size += fabs(x * y);
    }
    return sum;
}

static void test_product(int M, int N, int K) {
    Rng rng = rng_make(1, RNG_DATA);
    for (int turns = 0; turns < 8; turns++) {
        const bool a_turned = turns & 1, b_turned = turns & 2, add = turns & 4;
        const int lda = (a_turned ? M : K) + 3, ldb = (b_turned ? K : N) + 5, ld = N + 2;
        const size_t a_size = (size_t)lda * (a_turned ? K : M);
        const size_t b_size = (size_t)ldb * (b_turned ? N : K), size = (size_t)ld * M;
        float *a = mem_floats(a_size), *b = mem_floats(b_size), *out = mem_floats(size);
        float *before = mem_floats(size);
        for (size_t i = 0; i < a_size; i++) a[i] = (float)rng_normal(&rng);
        for (size_t i = 0; i < b_size; i++) b[i] = (float)rng_normal(&rng);
        // what is not added to may hold anything, and what is behind a row must stay
        for (size_t i = 0; i < size; i++) before[i] = add ? (float)rng_normal(&rng) : NAN;
        for (int m = 0; m < M; m++)
            for (int i = N; i < ld; i++) before[(size_t)m * ld + i] = 7;
        memcpy(out, before, size * sizeof *out);
        const float alpha = turns % 3 ? 1.0f : 0.625f;
        bf16_product(out, ld, a, lda, a_turned, b, ldb, b_turned, M, N, K, alpha, add);
        double worst = 0;
        int wrong = 0; // counted, since a NaN is no maximum
        for (int m = 0; m < M; m++)
            for (int n = 0; n < ld; n++) {
                const float got = out[(size_t)m * ld + n], was = before[(size_t)m * ld + n];
                double terms = 0, want = was, error;
                if (n < N)
                    want = alpha * reference(a, lda, a_turned, b, ldb, b_turned, m, n, K, &terms) +
                           (add ? was : 0);
                error = fabs(got - want) / (terms + 1);
                // rounding of a sum in float, in any order, errs by a few 2^-24 of what goes in
                if (!(error < 1e-6)) wrong++;
                worst = fmax(worst, error);
            }
        CHECK(wrong == 0, "%d x %d x %d, case %d: %d entries are wrong, by up to %g", M, N, K,
              turns, wrong, worst);
        free(a), free(b), free(out), free(before);
    }
}

// A row's sums do not depend on the rows beside it, nor on the number of threads. (Where OpenBLAS
// multiplies the rounded factors, they may.)
static void test_same_bits(void) {
    enum { M = 37, N = 101, K = 900 };
    Rng rng = rng_make(2, RNG_DATA);
    float *a = mem_floats(M * K), *b = mem_floats(K * N), *all = mem_floats(M * N), one[N];
    for (int i = 0; i < M * K; i++) a[i] = (float)rng_normal(&rng);
    for (int i = 0; i < K * N; i++) b[i] = (float)rng_normal(&rng);
    const int threads = omp_get_max_threads();
    bf16_product(all, N, a, K, false, b, N, false, M, N, K, 1, false);
    omp_set_num_threads(1);
    bool same = true;
    for (int m = 0; m < M; m++) {
        bf16_product(one, N, a + (size_t)m * K, K, false, b, N, false, 1, N, K, 1, false);
        same = same && !memcmp(one, all + (size_t)m * N, sizeof one);
    }
    omp_set_num_threads(threads);
    CHECK(same, "a row alone on one thread has the same bits");
    free(a), free(b), free(all);
}

// Loss and gradients of a small GPT-2: near those in float, as bfloat16's 8 bits allow.
static void test_model(int channels) {
    GPT2 model;
    Batch batch = {0};
    Rng rng = rng_make(3, RNG_DATA);
    const GPT2Config config = {.vocab_size = 211,
                               .n_positions = 64,
                               .n_embd = channels,
                               .n_layer = 2,
                               .n_head = 4,
                               .n_inner = 4 * channels,
                               .layer_norm_epsilon = 1e-5f,
                               .initializer_range = 0.02f};
    gpt2_create(&model, config), gpt2_init_random(&model, 1), gpt2_train_begin(&model, false);
    for (int r = 0; r < 7; r++) {
        int row[60], n = 20 + (int)rng_below(&rng, 40);
        for (int t = 0; t < n; t++) row[t] = (int)rng_below(&rng, 211);
        batch_add_row(&batch, row, NULL, n);
    }
    float *logp = mem_floats((size_t)batch.N), *dlogp = mem_floats((size_t)batch.N);
    const int count = (int)batch_count_mask(&batch);
    for (int t = 0; t < batch.N; t++) dlogp[t] = batch.mask[t] ? -1.0f / (float)count : 0.0f;
    double loss[2] = {0}, norm[2], difference = 0;
    float *grads = mem_floats(model.n_floats);
    for (int bf16 = 0; bf16 < 2; bf16++) {
        use_bf16 = bf16;
        gpt2_forward(&model, &batch);
        lm_head_forward_backward(&model, logp, dlogp);
        gpt2_backward(&model);
        for (int t = 0; t < batch.N; t++) loss[bf16] -= logp[t] / count;
        norm[bf16] = grad_norm(&model);
        for (size_t i = 0; i < model.n_floats; i++) {
            if (bf16) difference += pow(model.grads[i] - grads[i], 2);
            grads[i] = model.grads[i], model.grads[i] = 0;
        }
    }
    use_bf16 = false;
    // a factor is off by up to 2^-9 = 2e-3 of itself, at random: in the mean of 200 tokens little
    // is left of it, in a norm more
    CHECK_NEAR(loss[1], loss[0], 1e-3, 0, "%d channels: loss", channels);
    CHECK(loss[1] != loss[0], "%d channels: bfloat16 was not used", channels);
    CHECK_NEAR(norm[1], norm[0], 1e-2, 0, "%d channels: gradient norm", channels);
    // and a gradient goes through a dozen products
    CHECK(sqrt(difference) < 0.02 * norm[0], "%d channels: gradients differ by %g of their norm",
          channels, sqrt(difference) / norm[0]);
    free(logp), free(dlogp), free(grads), batch_free(&batch), gpt2_free(&model);
}

int main(void) {
    test_rounding();
    const int sizes[][3] = {{1, 1, 1},   {8, 48, 2},    {7, 47, 3},     {9, 49, 33},
                            {17, 5, 64}, {3, 200, 770}, {65, 97, 1537}, {1030, 50, 769},
                            {8, 1, 31},  {40, 96, 768}, {16500, 3, 50}};
    for (int i = 0; i < COUNT(sizes); i++) test_product(sizes[i][0], sizes[i][1], sizes[i][2]);
    if (bf16_in_hardware) test_same_bits();
    test_model(64), test_model(320); // rows dealt out to threads; all threads in each product
    return test_end("bf16");
}
