"""Holds what exalign writes against transformers, PEFT and TRL: `python .ci/interop.py EXALIGN`.

- A model of every family, a reward model, an adapter and a merged adapter load without a missing,
  unexpected or misshapen tensor and without a warning.
- `exalign score` and `exalign label` give the numbers of what was loaded.
- Weights written as bf16 are the rounded f32 weights, bit by bit.
- Records of every form become the tokens that TRL's trainers make of them.

One line for each check, a table at the end, exit code 1 if one fails.
"""

import json
import logging
import os
import subprocess
import sys
import tempfile
import warnings
from pathlib import Path
from types import SimpleNamespace

os.environ.update(HF_HUB_OFFLINE="1", TRANSFORMERS_VERBOSITY="warning", TOKENIZERS_PARALLELISM="false")

import datasets
import peft
import safetensors.torch
import torch
import transformers
import trl
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from transformers import (
    AutoModelForCausalLM,
    AutoModelForSequenceClassification,
    AutoTokenizer,
    PreTrainedTokenizerFast,
)
from transformers.utils import logging as transformers_logging
from trl.trainer.dpo_trainer import DPOTrainer
from trl.trainer.reward_trainer import RewardTrainer
from trl.trainer.sft_trainer import SFTTrainer

FAMILIES = Path(__file__).parent.parent / "tests/support/families"
sys.path.insert(0, str(FAMILIES))
import generate  # noqa: E402

torch.set_num_threads(1)
datasets.disable_progress_bars()
datasets.disable_caching()
transformers_logging.disable_progress_bar()

EXALIGN = Path(sys.argv[1]).resolve()
# Two layers of width 8 in f32 on both sides.
NEAR = 1e-4

MODELS = [
    "gpt2", "gpt2_erf_untied", "gpt_neox", "gpt_neox_bare", "llama", "llama_scaled", "llama_llama3",
    "mistral", "qwen2", "qwen3", "glm", "glm4", "chatglm",
]

# ---- checks ---------------------------------------------------------------------------------------


class Checks:
    """Every check that was made, by its group."""

    def __init__(self):
        self.made = []

    def add(self, group, what, holds, said=""):
        self.made.append((group, holds))
        print(f"{'ok    ' if holds else 'FAILED'}  {group}: {what}{': ' if said else ''}{said}", flush=True)

    def near(self, group, what, ours, theirs, tolerance=NEAR):
        apart = (
            max((abs(a - b) for a, b in zip(ours, theirs)), default=0.0)
            if len(ours) == len(theirs)
            else float("inf")
        )
        self.add(group, what, bool(ours) and apart <= tolerance, f"{len(ours)} numbers, {apart:.1e} apart")

    def table(self):
        print(f"\n{'':44}  held  failed")
        groups = dict.fromkeys(group for group, _ in self.made)
        for group in groups:
            held = [holds for of, holds in self.made if of == group]
            print(f"{group:44}  {sum(held):4}  {len(held) - sum(held):6}")
        failed = sum(not holds for _, holds in self.made)
        print(f"{'all':44}  {len(self.made) - failed:4}  {failed:6}")
        return failed


CHECKS = Checks()


class Warned(logging.Handler):
    """What the libraries warn of, in `said`."""

    def __init__(self):
        super().__init__(logging.WARNING)
        self.said = []

    def emit(self, record):
        self.said.append(record.getMessage())

    def __enter__(self):
        self.loggers = [logging.getLogger(name) for name in ("transformers", "peft")]
        for logger in self.loggers:
            logger.addHandler(self)
        self.warnings = warnings.catch_warnings(record=True)
        self.caught = self.warnings.__enter__()
        warnings.simplefilter("always")
        return self

    def __exit__(self, *raised):
        self.said += [str(it.message) for it in self.caught if issubclass(it.category, UserWarning)]
        self.warnings.__exit__(*raised)
        for logger in self.loggers:
            logger.removeHandler(self)


class Refused(Exception):
    """What the program says instead of doing what it was asked."""


def exalign(*arguments):
    """Standard output of the program, which must succeed."""
    command = [str(EXALIGN), *map(str, arguments), "--device", "flex", "-qq"]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode != 0:
        raise Refused(f"{' '.join(command[1:])}\n        {done.stderr.strip()}")
    return done.stdout


