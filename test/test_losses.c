// Tests of losses.h: values by hand, goldens that PyTorch made in float64 (dev/golden_losses.py),
// gradients against central differences, and arguments at the end of the world.
#include "test.h"
#include "batches.h"
#include "../model.h"

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

// The losses of RLHF on paper.
static void test_rlhf_by_hand(void) {
    const float a = 1.2f, b = 0.7f, margin = 0.25f;
    float da, db;
    RewardStats s = reward_loss(&da, &db, &a, &b, NULL, 1, 1, 0);
    CHECK_NEAR(s.loss, 0.4740770, 0, 1e-7, "reward model");
    CHECK_NEAR(da, -sigmoid(-0.5), 1e-6, 0, "its gradient: %g", da);
    CHECK(db == -da && s.correct == 1, "the other side's is opposite");
    CHECK_NEAR(s.chosen, 1.2, ULP, 0, "score of the chosen side");
    CHECK_NEAR(s.rejected, 0.7, ULP, 0, "score of the rejected side");
    CHECK_NEAR(s.margin, 0.5, 2 * ULP, 0, "their difference");
    CHECK(s.min == b && s.max == a, "the smallest and the largest score");
    s = reward_loss(&da, &db, &a, &b, &margin, 1, 1, 0);
    CHECK_NEAR(s.loss, 0.5759394, 0, 1e-7, "a margin of 1/4");
    CHECK_NEAR(s.margin, 0.5, 2 * ULP, 0, "the margin that was asked for is not in the statistics");
    s = reward_loss(&da, &db, &a, &b, NULL, 1, 1, 0.01);
    CHECK_NEAR(s.loss, 0.4740770 + 0.0361, 0, 1e-7, "centering");
    CHECK_NEAR(da + db, 4 * 0.01 * 1.9, 1e-6, 0, "centering pulls both down");
    s = reward_loss(&da, &db, &a, &a, NULL, 1, 1, 0);
    CHECK_NEAR(s.loss, log(2), 1e-15, 0, "a tie");
    CHECK(s.correct == 0, "a tie is no success");

    const float logp[3] = {-1, -1, -2}, ref[3] = {-1.3f, -1, -1};
    const unsigned char mask[3] = {1, 1, 0};
    float kl[3];
    kl_estimate(kl, logp, ref, mask, 3, KL_K1);
    CHECK_NEAR(kl[0], 0.3, 1e-6, 0, "k1");
    CHECK(kl[1] == 0 && kl[2] == 0, "k1 of equals, and where there is no mask");
    kl_estimate(kl, logp, ref, mask, 3, KL_K3);
    CHECK_NEAR(kl[0], 0.0408182, 0, 1e-7, "k3");
    CHECK(kl[1] == 0 && kl[2] == 0, "k3 of equals, and where there is no mask");

    // Three tokens after a prompt of one; the score 1 is on the last
    const int row_start[2] = {0, 4}, longer[2] = {0, 5};
    const unsigned char completion[5] = {0, 1, 1, 1, 1};
    const float reward[4] = {NAN, 0, 0, 1}, value[4] = {NAN, 0.1f, 0.2f, 0.3f};
    const float want[4] = {0, 0.82675f, 0.765f, 0.7f}, goal[4] = {0, 0.92675f, 0.965f, 1};
    float A[5], R[5];
    gae(A, R, reward, value, completion, row_start, 1, 1, 0.95);
    for (int t = 0; t < 4; t++) {
        CHECK_NEAR(A[t], want[t], 2e-7, 0, "advantage %d", t);
        CHECK_NEAR(R[t], goal[t], 2e-7, 0, "return %d", t);
    }
    // TRL's way on the same: a place after the end, which holds the score and has a value
    const float reward_after[5] = {NAN, 0, 0, 0, 1}, value_after[5] = {NAN, 0.1f, 0.2f, 0.3f, 0.4f};
    const float theirs[5] = {0, 0.799675f, 0.7365f, 0.67f, 0.6f};
    const float their_goal[5] = {0, 0.899675f, 0.9365f, 0.97f, 1};
    gae(A, R, reward_after, value_after, completion, longer, 1, 1, 0.95);
    for (int t = 0; t < 5; t++) {
        CHECK_NEAR(A[t], theirs[t], 2e-7, 0, "TRL's advantage %d", t);
        CHECK_NEAR(R[t], their_goal[t], 2e-7, 0, "TRL's return %d", t);
    }
    // Those three whitened, with n - 1; with n they are longer by sqrt(3/2)
    const float white[3] = {0.9913432f, 0.0170921f, -1.0084353f};
    const float by_n[3] = {1.2141418f, 0.0209335f, -1.2350752f};
    whiten(A + 1, completion + 1, 3, true);
    for (int t = 0; t < 3; t++) {
        CHECK_NEAR(A[1 + t], white[t], 0, 1e-6, "whitened advantage %d", t);
        CHECK_NEAR(A[1 + t] * sqrt(1.5), by_n[t], 0, 2e-6, "with the variance of n, %d", t);
    }

    // coef 0.15 at target 6, batches of 512, horizon 10,000 (Ziegler et al.): 0.2 * .0512 at most
    CHECK_NEAR(kl_control(0.15, 6, 6, 512, 10000), 0.15, 1e-15, 0, "on target");
    CHECK_NEAR(kl_control(0.15, 6.6, 6, 512, 10000), 0.15 * 1.00512, 1e-12, 0, "10%% above");
    CHECK_NEAR(kl_control(0.15, 5.4, 6, 512, 10000), 0.15 * 0.99488, 1e-12, 0, "10%% below");
    const double far[4] = {7.2, 60, 4.8, -3};
    for (int i = 0; i < 4; i++)
        CHECK_NEAR(kl_control(0.15, far[i], 6, 512, 10000), 0.15 * (1 + (i < 2 ? 1 : -1) * 0.01024),
                   1e-12, 0, "beyond 20%%: %g", far[i]);
    CHECK(isnan(kl_control(0.15, NAN, 6, 512, 10000)), "NaN stays NaN");
}

