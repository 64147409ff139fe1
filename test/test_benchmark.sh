#!/bin/sh
# Tests of evaluate --benchmark as a user runs it, with the models that ship: every form of items, what is
# right counted again from the lines of --samples_file, tasks and groups, two models compared, rewards,
# and every mistake in flags and files. (Whether the log-likelihoods are right is test_benchmark.c's and
# dev/compare_lm_eval.py's matter.) Run from the repository's root with BIN set to a build.
. test/helpers.sh
export OMP_NUM_THREADS=2
J=$T/a.json S=$T/a.jsonl M=data/sft

# ev [FLAG...]: a run; its output goes to $T/log, results to $J, samples to $S
ev() {
    logged timeout 120 "$BIN/evaluate" --output "$J" --samples_file "$S" --overwrite_output "$@"
}

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

# of KEY: what follows it in the results, up to the next comma or brace; its first place
of() { sed -n "s|.*\"$1\": {*\([^,}]*\).*|\1|p" "$J" | head -n 1; }

# field KEY FIELD: a field of an object
field() { sed -n "s|.*\"$1\": {\([^}]*\)}.*|\1|p" "$J" | head -n 1 | sed "s|.*\"$2\": \([^,]*\).*|\1|"; }

# task NAME FIELD: of a task or group
task() { sed -n "s|.*{\(\"name\": \"$1\", [^}]*\)}.*|\1|p" "$J" | head -n 1 | sed "s|.*\"$2\": \([^,]*\).*|\1|"; }

# lines [WORDS]: of the samples, items of which have these words
lines() { grep '^{"model"' "$S" | grep -c "$1"; }

# ---- multiple choice -----------------------------------------------------------------------------

cat >"$T/choice.jsonl" <<'END'
{"prompt": "The plot is", "options": [" good.", " zebra quickly seven."], "answer": 0, "task": "easy"}
{"prompt": "The actresses were", "options": [" of of of of of", " sympathetic.", " xylophone"], "answer": 1, "task": "easy"}
{"prompt": "I loved", "options": [" the music.", " qqq zzz kkk"], "answer": 1, "task": "wrong"}
{"prompt": "The music is", "options": [" great.", " great.", " 777 777"], "answer": 0, "task": "wrong"}
{"prompt": "", "options": ["The plot is good.", "plot good The is."], "answer": 0, "task": "empty"}
END
check "multiple choice" ev --models "$M" --benchmark "$T/choice.jsonl"
check "each item has a line" test "$(lines .)" -eq 5
right=$(lines '"right": true')
check "acc is their share" is 'abs(acc - n / 5) < 1e-8' acc="$(field acc mean)" n="$right"
check "its interval is exact" is 'abs(low - l) < 1e-6 && abs(high - h) < 1e-6' n="$right" \
    low="$(field acc low)" high="$(field acc high)" l=0.342592 h=0.989794
check "chance is the mean of 1/options" is 'abs(x - (1/2 + 1/3 + 1/2 + 1/3 + 1/2) / 5) < 1e-8' \
    x="$(of chance)"
check "who is likelier is chosen" awk -F '"log_likelihoods": ' '/^{"model"/ {
    split($2, part, "[][]") # part[2]: what is between the brackets
    n = split(part[2], ll, ", ")
    best = 1
    for (i = 2; i <= n; i++) if (ll[i] + 0 > ll[best] + 0) best = i
    if ($0 !~ "\"choice\": " (best - 1) ",") bad = 1
    lines++
} END { exit bad || lines != 5 }' "$S"
check "of equal ones the first" grep -q '"line": 4, .*"choice": 0, "answer": 0, "right": true' "$S"
check "by characters and tokens" is 'a >= 0 && a <= 1 && t >= 0 && t <= 1' \
    a="$(field acc_norm mean)" t="$(field acc_tokens mean)"
