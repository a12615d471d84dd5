#!/usr/bin/env python3
"""This program beside what people run today: the same model, data, dtype, threads and machine.

    compare.py align --model DIR --posts tldr.jsonl.gz [--completions 2] [--groups 4] [--steps 3]
                     [--rivals trl,trl-precomputed,torch,torch-strong,torch-shared,torch-shared-compiled]
                     [--shape tldr|hh] [--lora-rank 16] [--base-dtype bf16]
    compare.py sft      --model DIR --posts tldr.jsonl.gz [--groups 4] [--steps 3]
    compare.py score    --model DIR --posts tldr.jsonl.gz [--completions 1] [--groups 16]
    compare.py generate --model DIR --posts tldr.jsonl.gz [--prompts 16] [--samples 8] [--tokens 64]
    compare.py table k2.json k4.json generate.json

`align` trains on K completions a prompt; the rivals are TRL's DPOTrainer (K = 2: `exo_pair`,
`sigmoid` with --loss dpo) with its reference computed in the step or before, and four PyTorch loops:

torch                  as the official code is written: the prompt again for every completion, logits of every
                       token, a second model for the reference in every step
torch-strong           logits of completions only, the reference before the first step, one model
torch-shared           the same, and a group is one row, [prompt | completion 1 | .. | completion K]: a mask lets
                       each completion see the prompt and itself. A pass takes one group
torch-shared-compiled  the same with its layers through torch.compile

So torch-strong / torch-shared is what sharing the prompt gives, and torch-shared / ours what kernels and the rest
give. The shared row must give the log-probs of the plain one, within 1e-4, before it is timed. `sft` and `score` are
beside torch-strong, on the same tokens. With `--lora-rank` both sides train adapters on all matrices of the blocks,
theirs by peft, from the same factors.

Ours and theirs run in turn, `--repeats` times, each in a process of its own. A run's time is that of the whole
process, start-up, reference scoring and saving included, and beside it that of a step. `cpu` is the ratio of
processor time, `step_cpu` that of a step's, which say more where something else runs on the machine.

`--compute bf16`: passes in bf16 here, autocast to bf16 there, weights f32 in both; for `generate` and
`score` weights kept in bf16 in both.

Printed: ratios theirs / ours (median, smallest, largest), peak memory ours / theirs, and the
largest relative difference between the losses of a step, which must not exceed 1e-3 in f32. All of it goes
to `--out` as JSON; `table` writes several of these as a table in Markdown, and a
second one with what sharing the prompt gives and what the rest gives.
"""
import argparse
import gzip
import json
import os
import random
import statistics
import subprocess
import sys
import tempfile
import threading
import time

from rivals import BETA, EPSILON

RATE = 1e-6
ADAPTER_RATE = 1e-4
RIVALS = os.path.join(os.path.dirname(os.path.abspath(__file__)), "rivals.py")
ALPHA = 16  # of adapters, on both sides


# What is compared: rows of text.


def posts(path):
    opened = gzip.open(path, "rt", encoding="utf-8") if path.endswith(".gz") else open(path, encoding="utf-8")
    with opened as lines:
        return [json.loads(line) for line in lines if line.strip()]


def tldr_rows(rows, tokenizer, count, completions, low, high):
    """Posts whose prompt has between `low` and `high` tokens; completions are summaries, the post's own first."""
    rng = random.Random(0)
    summaries = [row["summary"] for row in rows]
    chosen = []
    for row in rows:
        prompt = f"SUBREDDIT: r/{row['subreddit']}\nTITLE: {row['title']}\nPOST: {row['post']}\nTL;DR:"
        if low <= len(tokenizer(prompt)["input_ids"]) <= high:
            others = rng.sample(summaries, completions - 1)
            texts = [" " + text.strip() for text in [row["summary"], *others]]
            rewards = [1.0] + [round(rng.random(), 3) for _ in others]
            chosen.append({"prompt": prompt, "completions": texts, "rewards": rewards})
        if len(chosen) == count:
            return chosen
    sys.exit(f"only {len(chosen)} posts of {low} to {high} tokens; {count} are needed")


def dialogue_rows(rows, tokenizer, count, low, high):
    """Pairs of whole dialogues, cut where they part."""
    chosen = []
    for row in rows:
        common = os.path.commonprefix([row["chosen"], row["rejected"]])
        cut = common.rfind("\n\nAssistant:") + len("\n\nAssistant:")
        prompt, texts = common[:cut], [row["chosen"][cut:], row["rejected"][cut:]]
        sizes = [len(tokenizer(text)["input_ids"]) for text in [prompt, *texts]]
        if cut > 20 and all(low <= size <= high for size in sizes):
            chosen.append({"prompt": prompt, "completions": texts, "rewards": [1.0, 0.0]})
        if len(chosen) == count:
            return chosen
    sys.exit(f"only {len(chosen)} dialogues of {low} to {high} tokens a part; {count} are needed")