def json_lines(text):
    return [json.loads(line) for line in text.splitlines()]


def write_lines(path, records):
    path.write_text("".join(json.dumps(record) + "\n" for record in records))
    return path


# ---- a tokenizer and models -----------------------------------------------------------------------

TEXTS = [
    "The answer to the question is in the second line of the letter.",
    "What is the capital of the country, and how far is it from here?",
    "You are a helpful assistant. I think that it is about nine kilometres.",
    '{"type": "function", "function": {"name": "distance", "parameters": {}}}',
]

TEMPLATE = """\
{%- if tools %}{{ '<|im_start|>system\\nTools:\\n' }}{% for tool in tools %}{{ tool | tojson }}\
{{ '\\n' }}{% endfor %}{{ '<|im_end|>\\n' }}{% endif %}\
{%- for message in messages %}{{ '<|im_start|>' + message.role + '\\n' }}\
{%- if message.content %}{{ message.content | trim }}{% endif %}\
{%- for call in message.tool_calls or [] %}{{ '<call>' + (call.function | tojson) + '</call>' }}{% endfor %}\
{{ '<|im_end|>\\n' }}{% endfor %}\
{%- if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}\
{%- if thinking is defined and not thinking %}{{ '<think>\\n\\n</think>\\n\\n' }}{% endif %}{% endif %}"""


def write_tokenizer(folder, begins):
    """Bytes and a few merges; `begins`: whether a token stands in front of texts."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.train_from_iterator(
        TEXTS,
        trainers.BpeTrainer(
            vocab_size=320, initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), show_progress=False,
            special_tokens=["<|begin|>", "<|im_start|>", "<|im_end|>", "<|pad|>"],
        ),
    )
    if begins:
        begin = tokenizer.token_to_id("<|begin|>")
        tokenizer.post_processor = processors.TemplateProcessing(
            single="<|begin|> $A", pair="<|begin|> $A <|begin|> $B", special_tokens=[("<|begin|>", begin)]
        )
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, eos_token="<|im_end|>", pad_token="<|pad|>",
        bos_token="<|begin|>" if begins else None, chat_template=TEMPLATE,
    )
    fast.save_pretrained(folder)
    return AutoTokenizer.from_pretrained(folder)


def config_of(name, vocabulary, end, pad):
    """The configuration of the project's tests, with the tokenizer's vocabulary and room for texts."""
    config = generate.with_old_names(json.loads((FAMILIES / f"{name}.json").read_text()))
    for key in ("vocab_size", "padded_vocab_size"):
        if key in config:
            config[key] = vocabulary
    for key in ("n_positions", "max_position_embeddings", "seq_length", "sliding_window"):
        if config.get(key):
            config[key] = 512
    return {**config, "eos_token_id": end, "bos_token_id": end, "pad_token_id": pad}


def write_model(folder, name, begins=False):
    """A model of random weights as transformers writes it; returns its tokenizer."""
    folder.mkdir(parents=True)
    tokenizer = write_tokenizer(folder, begins)
    config = config_of(name, len(tokenizer), tokenizer.eos_token_id, tokenizer.pad_token_id)
    model = generate.model_of(config)
    drawn = {it: generate.drawn(it, shape).float() for it, shape in model.shapes.items()}
    if name == "chatglm":
        (folder / "config.json").write_text(json.dumps(config))
        safetensors.torch.save_file(drawn, folder / "model.safetensors", {"format": "pt"})
    else:
        model.model.load_state_dict(drawn, strict=False)
        # One of them in shards.
        model.model.float().save_pretrained(folder, max_shard_size="20KB" if name == "llama" else "1GB")
    return tokenizer


def load(group, what, auto, folder, **more):
    """What transformers makes of a folder, which must fit without a word."""
    with Warned() as warned:
        model, info = auto.from_pretrained(folder, output_loading_info=True, **more)
    amiss = {key: sorted(map(str, value)) for key, value in info.items() if value}
    CHECKS.add(group, f"{what} loads", not amiss and not warned.said, f"{amiss or ''} {' '.join(warned.said)}".strip())
    return model.eval()


def load_chatglm(group, folder):
    """ChatGLM through GlmForCausalLM, its tensors cut and renamed."""
    model = generate.model_of(json.loads((folder / "config.json").read_text()))
    tensors = safetensors.torch.load_file(folder / "model.safetensors")
    shapes = {name: tuple(it.shape) for name, it in tensors.items()}
    CHECKS.add(group, "chatglm has the published tensors", shapes == model.shapes)
    model.model.load_state_dict(model.state({name: it.double() for name, it in tensors.items()}))
    return model.model.float().eval()


@torch.no_grad()
def token_log_probs(model, prompt, completion):
    """log p of each of the completion's tokens; where nothing stands before the first, not of that."""
    ids = torch.tensor([prompt + completion])
    log_probs = torch.log_softmax(model(input_ids=ids).logits[0].float(), -1)
    return [log_probs[at - 1, ids[0, at]].item() for at in range(len(prompt), ids.shape[1]) if at > 0]


