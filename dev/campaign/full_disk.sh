#!/bin/sh
# Full disk: each program is run while the disk becomes full at its n-th call that writes (faults.c), for every n;
# full as ENOSPC, as EDQUOT (a quota), and amid a write. The training programs begin anew, and go on from a
# checkpoint; those that write a file replace one. It shows that each answers with one sentence and exit code
# 4 and never hangs, that the checkpoint or the file that was there before is as it was, and that the next
# start, with room on the disk, leaves what a run leaves that met no fault, and nothing temporary.
#
#   sh dev/campaign/full_disk.sh [--quick]      8,757 cases, two hours of one core; --quick: one of each
#                                               program, ten seconds
#
# A case is PROGRAM-START-KIND-N. A fault that costs no result may be a warning instead: the file of reference
# log-probs that is kept for later runs. Linux with glibc; programs without ASan.
NAME=full_disk
. dev/campaign/campaign.sh
campaign_begin "$@"
if sanitized; then echo "skipped: full_disk: these programs have ASan's allocator" && exit 0; fi
workbench 20
compiled faults.c -ldl
S=$OUT/straight R=$OUT/run
kinds="ENOSPC EDQUOT SHORT"
$quick && kinds=ENOSPC
writers="generate evaluate score report"

# command_of PROGRAM DIR [FLAG...]: $command is what that program does in this campaign
command_of() {
    case $1 in
    generate | score | evaluate | report)
        writes "$1" "$W/eval.jsonl" 4 "$S/sft/out" "$2/output"
        [ "$1" != evaluate ] || command="$command --samples_file $2/samples"
        ;;
    *)
        program=$1 to=$2
        shift 2
        trains "$program" 8 "$to/out" "$@"
        ;;
    esac
}

# prepare PROGRAM START: what is in $R before the run: nothing, or what an earlier one left
prepare() {
    rm -rf "$R"
    mkdir "$R"
    case $2 in
    resumed)
        cp -r "$S/$1/out" "$R/out"
        rm -rf "$R/out/final" "$R/out/checkpoint-6"
        ;;
    replaced)
        echo "an earlier result" >"$R/output"
        [ "$1" != evaluate ] || cp "$R/output" "$R/samples"
        ;;
    esac
}

# count PROGRAM START: $calls is how many calls a run makes that meets no fault
count() {
    prepare "$1" "$2"
    how=
    [ "$2" != resumed ] || how="--resume_from_checkpoint latest"
    command_of "$1" "$R" $how
    FAULT_KIND=ENOSPC FAULT_AT=0 FAULT_DIR=$R/ FAULT_COUNT=$OUT/count LD_PRELOAD=$built \
        $command >"$OUT/log" 2>&1 || { cat "$OUT/log"; exit 1; }
    calls=$(sed 's/ .*//' "$OUT/count")
}

# full PROGRAM START KIND N: sets $wrong to what is not as promised
full() {
    prepare "$1" "$2"
    how= wrong=
    rm -f "$OUT/count"
    [ "$2" != resumed ] || how="--resume_from_checkpoint latest"
    command_of "$1" "$R" $how
    timeout 60 env FAULT_KIND="$3" FAULT_AT="$4" FAULT_DIR="$R/" FAULT_COUNT="$OUT/count" \
        LD_PRELOAD="$built" $command >"$OUT/log" 2>"$OUT/said"
    code=$?
    failed_at=$(cat "$OUT/count" 2>/dev/null)
    if [ $code -eq 0 ]; then
        grep -q '^warning: ' "$OUT/said" || wrong="exit code 0 without a word"
    elif [ $code -ne 4 ]; then wrong="exit code $code"
    elif ! one_sentence "$OUT/said"; then wrong="not one sentence"; fi
    [ -z "$wrong" ] || return
    case $2 in
    resumed) diff -r "$S/$1/out/checkpoint-3" "$R/out/checkpoint-3" || wrong="checkpoint-3 has changed" ;;
    replaced)
        for file in output samples; do # the old one or, if only syncing it failed, the new one
            [ -e "$S/$1/$file" ] || continue
            cmp -s "$S/$1/$file" "$R/$file" || grep -q "an earlier result" "$R/$file" || wrong="$file is harmed"
        done
        ;;
    esac >"$OUT/log"
    [ -z "$wrong" ] || return
    how=
    [ "$2" = replaced ] || goes_on "$R/out"
    [ ! -e "$R/out/final" ] || [ $code -ne 0 ] || return # it has ended well
    command_of "$1" "$R" $how
    if ! timeout 60 $command >"$OUT/log" 2>"$OUT/said"; then wrong="the next start: $(tail -n 1 "$OUT/said")"
    elif [ "$2" = replaced ]; then
        for file in output samples; do
            [ ! -e "$S/$1/$file" ] || cmp -s "$S/$1/$file" "$R/$file" || wrong="another $file"
        done
    elif ! same_results "$S/$1" "$R" >"$OUT/log"; then wrong="other results: $(head -n 1 "$OUT/log")"
    else left_nothing "$R"; fi
}

# series PROGRAM START: every N of every kind; with --quick some
series() {
    if [ ! -e "$S/$1" ]; then
        mkdir -p "$S"
        prepare "$1" fresh
        command_of "$1" "$R"
        $command >"$OUT/log" 2>&1 || { cat "$OUT/log"; exit 1; }
        mv "$R" "$S/$1"
    fi
    count "$1" "$2"
    first=1 every=1
    # --quick: one case, at another place for each program
    if $quick; then first=$((1 + tried * calls / 11)) every=$calls tried=$((tried + 1)); fi
    for kind in $kinds; do
        n=$first
        while [ $n -le "$calls" ]; do
            if ! is_done "$1-$2-$kind-$n"; then
                full "$1" "$2" "$kind" $n
                if [ -z "$wrong" ]; then result "$1-$2-$kind-$n" ok $code
                else result "$1-$2-$kind-$n" FAILED "$wrong (call $failed_at): $(tail -n 1 "$OUT/said")"; fi
            fi
            n=$((n + every))
        done
    done
}

tried=0
for program in $TRAINERS; do
    $quick || series "$program" fresh
    series "$program" resumed
done
for program in $writers; do series "$program" replaced; done
rm -rf "$R"
campaign_end "$(wc -l <"$OUT/results") full disks, $(grep -c 'ok 0$' "$OUT/results") of them a warning"
