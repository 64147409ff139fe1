#!/bin/sh
# Tests of train_sft as a user runs it, on a few records and a model of one layer: results, logs,
# resuming, and every mistake in flags, data and files. Run from the repository's root with BIN set
# to a build (build/plain, build/asan, build/clang). ALIGN_TEST_SEED moves the moments of the kills.
. test/helpers.sh
unset OMP_NUM_THREADS
trap '[ -z "$child" ] || kill -9 "$child"; umount "$T/disk" 2>"$T/said"; rm -rf "$T"' EXIT
chmod 755 "$T" # for what runs as another user

# the files below a directory with their content, and its directories
snapshot() {
    if [ -e "$1" ]; then
        find "$1" -type f -exec cksum {} + | sort
        find "$1" | sort
    else echo nothing; fi
}

sft() { timeout 120 "$BIN/train_sft" "$@"; }

# A run of the tiny model into the directory $1 with more flags; the log goes to $T/log.
TINY="--model_config $T/config.json --tokenizer data --dataset $T/train.jsonl --samples 0
      --per_device_train_batch_size 4 --learning_rate 0.003 --logging_steps 3 --save_steps 8
      --max_steps 20"
run() {
    to=$1
    shift
    logged sft $TINY --output_dir "$to" "$@"
}

# mistake CODE WORDS COMMAND...: the command complains and leaves $OUT as it was
OUT=$T/out
mistake() {
    before=$(snapshot "$OUT")
    complains "$@"
    [ "$before" = "$(snapshot "$OUT")" ] || amiss "the output directory has changed"
    shift 2
    judge "$@"
    [ "$before" != nothing ] || rm -rf "$OUT"
}

# The same for the tiny run with more flags into $OUT, which does not exist.
mistaken_run() {
    want=$1 words=$2
    shift 2
    mistake "$want" "$words" sft $TINY --output_dir "$OUT" "$@"
}

# The same for a run that starts from the model directory $T/bad.
mistaken_model() {
    mistake "$1" "$2" sft --model "$T/bad" --dataset "$T/train.jsonl" --max_steps 4 --samples 0 \
        --output_dir "$OUT"
}

# random N: sets $drawn to one of 0 .. N-1
seed=${ALIGN_TEST_SEED:-$$}
random() {
    seed=$(((seed * 1103515245 + 12345) % 2147483648))
    drawn=$((seed / 65536 % $1))
}

cat >"$T/config.json" <<'END'
{
  "model_type": "gpt2",
  "n_layer": 1,
  "n_embd": 32,
  "n_head": 2,
  "n_positions": 64
}
END
head -n 60 data/reviews_train.jsonl >"$T/train.jsonl"
head -n 20 data/reviews_eval.jsonl >"$T/eval.jsonl"

# ---- one run: 60 records in batches of 4 are 15 steps an epoch -----------------------------------

A=$T/a
check "a run with evaluation" run "$A" --eval_dataset "$T/eval.jsonl" --eval_steps 10
for file in run.json metrics.jsonl final/config.json final/model.safetensors final/vocab.json \
    final/merges.txt final/tokenizer.json final/tokenizer_config.json final/generation_config.json \
    checkpoint-8/trainer/optimizer.safetensors checkpoint-16/trainer/state.json; do
    check "the run leaves $file" test -s "$A/$file"
done
refuse "no checkpoint beside final at the last step" test -e "$A/checkpoint-20"
refuse "no temporary files are left" sh -c "find '$A' -name '.*' | grep ."
check "the log has a line for each row and names the results" \
    sh -c "grep -q '^step    20/20  loss' '$T/log' && grep -q 'eval_loss' '$T/log' &&
           grep -q 'model: $A/final' '$T/log' && grep -q '60 rows' '$T/log'"
check "rows of metrics.jsonl have TRL's keys" awk '
    BEGIN {
        train = "step epoch loss perplexity entropy mean_token_accuracy grad_norm learning_rate " \
                "num_tokens "
        eval = "step epoch eval_loss eval_perplexity eval_entropy eval_mean_token_accuracy "
    }
    !/^\{"step": [0-9]+, .*\}$/ { print "no row:", $0; bad = 1 }
    {
        keys = ""
        n = split($0, parts, "\"")
        for (i = 2; i <= n; i += 2) keys = keys parts[i] " "
        if (keys == train) trains++
        else if (keys == eval) evals++
        else { print "keys", keys; bad = 1 }
    }
    END { exit bad || trains != 7 || evals != 3 }' "$A/metrics.jsonl"
check "steps of the rows" \
    test "$(values step "$A/metrics.jsonl" | tr '\n' ' ')" = "0 3 6 9 10 12 15 18 20 20 "
