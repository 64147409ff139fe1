// Tests of kl.h: the divergence of a state against a sum over every token's log-probability, in
// models of several shards and of one, in rows and their children; and, over all completions of a
// tiny vocabulary, that the divergences of the states add up to that of the completions.
#include "test.h"
#include "../model.h"
#include "../lib/run/kl.h"

static void model_make(GPT2 *model, int C, int V, uint64_t seed) {
    const GPT2Config config = {.vocab_size = V,
                               .n_positions = 64,
                               .n_embd = C,
                               .n_layer = 2,
                               .n_head = 2,
                               .n_inner = 2 * C,
                               .layer_norm_epsilon = 1e-5f,
                               .initializer_range = C < 100 ? 0.3f : 0.1f,
                               .bos_token_id = -1,
                               .eos_token_id = -1,
                               .pad_token_id = -1};
    gpt2_create(model, config);
    gpt2_init_random(model, seed);
}

// Sum over v of p_v (log p_v - log q_v) after the row of tokens (n), each log-probability from the
// language-model head: one row for each v.
static double state_kl(GPT2 *model, GPT2 *ref, const int *tokens, int n) {
    const int V = model->config.vocab_size;
    Batch b = {0};
    int row[65];
    unsigned char mask[65] = {0};
    memcpy(row, tokens, (size_t)n * sizeof *row);
    mask[n] = 1;
    for (int v = 0; v < V; v++) row[n] = v, batch_add_row(&b, row, mask, n + 1);
    float *logp = mem_floats((size_t)b.N), *ref_logp = mem_floats((size_t)b.N);
    gpt2_forward(model, &b), lm_head_forward(model, logp);
    gpt2_forward(ref, &b), lm_head_forward(ref, ref_logp);
    double sum = 0, total = 0;
    for (int v = 0; v < V; v++) {
        const int at = b.row_start[v + 1] - 1;
        total += exp((double)logp[at]);
        sum += exp((double)logp[at]) * ((double)logp[at] - (double)ref_logp[at]);
    }
    CHECK_NEAR(total, 1, 1e-5, 0, "probabilities add up");
    batch_free(&b), free(logp), free(ref_logp);
    return sum;
}

