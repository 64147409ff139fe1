#!/bin/sh
# Tests of train_ppo as a user runs it, on a few prompts and a model of one layer: results, logs,
# resuming, reward programs that fail, and mistakes in its own flags and data. What it shares with
# the other programs (disks, model directories, files of the output) is tested there; its parts in
# test_ppo.c. Run from the repository's root with BIN set to a build.
. test/helpers.sh
export OMP_NUM_THREADS=2

# run DIR [FLAG...]: a short run of the tiny model; its output goes to $T/log
run() {
    to=$1
    shift
    logged timeout 120 "$BIN/train_ppo" --model "$M" --reward_command "$REWARD" \
        --dataset "$T/prompts.jsonl" --total_episodes 32 --batch_size 8 \
        --per_device_train_batch_size 4 --num_ppo_epochs 2 --num_mini_batches 2 \
        --response_length 12 --temperature 1 --learning_rate 0.003 --samples 0 --save_steps 0 \
        --output_dir "$to" "$@"
}

# mistake CODE WORDS [FLAG...]: a run with these flags complains and leaves no directory
mistake() {
    want=$1 words=$2
    shift 2
    complains "$want" "$words" timeout 120 "$BIN/train_ppo" --model "$M" \
        --dataset "$T/prompts.jsonl" --response_length 12 --samples 0 --output_dir "$T/none" "$@"
    [ ! -e "$T/none" ] || amiss "there is an output directory"
    judge "train_ppo $*"
    rm -rf "$T/none"
}

# resumed DIR STEP [FLAG...]: a copy of DIR as it was at checkpoint STEP goes on to the end
resumed() {
    from=$1 at=$2
    shift 2
    back_to "$from" "$at"
    check "resumed at update $at" run "$T/resumed" --resume_from_checkpoint latest "$@"
    ends_as "resumed at update $at" "$from" "step $at of"
}

# ---- a model, prompts, a reward program ---------------------------------------------------------

tiny_config 64
head -n 60 data/reviews_train.jsonl >"$T/sft.jsonl"
M=$T/sft/final
check "a model to start from" timeout 120 "$BIN/train_sft" --model_config "$T/config.json" \
    --tokenizer data --dataset "$T/sft.jsonl" --per_device_train_batch_size 10 --samples 0 \
    --learning_rate 0.02 --max_steps 30 --output_dir "$T/sft"
head -n 13 "$T/sft.jsonl" >"$T/prompts.jsonl" # an epoch ends amid an update
REWARD=$BIN/gold

# ---- one run ------------------------------------------------------------------------------------

A=$T/ppo
set -- --total_episodes 57 --save_steps 3 --target_kl 0.3 --kl_horizon 100 --eval_prompts 6 --gold \
    --eval_dataset "$T/prompts.jsonl" --whiten_rewards --adam_epsilon 1e-5 \
    --adam_epsilon_style tensorflow --missing_eos_penalty 0.5
check "a run" run "$A" "$@"
check "it names the roles" sh -c "
    grep -q '^policy: $M, GPT-2 with ' '$T/log' && grep -q '^reference: $M\$' '$T/log' &&
    grep -q '^reward: program $REWARD\$' '$T/log' && grep -q '^critic: $M, ' '$T/log'"
check "it says what became of the samples" sh -c "
    grep -q '^6 samples: KL to the reference ' '$T/log' &&
    grep -q '^gold score .* before, .* after' '$T/log'"
