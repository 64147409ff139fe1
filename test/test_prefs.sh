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

# ---- dev/repro/presets.sh on made-up figures: what it finds done it does not do again ----------------

D=$T/presets
presets() { BIN=$BIN sh dev/repro/presets.sh "$D" "$@" >"$T/said" 2>&1; }
# measured PROGRAM VALUES SEED SCORE..: the scores of a setting in runs with this seed and the next ones
measured() {
    program=$1 values=$2 seed=$3
    shift 3
    mkdir -p "$D/runs/$program"
    for score; do
        for set in selection judging; do
            echo "$score $score 0" >"$D/runs/$program/$values-$seed.$set"
        done
        : >"$D/runs/$program/$values-$seed.done"
        seed=$((seed + 1))
    done
}
verdict() { # CODE WORDS PROGRAM
    presets "$3"
    check "presets: $2: exit code" [ $? -eq "$1" ]
    check "presets: $2" grep -qF -- "$2" "$T/said"
}
mkdir "$D"
echo '{"prompt": "A", "chosen": " b", "rejected": " c"}' | tee "$D/made.jsonl" >"$D/made_rm.jsonl"
echo "0 0 0" | tee "$D/sft.selection" >"$D/sft.judging"
for values in 0.00025_0.1 0.0005_0.03 0.0005_0.3; do measured dpo $values 1 0.5; done
measured dpo 0.0005_0.1 1 1 1 1 1
measured dpo 0.001_0.1 1 0.9
verdict 0 "KEEP: the shipped one is the best" dpo
check "presets: judged" grep -q '^  judging:  *score 1.00 (1.00 to 1.00), gain 1.00' "$T/said"
measured dpo 0.001_0.1 1 9 1.1 1.2 1.3 # seed 1 has no say in the lead
verdict 1 "CHANGE: --learning_rate 0.001 --beta 0.1 leads the shipped one by +0.2000 (+0.0314 to +0.3686)" dpo
check "presets: what stays is judged" grep -q '^  judging:  *score 1.20 (1.03 to 1.37)' "$T/said"
measured dpo 0.001_0.1 1 9 1.1 1.2 1.4
verdict 0 "KEEP: --learning_rate 0.001 --beta 0.1 leads the shipped one by +0.2333 (-0.0242 to" dpo
measured dpo 0.001_0.1 1 9 0.7 0.8 0.75
verdict 0 "leads the shipped one by -0.2500" dpo
measured rm 0.001_4 1 0.5
measured rm 0.002_4 1 0.7 0.7 0.7 0.7
measured rm 0.004_4 1 0.8 0.708 0.709 0.71 # less than the 0.01 that it would take
verdict 0 "KEEP: --learning_rate 0.004 --num_train_epochs 4 leads the shipped one by +0.0090 (+0.0073" rm
measured rm 0.004_4 1 0.8 0.718 0.719 0.72
verdict 1 "CHANGE: --learning_rate 0.004" rm
check "presets: nothing was trained" sh -c "! ls '$D'/runs/*/*.log"
mistake 2 "ppo2: expected dpo, ipo, kto, orpo, ppo, rm, spin or sft" sh dev/repro/presets.sh "$D" ppo2
mistake 2 "unknown argument --fast" sh dev/repro/presets.sh --fast
if [ "${BIN##*/}" = plain ]; then # and with real runs of one step
    for time in first second; do
        check "presets: a try, $time" sh -c "BIN='$BIN' sh dev/repro/presets.sh --quick '$T/try' orpo >'$T/$time'"
    done
    check "presets: it says what it is" grep -q "a try, which says nothing of the presets" "$T/first"
    same "presets: the second does nothing anew" "$T/first" "$T/second"
fi

mistake 2 "--count 0: out of range" "$BIN/prefs" --count 0
mistake 3 "$T/nothing" "$BIN/prefs" --model "$T/nothing"
mistake 4 "cannot write" "$BIN/prefs" --count 1 --output "$T/no/file"
mistake 3 'missing "chosen" (keys: prompt, completion)' "$BIN/prefs" --check data/reviews_eval.jsonl
mistake 3 "contains no records" "$BIN/prefs" --check /dev/null
mistake 3 "no pair out of" "$BIN/prefs" --temperature 0
finish prefs
