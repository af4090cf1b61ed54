"""BM25 over the titles, aliases and texts of a world's entities.

Source: Robertson and Zaragoza, 2009, "The Probabilistic Relevance Framework: BM25 and Beyond", in Lucene's form, by the
library bm25s (Lù, 2024, arXiv:2407.03618), which stores the score of each word and entity.
"""

from __future__ import annotations

import logging
from array import array
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import bm25s
import numpy as np
import numpy.typing as npt

from zeshel_tasks.data.arrays import Rows
from zeshel_tasks.data.zeshel import Document
from zeshel_tasks.linking.words import words

Scores = npt.NDArray[np.float32]

FILES = (
    "data.csc.index.npy",
    "indices.csc.index.npy",
    "indptr.csc.index.npy",
    "vocab.index.json",
    "params.index.json",
)
"""Files of an index, with the names of bm25s."""

TITLE_WEIGHT = 3
"""A word of the title or of an alias counts as if it occurred this often."""

TEXT_CHARACTERS = 20_000
"""The text beyond is not indexed, which bounds memory."""

_K1, _B = 1.5, 0.75

logging.getLogger("bm25s").setLevel(logging.WARNING)  # its import sets DEBUG


class Bm25:
    """Scores all entities of a world for a query. Opens the index that :meth:`write` wrote, memory-mapped."""

    def __init__(self, folder: Path) -> None:
        self._index: Any = bm25s.BM25.load(folder, mmap=True)
        self._vocabulary: dict[str, int] = self._index.vocab_dict

    def __len__(self) -> int:
        """Returns the number of entities."""
        return int(self._index.scores["num_docs"])

    @staticmethod
    def write(documents: Iterable[Document], folder: Path) -> None:
        """Writes the index of a world's entities. Memory holds 4 bytes for each word, and the vocabulary."""
        vocabulary = {"": 0}  # the only word of an entity without words, because bm25s needs one
        entities = []
        for document in documents:
            names = words(" ".join((document.title, *document.aliases))) * TITLE_WEIGHT
            found = names + words(document.text[:TEXT_CHARACTERS])
            entities.append(array("i", (vocabulary.setdefault(word, len(vocabulary)) for word in found or [""])))
        index = bm25s.BM25(k1=_K1, b=_B, method="lucene", backend="numpy", csc_backend="numpy")
        index.index((entities, vocabulary), create_empty_token=False, show_progress=False)
        index.save(folder, show_progress=False)

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
