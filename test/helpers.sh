# What the test scripts share. Each sources this first, as `. test/helpers.sh` from the repository's
# root with BIN set to a build, and has `finish NAME` as its last line.
set -u
: "${BIN:?set it to build/plain, build/asan or build/clang}"
export OMP_WAIT_POLICY=passive LC_ALL=C
T=$(mktemp -d)
child= # a run in the background
trap '[ -z "$child" ] || kill -9 "$child"; rm -rf "$T"' EXIT
trap 'exit 1' HUP INT TERM
passed=0 failed=0 skipped=0

# ---- counting ------------------------------------------------------------------------------------

pass() { passed=$((passed + 1)); }
fail() { failed=$((failed + 1)); echo "FAILED: $*"; }
skip() { skipped=$((skipped + 1)); echo "skipped: $*"; }

# check WHAT COMMAND...: the command must succeed
check() {
    what=$1
    shift
    if "$@" >"$T/check" 2>&1; then pass; else fail "$what"; head -n 20 "$T/check"; fi
}

# refuse WHAT COMMAND...: the command must say no, which is exit code 1 of cmp, grep and test: 2 and
# more is trouble, such as a file that is not there
refuse() {
    what=$1
    shift
    "$@" >"$T/check" 2>&1
    if [ $? -eq 1 ]; then pass; else fail "$what"; head -n 20 "$T/check"; fi
}

# same WHAT FILE FILE: equal to the byte
same() { check "$1" cmp "$2" "$3"; }

# finish NAME: the line that test/run.sh adds up; not 0 if anything has failed
finish() {
    echo "$1: $passed passed, $failed failed, $skipped skipped"
    [ $failed -eq 0 ]
}

# ---- mistakes ------------------------------------------------------------------------------------
# A script's `mistake` says `complains`, adds by `amiss` what else must hold, and ends in `judge`.

# complains CODE WORDS COMMAND...: the command must end with this exit code and one line
# "error: ..WORDS" on stderr, with nothing but warnings before it. (Where stdout is for results, the
# line that names OpenBLAS's kernel is on stderr, too; it says nothing of a mistake.) $wrong is what is
# not so.
complains() {
    want=$1 words=$2
    shift 2
    "$@" >"$T/stdout" 2>"$T/said_all"
    code=$?
    sed '/^OpenBLAS kernel /d' "$T/said_all" >"$T/stderr"
    wrong=
    [ $code -eq "$want" ] || amiss "exit code $code, expected $want"
    [ "$(sed '/^warning: /d' "$T/stderr" | wc -l)" -eq 1 ] || amiss "not one line"
    case $(tail -n 1 "$T/stderr") in
    "error: "*"$words"*) ;;
    *) amiss "expected \"error: ..$words\"" ;;
    esac
}

# leaves CODE WORDS COMMAND...: it complains, and the files of $T/out are as they were
leaves() {
    before=$(ls -lA "$T/out")
    complains "$@"
    [ "$before" = "$(ls -lA "$T/out")" ] || amiss "files have changed"
}

# no_warnings: the same, and stderr has that one line only
no_warnings() { [ "$(wc -l <"$T/stderr")" -eq 1 ] || amiss "more than the error"; }

# amiss WHAT: one thing more is wrong
amiss() { wrong="$wrong${wrong:+; }$*"; }

# judge COMMAND: pass if nothing was wrong with it, else show the end of it and what it said
judge() {
    if [ -z "$wrong" ]; then pass; else
        fail "$wrong: $(printf '%s\n' "$*" | tail -c 200)"
        head -n 20 "$T/stderr"
    fi
}

# ---- numbers -------------------------------------------------------------------------------------

# values KEY FILE: the values of a key in the rows that have it
values() { sed -n "s|.*\"$1\": \([^,}]*\).*|\1|p" "$2"; }

# keys FILE: the sets of keys in its rows, each once
keys() {
    awk '{
        line = ""
        n = split($0, parts, "\"")
        for (i = 2; i <= n; i += 2) line = line parts[i] " "
        print line
    }' "$1" | sort -u
}

