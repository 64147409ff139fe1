// reviews.c: makes the film reviews of the default data, and judges reviews by their grammar.
//
//   cc -O3 -march=native -fno-math-errno -fopenmp data/reviews.c -o reviews -lcjson -lm
//
//   ./reviews                                    a few reviews with their gold score
//   ./reviews --write_data data                  remake data/reviews_train.jsonl and _eval.jsonl
//   ./reviews --count 1000 --seed 7 --output more.jsonl --form text
//   ./reviews --check out/samples.jsonl          share that parses, entropy, gold score
#include "../lib/base/flags.h"
#include "../lib/base/tokenizer.h"
#include "gold.h"

// Write `count` reviews of a seed, from number `first`, as JSONL.
static void write_reviews(const Grammar *g, const char *path, const char *form, int64_t seed,
                          int64_t first, int64_t count, int min, int max) {
    FILE *file = path ? fopen(path, "wb") : stdout;
    if (!file) die(EXIT_IO, "%s: cannot write: %s", path, strerror(errno));
    Text prompt = {0}, completion = {0}, row = {0};
    for (int64_t i = first; i < first + count; i++) {
        prompt.size = completion.size = row.size = 0;
        review_make(g, (uint64_t)seed, (uint64_t)i, min, max, &prompt, &completion);
        if (!strcmp(form, "text")) {
            text_append(&prompt, completion.data, completion.size);
            text_print(&row, "{\"text\": ");
            text_json(&row, prompt.data, prompt.size);
        } else {
            text_print(&row, "{\"prompt\": ");
            text_json(&row, prompt.data, prompt.size);
            if (!strcmp(form, "completion")) {
                text_print(&row, ", \"completion\": ");
                text_json(&row, completion.data, completion.size);
            }
        }
        text_print(&row, "}\n");
        fwrite(row.data, 1, row.size, file);
    }
    bool failed = fflush(file) || ferror(file);
    if (path) failed |= fclose(file) != 0;
    if (failed) die(EXIT_IO, "%s: cannot write: %s", path ? path : "output", strerror(errno));
    text_free(&prompt), text_free(&completion), text_free(&row);
}

// A running mean with its standard deviation and standard error.
typedef struct {
    double n, sum, squares;
} Mean;

static void mean_add(Mean *m, double x) { m->n++, m->sum += x, m->squares += x * x; }
static double mean_value(const Mean *m) { return m->n > 0 ? m->sum / m->n : NAN; }
static double mean_deviation(const Mean *m) {
    double variance = (m->squares - m->sum * m->sum / m->n) / (m->n - 1);
    return m->n > 1 ? sqrt(fmax(variance, 0)) : NAN;
}
static double mean_error(const Mean *m) { return mean_deviation(m) / sqrt(m->n); }

// The string in `key` of a row, or NULL.
static const char *check_string(const cJSON *row, const char *key) {
    const cJSON *item = json_get(row, key);
    return cJSON_IsString(item) ? item->valuestring : NULL;
}

// Number of tokens of a completion, EOS included.
static int count_tokens(const Tokenizer *t, const char *text) {
    TokenList list = {0};
    tokenizer_encode(t, &list, text, strlen(text), false);
    int n = (int)list.n + 1;
    tokens_free(&list);
    return n;
}

// Number of words and marks of a text, plus one for its end.
static int count_words(const char *text) {
    size_t at = 0, begin;
    bool clean;
    int n = 1;
    while (review_word_next(text, strlen(text), &at, &begin, &clean)) n++;
    return n;
}

// Print how a JSONL file looks to the grammar. -log p(completion | prompt), averaged over fresh
// reviews, is the entropy that no model can go below; the rate per token is the mean over reviews
// divided by the mean number of tokens, as a loss over all tokens is.
static void check_file(const Gold *gold, const char *path, const char *tokenizer_dir) {
    Tokenizer tokenizer;
    if (tokenizer_dir) tokenizer_load(&tokenizer, tokenizer_dir);
    Mean nats = {0}, words = {0}, tokens = {0}, score = {0};
    size_t size, rows = 0;
    char *data = file_read(path, &size);
    long line = 1;
    for (size_t at = 0; at < size; line++) {
        const char *end = memchr(data + at, '\n', size - at);
        size_t n = end ? (size_t)(end - data) - at : size - at;
        cJSON *row = json_parse(data + at, n, path, line);
        at += n + 1;
        const char *prompt = check_string(row, "prompt"), *text = check_string(row, "completion");
        if (!text) text = check_string(row, "text"), prompt = "";
        if (!text || !prompt)
            die(EXIT_BAD_INPUT, "%s:%ld: expected \"prompt\" and \"completion\", or \"text\"", path,
                line);
        double logprob = review_logprob_given(&gold->grammar, prompt, text);
        rows++;
        mean_add(&score, gold_score(gold, prompt, text));
        if (logprob > -INFINITY) {
            mean_add(&nats, -logprob);
            mean_add(&words, count_words(text));
            if (tokenizer_dir) mean_add(&tokens, count_tokens(&tokenizer, text));
        }
        cJSON_Delete(row);
    }
    free(data);
    if (!rows) die(EXIT_BAD_INPUT, "%s: contains no records", path);
    printf("%s: %zu rows\n", path, rows);
    printf("  parse        %.2f %%\n", 100 * nats.n / (double)rows);
    printf("  gold score   mean %.3f, standard deviation %.3f, standard error %.3f\n",
           mean_value(&score), mean_deviation(&score), mean_error(&score));
    printf("  of those that parse, completion given prompt:\n");
    printf("  nats         %.3f (standard error %.3f) a review\n", mean_value(&nats),
           mean_error(&nats));
    double per_word = mean_value(&words), per_token = mean_value(&tokens);
    printf("  words        %.3f a review with marks and the end: %.4f (%.4f) nats a word\n",
           per_word, mean_value(&nats) / per_word, mean_error(&nats) / per_word);
    if (tokenizer_dir) {
        printf("  tokens       %.3f a review with EOS: %.4f (%.4f) nats a token\n", per_token,
               mean_value(&nats) / per_token, mean_error(&nats) / per_token);
        tokenizer_free(&tokenizer);
    }
}

