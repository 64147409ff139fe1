// fuzz_checkpoint.c: throws bytes at what a run reads before it goes on (fuzz.h): the manifest of a checkpoint and
// its training state. Any manifest is either good or has a reason why it is not; any state is either refused
// with a message or goes into the run's values.
//
// An input is trainer/manifest.json, a NUL byte and trainer/state.json. The checkpoint beside them is that of a
// tiny model, which is saved when the process begins.
#include "fuzz.h" // defines: fuzz_write, fuzz_dir, fuzz_part
#include "../../lib/files/checkpoint.h"

static GPT2 fuzz_model;
static char fuzz_checkpoint[256], fuzz_manifest[300], fuzz_state[300];
static int64_t fuzz_step, fuzz_seed = 42;
static double fuzz_loss;
static uint64_t fuzz_data = 7;
static struct {
    double learning_rate;
    int64_t max_steps;
    bool bf16;
    const char *output_dir;
} fuzz_args = {0.5, 6, false, "out"};
static Flag fuzz_flags[] = {
    FLAG_HEADING_KEPT("training"),
    FLAG(fuzz_args, learning_rate, 0, 1, ""),
    FLAG(fuzz_args, max_steps, 0, 9, ""),
    FLAG_SWITCH(fuzz_args, bf16, ""),
    FLAG_HEADING("output"),
    FLAG_TEXT(fuzz_args, output_dir, ""),
};
static StateField fuzz_fields[] = {
    STATE_I64("step", &fuzz_step),
    STATE_F64("sum of loss", &fuzz_loss),
    MATCH_U64("data", &fuzz_data, "--dataset"),
    MATCH_I64("seed", &fuzz_seed, "--seed"),
};

static void fuzz_setup(void) {
    const char *dir = fuzz_dir();
    const GPT2Config config = {.n_layer = 1,
                               .n_head = 1,
                               .n_embd = 4,
                               .n_positions = 4,
                               .vocab_size = 8,
                               .eos_token_id = 7,
                               .layer_norm_epsilon = 1e-5f,
                               .initializer_range = 0.02f};
    char metrics[256];
    snprintf(metrics, sizeof metrics, "%s/metrics.jsonl", dir);
    fuzz_write(metrics, "{}\n", 3);
    gpt2_create(&fuzz_model, config);
    gpt2_init_random(&fuzz_model, 1);
    gpt2_train_begin(&fuzz_model, false);
    static char copy[256];
    snprintf(copy, sizeof copy, "%s", dir);
    Output out = {.dir = copy,
                  .metrics_path = metrics,
                  .flags = fuzz_flags,
                  .n_flags = COUNT(fuzz_flags),
                  .lock = -1};
    checkpoint_save(&out, &fuzz_model, NULL, 3, fuzz_fields, COUNT(fuzz_fields));
    snprintf(fuzz_checkpoint, sizeof fuzz_checkpoint, "%s/checkpoint-3", dir);
    snprintf(fuzz_manifest, sizeof fuzz_manifest, "%s/trainer/manifest.json", fuzz_checkpoint);
    snprintf(fuzz_state, sizeof fuzz_state, "%s/trainer/state.json", fuzz_checkpoint);
}

static void fuzz_input(const uint8_t *data, size_t size) {
    const uint8_t *part;
    size_t n = fuzz_part(&part, &data, &size);
    if (n) {
        fuzz_write(fuzz_manifest, part, n);
        checkpoint_verify(fuzz_checkpoint);
    }
    n = fuzz_part(&part, &data, &size);
    if (!n) return;
    fuzz_write(fuzz_state, part, n);
    Output out = {.resume_dir = fuzz_checkpoint,
                  .flags = fuzz_flags,
                  .n_flags = COUNT(fuzz_flags),
                  .lock = -1};
    checkpoint_resume(&out, &fuzz_model, fuzz_fields, COUNT(fuzz_fields));
    if (fuzz_seed != 42 || fuzz_data != 7) abort(); // these are compared, never set
}
