#!/bin/sh
# 64-bit Arm, on a machine that is none: dev/aarch64.sh compiles programs and unit tests, and qemu
# runs them: the unit tests, a few updates of training, greedy text from the model that ships. What
# comes out is compared with this machine's. Skipped where compiler, qemu or the libraries are
# missing. Run from the repository's root with BIN set to a build; only once, with the plain one. Emulation is
# slow: about 15 minutes of CPU time, kl, model, sample and bf16 most of it; ONLY="losses common"
# runs these unit tests alone.
. test/helpers.sh
[ "${BIN##*/}" = plain ] || { finish aarch64; exit; }
ARM=build/aarch64

emulator=$(command -v qemu-aarch64 || command -v qemu-aarch64-static)
if [ -z "$emulator" ]; then
    skip "no qemu for aarch64 (apt-get install qemu-user)"
    finish aarch64
    exit
fi
sh dev/aarch64.sh >"$T/log" 2>&1
case $? in
0) pass ;;
77)
    skip "$(tail -n 1 "$T/log")"
    finish aarch64
    exit
    ;;
*)
    fail "compiling for aarch64"
    cat "$T/log"
    finish aarch64
    exit
    ;;
esac

# a CPU that multiplies bfloat16 numbers takes the same code: it compiles, and nothing more is shown
for program in train_*.c generate.c evaluate.c score.c; do
    check "$program for armv8.2-a+bf16" aarch64-linux-gnu-gcc -O1 -march=armv8.2-a+bf16 \
        -fno-math-errno -fopenmp -std=gnu11 -Wall -Wextra -Wshadow -Wno-unused-function -Werror \
        -I $ARM/root/usr/include -I $ARM/root/usr/include/aarch64-linux-gnu/openblas-openmp \
        -fsyntax-only "$program"
done

# arm PROGRAM [ARGUMENT...]: run it as if this were an Arm machine; a run on two cores
arm() {
    name=$1
    shift
    timeout 900 "$emulator" -L /usr/aarch64-linux-gnu "$ARM/$name" "$@"
}

# ---- unit tests ----------------------------------------------------------------------------------
# Two at a time: emulated threads wait for each other more than they work.

cat >"$T/one" <<'END'
    OMP_NUM_THREADS=2 timeout 1700 "$1" -L /usr/aarch64-linux-gnu "$2" >"$2.log" 2>&1
    echo $? >"$2.code"
END
rm -f $ARM/*.log $ARM/*.code
tests=${ONLY:-$(cd test && ls test_*.c | sed 's/test_\(.*\)\.c/\1/')}
for name in $tests; do echo "$ARM/test_$name"; done | xargs -n 1 -P 2 sh "$T/one" "$emulator"
for name in $tests; do
    result=$ARM/test_$name
    check "test_$name" test "$(cat "$result.code")" -eq 0
    check "test_$name: its result" grep -Eq ': [1-9][0-9]* passed, 0 failed, [0-9]+ skipped$' \
        "$result.log"
    [ "$(cat "$result.code")" -eq 0 ] || tail -n 20 "$result.log"
done

# ---- training, then text -------------------------------------------------------------------------
# The default run's model and data; eight updates of eight rows instead of 2,400 of 32.

train() { # train DIR RUNNER [FLAG...]
    to=$1 runner=$2
    shift 2
    logged $runner train_sft --model_config data/config_tiny.json --tokenizer data --samples 0 \
        --dataset data/reviews_train.jsonl --per_device_train_batch_size 8 --learning_rate 0.007 \
        --max_steps 8 --logging_steps 1 --save_steps 4 --output_dir "$to" "$@"
}
here() {
    name=$1
    shift
    "$BIN/$name" "$@"
}
check "training here" train "$T/here" here
check "training on Arm" train "$T/arm" arm
grep '^OpenBLAS' "$T/log"
# other kernels add in another order
check "the same loss" near "$T/arm/metrics.jsonl" "$T/here/metrics.jsonl" loss 1e-4
check "the same gradient norm" near "$T/arm/metrics.jsonl" "$T/here/metrics.jsonl" grad_norm 1e-3
back_to "$T/arm" 4
check "resumed on Arm" train "$T/resumed" arm --resume_from_checkpoint latest
ends_as "resumed on Arm" "$T/arm" "step 4 of 8"

text() { # text RUNNER FILE: greedy continuations of 20 prompts by the model that ships
    logged $1 generate --model data/sft --dataset "$T/prompts.jsonl" --output "$2" --temperature 0 \
        --max_new_tokens 40
}
head -n 20 data/reviews_eval.jsonl >"$T/prompts.jsonl"
check "greedy text here" text here "$T/here.jsonl"
check "greedy text on Arm" text arm "$T/arm.jsonl"
check "there is text" test "$(wc -c <"$T/arm.jsonl")" -gt 1000
same "the same greedy text" "$T/here.jsonl" "$T/arm.jsonl"
finish aarch64
