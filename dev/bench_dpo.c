// bench_dpo.c: what each saving brings in a DPO step. dev/bench_trl_dpo.py runs it.
//
// cc -O3 -march=native -fno-math-errno -fopenmp dev/bench_dpo.c -o bench_dpo -lopenblas -lcjson -lm
//
//     ./bench_dpo --tokenizer DIR --dataset PAIRS.jsonl      GPT-2 small; --tiny to try it out
//
// It begins with a step without any: rows padded to the longest of their batch, logits for every
// position, the reference run in every step, the prompt in front of both completions. Then the
// savings are switched on one after another, until the step is train_dpo's. All ways take turns on
// the same batches, so that the machine's moods hit all alike, and must give the same loss: the
// exit code is 1 if they do not. A step is everything from tokens to new weights; the reference of
// a cached run is not counted, as in training for several epochs. Weights are random, the
// reference's are others, and the learning rate is 0, so that each step sees the same model.
#include "../lib/base/common.h"
#include "../lib/base/flags.h"
#include "../test/batches.h"
#include "../lib/base/tokenizer.h"
#include "../lib/data/dataset.h"
#include "../lib/data/preferences.h"
#include "../model.h"

typedef struct {
    const char *name;
    bool packed, completions, cached, shared;
} Way;

// Each has one saving more than the one before.
static const Way ways[] = {
    {"no saving", false, false, false, false},
    {"no padding", true, false, false, false},
    {"logits of completions only", true, true, false, false},
    {"reference from the file", true, true, true, false},
    {"prompt once a pair", true, true, true, true},
};

// What a step works on; counts marks the tokens of completions, batch.mask those with logits.
typedef struct {
    Batch packed, batch;
    unsigned char *counts, *row_counts; // (N), (T)
    int *row, *length;                  // (T), (R)
    float *logp, *dlogp;                // (N)
    float *sum, *dsum, *ref_sum;        // (R)
} Work;

static void work_alloc(Work *w, int B, int max_length) {
    const size_t N = 2 * (size_t)B * (size_t)max_length, R = 3 * (size_t)B;
    *w = (Work){0};
    w->counts = mem_alloc(N, 1), w->row_counts = mem_alloc((size_t)max_length, 1);
    w->row = mem_alloc((size_t)max_length, sizeof(int)), w->length = mem_alloc(R, sizeof(int));
    w->logp = mem_floats(N), w->dlogp = mem_floats(N);
    w->sum = mem_floats(R), w->dsum = mem_floats(R), w->ref_sum = mem_floats(R);
}

static void work_free(Work *w) {
    batch_free(&w->packed), batch_free(&w->batch);
    free(w->counts), free(w->row_counts), free(w->row), free(w->length);
    free(w->logp), free(w->dlogp), free(w->sum), free(w->dsum), free(w->ref_sum);
}

// Fill the batch with the n pairs as this way has them.
static void batch_make(Work *w, const PairSet *data, const int *pairs, int n, const Way *way) {
    Batch *b = &w->batch, *from = way->packed ? b : &w->packed;
    pairs_batch(from, data, pairs, n, way->shared);
    if (!way->packed) {
        int T = 0;
        for (int r = 0; r < from->R; r++)
            if (batch_row_length(from, r) > T) T = batch_row_length(from, r);
        batch_clear(b);
        for (int r = 0; r < from->R; r++) {
            const int at = from->row_start[r], own = from->row_start[r + 1] - at;
            memset(w->row, 0, (size_t)T * sizeof(int)), memset(w->row_counts, 0, (size_t)T);
            memcpy(w->row, from->tokens + at, (size_t)own * sizeof(int));
            memcpy(w->row_counts, from->mask + at, (size_t)own);
            batch_add_row(b, w->row, w->row_counts, T); // padding after a row is never attended to
        }
    }
    memcpy(w->counts, b->mask, (size_t)b->N);
    if (way->completions) return;
    memset(b->mask, 1, (size_t)b->N);
    for (int r = 0; r < b->R; r++) b->mask[b->row_start[r]] = 0; // predicted by nothing
}

// sum (R): log-probs of the completions in the batch under this model.
static void completions_forward(Work *w, GPT2 *model, float *sum) {
    gpt2_forward(model, &w->batch);
    lm_head_forward(model, w->logp);
    row_sum_forward(sum, w->length, w->logp, w->counts, w->batch.row_start, w->batch.R);
}

// One update on the batch of n pairs. Without `reference` w->ref_sum is there already. Returns the
// loss.
static double step(Work *w, GPT2 *model, GPT2 *reference, int n, bool shared) {
    const AdamW adamw = {0.9, 0.999, 1e-8, 0, true, false};
    const Batch *b = &w->batch;
    const int R = shared ? 3 : 2, first = shared ? 1 : 0; // rows of a pair; of them the chosen one
    double loss = 0;
    if (reference) completions_forward(w, reference, w->ref_sum);
    completions_forward(w, model, w->sum);
    memset(w->dsum, 0, (size_t)b->R * sizeof(float));
    for (int i = 0; i < n; i++) {
        const int c = R * i + first, r = c + 1;
        loss += dpo_loss(w->dsum + c, w->dsum + r, w->sum + c, w->sum + r, w->ref_sum + c,
                         w->ref_sum + r, w->length + c, w->length + r, 1, n, DPO_SIGMOID, 0.1, 0)
                    .loss;
    }
    row_sum_backward(w->dlogp, w->dsum, w->counts, b->row_start, b->R);
    lm_head_backward(model, w->dlogp);
    gpt2_backward(model);
    adamw_step(model, &adamw, 0, clip_scale(grad_norm(model), 1));
    return loss;
}

