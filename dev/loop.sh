#!/bin/sh
# The whole of RLHF, round after round: people label what the model writes, a reward model learns from all labels so
# far, PPO learns from the reward model, people label what the new model writes (Christiano et al. 2017; Bai et al.
# 2022, section 4.5, "online").
#
#     sh dev/loop.sh [--rounds 4] [--method ppo|dpo|kto] [--model DIR] [--prompts FILE] [DIR]
#
# opens the page of label.c once a round; when you have judged enough, end it by Ctrl-C in the terminal, and the round's
# training begins. DIR (out/loop) has it all: DIR/ROUND/feedback.jsonl with its files of rows, DIR/ROUND/rm1,
# DIR/ROUND/ppo (or dpo, kto). A round that is done is not done again, and what was cut off goes on: the same command,
# given again; once the page has been ended, DIR/ROUND/judged is there and it does not open again. Settings of training
# are those of the default model: for a larger one change them in `rewards` and `policy`. docs/loop.md is a walk through.
#
#     sh dev/loop.sh --labeler gold [--quick] [--jobs N] [DIR]
#
# is the same as an experiment (DIR out/loop_gold): instead of people a simulated one, who chooses y over z with
# probability sigmoid(gold(y) - gold(z)) (Bradley and Terry 1952; data/gold.h), as data/prefs_train.jsonl was labelled.
# 5 seeds, each with prompts, samples and labels of its own. The arms:
#
#     loop        4 rounds of 100 labels on samples of the newest policy
#     once        as many labels, 400, on samples of the first one, all in one round
#     uncertain   as loop, but from the second round on 400 pairs are sampled and the 100 labelled that the reward
#                 models are least sure of: mean difference of their scores over its spread (as label --choose)
#
# In every round 3 reward models (their mean is the reward) and the policy are trained anew from data/sft on all labels
# so far, so arms with as many labels had as many updates. Settings are those of the default runs and of overopt.sh's
# small reward models; nothing was tried before. Criteria, written before the first full run, with Student's 90 %
# interval over seeds, of the mean gold score on data/prefs_eval.jsonl's prompts (the first words of a review; about half
# of them begin a review of data/prefs_train.jsonl, too):
#
#     L1   after the last round loop - once above 0: labels on its own samples teach a policy more
#     L2   after the last round uncertain - loop above 0: uncertain pairs teach more
#
# REPRODUCED if the interval lies above 0, CONTRADICTED if below, else NOT DISTINGUISHED. KL to the start is printed
# beside; it is not held equal, the KL coefficient is. Exit code 0: both are reproduced.
#
# What came out (41 minutes of a core of an Intel with AMX, two at a time): L1 REPRODUCED: gold score 1.77 after four rounds
# of 100 labels, 1.01 after one of 400: +0.77 (+0.38 to +1.15). L2 NOT DISTINGUISHED: uncertain pairs 1.39, -0.38 (-1.01 to
# +0.26). By round: loop 0.55, 0.96, 1.15, 1.77; uncertain 0.55, 0.98, 1.06, 1.39. The loop also ends further from the
# start: KL 5.7 nats (uncertain 4.8, once 3.7) at the same KL coefficient, so it is not shown that it gains more for a nat.
set -eu
NAME=loop PROGRAMS="label train_rm train_ppo train_dpo train_kto generate score evaluate gold verdict report"
labeler=human rounds=4 method=ppo model=data/sft prompts=data/prefs_train.jsonl seed= people_only=
. dev/repro/runs.sh
rest=
needs() { [ $# -ge 2 ] || fail "$1 needs a value"; }
while [ $# -gt 0 ]; do
    case $1 in
    --labeler)
        needs "$@"
        labeler=$2
        shift
        ;;
    --rounds)
        needs "$@"
        rounds=$2
        shift
        ;;
    --method)
        needs "$@"
        method=$2 people_only=$1
        shift
        ;;
    --model)
        needs "$@"
        model=$2 people_only=$1
        shift
        ;;
    --prompts)
        needs "$@"
        prompts=$2 people_only=$1
        shift
        ;;
    --seed) # of the experiment: this one alone
        needs "$@"
        seed=$2
        shift
        ;;
    *) rest="$rest $1" ;;
    esac
    shift
done
case $labeler in
human) ;;
gold)
    NAME=loop_gold
    [ -z "$people_only" ] || fail "$people_only is for the form with people; the experiment is fixed"
    ;;
