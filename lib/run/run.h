// run.h: what surrounds an algorithm in a training program, as plain calls. Nothing in here knows a
// loss, and nothing calls back: `main` calls these in order, and the loop is in the program.
//
//     run_begin       flags from the command line, those that every run needs
//     run_open        the output directory, and how products are made
//     run_model       the model to train and its tokenizer;  run_reference: a frozen model
//     run_pieces      data: loaded, reported, split;  run_rows: the same of plain rows
//     run_schedule    updates and the order of examples
//     run_start       go on from a checkpoint; from here on the disk is written
//     run_before      texts and measures of the model as it is before training
//     while (run_next(&run)) {       the next update: run.examples, run.n, run.lr
//         run_update  clip and AdamW
//         run_log, run_log_eval, run_save
//     }
//     run_after, run_end             texts again; final/, or a checkpoint if asked to stop
//
// A run of several parts (SPIN's iterations) calls run_part for each instead of run_schedule, and knows
// its total; one that needs more files to go on reads them between run_restore and run_write, which
// together are run_start.
//
// From top to bottom: flags; begin; models; data; schedule and order; start; the loop; texts; end.
#ifndef RUN_H
#define RUN_H

#include <assert.h>

#include "../base/common.h"      // defines: die, Rng, MetricsLog, stop_signal
#include "../base/flags.h"       // defines: Flag, flags_parse
#include "../base/tokenizer.h"   // defines: Tokenizer
#include "../data/corpora.h"     // defines: Corpora, corpora_parse, corpora_order
#include "../data/dataset.h"     // defines: DataOptions, Dataset
#include "../data/preferences.h" // defines: PieceSet, pairs_load
#include "../data/prompts.h"     // defines: prompts_load
#include "../data/splits.h"      // defines: split_files
#include "../files/checkpoint.h" // defines: Output, checkpoint_save, StateField
#include "../files/reference.h"  // defines: reference_logps
#include "../../model.h"         // defines: GPT2, AdamW, products_begin
#include "before_after.h"        // defines: Texts, texts_show, texts_measure
#include "meter.h"               // defines: Meter
#include "trl_flags.h"           // defines: TRL_FLAGS_SFT and others, for the programs' tables

// ------------------------------------------------------------------------------------------------
// Flags that several programs have, with the names and defaults of TRL and transformers. A program
// lists the groups that it has in its table, and gives a value to the fields that RUN_DEFAULTS leaves
// out: output_dir, learning_rate, num_train_epochs, logging_steps, max_new_tokens.

typedef struct {
    const char *model, *ref_model, *tokenizer;
    bool gradient_checkpointing;
    const char *dataset, *eval_dataset, *dataset_train_split, *dataset_test_split;
    const char *chat_format, *truncation_mode;
    double eval_split;
    int max_length, max_prompt_length, max_completion_length;
    bool strict_data, share_prompt;
    const char *train_sampling_strategy;
    double num_train_epochs;
    int64_t max_steps;
    int per_device_train_batch_size, gradient_accumulation_steps;
    double learning_rate;
    const char *lr_scheduler_type;
    double warmup_steps; // below 1: a share of all, as that of logging_steps and others below
    double weight_decay, adam_beta1, adam_beta2, adam_epsilon, max_grad_norm;
    bool no_decay_embeddings, bf16;
    int64_t seed;
    const char *output_dir, *resume_from_checkpoint, *ref_cache_dir, *token_cache_dir;
    bool overwrite_output_dir, logging_first_step;
    const char *logging_strategy, *save_strategy, *eval_strategy;
    double logging_steps, save_steps, eval_steps;
    int save_total_limit, per_device_eval_batch_size;
    int samples, max_new_tokens, eval_prompts;
    double temperature, top_p; // of texts that the model writes
    bool gold;
} RunArgs;

// clang-format off
#define RUN_DEFAULTS                                                                               \
    .dataset_train_split = "train", .dataset_test_split = "test", .chat_format = "auto",           \
    .truncation_mode = "prompt_first", .max_length = 1024, .share_prompt = true,                   \
    .train_sampling_strategy = "random", .max_steps = -1, .per_device_train_batch_size = 8,        \
    .gradient_accumulation_steps = 1, .lr_scheduler_type = "linear", .adam_beta1 = 0.9,            \
    .adam_beta2 = 0.999, .adam_epsilon = 1e-8, .max_grad_norm = 1, .seed = 42,                     \
    .logging_strategy = "steps", .save_strategy = "steps", .save_steps = 500,                      \
    .per_device_eval_batch_size = 8, .samples = 4, .temperature = 1, .top_p = 1

// `r` is the RunArgs. `what` says what the directory of --model holds.
#define RUN_FLAGS_MODEL(r, what)                                                                   \
    FLAG_HEADING("model"),                                                                         \
    FLAG_TEXT(r, model, what),                                                                     \
    FLAG_TEXT(r, tokenizer, "directory with vocab.json and merges.txt, if not --model's"),         \
    FLAG_SWITCH(r, gradient_checkpointing, "less memory, a quarter more time")

#define RUN_FLAG_REFERENCE(r)                                                                      \
    FLAG_TEXT(r, ref_model, "directory of the frozen reference, if not --model")

// `columns` says what a record of --dataset has, `eval` what --eval_dataset is for.
#define RUN_FLAGS_DATA(r, columns, eval)                                                           \
    FLAG_HEADING("data"),                                                                          \
    FLAG_TEXT(r, dataset, columns "; several with commas, a.jsonl:0.7,b.jsonl:0.3 by weight"),     \
    FLAG_TEXT(r, eval_dataset, eval),                                                              \
    FLAG_SWITCH(r, strict_data, "a record that would be skipped is an error"),                     \
    FLAG_TEXT(r, dataset_train_split, "where --dataset is a folder: names of its files"),          \
    FLAG_TEXT(r, dataset_test_split, "the same for --eval_dataset"),                               \
    FLAG_CHOICE(r, chat_format, CHAT_CHOICES, CHAT_HELP)

// `unit`: "rows", "pairs", "examples". `cut` says what truncation_mode does.
#define RUN_FLAGS_ROWS(r, unit, cut)                                                               \
    FLAG(r, eval_split, 0, 0.9, "without --eval_dataset: share of " unit " kept for evaluation"),  \
    FLAG(r, max_length, 2, 1 << 20, "tokens of prompt and completion"),                            \
    FLAG_CHOICE(r, truncation_mode, "prompt_first|keep_start", cut)

// Where prompt and completion are apart.
#define RUN_FLAGS_PIECES(r)                                                                        \
    FLAG(r, max_prompt_length, 0, 1 << 20, "first, leave so many of a prompt's tokens (0: all)"),  \
    FLAG(r, max_completion_length, 0, 1 << 20, "and of a completion's (0: all)")

