#!/bin/sh
# Tests of train_dpo as a user runs it, on a few pairs and a model of one layer from train_sft:
# first steps, equal ways to the same numbers, the file of reference log-probs, resuming, and the
# mistakes that only this program knows (test_programs.sh has those of all). Run from the
# repository's root with BIN set to a build (build/plain, build/asan, build/clang).
. test/helpers.sh
unset OMP_NUM_THREADS

# A run of the tiny model into the directory $1 with more flags; the log goes to $T/log.
M=$T/model
TINY="--model $M --dataset $T/train.jsonl --samples 0 --per_device_train_batch_size 4
      --learning_rate 0.001 --logging_steps 1 --save_steps 0 --max_steps 6"
dpo() { timeout 120 "$BIN/train_dpo" "$@"; }
run() {
    to=$1
    shift
    logged dpo $TINY --output_dir "$to" "$@"
}

# mistake CODE WORDS [FLAG...]: a run into $OUT with these flags complains and leaves nothing there
OUT=$T/out
mistake() {
    want=$1 words=$2
    shift 2
    complains "$want" "$words" dpo $TINY --output_dir "$OUT" "$@"
    [ ! -e "$OUT" ] || amiss "there is an output directory"
    judge "train_dpo $*"
    rm -rf "$OUT"
}

# near_all WHAT DIR DIR TOLERANCE: all that the step does agrees
near_all() {
    for key in loss rewards/chosen rewards/margins logps/rejected entropy grad_norm; do
        check "$1: $key" near "$T/$2/metrics.jsonl" "$T/$3/metrics.jsonl" $key "$4"
    done
}

pairs_from 1 >"$T/train.jsonl"
pairs_from 101 >"$T/eval.jsonl"
tiny_model 40

# ---- one run -------------------------------------------------------------------------------------

A=$T/a
set -- --eval_dataset "$T/eval.jsonl" --eval_steps 4 --samples 2 --max_new_tokens 20 \
    --eval_prompts 10 --gold
check "a run with evaluation and samples" run "$A" "$@"
for file in run.json metrics.jsonl final/config.json final/model.safetensors \
    final/tokenizer.json; do
    check "the run leaves $file" test -s "$A/$file"
done
check "the log tells what happened" sh -c "grep -q '^step     6/6  loss' '$T/log' &&
    grep -q 'eval_loss' '$T/log' && grep -q 'model: $A/final' '$T/log' &&
    grep -q '40 pairs' '$T/log' && grep -q '^gold score .* before, .* after' '$T/log' &&
    grep -q '^10 samples: KL to the reference ' '$T/log' && grep -q 'after training' '$T/log'"
check "rows of metrics.jsonl have TRL's keys" awk '
    BEGIN {
        n = split("loss rewards/chosen rewards/rejected rewards/margins rewards/accuracies " \
                  "logps/chosen logps/rejected logits/chosen logits/rejected entropy " \
                  "mean_token_accuracy", names, " ")
        train = eval = "step epoch "
        texts = "step epoch samples/kl samples/kl_error samples/gold samples/gold_error "
        for (i = 1; i <= n; i++) { train = train names[i] " "; eval = eval "eval_" names[i] " " }
        train = train "grad_norm learning_rate num_tokens "
    }
    {
        keys = ""
        n = split($0, parts, "\"")
        for (i = 2; i <= n; i += 2) keys = keys parts[i] " "
        if (keys == train) trains++
        else if (keys == eval) evals++
        else if (keys == texts) samples++
        else { print "keys", keys; bad = 1 }
    }
    END { exit bad || trains != 6 || evals != 3 || samples != 2 }' "$A/metrics.jsonl"
check "values of metrics.jsonl are sane" awk -F'[:,}]' '
    function abs(x) { return x < 0 ? -x : x }
    /"loss"/ {
        step = $2; epoch = $4; loss = $6; chosen = $8; rejected = $10; margin = $12; right = $14
        if (abs(epoch - step / 10) > 1e-6) bad = bad " epoch"
        if (abs(chosen - rejected - margin) > 1e-6) bad = bad " margin"
        if (right < 0 || right > 1) bad = bad " accuracy"
        if (!($16 < 0 && $18 < 0)) bad = bad " logps"
        if (!($20 < 0 && $22 < 0 && $20 > -20 && $22 > -20)) bad = bad " logits"
        if (!($24 > 0 && $24 < 8)) bad = bad " entropy"
        if (!($26 >= 0 && $26 < 1)) bad = bad " token accuracy"
        if (abs($30 - 0.001 * (7 - step) / 6) > 1e-9) bad = bad " rate"
        if ($32 <= seen) bad = bad " tokens"
        seen = $32
    }
    END { print bad; exit bad != "" }' "$A/metrics.jsonl"
