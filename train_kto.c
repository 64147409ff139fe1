// train_kto.c: Kahneman-Tversky optimisation (KTO) of GPT-2. Build it:
//
// cc -O3 -march=native -fno-math-errno -fopenmp train_kto.c -o train_kto -lopenblas -lcjson -lm
//
// Learns from single completions that are called desirable or undesirable, without pairs. With the
// log-ratio r = log pi(y|x) - log ref(y|x) to a frozen reference, the loss is the mean over examples
// of
//
//     weight (1 - sigmoid(+-beta (r - z))),                + if y is desirable, - if not
//     z = max(0, mean of log pi(y'|x) - log ref(y'|x)),    y' the completion of another example
//
// (Ethayarajh et al. 2024, eq. 8; losses.h). z estimates KL(pi || ref), how far the policy has gone as
// a whole, and gets no gradient. It is the point from which gains and losses count: a desirable
// example is a gain if its r is above z, an undesirable one if it is below.
//
// Where to look: examples_loss is the loss and its gradient, mismatched says whose completion a
// prompt meets for z, examples_kl makes z, and the loop in main is the algorithm. What surrounds it
// (flags, order, log, checkpoints) is in lib/run/run.h.
//
// log pi(y|x) is the sum over y's tokens, its end-of-text token too. The prompt's tokens are only
// read: they have mask 0 in the batch and no term in the loss.
//
// z comes from all examples of an update, not from each forward pass alone as TRL's, so it does not
// depend on how the update is split. An update has per_device_train_batch_size times
// gradient_accumulation_steps examples, the first number at a time; an epoch's last may have fewer, but
// not one alone, which has nobody to meet: it joins the update before.
//
// Without arguments it trains the model in data/sft on preferences between film reviews, taken
// apart: the chosen ones are desirable, the rejected ones are not. From about the 20th step on its
// log says kl 0: the mismatched texts become less likely under pi than under ref, the mean is
// negative, and z is cut off at 0. What is learnt from there on is the loss without its KL term.
#include "losses.h"         // defines: kto_point, l(r) and its slope; kto_kl, the formula of z
#include "model.h"          // defines: GPT2, Rows, rows_forward, rows_backward
#include "lib/base/flags.h" // defines: FLAG
#include "lib/data/preferences.h" // defines: LabelSet (examples), labels_batch
#include "lib/run/meter.h"        // defines: Meter, meter_add
#include "lib/run/run.h"          // defines: Run, RunArgs, run_next, run_update, ...

// The run without arguments: a tiny model wants larger steps than GPT-2 does.
static const char preset[] =
    "--model data/sft --dataset data/prefs_train.jsonl --eval_dataset data/prefs_eval.jsonl "
    "--output_dir out/kto --num_train_epochs 1 --per_device_train_batch_size 64 "
    "--per_device_eval_batch_size 64 --learning_rate 0.001 --lr_scheduler_type cosine "
    "--warmup_steps 20 --adam_beta2 0.98 --beta 0.3 --logging_steps 20 --eval_steps 100 "
    "--save_steps 0 --eval_prompts 500 --gold";

// Names and defaults are those of TRL's KTOConfig and transformers' TrainingArguments.
static struct {
    RunArgs run; // flags that other programs have, too
    const char *loss_type;
    double beta, desirable_weight, undesirable_weight;
} args = {
    .run = {RUN_DEFAULTS, .output_dir = "out/kto", .learning_rate = 1e-6, .num_train_epochs = 3,
            .logging_steps = 10, .max_new_tokens = 60},
    .loss_type = "kto",
    .beta = 0.1,
    .desirable_weight = 1,
    .undesirable_weight = 1,
};

static Flag flags[] = {
    RUN_FLAGS_MODEL(args.run, "directory in Hugging Face format to start from"),
    RUN_FLAG_REFERENCE(args.run),
    RUN_FLAGS_DATA(args.run,
                   "JSONL with prompt + completion + label, or pairs to take apart: prompt + "
                   "chosen + rejected",
                   "the same for evaluation"),
    RUN_FLAGS_PIECES(args.run),
    RUN_FLAGS_ROWS(args.run, "examples", "cut the prompt from the left, or the completion (TRL)"),
    FLAG_HEADING_KEPT("labels"),
    FLAG_CHOICE(args, loss_type, "kto|apo_zero_unpaired", "the latter has no KL term: z is 0"),
    FLAG(args, beta, 1e-9, 1e9, "strength of the pull to the reference (> 0)"),
    FLAG(args, desirable_weight, 1e-9, 1e9,
         "weight of desirable examples; weighted numbers of the two classes should be 1 to 4/3 "
         "(the paper's later version: 3/2) to 1"),
    FLAG(args, undesirable_weight, 1e-9, 1e9, "weight of undesirable examples"),
    FLAG_HEADING_KEPT("training"),
    RUN_FLAGS_EPOCHS(args.run, "examples"),
    RUN_FLAGS_OPTIMIZER(args.run),
    RUN_FLAGS_OUTPUT(args.run, "gets final/, checkpoint-N/, metrics.jsonl, run.json"),
    RUN_FLAGS_EVAL(args.run, "examples"),
    RUN_FLAG_CACHE(args.run),
    RUN_FLAG_SAMPLES(args.run),
    RUN_FLAG_LENGTH(args.run),
    RUN_FLAGS_MEASURE(args.run),
    TRL_FLAGS_KTO,
};

