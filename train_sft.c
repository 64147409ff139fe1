// train_sft.c: supervised fine-tuning (SFT) of GPT-2, or pre-training from random weights.
//
// cc -O3 -march=native -fno-math-errno -fopenmp train_sft.c -o train_sft -lopenblas -lcjson -lm
//
// The objective is the mean negative log-likelihood of the completion's tokens (Radford et al.
// 2018, eq. 1; losses.h). Every alignment method starts from a model made like this. main() below
// is the algorithm from top to bottom:
//
//     flags -> model -> data -> for each step { batch, forward, loss, backward, clip, AdamW, log }
//     -> save
//
// Without arguments it trains a GPT-2 of 0.8M parameters from random weights on short film reviews.
#include "common.h"
#include "flags.h"
#include "losses.h"
#include "tokenizer.h"
#include "dataset.h"
#include "model.h"
#include "checkpoint.h"
#include "sample.h"
#include "before_after.h"

// The run without arguments: a tiny model wants larger steps than GPT-2 does.
static const char preset[] =
    "--model_config data/config_tiny.json --tokenizer data --dataset data/reviews_train.jsonl "
    "--eval_dataset data/reviews_eval.jsonl --output_dir out/sft --num_train_epochs 3 "
    "--per_device_train_batch_size 32 --per_device_eval_batch_size 32 --learning_rate 0.007 "
    "--lr_scheduler_type cosine --warmup_steps 100 --weight_decay 0.05 --adam_beta2 0.98 "
    "--logging_steps 200 --eval_steps 800 --save_steps 0";

// What is summed up between two lines of the log, and saved with a checkpoint so that a resumed
// run writes the same lines.
typedef struct {
    double loss, entropy;
    int64_t steps, correct, count; // steps; tokens guessed right, tokens in the loss
} Window;

// Mean negative log-likelihood over the tokens in the loss of all rows (nats), B rows at a time.
// Prints it and adds a row to the log.
static void evaluate(GPT2 *model, const Dataset *data, int B, MetricsLog *log, int64_t step,
                     double epoch) {
    Batch batch = {0};
    HeadStats stats = {0};
    double loss = 0;
    const long M = dataset_count_mask(data);
    int *rows = mem_alloc((size_t)B, sizeof *rows);
    float *logp = mem_floats((size_t)B * (size_t)model->config.n_positions);
    for (int r = 0; r < data->n; r += B) {
        int n = data->n - r < B ? data->n - r : B;
        for (int i = 0; i < n; i++) rows[i] = r + i;
        dataset_batch(&batch, data, rows, n);
        gpt2_forward(model, &batch);
        HeadStats part = lm_head_forward(model, logp);
        stats.entropy += part.entropy, stats.correct += part.correct;
        loss += sft_loss_forward(logp, batch.mask, batch.N, M);
        progress_show("evaluation: %d of %d rows", r + n, data->n);
    }
    batch_free(&batch), free(rows), free(logp);
    log_number(log, "step", (double)step);
    log_number(log, "epoch", epoch);
    log_number(log, "eval_loss", loss);
    log_number(log, "eval_perplexity", exp(loss));
    log_number(log, "eval_entropy", stats.entropy / (double)M);
    log_number(log, "eval_mean_token_accuracy", (double)stats.correct / (double)M);
    log_write(log);
    progress_clear();
    printf("step %5" PRId64 "  eval_loss %.4f  eval_perplexity %.2f\n", step, loss, exp(loss));
}

// The beginnings of the first `count` rows, for the samples to continue: the tokens before the first
// one in the loss, or the first four of a row that is learned whole. Release with batch_free().
static Batch sample_prompts(const Dataset *data, int count) {
    Batch prompts = {0};
    for (int i = 0; i < data->n && i < count; i++) {
        const size_t at = data->start[i], n = data->start[i + 1] - at;
        size_t prompt = 1;
        while (prompt < n && !data->mask[at + prompt]) prompt++;
        if (prompt == 1 || prompt == n) prompt = n < 4 ? n : 4;
        batch_add_row(&prompts, data->tokens + at, NULL, (int)prompt);
    }
    return prompts;
}

