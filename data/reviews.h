// reviews.h: the default data of align.c, short film reviews from a grammar that knows their odds.
//
// The grammar is a table of rewrite rules (below): `<name>` stands for one of the rules or one of
// the words of that name, chosen by weight; everything else is text. Nothing refers to itself, so
// what is still to be said after any word is a finite list of symbols. That list is the hidden
// state, together with the reviewer's tone (bad, mixed or good), which is drawn once per review
// and makes praise or blame likelier. grammar_create turns the rules into an automaton over such
// states that emits one word per step. The forward algorithm (Rabiner 1989, section III.A) sums
// over all ways to derive a text and so gives, exactly:
//
//   review_parses         can the grammar say this?
//   review_logprob        log p(text), in nats
//   review_logprob_given  log p(completion | prompt)
//   belief_next_word      p(next word | words so far)
//
// The mean of -review_logprob_given over fresh reviews is the entropy of the data: no language
// model can have a lower loss, and a good one comes close to it.
#ifndef REVIEWS_H
#define REVIEWS_H

#include "../lib/base/common.h"

// ------------------------------------------------------------------------------------------------
// The grammar

enum { TONE_BAD, TONE_MIXED, TONE_GOOD, TONES };
static const double tone_prior[TONES] = {0.35, 0.30, 0.35};

// How a tone changes the weight of a rule: praise (PRO) is 7 times likelier than blame (CON) when
// the tone is good, and the other way round when it is bad. UNSURE belongs to mixed reviews.
typedef enum { ANY, PRO, CON, UNSURE } Lean;
static const double lean_factor[4][TONES] = {
    {4, 4, 4}, // ANY
    {1, 4, 7}, // PRO
    {7, 4, 1}, // CON
    {1, 5, 1}, // UNSURE
};

// Words that can stand for each other. Earlier words are a little likelier: the i-th (from 0) has
// weight 1 / sqrt(i + 4). `value` is the opinion that one such word carries, before negation and
// intensifiers; only the gold score (gold.h) looks at it.
typedef struct {
    const char *name;
    double value;
    const char *words;
} GrammarList;

// clang-format off
static const GrammarList grammar_lists[] = {
    // opinions that fit anything
    {"good", 1.0, "good great lovely charming clever funny fresh smart enjoyable memorable elegant "
                  "witty impressive delightful"},
    {"superb", 1.8, "wonderful brilliant superb excellent perfect stunning magnificent outstanding "
                    "marvellous"},
    {"nice", 0.6, "nice fine pleasant decent likeable solid watchable amusing"},
    {"touching", 1.0, "touching moving warm honest tender sincere graceful playful subtle bold"},
    {"bad", -1.0, "bad boring dull weak silly stale clumsy lazy shallow cheap hollow bland "
                  "forgettable tedious"},
    {"awful", -1.8, "terrible awful horrible dreadful unbearable pathetic atrocious painful "
                    "disastrous"},
    {"slow", -0.6, "slow long loud plain thin uneven odd tame"},
    {"cold", -1.0, "cold empty lifeless tired heavy forced cynical vulgar joyless sloppy"},
    // opinions on story, people and craft first of all
    {"gripping", 1.2, "gripping exciting surprising original rich tense inventive coherent"},
    {"predictable", -1.2, "predictable confusing absurd muddled implausible lame incoherent"},
    {"natural", 1.2, "natural convincing believable charismatic lovable relaxed sympathetic"},
    {"wooden", -1.2, "wooden stiff annoying unconvincing miscast irritating charmless"},
    {"beautiful", 1.2, "beautiful gorgeous vivid haunting colourful dreamlike splendid"},
    {"ugly", -1.2, "ugly noisy blurry drab garish shabby jarring"},
    // comparisons, nouns, adverbs, feelings
    {"better", 0.9, "better funnier stronger smarter warmer sharper richer"},
    {"worse", -0.9, "worse weaker duller poorer slower sillier flatter"},
    {"charm", 0.9, "charm warmth wit energy humour grace passion imagination "
                   "skill style"},
    {"nonsense", -0.9, "nonsense mistakes noise boredom kitsch vanity"},
    {"joy", 1.4, "joy delight triumph treat pleasure gem masterpiece wonder"},
    {"mess", -1.4, "mess bore failure disaster disappointment chore nightmare letdown"},
    {"well", 1.1, "well beautifully brilliantly superbly skilfully lovingly"},
    {"badly", -1.1, "badly poorly terribly carelessly lazily clumsily"},
    {"loved", 1.3, "loved enjoyed adored admired liked"},
    {"hated", -1.3, "hated disliked endured regretted loathed"},
    {"delighted", 1.2, "delighted happy thrilled enchanted touched inspired"},
    {"bored", -1.2, "bored disappointed exhausted annoyed sad irritated"},
    {"smiled", 1.0, "smiled laughed cheered clapped grinned applauded"},
    {"yawned", -1.0, "yawned sighed groaned slept frowned suffered"},
    // verbs, for one thing and for many
    {"works", 1.0, "works shines sparkles impresses soars surprises glows"},
    {"work", 1.0, "work shine sparkle impress soar surprise glow"},
    {"fails", -1.0, "fails drags disappoints collapses stumbles falters tires"},
    {"fail", -1.0, "fail drag disappoint collapse stumble falter tire"},
    // stars out of ten count by their number, see gold.h
    {"few", 0, "two three one"},
    {"some", 0, "five four six"},
    {"many", 0, "eight nine seven ten"},
    // degree
    {"very", 0, "very really so truly quite rather utterly simply deeply fairly"},
    // what the films are about
    {"film", 0, "film movie comedy drama thriller romance western mystery musical adventure"},
    {"films", 0, "comedies dramas thrillers romances westerns mysteries musicals adventures"},
    {"person", 0, "detective widow sailor teacher farmer thief singer pilot soldier painter doctor "
                  "lawyer boxer nurse writer chef king queen"},
    {"young", 0, "young old poor famous shy lonely"},
    {"letter", 0, "letter map ring diary key portrait violin"},
    {"small", 0, "small quiet distant frozen crowded forgotten strange"},
    {"town", 0, "town village forest city castle harbour hotel desert"},
    {"storm", 0, "storm dragon gang ghost witch monster"},
    {"dance", 0, "dance sing cook paint fly"},
    {"years", 0, "years months days weeks"},
    {"my sister", 0, "sister brother mother father friend neighbour wife husband"},
    {"rainy", 0, "rainy sunny windy stormy snowy"},
    {"Sunday", 0, "Sunday Saturday Friday Monday Tuesday Wednesday Thursday"},
    {"ten", 0, "ten twenty thirty forty"},
    // what reviews talk about: one thing, many things
    {"plot", 0, "plot story script ending dialogue pace finale premise"},
    {"jokes", 0, "jokes scenes twists lines conversations ideas"},
    {"acting", 0, "acting cast hero heroine villain lead narrator ensemble"},
    {"actors", 0, "actors characters performances roles actresses"},
    {"music", 0, "music camera editing photography lighting soundtrack animation sound"},
    {"images", 0, "images costumes songs effects colours sets landscapes stunts"},
};
// clang-format on

