#!/bin/sh
# Every flag of TRL and transformers (test/golden/trl_flags.txt) is one of the program, or in the table of
# lib/run/trl_flags.h: its default is taken, in a file and on the command line; and what the table calls harmless
# is so at harmless values alone. Then what the honoured ones do, data in folders, and configurations.
. test/helpers.sh
GOLDEN=test/golden/trl_flags.txt
TAB=$(printf '\t')

# mistake CODE WORDS COMMAND...: the command complains; what it notes beside that does not count
mistake() {
    complained "$@"
    shift 2
    judge "$@"
}
complained() {
    complains "$@"
    sed -i '/^note: /d' "$T/stderr"
    wrong=$(echo "$wrong" | sed 's/not one line;* *//')
    [ "$(grep -vc '^warning: ' "$T/stderr")" -eq 1 ] || amiss "not one line"
}

# ---- all flags -----------------------------------------------------------------------------------

# flags_of PROGRAM: name and default of each of its flags
flags_of() {
    awk -F "$TAB" -v program="$1" '!/^#/ && $4 != "?" && ($2 == "all" || "," $2 "," ~ "," program ",") {
        print $3 "\t" $4 }' "$GOLDEN"
}

# What is not taken at TRL's default: models on the hub, epochs of PPO, a cut that is not here.
refused_default() {
    case $1.$2 in
    train_ppo.sft_model_path | train_ppo.reward_model_path | train_ppo.num_train_epochs) return 0 ;;
    train_kto.truncation_mode | train_orpo.truncation_mode) return 0 ;; # of TRL 0.24: keep_end
    esac
    return 1
}

# A run that gets past its flags ends at the missing file, with exit code 3.
NEEDS="--model data/sft --dataset $T/missing.jsonl"
for program in train_sft train_rm train_dpo train_kto train_orpo train_ppo train_spin; do
    set -- "$BIN/$program" $NEEDS
    [ $program != train_ppo ] || set -- "$@" --reward_model data/rm
    flags_of $program >"$T/flags"
    : >"$T/all.yaml"
    : >"$T/line"
    while IFS="$TAB" read -r name default; do
        if refused_default $program "$name"; then continue; fi
        echo "$name: $default" >>"$T/all.yaml"
        case $default in
        null | '""' | '[]') ;;
        *) echo "--$name $default" | tr -d '[]",' >>"$T/line" ;;
        esac
    done <"$T/flags"
    # given here, and so not by the file
    sed -i '/^output_dir:/d; /^run_name:/d' "$T/all.yaml"
    complained 3 "missing.jsonl: no such file" "$@" --config "$T/all.yaml" --output_dir "$T/out"
    judge "$program: $(wc -l <"$T/all.yaml") defaults in a file"
    complained 3 "missing.jsonl: no such file" "$@" $(cat "$T/line") --output_dir "$T/out"
    judge "$program: $(wc -l <"$T/line") defaults on the command line"
    check "$program: as many flags as TRL has" [ "$(wc -l <"$T/flags")" -ge 160 ]
done

# ---- command lines of TRL ------------------------------------------------------------------------

tiny_model 5
pairs_from 1 >"$T/pairs.jsonl"
mkdir "$T/folder"
head -n 24 "$T/pairs.jsonl" >"$T/folder/train.jsonl"
tail -n 8 "$T/pairs.jsonl" >"$T/folder/test.jsonl"
cat >"$T/dpo.yaml" <<END
# as trl dpo --config reads it
model_name_or_path: $T/model
dataset_name: $T/folder
torch_dtype: float32
loss_type:
- sigmoid
beta: 1.0e-01
learning_rate: 5e-4
lr_scheduler_type: "cosine"
warmup_ratio: 0.25
num_train_epochs: 2.0
per_device_train_batch_size: 4
gradient_accumulation_steps: 2
gradient_checkpointing: yes
gradient_checkpointing_kwargs:
  use_reentrant: false
max_length: null
eval_strategy: epoch
save_strategy: epoch
logging_first_step: true
logging_steps: 2
report_to: [none]
optim: adamw_torch
push_to_hub: false
seed: 7
END
dpo() { timeout 120 "$BIN/train_dpo" --samples 0 "$@"; }
has() { grep -q "\"$1\": $2,*\$" "$T/out/run.json"; }

# 24 pairs, 8 an update: 3 updates an epoch, 6 in all, of which ceil(0.25 * 6) = 2 warm up
check "a configuration of TRL's" logged dpo --config "$T/dpo.yaml" --output_dir "$T/out" --seed 8
check "and what has no effect is said" grep -q '^note: without effect here: --gradient_checkpointing_kwargs$' "$T/log"
for value in 'seed 8' 'warmup_steps 0.25' 'beta 0.1' 'learning_rate 0.0005' 'num_train_epochs 2' \
    'gradient_accumulation_steps 2' 'gradient_checkpointing true' 'max_length 1048576' \
    'loss_type "sigmoid"' 'lr_scheduler_type "cosine"' 'bf16 false'; do
    check "run.json: $value" has ${value% *} "${value#* }"
