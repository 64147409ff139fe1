// test_reviews.c: the default data. The automaton against the rules it was made from, its
// probabilities, the gold score's rule case by case, the two programs, and the shipped files.
#include "test.h"
#include "../lib/base/tokenizer.h"
#include "../data/gold.h"

// The programs, to be run in a child process.
#define main gold_main
#include "../data/gold.c"
#undef main
#define main reviews_main
#include "../data/reviews.c"
#undef main

enum { REVIEWS = 2000 };

// Review number i of a seed of the tests' own.
static char *test_review(const Grammar *g, int i) {
    Rng rng = rng_make(77, RNG_DATA + ((uint64_t)i << 8));
    Text text = {0};
    review_generate(g, &rng, &text, NULL, 0);
    return text.data;
}

// Cut a text into word numbers; returns how many.
static int test_words(const Grammar *g, const char *text, int words[GRAMMAR_MAX_SYMBOLS]) {
    size_t at = 0, begin;
    bool clean;
    int n = 0;
    while (n < GRAMMAR_MAX_SYMBOLS && review_word_next(text, strlen(text), &at, &begin, &clean))
        words[n++] = grammar_find_word(g, text + begin, at - begin);
    return n;
}

// Write words as the grammar does.
static char *test_text(const Grammar *g, const int *words, int n) {
    Text text = {0};
    for (int i = 0; i < n; i++) {
        const char *word = g->word[words[i]];
        text_print(&text, "%s%s", i && !strchr(".,", word[0]) ? " " : "", word);
    }
    return text.data;
}

// ------------------------------------------------------------------------------------------------
// The grammar

// p(text | tone) by expanding the rules as they stand, without automaton: the sum over all
// derivations of the template `rest` (then of the templates on the stack below it). An article is
// checked against the word behind it, not foreseen.
typedef struct Frame {
    const char *rest;
    const struct Frame *below;
} Frame;

static double derive(const char *text, const Frame *frame, int tone) {
    while (frame && !*frame->rest) frame = frame->below;
    if (!frame) return *text == 0;
    const char *s = frame->rest;
    if (*s == '<') {
        size_t n = strcspn(s, ">") - 1;
        const char *name = s + 1;
        Frame after = {name + n + 1, frame->below};
        double all = 0, sum = 0;
        for (int r = 0; r < COUNT(grammar_rules); r++) {
            const GrammarRule *rule = &grammar_rules[r];
            if (strncmp(rule->name, name, n) || rule->name[n]) continue;
            double weight = rule->weight * lean_factor[rule->lean][tone];
            Frame inner = {rule->text, &after};
            sum += weight * derive(text, &inner, tone);
            all += weight;
        }
        for (int l = 0; l < COUNT(grammar_lists) && all == 0; l++) {
            if (strncmp(grammar_lists[l].name, name, n) || grammar_lists[l].name[n]) continue;
            int i = 0;
            for (const char *word = grammar_lists[l].words; *word; i++) {
                size_t length = strcspn(word, " ");
                all += 1 / sqrt(i + 4.0);
                if (!strncmp(text, word, length) && strchr(" .,", text[length]))
                    sum += derive(text + length, &after, tone) / sqrt(i + 4.0);
                word += length + (word[length] == ' ');
            }
        }
        return sum / all;
    }
    Frame after = {s + 1, frame->below};
    if (!strncmp(s + 1, "(n)", 3) && (*s == 'a' || *s == 'A')) {
        if (*text != *s) return 0;
        bool an = text[1] == 'n';
        const char *next = text + 1 + an;
        if (*next != ' ' || (bool)word_takes_an(next + 1) != an) return 0;
        after.rest = s + 4;
        return derive(next, &after, tone);
    }
    return *text == *s ? derive(text + 1, &after, tone) : 0;
}