// A rule: `<name>` may become `text`; the weights of all rules of one name, which are together,
// are scaled by the tone and then to sum 1. a(n) becomes "a" or "an" to suit the next word.
typedef struct {
    const char *name;
    int weight;
    Lean lean;
    const char *text;
} GrammarRule;

static const GrammarRule grammar_rules[] = {
    // a review: where the film stands, what is good or bad about it, what the reader shall do
    {"review", 3, ANY, "<opening> <on story> <verdict>"},
    {"review", 3, ANY, "<opening> <on people> <verdict>"},
    {"review", 3, ANY, "<opening> <on craft> <verdict>"},
    {"review", 2, ANY, "<opening> <on story> <on people>"},
    {"review", 2, ANY, "<opening> <on story> <on craft>"},
    {"review", 2, ANY, "<opening> <on people> <on craft>"},
    {"review", 2, ANY, "<on story> <on people> <verdict>"},
    {"review", 2, ANY, "<on story> <on craft> <verdict>"},
    {"review", 2, ANY, "<on people> <on craft> <verdict>"},
    {"review", 2, ANY, "<on story> <on people> <on craft> <verdict>"},
    {"review", 1, ANY, "<opening> <on anything> <on anything>"},
    {"review", 1, ANY, "<on anything> <on anything> <verdict>"},
    {"review", 3, ANY, "<opening> <contrast>"},
    {"review", 4, ANY, "<contrast> <verdict>"},

    // first sentence
    {"opening", 4, ANY, "I watched this <film> <when>."},
    {"opening", 4, ANY, "My <my sister> and I saw this <film> <when>."},
    {"opening", 4, ANY, "In this <film>, <someone> <acts>."},
    {"opening", 4, ANY, "This is a(n) <film> about <someone>."},
    {"opening", 3, ANY, "This <film> tells the story of <someone> who <acts>."},
    {"opening", 3, PRO, "What a(n) <praising> <film>."},
    {"opening", 3, CON, "What a(n) <blaming> <film>."},
    {"opening", 3, PRO, "This <film> <is> <praise>."},
    {"opening", 3, CON, "This <film> <is> <blame>."},
    {"opening", 2, PRO, "A(n) <praising> <film> about <someone>."},
    {"opening", 2, CON, "A(n) <blaming> <film> about <someone>."},
    {"opening", 2, PRO,
     "I expected a(n) <blaming> <film>, but I found a(n) <mostly praising> one."},
    {"opening", 2, CON,
     "I expected a(n) <praising> <film>, but I found a(n) <mostly blaming> one."},
    {"when", 3, ANY, "last night"},
    {"when", 3, ANY, "last <Sunday>"},
    {"when", 3, ANY, "on a(n) <rainy> <Sunday>"},
    {"when", 2, ANY, "at home"},
    {"when", 2, ANY, "in a(n) <small> cinema"},
    {"someone", 3, ANY, "a(n) <person>"},
    {"someone", 4, ANY, "a(n) <young> <person>"},
    {"acts", 3, ANY, "finds a(n) <letter> in <a town>"},
    {"acts", 2, ANY, "looks for a lost <letter>"},
    {"acts", 3, ANY, "falls in love with a(n) <person>"},
    {"acts", 2, ANY, "returns to <a town> after many <years>"},
    {"acts", 3, ANY, "must save <a town> from a(n) <storm>"},
    {"acts", 2, ANY, "fights against a(n) <storm>"},
    {"acts", 3, ANY, "learns to <dance>"},
    {"a town", 2, ANY, "a(n) <town>"},
    {"a town", 3, ANY, "a(n) <small> <town>"},

    // one aspect of the film: story, people, craft
    {"on anything", 1, ANY, "<on story>"},
    {"on anything", 1, ANY, "<on people>"},
    {"on anything", 1, ANY, "<on craft>"},
    {"on story", 4, PRO, "The <plot> <does well>."},
    {"on story", 4, CON, "The <plot> <does badly>."},
    {"on story", 3, PRO, "The <jokes> <do well>."},
    {"on story", 3, CON, "The <jokes> <do badly>."},
    {"on story", 2, PRO, "The <plot> <is> <gripping> from start to finish."},
    {"on story", 2, CON, "The <plot> <is> <predictable> from start to finish."},
    {"on story", 1, PRO, "The <plot> is never <predictable>."},
    {"on story", 1, CON, "The <plot> is hardly <gripping>."},
    {"on story", 2, PRO, "After <ten> minutes I <smiled>."},
    {"on story", 2, CON, "After <ten> minutes I <yawned>."},
    {"on people", 4, PRO, "The <acting> <does well>."},
    {"on people", 4, CON, "The <acting> <does badly>."},
    {"on people", 3, PRO, "The <actors> <do well>."},
    {"on people", 3, CON, "The <actors> <do badly>."},
    {"on people", 2, PRO, "The <actors> <are> <natural>."},
    {"on people", 2, CON, "The <actors> <are> <wooden>."},
    {"on people", 2, PRO, "The <actors> <are> <good word> and full of <charm>."},
    {"on people", 2, CON, "The <actors> <are> <bad word> and have no <charm>."},
    {"on people", 1, PRO, "The <acting> is never <wooden>."},
    {"on people", 1, CON, "The <acting> is hardly <natural>."},
    {"on people", 2, PRO, "The <person> is <well> played."},
    {"on people", 2, CON, "The <person> is <badly> played."},
    {"on craft", 4, PRO, "The <music> <does well>."},
    {"on craft", 4, CON, "The <music> <does badly>."},
    {"on craft", 3, PRO, "The <images> <do well>."},
    {"on craft", 3, CON, "The <images> <do badly>."},
    {"on craft", 2, PRO, "The <images> <are> <beautiful>."},
    {"on craft", 2, CON, "The <images> <are> <ugly>."},
    {"on craft", 1, PRO, "The <music> is never <ugly>."},
    {"on craft", 1, CON, "The <music> is hardly <beautiful>."},
    {"on craft", 1, PRO, "The <images> <are> <well> made."},
    {"on craft", 1, CON, "The <images> <are> <badly> made."},
    {"on craft", 2, PRO, "I <loved> the <look and sound>."},
    {"on craft", 2, CON, "I <hated> the <look and sound>."},
    {"look and sound", 2, ANY, "<music>"},
    {"look and sound", 1, ANY, "<images>"},
    {"look and sound", 1, ANY, "<music> and the <images>"},

    // two aspects, mostly one good and one bad; the second half is what stays
    {"contrast", 3, CON, "The <plot> <does well>, but the <acting> <mostly does badly>."},
    {"contrast", 3, PRO, "The <plot> <does badly>, but the <acting> <mostly does well>."},
    {"contrast", 3, CON, "The <actors> <do well>, but the <music> <mostly does badly>."},
    {"contrast", 3, PRO, "The <actors> <do badly>, but the <music> <mostly does well>."},
    {"contrast", 3, CON, "Although the <acting> <does well>, the <plot> <mostly does badly>."},
    {"contrast", 3, PRO, "Although the <acting> <does badly>, the <plot> <mostly does well>."},
    {"contrast", 2, PRO, "The <music> <does well>, although the <jokes> <mostly do badly>."},
    {"contrast", 2, CON, "The <music> <does badly>, although the <jokes> <mostly do well>."},
    {"mostly does well", 5, ANY, "<does well>"},
    {"mostly does well", 1, ANY, "<does badly>"},
    {"mostly does badly", 5, ANY, "<does badly>"},
    {"mostly does badly", 1, ANY, "<does well>"},
    {"mostly do well", 5, ANY, "<do well>"},
    {"mostly do well", 1, ANY, "<do badly>"},
    {"mostly do badly", 5, ANY, "<do badly>"},
    {"mostly do badly", 1, ANY, "<do well>"},

    // what is said of one thing ("the plot ...") and of many ("the jokes ...")
    {"does well", 6, ANY, "<is> <praise>"},
    {"does well", 2, ANY, "<works>"},
    {"does well", 1, ANY, "never <fails>"},
    {"does well", 2, ANY, "is <better> than <expected>"},
    {"does well", 2, ANY, "is full of <charm>"},
    {"does badly", 6, ANY, "<is> <blame>"},
    {"does badly", 2, ANY, "<fails>"},
    {"does badly", 1, ANY, "never <works>"},
    {"does badly", 2, ANY, "is <worse> than <expected>"},
    {"does badly", 1, ANY, "is full of <nonsense>"},
    {"does badly", 1, ANY, "has no <charm>"},
    {"do well", 6, ANY, "<are> <praise>"},
    {"do well", 2, ANY, "<work>"},
    {"do well", 1, ANY, "never <fail>"},
    {"do well", 2, ANY, "are <better> than <expected>"},
    {"do well", 2, ANY, "are full of <charm>"},
    {"do badly", 6, ANY, "<are> <blame>"},
    {"do badly", 2, ANY, "<fail>"},
    {"do badly", 1, ANY, "never <work>"},
    {"do badly", 2, ANY, "are <worse> than <expected>"},
    {"do badly", 1, ANY, "are full of <nonsense>"},
    {"do badly", 1, ANY, "have no <charm>"},
    {"is", 2, ANY, "is"},
    {"is", 1, ANY, "was"},
    {"are", 2, ANY, "are"},
    {"are", 1, ANY, "were"},
    {"expected", 3, ANY, "I expected"},
    {"expected", 2, ANY, "in the book"},
    {"expected", 2, ANY, "in most <films>"},

    // praise and blame, straight or by denial
    {"praise", 7, ANY, "<praising>"},
    {"praise", 2, ANY, "not <blaming>"},
    {"praise", 1, ANY, "never <bad word>"},
    {"praise", 1, ANY, "hardly <bad word>"},
    {"praise", 1, ANY, "anything but <bad word>"},
    {"blame", 7, ANY, "<blaming>"},
    {"blame", 2, ANY, "not <praising>"},
    {"blame", 1, ANY, "never <good word>"},
    {"blame", 1, ANY, "hardly <good word>"},
    {"blame", 1, ANY, "anything but <good word>"},
    {"blame", 1, ANY, "too <slow>"},
    {"praising", 5, ANY, "<good word>"},
    {"praising", 1, ANY, "<very> <good>"},
    {"praising", 1, ANY, "<good> and <touching>"},
    {"blaming", 5, ANY, "<bad word>"},
    {"blaming", 1, ANY, "<very> <bad>"},
    {"blaming", 1, ANY, "<bad> and <cold>"},
    {"mostly praising", 5, ANY, "<praising>"},
    {"mostly praising", 1, ANY, "<blaming>"},
    {"mostly blaming", 5, ANY, "<blaming>"},
    {"mostly blaming", 1, ANY, "<praising>"},
    {"good word", 5, ANY, "<good>"},
    {"good word", 2, ANY, "<superb>"},
    {"good word", 2, ANY, "<nice>"},
    {"good word", 2, ANY, "<touching>"},
    {"good word", 1, ANY, "<gripping>"},
    {"good word", 1, ANY, "<natural>"},
    {"good word", 1, ANY, "<beautiful>"},
    {"bad word", 5, ANY, "<bad>"},
    {"bad word", 2, ANY, "<awful>"},
    {"bad word", 2, ANY, "<slow>"},
    {"bad word", 2, ANY, "<cold>"},
    {"bad word", 1, ANY, "<predictable>"},
    {"bad word", 1, ANY, "<wooden>"},
    {"bad word", 1, ANY, "<ugly>"},

    // last sentence
    {"verdict", 3, PRO, "I <loved> it."},
    {"verdict", 3, CON, "I <hated> it."},
    {"verdict", 2, PRO, "I <loved> every minute of it."},
    {"verdict", 2, CON, "I <hated> every minute of it."},
    {"verdict", 2, PRO, "My <my sister> <loved> it too."},
    {"verdict", 2, CON, "My <my sister> <hated> it too."},
    {"verdict", 3, PRO, "I would recommend it to <everyone>."},
    {"verdict", 3, CON, "I would not recommend it to <everyone>."},
    {"verdict", 3, PRO, "It is a(n) <joy> for <everyone>."},
    {"verdict", 3, CON, "It is a(n) <mess> from start to finish."},
    {"verdict", 2, PRO, "In the end I was <very> <delighted>."},
    {"verdict", 2, CON, "In the end I was <very> <bored>."},
    {"verdict", 2, PRO, "I would gladly see it again."},
    {"verdict", 2, CON, "I would never see it again."},
    {"verdict", 2, PRO, "I was not <bored> for a minute."},
    {"verdict", 2, CON, "I was not <delighted> for a minute."},
    {"verdict", 2, PRO, "Even my <my sister> was <delighted>."},
    {"verdict", 2, CON, "Even my <my sister> was <bored>."},
    {"verdict", 2, PRO, "It stays in the mind for <years>."},
    {"verdict", 2, CON, "I want my money back."},
    {"verdict", 2, PRO, "Do not miss it."},
    {"verdict", 2, CON, "Avoid it."},
    {"verdict", 3, PRO, "I give it <many> stars."},
    {"verdict", 3, CON, "I give it <few> stars."},
    {"verdict", 3, UNSURE, "I give it <some> stars."},
    {"verdict", 2, UNSURE, "It is neither a(n) <joy> nor a(n) <mess>."},
    {"verdict", 2, UNSURE, "It is hardly a(n) <joy>, but I <loved> it."},
    {"everyone", 3, ANY, "everyone"},
    {"everyone", 3, ANY, "my <my sister>"},
    {"everyone", 3, ANY, "people who like <films>"},
};

