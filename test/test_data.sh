#!/bin/sh
# Tests of what programs take as data and what becomes of rows at fault, as a user runs them: several
# files, compressed ones, arrays, --strict_data, and outputs that keep a line for each row. Each kind
# of file and fault alone is in test_dataset.c. Run from the repository's root with BIN set to a
# build (build/plain, build/asan, build/clang).
. test/helpers.sh
unset OMP_NUM_THREADS
tiny_model 20
M=$T/model
pairs_from 1 >"$T/pairs.jsonl"

dpo() { # dpo DIR FLAG...: train_dpo for two updates
    out=$1
    shift
    timeout 120 "$BIN/train_dpo" --model "$M" --output_dir "$out" --max_steps 2 --samples 0 \
        --save_steps 1 --per_device_train_batch_size 4 --learning_rate 0.001 "$@"
}

# mistake CODE WORDS COMMAND...: the command complains
mistake() {
    complains "$@"
    shift 2
    judge "$@"
}

# ---- one data set in several files ---------------------------------------------------------------
mkdir "$T/parts"
head -n 12 "$T/pairs.jsonl" >"$T/parts/a1.jsonl"
sed -n '13,20p' "$T/pairs.jsonl" | sed 's/$/\r/' >"$T/parts/a2.jsonl"
sed -n '21,40p' "$T/pairs.jsonl" | sed '1s/^/[/; $!s/$/,/; $s/$/]/' >"$T/parts/b.json"
eval=$T/parts/a1.jsonl
check "one file" logged dpo "$T/whole" --dataset "$T/pairs.jsonl" --eval_dataset "$eval"
check "a pattern and a list" logged dpo "$T/several" --dataset "$T/parts/a*.jsonl,$T/parts/b.json" \
    --eval_dataset "$T/parts/a[1].jsonl"
same "are the same data" "$T/whole/metrics.jsonl" "$T/several/metrics.jsonl"
if command -v gzip >/dev/null && command -v zstd >/dev/null; then
    gzip "$T/parts/a2.jsonl"
    zstd -q --rm "$T/parts/b.json" -o "$T/parts/b"
    check "compressed" logged dpo "$T/packed" --dataset "$T/parts/a*,$T/parts/b" --eval_dataset "$eval"
    same "are the same data, compressed" "$T/whole/metrics.jsonl" "$T/packed/metrics.jsonl"
    zstd -q -d "$T/parts/b" -o "$T/parts/b.json"
    head -c 300 "$T/parts/b" >"$T/parts/c"
    mistake 3 "parts/c: is damaged or cut short: zstd -dc ends with exit code" dpo "$T/no" \
        --dataset "$T/parts/a*,$T/parts/c"
else
    skip "no gzip and zstd here"
fi
sed 's/\.",/!",/' "$T/parts/b.json" >"$T/parts/other"
code=0
logged dpo "$T/several" --resume_from_checkpoint "$T/several/checkpoint-1" \
    --dataset "$T/parts/a*,$T/parts/other" --eval_dataset "$eval" || code=$?
check "another content is not resumed" test $code -eq 3
check "which is said" grep -q '^error: .*--dataset' "$T/log"
mistake 3 "no*.jsonl: no file has such a name" dpo "$T/no" --dataset "$eval,$T/no*.jsonl"
printf '{"prompt": "a"}\n' >"$T/parts/c"
mistake 3 'parts/c:1: missing "chosen"' dpo "$T/no" --dataset "$eval,$T/parts/c"
mkdir "$T/folder"
mistake 3 'folder: no .jsonl, .json or .txt file in it for train' dpo "$T/no" --dataset "$T/folder"
echo 'The film was good. I enjoyed the story.' >"$T/a.txt"
cp "$T/a.txt" "$T/b.txt"
check "plain texts" logged timeout 120 "$BIN/train_sft" --model "$M" --dataset "$T/*.txt" --max_steps 1 \
    --samples 0 --output_dir "$T/plain"
check "both of them" grep -q '^.*\*.txt: 2 rows' "$T/log"
mistake 3 "cannot be mixed" timeout 120 "$BIN/train_sft" --model "$M" --dataset "$T/*.txt,$eval" \
    --output_dir "$T/no"

