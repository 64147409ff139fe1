// test_benchmark.c: log-likelihoods of benchmarks against a pass of each way to go on alone, where the
// context ends, and answers in what a model wrote. Files, forms and faults are test_benchmark.sh's.
#include "test.h"
#include "../lib/run/benchmark.h"

// ------------------------------------------------------------------------------------------------
// The head for given targets

// A small model, far from uniform; small ones have a shard a thread, large ones one.
static GPT2 make_model(int C, int positions, int vocab) {
    GPT2 m;
    gpt2_create(&m, (GPT2Config){.vocab_size = vocab,
                                 .n_positions = positions,
                                 .n_embd = C,
                                 .n_layer = 2,
                                 .n_head = 3,
                                 .n_inner = 50,
                                 .layer_norm_epsilon = 1e-5f,
                                 .initializer_range = 0.3f,
                                 .bos_token_id = -1,
                                 .eos_token_id = -1,
                                 .pad_token_id = -1});
    gpt2_init_random(&m, 5);
    return m;
}

// Every masked token of a batch as a target, some twice, against the head that goes by the mask.
static void test_targets(int C, int threads) {
    omp_set_num_threads(threads);
    GPT2 m = make_model(C, 120, 83);
    Batch b = {0};
    Rng rng = rng_make(3, 3);
    TokenList sources = {0}, targets = {0}, places = {0};
    for (int r = 0; r < 30; r++) {
        int tokens[120];
        const int n = 1 + (int)rng_below(&rng, 60), parent = r % 3 ? b.R - r % 3 : -1;
        for (int t = 0; t < n; t++) tokens[t] = (int)rng_below(&rng, 83);
        batch_add_child(&b, parent, tokens, NULL, n);
        if (parent < 0) b.mask[b.N - n] = 0;
    }
    for (int r = 0; r < b.R; r++)
        for (int t = b.row_start[r]; t < b.row_start[r + 1]; t++) {
            const bool first = t == b.row_start[r];
            for (int k = 0; k < 1 + t % 2 && b.mask[t]; k++) {
                tokens_append(&sources, first ? b.row_start[b.parent[r] + 1] - 1 : t - 1);
                tokens_append(&targets, b.tokens[t]);
                tokens_append(&places, t);
            }
        }
    const int n = (int)targets.n;
    CHECK(n > HEAD_CHUNK, "more than one chunk: %d", n);
    float *want = mem_floats((size_t)b.N), *got = mem_floats((size_t)n), worst = 0;
    TokenStats *stats = mem_alloc((size_t)b.N, sizeof *stats);
    TokenStats *seen = mem_alloc((size_t)n, sizeof *seen);
    gpt2_forward(&m, &b);
    lm_head_forward_stats(&m, want, stats);
    lm_head_targets(&m, got, seen, sources.data, targets.data, n);
    int other = 0;
    for (int i = 0; i < n; i++) {
        const float scale = fmaxf(1, fabsf(want[places.data[i]]) / 10);
        worst = fmaxf(worst, fabsf(got[i] - want[places.data[i]]) / scale);
        other += seen[i].correct != stats[places.data[i]].correct;
    }
    // 1e-5, and above 10 nats 1e-6 of the log-prob: they go down to -31 here, where a float's last
    // digit is 2e-6, and the two sum in different orders (1.3e-5 apart under OpenBLAS's Haswell;
    // computed in double, the log-prob lies between them).
    CHECK(worst < 1e-5f && !other, "%d channels, %d threads: %g apart, %d others", C, threads,
          (double)worst, other);
    // A new pass in between: no old logits are taken.
    for (int t = 0; t < b.N; t++) b.tokens[t] = (b.tokens[t] + 7) % 83;
    gpt2_forward(&m, &b);
    lm_head_targets(&m, got, seen, sources.data, targets.data, n);
    const float again = got[5];
    gpt2_forward(&m, &b);
    lm_head_targets(&m, got, seen, sources.data + 5, targets.data + 5, 1);
    CHECK(fabsf(again - got[0]) < 1e-5f, "one target alone");
    free(want), free(got), free(stats), free(seen);
    tokens_free(&sources), tokens_free(&targets), tokens_free(&places);
    batch_free(&b), gpt2_free(&m);
}

// ------------------------------------------------------------------------------------------------
// Ways

