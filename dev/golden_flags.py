"""Writes test/golden/trl_flags.txt: every flag of TRL's configs with its type and default, for test/test_trl_flags.sh;
and test/golden/yaml.txt: what PyYAML reads from small documents, for test/test_flags.c.

    pip install -r dev/requirements.txt pyyaml
    pip install --no-deps --target OLD trl==1.12.0                # the last release with PPO
    pip download --no-deps transformers==4.57.1 trl==0.24.0 trl==0.12.2   # then unzip each .whl into a folder
    python dev/golden_flags.py OLD UNPACKED...

Of TRL 1.16 the classes are imported. The older ones are only read (their names matter, for people's scripts; they need
other versions of transformers to be imported), so their defaults are as the source has them, or "?" where that is not a
plain value. Fields that a later class has with the same default are left out.
"""

import ast
import dataclasses
import enum
import json
import os
import sys
import warnings

warnings.simplefilter("ignore")
os.environ["TRL_EXPERIMENTAL_SILENCE"] = "1"

import transformers  # noqa: E402
import trl  # noqa: E402
import yaml  # noqa: E402
from trl.experimental.orpo import ORPOConfig  # noqa: E402

GOLDEN = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "test", "golden")

# Which programs have the flags of a class.
NEW = [("all", trl.ScriptArguments), ("all", trl.ModelConfig), ("train_sft", trl.SFTConfig),
       ("train_rm", trl.RewardConfig), ("train_dpo", trl.DPOConfig), ("train_kto", trl.KTOConfig),
       ("train_orpo", ORPOConfig), ("train_ppo", transformers.TrainingArguments),
       ("train_spin", transformers.TrainingArguments)]
OLD = {"ScriptArguments": "all", "ModelConfig": "all", "TrainingArguments": "all", "SFTConfig": "train_sft",
       "RewardConfig": "train_rm", "DPOConfig": "train_dpo", "KTOConfig": "train_kto", "ORPOConfig": "train_orpo",
       "PPOConfig": "train_ppo", "OnPolicyConfig": "train_ppo"}
SOURCES = ("training_args.py", "utils.py")  # beside those with "config" in their names

YAML = ["a: 1", "a: 1e-5", "a: 5.0e-07", "a: -1", "a: true", "a: False", "a: yes", "a: null", "a: ~", "a:", "a: NULL",
        "a: text of words", "a: /path/to/x-1.jsonl", "a: http://x/y", "a: 'it''s'", "a: ''", 'a: ""',
        'a: "b\\nc\\t\\"d\\" \\\\ /"', "a: 'b # c'", "a: b # c", "a: b#c", "a: # b", "a:   b   ", "a: b\r\nc: d\r\n",
        "# c\n\na: 1\n  # d\nb: 2\n", "---\na: 1\n", "--- # x\na: 1", "a-b_C9: x", "a : x", "a: x: y", "a:x", "a",
        "a: [1, 2]", "a: []", "a: [ ]", "a: ['x, y', \"z\", w]", "a: [none]", "a: [1, 2,]", "a: [1, ~]", "a: [x] # y",
        "a:\n- x\n- y", "a:\n  - x\n  - 'y z'\nb: 1", "a: # c\n- x # d\n\n- y", "a:\n- -1\n- 1.5", "a:\n-\n- y",
        "a:\n  b: c\n  d:\n    - e\nf: g", "a: {}", "a: { }", "a: {b: c}", "a:\n- b: c\n  d: e\n- b: f\n", "a:\n- - b\n",
        "a:\n- [b]\n- {c: d}", "a: [1", "a: 'x", 'a: "x', "a: x\na: y\nb: z", "\ta: 1", "a:\n\t- x", " a: 1", "a: 'x' y",
        "a: \"\\q\"", "\ufeffa: 1", "a: é", "a: -", "a: x-", "a: ?x", "a: a?b", "a: [a b, c]", "a: @x", "a: `x", "a: %x",
        "a: *x", "a: ]", "a: }", "a: ,x", "a: x, y", "a: :x", "a: x:y", "a: - b", "a: {", "a: x\n- y", "", "# only"]


