// train_ppo.c: reinforcement learning from human feedback (RLHF) by PPO on GPT-2. Build it:
//
// cc -O3 -march=native -fno-math-errno -fopenmp train_ppo.c -o train_ppo -lopenblas -lcjson -lm
//
// The policy pi writes completions, something scores them, and pi learns to write what scores well
// without going far from where it started, the reference (Ziegler et al. 2019; PPO: Schulman et al.
// 2017; GAE: Schulman et al. 2016). A state is a prompt with the tokens so far, an action the next
// token. Four roles:
//
//     policy      GPT-2, trained
//     reference   the policy before training, frozen
//     reward      a reward model, frozen, an ensemble of them, or any program: one score for a
//                 whole completion
//     critic      GPT-2 with a scalar head, trained: the value V of a state, the reward to come.
//                 A model of its own, or (--shared_critic) a head on the policy
//
// With rho = pi(y_t) / pi_old(y_t), where pi_old is the policy that wrote the completion, and c the
// clip range, the loss is the mean over the tokens of completions of
//
//     max(-A rho, -A clip(rho, 1 - c, 1 + c)) + vf_coef 1/2 max((V - G)^2, (V clipped - G)^2)
//     r_t = -kl_coef (log pi_old(y_t) - log ref(y_t)), + score at the last token
//     A_t = d_t + gamma lam A_t+1,   d_t = r_t + gamma V_t+1 - V_t      (GAE; 0 after the last token)
//     G = A + V (before A is whitened)
//
// Where to look: `rewards_advantages` makes A and G, `minibatch_loss` is the loss and its gradient,
// `ppo_update` makes the steps, the loop in main is the algorithm. What surrounds it is in
// lib/run/run.h; sampling and scoring are in lib/run/rollout.h.
//
// Every mean over tokens runs over real tokens of completions: neither the prompt nor anything after
// a completion's end exists for it. The last token is EOS, if the policy wrote it, and the score is
// on it. All log-probs are those of logits divided by the temperature, since from that distribution
// the completions come. Old and new log-probs take the same way through the code, so in an update's
// first minibatch the ratio is 1.
//
// Elsewhere: TRL puts the score one place after EOS, counts padding in several means, and makes one
// step per epoch however many minibatches there are. docs/ppo.md has all that differs from TRL and
// from Ziegler's code, the flags that set the latter's choices, and what takes how much memory.
//
// Without arguments it trains the model in data/sft to write film reviews that please the reward
// model in data/rm.
#include "losses.h"          // defines: kl_estimate, gae, whiten, ppo_policy_point, kl_control, ...
#include "model.h"           // defines: GPT2, lm_head_forward, value_head_forward, gpt2_backward
#include "lib/base/flags.h"  // defines: FLAG
#include "lib/run/meter.h"   // defines: Meter, meter_add
#include "lib/run/rollout.h" // defines: Rollout, rollout_sample, rollout_score, rollout_pack, ...
#include "lib/run/run.h"     // defines: Run, RunArgs, run_next, run_update, ...

// The run without arguments: a tiny model wants larger steps than GPT-2 does.
static const char preset[] =
    "--model data/sft --reward_model data/rm --dataset data/prefs_train.jsonl "
    "--eval_dataset data/prefs_eval.jsonl --output_dir out/ppo --total_episodes 6400 "
    "--batch_size 128 --num_ppo_epochs 2 --num_mini_batches 2 --per_device_train_batch_size 64 "
    "--response_length 40 --temperature 1 --kl_coef 0.15 --learning_rate 0.001 --logging_steps 5 "
    "--sample_steps 25 --save_steps 0 --eval_prompts 500 --gold";