static const struct {
    const char *prompt[4], *way[4];
    int n;
    ItemForm form;
} cases[] = {
    {{"The plot is"}, {" good.", " bad.", " good. I loved it.", " good."}, 4, ITEM_CHOICE},
    {{"The plot is"}, {" good", " goods", " good enough"}, 3, ITEM_CHOICE},
    {{"The plot is \n"}, {"good", "\nbad"}, 2, ITEM_CHOICE},
    {{"The acting was a wonder"}, {"ful thing", " of art"}, 2, ITEM_CHOICE},
    {{""}, {"The plot is good.", "The plot is bad."}, 2, ITEM_PAIR},
    {{""}, {"The plot is good.", "A plot is good. I loved it."}, 2, ITEM_PAIR},
    {{" \t"}, {"The plot", "A plot"}, 2, ITEM_PAIR},
    {{""}, {"<|endoftext|>The plot", "<|endoftext|>A plot"}, 2, ITEM_PAIR},
    {{"The plot so the plot", "The plot so the acting", "It"}, {" is good."}, 3, ITEM_CONTEXTS},
    {{"The plot so"}, {" it"}, 1, ITEM_WORD},
    {{"The plot so"}, {" it is very good, as the acting."}, 1, ITEM_WORD},
    {{"It is a long story, and longer than the context of this model: the plot, the acting, the "
      "plot "
      "and the music are all of them very good, so that I loved it. The plot is"},
     {" good.", " bad. I hated it, as the acting."},
     2,
     ITEM_CHOICE},
    {{"It is a long story, and longer than the context of this model: the plot, the acting, the "
      "plot "
      "and the music are all of them very good, so that I loved it. The plot is"},
     {" good", " bad"},
     2,
     ITEM_CHOICE},
};

static Item case_item(int k) {
    Item item = {.n = cases[k].n, .line = k + 1};
    for (int i = 0; i < 4; i++) {
        if (cases[k].prompt[i]) texts_add(&item.prompts, cases[k].prompt[i]);
        if (cases[k].way[i]) texts_add(&item.ways, cases[k].way[i]);
    }
    return item;
}

// log p of a way's tokens, from one row with all of them and a model that has positions for it.
static double row_alone(GPT2 *m, const TokenList *ids, const Way *way, bool *greedy) {
    Batch b = {0};
    Rows rows = {0};
    double sum = 0;
    batch_add_row(&b, ids->data + way->at, NULL, way->n);
    rows_forward(&rows, m, &b);
    *greedy = true;
    for (int t = way->from; t < way->n; t++) {
        sum += (double)rows.logp[t];
        *greedy &= rows.tokens[t].correct > 0;
    }
    batch_free(&b), rows_free(&rows);
    return sum;
}

// All cases in one pass, or each alone, against rows alone. The context has P tokens.
static void test_ways(const Tokenizer *t, int P, int batch_size, int threads) {
    omp_set_num_threads(threads);
    Benchmarks b = {.delimiter = "", .t = t, .window = P, .batch_size = batch_size, .keep = true};
    const Scorer scorer = {.name = "it"};
    b.scorer = &scorer;
    b.model = make_model(39, P, t->vocab_size);
    GPT2 longer = make_model(39, P + 1, t->vocab_size); // has a position for the last token, too
    memcpy(longer.params, b.model.params, (size_t)t->vocab_size * 39 * sizeof(float));
    memcpy(longer.w.wpe, b.model.w.wpe, (size_t)P * 39 * sizeof(float));
    for (int i = 2; i < b.model.n_tensors; i++)
        memcpy(longer.params + longer.tensors[i].offset, b.model.params + b.model.tensors[i].offset,
               b.model.tensors[i].size * sizeof(float));
    weights_changed(&longer);
    for (ItemForm form = 0; form <= ITEM_WORD; form++) {
        ItemSet s = {.name = "cases", .path = "cases", .form = form};
        s.items = mem_alloc(COUNT(cases), sizeof *s.items);
        for (int k = 0; k < COUNT(cases); k++)
            if (cases[k].form == form) s.items[s.n++] = case_item(k);
        Scores scores = {0};
        for (int m = 0; m < IS_MEASURES; m++)
            scores.value[m] = mem_alloc(COUNT(cases), sizeof(double));
        b.lines.size = 0;
        if (s.n) items_score(&b, &s, &scores);
        const char *line = b.lines.data;
        for (int i = 0; i < s.n; i++) {
            TokenList ids = {0};
            Way ways[4];
            Scores none = {0};
            const bool usable = item_encode(&b, &s, &s.items[i], &ids, ways, &none);
            const char *key = "\"log_likelihoods\": [";
            if (usable) line = strstr(line, key) + strlen(key);
            for (int w = 0; w < s.items[i].n && usable; w++) {
                bool greedy;
                char *end;
                const double want = row_alone(&longer, &ids, &ways[w], &greedy);
                const double got = strtod(line, &end);
                CHECK(ways[w].n <= P + 1 && ways[w].from >= 1, "window");
                CHECK_NEAR(got, want, 1e-5, 1e-5, "%s, item %d, way %d", item_forms[form].name, i,
                           w);
                if (form == ITEM_WORD)
                    CHECK(scores.value[IS_RIGHT][i] == greedy, "greedy: item %d", i);
                line = end + 2;
            }
            tokens_free(&ids);
        }
        for (int m = 0; m < IS_MEASURES; m++) free(scores.value[m]);
        for (int i = 0; i < s.n; i++) item_free(&s.items[i]);
        free(s.items);
    }
    gpt2_free(&b.model), gpt2_free(&longer), batch_free(&b.batch), text_free(&b.lines);
}

