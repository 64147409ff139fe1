// Tests of losses.h: values by hand, goldens that PyTorch made in float64 (dev/golden_losses.py),
// gradients against central differences, and arguments at the end of the world.
#include "test.h"
#include "../losses.h"

// A float carries 24 bits: what is exact inside is rounded once at the border.
#define ULP 6e-8

static void test_functions(void) {
    CHECK(sigmoid(0) == 0.5 && log_sigmoid(0) == -log(2), "at 0");
    for (double x = -40; x <= 40; x += 0.37) {
        CHECK_NEAR(sigmoid(x), 1 / (1 + exp(-x)), 1e-14, 0, "sigmoid(%g)", x);
        CHECK_NEAR(sigmoid(x) + sigmoid(-x), 1, 1e-15, 0, "symmetry at %g", x);
        CHECK_NEAR(exp(log_sigmoid(x)), sigmoid(x), 1e-14, 0, "log_sigmoid(%g)", x);
    }
    CHECK(log_sigmoid(-1e6) == -1e6, "far below 0 it is x");
    CHECK_NEAR(log_sigmoid(50), -exp(-50), 1e-12, 0, "far above 0 it is -e^-x");
    CHECK_NEAR(sigmoid(-700), exp(-700), 1e-12, 0, "small values keep their digits");
    CHECK(sigmoid(1e6) == 1 && sigmoid(-1e6) == 0 && log_sigmoid(1e6) == 0, "the ends");
    for (double x = -5; x < -0.05; x += 0.037)
        CHECK_NEAR(log1mexp(x), log(1 - exp(x)), 1e-13, 0, "log1mexp(%g)", x);
    CHECK_NEAR(log1mexp(-1e-10), log(1e-10), 1e-11, 0, "log1mexp near probability 1");
    CHECK_NEAR(log1mexp(-1e-300), log(1e-300), 1e-14, 0, "log1mexp very near probability 1");
    CHECK_NEAR(log1mexp(-100), -exp(-100), 1e-12, 0, "log1mexp near probability 0");
    CHECK(log1mexp(0) == -INFINITY && log1mexp(-INFINITY) == 0, "log1mexp: the ends");
}

static void test_row_sums(void) {
    const int row_start[4] = {0, 3, 3, 7};
    const unsigned char mask[7] = {0, 1, 1, 0, 0, 0, 1};
    const float logp[7] = {9, -1, -2, 9, 9, 9, -0.25f}, dsum[3] = {0.5f, 7, -3};
    float sum[3], dlogp[7];
    int count[3];
    row_sum_forward(sum, count, logp, mask, row_start, 3);
    CHECK(sum[0] == -3 && sum[1] == 0 && sum[2] == -0.25f, "sums %g %g %g", sum[0], sum[1], sum[2]);
    CHECK(count[0] == 2 && count[1] == 0 && count[2] == 1, "counts");
    row_sum_backward(dlogp, dsum, mask, row_start, 3);
    const float want[7] = {0, 0.5f, 0.5f, 0, 0, 0, -3};
    CHECK(!memcmp(dlogp, want, sizeof want), "gradient of the sums");
    // Summed in double: 10,000 tokens of -0.1 lose nothing (float would be off by 1e-3)
    enum { N = 10000 };
    const int whole[2] = {0, N};
    float *many = mem_alloc(N, sizeof *many);
    unsigned char *ones = mem_alloc(N, 1);
    for (int t = 0; t < N; t++) many[t] = -0.1f, ones[t] = 1;
    row_sum_forward(sum, count, many, ones, whole, 1);
    CHECK_NEAR(sum[0], N * (double)-0.1f, ULP, 0, "a long row");
    free(many), free(ones);
}

static void test_sft(void) {
    const unsigned char mask[6] = {0, 1, 1, 0, 0, 1};
    float logp[6] = {9, -1, -2, 9, 9, -0.5f}, dlogp[6];
    CHECK_NEAR(sft_loss_forward(logp, mask, 6, 3), 3.5 / 3, 1e-7, 0, "mean over three tokens");
    sft_loss_backward(dlogp, mask, 6, 3);
    for (int t = 0; t < 6; t++) {
        const float saved = logp[t], h = 0.125f; // exact in binary; the loss is linear
        logp[t] = saved + h;
        double up = sft_loss_forward(logp, mask, 6, 3);
        logp[t] = saved - h;
        double down = sft_loss_forward(logp, mask, 6, 3);
        logp[t] = saved;
        CHECK_NEAR(dlogp[t], (up - down) / (2 * h), 1e-6, 0, "gradient of token %d", t);
    }
    // Splitting a batch changes neither value nor gradient.
    double parts = sft_loss_forward(logp, mask, 2, 3) + sft_loss_forward(logp + 2, mask + 2, 4, 3);
    CHECK_NEAR(parts, sft_loss_forward(logp, mask, 6, 3), 1e-12, 0, "two splits");
    float split[6];
    sft_loss_backward(split, mask, 2, 3), sft_loss_backward(split + 2, mask + 2, 4, 3);
    CHECK(!memcmp(split, dlogp, sizeof split), "gradients of two splits");
    // Extreme values stay finite: a sum of 10^6 nats.
    const unsigned char one[1] = {1};
    const float far[1] = {-1e6f};
    CHECK_NEAR(sft_loss_forward(far, one, 1, 1), 1e6, 0, 0, "a hopeless token");
}