cat >"$T/x" <<'END'
step epoch samples/kl samples/kl_error samples/gold samples/gold_error 
END
metrics="step episode objective/scores objective/kl objective/entropy objective/non_score_reward"
metrics="$metrics objective/rlhf_reward objective/kl_coef objective/scores_std objective/gold"
metrics="$metrics policy/approxkl_avg policy/clipfrac_avg policy/entropy_avg loss/policy_avg"
metrics="$metrics loss/value_avg val/clipfrac_avg val/ratio val/ratio_var val/num_eos_tokens"
metrics="$metrics val/mean val/error val/var_explained returns/mean returns/var response_length"
metrics="$metrics num_steps grad_norm val/grad_norm lr"
echo "$metrics " >>"$T/x"
sort "$T/x" >"$T/y"
keys "$A/metrics.jsonl" >"$T/x"
same "the keys of the log" "$T/x" "$T/y"
check "what must hold between metrics" awk -F'[:,}]' '
    function near(x, y) { return x - y < 2e-5 && y - x < 2e-5 }
    /"objective/ {
        for (i = 1; i < NF; i += 2) {
            key = $i
            gsub(/[ "{]/, "", key)
            v[key] = $(i + 1)
        }
        n++
        if (!near(v["objective/non_score_reward"], -v["objective/kl_coef"] * v["objective/kl"]))
            bad = bad " non_score_reward"
        if (!near(v["objective/rlhf_reward"], v["objective/scores"] + v["objective/non_score_reward"]))
            bad = bad " rlhf_reward"
        missing = 8 - v["val/num_eos_tokens"]
        if (!near(v["objective/scores"], v["objective/gold"] - 0.5 * missing / 8))
            bad = bad " scores"
        if (n == 1 && !(near(v["objective/kl"], 0) && v["objective/kl_coef"] == 0.05)) bad = bad " 1"
        if (n > 1) {
            e = old_kl / 0.3 - 1
            e = e > 0.2 ? 0.2 : e < -0.2 ? -0.2 : e
            if (!near(v["objective/kl_coef"], old_coef * (1 + e * 8 / 100))) bad = bad " kl_coef"
        }
        old_kl = v["objective/kl"]
        old_coef = v["objective/kl_coef"]
        if (v["num_steps"] != 4 || v["episode"] != 8 * n) bad = bad " steps"
        if (!(v["objective/entropy"] > 0 && v["policy/entropy_avg"] > 0)) bad = bad " entropy"
        if (!(v["response_length"] >= 1 && v["response_length"] <= 12)) bad = bad " length"
    }
    END { print bad; exit bad != "" || n != 8 }' "$A/metrics.jsonl"
check "EOS and full rows both occur" sh -c "
    test \$(sed -n 's/.*num_eos_tokens\": \([0-9]*\).*/\1/p' '$A/metrics.jsonl' |
        awk '{ s += \$1 } END { print (s > 2 && s < 62) }') = 1"
for at in 3 6; do resumed "$A" $at "$@"; done

set -- --shared_critic --total_episodes 40 --save_steps 2 --target_kl 1 --vf_coef 0.5
check "a shared critic" run "$T/shared" "$@"
check "it is a head on the policy" grep -q '^critic: a head on the policy' "$T/log"
check "the critic learns" awk '{ if (NR > 1 && $1 != 0) moved = 1 } END { exit !moved }' <<END
$(values val/mean "$T/shared/metrics.jsonl")
END
for at in 2 4; do resumed "$T/shared" $at "$@"; done
for dir in "$T/shared/final" "$T/shared/checkpoint-4" "$A/final"; do
    check "$dir is a language model" sh -c "grep -q GPT2LMHeadModel '$dir/config.json' &&
        ! grep -q score.weight '$dir/model.safetensors'"
    check "$dir goes on" run "$T/on" --model "$dir" --total_episodes 8 --overwrite_output_dir
done

"$BIN/train_ppo" --model "$M" --reward_command "$REWARD" --dataset "$T/prompts.jsonl" --samples 0 \
    --batch_size 4 --response_length 12 --total_episodes 1000000 --save_steps 0 \
    --output_dir "$T/busy" >"$T/log" 2>&1 &
child=$!
until_rows 1 "$T/busy/metrics.jsonl"
stop INT
check "SIGINT saves and ends with 130" \
    test $code -eq 130 -a -e "$T/busy"/checkpoint-*/trainer/manifest.json

# ---- passes, early stop, penalties, estimators, samples -----------------------------------------

one="--total_episodes 16 --whiten_advantages"
for B in 1 3 8; do run "$T/pass$B" $one --per_device_train_batch_size $B; done
for B in 1 3; do
    for key in objective/scores objective/kl objective/entropy policy/entropy_avg loss/policy_avg \
        loss/value_avg policy/approxkl_avg returns/mean val/mean grad_norm val/grad_norm; do
        # policy losses are differences of large terms: absolute 1e-5
        check "passes of $B rows: $key" near "$T/pass$B/metrics.jsonl" "$T/pass8/metrics.jsonl" \
            $key 2e-4 1e-5
    done
done
check "threads" env OMP_NUM_THREADS=1 "$BIN/train_ppo" --config "$T/pass8/run.json" \
    --output_dir "$T/thread"
check "threads: loss" near "$T/thread/metrics.jsonl" "$T/pass8/metrics.jsonl" \
    loss/value_avg 2e-4 0

check "early stop" run "$T/early" --max_approx_kl 1e-12 --num_ppo_epochs 3
check "early stop: one epoch of two steps" test "$(values num_steps "$T/early/metrics.jsonl" |
    sort -u)" = 2
