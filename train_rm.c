// train_rm.c: a reward model on GPT-2, learnt from preferences. Build it:
//
// cc -O3 -march=native -fno-math-errno -fopenmp train_rm.c -o train_rm -lopenblas -lcjson -lm
//
// A language model whose head is one scalar, R(x, y): how good is completion y of prompt x. It is
// read at the row's last token, EOS, the only one that has seen all of y. People chose y_c over y_j
// with the probability sigmoid(R_c - R_j), says the model of Bradley and Terry (1952), so the loss
// is
//
//     mean over pairs of -log sigmoid(R_c - R_j - margin) + center (R_c + R_j)^2
//
// (Ziegler et al. 2019; Stiennon et al. 2020; losses.h). main() below is the algorithm from top to
// bottom:
//
//     flags -> model -> pairs -> for each step { batch, forward, loss, backward, clip, AdamW, log }
//     -> normalise -> save
//
// The score at EOS needs rows that have it: the prompt is cut as far as it takes, and a pair whose
// completion would still lose its end is skipped (TRL skips all pairs that are too long; so does
// --truncation_mode keep_start). It also needs a padding token that is not EOS, or transformers
// would take EOS for padding and read one token earlier: a model without one gets "[PAD]".
//
// Only differences of scores mean anything to the loss. --normalize_rewards N moves and scales them
// to mean 0 and variance 1 on N completions by the model that training began with, as in Ziegler et
// al., so that a KL coefficient in PPO means the same whatever the reward model. The scale goes into
// score.weight, the shift into ln_f.bias: whoever loads the model gets these scores.
//
//     ./train_rm --score FILE.jsonl --model DIR
//
// gives the scores of completions, or of both sides of pairs, a record a line. Without arguments it
// trains on preferences between film reviews, beginning with the model in data/sft.
#include "common.h"
#include "flags.h"
#include "losses.h"
#include "stats.h"
#include "tokenizer.h"
#include "dataset.h"
#include "preferences.h"
#include "model.h"
#include "checkpoint.h"
#include "sample.h"

// The run without arguments: a tiny model wants larger steps than GPT-2 does.
static const char preset[] =
    "--model data/sft --dataset data/prefs_train.jsonl --eval_dataset data/prefs_eval.jsonl "
    "--output_dir out/rm --num_train_epochs 4 --per_device_train_batch_size 32 "
    "--per_device_eval_batch_size 64 --learning_rate 0.002 --lr_scheduler_type cosine "
    "--warmup_steps 20 --weight_decay 0.1 --adam_beta2 0.98 --logging_steps 50 --eval_steps 250 "
    "--save_steps 0 --normalize_rewards 1000";

// ------------------------------------------------------------------------------------------------
// Forward and backward: the scores of pairs

// What one pass over up to B pairs works on. R rows are three a pair, the prompt and both
// completions as its children, or two, with the prompt in each.
typedef struct {
    Batch batch;
    float *value, *dvalue;      // (N) the scalar at each token
    int *row;                   // (B) of the chosen completion; the rejected one is next
    float *chosen, *rejected;   // (B) scores
    float *dchosen, *drejected; // (B) gradients of the loss with respect to them
    float *margin;              // (B)
} Work;

// Room for B pairs of at most max_length tokens a side.
static void work_alloc(Work *w, int B, int max_length) {
    const size_t n = (size_t)B, N = 2 * n * (size_t)max_length;
    *w = (Work){0};
    w->value = mem_floats(N), w->dvalue = mem_floats(N), w->row = mem_alloc(n, sizeof(int));
    w->chosen = mem_floats(n), w->rejected = mem_floats(n), w->margin = mem_floats(n);
    w->dchosen = mem_floats(n), w->drejected = mem_floats(n);
}

static void work_free(Work *w) {
    batch_free(&w->batch);
    free(w->value), free(w->dvalue), free(w->row), free(w->margin);
    free(w->chosen), free(w->rejected), free(w->dchosen), free(w->drejected);
}

// The token at which row r's score stands: its last one, EOS.
static int score_token(const Batch *b, int r) { return b->row_start[r + 1] - 1; }

// Scores of the pairs of these indices (n) into w->chosen and w->rejected.
static void pairs_forward(Work *w, GPT2 *model, const PairSet *data, const int *indices, int n,
                          bool share_prompt) {
    pairs_batch(&w->batch, data, indices, n, share_prompt);
    gpt2_forward(model, &w->batch);
    value_head_forward(model, w->value);
    for (int i = 0; i < n; i++) {
        const int r = w->row[i] = share_prompt ? 3 * i + 1 : 2 * i;
        w->chosen[i] = w->value[score_token(&w->batch, r)];
        w->rejected[i] = w->value[score_token(&w->batch, r + 1)];
        w->margin[i] = data->margin ? data->margin[indices[i]] : 0;
    }
}

