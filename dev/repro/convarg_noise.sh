#!/bin/sh
# Noise that is real: DPO, cDPO, robust DPO and IPO on preferences of which every one is one person's vote,
# judged by the data's gold labels, made of five votes, on topics that no training has seen (Habernal and Gurevych
# 2016's arguments).
#
#     sh dev/repro/convarg_noise.sh [--quick] [--jobs N] [DIR]
#
# DIR (out/convarg_noise) gets everything. A run that is done is not done again and one that was cut off goes on:
# the same command. An hour on two cores. --quick: a minute or two, to see that the script works; no verdict.
# MODEL=DIR: another model to begin with than data/stories. Needs convarg of the real data (data/fetch.sh).
#
#   papers  cDPO: Mitchell 2023, "A note on DPO with noisy preferences". Robust DPO: Chowdhury, Kini and
#           Natarajan 2024. IPO: Azar et al. 2023. What they assume does not hold here: robust DPO has labels flip
#           at one rate, whatever the pair, where people's votes flip when it is close; cDPO's note argues and
#           does not measure; IPO's is about preferences near 0 or 1.
#   data    prefs_train_onevote: pairs of arguments for one side of a question with one worker's vote. Taken are
#           those whose column `gold` says whether the majority agrees; where there is none it is not known what
#           noise would be. "Majority" below is that column: the authors weighted the workers' votes, so in 4 % of
#           the pairs judged it is not what most of the five said. The share against it is the known flip rate e.
#           Two topics, those with most pairs, are kept for selection; 11 are for training. Judged: prefs_eval,
#           2,407 pairs of 3 other topics by their majority. They are made of 199 texts, so intervals that count
#           pairs as independent are too narrow; verdicts use those over seeds.
#   runs    SFT on the chosen arguments of the training topics, two passes. From there, each seed with 1,280 of the
#           8,343 pairs, drawn by seed (two seeds share about 15 %), 32 an update, constant rate after 10 updates
#           of warm-up, 160 updates (4 passes):
#             dpo, cdpo (label_smoothing e), robust (loss_type robust, label_smoothing e), ipo (ipo_sum, the
#             paper's sums), and clean: dpo on the same pairs with the majority's labels
#           and as a discriminative floor reward models from the same start: rm on the seed's pairs, 160 updates,
#           rm_all on all pairs once. 5 seeds, 1 to 5.
#   read    "early": after 40 or 80 updates (1 or 2 passes), whichever selection says. "end": after 160.
#
# Settings are selected with seed 100, which is not one of the five, by accuracy on the selection topics'
# majority labels after 40 and 80 updates. First the learning rate, of 0.00003, 0.0001 and 0.0003, with DPO at
# beta 0.1: AdamW's steps do not know the scale of a loss, and at the start all four losses pull the same way, so
# it is the same for all (if that favours one, then DPO). Then, at that rate, each method's beta with the updates:
# 0.03, 0.1, 0.3 (ipo: 0.01, 0.03, 0.1, which aim at margins of 50, 17 and 5 nats); for rm the rate, of 0.0001,
# 0.0003, 0.001. The highest accuracy wins; of equal ones the first by updates, then by beta as listed. clean has
# what dpo has.
#
# Measured, with the implicit reward log pi(y|x) - log ref(y|x), sums of tokens, ref being SFT's model:
#   accuracy    share of pairs whose majority choice has the more of it, a tie is half. Floors: .759 by a bag of
#               words that learnt from 9,240 majority labels (the data's README), the longer text (printed).
#   controlled  for length: the mean of two accuracies, of the pairs whose chosen text is the longer one in
#               bytes, and of those where it is the shorter one. Always the longer and always the shorter have .5;
#               a rule of lengths that looks at the gap, too, can have .63.
#   similar     accuracy on pairs whose texts differ in length by a quarter at most.
#   gap         accuracy on the run's own 1,280 pairs by the labels it got, less that on the topics judged.
#   log-loss    mean of -log sigmoid(beta h), h the margin of implicit rewards: bad if confident and wrong.
#
# Claims, each by the 90 % interval of the difference of two methods, paired by seed (Student, 5 seeds):
#   cDPO 1, 2    accuracy early, and at the end: cdpo > dpo (noise does less harm)
#   cDPO 3       log-loss at the end: cdpo < dpo (it stops at a confidence of 1 - e, where DPO runs on)
#   robust 1, 2  accuracy early, and at the end: robust > dpo
#   robust 3, 4  accuracy early, and at the end: robust > cdpo
#   IPO 1        gap at the end: ipo < dpo (overfits less)
#   IPO 2        accuracy at the end: ipo > dpo (and is the better for it)
# REPRODUCED: the interval is on the claim's side of 0. CONTRADICTED: on the other. Else NOT DISTINGUISHED.
# Beside those of accuracy, the same difference of `controlled` and pair by pair (means over seeds), which
# decide nothing. What noise costs is clean less dpo. Exit code 0: all are REPRODUCED; 1: not all.
#
# Pilots of 40 to 80 updates with seed 100, by the selection topics alone and from a model of some minutes'
# training, said that rates above 0.0003 do worse than chance; the grids were set with that.
#
# What came out (46 minutes of one core of an Intel with AMX; flip rate 0.150). Accuracy at the end of dpo 0.625, cdpo
# 0.663, robust 0.579, ipo 0.668, clean 0.621; the longer text 0.757, rm 0.735, rm_all 0.782.
#
#     cDPO 1, 2, 3   REPRODUCED: +0.019 (+0.010 to +0.029), +0.038 (+0.030 to +0.046); log-loss 0.636 for 0.711
#     robust 1       NOT DISTINGUISHED: -0.005 (-0.012 to +0.003)
#     robust 2, 3, 4 CONTRADICTED: -0.046 (-0.059 to -0.032) beside dpo at the end; -0.024 and -0.084 beside cdpo
#     IPO 1, 2       REPRODUCED: gap 0.225 for 0.297; accuracy +0.043 (+0.032 to +0.053)
#
# But noise is not what this is about: clean is no better than dpo (-0.004, -0.012 to +0.005 early; -0.004, -0.011 to
# +0.004 at the end). cdpo and ipo win by going less far (margins in training 4.4 and 3.4 nats, dpo 8.9, robust 16.5),
# and what they win is length: controlled for it they have +0.007 (-0.001 to +0.014) and -0.001 (-0.012 to +0.011).
# All policies stay far below the rule of the longer text, which reward models reach or pass. The rate taken is the
# lowest of its grid, the betas the highest of theirs.
set -eu
NAME=convarg_noise PROGRAMS="train_sft train_dpo train_rm score evaluate loglik interval"
. dev/repro/real_data.sh
. dev/repro/runs.sh