check "characters are without the blank" grep -q '"line": 1, .*"characters": \[5, 20\]' "$S"
check "tasks" is 'easy == 1 && wrong == 0.5 && empty == 1' easy="$(task easy mean)" \
    wrong="$(task wrong mean)" empty="$(task empty mean)"
check "mean over tasks" is 'abs(x - 2.5 / 3) < 1e-8' x="$(field task_mean mean)"
check "the table says so" grep -q '^choice .* sft  *5  0.800 \[0.343, 0.990\]  0.433, at it' "$T/log"
check "and the tasks" grep -q '^wrong  *2  0.500 ' "$T/log"
cp "$J" "$T/first.json"
check "items one at a time" ev --models "$M" --benchmark "$T/choice.jsonl" --batch_size 1
sed -n 's|.*"acc|acc|p' "$T/first.json" >"$T/x"
sed -n 's|.*"acc|acc|p' "$J" >"$T/y"
same "are the same" "$T/x" "$T/y"
check "some items" ev --models "$M" --benchmark "$T/choice.jsonl" --max_items 2
check "are spread over the file" test "$(sed -n 's|.*"line": \([0-9]*\),.*|\1|p' "$S" | tr '\n' ' ')" = "1 3 "
sed 's/\[" /["/g; s/, " /, "/g' "$T/choice.jsonl" >"$T/bare.jsonl"
check "a blank between prompt and option" ev --models "$M" --benchmark "$T/bare.jsonl" --target_delimiter ' '
check "and characters are the option's" grep -q '"line": 1, .*"characters": \[5, 20\]' "$S"
gzip -c "$T/choice.jsonl" >"$T/packed.jsonl.gz"
check "a compressed file" ev --models "$M" --benchmark "again=$T/packed.jsonl.gz,$T/choice.jsonl"
check "and a name" test "$(grep -c '"name": "again", "file"\|"name": "choice", "file"' "$J")" -eq 2

# several prompts
printf '%s\n' '{"options_prompts": ["The plot is", "qqq zzz of"], "completion": " good.", "answer": 0}' \
    '{"options_prompts": ["The plot so the plot", "777"], "completion": " is good.", "answer": 1}' >"$T/two.jsonl"
check "several prompts" ev --models "$M" --benchmark "$T/two.jsonl"
check "are compared by what follows" is 'acc == 0.5 && chance == 0.5' acc="$(field acc mean)" chance="$(of chance)"
check "and have no lengths" test "$(of acc_norm)" = null

# ---- pairs by likelihood -------------------------------------------------------------------------

cat >"$T/pairs.jsonl" <<'END'
{"prompt": "", "chosen": "The plot is good.", "rejected": "The is plot good.", "task": "order", "field": "words"}
{"prompt": "", "chosen": "The acting was bad.", "rejected": "acting was The bad.", "task": "order", "field": "words"}
{"prompt": "", "chosen": "qqq zzz", "rejected": "The plot is good.", "task": "nonsense", "field": "words"}
{"prompt": "The music", "chosen": " is great.", "rejected": " is is.", "task": "twice", "field": "other"}
END
check "pairs" ev --models "a=$M,b=$M" --benchmark "$T/pairs.jsonl"
check "chosen is likelier" is 'acc == 0.75 && chance == 0.5' acc="$(field acc mean)" chance="$(of chance)"
check "groups: by their items" is 'abs(words - 2 / 3) < 1e-8 && other == 1' \
    words="$(task words mean)" other="$(task other mean)"
check "mean over tasks, over groups" is 'abs(t - 2 / 3) < 1e-8 && abs(g - (2 / 3 + 1) / 2) < 1e-8' \
    t="$(field task_mean mean)" g="$(field group_mean mean)"
check "a model against itself" grep -q \
    '"a": "b", "b": "a", "difference": {"mean": 0, .*"better": 0, "worse": 0, "ties": 4, "p": 1}' "$J"
