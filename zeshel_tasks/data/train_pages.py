"""Pages of a ZESHEL archive's train worlds, read without unpacking it."""

from __future__ import annotations

import json
import lzma
import tarfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from zeshel_tasks.errors import DataError


@dataclass(frozen=True)
class TrainPage:
    """The beginning of one document; ``text`` has at most as many words as were asked for."""

    title: str
    text: str


def read_train_pages(
    archive: Path, *, max_pages_per_world: int = 2000, max_words_per_page: int = 128
) -> dict[str, list[TrainPage]]:
    """The first pages of every world that ``mentions/train.json`` names, by world in alphabetical order.

    The archive is read twice, because its members come in any order; in memory are only the bounded pages.

    Raises:
        DataError: not a tar archive, no ``mentions/train.json``, a broken line, a world without documents.
    """
    worlds = _train_worlds(archive)
    pages: dict[str, list[TrainPage]] = {}
    for name, lines in _members(archive, "documents"):
        world = PurePosixPath(name).stem
        if world in worlds:
            pages[world] = []
            for row in _rows(name, lines, ("title", "text")):
                if len(pages[world]) == max_pages_per_world:
                    break
                pages[world].append(TrainPage(row["title"], " ".join(row["text"].split()[:max_words_per_page])))
    for world in worlds:
        if not pages.get(world):
            raise DataError("no documents", file=f"documents/{world}.json", expected="a page a line", got="nothing")
    return {world: pages[world] for world in sorted(pages)}


def _train_worlds(archive: Path) -> set[str]:
    for name, lines in _members(archive, "mentions"):
        if PurePosixPath(name).name == "train.json":
            worlds = {str(row["corpus"]) for row in _rows(name, lines, ("corpus",))}
            if worlds:
                return worlds
    raise DataError("no train mentions", file=str(archive), expected="mentions/train.json with mentions", got="none")


def _members(archive: Path, folder: str) -> Iterator[tuple[str, Iterator[bytes]]]:
    """Name and lines of each JSON file in a folder called ``folder``."""
    try:
        with tarfile.open(archive, "r:*") as tar:
            for member in tar:
                path = PurePosixPath(member.name)
                if member.isfile() and path.suffix == ".json" and path.parent.name == folder:
                    file = tar.extractfile(member)
                    assert file is not None  # only for what is not a file
                    yield member.name, iter(file)
    except (tarfile.TarError, EOFError, OSError, zlib.error, lzma.LZMAError) as error:
        raise DataError(
            "cannot read the archive", file=str(archive), expected="a tar archive", got=str(error)
        ) from error


def _rows(name: str, lines: Iterator[bytes], fields: tuple[str, ...]) -> Iterator[dict[str, Any]]:
    for number, line in enumerate(lines, start=1):
        try:
            row = json.loads(line)
        except ValueError as error:
            raise DataError("broken line", file=name, line=number, expected="JSON", got=str(error)) from error
        for field in fields:
            if not isinstance(row, dict) or not isinstance(row.get(field), str):
                raise DataError("missing text", file=name, line=number, field=field, expected="a string", got=row)
        yield row
