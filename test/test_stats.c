// Tests of stats.h: values that SciPy gives (dev/golden_stats.py), values that papers print, and
// brute force: sums over all outcomes, and how often an interval covers the truth.
#include "test.h"
#include "../dev/repro/optimised.h"
#include "../lib/base/stats.h"

// Compare with one line of the goldens: what it calls, arguments, results.
static void golden_line(char *line) {
    double x[64];
    int n = 0;
    const char *name = strtok(line, " \n");
    for (char *word; n < COUNT(x) && (word = strtok(NULL, " \n")); n++) x[n] = strtod(word, NULL);
    if (!strcmp(name, "beta"))
        CHECK_NEAR(beta_incomplete(x[0], x[1], x[2]), x[3], 1e-9, 0, "beta %g %g %g", x[0], x[1],
                   x[2]); // lgamma(400003) has 7 digits before the point, 16 in all
    else if (!strcmp(name, "binomial")) {
        const Interval i = binomial_interval(x[0], x[1], x[2]);
        CHECK_NEAR(i.low, x[3], 1e-10, 1e-15, "low end of %g / %g at %g", x[0], x[1], x[2]);
        CHECK_NEAR(i.high, x[4], 1e-10, 1e-15, "high end of %g / %g at %g", x[0], x[1], x[2]);
    } else if (!strcmp(name, "sign"))
        CHECK_NEAR(sign_test(x[0], x[1]), x[2], 1e-10, 0, "sign test %g %g", x[0], x[1]);
    else if (!strcmp(name, "student")) {
        CHECK_NEAR(student_quantile(x[0], x[1]), x[2], 1e-9, 1e-12, "t at %g, df %g", x[0], x[1]);
        CHECK_NEAR(student_cdf(x[2], x[1]), x[0], 1e-10, 0, "P(T <= %g), df %g", x[2], x[1]);
    } else {
        const int count = (int)x[1];
        const Mean m = mean_of(x + 2, count);
        const Interval i = mean_interval(m, x[0]);
        CHECK(!strcmp(name, "mean") && n == count + 6, "unknown line %s", name);
        CHECK_NEAR(m.mean, x[n - 4], 1e-14, 0, "mean of %d", count);
        CHECK_NEAR(m.error, x[n - 3], 1e-13, 0, "standard error of %d", count);
        CHECK_NEAR(i.low, x[n - 2], 1e-10, 0, "low end of a mean of %d", count);
        CHECK_NEAR(i.high, x[n - 1], 1e-10, 0, "high end of a mean of %d", count);
    }
}

static void test_goldens(void) {
    char *text = file_read("test/golden/stats.txt", NULL), *next = text;
    int lines = 0;
    while (next && *next) {
        char *line = next;
        next = strchr(next, '\n');
        if (next) *next++ = 0;
        if (*line != '#') golden_line(line), lines++;
    }
    CHECK(lines > 150, "only %d goldens", lines);
    free(text);
}

// The KTO paper's human evaluation: 156 and 133 of 214; and what every table has.
static void test_known(void) {
    const Interval kto = binomial_interval(156, 214, 0.9), dpo = binomial_interval(133, 214, 0.9);
    CHECK_NEAR(kto.low, 0.6745, 0, 5e-5, "156 of 214");
    CHECK_NEAR(kto.high, 0.7787, 0, 5e-5, "156 of 214");
    CHECK_NEAR(dpo.low, 0.5636, 0, 5e-5, "133 of 214");
    CHECK_NEAR(dpo.high, 0.6768, 0, 5e-5, "133 of 214");
    CHECK_NEAR(student_quantile(0.95, 4), 2.132, 0, 5e-4, "t table");
    CHECK_NEAR(student_quantile(0.975, 1), 12.706, 0, 5e-4, "t table");
    CHECK_NEAR(student_quantile(0.95, 1e7), 1.6449, 0, 5e-5, "the normal's at many degrees");
    CHECK(fabs(student_quantile(0.5, 3)) < 1e-15 && student_cdf(0, 7) == 0.5, "the middle");
    CHECK(sign_test(0, 0) == 1 && sign_test(3, 3) == 1, "no evidence");
    CHECK_NEAR(sign_test(0, 10), 2.0 / 1024, 1e-12, 0, "ten of ten");
    CHECK(binomial_interval(0, 7, 0.9).low == 0 && binomial_interval(7, 7, 0.9).high == 1, "ends");
    CHECK(beta_incomplete(2, 3, 0) == 0 && beta_incomplete(2, 3, 1) == 1, "ends of beta");
}

