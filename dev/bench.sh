#!/bin/sh
# A speed table of this CPU as Markdown, for docs/speed.md: products, training steps, decoding, each
# against the machine's limits. Progress goes to stderr, the table to stdout.
#
#     make bench                              without PyTorch: five minutes on two cores
#     sh dev/bench.sh venv/bin/python         with PyTorch's best settings: 25 minutes
#
#     --data SHARED     also tokenising, see dev/README.md
#     --old REVISION    an older align.c steps in turn with this one. It gets this dev/bench.c, so it
#                       must have its headers in lib/, too
#     --shape "B T"     only training steps, of this shape; may be given several times
#     --quick           a model of 0.8M and three rounds of it: a try, that may share the machine
#
# Contestants step in turn (`bench duel`); docs/speed.md says why. Where the memory does not hold all
# at a time, PyTorch's float32 and its bfloat16 meet ours one after the other.
set -eu
BIN=${BIN:-build/plain}
python='' data='' old='' shapes='' quick=0
while [ $# -gt 0 ]; do
    case $1 in
    --data) data=$2 && shift ;;
    --old) old=$2 && shift ;;
    --shape) shapes="$shapes${shapes:+,}$2" && shift ;;
    --quick) quick=1 ;;
    -*)
        echo "bench.sh: no option $1" >&2
        exit 2
        ;;
    *) python=$1 ;;
    esac
    shift
done
bench=$BIN/bench
[ -x "$bench" ] || {
    echo "$bench is not there: make $bench $BIN/bench_decode" >&2
    exit 2
}

# What tunes libraries goes; `bench duel` takes it from all contestants alike.
tuned='OPENBLAS_|GOTO_|MKL_|DNNL_|ONEDNN_|KMP_|GOMP_|MALLOC_'
unset $(env | sed -nE "s/^(($tuned)[A-Za-z0-9_]*)=.*/\1/p") GLIBC_TUNABLES OMP_WAIT_POLICY
passive=
if [ $quick -eq 1 ]; then
    passive='env OMP_WAIT_POLICY=passive '
    export OMP_WAIT_POLICY=passive
fi

say() { echo "$(date +%H:%M:%S) $*" >&2; }

# ---- the machine ---------------------------------------------------------------------------------

info() { sed -n "s/^$1[[:space:]]*: //p" /proc/cpuinfo 2>/dev/null | head -n 1; }

has=
for flag in avx2 fma avx512f avx512_vnni avx512_bf16 amx_bf16 asimd sve bf16 i8mm; do
    case " $(info flags) $(info Features) " in
    *" $flag "*) has="$has${has:+, }$flag" ;;
    esac
done
case " $(info flags) " in
*" hypervisor "*) virtual=', a virtual machine' ;;
*) virtual= ;;
esac
model=$(info 'model name')
family=$(info 'cpu family')
echo "## ${model:-$(uname -sm)}${family:+ (family $family, model $(info model))}"
echo
echo "$(getconf _NPROCESSORS_ONLN) processors$virtual; of its instructions: ${has:-unknown}."
"$bench" machine 2>/dev/null | sed 's/$/;/'
echo "measured on $(date -u +%Y-%m-%d) at revision $(git describe --always --dirty 2>/dev/null || echo unknown)."
echo
say "load average $(cut -d ' ' -f 1-3 /proc/loadavg 2>/dev/null || uptime)"

# ---- training steps ------------------------------------------------------------------------------

# An older revision, built as it is but for the bench.
older=
if [ -n "$old" ]; then
    say "building $old"
    rm -rf build/old
    mkdir -p build/old
    git archive "$old" | tar -x -C build/old
    [ -d build/old/lib/base ] || {
        echo "bench.sh: $old has no lib/base, which dev/bench.c includes" >&2
        exit 2
    }
    cp dev/bench.c dev/limits.h build/old/dev
    make -C build/old build/plain/bench >&2
    older="align.c $old, float32=build/old/build/plain/bench serve"
fi

# best_torch B T FLAGS...: the command of PyTorch's best setting; what was tried goes to stderr
best_torch() {
    say "PyTorch's settings for $*"
    found=$("$python" dev/bench_torch.py search "$@") || exit 1
    echo "$found" >&2
    echo "$found" | sed -n 's/^best //p'
}

# step ROUNDS SECONDS GB B T [tiny]: a duel; GB is the memory that all contestants take together
step() {
    rounds=$1 seconds=$2 room=$3 flags=
    shift 3
    [ "${3-}" != tiny ] || flags="--size tiny --steps $((quick ? 2 : 20))"
    [ "$2" -lt 1024 ] || flags='--steps 1' # of some ten seconds each
    say "step: $*"
    float=${python:+$(best_torch "$1" "$2" $flags)}
    half=${python:+$(best_torch "$1" "$2" $flags --bf16)}
    free=$(sed -n 's/^MemAvailable: *\([0-9]*\)[0-9]\{6\} kB/\1/p' /proc/meminfo 2>/dev/null)
    if [ -z "$python" ]; then
        duel "$@"
    elif [ "${free:-1000}" -gt "$room" ]; then
        duel "$@" "PyTorch float32=$float" "PyTorch bf16=$half"
    else
        seconds=$((seconds / 2))
        duel "$@" "PyTorch float32=$float"
        duel "$@" "PyTorch bf16=$half"
    fi
}

# duel B T [tiny] NAME=COMMAND...: ours against these
duel() {
    shape="$1 $2"
    shift 2
    if [ "${1-}" = tiny ]; then
        shape="$shape tiny"
        shift
    fi
    # $shape is two or three words
    "$bench" duel $shape "$rounds" "$seconds" "float32=$passive$bench serve $shape" \
        "bf16=$passive$bench serve $shape bf16" ${older:+"$older $shape"} "$@"
}

if [ $quick -eq 1 ]; then
    step 3 1 1 8 16 tiny
    exit
fi
if [ -n "$shapes" ]; then
    echo "$shapes" | tr , '\n' | while read -r shape; do step 30 180 24 $shape; done
    exit
fi

echo "### Training steps"
echo
if [ -n "$python" ]; then
    step 20 30 2 64 24 tiny
    step 30 90 13 4 64
    step 20 150 19 4 256
    step 10 240 25 2 1024
else
    step 20 15 1 64 24 tiny
    step 30 45 6 4 64
    step 10 60 6 4 256
    step 5 60 7 2 1024
fi

# ---- products, decoding, tokenising --------------------------------------------------------------

echo "### Products"
echo
say products
"$bench" gemm
echo
echo "### Decoding"
echo
say decoding
"$BIN/bench_decode" | sed 's/^/    /'
if [ -n "$data" ]; then
    echo
    echo "### Tokenising"
    echo
    say tokenising
    "$bench" tokenize "$data/gpt2_tokenizer" "$data/data/hh_harmless_pairs.jsonl" | sed 's/^/    /'
fi
say "load average $(cut -d ' ' -f 1-3 /proc/loadavg 2>/dev/null || uptime)"
