// train_dpo.c: direct preference optimisation (DPO) of GPT-2, also IPO and other kin. Build it:
//
// cc -O3 -march=native -fno-math-errno -fopenmp train_dpo.c -o train_dpo -lopenblas -lcjson -lm
//
// Learns from pairs of completions of the same prompt x, of which people chose one and rejected the
// other. With the log-ratio r = log pi(y|x) - log ref(y|x) to a frozen reference, the loss is the
// mean over pairs of
//
//     l(h),   h = r_chosen - r_rejected;   with u = beta h and e = label_smoothing, by loss_type:
//
//     sigmoid   -(1-e) log sigmoid(u) - e log sigmoid(-u)              DPO (e = 0); cDPO
//     robust    (-(1-e) log sigmoid(u) + e log sigmoid(-u)) / (1-2e)   robust DPO
//     hinge     max(0, 1 - u)                                          SLiC, RSO
//     ipo_sum   (h - 1/(2 beta))^2                                     IPO
//     ipo       the same, each r divided by its completion's length    IPO as TRL has it
//
// and sft_weight (0) times the mean of -log pi over the chosen tokens (RPO). (DPO: Rafailov et al. 2023,
// eq. 7; losses.h names the other papers and has the slopes.) DPO's minimum is the policy at which RLHF
// would end: the reference times exp(reward / beta), for the reward that explains the choices. But no
// reward model is trained, and nothing is sampled to learn from.
//
// Where to look: pairs_loss is the loss and its gradient, the loop in main is the algorithm. What
// surrounds it (flags, order, log, checkpoints) is in lib/run/run.h. An update takes
// per_device_train_batch_size times gradient_accumulation_steps pairs, the first number at a time.
//
// log pi(y|x) is the sum over y's tokens, its end-of-text token too: those have mask 1 in the batch.
// The prompt's tokens are only read. They have no term in the loss, and no logits are made for them;
// with share_prompt they go through the model once for both completions. In a row longer than
// max_length the prompt loses its beginning, down to half of max_length (with the default
// truncation_mode); a completion still too long loses its end, EOS too, and log pi(y|x) is the sum over
// what is left.
//
// Without arguments it trains the model in data/sft on preferences between film reviews.
#include "losses.h"               // defines: dpo_point, l(h) and its slope
#include "model.h"                // defines: GPT2, Rows, rows_forward, rows_backward
#include "lib/base/flags.h"       // defines: FLAG
#include "lib/data/preferences.h" // defines: PieceSet (pairs), pairs_batch, pair_row
#include "lib/run/meter.h"        // defines: Meter, meter_add
#include "lib/run/run.h"          // defines: Run, RunArgs, run_next, run_update, ...

// The run without arguments: a tiny model wants larger steps than GPT-2 does.
static const char preset[] =
    "--model data/sft --dataset data/prefs_train.jsonl --eval_dataset data/prefs_eval.jsonl "
    "--output_dir out/dpo --num_train_epochs 1 --per_device_train_batch_size 32 "
    "--per_device_eval_batch_size 64 --learning_rate 0.0005 --lr_scheduler_type cosine "
    "--warmup_steps 20 --adam_beta2 0.98 --logging_steps 20 --eval_steps 100 --save_steps 0 "
    "--eval_prompts 250 --gold";

// Names and defaults are those of TRL's DPOConfig and transformers' TrainingArguments.
static struct {
    RunArgs run; // flags that other programs have, too
    const char *loss_type;
    double beta, label_smoothing, sft_weight, ref_model_mixup_alpha;
    int ref_model_sync_steps;
    bool sync_ref_model;
} args = {
    .run = {RUN_DEFAULTS, .output_dir = "out/dpo", .learning_rate = 1e-6, .num_train_epochs = 3,
            .logging_steps = 10, .max_new_tokens = 60},
    .loss_type = "sigmoid",
    .beta = 0.1,
    .ref_model_mixup_alpha = 0.6,
    .ref_model_sync_steps = 512,
};