#define RUN_FLAG_SHARE(r)                                                                          \
    FLAG_SWITCH(r, share_prompt, "run a pair's prompt once; false: once for each side")

#define RUN_FLAG_ORDER(r, unit)                                                                    \
    FLAG_CHOICE(r, train_sampling_strategy, "random|sequential",                                   \
                "order of " unit ": a new one in each epoch, or that of the data")

// The first of the training group: it comes after FLAG_HEADING_KEPT("training").
#define RUN_FLAGS_EPOCHS(r, unit)                                                                  \
    FLAG(r, num_train_epochs, 1e-6, 1e6, "passes over the data"),                                  \
    FLAG(r, max_steps, -1, 1e12, "updates to make instead (-1: see epochs)"),                      \
    FLAG(r, per_device_train_batch_size, 1, 1 << 16, unit " in one forward pass"),                 \
    FLAG(r, gradient_accumulation_steps, 1, 1 << 16, "forward passes in one update"),              \
    RUN_FLAG_ORDER(r, unit)

#define RUN_SCHEDULES                                                                              \
    "linear|cosine|cosine_with_restarts|polynomial|inverse_sqrt|constant|constant_with_warmup"

#define RUN_FLAGS_OPTIMIZER(r)                                                                     \
    FLAG(r, learning_rate, 0, 10, "peak learning rate"),                                           \
    FLAG_CHOICE(r, lr_scheduler_type, RUN_SCHEDULES, "course of the rate"),                        \
    FLAG(r, warmup_steps, 0, 1e9, "updates until the peak (below 1: share of all)"),               \
    FLAG(r, weight_decay, 0, 10, "AdamW's decay of matrices and embeddings"),                      \
    FLAG_SWITCH(r, no_decay_embeddings, "leave the embeddings out of it"),                         \
    FLAG(r, adam_beta1, 0, 0.999999, "decay of the mean of gradients"),                            \
    FLAG(r, adam_beta2, 0, 0.999999999, "decay of the mean of their squares"),                     \
    FLAG(r, adam_epsilon, 1e-30, 1, "added to the root of that"),                                  \
    FLAG(r, max_grad_norm, 0, 1e9, "clip a model's gradient to this norm (0: never)"),             \
    FLAG_SWITCH(r, bf16, "products in bfloat16: less exact, faster where the CPU has them"),       \
    FLAG(r, seed, 0, 9e15, "of all that is drawn: order, split, samples, new weights")

// `gets` says what the run leaves in the directory.
#define RUN_FLAGS_OUTPUT(r, gets)                                                                  \
    FLAG_HEADING("output"),                                                                        \
    FLAG_TEXT(r, output_dir, gets),                                                                \
    FLAG_SWITCH(r, overwrite_output_dir, "replace what an earlier run left there"),                 \
    FLAG_TEXT(r, resume_from_checkpoint, "a checkpoint-N directory, or latest"),                   \
    FLAG_CHOICE(r, logging_strategy, "steps|epoch", "when to log: see logging_steps; each epoch"), \
    FLAG(r, logging_steps, 1e-9, 1e9, "updates between lines of the log (below 1: share of all)"), \
    FLAG_SWITCH(r, logging_first_step, "also log the first update"),                               \
    FLAG_CHOICE(r, save_strategy, "no|steps|epoch", "when to save checkpoints"),                   \
    FLAG(r, save_steps, 0, 1e9, "updates between them (0: none; below 1: share of all)"),          \
    FLAG(r, save_total_limit, 0, 1e9, "checkpoints to keep (0: all)")

#define RUN_FLAGS_EVAL(r, unit)                                                                    \
    FLAG_CHOICE(r, eval_strategy, "no|steps|epoch",                                                \
                "no: never; else at begin and end, and every eval_steps or epoch (none: steps)"),  \
    FLAG(r, eval_steps, 0, 1e9,                                                                    \
         "updates between evaluations (0: at begin and end only; below 1: share of all)"),         \
    FLAG(r, per_device_eval_batch_size, 1, 1 << 16, unit " in one forward pass there")

#define RUN_FLAG_CACHE(r)                                                                          \
    FLAG_TEXT(r, ref_cache_dir,                                                                    \
              "keeps reference log-probs of the last 16 data sets or models for later runs "       \
              "(none: ref_logps beside output_dir)")

#define RUN_FLAG_TOKENS(r)                                                                         \
    FLAG_TEXT(r, token_cache_dir,                                                                  \
              "keeps the tokens of the last 16 plain texts for later runs (none: of those from "   \
              "16 MB on, in token_cache beside output_dir; off: nowhere)")

#define RUN_FLAG_SAMPLES(r) FLAG(r, samples, 0, 100, "texts to show before and after")

// With texts of any program: those and the next.
#define RUN_FLAGS_TEXTS(r)                                                                         \
    RUN_FLAG_SAMPLES(r),                                                                           \
    FLAG(r, eval_prompts, 0, 1e6, "texts to measure the KL to the reference on")

#define RUN_FLAG_LENGTH(r) FLAG(r, max_new_tokens, 1, 1 << 20, "length of these texts")

#define RUN_FLAGS_MEASURE(r)                                                                       \
    FLAG(r, eval_prompts, 0, 1e6, "texts to measure the KL to the reference on"),                  \
    FLAG_SWITCH(r, gold, "give those the gold score of film reviews (data/gold.h)")
// clang-format on

// ------------------------------------------------------------------------------------------------
// The run

enum { TOKENS_LEAST = 16 << 20 }; // bytes of a text whose tokens are kept without being asked

enum { RUN_STATE_MOST = 2 * METER_MOST + 40 };

