// train_spin.c: self-play fine-tuning (SPIN) of GPT-2. Build it:
//
// cc -O3 -march=native -fno-math-errno -fopenmp train_spin.c -o train_spin -lopenblas -lcjson -lm
//
// Learns from the data of supervised fine-tuning alone: prompts x with completions y (Chen et al.
// 2024). In each iteration the last player, now the opponent, completes the prompts itself, and the
// next player learns to tell the data's completions y from the opponent's y':
//
//     mean over pairs of -log sigmoid(lambda (r(y) - r(y'))),   r = log pi(y|x) - log old(y|x)
//
// (eq. 4.7), pi being the player that learns and old the opponent, frozen. Then the new player is
// the opponent. Where its completions are like the data's, nobody can tell them apart: it rests.
//
// The authors' recipe: from the second iteration on the pairs of the iteration before are mixed in;
// an iteration is a run of its own, so optimiser, warm-up and schedule begin anew; lambda is called
// beta. Ours differs where theirs gives the opponent away by something else than its words: both
// sides have the same prompt and the same limit of tokens, and a completion that ran into the limit
// has no end-of-text (theirs gets one). Their optimiser is RMSprop.
//
// Where to look: pairs_loss is the loss and its gradient, the loops in main are the algorithm: one
// over iterations, in it one over updates. lib/run/selfplay.h lets a player write and keeps what it
// wrote; lib/run/distance.h measures it; lib/run/run.h is what surrounds the algorithm.
//
// Without arguments it lets the model in data/sft play against the film reviews that were chosen in
// data/prefs_train.jsonl.
#include "losses.h"               // defines: dpo_point, l(h) and its slope; what SPIN's lambda does
#include "model.h"                // defines: GPT2, Rows, rows_forward, rows_backward
#include "lib/base/flags.h"       // defines: FLAG
#include "lib/data/preferences.h" // defines: LabelSet (completions), PairSet, pairs_batch, pair_row
#include "lib/run/distance.h"     // defines: Distance, Observed, completions_nll
#include "lib/run/meter.h"        // defines: Meter, meter_add
#include "lib/run/run.h"          // defines: Run, RunArgs, run_next, run_update, ...
#include "lib/run/selfplay.h"     // defines: pairs_play, iteration_save, iteration_load

// The run without arguments: a tiny model wants larger steps than GPT-2 does. What data/sft was
// made from, it cannot learn better; so it gets chosen reviews, which praise more than it does.
static const char preset[] =
    "--model data/sft --dataset data/prefs_train.jsonl --max_train_samples 2000 "
    "--eval_dataset data/prefs_eval.jsonl --output_dir out/spin --num_iterations 3 "
    "--num_train_epochs 1 --per_device_train_batch_size 32 --per_device_eval_batch_size 64 "
    "--learning_rate 0.0002 --warmup_steps 10 --adam_beta2 0.98 --beta 1 --logging_steps 25 "
    "--save_steps 0 --eval_prompts 500 --gold";

// Names are those of the authors' scripts and transformers' TrainingArguments, defaults the paper's
// where AdamW leaves them a meaning.
static struct {
    RunArgs run; // flags that other programs have, too
    int64_t num_iterations;
    double beta;
    int max_train_samples, generation_batch_size;
    bool mix_previous, save_players;
} args = {
    .run = {RUN_DEFAULTS, .output_dir = "out/spin", .learning_rate = 5e-7, .num_train_epochs = 2,
            .logging_steps = 10, .max_new_tokens = 256, .eval_prompts = 200},
    .num_iterations = 3,
    .beta = 0.1,
    .generation_batch_size = 64,
    .mix_previous = true,
};

