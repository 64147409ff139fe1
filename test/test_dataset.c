// test_dataset.c: every form of data with its mask, truncation, counts, and what each kind of bad
// file is told.
#include "test.h"

#include "../dataset.h"

static void file_write(const char *path, const char *data, size_t n) {
    FILE *file = fopen(path, "wb");
    if (!file || fwrite(data, 1, n, file) != n || fclose(file))
        die(EXIT_IO, "%s: cannot write", path);
}

// Rows as text: what counts in the loss stands in [brackets], <|endoftext|> is $, and a / ends each
// row.
static Text rows_print(const Dataset *d, const Tokenizer *t) {
    Text out = {0};
    for (int r = 0; r < d->n; r++) {
        for (size_t i = d->start[r]; i < d->start[r + 1]; i++) {
            bool before = i > d->start[r] && d->mask[i - 1], after = i + 1 < d->start[r + 1];
            if (d->mask[i] && !before) text_append(&out, "[", 1);
            if (d->tokens[i] == t->eos_id) text_append(&out, "$", 1);
            else tokenizer_decode(t, &out, &d->tokens[i], 1, false);
            if (d->mask[i] && !(after && d->mask[i + 1])) text_append(&out, "]", 1);
        }
        text_append(&out, "/", 1);
    }
    return out;
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
    int saved = dup(STDERR_FILENO); // the three warnings are not for the log of the tests
    if (!freopen("/dev/null", "w", stderr)) die(EXIT_IO, "cannot open /dev/null");
    dataset_load(&d, t, path, &o);
    fflush(stderr);
    dup2(saved, STDERR_FILENO);
    close(saved);
    CHECK(d.records == 11 && d.skipped == 7 && d.n == 4 && d.truncated == 1 && d.boundary == 1 &&
              d.special == 1,
          "%ld records, %ld skipped, %d rows, %ld truncated, %ld boundary, %ld special", d.records,
          d.skipped, d.n, d.truncated, d.boundary, d.special);
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
        {"{\"text\": \"a\"}\n{\"text\": \"a\xFF\"}", 0, ":2:12: invalid UTF-8 byte 0xFF"},
        {"[{\"text\": \"a\"}]", 0, ":1: looks like a JSON array, one object per line expected"},
        {"{\n  \"text\": \"a\"\n}\n", 0, ":1: looks like pretty-printed JSON"},
        {"\x1F\x8B\x08\x00", 4, "is gzip-compressed"},
        {"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n", 0,
         "is a Git LFS pointer, the data was not downloaded"},
        {"\xFF\xFE{\0", 4, "is UTF-16, expected UTF-8"},
        {"\xFE\xFF\0{", 4, "is UTF-16, expected UTF-8"},
        {"PAR1\x15\x04", 6, "is a Parquet file"},
        {"{\"text\": \"a\"}\n\n{\"text\": \"a\",}\n", 0, ":3:"},
        {"{\"text\": \"a\"} x\n", 0, ":1:15: JSON error"},
        {"{\"text\": \"a\", \"text\": \"b\"}\n", 0, ":1:15: duplicate key \"text\""},
        {"{\"text\": \"\\u0000\"}\n", 0, ":1:11: \\u0000 inside"},
        {"{\"text\": \"\\ud800\"}\n", 0, ":1:"},
        {"{\"text\": \"a\0b\"}\n", 16, ":1:12: contains a NUL byte"},
        {"7\n", 0, ":1: expected a JSON object"},
        {"{}\n", 0,
         ":1: missing \"text\", \"messages\", or \"prompt\" and \"completion\" (keys: none)"},
        {"{\"chosen\": \"a\", \"rejected\": \"b\"}\n", 0, "(keys: chosen, rejected)"},
        {"{\"prompt\": \"a\", \"label\": true}\n", 0,
         ":1: missing \"completion\" (keys: prompt, label)"},
        {"{\"completion\": \"a\"}\n", 0, ":1: missing \"prompt\" (keys: completion)"},
        {"{\"text\": 7}\n", 0, ":1: \"text\" is a number, expected a string"},
        {"{\"text\": null}\n", 0, ":1: \"text\" is null, expected a string"},
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
        {"{\"messages\": [{\"role\": \"assistant\", \"content\": \"a\"}, {\"role\": \"assistant\", "
         "\"content\": \"b\"}]}\n",
         0, ":1: messages[1]: two assistant messages in a row"},
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
        const int *row = d.tokens + d.start[i];
        size_t n = (d.start[i + 1] - d.start[i]) * sizeof(int);
        if (a < train[0].n && !memcmp(row, train[0].tokens + train[0].start[a], n)) a++;
        else if (b < eval[0].n && !memcmp(row, eval[0].tokens + eval[0].start[b], n)) b++;
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
            tokenizer_decode(t, &prompt, part.tokens + part.start[i], 8 < d.start[1] ? 8 : 4, true);
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
    for (int first = 0; first < 200; first += 8) {
        dataset_batch(&batch, &d, order + first, 8);
        bool same = batch.R == 8;
        for (int r = 0; r < 8 && same; r++) {
            size_t at = d.start[order[first + r]], n = d.start[order[first + r] + 1] - at;
            int begin = batch.row_start[r];
            same = batch.row_start[r + 1] - begin == (int)n &&
                   !memcmp(batch.tokens + begin, d.tokens + at, n * sizeof(int)) &&
                   !memcmp(batch.mask + begin, d.mask + at, n) && !batch.mask[begin];
        }
        CHECK(same, "batch of rows %d to %d", first, first + 7);
    }
    batch_free(&batch);
    free(order), free(next);
    dataset_free(&d), dataset_free(&again), dataset_free(&other);
    for (int k = 0; k < 2; k++) dataset_free(&train[k]), dataset_free(&eval[k]);
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
    tokenizer_free(&t);
    unlink(jsonl), unlink(txt), rmdir(dir);
    free(jsonl), free(txt);
    return test_end("dataset");
}