// ------------------------------------------------------------------------------------------------
// One example at a time

// The loss of one pair with the log-ratios r_chosen and r_rejected; gradients in d (2).
static double one_pair(double d[2], double r_chosen, double r_rejected, int T_chosen,
                       int T_rejected, DpoLoss type, double beta, double e) {
    const float chosen = (float)r_chosen, rejected = (float)r_rejected, zero = 0;
    float dchosen, drejected;
    PairStats s = dpo_loss(&dchosen, &drejected, &chosen, &rejected, &zero, &zero, &T_chosen,
                           &T_rejected, 1, 1, type, beta, e);
    d[0] = dchosen, d[1] = drejected;
    return s.loss;
}

static double one_kto(double *d, double r, bool desirable, double z, double beta) {
    const float logp = (float)r, zero = 0;
    const unsigned char label = desirable;
    float dlogp;
    KtoStats s = kto_loss(&dlogp, &logp, &zero, &label, 1, 1, z, KTO_KTO, beta, 1, 1);
    *d = dlogp;
    return s.loss;
}

static OrpoStats one_orpo(double d[2], double a_chosen, double a_rejected, double beta) {
    const float chosen = (float)a_chosen, rejected = (float)a_rejected;
    float dchosen, drejected;
    OrpoStats s = orpo_loss(&dchosen, &drejected, &chosen, &rejected, 1, 1, beta);
    d[0] = dchosen, d[1] = drejected;
    return s;
}

// Seven digits worked out on paper with beta .1, log-ratios .8 and -.4, lengths 4 and 8.
static void test_by_hand(void) {
    const struct {
        DpoLoss type;
        double e, want;
    } dpo[] = {{DPO_SIGMOID, 0, 0.6349461},  {DPO_SIGMOID, 0.1, 0.6469461},
               {DPO_ROBUST, 0.1, 0.6199461}, {DPO_HINGE, 0, 0.88},
               {DPO_IPO, 0, 22.5625},        {DPO_IPO_SUM, 0, 14.44}};
    double d[2], e[2];
    for (size_t i = 0; i < sizeof dpo / sizeof *dpo; i++)
        CHECK_NEAR(one_pair(d, 0.8, -0.4, 4, 8, dpo[i].type, 0.1, dpo[i].e), dpo[i].want, 1e-7,
                   5e-8, "pair loss %d by hand", (int)i);
    const float chosen = 0.8f, rejected = -0.4f, zero = 0;
    float dc, dr;
    PairStats s =
        dpo_loss(&dc, &dr, &chosen, &rejected, &zero, &zero, NULL, NULL, 1, 1, DPO_SIGMOID, 0.1, 0);
    CHECK_NEAR(s.chosen, 0.08, ULP, 0, "reward of the chosen side");
    CHECK_NEAR(s.rejected, -0.04, ULP, 0, "reward of the rejected side");
    CHECK_NEAR(s.margin, 0.12, ULP, 0, "margin");
    CHECK(s.correct == 1, "the chosen side has the larger reward");
    s = dpo_loss(&dc, &dr, &zero, &zero, &zero, &zero, NULL, NULL, 1, 1, DPO_SIGMOID, 0.1, 0);
    CHECK_NEAR(s.loss, log(2), 1e-15, 0, "a policy equal to its reference");
    CHECK(s.correct == 0 && dc == -0.05f && dr == 0.05f, "a tie is no success; gradient beta/2");

    CHECK_NEAR(one_kto(d, 0.8, true, 0.3, 0.1), 0.4875026, 0, 1e-7, "KTO, desirable");
    CHECK_NEAR(one_kto(e, -0.4, false, 0.3, 0.1), 0.4825071, 0, 1e-7, "KTO, undesirable");
    const float logp[2] = {0.8f, -0.4f}, ref[2] = {0, 0};
    const unsigned char label[2] = {1, 0};
    float dlogp[2];
    KtoStats k = kto_loss(dlogp, logp, ref, label, 2, 2, 0.3, KTO_KTO, 0.1, 1, 1);
    CHECK_NEAR(k.loss, 0.4850049, 0, 1e-7, "KTO, mean");
    CHECK_NEAR(k.chosen, 0.08, ULP, 0, "KTO, reward of the desirable");
    CHECK_NEAR(k.rejected, -0.04, ULP, 0, "KTO, reward of the undesirable");
    CHECK(k.n_chosen == 1 && k.n_rejected == 1, "KTO, counts");
    k = kto_loss(dlogp, logp, ref, label, 2, 2, 0.3, KTO_APO_ZERO_UNPAIRED, 0.1, 1, 1);
    CHECK_NEAR(k.loss, 0.4850060, 0, 1e-7, "APO-zero, unpaired, mean");

    OrpoStats o = one_orpo(d, -1, -1.5, 0.1);
    CHECK_NEAR(o.log_odds_chosen, 0.7061927, 0, 1e-7, "ORPO, log odds");
    CHECK_NEAR(o.log_odds_ratio, -0.4011355, 0, 1e-7, "ORPO, log sigmoid of it");
    CHECK_NEAR(2.0 + o.loss, 2.0401135, 0, 1e-7, "ORPO, loss with an NLL of 2");
    CHECK_NEAR(o.odds_ratio_loss, 0.4011355, 0, 1e-7, "ORPO, loss without beta");
    CHECK_NEAR(o.chosen, -0.1, ULP, 0, "ORPO, reward of the chosen side");
    CHECK_NEAR(o.rejected, -0.15, ULP, 0, "ORPO, reward of the rejected side");
    CHECK_NEAR(o.margin, 0.05, 2 * ULP, 0, "ORPO, margin");
    CHECK(o.correct == 1, "ORPO, the chosen side is the likelier");
    // The sign that eq. 8 of the paper has wrong
    one_orpo(d, -1.2, -0.9, 1);
    CHECK_NEAR(d[0], -0.8784, 0, 5e-5, "ORPO lifts the chosen mean");
    CHECK_NEAR(d[1], 1.0344, 0, 5e-5, "ORPO lowers the rejected mean");
}

