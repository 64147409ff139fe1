#!/bin/sh
# Over-optimisation: PPO without a KL term against reward models of few pairs and against data/rm,
# which has seen all 6,000 (Gao et al. 2022). Trains the small reward models and the policies, lets
# overopt.c judge the two curves of each run, and shows what the policies write in the end. 5 seeds,
# one thread each, two runs at a time: 32 minutes of one core (Zen 3), so about 16 on two.
#
#     sh dev/repro/overopt.sh [DIR [PAIRS]]    DIR (out/overopt) gets programs, models and runs;
#                                              PAIRS (300) preferences for each small reward model
#
# The criteria are older than any run, the settings are not: pairs (200, then 300), epochs of the small
# reward models (6, then 4) and PPO's rate (0.001, then 0.0003) were changed once when there were 3
# seeds, all of which had to agree; with 5 seeds 4 are enough (overopt.c). So seeds 4 and 5 alone are
# free of that choice; and the second claim, which a coin would pass with 4 of 5 in 19 % of all
# cases, rests on little. SEEDS="11 12 13 14 15" in the environment asks for fresh ones.
#
# Exit code 0: every claim is reproduced (dev/repro/overopt.c has them).
set -eu
out=${1:-out/overopt} pairs=${2:-300}
seeds=${SEEDS:-1 2 3 4 5}
rm -rf "$out"
mkdir -p "$out"
root=$(pwd)
export OMP_WAIT_POLICY=passive
unset OPENBLAS_CORETYPE OPENBLAS_L2_SIZE
began=$(date +%s)
cc=${CC:-cc}
for program in train_rm train_ppo dev/repro/overopt; do
    $cc -O3 -march=native -fno-math-errno -fopenmp $program.c -o "$out/${program##*/}" \
        -lopenblas -lcjson -lm
done
cd "$out"

# Each seed has pairs of its own for its small reward model. Scores of both kinds have mean 0 and
# variance 1 on samples of data/sft.
cat >run.sh <<'END'
root=$1 pairs=$2 kind=$3 seed=$4
export OMP_NUM_THREADS=1
reward=$root/data/rm
if [ "$kind" = few ]; then
    sed -n "$((seed * pairs + 1)),$(((seed + 1) * pairs))p" "$root/data/prefs_train.jsonl" \
        >"few-$seed.jsonl"
    ./train_rm --model "$root/data/sft" --dataset "few-$seed.jsonl" \
        --eval_dataset "$root/data/prefs_eval.jsonl" --num_train_epochs 4 \
        --per_device_train_batch_size 20 --learning_rate 0.001 --max_length 64 \
        --normalize_rewards 1000 --seed "$seed" --save_steps 0 --output_dir "rm-$seed" \
        >"rm-$seed.log" 2>&1
    reward=rm-$seed/final
fi
./train_ppo --model "$root/data/sft" --reward_model "$reward" --gold \
    --dataset "$root/data/prefs_train.jsonl" --eval_dataset "$root/data/prefs_eval.jsonl" \
    --response_length 40 --temperature 1 --kl_coef 0 --shared_critic --vf_coef 0.5 \
    --total_episodes 20480 --batch_size 128 --num_ppo_epochs 1 --num_mini_batches 2 \
    --per_device_train_batch_size 64 --learning_rate 0.0003 --lr_scheduler_type constant \
    --seed "$seed" --samples 5 --logging_steps 10 --save_steps 0 --output_dir "$kind-$seed" \
    >"$kind-$seed.log" 2>&1
END
for seed in $seeds; do
    echo "'$root' $pairs few $seed"
    echo "'$root' $pairs all $seed"
done >runs
xargs -L 1 -P 2 sh run.sh <runs

echo "reward models: share of the pairs in data/prefs_eval.jsonl that they rank as labelled"
for seed in $seeds; do
    sed -n 's|.*"eval_accuracy": \([^,}]*\).*|\1|p' "rm-$seed/metrics.jsonl" | tail -n 1 |
        sed "s|^|  few-$seed  |"
done
for kind in few all; do
    echo
    echo "what the policy writes in the end, reward model of $kind pairs, seed ${seeds%% *}"
    sed -n '/^after training/,/^$/p' "$kind-${seeds%% *}.log"
done
list() { for seed in $seeds; do echo "$1-$seed"; done | paste -sd , -; }
code=0
./overopt --few "$(list few)" --all "$(list all)" || code=$?
echo "all: $(($(date +%s) - began)) s"
exit $code
