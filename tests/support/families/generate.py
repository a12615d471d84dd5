"""Writes numbers.json: what transformers computes for the models of this folder, in f64 on the CPU.

    pip install torch==2.9.0 transformers==4.57.6 && python generate.py

Each other file here is the config.json of a tiny model. Its weights are drawn from its tensors'
names: `drawn` below, and `drawn` in ../formula.rs. Of each model numbers.json holds

    log_probs   of each of TOKENS after the first
    logits      at the last of TOKENS
    gradients   of minus the mean of log_probs: for every tensor the Euclidean norm and the entries
                at 0, n / 3 and 2n / 3 of its n
    greedy      a prompt of four tokens and the eight that follow, and the smallest gap between the
                best and the second-best logit on the way

transformers computes rotary angles, RMS norms and the attention's softmax in f32 whatever the model's
type. Here they are f64, too, and the log-probs are held against those without that change.
"""

import json
from pathlib import Path

import torch
from torch.func import functional_call
from transformers import AutoConfig, AutoModelForCausalLM

torch.set_num_threads(1)

TOKENS = [1, 5, 3, 7, 2, 9, 0, 4]
HERE = Path(__file__).parent


def drawn(name, shape):
    """Numbers in [-1/2, 1/2) from a linear congruential generator, seeded with the name's FNV-1a hash."""
    mask, state = (1 << 64) - 1, 0xCBF29CE484222325
    for byte in name.encode():
        state = ((state ^ byte) * 0x100000001B3) & mask
    about = float(len(shape) == 1 and name.endswith("weight"))
    values = []
    for _ in range(torch.Size(shape).numel()):
        state = (state * 6364136223846793005 + 1442695040888963407) & mask
        values.append(about + (state >> 40) / (1 << 24) - 0.5)
    # The weights are those of an f32 file.
    return torch.tensor(values, dtype=torch.float32).to(torch.float64).reshape(list(shape))


def with_old_names(config):
    """Settings that transformers 5 keeps in `rope_parameters`, where version 4 looks for them."""
    config = dict(config)
    new = config.pop("rope_parameters", None)
    if new:
        new = dict(new)
        for key in ("rope_theta", "partial_rotary_factor"):
            if key in new:
                config[key] = new.pop(key)
        if new["rope_type"] == "longrope":
            config["original_max_position_embeddings"] = new.pop("original_max_position_embeddings")
        config["rope_scaling"] = new
    return config


class Plain:
    """A model that transformers knows as it is written."""

    def __init__(self, config):
        config = dict(with_old_names(config))
        config = AutoConfig.for_model(config.pop("model_type"), **config)
        self.model = AutoModelForCausalLM.from_config(config, attn_implementation="eager").double().eval()
        self.shapes = {name: tuple(it.shape) for name, it in self.model.named_parameters()}

    def state(self, parameters):
        return parameters

    def logits(self, parameters, tokens):
        ids = torch.tensor([tokens])
        return functional_call(self.model, self.state(parameters), kwargs={"input_ids": ids, "use_cache": False}).logits[0]


