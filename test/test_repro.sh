#!/bin/sh
# What the experiments of dev/repro count with: intervals, verdicts, log-probs of completions, AUC, and pairs
# that are cut up. Run from the repository's root with BIN set to a build; prints `repro: N passed, ..`.
BIN=${BIN:-build/plain}
. test/helpers.sh
. dev/repro/pairs.sh

# mistake CODE WORDS COMMAND...: the command complains
mistake() {
    complains "$@"
    shift 2
    judge "$@"
}

# said WHAT TEXT COMMAND..: the command prints this line
said() {
    what=$1 text=$2
    shift 2
    "$@" >"$T/said" 2>&1
    check "$what" grep -qxF -e "$text" "$T/said"
}

# ---- interval: of 1, 2, 3 the half width is 2.919986 / sqrt(3), t with 2 degrees of freedom ----------

printf '1\n2\n3\n' >"$T/numbers"
said "interval: a mean" "2 0.314146 3.68585 3" sh -c "'$BIN/interval' <'$T/numbers'"
printf '2 1\n4 2\n6 3\n' >"$T/numbers"
said "interval: paired differences" "2 0.314146 3.68585 3 0.25" sh -c "'$BIN/interval' <'$T/numbers'"
yes 1 | head -n 156 >"$T/numbers"
yes 0 | head -n 58 >>"$T/numbers"
said "interval: a rate, as the exact binomial one" "0.728972 0.674457 0.778673 214" \
    sh -c "'$BIN/interval' --kind rate <'$T/numbers'"

# ---- verdict -----------------------------------------------------------------------------------------

cat >"$T/lines" <<'END'
value 1 a x 2
value 2 a x 4
value 3 a x 6
value 1 b x 1
value 2 b x 2
value 3 b x 3
value 1 c x 1
value 2 c x 1
END
# claims WORDS..: of lines with these claims
claims() { { cat "$T/lines"; printf '%s\n' "$@"; } | "$BIN/verdict"; }
said "verdict: a difference, paired by unit" \
    "    x, a - b: +2.0000 [+0.3141, +3.6859], claimed above 0 (3 units)" claims "claim C x a - b above 0 words"
said "verdict: on the claimed side" "    C: REPRODUCED" claims "claim C x a - b above 0.3 words"
check "verdict: then the exit code is 0" claims "claim C x a - b above 0.3 words"
said "verdict: across the bound" "    C: NOT DISTINGUISHED" claims "claim C x a - b above 0.4 words"
refuse "verdict: then the exit code is 1" claims "claim C x a - b above 0.4 words"
said "verdict: on the other side" "    C: CONTRADICTED" claims "claim C x a - b below 0.3 words"
said "verdict: below" "    C: REPRODUCED" claims "claim C x b below 3.7"
said "verdict: the worst condition counts" "    C: CONTRADICTED" \
    claims "claim C x a above 0 words" "claim C x a - b below 0.3" "claim C x a above 4"
said "verdict: the next claim begins anew" "    D: REPRODUCED" \
    claims "claim C x a - b below 0.3" "claim D x b above 0 words"
said "verdict: too few units" "    C: no verdict of fewer than 3 units" claims "claim C x c above 0 words"
check "verdict: then the exit code is 0" claims "claim C x c above 5"
said "verdict: a table's row" "b                  2.0000 [0.3141, 3.6859]" claims "table x"
mistake 3 "policy b has no y of unit 1" sh -c "printf 'value 1 a y 2\nclaim C y a - b above 0\n' | '$BIN/verdict'"
mistake 3 "policy z has no x" sh -c "printf 'claim C x z above 0\n' | '$BIN/verdict'"
mistake 3 "line 1: \"many\" is not a number" sh -c "echo 'value 1 a x many' | '$BIN/verdict'"
mistake 3 "line 1: \"about\": expected above or below" sh -c "echo 'claim C x a about 0' | '$BIN/verdict'"
mistake 3 "line 2: unknown word \"tables\"" sh -c "printf '\ntables x\n' | '$BIN/verdict'"

# ---- loglik and verdict beside evaluate --------------------------------------------------------------

head -n 24 data/prefs_eval.jsonl >"$T/pairs.jsonl"
"$BIN/evaluate" --models sft=data/sft --baseline start=data/sft --ref_model data/sft --gold --eval_prompts 8 \
    --max_new_tokens 8 --dataset "$T/pairs.jsonl" --output "$T/evaluation.json" >"$T/said" 2>&1
