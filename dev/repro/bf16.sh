#!/bin/sh
# Does --bf16 cost quality in a whole run? The runs that train_sft, train_dpo and train_ppo make
# without arguments, in float32 and in bfloat16, 5 seeds, the same batches in both. Each run on one
# thread, two at a time: 25 minutes on two cores of Zen 3, 15 on Zen 4, 9 with AMX. Without AVX512-BF16 or AMX the
# factors are rounded and multiplied in float (bf16.h), which answers the question as well.
#
#     sh dev/repro/bf16.sh [DIR]      DIR (out/bf16) gets programs and runs
#
# What is compared, at the end of a run: SFT's and DPO's eval_loss; for DPO and PPO the gold score of
# samples after training and their KL to the reference. A difference is that of one seed's two runs;
# the interval of their mean is Student's, 90 %. bfloat16 costs something where the interval of a
# loss or a gold score lies wholly on the worse side of 0. KL has no worse side.
#
# Exit code 0: it costs nothing that 5 seeds can show.
set -eu
out=${1:-out/bf16}
seeds="1 2 3 4 5"
rm -rf "$out"
mkdir -p "$out"
export OMP_WAIT_POLICY=passive OMP_NUM_THREADS=1
unset OPENBLAS_CORETYPE OPENBLAS_L2_SIZE
began=$(date +%s)
cc=${CC:-cc}
for program in sft dpo ppo; do
    $cc -O3 -march=native -fno-math-errno -fopenmp train_$program.c -o "$out/$program" -lopenblas \
        -lcjson -lm
    # the flags of a run without arguments; of two with one name the later counts
    sed -n '/^static const char preset/,/;$/s/.*"\(.*\)".*/\1/p' train_$program.c >"$out/$program.flags"
done
cat >"$out/run.sh" <<'END'
out=$1 program=$2 seed=$3 bf16=$4 run=$1/$2-$3-$4
"$out/$program" $(cat "$out/$program.flags") --bf16 "$bf16" --seed "$seed" \
    --samples 0 --output_dir "$run" >"$run.log" 2>&1
END
for seed in $seeds; do
    for program in sft dpo ppo; do
        for bf16 in false true; do echo "'$out' $program $seed $bf16"; done
    done
done | xargs -L 1 -P 2 sh "$out/run.sh"

# last RUN METRIC: its last value in the log
last() { sed -n "s|.*\"$2\": *\([-+0-9.e]*\).*|\1|p" "$out/$1/metrics.jsonl" | tail -n 1; }
# program, metric, and which way is worse
while read -r program metric worse; do
    for seed in $seeds; do
        echo "$program $metric $worse $(last "$program-$seed-false" "$metric")" \
            "$(last "$program-$seed-true" "$metric")"
    done
done >"$out/table.txt" <<'END'
sft eval_loss 1
dpo eval_loss 1
dpo samples/gold -1
dpo samples/kl 0
ppo samples/gold -1
ppo samples/kl 0
END
# Student's t for an interval of 90 % and 4 degrees of freedom (5 seeds): 2.131847.
awk -v spent=$(($(date +%s) - began)) '
    BEGIN { print "program metric         float32  between seeds  bfloat16 less float32, 90 % interval" }
    NF != 5 { print "no figure: " $0; failed = 1; exit }
    {
        float[++n] = $4; apart[n] = $5 - $4
        if (n < 5) next
        mean = squares = change = change_squares = 0
        for (i = 1; i <= n; i++) { mean += float[i] / n; change += apart[i] / n }
        for (i = 1; i <= n; i++) {
            squares += (float[i] - mean) ^ 2
            change_squares += (apart[i] - change) ^ 2
        }
        half = 2.131847 * sqrt(change_squares / (n - 1) / n)
        bad = $3 != 0 && $3 * change > half
        costs += bad
        printf "%-7s %-13s %8.4f  %13.4f  %+.4f [%+.4f, %+.4f]%s\n", $1, $2, mean,
            sqrt(squares / (n - 1)), change, change - half, change + half, bad ? "  WORSE" : ""
        n = 0
    }
    END {
        if (failed) exit 2
        printf "verdict: %s (%d s)\n", costs ? "IT COSTS QUALITY" : "NO COST SEEN", spent
        exit costs > 0
    }' "$out/table.txt"
