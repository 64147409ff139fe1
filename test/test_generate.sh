#!/bin/sh
# Tests of generate as a user runs it, with a model of one layer that train_sft makes in a few
# steps: prompts, files, talks, and every mistake in flags and files. Run from the repository's root
# with BIN set to a build (build/plain, build/asan, build/clang).
. test/helpers.sh
unset OMP_NUM_THREADS
M=$T/model

gen() { timeout 120 "$BIN/generate" --model "$M" "$@"; }

# mistake CODE WORDS COMMAND...: the command complains, without a warning, and leaves the files of
# $T/out as they were
mistake() {
    leaves "$@"
    no_warnings
    shift 2
    judge "$@"
}

mkdir "$T/out"
tiny_config 48
if ! timeout 120 "$BIN/train_sft" --model_config "$T/config.json" --tokenizer data --dataset \
    data/reviews_eval.jsonl --output_dir "$T/sft" --max_steps 60 --learning_rate 0.01 \
    --per_device_train_batch_size 16 --samples 0 --save_steps 0 --logging_steps 60 \
    >"$T/log" 2>&1; then
    fail "train_sft does not make the model"
    tail -n 5 "$T/log"
    finish generate
    exit 1
fi
mv "$T/sft/final" "$M"

# ---- one prompt ----------------------------------------------------------------------------------
gen --prompt "The film" --max_new_tokens 12 >"$T/a"
gen --prompt "The film" --max_new_tokens 12 >"$T/b"
same "the same seed gives the same text" "$T/a" "$T/b"
check "the prompt comes first" grep -q '^The film' "$T/a"
check "and is continued" test "$(wc -c <"$T/a")" -gt 10
gen --prompt "The film" --max-new-tokens 12 --num-return-sequences 3 >"$T/b"
check "three sequences" test "$(grep -c '^\[[123]\] The film' "$T/b")" -eq 3
check "the first is that of the prompt alone" grep -qxF "[1] $(cat "$T/a")" "$T/b"
gen --prompt "The film" --max_new_tokens 12 --temperature 0 --seed 1 >"$T/a"
gen --prompt "The film" --max_new_tokens 12 --temperature 0 --seed 2 >"$T/b"
same "greedy does not depend on the seed" "$T/a" "$T/b"
gen --prompt "The film" --max_new_tokens 12 --top_k 1 >"$T/b"
same "top_k 1 is greedy" "$T/a" "$T/b"
gen --prompt "The film" --max_new_tokens 12 --top_p 0 >"$T/b"
same "top_p 0 is greedy" "$T/a" "$T/b"
check "an empty prompt" gen --prompt "" --max_new_tokens 5
check "a prompt longer than the context" gen --prompt "$(yes 'The film was bad.' | head -n 40)"
check "a prompt as a user's turn" gen --prompt "Hello" --chat_format hh --max_new_tokens 5
check "help lists all" sh -c "gen() { '$BIN/generate' --help; }; for f in model prompt dataset output \
    max_new_tokens temperature top_k top_p num_return_sequences seed batch_size chat_format \
    overwrite_output max_samples config; do gen | grep -q -- \"--\$f \" || exit 1; done"

# ---- a file --------------------------------------------------------------------------------------
cat >"$T/in.jsonl" <<'END'
{"prompt": "The film", "id": 12345678901234567890, "score": 1.50}

{"id": {"a": [1, null, "\u00e9\"\n"]}, "prompt": "I enjoyed", "completion": "old"}
{"prompt": [{"role": "user", "content": "Was it good?"}]}
{"prompt": [{"role": "user", "content": "Hm?"}, {"role": "assistant", "content": "The film"}]}
{"prompt": ""}
END
gen --dataset "$T/in.jsonl" --output "$T/out/a.jsonl" --max_new_tokens 15 >"$T/log"
check "one row for each record" test "$(wc -l <"$T/out/a.jsonl")" -eq 5
check "each with one completion and one finish_reason" test "$(grep -cE \
    '^\{.*, "completion": "[^"]*", "finish_reason": "(eos|length|context)"\}$' "$T/out/a.jsonl")" -eq 5
check "numbers keep their digits" grep -q \
    '^{"prompt": "The film", "id": 12345678901234567890, "score": 1.50, "completion"' "$T/out/a.jsonl"
check "other members stay" grep -qF '"id": {"a": [1, null, "\u00e9\"\n"]}, "prompt": "I enjoyed"' \
    "$T/out/a.jsonl"
