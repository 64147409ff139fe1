#!/bin/sh
# Kills: each of the seven training programs is ended by `kill -9` at random moments, again and again, and
# gone on with until it is done. It shows that no kill costs a checkpoint (none that was there is damaged or
# gone, but for those that --save_total_limit removes), that a run ends with the same bits and the same log
# as one that nobody killed, and that nothing temporary is left.
#
#   sh dev/campaign/kills.sh [--kills N] [--quick]      1,000 kills take half an hour of one core; --quick:
#                                                       one run of each program, ten seconds
#
# A case is a run, `PROGRAM-NUMBER`; the number is the seed of its moments. Every second one keeps but two
# checkpoints, so that some kills come while an old one is deleted. Linux, with GNU's `timeout`.
NAME=kills
. dev/campaign/campaign.sh
AMOUNT=--kills wanted=1000
campaign_begin "$@"
workbench 60
steps=24
$quick && steps=9

# killed PROGRAM NUMBER: one run, killed until it ends
killed() {
    seed=$2 n=0 wrong=
    rm -rf "$R"
    mkdir "$R"
    limit=
    [ $(($2 % 2)) -eq 0 ] || limit="--save_total_limit 2"
    most=$(cat "$W/$1/ms")
    while :; do
        goes_on "$R/out"
        before=$step
        trains "$1" $steps "$R/out" $how $limit
        # after 40 kills it is left alone: a machine that has become slow would never get to the end
        patience=600
        if [ $n -lt 40 ]; then
            random "$most"
            patience=$(printf '%d.%03d' $((drawn / 1000)) $((drawn % 1000)))
        fi
        # --foreground: else timeout kills itself, too, and the run may be there a moment longer. A shell of
        # its own, so that ours does not tell of each kill.
        sh -c 'timeout --foreground -s KILL "$@"; exit $?' - "$patience" $command >"$R/log" 2>"$R/said"
        code=$?
        newest "$R/out"
        if grep -q 'skipped: ' "$R/said"; then wrong="a checkpoint was damaged"
        elif [ "$step" -lt "$before" ]; then wrong="checkpoint-$before is gone"
        elif [ $code -ne 137 ] && [ $code -ne 124 ] && [ $code -ne 0 ]; then wrong="exit code $code"; fi
        [ -z "$wrong" ] || { wrong="$wrong: $(tail -n 1 "$R/said")"; return; }
        [ $code -ne 0 ] || break
        [ $code -ne 137 ] || n=$((n + 1)) # 124: it had just ended by itself
    done
    ends_as_straight "$1" "$R"
}

many_runs kills killed
awk '{ sub(/-.*/, "", $1); runs[$1]++; kills[$1] += $3 }
    END { for (p in runs) printf "  %-5s %4d runs %5d kills\n", p, runs[p], kills[p] }' "$OUT/results" | sort
campaign_end "$(awk '{ runs++; n += $3 } END { print n + 0 " kills of " runs + 0 " runs" }' "$OUT/results")"
