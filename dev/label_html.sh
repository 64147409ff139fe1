#!/bin/sh
# The page of label.c as an array of its lines: sh dev/label_html.sh >lib/label/label_html.h. From the repository's root.
echo "// Made from label.html: change that, then sh dev/label_html.sh >lib/label/label_html.h"
echo "// clang-format off"
echo "static const char *const label_html[] = {"
sed 's/\\/\\\\/g; s/"/\\"/g; s/.*/    "&",/' lib/label/label.html
echo "};"
