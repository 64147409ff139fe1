#!/bin/sh
# Fetch the real data from where it is published, make of it the files that our scripts read, and
# check every one of them. Nothing of this data is in the repository; docs/real_data.md says what it
# is, whose it is and what it is good for. Some texts are offensive. Run from anywhere:
#
#     sh data/fetch.sh [--output DIR] [--keep_sources] [SET...]
#         Fetch these sets, or all, into DIR (data/real of the repository). What is there and right is
#         not fetched again; what was cut off goes on. Sources go to DIR/sources and are removed once
#         the files made of them are right (--keep_sources: they stay). Needs curl or wget, python3.
#     sh data/fetch.sh --list
#         The sets, with the bytes to fetch and the bytes made of them.
#     sh data/fetch.sh --check DIR [SET...]
#         Fetch nothing; say which files of DIR, plain or as FILE.gz, are right, wrong or missing.
#     sh data/fetch.sh [--output DIR] --path FILE [--unpack WORK]
#         Print the path of one file, as imdb/train.jsonl, of DIR after checking it. If DIR has it as
#         FILE.gz, it is unpacked to WORK/FILE, and that is the path. For scripts: dev/repro/real_data.sh.
#
# Sizes, hashes and addresses are in fetch.sha256 beside this file. Exit code: 0; 1 if a file is
# missing or could not be fetched; 2 for a mistake in the command; 3 if a file is wrong; 4 if one
# could not be written. With several sets, the first of these that occurred.
set -u
export LC_ALL=C
here=$(dirname "$0")
TABLE=$here/fetch.sha256

# ---- messages ------------------------------------------------------------------------------------
code=0 # of the first thing that went wrong
trap 'echo "error: interrupted; the same command goes on" >&2; exit 130' HUP INT TERM
fault() { # fault CODE SENTENCE: say it and go on
    [ $code -ne 0 ] || code=$1
    shift
    echo "error: $*" >&2
}
stop() { # stop CODE SENTENCE: say it and end
    fault "$@"
    exit $code
}

# ---- files and the table -------------------------------------------------------------------------
# size_of < FILE, sha256_of < FILE
size_of() { wc -c | tr -d ' '; }
sha256_of() {
    if command -v sha256sum >/dev/null; then
        sha256sum
    elif command -v shasum >/dev/null; then
        shasum -a 256
    else
        openssl dgst -sha256 -r
    fi | cut -c 1-64
}

# entries made|source SET: the table's lines of a set. A set is what a name has before / or .
entries() {
    awk -v kind="$1" -v set="$2" '
        /^#/ || NF < 3 { next }
        { name = $3; sub(/[.\/].*/, "", name) }
        name == set && (kind == "made") == (NF == 3)' "$TABLE"
}
sets() { awk '!/^#/ && NF == 3 { sub(/[.\/].*/, "", $3); if (!seen[$3]++) print $3 }' "$TABLE"; }

# origin SET: where a set comes from, in words
origin() { entries source "$1" | awk 'NR == 1 { printf "%s", $4 } END { if (NR > 1) printf " and %d more", NR - 1 }'; }

# extent made|source SET: how many files and bytes, in words
extent() { entries "$1" "$2" | awk '{ b += $2 } END { printf "%d file%s, %.1f MB", NR, (NR > 1 ? "s" : ""), b / 1e6 }'; }

# right FILE SHA256 BYTES: is the file, or what FILE.gz unpacks to, what it shall be? Sets $file to
# the one that is there. Exit code 1 if there is none, 3 if it is wrong; then $found says what was found.
right() {
    file=$1 unpack=cat
    if [ ! -f "$file" ]; then
        file=$1.gz unpack='gzip -dc'
        [ -f "$file" ] || return 1
    fi
    found="a file that cannot be read"
    [ -r "$file" ] || return 3
    size=$($unpack <"$file" 2>/dev/null | size_of)
    found="$size bytes"
    [ "$size" = "$3" ] || return 3
    sum=$($unpack <"$file" 2>/dev/null | sha256_of)
    found="$size bytes with sha256 $sum"
    [ "$sum" = "$2" ] || return 3
}

# wrong SHA256 BYTES FROM: the sentence about the file that `right` has just found wrong
wrong() { fault 3 "$file: expected $2 bytes with sha256 $1, found $found; it is from $3"; }

