// reward_frontier.c: how much gold score film reviews can have at a given KL divergence from the
// reference, by any policy whatever, and how near trained ones come.
//
// cc -O3 -march=native -fno-math-errno -fopenmp dev/repro/reward_frontier.c -o reward_frontier
// -lopenblas -lcjson -lm
//
//     ./reward_frontier                                  the frontier of data/sft
//     ./reward_frontier --policies A/final,B/final --targets 1,2        and two policies
//
// For each price b of a nat of KL, E[r] - b KL(pi || ref) is largest at pi_b ~ ref exp(r / b), where
// it is b log E_ref[exp(r / b)] (the reweighting that Ziegler et al. 2019 compare with). So for any
// policy and any b
//
//     E_pi[r] <= b (KL(pi || ref) + mean over prompts of log E_ref[exp(r / b)])
//
// and the least of the right sides over all b is the frontier: the best reward at that KL. The
// expectation is that over samples from the reference, many for each of a few prompts. It cannot be
// trusted where few samples carry the weight: b goes down only as far as each prompt has an
// effective sample size (sum w)^2 / sum w^2 of 50 with w = exp(r / b). For larger KL the bound of
// the least such b remains, a bound still, but above the frontier; such values are marked with ^.
//
// Policies are measured on the same prompts: the gold score of their samples and the KL, summed over
// the whole vocabulary in each state that they pass. Errors are standard errors of sampling, for
// these prompts.
//
// Criteria, set before there was a trainer:
//     1. the KL is within 20 % of its target (--targets)
//     2. the gold score rises with the target, in each group of policies (one for each seed)
//     3. each policy is below the frontier, or above it by less than 3 standard errors
//     4. where the KL is at least 2, a policy has at least 85 % of the gain that is possible at its KL
// A criterion that no policy could fail is not held: 2 where there is one target, 4 where no KL reaches
// 2, 3 where all are past the KL up to which the frontier is known. (Added afterwards: such a one used
// to count as held. In the runs that README.md tells of each was asked of several policies.)
//
// Exit code 0 if all hold (or there are no policies), else 1.
#include "../../lib/base/common.h"
#include "../../lib/base/flags.h"
#include "../../lib/base/tokenizer.h"
#include "../../lib/data/dataset.h"
#include "../../lib/data/prompts.h"
#include "../../model.h"
#include "../../lib/files/pretrained.h"
#include "../../lib/run/sample.h"
#include "../../lib/run/kl.h"
#include "../../lib/run/before_after.h"

enum { MAX_POLICIES = 64, PLOT_COLUMNS = 64, PLOT_LINES = 20 };
static const double LEAST_ESS = 50;

// ------------------------------------------------------------------------------------------------
// The frontier

// Gold scores of n samples of the reference for each of the prompts.
typedef struct {
    int prompts, n;
    float *gold;   // (prompts, n)
    double b_min;  // the least price at which every prompt has its effective sample size
    double kl_max; // of the frontier's point there
} Scores;

// A price, what it makes of the samples, and how sure that is.
typedef struct {
    double log_mean, kl, reward; // means over prompts: of log E_ref[exp(r / b)], and of pi_b
    double error;                // standard error of b * log_mean
    double ess;                  // the least effective sample size of a prompt
} Priced;

static Priced scores_at(const Scores *s, double b) {
    Priced p = {.ess = INFINITY};
    double variance = 0;
    for (int k = 0; k < s->prompts; k++) {
        const float *r = s->gold + (size_t)k * s->n;
        const double max = max_of(r, s->n);
        double sum = 0, squares = 0, rewards = 0;
        for (int i = 0; i < s->n; i++) {
            const double w = exp((r[i] - max) / b);
            sum += w, squares += w * w, rewards += w * r[i];
        }
        const double ess = sum * sum / squares, log_mean = max / b + log(sum / s->n);
        const double reward = rewards / sum;
        p.log_mean += log_mean / s->prompts;
        p.reward += reward / s->prompts;
        p.kl += (reward / b - log_mean) / s->prompts;
        p.ess = fmin(p.ess, ess);
        variance += 1 / ess - 1.0 / s->n; // of log_mean, to first order
    }
    p.error = b * sqrt(variance) / s->prompts;
    return p;
}

