#!/bin/sh
# The whole pipeline on the default data, from nothing to a report: supervised fine-tuning,
# preferences sampled from that model, a reward model, then DPO, IPO, KTO, ORPO, SPIN and PPO from
# the same model, an evaluation of all, and one page about it. `make demo` calls this. Run from the
# repository's root.
#
#   sh dev/demo.sh [--seed N] [--output_dir DIR]        N: 1, DIR: out/demo
#
# A stage that is done is not done again. Its stamp, DIR/NAME.done, holds a checksum of its command,
# its program, the files that it reads and the stamps of the stages whose results it reads: if any
# of these has changed, it runs anew, and so does all that depends on it. A stage that was
# interrupted goes on from its last checkpoint, if its program writes any, else it starts again.
#
# Exit code: 0; 130 when interrupted; else that of the stage that failed.
set -u
export LC_ALL=C
# Threads that wait do not spin: on a machine that does something else as well, that makes a
# difference of minutes.
export OMP_WAIT_POLICY="${OMP_WAIT_POLICY:-passive}"

seed=1 D=out/demo
while [ $# -gt 0 ]; do
    case $1 in
    --seed | --output_dir)
        [ $# -ge 2 ] || { echo "error: $1 needs a value" >&2; exit 2; }
        if [ "$1" = --seed ]; then seed=$2; else D=${2%/}; fi
        shift 2
        ;;
    *)
        echo "error: unknown argument $1; usage: sh dev/demo.sh [--seed N] [--output_dir DIR]" >&2
        exit 2
        ;;
    esac
done
case $seed in
'' | *[!0-9]* | ????????*)
    echo "error: --seed $seed: expected a whole number of at most seven digits" >&2
    exit 2
    ;;
esac
case $D in
'' | *[!A-Za-z0-9_./-]*)
    echo "error: --output_dir $D: letters, digits and _ . / - only, please" >&2
    exit 2
    ;;
esac
[ -f data/reviews_train.jsonl ] || {
    echo "error: data/reviews_train.jsonl: no such file; run this from the repository's root" >&2
    exit 3
}
mkdir -p "$D" || exit 4

# ---- stages: name, seconds that it takes on two cores, command -----------------------------------
# Results of a stage are in DIR/NAME. Short presets: each method's own default run, but for SFT (two
# epochs instead of three), without the measurements that the evaluation makes for all. IPO has no
# default run; its beta is for a token (docs/dpo.md says why 0.5 here is as strong as DPO's 0.1).
# SPIN's data are the chosen answers: to the reviews themselves SFT has come so near that no self-play
# helps.

start="--model $D/sft/final --output_dir"
prefs="--dataset $D/prefs/train.jsonl --eval_dataset $D/prefs_eval/eval.jsonl"
common="--per_device_eval_batch_size 64 --adam_beta2 0.98 --save_total_limit 1 --seed $seed"
schedule="--num_train_epochs 1 --lr_scheduler_type cosine --warmup_steps 20 --logging_steps 10"
schedule="$schedule --eval_steps 50 --samples 0 --save_steps 50"
reviews="--dataset data/reviews_train.jsonl --eval_dataset data/reviews_eval.jsonl"
methods="dpo=$D/dpo/final,ipo=$D/ipo/final,kto=$D/kto/final,orpo=$D/orpo/final"
methods="$methods,spin=$D/spin/final,ppo=$D/ppo/final"