typedef struct {
    RunArgs *args;
    Flag *flags;
    int n_flags;
    const char *config;        // the file of --config, or NULL
    bool preset, resume;       // no arguments were given; a checkpoint is gone on with
    Output output;             // programs set its reference and critic before run_start
    const char *model_dir;     // where the weights come from: --model, or the checkpoint
    const char *config_path;   // the config.json of a model with new weights; NULL: model_dir's
    const char *reference_dir; // --ref_model, or --model
    const char *tokenizer_dir;
    Tokenizer tokenizer;
    MetricsLog log;
    AdamW adamw;
    // place. A run has one part, but in SPIN: each part begins order, schedule and AdamW anew.
    int64_t step, total; // this update, counted from 1, of all
    int64_t done, part;  // the same within the part
    int64_t iteration;   // which part, where a run has several; -1: it has one
    double epoch;        // passes over the part's data, this update included
    double lr, norm;     // of this update: learning rate, last gradient norm before clipping
    int64_t num_tokens;  // learnt from so far, as TRL counts: a prompt for each completion
    int64_t seen;        // examples since the start of the program
    // order of the examples
    Corpora corpora;               // where they come from
    int n_data, per_update, least; // examples in all, in an update, in an epoch's last update
    int64_t per_epoch, batches_per_epoch; // updates, forward passes
    int *order;                           // (n_data) of epoch order_epoch
    int64_t order_epoch;
    uint64_t order_stream; // added to the epoch when the order is drawn
    const int *examples;   // (n) of this update
    int n;
    // what a checkpoint remembers
    StateField state[RUN_STATE_MOST];
    int n_state;
    char *names[2 * METER_MOST]; // of the meter's values in there
    int n_names;
    uint64_t data_hash;
    int64_t first_step, first_tokens, saved_step;
    double began, spent, peak; // seconds, MB
    int stopped;               // the signal that ended the loop, or 0
    int full; // why standard output cannot be written, where the disk is full, or 0
    // texts before and after
    SampleOptions sampling;
    Batch prompts;
    Texts before;
    const char *measured_to; // what run_after calls the model to which the KL is measured
} Run;

// ------------------------------------------------------------------------------------------------
// Begin

// Give the flag another value, as if the command line had it; an empty text unsets it.
static void run_set(Run *r, const char *name, const char *value) {
    flag_set(flag_find(r->flags, r->n_flags, name), value, "");
}

// The files of a split of the folder become the value of the flag `data`; `by` names the split, and has
// then said all that it has to say. Dies with EXIT_BAD_INPUT if there are none.
static void run_set_split(Run *r, const char *data, const char *dir, const char *by,
                          const char *split, const char *usual) {
    char *files = split_files(dir, split);
    if (!files)
        die(EXIT_BAD_INPUT, "%s: no .jsonl, .json or .txt file in it for %s (--%s)", dir, split,
            by);
    run_set(r, data, files);
    run_set(r, by, usual);
    free(files);
}

// Where --dataset is a folder, the files of its two splits become --dataset and --eval_dataset; the latter
// if the user wants an evaluation, or names the split.
static void run_find_data(Run *r) {
    RunArgs *a = r->args;
    const char *train = a->dataset_train_split, *test = a->dataset_test_split;
    const bool never = a->eval_strategy && !strcmp(a->eval_strategy, "no");
    const bool named = flag_given(r->flags, r->n_flags, "dataset_test_split");
    char *dir = path_is_dir(a->dataset) ? text_copy(a->dataset) : NULL;
    char *eval = a->eval_dataset                      ? text_copy(a->eval_dataset)
                 : dir && (a->eval_strategy || named) ? text_copy(dir)
                                                      : NULL;
    if (!dir && strcmp(train, "train"))
        die(EXIT_USAGE, "--dataset_train_split %s: --dataset is not a folder", train);
    if (!never && (!eval || !path_is_dir(eval)) && strcmp(test, "test"))
        die(EXIT_USAGE, "--dataset_test_split %s: --dataset is not a folder", test);
    if (dir) run_set_split(r, "dataset", dir, "dataset_train_split", train, "train");
    if (!never && eval && path_is_dir(eval))
        run_set_split(r, "eval_dataset", eval, "dataset_test_split", test, "test");
    free(dir), free(eval);
}

// What some flags say about others, as in transformers.
static void run_agree(Run *r) {
    RunArgs *a = r->args;
    const struct {
        const char *name;
        double steps;
    } counts[] = {{"warmup_steps", a->warmup_steps},
                  {"logging_steps", a->logging_steps},
                  {"save_steps", a->save_steps},
                  {"eval_steps", a->eval_steps}};
    for (int i = 0; i < COUNT(counts); i++)
        if (counts[i].steps >= 1 && counts[i].steps != floor(counts[i].steps))
            die(EXIT_USAGE, "--%s %.15g: not a whole number, nor a share below 1", counts[i].name,
                counts[i].steps);
    if (!strcmp(a->save_strategy, "no")) a->save_steps = 0;
    if (a->eval_strategy && !strcmp(a->eval_strategy, "no")) {
        run_set(r, "eval_dataset", "");
        a->eval_split = 0;
    }
    if (a->eval_strategy && !strcmp(a->eval_strategy, "steps") &&
        !flag_given(r->flags, r->n_flags, "eval_steps"))
        a->eval_steps = a->logging_steps;
    const Flag *epochs = flag_find(r->flags, r->n_flags, "num_train_epochs");
    if (epochs && flag_has_value(epochs)) return;
    if (!strcmp(a->save_strategy, "epoch") || !strcmp(a->logging_strategy, "epoch"))
        die(EXIT_USAGE, "--%s_strategy epoch: this program counts its updates alone",
            strcmp(a->save_strategy, "epoch") ? "logging" : "save");
}

// What has a name of TRL's may be on the hub; here it must be on the disk.
static void run_check_local(Run *r, const char *name, const char *value) {
    const Flag *flag = flag_find(r->flags, r->n_flags, name);
    if (!value || !flag->by || !strcmp(flag->by, name) || strpbrk(value, ":,*?[")) return;
    if (access(value, F_OK))
        die(EXIT_BAD_INPUT,
            "%s: no such file or directory; nothing is downloaded, --%s takes a path", value,
            flag->by);
}

// The corpora of --dataset, before any is loaded. Those of --eval_dataset have no weights: each of its rows
// counts.
static void run_find_corpora(Run *r) {
    const char *eval = r->args->eval_dataset;
    r->corpora = corpora_parse(r->args->dataset, "dataset");
    if (!eval) return;
    Corpora measured = corpora_parse(eval, "eval_dataset");
    if (measured.weighted)
        die(EXIT_USAGE, "--eval_dataset %s: weights are for training; here all rows count", eval);
    corpora_free(&measured);
}

// Take the flags of the command line into the program's table; a mistake dies with EXIT_USAGE.
static void run_begin(Run *r, RunArgs *args, int argc, char **argv, Flag *flags, int n_flags,
                      const char *about, const char *preset) {
    *r = (Run){.args = args,
               .flags = flags,
               .n_flags = n_flags,
               .iteration = -1,
               .least = 1,
               .measured_to = "reference"};
    r->config = flags_parse(argc, argv, flags, n_flags, about, preset);
    r->preset = argc == 1;
    r->resume = args->resume_from_checkpoint && *args->resume_from_checkpoint;
    if (!args->dataset) die(EXIT_USAGE, "--dataset is needed; see --help");
    if (!args->output_dir) die(EXIT_USAGE, "--output_dir is empty; see --help");
    if (args->gold && !args->eval_prompts) die(EXIT_USAGE, "--gold needs --eval_prompts");
    run_check_local(r, "model", args->model);
    run_check_local(r, "dataset", args->dataset);
    run_agree(r);
    run_find_data(r);
    run_find_corpora(r);
}

