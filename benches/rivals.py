#!/usr/bin/env python3
"""What runs beside this program in `compare.py`: TRL, PyTorch loops and transformers' `generate`.

    rivals.py SETTINGS       # JSON, as compare.py's `run_rival` writes it

Each trains on the rows of a file and prints one JSON line a step: `loss`, `seconds`, `cpu_seconds`. `layouts.py` has
the ways in which the loops lay groups out as tensors.
"""
import json
import math
import statistics
import sys
import time

EPSILON = 1e-3
BETA = 0.1


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
        gradient_accumulation_steps=s["groups"] // s["micro"], max_steps=s["steps"], learning_rate=s["rate"],
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


def load(s):
    """The model, and what saves the weights that train: the model itself, or peft's adapters, which are in its layers."""
    import torch
    from transformers import AutoModelForCausalLM

    kept_narrow = s["compute"] == "bf16" and s["task"] == "score" or s.get("base_dtype") == "bf16"
    dtype = torch.bfloat16 if kept_narrow else torch.float32
    model = AutoModelForCausalLM.from_pretrained(s["model"], dtype=dtype).eval()
    saved = model
    if s.get("adapter"):
        from peft import PeftModel

        # `compare.py` made the adapter, so that both sides start from the same factors.
        saved = PeftModel.from_pretrained(model, s["adapter"], is_trainable=True).eval()
    if s["name"].endswith("compiled"):
        for layer in model.model.layers:
            layer.compile(dynamic=True)
    return model, saved


def loss_of(s, ratios, rewards):
    """The objective, of log-ratios and rewards `[groups, K]`; of pairs the chosen completion is the first."""
    import torch.nn.functional as F

    if ratios.shape[1] > 2:
        log_q, log_p = F.log_softmax(BETA * ratios, 1), F.log_softmax(rewards / BETA, 1)
        kl = log_q.exp() * (log_q - log_p) if s["loss"] == "exo" else -log_p.exp() * log_q
        return kl.sum(1).mean()
    z = BETA * (ratios[:, 0] - ratios[:, 1])
    if s["loss"] == "dpo":
        return -F.logsigmoid(z).mean()
    win, lose = F.logsigmoid(z), F.logsigmoid(-z)
    return (win.exp() * (win - math.log1p(-EPSILON)) + lose.exp() * (lose - math.log(EPSILON))).mean()


def check_layout(s, model, layout, plain, rows):
    """Ends the program unless both layouts give the same log-probs of one group."""
    import torch

    both = []
    for each in (layout, plain):
        model.set_attn_implementation(each.attention)
        with torch.no_grad():
            both.append(each.log_probs(model, each.batch(rows)))
    one, other = both
    difference = (one - other).abs().max().item()
    print(json.dumps({"difference": difference}))
    if s["compute"] == "f32" and difference > 1e-4 * other.abs().max().item():
        sys.exit(f"log-probs differ by {difference} between the rows that share a prompt and those that repeat it")


def torch_loop(s):
    import torch
    from transformers import AutoTokenizer

    import layouts

    torch.set_num_threads(s["threads"])
    tokenizer = AutoTokenizer.from_pretrained(s["model"])
    policy, saved = load(s)
    name, narrow = s["name"], s["compute"] == "bf16"
    plain = layouts.Repeated(tokenizer, policy.dtype, narrow, every_logit=name == "torch")
    layout = layouts.Shared(tokenizer, policy.dtype, narrow) if name.startswith("torch-shared") else plain
    with open(s["data"], encoding="utf-8") as lines:
        rows = [json.loads(line) for line in lines]
    policy.set_attn_implementation(layout.attention)
    micro = s["micro"]
    parts = [rows[start : start + micro] for start in range(0, len(rows), micro)]
    if s.get("check"):
        return check_layout(s, policy, layout, plain, rows)
    if s["task"] == "score":
        began, cpu = time.perf_counter(), time.process_time()
        with torch.no_grad():
            total = sum(layout.log_probs(policy, layout.batch(part)).sum().item() for part in parts)
        return report_step(-total / len(rows), began, cpu)
    train(s, policy, layout, parts)
    saved.save_pretrained(s["out"])


def train(s, policy, layout, parts):
    """Steps over `parts`, each the rows of a micro-batch."""
    import torch

    reference = load(s)[0] if s["task"] == "align" and s["name"] == "torch" else None
    known = []
    if s["task"] == "align" and reference is None:
        # Before the first step the policy is the reference.
        with torch.no_grad():
            known = [layout.log_probs(policy, layout.batch(part)) for part in parts]
    trained = [parameter for parameter in policy.parameters() if parameter.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=s["rate"], betas=(0.9, 0.999), eps=1e-8, weight_decay=0.0, fused=True)
    shares = len(parts) // s["steps"]
    for step in range(s["steps"]):
        began, cpu, total = time.perf_counter(), time.process_time(), 0.0
        batches = [layout.batch(parts[index]) for index in range(step * shares, (step + 1) * shares)]
        tokens = sum(batch.num_scored for batch in batches)
        for index, batch in enumerate(batches, step * shares):
            if s["task"] == "sft":
                loss = -layout.log_probs(policy, batch).sum() / tokens
            else:
                with torch.no_grad():
                    before = known[index] if known else layout.log_probs(reference, batch)
                ratios = (layout.log_probs(policy, batch) - before).view(len(parts[index]), -1)
                rewards = torch.tensor([row["rewards"] for row in parts[index]])
                loss = loss_of(s, ratios, rewards) / shares
            loss.backward()
            total += loss.item()
        torch.nn.utils.clip_grad_norm_(trained, 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        report_step(total, began, cpu)


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


def main():
    settings = json.loads(sys.argv[1])
    {"trl": trl, "torch": torch_loop, "generate": generate}[settings["name"].split("-")[0]](settings)


if __name__ == "__main__":
    main()
