"""Writes a smaller data set of one world."""

from __future__ import annotations

import json
import random
from collections.abc import Sequence
from pathlib import Path


def write_smaller_world(data: Path, mentions: Sequence[str], count: int, folder: Path, seed: int) -> None:
    """Write a data set of the first ``count`` mentions, and of an equal share of their world's documents.

    With a whole world and few mentions, mainly the reading of documents would be measured.

    Args:
        data: the original data set.
        mentions: lines of all mentions of one world.
        count: number of mentions to keep, with the documents that they name.
        folder: a new directory.
        seed: seed for the choice of further documents.
    """
    kept = [json.loads(line) for line in mentions[:count]]
    named = {mention[field] for mention in kept for field in ("context_document_id", "label_document_id")}
    world = kept[0]["corpus"]
    (folder / "mentions").mkdir(parents=True)
    (folder / "documents").mkdir()
    (folder / "mentions" / "train.json").write_text("".join(mentions[:count]), encoding="utf-8")
    with (data / "documents" / f"{world}.json").open(encoding="utf-8") as documents:
        lines = [(json.loads(line)["document_id"] in named, line) for line in documents]
    share = max(0.0, len(lines) * count / len(mentions) - len(named)) / max(1, len(lines) - len(named))
    choice = random.Random(seed)
    with (folder / "documents" / f"{world}.json").open("w", encoding="utf-8") as out:
        out.writelines(line for is_named, line in lines if is_named or choice.random() < share)
