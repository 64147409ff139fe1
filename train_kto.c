// train_kto.c: Kahneman-Tversky optimisation (KTO) of GPT-2. Build it:
//
// cc -O3 -march=native -fno-math-errno -fopenmp train_kto.c -o train_kto -lopenblas -lcjson -lm
//
// Learning from single completions that are called desirable or undesirable, without pairs
// (Ethayarajh et al. 2024, eq. 8; losses.h). With the log-ratio r = log pi(y|x) - log ref(y|x),
//
//     loss = mean of weight (1 - sigmoid(+-beta (r - z))),   + if y is desirable, - if not
//     z = max(0, mean of log pi(y'|x) - log ref(y'|x)),      y' the completion of another example
//
// main() below is the algorithm from top to bottom:
//
//     flags -> model, reference -> data, reference log-probs
//     -> for each step { z, batch, forward, loss, backward, clip, AdamW, log } -> save
//
// z estimates KL(pi || ref) and gets no gradient. Here it comes from the whole effective batch (all
// accumulation steps): each prompt meets the completion of the example before it in the order of
// that batch, the first that of the last; examples of the same prompt are passed over, since
// their completions fit it (the two sides of a pair). So z does not depend on how the batch is
// split, and no example meets its own completion; since the order is drawn anew in each epoch,
// others meet then. (TRL takes z from each split alone and fixes who meets whom once for all.) An
// update needs two examples: a last one of an epoch that would have a single one joins the one
// before.
//
// The reference's log-probs of the examples are computed once, before training, and kept in a file
// for the next run (reference.h). Those of the mismatched completions are new in each epoch, so the
// reference stays in memory, forward only.
//
// Without arguments it trains the model in data/sft on preferences between film reviews, taken
// apart: the chosen ones are desirable, the rejected ones are not. From about the 20th step on its
// log says kl 0: the mismatched texts become less likely under pi than under ref, the estimate is
// negative, and z is cut off at 0. What is learned there is the loss without its KL term.
#include "common.h"
#include "flags.h"
#include "losses.h"
#include "tokenizer.h"
#include "dataset.h"
#include "preferences.h"
#include "model.h"
#include "checkpoint.h"
#include "reference.h"
#include "sample.h"
#include "before_after.h"

// The run without arguments: a tiny model wants larger steps than GPT-2 does.
static const char preset[] =
    "--model data/sft --dataset data/prefs_train.jsonl --eval_dataset data/prefs_eval.jsonl "
    "--output_dir out/kto --num_train_epochs 1 --per_device_train_batch_size 64 "
    "--per_device_eval_batch_size 64 --learning_rate 0.001 --lr_scheduler_type cosine "
    "--warmup_steps 20 --adam_beta2 0.98 --beta 0.3 --logging_steps 20 --eval_steps 100 "
    "--save_steps 0 --eval_prompts 500 --gold";

// The constants of the loss.
typedef struct {
    KtoLoss type;
    double beta, desirable_weight, undesirable_weight;
} Kto;

// What one pass over B examples works on; row i of the batch is an example.
typedef struct {
    Batch batch;
    float *logp, *dlogp;      // (N) of each token
    TokenStats *stats;        // (N)
    float *sum, *dsum, *ref;  // (B) of each row: log pi(y|x), its gradient, log ref(y|x)
    int *count, *other;       // (B) masked tokens; whose completion the prompt meets
    unsigned char *desirable; // (B)
    float *kl_sum, *kl_ref;   // (an effective batch) log-probs of mismatched completions
} Work;

// What is summed up between two lines of the log, and saved with a checkpoint so that a resumed
// run writes the same lines.
typedef struct {
    double loss, kl;                       // over steps
    double chosen, rejected;               // rewards, over the examples of either class
    double logps_chosen, logps_rejected;   // the same of log pi(y|x)
    double logits_chosen, logits_rejected; // over tokens: mean logit of the vocabulary
    double entropy;                        // over tokens
    int64_t steps, n_chosen, n_rejected;
    int64_t chosen_tokens, rejected_tokens;
} Window;

