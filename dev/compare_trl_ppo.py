"""Run an update of TRL's PPOTrainer and of train_ppo on the same tiny models and completions, and compare them.

    pip install --no-deps --target OLD trl==1.12.0
    make train_ppo build/plain/ppo_rollout
    PYTHONPATH=OLD python dev/compare_trl_ppo.py [--train ./train_ppo] [--rollout build/plain/ppo_rollout] [--case NAME]

TRL 1.12 is the last release with PPOTrainer (trl.experimental.ppo). train_ppo samples the completions, and this script
serves as its reward program: it scores them with transformers and records them. Then PPOTrainer.train() runs for the
same updates, its generation replaced by the recorded tokens and its own logits of them. Nothing of TRL's arithmetic is
done by us: what train() has in its local variables is read from its frame.

The exit code is the verdict. On completions of full length without end-of-text, where TRL's slot behind the end does
not exist, with one minibatch in one accumulation step (case names say what else is set):
- dev/ppo_rollout.c, which calls train_ppo's functions on the recorded rows: score, and of each token log-prob,
  reference's log-prob, value, KL, reward, advantage and return within 1e-4; the first pass's policy and value loss
  within 1e-4, ratio 1 within 1e-5, clip fraction 0; gradient norms within 1e-4 relative.
- train_ppo itself, three updates of four epochs: every metric of the log that both have and mean alike, and the
  gradients' norms, within 1e-4 (absolute, relative above 1).
Case "eos" has completions that end. Our definition is asserted there against its few lines of Python (definition()),
which take log-probs, values and scores from TRL; TRL's own numbers are printed beside it and differ, since
- TRL adds the score one place behind the end-of-text token, the place of a state after the end, whose value its critic
  gives too (PPOTrainer.train: sequence_lengths_p1, padding_mask_p1), and trains that value;
- so end-of-text's own advantage is gamma lambda (score - V behind the end) + gamma V behind the end - V;
- policy/approxkl_avg, policy/entropy_avg and val/ratio run over padding, too.

What has to be set for both to do the same:
- max_grad_norm 0: PPOTrainer never clips gradients.
- weight_decay 0, epsilon 1e-8, linear schedule: one AdamW over both models is two AdamWs.
- pad and end-of-text ids of TRL's tokenizer outside the policy's vocabulary where no completion is to end.
- old log-probs: TRL takes them from generation, with its cache; here from a forward pass, as ours are, so that the
  first ratio is 1 on both sides.
val/ratio_var is TRL's variance of micro-batches' means, ours the variance over tokens; it is not compared.
"""
import argparse
import json
import os
import subprocess
import sys
import tempfile
import warnings

os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["TRL_EXPERIMENTAL_SILENCE"] = "1"
HERE = os.path.dirname(os.path.abspath(__file__))
VOCAB, EOS, PROMPTS, ROWS, UPDATES = 40, 1, 48, 16, 3

# What train_ppo, ppo_rollout and PPOConfig all take.
PLAIN = dict(temperature=0.7, kl_coef=0.05, kl_estimator="k1", gamma=1.0, lam=0.95, cliprange=0.2, cliprange_value=0.2,
             vf_coef=0.1, whiten_rewards=False)
CASES = {  # whether completions end, tokens of a completion, the options that differ
    "plain": (False, 24, {}),
    "k3, discounted, no clipping": (False, 24, dict(kl_estimator="k3", gamma=0.97, lam=0.8, temperature=1.0,
                                                    kl_coef=0.2, cliprange=1e6, cliprange_value=1e6)),
    "rewards whitened, clipping much": (False, 24, dict(whiten_rewards=True, cliprange=0.02, cliprange_value=0.02,
                                                        vf_coef=0.5)),
    "eos": (True, 24, {}),
}
ARRAYS = dict(logp="logprobs", ref_logp="ref_logprobs", value="values", kl="kl", reward="rewards",
              advantage="advantages", returns="returns")