*) fail "--labeler $labeler: expected human or gold" ;;
esac
case $method in ppo | dpo | kto) ;; *) fail "--method $method: expected ppo, dpo or kto" ;; esac
runs_begin $rest
labels=100 pool=400 seeds="1 2 3 4 5" episodes=6400 updates=
if [ "$QUICK" ]; then
    labels=8 pool=16 seeds="1 2" rounds=2 episodes=256 updates="--max_steps 2"
fi

# so_far ARM ROUND FILE: this file of all rounds up to this one, with commas between
so_far() {
    for r in $(seq "$2"); do echo "$OUT/$1$r/$3"; done | paste -sd , -
}

# rewards DIR DATA SEED COUNT: so many reward models DIR/rm1, .. on these pairs
rewards() {
    for k in $(seq "$4"); do
        trained "$1/rm$k" train_rm --model "$model" --dataset "$2" --num_train_epochs 4 \
            --per_device_train_batch_size 20 --learning_rate 0.001 --max_length 64 --normalize_rewards 1000 \
            --seed $(($3 * 10 + k)) --save_steps 0 $updates
    done
}

# policy DIR REWARD_MODELS SEED: DIR/ppo, from the first model, with the default run's settings
policy() {
    trained "$1/ppo" train_ppo --model "$model" --reward_model "$2" --dataset "$prompts" --total_episodes $episodes \
        --batch_size 128 --num_ppo_epochs 2 --num_mini_batches 2 --per_device_train_batch_size 64 --response_length 40 \
        --temperature 1 --kl_coef 0.15 --learning_rate 0.001 --logging_steps 5 --save_steps 0 --seed "$3"
}

# ---- people ----------------------------------------------------------------------------------------

if [ $labeler = human ]; then
    newest=$model
    for round in $(seq "$rounds"); do
        if [ ! -d "$OUT/$round/$method/final" ]; then
            mkdir -p "$OUT/$round"
            if [ ! -f "$OUT/$round/judged" ]; then
                echo "round $round: judge what $newest writes; Ctrl-C here when you have done enough"
                trap : INT # the page's own; the script goes on
                "$BIN/label" --model "$newest" --dataset "$prompts" --output "$OUT/$round/feedback.jsonl" \
                    --seed "$round" --max_new_tokens 50 --open || [ $? -eq 130 ] || exit 1
                trap - INT
            fi
            pairs=$(so_far "" "$round" feedback.pairs.jsonl)
            learns=$pairs
            [ "$method" != kto ] || learns=$pairs,$(so_far "" "$round" feedback.labels.jsonl)
            [ "$(cat $(echo "$learns" | tr , ' ') | wc -l)" -gt 0 ] ||
                fail "nothing was judged that train_$method can learn from; the same command opens the page again"
            : >"$OUT/$round/judged"
            case $method in
            ppo)
                rewards "$round" "$pairs" 1 1
                policy "$round" "$OUT/$round/rm1/final" 1
                ;;
            dpo) trained "$round/dpo" train_dpo --model "$model" --dataset "$pairs" --learning_rate 0.0005 ;;
            kto)
                trained "$round/kto" train_kto --model "$model" --dataset "$learns" --learning_rate 0.0005
                ;;
            esac
        fi
        newest=$OUT/$round/$method/final
    done
    echo "the policy after $rounds rounds: $newest"
    exit
fi

# ---- the experiment --------------------------------------------------------------------------------

