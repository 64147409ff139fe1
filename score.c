// score.c: what a reward model thinks of the completions in a file. Build it:
//
// cc -O3 -march=native -fno-math-errno -fopenmp score.c -o score -lopenblas -lcjson -lm
//
//     ./score --model DIR --dataset FILE.jsonl --output scores.txt
//
// The model is one that train_rm has made, or any GPT2ForSequenceClassification with one label; of
// several, "A,B,C", it is the mean or the least of their scores (--reward_ensemble). Each
// record of the file gets a line: the score R(x, y) of its completion y of prompt x, or, for a pair,
// two with a tab between them, chosen and rejected; "nan" where there is nothing to score. R is read
// at the row's last token, EOS, so a completion has to keep its end: the prompt is cut as far as it
// takes, and what would still be too long is skipped.
//
// Without arguments it scores the preferences between film reviews that data/rm has not learnt from.
#include "lib/base/common.h"      // defines: die, warn, Text
#include "lib/base/disk.h"        // defines: disk_file_save
#include "lib/base/flags.h"       // defines: FLAG, flags_parse
#include "lib/base/tokenizer.h"   // defines: Tokenizer
#include "lib/data/preferences.h" // defines: draft_preference, pieces_encode
#include "lib/files/guard.h"      // defines: guard_output
#include "lib/run/reward.h"       // defines: Reward, reward_open_model, reward_score

static const char preset[] = "--model data/rm --dataset data/prefs_eval.jsonl";

static struct {
    const char *model, *reward_ensemble, *tokenizer, *dataset, *chat_format, *truncation_mode;
    const char *output;
    int max_length, batch_size;
    bool strict_data, bf16, overwrite_output;
} args = {
    .reward_ensemble = "mean",
    .chat_format = "auto",
    .truncation_mode = "prompt_first",
    .max_length = 1024,
    .batch_size = 8,
};

static Flag flags[] = {
    FLAG_HEADING("model"),
    FLAG_TEXT(args, model,
              "directory of a reward model in Hugging Face format, or of several: A,B,C"),
    FLAG_CHOICE(args, reward_ensemble, ENSEMBLE_CHOICES, ENSEMBLE_HELP),
    FLAG_TEXT(args, tokenizer, "directory with vocab.json and merges.txt, if not --model's"),
    FLAG(args, batch_size, 1, 1 << 16, "completions in one forward pass"),
    FLAG_SWITCH(args, bf16, "products in bfloat16: less exact, faster where the CPU has them"),
    FLAG_HEADING("data"),
    FLAG_TEXT(args, dataset, "JSONL with prompt + completion, messages, or pairs as of train_rm"),
    FLAG_SWITCH(args, strict_data, "a record that would be skipped is an error"),
    FLAG_CHOICE(args, chat_format, CHAT_CHOICES, CHAT_HELP),
    FLAG(args, max_length, 2, 1 << 20, "tokens of prompt and completion"),
    FLAG_CHOICE(args, truncation_mode, "prompt_first|keep_start",
                "cut the prompt of what is too long, or skip it (TRL)"),
    FLAG_HEADING("output"),
    FLAG_TEXT(args, output, "file for the scores, a record a line (none: standard output)"),
    FLAG_SWITCH(args, overwrite_output, "replace that file if it is there"),
};

// A record that waits for its scores: the first of its rows in the batch, how many it has (0: there
// is nothing to score), and whether it is a pair.
typedef struct {
    int row, sides;
    bool pair;
} Record;

// What is summed up of a file. A pair whose chosen score is the greater is right, a tie by half.
typedef struct {
    double sum, squares, pairs, right;
    long scores;
} Sums;

// ------------------------------------------------------------------------------------------------

// Append prompt (piece 0) and completion (piece k) as one row.
static void row_add(Batch *b, const RowWork *w, int k) {
    const size_t prompt = w->end[0] - w->begin[0], completion = w->end[k] - w->begin[k];
    batch_add_row(b, w->ids.data + w->begin[0], NULL, (int)prompt);
    batch_add_child(b, b->R - 1, w->ids.data + w->begin[k], NULL, (int)completion);
    b->row_start[--b->R] = b->N; // child and parent become one row
}

// Score the batch's rows and append the records (n) to `out`, a line each.
static void records_score(Text *out, Sums *sums, Reward *reward, const Batch *b,
                          const Record *records, int n) {
    float *scores = mem_floats((size_t)b->R);
    char *fault = b->R ? reward_score(reward, scores, b, NULL) : NULL;
    if (fault) die(EXIT_BAD_INPUT, "%s", fault);
    for (int i = 0; i < n; i++) {
        const Record *r = &records[i];
        double score[2] = {NAN, NAN};
        for (int k = 0; k < r->sides; k++) {
            score[k] = scores[r->row + k];
            sums->sum += score[k];
            sums->squares += score[k] * score[k];
            sums->scores++;
        }
        if (r->sides == 2) {
            sums->pairs++;
            sums->right += score[0] > score[1] ? 1 : score[0] < score[1] ? 0 : 0.5;
        }
        if (r->sides == 0) text_print(out, r->pair ? "nan\tnan\n" : "nan\n");
        else if (r->pair) text_print(out, "%.9g\t%.9g\n", score[0], score[1]);
        else text_print(out, "%.9g\n", score[0]);
    }
    free(scores);
}

