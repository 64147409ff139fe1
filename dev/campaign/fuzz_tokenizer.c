// fuzz_tokenizer.c: throws bytes at the reader of a tokenizer's files (fuzz.h). Any are either refused with a
// message or a tokenizer that encodes a text to ids below its vocabulary's size, and decodes them.
//
// An input is five files, which NUL bytes divide: vocab.json, merges.txt, tokenizer.json,
// tokenizer_config.json, special_tokens_map.json. One that is empty is not there; but without vocab.json and
// tokenizer.json there is a vocabulary of the 256 bytes, two merges' results and <|endoftext|>, so that short
// inputs get beyond it.
#include "fuzz.h" // defines: fuzz_write, fuzz_dir, fuzz_part
#include "../../lib/base/tokenizer.h"

static char fuzz_paths[5][256];
static const char *fuzz_at;
static Text fuzz_vocab;

static void fuzz_setup(void) {
    static const char *const names[] = {"vocab.json", "merges.txt", "tokenizer.json",
                                        "tokenizer_config.json", "special_tokens_map.json"};
    fuzz_at = fuzz_dir();
    for (int i = 0; i < 5; i++)
        snprintf(fuzz_paths[i], sizeof fuzz_paths[i], "%s/%s", fuzz_at, names[i]);
    // GPT-2's letters for bytes: those that can be seen stand for themselves, the others come after 255.
    int other = 256;
    for (int b = 0; b < 256; b++) {
        const bool seen = (b >= '!' && b <= '~') || (b >= 0xA1 && b != 0xAD);
        char letter[5] = {0};
        utf8_encode(letter, (uint32_t)(seen ? b : other++));
        text_print(&fuzz_vocab, "%s", b ? ", " : "{");
        text_json(&fuzz_vocab, letter, strlen(letter));
        text_print(&fuzz_vocab, ": %d", b);
    }
    text_print(&fuzz_vocab, ", \"th\": 256, \"the\": 257, \"<|endoftext|>\": 258}");
}

static void fuzz_input(const uint8_t *data, size_t size) {
    const uint8_t *part;
    bool vocabulary = false;
    for (int i = 0; i < 5; i++) {
        const size_t n = fuzz_part(&part, &data, &size);
        if (n) fuzz_write(fuzz_paths[i], part, n);
        else unlink(fuzz_paths[i]);
        if (n && (i == 0 || i == 2)) vocabulary = true;
        if (!n && i == 1) fuzz_write(fuzz_paths[i], "#version: 0.2\nt h\nth e\n", 23);
    }
    if (!vocabulary) fuzz_write(fuzz_paths[0], fuzz_vocab.data, fuzz_vocab.size);

    Tokenizer t;
    TokenList ids = {0};
    static const char text[] = "The  film's 3 heroes\n<|endoftext|> caf\xC3\xA9 \xE6\x97\xA5 the";
    tokenizer_load(&t, fuzz_at);
    tokenizer_encode(&t, &ids, text, sizeof text - 1, true);
    for (size_t i = 0; i < ids.n; i++)
        if (ids.data[i] < 0 || (size_t)ids.data[i] >= (size_t)t.vocab_size) abort();
    Text back = {0};
    tokenizer_decode(&t, &back, ids.data, ids.n, false);
}