static void test_automaton(const Grammar *g) {
    double worst = 0;
    for (int s = 0; s < g->n_states; s++)
        for (int t = 0; t < TONES && s != GRAMMAR_END; t++) {
            double sum = 0;
            for (int a = g->state_first[s]; a < g->state_first[s + 1]; a++) sum += g->arcs[a].p[t];
            worst = fmax(worst, fabs(sum - 1));
        }
    for (int e = 0; e < g->n_emissions; e++) {
        double sum = 0;
        for (int k = g->emission_first[e]; k < g->emission_first[e + 1]; k++) sum += g->says[k].p;
        worst = fmax(worst, fabs(sum - 1));
    }
    CHECK(worst < 1e-12, "probabilities of arcs and words sum to 1 within %g", worst);
    CHECK(g->state_first[GRAMMAR_END] == g->state_first[GRAMMAR_END + 1], "nothing after the end");
    for (int l = 0; l < COUNT(grammar_lists); l++) // gold.h keeps one meaning for each word
        for (const char *s = grammar_lists[l].words; *s && grammar_lists[l].value != 0;) {
            size_t n = strcspn(s, " ");
            char *word = text_format(" %.*s ", (int)n, s);
            for (int k = 0; k < COUNT(grammar_lists); k++) {
                char *others = text_format(" %s ", grammar_lists[k].words);
                CHECK(k == l || !strstr(others, word), "%s is in <%s> and in <%s>", word,
                      grammar_lists[l].name, grammar_lists[k].name);
                free(others);
            }
            free(word);
            s += n + (s[n] == ' ');
        }
    CHECK(g->n_words >= 400 && g->n_words <= 600, "%d words", g->n_words);
    for (int l = 0; l < COUNT(grammar_lists); l++)
        for (int k = l + 1; k < COUNT(grammar_lists); k++)
            CHECK(strcmp(grammar_lists[l].name, grammar_lists[k].name), "one list for each name");
    for (int w = 0; w < g->n_words; w++)
        CHECK(g->word_first[w] < g->word_first[w + 1], "word %s is said by some state", g->word[w]);
}

// Every review parses, its probability is the product of its words' probabilities, which sum to 1
// at each place, and it is what the rules say without the automaton.
static void test_probabilities(const Grammar *g) {
    int parse = 0, articles = 0;
    double worst_sum = 0, worst_chain = 0, worst_derive = 0;
    Belief *now = mem_alloc(1, sizeof *now), *next = mem_alloc(1, sizeof *next);
    double *p = mem_alloc((size_t)g->n_words + 1, sizeof *p);
    for (int i = 0; i < REVIEWS; i++) {
        char *text = test_review(g, i);
        double logprob = review_logprob(g, text), chain = 0, derived = 0;
        parse += review_parses(g, text);
        int words[GRAMMAR_MAX_SYMBOLS], n = test_words(g, text, words);
        for (int k = 0; k + 1 < n; k++) {
            bool an = !strcasecmp(g->word[words[k]], "an"), a = !strcasecmp(g->word[words[k]], "a");
            articles += (a || an) && word_takes_an(g->word[words[k + 1]]) != an;
        }
        belief_start(now);
        for (int k = 0; k <= n && i < 200; k++) {
            double sum = 0;
            belief_next_word(g, now, p);
            for (int w = 0; w <= g->n_words; w++) sum += p[w];
            worst_sum = fmax(worst_sum, fabs(sum - 1));
            chain += log(p[k < n ? words[k] : g->n_words]);
            if (k == n) break;
            belief_step(g, next, now, words[k]);
            Belief *swap = now;
            now = next, next = swap;
        }
        if (i < 200) worst_chain = fmax(worst_chain, fabs(chain - logprob));
        Frame frame = {"<review>", NULL};
        for (int t = 0; t < TONES; t++) derived += tone_prior[t] * derive(text, &frame, t);
        worst_derive = fmax(worst_derive, fabs(log(derived) - logprob));
        free(text);
    }
    CHECK(parse == REVIEWS, "%d of %d reviews parse", parse, REVIEWS);
    CHECK(articles == 0, "%d wrong articles", articles);
    CHECK(worst_sum < 1e-12, "next words sum to 1 within %g", worst_sum);
    CHECK(worst_chain < 1e-10, "chain rule within %g", worst_chain);
    CHECK(worst_derive < 1e-10, "rules without automaton within %g", worst_derive);
    free(now), free(next), free(p);
}

