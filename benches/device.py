#!/usr/bin/env python3
"""What a device does with this program's work: alignment, scoring and sampling, on models of known shape.

    device.py --device cuda --binary ./exalign --out figures.json
    device.py --device flex --binary target/release/exalign --quick

Needs Python and nothing else: weights and tokens are random (their values change no time) and are written
here, SmolLM2-135M's shape and Pythia-410M's. Every model trains and samples in f32 and in bf16. Printed, and
written to --out as JSON after every part, so that a run that is cut off has left what it measured: tokens
per second, the share of the chip's peak that the model's own products are (attention's scores, which grow
with the square of a text, not counted), and the highest device memory (nvidia-smi) or resident memory.
Takes under 25 minutes on a GPU that such work is done on; --quick is a check that it runs.
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


def device_bytes(pid):
    """Device memory of a process as the driver counts it; 0 without an NVIDIA driver."""
    try:
        text = subprocess.run(["nvidia-smi", "--query-compute-apps=pid,used_memory", "--format=csv,noheader,nounits"],
                              capture_output=True, text=True, timeout=10).stdout
    except (OSError, subprocess.TimeoutExpired):
        return 0
    rows = [line.split(",") for line in text.splitlines() if "," in line]
    own = [int(size) for process, size in rows if process.strip() == str(pid) and size.strip().isdigit()]
    return 2**20 * sum(own)


def measured(command, environment):
    """Runs a command: seconds, its last line as JSON, highest resident and device memory."""
    began, most = time.perf_counter(), 0
    with tempfile.TemporaryFile() as errors:
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=errors, env=environment)
        done = threading.Event()

        def watch():
            nonlocal most
            while not done.wait(0.5):
                most = max(most, device_bytes(process.pid))

        watcher = threading.Thread(target=watch)
        watcher.start()
        text = process.stdout.read().decode()
        _, status, usage = os.wait4(process.pid, 0)
        done.set()
        watcher.join()
        if os.waitstatus_to_exitcode(status) != 0:
            errors.seek(0)
            return {"command": " ".join(command), "error": errors.read().decode()[-2000:]}
    lines = [line for line in text.splitlines() if line.startswith("{")]
    return {"command": " ".join(command), "seconds": time.perf_counter() - began, "result": json.loads(lines[-1]) if lines else None,
            "resident_bytes": usage.ru_maxrss * 1024, "device_bytes": most}


class Bench:
    def __init__(self, a, scratch):
        self.a, self.scratch, self.peak = a, scratch, {}
        self.figures = {"device": a.device, "binary": a.binary, "parts": []}
        try:
            name = subprocess.run(["nvidia-smi", "--query-gpu=name", "--format=csv,noheader"], capture_output=True, text=True).stdout.strip()
        except OSError:
            name = ""
        self.figures["chip"] = name or "unknown"
        self.peak = next((peak for chip, peak in PEAKS.items() if chip in name and a.device.startswith(("cuda", "wgpu", "vulkan"))), {})
        if a.peak_tflops:
            self.peak = {"f32": a.peak_tflops, "bf16": a.peak_tflops}

    def keep(self, part):
        self.figures["parts"].append(part)
        print(json.dumps({key: value for key, value in part.items() if key not in ("command", "result")}), flush=True)
        if self.a.out:
            with open(self.a.out + ".new", "w", encoding="utf-8") as out:
                json.dump(self.figures, out, indent=1)
            os.replace(self.a.out + ".new", self.a.out)

    def run(self, what, config, dtype, arguments, flops, seconds_of, tokens):
        environment = {**os.environ, "EXALIGN_CACHE": tempfile.mkdtemp(dir=self.scratch)}
        command = [self.a.binary, "-q", *arguments, "--device", self.a.device]
        part = {"part": what, "model": config["model_type"], "dtype": dtype, **measured(command, environment)}
        if "error" not in part:
            seconds = seconds_of(part)
            part["tokens_per_second"] = tokens / seconds
            part["tflops"] = flops / seconds / 1e12
            if dtype in self.peak:
                part["share_of_peak"] = part["tflops"] / self.peak[dtype]
        self.keep(part)

    def model(self, name, config):
        a, folder = self.a, os.path.join(self.scratch, name)
        write_model(folder, config)
        body, head = products(config)
        prompt, completion, steps = a.prompt, a.completion, a.steps
        for completions in a.completions:
            data = os.path.join(self.scratch, f"{name}-{completions}.jsonl")
            write_groups(data, config, a.groups * steps, completions, prompt, completion)
            read, scored = a.groups * (prompt + completions * completion), a.groups * completions * completion
            step_flops = 6 * (body * read + head * scored)
            for dtype in ("f32", "bf16"):
                out = tempfile.mkdtemp(dir=self.scratch)
                shutil.rmtree(out)

                def step_seconds(_, out=out):
                    with open(os.path.join(out, "metrics.jsonl"), encoding="utf-8") as lines:
                        seconds = [json.loads(line)["seconds"] for line in lines]
                    later = seconds[min(2, len(seconds) - 1):]  # kernels are compiled and chosen in the first ones
                    return sum(later) / len(later)

                self.run(f"align K={completions}, a step", config, dtype,
                         ["align", "--objective", "exo-rw", "--model", folder, "--data", data, "--out", out, "--compute", dtype,
                          "--learning-rate", "1e-6", "--batch-size", str(a.groups), "--micro-batch-size", str(a.micro),
                          "--set", "checkpoint.every=0", "--set", "data.shuffle=false"],
                         step_flops, step_seconds, read)
                shutil.rmtree(out, ignore_errors=True)
        for dtype in ("f32", "bf16"):
            groups = a.groups * steps
            read, scored = groups * (prompt + completions * completion), groups * completions * completion
            self.run(f"score K={completions}, start-up included", config, dtype,
                     ["score", "--model", folder, "--data", data, "--out", os.path.join(self.scratch, f"{name}-{dtype}-scores.jsonl"), "--dtype", dtype],
                     2 * (body * read + head * scored), lambda part: part["seconds"], read)
            new, rows = a.new_tokens, a.prompts * a.samples
            self.run("sample", config, dtype,
                     ["sample", "--model", folder, "--data", data, "--out", os.path.join(self.scratch, f"{name}-{dtype}.jsonl"), "--dtype", dtype,
                      "--completions", str(a.samples), "--max-new-tokens", str(new), "--set", "generation.ignore_eos=true",
                      "--set", f"generation.batch_size={a.prompts}"],
                     2 * (body + head) * a.groups * steps * a.samples * new, lambda part: part["result"]["seconds"], a.groups * steps * a.samples * new)
        shutil.rmtree(folder)


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--device", required=True, help="as `exalign --device` takes it")
    p.add_argument("--binary", default="target/release/exalign")
    p.add_argument("--out", help="where the figures go, as JSON")
    p.add_argument("--peak-tflops", type=float, help="the chip's peak, where this script does not know it")
    p.add_argument("--quick", action="store_true", help="a few tokens, to see that everything runs")
    a = p.parse_args()
    sizes = {"groups": 16, "micro": 8, "steps": 8, "prompt": 350, "completion": 40, "completions": [2, 8], "prompts": 32, "samples": 8, "new_tokens": 64}
    if a.quick:
        sizes = {"groups": 2, "micro": 2, "steps": 2, "prompt": 16, "completion": 4, "completions": [2], "prompts": 2, "samples": 2, "new_tokens": 4}
    for name, value in sizes.items():
        setattr(a, name, value)
    with tempfile.TemporaryDirectory() as scratch:
        bench = Bench(a, scratch)
        for name, config in (("smollm2-135m", SMOLLM2), ("pythia-410m", PYTHIA)):
            bench.model(name, config)
    if any("error" in part for part in bench.figures["parts"]):
        sys.exit("some parts failed; their errors are in the figures" if a.out else json.dumps(bench.figures["parts"], indent=1))


if __name__ == "__main__":
    main()
