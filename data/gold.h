// gold.h: the gold score, what a film review of reviews.h is "really" worth to its reader.
//
// gold_score gives the log-odds that a text is praise, in [-6, 6]; 0 is neutral, fresh reviews have
// mean about 0 and standard deviation about 2. Any text has a score, also a broken or an empty one.
// It stands in for the human judge: preferences are drawn from it, reward models try to learn it,
// and PPO shows what happens when they did not. It is a rule, so it costs nothing, and it is not a
// sum over words, so it cannot be learned from word counts:
//
//   opinions    each opinion word counts its list's value (reviews.h), or its value below;
//   degree      times the degree word right before it: "very good" 1.4, "rather good" 0.8;
//   denial      turned round and weakened by a denial up to four words before it in the same
//               clause: "not good" -0.6, "never dull" +0.8, "hardly good" -0.4, "no charm" -0.81;
//   contrast    what follows "but" counts 1.4 times, what goes before it 0.6 times; the clause of
//               "although" counts 0.6 times, the other one 1.4 times;
//   repetition  a word of opinion counts half as much each time it comes again;
//   sum         s = 6 tanh(sum / 6): the tenth compliment adds little;
//   faults      are taken off: every place where the grammar cannot go on (a break), every word or
//               phrase said twice, a missing end, a text too short or too long. Each kind of fault
//               starts at about one point and levels off, so that a worse text scores worse but a
//               hopeless one does not score minus infinity.
#ifndef GOLD_H
#define GOLD_H

#include "reviews.h"

typedef enum {
    GOLD_PLAIN,
    GOLD_OPINION,
    GOLD_DENIAL,
    GOLD_DEGREE,
    GOLD_BUT,
    GOLD_ALTHOUGH,
    GOLD_AND,
    GOLD_NUMBER,
    GOLD_STARS
} GoldKind;

// Words that matter to the score and are in no list of opinions. `value`: the opinion, the factor
// of a denial or a degree ("anything but" denies too), the number of stars.
static const struct {
    GoldKind kind;
    double value;
    const char *words;
} gold_words[] = {
    {GOLD_OPINION, 1.3, "recommend"},
    {GOLD_OPINION, 1.2, "stays"},
    {GOLD_OPINION, 0.8, "gladly again"},
    {GOLD_OPINION, -1.2, "money"},
    {GOLD_OPINION, -2.0, "miss"},
    {GOLD_OPINION, -1.6, "Avoid"},
    {GOLD_DENIAL, -0.4, "hardly"},
    {GOLD_DENIAL, -0.5, "neither nor"},
    {GOLD_DENIAL, -0.6, "not"},
    {GOLD_DENIAL, -0.8, "never"},
    {GOLD_DENIAL, -0.9, "no anything"},
    {GOLD_DEGREE, 0.6, "fairly"},
    {GOLD_DEGREE, 0.8, "quite rather"},
    {GOLD_DEGREE, 1.2, "so simply"},
    {GOLD_DEGREE, 1.4, "very really too"},
    {GOLD_DEGREE, 1.5, "truly deeply"},
    {GOLD_DEGREE, 1.7, "utterly"},
    {GOLD_BUT, 0, "but"},
    {GOLD_ALTHOUGH, 0, "although"},
    {GOLD_AND, 0, "and"},
    {GOLD_STARS, 0, "stars"},
    {GOLD_NUMBER, 1, "one"},
    {GOLD_NUMBER, 2, "two"},
    {GOLD_NUMBER, 3, "three"},
    {GOLD_NUMBER, 4, "four"},
    {GOLD_NUMBER, 5, "five"},
    {GOLD_NUMBER, 6, "six"},
    {GOLD_NUMBER, 7, "seven"},
    {GOLD_NUMBER, 8, "eight"},
    {GOLD_NUMBER, 9, "nine"},
    {GOLD_NUMBER, 10, "ten"},
};

typedef struct {
    GoldKind kind;
    double value;
} GoldWord;

typedef struct {
    Grammar grammar;
    GoldWord word[GRAMMAR_MAX_WORDS]; // of each word of the grammar, looked up in small letters
} Gold;

