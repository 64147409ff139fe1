// ppo_frontier.c: PPO in a world so small that every sum over it is exact.
//
// cc -O3 -march=native -fno-math-errno -fopenmp dev/repro/ppo_frontier.c -o ppo_frontier -lopenblas
// -lcjson -lm
//
//     ./ppo_frontier make WORLD [eos]       a reference WORLD/ref and prompts WORLD/prompts.jsonl
//     ./ppo_frontier reward                 the reward of this world, a program for train_ppo
//     ./ppo_frontier check WORLD TEMPERATURE POLICY...      where policies stand
//
// dev/repro/ppo_frontier.sh runs all three with train_ppo in between.
//
// There are 8 tokens, and a completion has 5 of them: 32,768 sequences for each prompt. (With `eos`
// token 7 ends a completion: 19,608 sequences of 1 to 5 tokens.) The reference is a small GPT-2 with
// random weights, the reward a random function of the sequence in [0, 1]. So the reward of a policy,
// its KL divergence from the reference and the best reward that any policy can have at that KL are
// plain sums over the sequences, without sampling error.
//
// The best policies are pi_b ~ ref exp(r / b), one for each b > 0 (Ziegler et al. 2019; Rafailov et
// al. 2023, appendix A.1). Over several prompts, each as likely, one b serves all: it is the price
// of a nat. Their points (KL, E[r]) are the frontier. Criteria, set before there was a trainer:
//
//     exact    probabilities add up to 1 within 1e-5, the reference has KL 0, neither a policy nor
//              a distribution disturbed at random lies more than 1e-6 above the frontier
//     near     each policy has a reward within 0.02 of the frontier at its own KL
//
// Exit code 0: both hold; 1: a policy is not near; 3: something is not exact.
#include "../../lib/base/common.h"
#include "../../model.h"
#include "../../lib/files/pretrained.h"
#include "../../lib/files/checkpoint.h"
#include "../../lib/data/prompts.h"

enum { VOCAB = 8, LENGTH = 5, SEQUENCES = 32768, ROWS = 4096, RNG_WORLD = 64 };
static const double NEAR = 0.02, ROUNDING = 1e-6;

// ------------------------------------------------------------------------------------------------
// The world

// Reward of a prompt (P tokens) with its completion (n tokens): a logistic function of the mean of
// random numbers, one for each pair of tokens at their places, of which the later belongs to the
// completion. So no token is good or bad in itself. tokens (P + n).
static double world_reward(const int *tokens, int P, int n) {
    double sum = 0, pairs = 0;
    for (int j = P; j < P + n; j++)
        for (int i = 0; i < j; i++, pairs++) {
            const int place[] = {P - i + 64, j - P, tokens[i], tokens[j]};
            uint64_t key = 0;
            for (int k = 0; k < COUNT(place); k++) key = key << 8 | (uint64_t)place[k];
            Rng rng = rng_make(key, RNG_WORLD);
            sum += rng_normal(&rng);
        }
    return 1 / (1 + exp(-2 * sum / sqrt(pairs)));
}

// All completions, shortest notation: with eos >= 0 those that end with it have nothing behind it.
typedef struct {
    int n;
    int tokens[SEQUENCES][LENGTH], length[SEQUENCES];
} World;

static void world_enumerate(World *w, int eos) {
    w->n = 0;
    for (int code = 0; code < SEQUENCES; code++) {
        int length = LENGTH, behind = 0;
        for (int i = 0, rest = code; i < LENGTH; i++, rest /= VOCAB) {
            const int token = rest % VOCAB;
            w->tokens[w->n][i] = token;
            if (i >= length) behind += token;
            else if (token == eos) length = i + 1;
        }
        w->length[w->n] = length;
        w->n += behind == 0; // else it is the same as one before
    }
}

