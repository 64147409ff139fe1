// test_dataset.c: every form of data with its mask or pieces, truncation, counts, batches, and what
// each kind of bad file is told.
#include "test.h"

#include "../lib/data/dataset.h"
#include "../lib/data/preferences.h"

static void file_write(const char *path, const char *data, size_t n) {
    FILE *file = fopen(path, "wb");
    if (!file || fwrite(data, 1, n, file) != n || fclose(file))
        die(EXIT_IO, "%s: cannot write", path);
}

// A row as text: what counts in the loss stands in [brackets], <|endoftext|> is $.
static void row_print(Text *out, const Tokenizer *t, const int *tokens, const unsigned char *mask,
                      size_t n) {
    for (size_t i = 0; i < n; i++) {
        bool on = mask && mask[i];
        if (on && !(i && mask[i - 1])) text_append(out, "[", 1);
        if (tokens[i] == t->eos_id) text_append(out, "$", 1);
        else tokenizer_decode(t, out, &tokens[i], 1, false);
        if (on && !(i + 1 < n && mask[i + 1])) text_append(out, "]", 1);
    }
}

// All rows as text, each with a / behind it.
static Text rows_print(const Dataset *d, const Tokenizer *t) {
    Text out = {0};
    Batch row = {0};
    for (int r = 0; r < d->n; r++) {
        dataset_batch(&row, d, &r, 1);
        row_print(&out, t, row.tokens, row.mask, (size_t)row.N);
        text_append(&out, "/", 1);
    }
    batch_free(&row);
    return out;
}

// Send stderr to nowhere, for warnings that are not for the log of the tests, and back again.
static int stderr_mute(void) {
    int saved = dup(STDERR_FILENO);
    if (!freopen("/dev/null", "w", stderr)) die(EXIT_IO, "cannot open /dev/null");
    return saved;
}

static void stderr_back(int saved) {
    fflush(stderr);
    dup2(saved, STDERR_FILENO);
    close(saved);
}

// Load `text` as a file and compare its rows as rows_print shows them.
static void check_rows(const Tokenizer *t, const char *path, const char *text, const DataOptions *o,
                       const char *want) {
    file_write(path, text, strlen(text));
    Dataset d;
    dataset_load(&d, t, path, o);
    Text got = rows_print(&d, t);
    CHECK(!strcmp(got.data, want), "%s: got \"%s\", want \"%s\"", text, got.data, want);
    text_free(&got);
    dataset_free(&d);
}

// In the tiny vocabulary every letter below is a token of its own where a row is to be cut.
static void test_forms(const Tokenizer *t, const char *path) {
    DataOptions hh = {.max_length = 128};
    DataOptions simple = {.max_length = 128, .chat_format = CHAT_SIMPLE};
    DataOptions all = {.max_length = 128, .all_tokens = true};
    DataOptions chosen = {.max_length = 128, .text_field = "chosen"};
    const struct {
        const char *text;
        const DataOptions *o;
        const char *want;
    } cases[] = {
        // text: loss on all but the first token, EOS once
        {"{\"text\": \"xyz\"}", &hh, "x[yz$]/"},
        {"{\"text\": \"xyz<|endoftext|>\"}", &hh, "x[yz$]/"},
        {"{\"text\": \"x\", \"id\": 7}\r\n\n  \n{\"text\": \"z\"}", &hh, "x[$]/z[$]/"},
        {"\xEF\xBB\xBF{\"text\": \"xy\"}\n", &hh, "x[y$]/"},
        {"{\"text\": \"x\xE2\x80\xA8y\"}\n", &hh, "x[\xE2\x80\xA8y$]/"},
        {"{\"chosen\": \"xy\", \"rejected\": \"xz\", \"text\": \"q\"}", &chosen, "x[y$]/"},
        // prompt and completion
        {"{\"prompt\": \"Q:\", \"completion\": \" yes\"}", &hh, "Q:[ yes$]/"},
        {"{\"prompt\": \"Q:\", \"completion\": \" yes<|endoftext|>\"}", &hh, "Q:[ yes$]/"},
        {"{\"prompt\": \"Q:\", \"completion\": \" yes\"}", &all, "Q[: yes$]/"},
        {"{\"prompt\": \"\", \"completion\": \"xy\"}", &hh, "x[y$]/"},
        {"{\"prompt\": \"Q<|endoftext|>\", \"completion\": \"xy\"}", &hh, "Q$[xy$]/"},
        {"{\"prompt\": \"\", \"completion\": \"<|endoftext|>x\"}", &hh, "$[x$]/"},
        // messages: each reply of the assistant from the space on, EOS behind the last
        {"{\"messages\": [{\"role\": \"user\", \"content\": \"hi\"}, {\"role\": \"assistant\", "
         "\"content\": \"yo\"}]}",
         &hh, "\n\nHuman: hi\n\nAssistant:[ yo$]/"},
        {"{\"messages\": [{\"role\": \"system\", \"content\": \"be\"}, {\"role\": \"user\", "
         "\"content\": \"hi\"}, {\"role\": \"assistant\", \"content\": \"yo\"}, {\"role\": "
         "\"user\", "
         "\"content\": \"q\"}, {\"role\": \"assistant\", \"content\": \"z\"}]}",
         &simple, "System: be\n\nUser: hi\n\nAssistant:[ yo]\n\nUser: q\n\nAssistant:[ z$]/"},
        {"{\"messages\": [{\"role\": \"user\", \"content\": \"\"}, {\"role\": \"assistant\", "
         "\"content\": \"yo\"}]}",
         &hh, "\n\nHuman: \n\nAssistant:[ yo$]/"},
        {"{\"messages\": [{\"role\": \"assistant\", \"content\": \"yo\"}]}", &hh,
         "\n\nAssistant:[ yo$]/"},
        {"{\"messages\": [{\"role\": \"user\", \"content\": \"hi\"}, {\"role\": \"assistant\", "
         "\"content\": \"yo\"}]}",
         &all, "\n[\nHuman: hi\n\nAssistant: yo$]/"},
        // prompt and completion as messages: replies inside the prompt are not learnt
        {"{\"prompt\": [{\"role\": \"user\", \"content\": \"a\"}, {\"role\": \"assistant\", "
         "\"content\": \"b\"}, {\"role\": \"user\", \"content\": \"c\"}], \"completion\": "
         "[{\"role\": \"assistant\", \"content\": \"d\"}]}",
         &hh, "\n\nHuman: a\n\nAssistant: b\n\nHuman: c\n\nAssistant:[ d$]/"},
    };
    for (int i = 0; i < COUNT(cases); i++)
        check_rows(t, path, cases[i].text, cases[i].o, cases[i].want);
}

// "zqzqzq.." has one token a letter, digits and signs too.
static void test_truncation(const Tokenizer *t, const char *path) {
    const char *text = "{\"text\": \"zqzqzqzq\"}";
    const char *long_prompt = "{\"prompt\": \"qzxqzx\", \"completion\": \"kjq\"}"; // 6 + 3 + EOS
    const char *long_both = "{\"prompt\": \"qzxqzx\", \"completion\": \"kjqkjqkjq\"}";
    const char *short_prompt = "{\"prompt\": \"qz\", \"completion\": \"kjqkjqkjq\"}";
    const struct {
        const char *text;
        int max_length;
        bool keep_start;
        const char *want;
    } cases[] = {
        {text, 9, false, "z[qzqzqzq$]/"},
        {text, 8, false, "z[qzqzqzq]/"},
        {text, 2, false, "z[q]/"},
        {long_prompt, 10, false, "qzxqzx[kjq$]/"},
        {long_prompt, 9, false, "zxqzx[kjq$]/"},
        {long_prompt, 7, false, "qzx[kjq$]/"},
        {long_prompt, 9, true, "qzxqzx[kjq]/"},
        {long_prompt, 7, true, "qzxqzx[k]/"},
        {long_both, 12, false, "qzxqzx[kjqkjq]/"}, // the prompt is within its half
        {long_both, 11, false, "zxqzx[kjqkjq]/"},  // the prompt is cut to half, then the end
        {long_both, 7, false, "qzx[kjqk]/"},
        {long_both, 7, true, "qzxqzx[k]/"},
        {short_prompt, 8, false, "qz[kjqkjq]/"},
        {short_prompt, 3, false, "z[kj]/"},
    };
    for (int i = 0; i < COUNT(cases); i++) {
        DataOptions o = {.max_length = cases[i].max_length, .keep_start = cases[i].keep_start};
        check_rows(t, path, cases[i].text, &o, cases[i].want);
    }
}

// Rows of a plain text overlap by one token, so that each token is predicted once.
static void test_plain(const Tokenizer *t, const char *path) {
    const struct {
        const char *text;
        int max_length;
        const char *want;
    } cases[] = {
        {"zqzqz", 6, "z[qzqz$]/"},
        {"zqzqz", 5, "z[qzqz]/z[$]/"},
        {"zqzqz", 4, "z[qzq]/q[z$]/"},
        {"zqzqz", 2, "z[q]/q[z]/z[q]/q[z]/z[$]/"},
        {"\xEF\xBB\xBFzq<|endoftext|>zq<|endoftext|>", 16, "z[q$zq$]/"},
        {"\n\nz\n", 16, "\n[\nz\n$]/"},
    };
    for (int i = 0; i < COUNT(cases); i++) {
        DataOptions o = {.max_length = cases[i].max_length};
        check_rows(t, path, cases[i].text, &o, cases[i].want);
    }
    DataOptions o = {.max_length = 8};
    Dataset d;
    file_write(path, " \n", 2);
    CHECK_DIES(EXIT_BAD_INPUT, "contains no text", dataset_load(&d, t, path, &o));
    file_write(path, "<|endoftext|>", 13);
    CHECK_DIES(EXIT_BAD_INPUT, "has no token after its first", dataset_load(&d, t, path, &o));
    file_write(path, "ab\nc\xFF", 5);
    CHECK_DIES(EXIT_BAD_INPUT, ":2:2: invalid UTF-8 byte 0xFF", dataset_load(&d, t, path, &o));
    file_write(path, "ab\nc\0d", 6);
    CHECK_DIES(EXIT_BAD_INPUT, ":2:2: NUL byte", dataset_load(&d, t, path, &o));
    file_write(path, "\xFF\xFE\x61\x00", 4);
    CHECK_DIES(EXIT_BAD_INPUT, "is UTF-16, expected UTF-8", dataset_load(&d, t, path, &o));
}

