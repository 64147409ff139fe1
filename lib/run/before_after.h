// before_after.h: what training has done to a model that was trained before: texts that it samples
// before and after, how far it went from where it started (KL), and, for the film reviews of
// data/, the gold score of its texts.
#ifndef BEFORE_AFTER_H
#define BEFORE_AFTER_H

#include "../../data/gold.h" // defines: Gold, gold_parts
#include "../../model.h"     // defines: GPT2, gpt2_forward, lm_head_forward
#include "../base/texts.h"   // defines: text_add_row, text_add_bytes
#include "sample.h"          // defines: Sampler, sample_batch

// Append a prompt of n tokens to the batch of prompts, unless it is the same as the one before it:
// files of preferences often have several rows for a prompt.
static void prompts_add(Batch *prompts, const int *tokens, size_t n) {
    const int last = prompts->R ? prompts->row_start[prompts->R - 1] : 0;
    if (prompts->R && (size_t)(prompts->N - last) == n &&
        !memcmp(prompts->tokens + last, tokens, n * sizeof *tokens))
        return;
    batch_add_row(prompts, tokens, NULL, (int)n);
}

// `out` becomes rows [begin, end) of `prompts`.
static void prompts_slice(Batch *out, const Batch *prompts, int begin, int end) {
    batch_clear(out);
    for (int r = begin; r < end; r++) batch_copy_row(out, prompts, r);
}

// Sample a completion for each prompt, B at a time, and append prompt and completion to `out` as a row.
static void prompts_complete(Batch *out, const GPT2 *model, const Batch *all, int B,
                             const SampleOptions *options) {
    Batch prompts = {0}, rows = {0};
    Sampler sampler = {0};
    for (int begin = 0; begin < all->R; begin += B) {
        prompts_slice(&prompts, all, begin, all->R - begin < B ? all->R : begin + B);
        sample_batch(&sampler, model, options, &prompts, (uint64_t)begin, &rows, NULL);
        for (int r = 0; r < rows.R; r++) {
            const int at = rows.row_start[r];
            batch_add_row(out, rows.tokens + at, rows.mask + at, rows.row_start[r + 1] - at);
        }
        progress_show("samples: %d of %d", begin + rows.R, all->R);
    }
    progress_clear();
    sampler_free(&sampler);
    batch_free(&prompts);
    batch_free(&rows);
}

// Let the model complete the first `count` prompts, so that one sees what the numbers mean. Nothing
// is shown without a tokenizer (NULL).
static void texts_show(const GPT2 *model, const Tokenizer *tokenizer, const Batch *all, int count,
                       const SampleOptions *options, const char *title) {
    Batch prompts = {0}, rows = {0};
    Sampler sampler = {0};
    if (count == 0 || !tokenizer) return;
    prompts_slice(&prompts, all, 0, count < all->R ? count : all->R);
    sample_batch(&sampler, model, options, &prompts, 0, &rows, NULL);
    printf("\n%s (prompt | completion):\n", title);
    for (int r = 0; r < rows.R; r++) {
        Text text = {0};
        text_add_row(&text, tokenizer, rows.tokens + rows.row_start[r],
                     batch_row_length(&prompts, r), batch_row_length(&rows, r));
        printf("  %s\n", text.data);
        text_free(&text);
    }
    printf("\n");
    sampler_free(&sampler), batch_free(&prompts), batch_free(&rows);
}

// One sampled completion y for each of n prompts x. The mean of log_ratio estimates the KL
// divergence of the model from the other one, in nats a completion.
typedef struct {
    int n;
    double *gold;      // (n) gold scores; all 0 unless they are wanted
    double *log_ratio; // (n) log model(y|x) - log other(y|x)
    bool has_gold;
} Texts;

