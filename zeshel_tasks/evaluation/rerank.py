"""Scores of the cross-encoder over retrieved candidates."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from zeshel_tasks.data.arrays import Rows
from zeshel_tasks.data.candidate_sets import NO_CANDIDATE, CandidateSets
from zeshel_tasks.evaluation.finite import require_finite
from zeshel_tasks.models.batches import on_device
from zeshel_tasks.models.crossencoder import pair_batch


def candidate_scores(
    model: nn.Module,
    sets: CandidateSets,
    rows: Rows,
    max_seq_length: int,
    pad: int,
    device: torch.device,
    chosen: npt.NDArray[np.bool_] | None = None,
) -> torch.Tensor:
    """The cross-encoder's scores of the candidates of the mentions ``rows``.

    Args:
        model: the cross-encoder.
        sets: mentions and candidates.
        rows: int64 [n].
        max_seq_length: tokens of a pair.
        pad: id of [PAD].
        device: the model's.
        chosen: bool [n, top_k], the candidates to score; None scores all.

    Returns:
        float [n, top_k]; minus infinity for a missing candidate and for one that is not chosen.
    """
    scored = sets.candidates[rows] != NO_CANDIDATE
    mention, column = np.nonzero(scored if chosen is None else scored & chosen)
    contexts, candidates = sets.mentions.contexts[rows][mention], sets.candidate_tokens(rows[mention], column)
    places = on_device(mention, device), on_device(column, device)  # before the model's work, which they would wait for
    scores: torch.Tensor = model(pair_batch(contexts, candidates, max_seq_length, pad, device))
    everything = scores.new_full((len(rows), sets.candidates.shape[1]), float("-inf"))
    return everything.index_put(places, scores)


def checked_scores(
    scores: torch.Tensor, candidates: npt.NDArray[np.int32], doing: str, expected: str
) -> npt.NDArray[np.float32]:
    """Copies the scores of all candidates to the host: float32 [n, top_k].

    Args:
        scores: from :func:`candidate_scores`.
        candidates: int32 [n, top_k]; the scores of missing ones are minus infinity.
        doing: see :func:`~zeshel_tasks.evaluation.finite.require_finite`, also for ``expected``.

    Raises:
        DataError: the score of a candidate is NaN or infinite.
    """
    on_host = scores.float().cpu()
    require_finite(on_host[torch.from_numpy(candidates != NO_CANDIDATE)], doing, expected)
    found: npt.NDArray[np.float32] = on_host.numpy()
    return found
