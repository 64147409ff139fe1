#!/bin/sh
# Do the training programs of this tree compute what those of another revision do? Builds both, runs
# each program in several settings, on one and on two threads, also stopped in the middle and resumed,
# and compares the rows of metrics.jsonl and the final weights byte for byte.
#
#     sh dev/same_numbers.sh OLD_REVISION [-k KEY,KEY..] [-o] [PROGRAM..]
#
# -k: these keys of a row may differ (they are left out of both before comparing); -o: keys may come in
# another order. A minute for each program. Exit code 1 if anything differs.
set -u
[ $# -ge 1 ] || { sed -n '2,10s/^# \{0,1\}//p' "$0" >&2; exit 2; }
revision=$1
shift
keys= sorted=
while [ $# -gt 0 ]; do
    case $1 in
    -k) keys=$2; shift 2 ;;
    -o) sorted=1; shift ;;
    *) break ;;
    esac
done
programs=${*:-train_sft train_dpo train_kto train_orpo train_rm train_ppo train_spin}
unset OPENBLAS_CORETYPE OPENBLAS_L2_SIZE
export OMP_WAIT_POLICY=passive
work=$(mktemp -d)
trap 'git worktree remove --force "$work/old" 2>/dev/null; rm -rf "$work"' EXIT
trap 'exit 1' HUP INT TERM
git worktree add -q --detach "$work/old" "$revision" || exit 2
mkdir "$work/new" || exit 2
build="gcc -O3 -march=native -fno-math-errno -fopenmp"
for p in $programs; do
    $build "$p.c" -o "$work/new/$p" -lopenblas -lcjson -lm || exit 2
    (cd "$work/old" && $build "$p.c" -o "$p" -lopenblas -lcjson -lm) || exit 2
done

