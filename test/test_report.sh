#!/bin/sh
# Tests of report on small made-up results: the page's form, what it shows, and mistakes in its input;
# and of dev/demo.sh with programs that only pretend. Run from the repository's root with BIN set to a
# build.
. test/helpers.sh
ROOT=$(pwd)
case $BIN in /*) ;; *) BIN=$ROOT/$BIN ;; esac

# shows WORDS FILE, lacks WORDS FILE: a file has these words in one of its lines, or has not
shows() { check "no \"$1\" in ${2##*/}" grep -qF -- "$1" "$2"; }
lacks() { refuse "\"$1\" in ${2##*/}" grep -qF -- "$1" "$2"; }

# mistake CODE WORDS [FLAG...]: report complains, without a warning, and writes no page
mistake() {
    want=$1 words=$2
    shift 2
    complains "$want" "$words" "$BIN/report" --output "$T/none.html" "$@"
    no_warnings
    [ ! -e "$T/none.html" ] || amiss "there is a page"
    judge "report $*"
    rm -f "$T/none.html"
}

# well_formed FILE: every element is closed in its order, and attributes are quoted. As XML, if
# xmllint is here.
well_formed() {
    awk 'BEGIN { RS = "<" }
        NR > 1 {
            end = index($0, ">")
            if (!end) { print "no > in <" $0; bad = 1; exit }
            tag = substr($0, 1, end - 1)
            name = tag
            sub(/[ \/].*/, "", name)
            rest = tag
            gsub(/ [a-zA-Z-]+="[^"]*"/, "", rest)
            if (rest !~ /^\/?[a-z0-9]+\/?$/ && tag !~ /^!DOCTYPE html$/) { print "<" tag; bad = 1 }
            if (tag ~ /^\//) {
                name = substr(tag, 2)
                if (!depth || stack[depth] != name) { print "</" name "> closes " stack[depth]; bad = 1 }
                depth--
            } else if (tag !~ /\/$/ && tag !~ /^!/) stack[++depth] = name
        }
        END { if (depth) print "open: " stack[depth]; exit bad || depth || NR < 20 }' "$1" || return 1
    command -v xmllint >/dev/null || return 0
    xmllint --noout "$1"
}

# ---- made-up results: a baseline, a method that won and one with a nasty name ----------------------

