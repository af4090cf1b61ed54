"""What ``transformers`` itself computes, with nothing of this package: no batches, no shortcuts, no padding."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from transformers import AutoModel, AutoTokenizer


class Reference:
    """The tokens, vectors and pooled pairs of a model directory, one sequence at a time.

    Args:
        directory: the model, with all markers.
        length: maximum number of tokens of a mention and of a candidate.
        pair: maximum number of tokens of both, including padding of the mention.
        lowercase: lower-case texts.
    """

    def __init__(self, directory: Path, length: int, pair: int, *, lowercase: bool) -> None:
        self._length, self._pair = length, pair
        self._model = AutoModel.from_pretrained(directory).eval()
        self._tokenizer: Any = AutoTokenizer.from_pretrained(directory, do_lower_case=lowercase, add_prefix_space=True)
        self._lowercase = lowercase
        self.pad = self._tokenizer.pad_token_id

    def mention(self, left: str, mention: str, right: str) -> list[int]:
        marked = [self._id("[unused0]"), *self._ids(mention), self._id("[unused1]")]
        return self._whole([*self._ids(left), *marked, *self._ids(right)])

    def entity(self, title: str, text: str) -> list[int]:
        return self._whole([*self._ids(title), self._id("[unused2]"), *self._ids(text)])

    def vector(self, ids: list[int], pooling: str) -> torch.Tensor:
        with torch.no_grad():
            output = self._model(input_ids=torch.tensor([ids])).last_hidden_state[0]
        if pooling in ("cls", "mean"):
            return output[0] if pooling == "cls" else output.mean(0)
        start, end = (ids.index(self._id(marker)) for marker in ("[unused0]", "[unused1]"))
        span = output[start + 1 : end].mean(0)
        return span if pooling == "span" else span + output.mean(0)

    def pooled_pair(self, context: list[int], candidate: list[int]) -> torch.Tensor:
        """The pooler's output for BLINK's layout: the padded context, then the candidate without [CLS]."""
        ids = context + [self.pad] * (self._length - len(context)) + candidate[1:]
        ids = ids[: self._pair]
        segments = [0] * self._length + [1] * (len(ids) - self._length)
        rows, two = torch.tensor([ids]), self._model.config.type_vocab_size > 1
        with torch.no_grad():
            output = self._model(
                input_ids=rows,
                attention_mask=(rows != self.pad).long(),
                token_type_ids=torch.tensor([segments]) if two else None,
            )
        return output.pooler_output[0]

    def _ids(self, text: str) -> list[int]:
        text = " ".join(text.split())
        ids: list[int] = self._tokenizer(text.lower() if self._lowercase else text, add_special_tokens=False)[
            "input_ids"
        ]
        return ids

    def _id(self, marker: str) -> int:
        return int(self._tokenizer.convert_tokens_to_ids(marker))

    def _whole(self, body: list[int]) -> list[int]:
        return [self._tokenizer.cls_token_id, *body[: self._length - 2], self._tokenizer.sep_token_id]
