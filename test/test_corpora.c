// test_corpora.c: plain texts in pieces, files of kept tokens and all that can be wrong with them, corpora
// that are mixed by weight.
#define CHECKPOINT_FAULTS
#define PLAIN_PIECE 64 // so that short texts have many pieces
#include "test.h"

#include "../lib/data/corpora.h"
#include "../lib/data/dataset.h"

// The call of this name and number fails with `error`.
static struct {
    const char *call;
    int at, error, count;
} fault;

static int disk_fault(const char *call) {
    if (!fault.call || strcmp(call, fault.call) || ++fault.count != fault.at) return 0;
    return fault.error;
}

static char *root; // where the test writes

static void write_file(const char *path, const void *bytes, size_t n) {
    FILE *file = fopen(path, "wb");
    if (!file || fwrite(bytes, 1, n, file) != n || fclose(file)) die(EXIT_IO, "%s: write", path);
}

// Send a stream to nowhere, for what is not for the log of the tests, and back again.
static int mute(int fd) {
    fflush(NULL);
    const int saved = dup(fd), nowhere = open("/dev/null", O_WRONLY);
    if (saved < 0 || nowhere < 0 || dup2(nowhere, fd) < 0) die(EXIT_IO, "cannot mute");
    close(nowhere);
    return saved;
}

static void unmute(int fd, int saved) {
    fflush(NULL);
    dup2(saved, fd);
    close(saved);
}

// ------------------------------------------------------------------------------------------------
// Pieces

// Append a random text of n parts, most of them such as cuts and tokens could go wrong with.
static void text_random(Text *out, Rng *rng, int n) {
    static const char *const parts[] = {" ",
                                        " ",
                                        " ",
                                        "  ",
                                        "\n",
                                        "\n\n",
                                        "\t",
                                        "\r\n",
                                        "\xC2\xA0",
                                        "\xE2\x80\xA8",
                                        "\xE3\x80\x80",
                                        "a",
                                        "the",
                                        "The",
                                        "don't",
                                        "'ll",
                                        "'",
                                        "1",
                                        "23",
                                        "4567",
                                        "\xE4\xB8\xAD",
                                        "\xE6\x96\x87\xE3\x80\x82",
                                        "\xC3\xA9",
                                        "e\xCC\x81",
                                        "\xF0\x9F\x98\x80",
                                        ".",
                                        "...",
                                        ",",
                                        "-",
                                        "<|endoftext|>",
                                        "<|x|>",
                                        "<|y|>",
                                        "qqqqqqqqqqqq",
                                        "film",
                                        "reviewing",
                                        "_",
                                        "<|",
                                        "|>"};
    for (int i = 0; i < n; i++) {
        const char *part = parts[rng_below(rng, COUNT(parts))];
        text_append(out, part, strlen(part));
    }
}

// Text that is read in pieces has the ids of the whole, whatever the tokenizer. dir: its directory.
static void test_pieces(const char *dir, int threads) {
    enum { KINDS = 9 };
    char *path = path_join(root, "pieces.txt");
    Rng rng = rng_make(1, (uint64_t)threads);
    omp_set_num_threads(threads);
    for (int kind = 0; kind < KINDS; kind++) {
        Tokenizer t;
        tokenizer_load(&t, dir);
        AddedToken x = {.name = "<|x|>", .special = true},
                   y = {.name = "<|y|>", .normalized = true};
        if (kind == 1) x.lstrip = y.lstrip = true;
        if (kind == 2) x.rstrip = true;
        if (kind == 3) x.single_word = y.single_word = true;
        if (kind == 4) x.name = "the film", y.name = "\n\n";
        if (kind == 5) t.cuts[t.n_cuts++] = CUT_DIGITS;
        if (kind == 6) t.cuts[t.n_cuts++] = CUT_DIGIT_RUNS;
        if (kind == 7) t.prefix_space = true;
        if (kind == 8) t.whole = true;
        if (kind) tokenizer_add(&t, &x), tokenizer_add(&t, &y);
        const bool local = kind != 2 && kind != 4 && kind != 7 && kind != 8;
        CHECK(tokenizer_is_local(&t) == local, "kind %d of tokenizer: local", kind);
        int wrong = 0, blank = 0;
        for (int i = 0; i < 60; i++) {
            Text text = {0};
            TokenList want = {0};
            TokenStore *got = store_new(t.vocab_size);
            text_random(&text, &rng, (int)rng_below(&rng, 400) + 1);
            write_file(path, text.data, text.size);
            tokenizer_encode(&t, &want, text.data, text.size, true);
            blank += plain_encode(got, &t, path) != text_is_blank(text.data, text.size);
            bool same = got->n == want.n;
            for (size_t k = 0; k < want.n && same; k++) same = store_id(got, k) == want.data[k];
            wrong += !same;
            text_free(&text), tokens_free(&want), store_free(got);
        }
        CHECK(!wrong && !blank, "kind %d, %d threads: %d texts have other ids", kind, threads,
              wrong);
        tokenizer_free(&t);
    }
    free(path);
}

