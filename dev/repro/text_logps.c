// text_logps.c: log pi(y|x) of given completions by a model, for the scripts beside it. Build:
//
// cc -O3 -march=native -fno-math-errno -fopenmp dev/repro/text_logps.c -o text_logps -lopenblas -lcjson -lm
//
//     text_logps --model DIR --dataset FILE.jsonl >logps
//
// A record of prompt and completion (no label) gets a line with one number, the sum over the completion's
// tokens, EOS too, in nats. Less that of a reference it is the completion's implicit reward, up to beta.
// `score` does the same with a reward model, so that a script can treat both alike.
#include "../../model.h"
#include "../../lib/base/flags.h"
#include "../../lib/data/preferences.h"
#include "../../lib/files/pretrained.h"

int main(int argc, char **argv) {
    struct {
        const char *model, *dataset;
        int batch_size;
    } args = {.batch_size = 32};
    Flag flags[] = {
        FLAG_TEXT(args, model, "directory in Hugging Face format"),
        FLAG_TEXT(args, dataset, "JSONL with prompt and completion"),
        FLAG(args, batch_size, 1, 1 << 14, "rows in one forward pass"),
    };
    flags_parse(argc, argv, flags, COUNT(flags), "log-probs of completions", NULL);
    if (!args.model || !args.dataset) die(EXIT_USAGE, "--model and --dataset are needed");
    products_begin_on(stderr, false);
    Tokenizer tokenizer;
    GPT2 model;
    PieceSet data;
    Batch batch = {0};
    Rows rows = {0};
    tokenizer_load(&tokenizer, args.model);
    model_load(&model, args.model);
    const DataOptions options = {.max_length = model.config.n_positions, .strict = true};
    completions_load(&data, &tokenizer, args.dataset, &options);
    int *examples = mem_alloc((size_t)data.n, sizeof *examples);
    for (int i = 0; i < data.n; i++) examples[i] = i;
    for (int first = 0; first < data.n; first += args.batch_size) {
        const int left = data.n - first, n = left < args.batch_size ? left : args.batch_size;
        labels_batch(&batch, &data, examples + first, examples + first, n);
        rows_forward(&rows, &model, &batch);
        for (int i = 0; i < n; i++) printf("%.9g\n", (double)rows.sum[i]);
    }
    rows_free(&rows);
    batch_free(&batch);
    pieces_free(&data);
    gpt2_free(&model);
    tokenizer_free(&tokenizer);
    flags_free(flags, COUNT(flags));
    free(examples);
    return stdout_end();
}
