"""The hybrid retriever: candidates of the bi-encoder, of BM25 and by name in one list, by a fitted score.

``retriever.json`` holds its settings and weights.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from pydantic import BaseModel, ConfigDict, ValidationError

from zeshel_tasks.data.vector_file import VectorFile
from zeshel_tasks.errors import DataError
from zeshel_tasks.evaluation.candidates import Candidates
from zeshel_tasks.linking.features import FEATURES, Lexical, pool_of
from zeshel_tasks.linking.listwise import combined

FILE = "retriever.json"


class Retriever(BaseModel):
    """Settings and weights of the retriever.

    Attributes:
        hybrid: False for the bi-encoder alone.
        context_words: words on each side of a mention that are a query of BM25.
        weights: of :data:`~zeshel_tasks.linking.features.FEATURES`; empty unless ``hybrid``. A feature without one
            counts nothing: it did not exist when the weights were fitted.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)
    hybrid: bool = False
    context_words: int = 0
    weights: dict[str, float] = {}

    @classmethod
    def read(cls, path: Path) -> Retriever:
        """Reads ``retriever.json``.

        Raises:
            DataError: not a retriever, or one with other features.
        """
        try:
            found = cls.model_validate_json(path.read_bytes())
        except ValidationError as error:
            raise DataError("not a retriever", file=path.name, expected="its settings", got=str(error)) from error
        if not found.weights.keys() <= set(FEATURES) or found.hybrid != bool(found.weights):
            expected = f"weights of some of {', '.join(FEATURES)}" if found.hybrid else "no weights"
            raise DataError(
                "another retriever", file=path.name, expected=expected, got=", ".join(found.weights) or "none"
            )
        return found

    def fuse(self, found: Sequence[Lexical], dense: Candidates, vectors: VectorFile) -> Candidates:
        """Returns as many candidates of each mention as ``dense`` has: the best of the pool by the fitted score.

        Equal scores are in the order of positions.

        Args:
            found: what lexical search found for each mention.
            dense: the candidates of the bi-encoder.
            vectors: of the world's entities.
        """
        pool = pool_of(found, dense, vectors)
        scores = combined(pool.features, np.array([self.weights.get(name, 0.0) for name in FEATURES]), pool.present)
        order = np.argsort(-scores, axis=1, kind="stable")[:, : dense.positions.shape[1]]
        return dense._replace(
            scores=np.take_along_axis(scores, order, axis=1),
            positions=np.take_along_axis(pool.positions, order, axis=1),
        )