// Room for B rows of at most max_length tokens, in effective batches of at most `most` rows.
static void work_alloc(Work *w, int B, int max_length, int most) {
    *w = (Work){0};
    const size_t N = (size_t)B * (size_t)max_length, R = (size_t)B;
    w->logp = mem_floats(N), w->dlogp = mem_floats(N), w->stats = mem_alloc(N, sizeof *w->stats);
    w->sum = mem_floats(R), w->dsum = mem_floats(R), w->ref = mem_floats(R);
    w->count = mem_alloc(R, sizeof *w->count), w->other = mem_alloc(R, sizeof *w->other);
    w->desirable = mem_alloc(R, 1);
    w->kl_sum = mem_floats((size_t)most), w->kl_ref = mem_floats((size_t)most);
}

static void work_free(Work *w) {
    batch_free(&w->batch);
    free(w->logp), free(w->dlogp), free(w->stats), free(w->sum), free(w->dsum), free(w->ref);
    free(w->count), free(w->other), free(w->desirable), free(w->kl_sum), free(w->kl_ref);
}

// Forward pass of the batch: sum (B) <- log p(completion | prompt) of each row.
static void batch_forward(Work *w, GPT2 *model, float *sum) {
    const Batch *b = &w->batch;
    gpt2_forward(model, b);
    lm_head_forward_stats(model, w->logp, w->stats);
    row_sum_forward(sum, w->count, w->logp, b->mask, b->row_start, b->R);
}

// Whose completion the prompt of rows[i] meets: that of the nearest row before it in the effective
// batch, taken as a ring, that has another prompt; if none has, that of the row before it.
static int row_mismatched(const LabelSet *d, const int *rows, int total, int i) {
    const size_t *own = d->start + 2 * (size_t)rows[i];
    for (int back = 1; back < total; back++) {
        const int other = rows[(i + total - back) % total];
        const size_t *start = d->start + 2 * (size_t)other, n = start[1] - start[0];
        if (n != own[1] - own[0] || memcmp(d->tokens + *start, d->tokens + *own, n * sizeof(int)))
            return other;
    }
    return rows[(i + total - 1) % total];
}

// z of the effective batch `rows` (total), B rows at a time: each prompt with the completion of
// another example. Nothing of this is kept for a backward pass.
static double batch_kl(Work *w, GPT2 *model, GPT2 *ref, const LabelSet *data, const int *rows,
                       int total, int B) {
    for (int i = 0; i < total; i += B) {
        const int n = total - i < B ? total - i : B;
        for (int k = 0; k < n; k++) w->other[k] = row_mismatched(data, rows, total, i + k);
        labels_batch(&w->batch, data, rows + i, w->other, n);
        batch_forward(w, model, w->kl_sum + i);
        batch_forward(w, ref, w->kl_ref + i);
    }
    return kto_kl(w->kl_sum, w->kl_ref, total);
}

// Forward pass and loss of n rows as a part of their effective batch of `total`: the parts add up.
// ref_logps (data->n). dsum becomes the gradient. Adds to the window.
static double rows_loss(Work *w, GPT2 *model, const LabelSet *data, const float *ref_logps,
                        const int *rows, int n, int total, double kl, const Kto *kto,
                        Window *window) {
    labels_batch(&w->batch, data, rows, rows, n);
    batch_forward(w, model, w->sum);
    for (int i = 0; i < n; i++) {
        const HeadStats row = row_stats(w->stats, &w->batch, i);
        const bool good = data->label[rows[i]];
        w->ref[i] = ref_logps[rows[i]], w->desirable[i] = good;
        *(good ? &window->logps_chosen : &window->logps_rejected) += w->sum[i];
        *(good ? &window->logits_chosen : &window->logits_rejected) += row.logit;
        *(good ? &window->chosen_tokens : &window->rejected_tokens) += row.count;
        window->entropy += row.entropy;
    }
    KtoStats stats = kto_loss(w->dsum, w->sum, w->ref, w->desirable, n, total, kl, kto->type,
                              kto->beta, kto->desirable_weight, kto->undesirable_weight);
    window->loss += stats.loss;
    window->chosen += stats.chosen, window->rejected += stats.rejected;
    window->n_chosen += stats.n_chosen, window->n_rejected += stats.n_rejected;
    return stats.loss;
}

// Number of updates that n examples make in an epoch, `size` in each: a last one of a single
// example joins the one before.
static int64_t epoch_updates(int n, int64_t size) {
    const int64_t left = n % size;
    return n / size + (left > 1 || (left == 1 && n < size));
}

// Number of examples in the update that begins at example `at` of n.
static int update_rows(int n, int64_t at, int64_t size) {
    const int64_t left = n - at;
    return (int)(left <= size || (left == size + 1 && size > 1) ? left : size);
}

