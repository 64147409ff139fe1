"""Compare lib/base/tokenizer.h with AutoTokenizer on random tokenizers and random texts.

    cc -O2 -fopenmp dev/token_ids.c -o token_ids -lcjson -lm
    python dev/compare_tokenizer.py token_ids [--count 300] [--seed 1] [--texts 200]

Each round makes a directory with random settings (normalizers, pre-tokenizers, added tokens with all flags, templates,
roles in any of the files, ignore_merges, unknown bytes), loads it with AutoTokenizer and with token_ids, and compares
the ids of random texts, the ids of BOS, EOS, padding and unknown, the vocabulary's size and what the template adds.
Then the directory that token_ids saves must have the same files, byte for byte; with a padding token added it must
load in AutoTokenizer with the same ids, settings and that token. Exits with 1 if anything differs.
"""
import argparse
import json
import os
import random
import shutil
import subprocess
import sys
import tempfile

os.environ["TRANSFORMERS_VERBOSITY"] = "error"
import tokenizers
import transformers
from golden_tokenizer import POOL, TEXTS, TRAINING
from tokenizers import decoders, models, normalizers, pre_tokenizers, processors, trainers

ODD = ["İ", "ΑΣ", "Σ", "ﬁ", "½", "豈", "각", "각", "Å", "ộ", "e\u0323\u0302", "ſ", "ẛ̣", "K", "Ⅷ", "㌀", "ﷺ", "\u0344", "𝔘",
       "\u1e9b\u0323", "ǅ", "ﾊﾟ", "\u0f77", "\u3000", "A\u0300\u0323", "Foo", "foo", "FOO", "<a>", " <a>", "<A>", "x1y", "٣४", "\U00016ff4"]
SPECIALS = ["<s>", "</s>", "[PAD]", "<unk>", "<|im_start|>", "<|im_end|>"]
PLAIN = ["Foo", "foo", "ﬁn", "<a>", "<a>b", "  ", "don", "É", "x1", "_", "Straße", "\n\n"]


def trained(alphabet, rng):
    """A small BPE; without the alphabet it lacks most bytes."""
    tokenizer = tokenizers.Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    special = rng.sample(SPECIALS, rng.randint(0, 3)) + ["<|endoftext|>"] * rng.randint(0, 1)
    trainer = trainers.BpeTrainer(vocab_size=rng.choice([300, 500, 700]), show_progress=False, special_tokens=special,
                                  initial_alphabet=pre_tokenizers.ByteLevel.alphabet() if alphabet else [])
    tokenizer.train_from_iterator([TRAINING], trainer)
    return json.loads(tokenizer.to_str())


def random_normalizer(rng):
    one = [{"type": "Lowercase"}, {"type": "NFC"}, {"type": "NFD"}, {"type": "NFKC"}, {"type": "NFKD"},
           {"type": "Strip", "strip_left": rng.random() < .5, "strip_right": rng.random() < .5},
           {"type": "Replace", "pattern": {"String": rng.choice(["a", "  ", "é", "<a>"])}, "content": rng.choice(["", "b", "ß "])},
           {"type": "Prepend", "prepend": rng.choice([" ", "x", "▁"])}]
    kind = rng.random()
    if kind < .3:
        return None
    if kind < .7:
        return rng.choice(one[:5])
    return {"type": "Sequence", "normalizers": [rng.choice(one) for _ in range(rng.randint(0, 3))]}


