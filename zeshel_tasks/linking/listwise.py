"""A linear score of candidates, fitted so that golds score higher than the other candidates of their mentions.

Source: the conditional logit model of McFadden, 1974, "Conditional logit analysis of qualitative choice behavior".
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import torch
from torch.nn import functional as F

Features = npt.NDArray[np.floating]
Weights = npt.NDArray[np.float64]
Flags = npt.NDArray[np.bool_]

_STEPS = 200


def fit_weights(
    features: Features,
    gold: npt.NDArray[np.integer],
    present: Flags | None = None,
    penalty: float = 1e-3,
    importance: npt.NDArray[np.floating] | None = None,
    center: Sequence[float] | None = None,
) -> Weights:
    """Returns the weight of each feature: float64 [features].

    Minimizes the weighted mean of the negative log-likelihoods of the golds, by L-BFGS in float64, plus ``penalty``
    times the squared distance of the weights from ``center``. The penalty acts on features scaled to a standard
    deviation of 1, so it bounds the weight of a feature that always (or never) marks the gold. The loss is convex, so
    the start does not matter.

    Args:
        features: float [mentions, candidates, features], finite where a candidate is present.
        gold: int [mentions], column of the gold; -1 for a mention without it, which is left out.
        present: bool [mentions, candidates], False for padding; None if every candidate is present.
        penalty: strength of the regularization.
        importance: float [mentions], above 0: how much each mention counts; None if all count the same.
        center: the weights to prefer, one of each feature; None for zeros.

    Raises:
        ValueError: a feature of a present candidate is not finite, or a gold is not present.
    """
    present = np.ones(features.shape[:2], dtype=bool) if present is None else present
    _check(features, gold, present)
    rows = np.flatnonzero((gold >= 0) & (present.sum(1) > 1))  # one candidate is certain with any weights
    if not len(rows):
        return np.zeros(features.shape[2]) if center is None else np.array(center, dtype=np.float64)
    scaled, scale = _standardized(features[rows], present[rows])
    inputs, missing = torch.from_numpy(scaled), torch.from_numpy(~present[rows])
    targets = torch.from_numpy(gold[rows].astype(np.int64))
    counts = np.ones(len(rows)) if importance is None else importance[rows].astype(np.float64)
    shares = torch.from_numpy(counts / counts.sum())
    preferred = torch.from_numpy(np.zeros_like(scale) if center is None else scale * center)
    weights = torch.zeros(features.shape[2], dtype=torch.float64, requires_grad=True)
    optimizer = torch.optim.LBFGS(
        [weights], max_iter=_STEPS, tolerance_grad=1e-9, tolerance_change=1e-12, line_search_fn="strong_wolfe"
    )

    def loss() -> torch.Tensor:
        optimizer.zero_grad()
        scores = (inputs @ weights).masked_fill(missing, float("-inf"))
        value = (
            shares @ F.cross_entropy(scores, targets, reduction="none") + penalty * (weights - preferred).square().sum()
        )
        value.backward()  # type: ignore[no-untyped-call]
        return value

    optimizer.step(loss)  # type: ignore[no-untyped-call]
    return np.asarray(weights.detach().numpy() / scale)


def combined(features: Features, weights: Weights, present: Flags) -> npt.NDArray[np.float32]:
    """Returns the score of each candidate, float32 [mentions, candidates]; minus infinity for padding.

    Candidates with equal features have equal scores. The rounding of a matrix product would depend on their places.
    """
    scores = (np.where(present[..., None], features, 0) * weights).sum(axis=2)
    return np.where(present, scores, -np.inf).astype(np.float32)


def _check(features: Features, gold: npt.NDArray[np.integer], present: Flags) -> None:
    if not np.isfinite(features[present]).all():
        raise ValueError("expected finite features of all candidates that are present")
    known = np.flatnonzero(gold >= 0)
    if not present[known, gold[known]].all():
        raise ValueError("expected golds among the candidates that are present")


def _standardized(features: Features, present: Flags) -> tuple[Weights, Weights]:
    """Returns the features with mean 0 and standard deviation 1, padding with zeros, and the scale of each feature."""
    shifted = np.where(present[..., None], features - features[present].mean(0, dtype=np.float64), 0)
    scale = shifted[present].std(0)
    scale[scale == 0] = 1
    return shifted / scale, scale