// Find b_min.
static void scores_limit(Scores *s) {
    double low = log(0.01), high = log(100);
    for (int i = 0; i < 30; i++) {
        const double middle = (low + high) / 2;
        *(scores_at(s, exp(middle)).ess < LEAST_ESS ? &low : &high) = middle;
    }
    s->b_min = exp(high);
    s->kl_max = scores_at(s, s->b_min).kl;
}

// The most that any policy's reward can be at this KL; *b gets the price that says so, *error the
// standard error.
static double frontier_at(const Scores *s, double kl, double *b, double *error) {
    double low = log(s->b_min), high = log(1e4); // the derivative of the bound is KL - KL(pi_b)
    for (int i = 0; i < 30 && kl < s->kl_max; i++) {
        const double middle = (low + high) / 2;
        *(scores_at(s, exp(middle)).kl > kl ? &low : &high) = middle;
    }
    *b = exp(low);
    const Priced p = scores_at(s, *b);
    *error = p.error;
    return *b * (kl + p.log_mean);
}

// ------------------------------------------------------------------------------------------------
// Sampling

// What sampling needs.
typedef struct {
    const Tokenizer *tokenizer;
    const Gold *gold;
    const Batch *prompts;
    SampleOptions options;
    int rows; // at a time
    Sampler sampler;
    Batch asked, rows_out;
} Work;

// Sample a completion for items [begin, end) of the list that has each prompt `n` times, and give
// gold (end - begin) their scores.
static void sample_scored(Work *w, const GPT2 *model, int begin, int end, int n, float *gold) {
    batch_clear(&w->asked);
    for (int i = begin; i < end; i++) {
        const int at = w->prompts->row_start[i / n];
        batch_add_row(&w->asked, w->prompts->tokens + at, NULL,
                      w->prompts->row_start[i / n + 1] - at);
    }
    sample_batch(&w->sampler, model, &w->options, &w->asked, (uint64_t)begin, &w->rows_out, NULL);
    const Batch *b = &w->rows_out;
#pragma omp parallel for schedule(dynamic, 8)
    for (int r = 0; r < b->R; r++) {
        Text text = {0};
        tokenizer_decode(w->tokenizer, &text, b->tokens + b->row_start[r],
                         (size_t)(b->row_start[r + 1] - b->row_start[r]), true);
        text_append(&text, "", 0);
        gold[r] = (float)gold_parts(w->gold, text.data, text.size).score;
        text_free(&text);
    }
}

// n samples of the reference for each prompt.
static void scores_sample(Scores *s, Work *w, const GPT2 *ref, int n) {
    const int total = w->prompts->R * n;
    *s = (Scores){.prompts = w->prompts->R, .n = n, .gold = mem_floats((size_t)total)};
    for (int i = 0; i < total; i += w->rows) {
        sample_scored(w, ref, i, i + w->rows < total ? i + w->rows : total, n, s->gold + i);
        progress_show("samples of the reference: %d of %d", i, total);
    }
    progress_clear();
}

// ------------------------------------------------------------------------------------------------
// Policies

typedef struct {
    const char *dir;
    double target;       // KL; 0: none
    double kl, kl_error; // nats a completion
    double gold, gold_error;
    double best, gap_error; // of the frontier at this KL; standard error of best - gold
    double share;           // of the possible gain
    bool trusted;           // the frontier is known there, not merely bounded
} Policy;

// Mean of x (prompts, n), and its standard error for these prompts: of the spread within each.
static double stratified_mean(const double *x, int prompts, int n, double *error) {
    double mean = 0, variance = 0;
    for (int p = 0; p < prompts; p++) {
        double one;
        mean += mean_and_error(x + (size_t)p * n, n, &one) / prompts;
        variance += one * one / prompts / prompts;
    }
    *error = sqrt(variance);
    return mean;
}