check "tasks are below their group" test "$(grep -n '^words\|^  order\|^other\|^  twice' "$T/log" |
    sed 's|[0-9]*:\( *[a-z]*\).*|\1|' | tr '\n' ',')" = "words,  order,other,  twice,"

# ---- last words ----------------------------------------------------------------------------------

printf '{"prompt": "I give it five", "completion": " stars."}\n{"prompt": "The plot", "completion": " zebra"}\n' >"$T/word.jsonl"
check "last words" ev --models "$M" --benchmark "$T/word.jsonl"
check "right if it would be said" is 'acc == 0.5' acc="$(field acc mean)"
sum=$(sed -n 's|.*"log_likelihoods": \[\([^]]*\)\].*|\1|p' "$S" | awk '{ s += $1 } END { printf "%.9g", s }')
check "perplexity" is 'abs(log(p) + s / 2) < 1e-6' p="$(of perplexity)" s="$sum"
check "no chance" test "$(of chance)" = null
awk 'BEGIN { for (i = 0; i < 30; i++) s = s " and the plot is good"
    print "{\"prompt\": \"It is" s " and it gets five\", \"completion\": \" stars.\"}" }' >"$T/long.jsonl"
check "a long item" ev --models "$M" --benchmark "$T/long.jsonl"
check "loses its beginning" test "$(of cut)" = 1
check "which is said" grep -q 'sft on long: 1 items longer than the context lost their beginning' "$T/log"

# ---- written answers -----------------------------------------------------------------------------

cat >"$T/answer.jsonl" <<'END'
{"prompt": "I give it five", "answer": "stars", "subject": "stars"}
{"prompt": "I give it five", "answer": ["none", "stars"], "subject": "stars"}
{"prompt": "I give it five", "answer": "planets", "subject": "planets"}
END
# answers [FLAG...]: a run on them
answers() { ev --models "$M" --benchmark "$T/answer.jsonl" --max_new_tokens 8 "$@"; }
check "written answers" answers --stop '.'
check "are right by all characters" is 'abs(acc - 2 / 3) < 1e-8' acc="$(field acc mean)"
check "greedily, if there is one of each" grep -q '"temperature": 0,$' "$J"
check "by subject" is 'a == 1 && b == 0' a="$(task stars mean)" b="$(task planets mean)"
check "a line has what was written" grep -q \
    '"line": 1, "task": "stars", "completions": \[" stars"\], "found": \["stars"\], "right": 1}' "$S"
check "all that was written" answers
check "is not the answer" is 'acc == 0 && cut == 3' acc="$(field acc mean)" cut="$(of unfinished)"
check "which is said" grep -q 'sft on answer: 3 samples were cut at --max_new_tokens' "$T/log"
check "a pattern" answers --answer_pattern '(stars)|(nothing)'
check "finds a group" is 'abs(acc - 2 / 3) < 1e-8' acc="$(field acc mean)"
check "or nothing" answers --answer_pattern 'nothing'
check "which is never right" grep -q '"found": \[""\], "right": 0' "$S"
check "what is ignored" answers --answer_ignore '[^.]'
check "does not count" is 'acc == 0' acc="$(field acc mean)"
check "nor in the right answer" answers --answer_ignore '.' --stop '.'
check "so all are alike" is 'acc == 1' acc="$(field acc mean)"
check "texts that end it" answers --stop 'ar|\n'
check "are not in it" grep -q '"completions": \[" st"\], "found": \["st"\]' "$S"
set -- --num_return_sequences 6 --pass_k 1,2,6 --answer_pattern '[a-z]+' --answer_ignore '[^s]'
check "several samples" answers "$@"
# counted again: c of 6 right, pass@2 = 1 - C(6 - c, 2) / 15
sed -n 's|.*"right": \([0-9]*\)}|\1|p' "$S" | awk '
    { c += $1; p += 1 - (6 - $1) * (5 - $1) / 30; l += $1 > 0 }
    END { printf "%.9g\n%.9g\n%.9g\n", c / 6 / NR, p / NR, l / NR }' >"$T/x"
