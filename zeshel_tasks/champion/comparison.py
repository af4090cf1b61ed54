"""Compare two models on the same mentions: the difference of their accuracies and its confidence interval."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

from zeshel_tasks.champion.metrics import ComparedGroup

Flags = npt.NDArray[np.bool_]


def compare_accuracy(
    new: Flags, champion: Flags, *, confidence: float, samples: int, random: np.random.Generator
) -> ComparedGroup:
    """Paired bootstrap over the mentions (Efron and Tibshirani, 1993; Koehn, 2004, "Statistical Significance Tests").

    A sample resamples the mentions with replacement and keeps both models' answers to a mention together. Only the
    number of mentions that one model alone has right matters, so that number is sampled instead of the mentions.

    The difference may be chance if the interval reaches down to 0, or if fair coins would win as many mentions at the
    same confidence. The bootstrap is too confident on few mentions; the sign test on the mentions won and lost
    (McNemar, 1947) is exact.

    Args:
        new: bool [mentions], True where the new model is right.
        champion: bool [mentions], the same for the champion.
        confidence: share of the samples within the interval.
        samples: number of samples.
        random: random number generator.
    """
    mentions = len(new)
    won, lost = int(np.sum(new & ~champion)), int(np.sum(champion & ~new))
    sampled = random.multinomial(mentions, [won / mentions, lost / mentions, 1 - (won + lost) / mentions], samples)
    tail = (1 - confidence) / 2
    low, high = np.quantile((sampled[:, 0] - sampled[:, 1]) / mentions, [tail, 1 - tail])
    return ComparedGroup(
        mentions=mentions,
        new=float(new.mean()),
        champion=float(champion.mean()),
        difference=(won - lost) / mentions,
        interval=(float(low), float(high)),
        won=won,
        lost=lost,
        may_be_chance=bool(low <= 0) or _by_coins(won, lost) > tail,
    )


def _by_coins(won: int, lost: int) -> float:
    """The probability that at least ``won`` of ``won + lost`` fair coins show heads."""
    tosses = won + lost
    ways = (
        math.lgamma(tosses + 1) - math.lgamma(heads + 1) - math.lgamma(tosses - heads + 1)
        for heads in range(won, tosses + 1)
    )
    return sum(math.exp(log_ways - tosses * math.log(2)) for log_ways in ways)