// Print a few reviews with their gold score.
static void show_reviews(const Gold *gold, int64_t seed, int64_t first, int64_t count, int min,
                         int max) {
    printf(" gold  review (| ends the prompt)\n");
    for (int64_t i = first; i < first + count; i++) {
        Text prompt = {0}, completion = {0};
        review_make(&gold->grammar, (uint64_t)seed, (uint64_t)i, min, max, &prompt, &completion);
        printf("%5.2f  %s |%s\n", gold_score(gold, prompt.data, completion.data), prompt.data,
               completion.data);
        text_free(&prompt), text_free(&completion);
    }
}

int main(int argc, char **argv) {
    struct {
        int64_t seed, first, count;
        int min_prompt_words, max_prompt_words;
        const char *form, *output, *write_data, *check, *tokenizer;
    } args = {1, 0, 20, REVIEWS_MIN_PROMPT, REVIEWS_MAX_PROMPT, NULL, NULL, NULL, NULL, NULL};
    Flag flags[] = {
        FLAG_HEADING("Making reviews"),
        FLAG(args, seed, 0, 1e15, "another seed, other reviews"),
        FLAG(args, first, 0, 1e15, "number of the first review"),
        FLAG(args, count, 1, 1e9, "how many"),
        FLAG(args, min_prompt_words, 1, 30, "shortest prompt, marks counting as words"),
        FLAG(args, max_prompt_words, 1, 30, "longest prompt"),
        FLAG_CHOICE(args, form, "completion|text|prompt",
                    "write JSONL with prompt and completion, the whole text, or only the prompt"),
        FLAG_TEXT(args, output, "file to write; none: standard output"),
        FLAG_TEXT(args, write_data, "remake the shipped files in this directory"),
        FLAG_HEADING("Judging reviews"),
        FLAG_TEXT(args, check, "JSONL file: share that parses, entropy, gold score"),
        FLAG_TEXT(args, tokenizer, "directory of vocab.json: also nats a token, EOS included"),
    };
    flags_parse(argc, argv, flags, COUNT(flags), "film reviews from a grammar", NULL);
    if (args.min_prompt_words > args.max_prompt_words)
        die(EXIT_USAGE, "--min_prompt_words %d is more than --max_prompt_words %d",
            args.min_prompt_words, args.max_prompt_words);
    int min = args.min_prompt_words, max = args.max_prompt_words;

    Gold *gold = mem_alloc(1, sizeof *gold);
    gold_create(gold);
    if (args.check) check_file(gold, args.check, args.tokenizer);
    else if (args.write_data) {
        char *train = path_join(args.write_data, "reviews_train.jsonl");
        char *eval = path_join(args.write_data, "reviews_eval.jsonl");
        write_reviews(&gold->grammar, train, "completion", REVIEWS_TRAIN_SEED, 0,
                      REVIEWS_TRAIN_ROWS, REVIEWS_MIN_PROMPT, REVIEWS_MAX_PROMPT);
        write_reviews(&gold->grammar, eval, "completion", REVIEWS_EVAL_SEED, 0, REVIEWS_EVAL_ROWS,
                      REVIEWS_MIN_PROMPT, REVIEWS_MAX_PROMPT);
        printf("wrote %s and %s\n", train, eval);
        free(train), free(eval);
    } else if (args.form || args.output)
        write_reviews(&gold->grammar, args.output, args.form ? args.form : "completion", args.seed,
                      args.first, args.count, min, max);
    else show_reviews(gold, args.seed, args.first, args.count, min, max);
    gold_free(gold);
    free(gold), flags_free(flags, COUNT(flags));
    return 0;
}
