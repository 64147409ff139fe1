// rollout.h: completions that the policy writes while it learns, with their scores. It is what methods
// that learn from their own samples have in common; what they learn from it is in the programs.
//
//     rollout_begin      flags;  rollout_policy: the model, which may be one of bare token ids
//     rollout_open       what gives the scores
//     rollout_schedule   updates
//     rollout_sample     completions of the next prompts
//     rollout_score      their scores;  rollout_fail: save and die, if the reward fails
//     rollout_pack       some of the rows for a forward pass
//     masked_mean ...    what a rollout is like, for the log and the eye
#ifndef ROLLOUT_H
#define ROLLOUT_H

#include "../../data/gold.h" // defines: Gold, gold_parts
#include "../base/texts.h"   // defines: text_add_bytes, text_add_row
#include "../data/prompts.h" // defines: PromptSet
#include "../../model.h"     // defines: GPT2, Batch
#include "reward.h"          // defines: Reward, reward_score
#include "run.h"             // defines: Run
#include "sample.h"          // defines: Sampler, sample_batch, Finish

// ------------------------------------------------------------------------------------------------
// Flags

typedef struct {
    const char *reward_model, *reward_command, *reward_ensemble, *gold_model;
    double reward_timeout;
    bool reward_eos;
    int max_prompt_length;
    double temperature, missing_eos_penalty;
    int sample_steps;
    bool gold;
} RolloutArgs;

#define ROLLOUT_DEFAULTS .reward_timeout = 60, .reward_ensemble = "mean", .max_prompt_length = 512

// clang-format off
// `r` is the RolloutArgs.
#define ROLLOUT_FLAGS_REWARD(r)                                                                    \
    FLAG_HEADING("reward"),                                                                        \
    FLAG_TEXT(r, reward_model,                                                                     \
              "directory of a reward model, as train_rm saves it, or of several: A,B,C"),          \
    FLAG_CHOICE(r, reward_ensemble, ENSEMBLE_CHOICES, ENSEMBLE_HELP),                              \
    FLAG_SWITCH(r, reward_eos, "it scores a cut completion as if EOS came after it"),              \
    FLAG_TEXT(r, reward_command,                                                                   \
              "or a program: gets JSONL of prompt and completion on standard input, answers one "  \
              "number a line (see reward.h)"),                                                     \
    FLAG(r, reward_timeout, 0.001, 1e6, "seconds of silence after which that has failed")

#define ROLLOUT_FLAG_PROMPT(r)                                                                     \
    FLAG(r, max_prompt_length, 1, 1 << 20, "tokens of a prompt; it is cut from the left")

// They come after FLAG_HEADING_KEPT("training").
#define ROLLOUT_FLAGS_SAMPLING(r)                                                                  \
    FLAG(r, temperature, 0.01, 100, "of the policy; divides all logits"),                          \
    FLAG(r, missing_eos_penalty, 0, 1e9, "taken off the score of a cut completion")

#define ROLLOUT_FLAGS_SHOW(r)                                                                      \
    FLAG(r, sample_steps, 0, 1e9, "show so many of the rollout every so many updates"),            \
    FLAG_SWITCH(r, gold, "give texts the gold score of film reviews (data/gold.h), too"),          \
    FLAG_TEXT(r, gold_model,                                                                       \
              "or the score of a reward model that only watches: nothing is learnt from it")
// clang-format on

// What one update learns from.
typedef struct {
    const RolloutArgs *args;
    Reward reward;
    Gold *gold;      // with --gold
    Reward watching; // with --gold_model
    Sampler sampler;
    Batch prompts;     // (R)
    Batch rows;        // (R) prompts with their completions; the mask is 1 on tokens of completions
    Finish *finish;    // (R) what ended each completion
    float *score;      // (R)
    float *gold_score; // (R), with --gold_model
    double seconds;    // that sampling and scoring have taken
} Rollout;

// ------------------------------------------------------------------------------------------------
// Before training