for key in loss eval_loss; do
    check "$key begins at ln 2" first $key "$A/metrics.jsonl" 0.69314718
done
values rewards/margins "$A/metrics.jsonl" | head -n 1 >"$T/x"
echo 0 >"$T/y"
check "rewards begin at 0" columns "$T/x" "$T/y" 0 1e-5
check "the same seed again" run "$T/again" "$@"
same "the same seed gives the same log" "$A/metrics.jsonl" "$T/again/metrics.jsonl"
same "and the same bits" "$A/final/model.safetensors" "$T/again/final/model.safetensors"
check "run.json as --config" dpo --config "$A/run.json" --output_dir "$T/config"
same "run.json makes the run again" "$A/metrics.jsonl" "$T/config/metrics.jsonl"

check "a part of the pairs for evaluation, cut at the end" run "$T/split" --eval_split 0.25 \
    --truncation_mode keep_start --max_length 20
check "it says how many" grep -q '; 10 pairs kept for evaluation' "$T/log"
check "and evaluates before and after" \
    test "$(values eval_loss "$T/split/metrics.jsonl" | wc -l)" -eq 2

# Training on few pairs for long separates them.
check "a longer run" run "$T/long" --max_steps 60 --logging_steps 10
check "margins and accuracies rise" sh -c "tail -n 1 '$T/long/metrics.jsonl' | awk -F'[:,}]' '
    { exit !(\$6 < 0.6 && \$12 > 0.3 && \$14 > 0.8) }'"

# ---- every loss ----------------------------------------------------------------------------------
# What l(0) is; beta 0.25 makes IPO's 1 / (2 beta) = 2.

# falls FILE: the second loss is below the first
falls() { values loss "$1" | awk '{ x[NR] = $1 } END { exit !(NR == 2 && x[2] < x[1]) }'; }
while read -r name want flags; do
    check "$name" run "$T/loss_$name" --loss_type $flags --max_steps 2 --beta 0.25 \
        --per_device_train_batch_size 40
    check "$name: loss of the first step" first loss "$T/loss_$name/metrics.jsonl" "$want"
    check "$name: the second is lower" falls "$T/loss_$name/metrics.jsonl"
done <<'END'
sigmoid 0.69314718 sigmoid
ipo 4 ipo
ipo_sum 4 ipo_sum
hinge 1 hinge
robust 0.69314718 robust --label_smoothing 0.1
cdpo 0.69314718 sigmoid --label_smoothing 0.1
END
refuse "label smoothing changes DPO" cmp "$T/loss_sigmoid/metrics.jsonl" \
    "$T/loss_cdpo/metrics.jsonl"
refuse "ipo is not ipo_sum" cmp "$T/loss_ipo/metrics.jsonl" "$T/loss_ipo_sum/metrics.jsonl"

check "sft_weight" run "$T/rpo" --sft_weight 0.5 --max_steps 2
values nll_loss "$T/rpo/metrics.jsonl" |
    awk '{ print "{\"loss\": " 0.69314718 + 0.5 * $1 "}"; exit }' >"$T/sum.jsonl"
head -n 1 "$T/rpo/metrics.jsonl" >"$T/first.jsonl"
check "sft_weight adds the NLL" near "$T/first.jsonl" "$T/sum.jsonl" loss 1e-5

# ---- equal ways ----------------------------------------------------------------------------------

run "$T/one" --per_device_train_batch_size 8 --sft_weight 0.2
run "$T/four" --per_device_train_batch_size 2 --gradient_accumulation_steps 4 --sft_weight 0.2
run "$T/uneven" --per_device_train_batch_size 3 --gradient_accumulation_steps 3
run "$T/nine" --per_device_train_batch_size 9
run "$T/apart" --per_device_train_batch_size 8 --sft_weight 0.2 --share_prompt false
run "$T/checkpointing" --per_device_train_batch_size 8 --sft_weight 0.2 --gradient_checkpointing
run "$T/online" --per_device_train_batch_size 8 --sft_weight 0.2 --sync_ref_model
run "$T/other" --per_device_train_batch_size 8 --sft_weight 0.2 --ref_model "$M"
OMP_NUM_THREADS=1 run "$T/thread" --per_device_train_batch_size 8 --sft_weight 0.2
near_all "8 pairs and 4 times 2" four one 1e-5
near_all "9 pairs and 3 times 3, the last update of an epoch short" uneven nine 1e-5
near_all "a shared prompt and two rows" apart one 1e-5
near_all "recomputed activations" checkpointing one 1e-5
near_all "a reference that is asked at each step" online one 1e-5
near_all "one thread and two" thread one 1e-4
same "the model's own directory as the reference" "$T/other/metrics.jsonl" "$T/one/metrics.jsonl"