# ---- fetching ------------------------------------------------------------------------------------
# download URL PART: fetch to PART, going on where it ends. Exit code 0: the server sent all that it
# has; 4: PART could not be written; 1: anything else. $why has the downloader's words.
download() {
    if [ $downloader = curl ]; then
        why=$(curl -fsSL --connect-timeout 30 --retry 3 -C - -o "$2" "$1" 2>&1)
    else
        why=$(wget -nv -T 30 -t 3 -c -O "$2" "$1" 2>&1)
    fi
    status=$?
    why=$(echo "$why" | tail -n 1)
    case $downloader$status in
    curl0 | wget0) return 0 ;;
    curl23 | wget3) return 4 ;;
    curl33 | curl36 | wget[1278]) again=1 ;; # perhaps the server cannot go on in the middle
    *) again= ;;
    esac
    [ -n "$again" ] && [ -s "$2" ] || return 1
    rm -f "$2"
    download "$@"
}

# fetch_file URL FILE SHA256 BYTES: unless FILE is there and right. Exit code as the whole script's.
fetch_file() {
    right "$2" "$3" "$4" && return
    if ! mkdir -p "$(dirname "$2")" 2>/dev/null; then
        fault 4 "$(dirname "$2"): the folder could not be made"
        return 4
    fi
    part=$2.part
    right "$part" "$3" "$4" && mv "$part" "$2" && return # stopped before it was renamed
    resumed=
    if [ -s "$part" ]; then
        if [ "$(size_of <"$part")" -lt "$4" ]; then resumed=1; else rm -f "$part"; fi
    fi
    download "$1" "$part"
    case $? in
    0) ;;
    4)
        fault 4 "$part: could not be written; is the disk full? $why"
        return 4
        ;;
    *)
        kept=
        [ ! -s "$part" ] || kept="; $(size_of <"$part") of $4 bytes are here, and the same command goes on"
        fault 1 "$1: could not be fetched: $why$kept"
        return 1
        ;;
    esac
    if right "$part" "$3" "$4"; then
        mv "$part" "$2" && return
        fault 4 "$2: could not be written"
        return 4
    fi
    if [ -n "$resumed" ]; then # the part may have been of another file: begin anew, once
        rm -f "$part"
        fetch_file "$@"
        return
    fi
    case $(head -c 512 "$part" | tr -d '\000' | tr '[:upper:]' '[:lower:]') in
    *'<!doctype html'* | *'<html'*) found="a web page of $found" ;;
    *'version https://git-lfs'*) found="a Git LFS pointer of $found" ;;
    esac
    wrong "$3" "$4" "$1"
    rm -f "$part"
    return 3
}

fetch_set() { # fetch_set DIR SET: fetch the sources, convert them, check what came out, move it to DIR
    todo=0
    while read -r sha256 bytes name; do
        right "$1/$name" "$sha256" "$bytes"
        case $? in
        0) continue ;;
        3) echo "$file: expected $bytes bytes with sha256 $sha256, found $found; it is made again" ;;
        esac
        todo=$((todo + 1))
    done <<END
$(entries made "$2")
END
    if [ $todo -eq 0 ]; then
        echo "$2: all there"
        return
    fi
    [ -n "$downloader" ] || stop 1 "neither curl nor wget is there, and one of them has to fetch the data"
    command -v python3 >/dev/null || stop 1 "python3 is not there, and has to make our files of the sources"
    echo "$2: fetching $(extent source "$2"), from $(origin "$2")"
    while read -r sha256 bytes name url; do
        fetch_file "$url" "$1/sources/$name" "$sha256" "$bytes" || return
    done <<END
$(entries source "$2")
END
    made=$1/sources/made
    rm -rf "$made"
    if ! why=$(python3 "$here/convert.py" "$2" "$1/sources" "$made" 2>&1); then
        case $why in
        *'[Errno '*) status=4 ;; # the system's refusal, as of a full disk
        *) status=3 ;;
        esac
        fault $status "$2: convert.py could not make its files of $1/sources/$2: $(echo "$why" | tail -n 1)"
        return
    fi
    while read -r sha256 bytes name; do # all of them have to be right before any is moved
        if ! right "$made/$name" "$sha256" "$bytes"; then
            wrong "$sha256" "$bytes" "convert.py, from $1/sources/$2"
            rm -rf "$made"
            return
        fi
    done <<END
$(entries made "$2")
END
    while read -r sha256 bytes name; do
        if ! { mkdir -p "$(dirname "$1/$name")" && mv "$made/$name" "$1/$name"; } 2>/dev/null; then
            fault 4 "$1/$name: could not be written"
            return
        fi
    done <<END
