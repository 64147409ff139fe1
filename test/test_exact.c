// Exact results: policies small enough that the optimum of a loss is known in closed form, trained
// through losses.h until they are there.
//
//   IPO's bandit       Azar et al. 2023, section 5: IPO stops at a known policy, DPO never stops
//   Bradley-Terry      DPO's optimum is ref exp(r / beta) / Z (Rafailov et al. 2023, eq. 4)
//   noisy labels       where conservative and robust DPO and the hinge come to rest
//   contradictions     KTO and DPO on opposed preferences (Ethayarajh et al. 2024, theorem 4.3)
//   PPO                its optimum with the KL term is ref exp(r / coef) / Z, too; with k3 it is not
//   SPIN's map         what an iteration makes of the last player (Chen et al. 2024, theorem 5.4)
#include "test.h"
#include "bandit.h"

static const double UNIFORM[3] = {1.0 / 3, 1.0 / 3, 1.0 / 3};
static const double TAUS[4] = {0.1, 0.3, 0.5, 1};
static const char *const FLAVOURS[2] = {"PyTorch's Adam", "TensorFlow's Adam"};
enum { STEPS = 18000 }; // the paper's, with its learning rate 0.01

// Full-batch training on n pairs from the reference, arm a's logit moved by `push`.
//
// At a constant rate Adam never rests. v forgets (half in 700 steps), so near an optimum the step
// rate / sqrt(v) grows until it is unstable, and whatever noise there is, here the rounding of
// log-probs to float, swings up to some 1e-4 before v has learnt of it. So with `settle` the rate
// goes to 0 linearly in the second half.
static Bandit duel(const Duel *data, int n, const double *ref, double push, DpoLoss type,
                   double tau, AdamFlavour flavour, bool settle) {
    Bandit b = bandit_make(3, ref, flavour);
    b.theta[0] += push;
    bandit_forward(&b);
    for (int i = 0; i < STEPS; i++) {
        bandit_dpo(&b, data, n, type, tau, 0, 1);
        bandit_step(&b, settle && i > STEPS / 2 ? 0.02 * (STEPS - i) / STEPS : 0.01);
    }
    return b;
}

// want (K) <- ref exp(s) / Z.
static void tilt(double *want, const double *ref, const double *s, int K) {
    double sum = 0;
    for (int k = 0; k < K; k++) sum += want[k] = ref[k] * exp(s[k]);
    for (int k = 0; k < K; k++) want[k] /= sum;
}

static double distance(const double *p, const double *q, int K) {
    double worst = 0;
    for (int k = 0; k < K; k++) {
        const double d = fabs(p[k] - q[k]);
        if (!(d <= worst)) worst = d; // NaN, too
    }
    return worst;
}

