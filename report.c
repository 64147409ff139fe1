// report.c: one page about training runs: curves, scores against KL, win rates, texts. Build it:
//
// cc -O3 -march=native -fno-math-errno -fopenmp report.c -o report -lcjson -lm
//
//     ./report --runs sft=out/sft,dpo=out/dpo,kto=out/kto --evaluation eval.json
//         --samples_file samples.jsonl --output report.html
//
// It reads what the other programs write, and each of these may be missing:
//
//     --runs           directories with metrics.jsonl, as train_X --output_dir writes it
//     --evaluation     evaluate --output: scores, win rates, KL
//     --benchmarks     evaluate --benchmark .. --output, several files with commas between: accuracies
//                      against chance, by task, models compared
//     --samples_file   evaluate --samples_file: the texts
//     --frontier       the best score that any policy can have at each KL: CSV with columns kl,
//                      gold (or reward) and error, as dev/repro/reward_frontier.c writes it
//     --experiments    directories of dev/repro's scripts: result.txt, what came out, and figures (SVG)
//     --stages         what it took, JSONL: {"name": "dpo", "command": "./train_dpo ..",
//                      "seconds": 9.1, "peak_memory_mb": 64}, as dev/demo.sh writes it
//
// and writes one HTML page that needs nothing else: no scripts, styles or pictures from elsewhere,
// plots as SVG inside it (plot.h). A run, a policy and a stage of the same name belong together.
// The main table and the main plot also go to the terminal.
//
// Without arguments it makes out/report.html of all runs in out/.
#include "lib/base/common.h"
#include "lib/base/disk.h"
#include "lib/base/flags.h"
#include "lib/files/guard.h"
#include "lib/report/plot.h"
#include "lib/report/findings.h"
#include "lib/report/figures.h"
#include "lib/report/marks.h" // defines: marks_text, marks_html
#include <glob.h>

static const char preset[] = "--runs out --output out/report.html --overwrite_output";

// ------------------------------------------------------------------------------------------------
// What was expected

// Append one sentence that says whether "NAME=score" or "NAME=data" held; false if not.
//
//     score    the 90 % interval of the gain over the baseline lies above 0
//     data     nearer to the data than the baseline: a smaller NLL of held-out answers. Where the log
//              of train_spin is among the runs: of its last player than of its first, on what that
//              run held out, else as evaluate measured it. The other distances of the log, total
//              variation of bigrams and of gold scores, are named beside it and decide nothing
static bool expectation_text(Text *out, const Report *r, const char *name, const char *kind) {
    const cJSON *policy = NULL;
    const char *base = r->baseline ? string_of(r->baseline, "name") : "the baseline";
    bool held = false;
    for (int i = 0; i < r->n_policies; i++)
        if (!strcmp(string_of(r->policy[i], "name"), name)) policy = r->policy[i];
    text_print(out, "%s: ", name);
    if (!strcmp(kind, "score")) {
        const cJSON *gain = policy_gain(r, policy);
        const double low = number_of(gain, "low");
        held = low > 0;
        text_print(out, "%s above %s's", column_head(r, C_SCORE), base);
        if (isfinite(low))
            text_print(out, ": %s, by %+.2f (%+.2f to %+.2f)", held ? "held" : "did not hold",
                       number_of(gain, "mean"), low, number_of(gain, "high"));
        else text_put(out, ": not measured");
        return held;
    }
    // the first distance decides
    static const struct {
        const char *key, *name;
    } distances[] = {{"player/nll", "held-out NLL"},
                     {"player/bigram_tv", "total variation of bigrams"},
                     {"player/gold_tv", "total variation of gold scores"}};
    Text found = {0};
    bool measured = false;
    for (int k = 0; k < COUNT(distances); k++) {
        double before = NAN, after = NAN;
        if (k == 0) {
            before = number_of(json_get(r->baseline, "nll"), "mean");
            after = number_of(json_get(policy, "nll"), "mean");
        }
        for (int i = 0; i < r->n_runs; i++)
            if (!strcmp(r->runs[i].name, name))
                run_ends(&r->runs[i], distances[k].key, &before, &after);
        if (!isfinite(after - before)) continue;
        if (k == 0) {
            measured = true;
            held = after < before;
        }
        text_print(&found, "%s %s %.4f, was %.4f", k ? "; not counted:" : ",", distances[k].name,
                   after, before);
    }
    text_print(out, "nearer to the data than %s: %s%s", base,
               !measured ? "not measured"
               : held    ? "held"
                         : "did not hold",
               found.size ? found.data : "");
    text_free(&found);
    return held;
}