check "an old completion is replaced" test "$(grep -c old "$T/out/a.jsonl")" -eq 0
check "the report counts" grep -q '^5 prompts, [0-9]* tokens' "$T/log"
check "no temporary file stays" test "$(ls -A "$T/out")" = a.jsonl
for batch in 1 2 7; do
    gen --dataset "$T/in.jsonl" --output "$T/out/b.jsonl" --overwrite_output --max_new_tokens 15 \
        --batch_size $batch >"$T/log"
    same "batch_size $batch does not change the text" "$T/out/a.jsonl" "$T/out/b.jsonl"
done
gen --dataset "$T/in.jsonl" --output "$T/out/b.jsonl" --overwrite_output --max_samples 2 \
    --num_return_sequences 3 >"$T/log"
check "three rows for each of two records" test "$(wc -l <"$T/out/b.jsonl")" -eq 6
check "completions can be read again" gen --dataset "$T/out/a.jsonl" --output "$T/out/c.jsonl"
gen --dataset "$T/in.jsonl" --max_samples 2 --max_new_tokens 5 >"$T/log"
check "without --output they are printed" grep -q '^The film |' "$T/log"
yes '{"prompt": "The film was bad. The film was bad. The film was bad. The film was bad. The film was bad."}' |
    head -n 3 >"$T/long.jsonl"
yes '{"prompt": "'"$(yes 'The film was bad.' | head -n 40 | tr '\n' ' ')"'"}' | head -n 2 >>"$T/long.jsonl"
gen --dataset "$T/long.jsonl" --max_new_tokens 10 >"$T/log" 2>&1
check "prompts that are cut are counted" grep -q '^warning: 2 prompts were too long' "$T/log"

# ---- a talk --------------------------------------------------------------------------------------
printf 'The film\n\nI enjoyed é\r\nlast' | gen --max_new_tokens 8 >"$T/a"
check "every line is continued" test "$(grep -c '^The film\|^I enjoyed é\|^last' "$T/a")" -eq 3
printf 'The film\n' | gen --max_new_tokens 12 --seed 3 >"$T/a"
gen --prompt "The film" --max_new_tokens 12 --seed 3 >"$T/b"
same "a line is a prompt" "$T/a" "$T/b"
for format in auto hh simple chatml llama2 zephyr; do
    yes 'Tell me about the film' | head -n 12 | gen --chat_format $format --max_new_tokens 6 >"$T/a"
    check "twelve answers, longer than the context ($format)" test "$(wc -l <"$T/a")" -ge 12
done
# Forgotten turns. Of the form `simple` a first turn has no blank before it, which a later one has; the shipped model
# answers otherwise if it is left there.
last="I enjoyed the film and its story"
sft() { timeout 120 "$BIN/generate" --model data/sft --max_new_tokens 30 --temperature 0 "$@" | tail -n 1; }
for format in hh simple; do
    { yes 'Tell me about the film' | head -n 5 && echo "$last"; } | sft --chat_format $format >"$T/a"
    sft --prompt "$last" --chat_format $format >"$T/b"
    same "a turn before which all are forgotten begins the talk ($format)" "$T/b" "$T/a"
done
check "nothing said" sh -c "'$BIN/generate' --model '$M' </dev/null"
printf 'Hello\n' | gen --chat_format simple --max_new_tokens 9 >"$T/a"
gen --prompt Hello --chat_format simple --max_new_tokens 9 >"$T/b"
same "a first turn is a prompt" "$T/a" "$T/b"
gen --prompt "The film" --max_new_tokens 200 --seed 1 >"$T/a" 2>&1
check "the context ends a text" test "$(wc -c <"$T/a")" -lt 1000

# ---- chat templates and more than one EOS --------------------------------------------------------
# A directory with a chat template answers as that says; one that is not known is named, but only where
# there are messages.
cp -r "$M" "$T/chat"
cat >"$T/chat/chat_template.jinja" <<'END'
{%- for message in messages %}
    {{- "<|im_start|>" + message.role + "\n" + message.content + "<|im_end|>\n" }}
{%- endfor %}
{%- if add_generation_prompt %}{{ "<|im_start|>assistant\n" }}{% endif %}
END
printf '%s\n' '{"prompt": [{"role": "system", "content": "Hm"}, {"role": "user", "content": "Hi <|im_end|>"}]}' \
    '{"prompt": [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Well,"}]}' >"$T/talks.jsonl"
"$BIN/generate" --model "$T/chat" --dataset "$T/talks.jsonl" --max_new_tokens 1 >"$T/a" 2>"$T/b"
printf '%s\n' '<|im_start|>system' 'Hm<|im_end|>' '<|im_start|>user' 'Hi <|im_end|><|im_end|>' \
    '<|im_start|>assistant' >"$T/want"
