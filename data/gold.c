// gold.c: the gold score of film reviews, one number a line. The rule is in gold.h.
//
//   cc -O3 -march=native -fno-math-errno -fopenmp data/gold.c -o gold -lcjson -lm
//
// Reads JSONL rows with "prompt" and "completion", or with "text", from a file or from standard
// input. Answers each row before it reads the next one, so that it can serve as a reward program.
#include "../lib/base/flags.h"
#include "gold.h"

// The string in `key` of the row; dies if it is there and is not a string. NULL if it is absent.
static const char *row_string(const cJSON *row, const char *key, const char *file, long line) {
    const cJSON *item = json_get(row, key);
    if (item && !cJSON_IsString(item))
        die(EXIT_BAD_INPUT, "%s:%ld: \"%s\" is not a string", file, line, key);
    return item ? item->valuestring : NULL;
}

int main(int argc, char **argv) {
    struct {
        const char *dataset;
        bool probability, explain;
    } args = {NULL, false, false};
    Flag flags[] = {
        FLAG_TEXT(args, dataset, "JSONL file to score; none: standard input"),
        FLAG_SWITCH(args, probability, "print the probability of praise, not its log-odds"),
        FLAG_SWITCH(args, explain, "print what the score is made of and the text behind it"),
    };
    flags_parse(argc, argv, flags, COUNT(flags),
                "gold score of film reviews, one number a line; serves as a --reward_command",
                NULL);

    Gold *gold = mem_alloc(1, sizeof *gold);
    gold_create(gold);
    const char *name = args.dataset ? args.dataset : "standard input";
    FILE *file = args.dataset ? file_open(args.dataset) : stdin;
    char *line = NULL;
    size_t capacity = 0;
    ssize_t n;
    for (long number = 1; (n = getline(&line, &capacity, file)) >= 0; number++) {
        if (n > 0 && line[n - 1] == '\n') n--;
        cJSON *row = json_parse(line, (size_t)n, name, number);
        const char *text = row_string(row, "text", name, number);
        const char *prompt = row_string(row, "prompt", name, number);
        const char *completion = row_string(row, "completion", name, number);
        if (!text && !completion)
            die(EXIT_BAD_INPUT, "%s:%ld: no \"text\" and no \"completion\"", name, number);
        char *all =
            text_format("%s%s", completion && prompt ? prompt : "", completion ? completion : text);
        GoldParts parts = gold_parts(gold, all, strlen(all));
        printf("%.6f", args.probability ? gold_probability(parts.score) : parts.score);
        if (args.explain)
            printf("  opinion %.2f, faults %.2f (breaks %d, repeats %d, %s, %d words): %s",
                   parts.opinion, parts.faults, parts.breaks, parts.repeats,
                   parts.whole ? "whole" : "unfinished", parts.words, all);
        putchar('\n');
        if (!args.dataset && fflush(stdout)) break;
        free(all);
        cJSON_Delete(row);
    }
    if (ferror(file)) die(EXIT_IO, "%s: cannot read: %s", name, strerror(errno));
    if (fflush(stdout) || ferror(stdout)) die(EXIT_IO, "cannot write: %s", strerror(errno));
    if (args.dataset) fclose(file);
    free(line);
    gold_free(gold);
    free(gold), flags_free(flags, COUNT(flags));
    return 0;
}