int main(int argc, char **argv) {
    struct {
        const char *tokenizer, *dataset;
        int max_length, batch_size, pairs;
        bool tiny;
    } args = {.max_length = 512, .batch_size = 4, .pairs = 64};
    Flag flags[] = {
        FLAG_TEXT(args, tokenizer, "directory with GPT-2's vocab.json and merges.txt"),
        FLAG_TEXT(args, dataset, "JSONL with pairs"),
        FLAG(args, max_length, 2, 1024, "tokens of prompt and completion"),
        FLAG(args, batch_size, 1, 1 << 10, "pairs in a step"),
        FLAG(args, pairs, 1, 1e6, "pairs of the file to use"),
        FLAG_SWITCH(args, tiny, "a model of 2 layers and 64 channels instead of GPT-2 small"),
    };
    flags_parse(argc, argv, flags, COUNT(flags), "what each saving brings in a DPO step", NULL);
    if (!args.tokenizer || !args.dataset) die(EXIT_USAGE, "--tokenizer and --dataset are needed");
    setvbuf(stdout, NULL, _IOLBF, 0);
    products_begin(false);
    Tokenizer tokenizer;
    PairSet data;
    tokenizer_load(&tokenizer, args.tokenizer);
    pairs_load(&data, &tokenizer, args.dataset,
               &(DataOptions){.max_length = args.max_length, .chat_format = CHAT_HH});
    const int B = args.batch_size, n = data.n < args.pairs ? data.n : args.pairs;
    const int batches = n / B; // whole ones only
    if (!batches) die(EXIT_BAD_INPUT, "%s: fewer pairs than a batch has", args.dataset);

    const GPT2Config config = {.vocab_size = tokenizer.vocab_size,
                               .n_positions = 1024,
                               .n_embd = args.tiny ? 64 : 768,
                               .n_layer = args.tiny ? 2 : 12,
                               .n_head = args.tiny ? 2 : 12,
                               .n_inner = args.tiny ? 256 : 3072,
                               .layer_norm_epsilon = 1e-5f,
                               .initializer_range = 0.02f};
    GPT2 model, reference;
    gpt2_create(&model, config), gpt2_init_random(&model, 1), gpt2_train_begin(&model, false);
    gpt2_create(&reference, config), gpt2_init_random(&reference, 2);
    printf("GPT-2 with %.1fM random weights, %d steps of %d pairs, at most %d tokens a row\n",
           (double)gpt2_count_params(&model) * 1e-6, batches, B, args.max_length);

    Work w;
    work_alloc(&w, B, args.max_length);
    int *pairs = mem_alloc((size_t)B, sizeof *pairs);
    double seconds[COUNT(ways)] = {0}, tokens[COUNT(ways)] = {0}, logits[COUNT(ways)] = {0};
    double loss[COUNT(ways)] = {0}, worst = 0;
    int widest = 0, most = 0;
    for (int k = 0; k < batches; k++) { // the largest batch runs before the clock does
        for (int i = 0; i < B; i++) pairs[i] = k * B + i;
        batch_make(&w, &data, pairs, B, &ways[0]);
        if (w.batch.N > most) most = w.batch.N, widest = k;
    }
    for (int k = -1; k < batches; k++) {
        double first = 0;
        for (int i = 0; i < B; i++) pairs[i] = (k < 0 ? widest : k) * B + i;
        for (int v = 0; v < COUNT(ways); v++) {
            const Way *way = &ways[v];
            batch_make(&w, &data, pairs, B, way);
            if (way->cached) completions_forward(&w, &reference, w.ref_sum);
            const double began = seconds_now();
            const double l = step(&w, &model, way->cached ? NULL : &reference, B, way->shared);
            if (k < 0) continue;
            seconds[v] += seconds_now() - began;
            tokens[v] += w.batch.N, logits[v] += batch_count_mask(&w.batch);
            loss[v] += l / batches;
            if (v == 0) first = l;
            if (fabs(l - first) > worst * first) worst = fabs(l - first) / first;
        }
        progress_show("%d of %d batches", k + 1, batches);
    }
    progress_clear();

    printf("%-28s %8s %8s %8s %8s %7s %7s  %s\n", "and, from line to line,", "tokens", "logits",
           "s/step", "pairs/s", "gain", "total", "loss");
    for (int v = 0; v < COUNT(ways); v++)
        printf("%-28s %8.0f %8.0f %8.3f %8.3f %6.2fx %6.2fx  %.6f\n", ways[v].name,
               tokens[v] / batches, logits[v] / batches, seconds[v] / batches,
               (double)(B * batches) / seconds[v], seconds[v ? v - 1 : 0] / seconds[v],
               seconds[0] / seconds[v], loss[v]);
    const bool same = worst < 1e-4; // log-probs of a thousand nats are rounded to 1e-7 of that
    printf("losses of a batch at most %.1e apart, relative: %s\n", worst,
           same ? "the same" : "NOT the same");
    gpt2_free(&model), gpt2_free(&reference), work_free(&w), free(pairs);
    pieces_free(&data), tokenizer_free(&tokenizer), flags_free(flags, COUNT(flags));
    return same ? 0 : 2;
}
