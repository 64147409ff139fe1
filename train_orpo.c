// train_orpo.c: odds ratio preference optimisation (ORPO) of GPT-2. Build it:
//
// cc -O3 -march=native -fno-math-errno -fopenmp train_orpo.c -o train_orpo -lopenblas -lcjson -lm
//
// Fine-tuning and learning from preferences in one, without a reference model (Hong et al. 2024,
// eq. 6; losses.h):
//
//     loss = NLL + beta * mean over pairs of -log sigmoid(log odds(chosen) - log odds(rejected))
//
// odds(y) = P / (1 - P) where P = exp(mean log-prob of y's tokens given the prompt), and beta is
// the paper's lambda. main() below is the algorithm from top to bottom:
//
//     flags -> model -> data -> for each step { batch, forward, loss, backward, clip, AdamW, log }
//     -> save
//
// How the NLL is averaged: over tokens. It is the sum of -log p over the counted tokens of the
// chosen rows, divided by their number in the whole effective batch (all accumulation steps), so it
// does not depend on how that is split. Every token weighs the same, as in TRL and the authors'
// code, which divide within each split; the paper's eq. 2 would take each completion's mean first.
// Counted are the chosen completion and its EOS (the paper), or with --nll all the prompt's tokens
// too (TRL and the authors' code), but for the first of a row, which nothing predicts.
//
// Both completions of a pair share one pass over their prompt (Batch in common.h). That goes
// together with --nll all: the prompt's own tokens get a mask, once for each pair, as in the chosen
// row of TRL's batch. The rejected row never has an NLL.
//
// Without arguments it trains the model in data/sft on preferences between film reviews.
#include "common.h"
#include "flags.h"
#include "losses.h"
#include "tokenizer.h"
#include "dataset.h"
#include "preferences.h"
#include "model.h"
#include "checkpoint.h"
#include "sample.h"
#include "before_after.h"

// The run without arguments: a tiny model wants larger steps than GPT-2 does.
static const char preset[] =
    "--model data/sft --dataset data/prefs_train.jsonl --eval_dataset data/prefs_eval.jsonl "
    "--output_dir out/orpo --num_train_epochs 1 --per_device_train_batch_size 32 "
    "--per_device_eval_batch_size 64 --learning_rate 0.003 --lr_scheduler_type cosine "
    "--warmup_steps 20 --adam_beta2 0.98 --beta 2 --logging_steps 20 --eval_steps 100 "
    "--save_steps 0 --eval_prompts 500 --gold";

// What one forward and backward pass over B pairs works on. Rows 3i, 3i + 1 and 3i + 2 of the batch
// are the prompt, the chosen and the rejected completion of pair i.
typedef struct {
    Batch batch;
    float *logp, *dlogp;        // (N) of each token
    TokenStats *stats;          // (N)
    float *sum, *dsum;          // (3B) of each row
    int *count;                 // (3B) masked tokens of each row
    float *chosen, *rejected;   // (B) mean log-prob of the completion's tokens
    float *dchosen, *drejected; // (B)
} Work;

// What is summed up between two lines of the log, and saved with a checkpoint so that a resumed
// run writes the same lines.
typedef struct {
    double loss, nll;                       // over steps
    double log_odds_ratio, log_odds_chosen; // over pairs
    double chosen, rejected;                // over pairs: mean log-probs
    double logits_chosen, logits_rejected;  // over tokens of completions: mean of the vocabulary
    double entropy;                         // over tokens, with --nll all the prompts' too
    int64_t steps, pairs, correct;          // correct: pairs
    int64_t chosen_tokens, rejected_tokens, count; // count: all tokens
} Window;

// Room for B pairs of at most max_length tokens a side.
static void work_alloc(Work *w, int B, int max_length) {
    *w = (Work){0};
    const size_t N = 2 * (size_t)B * (size_t)max_length, rows = 3 * (size_t)B;
    w->logp = mem_floats(N), w->dlogp = mem_floats(N), w->stats = mem_alloc(N, sizeof *w->stats);
    w->sum = mem_floats(rows), w->dsum = mem_floats(rows);
    w->count = mem_alloc(rows, sizeof *w->count);
    w->chosen = mem_floats((size_t)B), w->rejected = mem_floats((size_t)B);
    w->dchosen = mem_floats((size_t)B), w->drejected = mem_floats((size_t)B);
}

