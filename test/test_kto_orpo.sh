#!/bin/sh
# Tests of train_orpo and train_kto as a user runs them, on a few records and a model of one layer:
# results, logs, resuming, and mistakes in their own flags and data. What they share with train_sft
# (disks, model directories, files of the output) is tested there. Run from the repository's root
# with BIN set to a build.
. test/helpers.sh
export OMP_NUM_THREADS=2

# equal X Y RELATIVE: two numbers
equal() {
    awk -v x="${1:-none}" -v y="${2:-none}" -v relative="$3" 'BEGIN {
        d = x - y
        print x, y
        exit x == "none" || y == "none" || !((d < 0 ? -d : d) <= relative * (y < 0 ? -y : y))
    }'
}

# run PROGRAM DIR [FLAG...]: a short run of the tiny model; its output goes to $T/log
run() {
    program=$1 to=$2
    shift 2
    logged timeout 120 "$BIN/train_$program" --model "$M" --dataset "$T/$program.jsonl" \
        --samples 0 --per_device_train_batch_size 4 --learning_rate 0.003 --logging_steps 1 \
        --save_steps 0 --max_steps 4 --output_dir "$to" "$@"
}

# mistake PROGRAM CODE WORDS [FLAG...]: a run with these flags complains and leaves no directory
mistake() {
    program=$1 want=$2 words=$3
    shift 3
    complains "$want" "$words" timeout 120 "$BIN/train_$program" --model "$M" \
        --dataset "$T/$program.jsonl" --max_steps 4 --samples 0 --output_dir "$T/none" "$@"
    [ ! -e "$T/none" ] || amiss "there is an output directory"
    judge "train_$program $*"
    rm -rf "$T/none"
}

# mistaken_data PROGRAM WORDS TEXT: a data set with this text (printf)
mistaken_data() {
    printf "$3" >"$T/data.jsonl"
    mistake "$1" 3 "$2" --dataset "$T/data.jsonl"
}

# resumed PROGRAM DIR STEP [FLAG...]: a copy of DIR as it was at checkpoint STEP goes on to the end
resumed() {
    program=$1 from=$2 at=$3
    shift 3
    back_to "$from" "$at"
    check "$program: resumed at step $at" run "$program" "$T/resumed" \
        --resume_from_checkpoint latest "$@"
    ends_as "$program: resumed at step $at" "$from" "step $at of"
}

# interrupted PROGRAM: SIGINT in the middle of a run saves a checkpoint
interrupted() {
    "$BIN/train_$1" --model "$M" --dataset "$T/$1.jsonl" --samples 0 --max_steps 1000000 \
        --save_steps 0 --logging_steps 1 --output_dir "$T/$1-busy" >"$T/log" 2>&1 &
    child=$!
    until_rows 1 "$T/$1-busy/metrics.jsonl"
    stop INT
    check "$1: SIGINT saves and ends with 130" \
        test $code -eq 130 -a -e "$T/$1-busy"/checkpoint-*/trainer/manifest.json
}

# ---- a model and data: 26 pairs; the same taken apart as 52 labelled completions ----------------

tiny_config 64
head -n 60 data/reviews_train.jsonl >"$T/sft.jsonl"
M=$T/sft/final
check "a model to start from" timeout 120 "$BIN/train_sft" --model_config "$T/config.json" \
    --tokenizer data --dataset "$T/sft.jsonl" --per_device_train_batch_size 10 --samples 0 \
    --learning_rate 0.01 --max_steps 12 --output_dir "$T/sft"

# side FIRST LAST: the columns of these rows as "prompt TAB completion", still as JSON
side() {
    sed -n "$1,$2s/{\"prompt\": \(\".*\"\), \"completion\": \(\".*\"\)}/\1	\2/p" "$T/sft.jsonl"
}
side 1 26 >"$T/x"
side 27 52 | cut -f 2 >"$T/y"
paste "$T/x" "$T/y" >"$T/pairs.tsv"
pairs() {
    awk -F '\t' '{ print "{\"prompt\": " $1 ", \"chosen\": " $2 ", \"rejected\": " $3 "}" }'
}
pairs <"$T/pairs.tsv" >"$T/orpo.jsonl"
awk -F '\t' '{
    print "{\"prompt\": " $1 ", \"completion\": " $2 ", \"label\": true}"
    print "{\"prompt\": " $1 ", \"completion\": " $3 ", \"label\": false}"
}' "$T/pairs.tsv" >"$T/kto.jsonl"
head -n 12 "$T/orpo.jsonl" >"$T/eval_orpo.jsonl"
head -n 13 "$T/kto.jsonl" >"$T/eval_kto.jsonl"

