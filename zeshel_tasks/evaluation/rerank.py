"""Scores of the cross-encoder over retrieved candidates."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from zeshel_tasks.data.candidate_sets import NO_CANDIDATE, CandidateSets
from zeshel_tasks.models.crossencoder import pair_ids


def candidate_scores(
    model: nn.Module,
    sets: CandidateSets,
    rows: npt.NDArray[np.int64],
    max_seq_length: int,
    pad: int,
    device: torch.device,
) -> torch.Tensor:
    """The cross-encoder's scores of the candidates of the mentions ``rows``.

    Returns:
        float [len(rows), top_k]; minus infinity where there is no candidate.
    """
    contexts = torch.from_numpy(sets.mentions.contexts[rows]).to(device).long()
    candidates = torch.from_numpy(sets.candidate_tokens(rows)).to(device).long()
    scores: torch.Tensor = model(*pair_ids(contexts, candidates, max_seq_length, pad))
    missing = torch.from_numpy(sets.candidates[rows] == NO_CANDIDATE).to(device)
    return scores.masked_fill(missing, float("-inf"))
