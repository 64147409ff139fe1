#!/bin/sh
# Tests of evaluate as a user runs it, with a model of one layer and what a few steps of DPO made of
# it: a policy against itself, KL in two ways, wins and means counted again from the samples, JSON
# against the table, and every mistake in flags and data. Run from the repository's root with BIN
# set to a build.
. test/helpers.sh
export OMP_NUM_THREADS=2

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

# of NAME MEASURE FIELD: a field of a measure of a policy, from the JSON file $J
of() {
    awk -v name="{\"name\": \"$1\"," -v key="\"$2\": " '
        index($0, "{\"name\": ") { here = index($0, name) }
        index($0, "\"comparisons\"") { here = 0 }
        here && (at = index($0, key)) { print substr($0, at + length(key)) }' "$J" |
        sed -n "s|^\([^}]*\)\"$3\": \([^,}]*\).*|\2|p" | head -n 1
}

# between A B FIELD: how many prompts are better, worse or ties, or p, in the comparison of A and B
between() { sed -n "s|.*{\"a\": \"$1\", \"b\": \"$2\",[^}]*}[^}]*\"$3\": \([^,}]*\).*|\1|p" "$J"; }

# mean FILE: of the first column
mean() { awk '{ s += $1 } END { print s / NR }' "$1"; }

# ev [FLAG...]: a run on the pairs; its output goes to $T/log, results to $J, samples to $S
ev() {
    logged timeout 120 "$BIN/evaluate" --dataset "$T/pairs.jsonl" --max_new_tokens 20 --samples 0 \
        --batch_size 16 --output "$J" --samples_file "$S" --overwrite_output "$@"
}

# mistake CODE WORDS [FLAG...]: evaluate complains and leaves the files of $T/out as they were
mistake() {
    want=$1 words=$2
    shift 2
    leaves "$want" "$words" timeout 120 "$BIN/evaluate" "$@"
    judge "evaluate $*"
}

# flag WORDS FLAG...: a mistake in a flag; wrong WORDS FLAG...: in what it names
flag() {
    words=$1
    shift
    mistake 2 "$words" --models "$M" --dataset "$T/pairs.jsonl" "$@"
}
wrong() {
    words=$1
    shift
    mistake 3 "$words" --models "$M" --dataset "$T/pairs.jsonl" --output "$T/out/x" "$@"
}

# data WORDS TEXT [FLAG...]: a mistake in a data set with this text (printf)
data() {
    words=$1
    printf "$2" >"$T/data.jsonl"
    shift 2
    wrong "$words" --dataset "$T/data.jsonl" --max_new_tokens 4 "$@"
}

# ---- a model, pairs, the model after some steps of DPO on them -----------------------------------

mkdir "$T/out"
tiny_config 48
head -n 300 data/reviews_train.jsonl >"$T/sft.jsonl"
head -n 60 data/prefs_eval.jsonl >"$T/pairs.jsonl"
M=$T/sft/final D=$T/dpo/final J=$T/a.json S=$T/a.jsonl
check "a model" timeout 120 "$BIN/train_sft" --model_config "$T/config.json" --tokenizer data \
    --dataset "$T/sft.jsonl" --eval_dataset data/reviews_eval.jsonl --samples 0 --max_steps 60 \
    --per_device_train_batch_size 16 --learning_rate 0.02 --logging_steps 60 --save_steps 0 \
    --output_dir "$T/sft"
check "another one" timeout 120 "$BIN/train_dpo" --model "$M" --dataset "$T/pairs.jsonl" \
    --samples 0 --max_steps 9 --per_device_train_batch_size 20 --learning_rate 0.003 \
    --save_steps 0 --eval_prompts 0 --output_dir "$T/dpo"

# ---- a policy against itself ---------------------------------------------------------------------

check "against itself" ev --models "a=$M,b=$M" --baseline "$M" --ref_model "$M" --gold \
    --dataset data/prefs_eval.jsonl
check "KL to itself is nothing" is 'kl == 0 && sampled == 0' kl="$(of a kl mean)" \
    sampled="$(of a kl_sampled mean)"
check "it wins by a fair coin" is 'low < 0.5 && high > 0.5 && exact == "true"' \
    low="$(of a wins low)" high="$(of a wins high)" exact="$(of a wins exact)"
check "not by ties alone: the baseline draws other numbers" is 'ties < n / 2' \
    ties="$(of a wins ties)" n="$(of a gold clusters)"
