#!/bin/sh
# Tests of long plain texts and of mixed corpora as a user runs them: tokens that are kept in files, two runs
# that make them at once, shares of corpora, stopping and going on, and every mistake in weights. What is in
# the files and orders is in test_corpora.c. Run from the repository's root with BIN set to a build
# (build/plain, build/asan, build/clang).
. test/helpers.sh
unset OMP_NUM_THREADS
tiny_model 10
M=$T/model

# texts from the completions of reviews, and rows
sed -n '1,400s/.*"completion": "\(.*\)"}$/\1/p' data/reviews_train.jsonl | sed 's/\\"/"/g' >"$T/long.txt"
sed -n '401,440s/.*"completion": "\(.*\)"}$/\1/p' data/reviews_train.jsonl | sed 's/\\"/"/g' >"$T/short.txt"
sed -n '1,50p' data/reviews_eval.jsonl >"$T/rows.jsonl"
pairs_from 1 >"$T/a.jsonl"
pairs_from 100 | head -n 20 >"$T/b.jsonl"

sft() { # sft DIR FLAG...: train_sft for ten updates
    out=$1
    shift
    timeout 300 "$BIN/train_sft" --model "$M" --output_dir "$out" --max_steps 10 --samples 0 --max_length 16 \
        --save_steps 4 --logging_steps 1 --per_device_train_batch_size 5 --learning_rate 0.001 "$@"
}

# same_run WHAT DIR DIR: the same numbers and weights
same_run() {
    same "$1: log" "$2/metrics.jsonl" "$3/metrics.jsonl"
    same "$1: weights" "$2/final/model.safetensors" "$3/final/model.safetensors"
}

# mistake CODE WORDS COMMAND...: the command complains and leaves nothing
mistake() {
    complains "$@"
    [ ! -e "$T/no" ] || amiss "something was written"
    shift 2
    judge "$@"
    rm -rf "$T/no"
}