// Measure a policy on n samples for each prompt.
static void policy_measure(Policy *policy, Work *w, GPT2 *ref, const Scores *s, double start,
                           int n) {
    const int total = w->prompts->R * n;
    const size_t N = (size_t)w->rows * (size_t)ref->config.n_positions;
    GPT2 model;
    model_load(&model, policy->dir);
    if (model.config.vocab_size != ref->config.vocab_size)
        die(EXIT_BAD_INPUT, "%s: a vocabulary of %d tokens, the reference's has %d", policy->dir,
            model.config.vocab_size, ref->config.vocab_size);
    model.temperature = ref->temperature;
    double *kl = mem_alloc((size_t)total, sizeof *kl),
           *gold = mem_alloc((size_t)total, sizeof *gold);
    float *token_kl = mem_floats(N), *logp = mem_floats(N), *ref_logp = mem_floats(N);
    float *scores = mem_floats((size_t)w->rows);
    for (int i = 0; i < total; i += w->rows) {
        sample_scored(w, &model, i, i + w->rows < total ? i + w->rows : total, n, scores);
        const Batch *b = &w->rows_out;
        gpt2_forward(&model, b);
        gpt2_forward(ref, b);
        kl_forward(token_kl, logp, ref_logp, &model, ref);
        for (int r = 0; r < b->R; r++) {
            gold[i + r] = scores[r];
            for (int t = b->row_start[r]; t < b->row_start[r + 1]; t++) kl[i + r] += token_kl[t];
        }
        progress_show("%s: %d of %d samples", policy->dir, i, total);
    }
    progress_clear();
    policy->kl = stratified_mean(kl, w->prompts->R, n, &policy->kl_error);
    policy->gold = stratified_mean(gold, w->prompts->R, n, &policy->gold_error);
    double price, best_error, own_error;
    policy->best = frontier_at(s, policy->kl, &price, &best_error);
    policy->trusted = policy->kl < s->kl_max;
    policy->share = policy->kl > 0.01 ? (policy->gold - start) / (policy->best - start) : 0;
    // An error of the KL moves the frontier's value by the price times as much.
    for (int i = 0; i < total; i++) gold[i] -= price * kl[i];
    stratified_mean(gold, w->prompts->R, n, &own_error);
    policy->gap_error = sqrt(own_error * own_error + best_error * best_error);
    gpt2_free(&model);
    free(kl), free(gold), free(token_kl), free(logp), free(ref_logp), free(scores);
}

// "a,b,c" cut at the commas, into at most `max` parts; returns how many. The parts are in `copy`.
static int list_cut(char *copy, char **parts, int max) {
    int n = 0;
    for (char *part = strtok(copy, ","); part && n < max; part = strtok(NULL, ","))
        parts[n++] = part;
    return n;
}

// ------------------------------------------------------------------------------------------------
// What is shown

// Gold score over KL: the frontier as dots (^ where it is a mere bound), policies as letters, one
// for each group of --targets.
static void show_plot(const Scores *s, const Policy *policies, int n, int group) {
    char plot[PLOT_LINES][PLOT_COLUMNS + 1];
    double right = s->kl_max, top, bottom = INFINITY, ignored, error;
    for (int i = 0; i < n; i++) right = fmax(right, policies[i].kl);
    right *= 1.05;
    top = frontier_at(s, right, &ignored, &error);
    bottom = frontier_at(s, 0, &ignored, &error);
    for (int i = 0; i < n; i++) bottom = fmin(bottom, policies[i].gold);
    top = fmin(top, 6); // the gold score's own limit
    memset(plot, ' ', sizeof plot);
    for (int x = 0; x < PLOT_COLUMNS; x++) {
        const double kl = right * x / (PLOT_COLUMNS - 1);
        const double y = frontier_at(s, kl, &ignored, &error);
        const long line = lround((y - bottom) / (top - bottom) * (PLOT_LINES - 1));
        if (line >= 0 && line < PLOT_LINES) plot[line][x] = kl < s->kl_max ? '.' : '^';
    }
    for (int i = 0; i < n; i++) {
        const long x = lround(policies[i].kl / right * (PLOT_COLUMNS - 1));
        const long y = lround((policies[i].gold - bottom) / (top - bottom) * (PLOT_LINES - 1));
        plot[y < 0 ? 0 : y < PLOT_LINES ? y : PLOT_LINES - 1][x] = (char)('A' + i / group % 26);
    }
    printf("\ngold score over KL; . frontier, ^ bound%s\n", n ? ", A B C.. policies by seed" : "");
    for (int y = PLOT_LINES - 1; y >= 0; y--) {
        int used = PLOT_COLUMNS;
        while (used > 0 && plot[y][used - 1] == ' ') used--;
        printf("%6.2f|%.*s\n", bottom + (top - bottom) * y / (PLOT_LINES - 1), used, plot[y]);
    }
    printf("      0%*.1f\n", PLOT_COLUMNS, right);
}

