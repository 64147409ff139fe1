#!/bin/sh
# The benchmark's tools say what they should, in the form that others read; how fast anything is does
# not matter. Run from the repository's root with BIN set to a build.
. test/helpers.sh

# lines N REGEX FILE: exactly N lines match
lines() { [ "$(grep -cE "$2" "$3")" -eq "$1" ]; }

# ---- one program ---------------------------------------------------------------------------------
logged timeout 300 "$BIN/bench" train 2 8 tiny
check "train: its milliseconds come first" \
    lines 1 '^train B2 T8 tiny: [0-9.]+ ms, median [0-9.]+, sum of the parts. minima [0-9.]+; ' "$T/log"
check "train: the limits" lines 1 '^limits, best of [0-9]+ probes: FMA [0-9]+ GFLOP/s' "$T/log"

# best <= median, and the parts' minima are no more than the best
sed -nE 's/^train [^:]*: ([0-9.]+) ms, median ([0-9.]+), sum of the parts. minima ([0-9.]+);.*/\1 \2 \3/p' \
    "$T/log" >"$T/ms"
check "train: the best, the median, the parts' minima" \
    awk '!($1 > 0 && $1 <= $2 && $3 > 0 && $3 <= $1 + 0.1) { exit 1 } END { exit NR != 1 }' "$T/ms"

printf '1\n2\n' | timeout 300 "$BIN/bench" serve 2 8 tiny bf16 >"$T/log" 2>/dev/null
check "serve: ready, with the names of its parts" lines 1 '^ready linear fwd,.*,AdamW,rest$' "$T/log"
check "serve: an answer for each line" lines 2 '^[0-9.]+( -?[0-9.]+)+$' "$T/log"
check "serve: the parts' times add up to the step's" awk '
    /^[0-9.]+ / {
        sum = 0
        for (i = 2; i <= NF; i++) sum += $i
        if (!(sum - $1 < 0.01 && $1 - sum < 0.01)) exit 1
    }' "$T/log"

# ---- several in turn -----------------------------------------------------------------------------
contestant="env OMP_WAIT_POLICY=passive $BIN/bench serve 2 8 tiny"
logged timeout 300 "$BIN/bench" duel 2 8 tiny 3 0 "one=$contestant" "two=$contestant bf16" \
    "three=$contestant"
check "duel: rounds" lines 1 '^3 rounds of 10 steps in turn, [0-9]+ s; limits, best of 4 probes: ' "$T/log"
number='[0-9.]+( %| MB)?'
ratio='[0-9.]+, [0-9.]+'
check "duel: the first" lines 1 "^\| one \|( $number \|){7} \| $ratio \|$" "$T/log"
check "duel: the second" lines 1 "^\| two \|( $number \|){7} $ratio \| \|$" "$T/log"
check "duel: the third" lines 1 "^\| three \|( $number \|){7} $ratio \| $ratio \|$" "$T/log"
columns=$(awk -F '|' '/^\|/ { print NF }' "$T/log" | sort -u)
check "duel: all lines of the table have as many columns" test "$columns" -eq 12

# A contestant that ends, one that answers nonsense, one without a name.
mistake() {
    complains "$@"
    shift 2
    judge "$*"
}
mistake 3 'one ended too early: false' "$BIN/bench" duel 2 8 tiny 3 0 'one=false'
mistake 3 'one answered: step' "$BIN/bench" duel 2 8 tiny 3 0 "one=sh -c 'echo ready a; cat'"
mistake 2 'NAME=COMMAND expected' "$BIN/bench" duel 2 8 tiny 3 0 one
mistake 2 'usage: bench gemm' "$BIN/bench" train 2 8 small
mistake 2 'T is at most 64' "$BIN/bench" train 2 65 tiny

# ---- the table of a CPU --------------------------------------------------------------------------
logged sh dev/bench.sh --quick
check "bench.sh: a heading" lines 1 '^## ' "$T/log"
check "bench.sh: float32 and bf16" lines 2 "^\| (float32|bf16) \|( $number \|){7}" "$T/log"
complains 2 'x' sh dev/bench.sh --no-such-option
check "bench.sh: no such option" grep -q 'no option --no-such-option' "$T/stderr"

finish bench
