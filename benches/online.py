#!/usr/bin/env python3
"""Rounds on the policy's own samples beside TRL's RLOOTrainer or GRPOTrainer: the same model, prompts, K, lengths, reward
and threads, one after the other, each in a process of its own.

    online.py --make-model DIR                             writes a 30M-parameter Llama and its tokenizer
    online.py --exalign BINARY --model DIR [--method rloo|grpo] [--rounds 4] [--fixed-length] ..
    online.py --trl --model DIR ..                         TRL's side alone

A round: draw K completions of each prompt, reward them by the share of a letter, score them under the reference, one
step. TRL scores them once more under the policy. Prompts are made, --prompt-tokens long. Prints both sides and the
ratios theirs / ours: seconds and processor seconds of a round (median after the first), peak memory ours / theirs.
"""
import argparse
import json
import os
import pathlib
import random
import resource
import statistics
import subprocess
import sys
import tempfile
import time


def arguments():
    p = argparse.ArgumentParser()
    p.add_argument("--make-model")
    p.add_argument("--exalign", default="exalign")
    p.add_argument("--trl", action="store_true", help="TRL's side alone")
    p.add_argument("--model")
    p.add_argument("--method", choices=["rloo", "grpo"], default="rloo")
    p.add_argument("--prompts")
    p.add_argument("--write-prompts", help="writes the prompts used as JSON Lines and goes on")
    p.add_argument("--prompts-per-round", type=int, default=8)
    p.add_argument("--k", type=int, default=8)
    p.add_argument("--prompt-tokens", type=int, default=64)
    p.add_argument("--new-tokens", type=int, default=32)
    p.add_argument("--fixed-length", action="store_true", help="no end before --new-tokens: every run draws the same number of tokens")
    p.add_argument("--rounds", type=int, default=4)
    p.add_argument("--micro-batch", type=int, default=0, help="completions in a forward pass; 0: the whole round at once")
    p.add_argument("--checkpointing", action="store_true", help="gradient checkpointing (TRL's default; slower, less memory)")
    p.add_argument("--letter", default="e")
    p.add_argument("--beta", type=float, default=0.1)
    p.add_argument("--learning-rate", type=float, default=1e-5)
    p.add_argument("--threads", type=int, default=2)
    p.add_argument("--seed", type=int, default=1)
    return p.parse_args()


def make_model(folder):
    import sysconfig

    import torch
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast
    texts = sorted(pathlib.Path(sysconfig.get_paths()["stdlib"]).glob("*.py"))
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(vocab_size=8192, special_tokens=["<eos>"], initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), show_progress=False)
    tokenizer.train([str(t) for t in texts], trainer)
    assert tokenizer.get_vocab_size() == 8192
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token="<eos>", pad_token="<eos>").save_pretrained(folder)
    torch.manual_seed(1)
    config = LlamaConfig(vocab_size=8192, hidden_size=512, intermediate_size=1408, num_hidden_layers=8, num_attention_heads=8, num_key_value_heads=8,
                         max_position_embeddings=1024, bos_token_id=None, eos_token_id=0, pad_token_id=0, tie_word_embeddings=True)
    model = LlamaForCausalLM(config)
    model.save_pretrained(folder, safe_serialization=True)
    print(json.dumps({"folder": folder, "parameters": sum(p.numel() for p in model.parameters())}))


def make_prompts(tokenizer, count, tokens, seed):
    rng = random.Random(seed)
    words = "the river runs north under a grey sky while seven boats wait for rain and no one sings about winter".split()
    found = []
    for _ in range(count):
        text = rng.choice(words)
        while len(tokenizer(text)["input_ids"]) < tokens:
            text += " " + rng.choice(words)
        found.append({"prompt": text})
    return found