// IPO's logits s minimise the sum over pairs of (s_winner - s_loser - c)^2, c = 1/(2 tau): a
// spring between each two arms of a pair. By symmetry D1 has s = (2c/3, 0, -2c/3), the cycle D2
// s = 0, and D3 as it must be read s = (c, 0, c). DPO pushes a winner for ever where no cycle
// holds it.
static void test_ipo_bandit(void) {
    const double other[3] = {0.2, 0.5, 0.3};
    // pi_a after DPO's 18,000 steps on D1: not an optimum, so it depends on the optimiser. From an
    // independent program in double.
    const double greedy[4] = {1.000000, 1.000000, 1.000000, 0.999998};
    double settled = 0, swinging = 0;
    for (int f = 0; f < 2; f++) {
        double ipo_a[4], dpo_a[4];
        for (int i = 0; i < 4; i++) {
            const double tau = TAUS[i], c = 0.5 / tau;
            const double s1[3] = {2 * c / 3, 0, -2 * c / 3}, s3[3] = {c, 0, c};
            double want[3];
            Bandit b = duel(DATA_1, 3, UNIFORM, 0, DPO_IPO_SUM, tau, f, true);
            tilt(want, UNIFORM, s1, 3);
            CHECK(distance(b.pi, want, 3) < 1e-4, "IPO on D1, tau %g, %s: %g %g %g", tau,
                  FLAVOURS[f], b.pi[0], b.pi[1], b.pi[2]);
            settled = fmax(settled, distance(b.pi, want, 3));
            ipo_a[i] = b.pi[0];
            b = duel(DATA_1, 3, UNIFORM, 0, DPO_IPO_SUM, tau, f, false); // the paper's rate
            CHECK(distance(b.pi, want, 3) < 1e-3, "IPO on D1, tau %g, %s, constant rate: %g %g %g",
                  tau, FLAVOURS[f], b.pi[0], b.pi[1], b.pi[2]);
            swinging = fmax(swinging, distance(b.pi, want, 3));

            b = duel(DATA_1, 3, other, 0, DPO_IPO_SUM, tau, f, true);
            tilt(want, other, s1, 3);
            CHECK(distance(b.pi, want, 3) < 1e-4, "IPO on D1, skew reference, tau %g, %s: %g %g %g",
                  tau, FLAVOURS[f], b.pi[0], b.pi[1], b.pi[2]);
            settled = fmax(settled, distance(b.pi, want, 3));

            b = duel(DATA_2, 3, UNIFORM, 1, DPO_IPO_SUM, tau, f, true);
            CHECK(distance(b.pi, UNIFORM, 3) < 1e-4, "IPO on D2, tau %g, %s", tau, FLAVOURS[f]);
            settled = fmax(settled, distance(b.pi, UNIFORM, 3));

            b = duel(DATA_3_READ, 2, UNIFORM, 0, DPO_IPO_SUM, tau, f, true);
            tilt(want, UNIFORM, s3, 3);
            CHECK(distance(b.pi, want, 3) < 1e-4, "IPO on D3', tau %g, %s: %g %g %g", tau,
                  FLAVOURS[f], b.pi[0], b.pi[1], b.pi[2]);
            CHECK_NEAR(b.pi[1], 1 / (1 + 2 * exp(c)), 0, 1e-4, "IPO's loser on D3', tau %g", tau);
            settled = fmax(settled, distance(b.pi, want, 3));

            b = duel(DATA_1, 3, UNIFORM, 0, DPO_SIGMOID, tau, f, false);
            CHECK(b.pi[0] > 0.999, "DPO on D1, tau %g, %s: greedy %g", tau, FLAVOURS[f], b.pi[0]);
            if (f == ADAM_TORCH)
                CHECK_NEAR(b.pi[0], greedy[i], 0, 2e-6, "DPO on D1, tau %g, known value", tau);
            dpo_a[i] = b.pi[0];

            b = duel(DATA_2, 3, UNIFORM, 1, DPO_SIGMOID, tau, f, true);
            CHECK(distance(b.pi, UNIFORM, 3) < 1e-4, "DPO on D2, tau %g, %s", tau, FLAVOURS[f]);

            b = duel(DATA_3_READ, 2, UNIFORM, 0, DPO_SIGMOID, tau, f, false);
            CHECK(b.pi[1] < 1e-3 && fabs(b.pi[0] - 0.5) < 1e-3,
                  "DPO on D3', tau %g, %s: b dies, %g %g %g", tau, FLAVOURS[f], b.pi[0], b.pi[1],
                  b.pi[2]);

            for (int type = 0; type < 2; type++) { // as printed: both losses are at rest already
                b = duel(DATA_3, 2, UNIFORM, 0, type ? DPO_SIGMOID : DPO_IPO_SUM, tau, f, false);
                CHECK(distance(b.pi, UNIFORM, 3) < 1e-12, "D3 as printed, tau %g: nothing moves",
                      tau);
            }
        }
        // tau is a dial of IPO's and none of DPO's.
        CHECK(ipo_a[0] - ipo_a[3] > 0.5, "IPO: pi_a from %g to %g", ipo_a[0], ipo_a[3]);
        CHECK(fabs(dpo_a[0] - dpo_a[3]) < 1e-3, "DPO: pi_a from %g to %g", dpo_a[0], dpo_a[3]);
    }
    printf("IPO against the closed forms: within %.1e, at a constant rate within %.1e\n", settled,
           swinging);

    // Actions of one token: dividing by length changes nothing.
    Bandit sum = duel(DATA_1, 3, other, 0, DPO_IPO_SUM, 0.3, ADAM_TORCH, false);
    Bandit mean = duel(DATA_1, 3, other, 0, DPO_IPO, 0.3, ADAM_TORCH, false);
    CHECK(!memcmp(sum.pi, mean.pi, sizeof sum.pi), "IPO's two forms on actions of one token");

    // "For every tau" is a limit: DPO at tau 3 and 10 is not greedy after the paper's steps.
    for (int f = 0; f < 2; f++) {
        CHECK_NEAR(duel(DATA_1, 3, UNIFORM, 0, DPO_SIGMOID, 3, f, false).pi[0], 0.993228, 0, 1e-5,
                   "DPO on D1, tau 3, after 18,000 steps, %s", FLAVOURS[f]);
        CHECK_NEAR(duel(DATA_1, 3, UNIFORM, 0, DPO_SIGMOID, 10, f, false).pi[0], 0.819317, 0, 1e-5,
                   "DPO on D1, tau 10, after 18,000 steps, %s", FLAVOURS[f]);
    }
}