// What is not UTF-8 is found in any piece, with line and column.
static void test_reader(const Tokenizer *t) {
    char *path = path_join(root, "bad.txt");
    Text text = {0};
    DataOptions o = {.max_length = 16};
    Dataset d;
    for (int i = 0; i < 40000; i++) text_print(&text, "line %d\n", i);
    text_append(&text, "ab\xE4\xB8\xAD", 5);
    for (size_t n = text.size; n + 3 > text.size;
         n--) { // whole, and cut in the middle of a character
        write_file(path, text.data, n);
        if (n == text.size) dataset_load(&d, t, path, &o);
        else
            CHECK_DIES(EXIT_BAD_INPUT, "bad.txt:40001:3: invalid UTF-8 byte 0xE4",
                       dataset_load(&d, t, path, &o));
    }
    dataset_free(&d);
    text.data[text.size - 9] = 0; // in the line before
    write_file(path, text.data, text.size);
    CHECK_DIES(EXIT_BAD_INPUT, "bad.txt:40000:", dataset_load(&d, t, path, &o));
    CHECK_DIES(EXIT_BAD_INPUT, "NUL byte 0x00", dataset_load(&d, t, path, &o));
    text_free(&text);
    free(path);
}

// ------------------------------------------------------------------------------------------------
// Kept tokens

typedef struct {
    const Tokenizer *t;
    char *text, *dir, *file; // the text, the folder, the file in it
    DataOptions o;
    uint64_t hash; // of the rows
} Kept;

// The only file in the folder, or NULL. Sets the number of files that are no remains of a write.
static char *kept_file(const Kept *k, int *n) {
    char *found = NULL;
    DIR *dir = opendir(k->dir);
    *n = 0;
    for (struct dirent *e; dir && (e = readdir(dir));) {
        if (*e->d_name == '.') continue;
        free(found);
        found = path_join(k->dir, e->d_name);
        ++*n;
    }
    if (dir) closedir(dir);
    return found;
}

// Load the text and keep its tokens: true if they were kept before. All must be as without a file.
static bool kept_load(Kept *k, const char *what) {
    Dataset d;
    dataset_load(&d, k->t, k->text, &k->o);
    const bool before = d.stores[0]->map;
    CHECK(dataset_hash(&d) == k->hash, "%s: other rows", what);
    dataset_keep(&d);
    CHECK(dataset_hash(&d) == k->hash, "%s: other rows once they are kept", what);
    CHECK(d.counts.special == 2, "%s: %ld", what, d.counts.special);
    dataset_free(&d);
    return before;
}

// Such a file is not taken: a warning, the same rows, and it is made again.
static void kept_damaged(Kept *k, const void *bytes, size_t n, const char *what) {
    int files;
    write_file(k->file, bytes, n);
    CHECK_DIES(0, ".tokens: is damaged, or of another kind of machine: it is made again", {
        Dataset d;
        dataset_load(&d, k->t, k->text, &k->o);
    });
    const int saved = mute(STDERR_FILENO);
    const bool taken = kept_load(k, what);
    unmute(STDERR_FILENO, saved);
    CHECK(!taken, "%s: it was taken", what);
    CHECK(kept_load(k, what), "%s: it was not made again", what);
    free(kept_file(k, &files));
    CHECK(files == 1, "%s: %d files", what, files);
}