mkdir "$T/runs" "$T/runs/dpo" "$T/runs/spin" "$T/runs/none" "$T/odd"
cat >"$T/runs/dpo/metrics.jsonl" <<'END'
{"step": 0, "epoch": 0, "eval_loss": 0.6931, "eval_rewards/margins": 0}
{"step": 10, "loss": 0.69, "rewards/chosen": 0.01, "rewards/rejected": -0.02, "rewards/margins": 0.03}
{"step": 20, "loss": 0.65, "rewards/chosen": null, "rewards/rejected": -0.2, "rewards/margins": 0.2}
{"step": 20, "epoch": 1, "eval_loss": 0.66, "eval_rewards/margins": 0.15}
END
printf '{"step": 30, "lo' >>"$T/runs/dpo/metrics.jsonl" # a run that is still going on
cat >"$T/runs/spin/metrics.jsonl" <<'END'
{"step": 0, "data/bigram_tv": 0.1}
{"step": 0, "iteration": 0, "player/nll": 1.25, "player/bigram_tv": 0.30}
{"step": 9, "iteration": 1, "player/nll": 1.26, "player/bigram_tv": 0.25}
END
mean() { printf '{"mean": %s, "error": 0.1, "low": %s, "high": %s, "clusters": 9}' "$1" "$2" "$3"; }
{
    echo '{"format": 1, "flags": {"dataset": "data/eval.jsonl"}, "prompts": 9, "samples_per_prompt": 1,'
    echo '"judge": "gold", "level": 0.9, "models": ['
    echo '{"name": "sft (baseline)", "baseline": true, "gold": '"$(mean 0.1 0 0.2),"
    echo '"kl": '"$(mean 0 0 0)"', "nll": '"$(mean 1.2 1.1 1.3)"', "length": '"$(mean 15 14 16)"'},'
    echo '{"name": "dpo", "baseline": false, "gold": '"$(mean 1.5 1.3 1.7)"', "kl": '"$(mean 1 0.9 1.1),"
    echo '"wins": {"gold": {"rate": 0.75, "low": 0.7, "high": 0.8}, "reward": null}},'
    echo '{"name": "<b>&\"odd\"", "baseline": false, "gold": '"$(mean 0.2 0 0.4)"', "kl": null},'
    echo '{"name": "spin", "baseline": false, "gold": '"$(mean 0.1 0 0.2)"', "kl": '"$(mean 0.1 0 0.2)}"
    echo '], "comparisons": ['
    echo '{"a": "dpo", "b": "sft (baseline)", "score": "gold", "difference": '"$(mean 1.4 1.2 1.6)},"
    echo '{"a": "dpo", "b": "sft (baseline)", "score": "reward", "difference": '"$(mean 9 8 9.5)},"
    echo '{"a": "<b>&\"odd\"", "b": "sft (baseline)", "score": "gold", "difference": '"$(mean 0.1 -0.1 0.3)}"
    echo ']}'
} >"$T/eval.json"
cat >"$T/samples.jsonl" <<'END'
{"name": "sft (baseline)", "prompt_number": 0, "sample": 0, "prompt": "A <i>film", "completion": " is good.", "finish": "eos", "gold": 1.25}
{"name": "dpo", "prompt_number": 0, "sample": 0, "prompt": "A <i>film", "completion": "<script>alert('x')</script> &amp; \"more\"\nnext\u0007", "finish": "length", "gold": -2}
{"name": "dpo", "prompt_number": 0, "sample": 1, "prompt": "A <i>film", "completion": " second sample", "finish": "eos", "gold": 1}
{"name": "dpo", "prompt_number": 1, "sample": 0, "prompt": "B", "completion": " other prompt", "finish": "eos", "gold": 1}
END
printf 'b,kl,gold,error,least_ess\n1,0.5,1.1,0.02,99\n8,0,0.1,0.01,99\n0.5,2,2.1,0.1,99\n' >"$T/best.csv"
cat >"$T/stages.jsonl" <<'END'
{"name": "sft", "command": "./train_sft --output_dir x <y> && z", "seconds": 41, "peak_memory_mb": 64}
{"name": "dpo", "command": "./train_dpo", "seconds": 9, "peak_memory_mb": null}
END

P=$T/page.html
set -- --runs "$T/runs" --evaluation "$T/eval.json" --samples_file "$T/samples.jsonl" \
    --frontier "$T/best.csv" --stages "$T/stages.jsonl" --title "Mine & <yours>" --output "$P"
check "a page of all" "$BIN/report" "$@" --expect "dpo=score,spin=data,<b>&\"odd\"=score"
cp "$T/check" "$T/terminal"
check "the page is well-formed" well_formed "$P"
for words in "http:" "https:" "<script" "javascript:" "@import" "url(" "src=" "<link" "<i>film" "<b>&"; do
    lacks "$words" "$P"
done
shows "&lt;script&gt;alert(&#39;x&#39;)&lt;/script&gt; &amp;amp; &quot;more&quot;" "$P"
shows "A &lt;i&gt;film" "$P"
shows "&lt;b&gt;&amp;&quot;odd&quot;" "$P"
shows "<title>Mine &amp; &lt;yours&gt;</title>" "$P"
shows "--output_dir x &lt;y&gt; &amp;&amp; z" "$P"
shows "other prompt" "$P"
lacks "second sample" "$P"
lacks "(baseline)" "$P"
shows "(cut)" "$P"
check "one marker a policy in the plane, in the table and at texts" \
    test "$(grep -c 'class="mark c1" d=' "$P")" -eq 4
shows "width=device-width" "$P"
shows "prefers-color-scheme:dark" "$P"
lacks "nan" "$P"
lacks "inf " "$P"
shows "+1.40 (+1.20 to +1.60)" "$T/terminal"
shows "75.0 % (70.0 to 80.0)" "$T/terminal"
shows "A sft  B dpo  C spin  . the best possible" "$T/terminal"
shows "dpo: gold score above sft's: held, by +1.40 (+1.20 to +1.60)" "$T/terminal"
shows "<b>&\"odd\": gold score above sft's: did not hold" "$T/terminal"
shows "spin: nearer to the data than sft: did not hold, held-out NLL 1.2600, was 1.2500" "$T/terminal"
shows "; not counted: total variation of bigrams 0.2500, was 0.3000" "$T/terminal"
shows "1 of 3 expectations held" "$T/terminal"

