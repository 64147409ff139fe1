// fuzz_reward.c: throws bytes at the reader of a reward program's answers (fuzz.h). Any are either a fault, told
// in one sentence without control bytes, or finite scores.
//
// An input is the number of rows (one byte), how many bytes come at a time (one byte) and what the program says.
#include "fuzz.h"
#include "../../lib/run/reward.h"

static int fuzz_pipe[2];

static void fuzz_setup(void) {
    if (pipe(fuzz_pipe)) abort();
    fcntl(fuzz_pipe[0], F_SETFL, O_NONBLOCK);
}

static void fuzz_input(const uint8_t *data, size_t size) {
    static char scrap[1 << 16];
    while (read(fuzz_pipe[0], scrap, sizeof scrap) > 0) continue; // what the last input left
    if (size < 3) return;
    const int rows = data[0] % 16 + 1;
    const size_t most = (size_t)data[1] * 17 + 1;
    float scores[16];
    int row = 0;
    char name[] = "program";
    Reward r = {.name = name, .program = true, .timeout = 0.001, .from = fuzz_pipe[0], .to = -1};
    char *fault = NULL;
    data += 2, size -= 2;
    while (size && !fault && row < rows) {
        const size_t n = size < most ? size : most;
        if (write(fuzz_pipe[1], data, n) != (ssize_t)n) abort();
        data += n, size -= n;
        for (size_t asked = 0; asked < n && !fault; asked += 4096)
            fault = program_read(&r, scores, &row, rows, rows);
    }
    if (row > rows) abort();
    for (int i = 0; i < row && !fault; i++)
        if (!isfinite(scores[i])) abort();
    for (const char *c = fault; c && *c; c++)
        if (*c < ' ' || *c > '~') abort();
}