// Write the lines to standard output and forget them.
static void lines_print(Text *lines) {
    const bool whole = fwrite(lines->data, 1, lines->size, stdout) == lines->size;
    if (fflush(stdout) || !whole)
        die(EXIT_IO, "standard output: cannot write: %s", strerror(errno));
    lines->size = 0;
}

// Say what the scores of the file are like.
static void sums_report(const Sums *s, const DataCounts *counts) {
    const double n = (double)s->scores, mean = s->sum / n;
    Text report = {0};
    text_print(&report, "%s: %ld scores, mean %.4f, standard deviation %.4f", args.dataset,
               s->scores, mean, sqrt(fmax(0, s->squares / n - mean * mean)));
    if (s->pairs) text_print(&report, ", accuracy %.4f", s->right / s->pairs);
    counts_report(&report, counts);
    fprintf(args.output ? stdout : stderr, "%s\n", report.data);
    text_free(&report);
}

// Score the records of the file, about batch_size completions at a time. The scores go to standard
// output as they come, or to the file at the end.
static void file_score(Reward *reward, const Tokenizer *t, const DataOptions *o) {
    const int B = args.batch_size;
    Record *records = mem_alloc((size_t)B, sizeof *records);
    int n = 0;
    Sums sums = {0};
    DataCounts counts = {0};
    Draft draft = {0};
    RowWork work = {0};
    Batch batch = {0};
    Text lines = {0};
    LineReader reader;
    lines_open(&reader, args.dataset);
    for (cJSON *record; (record = record_next(&reader));) {
        // a file of pairs that `generate` has completed has both: the completion is meant
        const bool single = record_get(record, "completion");
        const bool pair =
            !single && (record_get(record, "chosen") || record_get(record, "rejected"));
        if (pair || single) draft_preference(&draft, &reader, record, pair ? 2 : 1, o->chat_format);
        else draft_completion(&draft, &reader, record, o->chat_format);
        pieces_encode(&work, t, &draft, o, &counts);
        records[n] = (Record){batch.R, draft.fault[0] ? 0 : pair ? 2 : 1, pair};
        for (int k = 1; k <= records[n].sides; k++) row_add(&batch, &work, k);
        record_done(&counts, &draft, &reader, record, o);
        n++;
        if (n < B && batch.R < B) continue;
        records_score(&lines, &sums, reward, &batch, records, n);
        if (!args.output) lines_print(&lines);
        batch_clear(&batch);
        n = 0;
    }
    if (!counts.records) die(EXIT_BAD_INPUT, "%s: contains no records", args.dataset);
    records_score(&lines, &sums, reward, &batch, records, n);
    if (args.output) disk_file_save(args.output, lines.data, lines.size);
    else lines_print(&lines);
    sums_report(&sums, &counts);
    lines_close(&reader);
    draft_free(&draft);
    batch_free(&batch);
    row_work_free(&work);
    text_free(&lines);
    free(records);
}

int main(int argc, char **argv) {
    const char *config_file = flags_parse(argc, argv, flags, COUNT(flags),
                                          "scores of completions by a reward model", preset);
    if (!args.model) die(EXIT_USAGE, "--model is needed; see --help");
    if (!args.dataset) die(EXIT_USAGE, "--dataset is needed; see --help");
    if (args.output && path_is_dir(args.output))
        die(EXIT_USAGE, "--output %s: is a directory, expected the name of a file", args.output);
    if (args.output && !access(args.output, F_OK) && !args.overwrite_output)
        die(EXIT_USAGE, "--output %s: already there; see --overwrite_output", args.output);
    guard_output(args.output, config_file, flags, COUNT(flags), "output");
    products_begin_on(args.output ? stdout : stderr, args.bf16);

    Tokenizer tokenizer;
    Reward reward;
    const char *models = args.model;
    char *first = reward_next_dir(&models);
    const char *tokenizer_dir = args.tokenizer ? args.tokenizer : first;
    tokenizer_load(&tokenizer, tokenizer_dir);
    // several must have the same tokens; a tokenizer of its own is the user's word that it fits
    const bool check = !args.tokenizer && models;
    reward_open_model(&reward, args.model, check ? &tokenizer : NULL, args.batch_size + 1);
    reward.ensemble = (Ensemble)choice_index(args.reward_ensemble, ENSEMBLE_CHOICES);
    for (int k = 0; k < reward.n_models; k++) {
        const GPT2Config *config = &reward.models[k].config;
        tokenizer_check(&tokenizer, config->vocab_size, tokenizer_dir);
        if (config->pad_token_id == tokenizer.eos_id)
            warn("%s: pads with EOS, so transformers reads its scores one token before EOS; here "
                 "they are read at EOS",
                 args.model);
    }
    const int context = reward_positions(&reward);
    const DataOptions options = {
        .max_length = args.max_length < context ? args.max_length : context,
        .keep_start = !strcmp(args.truncation_mode, "keep_start"),
        .chat_format = chat_open(args.chat_format, &tokenizer, tokenizer_dir),
        .whole = true, // completions keep their ends
        .strict = args.strict_data,
    };
    file_score(&reward, &tokenizer, &options);
    reward_close(&reward);
    tokenizer_free(&tokenizer);
    free(first);
    flags_free(flags, COUNT(flags));
    return stdout_end();
}