"$BIN/loglik" --model data/sft --dataset "$T/pairs.jsonl" >"$T/loglik" 2>"$T/said"
check "loglik: a line for each side of a pair" [ "$(wc -l <"$T/loglik")" -eq 48 ]
nll=$(awk '$1 == 1 { sum -= $2; tokens += $5 } END { printf "%.4f", sum / tokens }' "$T/loglik")
printf 'evaluation 1 %s\ntable nll wins\n' "$T/evaluation.json" | "$BIN/verdict" >"$T/said"
check "loglik: nats a token ($nll), verdict: an evaluation's numbers" \
    grep -q "^sft  *$nll  *0\.[0-9]*\$" "$T/said"
sed 's/.*"chosen": "\(.*\)", "rejected".*/\1/' "$T/pairs.jsonl" >"$T/texts"
check "loglik: bytes of the text" [ "$(awk '$1 == 1 { n += $4 } END { print n + 24 }' "$T/loglik")" -eq "$(wc -c <"$T/texts")" ]
pairs_awk '{ print labelled(prompt(), good(), "false") }' "$T/pairs.jsonl" >"$T/labels.jsonl"
"$BIN/loglik" --model data/sft --dataset "$T/labels.jsonl" >"$T/labels" 2>"$T/said"
sed -n 's/^1/0/p' "$T/loglik" >"$T/wanted"
check "loglik: rows with labels" awk 'NR == FNR { p[NR] = $2; next } { d = p[FNR] - $2; bad += $1 || d * d > 1e-8; n++ }
    END { exit bad || n != 24 }' "$T/wanted" "$T/labels"

# ---- auc: by hand; the good ones are ahead of 3 of 4 bad ones, without question p of its one of one -----

printf '%s\n' "1 a p 1 3" "1 a p 0 -1" "1 a q 1 0" "1 a q 0 1" >"$T/answers"
"$BIN/auc" <"$T/answers" >"$T/said"
printf '%s\n' "value 1 a auc 0.75" "value 1 a balanced 0.625" "value p a auc_questions 1.5" \
    "value p a balanced_questions 1" "value q a auc_questions 0.5" "value q a balanced_questions 0.25" >"$T/wanted"
same "auc: by seed and by question" "$T/said" "$T/wanted"
mistake 3 "line 1: expected SEED POLICY QUESTION LABEL SCORE" sh -c "echo '1 a p 2 3' | '$BIN/auc'"

# ---- imdb_overopt: 2 prompts, gold 1 to 8 of each (deviation 2.366) and none of a sample without a text; of 4 of them
# ---- the best has 7.2 on average, the worst 1.8; of "two" each seed has both; and a run whose gold is 5, 7 and 4 in
# ---- its three windows while the proxy counts updates ---

for seed in 1 2; do
    mkdir "$T/ppo-$seed"
    awk 'BEGIN { for (u = 1; u <= 30; u++)
        printf "{\"step\": %d, \"objective/scores\": %d, \"objective/gold\": %d, \"objective/kl\": %d}\n",
            u, u, u <= 10 ? 5 : u <= 20 ? 7 : 4, u }' >"$T/ppo-$seed/metrics.jsonl"
    printf '{"arm": "%s", "seed": %d, "ensemble": "%s", "scores": ["%s"%s]}\n' good $seed mean "$T/up" '' \
        bad $seed mean "$T/down" '' both $seed min "$T/down" ", \"$T/flat\"" \
        two $seed mean "$T/up" '' two $seed mean "$T/down" ''
    printf '{"arm": "run", "seed": %d, "log": "%s"}\n' $seed "$T/ppo-$seed"
done >"$T/curves.jsonl"
for prompt in 1 2; do printf '%s\n' 1 2 3 nan 4 5 6 7 8; done >"$T/up"
sed 's/^/-/' "$T/up" >"$T/down"
sed 's/.*/0/' "$T/up" >"$T/flat"
over() { "$BIN/imdb_overopt" --curves "$T/curves.jsonl" --gold "$T/up" --prompts 2 --figures "$T" --claims "$@"; }
said "imdb_overopt: best of 4" \
    "  REPRODUCED         end:good>bad                         +2.282 (+2.282 to +2.282)" over "end:good>bad"
check "imdb_overopt: then the exit code is 0" over "end:good>bad"
said "imdb_overopt: the other way round" \
    "  CONTRADICTED       end:both>good                        -2.282 (-2.282 to -2.282)" over "end:both>good"