# ---- models, rewards, adapters --------------------------------------------------------------------

PAIRS = [
    {"prompt": "What is the capital?", "chosen": " The second.", "rejected": " A letter from here."},
    {"prompt": "How far is it?", "chosen": " About nine kilometres.", "rejected": " I think"},
]
GROUPS = [
    {"prompt": it["prompt"], "completions": [it["chosen"], it["rejected"], " is"], "rewards": [1, 0.5, 0]}
    for it in PAIRS
]
TRAINING = ("--max-steps", 1, "--epochs", 1, "--batch-size", 2, "--learning-rate", 0.01, "--seed", 1)


def encoded(tokenizer, group):
    """A group's prompt and completions as ids; completions end with the end token."""
    prompt = tokenizer(group["prompt"])["input_ids"]
    wholes = [tokenizer(group["prompt"] + it + tokenizer.eos_token)["input_ids"] for it in group["completions"]]
    return prompt, [whole[len(prompt) :] for whole in wholes]


def held_to_score(group, what, model, tokenizer, folder, data):
    scored = json_lines(exalign("score", "--model", folder, "--data", data, "--per-token"))
    ours = [it for line in scored for completion in line["token_log_probs"] for it in completion]
    theirs = []
    for record in GROUPS:
        prompt, completions = encoded(tokenizer, record)
        for completion in completions:
            theirs += token_log_probs(model, prompt, completion)
    CHECKS.near(group, f"{what}, log-probs of tokens", ours, theirs)


def of_family(place, name):
    base = place / "base"
    tokenizer = write_model(base, name)
    groups = write_lines(place / "groups.jsonl", GROUPS)
    pairs = write_lines(place / "pairs.jsonl", PAIRS)
    demonstrations = write_lines(
        place / "demonstrations.jsonl", [{"prompt": it["prompt"], "completion": it["chosen"]} for it in PAIRS]
    )
    train = ("--model", base, "--data", demonstrations, *TRAINING)

    group = "models"
    exalign("sft", *train, "--out", place / "sft")
    written = place / "sft/model"
    model = load_chatglm(group, written) if name == "chatglm" else load(group, name, AutoModelForCausalLM, written)
    held_to_score(group, name, model, tokenizer, written, groups)
    same = AutoTokenizer.from_pretrained(written)
    CHECKS.add(group, f"{name}, its tokenizer and template", encoded(same, GROUPS[0]) == encoded(tokenizer, GROUPS[0])
               and same.chat_template == tokenizer.chat_template)

    group = "models in bf16"
    exalign("sft", *train, "--out", place / "narrow", "--dtype", "bf16")
    wide = safetensors.torch.load_file(written / "model.safetensors")
    narrow = safetensors.torch.load_file(place / "narrow/model/model.safetensors")
    bits = wide.keys() == narrow.keys() and all(torch.equal(wide[it].bfloat16(), narrow[it]) for it in wide)
    CHECKS.add(group, f"{name}, the rounded weights bit by bit", bits, f"{len(wide)} tensors")
    if name != "chatglm":
        loaded = load(group, name, AutoModelForCausalLM, place / "narrow/model", dtype="auto")
        CHECKS.add(group, f"{name} is bf16 to transformers", loaded.dtype == torch.bfloat16)

    group = "aligned models"
    exalign("align", "--objective", "dpo", "--model", written, "--data", pairs, *TRAINING, "--out", place / "dpo")
    if name == "chatglm":
        model = load_chatglm(group, place / "dpo/model")
    else:
        model = load(group, name, AutoModelForCausalLM, place / "dpo/model")
    held_to_score(group, name, model, tokenizer, place / "dpo/model", groups)

    if name == "chatglm":
        return

    group = "reward models"
    exalign("reward", "--model", base, "--data", pairs, *TRAINING, "--out", place / "reward")
    model = load(group, name, AutoModelForSequenceClassification, place / "reward/model")
    held_to_label(group, name, model, tokenizer, place / "reward", groups)

    group = "adapters"
    exalign("sft", *train, "--out", place / "lora", "--lora-rank", 2)
    model = with_adapter(group, name, AutoModelForCausalLM, base, place / "lora/model")
    held_to_score(group, name, model, tokenizer, place / "lora/model", groups)

    group = "merged adapters"
    exalign("merge", "--model", base, "--adapter", place / "lora/model", "--out", place / "merged")
    merged = load(group, name, AutoModelForCausalLM, place / "merged")
    theirs = model.merge_and_unload().state_dict()
    apart = max((it - theirs[key]).abs().max().item() for key, it in merged.state_dict().items())
    # Entries about 1 in f32, the product of two factors added.
    CHECKS.add(group, f"{name}, the weights that PEFT merges", apart < 1e-6, f"{apart:.1e} apart")
    held_to_score(group, name, merged, tokenizer, place / "merged", groups)

    group = "adapters of reward models"
    exalign("reward", "--model", base, "--data", pairs, *TRAINING, "--out", place / "lora-reward", "--lora-rank", 2)
    trunk = AutoModelForSequenceClassification
    model = with_adapter(group, name, trunk, base, place / "lora-reward/model", num_labels=1)
    held_to_label(group, name, model, tokenizer, place / "lora-reward", groups)