# ---- rows at fault -------------------------------------------------------------------------------
cat >"$T/rows.jsonl" <<'END'
{"prompt": "The film", "completion": " is good.", "label": 1, "chosen": null, "rejected": null, "score": NaN}
{"prompt": null, "completion": " is good.", "label": 0, "id": 12345678901234567890}
{"prompt": "The \u0000 film", "completion": " is bad.", "label": 0, "score": -Infinity}
{"prompt": "The plot", "completion": " is bad.", "label": 0, "score": 1.50}
END
cat >"$T/pairs_rows.jsonl" <<'END'
{"prompt": "The film", "chosen": " is good.", "rejected": " is bad.", "completion": null, "score": NaN}
{"prompt": "The film", "chosen": null, "rejected": " is bad.", "id": 12345678901234567890}
{"prompt": "The \u0000 film", "chosen": " is good.", "rejected": " is bad.", "score": -Infinity}
{"prompt": "The plot", "chosen": " is good.", "rejected": " is bad.", "score": 1.50}
END
for program in sft kto spin dpo orpo rm; do
    case $program in
    dpo | orpo | rm) rows=$T/pairs_rows.jsonl null='"chosen" is null' ;;
    *) rows=$T/rows.jsonl null='"prompt" is null' ;;
    esac
    run="timeout 120 $BIN/train_$program --model $M --dataset $rows --samples 0 --max_steps 1"
    [ $program != rm ] || run="timeout 120 $BIN/train_rm --model $M --dataset $rows --max_steps 1"
    [ $program != spin ] || run="$run --num_iterations 1"
    check "$program: two of four rows train" logged $run --output_dir "$T/rows_$program"
    check "$program: the others are counted" grep -q '; 2 of 4 records skipped' "$T/log"
    check "$program: and named" grep -q "^warning: .*rows.jsonl:2: $null: skipped\$" "$T/log"
    check "$program: both" grep -q '^warning: .*:3: "prompt" contains \\u0000: skipped$' "$T/log"
    mistake 3 "rows.jsonl:2: $null" $run --output_dir "$T/no" --strict_data
done
mistake 3 'rows.jsonl:2: "prompt" is null' timeout 120 "$BIN/train_ppo" --model "$M" --reward_command \
    'sed s/.*/0/' --dataset "$T/rows.jsonl" --output_dir "$T/no" --strict_data
refuse "nothing is left of these" test -e "$T/no"

gen() { timeout 120 "$BIN/generate" --model "$M" --max_new_tokens 5 "$@"; }
check "generate" logged gen --dataset "$T/rows.jsonl" --output "$T/out.jsonl"
check "a line for each row" test "$(wc -l <"$T/out.jsonl")" -eq 4
check "the first has a completion" sh -c "sed -n 1p '$T/out.jsonl' | grep -qE \
    '^\{\"prompt\": \"The film\", \"label\": 1, \"chosen\": null, \"rejected\": null, \"score\": NaN, \"completion\": \"[^\"]*\", \"finish_reason\": \"(eos|length|context)\"\}\$'"
check "the second says why not" sh -c "sed -n 2p '$T/out.jsonl' | grep -qxF \
    '{\"prompt\": null, \"label\": 0, \"id\": 12345678901234567890, \"completion\": null, \"finish_reason\": \"error\", \"error\": \"\\\"prompt\\\" is null\"}'"
check "the third too, as it was" sh -c "sed -n 3p '$T/out.jsonl' | grep -qF \
    '{\"prompt\": \"The \\u0000 film\", \"label\": 0, \"score\": -Infinity, \"completion\": null, \"finish_reason\": \"error\", \"error\": \"\\\"prompt\\\" contains \\\\u0000\"}'"
check "they are named" test "$(grep -c '^warning: .*rows.jsonl:[23]: .*: no completion$' "$T/log")" -eq 2
check "and counted" grep -q '^2 prompts, ' "$T/log"
sed -n '1p;4p' "$T/rows.jsonl" >"$T/good.jsonl"
gen --dataset "$T/good.jsonl" --output "$T/g.jsonl" --num_return_sequences 2 >"$T/log" 2>&1
for batch in 2 6 8; do
    gen --dataset "$T/rows.jsonl" --output "$T/b.jsonl" --overwrite_output --batch_size $batch \
        --num_return_sequences 2 >"$T/log" 2>&1
    check "two lines for each row" test "$(grep -c '"error": ' "$T/b.jsonl") $(wc -l <"$T/b.jsonl")" = "4 8"
    grep -v '"error": ' "$T/b.jsonl" >"$T/x"
    same "the others are as without them" "$T/g.jsonl" "$T/x"