static void test_kept(const Tokenizer *t) {
    Kept k = {.t = t,
              .text = path_join(root, "kept.txt"),
              .dir = path_join(root, "kept"),
              .o = {.max_length = 20, .token_least = 0}};
    const char *words =
        "The film was <|endoftext|>good. It was not bad.<|endoftext|>\nThe end, at last. ";
    int files;
    Dataset d;
    write_file(k.text, words, strlen(words));
    dataset_load(&d, t, k.text, &k.o);
    k.hash = dataset_hash(&d);
    dataset_free(&d);
    free(kept_file(&k, &files));
    CHECK(files == 0, "nothing is kept where no folder is given");

    k.o.token_dir = k.dir;
    const int out = mute(STDOUT_FILENO);
    CHECK(!kept_load(&k, "the first time"), "there is nothing at first");
    k.file = kept_file(&k, &files);
    CHECK(files == 1 && text_has_suffix(k.file, ".tokens"), "%d files", files);
    CHECK(kept_load(&k, "the second time"), "the second time it is there");
    k.o.max_length = 7; // which is not in the key
    k.o.token_dir = NULL;
    dataset_load(&d, t, k.text, &k.o);
    const uint64_t other = dataset_hash(&d);
    dataset_free(&d);
    k.o.token_dir = k.dir;
    dataset_load(&d, t, k.text, &k.o);
    CHECK(d.stores[0]->map && dataset_hash(&d) == other, "rows of another length, the same file");
    dataset_free(&d);
    k.o.max_length = 20;
    k.o.token_least = (int64_t)strlen(words) + 1;
    CHECK(!kept_load(&k, "a short text"), "a text that is too short is not looked up");
    k.o.token_least = 0;

    // Each byte counts, and so does where the file ends.
    size_t n;
    char *good = file_read(k.file, &n), *bad = mem_alloc(n + 1, 1);
    for (size_t i = 0; i < n; i += i < sizeof(StoreHeader) || n - i < 8 ? 1 : 7) {
        char *what = text_format("byte %zu of %zu", i, n);
        memcpy(bad, good, n);
        bad[i] ^= (char)(1 << i % 8);
        kept_damaged(&k, bad, n, what);
        free(what);
    }
    const size_t ends[] = {
        0, 1, sizeof(StoreHeader) - 1, sizeof(StoreHeader), sizeof(StoreHeader) + 1, n - 1};
    for (int i = 0; i < COUNT(ends); i++) kept_damaged(&k, good, ends[i], "cut short");
    memcpy(bad, good, n);
    kept_damaged(&k, bad, n + 1, "too long");
    StoreHeader header;
    memcpy(&header, good, sizeof header);
    header.n = SIZE_MAX / 2 + 1; // times 2 it is 0
    header.own = store_header_hash(&header);
    memcpy(bad, &header, sizeof header);
    kept_damaged(&k, bad, sizeof header, "more tokens than bytes");
    memcpy(&header, good, sizeof header);
    header.key++;
    header.own = store_header_hash(&header);
    memcpy(bad, &header, sizeof header);
    memcpy(bad + sizeof header, good + sizeof header, n - sizeof header);
    kept_damaged(&k, bad, n, "that of another text");
    memcpy(&header, good, sizeof header);
    header.width = 4;
    header.own = store_header_hash(&header);
    memcpy(bad, &header, sizeof header);
    kept_damaged(&k, bad, n, "another width");
    for (size_t i = 0; i < sizeof header / 8; i++) // another order of bytes
        for (int b = 0; b < 8; b++) bad[8 * i + (size_t)b] = good[8 * i + 7 - (size_t)b];
    kept_damaged(&k, bad, n, "another machine");
    free(good), free(bad);

    // Texts of the same name and size.
    char *changed = text_copy(words);
    changed[4] = 'p';
    const uint64_t hash = k.hash;
    write_file(k.text, changed, strlen(changed));
    k.o.token_dir = NULL;
    dataset_load(&d, t, k.text, &k.o);
    k.hash = dataset_hash(&d);
    dataset_free(&d);
    k.o.token_dir = k.dir;
    CHECK(!kept_load(&k, "another text"), "a text that was changed is another");
    free(kept_file(&k, &files));
    CHECK(files == 2, "%d files of two texts", files);
    write_file(k.text, words, strlen(words));
    k.hash = hash;
    CHECK(kept_load(&k, "the first text again"), "both are kept");

    // A text that changes between reading and keeping.
    disk_remove(k.dir);
    dataset_load(&d, t, k.text, &k.o);
    write_file(k.text, changed, strlen(changed));
    CHECK_DIES(0, "was changed while it was read: its tokens are not kept", dataset_keep(&d));
    free(kept_file(&k, &files));
    CHECK(files == 0, "it was kept all the same");
    dataset_free(&d);
    write_file(k.text, words, strlen(words));
    free(changed);

    // A disk that fails at any call: a warning, the same rows, nothing left; the next run does it again.
    static const char *const calls[] = {"mkdir", "open", "write", "fsync", "close", "rename"};
    for (int c = 0; c < COUNT(calls); c++)
        for (int at = 1; at <= 6; at++) {
            char *what = text_format("%s number %d fails", calls[c], at);
            disk_remove(k.dir);
            fault.call = calls[c], fault.at = at, fault.count = 0;
            fault.error = at % 2 ? ENOSPC : EROFS;
            const int saved = mute(STDERR_FILENO);
            const bool had = kept_load(&k, what);
            const bool hit = fault.count >= at;
            fault.call = NULL;
            unmute(STDERR_FILENO, saved);
            CHECK(!had, "%s: there is nothing to take", what);
            kept_load(&k, what);
            CHECK(kept_load(&k, what), "%s: the next run keeps it", what);
            free(what);
            if (!hit) break;
        }
    disk_remove(k.dir);
    fault.call = "write", fault.at = 1, fault.count = 0, fault.error = ENOSPC;
    CHECK_DIES(0, "cannot keep the tokens of", kept_load(&k, "a full disk"));
    fault.call = NULL;
    disk_remove(k.dir);
    write_file(k.dir, "", 0); // a file where the folder should be
    CHECK_DIES(0, "cannot keep the tokens of", kept_load(&k, "no folder"));
    disk_remove(k.dir);

    // Reading that fails: what is kept is not taken, and the text itself cannot be read without a word.
    kept_load(&k, "once more");
    fault.call = "read", fault.at = 4, fault.count = 0, fault.error = EIO; // before: the text
    CHECK_DIES(0, "is damaged", kept_load(&k, "a disk that fails"));
    fault.call = NULL;

    // Many at once.
    for (int round = 0; round < 10; round++) {
        disk_remove(k.dir);
        pid_t children[6];
        for (int i = 0; i < COUNT(children); i++)
            if (!(children[i] = fork())) {
                test_counts.failed = 0;
                mute(STDERR_FILENO); // warnings that the folder is gone
                for (int times = 0; times < 5; times++) {
                    kept_load(&k, "many at once");
                    if (i == 0 && times == 2) disk_remove(k.dir);
                }
                _exit(test_counts.failed > 0);
            }
        for (int i = 0; i < COUNT(children); i++) {
            const int status = test_wait(children[i]);
            CHECK(WIFEXITED(status) && !WEXITSTATUS(status), "one of many ended with status %d",
                  status);
        }
    }

    // A file that is cut while it is mapped.
    kept_load(&k, "before it is cut");
    free(k.file);
    k.file = kept_file(&k, &files);
    CHECK_DIES(EXIT_IO, "a file of kept tokens (--token_cache_dir) can no longer be read", {
        dataset_load(&d, t, k.text, &k.o);
        if (truncate(k.file, 0)) _exit(99);
        dataset_hash(&d);
    });
    disk_remove(k.dir);

    // The 16 that were used last are kept.
    for (int i = 0; i < 20; i++) {
        char *text = text_format("The film was good, number %d.", i);
        write_file(k.text, text, strlen(text));
        dataset_load(&d, t, k.text, &k.o);
        dataset_keep(&d);
        CHECK(d.stores[0]->map, "number %d", i);
        dataset_free(&d);
        free(text);
    }
    free(kept_file(&k, &files));
    CHECK(files == STORE_KEPT, "%d files are kept", files);
    unmute(STDOUT_FILENO, out);
    free(k.text), free(k.dir), free(k.file);
}

