// fuzz_rows.c: throws bytes at the readers of data (fuzz.h): rows for train_sft, pairs, labelled completions,
// completions and prompts, each as texts or messages. Any file is either refused with a message or becomes rows
// that are not longer than they may be, of ids within the vocabulary; never a crash, never a bad access.
//
// An input is a byte that chooses the form and the options, and the file. Run from the repository's root: the
// tokenizer is that in data/.
#include "fuzz.h" // defines: fuzz_file
#include "../../lib/data/prompts.h"

enum { FUZZ_LENGTH = 24 }; // tokens that a row may have, so that some are too long

static Tokenizer fuzz_tokenizer;

static void fuzz_setup(void) { tokenizer_load(&fuzz_tokenizer, "data"); }

// Abort unless tokens (n) are ids of the tokenizer.
static void fuzz_check_ids(const int *tokens, size_t n) {
    for (size_t i = 0; i < n; i++)
        if (tokens[i] < 0 || (size_t)tokens[i] >= (size_t)fuzz_tokenizer.vocab_size) abort();
}

static void fuzz_input(const uint8_t *data, size_t size) {
    if (size < 1) return;
    const int form = data[0] % 5, options = data[0] / 5;
    const char *path = fuzz_file(data + 1, size - 1);
    const DataOptions o = {.max_length = FUZZ_LENGTH,
                           .chat_format = options & 1 ? CHAT_SIMPLE : CHAT_HH,
                           .keep_start = options & 2,
                           .whole = options & 4 && form != 0,
                           .all_tokens = options & 4 && form == 0,
                           .margins = options & 8};
    if (form == 0) {
        static Dataset rows;
        dataset_load(&rows, &fuzz_tokenizer, path, &o);
        Batch row = {0};
        for (int i = 0; i < rows.n; i++) {
            if (rows.rows[i].n > FUZZ_LENGTH) abort();
            dataset_batch(&row, &rows, &i, 1);
            fuzz_check_ids(row.tokens, (size_t)row.N);
        }
        batch_free(&row);
        return;
    }
    static PieceSet set;
    if (form == 1) pairs_load(&set, &fuzz_tokenizer, path, &o);
    else if (form == 2) labels_load(&set, &fuzz_tokenizer, path, &o);
    else if (form == 3) completions_load(&set, &fuzz_tokenizer, path, &o);
    else prompts_load(&set, &fuzz_tokenizer, path, &o);
    fuzz_check_ids(set.tokens, set.start[(size_t)set.pieces * (size_t)set.n]);
}