// The probabilities are those of the generator: how often the first three words are what they are.
static void test_frequencies(const Grammar *g) {
    enum { DRAWS = 20000, DEPTH = 3 };
    static const char *const starts[] = {"The",           "I watched this", "The plot is",
                                         "A good comedy", "What an awful",  "Although the hero",
                                         "My sister and", "In this movie",  "The actors were"};
    int count[COUNT(starts)] = {0};
    double tones[2] = {0};
    for (int i = 0; i < DRAWS; i++) {
        char *text = test_review(g, i);
        for (int s = 0; s < COUNT(starts); s++) {
            size_t n = strlen(starts[s]);
            count[s] += !strncmp(text, starts[s], n) && strchr(" .,", text[n]);
        }
        tones[0] += strstr(text, ". I loved") != NULL,
            tones[1] += strstr(text, ". I hated") != NULL;
        free(text);
    }
    Belief *now = mem_alloc(1, sizeof *now), *next = mem_alloc(1, sizeof *next);
    for (int s = 0; s < COUNT(starts); s++) {
        int words[GRAMMAR_MAX_SYMBOLS], n = test_words(g, starts[s], words);
        belief_start(now);
        for (int k = 0; k < n; k++) {
            belief_step(g, next, now, words[k]);
            Belief *swap = now;
            now = next, next = swap;
        }
        double p = belief_mass(now), deviation = sqrt(p * (1 - p) / DRAWS);
        CHECK(p > 0 && fabs((double)count[s] / DRAWS - p) < 4.5 * deviation,
              "\"%s\": probability %g, seen %d times in %d", starts[s], p, count[s], DRAWS);
    }
    CHECK(fabs(tones[0] / tones[1] - 1) < 0.2, "as much love as hate: %g", tones[0] / tones[1]);
    free(now), free(next);
}

// A completion given a prompt, wherever the border falls.
static void test_borders(const Grammar *g) {
    for (int i = 0; i < 100; i++) {
        char *text = test_review(g, i), prompt[512];
        double whole = review_logprob(g, text), before = whole;
        CHECK_NEAR(review_logprob_given(g, "", text), whole, 0, 0, "no prompt: %s", text);
        int wrong = 0;
        for (size_t cut = 1; cut <= strlen(text); cut++) {
            snprintf(prompt, sizeof prompt, "%.*s", (int)cut, text);
            double now = review_logprob_given(g, prompt, text + cut);
            wrong += !(now >= before - 1e-12 && now <= 1e-12); // the more is given, the likelier
            before = now;
        }
        CHECK(wrong == 0, "longer prompts make \"%s\" likelier (%d do not)", text, wrong);
        free(text);
    }
    // The border in a word: among the words after "The" that start with "pl", only "plot".
    const char *rest = "ot is good. I loved it.";
    double the = review_logprob_given(g, "The", " plot is good. The acting is good. I loved it.");
    double pl = review_logprob_given(g, "The pl", "ot is good. The acting is good. I loved it.");
    double plot = review_logprob_given(g, "The plot", " is good. The acting is good. I loved it.");
    CHECK(pl > the, "%g > %g, %s", pl, the, rest);
    CHECK_NEAR(pl, plot, 0, 1e-12, "\"The pl\" can only go on to \"The plot\"");
    double blank = review_logprob_given(g, "The plot ", "is good. The acting is good. I loved it.");
    CHECK_NEAR(blank, plot, 0, 1e-12, "the blank may stand on either side");
    // "s" is shared: log p("story" | "s") = log p("story" | "The") - log p("s" | "The")
    Belief now, next;
    double p[GRAMMAR_MAX_WORDS + 1], s = 0;
    belief_start(&now);
    belief_clear(&next);
    belief_step(g, &next, &now, grammar_find_word(g, "The", 3));
    belief_next_word(g, &next, p);
    for (int w = 0; w < g->n_words; w++) s += g->word[w][0] == 's' ? p[w] : 0;
    double story =
        review_logprob_given(g, "The", " story is good. The acting is good. I loved it.");
    double after_s =
        review_logprob_given(g, "The s", "tory is good. The acting is good. I loved it.");
    CHECK_NEAR(after_s, story - log(s), 0, 1e-12, "the border after a first letter");
}