// From dchosen, drejected (n) back through the model: only two tokens of a pair have a gradient.
static void pairs_backward(Work *w, GPT2 *model, int n) {
    memset(w->dvalue, 0, (size_t)w->batch.N * sizeof(float));
    for (int i = 0; i < n; i++) {
        w->dvalue[score_token(&w->batch, w->row[i])] = w->dchosen[i];
        w->dvalue[score_token(&w->batch, w->row[i] + 1)] = w->drejected[i];
    }
    value_head_backward(model, w->dvalue);
    gpt2_backward(model);
}

// ------------------------------------------------------------------------------------------------
// What is measured

// Sums since the last line of the log, saved with a checkpoint so that a resumed run writes the
// same lines.
typedef struct {
    double loss, min, max;         // over steps: min and max of a step's scores
    double chosen, rejected;       // over pairs: scores
    int64_t steps, pairs, correct; // correct: the chosen score is the greater
} Window;

// Add the window's means to the row of the log, under TRL's names.
static void log_window(MetricsLog *log, const char *prefix, const Window *w) {
    const double steps = (double)w->steps, pairs = (double)w->pairs;
    const struct {
        const char *name;
        double value;
    } metrics[] = {
        {"loss", w->loss / steps},
        {"accuracy", (double)w->correct / pairs},
        {"margin", (w->chosen - w->rejected) / pairs},
        {"min_reward", w->min / steps},
        {"mean_reward", (w->chosen + w->rejected) / (2 * pairs)},
        {"max_reward", w->max / steps},
    };
    for (int i = 0; i < COUNT(metrics); i++) {
        char key[64];
        snprintf(key, sizeof key, "%s%s", prefix, metrics[i].name);
        log_number(log, key, metrics[i].value);
    }
}

// Is sigmoid(R - R') the share of pairs that people decide like that? Each pair, whichever side was
// chosen, has a side that the model prefers, with a probability of 0.5 to 1. Those are sorted into
// bins of equal width, and a bin's mean is held against the share of them that people preferred too.
enum { BINS = 5 };
typedef struct {
    double n[BINS], predicted[BINS], right[BINS]; // sums
} Calibration;

// `difference` of scores, chosen less rejected. A tie is right by half.
static void calibration_add(Calibration *c, double difference) {
    const double p = sigmoid(fabs(difference));
    int bin = (int)((p - 0.5) * 2 * BINS);
    if (bin >= BINS) bin = BINS - 1;
    c->n[bin]++, c->predicted[bin] += p;
    c->right[bin] += difference > 0 ? 1 : difference < 0 ? 0 : 0.5;
}

// Expected calibration error: the mean over pairs of |predicted - right| of their bin.
static double calibration_error(const Calibration *c) {
    double error = 0, n = 0;
    for (int i = 0; i < BINS; i++) error += fabs(c->predicted[i] - c->right[i]), n += c->n[i];
    return error / n;
}

static void calibration_print(const Calibration *c) {
    printf("calibration, error %.3f:\n     pairs  predicted  right (90%% interval)\n",
           calibration_error(c));
    for (int i = 0; i < BINS; i++) {
        if (!c->n[i]) continue;
        const Interval interval = binomial_interval(c->right[i], c->n[i], 0.9);
        printf("  %8.0f      %.3f  %.3f (%.3f to %.3f)\n", c->n[i], c->predicted[i] / c->n[i],
               c->right[i] / c->n[i], interval.low, interval.high);
    }
}

// What is to be minimised.
typedef struct {
    double center;
    bool share_prompt;
} Objective;

// Loss and metrics over all pairs of a data set, B at a time; `last`: with the table of calibration.
// Prints the main ones and adds a row to the log.
static void evaluate(Work *w, GPT2 *model, const PairSet *data, const Objective *o, int B,
                     MetricsLog *log, int64_t step, double epoch, bool last) {
    Window window = {.steps = 1, .min = INFINITY, .max = -INFINITY};
    Calibration calibration = {0};
    int *pairs = mem_alloc((size_t)B, sizeof *pairs);
    for (int first = 0; first < data->n; first += B) {
        const int n = data->n - first < B ? data->n - first : B;
        for (int i = 0; i < n; i++) pairs[i] = first + i;
        pairs_forward(w, model, data, pairs, n, o->share_prompt);
        const RewardStats stats = reward_loss(w->dchosen, w->drejected, w->chosen, w->rejected,
                                              w->margin, n, data->n, o->center);
        window.loss += stats.loss, window.correct += stats.correct, window.pairs += n;
        window.chosen += stats.chosen, window.rejected += stats.rejected;
        window.min = fmin(window.min, stats.min), window.max = fmax(window.max, stats.max);
        for (int i = 0; i < n; i++)
            calibration_add(&calibration, (double)w->chosen[i] - w->rejected[i]);
        progress_show("evaluation: %d of %d pairs", first + n, data->n);
    }
    free(pairs);
    const double n = (double)window.pairs, correct = (double)window.correct;
    const Interval interval = binomial_interval(correct, n, 0.9);
    log_number(log, "step", (double)step);
    log_number(log, "epoch", epoch);
    log_window(log, "eval_", &window);
    log_number(log, "eval_accuracy_low", interval.low);
    log_number(log, "eval_accuracy_high", interval.high);
    log_number(log, "eval_calibration_error", calibration_error(&calibration));
    log_write(log);
    progress_clear();
    printf("step %5" PRId64 "  eval_loss %.4f  eval_margin %.4f  eval_accuracy %.3f (90%% interval "
           "%.3f to %.3f)\n",
           step, window.loss, (window.chosen - window.rejected) / n, correct / n, interval.low,
           interval.high);
    if (last) calibration_print(&calibration);
}