# logps FLAG..: the log-prob of each text, a line each, as loglik measures it
logps() {
    "$BIN/loglik" --strict_data "$@" >"$OUT/loglik.$$" && awk '{ print $2 }' "$OUT/loglik.$$" && rm "$OUT/loglik.$$"
}

# What is measured of a run before its checkpoints go: RUN.SPLIT.MODEL has a number for each text of the split,
# the log-prob by a policy, the score by a reward model.
run_ended() {
    splits="eval train"
    case ${1#"$OUT"/} in
    sft) return ;;
    select/*) splits=select ;;
    esac
    for model in "$1"/checkpoint-* "$1/final"; do
        for split in $splits; do
            [ -d "$model" ] || continue
            [ $split != train ] || [ "$model" = "$1/final" ] || continue
            case $1 in
            */rm*) measure="$BIN/score --batch_size 32 --max_length 256" ;;
            *) measure=logps ;;
            esac
            made "$1.$split.${model##*/}" $measure --model "$model" --dataset "$OUT/data/$split.texts.jsonl" \
                2>>"$1.log"
        done
    done
}
runs_begin "$@"
model=${MODEL:-data/stories}
train=$(real convarg/prefs_train_onevote.jsonl)
held_out=$(real convarg/prefs_eval.jsonl)
seeds="1 2 3 4 5" select_seed=100 pairs=1280 rows=32 warmup=10
early="40 80" last=160 # updates: after which it is read
rates="0.00003 0.0001 0.0003" rm_rates="0.0001 0.0003 0.001" betas="0.03 0.1 0.3" ipo_betas="0.01 0.03 0.1"
if [ "$QUICK" ]; then
    seeds="1 2" pairs=32 rows=8 warmup=1 early="2 4" last=6
    rates="0.0001 0.0003" rm_rates="0.0003" betas="0.1" ipo_betas="0.03"
