#!/bin/sh
# Tests of data/fetch.sh, data/convert.py and dev/repro/real_data.sh, without a network: a copy of
# them with a table of its own, whose addresses are files of ours (file://, by curl) or a server on
# this machine (by curl and wget). Run from the repository's root with BIN set to any build.
. test/helpers.sh
[ "${BIN##*/}" = plain ] || { finish fetch; exit; } # it runs no program of ours
mkdir -p "$T/data" "$T/web"
cp data/fetch.sh data/convert.py "$T/data"
F="sh $T/data/fetch.sh"
OUT=$T/out
sha() { if command -v sha256sum >/dev/null; then sha256sum; else shasum -a 256; fi | cut -c 1-64; }
entry() { echo "$(sha <"$1") $(wc -c <"$1" | tr -d ' ') $2${3:+ $3}"; } # entry FILE NAME [URL]

# says WHAT WORDS: the last `check` printed this line
says() {
    cp "$T/check" "$T/said"
    check "$1" grep -qxF -e "$2" "$T/said"
}

# tools DIR [PROGRAM...]: a folder for PATH with links to what fetch.sh needs, and these programs
tools() {
    mkdir -p "$1"
    for tool in sh dirname awk cat wc tr cut head tail grep sed touch mkdir rm rmdir mv gzip sha256sum shasum; do
        where=$(command -v $tool) && ln -s "$where" "$1/$tool"
    done
    ln -s "$PYTHON" "$1/python3"
    ln -s "$(command -v "${2:-true}")" "$1/${2:-true}"
}

# mistake CODE WORDS COMMAND...: the command complains
mistake() {
    complains "$@"
    shift 2
    judge "$@"
}

# ---- what convert.py makes of small sources ------------------------------------------------------
S=$T/sources
mkdir -p "$S/lambada" "$S/hh" "$S/paradetox" "$S/tinyshakespeare"
printf '%s\n' '{"text": "The cat sat on the mat"}' '{"text": "One two"}' >"$S/lambada/lambada_test.jsonl"
printf '%s\n' '{"prompt": "The cat sat on the", "completion": " mat"}' '{"prompt": "One", "completion": " two"}' >"$T/lambada"
talk() { printf '{"chosen": "\\n\\nHuman: %s\\n\\nAssistant: %s", "rejected": "\\n\\nHuman: %s\\n\\nAssistant: %s"}\n' "$1" "$2" "$1" "$3"; }
{ talk Hi Hello. "Go away." && talk "Who?" Me. Me. && talk "Why é?" "So it is." "So be it."; } >"$T/talks"
for set in helpful-base helpful-online helpful-rejection-sampled; do : | gzip -c >"$S/hh/$set.jsonl.gz"; done
gzip -c "$T/talks" >"$S/hh/harmless-base.jsonl.gz"
printf 'toxic\tneutral1\tneutral2\nyou are silly\tI disagree\t\nsilly "me"\tsilly "me"\tOh well.\n' >"$S/paradetox/paradetox.tsv"
echo "To be" >"$S/tinyshakespeare/input.txt"
if ! command -v python3 >/dev/null; then
    skip "no python3 here, which makes the files of the sources"
    finish fetch
    exit
fi
PYTHON=$(python3 -c 'import sys; print(sys.executable)')
for set in lambada hh paradetox tinyshakespeare; do
    check "convert.py $set" python3 data/convert.py $set "$S" "$T/made"
done
same "last words" "$T/lambada" "$T/made/lambada/lambada_openai_test.jsonl"
same "a text as it is" "$S/tinyshakespeare/input.txt" "$T/made/tinyshakespeare.txt"
cat "$T/made/hh/harmless_train.jsonl" "$T/made/hh/harmless_eval.jsonl" >"$T/pairs"
check "an equal pair is left out" test "$(wc -l <"$T/pairs")" -eq 2
check "the prompt is what both have" grep -qF '{"prompt": "\n\nHuman: Why é?\n\nAssistant:", "chosen": " So it is.", "rejected": " So be it.", "set": "harmless-base"}' "$T/pairs"
cat "$T/made/paradetox/prefs_train.jsonl" "$T/made/paradetox/prefs_eval.jsonl" >"$T/pairs"
check "rewrites that differ" test "$(grep -c . "$T/pairs")" -eq 2
check "quotes around a cell fall" grep -qF '{"chosen": "Oh well.", "rejected": "silly \"me", "prompt": ""}' "$T/pairs"
refuse "a set that does not exist" python3 data/convert.py nonsense "$S" "$T/made"