// Which tokens are the prompt's, and what is cut off.
static void test_encoding(const Tokenizer *t) {
    Benchmarks b = {.delimiter = "", .t = t, .window = 1000};
    TokenList ids = {0}, whole = {0};
    Draft fault = {0};
    bool cut = false, joined = false;
    const char *prompt = "The plot is", *way = " good.", *both = "The plot is good.";
    Way w = way_encode(&b, &ids, &fault, prompt, way, &cut, &joined);
    tokenizer_encode(t, &whole, both, strlen(both), true);
    CHECK(w.n == (int)whole.n && !memcmp(ids.data, whole.data, whole.n * sizeof(int)),
          "all tokens");
    CHECK(w.chars == 5 && !cut && !joined && !fault.fault[0], "characters without the blank");
    const int from = w.from;
    ids.n = 0;
    w = way_encode(&b, &ids, &fault, "The plot is ", "good.", &cut, &joined);
    CHECK(w.from == from && w.n == (int)whole.n, "the prompt's blank goes over");
    ids.n = 0;
    b.delimiter = " ";
    w = way_encode(&b, &ids, &fault, "The plot is", "good.", &cut, &joined);
    CHECK(w.from == from && w.n == (int)whole.n && w.chars == 5, "a blank between them");
    b.delimiter = "";
    for (int P = 2; P < (int)whole.n + 2; P++) { // windows of all sizes
        const int all = (int)whole.n, own = all - from;
        fault.fault[0] = 0;
        ids.n = 0;
        cut = false;
        b.window = P;
        w = way_encode(&b, &ids, &fault, prompt, way, &cut, &joined);
        CHECK(!fault.fault[0] == (own <= P), "window %d: %s", P, fault.fault);
        if (own > P) continue;
        CHECK(w.n == (all < P + 1 ? all : P + 1) && w.n - w.from == own, "window %d", P);
        CHECK(cut == (all > P + 1), "window %d: cut", P);
        CHECK(!memcmp(ids.data + w.at, whole.data + all - w.n, (size_t)w.n * sizeof(int)),
              "the last tokens stay");
    }
    b.window = 1000;
    ids.n = 0;
    w = way_encode(&b, &ids, &fault, "", "The plot", &cut, &joined);
    CHECK(ids.data[0] == t->eos_id && w.from == 1, "an empty prompt is EOS");
    ids.n = 0;
    w = way_encode(&b, &ids, &fault, "", "<|endoftext|>The plot", &cut, &joined);
    CHECK(ids.data[0] == t->eos_id && ids.data[1] != t->eos_id && w.from == 1,
          "which is not doubled");
    fault.fault[0] = 0;
    ids.n = 0;
    way_encode(&b, &ids, &fault, "", "<|endoftext|>", &cut, &joined);
    CHECK(strstr(fault.fault, "no token of its own"), "nothing is left of it: %s", fault.fault);
    tokens_free(&ids), tokens_free(&whole), draft_free(&fault);
}

// ------------------------------------------------------------------------------------------------
// Answers

