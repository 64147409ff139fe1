#!/bin/sh
# The campaigns of dev/campaign in their short forms: kills, power failures, full disks, allocations that
# fail, bad inputs, fuzzing, coverage. The whole campaigns take hours (docs/campaigns.md). Run from the
# repository's root with BIN set to a build: those that look at programs which a sanitizer watches, or at none
# of our programs, are run with the build that has something to say.
. test/helpers.sh

# campaign NAME: its short form holds what it promises
campaign() {
    timeout 600 sh "dev/campaign/$1.sh" --quick --bin "$BIN" --out "$T/$1" >"$T/said" 2>&1
    code=$?
    if [ $code -ne 0 ]; then
        fail "campaign $1: exit code $code"
        tail -n 20 "$T/said"
    elif grep -q '^skipped: ' "$T/said"; then
        skip "$(sed -n 's/^skipped: //p' "$T/said" | head -n 1)"
    else pass; fi
    rm -rf "${T:?}/$1"
}

campaign kills
case $BIN in
*asan) campaign bad_inputs ;;
*clang) ;;
*)
    campaign bad_inputs
    campaign full_disk
    campaign lost_writes
    campaign allocations
    campaign fuzz
    campaign coverage
    ;;
esac

# ---- the campaigns themselves: what they cannot do, and that they see a fault ---------------------

complains 2 "unknown option --fast" sh dev/campaign/kills.sh --fast 1
judge "an option that is none"
complains 2 "no programs in $T" sh dev/campaign/kills.sh --bin "$T"
judge "a folder without programs"

# A run whose log is not that of the killed ones is seen: here the straight run's is changed.
mkdir "$T/bin"
programs=$(cd "$BIN" && pwd)
for program in "$programs"/train_*; do ln -s "$program" "$T/bin"; done
rm "$T/bin/train_sft"
cat >"$T/bin/train_sft" <<SCRIPT
#!/bin/sh
case "\$*" in
*/bench/sft/out*) "$programs/train_sft" "\$@" && sed -i 's/"step": 2,/"step": 3,/' "$T/lying/bench/sft/out/metrics.jsonl" ;;
*) exec "$programs/train_sft" "\$@" ;;
esac
SCRIPT
chmod +x "$T/bin/train_sft"
timeout 300 sh dev/campaign/kills.sh --quick --programs sft --bin "$T/bin" --out "$T/lying" >"$T/said" 2>&1
check "a log that differs fails the campaign of kills (exit code $?)" \
    grep -q '^sft-1 FAILED .*metrics.jsonl' "$T/said"

finish campaign