// Texts that are no reviews.
static void test_broken(const Grammar *g) {
    static const char *const bad[] = {
        "",
        " ",
        ".",
        "The",
        "The plot is good",
        "the plot is good. I loved it.",
        " The plot is good. The acting is good. I loved it.",
        "The  plot is good. The acting is good. I loved it.",
        "The plot is good . The acting is good. I loved it.",
        "The plot is good.The acting is good. I loved it.",
        "The plot is good. The acting is good. I loved it. ",
        "The plot is good. The acting is good. I loved it.\n",
        "The plot are good. The acting is good. I loved it.",
        "The plot is qood. The acting is good. I loved it.",
        "The plot is good. The acting is good. I loved it. I loved it.",
        "A awful comedy about a king. The acting is good. I loved it.",
        "\xff\xfe",
        "The plot is \x80.",
    };
    CHECK(!review_parses(g, "I loved it. The plot is good. The acting is good."), "order");
    CHECK(review_parses(g, "The plot is good. The acting is good. I loved it."), "a review");
    for (int i = 0; i < COUNT(bad); i++) CHECK(!review_parses(g, bad[i]), "parses: \"%s\"", bad[i]);
    int trials = 0, swapped = 0, replaced = 0, dropped = 0, shuffled = 0;
    Rng rng = rng_make(5, RNG_DATA);
    for (int i = 0; i < REVIEWS; i++, trials++) {
        char *text = test_review(g, i), *broken;
        int words[GRAMMAR_MAX_SYMBOLS], work[GRAMMAR_MAX_SYMBOLS], n = test_words(g, text, words);
        int a = (int)rng_below(&rng, (uint64_t)n), b = a;
        while (words[b] == words[a]) b = (int)rng_below(&rng, (uint64_t)n);
        memcpy(work, words, sizeof work);
        work[a] = words[b], work[b] = words[a];
        broken = test_text(g, work, n);
        swapped += review_parses(g, broken), free(broken);
        memcpy(work, words, sizeof work);
        work[a] = (int)rng_below(&rng, (uint64_t)g->n_words);
        broken = test_text(g, work, n);
        replaced += review_parses(g, broken), free(broken);
        memcpy(work, words, sizeof work);
        memmove(work + a, work + a + 1, (size_t)(n - a - 1) * sizeof *work);
        broken = test_text(g, work, n - 1);
        dropped += review_parses(g, broken), free(broken);
        memcpy(work, words, sizeof work);
        for (int k = n - 1; k > 0; k--) {
            int j = (int)rng_below(&rng, (uint64_t)k + 1), t = work[k];
            work[k] = work[j], work[j] = t;
        }
        broken = test_text(g, work, n);
        shuffled += review_parses(g, broken), free(broken);
        free(text);
    }
    CHECK(swapped < 0.06 * trials, "%d of %d parse with two words swapped", swapped, trials);
    CHECK(replaced < 0.06 * trials, "%d of %d parse with a random word", replaced, trials);
    CHECK(dropped < 0.10 * trials, "%d of %d parse with a word left out", dropped, trials);
    CHECK(shuffled == 0, "%d of %d parse shuffled", shuffled, trials);
}

// ------------------------------------------------------------------------------------------------
// The gold score