stages() {
    stage sft 40 ./train_sft --model_config data/config_tiny.json --tokenizer data $reviews \
        --output_dir "$D/sft" --num_train_epochs 2 --per_device_train_batch_size 32 \
        --learning_rate 0.007 --lr_scheduler_type cosine --warmup_steps 100 --weight_decay 0.05 \
        --logging_steps 50 --eval_steps 400 --samples 0 --save_steps 200 $common
    stage prefs 5 build/plain/prefs --model "$D/sft/final" --count 6000 \
        --seed $((100 + 10 * seed)) --output "$D/prefs/train.jsonl"
    stage prefs_eval 1 build/plain/prefs --model "$D/sft/final" --count 500 \
        --seed $((101 + 10 * seed)) --output "$D/prefs_eval/eval.jsonl"
    stage rm 20 ./train_rm $start "$D/rm" $prefs --num_train_epochs 2 \
        --per_device_train_batch_size 32 --learning_rate 0.0005 --lr_scheduler_type cosine \
        --warmup_steps 20 --normalize_rewards 1000 --max_new_tokens 60 --logging_steps 20 \
        --eval_steps 100 --save_steps 50 $common
    stage dpo 10 ./train_dpo $start "$D/dpo" $prefs --per_device_train_batch_size 32 \
        --learning_rate 0.0005 $schedule $common
    stage ipo 10 ./train_dpo $start "$D/ipo" $prefs --loss_type ipo --beta 0.5 \
        --per_device_train_batch_size 32 --learning_rate 0.0005 $schedule $common
    stage kto 16 ./train_kto $start "$D/kto" $prefs --per_device_train_batch_size 64 --beta 0.3 \
        --learning_rate 0.001 $schedule $common
    stage orpo 10 ./train_orpo $start "$D/orpo" $prefs --per_device_train_batch_size 32 --beta 2 \
        --learning_rate 0.003 $schedule $common
    stage spin 40 ./train_spin $start "$D/spin" $prefs --max_train_samples 2000 \
        --num_iterations 3 --num_train_epochs 1 --per_device_train_batch_size 32 \
        --learning_rate 0.0002 --warmup_steps 10 --beta 1 --eval_prompts 500 --gold \
        --logging_steps 10 --samples 0 --save_steps 50 $common
    stage ppo 40 ./train_ppo $start "$D/ppo" --reward_model "$D/rm/final" $prefs --gold \
        --total_episodes 6400 --batch_size 128 --num_ppo_epochs 2 --num_mini_batches 2 \
        --per_device_train_batch_size 64 --response_length 40 --kl_coef 0.15 \
        --learning_rate 0.001 --logging_steps 5 --eval_prompts 0 --samples 0 --save_steps 10 \
        --save_total_limit 1 --seed "$seed"
    stage evaluate 30 ./evaluate --models "$methods" --baseline "sft=$D/sft/final" \
        --ref_model "$D/sft/final" --dataset data/reviews_eval.jsonl --gold --eval_prompts 256 \
        --num_return_sequences 4 --samples 0 --seed "$seed" \
        --output "$D/evaluate/evaluation.json" --samples_file "$D/evaluate/samples.jsonl"
    stage frontier 30 build/plain/reward_frontier --model "$D/sft/final" \
        --dataset data/reviews_eval.jsonl --prompts 256 --samples 512 --seed "$seed" \
        --curve "$D/frontier/curve.csv"
}

report() {
    ./report --runs "$D" --evaluation "$D/evaluate/evaluation.json" \
        --samples_file "$D/evaluate/samples.jsonl" --frontier "$D/frontier/curve.csv" \
        --stages "$D/stages.jsonl" --title "align.c demo, seed $seed" \
        --expect dpo=score,ipo=score,kto=score,orpo=score,spin=data,ppo=score \
        --output "$D/report.html" --overwrite_output
}

# ---- the machinery -------------------------------------------------------------------------------

now() { date +%s; }
minutes() { printf '%dm%02ds' $(($1 / 60)) $(($1 % 60)); }