// The two places of eps: one formula when eps is scaled, and apart where gradients are small.
static void test_adam_flavours(void) {
    Bandit torch = bandit_make(3, UNIFORM, ADAM_TORCH),
           tf = bandit_make(3, UNIFORM, ADAM_TENSORFLOW);
    Bandit plain = torch;
    tf.eps = plain.eps = 1e-2;
    double apart = 0, same = 0;
    for (int t = 1; t <= 200; t++) {
        Bandit *all[3] = {&torch, &tf, &plain};
        torch.eps = 1e-2 / sqrt(1 - pow(0.999, t));
        for (int i = 0; i < 3; i++) {
            bandit_dpo(all[i], DATA_1, 3, DPO_SIGMOID, 0.1, 0, 1);
            bandit_step(all[i], 0.01);
        }
        same = fmax(same, distance(torch.pi, tf.pi, 3));
        apart = fmax(apart, distance(plain.pi, tf.pi, 3));
    }
    // float log-probs let a last bit of theta become 1e-7 of a gradient
    CHECK(same < 1e-6, "eps scaled: %g apart", same);
    CHECK(apart > 0.05, "eps not scaled: %g apart", apart);
}

// ------------------------------------------------------------------------------------------------
// Bradley-Terry labels: i beats j with probability sigmoid(r_i - r_j). The loss's expectation over
// all pairs is least where beta h_ij = r_i - r_j for every pair, that is pi = ref exp(r/beta) / Z,
// the policy of most reward less beta KL.

// Add the gradient of the expected loss: i beats j with probability p, which `turned` of all labels
// belie.
static void labelled(Bandit *b, const double *r, DpoLoss type, double beta, double e,
                     double turned) {
    const double pairs = b->K * (b->K - 1) / 2.0;
    for (int i = 0; i < b->K; i++)
        for (int j = 0; j < b->K; j++) {
            if (i == j) continue;
            const double p = sigmoid(r[i] - r[j]);
            bandit_dpo(b, &(Duel){i, j}, 1, type, beta, e,
                       ((1 - turned) * p + turned * (1 - p)) / pairs);
        }
}

static void test_bradley_terry(void) {
    enum { K = 6 };
    const double ref[K] = {0.3, 0.25, 0.2, 0.15, 0.07, 0.03};
    const double r[K] = {0.1, -0.5, 0.7, 0.3, 1.2, 0.9}, betas[3] = {0.1, 0.5, 2};
    for (int i = 0; i < 3; i++) {
        const double beta = betas[i];
        double want[K], s[K];
        for (int k = 0; k < K; k++) s[k] = r[k] / beta;
        tilt(want, ref, s, K);
        for (int robust = 0; robust < 2; robust++) { // one label in five is turned round
            Bandit b = bandit_make(K, ref, ADAM_TORCH);
            for (int t = 0; t < 6000; t++) {
                if (robust) labelled(&b, r, DPO_ROBUST, beta, 0.2, 0.2);
                else labelled(&b, r, DPO_SIGMOID, beta, 0, 0);
                bandit_step(&b, t < 3000 ? 0.02 : 0.002);
            }
            CHECK(distance(b.pi, want, K) < 1e-4, "%s, beta %g: %g from ref exp(r/beta)/Z",
                  robust ? "robust DPO with turned labels" : "DPO", beta, distance(b.pi, want, K));
        }
    }
}