static void test_gold_rule(const Gold *gold) {
    // Whole reviews, so that there are no faults: the sum of the opinions, worked out by hand.
    static const struct {
        double opinion;
        const char *text;
    } cases[] = {
        {1.0 + 1.0 + 1.3, "The plot is good. The acting is great. I loved it."},
        {1.4 + 1.0 + 1.3, "The plot is very good. The acting is great. I loved it."},
        {0.8 + 1.0 + 1.3, "The plot is rather good. The acting is great. I loved it."},
        {-0.6 + 1.0 + 1.3, "The plot is not good. The acting is great. I loved it."},
        {-0.84 + 1.0 + 1.3, "The plot is not very good. The acting is great. I loved it."},
        {-0.4 + 1.0 + 1.3, "The plot is hardly good. The acting is great. I loved it."},
        {0.6 + 1.0 + 1.3, "The plot is not bad. The acting is great. I loved it."},
        {0.9 + 1.0 + 1.3, "The plot is anything but bad. The acting is great. I loved it."},
        {0.48 + 1.0 + 1.3, "The plot is never slow. The acting is great. I loved it."},
        {-0.81 + 1.0 + 1.3, "The plot has no charm. The acting is great. I loved it."},
        {-1.2 + 1.0 + 1.3, "The plot is not good and touching. The acting is great. I loved it."},
        {-0.8 + 1.0 + 1.3, "The plot is never good. The acting is great. I loved it."},
        {0.4 + 1.0 + 1.3, "The plot is hardly bad. The acting is great. I loved it."},
        {1.0 + 0.5 + 1.3, "The plot is good. The acting was good. I loved it."},
        {-0.6 + 0.5 + 1.3, "The plot is not good. The acting was good. I loved it."},
        {0.6 * 1.0 - 1.4 * 1.0 + 1.3, "The plot is good, but the acting is bad. I loved it."},
        {-0.6 * 1.0 + 1.4 * 1.0 + 1.3, "The plot is bad, but the acting is good. I loved it."},
        {0.6 * 1.0 - 1.4 * 1.0 + 1.3, "Although the acting is good, the plot is bad. I loved it."},
        {1.4 * 1.0 - 0.6 * 1.0 + 1.3, "The music is good, although the jokes are bad. I loved it."},
        {1.0 + 1.0 + 0.5 * 4.5, "The plot is good. The acting is great. I give it ten stars."},
        {1.0 + 1.0 - 0.5 * 3.5, "The plot is good. The acting is great. I give it two stars."},
        {1.0 + 1.0, "The plot is good. The acting is great. It is neither a joy nor a mess."},
        {1.0 + 1.0 + 1.2, "The plot is good. The acting is great. Do not miss it."},
        {1.0 + 1.0 - 1.6, "The plot is good. The acting is great. Avoid it."},
        {1.0 + 1.0 - 0.78,
         "The plot is good. The acting is great. I would not recommend it to everyone."},
        {-1.0 + 0.8, "I watched this film last night. After ten minutes I yawned. The acting "
                     "is quite good."},
    };
    for (int i = 0; i < COUNT(cases); i++) {
        GoldParts parts = gold_parts(gold, cases[i].text, strlen(cases[i].text));
        CHECK_NEAR(parts.opinion, cases[i].opinion, 0, 1e-12, "%s", cases[i].text);
        CHECK(parts.faults == 0 && parts.whole && parts.breaks == 0, "no faults: %s",
              cases[i].text);
        CHECK_NEAR(parts.score, 6 * tanh(cases[i].opinion / 6), 0, 1e-12, "%s", cases[i].text);
        CHECK_NEAR(gold_score(gold, "", cases[i].text), parts.score, 0, 0, "the same score");
    }
    CHECK_NEAR(gold_probability(0), 0.5, 0, 0, "neutral");
    CHECK_NEAR(gold_score(gold, "The plot is", " good. The acting is great. I loved it."),
               gold_score(gold, "", cases[0].text), 0, 0, "the border does not matter");
}

// Faults cost more the more there are, but never everything at once.
static void test_gold_faults(const Gold *gold) {
    static const char *const worse[] = {
        // each line worse than the one before
        "What a superb film. The actors are natural and full of charm. I loved it.",
        "What a superb film. The actors are natural and full of charm. I loved it",
        "What a superb film. The actors are natural and full of full of charm. I loved it",
        "What a superb film. Film the natural actors are and full charm of. I loved it",
        "superb superb superb superb superb superb superb superb superb superb",
        "fjord banana xyzzy fjord banana xyzzy fjord banana xyzzy fjord banana xyzzy",
    };
    for (int i = 0; i + 1 < COUNT(worse); i++) {
        double a = gold_score(gold, "", worse[i]), b = gold_score(gold, "", worse[i + 1]);
        CHECK(a > b, "%.3f > %.3f: \"%s\" is better than \"%s\"", a, b, worse[i], worse[i + 1]);
    }
    CHECK(gold_score(gold, "", "") <= -3.5, "an empty text scores %g", gold_score(gold, "", ""));
    CHECK(gold_score(gold, "The plot", "") <= -3, "nothing said after the prompt");
    GoldParts parts = gold_parts(gold, worse[1], strlen(worse[1]));
    CHECK(!parts.ended && parts.breaks == 0, "without full stop: not ended, no break");
    CHECK_NEAR(parts.faults, 1.5, 0, 1e-12, "a missing full stop");
    parts = gold_parts(gold, worse[2], strlen(worse[2]));
    CHECK(parts.breaks == 1, "one break where a phrase comes twice, got %d", parts.breaks);
    Text text = {0}; // praise without end
    double before = 6;
    for (int n = 1; n <= 16; n *= 2) {
        text.size = 0;
        for (int i = 0; i < n; i++) text_print(&text, "%sI loved it.", i ? " " : "");
        double score = gold_score(gold, "", text.data);
        if (n >= 4) CHECK(score < before, "%d times \"I loved it.\": %g < %g", n, score, before);
        before = score;
    }
    for (int i = 0; i < 100000; i++) text_print(&text, " superb");
    CHECK_NEAR(gold_score(gold, "", text.data), -6, 0, 1e-9, "100,000 words");
    text_free(&text);
    Rng rng = rng_make(3, RNG_DATA);
    int outside = 0;
    for (int i = 0; i < REVIEWS; i++) { // any bytes will do
        char bytes[64];
        int n = (int)rng_below(&rng, sizeof bytes);
        for (int k = 0; k < n; k++) bytes[k] = (char)(1 + rng_below(&rng, 255));
        bytes[n] = 0;
        double score = gold_score(gold, bytes, bytes);
        outside += !(score >= -6 && score <= 6);
    }
    CHECK(outside == 0, "%d scores outside [-6, 6]", outside);
}