# ---- tokens that are kept ------------------------------------------------------------------------
K=$T/kept
check "without a file" logged sft "$T/plain" --dataset "$T/long.txt" --eval_split 0.1
refuse "a short text has none beside the output" test -e "$T/token_cache"
refuse "and nothing is said of it" grep -qE 'tokens (were )?kept' "$T/log"
check "the first time" logged sft "$T/first" --dataset "$T/long.txt" --eval_split 0.1 --token_cache_dir "$K"
check "it says where" grep -qE "long.txt: [0-9]+ tokens kept in $K/[0-9a-f]{16}.tokens\$" "$T/log"
same_run "the first time" "$T/plain" "$T/first"
check "the second time" logged sft "$T/second" --dataset "$T/long.txt" --eval_split 0.1 --token_cache_dir "$K"
check "it says so" grep -q 'of 1 of 1 texts the tokens were kept' "$T/log"
same_run "the second time" "$T/plain" "$T/second"
check "off" logged sft "$T/off" --dataset "$T/long.txt" --eval_split 0.1 --token_cache_dir off
refuse "is off" grep -qE 'tokens (were )?kept' "$T/log"
same_run "off" "$T/plain" "$T/off"
check "a text of the same name" sh -c "cp '$T/long.txt' '$T/keep'; sed 's/good/poor/g' '$T/keep' >'$T/long.txt'"
check "that is another" logged sft "$T/changed" --dataset "$T/long.txt" --eval_split 0.1 --token_cache_dir "$K"
refuse "has another file" grep -q 'the tokens were kept' "$T/log"
refuse "and other numbers" cmp "$T/plain/metrics.jsonl" "$T/changed/metrics.jsonl"
check "two files" test "$(ls "$K" | wc -l)" -eq 2
mv "$T/keep" "$T/long.txt"
for file in "$K"/*.tokens; do head -c 1000 "$file" >"$T/x" && mv "$T/x" "$file"; done
check "damaged files" logged sft "$T/mended" --dataset "$T/long.txt" --eval_split 0.1 --token_cache_dir "$K"
check "are named" grep -q '^warning: .*tokens: is damaged, or of another kind of machine: it is made again$' "$T/log"
check "and made again" grep -qE 'tokens kept in ' "$T/log"
same_run "damaged files" "$T/plain" "$T/mended"
echo >"$T/file"
check "a folder that cannot be made" logged sft "$T/none" --dataset "$T/long.txt" --eval_split 0.1 \
    --token_cache_dir "$T/file/x"
check "is said" grep -q '^warning: .*: cannot keep the tokens of .*long.txt: Not a directory$' "$T/log"
same_run "a folder that cannot be made" "$T/plain" "$T/none"
rm -rf "$K"
sft "$T/one" --dataset "$T/long.txt" --eval_split 0.1 --token_cache_dir "$K" >"$T/x" 2>&1 &
child=$!
check "two at once" logged sft "$T/two" --dataset "$T/long.txt" --eval_split 0.1 --token_cache_dir "$K"
wait $child
check "both end well" test $? -eq 0
child=
same_run "one of two" "$T/plain" "$T/one"
same_run "the other" "$T/plain" "$T/two"
check "one file" test "$(ls -A "$K" | wc -l)" -eq 1
back_to "$T/two" 4
check "going on" logged sft "$T/resumed" --dataset "$T/long.txt" --eval_split 0.1 --token_cache_dir "$K" \
    --resume_from_checkpoint latest
check "from kept tokens" grep -q 'the tokens were kept' "$T/log"
ends_as "going on" "$T/plain" "step 4 of 10"
if command -v gzip >/dev/null; then
    gzip -k "$T/long.txt"
    check "compressed" logged sft "$T/packed" --dataset "$T/long.txt.gz" --eval_split 0.1 --token_cache_dir "$K"
    same_run "compressed" "$T/plain" "$T/packed"
    check "again" logged sft "$T/packed2" --dataset "$T/long.txt.gz" --eval_split 0.1 --token_cache_dir "$K"
    check "is kept, too" grep -q 'of 1 of 1 texts the tokens were kept' "$T/log"
    same_run "compressed, from kept tokens" "$T/plain" "$T/packed2"
else
    skip "no gzip here"
fi
if [ "${BIN##*/}" != asan ]; then # a long text: 18 MB
    i=0
    while [ $i -lt 400 ]; do
        cat "$T/long.txt" "$T/short.txt"
        i=$((i + 1))
    done >"$T/x"
    while [ "$(wc -c <"$T/x")" -lt 17000000 ]; do cat "$T/x" "$T/x" >"$T/y" && mv "$T/y" "$T/x"; done
    mv "$T/x" "$T/books.txt"
    check "a long text" logged sft "$T/out/long" --dataset "$T/books.txt" --max_steps 2
    check "is kept beside the output" test "$(ls "$T"/out/token_cache/*.tokens | wc -l)" -eq 1
    peak=$(sed -n 's/.*peak memory \([0-9]*\) MB$/\1/p' "$T/log")
    size=$(($(wc -c <"$T/books.txt") / 1000000))
    # with the text and 5 bytes for each token of each row, as it was once, it had been 3 times the text
    check "and memory stays below 60 MB and the text's $size MB: $peak" test "$peak" -lt $((60 + size))
    check "again" logged sft "$T/out/long2" --dataset "$T/books.txt" --max_steps 2
    check "is kept" grep -q 'of 1 of 1 texts the tokens were kept' "$T/log"
    same_run "a long text" "$T/out/long" "$T/out/long2"
    rm "$T/books.txt"
fi

# ---- corpora by weight ---------------------------------------------------------------------------
mix() { # mix DIR FLAG...: a run of two corpora and of rows in three epochs
    to=$1
    shift
    logged sft "$to" --dataset "$T/long.txt:0.6,$T/rows.jsonl:0.3,$T/short.txt:0.1" --eval_dataset "$T/rows.jsonl" \
        --max_steps -1 --num_train_epochs 0.4 --gradient_accumulation_steps 2 "$@"
}
check "three corpora" mix "$T/mix"
check "each has its report" test "$(grep -cE '(long.txt|rows.jsonl|short.txt): [0-9]+ rows, ' "$T/log")" -eq 4
check "and its share" test "$(grep -cE ': [0-9.]+ % of the mixture, in this run ' "$T/log")" -eq 3
check "which is within a row of the weight" awk '/% of the mixture/ {
    n++; wanted = n == 1 ? 60 : n == 2 ? 30 : 10
    if ($2 < wanted - 0.5 || $2 > wanted + 0.5) bad = 1
} END { exit bad || n != 3 }' "$T/log"
all=$(sed -n 's/^.*\(long.txt\|rows.jsonl\|short.txt\): \([0-9]*\) rows, .*/\2/p' "$T/log" | head -n 3 |
    awk '{ n += $1 } END { print n }')
