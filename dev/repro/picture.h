// picture.h: a figure as an SVG file of its own, for the programs beside it. It needs what one inside a page
// has from the page (lib/report/plot.h): its name space, colours and fonts.
#ifndef PICTURE_H
#define PICTURE_H

#include "../../lib/base/disk.h"
#include "../../lib/report/plot.h"

// Begin a picture of width x height units, white; `what` is for those who cannot see it. A line of class "cN" has
// the colour of marker N, and with " dash" strokes.
static void picture_begin(Text *out, int width, int height, const char *what) {
    static const char *const colours[PLOT_COLOURS] = {"#1f77b4", "#d62728", "#2ca02c", "#9467bd",
                                                      "#ff7f0e", "#8c564b", "#c0399f", "#0b8793"};
    svg_begin(out, width, height, what);
    text_put(out, "<style>text{font:13px sans-serif;fill:#222}.tick{font-size:12px;fill:#555}"
                  ".grid,.axis{stroke:#ddd;fill:none}.line{fill:none;stroke-width:1.5}"
                  ".dash{stroke-dasharray:6 4}");
    for (int i = 0; i < PLOT_COLOURS; i++)
        text_print(out, ".line.c%d{stroke:%s}.mark.c%d{fill:%s}", i, colours[i], i, colours[i]);
    text_print(out, "</style>\n<rect width=\"%d\" height=\"%d\" fill=\"#fff\"/>\n", width, height);
}

// End the picture, write it to a file and free it.
static void picture_save(Text *out, const char *path) {
    Text file = {0};
    svg_end(out);
    text_put(&file, "<svg xmlns=\"http://www.w3.org/2000/svg\"");
    text_put(&file, out->data + strlen("<svg"));
    disk_file_save(path, file.data, file.size);
    text_free(out);
    text_free(&file);
}

#endif