// logp (n) <- log-probability of every completion of the prompt.
static void world_logp(double *logp, GPT2 *model, const World *w, const int *prompt, int P) {
    Batch batch = {0};
    unsigned char mask[64] = {0};
    float *token_logp_ = mem_floats((size_t)ROWS * (size_t)(P + LENGTH));
    int *row = mem_alloc((size_t)(P + LENGTH), sizeof *row);
    memcpy(row, prompt, (size_t)P * sizeof *row);
    memset(mask + P, 1, LENGTH);
    for (int begin = 0; begin < w->n; begin += ROWS) {
        batch_clear(&batch);
        for (int s = begin; s < w->n && s < begin + ROWS; s++) {
            memcpy(row + P, w->tokens[s], LENGTH * sizeof *row);
            batch_add_row(&batch, row, mask, P + w->length[s]);
        }
        gpt2_forward(model, &batch);
        lm_head_forward(model, token_logp_);
        for (int r = 0; r < batch.R; r++) {
            logp[begin + r] = 0;
            for (int t = batch.row_start[r] + P; t < batch.row_start[r + 1]; t++)
                logp[begin + r] += token_logp_[t];
        }
    }
    batch_free(&batch), free(token_logp_), free(row);
}

// ------------------------------------------------------------------------------------------------
// Distributions over (prompt, completion), as one long array of n numbers for each of the prompts.

typedef struct {
    int prompts, n;
    double *ref;    // (prompts, n) log-probabilities of the reference
    double *reward; // (prompts, n)
} Table;

typedef struct {
    double kl, reward; // means over prompts
} Point;

// Where the distribution with these log-probabilities stands; logp (prompts, n).
static Point point_of(const Table *t, const double *logp) {
    Point point = {0};
    for (int i = 0; i < t->prompts * t->n; i++) {
        const double share = exp(logp[i]) / t->prompts;
        point.kl += share * (logp[i] - t->ref[i]);
        point.reward += share * t->reward[i];
    }
    return point;
}

// logp (prompts, n) += scale * by (prompts, n), then each prompt's probabilities are made to add up
// to 1. Returns the mean over prompts of the logarithm of what they added up to.
static double tilt(double *logp, const Table *t, const double *by, double scale) {
    double mean = 0;
    for (int p = 0; p < t->prompts; p++) {
        double *x = logp + (size_t)p * t->n, max = -INFINITY, sum = 0;
        for (int s = 0; s < t->n; s++) {
            x[s] += by[(size_t)p * t->n + s] * scale;
            max = fmax(max, x[s]);
        }
        for (int s = 0; s < t->n; s++) sum += exp(x[s] - max);
        const double log_sum = max + log(sum);
        for (int s = 0; s < t->n; s++) x[s] -= log_sum;
        mean += log_sum / t->prompts;
    }
    return mean;
}

// Make the probabilities of each prompt's completions add up to 1, as but for float's rounding they
// do. Returns the most that they missed 1 by.
static double normalise(double *logp, const Table *t) {
    double apart = 0;
    for (int p = 0; p < t->prompts; p++) {
        double *x = logp + (size_t)p * t->n, sum = 0;
        for (int s = 0; s < t->n; s++) sum += exp(x[s]);
        for (int s = 0; s < t->n; s++) x[s] -= log(sum);
        apart = fmax(apart, fabs(sum - 1));
    }
    return apart;
}

// logp (prompts, n) <- pi_b. Returns the mean over prompts of log E_ref[exp(r / b)].
static double best_at_price(double *logp, const Table *t, double b) {
    memcpy(logp, t->ref, (size_t)t->prompts * t->n * sizeof *logp);
    return tilt(logp, t, t->reward, 1 / b);
}

// The best reward at this KL: the least of b (KL + mean log E_ref[exp(r / b)]) over all b, each of
// which is a bound by itself (E_pi[r] - b KL(pi) is largest at pi_b). Its derivative is KL - KL(pi_b).
// logp (prompts, n) is scratch.
static double best_at_kl(double *logp, const Table *t, double kl) {
    double low = log(1e-4), high = log(1e6); // of log b
    for (int i = 0; i < 50; i++) {
        const double middle = (low + high) / 2;
        best_at_price(logp, t, exp(middle));
        *(point_of(t, logp).kl > kl ? &low : &high) = middle;
    }
    return exp(high) * (kl + best_at_price(logp, t, exp(high)));
}

// ------------------------------------------------------------------------------------------------
// The three commands

