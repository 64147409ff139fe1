#!/bin/sh
# Over-optimisation on real text: policies that please a reward model more and more, and please people less. The
# people's taste is a reward model of the sentiment that they gave to IMDb's test half.
#
#     sh dev/repro/imdb_overopt.sh [--quick] [--jobs N] [DIR]
#
# DIR (out/imdb_overopt) gets everything; a run that is done is not done again, and one that was cut off goes on:
# the same command. An hour and a quarter on two cores. Needs the model of imdb_sft.sh (IMDB=DIR: another;
# out/imdb_sft/sft/final). --quick: everything with a few updates, to try the script; no verdict.
#
#   papers   Gao, Schulman and Hilton 2022: a proxy's score goes on rising while the gold score passes a peak; larger
#            proxies and those of more pairs go wrong later. Coste et al. 2023: ensembles of proxies, by the mean or
#            the least of their scores (worst-case optimisation), go wrong less
#   gold     a reward model that stands for people, and has learnt from them: 11,458 pairs of a positive and a
#            negative review of IMDb's test half, 60 words each. It has the size and the first weights of the
#            large proxies (in Gao et al. it is larger than all), which is to their good. Every twelfth review of
#            that half is kept from it, and its accuracy on their 1,041 pairs is printed: 60 words, and 25, read
#            as samples are (a bag of words has .86 at 60: the data's README). Nothing else has learnt from the
#            test half. Far from the start gold is asked about texts unlike any review, so its word is worth less
#            there: the texts are shown
#   start    the model of imdb_sft.sh. Completions of the first 2 to 8 words of a review have 32 tokens and mostly no
#            end, so all reward models read them as if EOS came after (--reward_eos)
#   pairs    2 samples of the start for each of 4,600 prompts of the training half, labelled by gold without noise:
#            hard labels, as Gao et al. The last 500 pairs are for the proxies' accuracy. "many": the first 4,000, two
#            passes; "few": 300 of these, other ones for each seed, four passes
#   proxies  "large": from the start (3M parameters). "small": from a GPT-2 of one layer and 32 channels (0.3M), which
#            has read the training half once; so it is also less well read. 5 seeds; of "small few" 3 members a
#            seed, which differ in the random head and the order of the pairs (Coste et al. have more). Scores have
#            mean 0 and variance 1 on samples of the start
#   best of  n = 1 .. 256 of 512 samples of the start for each of 96 prompts (from the reviews kept from gold), by
#            each proxy and by the three small ones' mean and minimum (Coste et al.'s variance-weighted form is not
#            tried, nor are wrong labels)
#   PPO      from the start, 120 updates of 128 completions at a constant rate, without a KL term, against a small proxy
#            of few pairs ("one"), the mean and the minimum of the three, a large one of many pairs; and with
#            --kl_coef 0.01 against the first three. 5 seeds. Gold watches (--gold_model)
#
# Claims (imdb_overopt.c defines them: means over 5 seeds, paired by seed, 90 % intervals; "peak" and "end" are those
# of the curve of the gold score, which need not rise before it falls; "later" is the distance at the peak, the
# square root of KL; "end" of PPO is after equal numbers of updates, not at equal KL). Seeds differ in pairs (few),
# heads and order; gold, start, prompts and the 4,000 pairs are the same for all, and no interval covers them:
#   1  best of n by a small proxy of few pairs: gold falls from its peak while the proxy rises
#   2  best of n: gold's peak is higher with large few than small few, and with small many than small few
#   3  best of 256: gold is higher by the mean, and by the minimum, of three small few than by one of them
#   4  PPO against one small few, no KL term: gold falls from its peak while the proxy rises
#   5  PPO against a large many: gold's peak is higher and comes later than against one small few
#   6  PPO, no KL term: gold at the end is higher with mean and with minimum than with one
#   7  the same three with the KL term
# Exit code 0: all are REPRODUCED; 1: not all.
#
# Settings were set beforehand with seed 100 and a start that had read for minutes only: reward models of two rates
# each, and two PPO runs of 40 updates against a small proxy (rates 0.0003 and 0.001; proxy and KL rose throughout,
# gold rose and then fell), from which the rate between them and three times as many updates were taken.
#
# What came out (57 minutes of one core of an Intel with AMX). Gold is right on 0.894 of unseen pairs of 60 words (0.877
# to 0.910), 0.806 of 25. Proxies rank other pairs as gold does: small few 0.52 to 0.57, hardly above chance;
# large few 0.74 to 0.79, small many 0.73 to 0.75, large many 0.83 to 0.85.
#
#   1  NOT DISTINGUISHED: best of n does not go wrong up to 256. Gold rises to the end, but slowly: 0.34 by small few
#   2  REPRODUCED: gold's peak is 1.51 with large few (+1.17, +1.05 to +1.29), 1.42 with small many (+1.09, +0.99 to
#      +1.19)
#   3  REPRODUCED: mean of three +0.11 (+0.03 to +0.19), minimum +0.11 (+0.05 to +0.17)
#   4  NOT DISTINGUISHED, by the proxy: gold falls from 1.80 to 1.27 (by 0.52, 0.15 to 0.90), but the proxy, which
#      has nearly come to its end by then, rises by 0.08 (-0.01 to +0.17) only
#   5  the peak is higher against large many: REPRODUCED (3.44; +1.65, +0.91 to +2.39); later: NOT DISTINGUISHED
#   6  NOT DISTINGUISHED: mean 1.91, minimum 1.77 at the end, +0.63 (-0.25 to +1.51), +0.50 (-0.59 to +1.59)
#   7  NOT DISTINGUISHED: 1.62, 1.62 and 1.64 with the KL term
#
# Without a KL term PPO is 60 nats away after 20 updates and 180 to 230 at the end, with it 39 to 46; what gold says
# there is about texts unlike reviews. Seeds differ much in how far PPO's gold falls, so ensembles of three would
# need more of them.
set -eu
NAME=imdb_overopt PROGRAMS="train_sft train_rm train_ppo generate score evaluate imdb_overopt"
. dev/repro/real_data.sh
. dev/repro/runs.sh
. dev/repro/imdb.sh
runs_begin "$@"
imdb_begin
seeds="1 2 3 4 5" members="1 2 3" many=4000 few=300 held=500 prompts=96 drawn=512 episodes=15360 batch=128
normalized=1000 kl_coef=0.01 steps=
if [ "$QUICK" ]; then
    seeds="1 2" many=32 few=8 held=8 prompts=4 drawn=8 episodes=160 batch=8 normalized=8 steps="--max_steps 4"
