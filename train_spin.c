// train_spin.c: self-play fine-tuning (SPIN) of GPT-2. Build it:
//
// cc -O3 -march=native -fno-math-errno -fopenmp train_spin.c -o train_spin -lopenblas -lcjson -lm
//
// Learns from the data of supervised fine-tuning alone: prompts x with completions y (Chen et al.
// 2024). In each iteration the player completes the prompts itself, and the next player learns to
// tell the data's completions y from the last one's own y':
//
//     mean over pairs of -log sigmoid(lambda (r(y) - r(y'))),   r = log p(y | x) - log old(y | x)
//
// (eq. 4.7; losses.h), old being the last player, frozen. Then the new player becomes the opponent.
// Where the player's completions are the data's, nobody can tell them apart, and it rests. main()
// below is the algorithm from top to bottom:
//
//     flags -> player, opponent -> data -> for each iteration { measure the player, let it play,
//     opponent's log-probs, for each step { batch, forward, loss, backward, clip, AdamW, log },
//     the player becomes the opponent } -> save
//
// The authors' recipe: from the second iteration on the pairs of the iteration before are mixed in;
// an iteration is a run of its own, so optimiser, warm-up and schedule begin anew; lambda is called
// beta. Ours differs where theirs gives the opponent away by something else than its words: both
// sides have the same prompt and the same limit of tokens, and a completion that ran into the limit
// has no end-of-text (theirs gets one). Their optimiser is RMSprop.
//
// Without arguments it lets the model in data/sft play against the film reviews that were chosen in
// data/prefs_train.jsonl.
#include "lib/base/common.h"
#include "lib/base/flags.h"
#include "losses.h"
#include "lib/base/tokenizer.h"
#include "lib/data/dataset.h"
#include "lib/data/preferences.h"
#include "model.h"
#include "lib/files/checkpoint.h"
#include "lib/run/sample.h"
#include "lib/run/before_after.h"
#include "lib/run/distance.h"

// The run without arguments: a tiny model wants larger steps than GPT-2 does. What data/sft was made
// from, it cannot learn better; so it gets chosen reviews, which praise more than it does.
static const char preset[] =
    "--model data/sft --dataset data/prefs_train.jsonl --max_train_samples 2000 "
    "--eval_dataset data/prefs_eval.jsonl --output_dir out/spin --num_iterations 3 "
    "--num_train_epochs 1 --per_device_train_batch_size 32 --per_device_eval_batch_size 64 "
    "--learning_rate 0.0005 --warmup_steps 10 --adam_beta2 0.98 --beta 1 --logging_steps 25 "
    "--save_steps 0 --eval_prompts 500 --gold";

// ------------------------------------------------------------------------------------------------
// Forward and backward: log p(y | x) of pairs, y the real completion and the generated one

// What one pass over up to B pairs works on. R rows are three a pair, the prompt and both
// completions as its children, or two, with the prompt in each.
typedef struct {
    Batch batch;
    float *logp, *dlogp;             // (N) of tokens
    float *sum, *dsum;               // (R) of rows
    int *count;                      // (R) tokens of a row that count
    int *row;                        // (B) of the real completion; the generated one is next
    float *real, *generated;         // (B) log p(y | x), the sum over y's tokens
    float *old_real, *old_generated; // (B) the same by the opponent
    float *dreal, *dgenerated;       // (B) gradients of the loss with respect to log p
} Work;

// Room for B pairs of at most max_length tokens a side.
static void work_alloc(Work *w, int B, int max_length) {
    const size_t n = (size_t)B, N = 2 * n * (size_t)max_length, R = 3 * n;
    *w = (Work){0};
    w->logp = mem_floats(N), w->dlogp = mem_floats(N);
    w->sum = mem_floats(R), w->dsum = mem_floats(R);
    w->count = mem_alloc(R, sizeof(int)), w->row = mem_alloc(n, sizeof(int));
    w->real = mem_floats(n), w->generated = mem_floats(n);
    w->old_real = mem_floats(n), w->old_generated = mem_floats(n);
    w->dreal = mem_floats(n), w->dgenerated = mem_floats(n);
}

static void work_free(Work *w) {
    batch_free(&w->batch);
    free(w->logp), free(w->dlogp), free(w->sum), free(w->dsum), free(w->count), free(w->row);
    free(w->real), free(w->generated), free(w->old_real), free(w->old_generated);
    free(w->dreal), free(w->dgenerated);
}

// Fill the batch with the pairs of these indices (n).
static void work_batch(Work *w, const PairSet *data, const int *indices, int n, bool share_prompt) {
    pairs_batch(&w->batch, data, indices, n, share_prompt);
    for (int i = 0; i < n; i++) w->row[i] = share_prompt ? 3 * i + 1 : 2 * i;
}

// real, generated (n) = log p(y | x) under this model, of the n pairs in the batch.
static HeadStats pairs_forward(Work *w, GPT2 *model, float *real, float *generated, int n) {
    const Batch *b = &w->batch;
    gpt2_forward(model, b);
    HeadStats stats = lm_head_forward(model, w->logp);
    row_sum_forward(w->sum, w->count, w->logp, b->mask, b->row_start, b->R);
    for (int i = 0; i < n; i++) real[i] = w->sum[w->row[i]], generated[i] = w->sum[w->row[i] + 1];
    return stats;
}

// From dreal, dgenerated (n) back through the model that saw the batch last. A sum hands its
// gradient to each of its terms.
static void pairs_backward(Work *w, GPT2 *model, int n) {
    const Batch *b = &w->batch;
    memset(w->dsum, 0, (size_t)b->R * sizeof(float)); // a prompt's own row has none
    for (int i = 0; i < n; i++) {
        w->dsum[w->row[i]] = w->dreal[i];
        w->dsum[w->row[i] + 1] = w->dgenerated[i];
    }
    row_sum_backward(w->dlogp, w->dsum, b->mask, b->row_start, b->R);
    lm_head_backward(model, w->dlogp);
    gpt2_backward(model);
}