// n! / (i! j! (n - i - j)!) p^i q^j (1 - p - q)^(n - i - j)
static double trinomial(int n, int i, int j, double p, double q) {
    const int k = n - i - j;
    double log_p = lgamma(n + 1.0) - lgamma(i + 1.0) - lgamma(j + 1.0) - lgamma(k + 1.0);
    if (i) log_p += i * log(p);
    if (j) log_p += j * log(q);
    if (k) log_p += k * log(1 - p - q);
    return exp(log_p);
}

// All outcomes added up: the beta function against binomial tails, the ends of intervals against
// what they are defined by, the sign test against its coins.
static void test_sums(void) {
    for (int n = 1; n <= 25; n += 6)
        for (int k = 0; k <= n; k++) {
            const double x = 0.37, level = 0.9;
            const Interval c = binomial_interval(k, n, level);
            double above = 0, low = 0, high = 0, coins = 0;
            for (int i = 0; i <= n; i++) {
                if (i >= k) above += trinomial(n, i, 0, x, 0);
                if (i >= k && k > 0) low += trinomial(n, i, 0, c.low, 0);
                if (i <= k && k < n) high += trinomial(n, i, 0, c.high, 0);
                if (abs(2 * i - n) >= abs(2 * k - n)) coins += trinomial(n, i, 0, 0.5, 0);
            }
            if (k > 0) CHECK_NEAR(beta_incomplete(k, n - k + 1, x), above, 1e-12, 0, "tail");
            if (k > 0) CHECK_NEAR(low, (1 - level) / 2, 1e-10, 0, "low end of %d / %d", k, n);
            if (k < n) CHECK_NEAR(high, (1 - level) / 2, 1e-10, 0, "high end of %d / %d", k, n);
            CHECK_NEAR(sign_test(k, n - k), coins, 1e-12, 0, "sign test %d %d", k, n - k);
        }
    // P(T <= t) as an integral of its density, by Simpson's rule.
    for (double df = 1; df < 40; df *= 3)
        for (double t = 0.25; t < 6; t *= 2) {
            enum { STEPS = 2000 };
            const double scale = exp(lgamma((df + 1) / 2) - lgamma(df / 2)) / sqrt(df * M_PI);
            double sum = 0;
            for (int i = 0; i <= STEPS; i++) {
                const double u = t * i / STEPS, w = i == 0 || i == STEPS ? 1 : i % 2 ? 4 : 2;
                sum += w * scale * pow(1 + u * u / df, -(df + 1) / 2) * t / STEPS / 3;
            }
            CHECK_NEAR(student_cdf(t, df), 0.5 + sum, 1e-9, 0, "t %g, df %g", t, df);
            CHECK_NEAR(student_cdf(-t, df), 0.5 - sum, 0, 1e-9, "t %g, df %g", -t, df);
        }
}

// With wins of chance p, ties of chance q (half a success each): how often the interval covers the
// rate p + q / 2, added up over all outcomes. Never less than it says.
static void test_coverage(void) {
    for (int n = 4; n <= 40; n += 12) {
        Interval intervals[81]; // of 0, 1/2, 1, .. n successes
        for (int k = 0; k <= 2 * n; k++) intervals[k] = binomial_interval(k / 2.0, n, 0.9);
        for (double q = 0; q < 0.95; q += 0.15)
            for (double rate = q / 2 + 0.01; rate < 1 - q / 2; rate += 0.06) {
                const double p = rate - q / 2;
                double covered = 0;
                for (int i = 0; i <= n; i++)
                    for (int j = 0; j <= (q > 0 ? n - i : 0); j++) {
                        const Interval c = intervals[2 * i + j];
                        if (c.low <= rate && rate <= c.high) covered += trinomial(n, i, j, p, q);
                    }
                CHECK(covered >= 0.9, "n %d, wins %g, ties %g: covered %g", n, p, q, covered);
            }
    }
}

