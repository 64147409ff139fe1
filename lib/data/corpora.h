// corpora.h: data sets that are mixed by weight, as --dataset books.txt:0.7,imdb.txt:0.3 says. From top to bottom:
//
//   names     the value of the flag as a list of corpora
//   shares    how many rows of an epoch each gives
//   order     which rows, and when; what that comes to in a run
//
// A weight is a corpus's share of the rows (pairs, examples, prompts) that are trained on, as a part of the sum
// of weights. (Hugging Face's interleave_datasets calls it a probability and draws at random; here the shares
// are kept to within a row or two all the way.) An epoch has as many rows as the corpora have together. A
// corpus is gone through again and again, each time in a new order, and goes on in an epoch where it stopped
// in the one before: so none of its rows comes twice before all have come once. Which rows an epoch has is a
// function of seed and epoch, so that a run which goes on from a checkpoint needs no more than its step.
#ifndef CORPORA_H
#define CORPORA_H

#include "../base/common.h" // defines: die, rng_permutation
#include "../base/input.h"  // defines: path_exists

typedef struct {
    char *names;   // what file_list takes
    double weight; // as it was given; 1 where there is none
    int rows;      // of the training set, in which the corpora follow one another
    size_t tokens; // of these rows, for the report
    int quota;     // rows that it gives to an epoch
} Corpus;

// Any number with weights, or one without.
typedef struct {
    Corpus *items; // (n)
    int n;
    bool weighted;
} Corpora;

// ------------------------------------------------------------------------------------------------
// Names

// Where the colon before the weight is in "books.txt:0.7"; 0 if it has no weight, which a file that is called
// so has not. What comes after the colon may be no number if only what is before it is a file.
static size_t weight_colon(const char *name) {
    const char *colon = strrchr(name, ':');
    char *end;
    if (!colon || colon == name || path_exists(name)) return 0;
    strtod(colon + 1, &end);
    const bool number = end > colon + 1 && !*end;
    char *before = text_format("%.*s", (int)(colon - name), name);
    const bool file = path_exists(before);
    free(before);
    return number || file ? (size_t)(colon - name) : 0;
}

// Add one element of the list.
static void corpora_add(Corpora *c, const char *name, const char *flag) {
    const size_t colon = weight_colon(name);
    Corpus new = {.names = text_copy(name), .weight = 1};
    if (colon) {
        char *end;
        new.weight = strtod(name + colon + 1, &end);
        if (end == name + colon + 1 || *end || !(new.weight > 0 && new.weight <= 1e9))
            die(EXIT_USAGE, "--%s %s: a weight is a number above 0, at most 1e9", flag, name);
        new.names[colon] = 0;
    }
    if (c->n && !colon == c->weighted)
        die(EXIT_USAGE,
            "--%s: %s has no weight, but others have: give all of them one (%s:0.5), or none", flag,
            colon ? c->items[0].names : name, colon ? c->items[0].names : name);
    c->weighted = colon > 0;
    c->items = mem_resize(c->items, (size_t)c->n + 1, sizeof *c->items);
    c->items[c->n++] = new;
}

// Free the list.
static void corpora_free(Corpora *c) {
    for (int i = 0; i < c->n; i++) free(c->items[i].names);
    free(c->items);
    *c = (Corpora){0};
}

// The value of a flag as a list: "a.txt:2,b*.jsonl:1" are two corpora; without weights the whole is one, as
// file_list takes it. Dies (EXIT_USAGE) if a weight is not a number above 0, or some have none.
static Corpora corpora_parse(const char *value, const char *flag) {
    Corpora c = {0};
    const bool file = path_exists(value);
    bool empty = false;
    char *copy = text_copy(value), *rest = copy;
    for (char *name; !file && (name = strsep(&rest, ","));) {
        if (*name) corpora_add(&c, name, flag);
        else empty = true;
    }
    free(copy);
    if (c.weighted && empty)
        die(EXIT_USAGE, "--%s %s: a name between the commas is empty", flag, value);
    if (c.weighted) return c;
    corpora_free(&c);
    c.items = mem_alloc(1, sizeof *c.items);
    c.items[c.n++] = (Corpus){.names = text_copy(value), .weight = 1};
    return c;
}

// ------------------------------------------------------------------------------------------------
// Shares