done
check "the folder's files" has eval_dataset "\"$T/folder/test.jsonl\""
steps() { sed -n "s/^{\"step\": \([0-9]*\), .*\"$1\".*/\1/p" "$T/out/metrics.jsonl" | tr '\n' ' '; }
check "logged at 1 and every 2" [ "$(steps grad_norm)" = "1 2 4 6 " ]
check "evaluated after each epoch, and before" [ "$(steps eval_loss)" = "0 3 6 " ]
check "saved after each epoch" [ -d "$T/out/checkpoint-3" ]
check "nothing else is saved" [ "$(ls -d "$T/out/"checkpoint-* | wc -l)" -eq 1 ]
values learning_rate "$T/out/metrics.jsonl" >"$T/x"
printf '%s\n' 0 0.00025 0.000426777 0.0000732233 >"$T/y" # transformers' cosine at 0, 1, 3, 5 of 6
check "warm-up and cosine" columns "$T/x" "$T/y" 1e-5 1e-9
cp -r "$T/out" "$T/first"

# the same as a command line, in words of several releases; what it writes reads back
rm -rf "$T/out"
check "a command line of TRL's" logged dpo --model_name_or_path "$T/model" --dataset_name "$T/folder" \
    --dataset_train_split train --dataset_test_split test --evaluation_strategy epoch \
    --save_strategy epoch --logging_first_step --logging_steps 2 --report_to none --optim adamw_torch \
    --learning_rate 5e-4 --lr_scheduler_type cosine --warmup_steps 0 --warmup_ratio 0.25 --num_train_epochs 2 \
    --per_gpu_train_batch_size 4 --gradient_accumulation_steps 2 --gradient_checkpointing True \
    --warmup_steps 0 --use_cpu --no_bf16 --dtype float32 --loss_type sigmoid --max_length 1048576 \
    --attn_implementation sdpa --push_to_hub false --no_remove_unused_columns --seed 8 --output_dir "$T/out"
same "it ends with the same bits" "$T/first/final/model.safetensors" "$T/out/final/model.safetensors"
same "and the same log" "$T/first/metrics.jsonl" "$T/out/metrics.jsonl"
rm -rf "$T/again"
check "its run.json" logged dpo --config "$T/out/run.json" --output_dir "$T/again"
same "gives the same run" "$T/first/metrics.jsonl" "$T/again/metrics.jsonl"
rm -rf "$T/out"
check "shares of all updates" logged dpo --config "$T/dpo.yaml" --output_dir "$T/out" \
    --no_logging_first_step --logging_steps 0.4 --eval_strategy steps --eval_steps 0.5 --save_strategy no
check "logged every ceil(0.4 * 6)" [ "$(steps grad_norm)" = "3 6 " ]
check "evaluated every 3" [ "$(steps eval_loss)" = "0 3 6 " ]
check "no checkpoint" [ -z "$(find "$T/out" -name 'checkpoint-*')" ]
rm -rf "$T/out"
check "an evaluation with every line" logged dpo --config "$T/dpo.yaml" --output_dir "$T/out" \
    --no_logging_first_step --eval_strategy steps --max_steps 4
check "as TRL's eval_steps is logging_steps" [ "$(steps eval_loss)" = "0 2 4 " ]
rm -rf "$T/out"
check "no evaluation" logged dpo --config "$T/dpo.yaml" --output_dir "$T/out" --eval_strategy no \
    --max_steps 1
check "with eval_strategy no" [ "$(steps eval_loss)" = "" ]

# prompts and completions cut as in TRL 0.24: the last tokens of the one, the first of the other
rm -rf "$T/out"
check "max_prompt_length" logged dpo --model "$T/model" --dataset "$T/pairs.jsonl" --max_steps 1 \
    --max_prompt_length 1 --max_completion_length 3 --output_dir "$T/out"
check "so many tokens are left" grep -q "40 pairs, 40 tokens of prompts, 120 chosen, 120 rejected" "$T/log"

# ---- folders -------------------------------------------------------------------------------------