// ------------------------------------------------------------------------------------------------
// Normalisation

// Sample completions of `count` prompts, drawn from the pairs' by `seed`, with the language model
// in `dir`: B rows in each of the batches (count / B, rounded up). Rows have at most max_length
// tokens, prompts lose their beginnings for that. Returns how many ended with EOS.
static int samples_make(Batch *batches, const char *dir, const PairSet *data, int count, int B,
                        int max_length, SampleOptions *o) {
    GPT2 policy;
    model_load(&policy, dir);
    if (policy.config.vocab_size < o->vocab_size)
        die(EXIT_BAD_INPUT, "%s: vocab_size %d, the tokenizer has %d tokens", dir,
            policy.config.vocab_size, o->vocab_size);
    if (policy.config.n_positions < max_length) max_length = policy.config.n_positions;
    if (o->max_new_tokens > max_length / 2) o->max_new_tokens = max_length / 2;
    const size_t room = (size_t)(max_length - o->max_new_tokens);
    int *order = mem_alloc((size_t)data->n, sizeof *order), ended = 0;
    Finish *finish = mem_alloc((size_t)B, sizeof *finish);
    Sampler sampler = {0};
    Batch prompts = {0};
    rng_permutation(order, data->n, o->seed, 0);
    for (int first = 0; first < count; first += B) {
        const int n = count - first < B ? count - first : B;
        batch_clear(&prompts);
        for (int i = 0; i < n; i++) {
            const size_t *start = data->start + 3 * (size_t)order[(first + i) % data->n];
            const size_t length = start[1] - start[0], cut = length > room ? length - room : 0;
            batch_add_row(&prompts, data->tokens + start[0] + cut, NULL, (int)(length - cut));
        }
        sample_batch(&sampler, &policy, o, &prompts, (uint64_t)first, &batches[first / B], finish);
        for (int i = 0; i < n; i++) ended += finish[i] == FINISH_EOS;
        progress_show("samples: %d of %d", first + n, count);
    }
    progress_clear();
    sampler_free(&sampler), batch_free(&prompts), gpt2_free(&policy);
    free(order), free(finish);
    return ended;
}

// Mean and standard deviation of the scores of all `count` rows in the batches (n).
static double samples_score(double *deviation, GPT2 *model, Work *w, const Batch *batches, int n,
                            int count) {
    double *scores = mem_alloc((size_t)count, sizeof *scores);
    for (int i = 0, k = 0; i < n; i++) {
        gpt2_forward(model, &batches[i]);
        value_head_forward(model, w->value);
        for (int r = 0; r < batches[i].R; r++) scores[k++] = w->value[score_token(&batches[i], r)];
    }
    const Mean mean = mean_of(scores, count);
    *deviation = mean.error * sqrt(count);
    free(scores);
    return mean.mean;
}

// Make the score (R - mean) / deviation. With w' = w / deviation the head gives R / deviation, and
// adding d to ln_f.bias adds w' . d: d = -(mean / deviation) w' / |w'|^2 is the shortest that will
// do. Nothing but the head reads what comes out of ln_f.
static void rewards_normalize(GPT2 *model, double mean, double deviation) {
    const int C = model->config.n_embd;
    double squares = 0;
    for (int c = 0; c < C; c++) {
        const double w = model->w.score[c] / deviation;
        model->w.score[c] = (float)w;
        squares += w * w;
    }
    for (int c = 0; c < C; c++)
        model->w.ln_f_b[c] -= (float)(mean / deviation * model->w.score[c] / squares);
}

// ------------------------------------------------------------------------------------------------
// Scores of a file

// One record on its way: the first of its rows in the batch, and how many it has (0: a fault).
typedef struct {
    int row, sides;
    bool pair;
} Scored;

// What is summed up of a file.
typedef struct {
    double sum, squares, pairs, correct;
    long scores;
} ScoreSums;

// Score the batch's rows and append the records (n), a line each: a number, or for a pair two with a
// tab between them, chosen and rejected; "nan" where there is nothing to score.
static void scores_print(Text *out, GPT2 *model, const Batch *b, const Scored *records, int n,
                         ScoreSums *sums) {
    float *value = mem_floats((size_t)b->N);
    if (b->R) {
        gpt2_forward(model, b);
        value_head_forward(model, value);
    }
    for (int i = 0; i < n; i++) {
        const Scored *s = &records[i];
        double score[2] = {NAN, NAN};
        for (int k = 0; k < s->sides; k++) {
            score[k] = value[score_token(b, s->row + k)];
            sums->sum += score[k], sums->squares += score[k] * score[k], sums->scores++;
        }
        if (s->sides == 2) {
            sums->pairs++;
            sums->correct += score[0] > score[1] ? 1 : score[0] < score[1] ? 0 : 0.5;
        }
        if (s->sides == 0) text_print(out, s->pair ? "nan\tnan\n" : "nan\n");
        else if (s->pair) text_print(out, "%.9g\t%.9g\n", score[0], score[1]);
        else text_print(out, "%.9g\n", score[0]);
    }
    free(value);
}

