#!/usr/bin/env python3
"""This program beside what people run today: the same model, data, dtype, threads and machine.

    compare.py align --model DIR --posts tldr.jsonl.gz [--completions 2] [--groups 4] [--steps 3]
                     [--rivals trl,trl-precomputed,torch,torch-strong] [--shape tldr|hh]
    compare.py sft      --model DIR --posts tldr.jsonl.gz [--groups 4] [--steps 3]
    compare.py score    --model DIR --posts tldr.jsonl.gz [--completions 1] [--groups 16]
    compare.py generate --model DIR --posts tldr.jsonl.gz [--prompts 16] [--samples 8] [--tokens 64]
    compare.py table k2.json k4.json generate.json

`align` trains on K completions a prompt; the rivals are TRL's DPOTrainer (K = 2: `exo_pair`,
`sigmoid` with --loss dpo) with its reference computed in the step or before, and a plain PyTorch
loop, as the official code is written (logits of every token, the reference in the step) or in its
strongest form (logits of completions, the reference before). `sft` and `score` are beside the same
loop in its strongest form, on the same tokens. Ours and theirs run in turn,
`--repeats` times, each in a process of its own. A run's time is that of the whole process,
start-up, reference scoring and saving included, and beside it that of a step. `cpu` is
the ratio of processor time, which says more where something else runs on the machine.

`--compute bf16`: passes in bf16 here, autocast to bf16 there, weights f32 in both; for `generate` and
`score` weights kept in bf16 in both.

Printed: ratios theirs / ours (median, smallest, largest), peak memory ours / theirs, and the
largest relative difference between the losses of a step, which must not exceed 1e-3 in f32. All of it goes
to `--out` as JSON; `table` writes several of these as a table in Markdown.
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
import time

EPSILON = 1e-3
BETA = 0.1
RATE = 1e-6


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


def child(arguments, environment=None):
    """Runs a process; its lines, seconds by the clock and of the processors, peak memory."""
    began = time.perf_counter()
    with tempfile.TemporaryFile() as errors:
        process = subprocess.Popen(arguments, stdout=subprocess.PIPE, stderr=errors, env=environment)
        text = process.stdout.read().decode()
        _, status, usage = os.wait4(process.pid, 0)
        seconds = time.perf_counter() - began
        if os.waitstatus_to_exitcode(status) != 0:
            errors.seek(0)
            sys.exit(f"{' '.join(arguments)}\n{errors.read().decode()[-3000:]}")
    lines = [json.loads(line) for line in text.splitlines() if line.startswith('{"')]
    return {"lines": lines, "seconds": seconds, "cpu_seconds": usage.ru_utime + usage.ru_stime, "peak_bytes": usage.ru_maxrss * 1024}


def settings_of(a):
    return {
        "training.learning_rate": RATE, "training.batch_size": a.groups, "training.micro_batch_size": a.micro,
        "training.max_steps": a.steps, "optimizer.schedule": "constant", "optimizer.betas": "[0.9, 0.999]",
        "optimizer.epsilon": "1e-8", "data.shuffle": "false", "checkpoint.every": 0, "training.compute": a.compute,
    }


def train_ours(a, command, settings, scratch):
    out = tempfile.mkdtemp(dir=scratch)
    command = [a.binary, "-q", *command, "--model", a.model, "--out", out]
    command += [part for key, value in settings.items() for part in ("--set", f"{key}={value}")]
    # A store of its own, so that the reference is scored in every run.
    environment = {**os.environ, "EXALIGN_CACHE": tempfile.mkdtemp(dir=scratch), "RAYON_NUM_THREADS": str(a.threads)}
    result = child(command, environment)
    with open(os.path.join(out, "metrics.jsonl"), encoding="utf-8") as lines:
        result["lines"] = [json.loads(line) for line in lines]
    return result


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
        **settings_of(a), "objective.beta_policy": BETA, "objective.beta_reward": BETA, "objective.epsilon": EPSILON,
        "objective.temperature": 1.0,
    }
    return train_ours(a, ["align", "--objective", objective, "--data", data], settings, scratch)


def run_rival(name, a, rows, scratch):
    data = os.path.join(scratch, f"{name}.jsonl")
    write_rows(data, rows, pairs=name.startswith("trl"))
    settings = {"name": name, "task": a.comparison, "compute": a.compute, "model": a.model, "data": data, "loss": a.loss,
                "groups": a.groups, "micro": a.rival_micro, "steps": a.steps, "threads": a.threads, "out": tempfile.mkdtemp(dir=scratch)}
    environment = {**os.environ, "HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false", "OMP_NUM_THREADS": str(a.threads)}
    return child([sys.executable, os.path.abspath(__file__), "--child", json.dumps(settings)], environment)


def report_step(loss, began, cpu):
    line = {"loss": loss, "seconds": time.perf_counter() - began, "cpu_seconds": time.process_time() - cpu}
    print(json.dumps(line), flush=True)


def trl(s):
    import torch
    from datasets import Dataset
    from torch.utils.data import SequentialSampler
    from transformers import AutoModelForCausalLM, AutoTokenizer, TrainerCallback
    from trl import DPOConfig, DPOTrainer

    torch.set_num_threads(s["threads"])
    with open(s["data"], encoding="utf-8") as lines:
        data = Dataset.from_list([json.loads(line) for line in lines])
    losses, clock = [], {}

    class InOrder(DPOTrainer):
        def _get_train_sampler(self, *arguments, **more):
            return SequentialSampler(self.train_dataset)

        def compute_loss(self, *arguments, **more):
            result = super().compute_loss(*arguments, **more)
            losses.append(float((result[0] if isinstance(result, tuple) else result).detach()))
            return result

    class Clock(TrainerCallback):
        def on_step_begin(self, *arguments, **more):
            losses.clear()
            clock["began"], clock["cpu"] = time.perf_counter(), time.process_time()

        def on_step_end(self, *arguments, **more):
            report_step(statistics.fmean(losses), clock["began"], clock["cpu"])

    def load():
        return AutoModelForCausalLM.from_pretrained(s["model"], dtype=torch.float32)

    exo = s["loss"] == "exo"
    config = DPOConfig(
        output_dir=s["out"], loss_type=["exo_pair" if exo else "sigmoid"], beta=BETA,
        label_smoothing=EPSILON if exo else 0.0, per_device_train_batch_size=s["micro"],
        gradient_accumulation_steps=s["groups"] // s["micro"], max_steps=s["steps"], learning_rate=RATE,
        lr_scheduler_type="constant", adam_beta1=0.9, adam_beta2=0.999, adam_epsilon=1e-8, max_grad_norm=1.0,
        optim="adamw_torch_fused", max_length=None, precompute_ref_log_probs=s["name"].endswith("precomputed"),
        use_cpu=True, bf16=s["compute"] == "bf16", fp16=False, gradient_checkpointing=False, disable_dropout=True,
        dataloader_pin_memory=False, logging_strategy="no", save_strategy="no", report_to=[], disable_tqdm=True,
    )
    trainer = InOrder(
        model=load(), ref_model=load(), args=config, train_dataset=data,
        processing_class=AutoTokenizer.from_pretrained(s["model"]), callbacks=[Clock()],
    )
    trainer.train()
    trainer.save_model(s["out"])


def torch_loop(s):
    import math

    import torch
    import torch.nn.functional as F
    from transformers import AutoModelForCausalLM, AutoTokenizer

    torch.set_num_threads(s["threads"])
    strong = s["name"].endswith("strong")
    tokenizer = AutoTokenizer.from_pretrained(s["model"])

    narrow = s["compute"] == "bf16"

    def load():
        dtype = torch.bfloat16 if narrow and s["task"] == "score" else torch.float32
        return AutoModelForCausalLM.from_pretrained(s["model"], dtype=dtype).eval()

    policy, reference = load(), load() if s["task"] == "align" else None
    with open(s["data"], encoding="utf-8") as lines:
        rows = [json.loads(line) for line in lines]

    def batch(rows):
        texts = []
        for row in rows:
            prompt = tokenizer(row["prompt"])["input_ids"]
            for text in row["completions"]:
                completion = tokenizer(text, add_special_tokens=False)["input_ids"] + [tokenizer.eos_token_id]
                texts.append((prompt + completion, len(prompt)))
        width = max(len(ids) for ids, _ in texts)
        ids = torch.zeros(len(texts), width, dtype=torch.long)
        real, scored = torch.zeros_like(ids), torch.zeros(len(texts), width, dtype=torch.bool)
        for row, (text, start) in enumerate(texts):
            ids[row, : len(text)] = torch.tensor(text)
            real[row, : len(text)] = 1
            scored[row, start : len(text)] = True
        return ids, real, scored[:, 1:]

    def log_probs(model, ids, real, scored):
        """Of every completion, the sum over its tokens."""
        with torch.autocast("cpu", torch.bfloat16, enabled=narrow):
            if strong:
                hidden = model.model(input_ids=ids, attention_mask=real, use_cache=False).last_hidden_state[:, :-1]
                logits = model.lm_head(hidden[scored])
            else:
                logits = model(input_ids=ids, attention_mask=real, use_cache=False).logits[:, :-1]
        logits = logits.float()
        if strong:
            picked = -F.cross_entropy(logits, ids[:, 1:][scored], reduction="none")
            return torch.zeros(len(ids)).index_add(0, scored.nonzero()[:, 0], picked)
        every = torch.gather(logits.log_softmax(-1), 2, ids[:, 1:, None]).squeeze(2)
        return (every * scored).sum(1)

    def loss_of(ratios, rewards):
        if ratios.shape[1] > 2:
            log_q, log_p = F.log_softmax(BETA * ratios, 1), F.log_softmax(rewards / BETA, 1)
            kl = log_q.exp() * (log_q - log_p) if s["loss"] == "exo" else -log_p.exp() * log_q
            return kl.sum(1).mean()
        z = BETA * (ratios[:, 0] - ratios[:, 1])
        if s["loss"] == "dpo":
            return -F.logsigmoid(z).mean()
        win, lose = F.logsigmoid(z), F.logsigmoid(-z)
        return (win.exp() * (win - math.log1p(-EPSILON)) + lose.exp() * (lose - math.log(EPSILON))).mean()

    k, micro = len(rows[0]["completions"]), s["micro"]
    parts = [rows[start : start + micro] for start in range(0, len(rows), micro)]
    if s["task"] == "score":
        began, cpu = time.perf_counter(), time.process_time()
        with torch.no_grad():
            total = sum(log_probs(policy, *batch(part)).sum().item() for part in parts)
        return report_step(-total / len(rows), began, cpu)
    known = []
    if s["task"] == "align" and strong:
        with torch.no_grad():
            known = [log_probs(reference, *batch(part)) for part in parts]
        del reference
    optimizer = torch.optim.AdamW(policy.parameters(), lr=RATE, betas=(0.9, 0.999), eps=1e-8, weight_decay=0.0, fused=True)
    shares = s["groups"] // micro
    for step in range(s["steps"]):
        began, cpu, total = time.perf_counter(), time.process_time(), 0.0
        batches = [batch(parts[index]) for index in range(step * shares, (step + 1) * shares)]
        tokens = sum(int(scored.sum()) for _, _, scored in batches)
        for index, inputs in enumerate(batches, step * shares):
            if s["task"] == "sft":
                loss = -log_probs(policy, *inputs).sum() / tokens
                loss.backward()
                total += loss.item()
                continue
            if strong:
                before = known[index]
            else:
                with torch.no_grad():
                    before = log_probs(reference, *inputs)
            ratios = (log_probs(policy, *inputs) - before).view(-1, k)
            rewards = torch.tensor([row["rewards"] for row in parts[index]])
            loss = loss_of(ratios, rewards) / shares
            loss.backward()
            total += loss.item()
        torch.nn.utils.clip_grad_norm_(policy.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        report_step(total, began, cpu)
    policy.save_pretrained(s["out"])


def generate(s):
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    torch.set_num_threads(s["threads"])
    tokenizer = AutoTokenizer.from_pretrained(s["model"], padding_side="left")
    model = AutoModelForCausalLM.from_pretrained(s["model"], dtype=torch.bfloat16 if s["compute"] == "bf16" else torch.float32).eval()
    with open(s["data"], encoding="utf-8") as lines:
        prompts = [json.loads(line)["prompt"] for line in lines]
    inputs = tokenizer(prompts, return_tensors="pt", padding=True)
    torch.manual_seed(0)
    began = time.perf_counter()
    with torch.inference_mode():
        out = model.generate(**inputs, do_sample=True, temperature=0.8, top_k=0, top_p=1.0, num_return_sequences=s["samples"],
                             min_new_tokens=s["tokens"], max_new_tokens=s["tokens"], pad_token_id=tokenizer.pad_token_id)
    seconds = time.perf_counter() - began
    print(json.dumps({"tokens": out.shape[0] * s["tokens"], "seconds": seconds}), flush=True)


# The comparisons.


def spread(values):
    return {"median": statistics.median(values), "smallest": min(values), "largest": max(values)}


def step_seconds(result):
    """Without the first step, where there are others."""
    seconds = [line["seconds"] for line in result["lines"]]
    return statistics.fmean(seconds[1:] or seconds)


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
    rivals = [name for name in a.rivals.split(",") if name and (a.completions == 2 or not name.startswith("trl"))]
    results = {name: [] for name in ["ours", *rivals]}
    with tempfile.TemporaryDirectory() as scratch:
        for _ in range(a.repeats):
            for name in results:
                result = run_ours(a, rows, scratch) if name == "ours" else run_rival(name, a, rows, scratch)
                results[name].append(result)
                print(f"{name}: {result['seconds']:.1f} s ({result['cpu_seconds']:.1f} s of processors), {step_seconds(result):.2f} s a step, "
                      f"{result['peak_bytes'] / 1e9:.2f} GB, losses {[round(it['loss'], 6) for it in result['lines']]}", flush=True)
    report = {"comparison": a.comparison, "compute": a.compute, "completions": a.completions, "groups": a.groups, "steps": a.steps, "shape": a.shape,
              "loss": a.loss, "threads": a.threads, "results": results, "ratios": {}}
    for name in rivals:
        pairs = list(zip(results["ours"], results[name]))
        differences = [abs(mine["loss"] - theirs["loss"]) / abs(theirs["loss"])
                       for one, other in pairs for mine, theirs in zip(one["lines"], other["lines"])]
        report["ratios"][name] = {
            "whole": spread([other["seconds"] / one["seconds"] for one, other in pairs]),
            "cpu": spread([other["cpu_seconds"] / one["cpu_seconds"] for one, other in pairs]),
            "step": spread([step_seconds(other) / step_seconds(one) for one, other in pairs]),
            "memory": spread([one["peak_bytes"] / other["peak_bytes"] for one, other in pairs]),
            "largest_loss_difference": max(differences),
        }
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
            theirs = child([sys.executable, os.path.abspath(__file__), "--child", json.dumps(settings)], {**os.environ, "HF_HUB_OFFLINE": "1"})
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
    print("| | rival | whole run | a step | processors | memory, ours / theirs | losses differ by |")
    print("|---|---|---|---|---|---|---|")
    for path in paths:
        with open(path, encoding="utf-8") as file:
            report = json.load(file)
        what = f"K = {report['completions']}, {report['shape']}" if report["comparison"] == "align" else f"{report['prompts']} × {report['samples']} × {report['tokens']} tokens"
        for rival, ratios in report["ratios"].items():
            def cell(key):
                if key not in ratios:
                    return ""
                it = ratios[key]
                return f"{it['median']:.2f}" + (f" ({it['smallest']:.2f}–{it['largest']:.2f})" if it["smallest"] != it["largest"] else "")
            whole = cell("whole") or cell("tokens_per_second")
            difference = f"{ratios['largest_loss_difference']:.0e}" if "largest_loss_difference" in ratios else ""
            print(f"| {what} | {rival} | {whole} | {cell('step')} | {cell('cpu')} | {cell('memory')} | {difference} |")


def main():
    if sys.argv[1:2] == ["table"]:
        return table(sys.argv[2:])
    if sys.argv[1:2] == ["--child"]:
        settings = json.loads(sys.argv[2])
        return {"trl": trl, "torch": torch_loop, "generate": generate}[settings["name"].split("-")[0]](settings)
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
    p.add_argument("--rivals", default="trl,trl-precomputed,torch,torch-strong")
    p.add_argument("--prompts", type=int, default=16)
    p.add_argument("--samples", type=int, default=8)
    p.add_argument("--tokens", type=int, default=64)
    a = p.parse_args()
    a.completions = a.completions or (2 if a.comparison == "align" else 1)
    a.steps = a.steps or (1 if a.comparison == "score" else 3)
    report = compare_generate(a) if a.comparison == "generate" else compare_trainings(a)
    print(json.dumps(report["ratios"], indent=1))
    if a.out:
        with open(a.out, "w", encoding="utf-8") as out:
            json.dump(report, out, indent=1)
    far = 1e-3 if a.compute == "f32" else float("inf")  # in bf16 each rounds in its own way
    too_far = [name for name, it in report["ratios"].items() if it.get("largest_loss_difference", 0) > far]
    if too_far:
        sys.exit(f"losses differ by more than 1e-3 from: {', '.join(too_far)}")


if __name__ == "__main__":
    main()
