"""A linear score of candidates, fitted so that golds score higher than the other candidates of their mentions.

Source: the conditional logit model of McFadden, 1974, "Conditional logit analysis of qualitative choice behavior".
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

Features = npt.NDArray[np.floating]
Weights = npt.NDArray[np.float64]
Flags = npt.NDArray[np.bool_]

_STEPS = 100
_GRADIENT = 1e-9  # at the minimum
_SMALLEST_STEP = 1e-9
_LEAST_CURVATURE = 1e-9  # where neither the mentions nor a penalty determine a weight
_MENTIONS_AT_ONCE = 1024  # bounds the memory of intermediate results


def fit_weights(
    features: Features,
    gold: npt.NDArray[np.integer],
    present: Flags | None = None,
    penalty: float = 1e-3,
    importance: npt.NDArray[np.floating] | None = None,
    center: Sequence[float] | None = None,
) -> Weights:
    """Returns the weight of each feature: float64 [features].

    Minimizes the weighted mean of the negative log-likelihoods of the golds, by Newton's method in float64, plus
    ``penalty`` times the squared distance of the weights from ``center``. The penalty acts on features scaled to a
    standard deviation of 1, so it bounds the weight of a feature that always (or never) marks the gold. The loss is
    convex, so the start does not matter.

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
    counts = np.ones(len(rows)) if importance is None else importance[rows].astype(np.float64)
    choices = _Choices(scaled, gold[rows], present[rows], counts / counts.sum())
    preferred = np.zeros_like(scale) if center is None else scale * center

    def loss(weights: Weights) -> float:
        return choices.loss(weights) + penalty * float(np.square(weights - preferred).sum())

    weights = preferred
    for _ in range(_STEPS):
        gradient, curvature = choices.derivatives(weights)
        gradient += 2 * penalty * (weights - preferred)
        if np.abs(gradient).max() < _GRADIENT:
            break
        curvature += max(2 * penalty, _LEAST_CURVATURE) * np.eye(len(weights))
        step, size, before = np.linalg.solve(curvature, gradient), 1.0, loss(weights)
        while loss(weights - size * step) >= before and size > _SMALLEST_STEP:
            size /= 2
        if size <= _SMALLEST_STEP:
            break
        weights = weights - size * step
    return weights / scale


def combined(features: Features, weights: Weights, present: Flags) -> npt.NDArray[np.float32]:
    """Returns the score of each candidate, float32 [mentions, candidates]; minus infinity for padding.

    Candidates with equal features have equal scores. The rounding of a matrix product would depend on their places.
    """
    scores = (np.where(present[..., None], features, 0) * weights).sum(axis=2)
    return np.where(present, scores, -np.inf).astype(np.float32)


class _Choices(NamedTuple):
    """Mentions whose golds are known, with weights that sum to 1.

    Attributes:
        features: float64 [mentions, candidates, features], 0 for padding.
        gold: int [mentions], column of the gold.
        present: bool [mentions, candidates].
        share: float64 [mentions].
    """

    features: Weights
    gold: npt.NDArray[np.integer]
    present: Flags
    share: Weights

    def loss(self, weights: Weights) -> float:
        """The weighted mean of the negative log-likelihoods of the golds."""
        scores = self._scores(weights)
        highest = scores.max(axis=1)
        total = highest + np.log(np.exp(scores - highest[:, None]).sum(axis=1))
        return float(self.share @ (total - scores[np.arange(len(scores)), self.gold]))

    def derivatives(self, weights: Weights) -> tuple[Weights, Weights]:
        """The first and second derivatives of the loss: float64 [features] and [features, features]."""
        scores = self._scores(weights)
        likely = np.exp(scores - scores.max(axis=1, keepdims=True))
        likely /= likely.sum(axis=1, keepdims=True)
        width = len(weights)
        gradient, curvature = np.zeros(width), np.zeros((width, width))
        for start in range(0, len(scores), _MENTIONS_AT_ONCE):
            part = slice(start, start + _MENTIONS_AT_ONCE)
            features, share = self.features[part], self.share[part]
            weighted = features * (likely[part] * share[:, None])[..., None]
            expected = np.matmul(likely[part, None], features)[:, 0]
            of_gold = features[np.arange(len(features)), self.gold[part]]
            gradient += share @ (expected - of_gold)
            curvature += features.reshape(-1, width).T @ weighted.reshape(-1, width)
            curvature -= expected.T @ (expected * share[:, None])
        return gradient, curvature

    def _scores(self, weights: Weights) -> Weights:
        return np.where(self.present, self.features @ weights, -np.inf)


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