int main(int argc, char **argv) {
    // ---- flags ---------------------------------------------------------------------------------
    // Names and defaults are those of TRL's SFTConfig and transformers' TrainingArguments.
    struct {
        const char *model, *model_config, *tokenizer, *dataset, *eval_dataset, *output_dir;
        const char *resume_from_checkpoint, *lr_scheduler_type, *truncation_mode, *chat_format;
        const char *dataset_text_field;
        double eval_split, learning_rate, weight_decay, max_grad_norm, num_train_epochs;
        double adam_beta1, adam_beta2, adam_epsilon;
        int max_length, per_device_train_batch_size, per_device_eval_batch_size;
        int gradient_accumulation_steps, warmup_steps, logging_steps, eval_steps, save_steps;
        int save_total_limit, samples, max_new_tokens;
        int64_t max_steps, seed;
        bool completion_only_loss, shuffle_dataset, no_decay_embeddings, bf16,
            gradient_checkpointing;
        bool overwrite_output_dir;
    } args = {
        .output_dir = "out/sft",
        .lr_scheduler_type = "linear",
        .truncation_mode = "prompt_first",
        .chat_format = "hh",
        .eval_split = 0,
        .learning_rate = 2e-5,
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
        .completion_only_loss = true,
        .shuffle_dataset = true,
    };
    Flag flags[] = {
        FLAG_HEADING("model"),
        FLAG_TEXT(args, model, "directory in Hugging Face format to start from"),
        FLAG_TEXT(args, model_config, "or a config.json: start from random weights"),
        FLAG_TEXT(args, tokenizer, "directory with vocab.json and merges.txt, if not --model's"),
        FLAG_SWITCH(args, gradient_checkpointing, "less memory, a quarter more time"),
        FLAG_HEADING("data"),
        FLAG_TEXT(args, dataset, "JSONL with text, prompt + completion, or messages; or a .txt"),
        FLAG_TEXT(args, eval_dataset, "the same for evaluation"),
        FLAG(args, eval_split, 0, 0.9, "without --eval_dataset: share of rows kept for evaluation"),
        FLAG_TEXT(args, dataset_text_field, "name of the text column (none: text)"),
        FLAG_SWITCH(args, completion_only_loss,
                    "learn the completion only, where there is a prompt"),
        FLAG_CHOICE(args, chat_format, "hh|simple", "how messages become text"),
        FLAG(args, max_length, 2, 1 << 20, "tokens that a row may have"),
        FLAG_CHOICE(args, truncation_mode, "prompt_first|keep_start",
                    "cut the prompt from the left, or the end of the row (TRL)"),
        FLAG_SWITCH(args, shuffle_dataset, "new order of rows in each epoch"),
        FLAG_HEADING("training"),
        FLAG(args, num_train_epochs, 1e-6, 1e6, "passes over the data"),
        FLAG(args, max_steps, -1, 1e12, "updates to make instead (-1: see epochs)"),
        FLAG(args, per_device_train_batch_size, 1, 1 << 16, "rows in one forward pass"),
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
        FLAG(args, seed, 0, 9e15, "of weights, order of rows, split and samples"),
        FLAG_HEADING("output"),
        FLAG_TEXT(args, output_dir, "gets final/, checkpoint-N/, metrics.jsonl, run.json"),
        FLAG_SWITCH(args, overwrite_output_dir, "delete what an earlier run left there"),
        FLAG_TEXT(args, resume_from_checkpoint, "a checkpoint-N directory, or latest"),
        FLAG(args, logging_steps, 1, 1e9, "updates between lines of the log"),
        FLAG(args, eval_steps, 0, 1e9, "updates between evaluations (0: at begin and end only)"),
        FLAG(args, per_device_eval_batch_size, 1, 1 << 16, "rows in one forward pass there"),
        FLAG(args, save_steps, 0, 1e9, "updates between checkpoints (0: none)"),
        FLAG(args, save_total_limit, 0, 1e9, "checkpoints to keep (0: all)"),
        FLAG(args, samples, 0, 100, "texts to show before and after"),
        FLAG(args, max_new_tokens, 1, 1 << 20, "length of those texts"),
    };
    flags_parse(argc, argv, flags, COUNT(flags), "supervised fine-tuning of GPT-2", preset);
    const bool resume = args.resume_from_checkpoint && *args.resume_from_checkpoint;
    if (!args.dataset) die(EXIT_USAGE, "--dataset is needed; see --help");
    if (!args.output_dir) die(EXIT_USAGE, "--output_dir is empty; see --help");
    if (!args.model == !args.model_config)
        die(EXIT_USAGE, "give either --model or --model_config; see --help");
    if (args.model_config && !args.tokenizer)
        die(EXIT_USAGE, "--model_config needs --tokenizer, a directory with a vocabulary");

    // ---- model ---------------------------------------------------------------------------------
    Output output;
    output_open(&output, args.output_dir, args.resume_from_checkpoint, args.overwrite_output_dir,
                argc == 1);
    output.save_total_limit = args.save_total_limit;
    products_begin(args.bf16);
    const char *model_dir = resume ? output.resume_dir : args.model;
    Tokenizer tokenizer;
    tokenizer_load(&tokenizer, args.tokenizer ? args.tokenizer : args.model);
    GPT2 model;
    if (model_dir) model_load(&model, model_dir);
    else {
        GPT2Config config = config_read(args.model_config);
        config.vocab_size = tokenizer.vocab_size; // a preset fits every vocabulary
        config.bos_token_id = config.eos_token_id = tokenizer.eos_id;
        gpt2_create(&model, config);
        gpt2_init_random(&model, (uint64_t)args.seed);
    }
    if (tokenizer.vocab_size > model.config.vocab_size)
        die(EXIT_BAD_INPUT, "the tokenizer has %d tokens, the model's vocabulary only %d",
            tokenizer.vocab_size, model.config.vocab_size);
    gpt2_train_begin(&model, args.gradient_checkpointing);
    printf("GPT-2 with %.2fM parameters: %d layers, %d channels, %d heads, vocabulary %d\n",
           (double)gpt2_count_params(&model) * 1e-6, model.config.n_layer, model.config.n_embd,
           model.config.n_head, model.config.vocab_size);

    // ---- data ----------------------------------------------------------------------------------
    DataOptions options = {
        .max_length =
            args.max_length < model.config.n_positions ? args.max_length : model.config.n_positions,
        .all_tokens = !args.completion_only_loss,
        .keep_start = !strcmp(args.truncation_mode, "keep_start"),
        .chat_format = !strcmp(args.chat_format, "hh") ? CHAT_HH : CHAT_SIMPLE,
        .text_field = args.dataset_text_field,
    };
    Dataset train, eval = {0};
    Text report = {0};
    dataset_load(&train, &tokenizer, args.dataset, &options);
    dataset_report(&report, &train, args.dataset);
    if (args.eval_dataset) {
        dataset_load(&eval, &tokenizer, args.eval_dataset, &options);
        text_print(&report, "\n");
        dataset_report(&report, &eval, args.eval_dataset);
    } else if (args.eval_split > 0) {
        Dataset all = train;
        dataset_split(&train, &eval, &all, args.eval_split, (uint64_t)args.seed);
        text_print(&report, "; %d rows kept for evaluation", eval.n);
        dataset_free(&all);
    }
    printf("%s\n", report.data);
    text_free(&report);

    const int B = args.per_device_train_batch_size;
    const int64_t rows_per_step = (int64_t)B * args.gradient_accumulation_steps;
    const int64_t steps_per_epoch = (train.n + rows_per_step - 1) / rows_per_step;
    const int64_t batches_per_epoch = (train.n + B - 1) / B;
    int64_t total = (int64_t)ceil(args.num_train_epochs * (double)steps_per_epoch);
    if (args.max_steps > 0) total = args.max_steps;

    // ---- what a checkpoint remembers -----------------------------------------------------------
    // The order of rows is a function of seed and epoch, so the step is all there is to know of the
    // place in the data. MATCH_ values must be the same in the run that resumes.
    int64_t step = 0, tokens_seen = 0, batch_rows = rows_per_step, shuffle = args.shuffle_dataset;
    uint64_t data_hash = dataset_hash(&train);
    uint64_t training_hash = flags_hash(flags, COUNT(flags), "training");
    Window window = {0};
    const StateField state[] = {
        STATE_I64("step", &step),
        STATE_I64("num_tokens", &tokens_seen),
        STATE_F64("window.loss", &window.loss),
        STATE_F64("window.entropy", &window.entropy),
        STATE_I64("window.steps", &window.steps),
        STATE_I64("window.correct", &window.correct),
        STATE_I64("window.count", &window.count),
        MATCH_I64("seed", &args.seed, "--seed"),
        MATCH_I64("total_steps", &total, "--max_steps and --num_train_epochs"),
        MATCH_I64("rows_per_step", &batch_rows,
                  "--per_device_train_batch_size and --gradient_accumulation_steps"),
        MATCH_I64("shuffle_dataset", &shuffle, "--shuffle_dataset"),
        MATCH_U64("data_hash", &data_hash, "--dataset, --max_length and what else makes the rows"),
        MATCH_F64("learning_rate", &args.learning_rate, "--learning_rate"),
        MATCH_U64("training", &training_hash,
                  "the flags under `training` in --help; run.json has their earlier values"),
    };
    if (resume) {
        checkpoint_resume(&output, &model, state, COUNT(state));
        printf("resumed at step %" PRId64 " of %" PRId64 "\n", step, total);
    }
    Text run_json = {0};
    flags_json(&run_json, flags, COUNT(flags));
    char *config_path =
        model_dir ? path_join(model_dir, "config.json") : text_copy(args.model_config);
    output_start(&output, run_json.data, config_path);
    free(config_path), text_free(&run_json);
    MetricsLog log;
    log_open(&log, output.metrics_path, output.metrics_bytes);
    stop_on_signals();

    Batch prompts = sample_prompts(eval.n ? &eval : &train, args.samples);
    if (eval.n && !resume) evaluate(&model, &eval, args.per_device_eval_batch_size, &log, 0, 0);
    const SampleOptions sampling = {.max_new_tokens = args.max_new_tokens,
                                    .temperature = 1,
                                    .top_p = 1,
                                    .eos_id = tokenizer.eos_id,
                                    .vocab_size = tokenizer.vocab_size,
                                    .seed = (uint64_t)args.seed};
    if (!resume)
        texts_show(&model, &tokenizer, &prompts, args.samples, &sampling, "before training");

    // ---- train ---------------------------------------------------------------------------------
    const AdamW adamw = {args.adam_beta1,   args.adam_beta2,           args.adam_epsilon,
                         args.weight_decay, !args.no_decay_embeddings, false};
    Batch batch = {0};
    float *logp = mem_floats((size_t)B * (size_t)options.max_length);
    float *dlogp = mem_floats((size_t)B * (size_t)options.max_length);
    int *order = mem_alloc((size_t)train.n, sizeof *order);
    int64_t epoch_of_order = -1, saved_step = step;
    const int64_t first_step = step, first_tokens = tokens_seen;
    const double began = seconds_now();
    while (step < total && !stop_signal) {
        // the rows of this update, and the number of their tokens in the loss
        const int64_t epoch = step / steps_per_epoch, at = step % steps_per_epoch * rows_per_step;
        if (epoch != epoch_of_order) {
            rng_permutation(order, train.n, (uint64_t)args.seed, (uint64_t)epoch);
            for (int i = 0; i < train.n && !args.shuffle_dataset; i++) order[i] = i;
            epoch_of_order = epoch;
        }
        const int *rows = order + at;
        const int n_rows = (int)(train.n - at < rows_per_step ? train.n - at : rows_per_step);
        long M = 0;
        for (int i = 0; i < n_rows; i++) M += dataset_row_mask(&train, rows[i]);

        // forward and backward, B rows at a time; gradients accumulate
        double loss = 0;
        for (int i = 0; i < n_rows; i += B) {
            dataset_batch(&batch, &train, rows + i, n_rows - i < B ? n_rows - i : B);
            sft_loss_backward(dlogp, batch.mask, batch.N, M);
            gpt2_forward(&model, &batch);
            HeadStats stats = lm_head_forward_backward(&model, logp, dlogp);
            gpt2_backward(&model);
            loss += sft_loss_forward(logp, batch.mask, batch.N, M);
            window.entropy += stats.entropy;
            window.correct += stats.correct, window.count += stats.count;
            tokens_seen += batch.N;
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
        window.loss += loss, window.steps++;

        // log
        const bool last = step == total;
        const double epochs =
            epochs_done(step, steps_per_epoch, batches_per_epoch, args.gradient_accumulation_steps);
        if (step % args.logging_steps == 0 || last) {
            const double mean = window.loss / (double)window.steps;
            const double seconds = seconds_now() - began;
            const double speed = (double)(tokens_seen - first_tokens) / seconds;
            char left[32];
            time_format(left, seconds / (double)(step - first_step) * (double)(total - step));
            log_number(&log, "step", (double)step);
            log_number(&log, "epoch", epochs);
            log_number(&log, "loss", mean);
            log_number(&log, "perplexity", exp(mean));
            log_number(&log, "entropy", window.entropy / (double)window.count);
            log_number(&log, "mean_token_accuracy", (double)window.correct / (double)window.count);
            log_number(&log, "grad_norm", norm);
            log_number(&log, "learning_rate", lr);
            log_number(&log, "num_tokens", (double)tokens_seen);
            log_write(&log);
            progress_clear();
            printf("step %5" PRId64 "/%" PRId64 "  loss %7.4f  perplexity %8.2f  norm %6.3f  "
                   "lr %.2e  %8.0f tokens/s  left %s\n",
                   step, total, mean, exp(mean), norm, lr, speed, left);
            window = (Window){0};
        }
        if (eval.n && ((args.eval_steps && step % args.eval_steps == 0) || last))
            evaluate(&model, &eval, args.per_device_eval_batch_size, &log, step, epochs);
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
        char spent[32];
        printf("%s, peak memory %.0f MB\n", time_format(spent, seconds_now() - began),
               memory_peak_mb());
        printf("model: %s/final   metrics: %s/metrics.jsonl\n", args.output_dir, args.output_dir);
        output_finish(&output, &model, &tokenizer);
    }
    log_close(&log);

    gpt2_free(&model), tokenizer_free(&tokenizer), dataset_free(&train), dataset_free(&eval);
    batch_free(&batch), batch_free(&prompts), free(logp), free(dlogp), free(order);
    flags_free(flags, COUNT(flags));
    return stopped ? 128 + stopped : 0;
}