// A vocabulary of more than 65,536 tokens has ids of 4 bytes.
static void test_width(void) {
    Tokenizer t;
    tokenizer_load(&t, "data");
    char *path = path_join(root, "wide.txt"), *dir = path_join(root, "wide");
    DataOptions o = {.max_length = 8, .token_dir = dir};
    for (int wide = 0; wide < 2; wide++) {
        t.vocab_size = 65536 + wide; // as if that many had been added
        t.eos_id = t.vocab_size - 1;
        write_file(path, "The film was good.", 18);
        const int out = mute(STDOUT_FILENO);
        for (int times = 0; times < 2; times++) {
            Dataset d;
            dataset_load(&d, &t, path, &o);
            dataset_keep(&d);
            const TokenStore *s = d.stores[0];
            CHECK(s->width == (wide ? 4 : 2) && store_id(s, s->n - 1) == 65535 + wide,
                  "ids of %zu bytes", s->width);
            dataset_free(&d);
        }
        unmute(STDOUT_FILENO, out);
    }
    tokenizer_free(&t);
    free(path), free(dir);
}

// All that decides the ids is in the tokenizer's hash.
static void test_tokenizer_hash(void) {
    enum { CHANGES = 22 };
    uint64_t hashes[CHANGES];
    for (int i = 0; i < CHANGES; i++) {
        Tokenizer t;
        tokenizer_load(&t, "data");
        AddedToken x = {.name = "<|x|>"};
        NormalStep step = {.kind = NORMAL_LOWERCASE};
        if (i == 1) t.eos_id--;
        if (i == 2) t.split_special = !t.split_special;
        if (i == 3) t.prefix_space = !t.prefix_space;
        if (i == 4) t.whole = !t.whole;
        if (i == 5) t.ignore_merges = !t.ignore_merges;
        if (i == 6) t.unk_piece = 3;
        if (i == 7) t.fuse_unk = !t.fuse_unk;
        if (i == 8) t.cuts[t.n_cuts++] = CUT_DIGITS;
        if (i == 9) t.cuts[t.n_cuts++] = CUT_WORDS;
        if (i == 10) tokens_append(&t.before, 5);
        if (i == 11) t.byte_id['a'] = -1;
        if (i == 12) t.merges[0].rank++;
        if (i == 13) t.vocab->child->valuedouble++;
        if (i == 14) x.lstrip = true;
        if (i == 15) x.rstrip = true;
        if (i == 16) x.special = true;
        if (i == 17) x.normalized = true;
        if (i == 18) x.single_word = true;
        if (i >= 14 && i <= 19) tokenizer_add(&t, &x);
        if (i == 21) step.kind = NORMAL_NFC;
        t.normalizer = i >= 20 ? (Normalizer){&step, 1} : (Normalizer){0};
        hashes[i] = store_tokenizer_hash(&t);
        t.normalizer = (Normalizer){0};
        tokenizer_free(&t);
        for (int k = 0; k < i; k++)
            CHECK(hashes[i] != hashes[k], "changes %d and %d have one hash", i, k);
    }
}

