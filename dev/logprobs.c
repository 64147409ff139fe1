// logprobs.c: print the log-probabilities that a model gives to texts, for
// dev/compare_transformers.py.
//
// cc -O3 -march=native -fno-math-errno -fopenmp dev/logprobs.c -o dev_logprobs -lopenblas -lcjson
// -lm
//
//     ./dev_logprobs MODEL_DIR FILE.jsonl      one {"logps": [...]} a row, of its tokens from the
//     second on
//
// Eight rows at a time go through the model packed, as in training.
#include "../lib/base/common.h"
#include "../lib/base/tokenizer.h"
#include "../lib/data/dataset.h"
#include "../model.h"
#include "../lib/files/pretrained.h"

int main(int argc, char **argv) {
    if (argc != 3) die(EXIT_USAGE, "usage: %s MODEL_DIR FILE.jsonl", argv[0]);
    Tokenizer tokenizer;
    GPT2 model;
    tokenizer_load(&tokenizer, argv[1]);
    model_load(&model, argv[1]);
    LineReader reader;
    lines_open(&reader, argv[2]);
    Batch batch = {0};
    TokenList ids = {0};
    float *logp = NULL;
    for (cJSON *record = record_next(&reader); record;) {
        batch_clear(&batch);
        for (; record && batch.R < 8; record = record_next(&reader)) {
            const char *text = record_string(&reader, record, "text");
            ids.n = 0;
            tokenizer_encode(&tokenizer, &ids, text, strlen(text), true);
            batch_add_row(&batch, ids.data, NULL, (int)ids.n);
            cJSON_Delete(record);
        }
        logp = mem_resize(logp, (size_t)batch.N, sizeof *logp);
        gpt2_forward(&model, &batch);
        lm_head_forward(&model, logp);
        for (int r = 0; r < batch.R; r++) {
            printf("{\"logps\": [");
            for (int t = batch.row_start[r] + 1; t < batch.row_start[r + 1]; t++)
                printf("%s%.9g", t > batch.row_start[r] + 1 ? ", " : "", logp[t]);
            printf("]}\n");
        }
    }
    lines_close(&reader), batch_free(&batch), tokens_free(&ids), free(logp);
    gpt2_free(&model), tokenizer_free(&tokenizer);
    return 0;
}
