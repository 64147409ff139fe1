// prefs.c: makes the default preferences, and judges preferences by the gold score.
//
//   cc -O3 -march=native -fno-math-errno -fopenmp data/prefs.c -o prefs -lopenblas -lcjson -lm
//
//   ./prefs                                  a few pairs with the odds of their labels
//   ./prefs --write_data data                remake data/prefs_train.jsonl and prefs_eval.jsonl
//   ./prefs --count 1000 --seed 9 --output more.jsonl
//   ./prefs --check data/prefs_train.jsonl   how often the labels agree with the gold score
//
// For each prompt, the beginning of a fresh review, the SFT model samples four completions, which
// make two pairs. A reader who is as the gold score says, but of moods, labels them
// (Bradley and Terry 1952): y is chosen over z with probability sigmoid(score(y) - score(z)), once,
// by a coin. So some labels contradict the score, as they do with real readers, and no model can
// agree with more of them than the mean of max(p, 1 - p).
#include "../lib/base/flags.h"
#include "../lib/base/jsonl.h"
#include "../lib/base/texts.h"
#include "../lib/base/tokenizer.h"
#include "../model.h"
#include "../lib/files/pretrained.h"
#include "../lib/run/sample.h"
#include "gold.h"

// What the shipped files are made of, see data/README.md. PROMPTS at a time go through the model:
// a fixed number, as the last bits of a row's logits depend on how many others are beside it.
enum {
    PREFS_TRAIN_SEED = 3,
    PREFS_TRAIN_PAIRS = 6000,
    PREFS_EVAL_SEED = 4,
    PREFS_EVAL_PAIRS = 500,
    COMPLETIONS = 4,
    PROMPTS = 32,
    RNG_LABEL = 64, // stream of random numbers for labels; common.h has the others
};

// Sums over pairs.
typedef struct {
    int64_t pairs;
    int64_t equal, unfinished; // left out: the same text twice; no end, or nothing before it
    double chosen, rejected;   // gold scores
    double agree;              // the chosen one has the higher score (equal scores: a half)
    double best, variance;     // of max(p, 1 - p), and of p (1 - p)
} Totals;

static void totals_add(Totals *s, double chosen, double rejected) {
    double p = gold_probability(fabs(chosen - rejected));
    s->pairs++;
    s->chosen += chosen, s->rejected += rejected;
    s->agree += chosen > rejected ? 1 : chosen < rejected ? 0 : 0.5;
    s->best += p, s->variance += p * (1 - p);
}

static void totals_print(const Totals *s, const char *name) {
    const double n = (double)s->pairs;
    printf("%s: %" PRId64 " pairs\n", name, s->pairs);
    if (s->equal + s->unfinished)
        printf("  left out     %" PRId64 " of equal texts, %" PRId64 " with one that has no end\n",
               s->equal, s->unfinished);
    printf("  gold score   chosen %.3f, rejected %.3f\n", s->chosen / n, s->rejected / n);
    printf("  best         %.2f %% of such labels can be foreseen (standard error %.2f)\n",
           100 * s->best / n, 100 * sqrt(s->variance) / n);
    printf("  gold score   foresees %.2f %% of these labels\n", 100 * s->agree / n);
}

// What is needed to make pairs.
typedef struct {
    Gold gold;
    GPT2 model;
    Tokenizer tokenizer;
    Sampler sampler;
    SampleOptions options; // its seed is that of prompts and labels too
} Maker;

// Row r of the batch after its prompt, without EOS, as text. Tokens can be single bytes, and need not
// make characters.
static void completion_text(Text *out, const Maker *m, const Batch *rows, int r, int n_prompt) {
    const int *tokens = rows->tokens + rows->row_start[r] + n_prompt;
    int n = rows->row_start[r + 1] - rows->row_start[r] - n_prompt;
    out->size = 0;
    text_add_tokens(out, &m->tokenizer, tokens, (size_t)(n - 1));
}

