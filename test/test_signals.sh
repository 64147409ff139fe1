#!/bin/sh
# Tests of how programs end when they are asked to, or when the machine has no room: signals, a closed
# pipe, a full disk, little memory, no threads. Run from the repository's root with BIN set to a build.
. test/helpers.sh
trap '[ -z "$child" ] || kill -9 "$child"; umount "$T/disk" 2>"$T/said"; rm -rf "$T"' EXIT
chmod 755 "$T" # for what runs as another user
export OMP_NUM_THREADS=2

tiny_config 64
head -n 60 data/reviews_train.jsonl >"$T/train.jsonl"
TINY="--model_config $T/config.json --tokenizer data --dataset $T/train.jsonl --samples 0
      --per_device_train_batch_size 4 --learning_rate 0.003 --logging_steps 1 --save_steps 0"
LONG="$TINY --max_steps 300"
run() { logged timeout 120 "$BIN/train_sft" $LONG --output_dir "$@"; }

# began DIR: wait until the run in the background has made some updates
began() { until_rows 5 "$1/metrics.jsonl"; }

# goes_on WHAT DIR: the run there saved a checkpoint, and goes on to the bits of the straight run
goes_on() {
    check "$1: a checkpoint is saved" test -e "$2"/checkpoint-*/trainer/manifest.json
    refuse "$1: there is no final model yet" test -e "$2/final"
    check "$1: it can be gone on with" run "$2" --resume_from_checkpoint latest
    same "$1: weights" "$T/straight/final/model.safetensors" "$2/final/model.safetensors"
    same "$1: log" "$T/straight/metrics.jsonl" "$2/metrics.jsonl"
}

check "a straight run" run "$T/straight"

# ---- signals -------------------------------------------------------------------------------------

"$BIN/train_sft" $LONG --output_dir "$T/hup" >"$T/log" 2>&1 &
child=$!
began "$T/hup"
kill -s HUP $child # a terminal that ends may send it again
stop HUP
check "SIGHUP ends the run with 129 (it was $code)" test $code -eq 129
goes_on SIGHUP "$T/hup"

(
    trap '' HUP # as nohup does
    exec "$BIN/train_sft" $LONG --output_dir "$T/nohup" >"$T/log" 2>&1
) &
child=$!
began "$T/nohup"
stop HUP
check "SIGHUP that is ignored does not end the run (it was $code)" test $code -eq 0
same "it comes to its end" "$T/straight/final/model.safetensors" \
    "$T/nohup/final/model.safetensors"

# timeout sends SIGTERM to the program and to its group, which is one request
timeout 5 "$BIN/train_sft" $LONG --max_steps 1000000 --output_dir "$T/timeout" >"$T/log" 2>&1
if [ -s "$T/timeout/metrics.jsonl" ]; then
    check "timeout's SIGTERM saves" grep -q '^stopped at step .* and saved' "$T/log"
else skip "timeout's SIGTERM (the machine is too slow for it)"; fi

# ---- a closed pipe, a full disk ------------------------------------------------------------------

mkfifo "$T/pipe"
"$BIN/train_sft" $LONG --output_dir "$T/head" >"$T/pipe" 2>"$T/stderr" &
child=$!
head -n 5 "$T/pipe" >"$T/log"
wait $child
code=$? child=
check "| head ends the run with 141 (it was $code)" test $code -eq 141
check "it says so on stderr" grep -q '^stopped at step .* and saved' "$T/stderr"
goes_on "| head" "$T/head"

if [ -w /dev/full ]; then
    timeout 120 "$BIN/train_sft" $LONG --output_dir "$T/full" >/dev/full 2>"$T/stderr"
    check "output to a full disk ends the run with 4" test $? -eq 4
    check "one sentence says so" grep -q '^error: standard output: cannot write: No space left on device; checkpoint-[0-9]* of 300 is saved; go on with' "$T/stderr"
    check "and no second one" test "$(wc -l <"$T/stderr")" -eq 1
    goes_on "a full disk" "$T/full"
    timeout 60 "$BIN/generate" --prompt "The film" --max_new_tokens 3 >/dev/full 2>"$T/stderr"
    check "generate to a full disk ends with 4" test $? -eq 4
    check "generate says so" grep -q '^error: standard output: cannot write: No space' "$T/stderr"
