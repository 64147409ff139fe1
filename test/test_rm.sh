#!/bin/sh
# Tests of train_rm and score as a user runs them, on a few pairs and a model of one layer from
# train_sft: logs, equal ways to the same numbers, margins, the padding token, normalised scores,
# scores of a file, resuming, and the mistakes that only these programs know (test_programs.sh has
# those of all). Run from the repository's root with BIN set to a build (build/plain, build/asan,
# build/clang).
. test/helpers.sh
export OMP_NUM_THREADS=2

# A run of the tiny model into the directory $1 with more flags; the log goes to $T/log.
M=$T/model
TINY="--model $M --dataset $T/train.jsonl --per_device_train_batch_size 4 --learning_rate 0.003
      --logging_steps 1 --save_steps 0 --max_steps 5"
rm_() { timeout 120 "$BIN/train_rm" "$@"; }
score_() { timeout 120 "$BIN/score" "$@"; }
run() {
    to=$1
    shift
    logged rm_ $TINY --output_dir "$to" "$@"
}

# fails CODE WORDS COMMAND...: it complains and leaves nothing behind in $OUT
OUT=$T/out
fails() {
    complains "$@"
    [ ! -e "$OUT" ] || amiss "there is an output"
    shift 2
    judge "$@"
    rm -rf "$OUT"
}
mistake() { # mistake CODE WORDS [FLAG...]: of training
    want=$1 words=$2
    shift 2
    fails "$want" "$words" rm_ $TINY --output_dir "$OUT" "$@"
}

near_all() { # near_all WHAT DIR DIR TOLERANCE: all that the step does agrees
    for key in loss accuracy margin min_reward mean_reward max_reward grad_norm; do
        check "$1: $key" near "$T/$2/metrics.jsonl" "$T/$3/metrics.jsonl" $key "$4"
    done
}

pairs_from 1 >"$T/train.jsonl"
pairs_from 101 >"$T/eval.jsonl"
tiny_model 30

# ---- one run -------------------------------------------------------------------------------------

set -- --eval_dataset "$T/eval.jsonl" --eval_steps 3 --normalize_rewards 70 --max_new_tokens 12 \
    --per_device_eval_batch_size 16
check "a run with evaluation and normalisation" run "$T/a" "$@"
check "the log tells what happened" sh -c "grep -q '^step     5/5  loss' '$T/log' &&
    grep -q '40 pairs' '$T/log' && grep -q '^$M: 70 samples, .* end with EOS' '$T/log' &&
    grep -q '^calibration, error 0' '$T/log' && grep -q 'padding token 1481' '$T/log' &&
    grep -q '^scores of the samples: .*; normalised: -*0.0000, 1.0000' '$T/log'"