check "no early stop" run "$T/late" --max_approx_kl 1000 --num_ppo_epochs 3
check "no early stop: three epochs" test "$(values num_steps "$T/late/metrics.jsonl" | sort -u)" = 6

zero='while read -r row; do echo 0; done'
check "a penalty alone" run "$T/penalty" --reward_command "$zero" --missing_eos_penalty 2
check "it is for completions without EOS" awk '{
        d = $1 + 2 * (8 - $2) / 8
        if (!(d < 1e-6 && d > -1e-6)) exit 1
    } END { exit NR != 4 }' <<END
$(values objective/scores "$T/penalty/metrics.jsonl" >"$T/x"
values val/num_eos_tokens "$T/penalty/metrics.jsonl" | paste "$T/x" -)
END
check "k3" run "$T/k3" --kl_estimator k3 --gradient_checkpointing
check "k3 is never negative" awk '$1 < 0 { bad = 1 } END { exit bad || NR != 4 }' <<END
$(values objective/kl "$T/k3/metrics.jsonl")
END
check "texts of rollouts" run "$T/texts" --sample_steps 2 --samples 3 --total_episodes 24
check "three of them" sh -c "
    test \$(sed -n '/^rollout of update 2 /,/^\$/p' '$T/log' | grep -c '^  .* | ') -eq 3"
check "texts before and after" sh -c "grep -q '^before training' '$T/log' &&
    grep -q '^after training' '$T/log'"

# ---- token ids without a tokenizer --------------------------------------------------------------

mkdir "$T/bare"
cp "$M/model.safetensors" "$T/bare"
sed 's/"eos_token_id": [0-9]*/"eos_token_id": null/' "$M/config.json" >"$T/bare/config.json"
printf '{"prompt_ids": [7, 8]}\n{"prompt_ids": [9]}\n' >"$T/ids.jsonl"
cat >"$T/ids.sh" <<'END'
while read -r row; do
    case $row in
    '{"prompt_ids": ['*'], "completion_ids": ['*) ids=${row##*[} && echo "${#ids}" ;;
    *) exit 1 ;;
    esac
done
END
check "token ids" run "$T/bare-run" --model "$T/bare" --dataset "$T/ids.jsonl" --eval_prompts 2 \
    --reward_command "sh '$T/ids.sh'" --response_length 5 --samples 2
check "token ids: fixed length" test "$(values response_length "$T/bare-run/metrics.jsonl" |
    sort -u)" = 5
check "token ids: no EOS" test "$(values val/num_eos_tokens "$T/bare-run/metrics.jsonl" |
    sort -u)" = 0
mistake 3 'prompts.jsonl:1: "prompt" is text, and there is no tokenizer' --model "$T/bare" \
    --reward_command cat
mistake 2 "--missing_eos_penalty: $T/bare has no EOS" --model "$T/bare" --reward_command cat \
    --missing_eos_penalty 1
mistake 2 "--gold: $T/bare has no tokenizer" --model "$T/bare" --reward_command cat --gold

# ---- a reward model ------------------------------------------------------------------------------

check "a reward model" run "$T/model" --model data/sft --reward_model data/rm --reward_command "" \
    --total_episodes 16 --per_device_train_batch_size 3
check "it is where the critic begins" sh -c "grep -q '^reward: model data/rm\$' '$T/log' &&
    grep -q '^critic: data/rm, ' '$T/log'"