refuse "imdb_overopt: then the exit code is 1" over "end:both>good"
said "imdb_overopt: two curves of a seed" \
    "  REPRODUCED         end:good>two                         +1.141 (+1.141 to +1.141)" over "end:good>two"
said "imdb_overopt: a run that goes too far" \
    "  REPRODUCED         fall:run                             gold falls by +1.268 (+1.268 to +1.268), while the proxy rises by +10.000 (+10.000 to +10.000)" \
    over "fall:run"
said "imdb_overopt: no fall" \
    "  NOT DISTINGUISHED  fall:good                            gold falls by +0.000 (+0.000 to +0.000), while the proxy rises by +0.000 (+0.000 to +0.000)" \
    over "fall:good"
check "imdb_overopt: figures" grep -q '^<svg xmlns=' "$T/ppo.svg" "$T/best_of_n.svg"
mistake 2 'no arm "worse"' over "end:good>worse"
mistake 2 'expected fall:A, peak:A>B' over "higher:good>bad"
mistake 3 "18 scores for 3 prompts" over "end:good>bad" --prompts 3
mistake 3 'no number "objective/gold"' sh -c "sed -i.old 's|objective/gold|gold|' '$T/ppo-2/metrics.jsonl'; '$BIN/imdb_overopt' \
    --curves '$T/curves.jsonl' --gold '$T/up' --prompts 2 --claims end:good'>'bad"

# ---- frontier: 4 prompts. At KL 2 a has 2 everywhere, at 3 less; b has 1 at KL 4. So at KL 1, 2, 4, 8 a is worth 1, 2, 2,
# ---- 2 and b 0.25, 0.5, 1, 1. The best of 2 of the start's samples 1, 2, 3, 4, to which ten times the
# ---- prompt's number is added, has 10/3 and that on average, at log 2 - 1/2 nats; prompts 1 and 3 are judged

# policy NAME KL MORE REWARD..: what evaluate writes of a policy with these rewards, as many samples a prompt as there
# are, the first ones of all prompts first; MORE for each prompt than for the one before
policy() {
    echo '{"models": [{"name": "policy", "kl": {"mean": '"$2"'}}]}' >"$T/$1.json"
    name=$1 more=$3
    shift 3
    for reward in "$@"; do
        for prompt in 0 1 2 3; do
            echo '{"name": "policy", "prompt_number": '"$prompt, \"reward\": $((reward + more * prompt))}"
        done
    done >"$T/$name.jsonl"
}
# point METHOD NAME: its line
point() {
    echo '{"method": "'"$1"'", "seed": 1, "setting": "'"$2"'", "name": "policy",' \
        '"evaluation": "'"$T/$2.json"'", "samples": "'"$T/$2.jsonl"'"}'
}
policy start 0 0 0
policy a2 2 0 2
policy a3 3 0 1
policy b4 4 0 1
policy drawn 0 10 1 2 3 4
{
    point start start
    point a a2
    point a a3
    point b b4
    echo '{"method": "best", "seed": 1, "name": "policy", "samples": "'"$T/drawn.jsonl"'", "proxy": ""}'
} >"$T/points"
front() { "$BIN/frontier" --points "$T/points" --figure "$T/frontier.svg" --claims "$@"; }
said "frontier: the differences" "a less b at KL  1: +0.750 (+0.750, +0.750) ahead  2: +1.500 (+1.500, +1.500) ahead  4: \
+1.000 (+1.000, +1.000) ahead  8: +1.000 (+1.000, +1.000) ahead" front "a>b"
check "frontier: then the exit code is 0" front "a>b"
said "frontier: the other way round" "  b dominates a: CONTRADICTED" front "b>a"
refuse "frontier: then the exit code is 1" front "b>a"
said "frontier: a point that another beats is left out" "  a                seed 1:  a2: 2.00 at 2.00" front "a>b"
said "frontier: the best of n" "  best             seed 1:  n 2: 23.33 at 0.19" front "a>b"
check "frontier: a figure" grep -q '^<svg xmlns=' "$T/frontier.svg"
mistake 2 "expected METHOD>METHOD" front "a>c"
mistake 3 "no policy \"policy\" with a KL" sh -c "echo '{\"models\": []}' >'$T/b4.json'; '$BIN/frontier' --points '$T/points'"

# ---- pairs -------------------------------------------------------------------------------------------

