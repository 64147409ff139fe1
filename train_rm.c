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
// (Ziegler et al. 2019; Stiennon et al. 2020; losses.h).
//
// Where to look: pairs_loss is the loss and its gradient, the loop in main is the algorithm. What
// surrounds it (flags, order, log, checkpoints) is in lib/run/run.h.
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
// Without arguments it trains on preferences between film reviews, beginning with the model in
// data/sft. `score` scores a file with the model that comes out.
#include "losses.h"               // defines: reward_point, l of a pair of scores and its slopes
#include "model.h"                // defines: GPT2, value_head_forward, value_head_backward
#include "lib/base/flags.h"       // defines: FLAG
#include "lib/base/stats.h"       // defines: binomial_interval, mean_of
#include "lib/data/preferences.h" // defines: PairSet, pairs_batch, pair_row
#include "lib/files/pretrained.h" // defines: model_load_scored
#include "lib/run/before_after.h" // defines: prompts_complete, prompts_slice
#include "lib/run/meter.h"        // defines: Meter, meter_add
#include "lib/run/run.h"          // defines: Run, RunArgs, run_next, run_update, ...

// The run without arguments: a tiny model wants larger steps than GPT-2 does.
static const char preset[] =
    "--model data/sft --dataset data/prefs_train.jsonl --eval_dataset data/prefs_eval.jsonl "
    "--output_dir out/rm --num_train_epochs 4 --per_device_train_batch_size 32 "
    "--per_device_eval_batch_size 64 --learning_rate 0.002 --lr_scheduler_type cosine "
    "--warmup_steps 20 --weight_decay 0.1 --adam_beta2 0.98 --logging_steps 50 --eval_steps 250 "
    "--save_steps 0 --normalize_rewards 1000";

// Names and defaults are those of TRL's RewardConfig and transformers' TrainingArguments.
static struct {
    RunArgs run; // flags that other programs have, too
    const char *score_init, *normalize_model;
    bool reward_eos;
    double center_rewards_coefficient, temperature;
    int normalize_rewards;
} args = {
    .run = {RUN_DEFAULTS, .output_dir = "out/rm", .learning_rate = 1e-4, .num_train_epochs = 3,
            .logging_steps = 10, .max_new_tokens = 60},
    .score_init = "random",
    .temperature = 1,
};

static Flag flags[] = {
    RUN_FLAGS_MODEL(args.run, "directory in Hugging Face format, a language or a reward model"),
    RUN_FLAGS_DATA(args.run,
                   "JSONL with chosen, rejected, prompt unless it is in both, and maybe margin",
                   "the same for evaluation"),
    RUN_FLAGS_ROWS(args.run, "pairs", "cut the prompt of what is too long, or skip it (TRL)"),
    RUN_FLAG_SHARE(args.run),
    FLAG_HEADING_KEPT("reward"),
    FLAG_CHOICE(args, score_init, "random|zero",
                "a new score.weight: N(0, 1 / (n_embd + 1)) by --seed, or 0"),
    FLAG(args, center_rewards_coefficient, 0, 1e6,
         "weight of (R_chosen + R_rejected)^2, which keeps the mean near 0"),
    FLAG_HEADING("normalisation"),
    FLAG(args, normalize_rewards, 0, 1e6,
         "samples on which scores get mean 0 and variance 1 (0: leave them)"),
    FLAG_TEXT(args, normalize_model, "whose samples (none: --model's)"),
    FLAG_SWITCH(args, reward_eos, "those that were cut are scored as if EOS came after them"),
    RUN_FLAG_LENGTH(args.run),
    FLAG(args, temperature, 0.01, 100, "their temperature"),
    FLAG_HEADING_KEPT("training"),
    RUN_FLAGS_EPOCHS(args.run, "pairs"),
    RUN_FLAGS_OPTIMIZER(args.run),
    RUN_FLAGS_OUTPUT(args.run, "gets final/, checkpoint-N/, metrics.jsonl, run.json"),
    RUN_FLAGS_EVAL(args.run, "pairs"),
    FLAG_GONE("score", "./score --dataset FILE --model DIR scores a file"),
    FLAG_GONE("output", "it is a flag of ./score, which scores a file"),
    FLAG_GONE("overwrite_output", "it is a flag of ./score, which scores a file"),
    TRL_FLAGS_RM,
};

// What is logged, under TRL's names: means over pairs, ACCURACY: the chosen score is the greater;
// MEAN of both sides' scores. LOSS, MIN and MAX (of an update's scores) are means over updates. An
// evaluation has the 90 % interval of its accuracy and the error of calibration, too.
// clang-format off
enum { LOSS, ACCURACY, MARGIN, MIN, MEAN, MAX, ACCURACY_LOW, ACCURACY_HIGH, CALIBRATION_ERROR,
       METRICS };