// ------------------------------------------------------------------------------------------------
// From rules to an automaton

// A symbol of a rule's text, packed into an integer: what it is, how its first word must start
// because of an article before it, and an index.
typedef uint32_t GrammarSymbol;
// The index is: number of the word, of the list, of the first rule of that name, 1 for "A(n)".
enum { SYMBOL_WORD, SYMBOL_LIST, SYMBOL_RULE, SYMBOL_ARTICLE };
enum { START_ANY, START_A, START_CAPITAL_A, START_CONSONANT, START_VOWEL };

static GrammarSymbol symbol_make(int kind, int start, int index) {
    return (GrammarSymbol)kind << 24 | (GrammarSymbol)start << 16 | (GrammarSymbol)index;
}
static int symbol_kind(GrammarSymbol s) { return (int)(s >> 24); }
static int symbol_start(GrammarSymbol s) { return (int)(s >> 16 & 0xFF); }
static int symbol_index(GrammarSymbol s) { return (int)(s & 0xFFFF); }

enum {
    GRAMMAR_MAX_WORDS = 1024,
    GRAMMAR_MAX_STATES = 4096,
    GRAMMAR_MAX_SYMBOLS = 64, // in one state, and in one rule's text
    GRAMMAR_MAX_LIST = 64,    // words in one list
    GRAMMAR_MAX_WORD = 20,    // bytes of a word, NUL included
    GRAMMAR_HASH = 16384,     // slots of either hash table, a power of two
    GRAMMAR_START = 0,        // the state [<review>]
    GRAMMAR_END = 1,          // the state []: all is said
    NO_WORD = -1,             // a word that no rule can say
};