static Flag flags[] = {
    RUN_FLAGS_MODEL(args.run, "directory in Hugging Face format: the first player"),
    RUN_FLAGS_DATA(args.run, "JSONL with prompt and completion, or messages",
                   "the same for evaluation"),
    FLAG(args, max_train_samples, 0, 1e9, "rows of --dataset to use, evenly spread (0: all)"),
    RUN_FLAGS_ROWS(args.run, "rows", "cut the prompt from the left, or the completion (TRL)"),
    RUN_FLAG_SHARE(args.run),
    FLAG_HEADING_KEPT("self-play"),
    FLAG(args, num_iterations, 1, 1000, "players to be trained, one after the other"),
    FLAG(args, beta, 1e-6, 1e6, "the paper's lambda; below 1/2 stop each iteration early"),
    FLAG_SWITCH(args, mix_previous, "train on the pairs of the iteration before, too"),
    FLAG(args.run, max_new_tokens, 1, 1 << 20, "tokens of a completion, real and generated"),
    FLAG(args.run, temperature, 0, 100, "of the player's sampling; the method means 1"),
    FLAG(args.run, top_p, 1e-6, 1, "of the player's sampling; the method means 1"),
    FLAG(args, generation_batch_size, 1, 1 << 16, "completions that are sampled together"),
    FLAG_HEADING_KEPT("training, anew in each iteration"),
    FLAG(args.run, num_train_epochs, 1e-6, 1e6, "passes over the pairs"),
    FLAG(args.run, max_steps, -1, 1e9, "updates to make instead (-1: see epochs)"),
    FLAG(args.run, per_device_train_batch_size, 1, 1 << 16, "pairs in one forward pass"),
    FLAG(args.run, gradient_accumulation_steps, 1, 1 << 16, "forward passes in one update"),
    RUN_FLAG_ORDER(args.run, "pairs"),
    RUN_FLAGS_OPTIMIZER(args.run),
    RUN_FLAGS_OUTPUT(args.run, "gets final/, iteration-N/, checkpoint-N/, metrics.jsonl, run.json"),
    FLAG_SWITCH(args, save_players, "iteration-N/ gets the player it began with, too"),
    RUN_FLAGS_EVAL(args.run, "pairs"),
    RUN_FLAG_SAMPLES(args.run),
    FLAG(args.run, eval_prompts, 0, 1e6, "held-out prompts that each player completes"),
    FLAG_SWITCH(args.run, gold, "give those the gold score of film reviews (data/gold.h)"),
    TRL_FLAGS_SPIN,
};

// What is logged, under the authors' names: means over pairs; ENTROPY over the tokens of both
// completions. A reward is lambda r; ACCURACY: that of the data's completion is the greater.
// clang-format off
enum { LOSS, REAL, GENERATED, MARGINS, ACCURACY, LOGP_REAL, LOGP_GENERATED, ENTROPY, METRICS };
static const char *const metric_names[METRICS] = {
    "loss", "rewards/real", "rewards/generated", "rewards/margins", "rewards/accuracies",
    "logps/real", "logps/generated", "entropy"};
// clang-format on
static const char shown[] = "loss rewards/margins rewards/accuracies"; // on the terminal

// ------------------------------------------------------------------------------------------------
// Pairs of the data's completion y and the opponent's y'

// The loss of n pairs, as a part of an update that has `total`, and its gradient with respect to
// log pi of every row, in rows->dsum. pairs (n) are in the batch; old: log old(y|x), log old(y'|x)
// of all pairs of the set. Training and evaluation both come here.
static double pairs_loss(Rows *rows, const Batch *b, float (*old)[2], const int *pairs, int n,
                         int total, Meter *meter) {
    double loss = 0;
    for (int i = 0; i < n; i++) {
        const int real = pair_row(b, i), generated = real + 1; // the rows of y and y'
        const double r_real = (double)rows->sum[real] - old[pairs[i]][0];
        const double r_generated = (double)rows->sum[generated] - old[pairs[i]][1];
        const double h = r_real - r_generated;
        // eq. 4.7, logistic loss: l = log(1 + e^-x) = -log sigmoid(x), x = lambda h. That is DPO's,
        // with y as chosen, y' as rejected, the opponent as reference and lambda as beta.
        double slope; // dl/dh = -lambda sigmoid(-x); dh / d log pi is 1 for y, -1 for y'
        loss += dpo_point(&slope, h, DPO_SIGMOID, args.beta, 0) / total;
        rows->dsum[real] = (float)(slope / total);
        rows->dsum[generated] = (float)(-slope / total);

        meter_add(meter, REAL, args.beta * r_real, 1);
        meter_add(meter, GENERATED, args.beta * r_generated, 1);
        meter_add(meter, MARGINS, args.beta * h, 1);
        meter_add(meter, ACCURACY, r_real > r_generated, 1);
        meter_add(meter, LOGP_REAL, rows->sum[real], 1);
        meter_add(meter, LOGP_GENERATED, rows->sum[generated], 1);
    }
    meter_add(meter, ENTROPY, rows->stats.entropy, (double)rows->stats.count);
    return loss;
}