check "values of metrics.jsonl are sane" awk -F'[:,}]' '
    function abs(x) { return x < 0 ? -x : x }
    /"loss"/ {
        rows++
        step = $2; epoch = $4; loss = $6; perplexity = $8; entropy = $10; accuracy = $12
        norm = $14; rate = $16; tokens = $18
        if (abs(epoch - step / 15) > 1e-6) bad = bad " epoch"
        if (abs(perplexity - exp(loss)) > 1e-6 * perplexity) bad = bad " perplexity"
        if (!(loss > 2 && loss < 8) || (rows > 1 && loss >= before)) bad = bad " loss"
        if (!(norm > 0.01 && norm < 100)) bad = bad " norm"
        if (abs(rate - 0.003 * (21 - step) / 20) > 1e-9) bad = bad " rate"
        if (!(entropy > 2 && entropy < 8)) bad = bad " entropy"
        if (!(accuracy >= 0 && accuracy <= 1)) bad = bad " accuracy"
        if (tokens <= seen || tokens > 64 * 4 * step) bad = bad " tokens"
        before = loss; seen = tokens
    }
    /"eval_loss"/ { if (evals++ && !($6 < eval)) bad = bad " eval_loss"; eval = $6 }
    END { print bad; exit bad != "" || rows != 7 || evals != 3 }' "$A/metrics.jsonl"

check "the same seed again" run "$T/again" --eval_dataset "$T/eval.jsonl" --eval_steps 10
same "the same seed gives the same log" "$A/metrics.jsonl" "$T/again/metrics.jsonl"
same "the same seed gives the same bits" "$A/final/model.safetensors" \
    "$T/again/final/model.safetensors"
check "run.json as --config" sft --config "$A/run.json" --output_dir "$T/config"
same "run.json makes the run again" "$A/metrics.jsonl" "$T/config/metrics.jsonl"
sed 's/"output_dir": .*/"output_dir": "X",/' "$A/run.json" >"$T/x"
sed 's/"output_dir": .*/"output_dir": "X",/' "$T/config/run.json" >"$T/y"
same "run.json comes back" "$T/x" "$T/y"
check "another seed" run "$T/seed" --eval_dataset "$T/eval.jsonl" --eval_steps 10 --seed 43
refuse "another seed gives other numbers" cmp "$A/metrics.jsonl" "$T/seed/metrics.jsonl"
check "more steps from a model directory, its own tokenizer" \
    sft --model "$A/final" --dataset "$T/train.jsonl" --max-steps 6 --logging-steps=2 --samples 1 \
    --max_new_tokens 4 --learning_rate 1e-3 --eval_split 0.25 --output_dir "$T/more"
check "they begin where the first run ended" awk -v last="$(values loss "$A/metrics.jsonl" |
    tail -n 1)" -v first="$(values loss "$T/more/metrics.jsonl" | head -n 1)" \
    'BEGIN { exit !(first < last + 0.3 && first > last - 1) }'
check "epochs instead of steps" run "$T/epochs" --max_steps -1 --num_train_epochs 0.5
check "half an epoch is 8 of 15 steps" test "$(values step "$T/epochs/metrics.jsonl" |
    tail -n 1)" -eq 8
sed -n 's/.*"completion": " *\(.*\)"}/\1/p' "$T/train.jsonl" >"$T/plain.txt"
check "a plain text" run "$T/plain" --dataset "$T/plain.txt" --max_length 32
sed 's/{"prompt": \(.*\), "completion": \(.*\)}/{"messages": [{"role": "user", "content": \1}, {"role": "assistant", "content": \2}]}/' \
    "$T/train.jsonl" >"$T/chat.jsonl"
check "messages" run "$T/chat" --dataset "$T/chat.jsonl" --chat_format simple
refuse "a plain form is no template" test -e "$T/chat/final/chat_template.jinja"
check "messages as ChatML" run "$T/chatml" --dataset "$T/chat.jsonl" --chat_format chatml
check "the template is saved" grep -q "<|im_start|>" "$T/chatml/final/chat_template.jinja"
tokens() { sed -n 's/.*: \([0-9]* rows, [0-9]* tokens\).*/\1/p' "$T/log"; }
tokens >"$T/x"
check "it is read" logged sft --model "$T/chatml/final" --dataset "$T/chat.jsonl" --max_steps 1 \
    --samples 0 --save_steps 0 --output_dir "$T/chatml2"
tokens >"$T/y"
same "and makes the same rows" "$T/x" "$T/y"
check "which are there" test -s "$T/x"
check "--help" sh -c "'$BIN/train_sft' --help >'$T/help' && grep -q -- '--learning_rate' '$T/help'"

# ---- gradient accumulation and threads: the same numbers but for rounding ------------------------