// What a score is made of.
typedef struct {
    double score;   // 6 tanh(opinion / 6) less the faults, at least -6
    double opinion; // sum of the opinions, before it levels off
    double faults;  // points taken off
    int words;      // with marks
    int breaks;     // places where the grammar cannot go on, unknown words among them
    int repeats;    // words said twice in a row, phrases of three words said before
    bool ended;     // the last word is a full stop
    bool whole;     // a review may end here
} GoldParts;

enum { GOLD_MAX_WORDS = 256, GOLD_DENIAL_REACH = 4 };

// Each word of `words` gets this meaning.
static void gold_add_words(Gold *gold, const char *words, GoldKind kind, double value) {
    for (const char *s = words; *s;) {
        size_t n = strcspn(s, " ");
        int w = grammar_find_word(&gold->grammar, s, n);
        if (w == NO_WORD)
            die(EXIT_BAD_INPUT, "gold score: the grammar has no word %.*s", (int)n, s);
        gold->word[w] = (GoldWord){kind, value};
        s += n + (s[n] == ' ');
    }
}

// Build the grammar and the table of meanings. Release with gold_free.
static void gold_create(Gold *gold) {
    memset(gold, 0, sizeof *gold);
    grammar_create(&gold->grammar);
    for (int i = 0; i < COUNT(grammar_lists); i++)
        if (grammar_lists[i].value != 0)
            gold_add_words(gold, grammar_lists[i].words, GOLD_OPINION, grammar_lists[i].value);
    for (int i = 0; i < COUNT(gold_words); i++)
        gold_add_words(gold, gold_words[i].words, gold_words[i].kind, gold_words[i].value);
}

static void gold_free(Gold *gold) { grammar_free(&gold->grammar); }

// A text as the rule sees it.
typedef struct {
    int n;
    uint32_t key[GOLD_MAX_WORDS];  // hash of the word in small letters: equal words, equal keys
    GoldWord is[GOLD_MAX_WORDS];   // its meaning
    char mark[GOLD_MAX_WORDS];     // ',' or '.', 0 for a word
    double weight[GOLD_MAX_WORDS]; // what the contrast makes of its clause
} GoldText;

// Cut the text into words (the first GOLD_MAX_WORDS of them) and follow the grammar through it.
// After a break the grammar goes on from any state that the last word can lead to.
static void gold_read(const Gold *gold, const char *text, size_t n, GoldText *t, GoldParts *parts) {
    const Grammar *g = &gold->grammar;
    Belief a, b, *now = &a, *next = &b;
    size_t at = 0, begin;
    bool clean, lost = false;
    belief_start(now);
    belief_clear(next);
    t->n = 0;
    while (t->n < GOLD_MAX_WORDS && review_word_next(text, n, &at, &begin, &clean)) {
        const char *s = text + begin;
        size_t length = at - begin;
        int word = grammar_find_word(g, s, length);
        if (!clean) parts->breaks++;
        if (word == NO_WORD) parts->breaks++, lost = true; // go on with the next known word
        else if (lost) belief_restart(g, now, word), lost = false;
        else {
            belief_step(g, next, now, word);
            if (next->n == 0) parts->breaks++, belief_restart(g, next, word);
            Belief *swap = now;
            now = next, next = swap;
        }
        char small[GRAMMAR_MAX_WORD];
        size_t k = 0;
        for (; k < length && k < sizeof small; k++)
            small[k] = s[k] >= 'A' && s[k] <= 'Z' ? (char)(s[k] - 'A' + 'a') : s[k];
        int meaning = grammar_find_word(g, small, k);
        if (meaning == NO_WORD) meaning = word; // "I", "Sunday", "Avoid"
        t->is[t->n] = meaning == NO_WORD ? (GoldWord){GOLD_PLAIN, 0} : gold->word[meaning];
        t->key[t->n] = grammar_hash(small, k);
        t->mark[t->n] = *s == '.' || *s == ',' ? *s : 0;
        t->weight[t->n++] = 1;
        parts->ended = *s == '.';
    }
    for (parts->words = t->n; review_word_next(text, n, &at, &begin, &clean); parts->words++) {
    }
    if (!clean) parts->breaks++; // blanks at the end
    parts->whole = parts->ended && !lost && parts->words == t->n && belief_end(now) > 0;
}