sed -n 's|.*"pass": \[\(.*\)\],.*|\1|p' "$J" | tr '{' '\n' | sed -n 's|.*"mean": \([^,]*\),.*|\1|p' >"$T/y"
check "pass@1, 2 and 6" columns "$T/x" "$T/y" 1e-8
check "not all the same" is 'abs(a - b) > 0.01' a="$(head -n 1 "$T/y")" b="$(tail -n 1 "$T/y")"
check "acc is pass@1" is 'abs(a - b) < 1e-8' a="$(field acc mean)" b="$(head -n 1 "$T/y")"
cp "$S" "$T/first.jsonl"
check "again" answers "$@" --batch_size 1
same "the same samples, in other batches" "$T/first.jsonl" "$S"

# ---- rewards -------------------------------------------------------------------------------------

head -n 60 data/prefs_eval.jsonl | awk '{ sub(/^{/, "{\"subset\": \"" (NR % 2 ? "a" : "b") "\", "); print }' \
    >"$T/prefs.jsonl"
check "a reward model" ev --reward_model data/rm --benchmark "$T/prefs.jsonl"
"$BIN/score" --model data/rm --dataset "$T/prefs.jsonl" --output "$T/scores" >"$T/check" 2>&1
check "the same as score says" is 'abs(acc - n / 60) < 1e-8' acc="$(field acc mean)" \
    n="$(awk '$1 > $2' "$T/scores" | wc -l)"
check "rewards are there" test "$(lines '"rewards": \[')" -eq 60
check "subsets" is 'a == 30 && b == 30' a="$(task a items)" b="$(task b items)"
tiny_model 30
check "implicit rewards" ev --models "self=$M,tiny=$T/model" --ref_model "$M" --benchmark "$T/prefs.jsonl"
check "of the reference itself: ties, which are wrong" is 'acc == 0 && tied == 60' \
    acc="$(field acc mean)" tied="$(of tied)"
check "which is said" grep -q 'self on prefs: 60 pairs have equal scores: wrong' "$T/log"
check "another one has none" grep -q '"tied": 0' "$J"
check "compared" grep -q 'tiny - self on prefs: acc +0\.' "$T/log"
check "all judges" ev --models "$M" --reward_model "rm=data/rm" --benchmark "$T/prefs.jsonl,$T/choice.jsonl"
check "each where it can" test "$(grep -c '"judge": "log-likelihood"' "$J")" -eq 2 -a \
    "$(grep -c '"judge": "reward model"' "$J")" -eq 1
head -n 8 "$T/prefs.jsonl" | awk 'BEGIN { split("mt-bench-med mt-bench-easy hep-cpp math-prm", s, " ") }
    { sub(/"subset": "."/, "\"subset\": \"" s[NR % 4 + 1] "\""); print }' >"$T/bench.jsonl"
check "RewardBench's subsets" ev --reward_model data/rm --benchmark "$T/bench.jsonl"
for w in Chat:mt-bench-easy:28:mt-bench-med:40 Reasoning:hep-cpp:164:math-prm:984; do
    IFS=: read -r section a x b y <<END
$w
END
    check "have weights: $section" is 'abs(m - (a * x + b * y) / (x + y)) < 1e-8' m="$(task "$section" mean)" \
        a="$(task "$a" mean)" x="$x" b="$(task "$b" mean)" y="$y"
done
check "and a mean over sections" is 'abs(m - (a + b) / 2) < 1e-8' m="$(field group_mean mean)" \
    a="$(task Chat mean)" b="$(task Reasoning mean)"
