# What the campaigns share. Each sources this as `. dev/campaign/campaign.sh` from the repository's root
# after it has set NAME, and then calls `campaign_begin "$@"`.
#
#   options   --quick: a short form, for `make test`. --bin DIR: the programs (default: BIN, or build/plain).
#             --out DIR: where it works and keeps its results (default: out/campaign/NAME). A file system in
#             memory (/dev/shm/NAME) spares them the disk, but a restart loses their results.
#             --programs 'sft dpo ..': of the seven training programs these alone
#   results   OUT/results has a line for each case that is done: its name, then `ok ..` or `FAILED ..`. A
#             campaign that was stopped goes on with the cases that are not there; `rm -r OUT` begins anew.
#   amount    where a script sets AMOUNT=--kills and wanted=1000, --kills N is an option that sets $wanted
#   workbench the tiny models and files that all runs begin with, and a command line for each program
set -u
export LC_ALL=C OMP_WAIT_POLICY=passive OMP_NUM_THREADS=1
TRAINERS="sft rm dpo kto orpo ppo spin"
quick=false OUT= BIN=${BIN:-build/plain} AMOUNT=

# campaign_option NAME VALUE: take an option of the campaign's own; a script may define this anew
campaign_option() { return 1; }

# campaign_begin OPTION...: read the options, make OUT
campaign_begin() {
    while [ $# -gt 0 ]; do
        case $1 in
        --quick) quick=true ;;
        --*)
            [ $# -gt 1 ] || usage "$1 needs a value"
            case $1 in
            --bin) BIN=$2 ;;
            --out) OUT=$2 ;;
            --programs) TRAINERS=$2 ;;
            "$AMOUNT") wanted=$2 ;;
            *) campaign_option "$1" "$2" || usage "unknown option $1" ;;
            esac
            shift
            ;;
        *) usage "unexpected argument $1" ;;
        esac
        shift
    done
    [ -x "$BIN/train_sft" ] || usage "no programs in $BIN: make them first, or say --bin DIR"
    OUT=${OUT:-out/campaign/$NAME}
    mkdir -p "$OUT" || exit 4
    OUT=$(cd "$OUT" && pwd -P) BIN=$(cd "$BIN" && pwd -P)
    touch "$OUT/results"
    trap 'exit 1' HUP INT TERM
}

# usage WHAT: a mistake in the command line
usage() {
    echo "error: $NAME.sh: $1 (options: --quick, --bin DIR, --out DIR; more in its head)" >&2
    exit 2
}

# is_done CASE: it has a line in the results
is_done() { grep -q "^$1 " "$OUT/results"; }

# result CASE WORDS: note it, and show it if it is a failure
result() {
    echo "$*" >>"$OUT/results"
    case $* in *" FAILED"*) echo "$*" ;; esac
}

# campaign_end WORDS: print the last line with the figures; the exit code says whether nothing failed
campaign_end() {
    failed=$(grep -c '^[^ ]* FAILED' "$OUT/results")
    echo "$NAME: $*, $failed failed"
    [ "$failed" -eq 0 ]
}

# random N: $drawn is one of 0 .. N-1, by the state $seed, which the script sets for each case
random() {
    seed=$(((seed * 1103515245 + 12345) % 2147483648))
    drawn=$((seed / 1024 % $1))
}

# milliseconds since some moment
now_ms() { echo $(($(date +%s%N) / 1000000)); }

# compiled SOURCE FLAG...: build OUT/NAME from dev/campaign/SOURCE with these flags, unless it is there
compiled() {
    source=$1
    shift
    built=$OUT/$(basename "$source" .c).so
    [ -e "$built" ] && [ "$built" -nt "dev/campaign/$source" ] ||
        ${CC:-cc} -O1 -g -Wall -Wextra -fPIC -shared "dev/campaign/$source" -o "$built" "$@" || exit 4
}

# sanitized: the programs are built with ASan, which wants to be the first library that is loaded
sanitized() { grep -q __asan_init "$BIN/train_sft"; }

# writes PROGRAM FILE TOKENS RUN OUTPUT: $command is what generate, score, evaluate or report makes of a file of
# pairs (report: of a run), with so many tokens a text
writes() {
    case $1 in
    generate) command="$BIN/generate --model $W/model --dataset $2 --max_new_tokens $3" ;;
    score) command="$BIN/score --model $W/reward --dataset $2" ;;
    report) command="$BIN/report --runs $4" ;;
    evaluate)
        command="$BIN/evaluate --models $W/model --reward_model $W/reward --dataset $2"
        command="$command --max_new_tokens $3 --samples 0"
        ;;
    esac
    command="$command --output $5 --overwrite_output"
}

# many_runs WHAT RUN: `RUN PROGRAM NUMBER` for each training program, with numbers from 1 on, until there were
# $wanted of WHAT (kills, crashes); --quick: one of each program. RUN works in $R and sets $n to how many there were,
# and $wrong to what is not as promised.
many_runs() {
    R=$OUT/run number=0
    while :; do
        number=$((number + 1))
        sum=$(awk '{ n += $3 } END { print n + 0 }' "$OUT/results")
        if $quick; then [ $number -le 1 ] || break; else [ "$sum" -lt "$wanted" ] || break; fi
        for program in $TRAINERS; do
            is_done "$program-$number" && continue
            straight "$program" "$steps"
            $2 "$program" $number
            if [ -z "$wrong" ]; then result "$program-$number" ok "$n" "$1"
            else
                result "$program-$number" FAILED "$n" "$1:" "$wrong"
                rm -rf "$OUT/failed-$program-$number"
                mv "$R" "$OUT/failed-$program-$number"
            fi
        done
    done
    rm -rf "$R"
}

