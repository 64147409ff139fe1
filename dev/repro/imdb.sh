# What the experiments on IMDb share. Sourced by a script that has set `test`, the file of IMDb's test half. Every
# twelfth review of that half is kept from the model that judges, for its accuracy and for prompts.

# review_pairs PART WORDS: a positive against a negative review of the test half, so many words of each; PART 1:
# of every twelfth row, 0: of all others
review_pairs() {
    awk -v part="$1" -v words="$2" '
        (NR % 12 == 0) != part { next }
        {
            positive = /, "label": true/
            sub(/^{"text": "/, ""); sub(/", "label": .*/, "")
            n = split($0, word, " "); text = word[1]
            for (i = 2; i <= n && i <= words; i++) text = text " " word[i]
            if (positive) good[++g] = text; else bad[++b] = text
        }
        END {
            for (i = 1; i <= g && i <= b; i++)
                printf "{\"prompt\": \"\", \"chosen\": \"%s\", \"rejected\": \"%s\"}\n", good[i], bad[i]
        }' "$test"
}

# beginnings FROM COUNT: prompts of the first 2 to 8 words of every twelfth review of the test half
beginnings() {
    awk -v from="$1" -v count="$2" '
        NR % 12 { next }
        {
            sub(/^{"text": "/, ""); sub(/", "label": .*/, "")
            n = split($0, word, " "); text = word[1]
            for (i = 2; i <= n && i <= 2 + NR / 12 % 7; i++) text = text " " word[i]
            if (text in seen) next
            seen[text]
            if (++k > from && k <= from + count) printf "{\"prompt\": \"%s\"}\n", text
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
