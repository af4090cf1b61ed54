"""The cross-encoder, ready to score candidates."""

from __future__ import annotations

from pathlib import Path

import torch

from zeshel_tasks.compute.device import Placement
from zeshel_tasks.data.arrays import Rows
from zeshel_tasks.data.candidate_sets import CandidateSets
from zeshel_tasks.evaluation.rerank import candidate_scores, checked_scores
from zeshel_tasks.linking.fusion import Scores
from zeshel_tasks.models.crossencoder import load_crossencoder
from zeshel_tasks.models.inference import ready_for_inference


class Reranker:
    """Scores candidates with a cross-encoder.

    Args:
        model: the folder of the cross-encoder.
        placement: device and precision.

    Attributes:
        settings: the cross-encoder's.
        tokens: its tokenizer.
    """

    def __init__(self, model: Path, placement: Placement) -> None:
        self.placement = placement
        crossencoder, self.settings, self.tokens = load_crossencoder(model)
        self._model = ready_for_inference(crossencoder, self.placement)

    def can_read(self, tokens_identity: str | None) -> bool:
        """Returns True if entities with this :meth:`~zeshel_tasks.data.tokens.Tokens.identity` suit this model."""
        own = self.tokens.identity(self.settings.max_cand_length)
        return own is not None and own == tokens_identity

    def scores(self, sets: CandidateSets, rows: Rows, doing: str) -> Scores:
        """Scores all candidates of the mentions ``rows`` in one batch.

        Args:
            sets: mentions and candidates, tokenized with :attr:`tokens`.
            rows: int64 [n].
            doing: description of the work for messages, such as ``on test``.

        Returns:
            float32 [n, top_k]; minus infinity for a missing candidate.

        Raises:
            DataError: a score is not a finite number.
        """
        device = self.placement.device
        with torch.inference_mode(), self.placement.autocast():
            scores = candidate_scores(self._model, sets, rows, self.settings.max_seq_length, self.tokens.pad, device)
            return checked_scores(scores, sets.candidates[rows], doing, "a cross-encoder with finite scores")