done
sed 's/}$/, "error": 7}/' "$T/good.jsonl" >"$T/error.jsonl"
gen --dataset "$T/error.jsonl" --output "$T/b.jsonl" --overwrite_output >"$T/log" 2>&1
check "a column error that is not ours stays" test "$(grep -c '"error": 7, "completion": "' "$T/b.jsonl")" -eq 2
gen --dataset "$T/rows.jsonl" >"$T/log" 2>"$T/said"
check "on the terminal, too" test "$(grep -c '^(no completion: "prompt" ' "$T/log")" -eq 2
mistake 3 'rows.jsonl:2: "prompt" is null' gen --dataset "$T/rows.jsonl" --strict_data
sed -n 2,3p "$T/rows.jsonl" >"$T/none.jsonl"
mistake 3 "none of 2 records has a prompt to complete" gen --dataset "$T/none.jsonl"

eval_() { timeout 120 "$BIN/evaluate" --models "$M" --max_new_tokens 3 --samples 0 --dataset "$T/rows.jsonl" "$@"; }
check "evaluate" logged eval_ --samples_file "$T/samples.jsonl"
check "the rows that are skipped come first" sh -c "head -n 2 '$T/samples.jsonl' | cut -d, -f2- |
    tr -d '\n' | grep -qxF ' \"line\": 2, \"error\": \"\\\"prompt\\\" is null\"} \"line\": 3, \"error\": \"\\\"prompt\\\" contains \\\\u0000\"}'"
check "then a line for each sample" test "$(grep -c '"prompt_number"' "$T/samples.jsonl")" -eq 2
check "report takes them" logged timeout 120 "$BIN/report" --samples_file "$T/samples.jsonl" \
    --output "$T/report.html"
mistake 3 'rows.jsonl:2: "prompt" is null' eval_ --strict_data

score_() { timeout 120 "$BIN/score" --model "$T/rows_rm/final" --dataset "$T/rows.jsonl" "$@"; }
check "score" logged score_ --output "$T/scores"
check "nan where there is nothing to score" test "$(grep -n nan "$T/scores" | tr '\n' ' ')" = "2:nan 3:nan "
mistake 3 'rows.jsonl:2: "prompt" is null' score_ --strict_data

# ---- other files in the place of data and of a model's files -------------------------------------
printf 'prompt,chosen,rejected\na,b,c\n' >"$T/x.csv"
mistake 3 "x.csv:1: looks like CSV, expected JSONL" dpo "$T/no" --dataset "$T/x.csv"
mistake 3 "x.csv:1: looks like CSV, expected JSONL" gen --dataset "$T/x.csv"
mistake 3 "x.csv:1: looks like CSV, expected JSONL" score_ --dataset "$T/x.csv"
cp -r "$M" "$T/lfs"
printf 'version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n' >"$T/lfs/config.json"
mistake 3 "config.json: is a Git LFS pointer" gen --model "$T/lfs" --prompt x
printf '<!DOCTYPE html>\n<title>Log in</title>\n' >"$T/lfs/config.json"
mistake 3 "config.json: is an HTML page" gen --model "$T/lfs" --prompt x
printf 'model_type: gpt2\n' >"$T/lfs/config.json"
mistake 3 "config.json:1: looks like YAML, expected JSON" gen --model "$T/lfs" --prompt x
cp "$M/config.json" "$T/lfs"
for file in tokenizer.json vocab.json merges.txt; do # merges.txt is read where there is no tokenizer.json
    cp "$M/$file" "$T/kept"
    printf 'version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n' >"$T/lfs/$file"
    mistake 3 "$file: is a Git LFS pointer" gen --model "$T/lfs" --prompt x
    printf '<!doctype html>\n<html>' >"$T/lfs/$file"
    mistake 3 "$file: is an HTML page" gen --model "$T/lfs" --prompt x
    cp "$T/kept" "$T/lfs/$file"
    rm -f "$T/lfs/tokenizer.json"
done

finish data