# The stamp that a stage would have now, in $key: a checksum of all that decides its result.
stamp() {
    key=$({
        echo "$*"
        cksum <"$2" 2>/dev/null || command -v "$2"
        for word in $(echo "$*" | tr ',=' '  '); do
            case $word in
            "$D/$1" | "$D/$1"/*) ;; # its own
            "$D"/*)
                rest=${word#"$D"/}
                head -n 1 "$D/${rest%%/*}.done" 2>/dev/null || echo missing
                ;;
            *)
                if [ -f "$word" ]; then cksum <"$word"
                elif [ -d "$word" ]; then cat "$word"/* 2>/dev/null | cksum; fi
                ;;
            esac
        done
    } | cksum | tr ' ' -)
}

# On a terminal, show every second how far the stage is; in the background until killed.
watch() {
    while :; do
        sleep 1
        spent=$(($(now) - stage_began)) line=$(tail -n 1 "$D/$1.log" 2>/dev/null | cut -c 1-60)
        left=$((rest_expected - spent > 0 ? rest_expected - spent : 0))
        printf '\r\033[K  %s, in all %s, about %s left | %s' "$(minutes $spent)" \
            "$(minutes $(($(now) - began)))" "$(minutes $left)" "$line"
    done
}

# Take the seconds of a stage into account, also of one that did not come to its end.
spend() { echo "$key $(($1 + $(now) - stage_began))" >"$D/$2.begun"; }

finish() { # leave with a code; the watcher first
    [ -z "$watcher" ] || kill "$watcher" 2>/dev/null
    watcher=
    exit "$1"
}

stage() {
    name=$1 expected=$2
    shift 2
    number=$((number + 1))
    if [ "$counting" ]; then
        rest=$((rest + expected))
        return
    fi
    stamp "$name" "$@"
    if [ "$(head -n 1 "$D/$name.done" 2>/dev/null)" = "$key" ]; then
        echo "stage $number of $count: $name: done before"
        rest=$((rest - expected))
        return
    fi
    # what an earlier start of the very same stage has left is of use, all else is not
    resume= before=0
    if [ "$(cut -d ' ' -f 1 "$D/$name.begun" 2>/dev/null)" = "$key" ]; then
        before=$(cut -d ' ' -f 2 "$D/$name.begun")
        for file in "$D/$name"/checkpoint-*/trainer/manifest.json; do
            [ ! -f "$file" ] || resume="--resume_from_checkpoint latest"
        done
    fi
    rm -f "$D/$name.done"
    [ "$resume" ] || { rm -rf "${D:?}/$name"; before=0; }
    case $1 in
    ./train_*) ;;
    *) mkdir -p "$D/$name" ;;
    esac
    stage_began=$(now)
    # what is left is scaled by how fast this machine has been so far
    rest_expected=$((worked_expected > 0 ? rest * worked / worked_expected : rest))
    echo "stage $number of $count: $name: $(minutes $((stage_began - began))) gone, about" \
        "$(minutes $rest_expected) left"
    echo "  $*${resume:+ $resume}"
    if [ "$resume" ]; then # the log goes on, too
        spend "$before" "$name"
        shown=$(wc -l <"$D/$name.log")
    else
        spend 0 "$name"
        : >"$D/$name.log"
    fi
    if [ -t 1 ]; then
        watch "$name" &
        watcher=$!
    fi
    "$@" $resume </dev/null >>"$D/$name.log" 2>&1
    code=$?
    [ -z "$watcher" ] || { kill "$watcher"; wait "$watcher" 2>/dev/null; printf '\r\033[K'; }
    watcher=
    spend "$before" "$name"
    if [ $code -ne 0 ]; then
        if [ "$interrupted" ] || [ $code -eq 129 ] || [ $code -eq 130 ] ||
            [ $code -eq 143 ]; then
            echo "interrupted in stage $name; the same command goes on from here"
            finish 130
        fi
        reason=$(grep '^error: ' "$D/$name.log" | tail -n 1)
        echo "error: stage $name failed with exit code $code: ${reason#error: }" \
            "(see $D/$name.log); the same command goes on from here" >&2
        finish $code
    fi
    seconds=$(cut -d ' ' -f 2 "$D/$name.begun")
    memory=$(sed -n 's/.*peak memory \([0-9]*\) MB.*/\1/p' "$D/$name.log" | tail -n 1)
    {
        echo "$key"
        printf '{"name": "%s", "command": "%s", "seconds": %d, "peak_memory_mb": %s}\n' "$name" \
            "$*" "$seconds" "${memory:-null}"
    } >"$D/$name.new" && mv "$D/$name.new" "$D/$name.done"
    worked=$((worked + seconds)) worked_expected=$((worked_expected + expected))
    rest=$((rest - expected))
    echo "  done in $(minutes "$seconds")${memory:+, peak memory $memory MB}"
    [ -z "$interrupted" ] || finish 130
}

if [ -f "$D/pid" ] && kill -0 "$(cat "$D/pid")" 2>/dev/null; then
    echo "error: $D: another demo (process $(cat "$D/pid")) is at work there" >&2
    exit 4
fi
echo $$ >"$D/pid" || exit 4
watcher='' interrupted='' began=$(now)
trap 'rm -f "$D/pid"' EXIT
trap 'interrupted=1' HUP INT TERM

counting=1 number=0 rest=0
stages
count=$number counting='' number=0 worked=0 worked_expected=0
stages

for name in sft prefs prefs_eval rm dpo ipo kto orpo spin ppo evaluate frontier; do
    sed -n 2p "$D/$name.done"
done >"$D/stages.jsonl"
echo "all stages done, $(minutes $(($(now) - began)))"
echo
report
