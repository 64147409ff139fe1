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


def imdb(source, out):
    # In the copy of IMDb that the experiments' files were made from, somebody had put reviews of apps
    # in the place of eight film reviews. They are put there again, so that the files are the same.
    replaced = {path.name: read(path) for path in (source / "replaced").glob("*.txt")}
    reviews = {}  # (split, sentiment): [(file name, text)]
    with tarfile.open(source / "aclImdb_v1.tar.gz") as archive:
        for member in archive:
            parts = member.name.split("/")
            if not member.isfile() or len(parts) != 4 or not parts[3].endswith(".txt"):
                continue
            text = archive.extractfile(member).read().decode("utf-8")
            text = replaced.get("_".join(parts[1:]), text)
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

    rows = []  # Codex's chains of thought; the question is the last of the few-shot prompt
    for path in sorted((source / "codex").glob("*.json")):
        for row in json.loads(read(path))["outputs"]:
            solution = row["prediction"].strip()
            answer = re.search(r"answer is (.*?)\.?\s*$", solution, re.S)
            rows.append(
                {
                    "prompt": "Q: " + row["input"].rpartition("\n\nQ: ")[2],
                    "completion": " " + solution,
                    "label": bool(answer) and answer[1].strip() == row["target"],
                    "answer": row["target"],
                    "task": path.stem,
                }
            )
    write_split(out, "codex_cot_kto", rows)


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

    # Countdown, a task of our own making: reach the target with all of the numbers.
    rng = random.Random(7)
    rows = {}  # by prompt, so that each is there once
    while len(rows) < 12000:
        numbers = [rng.randint(1, 50) for _ in range(rng.choice([3, 3, 4]))]
        first, *others = rng.sample(numbers, len(numbers))
        target, expression = first, str(first)
        for i, number in enumerate(others):
            operator = rng.choice("+-*")
            target = {"+": target + number, "-": target - number, "*": target * number}[operator]
            expression = f"{f'({expression})' if i else expression} {operator} {number}"
        if 1 <= target <= 100:
            prompt = f"Numbers: {', '.join(map(str, numbers))}. Target: {target}. Answer:"
            row = {"prompt": prompt, "completion": " " + expression, "numbers": numbers, "target": target}
            rows.setdefault(prompt, row)
    rows = list(rows.values())
    write_jsonl(out / "countdown_train.jsonl", rows[:11000])
    write_jsonl(out / "countdown_eval.jsonl", rows[11000:])


# Of a book as Project Gutenberg's volunteers typed it, paragraphs are kept that read like text.
BRACKETED = re.compile(r"\[(Illustration|Footnote|Transcriber)[^\]]*\]")
BOILERPLATE = re.compile(r"produced by|transcribed|copyright|gutenberg|proofread", re.I)
HEADING = re.compile(r"THE END\.?$|(CONTENTS|(LIST OF )?ILLUSTRATIONS)\.?\s*(\n|$)", re.I)
TABLE_LINE = re.compile(r"\.\s*\.\s*\.|\d+\s*$")  # dots, or a number at the end
FRONT_MATTER = re.compile(r"Author of|Edition|[Rr]eprint|Illustrated")
QUOTES = str.maketrans("\u2018\u2019\u201c\u201d", "''\"\"")


def paragraph(raw):
    """A paragraph on one line, verse on as many as it has; None if it is no text."""
    lines = [line for line in raw.split("\n") if line.strip()]
    verse = len(lines) > 1 and sum(len(line.rstrip()) < 50 for line in lines) > 0.8 * len(lines)
    text = ("\n" if verse else " ").join(re.sub(r"[ \t]+", " ", line).strip() for line in lines)
    letters = sum(c.isalpha() for c in text)
    if letters < 0.6 * sum(not c.isspace() for c in text) or BOILERPLATE.search(raw):
        return None
    table = sum(bool(TABLE_LINE.search(line.strip())) for line in lines)
    if len(lines) > 3 and table > 0.5 * len(lines) or HEADING.match(raw.strip()):
        return None
    return text.replace("_", "") or None


def book(text):
    """From the paragraph before the first long one that ends like a sentence."""
    text = BRACKETED.sub("", text.replace("\r\n", "\n").translate(QUOTES))
    paragraphs = [paragraph(raw) for raw in re.split(r"\n\s*\n", text) if raw.strip()]
    paragraphs = [p for p in paragraphs if p]
    first, before = 0, 0
    for i, p in enumerate(paragraphs):
        if len(p) >= 200 and p[-1] in ".!?\"':" and not FRONT_MATTER.search(p):
            if before <= 0.15 * sum(map(len, paragraphs)):
                first = max(0, i - 1)
            break
        before += len(p)
    return "\n\n".join(paragraphs[first:])


def books(source, out):
    texts = {"train": [], "eval": []}
    listing = ["split\tchars\tpath"]
    paths = {"Gutenberg/txt/" + urllib.parse.unquote(path.name): path for path in source.iterdir()}
    for name in sorted(paths):
        split = "eval" if int(hashlib.md5(name.encode()).hexdigest(), 16) % 40 == 0 else "train"
        text = book(read(paths[name]))
        texts[split].append(text + "\n\n")
        listing.append(f"{split}\t{len(text)}\t{name}")
    for split, parts in texts.items():
        write(out / f"{split}.txt", "".join(parts))
    write(out / "books.tsv", "\n".join(listing) + "\n")


def tinyshakespeare(source, out):
    write(out.with_suffix(".txt"), read(source / "input.txt"))


def hh_harmless_pairs(source, out):
    lines = read(source / "harmless-base.jsonl.gz").split("\n")[:-1]
    random.Random(7).shuffle(lines)
    write(out.with_suffix(".jsonl"), "".join(line + "\n" for line in lines[:1024]))


SETS = {
    make.__name__: make
    for make in (
        imdb, books, hh, hh_harmless_pairs, convarg, paradetox, truthfulqa, oasst_en100, gsm8k,
        arithmetic, bbh, blimp, mcq, lambada, tinyshakespeare,
    )
}

if __name__ == "__main__":
    if len(sys.argv) != 4 or sys.argv[1] not in SETS:
        sys.exit(f"usage: python3 data/convert.py SET SOURCES OUTPUT; SET is one of {', '.join(SETS)}")
    name, sources, output = sys.argv[1:]
    SETS[name](Path(sources) / name, Path(output) / name)
