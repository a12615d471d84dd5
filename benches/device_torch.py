#!/usr/bin/env python3
"""PyTorch beside `device.py`: alignment steps and sampling with the same models and tokens, on the same device.

Reads jobs as lines of JSON, answers each with one. Every group is a row `[prompt | completion 1 | … | completion K]`
whose prompt is read once, so that only kernels differ: attention is PyTorch's own (SDPA), once over the prompts, which
need no mask, and once over the completions. Logits are made for completions only, log-probs of the reference before the
first step. Weights are f32; with dtype bf16 passes are computed in bf16 (autocast), as `--compute bf16` does. All groups
have one shape, as `device.py` writes them. Needs torch and transformers, no tokenizer.
"""
import json
import sys
import time

import torch
import torch.nn.functional as F
from transformers import AttentionInterface, AutoModelForCausalLM

BETA = 0.1  # of the policy and of the rewards, as the objective has it
STATE = {}  # what attention needs to know of the batch


def shared_prompt(module, query, key, value, attention_mask=None, scaling=None, **_):
    """Attention over rows that begin with a prompt of STATE["prompt"] tokens."""
    start, mask = STATE["prompt"], STATE["mask"]
    grouped = {"enable_gqa": True} if key.shape[1] != query.shape[1] else {}
    attend = F.scaled_dot_product_attention
    first = attend(query[:, :, :start], key[:, :, :start], value[:, :, :start], is_causal=True, scale=scaling, **grouped)
    if key.shape[1] != query.shape[1]:
        # With a mask the fast kernel wants a key head for every query head.
        repeats = query.shape[1] // key.shape[1]
        key, value = key.repeat_interleave(repeats, 1), value.repeat_interleave(repeats, 1)
    rest = attend(query[:, :, start:], key, value, attn_mask=mask.to(query.dtype), scale=scaling)
    return torch.cat([first, rest], 2).transpose(1, 2).contiguous(), None


AttentionInterface.register("shared_prompt", shared_prompt)


def load(job, attention):
    kept = torch.bfloat16 if job["dtype"] == "bf16" and job["task"] == "sample" else torch.float32
    model = AutoModelForCausalLM.from_pretrained(job["model"], dtype=kept, attn_implementation=attention)
    return model.eval().to(job["device"])


def batch(rows, device):
    """Rows of one shape, and what the layout makes of them."""
    prompt, completion, count = len(rows[0]["prompt_ids"]), len(rows[0]["completion_ids"][0]), len(rows[0]["completion_ids"])
    width = prompt + count * completion
    ids = torch.tensor([row["prompt_ids"] + sum(row["completion_ids"], []) for row in rows], device=device)
    positions = torch.tensor([*range(prompt), *(list(range(prompt, prompt + completion)) * count)], device=device)
    part = torch.tensor([0] * prompt + [1 + index for index in range(count) for _ in range(completion)], device=device)
    seen = ((part[:, None] == part) | (part == 0)) & torch.ones(width, width, device=device).tril().bool()
    mask = torch.zeros(count * completion, width, device=device).masked_fill(~seen[prompt:], float("-inf"))
    # The prompt's last token predicts the first of each completion.
    reads = [[prompt - 1, *range(prompt + index * completion, prompt + (index + 1) * completion - 1)] for index in range(count)]
    STATE.update(prompt=prompt, mask=mask[None, None])
    targets = torch.tensor([row["completion_ids"] for row in rows], device=device)  # [rows, K, completion]
    rewards = torch.tensor([row["rewards"] for row in rows], device=device)
    return ids, positions.expand_as(ids), torch.tensor(reads, device=device), targets, rewards


def log_probs(model, inputs, narrow):
    """Of every completion, `[rows, K]`."""
    ids, positions, reads, targets, _ = inputs
    with torch.autocast(ids.device.type, torch.bfloat16, enabled=narrow):
        hidden = model.base_model(input_ids=ids, position_ids=positions, use_cache=False).last_hidden_state
        hidden = hidden[:, reads]  # [rows, K, completion, width]
        logits = model.get_output_embeddings()(hidden)
    return -F.cross_entropy(logits.float().flatten(0, 2), targets.flatten(), reduction="none").view(targets.shape).sum(2)


def synchronise(device):
    if device.startswith("cuda"):
        torch.cuda.synchronize()


def align(job):
    device, narrow, micro = job["device"], job["dtype"] == "bf16", job["micro"]
    model = load(job, "shared_prompt")
    if job.get("compiled"):
        model.base_model.compile()
    with open(job["data"], encoding="utf-8") as lines:
        rows = [json.loads(line) for line in lines]
    parts = [batch(rows[start : start + micro], device) for start in range(0, len(rows), micro)]
    with torch.no_grad():
        known = [log_probs(model, part, narrow) for part in parts]
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-6, weight_decay=0.0, fused=True)
    shares, seconds, losses = job["groups"] // micro, [], []
    for step in range(len(parts) // shares):
        synchronise(device)
        began, total = time.perf_counter(), 0.0
        for index in range(step * shares, (step + 1) * shares):
            ratios = log_probs(model, parts[index], narrow) - known[index]
            log_q, log_p = F.log_softmax(BETA * ratios, 1), F.log_softmax(parts[index][4] / BETA, 1)
            loss = (log_q.exp() * (log_q - log_p)).sum(1).mean() / shares
            loss.backward()
            total = total + loss.detach()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        losses.append(float(total))
        synchronise(device)
        seconds.append(time.perf_counter() - began)
    later = seconds[min(2, len(seconds) - 1) :]
    return {"seconds": sum(later) / len(later), "all_seconds": seconds, "losses": losses}


def sample(job):
    device = job["device"]
    model = load(job, "sdpa")
    with open(job["data"], encoding="utf-8") as lines:
        prompts = [json.loads(line)["prompt_ids"] for line in lines][: job["prompts"]]
    ids = torch.tensor(prompts, device=device)
    seconds = []
    for _ in range(2):
        synchronise(device)
        began = time.perf_counter()
        with torch.inference_mode():
            model.generate(input_ids=ids, attention_mask=torch.ones_like(ids), do_sample=True, temperature=1.0, top_k=0, top_p=1.0,
                           num_return_sequences=job["samples"], min_new_tokens=job["tokens"], max_new_tokens=job["tokens"], pad_token_id=0)
        synchronise(device)
        seconds.append(time.perf_counter() - began)
    return {"seconds": min(seconds), "all_seconds": seconds}


def main():
    for line in sys.stdin:
        job = json.loads(line)
        began = time.perf_counter()
        on_gpu = job["device"].startswith("cuda")
        try:
            if on_gpu:
                torch.cuda.reset_peak_memory_stats()
            answer = {"align": align, "sample": sample}[job["task"]](job)
            if on_gpu:
                answer["peak_allocated_bytes"] = torch.cuda.max_memory_allocated()
        except Exception as error:  # the next job may work
            answer = {"error": f"{type(error).__name__}: {error}"[-1500:]}
        if on_gpu:
            torch.cuda.empty_cache()
        print(json.dumps({**answer, "whole_seconds": time.perf_counter() - began}), flush=True)


if __name__ == "__main__":
    main()
