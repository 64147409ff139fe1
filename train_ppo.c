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
//     reward      a reward model, frozen, or any program: one score for a whole completion
//     critic      GPT-2 with a scalar head, trained: the value V of a state, the reward to come.
//                 A model of its own, or (--shared_critic) a head on the policy
//
// main() below is the algorithm from top to bottom:
//
//     flags -> policy, reference, reward, critic -> prompts
//     -> for each update {
//            rollout: completions y of prompts x, sampled from pi; log pi, log ref, V, score
//            r_t = -kl_coef kl_t, + score at the last token;   A_t = GAE(r, V)
//            for each PPO epoch, each minibatch {
//                forward, ratio = pi(y_t) / pi_old(y_t), clipped losses, backward, clip, AdamW }
//            KL controller, log
//        } -> save
//
// Every mean over tokens runs over real tokens of completions: neither the prompt nor anything
// behind a completion's end exists for it. The last token is EOS, if the policy wrote it, and the
// score stands on it. All log-probs are those of logits divided by the temperature, since from that
// distribution the completions come. Old and new log-probs take the same way through the code, so
// in an update's first minibatch the ratio is 1.
//
// Memory, in floats: policy and critic take 4 for each weight (weights, gradients, AdamW's moments),
// small models one more for each thread but the first; reference and reward model take 1. Policy and
// critic also keep about 10 C for each token and layer of the rows in one forward pass (C with
// --gradient_checkpointing), and sampling keeps 2 C for each of all batch_size rows.
//
// Elsewhere: TRL puts the score one place behind EOS, counts padding in several means, makes one
// step per epoch however many minibatches there are, and does not clip the gradient. Ziegler's code
// has a head on the policy as critic (--shared_critic), whitened rewards (--whiten_rewards, there in
// each minibatch), an adaptive KL coefficient (--kl_coef 0.15 --target_kl 6), TensorFlow's AdamW
// (--adam_epsilon 1e-5 --adam_epsilon_style tensorflow) and no clipping of gradients either
// (--max_grad_norm 0). A completion without its end has a penalty taken off its score here and in
// TRL (--missing_eos_penalty); in Ziegler's code it has the score -1 instead.
//
// Without arguments it trains the model in data/sft to write film reviews that please the reward
// model in data/rm.
#include "lib/base/common.h"
#include "lib/base/flags.h"
#include "losses.h"
#include "lib/base/tokenizer.h"
#include "lib/data/dataset.h"
#include "lib/data/preferences.h"
#include "lib/data/prompts.h"
#include "model.h"
#include "lib/files/checkpoint.h"
#include "lib/run/sample.h"
#include "lib/run/reward.h"
#include "lib/run/before_after.h"

// The run without arguments: a tiny model wants larger steps than GPT-2 does.
static const char preset[] =
    "--model data/sft --reward_model data/rm --dataset data/prefs_train.jsonl "
    "--eval_dataset data/prefs_eval.jsonl --output_dir out/ppo --total_episodes 6400 "
    "--batch_size 128 --num_ppo_epochs 2 --num_mini_batches 2 --per_device_train_batch_size 64 "
    "--response_length 40 --temperature 1 --kl_coef 0.15 --learning_rate 0.001 --logging_steps 5 "
    "--sample_steps 25 --save_steps 0 --eval_prompts 500 --gold";

// What one update learns from: R completions, each in a row with its prompt, and numbers for each
// token that the policy chose (mask 1); those of other tokens are never read.
typedef struct {
    Batch rows;
    Finish *finish;             // (R) what ended each completion
    float *score;               // (R)
    float *logp, *ref_logp;     // (N) of the token, by the policy of then and by the reference
    float *value;               // (N) of the state in which the token was chosen
    float *kl, *reward;         // (N)
    float *advantage, *returns; // (N)
} Rollout;

// What one forward and backward pass works on: some rows of the rollout, packed anew.
typedef struct {
    Batch rows;
    float *logp, *dlogp, *value, *dvalue;              // (N) of the tokens chosen
    float *old_logp, *old_value, *advantage, *returns; // (N) from the rollout
    float *head, *dhead;                               // (N) the critic's head, of every token
    HeadStats stats;                                   // the policy's
} Work;

// What is measured while an update learns.
typedef struct {
    PpoStats ppo;             // sums of the minibatches' means
    double entropy;           // of the policy, summed over tokens
    int64_t tokens;           // how many those are
    double norm, critic_norm; // gradient norms before clipping, summed over steps
    int steps, epochs;
} Learning;

// Room for R rows of at most T tokens.
static void rollout_alloc(Rollout *r, int R, int T) {
    *r = (Rollout){0};
    float **const arrays[] = {&r->logp,   &r->ref_logp,  &r->value,  &r->kl,
                              &r->reward, &r->advantage, &r->returns};
    for (int i = 0; i < COUNT(arrays); i++) *arrays[i] = mem_floats((size_t)R * (size_t)T);
    r->finish = mem_alloc((size_t)R, sizeof *r->finish);
    r->score = mem_floats((size_t)R);
}

static void rollout_free(Rollout *r) {
    batch_free(&r->rows);
    free(r->finish), free(r->score), free(r->logp), free(r->ref_logp), free(r->value);
    free(r->kl), free(r->reward), free(r->advantage), free(r->returns);
}

// Room for B rows of at most T tokens.
static void work_alloc(Work *w, int B, int T) {
    *w = (Work){0};
    float **const arrays[] = {&w->logp,     &w->dlogp,     &w->value,     &w->dvalue,  &w->head,
                              &w->old_logp, &w->old_value, &w->advantage, &w->returns, &w->dhead};
    for (int i = 0; i < COUNT(arrays); i++) *arrays[i] = mem_floats((size_t)B * (size_t)T);
}

