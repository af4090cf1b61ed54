"""The linker's final score of a candidate: a weighted sum of its cross-encoder score and its retrieval score.

:mod:`~zeshel_tasks.linking.fit_fusion` fits the weights. Applying them needs only numpy, and the same scores give the
same bits on every machine, because each candidate is computed on its own.
"""

from __future__ import annotations

from typing import Literal

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ConfigDict

from zeshel_tasks.data.arrays import Rows

Scores = npt.NDArray[np.float32]
"""Scores of candidates, float32 [mentions, top_k]; minus infinity for a missing candidate."""

FUSION_FILE = "fusion.json"
_BLOCK = 1 << 22  # scores: each copy in float64 takes 32 MB


class Fusion(BaseModel):
    """The weights of the final score. ``fusion.json`` holds them."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    crossencoder: float
    retrieval: float

    @property
    def combines(self) -> Literal["both", "crossencoder", "retriever"]:
        """Whose scores count."""
        if self.crossencoder and self.retrieval:
            return "both"
        return "crossencoder" if self.crossencoder else "retriever"

    def final_scores(self, crossencoder: Scores, retrieval: Scores) -> Scores:
        """Returns the final scores of the candidates, in their columns.

        Args:
            crossencoder: float32 [mentions, top_k].
            retrieval: float32 [mentions, top_k], of the same candidates.

        Raises:
            ValueError: the shapes differ, or a candidate is missing in one of the arrays only.
        """
        if crossencoder.shape != retrieval.shape:
            raise ValueError(f"expected two scores of each candidate, got {crossencoder.shape} and {retrieval.shape}")
        scores = np.empty(crossencoder.shape, dtype=np.float32)
        rows = max(1, _BLOCK // max(1, crossencoder.shape[1]))
        for start in range(0, len(scores), rows):
            block = slice(start, start + rows)
            scores[block] = self._block(crossencoder[block], retrieval[block])
        return scores

    def _block(self, crossencoder: Scores, retrieval: Scores) -> npt.NDArray[np.float64]:
        present = np.isfinite(crossencoder)
        if not np.array_equal(present, np.isfinite(retrieval)):
            raise ValueError("expected both scores of each candidate, got only one of some")
        parts = [np.where(present, scores, 0).astype(np.float64) for scores in (crossencoder, retrieval)]
        return np.where(present, self.crossencoder * parts[0] + self.retrieval * parts[1], -np.inf)


CROSSENCODER_ALONE = Fusion(crossencoder=1.0, retrieval=0.0)
RETRIEVER_ALONE = Fusion(crossencoder=0.0, retrieval=1.0)


def best_candidates(scores: Scores) -> tuple[Rows, npt.NDArray[np.float32]]:
    """The best candidate of each mention and its probability among the candidates (softmax).

    Args:
        scores: float32 [mentions, top_k]; each mention has at least one candidate.

    Returns:
        Columns, int64 [mentions], the first of equal ones, which retrieval prefers; probabilities, float32 [mentions].
    """
    best = scores.argmax(1)
    highest = scores[np.arange(len(scores)), best]
    # The best candidate's share is 1 over the sum of all shares relative to it.
    return best, (1 / np.exp(scores - highest[:, None]).sum(1)).astype(np.float32)