// Names and defaults are those of TRL's PPOConfig and transformers' TrainingArguments.
static struct {
    RunArgs run;         // flags that other programs have, too
    RolloutArgs rollout; // those of programs that learn from samples
    const char *critic_model, *kl_estimator, *adam_epsilon_style;
    double kl_coef, target_kl, kl_horizon, cliprange, cliprange_value, vf_coef, gamma, lam;
    double max_approx_kl;
    int response_length, batch_size, num_mini_batches, num_ppo_epochs;
    int64_t total_episodes;
    bool shared_critic, whiten_rewards, whiten_advantages;
} args = {
    // clang-format off
    .run = {RUN_DEFAULTS, .output_dir = "out/ppo", .learning_rate = 3e-6, .logging_steps = 1},
    .rollout = {ROLLOUT_DEFAULTS, .temperature = 0.7},
    .response_length = 53, .batch_size = 64, .num_ppo_epochs = 4, .num_mini_batches = 1,
    .kl_coef = 0.05, .kl_estimator = "k1", .kl_horizon = 10000, .gamma = 1, .lam = 0.95,
    .whiten_advantages = true, .cliprange = 0.2, .cliprange_value = 0.2, .vf_coef = 0.1,
    .adam_epsilon_style = "pytorch",
    // clang-format on
};

static Flag flags[] = {
    RUN_FLAGS_MODEL(args.run, "the policy: directory in Hugging Face format to start from"),
    RUN_FLAG_REFERENCE(args.run),
    FLAG_TEXT(args, critic_model, "model to make the critic of (none: --reward_model or --model)"),
    ROLLOUT_FLAGS_REWARD(args.rollout),
    RUN_FLAGS_DATA(args.run, "JSONL with prompt or prompt_ids; other columns are left alone",
                   "prompts to show and measure before and after"),
    ROLLOUT_FLAG_PROMPT(args.rollout),
    FLAG_HEADING_KEPT("training"),
    FLAG(args, total_episodes, 0, 1e15, "completions to learn from (0: one for each prompt)"),
    FLAG(args, batch_size, 1, 1 << 16, "completions in one update"),
    FLAG(args, num_ppo_epochs, 1, 1000, "epochs: passes over them"),
    FLAG(args, num_mini_batches, 1, 1 << 16, "optimizer steps in each epoch"),
    FLAG(args.run, per_device_train_batch_size, 1, 1 << 16, "rows in one forward pass"),
    FLAG(args, response_length, 1, 1 << 20, "tokens that a completion may have"),
    ROLLOUT_FLAGS_SAMPLING(args.rollout),
    FLAG_SWITCH(args, shared_critic, "the critic is a head on the policy"),
    FLAG(args, kl_coef, 0, 1e9, "weight of the KL term in the reward"),
    FLAG_CHOICE(args, kl_estimator, "k1|k3", "log-ratio; a form >= 0, biased as a reward"),
    FLAG(args, target_kl, 0, 1e9, "adapt kl_coef to this KL, in nats a completion (0: do not)"),
    FLAG(args, kl_horizon, 1, 1e15, "episodes in which it adapts; fewer are faster"),
    FLAG(args, gamma, 0, 1, "discount of rewards"),
    FLAG(args, lam, 0, 1, "GAE's lambda: 1 trusts the returns alone, 0 the critic"),
    FLAG_SWITCH(args, whiten_rewards, "scale rewards to variance 1, the mean stays"),
    FLAG_SWITCH(args, whiten_advantages, "scale advantages to mean 0, variance 1"),
    FLAG(args, cliprange, 1e-9, 1e9, "the ratio's gain ends at 1 -+ this"),
    FLAG(args, cliprange_value, 1e-9, 1e9, "the same for the distance of a value to the old one"),
    FLAG(args, vf_coef, 0, 1e9, "weight of the value loss"),
    FLAG(args, max_approx_kl, 0, 1e9, "no further epoch once one has approxkl above it (0: never)"),
    RUN_FLAGS_OPTIMIZER(args.run),
    FLAG_CHOICE(args, adam_epsilon_style, "pytorch|tensorflow", "after bias correction, or before"),
    RUN_FLAGS_OUTPUT(args.run, "gets final/, checkpoint-N/, metrics.jsonl, run.json"),
    RUN_FLAGS_TEXTS(args.run),
    ROLLOUT_FLAGS_SHOW(args.rollout),
    TRL_FLAGS_PPO,
};