sed 's|hep-cpp|shp|' "$T/bench.jsonl" >"$T/prior.jsonl"
check "the prior sets" ev --reward_model data/rm --benchmark "$T/prior.jsonl"
check "count half" is 'abs(m - (a + b + c / 2) / 2.5) < 1e-8' m="$(field group_mean mean)" \
    a="$(task Chat mean)" b="$(task Reasoning mean)" c="$(task 'Prior Sets' mean)"

# messages, for a reward
printf '%s\n' '{"prompt": [{"role": "user", "content": "The plot"}], "chosen": [{"role": "assistant", "content": "is good."}], "rejected": [{"role": "assistant", "content": "is bad."}]}' >"$T/talk.jsonl"
check "messages" ev --reward_model data/rm --benchmark "$T/talk.jsonl"

# ---- what cannot be used -------------------------------------------------------------------------

cat >"$T/faults.jsonl" <<'END'
{"prompt": "The plot is", "options": [" good.", " bad."], "answer": 0}
{"prompt": "The plot is", "options": [" good.", " bad."], "answer": 2}
{"prompt": "The plot is", "options": [" good.", " bad."], "answer": -1}
{"prompt": "The plot is", "options": [" good."], "answer": 0}
{"prompt": "The plot is", "options": [], "answer": 0}
{"prompt": "The plot is", "options": [" good.", " "], "answer": 0}
{"prompt": "The plot is", "options": null, "answer": 0}
{"prompt": null, "options": [" good.", " bad."], "answer": 0}
{"prompt": "The plot is", "options": [" good.", " bad."], "answer": null}
{"prompt": "The plot is", "options": [" good.", " \ud800"], "answer": 0}
{"prompt": "The plot is", "options": [" good.", " bad."], "answer": 0}
END
check "faults of content" ev --models "$M" --benchmark "$T/faults.jsonl"
check "are counted" is 'items == 2 && records == 11 && skipped == 9' items="$(of items)" \
    records="$(of records)" skipped="$(of skipped)"
check "each is named" test "$(grep -c '"error": ' "$S")" -eq 9
for what in '2, "error": "\\"answer\\" is 2, expected an index from 0 to 1"' \
    '4, "error": "\\"options\\" has one string: nothing to choose from"' \
    '5, "error": "\\"options\\" is empty"' '6, "error": "options\[1\] is empty"' \
    '7, "error": "\\"options\\" is null"' '10, "error": "options\[1\] contains half of a surrogate pair"'; do
    check "$what" grep -q "\"line\": $what" "$S"
done
check "lines that are there twice count" is 'twice == 1' twice="$(of twice)"
check "which is said" grep -q '9 of 11 records skipped; 1 lines are there twice, and count twice' "$T/log"
awk 'BEGIN { for (i = 0; i < 70; i++) s = s " good"; print "{\"prompt\": \"a\", \"options\": [\" b\", \"" s "\"], \"answer\": 0}"
    print "{\"prompt\": \"a\", \"options\": [\" b\", \" c\"], \"answer\": 0}" }' >"$T/huge.jsonl"
check "a continuation longer than the context" ev --models "a=$M,b=$T/model" --benchmark "$T/huge.jsonl"
check "is left out, for all models" is 'items == 1 && skipped == 1' items="$(of items)" skipped="$(of skipped)"
check "and named" grep -q '"error": "a continuation has 7[0-9] tokens, context is 64"' "$S"

# ---- the same again by --config ---------------------------------------------------------------------

check "a run to repeat" answers --stop '.'
sed -n '/^"flags": {/,/^},/p' "$J" | sed 's|^"flags": ||; s|^},|}|' >"$T/run.json"
cp "$S" "$T/first.jsonl"
check "from its flags" logged timeout 120 "$BIN/evaluate" --config "$T/run.json"
same "is the same" "$T/first.jsonl" "$S"

# ---- mistakes ------------------------------------------------------------------------------------

mkdir "$T/out"
# mistake CODE WORDS [FLAG...]: evaluate complains and leaves the files of $T/out as they were
mistake() {
    want=$1 words=$2
    shift 2
    leaves "$want" "$words" timeout 120 "$BIN/evaluate" "$@"
    judge "evaluate $*"
}