def random_pre_tokenizer(rng):
    byte = {"type": "ByteLevel", "add_prefix_space": rng.random() < .5, "trim_offsets": True, "use_regex": rng.random() < .7}
    if rng.random() < .1:
        del byte["use_regex"]
    digits = {"type": "Digits", "individual_digits": rng.random() < .5}
    split = {"type": "Split", "pattern": {"Regex": r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"},
             "behavior": "Isolated", "invert": False}
    before = rng.choice([[], [], [digits], [split], [digits, split]])
    if not before and rng.random() < .8:
        return byte
    return {"type": "Sequence", "pretokenizers": before + [byte]}


def token(rng, name, special):
    def flag(chance):
        return rng.random() < chance
    return {"content": name, "single_word": flag(.2), "lstrip": flag(.25), "rstrip": flag(.25), "normalized": flag(.5),
            "special": special}


def next_id(vocab, added):
    return max([len(vocab) - 1, *added]) + 1


def add(rng, vocab, added, names, special):
    """Give random tokens their ids, as the library would."""
    for name in names:
        if name not in [t["content"] for t in added.values()]:
            added[vocab[name] if name in vocab else next_id(vocab, added)] = token(rng, name, special)


def random_template(rng, added):
    kind = rng.random()
    byte = {"type": "ByteLevel", "add_prefix_space": True, "trim_offsets": False, "use_regex": True}
    if kind < .4 or not added:
        return rng.choice([None, byte])
    ids = {t["content"]: i for i, t in added.items()}

    def some():
        return [{"SpecialToken": {"id": rng.choice(list(ids)), "type_id": 0}} for _ in range(rng.choice([0, 1, 1, 2]))]
    single = some() + [{"Sequence": {"id": "A", "type_id": 0}}] + some()
    template = {"type": "TemplateProcessing", "single": single,
                "pair": [{"Sequence": {"id": "A", "type_id": 0}}, {"Sequence": {"id": "B", "type_id": 1}}],
                "special_tokens": {n: {"id": n, "ids": [i], "tokens": [n]} for n, i in ids.items()}}
    name = rng.choice(list(ids))
    roberta = {"type": "RobertaProcessing", "sep": [name, ids[name]], "cls": [name, ids[name]], "trim_offsets": True,
               "add_prefix_space": False}
    one = template if kind < .9 else roberta
    return one if rng.random() < .6 else {"type": "Sequence", "processors": [byte, one]}


def make(directory, rng):
    """Write a random tokenizer. Returns nothing: the files say it."""
    unknown = rng.random() < .1
    whole = trained(not unknown, rng)
    vocab = whole["model"]["vocab"]
    added = {t.pop("id"): t for t in whole["added_tokens"]}
    add(rng, vocab, added, rng.sample(PLAIN, rng.randint(0, 4)), False)
    add(rng, vocab, added, rng.sample(SPECIALS, rng.randint(0, 3)), True)
    known = [t["content"] for t in added.values()]
    config, extra = {"model_max_length": 1000000000000000019884624838656, "padding_side": "left"}, {}
    rebuilt = not unknown and rng.random() < .4
    config["tokenizer_class"] = rng.choice(["GPT2Tokenizer", "GPT2TokenizerFast"] if rebuilt else
                                           ["PreTrainedTokenizerFast", "TokenizersBackend"])
    if rebuilt and rng.random() < .3:
        del config["tokenizer_class"]
    roles = {}
    for role in ("eos_token", "bos_token", "pad_token", "unk_token", "sep_token"):
        if rng.random() < (.9 if role == "eos_token" else .5):
            roles[role] = rng.choice(known + SPECIALS[:2] + ["the", "new"] if known else SPECIALS)
            if rng.random() < .2:
                roles[role] = {**token(rng, roles[role], rng.random() < .5), "__type": "AddedToken"}
    if rng.random() < .2:
        config["add_prefix_space"] = rng.random() < .5
    if rng.random() < .2:
        config["add_bos_token"] = True
    if rng.random() < .2:
        config["add_eos_token"] = True
    if rng.random() < .05:
        config["split_special_tokens"] = True
    if rng.random() < .2:
        config[rng.choice(["additional_special_tokens", "extra_special_tokens"])] = rng.sample(SPECIALS + ["<x>"], 2)
    if rng.random() < .1:
        config["extra_special_tokens"] = {"image": "<im>", "video_token": "<vi>"}
    if rng.random() < .1:
        config["own_token"] = "<own>"
    whole["normalizer"], whole["pre_tokenizer"] = random_normalizer(rng), random_pre_tokenizer(rng)
    whole["post_processor"] = random_template(rng, added)
    whole["decoder"] = {"type": "ByteLevel", "add_prefix_space": True, "trim_offsets": True, "use_regex": True}
    whole["model"]["ignore_merges"] = rng.random() < .2
    whole["model"]["fuse_unk"] = rng.random() < .5
    if unknown:
        whole["model"]["unk_token"] = rng.choice(list(vocab)[:5])
    if rng.random() < .1 and known:
        name = rng.choice(known)
        whole["padding"] = {"strategy": "BatchLongest", "direction": "Left", "pad_to_multiple_of": None, "pad_id": 0,
                            "pad_type_id": 0, "pad_token": name}
    has_json = not rebuilt or rng.random() < .5
    if has_json:
        whole["added_tokens"] = [{"id": i, **t} for i, t in sorted(added.items())]
    way = rng.random()
    if way < .4:
        config["added_tokens_decoder"] = {str(i): t for i, t in sorted(added.items())}
    elif not has_json:
        new = {t["content"]: i for i, t in added.items() if i >= len(vocab)}
        if new or rng.random() < .3:
            extra["added_tokens.json"] = new
    if rng.random() < .4:
        extra["special_tokens_map.json"] = {k: {x: y for x, y in v.items() if x not in ("__type", "special")}
                                            if isinstance(v, dict) else v for k, v in roles.items()}
        if rng.random() < .5:
            extra["special_tokens_map.json"]["additional_special_tokens"] = rng.sample(SPECIALS, 2)
        roles = dict(rng.sample(sorted(roles.items(), key=str), rng.randint(0, len(roles))))
    config.update(roles)
    files = {"tokenizer_config.json": json.dumps(config, indent=rng.choice([None, 2]), ensure_ascii=False),
             "config.json": json.dumps({"model_type": "gpt2"}), **{k: json.dumps(v) for k, v in extra.items()}}
    if has_json:
        files["tokenizer.json"] = json.dumps(whole, ensure_ascii=False, indent=rng.choice([None, 2]))
    if not has_json or rng.random() < .2:
        files["vocab.json"] = json.dumps(vocab, ensure_ascii=False)
        end = rng.choice(["\n", "\r\n"])
        files["merges.txt"] = f"#version: 0.2{end}" + "".join(
            f"{m if isinstance(m, str) else ' '.join(m)}{end}" for m in whole["model"]["merges"])
    if rng.random() < .3:
        files["chat_template.jinja"] = "{{ bos_token }}{% for m in messages %}{{ m['content'] }}\r\n{% endfor %}"
    if rng.random() < .1:
        files["additional_chat_templates/rag.jinja"] = "{{ messages }}"
    for name, text in files.items():
        path = os.path.join(directory, name)
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with open(path, "w", encoding="utf-8", newline="") as file:
            file.write(text)


def random_text(rng, own):
    pool = POOL + ODD * 3 + own * 4
    parts = []
    for _ in range(rng.randint(0, 12)):
        kind = rng.random()
        if kind < .9:
            parts.append(rng.choice(pool))
        else:
            code = rng.randrange(1, 0x110000)
            parts.append("x" if 0xD800 <= code < 0xE000 else chr(code))
    return "".join(parts).replace("\x00", "")


def run(program, arguments, texts):
    process = subprocess.run([program, *arguments], input="".join(json.dumps(t, ensure_ascii=False) + "\n" for t in texts),
                             capture_output=True, text=True, encoding="utf-8")
    if process.returncode:
        return None, process.stderr.strip().splitlines()[-1]
    lines = process.stdout.split("\n")
    return [[int(i) for i in line.split()] for line in lines[:-1]], process.stderr


def settings(tokenizer):
    """What must be the same after saving."""
    def state(part):
        return None if part is None else part.__getstate__()
    backend = tokenizer.backend_tokenizer
    return {"class": type(tokenizer).__name__, "size": len(tokenizer), "map": tokenizer.special_tokens_map,
            "extra": tokenizer.extra_special_tokens, "max": tokenizer.model_max_length, "pad": tokenizer.padding_side,
            "cut": tokenizer.truncation_side, "template": tokenizer.chat_template,
            "normalizer": state(backend.normalizer), "pre": state(backend.pre_tokenizer), "post": state(backend.post_processor),
            "decoder": state(backend.decoder),
            "added": {i: repr(t) for i, t in tokenizer.added_tokens_decoder.items()}}


def compare(program, directory, rng, count):
    """None if all is equal, or what differs; ("refused", why) or ("skipped", why)."""
    try:
        theirs = transformers.AutoTokenizer.from_pretrained(directory)
        theirs("a")
    except Exception as error:
        return "skipped", str(error)[:80]
    own = [t.content for t in theirs.added_tokens_decoder.values()]
    texts = TEXTS + ODD + own + [random_text(rng, own) for _ in range(count)]
    texts = [t for t in texts if "\x00" not in t]
    saved = tempfile.mkdtemp()
    os.makedirs(os.path.join(saved, "additional_chat_templates"))
    shutil.copy(os.path.join(directory, "config.json"), saved)
    try:
        ours, message = run(program, [directory, saved], texts)
        if ours is None:
            return "refused", message.replace(directory, "")
        special = theirs.special_tokens_map

        def role(name):
            return theirs.convert_tokens_to_ids(special[name]) if name in special else -1
        want = [len(theirs), role("bos_token"), role("eos_token"), role("pad_token"), role("unk_token")]
        got = list(ours[0])
        if got[2] == -1:  # ours is only a default; theirs may be one, too
            want[2] = -1
        if got != want:
            return "differs", f"size and roles {got}, AutoTokenizer {want}"
        for text, ids in zip(texts, ours[3:]):
            full = theirs(text)["input_ids"]
            bare = theirs(text, add_special_tokens=False)["input_ids"]
            if ids != bare or ours[1] + ids + ours[2] != full:
                return "differs", f"{text!r}: {ours[1]} {ids} {ours[2]}, AutoTokenizer {bare} in {full}"
        for folder, _, names in os.walk(directory):
            for name in names:
                path = os.path.relpath(os.path.join(folder, name), directory)
                with open(os.path.join(directory, path), "rb") as a, open(os.path.join(saved, path), "rb") as b:
                    if a.read() != b.read():
                        return "differs", f"{path} is not saved as it was"
        ours, message = run(program, [directory, saved, "[NEW]"], texts)
        again = transformers.AutoTokenizer.from_pretrained(saved)
        a, b = settings(theirs), settings(again)
        if again.pad_token != "[NEW]" or again.pad_token_id != len(theirs):
            return "differs", f"the new token is {again.pad_token} {again.pad_token_id}"
        for key in a:
            if key not in ("size", "map", "added") and a[key] != b[key]:
                return "differs", f"after saving {key}: {b[key]}, before {a[key]}"
        if {**a["map"], "pad_token": "[NEW]"} != b["map"]:
            return "differs", f"after saving {b['map']}, before {a['map']}"
        for text in texts:
            if theirs(text)["input_ids"] != again(text)["input_ids"]:
                return "differs", f"after saving {text!r}"
        return None
    finally:
        shutil.rmtree(saved)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("program")
    parser.add_argument("--count", type=int, default=300)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--first", type=int, default=0)
    parser.add_argument("--texts", type=int, default=200)
    args = parser.parse_args()
    tally, different = {}, 0
    for i in range(args.seed * 1000000 + args.first, args.seed * 1000000 + args.first + args.count):
        rng, directory = random.Random(i), tempfile.mkdtemp()
        make(directory, rng)
        outcome = compare(os.path.abspath(args.program), directory, rng, args.texts) or ("equal", "")
        if outcome[0] in ("differs", "refused", "skipped"):
            print(f"{i}: {outcome[0]}: {outcome[1]}", flush=True)
        if outcome[0] == "differs":
            different += 1
            print(f"   the directory is kept: {directory}", flush=True)
        else:
            shutil.rmtree(directory)
        tally[outcome[0]] = tally.get(outcome[0], 0) + 1
    print(f"{args.count} tokenizers, seed {args.seed}:", ", ".join(f"{v} {k}" for k, v in sorted(tally.items())))
    sys.exit(different > 0)


if __name__ == "__main__":
    main()
