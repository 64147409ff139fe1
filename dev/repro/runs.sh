# What the scripts of real experiments share. Sourced from the repository's root by a script that has set
#
#     NAME=pretrain            its results go to out/NAME, or out/NAME_quick
#     PROGRAMS="train_sft .."  what it runs
#
# and then calls `runs_begin "$@"`, which reads [--quick] [--jobs N] [DIR] and sets OUT (DIR), QUICK (empty
# or --quick), JOBS (2 runs at a time, one thread each) and BIN (the programs; made if BIN is not set).
# A run that is done is not done again, and one that was cut off goes on from its last checkpoint: the same
# command, given again, ends what an earlier one began. Delete DIR to begin anew.
export LC_ALL=C OMP_WAIT_POLICY=passive
unset OPENBLAS_CORETYPE OPENBLAS_L2_SIZE

# fail WORDS: end the script with one sentence
fail() { echo "error: $*" >&2; exit 1; }

runs_begin() {
    OUT= QUICK= JOBS=2
    while [ $# -gt 0 ]; do
        case $1 in
        --quick) QUICK=--quick ;;
        --jobs)
            [ $# -ge 2 ] || { echo "error: --jobs needs a value" >&2; exit 2; }
            JOBS=$2
            shift
            ;;
        --one) # what `at_once` calls: one run in a script of its own
            OUT=$2
            shift 2
            if [ "$2" = evaluate ]; then measured "$@"; else trained "$@"; fi
            exit
            ;;
        -*) echo "error: unknown argument $1; see the head of $0" >&2; exit 2 ;;
        *) OUT=$1 ;;
        esac
        shift
    done
    [ "$OUT" ] || OUT=out/$NAME${QUICK:+_quick}
    case $OUT in
    *[!A-Za-z0-9_./-]*) echo "error: DIR $OUT: letters, digits and _ . / - only, please" >&2; exit 2 ;;
    esac
    [ -f model.h ] || { echo "error: run this from the repository's root" >&2; exit 2; }
    if [ -z "${BIN:-}" ]; then
        BIN=build/plain
        make -s $(for program in $PROGRAMS; do echo "$BIN/$program"; done)
    fi
    export BIN
    mkdir -p "$OUT"
    begun_with form "${QUICK:-full}"
}

# begun_with NAME VALUE: OUT/NAME has what this folder was begun with; the script ends if it was another value, as runs
# that are there would be taken for what they are not
begun_with() {
    made "$OUT/$1" echo "$2"
    begun=$(cat "$OUT/$1")
    [ "$begun" = "$2" ] || fail "$OUT was begun with another $1 ($begun, not $2); give another DIR"
}

# trained RUN PROGRAM FLAG..: OUT/RUN/final is there, or PROGRAM makes it; OUT/RUN.log has what it says,
# OUT/RUN.seconds how long it took, with all that was cut off. If the script has defined a function
# run_ended before runs_begin, it is called then, with OUT/RUN: the last that sees the run's checkpoints.
trained() {
    run=$OUT/$1 program=$2
    shift 2
    [ ! -f "$run.done" ] || return 0
    mkdir -p "${run%/*}"
    began=$(date +%s)
    case $(echo "$run"/checkpoint-*) in
    *'*') set -- "$@" --overwrite_output_dir ;;
    *) set -- "$@" --resume_from_checkpoint latest ;;
    esac
    "$BIN/$program" "$@" --output_dir "$run" >>"$run.log" 2>&1 || fail "$run failed, see $run.log"
    if command -v run_ended >/dev/null; then run_ended "$run"; fi
    echo $(($(date +%s) - began)) >>"$run.seconds"
    rm -rf "$run"/checkpoint-*
    : >"$run.done"
}

# measured NAME evaluate FLAG..: OUT/NAME.json and OUT/NAME_samples.jsonl are there, or evaluate makes them;
# OUT/NAME.log has what it says, OUT/NAME.seconds how long it took
measured() {
    to=$OUT/$1 program=$2
    shift 2
    [ ! -f "$to.json" ] || return 0
    mkdir -p "${to%/*}"
    began=$(date +%s)
    "$BIN/$program" "$@" --output "$to.json.new" --samples_file "$to"_samples.jsonl --overwrite_output \
        >"$to.log" 2>&1 || fail "$to failed, see $to.log"
    echo $(($(date +%s) - began)) >>"$to.seconds"
    mv "$to.json.new" "$to.json"
}

# at_once: the runs of standard input, a line `RUN PROGRAM FLAG..` each, JOBS at a time, one thread each; of
# evaluate NAME is what `measured` makes
at_once() {
    OMP_NUM_THREADS=1 xargs -L 1 -P "$JOBS" sh "$0" --one "$OUT"
}

# made FILE COMMAND..: FILE is there, or the command's output becomes it
made() {
    file=$1
    shift
    [ -f "$file" ] || { "$@" >"$file.new" && mv "$file.new" "$file"; }
}

# last RUN METRIC: the last value of a metric in a run's log
last() { sed -n 's|.*"'"$2"'": \([^,}]*\).*|\1|p' "$OUT/$1/metrics.jsonl" | tail -n 1; }

# runs_chosen: what the scripts do that first try settings: with each of $seeds, each of $methods with the setting
# that OUT/try/METHOD.kept has. The script's `runs DIR SEED METHOD SETTING` prints the line for at_once.
runs_chosen() {
    for seed in $seeds; do
        for method in $methods; do
            runs "$seed/$method" "$seed" "$method" "$(cat "$OUT/try/$method.kept")"
        done
    done | at_once
}

# result_ends: the last lines of result.txt
result_ends() {
    [ -z "$QUICK" ] || echo "--quick: none of this is a result"
    echo "$(minutes) minutes of a core in runs"
}

# ended CODE TITLE FLAG..: show OUT/result.txt, make OUT/report.html of it and of what these flags of report
# name, and end the script with CODE; --quick has no verdict, so it ends with 0
ended() {
    code=$1 title=$2
    shift 2
    cat "$OUT/result.txt"
    "$BIN/report" --experiments "$OUT" "$@" --output "$OUT/report.html" --overwrite_output --title "$title" \
        >"$OUT/report.log"
    echo "curves, and texts where there are any: $OUT/report.html"
    [ -z "$QUICK" ] || code=0
    exit "$code"
}

# minutes: what the runs of OUT have taken, in minutes of the machine as it was used
minutes() {
    find "$OUT" -name '*.seconds' -exec cat {} + | awk '{ s += $1 } END { printf "%.0f\n", s / 60 }'
}