// ------------------------------------------------------------------------------------------------
// Corpora

// Corpora with these numbers of rows and these weights, with their quotas.
static Corpora corpora_make(int n, const int *rows, const double *weights) {
    Corpora c = {.n = n, .weighted = true, .items = mem_alloc((size_t)n, sizeof(Corpus))};
    for (int i = 0; i < n; i++)
        c.items[i] =
            (Corpus){.names = text_format("c%d", i), .rows = rows[i], .weight = weights[i]};
    corpora_share(&c);
    return c;
}

static void test_names(void) {
    char *colon = path_join(root, "a:0.5"), *plain = path_join(root, "b.txt"), *both;
    write_file(colon, "x", 1);
    write_file(plain, "x", 1);
    const struct {
        char *value;
        int n;
        double weights[2];
        const char *first; // name; NULL: the value
    } cases[] = {
        {text_copy(plain), 1, {1}, NULL},
        {text_copy("a.jsonl,b.jsonl"), 1, {1}, NULL},
        {text_copy("a.jsonl,,b.jsonl"), 1, {1}, NULL}, // file_list complains
        {text_copy(colon), 1, {1}, NULL},
        {text_format("%s:0.25", colon), 1, {0.25}, colon},
        {text_format("%s:3", plain), 1, {3}, plain},
        {text_format("%s:0.7,*.jsonl:0.3", plain), 2, {0.7, 0.3}, plain},
        {text_format("%s:1e-3,%s:7", colon, plain), 2, {1e-3, 7}, colon},
        {text_copy("nothing:there.txt"), 1, {1}, NULL},
    };
    for (int i = 0; i < COUNT(cases); i++) {
        Corpora c = corpora_parse(cases[i].value, "dataset");
        bool right = c.n == cases[i].n;
        for (int k = 0; k < c.n && right; k++) right = c.items[k].weight == cases[i].weights[k];
        const char *first = cases[i].first ? cases[i].first : cases[i].value;
        CHECK(right && !strcmp(c.items[0].names, first), "%s", cases[i].value);
        CHECK(c.weighted == (cases[i].first != NULL), "%s: weighted", cases[i].value);
        corpora_free(&c);
        free(cases[i].value);
    }
    static const char *const bad[] = {"0", "-1", "nan", "inf", "1e10", "", "x", "0.5x", "0x"};
    for (int i = 0; i < COUNT(bad); i++) {
        char *value = text_format("%s:%s", plain, bad[i]);
        CHECK_DIES(EXIT_USAGE, "a weight is a number above 0, at most 1e9",
                   corpora_parse(value, "dataset"));
        free(value);
    }
    both = text_format("%s:1,%s", plain, colon);
    CHECK_DIES(EXIT_USAGE, "a:0.5 has no weight, but others have: give all of them one",
               corpora_parse(both, "d"));
    free(both);
    both = text_format("%s,%s:1", plain, plain);
    CHECK_DIES(EXIT_USAGE, "b.txt has no weight, but others have", corpora_parse(both, "d"));
    free(both);
    both = text_format("%s:1,,%s:1", plain, plain);
    CHECK_DIES(EXIT_USAGE, "a name between the commas is empty", corpora_parse(both, "d"));
    free(both);
    CHECK_DIES(EXIT_USAGE, "c1:1e-06: by its weight it gives no row to an epoch of 20",
               corpora_make(2, (int[]){10, 10}, (double[]){1, 1e-6}));
    free(colon), free(plain);
}