# ---- fetching, by file:// ------------------------------------------------------------------------
# table [URL]: the table of two sets, the second's source at URL
W=$T/web/lambada_test.jsonl
cp "$S/lambada/lambada_test.jsonl" "$W"
cp "$S/tinyshakespeare/input.txt" "$T/web"
table() {
    {
        echo "# a comment"
        entry "$T/made/lambada/lambada_openai_test.jsonl" lambada/lambada_openai_test.jsonl
        entry "$S/tinyshakespeare/input.txt" tinyshakespeare.txt
        entry "$S/tinyshakespeare/input.txt" tinyshakespeare/input.txt "file://$T/web/input.txt"
        entry "$S/lambada/lambada_test.jsonl" lambada/lambada_test.jsonl "${1:-file://$W}"
    } >"$T/data/fetch.sha256"
}
table
LAMBADA=$OUT/lambada/lambada_openai_test.jsonl
PART=$OUT/sources/lambada/lambada_test.jsonl.part
check "the list" $F --list
cp "$T/check" "$T/said"
check "the list has the sets" grep -q '^lambada  *1 file' "$T/said"
mistake 2 "nonsense: no such set; there are lambada tinyshakespeare" $F nonsense
mistake 2 "--nonsense: no such flag" $F --nonsense
mistake 2 "--output needs a value" $F --output
mistake 1 "nowhere: no such folder" $F --check "$T/nowhere"
mistake 2 "nonsense.txt: no file of the real data" $F --path nonsense.txt

if ! command -v curl >/dev/null; then
    skip "no curl here, so no file://"
