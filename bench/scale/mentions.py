"""Generates a split of any size in BLINK's format, for ``bench.scale``."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
from transformers import BertTokenizer

from zeshel_tasks.data.blink_format import CASED_FIELDS
from zeshel_tasks.data.tokens import MENTION_END, MENTION_START, TITLE_END, Tokens

_WORDS = [f"word{number}" for number in range(5000)]


def write_split(folder: Path, mentions: int) -> Path:
    """Write ``train.jsonl`` and the file beside it: 64 words on each side of a mention, and 100 in a label."""
    generator, jsonl = np.random.default_rng(52313), folder / "train.jsonl"
    with jsonl.open("w") as blink, (folder / "train.mentions.jsonl").open("w") as side:
        for number in range(mentions):
            words = [_WORDS[index] for index in generator.integers(len(_WORDS), size=230)]
            line = {
                "context_left": " ".join(words[:64]),
                "context_right": " ".join(words[64:128]),
                "mention": words[128],
                "label": " ".join(words[129:229]),
                "label_id": number % 1000,
                "label_title": words[229],
                "world": "w",
            }
            blink.write(json.dumps(line) + "\n")
            cased = {name: line[name] for name in CASED_FIELDS}
            ids = {name: f"{name}-{number:08}" for name in ("mention_id", "context_document_id", "label_document_id")}
            side.write(json.dumps({**ids, "category": f"category {number % 4}", **cased}) + "\n")
    return jsonl


def tokens_of_words(folder: Path) -> Tokens:
    """Return a tokenizer that knows the words."""
    special = ["[PAD]", MENTION_START, MENTION_END, TITLE_END, "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    path = folder / "vocab.txt"
    path.write_text("\n".join([*special, *_WORDS]))
    return Tokens(BertTokenizer(str(path)), lowercase=True)