// Draw the label of a pair by its scores, and write it to `file` (NULL: show it).
static void pair_write(FILE *file, Rng rng, const char *prompt, const char *const completion[2],
                       const double score[2], Totals *totals) {
    const double p = gold_probability(score[0] - score[1]);
    const int won = rng_uniform(&rng) < p ? 0 : 1;
    const char *names[] = {"prompt", "chosen", "rejected"};
    const char *texts[] = {prompt, completion[won], completion[1 - won]};
    Text row = {0};
    totals_add(totals, score[won], score[1 - won]);
    if (!file) {
        printf("%5.2f  %.3f  %s |%s\n", score[won], won ? 1 - p : p, prompt, texts[1]);
        printf("%5.2f         %s |%s\n", score[1 - won], prompt, texts[2]);
        return;
    }
    for (int i = 0; i < 3; i++) {
        text_print(&row, "%s\"%s\": ", i ? ", " : "{", names[i]);
        text_json(&row, texts[i], strlen(texts[i]));
    }
    text_print(&row, "}\n");
    fwrite(row.data, 1, row.size, file);
    text_free(&row);
}

// Make `count` pairs of the seed in m->options. Prompt number i and its completions do not depend on
// `count`, so more pairs of a seed begin with the same ones.
static Totals pairs_make(Maker *m, FILE *file, int64_t count) {
    const uint64_t seed = m->options.seed;
    Batch prompts = {0}, rows = {0};
    Finish finish[PROMPTS * COMPLETIONS];
    Text prompt[PROMPTS], unused = {0}, text[2] = {{0}, {0}};
    TokenList ids = {0};
    Totals totals = {0};
    memset(prompt, 0, sizeof prompt);
    for (uint64_t first = 0; totals.pairs < count; first += PROMPTS) {
        batch_clear(&prompts);
        for (int i = 0; i < PROMPTS; i++) {
            prompt[i].size = unused.size = ids.n = 0;
            review_make(&m->gold.grammar, seed, first + (uint64_t)i, REVIEWS_MIN_PROMPT,
                        REVIEWS_MAX_PROMPT, &prompt[i], &unused);
            tokenizer_encode(&m->tokenizer, &ids, prompt[i].data, prompt[i].size, true);
            for (int k = 0; k < COMPLETIONS; k++)
                batch_add_row(&prompts, ids.data, NULL, (int)ids.n);
        }
        sample_batch(&m->sampler, &m->model, &m->options, &prompts, first * COMPLETIONS, &rows,
                     finish);
        for (int r = 0; r < rows.R && totals.pairs < count; r += 2) {
            const int n_prompt = prompts.row_start[r + 1] - prompts.row_start[r];
            double score[2];
            bool whole = true;
            for (int k = 0; k < 2; k++) {
                completion_text(&text[k], m, &rows, r + k, n_prompt);
                whole = whole && finish[r + k] == FINISH_EOS && text[k].size > 0;
                score[k] = gold_score(&m->gold, prompt[r / COMPLETIONS].data, text[k].data);
            }
            const bool equal = !strcmp(text[0].data, text[1].data);
            totals.unfinished += !whole, totals.equal += whole && equal;
            if (!whole || equal) continue;
            Rng rng = rng_make(seed, RNG_LABEL + ((first * COMPLETIONS + (uint64_t)r) << 8));
            const char *const completion[2] = {text[0].data, text[1].data};
            pair_write(file, rng, prompt[r / COMPLETIONS].data, completion, score, &totals);
        }
        if (file) progress_show("%" PRId64 " of %" PRId64 " pairs", totals.pairs, count);
        if (first == 3 * PROMPTS && !totals.pairs)
            die(EXIT_BAD_INPUT,
                "no pair out of %d prompts: all completions are equal, or have no end",
                4 * PROMPTS);
    }
    progress_clear();
    for (int i = 0; i < PROMPTS; i++) text_free(&prompt[i]);
    batch_free(&prompts), batch_free(&rows), tokens_free(&ids);
    text_free(&unused), text_free(&text[0]), text_free(&text[1]);
    return totals;
}

