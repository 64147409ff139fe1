// distance.h: how far a model's completions are from the data's, for methods whose goal is the data
// and not a reward. The likelihood of held-out completions (completions_nll) says whether
// the model can say what people said; the measures in here, of completions that it samples, say
// whether it says other things, too.
//
// They are total variations: half the sum of |p - q| over everything that was seen on either side,
// p and q being its shares. 0: all shares agree, 1: nothing is common. Two finite samples of the
// same distribution are apart, too: the same measure between training and held-out data says how
// far, and a model that meets the data comes to about that.
#ifndef DISTANCE_H
#define DISTANCE_H

#include "../../data/gold.h"     // defines: Gold, gold_parts
#include "../../model.h"         // defines: Rows, rows_forward
#include "../base/texts.h"       // defines: text_add_bytes
#include "../data/preferences.h" // defines: PieceSet, labels_batch, spread

// What is told of a model.
typedef struct {
    double nll;    // mean of -log p over the tokens of the held-out completions, nats
    double bigram; // total variation of pairs of neighbouring tokens
    double length; // tokens of a completion
    // film reviews only:
    double gold;       // total variation of histograms of the gold score
    double gold_score; // mean
    double valid;      // share of texts that the reviews' grammar can say
} Distance;

// What was seen in a sample, as numbers that stand for it, with repetitions.
typedef struct {
    uint64_t *keys; // (n)
    size_t n, capacity;
} Sample;

// Append one observation.
static void sample_add(Sample *s, uint64_t key) {
    if (s->n == s->capacity) {
        s->capacity = 2 * s->capacity + 1024;
        s->keys = mem_resize(s->keys, s->capacity, sizeof *s->keys);
    }
    s->keys[s->n++] = key;
}

// Ascending, for qsort.
static int compare_keys(const void *a, const void *b) {
    const uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
    return x < y ? -1 : x > y;
}

// The total variation of two samples, which it sorts; 0 if both are empty.
static double total_variation(Sample *a, Sample *b) {
    double sum = 0;
    if (a->n) qsort(a->keys, a->n, sizeof *a->keys, compare_keys);
    if (b->n) qsort(b->keys, b->n, sizeof *b->keys, compare_keys);
    for (size_t i = 0, j = 0; i < a->n || j < b->n;) {
        const uint64_t key =
            j == b->n || (i < a->n && a->keys[i] < b->keys[j]) ? a->keys[i] : b->keys[j];
        size_t in_a = 0, in_b = 0;
        while (i < a->n && a->keys[i] == key) i++, in_a++;
        while (j < b->n && b->keys[j] == key) j++, in_b++;
        sum += fabs((double)in_a / (double)a->n - (double)in_b / (double)b->n) / 2;
    }
    return sum;
}

// What n completions show.
typedef struct {
    Sample bigrams; // token before << 32 | token
    Sample gold;    // bins of the gold score, half a point wide
    double length, gold_score, valid;
} Observed;

// Look at the pieces `piece` (> 0) of n examples spread over the set, each after its prompt. gold
// may be NULL. Release with observed_free.
static void observe(Observed *o, const PieceSet *d, int piece, int n, const Gold *gold,
                    const Tokenizer *tokenizer) {
    *o = (Observed){0};
    for (int i = 0; i < n; i++) {
        const size_t k = (size_t)d->pieces * (size_t)spread(i, n, d->n);
        const size_t begin = d->start[k + (size_t)piece], end = d->start[k + (size_t)piece + 1];
        int before = d->tokens[d->start[k + 1] - 1]; // the prompt's last
        for (size_t t = begin; t < end; t++) {
            sample_add(&o->bigrams, (uint64_t)before << 32 | (uint64_t)d->tokens[t]);
            before = d->tokens[t];
        }
        o->length += (double)(end - begin) / n;
        if (!gold) continue;
        Text text = {0};
        text_add_bytes(&text, tokenizer, d->tokens + d->start[k], d->start[k + 1] - d->start[k]);
        text_add_bytes(&text, tokenizer, d->tokens + begin, end - begin);
        const GoldParts parts = gold_parts(gold, text.data, text.size);
        sample_add(&o->gold, (uint64_t)floor(2 * (parts.score + 6)));
        o->gold_score += parts.score / n;
        o->valid += (parts.whole && !parts.breaks) / (double)n;
        text_free(&text);
    }
}

static void observed_free(Observed *o) {
    free(o->bigrams.keys);
    free(o->gold.keys);
    *o = (Observed){0};
}

// How far a's completions are from b's; length, gold_score and valid are a's, nll is not set.
static Distance observed_distance(Observed *a, Observed *b) {
    return (Distance){.bigram = total_variation(&a->bigrams, &b->bigrams),
                      .length = a->length,
                      .gold = total_variation(&a->gold, &b->gold),
                      .gold_score = a->gold_score,
                      .valid = a->valid};
}

// Mean negative log-likelihood of the completions' tokens under the model, nats; B rows at a time.
// Meaningless if the program is asked to stop meanwhile.
static double completions_nll(GPT2 *model, const LabelSet *data, Rows *rows, int B) {
    double sum = 0, count = 0;
    Batch batch = {0};
    int *examples = mem_alloc((size_t)B, sizeof *examples);
    for (int first = 0; first < data->n && !stop_signal; first += B) {
        const int n = data->n - first < B ? data->n - first : B;
        for (int i = 0; i < n; i++) examples[i] = first + i;
        labels_batch(&batch, data, examples, examples, n);
        rows_forward(rows, model, &batch);
        for (int t = 0; t < batch.N; t++) {
            if (!batch.mask[t]) continue;
            sum -= rows->logp[t];
            count++;
        }
        progress_show("held-out log-probs: %d of %d completions", first + n, data->n);
    }
    progress_clear();
    batch_free(&batch);
    free(examples);
    return sum / count;
}

// One line on the terminal; a measure that is not there is left out.
static void distance_print(const char *who, const Distance *d, bool nll, bool texts, bool gold) {
    printf("%-9s", who);
    if (nll) printf("  held-out NLL %.4f nats a token", d->nll);
    if (texts) printf("  bigram TV %.4f  length %.2f", d->bigram, d->length);
    if (texts && gold)
        printf("  gold TV %.4f  gold score %.3f  valid %.1f %%", d->gold, d->gold_score,
               100 * d->valid);
    printf("\n");
}

// The same as entries of the log.
static void distance_log(MetricsLog *log, const char *who, const Distance *d, bool nll, bool texts,
                         bool gold) {
    const struct {
        const char *name;
        double value;
        bool is_there;
    } metrics[] = {
        {"nll", d->nll, nll},
        {"bigram_tv", d->bigram, texts},
        {"length", d->length, texts},
        {"gold_tv", d->gold, texts && gold},
        {"gold", d->gold_score, texts && gold},
        {"valid", d->valid, texts && gold},
    };
    for (int i = 0; i < COUNT(metrics); i++) {
        char key[64];
        snprintf(key, sizeof key, "%s/%s", who, metrics[i].name);
        if (metrics[i].is_there) log_number(log, key, metrics[i].value);
    }
}

#endif