// What is logged, one row an update, most under TRL's names. Each mean over tokens runs over those of
// completions, EOS included; policy/, loss/, val/clipfrac and val/ratio are means over optimizer steps.
// (TRL's `eps`, episodes a second, is only printed: a run's log is a function of its flags.)
// clang-format off
enum { SCORES, KL, ENTROPY, NON_SCORE, RLHF, KL_COEF, SCORES_STD, GOLD, APPROX_KL, CLIPPED,
       POLICY_ENTROPY, POLICY_LOSS, VALUE_LOSS, VALUE_CLIPPED, RATIO, RATIO_VAR, EOS_TOKENS, VALUE,
       VALUE_ERROR, EXPLAINED, RETURNS, RETURNS_VAR, LENGTH, STEPS, NORM, VALUE_NORM, METRICS };
static const char *const metric_names[METRICS] = {
    "objective/scores",           // mean score of a completion, after the penalty for a missing EOS
    "objective/kl",               // mean over completions of the sum over tokens of the KL estimate
    "objective/entropy",          // the same of -log pi_old: estimates a completion's entropy
    "objective/non_score_reward", // the same of -kl_coef kl
    "objective/rlhf_reward",      // objective/scores + objective/non_score_reward
    "objective/kl_coef",          // the coefficient that this update used
    "objective/scores_std",       // standard deviation of the scores
    "objective/gold",             // with --gold, --gold_model: mean gold score of the completions
    "policy/approxkl_avg",        // mean of (log pi - log pi_old)^2 / 2: how far the update has gone
    "policy/clipfrac_avg",        // share of tokens whose clipped loss was the larger one
    "policy/entropy_avg",         // entropy of pi's predictions, at the temperature; over all tokens
    "loss/policy_avg", "loss/value_avg", // the value loss without vf_coef
    "val/clipfrac_avg",           // share of tokens whose clipped value loss was the larger one
    "val/ratio", "val/ratio_var", // mean of rho, and its variance about that mean
    "val/num_eos_tokens",         // completions that the policy ended
    "val/mean",                   // mean of the critic's V before the update
    "val/error",                  // mean of (V - G)^2
    "val/var_explained",          // 1 - Var(G - V) / Var(G): 1 is a perfect critic
    "returns/mean", "returns/var", // mean of G = A + V, and its variance
    "response_length",            // mean number of tokens in a completion
    "num_steps",                  // optimizer steps that the update made
    "grad_norm", "val/grad_norm", // mean over steps of the unclipped norm: policy's, own critic's
};
// clang-format on
static const char shown[] = "objective/scores objective/kl objective/kl_coef loss/policy_avg "
                            "loss/value_avg policy/clipfrac_avg"; // on the terminal

// Numbers for each of the N tokens of a rollout that the policy chose (mask 1); those of other tokens
// are never read.
typedef struct {
    float *old_logp, *ref_logp; // of the token, by the policy of then and by the reference
    float *old_value;           // V of the state in which the token was chosen
    float *kl, *reward;
    float *advantage, *returns; // A and G
} TokenData;

// Policy and critic, the same model if the critic is a head on the policy, and what a forward pass of
// some rows of the rollout gives, packed anew (N tokens).
typedef struct {
    GPT2 *policy, *critic;
    int *from;             // (N) the same token in the rollout
    float *logp, *dlogp;   // (N) log pi of the tokens chosen
    float *value, *dvalue; // (N) the critic's head at every token: V of the state that it leads to
    Batch rows;
    HeadStats stats; // of the policy
} ActorCritic;

// Room for N tokens. The arrays, in the order above, are one block.
static TokenData token_data_make(size_t N) {
    float *at = mem_floats(7 * N);
    return (TokenData){at, at + N, at + 2 * N, at + 3 * N, at + 4 * N, at + 5 * N, at + 6 * N};
}