// After run_begin: a completion has at most `length` tokens. Dies (EXIT_USAGE) unless exactly one
// thing gives a reward.
static void rollout_begin(Run *run, const RolloutArgs *a, int length) {
    if (!a->reward_model == !a->reward_command)
        die(EXIT_USAGE, "%s --reward_model or --reward_command; see --help",
            a->reward_model ? "expected one of" : "nothing gives a reward: expected");
    if (a->reward_command && strcmp(a->reward_ensemble, "mean"))
        die(EXIT_USAGE, "--reward_ensemble is not used without --reward_model");
    if (a->reward_eos && !a->reward_model && !a->gold_model)
        die(EXIT_USAGE, "--reward_eos is not used without --reward_model or --gold_model");
    if (a->gold && a->gold_model) die(EXIT_USAGE, "expected one of --gold or --gold_model");
    // flags that such programs do not have, but run.h reads
    run->args->max_new_tokens = length;
    run->args->temperature = a->temperature;
    run->args->max_length = a->max_prompt_length;
    run->args->per_device_eval_batch_size = run->args->per_device_train_batch_size;
    run->args->gold = a->gold;
}

// As run_model, but a model without tokenizer will do: then prompts and completions are token ids. With
// `head` it also gets a scalar head of zeros.
static void rollout_policy(Run *r, GPT2 *model, bool head) {
    const RunArgs *a = r->args;
    if (!a->model) die(EXIT_USAGE, "--model is needed; see --help");
    if (a->tokenizer || !path_is_dir(a->model) || dir_has_tokenizer(a->model))
        tokenizer_load(&r->tokenizer, r->tokenizer_dir);
    check_language_model(r->model_dir); // before it gets a head
    if (head) model_load_scored(model, NULL, r->model_dir, "zero", 0);
    else model_load(model, r->model_dir);
    run_settle(r, model);
    printf("policy: %s, ", r->model_dir);
    run_describe(model);
    printf("reference: %s\n", r->reference_dir);
}

// Open the reward models in `dirs`. Dies unless each has as many tokens as the policy, vocab_size.
static void rollout_open_model(Reward *reward, const Run *run, const RolloutArgs *a,
                               const char *dirs, int vocab_size) {
    reward_open_model(reward, dirs, run_tokenizer(run), run->args->per_device_train_batch_size);
    reward->append_eos = a->reward_eos;
    for (int k = 0; k < reward->n_models; k++)
        if (reward->models[k].config.vocab_size < vocab_size)
            die(EXIT_BAD_INPUT, "%s: the reward model's vocabulary has %d tokens, the policy's %d",
                dirs, reward->models[k].config.vocab_size, vocab_size);
}

// Room for R completions, and what scores them: a model, or a program that is started here. Dies if
// that does not fit the policy.
static void rollout_open(Rollout *r, const Run *run, const RolloutArgs *a, const GPT2 *policy,
                         int R) {
    *r = (Rollout){.args = a};
    const Tokenizer *t = run_tokenizer(run);
    if (run_eos(run, policy) < 0 && a->missing_eos_penalty > 0)
        die(EXIT_USAGE, "--missing_eos_penalty: %s has no EOS", run->args->model);
    if (a->gold && !t)
        die(EXIT_USAGE, "--gold: %s has no tokenizer, so there are no texts", run->args->model);
    const int vocab_size = t ? t->vocab_size : policy->config.vocab_size;
    if (a->reward_model) {
        rollout_open_model(&r->reward, run, a, a->reward_model, vocab_size);
        r->reward.ensemble = (Ensemble)choice_index(a->reward_ensemble, ENSEMBLE_CHOICES);
        printf("reward: ");
        if (r->reward.n_models > 1) printf("%s of %d ", a->reward_ensemble, r->reward.n_models);
        printf("%s %s\n", r->reward.n_models > 1 ? "models" : "model", a->reward_model);
    } else {
        reward_open_command(&r->reward, a->reward_command, a->reward_timeout);
        printf("reward: program %s\n", a->reward_command);
    }
    r->finish = mem_alloc((size_t)R, sizeof *r->finish);
    r->score = mem_floats((size_t)R);
    if (a->gold || a->gold_model) r->gold_score = mem_floats((size_t)R);
    if (a->gold_model) rollout_open_model(&r->watching, run, a, a->gold_model, vocab_size);
    if (!a->gold) return;
    r->gold = mem_alloc(1, sizeof *r->gold);
    gold_create(r->gold);
}

