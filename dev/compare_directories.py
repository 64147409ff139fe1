"""What goes into a run as a Hugging Face directory comes out of it: compared by transformers.

    python dev/compare_directories.py [--bin FOLDER] [--work FOLDER] [--programs NAMES] [--tokenizer]

FOLDER of --bin has the built programs (.), that of --work is where directories are made (a temporary one). For each
of the models below, tiny ones with unusual but harmless settings that transformers itself saves (some files are then
edited as people edit them), each training program makes 2 updates, and AutoConfig, GenerationConfig and
AutoModelForCausalLM (or AutoModelForSequenceClassification) of the input and of final/ and a checkpoint are compared:
every setting must be the same but those that CHANGED names. With --tokenizer AutoTokenizer's settings too. One line
for each comparison; exit code 1 if one fails.
"""
import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile

os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
import torch
import transformers
from transformers import (AutoConfig, AutoModelForCausalLM, AutoModelForSequenceClassification, AutoTokenizer,
                          GenerationConfig, GPT2Config, GPT2LMHeadModel, GPT2TokenizerFast)

HERE = os.path.dirname(os.path.abspath(__file__))
TINY = os.path.join(HERE, "..", "test", "golden", "tiny_vocab")
CHATML = ("{% for message in messages %}{{'<|im_start|>' + message['role'] + '\\n' + message['content'] + '<|im_end|>'"
          " + '\\n'}}{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}")
# What a run may change: the type of the numbers, the version that wrote the file, where it was.
CHANGED = {"dtype", "torch_dtype", "transformers_version", "_name_or_path"}
REWARD = {"architectures", "id2label", "label2id", "num_labels", "pad_token_id", "vocab_size"}


def make(path, config, generation=None, edit=None, chat=False):
    """A directory as save_pretrained leaves it; generation: settings for generation_config.json; edit: (file, dict)."""
    torch.manual_seed(1)
    tokenizer = GPT2TokenizerFast.from_pretrained(TINY)
    tokenizer.add_special_tokens({"additional_special_tokens": ["<|im_start|>", "<|im_end|>"]})
    settings = dict(vocab_size=len(tokenizer), n_positions=64, n_embd=32, n_layer=2, n_head=4,
                    bos_token_id=tokenizer.eos_token_id, eos_token_id=tokenizer.eos_token_id)
    settings.update(config)
    if chat:
        tokenizer.chat_template = CHATML
        tokenizer.eos_token = "<|im_end|>"
        settings["eos_token_id"] = tokenizer.eos_token_id
    model = GPT2LMHeadModel(GPT2Config(**settings))
    for key, value in (generation or {}).items():
        setattr(model.generation_config, key, value)
    model.save_pretrained(path)
    tokenizer.save_pretrained(path)
    for file, change in (edit or {}).items():
        with open(os.path.join(path, file), encoding="utf-8") as f:
            data = json.load(f)
        for key, value in change.items():
            if value is ...:
                data.pop(key, None)
            else:
                data[key] = value
        with open(os.path.join(path, file), "w", encoding="utf-8") as f:
            json.dump(data, f)


def models(eos):
    """Name -> arguments of make(). eos: the tokenizer's."""
    return {
        "plain": ({}, None, None, False),
        "old keys": ({"attn_pdrop": 0.0, "resid_pdrop": 0.25, "summary_first_dropout": 0.3, "n_inner": 48,
                      "layer_norm_epsilon": 3e-6, "initializer_range": 0.011}, None,
                     {"config.json": {"n_ctx": 64, "task_specific_params": {"text-generation": {"max_length": 50}},
                                      "my_note": {"a": [1, 2.5, None]}, "torch_dtype": "float32", "dtype": ...,
                                      "_num_labels": 1, "use_cache": False}}, False),
        "generation settings": ({"pad_token_id": 3}, {"do_sample": True, "temperature": 0.35, "top_p": 0.9, "top_k": 7,
                                                      "repetition_penalty": 1.1, "max_new_tokens": 17,
                                                      "eos_token_id": [eos, 5, 6], "pad_token_id": 4}, None, False),
        "list of EOS": ({"eos_token_id": [eos, 2]}, None, None, False),
        "labels": ({"id2label": {0: "a", 1: "b", 2: "c"}, "label2id": {"a": 0, "b": 1, "c": 2}}, None,
                   {"config.json": {"architectures": ["GPT2Model", "GPT2LMHeadModel"]},
                    "generation_config.json": {"_from_model_config": ..., "suppress_tokens": [9, 8]}}, False),
        "aliases, other activation": ({"activation_function": "gelu_pytorch_tanh"}, None,
                                      {"config.json": {"n_embd": ..., "hidden_size": 32}}, False),
        "chat": ({}, {"eos_token_id": [701, eos]}, None, True),
    }


PAIRS = [{"prompt": f"The film number {i} was", "chosen": " good, and I would see it again.",
          "rejected": " bad. The story was slow."} for i in range(12)]
TALKS = [{"prompt": [{"role": "user", "content": f"How was film {i}?"}],
          "chosen": [{"role": "assistant", "content": "It was good."}],
          "rejected": [{"role": "assistant", "content": "It was bad."}]} for i in range(12)]