// Room for passes over N tokens, likewise.
static ActorCritic actor_critic_make(GPT2 *policy, GPT2 *critic, size_t N) {
    float *at = mem_floats(4 * N);
    int *from = mem_alloc(N, sizeof *from);
    return (ActorCritic){policy, critic, from, at, at + N, at + 2 * N, .dvalue = at + 3 * N};
}

// logp and value of the tokens of ac->rows.
static void actor_critic_forward(ActorCritic *ac) {
    gpt2_forward(ac->policy, &ac->rows);
    ac->stats = lm_head_forward(ac->policy, ac->logp);
    if (ac->critic != ac->policy) gpt2_forward(ac->critic, &ac->rows);
    value_head_forward(ac->critic, ac->value);
}

// The way back from dlogp and dvalue. Gradients of the weights accumulate.
static void actor_critic_backward(ActorCritic *ac) {
    lm_head_backward(ac->policy, ac->dlogp);
    value_head_backward(ac->critic, ac->dvalue);
    gpt2_backward(ac->policy);
    if (ac->critic != ac->policy) gpt2_backward(ac->critic);
}

// Log-probs of the rollout's tokens by policy and reference, and values by the critic, some rows at a
// time.
static void tokens_forward(TokenData *d, const Rollout *r, ActorCritic *ac, GPT2 *reference) {
    const int R = r->rows.R, B = args.run.per_device_train_batch_size;
    for (int i = 0; i < R; i += B) {
        rollout_pack(&ac->rows, ac->from, r, NULL, i, R - i < B ? R - i : B);
        actor_critic_forward(ac);
        for (int t = 0; t < ac->rows.N; t++) {
            d->old_logp[ac->from[t]] = ac->logp[t];
            // the state in which token t was chosen is the one that the token before it leads to
            d->old_value[ac->from[t]] = ac->rows.mask[t] ? ac->value[t - 1] : 0;
        }
        gpt2_forward(reference, &ac->rows); // rows in order: their tokens are neighbours in d, too
        lm_head_forward(reference, d->ref_logp + ac->from[0]);
    }
}

// Rewards of tokens and advantages. A token's reward is minus its KL term; the last one, which is EOS
// if the policy ended the text, has the completion's score on top. A cut completion counts as ended
// there: its score is less by --missing_eos_penalty (rollout_score), after its last token V is 0. The
// sum over a row, without whitening, is what RLHF maximises: score - kl_coef KL(pi || ref).
static void rewards_advantages(TokenData *d, const Rollout *r, double kl_coef) {
    const Batch *b = &r->rows;
    kl_estimate(d->kl, d->old_logp, d->ref_logp, b->mask, b->N,
                (KlEstimator)choice_index(args.kl_estimator, "k1|k3"));
    for (int t = 0; t < b->N; t++) d->reward[t] = b->mask[t] ? (float)(-kl_coef * d->kl[t]) : 0;
    for (int i = 0; i < b->R; i++) d->reward[b->row_start[i + 1] - 1] += r->score[i];
    if (args.whiten_rewards) whiten(d->reward, b->mask, b->N, false); // false: the mean stays
    gae(d->advantage, d->returns, d->reward, d->old_value, b->mask, b->row_start, b->R, args.gamma,
        args.lam);
    if (args.whiten_advantages) whiten(d->advantage, b->mask, b->N, true);
}