static void test_means(void) {
    // Equal samples of a prompt are one sample: the error is that of the prompts' means.
    const double x[5] = {1, 4, 2, 8, 5}, five[5] = {5, 20, 10, 40, 25}, w[5] = {5, 5, 5, 5, 5};
    const Mean a = mean_of(x, 5), b = mean_clustered(five, w, 5);
    CHECK_NEAR(a.mean, 4, 1e-15, 0, "mean");
    CHECK_NEAR(a.error, sqrt(7.5 / 5), 1e-15, 0, "standard error by hand");
    CHECK_NEAR(b.mean, a.mean, 1e-15, 0, "mean of clusters");
    CHECK_NEAR(b.error, a.error, 1e-15, 0, "error of clusters");
    // Clusters of weight 0 are not there.
    const double sum[4] = {3, 9, 2, 7}, weight[4] = {2, 0, 1, 4}, left[3] = {3, 2, 7};
    const double left_weight[3] = {2, 1, 4};
    const Mean c = mean_clustered(sum, weight, 4), d = mean_clustered(left, left_weight, 3);
    CHECK(c.mean == d.mean && c.error == d.error && c.n == 3 && d.n == 3, "weight 0");
    CHECK_NEAR(c.mean, 12.0 / 7, 1e-15, 0, "weighted mean");
    CHECK(isnan(mean_of(x, 1).error) && isnan(mean_interval(mean_of(x, 1), 0.9).low),
          "one observation says nothing of its error");
    // The clustered error is true: the spread of the mean over many repetitions of 40 clusters with
    // 1 to 4 members that share a part of their value.
    enum { REPEATS = 4000, CLUSTERS = 40 };
    Rng rng = rng_make(7, RNG_DATA);
    double means[REPEATS], errors = 0, spread = 0, center = 0;
    int covered = 0;
    for (int r = 0; r < REPEATS; r++) {
        double total[CLUSTERS], members[CLUSTERS];
        for (int i = 0; i < CLUSTERS; i++) {
            const double shared = rng_normal(&rng);
            members[i] = 1 + i % 4, total[i] = 0;
            for (int k = 0; k < 1 + i % 4; k++) total[i] += shared + rng_normal(&rng);
        }
        const Mean m = mean_clustered(total, members, CLUSTERS);
        const Interval interval = mean_interval(m, 0.9);
        means[r] = m.mean, errors += m.error * m.error / REPEATS, center += m.mean / REPEATS;
        covered += interval.low <= 0 && 0 <= interval.high;
    }
    for (int r = 0; r < REPEATS; r++)
        spread += (means[r] - center) * (means[r] - center) / (REPEATS - 1);
    CHECK_NEAR(errors, spread, 0.08, 0, "variance of a clustered mean"); // 2.2 % noise + bias 1/n
    CHECK_NEAR((double)covered / REPEATS, 0.9, 0, 0.02, "coverage of its interval");
}

// Rates by clusters, and two policies on the same prompts.
static void test_pairs(void) {
    const double a[6] = {1, 0.5, 0, 1, 1, 1}, b[6] = {0, 0.5, 1, 0, 0, 0.5},
                 one[6] = {1, 1, 1, 1, 1, 1};
    const double two[6] = {2, 2, 2, 2, 2, 2};
    bool exact;
    const Interval binomial = binomial_interval(4.5, 6, 0.9);
    const Interval rate = rate_interval(a, one, 6, 0.9, &exact);
    CHECK(exact && rate.low == binomial.low && rate.high == binomial.high, "one result a prompt");
    const Interval student = mean_interval(mean_clustered(a, two, 6), 0.9);
    const Interval clustered = rate_interval(a, two, 6, 0.9, &exact);
    CHECK(!exact && clustered.low == student.low && clustered.high == student.high, "two results");
    const double most[3] = {2, 2, 1.8}, pair[3] = {2, 2, 2};
    CHECK(rate_interval(most, pair, 3, 0.9, &exact).high == 1, "no rate is above 1");
    const Comparison c = compare_pairs(a, b, 6, 0.9), back = compare_pairs(b, a, 6, 0.9);
    const double d[6] = {1, 0, -1, 1, 1, 0.5};
    const Mean m = mean_of(d, 6);
    CHECK(c.better == 4 && c.worse == 1 && c.ties == 1, "%d %d %d", c.better, c.worse, c.ties);
    CHECK_NEAR(c.difference.mean, m.mean, 1e-15, 0, "mean difference");
    CHECK_NEAR(c.difference.error, m.error, 1e-15, 0, "its error");
    CHECK_NEAR(c.interval.low, mean_interval(m, 0.9).low, 1e-15, 0, "its interval");
    CHECK_NEAR(c.p, 12.0 / 32, 1e-14, 0, "4 of 5: sign test by hand");
    CHECK(back.difference.mean == -c.difference.mean && back.p == c.p && back.better == 1,
          "turned");
    const Comparison same = compare_pairs(a, a, 6, 0.9);
    CHECK(same.difference.mean == 0 && same.interval.low == 0 && same.interval.high == 0 &&
              same.ties == 6 && same.p == 1,
          "the same policy");
}