fi
save=${early%% *} most_early=${early##* }
methods="dpo cdpo robust ipo clean rm rm_all"

# ---- data --------------------------------------------------------------------------------------------
# Of each split, SPLIT.texts.jsonl with every text once, and SPLIT.pairs, a line a pair: numbers of the chosen and
# the rejected text there, their bytes, and 1 if the majority agrees with the label, else 0. noisy.jsonl and
# clean.jsonl are the training pairs by vote and by majority; their lines are those of train.pairs.

PARTS='
    function part(row, from, to,   begin) { # what is between two marks of a row of JSON
        begin = index(row, from) + length(from)
        row = substr(row, begin)
        return substr(row, 1, index(row, to) - 1)
    }
    function bytes(json) { # of a string
        gsub(/\\u..../, "x", json)
        gsub(/\\./, "x", json)
        return length(json) - 2
    }
    {
        prompt = "{\"prompt\": " part($0, "{\"prompt\": ", ", \"chosen\": \"")
        chosen = part($0, ", \"chosen\": ", ", \"rejected\": \"")
        rejected = part($0, ", \"rejected\": ", ", \"votes_chosen\": ")
        topic = part($0, ", \"topic\": \"", "_")
        agrees = !/"gold": false}$/
    }'

# split_data DIR: all those files, from the two of the data
split_data() {
    rm -rf "$1.new"
    mkdir "$1.new"
    grep -e '"gold": true}$' -e '"gold": false}$' "$train" >"$1.new/majority"
    awk "$PARTS { print topic }" "$1.new/majority" | sort | uniq -c | sort -k 1,1nr -k 2 |
        awk 'NR <= 2 { print $2 }' >"$1.new/topics"
    awk -v dir="$1.new/" "$PARTS"'
        function text(completion,   key) { # its number
            key = place SUBSEP prompt SUBSEP completion
            if (!(key in number)) {
                number[key] = ++n[place]
                print prompt ", \"completion\": " completion "}" >(dir place ".texts.jsonl")
            }
            return number[key]
        }
        function pair(a, b) { return prompt ", \"chosen\": " a ", \"rejected\": " b "}" }
        BEGIN { while ((getline name <(dir "topics")) > 0) kept[name] }
        {
            place = FILENAME !~ /majority$/ ? "eval" : topic in kept ? "select" : "train"
            good = agrees ? chosen : rejected
            bad = agrees ? rejected : chosen
            if (place != "train") {
                chosen = good
                rejected = bad
            }
            first = text(chosen)
            second = text(rejected)
            print first, second, bytes(chosen), bytes(rejected), agrees >(dir place ".pairs")
            if (place != "train") next
            print pair(chosen, rejected) >(dir "noisy.jsonl")
            print pair(good, bad) >(dir "clean.jsonl")
            if (!((prompt, chosen) in seen)) print prompt ", \"completion\": " chosen "}" >(dir "sft.jsonl")
            seen[prompt, chosen]
        }' "$1.new/majority" "$held_out"
    mv "$1.new" "$1"
}
[ -d "$OUT/data" ] || split_data "$OUT/data"
if [ "$QUICK" ]; then # as much as shows that it works
    for place in eval select; do
        head -n 60 "$OUT/data/$place.pairs" >"$OUT/data/few"
        texts=$(awk '{ print $1; print $2 }' "$OUT/data/few" | sort -n | tail -n 1)
        mv "$OUT/data/few" "$OUT/data/$place.pairs"
        head -n "$texts" "$OUT/data/$place.texts.jsonl" >"$OUT/data/few"
        mv "$OUT/data/few" "$OUT/data/$place.texts.jsonl"
    done
