// kto_winrates.c: reads what evaluate measured of policies trained on the same preferences, a file
// for each seed, and says whether three claims of the KTO paper hold here (Ethayarajh et al. 2024).
//
// cc -O3 -march=native -fno-math-errno dev/repro/kto_winrates.c -o kto_winrates -lcjson -lm
//
//     ./kto_winrates --evaluations A.json,B.json,..      files of evaluate --output
//
// dev/repro/kto_winrates.sh makes the files and has the criteria. In all files policies have the
// same names in the same order, dpo, kto, kto_one, kto_drop90 and kto_drop90_plain among them, and
// won over the baseline by gold score. All intervals are Student's over seeds, 90%; differences are
// paired by seed.
//
// Exit code 0: all three are REPRODUCED, or fewer than 5 seeds allow no verdicts; else 1.
#include "../../lib/base/common.h"
#include "../../lib/base/flags.h"
#include "../../lib/base/stats.h"

enum { MAX_SEEDS = 64, MAX_POLICIES = 32, NEEDED_SEEDS = 5 };
static const double LEVEL = 0.9, MARGIN = 0.02;

typedef struct {
    char *name;
    double rate[MAX_SEEDS], kl[MAX_SEEDS], gold[MAX_SEEDS], length[MAX_SEEDS];
} Policy;

typedef struct {
    int seeds, n;
    Policy policies[MAX_POLICIES];
} Table;

// Ordered so that of two verdicts on one claim the larger one counts.
typedef enum { REPRODUCED, NOT_DISTINGUISHED, CONTRADICTED } Verdict;
static const char *const verdict_names[] = {"REPRODUCED", "NOT DISTINGUISHED", "CONTRADICTED"};

// ------------------------------------------------------------------------------------------------
// Reading

// The number `key` of an object; `name` and `path` are for the message if there is none.
static double number_of(const cJSON *object, const char *key, const char *name, const char *path) {
    const cJSON *item = json_get(object, key);
    if (!cJSON_IsNumber(item))
        die(EXIT_BAD_INPUT,
            "%s: policy %s has no number \"%s\"; was evaluate run with --baseline, --ref_model and "
            "--gold?",
            path, name, key);
    return item->valuedouble;
}

// Add a seed's file. Dies if its policies are not those of the files before.
static void table_read(Table *t, const char *path) {
    if (t->seeds == MAX_SEEDS) die(EXIT_USAGE, "more than %d files", MAX_SEEDS);
    cJSON *root = json_read(path);
    const cJSON *models = json_get(root, "models"), *model;
    const int seed = t->seeds++;
    int found = 0;
    if (!cJSON_IsArray(models))
        die(EXIT_BAD_INPUT, "%s: no list \"models\"; is it of evaluate --output?", path);
    cJSON_ArrayForEach(model, models) {
        const cJSON *name = json_get(model, "name");
        if (!cJSON_IsString(name)) die(EXIT_BAD_INPUT, "%s: a model without a name", path);
        if (cJSON_IsTrue(json_get(model, "baseline"))) continue;
        if (found == MAX_POLICIES) die(EXIT_BAD_INPUT, "%s: over %d models", path, MAX_POLICIES);
        Policy *p = &t->policies[found];
        if (seed == 0) p->name = text_copy(name->valuestring), t->n++;
        if (found++ >= t->n || strcmp(p->name, name->valuestring))
            die(EXIT_BAD_INPUT, "%s: model %s is not in the same place in the first file", path,
                name->valuestring);
        p->rate[seed] =
            number_of(json_get(json_get(model, "wins"), "gold"), "rate", p->name, path);
        p->kl[seed] = number_of(json_get(model, "kl"), "mean", p->name, path);
        p->gold[seed] = number_of(json_get(model, "gold"), "mean", p->name, path);
        p->length[seed] = number_of(json_get(model, "length"), "mean", p->name, path);
    }
    if (found < t->n)
        die(EXIT_BAD_INPUT, "%s: no model %s, which the first file has", path,
            t->policies[found].name);
    cJSON_Delete(root);
}

static const Policy *policy_find(const Table *t, const char *name) {
    for (int i = 0; i < t->n; i++)
        if (!strcmp(t->policies[i].name, name)) return &t->policies[i];
    die(EXIT_BAD_INPUT, "no policy %s in the files", name);
}

// ------------------------------------------------------------------------------------------------
// Table and claims

