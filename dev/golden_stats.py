"""Make the goldens of stats.h: what SciPy says of the same intervals, quantiles and tests.

    python dev/golden_stats.py            # rewrites test/golden/stats.txt

Needs scipy and numpy only. Each line of the text file is a function's name, its arguments, its results.
"""
import os
import sys

import numpy
import scipy
from scipy import special, stats

SEED = 5
PATH = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "test", "golden", "stats.txt")


def beta_lines():
    for a, b in [(0.5, 0.5), (1, 1), (2, 3), (0.5, 30), (156, 59), (5000, 5000), (3, 400000), (250.5, 250.5)]:
        for x in [1e-6, 0.01, 0.3, 0.5, 0.7246, 0.99]:
            yield "beta", (a, b, x), (special.betainc(a, b, x),)


def binomial_lines():
    cases = [(156, 214), (133, 214), (0, 1), (1, 1), (0, 30), (30, 30), (1, 2), (5, 10), (256, 512), (17, 2000),
             (99999, 100000)]
    for k, n in cases:
        for level in [0.5, 0.9, 0.95, 0.999]:
            interval = stats.binomtest(k, n).proportion_ci(level, method="exact")
            yield "binomial", (k, n, level), (interval.low, interval.high)


def sign_lines():
    for wins, losses in [(0, 0), (1, 0), (5, 0), (8, 2), (2, 8), (60, 40), (500, 500), (501, 499), (5300, 4700), (1000, 600)]:
        n = wins + losses
        yield "sign", (wins, losses), (stats.binomtest(wins, n, 0.5).pvalue if n else 1.0,)


def student_lines():
    for df in [1, 2, 3, 4, 9, 29, 249, 5000]:
        for p in [0.001, 0.05, 0.4999, 0.75, 0.95, 0.975, 0.9995]:
            yield "student", (p, df), (stats.t.ppf(p, df),)


def mean_lines():
    """Means with Student's interval: level, then the numbers; mean, standard error, ends."""
    rng = numpy.random.default_rng(SEED)
    for n in [2, 3, 5, 40]:
        x = numpy.round(rng.normal(3, 2, n), 6)
        for level in [0.9, 0.95]:
            low, high = stats.t.interval(level, n - 1, x.mean(), stats.sem(x))
            yield "mean", (level, n, *x), (x.mean(), stats.sem(x), low, high)


with open(PATH, "w") as out:
    out.write(f"# dev/golden_stats.py: scipy {scipy.__version__}, numpy {numpy.__version__}, "
              f"Python {sys.version.split()[0]}, seed {SEED}\n")
    for lines in (beta_lines, binomial_lines, sign_lines, student_lines, mean_lines):
        for name, arguments, results in lines():
            out.write(" ".join([name] + [repr(float(v)) for v in arguments + results]) + "\n")
