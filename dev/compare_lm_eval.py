"""Compare evaluate --benchmark with lm-evaluation-harness, item by item.

    python dev/compare_lm_eval.py --data SHARED [--model DIR ...] [--items 500] [--time]

Needs torch, transformers and lm-eval (pip install lm-eval==0.4.13), and a folder with mcq/, lambada/, blimp/ and bbh/
as JSONL (docs/benchmarks.md says where the files are from) and gpt2_tokenizer/ beside it or in it. Without --model it
takes data/sft, which has learnt to write film reviews, and makes two GPT-2s with random weights that are far from
uniform (dev/make_gpt2.py --rough): one with a context of 1,024 and one of 64, in which many items lose their
beginning. Both programs read the same directory and the same local files, offline. The exit code is the verdict on

1. every way to go on of every item: log-likelihood within 1e-4 relative (or 1e-6 nats, see FLOOR), and whether greedy;
2. the choice among them (by sum, and by characters as acc_norm has it), where lm-eval's two best are further apart
   than that bound, and acc, acc_norm and perplexity;
3. answers that are written greedily: the same texts, answers and exact matches (BIG-Bench Hard), where a text stays
   the same up to a near tie of two tokens;
4. pass@k, against binomial coefficients as exact fractions.

--time: seconds of the processor that both take for the same items, model and tokenizer loaded, on as many threads as
OMP_NUM_THREADS says (of lm-eval without the import of its packages).
"""
import argparse
import contextlib
import fractions
import gzip
import io
import json
import logging
import math
import os
import resource
import subprocess
import sys
import tempfile
import time

os.environ.update(HF_HUB_OFFLINE="1", HF_DATASETS_OFFLINE="1", TRANSFORMERS_OFFLINE="1", TOKENIZERS_PARALLELISM="false")
os.environ.setdefault("OMP_NUM_THREADS", "2")
import torch

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, HERE)
BOUND = 1e-4
# A log-prob near 0 is a small difference of float32 numbers of the logits' size (PyTorch's log_softmax as ours): it has
# no relative accuracy, but an absolute one.
FLOOR = 1e-6

# benchmark: file, how many items of it (a factor of --items), and the task for lm-eval. Options bear the blank that
# lm-eval's own tasks put between prompt and choice; it is not one of the choice's characters.
CHOICE = {"output_type": "multiple_choice", "doc_to_text": "{{prompt}}", "doc_to_target": "answer",
          "doc_to_choice": "choices", "target_delimiter": " ", "metrics": ("acc", "acc_norm")}
TASKS = {
    "arc_easy": ("mcq/arc_easy.jsonl", CHOICE),
    "piqa": ("mcq/piqa.jsonl", CHOICE),
    "boolq": ("mcq/boolq.jsonl", CHOICE),
    "winogrande": ("mcq/winogrande.jsonl", {
        "output_type": "multiple_choice", "doc_to_text": "answer", "doc_to_target": "{{completion}}",
        "doc_to_choice": "options_prompts", "target_delimiter": "", "metrics": ("acc",)}),
    "blimp": ("blimp/blimp.jsonl.gz", {
        "output_type": "multiple_choice", "doc_to_text": "", "doc_to_target": 0,
        "doc_to_choice": "{{[chosen, rejected]}}", "target_delimiter": "", "metrics": ("acc",)}),
    "blimp_blank": ("blimp/blimp.jsonl.gz", {  # as lm-eval's own task has it: a blank before the sentence
        "output_type": "multiple_choice", "doc_to_text": "", "doc_to_target": 0,
        "doc_to_choice": "{{[chosen, rejected]}}", "target_delimiter": " ", "metrics": ("acc",)}),
    "lambada": ("lambada/lambada_openai_test.jsonl", {
        "output_type": "loglikelihood", "doc_to_text": "{{prompt}}", "doc_to_target": "{{completion}}",
        "target_delimiter": "", "metrics": ("perplexity", "acc")}),
    "reviews": ("reviews", {
        "output_type": "loglikelihood", "doc_to_text": "{{prompt}}", "doc_to_target": "{{completion}}",
        "target_delimiter": "", "metrics": ("perplexity", "acc")}),
    "written": ("reviews", {
        "output_type": "generate_until", "doc_to_text": "{{prompt}}", "doc_to_target": "{{answer}}",
        "generation_kwargs": {"until": [".", "\n"], "do_sample": False, "max_gen_toks": 12},
        "filter_list": [{"name": "last", "filter": [{"function": "remove_whitespace"}, {"function": "take_first"}]}],
        "metrics": ("exact_match",)}),
    "blanks": ("blanks", {**CHOICE, "doc_to_choice": "options", "target_delimiter": "", "metrics": ("acc",)}),
    "bbh": ("bbh/bbh_eval.jsonl", {
        "output_type": "generate_until", "doc_to_text": "{{prompt}}", "doc_to_target": "{{answer}}",
        "generation_kwargs": {"until": ["\n"], "do_sample": False, "max_gen_toks": 12},
        "filter_list": [{"name": "last", "filter": [
            {"function": "regex", "regex_pattern": "([A-Za-z]+)", "group_select": -1}, {"function": "take_first"}]}],
        "metrics": ("exact_match",)}),
}
FLAGS = {"blimp_blank": ["--target_delimiter", " "],
         "written": ["--max_new_tokens", "12", "--stop", ".|\\n"],
         "bbh": ["--max_new_tokens", "12", "--stop", "\\n", "--answer_pattern", "([A-Za-z]+)"]}