def write_rows(path, rows, pairs):
    with open(path, "w", encoding="utf-8") as out:
        for row in rows:
            if pairs:
                first, second = row["completions"]
                row = {"prompt": row["prompt"], "chosen": first, "rejected": second}
            out.write(json.dumps(row) + "\n")


# The contestants. Each prints one JSON line a step with `loss` and `seconds`.


def processor_seconds(process):
    """What a running process has used so far; none where the system does not say."""
    try:
        with open(f"/proc/{process}/stat", encoding="utf-8") as stat:
            user, system = stat.read().rpartition(")")[2].split()[11:13]
    except (OSError, ValueError):
        return None
    return (int(user) + int(system)) / os.sysconf("SC_CLK_TCK")


def watch_steps(process, metrics, seen):
    """Notes the processor time at which each line of `metrics` was there, until the process ends."""
    while (used := processor_seconds(process)) is not None and len(seen) < 1000:
        if os.path.exists(metrics):
            with open(metrics, "rb") as lines:
                seen += [used] * (lines.read().count(b"\n") - len(seen))
        time.sleep(0.02)


def child(arguments, environment=None, metrics=None):
    """Runs a process; its lines, seconds by the clock and of the processors, peak memory.

    `metrics` is a file in which it writes a line a step.
    """
    began = time.perf_counter()
    seen = []
    with tempfile.TemporaryFile() as errors:
        process = subprocess.Popen(arguments, stdout=subprocess.PIPE, stderr=errors, env=environment)
        if metrics:
            threading.Thread(target=watch_steps, args=(process.pid, metrics, seen), daemon=True).start()
        text = process.stdout.read().decode()
        _, status, usage = os.wait4(process.pid, 0)
        seconds = time.perf_counter() - began
        if os.waitstatus_to_exitcode(status) != 0:
            errors.seek(0)
            sys.exit(f"{' '.join(arguments)}\n{errors.read().decode()[-3000:]}")
    lines = [json.loads(line) for line in text.splitlines() if line.startswith('{"')]
    return {"lines": lines, "seconds": seconds, "cpu_seconds": usage.ru_utime + usage.ru_stime,
            "peak_bytes": usage.ru_maxrss * 1024, "cpu_at_lines": seen}


def settings_of(a):
    return {
        "training.learning_rate": a.rate, "training.batch_size": a.groups, "training.micro_batch_size": a.micro,
        "training.max_steps": a.steps, "optimizer.schedule": "constant", "optimizer.betas": "[0.9, 0.999]",
        "optimizer.epsilon": "1e-8", "data.shuffle": "false", "checkpoint.every": 0, "training.compute": a.compute,
    }


def train_ours(a, command, settings, scratch):
    out = tempfile.mkdtemp(dir=scratch)
    command = [a.binary, "-q", *command, "--model", a.model, "--out", out]
    command += [part for key, value in settings.items() for part in ("--set", f"{key}={value}")]
    # A store of its own, so that the reference is scored in every run.
    environment = {**os.environ, "EXALIGN_CACHE": tempfile.mkdtemp(dir=scratch), "RAYON_NUM_THREADS": str(a.threads)}
    if a.lora_rank:
        command += ["--lora-rank", str(a.lora_rank), "--lora-alpha", str(ALPHA)]
    if a.base_dtype:
        command += ["--base-dtype", a.base_dtype]
    metrics = os.path.join(out, "metrics.jsonl")
    result = child(command, environment, metrics)
    with open(metrics, encoding="utf-8") as lines:
        result["lines"] = [json.loads(line) for line in lines]
    at = result.pop("cpu_at_lines")
    for index in range(1, len(at)):
        result["lines"][index]["cpu_seconds"] = at[index] - at[index - 1]
    result["out"] = out
    return result


def first_adapter(a, rows, scratch):
    """The folder of the adapter that ours starts from: the first step cannot change its factors A, since B is zero."""
    from peft import PeftConfig
    from safetensors.torch import load_file, save_file

    one = argparse.Namespace(**{**vars(a), "groups": 1, "micro": 1, "steps": 1})
    folder = os.path.join(run_ours(one, rows[:1], scratch)["out"], "model")
    assert PeftConfig.from_pretrained(folder).r == a.lora_rank
    path = os.path.join(folder, "adapter_model.safetensors")
    factors = load_file(path)
    save_file({name: factor if "lora_A" in name else factor * 0 for name, factor in factors.items()}, path, {"format": "pt"})
    return folder


