// interval.c: a mean and its interval, of the numbers on standard input, for the scripts beside it. Build:
//
// cc -O3 -march=native -fno-math-errno -fopenmp dev/repro/interval.c -o interval -lcjson -lm
//
//     interval [--level 0.9] [--kind mean|rate] <numbers
//
// A line with one number each: prints `mean low high n`, the interval is Student's, or with --kind rate, of
// results 0, 0.5 (a tie) and 1, the exact binomial one. A line with two numbers each, what a and b have on
// the same prompt or with the same seed: prints `difference low high n p` of a less b, Student's interval of
// the paired differences and the sign test's p (lib/base/stats.h has the formulas). An end that no data
// can tell, of one number, is printed as nan.
#include "../../lib/base/common.h"
#include "../../lib/base/flags.h"
#include "../../lib/base/stats.h"

int main(int argc, char **argv) {
    struct {
        double level;
        const char *kind;
    } args = {.level = 0.9, .kind = "mean"};
    Flag flags[] = {
        FLAG(args, level, 0.5, 0.9999, "of the interval"),
        FLAG_CHOICE(args, kind, "mean|rate", "what the numbers are"),
    };
    flags_parse(argc, argv, flags, COUNT(flags), "a mean and its interval", NULL);
    double *a = NULL, *b = NULL;
    int n = 0, columns = 0;
    char line[256];
    while (fgets(line, sizeof line, stdin)) {
        double x, y;
        char more;
        const int found = sscanf(line, "%lf %lf %c", &x, &y, &more);
        if (found < 1 || found > 2 || (columns && found != columns))
            die(EXIT_BAD_INPUT, "line %d: expected one number, or two, as on the lines before",
                n + 1);
        columns = found;
        a = mem_resize(a, (size_t)n + 1, sizeof *a);
        b = mem_resize(b, (size_t)n + 1, sizeof *b);
        a[n] = x;
        b[n++] = columns == 2 ? y : 0;
    }
    if (!n) die(EXIT_BAD_INPUT, "there are no numbers");
    if (columns == 2) {
        const Comparison c = compare_pairs(a, b, n, args.level);
        printf("%.6g %.6g %.6g %d %.4g\n", c.difference.mean, c.interval.low, c.interval.high, n,
               c.p);
    } else {
        const Mean mean = mean_of(a, n);
        const Interval i = strcmp(args.kind, "rate")
                               ? mean_interval(mean, args.level)
                               : binomial_interval(mean.mean * n, n, args.level);
        printf("%.6g %.6g %.6g %d\n", mean.mean, i.low, i.high, n);
    }
    free(a), free(b);
    return stdout_end();
}