head -n 4 data/prefs_eval.jsonl >"$T/few"
{ cat "$T/few"; sed -n 1p "$T/few"; } | good_answers - >"$T/said"
check "good answers, each once" [ "$(wc -l <"$T/said")" -eq "$(sort -u "$T/said" | wc -l)" ]
awk '{ sub(/"}$/, "\", \"set\": \"x\"}"); print }' "$T/few" | pairs_awk '{ print pair(prompt(), good(), bad()) }' - >"$T/said"
same "a pair's three texts, other columns left off" "$T/said" "$T/few"
for i in 1 2 3 4 5 6 7 8; do
    for turn in '' ' A\n\nHuman: more\n\nAssistant:'; do
        printf '{"prompt": "\\n\\nHuman: q%d\\n\\nAssistant:%s", "chosen": " c%d", "rejected": " r"}\n' $((i % 4)) "$turn" $i
    done
done >"$T/talks"
sed -n 1,2p "$T/talks" >"$T/held"
talks_split "$T/held" "$T/talks" "$T/split"
check "talks: all are somewhere" [ "$(cat "$T"/split_*.jsonl | wc -l)" -eq 18 ]
check "talks: those that open as held-out ones do are held out" [ "$(wc -l <"$T/split_held.jsonl")" -eq 6 ]
check "talks: the last turn is left" [ "$(grep -c '"prompt": "\\n\\nHuman: more\\n' "$T/split_held.jsonl")" -eq 3 ]
one_answer 1 "$T/talks" >"$T/said"
check "one answer a prompt" [ "$(wc -l <"$T/said")" -eq "$(cut -d , -f 1 "$T/talks" | sort -u | wc -l)" ]

# ---- runs.sh: a folder stays what it was begun as ---

folder() { sh -c 'NAME=x PROGRAMS= && . dev/repro/runs.sh && runs_begin "$@" && begun_with rounds 3' runs "$@"; }
check "a folder for a full run" folder "$T/begun"
check "and once more" folder "$T/begun"
refuse "but not for a quick one" folder --quick "$T/begun"
echo 4 >"$T/begun/rounds"
refuse "nor with other rounds" folder "$T/begun"

# ---- alignment_tax.sh's verdict on what evaluate has found (test_benchmark.sh has evaluate's own lines) --

# tax VERDICT LAMBADA PIQA: the verdict if dpo - start ends at so much on these, with the start above chance on both
tax() {
    wanted=$1
    {
        echo 'benchmark  model  items                   acc        chance'
        echo 'blimp      start  66993  0.503 [0.499, 0.506]  0.500, at it'
        echo 'piqa       start   1836  0.525 [0.506, 0.544]  0.500, above  0.495 [0.475, 0.514]'
        echo 'lambada    start   5153  0.023 [0.022, 0.025]             -     -'
        echo 'bbh        start   6511  0.003 [0.002, 0.005]             -     -'
        echo '  [..] 90% interval; chance: of a guess, and where the interval is'
        echo 'dpo - start on blimp: acc -0.0700 [-0.0800, -0.0600], better on 5 and worse on 9 of 66993 items'
        echo "dpo - start on piqa: acc -0.0200 [-0.0300, $3], better on 5 and worse on 9 of 1836 items"
        echo "dpo - start on lambada: acc -0.0050 [-0.0060, $2], better on 5 and worse on 9 of 5153 items"
        echo 'dpo - start on bbh: acc -0.0700 [-0.0800, -0.0600], better on 5 and worse on 9 of 6511 items'
    } >"$T/tax/evaluated"
    ALIGN_DATA=$ALIGN_TEST_DATA/data FRONTIER=$T/tax sh dev/repro/alignment_tax.sh "$T/tax" >"$T/said" 2>&1
    check "the alignment tax: $*" grep -qxF "  no alignment tax: $wanted" "$T/said"
    check "of the two benchmarks that count" grep -q '^[0-9] of 2 comparisons' "$T/said"
}
if [ -d "${ALIGN_TEST_DATA:-/none}/data/mcq" ]; then
    for run in dpo kto ppo; do
        mkdir -p "$T/tax/runs/$run/0.05-1/final"
        : >"$T/tax/runs/$run/0.05-1/final/model.safetensors"
    done
    : >"$T/tax/benchmarks.json"
    tax REPRODUCED +0.0010 +0.0010
    tax "NOT DISTINGUISHED" -0.0010 +0.0010
    tax CONTRADICTED +0.0010 -0.0010
    tax CONTRADICTED -0.0010 -0.0010
else
    skip "the alignment tax: ALIGN_TEST_DATA names no folder with data/mcq"
fi

finish repro