run "$T/one" --per_device_train_batch_size 8 --logging_steps 1
run "$T/four" --per_device_train_batch_size 2 --gradient_accumulation_steps 4 --logging_steps 1
run "$T/uneven" --per_device_train_batch_size 3 --gradient_accumulation_steps 3 --logging_steps 1
run "$T/nine" --per_device_train_batch_size 9 --logging_steps 1
run "$T/checkpointing" --per_device_train_batch_size 8 --logging_steps 1 --gradient_checkpointing
OMP_NUM_THREADS=1 run "$T/thread" --per_device_train_batch_size 8 --logging_steps 1
for pair in "four one" "uneven nine" "checkpointing one" "thread one"; do
    set -- $pair
    check "$1: the losses of $2" near "$T/$1/metrics.jsonl" "$T/$2/metrics.jsonl" loss 1e-5 0
    check "$1: the norms of $2" near "$T/$1/metrics.jsonl" "$T/$2/metrics.jsonl" grad_norm 1e-4 0
done

# ---- bfloat16: other products, the same training -------------------------------------------------

run "$T/bf16" --per_device_train_batch_size 8 --logging_steps 1 --bf16
check "--bf16: it says so" grep -q "products in bfloat16" "$T/log"
# factors are off by 2^-9, 2e-3; 20 steps later the losses are a few of these apart
check "--bf16: the losses of float, nearly" near "$T/bf16/metrics.jsonl" "$T/one/metrics.jsonl" \
    loss 1e-2 0
# (an Intel with AVX512-BF16 and without AMX multiplies in float all the same, and says so)
grep -q "this CPU's float is as fast" "$T/log" ||
    refuse "--bf16: not the weights of float" cmp -s "$T/bf16/final/model.safetensors" \
        "$T/one/final/model.safetensors"

# ---- resuming: bit for bit the straight run ------------------------------------------------------
# Rows of the log are written every 3 steps and an epoch has 15, so checkpoints 4 and 8 lie within
# a window of the log and an epoch, 16 at the begin of the second epoch, 12 at the end of a window.

# resumed TITLE DIR STEP [FLAG...]: a copy of DIR as it was at checkpoint STEP goes on to the end
resumed() {
    title=$1 from=$2 at=$3
    shift 3
    back_to "$from" "$at"
    check "$title" run "$T/resumed" --save_steps 4 --resume_from_checkpoint latest "$@"
    ends_as "$title" "$from" "step $at of 20"
    for file in trainer/optimizer.safetensors trainer/state.json model.safetensors; do
        same "$title: $file of the last checkpoint" "$from/checkpoint-16/$file" \
            "$T/resumed/checkpoint-16/$file"
    done
}

for threads in 1 2; do
    export OMP_NUM_THREADS=$threads
    S=$T/straight$threads
    check "a straight run, $threads threads" run "$S" --save_steps 4
    check "the same again, $threads threads" run "$T/twice" --save_steps 4 --overwrite_output_dir
    same "$threads threads: the same bits twice" "$S/final/model.safetensors" \
        "$T/twice/final/model.safetensors"
    for at in 4 8 12; do resumed "$threads threads, from step $at" "$S" $at; done
done
resumed "with accumulation" "$S" 8 --per_device_train_batch_size 4 --gradient_accumulation_steps 1
S=$T/straight_bf16
check "a straight run in bfloat16" run "$S" --save_steps 4 --bf16
resumed "in bfloat16" "$S" 8 --bf16
S=$T/cosine
set -- --lr_scheduler_type cosine --warmup_steps 5 --weight_decay 0.1 --eval_split 0.2 \
    --eval_steps 6 --per_device_train_batch_size 2 --gradient_accumulation_steps 2
check "cosine, decay, evaluation" run "$S" --save_steps 4 "$@"
resumed "with cosine, decay, evaluation" "$S" 8 "$@"
check "the checkpoint by its name" run "$T/elsewhere" --save_steps 4 "$@" \
    --resume_from_checkpoint "$S/checkpoint-8"
same "resumed into another directory: weights" "$S/final/model.safetensors" \
    "$T/elsewhere/final/model.safetensors"

# A damaged checkpoint is passed over for the one before it.
cp -r "$S/checkpoint-8" "$S/checkpoint-12" "$T/resumed"
rm -rf "$T/resumed/checkpoint-16" "$T/resumed/final"
printf x | dd of="$T/resumed/checkpoint-12/trainer/optimizer.safetensors" bs=1 seek=5000 \
    conv=notrunc 2>/dev/null
check "resuming beside a damaged checkpoint" run "$T/resumed" --save_steps 4 "$@" \
    --resume_from_checkpoint latest
check "it says which one it skips" grep -q 'warning: .*checkpoint-12 skipped: .*checksum' "$T/log"
same "and ends in the same place" "$S/final/model.safetensors" \
    "$T/resumed/final/model.safetensors"

# Another split of an update goes on, and says that it is not bit for bit; another update does not.
back_to "$T/straight2" 8
check "4 x 1 goes on as 2 x 2" run "$T/resumed" --save_steps 4 --resume_from_checkpoint latest \
    --per_device_train_batch_size 2 --gradient_accumulation_steps 2
check "it names both flags" grep -q 'warning: .*--per_device_train_batch_size was 4, is now 2, --gradient_accumulation_steps was 1, is now 2: .* not continue bit for bit' "$T/log"
check "the losses are the same" near "$T/resumed/metrics.jsonl" "$T/straight2/metrics.jsonl" \
    loss 1e-5 0