// Faults of content are counted, and the report says so.
static void test_faults(const Tokenizer *t, const char *path) {
    const char *text = "{\"prompt\": \"Q:\", \"completion\": \" yes\"}\n"
                       "{\"prompt\": \"Q:\", \"completion\": \"\"}\n"
                       "{\"prompt\": \"Q:\", \"completion\": \" \\n\"}\n"
                       "{\"text\": \"\"}\n"
                       "{\"prompt\": \"qzxqzxqzx\", \"completion\": \" yes\"}\n"
                       "{\"messages\": [{\"role\": \"user\", \"content\": \"q\"}]}\n"
                       "{\"messages\": [{\"role\": \"assistant\", \"content\": \"\"}]}\n"
                       "{\"prompt\": \"\", \"completion\": \"<|endoftext|>\"}\n"
                       "{\"prompt\": \"th\", \"completion\": \"e\"}\n"
                       "{\"text\": \"z<|endoftext|>q<|endoftext|>\"}\n"
                       "{\"text\": \"zqzqzqzqzqzq\"}\n";
    file_write(path, text, strlen(text));
    DataOptions o = {.max_length = 8};
    Dataset d;
    CHECK_DIES(0, ":2: \"completion\" is empty: skipped\n", dataset_load(&d, t, path, &o));
    CHECK_DIES(0, ":4: \"text\" is empty: skipped\n", dataset_load(&d, t, path, &o));
    int saved = stderr_mute();
    dataset_load(&d, t, path, &o);
    stderr_back(saved);
    const DataCounts *c = &d.counts;
    CHECK(c->records == 11 && c->skipped == 7 && d.n == 4 && c->truncated == 1 &&
              c->boundary == 1 && c->special == 1,
          "%ld records, %ld skipped, %d rows, %ld truncated, %ld boundary, %ld special", c->records,
          c->skipped, d.n, c->truncated, c->boundary, c->special);
    Text rows = rows_print(&d, t), report = {0};
    CHECK(!strcmp(rows.data, "Q:[ yes$]/th[e$]/z[$q$]/z[qzqzqzq]/"), "rows %s", rows.data);
    dataset_report(&report, &d, "x");
    const char *want = "x: 4 rows, 22 tokens, 17 of them in the loss; 7 of 11 records skipped; "
                       "1 truncated; 1 would merge across the end of a part; <|endoftext|> parsed "
                       "inside 1";
    CHECK(!strcmp(report.data, want), "report \"%s\"", report.data);
    text_free(&rows), text_free(&report);
    dataset_free(&d);
    const char *bad = "{\"text\": \"\"}\n{\"text\": \" \"}\n";
    file_write(path, bad, strlen(bad));
    CHECK_DIES(EXIT_BAD_INPUT, "all 2 records were skipped", dataset_load(&d, t, path, &o));
    const char *over = "{\"prompt\": \"qzxqzxqz\", \"completion\": \"x\"}";
    file_write(path, over, strlen(over));
    CHECK_DIES(EXIT_BAD_INPUT, ":1: prompt has 8 tokens, context is 8: skipped",
               dataset_load(&d, t, path, &o));
}

// Faults of structure stop with file, line and column.
static void test_bad_files(const Tokenizer *t, const char *path) {
    const struct {
        const char *text;
        size_t n; // 0: strlen
        const char *message;
    } cases[] = {
        {"", 0, "contains no records"},
        {"\n \r\n\n", 0, "contains no records"},
        {"{\"text\": \"a\xFF\"}", 0, ":1: \"text\" contains a byte that is not UTF-8: skipped"},
        {"{\"text\": \"a\"}\n\xFF{\"text\": \"a\"}", 0, ":2:1: JSON error: unexpected byte"},
        {"{\n  \"text\": \"a\"\n}\n", 0, ":1: looks like pretty-printed JSON"},
        {"\x1F\x8B\x08\x00", 4, "is damaged or cut short: gzip -dc ends with exit code 1"},
        {"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n", 0,
         "is a Git LFS pointer, the data was not downloaded"},
        {"\xFF\xFE{\0", 4, "is UTF-16, expected UTF-8"},
        {"\xFE\xFF\0{", 4, "is UTF-16, expected UTF-8"},
        {"PAR1\x15\x04", 6, "is a Parquet file"},
        {"{\"text\": \"a\"}\n\n{\"text\": \"a\",}\n", 0, ":3:"},
        {"{\"text\": \"a\"} x\n", 0, ":1:15: JSON error"},
        {"{\"text\": \"a\", \"text\": \"b\"}\n", 0, ":1:15: duplicate key \"text\""},
        {"{\"text\": \"\\u0000\"}\n", 0, ":1: \"text\" contains \\u0000: skipped"},
        {"{\"text\": \"\\ud800\"}\n", 0, ":1: \"text\" contains half of a surrogate pair: skipped"},
        {"{\"text\": \"a\0b\"}\n", 16, ":1:12: contains a NUL byte"},
        {"7\n", 0, ":1: expected a JSON object"},
        {"{}\n", 0,
         ":1: missing \"text\", \"messages\", or \"prompt\" and \"completion\" (keys: none)"},
        {"{\"chosen\": \"a\", \"rejected\": \"b\"}\n", 0, "(keys: chosen, rejected)"},
        {"{\"prompt\": \"a\", \"label\": true}\n", 0,
         ":1: missing \"completion\" (keys: prompt, label)"},
        {"{\"completion\": \"a\"}\n", 0, ":1: missing \"prompt\" (keys: completion)"},
        {"{\"text\": 7}\n", 0, ":1: \"text\" is a number, expected a string"},
        {"{\"text\": null}\n", 0, ":1: \"text\" is null: skipped"},
        {"{\"prompt\": \"a\", \"completion\": {}}\n", 0,
         "\"completion\" is an object, expected a s"},
        {"{\"prompt\": \"a\", \"completion\": []}\n", 0,
         "\"prompt\" is a string, expected an array"},
        {"{\"messages\": \"a\"}\n", 0,
         ":1: \"messages\" is a string, expected an array of messages"},
        {"{\"messages\": []}\n", 0, ":1: \"messages\" has no messages"},
        {"{\"messages\": [{\"role\": \"user\"}]}\n", 0,
         ":1: messages[0] needs strings \"role\" and"},
        {"{\"messages\": [{\"role\": \"user\", \"content\": [{}]}]}\n", 0,
         "messages[0] needs strings"},
        {"{\"messages\": [7]}\n", 0, ":1: messages[0] needs strings"},
        {"{\"messages\": [{\"role\": \"user\", \"content\": \"a\"}, {\"role\": \"bot\", "
         "\"content\": "
         "\"b\"}]}\n",
         0, ":1: messages[1].role \"bot\" (system, user or assistant expected)"},
    };
    DataOptions o = {.max_length = 64};
    Dataset d;
    for (int i = 0; i < COUNT(cases); i++) {
        file_write(path, cases[i].text, cases[i].n ? cases[i].n : strlen(cases[i].text));
        CHECK_DIES(EXIT_BAD_INPUT, cases[i].message, dataset_load(&d, t, path, &o));
    }
    CHECK_DIES(EXIT_BAD_INPUT, "no such file", dataset_load(&d, t, "test/nothing.jsonl", &o));
    CHECK_DIES(EXIT_BAD_INPUT, "is a directory", dataset_load(&d, t, "test", &o));
    DataOptions field = {.max_length = 64, .text_field = "chosen"};
    file_write(path, "{\"text\": \"a\"}\n", 14);
    CHECK_DIES(EXIT_BAD_INPUT, "missing \"chosen\" (keys: text)",
               dataset_load(&d, t, path, &field));
    Text deep = {0}, longest = {0};
    text_print(&deep, "{\"text\": \"a\", \"x\": ");
    for (int i = 0; i < 100000; i++) text_append(&deep, "[", 1);
    file_write(path, deep.data, deep.size);
    CHECK_DIES(EXIT_BAD_INPUT, ":1:531: JSON is nested too deeply", dataset_load(&d, t, path, &o));
    text_print(&longest, "{\"text\": \"a\"}\n");
    text_reserve(&longest, (size_t)70 << 20);
    memset(longest.data + longest.size, 'a', (size_t)70 << 20);
    longest.size += (size_t)70 << 20;
    file_write(path, longest.data, longest.size);
    CHECK_DIES(EXIT_BAD_INPUT, ":2: line longer than 67108864 bytes",
               dataset_load(&d, t, path, &o));
    text_free(&deep), text_free(&longest);
}

// True if row i of a has the tokens and the mask of row k of b.
static bool row_same(const Dataset *a, int i, const Dataset *b, int k) {
    Batch rows[2] = {{0}, {0}};
    dataset_batch(&rows[0], a, &i, 1);
    dataset_batch(&rows[1], b, &k, 1);
    const int n = rows[0].N;
    const bool same = rows[1].N == n &&
                      !memcmp(rows[0].tokens, rows[1].tokens, (size_t)n * sizeof(int)) &&
                      !memcmp(rows[0].mask, rows[1].mask, (size_t)n);
    batch_free(&rows[0]), batch_free(&rows[1]);
    return same;
}

