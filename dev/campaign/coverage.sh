#!/bin/sh
# Coverage: which lines of the readers (JSON, tokenizer, data, model files, checkpoints, rewards' answers) the unit
# tests and the campaign of bad inputs run, measured by gcov. It prints the share of each header and a list of the
# lines that nothing ran.
#
#   sh dev/campaign/coverage.sh [--headers 'A.h B.h ..'] [--quick]     three minutes of one core; --quick: one unit
#                                                                      test alone, ten seconds
#
# The lists are also in OUT/coverage. Most lines that nothing runs are answers to a disk that fails
# (full_disk.sh), to memory that is not there (allocations.sh), or to what the fuzzers find (fuzz.sh). gcc only.
NAME=coverage
. dev/campaign/campaign.sh
headers=$(ls lib/base/json*.h lib/base/tokenizer.h lib/data/*.h lib/files/*.h lib/run/reward.h)
tests="common tokenizer dataset checkpoint model reward"
programs="train_sft train_rm train_dpo train_kto train_orpo train_ppo train_spin generate evaluate score report"
campaign_option() {
    case $1 in
    --headers) headers=$2 ;;
    *) return 1 ;;
    esac
}
campaign_begin "$@"
if $quick; then tests=tokenizer programs=; fi
B=$OUT/build root=$(pwd -P)
mkdir -p "$B"
find "$B" -name '*.gcda' -exec rm {} +

# built SOURCE NAME: with counters, unless it is there and newer than what it is made of
built() {
    if [ ! -e "$B/$2" ] || [ -n "$(find lib test/*.h ./*.h "$1" -newer "$B/$2" | head -n 1)" ]; then
        rm -f "$B/$2"-*.gcno
        gcc -std=gnu11 -O0 -g -march=native -fopenmp --coverage -include dev/campaign/coverage.h "$root/$1" \
            -o "$B/$2" -lopenblas -lcjson -lm || exit 1
    fi
}

for test in $tests; do
    built "test/test_$test.c" "test_$test"
    "$B/test_$test" >"$OUT/log" 2>&1 || { tail -n 5 "$OUT/log"; result "test_$test" FAILED; }
done
for program in $programs; do built "$program.c" "$program"; done
if [ -n "$programs" ]; then
    cp "$BIN/gold" "$B" 2>/dev/null
    sh dev/campaign/bad_inputs.sh --bin "$B" --out "$OUT/bad_inputs" >"$OUT/bad_inputs.log" 2>&1 ||
        echo "bad_inputs: $(tail -n 1 "$OUT/bad_inputs.log")"
fi

# A header's counts are the sum over all that include it, by whatever way: gcov writes `..` as ^ and / as #.
(cd "$B" && rm -f ./*.gcov && gcov -p -s "$root" -r ./*.gcda >"$OUT/log" 2>&1)
rm -rf "$OUT/coverage"
mkdir "$OUT/coverage"
for header in $headers; do
    for counts in "$B"/*"$(echo "${header#lib}" | sed 's|/|#|g')".gcov; do
        [ -e "$counts" ] && cat "$counts"
    done | awk -F: -v header="$header" '
        { number = $2 + 0; mark = $1; gsub(/[ *]/, "", mark) }
        number == 0 || mark == "-" || NF < 3 { next }
        {
            lines[number] = 1
            text[number] = $0
            sub(/^[^:]*:[^:]*:/, "", text[number])
            if (mark !~ /^[#=]/) ran[number] = 1
            if (number > last) last = number
        }
        END {
            for (i = 1; i <= last; i++) if (lines[i]) { n++; if (ran[i]) good++ }
            printf "%-26s %5d of %5d lines, %5.1f %%\n", header, good, n, n ? 100 * good / n : 0
            for (i = 1; i <= last; i++) if (lines[i] && !ran[i]) printf "%7d %s\n", i, text[i]
        }' >"$OUT/coverage/$(basename "$header").txt"
    head -n 1 "$OUT/coverage/$(basename "$header").txt"
done
echo
echo "Lines that nothing ran:"
for header in $headers; do
    echo "$header"
    sed 1d "$OUT/coverage/$(basename "$header").txt"
done
campaign_end "$(cat "$OUT"/coverage/*.txt | awk '/ lines, / { ran += $2; n += $4 }
    END { printf "%d of %d lines, %.1f %%", ran, n, n ? 100 * ran / n : 0 }')"