static Flag flags[] = {
    RUN_FLAGS_MODEL(args.run, "directory in Hugging Face format to start from"),
    RUN_FLAG_REFERENCE(args.run),
    RUN_FLAGS_DATA(args.run, "JSONL with chosen, rejected, and prompt unless it is in both",
                   "the same for evaluation"),
    RUN_FLAGS_PIECES(args.run),
    RUN_FLAGS_ROWS(args.run, "pairs", "cut the prompt from the left, or the completion (TRL)"),
    RUN_FLAG_SHARE(args.run),
    FLAG_HEADING_KEPT("preferences"),
    FLAG_CHOICE(args, loss_type, "sigmoid|ipo|ipo_sum|hinge|robust",
                "DPO; IPO of log-probs per token (as TRL) or of their sums (the paper)"),
    FLAG(args, beta, 1e-6, 1e6,
         "strength of the pull to the reference; for ipo 0.025 times a completion's tokens"),
    FLAG(args, label_smoothing, 0, 0.499999, "share of wrong labels: sigmoid becomes cDPO; robust"),
    FLAG(args, sft_weight, 0, 1e6, "weight of the NLL of the chosen tokens, as in RPO"),
    FLAG_SWITCH(args, sync_ref_model, "let the reference follow the policy (TR-DPO)"),
    FLAG(args, ref_model_mixup_alpha, 0, 1, "then ref = alpha policy + (1 - alpha) ref"),
    FLAG(args, ref_model_sync_steps, 1, 1e9, "every so many updates"),
    FLAG_HEADING_KEPT("training"),
    RUN_FLAGS_EPOCHS(args.run, "pairs"),
    RUN_FLAGS_OPTIMIZER(args.run),
    RUN_FLAGS_OUTPUT(args.run, "gets final/, checkpoint-N/, metrics.jsonl, run.json"),
    RUN_FLAGS_EVAL(args.run, "pairs"),
    RUN_FLAG_CACHE(args.run),
    RUN_FLAG_SAMPLES(args.run),
    RUN_FLAG_LENGTH(args.run),
    RUN_FLAGS_MEASURE(args.run),
    TRL_FLAGS_DPO,
};

// What is logged, under TRL's names, each a mean since the last line of the log. LOSS and NLL are means
// over updates; rewards (beta r, whatever the loss), ACCURACY (the chosen reward is the greater) and
// LOGP_* over pairs; LOGIT_* (the mean logit of the vocabulary) and ENTROPY (nats, both completions)
// over tokens of completions; TOKEN_ACCURACY is the share of the chosen completions' tokens that were
// the arg max. meter_add(meter, k, sum, weight): sum / weight is logged, nothing where weight is 0.
// clang-format off
enum { LOSS, CHOSEN, REJECTED, MARGINS, ACCURACY, LOGP_CHOSEN, LOGP_REJECTED, LOGIT_CHOSEN,
       LOGIT_REJECTED, ENTROPY, TOKEN_ACCURACY, NLL, METRICS };
static const char *const metric_names[METRICS] = {
    "loss", "rewards/chosen", "rewards/rejected", "rewards/margins", "rewards/accuracies",
    "logps/chosen", "logps/rejected", "logits/chosen", "logits/rejected", "entropy",
    "mean_token_accuracy", "nll_loss"};
// clang-format on
static const char shown[] = "loss rewards/margins rewards/accuracies"; // on the terminal

// ------------------------------------------------------------------------------------------------

// Tokens of pair i's chosen completion. (Pieces 3i, 3i + 1, 3i + 2 are prompt, chosen, rejected.) All
// of them are predicted, since no prompt is empty; and there are some, since an empty one is EOS.
static int64_t pair_chosen_tokens(const PieceSet *d, int i) {
    return (int64_t)(d->start[3 * (size_t)i + 2] - d->start[3 * (size_t)i + 1]);
}