// (n, 2) log old(y|x), log old(y'|x) of all pairs of a set, B at a time. The opponent's weights
// stay as they are for a whole iteration, so this is done once in each. Ends early when the program
// is asked to stop. Release with free().
static void *opponent_logps(GPT2 *opponent, const PairSet *data, Rows *rows, int B) {
    Batch batch = {0};
    float(*old)[2] = mem_alloc((size_t)data->n, sizeof *old);
    int *pairs = mem_alloc((size_t)B, sizeof *pairs);
    for (int first = 0; first < data->n && !stop_signal; first += B) {
        const int n = data->n - first < B ? data->n - first : B;
        for (int i = 0; i < n; i++) pairs[i] = first + i;
        pairs_batch(&batch, data, pairs, n, args.run.share_prompt);
        rows_forward(rows, opponent, &batch);
        for (int i = 0; i < n; i++) {
            const int real = pair_row(&batch, i);
            float *to = old[first + i];
            to[0] = rows->sum[real];
            to[1] = rows->sum[real + 1];
            if (!isfinite(to[0]) || !isfinite(to[1]))
                die(EXIT_DIVERGED, "the opponent's log-probs of pair %d are %g and %g",
                    first + i + 1, (double)to[0], (double)to[1]);
        }
        progress_show("opponent's log-probs: %d of %d pairs", first + n, data->n);
    }
    progress_clear();
    batch_free(&batch);
    free(pairs);
    return old;
}

// How well the player tells held-out completions from those that the opponent wrote for the same
// prompts: a row of the log. old (data->n, 2).
static void evaluate(Run *run, GPT2 *player, const PairSet *data, float (*old)[2], Rows *rows) {
    Meter meter = {.n = METRICS, .names = metric_names};
    Batch batch = {0};
    EvalPass pass = {0};
    double loss = 0;
    while (run_eval_next(run, &pass, data->n, "pairs")) {
        pairs_batch(&batch, data, pass.examples, pass.n, args.run.share_prompt);
        rows_forward(rows, player, &batch);
        loss += pairs_loss(rows, &batch, old, pass.examples, pass.n, data->n, &meter);
    }
    meter_add(&meter, LOSS, loss, 1);
    run_log_eval(run, &meter, shown);
    batch_free(&batch);
}

// ------------------------------------------------------------------------------------------------
// How far players are from the data: what they write for held-out prompts, and the likelihood

typedef struct {
    int n;               // prompts
    Gold *gold;          // or NULL
    Observed real;       // the data's completions of them
    PairSet pairs;       // with the last player's, which the next one is evaluated on
    int64_t measured;    // players so far
    Distance first, now; // of the first player, of the last one measured
} HeldOut;

// Look at the data: what is nearest to be had, the distance of training data from held-out data.
static void held_begin(HeldOut *held, Run *run, const LabelSet *train, const LabelSet *eval) {
    held->n = args.run.eval_prompts < eval->n ? args.run.eval_prompts : eval->n;
    if (!held->n) return;
    if (args.run.gold) {
        held->gold = mem_alloc(1, sizeof *held->gold);
        gold_create(held->gold);
    }
    Observed training;
    observe(&training, train, 1, train->n < held->n ? train->n : held->n, held->gold,
            &run->tokenizer);
    observe(&held->real, eval, 1, held->n, held->gold, &run->tokenizer);
    const Distance data = observed_distance(&training, &held->real);
    distance_print("data", &data, false, true, args.run.gold);
    if (!run->resume) {
        log_number(&run->log, "step", 0);
        distance_log(&run->log, "data", &data, false, true, args.run.gold);
        log_write(&run->log);
    }
    observed_free(&training);
}

static void held_free(HeldOut *held) {
    if (held->gold) gold_free(held->gold);
    free(held->gold);
    observed_free(&held->real);
    pieces_free(&held->pairs);
}

// Let a checkpoint remember what earlier players came to.
static void held_keep(HeldOut *held, Run *run) {
    run_keep_i64(run, "measured", &held->measured);
    run_keep_f64(run, "first.nll", &held->first.nll);
    run_keep_f64(run, "first.bigram", &held->first.bigram);
    run_keep_f64(run, "first.length", &held->first.length);
    run_keep_f64(run, "first.gold", &held->first.gold);
    run_keep_f64(run, "first.gold_score", &held->first.gold_score);
    run_keep_f64(run, "first.valid", &held->first.valid);
    run_keep_f64(run, "now.nll", &held->now.nll);
}

