#!/bin/sh
# A program as one true file: its own headers pasted in where it includes them, each once, those of
# the system left as they are. From the repository's root:
#
#     sh dev/onefile.sh train_dpo.c >one.c
#     cc -O3 -march=native -fno-math-errno -fopenmp one.c -o train_dpo -lopenblas -lcjson -lm
[ $# -eq 1 ] || { echo "usage: sh dev/onefile.sh PROGRAM.c >one.c" >&2; exit 2; }
exec awk -v program="$1" '
    # a/b/../c.h is a/c.h: a header has one name, whoever includes it
    function plain(path) {
        while (sub(/[^\/.][^\/]*\/\.\.\//, "", path)) continue
        return path
    }
    function paste(path,    dir, line, name, got) {
        if (path in pasted) return
        pasted[path] = 1
        dir = path
        if (!sub(/[^\/]*$/, "", dir)) dir = ""
        if (path != program) print "// ---- " path " " substr(dashes, length(path))
        while ((got = (getline line < path)) > 0) {
            if (line !~ /^#include "/) {
                print line
                continue
            }
            name = line
            gsub(/^#include "|".*$/, "", name)
            paste(plain(dir name))
        }
        if (got < 0) {
            print "error: " path ": cannot read" | "cat >&2"
            exit failed = 3
        }
        close(path)
    }
    BEGIN {
        dashes = sprintf("%90s", "")
        gsub(/ /, "-", dashes)
        paste(program)
        exit failed
    }'
