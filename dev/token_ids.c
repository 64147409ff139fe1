// token_ids: ids of texts, for comparisons with `transformers` (dev/compare_tokenizer.py).
//
//     cc -O2 -fopenmp dev/token_ids.c -o token_ids -lcjson -lm
//     ./token_ids DIR [OUT] <texts.jsonl
//
// DIR is a directory with a tokenizer. Each line of the input is a JSON string. The first line of the
// output has the vocabulary size and the ids of BOS, EOS, padding and unknown (-1: none), the next
// two what the template puts before and after a text, and then there is a line of ids for each text.
// With OUT the tokenizer's files are saved in that directory, as they are in final/; with a third
// argument after a padding token of that name has been added.
#include "../lib/base/tokenizer.h"

static void ids_print(const TokenList *ids) {
    for (size_t i = 0; i < ids->n; i++) printf("%s%d", i ? " " : "", ids->data[i]);
    printf("\n");
}

int main(int argc, char **argv) {
    if (argc < 2 || argc > 4) die(EXIT_USAGE, "usage: token_ids DIR [OUT [PAD]] <texts.jsonl");
    Tokenizer t;
    tokenizer_load(&t, argv[1]);
    if (argc > 3) t.pad_id = tokenizer_add_special(&t, argv[3]);
    printf("%d %d %d %d %d\n", t.vocab_size, t.bos_id, t.eos_named ? t.eos_id : -1, t.pad_id,
           t.unk_id);
    ids_print(&t.before);
    ids_print(&t.after);
    char *line = NULL;
    size_t capacity = 0;
    ssize_t n;
    for (long number = 1; (n = getline(&line, &capacity, stdin)) > 0; number++) {
        cJSON *text = json_parse(line, (size_t)n, "stdin", number);
        TokenList ids = {0};
        if (!cJSON_IsString(text)) die(EXIT_BAD_INPUT, "stdin:%ld: not a string", number);
        tokenizer_encode(&t, &ids, text->valuestring, strlen(text->valuestring), true);
        ids_print(&ids);
        tokens_free(&ids);
        cJSON_Delete(text);
    }
    free(line);
    TokenizerFile *files = NULL;
    int count = argc > 2 ? tokenizer_files(&t, 1024, &files) : 0;
    for (int i = 0; i < count; i++) {
        char *path = path_join(argv[2], files[i].name);
        FILE *file = fopen(path, "wb");
        if (!file ||
            fwrite(files[i].text.data, 1, files[i].text.size, file) != files[i].text.size ||
            fclose(file))
            die(EXIT_IO, "%s: cannot write", path);
        free(path);
    }
    tokenizer_files_free(files, count);
    tokenizer_free(&t);
    return 0;
}
