// stats.h: how sure a number is. From top to bottom:
//
//   beta        the regularised incomplete beta function, which the others are made of
//   binomial    exact interval of a rate, exact sign test of paired results
//   calibration does what is said with probability p come true as often?
//   student     distribution and quantile of t
//   means       mean with standard error, by clusters; the interval of a mean
//   pairs       two things measured on the same prompts
//   samples     chance that one of k is right, from more samples than that
//
// A level of 0.9 means that an interval made in this way covers the truth in 90 of 100 repetitions.
// Pure: no model, tokens or files.
#ifndef STATS_H
#define STATS_H

#include <math.h>
#include <stdbool.h>

typedef struct {
    double low, high;
} Interval;

// ------------------------------------------------------------------------------------------------
// Beta: I_x(a, b) is the chance that a Beta(a, b) variable is below x. Its continued fraction
// (DLMF 8.17.22) converges fast left of the mean, in about sqrt(a + b) steps; right of it
// I_x(a, b) = 1 - I_(1-x)(b, a) is taken instead.

// The fraction 1/(1 + d1/(1 + d2/(1 + ..))) by Lentz's method: c and d are the ratios of numerators
// and (upside down) of denominators from one approximation to the next; neither may become 0.
static double beta_fraction(double a, double b, double x) {
    const double tiny = 1e-300;
    double c = INFINITY, d = 1, result = 1;
    for (int i = 1; i < 100000; i++) {
        const double m = i / 2; // rounded down: 0, 1, 1, 2, 2, ..
        const double even = m * (b - m) / ((a + 2 * m - 1) * (a + 2 * m));
        const double odd = -(a + m) * (a + b + m) / ((a + 2 * m) * (a + 2 * m + 1));
        const double term = x * (i % 2 ? odd : even);
        c = 1 + term / c;
        d = 1 + term * d;
        c = fabs(c) < tiny ? tiny : c;
        d = 1 / (fabs(d) < tiny ? tiny : d);
        result *= c * d;
        if (fabs(c * d - 1) < 1e-15) break;
    }
    return result;
}

// I_x(a, b) for a, b > 0. Its relative error grows with a + b, to about 1e-9 at a million.
static double beta_incomplete(double a, double b, double x) {
    if (!(x > 0)) return 0;
    if (x >= 1) return 1;
    const double front = exp(lgamma(a + b) - lgamma(a) - lgamma(b) + a * log(x) + b * log1p(-x));
    if (x < (a + 1) / (a + b + 2)) return front * beta_fraction(a, b, x) / a;
    return 1 - front * beta_fraction(b, a, 1 - x) / b;
}

// The x with I_x(a, b) = p, by halving.
static double beta_quantile(double a, double b, double p) {
    double low = 0, high = 1;
    for (int i = 0; i < 200; i++) {
        const double x = (low + high) / 2;
        if (x <= low || x >= high) break;
        *(beta_incomplete(a, b, x) < p ? &low : &high) = x;
    }
    return (low + high) / 2;
}

// ------------------------------------------------------------------------------------------------
// Binomial

// Exact interval of a rate of which k in n trials were successes (Clopper and Pearson 1934): all
// rates under which neither k or more nor k or fewer successes has less chance than
// (1 - level) / 2. It covers the truth at least as often as it says, for every rate and n.
//
// A tie counts as half a success, so k may end in .5, and the formula goes on between the whole
// numbers. That errs to the safe side as well: results 0, 1/2 and 1 spread less around their mean
// than 0 and 1 do around the same mean (test/test_stats.c counts how often it covers).
static Interval binomial_interval(double k, double n, double level) {
    const double tail = (1 - level) / 2;
    return (Interval){k > 0 ? beta_quantile(k, n - k + 1, tail) : 0,
                      k < n ? beta_quantile(k + 1, n - k, 1 - tail) : 1};
}