fi

# ---- gold, pairs, samples ----------------------------------------------------------------------------

# few_of SEED: its pairs
few_of() { sed -n "$((($1 - 1) * few + 1)),$(($1 * few))p" "$OUT/pairs.jsonl"; }
# samples PROMPTS COUNT: so many of the start for each prompt
samples() {
    "$BIN/generate" --model "$start" --dataset "$1" --num_return_sequences "$2" --max_new_tokens 32 --top_k 0 \
        --batch_size 128 --seed 5 --bf16 --output "$OUT/samples.new" --overwrite_output >&2
    cat "$OUT/samples.new"
    rm "$OUT/samples.new"
}
# short_reviews: the first 25 words of the reviews in gold_eval, chosen and rejected in turn, as samples are read: the
# first four are the prompt
short_reviews() {
    awk -F', "(chosen|rejected)": "' '{
        for (i = 2; i <= 3; i++) {
            sub(/"}?$/, "", $i)
            n = split($i, word, " ")
            prompt = word[1]
            text = ""
            for (k = 2; k <= n && k <= 25; k++)
                if (k <= 4) prompt = prompt " " word[k]
                else text = text " " word[k]
            print "{\"prompt\": \"" prompt "\", \"completion\": \"" text "\"}"
        }
    }' "$OUT/gold_eval.jsonl"
}
# scores RM SAMPLES: a number a line
scores() { "$BIN/score" --model "$OUT/$1/final" --dataset "$2" --batch_size 128; }

made "$OUT/gold_train.jsonl" review_pairs 0 60
made "$OUT/gold_eval.jsonl" review_pairs 1 60
made "$OUT/gold_short.jsonl" short_reviews
made "$OUT/prompts.jsonl" beginnings 0 $prompts
made "$OUT/texts.jsonl" unseen "$train"
made "$OUT/pair_prompts.jsonl" head -n $((many + held + 100)) "$beginnings_train"

common="--lr_scheduler_type cosine --warmup_steps 0.05 --adam_beta2 0.98 --bf16 --logging_steps 10 --save_steps 100"
common="$common --save_total_limit 1"
rewards="$common --weight_decay 0.1 --per_device_eval_batch_size 64 --max_new_tokens 32 --reward_eos"
rewards="$rewards --normalize_model $start --normalize_rewards $normalized"
trained gold train_rm --model "$start" --dataset "$OUT/gold_train.jsonl" --eval_dataset "$OUT/gold_eval.jsonl" \
    --num_train_epochs 2 --per_device_train_batch_size 32 --learning_rate 0.0005 $rewards $steps