# flag WORDS FLAG...: a mistake in a flag; data WORDS TEXT [FLAG...]: in a file with this text (printf)
flag() {
    words=$1
    shift
    mistake 2 "$words" --models "$M" --benchmark "$T/choice.jsonl" "$@"
}
data() {
    words=$1
    printf "$2" >"$T/data.jsonl"
    shift 2
    mistake 3 "$words" --models "$M" --benchmark "$T/data.jsonl" --output "$T/out/x" "$@"
}

mistake 2 "--models is needed" --benchmark "$T/choice.jsonl"
mistake 2 "multiple choice; a reward model scores pairs alone: --models is needed" \
    --reward_model data/rm --benchmark "$T/choice.jsonl"
for other in dataset baseline reward_command; do flag "--$other has no meaning with --benchmark" --$other x; done
flag "--gold has no meaning with --benchmark" --gold
flag "--best_of has no meaning with --benchmark" --best_of 2
flag "--eval_prompts has no meaning with --benchmark" --eval_prompts 3
flag "expected FILE or NAME=FILE" --benchmark "$T/choice.jsonl,"
flag "expected FILE or NAME=FILE" --benchmark "=$T/choice.jsonl"
flag "two are called choice; tell them apart with NAME=FILE" --benchmark "$T/choice.jsonl,choice=$T/two.jsonl"
flag "x is one name for" --benchmark "x=$T/*.jsonl"
flag "two are called sft; tell them apart with NAME=DIR" --models "$M,$M"
flag "two are called sft; tell them apart with NAME=DIR" --reward_model sft=data/rm
flag "--pass_k 2: --num_return_sequences must be as many, is 1" --pass_k 2
flag "--pass_k 0: expected" --pass_k 0
flag "--pass_k 1,: expected" --pass_k 1,
flag "--pass_k x: expected" --pass_k x
flag "all 3 samples of an item would be the same" --num_return_sequences 3 --temperature 0
flag "--answer_pattern (: not a regular expression" --answer_pattern '('
flag "have no \\d" --answer_pattern '\d+'
flag "--answer_ignore [: not a regular expression" --answer_ignore '['
flag "--stop a||b: a text between the bars is empty" --stop 'a||b'
flag "--max_items -1: out of range" --max_items -1
flag "--overwrite_output would replace $T/choice.jsonl, which --benchmark names" --output "$T/choice.jsonl" --overwrite_output
mistake 3 "no such file" --models "$M" --benchmark "$T/none.jsonl"
mistake 3 "no file has such a name" --models "$M" --benchmark "$T/none*.jsonl"
mistake 3 "no such directory" --models "$T/none" --benchmark "$T/choice.jsonl"
mistake 3 "is a reward model, expected a language model" --models data/rm --benchmark "$T/choice.jsonl"
mistake 3 "without a score, expected a reward model" --reward_model "$M" --benchmark "$T/pairs.jsonl"
mistake 3 "has no tokenizer, and benchmarks are texts" --models test/golden/tiny_gpt2 --benchmark "$T/choice.jsonl"
mistake 3 "the tokenizer has 1481 tokens" --models test/golden/tiny_gpt2 --tokenizer "$M" \
    --benchmark "$T/choice.jsonl"
data "contains no records" ''
data "contains no records" '\n \n'
data ":1: missing the columns of a benchmark: prompt, options, answer; options_prompts, completion, answer; prompt, chosen, rejected; prompt, answer; prompt, completion (keys: text)" \
    '{"text": "a"}\n'
