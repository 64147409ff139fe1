#!/bin/sh
# The page of label.c in a real browser (dev/browse_label.py), where there are Chromium and playwright. Run from
# the repository's root with BIN set to a build; only once, with the plain one.
. test/helpers.sh
[ "${BIN##*/}" = plain ] || { finish label_page; exit; }
chromium=
for name in chromium chromium-browser google-chrome; do
    chromium=${chromium:-$(command -v $name)}
done
python=${PYTHON:-python3}
if [ ! -x "$BIN/label" ]; then skip "no label: libmicrohttpd is not installed"
elif [ -z "$chromium" ]; then skip "no Chromium here"
elif ! $python -c 'import playwright' 2>/dev/null; then skip "no playwright for $python here (PYTHON=.. names another)"
else
    timeout 900 $python dev/browse_label.py --bin "$BIN" --chromium "$chromium" >"$T/log" 2>&1
    grep '^FAILED' "$T/log"
    said=$(tail -n 1 "$T/log")
    case $said in
    *" passed, "*" failed") passed=${said%% *} failed=${said#* passed, } failed=${failed%% *} ;;
    *) fail "the browser: $said" ;;
    esac
fi
finish label_page
