#!/bin/sh
# Install what align.c needs on Debian or Ubuntu: a C compiler, OpenBLAS in its OpenMP build, cJSON, and for the
# page of label.c libmicrohttpd.
# With CI set in the environment also clang, so that the tests build everything twice.
set -e
packages="gcc libc6-dev make libopenblas-openmp-dev libcjson-dev libmicrohttpd-dev"
[ -z "$CI" ] || packages="$packages clang libomp-dev"
missing=
for p in $packages; do
    dpkg-query -W -f '${Status}' "$p" 2>/dev/null | grep -q 'ok installed' || missing="$missing $p"
done
[ -n "$missing" ] || exit 0
command -v apt-get >/dev/null || { echo "no apt-get here; needed:$missing" >&2; exit 1; }
root=
[ "$(id -u)" -eq 0 ] || root=sudo
$root apt-get update
$root env DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends $missing
