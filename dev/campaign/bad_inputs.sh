#!/bin/sh
# Bad inputs: all kinds of mistakes in flags, data, model directories, tokenizers, checkpoints, outputs and
# reward programs that we thought of, each made here and given to the program concerned. It prints a line for
# each, `kind -> [exit code] sentence`, so that one can read all sentences at once, and shows that each mistake
# gets one sentence of its kind and the exit code of its kind, that nothing crashes, and that the results which
# an earlier run left in the output directory are as they were, though --overwrite_output_dir was given.
#
#   sh dev/campaign/bad_inputs.sh [--quick] [--only WORD]     a minute of one core; --quick: every fourth kind
#
# Exit codes: 2 usage, 3 bad input, 4 disk; 0: what looks bad is taken, and the sentence is a warning, if
# there is one. It keeps no results: it is short. Run it with programs that have ASan, too.
NAME=bad_inputs
. dev/campaign/campaign.sh
only=
campaign_option() {
    case $1 in
    --only) only=$2 ;;
    *) return 1 ;;
    esac
}
campaign_begin "$@"
workbench 20
rm -f "$OUT/results"
touch "$OUT/results"
number=0
O=$OUT/output D=$OUT/input
as= # how to become a user who is not root

# ---- how a kind is tried -------------------------------------------------------------------------

# fresh: $O is what an earlier run left, $D is empty
fresh() {
    rm -rf "$D" "$O"
    mkdir "$D"
    if [ ! -e "$OUT/earlier" ]; then
        trains sft 6 "$OUT/earlier"
        $command >"$OUT/log" 2>&1 || { cat "$OUT/log"; exit 1; }
        echo mine >"$OUT/earlier/notes.txt"
        "$BIN/score" --model "$W/reward" --dataset "$W/eval.jsonl" --output "$OUT/earlier/scores" \
            >"$OUT/log" 2>&1
    fi
    cp -r "$OUT/earlier" "$O"
}

# snapshot: all files and directories of the output, with their content
snapshot() { (cd "$O" && find . -type f -exec cksum {} + && find .) | sort; }

# try CODE WORDS KIND COMMAND...: the command must end so, say one sentence with these words and leave $O
try() {
    code_expected=$1 words=$2 kind=$3
    shift 3
    snapshot >"$OUT/before"
    timeout 60 $as "$@" >"$OUT/log" 2>"$OUT/said" </dev/null
    code=$?
    sed -i '/^OpenBLAS kernel /d; /^sh: /d' "$OUT/said" # the shell that starts a reward program may speak, too
    sentence=$(sed "s|$OUT/||g; s|$BIN/||g" "$OUT/said" | grep '^error: ' | tail -n 1)
    wrong=
    if [ "$code_expected" -eq 0 ]; then
        [ -n "$sentence" ] || sentence=$(sed "s|$OUT/||g" "$OUT/said" | grep '^warning: ' | head -n 1)
        [ -n "$sentence" ] || sentence=$(grep -m 1 -F -- "${words:-x}" "$OUT/log")
    else
        [ "$(grep -v -c '^warning: ' "$OUT/said")" -eq 1 ] || wrong="not one sentence"
        snapshot | cmp -s "$OUT/before" - || wrong="the output has changed"
    fi
    if [ "$code" -ne "$code_expected" ]; then wrong="exit code $code, expected $code_expected"
    elif grep -q 'Sanitizer\|runtime error' "$OUT/said"; then wrong="a sanitizer speaks"
    elif ! { cat "$OUT/said" "$OUT/log"; } | grep -q -F -- "$words"; then wrong="expected ..$words"; fi
    echo "  $kind -> [$code] ${sentence:-(no word)}"
}

# chosen KIND: is it tried? --quick takes every fourth, --only those with the word
chosen() {
    number=$((number + 1))
    if $quick && [ $((number % 4)) -ne 1 ]; then return 1; fi
    case "$heading: $1" in *"$only"*) fresh ;; *) return 1 ;; esac
}

# judged: note what came out
judged() {
    if [ -z "$wrong" ]; then result "$number" "ok $kind"
    else
        result "$number" "FAILED $wrong: $kind"
        sed 's/^/      | /' "$OUT/said" | head -n 5
    fi
}
sed 's/film/plot/' "$W/reviews.jsonl" >"$W/others.jsonl"
head -n 1 "$W/reviews.jsonl" >"$W/one.jsonl"

# about WORDS: a heading
about() {
    heading=$*
    [ -n "$only" ] || echo "$*"
}

# base PROGRAM: $command is a short run of it
base() {
    case $1 in
    prompt) command="$BIN/generate --model $W/model --max_new_tokens 2" ;;
    generate)
        command="$BIN/generate --model $W/model --max_new_tokens 2 --output $O/scores"
        command="$command --overwrite_output true"
        ;;
    score) command="$BIN/score --model $W/reward --output $O/scores --overwrite_output true" ;;
    evaluate)
        command="$BIN/evaluate --models $W/model --max_new_tokens 2 --samples 0 --output $O/scores"
        command="$command --overwrite_output true"
        ;;
    report) command="$BIN/report --output $O/scores --overwrite_output true" ;;
    *) trains "$1" 2 "$O" --overwrite_output_dir true ;;
    esac
}