// True before the first update of a run that is neither gone on with nor asked to stop.
static bool run_fresh(const Run *r) { return !r->resume && !stop_signal; }

// Check the output directory (nothing is written yet) and choose how products are made. Dies with
// EXIT_USAGE if the directory cannot be used.
static void run_open(Run *r) {
    RunArgs *a = r->args;
    output_open(&r->output, a->output_dir, a->resume_from_checkpoint, a->overwrite_output_dir,
                r->preset);
    r->output.save_total_limit = a->save_total_limit;
    r->output.flags = r->flags;
    r->output.n_flags = r->n_flags;
    output_guard(&r->output, r->config);
    r->model_dir = r->resume ? r->output.resume_dir : a->model;
    r->reference_dir = a->ref_model ? a->ref_model : a->model;
    r->tokenizer_dir = a->tokenizer ? a->tokenizer : a->model;
    r->adamw = (AdamW){.beta1 = a->adam_beta1,
                       .beta2 = a->adam_beta2,
                       .epsilon = a->adam_epsilon,
                       .weight_decay = a->weight_decay,
                       .decay_embeddings = !a->no_decay_embeddings};
    products_begin(a->bf16);
    products_reserve();
}

// Say what the model is like.
static void run_describe(const GPT2 *model) {
    const GPT2Config *c = &model->config;
    printf("GPT-2 with %.2fM parameters: %d layers, %d channels, %d heads, vocabulary %d\n",
           (double)gpt2_count_params(model) * 1e-6, c->n_layer, c->n_embd, c->n_head,
           c->vocab_size);
}

// Model and tokenizer must belong together: the ids of one are known to the other, and what is learnt
// as the end of a text is where transformers' generate() will end one.
static void run_settle(Run *r, GPT2 *model) {
    tokenizer_check(&r->tokenizer, model->config.vocab_size, r->tokenizer_dir);
    if (r->model_dir && r->tokenizer.vocab_size)
        eos_settle(&model->config, &r->tokenizer, r->model_dir, r->tokenizer_dir);
}

// The language model to train: --model's, or the checkpoint's. Its tokenizer too, and whether they
// belong together.
static void run_model(Run *r, GPT2 *model) {
    if (!r->args->model) die(EXIT_USAGE, "--model is needed; see --help");
    tokenizer_load(&r->tokenizer, r->tokenizer_dir);
    model_load(model, r->model_dir);
    run_settle(r, model);
    run_describe(model);
}

// The tokenizer; NULL where the model is one of bare token ids (see rollout.h).
static const Tokenizer *run_tokenizer(const Run *r) {
    return r->tokenizer.vocab_size ? &r->tokenizer : NULL;
}

// The token that ends a text; below 0: a model of bare token ids may have none.
static int run_eos(const Run *r, const GPT2 *model) {
    return run_tokenizer(r) ? r->tokenizer.eos_id : model->config.eos_token_id;
}

// The frozen reference: --ref_model's, or --model's as it is on the disk. It gets no gradients, so it
// is forward only. Its vocabulary must be the model's.
static void run_reference(Run *r, GPT2 *reference, const GPT2 *model) {
    model_load(reference, r->reference_dir);
    if (reference->config.vocab_size != model->config.vocab_size)
        die(EXIT_BAD_INPUT, "%s: the reference's vocabulary has %d tokens, the model's %d",
            r->reference_dir, reference->config.vocab_size, model->config.vocab_size);
}

// The shorter of two contexts; `other` may be NULL.
static int run_context(const GPT2 *model, const GPT2 *other) {
    const int a = model->config.n_positions, b = other ? other->config.n_positions : a;
    return a < b ? a : b;
}

// ------------------------------------------------------------------------------------------------
// Data

// How records become tokens, by the flags; rows of at most `context` tokens.
static DataOptions run_data_options(const Run *r, int context) {
    const RunArgs *a = r->args;
    return (DataOptions){.max_length = a->max_length < context ? a->max_length : context,
                         .keep_start = !strcmp(a->truncation_mode, "keep_start"),
                         .strict = a->strict_data,
                         .max_prompt = a->max_prompt_length,
                         .max_completion = a->max_completion_length,
                         .chat_format =
                             chat_open(a->chat_format, run_tokenizer(r), r->tokenizer_dir)};
}

// What a set of pieces has: pairs, labelled completions, completions, or prompts alone.
typedef enum { PAIRS, LABELS, COMPLETIONS, PROMPTS } PieceKind;

// What messages call them.
static const char *pieces_name(PieceKind kind) {
    static const char *const names[] = {"pairs", "examples", "completions", "prompts"};
    return names[kind];
}

// Load a file of them and append a line about what was read. t: NULL for bare token ids.
static void pieces_load(PieceSet *d, PieceKind kind, const Tokenizer *t, const char *path,
                        const DataOptions *o, Text *report) {
    if (kind == PAIRS) {
        pairs_load(d, t, path, o);
        pairs_report(report, d, path);
    } else if (kind == LABELS) {
        labels_load(d, t, path, o);
        labels_report(report, d, path);
    } else if (kind == COMPLETIONS) {
        completions_load(d, t, path, o);
        completions_report(report, d, path);
    } else {
        prompts_load(d, t, path, o);
        prompts_report(report, d, path);
    }
}

// The corpora are loaded; `kept` of `all` examples are for evaluation. Settles their shares, and the hash that a
// resumed run must have again: `hash` of the training set, and the quotas where there are several.
static void run_corpora_loaded(Run *r, int all, int kept, uint64_t hash) {
    unsigned char *drawn = kept && !r->args->eval_dataset
                               ? split_draw(all, r->args->eval_split, (uint64_t)r->args->seed)
                               : NULL;
    if (drawn) corpora_draw(&r->corpora, drawn);
    free(drawn);
    corpora_share(&r->corpora);
    for (int i = 0; i < r->corpora.n && r->corpora.n > 1; i++) {
        hash = hash_add(hash, (uint64_t)r->corpora.items[i].rows);
        hash = hash_add(hash, (uint64_t)r->corpora.items[i].quota);
    }
    r->data_hash = hash;
}