// Two arms, one pair a > b, reference (.3, .7): x = beta h at rest.
static void test_noisy_labels(void) {
    const double ref[2] = {0.3, 0.7};
    const Duel ab = {0, 1};
    for (int i = 0; i < 4; i++) {
        const double beta = TAUS[i];
        Bandit cautious = bandit_make(2, ref, ADAM_TORCH), hinge = cautious;
        for (int t = 0; t < 6000; t++) {
            bandit_dpo(&cautious, &ab, 1, DPO_SIGMOID, beta, 0.1, 1), bandit_step(&cautious, 0.02);
            bandit_dpo(&hinge, &ab, 1, DPO_HINGE, beta, 0, 1), bandit_step(&hinge, 0.02);
        }
        const double base = log(ref[0] / ref[1]);
        // Conservative DPO: x = log((1-e)/e), so the log of pi_a/pi_b moves by log(9)/beta
        CHECK_NEAR(beta * (cautious.theta[0] - cautious.theta[1] - base), log(9), 1e-4, 0,
                   "conservative DPO, beta %g", beta);
        // The hinge: x reaches 1 and stays, up to what Adam's momentum adds
        const double x = beta * (hinge.theta[0] - hinge.theta[1] - base);
        CHECK(x >= 1 && x < 1 + 0.5 * beta, "hinge, beta %g: x %g", beta, x);
    }
}

// ------------------------------------------------------------------------------------------------
// Opposed preferences between two arms, split into single examples for KTO

// Add the gradient of KTO's loss with arm `arm` called desirable (or not); returns the loss.
static double judged(Bandit *b, int arm, bool desirable, double z, double beta, double weight) {
    float dlogp;
    const unsigned char label = desirable;
    KtoStats s =
        kto_loss(&dlogp, &b->logp[arm], &b->ref[arm], &label, 1, 1, z, KTO_KTO, beta, 1, 1);
    b->dlogp[arm] += weight * dlogp;
    return weight * s.loss;
}

static void test_contradictions(void) {
    const double ref[2] = {0.1, 0.9}, p = 0.6, betas[4] = {0.1, 0.5, 1, 2};
    // First version of the paper: a > b and b > a once each. Wherever the policy is, the loss is
    // 1/2 and the gradient is 0, to the bit.
    for (int i = 0; i < 4; i++) {
        Bandit b = bandit_make(2, ref, ADAM_TORCH);
        for (double lead = -5; lead <= 5; lead += 0.7) {
            b.theta[0] = b.theta[1] + lead;
            bandit_forward(&b);
            double loss = 0;
            for (int arm = 0; arm < 2; arm++)
                for (int label = 0; label < 2; label++)
                    loss += judged(&b, arm, label, 0.4, betas[i], 0.25);
            CHECK_NEAR(loss, 0.5, 4e-15, 0, "KTO's loss on opposed preferences");
            CHECK(b.dlogp[0] == 0 && b.dlogp[1] == 0, "KTO's gradient on opposed preferences");
        }
    }
    // Later versions: a share p = .6 prefers a, which the reference has in one case of ten. DPO
    // rests where pi_a / pi_b = ref_a / ref_b (p / (1-p))^(1/beta): for a large beta the minority
    // wins. KTO moves to a for every beta, with z = 0 and with z = KL(pi || ref).
    const double rests[4] = {0.865, 0.200, 0.143, 0.120}; // to three digits
    for (int i = 0; i < 4; i++) {
        const double beta = betas[i], odds = ref[0] / ref[1] * pow(p / (1 - p), 1 / beta);
        Bandit dpo = bandit_make(2, ref, ADAM_TORCH);
        for (int t = 0; t < 6000; t++) {
            bandit_dpo(&dpo, &(Duel){0, 1}, 1, DPO_SIGMOID, beta, 0, p);
            bandit_dpo(&dpo, &(Duel){1, 0}, 1, DPO_SIGMOID, beta, 0, 1 - p);
            bandit_step(&dpo, 0.01);
        }
        CHECK_NEAR(dpo.pi[0], odds / (1 + odds), 0, 1e-4, "DPO at rest, beta %g", beta);
        CHECK_NEAR(dpo.pi[0], rests[i], 0, 6e-4, "DPO at rest, beta %g, known value", beta);
        for (int with_kl = 0; with_kl < 2; with_kl++) {
            Bandit kto = bandit_make(2, ref, ADAM_TORCH);
            bool grows = true;
            for (int t = 0; t < 6000; t++) {
                const double before = kto.pi[0];
                double z = 0;
                for (int k = 0; with_kl && k < 2; k++)
                    z += kto.pi[k] * ((double)kto.logp[k] - kto.ref[k]);
                judged(&kto, 0, true, z, beta, p / 2), judged(&kto, 0, false, z, beta, (1 - p) / 2);
                judged(&kto, 1, true, z, beta, (1 - p) / 2), judged(&kto, 1, false, z, beta, p / 2);
                bandit_step(&kto, 0.01);
                grows = grows && (kto.pi[0] > before || kto.pi[0] > 1 - 1e-6);
            }
            CHECK(grows && kto.pi[0] > 0.9, "KTO goes with the majority, beta %g: %g", beta,
                  kto.pi[0]);
        }
    }
}

