// fuzz_config.c: throws bytes at the reader of config.json (fuzz.h). Any text is either refused with a message
// or a GPT-2 whose sizes are within what the reader promises, and is written back as a config that reads the
// same.
#include "fuzz.h" // defines: fuzz_file
#include "../../lib/files/pretrained.h"

static void fuzz_setup(void) {}

static void fuzz_input(const uint8_t *data, size_t size) {
    const GPT2Config c = config_read(fuzz_file(data, size));
    if (c.n_layer < 1 || c.n_head < 1 || c.n_embd % c.n_head || c.n_positions < 1) abort();
    Text written = {0};
    config_write(&written, &c, NULL);
    const GPT2Config again = config_read(fuzz_file(written.data, written.size));
    if (again.n_layer != c.n_layer || again.n_embd != c.n_embd || again.n_head != c.n_head ||
        again.n_positions != c.n_positions || again.vocab_size != c.vocab_size)
        abort();
}
