#!/bin/sh
# The model that ships in data/sft against the grammar that made its data: at least 95 % of 200
# samples parse, and its loss on held-out reviews is within 0.05 nat a token of their entropy.
# Run from the repository's root with BIN=build/plain; prints `default: N passed, N failed, N skipped`.
BIN=${BIN:-build/plain}
. test/helpers.sh

# holds WHAT CONDITION: the condition is an awk expression
holds() { check "$1 ($2)" awk "BEGIN { exit !($2) }"; }

head -n 200 data/reviews_eval.jsonl >"$T/prompts.jsonl"
"$BIN/generate" --model data/sft --dataset "$T/prompts.jsonl" --output "$T/samples.jsonl" \
    --max_new_tokens 60 --temperature 1 --seed 1 >"$T/log" 2>&1 || cat "$T/log"
parse=$("$BIN/reviews" --check "$T/samples.jsonl" --tokenizer data | awk '$1 == "parse" { print $2 }')
holds "share of samples that parse" "${parse:-0} >= 95"

entropy=$("$BIN/reviews" --check data/reviews_eval.jsonl --tokenizer data |
    awk '$1 == "tokens" { for (i = 2; i < NF; i++) if ($i == "EOS:") print $(i + 1) }')
"$BIN/train_sft" --model data/sft --dataset "$T/prompts.jsonl" --eval_dataset data/reviews_eval.jsonl \
    --max_steps 1 --learning_rate 0 --samples 0 --save_steps 0 --output_dir "$T/out" >"$T/log" 2>&1 ||
    cat "$T/log"
loss=$(sed -n 's/.*"eval_loss": \([0-9.]*\).*/\1/p' "$T/out/metrics.jsonl" | head -n 1)
holds "held-out loss against entropy" "${loss:-9} - ${entropy:-0} < 0.05"
holds "no model is better than the grammar" "${loss:-0} > ${entropy:-9}"
echo "parse $parse %, held-out loss $loss, entropy $entropy nats a token"
finish default