// ------------------------------------------------------------------------------------------------
// PPO with exact expectations: every arm is a row of one token, weighed with the probability that
// the policy samples it.

// Rewards r less coef times the KL estimate, as the policy of the moment sees them: A (K) and
// R (K) with a critic that says V in the one state there is.
static void arms_gae(const Bandit *b, float *A, float *R, const double *r, double coef,
                     KlEstimator kind, double V) {
    float kl[MAX_ARMS], reward[MAX_ARMS], value[MAX_ARMS];
    unsigned char mask[MAX_ARMS];
    int row_start[MAX_ARMS + 1] = {0};
    for (int k = 0; k < b->K; k++) mask[k] = 1, row_start[k + 1] = k + 1, value[k] = (float)V;
    kl_estimate(kl, b->logp, b->ref, mask, b->K, kind);
    for (int k = 0; k < b->K; k++) reward[k] = (float)(r[k] - coef * kl[k]);
    gae(A, R, reward, value, mask, row_start, b->K, 1, 0.95);
}

// Rounds of PPO, 4 epochs on each. The critic is one number.
static void arms_ppo(Bandit *b, const double *r, double coef, KlEstimator kind, int rounds) {
    double V = 0, old_pi[MAX_ARMS];
    float A[MAX_ARMS], R[MAX_ARMS], old_logp[MAX_ARMS], value[MAX_ARMS], old_value[MAX_ARMS];
    float dlogp[MAX_ARMS], dvalue[MAX_ARMS];
    unsigned char mask[MAX_ARMS];
    for (int k = 0; k < b->K; k++) mask[k] = 1;
    for (int round = 0; round < rounds; round++) {
        const double left = (double)(rounds - round) / rounds; // as in `duel`
        memcpy(old_pi, b->pi, sizeof old_pi), memcpy(old_logp, b->logp, sizeof old_logp);
        arms_gae(b, A, R, r, coef, kind, V);
        for (int k = 0; k < b->K; k++) old_value[k] = (float)V;
        for (int epoch = 0; epoch < 4; epoch++) {
            for (int k = 0; k < b->K; k++) value[k] = (float)V;
            ppo_loss(dlogp, dvalue, b->logp, old_logp, A, value, old_value, R, mask, b->K, 1, 0.2,
                     0.2, 0.1);
            for (int k = 0; k < b->K; k++) {
                b->dlogp[k] += old_pi[k] * dlogp[k];
                V -= old_pi[k] * dvalue[k];
            }
            bandit_step(b, left > 0.5 ? 0.02 : 0.04 * left);
        }
    }
}