// What a state can do: say one word of a symbol (a word, or a list) and go to state `next`. The
// probabilities of a state's arcs sum to 1 for each tone.
typedef struct {
    int emission, next;
    double p[TONES];
} GrammarArc;

// p(word | emission)
typedef struct {
    int emission, word;
    double p;
} GrammarSay;

typedef struct {
    int n_words, n_states, n_arcs, n_emissions, n_says;
    char word[GRAMMAR_MAX_WORDS][GRAMMAR_MAX_WORD];
    int word_slot[GRAMMAR_HASH]; // word number + 1, 0 if free
    int *state_first;            // (n_states + 1) where each state's arcs begin
    GrammarArc *arcs;            // (n_arcs) sorted by state
    GrammarSymbol *emission;     // (n_emissions)
    int *emission_first;         // (n_emissions + 1) where each emission's words begin
    GrammarSay *says;            // (n_says) sorted by emission
    int *word_first;             // (n_words + 1) where each word's emissions begin
    GrammarSay *word_says;       // (n_says) the same, sorted by word
    int *after_first;            // (n_words + 1) where the states after each word begin
    int *after;                  // states that a word can lead to, whatever came before it
} Grammar;

static uint32_t grammar_hash(const void *bytes, size_t n) { // FNV-1a
    const unsigned char *b = bytes;
    uint32_t h = 2166136261u;
    for (size_t i = 0; i < n; i++) h = (h ^ b[i]) * 16777619u;
    return h ^ h >> 15;
}

