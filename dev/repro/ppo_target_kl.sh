#!/bin/sh
# PPO on the gold score of the default task, steered to KL targets: does the KL end where it should,
# how much of the possible score is there (Ziegler et al. 2019, figure 3, in small)? 4 targets x 3
# seeds, each run on one thread, two at a time, then reward_frontier.c measures them all against
# 16,384 samples of the reference for each of 16 prompts: 19 minutes on two cores of Zen 3 (AVX2).
#
# The KL coefficient starts at about the price of a nat that the frontier has at the target, and the
# controller changes it from there. Targets end at 4 nats: at KL 8 fifty effective samples would take
# hundreds of thousands for each prompt, so what is possible there is not known. (A target of 8 was
# tried all the same, and not held reliably within the 20 % of criterion 1. So REPRODUCED is said of
# 0.5 to 4 nats, not of any target.)
#
#     sh dev/repro/ppo_target_kl.sh [DIR]      DIR (out/ppo_target_kl) gets programs and runs
#
# Exit code 0: all four criteria hold (dev/repro/reward_frontier.c has them).
set -eu
out=${1:-out/ppo_target_kl}
seeds="1 2 3" targets="0.5 1 2 4" # prices: 1.6 1 0.5 0.25
rm -rf "$out"
mkdir -p "$out"
root=$(pwd)
export OMP_WAIT_POLICY=passive
unset OPENBLAS_CORETYPE OPENBLAS_L2_SIZE
began=$(date +%s)
cc=${CC:-cc}
for program in train_ppo data/gold dev/repro/reward_frontier; do
    $cc -O3 -march=native -fno-math-errno -fopenmp $program.c -o "$out/${program##*/}" \
        -lopenblas -lcjson -lm
done
cd "$out"
cat >run.sh <<'END'
root=$1 seed=$2 target=$3 price=$4
OMP_NUM_THREADS=1 ./train_ppo --model "$root/data/sft" --reward_command ./gold \
    --dataset "$root/data/prefs_train.jsonl" --response_length 40 --temperature 1 \
    --shared_critic --vf_coef 0.5 --total_episodes 25600 --batch_size 256 --num_ppo_epochs 1 \
    --num_mini_batches 4 --per_device_train_batch_size 64 --learning_rate 0.001 \
    --kl_coef "$price" --target_kl "$target" --kl_horizon 3000 --seed "$seed" \
    --logging_steps 10 --save_steps 0 --samples 0 --output_dir "$target-$seed" \
    >"$target-$seed.log" 2>&1
END
for seed in $seeds; do
    set -- 1.6 1 0.5 0.25
    for target in $targets; do
        echo "'$root' $seed $target $1"
        shift
    done
done >runs
xargs -L 1 -P 2 sh run.sh <runs
policies=$(for seed in $seeds; do for target in $targets; do echo "$target-$seed/final"; done; done |
    paste -sd , -)
code=0
./reward_frontier --model "$root/data/sft" --dataset "$root/data/prefs_eval.jsonl" --prompts 16 \
    --samples 16384 --rows 128 --policies "$policies" --targets "$(echo $targets | tr ' ' ,)" \
    --curve frontier.csv || code=$?
echo "all: $(($(date +%s) - began)) s"
exit $code