static const char *const metric_names[METRICS] = {
    "loss", "accuracy", "margin", "min_reward", "mean_reward", "max_reward", "accuracy_low",
    "accuracy_high", "calibration_error"};
// clang-format on
static const char shown[] = "loss margin accuracy accuracy_low accuracy_high"; // on the terminal

// The scalar at each token of a batch and the loss's gradient with respect to it.
typedef struct {
    float *value, *dvalue; // (N)
} Values;

// ------------------------------------------------------------------------------------------------

// The token at which the score of row r is read: its last one, EOS.
static int score_token(const Batch *b, int r) { return b->row_start[r + 1] - 1; }

// The scalar at every token of the batch.
static void values_forward(Values *v, GPT2 *model, const Batch *b) {
    gpt2_forward(model, b);
    value_head_forward(model, v->value);
}

// The loss of n pairs, as a part of an update of `total`, and its gradient with respect to the scalar
// at every token, in v->dvalue: only the two tokens of a pair at which scores are read have one. Loss
// and gradient are divided by the pairs of the whole update, so it does not matter how it is split.
// range: the smallest and the largest score so far. Training and evaluation both come here.
static double pairs_loss(Values *v, const Batch *b, const PairSet *data, const int *pairs, int n,
                         int total, double range[2], Meter *meter) {
    double loss = 0;
    memset(v->dvalue, 0, (size_t)b->N * sizeof(float));
    for (int i = 0; i < n; i++) {
        const int c = score_token(b, pair_row(b, i)); // of the chosen completion
        const int j = score_token(b, pair_row(b, i) + 1);
        const double R_c = v->value[c], R_j = v->value[j];
        const double margin = data->margin ? data->margin[pairs[i]] : 0;
        double dR_c, dR_j; // l = -log sigmoid(R_c - R_j - margin) + center (R_c + R_j)^2
        loss +=
            reward_point(&dR_c, &dR_j, R_c, R_j, margin, args.center_rewards_coefficient) / total;
        v->dvalue[c] = (float)(dR_c / total);
        v->dvalue[j] = (float)(dR_j / total);

        range[0] = fmin(range[0], fmin(R_c, R_j));
        range[1] = fmax(range[1], fmax(R_c, R_j));
        meter_add(meter, ACCURACY, R_c > R_j, 1);
        meter_add(meter, MARGIN, R_c - R_j, 1); // the column margin is not taken off
        meter_add(meter, MEAN, (R_c + R_j) / 2, 1);
    }
    return loss;
}

// ------------------------------------------------------------------------------------------------
// Evaluation

// How often people agree with the model, by the probability that it gives the side it prefers.
static void calibration_print(const Calibration *c) {
    printf("calibration, error %.3f:\n     pairs  predicted  right (90%% interval)\n",
           calibration_error(c));
    for (int i = 0; i < CALIBRATION_BINS; i++) {
        if (!c->n[i]) continue;
        const Interval interval = binomial_interval(c->right[i], c->n[i], 0.9);
        printf("  %8.0f      %.3f  %.3f (%.3f to %.3f)\n", c->n[i], c->predicted[i] / c->n[i],
               c->right[i] / c->n[i], interval.low, interval.high);
    }
}

// Loss and metrics over all pairs of a set: a row of the log. After training the table of
// calibration, too.
static void evaluate(Run *run, GPT2 *model, const PairSet *data, Values *v) {
    Meter meter = {.n = METRICS, .names = metric_names};
    Calibration calibration = {0};
    double range[2] = {INFINITY, -INFINITY}; // of scores
    Batch batch = {0};
    EvalPass pass = {0};
    double loss = 0;
    while (run_eval_next(run, &pass, data->n, "pairs")) {
        pairs_batch(&batch, data, pass.examples, pass.n, args.run.share_prompt);
        values_forward(v, model, &batch);
        loss += pairs_loss(v, &batch, data, pass.examples, pass.n, data->n, range, &meter);
        for (int i = 0; i < pass.n; i++) {
            const int r = pair_row(&batch, i);
            const double gap =
                (double)v->value[score_token(&batch, r)] - v->value[score_token(&batch, r + 1)];
            // is sigmoid(R - R') the share of pairs that people decide like that? Whichever side was
            // chosen, the model prefers one with a probability of 0.5 to 1. A tie is right by half.
            calibration_add(&calibration, sigmoid(fabs(gap)), gap > 0 ? 1 : gap < 0 ? 0 : 0.5);
        }
    }
    const Interval accuracy = binomial_interval(meter.sum[ACCURACY], data->n, 0.9);
    meter_set(&meter, LOSS, loss);
    meter_set(&meter, MIN, range[0]);
    meter_set(&meter, MAX, range[1]);
    meter_set(&meter, ACCURACY_LOW, accuracy.low);
    meter_set(&meter, ACCURACY_HIGH, accuracy.high);
    meter_set(&meter, CALIBRATION_ERROR, calibration_error(&calibration));
    run_log_eval(run, &meter, shown);
    if (run->done == run->part) calibration_print(&calibration);
    batch_free(&batch);
}

