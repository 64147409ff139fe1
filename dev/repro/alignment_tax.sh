#!/bin/sh
# The alignment tax: what a model knew before DPO, KTO and PPO, and what after, on benchmarks that none of them was
# trained for. The question is old (Askell et al. 2021 find next to no tax on large models and more on small ones,
# Ouyang et al. 2022 find one after PPO and mix pre-training in against it), the claim below is ours.
#
#     sh dev/repro/alignment_tax.sh [--quick] [DIR]
#
# DIR (out/alignment_tax) gets the results. Needs the runs of imdb_frontier.sh (FRONTIER=DIR: where they are;
# out/imdb_frontier). --quick: 20 items of each benchmark, to try the script.
#
#   models      the start of imdb_frontier.sh, and what DPO (beta 0.05), KTO (beta 0.05) and PPO (KL coefficient
#               0.05, learned reward) made of it, seed 1: all taught to write praise
#   benchmarks  BLiMP (grammar; the only one on which a model of this size is well above chance), ARC-Easy, PIQA,
#               LAMBADA, and BIG-Bench Hard's 6,511 questions with exact match of a line
#
# Claim: no tax, that is, on none of the five is one of the three behind the start: the paired 90 % interval of the
# difference in accuracy does not lie below 0. (15 comparisons: by chance alone one in twenty would. So a single one
# that lies below 0 by less than 0.01 is printed as such and the verdict is NOT DISTINGUISHED; one by more, or
# several, is CONTRADICTED. REPRODUCED means that no loss was found, not that there is none.) A benchmark on which
# the start is not above chance can show no tax and does not count; LAMBADA and BIG-Bench Hard count where the start
# has 1 % or more. Written before the first full run.
#
# What came out (5 minutes of both cores of an Intel with AMX; DPO is 33 nats from the start, KTO 13, PPO 21; one seed):
# REPRODUCED, of BLiMP and PIQA, the two on which the start is above chance (0.603 and, hardly, 0.525 of guesses' 0.5):
# none of six differences lies below 0; BLiMP +0.0018 to +0.0029. The others do not count: ARC-Easy 0.255 (chance 0.25),
# LAMBADA 0.003, BIG-Bench Hard one item of 6,511.
#
# Yet something is lost. BLiMP's mean hides that determiner and noun agree less often (0.698 before; DPO 0.641, KTO
# 0.672, PPO 0.666), as do argument structure (0.657; 0.597, 0.630, 0.642) and irregular forms (0.702; 0.645, 0.650,
# 0.688), while quantifiers and negative polarity items, on which the start is below chance, gain. Of LAMBADA's
# words DPO and KTO find 11 and 6 fewer of the start's few, and their perplexity goes from 21,000 to 53,000 (DPO),
# 28,000 (KTO) and 33,000 (PPO). So: no tax by this criterion, and a reader may want another.
#
# That was the second run, with the policies of imdb_frontier.sh's second run; the first said the same. (The verdict it
# printed at first was NOT DISTINGUISHED, with no benchmark that counts: the lines that judge looked for "above" in
# a column where the table no longer has it. They were mended, the criteria and the numbers were not touched.)
set -eu
NAME=alignment_tax PROGRAMS=evaluate
. dev/repro/real_data.sh
. dev/repro/runs.sh
runs_begin "$@"
from=${FRONTIER:-out/imdb_frontier}
start=${IMDB:-out/imdb_sft/sft/final}
models=start=$start runs="dpo/0.05-1 kto/0.05-1 ppo/0.05-1"
for run in $runs; do
    model=$from/runs/$run/final
    [ -f "$model/model.safetensors" ] || fail "$model: no model; make it with: sh dev/repro/imdb_frontier.sh"
    models=$models,${run%/*}=$model
done
files=
for set in blimp/blimp mcq/arc_easy mcq/piqa lambada/lambada_openai_test; do
    file=$(real $set.jsonl)
    files=$files${files:+,}${set%/*}=$file
done
files=$(echo "$files" | sed 's/mcq=\([^,]*arc_easy\)/arc_easy=\1/; s/mcq=\([^,]*piqa\)/piqa=\1/')
bbh=$(real bbh/bbh_train.jsonl),$(real bbh/bbh_eval.jsonl)
made "$OUT/bbh.jsonl" cat "${bbh%,*}" "${bbh#*,}"
few=
[ -z "$QUICK" ] || few="--max_items 20"
if [ ! -f "$OUT/benchmarks.json" ]; then
    began=$(date +%s)
    "$BIN/evaluate" --models "$models" --benchmark "$files,bbh=$OUT/bbh.jsonl" --max_new_tokens 16 $few \
        --output "$OUT/benchmarks.new" --overwrite_output >"$OUT/evaluated" 2>&1 || fail "see $OUT/evaluated"
    echo $(($(date +%s) - began)) >"$OUT/benchmarks.seconds"
    mv "$OUT/benchmarks.new" "$OUT/benchmarks.json"
fi

# ---- verdict ---------------------------------------------------------------------------------------
{
    sed -n '/^benchmark /,/chance: of a guess/p' "$OUT/evaluated"
    echo
    grep ' - start on ' "$OUT/evaluated"
    echo
    echo "a mean can hide what goes up and down: BLiMP by phenomenon"
    awk '/^blimp, by task/ { on = 1 } /^$/ { on = 0 } on && !/^  /' "$OUT/evaluated"
    for run in $runs; do # where the evaluations are
        [ ! -f "$from/runs/$run.json" ] ||
            awk -v run="$run" '/"kl": {/ { kl = $3 } END { printf "KL to the start of %s: %.1f nats\n", run, kl }' \
                "$from/runs/$run.json"
    done
    [ "$QUICK" ] || awk '
        # benchmark model items accuracy [low, high] chance, above|at it|below; of LAMBADA and BIG-Bench Hard - for chance
        $2 == "start" && ($8 == "above" || ($7 == "-" && $4 >= 0.01)) { counts[$1] = 1; names = names " " $1 }
        / - start on / {
            name = $5; sub(/:/, "", name)
            high = $9 + 0 # of "0.01],"
            if (name in counts) { n++; if (high < 0) { behind++; if ($7 < least) least = $7 } }
        }
        END {
            print "benchmarks on which the start knows something:" (names ? names : " none")
            verdict = behind == 0 ? "REPRODUCED" : behind == 1 && least > -0.01 ? "NOT DISTINGUISHED" : "CONTRADICTED"
            printf "%d of %d comparisons lie below 0\n  no alignment tax: %s\n", behind, n, n ? verdict : "NOT DISTINGUISHED"
        }' "$OUT/evaluated"
    echo "$(minutes) minutes"
} >"$OUT/result.txt"
cat "$OUT/result.txt"
[ "$QUICK" ] || grep -q 'tax: REPRODUCED' "$OUT/result.txt"