// Rows of many lengths and a parent with two children: more masked tokens than a chunk of the head.
static void test_states(void) {
    enum { V = 61, PARENT = 47 };
    GPT2 model, ref;
    model_make(&model, 32, V, 1), model_make(&ref, 264, V, 2);
    CHECK(model.n_shards == omp_get_max_threads() && ref.n_shards == 1, "shards");
    model.temperature = 0.7f, ref.temperature = 1.5f;
    Batch b = {0};
    Rng rng = rng_make(3, RNG_DATA);
    for (int r = 0; r < PARENT + 3; r++) {
        int tokens[40];
        unsigned char mask[40];
        const int n = 20 + (int)rng_below(&rng, 21);
        for (int t = 0; t < n; t++) tokens[t] = (int)rng_below(&rng, V), mask[t] = t > 3;
        if (r > PARENT) batch_add_child(&b, PARENT, tokens, NULL, n < 24 ? n : 24);
        else batch_add_row(&b, tokens, mask, n);
    }
    float *kl = mem_floats((size_t)b.N), *logp = mem_floats((size_t)b.N);
    float *ref_logp = mem_floats((size_t)b.N), *want = mem_floats((size_t)b.N);
    gpt2_forward(&model, &b), gpt2_forward(&ref, &b);
    kl_forward(kl, logp, ref_logp, &model, &ref);
    double off = 0, ref_off = 0;
    lm_head_forward(&model, want);
    for (int t = 0; t < b.N; t++) {
        const double at = fabs((double)logp[t] - (double)want[t]);
        if (at > off) off = at; // not fmax: GCC 12 for Arm dies of it at -O3
    }
    lm_head_forward(&ref, want);
    for (int t = 0; t < b.N; t++) {
        const double at = fabs((double)ref_logp[t] - (double)want[t]);
        if (at > ref_off) ref_off = at;
    }
    CHECK(off < 1e-5 && ref_off < 1e-5, "log-probs are those of the head: off by %g, %g", off,
          ref_off);
    const double before[2] = {kl[b.row_start[PARENT + 1]], kl[b.row_start[PARENT + 2] + 5]};
    int masked = 0;
    for (int t = 0; t < b.N; t++) {
        masked += b.mask[t];
        CHECK(b.mask[t] || (kl[t] == 0 && logp[t] == 0), "0 without mask, at %d", t);
    }
    CHECK(masked > HEAD_CHUNK, "more than a chunk");
    // some states: in the first and last rows, the first token of a child, one inside a child
    int prefix[64];
    for (int r = 0; r <= PARENT; r += PARENT) {
        const int at = b.row_start[r];
        for (int n = 4; n < 20; n += 7)
            CHECK_NEAR(kl[at + n], state_kl(&model, &ref, b.tokens + at, n), 1e-4, 1e-5,
                       "row %d, state %d", r, n);
    }
    const int parent = b.row_start[PARENT + 1] - b.row_start[PARENT];
    memcpy(prefix, b.tokens + b.row_start[PARENT], (size_t)parent * sizeof *prefix);
    CHECK_NEAR(before[0], state_kl(&model, &ref, prefix, parent), 1e-4, 1e-5, "a child begins");
    memcpy(prefix + parent, b.tokens + b.row_start[PARENT + 2], 5 * sizeof *prefix);
    CHECK_NEAR(before[1], state_kl(&model, &ref, prefix, parent + 5), 1e-4, 1e-5, "in a child");
    // A model against itself: exactly nothing.
    gpt2_forward(&model, &b);
    kl_forward(kl, logp, ref_logp, &model, &model);
    for (int t = 0; t < b.N; t++) CHECK(kl[t] == 0 && logp[t] == ref_logp[t], "itself at %d", t);
    gpt2_free(&model), gpt2_free(&ref), batch_free(&b);
    free(kl), free(logp), free(ref_logp), free(want);
}

// All completions y of three tokens: the mean under the model of sum over t of KL(s_t) is the mean
// of log pi(y) - log ref(y), and the latter spreads more.
static void test_completions(void) {
    enum { V = 4, T = 3, ALL = V * V * V };
    GPT2 model, ref;
    model_make(&model, 16, V, 5), model_make(&ref, 16, V, 6);
    Batch b = {0};
    const unsigned char mask[T + 1] = {0, 1, 1, 1};
    for (int y = 0; y < ALL; y++)
        batch_add_row(&b, (int[T + 1]){0, y / V / V, y / V % V, y % V}, mask, T + 1);
    float kl[ALL * (T + 1)], logp[ALL * (T + 1)], ref_logp[ALL * (T + 1)];
    gpt2_forward(&model, &b), gpt2_forward(&ref, &b);
    kl_forward(kl, logp, ref_logp, &model, &ref);
    double total = 0, full = 0, sampled = 0, full_square = 0, sampled_square = 0;
    for (int y = 0; y < ALL; y++) {
        double lp = 0, ratio = 0, sum = 0;
        for (int t = b.row_start[y]; t < b.row_start[y + 1]; t++) {
            lp += (double)logp[t], ratio += (double)logp[t] - (double)ref_logp[t];
            sum += (double)kl[t];
        }
        total += exp(lp), full += exp(lp) * sum, sampled += exp(lp) * ratio;
        full_square += exp(lp) * sum * sum, sampled_square += exp(lp) * ratio * ratio;
    }
    CHECK_NEAR(total, 1, 1e-5, 0, "all completions");
    CHECK(full > 0.1, "the models differ: %g", full);
    CHECK_NEAR(full, sampled, 1e-5, 0, "both means of the divergence");
    CHECK(full_square - full * full < sampled_square - sampled * sampled, "the sum spreads less");
    gpt2_free(&model), gpt2_free(&ref), batch_free(&b);
}

int main(void) {
    omp_set_num_threads(2);
    test_states();
    test_completions();
    return test_end("kl");
}