steps=$(values step "$T/mix/metrics.jsonl" | tail -n 1)
check "an epoch has the rows of all: $all, $steps updates of 10" awk -v n="$all" -v steps="$steps" 'BEGIN {
    epoch = n % 10 ? int(n / 10) + 1 : n / 10
    wanted = 0.4 * epoch
    if (wanted > int(wanted)) wanted = int(wanted) + 1
    exit steps != wanted }'
check "the same again" mix "$T/mix2"
same_run "the same again" "$T/mix" "$T/mix2"
back_to "$T/mix" 8
check "going on" mix "$T/resumed" --resume_from_checkpoint latest
ends_as "going on with three corpora" "$T/mix" "step 8 of $steps"
check "weights need not sum to 1" mix "$T/mix3" --dataset "$T/long.txt:6,$T/rows.jsonl:3,$T/short.txt:1"
same_run "weights need not sum to 1" "$T/mix" "$T/mix3"
check "another seed" mix "$T/seed" --seed 43
refuse "is another order" cmp "$T/mix/metrics.jsonl" "$T/seed/metrics.jsonl"
check "in the order of the data" mix "$T/sequential" --train_sampling_strategy sequential
refuse "is another order, too" cmp "$T/mix/metrics.jsonl" "$T/sequential/metrics.jsonl"
check "kept tokens" mix "$T/mix4" --token_cache_dir "$K"
check "kept tokens again" mix "$T/mix5" --token_cache_dir "$K"
check "are those of two texts" test "$(grep -c 'of 1 of 1 texts the tokens were kept' "$T/log")" -eq 2
same_run "kept tokens" "$T/mix" "$T/mix5"
check "rows for evaluation from all" logged sft "$T/split" --dataset "$T/long.txt:1,$T/rows.jsonl:1" \
    --eval_split 0.2
check "are so many" grep -qE '; [0-9]+ rows kept for evaluation$' "$T/log"
check "one corpus" logged sft "$T/single" --dataset "$T/long.txt:3" --eval_split 0.1
same_run "one corpus with a weight is as without" "$T/plain" "$T/single"
cp "$T/rows.jsonl" "$T/a:0.5"
check "a file with a colon in its name" logged sft "$T/colon" --dataset "$T/a:0.5,$T/rows.jsonl" --max_steps 1
refuse "has no weight" grep -q mixture "$T/log"
cp "$T/short.txt" "$T/a:0.5.txt"
check "and a weight after it" logged sft "$T/colon2" --dataset "$T/a:0.5.txt:2,$T/rows.jsonl:1" --max_steps 1
check "is what it says" grep -q 'a:0.5.txt: 66.7 % of the mixture' "$T/log"
check "several files for one weight" logged sft "$T/glob" --dataset "$T/[ls]*t.txt:1,$T/rows.jsonl:1" --max_steps 1

for bad in 0 -1 nan inf 1e99 half ''; do
    mistake 2 "long.txt:$bad: a weight is a number above 0, at most 1e9" sft "$T/no" \
        --dataset "$T/long.txt:$bad,$T/rows.jsonl:1"
done
mistake 2 "rows.jsonl has no weight, but others have: give all of them one" sft "$T/no" \
    --dataset "$T/long.txt:0.5,$T/rows.jsonl"
mistake 2 "long.txt has no weight, but others have: give all of them one" sft "$T/no" \
    --dataset "$T/long.txt,$T/rows.jsonl:0.5"
