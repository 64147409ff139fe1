"""Gives command lines and configurations to TRL's own parser (TrlParser) and to our programs, and compares what comes out.

    python dev/compare_trl_flags.py [--programs DIR]

DIR has train_sft, train_rm, train_dpo, train_kto and train_orpo (the folder above this one). Compared are, for each case,

- every flag that was given, or that both have under one name: TRL's value with that of run.json. Where defaults
  differ, the difference must be one of DIFFERS, which docs/flags.md explains;
- the number of updates, and the learning rate of each, with transformers' schedule for TRL's arguments;
- after which updates there is a line of the log, an evaluation, a checkpoint, with what transformers'
  DefaultFlowCallback says for TRL's arguments. Ours has a line after the last update, evaluations at the start and
  after it, and final/ instead of a checkpoint after it.

Nothing is trained by TRL: what its trainers compute is compared in dev/compare_trl_sft.py, _pref.py and _rm.py.
"""

import argparse
import glob
import json
import math
import os
import shlex
import shutil
import subprocess
import tempfile
import warnings

warnings.simplefilter("ignore")
os.environ["TRL_EXPERIMENTAL_SILENCE"] = "1"

import torch  # noqa: E402
import transformers  # noqa: E402
import trl  # noqa: E402
from transformers.trainer_callback import DefaultFlowCallback, TrainerControl, TrainerState  # noqa: E402
from trl.experimental.orpo import ORPOConfig  # noqa: E402

HOME = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..")
ROWS = 30  # 28 to train on and 2 to evaluate on, in a folder
CONFIGS = {"train_sft": trl.SFTConfig, "train_rm": trl.RewardConfig, "train_dpo": trl.DPOConfig,
           "train_kto": trl.KTOConfig, "train_orpo": ORPOConfig}

# Defaults that are others here, and TRL's null in our words.
DIFFERS = {"bf16", "gradient_checkpointing", "truncation_mode", "eval_strategy", "eval_steps", "save_total_limit",
           "train_sampling_strategy", "completion_only_loss", "center_rewards_coefficient", "dataset_text_field",
           "max_completion_length"}

NAMES = {"model_name_or_path": "model", "dataset_name": "dataset"}  # of TRL and ours

BATCHES = "--per_device_train_batch_size 4 --gradient_accumulation_steps 2 "
CASES = [
    ("train_dpo", BATCHES + "--learning_rate 5e-4 --num_train_epochs 1.5 --warmup_ratio 0.25 --lr_scheduler_type cosine "
     "--logging_steps 1 --eval_strategy epoch --save_strategy epoch --beta 0.2 --loss_type sigmoid --report_to none", ""),
    ("train_dpo", "--logging_steps 3 --logging_first_step --seed 7 --no_gradient_checkpointing --eval_strategy steps",
     "learning_rate: 5.0e-07\nnum_train_epochs: 2\nper_device_train_batch_size: 8\nloss_type: [ipo]\nbeta: 1e-1\n"
     "save_strategy: 'no'\nreport_to:\n- none\ngradient_checkpointing_kwargs:\n  use_reentrant: false\nwarmup_steps: 2\n"
     "optim: adamw_torch # or fused\ndtype: float32\nmax_length: 64\ndo_eval: true\n"),
    ("train_dpo", BATCHES + "--max_steps 9 --warmup_steps 0.3 --lr_scheduler_type polynomial --learning_rate 1e-5 "
     "--logging_steps 0.1 --eval_strategy steps --eval_steps 0.25 --save_steps 0.4 --loss_type robust --label_smoothing 0.1", ""),
    ("train_dpo", BATCHES + "--max_steps 8 --lr_scheduler_type inverse_sqrt --logging_steps 1 --save_steps 3", ""),
    ("train_dpo", BATCHES + "--max_steps 8 --lr_scheduler_type inverse_sqrt --warmup_steps 3 --logging_steps 1", ""),
    ("train_dpo", BATCHES + "--max_steps 8 --lr_scheduler_type cosine_with_restarts --warmup_steps 3 --logging_steps 1 "
     "--sync_ref_model --ref_model_sync_steps 4 --ref_model_mixup_alpha 0.5", ""),
    ("train_dpo", BATCHES + "--max_steps 8 --lr_scheduler_type constant --warmup_steps 3 --logging_steps 1 --weight_decay 0.1", ""),
    ("train_sft", BATCHES + "--max_steps 8 --lr_scheduler_type constant_with_warmup --warmup_ratio 0.5 --logging_steps 1 "
     "--adam_beta2 0.98 --max_grad_norm 0.5 --bf16 False --packing False --dataset_num_proc 2", ""),
    ("train_sft", "--config FILE --logging_steps 2", "learning_rate: 2e-5\nnum_train_epochs: 3.0\nbf16: no\n"
     "per_device_train_batch_size: 16\nper_device_eval_batch_size: 4\neval_strategy: epoch\nsave_strategy: epoch\n"
     "lr_scheduler_type: linear\nwarmup_ratio: 0.03\ngradient_checkpointing: yes\nuse_cpu: true\npush_to_hub: off\n"),
    ("train_rm", BATCHES + "--logging_steps 1 --num_train_epochs 2 --center_rewards_coefficient 0.01 --eval_strategy steps "
     "--eval_steps 2 --save_strategy no --gradient_checkpointing True --bf16 false", ""),
    ("train_kto", BATCHES + "--logging_steps 2 --num_train_epochs 2 --desirable_weight 1.33 --undesirable_weight 1 "
     "--loss_type apo_zero_unpaired --train_sampling_strategy sequential --save_steps 2", ""),
    ("train_orpo", BATCHES + "--logging_steps 2 --num_train_epochs 0.6 --beta 0.5 --max_completion_length 30 --eval_strategy epoch", ""),
]