def timed(trainer_class, parts, torch):
    """The trainer with the time of each of a round's parts added up in `parts`."""
    class Timed(trainer_class):
        def _add(self, name, started):
            parts[-1][name] = parts[-1].get(name, 0.0) + time.perf_counter() - started

        def _generate(self, *args, **kwargs):
            started = time.perf_counter()
            try:
                return super()._generate(*args, **kwargs)
            finally:
                self._add("draw", started)

        def _calculate_rewards(self, *args, **kwargs):
            started = time.perf_counter()
            try:
                return super()._calculate_rewards(*args, **kwargs)
            finally:
                self._add("reward", started)

        def _get_per_token_logps_and_entropies(self, model, *args, **kwargs):
            started = time.perf_counter()
            try:
                return super()._get_per_token_logps_and_entropies(model, *args, **kwargs)
            finally:
                if not torch.is_grad_enabled():
                    self._add("reference" if model is self.ref_model else "old_log_probs", started)
    return Timed


REWARD = """
import json, sys
for line in sys.stdin:
    texts = json.loads(line)["completions"]
    print(json.dumps({"rewards": [text.count("LETTER") / max(len(text), 1) for text in texts]}), flush=True)
"""


def ours(a, prompts, folder):
    """This program's rounds, as TRL's side prints its own."""
    program = os.path.join(folder, "reward.py")
    pathlib.Path(program).write_text(REWARD.replace("LETTER", a.letter))
    out = os.path.join(folder, "ours")
    micro = max((a.micro_batch or a.prompts_per_round * a.k) // a.k, 1)
    command = [
        a.exalign, "-q", "align", "--online", "--objective", a.method, "--model", a.model, "--data", prompts, "--out", out,
        "--reward", f"command:{sys.executable} {program}", "--kl-weight", str(a.beta), "--rounds", str(a.rounds),
        "--prompts-per-round", str(a.prompts_per_round), "--completions", str(a.k), "--max-new-tokens", str(a.new_tokens),
        "--batch-size", str(a.prompts_per_round), "--micro-batch-size", str(micro), "--learning-rate", str(a.learning_rate),
        "--set", "optimizer.schedule=constant", "--set", "checkpoint.every=0", "--set", "data.shuffle=false",
        "--set", f"generation.ignore_eos={str(a.fixed_length).lower()}", "--set", f"generation.batch_size={a.prompts_per_round}",
        "--seed", str(a.seed)]
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, env={**os.environ, "RAYON_NUM_THREADS": str(a.threads)})
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    lines = [json.loads(line) for line in pathlib.Path(out, "metrics.jsonl").read_text().splitlines()]
    steady = lines[1:] or lines
    used = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return {
        "seconds_per_round": statistics.median(line["seconds"] for line in steady),
        # Start-up, loading and saving included.
        "processor_seconds": used / len(lines),
        "split": {name: statistics.median(line[f"{name}_seconds"] for line in steady) for name in ("draw", "reward", "reference", "train")},
        "drawn_tokens_mean": statistics.mean(line["completions/mean_length"] for line in lines),
        "peak_bytes": max(line["peak_memory_bytes"] for line in lines),
        "rewards": [line["reward"] for line in lines]}


def beside_each_other(a):
    with tempfile.TemporaryDirectory() as folder:
        prompts = os.path.join(folder, "prompts.jsonl")
        theirs = subprocess.run(
            [sys.executable, __file__, "--trl", *sys.argv[1:], "--write-prompts", prompts], check=True, stdout=subprocess.PIPE)
        theirs = json.loads(theirs.stdout)
        own = ours(a, prompts, folder)
    print(json.dumps({
        "theirs": theirs, "ours": own,
        "ratios": {
            "seconds": theirs["seconds_per_round"] / own["seconds_per_round"],
            "processor": theirs["processor_seconds"] / own["processor_seconds"],
            "memory": own["peak_bytes"] / theirs["peak_bytes"]}}, indent=1))


