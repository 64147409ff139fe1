// Tests of panels.h, bf16.h and amx.h: rounding and packing; the product against sums in double of
// the rounded factors, at all edges; and a GPT-2 whose products are in bfloat16 against the same
// one in float. Products are tested on all roads that this CPU has; test_amx.c does the same on
// AMX, emulated.
#include "../model.h"
#include "test.h"

#ifdef AMX_EMULATED
#define TEST_NAME "amx"
#else
#define TEST_NAME "bf16"
#endif

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

static float random_number(Rng *rng) { return (float)(2 * rng_uniform(rng) - 1); }

// x (rows, cols; ld apart), random, with NaN between the rows: nobody may read there.
static float *random_matrix(Rng *rng, int rows, int cols, int ld) {
    float *x = mem_floats((size_t)rows * ld);
    for (int i = 0; i < rows; i++)
        for (int j = 0; j < ld; j++) x[(size_t)i * ld + j] = j < cols ? random_number(rng) : NAN;
    return x;
}

// Every number of a packed factor is where panels.h says, and zeros are around it.
static void test_panels(int lines, int K) {
    Rng rng = rng_make(5, RNG_DATA);
    for (int form = 0; form < 4; form++) {
        const bool along = form & 1;
        const Side side = form & 2 ? RIGHT_FACTOR : LEFT_FACTOR;
        const int ld = (along ? K : lines) + 3;
        float *x = random_matrix(&rng, along ? lines : K, along ? K : lines, ld);
        const size_t words = panels_words(lines, K);
        uint32_t *panels = (uint32_t *)mem_floats(words);
        int wrong = 0;
        memset(panels, 0xFF, words * sizeof *panels);
        panels_pack(panels, x, ld, along, side, lines, K);
        for (int i = 0; i < (lines + 31) / 32 * 32; i++)
            for (int k = 0; k < (K + 31) / 32 * 32; k++) {
                const int line = i % 16, pair = k % 32 / 2;
                const uint32_t *tile = panels + (size_t)(i / 32) * panel_words(K) +
                                       (size_t)(k / 32) * 512 + (size_t)(i % 32 / 16) * 256;
                const uint32_t both =
                    tile[side == LEFT_FACTOR ? 16 * line + pair : 16 * pair + line];
                uint32_t want = 0;
                if (i < lines && k < K)
                    want = bf16_round(along ? x[(size_t)i * ld + k] : x[(size_t)k * ld + i]);
                wrong += (k % 2 ? both >> 16 : both & 0xFFFF) != want;
            }
        CHECK(wrong == 0, "%d lines, K %d, form %d: %d numbers are packed wrongly", lines, K, form,
              wrong);
        free(x), free(panels);
    }
}

// Whoever packs must write all that is read: what earlier products left in the memory to pack into
// becomes NaN.
static void spoil_packing_room(void) {
    const size_t bytes = 1 << 20;
    memset(packing_room(bytes), 0xFF, bytes);
}

// to (lines, K) <- the rounded lines of a factor: element k of line i is x[i ld + k] or, `across`,
// x[k ld + i].
static double *rounded_lines(const float *x, int ld, bool across, int lines, int K) {
    double *to = mem_alloc((size_t)lines * K, sizeof *to);
    for (int i = 0; i < lines; i++)
        for (int k = 0; k < K; k++)
            to[(size_t)i * K + k] =
                bf16_value(across ? x[(size_t)k * ld + i] : x[(size_t)i * ld + k]);
    return to;
}

// What a product can start from.
enum { FROM_ZERO, FROM_OUT, FROM_BIAS, FROM_OTHER, STARTS };