// Splitting, shuffling, hashing, and batches.
static void test_use(const Tokenizer *t, const char *path) {
    Text text = {0};
    for (int i = 0; i < 200; i++)
        text_print(&text, "{\"prompt\": \"%d:\", \"completion\": \" %d\"}\n", i, i * i);
    file_write(path, text.data, text.size);
    text_free(&text);
    DataOptions o = {.max_length = 32}, all = {.max_length = 32, .all_tokens = true};
    Dataset d, again, other, train[2], eval[2];
    dataset_load(&d, t, path, &o);
    dataset_load(&again, t, path, &o);
    dataset_load(&other, t, path, &all);
    CHECK(d.n == 200 && dataset_hash(&d) == dataset_hash(&again), "the same file, the same hash");
    CHECK(dataset_hash(&d) != dataset_hash(&other), "another mask, another hash");
    for (int k = 0; k < 2; k++) { // drawn twice: the same rows
        dataset_split(&train[k], &eval[k], &d, 0.1, 7);
        CHECK(train[k].n == 180 && eval[k].n == 20, "%d + %d rows", train[k].n, eval[k].n);
    }
    CHECK(dataset_hash(&train[0]) == dataset_hash(&train[1]) &&
              dataset_hash(&eval[0]) == dataset_hash(&eval[1]),
          "the same seed, the same split");
    dataset_free(&train[1]), dataset_free(&eval[1]);
    dataset_split(&train[1], &eval[1], &d, 0.1, 8);
    CHECK(dataset_hash(&eval[0]) != dataset_hash(&eval[1]), "another seed, another split");
    // The rows of both parts, merged in order, are the rows of the whole.
    int a = 0, b = 0, wrong = 0;
    for (int i = 0; i < d.n; i++) {
        if (a < train[0].n && row_same(&d, i, &train[0], a)) a++;
        else if (b < eval[0].n && row_same(&d, i, &eval[0], b)) b++;
        else wrong++;
    }
    CHECK(!wrong && a == 180 && b == 20, "%d rows of the split are wrong", wrong);
    // Where the rows for evaluation stand is uniform: the mean index of 20 of 200 is 99.5 +- 12.
    double mean = 0;
    for (uint64_t seed = 0; seed < 400; seed++) {
        Dataset part, rest;
        dataset_split(&rest, &part, &d, 0.1, seed);
        for (int i = 0; i < part.n; i++) {
            Text prompt = {0};
            Batch row = {0};
            dataset_batch(&row, &part, &i, 1);
            tokenizer_decode(t, &prompt, row.tokens, 4, true);
            batch_free(&row);
            mean += atoi(prompt.data) / (400.0 * 20);
            text_free(&prompt);
        }
        dataset_free(&part), dataset_free(&rest);
    }
    CHECK_NEAR(mean, 99.5, 0, 3, "mean index of the rows for evaluation"); // sd 12.2 / sqrt(400)
    CHECK_DIES(EXIT_BAD_INPUT, "200 examples cannot be split", {
        Dataset x, y;
        dataset_split(&x, &y, &d, 1.0, 0);
    });
    int *order = mem_alloc(200, sizeof *order), *next = mem_alloc(200, sizeof *next);
    rng_permutation(order, 200, 7, 0);
    rng_permutation(next, 200, 7, 1);
    CHECK(memcmp(order, next, 200 * sizeof *order), "every epoch has an order of its own");
    Batch batch = {0};
    int ids[32];
    unsigned char mask[32];
    for (int first = 0; first < 200; first += 8) {
        dataset_batch(&batch, &d, order + first, 8);
        bool same = batch.R == 8;
        for (int r = 0; r < 8 && same; r++) {
            const int n = d.rows[order[first + r]].n, begin = batch.row_start[r];
            dataset_read(&d, order[first + r], ids, mask);
            same = batch.row_start[r + 1] - begin == n &&
                   !memcmp(batch.tokens + begin, ids, (size_t)n * sizeof(int)) &&
                   !memcmp(batch.mask + begin, mask, (size_t)n) && !batch.mask[begin];
        }
        CHECK(same, "batch of rows %d to %d", first, first + 7);
    }
    batch_free(&batch);
    free(order), free(next);
    dataset_free(&d), dataset_free(&again), dataset_free(&other);
    for (int k = 0; k < 2; k++) dataset_free(&train[k]), dataset_free(&eval[k]);
}

// Write a file of preferences: `text` has ' where JSON has ".
static void prefs_write(const char *path, const char *text) {
    char *json = text_copy(text);
    for (char *c = json; *c; c++)
        if (*c == '\'') *c = '"';
    file_write(path, json, strlen(json));
    free(json);
}

// Examples as text: their pieces with | between and / behind, labels of a LabelSet as + and -.
static Text pieces_print(const PieceSet *d, const Tokenizer *t) {
    Text out = {0};
    for (int i = 0; i < d->n; i++) {
        if (d->pieces == 2) text_append(&out, d->label[i] ? "+" : "-", 1);
        for (int p = 0; p < d->pieces; p++) {
            const size_t *start = d->start + (size_t)d->pieces * (size_t)i + p;
            row_print(&out, t, d->tokens + start[0], NULL, start[1] - start[0]);
            text_append(&out, p + 1 < d->pieces ? "|" : "/", 1);
        }
    }
    return out;
}

// Load `text` as a file of pairs (or of labels) and compare the pieces.
static void check_pieces(const Tokenizer *t, const char *path, const char *text,
                         const DataOptions *o, bool labels, const char *want) {
    prefs_write(path, text);
    PieceSet d;
    if (labels) labels_load(&d, t, path, o);
    else pairs_load(&d, t, path, o);
    Text got = pieces_print(&d, t);
    CHECK(!strcmp(got.data, want), "%s: got \"%s\", want \"%s\"", text, got.data, want);
    text_free(&got);
    pieces_free(&d);
}

#define USER(x) "{'role': 'user', 'content': '" x "'}"
#define BOT(x) "{'role': 'assistant', 'content': '" x "'}"
#define TURNS(a, b) "\\n\\nHuman: " a "\\n\\nAssistant:" b // as HH-RLHF has it, in JSON

static void test_pair_forms(const Tokenizer *t, const char *path) {
    DataOptions hh = {.max_length = 128};
    DataOptions simple = {.max_length = 128, .chat_format = CHAT_SIMPLE};
    const struct {
        const char *text;
        const DataOptions *o;
        const char *want;
    } cases[] = {
        // explicit prompt
        {"{'prompt': 'Q:', 'chosen': ' yes', 'rejected': ' no'}", &hh, "Q:| yes$| no$/"},
        {"{'prompt': 'Q:', 'chosen': ' yes<|endoftext|>', 'rejected': ' no'}", &hh,
         "Q:| yes$| no$/"},
        {"{'prompt': 'Q:', 'chosen': ' no<|endoftext|>no', 'rejected': ' no'}", &hh,
         "Q:| no$no$| no$/"},
        {"{'prompt': '', 'chosen': 'xy', 'rejected': 'xz'}", &hh, "$|xy$|xz$/"},
        {"{'prompt': 'Q:', 'chosen': '<|endoftext|>', 'rejected': 'x', 'id': 7}", &hh, "Q:|$|x$/"},
        {"{'prompt': 'xy', 'chosen': 'xy z', 'rejected': 'xy q'}", &hh, "xy|xy z$|xy q$/"},
        // HH-RLHF: the last "Assistant:" of the common prefix
        {"{'chosen': '" TURNS("a", " b") "', 'rejected': '" TURNS("a", " c") "'}", &hh,
         "\n\nHuman: a\n\nAssistant:| b$| c$/"},
        {"{'chosen': '" TURNS("a", " b") TURNS("c", " dx") "', 'rejected': '" TURNS("a", " b")
             TURNS("c", " dy") "'}",
         &hh, "\n\nHuman: a\n\nAssistant: b\n\nHuman: c\n\nAssistant:| dx$| dy$/"},
        {"{'chosen': '" TURNS("a", " b") "', 'rejected': '" TURNS("a", " b c") "'}", &hh,
         "\n\nHuman: a\n\nAssistant:| b$| b c$/"},
        {"{'chosen': '" TURNS("a", " b") "', 'rejected': '" TURNS("a", " c\\n\\nAssistant: d") "'}",
         &hh, "\n\nHuman: a\n\nAssistant:| b$| c\n\nAssistant: d$/"},
        {"{'chosen': '" TURNS("a", "\xC3\xA9") "', 'rejected': '" TURNS("a", "\xC3\xA8") "'}", &hh,
         "\n\nHuman: a\n\nAssistant:|\xC3\xA9$|\xC3\xA8$/"},
        // elsewhere: where the last white space begins
        {"{'chosen': 'It is blue', 'rejected': 'It is black'}", &hh, "It is| blue$| black$/"},
        {"{'chosen': 'It is', 'rejected': 'It is blue'}", &hh, "It| is$| is blue$/"},
        {"{'chosen': 'a \\n b', 'rejected': 'a \\n c'}", &hh, "a| \n b$| \n c$/"},
        {"{'chosen': 'it is\\nx', 'rejected': 'it is y'}", &hh, "it is|\nx$| y$/"},
        {"{'chosen': 'x \xC3\xA9', 'rejected': 'x \xC3\xA8'}", &hh, "x| \xC3\xA9$| \xC3\xA8$/"},
        {"{'chosen': 'x y ', 'rejected': 'x y'}", &hh, "x| y $| y$/"},
        {"{'chosen': ' x y', 'rejected': ' x z'}", &hh, " x| y$| z$/"},
        // messages
        {"{'prompt': [" USER("a") "], 'chosen': [" BOT("b") "], 'rejected': [" BOT("c") "]}", &hh,
         "\n\nHuman: a\n\nAssistant:| b$| c$/"},
        {"{'chosen': [" USER("a") ", " BOT("b") "], 'rejected': [" USER("a") ", " BOT("c") "]}",
         &simple, "User: a\n\nAssistant:| b$| c$/"},
        {"{'chosen': [" USER("a") ", " BOT("b") ", " USER("c") ", " BOT(
             "d") "], 'rejected': [" USER("a") ", " BOT("b") ", " USER("c") ", " BOT("e") "]}",
         &hh, "\n\nHuman: a\n\nAssistant: b\n\nHuman: c\n\nAssistant:| d$| e$/"},
    };
    for (int i = 0; i < COUNT(cases); i++)
        check_pieces(t, path, cases[i].text, cases[i].o, false, cases[i].want);
    // Labels: rows of their own, and pairs in two.
    check_pieces(t, path,
                 "{'prompt': 'Q:', 'completion': ' yes', 'label': true}\n"
                 "{'prompt': '', 'completion': 'x', 'label': false}\n"
                 "{'prompt': [" USER("a") "], 'completion': [" BOT(
                     "b") "], 'label': true}\n"
                          "{'chosen': 'It is blue', 'rejected': 'It is black'}\n",
                 &hh, true,
                 "+Q:| yes$/-$|x$/+\n\nHuman: a\n\nAssistant:| b$/+It is| blue$/-It is| black$/");
}

// A tokenizer whose template puts a token before texts (BOS): once, before the prompt, and before a
// conversation not at all; after it there is EOS once, whatever the template puts there.
static void test_template(const Tokenizer *t, const char *path) {
    DataOptions hh = {.max_length = 128}, simple = {.max_length = 128, .chat_format = CHAT_SIMPLE};
    Tokenizer begun = *t;
    int bos = t->byte_id['B'], eos = t->eos_id;
    begun.before = (TokenList){.data = &bos, .n = 1};
    begun.after = (TokenList){.data = &eos, .n = 1};
    check_rows(&begun, path, "{\"text\": \"xyz\"}", &hh, "B[xyz$]/");
    check_rows(&begun, path, "{\"prompt\": \"Q:\", \"completion\": \" yes\"}", &hh, "BQ:[ yes$]/");
    check_rows(&begun, path, "{\"prompt\": \"\", \"completion\": \"xy\"}", &hh, "B[xy$]/");
    check_rows(&begun, path,
               "{\"messages\": [{\"role\": \"user\", \"content\": \"a\"}, {\"role\": "
               "\"assistant\", \"content\": \"b\"}]}",
               &simple, "User: a\n\nAssistant:[ b$]/");
    const char *pair = "{'prompt': 'Q:', 'chosen': ' yes', 'rejected': ' no'}";
    check_pieces(&begun, path, pair, &hh, false, "BQ:| yes$| no$/");
    check_pieces(&begun, path, "{'prompt': '', 'chosen': 'x', 'rejected': 'y'}", &hh, false,
                 "B|x$|y$/");
    check_pieces(
        &begun, path,
        "{'chosen': [" USER("a") ", " BOT("b") "], 'rejected': [" USER("a") ", " BOT("c") "]}", &hh,
        false, "\n\nHuman: a\n\nAssistant:| b$| c$/");
    bos = eos; // GPT-2 with add_bos_token: that is no EOS inside of a text
    PieceSet d;
    prefs_write(path, pair);
    pairs_load(&d, &begun, path, &hh);
    CHECK(d.n == 1 && d.counts.special == 0, "BOS that is EOS counts as a special token inside");
    pieces_free(&d);
}