// The loss of n pairs, as a part of an update that has `total` pairs with M chosen tokens, and its
// gradient with respect to log pi(y|x) of every row, in rows->dsum. ref (n, 2): log ref(y|x) of the
// chosen and the rejected completion. Loss and gradient are divided by what the whole update has, so
// it does not matter how it is split. Training and evaluation both come here.
static double pairs_loss(Rows *rows, const Batch *b, float (*ref)[2], int n, int total, int64_t M,
                         DpoLoss type, Meter *meter) {
    double loss = 0;
    for (int i = 0; i < n; i++) {
        const int c = pair_row(b, i), j = c + 1; // the rows of chosen and rejected completion
        const double r_c = (double)rows->sum[c] - ref[i][0];
        const double r_j = (double)rows->sum[j] - ref[i][1];
        // what log-ratios are divided by: their lengths in TRL's IPO
        const double T_c = type == DPO_IPO && rows->count[c] > 1 ? rows->count[c] : 1;
        const double T_j = type == DPO_IPO && rows->count[j] > 1 ? rows->count[j] : 1;
        const double h = r_c / T_c - r_j / T_j;
        // DPO: l = -log sigmoid(beta h), l' = -beta sigmoid(-beta h); the others are in losses.h.
        // dh / d log pi is 1 / T for the chosen completion, -1 / T for the rejected one.
        double slope;
        const double l = dpo_point(&slope, h, type, args.beta, args.label_smoothing);
        rows->dsum[c] = (float)(slope / T_c / total);
        rows->dsum[j] = (float)(-slope / T_j / total);
        // RPO's term: sft_weight times the mean of -log pi over the M chosen tokens
        const double nll = -rows->sum[c] / (double)M;
        rows->dsum[c] -= (float)(args.sft_weight / (double)M);
        loss += l / total + args.sft_weight * nll;

        const HeadStats chosen = row_stats(rows->tokens, b, c);
        const HeadStats rejected = row_stats(rows->tokens, b, j);
        meter_add(meter, CHOSEN, args.beta * r_c, 1);
        meter_add(meter, REJECTED, args.beta * r_j, 1);
        meter_add(meter, MARGINS, args.beta * (r_c - r_j), 1);
        meter_add(meter, ACCURACY, r_c > r_j, 1);
        meter_add(meter, LOGP_CHOSEN, rows->sum[c], 1);
        meter_add(meter, LOGP_REJECTED, rows->sum[j], 1);
        meter_add(meter, LOGIT_CHOSEN, chosen.logit, (double)chosen.count);
        meter_add(meter, LOGIT_REJECTED, rejected.logit, (double)rejected.count);
        meter_add(meter, ENTROPY, chosen.entropy + rejected.entropy,
                  (double)(chosen.count + rejected.count));
        meter_add(meter, TOKEN_ACCURACY, (double)chosen.correct, (double)chosen.count);
        meter_add(meter, NLL, nll, 0); // a part of the update's; its weight is added there
    }
    return loss;
}

// log ref(y|x) of n pairs into to (n, 2): from the table, or from the model where that is NULL.
static void pairs_reference(float (*to)[2], float (*table)[2], GPT2 *reference, Rows *rows,
                            const Batch *b, const int *pairs, int n) {
    if (!table) rows_forward(rows, reference, b);
    for (int i = 0; i < n; i++) {
        const int c = pair_row(b, i);
        to[i][0] = table ? table[pairs[i]][0] : rows->sum[c];
        to[i][1] = table ? table[pairs[i]][1] : rows->sum[c + 1];
    }
}

