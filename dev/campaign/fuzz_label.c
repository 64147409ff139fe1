// fuzz_label.c: throws bytes at what label.c parses (fuzz.h): heads and bodies of requests, and a log. A body that
// is taken is an object of JSON, a host is one of ours, and a line of a log that is taken makes rows of JSON.
//
// An input is a byte that chooses which, and the text.
#include "fuzz.h"
#include "../../lib/label/feedback.h"
#include "../../lib/label/web.h"

static Web fuzz_webs[2] = {{.host = "127.0.0.1", .local = true}, {.host = "0.0.0.0"}};

static void fuzz_setup(void) { random_digits(fuzz_webs[0].key); }

// What the page's requests are made of.
static void fuzz_body(const char *text, size_t n) {
    cJSON *json = body_parse(text, n);
    if (!json) return;
    if (!cJSON_IsObject(json) || utf8_check(text, n) < n) abort();
    for (int mode = 0; mode < MODES; mode++) {
        const int choice = choice_parse(json_get(json, "choice"), MAX_SHOWN);
        if (choice >= MAX_SHOWN || choice < NO_CHOICE) abort();
        if (choice_fits(choice, (Mode)mode) && choice == NO_CHOICE) abort();
    }
    mode_parse(cJSON_GetStringValue(json_get(json, "mode")));
}

// A log: every line is taken, or the file is refused.
static void fuzz_log(const char *text, size_t size) {
    Feedback f = {0};
    Text rows[ROW_FILES] = {0};
    for (const char *line = text, *end; size; line = end) {
        end = memchr(line, '\n', size);
        if (!end) end = line + size;
        feedback_take(&f, line, (size_t)(end - line), "fuzz", 1);
        if (end < line + size) end++;
        size -= (size_t)(end - line);
    }
    for (int i = 0; i < f.n; i++) rows_of(rows, cJSON_Parse(f.list[i].line));
    for (int k = 0; k < ROW_FILES; k++)
        for (char *s = rows[k].data, *end; s && *s; s = end + 1) {
            end = strchr(s, '\n');
            if (!end || !cJSON_ParseWithLength(s, (size_t)(end - s))) abort();
        }
    if (f.n > 1) agreement_of(&f, COMPARE, 0, f.n_people - 1);
}

static void fuzz_input(const uint8_t *data, size_t size) {
    if (size < 1) return;
    Text text = {0};
    text_append(&text, data + 1, size - 1);
    switch (data[0] % 4) {
    case 0:
        fuzz_body(text.data, text.size);
        break;
    case 1:
        fuzz_log(text.data, text.size);
        break;
    case 2:
        for (int w = 0; w < 2; w++) {
            const bool fits = host_fits(&fuzz_webs[w], text.data);
            if (fits && w == 0 && text.data[0] != '[' && strncmp(text.data, "127.0.0.1", 9) &&
                strncmp(text.data, "localhost", 9) && strncmp(text.data, "::1", 3))
                abort();
        }
        break;
    default:
        if (key_fits(&fuzz_webs[0], text.data)) abort(); // 128 bits are not guessed
        origin_fits(text.data, "127.0.0.1:8617");
    }
}
