#!/bin/sh
# Allocation failure: each program starts on 20 rows, and its n-th call that asks for memory gets none
# (faults.c): every n up to 2,000, then every hundredth, until the run makes no such call any more. It shows
# that each answers with one sentence and exit code 4 (or does without that memory, and ends as it would
# have), that it never hangs or crashes, and that the output that was there before is as it was.
#
#   sh dev/campaign/allocations.sh [--every N] [--quick]
#
# About 22,000 cases, an hour and a half of one core; --quick: two for each program, ten seconds. --every N:
# not every n up to 2,000, but every N-th. A case is PROGRAM-N. Calls are counted from the moment when the
# program's libraries begin: theirs count, too. Before main there is nobody of ours to answer: there libgfortran,
# which OpenBLAS needs, and libgomp end the program in their own words, with exit code 1 (up to call BEFORE_MAIN).
# Linux with glibc; programs without ASan.
NAME=allocations
. dev/campaign/campaign.sh
AMOUNT=--every wanted=1 BEFORE_MAIN=40
campaign_begin "$@"
if sanitized; then echo "skipped: allocations: these programs have ASan's allocator" && exit 0; fi
workbench 20
compiled faults.c -ldl
R=$OUT/run

# command_of PROGRAM: $command is its start-up: one update, or one text
command_of() {
    case $1 in
    generate) writes "$1" "$W/reviews.jsonl" 2 '' "$R/output" ;;
    score | evaluate | report) writes "$1" "$W/pairs.jsonl" 2 "$OUT/sft/out" "$R/output" ;;
    *) trains "$1" 2 "$R/out" --resume_from_checkpoint "$OUT/$1/out/checkpoint-1" --save_steps 0 ;;
    esac
}

# What was there before: a checkpoint after one update, from which the run goes on into another directory.
# earlier PROGRAM: make it
earlier() {
    [ -e "$OUT/$1/out/run.json" ] && return
    rm -rf "$OUT/$1"
    mkdir "$OUT/$1"
    trains "$1" 2 "$OUT/$1/out" --save_steps 1
    $command >"$OUT/log" 2>&1 || { cat "$OUT/log"; exit 1; }
}

# without PROGRAM N: sets $wrong to what is not as promised, and $failed_at to what faults.c has noted: how many
# calls there were, and which one failed
without() {
    wrong=
    rm -rf "$R" "$OUT/count"
    mkdir "$R"
    echo "an earlier result" >"$R/output"
    command_of "$1"
    timeout -s KILL 20 env FAULT_KIND=MEMORY FAULT_AT="$2" FAULT_COUNT="$OUT/count" \
        LD_PRELOAD="$built" $command >"$OUT/log" 2>"$OUT/said"
    code=$?
    failed_at=$(cat "$OUT/count" 2>/dev/null)
    [ -n "$failed_at" ] || return # there are not so many
    if [ $code -eq 137 ]; then wrong="hangs"
    elif [ $code -eq 1 ] && [ "$2" -le $BEFORE_MAIN ] &&
        grep -q '^Operating system error: Cannot allocate memory\|^libgomp: Out of memory' "$OUT/said"; then return
    elif [ $code -ne 4 ] && [ $code -ne 0 ]; then wrong="exit code $code"
    elif [ $code -eq 4 ] && ! one_sentence "$OUT/said"; then wrong="not one sentence"
    elif [ $code -eq 4 ] && ! grep -q 'emory' "$OUT/said"; then wrong="does not speak of memory"
    elif [ $code -eq 4 ] && [ "$(cat "$R/output")" != "an earlier result" ]; then wrong="the output is harmed"
    elif [ $code -eq 0 ] && ! ends_well "$1"; then wrong="other results"; fi
}

# ends_well PROGRAM: the run left what it leaves when it has all the memory
ends_well() {
    case $1 in
    generate | score | evaluate | report) cmp -s "$R/output" "$OUT/$1.output" ;;
    *) same_results "$R/out/final" "$OUT/$1/out/final" >"$OUT/log" ;;
    esac
}

earlier sft # which report needs
for program in $TRAINERS generate evaluate score report; do
    case $program in
    generate | evaluate | score | report)
        if [ ! -e "$OUT/$program.output" ]; then
            without "$program" 0
            mv "$R/output" "$OUT/$program.output"
        fi
        ;;
    *) earlier "$program" ;;
    esac
    without "$program" 0
    calls=${failed_at%% *} n=1
    [ -n "$calls" ] || { echo "error: $NAME.sh: $program does not run (exit code $code)" >&2 && exit 1; }
    while [ "$n" -le "$calls" ]; do
        if ! is_done "$program-$n"; then
            without "$program" "$n"
            if [ -z "$wrong" ]; then result "$program-$n" ok $code
            else result "$program-$n" FAILED "$wrong (call $failed_at): $(tail -n 1 "$OUT/said")"; fi
        fi
        if $quick; then n=$((n + calls * 2 / 3))
        elif [ "$n" -lt 2000 ]; then n=$((n + wanted))
        else n=$((n + 100)); fi
    done
done
rm -rf "$R"
campaign_end "$(wc -l <"$OUT/results") starts without memory, $(grep -c 'ok 0$' "$OUT/results") of them did without"