fi

# draw SEED: numbers of those training pairs that are this seed's
draw() {
    awk -v seed="$1" 'BEGIN { x = (seed * 7919 + 12345) % 2147483647 }
        { x = (x * 16807) % 2147483647; print x, NR }' "$OUT/data/train.pairs" |
        sort -k 1,1n | head -n $pairs | awk '{ print $2 }'
}
# drawn SEED FILE: those lines of a file
drawn() { awk 'FNR == NR { want[$1]; next } FNR in want' "$OUT/data/draw-$1" "$2"; }
# turned FILE: pairs with the majority's labels instead of the votes
turned() { awk '{ print $(1 + !$5), $(2 - !$5), $(3 + !$5), $(4 - !$5), 1 }' "$1"; }
for seed in $select_seed $seeds; do
    made "$OUT/data/draw-$seed" draw "$seed"
    made "$OUT/data/noisy-$seed.jsonl" drawn "$seed" "$OUT/data/noisy.jsonl"
    made "$OUT/data/clean-$seed.jsonl" drawn "$seed" "$OUT/data/clean.jsonl"
    made "$OUT/data/noisy-$seed.pairs" drawn "$seed" "$OUT/data/train.pairs"
    made "$OUT/data/clean-$seed.pairs" turned "$OUT/data/noisy-$seed.pairs"
done
flips=$(awk '{ n += !$5 } END { printf "%.4f", n / NR }' "$OUT/data/train.pairs")

# ---- runs --------------------------------------------------------------------------------------------

# learn RUN METHOD SEED RATE BETA UPDATES: a line for at_once
learn() {
    program=train_dpo labels=noisy length="--max_steps $6"
    case $2 in
    cdpo) how="--loss_type sigmoid --label_smoothing $flips" ;;
    robust) how="--loss_type robust --label_smoothing $flips" ;;
    ipo) how="--loss_type ipo_sum" ;;
    *) how="--loss_type sigmoid" ;;
    esac
    data=noisy-$3.jsonl
    case $2 in
    clean) data=clean-$3.jsonl ;;
    rm_all) data=noisy.jsonl length="--num_train_epochs 1" ;;
    esac
    case $2 in
    rm*) program=train_rm how= ;;
    *) how="$how --beta $5 --samples 0" ;;
    esac
    [ $2 != rm_all ] || [ -z "$QUICK" ] || length="--max_steps $6"
    echo "$1" $program --model "$OUT/sft/final" --dataset "$OUT/data/$data" --max_length 256 $length $how \
        --per_device_train_batch_size $rows --learning_rate "$4" --lr_scheduler_type constant_with_warmup \
        --warmup_steps $warmup --bf16 --seed "$3" --logging_steps 10 --save_steps $save
}

# judged PLACE PAIRS RUN MODEL BETA: a line a pair, "right longer similar h log-loss"
judged() {
    reference=$OUT/reference.$1
    case $3 in */rm*) reference=/dev/null ;; esac
    awk -v beta="$5" '
        FILENAME == ARGV[1] { reference[FNR] = $1; next }
        FILENAME == ARGV[2] { r[FNR] = $1 - reference[FNR]; next }
        {
            h = r[$1] - r[$2]
            right = h > 0 ? 1 : h < 0 ? 0 : 0.5
            longer = $3 > $4 ? 1 : $3 < $4 ? 0 : 0.5
            similar = $3 <= 1.25 * $4 && $4 <= 1.25 * $3
            print right, longer, similar, h, beta * h < -30 ? -beta * h : log(1 + exp(-beta * h))
        }' "$reference" "$OUT/$3.$1.$4" "$2"
}