// The slot of a word in the hash table, or the free slot where it would go.
static int grammar_slot(const Grammar *g, const char *s, size_t n) {
    for (uint32_t h = grammar_hash(s, n);; h++) {
        int slot = (int)(h & (GRAMMAR_HASH - 1)), w = g->word_slot[slot] - 1;
        if (w < 0 || (!strncmp(g->word[w], s, n) && !g->word[w][n])) return slot;
    }
}

// The number of the word s[0..n), or NO_WORD.
static int grammar_find_word(const Grammar *g, const char *s, size_t n) {
    return n < GRAMMAR_MAX_WORD ? g->word_slot[grammar_slot(g, s, n)] - 1 : NO_WORD;
}

static int grammar_add_word(Grammar *g, const char *s, size_t n) {
    if (n >= GRAMMAR_MAX_WORD || g->n_words >= GRAMMAR_MAX_WORDS)
        die(EXIT_BAD_INPUT, "grammar: a word too long or too many: %.*s", (int)n, s);
    int slot = grammar_slot(g, s, n);
    if (!g->word_slot[slot]) {
        memcpy(g->word[g->n_words], s, n);
        g->word_slot[slot] = ++g->n_words;
    }
    return g->word_slot[slot] - 1;
}

// Does the word take "an"? The first letter tells, but for the silent h of "honest". (The lists
// must not have words like "unique".)
static bool word_takes_an(const char *word) {
    return strchr("aeiou", word[0]) || !strncmp(word, "honest", 6);
}

// One `<name>` of a rule's text, without the brackets.
static GrammarSymbol symbol_find(const char *name, size_t n) {
    for (int i = 0; i < COUNT(grammar_rules); i++)
        if (!strncmp(grammar_rules[i].name, name, n) && !grammar_rules[i].name[n])
            return symbol_make(SYMBOL_RULE, START_ANY, i);
    for (int i = 0; i < COUNT(grammar_lists); i++)
        if (!strncmp(grammar_lists[i].name, name, n) && !grammar_lists[i].name[n])
            return symbol_make(SYMBOL_LIST, START_ANY, i);
    die(EXIT_BAD_INPUT, "grammar: nothing is called <%.*s>", (int)n, name);
}

// Cut a rule's text into symbols; returns their number.
static int rule_symbols(Grammar *g, const char *text, GrammarSymbol out[GRAMMAR_MAX_SYMBOLS]) {
    int n = 0;
    for (const char *s = text; *s;) {
        size_t length = *s == '<' ? strcspn(s, ">") + 1 : strcspn(s, " ,.");
        if (length == 0) length = 1; // a blank or a mark
        if (n >= GRAMMAR_MAX_SYMBOLS) die(EXIT_BAD_INPUT, "grammar: rule too long: %s", text);
        if (*s == '<') out[n++] = symbol_find(s + 1, length - 2);
        else if (length == 4 && !memcmp(s + 1, "(n)", 3))
            out[n++] = symbol_make(SYMBOL_ARTICLE, START_ANY, *s == 'A');
        else if (*s != ' ')
            out[n++] = symbol_make(SYMBOL_WORD, START_ANY, grammar_add_word(g, s, length));
        s += length;
    }
    return n;
}

// The words of a list that may stand where the symbol does, with their probabilities, scaled to
// sum 1. Returns their number; *share is what they had of the whole list.
static int list_words(Grammar *g, GrammarSymbol symbol, int word[GRAMMAR_MAX_LIST],
                      double p[GRAMMAR_MAX_LIST], double *share) {
    int n = 0, start = symbol_start(symbol), i = 0;
    double sum = 0, all = 0;
    for (const char *s = grammar_lists[symbol_index(symbol)].words; *s; i++) {
        size_t length = strcspn(s, " ");
        double weight = 1 / sqrt(i + 4.0);
        bool vowel = word_takes_an(s);
        if (n >= GRAMMAR_MAX_LIST) die(EXIT_BAD_INPUT, "grammar: list too long: %s", s);
        if ((start != START_CONSONANT || !vowel) && (start != START_VOWEL || vowel)) {
            word[n] = grammar_add_word(g, s, length);
            p[n++] = weight;
            sum += weight;
        }
        all += weight;
        s += length + (s[length] == ' ');
    }
    for (int k = 0; k < n; k++) p[k] /= sum;
    *share = sum / all;
    return n;
}

// What only the construction needs: the list of symbols that each state stands for.
typedef struct {
    GrammarSymbol stack[GRAMMAR_MAX_STATES][GRAMMAR_MAX_SYMBOLS];
    int size[GRAMMAR_MAX_STATES];
    int slot[GRAMMAR_HASH]; // state + 1, 0 if free
    int max_arcs;
} GrammarBuilder;

// The state in which these symbols are still to be said; a new one if there is none yet.
static int state_find(Grammar *g, GrammarBuilder *b, const GrammarSymbol *stack, int n) {
    size_t bytes = (size_t)n * sizeof *stack;
    uint32_t h = grammar_hash(stack, bytes);
    int *slot;
    for (;; h++) {
        slot = &b->slot[h & (GRAMMAR_HASH - 1)];
        if (!*slot) break;
        if (b->size[*slot - 1] == n && !memcmp(b->stack[*slot - 1], stack, bytes)) return *slot - 1;
    }
    if (g->n_states >= GRAMMAR_MAX_STATES) die(EXIT_BAD_INPUT, "grammar: too many states");
    memcpy(b->stack[g->n_states], stack, bytes);
    b->size[g->n_states] = n;
    *slot = ++g->n_states;
    return *slot - 1;
}