// After the last update: end a reward program, say how long sampling and scoring took, and release what
// the rollout holds.
static void rollout_end(Rollout *r) {
    char took[32];
    printf("sampling and scoring took %s\n", time_format(took, r->seconds));
    reward_close(&r->reward);
    reward_close(&r->watching);
    if (r->gold) gold_free(r->gold);
    sampler_free(&r->sampler);
    batch_free(&r->prompts);
    batch_free(&r->rows);
    free(r->gold);
    free(r->finish);
    free(r->score);
    free(r->gold_score);
    *r = (Rollout){0};
}

// The run makes `episodes` completions (0: one for each of n prompts), R in each update.
static void rollout_schedule(Run *r, int n, int64_t episodes, int R) {
    if (episodes == 0) episodes = n;
    r->part = r->total = (episodes + R - 1) / R;
    r->n_data = n;
    r->order = mem_alloc((size_t)n, sizeof *r->order);
    r->order_epoch = -1;
    run_report_corpora(r, (double)r->total * R);
}

// ------------------------------------------------------------------------------------------------
// The loop

// Sample a completion for each of the next R prompts, of which `first` is the number of the first one
// since the run began: after the last prompt of an order the next order begins. Prompts and samples
// depend on the seed and on this number only: each completion has a stream of random numbers for
// itself, apart from those of the texts before and after training.
static void rollout_sample(Rollout *r, Run *run, const GPT2 *policy, const PromptSet *d,
                           int64_t first, int R) {
    const double began = seconds_now();
    batch_clear(&r->prompts);
    for (int64_t episode = first; episode < first + R; episode++) {
        const int k = run_order(run, episode / d->n)[episode % d->n];
        batch_add_row(&r->prompts, d->tokens + d->start[k], NULL,
                      (int)(d->start[k + 1] - d->start[k]));
    }
    progress_show("step %" PRId64 "/%" PRId64 "  sampling", run->step, run->total);
    sample_batch(&r->sampler, policy, &run->sampling, &r->prompts, (1ull << 40) + (uint64_t)first,
                 &r->rows, r->finish);
    r->seconds += seconds_now() - began;
}

// The gold score of each completion, with --gold or --gold_model. NULL, or what went wrong.
static char *rollout_judge(Rollout *r, const Tokenizer *t) {
    if (r->watching.n_models) return reward_score(&r->watching, r->gold_score, &r->rows, t);
    const Batch *b = &r->rows;
    for (int i = 0; i < b->R; i++) {
        Text text = {0};
        text_add_bytes(&text, t, b->tokens + b->row_start[i], (size_t)batch_row_length(b, i));
        r->gold_score[i] = (float)gold_parts(r->gold, text.data, text.size).score;
        text_free(&text);
    }
    return NULL;
}

// The score of each completion as a whole, less --missing_eos_penalty where the policy did not end it.
// t: NULL for bare token ids. Returns NULL, or what went wrong with the reward: see rollout_fail.
static char *rollout_score(Rollout *r, const Tokenizer *t) {
    const double began = seconds_now();
    char *failure = reward_score(&r->reward, r->score, &r->rows, t);
    if (r->gold_score && !failure) failure = rollout_judge(r, t);
    r->seconds += seconds_now() - began;
    for (int i = 0; i < r->rows.R && !failure; i++)
        if (r->finish[i] != FINISH_EOS) r->score[i] -= (float)r->args->missing_eos_penalty;
    return failure;
}