# flags CODE WORDS KIND PROGRAM FLAG...: a run with more flags
flags() {
    chosen "$3" || return 0
    code_=$1 words_=$2 kind_=$3
    base "$4"
    shift 4
    try "$code_" "$words_" "$kind_" $command "$@"
    judged
}

# rows CODE WORDS KIND PROGRAM TEXT: a run on a file of this text, which goes through printf. The suffix of the
# file is $suffix.
suffix=jsonl
rows() {
    chosen "$3" || return 0
    printf -- "$5" >"$D/data.$suffix"
    base "$4"
    try "$1" "$2" "$3" $command --dataset "$D/data.$suffix"
    judged
}

# model CODE WORDS KIND SHELL: train_sft on a copy of the model, in which these commands were run
model() {
    chosen "$3" || return 0
    cp -r "$W/model" "$D/model"
    (cd "$D/model" && eval "$4") || exit 1
    base sft
    try "$1" "$2" "$3" $command --model "$D/model"
    judged
}

# resume CODE WORDS KIND SHELL [FLAG...]: going on with a copy of the earlier run, in which the commands were run
resume() {
    chosen "$3" || return 0
    (cd "$O" && rm -rf final && eval "$4") || exit 1
    code_=$1 words_=$2 kind_=$3
    shift 4
    trains sft 6 "$O" --resume_from_checkpoint latest
    try "$code_" "$words_" "$kind_" $command "$@"
    judged
}

# reward CODE WORDS KIND PROGRAM: evaluate with this reward program
reward() {
    chosen "$3" || return 0
    base evaluate
    try "$1" "$2" "$3" $command --dataset "$W/eval.jsonl" --reward_timeout "${5:-10}" --reward_command "$4"
    judged
}

# sub FILE SCRIPT: change a file of the model by sed
sub() { sed "$2" "$1" >edited && mv edited "$1"; }

# tensor_header TEXT: a model.safetensors with this header and 16 bytes of data
tensor_header() {
    length=$(printf '%s' "$1" | wc -c)
    { printf "$(printf '\\%03o\\%03o\\0\\0\\0\\0\\0\\0' $((length % 256)) $((length / 256)))"
        printf '%s0123456789abcdef' "$1"; } >model.safetensors
}

# ---- flags ---------------------------------------------------------------------------------------

about "Flags and their values"
flags 2 "unknown flag --learning_rat" "a flag misspelt" sft --learning_rat 1e-4
flags 2 "unknown flag --beta" "a flag of another program" sft --beta 0.1
flags 2 "unexpected argument" "a word that is no flag" sft extra
flags 2 "unexpected argument" "a flag with one dash" sft -seed 1
flags 2 "needs a value" "a flag without its value" sft --seed
flags 2 "not a" "a word for a number" sft --learning_rate fast
flags 2 "not a" "a comma for a decimal point" sft --learning_rate 0,001
flags 2 "not a" "a number with a unit" sft --max_length 64k
flags 2 "not a" "a fraction for an integer" sft --max_steps 1.5
flags 2 "not a" "an empty number" sft --seed ""
flags 2 "not a" "nan" sft --learning_rate nan
flags 2 "--learning_rate inf" "infinity" sft --learning_rate inf
flags 2 "--learning_rate 1e999" "a number beyond all doubles" sft --learning_rate 1e999
flags 2 "not a" "a hexadecimal number" sft --seed 0x10
flags 2 "out of range" "a negative rate" dpo --learning_rate -0.1
flags 2 "out of range" "a batch of none" dpo --per_device_train_batch_size 0
flags 2 "out of range" "a length of a billion" sft --max_length 1000000000
flags 2 "out of range" "beta 0" dpo --beta 0
flags 2 "out of range" "top_p above 1" prompt --prompt a --top_p 1.5
flags 2 "out of range" "a negative temperature" prompt --prompt a --temperature -1
flags 2 "out of range" "an integer beyond 64 bits" sft --seed 99999999999999999999
flags 2 "expected one of" "a choice that is none" sft --lr_scheduler_type steps
flags 2 "expected one of" "a loss that is none" dpo --loss_type slic
flags 2 "expected true or false" "maybe for true" sft --bf16 maybe
flags 2 "is needed" "no data" sft --dataset ""
flags 2 "is empty" "an empty output directory" sft --output_dir ""
flags 2 "either --model or --model_config" "two models" sft --model_config "$W/config.json"
flags 2 "either --model or --model_config" "no model" sft --model ""
flags 2 "model" "no model" dpo --model ""
flags 2 "needs --eval_prompts" "--gold without prompts" dpo --gold
flags 2 "reward" "two rewards" ppo --reward_command "cat"
flags 2 "batch_size" "mini batches that do not divide" ppo --num_mini_batches 3
flags 3 "no such file" "a config that is not there" sft --config "$D/none.json"
flags 3 "directory" "a config that is a directory" sft --config "$W"