def with_adapter(group, name, auto, base, folder, **more):
    transformers_logging.set_verbosity_error()  # a classifier on a language model has a new head
    model = auto.from_pretrained(base, **more)
    transformers_logging.set_verbosity_warning()
    with Warned() as warned:
        model = peft.PeftModel.from_pretrained(model, folder)
    CHECKS.add(group, f"{name} loads", not warned.said, " ".join(warned.said))
    return model.eval()


@torch.no_grad()
def held_to_label(group, name, model, tokenizer, folder, groups):
    out = folder / "labelled.jsonl"
    exalign("label", "--reward", folder, "--data", groups, "--out", out)
    ours = [it for line in json_lines(out.read_text()) for it in line["rewards"]]
    theirs = []
    for record in GROUPS:
        prompt, completions = encoded(tokenizer, record)
        theirs += [model(input_ids=torch.tensor([prompt + it])).logits[0, 0].item() for it in completions]
    CHECKS.near(group, f"{name}, rewards", ours, theirs)


# ---- records --------------------------------------------------------------------------------------


def user(text):
    return {"role": "user", "content": text}


def assistant(text):
    return {"role": "assistant", "content": text}


SYSTEM = {"role": "system", "content": "You are a helpful assistant."}
TOOLS = [{"type": "function", "function": {
    "name": "distance", "description": "How far?", "parameters": {"type": "object", "properties": {}},
}}]
CALL = {"role": "assistant", "content": "", "tool_calls": [
    {"type": "function", "function": {"name": "distance", "arguments": {"to": "the capital"}}},
]}
ASKED = [SYSTEM, user("What is the capital?"), assistant("The second."), user("How far is it?\n")]

