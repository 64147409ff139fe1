#!/bin/sh
# Tests of evaluate as a user runs it, with a model of one layer and what a few steps of DPO made of
# it: a policy against itself, KL in two ways, wins and means counted again from the samples, JSON
# against the table, and every mistake in flags and data. Run from the repository's root with BIN
# set to a build.
set -u
: "${BIN:?set it to build/plain, build/asan or build/clang}"
export OMP_WAIT_POLICY=passive LC_ALL=C OMP_NUM_THREADS=2
T=$(mktemp -d)
trap 'rm -rf "$T"' EXIT
trap 'exit 1' HUP INT TERM
passed=0 failed=0 skipped=0

# ---- helpers ------------------------------------------------------------------------------------

pass() { passed=$((passed + 1)); }
fail() { failed=$((failed + 1)); echo "FAILED: $*"; }

# check WHAT COMMAND...: the command must succeed
check() {
    what=$1
    shift
    if "$@" >"$T/check" 2>&1; then pass; else fail "$what"; head -n 20 "$T/check"; fi
}

# same WHAT FILE FILE: equal to the byte
same() { check "$1" cmp "$2" "$3"; }

# is EXPRESSION [NAME=VALUE...]: awk finds it true; a missing value makes it false
is() {
    expression=$1
    shift
    echo "$expression" "$@"
    for pair in "$@"; do
        case $pair in *=) return 1 ;; esac
    done
    for pair in "$@"; do
        set -- "$@" -v "$pair"
        shift
    done
    awk "$@" "function abs(x) { return x < 0 ? -x : x } BEGIN { exit !($expression) }"
}

# of NAME MEASURE FIELD FILE: a field of a measure of a policy, from the JSON
of() {
    awk -v name="{\"name\": \"$1\"," -v key="\"$2\": " '
        index($0, "{\"name\": ") { here = index($0, name) }
        index($0, "\"comparisons\"") { here = 0 }
        here && (at = index($0, key)) { print substr($0, at + length(key)) }' "$4" |
        sed -n "s|^\([^}]*\)\"$3\": \([^,}]*\).*|\2|p" | head -n 1
}

# between A B FIELD FILE: a field of the comparison of two policies
between() { sed -n "s|.*{\"a\": \"$1\", \"b\": \"$2\",.*\"difference\".*\"$3\": \([^,}]*\).*\"wins\".*|\1|p" "$4"; }

ev() {
    timeout 120 "$BIN/evaluate" --dataset "$T/pairs.jsonl" --max_new_tokens 20 --samples 0 --batch_size 16 \
        --overwrite_output "$@" >"$T/log" 2>&1
    code=$?
    [ $code -eq 0 ] || { echo "exit code $code:"; tail -n 5 "$T/log"; }
    return $code
}

# mistake CODE WORDS [FLAG...]: must end with this code and one line "error: .." with these words on
# stderr (after warnings, if any), and leave the files of $T/out as they were.
mistake() {
    want=$1 words=$2
    shift 2
    before=$(ls -la "$T/out")
    timeout 120 "$BIN/evaluate" "$@" >"$T/stdout" 2>"$T/stderr"
    code=$?
    errors=$(grep -v '^warning: ' "$T/stderr")
    wrong=
    [ $code -eq "$want" ] || wrong="exit code $code, expected $want"
    [ "$(printf '%s\n' "$errors" | wc -l)" -eq 1 ] || wrong="$wrong; not one line"
    case $errors in
    "error: "*"$words"*) ;;
    *) wrong="$wrong; expected \"error: ..$words\"" ;;
    esac
    [ "$before" = "$(ls -la "$T/out")" ] || wrong="$wrong; files have changed"
    if [ -z "$wrong" ]; then pass; else
        fail "$wrong: evaluate $*"
        head -n 20 "$T/stderr"
    fi
}

# flag WORDS FLAG...: a mistake in a flag; data WORDS TEXT [FLAG...]: one in a data set (printf)
flag() {
    words=$1
    shift
    mistake 2 "$words" --models "$M" --dataset "$T/pairs.jsonl" "$@"
}
data() {
    words=$1
    printf "$2" >"$T/data.jsonl"
    shift 2
    mistake 3 "$words" --models "$M" --dataset "$T/data.jsonl" --max_new_tokens 4 "$@"
}