// All of "NAME=score,NAME=data,..", on the terminal and as a list of the page.
static void expectations(Text *terminal, Text *page, const Report *r, const char *text) {
    char *copy = text_copy(text);
    int held = 0, n = 0;
    text_put(terminal, "\n");
    text_put(page, "<h3>What was expected</h3><ul>\n");
    for (char *word = strtok(copy, ","); word; word = strtok(NULL, ","), n++) {
        char *equals = strchr(word, '=');
        Text line = {0};
        *equals = 0; // main has looked
        held += expectation_text(&line, r, word, equals + 1);
        text_print(terminal, "  %s\n", line.data);
        text_put(page, "<li>"), text_html(page, line.data), text_put(page, "</li>\n");
        text_free(&line);
    }
    text_print(terminal, "  %d of %d expectations held\n", held, n);
    text_put(page, "</ul>\n");
    free(copy);
}

// ------------------------------------------------------------------------------------------------
// The page

// Colours after Okabe and Ito, which the colour-blind can tell apart, darker on light ground and
// lighter on dark.
static const char style[] =
    ":root{color-scheme:light "
    "dark;--bg:#fff;--ink:#1c1e21;--soft:#5d6268;--line:#e2e4e7;--card:#f6f7f8;"
    "--c0:#4a4e54;--c1:#0072b2;--c2:#c95100;--c3:#00825f;--c4:#b0478a;--c5:#a87400;--c6:#3d5fd0;--"
    "c7:#7a4d9a}\n"
    "@media(prefers-color-scheme:dark){:root{--bg:#15171a;--ink:#e8e9eb;--soft:#a3a9b0;--line:#"
    "30343a;"
    "--card:#1e2125;--c0:#b9bec5;--c1:#56b4e9;--c2:#ff8c4a;--c3:#2fc99a;--c4:#e695c8;--c5:#efb73e;"
    "--c6:#93a8ff;--c7:#c09ae0}}\n"
    "*{box-sizing:border-box}body{margin:0;background:var(--bg);color:var(--ink);"
    "font:16px/1.5 system-ui,sans-serif}main{max-width:1080px;margin:0 auto;padding:24px 16px "
    "64px}\n"
    "h1{font-size:1.6rem;line-height:1.25;margin:0 0 4px}h2{font-size:1.25rem;margin:48px 0 8px}"
    "h3{font-size:1rem;margin:24px 0 6px}p{margin:0 0 "
    "12px;max-width:70ch}.note,figcaption,small{color:var(--soft);"
    "font-size:.875rem}figcaption{margin-top:8px;max-width:60ch}\n"
    ".wide{overflow-x:auto}table{border-collapse:collapse;font-variant-numeric:tabular-nums;font-"
    "size:.9375rem;"
    "margin-bottom:8px}th,td{padding:6px "
    "12px;text-align:right;white-space:nowrap;border-bottom:1px solid var(--line);"
    "vertical-align:bottom}th:first-child,td:first-child{text-align:left;padding-left:0}thead "
    "small{font-weight:400}\n"
    ".pair{display:grid;grid-template-columns:repeat(auto-fit,minmax(min(100%,400px),1fr));gap:"
    "24px}"
    ".panels{display:grid;grid-template-columns:repeat(auto-fill,minmax(min(100%,240px),1fr));gap:"
    "16px}"
    "figure{margin:0}svg{width:100%;height:auto;display:block;overflow:visible}\n"
    ".texts{display:grid;grid-template-columns:repeat(auto-fill,minmax(min(100%,230px),1fr));gap:"
    "10px}"
    ".texts>div{background:var(--card);border-radius:6px;padding:10px 12px}.texts p{margin:4px 0 "
    "0;overflow-wrap:anywhere;"
    "white-space:pre-line}.prompt{font-style:italic}svg.key{display:inline-block;width:14px;height:"
    "14px;margin-right:7px;"
    "vertical-align:-2px}pre{overflow-x:auto;background:var(--card);border-radius:6px;padding:10px "
    "12px;font-size:.8125rem;"
    "white-space:pre-wrap;overflow-wrap:anywhere;margin:4px 0 12px}pre.words{white-space:pre}\n"
    "svg text{fill:var(--ink);font-size:13px}svg .tick{fill:var(--soft);font-size:12px}svg "
    ".name{fill:var(--soft)}"
    "svg .title{font-weight:600;font-size:14px}svg .label{font-weight:600}\n"
    ".marks{max-width:680px}.grid{stroke:var(--line);fill:none}.axis{stroke:var(--soft);fill:none}."
    "half{stroke:var(--soft)"
    ";stroke-dasharray:4 3;"
    "fill:none}.line{fill:none;stroke-width:1.8;stroke-linejoin:round}.dash{stroke-dasharray:6 "
    "3}.bar{stroke-width:1.4;"
    "fill:none}.whisker{stroke:var(--ink);stroke-width:1.5;fill:none}.fill{opacity:.75}.band{"
    "stroke:none;fill:var(--soft);"
    "opacity:.18}.line.frontier{stroke:var(--soft)}\n"
    "img{max-width:100%;background:#fff;border-radius:6px}\n";