# stopped SIGNAL CODE SAVE_STEPS: a longer run into $T/stopped is interrupted at a random moment
LONG="--max_steps 400 --logging_steps 5"
check "a longer run" run "$T/long" $LONG --save_steps 13
stopped() {
    rm -rf "$T/stopped"
    "$BIN/train_sft" $TINY $LONG --save_steps "$3" --output_dir "$T/stopped" >"$T/log" 2>&1 &
    child=$!
    random 12
    until_rows $((3 + drawn)) "$T/stopped/metrics.jsonl"
    stop "$1"
    check "SIG$1 ends the run with $2 (it was $code)" test $code -eq "$2"
    refuse "SIG$1 comes before the end" test -e "$T/stopped/final"
}
for i in 1 2; do
    stopped TERM 143 0
    check "SIGTERM saves and says how to go on" \
        grep -q '^stopped at step .* of 400 and saved; go on with --resume_from_checkpoint latest$' \
        "$T/log"
    check "going on after SIGTERM" run "$T/stopped" $LONG --save_steps 0 \
        --resume_from_checkpoint latest
    same "after SIGTERM: weights" "$T/long/final/model.safetensors" \
        "$T/stopped/final/model.safetensors"
    same "after SIGTERM: log" "$T/long/metrics.jsonl" "$T/stopped/metrics.jsonl"
done
for i in 1 2 3; do
    stopped KILL 137 13
    check "going on after SIGKILL" run "$T/stopped" $LONG --save_steps 13 \
        --resume_from_checkpoint latest
    same "after SIGKILL: weights" "$T/long/final/model.safetensors" \
        "$T/stopped/final/model.safetensors"
    same "after SIGKILL: log" "$T/long/metrics.jsonl" "$T/stopped/metrics.jsonl"
    refuse "after SIGKILL: nothing temporary is left" sh -c "find '$T/stopped' -name '.*' | grep ."
done

# ---- the output directory ------------------------------------------------------------------------

cp -r "$A" "$OUT"
echo mine >"$OUT/notes.txt"
mistaken_run 2 "out: already has "
mistaken_run 2 "--overwrite_output_dir" --max_steps 3
mistaken_run 2 "--overwrite_output_dir would delete" --overwrite_output_dir \
    --resume_from_checkpoint latest
mistaken_run 3 "cannot resume: --seed was 42, is now 7" --seed 7 \
    --resume_from_checkpoint latest
mistaken_run 3 "--max_steps was 20, is now 30" --max_steps 30 --resume_from_checkpoint latest
mistaken_run 3 "--per_device_train_batch_size was 4, is now 5" --per_device_train_batch_size 5 \
    --resume_from_checkpoint latest
mistaken_run 3 "an update had 4 examples, is now to have 8" --resume_from_checkpoint latest \
    --gradient_accumulation_steps 2
mistaken_run 3 "an update had 4 examples, is now to have 6" --resume_from_checkpoint latest \
    --per_device_train_batch_size 3 --gradient_accumulation_steps 2
mistaken_run 3 "see --dataset" --dataset "$T/eval.jsonl" --resume_from_checkpoint latest
check "a data set that is another one: it is named, and what it was" grep -q -- \
    "--dataset was \"$T/train.jsonl\", is now \"$T/eval.jsonl\"" "$T/stderr"
mistaken_run 3 "--max_length was 1024, is now 20" --max_length 20 --resume_from_checkpoint latest
mistaken_run 3 "--completion_only_loss was true, is now false" --completion_only_loss false \
    --resume_from_checkpoint latest
mistaken_run 3 "--learning_rate was 0.003, is now 0.001" --learning_rate 0.001 \
    --resume_from_checkpoint latest
mistaken_run 3 "--bf16 was false, is now true" --bf16 --resume_from_checkpoint latest
mistaken_run 3 "no such directory" --resume_from_checkpoint "$OUT/checkpoint-9"
mistaken_run 3 "final: cannot resume: no trainer/manifest.json" \
    --resume_from_checkpoint "$OUT/final"
# What a flag names is not deleted, by whatever path it is named.
ln -s out/final "$T/link"
ln "$OUT/final/vocab.json" "$T/hard.json"
M="--dataset $T/train.jsonl --max_steps 4 --samples 0 --output_dir $OUT --overwrite_output_dir"
for model in out/final out/../out/final link link/../out/checkpoint-8; do
    mistake 2 "--overwrite_output_dir would delete" sft $M --model "$T/$model"
    check "the flag is named" grep -q -- "which --model names" "$T/stderr"
done
mistaken_run 2 "which --tokenizer names" --overwrite_output_dir --tokenizer "$OUT/checkpoint-8"
mistaken_run 2 "which --tokenizer names" --overwrite_output_dir --tokenizer "$T/link"
mistaken_run 2 "which --model_config names" --overwrite_output_dir \
    --model_config "$OUT/final/config.json"