// The loss of the rows in `ac` as a part of a minibatch with M tokens, and its gradient: dlogp with
// respect to log pi of the tokens, dvalue with respect to the critic's head. Loss and gradient are
// divided by what the whole minibatch has, so it does not matter how it is split into passes.
static double minibatch_loss(ActorCritic *ac, const TokenData *d, double M, Meter *meter) {
    const Batch *b = &ac->rows;
    double loss = 0;
    memset(ac->dlogp, 0, (size_t)b->N * sizeof *ac->dlogp);
    memset(ac->dvalue, 0, (size_t)b->N * sizeof *ac->dvalue);
    for (int t = 0; t < b->N; t++) {
        if (!b->mask[t]) continue;
        const int k = ac->from[t];
        bool clipped, value_clipped;
        double slope;
        // l = max(-A rho, -A clip(rho, 1 - c, 1 + c)); its slope with respect to log pi is -A rho,
        // or 0 where the clipped one is the larger
        const double moved = (double)ac->logp[t] - d->old_logp[k], rho = exp(moved);
        const double policy =
            ppo_policy_point(&slope, &clipped, d->advantage[k], rho, args.cliprange);
        ac->dlogp[t] = (float)(slope / M);
        // l = 1/2 max((V - G)^2, (V clipped - G)^2), V of the state before the token, clipped to the
        // old V -+ cliprange_value; its slope with respect to V is V - G, or 0 likewise
        const double value = ppo_value_point(&slope, &value_clipped, ac->value[t - 1],
                                             d->old_value[k], d->returns[k], args.cliprange_value);
        ac->dvalue[t - 1] = (float)(args.vf_coef * slope / M);
        loss += (policy + args.vf_coef * value) / M;

        // each minibatch weighs 1 in the means, so a token 1/M
        meter_add(meter, POLICY_LOSS, policy / M, 1 / M);
        meter_add(meter, VALUE_LOSS, value / M, 1 / M);
        meter_add(meter, CLIPPED, clipped / M, 1 / M);
        meter_add(meter, VALUE_CLIPPED, value_clipped / M, 1 / M);
        meter_add(meter, APPROX_KL, moved * moved / 2 / M, 1 / M);
        meter_add(meter, RATIO, rho / M, 1 / M);
        meter_add(meter, RATIO_VAR, (rho - 1) * (rho - 1) / M, 1 / M); // about 1: update_measure
    }
    meter_add(meter, POLICY_ENTROPY, ac->stats.entropy, (double)ac->stats.count);
    return loss;
}

// Loss and gradients of a minibatch: n of the rollout's `rows` (NULL: all, in order), B in a pass.
// `passed`: all have just gone forward, in one pass, so only the way back is to be made.
static double minibatch_learn(ActorCritic *ac, const Rollout *r, const TokenData *d,
                              const int *rows, int n, bool passed, Meter *meter) {
    const int B = args.run.per_device_train_batch_size;
    const double M = (double)rollout_tokens(r, rows, n);
    double loss = 0;
    for (int i = 0; i < n; i += B) {
        rollout_pack(&ac->rows, ac->from, r, rows, i, n - i < B ? n - i : B);
        if (!passed) actor_critic_forward(ac);
        loss += minibatch_loss(ac, d, M, meter);
        actor_critic_backward(ac);
    }
    return loss;
}

// Learn from a rollout: in each epoch its rows, in a new order (~seed: another than that of prompts),
// are split into minibatches, and each of these is one step of policy and critic. A pass that takes
// the whole rollout was made by tokens_forward with the same weights, so the first epoch goes on from
// it. Stops after an epoch that went further than --max_approx_kl.
static void ppo_update(Run *run, ActorCritic *ac, const Rollout *r, const TokenData *d,
                       Meter *meter) {
    const int R = r->rows.R, n = R / args.num_mini_batches;
    const bool one_pass = n == R && R <= args.run.per_device_train_batch_size;
    int *order = one_pass ? NULL : mem_alloc((size_t)R, sizeof *order);
    for (int epoch = 0; epoch < args.num_ppo_epochs; epoch++) {
        const double moved = meter->sum[APPROX_KL]; // means of minibatches, added up
        if (order)
            rng_permutation(order, R, ~(uint64_t)args.run.seed,
                            (uint64_t)((run->step - 1) * args.num_ppo_epochs + epoch));
        for (int first = 0; first < R; first += n) {
            const int *rows = order ? order + first : NULL;
            const double loss = minibatch_learn(ac, r, d, rows, n, one_pass && epoch == 0, meter);
            // clip each model's own norm to max_grad_norm (1), AdamW at run->lr (set by run_next once
            // an update, by default linear to 0), clear gradients; `loss` only has to be finite
            meter_add(meter, NORM, run_update(run, ac->policy, loss), 1);
            if (ac->critic != ac->policy)
                meter_add(meter, VALUE_NORM, run_update(run, ac->critic, loss), 1);
        }
        const double approx_kl = (meter->sum[APPROX_KL] - moved) / args.num_mini_batches;
        if (args.max_approx_kl > 0 && approx_kl > args.max_approx_kl) break;
    }
    free(order);
}