# ---- a model, pairs, and the model after some steps of DPO on them --------------------------------

mkdir "$T/out"
cat >"$T/config.json" <<'EOF'
{"model_type": "gpt2", "n_layer": 1, "n_embd": 32, "n_head": 2, "n_positions": 48}
EOF
head -n 300 data/reviews_train.jsonl >"$T/sft.jsonl"
head -n 60 data/prefs_eval.jsonl >"$T/pairs.jsonl"
M=$T/sft/final D=$T/dpo/final
check "a model" timeout 120 "$BIN/train_sft" --model_config "$T/config.json" --tokenizer data --dataset "$T/sft.jsonl" \
    --eval_dataset data/reviews_eval.jsonl --per_device_train_batch_size 16 --samples 0 --learning_rate 0.02 \
    --max_steps 60 --logging_steps 60 --save_steps 0 --output_dir "$T/sft"
check "another one" timeout 120 "$BIN/train_dpo" --model "$M" --dataset "$T/pairs.jsonl" --samples 0 --beta 0.1 \
    --per_device_train_batch_size 20 --learning_rate 0.003 --max_steps 9 --save_steps 0 --eval_prompts 0 \
    --logging_steps 1 --output_dir "$T/dpo"

# ---- a policy against itself ----------------------------------------------------------------------

A=$T/self.json
check "against itself" ev --models "a=$M,b=$M" --baseline "$M" --ref_model "$M" --gold --output "$A" \
    --dataset data/prefs_eval.jsonl
check "KL to itself is nothing" is 'kl == 0 && sampled == 0' kl="$(of a kl mean "$A")" \
    sampled="$(of a kl_sampled mean "$A")"
check "it wins by a fair coin" is 'low < 0.5 && high > 0.5 && exact == "true"' \
    low="$(of a wins low "$A")" high="$(of a wins high "$A")" exact="$(of a wins exact "$A")"
check "not by ties alone: the baseline draws other numbers" is 'ties < n / 2' \
    ties="$(of a wins ties "$A")" n="$(of a gold clusters "$A")"
check "two policies draw the same: all ties" is 'd == 0 && ties == n && p == 1' \
    d="$(of a gold mean "$A" | awk -v b="$(of b gold mean "$A")" '{ print $1 - b }')" \
    ties="$(of a gold clusters "$A")" n="$(sed -n 's|.*{"a": "b", "b": "a",.*"ties": \([0-9]*\), "p": 1, .*|\1|p' "$A")" \
    p="$(sed -n 's|.*{"a": "b", "b": "a",.*"ties": [0-9]*, "p": \([0-9.]*\), .*|\1|p' "$A")"
check "accuracy against itself is half" is 'x == 0.5' x="$(of a accuracy mean "$A")"

# ---- a trained policy -----------------------------------------------------------------------------

A=$T/a.json S=$T/a.jsonl
set -- --models "sft=$M,dpo=$D" --baseline data --ref_model "$M" --gold --best_of 4
check "two policies" ev "$@" --output "$A" --samples_file "$S"
cp "$T/log" "$T/table"
n=$(of sft gold clusters "$A")
check "prompts are the different ones" is 'n == m' n="$n" \
    m="$(sed 's|", "chosen.*||' "$T/pairs.jsonl" | sort -u | wc -l)"
check "KL of the trained one, two ways" \
    is 'full > 3 * error && abs(full - sampled) < 4 * other && error < other' \
    full="$(of dpo kl mean "$A")" error="$(of dpo kl error "$A")" \
    sampled="$(of dpo kl_sampled mean "$A")" other="$(of dpo kl_sampled error "$A")"
check "it has learned its pairs" is 'x > 0.6' x="$(of dpo accuracy low "$A")"
check "the best of four has the higher score, always" is 'better > n / 3 && worse == 0' n="$n" \
    better="$(sed -n 's|.*{"a": "sft, best of 4", "b": "sft",[^}]*}, "better": \([0-9]*\),.*|\1|p' "$A")" \
    worse="$(sed -n 's|.*{"a": "sft, best of 4", "b": "sft",[^}]*}, "better": [0-9]*, "worse": \([0-9]*\),.*|\1|p' "$A")"