// The prompt is cut once for both sides, a completion keeps at least one token. Every letter below
// is a token.
static void test_pair_truncation(const Tokenizer *t, const char *path) {
    const char *pair = "{'prompt': 'qzxqzx', 'chosen': 'kjq', 'rejected': 'j'}";
    const char *both = "{'prompt': 'qzxqzx', 'chosen': 'jjj', 'rejected': 'kjqkjqkjq'}";
    const char *most = "{'prompt': 'qz', 'chosen': 'kjqkjqkjq', 'rejected': 'jkkkkkkkk'}";
    const struct {
        const char *text;
        int max_length;
        bool keep_start;
        const char *want;
    } cases[] = {
        {pair, 10, false, "qzxqzx|kjq$|j$/"},
        {pair, 9, false, "zxqzx|kjq$|j$/"},
        {pair, 7, false, "qzx|kjq$|j$/"},
        {pair, 9, true, "qzxqzx|kjq|j$/"},
        {pair, 7, true, "qzxqzx|k|j/"},
        {both, 12, false, "qzxqzx|jjj$|kjqkjq/"}, // the prompt is within its half
        {both, 11, false, "zxqzx|jjj$|kjqkjq/"},  // the prompt is cut to half, then the end
        {both, 7, false, "qzx|jjj$|kjqk/"},
        {both, 7, true, "qzxqzx|j|k/"},
        {most, 3, false, "z|kj|jk/"},
        {most, 3, true, "qz|k|j/"},
    };
    for (int i = 0; i < COUNT(cases); i++) {
        DataOptions o = {.max_length = cases[i].max_length, .keep_start = cases[i].keep_start};
        check_pieces(t, path, cases[i].text, &o, false, cases[i].want);
    }
    // A label's prompt is cut for its own completion, in a pair for the longer one.
    DataOptions o = {.max_length = 7};
    check_pieces(t, path,
                 "{'prompt': 'qzxqzx', 'completion': 'kjqkjq', 'label': true}\n"
                 "{'prompt': 'qzxqz', 'completion': 'j', 'label': false}\n"
                 "{'prompt': 'qzxqzx', 'chosen': 'kjq', 'rejected': 'j'}\n",
                 &o, true, "+qzx|kjqk/-qzxqz|j$/+qzx|kjq$/-qzx|j$/");
}

// Faults of content: each alone, then all in one file, counted.
static void test_pair_faults(const Tokenizer *t, const char *path) {
    const struct {
        const char *text, *message;
    } cases[] = {
        {"{'prompt': 'Q:', 'chosen': '', 'rejected': 'b'}", "\"chosen\" is empty"},
        {"{'prompt': 'Q:', 'chosen': 'a', 'rejected': ' \\n'}", "\"rejected\" is empty"},
        {"{'prompt': 'Q:', 'chosen': 'a', 'rejected': 'a'}", "chosen and rejected are identical"},
        {"{'chosen': 'ab', 'rejected': 'ab'}", "chosen and rejected are identical"},
        {"{'chosen': [" USER("a") ", " BOT("b") "], 'rejected': [" USER("a") ", " BOT("b") "]}",
         "chosen and rejected are identical"},
        {"{'prompt': 'Q:', 'chosen': 'a', 'rejected': 'a<|endoftext|>'}",
         "chosen and rejected are identical in 2 tokens"},
        {"{'prompt': 'Q:', 'chosen': 'zqzqzqzqzqx', 'rejected': 'zqzqzqzqzqz'}",
         "chosen and rejected are identical in 6 tokens"},
        {"{'chosen': 'Paris ', 'rejected': 'London'}", "chosen and rejected share no prompt"},
        {"{'chosen': 'ab', 'rejected': 'abc'}", "chosen and rejected share no prompt"},
        {"{'chosen': 'greet', 'rejected': 'green'}", "chosen and rejected share no prompt"},
        {"{'chosen': ' ab', 'rejected': ' cd'}", "chosen and rejected share no prompt"},
        {"{'chosen': 'blue x', 'rejected': 'bluer'}", "chosen and rejected share no prompt"},
        {"{'chosen': '\xC3\xA9', 'rejected': '\xC3\xA8'}", "chosen and rejected share no prompt"},
        {"{'chosen': '', 'rejected': 'x'}", "chosen and rejected share no prompt"},
        {"{'chosen': '" TURNS("a b", " x") "', 'rejected': '" TURNS("a c", " x") "'}",
         "chosen and rejected share no prompt"},
        {"{'chosen': '" TURNS("a", " x") TURNS("b", " z") "', 'rejected': '" TURNS("a", " y") "'}",
         "a completion goes on with \"Human:\""},
        {"{'chosen': '" TURNS("a", "") "', 'rejected': '" TURNS("a", " y") "'}",
         "\"chosen\" is empty"},
        {"{'chosen': [" BOT("b") "], 'rejected': [" BOT("c") "]}",
         "chosen and rejected share no prompt"},
        {"{'chosen': [" USER("a") "], 'rejected': [" USER("a") ", " BOT("b") "]}",
         "chosen and rejected share no prompt"},
        {"{'chosen': [" USER("a") ", " USER("b") "], 'rejected': [" USER("a") ", " BOT("b") "]}",
         "\"chosen\" is not one reply of the assistant"},
        {"{'prompt': [" USER("a") "], 'chosen': [" BOT("b") "], 'rejected': [" BOT("b") ", " USER(
             "c") "]}",
         "\"rejected\" is not one reply of the assistant"},
        {"{'prompt': [" USER("a") "], 'chosen': [" BOT("b") "], 'rejected': [" BOT(" ") "]}",
         "\"rejected\" is empty"},
        {"{'prompt': 'qzxqzxqz', 'chosen': 'a', 'rejected': 'b'}",
         "prompt has 8 tokens, context is 8"},
    };
    DataOptions o = {.max_length = 8}, chat = {.max_length = 64};
    PairSet d;
    Text all = {0};
    for (int i = 0; i < COUNT(cases); i++) {
        bool lists = strstr(cases[i].text, "role") || strstr(cases[i].text, "Human");
        char *message = text_format(":1: %s: skipped\n", cases[i].message);
        prefs_write(path, cases[i].text);
        CHECK_DIES(EXIT_BAD_INPUT, message, pairs_load(&d, t, path, lists ? &chat : &o));
        text_print(&all, "%s\n", cases[i].text);
        free(message);
    }
    text_print(&all, "{'prompt': 'th', 'chosen': 'e', 'rejected': 'qzqzqzqzq'}\n"
                     "{'prompt': 'x', 'chosen': 'z<|endoftext|>q', 'rejected': 'y'}\n");
    prefs_write(path, all.data);
    int saved = stderr_mute();
    pairs_load(&d, t, path, &o);
    stderr_back(saved);
    Text report = {0};
    pairs_report(&report, &d, "x");
    const char *want = "x: 2 pairs, 2 tokens of prompts, 6 chosen, 9 rejected; 23 of 25 records "
                       "skipped, 5 for identical completions; 1 truncated; 1 would merge across "
                       "the end of a part; <|endoftext|> parsed inside 1";
    CHECK(!strcmp(report.data, want), "report \"%s\"", report.data);
    pieces_free(&d);
    prefs_write(path, "{'chosen': 'It is blue', 'rejected': 'It is black'}\n"
                      "{'prompt': 'x', 'completion': 'q', 'label': true}\n");
    labels_load(&d, t, path, &chat);
    report.size = 0;
    labels_report(&report, &d, "x");
    Text sum = {0};
    text_print(&sum, "x: 2 true and 1 false completions, %zu tokens of prompts, %zu to learn",
               pieces_count(&d, 0), pieces_count(&d, 1));
    CHECK(!strcmp(report.data, sum.data), "report \"%s\"", report.data);
    pieces_free(&d);
    text_free(&all), text_free(&report), text_free(&sum);
}

// Faults of structure stop with file and line.
static void test_pair_bad_files(const Tokenizer *t, const char *path) {
    const struct {
        bool labels;
        const char *text, *message;
    } cases[] = {
        {false, "", "contains no records"},
        {true, "\n", "contains no records"},
        {false, "{'prompt': 'a', 'chosen': 'b'}",
         ":1: missing \"rejected\" (keys: prompt, chosen)"},
        {false, "{'prompt': 'a', 'rejected': 'b'}", ":1: missing \"chosen\" (keys: prompt, rej"},
        {false, "{'text': 'a'}", ":1: missing \"chosen\" (keys: text)"},
        {false, "{'chosen': 'a', 'rejected': 7}",
         ":1: \"rejected\" is a number, expected a string"},
        {false, "{'chosen': null, 'rejected': 'a'}", ":1: \"chosen\" is null: skipped"},
        {false, "{'prompt': 7, 'chosen': 'a', 'rejected': 'b'}", ":1: \"prompt\" is a number, exp"},
        {false, "{'prompt': 'a', 'chosen': [" BOT("b") "], 'rejected': [" BOT("c") "]}",
         ":1: \"prompt\" is text, and the messages of chosen and rejected do not begin with it: "
         "sk"},
        {false, "{'chosen': [" USER("a") ", " BOT("b") "], 'rejected': 'b'}",
         ":1: \"rejected\" is a string, expected an array of messages"},
        {false, "{'chosen': [], 'rejected': [" BOT("b") "]}", ":1: \"chosen\" has no messages"},
        {false,
         "{'chosen': [" USER("a") ", {'role': 'bot', 'content': 'b'}], 'rejected': [" USER(
             "a") ", " BOT("c") "]}",
         ":1: chosen[1].role \"bot\" (system, user or assistant expected)"},
        {false, "{'chosen': [" USER("a") ", " BOT("b") "], 'rejected': [" USER("a") ", {}]}",
         ":1: rejected[1] needs strings \"role\" and \"content\""},
        {true, "{'prompt': 'a', 'completion': 'b'}", ":1: missing \"label\" (keys: prompt, comple"},
        {true, "{'completion': 'b', 'label': true}", ":1: missing \"prompt\" (keys: completion, l"},
        {true, "{'prompt': 'b', 'label': true}",
         ":1: missing \"completion\" (keys: prompt, label)"},
        {true, "{'prompt': 'a', 'completion': 'b', 'label': 2}",
         ":1: \"label\" must be true or false, or 1 or 0 (found a number)"},
        {true, "{'prompt': 'a', 'completion': 'b', 'label': 0.5}", "1 or 0 (found a number)"},
        {true, "{'prompt': 'a', 'completion': 'b', 'label': 'true'}", "1 or 0 (found a string)"},
        {true, "{'prompt': 'a', 'completion': 'b', 'label': null}",
         ":1: \"label\" is null: skipped"},
        {true, "{'chosen': 'a b'}", ":1: missing \"rejected\" (keys: chosen)"},
    };
    DataOptions o = {.max_length = 64};
    PieceSet d;
    for (int i = 0; i < COUNT(cases); i++) {
        prefs_write(path, cases[i].text);
        CHECK_DIES(EXIT_BAD_INPUT, cases[i].message,
                   cases[i].labels ? labels_load(&d, t, path, &o) : pairs_load(&d, t, path, &o));
    }
}