// Loss and metrics over all pairs of a set: a row of the log. `table`, `reference` as above.
static void evaluate(Run *run, GPT2 *policy, GPT2 *reference, float (*table)[2],
                     const PieceSet *data, DpoLoss type, Rows *rows) {
    Meter meter = {.n = METRICS, .names = metric_names};
    Batch batch = {0};
    EvalPass pass = {0};
    float(*ref)[2] = mem_alloc((size_t)args.run.per_device_eval_batch_size, sizeof *ref);
    const int64_t M = (int64_t)pieces_count(data, 1); // chosen tokens: piece 1 of 3
    double loss = 0;
    while (run_eval_next(run, &pass, data->n, "pairs")) {
        pairs_batch(&batch, data, pass.examples, pass.n, args.run.share_prompt);
        pairs_reference(ref, table, reference, rows, &batch, pass.examples, pass.n);
        rows_forward(rows, policy, &batch);
        loss += pairs_loss(rows, &batch, ref, pass.n, data->n, M, type, &meter);
    }
    meter_add(&meter, LOSS, loss, 1);
    meter_add(&meter, NLL, 0, args.sft_weight > 0);
    run_log_eval(run, &meter, shown);
    batch_free(&batch);
    free(ref);
}

// IPO's goal is a margin h of 1/(2 beta), and it pulls back from there. With `ipo` that is nats a token:
// one beta for completions of any length is a goal out of reach for long ones, 1/(2 beta) times their
// length in all. Then the loss is as good as linear, nothing pulls back, and only learning rate and
// updates bound how far the policy runs. Warns of that. For labels that are nearly coins, IPO ends
// where DPO does if its beta is DPO's times T / 4 (docs/dpo.md).
static void ipo_goal_check(const PieceSet *d) {
    const double T = (double)(pieces_count(d, 1) + pieces_count(d, 2)) / (2.0 * d->n);
    const double goal = 0.5 / args.beta;
    if (goal * T > 50)
        warn("--loss_type ipo --beta %g aims at %.3g nats a token between chosen and rejected, "
             "%.0f a completion: out of reach, so that nothing pulls the policy back. As strong as "
             "DPO's beta of 0.1 would be --beta %.2g (0.025 for each token of a completion)",
             args.beta, goal, goal * T, 0.025 * T);
}