else
    check "both sets" $F --output "$OUT"
    same "what was made" "$T/made/lambada/lambada_openai_test.jsonl" "$LAMBADA"
    check "sources are gone" test ! -e "$OUT/sources"
    rm "$W" # it would be missed, were it fetched again
    check "what is there is not fetched again" $F --output "$OUT" lambada
    says "  and that is said" "lambada: all there"
    gzip "$LAMBADA"
    check "  nor if it is compressed" $F --output "$OUT" lambada
    rm -rf "$OUT/lambada"

    mistake 1 "file://$W: could not be fetched: curl:" $F --output "$OUT" lambada
    check "nothing is left of it" test ! -e "$OUT/lambada"
    head -c 30 "$S/lambada/lambada_test.jsonl" >"$W"
    mistake 3 "$PART: expected 55 bytes with sha256 $(sha <"$S/lambada/lambada_test.jsonl"), found 30 bytes; it is from file://$W" \
        $F --output "$OUT" lambada
    check "a file of the wrong size is not kept" test ! -e "$PART"
    tr a-z b-za <"$S/lambada/lambada_test.jsonl" >"$W"
    mistake 3 "found 55 bytes with sha256 $(sha <"$W")" $F --output "$OUT" lambada
    check "nor one with a wrong hash" test ! -e "$PART"
    echo '<!DOCTYPE html><html>Not here</html>' >"$W"
    mistake 3 "found a web page of 37 bytes" $F --output "$OUT" lambada
    printf 'version https://git-lfs.github.com/spec/v1\noid sha256:0\n' >"$W"
    mistake 3 "found a Git LFS pointer of" $F --output "$OUT" lambada

    # Cut off in the middle: only the rest is fetched, for a changed beginning would be noticed.
    mkdir -p "$(dirname "$PART")"
    head -c 30 "$S/lambada/lambada_test.jsonl" >"$PART"
    { head -c 30 /dev/zero && tail -c +31 "$S/lambada/lambada_test.jsonl"; } >"$W"
    check "it goes on" $F --output "$OUT" --keep_sources lambada
    same "  and is whole" "$T/made/lambada/lambada_openai_test.jsonl" "$LAMBADA"
    same "  the source is kept" "$S/lambada/lambada_test.jsonl" "$OUT/sources/lambada/lambada_test.jsonl"
    rm -rf "$OUT"
    cp "$S/lambada/lambada_test.jsonl" "$W"
    mkdir -p "$(dirname "$PART")"
    cp "$W" "$PART" # stopped before it was renamed
    check "a whole part is taken" $F --output "$OUT" lambada
    rm -rf "$OUT"
    mkdir -p "$(dirname "$PART")"
    cat "$W" "$W" >"$PART"
    check "a part that is too long is thrown away" $F --output "$OUT" lambada
    rm -rf "$OUT"
    mkdir -p "$(dirname "$PART")"
    echo "of another file" >"$PART"
    check "a part of another file, too" $F --output "$OUT" lambada
    echo "not what it was" >"$LAMBADA"
    check "a wrong file is made again" $F --output "$OUT" lambada
    cp "$T/check" "$T/said"
    check "  and that is said" grep -qF "$LAMBADA: expected $(wc -c <"$T/made/lambada/lambada_openai_test.jsonl" | tr -d ' ') bytes" "$T/said"
    same "  as it should be" "$T/made/lambada/lambada_openai_test.jsonl" "$LAMBADA"
    rm -rf "$OUT"

    # A source that is right, and a result that is not: the table asks for another.
    sed 's/ [0-9]* lambada.lambada_openai_test/ 99 lambada\/lambada_openai_test/' "$T/data/fetch.sha256" >"$T/table"
    cp "$T/table" "$T/data/fetch.sha256"
    mistake 3 "lambada_openai_test.jsonl: expected 99 bytes" $F --output "$OUT" lambada
    check "a wrong result does not come out" test ! -e "$LAMBADA"
    table
    echo '{"no": "text"}' >"$W"
    entry "$W" lambada/lambada_test.jsonl "file://$W" >"$T/line"
    { sed '/_test.jsonl file:/d' "$T/data/fetch.sha256" && cat "$T/line"; } >"$T/table"
    cp "$T/table" "$T/data/fetch.sha256"
    mistake 3 "lambada: convert.py could not make its files of $OUT/sources/lambada: KeyError: 'text'" $F --output "$OUT" lambada
    rm -rf "$OUT"
    table
    cp "$S/lambada/lambada_test.jsonl" "$W"
    rm "$T/web/input.txt"
    mistake 1 "input.txt: could not be fetched" $F --output "$OUT" tinyshakespeare lambada
    check "one set's fault does not stop the next" test -f "$LAMBADA"
    cp "$S/tinyshakespeare/input.txt" "$T/web"
    rm -rf "$OUT"

    echo "in the way" >"$T/file"
    mistake 4 "$T/file/sources/lambada: the folder could not be made" $F --output "$T/file" lambada
    check "what was in the way is as it was" grep -qx "in the way" "$T/file"
    if [ "$(id -u)" -ne 0 ]; then
        mkdir "$T/locked" && chmod 555 "$T/locked"
        mistake 4 "the folder could not be made" $F --output "$T/locked" lambada
    fi

    # Programs that are not there, or fail: a folder with links to those that are needed.
    tools "$T/bin"
    mistake 1 "neither curl nor wget is there" env PATH="$T/bin" $F --output "$OUT" lambada
    printf '#!/bin/sh\necho "curl: (23) Failure writing output to destination" >&2\nexit 23\n' >"$T/bin/curl"
    chmod +x "$T/bin/curl"
    mistake 4 "$PART: could not be written; is the disk full? curl: (23)" env PATH="$T/bin" $F --output "$OUT" lambada
    # curl loses its connection in the middle once
    printf '#!/bin/sh\n[ -e "%s" ] && exec %s "$@"\ntouch "%s"\nhead -c 20 "%s" >"%s"\necho "curl: (18) end of response missing" >&2\nexit 18\n' \
        "$T/once" "$(command -v curl)" "$T/once" "$W" "$PART" >"$T/bin/curl"
    mistake 1 "end of response missing; 20 of 55 bytes are here, and the same command goes on" \
        env PATH="$T/bin" $F --output "$OUT" lambada
    check "the same command goes on" env PATH="$T/bin" $F --output "$OUT" lambada
    same "  to the end" "$T/made/lambada/lambada_openai_test.jsonl" "$LAMBADA"
    rm -rf "$OUT" "$T/bin/python3"
    mistake 1 "python3 is not there" env PATH="$T/bin" $F --output "$OUT" lambada
    # Ctrl-C while curl is at it: its group gets the signal
    printf '#!/bin/sh\nprintf 12345 >"%s"\nkill -INT 0\nsleep 5\n' "$PART" >"$T/bin/curl"
    ln -s "$PYTHON" "$T/bin/python3"
    if command -v setsid >/dev/null; then
        mistake 130 "interrupted; the same command goes on" setsid -w env PATH="$T/bin" $F --output "$OUT" lambada
        check "the part stays" test -s "$PART"
    fi
    rm -rf "$OUT"
fi

# ---- a server of our own: an error page, and one that cannot go on in the middle -----------------
if python3 -c 'import http.server' 2>/dev/null; then
    python3 -u -c '