mistaken_run 2 "which --eval_dataset names" --overwrite_output_dir \
    --eval_dataset "$OUT/metrics.jsonl"
mistaken_run 2 "which --dataset names" --overwrite_output_dir --dataset "$T/hard.json"
mistaken_run 2 "which --config names" --overwrite_output_dir --config "$OUT/run.json"
ln -s out/checkpoint-8 "$T/link8"
mistaken_run 2 "--overwrite_output_dir would delete" --overwrite_output_dir \
    --resume_from_checkpoint "$T/link8"
# A run that overwrites and is killed: all that was there is there.
for steps in 8 1000; do # after its first checkpoint, or before
    rm -rf "$T/over"
    cp -r "$A" "$T/over"
    "$BIN/train_sft" $TINY --max_steps 100000 --save_steps $steps --output_dir "$T/over" \
        --overwrite_output_dir >"$T/log" 2>&1 &
    child=$!
    until_there "$T/over/previous_run"
    until_rows 5 "$T/over/metrics.jsonl"
    stop KILL
    check "killed while overwriting: the run before is whole" diff -r "$A" "$T/over/previous_run"
    refuse "and there is no new model" test -e "$T/over/final"
done
check "overwriting again" run "$T/over" --overwrite_output_dir
same "the new model" "$T/over/final/model.safetensors" "$A/final/model.safetensors"
refuse "nothing is left of the runs before" test -e "$T/over/previous_run"
check "a model in OUT itself, beside the run" cp -r "$A"/final/. "$T/over"
check "training it further" sft --model "$T/over" --dataset "$T/train.jsonl" --max_steps 4 \
    --samples 0 --output_dir "$T/over" --overwrite_output_dir
same "leaves it there" "$A/final/model.safetensors" "$T/over/model.safetensors"
check "--overwrite_output_dir" run "$OUT" --overwrite_output_dir --save_steps 4 --save_total_limit 2
same "it begins anew" "$OUT/final/model.safetensors" "$A/final/model.safetensors"
check "it leaves what is not its own" grep -q mine "$OUT/notes.txt"
check "--save_total_limit 2 keeps the last two" \
    test "$(cd "$OUT" && echo checkpoint-*)" = "checkpoint-12 checkpoint-16"
check "the steps it kept can be resumed" run "$OUT" --save_steps 4 --save_total_limit 1 \
    --resume_from_checkpoint "$OUT/checkpoint-12"
check "--save_total_limit 1 keeps the last" test "$(cd "$OUT" && echo checkpoint-*)" = checkpoint-16
rm -rf "$OUT"
mkdir "$OUT"
check "an empty directory will do" run "$OUT" --save_steps 0
check "--save_steps 0 saves at the end only" test "$(cd "$OUT" && echo checkpoint-*)" = \
    "checkpoint-*"
rm -rf "$OUT"

# A second run while the first one writes.
"$BIN/train_sft" $TINY --max_steps 1000000 --save_steps 0 --output_dir "$T/busy" >"$T/first" 2>&1 &
child=$!
until_rows 1 "$T/busy/metrics.jsonl"
for flag in "" --overwrite_output_dir "--resume_from_checkpoint latest"; do
    sft $TINY --output_dir "$T/busy" $flag >"$T/log" 2>"$T/stderr"
    check "a second run $flag is refused" test $? -eq 4
    check "it says why" grep -q "^error: .*busy: another run is writing here" "$T/stderr"
done
check "the first run goes on" kill -s INT $child
wait $child
code=$? child=
check "SIGINT saves, too" test $code -eq 130 -a -e "$T"/busy/checkpoint-*/trainer/manifest.json

# ---- flags ---------------------------------------------------------------------------------------

mistaken_run 2 "unknown flag --learning_rat; did you mean --learning_rate?" --learning_rat 1
mistaken_run 2 "unexpected argument extra" extra
mistaken_run 2 "--seed needs a value" --seed
mistaken_run 2 "expected one of linear|cosine|cosine_with_restarts" --lr_scheduler_type steps
mistaken_run 2 "expected one of auto|chatml|llama2|zephyr|hh|simple" --chat_format chat
mistaken_run 2 "expected one of prompt_first|keep_start" --truncation_mode keep_end
for flag in completion_only_loss no_decay_embeddings gradient_checkpointing \
    overwrite_output_dir; do
    mistaken_run 2 "--$flag maybe: expected true or false" --$flag maybe
done