// A batch as text: rows as row_print shows them, each with / behind it; a child with <parent: before.
static void check_batch(const Batch *b, const Tokenizer *t, const char *want) {
    Text got = {0};
    for (int r = 0; r < b->R; r++) {
        const int at = b->row_start[r];
        if (b->parent[r] >= 0) text_print(&got, "<%d:", b->parent[r]);
        row_print(&got, t, b->tokens + at, b->mask + at, (size_t)(b->row_start[r + 1] - at));
        text_append(&got, "/", 1);
    }
    CHECK(!strcmp(got.data, want), "batch: got \"%s\", want \"%s\"", got.data, want);
    text_free(&got);
}

static void test_pair_batches(const Tokenizer *t, const char *path) {
    DataOptions o = {.max_length = 6};
    Batch b = {0};
    PieceSet d;
    prefs_write(path, "{'prompt': 'Q:', 'chosen': 'zq', 'rejected': 'q'}\n"
                      "{'prompt': 'qz', 'chosen': 'kj', 'rejected': 'j'}\n"
                      "{'prompt': '', 'chosen': 'x', 'rejected': 'zz'}\n");
    pairs_load(&d, t, path, &o);
    pairs_batch(&b, &d, (int[]){1, 0, 2}, 3, true);
    check_batch(&b, t, "qz/<0:[kj$]/<0:[j$]/Q:/<3:[zq$]/<3:[q$]/$/<6:[x$]/<6:[zz$]/");
    pairs_batch(&b, &d, (int[]){2, 1}, 2, false);
    check_batch(&b, t, "$[x$]/$[zz$]/qz[kj$]/qz[j$]/");
    for (int share = 0; share < 2; share++) { // the same tokens count in both
        pairs_batch(&b, &d, (int[]){0, 1, 2}, 3, share);
        int tokens = (int)(pieces_count(&d, 1) + pieces_count(&d, 2));
        CHECK(batch_count_mask(&b) == tokens, "%d tokens count", batch_count_mask(&b));
    }
    pieces_free(&d);
    prefs_write(path, "{'prompt': 'qz', 'completion': 'kjk', 'label': true}\n"
                      "{'prompt': 'zqzq', 'completion': 'j', 'label': false}\n");
    labels_load(&d, t, path, &o);
    labels_batch(&b, &d, (int[]){1, 0}, (int[]){1, 0}, 2);
    check_batch(&b, t, "zqzq[j$]/qz[kjk$]/");
    labels_batch(&b, &d, (int[]){0, 1}, (int[]){1, 0}, 2); // the second is cut to 6 tokens
    check_batch(&b, t, "qz[j$]/zqzq[kj]/");
    batch_free(&b), pieces_free(&d);
}

// Splitting and hashing of pairs and labels.
static void test_pair_use(const Tokenizer *t, const char *path) {
    Text text = {0}, flipped = {0};
    for (int i = 0; i < 100; i++) {
        text_print(&text, "{'prompt': '%d:', 'completion': ' %d', 'label': %s}\n", i, i * i,
                   i % 3 ? "true" : "false");
        text_print(&flipped, "{'prompt': '%d:', 'completion': ' %d', 'label': %s}\n", i, i * i,
                   i % 3 && i != 50 ? "true" : "false");
    }
    DataOptions o = {.max_length = 32};
    LabelSet d, again, other, train, eval;
    prefs_write(path, text.data);
    labels_load(&d, t, path, &o), labels_load(&again, t, path, &o);
    prefs_write(path, flipped.data);
    labels_load(&other, t, path, &o);
    CHECK(pieces_hash(&d) == pieces_hash(&again), "the same file, the same hash");
    CHECK(pieces_hash(&d) != pieces_hash(&other), "another label, another hash");
    pieces_split(&train, &eval, &d, 0.1, 7);
    CHECK(d.good == 66 && train.n == 90 && eval.n == 10 && train.good + eval.good == 66,
          "%d + %d rows, %d + %d good", train.n, eval.n, train.good, eval.good);
    Text whole = pieces_print(&d, t), parts[] = {pieces_print(&train, t), pieces_print(&eval, t)};
    int wrong = 0;
    char *place[] = {parts[0].data, parts[1].data}; // both parts, merged in order, are the whole
    for (char *row = strtok(whole.data, "/"); row; row = strtok(NULL, "/")) {
        int k = strncmp(place[0], row, strlen(row)) ? 1 : 0;
        wrong += strncmp(place[k], row, strlen(row)) != 0;
        place[k] += strlen(row) + 1;
    }
    CHECK(!wrong && !*place[0] && !*place[1], "%d rows of the split are wrong", wrong);
    pieces_free(&train), pieces_free(&eval), pieces_free(&d);
    pieces_free(&again), pieces_free(&other);
    PairSet a, b; // the same tokens, cut elsewhere
    prefs_write(path, "{'prompt': 'x', 'chosen': 'yz', 'rejected': 'q'}");
    pairs_load(&a, t, path, &o);
    prefs_write(path, "{'prompt': 'xy', 'chosen': 'z', 'rejected': 'q'}");
    pairs_load(&b, t, path, &o);
    CHECK(pieces_hash(&a) != pieces_hash(&b), "another border, another hash");
    CHECK_DIES(EXIT_BAD_INPUT, "1 examples cannot be split",
               pieces_split(&train, &eval, &a, 0.5, 0));
    pieces_free(&a), pieces_free(&b);
    text_free(&text), text_free(&flipped);
    text_free(&whole), text_free(&parts[0]), text_free(&parts[1]);
}

// What a reward model needs: completions that keep their end, and the column `margin`.
static void test_reward_pairs(const Tokenizer *t, const char *path) {
    const char *text = "{'prompt': 'qzx', 'chosen': 'zqzq', 'rejected': 'x'}\n"       // 3 + 5
                       "{'prompt': 'qzxqz', 'chosen': 'q', 'rejected': 'zqzq'}\n"     // 5 + 5: cut
                       "{'prompt': 'qzxqz', 'chosen': 'q', 'rejected': 'zqzqzq'}\n"   // to 1 token
                       "{'prompt': 'qzxqz', 'chosen': 'q', 'rejected': 'zqzqzqz'}\n"; // not at all
    DataOptions o = {.max_length = 8, .whole = true}, keep = o;
    keep.keep_start = true;
    PairSet d;
    prefs_write(path, text);
    CHECK_DIES(0, ":4: prompt and completion have 13 tokens, context is 8: the end is cut: skipped",
               pairs_load(&d, t, path, &o), fflush(stderr));
    int saved = stderr_mute();
    pairs_load(&d, t, path, &o);
    Text got = pieces_print(&d, t);
    const char *want = "qzx|zqzq$|x$/xqz|q$|zqzq$/z|q$|zqzqzq$/";
    CHECK(!strcmp(got.data, want), "got \"%s\", want \"%s\"", got.data, want);
    CHECK(d.n == 3 && d.counts.skipped == 1 && d.counts.truncated == 2, "%d pairs, %ld truncated",
          d.n, d.counts.truncated);
    pieces_free(&d), text_free(&got);
    pairs_load(&d, t, path, &keep); // TRL's way: too long is too long
    stderr_back(saved);
    CHECK(d.n == 1 && d.counts.skipped == 3 && !d.margin, "%d pairs", d.n);
    pieces_free(&d);

    o.margins = true;
    Text rows = {0};
    for (int i = 0; i < 40; i++)
        text_print(&rows, "{'prompt': '%d:', 'chosen': '%s', 'rejected': 'b', 'margin': %g}\n", i,
                   i == 1 ? "b" : "a", i == 2 ? -1.5 : i * 0.25);
    prefs_write(path, rows.data);
    saved = stderr_mute();
    pairs_load(&d, t, path, &o);
    CHECK(d.n == 39 && d.margin && d.margin[0] == 0 && d.margin[1] == -1.5f &&
              d.margin[38] == 9.75f,
          "margins of %d pairs", d.n);
    PairSet train, eval, other;
    pieces_split(&train, &eval, &d, 0.25, 7);
    float sum = 0;
    for (int i = 0; i < train.n; i++) sum += train.margin[i];
    for (int i = 0; i < eval.n; i++) sum += eval.margin[i];
    CHECK(train.n == 29 && eval.n == 10 && sum == 0.25f * (780 - 1 - 2) - 1.5f,
          "sum of %d + %d margins %g", train.n, eval.n, sum);
    const PairSet all = train;
    PairSet thin = {.pieces = 3, .max_length = all.max_length};
    thin.margin = mem_alloc(1, sizeof *thin.margin);
    for (int i = 0; i < all.n; i++) pieces_copy(&thin, &all, i);
    CHECK(pieces_hash(&thin) == pieces_hash(&all), "a copy");
    pieces_thin(&thin, 3); // 0, 9 and 19 of 29
    CHECK(thin.n == 3 && thin.margin[1] == all.margin[9] && thin.margin[2] == all.margin[19] &&
              thin.start[9] - thin.start[6] == all.start[60] - all.start[57] &&
              !memcmp(thin.tokens + thin.start[6], all.tokens + all.start[57],
                      (thin.start[9] - thin.start[6]) * sizeof(int)),
          "3 examples, evenly spread");
    pieces_free(&thin);
    o.margins = false; // other programs leave the column alone
    pairs_load(&other, t, path, &o);
    stderr_back(saved);
    CHECK(!other.margin && pieces_hash(&other) != pieces_hash(&d), "without margins");
    pieces_free(&d), pieces_free(&train), pieces_free(&eval), pieces_free(&other), text_free(&rows);
    o.margins = true;
    const struct {
        const char *margin, *message;
    } bad[] = {
        {", 'margin': '1'", ":2: \"margin\" is a string, expected a number"},
        {", 'margin': null", ":2: missing \"margin\", which earlier rows have (keys: prompt, chos"},
        {", 'margin': [1]", ":2: \"margin\" is an array, expected a number"},
        {", 'margin': 1e7", ":2: \"margin\" 1e+07 is out of range"},
        {", 'margin': -1e999", ":2: \"margin\" -inf is out of range"},
        {"", ":2: missing \"margin\", which earlier rows have (keys: prompt, chosen, rejected)"},
    };
    for (int i = 0; i < COUNT(bad); i++) {
        char *two = text_format("{'prompt': 'x', 'chosen': 'a', 'rejected': 'b', 'margin': 1}\n"
                                "{'prompt': 'x', 'chosen': 'a', 'rejected': 'c'%s}\n",
                                bad[i].margin);
        prefs_write(path, two);
        CHECK_DIES(EXIT_BAD_INPUT, bad[i].message, pairs_load(&d, t, path, &o));
        free(two);
    }
    prefs_write(path, "{'prompt': 'x', 'chosen': 'a', 'rejected': 'b'}\n"
                      "{'prompt': 'x', 'chosen': 'a', 'rejected': 'c', 'margin': 1}\n");
    CHECK_DIES(EXIT_BAD_INPUT, ":2: \"margin\", which earlier rows do not have",
               pairs_load(&d, t, path, &o));
}