# summary: of those lines "accuracy controlled similar h log-loss"
summary() {
    awk '
        { right += $1; h += $4; loss += $5 }
        $2 == 1 { longer++; right_longer += $1 }
        $2 == 0 { shorter++; right_shorter += $1 }
        $3 == 1 { similar++; right_similar += $1 }
        function share(a, b) { return b ? a / b : 0.5 }
        END {
            controlled = (share(right_longer, longer) + share(right_shorter, shorter)) / 2
            printf "%.5f %.5f %.5f %.4f %.5f\n", right / NR, controlled, share(right_similar, similar), h / NR, loss / NR
        }'
}

trained sft train_sft --model "$model" --dataset "$OUT/data/sft.jsonl" --max_length 256 --num_train_epochs 2 \
    ${QUICK:+--max_steps 4} --per_device_train_batch_size 16 --learning_rate 0.0005 --lr_scheduler_type cosine \
    --warmup_steps 0.1 --bf16 --save_steps 0
for place in eval select train; do
    made "$OUT/reference.$place" logps --model "$OUT/sft/final" \
        --dataset "$OUT/data/$place.texts.jsonl" 2>>"$OUT/sft.log"
done

# ---- selection ---------------------------------------------------------------------------------------

# try METHOD RATES BETAS: the runs for it
try() {
    for rate in $2; do
        for beta in $3; do
            learn "select/$1-$rate-$beta" "$1" $select_seed "$rate" "$beta" "$most_early"
        done
    done
}
# tries METHOD RATES BETAS: "accuracy updates rate beta" of each of them at each early reading
tries() {
    for updates in $early; do
        at=checkpoint-$updates
        [ "$updates" != "$most_early" ] || at=final
        for rate in $2; do
            for beta in $3; do
                echo "$(judged select "$OUT/data/select.pairs" "select/$1-$rate-$beta" $at 1 | summary |
                    cut -d ' ' -f 1) $updates $rate $beta"
            done
        done
    done
}
# best METHOD RATES BETAS: the first of those with the highest accuracy
best() { tries "$@" | sort -s -k 1,1nr | head -n 1; }

try dpo "$rates" 0.1 | at_once
set -- $(best dpo "$rates" 0.1)
rate=$3
# grid METHOD: the rates and betas among which its setting is selected, in the shell's words
grid() {
    case $1 in
    ipo) set -- "$rate" "$ipo_betas" ;;
    rm) set -- "$rm_rates" 1 ;; # beta has no meaning there
    *) set -- "$rate" "$betas" ;;
    esac
    tried_rates=$1 tried_betas=$2
}
for method in dpo cdpo robust ipo rm; do
    grid $method
    try $method "$tried_rates" "$tried_betas"
done | at_once
{
    echo "tried: method, accuracy on the selection topics, updates, rate, beta"
    tries dpo "$rates" 0.1 | sed 's/^/  dpo /'
    for method in dpo cdpo robust ipo rm; do
        grid $method
        tries $method "$tried_rates" "$tried_betas" | sed "s/^/  $method /"
    done
} >"$OUT/tried"
for method in $methods; do # a line each, as above: clean takes what dpo takes, rm_all what rm takes
    as=$method
    [ $method != clean ] || as=dpo
    [ $method != rm_all ] || as=rm
    grid $as
    echo "$method $(best $as "$tried_rates" "$tried_betas")"
done >"$OUT/settings"
setting() { awk -v method="$1" -v column="$2" '$1 == method { print $column }' "$OUT/settings"; }

# ---- the runs that are judged ------------------------------------------------------------------------

for seed in $seeds; do
    for method in $methods; do
        learn "seed-$seed/$method" $method "$seed" "$(setting $method 4)" "$(setting $method 5)" $last
    done
done | at_once

