// Tests of train_ppo.c from within: prompts; the rollout's numbers; the first minibatch's ratio; the
// gradient of the whole loss, policy and critic, against central differences; that nothing but the
// tokens of completions is ever read. test_ppo.sh runs the program as a user does.
#define main ppo_main
#include "../train_ppo.c"
#undef main
#include "test.h"

// ------------------------------------------------------------------------------------------------
// Prompts

static char *root; // where the test writes, removed at the end

// A file with this text; free() its path.
static char *text_file(const char *text) {
    char *path = path_join(root, "prompts.jsonl");
    FILE *file = fopen(path, "wb");
    if (!file || fputs(text, file) < 0 || fclose(file)) die(EXIT_IO, "%s: write", path);
    return path;
}

// Load prompts from this text; dies as prompts_load does.
static PromptSet load_prompts(const char *text, const Tokenizer *t, int vocab, int max_length) {
    PromptSet d;
    const DataOptions o = {.max_length = max_length, .chat_format = CHAT_HH, .vocab_size = vocab};
    char *path = text_file(text);
    prompts_load(&d, t, path, &o);
    free(path);
    return d;
}

// True if prompt i of the set is the tokens of this text (or EOS, if it is empty).
static bool is_text(const PromptSet *d, int i, const Tokenizer *t, const char *text) {
    TokenList want = {0};
    tokenizer_encode(t, &want, text, strlen(text), true);
    if (!want.n) tokens_append(&want, t->eos_id);
    const size_t n = d->start[i + 1] - d->start[i];
    const bool same =
        n == want.n && !memcmp(d->tokens + d->start[i], want.data, n * sizeof *want.data);
    tokens_free(&want);
    return same;
}

// True if prompt i is the last n tokens of this text, which has more.
static bool is_tail(const PromptSet *d, int i, const Tokenizer *t, const char *text, size_t n) {
    TokenList all = {0};
    tokenizer_encode(t, &all, text, strlen(text), true);
    const bool same = all.n > n && d->start[i + 1] - d->start[i] == n &&
                      !memcmp(d->tokens + d->start[i], all.data + all.n - n, n * sizeof *all.data);
    tokens_free(&all);
    return same;
}

static void test_prompts(void) {
    Tokenizer t;
    tokenizer_load(&t, "data");
    const int V = t.vocab_size;
    const struct {
        const char *text, *message;
    } odd[] = {
        {"", "contains no records"},
        {"{\"text\": \"a\"}\n", ":1: missing \"prompt\" or \"prompt_ids\" (keys: text)"},
        {"{\"prompt\": 1}\n", ":1: \"prompt\" is a number, expected a string"},
        {"{\"prompt\": null}\n", ":1: \"prompt\" is null: skipped"},
        {"{\"prompt\": []}\n", ":1: \"prompt\" has no messages"},
        {"{\"prompt\": [{\"role\": \"cook\", \"content\": \"a\"}]}\n", "prompt[0].role \"cook\""},
        {"{\"prompt_ids\": 3}\n", ":1: \"prompt_ids\" is a number, expected a list of token ids"},
        {"{\"prompt_ids\": [1, \"2\"]}\n", ":1: prompt_ids[1] is a string, expected a token id"},
        {"{\"prompt_ids\": [0.5]}\n", ":1: prompt_ids[0] is not an integer, expected a token id"},
        {"{\"prompt_ids\": [1]}\n{\"prompt_ids\": [1481]}\n",
         ":2: prompt_ids[0]: token id 1481 is outside the model's vocabulary of 1481"},
        {"{\"prompt_ids\": [-1]}\n", ":1: prompt_ids[0]: token id -1 is outside"},
        {"{\"prompt_ids\": []}\n", "all 1 records were skipped"},
    };
    for (int i = 0; i < COUNT(odd); i++)
        CHECK_DIES(EXIT_BAD_INPUT, odd[i].message, load_prompts(odd[i].text, &t, V, 9));
    CHECK_DIES(EXIT_BAD_INPUT, ":1: \"prompt\" is text, and there is no tokenizer",
               load_prompts("{\"prompt\": \"a\"}\n", NULL, V, 9));

    PromptSet d = load_prompts("{\"prompt\": \"The plot\", \"chosen\": 7, \"completion\": null}\n"
                               "{\"prompt\": \"\"}\n"
                               "{\"prompt_ids\": [5, 0, 1480], \"prompt\": 9}\n"
                               "{\"prompt_ids\": []}\n"
                               "{\"prompt\": [{\"role\": \"user\", \"content\": \"good\"},"
                               " {\"role\": \"assistant\", \"content\": \"bad\"}]}\n"
                               "{\"prompt\": \"The plot is so very good that I loved it\"}\n"
                               "{\"prompt\": [{\"role\": \"user\", \"content\": \"ok\"}]}\n",
                               &t, V, 8);
    CHECK(d.n == 5 && d.counts.skipped == 2 && d.counts.records == 7 && d.counts.truncated == 2,
          "%d prompts, %ld skipped, %ld cut", d.n, d.counts.skipped, d.counts.truncated);
    CHECK(is_text(&d, 0, &t, "The plot"), "text");
    CHECK(is_text(&d, 1, &t, ""), "an empty text is EOS");
    CHECK(d.start[3] - d.start[2] == 3 && d.tokens[d.start[2]] == 5 &&
              d.tokens[d.start[2] + 2] == 1480,
          "ids go before text");
    CHECK(is_tail(&d, 3, &t, "The plot is so very good that I loved it", 8), "cut from the left");
    CHECK(is_tail(&d, 4, &t, "\n\nHuman: ok\n\nAssistant:", 8), "messages");
    pieces_free(&d), tokenizer_free(&t);
}

