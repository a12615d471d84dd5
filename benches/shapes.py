#!/usr/bin/env python3
"""Model folders of published shapes with random weights, and groups of token ids to train them on.

    python3 benches/shapes.py qwen2.5-1.5b OUT         OUT/config.json, OUT/model.safetensors (bf16), OUT/groups.jsonl

Only sizes count here: what a step takes of time and memory does not depend on what the weights are. Needs numpy.
"""

import argparse
import json
import pathlib
import struct

import numpy

# Of config.json as the models are published: layers, hidden, intermediate, heads, key/value heads, vocabulary.
SHAPES = {
    "smollm2-135m": ("llama", 30, 576, 1536, 9, 3, 49152, True),
    "smollm2-1.7b": ("llama", 24, 2048, 8192, 32, 32, 49152, True),
    "qwen2.5-1.5b": ("qwen2", 28, 1536, 8960, 12, 2, 151936, True),
    "llama3-8b": ("llama", 32, 4096, 14336, 32, 8, 128256, False),
}
BLOCK = 1 << 22  # entries of the random numbers that are written over and over


def config(name):
    family, layers, hidden, inner, heads, kv_heads, vocabulary, tied = SHAPES[name]
    return {
        "architectures": ["LlamaForCausalLM" if family == "llama" else "Qwen2ForCausalLM"],
        "model_type": family,
        "num_hidden_layers": layers,
        "hidden_size": hidden,
        "intermediate_size": inner,
        "num_attention_heads": heads,
        "num_key_value_heads": kv_heads,
        "vocab_size": vocabulary,
        "tie_word_embeddings": tied,
        "max_position_embeddings": 8192,
        "rope_theta": 100000.0,
        "rms_norm_eps": 1e-5,
        "hidden_act": "silu",
        "bos_token_id": 1,
        "eos_token_id": 2,
        "torch_dtype": "bfloat16",
    }


def tensors(name):
    """Names and shapes, in the order of the file."""
    family, layers, hidden, inner, heads, kv_heads, vocabulary, tied = SHAPES[name]
    head = hidden // heads
    yield "model.embed_tokens.weight", (vocabulary, hidden)
    for layer in range(layers):
        at = f"model.layers.{layer}."
        for part, rows in [("q", heads), ("k", kv_heads), ("v", kv_heads)]:
            yield f"{at}self_attn.{part}_proj.weight", (rows * head, hidden)
            if family == "qwen2":
                yield f"{at}self_attn.{part}_proj.bias", (rows * head,)
        yield f"{at}self_attn.o_proj.weight", (hidden, heads * head)
        yield f"{at}mlp.gate_proj.weight", (inner, hidden)
        yield f"{at}mlp.up_proj.weight", (inner, hidden)
        yield f"{at}mlp.down_proj.weight", (hidden, inner)
        yield f"{at}input_layernorm.weight", (hidden,)
        yield f"{at}post_attention_layernorm.weight", (hidden,)
    yield "model.norm.weight", (hidden,)
    if not tied:
        yield "lm_head.weight", (vocabulary, hidden)


def write_weights(name, file):
    random = numpy.random.default_rng(0)
    normal = random.standard_normal(BLOCK, dtype=numpy.float32) * 0.02
    block = (normal.view(numpy.uint32) >> 16).astype(numpy.uint16)  # bf16
    header, at = {}, 0
    for tensor, shape in tensors(name):
        size = 2 * int(numpy.prod(shape))
        header[tensor] = {"dtype": "BF16", "shape": list(shape), "data_offsets": [at, at + size]}
        at += size
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    file.write(struct.pack("<Q", len(text)) + text)
    for number, (tensor, shape) in enumerate(tensors(name)):
        left = int(numpy.prod(shape))
        if tensor.endswith("norm.weight"):
            file.write(numpy.full(left, 0x3F80, numpy.uint16).tobytes())  # 1.0
            continue
        turned = numpy.roll(block, 977 * number)
        while left > 0:
            file.write(turned[: min(left, BLOCK)].tobytes())
            left -= BLOCK


def write_groups(file, count, completions, prompt, length):
    random = numpy.random.default_rng(1)
    ids = lambda many: [int(it) for it in random.integers(100, 40000, many)]
    for _ in range(count):
        group = {
            "prompt_ids": ids(prompt),
            "completion_ids": [ids(length) for _ in range(completions)],
            "rewards": [float(it) for it in random.standard_normal(completions)],
        }
        file.write(json.dumps(group) + "\n")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("shape", choices=SHAPES)
    parser.add_argument("out", type=pathlib.Path)
    parser.add_argument("--groups", type=int, default=4)
    parser.add_argument("--completions", type=int, default=4)
    parser.add_argument("--prompt", type=int, default=350, help="tokens of a prompt")
    parser.add_argument("--length", type=int, default=40, help="tokens of a completion")
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    (args.out / "config.json").write_text(json.dumps(config(args.shape), indent=1))
    weights = args.out / "model.safetensors"
    if not weights.exists():
        with open(weights.with_suffix(".tmp"), "wb") as file:
            write_weights(args.shape, file)
        weights.with_suffix(".tmp").rename(weights)
    with open(args.out / "groups.jsonl", "w") as file:
        write_groups(file, args.groups, args.completions, args.prompt, args.length)


if __name__ == "__main__":
    main()