static int run_make(const char *world, bool eos) {
    const GPT2Config config = {.vocab_size = VOCAB,
                               .n_positions = 16,
                               .n_embd = 32,
                               .n_layer = 2,
                               .n_head = 2,
                               .n_inner = 4 * 32,
                               .layer_norm_epsilon = 1e-5f,
                               .initializer_range = 0.25f, // GPT-2's 0.02 is all but uniform
                               .bos_token_id = -1,
                               .eos_token_id = eos ? VOCAB - 1 : -1,
                               .pad_token_id = -1};
    GPT2 model;
    if (mkdir(world, 0777) && errno != EEXIST)
        die(EXIT_IO, "%s: cannot make it: %s", world, strerror(errno));
    char *ref = path_join(world, "ref"), *path = path_join(world, "prompts.jsonl");
    gpt2_create(&model, config);
    gpt2_init_random(&model, 1);
    model_save(&model, NULL, NULL, ref);
    FILE *file = fopen(path, "w");
    if (!file) die(EXIT_IO, "%s: cannot open: %s", path, strerror(errno));
    fprintf(file, "{\"prompt_ids\": [0]}\n{\"prompt_ids\": [1, 2]}\n");
    if (fclose(file)) die(EXIT_IO, "%s: cannot write: %s", path, strerror(errno));
    printf("%s: GPT-2 with %zu parameters   prompts: %s\n", ref, gpt2_count_params(&model), path);
    gpt2_free(&model), free(ref), free(path);
    return 0;
}

static int run_reward(void) {
    char *line = NULL;
    size_t capacity = 0;
    ssize_t n;
    for (long number = 1; (n = getline(&line, &capacity, stdin)) >= 0; number++) {
        static const char *const keys[] = {"prompt_ids", "completion_ids"};
        int tokens[64], count = 0, P = 0;
        cJSON *row = json_parse(line, (size_t)n, "standard input", number);
        for (int k = 0; k < COUNT(keys); k++) {
            const cJSON *item;
            cJSON_ArrayForEach(item, json_get(row, keys[k])) {
                int64_t id;
                if (!json_integer(item, &id) || id < 0 || id >= VOCAB || count == COUNT(tokens))
                    die(EXIT_BAD_INPUT, "standard input:%ld: unfit %s", number, keys[k]);
                tokens[count++] = (int)id;
            }
            if (k == 0) P = count;
        }
        if (count == P) die(EXIT_BAD_INPUT, "standard input:%ld: no completion_ids", number);
        printf("%.9g\n", world_reward(tokens, P, count - P));
        if (fflush(stdout)) return EXIT_IO;
        cJSON_Delete(row);
    }
    free(line);
    return 0;
}

// A random disturbance of pi_b must have no larger E[r] - b KL than pi_b itself, whose value is
// b log E_ref[exp(r / b)], and must not lie above the frontier. Returns by how much the worst one
// does; `logp` and `other` (prompts, n) are scratch.
static double disturb(double *logp, double *other, const Table *t) {
    const size_t all = (size_t)t->prompts * t->n;
    double *noise = mem_alloc(all, sizeof *noise), worst = -INFINITY;
    Rng rng = rng_make(1, RNG_WORLD + 1);
    for (int i = 0; i < 12; i++) {
        const double b = exp(-1.0 * (i % 4) - 1), size = 0.01 * pow(10, i / 4);
        for (size_t s = 0; s < all; s++) noise[s] = rng_normal(&rng);
        const double value = b * best_at_price(logp, t, b);
        tilt(logp, t, noise, size);
        const Point p = point_of(t, logp);
        worst = fmax(worst, p.reward - b * p.kl - value);
        worst = fmax(worst, p.reward - best_at_kl(other, t, p.kl));
    }
    free(noise);
    return worst;
}

