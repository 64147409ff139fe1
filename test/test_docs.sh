#!/bin/sh
# README.md and docs/ name only what exists (dev/check_docs.sh), and the checker finds what does
# not. Run from the repository's root with BIN set to a build; only once, with the plain one.
. test/helpers.sh
[ "${BIN##*/}" = plain ] || { finish docs; exit; }

if sh dev/check_docs.sh >"$T/log" 2>&1; then pass; else fail "the pages"; cat "$T/log"; fi

# A page with one mistake a line, and what must be said of each.
cat >"$T/dpo.md" <<'END'
Take --no_such_flag. Write `no_such_name`, see [it](no_such.md), docs/no_such.md and `no_such.c`.
    ./train_dpo --model m --dataset d \
        --kl_coef 0.1
| flag | advice |
|---|---|
| `--nll` | of another program |

| name | definition |
|---|---|
| `nonsense` | no metric |
| `kl` | a metric of others: `objective/kl` |

## Where it stands

- [losses.h](../losses.h): `dpo_point`, `no_such_function`.
- [train_dpo.c](../train_dpo.c): "no such comment", `gae`.
END
sh dev/check_docs.sh "$T/dpo.md" >"$T/log" 2>&1 && fail "mistakes were not found"
while read -r line words; do
    if grep -F ":$line: " "$T/log" | grep -qF -e "$words"; then pass; else
        fail "not found: line $line, $words"
    fi
done <<'END'
1 --no_such_flag: no program
1 no_such_name
1 ./no_such.md: no such file
1 docs/no_such.md: no such file
1 no_such.c: no such file
3 --kl_coef: train_dpo.c has no such flag
6 --nll: train_dpo.c has no such flag
10 nonsense: no metric
11 kl: no metric
11 objective/kl: no metric
15 no_such_function: not in
16 no such comment
16 gae: not in
END
found=$(grep -c "$T/dpo.md" "$T/log")
# The 13 above; a function in two ways; two links that lead nowhere from here.
if [ "$found" -eq 16 ]; then pass; else fail "$found mistakes instead of 16"; cat "$T/log"; fi

# The same names where they are right are no mistakes.
cat >"$T/dpo.md" <<'END'
Take --beta. `rewards/chosen` is in the log, `dpo_point` in losses.h.
    ./train_dpo --model m --dataset d --beta 0.1
    ./train_ppo --kl_coef 0.1 && ./report --runs ppo=out/ppo
END
if sh dev/check_docs.sh "$T/dpo.md" >"$T/log" 2>&1; then pass; else fail "a right page"; cat "$T/log"; fi

# A metric that its page does not explain.
mkdir "$T/tree" && ln -s "$PWD"/* "$T/tree" && rm "$T/tree/docs" && cp -r docs "$T/tree"
sed 's/`loss`/the loss/' docs/README.md >"$T/tree/docs/README.md"
sed 's/`rewards.margins`/margins/' docs/dpo.md >"$T/tree/docs/dpo.md"
(cd "$T/tree" && sh "$OLDPWD/dev/check_docs.sh") >"$T/log" 2>&1 && fail "a metric is missing"
said=$(cat "$T/log")
case $said in
*"dpo.md:1: rewards/margins: train_dpo.c logs it"*) pass ;;
*) fail "a metric is missing: $said" ;;
esac

finish docs