made "$OUT/gold_short.scores" scores gold "$OUT/gold_short.jsonl"
made "$OUT/pair_samples.jsonl" samples "$OUT/pair_prompts.jsonl" 2
made "$OUT/pair_samples.gold" scores gold "$OUT/pair_samples.jsonl"
made "$OUT/all_pairs.jsonl" ranked "$OUT/pair_samples.gold" "$OUT/pair_samples.jsonl"
made "$OUT/held_pairs.jsonl" tail -n $held "$OUT/all_pairs.jsonl"
made "$OUT/pairs.jsonl" head -n $many "$OUT/all_pairs.jsonl"
for seed in $seeds; do made "$OUT/pairs-$seed.jsonl" few_of "$seed"; done
made "$OUT/pool.jsonl" samples "$OUT/prompts.jsonl" $drawn

# ---- proxies -----------------------------------------------------------------------------------------

config() {
    cat <<END
{
  "model_type": "gpt2",
  "architectures": ["GPT2LMHeadModel"],
  "activation_function": "gelu_new",
  "n_embd": 32,
  "n_layer": 1,
  "n_head": 2,
  "n_positions": 256,
  "layer_norm_epsilon": 1e-05,
  "initializer_range": 0.02
}
END
}
made "$OUT/small.json" config
trained small train_sft --model_config "$OUT/small.json" --tokenizer "$start" --dataset "$OUT/texts.jsonl" \
    --max_length 256 --num_train_epochs 1 --per_device_train_batch_size 32 --learning_rate 0.01 $common --samples 0 $steps

# proxy RUN small|large many|few SEED HEAD: a line for at_once
proxy() {
    model=$start rate=0.0005 data=$OUT/pairs.jsonl length="--num_train_epochs 2 --per_device_train_batch_size 32"
    [ $2 = large ] || model=$OUT/small/final rate=0.005
    [ $3 = many ] || data=$OUT/pairs-$4.jsonl length="--num_train_epochs 4 --per_device_train_batch_size 20"
    echo "$1" train_rm --model "$model" --dataset "$data" --eval_dataset "$OUT/held_pairs.jsonl" $length \
        --learning_rate $rate $rewards --seed "$5" $steps
}
# each proxy of a seed, by the name of its run
names() {
    for member in $members; do echo "small_few-$1-$member"; done
    echo "large_few-$1 small_many-$1 large_many-$1"
}
for seed in $seeds; do
    for member in $members; do
        proxy "proxies/small_few-$seed-$member" small few "$seed" $((10 * seed + member))
    done
    proxy "proxies/large_few-$seed" large few "$seed" "$seed"
    proxy "proxies/small_many-$seed" small many "$seed" "$seed"
    proxy "proxies/large_many-$seed" large many "$seed" "$seed"
done | at_once

# ---- best of n, PPO ----------------------------------------------------------------------------------

made "$OUT/pool.gold" scores gold "$OUT/pool.jsonl"
for seed in $seeds; do
    for name in $(names "$seed"); do made "$OUT/proxies/$name.pool" scores "proxies/$name" "$OUT/pool.jsonl"; done
done

# ppo ARM SEED REWARD_FLAGS..: a line for at_once
ppo() {
    run=ppo/$1-$2 seed=$2
    shift 2
    echo "$run" train_ppo --model "$start" "$@" --reward_eos --gold_model "$OUT/gold/final" \
        --dataset "$beginnings_train" --response_length 32 --temperature 1 --shared_critic --vf_coef 0.5 \
        --total_episodes $episodes --batch_size $batch --num_ppo_epochs 1 --num_mini_batches 2 \
        --per_device_train_batch_size 64 --learning_rate 0.0005 --lr_scheduler_type constant --adam_beta2 0.98 \
        --bf16 --seed "$seed" --samples 0 --logging_steps 10 --save_steps 40 --save_total_limit 1
}
# three SEED: its small proxies of few pairs, with commas
three() { for member in $members; do echo "$OUT/proxies/small_few-$1-$member/final"; done | paste -s -d , -; }
for seed in $seeds; do
    one=$OUT/proxies/small_few-$seed-1/final all=$(three "$seed")
    ppo one "$seed" --reward_model "$one" --kl_coef 0
    ppo mean "$seed" --reward_model "$all" --reward_ensemble mean --kl_coef 0
    ppo min "$seed" --reward_model "$all" --reward_ensemble min --kl_coef 0
    ppo large_many "$seed" --reward_model "$OUT/proxies/large_many-$seed/final" --kl_coef 0
    ppo one_kl "$seed" --reward_model "$one" --kl_coef $kl_coef
    ppo mean_kl "$seed" --reward_model "$all" --reward_ensemble mean --kl_coef $kl_coef
    ppo min_kl "$seed" --reward_model "$all" --reward_ensemble min --kl_coef $kl_coef