# Every numeric flag: name, just below its range, just above it.
cat >"$T/ranges" <<'END'
eval_split -0.001 0.91
max_length 1 1048577
num_train_epochs 0 1000001
max_steps -2 1000000000001
per_device_train_batch_size 0 65537
gradient_accumulation_steps 0 65537
learning_rate -1e-9 10.001
warmup_steps -1 1000000001
weight_decay -1e-9 10.001
adam_beta1 -1e-9 1
adam_beta2 -1e-9 1
adam_epsilon 0 1.001
max_grad_norm -1e-9 1.1e9
seed -1 9000000000000001
logging_steps 0 1000000001
eval_steps -1 1000000001
per_device_eval_batch_size 0 65537
save_steps -1 1000000001
save_total_limit -1 1000000001
samples -1 101
max_new_tokens 0 1048577
END
while read -r flag low high; do
    mistaken_run 2 "--$flag $low: out of range (from" "--$flag" "$low"
    mistaken_run 2 "--$flag $high: out of range (from" "--$flag=$high"
    mistaken_run 2 "--$flag 4x: not a" --$flag 4x
    mistaken_run 2 "--$flag nan: not a" --$flag nan
    mistaken_run 2 "--$flag : not a" --$flag ""
    mistaken_run 2 "--$flag 1e999: " --$flag 1e999
done <"$T/ranges"
sed -n 's/^  "\([a-z_0-9]*\)": [-0-9].*/\1/p' "$A/run.json" | sort >"$T/x"
cut -d ' ' -f 1 "$T/ranges" | sort >"$T/y"
same "no numeric flag is forgotten here" "$T/x" "$T/y"

D="--dataset $T/train.jsonl --output_dir $OUT"
C="--model_config $T/config.json"
mistake 2 "--dataset is needed" sft $C --tokenizer data --output_dir "$OUT"
mistake 2 "--dataset is needed" sft $C --tokenizer data --output_dir "$OUT" --dataset ""
mistake 2 "give either --model or --model_config" sft $D --tokenizer data
mistake 2 "give either --model or --model_config" sft $D $C --tokenizer data --model "$A/final"
mistake 2 "--model_config needs --tokenizer" sft $D $C
mistaken_run 2 "--output_dir is empty" --output_dir ""
mistaken_run 3 "missing.json: no such file" --config "$T/missing.json"
echo '{"learning_rate": 1e-4,}' >"$T/bad.json"
mistaken_run 3 "bad.json:1:2" --config "$T/bad.json"
echo '{"beta": 0.1}' >"$T/bad.json"
mistaken_run 2 'bad.json: unknown flag "beta"' --config "$T/bad.json"

# ---- model directories ---------------------------------------------------------------------------

# bad_model: a fresh copy of a good model in $T/bad
bad_model() {
    rm -rf "$T/bad"
    cp -r "$A/final" "$T/bad"
}
edit() { # edit FILE SED-SCRIPT
    sed "$2" "$1" >"$T/edited" && cat "$T/edited" >"$1"
}
W=$T/bad/model.safetensors
rm -rf "$T/bad"
mistaken_model 3 "bad: no such directory"
echo x >"$T/bad"
mistaken_model 3 "bad: is a file, expected a checkpoint directory"
rm "$T/bad" && cp -r data/rm "$T/bad"
mistaken_model 3 "bad: is a reward model, expected a language model"
bad_model
rm "$T/bad/config.json"
mistaken_model 3 "bad: no config.json"
bad_model
rm "$W"
mistaken_model 3 "bad: no model.safetensors"
echo x >"$T/bad/pytorch_model.bin"
mistaken_model 3 "found pytorch_model.bin"
bad_model
head -c 5 "$A/final/model.safetensors" >"$W"
mistaken_model 3 "5 bytes, too short for a safetensors file"
head -c 500 "$A/final/model.safetensors" >"$W"
mistaken_model 3 "runs past end of file"
head -c 100000 "$A/final/model.safetensors" >"$W"
mistaken_model 3 "file truncated"
cat "$A/final/model.safetensors" >"$W"
echo x >>"$W"
mistaken_model 3 "2 unexplained bytes after the last tensor"
bytes=$(wc -c <"$A/final/model.safetensors")
for value in 'NaN \377\377\377\177' 'Inf \000\000\200\177'; do
    cat "$A/final/model.safetensors" >"$W"
    printf "${value#* }" | dd of="$W" bs=1 seek=$((bytes - 4)) conv=notrunc 2>/dev/null
    mistaken_model 3 "has ${value% *} at element"