# ---- ORPO: one run ------------------------------------------------------------------------------
# 26 pairs in batches of 4 are 7 steps an epoch, the last one with 2 pairs.

A=$T/orpo
set -- --max_steps 10 --save_steps 3 --eval_steps 5 --eval_dataset "$T/eval_orpo.jsonl" \
    --per_device_eval_batch_size 5 --beta 0.5 --eval_prompts 6 --gold --max_new_tokens 10
check "orpo: a run" run orpo "$A" "$@"
check "orpo: it says what became of the samples" \
    sh -c "grep -q '^6 samples: KL to the starting model ' '$T/log' &&
           grep -q '^gold score .* before, .* after' '$T/log'"
metrics="loss nll_loss log_odds_ratio log_odds_chosen rewards/chosen rewards/rejected"
metrics="$metrics rewards/margins rewards/accuracies logps/chosen logps/rejected"
metrics="$metrics logits/chosen logits/rejected entropy"
evals=$(echo " $metrics" | sed 's/ / eval_/g')
cat >"$T/x" <<END
step epoch $metrics grad_norm learning_rate num_tokens 
step epoch samples/kl samples/kl_error samples/gold samples/gold_error 
step epoch$evals 
END
sort "$T/x" >"$T/y"
keys "$A/metrics.jsonl" >"$T/x"
same "orpo: the keys of the log" "$T/x" "$T/y"
check "orpo: what must hold between metrics" awk -F'[:,}]' -v beta=0.5 '
    function near(x, y) { return x - y < 1e-6 && y - x < 1e-6 }
    /"loss"|"eval_loss"/ {
        for (i = 1; i < NF; i += 2) {
            key = $i
            gsub(/[ "{]|eval_/, "", key)
            v[key] = $(i + 1)
        }
        n++
        if (!near(v["loss"], v["nll_loss"] - beta * v["log_odds_ratio"])) bad = bad " loss"
        if (!near(v["rewards/chosen"], beta * v["logps/chosen"])) bad = bad " rewards/chosen"
        if (!near(v["rewards/rejected"], beta * v["logps/rejected"])) bad = bad " rewards/rejected"
        if (!near(v["rewards/margins"], v["rewards/chosen"] - v["rewards/rejected"]))
            bad = bad " margins"
        if (!(v["rewards/accuracies"] >= 0 && v["rewards/accuracies"] <= 1)) bad = bad " accuracies"
        if (!(v["logps/chosen"] < 0 && v["entropy"] > 1 && v["entropy"] < 8)) bad = bad " range"
    }
    END { print bad; exit bad != "" || n != 13 }' "$A/metrics.jsonl"
falls() { awk 'NR == 1 { first = $1 } { last = $1 } END { exit !(last < first) }'; }
check "orpo: the loss falls" falls <<END
$(values eval_loss "$A/metrics.jsonl")
END
for at in 3 6; do resumed orpo "$A" $at "$@"; done
interrupted orpo

# The NLL is train_sft's, on the completion or on the whole row.
side 1 12 |
    awk -F '\t' '{ print "{\"prompt\": " $1 ", \"completion\": " $2 "}" }' >"$T/chosen.jsonl"
sft_loss() { # sft_loss MODEL FILE [FLAG...]: the mean NLL that train_sft gives; log in $T/log
    model=$1 file=$2
    shift 2
    timeout 120 "$BIN/train_sft" --model "$model" --dataset "$file" --eval_dataset "$file" \
        --max_steps 1 --learning_rate 0 --samples 0 --save_steps 0 --output_dir "$T/nll" \
        --overwrite_output_dir "$@" >"$T/log" 2>&1
    values eval_loss "$T/nll/metrics.jsonl" | head -n 1
}
check "orpo: NLL of the completions" equal \
    "$(values eval_nll_loss "$A/metrics.jsonl" | head -n 1)" \
    "$(sft_loss "$M" "$T/chosen.jsonl")" 1e-6
check "orpo: a run with --nll all" run orpo "$T/all" --nll all --max_steps 2 \
    --eval_dataset "$T/eval_orpo.jsonl"
check "orpo: NLL of the prompts, too" equal \
    "$(values eval_nll_loss "$T/all/metrics.jsonl" | head -n 1)" \
    "$(sft_loss "$M" "$T/chosen.jsonl" --completion_only_loss false)" 1e-6

# ---- KTO: one run -------------------------------------------------------------------------------
# 52 examples, 49 of them for training, in batches of 4: 12 steps an epoch, the last one of 5.

A=$T/kto
head -n 49 "$T/kto.jsonl" >"$T/kto49.jsonl"
set -- --dataset "$T/kto49.jsonl" --max_steps 14 --save_steps 5 --eval_steps 5 \
    --eval_dataset "$T/eval_kto.jsonl" --per_device_eval_batch_size 3 --beta 0.5 --eval_prompts 6 \
    --gold --max_new_tokens 10 --logging_steps 2
check "kto: a run" run kto "$A" "$@"
check "kto: it says what became of the samples" \
    sh -c "grep -q '^6 samples: KL to the reference ' '$T/log' &&
           grep -q '^gold score .* before, .* after' '$T/log'"
refuse "kto: no warning at 25 to 24" grep -q '^warning' "$T/log"
metrics="loss kl rewards/chosen rewards/rejected rewards/margins logps/chosen logps/rejected"
metrics="$metrics logits/chosen logits/rejected entropy"
evals=$(echo " $metrics" | sed 's/ / eval_/g')
cat >"$T/x" <<END
step epoch $metrics grad_norm learning_rate num_tokens 
step epoch samples/kl samples/kl_error samples/gold samples/gold_error 
step epoch$evals 
END
sort "$T/x" >"$T/y"
keys "$A/metrics.jsonl" >"$T/x"
same "kto: the keys of the log" "$T/x" "$T/y"
check "kto: epochs of 12 steps" test "$(grep '"loss"' "$A/metrics.jsonl" | values epoch /dev/stdin |
    sed -n '6p')" = 1
check "kto: what must hold between metrics" awk -F'[:,}]' '
    function near(x, y) { return x - y < 1e-6 && y - x < 1e-6 }
    /"loss"|"eval_loss"/ {
        for (i = 1; i < NF; i += 2) {
            key = $i
            gsub(/[ "{]|eval_/, "", key)
            v[key] = $(i + 1)
        }
        n++
        if (!(v["loss"] > 0 && v["loss"] < 1)) bad = bad " loss"
        if (!(v["kl"] >= 0)) bad = bad " kl"
        if (!near(v["rewards/margins"], v["rewards/chosen"] - v["rewards/rejected"]))
            bad = bad " margins"
        if (!(v["logps/chosen"] < 0 && v["entropy"] > 1 && v["entropy"] < 8)) bad = bad " range"
        if (v["step"] == 0 && !(near(v["loss"], 0.5) && near(v["rewards/chosen"], 0)))
            bad = bad " step 0"
    }
    END { print bad; exit bad != "" || n != 11 }' "$A/metrics.jsonl"
check "kto: the loss falls" falls <<END
$(values eval_loss "$A/metrics.jsonl")
END
for at in 5 10; do resumed kto "$A" $at "$@"; done
interrupted kto

check "kto: pairs" run kto "$T/pairs" --dataset "$T/orpo.jsonl"
check "kto: the same pairs taken apart" run kto "$T/apart" --dataset "$T/kto.jsonl"
same "kto: both are the same" "$T/pairs/metrics.jsonl" "$T/apart/metrics.jsonl"
check "kto: apo_zero_unpaired" run kto "$T/apo" --loss_type apo_zero_unpaired --ref_model "$A/final"
check "kto: it has no KL" test "$(values kl "$T/apo/metrics.jsonl" | sort -u)" = 0

# The KL term from train_sft's losses: prompts with the completion of the example before, or of the
# nearest before that with another prompt. Examples 1 and 2, 3 and 4, 5 and 6 are pairs.
head -n 6 "$T/kto.jsonl" >"$T/six.jsonl"
sed 's/{"prompt": \(".*"\), "completion": \(".*"\), "label.*/\1	\2/' "$T/six.jsonl" >"$T/x"
for at in 6 6 2 2 4 4; do cut -f 2 "$T/x" | sed -n ${at}p; done >"$T/y"
cut -f 1 "$T/x" | paste - "$T/y" |
    awk -F '\t' '{ print "{\"prompt\": " $1 ", \"completion\": " $2 "}" }' >"$T/others.jsonl"
check "kto: one step of six examples" run kto "$T/six" --dataset "$T/six.jsonl" --max_steps 1 \
    --per_device_train_batch_size 4 --gradient_accumulation_steps 2 --train_sampling_strategy sequential \
    --model "$T/orpo/final" --ref_model "$M"
new=$(sft_loss "$T/orpo/final" "$T/others.jsonl")
old=$(sft_loss "$M" "$T/others.jsonl")
count=$(sed -n 's/.* tokens, \([0-9]*\) of them in the loss.*/\1/p' "$T/log" | head -n 1)
check "kto: KL of the mismatched completions" equal "$(values kl "$T/six/metrics.jsonl")" \
    "$(awk -v new="$new" -v old="$old" -v count="$count" 'BEGIN {
        z = (old - new) * count / 6
        print (z > 0 ? z : 0)
    }')" 1e-4

refuse "kto: and that is not 0" test "$(values kl "$T/six/metrics.jsonl")" = 0

# ---- KTO: the file of reference log-probs -------------------------------------------------------

C=$T/cache
cached() { # cached WHAT WORDS [FLAG...]: a run with the cache $C says these words
    title=$1 words=$2
    shift 2
    check "kto: $title" run kto "$T/with" --overwrite_output_dir --ref_cache_dir "$C" "$@"
    check "kto: $title: \"$words\"" grep -q "$words" "$T/log"
}
run kto "$T/without"
cached "no file yet" "reference log-probs of 52 examples in .*, kept in $C/"
same "kto: no file yet: the same numbers" "$T/with/metrics.jsonl" "$T/without/metrics.jsonl"
check "kto: 4 bytes an example and 32 more" test "$(cat "$C"/*.ref | wc -c)" -eq 240
F=$(echo "$C"/*.ref)
cp "$F" "$T/good.ref"
cached "a second run starts at once" "reference log-probs of 52 examples from $F"
same "kto: from the file: the same numbers" "$T/with/metrics.jsonl" "$T/without/metrics.jsonl"
cached "pairs taken apart" "of 52 examples from $F" --dataset "$T/orpo.jsonl"
head -c 100 "$T/good.ref" >"$F"
cached "a torn file" "^warning: $F: is damaged; the reference log-probs are computed again"
same "kto: it is made again" "$F" "$T/good.ref"
cached "another reference" "in .*, kept in" --ref_model "$T/kto/final"
check "kto: it has a file of its own" test "$(ls "$C" | wc -l)" -eq 2
check "kto: without --ref_cache_dir it lies beside the output" test -d "$T/ref_logps"
# Sixteen files are kept; those not used for longest go.
for i in 0 1 2 3 4 5 6 7 8 9 a b c d e f; do
    echo x >"$C/000000000000000$i.ref"
    touch -d 2001-01-01 "$C/000000000000000$i.ref"
done
touch -d 1999-01-01 "$F" "$C/mine.ref"
cached "an old file that is used again" "from $F"
cached "a new one" "in .*, kept in" --dataset "$T/eval_kto.jsonl"
check "kto: sixteen files and what is not ours" test "$(ls "$C" | wc -l)" -eq 17
check "kto: the one just used is among them" test -f "$F" -a -f "$C/mine.ref"

# ---- gradient accumulation and threads: the same numbers but for rounding -----------------------

for program in orpo kto; do
    split="--per_device_train_batch_size 2 --gradient_accumulation_steps 4"
    run $program "$T/$program-one" --per_device_train_batch_size 8
    run $program "$T/$program-four" $split
    run $program "$T/$program-nine" --per_device_train_batch_size 9
    run $program "$T/$program-uneven" --per_device_train_batch_size 3 \
        --gradient_accumulation_steps 3
    OMP_NUM_THREADS=1 run $program "$T/$program-thread" --per_device_train_batch_size 8
    for triple in "four one 1e-5" "uneven nine 1e-5" "thread one 1e-4"; do
        set -- $triple
        x=$T/$program-$1/metrics.jsonl y=$T/$program-$2/metrics.jsonl
        for key in loss nll_loss log_odds_chosen logps/chosen logps/rejected; do
            grep -q "\"$key\"" "$y" || continue
            check "$program, $1: $key" near "$x" "$y" $key "$3" 1e-6
        done
        # a difference of log-probs of about 60 nats: 1e-4 is 2e-6 of them
        [ $program = orpo ] || check "kto, $1: kl" near "$x" "$y" kl 1e-5 1e-4
        check "$program, $1: grad_norm" near "$x" "$y" grad_norm 1e-4 0
    done
done
check "kto: there was a KL in those runs" \
    grep -q '"kl": [0-9.]*[1-9]' "$T/kto-one/metrics.jsonl"
run orpo "$T/all-one" --nll all --per_device_train_batch_size 8
run orpo "$T/all-four" --nll all $split
for key in loss grad_norm; do
    check "orpo --nll all, four: $key" near "$T/all-four/metrics.jsonl" "$T/all-one/metrics.jsonl" \
        $key 1e-5 1e-6
done
check "kto: splits of one example" run kto "$T/single" --per_device_train_batch_size 1 \
    --gradient_accumulation_steps 8
check "kto: splits of one example: loss" near "$T/single/metrics.jsonl" "$T/kto-one/metrics.jsonl" \
    loss 1e-5 0

# Without its odds ratio ORPO is SFT on the chosen completions. (1e-5: the rejected rows are in the batch as well, so
# sums go in another order.)
awk -F '\t' '{ print "{\"prompt\": " $1 ", \"completion\": " $2 "}" }' "$T/pairs.tsv" >"$T/sft.jsonl"
check "orpo: --beta 0" run orpo "$T/orpo-0" --beta 0
check "orpo: --beta 0: SFT" run sft "$T/sft-0"
check "orpo: --beta 0: the same losses" near "$T/orpo-0/metrics.jsonl" "$T/sft-0/metrics.jsonl" loss 1e-5 0

# ---- flags --------------------------------------------------------------------------------------

mistake kto 2 "--beta 0: " --beta 0
for program in orpo kto; do
    for value in -1 nan 1e10 0.1x ""; do
        mistake $program 2 "--beta $value: " --beta "$value"
    done
    for value in -1 1000001 1.5; do
        mistake $program 2 "--eval_prompts $value: " --eval_prompts $value
    done
    mistake $program 2 "--gold maybe: expected true or false" --gold maybe
    mistake $program 2 "--gold needs --eval_prompts" --gold
    mistake $program 2 "--per_device_train_batch_size 0: " --per_device_train_batch_size 0
    mistake $program 2 "--gradient_accumulation_steps 0: " --gradient_accumulation_steps 0
    mistake $program 2 "unknown flag --label_smoothing" --label_smoothing 0.1
    mistake $program 2 "--dataset is needed" --dataset ""
    mistake $program 2 "--model is needed" --model ""
    mistake $program 2 "--output_dir is empty" --output_dir ""
    mistake $program 3 "none: no such directory" --model "$T/none"
    mistake $program 3 "is a reward model, expected a language model" --model data/rm
done
mistake orpo 2 "--nll prompt: expected one of completion|all" --nll prompt
mistake orpo 2 "unknown flag --desirable_weight" --desirable_weight 1
mistake kto 2 "--loss_type sigmoid: expected one of kto|apo_zero_unpaired" --loss_type sigmoid
mistake kto 3 "missing: no such directory" --ref_model "$T/missing"
for flag in desirable_weight undesirable_weight; do
    for value in 0 -1 1e10 x; do mistake kto 2 "--$flag $value: " --$flag $value; done
done
mistake kto 2 "needs at least 2 examples" --per_device_train_batch_size 1
check "kto: --help names the later interval" sh -c "'$BIN/train_kto' --help | grep -q '3/2'"

check "kto: a warning of lopsided weights" run kto "$T/lopsided" --undesirable_weight 2 \
    --max_steps 1
check "kto: it names ratio and interval" grep -q \
    '^warning: .*26 desirable .* 26 undesirable .*ratio 0.5 is outside \[1, 4/3\].*' "$T/log"
for weight in 1 1.3333333333333333; do
    run kto "$T/even" --desirable_weight $weight --max_steps 1 --overwrite_output_dir
    refuse "kto: no warning at $weight" grep -q '^warning' "$T/log"
done

# ---- data ---------------------------------------------------------------------------------------

for program in orpo kto; do
    mistake $program 3 "missing.jsonl: no such file" --dataset "$T/missing.jsonl"
    mistake $program 3 "missing.jsonl: no such file" --eval_dataset "$T/missing.jsonl"
    mistaken_data $program "contains no records" ''
    mistaken_data $program 'data.jsonl:1: missing "rejected"' '{"prompt": "a", "chosen": "b"}\n'
    mistaken_data $program "skipped" '{"prompt": "a", "chosen": "b", "rejected": "b"}\n'
    mistaken_data $program "skipped" '{"prompt": "a", "chosen": "b", "rejected": " "}\n'
    mistaken_data $program "skipped" '{"chosen": "b", "rejected": "c"}\n'
done
mistaken_data orpo '"rejected" is a number' '{"prompt": "a", "chosen": "b", "rejected": 1}\n'
mistaken_data orpo 'data.jsonl:1: missing "chosen"' \
    '{"prompt": "a", "completion": "b", "label": true}\n'
mistaken_data kto 'missing "label"' '{"prompt": "a", "completion": "b"}\n'
mistaken_data kto 'missing "prompt"' '{"completion": "b", "label": true}\n'
mistaken_data kto '"label" must be true or false' '{"prompt": "a", "completion": "b", "label": 2}\n'
for label in true 0; do # one class alone: TRL trains on it, too
    row="{\"prompt\": \"a\", \"completion\": \"b\", \"label\": $label}\\n"
    printf "$row$row" >"$T/one.jsonl"
    check "kto: all labels are $label" run kto "$T/one" --dataset "$T/one.jsonl" --max_steps 1 \
        --overwrite_output_dir
    check "kto: and it says so" grep -q '^warning: .*one.jsonl: all 2 labels of the examples' "$T/log"
done
row='{"prompt": "a", "completion": "b", "label": true}\n'
row=$row'{"prompt": "a", "completion": "c", "label": false}\n'
printf "$row" >"$T/two.jsonl"
mistake kto 3 "1 example for training" --dataset "$T/two.jsonl" --eval_split 0.5
check "kto: labels 1 and 0 are true and false" sh -c "sed 's/true/1/; s/false/0/' '$T/two.jsonl' >'$T/01.jsonl'"
for file in two 01; do
    check "kto: labels of $file.jsonl" run kto "$T/by_$file" --dataset "$T/$file.jsonl" --max_steps 2 \
        --eval_dataset "$T/one.jsonl"
done
same "kto: labels 1 and 0 train as true and false" "$T/by_two/metrics.jsonl" "$T/by_01/metrics.jsonl"
check "kto: two examples will do" run kto "$T/two" --dataset "$T/two.jsonl" --max_steps 1

# ---- resuming with other flags ------------------------------------------------------------------

for program in orpo kto; do
    at=$T/$program
    for flag in "beta 0.7" "seed 7" "per_device_train_batch_size 5" "learning_rate 0.1"; do
        set -- $flag
        "$BIN/train_$program" --config "$at/run.json" --output_dir "$T/other" --$1 "$2" \
            --resume_from_checkpoint "$at/checkpoint-$([ $program = orpo ] && echo 6 || echo 10)" \
            >"$T/log" 2>&1
        check "$program: --$1 $2 cannot be resumed" test $? -eq 3
        check "$program: it says so" grep -q "^error: .*cannot resume: .*--$1" "$T/log"
    done
done
"$BIN/train_kto" --config "$T/kto/run.json" --output_dir "$T/other" --ref_model "$T/kto/final" \
    --resume_from_checkpoint "$T/kto/checkpoint-10" >"$T/log" 2>&1
check "kto: another reference cannot be resumed" \
    sh -c "test $? -eq 3 && grep -q '^error: .*cannot resume: .*--ref_model' '$T/log'"

finish kto_orpo