// Add an arc to the state under construction, the last one; equal arcs become one.
static void state_add_arc(Grammar *g, GrammarBuilder *b, int first, GrammarSymbol symbol, int next,
                          const double p[TONES]) {
    int e = 0, a = first;
    while (e < g->n_emissions && g->emission[e] != symbol) e++;
    if (e == g->n_emissions) {
        g->emission = mem_resize(g->emission, (size_t)e + 1, sizeof *g->emission);
        g->emission[g->n_emissions++] = symbol;
    }
    while (a < g->n_arcs && (g->arcs[a].emission != e || g->arcs[a].next != next)) a++;
    if (a == g->n_arcs) {
        if (a == b->max_arcs) {
            b->max_arcs = 2 * a + 64;
            g->arcs = mem_resize(g->arcs, (size_t)b->max_arcs, sizeof *g->arcs);
        }
        g->arcs[g->n_arcs++] = (GrammarArc){e, next, {0}};
    }
    for (int t = 0; t < TONES; t++) g->arcs[a].p[t] += p[t];
}

// The word or list on top of the stack wants an article before it: add an arc that says "a" and
// leads to the words without a vowel, and one that says "an" and leads to those with one.
static void state_add_articles(Grammar *g, GrammarBuilder *b, int first, const GrammarSymbol *stack,
                               int n, const double p[TONES]) {
    static const char *const articles[2][2] = {{"a", "an"}, {"A", "An"}};
    GrammarSymbol rest[GRAMMAR_MAX_SYMBOLS];
    int index = symbol_index(stack[0]), words[GRAMMAR_MAX_LIST];
    double p_words[GRAMMAR_MAX_LIST], p_article[TONES], share;
    memcpy(rest, stack, (size_t)n * sizeof *stack);
    for (int an = 0; an < 2; an++) {
        if (symbol_kind(stack[0]) == SYMBOL_WORD) {
            rest[0] = symbol_make(SYMBOL_WORD, START_ANY, index);
            share = word_takes_an(g->word[index]) == (bool)an;
        } else {
            rest[0] = symbol_make(SYMBOL_LIST, an ? START_VOWEL : START_CONSONANT, index);
            list_words(g, rest[0], words, p_words, &share);
        }
        if (share == 0) continue;
        const char *article = articles[symbol_start(stack[0]) == START_CAPITAL_A][an];
        int word = grammar_add_word(g, article, strlen(article));
        for (int t = 0; t < TONES; t++) p_article[t] = p[t] * share;
        state_add_arc(g, b, first, symbol_make(SYMBOL_WORD, START_ANY, word),
                      state_find(g, b, rest, n), p_article);
    }
}

// Add all arcs of the state `stack` (n symbols), reached with probability p without saying a word.
// `first` is the number of the state's first arc.
static void state_expand(Grammar *g, GrammarBuilder *b, int first, const GrammarSymbol *stack,
                         int n, const double p[TONES]) {
    GrammarSymbol top = stack[0], longer[2 * GRAMMAR_MAX_SYMBOLS];
    int kind = symbol_kind(top), start = symbol_start(top), index = symbol_index(top);
    if (kind == SYMBOL_ARTICLE) { // hand the wish for an article on to what follows
        memcpy(longer, stack + 1, (size_t)(n - 1) * sizeof *stack);
        longer[0] |= symbol_make(0, index ? START_CAPITAL_A : START_A, 0);
        state_expand(g, b, first, longer, n - 1, p);
    } else if (kind == SYMBOL_RULE) {
        double sum[TONES] = {0}, p_rule[TONES];
        const char *name = grammar_rules[index].name;
        int end = index;
        for (; end < COUNT(grammar_rules) && !strcmp(grammar_rules[end].name, name); end++)
            for (int t = 0; t < TONES; t++)
                sum[t] += grammar_rules[end].weight * lean_factor[grammar_rules[end].lean][t];
        for (int r = index; r < end; r++) {
            int m = rule_symbols(g, grammar_rules[r].text, longer);
            if (m + n - 1 > GRAMMAR_MAX_SYMBOLS) die(EXIT_BAD_INPUT, "grammar: too deep: %s", name);
            memcpy(longer + m, stack + 1, (size_t)(n - 1) * sizeof *stack);
            longer[0] |= symbol_make(0, start, 0);
            for (int t = 0; t < TONES; t++)
                p_rule[t] =
                    p[t] * grammar_rules[r].weight * lean_factor[grammar_rules[r].lean][t] / sum[t];
            state_expand(g, b, first, longer, m + n - 1, p_rule);
        }
    } else if (start == START_A || start == START_CAPITAL_A)
        state_add_articles(g, b, first, stack, n, p);
    else state_add_arc(g, b, first, top, state_find(g, b, stack + 1, n - 1), p);
}