check "how far it may be" is 'abs(x - (log(4) - 0.75)) < 1e-8' \
    x="$(sed -n 's|.*"sft, best of 4".*"kl_bound": \([0-9.]*\),.*|\1|p' "$A")"

# the samples: means and wins again
check "each sample is there" is 'lines == n * (1 + 2 * (4 + 1))' n="$n" lines="$(wc -l <"$S")"
grep '^{"name": "dpo", ' "$S" | grep '"sample": 0,' >"$T/dpo.jsonl"
grep '^{"name": "data (baseline)", ' "$S" >"$T/data.jsonl"
"$BIN/gold" --dataset "$T/dpo.jsonl" >"$T/x"
"$BIN/gold" --dataset "$T/data.jsonl" >"$T/y"
check "mean of the samples' gold scores" is 'abs(x - y) < 1e-5' x="$(of dpo gold mean "$A")" \
    y="$(awk '{ s += $1 } END { print s / NR }' "$T/x")"
paste "$T/x" "$T/y" | awk '{ w += $1 > $2; t += $1 == $2 } END { print w, t }' >"$T/z"
check "wins, counted again" test "$(cat "$T/z")" = "$(of dpo wins wins "$A") $(of dpo wins ties "$A")"
check "a tie is half a win" is 'abs(rate - (wins + ties / 2) / n) < 1e-8' rate="$(of dpo wins rate "$A")" \
    wins="$(of dpo wins wins "$A")" ties="$(of dpo wins ties "$A")" n="$n"
check "tokens of the samples" is 'abs(x - y) < 1e-5' x="$(of dpo length mean "$A")" \
    y="$(sed 's|.*"tokens": \([0-9]*\).*|\1|' "$T/dpo.jsonl" | awk '{ s += $1 } END { print s / NR }')"
check "how many ended" is 'abs(x - y / n) < 1e-8' x="$(of dpo ended mean "$A")" n="$n" \
    y="$(grep -c '"finish": "eos"' "$T/dpo.jsonl")"

# the table has the same numbers
row=$(grep '^dpo  ' "$T/table")
cell() { # cell FORMAT WHAT..: the row has this
    text=$(awk "BEGIN { printf \"$1\", ${2:-x}, ${3:-x}, ${4:-x} }")
    case $row in *"$text"*) pass ;; *) fail "no \"$text\" in: $row" ;; esac
}
cell '%.2f (%.2f)' "$(of dpo gold mean "$A")" "$(of dpo gold error "$A")"
cell '%.3f [%.3f, %.3f]' "$(of dpo wins rate "$A")" "$(of dpo wins low "$A")" "$(of dpo wins high "$A")"
cell '%.3f (%.3f)' "$(of dpo kl mean "$A")" "$(of dpo kl error "$A")"
cell '%.3f (%.3f)' "$(of dpo kl_sampled mean "$A")" "$(of dpo kl_sampled error "$A")"
cell '%.3f (%.3f)' "$(of dpo nll mean "$A")" "$(of dpo nll error "$A")"
cell '%.2f' "exp($(of dpo nll mean "$A"))"
cell '%.3f [%.3f, %.3f]' "$(of dpo accuracy mean "$A")" "$(of dpo accuracy low "$A")" "$(of dpo accuracy high "$A")"
cell '  %.1f  ' "$(of dpo length mean "$A")"

# the same again: same bytes, but for the names of the files
check "again" ev "$@" --output "$T/b.json" --samples_file "$T/b.jsonl"
same "samples are the same" "$S" "$T/b.jsonl"
sed '/"output"/d; /"samples_file"/d' "$A" >"$T/x"
sed '/"output"/d; /"samples_file"/d' "$T/b.json" >"$T/y"
same "results are the same" "$T/x" "$T/y"
check "one policy alone" ev --models "dpo=$D" --gold --output "$T/b.json"
check "has the same score" test "$(of dpo gold mean "$T/b.json")" = "$(of dpo gold mean "$A")"
check "and no KL, wins or accuracy" test "$(grep -c '"kl": null\|"wins": {"reward": null, "gold": null}\|"accuracy": null' "$T/b.json")" -eq 3

