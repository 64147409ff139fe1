#!/usr/bin/env python3
"""What `datasets` reads from a file and what TRL makes of a record: test/golden/data.jsonl.

    python3 dev/golden_data.py > test/golden/data.jsonl

The first line names the versions. A line with "file" (its bytes as Latin-1) has in "rows" what
load_dataset("json") gives; not finite numbers are null there. A line with "record" has in "text",
or "prompt" with "chosen" and "rejected" or "completion", what TRL makes of it with the chat template
that --chat_format hh is. test/test_dataset.c compares them with ours.
"""
import gzip
import json
import math
import tempfile
from pathlib import Path

import datasets
import transformers
import trl
from trl.data_utils import apply_chat_template, maybe_extract_prompt

ROOT = Path(__file__).resolve().parent.parent
HH = (
    "{% for m in messages %}{{ '\n\n' + {'user': 'Human', 'assistant': 'Assistant', 'system': 'System'}[m['role']]"
    " + ': ' + m['content'] }}{% endfor %}{% if add_generation_prompt %}{{ '\n\nAssistant:' }}{% endif %}"
)


def row(i):
    return '{"prompt": "p%d", "completion": " c%d"}' % (i, i)


FILES = [
    row(1) + "\n" + row(2) + "\n",
    row(1) + "\r\n" + row(2) + "\r\n",
    "\ufeff" + row(1) + "\n" + row(2),
    row(1) + "\n\n" + row(2) + "\n\n",
    # arrays
    "[" + row(1) + "," + row(2) + "]",
    "[\n" + row(1) + ",\n" + row(2) + "\n]\n",
    json.dumps([json.loads(row(i)) for i in range(40)], indent=2),
    json.dumps([{"prompt": 'a]}"\\', "x": [{"y": "[{"}, {}]}, {"prompt": "\u00e9,", "x": []}]),
    # what is not there
    '{"prompt": "a", "chosen": null}\n{"prompt": null, "chosen": "b"}\n',
    '[{"prompt": "a", "label": null}, {"prompt": "b", "label": true}]',
    # numbers that JSON does not have
    '{"prompt": "a", "s": NaN}\n{"prompt": "b", "s": 1.5}\n',
    '{"prompt": "a", "s": Infinity}\n{"prompt": "b", "s": -Infinity}\n',
    '[{"prompt": "NaN", "s": NaN, "t": [NaN, -1.0]}]',
]


def user(text):
    return {"role": "user", "content": text}


def bot(text):
    return {"role": "assistant", "content": text}


RECORDS = [
    {"messages": [user("a"), bot("b")]},
    # two messages of the assistant in a row
    {"messages": [user("a"), bot("b"), bot("c")]},
    {"messages": [bot("a"), bot("b"), user("c"), bot("d")]},
    {"prompt": [user("a"), bot("b")], "completion": [bot("c")]},
    {"prompt": [user("a")], "completion": [bot("b"), bot("c")]},
    {"prompt": [user("a")], "chosen": [bot("b"), bot("c")], "rejected": [bot("d")]},
    {"chosen": [user("a"), bot("b"), bot("c")], "rejected": [user("a"), bot("b"), bot("d")]},
    # a prompt as text beside lists that begin with it
    {"prompt": "a", "chosen": [user("a"), bot("b")], "rejected": [user("a"), bot("c")]},
    {
        "prompt": "a",
        "chosen": [{"role": "system", "content": "s"}, user("a"), bot("b")],
        "rejected": [{"role": "system", "content": "s"}, user("a"), bot("c")],
    },
    {
        "prompt": "c",
        "chosen": [user("a"), bot("b"), user("c"), bot("d")],
        "rejected": [user("a"), bot("b"), user("c"), bot("e")],
    },
]


def finite(value):
    if isinstance(value, dict):
        return {k: finite(v) for k, v in value.items()}
    if isinstance(value, list):
        return [finite(v) for v in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def main():
    datasets.disable_progress_bar()
    versions = {m.__name__: m.__version__ for m in (datasets, trl, transformers)}
    print(json.dumps({"made by": "dev/golden_data.py", **versions}))
    with tempfile.TemporaryDirectory() as folder:
        for i, text in enumerate(FILES):
            data = text.encode()
            path = Path(folder) / f"{i}.jsonl.gz"
            path.write_bytes(gzip.compress(data))
            read = datasets.load_dataset("json", data_files=str(path), split="train", cache_dir=folder)
            print(json.dumps({"file": data.decode("latin-1"), "rows": finite(list(read))}))
    tokenizer = transformers.GPT2Tokenizer.from_pretrained(ROOT / "test/golden/tiny_vocab")
    tokenizer.chat_template = HH
    for record in RECORDS:
        # of a mixed form TRL leaves the prompt's text alone
        print(json.dumps({"record": record, **apply_chat_template(maybe_extract_prompt(record), tokenizer)}))


if __name__ == "__main__":
    main()
