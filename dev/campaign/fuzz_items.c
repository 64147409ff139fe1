// fuzz_items.c: throws bytes at the reader of benchmarks (fuzz.h). Any file is either refused with a message or
// becomes items that can be asked: as many ways or prompts as are compared, the right one among them, a task that
// the set has; and rules for written answers find one in any text or say that there is none.
//
// An input is a byte that chooses how many items are taken and what pattern answers have, and the file.
#include "fuzz.h" // defines: fuzz_file
#include "../../lib/data/items.h"

static AnswerRules fuzz_rules[3];

static void fuzz_setup(void) {
    fuzz_rules[0] = rules_open(NULL, NULL, NULL);
    fuzz_rules[1] = rules_open("([0-9]+)|\\(([A-Z])\\)", "[ ,.]", "\\n|Q:");
    fuzz_rules[2] = rules_open("x*", "y*", NULL);
}

static void fuzz_input(const uint8_t *data, size_t size) {
    if (size < 1) return;
    const AnswerRules *rules = &fuzz_rules[data[0] % 3];
    const PairUse use = {.texts = true};
    const DataOptions o = {.max_length = 24};
    ItemSet set;
    items_load(&set, "fuzz", fuzz_file(data + 1, size - 1), data[0] / 3 % 8, &use, &o);
    for (int i = 0; i < set.n; i++) {
        const Item *item = &set.items[i];
        if (set.form == ITEM_CHOICE || set.form == ITEM_CONTEXTS)
            if (item->n < 2 || item->right < 0 || item->right >= item->n) abort();
        if (set.form == ITEM_CHOICE && item->ways.n != item->n) abort();
        if (set.form == ITEM_CONTEXTS && item->prompts.n != item->n) abort();
        if (set.tasks.n && (item->task < 0 || item->task >= set.tasks.n)) abort();
        const double chance = item_chance(&set, item);
        if (chance < 0 || chance > 1) abort(); // nan: there is none
        for (int k = 0; k < item->prompts.n; k++) {
            Text answer = {0};
            const char *text = item->prompts.text[k];
            if (rules_end(rules, text, strlen(text)) > strlen(text)) abort();
            if (answer_find(&answer, rules, text)) answer_is_right(rules, item, answer.data);
        }
    }
}