// ------------------------------------------------------------------------------------------------
// A tiny policy whose weights are large enough that its predictions are far from uniform, a
// reference that differs from it, a critic that differs from both

enum { ROWS = 13, PROMPT = 5, RESPONSE = 9, EOS = 3 };

typedef struct {
    GPT2 policy, own, ref;
    Rollout rollout;
    TokenData data;
    ActorCritic ac;
} Setting;

enum { TOKENS = ROWS * (PROMPT + RESPONSE) }; // at most

static void make_model(GPT2 *m, uint64_t seed, bool score) {
    const GPT2Config c = {.vocab_size = 11,
                          .n_positions = PROMPT + RESPONSE,
                          .n_embd = 16,
                          .n_layer = 2,
                          .n_head = 2,
                          .n_inner = 64,
                          .layer_norm_epsilon = 1e-5f,
                          .initializer_range = 0.3f,
                          .bos_token_id = EOS,
                          .eos_token_id = EOS,
                          .pad_token_id = -1,
                          .score_head = score};
    gpt2_create(m, c);
    gpt2_init_random(m, seed);
    m->temperature = 0.7f;
}

// Sample a rollout, score it and fill in all of its numbers.
static void setting_make(Setting *s, bool shared, int B) {
    Batch prompts = {0};
    Sampler sampler = {0};
    const SampleOptions o = {
        .temperature = 0.7, .top_p = 1, .seed = 5, .max_new_tokens = RESPONSE, .eos_id = EOS};
    *s = (Setting){0};
    make_model(&s->policy, 1, shared), make_model(&s->ref, 2, false);
    if (!shared) make_model(&s->own, 3, true);
    gpt2_train_begin(&s->policy, false);
    if (!shared) gpt2_train_begin(&s->own, false);
    s->data = token_data_make(TOKENS);
    s->ac = actor_critic_make(&s->policy, shared ? &s->policy : &s->own, TOKENS);
    s->rollout.score = mem_floats(ROWS);
    s->rollout.finish = mem_alloc(ROWS, sizeof *s->rollout.finish);
    for (int i = 0; i < ROWS; i++) {
        Rng rng = rng_make(9, (uint64_t)i);
        int tokens[PROMPT];
        for (int k = 0; k < PROMPT; k++) tokens[k] = (int)rng_below(&rng, 11);
        batch_add_row(&prompts, tokens, NULL, 1 + i % PROMPT);
        s->rollout.score[i] = (float)rng_normal(&rng);
    }
    sample_batch(&sampler, &s->policy, &o, &prompts, 0, &s->rollout.rows, s->rollout.finish);
    args.run.per_device_train_batch_size = B;
    tokens_forward(&s->data, &s->rollout, &s->ac, &s->ref);
    batch_free(&prompts), sampler_free(&sampler);
}