head -n 5 "$T/a" >"$T/shown"
same "messages as the template has them" "$T/want" "$T/shown"
check "a reply that goes on" sh -c "sed -n '7,\$p' '$T/a' | grep -q '^Well,[^<]* |'"
check "what is no token is said" grep -q '"<|im_end|>" is no token of this tokenizer' "$T/b"
echo '{% for m in messages %}{{ m.content }}{% endfor %}' >"$T/chat/chat_template.jinja"
mistake 3 "chat_template.jinja: this chat template is none of those known here" \
    "$BIN/generate" --model "$T/chat" --dataset "$T/talks.jsonl"
check "a flag decides" "$BIN/generate" --model "$T/chat" --dataset "$T/talks.jsonl" \
    --chat_format zephyr --max_new_tokens 1
check "no messages, no template needed" "$BIN/generate" --model "$T/chat" --prompt x --max_new_tokens 1
# The most probable next token as one more EOS of the list: nothing is written.
first() { "$BIN/generate" --model "$1" --dataset "$T/in.jsonl" --output "$T/first.jsonl" --max_samples 1 \
    --max_new_tokens 1 --temperature 0 --overwrite_output >/dev/null; }
rm "$T/chat/chat_template.jinja"
first "$M"
word=$(sed -n 's/.*"completion": " *\([^"]*\)".*/\1/p' "$T/first.jsonl")
id=$(tr , '\n' <"$M/vocab.json" | sed -n "s/^ *\"Ġ$word\": \([0-9]*\).*/\1/p")
sed -i "s/\"eos_token_id\": \([0-9]*\)/\"eos_token_id\": [\1, $id]/" "$T/chat/generation_config.json"
first "$T/chat"
check "an EOS of a list" grep -q '"completion": "", "finish_reason": "eos"' "$T/first.jsonl"

# ---- the default run -----------------------------------------------------------------------------
if [ -d data/sft ]; then
    check "without arguments" timeout 120 "$BIN/generate"
else
    skip "data/sft is not there (make sft_model)"
fi

# ---- mistakes: flags -----------------------------------------------------------------------------
mistake 2 "unknown flag --promt" gen --promt x
mistake 2 "--prompt needs a value" gen --prompt
mistake 2 "unexpected argument hello" gen hello
mistake 2 "give either --prompt or --dataset" gen --prompt x --dataset "$T/in.jsonl"
mistake 2 "--output needs --dataset" gen --prompt x --output "$T/out/x"
mistake 2 "--num_return_sequences needs" gen --num_return_sequences 2
mistake 2 "--temperature -1: out of range" gen --prompt x --temperature -1
mistake 2 "--temperature nan: not a number" gen --prompt x --temperature nan
mistake 2 "--temperature 1x: not a number" gen --prompt x --temperature 1x
mistake 2 "--top_p 1.1: out of range" gen --prompt x --top_p 1.1
mistake 2 "--top_k -1: out of range" gen --prompt x --top_k -1
mistake 2 "--top_k 1.5: not a whole number" gen --prompt x --top_k 1.5
mistake 2 "--max_new_tokens 0: out of range" gen --prompt x --max_new_tokens 0
mistake 2 "--batch_size 0: out of range" gen --prompt x --batch_size 0
mistake 2 "--num_return_sequences 0: out of range" gen --prompt x --num_return_sequences 0
mistake 2 "--seed -5: out of range" gen --prompt x --seed -5
mistake 2 "--chat_format x: expected one of none|auto|chatml|llama2|zephyr|hh|simple" gen --chat_format x
mistake 2 "--prompt: invalid UTF-8 at byte 3" gen --prompt "$(printf 'ab\377')"
mistake 2 "a.jsonl: already there; see --overwrite_output" gen --dataset "$T/in.jsonl" \
    --output "$T/out/a.jsonl"
mistake 2 "is a directory, expected the name of a file" gen --dataset "$T/in.jsonl" --output "$T/out"
mistake 4 "cannot create: No such file or directory" gen --dataset "$T/in.jsonl" \
    --output "$T/out/no/a.jsonl"