// ------------------------------------------------------------------------------------------------
// Goldens. All examples of a case are a batch, whose gradients are the examples' own over its size.

enum { MAX_B = 64 };

// The next line's first `n` numbers.
static void next_numbers(char **line, double *x, int n) {
    for (int i = 0; i < n; i++) {
        char *end;
        x[i] = strtod(*line, &end);
        if (end == *line) die(EXIT_BAD_INPUT, "test/golden/losses.txt: a number is missing");
        *line = end;
    }
    *line = strchr(*line, '\n') + 1;
}

// Values in float64 were made by formulas that cancel near 1: ABS is what they can mean.
#define ABS 1e-15
static void golden_dpo(char **line, const char *name, int B, const double *c) {
    const char *const names[] = {"sigmoid", "hinge", "ipo", "ipo_sum", "robust"};
    int type = 0;
    while (strcmp(names[type], name)) type++;
    float chosen[MAX_B], rejected[MAX_B], ref_c[MAX_B], ref_r[MAX_B], dc[MAX_B], dr[MAX_B];
    int T_c[MAX_B], T_r[MAX_B];
    double want[MAX_B][3], mean = 0;
    for (int i = 0; i < B; i++) {
        double x[9];
        next_numbers(line, x, 9);
        chosen[i] = (float)x[0], rejected[i] = (float)x[1], ref_c[i] = (float)x[2];
        ref_r[i] = (float)x[3], T_c[i] = (int)x[4], T_r[i] = (int)x[5];
        memcpy(want[i], x + 6, sizeof want[i]);
        PairStats s = dpo_loss(dc, dr, &chosen[i], &rejected[i], &ref_c[i], &ref_r[i], &T_c[i],
                               &T_r[i], 1, 1, (DpoLoss)type, c[0], c[1]);
        CHECK_NEAR(s.loss, want[i][0], 1e-10, ABS, "%s beta %g e %g, loss %d", name, c[0], c[1], i);
        mean += want[i][0] / B;
    }
    PairStats s =
        dpo_loss(dc, dr, chosen, rejected, ref_c, ref_r, T_c, T_r, B, B, (DpoLoss)type, c[0], c[1]);
    CHECK_NEAR(s.loss, mean, 1e-10, 0, "%s beta %g e %g, mean", name, c[0], c[1]);
    for (int i = 0; i < B; i++) {
        CHECK_NEAR(dc[i], want[i][1] / B, ULP, ABS, "%s beta %g e %g, chosen %d", name, c[0], c[1],
                   i);
        CHECK_NEAR(dr[i], want[i][2] / B, ULP, ABS, "%s beta %g e %g, rejected %d", name, c[0],
                   c[1], i);
    }
}

static void golden_kto(char **line, const char *name, int B, const double *c) {
    const KtoLoss type = strcmp(name, "kto") ? KTO_APO_ZERO_UNPAIRED : KTO_KTO;
    float logp[MAX_B], ref[MAX_B], dlogp[MAX_B];
    unsigned char desirable[MAX_B];
    double want[MAX_B], mean = 0;
    for (int i = 0; i < B; i++) {
        double x[5];
        next_numbers(line, x, 5);
        logp[i] = (float)x[0], ref[i] = (float)x[1], desirable[i] = x[2] != 0, want[i] = x[4];
        KtoStats s =
            kto_loss(dlogp, &logp[i], &ref[i], &desirable[i], 1, 1, c[1], type, c[0], c[2], c[3]);
        CHECK_NEAR(s.loss, x[3], 1e-10, ABS, "%s beta %g kl %g, loss %d", name, c[0], c[1], i);
        mean += x[3] / B;
    }
    KtoStats s = kto_loss(dlogp, logp, ref, desirable, B, B, c[1], type, c[0], c[2], c[3]);
    CHECK_NEAR(s.loss, mean, 1e-10, 0, "%s beta %g kl %g, mean", name, c[0], c[1]);
    for (int i = 0; i < B; i++)
        CHECK_NEAR(dlogp[i], want[i] / B, ULP, ABS, "%s beta %g kl %g, gradient %d", name, c[0],
                   c[1], i);
}