static void work_free(Work *w) {
    batch_free(&w->rows);
    free(w->logp), free(w->dlogp), free(w->value), free(w->dvalue), free(w->head), free(w->dhead);
    free(w->old_logp), free(w->old_value), free(w->advantage), free(w->returns);
}

// Append row r of another batch.
static void batch_copy_row(Batch *to, const Batch *from, int r) {
    const int at = from->row_start[r];
    batch_add_row(to, from->tokens + at, from->mask + at, from->row_start[r + 1] - at);
}

// ---- policy and critic -------------------------------------------------------------------------
// The critic is the policy itself if they share their trunk.

// w->logp, w->value of each token chosen in w->rows: its log-prob by the policy, and the critic's
// value of the state in which it was chosen, which the critic's head gives at the token before.
static void actor_critic_forward(Work *w, GPT2 *policy, GPT2 *critic) {
    const Batch *b = &w->rows;
    gpt2_forward(policy, b);
    w->stats = lm_head_forward(policy, w->logp);
    if (critic != policy) gpt2_forward(critic, b);
    value_head_forward(critic, w->head);
    for (int t = 0; t < b->N; t++) w->value[t] = b->mask[t] ? w->head[t - 1] : 0.0f;
}

// The way back from w->dlogp and w->dvalue. Gradients of the weights accumulate.
static void actor_critic_backward(Work *w, GPT2 *policy, GPT2 *critic) {
    const Batch *b = &w->rows;
    for (int t = 0; t < b->N; t++)
        w->dhead[t] = t + 1 < b->N && b->mask[t + 1] ? w->dvalue[t + 1] : 0.0f;
    lm_head_backward(policy, w->dlogp);
    value_head_backward(critic, w->dhead);
    gpt2_backward(policy);
    if (critic != policy) gpt2_backward(critic);
}

// Fill the rollout's logp, value and ref_logp, B rows at a time.
static void rollout_forward(Rollout *r, Work *w, GPT2 *policy, GPT2 *critic, GPT2 *ref, int B) {
    for (int i = 0; i < r->rows.R; i += B) {
        const int at = r->rows.row_start[i];
        batch_clear(&w->rows);
        for (int k = i; k < i + B && k < r->rows.R; k++) batch_copy_row(&w->rows, &r->rows, k);
        actor_critic_forward(w, policy, critic);
        memcpy(r->logp + at, w->logp, (size_t)w->rows.N * sizeof(float));
        memcpy(r->value + at, w->value, (size_t)w->rows.N * sizeof(float));
        gpt2_forward(ref, &w->rows);
        lm_head_forward(ref, r->ref_logp + at);
    }
}

// The rewards of tokens: minus the KL term, and the completion's score on its last token. The sum
// over a row is what RLHF maximises: score - kl_coef KL(pi || ref).
static void rollout_reward(Rollout *r, double kl_coef) {
    const Batch *b = &r->rows;
    for (int t = 0; t < b->N; t++) r->reward[t] = b->mask[t] ? (float)(-kl_coef * r->kl[t]) : 0.0f;
    for (int i = 0; i < b->R; i++) r->reward[b->row_start[i + 1] - 1] += r->score[i];
}

// Add up what passes or minibatches have measured.
static void ppo_add(PpoStats *sum, const PpoStats *part) {
    sum->policy_loss += part->policy_loss, sum->value_loss += part->value_loss;
    sum->clip_fraction += part->clip_fraction;
    sum->value_clip_fraction += part->value_clip_fraction;
    sum->approx_kl += part->approx_kl;
    sum->ratio += part->ratio, sum->ratio_squared += part->ratio_squared;
}

// Pack n rows of the rollout, with all that the losses need of them.
static void work_take(Work *w, const Rollout *r, const int *rows, int n) {
    batch_clear(&w->rows);
    for (int i = 0; i < n; i++) {
        const int from = r->rows.row_start[rows[i]], to = w->rows.N;
        const size_t size = (size_t)(r->rows.row_start[rows[i] + 1] - from) * sizeof(float);
        batch_copy_row(&w->rows, &r->rows, rows[i]);
        memcpy(w->old_logp + to, r->logp + from, size);
        memcpy(w->old_value + to, r->value + from, size);
        memcpy(w->advantage + to, r->advantage + from, size);
        memcpy(w->returns + to, r->returns + from, size);
    }
}

// ---- the log -----------------------------------------------------------------------------------

// Mean over the completions of the sum of x over their tokens.
static double completion_mean(const float *x, const Batch *b) {
    double sum = 0;
    for (int t = 0; t < b->N; t++)
        if (b->mask[t]) sum += x[t];
    return sum / b->R;
}

// Mean score; *deviation gets the standard deviation.
static double score_mean(const Rollout *r, double *deviation) {
    const int R = r->rows.R;
    double mean = 0, squares = 0;
    for (int i = 0; i < R; i++) mean += r->score[i] / (double)R;
    for (int i = 0; i < R; i++) squares += (r->score[i] - mean) * (r->score[i] - mean);
    *deviation = R > 1 ? sqrt(squares / (R - 1)) : 0;
    return mean;
}

// Mean of x - y over the tokens chosen; y may be NULL. *variance gets the (population) variance.
static double masked_mean(const float *x, const float *y, const Batch *b, double *variance) {
    double sum = 0, squares = 0, n = 0;
    for (int pass = 0; pass < 2; pass++)
        for (int t = 0; t < b->N; t++) {
            if (!b->mask[t]) continue;
            const double d = (double)x[t] - (y ? y[t] : 0);
            if (pass) squares += (d - sum / n) * (d - sum / n);
            else sum += d, n++;
        }
    *variance = squares / n;
    return sum / n;
}