// What is logged, under TRL's names, which say "chosen" for desirable and "rejected" for undesirable
// examples: means over the examples of a class; LOGIT_* (the mean logit of the vocabulary) and
// ENTROPY over tokens of completions; LOSS and KL (z, in nats) over updates, in an evaluation over
// examples. A reward is beta r. MARGINS is the difference of the mean rewards. A class without examples
// has no entries. The log has means since its last line: meter_add(meter, k, sum, weight) adds to sum
// and weight of a mean.
// clang-format off
enum { LOSS, KL, CHOSEN, REJECTED, MARGINS, LOGP_CHOSEN, LOGP_REJECTED, LOGIT_CHOSEN,
       LOGIT_REJECTED, ENTROPY, METRICS };
static const char *const metric_names[METRICS] = {
    "loss", "kl", "rewards/chosen", "rewards/rejected", "rewards/margins", "logps/chosen",
    "logps/rejected", "logits/chosen", "logits/rejected", "entropy"};
// clang-format on
static const char shown[] = "loss kl rewards/chosen rewards/rejected"; // on the terminal

// ------------------------------------------------------------------------------------------------

// Whose completion the prompt of update[i] meets: that of the nearest example before it that has
// another prompt. The update's `total` examples count as a ring, so the first meets the last. Those
// of the same prompt are passed over, since their completions fit it (the two sides of a pair). If
// all have the same prompt, it is the example before. The order is drawn anew in each epoch, so
// others meet then. (TRL fixes who meets whom once for all.)
static int mismatched(const LabelSet *d, const int *update, int total, int i) {
    const size_t *own = d->start + 2 * (size_t)update[i]; // where its prompt begins, its completion
    for (int back = 1; back < total; back++) {
        const int other = update[(i + total - back) % total];
        const size_t *start = d->start + 2 * (size_t)other, n = start[1] - start[0];
        if (n != own[1] - own[0] || memcmp(d->tokens + *start, d->tokens + *own, n * sizeof(int)))
            return other;
    }
    return update[(i + total - 1) % total];
}

// z of an update of `total` examples, at most B at a time: each prompt with the completion of another
// example, under policy and reference. Forward only: z is a constant in the gradient. These texts are
// new in every update, so the reference's log-probs of them cannot be made before training, as those
// of the examples are, and the reference stays in memory. Without a KL term z is 0.
static double examples_kl(Rows *rows, Batch *batch, GPT2 *policy, GPT2 *reference,
                          const LabelSet *data, const int *update, int total, int B, KtoLoss type) {
    if (type == KTO_APO_ZERO_UNPAIRED) return 0;
    int *others = mem_alloc((size_t)total, sizeof *others);
    float *logp = mem_floats((size_t)total), *ref = mem_floats((size_t)total);
    for (int i = 0; i < total; i++) others[i] = mismatched(data, update, total, i);
    for (int first = 0; first < total; first += B) {
        const int n = total - first < B ? total - first : B;
        labels_batch(batch, data, update + first, others + first, n); // whose prompts, completions
        rows_forward(rows, policy, batch);
        memcpy(logp + first, rows->sum, (size_t)n * sizeof *logp);
        rows_forward(rows, reference, batch);
        memcpy(ref + first, rows->sum, (size_t)n * sizeof *ref);
    }
    const double z = kto_kl(logp, ref, total); // max(0, mean of logp - ref)
    free(others);
    free(logp);
    free(ref);
    return z;
}