# config CODE WORDS KIND TEXT: a --config file with this text
config() {
    chosen "$3" || return 0
    printf "$4" >"$D/config.json"
    base dpo
    try "$1" "$2" "$3" $command --config "$D/config.json"
    judged
}
config 3 "config.json:1" "a config with a comma too many" '{"seed": 1,}'
config 2 'unknown flag "sead"' "a config with a flag misspelt" '{"sead": 1}'
config 2 "--seed" "a config with a word for a number" '{"seed": "one"}'
config 2 "out of range" "a config with a value out of range" '{"beta": -1}'
config 3 "duplicate key" "a config with a flag twice" '{"seed": 1, "seed": 2}'
config 3 "config.json" "a config that is an array" '["seed", 1]'
config 3 "config.json" "an empty config" ''
config 2 "expected one of" "a config with a choice that is none" '{"loss_type": "slic"}'

# ---- data files ----------------------------------------------------------------------------------

about "Files of data"
flags 3 "no such file" "a file that is not there" sft --dataset "$D/none.jsonl"
flags 3 "no such file" "an evaluation file that is not there" dpo --eval_dataset "$D/none.jsonl"
flags 3 "no such file" "prompts that are not there" generate --dataset "$D/none.jsonl"
flags 3 "input: " "a directory without data" sft --dataset "$D"
rows 3 "no records" "an empty file" dpo ''
rows 3 "no records" "blank lines alone" kto '\n   \n\t\n'
rows 3 "Git LFS pointer" "a Git LFS pointer" sft \
    'version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 12\n'
rows 3 "UTF-16" "UTF-16" sft '\377\376{\000"\000'
rows 3 "Parquet" "a Parquet file" sft 'PAR1\025\004\025'
rows 3 "zip" "a zip file" sft 'PK\003\004\024\000'
rows 3 "CSV" "a CSV table" dpo 'prompt,chosen,rejected\nHello,good,bad\n'
rows 3 "Arrow" "an Arrow file" sft 'ARROW1\000\000\377\377\377\377'
rows 3 "pickle" "a pickle" sft '\200\004\225\020\000\000\000\000\000\000\000'
rows 3 "HTML" "the page of a login" sft '<!DOCTYPE html>\n<html><head><title>Sign in</title></head></html>\n'
rows 3 "YAML" "a YAML file" sft '- prompt: Hello\n  completion: world\n'
rows 3 "data.jsonl" "a gzip file that is cut off" sft '\037\213\010\000\000\000\000\000\000\003'
rows 0 "" "a JSON array" sft '[{"text": "The film was good."}, {"text": "The film was bad."}]\n'
rows 3 "data.jsonl" "a JSON array that ends early" sft '[{"text": "The film was good."},\n{"text": "a"}\n'
rows 3 "data.jsonl:1" "JSON over several lines" sft '{\n  "text": "The film was good."\n}\n'
rows 0 "" "a byte order mark" sft '\357\273\277{"text": "The film was good."}\n'
rows 0 "" "CRLF at the ends of lines" sft '{"text": "The film was good."}\r\n{"text": "Bad."}\r\n'
rows 0 "" "no newline at the end" sft '{"text": "The film was good."}'
rows 3 "JSON error" "a last line that is torn" sft '{"text": "The film was good."}\n{"text": "The fi'
rows 3 "data.jsonl:2" "plain text among the rows" sft '{"text": "a b"}\nThe film was good.\n'
suffix=txt rows 3 "data.txt:1:4: invalid UTF-8" "a plain text in Latin-1" sft 'caf\351 noir\n'
suffix=jsonl

about "JSON of a row"
rows 3 "JSON error" "a comma too many" sft '{"text": "a",}\n'
rows 3 "JSON error" "a string without its end" dpo '{"prompt": "a\n'
rows 3 "data.jsonl:1" "single quotes" sft "{'text': 'a'}\n"
rows 3 "JSON error" "a name without quotes" sft '{text: "a"}\n'
rows 3 "JSON error" "True of Python" kto '{"prompt": "a", "completion": "b", "label": True}\n'
rows 3 "duplicate key" "a key twice" dpo '{"prompt": "a", "prompt": "b", "chosen": "c", "rejected": "d"}\n'
rows 3 "skipped" "a byte that is no UTF-8" orpo '{"prompt": "a\377", "chosen": "c", "rejected": "d"}\n'
rows 3 "skipped" "an overlong form of UTF-8" sft '{"text": "a\300\200"}\n'
rows 3 "control byte" "a raw tab in a string" sft '{"text": "a\tb"}\n'
rows 3 "NUL" "a NUL byte" sft '{"text": "ab"}\000\n'
rows 3 "hex digits" "an escape of two digits" sft '{"text": "\\u00"}\n'
rows 3 "after the end" "two rows on a line" sft '{"text": "a b"} {"text": "c d"}\n'
rows 3 "expected a JSON object" "a row that is a string" sft '"The film was good."\n'
rows 3 "expected a JSON object" "a row that is a number" sft '17\n'
rows 3 "not a JSON number" "a number with a leading zero" kto '{"prompt": "a", "completion": "b", "label": 01}\n'
rows 3 "nested too deeply" "a row nested too deeply" sft "{\"text\": $(printf '%0600d' 0 | tr 0 '[')\n"

