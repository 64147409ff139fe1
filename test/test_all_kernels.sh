#!/bin/sh
# All test programs under one OpenBLAS kernel of each kind that this CPU can run. Long: make test-long.
. test/helpers.sh
unset ALIGN_REPLACE_KERNEL
class=$("$BIN/test_machine" class)
kinds=Nehalem
[ "$class" = SSE ] || kinds="$kinds Sandybridge"
case $class in AVX2 | AVX512) kinds="$kinds Haswell Zen" ;; esac
case $class in AVX512) kinds="$kinds SkylakeX Cooperlake" ;; esac
for core in $kinds; do
    OPENBLAS_CORETYPE=$core "$BIN/test_machine" product >"$T/log" 2>&1
    case $(sed -n 's/^OpenBLAS kernel \([A-Za-z0-9_]*\), .*/\1/p' "$T/log") in
    "$core") ;;
    *)
        skip "OpenBLAS has no kernel $core here"
        continue
        ;;
    esac
    for program in "$BIN"/test_*; do
        name=$(basename "$program")
        OPENBLAS_CORETYPE=$core timeout 600 "$program" >"$T/log" 2>&1
        code=$?
        if [ $code -eq 0 ] && tail -n 1 "$T/log" | grep -q ' 0 failed, '; then pass; else
            fail "$name under OPENBLAS_CORETYPE=$core: exit code $code"
            tail -n 20 "$T/log"
        fi
    done
done
finish all_kernels