def plain(value):
    """A default as JSON."""
    if isinstance(value, enum.Enum):
        value = value.value
    return json.dumps(value)


def new_fields(cls):
    for field in dataclasses.fields(cls):
        if not field.init or field.name.startswith("_"):
            continue
        default = field.default
        if default is dataclasses.MISSING:
            default = field.default_factory()
        yield field.name, plain(default)


def old_fields(path):
    """Class, name and default of every field of the dataclasses in a source file."""
    with open(path) as file:
        tree = ast.parse(file.read())
    for cls in ast.walk(tree):
        if not isinstance(cls, ast.ClassDef) or cls.name not in OLD:
            continue
        for line in cls.body:
            if not isinstance(line, ast.AnnAssign) or line.target.id.startswith("_") or line.target.id == "config":
                continue
            value = line.value
            if isinstance(value, ast.Call):
                if any(k.arg == "init" and k.value.value is False for k in value.keywords if k.arg == "init"):
                    continue
                value = next((k.value for k in value.keywords if k.arg == "default"), None)
            try:
                default = plain(ast.literal_eval(value))
            except (ValueError, TypeError):
                default = "?"
            yield cls.name, line.target.id, default


def write_flags(folders):
    programs = {}  # of (release, name, default): a flag that several classes have is one row
    known = set()
    for program, cls in NEW:
        for name, default in new_fields(cls):
            release = f"{cls.__module__.split('.')[0]}-{sys.modules[cls.__module__.split('.')[0]].__version__}"
            programs.setdefault((release, name, default), []).append(program)
            known |= {(program, name), ("any", name)}
    for folder in folders:
        release = next(d for d in sorted(os.listdir(folder)) if d.endswith(".dist-info"))[:-len(".dist-info")]
        for top, _, files in sorted(os.walk(folder)):
            for file in sorted(f for f in files if f.endswith(".py") and ("config" in f or f in SOURCES)):
                for cls, name, default in old_fields(os.path.join(top, file)):
                    program = OLD[cls]
                    if ((program == "train_ppo") != ("1.12" in release) or (program, name) in known
                            or (program == "all" and ("any", name) in known)):
                        continue
                    known |= {(program, name), ("any", name)}
                    programs.setdefault((release, name, default), []).append(program)
    with open(os.path.join(GOLDEN, "trl_flags.txt"), "w") as out:
        out.write(f"# Made by dev/golden_flags.py: TRL {trl.__version__}, transformers {transformers.__version__}, and "
                  "what only older releases have.\n# release, programs, flag, default as JSON (?: no plain value)\n")
        for (release, name, default), of in programs.items():
            out.write("\t".join((release, ",".join(of), name, default)) + "\n")
    print(len(programs), "flags")


def yaml_values(node):
    """What lib/base/yaml.h should make of a value: null, a text, a list of texts, or whether a map has something."""
    if isinstance(node, yaml.ScalarNode):
        return None if node.tag.endswith(":null") else node.value
    if isinstance(node, yaml.SequenceNode) and all(isinstance(n, yaml.ScalarNode) for n in node.value):
        return ["" if n.tag.endswith(":null") else n.value for n in node.value]
    return {"map": bool(node.value)}


def write_yaml():
    with open(os.path.join(GOLDEN, "yaml.txt"), "w") as out:
        out.write(json.dumps({"made by": "dev/golden_flags.py", "PyYAML": yaml.__version__}) + "\n")
        for text in YAML:
            try:
                node = yaml.compose(text, Loader=yaml.SafeLoader)
                items = [[key.value, yaml_values(value)] for key, value in node.value] if isinstance(
                    node, yaml.MappingNode) else ([] if node is None else None)
            except yaml.YAMLError:
                items = None
            out.write(json.dumps({"text": text, "items": items}) + "\n")
    print(len(YAML), "documents")


if __name__ == "__main__":
    write_flags(sys.argv[1:])
    write_yaml()