// The mean of seven rates of few trials each: how often its interval covers the truth.
static void test_sum_interval(void) {
    enum { REPEATS = 4000, RATES = 7 };
    const double chance[RATES] = {0.02, 0.1, 0.3, 0.5, 0.7, 0.95, 1};
    double weight[RATES], rate[RATES], truth = 0;
    Interval own[RATES];
    Rng rng = rng_make(11, RNG_DATA);
    int covered = 0;
    for (int i = 0; i < RATES; i++) {
        weight[i] = 1.0 / RATES;
        truth += weight[i] * chance[i];
    }
    for (int r = 0; r < REPEATS; r++) {
        for (int i = 0; i < RATES; i++) {
            const int n = 5 + 6 * i;
            int k = 0;
            for (int t = 0; t < n; t++) k += rng_uniform(&rng) < chance[i];
            rate[i] = (double)k / n;
            own[i] = binomial_interval(k, n, 0.9);
        }
        const Interval interval = sum_interval(weight, rate, own, RATES);
        covered += interval.low <= truth && truth <= interval.high;
    }
    CHECK((double)covered / REPEATS >= 0.9, "covered %d of %d", covered, REPEATS);
    const double one = 1;
    const Interval alone = sum_interval(&one, rate, own, 1);
    CHECK_NEAR(alone.low, own[0].low, 1e-15, 1e-15, "one rate: its own interval");
    CHECK_NEAR(alone.high, own[0].high, 1e-15, 0, "one rate: its own interval");
}

// Bins of a tenth from 0.5 to 1, by hand.
static void test_calibration(void) {
    Calibration c = {0};
    calibration_add(&c, 0.5, 0.5);
    calibration_add(&c, 0.55, 1);
    calibration_add(&c, 0.95, 0);
    calibration_add(&c, 1, 1);
    CHECK(c.n[0] == 2 && c.n[4] == 2 && c.n[1] + c.n[2] + c.n[3] == 0, "the bins' numbers");
    CHECK_NEAR(c.predicted[4], 1.95, 1e-15, 0, "a bin's sum of probabilities");
    CHECK_NEAR(calibration_error(&c), (0.45 + 0.95) / 4, 1e-15, 0, "the error");
}

// C(n, k) as a double, exact for the small numbers here.
static double choose(int n, int k) {
    double c = 1;
    for (int i = 1; i <= k; i++) c = c * (n - k + i) / i;
    return k > n ? 0 : c;
}

// pass@k against the formula with binomials, and its mean over all draws against 1 - (1 - p)^k.
static void test_pass_at_k(void) {
    for (int n = 1; n <= 20; n++)
        for (int c = 0; c <= n; c++)
            for (int k = 1; k <= n; k++)
                CHECK_NEAR(pass_at_k(n, c, k), 1 - choose(n - c, k) / choose(n, k), 1e-13, 1e-15,
                           "pass@%d of %d in %d", k, c, n);
    CHECK(pass_at_k(7, 0, 7) == 0 && pass_at_k(7, 1, 7) == 1, "none and one of all");
    CHECK_NEAR(pass_at_k(200, 1, 100), 0.5, 1e-14, 0, "one in two hundred");
    const double p = 0.13;
    for (int k = 1; k <= 12; k++) {
        double mean = 0;
        for (int c = 0; c <= 12; c++)
            mean += choose(12, c) * pow(p, c) * pow(1 - p, 12 - c) * pass_at_k(12, c, k);
        CHECK_NEAR(mean, 1 - pow(1 - p, k), 1e-13, 0, "pass@%d is unbiased", k);
    }
}

// Best of n as the scripts estimate it (dev/repro/optimised.h): the mean over all subsets of n of the reward and the
// proxy of the sample with the highest proxy.
static void test_best_of(void) {
    enum { N = 7 };
    Draw draws[N];
    Rng rng = rng_make(3, 1);
    for (int i = 0; i < N; i++) draws[i] = (Draw){(float)rng_normal(&rng), (float)rng_normal(&rng)};
    draws_sort(draws, N);
    for (int n = 1; n <= N; n++) {
        double reward, proxy, reward_sum = 0, proxy_sum = 0;
        int subsets = 0;
        for (int set = 0; set < 1 << N; set++) {
            if (__builtin_popcount((unsigned)set) != n) continue;
            int best = -1;
            for (int i = 0; i < N; i++)
                if ((set >> i & 1) && (best < 0 || draws[i].proxy > draws[best].proxy)) best = i;
            reward_sum += draws[best].reward;
            proxy_sum += draws[best].proxy;
            subsets++;
        }
        best_of_n(&reward, &proxy, draws, N, n);
        CHECK_NEAR(reward, reward_sum / subsets, 1e-12, 1e-12, "reward of the best of %d", n);
        CHECK_NEAR(proxy, proxy_sum / subsets, 1e-12, 1e-12, "proxy of the best of %d", n);
    }
    CHECK(best_of_kl(1) == 0, "the best of 1 is the policy");
    CHECK_NEAR(best_of_kl(4), 0.636294361, 1e-9, 0, "log 4 - 3/4");
}

int main(void) {
    test_calibration();
    test_pass_at_k();
    test_sum_interval();
    test_goldens();
    test_known();
    test_sums();
    test_coverage();
    test_means();
    test_pairs();
    test_best_of();
    return test_end("stats");
}
