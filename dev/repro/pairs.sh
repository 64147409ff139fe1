# Pairs of answers, cut up for experiments. Sourced by scripts that have LC_ALL=C. A pair is a line
#
#     {"prompt": "..", "chosen": "..", "rejected": ".."}
#
# perhaps with other columns after these; no JSON is parsed, lines are cut at what stands between the three
# texts, which no text can have in it.

# pairs_awk SCRIPT FILE [FLAG..]: an awk script on pairs. It can call
#     prompt()             the prompt's text as it stands in JSON
#     good(), bad()        the two answers, too
#     pair(P, G, B), answer(P, TEXT), labelled(P, TEXT, true or false)
#                          lines of JSON of such texts
#     random()             in (0, 1), of Lehmer's generator: the same with every awk; -v seed=N
#     opening()            what is said before the first answer of a talk, in small letters
pairs_awk() {
    pairs_script=$1 pairs_file=$2
    shift 2
    awk -F '", "(chosen|rejected|set|ranks)": ' "$@" '
        function random() { return (state = state * 16807 % 2147483647) / 2147483647 }
        function prompt() { return substr($1, 13) }
        function good() { return substr($2, 2) }
        function bad(    text) {
            text = substr($3, 2)
            if (NF == 3) sub(/"}$/, "", text)
            return text
        }
        function answer(p, text) { return "{\"prompt\": \"" p "\", \"completion\": \"" text "\"}" }
        function labelled(p, text, label,    line) {
            line = answer(p, text)
            return substr(line, 1, length(line) - 1) ", \"label\": " label "}"
        }
        function pair(p, g, b) {
            return "{\"prompt\": \"" p "\", \"chosen\": \"" g "\", \"rejected\": \"" b "\"}"
        }
        function opening() { return tolower(substr($0, 1, index($0, "\\n\\nAssistant:"))) }
        BEGIN { state = seed + 1; for (i = 0; i < 20; i++) random() }
        '"$pairs_script" "$pairs_file"
}

# good_answers FILE: what SFT learns from, each good answer once
good_answers() {
    pairs_awk '{ line = answer(prompt(), good()) } !seen[line]++ { print line }' "$1"
}

# one_answer SEED FILE: one answer of each prompt with its label, any of them with the same chance: the k-th
# takes the place of the one before with chance 1/k
one_answer() {
    pairs_awk '
        function offer(text, label) {
            if (random() * ++count[$1] < 1) kept[$1] = labelled(prompt(), text, label)
        }
        !($1 in count) { order[++n] = $1 }
        { offer(good(), "true"); offer(bad(), "false") }
        END { for (i = 1; i <= n; i++) print kept[order[i]] }' "$2" -v seed="$1"
}

# talks_split EVAL TRAIN NAME: four files of pairs of talks, NAME_held.jsonl, NAME_judge.jsonl,
# NAME_policy.jsonl and NAME_select.jsonl. No two of them have a talk of the same opening: held are all pairs
# of EVAL, and those of TRAIN that begin as one of them does; of the other openings 55, 35 and 10 in a hundred
# go to the three others. Of a prompt only the last turn is left, from the last "Human:" on.
talks_split() {
    for part in held judge policy select; do : >"$3_$part.new"; done
    { cat "$1"; echo; cat "$2"; } | pairs_awk '
        function last_turn(    p, at, next_at) {
            p = prompt()
            while ((next_at = index(substr(p, at + 1), "\\n\\nHuman:")) > 0) at += next_at
            return substr(p, at)
        }
        NF == 0 { training = 1; next }
        !training { part[opening()] = "held" }
        !(opening() in part) {
            u = random()
            part[opening()] = u < 0.55 ? "judge" : u < 0.9 ? "policy" : "select"
        }
        { print pair(last_turn(), good(), bad()) >(name "_" part[opening()] ".new") }' - -v seed=15 -v name="$3"
    for part in judge policy select held; do mv "$3_$part.new" "$3_$part.jsonl"; done
}