// True if a value is what Python has of it: a number that is not finite became null there.
static bool same_value(const cJSON *ours, const cJSON *want) {
    if (cJSON_IsNull(want))
        return !ours || cJSON_IsNull(ours) ||
               (cJSON_IsNumber(ours) && !isfinite(ours->valuedouble));
    if (!ours || (ours->type & 0xFF) != (want->type & 0xFF)) return false;
    if (cJSON_IsNumber(want)) return ours->valuedouble == want->valuedouble;
    if (cJSON_IsString(want)) return !strcmp(ours->valuestring, want->valuestring);
    const cJSON *child, *other = ours->child;
    cJSON_ArrayForEach(child, want) {
        if (!same_value(cJSON_IsObject(want) ? json_get(ours, child->string) : other, child))
            return false;
        other = other ? other->next : NULL;
    }
    return cJSON_IsObject(want) || !other;
}

// Check that a file is read as the rows (an array) that `datasets` reads.
static void check_golden_file(const char *path, const char *latin, const cJSON *rows) {
    Text bytes = {0};
    uint32_t code;
    for (size_t i = 0, n = strlen(latin); i < n;) {
        i += (size_t)utf8_decode(&code, latin + i, n - i);
        const char byte = (char)code;
        text_append(&bytes, &byte, 1);
    }
    file_write(path, bytes.data, bytes.size);
    LineReader r;
    const cJSON *want = rows->child;
    lines_open(&r, path);
    for (cJSON *record; (record = record_next(&r)); cJSON_Delete(record)) {
        CHECK(want && same_value(record, want), "%s: a row differs", bytes.data);
        want = want ? want->next : NULL;
    }
    CHECK(!want, "%s: fewer rows", bytes.data);
    lines_close(&r), text_free(&bytes);
}

// Check that a record becomes the text that TRL makes of it, in the same parts where its prompt is
// left open for a reply.
static void check_golden_record(const char *path, const cJSON *golden) {
    char *text = cJSON_PrintUnformatted(json_get(golden, "record"));
    file_write(path, text, strlen(text));
    LineReader r;
    Draft d = {0};
    lines_open(&r, path);
    cJSON *record = record_next(&r);
    const bool pair = json_get(golden, "chosen");
    if (pair) draft_preference(&d, &r, record, 2, CHAT_HH);
    else draft_sft(&d, &r, record, &(DataOptions){.max_length = 64});
    CHECK(!d.fault[0], "%s: %s", text, d.fault);
    Text want = {0};
    const char *const keys[] = {"text", "prompt", "completion", "chosen", "rejected"};
    size_t prompt = 0;
    for (int i = 0; i < COUNT(keys); i++) {
        const cJSON *item = json_get(golden, keys[i]);
        if (!item) continue;
        // we open the reply before a second message of the assistant's, TRL after that of the prompt
        const size_t n = strlen(item->valuestring), open = strlen("Assistant:");
        const bool opened = n > open && !strcmp(item->valuestring + n - open, "Assistant:");
        if (i == 1 && opened) prompt = n;
        if (i == 4 && !prompt) text_print(&want, "%s", strchr(item->valuestring, ':') + 1);
        else text_print(&want, "%s", item->valuestring);
    }
    CHECK(!strcmp(d.text.data, want.data), "%s: got \"%s\", want \"%s\"", text, d.text.data,
          want.data);
    CHECK(!prompt || !pair || d.parts[0].end == prompt, "%s: the prompt ends elsewhere", text);
    cJSON_Delete(record), cJSON_free(text);
    lines_close(&r), draft_free(&d), text_free(&want);
}

// What dev/golden_data.py has of datasets and TRL.
static void test_golden(const char *path) {
    LineReader goldens;
    int n = 0;
    lines_open(&goldens, "test/golden/data.jsonl");
    for (cJSON *golden; (golden = record_next(&goldens)); cJSON_Delete(golden), n++) {
        if (json_get(golden, "file"))
            check_golden_file(path, record_string(&goldens, golden, "file"),
                              json_get(golden, "rows"));
        if (json_get(golden, "record")) check_golden_record(path, golden);
    }
    CHECK(n > 20, "%d goldens", n);
    lines_close(&goldens);
}

static void text_write(const char *path, const char *text) { file_write(path, text, strlen(text)); }

// Run a command of the shell: false if it is not there.
static bool shell(const char *command) { return system(command) == 0; }

// All records' column "text", with the file's last letters and line before each.
static Text records_print(const char *names) {
    LineReader r;
    Text out = {0};
    text_append(&out, "", 0);
    lines_open(&r, names);
    for (cJSON *record; (record = record_next(&r)); cJSON_Delete(record))
        text_print(&out, "%s:%ld %s/", strrchr(r.path, '/') + 1, r.number,
                   record_string(&r, record, "text"));
    lines_close(&r);
    return out;
}

// Lists, patterns, compressed files.
static void test_input(void) {
    char dir[] = "/tmp/test_input.XXXXXX";
    if (!mkdtemp(dir) || chdir(dir)) die(EXIT_IO, "cannot create %s", dir);
    text_write("a1.jsonl", "{\"text\": \"one\"}\n{\"text\": \"two\"}\n");
    text_write("a2.jsonl", "\n[{\"text\": \"three\"},\n\n {\"text\":\n\"four\"}]");
    text_write("a3.jsonl", "\xEF\xBB\xBF{\"text\": \"five\"}");
    text_write("x,y.jsonl", "{\"text\": \"comma\"}");
    text_write("-rf; touch oops.jsonl", "{\"text\": \"dash\"}");
    text_write("[a]*.jsonl", "{\"text\": \"star\"}");
    file_write("none", "", 0);
    const bool gzip = shell("gzip -c a1.jsonl >z.jsonl.gz && gzip -c a1.jsonl >z.jsonl && "
                            "gzip -c <'-rf; touch oops.jsonl' >'-z; touch oops'");
    const bool zstd = shell("zstd -q -c a2.jsonl >z.zst");
    const bool both = gzip && shell("(gzip -c a1.jsonl; gzip -c a3.jsonl) >two.gz");
    const struct {
        const char *names, *want;
        bool here;
    } cases[] = {
        {"./a1.jsonl", "a1.jsonl:1 one/a1.jsonl:2 two/", true},
        {"./a?.jsonl",
         "a1.jsonl:1 one/a1.jsonl:2 two/a2.jsonl:2 three/a2.jsonl:4 four/"
         "a3.jsonl:1 five/",
         true},
        {"./a3.jsonl,./a1.jsonl", "a3.jsonl:1 five/a1.jsonl:1 one/a1.jsonl:2 two/", true},
        {"./a[31].jsonl,./none,./a2*",
         "a1.jsonl:1 one/a1.jsonl:2 two/a3.jsonl:1 five/"
         "a2.jsonl:2 three/a2.jsonl:4 four/",
         true},
        {"./a1.jsonl,./a1.jsonl", "a1.jsonl:1 one/a1.jsonl:2 two/a1.jsonl:1 one/a1.jsonl:2 two/",
         true},
        {"./x,y.jsonl", "x,y.jsonl:1 comma/", true},  // there is such a file
        {"./[a]*.jsonl", "[a]*.jsonl:1 star/", true}, // and such a one
        {"./z.jsonl.gz", "z.jsonl.gz:1 one/z.jsonl.gz:2 two/", gzip},
        {"./z.jsonl", "z.jsonl:1 one/z.jsonl:2 two/", gzip}, // by its content
        {"./-z; touch oops", "-z; touch oops:1 dash/", gzip},
        {"./z.zst", "z.zst:2 three/z.zst:4 four/", zstd},
        {"./z.*,./a3.jsonl",
         "z.jsonl:1 one/z.jsonl:2 two/z.jsonl.gz:1 one/z.jsonl.gz:2 two/"
         "z.zst:2 three/z.zst:4 four/a3.jsonl:1 five/",
         gzip && zstd},
    };
    for (int i = 0; i < COUNT(cases); i++) {
        if (!cases[i].here) {
            test_skip("no gzip or zstd here");
            continue;
        }
        Text got = records_print(cases[i].names);
        CHECK(!strcmp(got.data, cases[i].want), "%s: got \"%s\"", cases[i].names, got.data);
        text_free(&got);
    }
    CHECK(!path_is_file("oops") && !path_is_file("oops.jsonl"), "a name is no command");
    if (both) // a BOM in the middle is no JSON
        CHECK_DIES(EXIT_BAD_INPUT, "two.gz:3:1: begins with a byte order mark",
                   records_print("./two.gz"));
    // what is not there
    CHECK_DIES(EXIT_BAD_INPUT, "error: b.jsonl: no such file\n", records_print("b.jsonl"));
    CHECK_DIES(EXIT_BAD_INPUT, "error: b*.jsonl: no file has such a name\n",
               records_print("b*.jsonl"));
    CHECK_DIES(EXIT_BAD_INPUT, "error: b*: no file has", records_print("a1.jsonl,b*"));
    CHECK_DIES(EXIT_BAD_INPUT, "a1.jsonl,,x: a name between the commas is empty",
               records_print("a1.jsonl,,x"));
    CHECK_DIES(EXIT_BAD_INPUT, ".: is a directory, expected a file", records_print("./a1.jsonl,."));
    CHECK_DIES(EXIT_BAD_INPUT, "error: ./a4.jsonl:2: missing \"text\"", {
        text_write("a4.jsonl", "\n{\"txt\": 1}");
        records_print("./a*.jsonl");
    });
    // damaged, or without its program
    if (gzip && shell("head -c 30 z.jsonl.gz >cut.gz && head -c 20 z.jsonl.gz >wrong.gz && "
                      "tail -c 30 z.jsonl.gz >>wrong.gz")) {
        CHECK_DIES(EXIT_BAD_INPUT, "error: ./cut.gz: is damaged or cut short: gzip -dc ends with",
                   records_print("./cut.gz"));
        CHECK_DIES(EXIT_BAD_INPUT, "error: ./wrong.gz: is damaged or cut short: gzip -dc ends with",
                   records_print("./wrong.gz"));
        CHECK_DIES(EXIT_IO,
                   "error: ./z.jsonl.gz: is gzip-compressed, and the program gzip cannot be",
                   setenv("PATH", "/nowhere", 1), records_print("./z.jsonl.gz"));
    }
    if (zstd && shell("head -c 30 z.zst >cut.zst")) {
        CHECK_DIES(EXIT_BAD_INPUT, "error: ./cut.zst: is damaged or cut short: zstd -dc ends with",
                   records_print("./cut.zst"));
        CHECK_DIES(EXIT_IO,
                   "error: ./z.zst: is zstd-compressed, and the program zstd cannot be run",
                   setenv("PATH", "/nowhere", 1), records_print("./z.zst"));
    }
    if (gzip) { // a reader that stops before the end, of more than a pipe holds
        Text big = {0};
        for (int i = 0; i < 20000; i++) text_print(&big, "{\"text\": \"%d\"}\n", i);
        file_write("big.jsonl", big.data, big.size);
        CHECK(shell("gzip -f big.jsonl"), "gzip");
        LineReader r;
        lines_open(&r, "big.jsonl.gz");
        cJSON *record = record_next(&r);
        CHECK(!strcmp(record_string(&r, record, "text"), "0"), "the first record");
        lines_close(&r), cJSON_Delete(record), text_free(&big);
    }
    if (!shell("rm -f ./*") || chdir("/") || rmdir(dir)) die(EXIT_IO, "%s: stays there", dir);
}

