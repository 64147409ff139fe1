// train_sft.c: supervised fine-tuning (SFT) of GPT-2, or training from random weights. Build it:
//
// cc -O3 -march=native -fno-math-errno -fopenmp train_sft.c -o train_sft -lopenblas -lcjson -lm
//
// Learns to predict each next token of texts, or of the completions of prompts. The loss is the
// mean negative log-likelihood of the M tokens that count:
//
//     loss = -1/M sum over t of log pi(token t | tokens before t)
//
// (Radford et al. 2018, eq. 1). Every alignment method starts from a model that was made like this.
//
// Where to look: rows_slope and rows_loss are the gradient and the loss, the loop in main is the
// algorithm. What surrounds it (flags, order, log, checkpoints) is in lib/run/run.h.
//
// Without arguments it trains a GPT-2 of 0.8M parameters from random weights on short film reviews.
#include "model.h"            // defines: GPT2, Rows, lm_head_forward_backward, gpt2_backward
#include "lib/base/flags.h"   // defines: FLAG
#include "lib/data/dataset.h" // defines: Dataset (rows of tokens, masks), dataset_batch, dataset_keep
#include "lib/run/meter.h"    // defines: Meter, meter_add
#include "lib/run/run.h"      // defines: Run, RunArgs, run_next, run_update, ...

// The run without arguments: a tiny model wants larger steps than GPT-2 does.
static const char preset[] =
    "--model_config data/config_tiny.json --tokenizer data --dataset data/reviews_train.jsonl "
    "--eval_dataset data/reviews_eval.jsonl --output_dir out/sft --num_train_epochs 3 "
    "--per_device_train_batch_size 32 --per_device_eval_batch_size 32 --learning_rate 0.007 "
    "--lr_scheduler_type cosine --warmup_steps 100 --weight_decay 0.05 --adam_beta2 0.98 "
    "--logging_steps 200 --eval_steps 800 --save_steps 0";

// Names and defaults are those of TRL's SFTConfig and transformers' TrainingArguments.
static struct {
    RunArgs run; // flags that other programs have, too
    const char *model_config, *dataset_text_field;
    bool completion_only_loss;
} args = {
    .run = {RUN_DEFAULTS, .output_dir = "out/sft", .learning_rate = 2e-5, .num_train_epochs = 3,
            .logging_steps = 10, .max_new_tokens = 60},
    .completion_only_loss = true,
};

static Flag flags[] = {
    RUN_FLAGS_MODEL(args.run, "directory in Hugging Face format to start from"),
    FLAG_TEXT(args, model_config, "or a config.json: start from random weights"),
    RUN_FLAGS_DATA(args.run, "JSONL with text, prompt + completion, or messages; or a .txt",
                   "the same for evaluation"),
    FLAG_TEXT(args, dataset_text_field, "name of the text column (none: text)"),
    RUN_FLAG_TOKENS(args.run),
    FLAG_SWITCH(args, completion_only_loss, "learn the completion only, where there is a prompt"),
    RUN_FLAGS_ROWS(args.run, "rows", "cut the prompt from the left, or the end of the row (TRL)"),
    FLAG_HEADING_KEPT("training"),
    RUN_FLAGS_EPOCHS(args.run, "rows"),
    RUN_FLAGS_OPTIMIZER(args.run),
    RUN_FLAGS_OUTPUT(args.run, "gets final/, checkpoint-N/, metrics.jsonl, run.json"),
    RUN_FLAGS_EVAL(args.run, "rows"),
    RUN_FLAG_SAMPLES(args.run),
    RUN_FLAG_LENGTH(args.run),
    TRL_FLAGS_SFT,
};

// What is logged, under TRL's names. PERPLEXITY is e^loss; ENTROPY (of the predictions) and
// TOKEN_ACCURACY (the token was the arg max) are means over the tokens in the loss.
enum { LOSS, PERPLEXITY, ENTROPY, TOKEN_ACCURACY, METRICS };
static const char *const metric_names[METRICS] = {"loss", "perplexity", "entropy",
                                                  "mean_token_accuracy"};
static const char shown[] = "loss perplexity"; // on the terminal

// ------------------------------------------------------------------------------------------------

// The gradient of the loss with respect to log pi of each token, in rows->dlogp: -1/M for those
// that count. The mask says which: those of completions, or all (--completion_only_loss false), but
// never a row's first, which nothing predicts. M is their number in the whole update, so every
// token weighs the same, however the update is split and however long its rows are.
static void rows_slope(Rows *rows, const Batch *b, int64_t M) {
    rows_reserve(rows, b);
    for (int t = 0; t < b->N; t++) rows->dlogp[t] = b->mask[t] ? (float)(-1.0 / (double)M) : 0;
}