check "so the critic knows something" awk '$1 != 0 { some = 1 } END { exit !some }' <<END
$(values val/mean "$T/model/metrics.jsonl" | head -n 1)
END
check "another critic" run "$T/zero" --model data/sft --reward_model data/rm --reward_command "" \
    --total_episodes 16 --critic_model data/sft --per_device_train_batch_size 3
for key in objective/scores objective/entropy; do
    check "it makes no difference to the first rollout: $key" test \
        "$(values $key "$T/model/metrics.jsonl" | head -n 1)" = \
        "$(values $key "$T/zero/metrics.jsonl" | head -n 1)"
done
mistake 3 "is a language model without a score, expected a reward model" --reward_model "$M"
check "an ensemble" run "$T/ensemble" --model data/sft --reward_model data/rm,data/rm \
    --reward_ensemble min --gold_model data/rm --reward_command "" --total_episodes 16 \
    --per_device_train_batch_size 3
check "it is named" grep -q '^reward: min of 2 models data/rm,data/rm$' "$T/log"
check "its first model is where the critic begins" grep -q '^critic: data/rm, ' "$T/log"
for key in objective/scores returns/mean grad_norm; do # of twice the same model
    values $key "$T/model/metrics.jsonl" >"$T/x"
    values $key "$T/ensemble/metrics.jsonl" >"$T/y"
    same "one model, and twice that one: $key" "$T/x" "$T/y"
done
values objective/scores "$T/ensemble/metrics.jsonl" >"$T/x"
values objective/gold "$T/ensemble/metrics.jsonl" >"$T/y"
check "a model that watches" columns "$T/x" "$T/y" 1e-5
mistake 3 "is a language model without a score, expected a reward model" --reward_model "data/rm,$M" \
    --model data/sft
mistake 3 "is a language model without a score, expected a reward model" --gold_model "$M" \
    --reward_command cat
mistake 2 "found no name at a comma" --reward_model "data/rm," --model data/sft
mistake 2 "--reward_eos is not used without --reward_model or --gold_model" --reward_command cat --reward_eos
mistake 2 "--reward_ensemble is not used without --reward_model" --reward_command cat \
    --reward_ensemble min
mistake 2 "expected one of --gold or --gold_model" --reward_command cat --gold --gold_model data/rm
mistake 2 "--reward_ensemble max: expected one of mean|min" --reward_model data/rm \
    --reward_ensemble max

# ---- reward programs that fail ------------------------------------------------------------------
# Each answers 20 rows, two updates and a half, and then does something else.

check "what a run would have been" run "$T/whole" --reward_command "$zero" --kl_coef 1
good='i=0; while [ $i -lt 20 ] && read -r row; do echo 0; i=$((i + 1)); done;'
n=0
for bad in 'exit 3' 'read -r row; echo nothing' 'sleep 100' 'read -r row; echo nan'; do
    n=$((n + 1))
    run "$T/fail$n" --reward_command "$good $bad" --kl_coef 1 --reward_timeout 1 >/dev/null
    check "$bad: exit code" test $code -eq 3
    check "$bad: one sentence" sh -c "test \$(grep -c '^error: ' '$T/log') -eq 1 &&
        grep -q '^error: update 3: .*; saved $T/fail$n/checkpoint-2, go on from there' '$T/log'"
    check "$bad: a checkpoint" test -e "$T/fail$n/checkpoint-2/trainer/manifest.json"
done
check "mended" run "$T/fail1" --reward_command "$zero" --kl_coef 1 --resume_from_checkpoint latest
same "mended: weights" "$T/fail1/final/model.safetensors" "$T/whole/final/model.safetensors"
same "mended: log" "$T/fail1/metrics.jsonl" "$T/whole/metrics.jsonl"
run "$T/first" --reward_command 'exit 1' >/dev/null
check "failing at once: exit code" test $code -eq 3
check "failing at once: saved" test -e "$T/first/checkpoint-0/trainer/manifest.json"

# ---- flags --------------------------------------------------------------------------------------

r="--reward_command cat"
for flag in kl_coef target_kl vf_coef missing_eos_penalty max_approx_kl max_grad_norm gamma lam \
    learning_rate total_episodes eval_prompts sample_steps logging_steps; do
    mistake 2 "--$flag -1: out of range" $r --$flag -1
    mistake 2 "--$flag x: not a" $r --$flag x