// Make `count` pairs of a seed into a file.
static void pairs_save(Maker *m, const char *path, int64_t seed, int64_t count) {
    FILE *file = fopen(path, "wb");
    if (!file) die(EXIT_IO, "%s: cannot write: %s", path, strerror(errno));
    m->options.seed = (uint64_t)seed;
    Totals totals = pairs_make(m, file, count);
    bool failed = fflush(file) || ferror(file);
    failed |= fclose(file) != 0;
    if (failed) die(EXIT_IO, "%s: cannot write: %s", path, strerror(errno));
    totals_print(&totals, path);
}

// Print how a file of pairs looks to the gold score.
static void pairs_check(const Gold *gold, const char *path) {
    LineReader reader;
    Totals totals = {0};
    lines_open(&reader, path);
    for (cJSON *record; (record = record_next(&reader)); cJSON_Delete(record)) {
        const char *prompt = record_string(&reader, record, "prompt");
        const char *chosen = record_string(&reader, record, "chosen");
        const char *rejected = record_string(&reader, record, "rejected");
        totals.equal += !strcmp(chosen, rejected);
        totals_add(&totals, gold_score(gold, prompt, chosen), gold_score(gold, prompt, rejected));
    }
    if (!totals.pairs) die(EXIT_BAD_INPUT, "%s: contains no records", path);
    lines_close(&reader);
    totals_print(&totals, path);
}

int main(int argc, char **argv) {
    struct {
        const char *model, *output, *write_data, *check;
        int64_t seed, count;
        int max_new_tokens;
        double temperature;
    } args = {
        .model = "data/sft",
        .seed = PREFS_TRAIN_SEED,
        .count = 8,
        .max_new_tokens = 60,
        .temperature = 1,
    };
    Flag flags[] = {
        FLAG_HEADING("Making preferences"),
        FLAG_TEXT(args, model, "directory of the model that samples"),
        FLAG(args, seed, 0, 1e15, "of prompts, samples and labels"),
        FLAG(args, count, 1, 1e9, "how many pairs"),
        FLAG(args, temperature, 0, 100, "divides the logits"),
        FLAG(args, max_new_tokens, 1, 1 << 20, "pairs with a longer completion are left out"),
        FLAG_TEXT(args, output, "JSONL to write: prompt, chosen, rejected; none: show the pairs"),
        FLAG_TEXT(args, write_data, "remake the shipped files in this directory (seeds 3 and 4)"),
        FLAG_HEADING("Judging preferences"),
        FLAG_TEXT(args, check, "JSONL file: how often the labels agree with the gold score"),
    };
    flags_parse(argc, argv, flags, COUNT(flags),
                "preferences: samples of a model, labelled by draws from the gold score", NULL);

    Maker *m = mem_alloc(1, sizeof *m);
    gold_create(&m->gold);
    if (args.check) pairs_check(&m->gold, args.check);
    else {
        model_load(&m->model, args.model);
        tokenizer_load(&m->tokenizer, args.model);
        tokenizer_check(&m->tokenizer, m->model.config.vocab_size, args.model);
        m->options = (SampleOptions){.temperature = args.temperature,
                                     .top_p = 1,
                                     .seed = (uint64_t)args.seed,
                                     .max_new_tokens = args.max_new_tokens,
                                     .eos_id = m->tokenizer.eos_id,
                                     .vocab_size = m->tokenizer.vocab_size};
        if (args.write_data) {
            char *train = path_join(args.write_data, "prefs_train.jsonl");
            char *eval = path_join(args.write_data, "prefs_eval.jsonl");
            pairs_save(m, train, PREFS_TRAIN_SEED, PREFS_TRAIN_PAIRS);
            pairs_save(m, eval, PREFS_EVAL_SEED, PREFS_EVAL_PAIRS);
            free(train), free(eval);
        } else if (args.output) pairs_save(m, args.output, args.seed, args.count);
        else {
            printf(" gold  odds   the chosen one above the rejected one (| ends the prompt)\n");
            Totals totals = pairs_make(m, NULL, args.count);
            totals_print(&totals, "shown");
        }
        sampler_free(&m->sampler), gpt2_free(&m->model), tokenizer_free(&m->tokenizer);
    }
    gold_free(&m->gold);
    free(m), flags_free(flags, COUNT(flags));
    return 0;
}
