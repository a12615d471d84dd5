"""How the loops of `rivals.py` lay groups out as tensors: the prompt once for every completion, or once for all."""
from dataclasses import dataclass

import torch
import torch.nn.functional as F


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
    """A row for every group, `[prompt | completion 1 | … | completion K]`, padded to the longest.

    Positions start again after the prompt, and a mask lets a completion see the prompt and itself: the numbers are
    those of `Repeated`.
    """

    def batch(self, rows):
        groups = [self.tokens(row) for row in rows]
        width = max(len(prompt) + sum(map(len, completions)) for prompt, completions in groups)
        ids = torch.zeros(len(groups), width, dtype=torch.long)
        positions = torch.zeros_like(ids)
        part = torch.full_like(ids, -1)  # 0: the prompt, k: completion k, -1: padding, which sees padding
        reads, targets, owners, completion = [], [], [], 0
        for row, (prompt, completions) in enumerate(groups):
            end = len(prompt)
            ids[row, :end], positions[row, :end], part[row, :end] = torch.tensor(prompt), torch.arange(end), 0
            for index, tokens in enumerate(completions):
                begin, end = end, end + len(tokens)
                ids[row, begin:end] = torch.tensor(tokens)
                positions[row, begin:end] = torch.arange(len(prompt), len(prompt) + len(tokens))
                part[row, begin:end] = index + 1
                # The prompt's last token predicts the first of each completion.
                reads += [row * width + place for place in (len(prompt) - 1, *range(begin, end - 1))]
                targets += tokens
                owners += [completion] * len(tokens)
                completion += 1
        seen = (part[:, :, None] == part[:, None]) | (part[:, None] == 0)  # [groups, width, width]
        seen = (seen & torch.ones(width, width).tril().bool())[:, None]
        # As numbers: SDPA would turn truth values into these again in every layer.
        mask = torch.zeros(seen.shape, dtype=self.dtype).masked_fill(~seen, torch.finfo(self.dtype).min)
        inputs = {"input_ids": ids, "position_ids": positions, "attention_mask": mask}
        return Batch(inputs, torch.tensor(reads), torch.tensor(targets), torch.tensor(owners), completion)