static void test_ppo(void) {
    enum { K = 6 };
    const double ref[K] = {0.3, 0.25, 0.2, 0.15, 0.07, 0.03};
    const double r[K] = {0.1, -0.5, 0.7, 0.3, 1.2, 0.9}, coefs[3] = {0.1, 0.5, 2};
    double worst = 0;
    for (int i = 0; i < 3; i++) {
        double want[K], s[K];
        for (int k = 0; k < K; k++) s[k] = r[k] / coefs[i];
        tilt(want, ref, s, K);
        Bandit b = bandit_make(K, ref, ADAM_TORCH);
        arms_ppo(&b, r, coefs[i], KL_K1, 3000);
        CHECK(distance(b.pi, want, K) < 1e-4, "PPO, coefficient %g: %g from ref exp(r/coef)/Z",
              coefs[i], distance(b.pi, want, K));
        worst = fmax(worst, distance(b.pi, want, K));
    }
    printf("PPO against ref exp(r/coef)/Z: within %.1e\n", worst);

    // The first step's gradient against that of the objective, E[r] - coef KL, whose derivative is
    // pi_k (R_k - E[R]) for logit k, R = r - coef log(pi/ref). k3 in the reward misses
    // coef (ref_k - pi_k).
    Bandit b = bandit_make(K, ref, ADAM_TORCH);
    for (int k = 0; k < K; k++) b.theta[k] += 0.3 * (k % 3);
    bandit_forward(&b);
    for (int kind = KL_K1; kind <= KL_K3; kind++) {
        float A[K], R[K];
        arms_gae(&b, A, R, r, 0.7, (KlEstimator)kind, 0.4);
        double mean = 0, sum = 0, shaped[K];
        for (int k = 0; k < K; k++) {
            shaped[k] = r[k] - 0.7 * log(b.pi[k] / ref[k]);
            mean += b.pi[k] * shaped[k], sum += b.pi[k] * A[k];
        }
        for (int k = 0; k < K; k++) {
            const double exact = b.pi[k] * (shaped[k] - mean), got = b.pi[k] * (A[k] - sum);
            const double missing = kind == KL_K1 ? 0 : 0.7 * (ref[k] - b.pi[k]);
            CHECK_NEAR(got + missing, exact, 1e-6, 1e-7, "gradient with k%d, arm %d", 2 * kind + 1,
                       k);
        }
    }

    // Nothing to gain, and a policy that is a little off its reference: k1 leads back, k3 away.
    const double half[2] = {0.5, 0.5}, nothing[2] = {0, 0};
    for (int kind = KL_K1; kind <= KL_K3; kind++) {
        Bandit off = bandit_make(2, half, ADAM_TORCH);
        off.theta[0] += 0.2;
        bandit_forward(&off);
        arms_ppo(&off, nothing, 0.5, (KlEstimator)kind, kind == KL_K1 ? 1000 : 100);
        if (kind == KL_K1) CHECK_NEAR(off.pi[0], 0.5, 0, 1e-4, "k1 leads back");
        else CHECK(off.pi[0] > 0.9, "k3 in the reward leads away: %g", off.pi[0]);
    }
}

// ------------------------------------------------------------------------------------------------
// SPIN on four completions of one prompt. In logs the distance to the data shrinks by 1 - 1/lambda
// an iteration (up to a constant that the sum of probabilities fixes).

// Add the gradient of the expected loss, data's completions against old's; returns the loss.
static double players(Bandit *b, const double *data, const double *old, double lambda) {
    enum { PAIRS = MAX_ARMS * MAX_ARMS };
    float real[PAIRS], generated[PAIRS], old_real[PAIRS], old_generated[PAIRS];
    float dreal[PAIRS], dgenerated[PAIRS];
    const int K = b->K;
    double loss = 0;
    for (int i = 0; i < K * K; i++) {
        real[i] = b->logp[i / K], generated[i] = b->logp[i % K];
        old_real[i] = b->ref[i / K], old_generated[i] = b->ref[i % K];
        const double weight = data[i / K] * old[i % K];
        loss += weight * spin_loss(&dreal[i], &dgenerated[i], &real[i], &generated[i], &old_real[i],
                                   &old_generated[i], 1, 1, lambda)
                             .loss;
        b->dlogp[i / K] += weight * dreal[i];
        b->dlogp[i % K] += weight * dgenerated[i];
    }
    return loss;
}