static void work_free(Work *w) {
    batch_free(&w->batch);
    free(w->logp), free(w->dlogp), free(w->stats), free(w->sum), free(w->dsum), free(w->count);
    free(w->chosen), free(w->rejected), free(w->dchosen), free(w->drejected);
}

// Number of tokens in the NLL of pair i. The first token of a row is never predicted.
static long nll_count(const PairSet *d, int i, bool all) {
    const size_t *start = d->start + 3 * (size_t)i; // of prompt, chosen and rejected
    return (long)(all ? start[2] - start[0] - 1 : start[2] - start[1]);
}

// Forward pass of n pairs: fills sum, count, chosen and rejected. With `all` the prompts' tokens
// get log-probs too. Returns what the head counted.
static HeadStats pairs_forward(Work *w, GPT2 *model, const PairSet *data, const int *pairs, int n,
                               bool all) {
    Batch *b = &w->batch;
    pairs_batch(b, data, pairs, n, true);
    for (int i = 0; i < n && all; i++) {
        const int begin = b->row_start[3 * i], end = b->row_start[3 * i + 1];
        memset(b->mask + begin + 1, 1, (size_t)(end - begin - 1));
    }
    gpt2_forward(model, b);
    HeadStats stats = lm_head_forward_stats(model, w->logp, w->stats);
    row_sum_forward(w->sum, w->count, w->logp, b->mask, b->row_start, b->R);
    for (int i = 0; i < n; i++) {
        w->chosen[i] = w->sum[3 * i + 1] / (float)w->count[3 * i + 1];
        w->rejected[i] = w->sum[3 * i + 2] / (float)w->count[3 * i + 2];
    }
    return stats;
}

// The loss of these n pairs as a part of their effective batch, which has `total` pairs and M
// tokens in the NLL: the parts add up. dsum becomes its gradient. Adds to the window.
static double pairs_loss(Work *w, int n, int total, long M, double beta, Window *window) {
    OrpoStats stats = orpo_loss(w->dchosen, w->drejected, w->chosen, w->rejected, n, total, beta);
    double nll = 0;
    for (int i = 0; i < n; i++) {
        const HeadStats chosen = row_stats(w->stats, &w->batch, 3 * i + 1);
        const HeadStats rejected = row_stats(w->stats, &w->batch, 3 * i + 2);
        const float *sum = w->sum + 3 * i;
        const int *count = w->count + 3 * i;
        nll -= ((double)sum[0] + (double)sum[1]) / (double)M; // the prompt's is 0 without --nll all
        float *dsum = w->dsum + 3 * i;
        dsum[0] = (float)(-1.0 / (double)M);
        dsum[1] = (float)(-1.0 / (double)M) + w->dchosen[i] / (float)count[1];
        dsum[2] = w->drejected[i] / (float)count[2];
        window->chosen += w->chosen[i], window->rejected += w->rejected[i];
        window->logits_chosen += chosen.logit, window->logits_rejected += rejected.logit;
        window->chosen_tokens += chosen.count, window->rejected_tokens += rejected.count;
    }
    window->nll += nll, window->loss += nll + stats.loss;
    window->log_odds_ratio += stats.log_odds_ratio;
    window->log_odds_chosen += stats.log_odds_chosen;
    window->correct += stats.correct, window->pairs += n;
    return nll + stats.loss;
}

// Add the window's means to the row of the log, under TRL's names: rewards are beta times the mean
// log-prob of a completion's tokens (there is no reference to compare with). logits/* are over the
// completions; TRL's are over prompts and padding, too.
static void log_window(MetricsLog *log, const char *prefix, const Window *w, double beta) {
    const double steps = (double)w->steps, pairs = (double)w->pairs;
    const struct {
        const char *name;
        double value;
    } metrics[] = {
        {"loss", w->loss / steps},
        {"nll_loss", w->nll / steps},
        {"log_odds_ratio", w->log_odds_ratio / pairs},
        {"log_odds_chosen", w->log_odds_chosen / pairs},
        {"rewards/chosen", beta * w->chosen / pairs},
        {"rewards/rejected", beta * w->rejected / pairs},
        {"rewards/margins", beta * (w->chosen - w->rejected) / pairs},
        {"rewards/accuracies", (double)w->correct / pairs},
        {"logps/chosen", w->chosen / pairs},
        {"logps/rejected", w->rejected / pairs},
        {"logits/chosen", w->logits_chosen / (double)w->chosen_tokens},
        {"logits/rejected", w->logits_rejected / (double)w->rejected_tokens},
        {"entropy", w->entropy / (double)w->count},
    };
    for (int i = 0; i < COUNT(metrics); i++) {
        char key[64];
        snprintf(key, sizeof key, "%s%s", prefix, metrics[i].name);
        log_number(log, key, metrics[i].value);
    }
}