SHORT = ["--max_steps", "2", "--save_steps", "1", "--per_device_train_batch_size", "4"]


def write(path, rows):
    with open(path, "w", encoding="utf-8") as f:
        f.writelines(json.dumps(row) + "\n" for row in rows)


def settings_of(config, ignored):
    return {k: v for k, v in config.to_dict().items() if k not in ignored}


def differences(a, b):
    return {k: (a.get(k, "none"), b.get(k, "none")) for k in sorted(a.keys() | b.keys()) if a.get(k) != b.get(k)}


def tokenizer_settings(path):
    t = AutoTokenizer.from_pretrained(path)
    text = "Hello <|im_start|>  World's 12<|im_end|>\n"
    return {"special": t.special_tokens_map, "chat_template": t.chat_template, "length": len(t),
            "sides": (t.padding_side, t.truncation_side), "max": t.model_max_length, "ids": t(text)["input_ids"]}


class Check:
    passed = failed = 0

    def __call__(self, what, diff):
        Check.failed += bool(diff)
        Check.passed += not diff
        print(f"{'FAILED' if diff else 'ok':7s}{what}{': ' + str(diff) if diff else ''}", flush=True)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--bin", default=".")
    parser.add_argument("--work")
    parser.add_argument("--programs", help="these alone, with commas between")
    parser.add_argument("--tokenizer", action="store_true")
    args = parser.parse_args()
    work = args.work or tempfile.mkdtemp()
    os.makedirs(work, exist_ok=True)
    check = Check()
    texts, talks = os.path.join(work, "texts.jsonl"), os.path.join(work, "talks.jsonl")
    write(texts, PAIRS)
    write(talks, TALKS)
    eos = GPT2TokenizerFast.from_pretrained(TINY).eos_token_id
    quiet = ["--samples", "0"]
    runs = {"train_sft": quiet + SHORT, "train_dpo": quiet + SHORT, "train_kto": quiet + SHORT,
            "train_orpo": quiet + SHORT, "train_spin": quiet + SHORT + ["--num_iterations", "1"], "train_rm": SHORT,
            "train_ppo": quiet + ["--save_steps", "1", "--response_length", "8", "--total_episodes", "16",
                                  "--batch_size", "8", "--per_device_train_batch_size", "4"]}
    if args.programs:
        runs = {name: runs[name] for name in args.programs.split(",")}
    for name, arguments in models(eos).items():
        model = os.path.join(work, name.replace(" ", "_").replace(",", ""))
        shutil.rmtree(model, ignore_errors=True)
        make(model, *arguments[:3], chat=arguments[3])
        before, logits_of = AutoConfig.from_pretrained(model), {}
        for program, extra in runs.items():
            out = os.path.join(work, f"out_{program}")
            shutil.rmtree(out, ignore_errors=True)
            rows = talks if arguments[3] else texts
            sft = os.path.join(work, "sft.jsonl")
            if program in ("train_sft", "train_spin"):
                write(sft, [{"prompt": r["prompt"], "completion": r["chosen"]} for r in (TALKS if arguments[3] else PAIRS)])
                rows = sft
            command = [os.path.join(args.bin, program), "--model", model, "--dataset", rows, "--output_dir", out]
            if program == "train_ppo":
                command += ["--reward_model", os.path.join(work, "out_train_rm", "final")]
            run = subprocess.run(command + extra, capture_output=True, text=True)
            if run.returncode:
                check(f"{name}: {program} runs", (run.returncode, run.stderr[-400:]))
                continue
            reward = program == "train_rm"
            ignored = CHANGED | (REWARD if reward else set())
            dirs = [d for d in sorted(os.listdir(out)) if d == "final" or d.startswith("checkpoint-")]
            for directory in dirs:
                path = os.path.join(out, directory)
                where = f"{name}: {program}: {directory}"
                after = AutoConfig.from_pretrained(path)
                check(f"{where}: AutoConfig", differences(settings_of(before, ignored), settings_of(after, ignored)))
                a, b = GenerationConfig.from_pretrained(model), GenerationConfig.from_pretrained(path)
                check(f"{where}: GenerationConfig", differences(settings_of(a, CHANGED), settings_of(b, CHANGED)))
                if reward:
                    m, info = AutoModelForSequenceClassification.from_pretrained(path, output_loading_info=True)
                else:
                    m, info = AutoModelForCausalLM.from_pretrained(path, output_loading_info=True)
                    old = AutoModelForCausalLM.from_pretrained(model).generation_config
                    check(f"{where}: generation_config of the model",
                          differences(settings_of(old, CHANGED), settings_of(m.generation_config, CHANGED)))
                bad = {k: v for k, v in info.items() if v}
                check(f"{where}: {type(m).__name__}, nothing missing, nothing left over", bad)
                if args.tokenizer:
                    check(f"{where}: AutoTokenizer",
                          differences(tokenizer_settings(model), tokenizer_settings(path)))
    print(f"transformers {transformers.__version__}: {Check.passed} ok, {Check.failed} failed")
    if not args.work:
        shutil.rmtree(work)
    sys.exit(Check.failed > 0)


main()
