#!/bin/sh
# Every flag of TRL and transformers (test/golden/trl_flags.txt) is one of the program, or in the table of
# lib/run/trl_flags.h: its default is taken, in a file and on the command line; and what the table calls harmless
# is so at harmless values alone. Then what the honoured ones do, data in folders, and configurations.
. test/helpers.sh
GOLDEN=test/golden/trl_flags.txt
TAB=$(printf '\t')

# mistake CODE WORDS COMMAND...: the command complains
mistake() {
    complains "$@"
    shift 2
    judge "$@"
}

# ---- all flags -----------------------------------------------------------------------------------

# flags_of PROGRAM: name and default of each of its flags
flags_of() {
    awk -F "$TAB" -v program="$1" '!/^#/ && $4 != "?" && ($2 == "all" || "," $2 "," ~ "," program ",") {
        print $3 "\t" $4 }' "$GOLDEN"
}

# What is not to be had at TRL's default: names of models on the hub, and what is computed otherwise.
refused_default() {
    case $1.$2 in
    train_ppo.sft_model_path | train_ppo.reward_model_path | train_ppo.num_train_epochs) return 0 ;;
    esac
    return 1
}

# A run that gets past its flags ends at the missing file, with exit code 3.
NEEDS="--model data/sft --dataset $T/missing.jsonl"
for program in train_sft train_rm train_dpo train_kto train_orpo train_ppo train_spin; do
    set -- "$BIN/$program" $NEEDS
    [ $program != train_ppo ] || set -- "$@" --reward_model data/rm
    flags_of $program >"$T/flags"
    : >"$T/all.yaml"
    : >"$T/line"
    while IFS="$TAB" read -r name default; do
        if refused_default $program "$name"; then continue; fi
        echo "$name: $default" >>"$T/all.yaml"
        case $default in
        null | '""' | '[]') ;;
        *) echo "--$name $default" | tr -d '[]",' >>"$T/line" ;;
        esac
    done <"$T/flags"
    # given here, and so not by the file
    sed -i '/^output_dir:/d; /^run_name:/d' "$T/all.yaml"
    complains 3 "missing.jsonl: no such file" "$@" --config "$T/all.yaml" --output_dir "$T/out"
    judge "$program: $(wc -l <"$T/all.yaml") defaults in a file"
    complains 3 "missing.jsonl: no such file" "$@" $(cat "$T/line") --output_dir "$T/out"
    judge "$program: $(wc -l <"$T/line") defaults on the command line"
    awk 'END { exit NR < 140 }' "$T/flags" || fail "$program: only $(wc -l <"$T/flags") flags in $GOLDEN"
done
finish trl_flags