check "two policies draw the same: all ties" is 'a == b && ties == n && p == 1' \
    a="$(of a gold mean)" b="$(of b gold mean)" ties="$(between b a ties)" \
    n="$(of a gold clusters)" p="$(between b a p)"
check "accuracy against itself is half" is 'x == 0.5' x="$(of a accuracy mean)"

# ---- a trained policy ----------------------------------------------------------------------------

set -- --models "sft=$M,dpo=$D" --baseline data --ref_model "$M" --gold --best_of 4
check "two policies" ev "$@"
cp "$T/log" "$T/table"
n=$(of sft gold clusters) best="sft, best of 4"
check "prompts are the different ones" is 'n == m' n="$n" \
    m="$(sed 's|", "chosen.*||' "$T/pairs.jsonl" | sort -u | wc -l)"
check "KL of the trained one, two ways" \
    is 'full > 3 * error && abs(full - sampled) < 4 * other && error < other' \
    full="$(of dpo kl mean)" error="$(of dpo kl error)" \
    sampled="$(of dpo kl_sampled mean)" other="$(of dpo kl_sampled error)"
check "it has learned its pairs" is 'x > 0.6' x="$(of dpo accuracy low)"
check "the best of four has the higher score, always" is 'better > n / 3 && worse == 0' n="$n" \
    better="$(between "$best" sft better)" worse="$(between "$best" sft worse)"
check "how far it may be" is 'abs(x - (log(4) - 0.75)) < 1e-8' \
    x="$(sed -n "s|.*\"$best\".*\"kl_bound\": \([0-9.]*\),.*|\1|p" "$J")"

# the samples: means and wins again
check "each sample is there" is 'lines == n * (1 + 2 * (4 + 1))' n="$n" lines="$(wc -l <"$S")"
grep '^{"name": "dpo", ' "$S" | grep '"sample": 0,' >"$T/dpo.jsonl"
grep '^{"name": "data (baseline)", ' "$S" >"$T/data.jsonl"
"$BIN/gold" --dataset "$T/dpo.jsonl" >"$T/x"
"$BIN/gold" --dataset "$T/data.jsonl" >"$T/y"
check "mean gold score" is 'abs(x - y) < 1e-5' x="$(of dpo gold mean)" y="$(mean "$T/x")"
paste "$T/x" "$T/y" | awk '{ w += $1 > $2; t += $1 == $2 } END { print w, t }' >"$T/z"
check "wins" test "$(cat "$T/z")" = "$(of dpo wins wins) $(of dpo wins ties)"
check "a tie is half a win" is 'abs(rate - (wins + ties / 2) / n) < 1e-8' n="$n" \
    rate="$(of dpo wins rate)" wins="$(of dpo wins wins)" ties="$(of dpo wins ties)"
sed 's|.*"tokens": \([0-9]*\).*|\1|' "$T/dpo.jsonl" >"$T/x"
check "tokens" is 'abs(x - y) < 1e-4' x="$(of dpo length mean)" y="$(mean "$T/x")"
check "how many ended" is 'abs(x - y / n) < 1e-8' x="$(of dpo ended mean)" n="$n" \
    y="$(grep -c '"finish": "eos"' "$T/dpo.jsonl")"

# cell FORMAT NUMBER..: the table's line of dpo has this
line=$(grep '^dpo  ' "$T/table")
cell() {
    text=$(awk "BEGIN { printf \"$1\", ${2:-x}, ${3:-x}, ${4:-x} }")
    case $line in *"$text"*) pass ;; *) fail "no \"$text\" in: $line" ;; esac
}
for measure in kl kl_sampled nll; do
    cell '%.3f (%.3f)' "$(of dpo $measure mean)" "$(of dpo $measure error)"
done
cell '%.2f (%.2f)' "$(of dpo gold mean)" "$(of dpo gold error)"
cell '%.3f [%.3f, %.3f]' "$(of dpo wins rate)" "$(of dpo wins low)" "$(of dpo wins high)"
cell '%.3f [%.3f, %.3f]' "$(of dpo accuracy mean)" "$(of dpo accuracy low)" \
    "$(of dpo accuracy high)"
cell '  %.2f  ' "exp($(of dpo nll mean))"
cell '  %.1f  ' "$(of dpo length mean)"

