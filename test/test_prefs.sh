#!/bin/sh
# The preferences that ship in data/ against the gold score that labelled them, and the program that
# makes them. Run from the repository's root with BIN set to a build; prints `prefs: N passed, ..`.
BIN=${BIN:-build/plain}
. test/helpers.sh

# mistake CODE WORDS COMMAND...: the command complains
mistake() {
    complains "$@"
    shift 2
    judge "$@"
}

# The labels are coins: how often they agree with the gold score is within 3 standard errors of the
# best that can be had, and that is far from both 50 % (noise) and 100 % (nothing to learn from).
for file in train:6000 eval:500; do
    path=data/prefs_${file%:*}.jsonl
    "$BIN/prefs" --check "$path" >"$T/said" 2>&1
    check "$path: pairs" grep -q ": ${file#*:} pairs" "$T/said"
    refuse "$path: no pair of equal texts" grep -q 'left out' "$T/said"
    check "$path: labels" awk '
        $1 == "best" { best = $2; gsub("[)]", "", $NF); error = $NF }
        $1 == "gold" && $3 == "foresees" { gold = $4 }
        END { d = gold - best; exit !(best > 75 && best < 90 && d < 3 * error && -d < 3 * error) }' \
        "$T/said"
done
check "no pair is in both files" sh -c "! sort data/prefs_train.jsonl data/prefs_eval.jsonl | uniq -d | grep -q ."
check "less than 1.5 MB" [ "$(wc -c <data/prefs_train.jsonl)" -lt 1500000 ]

# Made again: the same bytes whatever the threads. Another CPU may round a probability otherwise, and
# then a text differs here and there: one or two in 6,000 pairs (data/README.md), so of these 60 one at
# most.
for threads in 1 2; do
    OMP_NUM_THREADS=$threads "$BIN/prefs" --seed 4 --count 60 --output "$T/$threads" >"$T/said" 2>&1
done
check "one thread and two" cmp "$T/1" "$T/2"
same=$(head -n 60 data/prefs_eval.jsonl | diff - "$T/1" | grep -c '^<')
check "the shipped pairs again ($same of 60 differ)" [ "$same" -le 1 ]
check "a few pairs are shown" sh -c "'$BIN/prefs' --count 3 | grep -q '^shown: 3 pairs'"

# At a high temperature come tokens of single bytes, which are no UTF-8.
"$BIN/prefs" --temperature 3 --seed 5 --count 60 --output "$T/wild" >"$T/said" 2>&1
check "wild texts are UTF-8" "$BIN/prefs" --check "$T/wild"

mistake 2 "--count 0: out of range" "$BIN/prefs" --count 0
mistake 3 "$T/nothing" "$BIN/prefs" --model "$T/nothing"
mistake 4 "cannot write" "$BIN/prefs" --count 1 --output "$T/no/file"
mistake 3 'missing "chosen" (keys: prompt, completion)' "$BIN/prefs" --check data/reviews_eval.jsonl
mistake 3 "contains no records" "$BIN/prefs" --check /dev/null
mistake 3 "no pair out of" "$BIN/prefs" --temperature 0
finish prefs