// One criterion's line; returns whether it holds: it was asked of some, and none failed.
static bool show_claim(int of, int failed, const char *claim) {
    const bool holds = of && !failed;
    printf("  %-14s  %s", !of ? "NOT MEASURED" : holds ? "REPRODUCED" : "NOT REPRODUCED", claim);
    if (failed) printf(": %d of %d do not", failed, of);
    else printf(" (%d)", of);
    printf("\n");
    return holds;
}

// Judge the policies, which stand in groups of `group`, each in the order of targets.
static bool show_claims(const Policy *policies, int n, int group) {
    int off_target = 0, falls = 0, above = 0, poor = 0, far = 0, steps = 0, known = 0;
    for (int i = 0; i < n; i++) {
        const Policy *p = &policies[i];
        if (p->target > 0) off_target += fabs(p->kl / p->target - 1) > 0.2;
        if (p->target > 0 && i % group) steps++, falls += p->gold <= policies[i - 1].gold;
        known += p->trusted, above += p->gold - p->best > 3 * p->gap_error;
        if (p->kl >= 2) far++, poor += p->share < 0.85;
    }
    bool all = true;
    printf("\nclaims\n");
    if (policies[0].target > 0) {
        all &= show_claim(n, off_target, "KL within 20 % of its target");
        all &= show_claim(steps, falls, "the gold score rises with the target");
    }
    all &= show_claim(known, above, "none above the frontier by more than 3 standard errors");
    all &= show_claim(far, poor, "at KL >= 2 at least 85 % of the gain that is possible there");
    return all;
}

