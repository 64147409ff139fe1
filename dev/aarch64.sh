#!/bin/sh
# Compile for 64-bit Arm on a Debian or Ubuntu of another kind: programs and unit tests into
# build/aarch64, each linked with Debian's OpenBLAS and cJSON for arm64. From the repository's root:
#
#     sh dev/aarch64.sh                   all of them
#     sh dev/aarch64.sh train_sft ...     these
#     qemu-aarch64 -L /usr/aarch64-linux-gnu build/aarch64/train_sft
#
# Nothing is installed: the libraries are downloaded and unpacked into build/aarch64/root, by an apt
# that keeps its state there. On an Arm machine itself none of this is needed: the programs' own cc
# line builds them. Exit code 77, after one sentence, if something is missing here.
set -u
cc=aarch64-linux-gnu-gcc
out=build/aarch64 root=build/aarch64/root
lib=$root/usr/lib/aarch64-linux-gnu
packages="libopenblas-openmp-dev libopenblas0-openmp libcjson-dev libcjson1 libgfortran5"

missing() { # SENTENCE: why it does not work here
    echo "$*"
    exit 77
}

command -v $cc >/dev/null && [ -e /usr/aarch64-linux-gnu/include/stdio.h ] ||
    missing "no compiler for aarch64 (apt-get install gcc-aarch64-linux-gnu libc6-dev-arm64-cross)"

# ---- libraries -----------------------------------------------------------------------------------

# private_apt COMMAND...: apt-get for arm64, with lists and caches of its own, in $state
private_apt() {
    apt-get -qq -o Dir::State="$state" -o Dir::State::status="$state/status" \
        -o Dir::Cache="$state/cache" -o APT::Architecture=arm64 -o APT::Architectures::=arm64 \
        -o APT::Sandbox::User= "$@"
}

if [ ! -e $root/complete ]; then
    command -v apt-get >/dev/null && command -v dpkg >/dev/null ||
        missing "no apt-get, which would bring OpenBLAS and cJSON for arm64"
    state=$PWD/$out/apt
    rm -rf "$state" $root
    mkdir -p "$state/lists/partial" "$state/cache/archives/partial" $root
    : >"$state/status"
    # a source that has no arm64, or cannot be reached, need not be the one that has our packages
    private_apt update >"$state/log" 2>&1
    (cd "$state" && private_apt download $packages >>log 2>&1) ||
        missing "OpenBLAS and cJSON for arm64 could not be downloaded (see $out/apt/log)"
    for package in "$state"/*.deb; do
        dpkg -x "$package" $root || exit 1
    done
    rm -rf "$state"
    : >$root/complete
fi

# ---- programs ------------------------------------------------------------------------------------

# compile SOURCE: unless nothing has changed since
compile() {
    binary=$out/$(basename "$1" .c)
    [ ! -e "$binary" ] || [ -n "$(find . -maxdepth 2 -name '*.[ch]' -newer "$binary")" ] || return 0
    cross -O3 "$1" 2>"$binary.said" && rm "$binary.said" && return
    # Debian 12's GCC dies at -O3 of a loop that finds a maximum by fmax(double, float) on Arm. No
    # program has one, some test may.
    if grep -q 'internal compiler error' "$binary.said"; then
        echo "$1: the compiler fails at -O3 (its own error); compiled at -O2"
        cross -O2 "$1" && rm "$binary.said"
    else
        cat "$binary.said" >&2
        return 1
    fi
}

# cross FLAG SOURCE
cross() {
    # armv8-a is what every 64-bit Arm has; -march=native would ask this machine
    $cc "$1" -march=${MARCH:-armv8-a} -fno-math-errno -fopenmp -std=gnu11 -Wall -Wextra -Wshadow \
        -Wno-unused-function -Werror -I $root/usr/include \
        -I $root/usr/include/aarch64-linux-gnu/openblas-openmp "$2" -o "$binary.new" \
        -L $lib/openblas-openmp -L $lib -Wl,-rpath-link,$lib -Wl,--disable-new-dtags \
        -Wl,-rpath,"$PWD/$lib/openblas-openmp:$PWD/$lib" -lopenblas -lcjson -lm &&
        mv "$binary.new" "$binary"
}

if [ "${1-}" = --one ]; then
    compile "$2"
    exit
fi
[ $# -gt 0 ] || set -- train_sft train_rm train_dpo train_kto train_orpo train_ppo train_spin \
    generate evaluate report $(cd test && ls test_*.c)
for name; do
    name=${name%.c}
    for source in "$name.c" "test/$name.c" "data/$name.c" "dev/$name.c"; do
        [ ! -e "$source" ] || break
    done
    [ -e "$source" ] || { echo "there is no $name.c" >&2; exit 1; }
    echo "$source"
done | xargs -n 1 -P "$(nproc)" sh dev/aarch64.sh --one