// Everything before the first section.
static void page_begin(Text *out, const char *title) {
    text_put(out,
             "<!DOCTYPE html>\n<html lang=\"en\"><head><meta charset=\"utf-8\"/>\n"
             "<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\"/>\n<title>");
    text_html(out, title);
    text_put(out, "</title>\n<style>\n");
    text_put(out, style);
    for (int c = 0; c < PLOT_COLOURS; c++)
        text_print(out,
                   ".line.c%d,.bar.c%d{stroke:var(--c%d)}.mark.c%d,.fill.c%d{fill:var(--c%d)}\n", c,
                   c, c, c, c, c);
    text_put(out, "</style></head>\n<body><main>\n<h1>");
    text_html(out, title);
    text_put(out, "</h1>\n");
}

// Table, plane and win rates: what evaluate has measured.
static void results_html(Text *out, const Report *r, const Text *expected) {
    const double level = number_of(r->evaluation, "level"), n = number_of(r->evaluation, "prompts");
    const char *data = string_of(json_get(r->evaluation, "flags"), "dataset");
    text_put(out, "<section><h2>Results</h2>\n<p>");
    if (isfinite(n)) text_print(out, "Each method completed the same %.0f prompts", n);
    if (isfinite(n) && data) text_put(out, " of "), text_html(out, data);
    text_put(out, isfinite(n) ? ". " : "");
    if (isfinite(level)) text_print(out, "Intervals are for %g %%. ", 100 * level);
    if (r->baseline) {
        text_put(out, "The baseline is ");
        text_html(out, string_of(r->baseline, "name"));
        text_put(out, ".");
    }
    text_put(out, "</p>\n");
    table_html(out, r);
    if (expected->size) text_append(out, expected->data, expected->size);
    text_put(out, "</section>\n<section class=\"pair\">\n");
    if (plane_count(r)) {
        text_put(out, "<figure><h2>Score against KL</h2>\n");
        plane_html(out, r);
        text_put(
            out,
            "<figcaption>How well the texts score, and how far the model went from the reference "
            "for it. Higher is better, further left is cheaper. Thin bars are intervals.");
        if (r->n_frontier)
            text_put(
                out,
                " The line is the optimum: the best mean score that any model can have at that "
                "distance, found by giving many samples of the reference weights that grow "
                "exponentially with their score; its shade is a 90 % interval. Where it is dashed, "
                "samples are too few to know the optimum, and it is a bound above it. A method far "
                "above it would show an error of measurement, one below it leaves something to "
                "gain.");
        text_put(out, "</figcaption></figure>\n");
    }
    bool wins = false;
    for (int i = 0; i < r->n_policies; i++)
        wins |= isfinite(number_of(policy_wins(r, r->policy[i]), "rate"));
    if (wins) {
        text_put(out, "<figure><h2>Win rates</h2>\n");
        wins_html(out, r);
        text_put(
            out,
            "<figcaption>How often a method's text scores higher than the baseline's for the same "
            "prompt; a tie is half a win. Thin bars are intervals. Left of 50 % a method is worse "
            "than the "
            "baseline. A win rate says nothing of the price: see the KL beside it.</figcaption>"
            "</figure>\n");
    }
    text_put(out, "</section>\n");
}

