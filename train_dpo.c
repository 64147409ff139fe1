// train_dpo.c: direct preference optimisation (DPO) of GPT-2, also IPO and other kin. Build it:
//
// cc -O3 -march=native -fno-math-errno -fopenmp train_dpo.c -o train_dpo -lopenblas -lcjson -lm
//
// Learns from pairs of completions of the same prompt, of which people chose one and rejected the
// other. With log-ratios r = log pi(y | x) - log ref(y | x) to a frozen reference, the loss is
//
//     mean over pairs of -log sigmoid(beta (r_chosen - r_rejected))
//
// (Rafailov et al. 2023, eq. 7; losses.h has the others). Its minimum is the policy at which RLHF
// would end: the reference times exp(reward / beta), for the reward that explains the choices. But
// no reward model is trained, and nothing is sampled. main() below is the algorithm from top to
// bottom:
//
//     flags -> policy and reference -> pairs -> reference log-probs -> for each step { batch,
//     forward, loss, backward, clip, AdamW, log } -> save
//
// Without arguments it trains the model in data/sft on preferences between film reviews.
#include "lib/base/common.h"
#include "lib/base/flags.h"
#include "losses.h"
#include "lib/base/tokenizer.h"
#include "lib/data/dataset.h"
#include "lib/data/preferences.h"
#include "model.h"
#include "lib/files/checkpoint.h"
#include "lib/files/reference.h"
#include "lib/run/sample.h"
#include "lib/run/before_after.h"

// The run without arguments: a tiny model wants larger steps than GPT-2 does.
static const char preset[] =
    "--model data/sft --dataset data/prefs_train.jsonl --eval_dataset data/prefs_eval.jsonl "
    "--output_dir out/dpo --num_train_epochs 1 --per_device_train_batch_size 32 "
    "--per_device_eval_batch_size 64 --learning_rate 0.0005 --lr_scheduler_type cosine "
    "--warmup_steps 20 --adam_beta2 0.98 --logging_steps 20 --eval_steps 100 --save_steps 0 "
    "--eval_prompts 250 --gold";

// ------------------------------------------------------------------------------------------------
// Forward and backward: log pi(y | x) of pairs

// What one pass over up to B pairs works on. R rows are three a pair, the prompt and both
// completions as its children, or two, with the prompt in each.
typedef struct {
    Batch batch;
    float *logp, *dlogp;                  // (N) of tokens
    TokenStats *stats;                    // (N)
    float *sum, *dsum;                    // (R) of rows
    int *count;                           // (R) tokens of a row that count
    int *row;                             // (B) of the chosen completion; the rejected one is next
    float *chosen, *rejected;             // (B) log pi(y | x), the sum over y's tokens
    float *ref_chosen, *ref_rejected;     // (B) log ref(y | x)
    float *dchosen, *drejected;           // (B) gradients of the loss with respect to log pi
    int *chosen_length, *rejected_length; // (B) tokens that count
} Work;

// Room for B pairs of at most max_length tokens a side.
static void work_alloc(Work *w, int B, int max_length) {
    const size_t n = (size_t)B, N = 2 * n * (size_t)max_length, R = 3 * n;
    *w = (Work){0};
    w->logp = mem_floats(N), w->dlogp = mem_floats(N), w->stats = mem_alloc(N, sizeof *w->stats);
    w->sum = mem_floats(R), w->dsum = mem_floats(R);
    w->count = mem_alloc(R, sizeof(int)), w->row = mem_alloc(n, sizeof(int));
    w->chosen = mem_floats(n), w->rejected = mem_floats(n);
    w->ref_chosen = mem_floats(n), w->ref_rejected = mem_floats(n);
    w->dchosen = mem_floats(n), w->drejected = mem_floats(n);
    w->chosen_length = mem_alloc(n, sizeof(int)), w->rejected_length = mem_alloc(n, sizeof(int));
}

