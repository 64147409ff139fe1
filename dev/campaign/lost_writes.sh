#!/bin/sh
# Lost writes: each training program runs until power fails at a random one of its calls that touch the disk, and
# what was not synced is gone (lost_writes.c: files cut or full of zeros, directory entries undone). It shows that
# the newest checkpoint whose name was durable still loads (or a newer one), however much was lost, that a run which
# goes on from there, through more such failures, ends with the same bits and the same log as one that nothing
# happened to, and that nothing temporary is left.
#
#   sh dev/campaign/lost_writes.sh [--crashes N] [--quick]      200 crashes take ten minutes of one core; --quick: one
#                                                               of each program, ten seconds
#
# A case is a run, `PROGRAM-NUMBER`; the number is the seed. Every second one keeps but two checkpoints, so that old
# ones are deleted. Linux with glibc; programs without ASan.
NAME=lost_writes
. dev/campaign/campaign.sh
AMOUNT=--crashes wanted=200
campaign_begin "$@"
if sanitized; then echo "skipped: lost_writes: these programs have ASan's allocator" && exit 0; fi
workbench 40
compiled lost_writes.c -ldl
steps=12
$quick && steps=6

# powered PROGRAM AT SEED DIR [FLAG...]: run it until power fails at that call (0: never); sets $code
powered() {
    program=$1 at=$2 salt=$3 to=$4
    shift 4
    trains "$program" $steps "$to/out" "$@"
    mkdir -p "$OUT/graves"
    timeout 120 env LOST_AT="$at" LOST_SEED="$salt" LOST_DIR="$to" LOST_GRAVES="$OUT/graves" \
        LOST_COUNT="$OUT/count" LOST_SAFE="$OUT/safe" LD_PRELOAD="$built" $command >"$OUT/log" 2>"$OUT/said"
    code=$?
    rm -rf "$OUT/graves"
}

# lost PROGRAM NUMBER: one run, through three crashes at most
lost() {
    if [ ! -e "$W/$1/calls" ]; then # how many calls a run makes that meets no crash
        rm -rf "$R"
        mkdir "$R"
        powered "$1" 0 0 "$R"
        sed 's/ .*//' "$OUT/count" >"$W/$1/calls"
    fi
    seed=$2 n=0 wrong=
    rm -rf "$R" "$OUT/safe"
    mkdir "$R"
    touch "$OUT/safe"
    limit=
    [ $(($2 % 2)) -eq 0 ] || limit="--save_total_limit 2"
    calls=$(cat "$W/$1/calls")
    while :; do
        random "$calls"
        at=$((drawn + 1))
        if [ $n -ge 3 ] || { $quick && [ $n -ge 1 ]; }; then at=0; fi
        safe=$(sed 's/.*-//' "$OUT/safe" | sort -n | tail -n 1)
        goes_on "$R/out"
        powered "$1" $at "$2$n" "$R" $how $limit
        case $how in
        --resume*)
            if [ $code -eq 3 ] && [ -z "$safe" ] && grep -q 'no usable checkpoint' "$OUT/said"; then
                # none had become durable: what is there has no promise
                powered "$1" 0 0 "$R" --overwrite_output_dir $limit
            elif [ $code -eq 0 ]; then
                from=$(sed -n 's/^resumed at step \([0-9]*\).*/\1/p' "$OUT/log")
                [ "${from:-0}" -ge "${safe:-0}" ] || wrong="checkpoint-$safe was durable, went on from ${from:-none}"
            fi
            ;;
        *) [ -z "$safe" ] || wrong="checkpoint-$safe was durable and is gone" ;;
        esac
        if [ $code -ne 99 ] && [ $code -ne 0 ]; then wrong="exit code $code: $(tail -n 1 "$OUT/said")"; fi
        [ -z "$wrong" ] || return
        [ $code -eq 99 ] || break
        n=$((n + 1))
    done
    ends_as_straight "$1" "$R"
}

many_runs crashes lost
campaign_end "$(awk '{ runs++; n += $3 } END { print n + 0 " crashes of " runs + 0 " runs" }' "$OUT/results")"