// "0.731 [0.722, 0.740]": mean over seeds and its interval; the mean alone of a single seed.
static char *mean_text(const double *x, int seeds) {
    const Mean m = mean_of(x, seeds);
    const Interval i = mean_interval(m, LEVEL);
    return seeds > 1 ? text_format("%.3f [%.3f, %.3f]", m.mean, i.low, i.high)
                     : text_format("%.3f", m.mean);
}

static void table_show(const Table *t) {
    printf("win rate by gold score over samples of the SFT model, %d seed%s, [90%% interval]\n\n",
           t->seeds, t->seeds == 1 ? "" : "s");
    printf("%-18s %22s %22s %7s %7s\n", "policy", "win rate", "KL, nats", "gold", "length");
    for (int i = 0; i < t->n; i++) {
        const Policy *p = &t->policies[i];
        char *rate = mean_text(p->rate, t->seeds), *kl = mean_text(p->kl, t->seeds);
        printf("%-18s %22s %22s %7.3f %7.1f\n", p->name, rate, kl,
               mean_of(p->gold, t->seeds).mean, mean_of(p->length, t->seeds).mean);
        free(rate), free(kl);
    }
}

// Is the win rate of a above that of b less `margin`? Prints the difference and both KLs.
static Verdict claim_judge(const Table *t, const char *a_name, const char *b_name, double margin) {
    const Policy *a = policy_find(t, a_name), *b = policy_find(t, b_name);
    const Comparison c = compare_pairs(a->rate, b->rate, t->seeds, LEVEL);
    const Verdict v = c.interval.low > -margin    ? REPRODUCED
                      : c.interval.high < -margin ? CONTRADICTED
                                                  : NOT_DISTINGUISHED;
    printf("    %s - %s: %+.3f", a_name, b_name, c.difference.mean);
    if (t->seeds > 1) printf(" [%+.3f, %+.3f]", c.interval.low, c.interval.high);
    printf(", claimed above %+.2f; KL %.3f and %.3f\n", 0 - margin, mean_of(a->kl, t->seeds).mean,
           mean_of(b->kl, t->seeds).mean);
    return v;
}

// Print the verdict on claim `number`. True if there is none or the claim is reproduced.
static bool verdict_show(const Table *t, int number, Verdict v) {
    const bool enough = t->seeds >= NEEDED_SEEDS;
    if (enough) printf("    C%d: %s\n", number, verdict_names[v]);
    else printf("    C%d: no verdict of fewer than %d seeds\n", number, NEEDED_SEEDS);
    return !enough || v == REPRODUCED;
}

int main(int argc, char **argv) {
    struct {
        const char *evaluations;
    } args = {0};
    Flag flags[] = {
        FLAG_TEXT(args, evaluations, "files of evaluate --output, a seed each, commas between"),
    };
    flags_parse(argc, argv, flags, COUNT(flags), "the KTO paper's claims on film reviews", NULL);
    if (!args.evaluations) die(EXIT_USAGE, "--evaluations is needed; see --help");
    Table *t = mem_alloc(1, sizeof *t);
    char *paths = text_copy(args.evaluations);
    for (char *path = strtok(paths, ","); path; path = strtok(NULL, ",")) table_read(t, path);
    if (!t->seeds) die(EXIT_USAGE, "--evaluations names no file");
    table_show(t);

    printf("\nC1  KTO matches DPO on the same data\n");
    bool good = verdict_show(t, 1, claim_judge(t, "kto", "dpo", MARGIN));
    printf("\nC2  so it does with one answer for each prompt\n");
    good &= verdict_show(t, 2, claim_judge(t, "kto_one", "dpo", MARGIN));
    printf("\nC3  and with 90%% of the desirable answers dropped, if weighted for it\n");
    const Verdict kept = claim_judge(t, "kto_drop90", "dpo", MARGIN);
    const Verdict weighted = claim_judge(t, "kto_drop90", "kto_drop90_plain", 0);
    good &= verdict_show(t, 3, kept > weighted ? kept : weighted);

    printf("\nThe paper's own figures cannot be compared with these: Mistral-7B, conversations of\n"
           "OpenAssistant, GPT-4 as judge, wins over the data's answers: DPO 0.600, KTO 0.652,\n"
           "KTO with one answer for each prompt 0.631, untuned model 0.525, each +-0.037 (90%%).\n"
           "It has no row of SFT. Only the order of its rows is asked for here.\n");
    for (int i = 0; i < t->n; i++) free(t->policies[i].name);
    free(paths), free(t), flags_free(flags, COUNT(flags));
    return good ? 0 : 1;
}