done
printf 'version https://git-lfs.github.com/spec/v1\n' >"$W"
mistaken_model 3 "is a Git LFS pointer"
bad_model
edit "$T/bad/config.json" 's/"n_layer": 1/"n_layer": 2/'
mistaken_model 3 'missing tensor "h.1.'
bad_model
edit "$T/bad/config.json" 's/"n_embd": 32/"n_embd": 64/'
mistaken_model 3 "config needs ["
edit "$T/bad/config.json" 's/"n_embd": 64/"n_embd": 33/'
mistaken_model 3 "n_embd 33 not divisible by n_head 2"
bad_model
edit "$T/bad/config.json" 's/"n_positions": 64/"n_positions": 65/'
mistaken_model 3 "config needs [65,32]"
bad_model
vocab=$(sed -n 's/.*"vocab_size": \([0-9]*\).*/\1/p' "$T/bad/config.json")
edit "$T/bad/config.json" "s/\"vocab_size\": $vocab/\"vocab_size\": $((vocab + 7))/"
mistaken_model 3 "vocab_size $((vocab + 7)) but wte.weight has $vocab rows"
bad_model
edit "$T/bad/config.json" 's/"gpt2"/"llama"/'
mistaken_model 3 'model_type "llama", only "gpt2" is supported'
bad_model
edit "$T/bad/config.json" 's/"n_head": 2/"n_head": "2"/'
mistaken_model 3 'n_head: "2" is a string'
bad_model
edit "$T/bad/config.json" 's/"n_head": 2,/"n_head": 2/'
mistaken_model 3 "config.json:"
mistaken_run 3 "no such file" --model_config "$T/missing.json"
echo '{"model_type": "gpt2", "n_layer": 0}' >"$T/bad.json"
mistaken_run 3 "n_layer 0 is out of range" --model_config "$T/bad.json"

# ---- tokenizers ----------------------------------------------------------------------------------

mistaken_run 3 "no such" --tokenizer "$T/missing"
bad_model
rm "$T/bad/merges.txt" "$T/bad/tokenizer.json" # which would do without it
mistaken_model 3 "merges.txt: no such file"
bad_model
rm "$T/bad/vocab.json" "$T/bad/tokenizer.json"
mistaken_model 3 "vocab.json: no such file"
echo '{"a": 0, "b": 1}' >"$T/bad/vocab.json"
mistaken_model 3 "vocab.json"
echo '{"a": 0' >"$T/bad/vocab.json"
mistaken_model 3 "vocab.json:"
bad_model
rm "$T/bad/tokenizer.json"
edit "$T/bad/vocab.json" "s/}\$/, \"zzzz\": $vocab}/"
mistaken_model 3 "the tokenizer has $((vocab + 1)) tokens, the model's vocab_size is $vocab"
bad_model
rm "$T/bad/tokenizer.json"
edit "$T/bad/merges.txt" '5s/$/ x/'
mistaken_model 3 "merges.txt:5: expected two tokens"

# ---- data ----------------------------------------------------------------------------------------

# mistaken_data WORDS TEXT: a data set with this text (printf)
mistaken_data() {
    printf "$2" >"$T/data.jsonl"
    mistaken_run 3 "$1" --dataset "$T/data.jsonl"
    mistaken_run 3 "$1" --eval_dataset "$T/data.jsonl"
}
mistaken_run 3 "missing.jsonl: no such file" --dataset "$T/missing.jsonl"
mistaken_run 3 "data/sft: no .jsonl, .json or .txt file in it for train" --dataset data/sft
mistaken_run 3 "missing.jsonl: no such file" --eval_dataset "$T/missing.jsonl"
mistaken_data "data.jsonl: contains no records" ''
mistaken_data "data.jsonl: contains no records" '\n  \n\n'
mistaken_data "all 2 records were skipped" \
    '{"prompt": "a", "completion": ""}\n{"prompt": "b", "completion": " \\n"}\n'
mistaken_data "data.jsonl:2:" '{"text": "a"}\nThe film was good.\n'
mistaken_data "data.jsonl:1:11: JSON error" '{"text": "a}\n'
mistaken_data 'data.jsonl:1:15: duplicate key "text"' '{"text": "a", "text": "b"}\n'
mistaken_data 'data.jsonl:1: missing "text", "messages", or "prompt" and "completion"' \
    '{"prompts": "a", "completions": "b"}\n'
mistaken_data 'data.jsonl:1: missing "completion" (keys: prompt, chosen)' \
    '{"prompt": "a", "chosen": "b"}\n'
mistaken_data '"text" is a number, expected a string' '{"text": 7}\n'
printf '{"text": "a"}\n{"text": "\377"}\n' >"$T/data.jsonl"
mistaken_run 3 'data.jsonl:2: "text" contains a byte that is not UTF-8' --dataset "$T/data.jsonl" \
    --strict_data
printf '{"messages": [{"role": "bot", "content": "a"}]}\n' >"$T/data.jsonl"
mistaken_run 3 'messages[0].role "bot"' --dataset "$T/data.jsonl" --strict_data
mistaken_data "data.jsonl:1:15: JSON error: the array has no end" '[{"text": "a"}'
mistaken_data "looks like pretty-printed JSON" '{\n  "text": "a"\n}\n'
mistaken_data "is damaged or cut short: gzip -dc" '\037\213\010\000'
mistaken_run 3 'missing "review" (keys: prompt, completion)' --dataset_text_field review
printf '{"text": "one"}\n' >"$T/data.jsonl"
mistaken_run 3 "cannot be split" --dataset "$T/data.jsonl" --eval_split 0.5
printf 'caf\351\n' >"$T/data.txt"
mistaken_run 3 "data.txt:1:4: invalid UTF-8 byte 0xE9" --dataset "$T/data.txt"
sed 's/64/4/' "$T/config.json" >"$T/small.json"
printf '{"prompt": "One two three four five six", "completion": " seven"}\n' >"$T/data.jsonl"
mistaken_run 3 "all 1 records were skipped" --model_config "$T/small.json" \
    --dataset "$T/data.jsonl"
