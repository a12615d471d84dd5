#!/usr/bin/env python3
"""What a device does with this program's work: alignment, scoring and sampling, on models of known shape.

    device.py --device cuda --binary ./exalign --torch python3 --parity ./backend_parity --out figures
    device.py --device flex --binary target/release/exalign --quick

Needs Python and nothing else: weights and tokens are random (their values change no time) and are written
here, Pythia-410M's shape and SmolLM2-135M's. Models train and sample in bf16 and in f32. Beside each part
stands PyTorch's figure for the same work, where --torch names a Python that has torch and transformers
(`device_torch.py`; it loads while this program works, and the two never compute at once). Then come the parity
test, where --parity names its binary, and a profile of one step: the time of every kernel.

Written to the folder --out after every part, so that a run that is cut off has left what it measured:
seconds, tokens per second, the share of the chip's peak that the model's own products are (attention's
scores, which grow with the square of a text, not counted), and the highest device memory (nvidia-smi) or
resident memory. --minutes ends it: parts that would begin later are listed as left out. --quick is a check
that it runs.
"""
import argparse
import array
import json
import os
import random
import shutil
import struct
import subprocess
import sys
import tempfile
import threading
import time

# Dense TFLOP/s of matrix products as NVIDIA's data sheets give them, without sparsity and, for f32,
# without TF32.
PEAKS = {"H200": {"bf16": 989, "f32": 67}, "H100": {"bf16": 989, "f32": 67}, "A100": {"bf16": 312, "f32": 19.5},
         "L40S": {"bf16": 362, "f32": 91.6}, "L4": {"bf16": 121, "f32": 30.3}, "4090": {"bf16": 165, "f32": 82.6}}

SMOLLM2 = {"architectures": ["LlamaForCausalLM"], "model_type": "llama", "hidden_size": 576, "intermediate_size": 1536,
           "num_hidden_layers": 30, "num_attention_heads": 9, "num_key_value_heads": 3, "vocab_size": 49152,
           "max_position_embeddings": 2048, "rms_norm_eps": 1e-5, "rope_theta": 100000.0, "hidden_act": "silu",
           "tie_word_embeddings": True, "eos_token_id": 0}
PYTHIA = {"architectures": ["GPTNeoXForCausalLM"], "model_type": "gpt_neox", "hidden_size": 1024, "intermediate_size": 4096,
          "num_hidden_layers": 24, "num_attention_heads": 16, "vocab_size": 50304, "max_position_embeddings": 2048,
          "layer_norm_eps": 1e-5, "rotary_pct": 0.25, "rotary_emb_base": 10000, "hidden_act": "gelu",
          "use_parallel_residual": True, "tie_word_embeddings": False, "eos_token_id": 0}

MODELS = {"pythia-410m": PYTHIA, "smollm2-135m": SMOLLM2}


def tensors(c):
    """Name and shape of every tensor, as transformers names them."""
    width, inner, vocabulary = c["hidden_size"], c["intermediate_size"], c["vocab_size"]
    if c["model_type"] == "llama":
        keys = width // c["num_attention_heads"] * c["num_key_value_heads"]
        yield "model.embed_tokens.weight", [vocabulary, width]
        for layer in range(c["num_hidden_layers"]):
            at = f"model.layers.{layer}."
            for name, shape in [("self_attn.q_proj", [width, width]), ("self_attn.k_proj", [keys, width]),
                                ("self_attn.v_proj", [keys, width]), ("self_attn.o_proj", [width, width]),
                                ("mlp.gate_proj", [inner, width]), ("mlp.up_proj", [inner, width]),
                                ("mlp.down_proj", [width, inner]), ("input_layernorm", [width]),
                                ("post_attention_layernorm", [width])]:
                yield f"{at}{name}.weight", shape
        yield "model.norm.weight", [width]
        return
    yield "gpt_neox.embed_in.weight", [vocabulary, width]
    for layer in range(c["num_hidden_layers"]):
        at = f"gpt_neox.layers.{layer}."
        for name, shape in [("attention.query_key_value", [3 * width, width]), ("attention.dense", [width, width]),
                            ("mlp.dense_h_to_4h", [inner, width]), ("mlp.dense_4h_to_h", [width, inner]),
                            ("input_layernorm", [width]), ("post_attention_layernorm", [width])]:
            yield f"{at}{name}.weight", shape
            yield f"{at}{name}.bias", shape[:1]
    yield "gpt_neox.final_layer_norm.weight", [width]
    yield "gpt_neox.final_layer_norm.bias", [width]
    yield "embed_out.weight", [vocabulary, width]


