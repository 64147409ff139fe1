#!/bin/sh
# KTO, which learns from single answers called good or bad, beside DPO, which learns from pairs, and SFT, on
# people's preferences between real answers: HH-RLHF (helpful) and OpenAssistant (100 English trees). The
# experiment of Ethayarajh et al. 2024, section 4, in small; dev/repro/kto_winrates.sh asks the same
# on generated film reviews.
#
#     sh dev/repro/kto_real.sh [--quick] [DIR]
#
# DIR (out/kto_real) gets everything; what is done is not done again, and a run that was cut off goes on: the
# same command. --quick shows in two minutes that the script works. MODEL=DIR: another start than
# data/stories. Data: hh and oasst_en100 of data/fetch.sh. It should take an hour on two cores of Zen 4.
#
#   texts     of a prompt only the last turn is left (a context has 256 tokens). Talks with the opening of
#             one of the evaluation files are held out; of the other openings 55 % go to the judge, 35 % to the
#             policies, 10 % to selection. No two of these four know an opening in common
#   judge     a reward model made of MODEL by train_rm on the judge's pairs of both sets. Its accuracy is printed
#             beside that of always choosing the longer side of the same pairs, with intervals, on those held
#             out and on all that it has not seen (held out, the policies', selection's). On the evaluation
#             files a bag of words is right on 0.551 and 0.604, the longer side on 0.555 and 0.634; all their
#             pairs count there, here those too long for 256 tokens are left out
#   sft       MODEL, fine-tuned on the good answers of the policies' pairs of both sets; start and reference of
#             all that follows
#   methods   sft_more (SFT goes on with the good answers), dpo, kto (all answers: the pairs taken apart)
#             and kto_one (one answer a prompt, good or bad by chance), all with as many updates as one pass
#             over the pairs makes, of 32 pairs or answers, KTO's of 64: the answers of 32 pairs
#   settings  beta 0.1 for DPO and KTO, as in the paper. Each method's rate is chosen of three, with seed 100, on
#             the prompts of selection, two samples each: the highest win rate over sft among those at most
#             20 nats from it (with a tenth of a nat or two a token texts are still whole), or else the one
#             nearest to it; kto_one takes KTO's. The judge's rate and passes, SFT's, the three rates and the 20
#             nats come from short trials on the policies' and selection's rows (an interim model, seed 100), to
#             see losses fall: at 0.0003 DPO and KTO went 80 nats away there and no longer ended their texts
#   measured  5 seeds (order of training, which answers are taken, samples): one sample for each held-out prompt
#             of HH-RLHF and eight of OpenAssistant's few, whole distributions (temperature 1), at most 160
#             tokens, or what the longest prompt of the set leaves of the 256; one that is cut off is judged
#             as it stands; the win rate over samples of sft by the judge, a tie half a win; KL to sft; and, without
#             any judge, the accuracy of the implicit reward on people's held-out pairs
#
# The criteria, fixed before the first full run. Intervals are Student's over 5 seeds, 90 %, differences paired
# by seed. On each of the two sets:
#
#   C1  KTO matches DPO on the same data: win rate, KTO - DPO above -0.02, and KTO above 0.5
#   C2  so it does with one answer for each prompt: win rate, kto_one - DPO above -0.02, and kto_one above 0.5
#   C3  KTO does more than SFT on the good answers: win rate, KTO - sft_more above 0
#   C4  C1 without a judge: accuracy on held-out pairs, KTO - DPO above -0.02, and KTO above 0.5
#
# REPRODUCED if all intervals of a claim lie on the claimed side, CONTRADICTED if one lies wholly on the other,
# else NOT DISTINGUISHED; nothing is corrected for their number. (That KTO has to be above 0.5, in C1, C2 and C4,
# was added after the quick form had shown tables of a few held-out rows, because a trial on selection's rows had
# shown an accuracy at chance. It makes the claims harder.) The judge comes first: if the interval of its
# accuracy on a set's unseen pairs does not lie above 0.5, then win rates there mean nothing, and C1 to C3 have no
# verdict for it; if it is not above the longer side's, they say little, which is printed with them.
#
# What to bear in mind. A policy that went further may win more, so KL stands beside each rate. All seeds
# share sft, judge and prompts, so an interval is about these. kto_one's updates are two passes over its answers,
# kto's one. C4 counts all held-out pairs, answers cut at 256 tokens; the judge those alone that fit. The paper's
# models have 1B to 30B parameters and its judge is GPT-4; after SFT it finds KTO and DPO equally good. Its figures
# for Mistral-7B on OpenAssistant, wins over the data's answers with 90 % intervals: DPO 0.600 +-0.037, KTO 0.652
# +-0.036, one answer a prompt 0.631 +-0.036.
#
# What came out (33 minutes of one core of an Intel with AMX; first HH-RLHF, then OpenAssistant). The judge is right on
# 0.610 and 0.633 of people's pairs, the longer side on 0.560 and 0.668: on OpenAssistant it knows no more than that.
#
#   C1  REPRODUCED on both: KTO wins 0.632 and 0.601, DPO 0.584 and 0.544; KTO - DPO +0.048 (+0.037 to +0.059) and
#       +0.057 (+0.032 to +0.082)
#   C2  NOT DISTINGUISHED on both: kto_one wins 0.583 and 0.555; -0.001 (-0.023 to +0.021), +0.011 (-0.027 to +0.050)
#   C3  REPRODUCED on both: sft_more wins 0.498 and 0.507, KTO +0.134 and +0.093 more
#   C4  CONTRADICTED on both: held-out accuracy of KTO 0.490 (0.482 to 0.497) and 0.424, of DPO 0.471 and 0.465, of
#       sft_more 0.484 and 0.480. From these answers none has learnt what people prefer in others; all make
#       long answers less likely, and people mostly prefer the longer
#
# KTO went further (KL 9.9 and 11.0, DPO 7.2 and 7.5, kto_one 6.5 and 7.2, sft_more 0.1): its rate was the highest of
# the three, sft_more's the lowest. Of SFT's samples 73 % end within the limit, of KTO's 62, of DPO's 33, on
# HH-RLHF, and the judge likes length a little (correlation 0.3). Of samples equally long (counted afterwards, in
# bins of 12 tokens) KTO - DPO is +0.019 (+0.007 to +0.031) and +0.028 (+0.002 to +0.055), kto_one - DPO -0.023
# (-0.042 to -0.003) and -0.006. KTO's KL estimate was cut off at 0 throughout: this is KTO without its KL term.
#
# Exit code 0: all claims are reproduced on both sets, or it was --quick; 1: not all; other: a run failed.
set -eu
NAME=kto_real PROGRAMS="train_sft train_rm train_dpo train_kto evaluate score report interval verdict"
. dev/repro/real_data.sh
. dev/repro/runs.sh
. dev/repro/pairs.sh
runs_begin "$@"
model=${MODEL:-data/stories}
seeds="1 2 3 4 5" rates="0.00003 0.0001 0.0003"
sft_length="--num_train_epochs 4" judge_length="--num_train_epochs 2"
prompts=0 samples_hh=1 samples_oasst=8 samples_select=2 new_tokens=160
if [ "$QUICK" ]; then
    seeds=1 rates=0.0001
    sft_length="--max_steps 10" judge_length="--max_steps 4"
    prompts=16 samples_hh=1 samples_oasst=1 samples_select=1 new_tokens=24