# Form, the trainer whose tokens it must have, records.
FORMS = [
    ("pair", "dpo", PAIRS + [{"prompt": "Häuser, 家? ", "chosen": "naïve 🙂", "rejected": "no\n\nno"}]),
    ("pair, the prompt within", "dpo", [
        {"chosen": "What is it?\nThe answer", "rejected": "What is it?\nA letter"},
        {"chosen": "You are far. Here I think", "rejected": "You are far. Here it is"},
    ]),
    ("pair of messages", "dpo", [
        {"prompt": ASKED, "chosen": [assistant("Nine.")], "rejected": [assistant(" About ten. ")]},
        {"prompt": [user("How?")], "chosen": [assistant("So"), user("And?"), assistant("So, too")],
         "rejected": [assistant("")]},
    ]),
    ("pair of messages, the prompt within", "dpo", [
        {"chosen": [*ASKED, assistant("Nine.")], "rejected": [*ASKED, assistant("Ten.")]},
        {"chosen": [user("How?"), assistant("So")], "rejected": [user("How?"), assistant("Not so")]},
    ]),
    ("pair of messages with tools", "dpo", [
        {"prompt": ASKED, "chosen": [CALL], "rejected": [assistant("Ten.")], "tools": TOOLS},
    ]),
    ("pair of messages with arguments", "dpo", [
        {"prompt": [user("How?")], "chosen": [assistant("So")], "rejected": [assistant("Not so")],
         "chat_template_kwargs": {"thinking": True}},
    ]),
    ("pair of messages for a reward model", "reward", [
        {"prompt": ASKED, "chosen": [assistant("Nine.")], "rejected": [assistant("Ten.")]},
    ]),
    ("pair for a reward model", "reward", PAIRS),
    ("group", "sft", [
        {"prompt": it["prompt"], "completions": [it["chosen"], it["rejected"]], "rewards": [1, 0]} for it in PAIRS
    ]),
    ("group of messages", "sft", [
        {"prompt": ASKED, "completions": [[assistant("Nine.")], [assistant("Ten.")]], "rewards": [1, 0]},
    ]),
    ("demonstration", "sft", [{"prompt": it["prompt"], "completion": it["chosen"]} for it in PAIRS]),
    ("demonstration of messages", "sft", [{"prompt": ASKED, "completion": [assistant("Nine.")]}]),
    ("demonstration of messages with tools", "sft", [
        {"prompt": ASKED, "completion": [CALL], "tools": TOOLS},
        {"prompt": [*ASKED, CALL, {"role": "tool", "content": "9"}], "completion": [assistant("Nine.")], "tools": TOOLS},
    ]),
    ("whole text", "sft", [{"text": "The answer is in the letter."}, {"text": "Far from here.<|im_end|>"}]),
    ("whole conversation", "sft", [{"messages": [*ASKED, assistant("Nine.")]}]),
    ("whole conversation with tools", "sft", [{"messages": [*ASKED, CALL], "tools": TOOLS}]),
    ("completion with a thumb", "sft", [
        {"prompt": it["prompt"], "completion": it["chosen"], "label": i == 0} for i, it in enumerate(PAIRS)
    ]),
    ("completion with a thumb, of messages", "sft", [
        {"prompt": ASKED, "completion": [assistant("Nine.")], "label": True},
        {"prompt": ASKED, "completion": [assistant("Ten.")], "label": False},
    ]),
    ("labelled text", "text", [{"text": "The answer is far.", "label": 0}, {"text": "It is here.", "label": 1}]),
    ("prompt", "prompt", [{"prompt": it["prompt"]} for it in PAIRS]),
    ("prompt of messages", "prompt", [{"prompt": ASKED}, {"prompt": [user("How?")]}]),
    ("prompt of messages with arguments", "prompt", [
        {"prompt": ASKED, "chat_template_kwargs": {"thinking": False}},
    ]),
]


def prepared(trainer, records, tokenizer, *more):
    """Records through the part of a TRL trainer that makes tokens of them."""
    settings = SimpleNamespace(
        dataset_num_proc=None, dataset_text_field="text", assistant_only_loss=False, max_length=None,
        use_liger_kernel=False, shuffle_dataset=False,
    )
    of = SimpleNamespace(_is_vlm=False)
    return list(trainer._prepare_dataset(of, datasets.Dataset.from_list(records), tokenizer, settings, *more))


