#!/bin/sh
# Tests of train_spin as a user runs it, on a few rows and a model of one layer from train_sft: what
# it generates and records, first steps, mixing, equal ways to the same numbers, resuming at any
# point, and the mistakes that only this program knows (test_programs.sh has those of all). Run from
# the repository's root with BIN set to a build (build/plain, build/asan, build/clang).
. test/helpers.sh
export OMP_NUM_THREADS=2

# A run of the tiny model into the directory $1 with more flags; the log goes to $T/log.
M=$T/model
TINY="--model $M --dataset $T/train.jsonl --samples 0 --per_device_train_batch_size 8
      --learning_rate 0.001 --beta 1 --logging_steps 1 --save_steps 0 --num_train_epochs 1
      --num_iterations 2 --max_new_tokens 12"
spin() { timeout 120 "$BIN/train_spin" "$@"; }
run() {
    to=$1
    shift
    logged spin $TINY --output_dir "$to" "$@"
}

# mistake CODE WORDS [FLAG...]: a run into $OUT with these flags complains and leaves nothing there
OUT=$T/out
mistake() {
    want=$1 words=$2
    shift 2
    complains "$want" "$words" spin $TINY --output_dir "$OUT" "$@"
    [ ! -e "$OUT" ] || amiss "there is an output directory"
    judge "train_spin $*"
    rm -rf "$OUT"
}

head -n 24 data/reviews_train.jsonl >"$T/train.jsonl"
head -n 10 data/reviews_eval.jsonl >"$T/eval.jsonl"
tiny_model 40

# ---- one run: 24 pairs, 3 updates; then 48, 6 updates -------------------------------------------

A=$T/a
set -- --eval_dataset "$T/eval.jsonl" --eval_steps 2 --eval_prompts 8 --gold --samples 2 \
    --save_steps 2 --save_players
check "a run with evaluation and samples" run "$A" "$@"
for file in run.json metrics.jsonl final/config.json final/model.safetensors \
    iteration-0/synthetic.jsonl iteration-1/synthetic.jsonl iteration-0/tokenizer.json; do
    check "the run leaves $file" test -s "$A/$file"
done
refuse "and no third iteration" test -e "$A/iteration-2"
check "the log tells what happened" sh -c "grep -q '^step     9/9  loss' '$T/log' &&
    grep -q 'eval_loss' '$T/log' && grep -q 'model: $A/final' '$T/log' &&
    grep -q '24 completions, ' '$T/log' && grep -q '^data  *bigram TV' '$T/log' &&
    grep -q '^player 2  *held-out NLL .* valid ' '$T/log' && grep -q '^before ' '$T/log' &&
    grep -q '^after  *held-out NLL' '$T/log'"