about "Rows of train_sft"
rows 3 "missing" "no column that is known" sft '{"question": "a", "answer": "b"}\n'
rows 3 'missing "completion"' "a prompt without completion" sft '{"prompt": "a"}\n'
rows 3 'missing "completion"' "pairs where completions belong" sft '{"prompt": "a", "chosen": "b", "rejected": "c"}\n'
rows 3 "expected a string" "a text that is a number" sft '{"text": 7}\n'
rows 3 '"text" is' "a text that is a list" sft '{"text": ["a", "b"]}\n'
flags 3 'missing "review"' "--dataset_text_field that is not there" sft --dataset_text_field review
rows 3 "skipped" "texts that are empty" sft '{"text": ""}\n{"text": ""}\n'
rows 3 "skipped" "completions of blanks" sft '{"prompt": "a", "completion": "  "}\n'
rows 3 "messages" "messages that are a string" sft '{"messages": "hello"}\n'
rows 3 "skipped" "messages that are none" sft '{"messages": []}\n'
rows 3 "skipped" "a role that is none" sft '{"messages": [{"role": "bot", "content": "a"}]}\n'
rows 3 "role" "a message without role" sft '{"messages": [{"content": "a"}]}\n'
rows 3 "content" "a message without content" sft '{"messages": [{"role": "user"}]}\n'
rows 3 "skipped" "a message whose content is null" sft \
    '{"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": null}]}\n'
rows 3 "skipped" "a NUL as an escape" sft '{"text": "a\\u0000b"}\n'
rows 3 "skipped" "half a surrogate pair" sft '{"text": "a\\ud800b"}\n'
rows 0 "skipped" "one bad row among good ones" sft \
    '{"text": "The film was good."}\n{"text": "a\\u0000b"}\n{"text": "The film was bad."}\n'
rows 0 "" "two answers in a row, as TRL takes them" sft \
    '{"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}, {"role": "assistant", "content": "c"}]}\n'
rows 3 "skipped" "a call of a tool" sft \
    '{"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "", "tool_calls": [{"name": "f"}]}]}\n'
rows 0 "" "null for a column that the row does not have" sft '{"text": null, "prompt": "The film", "completion": " was good."}\n'
rows 0 "" "NaN in a column that nobody reads" sft '{"text": "The film was good.", "score": NaN}\n'
flags 3 "split" "a share of one row for evaluation" sft --dataset "$W/one.jsonl" --eval_split 0.5

about "Rows of pairs"
rows 3 'missing "chosen"' "no chosen answer" dpo '{"prompt": "a", "rejected": "c"}\n'
rows 3 'missing "rejected"' "no rejected answer" rm '{"prompt": "a", "chosen": "c"}\n'
rows 3 '"rejected" is' "a rejected answer that is a number" orpo '{"prompt": "a", "chosen": "b", "rejected": 3}\n'
rows 3 '"prompt" is' "a prompt that is an object" dpo '{"prompt": {"text": "a"}, "chosen": "b", "rejected": "c"}\n'
rows 3 "skipped" "both answers the same" dpo '{"prompt": "a", "chosen": "b c", "rejected": "b c"}\n'
rows 3 "skipped" "answers without a common beginning" rm '{"chosen": "b", "rejected": "c"}\n'
rows 3 "skipped" "an empty answer" orpo '{"prompt": "a", "chosen": "", "rejected": ""}\n'
rows 3 "data.jsonl:1" "one side a text, the other messages" dpo \
    '{"prompt": "a", "chosen": "b", "rejected": [{"role": "assistant", "content": "c"}]}\n'
rows 0 "" "the form of UltraFeedback: a prompt beside lists that contain it" dpo \
    '{"prompt": "The film", "chosen": [{"role": "user", "content": "The film"}, {"role": "assistant", "content": "good"}], "rejected": [{"role": "user", "content": "The film"}, {"role": "assistant", "content": "bad"}]}\n'
rows 3 "margin" "a margin that is a word" rm '{"prompt": "a", "chosen": "b c", "rejected": "d", "margin": "much"}\n'