# Experiments: their words as text, their figures as pictures of their own.
mkdir "$T/frontier" "$T/unfinished"
printf 'a <b>dominates</b> c: REPRODUCED\n' >"$T/frontier/result.txt"
printf '<svg xmlns="http://www.w3.org/2000/svg"><path d="M0 0"/></svg>' >"$T/frontier/figure.svg"
check "a page of experiments" "$BIN/report" --experiments "$T/frontier" --output "$T/experiments.html"
check "it is well-formed" well_formed "$T/experiments.html"
shows "a &lt;b&gt;dominates&lt;/b&gt; c: REPRODUCED" "$T/experiments.html"
shows 'src="data:image/svg+xml,%3Csvg%20xmlns%3D%22http' "$T/experiments.html"
mistake 3 "unfinished: no result.txt; has its script come to its end?" --experiments "$T/unfinished"

# ---- benchmarks: what evaluate --benchmark writes, and two files of models side by side -------------

printf '%s\n' '{"prompt": "", "chosen": "The plot is good.", "rejected": "The is plot good.", "task": "order", "field": "<f>"}' \
    '{"prompt": "", "chosen": "qqq zzz", "rejected": "The plot is good.", "task": "nonsense", "field": "<f>"}' >"$T/pairs.jsonl"
printf '%s\n' '{"prompt": "I give it five", "completion": " stars."}' >"$T/word.jsonl"
printf '%s\n' '{"prompt": "I give it five", "answer": "stars"}' >"$T/answer.jsonl"
for name in a b; do
    check "results of $name" "$BIN/evaluate" --models "$name=data/sft,<$name>=data/sft" --stop . --num_return_sequences 2 \
        --pass_k 1,2 --benchmark "$T/pairs.jsonl,$T/word.jsonl,$T/answer.jsonl" --output "$T/$name.json"
done
check "benchmarks" "$BIN/report" --benchmarks "$T/a.json,$T/b.json" --output "$T/marks.html"
cp "$T/check" "$T/said"
check "the page is well-formed" well_formed "$T/marks.html"
check "four models on three benchmarks" test "$(grep -c '<th scope="row">\(pairs\|word\|answer\|\)</th>' "$T/marks.html")" -eq 12
check "each with a marker in table and figure" test "$(grep -c 'class="mark c3" d=' "$T/marks.html")" -eq 7
lacks "<f>" "$T/marks.html"
lacks "nan" "$T/marks.html"
shows "&lt;b&gt; less b: +0.00 points (+0.00 to +0.00), better on 0 items and worse on 0, p = 1" "$T/marks.html"
shows "50.0 % (2.5 to 97.5)" "$T/marks.html"
shows "2 tasks of pairs" "$T/marks.html"
shows "50.0 %, at it" "$T/marks.html"
check "one row a model in the terminal" test "$(grep -c '^  \(pairs\|word\|answer\)  *<*[ab]>*  *1*2*' "$T/said")" -eq 12
shows "pass@1 " "$T/said"

# The held-out NLL alone decides whether a policy came nearer to the data. nll VERDICT WORDS NLL..: a
# run with these rows of player/nll and player/bigram_tv.
nll() {
    verdict=$1 words=$2
    shift 2
    rm -rf "$T/players"
    mkdir -p "$T/players/spin"
    printf '{"step": %s, "player/nll": %s, "player/bigram_tv": %s}\n' "$@" \
        >"$T/players/spin/metrics.jsonl"
    "$BIN/report" --runs "$T/players" --evaluation "$T/eval.json" --expect spin=data >"$T/judged"
    shows "spin: nearer to the data than sft: $verdict$words" "$T/judged"
}
nll held ", held-out NLL 1.2400, was 1.2500; not counted: total" 0 1.25 0.30 9 1.24 0.35
nll held ", held-out NLL 1.2000, was 1.2500; not counted: total" 0 1.25 0.30 5 1.26 0.1 9 1.2 0.30
nll "did not hold" ", held-out NLL 1.2500, was 1.2500" 0 1.25 0.30 9 1.25 0.10
nll "not measured" "; not counted: total variation of bigrams 0.1000" 0 null 0.30 9 null 0.10
# without a log, as evaluate measured it
for now in 1.1 1.2 1.3; do
    sed 's|"spin", "baseline": false,|& "nll": '"$(mean $now 1 2)"',|' "$T/eval.json" >"$T/judged.json"
    "$BIN/report" --evaluation "$T/judged.json" --expect spin=data >"$T/judged"
    [ $now = 1.1 ] && verdict=held || verdict="did not hold"
    shows "spin: nearer to the data than sft: $verdict, held-out NLL ${now}000, was 1.2000" "$T/judged"