METRICS = ["objective/kl", "objective/entropy", "objective/non_score_reward", "objective/rlhf_reward",
           "objective/scores", "policy/approxkl_avg", "policy/clipfrac_avg", "policy/entropy_avg", "loss/policy_avg",
           "loss/value_avg", "val/clipfrac_avg", "val/ratio", "grad_norm", "val/grad_norm", "lr", "episode"]


def serve(reward_dir, record):
    """A reward program: scores rows with transformers' reward model and writes them to the file `record`."""
    import torch
    import transformers

    model = transformers.AutoModelForSequenceClassification.from_pretrained(reward_dir, dtype=torch.float32).eval()
    with open(record, "w") as f, torch.no_grad():
        for line in sys.stdin:
            row = json.loads(line)
            f.write(line)
            f.flush()
            ids = torch.tensor([row["prompt_ids"] + row["completion_ids"]])
            hidden = model.transformer(ids).last_hidden_state
            print(f"{model.score(hidden)[0, -1, 0].item():.9g}", flush=True)


def make_models(work, ends):
    """Policy, reference (the policy moved by a tenth), reward model and critic, as directories without tokenizer."""
    import torch
    import make_gpt2

    eos = EOS if ends else None
    sizes = dict(size="tiny", rough=True, bos_token_id=None, eos_token_id=eos)
    dirs = {name: os.path.join(work, name) for name in ("policy", "reference", "reward", "critic")}
    model = make_gpt2.make(dirs["policy"], vocab_size=VOCAB, seed=1, **sizes)
    generator = torch.Generator().manual_seed(9)
    with torch.no_grad():
        for p in model.parameters():
            p.mul_(1 + 0.1 * torch.randn(p.shape, generator=generator))
    model.save_pretrained(dirs["reference"])
    for seed, name in ((2, "reward"), (3, "critic")):
        make_gpt2.make(dirs[name], vocab_size=VOCAB + 1, pad_token_id=VOCAB, score_head=True, seed=seed, **sizes)
    return dirs


def flags(options):
    return [word for name, value in options.items() for word in (f"--{name}", str(value).lower())]