# of METHOD SEED early|end [PLACE]: each pair, judged; on `train` the run's own pairs by the labels that it got
of() {
    at=final pairs_file=$OUT/data/eval.pairs
    [ "$3" = end ] || [ $1 = rm_all ] || at=checkpoint-$(setting $1 3)
    if [ "${4:-eval}" = train ]; then
        pairs_file=$OUT/data/noisy-$2.pairs
        [ $1 != clean ] || pairs_file=$OUT/data/clean-$2.pairs
    fi
    judged "${4:-eval}" "$pairs_file" "seed-$2/$1" $at "$(setting $1 5)"
}
# results: "method seed early|end accuracy controlled similar h log-loss", at the end also "gap, h in training"
results() {
    for method in $methods; do
        for seed in $seeds; do
            echo "$method $seed early $(of $method "$seed" early | summary)"
            echo "$method $seed end $(of $method "$seed" end | summary) $(of $method "$seed" end train | summary)" |
                awk '{ print $1, $2, $3, $4, $5, $6, $7, $8, $9 - $4, $12 }'
        done
    done
}
results >"$OUT/results"

# mean METHOD READING COLUMN: over seeds, with its interval
mean() {
    awk -v method="$1" -v reading="$2" -v column="$3" '$1 == method && $3 == reading { print $column }' \
        "$OUT/results" | "$BIN/interval" | awk '{ printf "%.3f (%.3f to %.3f)", $1, $2, $3 }'
}
# difference A B READING COLUMN: of A less B by seed, "mean low high"
difference() {
    awk -v a="$1" -v b="$2" -v reading="$3" -v column="$4" '
        $3 == reading && $1 == a { x[$2] = $column }
        $3 == reading && $1 == b { y[$2] = $column }
        END { for (seed in x) print x[seed], y[seed] }' "$OUT/results" | "$BIN/interval" | awk '{ print $1, $2, $3 }'
}
# by_pair A B READING: the same by pair, each with its mean over seeds
by_pair() {
    for method in $1 $2; do
        for seed in $seeds; do of $method "$seed" "$3" | awk '{ print NR, $1 }'; done |
            awk '{ sum[$1] += $2; n[$1]++ } END { for (i = 1; i in sum; i++) print sum[i] / n[i] }' >"$OUT/pairs-$method"
    done
    paste "$OUT/pairs-$1" "$OUT/pairs-$2" | "$BIN/interval" | awk '{ print $1, $2, $3 }'
    rm "$OUT/pairs-$1" "$OUT/pairs-$2"
}

# column MEASURE: where it is in the results
column() {
    echo method seed reading accuracy controlled similar h log-loss gap | tr ' ' '\n' | grep -n -x -e "$1" | cut -d : -f 1
}

# tables: settings, means over seeds, each seed
tables() {
    cat "$OUT/tried"
    echo
    awk -v pairs=$pairs -v flips="$flips" '
        { n++; longer += $3 > $4 ? 1 : $3 < $4 ? 0 : 0.5 }
        END {
            printf "%d training pairs a seed, flip rate %s; judged: %d pairs of topics that nobody has seen\n", pairs, flips, n
            printf "floors: .759 a bag of words, %.3f the longer text (.5 where length is controlled for)\n\n", longer / n
        }' "$OUT/data/eval.pairs"
    echo "mean and 90 % interval over seeds"
    printf '%-7s %-9s %-8s %-6s%-24s %-24s %s\n' method updates rate beta accuracy controlled similar
    for method in $methods; do
        for reading in early end; do
            updates=$(setting $method 3)
            [ $reading = early ] || updates=$last
            [ $method != rm_all ] || updates="a pass"
            printf '%-7s %-9s %-8s %-6s%-24s %-24s %s\n' $method "$updates" "$(setting $method 4)" "$(setting $method 5)" \
                "$(mean $method $reading 4)" "$(mean $method $reading 5)" "$(mean $method $reading 6)"
            [ $method != rm_all ] || break
        done
    done
    echo
    printf '%-7s %-24s %-24s %-26s %s\n' "end" "gap" "log-loss" "h judged, nats" "h in training"
    for method in $methods; do
        printf '%-7s %-24s %-24s %-26s %s\n' $method "$(mean $method end 9)" "$(mean $method end 8)" \
            "$(mean $method end 7)" "$(mean $method end 10)"
    done
    echo
    echo "each seed early: accuracy, exact 90 % interval as if pairs were independent, controlled, similar"
    for method in $methods; do
        for seed in $seeds; do
            of $method "$seed" early >"$OUT/judged"
            printf '  %-7s %s  %s  %s\n' $method "$seed" "$(awk '{ print $1 }' "$OUT/judged" |
                "$BIN/interval" --kind rate | awk '{ printf "%.3f (%.3f to %.3f)", $1, $2, $3 }')" \
                "$(summary <"$OUT/judged" | awk '{ printf "%.3f  %.3f", $2, $3 }')"
        done
    done
    rm -f "$OUT/judged"
}

