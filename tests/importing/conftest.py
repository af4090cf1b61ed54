"""A knowledge base, and a function that imports mentions of it."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from zeshel_tasks.cli import main

ENTITIES = (
    {"document_id": "7", "title": "Vask", "text": "Vask is a ferry.", "url": "https://x/Vask"},
    {"document_id": "8", "title": "Orlen", "text": "Orlen is a town."},
    {"document_id": "9", "title": "Orlen (river)", "text": "The Orlen is a river."},
)
ImportMentions = Callable[..., int]


@pytest.fixture
def kb(tmp_path: Path) -> Path:
    """A folder with the entities of the world ``towns``."""
    path = tmp_path / "kb" / "documents" / "towns.json"
    path.parent.mkdir(parents=True)
    path.write_text("".join(json.dumps(entity) + "\n" for entity in ENTITIES))
    return tmp_path / "kb"


@pytest.fixture
def import_mentions(kb: Path, tmp_path: Path) -> ImportMentions:
    """``import_mentions(content, format, *flags, name="m.jsonl")`` writes a file and imports it into ``data/``."""

    def run(content: str | bytes | list[Any], form: str, *flags: str, name: str = "m.jsonl") -> int:
        if isinstance(content, list):
            content = "".join(json.dumps(line) + "\n" for line in content)
        path = tmp_path / name
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        flags = flags if "--shares" in flags else (*flags, "--shares", "train=1")
        common = ["--format", form, "--entities", str(kb), "--out", str(tmp_path / "data")]
        return main(["import-mentions", str(path), *common, *flags])

    return run


def lines_of(path: Path) -> list[dict[str, Any]]:
    """The lines of a JSON-lines file; none if it does not exist."""
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def linked(data: Path) -> list[tuple[str, str | None]]:
    """Text and entity of each train mention, with and without an entity."""
    files = (data / folder / "train.json" for folder in ("mentions", "nil"))
    return [(line["text"], line["label_document_id"]) for file in files for line in lines_of(file)]