// Add the window's means to the row of the log, under TRL's names: rewards are beta times the
// log-ratio r. As there, a class without examples has no entries.
static void log_window(MetricsLog *log, const char *prefix, const Window *w) {
    const double steps = (double)w->steps, D = (double)w->n_chosen, U = (double)w->n_rejected;
    const double chosen = (double)w->chosen_tokens, rejected = (double)w->rejected_tokens;
    const struct {
        const char *name;
        double value;
        bool shown;
    } metrics[] = {
        {"loss", w->loss / steps, true},
        {"kl", w->kl / steps, true},
        {"rewards/chosen", w->chosen / D, D > 0},
        {"rewards/rejected", w->rejected / U, U > 0},
        {"rewards/margins", w->chosen / D - w->rejected / U, D > 0 && U > 0},
        {"logps/chosen", w->logps_chosen / D, D > 0},
        {"logps/rejected", w->logps_rejected / U, U > 0},
        {"logits/chosen", w->logits_chosen / chosen, D > 0},
        {"logits/rejected", w->logits_rejected / rejected, U > 0},
        {"entropy", w->entropy / (chosen + rejected), true},
    };
    for (int i = 0; i < COUNT(metrics); i++) {
        char key[64];
        snprintf(key, sizeof key, "%s%s", prefix, metrics[i].name);
        if (metrics[i].shown) log_number(log, key, metrics[i].value);
    }
}

// "+0.123 / -0.456": mean rewards of the two classes; "-" for one without examples.
static const char *rewards_format(char s[64], const Window *w) {
    char chosen[24] = "-", rejected[24] = "-";
    if (w->n_chosen) snprintf(chosen, 24, "%+.3f", w->chosen / (double)w->n_chosen);
    if (w->n_rejected) snprintf(rejected, 24, "%+.3f", w->rejected / (double)w->n_rejected);
    snprintf(s, 64, "%s / %s", chosen, rejected);
    return s;
}

// The loss and all metrics over a whole data set in the effective batches that training has (`size`
// examples, in the order of the file), each with its own z, so that eval_loss and loss can be
// compared. B rows at a time. Prints the main ones and adds a row to the log.
static void evaluate(Work *w, GPT2 *model, GPT2 *ref, const LabelSet *data, const float *ref_logps,
                     int64_t size, int B, const Kto *kto, MetricsLog *log, int64_t step,
                     double epoch) {
    Window window = {.steps = 1};
    int *rows = mem_alloc((size_t)data->n, sizeof *rows);
    for (int i = 0; i < data->n; i++) rows[i] = i;
    for (int at = 0, total; at < data->n; at += total) {
        total = update_rows(data->n, at, size);
        const double kl =
            kto->type == KTO_KTO ? batch_kl(w, model, ref, data, rows + at, total, B) : 0;
        window.kl += kl * total / data->n;
        for (int i = 0; i < total; i += B)
            rows_loss(w, model, data, ref_logps, rows + at + i, total - i < B ? total - i : B,
                      data->n, kl, kto, &window);
        progress_show("evaluation: %d of %d examples", at + total, data->n);
    }
    free(rows);
    log_number(log, "step", (double)step);
    log_number(log, "epoch", epoch);
    log_window(log, "eval_", &window);
    log_write(log);
    progress_clear();
    char rewards[64];
    printf("step %5" PRId64 "  eval_loss %.4f  eval_kl %.3f  eval_rewards chosen / rejected %s\n",
           step, window.loss, window.kl, rewards_format(rewards, &window));
}

// Count the classes; dies if one is missing. Warn if what they weigh together is far from equal:
// the paper advises desirable_weight n_D / (undesirable_weight n_U) in [1, 4/3].
static void labels_check(const LabelSet *data, const char *path, const Kto *kto) {
    const int D = data->good, U = data->n - D;
    if (D == 0 || U == 0) // of a split; labels_load has looked at the file
        die(EXIT_BAD_INPUT, "%s: all %d labels of the examples for training are %s: KTO needs both",
            path, data->n, D ? "true" : "false");
    const double ratio = kto->desirable_weight * D / (kto->undesirable_weight * U);
    if (ratio < 1 - 1e-9 || ratio > 4.0 / 3 + 1e-9)
        warn("%s: %d desirable examples of weight %g and %d undesirable ones of weight %g: their "
             "ratio %.3g is outside [1, 4/3], which the KTO paper recommends; a --desirable_weight "
             "from %.3g to %.3g or an --undesirable_weight from %.3g to %.3g would be inside",
             path, D, kto->desirable_weight, U, kto->undesirable_weight, ratio,
             kto->undesirable_weight * U / D, kto->undesirable_weight * U / D * 4 / 3,
             kto->desirable_weight * D / U * 3 / 4, kto->desirable_weight * D / U);
}