// The loss of n examples, a row each, as a part of an update of `total`, and its gradient with
// respect to log pi(y|x) of every row, in rows->dsum. ref: log ref(y|x) of all examples of the set.
// The mean is over examples, not over the sum of their weights (as in TRL and the authors' code).
// Loss and gradient are divided by what the whole update has, so it does not matter how it is split.
// Training and evaluation both come here.
static double examples_loss(Rows *rows, const Batch *b, const float *ref, const LabelSet *data,
                            const int *examples, int n, int total, double z, Meter *meter) {
    double loss = 0;
    for (int i = 0; i < n; i++) {
        const bool good = data->label[examples[i]];
        const double weight = good ? args.desirable_weight : args.undesirable_weight;
        const double r = (double)rows->sum[i] - ref[examples[i]];
        // with s = 1 for desirable, -1 for undesirable ones, and u = s beta (r - z):
        // l = weight sigmoid(-u), l' = -s weight beta sigmoid(u) sigmoid(-u); dr / d log pi is 1
        double slope;
        loss += kto_point(&slope, r, z, good, args.beta, weight) / total;
        rows->dsum[i] = (float)(slope / total);

        const HeadStats row = row_stats(rows->tokens, b, i);
        meter_add(meter, good ? CHOSEN : REJECTED, args.beta * r, 1);
        meter_add(meter, good ? LOGP_CHOSEN : LOGP_REJECTED, rows->sum[i], 1);
        meter_add(meter, good ? LOGIT_CHOSEN : LOGIT_REJECTED, row.logit, (double)row.count);
        meter_add(meter, ENTROPY, row.entropy, (double)row.count);
    }
    if (meter_has(meter, CHOSEN) && meter_has(meter, REJECTED)) // so far
        meter_set(meter, MARGINS, meter_mean(meter, CHOSEN) - meter_mean(meter, REJECTED));
    return loss;
}

// Loss and metrics over all examples of a set, in the order of the file: a row of the log. z depends
// on the size of an update, so they are taken in updates as in training, each with its own z, and
// eval_loss and loss can be compared.
static void evaluate(Run *run, GPT2 *policy, GPT2 *reference, const float *ref,
                     const LabelSet *data, KtoLoss type, Rows *rows) {
    Meter meter = {.n = METRICS, .names = metric_names};
    Batch batch = {0};
    const int B = args.run.per_device_eval_batch_size;
    int *examples = mem_alloc((size_t)data->n, sizeof *examples);
    for (int i = 0; i < data->n; i++) examples[i] = i;
    double loss = 0;
    for (int at = 0, total; at < data->n; at += total) {
        const int *update = examples + at;
        total = run_update_size(run, data->n - at);
        const double z = examples_kl(rows, &batch, policy, reference, data, update, total, B, type);
        for (int first = 0; first < total; first += B) {
            const int n = total - first < B ? total - first : B;
            labels_batch(&batch, data, update + first, update + first, n);
            rows_forward(rows, policy, &batch);
            loss += examples_loss(rows, &batch, ref, data, update + first, n, data->n, z, &meter);
        }
        meter_add(&meter, KL, z * total, total);
        progress_show("evaluation: %d of %d examples", at + total, data->n);
    }
    meter_add(&meter, LOSS, loss, 1);
    run_log_eval(run, &meter, shown);
    batch_free(&batch);
    free(examples);
}

// Count the classes. Warn if one is missing (TRL trains then, too), or if what they weigh together is
// far from equal: the paper advises desirable_weight n_D / (undesirable_weight n_U) in [1, 4/3].
static void labels_check(const LabelSet *data, const char *path) {
    const int D = data->good, U = data->n - D;
    const double w_D = args.desirable_weight, w_U = args.undesirable_weight;
    if (D == 0 || U == 0) {
        warn("%s: all %d labels of the examples for training are %s: nothing tells good from bad, "
             "and %s alone are made %s likely",
             path, data->n, D ? "true" : "false", D ? "good completions" : "bad completions",
             D ? "more" : "less");
        return;
    }
    const double ratio = w_D * D / (w_U * U);
    if (ratio < 1 - 1e-9 || ratio > 4.0 / 3 + 1e-9)
        warn("%s: %d desirable examples of weight %g and %d undesirable ones of weight %g: their "
             "ratio %.3g is outside [1, 4/3], which the KTO paper recommends; a --desirable_weight "
             "from %.3g to %.3g or an --undesirable_weight from %.3g to %.3g would be inside",
             path, D, w_D, U, w_U, ratio, w_U * U / D, w_U * U / D * 4 / 3, w_D * D / U * 3 / 4,
             w_D * D / U);
}

