"""An approximate index of the vectors of a large knowledge base, for a service that searches for few mentions at once.

The index (faiss) groups vectors around centroids (IVF) and keeps each number in 8 bits (SQ8). A search looks at the
groups that are nearest to a query, and scores the best of them again with the stored vectors. So the scores are exact,
and only an entity of a group that was not looked at is missed.

Vectors that come later are searched exactly beside it, and those that are gone are passed over.
"""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from zeshel_tasks.data.arrays import Rows
from zeshel_tasks.data.vector_file import VectorFile
from zeshel_tasks.errors import ConfigError
from zeshel_tasks.evaluation.retrieval import top_k

_RESCORED = 4  # times as many as are wanted
_LEAST_OF_GROUP = 39
_TRAINED_ON = 64  # vectors for each group
_TRAIN_ROUNDS = 10
_ADDED_AT_ONCE = 65_536  # vectors in memory: 270 MB of 1,024 numbers
_SCORED_AT_ONCE = 16_384


class ApproximateIndex:
    """Searches vectors approximately.

    Args:
        path: of the file that :meth:`write` wrote. It is mapped into memory.
        vectors: those that are searched.
        probes: groups that a search looks at.
        places: int64 [vectors that it was made from], the position of each in ``vectors``, -1 if it is gone; None if
            they are the same. The positions are the first ones of ``vectors``; all after them are searched exactly.
    """

    def __init__(self, path: Path, vectors: VectorFile, probes: int, places: Rows | None = None) -> None:
        faiss = _faiss()
        self._index = faiss.read_index(str(path), faiss.IO_FLAG_MMAP | faiss.IO_FLAG_READ_ONLY)
        self._vectors, self._places = vectors, places
        there = np.ones(len(vectors), dtype=np.bool_) if places is None else places >= 0
        self._indexed = int(there.sum())
        self._rest = vectors.since(self._indexed)
        passed = {} if there.all() else {"sel": faiss.IDSelectorBitmap(np.packbits(there, bitorder="little"))}
        self._parameters = faiss.SearchParametersIVF(nprobe=probes, **passed)

    @staticmethod
    def write(vectors: VectorFile, path: Path) -> int:
        """Writes the index of vectors, and returns the number of its groups. Memory holds the index, a byte a number.

        Raises:
            ConfigError: faiss is not installed.
        """
        faiss = _faiss()
        # faiss's guideline for up to a million vectors, and its least number of vectors for a group
        lists = max(1, min(int(4 * len(vectors) ** 0.5), len(vectors) // _LEAST_OF_GROUP))
        dimension = vectors.dimension
        index = faiss.IndexIVFScalarQuantizer(
            faiss.IndexFlatIP(dimension), dimension, lists, faiss.ScalarQuantizer.QT_8bit, faiss.METRIC_INNER_PRODUCT
        )
        index.cp.niter = _TRAIN_ROUNDS
        sample = min(len(vectors), _TRAINED_ON * lists)
        index.train(vectors.rows(np.linspace(0, len(vectors) - 1, sample).astype(np.int64)))
        for block in vectors.blocks(_ADDED_AT_ONCE):
            index.add(np.ascontiguousarray(block, dtype=np.float32))
        faiss.write_index(index, str(path))
        return lists

    def top_k(self, queries: torch.Tensor, k: int) -> tuple[torch.Tensor, torch.Tensor]:
        """Returns the best ``k`` of what was found, as :func:`~zeshel_tasks.evaluation.retrieval.top_k` does.

        A query for which fewer were found gets the rest from an exact search.
        """
        k = min(k, len(self._vectors))
        asked = queries.float().cpu().numpy()
        found = self._nearest(asked, k)
        few = np.flatnonzero((found >= 0).sum(1) < min(k, self._indexed))
        if len(self._rest):
            later = top_k(torch.from_numpy(asked), self._rest, k)[1].numpy() + self._indexed
            found = np.concatenate([found, later], axis=1)
        scores, positions = self._rescored(asked, np.sort(found, axis=1), k)
        if len(few):
            exact = top_k(torch.from_numpy(asked[few]), self._vectors, k)
            scores[few], positions[few] = exact[0].numpy(), exact[1].numpy()
        return torch.from_numpy(scores), torch.from_numpy(positions)

    def _nearest(self, queries: npt.NDArray[np.float32], k: int) -> Rows:
        """Returns the positions of the best indexed vectors, padded with -1: int64 [queries, some]."""
        _, found = self._index.search(queries, min(_RESCORED * k, self._indexed), params=self._parameters)
        nearest: Rows = found if self._places is None else np.where(found < 0, -1, self._places[found])
        return nearest

    def _rescored(
        self, queries: npt.NDArray[np.float32], found: npt.NDArray[np.int64], k: int
    ) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.int64]]:
        """Returns exact scores and positions, by score, then by position; ``found`` is sorted and padded with -1."""
        scores = np.empty(found.shape, dtype=np.float32)
        size = max(1, _SCORED_AT_ONCE // found.shape[1])
        for start in range(0, len(found), size):
            rows = slice(start, start + size)
            # Not a matrix product, whose last bits depend on the column: equal vectors must have equal scores.
            scores[rows] = (self._vectors.rows(np.maximum(found[rows], 0)) * queries[rows, None]).sum(axis=2)
        scores[found < 0] = -np.inf
        order = np.argsort(-scores, axis=1, kind="stable")[:, :k]
        return np.take_along_axis(scores, order, axis=1), np.take_along_axis(found, order, axis=1)


def share_found(found: npt.NDArray[np.int64], exact: npt.NDArray[np.int64]) -> float:
    """Returns the share of the positions of an exact search that another one has found; both are [queries, k]."""
    same = [len(np.intersect1d(some, right)) for some, right in zip(found, exact, strict=True)]
    return float(np.sum(same) / exact.size)


def has_faiss() -> bool:
    """Returns True if faiss is installed."""
    try:
        _faiss()
    except ConfigError:
        return False
    return True


def _faiss() -> Any:
    try:
        return import_module("faiss")
    except ImportError as error:
        raise ConfigError(
            "faiss: expected it for an approximate index, got an installation without it: "
            "pip install 'zeshel-tasks[index]'"
        ) from error