// ------------------------------------------------------------------------------------------------
// Normalisation

// Let the language model of --normalize_model complete --normalize_rewards prompts, drawn from the
// pairs' by --seed. Rows have at most max_length tokens; prompts lose their beginnings for that.
static void samples_make(Batch *samples, const Run *run, const PairSet *data, int max_length) {
    const char *dir = args.normalize_model ? args.normalize_model : args.run.model;
    const Tokenizer *t = &run->tokenizer;
    SampleOptions o = {.max_new_tokens = args.run.max_new_tokens,
                       .temperature = (float)args.temperature,
                       .top_p = 1,
                       .eos_id = t->eos_id,
                       .vocab_size = t->vocab_size,
                       .seed = (uint64_t)args.run.seed};
    GPT2 policy;
    model_load(&policy, dir);
    if (t->pad_id == t->vocab_size - 1) o.vocab_size--; // [PAD] may be no token of this model
    if (policy.config.vocab_size < o.vocab_size)
        die(EXIT_BAD_INPUT, "%s: vocab_size %d, the tokenizer has %d tokens", dir,
            policy.config.vocab_size, o.vocab_size);
    if (policy.config.n_positions < max_length) max_length = policy.config.n_positions;
    if (o.max_new_tokens > max_length / 2) o.max_new_tokens = max_length / 2;
    const size_t room = (size_t)(max_length - o.max_new_tokens); // for a prompt
    int *order = mem_alloc((size_t)data->n, sizeof *order), ended = 0;
    Batch prompts = {0}, sampled = {0};
    rng_permutation(order, data->n, o.seed, 0);
    for (int i = 0; i < args.normalize_rewards; i++) {
        const size_t *start = data->start + 3 * (size_t)order[i % data->n];
        const size_t length = start[1] - start[0], cut = length > room ? length - room : 0;
        batch_add_row(&prompts, data->tokens + start[0] + cut, NULL, (int)(length - cut));
    }
    prompts_complete(&sampled, &policy, &prompts, args.run.per_device_eval_batch_size, &o);
    for (int r = 0; r < sampled.R; r++) {
        const bool has_end = sampled.tokens[score_token(&sampled, r)] == o.eos_id;
        batch_copy_row(samples, &sampled, r);
        if (args.reward_eos && !has_end) batch_lengthen(samples, o.eos_id);
        ended += has_end;
    }
    printf("%s: %d samples, %d of them end with EOS\n", dir, samples->R, ended);
    batch_free(&prompts), batch_free(&sampled);
    gpt2_free(&policy);
    free(order);
}

// Mean and standard deviation of the samples' scores.
static double samples_score(double *deviation, GPT2 *model, Values *v, const Batch *samples) {
    const int B = args.run.per_device_eval_batch_size;
    double *scores = mem_alloc((size_t)samples->R, sizeof *scores);
    Batch batch = {0};
    for (int first = 0; first < samples->R; first += B) {
        prompts_slice(&batch, samples, first, samples->R - first < B ? samples->R : first + B);
        values_forward(v, model, &batch);
        for (int r = 0; r < batch.R; r++) scores[first + r] = v->value[score_token(&batch, r)];
    }
    const Mean mean = mean_of(scores, samples->R);
    *deviation = mean.error * sqrt(samples->R);
    batch_free(&batch);
    free(scores);
    return mean.mean;
}

