#!/bin/sh
# Every loop marked `omp simd` becomes one of vectors, with AVX2 and with AVX-512. GCC keeps a loop
# scalar when it makes branches of a choice between floats, and says nothing: the program is as right
# as before, and that loop eight times as slow. Run from the repository's root with BIN set to a
# build; only once, with the plain one, on x86-64 with GCC.
. test/helpers.sh
[ "${BIN##*/}" = plain ] || { finish vectors; exit; }
cc=${CC:-cc}
if [ "$(uname -m)" != x86_64 ] || ! $cc --version | grep -q 'Free Software'; then
    skip "vectors: not GCC on x86-64"
    finish vectors
    exit
fi

headers='model.h lib/run/kl.h lib/run/sample.h'
for header in $headers; do echo "#include \"$PWD/$header\""; done >"$T/all.c"
# all functions of the headers, also those that nobody calls here, and both ways to read weights
for cpu in haswell skylake-avx512; do
    $cc -std=gnu11 -O3 -march=$cpu -fno-math-errno -fopenmp -w -DIN_STRIPS=false \
        -fkeep-static-functions -fopt-info-vec -c "$T/all.c" -o "$T/all.o" >"$T/said" 2>&1
    check "$cpu: compiles" test $? -eq 0
    for header in $headers; do
        grep -o "${header##*/}:[0-9]*:[0-9]*: optimized: loop vectorized" "$T/said" |
            cut -d: -f2 | sort -un >"$T/vectors"
        # GCC names the pragma's line or that of a loop up to three lines further down; what comes
        # after the next pragma is another loop
        grep -n 'pragma omp.* simd' "$header" | cut -d: -f1 |
            awk 'NR > 1 { print last, ($1 - 1 < last + 3 ? $1 - 1 : last + 3) }
                 { last = $1 } END { print last, last + 3 }' >"$T/loops"
        while read -r line end; do
            check "$cpu, $header:$line: vectors" \
                awk -v l="$line" -v e="$end" '$1 >= l && $1 <= e { found = 1 } END { exit !found }' \
                "$T/vectors"
        done <"$T/loops"
    done
done
finish vectors