// Append an SVG file as a picture of its own, whose styles and names cannot meet those of the page.
static void picture_html(Text *out, const char *path) {
    size_t n;
    char *svg = file_read(path, &n);
    text_put(out, "<figure><img alt=\"\" src=\"data:image/svg+xml,");
    for (size_t i = 0; i < n; i++) {
        const unsigned char c = (unsigned char)svg[i];
        if (isalnum(c)) text_append(out, &svg[i], 1);
        else text_print(out, "%%%02X", c);
    }
    text_put(out, "\"/></figure>\n");
    free(svg);
}

// What experiments came to: the figures of each directory and the words of its result.txt.
static void experiments_html(Text *out, const char *dirs) {
    char *copy = text_copy(dirs);
    text_put(out, "<section><h2>Experiments</h2>\n");
    for (char *dir = strtok(copy, ","); dir; dir = strtok(NULL, ",")) {
        char *result = path_join(dir, "result.txt"), *pattern = path_join(dir, "*.svg");
        if (!path_is_file(result))
            die(EXIT_BAD_INPUT, "--experiments %s: no result.txt; has its script come to its end?",
                dir);
        size_t n;
        char *words = file_read(result, &n);
        text_put(out, "<h3>"), text_html(out, dir), text_put(out, "</h3>\n");
        glob_t found = {0};
        glob(pattern, 0, NULL, &found);
        for (size_t i = 0; i < found.gl_pathc; i++) picture_html(out, found.gl_pathv[i]);
        globfree(&found);
        text_put(out, "<pre class=\"words\">"), text_html(out, words), text_put(out, "</pre>\n");
        free(words), free(result), free(pattern);
    }
    text_put(out, "</section>\n");
    free(copy);
}

// The commands that made all this, for who wants to do it again.
static void stages_html(Text *out, const Report *r) {
    text_put(out, "<section><h2>Commands</h2>\n<p>What made this, in order.</p>\n");
    for (int i = 0; i < r->n_stages; i++) {
        const cJSON *s = r->stages[i];
        const double seconds = number_of(s, "seconds"), memory = number_of(s, "peak_memory_mb");
        text_put(out, "<h3>");
        text_html(out, string_of(s, "name"));
        if (isfinite(seconds)) text_print(out, " <small>%.1f s", seconds);
        if (isfinite(seconds) && isfinite(memory)) text_print(out, ", %.0f MB", memory);
        text_put(out, isfinite(seconds) ? "</small></h3><pre>" : "</h3><pre>");
        text_html(out, string_of(s, "command") ? string_of(s, "command") : "");
        text_put(out, "</pre>\n");
    }
    text_put(out, "</section>\n");
}

// Die unless --expect is "NAME=score,NAME=data,..".
static void expect_check(const char *text) {
    char *copy = text_copy(text ? text : "");
    for (char *word = strtok(copy, ","); word; word = strtok(NULL, ",")) {
        const char *equals = strchr(word, '=');
        if (!equals || equals == word || (strcmp(equals, "=score") && strcmp(equals, "=data")))
            die(EXIT_USAGE, "--expect %s: expected NAME=score or NAME=data, with commas between",
                word);
    }
    free(copy);
}