else skip "a full disk (there is no /dev/full here)"; fi

# A log that cannot grow, where a checkpoint can: it is alone on a file system of 16 kB.
mkdir "$T/disk" "$T/small"
if mount -t tmpfs -o size=16k none "$T/disk" 2>/dev/null; then
    run "$T/some" --save_steps 20
    head -n 20 "$T/some/metrics.jsonl" >"$T/disk/metrics.jsonl"
    cp -r "$T/some/checkpoint-20" "$T/small"
    ln -s "$T/disk/metrics.jsonl" "$T/small/metrics.jsonl"
    timeout 120 "$BIN/train_sft" $LONG --output_dir "$T/small" --resume_from_checkpoint latest \
        >"$T/log" 2>"$T/stderr"
    check "a log that cannot grow ends the run with 4" test $? -eq 4
    check "one sentence says so" grep -q '^error: .*metrics.jsonl: cannot write: No space left on device; checkpoint-[0-9]* of 300 is saved' "$T/stderr"
    check "and no second one" test "$(wc -l <"$T/stderr")" -eq 1
    refuse "no torn row is left" sh -c "tail -n 1 '$T/disk/metrics.jsonl' | grep -v '}\$'"
    check "the checkpoint can be gone on with" sh -c "rm '$T/small/metrics.jsonl' &&
        cp '$T/disk/metrics.jsonl' '$T/small'" && run "$T/small" --resume_from_checkpoint latest
    same "weights after that" "$T/straight/final/model.safetensors" \
        "$T/small/final/model.safetensors"
    umount "$T/disk"
else skip "a log that cannot grow (no tmpfs can be mounted here)"; fi

# ---- generate: a signal leaves nothing half done -------------------------------------------------

head -n 400 data/reviews_train.jsonl >"$T/prompts.jsonl"
"$BIN/generate" --dataset "$T/prompts.jsonl" --output "$T/gen.jsonl" --batch_size 1 \
    --max_new_tokens 100 >"$T/log" 2>&1 &
child=$!
tries=0
until ls "$T"/.tmp-gen* >"$T/said" 2>&1 || [ $tries -gt 1200 ]; do
    tries=$((tries + 1))
    sleep 0.05
done
stop TERM
check "SIGTERM ends generate (it was $code)" test $code -eq 143
refuse "and leaves no file" sh -c "ls -a '$T' | grep 'gen'"

ln -s prompts.jsonl "$T/link.jsonl"
cp "$T/prompts.jsonl" "$T/copy.jsonl"
for to in prompts link; do
    complains 2 "--overwrite_output would replace" timeout 60 "$BIN/generate" \
        --dataset "$T/link.jsonl" --output "$T/$to.jsonl" --overwrite_output
    judge "generate --output $to.jsonl"
done
same "a data set is not replaced by what is made of it" "$T/copy.jsonl" "$T/prompts.jsonl"

# ---- a library that is stuck ---------------------------------------------------------------------

cat >"$T/stuck.c" <<'END'
#include <unistd.h>
void cblas_sgemm(void) { for (;;) pause(); }
END
case $BIN in
*asan*) skip "a library that is stuck (sanitizers and preloading do not go together)" ;;
*)
    if ${CC:-cc} -shared -fPIC "$T/stuck.c" -o "$T/stuck.so" 2>"$T/said" &&
        [ "$(uname)" = Linux ]; then
        LD_PRELOAD="$T/stuck.so" "$BIN/train_sft" $LONG --output_dir "$T/stuck" >"$T/log" 2>&1 &
        child=$!
        until_there "$T/stuck/metrics.jsonl"
        sleep 0.5
        began=$(date +%s)
        stop TERM
        check "SIGTERM ends a stuck program (it was $code)" test $code -eq 143
        check "in seconds" test $(($(date +%s) - began)) -lt 20
        check "it says so" grep -q '^error: asked to stop, but the step does not' "$T/log"
    else skip "a library that is stuck (nothing can be preloaded here)"; fi
    ;;