mistake 2 "a name between the commas is empty" sft "$T/no" --dataset "$T/long.txt:1,,$T/rows.jsonl:1"
mistake 2 "rows.jsonl:1e-06: by its weight it gives no row to an epoch of" sft "$T/no" \
    --dataset "$T/long.txt:1,$T/rows.jsonl:1e-6"
mistake 2 "--eval_dataset $T/rows.jsonl:1: weights are for training; here all rows count" sft "$T/no" \
    --dataset "$T/long.txt" --eval_dataset "$T/rows.jsonl:1"
mistake 3 "nothing.txt: no such file" sft "$T/no" --dataset "$T/long.txt:1,$T/nothing.txt:1"
mistake 3 "plain text (.txt) and JSONL cannot be mixed" sft "$T/no" --dataset "$T/long.txt,$T/rows.jsonl"
mistake 3 "--dataset" sft "$T/no" --dataset "$T/long.txt:0.5,$T/rows.jsonl:0.4,$T/short.txt:0.1" \
    --eval_dataset "$T/rows.jsonl" --max_steps -1 --num_train_epochs 0.4 --gradient_accumulation_steps 2 \
    --resume_from_checkpoint "$T/mix/checkpoint-8"
mkdir "$T/mine" && cp -r "$T/single" "$T/mine/run" && cp "$T/short.txt" "$T/mine/run/final/x.txt"
complains 2 "which --dataset names" sft "$T/mine/run" --overwrite_output_dir \
    --dataset "$T/long.txt:1,$T/mine/run/final/x.txt:1"
judge "a corpus in what would be deleted"

# ---- the other programs --------------------------------------------------------------------------
pairs() { # pairs PROGRAM DIR FLAG...
    program=$1 to=$2
    shift 2
    samples='--samples 0'
    [ "$program" != rm ] || samples=
    logged timeout 300 "$BIN/train_$program" --model "$M" --output_dir "$to" --dataset "$T/a.jsonl:3,$T/b.jsonl:1" \
        --max_steps 16 --save_steps 9 --logging_steps 1 --per_device_train_batch_size 4 --learning_rate 0.001 \
        $samples "$@"
}
shares() { # the log has both
    test "$(grep -cE ': (75.0|25.0) % of the mixture, in this run (48|16) of 64, ' "$T/log")" -eq 2
}
for program in dpo orpo rm kto; do
    check "$program: two corpora" pairs $program "$T/$program"
    check "$program: their shares" shares
    back_to "$T/$program" 9
    check "$program: going on" pairs $program "$T/resumed" --resume_from_checkpoint latest
    ends_as "$program: going on" "$T/$program" "step 9 of 16"
done
cat >"$T/reward" <<'END'
#!/bin/sh
while read -r row; do echo $((${#row} % 7 - 3)); done
END
chmod +x "$T/reward"
ppo() {
    logged timeout 300 "$BIN/train_ppo" --model "$M" --dataset "$T/a.jsonl:3,$T/b.jsonl:1" --reward_command \
        "$T/reward" --total_episodes 64 --batch_size 8 --response_length 8 \
        --per_device_train_batch_size 8 --samples 0 --save_steps 5 --logging_steps 1 --output_dir "$@"
}
check "ppo: two corpora" ppo "$T/ppo"
check "ppo: their shares" shares
back_to "$T/ppo" 5
check "ppo: going on" ppo "$T/resumed" --resume_from_checkpoint latest
ends_as "ppo: going on" "$T/ppo" "step 5 of 8"
sed 's/}$/, "margin": 1}/' "$T/b.jsonl" >"$T/margins.jsonl"
mistake 3 'margins.jsonl: has the column "margin", unlike what it is mixed with' timeout 120 "$BIN/train_rm" \
    --model "$M" --dataset "$T/a.jsonl:3,$T/margins.jsonl:1" --output_dir "$T/no"
mistake 2 "self-play takes all rows in each iteration, without weights" timeout 120 "$BIN/train_spin" --model "$M" \
    --dataset "$T/a.jsonl:3,$T/b.jsonl:1" --output_dir "$T/no"

finish corpora