int main(int argc, char **argv) {
    // ---- flags ---------------------------------------------------------------------------------
    struct {
        const char *runs, *evaluation, *benchmarks, *samples_file, *frontier, *experiments;
        const char *stages, *expect, *title, *output;
        int samples;
        bool overwrite_output;
    } args = {.title = "Training report", .samples = 6};
    Flag flags[] = {
        FLAG_HEADING("input"),
        FLAG_TEXT(args, runs, "NAME=DIR,DIR,..: directories of runs, or a directory of such"),
        FLAG_TEXT(args, evaluation, "what evaluate --output wrote"),
        FLAG_TEXT(args, benchmarks, "what evaluate --benchmark wrote to --output: FILE,FILE,.."),
        FLAG_TEXT(args, samples_file, "what evaluate --samples_file wrote"),
        FLAG_TEXT(args, frontier, "CSV: the best score that is possible at each KL"),
        FLAG_TEXT(args, experiments, "DIR,DIR,..: what scripts of dev/repro left there"),
        FLAG_TEXT(args, stages, "JSONL: name, command, seconds, peak_memory_mb"),
        FLAG_TEXT(args, expect,
                  "NAME=score,NAME=data: who should beat the baseline, by its score or by "
                  "a smaller held-out NLL"),
        FLAG_HEADING("output"),
        FLAG_TEXT(args, output, "the HTML page (none: only the terminal)"),
        FLAG_SWITCH(args, overwrite_output, "replace it if it is there"),
        FLAG_TEXT(args, title, "of the page"),
        FLAG(args, samples, 0, 1000, "prompts whose texts are shown"),
    };
    const char *config_file =
        flags_parse(argc, argv, flags, COUNT(flags), "one page about some training runs", preset);
    if (!args.runs && !args.evaluation && !args.benchmarks && !args.samples_file &&
        !args.experiments)
        die(EXIT_USAGE, "--runs, --evaluation, --benchmarks, --samples_file or --experiments is "
                        "needed; see --help");
    if (args.output && path_is_dir(args.output))
        die(EXIT_USAGE, "--output %s: is a directory, expected the name of a file", args.output);
    if (args.output && !args.overwrite_output && !access(args.output, F_OK))
        die(EXIT_USAGE, "--output %s: already there; see --overwrite_output", args.output);
    guard_output(args.output, config_file, flags, COUNT(flags), "output");
    expect_check(args.expect);

    // ---- read ----------------------------------------------------------------------------------
    Report *r = mem_alloc(1, sizeof *r);
    if (args.evaluation) evaluation_read(r, args.evaluation);
    if (args.benchmarks) benchmarks_read(r, args.benchmarks);
    if (args.runs) runs_read(r, args.runs);
    if (args.samples_file) samples_read(r, args.samples_file);
    if (args.frontier) frontier_read(r, args.frontier);
    if (args.stages) stages_read(r, args.stages);
    names_collect(r);

    // ---- write ---------------------------------------------------------------------------------
    Text page = {0}, terminal = {0}, expected = {0};
    if (r->evaluation) table_text(&terminal, r);
    if (plane_count(r)) plane_text(&terminal, r);
    if (args.expect) expectations(&terminal, &expected, r, args.expect);
    if (r->n_marks) marks_text(&terminal, r);
    page_begin(&page, args.title);
    if (r->evaluation) results_html(&page, r, &expected);
    if (r->n_marks) marks_html(&page, r);
    if (args.experiments) experiments_html(&page, args.experiments);
    if (r->n_samples && args.samples) samples_html(&page, r, args.samples);
    if (r->n_runs) curves_html(&page, r);
    if (r->n_stages) stages_html(&page, r);
    text_put(&page, "</main></body></html>\n");
    if (terminal.size) fwrite(terminal.data, 1, terminal.size, stdout);
    if (args.output) {
        disk_file_save(args.output, page.data, page.size);
        printf("%sreport: %s\n", terminal.size ? "\n" : "", args.output);
    }
    text_free(&page), text_free(&terminal), text_free(&expected), report_free(r);
    free(r), flags_free(flags, COUNT(flags));
    return stdout_end();
}
