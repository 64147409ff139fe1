// plot.h: plots as SVG and as plain text, no more than a report of training runs needs. From top to
// bottom:
//
//   escaping   text inside HTML and SVG
//   axes       round ticks, from numbers to pixels
//   svg        frames, lines, bands, markers, labels that keep out of each other's way
//   text       the same plane for a terminal
//
// Colours are classes (c0 to c7), set by the page: so a plot is legible on light and dark ground.
// Each also has a marker of its own, and a label at its side: colour alone carries nothing.
#ifndef PLOT_H
#define PLOT_H

#include "../base/common.h"

enum { PLOT_COLOURS = 8 };

// ------------------------------------------------------------------------------------------------
// Escaping

// Append text as it is.
static void text_put(Text *out, const char *s) { text_append(out, s, strlen(s)); }

// Append UTF-8 text so that HTML shows it as it is, inside attributes as well. What HTML cannot
// hold (control bytes) becomes U+FFFD, as does what is no UTF-8.
static void text_html(Text *out, const char *s) {
    for (size_t n = strlen(s); n > 0;) {
        uint32_t code;
        const int length = utf8_decode(&code, s, n), step = length ? length : 1;
        const bool bad = !length || (code < 0x20 && !strchr("\t\n\r", (int)code)) ||
                         (code >= 0x7F && code < 0xA0) || (code & 0xFFFE) == 0xFFFE;
        if (bad) text_put(out, "\xEF\xBF\xBD");
        else if (*s == '<') text_put(out, "&lt;");
        else if (*s == '>') text_put(out, "&gt;");
        else if (*s == '&') text_put(out, "&amp;");
        else if (*s == '"') text_put(out, "&quot;");
        else if (*s == '\'') text_put(out, "&#39;");
        else text_append(out, s, (size_t)length);
        s += step, n -= (size_t)step;
    }
}

// ------------------------------------------------------------------------------------------------
// Axes

// From numbers [low, high] to pixels [from, to]; ticks at the multiples of `step`.
typedef struct {
    double low, high, step, from, to;
} Axis;

// A range that begins empty and takes in one number after the other.
static Axis axis_empty(void) { return (Axis){.low = INFINITY, .high = -INFINITY}; }

// Take in a number, unless it is not finite.
static void axis_add(Axis *a, double x) {
    if (!isfinite(x)) return;
    if (x < a->low) a->low = x;
    if (x > a->high) a->high = x;
}

// Round numbers for about `ticks` ticks: steps of 1, 2 or 5 times a power of ten. With `whole` the
// range is widened to them, else by a twentieth on either side.
static void axis_finish(Axis *a, int ticks, bool whole, double from, double to) {
    if (!(a->low <= a->high)) a->low = 0, a->high = 1;
    if (a->high - a->low < 1e-9 * (fabs(a->low) + fabs(a->high)) + 1e-30) {
        const double room = fabs(a->low) > 0 ? 0.1 * fabs(a->low) : 1;
        a->low -= room, a->high += room;
    }
    const double rough = (a->high - a->low) / ticks, power = pow(10, floor(log10(rough)));
    const double times = rough / power;
    a->step = power * (times > 5 ? 10 : times > 2 ? 5 : times > 1 ? 2 : 1);
    if (whole) {
        a->low = floor(a->low / a->step + 1e-9) * a->step;
        a->high = ceil(a->high / a->step - 1e-9) * a->step;
    } else {
        const double room = (a->high - a->low) / 20;
        a->low -= room, a->high += room;
    }
    a->from = from, a->to = to;
}

// The pixel of a number.
static double axis_at(const Axis *a, double x) {
    return a->from + (x - a->low) / (a->high - a->low) * (a->to - a->from);
}

// The first tick.
static double axis_first(const Axis *a) { return ceil(a->low / a->step - 1e-9) * a->step; }

// A tick as text: as many digits as the step needs, thousands as 20k.
static const char *axis_label(char s[32], const Axis *a, double tick) {
    const int digits = a->step < 1 ? (int)ceil(-log10(a->step) - 1e-9) : 0;
    const bool kilo = a->step >= 500 && fmax(fabs(a->low), fabs(a->high)) >= 10000;
    if (fabs(tick) < 1e-9 * a->step) tick = 0; // no -0
    if (a->step < 1e-5) snprintf(s, 32, "%.2g", tick);
    else if (kilo) snprintf(s, 32, "%g%s", tick / 1000, tick == 0 ? "" : "k");
    else snprintf(s, 32, "%.*f", digits, tick);
    return s;
}

// ------------------------------------------------------------------------------------------------
// SVG

// Text at a place. anchor: start, middle, end.
static void svg_text(Text *out, double x, double y, const char *anchor, const char *class,
                     const char *text) {
    text_print(out, "<text x=\"%.1f\" y=\"%.1f\" text-anchor=\"%s\" class=\"%s\">", x, y, anchor,
               class);
    text_html(out, text);
    text_put(out, "</text>\n");
}

