// batch.h: the packed batch of rows, the one type that data and model share.
#ifndef BATCH_H
#define BATCH_H

#include "lib/base/common.h" // defines: mem_resize, die

// ------------------------------------------------------------------------------------------------
// A batch: N tokens of R rows back to back, without padding. Row r is tokens row_start[r] up to
// row_start[r + 1]; positions restart at 0 in each row, and attention never crosses a row's border.
// But a row may be the child of another: it continues it, as two completions continue one prompt,
// and the prompt's tokens go through the model once. Children come right after their parent.

typedef struct {
    int R, N;            // rows, tokens
    int *row_start;      // (R + 1)
    int *parent;         // (R) the row that this one continues, or -1
    int *tokens;         // (N)
    unsigned char *mask; // (N) 1: log p(token t | all tokens before it) counts in the loss
    int max_R, max_N;    // capacities
} Batch;

static void batch_clear(Batch *b) { b->R = b->N = 0; }

// Append a row of n tokens that continues row `parent`. Returns where it begins: tokens and mask from
// there on are the caller's to fill.
static int batch_open_row(Batch *b, int parent, int n) {
    if (b->R + 1 > b->max_R) {
        b->max_R = 2 * b->R + 16;
        b->row_start = mem_resize(b->row_start, (size_t)b->max_R + 1, sizeof(int));
        b->parent = mem_resize(b->parent, (size_t)b->max_R, sizeof(int));
    }
    if (n > INT_MAX / 2 - b->N) die(EXIT_BAD_INPUT, "a batch of more than %d tokens", INT_MAX / 2);
    if (b->N + n > b->max_N) {
        b->max_N = 2 * b->N + n;
        b->tokens = mem_resize(b->tokens, (size_t)b->max_N, sizeof(int));
        b->mask = mem_resize(b->mask, (size_t)b->max_N, 1);
    }
    const int at = b->N;
    b->row_start[b->R] = at;
    b->parent[b->R] = parent;
    b->N += n;
    b->row_start[++b->R] = b->N;
    return at;
}

// Append a row of n tokens that continues row `parent`. mask (n) may be NULL: all ones.
static void batch_add_child(Batch *b, int parent, const int *tokens, const unsigned char *mask,
                            int n) {
    const int at = batch_open_row(b, parent, n);
    memcpy(b->tokens + at, tokens, (size_t)n * sizeof(int));
    if (mask) memcpy(b->mask + at, mask, (size_t)n);
    else memset(b->mask + at, 1, (size_t)(b->N - at));
}

// Append a row that continues none. Its first token is predicted by nothing, so its mask is 0.
static void batch_add_row(Batch *b, const int *tokens, const unsigned char *mask, int n) {
    batch_add_child(b, -1, tokens, mask, n);
    if (n > 0) b->mask[b->N - n] = 0;
}

// Append row r of another batch, one that continues none, with its mask.
static void batch_copy_row(Batch *to, const Batch *from, int r) {
    const int at = from->row_start[r];
    batch_add_row(to, from->tokens + at, from->mask + at, from->row_start[r + 1] - at);
}

// Number of tokens of row r and of the row that it continues.
static int batch_row_length(const Batch *b, int r) {
    int own = b->row_start[r + 1] - b->row_start[r], p = b->parent[r];
    return own + (p < 0 ? 0 : b->row_start[p + 1] - b->row_start[p]);
}

// Number of tokens whose mask is set.
static int batch_count_mask(const Batch *b) {
    int count = 0;
    for (int t = 0; t < b->N; t++) count += b->mask[t];
    return count;
}

static void batch_free(Batch *b) {
    free(b->row_start), free(b->parent), free(b->tokens), free(b->mask);
    *b = (Batch){0};
}

#endif