about "Rows of train_kto"
rows 3 'missing "label"' "no label" kto '{"prompt": "a", "completion": "b"}\n'
rows 3 "label" "a label that is a word" kto '{"prompt": "a", "completion": "b", "label": "good"}\n'
rows 3 "label" "a label of 2" kto '{"prompt": "a", "completion": "b", "label": 2}\n'
rows 0 "" "labels 0 and 1" kto \
    '{"prompt": "The film", "completion": " was good.", "label": 1}\n{"prompt": "The film", "completion": " was bad.", "label": 0}\n{"prompt": "The plot", "completion": " is good.", "label": 1}\n{"prompt": "The plot", "completion": " is bad.", "label": 0}\n'
rows 0 "labels" "one class alone" kto \
    '{"prompt": "a", "completion": "b", "label": true}\n{"prompt": "a", "completion": "c", "label": true}\n'
rows 0 "" "labels and pairs mixed" kto \
    '{"prompt": "a", "completion": "b", "label": true}\n{"prompt": "a", "chosen": "c", "rejected": "d"}\n'

about "Rows of prompts"
rows 3 'missing "prompt"' "no prompt" ppo '{"text": "a"}\n'
rows 3 '"prompt" is' "a prompt that is a number" ppo '{"prompt": 3}\n'
rows 0 "" "an empty prompt" ppo '{"prompt": ""}\n'
rows 3 "prompt_ids" "ids beside a tokenizer, out of range" ppo '{"prompt_ids": [1, 999999]}\n'
rows 3 "prompt" "a prompt that is no string, in generate" generate '{"prompt": 3}\n'
rows 3 "prompt" "no prompt, in evaluate" evaluate '{"text": "a"}\n'
rows 3 'missing "completion"' "no completion, in train_spin" spin '{"prompt": "a"}\n'
rows 3 "data.jsonl:1" "no completion, in score" score '{"prompt": "a"}\n'

# ---- model directories ---------------------------------------------------------------------------

about "Model directories"
flags 3 "no such directory" "a directory that is not there" dpo --model "$D/none"
flags 3 "expected a checkpoint directory" "a file instead of a directory" orpo --model "$W/eval.jsonl"
flags 3 "no such directory" "a name from the hub" sft --model gpt2-medium
flags 3 "reward model" "a reward model as a policy" dpo --model "$W/reward"
flags 3 "score" "a language model as a reward model" score --model "$W/model" --dataset "$W/eval.jsonl"
flags 3 "score" "a language model as PPO's reward" ppo --reward_model "$W/model"
flags 3 "no such directory" "a reference that is not there" dpo --ref_model "$D/none"
model 3 "no config.json" "no config.json" 'rm config.json'
model 3 "no model.safetensors" "no weights" 'rm model.safetensors'
model 3 "pytorch_model.bin" "weights as a pickle only" 'mv model.safetensors pytorch_model.bin'
model 3 "safetensors" "weights in shards, of which one is missing" \
    'rm model.safetensors; echo "{\"weight_map\": {\"transformer.wte.weight\": \"model-1.safetensors\"}}" >model.safetensors.index.json'
model 3 "config.json" "an empty config.json" ': >config.json'
model 3 "config.json" "a config.json that is an array" 'echo "[]" >config.json'
model 3 "JSON error" "a config.json with a comma too many" 'sub config.json "s/}$/,}/"'
model 3 "Git LFS" "weights that are a Git LFS pointer" \
    'printf "version https://git-lfs.github.com/spec/v1\noid sha256:0\n" >model.safetensors'
model 3 "Git LFS" "a config.json that is a Git LFS pointer" \
    'printf "version https://git-lfs.github.com/spec/v1\noid sha256:0\n" >config.json'
model 3 "HTML" "weights that are the page of a login" 'echo "<!DOCTYPE html><html></html>" >model.safetensors'
model 3 '"llama"' "another architecture" 'sub config.json "s/\"gpt2\"/\"llama\"/"'
model 3 "n_head" "heads as a string" 'sub config.json "s/\"n_head\": 2/\"n_head\": \"2\"/"'
model 3 "n_embd" "channels that the heads do not divide" 'sub config.json "s/\"n_head\": 2/\"n_head\": 3/"'
model 3 "out of range" "no layer" 'sub config.json "s/\"n_layer\": 1/\"n_layer\": 0/"'
model 3 "missing tensor" "more layers than the weights have" 'sub config.json "s/\"n_layer\": 1/\"n_layer\": 2/"'
model 3 "config needs" "more channels than the weights have" 'sub config.json "s/\"n_embd\": 32/\"n_embd\": 64/"'
model 3 "config needs" "a longer context than the weights have" \
    'sub config.json "s/\"n_positions\": 64/\"n_positions\": 65/"'
model 3 "vocab_size" "a larger vocabulary than the weights have" \
    'sub config.json "s/\"vocab_size\": [0-9]*/\"vocab_size\": 2000/"'