$(entries made "$2")
END
    rm -rf "$made"
    [ -n "$keep" ] || rm -rf "${1:?}/sources/$2"
    rmdir "$1/sources" 2>/dev/null
    echo "$2: $(extent made "$2"), all right"
}

list_sets() {
    for set in "$@"; do
        site=$(entries source "$set" | awk 'NR == 1 { split($4, part, "/"); print part[3] ~ /github/ ? "github.com/" part[4] "/" part[5] : part[3] }')
        printf '%-18s %-19s of %-20s from %s\n' "$set" "$(extent made "$set")" "$(extent source "$set")" "$site"
    done
}

# ---- what the command asks for -------------------------------------------------------------------
check_set() { # check_set DIR SET: say of each file whether it is right
    good=0 bad=0 missing=0
    while read -r sha256 bytes name; do
        right "$1/$name" "$sha256" "$bytes"
        case $? in
        0) good=$((good + 1)) ;;
        1)
            missing=$((missing + 1))
            fault 1 "$1/$name: not there, nor $name.gz; sh data/fetch.sh $2 fetches it into data/real"
            ;;
        *)
            bad=$((bad + 1))
            wrong "$sha256" "$bytes" "$(origin "$2")"
            ;;
        esac
    done <<END
$(entries made "$2")
END
    echo "$2: $good right, $bad wrong, $missing missing"
}

print_path() { # print_path DIR NAME WORK
    set=${2%%[./]*}
    line=$(entries made "$set" | awk -v name="$2" '$3 == name { print $1, $2 }')
    [ -n "$line" ] || stop 2 "$2: no file of the real data; fetch.sha256 has their names"
    sha256=${line% *} bytes=${line#* }
    if [ -n "$3" ] && [ ! -f "$1/$2" ] && [ -f "$3/$2" ] && right "$3/$2" "$sha256" "$bytes"; then
        echo "$3/$2" # unpacked before
        return
    fi
    right "$1/$2" "$sha256" "$bytes"
    case $? in
    0) ;;
    1) stop 1 "$1/$2: not there, nor $2.gz; sh data/fetch.sh $set fetches it into data/real, and" \
        "ALIGN_DATA=DIR names another folder that has it" ;;
    *)
        wrong "$sha256" "$bytes" "$(origin "$set")"
        exit $code
        ;;
    esac
    if [ "$file" = "$1/$2" ]; then
        echo "$file"
        return
    fi
    [ -n "$3" ] || stop 2 "$file is compressed: --unpack WORK says where it may be unpacked"
    if ! { mkdir -p "$(dirname "$3/$2")" && gzip -dc "$file" >"$3/$2.$$" && mv "$3/$2.$$" "$3/$2"; }; then
        rm -f "$3/$2.$$"
        stop 4 "$3/$2: could not be written; is the disk full?"
    fi
    echo "$3/$2"
}

output=$here/real check= path= work= list= keep=
while [ $# -gt 0 ]; do
    case $1 in
    --list) list=1 ;;
    --keep_sources) keep=1 ;;
    --help | -h)
        sed -n '2,/^set -u/s/^# \{0,1\}//p' "$0"
        exit 0
        ;;
    --output | --check | --path | --unpack)
        [ $# -ge 2 ] && [ -n "$2" ] || stop 2 "$1 needs a value"
        case $1 in
        --output) output=${2%/} ;;
        --check) check=${2%/} ;;
        --path) path=$2 ;;
        --unpack) work=${2%/} ;;
        esac
        shift
        ;;
    -*) stop 2 "$1: no such flag; sh data/fetch.sh --help lists them" ;;
    *) break ;;
    esac
    shift
done
[ -f "$TABLE" ] || stop 3 "$TABLE: not there; it belongs beside fetch.sh"
for set in "$@"; do
    sets | grep -qxF -e "$set" || stop 2 "$set: no such set; there are $(sets | tr '\n' ' ')"
done
if [ -n "$path" ]; then
    print_path "$output" "$path" "$work"
    exit $code
fi
[ $# -gt 0 ] || set -- $(sets)
if [ -n "$check" ]; then
    [ -d "$check" ] || stop 1 "$check: no such folder"
    for set in "$@"; do check_set "$check" "$set"; done
    exit $code
fi
if [ -n "$list" ]; then
    list_sets "$@"
    exit
fi
downloader=
for program in wget curl; do
    ! command -v $program >/dev/null || downloader=$program
done
for set in "$@"; do fetch_set "$output" "$set"; done
exit $code