int main(int argc, char **argv) {
    Run run;
    run_begin(&run, &args.run, argc, argv, flags, COUNT(flags),
              "Kahneman-Tversky optimisation of GPT-2", preset);
    const KtoLoss type = (KtoLoss)choice_index(args.loss_type, "kto|apo_zero_unpaired");
    if (type == KTO_KTO && args.run.per_device_train_batch_size == 1 &&
        args.run.gradient_accumulation_steps == 1)
        die(EXIT_USAGE, "--per_device_train_batch_size 1: an update of KTO needs at least 2 "
                        "examples, one for the "
                        "other's prompt; raise it or --gradient_accumulation_steps");
    run_open(&run);

    // policy, frozen reference, examples
    GPT2 policy, reference;
    run_model(&run, &policy);
    run_reference(&run, &reference, &policy);
    uint64_t reference_hash = model_hash(&reference);
    LabelSet train, eval;
    const DataOptions options = run_data_options(&run, run_context(&policy, &reference));
    run_pieces(&run, &train, &eval, LABELS, &options);
    labels_check(&train, args.run.dataset);
    if (type == KTO_KTO && (train.n == 1 || eval.n == 1))
        die(EXIT_BAD_INPUT, "%s: 1 example for %s: KTO's KL term needs at least 2",
            train.n > 1 && args.run.eval_dataset ? args.run.eval_dataset : args.run.dataset,
            train.n == 1 ? "training" : "evaluation");

    // The updates, their order (a function of seed and epoch) and learning rates. run_start goes on from
    // --resume_from_checkpoint: weights, AdamW's moments, numbers of the update and of tokens, the
    // meter's sums. Flags under a KEPT heading, the data and what run_match names must be the same.
    // From here on the disk is written.
    Meter meter = {.n = METRICS, .names = metric_names};
    run.least = 2; // in an epoch's last update: a lone example joins the update before
    run_schedule(&run, train.n);
    run_match(&run, "reference", &reference_hash, "--ref_model, or --model without it");
    run_start(&run, &policy, &meter);

    // log ref(y|x) of the examples never changes, so it is computed once
    float *ref_train =
        run_reference_logps(&run, &reference, reference_hash, &train, args.run.dataset);
    float *ref_eval =
        run_reference_logps(&run, &reference, reference_hash, &eval, args.run.eval_dataset);
    run_train_begin(&run, &policy);

    // Before training: an evaluation, and texts that the model samples for the first prompts, with
    // their KL to the reference (and --gold scores); after training again. `start` is the model that
    // training starts from, most often the reference (NULL: it is read from the disk).
    Rows rows = {0};
    GPT2 *start = strcmp(run.reference_dir, args.run.model) ? NULL : &reference;
    run_prompts(&run, eval.n ? &eval : &train);
    if (eval.n && run_fresh(&run))
        evaluate(&run, &policy, &reference, ref_eval, &eval, type, &rows);
    run_before(&run, &policy, start, &reference);

    Batch batch = {0};
    while (run_next(&run)) { // run.examples (run.n): the examples of this update
        // the reference point, from all of them
        const double z = examples_kl(&rows, &batch, &policy, &reference, &train, run.examples,
                                     run.n, args.run.per_device_train_batch_size, type);

        // forward and backward, some examples at a time; gradients accumulate
        double loss = 0;
        for (int first = 0, n; first < run.n; first += n) {
            const int *examples = run.examples + first;
            n = run_split(&run, first);
            labels_batch(&batch, &train, examples, examples, n);
            rows_forward(&rows, &policy, &batch); // rows.sum[i] = log pi(y|x) of example i
            loss += examples_loss(&rows, &batch, ref_train, &train, examples, n, run.n, z, &meter);
            rows_backward(&rows, &policy); // from rows.dsum
            run.num_tokens += batch.N;
        }
        // clip the norm of the whole gradient to max_grad_norm (1), AdamW at run.lr, clear gradients.
        // run_next took run.lr from the schedule: by default linear from learning_rate to 0.
        run_update(&run, &policy, loss);
        meter_add(&meter, LOSS, loss, 1);
        meter_add(&meter, KL, z, 1);

        run_log(&run, &meter, shown, "examples");
        if (eval.n && run_eval_due(&run))
            evaluate(&run, &policy, &reference, ref_eval, &eval, type, &rows);
        run_save(&run, &policy); // checkpoint-N/, every save_steps updates
    }
    run_after(&run, &policy, &reference);
    const int code = run_end(&run, &policy);

    gpt2_free(&policy);
    gpt2_free(&reference);
    pieces_free(&train);
    pieces_free(&eval);
    rows_free(&rows);
    batch_free(&batch);
    free(ref_train);
    free(ref_eval);
    return code;
}