int main(int argc, char **argv) {
    Run run;
    run_begin(&run, &args.run, argc, argv, flags, COUNT(flags),
              "direct preference optimisation of GPT-2", preset);
    // the names in the order of enum DpoLoss
    const DpoLoss type = (DpoLoss)choice_index(args.loss_type, "sigmoid|hinge|ipo|ipo_sum|robust");
    // what is not used is refused rather than ignored
    if (args.label_smoothing > 0 && type != DPO_SIGMOID && type != DPO_ROBUST)
        die(EXIT_USAGE,
            "--label_smoothing is not used by --loss_type %s; sigmoid and robust use it",
            args.loss_type);
    if (!args.sync_ref_model && args.ref_model_mixup_alpha != 0.6)
        die(EXIT_USAGE, "--ref_model_mixup_alpha is not used without --sync_ref_model");
    if (!args.sync_ref_model && args.ref_model_sync_steps != 512)
        die(EXIT_USAGE, "--ref_model_sync_steps is not used without --sync_ref_model");
    if (args.sync_ref_model && args.run.ref_cache_dir)
        die(EXIT_USAGE, "--ref_cache_dir is not used with --sync_ref_model: the reference changes");
    run_open(&run);

    // policy, frozen reference, pairs
    GPT2 policy, reference;
    run_model(&run, &policy);
    run_reference(&run, &reference, &policy); // --ref_model, or --model as it is on the disk
    if (args.sync_ref_model && !gpt2_same_shape(&policy, &reference))
        die(EXIT_BAD_INPUT, "%s: --sync_ref_model needs a reference of the model's shape",
            run.reference_dir);
    uint64_t reference_hash = model_hash(&reference);
    PieceSet train, eval;
    const DataOptions options = run_data_options(&run, run_context(&policy, &reference));
    run_pieces(&run, &train, &eval, PAIRS, &options);
    if (type == DPO_IPO) ipo_goal_check(&train);

    // The updates, their order (a function of seed and epoch) and learning rates. run_start goes on from
    // a checkpoint, if one is named, with all that it holds; flags under a KEPT heading, the data and
    // what run_match names must be the same. From here on the disk is written.
    Meter meter = {.n = METRICS, .names = metric_names};
    run_schedule(&run, train.n);
    run_match(&run, "reference", &reference_hash, "--ref_model, or --model without it");
    if (args.sync_ref_model) run.output.reference = &reference; // it changes: saved, restored, too
    run_start(&run, &policy, &meter);

    // The reference never changes (but in TR-DPO), so its log-probs are computed once, and it leaves.
    float(*ref_train)[2] = NULL, (*ref_eval)[2] = NULL; // (n, 2) chosen, rejected
    if (!args.sync_ref_model) {
        ref_train = run_reference_logps(&run, &reference, reference_hash, &train, args.run.dataset);
        ref_eval =
            run_reference_logps(&run, &reference, reference_hash, &eval, args.run.eval_dataset);
        gpt2_free(&reference); // from here on only the tables are read
    }
    run_train_begin(&run, &policy);

    // before training: an evaluation; with --samples and --eval_prompts, texts and KL for comparison
    Rows rows = {0};
    run_prompts(&run, eval.n ? &eval : &train);
    if (eval.n && run_fresh(&run))
        evaluate(&run, &policy, &reference, ref_eval, &eval, type, &rows);
    run_before(&run, &policy, NULL, NULL);

    Batch batch = {0};
    float(*ref)[2] = mem_alloc((size_t)args.run.per_device_train_batch_size, sizeof *ref);
    while (run_next(&run)) { // run.examples (run.n): the pairs of this update
        int64_t M = 0;       // their chosen tokens
        for (int i = 0; i < run.n; i++) M += pair_chosen_tokens(&train, run.examples[i]);

        // forward and backward, some pairs at a time; gradients accumulate
        double loss = 0;
        for (int first = 0, n; first < run.n; first += n) {
            const int *pairs = run.examples + first;
            n = run_split(&run, first);
            pairs_batch(&batch, &train, pairs, n, args.run.share_prompt);
            pairs_reference(ref, ref_train, &reference, &rows, &batch, pairs, n);
            rows_forward(&rows, &policy, &batch); // rows.sum[r] = log pi(y|x) of row r
            loss += pairs_loss(&rows, &batch, ref, n, run.n, M, type, &meter);
            rows_backward(&rows, &policy); // from rows.dsum
            // logged as num_tokens, which counts the prompt for each completion
            for (int i = 0; i < n; i++) run.num_tokens += pair_tokens(&train, pairs[i]);
        }
        // clip the norm of the whole gradient to max_grad_norm (1), AdamW at run.lr, clear gradients.
        // run_next took run.lr from the schedule: by default linear from learning_rate to 0.
        run_update(&run, &policy, loss);
        meter_add(&meter, LOSS, loss, 1);
        meter_add(&meter, NLL, 0, args.sft_weight > 0);
        if (args.sync_ref_model && run.step % args.ref_model_sync_steps == 0)
            gpt2_mix(&reference, &policy, args.ref_model_mixup_alpha); // TR-DPO

        run_log(&run, &meter, shown, "pairs");
        if (eval.n && run_eval_due(&run))
            evaluate(&run, &policy, &reference, ref_eval, &eval, type, &rows);
        run_save(&run, &policy); // checkpoint-N/, every save_steps updates
    }
    run_after(&run, &policy, NULL);
    const int code = run_end(&run, &policy);

    gpt2_free(&policy);
    if (args.sync_ref_model) gpt2_free(&reference);
    pieces_free(&train);
    pieces_free(&eval);
    rows_free(&rows);
    batch_free(&batch);
    free(ref);
    free(ref_train);
    free(ref_eval);
    return code;
}