static void work_free(Work *w) {
    batch_free(&w->batch);
    free(w->logp), free(w->dlogp), free(w->stats), free(w->sum), free(w->dsum), free(w->count),
        free(w->row);
    free(w->chosen), free(w->rejected), free(w->ref_chosen), free(w->ref_rejected);
    free(w->dchosen), free(w->drejected), free(w->chosen_length), free(w->rejected_length);
}

// Fill the batch with the pairs of these indices (n).
static void work_batch(Work *w, const PairSet *data, const int *indices, int n, bool share_prompt) {
    pairs_batch(&w->batch, data, indices, n, share_prompt);
    for (int i = 0; i < n; i++) w->row[i] = share_prompt ? 3 * i + 1 : 2 * i;
}

// chosen, rejected (n) = log p(y | x) under this model, of the n pairs in the batch.
static void pairs_forward(Work *w, GPT2 *model, float *chosen, float *rejected, int n) {
    const Batch *b = &w->batch;
    gpt2_forward(model, b);
    lm_head_forward_stats(model, w->logp, w->stats);
    row_sum_forward(w->sum, w->count, w->logp, b->mask, b->row_start, b->R);
    for (int i = 0; i < n; i++) {
        const int r = w->row[i];
        chosen[i] = w->sum[r], rejected[i] = w->sum[r + 1];
        w->chosen_length[i] = w->count[r], w->rejected_length[i] = w->count[r + 1];
    }
}

// From dchosen, drejected (n) back through the model that saw the batch last. A sum hands its
// gradient to each of its terms. The head makes its logits a second time here: dlogp is known only
// when both sums of a pair are, and to keep the logits until then would take more memory than all
// activations.
static void pairs_backward(Work *w, GPT2 *model, int n) {
    const Batch *b = &w->batch;
    memset(w->dsum, 0, (size_t)b->R * sizeof(float)); // a prompt's own row has none
    for (int i = 0; i < n; i++) {
        w->dsum[w->row[i]] = w->dchosen[i];
        w->dsum[w->row[i] + 1] = w->drejected[i];
    }
    row_sum_backward(w->dlogp, w->dsum, b->mask, b->row_start, b->R);
    lm_head_backward(model, w->dlogp);
    gpt2_backward(model);
}

// Tokens of pair i's prompt.
static size_t pair_prompt_length(const PairSet *d, int i) {
    return d->start[3 * (size_t)i + 1] - d->start[3 * (size_t)i];
}

// Tokens of pair i's chosen completion. All are predicted: dataset.h leaves no prompt empty.
static int64_t pair_chosen_tokens(const PairSet *d, int i) {
    return (int64_t)(d->start[3 * (size_t)i + 2] - d->start[3 * (size_t)i + 1]);
}

// log ref(y | x) of the n pairs in the batch, into w: from the table logps (pairs of the data set,
// 2), or, where that is NULL, from the model.
static void pairs_reference(Work *w, GPT2 *reference, const float *logps, const int *indices,
                            int n) {
    if (!logps) pairs_forward(w, reference, w->ref_chosen, w->ref_rejected, n);
    for (int i = 0; logps && i < n; i++) {
        w->ref_chosen[i] = logps[2 * (size_t)indices[i]];
        w->ref_rejected[i] = logps[2 * (size_t)indices[i] + 1];
    }
}

// ------------------------------------------------------------------------------------------------
// What is measured

// Sums since the last line of the log, saved with a checkpoint so that a resumed run writes the
// same lines. A reward is beta (log pi - log ref), whatever the loss.
typedef struct {
    double loss, nll;                                // over steps; nll: of a chosen token
    double chosen, rejected, margin;                 // over pairs: rewards
    double logps_chosen, logps_rejected;             // over pairs: log pi(y | x)
    double logits_chosen, logits_rejected;           // over tokens: mean logit of the vocabulary
    double entropy;                                  // over the tokens of both completions
    int64_t steps, pairs, correct;                   // correct: the chosen reward is the greater
    int64_t chosen_tokens, rejected_tokens, guessed; // guessed: chosen tokens that are the arg max
} Window;

