"""Which entities of a world have a name: a sorted table of hashes, memory-mapped.

A name of one kind is never found as another kind. Two different names have the same 64-bit hash with a probability of
less than one in a million even among a million names.
"""

from __future__ import annotations

from collections.abc import Iterable
from hashlib import blake2b
from pathlib import Path
from typing import Literal

import numpy as np

from zeshel_tasks.data.arrays import Rows, read_array

NameKind = Literal["title", "title_without_parenthesis", "alias", "page"]
"""``page`` is the ``document_id``; the others are names of the entity."""

FILES = ("name_hashes.npy", "name_entities.npy")


class Names:
    """Finds entities by name. Opens the table that :meth:`write` wrote into ``folder``."""

    def __init__(self, folder: Path) -> None:
        self._hashes, self._entities = (read_array(folder / name, mapped=True) for name in FILES)

    @staticmethod
    def write(names: Iterable[tuple[NameKind, str, int]], folder: Path) -> None:
        """Writes the table of (kind, name, position of the entity). Empty names are left out."""
        found = {(_hash(kind, name), entity) for kind, name, entity in names if name}
        pairs = sorted(found)
        for file, column, dtype in zip(FILES, (0, 1), (np.uint64, np.int32), strict=True):
            np.save(folder / file, np.array([pair[column] for pair in pairs], dtype=dtype))

    def find(self, kind: NameKind, name: str) -> Rows:
        """Returns the positions of all entities with this name, in order."""
        if not name:
            return np.zeros(0, dtype=np.int64)
        wanted = np.uint64(_hash(kind, name))
        first, last = (np.searchsorted(self._hashes, wanted, side) for side in ("left", "right"))
        return np.asarray(self._entities[first:last], dtype=np.int64)


def _hash(kind: NameKind, name: str) -> int:
    data = f"{kind}\0{name}".encode("utf-8", "surrogatepass")
    return int.from_bytes(blake2b(data, digest_size=8).digest(), "little")