import functools, http.server, sys
handler = functools.partial(http.server.SimpleHTTPRequestHandler, directory=sys.argv[1])
server = http.server.HTTPServer(("127.0.0.1", 0), handler)
print(server.server_address[1], flush=True)
server.serve_forever()' "$T/web" >"$T/port" 2>/dev/null &
    child=$!
    tries=0
    until [ -s "$T/port" ] || [ $tries -eq 100 ]; do sleep 0.1 && tries=$((tries + 1)); done
    PORT=$(cat "$T/port")
    for program in curl wget; do
        command -v $program >/dev/null || { skip "no $program here" && continue; }
        tools "$T/bin_$program" $program
        only="env PATH=$T/bin_$program http_proxy= no_proxy=127.0.0.1"
        table "http://127.0.0.1:$PORT/lambada_test.jsonl"
        check "$program fetches" $only $F --output "$OUT" lambada
        same "  what it shall" "$T/made/lambada/lambada_openai_test.jsonl" "$LAMBADA"
        rm -rf "$OUT"
        mkdir -p "$(dirname "$PART")"
        head -c 30 "$W" >"$PART"
        check "$program begins anew where it cannot go on" $only $F --output "$OUT" lambada
        rm -rf "$OUT"
        table "http://127.0.0.1:$PORT/nowhere.jsonl"
        mistake 1 "404" $only $F --output "$OUT" lambada
        check "  and no page is kept" test ! -s "$PART"
        table "http://127.0.0.1:1/nobody.jsonl"
        [ $program = curl ] && mistake 1 "could not be fetched: curl:" $only $F --output "$OUT" lambada
        rm -rf "$OUT"
    done
    kill "$child"
    wait "$child" 2>/dev/null
    child=
else
    skip "no http.server here"
fi

# ---- checking, and the path of a file ------------------------------------------------------------
table
D=$T/there
mkdir -p "$D/lambada"
cp "$T/made/lambada/lambada_openai_test.jsonl" "$D/lambada"
cp "$S/tinyshakespeare/input.txt" "$D/tinyshakespeare.txt"
check "all right" $F --check "$D"
gzip "$D/lambada/lambada_openai_test.jsonl"
check "right when compressed" $F --check "$D" lambada
says "  which is counted" "lambada: 1 right, 0 wrong, 0 missing"
check "a path" $F --output "$D" --path tinyshakespeare.txt
says "  is printed" "$D/tinyshakespeare.txt"
mistake 2 "is compressed: --unpack" $F --output "$D" --path lambada/lambada_openai_test.jsonl
check "a compressed file" $F --output "$D" --path lambada/lambada_openai_test.jsonl --unpack "$T/work"
says "  is unpacked" "$T/work/lambada/lambada_openai_test.jsonl"
same "  as it was" "$T/made/lambada/lambada_openai_test.jsonl" "$T/work/lambada/lambada_openai_test.jsonl"
head -c 40 "$D/lambada/lambada_openai_test.jsonl.gz" >"$T/cut"
mv "$T/cut" "$D/lambada/lambada_openai_test.jsonl.gz"
mistake 3 "lambada_openai_test.jsonl.gz: expected" $F --check "$D"
mistake 3 "lambada_openai_test.jsonl.gz: expected" $F --output "$D" --path lambada/lambada_openai_test.jsonl
check "unpacked before and right" $F --output "$D" --path lambada/lambada_openai_test.jsonl --unpack "$T/work"
rm "$D/lambada/lambada_openai_test.jsonl.gz"
mistake 1 "not there, nor lambada/lambada_openai_test.jsonl.gz; sh data/fetch.sh lambada fetches it" $F --check "$D"

# real_data.sh is sourced by scripts that run in the repository's root
mkdir -p "$T/dev/repro"
cp dev/repro/real_data.sh "$T/dev/repro"
script() { (cd "$T" && ALIGN_DATA="${1:-}" OUT=run sh -ec '. dev/repro/real_data.sh; file=$(real '"$2"'); cat "$file"; echo on'); }
check "real" script there tinyshakespeare.txt
says "  the file can be read" "To be"
mistake 1 "data/real/tinyshakespeare.txt: not there" script "" tinyshakespeare.txt
check "  and the script ends there" test ! -s "$T/stdout"

# ---- the table in the repository -----------------------------------------------------------------
check "each line has a hash, a size, a name and perhaps an address" awk '
    /^#/ { next }
    NF < 3 || NF > 4 || $1 !~ /^[0-9a-f]+$/ || length($1) != 64 || $2 !~ /^[1-9][0-9]*$/ || NF == 4 && $4 !~ /^https:/ { print; bad = 1 }
    ($3, NF) in seen { print; bad = 1 }
    { seen[$3, NF] = 1 }
    END { exit bad }' data/fetch.sha256
sh data/fetch.sh --list | while read -r set rest; do python3 data/convert.py "$set" "$T/none" "$T/none"; done >"$T/said" 2>&1
refuse "convert.py knows every set of the table" grep "^usage" "$T/said"
if [ -n "${ALIGN_TEST_DATA:-}" ]; then
    check "the files of ALIGN_TEST_DATA" sh data/fetch.sh --check "$ALIGN_TEST_DATA/data" convarg oasst_en100 paradetox truthfulqa
else
    skip "no ALIGN_TEST_DATA"
fi
finish fetch