// Load --dataset and --eval_dataset, or part the former by --eval_split; say what was read. `eval` is
// empty (n 0) without either. Dies with EXIT_BAD_INPUT where a file is not as its kind needs it.
static void run_pieces(Run *r, PieceSet *train, PieceSet *eval, PieceKind kind,
                       const DataOptions *options) {
    const RunArgs *a = r->args;
    Text report = {0};
    *eval = (PieceSet){0};
    if (r->corpora.weighted && kind == COMPLETIONS)
        die(EXIT_USAGE, "--dataset %s: self-play takes all rows in each iteration, without weights",
            a->dataset);
    for (int i = 0; i < r->corpora.n; i++) {
        Corpus *c = &r->corpora.items[i];
        PieceSet part;
        if (i) text_print(&report, "\n");
        pieces_load(&part, kind, run_tokenizer(r), c->names, options, &report);
        c->rows = part.n;
        c->tokens = part.start[(size_t)part.pieces * (size_t)part.n];
        if (i) pieces_append(train, &part, c->names);
        else *train = part;
    }
    const int all = train->n;
    if (a->eval_dataset) {
        text_print(&report, "\n");
        pieces_load(eval, kind, run_tokenizer(r), a->eval_dataset, options, &report);
    } else if (a->eval_split > 0) {
        PieceSet whole = *train;
        pieces_split(train, eval, &whole, a->eval_split, (uint64_t)a->seed);
        text_print(&report, "; %d %s kept for evaluation", eval->n, pieces_name(kind));
        pieces_free(&whole);
    }
    printf("%s\n", report.data);
    text_free(&report);
    run_corpora_loaded(r, all, eval->n, pieces_hash(train));
}

// The same for rows, as train_sft learns from. The tokens of long texts are looked for among those that are
// kept; dataset_keep keeps them, once the disk may be written.
static void run_rows(Run *r, Dataset *train, Dataset *eval, const DataOptions *options) {
    const RunArgs *a = r->args;
    const char *given = a->token_cache_dir;
    char *dir = given ? text_copy(given) : path_join(r->output.parent, "token_cache");
    DataOptions o = *options;
    o.token_dir = given && !strcmp(given, "off") ? NULL : dir;
    o.token_least = given ? 0 : TOKENS_LEAST;
    Text report = {0};
    *train = *eval = (Dataset){0};
    for (int i = 0; i < r->corpora.n; i++) {
        Corpus *c = &r->corpora.items[i];
        Dataset part;
        if (i) text_print(&report, "\n");
        dataset_load(&part, &r->tokenizer, c->names, &o);
        dataset_report(&report, &part, c->names);
        c->rows = part.n;
        c->tokens = dataset_tokens(&part);
        dataset_append(train, &part);
        dataset_free(&part);
    }
    const int all = train->n;
    if (a->eval_dataset) {
        dataset_load(eval, &r->tokenizer, a->eval_dataset, &o);
        text_print(&report, "\n");
        dataset_report(&report, eval, a->eval_dataset);
    } else if (a->eval_split > 0) {
        Dataset whole = *train;
        dataset_split(train, eval, &whole, a->eval_split, (uint64_t)a->seed);
        text_print(&report, "; %d rows kept for evaluation", eval->n);
        dataset_free(&whole);
    }
    printf("%s\n", report.data);
    text_free(&report);
    free(dir);
    run_corpora_loaded(r, all, eval->n, dataset_hash(train));
}

// Train on `most` examples (0: on all), evenly spread over the set.
static void run_thin(Run *r, PieceSet *train, int most) {
    if (!most || most >= train->n) return;
    pieces_thin(train, most);
    printf("training uses %d of them\n", train->n);
    r->data_hash = pieces_hash(train);
}

// ------------------------------------------------------------------------------------------------
// Schedule and order

// Factor on the learning rate for update `step` (from 0) of `total`, as transformers' schedulers:
// a linear warm-up, then constant, linear to 0, half a cosine to 0, or the inverse of the root. With a
// warm-up the first update has factor 0. ("polynomial" is linear here, and run_next ends it at 1e-7;
// "cosine_with_restarts" has one cycle.) transformers 5, optimization.py.
static double lr_factor(const char *type, int64_t step, int64_t warmup, int64_t total) {
    if (step < warmup && strcmp(type, "constant")) return (double)step / (double)warmup;
    double span = (double)(total - warmup > 1 ? total - warmup : 1);
    double progress = (double)(step - warmup) / span;
    if (!strcmp(type, "linear") || !strcmp(type, "polynomial"))
        return progress < 1 ? 1 - progress : 0;
    if (!strcmp(type, "inverse_sqrt")) {
        const double scale = warmup > 0 ? (double)warmup : 10000;
        return 1 / sqrt(((double)(step - warmup) + scale) / scale);
    }
    if (!strncmp(type, "cosine", 6)) return progress < 1 ? 0.5 * (1 + cos(M_PI * progress)) : 0;
    return 1; // constant, constant_with_warmup
}

// A number of updates: a flag's, or if that is below 1 this share of `total`, rounded up.
static int64_t run_updates(double steps, int64_t total) {
    return (int64_t)(steps < 1 ? ceil(steps * (double)total) : steps);
}

// Passes over the data after `step` updates, counted in batches as transformers' Trainer does: an
// epoch's last update may have fewer.
static double epochs_done(int64_t step, int64_t steps_per_epoch, int64_t batches_per_epoch,
                          int accumulation) {
    if (step % steps_per_epoch == 0) return (double)(step / steps_per_epoch);
    return (double)(step / steps_per_epoch) +
           (double)(step % steps_per_epoch * accumulation) / (double)batches_per_epoch;
}

// Make n_data examples those of the run's part that begins: per_device_train_batch_size times
// gradient_accumulation_steps of them in an update. Sets per_epoch and the part's number of updates by
// --num_train_epochs and --max_steps, which is returned. The run's total is the program's to know.
static int64_t run_part(Run *r, int n_data) {
    const RunArgs *a = r->args;
    const int B = a->per_device_train_batch_size;
    r->n_data = n_data;
    if ((int64_t)B * a->gradient_accumulation_steps > INT_MAX)
        die(EXIT_USAGE, "--gradient_accumulation_steps %d: more than %d examples in an update",
            a->gradient_accumulation_steps, INT_MAX);
    r->per_update = B * a->gradient_accumulation_steps;
    if (r->least > r->per_update) r->least = r->per_update;
    const int whole = n_data / r->per_update, left = n_data % r->per_update;
    r->per_epoch = whole + (left >= r->least || (left > 0 && whole == 0));
    r->batches_per_epoch = (n_data + B - 1) / B;
    r->part = (int64_t)ceil(a->num_train_epochs * (double)r->per_epoch);
    if (a->max_steps > 0) r->part = a->max_steps;
    free(r->order);
    r->order = mem_alloc((size_t)n_data, sizeof *r->order);
    r->order_epoch = -1;
    return r->part;
}

