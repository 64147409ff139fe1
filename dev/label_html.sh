#!/bin/sh
# lib/label/label_html.h, the page of label.c as an array of its lines: sh dev/label_html.sh. From the repository's root.
{
    echo "// Made from label.html by dev/label_html.sh: change that file and run this command."
    echo "// clang-format off"
    echo "static const char *const label_html[] = {"
    sed 's/\\/\\\\/g; s/"/\\"/g; s/.*/    "&",/' lib/label/label.html
    echo "};"
} >lib/label/label_html.h
