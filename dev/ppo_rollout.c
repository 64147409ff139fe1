// ppo_rollout.c: what train_ppo.c makes of a given rollout, for dev/compare_trl_ppo.py.
//
// cc -O3 -march=native -fno-math-errno -fopenmp dev/ppo_rollout.c -o dev_ppo -lopenblas -lcjson -lm
//
//     ./dev_ppo --model DIR --reward_model DIR --critic_model DIR --rollout FILE.jsonl
//
// The file has rows of prompt_ids and completion_ids, as a reward program gets them. Prints one
// line of JSON a row: its score and, for each token of the completion, logp, ref_logp, value, kl,
// reward, advantage and returns; then one line with the losses and the gradients' norms of the
// first pass over all rows. The functions are train_ppo's own, in the order of its main.
#define main train_ppo_main
#include "../train_ppo.c"
#undef main

// Append "name": [x of the row's completion] to the line.
static void print_array(Text *line, const char *name, const float *x, const Batch *b, int row) {
    const char *comma = "";
    text_print(line, ", \"%s\": [", name);
    for (int t = b->row_start[row]; t < b->row_start[row + 1]; t++) {
        if (!b->mask[t]) continue;
        text_print(line, "%s%.9g", comma, (double)x[t]);
        comma = ", ";
    }
    text_print(line, "]");
}

// Read the rows of the file; a completion's tokens have mask 1.
static void rows_load(Batch *rows, const char *path, int vocab_size) {
    LineReader reader;
    TokenList ids = {0};
    lines_open(&reader, path);
    for (cJSON *record = record_next(&reader); record; record = record_next(&reader)) {
        ids.n = 0;
        record_ids(&ids, &reader, record, "prompt_ids", vocab_size);
        const size_t n = ids.n;
        record_ids(&ids, &reader, record, "completion_ids", vocab_size);
        batch_add_row(rows, ids.data, NULL, (int)ids.n);
        memset(rows->mask + rows->row_start[rows->R - 1], 0, n);
        cJSON_Delete(record);
    }
    lines_close(&reader), tokens_free(&ids);
}