// All forms of the factors.
static void test_product(int M, int N, int K, int from) {
    Rng rng = rng_make(1, RNG_DATA);
    for (int turns = 0; turns < 4; turns++) {
        const bool a_turned = turns & 1, b_turned = turns & 2;
        const int lda = (a_turned ? M : K) + 3, ldb = (b_turned ? K : N) + 5, ld = N + 2;
        float *a = random_matrix(&rng, a_turned ? K : M, a_turned ? M : K, lda);
        float *b = random_matrix(&rng, b_turned ? N : K, b_turned ? K : N, ldb);
        float *other = random_matrix(&rng, M, N, N + 1);
        // one row more than the product has; it and what is after a row must stay. What is not
        // added to may hold anything.
        const size_t size = (size_t)ld * (M + 1);
        float *out = mem_floats(size), *before = mem_floats(size);
        for (size_t i = 0; i < size; i++) before[i] = from == FROM_OUT ? random_number(&rng) : NAN;
        for (int m = 0; m <= M; m++)
            for (int i = m < M ? N : 0; i < ld; i++) before[(size_t)m * ld + i] = 7;
        memcpy(out, before, size * sizeof *out);
        const float *start = from == FROM_ZERO ? NULL : from == FROM_OUT ? out : other;
        const int start_ld = from == FROM_OUT ? ld : from == FROM_BIAS ? 0 : N + 1;
        const float alpha = (turns + from) % 3 ? 1.0f : 0.7f;
        spoil_packing_room();
        bf16_product(out, ld, a, lda, a_turned, b, ldb, b_turned, M, N, K, alpha, start, start_ld);
        double *rows = rounded_lines(a, lda, a_turned, M, K);
        double *cols = rounded_lines(b, ldb, !b_turned, N, K);
        double worst = 0;
        int wrong = 0; // counted, since a NaN is no maximum
        for (int m = 0; m <= M; m++)
            for (int n = 0; n < ld; n++) {
                const float got = out[(size_t)m * ld + n], was = before[(size_t)m * ld + n];
                double sum = 0, terms = 0, want = was, error;
                if (m < M && n < N) {
                    for (int k = 0; k < K; k++) {
                        const double term = rows[(size_t)m * K + k] * cols[(size_t)n * K + k];
                        sum += term, terms += fabs(term);
                    }
                    want = alpha * sum;
                    if (from == FROM_OUT) want += was;
                    else if (start) want += start[(size_t)m * start_ld + n];
                }
                error = fabs(got - want) / (terms + 1);
                // rounding of a sum in float, in any order, errs by a few 2^-24 of what goes in
                if (!(error < 1e-6)) wrong++;
                if (error > worst) worst = error; // not fmax: GCC 12 for Arm dies of it at -O3
            }
        CHECK(wrong == 0, "%s, %d x %d x %d, case %d from %d: %d entries are wrong, by up to %g",
              bf16_road_name(), M, N, K, turns, from, wrong, worst);
        free(a), free(b), free(out), free(before), free(other), free(rows), free(cols);
    }
}

// A row's sums do not depend on the rows beside it, nor on the number of threads. (Where OpenBLAS
// multiplies the rounded factors, they may.)
static void test_same_bits(void) {
    enum { M = 37, N = 101, K = 900 };
    Rng rng = rng_make(2, RNG_DATA);
    float *a = random_matrix(&rng, M, K, K), *b = random_matrix(&rng, K, N, N);
    float *bias = random_matrix(&rng, 1, N, N), *all = mem_floats(M * N),
          *again = mem_floats(M * N);
    const int threads = omp_get_max_threads();
    omp_set_num_threads(3);
    bf16_product(all, N, a, K, false, b, N, false, M, N, K, 1, bias, 0);
    for (int n = 2; n >= 1; n--) {
        omp_set_num_threads(n);
        bf16_product(again, N, a, K, false, b, N, false, M, N, K, 1, bias, 0);
        CHECK(!memcmp(again, all, M * N * sizeof *all), "%s: 3 threads and %d give the same bits",
              bf16_road_name(), n);
    }
    for (int m = 0; m < M; m++)
        bf16_product(again + (size_t)m * N, N, a + (size_t)m * K, K, false, b, N, false, 1, N, K, 1,
                     bias, 0);
    CHECK(!memcmp(again, all, M * N * sizeof *all), "%s: a row alone has the same bits",
          bf16_road_name());
    omp_set_num_threads(threads);
    free(a), free(b), free(bias), free(all), free(again);
}