# the same again: same bytes, but for the names of the files
cp "$J" "$T/first.json"
gold=$(of dpo gold mean) J=$T/b.json S=$T/b.jsonl
check "again" ev "$@"
same "samples are the same" "$T/a.jsonl" "$S"
sed '/"output"/d; /"samples_file"/d' "$T/first.json" >"$T/x"
sed '/"output"/d; /"samples_file"/d' "$J" >"$T/y"
same "results are the same" "$T/x" "$T/y"
check "one policy alone" ev --models "dpo=$D" --gold
check "has the same score" test "$(of dpo gold mean)" = "$gold"
check "and no KL, accuracy or wins" test "$(grep -c '"kl": null\|"accuracy": null' "$J")" -eq 2 -a \
    "$(grep -c '"wins": {"reward": null, "gold": null}' "$J")" -eq 1

# answers: the loss that train_sft shows of the same data
check "perplexity" ev --models "$M" --dataset data/reviews_eval.jsonl --eval_prompts 3
check "is that of train_sft" is 'abs(x - y) < 1e-5' x="$(of sft nll mean)" \
    y="$(sed -n 's|.*"eval_loss": \([0-9.]*\).*|\1|p' "$T/sft/metrics.jsonl" | tail -n 1)"

# several samples of a prompt; a reward program: here the gold score once more
check "several samples" ev --models "$D" --baseline "$M" --gold --num_return_sequences 3 \
    --best_of 2 --reward_command "$BIN/gold"
check "their number" is 'lines == 3 * n * (1 + 2 + 1)' lines="$(wc -l <"$S")" n="$n"
check "have clusters" is 'exact == "false" && w + t + l == 3 * n && clusters == n' n="$n" \
    exact="$(of dpo wins exact)" clusters="$(of dpo gold clusters)" \
    w="$(of dpo wins wins)" t="$(of dpo wins ties)" l="$(of dpo wins losses)"
check "a program's scores" is 'abs(x - y) < 1e-4' x="$(of dpo reward mean)" y="$(of dpo gold mean)"

# a reward model chooses, the gold score judges
check "a reward model" ev --models "$D" --baseline data --gold --best_of 3 --reward_model data/rm
sed -n 's|{"name": "dpo", .*"sample": 0, .*"reward": \([^,}]*\).*|\1|p' "$S" >"$T/x"
check "its mean score" is 'abs(x - y) < 1e-5' x="$(of dpo reward mean)" y="$(mean "$T/x")"
check "the best by it has no lower one" \
    test "$(between "dpo, best of 3" dpo worse | head -n 1)" -eq 0
check "but may have a lower gold score" \
    test "$(between "dpo, best of 3" dpo worse | tail -n 1)" -gt 0
check "wins are by gold" grep -q '"judge": "gold"' "$J"
was=$(of "dpo, best of 3" reward mean)
check "an ensemble, of twice that one" ev --models "$D" --baseline data --gold --best_of 3 \
    --reward_model data/rm,data/rm --reward_ensemble min
check "chooses as that one" is 'abs(x - y) < 1e-5' x="$(of "dpo, best of 3" reward mean)" y="$was"

# no tokenizer: prompts and samples are ids
mkdir "$T/ids"
cp "$M/config.json" "$M/model.safetensors" "$T/ids"
printf '{"prompt_ids": [5, 9]}\n{"prompt_ids": [70]}\n' >"$T/ids.jsonl"
check "ids" ev --models "$T/ids" --dataset "$T/ids.jsonl" \
    --reward_command 'while read -r line; do echo 1.5; done'
check "their samples" test "$(grep -c '"prompt_ids": \[.*\], "completion_ids": \[' "$S")" -eq 2
check "their score" is 'x == 1.5' x="$(of ids reward mean)"

# other forms of data
printf '{"prompt": [{"role": "user", "content": "The plot"}]}\n' >"$T/data.jsonl"
check "messages, greedily" ev --models "$M" --dataset "$T/data.jsonl" --temperature 0 \
    --ref_model "$D"
check "a divergence" is 'x > 0' x="$(of sft kl mean)"
check "but no estimate from what was not sampled" grep -q '"kl_sampled": null' "$J"
head -n 4 "$T/pairs.jsonl" |
    sed 's|"chosen"|"label": true, "completion"|; s|, "rejected.*|}|' >"$T/data.jsonl"