// Let the player that an iteration begins with complete the held-out prompts, and log how far it is
// from the data, once for each player. False if asked to stop.
static bool held_measure(HeldOut *held, Run *run, GPT2 *player, const LabelSet *eval, Rows *rows) {
    pieces_free(&held->pairs);
    if (held->n && !pairs_play(&held->pairs, player, eval, held->n, &run->sampling, 0,
                               args.generation_batch_size))
        return false;
    if (!eval->n || held->measured > run->iteration) return !stop_signal;
    Distance now = {0};
    if (held->n) {
        Observed played;
        observe(&played, &held->pairs, 2, held->n, held->gold, &run->tokenizer);
        now = observed_distance(&played, &held->real);
        observed_free(&played);
    }
    now.nll = completions_nll(player, eval, rows, args.run.per_device_eval_batch_size);
    if (stop_signal) return false;
    char *who = text_format("player %" PRId64, run->iteration);
    distance_print(who, &now, true, held->n > 0, args.run.gold);
    log_number(&run->log, "step", (double)run->step);
    log_number(&run->log, "iteration", (double)run->iteration);
    distance_log(&run->log, "player", &now, true, held->n > 0, args.run.gold);
    log_write(&run->log);
    free(who);
    if (run->iteration == 0) held->first = now;
    else if (now.nll > 1.05 * held->now.nll)
        warn("player %" PRId64 " is farther from the data than the one before (held-out NLL %.4f, "
             "was %.4f): %s",
             run->iteration, now.nll, held->now.nll,
             args.beta < 0.5 ? "with --beta below 1/2 this gets worse in each iteration that comes "
                               "near its minimum; take smaller or fewer steps"
                             : "take smaller or fewer steps, or more data");
    held->now = now;
    held->measured++;
    return true;
}

// The run's updates: the sum over iterations, of which all but the first also have the pairs of the
// one before. Warns if lambda is below 1/2 and an iteration can come near its minimum: that is
// farther from the data, on the other side, than the start was (losses.h).
static void iterations_plan(Run *run, int n) {
    int64_t longest = 0;
    run->iteration = 0;
    for (int64_t t = 0; t < args.num_iterations; t++) {
        const int64_t updates = run_part(run, t > 0 && args.mix_previous ? 2 * n : n);
        run->total += updates;
        if (updates > longest) longest = updates;
    }
    // An Adam step moves a weight by about the learning rate at most; GPT-2's weights are of size
    // 0.02, and what may move by half of that can reach the minimum.
    const double reach = args.run.learning_rate * (double)longest;
    if (args.beta < 0.5 && args.num_iterations > 1 && reach > 0.01)
        warn("--beta %g is below 1/2: an iteration that comes to its minimum overshoots the data, "
             "and the next ones run away; learning rate %g in up to %" PRId64
             " updates may go that far. Take fewer or smaller steps, or --beta 1",
             args.beta, args.run.learning_rate, longest);
}

// Self-play: the opponent completes all prompts, and iteration-N/ keeps what it wrote. False if
// asked to stop.
static bool self_play(Played *played, Run *run, const GPT2 *opponent, const LabelSet *train) {
    if (run->done > 0) return true; // what it wrote came back with the checkpoint
    const uint64_t first_row = (uint64_t)(run->iteration + 1) << 32; // below: held-out prompts
    if (!pairs_play(&played->pairs, opponent, train, train->n, &run->sampling, first_row,
                    args.generation_batch_size))
        return false;
    played->hash = pieces_hash(&played->pairs);
    iteration_save(&run->output, run->iteration, &played->pairs, &run->tokenizer,
                   args.save_players ? opponent : NULL);
    return true;
}