// logps (n, 2) = log old(y | x) of both completions of every pair, B pairs at a time. Release with
// free(). Ends early when the program is asked to stop.
static float *opponent_logps(Work *w, GPT2 *opponent, const PairSet *data, int B, bool share) {
    float *logps = mem_floats(2 * (size_t)data->n);
    int *indices = mem_alloc((size_t)B, sizeof *indices);
    for (int first = 0; first < data->n && !stop_signal; first += B) {
        const int n = data->n - first < B ? data->n - first : B;
        for (int i = 0; i < n; i++) indices[i] = first + i;
        work_batch(w, data, indices, n, share);
        pairs_forward(w, opponent, w->real, w->generated, n);
        for (int i = 0; i < n; i++) {
            float *to = logps + 2 * (size_t)(first + i);
            to[0] = w->real[i], to[1] = w->generated[i];
            if (!isfinite(to[0]) || !isfinite(to[1]))
                die(EXIT_DIVERGED, "the opponent's log-probs of pair %d are %g and %g",
                    first + i + 1, (double)to[0], (double)to[1]);
        }
        progress_show("opponent's log-probs: %d of %d pairs", first + n, data->n);
    }
    progress_clear();
    free(indices);
    return logps;
}

// The opponent's log-probs of the n pairs in the batch, from the table, into w.
static void pairs_opponent(Work *w, const float *logps, const int *indices, int n) {
    for (int i = 0; i < n; i++) {
        w->old_real[i] = logps[2 * (size_t)indices[i]];
        w->old_generated[i] = logps[2 * (size_t)indices[i] + 1];
    }
}

// ------------------------------------------------------------------------------------------------
// Self-play: pairs of the data's completion and the player's own

// Append the pair of example i with a generated completion of n tokens, which is cut as the real
// one was: to max_length tokens with the prompt.
static void pair_add(PairSet *pairs, TokenList *ids, const LabelSet *data, int i,
                     const int *generated, size_t n) {
    const size_t *start = data->start + 2 * (size_t)i;
    const size_t prompt = start[1] - start[0], both = start[2] - start[0];
    const size_t room = (size_t)data->max_length - prompt;
    if (n > room) n = room;
    ids->n = 0;
    for (size_t k = 0; k < both; k++) tokens_append(ids, data->tokens[start[0] + k]);
    for (size_t k = 0; k < n; k++) tokens_append(ids, generated[k]);
    const size_t begin[3] = {0, prompt, both}, end[3] = {prompt, both, both + n};
    pieces_add(pairs, ids->data, begin, end, 1);
}

// Let the player complete the prompts of n examples of the data, B at a time. Example i draws from
// random stream first_row + i of the seed. False if asked to stop before the end.
static bool pairs_play(PairSet *pairs, const GPT2 *player, const LabelSet *data, int n,
                       const SampleOptions *options, uint64_t first_row, int B) {
    Batch prompts = {0};
    Sampler sampler = {0};
    TokenList ids = {0};
    *pairs = (PairSet){.pieces = 3, .max_length = data->max_length};
    for (int first = 0; first < n && !stop_signal; first += B) {
        batch_clear(&prompts);
        for (int i = first; i < n && i < first + B; i++) {
            const size_t *start = data->start + 2 * (size_t)spread(i, n, data->n);
            batch_add_row(&prompts, data->tokens + start[0], NULL, (int)(start[1] - start[0]));
        }
        sampler_begin(&sampler, player, options, &prompts, first_row + (uint64_t)first);
        while (!stop_signal && sampler_step(&sampler) > 0) continue;
        for (int r = 0; r < prompts.R && !stop_signal; r++) {
            const SampleRow *row = &sampler.rows[r];
            pair_add(pairs, &ids, data, spread(first + r, n, data->n), row->tokens + row->n_prompt,
                     (size_t)(row->n - row->n_prompt));
        }
        progress_show("self-play: %d of %d completions", pairs->n, n);
    }
    progress_clear();
    sampler_free(&sampler), batch_free(&prompts), tokens_free(&ids);
    return pairs->n == n;
}

// Append `"key": "text of piece k", ` to a JSON object.
static void piece_json(Text *out, const char *key, const PieceSet *d, size_t k,
                       const Tokenizer *tokenizer) {
    Text text = {0}, clean = {0};
    tokenizer_decode(tokenizer, &text, d->tokens + d->start[k], d->start[k + 1] - d->start[k],
                     true);
    // It can stop amid a character, and a young model writes NULs, which strict JSON does not take.
    for (size_t i = 0, n; i < text.size; i += n + (i + n < text.size)) {
        n = strnlen(text.data + i, text.size - i);
        text_append_repaired(&clean, text.data + i, n);
        if (i + n < text.size) text_append(&clean, "\uFFFD", strlen("\uFFFD"));
    }
    text_print(out, "\"%s\": ", key);
    text_json(out, clean.data ? clean.data : "", clean.size);
    text_append(out, ", ", 2);
    text_free(&text), text_free(&clean);
}