// Add an update to the log, as one row. Names are TRL's where it has them; each mean over tokens
// runs over the tokens of completions, EOS included, and each mean over minibatches over those of
// all epochs.
//
//   objective/scores              mean score of a completion, after the penalty for a missing EOS
//   objective/kl                  mean over completions of the sum over tokens of the KL estimate
//   objective/entropy             the same of -log pi_old: estimates the entropy of a completion
//   objective/non_score_reward    the same of -kl_coef kl
//   objective/rlhf_reward         objective/scores + objective/non_score_reward
//   objective/kl_coef             the coefficient that this update used
//   objective/scores_std          standard deviation of the scores
//   objective/gold                with --gold: mean gold score of the completions
//   policy/approxkl_avg           mean of (log pi - log pi_old)^2 / 2: how far the update has gone
//   policy/clipfrac_avg           share of tokens whose clipped loss was the larger one
//   policy/entropy_avg            mean entropy of pi's predictions, at the temperature
//   loss/policy_avg, loss/value_avg   the two losses, the latter without vf_coef
//   val/clipfrac_avg              share of tokens whose clipped value loss was the larger one
//   val/ratio, val/ratio_var      mean and variance of pi / pi_old over tokens
//   val/num_eos_tokens            completions that the policy ended
//   val/mean, val/error           mean of the critic's V before the update; of (V - return)^2
//   val/var_explained             1 - Var(return - V) / Var(return): 1 is a perfect critic
//   returns/mean, returns/var     of the returns A + V
//   response_length               mean number of tokens in a completion
//   num_steps                     optimizer steps that the update made
//   grad_norm, val/grad_norm      mean norm of the policy's and the critic's gradient, unclipped
//   lr, episode, step             learning rate; completions and updates so far
//
// TRL's eps, episodes a second, is on the printed line only: the log of a run is a function of its
// flags.
static void log_update(MetricsLog *log, const Rollout *r, const Learning *l, double kl_coef,
                       double lr, const double *gold, bool own_critic, int64_t step) {
    const Batch *b = &r->rows;
    const double R = b->R, tokens = batch_count_mask(b), passes = l->steps;
    double deviation, returns_var, error_var, ignored, eos = 0;
    for (int i = 0; i < b->R; i++) eos += r->finish[i] == FINISH_EOS;
    const double score = score_mean(r, &deviation), kl = completion_mean(r->kl, b);
    const double returns = masked_mean(r->returns, NULL, b, &returns_var);
    const double error = masked_mean(r->returns, r->value, b, &error_var);
    const double ratio = l->ppo.ratio / passes;
    const struct {
        const char *name;
        double value;
        bool shown;
    } metrics[] = {
        {"step", (double)step, true},
        {"episode", (double)step * R, true},
        {"objective/scores", score, true},
        {"objective/kl", kl, true},
        {"objective/entropy", -completion_mean(r->logp, b), true},
        {"objective/non_score_reward", -kl_coef * kl, true},
        {"objective/rlhf_reward", score - kl_coef * kl, true},
        {"objective/kl_coef", kl_coef, true},
        {"objective/scores_std", deviation, true},
        {"objective/gold", gold ? *gold : 0, gold != NULL},
        {"policy/approxkl_avg", l->ppo.approx_kl / passes, true},
        {"policy/clipfrac_avg", l->ppo.clip_fraction / passes, true},
        {"policy/entropy_avg", l->entropy / (double)l->tokens, true},
        {"loss/policy_avg", l->ppo.policy_loss / passes, true},
        {"loss/value_avg", l->ppo.value_loss / passes, true},
        {"val/clipfrac_avg", l->ppo.value_clip_fraction / passes, true},
        {"val/ratio", ratio, true},
        {"val/ratio_var", l->ppo.ratio_squared / passes - ratio * ratio, true},
        {"val/num_eos_tokens", eos, true},
        {"val/mean", masked_mean(r->value, NULL, b, &ignored), true},
        {"val/error", error_var + error * error, true},
        {"val/var_explained", 1 - error_var / returns_var, returns_var > 0},
        {"returns/mean", returns, true},
        {"returns/var", returns_var, true},
        {"response_length", tokens / R, true},
        {"num_steps", l->steps, true},
        {"grad_norm", l->norm / passes, true},
        {"val/grad_norm", l->critic_norm / passes, own_critic},
        {"lr", lr, true},
    };
    for (int i = 0; i < COUNT(metrics); i++)
        if (metrics[i].shown) log_number(log, metrics[i].name, metrics[i].value);
    log_write(log);
}

// Append the text of row r's tokens [from, to), counted in the batch.
static void row_text(Text *out, const Tokenizer *t, const Batch *b, int from, int to) {
    tokenizer_decode(t, out, b->tokens + from, (size_t)(to - from), true);
    text_append(out, "", 0);
}

// Mean gold score of the rollout's texts.
static double rollout_gold(const Rollout *r, Gold *gold, const Tokenizer *t) {
    double sum = 0;
    for (int i = 0; i < r->rows.R; i++) {
        Text text = {0};
        row_text(&text, t, &r->rows, r->rows.row_start[i], r->rows.row_start[i + 1]);
        sum += gold_parts(gold, text.data, text.size).score;
        text_free(&text);
    }
    return sum / r->rows.R;
}