// The reward has failed: save the model as it was before this update, so that the run can go on when
// the reward is mended, and die with this sentence.
static void rollout_fail(Run *r, const GPT2 *model, const char *failure) {
    const int64_t update = r->step;
    if (r->preset) die(EXIT_BAD_INPUT, "update %" PRId64 ": %s", update, failure);
    r->step--;
    r->done--;
    if (r->saved_step != r->step || r->step == 0) run_checkpoint(r, model);
    die(EXIT_BAD_INPUT,
        "update %" PRId64 ": %s; saved %s/checkpoint-%" PRId64
        ", go on from there with --resume_from_checkpoint latest",
        update, failure, r->output.target, r->step);
}

// Number i of the list `rows`, where that is NULL the rollout's rows in order.
static int rollout_row(const int *rows, int i) { return rows ? rows[i] : i; }

// Tokens of the completions of the first n of `rows`.
static int64_t rollout_tokens(const Rollout *r, const int *rows, int n) {
    int64_t tokens = 0;
    for (int i = 0; i < n; i++) {
        const int row = rollout_row(rows, i);
        for (int t = r->rows.row_start[row]; t < r->rows.row_start[row + 1]; t++)
            tokens += r->rows.mask[t];
    }
    return tokens;
}

// Pack n of `rows`, from number `first` on, for a forward pass: token t of the batch is token from[t] of
// the rollout.
static void rollout_pack(Batch *to, int *from, const Rollout *r, const int *rows, int first,
                         int n) {
    batch_clear(to);
    for (int i = first; i < first + n; i++) {
        const int row = rollout_row(rows, i);
        const int begin = r->rows.row_start[row], end = r->rows.row_start[row + 1];
        for (int t = begin; t < end; t++) from[to->N + t - begin] = t;
        batch_copy_row(to, &r->rows, row);
    }
}

// ------------------------------------------------------------------------------------------------
// What a rollout is like

// Mean over the completions of the sum of x (N) over their tokens.
static double completion_mean(const float *x, const Batch *b) {
    double sum = 0;
    for (int t = 0; t < b->N; t++)
        if (b->mask[t]) sum += x[t];
    return sum / b->R;
}

// Mean of x - y (n) where mask is 1. y may be NULL: 0, and mask: all. *variance gets the (population)
// variance.
static double masked_mean(const float *x, const float *y, const unsigned char *mask, int n,
                          double *variance) {
    double sum = 0, squares = 0, count = 0;
    for (int t = 0; t < n; t++) {
        if (mask && !mask[t]) continue;
        sum += (double)x[t] - (y ? y[t] : 0);
        count++;
    }
    const double mean = sum / count;
    for (int t = 0; t < n; t++) {
        if (mask && !mask[t]) continue;
        const double d = (double)x[t] - (y ? y[t] : 0) - mean;
        squares += d * d;
    }
    *variance = squares / count;
    return mean;
}

// Every --sample_steps updates, but not after the last, print the first --samples texts with their
// scores and the sums of their KL terms, kl (N).
static void rollout_show(const Rollout *r, const Run *run, const float *kl) {
    const Batch *b = &r->rows;
    const Tokenizer *tokenizer = run_tokenizer(run);
    const int count = run->args->samples < b->R ? run->args->samples : b->R;
    if (!r->args->sample_steps || run->step % r->args->sample_steps || run->done == run->part ||
        !count || !tokenizer)
        return;
    progress_clear();
    printf("\nrollout of update %" PRId64 " (score, KL: prompt | completion):\n", run->step);
    for (int i = 0; i < count; i++) {
        Text text = {0};
        const int begin = b->row_start[i], end = b->row_start[i + 1];
        int first = begin; // token of the completion
        double sum = 0;
        while (!b->mask[first]) first++;
        for (int k = first; k < end; k++) sum += kl[k];
        text_add_row(&text, tokenizer, b->tokens + begin, first - begin, end - begin);
        printf("  %6.2f, %5.2f: %s\n", r->score[i], sum, text.data);
        text_free(&text);
    }
    printf("\n");
}

#endif