def run_ours(a, rows, scratch):
    data = os.path.join(scratch, "rows.jsonl")
    if a.comparison == "sft":
        with open(data, "w", encoding="utf-8") as out:
            out.writelines(json.dumps({"prompt": row["prompt"], "chosen": row["completions"][0]}) + "\n" for row in rows)
        return train_ours(a, ["sft", "--data", data], settings_of(a), scratch)
    if a.comparison == "score":
        write_rows(data, rows, pairs=False)
        out = os.path.join(tempfile.mkdtemp(dir=scratch), "scores.jsonl")
        command = [a.binary, "-q", "score", "--model", a.model, "--data", data, "--out", out, "--dtype", a.compute]
        result = child(command, {**os.environ, "RAYON_NUM_THREADS": str(a.threads)})
        with open(out, encoding="utf-8") as lines:
            sums = [sum(json.loads(line)["log_probs"]) for line in lines]
        result["lines"] = [{"loss": -statistics.fmean(sums), "seconds": result["seconds"]}]
        return result
    objective = {"exo": "exo-pref", "dpo": "dpo"}[a.loss] if a.completions == 2 else {"exo": "exo-rw", "dpo": "dpo-rw"}[a.loss]
    write_rows(data, rows, pairs=a.completions == 2)
    settings = {
        **settings_of(a), "objective.beta_policy": BETA, "objective.temperature": 1.0,
        # Those that the objective reads.
        **({"objective.beta_reward": BETA} if objective.endswith("-rw") else {}),
        **({"objective.epsilon": EPSILON} if objective == "exo-pref" else {}),
    }
    return train_ours(a, ["align", "--objective", objective, "--data", data], settings, scratch)


def rival_environment(a):
    # Threads that wait without turning, which costs processor time and gains nothing beside other work.
    return {**os.environ, "HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false", "OMP_NUM_THREADS": str(a.threads),
            "OMP_WAIT_POLICY": "passive"}


def run_rival(name, a, rows, scratch, adapter=None, check=False):
    data = os.path.join(scratch, f"{name}.jsonl")
    write_rows(data, rows, pairs=name.startswith("trl"))
    micro = 1 if name.startswith("torch-shared") else a.rival_micro
    settings = {"name": name, "task": a.comparison, "compute": a.compute, "model": a.model, "data": data, "loss": a.loss,
                "rate": a.rate, "adapter": adapter, "base_dtype": a.base_dtype, "check": check, "groups": a.groups,
                "micro": micro, "steps": a.steps, "threads": a.threads, "out": tempfile.mkdtemp(dir=scratch)}
    return child([sys.executable, RIVALS, json.dumps(settings)], rival_environment(a))


# The comparisons.


def spread(values):
    return {"median": statistics.median(values), "smallest": min(values), "largest": max(values)}


def of_step(result, what):
    """The mean over steps, without the first where there are others; none where a step lacks it."""
    lines = result["lines"][1:] or result["lines"]
    return statistics.fmean(line[what] for line in lines) if all(what in line for line in lines) else None


