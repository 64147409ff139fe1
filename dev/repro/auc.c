// auc.c: how well scores tell good answers from bad ones, for the scripts beside it. Build:
//
// cc -O3 -march=native -fno-math-errno -fopenmp dev/repro/auc.c -o auc -lcjson -lm
//
//     auc <lines        SEED POLICY QUESTION LABEL SCORE, an answer each; LABEL 1: good, 0: bad
//
// prints lines as verdict.c reads them, for each policy two measures,
//
//     auc        the share of pairs of a good and a bad answer, of any questions, in which the good one has the
//                higher score, a tie being half (the area under the ROC curve)
//     balanced   the mean of the share of good answers with a score above 0 and of bad ones below, 0 being half
//
// each by seed (`value SEED POLICY auc X`) and by question (`value QUESTION POLICY auc_questions X`): there X is
// the jackknife's pseudo-value n t - (n - 1) t', of the mean over seeds t, n questions, and the same without
// the answers of this one, t' (Quenouille 1956, Tukey 1958). Their mean and Student's interval say how sure
// the measure is where questions are drawn, whose answers hang together.
#include "../../lib/base/common.h"
#include "../../lib/base/flags.h"

typedef struct {
    int seed, policy, question;
    bool good;
    double score;
    double
        ahead; // answers of the other label that it is rightly ahead of, or behind; a tie is half
} Answer;

typedef struct {
    int n;
    char **name;
} Names;

// The number of a name, which is added if it is new.
static int name_number(Names *names, const char *name) {
    for (int i = 0; i < names->n; i++)
        if (!strcmp(names->name[i], name)) return i;
    names->name = mem_resize(names->name, (size_t)names->n + 1, sizeof *names->name);
    names->name[names->n] = text_copy(name);
    return names->n++;
}

static void names_free(Names *names) {
    for (int i = 0; i < names->n; i++) free(names->name[i]);
    free(names->name);
}

// By policy, then seed, then score.
static int answer_compare(const void *x, const void *y) {
    const Answer *a = x, *b = y;
    if (a->policy != b->policy) return a->policy < b->policy ? -1 : 1;
    if (a->seed != b->seed) return a->seed < b->seed ? -1 : 1;
    return (a->score > b->score) - (a->score < b->score);
}

// Set `ahead` of the answers (n) of one policy and seed, which are sorted by score.
static void answers_rank(Answer *answers, int n) {
    double below[2] = {0, 0}, all[2] = {0, 0}; // by label
    for (int i = 0; i < n; i++) all[answers[i].good]++;
    for (int i = 0, end; i < n; i = end) {
        double tied[2] = {0, 0};
        for (end = i; end < n && answers[end].score == answers[i].score; end++)
            tied[answers[end].good]++;
        for (int k = i; k < end; k++) {
            const int other = !answers[k].good;
            const double lower = below[other] + tied[other] / 2;
            answers[k].ahead = answers[k].good ? lower : all[other] - lower;
        }
        below[0] += tied[0], below[1] += tied[1];
    }
}

// auc and balanced accuracy of answers (n) of one policy and seed without those of a question (-1: with all).
static void answers_measure(double *auc, double *balanced, const Answer *answers, int n,
                            int without) {
    double count[2] = {0, 0}, right[2] = {0, 0}, ahead = 0, lost = 0, inside = 0;
    for (int i = 0; i < n; i++) {
        const Answer *a = &answers[i];
        if (a->good) ahead += a->ahead;
        if (a->question != without) {
            const double side = a->good ? a->score : -a->score;
            count[a->good]++;
            right[a->good] += side > 0 ? 1 : side < 0 ? 0 : 0.5;
            continue;
        }
        lost += a->ahead; // pairs inside the question are lost once, and counted twice
        for (int k = 0; k < n && a->good; k++) {
            const Answer *b = &answers[k];
            if (b->question != without || b->good) continue;
            inside += a->score > b->score ? 1 : a->score < b->score ? 0 : 0.5;
        }
    }
    *auc = (ahead - lost + inside) / (count[0] * count[1]);
    *balanced = (right[0] / count[0] + right[1] / count[1]) / 2;
}

int main(int argc, char **argv) {
    Flag flags[] = {FLAG_HEADING("none")};
    flags_parse(argc, argv, flags, COUNT(flags), "how well scores tell good from bad", NULL);
    Names seeds = {0}, policies = {0}, questions = {0};
    Answer *answers = NULL;
    int n = 0, label;
    char seed[64], policy[64], question[64], line[512];
    for (double score; fgets(line, sizeof line, stdin); n++) {
        if (sscanf(line, "%63s %63s %63s %d %lf", seed, policy, question, &label, &score) != 5 ||
            (label != 0 && label != 1) || !isfinite(score))
            die(EXIT_BAD_INPUT, "line %d: expected SEED POLICY QUESTION LABEL SCORE", n + 1);
        answers = mem_resize(answers, (size_t)n + 1, sizeof *answers);
        answers[n] = (Answer){.seed = name_number(&seeds, seed),
                              .policy = name_number(&policies, policy),
                              .question = name_number(&questions, question),
                              .good = label,
                              .score = score};
    }
    if (!n) die(EXIT_BAD_INPUT, "there are no answers");
    qsort(answers, (size_t)n, sizeof *answers, answer_compare);
    const int Q = questions.n;
    double(*without)[2] = mem_alloc((size_t)Q, sizeof *without); // sums over a policy's seeds
    double whole[2] = {0, 0};
    int n_seeds = 0;
    memset(without, 0, (size_t)Q * sizeof *without);
    for (int first = 0, end; first < n; first = end) {
        const Answer *a = &answers[first];
        for (end = first;
             end < n && answers[end].policy == a->policy && answers[end].seed == a->seed;)
            end++;
        answers_rank(answers + first, end - first);
        double auc, balanced;
        answers_measure(&auc, &balanced, a, end - first, -1);
        printf("value %s %s auc %.9g\n", seeds.name[a->seed], policies.name[a->policy], auc);
        printf("value %s %s balanced %.9g\n", seeds.name[a->seed], policies.name[a->policy],
               balanced);
        whole[0] += auc, whole[1] += balanced, n_seeds++;
        for (int q = 0; q < Q; q++) {
            answers_measure(&auc, &balanced, a, end - first, q);
            without[q][0] += auc, without[q][1] += balanced;
        }
        if (end < n && answers[end].policy == a->policy) continue;
        static const char *const names[] = {"auc_questions", "balanced_questions"};
        for (int q = 0; q < Q; q++)
            for (int k = 0; k < 2; k++)
                printf("value %s %s %s %.9g\n", questions.name[q], policies.name[a->policy],
                       names[k], (Q * whole[k] - (Q - 1) * without[q][k]) / n_seeds);
        memset(without, 0, (size_t)Q * sizeof *without);
        whole[0] = whole[1] = n_seeds = 0;
    }
    free(without), free(answers);
    names_free(&seeds), names_free(&policies), names_free(&questions);
    flags_free(flags, COUNT(flags));
    return stdout_end();
}
