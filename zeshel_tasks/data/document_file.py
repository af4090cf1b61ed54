"""Entities in a file of their own: a line of JSON for each, found by position without reading the others.

documents.jsonl    one line for each entity, with the fields of ZESHEL's documents
offsets.npy        int64 [entities + 1], where each line begins, and the size of the file
"""

from __future__ import annotations

import json
from array import array
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import BinaryIO, overload

import numpy as np
import numpy.typing as npt

from zeshel_tasks.data.arrays import read_array
from zeshel_tasks.data.zeshel import Document, document_line
from zeshel_tasks.errors import DataError

DOCUMENTS, OFFSETS = "documents.jsonl", "offsets.npy"
_BLOCK = 2**22


def document_of_line(line: bytes) -> Document:
    """Returns the entity of a line of :func:`document_line`."""
    values = json.loads(line)
    aliases, types = (tuple(values.pop(name, ())) for name in ("aliases", "types"))
    return Document(**values, aliases=aliases, types=types)


class DocumentFile(Sequence[Document]):
    """The entities of a folder, by position. Opens what :meth:`write` wrote; memory holds none of it.

    Raises:
        DataError: the files do not belong together.
    """

    def __init__(self, folder: Path) -> None:
        self._path = folder / DOCUMENTS
        self._offsets = read_array(folder / OFFSETS, mapped=True)
        if self._offsets[-1] != self._path.stat().st_size:
            expected, got = f"{self._offsets[-1]:,} bytes", f"{self._path.stat().st_size:,}"
            raise DataError("documents are missing", file=DOCUMENTS, expected=expected, got=got)

    @staticmethod
    def write(documents: Iterable[Document], folder: Path) -> int:
        """Writes both files into ``folder`` and returns the number of entities. Memory holds 8 bytes an entity."""
        with DocumentWriter(folder) as writer:
            for document in documents:
                writer.add(document_line(document))
        return len(writer)

    def __len__(self) -> int:
        """Returns the number of entities."""
        return len(self._offsets) - 1

    @overload
    def __getitem__(self, position: int) -> Document: ...
    @overload
    def __getitem__(self, position: slice) -> Sequence[Document]: ...
    def __getitem__(self, position: int | slice) -> Document | Sequence[Document]:
        """Returns the entity at a position, or those of a slice."""
        if isinstance(position, slice):
            return [self[index] for index in range(*position.indices(len(self)))]
        index = range(len(self))[position]  # raises IndexError; counts a negative position from the end
        with self._path.open("rb") as file:
            file.seek(int(self._offsets[index]))
            return document_of_line(file.readline())

    def __iter__(self) -> Iterator[Document]:
        """Yields the entities in order, in one pass over the file."""
        return map(document_of_line, self.lines())

    def lines(self) -> Iterator[bytes]:
        """Yields the lines in order."""
        with self._path.open("rb") as file:
            yield from file


class DocumentWriter:
    """Writes the files of a :class:`DocumentFile`, which are complete once the context is left."""

    def __init__(self, folder: Path) -> None:
        self._folder, self._offsets = folder, array("q", [0])
        self._file = (folder / DOCUMENTS).open("wb")

    def __enter__(self) -> DocumentWriter:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()
        np.save(self._folder / OFFSETS, np.frombuffer(self._offsets, dtype=np.int64))

    def __len__(self) -> int:
        return len(self._offsets) - 1

    def add(self, line: bytes) -> None:
        """Adds a line of :func:`document_line`."""
        self._file.write(line)
        self._offsets.append(self._offsets[-1] + len(line))

    def copy(self, path: Path, wanted: npt.NDArray[np.bool_]) -> None:
        """Adds those lines of another file that are ``wanted``: bool [lines]."""
        with path.open("rb") as file:
            ends = _line_ends(file)
            lengths = np.diff(ends, prepend=0)
            start = self._offsets[-1]
            self._offsets.frombytes((start + np.cumsum(lengths[wanted])).tobytes())
            changes = np.flatnonzero(np.diff(wanted, prepend=False, append=False))
            for first, last in changes.reshape(-1, 2):  # of each run of wanted lines
                begin, end = int(ends[first] - lengths[first]), int(ends[last - 1])
                file.seek(begin)
                for position in range(begin, end, _BLOCK):
                    self._file.write(file.read(min(_BLOCK, end - position)))


def _line_ends(file: BinaryIO) -> npt.NDArray[np.int64]:
    """Returns where each line of a file ends: int64 [lines]."""
    found, start = [np.zeros(0, dtype=np.int64)], 0
    while block := file.read(_BLOCK):
        found.append(np.flatnonzero(np.frombuffer(block, dtype=np.uint8) == ord("\n")) + start + 1)
        start += len(block)
    return np.concatenate(found)