// The metrics of an update that ppo_update has not measured.
static void update_measure(Meter *m, const Rollout *r, const TokenData *d, double kl_coef) {
    const Batch *b = &r->rows;
    const double R = b->R;
    double scores_var, returns_var, error_var, ignored, eos = 0;
    for (int i = 0; i < b->R; i++) eos += r->finish[i] == FINISH_EOS;
    const double score = masked_mean(r->score, NULL, NULL, b->R, &scores_var);
    const double kl = completion_mean(d->kl, b);
    meter_set(m, SCORES, score);
    meter_set(m, KL, kl);
    meter_set(m, ENTROPY, -completion_mean(d->old_logp, b));
    meter_set(m, NON_SCORE, -kl_coef * kl);
    meter_set(m, RLHF, score - kl_coef * kl);
    meter_set(m, KL_COEF, kl_coef);
    meter_set(m, SCORES_STD, R > 1 ? sqrt(scores_var * R / (R - 1)) : 0);
    if (r->gold_score) meter_set(m, GOLD, masked_mean(r->gold_score, NULL, NULL, b->R, &ignored));
    // Var(rho) = mean of (rho - 1)^2 - (mean of rho - 1)^2
    const double apart = meter_mean(m, RATIO) - 1;
    meter_set(m, RATIO_VAR, meter_mean(m, RATIO_VAR) - apart * apart);
    meter_set(m, EOS_TOKENS, eos);
    meter_set(m, VALUE, masked_mean(d->old_value, NULL, b->mask, b->N, &ignored));
    meter_set(m, RETURNS, masked_mean(d->returns, NULL, b->mask, b->N, &returns_var));
    meter_set(m, RETURNS_VAR, returns_var);
    const double error = masked_mean(d->returns, d->old_value, b->mask, b->N, &error_var);
    meter_set(m, VALUE_ERROR, error_var + error * error);
    if (returns_var > 0) meter_set(m, EXPLAINED, 1 - error_var / returns_var);
    meter_set(m, LENGTH, batch_count_mask(b) / R);
    meter_set(m, STEPS, m->weight[NORM]);
}

