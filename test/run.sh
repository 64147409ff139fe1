#!/bin/sh
# Run the test programs (names in $1) and the scripts ($2) of each build that is there: build/plain,
# build/asan, build/clang. Each prints `name: N passed, N failed, N skipped` last; the sum is
# printed last here. Exit code 1 if anything failed, or ended without such a line.
passed=0 failed=0 skipped=0
log=$(mktemp)
trap 'rm -f "$log"' EXIT

run() { # run NAME COMMAND...: show what it said, add up its last line
    name=$1
    shift
    begin=$(date +%s)
    timeout 900 "$@" >"$log" 2>&1
    code=$?
    line=$(grep -E '^[a-z0-9_]+: [0-9]+ passed, [0-9]+ failed, [0-9]+ skipped$' "$log" | tail -n 1)
    set -- $(printf '%s' "${line#*:}" | tr -dc '0-9 ')
    passed=$((passed + ${1:-0})) failed=$((failed + ${2:-0})) skipped=$((skipped + ${3:-0}))
    grep -E '^skipped: ' "$log"
    if [ $code -ne 0 ] || [ -z "$line" ]; then
        tail -n 40 "$log"
        [ "${2:-0}" -gt 0 ] || { failed=$((failed + 1)); echo "$name: ended with exit code $code"; }
    fi
    printf '%-8s%s (%d s)\n' "$BUILD" "${line:-$name: no result}" $(($(date +%s) - begin))
}

# OpenBLAS and the program both stop spinning soon: the tests' many short runs share two cores.
export OMP_WAIT_POLICY=passive
for BUILD in plain asan clang; do
    [ -d "build/$BUILD" ] || { echo "skipped: no $BUILD build here"; skipped=$((skipped + 1)); continue; }
    export BUILD BIN="build/$BUILD"
    for t in $1; do run "$t" "$BIN/test_$t"; done
    for s in $2; do
        run "$s" sh "$s"
    done
done
echo "$passed passed, $failed failed, $skipped skipped"
[ "$failed" -eq 0 ]