// Write OUT/iteration-<t>/synthetic.jsonl, one line a pair, and beside it the player that generated
// them as a model directory, unless that is NULL. The ids are for resuming: the text of a cut
// completion may not lead back to them.
static void iteration_save(const Output *out, int64_t t, const PairSet *pairs,
                           const Tokenizer *tokenizer, const GPT2 *player) {
    Stage s;
    Text lines = {0};
    char *name = text_format("iteration-%" PRId64, t);
    for (int i = 0; i < pairs->n; i++) {
        const size_t k = 3 * (size_t)i, end = pairs->start[k + 3];
        text_append(&lines, "{", 1);
        piece_json(&lines, "prompt", pairs, k, tokenizer);
        piece_json(&lines, "real", pairs, k + 1, tokenizer);
        piece_json(&lines, "generated", pairs, k + 2, tokenizer);
        text_print(&lines, "\"finish\": \"%s\", \"generated_ids\": [",
                   pairs->tokens[end - 1] == tokenizer->eos_id ? "eos" : "length");
        for (size_t j = pairs->start[k + 2]; j < end; j++)
            text_print(&lines, "%s%d", j > pairs->start[k + 2] ? "," : "", pairs->tokens[j]);
        text_append(&lines, "]}\n", 3);
    }
    stage_begin(&s, out->dir, name, lines.size + (player ? stage_bytes(player, tokenizer, 1) : 0),
                "the checkpoints are kept");
    if (player) stage_model(&s, player, TENSORS_ALL, tokenizer, out->pattern);
    stage_text(&s, "synthetic.jsonl", &lines);
    stage_commit(&s);
    free(name);
}

// The same if the file is not there, as when a run is resumed in another directory.
static void iteration_keep(const Output *out, int64_t t, const PairSet *pairs,
                           const Tokenizer *tokenizer) {
    char *name = text_format("iteration-%" PRId64 "/synthetic.jsonl", t);
    char *path = path_join(out->dir, name);
    if (!path_is_file(path)) iteration_save(out, t, pairs, tokenizer, NULL);
    free(name), free(path);
}

// Read back what iteration t of the run in `dir` generated for the data. Dies if these are not the
// pairs that a resumed checkpoint was trained on, which had this hash.
static void iteration_load(PairSet *pairs, const char *dir, int64_t t, const LabelSet *data,
                           uint64_t hash) {
    char *name = text_format("iteration-%" PRId64 "/synthetic.jsonl", t);
    char *path = path_join(dir, name);
    LineReader reader;
    TokenList ids = {0}, generated = {0};
    *pairs = (PairSet){.pieces = 3, .max_length = data->max_length};
    lines_open(&reader, path);
    for (cJSON *record; pairs->n < data->n && (record = record_next(&reader));) {
        const cJSON *list = record_item(&reader, record, "generated_ids"), *item;
        generated.n = 0;
        cJSON_ArrayForEach(item, list) {
            int64_t id = -1;
            json_integer(item, &id);
            tokens_append(&generated, id >= 0 && id < INT_MAX ? (int)id : -1);
        }
        pair_add(pairs, &ids, data, pairs->n, generated.data, generated.n);
        cJSON_Delete(record);
    }
    if (pairs->n != data->n || pairs_hash(pairs) != hash)
        die(EXIT_BAD_INPUT,
            "%s: not what the checkpoint was trained on; resume from where it was saved, with its "
            "iteration folders beside it",
            path);
    lines_close(&reader);
    tokens_free(&ids), tokens_free(&generated);
    free(name), free(path);
}

// ------------------------------------------------------------------------------------------------
// What is measured in training

// Mean negative log-likelihood of the completions' tokens, nats; B rows at a time.
static double completions_nll(Work *w, GPT2 *model, const LabelSet *data, int B) {
    double sum = 0, count = 0;
    int *rows = mem_alloc((size_t)B, sizeof *rows);
    for (int first = 0; first < data->n && !stop_signal; first += B) {
        const int n = data->n - first < B ? data->n - first : B;
        for (int i = 0; i < n; i++) rows[i] = first + i;
        labels_batch(&w->batch, data, rows, rows, n);
        gpt2_forward(model, &w->batch);
        lm_head_forward(model, w->logp);
        for (int t = 0; t < w->batch.N; t++)
            if (w->batch.mask[t]) sum -= w->logp[t], count++;
        progress_show("held-out log-probs: %d of %d completions", first + n, data->n);
    }
    progress_clear();
    free(rows);
    return sum / count;
}

// Sums since the last line of the log, saved with a checkpoint so that a resumed run writes the
// same lines. A reward is lambda (log p - log old).
typedef struct {
    double loss;                           // over steps
    double real, generated, margin;        // over pairs: rewards
    double logps_real, logps_generated;    // over pairs: log p(y | x)
    double entropy;                        // over the tokens of both completions
    int64_t steps, pairs, correct, tokens; // correct: pairs that are told apart rightly
} Window;

// Add a batch of n pairs.
static void window_add(Window *window, const Work *w, int n, const PairStats *p,
                       const HeadStats *head) {
    window->loss += p->loss;
    window->real += p->chosen, window->generated += p->rejected, window->margin += p->margin;
    window->correct += p->correct, window->pairs += n;
    for (int i = 0; i < n; i++)
        window->logps_real += w->real[i], window->logps_generated += w->generated[i];
    window->entropy += head->entropy, window->tokens += head->count;
}

// Add the window's means to the row of the log, under the authors' names.
static void log_window(MetricsLog *log, const char *prefix, const Window *w) {
    const double steps = (double)w->steps, pairs = (double)w->pairs;
    const struct {
        const char *name;
        double value;
    } metrics[] = {
        {"loss", w->loss / steps},
        {"rewards/real", w->real / pairs},
        {"rewards/generated", w->generated / pairs},
        {"rewards/margins", w->margin / pairs},
        {"rewards/accuracies", (double)w->correct / pairs},
        {"logps/real", w->logps_real / pairs},
        {"logps/generated", w->logps_generated / pairs},
        {"entropy", w->entropy / (double)w->tokens},
    };
    for (int i = 0; i < COUNT(metrics); i++) {
        char key[64];
        snprintf(key, sizeof key, "%s%s", prefix, metrics[i].name);
        log_number(log, key, metrics[i].value);
    }
}