def tokens_of_trl(trainer, records, tokenizer):
    """Of each record the prompt's ids (None where a trainer knows no seam) and those of each answer."""
    if trainer == "ids":
        return [(it["prompt_ids"], [it["chosen_ids"], it["rejected_ids"]]) for it in records]
    if trainer == "text":
        # What a classifier reads, as it stands.
        return [(None, [tokenizer(it["text"])["input_ids"]]) for it in records]
    if trainer == "prompt":
        found = []
        for record in records:
            if isinstance(record["prompt"], str):
                found.append((tokenizer(record["prompt"])["input_ids"], []))
                continue
            text = trl.apply_chat_template(record, tokenizer)["prompt"]
            found.append((tokenizer(text, add_special_tokens=False)["input_ids"], []))
        return found
    if trainer == "dpo":
        rows = prepared(DPOTrainer, records, tokenizer, "train")
        return [(it["prompt_ids"], [it["chosen_ids"], it["rejected_ids"]]) for it in rows]
    if trainer == "reward":
        rows = prepared(RewardTrainer, records, tokenizer, "train")
        return [(None, [it["chosen_ids"], it["rejected_ids"]]) for it in rows]
    # One answer a row.
    found = []
    for record in records:
        rest = {key: it for key, it in record.items() if key not in ("completions", "rewards", "label")}
        rows = [{**rest, "completion": it} for it in record["completions"]] if "completions" in record else [rest]
        rows = prepared(SFTTrainer, rows, tokenizer, False, None, "train")
        seams = [it["completion_mask"].index(1) if "completion_mask" in it else None for it in rows]
        ids = [it["input_ids"] for it in rows]
        if None in seams:
            found.append((None, ids))
        else:
            found.append((ids[0][: seams[0]], [it[seam:] for it, seam in zip(ids, seams)]))
    return found


def written(tokenizer, id):
    """A token as `exalign check` shows it."""
    text = tokenizer.decode([id])
    if not text or "\ufffd" in text:
        return tokenizer.convert_ids_to_tokens(id)
    return text.replace(" ", "·").replace("\n", "⏎").replace("\r", "␍").replace("\t", "⇥")


def of_records(place, begins):
    base = place / "base"
    tokenizer = write_model(base, "llama", begins)
    model = AutoModelForCausalLM.from_pretrained(base).eval()
    group = f"records, {'with' if begins else 'without'} a begin token"
    pairs = prepared(DPOTrainer, FORMS[0][2], tokenizer, "train")
    ids = ("prompt_ids", "chosen_ids", "rejected_ids")
    as_ids = ("pair of token ids", "ids", [{key: it[key] for key in ids} for it in pairs])
    for number, (form, trainer, records) in enumerate([*FORMS, as_ids]):
        data = write_lines(place / f"{number}.jsonl", records)
        theirs = tokens_of_trl(trainer, records, tokenizer)
        shown = json.loads(exalign("check", "--model", base, "--data", data, "--json", "--show", len(records)))["shown"]
        ours = [(it["prompt"], [answer["tokens"] for answer in it["answers"]]) for it in shown]
        show = lambda ids: [written(tokenizer, id) for id in ids]
        different = []
        for (prompt, answers), (their_prompt, their_answers) in zip(ours, theirs):
            if their_prompt is None:
                prompt, answers = [], [prompt + it for it in answers]
            wanted = (show(their_prompt or []), [show(it) for it in their_answers])
            if (prompt, answers) != wanted:
                different.append(f"\n        exalign {(prompt, answers)}\n        TRL     {wanted}")
        count = sum(len(prompt or []) + sum(map(len, answers)) for prompt, answers in theirs)
        CHECKS.add(group, f"{form}, tokens of TRL ({trainer})", len(ours) == len(theirs) and not different,
                   f"{count} tokens{''.join(different)}")
        if trainer in ("dpo", "sft", "ids") and not any(prompt is None for prompt, _ in theirs):
            scored = json_lines(exalign("score", "--model", base, "--data", data, "--per-token"))
            ours = [it for line in scored for completion in line["token_log_probs"] for it in completion]
            numbers = [it for prompt, answers in theirs for answer in answers
                       for it in token_log_probs(model, prompt, answer)]
            CHECKS.near(group, f"{form}, log-probs of TRL's tokens", ours, numbers)


def main():
    print(f"torch {torch.__version__}, transformers {transformers.__version__}, peft {peft.__version__}, "
          f"trl {trl.__version__}", flush=True)
    with tempfile.TemporaryDirectory(prefix="interop-") as place:
        parts = [(of_records, f"records-{begins}", begins) for begins in (False, True)]
        parts += [(of_family, name, name) for name in MODELS]
        for check, folder, subject in parts:
            try:
                check(Path(place) / folder, subject)
            except Refused as refused:
                CHECKS.add("exalign", "does what it is asked", False, str(refused))
    sys.exit(1 if CHECKS.table() else 0)


if __name__ == "__main__":
    main()