check "metrics.jsonl has TRL's keys, and its values are sane" awk -F '[:,}]' '
    function abs(x) { return x < 0 ? -x : x }
    {
        keys = ""
        for (i = 1; i < NF; i += 2) {
            key = $i
            gsub(/[ "{]/, "", key)
            keys = keys key " "
            v[key] = $(i + 1)
        }
    }
    keys == "step epoch loss accuracy margin min_reward mean_reward max_reward grad_norm " \
            "learning_rate num_tokens " {
        n++
        if (abs(v["epoch"] - v["step"] / 10) > 1e-6) bad = bad " epoch"
        if (!(v["min_reward"] < v["mean_reward"] && v["mean_reward"] < v["max_reward"]))
            bad = bad " rewards"
        if (v["accuracy"] < 0 || v["accuracy"] > 1) bad = bad " accuracy"
        if (abs(v["learning_rate"] - 0.003 * (6 - v["step"]) / 5) > 1e-9) bad = bad " rate"
        next
    }
    keys == "step epoch eval_loss eval_accuracy eval_margin eval_min_reward eval_mean_reward " \
            "eval_max_reward eval_accuracy_low eval_accuracy_high eval_calibration_error " {
        evals++
        if (!(v["eval_accuracy_low"] < v["eval_accuracy"] &&
              v["eval_accuracy"] < v["eval_accuracy_high"])) bad = bad " interval"
        next
    }
    keys == "step samples/mean samples/deviation " { samples++; next }
    { bad = bad " keys " keys }
    END { print bad; exit bad != "" || n != 5 || evals != 3 || samples != 1 }' "$T/a/metrics.jsonl"
check "the same seed again" run "$T/again" "$@"
same "the same seed gives the same log" "$T/a/metrics.jsonl" "$T/again/metrics.jsonl"
same "and the same bits" "$T/a/final/model.safetensors" "$T/again/final/model.safetensors"
check "run.json as --config" rm_ --config "$T/a/run.json" --output_dir "$T/config"
same "run.json makes the run again" "$T/a/metrics.jsonl" "$T/config/metrics.jsonl"

# The padding token: a row and a name of its own, and no second one when training goes on.
check "a padding token apart from EOS" sh -c "
    grep -q '\"vocab_size\": 1482' '$T/a/final/config.json' &&
    grep -q '\"pad_token_id\": 1481' '$T/a/final/config.json' &&
    tr -d '[:space:]' <'$T/a/final/tokenizer_config.json' >'$T/config.flat' &&
    grep -q '\"pad_token\":\"\[PAD\]\"' '$T/config.flat' &&
    grep -q '\"1481\":{\"content\":\"\[PAD\]\"' '$T/config.flat' &&
    grep -q '{\"id\":1481,\"content\":\"\[PAD\]\"' '$T/a/final/tokenizer.json'"
check "a reward model to begin with" run "$T/more" --model "$T/a/final" --max_steps 1
same "its tokenizer stays" "$T/a/final/tokenizer.json" "$T/more/final/tokenizer.json"
same "its config stays" "$T/a/final/config.json" "$T/more/final/config.json"

check "a longer run" run "$T/long" --max_steps 60 --logging_steps 10
check "margin and accuracy rise" sh -c "values() { sed -n \"s|.*\\\"\$1\\\": \\([^,}]*\\).*|\\1|p\" \
    '$T/long/metrics.jsonl' | tail -n 1; }
    echo \$(values loss) \$(values margin) \$(values accuracy) |
    awk '{ print; exit !(\$1 < 0.5 && \$2 > 1 && \$3 > 0.85) }'"

# ---- the loss ------------------------------------------------------------------------------------

sed 's/}$/, "margin": 1}/' "$T/train.jsonl" >"$T/margin.jsonl"
for init in zero random; do
    check "score_init $init" run "$T/$init" --score_init $init --max_steps 2
done
check "a score of 0 is even" first loss "$T/zero/metrics.jsonl" 0.69314718
refuse "a random one is not" first loss "$T/random/metrics.jsonl" 0.69314718
check "margins" run "$T/margin" --score_init zero --dataset "$T/margin.jsonl" --max_steps 2
check "the report tells of them" grep -q ' rejected, each with its margin' "$T/log"
check "a margin of 1" first loss "$T/margin/metrics.jsonl" 1.3132617
check "centering" run "$T/center" --center_rewards_coefficient 10 --max_steps 40 \
    --logging_steps 40 --learning_rate 0.001
run "$T/free" --max_steps 40 --logging_steps 40 --learning_rate 0.001
check "it keeps the mean near 0" sh -c "
    cat '$T/center/metrics.jsonl' '$T/free/metrics.jsonl' | sed 's/.*\"mean_reward\": //' |
    awk -F, '{ m[NR] = \$1 < 0 ? -\$1 : \$1 } END { print m[1], m[2]; exit !(m[1] < 0.1) }'"

# ---- equal ways ----------------------------------------------------------------------------------

run "$T/one" --per_device_train_batch_size 8 --dataset "$T/margin.jsonl"
run "$T/four" --per_device_train_batch_size 2 --gradient_accumulation_steps 4 \
    --dataset "$T/margin.jsonl"
run "$T/uneven" --per_device_train_batch_size 3 --gradient_accumulation_steps 3
run "$T/nine" --per_device_train_batch_size 9
run "$T/apart" --per_device_train_batch_size 8 --dataset "$T/margin.jsonl" --share_prompt false
run "$T/less" --per_device_train_batch_size 8 --dataset "$T/margin.jsonl" --gradient_checkpointing
OMP_NUM_THREADS=1 run "$T/thread" --per_device_train_batch_size 8 --dataset "$T/margin.jsonl"
near_all "8 pairs and 4 times 2" four one 1e-5
near_all "9 pairs and 3 times 3, the last update of an epoch short" uneven nine 1e-5
near_all "a shared prompt and two rows" apart one 1e-5
near_all "recomputed activations" less one 1e-5
near_all "one thread and two" thread one 1e-5

# ---- scores of a file ----------------------------------------------------------------------------

score() { score_ --model "$T/$1/final" --dataset "$2" --batch_size "${3:-7}"; }
check "scores of pairs" sh -c "timeout 120 '$BIN/score' --model '$T/long/final' \
    --dataset '$T/eval.jsonl' >'$T/pairs' 2>'$T/log' && test \"\$(wc -l <'$T/pairs')\" -eq 40"
check "the report" grep -q \
    "^$T/eval.jsonl: 80 scores, mean .*, standard deviation .*, accuracy 0\\." "$T/log"
sed 's/\(.*\)"chosen": \(.*\), "rejected": \(.*\)}/\1"completion": \2}\n\1"completion": \3}/' \
    "$T/eval.jsonl" >"$T/single.jsonl"
score long "$T/single.jsonl" >"$T/x" 2>"$T/log"
tr '\t' '\n' <"$T/pairs" >"$T/y"
check "of completions the same" columns "$T/x" "$T/y" 1e-5
check "to a file" score_ --model "$T/long/final" --dataset "$T/eval.jsonl" --output "$T/scores"
same "as to standard output" "$T/scores" "$T/pairs"
printf '%s\n' '{"prompt": "I", "completion": " loved it."}' '{"prompt": "I", "completion": " "}' \
    '{"messages": [{"role": "user", "content": "Good?"}, {"role": "assistant", "content": "No."}]}' \
    '{"prompt": "I", "chosen": " a", "rejected": " a"}' >"$T/mixed.jsonl"
score long "$T/mixed.jsonl" >"$T/x" 2>"$T/log"
check "rows that have no score" awk -F '\t' '
    { want = NR == 4 ? 2 : 1; nan = NR == 2 || NR == 4
      if (NF != want || (nan ? $1 != "nan" : $1 !~ /^-?[0-9.e-]+$/)) { bad = 1; print } }
    END { exit bad || NR != 4 }' "$T/x"
check "are counted" grep -q '2 scores, .*; 2 of 4 records skipped' "$T/log"
check "and named" grep -q '^warning: .*mixed.jsonl:2: "completion" is empty: skipped' "$T/log"

# What a run says of its last evaluation is what score says of the model.
check "a run with evaluation" run "$T/eval" --eval_dataset "$T/eval.jsonl" --max_steps 8
values eval_accuracy "$T/eval/metrics.jsonl" | tail -n 1 >"$T/y"
score eval "$T/eval.jsonl" 2>&1 >"$T/z" | sed -n 's/.*accuracy \([0-9.]*\).*/\1/p' >"$T/x"
check "its accuracy" columns "$T/x" "$T/y" 1e-6
values eval_mean_reward "$T/eval/metrics.jsonl" | tail -n 1 >"$T/y"
awk '{ sum += $1 + $2 } END { print sum / 2 / NR }' "$T/z" >"$T/x"
check "its mean" columns "$T/x" "$T/y" 1e-4

# Normalised scores are the others, moved and scaled as the log says.
run "$T/raw" --eval_dataset "$T/eval.jsonl" --per_device_eval_batch_size 16
score raw "$T/single.jsonl" 2>"$T/log" |
    awk -v mean="$(values samples/mean "$T/a/metrics.jsonl")" \
        -v deviation="$(values samples/deviation "$T/a/metrics.jsonl")" \
        '{ print ($1 - mean) / deviation }' >"$T/y"
score a "$T/single.jsonl" 2>"$T/log" >"$T/x"
check "normalised scores" columns "$T/x" "$T/y" 1e-4

# An ensemble: the mean of two models' scores, and the least.
score raw "$T/single.jsonl" 2>"$T/log" | paste "$T/x" - >"$T/both"
for how in mean min; do
    score_ --model "$T/a/final,$T/raw/final" --reward_ensemble $how --dataset "$T/single.jsonl" \
        2>"$T/log" >"$T/x"
    awk -v how=$how '{ print how == "mean" ? ($1 + $2) / 2 : $1 < $2 ? $1 : $2 }' "$T/both" >"$T/y"
    check "an ensemble: $how" columns "$T/x" "$T/y" 1e-5
done
check "they differ" awk '$1 < $2 { a = 1 } $1 > $2 { b = 1 } END { exit !(a && b) }' "$T/both"
check "samples of another model" run "$T/other" --model "$T/a/final" --normalize_model "$M" \
    --normalize_rewards 20 --max_steps 1
check "scores that are all 0" run "$T/flat" --score_init zero --learning_rate 0 --max_steps 1 \
    --normalize_rewards 4
check "stay as they are" grep -q 'standard deviation 0.0000; cannot be normalised' "$T/log"

# ---- truncation ----------------------------------------------------------------------------------

check "short rows" run "$T/short" --max_length 14 --max_steps 1
check "completions that do not fit are skipped" \
    grep -q 'train.jsonl: .* of 40 records skipped; .* truncated' "$T/log"
check "and named" grep -q '^warning: .*: prompt and completion have .*the end is cut: skipped' \
    "$T/log"
check "as TRL does" run "$T/short2" --max_length 20 --max_steps 1 --truncation_mode keep_start
refuse "with no prompt cut" grep -q 'truncated' "$T/log"

# ---- resuming: bit for bit the straight run ------------------------------------------------------

resumed() { # resumed STEP [FLAG...]
    at=$1
    shift
    rm -rf "$T/straight" "$T/resumed"
    set -- --max_steps 14 --logging_steps 3 --save_steps 4 --eval_dataset "$T/eval.jsonl" \
        --eval_steps 5 --normalize_rewards 10 "$@"
    check "straight" run "$T/straight" "$@"
    mkdir "$T/resumed"
    cp -r "$T/straight/checkpoint-$at" "$T/straight/metrics.jsonl" "$T/resumed"
    check "from step $at" run "$T/resumed" --resume_from_checkpoint latest "$@"
    ends_as "from step $at" "$T/straight" "step $at of 14"
    for file in config.json tokenizer.json tokenizer_config.json; do
        same "from step $at: $file" "$T/straight/final/$file" "$T/resumed/final/$file"
    done
}
resumed 4
OMP_NUM_THREADS=1 resumed 12 --dataset "$T/margin.jsonl" --center_rewards_coefficient 0.01
while read -r words flags; do
    rm_ $TINY --output_dir "$OUT" --max_steps 14 --save_steps 4 --dataset "$T/margin.jsonl" \
        --center_rewards_coefficient 0.01 $flags \
        --resume_from_checkpoint "$T/straight/checkpoint-8" >"$T/log" 2>&1
    check "resuming with $flags is refused" test $? -eq 3
    check "resuming with $flags: $words" grep -q "^error: .*cannot resume: .*$words" "$T/log"
done <<END
--center_rewards_coefficient.was.0.01,.is.now.0 --center_rewards_coefficient 0
--seed.was.42,.is.now.1 --seed 1
see.*--dataset --dataset $T/train.jsonl
--learning_rate.was.0.003,.is.now.0.1 --learning_rate 0.1
END
refuse "nothing was made there" test -e "$OUT"

# ---- the model that ships ------------------------------------------------------------------------

best=$("$BIN/prefs" --check data/prefs_eval.jsonl | awk '$1 == "best" { print $2 / 100 }')
score_ --model data/rm --dataset data/prefs_eval.jsonl >"$T/x" 2>"$T/log"
accuracy=$(sed -n 's/.*accuracy \([0-9.]*\).*/\1/p' "$T/log")
check "data/rm has 80 % of the accuracy that the labels allow" \
    awk "BEGIN { print $accuracy, $best; exit !($accuracy > 0.8 * $best) }"
check "it has at most 4 MB" test "$(cat data/rm/* | wc -c)" -le 4000000
timeout 120 "$BIN/generate" --model data/sft --dataset data/prefs_eval.jsonl --max_samples 400 \
    --top_k 0 --max_new_tokens 60 --output "$T/samples.jsonl" >"$T/log" 2>&1
score_ --model data/rm --dataset "$T/samples.jsonl" 2>"$T/log" | awk '
    { sum += $1; squares += $1 * $1 }
    END { mean = sum / NR
          print "samples of data/sft: mean", mean, "variance", squares / NR - mean * mean, NR }' \
    >"$T/x"
check "mean 0 and variance 1 on other samples" \
    awk '{ exit !($5 > -0.25 && $5 < 0.25 && $7 > 0.75 && $7 < 1.25 && $8 == 400) }' "$T/x"
cat "$T/x"

# ---- mistakes ------------------------------------------------------------------------------------

for pair in center_rewards_coefficient/-1 center_rewards_coefficient/x normalize_rewards/-1 \
    normalize_rewards/1000001 max_new_tokens/0 temperature/0 score_init/one share_prompt/2; do
    mistake 2 "--${pair%/*} ${pair#*/}: " --${pair%/*} ${pair#*/}
done
mistake 2 "--normalize_rewards 1: needs 2 at least" --normalize_rewards 1
mistake 2 "--normalize_model needs --normalize_rewards" --normalize_model "$M"
mistake 2 "--reward_eos needs --normalize_rewards" --reward_eos
mistake 3 "none: no such directory" --normalize_model "$T/none" --normalize_rewards 4
mistake 3 "is a reward model, expected a language model" --model "$T/a/final" --normalize_rewards 4
mistake 2 "unknown flag --beta" --beta 1
mistake 2 "--model is needed" --model ""
mistake 2 "--dataset is needed" --dataset ""
mistake 2 "--output: it is a flag of ./score" --output "$OUT"
mistake 2 "--score: ./score --dataset FILE --model DIR scores a file" --score "$T/eval.jsonl"
fails 2 "--score: ./score --dataset FILE" rm_ --score
fails 2 "--overwrite_output: it is a flag of ./score" rm_ --overwrite_output
sed 's/^{/{"score": null, "output": null, "overwrite_output": false,/' "$T/a/run.json" >"$T/old.json"
check "a run.json from when it had them" rm_ --config "$T/old.json" --output_dir "$T/old" --max_steps 1
sed 's/^{/{"score": "x",/' "$T/a/run.json" >"$T/old.json"
fails 2 "old.json: --score: ./score --dataset FILE" rm_ --config "$T/old.json" --output_dir "$OUT"
data() { # data WORDS TEXT: a data set with this text (printf)
    printf "$2" >"$T/data.jsonl"
    mistake 3 "$1" --dataset "$T/data.jsonl"
}
row='{"prompt": "a", "chosen": "b", "rejected": "c"'
data "contains no records" ''
data 'data.jsonl:1: missing "rejected"' '{"prompt": "a", "chosen": "b"}\n'
data 'data.jsonl:1: missing "chosen"' '{"prompt": "a", "completion": "b"}\n'
data 'data.jsonl:1: "margin" is a string, expected a number' "$row, \"margin\": \"1\"}\n"
data 'data.jsonl:2: missing "margin", which earlier rows have' "$row, \"margin\": 1}\n$row}\n"
data 'data.jsonl:2: "margin", which earlier rows do not have' "$row}\n$row, \"margin\": 1}\n"
data 'data.jsonl:1: "margin" 1e+09 is out of range' "$row, \"margin\": 1e9}\n"
data "all 1 records were skipped" '{"prompt": "a", "chosen": "b", "rejected": "b"}\n'

scoring() { # scoring CODE WORDS FLAG...
    want=$1 words=$2
    shift 2
    fails "$want" "$words" score_ --output "$OUT" "$@"
}
scoring 3 "is a language model without a score" --dataset "$T/eval.jsonl" --model "$M"
scoring 3 "is a language model without a score" --dataset "$T/eval.jsonl" --model "$T/a/final,$M"
scoring 3 "tiny_score/vocab.json: no such file" --dataset "$T/eval.jsonl" \
    --model "$T/a/final,test/golden/tiny_score"
scoring 3 "missing.jsonl: no such file" --dataset "$T/missing.jsonl" --model "$T/a/final"
scoring 2 "--model is needed" --dataset "$T/eval.jsonl"
scoring 2 "--dataset is needed" --model "$T/a/final"
scoring 2 "--batch_size 0: " --batch_size 0
printf '{"prompt": "a"}\n' >"$T/data.jsonl"
scoring 3 'data.jsonl:1: missing "completion"' --dataset "$T/data.jsonl" --model "$T/a/final"
: >"$T/data.jsonl"
scoring 3 "contains no records" --dataset "$T/data.jsonl" --model "$T/a/final"
refuse "no temporary file is left" sh -c "ls -A '$T' | grep '^\.tmp-'"
fails 2 "already there; see --overwrite_output" score_ --dataset "$T/eval.jsonl" --model "$T/a/final" \
    --output "$T/scores"
fails 2 "is a directory" score_ --dataset "$T/eval.jsonl" --model "$T/a/final" --output "$T"
check "--overwrite_output" score_ --dataset "$T/eval.jsonl" --model "$T/long/final" \
    --output "$T/scores" --overwrite_output
same "as before" "$T/scores" "$T/pairs"

finish rm