class ChatGlm(Plain):
    """ChatGLM as it was published: GlmForCausalLM, its tensors joined and renamed."""

    def __init__(self, config):
        heads, hidden = config["num_attention_heads"], config["hidden_size"]
        groups = config["multi_query_group_num"] if config.get("multi_query_attention") else heads
        self.width = config.get("kv_channels", hidden // heads)
        self.rows = [heads * self.width, groups * self.width, groups * self.width]
        linear_bias = config.get("add_bias_linear", False)
        qkv_bias = linear_bias or config.get("add_qkv_bias", False)
        super().__init__({
            "model_type": "glm", "vocab_size": config["padded_vocab_size"], "hidden_size": hidden,
            "intermediate_size": config["ffn_hidden_size"], "num_hidden_layers": config["num_layers"],
            "num_attention_heads": heads, "num_key_value_heads": groups, "head_dim": self.width,
            "rms_norm_eps": config["layernorm_epsilon"], "attention_bias": qkv_bias,
            "rope_theta": 10000.0 * config.get("rope_ratio", 1.0), "pad_token_id": 8,
            "tie_word_embeddings": config.get("tie_word_embeddings", False),
        })
        if linear_bias:
            for layer in self.model.model.layers:
                for module in (layer.self_attn.o_proj, layer.mlp.gate_up_proj, layer.mlp.down_proj):
                    module.bias = torch.nn.Parameter(torch.zeros(module.out_features, dtype=torch.float64))
        # Theirs -> ours; the three projections of a layer's attention share one tensor.
        self.names = {}
        for name, _ in self.model.named_parameters():
            ours = name.replace("model.layers", "transformer.encoder.layers")
            for theirs, there in (
                ("model.embed_tokens", "transformer.embedding.word_embeddings"),
                ("model.norm", "transformer.encoder.final_layernorm"),
                ("lm_head", "transformer.output_layer"),
                ("self_attn.q_proj", "self_attention.query_key_value"),
                ("self_attn.k_proj", "self_attention.query_key_value"),
                ("self_attn.v_proj", "self_attention.query_key_value"),
                ("self_attn.o_proj", "self_attention.dense"),
                ("mlp.gate_up_proj", "mlp.dense_h_to_4h"),
                ("mlp.down_proj", "mlp.dense_4h_to_h"),
            ):
                ours = ours.replace(theirs, there)
            self.names[name] = ours
        self.shapes = {ours: tuple(self.model.get_parameter(name).shape) for name, ours in self.names.items()}
        for ours in self.shapes:
            if "query_key_value" in ours:
                self.shapes[ours] = (sum(self.rows), *self.shapes[ours][1:])

    def state(self, parameters):
        state = {}
        for name, ours in self.names.items():
            part = next((i for i, it in enumerate("qkv") if f"{it}_proj" in name), None)
            whole = parameters[ours]
            state[name] = whole if part is None else whole.split(self.rows)[part]
        return state


def model_of(config):
    return ChatGlm(config) if config["model_type"] == "chatglm" else Plain(config)


def log_probs(logits, tokens):
    return torch.log_softmax(logits, -1)[range(len(tokens) - 1), tokens[1:]]


def greedy(model, parameters):
    """Of all stretches of TOKENS the one whose continuation says most: many tokens, clear choices."""
    best = None
    for start in range(len(TOKENS) - 3):
        prompt = TOKENS[start : start + 4]
        tokens, margin = list(prompt), float("inf")
        for _ in range(8):
            logits = model.logits(parameters, tokens)[-1]
            first, second = torch.topk(logits, 2).values.tolist()
            margin = min(margin, first - second)
            tokens.append(int(logits.argmax()))
        rank = (margin > 0.01, len(set(tokens[4:])), margin)
        if best is None or rank > best[0]:
            best = (rank, {"prompt": prompt, "tokens": tokens[4:], "margin": margin})
    assert best[0][0], f"no continuation is clear: {best}"
    return best[1]


def numbers(config):
    with torch.no_grad():
        plain = model_of(config)
        parameters = {name: drawn(name, shape) for name, shape in plain.shapes.items()}
        near = log_probs(plain.logits(parameters, TOKENS), TOKENS)
    names = ("float32", "float")
    kept = [getattr(torch, name) for name in names]
    kept_method = torch.Tensor.float
    try:
        for name in names:
            setattr(torch, name, torch.float64)
        torch.Tensor.float = torch.Tensor.double
        model = model_of(config)
        for it in parameters.values():
            it.requires_grad_()
        logits = model.logits(parameters, TOKENS)
        found = log_probs(logits, TOKENS)
        (-found.mean()).backward()
        with torch.no_grad():
            continuation = greedy(model, parameters)
    finally:
        for name, value in zip(names, kept):
            setattr(torch, name, value)
        torch.Tensor.float = kept_method
    apart = (found - near).abs().max().item()
    assert apart < 1e-5, f"f32 within transformers is {apart} away"

    def gradient(it):
        flat = it.grad.flatten()
        return [it.grad.norm().item(), *(flat[i * len(flat) // 3].item() for i in range(3))]

    # Eleven digits: far beyond f32, and the same on every machine.
    def short(value):
        if isinstance(value, float):
            return float(f"{value:.10e}")
        if isinstance(value, dict):
            return {key: short(it) for key, it in value.items()}
        return [short(it) for it in value] if isinstance(value, list) else value

    return short({
        "log_probs": found.tolist(),
        "logits": logits[-1].tolist(),
        "gradients": {name: gradient(it) for name, it in parameters.items()},
        "greedy": continuation,
    }), apart


def main():
    found = {}
    for path in sorted(HERE.glob("*.json")):
        if path.name != "numbers.json":
            found[path.stem], apart = numbers(json.loads(path.read_text()))
            print(f"{path.stem}: {found[path.stem]['greedy']['tokens']}, f32 within transformers: {apart:.1e}")
    def lines(value, depth):
        """JSON with a line for each name, lists on one line."""
        if not isinstance(value, dict):
            return json.dumps(value)
        inner = (" " * (depth + 1) + f"{json.dumps(key)}: {lines(it, depth + 1)}" for key, it in value.items())
        return "{\n" + ",\n".join(inner) + "\n" + " " * depth + "}"
    (HERE / "numbers.json").write_text(lines(found, 0) + "\n")


if __name__ == "__main__":
    main()