done

# The places in the plane of characters: sft and spin below, dpo above them, to the right.
check "the plane of characters" awk '
    match($0, /[|+].*[A-Z]/) && !/[a-z]/ {
        for (i = 10; i <= length($0); i++) {
            c = substr($0, i, 1)
            if (c ~ /[A-Z]/) { row[c] = NR; column[c] = i }
        }
    }
    END { exit !(row["B"] && row["B"] < row["A"] && column["B"] > column["C"] && column["C"] > column["A"]) }
' "$T/terminal"

# Each part alone.
check "runs alone" "$BIN/report" --runs "x=$T/runs/dpo" --output "$T/a.html"
check "runs alone: well-formed" well_formed "$T/a.html"
shows "<h3>x</h3>" "$T/a.html"
check "an evaluation alone" "$BIN/report" --evaluation "$T/eval.json" --output "$T/b.html"
check "an evaluation alone: well-formed" well_formed "$T/b.html"
check "texts alone" "$BIN/report" --samples_file "$T/samples.jsonl" --samples 1 --output "$T/c.html"
check "texts alone: well-formed" well_formed "$T/c.html"
lacks "other prompt" "$T/c.html"
check "no page" "$BIN/report" --evaluation "$T/eval.json"

# ---- mistakes ----------------------------------------------------------------------------------------

mistake 2 "--runs, --evaluation, --benchmarks, --samples_file or --experiments is needed" --title x
mistake 3 "$T/gone: no such directory" --runs "x=$T/gone"
mistake 3 "$T/runs/none: no metrics.jsonl there, expected a directory" --runs "x=$T/runs/none"
mistake 3 "$T/odd: no metrics.jsonl there or in its folders" --runs "$T/odd"
mistake 2 "two are called x" --runs "x=$T/runs/dpo,x=$T/runs/spin"
mistake 2 "expected DIR or NAME=DIR" --runs "x=$T/runs/dpo,"
mistake 3 "$T/gone.json: no such file" --evaluation "$T/gone.json"
printf '{"models": 3}' >"$T/bad.json"
mistake 3 "$T/bad.json: has no array \"models\", expected what evaluate" --evaluation "$T/bad.json"
printf '{"models": [{"nam": "x"}]}' >"$T/bad.json"
mistake 3 "a model without \"name\"" --evaluation "$T/bad.json"
printf '{"models": []}' >"$T/bad.json"
mistake 3 "\"models\" is empty" --evaluation "$T/bad.json"
printf '{"models": [' >"$T/bad.json"
mistake 3 "$T/bad.json:1:12: JSON error" --evaluation "$T/bad.json"
printf '{"step": 1}\n{"step": 2,}\n' >"$T/odd/metrics.jsonl"
mistake 3 "$T/odd/metrics.jsonl:2:" --runs "$T/odd"
: >"$T/odd/metrics.jsonl"
mistake 3 "$T/odd/metrics.jsonl: contains no records" --runs "$T/odd"
printf '{"name": "x", "prompt": "y"}\n' >"$T/bad.jsonl"
mistake 3 "record 1 has no string \"completion\"" --samples_file "$T/bad.jsonl"
printf '{"command": "x"}\n' >"$T/bad.jsonl"
mistake 3 "record 1 has no string \"name\"" --runs "$T/runs" --stages "$T/bad.jsonl"
printf 'a,b\n1,2\n' >"$T/bad.csv"
mistake 3 "bad.csv:1: expected CSV whose first line names kl" --runs "$T/runs" --frontier "$T/bad.csv"
printf 'kl,gold\n1,2\n2,two\n' >"$T/bad.csv"
mistake 3 "bad.csv:3: \"two\" is not a number" --runs "$T/runs" --frontier "$T/bad.csv"
printf 'kl,gold\n1,2\n2\n' >"$T/bad.csv"
mistake 3 "bad.csv:3: fewer columns" --runs "$T/runs" --frontier "$T/bad.csv"
printf 'kl,gold\n1,2\n' >"$T/bad.csv"
mistake 3 "bad.csv: expected two points or more" --runs "$T/runs" --frontier "$T/bad.csv"
mistake 3 "$T/a.json: is of evaluate --benchmark, give it to --benchmarks" --evaluation "$T/a.json"
mistake 3 "$T/eval.json: has no \"benchmarks\", expected what evaluate --benchmark" --benchmarks "$T/eval.json"
mistake 3 "$T/a.json: a on pairs is there twice" --benchmarks "$T/a.json,$T/a.json"
mistake 3 "$T/gone.json: no such file" --benchmarks "$T/a.json,$T/gone.json"
echo '{"benchmarks": [{"name": "x", "models": [{"name": "m"}]}]}' >"$T/bad.json"
mistake 3 "a model without \"name\" or \"acc\"" --benchmarks "$T/bad.json"
echo '{"benchmarks": [{"models": []}]}' >"$T/bad.json"
mistake 3 "a benchmark without \"name\" or \"models\"" --benchmarks "$T/bad.json"
mistake 2 "--expect dpo=best: expected NAME=score or NAME=data" --runs "$T/runs" --expect dpo=best
mistake 2 "--samples x: not a whole number" --runs "$T/runs" --samples x
mistake 4 "cannot write" --runs "$T/runs" --output "$T/gone/page.html"
"$BIN/report" --runs "$T/runs" --output "$P" >"$T/stdout" 2>"$T/stderr"
check "a page is not replaced" test $? -eq 2
shows "already there; see --overwrite_output" "$T/stderr"
check "unless told so" "$BIN/report" --runs "$T/runs" --output "$P" --overwrite_output