// One token through the clipped losses; the statistics, and the gradients in d (2).
static PpoStats one_ppo(double d[2], double logp, double A, double V, double V_old, double R) {
    const float lp = (float)logp, old = 0, adv = (float)A, value = (float)V;
    const float old_value = (float)V_old, goal = (float)R;
    const unsigned char one = 1;
    float dlogp, dvalue;
    PpoStats s = ppo_loss(&dlogp, &dvalue, &lp, &old, &adv, &value, &old_value, &goal, &one, 1, 1,
                          0.25, 0.5, 0.125);
    d[0] = dlogp, d[1] = dvalue;
    return s;
}

// All cases of the two clipped losses; clip ranges 1/4 and 1/2, value coefficient 1/8.
static void test_clipping(void) {
    double d[2];
    const double up = log(2), down = -log(2), rho_up = exp((float)log(2));
    PpoStats s = one_ppo(d, 0, 3, 1, 1, 2);
    CHECK(s.policy_loss == -3 && d[0] == -3 && s.ratio == 1 && s.ratio_squared == 1, "ratio 1");
    CHECK(s.clip_fraction == 0 && s.approx_kl == 0 && s.value_clip_fraction == 0, "ratio 1");
    CHECK(s.value_loss == 0.5 && d[1] == -0.125, "value: (V - R)^2 / 2, coefficient outside");
    // rho 2: a good token has moved enough, a bad one is pulled back with rho as its weight
    s = one_ppo(d, up, 1, 0, 0, 0);
    CHECK(s.policy_loss == -1.25 && d[0] == 0 && s.clip_fraction == 1, "good, too far up");
    CHECK_NEAR(s.approx_kl, log(2) * log(2) / 2, 1e-6, 0, "approximate KL");
    CHECK_NEAR(s.ratio, 2, 1e-6, 0, "ratio");
    CHECK_NEAR(s.ratio_squared, 4, 1e-6, 0, "its square");
    s = one_ppo(d, up, -1, 0, 0, 0);
    CHECK(s.policy_loss == rho_up && s.clip_fraction == 0, "bad, too far up");
    CHECK_NEAR(d[0], 2, 1e-6, 0, "bad, too far up");
    // rho 1/2
    s = one_ppo(d, down, -1, 0, 0, 0);
    CHECK(s.policy_loss == 0.75 && d[0] == 0 && s.clip_fraction == 1, "bad, far down enough");
    s = one_ppo(d, down, 1, 0, 0, 0);
    CHECK(s.clip_fraction == 0, "good, too far down");
    CHECK_NEAR(s.policy_loss, -0.5, 1e-6, 0, "good, too far down");
    CHECK_NEAR(d[0], -0.5, 1e-6, 0, "good, too far down");
    s = one_ppo(d, up, 0, 0, 0, 0);
    CHECK(s.policy_loss == 0 && d[0] == 0 && s.clip_fraction == 0, "no advantage");
    // Value 1 from an old value of 0: clipped to 1/2
    s = one_ppo(d, 0, 0, 1, 0, 2);
    CHECK(s.value_loss == 1.125 && d[1] == 0 && s.value_clip_fraction == 1, "far up enough");
    s = one_ppo(d, 0, 0, 1, 0, 0.5);
    CHECK(s.value_loss == 0.125 && d[1] == 0.0625 && s.value_clip_fraction == 0, "too far up");
    s = one_ppo(d, 0, 0, -1, 0, -2);
    CHECK(s.value_loss == 1.125 && d[1] == 0 && s.value_clip_fraction == 1, "far down enough");
    s = one_ppo(d, 0, 0, -1, 0, -0.5);
    CHECK(s.value_loss == 0.125 && d[1] == -0.0625 && s.value_clip_fraction == 0, "too far down");
    // Return in the middle of both: a tie, half of the gradient
    s = one_ppo(d, 0, 0, 1, 0, 0.75);
    CHECK(s.value_loss == 0.03125 && d[1] == 0.125 * 0.125 && s.value_clip_fraction == 0, "a tie");
    s = one_ppo(d, 0, 0, 0.5, 0, 2);
    CHECK(s.value_loss == 1.125 && d[1] == -0.125 * 1.5, "on the edge of the range");
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

static void golden_reward(char **line, int B, const double *c) {
    float chosen[MAX_B], rejected[MAX_B], margin[MAX_B], dc[MAX_B], dr[MAX_B];
    double want[MAX_B][3], mean = 0;
    for (int i = 0; i < B; i++) {
        double x[6];
        next_numbers(line, x, 6);
        chosen[i] = (float)x[0], rejected[i] = (float)x[1], margin[i] = (float)x[2];
        memcpy(want[i], x + 3, sizeof want[i]);
        RewardStats s = reward_loss(dc, dr, &chosen[i], &rejected[i], &margin[i], 1, 1, c[0]);
        CHECK_NEAR(s.loss, want[i][0], 1e-10, ABS, "reward, center %g, loss %d", c[0], i);
        mean += want[i][0] / B;
    }
    RewardStats s = reward_loss(dc, dr, chosen, rejected, margin, B, B, c[0]);
    CHECK_NEAR(s.loss, mean, 1e-10, 0, "reward, center %g, mean", c[0]);
    for (int i = 0; i < B; i++) {
        CHECK_NEAR(dc[i], want[i][1] / B, ULP, ABS, "reward, center %g, chosen %d", c[0], i);
        CHECK_NEAR(dr[i], want[i][2] / B, ULP, ABS, "reward, center %g, rejected %d", c[0], i);
    }
}

static void golden_kl(char **line, const char *name, int B) {
    float logp[MAX_B], ref[MAX_B], kl[MAX_B];
    unsigned char mask[MAX_B];
    double want[MAX_B];
    for (int i = 0; i < B; i++) {
        double x[3];
        next_numbers(line, x, 3);
        logp[i] = (float)x[0], ref[i] = (float)x[1], want[i] = x[2], mask[i] = 1;
    }
    kl_estimate(kl, logp, ref, mask, B, strcmp(name, "k1") ? KL_K3 : KL_K1);
    for (int i = 0; i < B; i++) CHECK_NEAR(kl[i], want[i], 1e-7, 1e-15, "%s, token %d", name, i);
}

// What the mask leaves out is poisoned.
static void golden_gae(char **line, int B, const double *c) {
    int row_start[MAX_B] = {0}, R = 0;
    float reward[MAX_B], value[MAX_B], A[MAX_B], returns[MAX_B];
    unsigned char mask[MAX_B];
    double want[MAX_B][2];
    for (int i = 0; i < B; i++) {
        double x[6];
        next_numbers(line, x, 6);
        if ((int)x[0] >= R) row_start[R++] = i;
        mask[i] = x[1] != 0;
        reward[i] = mask[i] ? (float)x[2] : NAN, value[i] = mask[i] ? (float)x[3] : NAN;
        memcpy(want[i], x + 4, sizeof want[i]);
    }
    row_start[R] = B;
    gae(A, returns, reward, value, mask, row_start, R, c[0], c[1]);
    for (int i = 0; i < B; i++) {
        CHECK_NEAR(A[i], want[i][0], ULP, 1e-11, "gamma %g lambda %g, advantage %d", c[0], c[1], i);
        CHECK_NEAR(returns[i], want[i][1], ULP, 1e-11, "gamma %g lambda %g, return %d", c[0], c[1],
                   i);
    }
}

static void golden_whiten(char **line, int B, bool shift_mean) {
    float x[MAX_B];
    unsigned char mask[MAX_B];
    double want[MAX_B];
    for (int i = 0; i < B; i++) {
        double v[3];
        next_numbers(line, v, 3);
        mask[i] = v[0] != 0, x[i] = mask[i] ? (float)v[1] : NAN, want[i] = v[2];
    }
    whiten(x, mask, B, shift_mean);
    for (int i = 0; i < B; i++)
        if (mask[i]) CHECK_NEAR(x[i], want[i], ULP, 1e-11, "whiten %d, token %d", shift_mean, i);
        else CHECK(isnan(x[i]), "whiten %d, token %d is not masked", shift_mean, i);
}

static void golden_ppo(char **line, int B, const double *c) {
    float x[6][MAX_B], dlogp[MAX_B], dvalue[MAX_B];
    unsigned char mask[MAX_B];
    double want[MAX_B][2];
    long n = 0;
    for (int i = 0; i < B; i++) {
        double v[9];
        next_numbers(line, v, 9);
        mask[i] = v[0] != 0, n += mask[i];
        for (int k = 0; k < 6; k++) x[k][i] = mask[i] ? (float)v[1 + k] : NAN;
        memcpy(want[i], v + 7, sizeof want[i]);
    }
    PpoStats s =
        ppo_loss(dlogp, dvalue, x[0], x[1], x[2], x[3], x[4], x[5], mask, B, n, c[0], c[1], c[2]);
    const double got[7] = {s.policy_loss, s.value_loss, s.clip_fraction, s.value_clip_fraction,
                           s.approx_kl,   s.ratio,      s.ratio_squared};
    for (int k = 0; k < 7; k++)
        CHECK_NEAR(got[k], c[3 + k], 1e-10, 1e-12, "ppo, clip %g, statistic %d", c[0], k);
    for (int i = 0; i < B; i++) {
        CHECK_NEAR(dlogp[i], want[i][0], ULP, 1e-13, "ppo, clip %g, dlogp %d", c[0], i);
        CHECK_NEAR(dvalue[i], want[i][1], ULP, 1e-13, "ppo, clip %g, dvalue %d", c[0], i);
    }
}

static void test_goldens(void) {
    char *text = file_read("test/golden/losses.txt", NULL), *line = text;
    int cases = 0;
    for (; *line; cases++) {
        while (*line == '#') line = strchr(line, '\n') + 1;
        char family[8], name[32];
        int B, used;
        double c[10];
        if (sscanf(line, "%7s %31s %d%n", family, name, &B, &used) != 3 || B > MAX_B)
            die(EXIT_BAD_INPUT, "test/golden/losses.txt: not a case: %.40s", line);
        line += used;
        const struct {
            const char *family;
            int constants;
        } known[] = {{"dpo", 2}, {"kto", 4}, {"orpo", 1},   {"reward", 1},
                     {"kl", 0},  {"gae", 2}, {"whiten", 1}, {"ppo", 10}};
        int k = 0;
        while (strcmp(known[k].family, family)) k++;
        next_numbers(&line, c, known[k].constants);
        switch (k) {
        case 0:
            golden_dpo(&line, name, B, c);
            break;
        case 1:
            golden_kto(&line, name, B, c);
            break;
        case 2:
            golden_orpo(&line, B, c);
            break;
        case 3:
            golden_reward(&line, B, c);
            break;
        case 4:
            golden_kl(&line, name, B);
            break;
        case 5:
            golden_gae(&line, B, c);
            break;
        case 6:
            golden_whiten(&line, B, c[0] != 0);
            break;
        default:
            golden_ppo(&line, B, c);
        }
    }
    CHECK(cases == 69, "%d cases in test/golden/losses.txt", cases);
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

// The same for the losses of RLHF. The whole PPO loss has two arguments per token; its arguments
// stay off the kinks, where a step of h would cross from one branch to the other.
static void test_rlhf_differences(void) {
    const double h = 0x1p-8;
    for (int i = 0; i < 60; i++) {
        float x[2] = {-3 + 0.1015625f * (float)i, 2 - 0.0703125f * (float)i}, d[2], none[2];
        const float margin = 0.25f * (float)(i % 3);
        reward_loss(d, d + 1, x, x + 1, &margin, 1, 1, 0.03);
        for (int side = 0; side < 2; side++) {
            double loss[2];
            for (int k = 0; k < 2; k++) {
                float y[2] = {x[0], x[1]};
                y[side] += (float)(k ? -h : h);
                loss[k] = reward_loss(none, none + 1, y, y + 1, &margin, 1, 1, 0.03).loss;
            }
            CHECK_NEAR(d[side], (loss[0] - loss[1]) / (2 * h), 1e-5, 1e-5, "reward, side %d at %g",
                       side, x[0]);
        }
    }
    // Log-ratios and values move by odd multiples of 1/64: more than h off log(1 +- 0.2), 1/4, and
    // ties of a value's two losses.
    enum { N = 24 };
    float x[6][N], d[2][N], none[2][N];
    unsigned char mask[N];
    Rng rng = rng_make(3, RNG_DATA);
    for (int t = 0; t < N; t++) {
        mask[t] = t % 5 != 0;
        for (int k = 0; k < 6; k++) x[k][t] = (float)((double)rng_below(&rng, 65) - 32) / 32;
        x[0][t] += 1.0f / 64, x[3][t] += 1.0f / 64; // logp and value; their old ones are x[1], x[4]
        if (!mask[t])
            for (int k = 0; k < 6; k++) x[k][t] = NAN;
    }
    const double clip = 0.2, clip_value = 0.25, vf = 0.3;
    const long n = N - (N + 4) / 5;
    ppo_loss(d[0], d[1], x[0], x[1], x[2], x[3], x[4], x[5], mask, N, n, clip, clip_value, vf);
    for (int which = 0; which < 2; which++)
        for (int t = 0; t < N; t++) {
            if (!mask[t]) {
                CHECK(d[which][t] == 0, "token %d has no mask and no gradient", t);
                continue;
            }
            float *at = &x[which ? 3 : 0][t];
            const float saved = *at;
            double loss[2];
            for (int k = 0; k < 2; k++) {
                *at = saved + (float)(k ? -h : h);
                PpoStats s = ppo_loss(none[0], none[1], x[0], x[1], x[2], x[3], x[4], x[5], mask, N,
                                      n, clip, clip_value, vf);
                loss[k] = s.policy_loss + vf * s.value_loss;
            }
            *at = saved;
            CHECK_NEAR(d[which][t], (loss[0] - loss[1]) / (2 * h), 1e-4, 1e-6,
                       "whole PPO loss, %s of token %d", which ? "value" : "logp", t);
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

static void test_rlhf_extremes(void) {
    const float up = 500, down = -500, zero = 0, nan = NAN, none[1] = {0};
    const unsigned char one = 1;
    float da, db, x;
    RewardStats s = reward_loss(&da, &db, &up, &down, NULL, 1, 1, 0);
    CHECK(s.loss == 0 && da == 0 && db == 0, "reward, won");
    s = reward_loss(&da, &db, &down, &up, NULL, 1, 1, 0);
    CHECK(s.loss == 1000 && da == -1 && db == 1, "reward, lost");
    s = reward_loss(&da, &db, &down, &up, NULL, 1, 1, 1);
    CHECK(s.loss == 1000 && da == -1 && db == 1, "reward, lost, centered already");
    for (int side = 0; side < 2; side++) {
        s = reward_loss(&da, &db, side ? &zero : &nan, side ? &nan : &zero, NULL, 1, 1, 0.1);
        CHECK(isnan(s.loss) && isnan(da) && isnan(db), "reward, NaN");
        CHECK(isnan(s.min) && isnan(s.max), "NaN is the smallest and the largest score");
    }
    const float scores[3] = {NAN, 1, 2}, others[3] = {0, 0, 0};
    float d3[3], e3[3];
    s = reward_loss(d3, e3, scores, others, NULL, 3, 3, 0);
    CHECK(isnan(s.min) && isnan(s.max) && isnan(s.loss), "and stays so");
    s = reward_loss(&da, &db, none, none, NULL, 0, 1, 0);
    CHECK(s.loss == 0 && s.min > s.max, "no pairs");

    for (int k = KL_K1; k <= KL_K3; k++) {
        kl_estimate(&x, &nan, &zero, &one, 1, (KlEstimator)k);
        CHECK(isnan(x), "KL, NaN in the policy");
        kl_estimate(&x, &zero, &nan, &one, 1, (KlEstimator)k);
        CHECK(isnan(x), "KL, NaN in the reference");
    }
    kl_estimate(&x, &down, &zero, &one, 1, KL_K3);
    CHECK(x == INFINITY, "k3 of e^500");
    kl_estimate(&x, &zero, &down, &one, 1, KL_K3);
    CHECK(x == 499, "k3 of e^-500");
    const float tiny = 1e-6f;
    kl_estimate(&x, &tiny, &zero, &one, 1, KL_K3);
    CHECK_NEAR(x, 0.5e-12, 1e-3, 0, "k3 keeps the digits of a small difference, about d^2/2");

    // NaN reaches all tokens before it, and nothing of another row
    const int row_start[3] = {0, 3, 5};
    const unsigned char all[5] = {1, 1, 1, 1, 1}, no[5] = {0};
    const float reward[5] = {1, NAN, 1, 1, 1}, value[5] = {0, 0, 0, 0, 0};
    float A[5], R[5];
    gae(A, R, reward, value, all, row_start, 2, 1, 1);
    CHECK(isnan(A[0]) && isnan(A[1]) && A[2] == 1 && A[3] == 2 && A[4] == 1, "GAE, NaN");
    CHECK(isnan(R[0]) && R[2] == 1 && R[3] == 2, "GAE, NaN in returns");
    gae(A, R, reward, value, no, row_start, 2, 1, 1);
    for (int t = 0; t < 5; t++) CHECK(A[t] == 0 && R[t] == 0, "GAE without masked tokens");

    float w[5] = {7, NAN, 5, NAN, 1e30f};
    const unsigned char single[5] = {0, 0, 1, 0, 0}, two[5] = {1, 0, 1, 0, 0};
    whiten(w, no, 5, true);
    CHECK(w[0] == 7 && w[2] == 5, "whitening nothing");
    whiten(w, single, 5, false);
    CHECK(w[2] == 5, "one token keeps its mean");
    whiten(w, single, 5, true);
    CHECK(w[2] == 0 && w[0] == 7 && isnan(w[1]) && w[4] == 1e30f, "one token becomes 0");
    w[2] = 7;
    whiten(w, two, 5, true);
    CHECK(w[0] == 0 && w[2] == 0, "equals become 0");
    w[0] = 3, w[2] = 5;
    whiten(w, two, 5, true);
    CHECK_NEAR(w[0], -sqrt(0.5), ULP, 0, "two: minus one over the square root of two");
    CHECK(w[2] == -w[0], "two, the other");
    w[0] = NAN;
    whiten(w, two, 5, true);
    CHECK(isnan(w[0]) && isnan(w[2]), "NaN in one is NaN in all");

    double d[2];
    for (int which = 0; which < 5; which++) { // logp, advantage, value, old value, return
        double a[5] = {0.1, 0.1, 0.1, 0.1, 0.1};
        a[which] = NAN;
        PpoStats p = one_ppo(d, a[0], a[1], a[2], a[3], a[4]);
        CHECK(isnan(which < 2 ? p.policy_loss : p.value_loss), "PPO, NaN in argument %d", which);
        CHECK(which == 3 || isnan(d[which >= 2]), "PPO, NaN in the gradient, argument %d", which);
    }
    PpoStats p = one_ppo(d, 700, 1, 1e6, 0, 1e6);
    CHECK(p.policy_loss == -1.25 && d[0] == 0 && d[1] == 0, "PPO, a ratio of e^700, good");
    CHECK(p.value_clip_fraction == 1, "PPO, a value that moved by 1e6");
    p = one_ppo(d, 800, 0, 0, 0, 0);
    CHECK(isnan(p.policy_loss) && isnan(d[0]), "PPO, an infinite ratio times 0");
    p = one_ppo(d, -700, -1, 0, 0, 0);
    CHECK(p.policy_loss == 0.75 && d[0] == 0, "PPO, a ratio of e^-700, bad");
    const float lp = 3, one_f = 1;
    PpoStats free = ppo_loss(&da, &db, &lp, &zero, &one_f, &up, &zero, &zero, &one, 1, 1, INFINITY,
                             INFINITY, 1);
    CHECK(free.clip_fraction == 0 && free.value_clip_fraction == 0 && db == 500, "no clipping");
    CHECK_NEAR(da, -exp(3), ULP, 0, "no clipping of the policy");
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

// Splits of a minibatch add up, and tokens outside the mask are neither read nor moved.
static void test_rlhf_splits(void) {
    enum { N = 11, FIRST = 4 };
    float x[6][N], d[2][N], e[2][N];
    unsigned char mask[N];
    Rng rng = rng_make(2, RNG_DATA);
    long n = 0;
    for (int t = 0; t < N; t++) {
        mask[t] = t % 3 != 1, n += mask[t];
        for (int k = 0; k < 6; k++)
            x[k][t] = mask[t] ? (float)(rng_uniform(&rng) - (k < 2 ? 1.5 : 0.5)) : NAN;
    }
    const double clip = 0.05, clip_value = 0.1, vf = 0.3;
    PpoStats s[3];
    const int from[3] = {0, 0, FIRST}, tokens[3] = {N, FIRST, N - FIRST};
    for (int i = 0; i < 3; i++) {
        const int f = from[i];
        s[i] = ppo_loss((i ? e : d)[0] + f, (i ? e : d)[1] + f, x[0] + f, x[1] + f, x[2] + f,
                        x[3] + f, x[4] + f, x[5] + f, mask + f, tokens[i], n, clip, clip_value, vf);
    }
    CHECK(!memcmp(d, e, sizeof d), "PPO's gradients of two splits");
    const double *whole = &s[0].policy_loss, *one = &s[1].policy_loss, *two = &s[2].policy_loss;
    for (size_t k = 0; k < sizeof s[0] / sizeof(double); k++)
        CHECK_NEAR(one[k] + two[k], whole[k], 1e-13, 1e-14, "PPO's statistic %d", (int)k);
    CHECK(s[0].clip_fraction > 0 && s[0].value_clip_fraction > 0, "something is clipped: %g %g",
          s[0].clip_fraction, s[0].value_clip_fraction);
    for (int t = 0; t < N; t++)
        CHECK(mask[t] ? isfinite(d[0][t]) : d[0][t] == 0 && d[1][t] == 0, "gradient of token %d",
              t);

    // A policy equal to the one that sampled: ratio 1 on every token, nothing clipped
    s[0] =
        ppo_loss(d[0], d[1], x[1], x[1], x[2], x[4], x[4], x[5], mask, N, n, clip, clip_value, vf);
    CHECK(s[0].clip_fraction == 0 && s[0].value_clip_fraction == 0 && s[0].approx_kl == 0,
          "nothing has moved yet");
    CHECK_NEAR(s[0].ratio, 1, 1e-15, 0, "ratio 1");
    CHECK_NEAR(s[0].ratio_squared, 1, 1e-15, 0, "of variance 0");
    for (int t = 0; t < N; t++)
        if (mask[t])
            CHECK_NEAR(d[0][t], -x[2][t] / (double)n, ULP, 0, "the plain policy gradient, %d", t);

    float a[N], b[N], margin[N];
    for (int i = 0; i < N; i++) {
        a[i] = (float)rng_normal(&rng), b[i] = (float)rng_normal(&rng);
        margin[i] = (float)rng_uniform(&rng);
    }
    RewardStats r[3];
    for (int i = 0; i < 3; i++) {
        const int f = from[i];
        r[i] = reward_loss((i ? e : d)[0] + f, (i ? e : d)[1] + f, a + f, b + f, margin + f,
                           tokens[i], N, 0.01);
    }
    CHECK(!memcmp(d, e, sizeof d), "the reward model's gradients of two splits");
    CHECK_NEAR(r[1].loss + r[2].loss, r[0].loss, 1e-14, 0, "loss");
    CHECK_NEAR(r[1].chosen + r[2].chosen, r[0].chosen, 1e-13, 1e-14, "chosen");
    CHECK_NEAR(r[1].rejected + r[2].rejected, r[0].rejected, 1e-13, 1e-14, "rejected");
    CHECK_NEAR(r[1].margin + r[2].margin, r[0].margin, 1e-13, 1e-14, "margin");
    CHECK(r[1].correct + r[2].correct == r[0].correct, "correct");
    CHECK(fminf(r[1].min, r[2].min) == r[0].min && fmaxf(r[1].max, r[2].max) == r[0].max, "range");
}

// On the samples of a policy both estimators have the mean KL(pi || ref), with k3 never negative.
static void test_kl_means(void) {
    const double pi[4] = {0.5, 0.3, 0.15, 0.05}, ref[4] = {0.1, 0.2, 0.3, 0.4};
    double exact = 0, mean[2] = {0};
    for (int k = 0; k < 4; k++) {
        exact += pi[k] * log(pi[k] / ref[k]);
        for (int e = KL_K1; e <= KL_K3; e++) {
            const float logp = (float)log(pi[k]), logr = (float)log(ref[k]);
            const unsigned char one = 1;
            float kl;
            kl_estimate(&kl, &logp, &logr, &one, 1, (KlEstimator)e);
            mean[e] += pi[k] * kl;
            CHECK(e == KL_K1 || kl >= 0, "k3 is never negative");
        }
    }
    CHECK_NEAR(mean[KL_K1], exact, 1e-6, 0, "k1 is unbiased");
    CHECK_NEAR(mean[KL_K3], exact, 1e-6, 0, "k3 is unbiased");
}

// What lambda's ends mean: 1 gives the reward to come, 0 one step and the critic.
static void test_gae_ends(void) {
    enum { N = 6 };
    const int row_start[2] = {0, N};
    const unsigned char mask[N] = {0, 0, 1, 1, 1, 1};
    const float reward[N] = {NAN, NAN, 1, -2, 0.5f, 4}, value[N] = {NAN, NAN, 3, 1, -1, 2};
    float A[N], R[N];
    gae(A, R, reward, value, mask, row_start, 1, 0.5, 1);
    CHECK_NEAR(R[2], 1 - 1 + 0.125 + 0.5, ULP, 0, "lambda 1: discounted reward to come");
    CHECK_NEAR(A[2], R[2] - 3, ULP, 0, "less the value");
    gae(A, R, reward, value, mask, row_start, 1, 0.5, 0);
    CHECK_NEAR(R[2], 1 + 0.5 * 1, ULP, 0, "lambda 0: one step and the value after it");
    CHECK_NEAR(R[5], 4, ULP, 0, "after the last token there is no value");
}

// SPIN's loss is the logistic loss of log-ratios that the paper prints.
static void test_spin(void) {
    const float real[2] = {-3, -5}, generated[2] = {-4, -2}, old_real[2] = {-3.5f, -5};
    const float old_generated[2] = {-4, -2.5f};
    float dreal[2], dgenerated[2];
    const double lambda = 0.4;
    PairStats s = spin_loss(dreal, dgenerated, real, generated, old_real, old_generated, 2, 2, 0.4);
    const double x[2] = {lambda * 0.5, lambda * -0.5};
    CHECK_NEAR(s.loss, (log1p(exp(-x[0])) + log1p(exp(-x[1]))) / 2, 1e-14, 0, "log(1 + e^-x)");
    for (int i = 0; i < 2; i++) {
        CHECK_NEAR(dreal[i], -lambda / (1 + exp(x[i])) / 2, ULP, 0, "gradient, real %d", i);
        CHECK(dgenerated[i] == -dreal[i], "gradient, generated %d", i);
    }
    CHECK_NEAR(s.chosen, lambda * 0.5, 1e-14, 0, "lambda log-ratio of the real ones");
    CHECK_NEAR(s.rejected, lambda * 0.5, 1e-14, 0, "of the generated ones");
    CHECK(s.correct == 1, "told apart");
    s = spin_loss(dreal, dgenerated, real, generated, real, generated, 2, 2, lambda);
    CHECK_NEAR(s.loss, log(2), 1e-15, 0, "a player that has not moved");
}

static void test_kto_kl(void) {
    const float logp[4] = {-1, -2, -3, -4}, ref[4] = {-1.5f, -2.5f, -2, -5};
    CHECK(kto_kl(logp, ref, 4) == 0.25, "the mean: %g", kto_kl(logp, ref, 4));
    CHECK(kto_kl(ref, logp, 4) == 0, "a negative mean is clamped");
    CHECK(kto_kl(logp, logp, 4) == 0 && kto_kl(logp, ref, 0) == 0, "no difference, no pairs");
    // (Clamped one by one, the first would be 0.5.) It is a constant: the gradient of an example has
    // no part that comes from it
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
    test_rlhf_by_hand();
    test_clipping();
    test_goldens();
    test_differences();
    test_rlhf_differences();
    test_extremes();
    test_rlhf_extremes();
    test_signs();
    test_splits();
    test_rlhf_splits();
    test_kl_means();
    test_gae_ends();
    test_spin();
    test_kto_kl();
    test_kto_propositions();
    test_orpo_zero();
    return test_end("losses");
}