esac

# ---- memory and threads --------------------------------------------------------------------------

# little KB PROGRAM FLAG...: it ends well, or with one sentence about memory and exit code 4
little() {
    (
        ulimit -v "$1"
        shift
        timeout -k 5 100 "$@"
    ) >"$T/log" 2>"$T/stderr"
    code=$?
    grep -v '^OpenBLAS kernel' "$T/stderr" >"$T/x"
    if [ $code -eq 0 ]; then pass; else
        check "ulimit -v $1, $2: exit code $code" test $code -eq 4
        check "ulimit -v $1, $2: one sentence" test "$(wc -l <"$T/x")" -eq 1
        check "ulimit -v $1, $2: about memory" \
            grep -q '^error: .*\(out of memory\|Cannot allocate memory\|cannot start thread\)' "$T/x"
    fi
}
case $BIN in
*asan*) skip "little memory (the sanitizer needs the addresses for itself)" ;;
*)
    ended=0
    for kb in 60000 150000 200000 300000 340000 400000 500000 560000 590000 620000; do
        rm -rf "$T/little"
        little $kb "$BIN/train_sft" $TINY --max_steps 2 --output_dir "$T/little"
        [ $code -eq 0 ] || ended=$((ended + 1))
        [ $code -ne 0 ] || check "with $kb KB: a model" test -e "$T/little/final"
        little $kb "$BIN/generate" --prompt "The film" --max_new_tokens 3
    done
    check "the smallest limits are too small ($ended)" test $ended -ge 2
    ;;
esac
# A container's limit: a control group of our own, where this user may make one.
for group in /sys/fs/cgroup/memory/align_c_$$ /sys/fs/cgroup/align_c_$$; do
    mkdir "$group" 2>/dev/null || continue
    for limit in memory.limit_in_bytes memory.max; do
        [ ! -w "$group/$limit" ] || ! echo 120000000 >"$group/$limit" || break 2
    done 2>/dev/null
    rmdir "$group"
done
case $BIN,$(cat "$group"/memory.limit_in_bytes "$group"/memory.max 2>/dev/null) in
*asan* | *,) skip "a container's limit (needs a control group that may be made here)" ;;
*)
    echo '{"model_type": "gpt2", "n_layer": 8, "n_embd": 512, "n_head": 8, "n_positions": 64}' >"$T/wide.json"
    complains 4 "bytes; the container (control group) allows " timeout 60 \
        sh -c 'echo $$ >"$0/cgroup.procs" && exec "$@"' "$group" "$BIN/train_sft" $TINY \
        --model_config "$T/wide.json" --max_steps 2 --output_dir "$T/contained"
    judge "a container's limit"
    # AdamW's memory is asked for when the output is open, before the first update
    refuse "a container's limit: an update was logged" test -s "$T/contained/metrics.jsonl"
    ;;
esac
rmdir "$group" 2>/dev/null
as="setpriv --reuid=65534 --regid=65534 --clear-groups prlimit --nproc=1"
if [ "$(id -u)" -eq 0 ] && $as true 2>/dev/null; then
    mkdir "$T/theirs"
    chmod 777 "$T/theirs"
    complains 4 "cannot start thread 2 of 2" \
        timeout 60 $as "$BIN/train_sft" $TINY --max_steps 2 --output_dir "$T/theirs/out"
    judge "no threads"
    refuse "no threads: nothing was written" test -e "$T/theirs/out"
else skip "no threads (needs root, setpriv and prlimit)"; fi

finish signals