static void test_answers(void) {
    static const struct {
        const char *pattern, *text, *found; // NULL: whatever there is; nothing
    } found[] = {
        {NULL, " False ", "False"},
        {NULL, "", ""},
        {"#### (-?[0-9.,]+)", " 3 + 4 = 7\n#### 7\nand #### 12", "12"},
        {"#### (-?[0-9.,]+)", " 3 + 4 = 7", NULL},
        {"[0-9]+", "12 or 13 or 014", "014"},
        {"(yes)|(no)", "no, yes, no", "no"},
        {"answer is (.*)\\.", "the answer is  (B). So it is (C).", "(B). So it is (C)"},
        {"^[a-z]+", "abc def", "abc"},
        {"[a-z]*", "abc def", "def"},
        {"x*", "abc", ""},
        {"a(x*)", "ab", NULL},
        {"\xC3\xA4+", "ein \xC3\xA4", "\xC3\xA4"},
    };
    Text out = {0};
    for (int i = 0; i < COUNT(found); i++) {
        AnswerRules rules = rules_open(found[i].pattern, NULL, NULL);
        const bool is = answer_find(&out, &rules, found[i].text);
        CHECK(is == (found[i].found != NULL), "case %d: found", i);
        if (is) CHECK(!strcmp(out.data, found[i].found), "case %d: \"%s\"", i, out.data);
        rules_free(&rules);
    }
    static const struct {
        const char *ignore, *answer, *right;
        bool is;
    } right[] = {
        {NULL, "1,000", "1000", false},    {"[,$]", "$1,000", "1000", true},
        {"[,$]", "1000", " 1,000 ", true}, {",*", "1,,0", "10", true},
        {"^the ", "the cat", "cat", true}, {NULL, "False", "false", false},
        {"\\.$", "1.5.", "1.5", true},     {NULL, " x", "x", true},
    };
    for (int i = 0; i < COUNT(right); i++) {
        AnswerRules rules = rules_open(NULL, right[i].ignore, NULL);
        Item item = {0};
        texts_add(&item.answers, "another");
        texts_add(&item.answers, right[i].right);
        CHECK(answer_is_right(&rules, &item, right[i].answer) == right[i].is, "case %d", i);
        item_free(&item);
        rules_free(&rules);
    }
    AnswerRules rules = rules_open(NULL, NULL, "\\n\\n|Q:|a\\|b|\\\\");
    CHECK(rules.stops.n == 4 && !strcmp(rules.stops.text[0], "\n\n") &&
              !strcmp(rules.stops.text[2], "a|b") && !strcmp(rules.stops.text[3], "\\"),
          "texts that end an answer");
    CHECK(rules_end(&rules, "one\ntwo Q: x\n\n", 14) == 8 && rules_end(&rules, "one", 3) == 3,
          "the first of them");
    rules_free(&rules);
    rules = rules_open(NULL, NULL, NULL);
    CHECK(rules_end(&rules, "a\nb", 3) == 1, "a line");
    rules_free(&rules);
    rules = rules_open("x", NULL, NULL);
    CHECK(rules_end(&rules, "a\nb\n\nc", 6) == 3, "with a pattern a paragraph");
    rules_free(&rules), text_free(&out);
}

static void test_mistakes(void) {
    CHECK_DIES(EXIT_USAGE, "POSIX regular expressions have no \\d", rules_open("\\d+", NULL, NULL));
    CHECK_DIES(EXIT_USAGE, "not a regular expression", rules_open("(", NULL, NULL));
    CHECK_DIES(EXIT_USAGE, "--answer_ignore [: not", rules_open(NULL, "[", NULL));
    CHECK_DIES(EXIT_USAGE, "between the bars is empty", rules_open(NULL, NULL, "a||b"));
    CHECK_DIES(EXIT_USAGE, "of escapes there are", rules_open(NULL, NULL, "\\x"));
    CHECK_DIES(EXIT_USAGE, "of escapes there are", rules_open(NULL, NULL, "a\\"));
}

// RewardBench's table is what its authors' is: 2,985 prompts but for math, whose weight is that of code.
static void test_reward_bench(void) {
    double all = 0, code = 0, math = 0;
    for (int i = 0; i < COUNT(reward_bench); i++) {
        if (strcmp(reward_bench[i].section, "Prior Sets")) all += reward_bench[i].weight;
        if (!strncmp(reward_bench[i].subset, "hep-", 4)) code += reward_bench[i].weight;
        if (!strcmp(reward_bench[i].subset, "math-prm")) math = reward_bench[i].weight;
    }
    CHECK(code == math && all - math + 447 == 2985, "its prompts: %g", all - math + 447);
}

int main(void) {
    test_mistakes(); // forks, so before any threads
    test_answers();
    test_reward_bench();
    Tokenizer t;
    tokenizer_load(&t, "data");
    test_encoding(&t);
    for (int threads = 1; threads <= 2; threads++) {
        test_targets(39, threads);
        test_targets(264, threads);
        test_ways(&t, 200, 0, threads);
        test_ways(&t, 200, 1, threads);
        test_ways(&t, 20, 0, threads);
        test_ways(&t, 9, 3, threads);
    }
    tokenizer_free(&t);
    return test_end("benchmark");
}