# ---- in a browser, where there is one ----------------------------------------------------------------

browser=
for name in chromium chromium-browser google-chrome; do
    [ "$browser" ] || browser=$(command -v $name)
done
if [ "$browser" ]; then
    timeout 60 "$browser" --headless --no-sandbox --disable-gpu --enable-logging=stderr --v=0 \
        --user-data-dir="$T/browser" --dump-dom "file://$P" >"$T/dom" 2>"$T/stderr"
    check "a browser opens the page" grep -q '</html>' "$T/dom"
    refuse "a browser's console has errors" grep -q 'CONSOLE' "$T/stderr"
else
    skip "no browser here"
fi

# ---- dev/demo.sh with programs that only pretend -----------------------------------------------------

mkdir -p "$T/demo/data" "$T/demo/build/plain"
cd "$T/demo" || exit 1
for name in reviews_train.jsonl reviews_eval.jsonl config_tiny.json; do echo "$name" >"data/$name"; done
cat >program <<'END'
#!/bin/sh
# Write down the call, make what it would make.
me=${0##*/} all=" $* "
echo "$me$all" >>calls
while [ $# -gt 0 ]; do
    case $1 in
    --output_dir) dir=$2 ;;
    --output | --samples_file | --curve) echo "$me" >"$2" || exit 4 ;;
    esac
    shift
done
if [ "${dir:-}" ]; then
    [ ! -e "$dir/old" ] || case $all in *" --resume_from_checkpoint latest "*) ;; *) exit 4 ;; esac
    mkdir -p "$dir/checkpoint-5/trainer" && echo >"$dir/checkpoint-5/trainer/manifest.json"
    if [ -e "fails-$me" ]; then
        echo "error: no luck today" >&2
        exit 3
    fi
    if [ -e "slow-$me" ]; then
        : >"$dir/old"
        trap 'exit 143' TERM
        while :; do sleep 0.1; done
    fi
    mkdir -p "$dir/final" && echo "$me" >"$dir/final/model.safetensors"
fi
echo "1s, peak memory 7 MB"
END
chmod +x program
for name in train_sft train_rm train_dpo train_kto train_orpo train_spin train_ppo evaluate report \
    build/plain/prefs build/plain/reward_frontier; do
    cp program "$name"