# ends_as_straight PROGRAM DIR: set $wrong if the run in DIR/out is not as the straight one, or left something
ends_as_straight() {
    if ! same_results "$W/$1/out" "$2/out" >"$OUT/said"; then wrong=$(head -n 1 "$OUT/said")
    else left_nothing "$2"; fi
}

# left_nothing DIR: set $wrong if something temporary is below it
left_nothing() {
    left=$(find "$1" -name '.*' | head -n 1)
    [ -z "$left" ] || wrong="left $left"
}

# one_sentence FILE: what a program said on stderr is one error, and else warnings, OpenBLAS's line, and what
# OpenMP says before it ends a program
one_sentence() {
    [ "$(grep -c '^error: ' "$1")" -eq 1 ] && ! grep -q -v '^\(error\|warning\|OpenBLAS\|libgomp\|$\)' "$1"
}

# ---- workbench -----------------------------------------------------------------------------------

# workbench ROWS: in $W a language model, a reward model, and files of so many rows
workbench() {
    W=$OUT/bench
    [ -e "$W/made" ] && return
    rm -rf "$W"
    mkdir "$W"
    head -n "$1" data/reviews_train.jsonl >"$W/reviews.jsonl"
    head -n "$1" data/prefs_train.jsonl >"$W/pairs.jsonl"
    head -n 8 data/prefs_eval.jsonl >"$W/eval.jsonl"
    echo '{"model_type": "gpt2", "n_layer": 1, "n_embd": 32, "n_head": 2, "n_positions": 64}' \
        >"$W/config.json"
    "$BIN/train_sft" --model_config "$W/config.json" --tokenizer data --dataset "$W/reviews.jsonl" \
        --max_steps 10 --learning_rate 0.01 --samples 0 --save_steps 0 --output_dir "$W/sft" \
        >"$W/log" 2>&1 &&
        "$BIN/train_rm" --model "$W/sft/final" --dataset "$W/pairs.jsonl" --max_steps 4 \
            --learning_rate 0.01 --save_steps 0 --output_dir "$W/rm" >>"$W/log" 2>&1 || {
        cat "$W/log"
        exit 1
    }
    mv "$W/sft/final" "$W/model" && mv "$W/rm/final" "$W/reward" && rm -r "$W/sft" "$W/rm"
    touch "$W/made"
}

# trains PROGRAM STEPS DIR [FLAG...]: $command is what makes a run of about so many updates into DIR, with
# a checkpoint every 3; run it as `$command`, since no word of it has a blank
trains() {
    program=$1 steps=$2
    command="$BIN/train_$program --model $W/model --output_dir $3 --logging_steps 2 --save_steps 3"
    command="$command --learning_rate 0.003 --per_device_train_batch_size 4"
    shift 3
    case $program in
    sft) command="$command --dataset $W/reviews.jsonl --max_steps $steps --samples 0" ;;
    rm) command="$command --dataset $W/pairs.jsonl --max_steps $steps" ;;
    ppo)
        command="$command --dataset $W/pairs.jsonl --reward_model $W/reward --samples 0"
        command="$command --batch_size 4 --num_ppo_epochs 1 --response_length 8"
        command="$command --total_episodes $((4 * steps))"
        ;;
    spin)
        command="$command --dataset $W/reviews.jsonl --max_steps $((steps / 2)) --samples 0"
        command="$command --num_iterations 2 --max_new_tokens 8 --eval_prompts 0 --max_train_samples 20"
        ;;
    *) command="$command --dataset $W/pairs.jsonl --max_steps $steps --samples 0" ;;
    esac
    command="$command $*"
}

# straight PROGRAM STEPS: a run that nothing happens to, in $W/PROGRAM/out, its milliseconds in $W/PROGRAM/ms
straight() {
    [ ! -e "$W/$1/ms" ] || return 0
    rm -rf "$W/$1"
    mkdir "$W/$1"
    trains "$1" "$2" "$W/$1/out"
    begin=$(now_ms)
    $command >"$W/log" 2>&1 || { cat "$W/log"; exit 1; }
    echo $(($(now_ms) - begin)) >"$W/$1/ms"
}

# newest DIR: $step is that of its newest checkpoint, -1 if there is none
newest() {
    step=-1
    for checkpoint in "$1"/checkpoint-*; do
        found=${checkpoint##*-}
        case $found in *[!0-9]*) continue ;; esac
        [ "$found" -le "$step" ] || step=$found
    done
}

# goes_on DIR: $how is the flag with which the next start there goes on: from a checkpoint, else anew
goes_on() {
    newest "$1"
    how=
    if [ "$step" -ge 0 ]; then how="--resume_from_checkpoint latest"
    elif [ -e "$1" ]; then how=--overwrite_output_dir; fi
}

# same_results DIR DIR: what two runs left is equal to the byte, but for their flags and checkpoints
same_results() { diff -r -q --exclude='checkpoint-*' --exclude=run.json "$1" "$2"; }