# TR-DPO: with alpha 1 after each step the reference is the policy, and the loss stays at l(0).
check "sync_ref_model" run "$T/sync" --sync_ref_model --ref_model_sync_steps 1 \
    --ref_model_mixup_alpha 1
yes '{"loss": 0.69314718}' | head -n 6 >"$T/ln2.jsonl"
check "a reference that follows at once" near "$T/sync/metrics.jsonl" "$T/ln2.jsonl" loss 1e-5

# ---- the file of reference log-probs -------------------------------------------------------------

C=$T/cache
cached() { # cached WHAT WORDS [FLAG...]: a run with the cache $C says these words, and is the same
    title=$1 words=$2
    shift 2
    rm -rf "$T/with"
    check "$title" run "$T/with" --ref_cache_dir "$C" "$@"
    check "$title: \"$words\"" grep -q "$words" "$T/log"
    [ $# -gt 0 ] || same "$title: the same numbers" "$T/with/metrics.jsonl" "$T/plain/metrics.jsonl"
}
run "$T/plain"
cached "no file yet" "reference log-probs of 40 pairs in .*, kept in $C/"
check "it is one file" test "$(ls -A "$C" | wc -l)" -eq 1
check "of 8 bytes a pair and 32 more" test "$(cat "$C"/*.ref | wc -c)" -eq 352
F=$(echo "$C"/*.ref)
cp "$F" "$T/good.ref"
cached "a file that is there" "reference log-probs of 40 pairs from $F"
same "it is left alone" "$F" "$T/good.ref"
printf xyzzy | dd of="$F" bs=1 seek=100 conv=notrunc 2>/dev/null
cached "a damaged file" "^warning: $F: is damaged; the reference log-probs are computed again"
same "it is made again" "$F" "$T/good.ref"
head -c 200 "$T/good.ref" >"$F"
cached "a torn file" "^warning: $F: is damaged"
same "it is made again" "$F" "$T/good.ref"
cached "other data" "in .*, kept in" --dataset "$T/eval.jsonl"
G=$(ls "$C"/*.ref | grep -v "$F")
cp "$G" "$F"
cached "the file of other data" "^warning: $F: belongs to another reference or other data"
cached "another reference" "in .*, kept in" --ref_model "$A/final"
cached "shorter rows" "in .*, kept in" --max_length 30
touch "$C/.tmp-x.ref-999999"
cached "all as before" "pairs from $F"
check "four files" test "$(ls "$C" | wc -l)" -eq 4
echo x >"$T/file"
check "a cache that cannot be written" run "$T/with2" --ref_cache_dir "$T/file"
check "costs a warning" grep -q "^warning: $T/file/.*: cannot keep the reference log-probs: Not a" \
    "$T/log"
same "and no more" "$T/with2/metrics.jsonl" "$T/plain/metrics.jsonl"
check "without --ref_cache_dir it lies beside the output" test -d "$T/ref_logps"

# ---- resuming: bit for bit the straight run ------------------------------------------------------
# An epoch has 10 steps and the log a row each 3: step 4 and 8 lie within, 12 begins a second epoch.

resumed() { # resumed TITLE STEP [FLAG...]
    title=$1 at=$2
    shift 2
    rm -rf "$T/straight" "$T/resumed"
    set -- --max_steps 14 --logging_steps 3 --save_steps 4 --eval_dataset "$T/eval.jsonl" \
        --eval_steps 5 "$@"
    check "$title: straight" run "$T/straight" "$@"
    mkdir "$T/resumed"
    cp -r "$T/straight/checkpoint-$at" "$T/straight/metrics.jsonl" "$T/resumed"
    check "$title" run "$T/resumed" --resume_from_checkpoint latest "$@"
    ends_as "$title" "$T/straight" "step $at of 14"
}
resumed "from step 4" 4
resumed "from step 8, RPO" 8 --sft_weight 0.3 --lr_scheduler_type cosine --warmup_steps 3
OMP_NUM_THREADS=1 resumed "from step 12, one thread" 12 --loss_type ipo
resumed "from step 8, TR-DPO" 8 --sync_ref_model --ref_model_sync_steps 3
rm -rf "$T/straight" "$T/resumed"
check "a run to resume" run "$T/stop" --max_steps 14 --save_steps 4
while read -r words flags; do
    dpo $TINY --output_dir "$T/stop2" --max_steps 14 --save_steps 4 $flags \
        --resume_from_checkpoint "$T/stop/checkpoint-8" >"$T/log" 2>&1
    check "resuming with $flags is refused" test $? -eq 3
    check "resuming with $flags: $words" grep -q "^error: .*cannot resume: .*$words" "$T/log"
done <<END
--beta.was.0.1,.is.now.0.2 --beta 0.2
--loss_type.was --loss_type hinge
--sft_weight.was --sft_weight 1
see.*--ref_model --ref_model $A/final
--seed.was --seed 1
see.*--dataset --dataset $T/eval.jsonl
END
refuse "nothing was made there" test -e "$T/stop2"

"$BIN/train_dpo" $TINY --max_steps 1000000 --output_dir "$T/term" >"$T/log" 2>&1 &
child=$!
until_rows 3 "$T/term/metrics.jsonl"
stop TERM
check "SIGTERM ends the run with 143 (it was $code)" test $code -eq 143
check "it saves and says how to go on" grep -q '^stopped at step .* and saved; go on with' "$T/log"
check "there is a checkpoint" sh -c "ls '$T'/term/checkpoint-*/trainer/state.json"

# ---- mistakes: flags -----------------------------------------------------------------------------

mistake 2 "--loss_type kto: expected one of sigmoid|ipo|ipo_sum|hinge|robust" --loss_type kto
for flag in sync_ref_model share_prompt gold; do
    mistake 2 "--$flag maybe: expected true or false" --$flag maybe
done
while read -r flag low high; do
    mistake 2 "--$flag $low: out of range (from" --$flag "$low"
    mistake 2 "--$flag $high: out of range (from" --$flag "$high"
    mistake 2 "--$flag nan: not a" --$flag nan
    mistake 2 "--$flag 1x: not a" --$flag 1x
    mistake 2 "--$flag needs a value" --$flag
done <<'END'
beta 0 1000001
label_smoothing -0.1 0.5
sft_weight -0.1 1000001
ref_model_mixup_alpha -0.1 1.1
ref_model_sync_steps 0 1000000001
eval_prompts -1 1000001
END
mistake 2 "--beta -1: out of range" --beta -1
for type in ipo ipo_sum hinge; do
    mistake 2 "--label_smoothing is not used by --loss_type $type" --loss_type $type \
        --label_smoothing 0.1
done
mistake 2 "--ref_model_mixup_alpha is not used without --sync_ref_model" --ref_model_mixup_alpha 0.5
mistake 2 "--ref_model_sync_steps is not used without --sync_ref_model" --ref_model_sync_steps 5
mistake 2 "--ref_cache_dir is not used with --sync_ref_model" --sync_ref_model --ref_cache_dir "$C"
mistake 2 "--gold needs --eval_prompts" --gold
mistake 2 "--model is needed" --model ""
mistake 2 "--dataset is needed" --dataset ""
mistake 2 "--output_dir is empty" --output_dir ""

# ---- mistakes: files -----------------------------------------------------------------------------

mistake 3 "no such directory" --model "$T/none" --tokenizer data
mistake 3 "no such directory" --ref_model "$T/none"
mistake 3 "data/rm: is a reward model, expected a language model" --model data/rm
mistake 3 "data/rm: is a reward model, expected a language model" --ref_model data/rm
cp -r test/golden/tiny_gpt2 "$T/foreign"
mistake 3 "the reference's vocabulary has" --ref_model "$T/foreign"
sed 's/"n_head": 2/"n_head": 1/; s/"n_embd": 32/"n_embd": 16/' "$T/config.json" >"$T/thin.json"
timeout 120 "$BIN/train_sft" --model_config "$T/thin.json" --tokenizer data --dataset \
    data/reviews_eval.jsonl --max_steps 1 --samples 0 --output_dir "$T/thin" >"$T/log" 2>&1
mistake 3 "--sync_ref_model needs a reference of the model's shape" --ref_model "$T/thin/final" \
    --sync_ref_model
check "another shape will do without" run "$T/thin_ref" --ref_model "$T/thin/final" --max_steps 1
bad() { # bad WORDS TEXT: as the data set, and as that for evaluation
    printf "$2" >"$T/bad.jsonl"
    mistake 3 "$1" --dataset "$T/bad.jsonl"
    mistake 3 "$1" --eval_dataset "$T/bad.jsonl"
}
mistake 3 "none.jsonl: no such file" --dataset "$T/none.jsonl"
bad "contains no records" ''
bad 'bad.jsonl:1: ' '{"prompt": "The film", "chosen": " is good."}\n'
bad 'bad.jsonl:1: ' '{"prompt": "The film", "rejected": " is good."}\n'
bad 'bad.jsonl:1: "chosen" is a number' '{"prompt": "The film", "chosen": 1, "rejected": " a"}\n'
bad "all 1 records were skipped" '{"prompt": "The film", "chosen": "", "rejected": " is bad."}\n'

# A step far too long: weights overflow.
run "$T/wild" --max_steps 100 --learning_rate 10 --weight_decay 10 --max_grad_norm 0 \
    --lr_scheduler_type constant >"$T/said" 2>&1
check "a run that diverges ends with 5" test $? -eq 5
check "with step and values" grep -q '^error: step [0-9]*: loss is .*, gradient norm' "$T/log"

finish dpo