fi

# ---- data ------------------------------------------------------------------------------------------

hh_train=$(real hh/helpful_train.jsonl)
hh_eval=$(real hh/helpful_eval.jsonl)
oasst_train=$(real oasst_en100/prefs_train.jsonl)
oasst_eval=$(real oasst_en100/prefs_eval.jsonl)
data=$OUT/data
mkdir -p "$data"
[ -f "$data/hh_held.jsonl" ] || talks_split "$hh_eval" "$hh_train" "$data/hh"
[ -f "$data/oasst_held.jsonl" ] || talks_split "$oasst_eval" "$oasst_train" "$data/oasst"
if [ "$QUICK" ]; then # every tenth pair of HH-RLHF
    for part in judge policy select held; do
        [ "$(wc -l <"$data/hh_$part.jsonl")" -gt 400 ] || continue
        awk 'NR % 10 == 0' "$data/hh_$part.jsonl" >"$data/few"
        mv "$data/few" "$data/hh_$part.jsonl"
    done
fi
for part in judge policy select; do
    made "$data/$part.jsonl" cat "$data/hh_$part.jsonl" "$data/oasst_$part.jsonl"
done
made "$data/good.jsonl" good_answers "$data/policy.jsonl"
for seed in $seeds; do made "$data/one_$seed.jsonl" one_answer "$seed" "$data/policy.jsonl"; done
for part in judge policy select hh_held oasst_held; do
    echo "$part: $(wc -l <"$data/$part.jsonl") pairs of $(awk -F '", "chosen": ' '{ print $1 }' \
        "$data/$part.jsonl" | sort -u | wc -l) prompts"