done

# demo WHAT CODE CALLS [ARGUMENT...]: a run ends with this code after calling these programs
demo() {
    what=$1 want=$2 calls=$3
    shift 3
    : >calls
    sh "$ROOT/dev/demo.sh" "$@" >"$T/log" 2>"$T/stderr"
    code=$?
    got=$(cut -d ' ' -f 1 calls | tr '\n' ' ')
    if [ $code -eq "$want" ] && [ "${got% }" = "$calls" ]; then pass; else
        fail "demo: $what: exit code $code, expected $want; called $got, expected $calls"
        tail -n 5 "$T/log" "$T/stderr"
    fi
}

methods="train_dpo train_dpo train_kto train_orpo train_spin train_ppo"
stages="train_sft prefs prefs train_rm $methods evaluate reward_frontier"
demo "from nothing" 0 "$stages report"
check "demo: a stage for each, and its cost" test \
    "$(grep -c '"seconds": [0-9]*, "peak_memory_mb": 7}$' out/demo/stages.jsonl)" -eq 12
check "demo: full commands are shown" grep -q '^  ./train_kto --model out/demo/sft/final ' "$T/log"
demo "again" 0 "report"
check "demo: it says so" test "$(grep -c 'done before$' "$T/log")" -eq 12
echo "# changed" >>train_dpo
demo "a program has changed" 0 "train_dpo train_dpo evaluate report"
echo "# changed" >>build/plain/prefs
demo "what all depend on has changed" 0 "prefs prefs train_rm $methods evaluate report"
echo changed >>data/reviews_train.jsonl
demo "data has changed" 0 "$stages report"
: >fails-train_orpo
demo "a stage fails" 3 "train_sft prefs prefs train_rm train_dpo train_dpo train_kto train_orpo" --seed 2
check "demo: it says which" grep -q \
    '^error: stage orpo failed with exit code 3: no luck today (see out/demo/orpo.log)' "$T/stderr"
check "demo: in one line" test "$(wc -l <"$T/stderr")" -eq 1
rm fails-train_orpo
demo "it goes on there" 0 "train_orpo train_spin train_ppo evaluate reward_frontier report" --seed 2
demo "the other seed again" 0 "$stages report" --seed 1 --output_dir out/demo

# Interrupted in the middle of a stage: the same stage goes on, a changed one starts anew.
if command -v setsid >/dev/null; then
    interrupt() {
        : >calls
        rm -f out/demo/kto/old # of the time before
        setsid sh "$ROOT/dev/demo.sh" --seed "$1" >"$T/log" 2>&1 &
        child=$! tries=0
        while [ ! -e out/demo/kto/old ] && [ $tries -lt 300 ]; do
            tries=$((tries + 1))
            sleep 0.1
        done
        kill -s TERM -- "-$child" || kill -9 $child
        wait $child
        code=$? child=
        check "demo: interrupted: exit code" test $code -eq 130
        shows "interrupted in stage kto" "$T/log"
    }
    : >slow-train_kto
    interrupt 3
    rm slow-train_kto
    rest="train_kto train_orpo train_spin train_ppo evaluate reward_frontier report"
    demo "interrupted: it goes on" 0 "$rest" --seed 3
    shows "train_kto --model" calls
    check "demo: from the checkpoint" grep -q '^train_kto.* --resume_from_checkpoint latest $' calls
    : >slow-train_kto
    interrupt 4
    rm slow-train_kto
    echo "# changed" >>train_kto
    demo "interrupted and changed: it starts anew" 0 "$rest" --seed 4
    refuse "demo: not from the checkpoint" grep -q 'resume_from_checkpoint' calls
else
    skip "no setsid here"
fi

demo "a seed that is none" 2 "" --seed 1x
check "demo: it says so" grep -q '^error: --seed 1x: expected a whole number' "$T/stderr"
demo "an unknown argument" 2 "" --sede 1
demo "an argument without its value" 2 "" --seed
demo "no name for a directory" 2 "" --output_dir 'a b'
rm data/reviews_train.jsonl
demo "the wrong place" 3 ""
cd "$ROOT" || exit 1

finish report