// Say what each corpus gives to a run that goes through so many examples, where there are weights.
static void run_report_corpora(const Run *r, double examples) {
    Text report = {0};
    corpora_report(&report, &r->corpora, examples);
    if (report.size) printf("%s", report.data);
    text_free(&report);
}

// The same for a run of one part.
static int64_t run_schedule(Run *r, int n_data) {
    r->total = run_part(r, n_data);
    const int64_t epochs = r->total / r->per_epoch, more = r->total % r->per_epoch;
    run_report_corpora(r, (double)epochs * n_data + (double)more * r->per_update);
    return r->total;
}

// The order of the examples in an epoch (n_data): a function of seed and epoch, so the step is all
// that a checkpoint needs to know of the place in the data.
static const int *run_order(Run *r, int64_t epoch) {
    if (epoch == r->order_epoch) return r->order;
    r->order_epoch = epoch;
    const bool random = !strcmp(r->args->train_sampling_strategy, "random");
    if (r->corpora.n > 1)
        corpora_order(r->order, &r->corpora, epoch, (uint64_t)r->args->seed, random);
    else if (random)
        rng_permutation(r->order, r->n_data, (uint64_t)r->args->seed,
                        r->order_stream | (uint64_t)epoch);
    else
        for (int i = 0; i < r->n_data; i++) r->order[i] = i;
    return r->order;
}

// ------------------------------------------------------------------------------------------------
// Start

// Add a value to what a checkpoint remembers.
static void run_state(Run *r, StateField field) {
    assert(r->n_state < RUN_STATE_MOST);
    r->state[r->n_state++] = field;
}

// Let a checkpoint remember a value of the program's, and a resumed run have it again.
static void run_keep_i64(Run *r, const char *name, int64_t *value) {
    run_state(r, (StateField)STATE_I64(name, value));
}
static void run_keep_u64(Run *r, const char *name, uint64_t *value) {
    run_state(r, (StateField)STATE_U64(name, value));
}
static void run_keep_f64(Run *r, const char *name, double *value) {
    run_state(r, (StateField)STATE_F64(name, value));
}

// Let a resumed run be refused where this hash is not what it was; `flag` names what makes it.
static void run_match(Run *r, const char *name, uint64_t *hash, const char *flag) {
    run_state(r, (StateField)MATCH_U64(name, hash, flag));
}

// Go on from the checkpoint if there is one: the model, AdamW's moments, all that run_keep_* and
// `meter` (it may be NULL) hold. Nothing is written yet, so a program that needs more files to go on
// reads them after this, and then calls run_write; the others call run_start.
static void run_restore(Run *r, GPT2 *model, Meter *meter) {
    run_keep_i64(r, "step", &r->step);
    run_keep_i64(r, "done", &r->done);
    if (r->iteration >= 0) run_keep_i64(r, "iteration", &r->iteration);
    run_keep_i64(r, "num_tokens", &r->num_tokens);
    for (int i = 0; meter && i < meter->n; i++) {
        char *sum = r->names[r->n_names++] = text_format("sum of %s", meter->names[i]);
        char *weight = r->names[r->n_names++] = text_format("weight of %s", meter->names[i]);
        run_keep_f64(r, sum, &meter->sum[i]);
        run_keep_f64(r, weight, &meter->weight[i]);
    }
    run_match(r, "data", &r->data_hash, "--dataset, --max_length and what else makes the examples");
    run_state(
        r, (StateField)MATCH_I64("total_steps", &r->total, "--max_steps and --num_train_epochs"));
    if (r->resume) {
        if (!model->grads) gpt2_train_begin(model, r->args->gradient_checkpointing);
        checkpoint_resume(&r->output, model, r->state, r->n_state);
        printf("resumed at step %" PRId64 " of %" PRId64, r->step, r->total);
        if (r->iteration >= 0) printf(", iteration %" PRId64, r->iteration);
        printf("\n");
    }
}

// From here on the disk is written: the output directory, run.json, the log. Everything that can be
// wrong with flags and files must have been found before.
static void run_write(Run *r, const GPT2 *model) {
    const RunArgs *a = r->args;
    Text run_json = {0};
    flags_json(&run_json, r->flags, r->n_flags, false);
    char *config = r->model_dir     ? path_join(r->model_dir, "config.json")
                   : r->config_path ? text_copy(r->config_path)
                                    : NULL;
    if (run_tokenizer(r))
        r->output.chat_template = chat_template_new(a->chat_format, r->tokenizer_dir);
    output_start(&r->output, run_json.data, config);
    free(config);
    text_free(&run_json);
    log_open(&r->log, r->output.metrics_path, r->output.metrics_bytes);
    r->log.lasting = true;
    stop_on_signals();
    r->saved_step = r->first_step = r->step;
    r->first_tokens = r->num_tokens;
    r->sampling = (SampleOptions){.max_new_tokens = a->max_new_tokens,
                                  .temperature = a->temperature,
                                  .top_p = a->top_p,
                                  .eos_id = run_eos(r, model),
                                  .vocab_size = run_tokenizer(r) ? r->tokenizer.vocab_size
                                                                 : model->config.vocab_size,
                                  .seed = (uint64_t)a->seed};
}

// The run begins: run_restore and run_write.
static void run_start(Run *r, GPT2 *model, Meter *meter) {
    run_restore(r, model, meter);
    run_write(r, model);
}

// Gradients and moments: before the first update, and after what need not stay has left the memory.
static void run_train_begin(const Run *r, GPT2 *model) {
    if (!model->grads) gpt2_train_begin(model, r->args->gradient_checkpointing);
}

// log ref(y|x) of every completion of the set, floats (n, completions that an example has): from the
// file of an earlier run, or computed now and kept for the next one. `name` says in messages what the
// data is (NULL: "evaluation").
static void *run_reference_logps(Run *r, GPT2 *reference, uint64_t hash, const PieceSet *data,
                                 const char *name) {
    const char *given = r->args->ref_cache_dir;
    char *dir = given ? text_copy(given) : path_join(r->output.parent, "ref_logps");
    float *logps =
        reference_logps(reference, hash, data, r->args->share_prompt && data->pieces == 3,
                        name ? name : "evaluation", dir);
    free(dir);
    return logps;
}

// ------------------------------------------------------------------------------------------------
// The loop

// The loop is over: note whether because the program was asked to stop (a signal that comes later is
// too late: the rest takes a moment), and what time and memory it took. run_next does that; a program
// that can be stopped between its parts calls it after the last one.
static void run_leave(Run *r) {
    progress_clear();
    stop_wait(); // all that is left to do is to save
    r->stopped = stop_signal;
    r->spent = seconds_now() - r->began;
    r->peak = memory_peak_mb();
}