int main(int argc, char **argv) {
    struct {
        const char *model, *dataset, *policies, *targets, *curve;
        double temperature;
        int prompts, samples, policy_samples, response_length, rows;
        int64_t seed;
    } args = {.model = "data/sft",
              .dataset = "data/prefs_eval.jsonl",
              .temperature = 1,
              .prompts = 64,
              .samples = 8192,
              .policy_samples = 64,
              .response_length = 40,
              .rows = 64,
              .seed = 1};
    Flag flags[] = {
        FLAG_TEXT(args, model, "the reference: a language model's directory"),
        FLAG_TEXT(args, dataset, "JSONL with prompts"),
        FLAG(args, prompts, 1, 1e5, "different prompts to take from it"),
        FLAG(args, samples, 50, 1e7, "of the reference for each prompt"),
        FLAG(args, temperature, 0.01, 100, "of all samples; divides logits"),
        FLAG(args, response_length, 1, 1 << 20, "tokens that a completion may have"),
        FLAG(args, rows, 1, 1 << 16, "samples at a time"),
        FLAG(args, seed, 0, 9e15, "of the samples"),
        FLAG_TEXT(args, policies, "directories of policies, with commas between them"),
        FLAG(args, policy_samples, 2, 1e6, "of a policy for each prompt"),
        FLAG_TEXT(args, targets, "the KL targets of the policies, which repeat: 1,2,4"),
        FLAG_TEXT(args, curve, "write the frontier to this file, as CSV"),
    };
    flags_parse(argc, argv, flags, COUNT(flags), "the best gold score at each KL", NULL);
    const double began = seconds_now();
    char *policies_copy = text_copy(args.policies ? args.policies : ""), *dirs[MAX_POLICIES];
    char *targets_copy = text_copy(args.targets ? args.targets : ""), *targets[MAX_POLICIES];
    const int n = list_cut(policies_copy, dirs, MAX_POLICIES);
    const int n_targets = list_cut(targets_copy, targets, MAX_POLICIES);
    if (n_targets && n % n_targets)
        die(EXIT_USAGE, "--policies has %d entries, no multiple of the %d --targets", n, n_targets);

    GPT2 ref;
    Tokenizer tokenizer;
    PromptSet set;
    Batch prompts = {0};
    Gold *gold = mem_alloc(1, sizeof *gold);
    model_load(&ref, args.model);
    tokenizer_load(&tokenizer, args.model);
    ref.temperature = (float)args.temperature;
    if (args.response_length >= ref.config.n_positions)
        die(EXIT_USAGE, "--response_length %d: no room in a context of %d", args.response_length,
            ref.config.n_positions);
    const DataOptions options = {.max_length = ref.config.n_positions - args.response_length,
                                 .vocab_size = ref.config.vocab_size};
    prompts_load(&set, &tokenizer, args.dataset, &options);
    for (int i = 0; i < set.n && prompts.R < args.prompts; i++)
        prompts_add(&prompts, set.tokens + set.start[i], set.start[i + 1] - set.start[i]);
    gold_create(gold);
    Work work = {.tokenizer = &tokenizer,
                 .gold = gold,
                 .prompts = &prompts,
                 .rows = args.rows,
                 .options = {.temperature = args.temperature,
                             .top_p = 1,
                             .seed = (uint64_t)args.seed,
                             .max_new_tokens = args.response_length,
                             .eos_id = tokenizer.eos_id,
                             .vocab_size = tokenizer.vocab_size}};

    // ---- the frontier --------------------------------------------------------------------------
    Scores scores;
    scores_sample(&scores, &work, &ref, args.samples);
    scores_limit(&scores);
    const double start = scores_at(&scores, 1e6).reward;
    printf("%d samples of %s for each of %d prompts: gold score %.3f (%.0f s)\n", args.samples,
           args.model, prompts.R, start, seconds_now() - began);
    printf("\nthe frontier\n     b      KL  E[gold]  s.e.   least ESS\n");
    FILE *curve = args.curve ? fopen(args.curve, "w") : NULL;
    if (args.curve && !curve) die(EXIT_IO, "%s: cannot open: %s", args.curve, strerror(errno));
    if (curve) fprintf(curve, "b,kl,gold,error,least_ess\n0,0,%.6f,0,%d\n", start, args.samples);
    for (int i = 0; i <= 12; i++) {
        const double b = scores.b_min * exp((12 - i) * log(8 / scores.b_min) / 12);
        const Priced p = scores_at(&scores, b);
        printf("%6.3f  %6.3f  %6.3f  %.3f  %10.0f\n", b, p.kl, p.reward, p.error, p.ess);
        if (curve) fprintf(curve, "%.6f,%.6f,%.6f,%.6f,%.1f\n", b, p.kl, p.reward, p.error, p.ess);
    }
    if (curve && fclose(curve)) die(EXIT_IO, "%s: cannot write: %s", args.curve, strerror(errno));

    // ---- policies ------------------------------------------------------------------------------
    Policy policies[MAX_POLICIES] = {0};
    const int group = n_targets ? n_targets : n ? n : 1;
    if (n)
        printf("\n%-34s target      KL  s.e.    gold  s.e.    best      gap  s.e.   gain\n",
               "policy");
    work.options.seed = rng_mix((uint64_t)args.seed); // other random numbers than the reference's
    for (int i = 0; i < n; i++) {
        Policy *p = &policies[i];
        p->dir = dirs[i];
        p->target = n_targets ? atof(targets[i % n_targets]) : 0;
        policy_measure(p, &work, &ref, &scores, start, args.policy_samples);
        printf("%-34s %6g  %6.3f %.3f  %6.3f %.3f  %6.3f%c %7.3f %.3f  %4.0f%%\n", p->dir,
               p->target, p->kl, p->kl_error, p->gold, p->gold_error, p->best,
               p->trusted ? ' ' : '^', p->best - p->gold, p->gap_error, 100 * p->share);
        fflush(stdout);
    }
    if (n)
        printf(
            "^ the frontier is known up to KL %.2f; beyond it this is a bound that lies above it\n",
            scores.kl_max);
    show_plot(&scores, policies, n, group);
    const bool all = n == 0 || show_claims(policies, n, group);
    if (n) printf("verdict: %s", all ? "REPRODUCED" : "NOT REPRODUCED");
    printf("%s%.0f s\n", n ? "   " : "\n", seconds_now() - began);

    sampler_free(&work.sampler), batch_free(&work.asked), batch_free(&work.rows_out);
    batch_free(&prompts), pieces_free(&set), gold_free(gold), free(gold), free(scores.gold);
    gpt2_free(&ref), tokenizer_free(&tokenizer), free(policies_copy), free(targets_copy);
    flags_free(flags, COUNT(flags));
    return all ? 0 : 1;
}