// Panels of weights that are packed once and multiplied range by range, as sampling does: the bits
// of bf16_product.
static void test_ranges(int M, bool along) {
    enum { N = 101, K = 200, PANELS = (N + 31) / 32 };
    Rng rng = rng_make(6, RNG_DATA);
    const int ldb = along ? K : N;
    float *a = random_matrix(&rng, M, K, K), *b = random_matrix(&rng, along ? N : K, ldb, ldb);
    float *bias = random_matrix(&rng, 1, N, N), *want = mem_floats((size_t)M * N);
    float *got = mem_floats((size_t)M * N);
    uint32_t *rows = (uint32_t *)mem_floats(panels_words(M, K));
    uint32_t *panels = (uint32_t *)mem_floats(panels_words(N, K));
    bf16_product(want, N, a, K, false, b, ldb, along, M, N, K, 1, bias, 0);
    panels_pack(rows, a, K, true, LEFT_FACTOR, M, K);
    panels_pack(panels, b, ldb, along, RIGHT_FACTOR, N, K);
#pragma omp parallel for
    for (int p = 0; p < PANELS; p++) {
        amx_begin();
        amx_multiply(got + 32 * p, N, bias + 32 * p, 0, rows, panels + p * panel_words(K),
                     panel_words(K), M, N - 32 * p < 32 ? N - 32 * p : 32, K, 1, M <= 32);
        amx_end();
    }
    CHECK(!memcmp(got, want, (size_t)M * N * sizeof *got), "%d rows, panel by panel", M);
    free(a), free(b), free(bias), free(want), free(got), free(rows), free(panels);
}

// Rows for a GPT-2: short ones, one of more than a query tile of attention, and a shared prompt
// whose two children meet keys of both.
static void add_rows(Batch *batch) {
    const struct {
        int n, parent;
    } rows[] = {{1, -1},  {200, -1}, {33, -1}, {57, -1}, {20, -1},
                {41, -1}, {70, -1},  {150, 6}, {31, 6},  {64, -1}};
    Rng rng = rng_make(3, RNG_DATA);
    for (int r = 0; r < COUNT(rows); r++) {
        int tokens[200];
        for (int t = 0; t < rows[r].n; t++) tokens[t] = (int)rng_below(&rng, 211);
        if (rows[r].parent < 0) batch_add_row(batch, tokens, NULL, rows[r].n);
        else batch_add_child(batch, rows[r].parent, tokens, NULL, rows[r].n);
    }
}

// Attention whose products are in bfloat16 (AMX alone) against float. What it reads is rounded
// before, so that only P, dS and dout . out differ: P and dS by up to 2^-9 = 0.002 of themselves,
// at random.
static void test_attention(int HS) {
    enum { NH = 2, T = 220 };
    const int C = NH * HS;
    Rng rng = rng_make(4, RNG_DATA);
    Batch b = {0};
    add_rows(&b);
    const size_t size = (size_t)b.N * C;
    float *qkv = mem_floats(3 * size), *dout = mem_floats(size),
          *lse = mem_floats((size_t)b.N * NH);
    float *strips = mem_floats((size_t)omp_get_max_threads() * attention_room(T, HS));
    float *out[2], *dqkv[2];
    for (size_t i = 0; i < 3 * size; i++) qkv[i] = bf16_value((float)rng_normal(&rng));
    for (size_t i = 0; i < size; i++) dout[i] = bf16_value((float)rng_normal(&rng));
    for (int bf16 = 0; bf16 < 2; bf16++) {
        use_bf16 = bf16;
        out[bf16] = mem_floats(size), dqkv[bf16] = mem_floats(3 * size);
        attention_forward(out[bf16], lse, qkv, strips, T, &b, 0, b.R, C, NH);
        attention_backward(dqkv[bf16], dout, qkv, out[bf16], lse, strips, T, &b, 0, b.R, C, NH);
    }
    use_bf16 = false;
    double off = 0, norm = 0, d_off[3] = {0}, d_norm[3] = {0};
    for (size_t i = 0; i < size; i++)
        off += pow(out[1][i] - out[0][i], 2), norm += pow(out[0][i], 2);
    for (size_t i = 0; i < 3 * size; i++) {
        const int part = (int)(i / (size_t)C % 3); // dQ, dK, dV
        d_off[part] += pow(dqkv[1][i] - dqkv[0][i], 2), d_norm[part] += pow(dqkv[0][i], 2);
    }
    CHECK(off > 0 && sqrt(off / norm) < 0.002, "head size %d: attention is off by %g", HS,
          sqrt(off / norm));
    for (int part = 0; part < 3; part++)
        CHECK(sqrt(d_off[part] / d_norm[part]) < 0.003, "head size %d: d%c is off by %g", HS,
              "QKV"[part], sqrt(d_off[part] / d_norm[part]));
    for (int i = 0; i < 2; i++) free(out[i]), free(dqkv[i]);
    free(qkv), free(dout), free(lse), free(strips), batch_free(&b);
}