static void golden_orpo(char **line, int B, const double *c) {
    float chosen[MAX_B], rejected[MAX_B], dc[MAX_B], dr[MAX_B];
    double want[MAX_B][3], mean = 0;
    for (int i = 0; i < B; i++) {
        double x[5];
        next_numbers(line, x, 5);
        chosen[i] = (float)x[0], rejected[i] = (float)x[1];
        memcpy(want[i], x + 2, sizeof want[i]);
        OrpoStats s = orpo_loss(dc, dr, &chosen[i], &rejected[i], 1, 1, c[0]);
        CHECK_NEAR(s.loss, want[i][0], 1e-10, ABS, "orpo beta %g, loss %d", c[0], i);
        mean += want[i][0] / B;
    }
    OrpoStats s = orpo_loss(dc, dr, chosen, rejected, B, B, c[0]);
    CHECK_NEAR(s.loss, mean, 1e-10, 0, "orpo beta %g, mean", c[0]);
    for (int i = 0; i < B; i++) {
        CHECK_NEAR(dc[i], want[i][1] / B, ULP, ABS, "orpo beta %g, chosen %d", c[0], i);
        CHECK_NEAR(dr[i], want[i][2] / B, ULP, ABS, "orpo beta %g, rejected %d", c[0], i);
    }
}

static void test_goldens(void) {
    char *text = file_read("test/golden/losses.txt", NULL), *line = text;
    int cases = 0;
    for (; *line; cases++) {
        while (*line == '#') line = strchr(line, '\n') + 1;
        char family[8], name[32];
        int B, used;
        double c[4];
        if (sscanf(line, "%7s %31s %d%n", family, name, &B, &used) != 3 || B > MAX_B)
            die(EXIT_BAD_INPUT, "test/golden/losses.txt: not a case: %.40s", line);
        line += used;
        next_numbers(&line, c, !strcmp(family, "dpo") ? 2 : !strcmp(family, "kto") ? 4 : 1);
        if (!strcmp(family, "dpo")) golden_dpo(&line, name, B, c);
        else if (!strcmp(family, "kto")) golden_kto(&line, name, B, c);
        else golden_orpo(&line, B, c);
    }
    CHECK(cases == 51, "%d cases in test/golden/losses.txt", cases);
    free(text);
}

// ------------------------------------------------------------------------------------------------
// Central differences. Arguments are multiples of h = 2^-8, so that floats take them exactly; the
// error is h^2 / 6 times the third derivative, below 1e-5 for |beta| <= 1 and means below -.3.

static void test_differences(void) {
    const double h = 0x1p-8, beta = 0.75;
    double d[2], none[2];
    for (int i = 0; i < 60; i++) {
        const double a = -3 + 0.1015625 * i,
                     b = 2 - 0.0703125 * i; // exact, and off the hinge's edge
        for (int type = DPO_SIGMOID; type <= DPO_ROBUST; type++) {
            const double e = type == DPO_SIGMOID || type == DPO_ROBUST ? 0.1 : 0;
#define PAIR(x, y) one_pair(none, x, y, 3, 5, (DpoLoss)type, beta, e)
            PAIR(a, b), one_pair(d, a, b, 3, 5, (DpoLoss)type, beta, e);
            CHECK_NEAR(d[0], (PAIR(a + h, b) - PAIR(a - h, b)) / (2 * h), 1e-5, 1e-5,
                       "chosen, loss %d at %g, %g", type, a, b);
            CHECK_NEAR(d[1], (PAIR(a, b + h) - PAIR(a, b - h)) / (2 * h), 1e-5, 1e-5,
                       "rejected, loss %d at %g, %g", type, a, b);
        }
        for (int desirable = 0; desirable < 2; desirable++) {
            one_kto(d, a, desirable, 0.4, beta);
            const double slope = (one_kto(none, a + h, desirable, 0.4, beta) -
                                  one_kto(none, a - h, desirable, 0.4, beta)) /
                                 (2 * h);
            CHECK_NEAR(d[0], slope, 1e-5, 1e-5, "KTO, label %d at %g", desirable, a);
        }
        const double p = -0.5 - 0.0625 * i, q = -4.25 + 0.0625 * i;
        one_orpo(d, p, q, beta);
#define ODDS(x, y) one_orpo(none, x, y, beta).loss
        CHECK_NEAR(d[0], (ODDS(p + h, q) - ODDS(p - h, q)) / (2 * h), 1e-4, 1e-5,
                   "ORPO, chosen at %g, %g", p, q);
        CHECK_NEAR(d[1], (ODDS(p, q + h) - ODDS(p, q - h)) / (2 * h), 1e-4, 1e-5,
                   "ORPO, rejected at %g, %g", p, q);
    }
}

// ------------------------------------------------------------------------------------------------
// Extreme arguments: what the formulas become there