int main(int argc, char **argv) {
    struct {
        const char *model, *ref_model, *reward_model, *critic_model, *rollout, *kl_estimator;
        double temperature, kl_coef, gamma, lam, missing_eos_penalty, cliprange, cliprange_value;
        double vf_coef;
        bool whiten_rewards;
    } args = {
        .kl_estimator = "k1",
        .temperature = 0.7,
        .kl_coef = 0.05,
        .gamma = 1,
        .lam = 0.95,
        .cliprange = 0.2,
        .cliprange_value = 0.2,
        .vf_coef = 0.1,
    };
    Flag flags[] = {
        FLAG_TEXT(args, model, "the policy"),
        FLAG_TEXT(args, ref_model, "the reference, if not --model"),
        FLAG_TEXT(args, reward_model, "the reward model"),
        FLAG_TEXT(args, critic_model, "the critic"),
        FLAG_TEXT(args, rollout, "JSONL with prompt_ids and completion_ids"),
        FLAG(args, temperature, 0.01, 100, "see train_ppo for this and the others"),
        FLAG(args, kl_coef, 0, 1e9, ""),
        FLAG_CHOICE(args, kl_estimator, "k1|k3", ""),
        FLAG(args, gamma, 0, 1, ""),
        FLAG(args, lam, 0, 1, ""),
        FLAG(args, missing_eos_penalty, 0, 1e9, ""),
        FLAG(args, cliprange, 1e-9, 1e9, ""),
        FLAG(args, cliprange_value, 1e-9, 1e9, ""),
        FLAG(args, vf_coef, 0, 1e9, ""),
        FLAG_SWITCH(args, whiten_rewards, ""),
    };
    flags_parse(argc, argv, flags, COUNT(flags), "train_ppo's numbers of a given rollout", NULL);
    if (!args.model || !args.reward_model || !args.critic_model || !args.rollout)
        die(EXIT_USAGE, "--model, --reward_model, --critic_model and --rollout are needed");
    GPT2 policy, ref, critic;
    Reward reward;
    Batch read = {0};
    model_load(&policy, args.model);
    model_load(&ref, args.ref_model ? args.ref_model : args.model);
    model_load_scored(&critic, NULL, args.critic_model, "zero", 0);
    policy.temperature = ref.temperature = (float)args.temperature;
    gpt2_train_begin(&policy, false), gpt2_train_begin(&critic, false);
    rows_load(&read, args.rollout, policy.config.vocab_size);
    const int R = read.R;
    reward_open_model(&reward, args.reward_model, NULL, R);
    Rollout rollout;
    Work work;
    rollout_alloc(&rollout, R, read.N), work_alloc(&work, R, read.N); // room to spare
    for (int i = 0; i < R; i++) {
        const bool ended = read.tokens[read.row_start[i + 1] - 1] == policy.config.eos_token_id;
        batch_copy_row(&rollout.rows, &read, i);
        rollout.finish[i] = ended ? FINISH_EOS : FINISH_LENGTH;
    }

    // one update, as in train_ppo's main
    const Batch *rows = &rollout.rows;
    char *failure = reward_score(&reward, rollout.score, rows, NULL);
    if (failure) die(EXIT_BAD_INPUT, "%s", failure);
    for (int i = 0; i < R; i++)
        if (rollout.finish[i] != FINISH_EOS) rollout.score[i] -= (float)args.missing_eos_penalty;
    rollout_forward(&rollout, &work, &policy, &critic, &ref, R);
    kl_estimate(rollout.kl, rollout.logp, rollout.ref_logp, rows->mask, rows->N,
                strcmp(args.kl_estimator, "k1") ? KL_K3 : KL_K1);
    rollout_reward(&rollout, args.kl_coef);
    if (args.whiten_rewards) whiten(rollout.reward, rows->mask, rows->N, false);
    gae(rollout.advantage, rollout.returns, rollout.reward, rollout.value, rows->mask,
        rows->row_start, R, args.gamma, args.lam);
    whiten(rollout.advantage, rows->mask, rows->N, true);
    int *all = mem_alloc((size_t)R, sizeof *all);
    for (int i = 0; i < R; i++) all[i] = i;
    work_take(&work, &rollout, all, R);
    actor_critic_forward(&work, &policy, &critic);
    const PpoStats stats =
        ppo_loss(work.dlogp, work.dvalue, work.logp, work.old_logp, work.advantage, work.value,
                 work.old_value, work.returns, work.rows.mask, work.rows.N, batch_count_mask(rows),
                 args.cliprange, args.cliprange_value, args.vf_coef);
    actor_critic_backward(&work, &policy, &critic);

    const struct {
        const char *name;
        const float *x;
    } arrays[] = {{"logp", rollout.logp},      {"ref_logp", rollout.ref_logp},
                  {"value", rollout.value},    {"kl", rollout.kl},
                  {"reward", rollout.reward},  {"advantage", rollout.advantage},
                  {"returns", rollout.returns}};
    for (int i = 0; i < R; i++) {
        Text line = {0};
        text_print(&line, "{\"score\": %.9g", (double)rollout.score[i]);
        for (int k = 0; k < COUNT(arrays); k++)
            print_array(&line, arrays[k].name, arrays[k].x, rows, i);
        printf("%s}\n", line.data);
        text_free(&line);
    }
    printf(
        "{\"policy_loss\": %.9g, \"value_loss\": %.9g, \"ratio\": %.9g, \"clip_fraction\": %.9g, "
        "\"grad_norm\": %.9g, \"critic_grad_norm\": %.9g}\n",
        stats.policy_loss, stats.value_loss, stats.ratio, stats.clip_fraction, grad_norm(&policy),
        grad_norm(&critic));
    rollout_free(&rollout), work_free(&work), batch_free(&read), free(all);
    gpt2_free(&policy), gpt2_free(&ref), gpt2_free(&critic), reward_close(&reward);
    flags_free(flags, COUNT(flags));
    return 0;
}