// How many examples the next update has when `left` are left of an epoch. The last ones, if they are
// fewer than an update needs, join the one before.
static int run_update_size(const Run *r, int64_t left) {
    return (int)(left < r->per_update + r->least ? left : r->per_update);
}

// What was printed goes out. Where the disk that it goes to is full, the program is asked to stop. (A
// pipe that nobody reads does so by its signal; a terminal that has ended changes nothing.)
static void run_flush(Run *r) {
    if (!fflush(stdout) || (errno != ENOSPC && errno != EDQUOT && errno != EFBIG)) return;
    r->full = errno;
    if (!stop_signal) stop_signal = SIGXFSZ;
}

// Go to the next update: false after the last one of the part, or when the program is asked to stop.
// Sets step, lr, epoch, and where there is a schedule the update's examples.
static bool run_next(Run *r) {
    const RunArgs *a = r->args;
    if (r->began == 0) r->began = seconds_now();
    stop_mark();
    run_flush(r);
    if (r->done >= r->part || stop_signal) {
        run_leave(r);
        return false;
    }
    const int64_t warmup = run_updates(a->warmup_steps, r->part);
    const double factor = lr_factor(a->lr_scheduler_type, r->done, warmup, r->part);
    r->lr = a->learning_rate * factor;
    if (!strcmp(a->lr_scheduler_type, "polynomial") && r->done >= warmup)
        r->lr += 1e-7 * (1 - factor); // transformers' lr_end
    if (r->per_update) {
        const int64_t at = r->done % r->per_epoch * r->per_update, left = r->n_data - at;
        r->examples = run_order(r, r->done / r->per_epoch) + at;
        r->n = run_update_size(r, left);
        r->epoch = epochs_done(r->done + 1, r->per_epoch, r->batches_per_epoch,
                               a->gradient_accumulation_steps);
        r->seen += r->n;
    }
    r->step++;
    r->done++;
    return true;
}

// How many of the update's examples go through the model in the pass that begins with number `first`.
static int run_split(const Run *r, int first) {
    const int B = r->args->per_device_train_batch_size;
    return r->n - first < B ? r->n - first : B;
}

// All gradients of a model are there: clip them and take AdamW's step at this update's rate. Returns
// their norm before clipping. Dies (EXIT_DIVERGED) if loss or norm is not finite. A program with two
// models calls it for each, and as often in an update as it makes steps.
static double run_update(Run *r, GPT2 *model, double loss) {
    r->norm = grad_norm(model);
    if (!isfinite(loss) || !isfinite(r->norm)) {
        char *saved =
            r->saved_step ? text_format("checkpoint-%" PRId64, r->saved_step) : text_copy("none");
        die(EXIT_DIVERGED,
            "step %" PRId64
            ": loss is %g, gradient norm %g (learning rate %g); last good checkpoint: %s",
            r->step, loss, r->norm, r->lr, saved);
    }
    adamw_step(model, &r->adamw, r->lr, clip_scale(r->norm, r->args->max_grad_norm));
    progress_show("step %" PRId64 "/%" PRId64 "  loss %.4f", r->step, r->total, loss);
    return r->norm;
}

// True every `steps` updates (0: never; below 1: this share of all), with the strategy "epoch" after each
// epoch, and after the last update of the part.
static bool run_due_by(const Run *r, const char *strategy, double steps) {
    const int64_t every = run_updates(steps, r->total);
    if (r->done == r->part) return true;
    if (strategy && !strcmp(strategy, "epoch")) return r->done % r->per_epoch == 0;
    return every && r->step % every == 0;
}
static bool run_due(const Run *r, double steps) { return run_due_by(r, "steps", steps); }

// The same for a line of the log, and for an evaluation.
static bool run_log_due(const Run *r) {
    const RunArgs *a = r->args;
    return (a->logging_first_step && r->step == 1) ||
           run_due_by(r, a->logging_strategy, a->logging_steps);
}
static bool run_eval_due(const Run *r) {
    return run_due_by(r, r->args->eval_strategy, r->args->eval_steps);
}

// The first keys of a row of the log: where the run is.
static void run_log_place(Run *r) {
    log_number(&r->log, "step", (double)r->step);
    if (r->iteration >= 0) log_number(&r->log, "iteration", (double)r->iteration);
    log_number(&r->log, "epoch", r->epoch);
}

// A printed line begins: the step, and the means that `shown` names (see meter_print).
static void run_print(const Run *r, const Meter *meter, const char *shown) {
    progress_clear();
    printf("step %5" PRId64 "/%" PRId64 "  ", r->step, r->total);
    meter_print(meter, "", shown);
}

// It ends: how many `unit`s a second this run has done, `seen` in all, and the time left.
static void run_print_rate(const Run *r, double seen, const char *unit) {
    const double seconds = seconds_now() - r->began, steps = (double)(r->step - r->first_step);
    char left[32];
    printf("%6.*g %s/s  left %s\n", seen < 1000 * seconds ? 3 : 6,
           seen < 1000 * seconds ? seen / seconds : floor(seen / seconds), unit,
           time_format(left, seconds / steps * (double)(r->total - r->step)));
}

// When run_log_due says so: the meter's means since the last time as a row of the log, and on
// the terminal those that `shown` names (see meter_print), with the rate of `unit`s ("tokens", or the
// examples' name) and the time left. The meter begins anew.
static void run_log(Run *r, Meter *meter, const char *shown, const char *unit) {
    if (!run_log_due(r)) return;
    const int64_t seen = strcmp(unit, "tokens") ? r->seen : r->num_tokens - r->first_tokens;
    run_log_place(r);
    meter_log(meter, &r->log, "");
    log_number(&r->log, "grad_norm", r->norm);
    log_number(&r->log, "learning_rate", r->lr);
    log_number(&r->log, "num_tokens", (double)r->num_tokens);
    log_write(&r->log);
    run_print(r, meter, shown);
    printf("norm %6.3f  lr %.2e  ", r->norm, r->lr);
    run_print_rate(r, (double)seen, unit);
    meter_clear(meter);
}

// An evaluation goes through examples in their order, some at a time:
//
//     EvalPass pass = {0};
//     while (run_eval_next(run, &pass, data->n, "pairs")) ...
typedef struct {
    int *examples; // (n) numbers of those that this pass is of
    int n, first;  // the first of them
} EvalPass;