model 3 "activation_function" "an activation that is not GPT-2's" \
    'sub config.json "s/\"gelu_new\"/\"swiglu\"/"'
model 3 "expected an integer" "a fraction of a layer" 'sub config.json "s/\"n_layer\": 1/\"n_layer\": 1.5/"'
model 3 "out of range" "a layer norm of -1" \
    'sub config.json "s/\"layer_norm_epsilon\": [0-9.e-]*/\"layer_norm_epsilon\": -1/"'

about "Safetensors"
model 3 "too short" "a file of 5 bytes" 'printf 12345 >model.safetensors'
model 3 "too short" "an empty file" ': >model.safetensors'
model 3 "truncated" "a file that is cut" 'head -c 100000 model.safetensors >x && mv x model.safetensors'
model 3 "past end of file" "a header that is cut" 'head -c 500 model.safetensors >x && mv x model.safetensors'
model 3 "unexplained" "bytes after the last tensor" 'printf xx >>model.safetensors'
model 3 "header" "a header of 2^63 bytes" 'printf "\0\0\0\0\0\0\0\200{}" >model.safetensors'
model 3 "header" "a header that is no JSON" 'tensor_header "not JSON"'
model 3 "header" "a header that is an array" 'tensor_header "[1, 2]"'
model 3 "duplicate key" "a tensor twice" \
    'tensor_header "{\"a\": {\"dtype\": \"F32\", \"shape\": [2], \"data_offsets\": [0, 8]}, \"a\": {\"dtype\": \"F32\", \"shape\": [2], \"data_offsets\": [8, 16]}}"'
model 3 "dtype" "a type that is none" 'tensor_header "{\"a\": {\"dtype\": \"X7\", \"shape\": [4], \"data_offsets\": [0, 16]}}"'
model 3 "-4" "a negative shape" 'tensor_header "{\"a\": {\"dtype\": \"F32\", \"shape\": [-4], \"data_offsets\": [0, 16]}}"'
model 3 "shape" "a shape that overflows" \
    'tensor_header "{\"a\": {\"dtype\": \"F32\", \"shape\": [4294967296, 4294967296], \"data_offsets\": [0, 16]}}"'
model 3 "offsets" "offsets that run backwards" \
    'tensor_header "{\"a\": {\"dtype\": \"F32\", \"shape\": [4], \"data_offsets\": [16, 0]}}"'
model 3 "model.safetensors" "tensors that overlap" \
    'tensor_header "{\"a\": {\"dtype\": \"F32\", \"shape\": [4], \"data_offsets\": [0, 16]}, \"b\": {\"dtype\": \"F32\", \"shape\": [2], \"data_offsets\": [8, 16]}}"'
model 3 "model.safetensors" "a hole between tensors" \
    'tensor_header "{\"a\": {\"dtype\": \"F32\", \"shape\": [2], \"data_offsets\": [8, 16]}}"'
model 3 "missing tensor" "the tensors of another model" \
    'tensor_header "{\"a\": {\"dtype\": \"F32\", \"shape\": [4], \"data_offsets\": [0, 16]}}"'
model 3 "NaN" "a weight that is no number" \
    'printf "\377\377\377\177" | dd of=model.safetensors bs=1 seek=$(($(wc -c <model.safetensors) - 4)) conv=notrunc 2>/dev/null'
model 3 "Inf" "a weight that is infinite" \
    'printf "\0\0\200\177" | dd of=model.safetensors bs=1 seek=$(($(wc -c <model.safetensors) - 4)) conv=notrunc 2>/dev/null'

# ---- tokenizers ----------------------------------------------------------------------------------

about "Tokenizers"
flags 3 "no such" "a directory that is not there" sft --tokenizer "$D/none"
model 3 "no such file" "no file of a tokenizer" 'rm vocab.json merges.txt tokenizer.json'
model 3 "merges.txt: no such file" "a vocabulary without merges" 'rm merges.txt tokenizer.json'
model 3 "vocab.json" "an empty vocabulary" 'rm tokenizer.json; echo "{}" >vocab.json'
model 3 "vocab.json" "a vocabulary that is no JSON" 'rm tokenizer.json; echo "{\"a\": 0" >vocab.json'
model 3 "vocab.json" "an id twice" 'rm tokenizer.json; sub vocab.json "s/: 5,/: 4,/"'
model 3 "vocab.json" "a gap in the ids" 'rm tokenizer.json; sub vocab.json "s/: 5,/: 99999,/"'
model 3 "vocab.json" "an id that is a string" 'rm tokenizer.json; sub vocab.json "s/: 5,/: \"5\",/"'
model 3 "vocab_size" "more tokens than the model has" 'rm tokenizer.json; sub vocab.json "s/}\$/, \"zzzz\": 1481}/"'
model 3 "merges.txt:5" "a merge of three tokens" 'rm tokenizer.json; sub merges.txt "5s/\$/ x/"'
model 3 "merges.txt" "a merge of a token that is not there" 'rm tokenizer.json; sub merges.txt "5s/.*/qqq zzz/"'
model 0 "" "CRLF in merges.txt" 'rm tokenizer.json; sub merges.txt "s/\$/\r/"'
model 3 "Git LFS" "a vocabulary that is a Git LFS pointer" \
    'rm tokenizer.json; printf "version https://git-lfs.github.com/spec/v1\n" >vocab.json'

