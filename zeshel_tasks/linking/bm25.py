"""BM25 over some words of each entity of a world.

Source: Robertson and Zaragoza, 2009, "The Probabilistic Relevance Framework: BM25 and Beyond", in Lucene's form, by the
library bm25s (Lù, 2024, arXiv:2407.03618), which stores the score of each word and entity.
"""

from __future__ import annotations

import logging
from array import array
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import bm25s
import numpy as np
import numpy.typing as npt

from zeshel_tasks.data.arrays import Rows

Scores = npt.NDArray[np.float32]

FILES = (
    "data.csc.index.npy",
    "indices.csc.index.npy",
    "indptr.csc.index.npy",
    "vocab.index.json",
    "params.index.json",
)
"""Files of an index, with the names of bm25s."""

_K1, _B = 1.5, 0.75

logging.getLogger("bm25s").setLevel(logging.WARNING)  # its import sets DEBUG


class Bm25Builder:
    """Builds an index. Memory holds 4 bytes for each word, and the vocabulary."""

    def __init__(self) -> None:
        self._vocabulary = {"": 0}  # the only word of an entity without words, because bm25s needs one
        self._entities: list[array[int]] = []

    def add(self, found: Sequence[str]) -> None:
        """Adds the words of the next entity."""
        number = self._vocabulary.setdefault
        self._entities.append(array("i", (number(word, len(self._vocabulary)) for word in found or [""])))

    def write(self, folder: Path) -> None:
        """Writes :data:`FILES` into ``folder``."""
        index = bm25s.BM25(k1=_K1, b=_B, method="lucene", backend="numpy", csc_backend="numpy")
        index.index((self._entities, self._vocabulary), create_empty_token=False, show_progress=False)
        index.save(folder, show_progress=False)


class Bm25:
    """Scores all entities of a world for a query. Opens the index of a :class:`Bm25Builder`, memory-mapped."""

    def __init__(self, folder: Path) -> None:
        self._index: Any = bm25s.BM25.load(folder, mmap=True)
        self._vocabulary: dict[str, int] = self._index.vocab_dict

    def __len__(self) -> int:
        """Returns the number of entities."""
        return int(self._index.scores["num_docs"])

    def scores(self, query: Sequence[str]) -> Scores:
        """Returns the score of each entity: float32 [entities], 0 for one that shares no word with the query."""
        known = [self._vocabulary[word] for word in query if word in self._vocabulary]
        if not known:
            return np.zeros(len(self), dtype=np.float32)
        scores: Scores = self._index.get_scores_from_ids(known)
        return scores


def best(scores: Scores, k: int) -> Rows:
    """Returns the positions of the ``k`` best scores above 0, best first; equal scores in the order of positions."""
    if k < len(scores):
        least = np.partition(scores, len(scores) - k)[len(scores) - k]
        found = np.flatnonzero((scores >= least) & (scores > 0))
    else:
        found = np.flatnonzero(scores > 0)
    return found[np.argsort(-scores[found], kind="stable")][:k]