def compare_trainings(a):
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(a.model)
    count = a.groups * a.steps
    if a.shape == "hh":
        rows = dialogue_rows(posts(a.posts), tokenizer, count, 100, 200)
    else:
        rows = tldr_rows(posts(a.posts), tokenizer, count, a.completions, a.low, a.high)
    if a.comparison != "align":
        a.rivals = "torch-strong"
    rivals = [name for name in a.rivals.split(",") if name and (not name.startswith("trl") or a.completions == 2 and not a.lora_rank)]
    results = {name: [] for name in ["ours", *rivals]}
    with tempfile.TemporaryDirectory() as scratch:
        adapter = first_adapter(a, rows, scratch) if a.lora_rank else None
        if any(name.startswith("torch-shared") for name in rivals):
            check = run_rival("torch-shared", a, rows[:1], scratch, adapter, check=True)
            print(f"log-probs of torch-shared and torch-strong differ by {check['lines'][0]['difference']:.1e}", flush=True)
        for _ in range(a.repeats):
            for name in results:
                result = run_ours(a, rows, scratch) if name == "ours" else run_rival(name, a, rows, scratch, adapter)
                results[name].append(result)
                cpu = of_step(result, "cpu_seconds")
                print(f"{name}: {result['seconds']:.1f} s ({result['cpu_seconds']:.1f} s of processors), {of_step(result, 'seconds'):.2f} s a step "
                      f"({'?' if cpu is None else round(cpu, 2)} s of processors), {result['peak_bytes'] / 1e9:.2f} GB, "
                      f"losses {[round(line['loss'], 6) for line in result['lines']]}", flush=True)
    report = {"comparison": a.comparison, "compute": a.compute, "completions": a.completions, "groups": a.groups, "steps": a.steps, "shape": a.shape,
              "loss": a.loss, "lora_rank": a.lora_rank, "base_dtype": a.base_dtype, "threads": a.threads, "results": results, "ratios": {}}
    for name in rivals:
        pairs = list(zip(results["ours"], results[name]))
        differences = [abs(mine["loss"] - theirs["loss"]) / abs(theirs["loss"])
                       for one, other in pairs for mine, theirs in zip(one["lines"], other["lines"])]
        report["ratios"][name] = {
            "whole": spread([other["seconds"] / one["seconds"] for one, other in pairs]),
            "cpu": spread([other["cpu_seconds"] / one["cpu_seconds"] for one, other in pairs]),
            "step": spread([of_step(other, "seconds") / of_step(one, "seconds") for one, other in pairs]),
            "memory": spread([one["peak_bytes"] / other["peak_bytes"] for one, other in pairs]),
            "largest_loss_difference": max(differences),
        }
        steps = [(of_step(one, "cpu_seconds"), of_step(other, "cpu_seconds")) for one, other in pairs]
        if all(one and other for one, other in steps):
            report["ratios"][name]["step_cpu"] = spread([other / one for one, other in steps])
    return report


def compare_generate(a):
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(a.model)
    rows = tldr_rows(posts(a.posts), tokenizer, a.prompts, 1, 200, 320)
    results = {"ours": [], "transformers": []}
    with tempfile.TemporaryDirectory() as scratch:
        data = os.path.join(scratch, "prompts.jsonl")
        with open(data, "w", encoding="utf-8") as out:
            out.writelines(json.dumps({"prompt": row["prompt"]}) + "\n" for row in rows)
        tokens = a.prompts * a.samples * a.tokens
        for repeat in range(a.repeats):
            command = [a.binary, "-q", "--set", "generation.ignore_eos=true", "--set", f"generation.batch_size={a.prompts}",
                       "sample", "--model", a.model, "--data", data, "--out", os.path.join(scratch, f"{repeat}.jsonl"),
                       "--completions", str(a.samples), "--dtype", a.compute, "--temperature", "0.8", "--max-new-tokens", str(a.tokens)]
            results["ours"].append(child(command, {**os.environ, "RAYON_NUM_THREADS": str(a.threads)}))
            settings = {"name": "generate", "compute": a.compute, "model": a.model, "data": data, "samples": a.samples, "tokens": a.tokens, "threads": a.threads}
            theirs = child([sys.executable, RIVALS, json.dumps(settings)], {**os.environ, "HF_HUB_OFFLINE": "1"})
            # Theirs without its start-up, which ours includes.
            theirs["seconds"] = theirs["lines"][-1]["seconds"]
            results["transformers"].append(theirs)
            print(*(f"{name}: {tokens / runs[-1]['seconds']:.1f} tokens/s, {runs[-1]['peak_bytes'] / 1e9:.2f} GB"
                    for name, runs in results.items()), sep="\n", flush=True)
    pairs = list(zip(results["ours"], results["transformers"]))
    ratios = {"tokens_per_second": spread([other["seconds"] / one["seconds"] for one, other in pairs]),
              "memory": spread([one["peak_bytes"] / other["peak_bytes"] for one, other in pairs])}
    return {"comparison": "generate", "compute": a.compute, "prompts": a.prompts, "samples": a.samples, "tokens": a.tokens, "threads": a.threads,
            "results": results, "ratios": {"transformers": ratios}}


