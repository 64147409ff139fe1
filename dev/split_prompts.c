// split_prompts.c: give preference pairs an explicit prompt, cut where our trainers cut it, so that
// TRL can be compared with them on the same prompts.
//
// cc -O3 -march=native -fno-math-errno -fopenmp dev/split_prompts.c -o split_prompts -lcjson -lm
//
//     ./split_prompts FILE.jsonl [hh|simple]      {"prompt", "chosen", "rejected"} of each pair
//
// Messages come out as text in this chat format. Pairs with a fault of content are left out, and
// their number is printed on stderr; faults that show in tokens only (a prompt as long as the
// context) are not looked for.
#include "../lib/base/common.h"
#include "../lib/data/dataset.h"
#include "../lib/data/preferences.h"

int main(int argc, char **argv) {
    const bool simple = argc == 3 && !strcmp(argv[2], "simple");
    if (argc < 2 || argc > 3 || (argc == 3 && !simple && strcmp(argv[2], "hh")))
        die(EXIT_USAGE, "usage: %s FILE.jsonl [hh|simple]", argv[0]);
    const char *names[] = {"prompt", "chosen", "rejected"};
    LineReader reader;
    Draft draft = {0};
    Text out = {0};
    long pairs = 0, skipped = 0;
    lines_open(&reader, argv[1]);
    for (cJSON *record; (record = record_next(&reader)); cJSON_Delete(record)) {
        draft_preference(&draft, &reader, record, 2, simple ? CHAT_SIMPLE : CHAT_HH);
        if (draft.fault[0]) {
            skipped++;
            continue;
        }
        size_t at = 0;
        out.size = 0;
        for (int i = 0; i < draft.n; i++) {
            text_print(&out, "%s\"%s\": ", i ? ", " : "{", names[i]);
            text_json(&out, draft.text.data + at, draft.parts[i].end - at);
            at = draft.parts[i].end;
        }
        text_print(&out, "}\n");
        fwrite(out.data, 1, out.size, stdout);
        pairs++;
    }
    if (fflush(stdout) || ferror(stdout)) die(EXIT_IO, "cannot write: %s", strerror(errno));
    fprintf(stderr, "%s: %ld pairs, %ld skipped\n", argv[1], pairs, skipped);
    lines_close(&reader), draft_free(&draft), text_free(&out);
    return 0;
}
