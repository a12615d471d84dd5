"""How the loops of `rivals.py` lay groups out as tensors: the prompt once for every completion, or once for all."""
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from transformers import AttentionInterface
from transformers.integrations.sdpa_attention import repeat_kv


@dataclass
class Batch:
    """Rows of tokens and which of them are scored."""

    inputs: dict  # of the decoder
    reads: torch.Tensor  # [scored] places, in the flattened rows, whose output predicts the tokens
    targets: torch.Tensor  # [scored] the tokens
    owners: torch.Tensor  # [scored] the completions, counted over all groups, that the tokens are part of
    completions: int

    @property
    def num_scored(self):
        return len(self.targets)


class Layout:
    """Tokenizes groups; sums the log-probs of each completion."""

    attention = "sdpa"  # of the model, by transformers' names

    def __init__(self, tokenizer, dtype, narrow, every_logit=False):
        """`dtype` is that of the weights; `narrow` computes passes in bf16 where they are f32."""
        self.tokenizer, self.dtype, self.narrow, self.every_logit = tokenizer, dtype, narrow, every_logit

    def tokens(self, row):
        """The prompt's tokens, and each completion's."""
        ids = [self.tokenizer(text, add_special_tokens=False)["input_ids"] for text in row["completions"]]
        return self.tokenizer(row["prompt"])["input_ids"], [one + [self.tokenizer.eos_token_id] for one in ids]

    def log_probs(self, model, batch):
        """Of every completion, the sum over its tokens: `[completions]`."""
        with torch.autocast("cpu", torch.bfloat16, enabled=self.narrow):
            if self.every_logit:
                logits = model(**batch.inputs, use_cache=False).logits.flatten(0, 1)
            else:
                hidden = model.model(**batch.inputs, use_cache=False).last_hidden_state.flatten(0, 1)
                logits = model.lm_head(hidden[batch.reads])
        logits = logits.float()
        if self.every_logit:
            picked = logits.log_softmax(-1)[batch.reads, batch.targets]
        else:
            picked = -F.cross_entropy(logits, batch.targets, reduction="none")
        return torch.zeros(batch.completions).index_add(0, batch.owners, picked)


class Repeated(Layout):
    """A row for every completion, `[prompt | completion]`, padded to the longest."""

    def batch(self, rows):
        groups = [self.tokens(row) for row in rows]
        texts = [(prompt, completion) for prompt, completions in groups for completion in completions]
        width = max(len(prompt) + len(completion) for prompt, completion in texts)
        ids = torch.zeros(len(texts), width, dtype=torch.long)
        real = torch.zeros_like(ids)
        reads, targets, owners = [], [], []
        for row, (prompt, completion) in enumerate(texts):
            length = len(prompt) + len(completion)
            ids[row, :length] = torch.tensor(prompt + completion)
            real[row, :length] = 1
            reads += range(row * width + len(prompt) - 1, row * width + length - 1)
            targets += completion
            owners += [row] * len(completion)
        inputs = {"input_ids": ids, "attention_mask": real}
        return Batch(inputs, torch.tensor(reads), torch.tensor(targets), torch.tensor(owners), len(texts))


class Shared(Layout):
    """One group a pass, in one row `[prompt | completion 1 | … | completion K]` without padding.

    Positions start again after the prompt, and a completion sees the prompt and itself: the numbers are those of
    `Repeated`.
    """

    attention = "shared_prompt"

    def batch(self, rows):
        assert len(rows) == 1, "a pass takes one group"
        prompt, completions = self.tokens(rows[0])
        start, ids = len(prompt), prompt + sum(completions, [])
        positions, part = list(range(start)), [0] * start
        reads, targets, owners = [], [], []
        for index, tokens in enumerate(completions):
            begin = len(part)
            positions += range(start, start + len(tokens))
            part += [index + 1] * len(tokens)
            # The prompt's last token predicts the first of each completion.
            reads += [start - 1, *range(begin, begin + len(tokens) - 1)]
            targets += tokens
            owners += [index] * len(tokens)
        part, width = torch.tensor(part), len(ids)
        seen = ((part[:, None] == part) | (part == 0)) & torch.ones(width, width).tril().bool()
        # Of the completions' tokens only. As numbers: SDPA would turn truth values into these again in every layer.
        mask = torch.zeros(width - start, width, dtype=self.dtype).masked_fill(~seen[start:], torch.finfo(self.dtype).min)
        inputs = {"input_ids": torch.tensor([ids]), "position_ids": torch.tensor([positions]), "attention_mask": mask[None, None]}
        return Batch(inputs, torch.tensor(reads), torch.tensor(targets), torch.tensor(owners), len(completions))


def shared_prompt(module, query, key, value, attention_mask, scaling=None, **_):
    """Attention of `Shared`: the prompt's tokens are causal, and completions follow the mask.

    In two parts, since the first needs no mask and never looks at completions.
    """
    attend, repeats = F.scaled_dot_product_attention, getattr(module, "num_key_value_groups", 1)
    key, value = repeat_kv(key, repeats), repeat_kv(value, repeats)
    start = key.shape[2] - attention_mask.shape[2]
    first = attend(query[:, :, :start], key[:, :, :start], value[:, :, :start], is_causal=True, scale=scaling)
    rest = attend(query[:, :, start:], key, value, attn_mask=attention_mask, scale=scaling)
    return torch.cat([first, rest], 2).transpose(1, 2).contiguous(), None


AttentionInterface.register("shared_prompt", shared_prompt)