def ours(program, words, work):
    """Runs the program; returns run.json, the rows of its log, and the steps of its checkpoints."""
    out = os.path.join(work, "out")
    shutil.rmtree(out, ignore_errors=True)
    command = [program] + words + ["--output_dir", out] + ([] if "train_rm" in program else ["--samples", "0"])
    result = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    if result.returncode:
        raise SystemExit(f"{' '.join(command)}\n{result.stdout}")
    with open(os.path.join(out, "run.json")) as file:
        flags = json.load(file)
    with open(os.path.join(out, "metrics.jsonl")) as file:
        rows = [json.loads(line) for line in file]
    saved = sorted(int(d.rsplit("-", 1)[1]) for d in glob.glob(os.path.join(out, "checkpoint-*")))
    return flags, rows, saved


def plain(value):
    """TRL's value as run.json has it."""
    value = getattr(value, "value", value)
    return value[0] if isinstance(value, list) and len(value) == 1 else value


def equal(a, b):
    return a == b or (isinstance(a, (int, float)) and isinstance(b, (int, float)) and float(a) == float(b))


def schedule(args, total):
    """The learning rates of all updates."""
    optimizer = torch.optim.AdamW([torch.nn.Parameter(torch.zeros(1))], lr=args.learning_rate)
    scheduler = transformers.get_scheduler(args.lr_scheduler_type, optimizer, args.get_warmup_steps(total), total)
    rates = []
    for _ in range(total):
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        scheduler.step()
    return rates


def flow(args, total, per_epoch):
    """After which updates transformers logs, evaluates and saves."""
    state, control, callback = TrainerState(), TrainerControl(), DefaultFlowCallback()
    state.max_steps = total
    state.compute_steps(args, total)
    steps = {"log": set(), "evaluate": set(), "save": set()}
    for step in range(1, total + 1):
        state.global_step = step
        for event in ("step", "epoch") if step % per_epoch == 0 else ("step",):
            control = getattr(callback, f"on_{event}_end")(args, state, TrainerControl())
            for name in steps:
                if getattr(control, f"should_{name}"):
                    steps[name].add(step)
    return steps


