// loglik.c: log pi(y|x) of the completions in a file, for the scripts beside it. Build:
//
// cc -O3 -march=native -fno-math-errno -fopenmp dev/repro/loglik.c -o loglik -lopenblas -lcjson -lm
//
//     loglik --model DIR --dataset FILE.jsonl
//
// A record has prompt + completion, with or without a label, or is a pair, of which both sides are taken,
// the chosen one first. For each completion a line: its label (1, of a side that was not chosen 0), log pi
// of all its tokens, in nats, log pi of its EOS alone (0 if the completion was cut), its bytes without EOS
// and its tokens with EOS. Bits per byte of a text are then (second - third) / -log 2 / fourth. Records
// that cannot be used are skipped and counted, and have no line; with --strict_data they are an error, so
// that lines of two models belong together.
#include "../../lib/base/common.h"
#include "../../lib/base/flags.h"
#include "../../lib/base/tokenizer.h"
#include "../../lib/data/preferences.h"
#include "../../model.h"
#include "../../lib/files/pretrained.h"

// True if the file's first record has a label or is a pair.
static bool file_is_labelled(const char *path) {
    LineReader reader;
    lines_open(&reader, path);
    cJSON *record = record_next(&reader);
    const bool labelled = record_get(record, "label") || record_get(record, "chosen");
    cJSON_Delete(record);
    lines_close(&reader);
    return labelled;
}

int main(int argc, char **argv) {
    struct {
        const char *model, *dataset;
        int max_length, batch_size;
        bool strict_data, bf16;
    } args = {.max_length = 1024, .batch_size = 32};
    Flag flags[] = {
        FLAG_TEXT(args, model, "directory in Hugging Face format"),
        FLAG_TEXT(args, dataset, "JSONL with prompt + completion, with a label or not, or pairs"),
        FLAG(args, max_length, 2, 1 << 20, "tokens of prompt and completion"),
        FLAG(args, batch_size, 1, 1 << 16, "completions in one forward pass"),
        FLAG_SWITCH(args, strict_data, "a record that would be skipped is an error"),
        FLAG_SWITCH(args, bf16, "products in bfloat16"),
    };
    flags_parse(argc, argv, flags, COUNT(flags), "log-probabilities of completions", NULL);
    if (!args.model) die(EXIT_USAGE, "--model is needed; see --help");
    if (!args.dataset) die(EXIT_USAGE, "--dataset is needed; see --help");
    products_begin_on(stderr, args.bf16);
    Tokenizer tokenizer;
    GPT2 model;
    tokenizer_load(&tokenizer, args.model);
    model_load(&model, args.model);
    const int context = model.config.n_positions;
    const DataOptions options = {
        .max_length = args.max_length < context ? args.max_length : context,
        .chat_format = chat_open("auto", &tokenizer, args.model),
        .strict = args.strict_data,
    };
    LabelSet data = {0};
    if (file_is_labelled(args.dataset)) labels_load(&data, &tokenizer, args.dataset, &options);
    else completions_load(&data, &tokenizer, args.dataset, &options);

    Rows rows = {0};
    Batch batch = {0};
    int *examples = mem_alloc((size_t)args.batch_size, sizeof *examples);
    for (int first = 0; first < data.n; first += args.batch_size) {
        const int n = data.n - first < args.batch_size ? data.n - first : args.batch_size;
        for (int i = 0; i < n; i++) examples[i] = first + i;
        labels_batch(&batch, &data, examples, examples, n);
        rows_forward(&rows, &model, &batch);
        for (int r = 0; r < n; r++) {
            double eos = 0;
            size_t bytes = 0;
            for (int t = batch.row_start[r]; t < batch.row_start[r + 1]; t++) {
                if (!batch.mask[t]) continue;
                size_t size = 0;
                if (batch.tokens[t] == tokenizer.eos_id) eos = (double)rows.logp[t];
                else tokenizer_piece(&tokenizer, batch.tokens[t], &size);
                bytes += size;
            }
            printf("%d %.9g %.9g %zu %d\n", data.label[first + r], (double)rows.sum[r], eos, bytes,
                   rows.count[r]);
        }
    }
    free(examples), batch_free(&batch), rows_free(&rows), pieces_free(&data);
    gpt2_free(&model), tokenizer_free(&tokenizer);
    flags_free(flags, COUNT(flags));
    return stdout_end();
}