int main(int argc, char **argv) {
    Run run;
    run_begin(&run, &args.run, argc, argv, flags, COUNT(flags), "RLHF of GPT-2 by PPO", preset);
    rollout_begin(&run, &args.rollout, args.response_length);
    const int R = args.batch_size, B = args.run.per_device_train_batch_size;
    if (args.shared_critic && args.critic_model)
        die(EXIT_USAGE, "--critic_model and --shared_critic exclude each other");
    if (args.target_kl > 0 && args.kl_coef == 0)
        die(EXIT_USAGE, "--target_kl: a --kl_coef of 0 stays 0: expected one to begin with");
    if (R % args.num_mini_batches)
        die(EXIT_USAGE, "--batch_size %d cannot be split into %d equal parts (--num_mini_batches)",
            R, args.num_mini_batches);
    run_open(&run);
    run.adamw.tensorflow_epsilon = !strcmp(args.adam_epsilon_style, "tensorflow");

    // policy, reference, reward, critic (its head is zero where its directory has none)
    GPT2 policy, reference, own_critic = {0};
    GPT2 *critic = args.shared_critic ? &policy : &own_critic;
    Rollout rollout;
    rollout_policy(&run, &policy, args.shared_critic);
    run_reference(&run, &reference, &policy);
    rollout_open(&rollout, &run, &args.rollout, &policy, R);
    const char *critic_dir = args.critic_model ? args.critic_model : rollout.reward.first;
    if (!critic_dir) critic_dir = args.run.model;
    if (!args.shared_critic) model_load_scored(critic, NULL, critic_dir, "zero", 0);
    if (critic->config.vocab_size < policy.config.vocab_size)
        die(EXIT_BAD_INPUT, "%s: the critic's vocabulary has %d tokens, the policy's %d",
            critic_dir, critic->config.vocab_size, policy.config.vocab_size);
    printf("critic: %s, ", args.shared_critic ? "a head on the policy" : critic_dir);
    run_describe(critic);
    policy.temperature = reference.temperature = (float)args.rollout.temperature;

    // prompts, and room for a completion after each
    const int other = run_context(&reference, critic), context = run_context(&policy, NULL);
    const int positions = context < other ? context : other;
    if (args.response_length >= positions)
        die(EXIT_USAGE, "--response_length %d: no room for a prompt in a context of %d",
            args.response_length, positions);
    PromptSet train, eval;
    DataOptions options = run_data_options(&run, positions - args.response_length);
    options.vocab_size = policy.config.vocab_size;
    run_pieces(&run, &train, &eval, PROMPTS, &options);
    rollout_schedule(&run, train.n, args.total_episodes, R);

    // Go on from a checkpoint: weights and moments of policy and critic, kl_coef, number of the update
    // (prompts, samples, minibatches follow from it). KEPT flags, data, reference must be the same.
    double kl_coef = args.kl_coef;
    uint64_t reference_hash = model_hash(&reference);
    run_keep_f64(&run, "kl_coef", &kl_coef);
    run_match(&run, "reference", &reference_hash, "--model and --ref_model");
    run.output.critic = critic;
    run_train_begin(&run, &policy);
    run_train_begin(&run, critic);
    run_start(&run, &policy, NULL);
    run_prompts(&run, eval.n ? &eval : &train);
    run_before(&run, &policy, &reference, &reference);
    Meter meter = {.n = METRICS, .names = metric_names};
    const size_t T = (size_t)(options.max_length + args.response_length); // the longest row
    TokenData data = token_data_make((size_t)R * T);
    ActorCritic ac = actor_critic_make(&policy, critic, (size_t)B * T);
    while (run_next(&run)) {
        // rollout: completions of the next R prompts, sampled from the whole vocabulary; their scores
        rollout_sample(&rollout, &run, &policy, &train, (run.step - 1) * R, R);
        char *failure = rollout_score(&rollout, run_tokenizer(&run));
        if (failure) rollout_fail(&run, &policy, failure); // saves what the last update left, dies
        tokens_forward(&data, &rollout, &ac, &reference);
        rewards_advantages(&data, &rollout, kl_coef);

        ppo_update(&run, &ac, &rollout, &data, &meter); // learn

        // log; then adapt the KL coefficient (Ziegler et al. 2019)
        update_measure(&meter, &rollout, &data, kl_coef);
        log_number(&run.log, "step", (double)run.step);
        log_number(&run.log, "episode", (double)(run.step * R));
        meter_log(&meter, &run.log, "");
        log_number(&run.log, "lr", run.lr);
        log_write(&run.log);
        run.seen += R;
        run.epoch = (double)(run.step * R) / train.n;
        if (run_log_due(&run)) {
            run_print(&run, &meter, shown);
            run_print_rate(&run, (double)run.seen, "episodes");
        }
        // kl_coef *= 1 + clip(kl / target_kl - 1, -0.2, 0.2) R / kl_horizon
        const double kl = meter_mean(&meter, KL);
        if (args.target_kl > 0)
            kl_coef = kl_control(kl_coef, kl, args.target_kl, R, args.kl_horizon);
        meter_clear(&meter);
        rollout_show(&rollout, &run, data.kl);
        run_save(&run, &policy);
    }
    rollout_end(&rollout);
    run_after(&run, &policy, &reference);
    const int code = run_end(&run, &policy);

    gpt2_free(&policy);
    gpt2_free(&reference);
    gpt2_free(&own_critic);
    pieces_free(&train);
    pieces_free(&eval);
    free(data.old_logp); // the block
    free(ac.logp);       // likewise
    free(ac.from);
    batch_free(&ac.rows);
    return code;
}
