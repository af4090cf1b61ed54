"""Files of retrieved candidates."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt

from zeshel_tasks.data.arrays import Rows, new_array, release
from zeshel_tasks.data.candidate_sets import NO_CANDIDATE


class CandidateFiles:
    """Candidates of a split and all their scores, in memory-mapped files of [mentions, top_k].

    Attributes:
        gold_rank: int32 [mentions], column of the gold; -1 if it was not retrieved.
    """

    def __init__(self, folder: Path, mentions: int, top_k: int) -> None:
        self._folder, shape = folder, (mentions, top_k)
        self._candidates = new_array(folder / "candidates.npy", np.int32, shape)
        self._scores = new_array(folder / "scores.npy", np.float32, shape)
        self.gold_rank = np.full(mentions, -1, dtype=np.int32)

    def put(self, rows: Rows, scores: npt.NDArray[np.float32], positions: Rows, label: npt.NDArray[np.int32]) -> None:
        """Writes candidates and scores of some mentions, best first.

        Missing candidates are :data:`NO_CANDIDATE` and have the score minus infinity. ``label`` is the position of each
        mention's gold.
        """
        self._candidates[rows], self._scores[rows] = NO_CANDIDATE, -np.inf
        columns = slice(positions.shape[1])
        self._candidates[rows, columns], self._scores[rows, columns] = positions, scores
        release(self._candidates)
        release(self._scores)
        hit = positions == label[:, None]
        self.gold_rank[rows] = np.where(hit.any(1), hit.argmax(1), -1)

    def save(self) -> None:
        """Writes everything to the disk."""
        np.save(self._folder / "gold_rank.npy", self.gold_rank)
        self._candidates.flush()
        self._scores.flush()
