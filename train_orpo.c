// train_orpo.c: odds ratio preference optimisation (ORPO) of GPT-2. Build it:
//
// cc -O3 -march=native -fno-math-errno -fopenmp train_orpo.c -o train_orpo -lopenblas -lcjson -lm
//
// Fine-tuning and learning from pairs of completions in one, without a reference model. With a the
// mean of log pi over a completion's tokens, P = e^a and odds(P) = P / (1 - P), the loss is
//
//     NLL(chosen) + beta * mean over pairs of L_OR
//     L_OR = -log sigmoid(log_odds),   log_odds = log odds(P_chosen) - log odds(P_rejected)
//
// (Hong et al. 2024, eqs. 6 and 7; beta is their lambda; losses.h). The first term teaches what was
// chosen, and keeps the model near sense; the second pushes the rejected one below it, which
// resembles the chosen one and would become likelier with it.
//
// Where to look: pairs_loss is the loss and its gradient, the loop in main is the algorithm. What
// surrounds it (flags, order, log, checkpoints) is in lib/run/run.h.
//
// Without arguments it trains the model in data/sft on preferences between film reviews.
#include "losses.h"               // defines: orpo_point, L_OR and its slopes
#include "model.h"                // defines: GPT2, Rows, rows_forward, rows_backward
#include "lib/base/flags.h"       // defines: FLAG
#include "lib/data/preferences.h" // defines: PieceSet (pairs), pairs_batch
#include "lib/run/meter.h"        // defines: Meter, meter_add
#include "lib/run/run.h"          // defines: Run, RunArgs, run_next, run_update, ...

// The run without arguments: a tiny model wants larger steps than GPT-2 does.
static const char preset[] =
    "--model data/sft --dataset data/prefs_train.jsonl --eval_dataset data/prefs_eval.jsonl "
    "--output_dir out/orpo --num_train_epochs 1 --per_device_train_batch_size 32 "
    "--per_device_eval_batch_size 64 --learning_rate 0.003 --lr_scheduler_type cosine "
    "--warmup_steps 20 --adam_beta2 0.98 --beta 2 --logging_steps 20 --eval_steps 100 "
    "--save_steps 0 --eval_prompts 500 --gold";

// Names and defaults are those of TRL's ORPOConfig and transformers' TrainingArguments.
static struct {
    RunArgs run; // flags that other programs have, too
    const char *nll;
    double beta;
} args = {
    .run = {RUN_DEFAULTS, .output_dir = "out/orpo", .learning_rate = 1e-6, .num_train_epochs = 3,
            .logging_steps = 10, .max_new_tokens = 60},
    .nll = "completion",
    .beta = 0.1,
};

static Flag flags[] = {
    RUN_FLAGS_MODEL(args.run, "directory in Hugging Face format to start from"),
    RUN_FLAGS_DATA(args.run, "JSONL with chosen, rejected, and prompt unless it is in both",
                   "the same for evaluation"),
    RUN_FLAGS_PIECES(args.run),
    RUN_FLAGS_ROWS(args.run, "pairs", "cut the prompt from the left, or the completion (TRL)"),
    FLAG_HEADING_KEPT("preferences"),
    FLAG(args, beta, 0, 1e9, "weight of the odds ratio loss, the paper's lambda (0: SFT)"),
    FLAG_CHOICE(args, nll, "completion|all",
                "NLL of the chosen completions' tokens (paper), or of their prompts', too (TRL)"),
    FLAG_HEADING_KEPT("training"),
    RUN_FLAGS_EPOCHS(args.run, "pairs"),
    RUN_FLAGS_OPTIMIZER(args.run),
    RUN_FLAGS_OUTPUT(args.run, "gets final/, checkpoint-N/, metrics.jsonl, run.json"),
    RUN_FLAGS_EVAL(args.run, "pairs"),
    RUN_FLAG_SAMPLES(args.run),
    RUN_FLAG_LENGTH(args.run),
    RUN_FLAGS_MEASURE(args.run),
    TRL_FLAGS_ORPO,
};

