"""Converts texts to token ids with the WordPiece tokenizer in Python, one mention after the other.

The whole text of the gold entity is tokenized for every mention and then cut.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from transformers.models.bert.tokenization_bert_legacy import BertTokenizerLegacy

from bench.plain.convert import json_lines

_PAD = 0


@dataclass(frozen=True)
class PlainPairs:
    """A split's mentions with their golds, in file order.

    Attributes:
        contexts: int64 [mentions, max_context_length].
        golds: int64 [mentions, max_cand_length]; a gold of several mentions occurs several times.
        labels: int64 [mentions], position of the gold in its world.
        worlds: world of each mention.
    """

    contexts: torch.Tensor
    golds: torch.Tensor
    labels: torch.Tensor
    worlds: list[str]


def python_tokenizer(model: Path) -> Any:
    """Return a lower-casing tokenizer with the directory's ``vocab.txt``."""
    return BertTokenizerLegacy(vocab_file=str(model / "vocab.txt"), do_lower_case=True)


def tokenize_split(jsonl: Path, tokenizer: Any, max_context_length: int, max_cand_length: int) -> PlainPairs:
    """Read a file that :func:`~bench.plain.convert.convert` wrote."""
    contexts, golds, labels, worlds = [], [], [], []
    for record in json_lines(jsonl):
        contexts.append(context_ids(record, tokenizer, max_context_length))
        golds.append(candidate_ids(record["label_title"], record["label"], tokenizer, max_cand_length))
        labels.append(record["label_id"])
        worlds.append(record["world"])
    return PlainPairs(torch.tensor(contexts), torch.tensor(golds), torch.tensor(labels), worlds)


def context_ids(record: dict[str, Any], tokenizer: Any, max_length: int) -> list[int]:
    """Return ``[CLS] left [unused0] mention [unused1] right [SEP]``, padded to ``max_length``."""
    mention = ["[unused0]", *tokenizer.tokenize(record["mention"])[: max_length - 4], "[unused1]"]
    left, right = tokenizer.tokenize(record["context_left"]), tokenizer.tokenize(record["context_right"])
    room = max_length - len(mention) - 2
    left_room = max(0, (max_length - len(mention)) // 2 - 1)
    right_room = room - left_room
    if len(left) <= left_room:
        right_room += left_room - len(left)
    elif len(right) <= right_room:
        left_room += right_room - len(right)
    left = left[max(0, len(left) - left_room) :]
    return _padded(["[CLS]", *left, *mention, *right[:right_room], "[SEP]"], tokenizer, max_length)


def candidate_ids(title: str, text: str, tokenizer: Any, max_length: int) -> list[int]:
    """Return ``[CLS] title [unused2] text [SEP]``, padded to ``max_length``."""
    body = [*tokenizer.tokenize(title), "[unused2]", *tokenizer.tokenize(text)]
    return _padded(["[CLS]", *body[: max_length - 2], "[SEP]"], tokenizer, max_length)


def _padded(pieces: list[str], tokenizer: Any, max_length: int) -> list[int]:
    ids: list[int] = tokenizer.convert_tokens_to_ids(pieces)
    return ids + [_PAD] * (max_length - len(ids))
