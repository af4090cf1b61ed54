"""Two models on the same mentions: the difference of their accuracies, and how sure it is."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import numpy.typing as npt

Flags = npt.NDArray[np.bool_]


def compare_accuracy(
    new: Flags, champion: Flags, *, confidence: float, samples: int, random: np.random.Generator
) -> dict[str, Any]:
    """Paired bootstrap over the mentions (Efron and Tibshirani, 1993; Koehn, 2004, "Statistical Significance Tests").

    A sample draws as many mentions as there are, with replacement, both models' answers together. All that counts is
    how many of the drawn ones either model alone has right, so the numbers are drawn instead of the mentions.

    Args:
        new: bool [mentions], whether the new model is right.
        champion: bool [mentions], whether the champion is, on the same mentions.
        confidence: share of the samples within the interval.
        samples: how many.
        random: draws them.

    Returns:
        ``mentions``, ``new`` and ``champion`` (accuracy, 0 to 1), ``difference``, its ``interval`` (two ends), ``won``
        and ``lost`` (mentions that only the new model, or only the champion, has right), and ``may_be_chance``: whether
        the interval reaches down to 0, or coins would win as many at the same confidence. Of few mentions a bootstrap
        is too sure; the sign test on those won and lost (McNemar, 1947) is exact.
    """
    mentions = len(new)
    won, lost = int(np.sum(new & ~champion)), int(np.sum(champion & ~new))
    drawn = random.multinomial(mentions, [won / mentions, lost / mentions, 1 - (won + lost) / mentions], samples)
    tail = (1 - confidence) / 2
    low, high = np.quantile((drawn[:, 0] - drawn[:, 1]) / mentions, [tail, 1 - tail])
    return {
        "mentions": mentions,
        "new": float(new.mean()),
        "champion": float(champion.mean()),
        "difference": (won - lost) / mentions,
        "interval": [float(low), float(high)],
        "won": won,
        "lost": lost,
        "may_be_chance": bool(low <= 0) or _by_coins(won, lost) > tail,
    }


def _by_coins(won: int, lost: int) -> float:
    """The probability that of ``won + lost`` fair coins at least ``won`` show heads."""
    tosses = won + lost
    ways = (
        math.lgamma(tosses + 1) - math.lgamma(heads + 1) - math.lgamma(tosses - heads + 1)
        for heads in range(won, tosses + 1)
    )
    return sum(math.exp(log_ways - tosses * math.log(2)) for log_ways in ways)