# ---- mistakes: files -----------------------------------------------------------------------------
bad() { # bad CODE WORDS TEXT: as the data set
    printf "$3" >"$T/bad.jsonl"
    mistake "$1" "$2" gen --dataset "$T/bad.jsonl" --output "$T/out/x.jsonl" --strict_data
}
mistake 3 "none.jsonl: no such file" gen --dataset "$T/none.jsonl"
mistake 3 "is a directory, expected a file" gen --dataset "$T"
bad 3 "bad.jsonl: contains no records" ''
bad 3 "bad.jsonl: contains no records" '\n \n'
bad 3 'bad.jsonl:2: missing "prompt" (keys: promt)' '{"prompt": "a"}\n{"promt": "b"}\n'
bad 3 'bad.jsonl:1: "prompt" is a number' '{"prompt": 3}\n'
bad 3 'bad.jsonl:1: "prompt" is null' '{"prompt": null}\n'
bad 3 'bad.jsonl:1: "prompt" has no messages' '{"prompt": []}\n'
bad 3 'role "bot"' '{"prompt": [{"role": "bot", "content": "x"}]}\n'
bad 3 'needs strings "role" and "content"' '{"prompt": [{"role": "user"}]}\n'
bad 3 'bad.jsonl:3:' '{"prompt": "a"}\n{"prompt": "b"}\n{"prompt": "c"\n'
bad 3 'duplicate key "prompt"' '{"prompt": "a", "prompt": "b"}\n'
bad 3 'bad.jsonl:1: "prompt" contains a byte that is not UTF-8' '{"prompt": "\377"}\n'
bad 3 'bad.jsonl:1:16: expected a JSON object' '[{"prompt":""},7]\n'
bad 3 'looks like pretty-printed JSON' '{\n  "prompt": "a"\n}\n'
bad 3 'is damaged or cut short' '\037\213abc\n'
mistake 3 "no such directory" gen --model "$T/none" --prompt x
mistake 3 "data/rm: is a reward model, expected a language model" gen --model data/rm --prompt x
mistake 3 "is a file, expected a checkpoint directory" gen --model "$T/in.jsonl" --prompt x
mkdir "$T/empty"
mistake 3 "no config.json" gen --model "$T/empty" --prompt x
cp -r "$M" "$T/lost" && rm "$T/lost/vocab.json" "$T/lost/tokenizer.json"
mistake 3 "vocab.json" gen --model "$T/lost" --prompt x
cp -r test/golden/tiny_gpt2 "$T/other" && cp data/vocab.json data/merges.txt "$T/other"
mistake 3 "the model's vocabulary only 64" gen --model "$T/other" --prompt x
printf 'ab\377c\n' >"$T/bytes"
mistake 3 "standard input:1:3: invalid UTF-8 byte 0xFF" gen <"$T/bytes"
printf 'ab\0c\n' >"$T/bytes"
mistake 3 "standard input:1: contains a NUL byte" gen <"$T/bytes"
# a disk that is full: no more than 4 kB a file (LLVM's OpenMP needs a file of 1 kB itself)
mistake 4 "x.jsonl: cannot write: File too large" sh -c "trap '' XFSZ; ulimit -f 8; \
    exec '$BIN/generate' --model '$M' --dataset '$T/in.jsonl' --output '$T/out/x.jsonl' \
    --num_return_sequences 100"
if [ -c /dev/full ]; then
    mistake 4 "standard output: cannot write: No space left" sh -c \
        "'$BIN/generate' --model '$M' --dataset '$T/in.jsonl' >/dev/full"
else
    skip "no /dev/full here"
fi

# ---- --log: what was said and answered, as label and the training programs read it

printf 'one\ntwo\n' | gen --chat_format hh --max_new_tokens 4 --log "$T/log.jsonl" >"$T/a" 2>"$T/b"
gen --prompt 'say "x"' --max_new_tokens 4 --log "$T/log.jsonl" >"$T/a" 2>"$T/b"
check "log: three answers" test "$(wc -l <"$T/log.jsonl")" -eq 3
check "log: a talk's first turn" grep -q '"prompt": \[{"role": "user", "content": "one"}\], "completion": "' "$T/log.jsonl"
check "log: then both" grep -q '"content": "one"}, {"role": "assistant", "content": ".*"}, {"role": "user", "content": "two"}\]' \
    "$T/log.jsonl"
check "log: a prompt" grep -q '"prompt": "say \\"x\\"", "completion": "' "$T/log.jsonl"
mistake 2 "--log is for one prompt or a talk" gen --dataset "$T/log.jsonl" --log "$T/other.jsonl"
mistake 4 "cannot open" gen --prompt x --log "$T/none/log.jsonl"

# the model of real English, which is in bfloat16
"$BIN/generate" --model data/stories --prompt "Once upon a" --max_new_tokens 5 --temperature 0 >"$T/a" 2>"$T/b"
check "data/stories goes on as English does" grep -q "^Once upon a time" "$T/a"

finish generate