// The loss and all metrics over a whole data set, B pairs at a time. Prints the main ones and adds
// a row to the log.
static void evaluate(Work *w, GPT2 *model, const PairSet *data, int B, bool all, double beta,
                     MetricsLog *log, int64_t step, double epoch) {
    Window window = {.steps = 1};
    long M = 0;
    for (int i = 0; i < data->n; i++) M += nll_count(data, i, all);
    int *pairs = mem_alloc((size_t)B, sizeof *pairs);
    for (int r = 0; r < data->n; r += B) {
        int n = data->n - r < B ? data->n - r : B;
        for (int i = 0; i < n; i++) pairs[i] = r + i;
        HeadStats stats = pairs_forward(w, model, data, pairs, n, all);
        pairs_loss(w, n, data->n, M, beta, &window);
        window.entropy += stats.entropy, window.count += stats.count;
        progress_show("evaluation: %d of %d pairs", r + n, data->n);
    }
    free(pairs);
    log_number(log, "step", (double)step);
    log_number(log, "epoch", epoch);
    log_window(log, "eval_", &window, beta);
    log_write(log);
    progress_clear();
    printf("step %5" PRId64 "  eval_loss %.4f  eval_nll_loss %.4f  eval_rewards/accuracies %.3f  "
           "eval_log_odds_chosen %.3f\n",
           step, window.loss, window.nll, (double)window.correct / window.pairs,
           window.log_odds_chosen / window.pairs);
}