static int run_check(const char *world, double temperature, char **policies, int n_policies) {
    char *ref_dir = path_join(world, "ref"), *path = path_join(world, "prompts.jsonl");
    GPT2 model;
    PromptSet prompts;
    World *w = mem_alloc(1, sizeof *w);
    model_load(&model, ref_dir);
    if (model.config.vocab_size != VOCAB)
        die(EXIT_BAD_INPUT, "%s: its vocabulary has %d tokens, expected %d", ref_dir,
            model.config.vocab_size, VOCAB);
    world_enumerate(w, model.config.eos_token_id);
    const DataOptions options = {.max_length = model.config.n_positions - LENGTH,
                                 .vocab_size = VOCAB};
    prompts_load(&prompts, NULL, path, &options);
    Table t = {.prompts = prompts.n, .n = w->n};
    const size_t all = (size_t)t.prompts * t.n;
    double *logp = mem_alloc(all, sizeof *logp), *scratch = mem_alloc(all, sizeof *scratch);
    t.ref = mem_alloc(all, sizeof *t.ref), t.reward = mem_alloc(all, sizeof *t.reward);

    // policy -1 is the reference itself
    bool exact = true, near = true;
    for (int k = -1; k < n_policies; k++) {
        if (k >= 0) {
            gpt2_free(&model);
            model_load(&model, policies[k]);
        }
        model.temperature = (float)temperature;
        for (int p = 0; p < t.prompts; p++) {
            const int *prompt = prompts.tokens + prompts.start[p];
            const int P = (int)(prompts.start[p + 1] - prompts.start[p]);
            world_logp(logp + (size_t)p * t.n, &model, w, prompt, P);
            for (int s = 0; s < t.n && k < 0; s++) {
                int row[64];
                memcpy(row, prompt, (size_t)P * sizeof *row);
                memcpy(row + P, w->tokens[s], LENGTH * sizeof *row);
                t.reward[(size_t)p * t.n + s] = world_reward(row, P, w->length[s]);
            }
        }
        const double apart = normalise(logp, &t);
        if (k < 0) {
            memcpy(t.ref, logp, all * sizeof *logp);
            const Point p = point_of(&t, logp);
            const double above = disturb(logp, scratch, &t);
            printf("%d completions of each of %d prompts; the reference has reward %.5f, KL %g, "
                   "probabilities\nadd up to 1 within %.1e; disturbed optima lie %.1e from the "
                   "frontier at best\n\nfrontier       b      KL   reward\n",
                   t.n, t.prompts, p.reward, p.kl, apart, -above);
            exact = exact && p.kl == 0 && apart < 1e-5 && above < ROUNDING;
            static const double prices[] = {0.5, 0.2, 0.1, 0.05, 0.03, 0.02, 0.01};
            for (int i = 0; i < COUNT(prices); i++) {
                best_at_price(scratch, &t, prices[i]);
                const Point best = point_of(&t, scratch);
                printf("          %6g  %6.3f  %.5f\n", prices[i], best.kl, best.reward);
            }
            printf("\npolicy                              KL   reward   frontier     gap\n");
            continue;
        }
        const Point p = point_of(&t, logp);
        const double best = best_at_kl(scratch, &t, p.kl), gap = best - p.reward;
        const bool possible = gap > -ROUNDING && apart < 1e-5;
        printf("%-30s  %6.3f  %.5f  %.5f  %8.5f  %s\n", policies[k], p.kl, p.reward, best, gap,
               !possible    ? "NOT EXACT"
               : gap < NEAR ? "near"
                            : "not near");
        exact = exact && possible, near = near && gap < NEAR;
    }
    printf("\nexact: %s   within %g of the frontier: %s\n", exact ? "yes" : "NO", NEAR,
           near ? "yes" : "NO");
    gpt2_free(&model), pieces_free(&prompts);
    free(w), free(logp), free(scratch), free(t.ref), free(t.reward), free(ref_dir), free(path);
    return !exact ? 3 : near ? 0 : 1;
}

int main(int argc, char **argv) {
    if ((argc == 3 || (argc == 4 && !strcmp(argv[3], "eos"))) && !strcmp(argv[1], "make"))
        return run_make(argv[2], argc == 4);
    if (argc == 2 && !strcmp(argv[1], "reward")) return run_reward();
    if (argc >= 4 && !strcmp(argv[1], "check")) {
        const double temperature = atof(argv[3]);
        if (!(temperature > 0)) die(EXIT_USAGE, "%s: not a temperature", argv[3]);
        return run_check(argv[2], temperature, argv + 4, argc - 4);
    }
    die(EXIT_USAGE, "usage: %s make WORLD [eos] | reward | check WORLD TEMPERATURE POLICY...",
        argv[0]);
}