def main():
    a = arguments()
    os.environ.update(HF_HUB_OFFLINE="1", TOKENIZERS_PARALLELISM="false", OMP_NUM_THREADS=str(a.threads))
    if a.make_model:
        return make_model(a.make_model)
    if not a.trl:
        return beside_each_other(a)
    import torch
    torch.set_num_threads(a.threads)
    from datasets import Dataset
    from transformers import AutoTokenizer, TrainerCallback
    from transformers.utils import logging
    from trl import GRPOConfig, GRPOTrainer, RLOOConfig, RLOOTrainer
    logging.set_verbosity_error()
    logging.disable_progress_bar()

    tokenizer = AutoTokenizer.from_pretrained(a.model, padding_side="left")
    if a.prompts:
        prompts = [{"prompt": json.loads(line)["prompt"]} for line in pathlib.Path(a.prompts).read_text().splitlines() if line.strip()]
    else:
        prompts = make_prompts(tokenizer, a.prompts_per_round * a.rounds, a.prompt_tokens, a.seed)
    if a.write_prompts:
        pathlib.Path(a.write_prompts).write_text("".join(json.dumps(p) + "\n" for p in prompts))
    whole = a.prompts_per_round * a.k
    micro = a.micro_batch or whole
    assert whole % micro == 0

    def share_of_letter(completions, **_):
        return [c.count(a.letter) / max(len(c), 1) for c in completions]

    config_class, trainer_class = (RLOOConfig, RLOOTrainer) if a.method == "rloo" else (GRPOConfig, GRPOTrainer)
    with tempfile.TemporaryDirectory() as out:
        config = config_class(
            out, use_cpu=True, bf16=False, fp16=False, gradient_checkpointing=a.checkpointing, model_init_kwargs={"dtype": "float32"},
            per_device_train_batch_size=micro, gradient_accumulation_steps=whole // micro, num_generations=a.k, max_completion_length=a.new_tokens,
            generation_kwargs={"min_new_tokens": a.new_tokens} if a.fixed_length else None, temperature=1.0, beta=a.beta, learning_rate=a.learning_rate,
            lr_scheduler_type="constant", max_steps=a.rounds, logging_steps=1, save_strategy="no", report_to=[], disable_tqdm=True, shuffle_dataset=False,
            dataloader_pin_memory=False, seed=a.seed, max_grad_norm=1.0)
        parts, rounds, processor = [], [], []

        class Clock(TrainerCallback):
            def on_step_end(self, *args, **kwargs):
                now = time.perf_counter()
                rounds.append(now - self.at)
                used = sum(os.times()[:2])
                processor.append(used - self.used)
                self.at, self.used = now, used
                parts.append({})

        clock = Clock()
        parts.append({})
        trainer = timed(trainer_class, parts, torch)(model=a.model, reward_funcs=share_of_letter, args=config, train_dataset=Dataset.from_list(prompts),
                                                      processing_class=tokenizer, callbacks=[clock])
        loaded = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
        sys.stdout, stdout = sys.stderr, sys.stdout  # TRL prints its logs
        clock.at, clock.used = time.perf_counter(), sum(os.times()[:2])
        trainer.train()
        sys.stdout = stdout
        logs = [x for x in trainer.state.log_history if "loss" in x]
    parts = parts[: len(rounds)]
    steady, cut = rounds[1:] or rounds, parts[1:] or parts
    median = statistics.median(steady)
    split = {name: round(statistics.median(p.get(name, 0.0) for p in cut), 4) for name in ("draw", "reward", "reference", "old_log_probs")}
    split["train"] = round(median - sum(split.values()), 4)
    print(json.dumps({
        "method": a.method, "model": a.model, "parameters": sum(p.numel() for p in trainer.model.parameters()), "prompts_per_round": a.prompts_per_round,
        "k": a.k, "prompt_tokens": statistics.mean(len(tokenizer(p["prompt"])["input_ids"]) for p in prompts), "new_tokens": a.new_tokens,
        "drawn_tokens_mean": round(statistics.mean(x["completions/mean_length"] for x in logs), 2), "micro_batch": micro, "checkpointing": a.checkpointing,
        "threads": torch.get_num_threads(), "rounds": [round(x, 4) for x in rounds], "seconds_per_round": round(median, 4),
        "processor_seconds": round(statistics.median(processor[1:] or processor), 4), "split": split,
        "peak_bytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024, "loaded_bytes": loaded,
        "rewards": [round(x["reward"], 5) for x in logs], "losses": [x["loss"] for x in logs], "load_average": os.getloadavg()}))


if __name__ == "__main__":
    main()