// A JSON array: its faults, and a record as it is in the file.
static void test_arrays(const char *path) {
    const struct {
        const char *text, *message;
    } cases[] = {
        {"[", ":1:2: JSON error: the array has no end"},
        {"[]", "contains no records"},
        {"[{\"text\": \"a\"}", ":1:15: JSON error: the array has no end"},
        {"[{\"text\": \"a\"", ":1:14: JSON error: the array has no end"},
        {"[{\"text\": \"a\"},]", ":1:16: JSON error: no object after the comma"},
        {"[\n{\"text\": \"a\"}\n{\"text\": \"b\"}]",
         ":3:1: JSON error: expected , or ] after an obj"},
        {"[{\"text\": \"a\"}] x", ":1:17: JSON error: text after the end of the array"},
        {"[,{\"text\": \"a\"}]", ":1:2: expected a JSON object"},
        {"[\"text\"]", ":1:2: expected a JSON object"},
        {"[[{\"text\": \"a\"}]]", ":1:2: expected a JSON object"},
        {"[{\"text\": \"a\"},\n  {\"text\": 01}]", ":2:12: not a JSON number"},
        {"[{\"text\": \"a\"},\n  {\n \"text\": 01}]", ":3:10: not a JSON number"},
        {"[{\"text\": \"a\"}, {\"text\": \"b\", \"text\": 1}]", ":1:31: duplicate key \"text\""},
        {"[{\"text\": \"a\"}, {]]", ":1:18: JSON error"},
        {"[\n{\"text\": \"a\"},\n{\"txt\": \"b\"}]", ":3: missing \"text\""},
        {"[\n{\"text\": \"a\"},\n{\n\"text\": 7}]", ":3: \"text\" is a number"},
    };
    for (int i = 0; i < COUNT(cases); i++) {
        file_write(path, cases[i].text, strlen(cases[i].text));
        CHECK_DIES(EXIT_BAD_INPUT, cases[i].message, {
            Text got = records_print(path);
            if (!got.size) die(EXIT_BAD_INPUT, "contains no records");
        });
    }
    const char *text = "[ {\"a\" : 1.50, \"b\":\"x\\u0000,}\",\n \"c\": [{\"d\": 1},\r\n[2]] ,"
                       "\"e\":NaN} ]";
    file_write(path, text, strlen(text));
    LineReader r;
    Text out = {0};
    lines_open(&r, path);
    cJSON *record = record_next(&r);
    record_copy(&out, &r, (const char *const[]){"a"}, 1);
    const char *want = "\"b\": \"x\\u0000,}\", \"c\": [{\"d\": 1},  [2]], \"e\": NaN, ";
    CHECK(!strcmp(out.data, want), "a copy: %s", out.data);
    cJSON_Delete(record), lines_close(&r), text_free(&out);
}

// Columns that are null, numbers that are not finite, and content that costs a row.
static void test_rows(const Tokenizer *t, const char *path) {
    DataOptions o = {.max_length = 64};
    check_rows(t, path, "{\"text\": \"xy\", \"prompt\": null, \"messages\": null, \"id\": NaN}", &o,
               "x[y$]/");
    check_rows(t, path, "{\"prompt\": \"q\", \"completion\": \"x\", \"messages\": null}", &o,
               "q[x$]/");
    check_rows(t, path,
               "{\"messages\": [{\"role\": \"user\", \"content\": \"q\", \"name\": null, "
               "\"tool_calls\": null}, {\"role\": \"assistant\", \"content\": \"x\", "
               "\"tool_calls\": []}], \"text\": null}",
               &o, "\n\nHuman: q\n\nAssistant:[ x$]/");
    check_pieces(t, path,
                 "{'prompt': 'q', 'completion': 'x', 'label': 1, 'chosen': null}\n"
                 "{'prompt': null, 'chosen': 'a b', 'rejected': 'a c', 'label': null}\n"
                 "{'prompt': 'q', 'completion': 'z', 'label': 0.0, 'rejected': NaN}\n",
                 &o, true, "+q|x$/+a| b$/-a| c$/-q|z$/");
    check_pieces(t, path, "{'chosen': 'a b', 'rejected': 'a c', 'prompt': null, 'completion': NaN}",
                 &o, false, "a| b$| c$/");
    check_pieces(t, path,
                 "{'prompt': 'q', 'chosen': 'x', 'rejected': 'z', 'score': Infinity,"
                 "'note': '\\u0000 \\ud800 \xFF'}",
                 &o, false, "q|x$|z$/");
    o.margins = true;
    check_pieces(t, path, "{'prompt': 'q', 'chosen': 'x', 'rejected': 'z', 'margin': null}", &o,
                 false, "q|x$|z$/");
    o.margins = false;
    const struct {
        bool pairs;
        const char *text, *message;
    } faults[] = {
        {false, "{'text': null}", "\"text\" is null"},
        {false, "{'messages': null, 'id': 7}", "\"messages\" is null"},
        {false, "{'prompt': null, 'completion': null}", "\"prompt\" is null"},
        {false, "{'prompt': 'x', 'completion': null}", "\"completion\" is null"},
        {false, "{'prompt': 'x', 'completion': NaN}", "\"completion\" is null"},
        {false, "{'prompt': null, 'completion': [" BOT("b") "]}", "\"prompt\" is null"},
        {false, "{'prompt': [], 'completion': [" BOT("b") "]}", "\"prompt\" has no messages"},
        {false, "{'messages': []}", "\"messages\" has no messages"},
        {false, "{'messages': [" USER("a") ", {'role': 'assistant', 'content': null}]}",
         "messages[1].content is null"},
        {false,
         "{'messages': [" USER("a") ", {'role': 'assistant', 'content': null, 'tool_calls': "
                                    "[{'id': 'x'}]}]}",
         "messages[1] calls a tool"},
        {false, "{'messages': [" USER("a") ", {'role': 'assistant', 'tool_calls': [{'id': 'x'}]}]}",
         "messages[1] calls a tool"},
        {false, "{'messages': [" USER("a") ", {'role': 'tool', 'content': '4'}, " BOT("b") "]}",
         "messages[1].role \"tool\" (system, user or assistant expected)"},
        {false, "{'messages': [{'role': '\\u0000', 'content': 'a'}]}", "messages[0].role \""},
        {false, "{'text': 'a\\u0000b'}", "\"text\" contains \\u0000"},
        {false, "{'prompt': 'a\\udfffb', 'completion': 'x'}",
         "\"prompt\" contains half of a surrogate pair"},
        {false, "{'messages': [" USER("caf\xE9") ", " BOT("b") "]}",
         "\"messages\" contains a byte that is not UTF-8"},
        {true, "{'prompt': 'q', 'chosen': null, 'rejected': 'z'}", "\"chosen\" is null"},
        {true, "{'prompt': 'q', 'chosen': 'x', 'rejected': NaN}", "\"rejected\" is null"},
        {true, "{'prompt': 'q', 'chosen': 'x\\u0000', 'rejected': 'z'}",
         "\"chosen\" contains \\u0000"},
        {true, "{'prompt': 'q', 'chosen': '\\u0000', 'rejected': '\\u0000'}",
         "chosen and rejected are identical"},
        {true, "{'prompt': [], 'chosen': [" BOT("a") "], 'rejected': [" BOT("b") "]}",
         "\"prompt\" has no messages"},
        {true,
         "{'chosen': [" USER("a") ", {'role': 'assistant', 'content': null}], 'rejected': [" USER(
             "a") ", " BOT("b") "]}",
         "chosen[1].content is null"},
        {true,
         "{'prompt': [" USER("a") "], 'chosen': [" BOT("a") ", " USER("b") ", " BOT(
             "c") "], 'rejected': [" BOT("b") "]}",
         "\"chosen\" is not one reply of the assistant"},
    };
    Text all = {0};
    for (int pairs = 0; pairs < 2; pairs++) {
        all.size = 0;
        int n = 0;
        for (int i = 0; i < COUNT(faults); i++) {
            if (faults[i].pairs != pairs) continue;
            Dataset d;
            PairSet p;
            DataOptions strict = {.max_length = 64, .strict = true};
            char *skipped = text_format(":1: %s", faults[i].message);
            prefs_write(path, faults[i].text);
            CHECK_DIES(EXIT_BAD_INPUT, skipped,
                       pairs ? pairs_load(&p, t, path, &o) : dataset_load(&d, t, path, &o));
            char *error = text_format("error: %s:1: %s", path, faults[i].message);
            CHECK_DIES(EXIT_BAD_INPUT, error,
                       pairs ? pairs_load(&p, t, path, &strict)
                             : dataset_load(&d, t, path, &strict));
            text_print(&all, "%s\n", faults[i].text);
            n++;
            free(skipped), free(error);
        }
        text_print(&all, "%s\n",
                   pairs ? "{'prompt': 'q', 'chosen': 'x', 'rejected': 'z'}"
                         : "{'prompt': 'q', 'completion': 'x'}");
        prefs_write(path, all.data);
        int saved = stderr_mute();
        Dataset d;
        PairSet p;
        if (pairs) pairs_load(&p, t, path, &o);
        else dataset_load(&d, t, path, &o);
        stderr_back(saved);
        const DataCounts *c = pairs ? &p.counts : &d.counts;
        CHECK((pairs ? p.n : d.n) == 1 && c->skipped == n && c->records == n + 1,
              "%ld of %ld skipped", c->skipped, c->records);
        if (pairs) pieces_free(&p);
        else dataset_free(&d);
    }
    text_free(&all);
}