def table(paths):
    print("| | rival | whole run | a step | processors | processors, a step | memory, ours / theirs | losses differ by |")
    print("|---|---|---|---|---|---|---|---|")
    for path in paths:
        with open(path, encoding="utf-8") as file:
            report = json.load(file)
        what = f"K = {report['completions']}, {report['shape']}" + (f", rank {report['lora_rank']}" if report.get("lora_rank") else "") if report["comparison"] == "align" else f"{report['prompts']} × {report['samples']} × {report['tokens']} tokens"
        for rival, ratios in report["ratios"].items():
            def cell(key):
                if key not in ratios:
                    return ""
                ratio = ratios[key]
                return f"{ratio['median']:.2f}" + (f" ({ratio['smallest']:.2f}–{ratio['largest']:.2f})" if ratio["smallest"] != ratio["largest"] else "")
            whole = cell("whole") or cell("tokens_per_second")
            difference = f"{ratios['largest_loss_difference']:.0e}" if "largest_loss_difference" in ratios else ""
            print(f"| {what} | {rival} | {whole} | {cell('step')} | {cell('cpu')} | {cell('step_cpu')} | {cell('memory')} | {difference} |")


def table_of_shares(paths):
    """Where a comparison has both loops: theirs / ours as a product of what sharing gives and what the rest gives."""
    print("\n| | from sharing the prompt | from kernels and the rest | both |")
    print("|---|---|---|---|")
    for path in paths:
        with open(path, encoding="utf-8") as file:
            report = json.load(file)
        strong, shared = (report["ratios"].get(name) for name in ("torch-strong", "torch-shared"))
        if not (strong and shared):
            continue
        adapters = f", rank {report['lora_rank']}" if report.get("lora_rank") else ""
        for key, what in (("cpu", "processors, whole run"), ("step_cpu", "processors, a step"), ("memory", "memory")):
            if key in strong and key in shared:
                both, rest = strong[key]["median"], shared[key]["median"]
                print(f"| K = {report['completions']}{adapters}, {what} | {both / rest:.2f} | {rest:.2f} | {both:.2f} |")


def main():
    if sys.argv[1:2] == ["table"]:
        table(sys.argv[2:])
        return table_of_shares(sys.argv[2:])
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("comparison", choices=["align", "sft", "score", "generate"])
    p.add_argument("--model", required=True, help="a Hugging Face folder")
    p.add_argument("--posts", required=True, help="JSON Lines: posts with summaries, or with --shape hh dialogues")
    p.add_argument("--binary", default="target/release/exalign")
    p.add_argument("--threads", type=int, default=os.cpu_count())
    p.add_argument("--repeats", type=int, default=1)
    p.add_argument("--out", help="where the JSON goes")
    p.add_argument("--compute", choices=["f32", "bf16"], default="f32")
    p.add_argument("--completions", type=int, help="K; 2, of sft and score 1")
    p.add_argument("--groups", type=int, default=4, help="prompts a step")
    p.add_argument("--steps", type=int, help="3; of score 1")
    p.add_argument("--micro", type=int, default=4, help="prompts at once, ours")
    p.add_argument("--rival-micro", type=int, default=4, help="prompts at once, theirs")
    p.add_argument("--loss", choices=["exo", "dpo"], default="exo")
    p.add_argument("--shape", choices=["tldr", "hh"], default="tldr")
    p.add_argument("--low", type=int, default=300, help="shortest prompt of a post, in tokens")
    p.add_argument("--high", type=int, default=400, help="longest prompt of a post, in tokens")
    p.add_argument("--rivals", default="trl,trl-precomputed,torch,torch-strong,torch-shared")
    p.add_argument("--lora-rank", type=int, default=0, help="align: train adapters of this rank and no other weights")
    p.add_argument("--base-dtype", choices=["bf16"], help="align with --lora-rank: type of the frozen weights")
    p.add_argument("--prompts", type=int, default=16)
    p.add_argument("--samples", type=int, default=8)
    p.add_argument("--tokens", type=int, default=64)
    a = p.parse_args()
    a.completions = a.completions or (2 if a.comparison == "align" else 1)
    if a.base_dtype and not a.lora_rank:
        p.error("--base-dtype is the type of frozen weights: give --lora-rank as well")
    a.rate = ADAPTER_RATE if a.lora_rank else RATE
    a.steps = a.steps or (1 if a.comparison == "score" else 3)
    report = compare_generate(a) if a.comparison == "generate" else compare_trainings(a)
    print(json.dumps(report["ratios"], indent=1))
    if a.out:
        with open(a.out, "w", encoding="utf-8") as out:
            json.dump(report, out, indent=1)
    far = 1e-3 if a.compute == "f32" and not a.base_dtype else float("inf")  # in bf16 each rounds in its own way
    too_far = [name for name, ratios in report["ratios"].items() if ratios.get("largest_loss_difference", 0) > far]
    if too_far:
        sys.exit(f"losses differ by more than 1e-3 from: {', '.join(too_far)}")


if __name__ == "__main__":
    main()
