#!/bin/sh
# Do README.md, data/README.md and docs/ name only what exists? Run from the repository's root.
#
#     sh dev/check_docs.sh [FILE.md ...]
#
# An error is a line FILE:LINE: what. Exit code 1 if there is any. The last line counts what was
# looked up. Checked are
#
#     flags      a --flag is in a table of flags of some program; after `./PROGRAM` in a command,
#                and in the first column of a table in docs/X.md, it is one of that program.
#                README.md and docs/speed.md, campaigns.md, results.md and real_data.md may also name flags of
#                tools in dev/ and data/; docs/flags.md
#                names every flag of TRL that lib/run/trl_flags.h knows
#     metrics    names in the first column of tables headed `name` or `column`, and words like
#                `rewards/chosen`: the page's program, or a header that it includes, has the string
#                and the other way round: docs/X.md or docs/README.md has all that train_X.c logs
#     files      links, and paths that begin with dev/, data/, test/ or docs/, are there; so are
#                headings that a link ends in
#     includes   a header of lib/ or of the top level includes none that is above it (see `room`)
#     code       under "Where it stands": functions and types in backquotes, and comments in
#                double quotes, are in a file that the same point links, or else in the page's
#                program. Elsewhere a name in backquotes with an underscore is in some file
#
# X.md is about train_X.c or X.c; README.md about all programs.
set -u
export LC_ALL=C
[ $# -gt 0 ] || set -- README.md data/README.md docs/*.md
found=$(mktemp)
trap 'rm -f "$found"' EXIT
awk '
function fail(what) { print "BAD\t" page ":" line ": " what }
function looked() { count++ }

# ---- sources: where they are in the house ---------------------------------------------------------
# A path as seen from the repository: FILE includes "../x.h".
function plain(file, to) {
    if (!sub(/[^\/]*$/, "", file)) file = ""
    to = file to
    while (sub(/[^\/.][^\/]*\/\.\.\//, "", to)) continue
    return to
}

# The floor of a file: it may include what is on its own floor or below.
function room(file) {
    if (file ~ /^lib\/base\// || file == "losses.h") return 0
    if (file == "batch.h" || file ~ /^data\/.*h$/) return 1
    if (file == "model.h") return 2
    if (file ~ /^lib\/data\//) return 3
    if (file ~ /^lib\/files\//) return 4
    if (file ~ /^lib\/run\//) return 5
    if (file ~ /^lib\/(report|label)\//) return 6
    return 7
}

# ---- sources: words, strings, flags, included headers, the whole text -----------------------------
function read_source(   i, n, part, name) {
    name = $0
    if (match(name, /FLAG[A-Z_]*\(args(\.[a-z]+)?, [a-z_0-9]+/)) {
        part = substr(name, RSTART, RLENGTH)
        sub(/.*, /, "", part)
        flag[FILENAME, part] = any_flag[part] = 1
    }
    # groups of flags: RUN_FLAGS_X(r, ..), ROLLOUT_FLAGS_X(r) are defined in one place and listed in tables of programs
    if (match(name, /^#define (RUN|ROLLOUT)_FLAGS?_[A-Z]+/)) group = substr(name, RSTART + 8, RLENGTH - 8)
    if (match(name, /(^| )FLAG[A-Z_]*\(r, [a-z_0-9]+/)) {
        part = substr(name, RSTART, RLENGTH)
        sub(/.*, /, "", part)
        in_group[group, part] = any_flag[part] = 1
    }
    if (match(name, /^ *(RUN|ROLLOUT)_FLAGS?_[A-Z]+\(/)) {
        part = substr(name, RSTART, RLENGTH - 1)
        sub(/^ */, "", part)
        groups[FILENAME] = groups[FILENAME] " " part
        if (FILENAME ~ /^lib/) groups[group] = groups[group] " " part
    }
    if (FILENAME ~ /trl_flags/ && match(name, /FLAG_[A-Z]+\("[a-z_0-9]+"/)) {
        part = substr(name, RSTART, RLENGTH - 1)
        sub(/.*"/, "", part)
        trl_flag[part] = any_flag[part] = 1
    }
    if (FILENAME ~ /\.py$/ && match(name, /add_argument\("--[a-z_-]+/)) {
        part = substr(name, RSTART, RLENGTH)
        sub(/.*"--/, "", part)
        gsub(/-/, "_", part)
        tool_flag[part] = 1
    }
    if (FILENAME ~ /\.sh$/ && match(name, /^ *--[a-z_-]+\)/)) {
        part = substr(name, RSTART, RLENGTH - 1)
        sub(/ *--/, "", part)
        gsub(/-/, "_", part)
        tool_flag[part] = 1
    }
    if (FILENAME ~ /^train_/ && match(name, /(^ +[{]|log_number\([^,]*, )"[a-z_\/]+"[,)]/)) {
        part = substr(name, RSTART, RLENGTH)
        sub(/^[^"]*"/, "", part)
        sub(/".*/, "", part)
        if (part !~ /^eval_/) logged[FILENAME, part] = 1
    }
    if (FILENAME ~ /^train_/ && name ~ /metric_names\[/) in_names = 1
    for (part = name; in_names && match(part, /"[a-z_\/]+"/); part = substr(part, RSTART + RLENGTH))
        logged[FILENAME, substr(part, RSTART + 1, RLENGTH - 2)] = 1
    if (name ~ /;/) in_names = 0
    if (match(name, /^#include "[^"]+"/)) {
        part = plain(FILENAME, substr(name, RSTART + 10, RLENGTH - 11))
        includes[FILENAME] = includes[FILENAME] " " part
        looked()
        if (room(part) > room(FILENAME)) {
            page = FILENAME
            line = FNR
            fail("includes " part ", which is above it")
        }
    }
    n = split(name, piece, "\"")
    for (i = 2; i <= n; i++) {
        sub(/\\$/, "", piece[i])
        string[FILENAME, piece[i]] = any_string[piece[i]] = 1
    }
    part = name
    sub(/^[ \t]*\/\/ ?/, "", part)
    sub(/^[ \t]+/, "", part)
    text[FILENAME] = text[FILENAME] " " part
    gsub(/[^A-Za-z0-9_]+/, " ", name)
    n = split(name, piece, " ")
    for (i = 1; i <= n; i++) word[FILENAME, piece[i]] = any_word[piece[i]] = 1
}

# ---- what a page says -----------------------------------------------------------------------------
# A flag of this program.
function known_here(file, name,   n, part, i) {
    if ((file, name) in flag || name == "config" || name == "help") return 1
    if (name in trl_flag && file ~ /^train_/) return 1
    n = split(groups[file], part, " ")
    for (i = 1; i <= n; i++) if ((part[i], name) in in_group || known_here(part[i], name)) return 1
    return 0
}

# All --flags in `s`; with a file, as flags of that program.
function check_flags(s, file,   name, before) {
    while (match(s, /--[a-z][a-z_0-9-]*/)) {
        name = substr(s, RSTART + 2, RLENGTH - 2)
        before = RSTART > 1 ? substr(s, RSTART - 1, 1) : " "
        s = substr(s, RSTART + RLENGTH)
        if (before ~ /[-A-Za-z0-9]/) continue
        gsub(/-/, "_", name)
        looked()
        if (file) {
            if (!known_here(file, name)) fail("--" name ": " file " has no such flag")
        } else if (!(name in any_flag) && name != "config" && name != "help" &&
                   !((FILENAME !~ /docs\// || FILENAME ~ /(speed|campaigns|results|real_data|loop)\.md$/) && (name in tool_flag || name in foreign)))
            fail("--" name ": no program has this flag")
    }
}

# True if the page may speak of a metric of this name: its program, or what that includes, has it.
function has_string(name,   i, k, n, m, part, file, seen) {
    if (!program) return name in any_string
    file[n = 1] = program
    for (i = 1; i <= n; i++) {
        if ((file[i], name) in string) return 1
        m = split(includes[file[i]], part, " ")
        for (k = 1; k <= m; k++)
            if (part[k] !~ /^data\// && !(part[k] in seen)) seen[file[++n] = part[k]]
    }
    return 0
}
function metric(name,   part) {
    looked()
    if (name ~ /\*/ || has_string(name)) return
    if (name ~ /^eval_/ && has_string("eval_")) sub(/^eval_/, "", name)
    if (has_string(name)) return
    if (split(name, part, "/") == 2 && has_string(part[1]) && has_string(part[2])) return
    fail(name ": no metric of " (program ? program : "any program"))
}

# Every `word` in backquotes of a line.
function check_words(s, in_name_column,   n, part, i, w) {
    n = split(s, part, "`")
    for (i = 2; i <= n; i += 2) {
        w = part[i]
        told[page, w] = 1
        if (w ~ /^(eval_)?(rewards|logps|logits|objective|policy|loss|val|returns|samples|player)\/[a-z_]+$/)
            metric(w)
        else if (in_name_column && w ~ /^[a-z_\/]+$/) metric(w)
        else if (w ~ /^[a-z][a-z0-9]*_[a-z0-9_]*$/) {
            looked()
            if (!(w in any_word) && !(substr(w, 6) in any_word && w ~ /^eval_/))
                fail("`" w "`: stands in no source file")
        } else if (w ~ /^[A-Za-z_]+\.(c|h|sh|py)$/) path(w)
    }
}

function path(p) { print "PATH\t" page ":" line "\t" folder "\t" p }

# Links of a line, and paths of ours in it.
function check_paths(s,   t, p, before, anchor, to) {
    t = s
    while (match(t, /\]\([^)]*\)/)) {
        p = substr(t, RSTART + 2, RLENGTH - 3)
        t = substr(t, RSTART + RLENGTH)
        if (p ~ /^[a-z]+:/) continue
        anchor = ""
        if (match(p, /#.*/)) {
            anchor = substr(p, RSTART + 1)
            p = substr(p, 1, RSTART - 1)
        }
        if (p) path("./" p)
        if (!anchor) continue
        to = p ? folder "/" p : FILENAME
        while (to ~ /[^\/.]+\/\.\.\//) sub(/[^\/.]+\/\.\.\//, "", to)
        sub(/^\.\//, "", to)
        looked()
        if (!((to, anchor) in heading)) fail(to ": no heading #" anchor)
    }
    t = s
    while (match(t, /(dev|data|test|docs)\/[A-Za-z0-9_.\/-]+/)) {
        p = substr(t, RSTART, RLENGTH)
        before = RSTART > 1 ? substr(t, RSTART - 1, 1) : " "
        t = substr(t, RSTART + RLENGTH)
        sub(/[.\/-]+$/, "", p)
        if (before ~ /[A-Za-z0-9_.\/-]/ || p == "data/" || p == "data/real" || p ~ /^data\/[a-z_]+$/ && has_string("data") &&
            has_string(substr(p, 6))) continue
        path(p)
    }
}

# A point under "Where it stands": its names and quotations against the files that it links.
function check_point(   n, part, i, k, m, p, files, ok, file, s, said, pieces) {
    if (!point) return
    line = point_line
    files = ""
    s = point
    while (match(s, /\]\(\.\.\/[^)]*\)/)) {
        files = files " " substr(s, RSTART + 5, RLENGTH - 6)
        s = substr(s, RSTART + RLENGTH)
    }
    if (!files) files = program
    m = split(files, file, " ")
    n = split(point, part, "`")
    for (i = 2; i <= n; i += 2) {
        if (part[i] !~ /^[A-Za-z_][A-Za-z0-9_]*$/) continue
        looked()
        ok = 0
        for (k = 1; k <= m; k++) ok = ok || (file[k], part[i]) in word
        if (!ok) fail(part[i] ": not in" (files ~ /^ / ? files : " " files))
    }
    n = split(point, part, "\"")
    for (i = 2; i <= n; i += 2) {
        p = split(part[i], pieces, / *\.\.\. */)
        while (p > 0) {
            said = pieces[p--]
            looked()
            ok = 0
            for (k = 1; k <= m; k++) ok = ok || index(text[file[k]], said)
            if (!ok) fail("\"" said "\": no such comment in" (files ~ /^ / ? files : " " files))
        }
    }
    point = ""
}

function check_command(s,   n, part, i, name) {
    n = split(s, part, /&&|;|\|/)
    for (i = 1; i <= n; i++) {
        if (!match(part[i], /\.\/[a-z_]+( |$)/)) continue
        name = substr(part[i], RSTART + 2, RLENGTH - 2)
        sub(/ $/, "", name)
        if (!((name ".c") in text) && (("data/" name ".c") in text)) name = "data/" name
        if ((name ".c") in text) check_flags(substr(part[i], RSTART), name ".c")
    }
}

# What programs log and their pages, of those that were read, do not tell.
function check_logged(   key, part) {
    line = 1
    for (key in logged) {
        split(key, part, SUBSEP)
        page = part[1]
        sub(/^train_/, "docs/", page)
        sub(/c$/, "md", page)
        looked()
        if (page in read_page && !((page, part[2]) in told || ("docs/README.md", part[2]) in told))
            fail(part[2] ": " part[1] " logs it, and it is not explained")
    }
}

# Flags of TRL that the program knows and docs/flags.md does not tell.
function check_trl_flags(   name) {
    page = "docs/flags.md"
    line = 1
    for (name in trl_flag) {
        looked()
        if (page in read_page && !((page, name) in told)) fail(name ": not told")
    }
}

function slug(s) {
    s = tolower(s)
    sub(/^#+ */, "", s)
    gsub(/[^a-z0-9 _-]/, "", s)
    gsub(/ /, "-", s)
    return s
}

BEGIN { # flags of programs that are not ours
    foreign["prefix"] = foreign["unbuffered"] = 1
}
FNR == 1 { check_point(); places = table = kind = 0; command = "" }
mode == "sources" { read_source(); next }
mode == "headings" { if (/^#/) heading[FILENAME, slug($0)] = 1; next }
{
    line = FNR
    if (FNR == 1) {
        page = folder = FILENAME
        read_page[page] = 1
        if (!sub(/\/[^\/]*$/, "", folder)) folder = "."
        program = FILENAME
        sub(/.*\//, "", program)
        sub(/\.md$/, "", program)
        if (("train_" program ".c") in text) program = "train_" program ".c"
        else if ((program ".c") in text) program = program ".c"
        else program = ""
    }
    if (/^#/) {
        check_point()
        line = FNR
        places = /Where it stands/
    }
    if (places && /^- /) { check_point(); line = FNR; point = $0; point_line = FNR }
    else if (places && point) point = point " " $0
    gsub(/  +/, " ", point)

    cell = $0
    if (/^\|/) { # a row of a table; its first cell
        sub(/^\| */, "", cell)
        sub(/ *\|.*/, "", cell)
        if (!table) kind = cell ~ /^(name|column)/
        table = 1
        if (program && cell ~ /`--/) check_flags(cell, program)
    } else table = kind = 0
    check_words(table ? cell : $0, kind)
    if (table) check_words(substr($0, index($0, cell) + length(cell)), 0)
    check_flags($0, "")
    check_paths($0)
    command = command $0
    if (command ~ /\\$/) sub(/\\$/, " ", command)
    else { check_command(command); command = "" }
}
END { check_point(); check_logged(); check_trl_flags(); print "COUNT\t" count }
' mode=sources *.[ch] lib/*/*.h data/*.[ch] data/*.py data/*.sh dev/*.[ch] dev/*.py dev/*.sh dev/campaign/*.* dev/repro/* test/*.[ch] \
    mode=headings README.md data/README.md dev/README.md docs/*.md "$@" mode=pages "$@" \
    >"$found" || exit 1

# What awk cannot see: is the path there, as written, from the page's folder, or in ours?
bad=0 count=0
while IFS='	' read -r kind a b c; do
    case $kind in
    BAD)
        echo "$a"
        bad=$((bad + 1))
        ;;
    PATH)
        count=$((count + 1))
        case $c in
        ./*) there=$b/$c ;;
        *) there= ;;
        esac
        for try in ${there:-"$c" "$b/$c" "dev/$c" "data/$c" "dev/repro/$c" lib/*/"$c"}; do
            [ ! -e "$try" ] || continue 2
        done
        echo "$a: $c: no such file"
        bad=$((bad + 1))
        ;;
    COUNT) count=$((count + a)) ;;
    esac
done <"$found"
echo "looked up $count names in $# pages: $bad do not exist"
[ $bad -eq 0 ]