// Make the score (R - mean) / deviation, for mean and deviation of the samples. With w' = w / deviation
// the head gives R / deviation, and adding d to ln_f.bias adds w' . d: d = -(mean / deviation) w' /
// |w'|^2 is the shortest that will do. Nothing but the head reads what comes out of ln_f.
static void rewards_normalize(Run *run, GPT2 *model, Values *v, const Batch *samples) {
    const int C = model->config.n_embd;
    double squares = 0, deviation, mean = samples_score(&deviation, model, v, samples);
    printf("scores of the samples: mean %.4f, standard deviation %.4f; ", mean, deviation);
    log_number(&run->log, "step", (double)run->step);
    log_number(&run->log, "samples/mean", mean);
    log_number(&run->log, "samples/deviation", deviation);
    log_write(&run->log);
    if (!(deviation > 0)) {
        printf("cannot be normalised\n");
        return;
    }
    for (int c = 0; c < C; c++) {
        const double w = model->w.score[c] / deviation;
        model->w.score[c] = (float)w;
        squares += w * w;
    }
    for (int c = 0; c < C; c++)
        model->w.ln_f_b[c] -= (float)(mean / deviation * model->w.score[c] / squares);
    mean = samples_score(&deviation, model, v, samples);
    printf("normalised: %.4f, %.4f\n", mean, deviation);
}

int main(int argc, char **argv) {
    Run run;
    run_begin(&run, &args.run, argc, argv, flags, COUNT(flags),
              "a reward model from preferences, on GPT-2", preset);
    if (!args.run.model) die(EXIT_USAGE, "--model is needed; see --help");
    if (args.normalize_model && !args.normalize_rewards)
        die(EXIT_USAGE, "--normalize_model needs --normalize_rewards");
    if (args.reward_eos && !args.normalize_rewards)
        die(EXIT_USAGE, "--reward_eos needs --normalize_rewards: training rows end with EOS");
    if (args.normalize_rewards == 1) die(EXIT_USAGE, "--normalize_rewards 1: needs 2 at least");
    run_open(&run);

    // a language or a reward model; its tokenizer, which may get a padding token
    GPT2 model;
    tokenizer_load(&run.tokenizer, run.resume ? run.model_dir : run.tokenizer_dir);
    model_load_scored(&model, &run.tokenizer, run.model_dir, args.score_init,
                      (uint64_t)args.run.seed);
    run_describe(&model);
    printf("padding token %d\n", model.config.pad_token_id);

    // pairs; samples to normalise on, made now so that what is wrong with them comes to light, and so
    // that the model that makes them has left before training takes memory
    PairSet train, eval;
    DataOptions options = run_data_options(&run, run_context(&model, NULL));
    options.whole = true; // completions keep their ends, where the score is read
    options.margins = true;
    run_pieces(&run, &train, &eval, PAIRS, &options);
    Batch samples = {0};
    if (args.normalize_rewards) samples_make(&samples, &run, &train, options.max_length);

    // updates and their order; go on from a checkpoint; from here on the disk is written
    Meter meter = {.n = METRICS, .names = metric_names};
    run_schedule(&run, train.n);
    run_start(&run, &model, &meter);
    run_train_begin(&run, &model);

    // room for as many tokens as a batch can have; before training
    const int B = args.run.per_device_train_batch_size,
              eval_B = args.run.per_device_eval_batch_size;
    const size_t N = 2 * (size_t)(B > eval_B ? B : eval_B) * (size_t)options.max_length;
    Values values = {mem_floats(N), mem_floats(N)};
    if (eval.n && run_fresh(&run)) evaluate(&run, &model, &eval, &values);

    Batch batch = {0};
    while (run_next(&run)) { // run.examples (run.n): the pairs of this update
        // forward and backward, some pairs at a time; gradients accumulate
        double loss = 0;
        double range[2] = {INFINITY, -INFINITY}; // of scores
        for (int first = 0, n; first < run.n; first += n) {
            const int *pairs = run.examples + first;
            n = run_split(&run, first);
            pairs_batch(&batch, &train, pairs, n, args.run.share_prompt);
            values_forward(&values, &model, &batch);
            loss += pairs_loss(&values, &batch, &train, pairs, n, run.n, range, &meter);
            value_head_backward(&model, values.dvalue);
            gpt2_backward(&model);
            for (int i = 0; i < n; i++) run.num_tokens += pair_tokens(&train, pairs[i]);
        }
        run_update(&run, &model, loss); // clip, AdamW
        meter_add(&meter, LOSS, loss, 1);
        meter_add(&meter, MIN, range[0], 1);
        meter_add(&meter, MAX, range[1], 1);

        run_log(&run, &meter, shown, "pairs");
        if (eval.n && run_eval_due(&run)) evaluate(&run, &model, &eval, &values);
        run_save(&run, &model);
    }
    if (args.normalize_rewards && !run.stopped) rewards_normalize(&run, &model, &values, &samples);
    const int code = run_end(&run, &model);

    gpt2_free(&model);
    pieces_free(&train);
    pieces_free(&eval);
    batch_free(&batch);
    batch_free(&samples);
    free(values.value);
    free(values.dvalue);
    return code;
}