done
for flag in cliprange cliprange_value temperature kl_horizon batch_size num_mini_batches \
    num_ppo_epochs per_device_train_batch_size response_length reward_timeout max_prompt_length; do
    mistake 2 "--$flag 0: out of range" $r --$flag 0
    mistake 2 "--$flag nan: not a" $r --$flag nan
done
mistake 2 "--gamma 1.1: out of range" $r --gamma 1.1
mistake 2 "--lam 2: out of range" $r --lam 2
mistake 2 "--kl_estimator k2: expected one of k1|k3" $r --kl_estimator k2
mistake 2 "--adam_epsilon_style jax: expected one of pytorch|tensorflow" $r --adam_epsilon_style jax
for flag in shared_critic whiten_rewards whiten_advantages; do
    mistake 2 "--$flag maybe: expected true or false" $r --$flag maybe
done
mistake 2 "nothing gives a reward: expected --reward_model or --reward_command"
mistake 2 "expected one of --reward_model or --reward_command" $r --reward_model "$M"
mistake 2 "--critic_model and --shared_critic exclude each other" $r --critic_model "$M" \
    --shared_critic
mistake 2 "--target_kl: a --kl_coef of 0 stays 0" $r --target_kl 3 --kl_coef 0
mistake 2 "--batch_size 10 cannot be split into 4 equal parts" $r --batch_size 10 \
    --num_mini_batches 4
mistake 2 "--response_length 64: no room for a prompt in a context of 64" $r --response_length 64
mistake 2 "unknown flag --beta" $r --beta 1
mistake 2 "--dataset is needed" $r --dataset ""
mistake 2 "--model is needed" $r --model ""
mistake 2 "--output_dir is empty" $r --output_dir ""
for flag in model ref_model critic_model tokenizer; do
    mistake 3 "missing: no such directory" $r --$flag "$T/missing"
done
mistake 3 "missing: no such directory" --reward_model "$T/missing"
mistake 3 "tiny_score: is a reward model, expected a language model" $r \
    --model test/golden/tiny_score
mistake 3 "tiny_score: is a reward model, expected a language model" $r \
    --ref_model test/golden/tiny_score
mistake 3 "the reference's vocabulary has 64 tokens, the model's" $r \
    --ref_model test/golden/tiny_gpt2
mistake 3 "the critic's vocabulary has 50 tokens, the policy's" $r \
    --critic_model test/golden/tiny_score
mistake 3 "is a reward model, expected a language model" $r --shared_critic \
    --model test/golden/tiny_score

# ---- data: more of it in test_ppo.c -------------------------------------------------------------

mistake 3 "missing.jsonl: no such file" $r --dataset "$T/missing.jsonl"
mistake 3 "missing.jsonl: no such file" $r --eval_dataset "$T/missing.jsonl"
printf '{"text": "a"}\n' >"$T/data.jsonl"
mistake 3 'data.jsonl:1: missing "prompt" or "prompt_ids"' $r --dataset "$T/data.jsonl"
printf '{"prompt_ids": [9999]}\n' >"$T/data.jsonl"
mistake 3 "data.jsonl:1: prompt_ids[0]: token id 9999 is outside" $r --dataset "$T/data.jsonl"

# ---- resuming with other flags ------------------------------------------------------------------

for flag in "kl_coef 0.7" "seed 7" "learning_rate 0.1" "total_episodes 100" "temperature 0.5" "bf16 true" \
    "shared_critic true" "ref_model $T/shared/final"; do
    set -- $flag
    "$BIN/train_ppo" --config "$A/run.json" --output_dir "$T/other" --$1 "$2" \
        --resume_from_checkpoint "$A/checkpoint-6" >"$T/log" 2>&1
    check "--$1 $2 cannot be resumed" test $? -eq 3
    check "--$1: it says so" grep -q "^error: .*cannot resume: .*--$1" "$T/log"
done
check "passes of another size go on" sh -c "\"$BIN/train_ppo\" --config '$A/run.json' --output_dir '$T/other' \
    --per_device_train_batch_size 5 --resume_from_checkpoint '$A/checkpoint-6' >'$T/log' 2>&1"

finish ppo