static void test_extremes(void) {
    double d[2];
    // Log-ratios of +-500, beta 1: -log sigmoid is 0 or linear; small beta keeps small values small.
    CHECK_NEAR(one_pair(d, 250, -250, 1, 1, DPO_SIGMOID, 1, 0), exp(-500), 1e-12, 0, "DPO, won");
    CHECK(d[0] == 0 && d[1] == 0, "DPO, won: e^-500 is no float");
    CHECK_NEAR(one_pair(d, -250, 250, 1, 1, DPO_SIGMOID, 1, 0), 500, 1e-15, 0, "DPO, lost");
    CHECK(d[0] == -1 && d[1] == 1, "DPO, lost: the gradient is beta");
    CHECK_NEAR(one_pair(d, 250, -250, 1, 1, DPO_SIGMOID, 0.1, 0), exp(-50), 1e-12, 0, "beta .1");
    CHECK_NEAR(d[0], -0.1 * exp(-50), ULP, 0, "beta .1, a gradient with all its digits");
    CHECK_NEAR(one_pair(d, 250, -250, 1, 1, DPO_SIGMOID, 1, 0.1), 50, 1e-15, 0, "smoothed, won");
    CHECK_NEAR(d[0], 0.1, ULP, 0, "smoothed, won: pulled back with e beta");
    CHECK_NEAR(one_pair(d, -250, 250, 1, 1, DPO_SIGMOID, 1, 0.1), 450, 1e-14, 0, "smoothed, lost");
    CHECK_NEAR(one_pair(d, 250, -250, 1, 1, DPO_ROBUST, 1, 0.1), -62.5, 1e-14, 0, "robust, won");
    CHECK_NEAR(d[0], -0.125, ULP, 0, "robust, won: still pushed");
    CHECK_NEAR(one_pair(d, -250, 250, 1, 1, DPO_ROBUST, 1, 0.1), 562.5, 1e-14, 0, "robust, lost");
    CHECK_NEAR(d[1], 1.125, ULP, 0, "robust, lost");
    CHECK(one_pair(d, 250, -250, 1, 1, DPO_HINGE, 1, 0) == 0 && d[0] == 0, "hinge, won");
    CHECK(one_pair(d, -250, 250, 1, 1, DPO_HINGE, 1, 0) == 501 && d[0] == -1, "hinge, lost");
    CHECK(one_pair(d, 0.5, -0.5, 1, 1, DPO_HINGE, 1, 0) == 0 && d[0] == 0, "hinge, on its edge");
    CHECK_NEAR(one_pair(d, 250, -250, 1, 1, DPO_IPO_SUM, 0.1, 0), 495.0 * 495, 1e-15, 0,
               "IPO, +500");
    CHECK_NEAR(d[0], 990, ULP, 0, "IPO, +500: pulled back");
    CHECK_NEAR(one_pair(d, -250, 250, 1, 1, DPO_IPO_SUM, 0.1, 0), 505.0 * 505, 1e-15, 0,
               "IPO, -500");
    CHECK_NEAR(one_pair(d, 250, -250, 100, 50, DPO_IPO, 0.1, 0), 2.5 * 2.5, 1e-15, 0, "IPO, means");
    CHECK_NEAR(d[0], 2 * 2.5 / 100, ULP, 0, "IPO, means: the chosen one's gradient per nat");
    CHECK_NEAR(d[1], -2 * 2.5 / 50, ULP, 0, "IPO, means: the rejected one's");
    CHECK(isfinite(one_pair(d, 1, 2, 0, 0, DPO_IPO, 0.1, 0)), "IPO, an empty completion");
    // The bounds of beta: near 0 DPO is flat and IPO's goal is far, at 100 DPO is a hinge
    CHECK_NEAR(one_pair(d, 3, 1, 1, 1, DPO_SIGMOID, 1e-6, 0), log(2), 1e-5, 0, "beta near 0");
    CHECK_NEAR(d[0], -0.5e-6, 1e-5, 0, "beta near 0: gradient beta/2");
    CHECK_NEAR(one_pair(d, 0, 0, 1, 1, DPO_IPO_SUM, 1e-3, 0), 500.0 * 500, 1e-15, 0, "tau 1e-3");
    CHECK_NEAR(one_pair(d, -1, 2, 1, 1, DPO_SIGMOID, 100, 0), 300, 1e-15, 0, "beta 100");
    CHECK_NEAR(one_kto(d, 1, true, 0, 1e-6), 0.5, 1e-6, 0, "KTO, beta near 0");

    CHECK_NEAR(one_kto(d, 500, true, 0, 1), exp(-500), 1e-12, 0, "KTO, desirable and certain");
    CHECK(one_kto(d, -500, true, 0, 1) == 1 && d[0] == 0, "KTO, desirable and hopeless");
    CHECK(one_kto(d, 500, false, 0, 1) == 1 && d[0] == 0, "KTO, undesirable and certain");
    CHECK_NEAR(one_kto(d, -50, true, 0, 1), 1, 1e-15, 0, "KTO, far in the tail");
    CHECK_NEAR(d[0], -exp(-50), ULP, 0, "KTO, far in the tail: all digits");
    CHECK_NEAR(one_kto(d, 50, true, 0, 1), exp(-50), 1e-12, 0, "KTO, in the other tail");
    CHECK_NEAR(d[0], -exp(-50), ULP, 0, "KTO, in the other tail: all digits");

    // ORPO towards probability 1. There the gradient of the winner tends to 1 (times beta), since
    // log_odds is then a_chosen's alone: -log sigmoid is e^-log_odds = (1 - P) odds_rejected.
    const double odds = exp(-1.0) / (1 - exp(-1.0));
    for (double a = -1e-3; a < -1e-7; a *= 0.5) {
        OrpoStats s = one_orpo(d, a, -1, 1);
        const double x = (float)a,
                     exact = -expm1(x) / exp(x) * odds; // odds of not chosen, rejected
        CHECK_NEAR(s.loss, log1p(exact), 1e-12, 0, "ORPO, chosen at %g", a);
        CHECK_NEAR(d[0], -odds / (exp(x) * (1 + exact)), 2 * ULP, 0, "ORPO, chosen's gradient, %g",
                   a);
        s = one_orpo(d, -1, a, 1);
        CHECK_NEAR(s.loss, log1p(1 / exact), 1e-12, 0, "ORPO, rejected at %g", a);
        CHECK_NEAR(d[1], 1 / (1 + exact) / -expm1(x), 2 * ULP, 0, "ORPO, rejected's gradient, %g",
                   a);
    }
    for (int i = 0; i < 4; i++) { // at and beyond what a float can say
        const double a[4] = {-1e-9, -0.0, 0.0, 1e-6};
        OrpoStats s = one_orpo(d, a[i], -1, 1);
        CHECK(isfinite(s.loss) && s.loss >= 0 && d[0] < 0 && d[0] > -2 && d[1] > 0,
              "ORPO, chosen certain: %g, %g %g", s.loss, d[0], d[1]);
        s = one_orpo(d, -1, a[i], 1);
        CHECK(isfinite(s.loss) && s.loss > 10 && d[0] < 0 && d[1] > 1e7 && d[1] < 2e7,
              "ORPO, rejected certain: %g, %g %g", s.loss, d[0], d[1]);
        s = one_orpo(d, a[i], a[3 - i], 1);
        CHECK(isfinite(s.loss) && isfinite(d[0]) && isfinite(d[1]), "ORPO, both certain");
    }
    OrpoStats s = one_orpo(d, -1000, -1, 1);
    CHECK(isfinite(s.loss) && s.loss > 990 && d[0] == -1, "ORPO, chosen hopeless: %g, %g", s.loss,
          d[0]);

    // What is not a number stays so.
    for (int type = DPO_SIGMOID; type <= DPO_ROBUST; type++)
        CHECK(isnan(one_pair(d, NAN, 0, 1, 1, (DpoLoss)type, 0.1, 0)), "NaN in loss %d", type);
    CHECK(isnan(one_kto(d, NAN, true, 0, 0.1)), "NaN in KTO");
    CHECK(isnan(one_orpo(d, NAN, -1, 1).loss) && isnan(one_orpo(d, -1, NAN, 1).loss), "in ORPO");
    const float bad[2] = {NAN, 0}, ref[2] = {0, 0};
    CHECK(isnan(kto_kl(bad, ref, 2)), "NaN in KTO's KL");
}