// The loss of a batch, from rows->logp, as a part of an update of which M tokens count. Training
// and evaluation both come here.
static double rows_loss(const Rows *rows, const Batch *b, int64_t M, Meter *meter) {
    const HeadStats *stats = &rows->stats;
    double sum = 0;
    for (int t = 0; t < b->N; t++)
        if (b->mask[t]) sum += rows->logp[t];
    meter_add(meter, ENTROPY, stats->entropy, (double)stats->count);
    meter_add(meter, TOKEN_ACCURACY, (double)stats->correct, (double)stats->count);
    return -sum / (double)M;
}

// Loss and metrics over all rows of a set: a row of the log.
static void evaluate(Run *run, GPT2 *model, const Dataset *data, Rows *rows) {
    Meter meter = {.n = METRICS, .names = metric_names};
    Batch batch = {0};
    EvalPass pass = {0};
    const int64_t M = dataset_count_mask(data);
    double loss = 0;
    while (run_eval_next(run, &pass, data->n, "rows")) {
        dataset_batch(&batch, data, pass.examples, pass.n);
        rows_forward(rows, model, &batch);
        loss += rows_loss(rows, &batch, M, &meter);
    }
    meter_add(&meter, LOSS, loss, 1);
    meter_set(&meter, PERPLEXITY, exp(loss));
    run_log_eval(run, &meter, shown);
    batch_free(&batch);
}

int main(int argc, char **argv) {
    Run run;
    run_begin(&run, &args.run, argc, argv, flags, COUNT(flags), "supervised fine-tuning of GPT-2",
              preset);
    if (!args.run.model == !args.model_config)
        die(EXIT_USAGE, "give either --model or --model_config; see --help");
    if (args.model_config && !args.run.tokenizer)
        die(EXIT_USAGE, "--model_config needs --tokenizer, a directory with a vocabulary");
    run_open(&run);

    // the model: --model's, the checkpoint's, or a new one
    GPT2 model;
    tokenizer_load(&run.tokenizer, run.tokenizer_dir);
    if (run.model_dir) model_load(&model, run.model_dir);
    else {
        run.config_path = args.model_config;
        GPT2Config config = config_read(args.model_config);
        config.vocab_size = run.tokenizer.vocab_size; // a config fits every vocabulary
        config.bos_token_id = config.eos_token_id = run.tokenizer.eos_id;
        gpt2_create(&model, config);
        gpt2_init_random(&model, (uint64_t)args.run.seed);
    }
    run_settle(&run, &model);
    run_describe(&model);

    // rows of tokens, each with a mask of those that count
    Dataset train, eval;
    DataOptions options = run_data_options(&run, run_context(&model, NULL));
    options.all_tokens = !args.completion_only_loss;
    options.text_field = args.dataset_text_field;
    run_rows(&run, &train, &eval, &options);

    // updates and their order; go on from a checkpoint; from here on the disk is written
    Meter meter = {.n = METRICS, .names = metric_names};
    run_schedule(&run, train.n);
    run_start(&run, &model, &meter);
    dataset_keep(&train); // tokens of long texts, for the next run
    dataset_keep(&eval);
    run_train_begin(&run, &model);

    // before training
    Rows rows = {0};
    run_row_prompts(&run, eval.n ? &eval : &train);
    if (eval.n && run_fresh(&run)) evaluate(&run, &model, &eval, &rows);
    run_before(&run, &model, NULL, NULL);

    Batch batch = {0};
    while (run_next(&run)) { // run.examples (run.n): the rows of this update
        int64_t M = 0;       // their tokens that count
        for (int i = 0; i < run.n; i++) M += dataset_row_mask(&train, run.examples[i]);

        // Forward and backward, some rows at a time; gradients accumulate. The slope is known
        // before log pi is, so the head goes forward and back at once and makes the logits once.
        double loss = 0;
        for (int first = 0, n; first < run.n; first += n) {
            n = run_split(&run, first);
            dataset_batch(&batch, &train, run.examples + first, n);
            rows_slope(&rows, &batch, M);
            gpt2_forward(&model, &batch);
            rows.stats = lm_head_forward_backward(&model, rows.logp, rows.dlogp);
            gpt2_backward(&model);
            loss += rows_loss(&rows, &batch, M, &meter);
            run.num_tokens += batch.N;
        }
        run_update(&run, &model, loss); // clip, AdamW
        meter_add(&meter, LOSS, loss, 1);
        meter_set(&meter, PERPLEXITY, exp(meter_mean(&meter, LOSS)));

        run_log(&run, &meter, shown, "tokens");
        if (eval.n && run_eval_due(&run)) evaluate(&run, &model, &eval, &rows);
        run_save(&run, &model);
    }
    run_after(&run, &model, NULL);
    const int code = run_end(&run, &model);

    gpt2_free(&model);
    dataset_free(&train);
    dataset_free(&eval);
    rows_free(&rows);
    batch_free(&batch);
    return code;
}