def write_model(folder, config):
    """A Hugging Face folder with random weights, by repetition of one random block."""
    rng = random.Random(0)
    block = array.array("f", (rng.gauss(0, 0.02) for _ in range(65_521))).tobytes()
    named = [(name, shape, 4 * (shape[0] * shape[1] if len(shape) == 2 else shape[0])) for name, shape in tensors(config)]
    header, end = {}, 0
    for name, shape, size in named:
        header[name] = {"dtype": "F32", "shape": shape, "data_offsets": [end, end + size]}
        end += size
    text = json.dumps(header).encode()
    os.makedirs(folder)
    with open(os.path.join(folder, "config.json"), "w", encoding="utf-8") as out:
        json.dump(config, out)
    with open(os.path.join(folder, "model.safetensors"), "wb") as out:
        out.write(struct.pack("<Q", len(text)) + text)
        for name, shape, size in named:
            # Scales of norms are 1; the rest is noise.
            source = struct.pack("<f", 1.0) if "norm" in name and name.endswith("weight") else block
            out.write((source * (size // len(source) + 1))[:size])


def products(config):
    """Entries of the matrices that every token meets, and of the head's."""
    body = sum(shape[0] * shape[1] for name, shape in tensors(config) if len(shape) == 2 and "emb" not in name)
    return body, config["vocab_size"] * config["hidden_size"]


def write_groups(path, config, groups, completions, prompt, completion):
    rng = random.Random(1)
    ids = lambda count: [rng.randrange(1, config["vocab_size"]) for _ in range(count)]
    with open(path, "w", encoding="utf-8") as out:
        for _ in range(groups):
            row = {"prompt_ids": ids(prompt), "completion_ids": [ids(completion) for _ in range(completions)],
                   "rewards": [rng.random() for _ in range(completions)]}
            out.write(json.dumps(row) + "\n")


def smi(query):
    """What the NVIDIA driver says of the first card; nothing where there is none."""
    try:
        command = ["nvidia-smi", f"--query-gpu={query}", "--format=csv,noheader,nounits"]
        return subprocess.run(command, capture_output=True, text=True, timeout=10).stdout.splitlines()[0].strip()
    except (OSError, IndexError, subprocess.TimeoutExpired):
        return ""


def device_bytes():
    """Memory in use on the first card."""
    used = smi("memory.used")
    return 2**20 * int(used) if used.isdigit() else 0


def measured(command, limit, environment=None, cwd=None):
    """Runs a command: seconds, its last line as JSON, highest resident and device memory."""
    began, before, most = time.perf_counter(), device_bytes(), 0
    with tempfile.TemporaryFile() as errors, tempfile.TemporaryFile() as lines:
        process = subprocess.Popen(command, stdout=lines, stderr=errors, env={**os.environ, **(environment or {})}, cwd=cwd)
        done = threading.Event()

        def watch():
            nonlocal most
            while not done.wait(0.3):
                most = max(most, device_bytes() - before)

        killer = threading.Timer(max(limit, 1), process.kill)
        watcher = threading.Thread(target=watch)
        watcher.start()
        killer.start()
        _, status, usage = os.wait4(process.pid, 0)
        killer.cancel()
        done.set()
        watcher.join()
        lines.seek(0)
        errors.seek(0)
        text, code = lines.read().decode(errors="replace"), os.waitstatus_to_exitcode(status)
        part = {"command": " ".join(command), "seconds": time.perf_counter() - began,
                "resident_bytes": usage.ru_maxrss * 1024, "device_bytes": most}
        if code != 0:
            part["error"] = f"exit {code}; {text[-1500:]} {errors.read().decode(errors='replace')[-1500:]}"
    found = [line for line in text.splitlines() if line.startswith("{")]
    return {**part, "result": json.loads(found[-1]) if found and code == 0 else None, "text": text}


class Rival:
    """PyTorch in a process of its own, which answers one job at a time."""

    def __init__(self, python):
        script = os.path.join(os.path.dirname(os.path.abspath(__file__)), "device_torch.py")
        self.process = subprocess.Popen([python, script], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def answer(self, job):
        try:
            self.process.stdin.write(json.dumps(job) + "\n")
            self.process.stdin.flush()
            return json.loads(self.process.stdout.readline())
        except (OSError, ValueError) as error:
            return {"error": f"PyTorch's process ended: {error}"}


class Bench:
    def __init__(self, a, scratch):
        self.a, self.scratch, self.end = a, scratch, time.monotonic() + 60 * a.minutes
        chip = smi("name")
        self.figures = {"device": a.device, "chip": chip or "unknown", "driver": smi("driver_version"), "parts": []}
        self.peak = next((peak for name, peak in PEAKS.items() if name in chip and a.device.startswith(("cuda", "wgpu", "vulkan"))), {})
        if a.peak_tflops:
            self.peak = {"f32": a.peak_tflops, "bf16": a.peak_tflops}
        self.rival = Rival(a.torch) if a.torch else None
        if a.out:
            os.makedirs(a.out, exist_ok=True)

    def left(self):
        return self.end - time.monotonic()

    def keep(self, part):
        if "left_out" in part:
            return
        self.figures["parts"].append(part)
        shown = {key: round(value, 4) if isinstance(value, float) else value
                 for key, value in part.items() if key not in ("command", "result", "text")}
        print(json.dumps(shown), flush=True)
        if self.a.out:
            path = os.path.join(self.a.out, "figures.json")
            with open(path + ".new", "w", encoding="utf-8") as out:
                json.dump(self.figures, out, indent=1)
            os.replace(path + ".new", path)

    def run(self, what, arguments, limit=90, **more):
        """Runs the program, if that is wanted and there is time for it."""
        if more.get("part", arguments[0]) not in self.a.parts:
            return {"part": what, "left_out": "not wanted"}
        if self.left() < 5:
            return {"part": what, "error": "left out: no time"}
        command = [self.a.binary, "-q", *arguments]
        environment = {"EXALIGN_CACHE": os.path.join(self.scratch, "cache"), **more.get("environment", {})}
        return {"part": what, **measured(command, min(limit, self.left()), environment, more.get("cwd"))}

    def compare(self, part, job, work):
        """Rates of a part, and PyTorch's beside it."""
        self.rate(part, part.get("step_seconds"), work)
        self.keep(part)
        if self.rival and "left_out" not in part and self.left() > 5:
            answer = self.rival.answer({"device": self.a.device.replace("flex", "cpu"), **job})
            theirs = {"part": "PyTorch: " + part["part"], "model": part["model"], "dtype": job["dtype"], **answer}
            self.rate(theirs, theirs.get("seconds"), work)
            if part.get("step_seconds") and theirs.get("seconds"):
                theirs["theirs_over_ours"] = theirs["seconds"] / part["step_seconds"]
            self.keep(theirs)

    def rate(self, part, seconds, work):
        if seconds:
            part["tokens_per_second"] = work["tokens"] / seconds
            part["tflops"] = work["flops"] / seconds / 1e12
            if work["dtype"] in self.peak:
                part["share_of_peak"] = part["tflops"] / self.peak[work["dtype"]]

    def write(self, name, config):
        """The model's folder, the groups it trains on, and the prompts it samples from."""
        a, folder = self.a, os.path.join(self.scratch, name)
        write_model(folder, config)
        write_groups(folder + ".jsonl", config, a.groups * a.steps, a.completions, a.prompt, a.completion)
        rng = random.Random(2)
        for batches in (1, 3):
            with open(f"{folder}-prompts-{batches}.jsonl", "w", encoding="utf-8") as out:
                for _ in range(batches * a.prompts):
                    out.write(json.dumps({"prompt_ids": [rng.randrange(1, config["vocab_size"]) for _ in range(a.prompt)]}) + "\n")

    def align(self, name, config, dtype, **more):
        a, folder = self.a, os.path.join(self.scratch, name)
        out = os.path.join(self.scratch, f"{name}-{dtype}-out")
        shutil.rmtree(out, ignore_errors=True)
        arguments = ["align", "--objective", "exo-rw", "--model", folder, "--data", folder + ".jsonl", "--out", out, "--compute", dtype,
                     "--learning-rate", "1e-6", "--batch-size", str(a.groups), "--micro-batch-size", str(a.micro), "--device", a.device,
                     "--set", "checkpoint.every=0", "--set", "data.shuffle=false", *more.pop("arguments", [])]
        part = {**self.run(more.pop("what", "align, a step"), arguments, **more), "model": name, "dtype": dtype}
        metrics = os.path.join(out, "metrics.jsonl")
        if os.path.exists(metrics):
            with open(metrics, encoding="utf-8") as lines:
                rows = [json.loads(line) for line in lines]
        else:
            rows = []
        if rows:
            seconds = [row["seconds"] for row in rows]
            later = seconds[min(2, len(seconds) - 1):]  # kernels are compiled and chosen in the first ones
            part.update(step_seconds=sum(later) / len(later), all_seconds=seconds, losses=[row["loss"] for row in rows])
        return part

    def sampling(self, name, dtype, tokens, batches=1):
        a, folder = self.a, os.path.join(self.scratch, name)
        return ["sample", "--model", folder, "--data", f"{folder}-prompts-{batches}.jsonl", "--fresh", "--dtype", dtype, "--device", a.device,
                "--out", folder + "-samples.jsonl", "--completions", str(a.samples), "--max-new-tokens", str(tokens),
                "--set", "generation.ignore_eos=true", "--set", f"generation.batch_size={a.prompts}"]

    def models(self, dtype):
        """Every model in a float type; the first time writes their folders."""
        a = self.a
        for name, config in MODELS.items():
            if not os.path.exists(os.path.join(self.scratch, name)):
                self.write(name, config)
            body, head = products(config)
            read, scored = a.groups * (a.prompt + a.completions * a.completion), a.groups * a.completions * a.completion
            folder = os.path.join(self.scratch, name)
            job = {"task": "align", "model": folder, "data": folder + ".jsonl", "dtype": dtype, "groups": a.groups, "micro": a.micro}
            self.compare(self.align(name, config, dtype), job,
                         {"tokens": read, "flops": 6 * (body * read + head * scored), "dtype": dtype})

            drawn = a.prompts * a.samples * a.new_tokens
            one, three = [{**self.run("sample", self.sampling(name, dtype, a.new_tokens, batches)), "model": name, "dtype": dtype}
                          for batches in (1, 3)]
            part = dict(three)
            if one.get("result") and three.get("result"):  # a batch without loading and compiling, as PyTorch's second
                part.update(step_seconds=(three["result"]["seconds"] - one["result"]["seconds"]) / 2, first_batch_seconds=one["result"]["seconds"])
            job = {"task": "sample", "model": folder, "data": folder + "-prompts-1.jsonl", "dtype": dtype, "prompts": a.prompts,
                   "samples": a.samples, "tokens": a.new_tokens}
            self.compare(part, job, {"tokens": drawn, "flops": 2 * (body + head) * drawn, "dtype": dtype})

            groups = a.groups * a.steps
            part = self.run("score, start-up included", ["score", "--model", folder, "--data", folder + ".jsonl", "--fresh", "--device", a.device,
                                                         "--out", folder + "-scores.jsonl", "--dtype", dtype])
            part.update(model=name, dtype=dtype)
            if "seconds" in part and "error" not in part:
                self.rate(part, part["seconds"], {"tokens": read * a.steps, "flops": 2 * (body * read + head * scored) * a.steps, "dtype": dtype})
            self.keep(part)

    def parity(self):
        environment = {"EXALIGN_REQUIRE_BACKENDS": self.a.device.split(":")[0]}
        part = measured([self.a.parity, f"{self.a.device.split(':')[0]}::"], min(120, self.left()), environment)
        self.keep({"part": "parity", **part})
        print(part["text"][-3000:], flush=True)

    def profile(self, name):
        """Two steps and a few drawn tokens under the runtime's own profiler, which waits for every kernel: the time of each."""
        home, dtype = os.path.join(self.scratch, "profile"), self.a.dtypes[0]
        os.makedirs(home, exist_ok=True)
        log = os.path.join(home, "kernels.log")
        with open(os.path.join(home, "cubecl.toml"), "w", encoding="utf-8") as out:
            out.write(f'[profiling]\nlogger = {{ level = "medium", file = "{log}" }}\n')
        runs = {"align": lambda: self.align(name, MODELS[name], dtype, arguments=["--max-steps", "2"], cwd=home, part="profile"),
                "sample": lambda: self.run("profile", self.sampling(name, dtype, 4), cwd=home, part="profile")}
        for what, run in runs.items():
            part = {**run(), "part": f"profile of `{what}`", "model": name, "dtype": dtype}
            if os.path.exists(log):
                with open(log, encoding="utf-8", errors="replace") as lines:
                    text = lines.read()
                os.remove(log)
                part["log_bytes"] = len(text)
                if self.a.out:
                    with open(os.path.join(self.a.out, f"kernels-{what}.log"), "w", encoding="utf-8") as out:
                        out.write(text[:8_000_000])
            self.keep(part)


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--device", required=True, help="as `exalign --device` takes it")
    p.add_argument("--binary", default="target/release/exalign")
    p.add_argument("--torch", help="a Python with torch and transformers, to measure PyTorch beside")
    p.add_argument("--parity", help="the binary of the parity test, to run it after the models")
    p.add_argument("--out", help="folder for the figures, as JSON, and for the profile")
    comma = lambda text: text.split(",")
    p.add_argument("--parts", type=comma, default=["info", "align", "sample", "score", "profile"], help="what is measured, with commas between")
    p.add_argument("--dtypes", type=comma, default=["bf16", "f32"])
    p.add_argument("--minutes", type=float, default=25)
    p.add_argument("--peak-tflops", type=float, help="the chip's peak, where this script does not know it")
    p.add_argument("--quick", action="store_true", help="a few tokens, to see that everything runs")
    a = p.parse_args()
    a.binary = os.path.abspath(a.binary)
    sizes = {"groups": 16, "micro": 16, "steps": 8, "prompt": 350, "completion": 40, "completions": 4, "prompts": 16, "samples": 8, "new_tokens": 64}
    if a.quick:
        sizes = {"groups": 2, "micro": 2, "steps": 2, "prompt": 16, "completion": 4, "completions": 4, "prompts": 2, "samples": 2, "new_tokens": 4}
        for config in MODELS.values():
            config.update(num_hidden_layers=2, vocab_size=512)
    for name, value in sizes.items():
        setattr(a, name, value)
    with tempfile.TemporaryDirectory() as scratch:
        bench = Bench(a, scratch)
        info = bench.run("info", ["info"], 60)
        print(info["text"] if "text" in info else info, flush=True)
        bench.keep(info)
        bench.models(a.dtypes[0])
        if "profile" in a.parts:
            bench.profile("pythia-410m")
        if a.parity:
            bench.parity()
        for dtype in a.dtypes[1:]:
            bench.models(dtype)
        if bench.rival:
            bench.rival.process.kill()
    if any("error" in part for part in bench.figures["parts"]):
        sys.exit("some parts failed; their errors are above")


if __name__ == "__main__":
    main()