static void setting_free(Setting *s) {
    gpt2_free(&s->policy), gpt2_free(&s->ref), gpt2_free(&s->own);
    batch_free(&s->rollout.rows), free(s->rollout.score), free(s->rollout.finish);
    free(s->data.old_logp), free(s->ac.logp), free(s->ac.from), batch_free(&s->ac.rows);
}

// Rewards and advantages, whitened or not.
static void setting_rewards(Setting *s, bool whitened) {
    args.whiten_rewards = args.whiten_advantages = whitened;
    args.gamma = 0.99;
    args.lam = 0.95;
    rewards_advantages(&s->data, &s->rollout, 0.1);
}

// Loss of `rows` (n) in passes of B, and its gradients, which are added to the models'. The meter gets
// what the pass has measured.
static double minibatch(Setting *s, const int *rows, int n, int B, double range, Meter *meter) {
    *meter = (Meter){.n = METRICS, .names = metric_names};
    args.run.per_device_train_batch_size = B;
    args.cliprange = args.cliprange_value = range;
    args.vf_coef = 0.5;
    return minibatch_learn(&s->ac, &s->rollout, &s->data, rows, n, false, meter);
}

// ------------------------------------------------------------------------------------------------

// What a rollout consists of: rows end with EOS or are full; scores and values stand where they
// should; the first minibatch, other rows in other passes than the rollout, has ratio 1.
static void test_rollout(bool shared) {
    Setting s;
    setting_make(&s, shared, 5);
    const Batch *b = &s.rollout.rows;
    int ended = 0, full = 0, order[ROWS];
    Meter m;
    for (int i = 0; i < b->R; i++) {
        int inside = 0, length = 0;
        const int end = b->row_start[i + 1];
        for (int t = b->row_start[i]; t < end; t++)
            length += b->mask[t], inside += b->mask[t] && t + 1 < end && b->tokens[t] == EOS;
        CHECK(inside == 0, "row %d goes on after EOS", i);
        const bool eos = b->tokens[end - 1] == EOS;
        CHECK((s.rollout.finish[i] == FINISH_EOS) == eos && (eos || length == RESPONSE),
              "row %d: %d tokens, finish %s", i, length, finish_name(s.rollout.finish[i]));
        ended += eos, full += !eos;
    }
    CHECK(ended > 2 && full > 0, "%d rows ended, %d are full: both should be tested", ended, full);

    setting_rewards(&s, false);
    for (int i = 0; i < b->R; i++) {
        double sum = 0, kl = 0;
        const int last = b->row_start[i + 1] - 1;
        for (int t = b->row_start[i]; t <= last; t++) {
            sum += s.data.reward[t], kl += s.data.kl[t];
            CHECK(b->mask[t] || s.data.reward[t] == 0, "reward of a prompt's token");
        }
        CHECK_NEAR(sum, s.rollout.score[i] - 0.1 * kl, 1e-5, 1e-5, "row %d: sum of rewards", i);
        CHECK_NEAR(s.data.reward[last], s.rollout.score[i] - 0.1 * s.data.kl[last], 1e-5, 1e-6,
                   "row %d: the score is on the last token", i);
    }
    setting_rewards(&s, true);

    // a value is what the head says at the token before
    rollout_pack(&s.ac.rows, s.ac.from, &s.rollout, (int[]){4}, 0, 1);
    gpt2_forward(s.ac.critic, &s.ac.rows);
    value_head_forward(s.ac.critic, s.ac.value);
    for (int t = 1; t < s.ac.rows.N; t++)
        if (s.ac.rows.mask[t])
            CHECK_NEAR(s.ac.value[t - 1], s.data.old_value[s.ac.from[t]], 1e-5, 1e-6,
                       "value of token %d", t);

    rng_permutation(order, ROWS, 1, 1);
    for (int B = 1; B <= ROWS; B += 4) {
        minibatch(&s, order, 8, B, 0.2, &m);
        CHECK_NEAR(m.sum[RATIO], 1, 0, 1e-5, "passes of %d: first ratio", B);
        CHECK_NEAR(m.weight[RATIO], 1, 0, 1e-12, "passes of %d: the minibatch weighs 1", B);
        CHECK_NEAR(m.sum[RATIO_VAR], 0, 0, 1e-10, "passes of %d: first ratio", B);
        CHECK(m.sum[CLIPPED] == 0 && m.sum[VALUE_CLIPPED] == 0 && m.sum[APPROX_KL] < 1e-10,
              "passes of %d: clip fraction %g, approximate KL %g", B, m.sum[CLIPPED],
              m.sum[APPROX_KL]);
        for (int t = 0; t < s.ac.rows.N; t++)
            CHECK(!s.ac.rows.mask[t] ||
                      fabs(exp((double)s.ac.logp[t] - s.data.old_logp[s.ac.from[t]]) - 1) < 1e-5,
                  "token %d: ratio", t);
    }
    // and in the passes of the rollout it is 1 to the bit
    minibatch(&s, NULL, ROWS, 5, 0.2, &m);
    CHECK(m.sum[APPROX_KL] == 0, "the same passes: approximate KL %g", m.sum[APPROX_KL]);
    setting_free(&s);
}