// Exact two-sided sign test: the chance that of wins + losses fair coins as many or more agree as
// do here. Ties are left out. On two yes-or-no results of the same trials, with wins where only the
// first is yes and losses where only the second is, it is McNemar's test in its exact form.
static double sign_test(double wins, double losses) {
    const double most = wins > losses ? wins : losses, n = wins + losses;
    if (2 * most <= n) return 1; // even: also when there is nothing
    const double p = 2 * beta_incomplete(most, n - most + 1, 0.5); // P(X >= most)
    return p < 1 ? p : 1;
}

// ------------------------------------------------------------------------------------------------
// Calibration of probabilities from 0.5 to 1, each of the answer that somebody took for the likelier
// one: sorted into bins of equal width, a bin's mean is compared with the share that was right.

enum { CALIBRATION_BINS = 5 };
typedef struct {
    double n[CALIBRATION_BINS], predicted[CALIBRATION_BINS], right[CALIBRATION_BINS]; // sums
} Calibration;

// An answer with probability p was right: 1, wrong: 0, or neither: 0.5.
static void calibration_add(Calibration *c, double p, double right) {
    int bin = (int)((p - 0.5) * 2 * CALIBRATION_BINS);
    if (bin >= CALIBRATION_BINS) bin = CALIBRATION_BINS - 1;
    c->n[bin]++;
    c->predicted[bin] += p;
    c->right[bin] += right;
}

// Expected calibration error: the mean over answers of |predicted - right| of their bin.
static double calibration_error(const Calibration *c) {
    double error = 0, n = 0;
    for (int i = 0; i < CALIBRATION_BINS; i++) {
        error += fabs(c->predicted[i] - c->right[i]);
        n += c->n[i];
    }
    return error / n;
}

// ------------------------------------------------------------------------------------------------
// Student's t with `df` degrees of freedom

// P(T <= t). Both branches are the same number; each keeps its digits on its side.
static double student_cdf(double t, double df) {
    const double squares = t * t + df;
    const double tail = t * t < df ? 0.5 - 0.5 * beta_incomplete(0.5, df / 2, t * t / squares)
                                   : 0.5 * beta_incomplete(df / 2, 0.5, df / squares);
    return t < 0 ? tail : 1 - tail;
}

// The t with P(T <= t) = p, for p in (0, 1).
static double student_quantile(double p, double df) {
    if (p > 0.5) return -student_quantile(1 - p, df);
    double low = -1, high = 0;
    while (student_cdf(low, df) > p && low > -1e300) low *= 2;
    for (int i = 0; i < 200; i++) {
        const double t = (low + high) / 2;
        if (t <= low || t >= high) break;
        *(student_cdf(t, df) < p ? &low : &high) = t;
    }
    return (low + high) / 2;
}

// ------------------------------------------------------------------------------------------------
// Means

typedef struct {
    double mean, error; // error: its standard error, NAN when there is a single cluster
    int n;              // clusters that it comes from
} Mean;

// Mean of observations that come in independent clusters, such as several samples of one prompt or
// the tokens of one text: sum (n) is each cluster's total, weight (n) its number of observations
// (NULL: one each). Clusters of weight 0 are left out. The error is that of a ratio of two sums
// (linearised, with n / (n - 1) as for a variance): how observations hang together inside a cluster
// does not matter to it. With one observation each it is sd / sqrt(n).
static Mean mean_clustered(const double *sum, const double *weight, int n) {
    double total = 0, count = 0, squares = 0;
    int clusters = 0;
    for (int i = 0; i < n; i++) {
        const double w = weight ? weight[i] : 1;
        if (w > 0) total += sum[i], count += w, clusters++;
    }
    const double mean = total / count;
    for (int i = 0; i < n; i++) {
        const double w = weight ? weight[i] : 1, off = w > 0 ? sum[i] - mean * w : 0;
        squares += off * off;
    }
    const double spread = clusters > 1 ? squares * clusters / (clusters - 1) : NAN;
    return (Mean){mean, sqrt(spread) / count, clusters};
}