// Fresh reviews are balanced, and changing one word can matter.
static void test_gold_spread(const Gold *gold) {
    double sum = 0, squares = 0, low = 0, high = 0, faults = 0, best = -6, worst = 6;
    for (int i = 0; i < REVIEWS; i++) {
        char *text = test_review(&gold->grammar, i);
        GoldParts parts = gold_parts(gold, text, strlen(text));
        sum += parts.score, squares += parts.score * parts.score;
        low += parts.score<-1, high += parts.score> 1;
        faults += parts.breaks > 0 || !parts.whole;
        best = fmax(best, parts.score), worst = fmin(worst, parts.score);
        free(text);
    }
    double mean = sum / REVIEWS, deviation = sqrt(squares / REVIEWS - mean * mean);
    CHECK(fabs(mean) < 0.25, "mean %g", mean);
    CHECK(deviation > 1.8 && deviation < 2.8, "standard deviation %g", deviation);
    CHECK(low > 0.25 * REVIEWS && high > 0.25 * REVIEWS, "%g low, %g high", low, high);
    CHECK(low + high < 0.9 * REVIEWS, "some reviews are mixed");
    CHECK(best > 4 && best < 6 && worst < -4, "from %g to %g", worst, best);
    CHECK(faults == 0, "%g reviews with breaks", faults);
}

// The table of scores in data/README.md is true.
static void test_readme(const Gold *gold) {
    char *text = file_read("data/README.md", NULL), *saved = NULL;
    int rows = 0;
    for (char *line = strtok_r(text, "\n", &saved); line; line = strtok_r(NULL, "\n", &saved)) {
        double score;
        int at = 0;
        if (sscanf(line, "| %lf | %n", &score, &at) != 1 || !at) continue;
        char *end = strrchr(line, '|');
        end[-1] = 0; // the blank before the bar
        const char *example = line[at] == '(' ? "" : line + at;
        CHECK_NEAR(gold_score(gold, "", example), score, 0, 0.0051, "README: \"%s\"", example);
        rows++;
    }
    CHECK(rows >= 10, "%d rows in the table", rows);
    free(text);
}

// ------------------------------------------------------------------------------------------------
// Generator, shipped files, programs

static void test_generator(const Grammar *g) {
    int different = 0, mark = 0, outside = 0, lengths[REVIEWS_MAX_PROMPT + 2] = {0}, words[64];
    for (int i = 0; i < REVIEWS; i++) {
        Text p = {0}, c = {0}, p2 = {0}, c2 = {0};
        review_make(g, 9, (uint64_t)i, REVIEWS_MIN_PROMPT, REVIEWS_MAX_PROMPT, &p, &c);
        review_make(g, 9, (uint64_t)i, REVIEWS_MIN_PROMPT, REVIEWS_MAX_PROMPT, &p2, &c2);
        CHECK(!strcmp(p.data, p2.data) && !strcmp(c.data, c2.data), "review %d made twice", i);
        mark += c.data[0] != ' ' || p.data[p.size - 1] == ' ';
        int n = test_words(g, p.data, words);
        outside += n < REVIEWS_MIN_PROMPT || n > REVIEWS_MAX_PROMPT;
        lengths[n]++;
        p2.size = c2.size = 0;
        review_make(g, 9, (uint64_t)i, 30, 30, &p2, &c2); // most reviews are not as long
        mark += c2.size < 3 || c2.data[0] != ' ';
        p2.size = c2.size = 0;
        review_make(g, 10, (uint64_t)i, REVIEWS_MIN_PROMPT, REVIEWS_MAX_PROMPT, &p2, &c2);
        different += strcmp(c.data, c2.data) != 0;
        text_free(&p), text_free(&c), text_free(&p2), text_free(&c2);
    }
    CHECK(different > 0.99 * REVIEWS, "another seed, other reviews: %d differ", different);
    CHECK(mark == 0, "%d completions do not start with their blank", mark);
    CHECK(outside == 0, "%d prompts of a length not asked for", outside);
    for (int n = REVIEWS_MIN_PROMPT; n <= REVIEWS_MAX_PROMPT; n++)
        CHECK(lengths[n] > REVIEWS / 20, "%d prompts of %d words", lengths[n], n);
}

