#!/bin/sh
# A model that writes film reviews: data/stories, fine-tuned on IMDb (Maas et al. 2011), the start of
# imdb_frontier.sh and imdb_overopt.sh.
#
#     sh dev/repro/imdb_sft.sh [--quick] [DIR]
#
# DIR (out/imdb_sft) gets everything, the model is DIR/sft/final. A run that was cut off goes on from its last
# checkpoint: the same command. --quick: a few updates, to try the script. MODEL=DIR: another start.
#
#   texts   the first 256 tokens of the 25,000 reviews for training and the 50,000 without a rating; those
#           that are in the test half, too (123 and 270, as published), are left out, since the judge of
#           the experiments is trained on it and nobody else may know it
#   run     two passes, 32 reviews an update, rate 0.001 with a cosine to 0. Nothing was searched for.
#   judged  nats a token of every twelfth review of the test half, before and after; and of books, to show
#           what is forgotten
#
# What came out (90 minutes on one thread of a Zen 4 whose cores were shared; for eleven of them it was stopped):
# held-out reviews cost 5.8314 nats a token before and 4.0983 after; books, which it had read before, 3.8848 and 4.7306:
# much is forgotten. (On an Intel with AMX, 43 minutes of a shared core: 4.0984 and 4.7308.)
set -eu
NAME=imdb_sft PROGRAMS=train_sft
. dev/repro/real_data.sh
. dev/repro/runs.sh
. dev/repro/imdb.sh
runs_begin "$@"
model=${MODEL:-data/stories}
train=$(real imdb/train.jsonl)
unsup=$(real imdb/unsup.jsonl)
test=$(real imdb/test.jsonl)
books=$(real books/eval.txt)

made "$OUT/train.jsonl" unseen "$train" "$unsup"
made "$OUT/eval.jsonl" awk 'NR % 12 == 0' "$test"
length="--num_train_epochs 2"
if [ "$QUICK" ]; then
    length="--max_steps 4"
    made "$OUT/few.txt" head -n 200 "$books"
    made "$OUT/few.jsonl" head -n 64 "$OUT/eval.jsonl"
    mv "$OUT/few.jsonl" "$OUT/eval.jsonl"
    books=$OUT/few.txt
fi

trained sft train_sft --model "$model" --dataset "$OUT/train.jsonl" --eval_dataset "$OUT/eval.jsonl" \
    --max_length 256 $length --per_device_train_batch_size 32 --per_device_eval_batch_size 32 \
    --learning_rate 0.001 --lr_scheduler_type cosine --warmup_steps 0.03 --weight_decay 0.1 \
    --adam_beta2 0.98 --bf16 --logging_steps 50 --save_steps 250 --save_total_limit 2 --max_new_tokens 80

# Books, before and after: a run of no use but for its evaluation, whose one update has the rate 0.
for name in before after; do
    start=$model
    [ $name = before ] || start=$OUT/sft/final
    trained "books_$name" train_sft --model "$start" --dataset "$OUT/eval.jsonl" --eval_dataset "$books" \
        --max_length 256 --max_steps 1 --learning_rate 0 --bf16 --per_device_eval_batch_size 32 \
        --samples 0 --save_steps 0
done

# first RUN METRIC: its first value in the log
first() { sed -n 's|.*"'"$2"'": \([^,}]*\).*|\1|p' "$OUT/$1/metrics.jsonl" | head -n 1; }
echo "$(wc -l <"$OUT/train.jsonl") reviews; nats a token, before and after"
printf '  reviews, held out  %.4f  %.4f\n' "$(first sft eval_loss)" "$(last sft eval_loss)"
printf '  books, held out    %.4f  %.4f\n' "$(last books_before eval_loss)" "$(last books_after eval_loss)"
sed -n '/^after training/,/peak memory/p' "$OUT/sft.log"
echo "$(minutes) minutes; model: $OUT/sft/final"