// Loss and gradients of a small GPT-2: near those in float, as bfloat16's 8 bits allow.
static void test_model(int channels) {
    GPT2 model;
    Batch batch = {0};
    const GPT2Config config = {.vocab_size = 211,
                               .n_positions = 256,
                               .n_embd = channels,
                               .n_layer = 2,
                               .n_head = 4,
                               .n_inner = 4 * channels,
                               .layer_norm_epsilon = 1e-5f,
                               .initializer_range = 0.02f};
    gpt2_create(&model, config), gpt2_init_random(&model, 1), gpt2_train_begin(&model, false);
    add_rows(&batch);
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
    CHECK_NEAR(loss[1], loss[0], 1e-3, 0, "%s, %d channels: loss", bf16_road_name(), channels);
    CHECK(loss[1] != loss[0], "%s, %d channels: bfloat16 was not used", bf16_road_name(), channels);
    CHECK_NEAR(norm[1], norm[0], 1e-2, 0, "%s, %d channels: gradient norm", bf16_road_name(),
               channels);
    // and a gradient goes through a dozen products
    CHECK(sqrt(difference) < 0.02 * norm[0],
          "%s, %d channels: gradients differ by %g of their norm", bf16_road_name(), channels,
          sqrt(difference) / norm[0]);
    free(logp), free(dlogp), free(grads), batch_free(&batch), gpt2_free(&model);
}

int main(void) {
    const bool has[] = {[BF16_AMX] = AMX_COMPILED && amx_permitted(),
                        [BF16_AVX512] = AVX512_COMPILED,
                        [BF16_ROUNDED] = true};
    test_rounding();
    const int packed[][2] = {{1, 1},   {16, 32},   {32, 64},  {33, 65},
                             {15, 31}, {200, 100}, {128, 257}};
    for (int i = 0; i < COUNT(packed); i++) test_panels(packed[i][0], packed[i][1]);
    const int sizes[][3] = {{1, 1, 1},     {8, 48, 2},    {7, 47, 3},     {9, 49, 33},
                            {17, 5, 64},   {3, 200, 770}, {65, 97, 1537}, {1030, 50, 3073},
                            {8, 1, 31},    {40, 96, 768}, {16500, 3, 50}, {5450, 2, 768},
                            {34, 1100, 70}};
    const int edges[] = {1, 7, 16, 31, 33, 64, 100}, depths[] = {32, 5, 800, 100, 769, 64, 1100};
    for (Bf16Road road = BF16_AMX; road <= BF16_ROUNDED; road++) {
        if (!has[road]) continue;
#ifdef AMX_EMULATED
        if (road == BF16_ROUNDED) continue; // test_bf16 has that
#endif
        bf16_road = road;
        for (int i = 0; i < COUNT(sizes); i++)
            for (int from = 0; from < STARTS; from++)
                test_product(sizes[i][0], sizes[i][1], sizes[i][2], from);
        for (int i = 0; i < 7; i++)
            for (int k = 0; k < 7; k++)
                test_product(edges[i], edges[k], depths[(i + 2 * k) % 7], (i + k) % STARTS);
        if (road != BF16_ROUNDED) test_same_bits();
        if (road == BF16_AMX)
            for (int i = 0; i < 7; i++) test_ranges(edges[i], i & 1);
        if (road == BF16_AMX) test_attention(12), test_attention(64);
        test_model(64), test_model(320); // rows dealt out to threads; all threads in each product
    }
    return test_end(TEST_NAME);
}