// Mean of x (n) with its standard error. For a claim about a method, x are the results of n seeds.
static Mean mean_of(const double *x, int n) { return mean_clustered(x, NULL, n); }

// Student's interval of a mean, with n - 1 degrees of freedom.
static Interval mean_interval(Mean m, double level) {
    const double half = m.n > 1 ? student_quantile((1 + level) / 2, m.n - 1) * m.error : NAN;
    return (Interval){m.mean - half, m.mean + half};
}

// Interval of a rate from results between 0 and 1 in clusters: the binomial one if no cluster has
// more than one result, else Student's, cut to [0, 1]. *exact says which.
static Interval rate_interval(const double *sum, const double *weight, int n, double level,
                              bool *exact) {
    double total = 0, count = 0;
    *exact = true;
    for (int i = 0; i < n; i++) {
        total += sum[i], count += weight[i];
        *exact = *exact && weight[i] <= 1;
    }
    if (*exact) return binomial_interval(total, count, level);
    const Interval i = mean_interval(mean_clustered(sum, weight, n), level);
    return (Interval){i.low < 0 ? 0 : i.low, i.high > 1 ? 1 : i.high};
}

// Interval of the sum of weight[i] value[i], weights >= 0, of n independent values that each have an
// interval: the ends of these are as far from the sum as independent errors add up (Zou, Huang and
// Zhang 2009, who call it MOVER). It is the value's own interval for n = 1 and has a width also where
// all rates are 0 or 1.
static Interval sum_interval(const double *weight, const double *value, const Interval *intervals,
                             int n) {
    double sum = 0, below = 0, above = 0;
    for (int i = 0; i < n; i++) {
        const double down = weight[i] * (value[i] - intervals[i].low);
        const double up = weight[i] * (intervals[i].high - value[i]);
        sum += weight[i] * value[i];
        below += down * down;
        above += up * up;
    }
    return (Interval){sum - sqrt(below), sum + sqrt(above)};
}

// ------------------------------------------------------------------------------------------------
// Pairs: what two policies make of the same prompts. What the prompts differ in falls out of the
// differences, so their interval is narrower than those of the two means would suggest: two
// intervals that overlap do not say that there is no difference.

typedef struct {
    Mean difference;         // a's mean less b's
    Interval interval;       // of it, Student's
    int better, worse, ties; // prompts on which a is ahead, b is, neither is
    double p;                // of the sign test on them
} Comparison;

// a, b (n): what either has on each prompt, the mean of its samples.
static Comparison compare_pairs(const double *a, const double *b, int n, double level) {
    Comparison c = {0};
    double mean = 0, squares = 0;
    for (int i = 0; i < n; i++) {
        mean += (a[i] - b[i]) / n;
        c.better += a[i] > b[i], c.worse += a[i] < b[i], c.ties += a[i] == b[i];
    }
    for (int i = 0; i < n; i++) squares += (a[i] - b[i] - mean) * (a[i] - b[i] - mean);
    c.difference = (Mean){mean, n > 1 ? sqrt(squares / (n - 1) / n) : NAN, n};
    c.interval = mean_interval(c.difference, level);
    c.p = sign_test(c.better, c.worse);
    return c;
}

// ------------------------------------------------------------------------------------------------
// Samples

// pass@k: the chance that at least one of k samples is right, from n samples of which c were,
// 1 <= k <= n (Chen et al. 2021, equation 1):
//
//     1 - C(n - c, k) / C(n, k) = 1 - product over i = n - c + 1 .. n of (1 - k / i)
//
// It is unbiased: its mean over all draws of n is 1 - (1 - p)^k for every chance p of a sample.
static double pass_at_k(int n, int c, int k) {
    double none = 1;
    if (n - c < k) return 1;
    for (int i = n - c + 1; i <= n; i++) none *= 1 - (double)k / i;
    return 1 - none;
}

#endif
