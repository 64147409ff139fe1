#!/bin/sh
# Everything in the README's speed tables, in one run: `make bench`, or with a Python that has
# PyTorch and transformers, PyTorch's step between two of ours for each shape:
#
#     sh dev/bench.sh venv/bin/python
#
# Both contestants run without OPENBLAS_CORETYPE and OPENBLAS_L2_SIZE. Look at `uptime` first: a
# second busy process makes every OpenMP program several times slower.
unset OPENBLAS_CORETYPE OPENBLAS_L2_SIZE
bench=build/plain/bench
uptime
$bench gemm
for shape in "4 64" "4 256" "2 1024"; do
    $bench train $shape
    if [ -n "$1" ]; then
        "$1" dev/bench_torch.py $shape --threads "$(nproc)"
        "$1" dev/bench_torch.py $shape --threads "$(nproc)" --quick --bf16
        $bench train $shape
    fi
done
for shape in "4 64" "4 256" "32 23 tiny"; do $bench train $shape bf16; done
$bench train 32 23 tiny
build/plain/bench_decode
uptime