int main(int argc, char **argv) {
    Run run;
    run_begin(&run, &args.run, argc, argv, flags, COUNT(flags), "self-play fine-tuning of GPT-2",
              preset);
    if (args.run.gold && !args.run.eval_dataset && !(args.run.eval_split > 0))
        die(EXIT_USAGE, "--gold needs held-out prompts: --eval_dataset or --eval_split");
    run_open(&run);

    // the player that learns; its opponent, the last player: frozen, so it is forward only; data
    GPT2 player, opponent;
    LabelSet train, eval;
    run_model(&run, &player);
    model_load(&opponent, run.model_dir);
    DataOptions options = run_data_options(&run, run_context(&player, NULL));
    options.max_completion = args.run.max_new_tokens; // real ones are cut as generated ones are
    run_pieces(&run, &train, &eval, COMPLETIONS, &options);
    run_thin(&run, &train, args.max_train_samples);
    iterations_plan(&run, train.n);

    // go on from a checkpoint, which has the opponent, too; from run_write on the disk is written
    Meter meter = {.n = METRICS, .names = metric_names};
    HeldOut held = {0};
    Played played = {0};
    run.output.reference = &opponent; // it changes, so it is saved
    held_keep(&held, &run);
    played_keep(&played, &run);
    run_restore(&run, &player, &meter);
    played_load(&played, &run, &train, args.mix_previous);
    run_write(&run, &player);
    played_copy(&played, &run);
    run_train_begin(&run, &player);

    // before training
    Rows rows = {0};
    held_begin(&held, &run, &train, &eval);
    run_prompts(&run, eval.n ? &eval : &train);
    if (run_fresh(&run))
        texts_show(&player, &run.tokenizer, &run.prompts, args.run.samples, &run.sampling,
                   "before training");

    // An iteration begins with player = opponent. The last one's player is measured, too.
    const int B = args.run.per_device_train_batch_size;
    Batch batch = {0};
    run.began = seconds_now();
    while (held_measure(&held, &run, &opponent, &eval, &rows) &&
           run.iteration < args.num_iterations) {
        if (!self_play(&played, &run, &opponent, &train)) break;
        PairSet *pairs = &played.pairs, *previous = &played.previous;
        for (int i = 0; i < previous->n; i++) pieces_copy(pairs, previous, i); // --mix_previous
        float(*old)[2] = opponent_logps(&opponent, pairs, &rows, B);
        float(*held_old)[2] =
            opponent_logps(&opponent, &held.pairs, &rows, args.run.per_device_eval_batch_size);
        run_part(&run, pairs->n); // order, schedule and warm-up begin anew
        run.order_stream = (uint64_t)run.iteration << 32;
        while (run_next(&run)) { // run.examples (run.n): the pairs of this update
            // forward and backward, some pairs at a time; gradients accumulate
            double loss = 0;
            for (int first = 0, n; first < run.n; first += n) {
                const int *indices = run.examples + first;
                n = run_split(&run, first);
                pairs_batch(&batch, pairs, indices, n, args.run.share_prompt);
                rows_forward(&rows, &player, &batch); // rows.sum[r] = log pi of row r
                loss += pairs_loss(&rows, &batch, old, indices, n, run.n, &meter);
                rows_backward(&rows, &player); // from rows.dsum
                for (int i = 0; i < n; i++) run.num_tokens += pair_tokens(pairs, indices[i]);
            }
            run_update(&run, &player, loss); // clip, AdamW
            meter_add(&meter, LOSS, loss, 1);

            run_log(&run, &meter, shown, "pairs");
            if (held.n && run_eval_due(&run)) evaluate(&run, &player, &held.pairs, held_old, &rows);
            run_save(&run, &player);
        }
        free(old);
        free(held_old);
        if (run.done < run.part) break; // asked to stop

        // the player becomes the opponent; AdamW begins anew
        gpt2_copy_weights(&opponent, &player);
        memset(player.adam_m, 0, player.n_floats * sizeof(float));
        memset(player.adam_v, 0, player.n_floats * sizeof(float));
        player.adam_step = 0;
        played_next(&played, train.n, args.mix_previous);
        run.iteration++;
        run.done = 0;
        if (args.run.save_steps && run.iteration < args.num_iterations)
            run_checkpoint(&run, &player);
    }
    run_leave(&run);
    if (!run.stopped) {
        texts_show(&player, &run.tokenizer, &run.prompts, args.run.samples, &run.sampling,
                   "after training");
        if (eval.n) distance_print("before", &held.first, true, held.n > 0, args.run.gold);
        if (eval.n) distance_print("after", &held.now, true, held.n > 0, args.run.gold);
        printf("what was generated: %s/iteration-*\n", args.run.output_dir);
    }
    const int code = run_end(&run, &player);

    gpt2_free(&player);
    gpt2_free(&opponent);
    pieces_free(&train);
    pieces_free(&eval);
    played_free(&played);
    held_free(&held);
    rows_free(&rows);
    batch_free(&batch);
    return code;
}