// Write all of the text to standard output, or as the file `path`, which appears whole or not at
// all.
static void text_write(const Text *text, const char *path) {
    char *temporary = path ? text_format("%s.tmp-%ld", path, (long)getpid()) : NULL;
    FILE *file = path ? fopen(temporary, "wb") : stdout;
    if (!file) die(EXIT_IO, "%s: cannot create: %s", path, strerror(errno));
    bool failed = text->size && fwrite(text->data, 1, text->size, file) != text->size;
    failed = fflush(file) || failed;
    if (path && (fclose(file) || failed || rename(temporary, path))) {
        const int error = errno;
        unlink(temporary);
        errno = error;
        failed = true;
    }
    if (failed)
        die(EXIT_IO, "%s: cannot write: %s", path ? path : "standard output", strerror(errno));
    free(temporary);
}

// Score the completions of a file, about B rows at a time: into the file `output` at the end, or
// (NULL) to standard output on the way.
static void score_file(GPT2 *model, const Tokenizer *t, const char *path, const char *output,
                       const DataOptions *o, int B) {
    Scored *records = mem_alloc((size_t)B, sizeof *records);
    ScoreSums sums = {0};
    DataCounts counts = {0};
    LineReader reader;
    Draft draft = {0};
    RowWork w = {0};
    Batch batch = {0};
    Text lines = {0};
    int n = 0;
    lines_open(&reader, path);
    for (cJSON *record; (record = record_next(&reader));) {
        // a file of pairs that `generate` has completed has both: the completion is meant
        const bool single = json_get(record, "completion");
        const bool pair = !single && (json_get(record, "chosen") || json_get(record, "rejected"));
        if (pair || single) draft_preference(&draft, &reader, record, pair ? 2 : 1, o->chat_format);
        else draft_completion(&draft, &reader, record, o->chat_format);
        pieces_encode(&w, t, &draft, o, &counts);
        records[n] = (Scored){batch.R, draft.fault[0] ? 0 : pair ? 2 : 1, pair};
        for (int i = 1; i <= records[n].sides; i++) { // the prompt and this completion are one row
            batch_add_row(&batch, w.ids.data + w.begin[0], NULL, (int)(w.end[0] - w.begin[0]));
            batch_add_child(&batch, batch.R - 1, w.ids.data + w.begin[i], NULL,
                            (int)(w.end[i] - w.begin[i]));
            batch.row_start[--batch.R] = batch.N;
        }
        record_done(&counts, &draft, &reader, record);
        if (++n == B || batch.R >= B) {
            scores_print(&lines, model, &batch, records, n, &sums);
            batch_clear(&batch), n = 0;
            if (!output) text_write(&lines, NULL), lines.size = 0;
        }
    }
    scores_print(&lines, model, &batch, records, n, &sums);
    if (!counts.records) die(EXIT_BAD_INPUT, "%s: contains no records", path);
    text_write(&lines, output);
    Text report = {0};
    const double scores = (double)sums.scores, mean = sums.sum / scores;
    text_print(&report, "%s: %ld scores, mean %.4f, standard deviation %.4f", path, sums.scores,
               mean, sqrt(fmax(0, sums.squares / scores - mean * mean)));
    if (sums.pairs) text_print(&report, ", accuracy %.4f", sums.correct / sums.pairs);
    counts_report(&report, &counts);
    fprintf(output ? stdout : stderr, "%s\n", report.data);
    text_free(&report), batch_free(&batch), draft_free(&draft), lines_close(&reader);
    tokens_free(&w.ids), tokens_free(&w.joint), text_free(&w.mask), text_free(&w.text);
    free(records), text_free(&lines);
}

