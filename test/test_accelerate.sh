#!/bin/sh
# macOS's Accelerate in OpenBLAS's place (blas.h): every program passes the compiler with a stand-in
# for Apple's header. That says that the calls fit; nothing is linked, nothing runs. Run from the
# repository's root with BIN set to a build; only once, with the plain one.
. test/helpers.sh
[ "${BIN##*/}" = plain ] || { finish accelerate; exit; }

for cc in gcc clang; do
    command -v $cc >/dev/null || { skip "$cc is not installed"; continue; }
    for program in train_*.c generate.c evaluate.c score.c report.c test/test_model.c test/test_bf16.c; do
        check "$cc $program" $cc -std=gnu11 -O1 -fno-math-errno -fopenmp -Wall -Wextra -Wshadow \
            -Wno-unused-function -Werror -DALIGN_ACCELERATE -Itest/accelerate -fsyntax-only \
            "$program"
    done
    # and OpenBLAS is not asked for after all (its weak symbols in machine.h may be missing)
    $cc -std=gnu11 -O1 -fopenmp -w -DALIGN_ACCELERATE -Itest/accelerate -c train_sft.c \
        -o "$T/sft.o" && nm -u "$T/sft.o" >"$T/undefined"
    check "$cc: nothing of OpenBLAS is wanted" \
        sh -c "! grep -E 'U (openblas_|gotoblas)' '$T/undefined'"
    check "$cc: its product is" grep -q cblas_sgemm "$T/undefined"
done
finish accelerate