// How well the model tells held-out completions from those that the opponent generated for the same
// prompts. Prints the main figures and adds a row to the log.
static void evaluate(Work *w, GPT2 *model, const float *logps, const PairSet *data, double lambda,
                     bool share_prompt, int B, MetricsLog *log, int64_t step, int64_t iteration,
                     double epoch) {
    Window window = {.steps = 1};
    int *pairs = mem_alloc((size_t)B, sizeof *pairs);
    for (int first = 0; first < data->n; first += B) {
        const int n = data->n - first < B ? data->n - first : B;
        for (int i = 0; i < n; i++) pairs[i] = first + i;
        work_batch(w, data, pairs, n, share_prompt);
        pairs_opponent(w, logps, pairs, n);
        const HeadStats head = pairs_forward(w, model, w->real, w->generated, n);
        const PairStats stats = spin_loss(w->dreal, w->dgenerated, w->real, w->generated,
                                          w->old_real, w->old_generated, n, data->n, lambda);
        window_add(&window, w, n, &stats, &head);
        progress_show("evaluation: %d of %d pairs", first + n, data->n);
    }
    free(pairs);
    log_number(log, "step", (double)step);
    log_number(log, "iteration", (double)iteration);
    log_number(log, "epoch", epoch);
    log_window(log, "eval_", &window);
    log_write(log);
    progress_clear();
    printf("step %5" PRId64 "  eval_loss %.4f  eval_rewards/margins %.4f  "
           "eval_rewards/accuracies %.3f\n",
           step, window.loss, window.margin / (double)window.pairs,
           (double)window.correct / (double)window.pairs);
}

// Updates in iteration t, which has the pairs of the one before, too, if `mix`.
static int64_t iteration_steps(int64_t t, int n, bool mix, int64_t pairs_per_step, double epochs,
                               int64_t max_steps) {
    const int64_t pairs = (int64_t)n * (mix && t > 0 ? 2 : 1);
    const int64_t steps_per_epoch = (pairs + pairs_per_step - 1) / pairs_per_step;
    return max_steps > 0 ? max_steps : (int64_t)ceil(epochs * (double)steps_per_epoch);
}