// Begin a picture of width x height units; `what` is for those who cannot see it.
static void svg_begin(Text *out, int width, int height, const char *what) {
    text_print(out, "<svg viewBox=\"0 0 %d %d\" role=\"img\" aria-label=\"", width, height);
    text_html(out, what);
    text_put(out, "\">\n");
}

// End the picture.
static void svg_end(Text *out) { text_put(out, "</svg>\n"); }

// Grid, ticks and names of both axes; y_name is above the y axis. Either name may be NULL.
static void svg_axes(Text *out, const Axis *x, const Axis *y, const char *x_name,
                     const char *y_name) {
    char s[32];
    for (double t = axis_first(y); t <= y->high + 1e-9 * y->step; t += y->step) {
        const double at = axis_at(y, t);
        text_print(out, "<path class=\"grid\" d=\"M%.1f %.1fH%.1f\"/>\n", x->from, at, x->to);
        svg_text(out, x->from - 6, at + 4, "end", "tick", axis_label(s, y, t));
    }
    for (double t = axis_first(x); t <= x->high + 1e-9 * x->step; t += x->step) {
        const double at = axis_at(x, t);
        text_print(out, "<path class=\"axis\" d=\"M%.1f %.1fv4\"/>\n", at, y->from);
        svg_text(out, at, y->from + 17, "middle", "tick", axis_label(s, x, t));
    }
    text_print(out, "<path class=\"axis\" d=\"M%.1f %.1fH%.1f\"/>\n", x->from, y->from, x->to);
    if (x_name) svg_text(out, (x->from + x->to) / 2, y->from + 34, "middle", "name", x_name);
    if (y_name) svg_text(out, 4, y->to - 10, "start", "name", y_name);
}

// A line through n points; those that are not finite are left out.
static void svg_line(Text *out, const Axis *ax, const Axis *ay, const double *x, const double *y,
                     int n, const char *class) {
    text_print(out, "<path class=\"line %s\" d=\"", class);
    for (int i = 0, drawn = 0; i < n; i++)
        if (isfinite(x[i]) && isfinite(y[i]))
            text_print(out, "%c%.1f %.1f", drawn++ ? 'L' : 'M', axis_at(ax, x[i]),
                       axis_at(ay, y[i]));
    text_put(out, "\"/>\n");
}

// The ground between two lines, low and high (n).
static void svg_band(Text *out, const Axis *ax, const Axis *ay, const double *x, const double *low,
                     const double *high, int n, const char *class) {
    text_print(out, "<path class=\"band %s\" d=\"", class);
    for (int i = 0; i < n; i++)
        text_print(out, "%c%.1f %.1f", i ? 'L' : 'M', axis_at(ax, x[i]), axis_at(ay, high[i]));
    for (int i = n - 1; i >= 0; i--)
        text_print(out, "L%.1f %.1f", axis_at(ax, x[i]), axis_at(ay, low[i]));
    text_put(out, "Z\"/>\n");
}

// The interval [low, high] on an axis, at the place `at` (pixels) of the other one.
static void svg_interval(Text *out, const Axis *a, double low, double high, double at, bool upright,
                         int colour) {
    if (!isfinite(low) || !isfinite(high)) return;
    const double p = axis_at(a, low), q = axis_at(a, high);
    if (upright)
        text_print(out, "<path class=\"bar c%d\" d=\"M%.1f %.1fV%.1f\"/>\n", colour, at, p, q);
    else text_print(out, "<path class=\"bar c%d\" d=\"M%.1f %.1fH%.1f\"/>\n", colour, p, at, q);
}

// The marker of a colour, around a place in pixels.
static void svg_marker(Text *out, double x, double y, int colour) {
    static const char *const shapes[PLOT_COLOURS] = {
        "m-5 0a5 5 0 1 0 10 0a5 5 0 1 0 -10 0z",                 // disc
        "m-4.5 -4.5h9v9h-9z",                                    // square
        "m0 -6l5.5 10h-11z",                                     // triangle
        "m0 -6.5l6.5 6.5l-6.5 6.5l-6.5 -6.5z",                   // diamond
        "m0 6l5.5 -10h-11z",                                     // triangle on its head
        "m-2 -6h4v4h4v4h-4v4h-4v-4h-4v-4h4z",                    // plus
        "m-6 -2.5l4 -3.5h4l4 3.5v5l-4 3.5h-4l-4 -3.5z",          // eight corners
        "m0 -6l2 4h4l-3 3l1.5 5l-4.5 -3l-4.5 3l1.5 -5l-3 -3h4z", // star
    };
    text_print(out, "<path class=\"mark c%d\" d=\"M%.1f %.1f%s\"/>\n", colour, x, y,
               shapes[colour % PLOT_COLOURS]);
}

// Boxes that labels have to keep out of, in pixels.
typedef struct {
    int n;
    struct {
        double left, top, right, bottom;
    } box[128];
} Labels;

// Keep labels out of a box.
static void labels_block(Labels *l, double left, double top, double right, double bottom) {
    if (l->n == COUNT(l->box)) return;
    l->box[l->n].left = left, l->box[l->n].top = top;
    l->box[l->n].right = right, l->box[l->n++].bottom = bottom;
}

