#!/bin/sh
# Programs as one file each (dev/onefile.sh): every one passes the compiler without any header of
# ours, and one is built and says what the program says. Run from the repository's root with BIN
# set to a build; only once, with the plain one.
. test/helpers.sh
[ "${BIN##*/}" = plain ] || { finish onefile; exit; }
cc=${CC:-cc}

programs=$(ls train_*.c generate.c evaluate.c score.c data/gold.c)
[ ! -e "$BIN/label" ] || programs="$programs label.c" # where its library is
for program in $programs; do
    sh dev/onefile.sh "$program" >"$T/one.c"
    check "$program: pasted" test $? -eq 0
    check "$program: in a folder of its own" sh -c "cd '$T' &&
        $cc -std=gnu11 -march=native -fopenmp -Wall -Wextra -Wno-unused-function -Werror \
            -fsyntax-only one.c"
done
sh dev/onefile.sh train_dpo.c >"$T/one.c"
check "train_dpo: built" sh -c "cd '$T' && $cc -O0 -march=native -fno-math-errno -fopenmp one.c \
    -o train_dpo -lopenblas -lcjson -lm"
"$T/train_dpo" --help >"$T/one"
"$BIN/train_dpo" --help >"$T/want"
check "train_dpo: it is the same program" cmp "$T/one" "$T/want"
sh dev/label_html.sh >"$T/page"
same "label_html.h is label.html" "$T/page" lib/label/label_html.h
check "a file that is not there" sh -c "! sh dev/onefile.sh nothing.c"
finish onefile
