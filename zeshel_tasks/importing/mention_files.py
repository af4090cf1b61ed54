"""Writes the files of a data set: mentions, the texts that they are in, and the entities of each world.

No world may have mentions in two of train, valid and test. If the mentions of a world are to be in several, its
entities become several worlds: ``towns`` for train, ``towns-valid`` and ``towns-test``.
"""

from __future__ import annotations

import shutil
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import Any

from zeshel_tasks.config import SPLITS, Split
from zeshel_tasks.data.zeshel import MENTION_FILES
from zeshel_tasks.errors import ConfigError
from zeshel_tasks.importing.inputs import Input
from zeshel_tasks.importing.mention_table import MentionTable
from zeshel_tasks.text.json_text import to_json

NIL = "nil"
"""Folder of the mentions without an entity, beside ``mentions``."""

_JOINED = "mentions JOIN texts ON mentions.text = texts.number"
_PART = "CASE WHEN split IN ('valid', 'test') THEN split ELSE 'train' END"


def write_mention_files(table: MentionTable, documents: Mapping[str, Input], out: Path) -> tuple[dict[Split, int], int]:
    """Writes the files into the new folder ``out``.

    Args:
        table: the mentions, each with a split.
        documents: the entities of each world.
        out: where to write.

    Returns:
        The number of mentions with an entity by split, and the number of those without.

    Raises:
        ConfigError: two worlds would have the same name.
    """
    out.mkdir()
    names = _names(table, documents)
    _write_documents(names, documents, out)
    for (world, part), name in names.items():
        _write(_contexts(table, world, part, is_first=name == world), out / "contexts" / f"{name}.json")
    counts: dict[Split, int] = {}
    nil = 0
    for split, file in MENTION_FILES.items():
        if found := _write(_mentions(table, split, names, "IS NOT NULL"), out / "mentions" / file):
            counts[split] = found
        nil += _write(_mentions(table, split, names, "IS NULL"), out / NIL / file)
    return counts, nil


def _names(table: MentionTable, documents: Collection[str]) -> dict[tuple[str, str], str]:
    """World and one of train, valid and test -> name of the world that has these mentions, in the order of names."""
    found = sorted(table.rows(f"SELECT DISTINCT world, {_PART} FROM {_JOINED}"), key=lambda row: SPLITS.index(row[1]))
    parts: dict[str, list[str]] = {world: [] for world in documents}
    for world, part in found:
        parts[world].append(part)
    names: dict[tuple[str, str], str] = {}
    for world, of_world in parts.items():
        for part in of_world or ["train"]:
            name = world if part == (of_world or ["train"])[0] else f"{world}-{part}"
            if name != world and name in documents:
                raise ConfigError(
                    f"--entities: expected no world {name!r}, which {world!r} needs for its {part} mentions"
                )
            names[world, part] = name
    return dict(sorted(names.items(), key=lambda item: item[1]))


def _write_documents(names: Mapping[tuple[str, str], str], documents: Mapping[str, Input], out: Path) -> None:
    (out / "documents").mkdir()
    for (world, _), name in names.items():
        shutil.copyfile(documents[world].path, out / "documents" / f"{name}.json")


def _contexts(table: MentionTable, world: str, part: str, *, is_first: bool) -> Iterator[bytes]:
    """Lines of the texts with mentions of a part; those without any mention are in the first part."""
    query = (
        f"SELECT line FROM texts WHERE world = ? AND (number IN (SELECT text FROM mentions WHERE {_PART} = ?) "
        "OR (? AND number NOT IN (SELECT text FROM mentions))) ORDER BY number"
    )
    return (line for (line,) in table.rows(query, world, part, is_first))


def _mentions(table: MentionTable, split: Split, names: Mapping[tuple[str, str], str], gold: str) -> Iterator[bytes]:
    columns = 'texts.id, mentions.id, gold, surface, category, "start", "end"'
    query = f"SELECT {columns} FROM {_JOINED} WHERE world = ? AND split = ? AND gold {gold} ORDER BY mentions.number"
    for (world, part), name in names.items():
        if part == (split if split in ("valid", "test") else "train"):
            for row in table.rows(query, world, split):
                yield _mention_line(name, *row)


def _mention_line(
    world: str, text: str, mention_id: str, gold: str | None, surface: str, category: str | None, start: int, end: int
) -> bytes:
    line: dict[str, Any] = {"mention_id": mention_id, "context_document_id": text, "corpus": world}
    line |= {"start_index": start, "end_index": end, "text": surface, "label_document_id": gold}
    line |= {} if category is None else {"category": category}
    return to_json(line, ensure_ascii=False).encode() + b"\n"


def _write(lines: Iterator[bytes], path: Path) -> int:
    """Writes a file and returns its number of lines; writes none without lines."""
    first = next(lines, None)
    if first is None:
        return 0
    path.parent.mkdir(exist_ok=True)
    count = 1
    with path.open("wb") as file:
        file.write(first)
        for line in lines:
            file.write(line)
            count += 1
    return count