# prompts that end in white space of all kinds, or are empty; continuations that merge with what is before them
BLANKS = [{"prompt": p, "options": o, "answer": 1} for p in (
    "The answer is ", "The answer is\n", "Two  ", "\tx\u00a0", "It was a wonder", "", "One. \u3000", "caf\u00e9 ")
    for o in ([" yes", " no, never"], ["ful day", " day"], ["\n\nnext", " na\u00efve \u4f60\u597d"])]


def rows_of(path):
    with (gzip.open if path.endswith(".gz") else open)(path, "rt", encoding="utf-8") as f:
        return [json.loads(line) for line in f]


def reviews(name):
    """The last words of film reviews, or the last sentences, as answers to be written."""
    rows = []
    for row in rows_of(os.path.join(HERE, "..", "data", "reviews_eval.jsonl"))[:400]:
        text = row["prompt"] + row["completion"]
        if name == "reviews":
            cut = text.rindex(" ")
            rows.append({"prompt": text[:cut], "completion": text[cut:]})
        elif ". " in text:
            cut = text.rindex(". ") + 2
            word = text.index(" ", cut)
            rows.append({"prompt": text[:word], "answer": text[word + 1:-1]})
    return rows


def spread(rows, n):
    return rows if len(rows) <= n else [rows[i * len(rows) // n] for i in range(n)]


def write_items(work, data, items, names):
    """The files that evaluate reads."""
    for name in names:
        path = TASKS[name][0]
        rows = (BLANKS if path == "blanks" else reviews(name) if path == "reviews" else
                rows_of(os.path.join(data, path)))
        rows = spread(rows, min(items, 60) if TASKS[name][1]["output_type"] == "generate_until" else items)
        with open(os.path.join(work, name + ".jsonl"), "w") as f:
            f.writelines(json.dumps(row) + "\n" for row in rows)


def write_tasks(work, names, refused):
    """The same for lm-eval, without the lines that evaluate has refused."""
    for name in names:
        task = TASKS[name][1]
        rows = [row for i, row in enumerate(rows_of(os.path.join(work, name + ".jsonl"))) if i + 1 not in refused[name]]
        for row in rows:  # without the blank, which is lm-eval's target_delimiter
            if "options" in row and task["target_delimiter"] == " ":
                row["choices"] = [o.removeprefix(" ") for o in row["options"]]
        with open(os.path.join(work, name + "_lm.jsonl"), "w") as f:
            f.writelines(json.dumps(row) + "\n" for row in rows)
        config = {k: v for k, v in task.items() if k != "metrics"}
        config.update(task="ours_" + name, dataset_path="json", test_split="test", num_fewshot=0,
                      dataset_kwargs={"data_files": {"test": os.path.join(work, name + "_lm.jsonl")}},
                      metric_list=[{"metric": m} for m in task["metrics"]])
        with open(os.path.join(work, name + ".yaml"), "w") as f:
            json.dump(config, f)  # JSON is YAML


def refusals(verdict, work, model, name, lines):
    """Lines of the file that evaluate cannot use: lm-eval would stop at their continuations."""
    import transformers
    errors = {line["line"]: line["error"] for line in lines if "error" in line}
    if errors:
        tokenizer = transformers.AutoTokenizer.from_pretrained(model)
        context = transformers.AutoConfig.from_pretrained(model).n_positions
        rows = rows_of(os.path.join(work, name + ".jsonl"))
        longest = {i: max(len(tokenizer(o).input_ids) for o in rows[i - 1]["options"]) for i in errors}
        verdict.say(all(n > context for n in longest.values()),
                    f"{name}: {len(errors)} items refused, whose continuations are longer than the context")
    return set(errors)


def theirs(work, model, names, batch_size):
    import lm_eval
    from lm_eval.tasks import TaskManager
    manager = TaskManager(include_path=work, include_defaults=False)
    logging.disable(logging.WARNING)
    with contextlib.redirect_stderr(io.StringIO()):
        results = lm_eval.simple_evaluate(model="hf", model_args={"pretrained": model, "dtype": "float32"},
                                          device="cpu", tasks=["ours_" + name for name in names],
                                          task_manager=manager, batch_size=batch_size, log_samples=True,
                                          bootstrap_iters=0)
    for samples in results["samples"].values():
        samples.sort(key=lambda s: s["doc_id"])
    return results


def ours(program, work, model, name, *flags):
    out = os.path.join(work, "results.json"), os.path.join(work, "samples.out")
    subprocess.run([program, "--models", model, "--benchmark", os.path.join(work, name + ".jsonl"), "--output", out[0],
                    "--samples_file", out[1], "--overwrite_output", *FLAGS.get(name, []), *flags], check=True,
                   stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    with open(out[0]) as f, open(out[1]) as g:
        return json.load(f)["benchmarks"][0]["models"][0], [json.loads(line) for line in g]


def children_time():
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


class Verdict:
    def __init__(self):
        self.failed = 0

    def say(self, ok, *what):
        print("ok      " if ok else "FAILED  ", *what, flush=True)
        self.failed += not ok

    def near(self, what, a, b, bound=BOUND):
        self.say(abs(a - b) <= bound * abs(b) + 1e-9, f"{what}: evaluate {a:.6g}, lm-eval {b:.6g}")


def clear_best(values):
    """The index of the greatest, or None where the next one is within the bound: then it is anybody's."""
    order = sorted(range(len(values)), key=lambda i: -values[i])
    near = abs(values[order[0]] - values[order[1]]) <= 2 * BOUND * abs(values[order[0]])
    return None if near else order[0]


def compare_likelihoods(verdict, name, mine, lines, samples, metrics):
    worst, n, greedy, choices, tied, small = 0, 0, 0, 0, 0, 0
    for line, sample in zip(lines, samples, strict=True):
        pairs = [r[0] for r in sample["resps"]] if isinstance(sample["resps"][0][0], (list, tuple)) else sample["resps"]
        a, b = line["log_likelihoods"], [float(p[0]) for p in pairs]
        for x, y in zip(a, b, strict=True):
            n += 1
            if abs(x - y) > BOUND * abs(y) and abs(x - y) <= FLOOR:
                small += 1
            else:
                worst = max(worst, abs(x - y) / abs(y))
        greedy += line["greedy"] != [p[1] in (True, "True") for p in pairs]
        if len(b) > 1:
            best = clear_best(b)
            tied += best is None
            choices += best is not None and line["choice"] != best
    verdict.say(worst <= BOUND, f"{name}: {n} log-likelihoods, largest relative difference {worst:.1e}"
                                + (f", but for {small} near 0 that are within {FLOOR:g} nats" if small else ""))
    said = sum(sum(line["greedy"]) for line in lines)
    verdict.say(greedy == 0, f"{name}: {said} greedy continuations, {greedy} items differ")
    if len(lines[0]["log_likelihoods"]) > 1:
        verdict.say(choices == 0, f"{name}: choices, {choices} items differ; {tied} have two best within the bound")
    for key in metrics:
        if key == "perplexity":
            verdict.near(f"{name}: perplexity", mine["perplexity"], metrics[key], 1e-3)
        else:  # an item whose two best cannot be told apart may be right here and wrong there
            a = mine[key]["mean"]
            verdict.say(abs(a - metrics[key]) <= 1e-9 + tied / len(lines),
                        f"{name}: {key}: evaluate {a:.6f}, lm-eval {metrics[key]:.6f}")


def compare_answers(verdict, name, model, lines, samples, exact):
    """A text that differs must have parted where two tokens were as good as equal."""
    import transformers
    tokenizer = transformers.AutoTokenizer.from_pretrained(model)
    policy, other, found = None, 0, 0
    for line, sample in zip(lines, samples, strict=True):
        a, b = line["completions"][0], sample["resps"][0][0]
        if a == b:
            found += line["found"][0] != sample["filtered_resps"][0] and sample["filtered_resps"][0] != "[invalid]"
            continue
        if policy is None:
            policy = transformers.AutoModelForCausalLM.from_pretrained(model, dtype=torch.float32).eval()
        x, y = tokenizer(a).input_ids, tokenizer(b).input_ids
        k = next((i for i in range(min(len(x), len(y))) if x[i] != y[i]), min(len(x), len(y)))
        ids = tokenizer(sample["doc"]["prompt"]).input_ids[12 - policy.config.n_positions:] + x[:k]
        with torch.no_grad():
            top = policy(torch.tensor([ids])).logits[0, -1].topk(2).values
        other += (top[0] - top[1]).item() > 1e-3
    verdict.say(other == 0, f"{name}: {len(lines)} texts, {other} differ without a near tie")
    verdict.say(found == 0, f"{name}: answers found by the pattern, {found} differ")
    mine = sum(line["right"] for line in lines) / len(lines)
    parted = sum(line["completions"][0] != sample["resps"][0][0] for line, sample in zip(lines, samples))
    verdict.say(abs(mine - exact) <= 1e-9 + parted / len(lines),
                f"{name}: exact match: evaluate {mine:.6f}, lm-eval {exact:.6f}")


def compare_pass(verdict, program, work, model):
    """pass@k of samples, counted again."""
    path = os.path.join(work, "pass.jsonl")
    with open(path, "w") as f:  # answers that a random model hits by chance
        f.writelines(json.dumps({"prompt": f"{i} and {i + 1} are", "answer": list("aeio")}) + "\n" for i in range(24))
    n, ks = 12, (1, 3, 7, 12)
    mine, lines = ours(program, work, model, "pass", "--num_return_sequences", str(n), "--max_new_tokens", "3",
                       "--pass_k", ",".join(map(str, ks)), "--answer_pattern", "[a-z]")
    total = [fractions.Fraction(0)] * len(ks)
    for line in lines:
        c = sum(answer in tuple("aeio") for answer in line["found"])
        verdict.failed += c != line["right"]
        for i, k in enumerate(ks):
            total[i] += 1 - fractions.Fraction(math.comb(n - c, k), math.comb(n, k))
    for i, k in enumerate(ks):
        exact, got = float(total[i] / len(lines)), mine["pass"][i]["mean"]
        verdict.say(abs(exact - got) < 1e-8, f"pass@{k} of {n} samples: evaluate {got:.9f}, exact {exact:.9f}")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", required=True)
    parser.add_argument("--model", action="append")
    parser.add_argument("--items", type=int, default=500)
    parser.add_argument("--batch_size", type=int, default=16, help="of lm-eval")
    parser.add_argument("--tasks", help="some of " + ",".join(TASKS))
    parser.add_argument("--program", default=os.path.join(HERE, "..", "evaluate"))
    parser.add_argument("--time", action="store_true")
    args = parser.parse_args()
    torch.set_num_threads(int(os.environ["OMP_NUM_THREADS"]))
    data = os.path.join(args.data, "data") if os.path.isdir(os.path.join(args.data, "data")) else args.data
    names = args.tasks.split(",") if args.tasks else list(TASKS)
    verdict = Verdict()
    with tempfile.TemporaryDirectory() as work:
        models = args.model or [os.path.join(HERE, "..", "data", "sft")]
        if not args.model:
            import make_gpt2
            vocab = next(v for v in (os.path.join(args.data, "gpt2_tokenizer"),
                                     os.path.join(args.data, "..", "gpt2_tokenizer")) if os.path.isdir(v))
            for name, positions in (("long", 1024), ("short", 64)):
                models.append(os.path.join(work, name))
                make_gpt2.make(models[-1], size="small", vocab_dir=vocab, rough=True, n_positions=positions)
        write_items(work, data, args.items, names)
        for model in models:
            print(f"\n{model}", flush=True)
            found = {name: ours(args.program, work, model, name) for name in names}
            write_tasks(work, names, {name: refusals(verdict, work, model, name, found[name][1]) for name in names})
            results = theirs(work, model, names, args.batch_size)
            for name in names:
                task = "ours_" + name
                mine, lines = found[name][0], [line for line in found[name][1] if "error" not in line]
                samples, all_metrics = results["samples"][task], results["results"][task]
                metrics = {m: all_metrics[m + ",none"] for m in TASKS[name][1]["metrics"] if m + ",none" in all_metrics}
                if TASKS[name][1]["output_type"] == "generate_until":
                    compare_answers(verdict, name, model, lines, samples, all_metrics["exact_match,last"])
                else:
                    compare_likelihoods(verdict, name, mine, lines, samples, metrics)
                    print(f"         {mine['cut']} items lost their beginning, {mine['joined']} are tokenised otherwise "
                          "in training")
            compare_pass(verdict, args.program, work, model)
            if args.time:
                for name in names:
                    begin = time.process_time()
                    theirs(work, model, [name], args.batch_size)
                    a, begin = time.process_time() - begin, children_time()
                    ours(args.program, work, model, name)
                    b = children_time() - begin
                    print(f"time     {name}: lm-eval {a:.1f} s, evaluate {b:.1f} s, {a / b:.1f} times as long", flush=True)
    print("\nall agree" if not verdict.failed else f"\n{verdict.failed} disagree")
    return 1 if verdict.failed else 0


if __name__ == "__main__":
    sys.exit(main())