// The next player, trained from the last one until it rests: gradient descent, whose speed does not
// depend on lambda with a rate over lambda^2.
static void spin_iterate(double *p, const double *data, int K, double lambda, int steps) {
    Bandit b = bandit_make(K, p, ADAM_TORCH);
    for (int t = 0; t < steps; t++) {
        players(&b, data, p, lambda);
        for (int k = 0; k < K; k++)
            b.theta[k] -= 2 / (lambda * lambda) * b.dlogp[k], b.dlogp[k] = 0;
        bandit_forward(&b);
    }
    memcpy(p, b.pi, (size_t)K * sizeof *p);
}

static double divergence(const double *p, const double *q, int K) {
    double sum = 0;
    for (int k = 0; k < K; k++) sum += p[k] * log(p[k] / q[k]);
    return sum;
}

static void test_spin_map(void) {
    enum { K = 4 };
    const double data[K] = {0.5, 0.3, 0.15, 0.05}, start[K] = {0.25, 0.25, 0.25, 0.25};
    const struct {
        double lambda;
        int iterations;
        double kl[5]; // KL(data || player) in nats, worked out apart
    } runs[] = {{1, 2, {0.244, 0, 0}},
                {2, 4, {0.244, 0.0526, 0.0121, 0.00292, 0.000716}},
                {5, 3, {0.244, 0.148, 0.0900, 0.0554}},
                {0.5, 4, {0.244, 0.134, 0.244, 0.134, 0.244}},
                {0.1, 1, {0.244, 3.35}}};
    double worst = 0;
    for (size_t i = 0; i < sizeof runs / sizeof *runs; i++) {
        const double lambda = runs[i].lambda;
        double p[K], want[K], e[K], left = 1;
        memcpy(p, start, sizeof p);
        for (int t = 0; t <= runs[i].iterations; t++) {
            for (int k = 0; k < K; k++) e[k] = left * log(start[k] / data[k]);
            tilt(want, data, e, K);
            CHECK(distance(p, want, K) < 1e-6, "lambda %g, iteration %d: %g from theorem 5.4",
                  lambda, t, distance(p, want, K));
            worst = fmax(worst, distance(p, want, K));
            CHECK_NEAR(divergence(data, p, K), runs[i].kl[t], 5e-3, 1e-6, "lambda %g, KL %d",
                       lambda, t);
            spin_iterate(p, data, K, lambda, lambda < 0.5 ? 20000 : 3000);
            left *= 1 - 1 / lambda;
        }
    }
    printf("SPIN against theorem 5.4: within %.1e\n", worst);

    // lambda < 1/2 runs away: the map once more
    double p[K], e[K];
    for (int k = 0; k < K; k++) e[k] = 81 * log(start[k] / data[k]);
    tilt(p, data, e, K);
    CHECK(divergence(data, p, K) > 100, "lambda 0.1, second iteration: KL %g",
          divergence(data, p, K));

    // The data's own distribution is at rest under every lambda.
    for (size_t i = 0; i < sizeof runs / sizeof *runs; i++) {
        Bandit b = bandit_make(K, data, ADAM_TORCH);
        const double loss = players(&b, data, data, runs[i].lambda);
        CHECK_NEAR(loss, log(2), 1e-14, 0, "loss at the fixed point");
        for (int k = 0; k < K; k++)
            CHECK(fabs(b.dlogp[k]) < 1e-16 * (1 + runs[i].lambda),
                  "gradient at the fixed point: %g", b.dlogp[k]);
    }
}

int main(void) {
    test_ipo_bandit();
    test_adam_flavours();
    test_bradley_terry();
    test_noisy_labels();
    test_contradictions();
    test_ppo();
    test_spin_map();
    return test_end("exact");
}