// ------------------------------------------------------------------------------------------------
// Properties

// Gradient descent lifts the chosen side and lowers the rejected one wherever there is something to
// learn; the two gradients of a summed log-ratio are opposite.
static void test_signs(void) {
    double d[2];
    for (int i = 0; i < 40; i++) {
        const double a = -2 + 0.1 * i, b = 1.93 - 0.1 * i, h = a - b;
        for (int type = DPO_SIGMOID; type <= DPO_ROBUST; type++) {
            one_pair(d, a, b, 1, 1, (DpoLoss)type, 0.4, 0);
            const bool reached = type == DPO_HINGE                        ? 0.4 * h >= 1
                                 : type == DPO_IPO || type == DPO_IPO_SUM ? h >= 1.25
                                                                          : false;
            CHECK(d[1] == -d[0] && (reached || d[0] < 0), "signs of loss %d at %g: %g", type, h,
                  d[0]);
        }
        one_kto(d, a, true, 0.1, 0.4);
        one_kto(d + 1, a, false, 0.1, 0.4);
        CHECK(d[0] < 0 && d[1] == -d[0], "KTO lifts the desirable, lowers the undesirable");
        one_orpo(d, -0.1 - 0.1 * i, -4 + 0.1 * i - 0.05, 0.4);
        CHECK(d[0] < 0 && d[1] > 0, "ORPO lifts the chosen, lowers the rejected");
    }
}