# labelled DIR MODEL COUNT SEED [REWARD_MODEL..]: DIR/pairs.jsonl, so many labelled pairs of samples of the model;
# with reward models the least certain of $pool pairs
labelled() {
    at=$OUT/$1 from=$2 wanted=$3 draw=$4
    shift 4
    [ ! -f "$at/pairs.jsonl" ] || return 0
    mkdir -p "$at"
    sampled=$wanted
    [ $# -eq 0 ] || sampled=$pool
    # prompts of its own: which of the file's they are is by chance, and one more in four, as some pairs are equal
    awk -v seed="$draw" 'BEGIN { srand(seed) } { print rand() "\t" $0 }' "$prompts" | sort -n | cut -f 2- |
        head -n $((sampled * 5 / 4)) >"$at/prompts.jsonl"
    "$BIN/generate" --model "$from" --dataset "$at/prompts.jsonl" --num_return_sequences 2 --max_new_tokens 40 \
        --top_k 0 --seed "$draw" --output "$at/samples.jsonl" --overwrite_output >"$at/generate.log" 2>&1
    "$BIN/gold" --dataset "$at/samples.jsonl" >"$at/gold.txt"
    for k in $(seq $#); do
        eval "reward=\$$k"
        "$BIN/score" --model "$reward" --dataset "$at/samples.jsonl" --output "$at/score$k.txt" --overwrite_output \
            >"$at/score.log" 2>&1
    done
    # a line for each pair: certainty, gold scores, both rows
    set -- "$at/gold.txt" $([ $# -eq 0 ] || for k in $(seq $#); do echo "$at/score$k.txt"; done)
    paste -d "$(printf '\t')" "$@" "$at/samples.jsonl" | awk -F '\t' '
        NR % 2 { for (i = 1; i <= NF; i++) first[i] = $i; next }
        first[NF] == $NF { next } # the same text twice
        {
            n = NF - 2; mean = squares = 0
            for (i = 2; i < NF; i++) mean += (first[i] - $i) / n
            for (i = 2; i < NF; i++) squares += (first[i] - $i - mean) ^ 2
            certainty = n ? (mean < 0 ? -mean : mean) / (sqrt(squares / (n > 1 ? n - 1 : 1)) + 1e-9) : 0
            printf "%.9f\t%s\t%s\t%s\t%s\n", certainty, first[1], $1, first[NF], $NF
        }' | head -n "$sampled" | { if [ $# -eq 1 ]; then cat; else sort -s -n; fi; } | head -n "$wanted" |
        awk -F '\t' -v seed="$draw" '
            function completion(row) { # as it stands in the row
                match(row, /"completion": "([^"\\]|\\.)*"/)
                return substr(row, RSTART + 14, RLENGTH - 14)
            }
            BEGIN { srand(seed + 1000) }
            {
                better = rand() < 1 / (1 + exp($3 - $2)) ? 4 : 5
                match($4, /"prompt": "([^"\\]|\\.)*"/)
                print "{" substr($4, RSTART, RLENGTH) ", \"chosen\": " completion($better) \
                    ", \"rejected\": " completion($(9 - better)) "}"
            }' >"$at/pairs.new"
    mv "$at/pairs.new" "$at/pairs.jsonl"
}

# round ARM SEED ROUND COUNT: label, learn, measure
round() {
    own=$1/$2/
    dir=$own$3 newest=$model
    [ "$3" -eq 1 ] || newest=$OUT/$own$(($3 - 1))/ppo/final
    set -- "$1" "$2" "$3" "$4" $([ "$1" = uncertain ] && [ "$3" -gt 1 ] &&
        for k in 1 2 3; do echo "$OUT/$own$(($3 - 1))/rm$k/final"; done)
    number=$(($2 * 100 + $3)) count=$4
    arm_name=$1 arm_seed=$2 arm_round=$3
    shift 4
    labelled "$dir" "$newest" "$count" "$number" "$@"
    rewards "$dir" "$(so_far "$own" "$arm_round" pairs.jsonl)" "$number" 3
    policy "$dir" "$OUT/$dir/rm1/final,$OUT/$dir/rm2/final,$OUT/$dir/rm3/final" "$arm_seed"
    measured "$dir/evaluation" evaluate --models "$arm_name-$arm_round=$OUT/$dir/ppo/final" --ref_model "$model" --gold \
        --dataset data/prefs_eval.jsonl --max_new_tokens 40 --seed "$arm_seed" ${QUICK:+--eval_prompts 20}
}

begun_with rounds "$rounds"
if [ "$seed" ]; then # all of one seed, by itself
    round once "$seed" 1 $((labels * rounds))
    for arm in loop uncertain; do
        for r in $(seq "$rounds"); do round $arm "$seed" "$r" "$labels"; done
    done
    exit
fi
for seed in $seeds; do echo "$seed"; done |
    OMP_NUM_THREADS=1 xargs -I SEED -P "$JOBS" sh "$0" --labeler gold --seed SEED --rounds "$rounds" $QUICK "$OUT"

# values: what `verdict` reads: the arms after each round, and the claims about the last
values() {
    for seed in $seeds; do
        echo "evaluation $seed $OUT/once/$seed/1/evaluation.json"
        for arm in loop uncertain; do
            for r in $(seq "$rounds"); do echo "evaluation $seed $OUT/$arm/$seed/$r/evaluation.json"; done
        done
    done
    echo "table gold kl"
    [ "$QUICK" ] || cat <<END
claim L1 gold loop-$rounds - once-1 above 0 labels on its own samples teach a policy more
claim L2 gold uncertain-$rounds - loop-$rounds above 0 uncertain pairs teach more
END
}
code=0
{
    echo "gold score and KL to the start (nats a completion) after each round of $labels labels; once-1: after one of $((labels * rounds))"
    values | "$BIN/verdict" || code=$?
    echo
    result_ends
} >"$OUT/result.txt"
ended $code "label, learn, label again"
