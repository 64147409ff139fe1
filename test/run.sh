#!/bin/sh
# Run tests, two at a time: sh test/run.sh BUILD:TEST... A build is a folder of build/ (plain, asan,
# ..); a test is the name of a test program in it, or a script, which gets the build as BIN. Each
# prints `name: N passed, N failed, N skipped` last; the sum is printed last here. Exit code 1 if
# anything failed, or ended without such a line. A build that is not there counts as skipped once.
# TEST_MINUTES in the environment: what has not begun by then is skipped.

# --one LOGS BUILD TEST: run one and show what it said; LOGS/BUILD-NAME.line gets its last line
if [ "$1" = --one ]; then
    export BUILD="$3" BIN="build/$3"
    name=$(basename "$4" .sh) log="$2/$3-$(basename "$4")"
    case $4 in
    *.sh) set -- sh "$4" ;;
    *) set -- "$BIN/test_$4" ;;
    esac
    begin=$(date +%s)
    if [ "$begin" -ge "$TEST_END" ]; then
        line="$name: 0 passed, 0 failed, 1 skipped"
        echo "skipped: no time left for $name" >"$log.shown"
    else
        timeout 1800 "$@" >"$log" 2>&1
        code=$?
        line=$(grep -E '^[a-z0-9_]+: [0-9]+ passed, [0-9]+ failed, [0-9]+ skipped$' "$log" | tail -n 1)
        grep '^skipped: ' "$log" >"$log.shown"
        if [ $code -ne 0 ] || [ -z "$line" ]; then
            tail -n 40 "$log" >>"$log.shown"
            case $line in
            '' | *' 0 failed'*)
                echo "$name: ended with exit code $code: ${line:-no result}" >>"$log.shown"
                line="$name: 0 passed, 1 failed, 0 skipped"
                ;;
            esac
        fi
    fi
    printf '%-8s%s (%d s)\n' "$BUILD" "$line" $(($(date +%s) - begin)) >>"$log.shown"
    echo "$line" >"$log.line"
    cat "$log.shown"
    exit
fi

logs=$(mktemp -d)
trap 'rm -rf "$logs"' EXIT
trap 'exit 1' HUP INT TERM
# OpenBLAS and the program both stop spinning soon: the tests' many short runs share two cores.
export OMP_WAIT_POLICY=passive
export TEST_END=$(($(date +%s) + 60 * ${TEST_MINUTES:-1000000}))
for job in "$@"; do
    build=${job%%:*}
    if [ -d "build/$build" ]; then
        echo "$build ${job#*:}" >>"$logs/jobs"
    elif [ ! -e "$logs/$build.line" ]; then
        echo "skipped: no $build build here"
        echo "$build: 0 passed, 0 failed, 1 skipped" >"$logs/$build.line"
        echo >>"$logs/missing"
    fi
done
xargs -n 2 -P 2 sh test/run.sh --one "$logs" <"$logs/jobs"
expected=$(cat "$logs/jobs" "$logs/missing" 2>/dev/null | wc -l)
cat "$logs"/*.line | sed 's/.*: //' | awk -v expected="$expected" '
    { passed += $1; failed += $3; skipped += $5 }
    END {
        if (NR != expected) { print expected - NR " tests left no result"; failed++ }
        print passed + 0 " passed, " failed + 0 " failed, " skipped + 0 " skipped"
        exit failed > 0
    }'