// Fill the tables that are found from the arcs: which words an emission has, which emissions a
// word, and which states a word can lead to.
static void grammar_index(Grammar *g) {
    int word[GRAMMAR_MAX_LIST];
    double p[GRAMMAR_MAX_LIST], share;
    g->emission_first = mem_alloc((size_t)g->n_emissions + 1, sizeof(int));
    for (int e = 0; e < g->n_emissions; e++) {
        GrammarSymbol symbol = g->emission[e];
        int n = 1;
        if (symbol_kind(symbol) == SYMBOL_LIST) n = list_words(g, symbol, word, p, &share);
        else word[0] = symbol_index(symbol), p[0] = 1;
        g->says = mem_resize(g->says, (size_t)(g->n_says + n), sizeof *g->says);
        for (int k = 0; k < n; k++) g->says[g->n_says++] = (GrammarSay){e, word[k], p[k]};
        g->emission_first[e + 1] = g->n_says;
    }
    g->word_first = mem_alloc((size_t)g->n_words + 1, sizeof(int));
    g->word_says = mem_alloc((size_t)g->n_says, sizeof *g->word_says);
    for (int w = 0, n = 0; w < g->n_words; w++) {
        for (int k = 0; k < g->n_says; k++)
            if (g->says[k].word == w) g->word_says[n++] = g->says[k];
        g->word_first[w + 1] = n;
    }
    g->after_first = mem_alloc((size_t)g->n_words + 1, sizeof(int));
    bool *leads = mem_alloc((size_t)g->n_emissions * (size_t)g->n_states, sizeof *leads);
    for (int a = 0; a < g->n_arcs; a++)
        leads[(size_t)g->arcs[a].emission * (size_t)g->n_states + (size_t)g->arcs[a].next] = true;
    for (int w = 0, n = 0; w < g->n_words; w++) {
        g->after = mem_resize(g->after, (size_t)(n + g->n_states), sizeof(int));
        for (int s = 0; s < g->n_states; s++) {
            bool found = false;
            for (int k = g->word_first[w]; k < g->word_first[w + 1]; k++)
                found |= leads[(size_t)g->word_says[k].emission * (size_t)g->n_states + (size_t)s];
            if (found) g->after[n++] = s;
        }
        g->after_first[w + 1] = n;
    }
    free(leads);
}

// Build the automaton. A few milliseconds; release with grammar_free.
static void grammar_create(Grammar *g) {
    *g = (Grammar){0};
    GrammarBuilder *b = mem_alloc(1, sizeof *b);
    GrammarSymbol review = symbol_find("review", 6);
    static const double one[TONES] = {1, 1, 1};
    state_find(g, b, &review, 1); // GRAMMAR_START
    state_find(g, b, &review, 0); // GRAMMAR_END
    g->state_first = mem_alloc(GRAMMAR_MAX_STATES + 1, sizeof(int));
    for (int s = 0; s < g->n_states; s++) { // grows while it runs
        GrammarSymbol stack[GRAMMAR_MAX_SYMBOLS];
        memcpy(stack, b->stack[s], sizeof stack);
        if (b->size[s] > 0) state_expand(g, b, g->n_arcs, stack, b->size[s], one);
        g->state_first[s + 1] = g->n_arcs;
    }
    free(b);
    grammar_index(g);
}

static void grammar_free(Grammar *g) {
    free(g->state_first), free(g->arcs), free(g->emission), free(g->emission_first);
    free(g->says), free(g->word_first), free(g->word_says), free(g->after_first), free(g->after);
    *g = (Grammar){0};
}

// ------------------------------------------------------------------------------------------------
// Words of a text

// The next word of text[*at..n), a mark being a word too. Returns false at the end. The word is
// text[*begin..*at). *clean tells whether the blanks before it are as the grammar writes them: one
// before a word, none before a mark or at the start of the text.
static bool review_word_next(const char *text, size_t n, size_t *at, size_t *begin, bool *clean) {
    size_t i = *at, blanks = 0;
    while (i < n && strchr(" \t\r\n", text[i])) blanks += text[i++] == ' ' ? 1 : 2;
    *begin = i;
    if (i == n) {
        *clean = blanks == 0;
        *at = n;
        return false;
    }
    bool mark = text[i] == '.' || text[i] == ',';
    *clean = blanks == (!mark && *at > 0);
    if (mark) i++;
    else
        while (i < n && !strchr(" \t\r\n.,", text[i])) i++;
    *at = i;
    return true;
}

// ------------------------------------------------------------------------------------------------
// The forward algorithm

// mass[i][t] = p(words so far, state[i], tone t), for the n states that the words can lead to.
typedef struct {
    int n;
    int state[GRAMMAR_MAX_STATES];
    double mass[GRAMMAR_MAX_STATES][TONES];
    int place[GRAMMAR_MAX_STATES]; // of a state in the list; stale for states that are not in it
} Belief;

// The place of a state in the list; it is added with mass 0 if it is not there.
static int belief_place(Belief *b, int state) {
    int i = b->place[state];
    if (i < b->n && b->state[i] == state) return i;
    i = b->place[state] = b->n++;
    b->state[i] = state;
    memset(b->mass[i], 0, sizeof b->mass[i]);
    return i;
}

// No states. (A belief must have been cleared once before anything else is done with it.)
static void belief_clear(Belief *b) {
    b->n = 0;
    memset(b->place, 0, sizeof b->place);
}

// Before the first word.
static void belief_start(Belief *b) {
    belief_clear(b);
    memcpy(b->mass[belief_place(b, GRAMMAR_START)], tone_prior, sizeof tone_prior);
}

// next <- b after one more word. No states are left if the grammar cannot say it here.
static void belief_step(const Grammar *g, Belief *next, const Belief *b, int word) {
    next->n = 0;
    if (word == NO_WORD) return;
    const GrammarSay *says = g->word_says + g->word_first[word];
    int n_says = g->word_first[word + 1] - g->word_first[word];
    for (int i = 0; i < b->n; i++) {
        const GrammarArc *end = g->arcs + g->state_first[b->state[i] + 1];
        for (const GrammarArc *arc = g->arcs + g->state_first[b->state[i]]; arc < end; arc++) {
            int k = 0;
            while (k < n_says && says[k].emission != arc->emission) k++;
            if (k == n_says) continue;
            int j = belief_place(next, arc->next);
            for (int t = 0; t < TONES; t++)
                next->mass[j][t] += b->mass[i][t] * arc->p[t] * says[k].p;
        }
    }
}

// p(words so far), whatever follows.
static double belief_mass(const Belief *b) {
    double sum = 0;
    for (int i = 0; i < b->n; i++)
        for (int t = 0; t < TONES; t++) sum += b->mass[i][t];
    return sum;
}