// Run a main in a child with these arguments, its output in a file; returns the exit code.
static int run_main(int (*program)(int, char **), const char *output, char **argv) {
    int argc = 0, status;
    while (argv[argc]) argc++;
    fflush(NULL);
    pid_t child = fork();
    if (child == 0) {
        if (!freopen(output, "wb", stdout)) _exit(99);
        int code = program(argc, argv);
        fflush(stdout);
        _exit(code); // without a search for leaks: flags keep their strings
    }
    waitpid(child, &status, 0);
    return WIFEXITED(status) ? WEXITSTATUS(status) : 128;
}

#define RUN(program, output, ...) run_main(program, output, (char *[]){__VA_ARGS__, NULL})

// The files in data/ are what the generator makes, and every word is one token and not rare.
static void test_shipped(const Grammar *g) {
    char dir[] = "/tmp/test_reviews.XXXXXX";
    CHECK(mkdtemp(dir), "a directory of its own");
    CHECK(RUN(reviews_main, "/dev/null", "reviews", "--write_data", dir) == 0, "remake the files");
    static const char *const names[] = {"reviews_train.jsonl", "reviews_eval.jsonl"};
    int *seen = mem_alloc((size_t)g->n_words, sizeof *seen), pieces = 0;
    Tokenizer tokenizer;
    tokenizer_load(&tokenizer, "data");
    for (int i = 0; i < COUNT(names); i++) {
        char *made = path_join(dir, names[i]), *shipped = path_join("data", names[i]);
        size_t n, m;
        char *a = file_read(made, &n), *b = file_read(shipped, &m);
        CHECK(n == m && !memcmp(a, b, n), "%s is what ./reviews --write_data makes", shipped);
        long line = 1;
        for (size_t at = 0; at < m; line++) {
            size_t length = (size_t)((const char *)memchr(b + at, '\n', m - at) - (b + at));
            cJSON *row = json_parse(b + at, length, shipped, line);
            char *text = text_format("%s%s", json_get(row, "prompt")->valuestring,
                                     json_get(row, "completion")->valuestring);
            int words[GRAMMAR_MAX_SYMBOLS], k = test_words(g, text, words);
            TokenList tokens = {0};
            tokenizer_encode(&tokenizer, &tokens, text, strlen(text), false);
            pieces += tokens.n != (size_t)k;
            tokens_free(&tokens);
            while (i == 0 && k-- > 0) seen[words[k] == NO_WORD ? 0 : words[k]]++;
            free(text), cJSON_Delete(row);
            at += length + 1;
        }
        CHECK(line - 1 == (i ? REVIEWS_EVAL_ROWS : REVIEWS_TRAIN_ROWS), "%ld rows", line - 1);
        remove(made);
        free(made), free(shipped), free(a), free(b);
    }
    rmdir(dir);
    for (int w = 0; w < g->n_words; w++)
        CHECK(seen[w] >= 50, "\"%s\" stands %d times in the training file", g->word[w], seen[w]);
    CHECK(pieces == 0, "%d reviews have words of more than one token", pieces);
    tokenizer_free(&tokenizer);
    free(seen);
}