done
updates=$(($(wc -l <"$data/policy.jsonl") / 32))

# ---- judge and start -------------------------------------------------------------------------------

schedule="--lr_scheduler_type cosine --warmup_steps 10 --adam_beta2 0.98 --bf16 --max_length 256"
schedule="$schedule --logging_steps 10 --save_steps 50 --save_total_limit 2"
judge="train_rm --dataset $data/judge.jsonl --eval_dataset $data/hh_held.jsonl --per_device_train_batch_size 32"
judge="$judge --per_device_eval_batch_size 32 --learning_rate 0.0001 $judge_length"
sft="train_sft --dataset $data/good.jsonl --per_device_train_batch_size 16 --learning_rate 0.001 $sft_length"
at_once <<END
judge $judge --model $model $schedule --seed 1
sft $sft --model $model $schedule --samples 0 --seed 1
END
start=$OUT/sft/final

# right FILE: on each of its pairs that fits into a context: is the judge right, is the longer side right?
right() {
    made "$1.scores" "$BIN/score" --model "$OUT/judge/final" --dataset "$1" --max_length 256 --bf16 2>>"$OUT/judge.log"
    pairs_awk '
        function half(x, y) { return x > y ? 1 : x < y ? 0 : 0.5 }
        { getline score <scores; split(score, s, "\t") }
        s[1] != "nan" { print half(s[1] + 0, s[2] + 0), half(length(good()), length(bad())) }' \
        "$1" -v scores="$1.scores"
}
for set in hh oasst; do
    made "$data/${set}_unseen.jsonl" cat "$data/${set}_held.jsonl" "$data/${set}_policy.jsonl" \
        "$data/${set}_select.jsonl"
    for part in held unseen; do right "$data/${set}_$part.jsonl" >"$OUT/judge_$set.$part"; done
done

# ---- rates -----------------------------------------------------------------------------------------

# runs DIR SEED METHOD RATE: a line for at_once
runs() {
    common="--model $start $schedule --learning_rate $4 --max_steps $updates --samples 0 --seed $2"
    case $3 in
    sft_more) echo "$1 train_sft --dataset $data/good.jsonl --per_device_train_batch_size 32 $common" ;;
    dpo) echo "$1 train_dpo --dataset $data/policy.jsonl --per_device_train_batch_size 32 --beta 0.1 $common" ;;
    kto) echo "$1 train_kto --dataset $data/policy.jsonl --per_device_train_batch_size 64 --beta 0.1 $common" ;;
    kto_one)
        echo "$1 train_kto --dataset $data/one_$2.jsonl --per_device_train_batch_size 64 --beta 0.1 $common"
        ;;
    esac
}

judged="--baseline start=$start --ref_model $start --reward_model $OUT/judge/final --reward_eos"
judged="$judged --max_length 256 --max_new_tokens $new_tokens --bf16 --eval_prompts $prompts --samples 0"
for rate in $rates; do
    for method in dpo kto sft_more; do runs "try/$method-$rate" 100 $method "$rate"; done
done | at_once
for method in dpo kto sft_more; do
    models=
    for rate in $rates; do models=$models${models:+,}$rate=$OUT/try/$method-$rate/final; done
    echo "try/$method evaluate --models $models $judged --dataset $data/select.jsonl --num_return_sequences" \
        "$samples_select --seed 100"
done | at_once

