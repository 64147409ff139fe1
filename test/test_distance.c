// Tests of distance.h: total variation of samples, and what is seen in completions.
#include "../lib/base/common.h"
#include "../lib/run/distance.h"
#include "test.h"

// A sample of these observations.
static Sample sample_of(const uint64_t *keys, int n) {
    Sample s = {0};
    for (int i = 0; i < n; i++) sample_add(&s, keys[i]);
    return s;
}

static double variation(const uint64_t *a, int n, const uint64_t *b, int m) {
    Sample x = sample_of(a, n), y = sample_of(b, m);
    const double there = total_variation(&x, &y), back = total_variation(&y, &x);
    CHECK(there == back, "it is symmetric: %g, %g", there, back);
    free(x.keys), free(y.keys);
    return there;
}

static void test_total_variation(void) {
    const uint64_t a[] = {7, 1, 7, UINT64_MAX}, same[] = {1, UINT64_MAX, 7, 7, 7, 1, 7, UINT64_MAX};
    const uint64_t b[] = {2, 3}, c[] = {1, 1, 7, 9, 0};
    CHECK(variation(a, 4, a, 4) == 0, "a sample and itself");
    CHECK(variation(a, 4, same, 8) == 0, "the same shares");
    CHECK_NEAR(variation(a, 4, b, 2), 1, 1e-15, 0, "nothing in common");
    // shares 1: 1/4 2/5, 7: 1/2 1/5, max: 1/4 0, 9: 0 1/5, 0: 0 1/5
    CHECK_NEAR(variation(a, 4, c, 5), 0.55, 1e-12, 0, "by hand");
    CHECK(variation(a, 0, b, 0) == 0, "two empty samples");
}

static void test_spread(void) {
    for (int i = 0; i < 7; i++) CHECK(spread(i, 7, 7) == i, "all of them");
    CHECK(spread(0, 3, 10) == 0 && spread(1, 3, 10) == 3 && spread(2, 3, 10) == 6, "3 of 10");
    CHECK(spread(999999999, 1000000000, INT_MAX) < INT_MAX, "no overflow");
}

// Two examples of one prompt and two completions each.
static void test_observe(void) {
    const int tokens[] = {5, 6, 1, 2, 1, 2, 1, 9, 6, 8, 1, 2};
    const size_t begins[2][3] = {{0, 2, 4}, {8, 9, 10}}, ends[2][3] = {{2, 4, 8}, {9, 10, 12}};
    PieceSet set = {.pieces = 3, .max_length = 8};
    for (int i = 0; i < 2; i++) pieces_add(&set, tokens, begins[i], ends[i], 1);
    Observed first, second;
    observe(&first, &set, 1, 2, NULL, NULL);
    observe(&second, &set, 2, 2, NULL, NULL);
    // first: 6 1, 1 2; 6 8. second: 6 1, 1 2, 2 1, 1 9; 6 1, 1 2
    CHECK(first.bigrams.n == 3 && second.bigrams.n == 6, "bigrams begin with the prompt's last");
    CHECK(first.bigrams.keys[0] == ((uint64_t)6 << 32 | 1), "and its first is that");
    const Distance d = observed_distance(&second, &first);
    CHECK_NEAR(d.length, 3, 1e-15, 0, "mean length");
    CHECK_NEAR(d.bigram, 1.0 / 3, 1e-12, 0, "shares 1/3 1/3, 1/3 1/3, 0 1/6, 0 1/6, 1/3 0");
    CHECK(d.gold == 0, "no gold score");
    observed_free(&first), observed_free(&second), pieces_free(&set);
}

// Reviews that the grammar can say, and one that it cannot.
static void test_gold(void) {
    Tokenizer tokenizer;
    tokenizer_load(&tokenizer, "data");
    Gold *gold = mem_alloc(1, sizeof *gold);
    gold_create(gold);
    const char *texts[2][2] = {{"The plot is", " good. The acting is great. I loved it."},
                               {"The plot is", " is is plot"}};
    double mean = 0;
    PieceSet set = {.pieces = 2, .max_length = 64};
    for (int i = 0; i < 2; i++) {
        TokenList ids = {0};
        size_t begin[2] = {0, 0}, end[2];
        for (int p = 0; p < 2; p++) {
            begin[p] = ids.n;
            tokenizer_encode(&tokenizer, &ids, texts[i][p], strlen(texts[i][p]), false);
            end[p] = ids.n;
        }
        pieces_add(&set, ids.data, begin, end, 1);
        mean += gold_score(gold, texts[i][0], texts[i][1]) / 2;
        tokens_free(&ids);
    }
    Observed both, good;
    observe(&both, &set, 1, 2, gold, &tokenizer);
    observe(&good, &set, 1, 1, gold, &tokenizer);
    const Distance d = observed_distance(&both, &good);
    CHECK_NEAR(d.gold_score, mean, 1e-12, 0, "mean gold score");
    CHECK_NEAR(d.valid, 0.5, 1e-15, 0, "share that the grammar can say");
    CHECK_NEAR(d.gold, 0.5, 1e-15, 0, "histograms: one half in another bin");
    CHECK(good.valid == 1, "the first alone");
    observed_free(&both), observed_free(&good), pieces_free(&set);
    gold_free(gold), free(gold), tokenizer_free(&tokenizer);
}

int main(void) {
    test_total_variation();
    test_spread();
    test_observe();
    test_gold();
    return test_end("distance");
}