// Move every weight at random: the policy of a later step.
static void perturb(GPT2 *m, double by, uint64_t seed) {
    for (int i = 0; i < m->n_tensors; i++)
        for (size_t k = 0; k < m->tensors[i].size; k++) {
            Rng rng = rng_make(seed, (uint64_t)(m->tensors[i].offset + k));
            m->params[m->tensors[i].offset + k] += (float)(by * rng_normal(&rng));
        }
}

// The gradient of the whole loss along a random direction in each tensor of the model, against
// central differences. float32 leaves about 1e-6 of a loss of order 1, so differences over 2e-3
// are good to 1e-3; a token that crosses a border of clipping on the way costs as much.
static void check_gradient(Setting *s, GPT2 *m, const int *rows, int n, double range,
                           const char *name) {
    double worst = 0, largest = 0;
    const char *where = "";
    Meter ignored;
    float *grads = mem_floats(m->n_floats); // the passes below add to m->grads
    memcpy(grads, m->grads, m->n_floats * sizeof *grads);
    for (int i = 0; i < m->n_tensors; i++) {
        const Tensor *t = &m->tensors[i];
        const double h = 1e-3;
        double slope = 0, side[2], size = 0;
        float *saved = mem_floats(t->size), *p = m->params + t->offset;
        memcpy(saved, p, t->size * sizeof *p);
        for (int sign = 0; sign < 2; sign++) {
            Rng rng = rng_make(17, (uint64_t)i);
            slope = size = 0;
            for (size_t k = 0; k < t->size; k++) {
                const double d = rng_normal(&rng);
                slope += d * grads[t->offset + k], size += d * d;
                p[k] = (float)(saved[k] + (sign ? -h : h) * d);
            }
            side[sign] = minibatch(s, rows, n, n, range, &ignored);
            memcpy(p, saved, t->size * sizeof *p);
        }
        const double error = fabs((side[0] - side[1]) / (2 * h) - slope);
        if (!(error <= worst)) worst = error, where = t->name;
        if (fabs(slope) > largest) largest = fabs(slope);
        free(saved);
    }
    free(grads);
    CHECK(worst < 5e-3 * largest && largest > 1e-2, "%s: gradient off by %g of %g at %s", name,
          worst, largest, where);
}

static void test_gradient(bool shared) {
    Setting s;
    Meter m;
    const int rows[] = {3, 0, 7, 11, 4, 9};
    setting_make(&s, shared, ROWS);
    setting_rewards(&s, true);
    perturb(&s.policy, 0.02, 21);
    if (!shared) perturb(&s.own, 0.02, 22);
    for (int wide = 0; wide < 2; wide++) {
        GPT2 *const models[] = {&s.policy, &s.own};
        for (int i = 0; i < 2 - shared; i++) {
            for (int k = 0; k < 2 - shared; k++)
                memset(models[k]->grads, 0, models[k]->n_floats * sizeof(float));
            const double range = wide ? 10 : 0.1;
            minibatch(&s, rows, COUNT(rows), 2, range, &m); // three passes
            CHECK(wide ? m.sum[CLIPPED] == 0 : m.sum[CLIPPED] > 0.02 && m.sum[VALUE_CLIPPED] > 0.02,
                  "clipped: %g and %g", m.sum[CLIPPED], m.sum[VALUE_CLIPPED]);
            check_gradient(&s, models[i], rows, COUNT(rows), range,
                           shared ? "shared"
                           : i    ? "critic"
                                  : "policy");
        }
    }
    setting_free(&s);
}

