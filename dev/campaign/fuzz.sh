#!/bin/sh
# Fuzzing: libFuzzer throws bytes at the readers of everything that comes from outside, with ASan and UBSan
# watching: safetensors, config.json, a tokenizer's files, rows of data in each form, benchmarks, a reward program's
# answers, a checkpoint's manifest and state, the requests that label.c gets and its log (fuzz_*.c say what an input
# is, and what must hold for one that is taken). It shows that none of so many inputs crashes, hangs (10 s) or reads
# beside its memory.
#
#   sh dev/campaign/fuzz.sh [--executions N] [--target NAME] [--quick]
#
# Executions: 10^7 of safetensors and rows, 10^6 of the others, or N of each: three hours of one core; goes on
# where it stopped. The corpus of interesting inputs is kept in OUT/NAME/corpus and grows; what it begins with is
# dev/campaign/seeds/NAME. For more, give a larger N. What has crashed is in OUT/NAME/crash-*; run OUT/fuzz_NAME
# with such a file to see it again. --quick: 2,000 of each, less watched, half a minute. Needs clang with its
# compiler-rt (Debian: clang libclang-rt-14-dev).
NAME=fuzz
. dev/campaign/campaign.sh
executions= targets="safetensors rows items config tokenizer reward checkpoint label"
campaign_option() {
    case $1 in
    --executions) executions=$2 ;;
    --target) targets=$2 ;;
    *) return 1 ;;
    esac
}
campaign_begin "$@"
CLANG=${CLANG:-clang} slice=250000
watch="-O1 -fsanitize=fuzzer,address,undefined -fno-sanitize-recover=all"
# what is built in a moment, for the short form
if $quick; then executions=2000 watch="-O0 -fsanitize=fuzzer,address"; fi

echo 'int LLVMFuzzerTestOneInput(const char *d, long n); int LLVMFuzzerTestOneInput(const char *d, long n) { return d && n < 0; }' \
    >"$OUT/probe.c"
if ! $CLANG $watch "$OUT/probe.c" -o "$OUT/probe" >"$OUT/log" 2>&1; then
    echo "skipped: fuzz: no clang here that has libFuzzer"
    exit 0
fi

# Files that readers are to read are in memory, where there is such a place.
FUZZ_DIR=$OUT/files
[ ! -w /dev/shm ] || FUZZ_DIR=/dev/shm/fuzz-$$
export FUZZ_DIR
trap 'rm -rf "$FUZZ_DIR"' EXIT
mkdir -p "$FUZZ_DIR"

# fuzzed NAME NUMBER RUNS: one slice; what it said goes to $OUT/NAME/log
fuzzed() {
    "$OUT/fuzz_$1" -runs="$3" -seed="$2" -max_len=2048 -timeout=10 -rss_limit_mb=4096 -detect_leaks=0 \
        -print_final_stats=1 -artifact_prefix="$OUT/$1/" "$OUT/$1/corpus" "dev/campaign/seeds/$1" \
        >"$OUT/$1/log" 2>&1
}

# label.c's page needs a library that no other program does
if ! echo '#include <microhttpd.h>' | $CLANG -E -xc - >/dev/null 2>&1; then
    case " $targets " in *" label "*) echo "skipped: fuzz: label: libmicrohttpd is not installed" ;; esac
    targets=$(echo " $targets " | sed 's/ label / /')
fi

for target in $targets; do
    wanted=1000000
    case $target in safetensors | rows) wanted=10000000 ;; esac
    wanted=${executions:-$wanted}
    mkdir -p "$OUT/$target/corpus"
    if [ ! -e "$OUT/fuzz_$target" ] || [ -n "$(find lib ./*.h "dev/campaign/fuzz_$target.c" dev/campaign/fuzz.h \
        -newer "$OUT/fuzz_$target" | head -n 1)" ]; then
        $CLANG -std=gnu11 -g -march=native -fno-math-errno -fopenmp $watch "dev/campaign/fuzz_$target.c" \
            -o "$OUT/fuzz_$target" -lopenblas -lcjson -lm || exit 1
    fi
    done=0 number=0
    while [ "$done" -lt "$wanted" ]; do
        number=$((number + 1)) runs=$((wanted - done))
        [ "$runs" -le "$slice" ] || runs=$slice
        done=$((done + runs))
        is_done "$target-$number-$runs" && continue
        if fuzzed "$target" $number "$runs"; then
            found=$(sed -n 's/.* ft: \([0-9]*\).*/\1/p' "$OUT/$target/log" | tail -n 1)
            result "$target-$number-$runs" ok "$runs executions, features ${found:-?}"
        else
            result "$target-$number-$runs" FAILED "$(grep -m 1 'SUMMARY\|ERROR' "$OUT/$target/log")," \
                "$(sed -n 's/.*Test unit written to //p' "$OUT/$target/log")"
        fi
    done
done
for target in $targets; do
    awk -v target="$target" '
        index($1, target "-") == 1 && $2 == "ok" { n += $3; features = $6 }
        index($1, target "-") == 1 && $2 != "ok" { failed++ }
        END { printf "  %-12s %9d executions, %s features, %d crashes\n", target, n, features, failed }' "$OUT/results"
done
campaign_end "$(awk '$2 == "ok" { n += $3 } END { print n + 0 }' "$OUT/results") executions of $(echo $targets | wc -w) readers"
