#!/bin/sh
# The same on 1, 2, 3 and 8 threads: the unit tests pass, and short runs of all training programs
# agree. Another number of threads adds in another order, so runs differ in the last bits, which
# training makes larger; with the same number a resumed run has the bits of the straight one. More
# threads than processors are slow but right. Run from the repository's root with BIN set to a build; only
# once, with the plain one.
. test/helpers.sh
[ "${BIN##*/}" = plain ] || { finish threads; exit; }
COUNTS="1 2 3 8"

# ---- unit tests ----------------------------------------------------------------------------------

for threads in $COUNTS; do
    for test in test/test_*.c; do
        name=$(basename "$test" .c)
        if [ ! -e "$BIN/$name" ]; then
            [ $threads != 1 ] || skip "$BIN/$name is not built"
            continue
        fi
        check "$name on $threads threads" env OMP_NUM_THREADS=$threads timeout 600 "$BIN/$name"
        tail -n 1 "$T/check" | grep -q ' 0 failed,' || fail "$name on $threads threads: no result"
    done
done

# ---- training ------------------------------------------------------------------------------------
# Six updates of each program on the model that ships, saved after the third.

head -n 48 data/prefs_train.jsonl >"$T/prefs.jsonl"

# train PROGRAM DIR [FLAG...]
train() {
    program=$1 to=$2
    shift 2
    case $program in
    sft)
        set -- --dataset data/reviews_train.jsonl --max_steps 6 --per_device_train_batch_size 8 \
            "$@"
        ;;
    ppo)
        set -- --dataset "$T/prefs.jsonl" --reward_model data/rm --total_episodes 48 \
            --batch_size 8 --per_device_train_batch_size 8 --num_mini_batches 2 \
            --num_ppo_epochs 2 --response_length 16 "$@"
        ;;
    spin)
        set -- --dataset "$T/prefs.jsonl" --num_iterations 2 --per_device_train_batch_size 16 \
            --max_new_tokens 16 "$@"
        ;;
    *) set -- --dataset "$T/prefs.jsonl" --max_steps 6 --per_device_train_batch_size 8 "$@" ;;
    esac
    [ $program = rm ] || set -- --samples 0 "$@"
    logged timeout 300 "$BIN/train_$program" --model data/sft --learning_rate 0.0005 \
        --logging_steps 1 --save_steps 3 --output_dir "$to" "$@"
}

for program in sft rm dpo kto orpo ppo spin; do
    loss=loss
    [ $program != ppo ] || loss=loss/value_avg
    for threads in $COUNTS; do
        export OMP_NUM_THREADS=$threads
        straight=$T/$program-$threads
        run="train_$program on $threads threads"
        check "$run" train $program "$straight"
        check "$run: as many rows as on one" test "$(wc -l <"$straight/metrics.jsonl")" -eq \
            "$(wc -l <"$T/$program-1/metrics.jsonl")"
        check "$run: loss as on one" near "$straight/metrics.jsonl" "$T/$program-1/metrics.jsonl" \
            $loss 1e-4
        back_to "$straight" 3
        [ $program != spin ] || cp -r "$straight/iteration-0" "$T/resumed" # its text is kept there
        check "$run: resumed" train $program "$T/resumed" --resume_from_checkpoint latest
        ends_as "$run, resumed" "$straight" ""
    done
done
finish threads