int main(int argc, char **argv) {
    // ---- flags ---------------------------------------------------------------------------------
    // Names are those of the authors' scripts and transformers' TrainingArguments, defaults the
    // paper's where AdamW leaves them a meaning.
    struct {
        const char *model, *tokenizer, *dataset, *eval_dataset, *output_dir;
        const char *resume_from_checkpoint, *lr_scheduler_type, *truncation_mode, *chat_format;
        double beta, temperature, top_p;
        double eval_split, learning_rate, weight_decay, max_grad_norm, num_train_epochs;
        double adam_beta1, adam_beta2, adam_epsilon;
        int max_length, max_new_tokens, max_train_samples, generation_batch_size;
        int per_device_train_batch_size, per_device_eval_batch_size;
        int gradient_accumulation_steps, warmup_steps, logging_steps, eval_steps, save_steps;
        int save_total_limit, samples, eval_prompts;
        int64_t num_iterations, max_steps, seed;
        bool mix_previous, share_prompt, shuffle_dataset, no_decay_embeddings;
        bool bf16, gradient_checkpointing, overwrite_output_dir, save_players, gold;
    } args = {
        .output_dir = "out/spin",
        .lr_scheduler_type = "linear",
        .truncation_mode = "prompt_first",
        .chat_format = "hh",
        .num_iterations = 3,
        .beta = 0.1,
        .temperature = 1,
        .top_p = 1,
        .generation_batch_size = 64,
        .learning_rate = 5e-7,
        .max_grad_norm = 1,
        .num_train_epochs = 2,
        .adam_beta1 = 0.9,
        .adam_beta2 = 0.999,
        .adam_epsilon = 1e-8,
        .max_length = 1024,
        .max_new_tokens = 256,
        .per_device_train_batch_size = 8,
        .per_device_eval_batch_size = 8,
        .gradient_accumulation_steps = 1,
        .logging_steps = 10,
        .save_steps = 500,
        .samples = 4,
        .eval_prompts = 200,
        .max_steps = -1,
        .seed = 42,
        .mix_previous = true,
        .share_prompt = true,
        .shuffle_dataset = true,
    };
    Flag flags[] = {
        FLAG_HEADING("model"),
        FLAG_TEXT(args, model, "directory in Hugging Face format: the first player"),
        FLAG_TEXT(args, tokenizer, "directory with vocab.json and merges.txt, if not --model's"),
        FLAG_SWITCH(args, gradient_checkpointing, "less memory, a quarter more time"),
        FLAG_HEADING("data"),
        FLAG_TEXT(args, dataset, "JSONL with prompt and completion, or messages"),
        FLAG(args, max_train_samples, 0, 1e9, "rows of it to use, evenly spread (0: all)"),
        FLAG_TEXT(args, eval_dataset, "the same for evaluation"),
        FLAG(args, eval_split, 0, 0.9, "without --eval_dataset: share of rows kept for it"),
        FLAG_CHOICE(args, chat_format, "hh|simple", "how messages become text"),
        FLAG(args, max_length, 2, 1 << 20, "tokens that prompt and completion may have"),
        FLAG_CHOICE(args, truncation_mode, "prompt_first|keep_start",
                    "cut the prompt from the left, or the completion (TRL)"),
        FLAG_SWITCH(args, share_prompt, "run a pair's prompt once; false: once for each side"),
        FLAG_SWITCH(args, shuffle_dataset, "new order of pairs in each epoch"),
        FLAG_HEADING("self-play"),
        FLAG(args, num_iterations, 1, 1000, "players to be trained, one after the other"),
        FLAG(args, beta, 1e-6, 1e6, "the paper's lambda; below 1/2 stop each iteration early"),
        FLAG_SWITCH(args, mix_previous, "train on the pairs of the iteration before, too"),
        FLAG(args, max_new_tokens, 1, 1 << 20, "tokens of a completion, real and generated"),
        FLAG(args, temperature, 0, 100, "of the player's sampling; the method means 1"),
        FLAG(args, top_p, 1e-6, 1, "of the player's sampling; the method means 1"),
        FLAG(args, generation_batch_size, 1, 1 << 16, "completions that are sampled together"),
        FLAG_HEADING("training"),
        FLAG(args, num_train_epochs, 1e-6, 1e6, "passes over the pairs in each iteration"),
        FLAG(args, max_steps, -1, 1e9, "updates in each iteration instead (-1: see epochs)"),
        FLAG(args, per_device_train_batch_size, 1, 1 << 16, "pairs in one forward pass"),
        FLAG(args, gradient_accumulation_steps, 1, 1 << 16, "forward passes in one update"),
        FLAG(args, learning_rate, 0, 10, "peak learning rate, in each iteration"),
        FLAG_CHOICE(args, lr_scheduler_type, "linear|cosine|constant|constant_with_warmup",
                    "course of the rate, in each iteration"),
        FLAG(args, warmup_steps, 0, 1e9, "updates until the peak, in each iteration"),
        FLAG(args, weight_decay, 0, 10, "AdamW's decay of matrices and embeddings"),
        FLAG_SWITCH(args, no_decay_embeddings, "leave the embeddings out of it"),
        FLAG(args, adam_beta1, 0, 0.999999, "decay of the mean of gradients"),
        FLAG(args, adam_beta2, 0, 0.999999999, "decay of the mean of their squares"),
        FLAG(args, adam_epsilon, 1e-30, 1, "added to the root of that"),
        FLAG(args, max_grad_norm, 0, 1e9, "clip the gradient to this norm (0: never)"),
        FLAG_SWITCH(args, bf16,
                    "multiply in bfloat16: less exact, 1.4 to 1.9 times as fast with AVX512-BF16"),
        FLAG(args, seed, 0, 9e15, "of the order of pairs, split and samples"),
        FLAG_HEADING("output"),
        FLAG_TEXT(args, output_dir,
                  "gets final/, iteration-N/, checkpoint-N/, metrics.jsonl, run.json"),
        FLAG_SWITCH(args, overwrite_output_dir, "delete what an earlier run left there"),
        FLAG_TEXT(args, resume_from_checkpoint, "a checkpoint-N directory, or latest"),
        FLAG_SWITCH(args, save_players, "iteration-N/ gets the player it began with, too"),
        FLAG(args, logging_steps, 1, 1e9, "updates between lines of the log"),
        FLAG(args, eval_steps, 0, 1e9, "updates between evaluations (0: each iteration's end)"),
        FLAG(args, per_device_eval_batch_size, 1, 1 << 16, "pairs in one forward pass there"),
        FLAG(args, eval_prompts, 0, 1e6, "held-out prompts that each player completes"),
        FLAG_SWITCH(args, gold, "give those the gold score of film reviews (data/gold.h)"),
        FLAG(args, save_steps, 0, 1e9, "updates between checkpoints (0: none)"),
        FLAG(args, save_total_limit, 0, 1e9, "checkpoints to keep (0: all)"),
        FLAG(args, samples, 0, 100, "texts to show before and after"),
    };
    flags_parse(argc, argv, flags, COUNT(flags), "self-play fine-tuning of GPT-2", preset);
    const bool resume = args.resume_from_checkpoint && *args.resume_from_checkpoint;
    if (!args.model) die(EXIT_USAGE, "--model is needed; see --help");
    if (!args.dataset) die(EXIT_USAGE, "--dataset is needed; see --help");
    if (!args.output_dir) die(EXIT_USAGE, "--output_dir is empty; see --help");
    if (args.gold && !args.eval_prompts) die(EXIT_USAGE, "--gold needs --eval_prompts");
    if (args.gold && !args.eval_dataset && !(args.eval_split > 0))
        die(EXIT_USAGE, "--gold needs held-out prompts: --eval_dataset or --eval_split");

    // ---- player and opponent -------------------------------------------------------------------
    Output output;
    output_open(&output, args.output_dir, args.resume_from_checkpoint, args.overwrite_output_dir,
                argc == 1);
    output.save_total_limit = args.save_total_limit;
    products_begin(args.bf16);
    const char *model_dir = resume ? output.resume_dir : args.model;
    Tokenizer tokenizer;
    tokenizer_load(&tokenizer, args.tokenizer ? args.tokenizer : args.model);
    GPT2 model, opponent; // the opponent gets no gradients: it is forward only
    model_load(&model, model_dir);
    model_load(&opponent, model_dir);
    const GPT2Config *config = &model.config;
    tokenizer_check(&tokenizer, config->vocab_size, args.tokenizer ? args.tokenizer : args.model);
    gpt2_train_begin(&model, args.gradient_checkpointing);
    printf("GPT-2 with %.2fM parameters: %d layers, %d channels, %d heads, vocabulary %d\n",
           (double)gpt2_count_params(&model) * 1e-6, config->n_layer, config->n_embd,
           config->n_head, config->vocab_size);

    // ---- data ----------------------------------------------------------------------------------
    const DataOptions options = {
        .max_length = args.max_length < config->n_positions ? args.max_length : config->n_positions,
        .max_completion = args.max_new_tokens,
        .keep_start = !strcmp(args.truncation_mode, "keep_start"),
        .chat_format = !strcmp(args.chat_format, "hh") ? CHAT_HH : CHAT_SIMPLE,
    };
    LabelSet train, eval = {0};
    Text report = {0};
    completions_load(&train, &tokenizer, args.dataset, &options);
    completions_report(&report, &train, args.dataset);
    if (args.eval_dataset) {
        completions_load(&eval, &tokenizer, args.eval_dataset, &options);
        text_print(&report, "\n");
        completions_report(&report, &eval, args.eval_dataset);
    } else if (args.eval_split > 0) {
        LabelSet all = train;
        labels_split(&train, &eval, &all, args.eval_split, (uint64_t)args.seed);
        text_print(&report, "; %d completions kept for evaluation", eval.n);
        labels_free(&all);
    }
    if (args.max_train_samples && args.max_train_samples < train.n) {
        LabelSet all = train;
        train = (LabelSet){.pieces = 2, .max_length = all.max_length};
        for (int i = 0; i < args.max_train_samples; i++) {
            const size_t *start = all.start + 2 * (size_t)spread(i, args.max_train_samples, all.n);
            pieces_add(&train, all.tokens, start, start + 1, 1);
        }
        text_print(&report, "\ntraining uses %d of them", train.n);
        labels_free(&all);
    }
    printf("%s\n", report.data);
    text_free(&report);

    const int B = args.per_device_train_batch_size, eval_B = args.per_device_eval_batch_size;
    const int64_t T = args.num_iterations;
    const int64_t pairs_per_step = (int64_t)B * args.gradient_accumulation_steps;
    int64_t total = 0, longest = 0; // updates: of all iterations, of the longest
    for (int64_t t = 0; t < T; t++) {
        const int64_t steps = iteration_steps(t, train.n, args.mix_previous, pairs_per_step,
                                              args.num_train_epochs, args.max_steps);
        total += steps;
        if (steps > longest) longest = steps;
    }
    // An Adam step moves a weight by about the learning rate at most; GPT-2's weights are of size
    // 0.02. What may move by half of that can reach the iteration's minimum, and below 1/2 that
    // lies farther behind the data than the start lay before it (losses.h).
    const double reach = args.learning_rate * (double)longest;
    if (args.beta < 0.5 && T > 1 && reach > 0.01)
        warn("--beta %g is below 1/2: an iteration that comes to its minimum overshoots the data, "
             "and the next ones run away; learning rate %g in up to %" PRId64
             " updates may go that "
             "far. Take fewer or smaller steps, or --beta 1",
             args.beta, args.learning_rate, longest);

    // ---- what a checkpoint remembers -----------------------------------------------------------
    // The order of pairs is a function of seed, iteration and epoch, a generated completion of
    // seed, iteration and row. A checkpoint in the middle of an iteration (done > 0) needs the
    // completions that were generated at its beginning, by a player that the checkpoint has as its
    // reference; they are read from OUT/iteration-N. At its beginning it generates them. MATCH_
    // values must be the same in the run that resumes.
    int64_t step = 0, iteration = 0, done = 0, measured = 0; // done: updates of this iteration
    int64_t tokens_seen = 0, batch_pairs = pairs_per_step, shuffle = args.shuffle_dataset;
    uint64_t data_hash = labels_hash(&train), played_hash = 0, previous_hash = 0;
    uint64_t training_hash = flags_hash(flags, COUNT(flags), "training");
    uint64_t play_hash = flags_hash(flags, COUNT(flags), "self-play");
    Window window = {0};
    Distance first = {0}, now = {0}; // of the first player, of the last that was measured
    const StateField state[] = {
        STATE_I64("step", &step),
        STATE_I64("iteration", &iteration),
        STATE_I64("done", &done),
        STATE_I64("measured", &measured),
        STATE_U64("played_hash", &played_hash),
        STATE_U64("previous_hash", &previous_hash),
        STATE_I64("num_tokens", &tokens_seen),
        STATE_F64("window.loss", &window.loss),
        STATE_F64("window.real", &window.real),
        STATE_F64("window.generated", &window.generated),
        STATE_F64("window.margin", &window.margin),
        STATE_F64("window.logps_real", &window.logps_real),
        STATE_F64("window.logps_generated", &window.logps_generated),
        STATE_F64("window.entropy", &window.entropy),
        STATE_I64("window.steps", &window.steps),
        STATE_I64("window.pairs", &window.pairs),
        STATE_I64("window.correct", &window.correct),
        STATE_I64("window.tokens", &window.tokens),
        STATE_F64("first.nll", &first.nll),
        STATE_F64("first.bigram", &first.bigram),
        STATE_F64("first.length", &first.length),
        STATE_F64("first.gold", &first.gold),
        STATE_F64("first.gold_score", &first.gold_score),
        STATE_F64("first.valid", &first.valid),
        STATE_F64("now.nll", &now.nll),
        MATCH_I64("seed", &args.seed, "--seed"),
        MATCH_U64("data_hash", &data_hash, "--dataset, --max_length and what else makes the rows"),
        MATCH_I64("num_iterations", &args.num_iterations, "--num_iterations"),
        MATCH_F64("beta", &args.beta, "--beta"),
        MATCH_U64("self-play", &play_hash,
                  "the flags under `self-play` in --help; run.json has their earlier values"),
        MATCH_I64("total_steps", &total, "--max_steps and --num_train_epochs"),
        MATCH_I64("pairs_per_step", &batch_pairs,
                  "--per_device_train_batch_size and --gradient_accumulation_steps"),
        MATCH_I64("shuffle_dataset", &shuffle, "--shuffle_dataset"),
        MATCH_F64("learning_rate", &args.learning_rate, "--learning_rate"),
        MATCH_U64("training", &training_hash,
                  "the flags under `training` in --help; run.json has their earlier values"),
    };
    output.reference = &opponent;        // it changes, so it is saved, too
    PairSet pairs = {0}, previous = {0}; // of this iteration, of the one before
    if (resume) {
        char *dir, *name;
        checkpoint_resume(&output, &model, state, COUNT(state));
        path_split(output.resume_dir, &dir, &name);
        if (done > 0) iteration_load(&pairs, dir, iteration, &train, played_hash);
        if (args.mix_previous && iteration > 0)
            iteration_load(&previous, dir, iteration - 1, &train, previous_hash);
        free(dir), free(name);
        printf("resumed at step %" PRId64 " of %" PRId64 ", iteration %" PRId64 "\n", step, total,
               iteration);
    }
    Text run_json = {0};
    flags_json(&run_json, flags, COUNT(flags));
    char *config_path = path_join(model_dir, "config.json");
    output_start(&output, run_json.data, config_path);
    free(config_path), text_free(&run_json);
    MetricsLog log;
    log_open(&log, output.metrics_path, output.metrics_bytes);
    if (pairs.n) iteration_keep(&output, iteration, &pairs, &tokenizer);
    if (previous.n) iteration_keep(&output, iteration - 1, &previous, &tokenizer);
    stop_on_signals();

    // ---- what players are measured by ----------------------------------------------------------
    Work w;
    work_alloc(&w, B > eval_B ? B : eval_B, options.max_length);
    Gold *gold = args.gold ? mem_alloc(1, sizeof *gold) : NULL;
    if (gold) gold_create(gold);
    const int n_held = args.eval_prompts < eval.n ? args.eval_prompts : eval.n;
    Observed held = {0}; // the held-out completions
    if (n_held > 0) {
        Observed training;
        observe(&held, &eval, 1, n_held, gold, &tokenizer);
        observe(&training, &train, 1, train.n < n_held ? train.n : n_held, gold, &tokenizer);
        const Distance data = observed_distance(&training, &held);
        distance_print("data", &data, false, true, args.gold);
        if (!resume) {
            log_number(&log, "step", 0);
            distance_log(&log, "data", &data, false, true, args.gold);
            log_write(&log);
        }
        observed_free(&training);
    }
    SampleOptions sampling = {.max_new_tokens = args.max_new_tokens,
                              .temperature = args.temperature,
                              .top_p = args.top_p,
                              .eos_id = tokenizer.eos_id,
                              .vocab_size = tokenizer.vocab_size,
                              .seed = (uint64_t)args.seed};
    if (sampling.max_new_tokens > options.max_length - 1)
        sampling.max_new_tokens = options.max_length - 1;
    const LabelSet *shown = eval.n ? &eval : &train; // rows whose prompts the samples complete
    Batch prompts = {0};
    for (int i = 0; i < shown->n && prompts.R < args.samples; i++)
        prompts_add(&prompts, shown->tokens + shown->start[2 * (size_t)i],
                    shown->start[2 * (size_t)i + 1] - shown->start[2 * (size_t)i]);
    if (!resume) texts_show(&model, &tokenizer, &prompts, args.samples, &sampling, "before");

    // ---- iterations ----------------------------------------------------------------------------
    const AdamW adamw = {args.adam_beta1,   args.adam_beta2,           args.adam_epsilon,
                         args.weight_decay, !args.no_decay_embeddings, false};
    PairSet held_pairs = {0};
    float *old_logps = NULL, *held_logps = NULL; // (n, 2) of pairs, of held_pairs
    int *order = mem_alloc(2 * (size_t)train.n, sizeof *order);
    int64_t saved_step = step, pairs_seen = 0;
    const int64_t first_step = step;
    const double began = seconds_now();
    while (!stop_signal) {
        // how far this iteration's player, now the opponent, is from the data
        if (n_held > 0 && !pairs_play(&held_pairs, &opponent, &eval, n_held, &sampling, 0,
                                      args.generation_batch_size))
            break;
        if (eval.n && measured == iteration) {
            const double last = now.nll;
            char who[32];
            now = (Distance){0};
            if (n_held > 0) {
                Observed played;
                observe(&played, &held_pairs, 2, n_held, gold, &tokenizer);
                now = observed_distance(&played, &held);
                observed_free(&played);
            }
            now.nll = completions_nll(&w, &opponent, &eval, eval_B);
            if (stop_signal) {
                now.nll = last;
                break;
            }
            if (iteration == 0) first = now;
            snprintf(who, sizeof who, "player %" PRId64, iteration);
            distance_print(who, &now, true, n_held > 0, args.gold);
            log_number(&log, "step", (double)step);
            log_number(&log, "iteration", (double)iteration);
            distance_log(&log, "player", &now, true, n_held > 0, args.gold);
            log_write(&log);
            if (iteration > 0 && now.nll > 1.05 * last)
                warn("player %" PRId64 " is farther from the data than the one before (held-out "
                     "NLL %.4f, was %.4f): %s",
                     iteration, now.nll, last,
                     args.beta < 0.5 ? "with --beta below 1/2 this gets worse in each iteration "
                                       "that comes near its minimum; take smaller or fewer steps"
                                     : "take smaller or fewer steps, or more data");
            measured++;
        }
        if (iteration == T) break;

        // self-play: pairs of real and generated completions
        const bool mix = args.mix_previous && iteration > 0;
        if (done == 0) {
            if (!pairs_play(&pairs, &opponent, &train, train.n, &sampling,
                            (uint64_t)(iteration + 1) << 32, args.generation_batch_size))
                break;
            played_hash = pairs_hash(&pairs);
            iteration_save(&output, iteration, &pairs, &tokenizer,
                           args.save_players ? &opponent : NULL);
        }
        for (int i = 0; i < previous.n && mix; i++) {
            const size_t *start = previous.start + 3 * (size_t)i;
            pieces_add(&pairs, previous.tokens, start, start + 1, 1);
        }

        // what the opponent, whose weights do not change now, says to them
        old_logps = opponent_logps(&w, &opponent, &pairs, B, args.share_prompt);
        held_logps = opponent_logps(&w, &opponent, &held_pairs, eval_B, args.share_prompt);

        const int64_t steps_per_epoch = (pairs.n + pairs_per_step - 1) / pairs_per_step;
        const int64_t batches_per_epoch = (pairs.n + B - 1) / B;
        const int64_t steps = iteration_steps(iteration, train.n, mix, pairs_per_step,
                                              args.num_train_epochs, args.max_steps);
        int64_t epoch_of_order = -1;
        while (done < steps && !stop_signal) {
            // the pairs of this update
            const int64_t epoch = done / steps_per_epoch;
            const int64_t at = done % steps_per_epoch * pairs_per_step;
            if (epoch != epoch_of_order) {
                rng_permutation(order, pairs.n, (uint64_t)args.seed,
                                (uint64_t)iteration << 32 | (uint64_t)epoch);
                for (int i = 0; i < pairs.n && !args.shuffle_dataset; i++) order[i] = i;
                epoch_of_order = epoch;
            }
            const int n_pairs =
                (int)(pairs.n - at < pairs_per_step ? pairs.n - at : pairs_per_step);

            // forward and backward, B pairs at a time; gradients accumulate
            double loss = 0;
            for (int i = 0; i < n_pairs; i += B) {
                const int n = n_pairs - i < B ? n_pairs - i : B;
                work_batch(&w, &pairs, order + at + i, n, args.share_prompt);
                pairs_opponent(&w, old_logps, order + at + i, n);
                const HeadStats head = pairs_forward(&w, &model, w.real, w.generated, n);
                const PairStats stats =
                    spin_loss(w.dreal, w.dgenerated, w.real, w.generated, w.old_real,
                              w.old_generated, n, n_pairs, args.beta);
                pairs_backward(&w, &model, n);
                window_add(&window, &w, n, &stats, &head);
                loss += stats.loss;
                for (int k = 0; k < n; k++) tokens_seen += pair_tokens(&pairs, order[at + i + k]);
            }

            // update
            const double norm = grad_norm(&model);
            const double lr = args.learning_rate *
                              lr_factor(args.lr_scheduler_type, done, args.warmup_steps, steps);
            if (!isfinite(loss) || !isfinite(norm))
                die(EXIT_DIVERGED,
                    "step %" PRId64 ": loss is %g, gradient norm %g (learning rate %g); "
                    "last good checkpoint: %s%.0" PRId64, // .0: nothing for 0
                    step + 1, loss, norm, lr, saved_step ? "checkpoint-" : "none", saved_step);
            adamw_step(&model, &adamw, lr, clip_scale(norm, args.max_grad_norm));
            step++, done++, window.steps++, pairs_seen += n_pairs;

            // log
            const bool last = done == steps;
            const double epochs = epochs_done(done, steps_per_epoch, batches_per_epoch,
                                              args.gradient_accumulation_steps);
            if (step % args.logging_steps == 0 || last) {
                const double seconds = seconds_now() - began, n = (double)window.pairs;
                char left[32];
                time_format(left, seconds / (double)(step - first_step) * (double)(total - step));
                log_number(&log, "step", (double)step);
                log_number(&log, "iteration", (double)iteration);
                log_number(&log, "epoch", epochs);
                log_window(&log, "", &window);
                log_number(&log, "grad_norm", norm);
                log_number(&log, "learning_rate", lr);
                log_number(&log, "num_tokens", (double)tokens_seen);
                log_write(&log);
                progress_clear();
                printf("step %5" PRId64 "/%" PRId64 "  loss %7.4f  margin %7.4f  accuracy %.3f  "
                       "norm %6.3f  lr %.2e  %6.3g pairs/s  left %s\n",
                       step, total, window.loss / (double)window.steps, window.margin / n,
                       (double)window.correct / n, norm, lr, (double)pairs_seen / seconds, left);
                window = (Window){0};
            }
            if (n_held > 0 && ((args.eval_steps && step % args.eval_steps == 0) || last))
                evaluate(&w, &model, held_logps, &held_pairs, args.beta, args.share_prompt, eval_B,
                         &log, step, iteration, epochs);
            if (args.save_steps && step % args.save_steps == 0 && !last) {
                checkpoint_save(&output, &model, &tokenizer, step, state, COUNT(state));
                saved_step = step;
            }
            progress_show("step %" PRId64 "/%" PRId64 "  loss %.4f", step, total, loss);
        }
        progress_clear();
        free(old_logps), free(held_logps);
        old_logps = held_logps = NULL;
        if (done < steps) break; // asked to stop

        // the player becomes the opponent; the optimiser begins anew
        gpt2_copy_weights(&opponent, &model);
        memset(model.adam_m, 0, model.n_floats * sizeof(float));
        memset(model.adam_v, 0, model.n_floats * sizeof(float));
        model.adam_step = 0;
        pairs_free(&previous), pairs_free(&held_pairs);
        previous = pairs, previous.n = train.n; // without those of the iteration before it
        pairs = (PairSet){0};
        previous_hash = played_hash;
        iteration++, done = 0;
        if (args.save_steps && iteration < T) {
            checkpoint_save(&output, &model, &tokenizer, step, state, COUNT(state));
            saved_step = step;
        }
    }

    // ---- save ----------------------------------------------------------------------------------
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
        char spent[32];
        texts_show(&model, &tokenizer, &prompts, args.samples, &sampling, "after");
        if (eval.n) {
            distance_print("before", &first, true, n_held > 0, args.gold);
            distance_print("after", &now, true, n_held > 0, args.gold);
        }
        printf("%s, peak memory %.0f MB\n", time_format(spent, seconds_now() - began),
               memory_peak_mb());
        printf("model: %s/final   what was generated: %s/iteration-*   metrics: "
               "%s/metrics.jsonl\n",
               args.output_dir, args.output_dir, args.output_dir);
        output_finish(&output, &model, &tokenizer);
    }
    log_close(&log);

    gpt2_free(&model), gpt2_free(&opponent), tokenizer_free(&tokenizer);
    labels_free(&train), labels_free(&eval), work_free(&w), batch_free(&prompts), free(order);
    pairs_free(&pairs), pairs_free(&previous), pairs_free(&held_pairs), observed_free(&held);
    if (gold) gold_free(gold);
    free(gold), flags_free(flags, COUNT(flags));
    return stopped ? 128 + stopped : 0;
}
