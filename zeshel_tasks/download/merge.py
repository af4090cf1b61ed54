"""Several data sets as one.

The rule: a world belongs to one data set alone, with its documents and its mentions; the documents stay as they are. A
mention goes to the split that its data set has it in, unless its world was assigned to another one, as a whole. Within
a split, mentions stand in the order of the data sets.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from zeshel_tasks.config import SPLITS, Split
from zeshel_tasks.data.json_lines import MAX_LINE_BYTES
from zeshel_tasks.data.zeshel import MENTION_FILES, Dataset, check_part
from zeshel_tasks.errors import ConfigError, DataError
from zeshel_tasks.text.safe_text import quoted

_SHOWN_WORLDS = 20


@dataclass(frozen=True)
class Part:
    """One of the data sets: its name in messages, and the folder that holds ``documents/`` and ``mentions/``."""

    name: str
    folder: Path

    @property
    def dataset(self) -> Dataset:
        """What is in the folder.

        Raises:
            DataError: it has no world.
        """
        return Dataset(self.folder, self.name)


def merge(parts: Sequence[Part], assigned: Mapping[str, Split], out: Path) -> None:
    """Moves the documents of all parts into ``out``, and writes their mentions there.

    Each part is checked by itself, so that messages name its own files and lines. A mention that cannot be read is
    counted and logged, and stays in its split: ``convert`` decides what becomes of it.

    Args:
        parts: in their order.
        assigned: world -> split, for the worlds whose mentions are to be in this split and no other.
        out: an empty folder.

    Raises:
        DataError: a part that is no data set (:func:`~zeshel_tasks.data.zeshel.check_part`), a world that two parts
            have, a mention of another part's world.
        ConfigError: an assigned world that no part has, or a split that is left without a mention.
    """
    owner = _owners(parts)
    _check_assigned(assigned, owner)
    for part in parts:
        check_part(part.dataset)
    for name in ("documents", "mentions"):
        (out / name).mkdir()
    for part in parts:
        for world in part.dataset.worlds:
            (part.folder / "documents" / f"{world}.json").rename(out / "documents" / f"{world}.json")
    with ExitStack() as opened:
        files: dict[Split, IO[bytes]] = {}

        def file_of(split: Split) -> IO[bytes]:
            if split not in files:
                files[split] = opened.enter_context((out / "mentions" / MENTION_FILES[split]).open("wb"))
            return files[split]

        given = set()
        for part in parts:
            for split, file in MENTION_FILES.items():
                for number, line in enumerate(_lines(part.folder / "mentions" / file), start=1):
                    world = _world(line)
                    if owner.get(world, part.name) != part.name:
                        expected = f"worlds of its own; {owner[world]} has the documents of this one"
                        place = f"{part.name}: mentions/{file}"
                        raise DataError(
                            "a mention of another data set's world",
                            file=place, line=number, field="corpus", expected=expected, got=world,
                        )  # fmt: skip
                    given.add(split)
                    file_of(assigned.get(world, split)).write(line)
    for split in SPLITS:
        if split in given and split not in files:
            expected = f"expected a world left for {split}, got each of its worlds in another split"
            raise ConfigError(f"worlds_to_splits: {expected}")


def _owners(parts: Sequence[Part]) -> dict[str, str]:
    """World -> the part that has it."""
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
    """The lines of a file, each with its end; none where there is no file."""
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
    return world if isinstance(world, str) else ""