# a reward program: a number from the length of the row
cat >"$work/reward" <<'END'
#!/bin/sh
while read -r row; do echo $((${#row} % 7 - 3)); done
END
chmod +x "$work/reward"

# settings: PROGRAM FLAGS; what all have is in `common`
common="--logging_steps 2 --save_steps 4 --learning_rate 0.001"
rows="--max_steps 7 --eval_steps 3 --per_device_train_batch_size 6 --per_device_eval_batch_size 16
      --warmup_steps 2 --lr_scheduler_type cosine --weight_decay 0.1"
rows=$(echo $rows) # on one line
# what some of them read: few pairs, the same with margins, a model that is not data/sft
head -n 13 data/prefs_eval.jsonl >"$work/few.jsonl"
sed 's/}$/, "margin": 0.5}/' "$work/few.jsonl" >"$work/margins.jsonl"
if echo " $programs " | grep -q ' train_\(kto\|rm\) '; then
    (cd "$work/old" && $build train_sft.c -o train_sft -lopenblas -lcjson -lm &&
        ./train_sft --model data/sft --dataset data/reviews_eval.jsonl --max_steps 3 --samples 0 --save_steps 0 \
            --learning_rate 0.001 --output_dir "$work/sft") >"$work/log" 2>&1 || exit 2
    mv "$work/sft/final" "$work/other" || exit 2
fi

pairs="--model data/sft --dataset data/prefs_eval.jsonl --eval_split 0.2"
cat >"$work/settings" <<END
train_sft $rows --model data/sft --dataset data/reviews_eval.jsonl --eval_split 0.1
train_sft $rows --model_config data/config_tiny.json --tokenizer data --dataset data/reviews_eval.jsonl --gradient_accumulation_steps 2 --completion_only_loss false
train_sft $rows --model data/sft --dataset data/reviews_eval.jsonl --max_length 24 --truncation_mode keep_start --gradient_checkpointing --no_decay_embeddings --eval_split 0.02 --max_grad_norm 0.1
train_sft $rows --model data/sft --dataset data/reviews_eval.jsonl --train_sampling_strategy sequential --num_train_epochs 1 --bf16
train_dpo $rows $pairs --eval_prompts 16 --gold
train_dpo $rows $pairs --loss_type ipo --gradient_accumulation_steps 2 --share_prompt false
train_dpo $rows $pairs --loss_type ipo_sum --sft_weight 0.5 --label_smoothing 0
train_dpo $rows $pairs --loss_type hinge --train_sampling_strategy sequential
train_dpo $rows $pairs --loss_type robust --label_smoothing 0.1 --beta 0.5
train_dpo $rows $pairs --sync_ref_model --ref_model_sync_steps 2 --gradient_checkpointing
train_kto $rows $pairs --eval_prompts 16 --gold
train_kto $rows $pairs --loss_type apo_zero_unpaired --desirable_weight 1.2 --gradient_accumulation_steps 2
train_kto $rows $pairs --train_sampling_strategy sequential --beta 0.5 --ref_model data/sft
train_kto $rows $pairs --undesirable_weight 1.2 --desirable_weight 1.5 --beta 2 --gradient_accumulation_steps 3 --per_device_train_batch_size 3
train_kto $rows --model data/sft --dataset $work/few.jsonl --per_device_train_batch_size 5 --eval_dataset $work/few.jsonl --ref_model $work/other
train_kto $rows --model data/sft --dataset $work/few.jsonl --per_device_train_batch_size 1 --loss_type apo_zero_unpaired --eval_dataset $work/few.jsonl --gradient_checkpointing
train_orpo $rows $pairs --eval_prompts 16 --gold
train_orpo $rows $pairs --max_length 32 --train_sampling_strategy sequential --gradient_accumulation_steps 3 --beta 2
train_orpo $rows $pairs --nll all --gradient_accumulation_steps 2 --beta 0.5
train_rm $rows $pairs --normalize_rewards 32
train_rm $rows --model data/sft --dataset $work/margins.jsonl --eval_dataset $work/margins.jsonl --per_device_train_batch_size 5 --normalize_rewards 20 --normalize_model $work/other --temperature 0.7
train_rm $rows $pairs --model data/rm --train_sampling_strategy sequential --truncation_mode keep_start --max_length 40 --gradient_checkpointing
train_rm $rows $pairs --center_rewards_coefficient 0.01 --gradient_accumulation_steps 2 --share_prompt false --score_init zero
train_ppo --model data/sft --reward_model data/rm --dataset data/prefs_eval.jsonl --total_episodes 112 --batch_size 16 --num_ppo_epochs 2 --num_mini_batches 2 --per_device_train_batch_size 5 --response_length 20 --eval_prompts 16 --gold
train_ppo --model data/sft --reward_model data/rm --dataset data/prefs_eval.jsonl --total_episodes 112 --batch_size 16 --shared_critic --whiten_rewards --target_kl 2 --per_device_train_batch_size 16 --response_length 20 --kl_estimator k3 --max_approx_kl 0.01
train_ppo --model data/sft --dataset data/prefs_eval.jsonl --total_episodes 112 --batch_size 16 --response_length 20 --reward_command $work/reward --critic_model data/rm --num_mini_batches 4 --per_device_train_batch_size 16 --missing_eos_penalty 0.5 --whiten_advantages false --gradient_checkpointing --adam_epsilon 1e-5 --adam_epsilon_style tensorflow
train_ppo --model data/sft --dataset data/prefs_eval.jsonl --total_episodes 112 --batch_size 16 --response_length 20 --reward_model data/rm --ref_model data/sft --num_ppo_epochs 3 --num_mini_batches 2 --per_device_train_batch_size 3 --max_approx_kl 0.001 --gamma 0.98 --lam 0.9 --cliprange 0.05 --bf16 --eval_dataset data/prefs_eval.jsonl --eval_prompts 16
train_spin $rows $pairs --max_train_samples 40 --num_iterations 2 --max_new_tokens 20 --eval_prompts 16 --gold
train_spin $rows $pairs --max_train_samples 40 --num_iterations 2 --max_new_tokens 20 --eval_prompts 8 --mix_previous false --share_prompt false --gradient_accumulation_steps 2 --beta 1
train_spin $rows $pairs --max_train_samples 30 --num_iterations 3 --max_steps 3 --max_new_tokens 20 --eval_prompts 8 --generation_batch_size 7 --train_sampling_strategy sequential --temperature 0.9 --top_p 0.95
train_spin --model data/sft --dataset data/reviews_eval.jsonl --max_train_samples 30 --num_train_epochs 1 --num_iterations 2 --max_new_tokens 20 --gradient_checkpointing
END

# rows FILE: its rows without the keys that may differ, sorted by key if asked to
rows() {
    awk -v keys=",$keys," -v sorted="$sorted" '{
        sub(/^\{/, ""); sub(/\}$/, "")
        n = split($0, part, ", ")
        line = ""; m = 0
        for (i = 1; i <= n; i++) {
            name = part[i]
            sub(/^"/, "", name); sub(/".*/, "", name)
            if (index(keys, "," name ",")) continue
            kept[++m] = part[i]
        }
        if (sorted) for (i = 2; i <= m; i++) for (k = i; k > 1 && kept[k] < kept[k - 1]; k--) {
            t = kept[k]; kept[k] = kept[k - 1]; kept[k - 1] = t
        }
        for (i = 1; i <= m; i++) line = line (i > 1 ? ", " : "") kept[i]
        print line
    }' "$1"
}

# one_run WHERE PROGRAM OUT FLAGS...
one_run() {
    where=$1 program=$2 out=$3
    shift 3
    if [ "$where" = old ]; then dir=$work/old binary=./$program; else dir=. binary=$work/new/$program; fi
    (cd "$dir" && timeout 300 "$binary" "$@" --output_dir "$out") >"$work/log" 2>&1 && return
    echo "FAILED: $where $program $*"
    tail -n 5 "$work/log"
    return 1
}

compared=0 different=0
compare() { # WHAT OLD NEW
    compared=$((compared + 1))
    rows "$2/metrics.jsonl" >"$work/a"
    rows "$3/metrics.jsonl" >"$work/b"
    if ! cmp -s "$work/a" "$work/b"; then
        echo "DIFFERENT rows: $1"
        diff "$work/a" "$work/b" | head -n 4
    elif ! cmp -s "$2/final/model.safetensors" "$3/final/model.safetensors"; then
        echo "DIFFERENT weights: $1"
    else return; fi
    different=$((different + 1))
}

while read -r program flags; do
    case " $programs " in *" $program "*) ;; *) continue ;; esac
    [ "$program" = train_rm ] || flags="--samples 0 $flags" # train_rm shows none
    for threads in 1 2; do
        export OMP_NUM_THREADS=$threads
        rm -rf "$work"/out-*
        ok=1
        for where in old new; do
            one_run $where "$program" "$work/out-$where" $common $flags || ok=
            [ $threads -eq 2 ] || [ ! "$ok" ] || one_run $where "$program" "$work/out-$where-again" $common \
                $flags --resume_from_checkpoint "$work/out-$where/checkpoint-4" || ok=
        done
        if [ ! "$ok" ]; then
            different=$((different + 1))
            continue
        fi
        compare "$program, $threads threads: $flags" "$work/out-old" "$work/out-new"
        [ $threads -eq 2 ] ||
            compare "$program resumed: $flags" "$work/out-old-again" "$work/out-new-again"
    done
done <"$work/settings"
echo "$compared runs compared, $different different"
[ $different -eq 0 ]