// Add a batch of n pairs. `loss` and `nll` are its parts of the step's.
static void window_add(Window *window, const Work *w, int n, const PairStats *p, double loss,
                       double nll) {
    window->loss += loss, window->nll += nll;
    window->chosen += p->chosen, window->rejected += p->rejected, window->margin += p->margin;
    window->correct += p->correct, window->pairs += n;
    for (int i = 0; i < n; i++) {
        const HeadStats chosen = row_stats(w->stats, &w->batch, w->row[i]);
        const HeadStats rejected = row_stats(w->stats, &w->batch, w->row[i] + 1);
        window->logps_chosen += w->chosen[i], window->logps_rejected += w->rejected[i];
        window->logits_chosen += chosen.logit, window->logits_rejected += rejected.logit;
        window->chosen_tokens += chosen.count, window->rejected_tokens += rejected.count;
        window->entropy += chosen.entropy + rejected.entropy;
        window->guessed += chosen.correct;
    }
}

// Add the window's means to the row of the log, under TRL's names; nll_loss only where it counts.
static void log_window(MetricsLog *log, const char *prefix, const Window *w, bool nll) {
    const double steps = (double)w->steps, pairs = (double)w->pairs;
    const double chosen = (double)w->chosen_tokens, rejected = (double)w->rejected_tokens;
    const struct {
        const char *name;
        double value;
    } metrics[] = {
        {"loss", w->loss / steps},
        {"rewards/chosen", w->chosen / pairs},
        {"rewards/rejected", w->rejected / pairs},
        {"rewards/margins", w->margin / pairs},
        {"rewards/accuracies", (double)w->correct / pairs},
        {"logps/chosen", w->logps_chosen / pairs},
        {"logps/rejected", w->logps_rejected / pairs},
        {"logits/chosen", w->logits_chosen / chosen},
        {"logits/rejected", w->logits_rejected / rejected},
        {"entropy", w->entropy / (chosen + rejected)},
        {"mean_token_accuracy", (double)w->guessed / chosen},
        {"nll_loss", w->nll / steps},
    };
    for (int i = 0; i < COUNT(metrics) - !nll; i++) {
        char key[64];
        snprintf(key, sizeof key, "%s%s", prefix, metrics[i].name);
        log_number(log, key, metrics[i].value);
    }
}

// What is to be minimised.
typedef struct {
    DpoLoss type;
    double beta, label_smoothing, sft_weight;
    bool share_prompt;
} Objective;

// Loss and metrics over all pairs of a data set, B at a time; the reference as in pairs_reference.
// Prints the main ones and adds a row to the log.
static void evaluate(Work *w, GPT2 *model, GPT2 *reference, const float *ref_logps,
                     const PairSet *data, const Objective *o, int B, MetricsLog *log, int64_t step,
                     double epoch) {
    Window window = {.steps = 1};
    int64_t M = 0;
    int *pairs = mem_alloc((size_t)B, sizeof *pairs);
    for (int i = 0; i < data->n; i++) M += pair_chosen_tokens(data, i);
    for (int first = 0; first < data->n; first += B) {
        const int n = data->n - first < B ? data->n - first : B;
        double nll = 0;
        for (int i = 0; i < n; i++) pairs[i] = first + i;
        work_batch(w, data, pairs, n, o->share_prompt);
        pairs_reference(w, reference, ref_logps, pairs, n);
        pairs_forward(w, model, w->chosen, w->rejected, n);
        const PairStats stats = dpo_loss(
            w->dchosen, w->drejected, w->chosen, w->rejected, w->ref_chosen, w->ref_rejected,
            w->chosen_length, w->rejected_length, n, data->n, o->type, o->beta, o->label_smoothing);
        for (int i = 0; i < n; i++) nll -= w->chosen[i] / (double)M;
        window_add(&window, w, n, &stats, stats.loss + o->sft_weight * nll, nll);
        progress_show("evaluation: %d of %d pairs", first + n, data->n);
    }
    free(pairs);
    log_number(log, "step", (double)step);
    log_number(log, "epoch", epoch);
    log_window(log, "eval_", &window, o->sft_weight > 0);
    log_write(log);
    progress_clear();
    printf("step %5" PRId64 "  eval_loss %.4f  eval_rewards/margins %.4f  "
           "eval_rewards/accuracies %.3f\n",
           step, window.loss, window.margin / (double)window.pairs,
           (double)window.correct / (double)window.pairs);
}