// gold as a reward program: an answer to each line before the next one is written.
static void test_reward_program(const Gold *gold) {
    int to[2], from[2];
    if (pipe(to) || pipe(from)) die(EXIT_IO, "pipe");
    fflush(NULL);
    pid_t child = fork();
    if (child == 0) {
        dup2(to[0], STDIN_FILENO), dup2(from[1], STDOUT_FILENO);
        close(to[0]), close(to[1]), close(from[0]), close(from[1]);
        int code = gold_main(1, (char *[]){"gold", NULL});
        fflush(stdout);
        _exit(code);
    }
    close(to[0]), close(from[1]);
    FILE *out = fdopen(to[1], "w"), *in = fdopen(from[0], "r");
    for (int i = 0; i < 20; i++) {
        Text p = {0}, c = {0}, row = {0};
        double answer = NAN;
        review_make(&gold->grammar, 4, (uint64_t)i, 2, 8, &p, &c);
        text_print(&row, "{\"prompt\": "), text_json(&row, p.data, p.size);
        text_print(&row, ", \"completion\": "), text_json(&row, c.data, c.size);
        fprintf(out, "%s}\n", row.data);
        fflush(out);
        CHECK(fscanf(in, "%lf", &answer) == 1, "an answer to line %d", i + 1);
        CHECK_NEAR(answer, gold_score(gold, p.data, c.data), 0, 1e-6, "line %d", i + 1);
        text_free(&p), text_free(&c), text_free(&row);
    }
    int status;
    fclose(out);
    CHECK(fgetc(in) == '\n' && fgetc(in) == EOF, "nothing more than the answers");
    waitpid(child, &status, 0);
    CHECK(WIFEXITED(status) && WEXITSTATUS(status) == 0, "a clean end");
    fclose(in);
}

static void test_programs(void) {
    char path[] = "/tmp/test_reviews.XXXXXX";
    int fd = mkstemp(path);
    if (fd < 0) die(EXIT_IO, "mkstemp");
    close(fd);
    static const struct {
        const char *rows, *message;
    } bad[] = {
        {"{\"completion\": \"a\"}\n{\"text\": 1}\n", ":2: \"text\" is not a string"},
        {"{\"prompt\": \"a\"}\n", ":1: no \"text\" and no \"completion\""},
        {"{\"text\": \"a\"}\n{\"text\": \"a\"\n", ":2:"},
        {"{\"text\": \"a\"}\n\n", ":2:"},
        {"{\"text\": \"\xff\"}\n", "invalid UTF-8"},
    };
    for (int i = 0; i < COUNT(bad); i++) {
        FILE *file = fopen(path, "wb");
        fputs(bad[i].rows, file), fclose(file);
        CHECK_DIES(EXIT_BAD_INPUT, bad[i].message,
                   RUN(gold_main, "/dev/null", "gold", "--dataset", path) == 3 ? _exit(3)
                                                                               : (void)0);
    }
    CHECK(RUN(reviews_main, path, "reviews", "--form", "text", "--count", "50", "--seed", "3") == 0,
          "write texts");
    CHECK(RUN(reviews_main, "/dev/null", "reviews", "--check", path, "--tokenizer", "data") == 0,
          "check them");
    CHECK(RUN(gold_main, "/dev/null", "gold", "--dataset", path, "--explain", "--probability") == 0,
          "score them");
    CHECK_DIES(EXIT_USAGE, "unknown flag",
               RUN(reviews_main, "/dev/null", "reviews", "--cuont", "1") == 2 ? _exit(2) : (void)0);
    CHECK_DIES(EXIT_USAGE, "is more than",
               RUN(reviews_main, "/dev/null", "reviews", "--min_prompt_words", "9") == 2 ? _exit(2)
                                                                                         : (void)0);
    CHECK_DIES(EXIT_IO, "cannot write",
               RUN(reviews_main, "/dev/null", "reviews", "--output", "/nowhere/x") == 4 ? _exit(4)
                                                                                        : (void)0);
    remove(path);
}

int main(void) {
    Gold *gold = mem_alloc(1, sizeof *gold);
    gold_create(gold);
    const Grammar *g = &gold->grammar;
    test_automaton(g);
    test_probabilities(g);
    test_frequencies(g);
    test_borders(g);
    test_broken(g);
    test_gold_rule(gold);
    test_gold_faults(gold);
    test_gold_spread(gold);
    test_readme(gold);
    test_generator(g);
    test_shipped(g);
    test_reward_program(gold);
    test_programs();
    gold_free(gold);
    free(gold);
    return test_end("test_reviews");
}
