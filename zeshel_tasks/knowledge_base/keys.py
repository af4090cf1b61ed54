"""Which entities of the segments are live: those that no later segment has again or removes.

An id, and an entity as a whole, is known by the first 16 bytes of its BLAKE2b. Memory holds 32 bytes of an entity, and
as much again while they are sorted. Two of a hundred million have the same 16 bytes with a probability below 1e-22.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

Keys = npt.NDArray[np.bytes_]
Flags = npt.NDArray[np.bool_]
_BYTES = 16


class SegmentKeys(NamedTuple):
    """What a segment says.

    Attributes:
        ids: S16 [rows], keys of ids: of its entities, or of those that it removes.
        contents: S16 [entities], keys of its entities; empty for one that removes.
    """

    ids: Keys
    contents: Keys


def key(data: bytes) -> bytes:
    """Returns the key of an id or of an entity's line."""
    return hashlib.blake2b(data, digest_size=_BYTES).digest()


def keys(data: Iterable[bytes]) -> Keys:
    """Returns the keys of ids or lines: S16 [n]."""
    return np.frombuffer(b"".join(map(key, data)), dtype=f"S{_BYTES}")


class Live:
    """The live entities of a list of segments, oldest first.

    Attributes:
        rows: bool [entities] for each segment, True for a live one.
        ids: S16 [live entities], in their order.
        contents: S16 [live entities].
    """

    def __init__(self, segments: Sequence[SegmentKeys]) -> None:
        self.rows = [flags[: len(found.contents)] for found, flags in zip(segments, _newest(segments), strict=True)]
        pairs = list(zip(segments, self.rows, strict=True))
        self.ids = _joined([found.ids[: len(flags)][flags] for found, flags in pairs])
        self.contents = _joined([found.contents[flags] for found, flags in pairs])

    def __len__(self) -> int:
        """Returns the number of live entities."""
        return len(self.ids)

    @property
    def digest(self) -> str:
        """SHA-256 (hex) of the live entities in their order."""
        return hashlib.sha256(self.contents.tobytes()).hexdigest()


class Known:
    """A set of keys."""

    def __init__(self, found: Keys) -> None:
        self._sorted = np.sort(found)

    def has(self, wanted: Keys) -> Flags:
        """Returns which keys are in the set: bool [n]."""
        places = np.searchsorted(self._sorted, wanted)
        places[places == len(self._sorted)] = 0
        return self._sorted[places] == wanted if len(self._sorted) else np.zeros(len(wanted), dtype=np.bool_)


def _newest(segments: Sequence[SegmentKeys]) -> list[Flags]:
    """Returns for each row of each segment if no later segment has its id."""
    newest_first = _joined([found.ids for found in reversed(segments)])
    flags = np.zeros(len(newest_first), dtype=np.bool_)
    flags[np.unique(newest_first, return_index=True)[1]] = True  # the first of equal ones
    ends = np.cumsum([len(found.ids) for found in reversed(segments)])
    return np.split(flags, ends[:-1])[::-1] if segments else []


def _joined(parts: Sequence[Keys]) -> Keys:
    return np.concatenate(parts) if parts else np.zeros(0, dtype=f"S{_BYTES}")
