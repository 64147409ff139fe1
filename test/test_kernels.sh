#!/bin/sh
# Does a program find the kernel of OpenBLAS that fits the CPU? Each older kernel is brought up by
# OPENBLAS_CORETYPE and must be replaced (ALIGN_REPLACE_KERNEL says that it is no user's wish), and
# stay with a warning when it is one.
. test/helpers.sh
unset OPENBLAS_CORETYPE ALIGN_REPLACE_KERNEL
class=$("$BIN/test_machine" class)
sse="Prescott Core2 Penryn Dunnington Nehalem Atom Opteron Opteron_SSE3 Barcelona Bobcat Nano"
avx="Sandybridge Bulldozer Piledriver Steamroller"
case $class in
AVX) older=$sse ;;
AVX2) older="$sse $avx" ;;
AVX512) older="$sse $avx Haswell Zen Excavator" ;;
*) older= ;;
esac

kernel() { sed -n 's/^OpenBLAS kernel \([A-Za-z0-9_]*\), .*/\1/p' "$T/log"; }
product() { timeout 60 env "$@" "$BIN/test_machine" product >"$T/log" 2>&1; }

check "a product" product
own=$(kernel)
refuse "no warning" grep warning: "$T/log"
if [ -z "$older" ]; then skip "no kernel is older than this CPU"; fi
tried=0
for core in $older; do
    product OPENBLAS_CORETYPE="$core"
    # a build of OpenBLAS need not have all of them
    [ "$(kernel | tr a-z A-Z)" = "$(echo "$core" | tr a-z A-Z)" ] || continue
    tried=$((tried + 1))
    check "$core: a product" grep -q '^error' "$T/log"
    check "$core: the user is warned" grep -q "warning: OPENBLAS_CORETYPE is set to $core: " "$T/log"
    check "$core: replaced" product OPENBLAS_CORETYPE="$core" ALIGN_REPLACE_KERNEL=1
    check "$core: by one that fits, not $(kernel)" test "$(kernel)" != "$core"
    refuse "$core: no warning" grep warning: "$T/log"
done
[ $tried -gt 0 ] || [ -z "$older" ] || skip "this OpenBLAS has no older kernel"
# the programs say it, on stdout or, where that is for results, on stderr
"$BIN/generate" --prompt The --max_new_tokens 1 >"$T/out" 2>"$T/log"
check "generate says which kernel" test "$(kernel)" = "$own"
refuse "on stderr only" grep -q OpenBLAS "$T/out"
finish kernels
