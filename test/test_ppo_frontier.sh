#!/bin/sh
# PPO in the world of dev/repro/ppo_frontier.c, where every sum is exact: what train_ppo says of a
# policy's reward and KL, and that no policy lies above the frontier. How near one comes is for
# dev/repro/ppo_frontier.sh. Run from the repository's root with BIN set to a build.
. test/helpers.sh
export OMP_NUM_THREADS=2
BIN=$(cd "$BIN" && pwd)
cd "$T" || exit 1

# train DIR [FLAG...]: in the world where a completion ends with EOS or after 5 tokens
train() {
    to=$1
    shift
    timeout 300 "$BIN/train_ppo" --ref_model ends/ref --reward_command "'$BIN/ppo_frontier' reward" \
        --dataset ends/prompts.jsonl --response_length 5 --temperature 0.7 --samples 0 \
        --save_steps 0 --per_device_train_batch_size 128 --batch_size 128 --output_dir "$to" "$@"
}

# exact [POLICY...]: 0 if all that must be exact is; the table goes to `table`
exact() {
    timeout 300 "$BIN/ppo_frontier" check ends 0.7 "$@" >table
    [ $? -le 1 ] && grep -q "^exact: yes" table
}

check "make the world" "$BIN/ppo_frontier" make ends eos
check "a short run" train run --model ends/ref --total_episodes 2560 --learning_rate 0.003 \
    --kl_coef 0.1
check "the reference is on the frontier, the policy not above it" exact ends/ref run/final
check "the reference's KL is 0" grep -q "^ends/ref  *0.000 .* 0.00000  near" table
check "the reward has risen by 0.1" awk '
    $1 == "ends/ref" { before = $3 }
    $1 == "run/final" { after = $3 }
    END { print before, after; exit !(after > before + 0.1) }' table

# With learning rate 0 train_ppo measures a policy: eight samples of 128 completions. Their means
# are within 4 standard errors of the exact values.
check "measure the policy" train measured --model run/final --total_episodes 1024 --learning_rate 0
for key in kl:2 scores:3; do
    values "objective/${key%:*}" measured/metrics.jsonl >values
    check "objective/${key%:*} is right" awk -v column="${key#*:}" '
        NR == FNR { if ($1 == "run/final") want = $column; next }
        { n++; sum += $1; squares += $1 * $1 }
        END {
            error = sqrt((squares / n - sum * sum / n / n) / (n - 1))
            d = sum / n - want
            print n, sum / n, want, error
            exit n != 8 || !((d < 0 ? -d : d) < 4 * error) || error > 0.1
        }' table values
done
finish ppo_frontier
