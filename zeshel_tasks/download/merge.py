"""Merges several data sets into one.

A world, with its documents and its mentions, belongs to exactly one data set. A mention keeps the split of its data set
unless its whole world was assigned to another split. Within a split, mentions keep the order of the data sets.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from unicodedata import normalize

from zeshel_tasks.config.splits import SPLITS, Split
from zeshel_tasks.data.json_lines import MAX_LINE_BYTES
from zeshel_tasks.data.zeshel import MENTION_FILES, Dataset, check_part
from zeshel_tasks.errors import ConfigError, DataError
from zeshel_tasks.text.safe_text import quoted

_SHOWN_WORLDS = 20


@dataclass(frozen=True)
class Part:
    """One of the data sets: a name for messages, and the folder with ``documents/`` and ``mentions/``."""

    name: str
    folder: Path

    @property
    def dataset(self) -> Dataset:
        """The folder as a data set.

        Raises:
            DataError: the folder contains no world.
        """
        return Dataset(self.folder, self.name)


def merge(parts: Sequence[Part], assigned: Mapping[str, Split], out: Path) -> None:
    """Move the documents and contexts of all parts into ``out``, and write their mentions there.

    Each part is checked by itself, so that errors name its own files and lines. An unreadable mention is counted and
    logged, and keeps its split; ``convert`` decides how to handle it.

    Args:
        parts: the data sets, in order.
        assigned: world -> split, for worlds whose mentions all move to one split.
        out: an empty folder.

    Raises:
        DataError: a part is not a data set (:func:`~zeshel_tasks.data.zeshel.check_part`), two parts contain the same
            world, or a part mentions a world of another part.
        ConfigError: no part contains an assigned world, or a split loses all its mentions.
    """
    owner = _owners(parts)
    _check_assigned(assigned, owner)
    for part in parts:
        check_part(part.dataset)
    (out / "mentions").mkdir()
    for part in parts:
        for world in part.dataset.worlds:
            _move_pages(world, part, out)
    before, after = set(), {}
    with ExitStack() as opened:
        for part in parts:
            for split, world, line in _mention_lines(part, owner):
                before.add(split)
                target = assigned.get(world, split)
                if target not in after:
                    after[target] = opened.enter_context((out / "mentions" / MENTION_FILES[target]).open("wb"))
                after[target].write(line)
    for split in SPLITS:
        if split in before and split not in after:
            expected = f"expected a world left for {split}, got each of its worlds in another split"
            raise ConfigError(f"worlds_to_splits: {expected}")


def _move_pages(world: str, part: Part, out: Path) -> None:
    for folder in ("documents", "contexts"):
        path = part.folder / folder / f"{world}.json"
        if path.is_file():
            (out / folder).mkdir(exist_ok=True)
            path.rename(out / folder / path.name)


def _mention_lines(part: Part, owner: Mapping[str, str]) -> Iterator[tuple[Split, str, bytes]]:
    """The split, the world and the JSON line of each mention in a part."""
    for split, file in MENTION_FILES.items():
        for number, line in enumerate(_lines(part.folder / "mentions" / file), start=1):
            world = _world(line)
            if owner.get(world, part.name) != part.name:
                raise DataError(
                    "a mention of another data set's world",
                    file=f"{part.name}: mentions/{file}",
                    line=number,
                    field="corpus",
                    expected=f"worlds of its own; {owner[world]} has the documents of this one",
                    got=world,
                )
            yield split, world, line


def _owners(parts: Sequence[Part]) -> dict[str, str]:
    """World -> name of the part that contains it."""
    owner: dict[str, str] = {}
    for part in parts:
        for world in part.dataset.worlds:
            if world in owner:
                expected = f"each world in one data set; {owner[world]} has it"
                raise DataError(
                    "the same world in two data sets", file=f"documents/{world}.json", expected=expected, got=part.name
                )
            owner[world] = part.name
    return owner


def _check_assigned(assigned: Mapping[str, Split], owner: Mapping[str, str]) -> None:
    for world in assigned:
        if world not in owner:
            known = ", ".join(sorted(owner)[:_SHOWN_WORLDS]) + (", ..." if len(owner) > _SHOWN_WORLDS else "")
            raise ConfigError(f"worlds_to_splits: expected worlds of the data sets ({known}), got {quoted(world)}")


def _lines(path: Path) -> Iterator[bytes]:
    """The lines of a file, each with a line end; none if the file does not exist."""
    if not path.is_file():
        return
    with path.open("rb") as file:
        while line := file.readline(MAX_LINE_BYTES + 1):
            yield line if line.endswith(b"\n") or len(line) > MAX_LINE_BYTES else line + b"\n"


def _world(line: bytes) -> str:
    try:
        value = json.loads(line)
    except (ValueError, RecursionError):
        return ""
    world = value.get("corpus") if isinstance(value, dict) else None
    return normalize("NFC", world) if isinstance(world, str) else ""