// Shares, how far they are kept all the way, and that no row comes twice before all have come.
static void test_shares(void) {
    Rng rng = rng_make(3, 0);
    double farthest[5] = {0}; // by the number of corpora
    for (int round = 0; round < 60; round++) {
        enum { EPOCHS = 7 };
        const int n = 1 + round % 4;
        int rows[4], all = 0;
        double weights[4], sum = 0;
        for (int i = 0; i < n; i++) {
            rows[i] = 20 + (int)rng_below(&rng, 300);
            weights[i] = 0.1 + rng_uniform(&rng);
            all += rows[i];
            sum += weights[i];
        }
        Corpora c = corpora_make(n, rows, weights);
        int quotas = 0, first = 0, wrong = 0;
        for (int i = 0; i < n; i++) {
            quotas += c.items[i].quota;
            CHECK(fabs(c.items[i].quota - all * weights[i] / sum) <= 1, "a quota is not the share");
        }
        CHECK(quotas == all, "an epoch of %d rows, not %d", quotas, all);
        int *order = mem_alloc((size_t)all * EPOCHS, sizeof *order),
            *again = mem_alloc((size_t)all, sizeof *again);
        for (int e = 0; e < EPOCHS; e++) corpora_order(order + e * all, &c, e, 9, true);
        corpora_order(again, &c, 4, 9, true);
        CHECK(!memcmp(again, order + 4 * all, (size_t)all * sizeof *again),
              "an epoch is a function of its number");
        corpora_order(again, &c, 4, 10, true);
        CHECK(memcmp(again, order + 4 * all, (size_t)all * sizeof *again), "and of the seed");
        for (int i = 0; i < n; i++) {
            const int end = first + rows[i];
            int *count = mem_alloc((size_t)rows[i], sizeof *count), given = 0;
            for (int at = 0; at < EPOCHS * all; at++) {
                const double due = (double)(at % all) * c.items[i].quota / all;
                const double off = fabs(given - at / all * c.items[i].quota - due);
                if (off > farthest[n]) farthest[n] = off;
                if (order[at] < first || order[at] >= end) continue;
                wrong += count[order[at] - first]++ !=
                         given / rows[i]; // as often as the corpus was gone through
                given++;
            }
            wrong += given != EPOCHS * c.items[i].quota;
            free(count);
            first = end;
        }
        CHECK(!wrong, "%d rows come too early or too late", wrong);

        // In the order of the data a corpus comes from its first row to its last, again and again.
        int next[4] = {0};
        for (int e = 0; e < 3; e++) {
            corpora_order(again, &c, e, 9, false);
            for (int at = 0; at < all; at++) {
                int i = 0, begin = 0;
                while (again[at] >= begin + rows[i]) begin += rows[i++];
                wrong += again[at] - begin != next[i]++ % rows[i];
            }
        }
        CHECK(!wrong, "%d rows are not in the order of the data", wrong);
        if (n == 1) { // as without a weight
            rng_permutation(again, all, 9, 3);
            CHECK(!memcmp(again, order + 3 * all, (size_t)all * sizeof *again), "one corpus alone");
        }
        free(order), free(again);
        corpora_free(&c);
    }
    printf("farthest from their shares: %.2f rows of 2 corpora, %.2f of 3, %.2f of 4\n",
           farthest[2], farthest[3], farthest[4]);
    CHECK(farthest[1] == 0 && farthest[2] <= 1 && farthest[3] <= 2 && farthest[4] <= 2,
          "shares are kept all the way");

    Corpora c = corpora_make(2, (int[]){10, 10}, (double[]){3, 1});
    unsigned char drawn[20] = {[2] = 1, [3] = 1, [10] = 1};
    corpora_draw(&c, drawn);
    CHECK(c.items[0].rows == 8 && c.items[1].rows == 9, "rows for evaluation are not trained on");
    corpora_share(&c);
    CHECK(c.items[0].quota == 13 && c.items[1].quota == 4, "%d and %d", c.items[0].quota,
          c.items[1].quota);
    corpora_free(&c);
}

int main(void) {
    char name[] = "/tmp/align-corpora-XXXXXX";
    root = mkdtemp(name);
    if (!root) die(EXIT_IO, "mkdtemp: %s", strerror(errno));
    Tokenizer t;
    tokenizer_load(&t, "data");
    omp_set_num_threads(1);
    test_names();
    test_shares();
    test_reader(&t);
    test_kept(&t);
    test_width();
    test_tokenizer_hash();
    char *gpt2 = test_data("gpt2_tokenizer"); // has tokens of several blanks
    if (!gpt2) test_skip("no gpt2_tokenizer in $ALIGN_TEST_DATA");
    for (int threads = 1; threads <= 3; threads += 2) { // no child comes after this
        test_pieces("data", threads);
        if (gpt2) test_pieces(gpt2, threads);
    }
    free(gpt2);
    tokenizer_free(&t);
    disk_remove(root);
    return test_end("corpora");
}