// Print the first texts of the rollout with their scores and KL terms.
static void rollout_show(const Rollout *r, const Tokenizer *t, int count, int64_t step) {
    const Batch *b = &r->rows;
    progress_clear();
    printf("\nrollout of update %" PRId64 " (score, KL: prompt | completion):\n", step);
    for (int i = 0; i < count && i < b->R; i++) {
        Text text = {0}, clean = {0};
        const int begin = b->row_start[i], end = b->row_start[i + 1];
        int first = begin; // token of the completion
        double kl = 0;
        while (!b->mask[first]) first++;
        for (int k = first; k < end; k++) kl += r->kl[k];
        row_text(&text, t, b, begin, first);
        text_append(&text, " |", 2);
        row_text(&text, t, b, first, end);
        text_append_repaired(&clean, text.data, text.size); // it can stop amid a character
        printf("  %6.2f, %5.2f: %s\n", r->score[i], kl, clean.data);
        text_free(&text), text_free(&clean);
    }
    printf("\n");
}

int main(int argc, char **argv) {
    // ---- flags ---------------------------------------------------------------------------------
    // Names and defaults are those of TRL's PPOConfig and transformers' TrainingArguments.
    struct {
        const char *model, *ref_model, *tokenizer, *critic_model, *reward_model, *reward_command;
        const char *dataset, *eval_dataset, *output_dir, *resume_from_checkpoint, *chat_format;
        const char *lr_scheduler_type, *kl_estimator, *adam_epsilon_style;
        double reward_timeout, temperature, kl_coef, target_kl, kl_horizon, cliprange;
        double cliprange_value, vf_coef, gamma, lam, missing_eos_penalty, max_approx_kl;
        double learning_rate, weight_decay, max_grad_norm, adam_beta1, adam_beta2, adam_epsilon;
        int max_prompt_length, response_length, batch_size, num_mini_batches, num_ppo_epochs;
        int per_device_train_batch_size, warmup_steps, logging_steps, save_steps;
        int save_total_limit, samples, sample_steps, eval_prompts;
        int64_t total_episodes, seed;
        bool shared_critic, bf16, gradient_checkpointing, whiten_rewards, whiten_advantages;
        bool no_decay_embeddings, overwrite_output_dir, gold;
    } args = {
        .output_dir = "out/ppo",
        .chat_format = "hh",
        .lr_scheduler_type = "linear",
        .kl_estimator = "k1",
        .adam_epsilon_style = "pytorch",
        .reward_timeout = 60,
        .temperature = 0.7,
        .kl_coef = 0.05,
        .kl_horizon = 10000,
        .cliprange = 0.2,
        .cliprange_value = 0.2,
        .vf_coef = 0.1,
        .gamma = 1,
        .lam = 0.95,
        .learning_rate = 3e-6,
        .max_grad_norm = 1,
        .adam_beta1 = 0.9,
        .adam_beta2 = 0.999,
        .adam_epsilon = 1e-8,
        .max_prompt_length = 512,
        .response_length = 53,
        .batch_size = 64,
        .num_mini_batches = 1,
        .num_ppo_epochs = 4,
        .per_device_train_batch_size = 8,
        .logging_steps = 1,
        .save_steps = 500,
        .samples = 4,
        .seed = 42,
        .whiten_advantages = true,
    };
    Flag flags[] = {
        FLAG_HEADING("model"),
        FLAG_TEXT(args, model, "the policy: directory in Hugging Face format to start from"),
        FLAG_TEXT(args, ref_model, "the frozen reference, if not --model"),
        FLAG_TEXT(args, tokenizer, "directory with vocab.json and merges.txt, if not --model's"),
        FLAG_TEXT(args, critic_model,
                  "what the critic starts from: a reward model, or a language model, which gets a "
                  "head of zeros (none: --reward_model, or else --model)"),
        FLAG_SWITCH(args, shared_critic, "the critic is a head on the policy instead"),
        FLAG_SWITCH(args, gradient_checkpointing, "less memory, a quarter more time"),
        FLAG_HEADING("reward"),
        FLAG_TEXT(args, reward_model, "directory of a reward model, as train_rm saves it"),
        FLAG_TEXT(args, reward_command,
                  "or a program: gets JSONL of prompt and completion on standard input, answers "
                  "one number a line (see reward.h)"),
        FLAG(args, reward_timeout, 0.001, 1e6, "seconds of silence after which that has failed"),
        FLAG_HEADING("data"),
        FLAG_TEXT(args, dataset, "JSONL with prompt or prompt_ids; other columns are left alone"),
        FLAG_TEXT(args, eval_dataset, "prompts to show and measure before and after"),
        FLAG_CHOICE(args, chat_format, "hh|simple", "how messages become text"),
        FLAG(args, max_prompt_length, 1, 1 << 20, "tokens of a prompt; it is cut from the left"),
        FLAG_HEADING("training"),
        FLAG(args, total_episodes, 0, 1e15, "completions to learn from (0: one for each prompt)"),
        FLAG(args, batch_size, 1, 1 << 16, "completions in one update"),
        FLAG(args, num_ppo_epochs, 1, 1000, "passes over them"),
        FLAG(args, num_mini_batches, 1, 1 << 16, "optimizer steps in each pass"),
        FLAG(args, per_device_train_batch_size, 1, 1 << 16, "rows in one forward pass"),
        FLAG(args, response_length, 1, 1 << 20, "tokens that a completion may have"),
        FLAG(args, temperature, 0.01, 100, "of the policy; divides all logits"),
        FLAG(args, missing_eos_penalty, 0, 1e9, "taken off the score of a cut completion"),
        FLAG(args, kl_coef, 0, 1e9, "weight of the KL term in the reward"),
        FLAG_CHOICE(args, kl_estimator, "k1|k3",
                    "log-ratio, or a form >= 0 that biases what is learnt (see losses.h)"),
        FLAG(args, target_kl, 0, 1e9, "adapt kl_coef to this KL, in nats a completion (0: do not)"),
        FLAG(args, kl_horizon, 1, 1e15, "episodes in which it adapts; fewer are faster"),
        FLAG(args, gamma, 0, 1, "discount of rewards"),
        FLAG(args, lam, 0, 1, "GAE's lambda: 1 trusts the returns alone, 0 the critic"),
        FLAG_SWITCH(args, whiten_rewards, "scale rewards to variance 1, the mean stays"),
        FLAG_SWITCH(args, whiten_advantages, "scale advantages to mean 0, variance 1"),
        FLAG(args, cliprange, 1e-9, 1e9, "the ratio's gain ends at 1 -+ this"),
        FLAG(args, cliprange_value, 1e-9, 1e9,
             "the same for the distance of a value to the old one"),
        FLAG(args, vf_coef, 0, 1e9, "weight of the value loss"),
        FLAG(args, max_approx_kl, 0, 1e9,
             "no further pass once policy/approxkl of one exceeds this (0: never)"),
        FLAG(args, learning_rate, 0, 10, "peak learning rate"),
        FLAG_CHOICE(args, lr_scheduler_type, "linear|cosine|constant|constant_with_warmup",
                    "course of the rate, update by update"),
        FLAG(args, warmup_steps, 0, 1e9, "updates until the peak"),
        FLAG(args, weight_decay, 0, 10, "AdamW's decay of matrices and embeddings"),
        FLAG_SWITCH(args, no_decay_embeddings, "leave the embeddings out of it"),
        FLAG(args, adam_beta1, 0, 0.999999, "decay of the mean of gradients"),
        FLAG(args, adam_beta2, 0, 0.999999999, "decay of the mean of their squares"),
        FLAG(args, adam_epsilon, 1e-30, 1, "added to the root of that"),
        FLAG_CHOICE(args, adam_epsilon_style, "pytorch|tensorflow",
                    "after or before bias correction; with 1e-5 first steps differ widely"),
        FLAG(args, max_grad_norm, 0, 1e9,
             "clip the gradients of policy and critic to this norm, each its own (0: never)"),
        FLAG_SWITCH(args, bf16,
                    "multiply in bfloat16: less exact, 1.4 to 1.9 times as fast with AVX512-BF16"),
        FLAG(args, seed, 0, 9e15, "of the order of prompts and of samples"),
        FLAG_HEADING("output"),
        FLAG_TEXT(args, output_dir, "gets final/, checkpoint-N/, metrics.jsonl, run.json"),
        FLAG_SWITCH(args, overwrite_output_dir, "delete what an earlier run left there"),
        FLAG_TEXT(args, resume_from_checkpoint, "a checkpoint-N directory, or latest"),
        FLAG(args, logging_steps, 1, 1e9, "updates between printed lines (the log has all)"),
        FLAG(args, save_steps, 0, 1e9, "updates between checkpoints (0: none)"),
        FLAG(args, save_total_limit, 0, 1e9, "checkpoints to keep (0: all)"),
        FLAG(args, samples, 0, 100, "texts to show before and after"),
        FLAG(args, sample_steps, 0, 1e9, "show so many of the rollout every so many updates"),
        FLAG(args, eval_prompts, 0, 1e6, "texts to measure the KL to the reference on"),
        FLAG_SWITCH(args, gold, "give texts the gold score of film reviews (data/gold.h), too"),
    };
    flags_parse(argc, argv, flags, COUNT(flags), "RLHF of GPT-2 by PPO", preset);
    const bool resume = args.resume_from_checkpoint && *args.resume_from_checkpoint;
    const KlEstimator estimator = strcmp(args.kl_estimator, "k1") ? KL_K3 : KL_K1;
    const int B = args.per_device_train_batch_size, R = args.batch_size;
    if (!args.dataset) die(EXIT_USAGE, "--dataset is needed; see --help");
    if (!args.model) die(EXIT_USAGE, "--model is needed; see --help");
    if (!args.output_dir) die(EXIT_USAGE, "--output_dir is empty; see --help");
    if (!args.reward_model == !args.reward_command)
        die(EXIT_USAGE, "%s --reward_model or --reward_command; see --help",
            args.reward_model ? "expected one of" : "nothing gives a reward: expected");
    if (args.shared_critic && args.critic_model)
        die(EXIT_USAGE, "--critic_model and --shared_critic exclude each other");
    if (args.target_kl > 0 && args.kl_coef == 0)
        die(EXIT_USAGE, "--target_kl: a --kl_coef of 0 stays 0: expected one to begin with");
    if (R % args.num_mini_batches)
        die(EXIT_USAGE, "--batch_size %d cannot be split into %d equal parts (--num_mini_batches)",
            R, args.num_mini_batches);

    // ---- policy, reference, reward, critic -----------------------------------------------------
    Output output;
    output_open(&output, args.output_dir, args.resume_from_checkpoint, args.overwrite_output_dir,
                argc == 1);
    output.save_total_limit = args.save_total_limit;
    products_begin(args.bf16);
    const char *policy_dir = resume ? output.resume_dir : args.model;
    const char *ref_dir = args.ref_model ? args.ref_model : args.model;
    const char *critic_dir = args.critic_model   ? args.critic_model
                             : args.reward_model ? args.reward_model
                                                 : args.model;
    const char *tokenizer_dir = args.tokenizer ? args.tokenizer : args.model;
    Tokenizer tokenizer_memory = {0}; // a model of bare token ids has none
    Tokenizer *tokenizer = NULL;
    if (args.tokenizer || !path_is_dir(args.model) || dir_has_tokenizer(args.model)) {
        tokenizer_load(&tokenizer_memory, tokenizer_dir);
        tokenizer = &tokenizer_memory;
    }
    GPT2 policy, ref, own_critic = {0}; // the reference has no gradients: it is forward only
    GPT2 *critic = args.shared_critic ? &policy : &own_critic;
    check_language_model(policy_dir); // before it gets a head
    if (args.shared_critic) model_load_scored(&policy, NULL, policy_dir, "zero", 0);
    else model_load(&policy, policy_dir);
    model_load(&ref, ref_dir);
    if (!args.shared_critic) model_load_scored(critic, NULL, critic_dir, "zero", 0);
    const GPT2Config *config = &policy.config;
    const int vocab = tokenizer ? tokenizer->vocab_size : config->vocab_size;
    const int eos = tokenizer ? tokenizer->eos_id : config->eos_token_id;
    if (tokenizer) tokenizer_check(tokenizer, config->vocab_size, tokenizer_dir);
    if (ref.config.vocab_size != config->vocab_size)
        die(EXIT_BAD_INPUT, "%s: the reference's vocabulary has %d tokens, the policy's %d",
            ref_dir, ref.config.vocab_size, config->vocab_size);
    if (critic->config.vocab_size < config->vocab_size)
        die(EXIT_BAD_INPUT, "%s: the critic's vocabulary has %d tokens, the policy's %d",
            critic_dir, critic->config.vocab_size, config->vocab_size);
    if (eos < 0 && args.missing_eos_penalty > 0)
        die(EXIT_USAGE, "--missing_eos_penalty: %s has no EOS", args.model);
    if (args.gold && !tokenizer)
        die(EXIT_USAGE, "--gold: %s has no tokenizer, so there are no texts", args.model);
    Reward reward;
    if (args.reward_model) reward_open_model(&reward, args.reward_model, tokenizer, B);
    else reward_open_command(&reward, args.reward_command, args.reward_timeout);
    if (args.reward_model && reward.model.config.vocab_size < vocab)
        die(EXIT_BAD_INPUT, "%s: the reward model's vocabulary has %d tokens, the policy's %d",
            args.reward_model, reward.model.config.vocab_size, vocab);
    policy.temperature = ref.temperature = (float)args.temperature;
    gpt2_train_begin(&policy, args.gradient_checkpointing);
    if (critic != &policy) gpt2_train_begin(critic, args.gradient_checkpointing);
    output.critic = critic;
    printf("policy: %s, GPT-2 with %.2fM parameters: %d layers, %d channels, %d heads, vocabulary "
           "%d\nreference: %s\nreward: %s %s\ncritic: %s",
           policy_dir, (double)gpt2_count_params(&policy) * 1e-6, config->n_layer, config->n_embd,
           config->n_head, config->vocab_size, ref_dir, args.reward_model ? "model" : "program",
           args.reward_model ? args.reward_model : args.reward_command,
           args.shared_critic ? "a head on the policy" : critic_dir);
    if (critic != &policy) printf(", %.2fM parameters", (double)gpt2_count_params(critic) * 1e-6);
    printf("\n");

    // ---- prompts -------------------------------------------------------------------------------
    int positions = config->n_positions;
    if (ref.config.n_positions < positions) positions = ref.config.n_positions;
    if (critic->config.n_positions < positions) positions = critic->config.n_positions;
    if (args.response_length >= positions)
        die(EXIT_USAGE, "--response_length %d: no room for a prompt in a context of %d",
            args.response_length, positions);
    const int room = positions - args.response_length;
    const DataOptions options = {
        .max_length = args.max_prompt_length < room ? args.max_prompt_length : room,
        .chat_format = !strcmp(args.chat_format, "hh") ? CHAT_HH : CHAT_SIMPLE,
    };
    const int T = options.max_length + args.response_length; // the longest row
    PromptSet train, eval = {0};
    Text report = {0};
    prompts_load(&train, tokenizer, config->vocab_size, args.dataset, &options);
    prompts_report(&report, &train, args.dataset);
    if (args.eval_dataset) {
        prompts_load(&eval, tokenizer, config->vocab_size, args.eval_dataset, &options);
        text_print(&report, "\n");
        prompts_report(&report, &eval, args.eval_dataset);
    }
    printf("%s\n", report.data);
    text_free(&report);
    const int64_t episodes = args.total_episodes ? args.total_episodes : train.n;
    int64_t total = (episodes + R - 1) / R; // updates

    // ---- what a checkpoint remembers -----------------------------------------------------------
    // The prompts, samples and minibatches of an update are functions of seed and step. The reward
    // may be another one in the run that resumes: a program that has failed can be mended. MATCH_
    // values must be the same.
    int64_t step = 0, split = B, shared = args.shared_critic;
    double kl_coef = args.kl_coef;
    uint64_t data_hash = prompts_hash(&train);
    uint64_t training_hash = flags_hash(flags, COUNT(flags), "training");
    uint64_t ref_hash = model_hash(&ref);
    const StateField state[] = {
        STATE_I64("step", &step),
        STATE_F64("kl_coef", &kl_coef),
        MATCH_I64("seed", &args.seed, "--seed"),
        MATCH_I64("total_steps", &total, "--total_episodes and --batch_size"),
        MATCH_I64("rows_per_pass", &split, "--per_device_train_batch_size"),
        MATCH_I64("shared_critic", &shared, "--shared_critic"),
        MATCH_U64("data_hash", &data_hash, "--dataset, --max_prompt_length and --chat_format"),
        MATCH_U64("reference", &ref_hash, "--model and --ref_model"),
        MATCH_F64("learning_rate", &args.learning_rate, "--learning_rate"),
        MATCH_U64("training", &training_hash,
                  "the flags under `training` in --help; run.json has their earlier values"),
    };
    if (resume) {
        checkpoint_resume(&output, &policy, state, COUNT(state));
        printf("resumed at update %" PRId64 " of %" PRId64 "\n", step, total);
    }
    Text run_json = {0};
    flags_json(&run_json, flags, COUNT(flags));
    char *config_path = path_join(policy_dir, "config.json");
    output_start(&output, run_json.data, config_path);
    free(config_path), text_free(&run_json);
    MetricsLog log;
    log_open(&log, output.metrics_path, output.metrics_bytes);
    stop_on_signals();

    // ---- before training -----------------------------------------------------------------------
    Rollout rollout;
    Work work;
    Sampler sampler = {0};
    rollout_alloc(&rollout, R, T);
    work_alloc(&work, B, T);
    SampleOptions sampling = {.temperature = args.temperature,
                              .top_p = 1,
                              .seed = (uint64_t)args.seed,
                              .max_new_tokens = args.response_length,
                              .eos_id = eos,
                              .vocab_size = vocab};
    Gold *gold = args.gold ? mem_alloc(1, sizeof *gold) : NULL;
    if (gold) gold_create(gold);
    const PromptSet *shown = eval.n ? &eval : &train;
    Batch prompts = {0}, shown_prompts = {0};
    for (int i = 0; i < shown->n; i++)
        prompts_add(&shown_prompts, shown->tokens + shown->start[i],
                    shown->start[i + 1] - shown->start[i]);
    Texts before, after;
    texts_measure(&before, &ref, &ref, tokenizer, &shown_prompts, args.eval_prompts, B, args.gold,
                  &sampling);
    if (!resume) {
        texts_log(&before, &log, 0, 0);
        if (tokenizer)
            texts_show(&policy, tokenizer, &shown_prompts, args.samples, &sampling,
                       "before training");
    }

    // ---- train ---------------------------------------------------------------------------------
    const AdamW adamw = {.beta1 = args.adam_beta1,
                         .beta2 = args.adam_beta2,
                         .epsilon = args.adam_epsilon,
                         .weight_decay = args.weight_decay,
                         .decay_embeddings = !args.no_decay_embeddings,
                         .tensorflow_epsilon = !strcmp(args.adam_epsilon_style, "tensorflow")};
    const Batch *rows = &rollout.rows;
    int *order = mem_alloc((size_t)train.n, sizeof *order); // of the prompts
    int *shuffled = mem_alloc((size_t)R, sizeof *shuffled); // rows of the rollout
    for (int i = 0; i < R; i++) shuffled[i] = i;
    int64_t epoch_of_order = -1, saved_step = step;
    const int64_t first_step = step;
    const double began = seconds_now();
    double rollout_seconds = 0;
    while (step < total && !stop_signal) {
        const double update_began = seconds_now();

        // rollout: a completion for each of the next R prompts. An episode has a stream of random
        // numbers for itself, apart from those of the texts before and after.
        batch_clear(&prompts);
        for (int i = 0; i < R; i++) {
            const int64_t episode = step * R + i, epoch = episode / train.n;
            if (epoch != epoch_of_order)
                rng_permutation(order, train.n, (uint64_t)args.seed, (uint64_t)epoch);
            epoch_of_order = epoch;
            const int k = order[episode % train.n];
            batch_add_row(&prompts, train.tokens + train.start[k], NULL,
                          (int)(train.start[k + 1] - train.start[k]));
        }
        progress_show("update %" PRId64 "/%" PRId64 "  sampling", step + 1, total);
        sample_batch(&sampler, &policy, &sampling, &prompts, (1ull << 40) + (uint64_t)(step * R),
                     &rollout.rows, rollout.finish);

        // score each completion as a whole
        char *failure = reward_score(&reward, rollout.score, rows, tokenizer);
        if (failure && argc > 1) {
            if (saved_step != step || step == 0)
                checkpoint_save(&output, &policy, tokenizer, step, state, COUNT(state));
            die(EXIT_BAD_INPUT,
                "update %" PRId64 ": %s; saved %s/checkpoint-%" PRId64
                ", go on from there with --resume_from_checkpoint latest",
                step + 1, failure, output.target, step);
        } else if (failure) die(EXIT_BAD_INPUT, "update %" PRId64 ": %s", step + 1, failure);
        for (int i = 0; i < R; i++)
            if (rollout.finish[i] != FINISH_EOS)
                rollout.score[i] -= (float)args.missing_eos_penalty;

        // log-probs by policy and reference, values by the critic; rewards of tokens, advantages
        rollout_forward(&rollout, &work, &policy, critic, &ref, B);
        kl_estimate(rollout.kl, rollout.logp, rollout.ref_logp, rows->mask, rows->N, estimator);
        rollout_reward(&rollout, kl_coef);
        if (args.whiten_rewards) whiten(rollout.reward, rows->mask, rows->N, false);
        gae(rollout.advantage, rollout.returns, rollout.reward, rollout.value, rows->mask,
            rows->row_start, R, args.gamma, args.lam);
        if (args.whiten_advantages) whiten(rollout.advantage, rows->mask, rows->N, true);
        rollout_seconds += seconds_now() - update_began;

        // learn: each minibatch is one optimizer step, made of passes over B rows. A pass that takes
        // the whole rollout was made above with the same weights, so the first epoch goes on from it.
        const double lr =
            args.learning_rate * lr_factor(args.lr_scheduler_type, step, args.warmup_steps, total);
        const int minibatch = R / args.num_mini_batches;
        const bool one_pass = minibatch == R && R <= B; // then the order of rows is left, too
        Learning learning = {0};
        for (int epoch = 0; epoch < args.num_ppo_epochs; epoch++) {
            double approx_kl = 0;
            if (!one_pass)
                rng_permutation(shuffled, R, ~(uint64_t)args.seed,
                                (uint64_t)(step * args.num_ppo_epochs + epoch));
            for (int begin = 0; begin < R; begin += minibatch) {
                const int *mine = shuffled + begin;
                PpoStats sum = {0};
                long tokens = 0;
                for (int i = 0; i < minibatch; i++)
                    for (int t = rows->row_start[mine[i]]; t < rows->row_start[mine[i] + 1]; t++)
                        tokens += rows->mask[t];
                for (int i = 0; i < minibatch; i += B) {
                    work_take(&work, &rollout, mine + i, minibatch - i < B ? minibatch - i : B);
                    if (!one_pass || epoch > 0) actor_critic_forward(&work, &policy, critic);
                    PpoStats part = ppo_loss(work.dlogp, work.dvalue, work.logp, work.old_logp,
                                             work.advantage, work.value, work.old_value,
                                             work.returns, work.rows.mask, work.rows.N, tokens,
                                             args.cliprange, args.cliprange_value, args.vf_coef);
                    actor_critic_backward(&work, &policy, critic);
                    ppo_add(&sum, &part);
                    learning.entropy += work.stats.entropy, learning.tokens += work.stats.count;
                }
                const double norm = grad_norm(&policy);
                const double critic_norm = critic == &policy ? 0 : grad_norm(critic);
                if (!isfinite(sum.policy_loss + sum.value_loss + norm + critic_norm))
                    die(EXIT_DIVERGED,
                        "update %" PRId64 ": policy loss is %g, value loss %g, gradient norms %g "
                        "and %g (learning rate %g); last good checkpoint: %s%.0" PRId64,
                        step + 1, sum.policy_loss, sum.value_loss, norm, critic_norm, lr,
                        saved_step ? "checkpoint-" : "none", saved_step); // .0: nothing for 0
                adamw_step(&policy, &adamw, lr, clip_scale(norm, args.max_grad_norm));
                if (critic != &policy)
                    adamw_step(critic, &adamw, lr, clip_scale(critic_norm, args.max_grad_norm));
                ppo_add(&learning.ppo, &sum);
                learning.norm += norm, learning.critic_norm += critic_norm, learning.steps++;
                approx_kl += sum.approx_kl / args.num_mini_batches;
            }
            progress_show("update %" PRId64 "/%" PRId64 "  epoch %d of %d", step + 1, total,
                          epoch + 1, args.num_ppo_epochs);
            if (args.max_approx_kl > 0 && approx_kl > args.max_approx_kl) break;
        }
        step++;

        // log, then adapt the KL coefficient
        const bool last = step == total;
        double ignored, gold_score = 0;
        const double score = score_mean(&rollout, &ignored), kl = completion_mean(rollout.kl, rows);
        if (gold) gold_score = rollout_gold(&rollout, gold, tokenizer);
        log_update(&log, &rollout, &learning, kl_coef, lr, gold ? &gold_score : NULL,
                   critic != &policy, step);
        if (step % args.logging_steps == 0 || last) {
            const double seconds = seconds_now() - began, steps = learning.steps;
            char left[32];
            time_format(left, seconds / (double)(step - first_step) * (double)(total - step));
            progress_clear();
            printf("update %4" PRId64 "/%" PRId64 "  score %7.3f  kl %6.3f  kl_coef %.4f  "
                   "loss policy %7.4f value %6.3f  clip %.3f  %.3g episodes/s  left %s\n",
                   step, total, score, kl, kl_coef, learning.ppo.policy_loss / steps,
                   learning.ppo.value_loss / steps, learning.ppo.clip_fraction / steps,
                   (double)((step - first_step) * R) / seconds, left);
        }
        if (args.target_kl > 0)
            kl_coef = kl_control(kl_coef, kl, args.target_kl, R, args.kl_horizon);
        if (args.samples && args.sample_steps && step % args.sample_steps == 0 && !last &&
            tokenizer)
            rollout_show(&rollout, tokenizer, args.samples, step);
        if (args.save_steps && step % args.save_steps == 0 && !last) {
            checkpoint_save(&output, &policy, tokenizer, step, state, COUNT(state));
            saved_step = step;
        }
    }
    progress_clear();

    // ---- save ----------------------------------------------------------------------------------
    const int stopped = stop_signal; // one that comes later is too late: the rest takes a moment
    reward_close(&reward);
    if (stopped) {
        if (argc == 1)
            printf("stopped at update %" PRId64 "; the default run keeps nothing\n", step);
        else {
            if (saved_step != step || step == 0)
                checkpoint_save(&output, &policy, tokenizer, step, state, COUNT(state));
            printf("stopped at update %" PRId64 " of %" PRId64 " and saved; go on with "
                   "--resume_from_checkpoint latest\n",
                   step, total);
        }
        output_close(&output);
    } else {
        if (tokenizer)
            texts_show(&policy, tokenizer, &shown_prompts, args.samples, &sampling,
                       "after training");
        texts_measure(&after, &policy, &ref, tokenizer, &shown_prompts, args.eval_prompts, B,
                      args.gold, &sampling);
        texts_log(&after, &log, step, (double)(step * R) / train.n);
        texts_report(&before, &after, "reference");
        texts_free(&after);
        char spent[32], rolled[32];
        printf("%s, %s of it rollouts, peak memory %.0f MB\n",
               time_format(spent, seconds_now() - began), time_format(rolled, rollout_seconds),
               memory_peak_mb());
        printf("model: %s/final   metrics: %s/metrics.jsonl\n", args.output_dir, args.output_dir);
        output_finish(&output, &policy, tokenizer);
    }
    log_close(&log);

    gpt2_free(&policy), gpt2_free(&ref), gpt2_free(&own_critic), tokenizer_free(&tokenizer_memory);
    prompts_free(&train), prompts_free(&eval), rollout_free(&rollout), work_free(&work);
    batch_free(&prompts), batch_free(&shown_prompts), sampler_free(&sampler);
    if (gold) gold_free(gold);
    free(gold), texts_free(&before), free(order), free(shuffled), flags_free(flags, COUNT(flags));
    return stopped ? 128 + stopped : 0;
}