int main(int argc, char **argv) {
    // ---- flags ---------------------------------------------------------------------------------
    // Names and defaults are those of TRL's RewardConfig and transformers' TrainingArguments.
    struct {
        const char *model, *tokenizer, *dataset, *eval_dataset, *output_dir, *score, *output;
        const char *resume_from_checkpoint, *lr_scheduler_type, *truncation_mode, *chat_format;
        const char *score_init, *normalize_model;
        double center_rewards_coefficient, temperature;
        double eval_split, learning_rate, weight_decay, max_grad_norm, num_train_epochs;
        double adam_beta1, adam_beta2, adam_epsilon;
        int max_length, per_device_train_batch_size, per_device_eval_batch_size;
        int gradient_accumulation_steps, warmup_steps, logging_steps, eval_steps, save_steps;
        int save_total_limit, normalize_rewards, max_new_tokens;
        int64_t max_steps, seed;
        bool share_prompt, shuffle_dataset, no_decay_embeddings;
        bool bf16, gradient_checkpointing, overwrite_output_dir, overwrite_output;
    } args = {
        .output_dir = "out/rm",
        .lr_scheduler_type = "linear",
        .truncation_mode = "prompt_first",
        .chat_format = "hh",
        .score_init = "random",
        .temperature = 1,
        .learning_rate = 1e-4,
        .max_grad_norm = 1,
        .num_train_epochs = 3,
        .adam_beta1 = 0.9,
        .adam_beta2 = 0.999,
        .adam_epsilon = 1e-8,
        .max_length = 1024,
        .per_device_train_batch_size = 8,
        .per_device_eval_batch_size = 8,
        .gradient_accumulation_steps = 1,
        .logging_steps = 10,
        .save_steps = 500,
        .max_new_tokens = 60,
        .max_steps = -1,
        .seed = 42,
        .share_prompt = true,
        .shuffle_dataset = true,
    };
    Flag flags[] = {
        FLAG_HEADING("model"),
        FLAG_TEXT(args, model, "directory in Hugging Face format, a language or a reward model"),
        FLAG_TEXT(args, tokenizer, "directory with vocab.json and merges.txt, if not --model's"),
        FLAG_SWITCH(args, gradient_checkpointing, "less memory, a quarter more time"),
        FLAG_HEADING("data"),
        FLAG_TEXT(args, dataset,
                  "JSONL with chosen, rejected, prompt unless it is in both, and maybe margin"),
        FLAG_TEXT(args, eval_dataset, "the same for evaluation"),
        FLAG(args, eval_split, 0, 0.9, "without --eval_dataset: share of pairs kept for it"),
        FLAG_CHOICE(args, chat_format, "hh|simple", "how messages become text"),
        FLAG(args, max_length, 2, 1 << 20, "tokens that prompt and completion may have"),
        FLAG_CHOICE(args, truncation_mode, "prompt_first|keep_start",
                    "cut the prompt of what is too long, or skip it (TRL)"),
        FLAG_SWITCH(args, share_prompt, "run a pair's prompt once; false: once for each side"),
        FLAG_SWITCH(args, shuffle_dataset, "new order of pairs in each epoch"),
        FLAG_HEADING("reward"),
        FLAG_CHOICE(args, score_init, "random|zero",
                    "a new score.weight: N(0, 1 / (n_embd + 1)) by --seed, or 0"),
        FLAG(args, center_rewards_coefficient, 0, 1e6,
             "weight of (R_chosen + R_rejected)^2, which keeps the mean near 0"),
        FLAG_HEADING("normalisation"),
        FLAG(args, normalize_rewards, 0, 1e6,
             "samples on which scores get mean 0 and variance 1 (0: leave them)"),
        FLAG_TEXT(args, normalize_model, "whose samples (none: --model's)"),
        FLAG(args, max_new_tokens, 1, 1 << 20, "their length"),
        FLAG(args, temperature, 0.01, 100, "their temperature"),
        FLAG_HEADING("training"),
        FLAG(args, num_train_epochs, 1e-6, 1e6, "passes over the data"),
        FLAG(args, max_steps, -1, 1e12, "updates to make instead (-1: see epochs)"),
        FLAG(args, per_device_train_batch_size, 1, 1 << 16, "pairs in one forward pass"),
        FLAG(args, gradient_accumulation_steps, 1, 1 << 16, "forward passes in one update"),
        FLAG(args, learning_rate, 0, 10, "peak learning rate"),
        FLAG_CHOICE(args, lr_scheduler_type, "linear|cosine|constant|constant_with_warmup",
                    "course of the rate"),
        FLAG(args, warmup_steps, 0, 1e9, "updates until the peak"),
        FLAG(args, weight_decay, 0, 10, "AdamW's decay of matrices and embeddings"),
        FLAG_SWITCH(args, no_decay_embeddings, "leave the embeddings out of it"),
        FLAG(args, adam_beta1, 0, 0.999999, "decay of the mean of gradients"),
        FLAG(args, adam_beta2, 0, 0.999999999, "decay of the mean of their squares"),
        FLAG(args, adam_epsilon, 1e-30, 1, "added to the root of that"),
        FLAG(args, max_grad_norm, 0, 1e9, "clip the gradient to this norm (0: never)"),
        FLAG_SWITCH(args, bf16,
                    "multiply in bfloat16: less exact, 1.4 to 1.9 times as fast with AVX512-BF16"),
        FLAG(args, seed, 0, 9e15, "of score, order of pairs, split and samples"),
        FLAG_HEADING("output"),
        FLAG_TEXT(args, output_dir, "gets final/, checkpoint-N/, metrics.jsonl, run.json"),
        FLAG_SWITCH(args, overwrite_output_dir, "delete what an earlier run left there"),
        FLAG_TEXT(args, resume_from_checkpoint, "a checkpoint-N directory, or latest"),
        FLAG(args, logging_steps, 1, 1e9, "updates between lines of the log"),
        FLAG(args, eval_steps, 0, 1e9, "updates between evaluations (0: at begin and end only)"),
        FLAG(args, per_device_eval_batch_size, 1, 1 << 16, "pairs in one forward pass there"),
        FLAG(args, save_steps, 0, 1e9, "updates between checkpoints (0: none)"),
        FLAG(args, save_total_limit, 0, 1e9, "checkpoints to keep (0: all)"),
        FLAG_HEADING("scores of a file, without training"),
        FLAG_TEXT(args, score,
                  "JSONL with prompt + completion, messages, or pairs as --dataset has"),
        FLAG_TEXT(args, output, "file for the scores, a record a line (none: standard output)"),
        FLAG_SWITCH(args, overwrite_output, "replace that file if it is there"),
    };
    flags_parse(argc, argv, flags, COUNT(flags), "a reward model from preferences, on GPT-2",
                preset);
    const bool resume = args.resume_from_checkpoint && *args.resume_from_checkpoint;
    if (!args.model) die(EXIT_USAGE, "--model is needed; see --help");
    if (args.score && args.dataset) die(EXIT_USAGE, "--score is without --dataset: no training");
    if (!args.score && !args.dataset) die(EXIT_USAGE, "--dataset is needed; see --help");
    if (!args.score && args.output) die(EXIT_USAGE, "--output needs --score");
    if (!args.output_dir) die(EXIT_USAGE, "--output_dir is empty; see --help");
    if (args.normalize_model && !args.normalize_rewards)
        die(EXIT_USAGE, "--normalize_model needs --normalize_rewards");
    if (args.normalize_rewards == 1) die(EXIT_USAGE, "--normalize_rewards 1: needs 2 at least");
    DataOptions options = {
        .max_length = args.max_length,
        .keep_start = !strcmp(args.truncation_mode, "keep_start"),
        .chat_format = !strcmp(args.chat_format, "hh") ? CHAT_HH : CHAT_SIMPLE,
        .whole = true,
    };
    const int B = args.per_device_train_batch_size, eval_B = args.per_device_eval_batch_size;
    const char *tokenizer_dir = args.tokenizer ? args.tokenizer : args.model;
    Tokenizer tokenizer;
    GPT2 model;

    if (args.score) {
        if (args.output && path_is_dir(args.output))
            die(EXIT_USAGE, "--output %s: is a directory, expected the name of a file",
                args.output);
        if (args.output && !access(args.output, F_OK) && !args.overwrite_output)
            die(EXIT_USAGE, "--output %s: already there; see --overwrite_output", args.output);
        products_begin_on(stderr, args.bf16); // stdout may be where the scores go
        tokenizer_load(&tokenizer, tokenizer_dir);
        model_load_reward(&model, args.model);
        tokenizer_check(&tokenizer, model.config.vocab_size, tokenizer_dir);
        if (model.config.pad_token_id == tokenizer.eos_id)
            warn("%s: pads with EOS, so transformers reads its scores one token before EOS; here "
                 "they are read at EOS",
                 args.model);
        if (model.config.n_positions < options.max_length)
            options.max_length = model.config.n_positions;
        score_file(&model, &tokenizer, args.score, args.output, &options, eval_B);
        gpt2_free(&model), tokenizer_free(&tokenizer), flags_free(flags, COUNT(flags));
        return 0;
    }

    // ---- model ---------------------------------------------------------------------------------
    Output output;
    output_open(&output, args.output_dir, args.resume_from_checkpoint, args.overwrite_output_dir,
                argc == 1);
    output.save_total_limit = args.save_total_limit;
    products_begin(args.bf16);
    const char *model_dir = resume ? output.resume_dir : args.model;
    tokenizer_load(&tokenizer, resume ? model_dir : tokenizer_dir);
    model_load_scored(&model, &tokenizer, model_dir, args.score_init, (uint64_t)args.seed);
    printf("GPT-2 with %.2fM parameters: %d layers, %d channels, %d heads, vocabulary %d, padding "
           "token %d\n",
           (double)gpt2_count_params(&model) * 1e-6, model.config.n_layer, model.config.n_embd,
           model.config.n_head, model.config.vocab_size, model.config.pad_token_id);
    if (model.config.n_positions < options.max_length)
        options.max_length = model.config.n_positions;

    // ---- pairs ---------------------------------------------------------------------------------
    PairSet train, eval = {0};
    Text report = {0};
    options.margins = true;
    pairs_load(&train, &tokenizer, args.dataset, &options);
    pairs_report(&report, &train, args.dataset);
    if (args.eval_dataset) {
        pairs_load(&eval, &tokenizer, args.eval_dataset, &options);
        text_print(&report, "\n");
        pairs_report(&report, &eval, args.eval_dataset);
    } else if (args.eval_split > 0) {
        PairSet all = train;
        pairs_split(&train, &eval, &all, args.eval_split, (uint64_t)args.seed);
        text_print(&report, "; %d pairs kept for evaluation", eval.n);
        pairs_free(&all);
    }
    printf("%s\n", report.data);
    text_free(&report);

    const Objective objective = {args.center_rewards_coefficient, args.share_prompt};
    const int64_t pairs_per_step = (int64_t)B * args.gradient_accumulation_steps;
    const int64_t steps_per_epoch = (train.n + pairs_per_step - 1) / pairs_per_step;
    const int64_t batches_per_epoch = (train.n + B - 1) / B;
    int64_t total = (int64_t)ceil(args.num_train_epochs * (double)steps_per_epoch);
    if (args.max_steps > 0) total = args.max_steps;

    // Samples to normalise on: made now, so that what is wrong with them comes to light, and so that
    // the model that makes them has left before training takes memory.
    const int n_samples = args.normalize_rewards,
              sample_batches = (n_samples + eval_B - 1) / eval_B;
    Batch *samples = mem_alloc((size_t)sample_batches, sizeof *samples);
    const char *sampled = args.normalize_model ? args.normalize_model : args.model;
    if (n_samples) {
        // [PAD], where it is new, is no token of the model that samples
        const int words =
            tokenizer.pad_id == tokenizer.vocab_size - 1 ? tokenizer.pad_id : tokenizer.vocab_size;
        SampleOptions sampling = {.max_new_tokens = args.max_new_tokens,
                                  .temperature = (float)args.temperature,
                                  .top_p = 1,
                                  .eos_id = tokenizer.eos_id,
                                  .vocab_size = words,
                                  .seed = (uint64_t)args.seed};
        const int ended = samples_make(samples, sampled, &train, n_samples, eval_B,
                                       options.max_length, &sampling);
        printf("%s: %d samples, %d of them end with EOS\n", sampled, n_samples, ended);
    }

    // ---- what a checkpoint remembers -----------------------------------------------------------
    // The order of pairs is a function of seed and epoch, so the step is all there is to know of
    // the place in the data. MATCH_ values must be the same in the run that resumes.
    int64_t step = 0, tokens_seen = 0, batch_pairs = pairs_per_step, shuffle = args.shuffle_dataset;
    uint64_t data_hash = pairs_hash(&train);
    uint64_t training_hash = flags_hash(flags, COUNT(flags), "training");
    Window window = {0};
    const StateField state[] = {
        STATE_I64("step", &step),
        STATE_I64("num_tokens", &tokens_seen),
        STATE_F64("window.loss", &window.loss),
        STATE_F64("window.min", &window.min),
        STATE_F64("window.max", &window.max),
        STATE_F64("window.chosen", &window.chosen),
        STATE_F64("window.rejected", &window.rejected),
        STATE_I64("window.steps", &window.steps),
        STATE_I64("window.pairs", &window.pairs),
        STATE_I64("window.correct", &window.correct),
        MATCH_I64("seed", &args.seed, "--seed"),
        MATCH_I64("total_steps", &total, "--max_steps and --num_train_epochs"),
        MATCH_I64("pairs_per_step", &batch_pairs,
                  "--per_device_train_batch_size and --gradient_accumulation_steps"),
        MATCH_I64("shuffle_dataset", &shuffle, "--shuffle_dataset"),
        MATCH_U64("data_hash", &data_hash, "--dataset, --max_length and what else makes the pairs"),
        MATCH_F64("center", &args.center_rewards_coefficient, "--center_rewards_coefficient"),
        MATCH_F64("learning_rate", &args.learning_rate, "--learning_rate"),
        MATCH_U64("training", &training_hash,
                  "the flags under `training` in --help; run.json has their earlier values"),
    };
    gpt2_train_begin(&model, args.gradient_checkpointing);
    if (resume) {
        checkpoint_resume(&output, &model, state, COUNT(state));
        printf("resumed at step %" PRId64 " of %" PRId64 "\n", step, total);
    }
    Text run_json = {0};
    flags_json(&run_json, flags, COUNT(flags));
    char *config_path = path_join(model_dir, "config.json");
    output_start(&output, run_json.data, config_path);
    free(config_path), text_free(&run_json);
    MetricsLog log;
    log_open(&log, output.metrics_path, output.metrics_bytes);
    stop_on_signals();
    Work w;
    work_alloc(&w, B > eval_B ? B : eval_B, options.max_length);
    if (eval.n && !resume) evaluate(&w, &model, &eval, &objective, eval_B, &log, 0, 0, total == 0);

    // ---- train ---------------------------------------------------------------------------------
    const AdamW adamw = {args.adam_beta1,   args.adam_beta2,           args.adam_epsilon,
                         args.weight_decay, !args.no_decay_embeddings, false};
    int *order = mem_alloc((size_t)train.n, sizeof *order);
    int64_t epoch_of_order = -1, saved_step = step, pairs_seen = 0;
    const int64_t first_step = step;
    const double began = seconds_now();
    while (step < total && !stop_signal) {
        // the pairs of this update
        const int64_t epoch = step / steps_per_epoch, at = step % steps_per_epoch * pairs_per_step;
        if (epoch != epoch_of_order) {
            rng_permutation(order, train.n, (uint64_t)args.seed, (uint64_t)epoch);
            for (int i = 0; i < train.n && !args.shuffle_dataset; i++) order[i] = i;
            epoch_of_order = epoch;
        }
        const int *pairs = order + at;
        const int n_pairs = (int)(train.n - at < pairs_per_step ? train.n - at : pairs_per_step);

        // forward and backward, B pairs at a time; gradients accumulate. The loss is divided by the
        // pairs of the whole update, so it does not matter how it is split.
        double loss = 0, min = INFINITY, max = -INFINITY;
        for (int first = 0; first < n_pairs; first += B) {
            const int n = n_pairs - first < B ? n_pairs - first : B;
            pairs_forward(&w, &model, &train, pairs + first, n, args.share_prompt);
            const RewardStats stats =
                reward_loss(w.dchosen, w.drejected, w.chosen, w.rejected, w.margin, n, n_pairs,
                            args.center_rewards_coefficient);
            pairs_backward(&w, &model, n);
            loss += stats.loss, min = fmin(min, stats.min), max = fmax(max, stats.max);
            window.chosen += stats.chosen, window.rejected += stats.rejected;
            window.correct += stats.correct, window.pairs += n;
            for (int i = 0; i < n; i++) tokens_seen += pair_tokens(&train, pairs[first + i]);
        }

        // update
        const double norm = grad_norm(&model);
        const double lr =
            args.learning_rate * lr_factor(args.lr_scheduler_type, step, args.warmup_steps, total);
        if (!isfinite(loss) || !isfinite(norm))
            die(EXIT_DIVERGED,
                "step %" PRId64 ": loss is %g, gradient norm %g (learning rate %g); "
                "last good checkpoint: %s%.0" PRId64, // .0: nothing for 0
                step + 1, loss, norm, lr, saved_step ? "checkpoint-" : "none", saved_step);
        adamw_step(&model, &adamw, lr, clip_scale(norm, args.max_grad_norm));
        step++, pairs_seen += n_pairs;
        window.steps++, window.loss += loss, window.min += min, window.max += max;

        // log
        const bool last = step == total;
        const double epochs =
            epochs_done(step, steps_per_epoch, batches_per_epoch, args.gradient_accumulation_steps);
        if (step % args.logging_steps == 0 || last) {
            const double seconds = seconds_now() - began, n = (double)window.pairs;
            char left[32];
            time_format(left, seconds / (double)(step - first_step) * (double)(total - step));
            log_number(&log, "step", (double)step);
            log_number(&log, "epoch", epochs);
            log_window(&log, "", &window);
            log_number(&log, "grad_norm", norm);
            log_number(&log, "learning_rate", lr);
            log_number(&log, "num_tokens", (double)tokens_seen);
            log_write(&log);
            progress_clear();
            printf("step %5" PRId64 "/%" PRId64 "  loss %7.4f  margin %7.4f  accuracy %.3f  "
                   "norm %6.3f  lr %.2e  %6.3g pairs/s  left %s\n",
                   step, total, window.loss / (double)window.steps,
                   (window.chosen - window.rejected) / n, (double)window.correct / n, norm, lr,
                   (double)pairs_seen / seconds, left);
            window = (Window){0};
        }
        if (eval.n && ((args.eval_steps && step % args.eval_steps == 0) || last))
            evaluate(&w, &model, &eval, &objective, eval_B, &log, step, epochs, last);
        if (args.save_steps && step % args.save_steps == 0 && !last) {
            checkpoint_save(&output, &model, &tokenizer, step, state, COUNT(state));
            saved_step = step;
        }
        progress_show("step %" PRId64 "/%" PRId64 "  loss %.4f", step, total, loss);
    }
    progress_clear();

    // ---- normalise, save -----------------------------------------------------------------------
    const int stopped = stop_signal; // one that comes later is too late: the rest takes a moment
    if (stopped) {
        if (argc == 1) printf("stopped at step %" PRId64 "; the default run keeps nothing\n", step);
        else {
            if (saved_step != step || step == 0)
                checkpoint_save(&output, &model, &tokenizer, step, state, COUNT(state));
            printf("stopped at step %" PRId64 " of %" PRId64 " and saved; go on with "
                   "--resume_from_checkpoint latest\n",
                   step, total);
        }
        output_close(&output);
    } else {
        double deviation, mean;
        if (n_samples) {
            mean = samples_score(&deviation, &model, &w, samples, sample_batches, n_samples);
            printf("scores of the samples: mean %.4f, standard deviation %.4f", mean, deviation);
            log_number(&log, "step", (double)step);
            log_number(&log, "samples/mean", mean);
            log_number(&log, "samples/deviation", deviation);
            log_write(&log);
            if (deviation > 0) {
                rewards_normalize(&model, mean, deviation);
                mean = samples_score(&deviation, &model, &w, samples, sample_batches, n_samples);
                printf("; normalised: %.4f, %.4f\n", mean, deviation);
            } else printf("; cannot be normalised\n");
        }
        char spent[32];
        printf("%s, peak memory %.0f MB\n", time_format(spent, seconds_now() - began),
               memory_peak_mb());
        printf("model: %s/final   metrics: %s/metrics.jsonl\n", args.output_dir, args.output_dir);
        output_finish(&output, &model, &tokenizer);
    }
    log_close(&log);

    gpt2_free(&model), tokenizer_free(&tokenizer), pairs_free(&train), pairs_free(&eval);
    for (int i = 0; i < sample_batches; i++) batch_free(&samples[i]);
    work_free(&w), free(samples), free(order), flags_free(flags, COUNT(flags));
    return stopped ? 128 + stopped : 0;
}