// Go to the next examples of `total`, at most --per_device_eval_batch_size; false after the last, when
// nothing is left to release. `unit` is their name.
static bool run_eval_next(const Run *r, EvalPass *p, int total, const char *unit) {
    const int most = r->args->per_device_eval_batch_size;
    if (!p->examples) p->examples = mem_alloc((size_t)most, sizeof *p->examples);
    else progress_show("evaluation: %d of %d %s", p->first + p->n, total, unit);
    p->first += p->n;
    p->n = total - p->first < most ? total - p->first : most;
    for (int i = 0; i < p->n; i++) p->examples[i] = p->first + i;
    if (p->n) return true;
    free(p->examples);
    return false;
}

// What an evaluation measured: a row of the log with "eval_" before each name, and a line.
static void run_log_eval(Run *r, const Meter *meter, const char *shown) {
    run_log_place(r);
    meter_log(meter, &r->log, "eval_");
    log_write(&r->log);
    progress_clear();
    printf("step %5" PRId64 "  ", r->step);
    meter_print(meter, "eval_", shown);
    printf("\n");
}

// Save checkpoint-<step> now.
static void run_checkpoint(Run *r, const GPT2 *model) {
    checkpoint_save(&r->output, model, run_tokenizer(r), r->step, r->state, r->n_state);
    r->saved_step = r->step;
}

// Every --save_steps updates (or epoch) save a checkpoint; the last update of a run leaves final/ instead.
static void run_save(Run *r, const GPT2 *model) {
    const RunArgs *a = r->args;
    if (r->done < r->part && run_due_by(r, a->save_strategy, a->save_steps))
        run_checkpoint(r, model);
}

// ------------------------------------------------------------------------------------------------
// Texts before and after

// The prompts to show and measure: those of a set, each once where it comes several times in a row.
static void run_prompts(Run *r, const PieceSet *d) {
    for (int i = 0; i < d->n; i++) {
        const size_t *start = d->start + (size_t)d->pieces * (size_t)i;
        prompts_add(&r->prompts, d->tokens + start[0], start[1] - start[0]);
    }
}

// The same for rows, for --samples only: the tokens before the first one that is learnt, or the first
// four of a row that is learnt whole.
static void run_row_prompts(Run *r, const Dataset *d) {
    Batch row = {0};
    for (int i = 0; i < d->n && i < r->args->samples; i++) {
        int prompt = 1;
        dataset_batch(&row, d, &i, 1);
        while (prompt < row.N && !row.mask[prompt]) prompt++;
        if (prompt == 1 || prompt == row.N) prompt = row.N < 4 ? row.N : 4;
        batch_add_row(&r->prompts, row.tokens, NULL, prompt);
    }
    batch_free(&row);
}

// Sample and measure texts of `model` against `reference`, either of which is read from the disk where
// it is NULL: the model as training began with it, the reference as it is there.
static void run_measure(Run *r, Texts *texts, GPT2 *model, GPT2 *reference) {
    const RunArgs *a = r->args;
    GPT2 start, other;
    *texts = (Texts){0};
    if (!a->eval_prompts) return;
    if (!model) model_load(&start, a->model);
    if (!reference) model_load(&other, r->reference_dir);
    texts_measure(texts, model ? model : &start, reference ? reference : &other, &r->tokenizer,
                  &r->prompts, a->eval_prompts, a->per_device_eval_batch_size, a->gold,
                  &r->sampling);
    if (!model) gpt2_free(&start);
    if (!reference) gpt2_free(&other);
}

// Before training: measure the model that training begins with, `start`, against the reference (NULL:
// from the disk); in a run that begins now, also log that and show some texts of `model`.
static void run_before(Run *r, const GPT2 *model, GPT2 *start, GPT2 *reference) {
    if (stop_signal) return;
    run_measure(r, &r->before, start, reference);
    if (r->resume || stop_signal) return;
    texts_log(&r->before, &r->log, 0, 0);
    texts_show(model, run_tokenizer(r), &r->prompts, r->args->samples, &r->sampling,
               "before training");
}

// After training: the same texts again, and what has become of them. Nothing if the run was stopped.
static void run_after(Run *r, GPT2 *model, GPT2 *reference) {
    Texts after;
    if (r->stopped) return;
    texts_show(model, run_tokenizer(r), &r->prompts, r->args->samples, &r->sampling,
               "after training");
    run_measure(r, &after, model, reference);
    texts_log(&after, &r->log, r->step, r->epoch);
    texts_report(&r->before, &after, r->measured_to);
    texts_free(&after);
}

// ------------------------------------------------------------------------------------------------
// End

// The log, or standard output, could not be written: say so, what is saved, and die.
static void run_end_full(Run *r, const char *saved) {
    if (r->log.error)
        die(EXIT_IO, "%s: cannot write: %s; %s", r->log.path, strerror(r->log.error), saved);
    if (r->full) die(EXIT_IO, "standard output: cannot write: %s; %s", strerror(r->full), saved);
}

// Leave the model as final/, or, if the program was asked to stop, a checkpoint to go on from.
// Releases all that the run holds; returns the program's exit code. Dies (EXIT_IO), once it is saved, if
// a row of the log or what was printed could not be written.
static int run_end(Run *r, const GPT2 *model) {
    const bool full = r->full || r->log.error;
    if (r->log.error) log_flush(&r->log); // perhaps there is room now
    if (!r->stopped) {
        char spent[32];
        printf("%s, peak memory %.0f MB\n", time_format(spent, r->spent), r->peak);
        printf("model: %s/final   metrics: %s/metrics.jsonl\n", r->args->output_dir,
               r->args->output_dir);
        output_finish(&r->output, model, run_tokenizer(r));
        run_flush(r);
        run_end_full(r, "final/ is saved");
    } else if (r->preset) {
        printf("stopped at step %" PRId64 "; the default run keeps nothing\n", r->step);
        run_end_full(r, "the default run keeps nothing");
        output_close(&r->output);
    } else {
        if (r->saved_step != r->step || r->step == 0) run_checkpoint(r, model);
        char *saved = text_format("checkpoint-%" PRId64 " of %" PRId64
                                  " is saved; go on with --resume_from_checkpoint latest",
                                  r->step, r->total);
        run_end_full(r, saved);
        if (full) die(EXIT_IO, "%s: could not be written; %s", r->log.path, saved);
        free(saved);
        fprintf(r->stopped == SIGPIPE ? stderr : stdout,
                "stopped at step %" PRId64 " of %" PRId64
                " and saved; go on with --resume_from_checkpoint latest\n",
                r->step, r->total);
        output_close(&r->output);
    }
    log_close(&r->log);
    for (int i = 0; i < r->n_names; i++) free(r->names[i]);
    free(r->order);
    corpora_free(&r->corpora);
    batch_free(&r->prompts);
    texts_free(&r->before);
    tokenizer_free(&r->tokenizer);
    flags_free(r->flags, r->n_flags);
    return r->stopped ? 128 + r->stopped : 0;
}

#endif