# answers: the loss that train_sft shows of the same data
check "perplexity" ev --models "$M" --dataset data/reviews_eval.jsonl --eval_prompts 3 --output "$T/b.json"
check "is that of train_sft" is 'abs(x - y) < 1e-5' x="$(of sft nll mean "$T/b.json")" \
    y="$(sed -n 's|.*"eval_loss": \([0-9.]*\).*|\1|p' "$T/sft/metrics.jsonl" | tail -n 1)"

# several samples of a prompt; a reward program: here the gold score once more
check "several samples" ev --models "$D" --baseline "$M" --gold --num_return_sequences 3 --best_of 2 \
    --reward_command "$BIN/gold" --output "$T/b.json" --samples_file "$T/b.jsonl"
check "their number" is 'lines == 3 * n * (1 + 2 + 1)' lines="$(wc -l <"$T/b.jsonl")" n="$n"
check "have clusters" is 'exact == "false" && w + t + l == 3 * n && clusters == n' n="$n" \
    exact="$(of dpo wins exact "$T/b.json")" w="$(of dpo wins wins "$T/b.json")" clusters="$(of dpo gold clusters "$T/b.json")" \
    t="$(of dpo wins ties "$T/b.json")" l="$(of dpo wins losses "$T/b.json")"
check "a program's scores" is 'abs(x - y) < 1e-4' x="$(of dpo reward mean "$T/b.json")" y="$(of dpo gold mean "$T/b.json")"

# no tokenizer: prompts and samples are ids; other forms of data
mkdir "$T/ids"
cp "$M/config.json" "$M/model.safetensors" "$T/ids"
printf '{"prompt_ids": [5, 9]}\n{"prompt_ids": [70]}\n' >"$T/ids.jsonl"
check "ids" ev --models "$T/ids" --dataset "$T/ids.jsonl" --reward_command 'while read -r line; do echo 1.5; done' \
    --output "$T/b.json" --samples_file "$T/b.jsonl"
check "their samples" test "$(grep -c '"prompt_ids": \[.*\], "completion_ids": \[[0-9, ]*\]' "$T/b.jsonl")" -eq 2
check "their score" is 'x == 1.5' x="$(of ids reward mean "$T/b.json")"
printf '{"prompt": [{"role": "user", "content": "The plot"}]}\n' >"$T/data.jsonl"
check "messages, greedily" ev --models "$M" --dataset "$T/data.jsonl" --temperature 0 --ref_model "$D" --output "$T/b.json"
check "no estimate from what was not sampled" test "$(of sft kl mean "$T/b.json" | wc -l) $(grep -c '"kl_sampled": null' "$T/b.json")" = "1 1"
head -n 4 "$T/pairs.jsonl" | sed 's|"chosen"|"label": true, "completion"|; s|, "rejected.*|}|' >"$T/data.jsonl"
check "labelled completions are prompts" ev --models "$M" --dataset "$T/data.jsonl" --top_k 5 --ref_model "$M"
check "without answers" grep -q 'no answers; 2 different prompts' "$T/log"

# ---- mistakes -------------------------------------------------------------------------------------

