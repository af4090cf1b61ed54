"""Which entities of a world have a name: a sorted table of hashes, memory-mapped.

name_hashes.npy      uint64 [names], sorted
name_entities.npy    int32 [names], ascending among equal hashes

A name of one kind is never found as another kind.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np
import numpy.typing as npt

from zeshel_tasks.data.arrays import Rows, read_array
from zeshel_tasks.data.zeshel import Document
from zeshel_tasks.linking.hashes import Hashes, hashes
from zeshel_tasks.linking.words import plain_name, without_parenthesis

NameKind = Literal["title", "title_without_parenthesis", "alias", "page"]
"""``page`` is the ``document_id``; the others are names of the entity."""

FILES = ("name_hashes.npy", "name_entities.npy")


class NamePairs(NamedTuple):
    """The table: hashes of names, uint64 [names], and positions of entities, int32 [names]."""

    hashes: Hashes
    entities: npt.NDArray[np.int32]

    @classmethod
    def open(cls, folder: Path) -> NamePairs:
        """Opens :data:`FILES`, memory-mapped."""
        return cls(*(np.asarray(read_array(folder / name, mapped=True)) for name in FILES))

    def save(self, folder: Path) -> None:
        """Writes :data:`FILES`."""
        np.save(folder / FILES[0], self.hashes)
        np.save(folder / FILES[1], self.entities)

    def of(self, live: npt.NDArray[np.bool_], start: int) -> NamePairs:
        """Returns the names of the entities with the flag ``live``, which are numbered from ``start`` on."""
        kept, numbers = live[self.entities], start - 1 + np.cumsum(live)
        return NamePairs(self.hashes[kept], numbers[self.entities[kept]].astype(np.int32))

    @classmethod
    def joined(cls, parts: Sequence[NamePairs]) -> NamePairs:
        """Joins tables of which each has later entities than those before it."""
        nothing = cls(np.zeros(0, dtype=np.uint64), np.zeros(0, dtype=np.int32))
        found, entities = (np.concatenate(columns) for columns in zip(nothing, *parts, strict=True))
        order = np.argsort(found, kind="stable")
        return cls(found[order], entities[order])

    def find(self, kind: NameKind, name: str) -> Rows:
        """Returns the positions of all entities with this name, in order."""
        if not name:
            return np.zeros(0, dtype=np.int64)
        wanted = hashes([_key(kind, name)])[0]
        first, last = (np.searchsorted(self.hashes, wanted, side) for side in ("left", "right"))
        return np.asarray(self.entities[first:last], dtype=np.int64)


class NameList:
    """Collects the names of entities."""

    def __init__(self) -> None:
        self._keys, self._entities = list[str](), array("i")

    def add(self, document: Document, position: int) -> None:
        """Adds the names of the entity at a position, which is later than those before it."""
        distinct = dict.fromkeys(_key(kind, name) for kind, name in _names(document) if name)
        self._keys.extend(distinct)
        self._entities.extend([position] * len(distinct))

    def pairs(self) -> NamePairs:
        """Returns the table."""
        return NamePairs.joined([NamePairs(hashes(self._keys), np.frombuffer(self._entities, dtype=np.int32))])


def _names(document: Document) -> Iterator[tuple[NameKind, str]]:
    title, bare = plain_name(document.title), plain_name(without_parenthesis(document.title))
    yield "page", document.document_id
    yield "title", title
    if bare != title:
        yield "title_without_parenthesis", bare
    for alias in document.aliases:
        yield "alias", plain_name(alias)


def _key(kind: NameKind, name: str) -> str:
    return f"{kind}\0{name}"