// Area of a box that is taken, or outside of the frame.
static double labels_overlap(const Labels *l, double left, double top, double right, double bottom,
                             const Axis *x, const Axis *y) {
    double area = 0;
    for (int i = 0; i < l->n; i++) {
        const double w = fmin(right, l->box[i].right) - fmax(left, l->box[i].left);
        const double h = fmin(bottom, l->box[i].bottom) - fmax(top, l->box[i].top);
        if (w > 0 && h > 0) area += w * h;
    }
    if (right > x->to) area += 100 * (right - x->to);
    if (left < x->from) area += 100 * (x->from - left);
    if (top < y->to - 6) area += 100 * (y->to - top);
    if (bottom > y->from) area += 100 * (bottom - y->from);
    return area;
}

// Write the label of a marker at (x, y) pixels at that side of it which is freest.
static void labels_place(Text *out, Labels *l, const char *text, double x, double y, const Axis *ax,
                         const Axis *ay) {
    // about the size of the letters, at 13 units
    const double width = 7.4 * (double)strlen(text), height = 13;
    double best = INFINITY, best_left = x, best_top = y;
    for (int ring = 0; ring < 3; ring++)
        for (int side = 0; side < 8; side++) {
            static const int right[] = {1, 1, 1, 0, 0, -1, -1, -1},
                             down[] = {0, -1, 1, -1, 1, 0, -1, 1};
            const double gap = 9 + 7 * ring;
            const double left = right[side] > 0   ? x + gap
                                : right[side] < 0 ? x - gap - width
                                                  : x - width / 2;
            const double top = y - height / 2 + down[side] * (gap + (right[side] ? 0 : 4));
            const double area = labels_overlap(l, left, top, left + width, top + height, ax, ay) +
                                2 * ring + 0.1 * side;
            if (area < best) best = area, best_left = left, best_top = top;
        }
    labels_block(l, best_left, best_top, best_left + width, best_top + height);
    svg_text(out, best_left, best_top + 11, "start", "label", text);
}

// ------------------------------------------------------------------------------------------------
// Text

enum { PLANE_WIDTH = 60, PLANE_HEIGHT = 16 };

// A plane of characters; ay->from and ay->to are 0 and PLANE_HEIGHT - 1 from below, ax likewise.
typedef struct {
    char cell[PLANE_HEIGHT][PLANE_WIDTH + 1];
} Plane;

// Make it blank.
static void plane_clear(Plane *p) {
    for (int r = 0; r < PLANE_HEIGHT; r++) {
        memset(p->cell[r], ' ', PLANE_WIDTH);
        p->cell[r][PLANE_WIDTH] = 0;
    }
}

// Put a character at (x, y); a letter that finds its place taken by another moves to the right.
static void plane_set(Plane *p, const Axis *ax, const Axis *ay, double x, double y, char c) {
    if (!isfinite(x) || !isfinite(y)) return;
    int column = (int)lround(axis_at(ax, x)), row = (int)lround(axis_at(ay, y));
    if (row < 0 || row >= PLANE_HEIGHT || column < 0 || column >= PLANE_WIDTH) return;
    if (isalpha((unsigned char)c))
        while (column < PLANE_WIDTH - 1 && isalpha((unsigned char)p->cell[row][column])) column++;
    else if (p->cell[row][column] != ' ') return;
    p->cell[row][column] = c;
}

// Append the plane with its axes.
static void plane_print(Text *out, const Plane *p, const Axis *ax, const Axis *ay,
                        const char *x_name, const char *y_name) {
    char s[32], ticks[PLANE_WIDTH + 16];
    text_print(out, "  %s\n", y_name);
    for (int r = PLANE_HEIGHT - 1; r >= 0; r--) {
        const char *label = "";
        for (double t = axis_first(ay); t <= ay->high + 1e-9 * ay->step; t += ay->step)
            if (lround(axis_at(ay, t)) == r) label = axis_label(s, ay, t);
        int n = PLANE_WIDTH;
        while (n > 0 && p->cell[r][n - 1] == ' ') n--;
        text_print(out, "%7s %c%.*s\n", label, *label ? '+' : '|', n, p->cell[r]);
    }
    text_print(out, "%7s +", "");
    memset(ticks, ' ', sizeof ticks);
    int end = 0;
    for (int c = 0; c < PLANE_WIDTH; c++) {
        bool tick = false;
        for (double t = axis_first(ax); t <= ax->high + 1e-9 * ax->step; t += ax->step) {
            if (lround(axis_at(ax, t)) != c) continue;
            tick = true;
            axis_label(s, ax, t);
            const int n = (int)strlen(s), at = c - n / 2 > 0 ? c - n / 2 : 0;
            memcpy(ticks + at, s, (size_t)n);
            end = at + n;
        }
        text_put(out, tick ? "+" : "-");
    }
    text_print(out, "\n%7s  %.*s\n%7s  %s\n", "", end, ticks, "", x_name);
}

#endif