mistake 2 "--models is needed" --dataset "$T/pairs.jsonl"
mistake 2 "--dataset is needed" --models "$M"
flag "unknown flag --model;" --model "$M"
flag "--baseline needs a score" --baseline data
flag "--best_of needs a score" --best_of 2
flag "either --reward_model or --reward_command" --reward_model "$M" --reward_command cat
flag "two are called sft; tell them apart with NAME=DIR" --models "$M,$M"
flag "expected DIR or NAME=DIR" --models "$M,"
flag "expected DIR or NAME=DIR" --models "=$M"
flag "expected one policy" --models "$M" --baseline "a=$M,b=$M" --gold
flag "--temperature -1: out of range" --temperature -1
flag "--top_p 2: out of range" --top_p 2
flag "--top_k x: not a whole number" --top_k x
flag "--best_of 0: out of range" --best_of 0
flag "--num_return_sequences 0: out of range" --num_return_sequences 0
flag "--max_new_tokens 0: out of range" --max_new_tokens 0
flag "--max_length 1: out of range" --max_length 1
flag "--batch_size 0: out of range" --batch_size 0
flag "--eval_prompts -1: out of range" --eval_prompts -1
flag "--samples -1: out of range" --samples -1
flag "--seed -1: out of range" --seed -1
flag "--level 1: out of range" --level 1
flag "--reward_timeout 0: out of range" --reward_timeout 0
flag "--chat_format x: expected one of hh|simple" --chat_format x
flag "--gold x: expected true or false" --gold x
echo kept >"$T/out/there"
flag "already there; see --overwrite_output" --output "$T/out/there"
flag "already there; see --overwrite_output" --samples_file "$T/out/there"
flag "is a directory, expected the name of a file" --output "$T/out"
flag "name the same file" --output "$T/out/x" --samples_file "$T/out/x"
mistake 4 "No such file or directory" --models "$M" --dataset "$T/pairs.jsonl" --output "$T/none/x"
mistake 3 "no such directory" --models "$T/none" --dataset "$T/pairs.jsonl"
mistake 3 "no such directory" --models "$M,$T/none" --dataset "$T/pairs.jsonl" --output "$T/out/x"
mistake 3 "no such directory" --models "$M" --dataset "$T/pairs.jsonl" --ref_model "$T/none"
mistake 3 "no such directory" --models "$M" --dataset "$T/pairs.jsonl" --baseline "$T/none" --gold
mistake 3 "no such directory" --models "$M" --dataset "$T/pairs.jsonl" --reward_model "$T/none"
mistake 3 "without a score, expected a reward model" --models "$M" --dataset "$T/pairs.jsonl" --reward_model "$M"
mistake 3 "its vocabulary has" --models "$M" --dataset "$T/pairs.jsonl" --ref_model test/golden/tiny_gpt2
mistake 3 "no such file" --models "$M" --dataset "$T/none"
mistake 3 "has no tokenizer, and --gold needs text" --models "$T/ids" --dataset "$T/ids.jsonl" --gold
mistake 3 "no tokenizer" --models "$T/ids" --dataset "$T/pairs.jsonl"
cp -r "$M" "$T/other" # two tokens have changed places
rm -f "$T/other/tokenizer.json"
sed 's|"!": 0,|"!": 2,|; s|"#": 2,|"#": 0,|' "$M/vocab.json" >"$T/other/vocab.json"
mistake 3 "its tokenizer is not the first policy's" --models "$M,$T/other" --dataset "$T/pairs.jsonl"
mistake 3 "expected a number" --models "$M" --dataset "$T/pairs.jsonl" --reward_command 'read -r x; echo hello; cat >/dev/null' --output "$T/out/x"
mistake 3 "exited with code 7" --models "$M" --dataset "$T/pairs.jsonl" --reward_command 'exit 7' --output "$T/out/x"
mistake 3 "--reward_timeout" --models "$M" --dataset "$T/pairs.jsonl" --reward_command 'sleep 100' --reward_timeout 0.1
data "contains no records" ''
data "missing \"prompt\"" '{"text": "a"}\n'
data "\"prompt\" is a number" '{"prompt": 1}\n'
data "\"completion\" is a number" '{"prompt": "a", "completion": 1}\n'
data "missing \"rejected\"" '{"prompt": "a", "chosen": " b"}\n'
data ":2: missing \"chosen\"" '{"prompt": "a", "chosen": " b", "rejected": " c"}\n{"prompt": "a"}\n'
data "token id 99999 is outside" '{"prompt_ids": [99999]}\n'
data "all 1 records were skipped" '{"prompt": "a", "completion": " "}\n'
data "has no answers to be the baseline" '{"prompt": "The plot"}\n' --gold --baseline data
data "JSON error" '{"prompt": "a"\n'
echo '{"models": 3, "typo": 1}' >"$T/run.json"
mistake 2 "unknown flag \"typo\"" --config "$T/run.json"

echo "evaluate: $passed passed, $failed failed, $skipped skipped"
[ $failed -eq 0 ]