// NaN in place of every number that belongs to no token of a completion, also behind the last row:
// losses and gradients are the same to the bit.
static void test_poison(bool shared) {
    Setting s;
    const int rows[] = {3, 0, 7, 11, 4, 9};
    float *clean = NULL;
    double loss[2];
    Meter stats[2];
    for (int poisoned = 0; poisoned < 2; poisoned++) {
        setting_make(&s, shared, ROWS);
        const Batch *b = &s.rollout.rows;
        TokenData *d = &s.data;
        float *of_rollout[] = {d->old_logp, d->ref_logp,  d->old_value, d->kl,
                               d->reward,   d->advantage, d->returns};
        float *of_pass[] = {s.ac.logp, s.ac.dlogp, s.ac.value, s.ac.dvalue};
        for (int k = 0; k < COUNT(of_rollout) && poisoned; k++)
            for (int t = 0; t < TOKENS; t++)
                if (t >= b->N || !b->mask[t]) of_rollout[k][t] = NAN;
        for (int k = 0; k < COUNT(of_pass) && poisoned; k++)
            for (int t = 0; t < TOKENS; t++) of_pass[k][t] = NAN;
        setting_rewards(&s, true);
        perturb(&s.policy, 0.02, 21);
        loss[poisoned] = minibatch(&s, rows, COUNT(rows), 4, 0.1, &stats[poisoned]);
        const size_t n = s.policy.n_floats, bytes = n * sizeof(float);
        if (!poisoned) memcpy(clean = mem_floats(n), s.policy.grads, bytes);
        else CHECK(!memcmp(clean, s.policy.grads, bytes), "shared %d: poisoned gradient", shared);
        double ignored;
        CHECK(isfinite(masked_mean(d->kl, NULL, b->mask, b->N, &ignored)) &&
                  isfinite(masked_mean(d->returns, d->old_value, b->mask, b->N, &ignored)),
              "shared %d: poisoned means", shared);
        setting_free(&s);
    }
    CHECK(!memcmp(&stats[0], &stats[1], sizeof *stats) && isfinite(stats[1].sum[POLICY_LOSS]) &&
              loss[0] == loss[1],
          "shared %d: poisoned statistics", shared);
    free(clean);
}

static void test_masked_mean(void) {
    const float x[] = {9, 1, 2, NAN, 6}, y[] = {9, 0, 1, 1, 2};
    const unsigned char mask[] = {0, 1, 1, 0, 1};
    double variance;
    CHECK_NEAR(masked_mean(x, NULL, mask, 5, &variance), 3, 1e-12, 0, "mean");
    CHECK_NEAR(variance, 14.0 / 3, 1e-12, 0, "variance");
    CHECK_NEAR(masked_mean(x, y, mask, 5, &variance), 2, 1e-12, 0, "mean of a difference");
    CHECK_NEAR(variance, 2, 1e-12, 0, "variance of a difference");
    CHECK_NEAR(masked_mean(x, NULL, NULL, 3, &variance), 4, 1e-12, 0, "mean of all");
    CHECK_NEAR(variance, 38.0 / 3, 1e-12, 0, "variance of all");
}

int main(void) {
    root = text_format("/tmp/align-test-XXXXXX");
    if (!mkdtemp(root)) die(EXIT_IO, "%s: %s", root, strerror(errno));
    test_prompts(); // first: it forks, and there are no threads yet
    test_masked_mean();
    for (int shared = 0; shared < 2; shared++) {
        test_rollout(shared);
        test_gradient(shared);
        test_poison(shared);
    }
    disk_remove(root);
    free(root);
    return test_end("test_ppo");
}