# tried METHOD: a line for each rate: win rate, KL, rate
tried() {
    awk '/^ *{"name": / { name = $2; gsub(/[",]/, "", name) }
        /^ *"kl": / { kl = $3 + 0 }
        /^ *"wins": {"reward": {/ { sub(/.*"rate": /, ""); print $0 + 0, kl, name }' "$OUT/try/$1.json"
}
for method in dpo kto sft_more; do
    tried $method >"$OUT/try/$method.tried"
    rate=$(awk '
        $2 <= 20 && (!kept || $1 > most) { most = $1; kept = $3 }
        !nearest || $2 < kl { kl = $2; nearest = $3 }
        END { print kept ? kept : nearest }' "$OUT/try/$method.tried")
    eval "rate_$method=$rate"
    awk -v method=$method -v kept="$rate" '{ printf "  %-8s rate %-7s win rate %.3f  KL %.1f%s\n", method, $3, $1, $2,
        $3 == kept ? "  chosen" : "" }' "$OUT/try/$method.tried"
done >"$OUT/try/chosen"

# ---- methods ---------------------------------------------------------------------------------------

for seed in $seeds; do
    runs "$seed/sft_more" "$seed" sft_more "$rate_sft_more"
    runs "$seed/dpo" "$seed" dpo "$rate_dpo"
    runs "$seed/kto" "$seed" kto "$rate_kto"
    runs "$seed/kto_one" "$seed" kto_one "$rate_kto"
done | at_once
for seed in $seeds; do
    models=sft=$start
    for method in sft_more dpo kto kto_one; do models=$models,$method=$OUT/$seed/$method/final; done
    for set in hh oasst; do
        eval "samples=\$samples_$set"
        echo "$seed/$set evaluate --models $models $judged --dataset $data/${set}_held.jsonl" \
            "--num_return_sequences $samples --seed $seed"
    done
done | at_once

# ---- what came out ---------------------------------------------------------------------------------

# judge SET PART WORDS: how often the judge and the rule of the longer side are right there
judge() {
    cut -d ' ' -f 1 "$OUT/judge_$1.$2" | "$BIN/interval" --kind rate >"$OUT/judge_$1.$2.accuracy"
    cut -d ' ' -f 2 "$OUT/judge_$1.$2" | "$BIN/interval" --kind rate >"$OUT/judge_$1.$2.longer"
    "$BIN/interval" <"$OUT/judge_$1.$2" >"$OUT/judge_$1.$2.ahead"
    cat "$OUT/judge_$1.$2.accuracy" "$OUT/judge_$1.$2.longer" "$OUT/judge_$1.$2.ahead" | paste -sd ' ' - |
        awk -v words="$3" '{ printf "  %d %s: judge %.3f [%.3f, %.3f], longer side %.3f [%.3f, %.3f], difference " \
            "%+.3f [%+.3f, %+.3f]\n", $4, words, $1, $2, $3, $5, $6, $7, $9, $10, $11 }'
}

# result SET: judge, table and verdicts; the exit code is that of the verdicts
result() {
    echo "==== $1: pairs rightly ranked"
    judge "$1" held "held out"
    judge "$1" unseen "that the judge has not seen"
    awk '{ exit $2 > 0 }' "$OUT/judge_$1.unseen.ahead" &&
        echo "The judge is not above the rule of the longer side: win rates say little about what people prefer."
    chance=$(awk '{ print ($2 > 0.5 ? "above" : "not above") }' "$OUT/judge_$1.unseen.accuracy")
    echo
    {
        for seed in $seeds; do echo "evaluation $seed $OUT/$seed/$1.json"; done
        echo "table wins kl accuracy"
        echo "table nll length repeated ended"
        if [ "$chance" = above ]; then
            echo "claim C1 wins kto - dpo above -0.02 KTO matches DPO on the same data"
            echo "claim C1 wins kto above 0.5"
            echo "claim C2 wins kto_one - dpo above -0.02 so it does with one answer for each prompt"
            echo "claim C2 wins kto_one above 0.5"
            echo "claim C3 wins kto - sft_more above 0 KTO does more than SFT on the good answers"
        fi
        echo "claim C4 accuracy kto - dpo above -0.02 C1 by the implicit reward on people's pairs, without a judge"
        echo "claim C4 accuracy kto above 0.5"
    } >"$OUT/$1.lines"
    verdicts=0
    "$BIN/verdict" --needed 5 <"$OUT/$1.lines" || verdicts=$?
    if [ "$chance" != above ]; then
        echo "The judge is not above chance: C1 to C3 have no verdict."
        [ $verdicts != 0 ] || verdicts=1
    fi
    return $verdicts
}

code=0
{
    cat "$OUT/try/chosen"
    echo
    result hh || code=$?
    echo
    result oasst || { other=$?; [ $other -le $code ] || code=$other; }
    echo
    echo "KTO's estimate of its KL, after the first 20 updates (a line is the mean of 10 updates):"
    for method in kto kto_one; do
        cat "$OUT"/[0-9]*/$method/metrics.jsonl |
            sed -n 's|.*"step": \([0-9]*\),.*"kl": \([^,}]*\).*|\1 \2|p' |
            awk -v name=$method '$1 > 20 { n++; zero += $2 == 0 }
                END { printf "  %-8s cut off at 0 throughout in %d of %d lines\n", name, zero, n }'
    done
    result_ends
} >"$OUT/result.txt"
ended $code "KTO, DPO and SFT on real preferences" --runs "$OUT/1,sft=$OUT/sft,judge=$OUT/judge" \
    --evaluation "$OUT/1/hh.json" --samples_file "$OUT/1/hh_samples.jsonl"
