# What the experiments on IMDb share. Sourced after runs.sh and real_data.sh. Every twelfth review of the test half is
# kept from the model that judges, for its accuracy and for prompts.

# imdb_begin: after runs_begin: sets start, the model of imdb_sft.sh, and the files train, test and beginnings_train
imdb_begin() {
    start=${IMDB:-out/imdb_sft/sft/final}
    [ -f "$start/model.safetensors" ] || fail "$start: no model; make it with: sh dev/repro/imdb_sft.sh"
    train=$(real imdb/train.jsonl)
    test=$(real imdb/test.jsonl)
    beginnings_train=$(real imdb/prompts_train.jsonl)
}

# For awk: the text of a row of reviews as it stands in JSON, and its first words
imdb_awk='
    function review(    text) {
        text = $0
        sub(/^{"text": "/, "", text)
        if (!sub(/", "label": .*/, "", text)) sub(/"}$/, "", text)
        return text
    }
    function first_words(most,    n, i, word, text) {
        n = split(review(), word, " ")
        text = word[1]
        for (i = 2; i <= n && i <= most; i++) text = text " " word[i]
        return text
    }'

# unseen FILE..: the reviews that are not in the test half, too
unseen() {
    awk "$imdb_awk"'
        { text = review() }
        FNR == NR { known[text]; next }
        !(text in known)' "$test" "$@"
}

# review_pairs PART WORDS: a positive against a negative review of the test half, so many words of each; PART 1:
# of every twelfth row, 0: of all others
review_pairs() {
    awk -v part="$1" -v words="$2" "$imdb_awk"'
        (NR % 12 == 0) != part { next }
        /, "label": true/ { good[++g] = first_words(words); next }
        { bad[++b] = first_words(words) }
        END {
            for (i = 1; i <= g && i <= b; i++)
                printf "{\"prompt\": \"\", \"chosen\": \"%s\", \"rejected\": \"%s\"}\n", good[i], bad[i]
        }' "$test"
}

# beginnings FROM COUNT: prompts of the first 2 to 8 words of every twelfth review of the test half, which has the
# bad reviews first and those of a film together, so each prompt is a long stride from the one before
beginnings() {
    awk -v from="$1" -v count="$2" "$imdb_awk"'
        NR % 12 { next }
        {
            text = first_words(2 + NR / 12 % 7)
            if (!(text in seen)) prompt[n++] = text
            seen[text]
        }
        END {
            for (k = from; k < from + count && k < n; k++)
                printf "{\"prompt\": \"%s\"}\n", prompt[k * 389 % n] # 389 is prime and does not divide n
        }' "$test"
}

# ranked SCORES SAMPLES: pairs of neighbours among the samples that generate wrote, the higher score is chosen; a
# sample without a text has no score, and its pair is left out
ranked() {
    paste "$1" "$2" | awk -F'\t' '
        {
            prompt = text = $2
            sub(/, "completion": .*/, "", prompt)
            sub(/.*, "completion": /, "", text); sub(/, "finish_reason": .*/, "", text)
        }
        NR % 2 { first = text; score = $1; next }
        $1 != score && $1 != "nan" && score != "nan" {
            if (score > $1) print prompt ", \"chosen\": " first ", \"rejected\": " text "}"
            else print prompt ", \"chosen\": " text ", \"rejected\": " first "}"
        }'
}
