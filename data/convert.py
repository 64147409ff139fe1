"""Make the files of one set of real data from its source files.

    python3 data/convert.py SET SOURCES OUTPUT

reads SOURCES/SET/ and writes OUTPUT/SET/ (a set that is a single file: OUTPUT/SET.jsonl or .txt).
data/fetch.sh calls this and then checks sizes and hashes by data/fetch.sha256. Only the standard
library is used, and no Python is needed to build or run align.c.

Which rows are for evaluation is decided by a hash (`is_eval`); where rows are shuffled or drawn, by
Python's own generator with a fixed seed, whose methods used here give the same in every Python since
3.2. Anything odd below (an order of shuffles, a key cut at 40 characters) is what the experiments'
files were made with, and stays for their sake.
"""
import gzip
import hashlib
import json
import os
import random
import re
import sys
import tarfile
import urllib.parse
import xml.etree.ElementTree as ElementTree
from pathlib import Path

# ---- shared ----------------------------------------------------------------------------------------


def is_eval(key):
    """One row in ten is for evaluation: those whose key's MD5, as an integer, ends in 0."""
    return int(hashlib.md5(key.encode()).hexdigest(), 16) % 10 == 0


def read(path):
    data = path.read_bytes()
    if path.suffix == ".gz":
        data = gzip.decompress(data)
    return data.decode("utf-8")


def read_jsonl(path):
    return [json.loads(line) for line in read(path).split("\n") if line]