check "labelled completions are prompts" ev --models "$M" --dataset "$T/data.jsonl" --top_k 5
check "without answers" grep -q 'no answers; 2 different prompts' "$T/log"

# the run without arguments
case $BIN in *plain)
    "$BIN/evaluate" >"$T/log" 2>&1
    check "no arguments" test $? -eq 0
    check "show a table" grep -q '^sft, best of 4  ' "$T/log"
    ;;
esac

# ---- mistakes ------------------------------------------------------------------------------------

mistake 2 "--models is needed" --dataset "$T/pairs.jsonl"
mistake 2 "--dataset or --benchmark is needed" --models "$M"
flag "unknown flag --model;" --model "$M"
flag "--baseline needs a score" --baseline data
flag "--best_of needs a score" --best_of 2
flag "either --reward_model or --reward_command" --reward_model "$M" --reward_command cat
flag "--reward_ensemble is not used without --reward_model" --gold --reward_ensemble min
flag "--reward_eos is not used without --reward_model" --gold --reward_eos
flag "found no name at a comma" --reward_model "data/rm,"
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
flag "--chat_format x: expected one of auto|chatml|llama2|zephyr|hh|simple" --chat_format x
flag "--gold x: expected true or false" --gold x
echo kept >"$T/out/there"
flag "already there; see --overwrite_output" --output "$T/out/there"
flag "already there; see --overwrite_output" --samples_file "$T/out/there"
flag "is a directory, expected the name of a file" --output "$T/out"
flag "name the same file" --output "$T/out/x" --samples_file "$T/out/x"
mistake 4 "No such file or directory" --models "$M" --dataset "$T/pairs.jsonl" --output "$T/none/x"
wrong "no such directory" --models "$T/none"
wrong "no such directory" --models "$M,$T/none"
wrong "data/rm: is a reward model, expected a language model" --models data/rm
wrong "data/rm: is a reward model, expected a language model" --models "$M,data/rm"
wrong "no such directory" --ref_model "$T/none"
wrong "no such directory" --baseline "$T/none" --gold
wrong "no such directory" --reward_model "$T/none"
wrong "no such directory" --tokenizer "$T/none"
wrong "without a score, expected a reward model" --reward_model "$M"
wrong "its vocabulary has" --ref_model test/golden/tiny_gpt2
wrong "no such file" --dataset "$T/none"
wrong "has no tokenizer, and --gold needs text" --models "$T/ids" --gold
wrong "no tokenizer" --models "$T/ids"
cp -r "$M" "$T/other" # two tokens have changed places
rm -f "$T/other/tokenizer.json"
sed 's|"!": 0,|"!": 2,|; s|"#": 2,|"#": 0,|' "$M/vocab.json" >"$T/other/vocab.json"
wrong "its tokenizer is not the other models'" --models "$M,$T/other"
wrong "expected a number" --reward_command 'read -r x; echo hello; cat >/dev/null'
wrong "exited with code 7" --reward_command 'exit 7'
wrong "--reward_timeout" --reward_command 'sleep 100' --reward_timeout 0.1
data "contains no records" ''
data "missing \"prompt\"" '{"text": "a"}\n'
data "\"prompt\" is a number" '{"prompt": 1}\n'
data "\"completion\" is a number" '{"prompt": "a", "completion": 1}\n'
data "missing \"rejected\"" '{"prompt": "a", "chosen": " b"}\n'
data ":2: missing \"chosen\"" \
    '{"prompt": "a", "chosen": " b", "rejected": " c"}\n{"prompt": "a"}\n'
data "token id 99999 is outside" '{"prompt_ids": [99999]}\n'
data "all 1 records were skipped" '{"prompt": "a", "completion": " "}\n'
data "has no answers to be the baseline" '{"prompt": "The plot"}\n' --gold --baseline data
data "JSON error" '{"prompt": "a"\n'
(
    ulimit -f 4 # LLVM's OpenMP writes a small file of its own
    "$BIN/evaluate" --models "$M" --dataset "$T/pairs.jsonl" --gold --samples_file "$T/out/x"
) 2>"$T/log" >/dev/null
check "a full disk" test $? -eq 4 -a "$(ls -A "$T/out")" = there
check "is said" grep -q '^error: .*out/x: cannot write: ' "$T/log"
echo '{"models": 3, "typo": 1}' >"$T/run.json"
mistake 2 "unknown flag \"typo\"" --config "$T/run.json"

finish evaluate
