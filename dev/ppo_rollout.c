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

static const char *rollout_file;

// Those that train_ppo has, too, are its own variables.
static Flag given[] = {
    FLAG_TEXT(args.run, model, "the policy"),
    FLAG_TEXT(args.run, ref_model, "the reference, if not --model"),
    FLAG_TEXT(args.rollout, reward_model, "the reward model"),
    FLAG_TEXT(args, critic_model, "the critic"),
    {"rollout", FLAG_STRING, &rollout_file, 0, 0, NULL, "JSONL with prompt_ids, completion_ids",
     false, NULL},
    FLAG(args.rollout, temperature, 0.01, 100, "see train_ppo for this and the others"),
    FLAG(args, kl_coef, 0, 1e9, ""),
    FLAG_CHOICE(args, kl_estimator, "k1|k3", ""),
    FLAG(args, gamma, 0, 1, ""),
    FLAG(args, lam, 0, 1, ""),
    FLAG(args.rollout, missing_eos_penalty, 0, 1e9, ""),
    FLAG(args, cliprange, 1e-9, 1e9, ""),
    FLAG(args, cliprange_value, 1e-9, 1e9, ""),
    FLAG(args, vf_coef, 0, 1e9, ""),
    FLAG_SWITCH(args, whiten_rewards, ""),
};

int main(int argc, char **argv) {
    flags_parse(argc, argv, given, COUNT(given), "train_ppo's numbers of a given rollout", NULL);
    if (!args.run.model || !args.rollout.reward_model || !args.critic_model || !rollout_file)
        die(EXIT_USAGE, "--model, --reward_model, --critic_model and --rollout are needed");
    GPT2 policy, reference, critic;
    Rollout rollout = {.args = &args.rollout};
    model_load(&policy, args.run.model);
    model_load(&reference, args.run.ref_model ? args.run.ref_model : args.run.model);
    model_load_scored(&critic, NULL, args.critic_model, "zero", 0);
    policy.temperature = reference.temperature = (float)args.rollout.temperature;
    gpt2_train_begin(&policy, false);
    gpt2_train_begin(&critic, false);
    const Batch *rows = &rollout.rows;
    rows_load(&rollout.rows, rollout_file, policy.config.vocab_size);
    const int R = args.run.per_device_train_batch_size = rows->R;
    reward_open_model(&rollout.reward, args.rollout.reward_model, NULL, R);
    rollout.score = mem_floats((size_t)R);
    rollout.finish = mem_alloc((size_t)R, sizeof *rollout.finish);
    for (int i = 0; i < R; i++) {
        const bool ended = rows->tokens[rows->row_start[i + 1] - 1] == policy.config.eos_token_id;
        rollout.finish[i] = ended ? FINISH_EOS : FINISH_LENGTH;
    }

    // one update, as in train_ppo's main, up to its first step
    TokenData data = token_data_make((size_t)rows->N);
    ActorCritic ac = actor_critic_make(&policy, &critic, (size_t)rows->N);
    Meter meter = {.n = METRICS, .names = metric_names};
    char *failure = rollout_score(&rollout, NULL);
    if (failure) die(EXIT_BAD_INPUT, "%s", failure);
    tokens_forward(&data, &rollout, &ac, &reference);
    rewards_advantages(&data, &rollout, args.kl_coef);
    minibatch_learn(&ac, &rollout, &data, NULL, R, true, &meter);

    const struct {
        const char *name;
        const float *x;
    } arrays[] = {{"logp", data.old_logp},   {"ref_logp", data.ref_logp},
                  {"value", data.old_value}, {"kl", data.kl},
                  {"reward", data.reward},   {"advantage", data.advantage},
                  {"returns", data.returns}};
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
        meter_mean(&meter, POLICY_LOSS), meter_mean(&meter, VALUE_LOSS), meter_mean(&meter, RATIO),
        meter_mean(&meter, CLIPPED), grad_norm(&policy), grad_norm(&critic));
    rollout_end(&rollout);
    free(data.old_logp);
    free(ac.logp);
    free(ac.from);
    batch_free(&ac.rows);
    gpt2_free(&policy);
    gpt2_free(&reference);
    gpt2_free(&critic);
    flags_free(given, COUNT(given));
    return 0;
}