def write(path, text):
    """Write a whole file, under a temporary name first."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(path.name + ".part")
    part.write_bytes(text.encode("utf-8"))
    os.replace(part, path)


def write_jsonl(path, rows):
    write(path, "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows))


def write_split(out, name, rows, key="prompt"):
    """NAME_train.jsonl and NAME_eval.jsonl (or train.jsonl, eval.jsonl) by `is_eval` of a column."""
    write_jsonl(out / f"{name}_eval.jsonl", [row for row in rows if is_eval(row[key])])
    write_jsonl(out / f"{name}_train.jsonl", [row for row in rows if not is_eval(row[key])])


def pair(prompt, chosen, rejected, **more):
    return {"prompt": prompt, "chosen": chosen, "rejected": rejected, **more}


# ---- sets ------------------------------------------------------------------------------------------


# In the copy of IMDb that the experiments' files were made from, the text of this review had been
# replaced by one about an app. It is replaced here too, so that the files are the same.
IMDB_REPLACED = {"test/pos/0_10.txt": "Such a wonderful app that every1 should have in their smartphones."}


def imdb(source, out):
    reviews = {}  # (split, sentiment): [(file name, text)]
    with tarfile.open(source / "aclImdb_v1.tar.gz") as archive:
        for member in archive:
            parts = member.name.split("/")
            if not member.isfile() or len(parts) != 4 or not parts[3].endswith(".txt"):
                continue
            text = archive.extractfile(member).read().decode("utf-8")
            text = IMDB_REPLACED.get("/".join(parts[1:]), text)
            text = re.sub(r"\s*<br\s*/?>\s*", "\n", text).strip()
            text = re.sub(r"\n{3,}", "\n\n", text)
            reviews.setdefault((parts[1], parts[2]), []).append((parts[3], text))
    for group in reviews.values():
        group.sort()

    def words(text, n):
        return " ".join(text.split()[:n])

    for split in "train", "test":
        rows = [
            {"text": text, "label": sentiment == "pos", "rating": int(name[:-4].split("_")[1])}
            for sentiment in ("neg", "pos")
            for name, text in reviews[split, sentiment]
        ]
        write_jsonl(out / f"{split}.jsonl", rows)

        texts = [row["text"] for row in rows]
        random.Random(2).shuffle(texts)
        prompts = [
            {"prompt": words(text, random.Random(words(text, None)[:40]).randint(2, 8))}
            for text in texts
            if len(text.split()) >= 20
        ]
        write_jsonl(out / f"prompts_{split}.jsonl", prompts if split == "train" else prompts[:5000])
    write_jsonl(out / "unsup.jsonl", [{"text": text} for _, text in reviews["train", "unsup"]])

    rng = random.Random(5)
    for split, most in ("train", 12500), ("test", 2000):
        positive = [text for _, text in reviews[split, "pos"]]
        negative = [text for _, text in reviews[split, "neg"]]
        rng.shuffle(positive)
        rng.shuffle(negative)
        pairs = [pair("", words(p, 60), words(n, 60)) for p, n in zip(positive, negative)]
        write_jsonl(out / f"sentiment_pairs60_{split}.jsonl", pairs[:most])


def convarg(source, out):
    strict = set()  # ids of the pairs that the authors kept as clear ones
    for path in sorted((source / "strict").glob("*.csv")):
        strict.update(line.split("\t")[0] for line in read(path).split("\n")[1:] if line)

    def clean(text):
        return re.sub(r"\s*\n\s*", "\n", re.sub(r"[ \t]+", " ", text)).strip()

    def row(annotated, topic, chosen, votes):
        rejected = "arg2" if chosen == "arg1" else "arg1"
        text = {side: clean(annotated.find(side).findtext("text")) for side in (chosen, rejected)}
        title = annotated.find("debateMetaData").findtext("title")
        stance = annotated.find("arg1").findtext("stance")
        return pair(
            f"{title}\nMy view: {stance}.\nArgument:",
            " " + text[chosen],
            " " + text[rejected],
            votes_chosen=votes.count(chosen),
            votes_rejected=votes.count(rejected),
            votes_equal=votes.count("equal"),
            topic=topic,
        )

    held_out = ("evolution-vs-creation", "is-the-school-uniform", "tv-is-better-than-books")
    side = {"a1": "arg1", "a2": "arg2"}
    rows = {"prefs_train": [], "prefs_eval": [], "prefs_train_onevote": [], "prefs_eval_onevote": []}
    rng = random.Random(11)
    for path in sorted((source / "full").glob("*.xml")):
        split = "eval" if path.stem.startswith(held_out) else "train"
        for annotated in ElementTree.fromstring(read(path)):
            votes = [a.findtext("value") for a in annotated.find("mTurkAssignments")]
            votes = [side.get(vote, vote) for vote in votes]
            decided = [vote for vote in votes if vote != "equal"]
            if not decided or row(annotated, "", "arg1", votes)["chosen"] == row(annotated, "", "arg2", votes)["chosen"]:
                continue
            gold = side.get(annotated.findtext("goldLabel"))
            if gold and annotated.findtext("id") in strict:
                rows[f"prefs_{split}"].append(row(annotated, path.stem, gold, votes))
            chosen = rng.choice(decided)
            one = row(annotated, path.stem, chosen, votes)
            one["gold"] = chosen == gold if gold else None
            rows[f"prefs_{split}_onevote"].append(one)
    for name in "prefs_train", "prefs_eval", "prefs_train_onevote", "prefs_eval_onevote":
        rng.shuffle(rows[name])
        write_jsonl(out / f"{name}.jsonl", rows[name])


def paradetox(source, out):
    def clean(text):
        return text.strip().strip('"')

    pairs = []
    for line in read(source / "paradetox.tsv").split("\n")[1:]:
        toxic, *rewrites = [clean(cell) for cell in line.split("\t")]
        pairs += [(toxic, rewrite) for rewrite in rewrites if rewrite and rewrite != toxic]
    prefs = [{"chosen": rewrite, "rejected": toxic, "prompt": ""} for toxic, rewrite in pairs]
    write_split(out, "prefs", prefs, key="rejected")
    rewrite_sft = [
        {"prompt": f"Rude: {toxic}\nPolite:", "completion": " " + rewrite} for toxic, rewrite in pairs
    ]
    write_split(out, "rewrite_sft", rewrite_sft)


def truthfulqa(source, out):
    answers = {}  # prompt: (true answers, false answers)
    labelled = []
    for row in read_jsonl(source / "finetune_truth.jsonl"):
        question, _, rest = row["prompt"].rpartition("\nA:")
        prompt = question.strip() + "\nA:"
        answer = rest.rpartition("\nTrue:")[0].strip()
        true = row["completion"] == " yes"
        answers.setdefault(prompt, ([], []))[0 if true else 1].append(answer)
        if answer:
            labelled.append({"prompt": prompt, "completion": " " + answer, "label": true})
    write_split(out, "kto", labelled)
    pairs = []
    for prompt, (true, false) in answers.items():
        if true and false:  # each answer of the longer list once, 20 at most
            for i in range(min(20, max(len(true), len(false)))):
                chosen, rejected = true[i % len(true)], false[i % len(false)]
                if chosen and rejected and chosen != rejected:
                    pairs.append(pair(prompt, " " + chosen, " " + rejected))
    write_split(out, "prefs", pairs)


def hh(source, out):
    """The prompt is all up to the last "Assistant:" that both talks have."""
    sets = {
        "helpful": ("helpful-base", "helpful-online", "helpful-rejection-sampled"),
        "harmless": ("harmless-base",),
    }
    for name, members in sets.items():
        pairs = []
        for member in members:
            for row in read_jsonl(source / f"{member}.jsonl.gz"):
                common = os.path.commonprefix([row["chosen"], row["rejected"]])
                start = common.rfind("\n\nAssistant:") + len("\n\nAssistant:")
                chosen, rejected = row["chosen"][start:], row["rejected"][start:]
                if chosen.strip() and rejected.strip() and chosen.strip() != rejected.strip():
                    pairs.append(pair(common[:start], chosen, rejected, set=member))
        write_split(out, name, pairs)


def oasst_en100(source, out):
    messages, pairs = [], []

    def visit(message, path):
        path = path + [message]
        if message["role"] == "prompter":
            replies = [reply for reply in message["replies"] if reply["role"] == "assistant"]
            for reply in replies:
                talk = [
                    {"role": "assistant" if m["role"] == "assistant" else "user", "content": m["text"]}
                    for m in path + [reply]
                ]
                messages.append({"messages": talk})
            prompt = ""
            for m in path:
                prompt += "\n\n" + ("Human" if m["role"] == "prompter" else "Assistant") + ": " + m["text"].strip()
            ranked = [reply for reply in replies if reply.get("rank") is not None]
            ranked.sort(key=lambda reply: reply["rank"])
            for i, better in enumerate(ranked):
                for worse in ranked[i + 1 :]:
                    pairs.append(
                        pair(
                            prompt + "\n\nAssistant:",
                            " " + better["text"].strip(),
                            " " + worse["text"].strip(),
                            ranks=[better["rank"], worse["rank"]],
                            synthetic=bool(better.get("synthetic") or worse.get("synthetic")),
                        )
                    )
        for reply in message["replies"]:
            visit(reply, path)

    for tree in read_jsonl(source / "en_100_tree.jsonl"):
        visit(tree["prompt"], [])
    write_jsonl(out / "messages.jsonl", messages)
    write_split(out, "prefs", pairs)


def blimp(source, out):
    rows = [
        pair("", row["sentence_good"], row["sentence_bad"], task=row["UID"], field=row["linguistics_term"])
        for path in sorted(source.glob("*.jsonl"))
        for row in read_jsonl(path)
        if row["sentence_good"] != row["sentence_bad"]
    ]
    write_jsonl(out / "blimp.jsonl", rows)


def mcq(source, out):
    for path in sorted(source.glob("*.jsonl")):
        rows = []
        for row in read_jsonl(path):
            if "context_options" in row:  # two contexts and one continuation
                rows.append(
                    {
                        "options_prompts": row["context_options"],
                        "completion": " " + row["continuation"],
                        "answer": row["gold"],
                    }
                )
            else:
                options = [" " + choice for choice in row["choices"]]
                rows.append({"prompt": row["query"].strip(), "options": options, "answer": row["gold"]})
        write_jsonl(out / path.name, rows)


def lambada(source, out):
    rows = []
    for row in read_jsonl(source / "lambada_test.jsonl"):
        start, _, word = row["text"].rpartition(" ")
        rows.append({"prompt": start, "completion": " " + word})
    write_jsonl(out / "lambada_openai_test.jsonl", rows)


def bbh(source, out):
    rows = []
    for path in sorted((source / "tasks").glob("*.json")):
        for row in json.loads(read(path))["examples"]:
            rows.append(
                {
                    "prompt": f"Q: {row['input']}\nA:",
                    "completion": " " + row["target"],
                    "answer": row["target"],
                    "task": path.stem,
                }
            )
    write_split(out, "bbh", rows)


def gsm8k(source, out):
    def prompt(row):
        return f"Question: {row['question']}\nAnswer:"

    for split in "train", "test":
        rows = [
            {
                "prompt": prompt(row),
                "completion": " " + row["answer"],
                "answer": row["answer"].rpartition("#### ")[2].replace(",", ""),
            }
            for row in read_jsonl(source / f"{split}.jsonl")
        ]
        write_jsonl(out / f"{split}.jsonl", rows)
    labelled, pairs = [], []
    for row in read_jsonl(source / "example_model_solutions.jsonl"):
        models = [name for name, value in row.items() if isinstance(value, dict)]
        for name in models:
            labelled.append(
                {
                    "prompt": prompt(row),
                    "completion": " " + row[name]["solution"],
                    "label": row[name]["is_correct"],
                    "model": name,
                }
            )
        right = [" " + row[name]["solution"] for name in models if row[name]["is_correct"]]
        wrong = [" " + row[name]["solution"] for name in models if not row[name]["is_correct"]]
        pairs += [pair(prompt(row), r, w) for r in right for w in wrong]
    write_jsonl(out / "model_solutions_kto.jsonl", labelled)
    write_jsonl(out / "model_solutions_prefs.jsonl", pairs)


def arithmetic(source, out):
    rows = []
    for path in sorted(source.glob("*.jsonl*")):
        for row in read_jsonl(path):
            rows.append(
                {
                    "prompt": row["context"].strip(),
                    "completion": row["completion"],
                    "answer": row["completion"].strip(),
                    "task": path.name.split(".")[0],
                }
            )
    write_split(out, "gpt3_tasks", rows)


SETS = {f.__name__: f for f in (imdb, convarg, paradetox, truthfulqa, hh, oasst_en100, blimp, mcq, lambada, bbh, gsm8k, arithmetic)}

if __name__ == "__main__":
    if len(sys.argv) != 4 or sys.argv[1] not in SETS:
        sys.exit(f"usage: python3 data/convert.py SET SOURCES OUTPUT; SET is one of {', '.join(SETS)}")
    name, sources, output = sys.argv[1:]
    SETS[name](Path(sources) / name, Path(output) / name)