// Files of another kind in the place of data, of a config, of a plain text.
static void test_impostors(const Tokenizer *t, const char *path, const char *txt) {
    const struct {
        const char *head;
        size_t n; // 0: strlen
        const char *is;
        bool text; // a plain text may begin so
    } cases[] = {
        {"PAR1\x15\x04\x15\x10", 8, "is a Parquet file, expected JSON", false},
        {"ARROW1\0\0\xFF\xFF\xFF\xFF", 12, "is an Arrow file (Feather), expected JSON", false},
        {"FEA1\0\0\0\0", 8, "is a Feather file, expected JSON", false},
        {"\xFF\xFF\xFF\xFF\x10\x01\0\0", 8, "is an Arrow stream, expected JSON", false},
        {"\x80\x04\x95\x1F\0\0\0", 7, "is a Python pickle, expected JSON", false},
        {"\x80\x02}q\x01", 5, "is a Python pickle, expected JSON", false},
        {"PK\x03\x04\x14\0", 6, "is a zip file", false},
        {"\xFD"
         "7zXZ\0\0\x04",
         8, "is xz-compressed, expected JSON", false},
        {"BZh91AY&SY\x01\x02", 12, "is bzip2-compressed, expected JSON", false},
        {"7z\xBC\xAF\x27\x1C\0\4", 8, "is a 7z archive, expected JSON", false},
        {"SQLite format 3\0\x10", 17, "is an SQLite database, expected JSON", false},
        {"GGUF\x03\0\0\0", 8, "is a GGUF model, expected JSON", false},
        {"\x40\0\0\0\0\0\0\0{\"a\":", 13, "is a safetensors file, expected JSON", false},
        {"\xFF\xFEh\0i\0", 6, "is UTF-16, expected UTF-8", false},
        {"\xFE\xFF\0h\0i", 6, "is UTF-16, expected UTF-8", false},
        {"{\0\"\0t\0", 6, "is UTF-16, expected UTF-8", false},
        {"\xFF\xFE\0\0h\0\0\0", 8, "is UTF-32, expected UTF-8", false},
        {"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n", 0,
         "is a Git LFS pointer, the data was not downloaded", false},
        {"<!DOCTYPE html>\n<html><head>", 0, "is an HTML page, probably of a failed download",
         true},
        {"\n <HTML lang=\"en\">", 0, "is an HTML page, probably of a failed download", true},
        {"\xEF\xBB\xBF<!doctype html>", 0, "is an HTML page, probably of a failed download", true},
        {"<?xml version=\"1.0\"?>\n<Error>", 0, "is XML, expected JSON", true},
        {"prompt,chosen,rejected\nx,y,z\n", 0, ":1: looks like CSV, expected JSON", true},
        {"\"prompt\",\"label\"\n\"x\",1\n", 0, ":1: looks like CSV, expected JSON", true},
        {"prompt;label\nx;1\n", 0, ":1: looks like CSV, expected JSON", true},
        {"prompt\tlabel\nx\t1\n", 0, ":1: looks like TSV (values with tabs between), exp", true},
        {"model_name_or_path: gpt2\nbeta: 0.1\n", 0, ":1: looks like YAML, expected JSON", true},
        {"---\nbeta: 0.1\n", 0, ":1: looks like YAML, expected JSON", true},
        {"# TRL\nbeta: 0.1\n", 0, ":1: looks like YAML, expected JSON", true},
        {"- prompt: x\n  label: 1\n", 0, ":1: looks like YAML, expected JSON", true},
        {"{'prompt': 'x', 'label': True}\n", 0, ":1: looks like Python (single quotes", true},
        {"[{'prompt': 'x'}]\n", 0, NULL, true},
        {"GGUF is a format, ORC and PAR1 others", 0, NULL, true},
        {"ORC said: PAR1, what? \xC3\xA9", 0, NULL, true},
        {"%PDF- is how a PDF begins", 0, NULL, true},
        {"BZh91AY&SY", 0, NULL, true},
    };
    for (int i = 0; i < COUNT(cases); i++) {
        const size_t n = cases[i].n ? cases[i].n : strlen(cases[i].head);
        const char *message = cases[i].is ? cases[i].is : "";
        DataOptions o = {.max_length = 64};
        Dataset d;
        PairSet p;
        file_write(path, cases[i].head, n);
        CHECK_DIES(EXIT_BAD_INPUT, message, dataset_load(&d, t, path, &o));
        CHECK_DIES(EXIT_BAD_INPUT, message, pairs_load(&p, t, path, &o));
        CHECK_DIES(EXIT_BAD_INPUT, message, cJSON_Delete(json_read(path)));
        file_write(txt, cases[i].head, n);
        if (!cases[i].text)
            CHECK_DIES(EXIT_BAD_INPUT, cases[i].is[0] == 'i' ? "is " : "",
                       dataset_load(&d, t, txt, &o));
        else {
            dataset_load(&d, t, txt, &o);
            CHECK(d.n > 0, "%s is a text, too", cases[i].head);
            dataset_free(&d);
        }
    }
    char tar[512] = "name";
    memcpy(tar + 257, "ustar", 5);
    file_write(path, tar, sizeof tar);
    CHECK_DIES(EXIT_BAD_INPUT, "is a tar archive, expected JSONL (a JSON object a line): unpack it",
               records_print(path));
    file_write(path, "", 0);
    CHECK_DIES(EXIT_BAD_INPUT, "is empty, expected JSON", cJSON_Delete(json_read(path)));
    file_write(path, "PAR1\0", 5);
    CHECK_DIES(EXIT_BAD_INPUT, "in Python, pandas.read_parquet('/tmp", records_print(path));
}

// 1,024 pairs of HH-RLHF: how many there are of each kind, and that prompt and completions together
// are the texts of the file.
static void test_hh(void) {
    char *path = test_data("data/hh_harmless_pairs.jsonl"), *dir = test_data("gpt2_tokenizer");
    if (!path || !dir) {
        test_skip("no ALIGN_TEST_DATA: HH-RLHF pairs");
        free(path), free(dir);
        return;
    }
    Tokenizer t;
    tokenizer_load(&t, dir);
    DataOptions o = {.max_length = 1024}, shorter = {.max_length = 256};
    PairSet d, cut;
    LabelSet labels;
    int saved = stderr_mute();
    pairs_load(&d, &t, path, &o);
    pairs_load(&cut, &t, path, &shorter);
    labels_load(&labels, &t, path, &o);
    stderr_back(saved);
    const DataCounts *c = &d.counts;
    CHECK(c->records == 1024 && d.n == 1022 && c->skipped == 2 && c->identical == 0 &&
              c->truncated == 0 && c->boundary == 0 && c->special == 0,
          "%ld records, %d pairs, %ld skipped, %ld identical, %ld truncated, %ld boundary, "
          "%ld special",
          c->records, d.n, c->skipped, c->identical, c->truncated, c->boundary, c->special);
    CHECK(cut.n == 902 && cut.counts.truncated == 114, "%d pairs, %ld truncated", cut.n,
          cut.counts.truncated);
    CHECK(labels.n == 2 * d.n && labels.good == d.n, "%d labels, %d good", labels.n, labels.good);
    LineReader reader;
    Draft draft = {0};
    int at = 0, wrong = 0;
    lines_open(&reader, path);
    for (cJSON *record; (record = record_next(&reader)); cJSON_Delete(record)) {
        draft_preference(&draft, &reader, record, 2, CHAT_HH);
        if (draft.fault[0]) continue;
        for (int side = 1; side <= 2; side++) {
            Text text = {0};
            const size_t *start = d.start + 3 * (size_t)at;
            tokenizer_decode(&t, &text, d.tokens + start[0], start[1] - start[0], false);
            wrong += text.size < 12 || strcmp(text.data + text.size - 12, "\n\nAssistant:");
            tokenizer_decode(&t, &text, d.tokens + start[side], start[side + 1] - start[side] - 1,
                             false);
            wrong += strcmp(text.data,
                            record_string(&reader, record, side == 1 ? "chosen" : "rejected")) != 0;
            text_free(&text);
        }
        at++;
    }
    CHECK(at == d.n && !wrong, "%d of %d pairs, %d texts differ", at, d.n, wrong);
    lines_close(&reader), draft_free(&draft);
    pieces_free(&d), pieces_free(&cut), pieces_free(&labels), tokenizer_free(&t);
    free(path), free(dir);
}

int main(void) {
    char dir[] = "/tmp/test_dataset.XXXXXX";
    if (!mkdtemp(dir)) die(EXIT_IO, "cannot create %s", dir);
    char *jsonl = path_join(dir, "data.jsonl"), *txt = path_join(dir, "data.txt");
    Tokenizer t;
    tokenizer_load(&t, "test/golden/tiny_vocab");
    test_forms(&t, jsonl);
    test_truncation(&t, jsonl);
    test_plain(&t, txt);
    test_faults(&t, jsonl);
    test_bad_files(&t, jsonl);
    test_use(&t, jsonl);
    test_pair_forms(&t, jsonl);
    test_template(&t, jsonl);
    test_pair_truncation(&t, jsonl);
    test_pair_faults(&t, jsonl);
    test_pair_bad_files(&t, jsonl);
    test_pair_batches(&t, jsonl);
    test_pair_use(&t, jsonl);
    test_reward_pairs(&t, jsonl);
    test_golden(jsonl);
    test_arrays(jsonl);
    test_rows(&t, jsonl);
    test_impostors(&t, jsonl, txt);
    test_hh();
    test_input(); // in another directory
    tokenizer_free(&t);
    unlink(jsonl), unlink(txt), rmdir(dir);
    free(jsonl), free(txt);
    return test_end("dataset");
}