done | at_once

# ---- verdict -----------------------------------------------------------------------------------------

# best ARM SEED NAME [min|mean NAME..]: a line of curves.jsonl
best() {
    printf '{"arm": "%s", "seed": %s, "ensemble": "%s", "scores": [' "$1" "$2" "$3"
    shift 3
    printf '"%s"' "$OUT/proxies/$1.pool"
    shift
    for name in "$@"; do printf ', "%s"' "$OUT/proxies/$name.pool"; done
    printf ']}\n'
}
for seed in $seeds; do
    for member in $members; do best "small few" "$seed" mean "small_few-$seed-$member"; done
    for how in mean min; do
        best "$how of three" "$seed" $how $(for member in $members; do echo "small_few-$seed-$member"; done)
    done
    for kind in large_few small_many large_many; do
        best "$(echo $kind | tr _ ' ')" "$seed" mean "$kind-$seed"
    done
    for arm in one mean min large_many one_kl mean_kl min_kl; do
        printf '{"arm": "PPO %s", "seed": %s, "log": "%s"}\n' "$(echo $arm | tr _ ' ')" "$seed" "$OUT/ppo/$arm-$seed"
    done
done >"$OUT/curves.jsonl"
claims="fall:small few,peak:large few>small few,peak:small many>small few,end:mean of three>small few"
claims="$claims,end:min of three>small few,fall:PPO one,peak:PPO large many>PPO one,later:PPO large many>PPO one"
claims="$claims,end:PPO mean>PPO one,end:PPO min>PPO one,end:PPO mean kl>PPO one kl,end:PPO min kl>PPO one kl"

# agree FILE: share of pairs with the higher score first, those of a pair one after the other
agree() {
    paste - - <"$1" | awk '$1 != "nan" && $2 != "nan" { n++; right += $1 > $2 ? 1 : $1 < $2 ? 0 : 0.5 }
        END { printf "%.3f", right / n }'
}
code=0
{
    printf 'gold: accuracy on pairs of reviews that it has not seen, 60 words: %.3f (%.3f to %.3f), a bag of words .86; ' \
        "$(last gold eval_accuracy)" "$(last gold eval_accuracy_low)" "$(last gold eval_accuracy_high)"
    echo "25 words, the first four as a prompt: $(agree "$OUT/gold_short.scores")"
    echo "proxies: share of $held other pairs that they rank as gold does, of each seed"
    for kind in small_few large_few small_many large_many; do
        printf '  %-11s' "$(echo $kind | tr _ ' ')"
        for seed in $seeds; do
            name=proxies/$kind-$seed
            [ $kind != small_few ] || name=$name-1
            printf '  %.3f' "$(last "$name" eval_accuracy)"
        done
        echo
    done
    echo
    "$BIN/imdb_overopt" --curves "$OUT/curves.jsonl" --gold "$OUT/pool.gold" --prompts $prompts --figures "$OUT" \
        --claims "$claims" ${QUICK:+--quick} || code=$?
    echo
    result_ends
} >"$OUT/result.txt"

# what they write: the first seed's policies on prompts of best of n
set -- $seeds
made "$OUT/evaluation.jsonl" head -n 64 "$OUT/prompts.jsonl"
models=$(for arm in one mean min large_many min_kl; do echo "$arm=$OUT/ppo/$arm-$1/final"; done | paste -s -d , -)
echo "evaluation evaluate --models $models --baseline start=$start --ref_model $start --reward_model $OUT/gold/final" \
    "--reward_eos --dataset $OUT/evaluation.jsonl --max_new_tokens 32 --batch_size 64 --samples 4 --bf16 --seed 7" | at_once
cat "$OUT/result.txt"
echo
echo "texts of the first seed's policies at the end; reward: gold"
sed -n '/(prompt | completion):$/,/^  reward  /p' "$OUT/evaluation.log" | sed '$d'
for figure in best_of_n ppo; do
    if command -v rsvg-convert >/dev/null; then
        rsvg-convert -w 1600 "$OUT/$figure.svg" -o "$OUT/$figure.png"
    fi
    echo "figure: $OUT/$figure.svg"
done
echo "a page: ./report --experiments $OUT --runs one=$OUT/ppo/one-$1,min=$OUT/ppo/min-$1,large=$OUT/ppo/large_many-$1" \
    "--evaluation $OUT/evaluation.json --samples_file $OUT/evaluation_samples.jsonl"
exit $code