// Sample a completion for each of the first n prompts, B at a time, and measure it.
static void texts_measure(Texts *t, GPT2 *model, GPT2 *other, const Tokenizer *tokenizer,
                          const Batch *all, int n, int B, bool with_gold,
                          const SampleOptions *options) {
    const size_t N = (size_t)B * (size_t)model->config.n_positions;
    *t = (Texts){.n = n < all->R ? n : all->R, .has_gold = with_gold};
    t->gold = mem_alloc((size_t)t->n, sizeof *t->gold);
    t->log_ratio = mem_alloc((size_t)t->n, sizeof *t->log_ratio);
    if (t->n == 0) return;
    Gold *gold = mem_alloc(1, sizeof *gold);
    Batch prompts = {0}, rows = {0};
    Sampler sampler = {0};
    float *logp = mem_floats(N), *other_logp = mem_floats(N);
    if (with_gold) gold_create(gold);
    for (int begin = 0; begin < t->n; begin += B) {
        prompts_slice(&prompts, all, begin, t->n - begin < B ? t->n : begin + B);
        sample_batch(&sampler, model, options, &prompts, (uint64_t)begin, &rows, NULL);
        gpt2_forward(model, &rows);
        lm_head_forward(model, logp);
        gpt2_forward(other, &rows);
        lm_head_forward(other, other_logp);
        for (int r = 0; r < rows.R; r++) {
            const int at = rows.row_start[r], end = rows.row_start[r + 1];
            for (int i = at; i < end; i++)
                t->log_ratio[begin + r] += (double)logp[i] - (double)other_logp[i];
            if (!with_gold) continue;
            Text text = {0};
            text_add_bytes(&text, tokenizer, rows.tokens + at, (size_t)(end - at));
            t->gold[begin + r] = gold_parts(gold, text.data, text.size).score;
            text_free(&text);
        }
        progress_show("samples: %d of %d", begin + rows.R, t->n);
    }
    progress_clear();
    sampler_free(&sampler), batch_free(&prompts), batch_free(&rows);
    if (with_gold) gold_free(gold);
    free(logp), free(other_logp), free(gold);
}

static void texts_free(Texts *t) {
    free(t->gold), free(t->log_ratio);
    *t = (Texts){0};
}

// Mean of x (n); *error is its standard error.
static double mean_and_error(const double *x, int n, double *error) {
    double mean = 0, squares = 0;
    for (int i = 0; i < n; i++) mean += x[i] / n;
    for (int i = 0; i < n; i++) squares += (x[i] - mean) * (x[i] - mean);
    *error = n > 1 ? sqrt(squares / (n - 1) / n) : 0;
    return mean;
}

// Add the means as a row to the log.
static void texts_log(const Texts *t, MetricsLog *log, int64_t step, double epoch) {
    double error;
    if (t->n == 0) return;
    log_number(log, "step", (double)step);
    log_number(log, "epoch", epoch);
    log_number(log, "samples/kl", mean_and_error(t->log_ratio, t->n, &error));
    log_number(log, "samples/kl_error", error);
    if (t->has_gold) {
        log_number(log, "samples/gold", mean_and_error(t->gold, t->n, &error));
        log_number(log, "samples/gold_error", error);
    }
    log_write(log);
}

// Say what has become of the completions of the same n prompts. `other` names the model to which
// the KL is measured.
static void texts_report(const Texts *before, const Texts *after, const char *other) {
    double error, ignored;
    const int n = after->n;
    if (n == 0) return;
    const double kl = mean_and_error(after->log_ratio, n, &error);
    printf("%d samples: KL to the %s %.3f nats (standard error %.3f)\n", n, other, kl, error);
    if (!after->has_gold) return;
    double *change = mem_alloc((size_t)n, sizeof *change);
    for (int i = 0; i < n; i++) change[i] = after->gold[i] - before->gold[i];
    const double mean = mean_and_error(change, n, &error), half = 1.645 * error; // 90% of a normal
    printf("gold score %.3f before, %.3f after: %+.3f (90%% interval %+.3f to %+.3f)\n",
           mean_and_error(before->gold, n, &ignored), mean_and_error(after->gold, n, &ignored),
           mean, mean - half, mean + half);
    free(change);
}

#endif