// "A, but B" and "Although A, B": set the weights of the clauses, sentence by sentence. The "but"
// of "anything but" turns nothing and becomes an ordinary word.
static void gold_weigh_clauses(GoldText *t) {
    const double weak = 0.6, strong = 1.4;
    for (int begin = 0, end; begin < t->n; begin = end + 1) {
        int but = -1, although = -1, comma = -1;
        for (end = begin; end < t->n && t->mark[end] != '.'; end++) {
            bool anything = end > begin && t->is[end - 1].kind == GOLD_DENIAL;
            if (t->is[end].kind == GOLD_BUT && anything) t->is[end].kind = GOLD_PLAIN;
            else if (t->is[end].kind == GOLD_BUT && but < 0) but = end;
            else if (t->is[end].kind == GOLD_ALTHOUGH && although < 0) although = end;
            else if (t->mark[end] == ',' && comma < 0) comma = end;
        }
        for (int i = begin; i < end && but >= 0; i++) t->weight[i] *= i < but ? weak : strong;
        int last = although == begin && comma >= 0 ? comma : end; // where its clause ends
        for (int i = begin; i < end && although >= 0; i++)
            t->weight[i] *= i >= although && i < last ? weak : strong;
    }
}

// The factor of the denial that governs word i, 1 if there is none. It must stand in the same
// clause, not too far back, and no other opinion may come between, but for "not good and touching".
static double gold_denial(const GoldText *t, int i) {
    for (int j = i - 1; j >= 0 && j >= i - GOLD_DENIAL_REACH; j--) {
        GoldKind kind = t->is[j].kind;
        bool joined = t->is[j + 1].kind == GOLD_AND;
        if (kind == GOLD_DENIAL) return t->is[j].value;
        if (t->mark[j] || kind == GOLD_BUT || kind == GOLD_ALTHOUGH) break;
        if (kind == GOLD_OPINION && !joined) break;
    }
    return 1;
}

// Sum of the opinions, each with its degree, denial, clause weight and repetition.
static double gold_opinion(const GoldText *t) {
    double sum = 0;
    for (int i = 0; i < t->n; i++) {
        double value = t->is[i].value;
        if (t->is[i].kind == GOLD_STARS && i > 0 && t->is[i - 1].kind == GOLD_NUMBER)
            value = 0.5 * (t->is[i - 1].value - 5.5);
        else if (t->is[i].kind != GOLD_OPINION) continue;
        if (i > 0 && t->is[i - 1].kind == GOLD_DEGREE) value *= t->is[i - 1].value;
        value *= gold_denial(t, i);
        for (int j = 0; j < i; j++)
            if (t->key[j] == t->key[i]) value *= 0.5;
        sum += value * t->weight[i];
    }
    return sum;
}

// Words said twice in a row, and phrases of three words that came before.
static int gold_repeats(const GoldText *t) {
    int repeats = 0;
    for (int i = 1; i < t->n; i++) {
        bool again = t->key[i] == t->key[i - 1];
        for (int j = 2; j < i && !again; j++)
            again = t->key[j] == t->key[i] && t->key[j - 1] == t->key[i - 1] &&
                    t->key[j - 2] == t->key[i - 2];
        repeats += again;
    }
    return repeats;
}

// Score text[0..n) and say how the score came about.
static GoldParts gold_parts(const Gold *gold, const char *text, size_t n) {
    GoldParts parts = {0};
    GoldText t;
    gold_read(gold, text, n, &t, &parts);
    gold_weigh_clauses(&t);
    parts.opinion = gold_opinion(&t);
    parts.repeats = gold_repeats(&t);
    parts.faults = 4 * (1 - pow(0.7, parts.breaks)) + 4 * (1 - pow(0.75, parts.repeats));
    if (!parts.ended) parts.faults += 1.5;
    else if (!parts.whole) parts.faults += 0.5;
    if (parts.words < 10) parts.faults += 0.25 * (10 - parts.words);
    if (parts.words > 42) parts.faults += fmin(0.1 * (parts.words - 42), 3);
    parts.score = fmax(6 * tanh(parts.opinion / 6) - parts.faults, -6);
    return parts;
}

// The log-odds that prompt and completion together are praise, in [-6, 6]. Any bytes will do.
static double gold_score(const Gold *gold, const char *prompt, const char *completion) {
    char *text = text_format("%s%s", prompt, completion);
    double score = gold_parts(gold, text, strlen(text)).score;
    free(text);
    return score;
}

// The same as a probability.
static double gold_probability(double score) { return 1 / (1 + exp(-score)); }

#endif