def run_ours(train, dirs, work, length, options, learning_rate):
    """train_ppo for UPDATES updates; returns the rows that it sampled and the rows of its log."""
    prompts, record, out = (os.path.join(work, f) for f in ("prompts.jsonl", "record.jsonl", "out"))
    import random
    draw = random.Random(4)
    with open(prompts, "w") as f:
        for _ in range(PROMPTS):
            f.write(json.dumps({"prompt_ids": [draw.randrange(8, VOCAB) for _ in range(draw.randint(3, 12))]}) + "\n")
    command = " ".join([sys.executable, os.path.abspath(__file__), "--serve", dirs["reward"], record])
    result = subprocess.run(
        [train, "--model", dirs["policy"], "--ref_model", dirs["reference"], "--critic_model", dirs["critic"],
         "--reward_command", command, "--reward_timeout", "300", "--dataset", prompts, "--output_dir", out,
         "--total_episodes", str(UPDATES * ROWS), "--batch_size", str(ROWS), "--per_device_train_batch_size", "5",
         "--num_ppo_epochs", "4", "--response_length", str(length), "--learning_rate", str(learning_rate),
         "--max_grad_norm", "0", "--save_steps", "0", "--eval_prompts", "0"] + flags(options),
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    if result.returncode:
        sys.exit(f"{train}: {result.stderr}exit code {result.returncode}")
    with open(record) as f:
        rows = [json.loads(line) for line in f]
    with open(os.path.join(out, "metrics.jsonl")) as f:
        log = [row for row in map(json.loads, f) if "objective/kl" in row]
    assert len(rows) == UPDATES * ROWS and len(log) == UPDATES
    return rows, log, os.path.join(out, "final")


def run_rollout(program, dirs, work, rows, options):
    """dev/ppo_rollout.c on these rows: arrays row by row, and the first pass's losses."""
    path = os.path.join(work, "rollout.jsonl")
    with open(path, "w") as f:
        f.writelines(json.dumps(row) + "\n" for row in rows)
    result = subprocess.run(
        [program, "--model", dirs["policy"], "--ref_model", dirs["reference"], "--reward_model", dirs["reward"],
         "--critic_model", dirs["critic"], "--rollout", path] + flags(options),
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    if result.returncode:
        sys.exit(f"{program}: {result.stderr}exit code {result.returncode}")
    lines = [json.loads(line) for line in result.stdout.splitlines() if line.startswith("{")]
    return lines[:-1], lines[-1]


def run_trl(dirs, rows, ends, length, options, learning_rate):
    """PPOTrainer.train() on the recorded rows. Returns what its frame held at the first pass of each update, and its
    log, with the gradients' norms, which TRL does not log."""
    import torch
    import transformers
    import tokenizers
    from datasets import Dataset
    from trl.experimental import ppo
    from trl.experimental.ppo import ppo_trainer

    pad, eos = VOCAB, EOS if ends else VOCAB + 1
    words = {f"w{i}": i for i in range(VOCAB + 2)}
    tokenizer = transformers.PreTrainedTokenizerFast(
        tokenizer_object=tokenizers.Tokenizer(tokenizers.models.WordLevel(words, unk_token="w0")),
        pad_token=f"w{pad}", eos_token=f"w{eos}", padding_side="left")
    assert tokenizer.pad_token_id == pad and tokenizer.eos_token_id == eos

    batches = []  # prompts padded to the left; behind the end end-of-text goes on, as generate() fills up
    for at in range(0, len(rows), ROWS):
        part = rows[at:at + ROWS]
        longest = max(len(row["prompt_ids"]) for row in part)
        queries = torch.tensor([[pad] * (longest - len(r["prompt_ids"])) + r["prompt_ids"] for r in part])
        answers = torch.tensor([r["completion_ids"] + [eos] * (length - len(r["completion_ids"])) for r in part])
        batches.append((queries, answers))

    def load(kind, name):
        return kind.from_pretrained(dirs[name], dtype=torch.float32)

    language, score = transformers.AutoModelForCausalLM, transformers.AutoModelForSequenceClassification
    config = ppo.PPOConfig(output_dir=tempfile.mkdtemp(), bf16=False, use_cpu=True, gradient_checkpointing=False,
                           report_to="none", save_strategy="no", logging_steps=1, disable_tqdm=True,
                           num_sample_generations=0, per_device_train_batch_size=ROWS, gradient_accumulation_steps=1,
                           num_mini_batches=1, num_ppo_epochs=4, total_episodes=len(rows), response_length=length,
                           stop_token="eos" if ends else None, learning_rate=learning_rate, weight_decay=0.0, **options)
    policy = load(language, "policy")
    trainer = ppo.PPOTrainer(args=config, processing_class=tokenizer, model=policy,
                             ref_model=load(language, "reference"), reward_model=load(score, "reward"),
                             value_model=load(score, "critic"),
                             train_dataset=Dataset.from_dict({"input_ids": [row["prompt_ids"] for row in rows]}))
    trainer.dataloader = [{"input_ids": queries} for queries, _ in batches]
    frames, norms, log = [], [], []
    turn = iter(batches)

    def recorded(model, queries, *_):
        same, answers = next(turn)
        assert torch.equal(queries, same)
        whole = torch.cat((queries, answers), 1)
        output = original_forward(model, whole, pad)
        return whole, output.logits[:, queries.shape[1] - 1:-1] / (config.temperature + 1e-7)

    def watched(model, *rest):
        if isinstance(model, ppo_trainer.PolicyAndValueWrapper) and len(norms) % 4 == 0:
            held = sys._getframe(1).f_locals
            frames.append({name: held[name].clone() for name in [*ARRAYS.values(), "scores", "padding_mask"]})
        return original_forward(model, *rest)

    def norm(model):
        return sum(p.grad.double().square().sum().item() for p in model.parameters() if p.grad is not None) ** 0.5

    def step(*rest, **named):
        norms.append((norm(trainer.model.policy), norm(trainer.model.value_model)))
        return original_step(*rest, **named)

    def logged(metrics, *_):
        mine = norms[-4:]
        log.append({**metrics, "grad_norm": sum(n[0] for n in mine) / 4, "val/grad_norm": sum(n[1] for n in mine) / 4})

    original_forward, original_step = ppo_trainer.forward, trainer.optimizer.step
    ppo_trainer.forward, ppo_trainer.batch_generation = watched, recorded
    trainer.optimizer.step, trainer.log = step, logged
    try:
        trainer.train()
    finally:
        ppo_trainer.forward = original_forward
    return frames, log, norms, policy


def definition(frame, lengths, options):
    """Ours, from TRL's log-probs, values and scores: reward, advantage and returns of real tokens, row by row."""
    rewards, advantages, returns = [], [], []
    for i, n in enumerate(lengths):
        logp, ref, value = (frame[name][i, :n].double().tolist() for name in ("logprobs", "ref_logprobs", "values"))
        reward = [-options["kl_coef"] * (a - b) for a, b in zip(logp, ref)]
        reward[-1] += frame["scores"][i].item()
        advantage, after, running = [0.0] * n, 0.0, 0.0
        for t in reversed(range(n)):
            running = reward[t] + options["gamma"] * after - value[t] + options["gamma"] * options["lam"] * running
            advantage[t], after = running, value[t]
        rewards.append(reward), advantages.append(advantage)
        returns.append([a + v for a, v in zip(advantage, value)])
    flat = [a for row in advantages for a in row]
    mean = sum(flat) / len(flat)
    scale = (sum((a - mean) ** 2 for a in flat) / (len(flat) - 1) + 1e-8) ** -0.5
    return rewards, [[(a - mean) * scale for a in row] for row in advantages], returns


class Verdict:
    def __init__(self):
        self.failed = 0

    def check(self, name, apart, tolerance, shown=""):
        good = apart <= tolerance
        self.failed += not good
        print(f"  {name:42} {apart:9.2e}  {'ok' if good else f'FAILED, more than {tolerance:.0e}'}{shown}")


def compare_case(name, args, verdict):
    ends, length, changes = CASES[name]
    options, rate = {**PLAIN, **changes}, 3e-4
    print(f"{name}:", flush=True)
    with tempfile.TemporaryDirectory() as work:
        dirs = make_models(work, ends)
        rows, ours, final = run_ours(args.train, dirs, work, length, options, rate)
        lengths = [len(row["completion_ids"]) for row in rows]
        short = sum(n < length for n in lengths[:ROWS])
        print(f"  {len(rows)} completions, {sum(lengths)} tokens, {short} of the first {ROWS} end before {length}")
        assert (short > 2) if ends else min(lengths) == length
        arrays, losses = run_rollout(args.rollout, dirs, work, rows[:ROWS], options)
        frames, log, norms, policy = run_trl(dirs, rows, ends, length, options, rate)
        frame = frames[0]

        # the rollout of the first update
        known = {}
        if ends:
            known = dict(zip(("reward", "advantage", "returns"), definition(frame, lengths[:ROWS], options)))
        verdict.check("score", max(abs(a["score"] - b.item()) for a, b in zip(arrays, frame["scores"])), 1e-4)
        for ours_name, trl_name in ARRAYS.items():
            apart = largest = 0.0
            for i, row in enumerate(arrays):
                theirs = known[ours_name][i] if ours_name in known else frame[trl_name][i, :lengths[i]].tolist()
                assert len(row[ours_name]) == lengths[i]
                apart = max([apart] + [abs(a - b) for a, b in zip(row[ours_name], theirs)])
                largest = max([largest] + [abs(b) for b in theirs])
            verdict.check(ours_name + (" (by definition)" if ours_name in known else ""), apart, 1e-4,
                          f"   (up to {largest:.3g})")
        verdict.check("ratio of the first pass - 1", abs(losses["ratio"] - 1), 1e-5)
        verdict.check("clip fraction of the first pass", losses["clip_fraction"], 0)
        if ends:
            return show_eos(arrays, frame, lengths, ours[0], log[0])
        advantages, errors = frame["advantages"], frame["returns"] - frame["values"]
        verdict.check("policy loss of the first pass", abs(losses["policy_loss"] + advantages.mean().item()), 1e-4)
        verdict.check("value loss of the first pass",
                      abs(losses["value_loss"] - 0.5 * errors.square().mean().item()), 1e-4)
        for k, which in enumerate(("grad_norm", "critic_grad_norm")):
            verdict.check(f"{which} of the first pass, relative", abs(losses[which] / norms[0][k] - 1), 1e-4)

        # the program
        for metric in METRICS:
            worst = 0.0
            for a, b in zip(ours, log):
                worst = max(worst, abs(a[metric] - b[metric]) / max(1, abs(b[metric])))
            values = ", ".join(f"{b[metric]:.5g}" for b in log)
            verdict.check(metric, worst, 1e-4, f"   ({values})")
        from compare_trl_sft import weights_apart
        print(f"  {'policy weights after ' + str(4 * UPDATES) + ' steps':42} {weights_apart(policy, final):9.2e}")


def show_eos(arrays, frame, lengths, ours, trl):
    """TRL's numbers beside ours for the first completion that ends early, and the metrics of the update."""
    row = min(i for i in range(ROWS) if lengths[i] < frame["values"].shape[1])
    n = lengths[row]
    print(f"  a completion of {n} tokens, the last is end-of-text; score {frame['scores'][row].item():.4f}")
    heads = f"{'advantage':>11}{'returns':>10}"
    print(f"  {'':14}{'value':>10}{'reward':>10}{heads} | TRL's{'reward':>9}{heads}")
    for t in range(max(0, n - 4), n + 1):
        place = "behind the end" if t == n else f"token {t + 1}"
        mine = "".join(f"{arrays[row][k][t]:{w}.4f}" for k, w in (("value", 10), ("reward", 10), ("advantage", 11),
                                                                 ("returns", 10))) if t < n else " " * 41
        theirs = "".join(f"{frame[k][row, t].item():{w}.4f}" for k, w in (("rewards", 14), ("advantages", 11),
                                                                         ("returns", 10)))
        extra = f"   V {frame['values'][row, t].item():.4f}" if t == n else ""
        print(f"  {place:14}{mine} |{theirs}{extra}")
    print(f"  {'metric':30}{'ours':>12}{'TRL':>12}")
    for metric in METRICS:
        print(f"  {metric:30}{ours[metric]:12.5f}{trl[metric]:12.5f}")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--train", default=os.path.join(HERE, "..", "train_ppo"))
    parser.add_argument("--rollout", default=os.path.join(HERE, "..", "build", "plain", "ppo_rollout"))
    parser.add_argument("--case", choices=CASES, help="only this one")
    parser.add_argument("--serve", nargs=2, metavar=("REWARD_MODEL", "FILE"), help=argparse.SUPPRESS)
    args = parser.parse_args()
    warnings.filterwarnings("ignore")
    if args.serve:
        return serve(*args.serve)
    import torch
    import trl
    print(f"TRL {trl.__version__}, PyTorch {torch.__version__}")
    verdict = Verdict()
    for name in [args.case] if args.case else CASES:
        compare_case(name, args, verdict)
    print("TRL and train_ppo agree" if not verdict.failed else f"{verdict.failed} comparisons FAILED")
    sys.exit(verdict.failed > 0)


if __name__ == "__main__":
    main()