int main(int argc, char **argv) {
    // ---- flags ---------------------------------------------------------------------------------
    // Names and defaults are those of TRL's DPOConfig and transformers' TrainingArguments.
    struct {
        const char *model, *ref_model, *tokenizer, *dataset, *eval_dataset, *output_dir;
        const char *resume_from_checkpoint, *lr_scheduler_type, *truncation_mode, *chat_format;
        const char *loss_type, *ref_cache_dir;
        double beta, label_smoothing, sft_weight, ref_model_mixup_alpha;
        double eval_split, learning_rate, weight_decay, max_grad_norm, num_train_epochs;
        double adam_beta1, adam_beta2, adam_epsilon;
        int max_length, per_device_train_batch_size, per_device_eval_batch_size;
        int gradient_accumulation_steps, warmup_steps, logging_steps, eval_steps, save_steps;
        int ref_model_sync_steps, save_total_limit, samples, max_new_tokens, eval_prompts;
        int64_t max_steps, seed;
        bool sync_ref_model, share_prompt, shuffle_dataset, no_decay_embeddings;
        bool bf16, gradient_checkpointing, overwrite_output_dir, gold;
    } args = {
        .output_dir = "out/dpo",
        .lr_scheduler_type = "linear",
        .truncation_mode = "prompt_first",
        .chat_format = "hh",
        .loss_type = "sigmoid",
        .beta = 0.1,
        .ref_model_mixup_alpha = 0.6,
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
        .ref_model_sync_steps = 512,
        .samples = 4,
        .max_new_tokens = 60,
        .max_steps = -1,
        .seed = 42,
        .share_prompt = true,
        .shuffle_dataset = true,
    };
    Flag flags[] = {
        FLAG_HEADING("model"),
        FLAG_TEXT(args, model, "directory in Hugging Face format to start from"),
        FLAG_TEXT(args, ref_model, "directory of the reference (none: --model as it is there)"),
        FLAG_TEXT(args, tokenizer, "directory with vocab.json and merges.txt, if not --model's"),
        FLAG_SWITCH(args, gradient_checkpointing, "less memory, a quarter more time"),
        FLAG_HEADING("data"),
        FLAG_TEXT(args, dataset, "JSONL with chosen, rejected, and prompt unless it is in both"),
        FLAG_TEXT(args, eval_dataset, "the same for evaluation"),
        FLAG(args, eval_split, 0, 0.9, "without --eval_dataset: share of pairs kept for it"),
        FLAG_CHOICE(args, chat_format, "hh|simple", "how messages become text"),
        FLAG(args, max_length, 2, 1 << 20, "tokens that prompt and completion may have"),
        FLAG_CHOICE(args, truncation_mode, "prompt_first|keep_start",
                    "cut the prompt from the left, or the completion (TRL)"),
        FLAG_SWITCH(args, share_prompt, "run a pair's prompt once; false: once for each side"),
        FLAG_SWITCH(args, shuffle_dataset, "new order of pairs in each epoch"),
        FLAG_HEADING("preferences"),
        FLAG_CHOICE(args, loss_type, "sigmoid|ipo|ipo_sum|hinge|robust",
                    "DPO; IPO of log-probs per token (as TRL) or of their sums (the paper)"),
        FLAG(args, beta, 1e-6, 1e6, "strength of the pull to the reference; IPO's tau"),
        FLAG(args, label_smoothing, 0, 0.499999,
             "share of wrong labels: sigmoid becomes cDPO; robust"),
        FLAG(args, sft_weight, 0, 1e6, "weight of the NLL of the chosen tokens, as in RPO"),
        FLAG_SWITCH(args, sync_ref_model, "let the reference follow the policy (TR-DPO)"),
        FLAG(args, ref_model_mixup_alpha, 0, 1, "then ref = alpha policy + (1 - alpha) ref"),
        FLAG(args, ref_model_sync_steps, 1, 1e9, "every so many updates"),
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
        FLAG(args, seed, 0, 9e15, "of the order of pairs, split and samples"),
        FLAG_HEADING("output"),
        FLAG_TEXT(args, output_dir, "gets final/, checkpoint-N/, metrics.jsonl, run.json"),
        FLAG_SWITCH(args, overwrite_output_dir, "delete what an earlier run left there"),
        FLAG_TEXT(args, resume_from_checkpoint, "a checkpoint-N directory, or latest"),
        FLAG_TEXT(args, ref_cache_dir,
                  "keeps reference log-probs of the last 16 data sets or models for later runs "
                  "(none: ref_logps beside output_dir)"),
        FLAG(args, logging_steps, 1, 1e9, "updates between lines of the log"),
        FLAG(args, eval_steps, 0, 1e9, "updates between evaluations (0: at begin and end only)"),
        FLAG(args, per_device_eval_batch_size, 1, 1 << 16, "pairs in one forward pass there"),
        FLAG(args, save_steps, 0, 1e9, "updates between checkpoints (0: none)"),
        FLAG(args, save_total_limit, 0, 1e9, "checkpoints to keep (0: all)"),
        FLAG(args, samples, 0, 100, "texts to show before and after"),
        FLAG(args, eval_prompts, 0, 1e6, "texts to measure the KL to the reference on"),
        FLAG_SWITCH(args, gold, "give those the gold score of film reviews (data/gold.h)"),
        FLAG(args, max_new_tokens, 1, 1 << 20, "length of all these texts"),
    };
    flags_parse(argc, argv, flags, COUNT(flags), "direct preference optimisation of GPT-2", preset);
    const bool resume = args.resume_from_checkpoint && *args.resume_from_checkpoint;
    if (!args.model) die(EXIT_USAGE, "--model is needed; see --help");
    if (!args.dataset) die(EXIT_USAGE, "--dataset is needed; see --help");
    if (!args.output_dir) die(EXIT_USAGE, "--output_dir is empty; see --help");
    Objective objective = {DPO_SIGMOID, args.beta, args.label_smoothing, args.sft_weight,
                           args.share_prompt};
    if (!strcmp(args.loss_type, "ipo")) objective.type = DPO_IPO;
    if (!strcmp(args.loss_type, "ipo_sum")) objective.type = DPO_IPO_SUM;
    if (!strcmp(args.loss_type, "hinge")) objective.type = DPO_HINGE;
    if (!strcmp(args.loss_type, "robust")) objective.type = DPO_ROBUST;
    // What a loss does not use is refused rather than ignored. A default is no wish.
    if (args.label_smoothing > 0 && objective.type != DPO_SIGMOID && objective.type != DPO_ROBUST)
        die(EXIT_USAGE,
            "--label_smoothing is not used by --loss_type %s; sigmoid and robust use it",
            args.loss_type);
    if (!args.sync_ref_model && args.ref_model_mixup_alpha != 0.6)
        die(EXIT_USAGE, "--ref_model_mixup_alpha is not used without --sync_ref_model");
    if (!args.sync_ref_model && args.ref_model_sync_steps != 512)
        die(EXIT_USAGE, "--ref_model_sync_steps is not used without --sync_ref_model");
    if (args.sync_ref_model && args.ref_cache_dir)
        die(EXIT_USAGE, "--ref_cache_dir is not used with --sync_ref_model: the reference changes");
    if (args.gold && !args.eval_prompts) die(EXIT_USAGE, "--gold needs --eval_prompts");

    // ---- policy and reference ------------------------------------------------------------------
    Output output;
    output_open(&output, args.output_dir, args.resume_from_checkpoint, args.overwrite_output_dir,
                argc == 1);
    output.save_total_limit = args.save_total_limit;
    products_begin(args.bf16);
    const char *model_dir = resume ? output.resume_dir : args.model;
    const char *reference_dir = args.ref_model ? args.ref_model : args.model;
    Tokenizer tokenizer;
    tokenizer_load(&tokenizer, args.tokenizer ? args.tokenizer : args.model);
    GPT2 model, reference; // the reference gets no gradients: it is forward only
    model_load(&model, model_dir);
    model_load(&reference, reference_dir);
    const GPT2Config *config = &model.config, *ref_config = &reference.config;
    if (tokenizer.vocab_size > config->vocab_size)
        die(EXIT_BAD_INPUT, "the tokenizer has %d tokens, the model's vocabulary only %d",
            tokenizer.vocab_size, config->vocab_size);
    if (config->vocab_size != ref_config->vocab_size)
        die(EXIT_BAD_INPUT, "%s: the reference's vocabulary has %d tokens, the model's %d",
            reference_dir, ref_config->vocab_size, config->vocab_size);
    if (args.sync_ref_model &&
        (config->n_embd != ref_config->n_embd || config->n_head != ref_config->n_head ||
         config->n_layer != ref_config->n_layer || model.n_floats != reference.n_floats))
        die(EXIT_BAD_INPUT, "%s: --sync_ref_model needs a reference of the model's shape",
            reference_dir);
    uint64_t reference_hash = model_hash(&reference);
    printf("GPT-2 with %.2fM parameters: %d layers, %d channels, %d heads, vocabulary %d\n",
           (double)gpt2_count_params(&model) * 1e-6, config->n_layer, config->n_embd,
           config->n_head, config->vocab_size);

    // ---- pairs ---------------------------------------------------------------------------------
    const int context = config->n_positions < ref_config->n_positions ? config->n_positions
                                                                      : ref_config->n_positions;
    const DataOptions options = {
        .max_length = args.max_length < context ? args.max_length : context,
        .keep_start = !strcmp(args.truncation_mode, "keep_start"),
        .chat_format = !strcmp(args.chat_format, "hh") ? CHAT_HH : CHAT_SIMPLE,
    };
    PairSet train, eval = {0};
    Text report = {0};
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
    uint64_t objective_hash = flags_hash(flags, COUNT(flags), "preferences");
    Window window = {0};
    const StateField state[] = {
        STATE_I64("step", &step),
        STATE_I64("num_tokens", &tokens_seen),
        STATE_F64("window.loss", &window.loss),
        STATE_F64("window.nll", &window.nll),
        STATE_F64("window.chosen", &window.chosen),
        STATE_F64("window.rejected", &window.rejected),
        STATE_F64("window.margin", &window.margin),
        STATE_F64("window.logps_chosen", &window.logps_chosen),
        STATE_F64("window.logps_rejected", &window.logps_rejected),
        STATE_F64("window.logits_chosen", &window.logits_chosen),
        STATE_F64("window.logits_rejected", &window.logits_rejected),
        STATE_F64("window.entropy", &window.entropy),
        STATE_I64("window.steps", &window.steps),
        STATE_I64("window.pairs", &window.pairs),
        STATE_I64("window.correct", &window.correct),
        STATE_I64("window.chosen_tokens", &window.chosen_tokens),
        STATE_I64("window.rejected_tokens", &window.rejected_tokens),
        STATE_I64("window.guessed", &window.guessed),
        MATCH_I64("seed", &args.seed, "--seed"),
        MATCH_I64("total_steps", &total, "--max_steps and --num_train_epochs"),
        MATCH_I64("pairs_per_step", &batch_pairs,
                  "--per_device_train_batch_size and --gradient_accumulation_steps"),
        MATCH_I64("shuffle_dataset", &shuffle, "--shuffle_dataset"),
        MATCH_U64("data_hash", &data_hash, "--dataset, --max_length and what else makes the pairs"),
        MATCH_U64("reference_hash", &reference_hash, "--ref_model, or --model without it"),
        MATCH_F64("beta", &args.beta, "--beta"),
        MATCH_U64("preferences", &objective_hash,
                  "the flags under `preferences` in --help; run.json has their earlier values"),
        MATCH_F64("learning_rate", &args.learning_rate, "--learning_rate"),
        MATCH_U64("training", &training_hash,
                  "the flags under `training` in --help; run.json has their earlier values"),
    };
    if (args.sync_ref_model) output.reference = &reference; // it changes, so it is saved, too
    if (resume) {
        gpt2_train_begin(&model, args.gradient_checkpointing);
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
    float *ref_train = NULL, *ref_eval = NULL; // (n, 2) chosen, rejected; NULL: ask the model
    if (!args.sync_ref_model) {
        char *dir = args.ref_cache_dir ? text_copy(args.ref_cache_dir)
                                       : path_join(output.parent, "ref_logps");
        ref_train = reference_logps(&reference, reference_hash, &train, args.share_prompt,
                                    args.dataset, dir);
        ref_eval = reference_logps(&reference, reference_hash, &eval, args.share_prompt,
                                   args.eval_dataset ? args.eval_dataset : "evaluation", dir);
        free(dir);
        gpt2_free(&reference);
    }
    Work w;
    work_alloc(&w, B > eval_B ? B : eval_B, options.max_length);
    // Gradients and moments take memory only now, after the reference has left.
    if (!resume) gpt2_train_begin(&model, args.gradient_checkpointing);

    // ---- before training -----------------------------------------------------------------------
    const PairSet *shown = eval.n ? &eval : &train; // pairs whose prompts the samples complete
    Batch prompts = {0};
    for (int i = 0; i < shown->n; i++)
        prompts_add(&prompts, shown->tokens + shown->start[3 * (size_t)i],
                    pair_prompt_length(shown, i));
    const SampleOptions sampling = {.max_new_tokens = args.max_new_tokens,
                                    .temperature = 1,
                                    .top_p = 1,
                                    .eos_id = tokenizer.eos_id,
                                    .vocab_size = tokenizer.vocab_size,
                                    .seed = (uint64_t)args.seed};
    Texts before = {0}, after = {0};
    GPT2 start, other; // to compare with: read when needed, so that memory is left for training
    if (args.eval_prompts && !stop_signal) {
        model_load(&start, args.model);
        model_load(&other, reference_dir);
        texts_measure(&before, &start, &other, &tokenizer, &prompts, args.eval_prompts, eval_B,
                      args.gold, &sampling);
        gpt2_free(&start), gpt2_free(&other);
    }
    if (!resume && !stop_signal) {
        if (eval.n)
            evaluate(&w, &model, &reference, ref_eval, &eval, &objective, eval_B, &log, 0, 0);
        texts_log(&before, &log, 0, 0);
        texts_show(&model, &tokenizer, &prompts, args.samples, &sampling, "before training");
    }

    // ---- train ---------------------------------------------------------------------------------
    const AdamW adamw = {args.adam_beta1,   args.adam_beta2,           args.adam_epsilon,
                         args.weight_decay, !args.no_decay_embeddings, false};
    int *order = mem_alloc((size_t)train.n, sizeof *order);
    int64_t epoch_of_order = -1, saved_step = step, pairs_seen = 0;
    const int64_t first_step = step;
    const double began = seconds_now();
    while (step < total && !stop_signal) {
        // the pairs of this update, and the number of their chosen tokens
        const int64_t epoch = step / steps_per_epoch, at = step % steps_per_epoch * pairs_per_step;
        if (epoch != epoch_of_order) {
            rng_permutation(order, train.n, (uint64_t)args.seed, (uint64_t)epoch);
            for (int i = 0; i < train.n && !args.shuffle_dataset; i++) order[i] = i;
            epoch_of_order = epoch;
        }
        const int *pairs = order + at;
        const int n_pairs = (int)(train.n - at < pairs_per_step ? train.n - at : pairs_per_step);
        int64_t M = 0;
        for (int i = 0; i < n_pairs; i++) M += pair_chosen_tokens(&train, pairs[i]);

        // forward and backward, B pairs at a time; gradients accumulate. Loss and gradients are
        // divided by what the whole update has, so it does not matter how it is split.
        double loss = 0;
        for (int first = 0; first < n_pairs; first += B) {
            const int n = n_pairs - first < B ? n_pairs - first : B;
            work_batch(&w, &train, pairs + first, n, args.share_prompt);
            pairs_reference(&w, &reference, ref_train, pairs + first, n);
            pairs_forward(&w, &model, w.chosen, w.rejected, n);
            const PairStats stats =
                dpo_loss(w.dchosen, w.drejected, w.chosen, w.rejected, w.ref_chosen, w.ref_rejected,
                         w.chosen_length, w.rejected_length, n, n_pairs, objective.type, args.beta,
                         args.label_smoothing);
            // RPO's term: sft_weight times the mean of -log pi over the M chosen tokens
            double nll = 0;
            for (int i = 0; i < n; i++) {
                nll -= w.chosen[i] / (double)M;
                w.dchosen[i] -= (float)(args.sft_weight / (double)M);
            }
            pairs_backward(&w, &model, n);
            const double part = stats.loss + args.sft_weight * nll;
            window_add(&window, &w, n, &stats, part, nll);
            loss += part;
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
        step++, window.steps++, pairs_seen += n_pairs;

        // TR-DPO's soft update (Gorbatovski et al. 2024): the reference follows the policy
        if (args.sync_ref_model && step % args.ref_model_sync_steps == 0) {
            const float alpha = (float)args.ref_model_mixup_alpha;
#pragma omp parallel for simd
            for (size_t i = 0; i < model.n_floats; i++)
                reference.params[i] = alpha * model.params[i] + (1 - alpha) * reference.params[i];
        }

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
            log_window(&log, "", &window, args.sft_weight > 0);
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
        if (eval.n && ((args.eval_steps && step % args.eval_steps == 0) || last))
            evaluate(&w, &model, &reference, ref_eval, &eval, &objective, eval_B, &log, step,
                     epochs);
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
        char spent[32];
        time_format(spent, seconds_now() - began);
        const double peak = memory_peak_mb(); // before another model is read to measure texts
        texts_show(&model, &tokenizer, &prompts, args.samples, &sampling, "after training");
        if (args.eval_prompts) {
            model_load(&other, reference_dir);
            texts_measure(&after, &model, &other, &tokenizer, &prompts, args.eval_prompts, eval_B,
                          args.gold, &sampling);
            texts_log(&after, &log, step,
                      epochs_done(step, steps_per_epoch, batches_per_epoch,
                                  args.gradient_accumulation_steps));
            texts_report(&before, &after, "reference");
            gpt2_free(&other);
        }
        printf("%s, peak memory %.0f MB\n", spent, peak);
        printf("model: %s/final   metrics: %s/metrics.jsonl\n", args.output_dir, args.output_dir);
        output_finish(&output, &model, &tokenizer);
    }
    log_close(&log);

    gpt2_free(&model), tokenizer_free(&tokenizer), pairs_free(&train), pairs_free(&eval);
    if (args.sync_ref_model) gpt2_free(&reference);
    work_free(&w), batch_free(&prompts), free(ref_train), free(ref_eval), free(order);
    texts_free(&before), texts_free(&after), flags_free(flags, COUNT(flags));
    return stopped ? 128 + stopped : 0;
}