# claim NAME A B early|end MEASURE above|below: A's less B's is above or below 0
all=yes
claim() {
    set -- "$@" $(difference "$2" "$3" "$4" "$(column "$5")")
    verdict=$(awk -v side="$6" -v low="$8" -v high="$9" 'BEGIN {
        up = low > 0
        down = high < 0
        print (side == "above" ? up : down) ? "REPRODUCED" : up || down ? "CONTRADICTED" : "NOT DISTINGUISHED"
    }')
    [ "$verdict" = REPRODUCED ] || all=no
    [ -z "$QUICK" ] || verdict="(quick)"
    printf '  %-9s %-18s %s, %s: %s - %s %+.4f (%+.4f to %+.4f), claimed %s 0\n' "$1" "$verdict" "$4" "$5" "$2" "$3" \
        "$7" "$8" "$9" "$6"
}
# accurate NAME A B early|end: the claim that A is more accurate; beside it what decides nothing
accurate() {
    claim "$1" $2 $3 $4 accuracy above
    printf '  %28s controlled %+.4f (%+.4f to %+.4f)' "" $(difference $2 $3 $4 "$(column controlled)")
    printf ', pair by pair %+.4f (%+.4f to %+.4f)\n' $(by_pair $2 $3 $4)
}

# claims: each with its interval, and what noise costs; sets `all`
claims() {
    echo
    echo "claims"
    accurate "cDPO 1" cdpo dpo early
    accurate "cDPO 2" cdpo dpo end
    claim "cDPO 3" cdpo dpo end log-loss below
    accurate "robust 1" robust dpo early
    accurate "robust 2" robust dpo end
    accurate "robust 3" robust cdpo early
    accurate "robust 4" robust cdpo end
    claim "IPO 1" ipo dpo end gap below
    accurate "IPO 2" ipo dpo end
    echo "what noise costs, accuracy of clean less that of dpo"
    for reading in early end; do
        printf '  %-5s %+.4f (%+.4f to %+.4f)\n' $reading $(difference clean dpo $reading "$(column accuracy)")
    done
}

{
    tables
    claims
    echo
    result_ends
} >"$OUT/result.txt"

# ---- what they write ---------------------------------------------------------------------------------

seed=${seeds%% *} samples=20
[ -z "$QUICK" ] || samples=1
prompts() { sed 's/, "completion": ".*/}/' "$OUT/data/eval.texts.jsonl" | awk '!seen[$0]++'; }
# named METHOD..: the first seed's runs as NAME=DIR,NAME=DIR; with END after each DIR
named() { for method in "$@"; do echo "$method=$OUT/seed-$seed/$method$END"; done | paste -s -d , -; }
made "$OUT/data/prompts.jsonl" prompts
echo "evaluation evaluate --models $(END=/final named dpo cdpo robust ipo clean) --baseline sft=$OUT/sft/final" \
    "--ref_model $OUT/sft/final --reward_model $OUT/seed-$seed/rm_all/final --reward_eos" \
    "--dataset $OUT/data/prompts.jsonl --num_return_sequences $samples --max_new_tokens 120 --samples 2" | at_once
cat "$OUT/result.txt"
echo
echo "what the first seed's policies write at the end; reward: of rm_all"
sed -n '/(prompt | completion):$/,/^  reward  /p' "$OUT/evaluation.log" | sed '$d'
echo "a page: ./report --experiments $OUT --runs $(END= named $methods) --evaluation $OUT/evaluation.json" \
    "--samples_file $OUT/evaluation_samples.jsonl"
[ "$QUICK" ] || [ $all = yes ]