int main(int argc, char **argv) {
    // ---- flags ---------------------------------------------------------------------------------
    // Names and defaults are those of TRL's ORPOConfig and transformers' TrainingArguments.
    struct {
        const char *model, *tokenizer, *dataset, *eval_dataset, *output_dir;
        const char *resume_from_checkpoint, *lr_scheduler_type, *truncation_mode, *chat_format;
        const char *nll;
        double beta, eval_split, learning_rate, weight_decay, max_grad_norm, num_train_epochs;
        double adam_beta1, adam_beta2, adam_epsilon;
        int max_length, per_device_train_batch_size, per_device_eval_batch_size;
        int gradient_accumulation_steps, warmup_steps, logging_steps, eval_steps, save_steps;
        int save_total_limit, samples, max_new_tokens, eval_prompts;
        int64_t max_steps, seed;
        bool shuffle_dataset, no_decay_embeddings, bf16, gradient_checkpointing,
            overwrite_output_dir;
        bool gold;
    } args = {
        .output_dir = "out/orpo",
        .lr_scheduler_type = "linear",
        .truncation_mode = "prompt_first",
        .chat_format = "hh",
        .nll = "completion",
        .beta = 0.1,
        .learning_rate = 1e-6,
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
        .samples = 4,
        .max_new_tokens = 60,
        .max_steps = -1,
        .seed = 42,
        .shuffle_dataset = true,
    };
    Flag flags[] = {
        FLAG_HEADING("model"),
        FLAG_TEXT(args, model, "directory in Hugging Face format to start from"),
        FLAG_TEXT(args, tokenizer, "directory with vocab.json and merges.txt, if not --model's"),
        FLAG_SWITCH(args, gradient_checkpointing, "less memory, a quarter more time"),
        FLAG_HEADING("data"),
        FLAG_TEXT(args, dataset, "JSONL with prompt + chosen + rejected, or chosen + rejected"),
        FLAG_TEXT(args, eval_dataset, "the same for evaluation"),
        FLAG(args, eval_split, 0, 0.9, "without --eval_dataset: share of pairs kept for it"),
        FLAG_CHOICE(args, chat_format, "hh|simple", "how messages become text"),
        FLAG(args, max_length, 2, 1 << 20, "tokens of prompt and completion"),
        FLAG_CHOICE(args, truncation_mode, "prompt_first|keep_start",
                    "cut the prompt from the left, or the end of the row (TRL)"),
        FLAG_SWITCH(args, shuffle_dataset, "new order of pairs in each epoch"),
        FLAG_HEADING("training"),
        FLAG(args, beta, 1e-9, 1e9, "weight of the odds ratio loss, the paper's lambda (> 0)"),
        FLAG_CHOICE(args, nll, "completion|all",
                    "mean NLL of the chosen completions' tokens (paper), or of their prompts' too "
                    "(TRL)"),
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
        FLAG(args, seed, 0, 9e15, "of the order of pairs, split and samples"),
        FLAG_HEADING("output"),
        FLAG_TEXT(args, output_dir, "gets final/, checkpoint-N/, metrics.jsonl, run.json"),
        FLAG_SWITCH(args, overwrite_output_dir, "delete what an earlier run left there"),
        FLAG_TEXT(args, resume_from_checkpoint, "a checkpoint-N directory, or latest"),
        FLAG(args, logging_steps, 1, 1e9, "updates between lines of the log"),
        FLAG(args, eval_steps, 0, 1e9, "updates between evaluations (0: at begin and end only)"),
        FLAG(args, per_device_eval_batch_size, 1, 1 << 16, "pairs in one forward pass there"),
        FLAG(args, save_steps, 0, 1e9, "updates between checkpoints (0: none)"),
        FLAG(args, save_total_limit, 0, 1e9, "checkpoints to keep (0: all)"),
        FLAG(args, samples, 0, 100, "texts to show before and after"),
        FLAG(args, max_new_tokens, 1, 1 << 20, "length of those texts"),
        FLAG(args, eval_prompts, 0, 1e6, "texts to measure the KL to the starting model on"),
        FLAG_SWITCH(args, gold, "give those the gold score of film reviews (data/gold.h)"),
    };
    flags_parse(argc, argv, flags, COUNT(flags), "odds ratio preference optimisation of GPT-2",
                preset);
    const bool resume = args.resume_from_checkpoint && *args.resume_from_checkpoint;
    if (!args.dataset) die(EXIT_USAGE, "--dataset is needed; see --help");
    if (!args.model) die(EXIT_USAGE, "--model is needed; see --help");
    if (!args.output_dir) die(EXIT_USAGE, "--output_dir is empty; see --help");
    if (args.gold && !args.eval_prompts) die(EXIT_USAGE, "--gold needs --eval_prompts");

    // ---- model ---------------------------------------------------------------------------------
    Output output;
    output_open(&output, args.output_dir, args.resume_from_checkpoint, args.overwrite_output_dir,
                argc == 1);
    output.save_total_limit = args.save_total_limit;
    products_begin(args.bf16);
    const char *model_dir = resume ? output.resume_dir : args.model;
    Tokenizer tokenizer;
    tokenizer_load(&tokenizer, args.tokenizer ? args.tokenizer : args.model);
    GPT2 model, start = {0}; // start: only to measure how far the model went
    model_load(&model, model_dir);
    if (args.eval_prompts) model_load(&start, args.model);
    tokenizer_check(&tokenizer, model.config.vocab_size,
                    args.tokenizer ? args.tokenizer : args.model);
    gpt2_train_begin(&model, args.gradient_checkpointing);
    printf("GPT-2 with %.2fM parameters: %d layers, %d channels, %d heads, vocabulary %d\n",
           (double)gpt2_count_params(&model) * 1e-6, model.config.n_layer, model.config.n_embd,
           model.config.n_head, model.config.vocab_size);

    // ---- data ----------------------------------------------------------------------------------
    const DataOptions options = {
        .max_length =
            args.max_length < model.config.n_positions ? args.max_length : model.config.n_positions,
        .keep_start = !strcmp(args.truncation_mode, "keep_start"),
        .chat_format = !strcmp(args.chat_format, "hh") ? CHAT_HH : CHAT_SIMPLE,
    };
    const bool all = !strcmp(args.nll, "all");
    PairSet train, eval = {0};
    Text report = {0};
    pairs_load(&train, &tokenizer, args.dataset, &options);
    pairs_report(&report, &train, args.dataset);
    if (args.eval_dataset) {
        pairs_load(&eval, &tokenizer, args.eval_dataset, &options);
        text_print(&report, "\n");
        pairs_report(&report, &eval, args.eval_dataset);
    } else if (args.eval_split > 0) {
        PairSet both = train;
        pairs_split(&train, &eval, &both, args.eval_split, (uint64_t)args.seed);
        text_print(&report, "; %d pairs kept for evaluation", eval.n);
        pairs_free(&both);
    }
    printf("%s\n", report.data);
    text_free(&report);

    const int B = args.per_device_train_batch_size, eval_B = args.per_device_eval_batch_size;
    const int64_t pairs_per_step = (int64_t)B * args.gradient_accumulation_steps;
    const int64_t steps_per_epoch = (train.n + pairs_per_step - 1) / pairs_per_step;
    const int64_t batches_per_epoch = (train.n + B - 1) / B;
    int64_t total = (int64_t)ceil(args.num_train_epochs * (double)steps_per_epoch);
    if (args.max_steps > 0) total = args.max_steps;

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
        STATE_F64("window.nll", &window.nll),
        STATE_F64("window.log_odds_ratio", &window.log_odds_ratio),
        STATE_F64("window.log_odds_chosen", &window.log_odds_chosen),
        STATE_F64("window.chosen", &window.chosen),
        STATE_F64("window.rejected", &window.rejected),
        STATE_F64("window.logits_chosen", &window.logits_chosen),
        STATE_F64("window.logits_rejected", &window.logits_rejected),
        STATE_F64("window.entropy", &window.entropy),
        STATE_I64("window.steps", &window.steps),
        STATE_I64("window.pairs", &window.pairs),
        STATE_I64("window.correct", &window.correct),
        STATE_I64("window.chosen_tokens", &window.chosen_tokens),
        STATE_I64("window.rejected_tokens", &window.rejected_tokens),
        STATE_I64("window.count", &window.count),
        MATCH_I64("seed", &args.seed, "--seed"),
        MATCH_I64("total_steps", &total, "--max_steps and --num_train_epochs"),
        MATCH_I64("pairs_per_step", &batch_pairs,
                  "--per_device_train_batch_size and --gradient_accumulation_steps"),
        MATCH_I64("shuffle_dataset", &shuffle, "--shuffle_dataset"),
        MATCH_U64("data_hash", &data_hash, "--dataset, --max_length and what else makes the pairs"),
        MATCH_F64("learning_rate", &args.learning_rate, "--learning_rate"),
        MATCH_F64("beta", &args.beta, "--beta"),
        MATCH_U64("training", &training_hash,
                  "the flags under `training` in --help; run.json has their earlier values"),
    };
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

    // ---- before training -----------------------------------------------------------------------
    Work work;
    work_alloc(&work, B > eval_B ? B : eval_B, options.max_length);
    const PairSet *shown = eval.n ? &eval : &train; // pairs whose prompts the samples complete
    Batch prompts = {0};
    for (int i = 0; i < shown->n; i++)
        prompts_add(&prompts, shown->tokens + shown->start[3 * (size_t)i],
                    shown->start[3 * (size_t)i + 1] - shown->start[3 * (size_t)i]);
    if (eval.n && !resume) evaluate(&work, &model, &eval, eval_B, all, args.beta, &log, 0, 0);
    const SampleOptions sampling = {.max_new_tokens = args.max_new_tokens,
                                    .temperature = 1,
                                    .top_p = 1,
                                    .eos_id = tokenizer.eos_id,
                                    .vocab_size = tokenizer.vocab_size,
                                    .seed = (uint64_t)args.seed};
    Texts before, after;
    texts_measure(&before, &start, &start, &tokenizer, &prompts, args.eval_prompts, eval_B,
                  args.gold, &sampling);
    if (!resume) {
        texts_log(&before, &log, 0, 0);
        texts_show(&model, &tokenizer, &prompts, args.samples, &sampling, "before training");
    }

    // ---- train ---------------------------------------------------------------------------------
    const AdamW adamw = {args.adam_beta1,   args.adam_beta2,           args.adam_epsilon,
                         args.weight_decay, !args.no_decay_embeddings, false};
    int *order = mem_alloc((size_t)train.n, sizeof *order);
    int64_t epoch_of_order = -1, saved_step = step;
    const int64_t first_step = step;
    const double began = seconds_now();
    while (step < total && !stop_signal) {
        // the pairs of this update, and the number of tokens in its NLL
        const int64_t epoch = step / steps_per_epoch, at = step % steps_per_epoch * pairs_per_step;
        if (epoch != epoch_of_order) {
            rng_permutation(order, train.n, (uint64_t)args.seed, (uint64_t)epoch);
            for (int i = 0; i < train.n && !args.shuffle_dataset; i++) order[i] = i;
            epoch_of_order = epoch;
        }
        const int *pairs = order + at;
        const int n_pairs = (int)(train.n - at < pairs_per_step ? train.n - at : pairs_per_step);
        long M = 0;
        for (int i = 0; i < n_pairs; i++) {
            M += nll_count(&train, pairs[i], all);
            tokens_seen += pair_tokens(&train, pairs[i]);
        }

        // forward and backward, B pairs at a time; gradients accumulate
        double loss = 0;
        for (int i = 0; i < n_pairs; i += B) {
            const int n = n_pairs - i < B ? n_pairs - i : B;
            const Batch *batch = &work.batch;
            HeadStats stats = pairs_forward(&work, &model, &train, pairs + i, n, all);
            loss += pairs_loss(&work, n, n_pairs, M, args.beta, &window);
            row_sum_backward(work.dlogp, work.dsum, batch->mask, batch->row_start, batch->R);
            lm_head_backward(&model, work.dlogp);
            gpt2_backward(&model);
            window.entropy += stats.entropy, window.count += stats.count;
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
        step++;
        window.steps++;

        // log
        const bool last = step == total;
        const double epochs =
            epochs_done(step, steps_per_epoch, batches_per_epoch, args.gradient_accumulation_steps);
        if (step % args.logging_steps == 0 || last) {
            const double seconds = seconds_now() - began;
            char left[32];
            time_format(left, seconds / (double)(step - first_step) * (double)(total - step));
            log_number(&log, "step", (double)step);
            log_number(&log, "epoch", epochs);
            log_window(&log, "", &window, args.beta);
            log_number(&log, "grad_norm", norm);
            log_number(&log, "learning_rate", lr);
            log_number(&log, "num_tokens", (double)tokens_seen);
            log_write(&log);
            progress_clear();
            printf("step %5" PRId64 "/%" PRId64 "  loss %7.4f  nll_loss %.4f  accuracy %.3f  "
                   "log_odds %7.4f  norm %6.3f  lr %.2e  %5.1f pairs/s  left %s\n",
                   step, total, window.loss / (double)window.steps,
                   window.nll / (double)window.steps, (double)window.correct / (double)window.pairs,
                   window.log_odds_chosen / (double)window.pairs, norm, lr,
                   (double)(step - first_step) * (double)pairs_per_step / seconds, left);
            window = (Window){0};
        }
        if (eval.n && ((args.eval_steps && step % args.eval_steps == 0) || last))
            evaluate(&work, &model, &eval, eval_B, all, args.beta, &log, step, epochs);
        if (args.save_steps && step % args.save_steps == 0 && !last) {
            checkpoint_save(&output, &model, &tokenizer, step, state, COUNT(state));
            saved_step = step;
        }
        progress_show("step %" PRId64 "/%" PRId64 "  loss %.4f", step, total, loss);
    }
    progress_clear();

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
        texts_show(&model, &tokenizer, &prompts, args.samples, &sampling, "after training");
        texts_measure(&after, &model, &start, &tokenizer, &prompts, args.eval_prompts, eval_B,
                      args.gold, &sampling);
        texts_log(&after, &log, step,
                  epochs_done(step, steps_per_epoch, batches_per_epoch,
                              args.gradient_accumulation_steps));
        texts_report(&before, &after, "starting model");
        texts_free(&after);
        char spent[32];
        printf("%s, peak memory %.0f MB\n", time_format(spent, seconds_now() - began),
               memory_peak_mb());
        printf("model: %s/final   metrics: %s/metrics.jsonl\n", args.output_dir, args.output_dir);
        output_finish(&output, &model, &tokenizer);
    }
    log_close(&log);

    gpt2_free(&model), gpt2_free(&start), tokenizer_free(&tokenizer);
    pairs_free(&train), pairs_free(&eval), work_free(&work), batch_free(&prompts);
    texts_free(&before), free(order), flags_free(flags, COUNT(flags));
    return stopped ? 128 + stopped : 0;
}