metrics="loss rewards/real rewards/generated rewards/margins rewards/accuracies logps/real"
metrics="$metrics logps/generated entropy"
texts="bigram_tv length gold_tv gold valid"
cat >"$T/x" <<END
step $(echo "$texts" | sed 's|[a-z_]*|data/&|g') 
step iteration $(echo "nll $texts" | sed 's|[a-z_]*|player/&|g') 
step iteration epoch $metrics grad_norm learning_rate num_tokens 
step iteration epoch$(echo " $metrics" | sed 's/ / eval_/g') 
END
sort "$T/x" >"$T/y"
keys "$A/metrics.jsonl" >"$T/x"
same "the keys of the log" "$T/x" "$T/y"
check "its values" awk -F'[:,}]' '
    function near(x, y) { return x - y < 1e-5 && y - x < 1e-5 }
    {
        delete v
        for (i = 1; i < NF; i += 2) {
            key = $i
            gsub(/[ "{]|eval_/, "", key)
            v[key] = $(i + 1)
        }
    }
    "player/nll" in v {
        players++
        if (!(v["player/nll"] > 1 && v["player/nll"] < 8)) bad = bad " nll"
        if (!(v["player/bigram_tv"] > 0 && v["player/bigram_tv"] <= 1)) bad = bad " bigram_tv"
        if (!(v["player/length"] > 0 && v["player/length"] <= 12)) bad = bad " length"
    }
    "loss" in v {
        rows++
        step = v["step"]
        late = step > 3
        if (v["iteration"] != late) bad = bad " iteration"
        if (!near(v["epoch"], late ? (step - 3) / 6 : step / 3)) bad = bad " epoch"
        if (!near(v["rewards/margins"], v["rewards/real"] - v["rewards/generated"]))
            bad = bad " margins"
        if (!(v["logps/real"] < 0 && v["logps/generated"] < 0)) bad = bad " logps"
    }
    "grad_norm" in v {
        rate = late ? (10 - step) / 6 : (4 - step) / 3
        if (!near(v["learning_rate"], 0.001 * rate)) bad = bad " rate"
        if (step == 1 || step == 4) # the player is its own opponent
            if (!near(v["loss"], log(2)) || !near(v["rewards/margins"], 0)) bad = bad " first"
    }
    END { print bad, players, rows; exit bad != "" || players != 3 || rows != 15 }' \
    "$A/metrics.jsonl"
check "the same seed again" run "$T/again" "$@"
same "the same seed gives the same log" "$A/metrics.jsonl" "$T/again/metrics.jsonl"
same "and the same bits" "$A/final/model.safetensors" "$T/again/final/model.safetensors"
same "and the same completions" "$A/iteration-1/synthetic.jsonl" "$T/again/iteration-1/synthetic.jsonl"
check "run.json as --config" spin --config "$A/run.json" --output_dir "$T/config"
same "run.json makes the run again" "$A/metrics.jsonl" "$T/config/metrics.jsonl"

# ---- what is recorded ---------------------------------------------------------------------------

S=$A/iteration-0/synthetic.jsonl
check "a line for each row" test "$(wc -l <"$S")" -eq 24
sed 's/, "real".*//' "$S" >"$T/x"
sed 's/, "completion".*//' "$T/train.jsonl" >"$T/y"
same "with its prompt" "$T/x" "$T/y"
sed 's/.*"generated_ids": \[//; s/\]}$//' "$S" >"$T/ids"
check "of at most 12 tokens, and eos where there are fewer" sh -c "
    sed 's/.*\"finish\": \"\([a-z]*\)\".*/\1/' '$S' | paste - '$T/ids' | awk -F '[\t,]' '
        NF > 13 || NF < 2 || (\$1 != \"eos\" && NF != 13) || \$1 !~ /^(eos|length)\$/ { bad = 1 }
        END { exit bad || NR != 24 }'"
check "some of either kind" sh -c "grep -q '\"eos\"' '$S' && grep -q '\"length\"' '$S'"
# Real completions are cut as well: their 12 tokens are words and marks of the review's text.
sed 's/.*"completion": "\(.*\)"}/\1/' "$T/train.jsonl" >"$T/y"
sed 's/.*"real": "\(.*\)", "generated": .*/\1/' "$S" >"$T/x"
check "real ones are the data's beginnings, some cut" sh -c "
    paste '$T/x' '$T/y' | awk -F '\t' 'index(\$2, \$1) != 1 { bad = 1 } \$1 != \$2 { cut++ }
        END { exit bad || !cut || cut == NR }'"
same "the first player is the model" "$A/iteration-0/model.safetensors" "$M/model.safetensors"
refuse "the second is another" cmp "$A/iteration-1/model.safetensors" "$M/model.safetensors"
refuse "and generates other completions" cmp "$S" "$A/iteration-1/synthetic.jsonl"

# An iteration is a run of its own: the second player, saved, plays its first iteration as iteration
# 1 goes without the pairs before it, but for the random numbers.
check "without mixing" run "$T/apart" --mix_previous false
check "3 and 3 updates" grep -q '^step     6/6 ' "$T/log"
check "mixing: 3 and 6" test "$(grep -c '"grad_norm"' "$A/metrics.jsonl")" -eq 9
head -n 3 "$T/apart/metrics.jsonl" >"$T/x"
grep '"grad_norm"' "$A/metrics.jsonl" | head -n 3 >"$T/y"
same "the first iteration is the same with and without" "$T/x" "$T/y"
# Not shuffled, the first 3 updates of iteration 1 have its own 24 pairs, and the next three those
# of iteration 0.
run "$T/order" --train_sampling_strategy sequential --save_players --learning_rate 0 \
    --lr_scheduler_type constant
for key in real generated; do
    values logps/$key "$T/order/metrics.jsonl" | sed 's/.*/{"p": &}/' >"$T/p"
    head -n 3 "$T/p" >"$T/p0"
    sed -n '4,6p' "$T/p" >"$T/p1"
    sed -n '7,9p' "$T/p" >"$T/p2"
    check "mixed: the second half is iteration 0's, $key" near "$T/p2" "$T/p0" p 1e-5
    [ $key = generated ] || check "the first half has the same data" near "$T/p1" "$T/p0" p 1e-5
done
refuse "but other generated completions" near "$T/p1" "$T/p0" p 1e-3
same "a player that does not learn stays" "$T/order/iteration-1/model.safetensors" \
    "$M/model.safetensors"

# ---- training tells real from generated ---------------------------------------------------------

check "a longer iteration" run "$T/long" --num_iterations 1 --num_train_epochs 20 \
    --learning_rate 0.003
check "margins and accuracies rise" sh -c "tail -n 1 '$T/long/metrics.jsonl' |
    sed 's|.*\"loss\": \([^,]*\), .*margins\": \([^,]*\), \"rewards/accuracies\": \([^,]*\),.*|\1 \2 \3|' |
    awk '{ print; exit !(\$1 < 0.5 && \$2 > 0.5 && \$3 > 0.8) }'"
check "beta 0.1 and long steps: a warning" run "$T/warned" --beta 0.1 --learning_rate 0.01
check "that says why" grep -q '^warning: --beta 0.1 is below 1/2: .* learning rate 0.01 in up to 6 ' \
    "$T/log"
check "beta 0.1 and short steps" run "$T/unwarned" --beta 0.1 --learning_rate 1e-5
refuse "no warning" grep -q '^warning' "$T/log"
check "steps that make it worse" run "$T/worse" --learning_rate 0.03 --num_train_epochs 4 \
    --eval_dataset "$T/eval.jsonl"
check "are noticed" grep -q '^warning: player . is farther from the data than the one before' "$T/log"
check "half the rows" run "$T/half" --max_train_samples 12 --eval_split 0.25
check "it says so" sh -c "grep -q '; 6 completions kept for evaluation' '$T/log' &&
    grep -q '^training uses 12 of them' '$T/log' && grep -q '^step     5/5 ' '$T/log'"

check "no held-out prompts" run "$T/nll" --eval_dataset "$T/eval.jsonl" --eval_prompts 0
check "leave the NLL" sh -c "grep -q '^player 2 *held-out NLL [0-9.]* nats a token\$' '$T/log' &&
    test \$(grep -c '\"player/nll\": [0-9.]*}' '$T/nll/metrics.jsonl') -eq 3"

# ---- data ---------------------------------------------------------------------------------------

# data NAME TEXT: a run on this text (printf), two rows
data() {
    printf "$2" >"$T/$1.jsonl"
    check "data: $1" run "$T/data_$1" --dataset "$T/$1.jsonl" --max_steps 1
}
data pairs '{"prompt": "The film", "chosen": " is good.", "rejected": " is bad."}
{"prompt": "The film", "chosen": " is great.", "rejected": " is bad."}\n'
check "pairs: the chosen one" sh -c "
    grep -q '\"real\": \" is good.\"' '$T/data_pairs/iteration-0/synthetic.jsonl'"
data lists '{"prompt": [{"role": "user", "content": "Seen it?"}], "completion": [{"role": "assistant", "content": "Yes."}]}
{"prompt": "a", "completion": " b"}\n'
data messages '{"messages": [{"role": "user", "content": "Seen it?"}, {"role": "assistant", "content": "Yes."}]}
{"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}, {"role": "user", "content": "c"}, {"role": "assistant", "content": "d"}]}\n'
check "messages: as prompt and completion" sh -c "
    head -n 1 '$T/data_messages/iteration-0/synthetic.jsonl' | sed 's/, \"generated.*//' >'$T/x'
    head -n 1 '$T/data_lists/iteration-0/synthetic.jsonl' | sed 's/, \"generated.*//' >'$T/y'
    cmp '$T/x' '$T/y' && grep -q 'Human: Seen it?.*Assistant:\", \"real\": \" Yes.\"' '$T/x'"
check "messages: the last reply" sh -c "
    tail -n 1 '$T/data_messages/iteration-0/synthetic.jsonl' |
        grep -q 'Assistant: b.*Human: c.*Assistant:\", \"real\": \" d\"'"

# ---- equal ways ---------------------------------------------------------------------------------

run "$T/one"
run "$T/four" --per_device_train_batch_size 2 --gradient_accumulation_steps 4
run "$T/uneven" --per_device_train_batch_size 3 --gradient_accumulation_steps 3
run "$T/nine" --per_device_train_batch_size 9
run "$T/two" --share_prompt false
run "$T/checkpointing" --gradient_checkpointing
OMP_NUM_THREADS=1 run "$T/thread"
while read -r x y tolerance; do
    for key in loss rewards/real rewards/margins logps/generated entropy grad_norm; do
        check "$x: $key" near "$T/$x/metrics.jsonl" "$T/$y/metrics.jsonl" $key $tolerance
    done
done <<'END'
four one 1e-4
uneven nine 1e-4
two one 1e-4
checkpointing one 1e-4
thread one 1e-4
END
check "generated in other batches" run "$T/batches" --generation_batch_size 5
# OpenBLAS's AVX2 kernels round a product of few rows otherwise, and a sample hangs on last bits
differ=$(diff "$T/batches/iteration-0/synthetic.jsonl" "$T/one/iteration-0/synthetic.jsonl" |
    grep -c '^<')
check "the same completions ($differ of 24 differ)" test "$differ" -le 2

# ---- resuming: bit for bit the straight run -----------------------------------------------------
# A has checkpoints at 2 (iteration 0), 3 (its end), 4, 6, 8 (iteration 1).

# resumed TITLE STEP ITERATION: a copy of A as it was at this checkpoint goes on to the end
resumed() {
    title=$1 at=$2
    back_to "$A" "$at"
    cp -r "$A/iteration-0" "$T/resumed"
    [ $at -le 3 ] || cp -r "$A/iteration-1" "$T/resumed"
    check "$title" run "$T/resumed" --resume_from_checkpoint latest --eval_dataset "$T/eval.jsonl" \
        --eval_steps 2 --eval_prompts 8 --gold --samples 2 --save_steps 2 --save_players
    ends_as "$title" "$A" "step $at of 9, iteration $3"
    same "$title: completions" "$A/iteration-1/synthetic.jsonl" \
        "$T/resumed/iteration-1/synthetic.jsonl"
}
resumed "in iteration 0" 2 0
resumed "at its end" 3 1
resumed "in iteration 1" 4 1
resumed "later in iteration 1" 8 1

# Into another directory, by name: the completions come from beside the checkpoint.
set -- --eval_dataset "$T/eval.jsonl" --eval_steps 2 --eval_prompts 8 --gold --save_steps 2 \
    --save_players
check "into another directory" run "$T/other" "$@" --resume_from_checkpoint "$A/checkpoint-4"
same "into another directory: weights" "$A/final/model.safetensors" "$T/other/final/model.safetensors"
check "it can be resumed in turn" run "$T/third" "$@" \
    --resume_from_checkpoint "$T/other/checkpoint-6"
same "in turn: weights" "$A/final/model.safetensors" "$T/third/final/model.safetensors"

# Stopped while it generates: that iteration's generation starts again. An iteration of one update
# on many rows spends nearly all of its time there.
for i in $(seq 60); do cat "$T/train.jsonl"; done >"$T/many.jsonl"
set -- --dataset "$T/many.jsonl" --max_steps 1 --num_iterations 3 --generation_batch_size 4
check "a run that mostly generates" run "$T/whole" "$@"
"$BIN/train_spin" $TINY --output_dir "$T/cut" "$@" >"$T/log" 2>&1 &
child=$! tries=0
while [ ! -s "$T/cut/metrics.jsonl" ] && [ $tries -lt 6000 ]; do # the update of iteration 0
    tries=$((tries + 1))
    sleep 0.01
done
stop INT
check "SIGINT saves and ends with 130" test $code -eq 130 -a \
    -e "$T/cut/checkpoint-1/trainer/manifest.json"
refuse "in the middle of the generation of iteration 1" test -e "$T/cut/iteration-1"
check "it goes on" run "$T/cut" "$@" --resume_from_checkpoint latest
for file in metrics.jsonl final/model.safetensors iteration-1/synthetic.jsonl \
    iteration-2/synthetic.jsonl; do
    same "stopped while generating: $file" "$T/whole/$file" "$T/cut/$file"
done

# What does not fit to a checkpoint.
B=$T/b
mkdir "$B"
cp -r "$A/checkpoint-4" "$B"
mistake 3 "b/iteration-1/synthetic.jsonl: no such file" --resume_from_checkpoint "$B/checkpoint-4"
cp -r "$A/iteration-1" "$B"
mistake 3 "b/iteration-0/synthetic.jsonl: no such file" --resume_from_checkpoint "$B/checkpoint-4"
mkdir "$B/iteration-0"
damaged() { # damaged WORDS SED: the samples of iteration 0, edited
    sed "$2" "$S" >"$B/iteration-0/synthetic.jsonl"
    mistake 3 "$1" --resume_from_checkpoint "$B/checkpoint-4"
}
damaged "b/iteration-0/synthetic.jsonl: not what the checkpoint was trained on" '3d'
damaged "synthetic.jsonl: not what the checkpoint was trained on" '5s/_ids": \[/&7,/'
damaged "synthetic.jsonl: not what the checkpoint was trained on" '5s/_ids": \[/&-1.5,"a",1e99,/'
damaged "synthetic.jsonl: not what the checkpoint was trained on" '5s/_ids": .*/_ids": 7}/'
damaged 'synthetic.jsonl:5: missing "generated_ids"' '5s/_ids/_id/'
damaged 'synthetic.jsonl:24:' '24s/]}//'
while read -r words flags; do
    spin $TINY --output_dir "$T/none" $flags --resume_from_checkpoint "$A/checkpoint-4" \
        >"$T/log" 2>&1
    check "resuming with $flags is refused" test $? -eq 3
    check "resuming with $flags: $words" grep -q -e \
        "^error: .*cannot resume: $words was .*, is now " "$T/log"
done <<END
--num_iterations --num_iterations 3
--num_train_epochs --num_train_epochs 2
--max_steps --max_steps 3
--beta --beta 0.5
--mix_previous --mix_previous false
--max_new_tokens --max_new_tokens 11
--temperature --temperature 0.9
--top_p --top_p 0.9
--generation_batch_size --generation_batch_size 3
--seed --seed 1
--weight_decay --weight_decay 1
data --dataset $T/eval.jsonl
END
check "and says which flag makes the data" grep -q "; see --dataset" "$T/log"
refuse "nothing was made there" test -e "$T/none"
run "$T/fresh" --num_iterations 3
check "overwriting" run "$T/fresh" --overwrite_output_dir
refuse "takes old iterations away" test -e "$T/fresh/iteration-2"

# ---- mistakes: flags -----------------------------------------------------------------------------

for flag in mix_previous share_prompt save_players gold; do
    mistake 2 "--$flag maybe: expected true or false" --$flag maybe
done
while read -r flag low high; do
    mistake 2 "--$flag $low: out of range (from" --$flag "$low"
    mistake 2 "--$flag $high: out of range (from" --$flag "$high"
    mistake 2 "--$flag nan: not a" --$flag nan
    mistake 2 "--$flag 1x: not a" --$flag 1x
    mistake 2 "--$flag needs a value" --$flag
done <<'END'
num_iterations 0 1001
beta 0 1000001
max_new_tokens 0 1048577
max_train_samples -1 1000000001
temperature -0.1 101
top_p 0 1.1
generation_batch_size 0 65537
eval_prompts -1 1000001
max_steps -2 1000000001
END
mistake 2 "unknown flag --ref_model" --ref_model "$M"
mistake 2 "--gold needs --eval_prompts" --gold --eval_prompts 0
mistake 2 "--gold needs held-out prompts" --gold
mistake 2 "--model is needed" --model ""
mistake 2 "--dataset is needed" --dataset ""
mistake 2 "--output_dir is empty" --output_dir ""

# ---- mistakes: files -----------------------------------------------------------------------------

mistake 3 "no such directory" --model "$T/none" --tokenizer data
mistake 3 "is a reward model, expected a language model" --model data/rm
mistake 3 "none.jsonl: no such file" --dataset "$T/none.jsonl"
bad() { # bad WORDS TEXT: as the data set, and as that for evaluation
    printf "$2" >"$T/bad.jsonl"
    mistake 3 "$1" --dataset "$T/bad.jsonl"
    mistake 3 "$1" --eval_dataset "$T/bad.jsonl"
}
strict() { # the same of what costs a row without --strict_data
    printf "$2" >"$T/bad.jsonl"
    mistake 3 "$1" --dataset "$T/bad.jsonl" --strict_data
    mistake 3 "$1" --eval_dataset "$T/bad.jsonl" --strict_data
}
bad "contains no records" ''
bad 'bad.jsonl:1: missing "completion" (keys: text)' '{"text": "The film"}\n'
bad 'bad.jsonl:1: missing "completion" (keys: prompt)' '{"prompt": "The film"}\n'
bad 'bad.jsonl:1: missing "prompt"' '{"completion": "The film"}\n'
bad 'bad.jsonl:1: missing "rejected"' '{"prompt": "The film", "chosen": "The film"}\n'
bad 'bad.jsonl:1: "completion" is a number' '{"prompt": "The film", "completion": 1}\n'
strict 'bad.jsonl:1: "prompt" is null' '{"prompt": null, "completion": " a"}\n'
bad 'bad.jsonl:1: "messages" is a string' '{"messages": "a"}\n'
strict 'bad.jsonl:1: "messages" has no messages' '{"messages": []}\n'
strict 'bad.jsonl:1: messages[0].role "bot"' '{"messages": [{"role": "bot", "content": "a"}]}\n'
bad "all 1 records were skipped" '{"prompt": "The film", "completion": ""}\n'
bad "all 1 records were skipped" '{"messages": [{"role": "user", "content": "a"}]}\n'
mistake 3 "all 24 records were skipped" --max_length 2

# A step far too long: weights overflow.
run "$T/wild" --max_steps 100 --learning_rate 10 --weight_decay 10 --max_grad_norm 0 \
    --lr_scheduler_type constant >"$T/said" 2>&1
check "a run that diverges ends with 5" test $? -eq 5
check "with one sentence" grep -q '^error: ' "$T/log"

finish spin