# hugging CODE WORDS KIND SED-SCRIPT: a model with only a tokenizer.json, after this change, of a class of
# tokenizers that takes all of it (transformers' GPT2Tokenizer leaves out some parts)
hugging() {
    class='s/"tokenizer_class": *"[A-Za-z0-9]*"/"tokenizer_class": "PreTrainedTokenizerFast"/'
    model "$1" "$2" "$3" "rm vocab.json merges.txt; sub tokenizer.json '$4'; sub tokenizer_config.json '$class'"
}
# part NAME VALUE: the script that gives the BPE model's part this value
part() { echo "s/\"$1\": *[^,}]*,//; s/\"model\": *{/&\"$1\": $2,/"; }
hugging 0 "" "tokenizer.json alone" ''
model 3 "tokenizer.json" "a tokenizer.json that is cut" \
    'rm vocab.json merges.txt; head -c 900 tokenizer.json >x && mv x tokenizer.json'
hugging 3 "tokenizer.json" "no model in it" 's/"model":/"modell":/'
hugging 3 "tokenizer.json" "a vocabulary that is a list" 's/"vocab": *{[^}]*}/"vocab": []/'
hugging 3 "tokenizer.json" "merges that are an object" 's/"merges": *\[/"merges": {}, "x": [/'
hugging 3 "tokenizer.json" "a model that is not BPE" 's/"type": *"BPE", *//; s/"model": *{/&"type": "WordPiece",/'
hugging 0 "" "byte_fallback, where every byte has a token anyway" "$(part byte_fallback true)"
hugging 3 "dropout" "dropout of merges" "$(part dropout 0.5)"
hugging 3 "normalizer" "a normalizer that is none" 's/"normalizer": *null/"normalizer": {"type": "Precompiled"}/'
hugging 3 "Metaspace" "another pre-tokenizer" 's/"type": *"ByteLevel"/"type": "Metaspace"/'
hugging 3 "future" "a part that nobody knows" 's/"normalizer": *null/"normalizer": null, "future": {"type": "New"}/'

# ---- checkpoints ---------------------------------------------------------------------------------

about "Checkpoints"
C=checkpoint-3
resume 3 "no usable checkpoint" "none to go on from" 'rm -r checkpoint-*'
resume 3 "no usable checkpoint" "only one that is damaged" "printf x >>$C/model.safetensors"
resume 3 "no usable checkpoint" "one without its manifest" "rm $C/trainer/manifest.json"
resume 3 "no usable checkpoint" "a manifest that is cut" "printf '{\"files\": {' >$C/trainer/manifest.json"
resume 3 "no usable checkpoint" "a manifest of nothing" "echo '{}' >$C/trainer/manifest.json"
resume 3 "no usable checkpoint" "a state that is cut" ": >$C/trainer/state.json"
resume 3 "no usable checkpoint" "moments that are gone" "rm $C/trainer/optimizer.safetensors"
resume 3 "no such directory" "a name that is none" '' --resume_from_checkpoint "$O/checkpoint-9"
resume 3 "cannot resume" "final/ is no checkpoint" 'mkdir -p final' --resume_from_checkpoint "$O/final"
resume 3 "--seed was 42, is now 7" "another seed" '' --seed 7
resume 3 "--learning_rate was" "another rate" '' --learning_rate 0.1
resume 3 "--dataset" "other data" '' --dataset "$W/others.jsonl"
resume 3 "--max_steps was 6, is now 9" "another number of steps" '' --max_steps 9
resume 2 "--overwrite_output_dir would delete" "going on and overwriting" '' --overwrite_output_dir

# state CODE WORDS KIND SED-SCRIPT: a state.json that was changed, with a manifest that says it is right
state() {
    resume "$1" "$2" "$3" "cd $C/trainer && sub state.json '$4' &&
        sub manifest.json '/state.json/d; s/\\(optimizer.safetensors.*\\),\$/\\1/'"
}
state 3 "earlier version" "a state of format 1" 's/"format": 2/"format": 1/'
state 3 "not a training state" "a state without its format" 's/"format": 2/"form": 2/'
state 3 "bad value" "a step that is a word" 's/"step": "3"/"step": "three"/'
state 3 'no "step"' "a state without its step" '/"step": "3"/d'
state 3 "state.json" "a state that is no JSON" '$d'

# ---- outputs -------------------------------------------------------------------------------------