// What is logged, under TRL's names: means over pairs; LOGIT_* (the mean logit of the vocabulary)
// over tokens of completions, where TRL takes prompts and padding, too; ENTROPY over all tokens
// that have a log-prob, with --nll all the prompts', too. LOG_ODDS_RATIO is -L_OR. A reward is
// beta a: there is no reference to compare with. ACCURACY: the chosen one is the greater.
// clang-format off
enum { LOSS, NLL, LOG_ODDS_RATIO, LOG_ODDS_CHOSEN, CHOSEN, REJECTED, MARGINS, ACCURACY, LOGP_CHOSEN,
       LOGP_REJECTED, LOGIT_CHOSEN, LOGIT_REJECTED, ENTROPY, METRICS };
static const char *const metric_names[METRICS] = {
    "loss", "nll_loss", "log_odds_ratio", "log_odds_chosen", "rewards/chosen", "rewards/rejected",
    "rewards/margins", "rewards/accuracies", "logps/chosen", "logps/rejected", "logits/chosen",
    "logits/rejected", "entropy"};
// clang-format on
static const char shown[] = "loss nll_loss rewards/accuracies log_odds_chosen"; // on the terminal

// ------------------------------------------------------------------------------------------------

// True if the NLL has the prompts' tokens, too: as TRL and the authors' code, where the paper has
// the completion and its EOS only.
static bool with_prompts(void) { return !strcmp(args.nll, "all"); }

// Tokens of pair i that the NLL has. A prompt's first one is predicted by nothing. The rejected
// completion never has an NLL.
static int64_t pair_nll_tokens(const PieceSet *d, int i) {
    const size_t *start = d->start + 3 * (size_t)i; // of prompt, chosen and rejected
    return (int64_t)(with_prompts() ? start[2] - start[0] - 1 : start[2] - start[1]);
}

// Fill a batch with n pairs. Rows 3i, 3i + 1 and 3i + 2 are the prompt of pair i and what continues
// it, the chosen and the rejected completion. The prompt goes through the model once, so with
// --nll all its tokens count once, as those of the chosen row do in TRL.
static void pairs_rows(Batch *b, const PieceSet *d, const int *pairs, int n) {
    pairs_batch(b, d, pairs, n, true);
    if (!with_prompts()) return;
    for (int r = 0; r < b->R; r += 3)
        memset(b->mask + b->row_start[r] + 1, 1, (size_t)(batch_row_length(b, r) - 1));
}

// The loss of n pairs, as a part of an update that has `total` pairs with M tokens in the NLL, and
// its gradient with respect to log pi of every row, in rows->dsum. Both are divided by what the
// whole update has, so it does not matter how it is split. In the NLL every token weighs the same,
// as in TRL and the authors' code, which divide within each split; the paper's eq. 2 takes each
// completion's mean first. Training and evaluation both come here.
static double pairs_loss(Rows *rows, const Batch *b, int n, int total, int64_t M, Meter *meter) {
    double loss = 0;
    for (int i = 0; i < n; i++) {
        const int p = 3 * i, c = p + 1, j = p + 2; // rows: prompt, chosen and rejected completion
        const float T_c = (float)rows->count[c], T_j = (float)rows->count[j];
        const float a_c = rows->sum[c] / T_c, a_j = rows->sum[j] / T_j;
        // beta L_OR: orpo_point gives its slopes with respect to a, and da / d log pi = 1 / T
        double log_odds, slope_c, slope_j;
        const double l = orpo_point(&slope_c, &slope_j, &log_odds, a_c, a_j);
        rows->dsum[c] = (float)(args.beta * slope_c / total) / T_c;
        rows->dsum[j] = (float)(args.beta * slope_j / total) / T_j;
        // NLL: the mean of -log pi over M tokens; the prompt's sum is 0 without --nll all
        const double nll = -((double)rows->sum[p] + rows->sum[c]) / (double)M;
        rows->dsum[p] = (float)(-1 / (double)M);
        rows->dsum[c] -= (float)(1 / (double)M);
        loss += nll + args.beta * l / total;

        const HeadStats chosen = row_stats(rows->tokens, b, c);
        const HeadStats rejected = row_stats(rows->tokens, b, j);
        meter_add(meter, NLL, nll, 0);
        meter_add(meter, LOG_ODDS_RATIO, -l, 1);
        meter_add(meter, LOG_ODDS_CHOSEN, log_odds, 1);
        meter_add(meter, CHOSEN, args.beta * a_c, 1);
        meter_add(meter, REJECTED, args.beta * a_j, 1);
        meter_add(meter, MARGINS, args.beta * ((double)a_c - a_j), 1);
        meter_add(meter, ACCURACY, a_c > a_j, 1);
        meter_add(meter, LOGP_CHOSEN, a_c, 1);
        meter_add(meter, LOGP_REJECTED, a_j, 1);
        meter_add(meter, LOGIT_CHOSEN, chosen.logit, (double)chosen.count);
        meter_add(meter, LOGIT_REJECTED, rejected.logit, (double)rejected.count);
    }
    meter_add(meter, ENTROPY, rows->stats.entropy, (double)rows->stats.count);
    return loss;
}