check "a context that is too small is named" \
    grep -q 'warning: .*data.jsonl:1: prompt has [0-9]* tokens, context is 4: skipped' "$T/stderr"

# ---- disks ---------------------------------------------------------------------------------------

echo x >"$T/file"
mistaken_run 4 "file: is a file, expected a directory" --output_dir "$T/file"
mistaken_run 4 "file" --output_dir "$T/file/below"
check "the file is still there" grep -q x "$T/file"

# A directory that this user must not write.
mkdir "$T/closed"
chmod 555 "$T/closed"
as=
[ "$(id -u)" -ne 0 ] || as="setpriv --reuid=65534 --regid=65534 --clear-groups"
if $as test -x "$BIN/train_sft" -a -r data/vocab.json -a ! -w "$T/closed" 2>/dev/null; then
    for to in closed closed/new/out; do
        mistake 4 "$to: cannot write in $T/closed" \
            $as timeout 60 "$BIN/train_sft" $TINY --output_dir "$T/$to"
    done
    refuse "nothing was made there" test -e "$T/closed/new"
else skip "a directory that must not be written (runs as root, without setpriv)"; fi

# A full disk: a small tmpfs where that can be mounted, else a limit on the size of files.
S=$T/straight2
export OMP_NUM_THREADS=2
mkdir "$T/disk"
if mount -t tmpfs -o size=1400k none "$T/disk" 2>/dev/null; then
    # fits checkpoint-4 and its like once, but not a second time
    mistake 4 "checkpoint-4 is kept" sft $TINY --save_steps 4 --output_dir "$T/disk/out"
    check "only whole things are left" \
        test "$(cd "$T/disk/out" && echo .[a-z]* *)" = ".[a-z]* checkpoint-4 metrics.jsonl run.json"
    cp -r "$T/disk/out" "$T/full"
    check "going on where there is room" run "$T/full" --save_steps 4 \
        --resume_from_checkpoint latest
    same "after the full disk: weights" "$S/final/model.safetensors" \
        "$T/full/final/model.safetensors"
    umount "$T/disk"
else skip "a full disk (no tmpfs can be mounted here)"; fi
rm -rf "$T/full"
mkdir "$T/full"
cp -r "$S/checkpoint-4" "$S/metrics.jsonl" "$T/full"
(
    ulimit -f 200 # blocks of 512 bytes: less than the weights have
    run "$T/full" --save_steps 4 --resume_from_checkpoint latest >"$T/said"
    exit $code
)
check "a file that cannot grow ends the run with 4" test $? -eq 4
check "one sentence says what happened" \
    grep -q '^error: .*checkpoint-8: cannot write .*File too large; checkpoint-4 is kept' "$T/log"
check "the checkpoint before is left, and nothing else" \
    test "$(cd "$T/full" && echo .[a-z]* *)" = ".[a-z]* checkpoint-4 metrics.jsonl run.json"
check "going on without the limit" run "$T/full" --save_steps 4 --resume_from_checkpoint latest
same "after the limit: weights" "$S/final/model.safetensors" "$T/full/final/model.safetensors"
unset OMP_NUM_THREADS

# ---- a run that diverges -------------------------------------------------------------------------
# Decay far beyond sense multiplies the weights by -99 at each step, until they overflow.

sft $TINY --max_steps 100 --learning_rate 10 --weight_decay 10 --max_grad_norm 0 --save_steps 1 \
    --lr_scheduler_type constant --output_dir "$T/wild" >"$T/log" 2>"$T/stderr"
check "a run that diverges ends with 5" test $? -eq 5
check "with step and values, in one line" sh -c "test \$(wc -l <'$T/stderr') -eq 1 &&
    grep -q '^error: step [0-9]*: loss is .*, gradient norm .*last good checkpoint' '$T/stderr'"
refuse "there is no final model" test -e "$T/wild/final"
last=$(ls -d "$T"/wild/checkpoint-* | sed 's/.*-//' | sort -n | tail -n 1)
check "the message names the newest checkpoint" grep -q "checkpoint-$last\$" "$T/stderr"
# 0: it can be loaded and evaluated; 5: it can be loaded, and its loss is beyond all bounds at once
for step in 1 "$last"; do
    sft --model "$T/wild/checkpoint-$step" --max_steps 1 --learning_rate 0 --samples 0 \
        --dataset "$T/train.jsonl" --output_dir "$T/after$step" >"$T/log" 2>&1
    code=$?
    check "checkpoint-$step can be loaded" test $code -eq 0 -o $code -eq 5 -a "$step" -gt 1
done

finish programs
