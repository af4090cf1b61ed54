"""Converts a data set to BLINK's format, with every world of the split in memory."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

CONTEXT_WORDS = 128

Page = tuple[int, str, str]
"""Position in its world, title and text of a document."""


def convert(data: Path, mention_file: str, jsonl: Path) -> None:
    """Write the mentions of ``data/mentions/{mention_file}`` with both contexts and the gold entity's whole text."""
    mentions = json_lines(data / "mentions" / mention_file)
    worlds = {name: _pages(data / "documents" / f"{name}.json") for name in {m["corpus"] for m in mentions}}
    with jsonl.open("w", encoding="utf-8") as out:
        for mention in mentions:
            pages = worlds[mention["corpus"]]
            words = pages[mention["context_document_id"]][2].split(" ")
            start, end = mention["start_index"], mention["end_index"] + 1
            label_id, title, text = pages[mention["label_document_id"]]
            line = {
                "context_left": " ".join(words[:start][-CONTEXT_WORDS:]).lower(),
                "context_right": " ".join(words[end:][:CONTEXT_WORDS]).lower(),
                "mention": mention["text"].lower(),
                "label": text,
                "label_id": label_id,
                "label_title": title,
                "world": mention["corpus"],
            }
            out.write(json.dumps(line) + "\n")


def _pages(path: Path) -> dict[str, Page]:
    return {d["document_id"]: (position, d["title"], d["text"]) for position, d in enumerate(json_lines(path))}


def json_lines(path: Path) -> list[dict[str, Any]]:
    """Read a file with a JSON object in each line."""
    with path.open(encoding="utf-8") as file:
        return [json.loads(line) for line in file]