# columns FILE FILE TOLERANCE [LEAST]: two files of numbers differ by at most TOLERANCE times the
# second number, or by LEAST where that is more (default: TOLERANCE, absolute below 1)
columns() {
    paste "$1" "$2" | awk -v tolerance="$3" -v least="${4:-$3}" '
        function abs(x) { return x < 0 ? -x : x }
        {
            n++
            most = tolerance * abs($2)
            if (most < least) most = least
            if (NF != 2 || !(abs($1 - $2) <= most)) { bad = 1; print }
        }
        END { exit bad || !n }'
}

# near FILE FILE KEY TOLERANCE [LEAST]: the key's values agree in this way
near() {
    values "$3" "$1" >"$T/x"
    values "$3" "$2" >"$T/y"
    columns "$T/x" "$T/y" "$4" "${5:-$4}"
}

# first KEY FILE VALUE: the key's first value is this, within 1e-5 of it
first() {
    values "$1" "$2" | head -n 1 >"$T/x"
    echo "$3" >"$T/y"
    columns "$T/x" "$T/y" 1e-5 0
}

# ---- runs ----------------------------------------------------------------------------------------

# logged COMMAND...: run it, its output goes to $T/log; $code is its exit code
logged() {
    "$@" >"$T/log" 2>&1
    code=$?
    [ $code -eq 0 ] || { echo "exit code $code:"; tail -n 5 "$T/log"; }
    return $code
}

# until_rows N FILE: wait until a log has that many rows (a minute at most)
until_rows() {
    tries=0
    while [ "$(cat "$2" 2>/dev/null | wc -l)" -lt "$1" ]; do
        tries=$((tries + 1))
        [ $tries -lt 1200 ] || return 1
        sleep 0.05
    done
}

# until_there FILE: wait until a file or directory is there (a minute at most)
until_there() {
    tries=0
    until [ -e "$1" ]; do
        tries=$((tries + 1))
        [ $tries -lt 1200 ] || return 1
        sleep 0.05
    done
}

# stop SIGNAL: send it to the run in the background and wait for its end; $code is its exit code
stop() {
    kill -s "$1" $child
    wait $child 2>/dev/null
    code=$? child=
}

# back_to DIR STEP: $T/resumed is what a kill soon after this step would have left of the run in DIR
back_to() {
    rm -rf "$T/resumed"
    mkdir "$T/resumed"
    cp -r "$1/checkpoint-$2" "$1/metrics.jsonl" "$1/run.json" "$T/resumed"
    printf '{"step": 7, "lo' >>"$T/resumed/metrics.jsonl" # a torn row
}

# ends_as WHAT DIR WORDS: the run in $T/resumed said "resumed at WORDS" and ended as that in DIR
ends_as() {
    check "$1: it says where" grep -q "resumed at $3" "$T/log"
    same "$1: weights" "$2/final/model.safetensors" "$T/resumed/final/model.safetensors"
    same "$1: log" "$2/metrics.jsonl" "$T/resumed/metrics.jsonl"
}

# ---- a tiny model and its data -------------------------------------------------------------------

# tiny_config CONTEXT: $T/config.json, of a model of one layer with this context
tiny_config() {
    echo '{"model_type": "gpt2", "n_layer": 1, "n_embd": 32, "n_head": 2,' \
        "\"n_positions\": $1}" >"$T/config.json"
}

# tiny_model STEPS: such a model in $T/model, after so many steps of train_sft
tiny_model() {
    tiny_config 64
    if ! timeout 120 "$BIN/train_sft" --model_config "$T/config.json" --tokenizer data \
        --dataset data/reviews_eval.jsonl --max_steps "$1" --learning_rate 0.01 --samples 0 \
        --save_steps 0 --output_dir "$T/sft" >"$T/log" 2>&1; then
        cat "$T/log"
        exit 1
    fi
    mv "$T/sft/final" "$T/model"
}

# pairs_from ROW: 40 pairs of reviews; what is rejected is the end of another review
pairs_from() {
    sed -n "$1,$(($1 + 79))p" data/reviews_train.jsonl | awk -F '"completion": ' '
        { sub(/}$/, "", $2) }
        NR <= 40 { head[NR] = $1; chosen[NR] = $2 }
        NR > 40 { i = NR - 40
            print head[i] "\"chosen\": " chosen[i] ", \"rejected\": " $2 "}" }'
}
