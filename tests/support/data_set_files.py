"""A small data set that a test can break in one place."""

import json
from pathlib import Path
from typing import Any

Lines = list[dict[str, Any]]


class DataSetFiles:
    """Three worlds (aster, brine and cinder, one per split) of three documents and two mentions each."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.files: dict[str, Lines] = {}
        for world, file in (("aster", "train"), ("brine", "val"), ("cinder", "test")):
            self.files[f"documents/{world}.json"] = [document(world, number) for number in range(3)]
            self.files[f"mentions/{file}.json"] = [mention(world, number) for number in range(2)]

    def write(self) -> Path:
        for name, lines in self.files.items():
            self.write_lines(name, [json.dumps(line) for line in lines])
        return self.root

    def write_lines(self, name: str, lines: list[str]) -> None:
        self.write_bytes(name, "".join(f"{line}\n" for line in lines).encode())

    def write_bytes(self, name: str, content: bytes) -> None:
        path = self.root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)


def document(world: str, number: int) -> dict[str, Any]:
    text = f"The {world} Page {number} tells of its Page {(number + 1) % 3} ."
    return {"document_id": f"{world}-{number}", "title": f"Page {number}", "text": text}


def mention(world: str, number: int) -> dict[str, Any]:
    return {
        "mention_id": f"m-{world}-{number}",
        "context_document_id": f"{world}-{number}",
        "corpus": world,
        "start_index": 7,
        "end_index": 8,
        "text": f"Page {(number + 1) % 3}",
        "label_document_id": f"{world}-{(number + 1) % 3}",
        "category": "HIGH_OVERLAP",
    }


def write_wiki(root: Path) -> Path:
    """Writes a team's own data set: a train world with held-out mentions, and a test world."""
    files = DataSetFiles(root)
    files.files = {
        "documents/delta.json": [document("delta", number) for number in range(12)],
        "documents/quill.json": [document("quill", number) for number in range(3)],
        "mentions/train.json": [
            *(mention("delta", number) for number in range(2)),
            *(mention("quill", number) for number in range(3)),
        ],
        "mentions/heldout_train_seen.json": [mention("delta", 2)],
        "mentions/heldout_train_unseen.json": [mention("delta", number) for number in range(3, 9)],
    }
    for lines in files.files.values():
        for number, line in enumerate(lines):
            line.setdefault("title", f"Page {number}")
    return files.write()