def compare(program, line, yaml, directory, work):
    folder, config = os.path.join(work, "data"), os.path.join(work, "config.yaml")
    with open(config, "w") as file:
        file.write(yaml)
    words = shlex.split(line.replace("--config FILE", ""))
    words += ["--model_name_or_path", os.path.join(HOME, "data", "sft"), "--dataset_name", folder]
    words += ["--config", config] if yaml else []
    # TRL 1.16 has no --warmup_ratio any more: its --warmup_steps below 1 is that
    theirs = [w.replace("--warmup_ratio", "--warmup_steps") for w in words]
    with open(config, "w") as file:
        file.write(yaml.replace("warmup_ratio", "warmup_steps"))
    parser = trl.TrlParser((trl.ScriptArguments, CONFIGS[program], trl.ModelConfig))
    script, args, model = parser.parse_args_and_config(theirs + ["--use_cpu", "--output_dir", os.path.join(work, "trl")])
    with open(config, "w") as file:
        file.write(yaml)
    flags, rows, saved = ours(os.path.join(directory, program), words + ["--use_cpu"], work)

    faults, same = [], 0
    given = {w[2:].split("=")[0] for w in words if w.startswith("--")} | {y.split(":")[0] for y in yaml.split("\n")}
    given = {"warmup_steps" if g == "warmup_ratio" else g[3:] if g.startswith("no_") else g for g in given}
    for values in (script, args, model):
        for name, value in vars(values).items():
            name = NAMES.get(name, name)
            value = plain(value)
            if name not in flags or name in ("model", "dataset", "output_dir"):
                continue
            if equal(value, flags[name]) or (value is None and flags[name] in (0, None)):
                same += 1
            elif name in given or name not in DIFFERS:
                if (name, value) == ("eval_steps", None) or name == "save_steps" and flags["save_strategy"] == "no":
                    continue
                if name == "eval_steps" and flags["eval_strategy"] != "steps":
                    continue
                faults.append(f"{name}: TRL has {value}, here it is {flags[name]}")
    trained = [r for r in rows if "grad_norm" in r]
    total = trained[-1]["step"]
    batches = math.ceil((ROWS - 2) * (2 if program == "train_kto" else 1) / args.per_device_train_batch_size)
    per_epoch = math.ceil(batches / args.gradient_accumulation_steps)
    want = args.max_steps if args.max_steps > 0 else math.ceil(args.num_train_epochs * per_epoch)
    if total != want:
        faults.append(f"{total} updates, TRL has {want}")
    rates = schedule(args, total)
    for row in trained:
        if abs(row["learning_rate"] - rates[row["step"] - 1]) > 1e-8 * args.learning_rate + 1e-5 * rates[row["step"] - 1]:
            faults.append(f"step {row['step']}: rate {row['learning_rate']}, transformers has {rates[row['step'] - 1]}")
    steps = flow(args, total, per_epoch)
    evaluated = {r["step"] for r in rows if "eval_loss" in r}
    for what, have, wanted in (
            ("logged", {r["step"] for r in trained}, steps["log"] | {total}),
            ("evaluated", evaluated, steps["evaluate"] | {0, total} if args.eval_strategy != "no" else set()),
            ("saved", set(saved), steps["save"] - {total})):
        if have != wanted:
            faults.append(f"{what} after {sorted(have)}, by TRL's arguments after {sorted(wanted)}")
    print(f"{program}: {same} values, {total} updates, {len(trained)} rates: {'equal' if not faults else faults}")
    return not faults


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--programs", default=HOME)
    options = parser.parse_args()
    print(f"TRL {trl.__version__}, transformers {transformers.__version__}")
    good = 0
    with tempfile.TemporaryDirectory() as work:
        os.mkdir(os.path.join(work, "data"))
        with open(os.path.join(HOME, "data", "prefs_train.jsonl")) as file:
            rows = [next(file) for _ in range(ROWS)]
        for name, part in (("train.jsonl", rows[:-2]), ("test.jsonl", rows[-2:])):
            with open(os.path.join(work, "data", name), "w") as file:
                file.writelines(part)
        pairs = os.path.join(work, "data")
        texts = os.path.join(work, "texts")
        os.mkdir(texts)
        for name in ("train.jsonl", "test.jsonl"):
            with open(os.path.join(pairs, name)) as file, open(os.path.join(texts, name), "w") as out:
                for row in map(json.loads, file):
                    out.write(json.dumps({"prompt": row["prompt"], "completion": row["chosen"]}) + "\n")
        for program, line, yaml in CASES:
            os.rename(pairs, os.path.join(work, "pairs"))
            shutil.copytree(texts if program == "train_sft" else os.path.join(work, "pairs"), pairs)
            good += compare(program, line, yaml, options.programs, work)
            shutil.rmtree(pairs)
            os.rename(os.path.join(work, "pairs"), pairs)
    print(f"{good} of {len(CASES)} cases equal")
    raise SystemExit(good < len(CASES))


if __name__ == "__main__":
    main()