data ":1: missing \"answer\"" '{"prompt": "a", "options": [" b", " c"]}\n'
data ":1: missing \"prompt\"" '{"options": [" b", " c"], "answer": 0}\n'
data ":1: missing \"completion\"" '{"options_prompts": ["b", "c"], "answer": 0}\n'
data ":1: missing \"rejected\"" '{"prompt": "", "chosen": "b"}\n'
data ":1: missing \"prompt\"" '{"chosen": "a b", "rejected": "a c"}\n'
data ":1: \"options\" is a string, expected a list of strings" '{"prompt": "a", "options": "bc", "answer": 0}\n'
data ":1: options[1] is a number, expected a string" '{"prompt": "a", "options": [" b", 2], "answer": 0}\n'
data ":1: \"answer\" is a string, expected the index of the right one, from 0" \
    '{"prompt": "a", "options": [" b", " c"], "answer": "0"}\n'
data ":1: \"answer\" is not an integer, expected the index" '{"prompt": "a", "options": [" b", " c"], "answer": 0.5}\n'
data ":1: \"answer\" is true or false, expected the index" '{"prompt": "a", "options": [" b", " c"], "answer": true}\n'
data ":1: \"prompt\" is a number, expected a string" '{"prompt": 1, "options": [" b", " c"], "answer": 0}\n'
data ":1: \"answer\" is a number, expected a string" '{"prompt": "a", "answer": 7}\n'
data ":1: answer[1] is a number, expected a string" '{"prompt": "a", "answer": ["7", 8]}\n'
data ":1: \"completion\" is a number" '{"prompt": "a", "completion": 1}\n'
data ":1: \"task\" is a number, expected a string" '{"prompt": "a", "completion": " b", "task": 1}\n'
data ":2: missing \"task\"" '{"prompt": "a", "completion": " b", "task": "t"}\n{"prompt": "a", "completion": " b"}\n'
data ":2: last words (prompt, completion), and the first record is of another form: multiple choice" \
    '{"prompt": "a", "options": [" b", " c"], "answer": 0}\n{"prompt": "a", "completion": " b"}\n'
data ":2: task \"t\" is in field \"g\", and in \"f\" before" \
    '{"prompt": "", "chosen": "b", "rejected": "c", "task": "t", "field": "f"}\n{"prompt": "", "chosen": "b", "rejected": "c", "task": "t", "field": "g"}\n'
data "all 1 records were skipped: nothing to measure" '{"prompt": "a", "options": [" b"], "answer": 0}\n'
data "all 1 records were skipped" '{"prompt": "a", "answer": []}\n'
data "all 1 records were skipped" '{"prompt": "", "chosen": "a", "rejected": "a"}\n'
data ":1: \"answer\" is 5, expected an index from 0 to 1" '{"prompt": "a", "options": [" b", " c"], "answer": 5}\n' --strict_data
data "none of its 1 items can be used" "$(head -n 1 "$T/huge.jsonl")\n"
data "\"prompt\" is an array, expected a string" "$(cat "$T/talk.jsonl")\n"
data ":1:16: JSON error" '{"prompt": "a", \n'
(
    ulimit -f 4 # LLVM's OpenMP writes a small file of its own
    "$BIN/evaluate" --models "$M" --benchmark "$T/prefs.jsonl" --samples_file "$T/out/x"
) 2>"$T/log" >/dev/null
check "a full disk" test $? -eq 4 -a -z "$(ls -A "$T/out")"

# ---- what compare_lm_eval.py compares, on the real files -----------------------------------------

if [ -d "${ALIGN_TEST_DATA:-/none}/data/mcq" ]; then
    D=$ALIGN_TEST_DATA/data
    check "real files" ev --models "$M" --max_items 40 --max_new_tokens 6 --benchmark \
        "$D/mcq/*.jsonl,$D/lambada/lambada_openai_test.jsonl,$D/bbh/bbh_eval.jsonl,$D/blimp/blimp.jsonl.gz"
    check "all of them" test "$(grep -c '"form": ' "$J")" -eq 11
else
    skip "real benchmarks: ALIGN_TEST_DATA names no folder with data/mcq"
fi

finish benchmark