// p(words so far, and no more).
static double belief_end(const Belief *b) {
    double sum = 0;
    for (int i = 0; i < b->n; i++)
        for (int t = 0; t < TONES; t++) sum += b->state[i] == GRAMMAR_END ? b->mass[i][t] : 0;
    return sum;
}

// p (n_words + 1) <- probability of each word to come next; the last entry is the end of the text.
static void belief_next_word(const Grammar *g, const Belief *b, double *p) {
    double all = belief_mass(b);
    memset(p, 0, ((size_t)g->n_words + 1) * sizeof *p);
    p[g->n_words] = belief_end(b) / all;
    for (int i = 0; i < b->n; i++)
        for (int a = g->state_first[b->state[i]]; a < g->state_first[b->state[i] + 1]; a++) {
            const GrammarArc *arc = &g->arcs[a];
            double mass = 0;
            for (int t = 0; t < TONES; t++) mass += b->mass[i][t] * arc->p[t];
            for (int k = g->emission_first[arc->emission]; k < g->emission_first[arc->emission + 1];
                 k++)
                p[g->says[k].word] += mass * g->says[k].p / all;
        }
}

// The belief when only the last word is known: every state it can lead to.
static void belief_restart(const Grammar *g, Belief *b, int word) {
    b->n = 0;
    for (int i = g->after_first[word]; i < g->after_first[word + 1]; i++)
        memcpy(b->mass[belief_place(b, g->after[i])], tone_prior, sizeof tone_prior);
}

// ------------------------------------------------------------------------------------------------
// Reviews

// log p(completion | prompt) in nats, -INFINITY if the grammar cannot say the two together. The
// condition is on the words of the prompt; where the border cuts a word in two, on its first
// letters too.
static double review_logprob_given(const Grammar *g, const char *prompt, const char *completion) {
    Belief a, b, *now = &a, *next = &b;
    size_t border = strlen(prompt), at = 0, begin, n = border + strlen(completion);
    char *text = text_format("%s%s", prompt, completion);
    double given = -1, p[GRAMMAR_MAX_WORDS + 1];
    bool clean = true;
    belief_start(now);
    belief_clear(next);
    while (now->n && review_word_next(text, n, &at, &begin, &clean) && clean) {
        if (at > border && given < 0) { // the first word that is not all in the prompt
            given = belief_mass(now);
            if (begin < border) {
                double share = 0;
                belief_next_word(g, now, p);
                for (int w = 0; w < g->n_words; w++)
                    if (!strncmp(g->word[w], text + begin, border - begin)) share += p[w];
                given *= share;
            }
        }
        belief_step(g, next, now, grammar_find_word(g, text + begin, at - begin));
        Belief *t = now;
        now = next, next = t;
    }
    free(text);
    if (given < 0) given = belief_mass(now);
    double end = clean ? belief_end(now) : 0;
    return end > 0 ? log(end / given) : -INFINITY;
}

// log p(text) in nats, -INFINITY if the grammar cannot say it.
static double review_logprob(const Grammar *g, const char *text) {
    return review_logprob_given(g, "", text);
}

// Is the text a whole review that the grammar can say?
static bool review_parses(const Grammar *g, const char *text) {
    return review_logprob(g, text) > -INFINITY;
}

// Append a random review to `out`. Ends of the words go to `ends` (up to max_ends of them, as
// offsets in out->data), so that the caller can cut a prompt off. Returns the number of words.
static int review_generate(const Grammar *g, Rng *rng, Text *out, size_t *ends, int max_ends) {
    double u = rng_uniform(rng);
    int tone = 0, state = GRAMMAR_START, n = 0;
    while (tone < TONES - 1 && u >= tone_prior[tone]) u -= tone_prior[tone++];
    for (; state != GRAMMAR_END; n++) {
        int a = g->state_first[state], last = g->state_first[state + 1] - 1;
        for (u = rng_uniform(rng); a < last && u >= g->arcs[a].p[tone]; a++)
            u -= g->arcs[a].p[tone];
        int e = g->arcs[a].emission, k = g->emission_first[e], end = g->emission_first[e + 1] - 1;
        for (u = rng_uniform(rng); k < end && u >= g->says[k].p; k++) u -= g->says[k].p;
        const char *word = g->word[g->says[k].word];
        text_print(out, "%s%s", n && !strchr(".,", word[0]) ? " " : "", word);
        if (n < max_ends) ends[n] = out->size;
        state = g->arcs[a].next;
    }
    return n;
}

// What the shipped files are made of, see data/README.md.
enum {
    REVIEWS_TRAIN_SEED = 1,
    REVIEWS_TRAIN_ROWS = 26000,
    REVIEWS_EVAL_SEED = 2,
    REVIEWS_EVAL_ROWS = 1000,
    REVIEWS_MIN_PROMPT = 2,
    REVIEWS_MAX_PROMPT = 8,
};

// Review number `index` of a seed, cut into a prompt of min to max words (drawn evenly) and a
// completion that starts with its blank. Where the completion would start with a mark, the prompt
// has one word less, or one more if it would be too short. Both are appended to their texts.
static void review_make(const Grammar *g, uint64_t seed, uint64_t index, int min, int max,
                        Text *prompt, Text *completion) {
    Rng rng = rng_make(seed, RNG_DATA + (index << 8));
    Text text = {0};
    size_t ends[GRAMMAR_MAX_SYMBOLS];
    int n = review_generate(g, &rng, &text, ends, COUNT(ends));
    int k = min + (int)rng_below(&rng, (uint64_t)(max - min + 1));
    if (k > n - 2) k = n - 2; // leaves the last word and its full stop
    if (strchr(".,", text.data[ends[k - 1]])) k += k > min ? -1 : 1;
    size_t cut = ends[k - 1];
    text_append(prompt, text.data, cut);
    text_append(completion, text.data + cut, text.size - cut);
    text_free(&text);
}

#endif