D="dpo --model $T/model --output_dir $T/none --max_steps 1"
mkdir -p "$T/b/data" "$T/c/test" "$T/d" "$T/e"
cp "$T/folder/train.jsonl" "$T/b/data/train-00000-of-00001.jsonl"
cp "$T/folder/test.jsonl" "$T/b/data/validation.jsonl"
for place in "b train-00000-of-00001" "d all"; do # shards in data/; a folder without names of splits
    dir=$T/${place% *}
    [ "$dir" = "$T/b" ] || cp "$T/folder/train.jsonl" "$dir/all.jsonl"
    rm -rf "$T/out"
    check "a folder: $place" logged dpo --model "$T/model" --max_steps 1 --dataset_name "$dir" --output_dir "$T/out"
    check "$place is found" grep -q "${place#* }.jsonl: 24 pairs" "$T/log"
done
cp "$T/folder/test.jsonl" "$T/c/test/a.jsonl"
cp "$T/folder/train.jsonl" "$T/c/train_prefs.jsonl"
cp "$T/folder/train.jsonl" "$T/c/train_sft.jsonl"
rm -rf "$T/out"
check "a split of another name, a folder for the other" logged dpo --model "$T/model" --max_steps 1 \
    --dataset_name "$T/c" --dataset_train_split train_prefs --dataset_test_split test --output_dir "$T/out"
check "train_prefs is found" has dataset "\"$T/c/train_prefs.jsonl\""
check "test/ is found" has eval_dataset "\"$T/c/test/a.jsonl\""
mistake 3 "$T/e: no .jsonl, .json or .txt file in it for train (--dataset_train_split)" $D --dataset_name "$T/e"
mistake 3 "data/sft: no .jsonl, .json or .txt file in it for train" $D --dataset_name data/sft # a model
mistake 3 "$T/out: no .jsonl, .json or .txt file in it for train" $D --dataset_name "$T/out" # a run
mistake 3 "$T/b: no .jsonl, .json or .txt file in it for test (--dataset_test_split)" $D --dataset_name "$T/b" \
    --eval_strategy steps
mistake 2 "--dataset_train_split train_sft: --dataset is not a folder" $D --dataset "$T/pairs.jsonl" \
    --dataset_train_split train_sft

# ---- mistakes ------------------------------------------------------------------------------------

P="$D --dataset $T/pairs.jsonl"
mistake 2 "unknown flag --learning_rat; did you mean --learning_rate?" $P --learning_rat 1
mistake 2 "unknown flag --model_name_or_pat; did you mean --model_name_or_path?" $P --model_name_or_pat x
mistake 2 "expected one of linear|cosine|cosine_with_restarts" $P --lr_scheduler_type cosin
mistake 2 "did you mean cosine?" $P --lr_scheduler_type cosin
mistake 2 "--use_peft true: there are no adapters" $P --use_peft
mistake 2 "--optim adafactor: the optimizer is AdamW" $P --optim adafactor
mistake 2 "--loss_weights 0.2: there is one --loss_type" $P --loss_weights 1.0 0.2
mistake 2 "unexpected argument sft; --loss_type takes one value" $P --loss_type sigmoid sft
mistake 2 "--logging_steps 1.5: not a whole number, nor a share below 1" $P --logging_steps 1.5
mistake 2 "--warmup_ratio 1.5: expected a share" $P --warmup_ratio 1.5
mistake 2 "--warmup_ratio 0.1: --warmup_steps has said 3" $P --warmup_steps 3 --warmup_ratio 0.1
if [ -w /dev/full ]; then # the commands judged here write to a file of their own
    mistake 4 "standard output: cannot write" sh -c "'$BIN/train_dpo' --help >/dev/full"
else skip "--help without room (there is no /dev/full)"; fi
mistake 3 "org/model: no such file or directory; nothing is downloaded, --model_name_or_path takes a path" \
    dpo --model_name_or_path org/model --dataset "$T/pairs.jsonl" --output_dir "$T/none"
mistake 3 "org/data: no such file or directory; nothing is downloaded, --dataset_name takes a path" \
    dpo --model "$T/model" --dataset_name org/data --output_dir "$T/none"
echo 'loss_typ: sigmoid' >"$T/bad.yaml"
mistake 2 "bad.yaml:1: unknown flag \"loss_typ\"; did you mean \"loss_type\"?" $P --config "$T/bad.yaml"
printf 'beta: 0.1\nenv:\n  A: b\n' >"$T/bad.yaml"
mistake 2 "bad.yaml:2: --env {..}: variables of the environment are set before" $P --config "$T/bad.yaml"
printf 'datasets:\n  - path: x\n' >"$T/bad.yaml"
mistake 2 "bad.yaml:1: --datasets {..}: a mixture of data sets" $P --config "$T/bad.yaml"
mistake 2 "--save_strategy epoch: this program counts its updates alone" "$BIN/train_ppo" --model "$T/model" \
    --dataset "$T/pairs.jsonl" --reward_model data/rm --save_strategy epoch
refuse "nothing was written by these" [ -e "$T/none" ]
finish trl_flags