int main(int argc, char **argv) {
    // ---- flags ---------------------------------------------------------------------------------
    // Names and defaults are those of TRL's KTOConfig and transformers' TrainingArguments.
    struct {
        const char *model, *ref_model, *tokenizer, *dataset, *eval_dataset, *output_dir;
        const char *resume_from_checkpoint, *lr_scheduler_type, *truncation_mode, *chat_format;
        const char *loss_type, *ref_cache_dir;
        double beta, desirable_weight, undesirable_weight;
        double eval_split, learning_rate, weight_decay, max_grad_norm, num_train_epochs;
        double adam_beta1, adam_beta2, adam_epsilon;
        int max_length, per_device_train_batch_size, per_device_eval_batch_size;
        int gradient_accumulation_steps, warmup_steps, logging_steps, eval_steps, save_steps;
        int save_total_limit, samples, max_new_tokens, eval_prompts;
        int64_t max_steps, seed;
        bool shuffle_dataset, no_decay_embeddings, bf16, gradient_checkpointing,
            overwrite_output_dir;
        bool gold;
    } args = {
        .output_dir = "out/kto",
        .lr_scheduler_type = "linear",
        .truncation_mode = "prompt_first",
        .chat_format = "hh",
        .loss_type = "kto",
        .beta = 0.1,
        .desirable_weight = 1,
        .undesirable_weight = 1,
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
        FLAG_TEXT(args, ref_model, "the frozen reference, if not --model"),
        FLAG_TEXT(args, tokenizer, "directory with vocab.json and merges.txt, if not --model's"),
        FLAG_SWITCH(args, gradient_checkpointing, "less memory, a quarter more time"),
        FLAG_HEADING("data"),
        FLAG_TEXT(args, dataset,
                  "JSONL with prompt + completion + label, or pairs to take apart: prompt + chosen "
                  "+ rejected"),
        FLAG_TEXT(args, eval_dataset, "the same for evaluation"),
        FLAG(args, eval_split, 0, 0.9, "without --eval_dataset: share of examples kept for it"),
        FLAG_CHOICE(args, chat_format, "hh|simple", "how messages become text"),
        FLAG(args, max_length, 2, 1 << 20, "tokens of prompt and completion"),
        FLAG_CHOICE(args, truncation_mode, "prompt_first|keep_start",
                    "cut the prompt from the left, or the end of the row (TRL)"),
        FLAG_SWITCH(args, shuffle_dataset, "new order of examples in each epoch"),
        FLAG_HEADING("training"),
        FLAG_CHOICE(args, loss_type, "kto|apo_zero_unpaired", "the latter has no KL term: z is 0"),
        FLAG(args, beta, 1e-9, 1e9, "strength of the pull to the reference (> 0)"),
        FLAG(args, desirable_weight, 1e-9, 1e9,
             "weight of desirable examples; weighted numbers of the two classes should be 1 to 4/3 "
             "(the paper's later version: 3/2) to 1"),
        FLAG(args, undesirable_weight, 1e-9, 1e9, "weight of undesirable examples"),
        FLAG(args, num_train_epochs, 1e-6, 1e6, "passes over the data"),
        FLAG(args, max_steps, -1, 1e12, "updates to make instead (-1: see epochs)"),
        FLAG(args, per_device_train_batch_size, 1, 1 << 16, "examples in one forward pass"),
        FLAG(args, gradient_accumulation_steps, 1, 1 << 16,
             "forward passes in one update, which needs 2 examples"),
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
        FLAG(args, seed, 0, 9e15, "of the order of examples, split and samples"),
        FLAG_HEADING("output"),
        FLAG_TEXT(args, output_dir, "gets final/, checkpoint-N/, metrics.jsonl, run.json"),
        FLAG_SWITCH(args, overwrite_output_dir, "delete what an earlier run left there"),
        FLAG_TEXT(args, resume_from_checkpoint, "a checkpoint-N directory, or latest"),
        FLAG_TEXT(args, ref_cache_dir,
                  "keeps reference log-probs of the last 16 data sets or models for later runs "
                  "(none: ref_logps beside output_dir)"),
        FLAG(args, logging_steps, 1, 1e9, "updates between lines of the log"),
        FLAG(args, eval_steps, 0, 1e9, "updates between evaluations (0: at begin and end only)"),
        FLAG(args, per_device_eval_batch_size, 1, 1 << 16, "examples in one forward pass there"),
        FLAG(args, save_steps, 0, 1e9, "updates between checkpoints (0: none)"),
        FLAG(args, save_total_limit, 0, 1e9, "checkpoints to keep (0: all)"),
        FLAG(args, samples, 0, 100, "texts to show before and after"),
        FLAG(args, max_new_tokens, 1, 1 << 20, "length of those texts"),
        FLAG(args, eval_prompts, 0, 1e6, "texts to measure the KL to the reference on"),
        FLAG_SWITCH(args, gold, "give those the gold score of film reviews (data/gold.h)"),
    };
    flags_parse(argc, argv, flags, COUNT(flags), "Kahneman-Tversky optimisation of GPT-2", preset);
    const bool resume = args.resume_from_checkpoint && *args.resume_from_checkpoint;
    const Kto kto = {strcmp(args.loss_type, "kto") ? KTO_APO_ZERO_UNPAIRED : KTO_KTO, args.beta,
                     args.desirable_weight, args.undesirable_weight};
    const int B = args.per_device_train_batch_size, eval_B = args.per_device_eval_batch_size;
    const int64_t rows_per_step = (int64_t)B * args.gradient_accumulation_steps;
    if (!args.dataset) die(EXIT_USAGE, "--dataset is needed; see --help");
    if (!args.model) die(EXIT_USAGE, "--model is needed; see --help");
    if (!args.output_dir) die(EXIT_USAGE, "--output_dir is empty; see --help");
    if (args.gold && !args.eval_prompts) die(EXIT_USAGE, "--gold needs --eval_prompts");
    if (kto.type == KTO_KTO && rows_per_step < 2)
        die(EXIT_USAGE,
            "--per_device_train_batch_size 1: an update of KTO needs at least 2 examples, since "
            "its KL term pairs prompts with other completions; raise it or "
            "--gradient_accumulation_steps");

    // ---- model and reference -------------------------------------------------------------------
    Output output;
    output_open(&output, args.output_dir, args.resume_from_checkpoint, args.overwrite_output_dir,
                argc == 1);
    output.save_total_limit = args.save_total_limit;
    products_begin(args.bf16);
    const char *model_dir = resume ? output.resume_dir : args.model;
    const char *ref_dir = args.ref_model ? args.ref_model : args.model;
    Tokenizer tokenizer;
    tokenizer_load(&tokenizer, args.tokenizer ? args.tokenizer : args.model);
    GPT2 model, ref; // the reference has no gradients: it is forward only
    model_load(&model, model_dir);
    model_load(&ref, ref_dir);
    tokenizer_check(&tokenizer, model.config.vocab_size,
                    args.tokenizer ? args.tokenizer : args.model);
    if (ref.config.vocab_size != model.config.vocab_size)
        die(EXIT_BAD_INPUT, "%s: the reference's vocabulary has %d tokens, the model's %d", ref_dir,
            ref.config.vocab_size, model.config.vocab_size);
    gpt2_train_begin(&model, args.gradient_checkpointing);
    printf("GPT-2 with %.2fM parameters: %d layers, %d channels, %d heads, vocabulary %d\n",
           (double)gpt2_count_params(&model) * 1e-6, model.config.n_layer, model.config.n_embd,
           model.config.n_head, model.config.vocab_size);

    // ---- data ----------------------------------------------------------------------------------
    int positions = model.config.n_positions;
    if (ref.config.n_positions < positions) positions = ref.config.n_positions;
    const DataOptions options = {
        .max_length = args.max_length < positions ? args.max_length : positions,
        .keep_start = !strcmp(args.truncation_mode, "keep_start"),
        .chat_format = !strcmp(args.chat_format, "hh") ? CHAT_HH : CHAT_SIMPLE,
    };
    LabelSet train, eval = {0};
    Text report = {0};
    labels_load(&train, &tokenizer, args.dataset, &options);
    labels_report(&report, &train, args.dataset);
    if (args.eval_dataset) {
        labels_load(&eval, &tokenizer, args.eval_dataset, &options);
        text_print(&report, "\n");
        labels_report(&report, &eval, args.eval_dataset);
    } else if (args.eval_split > 0) {
        LabelSet both = train;
        labels_split(&train, &eval, &both, args.eval_split, (uint64_t)args.seed);
        text_print(&report, "; %d examples kept for evaluation", eval.n);
        labels_free(&both);
    }
    printf("%s\n", report.data);
    text_free(&report);
    labels_check(&train, args.dataset, &kto);
    if (kto.type == KTO_KTO && eval.n == 1)
        die(EXIT_BAD_INPUT, "%s: 1 example for evaluation: KTO's KL term needs at least 2",
            args.eval_dataset ? args.eval_dataset : args.dataset);

    const int64_t steps_per_epoch = epoch_updates(train.n, rows_per_step);
    const int64_t batches_per_epoch = (train.n + B - 1) / B;
    int64_t total = (int64_t)ceil(args.num_train_epochs * (double)steps_per_epoch);
    if (args.max_steps > 0) total = args.max_steps;

    // ---- what a checkpoint remembers -----------------------------------------------------------
    // The order of examples is a function of seed and epoch, so the step is all there is to know of
    // the place in the data. MATCH_ values must be the same in the run that resumes.
    int64_t step = 0, tokens_seen = 0, batch_rows = rows_per_step, shuffle = args.shuffle_dataset;
    uint64_t data_hash = labels_hash(&train);
    uint64_t training_hash = flags_hash(flags, COUNT(flags), "training");
    uint64_t ref_hash = model_hash(&ref);
    Window window = {0};
    const StateField state[] = {
        STATE_I64("step", &step),
        STATE_I64("num_tokens", &tokens_seen),
        STATE_F64("window.loss", &window.loss),
        STATE_F64("window.kl", &window.kl),
        STATE_F64("window.chosen", &window.chosen),
        STATE_F64("window.rejected", &window.rejected),
        STATE_F64("window.logps_chosen", &window.logps_chosen),
        STATE_F64("window.logps_rejected", &window.logps_rejected),
        STATE_F64("window.logits_chosen", &window.logits_chosen),
        STATE_F64("window.logits_rejected", &window.logits_rejected),
        STATE_F64("window.entropy", &window.entropy),
        STATE_I64("window.steps", &window.steps),
        STATE_I64("window.n_chosen", &window.n_chosen),
        STATE_I64("window.n_rejected", &window.n_rejected),
        STATE_I64("window.chosen_tokens", &window.chosen_tokens),
        STATE_I64("window.rejected_tokens", &window.rejected_tokens),
        MATCH_I64("seed", &args.seed, "--seed"),
        MATCH_I64("total_steps", &total, "--max_steps and --num_train_epochs"),
        MATCH_I64("rows_per_step", &batch_rows,
                  "--per_device_train_batch_size and --gradient_accumulation_steps"),
        MATCH_I64("shuffle_dataset", &shuffle, "--shuffle_dataset"),
        MATCH_U64("data_hash", &data_hash, "--dataset, --max_length and what else makes the rows"),
        MATCH_U64("reference", &ref_hash, "--model and --ref_model"),
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

    // ---- reference log-probs -------------------------------------------------------------------
    char *ref_cache =
        args.ref_cache_dir ? text_copy(args.ref_cache_dir) : path_join(output.parent, "ref_logps");
    float *ref_logps = reference_logps(&ref, ref_hash, &train, false, args.dataset, ref_cache);
    float *eval_ref_logps =
        reference_logps(&ref, ref_hash, &eval, false,
                        args.eval_dataset ? args.eval_dataset : "evaluation", ref_cache);
    free(ref_cache);

    // ---- before training -----------------------------------------------------------------------
    Work work;
    work_alloc(&work, B > eval_B ? B : eval_B, options.max_length,
               train.n > eval.n ? train.n : eval.n);
    const LabelSet *shown = eval.n ? &eval : &train; // examples whose prompts the samples complete
    Batch prompts = {0};
    for (int i = 0; i < shown->n; i++)
        prompts_add(&prompts, shown->tokens + shown->start[2 * (size_t)i],
                    shown->start[2 * (size_t)i + 1] - shown->start[2 * (size_t)i]);
    if (eval.n && !resume && !stop_signal)
        evaluate(&work, &model, &ref, &eval, eval_ref_logps, rows_per_step, eval_B, &kto, &log, 0,
                 0);
    const SampleOptions sampling = {.max_new_tokens = args.max_new_tokens,
                                    .temperature = 1,
                                    .top_p = 1,
                                    .eos_id = tokenizer.eos_id,
                                    .vocab_size = tokenizer.vocab_size,
                                    .seed = (uint64_t)args.seed};
    Texts before = {0}, after;
    if (!stop_signal)
        texts_measure(&before, &ref, &ref, &tokenizer, &prompts, args.eval_prompts, eval_B,
                      args.gold, &sampling);
    if (!resume && !stop_signal) {
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
        // the examples of this update
        const int64_t epoch = step / steps_per_epoch, at = step % steps_per_epoch * rows_per_step;
        if (epoch != epoch_of_order) {
            rng_permutation(order, train.n, (uint64_t)args.seed, (uint64_t)epoch);
            for (int i = 0; i < train.n && !args.shuffle_dataset; i++) order[i] = i;
            epoch_of_order = epoch;
        }
        const int *rows = order + at;
        const int n_rows = update_rows(train.n, at, rows_per_step);

        // the reference point, from all of them, forward only
        double kl = 0;
        if (kto.type == KTO_KTO) kl = batch_kl(&work, &model, &ref, &train, rows, n_rows, B);

        // forward and backward, B rows at a time; gradients accumulate
        double loss = 0;
        for (int i = 0; i < n_rows; i += B) {
            const Batch *batch = &work.batch;
            loss += rows_loss(&work, &model, &train, ref_logps, rows + i,
                              n_rows - i < B ? n_rows - i : B, n_rows, kl, &kto, &window);
            row_sum_backward(work.dlogp, work.dsum, batch->mask, batch->row_start, batch->R);
            lm_head_backward(&model, work.dlogp);
            gpt2_backward(&model);
            tokens_seen += batch->N;
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
        window.kl += kl, window.steps++;

        // log
        const bool last = step == total;
        const double epochs =
            epochs_done(step, steps_per_epoch, batches_per_epoch, args.gradient_accumulation_steps);
        if (step % args.logging_steps == 0 || last) {
            const double seconds = seconds_now() - began;
            char left[32], rewards[64];
            time_format(left, seconds / (double)(step - first_step) * (double)(total - step));
            log_number(&log, "step", (double)step);
            log_number(&log, "epoch", epochs);
            log_window(&log, "", &window);
            log_number(&log, "grad_norm", norm);
            log_number(&log, "learning_rate", lr);
            log_number(&log, "num_tokens", (double)tokens_seen);
            log_write(&log);
            progress_clear();
            printf("step %5" PRId64 "/%" PRId64 "  loss %7.4f  kl %6.3f  rewards %s  norm %6.3f  "
                   "lr %.2e  %5.1f examples/s  left %s\n",
                   step, total, window.loss / (double)window.steps,
                   window.kl / (double)window.steps, rewards_format(rewards, &window), norm, lr,
                   (double)(step - first_step) * (double)rows_per_step / seconds, left);
            window = (Window){0};
        }
        if (eval.n && ((args.eval_steps && step % args.eval_steps == 0) || last))
            evaluate(&work, &model, &ref, &eval, eval_ref_logps, rows_per_step, eval_B, &kto, &log,
                     step, epochs);
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
        texts_measure(&after, &model, &ref, &tokenizer, &prompts, args.eval_prompts, eval_B,
                      args.gold, &sampling);
        texts_log(&after, &log, step,
                  epochs_done(step, steps_per_epoch, batches_per_epoch,
                              args.gradient_accumulation_steps));
        texts_report(&before, &after, "reference");
        texts_free(&after);
        char spent[32];
        printf("%s, peak memory %.0f MB\n", time_format(spent, seconds_now() - began),
               memory_peak_mb());
        printf("model: %s/final   metrics: %s/metrics.jsonl\n", args.output_dir, args.output_dir);
        output_finish(&output, &model, &tokenizer);
    }
    log_close(&log);

    gpt2_free(&model), gpt2_free(&ref), tokenizer_free(&tokenizer);
    labels_free(&train), labels_free(&eval), work_free(&work), batch_free(&prompts);
    free(ref_logps), free(eval_ref_logps), texts_free(&before), free(order);
    flags_free(flags, COUNT(flags));
    return stopped ? 128 + stopped : 0;
}