// Once each corpus has its rows: the quotas of an epoch. They are rounded so that their sum is that of all rows,
// and each is within one of its share. Returns the sum. Dies (EXIT_USAGE) where a quota is 0.
static int corpora_share(Corpora *c) {
    double sum = 0, up_to = 0;
    int64_t rows = 0, given = 0;
    for (int i = 0; i < c->n; i++) {
        sum += c->items[i].weight;
        rows += c->items[i].rows;
    }
    for (int i = 0; i < c->n; i++) {
        Corpus *corpus = &c->items[i];
        up_to += corpus->weight;
        const int64_t until = i + 1 < c->n ? llround((double)rows * (up_to / sum)) : rows;
        corpus->quota = (int)(until - given);
        given = until;
        if (!corpus->quota && corpus->rows)
            die(EXIT_USAGE,
                "--dataset %s:%g: by its weight it gives no row to an epoch of %" PRId64,
                corpus->names, corpus->weight, rows);
    }
    return (int)rows;
}

// The first of them lose the rows that were drawn[0..) from the training set for evaluation.
static void corpora_draw(Corpora *c, const unsigned char *drawn) {
    for (int i = 0; i < c->n; i++) {
        const int n = c->items[i].rows;
        for (int k = 0; k < n; k++) c->items[i].rows -= drawn[k];
        if (n) c->items[i].tokens = (size_t)((double)c->items[i].tokens * c->items[i].rows / n);
        drawn += n;
    }
}

// ------------------------------------------------------------------------------------------------
// Order

// rows (quota) <- those that corpus number i gives to this epoch, counted from its first. `random`: each pass is
// a permutation by seed, corpus and pass, of the first corpus as if it were alone; else that of the data.
static void corpus_rows(int *rows, const Corpus *corpus, int i, int64_t epoch, uint64_t seed,
                        bool random) {
    const int64_t n = corpus->rows, first = epoch * corpus->quota;
    int *order = mem_alloc((size_t)n, sizeof *order);
    for (int64_t at = first; at < first + corpus->quota; at++) {
        const bool begins = at == first || at % n == 0;
        if (begins && random)
            rng_permutation(order, (int)n, seed ^ rng_mix((uint64_t)i), (uint64_t)(at / n));
        rows[at - first] = random ? order[at % n] : (int)(at % n);
    }
    free(order);
}

// order (the sum of quotas) <- the rows of an epoch. The next row is always that of the corpus which is the
// farthest behind its share: of those that have given g of q rows it has the smallest (g + 1/2) / q.
static void corpora_order(int *order, const Corpora *c, int64_t epoch, uint64_t seed, bool random) {
    int total = 0, first = 0; // first: row of the training set with which a corpus begins
    for (int i = 0; i < c->n; i++) total += c->items[i].quota;
    int *rows = mem_alloc((size_t)total, sizeof *rows), *next = rows;
    struct {
        const int *rows;
        int given, first;
    } *from = mem_alloc((size_t)c->n, sizeof *from);
    for (int i = 0; i < c->n; i++) {
        from[i].rows = next;
        from[i].first = first;
        corpus_rows(next, &c->items[i], i, epoch, seed, random);
        next += c->items[i].quota;
        first += c->items[i].rows;
    }
    for (int at = 0; at < total; at++) {
        int k = 0;
        double least = INFINITY;
        for (int i = 0; i < c->n; i++) {
            const double due = (from[i].given + 0.5) / c->items[i].quota;
            if (due < least && from[i].given < c->items[i].quota) {
                least = due;
                k = i;
            }
        }
        order[at] = from[k].first + from[k].rows[from[k].given++];
    }
    free(rows), free(from);
}

// Append what each corpus gives to a run that goes through so many rows; nothing where there are no weights.
static void corpora_report(Text *out, const Corpora *c, double rows) {
    double all = 0;
    for (int i = 0; i < c->n; i++) all += c->items[i].quota;
    for (int i = 0; i < c->n && c->weighted; i++) {
        const Corpus *corpus = &c->items[i];
        const double share = corpus->quota / all, passes = share * rows / corpus->rows;
        text_print(out, "%s: %.1f %% of the mixture, in this run %.0f of %.0f", corpus->names,
                   100 * share, share * rows, rows);
        text_print(out, ", about %.0f tokens, %.3g passes\n", passes * (double)corpus->tokens,
                   passes);
    }
}

#endif