// Loss and metrics over all pairs of a set: a row of the log.
static void evaluate(Run *run, GPT2 *model, const PieceSet *data, Rows *rows) {
    Meter meter = {.n = METRICS, .names = metric_names};
    Batch batch = {0};
    EvalPass pass = {0};
    int64_t M = 0;
    for (int i = 0; i < data->n; i++) M += pair_nll_tokens(data, i);
    double loss = 0;
    while (run_eval_next(run, &pass, data->n, "pairs")) {
        pairs_rows(&batch, data, pass.examples, pass.n);
        rows_forward(rows, model, &batch);
        loss += pairs_loss(rows, &batch, pass.n, data->n, M, &meter);
    }
    meter_add(&meter, LOSS, loss, 1);
    meter_add(&meter, NLL, 0, 1);
    run_log_eval(run, &meter, shown);
    batch_free(&batch);
}

int main(int argc, char **argv) {
    Run run;
    run_begin(&run, &args.run, argc, argv, flags, COUNT(flags),
              "odds ratio preference optimisation of GPT-2", preset);
    run_open(&run);

    // the model, and pairs
    GPT2 model;
    run_model(&run, &model);
    PieceSet train, eval;
    const DataOptions options = run_data_options(&run, run_context(&model, NULL));
    run_pieces(&run, &train, &eval, PAIRS, &options);

    // updates and their order; go on from a checkpoint; from here on the disk is written
    Meter meter = {.n = METRICS, .names = metric_names};
    run_schedule(&run, train.n);
    run_start(&run, &model, &meter);
    run_train_begin(&run, &model);

    // before training; texts are measured against the model that training starts from
    Rows rows = {0};
    run.measured_to = "starting model";
    run_prompts(&run, eval.n ? &eval : &train);
    if (eval.n && run_fresh(&run)) evaluate(&run, &model, &eval, &rows);
    run_before(&run, &model, NULL, NULL);

    Batch batch = {0};
    while (run_next(&run)) { // run.examples (run.n): the pairs of this update
        int64_t M = 0;       // their tokens in the NLL
        for (int i = 0; i < run.n; i++) M += pair_nll_tokens(&train, run.examples[i]);

        // forward and backward, some pairs at a time; gradients accumulate
        double loss = 0;
        for (int first = 0, n; first < run.n; first += n) {
            const int *pairs = run.examples + first;
            n = run_split(&run, first);
            pairs_rows(&batch, &train, pairs, n);
            rows_forward(&rows, &model, &batch); // rows.sum[r] = log pi of row r's tokens
            loss += pairs_loss(&rows, &batch, n, run.n, M, &meter);
            rows_backward(&rows, &model); // from rows.dsum
            for (int i = 0; i < n; i++) run.num_tokens += pair_tokens(&train, pairs[i]);
        }
        run_update(&run, &model, loss); // clip, AdamW
        meter_add(&meter, LOSS, loss, 1);
        meter_add(&meter, NLL, 0, 1);

        run_log(&run, &meter, shown, "pairs");
        if (eval.n && run_eval_due(&run)) evaluate(&run, &model, &eval, &rows);
        run_save(&run, &model);
    }
    run_after(&run, &model, NULL);
    const int code = run_end(&run, &model);

    gpt2_free(&model);
    pieces_free(&train);
    pieces_free(&eval);
    rows_free(&rows);
    batch_free(&batch);
    return code;
}