about "Outputs"
# plain CODE WORDS KIND PROGRAM FLAG...: without --overwrite_output_dir
plain() {
    chosen "$3" || return 0
    code_=$1 words_=$2 kind_=$3
    trains "$4" 2 "$O"
    shift 4
    try "$code_" "$words_" "$kind_" $command "$@"
    judged
}
plain 2 "already has" "a directory that has a run" sft
plain 2 "already has" "a directory that has another program's run" dpo
plain 4 "is a file" "a file where the directory should be" sft --output_dir "$O/notes.txt"
plain 4 "notes.txt" "a directory below a file" kto --output_dir "$O/notes.txt/below"
plain 4 "/proc" "a place where nothing can be written" orpo --output_dir /proc/none/out
flags 2 "overwrite_output" "a file that is there already" score --dataset "$W/eval.jsonl" --overwrite_output false
flags 4 "cannot" "a file in a directory that is not there" score --dataset "$W/eval.jsonl" --output "$O/none/scores"
flags 2 "directory" "a directory where the file should be" score --dataset "$W/eval.jsonl" --output "$O/final"

# inside KIND PROGRAM FLAG FILE: what a run needs lies in the directory that it shall overwrite
inside() {
    chosen "$1" || return 0
    kind_=$1 flag_=$3 file_=$4
    cp -r "$W/reward" "$W/model" "$W/reviews.jsonl" "$W/pairs.jsonl" "$W/config.json" "$O/final"
    base "$2"
    try 2 "--overwrite_output_dir" "$kind_" $command "$flag_" "$O/final/$file_"
    judged
}
inside "overwriting the model that is to be trained" sft --model model
inside "overwriting the data" sft --dataset reviews.jsonl
inside "overwriting the data of the evaluation" dpo --eval_dataset pairs.jsonl
inside "overwriting the reference" dpo --ref_model model
inside "overwriting the reward model" ppo --reward_model reward
inside "overwriting the tokenizer" kto --tokenizer model

# ---- reward programs -----------------------------------------------------------------------------

about "Reward programs"
reward 3 "command not found" "a program that is not there" "no_such_program_here"
reward 3 "cannot be executed" "a file that cannot be executed" "$W/eval.jsonl"
reward 3 "exited with code 1" "one that fails" "exit 1"
reward 3 "signal" "one that is killed" 'kill -9 $$'
reward 3 "no answer" "one that is silent" "sleep 5" 0.3
reward 3 "expected a number" "one that answers with words" "while read -r row; do echo good; done"
reward 3 "expected a number" "one that answers with two numbers" "while read -r row; do echo 1 2; done"
reward 3 "expected a number" "one that answers with JSON" "while read -r row; do echo '{\"score\": 1}'; done"
reward 3 "expected a number" "one that answers with an empty line" "while read -r row; do echo; done"
reward 3 "not finite" "one that answers nan" "while read -r row; do echo nan; done"
reward 3 "not finite" "one that answers inf" "while read -r row; do echo inf; done"
reward 3 "not finite" "one beyond all floats" "while read -r row; do echo 1e300; done"
reward 3 "expected a number" "a decimal comma" "while read -r row; do echo 0,5; done"
reward 3 "expected a number" "a hexadecimal number" "while read -r row; do echo 0x1p3; done"
reward 3 "before it answered" "one that stops halfway" "read -r row; echo 1"
reward 3 "expected no more lines" "one that says more than it is asked" "read -r row; printf '1\\n2\\n3\\n4\\n5\\n'; cat >/dev/null"
# A greeting is heard before the first row is written or after it, as the machine pleases.
reward 3 'read "ready"' "one that greets" "echo ready; while read -r row; do echo 1; done"
reward 3 "expected a number" "a line that never ends" "read -r row; while :; do printf aaaaaaaa; done"
reward 3 "expected a number" "bytes that are no text" "while read -r row; do printf '\\377\\000\\n'; done"

# ---- the other programs --------------------------------------------------------------------------

about "generate, evaluate, report"
flags 2 "" "a prompt and a file" generate --prompt a --dataset "$W/eval.jsonl"
flags 0 "" "an empty prompt" prompt --prompt ""
flags 3 "no such directory" "one of several policies is not there" evaluate --models "$W/model,$D/none" --dataset "$W/eval.jsonl"
flags 2 "models" "no policy" evaluate --models "" --dataset "$W/eval.jsonl"
flags 2 "" "two policies of one name" evaluate --models "a=$W/model,a=$W/model" --dataset "$W/eval.jsonl"
flags 2 "" "the best of several without scores" evaluate --best_of 2 --dataset "$W/eval.jsonl"
flags 3 "no such" "a run that is not there" report --runs "$D/none"
flags 3 "metrics.jsonl" "a directory without runs" report --runs "$W"
flags 3 "" "an evaluation that is no evaluation" report --runs "$O" --evaluation "$W/config.json"

rm -rf "$D" "$O"
campaign_end "$(wc -l <"$OUT/results") of $number kinds"