// Sums of statistics, and gradients to the bit, do not depend on how the batch is split.
static void test_splits(void) {
    enum { B = 7, FIRST = 3 };
    float a[B], b[B], ref_a[B], ref_b[B], da[B], db[B], split_a[B], split_b[B];
    int T_a[B], T_b[B];
    unsigned char label[B];
    Rng rng = rng_make(1, RNG_DATA);
    for (int i = 0; i < B; i++) {
        a[i] = (float)(-1 - rng_uniform(&rng)), b[i] = (float)(-1 - rng_uniform(&rng));
        ref_a[i] = (float)(-1 - rng_uniform(&rng)), ref_b[i] = (float)(-1 - rng_uniform(&rng));
        T_a[i] = 1 + i, T_b[i] = B - i, label[i] = i % 2;
    }
    for (int type = DPO_SIGMOID; type <= DPO_ROBUST; type++) {
        PairStats s[3];
        const int from[3] = {0, 0, FIRST}, n[3] = {B, FIRST, B - FIRST};
        for (int k = 0; k < 3; k++)
            s[k] = dpo_loss((k ? split_a : da) + from[k], (k ? split_b : db) + from[k], a + from[k],
                            b + from[k], ref_a + from[k], ref_b + from[k], T_a + from[k],
                            T_b + from[k], n[k], B, (DpoLoss)type, 0.3, 0.1);
        CHECK_NEAR(s[1].loss + s[2].loss, s[0].loss, 1e-14, 0, "loss %d in two splits", type);
        CHECK_NEAR(s[1].chosen + s[2].chosen, s[0].chosen, 1e-13, 1e-14, "chosen");
        CHECK_NEAR(s[1].rejected + s[2].rejected, s[0].rejected, 1e-13, 1e-14, "rejected");
        CHECK_NEAR(s[1].margin + s[2].margin, s[0].margin, 1e-13, 1e-14, "margin");
        CHECK(s[1].correct + s[2].correct == s[0].correct, "correct");
        CHECK(!memcmp(da, split_a, sizeof da) && !memcmp(db, split_b, sizeof db), "gradients %d",
              type);
    }
    // Rewards are beta times the plain log-ratios under every loss, and no mean is taken of them.
    PairStats one = dpo_loss(da, db, a, b, ref_a, ref_b, T_a, T_b, B, B, DPO_SIGMOID, 0.3, 0);
    PairStats two = dpo_loss(da, db, a, b, ref_a, ref_b, T_a, T_b, B, 2 * B, DPO_IPO, 0.3, 0);
    CHECK_NEAR(two.chosen, one.chosen, 1e-13, 1e-14, "chosen reward");
    CHECK_NEAR(two.rejected, one.rejected, 1e-13, 1e-14, "rejected reward");
    CHECK_NEAR(two.margin, one.margin, 1e-13, 1e-14, "margin");
    CHECK(two.correct == one.correct, "correct");
    CHECK_NEAR(one.margin, one.chosen - one.rejected, 1e-13, 1e-14, "the margin");
    for (int type = KTO_KTO; type <= KTO_APO_ZERO_UNPAIRED; type++) {
        KtoStats s = kto_loss(da, a, ref_a, label, B, B, 0.2, (KtoLoss)type, 0.3, 1.2, 0.9);
        KtoStats p =
            kto_loss(split_a, a, ref_a, label, FIRST, B, 0.2, (KtoLoss)type, 0.3, 1.2, 0.9);
        KtoStats q = kto_loss(split_a + FIRST, a + FIRST, ref_a + FIRST, label + FIRST, B - FIRST,
                              B, 0.2, (KtoLoss)type, 0.3, 1.2, 0.9);
        CHECK_NEAR(p.loss + q.loss, s.loss, 1e-14, 0, "KTO in two splits");
        CHECK_NEAR(p.chosen + q.chosen, s.chosen, 1e-13, 1e-14, "desirable");
        CHECK_NEAR(p.rejected + q.rejected, s.rejected, 1e-13, 1e-14, "undesirable");
        CHECK(p.n_chosen + q.n_chosen == s.n_chosen &&
                  p.n_rejected + q.n_rejected == s.n_rejected && s.n_chosen == 3 &&
                  s.n_rejected == 4,
              "counts");
        CHECK(!memcmp(da, split_a, sizeof da), "gradients");
    }
    OrpoStats s = orpo_loss(da, db, a, b, B, B, 0.3);
    OrpoStats p = orpo_loss(split_a, split_b, a, b, FIRST, B, 0.3);
    OrpoStats q =
        orpo_loss(split_a + FIRST, split_b + FIRST, a + FIRST, b + FIRST, B - FIRST, B, 0.3);
    CHECK_NEAR(p.loss + q.loss, s.loss, 1e-14, 0, "ORPO in two splits");
    CHECK_NEAR(p.odds_ratio_loss + q.odds_ratio_loss, s.odds_ratio_loss, 1e-14, 0, "without beta");
    CHECK_NEAR(p.log_odds_ratio + q.log_odds_ratio, s.log_odds_ratio, 1e-13, 1e-14, "log sigmoid");
    CHECK_NEAR(p.log_odds_chosen + q.log_odds_chosen, s.log_odds_chosen, 1e-13, 1e-14, "log odds");
    CHECK_NEAR(p.margin + q.margin, s.margin, 1e-13, 1e-14, "margin");
    CHECK(p.correct + q.correct == s.correct, "correct");
    CHECK(!memcmp(da, split_a, sizeof da) && !memcmp(db, split_b, sizeof db), "gradients");
    p = orpo_loss(split_a, split_b, a, b, B, 2 * B, 0.3);
    CHECK_NEAR(2 * p.loss, s.loss, 1e-14, 0, "the loss is a mean");
    CHECK_NEAR(p.log_odds_chosen, s.log_odds_chosen, 1e-13, 1e-14, "log odds are summed");
    CHECK_NEAR(p.log_odds_ratio, s.log_odds_ratio, 1e-13, 1e-14, "log sigmoids are summed");
    CHECK_NEAR(p.chosen, s.chosen, 1e-13, 1e-14, "rewards are summed");
    CHECK_NEAR(p.margin, s.margin, 1e-13, 1e-14, "margins are summed");
}

