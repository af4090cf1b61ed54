"""Shares of mentions with their standard errors, and paired differences with their bootstrap intervals."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Ranks = Mapping[str, npt.NDArray[np.int64]]
"""World -> rank of the gold for each mention, from 0; -1 if it is not among the candidates."""

_SAMPLES = 10_000
_TAIL = 0.025


@dataclass(frozen=True)
class Share:
    """The mean over worlds of the share of mentions whose gold is among the first k, and its standard error."""

    value: float
    error: float


@dataclass(frozen=True)
class Gain:
    """The difference of two shares on the same mentions, and its 95% interval."""

    value: float
    low: float
    high: float


def share(ranks: Ranks, k: int) -> Share:
    """Return recall at ``k``. The error is that of drawing mentions from the worlds; the worlds are fixed."""
    hits = [_hits(of_world, k) for of_world in ranks.values()]
    variances = [hit.var() / max(1, len(hit) - 1) for hit in hits]
    return Share(float(np.mean([hit.mean() for hit in hits])), float(np.sqrt(sum(variances))) / len(hits))


def gain(ranks: Ranks, other: Ranks, k: int) -> Gain:
    """Return by how much recall at ``k`` is higher than that of ``other``, with a paired bootstrap within each world.

    Only the numbers of mentions that one of the two has alone matter, so these are sampled instead of the mentions.
    """
    random, differences, samples = np.random.default_rng(0), [], []
    for world, of_world in ranks.items():
        hit, others = _hits(of_world, k), _hits(other[world], k)
        if len(hit) != len(others):
            raise ValueError(f"{world}: expected the same mentions in both rows, got {len(hit)} and {len(others)}")
        won, lost = float(np.mean(hit & ~others)), float(np.mean(others & ~hit))
        drawn = random.multinomial(len(hit), [won, lost, max(0.0, 1 - won - lost)], _SAMPLES)
        differences.append(won - lost)
        samples.append((drawn[:, 0] - drawn[:, 1]) / len(hit))
    low, high = np.quantile(np.mean(samples, axis=0), [_TAIL, 1 - _TAIL])
    return Gain(float(np.mean(differences)), float(low), float(high))


def _hits(ranks: npt.NDArray[np.int64], k: int) -> npt.NDArray[np.bool_]:
    return (ranks >= 0) & (ranks < k)