static void test_kto_kl(void) {
    const float logp[4] = {-1, -2, -3, -4}, ref[4] = {-1.5f, -2.5f, -2, -5};
    CHECK(kto_kl(logp, ref, 4) == 0.25, "the mean: %g", kto_kl(logp, ref, 4));
    CHECK(kto_kl(ref, logp, 4) == 0, "a negative mean is clamped");
    CHECK(kto_kl(logp, logp, 4) == 0 && kto_kl(logp, ref, 0) == 0, "no difference, no pairs");
    // (Clamped one by one, the first would be 0.5.) It is a constant: the gradient of an example has no part that comes from it
    double d[2], up;
    one_kto(d, 0.5, true, 0.25, 1);
    up = sigmoid(0.25) * sigmoid(-0.25);
    CHECK_NEAR(d[0], -up, ULP, 0, "no gradient through the KL");
}

// Propositions of Ethayarajh et al. 2024.
static void test_kto_propositions(void) {
    // 4.1: the weight of an example is a bell around the reference point; DPO's is not
    const double at[6] = {0, 2, 5, 10, 15, 20};
    const double bell[6] = {0.25, 0.105, 0.0066, 4.5e-5, 3.06e-7, 2.1e-9}; // two digits and more
    double d[2], e[2];
    for (int i = 0; i < 6; i++)
        for (int side = -1; side <= 1; side += 2) {
            one_kto(d, side * at[i], true, 0, 1);
            CHECK_NEAR(-d[0], bell[i], 0.02, 0, "weight at %g", side * at[i]);
        }
    one_kto(d, -10, true, 0, 1);
    one_pair(e, -10, 0, 1, 1, DPO_SIGMOID, 1, 0);
    CHECK(e[0] / d[0] > 2e4 && e[0] / d[0] < 2.4e4, "DPO pushes a lost case %g times as hard",
          e[0] / d[0]);
    // 4.3: opposed preferences cancel exactly
    for (double r = -3; r < 3; r += 0.3) {
        double loss = one_kto(d, r, true, 0.3, 0.1) + one_kto(e, r, false, 0.3, 0.1);
        CHECK(d[0] + e[0] == 0, "gradients of a contradiction");
        CHECK_NEAR(loss / 2, 0.5, 4e-15, 0, "its loss");
    }
    // 4.2: a constant added to both rewards of a prompt is nothing to DPO and something to KTO
    CHECK_NEAR(one_pair(d, 1.5, 0.5, 1, 1, DPO_SIGMOID, 1, 0),
               one_pair(e, 3.5, 2.5, 1, 1, DPO_SIGMOID, 1, 0), 1e-15, 0, "DPO sees differences");
    CHECK(fabs(one_kto(d, 1.5, true, 0, 1) - one_kto(e, 3.5, true, 0, 1)) > 0.1, "KTO sees values");
    // Weights scale loss and gradient; the paper's constant weight changes no gradient
    const float logp[2] = {0.5f, 0.5f}, ref[2] = {0, 0};
    const unsigned char label[2] = {1, 0};
    float one[2], two[2];
    KtoStats s = kto_loss(one, logp, ref, label, 2, 2, 0, KTO_KTO, 0.1, 1, 1);
    KtoStats w = kto_loss(two, logp, ref, label, 2, 2, 0, KTO_KTO, 0.1, 2, 0);
    CHECK(two[0] == 2 * one[0] && two[1] == 0, "weights 2 and 0");
    CHECK(w.loss != s.loss && w.chosen == s.chosen && w.rejected == s.rejected,
          "rewards have none");
}

static void test_orpo_zero(void) {
    double d[2];
    OrpoStats s = one_orpo(d, -1, -1.5, 0);
    CHECK(s.loss == 0 && d[0] == 0 && d[1] == 0, "beta 0 leaves the NLL alone");
    CHECK(s.odds_ratio_loss > 0 && s.correct == 1, "and still tells the odds");
    s = one_orpo(d, -1, 0, 0);
    CHECK(s.loss == 0 && d[0] == 0 && d[1] == 0, "at probability 1, too");
}

int main(void) {
    test_functions();
    test_row_sums();
    test_sft();
    test_by_hand();
    test_goldens();
    test_differences();
    test_extremes();
    test_signs();
    test_splits();
    test_kto_kl();
    test_kto_propositions();
    test_orpo_zero();
    return test_end("losses");
}
