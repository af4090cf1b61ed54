"""Measures what a probability of being right is worth, and how well missing entities are detected."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from zeshel_tasks.config.link import LinkMode
from zeshel_tasks.data.arrays import Rows
from zeshel_tasks.linking.calibration_metrics import (
    CalibratedGroup,
    Confidence,
    Diagrams,
    ModeMetrics,
    NilMetrics,
    ReliabilityBin,
    Risk,
    RiskDifference,
    SplitCalibration,
    SplitModes,
    Threshold,
)
from zeshel_tasks.linking.fit_cascade import LinkedMentions
from zeshel_tasks.linking.listwise import Flags
from zeshel_tasks.linking.logistic import Values, probability

BINS = 15
RISK_POINTS = 50
_SAMPLES = 1000
_CONFIDENCE = 0.95
_SEED = 52313


class Judged(NamedTuple):
    """Two confidences of the same mentions.

    Attributes:
        right: float64 [mentions], the calibrated probability.
        softmax: float64 [mentions], the logarithm of the odds by the softmax over the candidates.
        correct: bool [mentions], True where the link is right.
    """

    right: Values
    softmax: Values
    correct: Flags

    def of(self, rows: Rows) -> Judged:
        """Returns some of the mentions."""
        return Judged(self.right[rows], self.softmax[rows], self.correct[rows])


class Thresholds(NamedTuple):
    """The thresholds of both confidences; infinite if none has the wanted precision."""

    right: float
    softmax: float


class NilScores(NamedTuple):
    """Probabilities of having no entity: of mentions that have one, and of mentions without. float64 [mentions]."""

    having: Values
    without: Values


def split_calibration(
    judged: Judged,
    nil: NilScores,
    softmax_nil: NilScores,
    thresholds: Thresholds,
    rows_of_world: Mapping[str, Rows],
) -> SplitCalibration:
    """Measures a split, overall and by world."""
    return SplitCalibration(
        **dict(calibrated_group(judged, thresholds)),
        risk_difference=risk_difference(judged),
        nil=nil_metrics(nil, softmax_nil),
        diagrams=diagrams(judged),
        worlds={world: calibrated_group(judged.of(rows), thresholds) for world, rows in rows_of_world.items()},
    )


def split_modes(modes: Mapping[LinkMode, LinkedMentions], rows_of_world: Mapping[str, Rows]) -> SplitModes:
    """Compares the modes on a split, overall and by world."""

    def measured(rows: Rows | slice) -> dict[LinkMode, ModeMetrics]:
        return {mode: _mode_metrics(linked, rows) for mode, linked in modes.items()}

    return SplitModes(
        modes=measured(slice(None)), worlds={world: measured(rows) for world, rows in rows_of_world.items()}
    )


def _mode_metrics(linked: LinkedMentions, rows: Rows | slice) -> ModeMetrics:
    correct = linked.correct[rows]
    return ModeMetrics(
        reranked=float(linked.reranked[rows].mean()),
        accuracy=float(correct.mean()),
        calibration_error=calibration_error(reliability(linked.right[rows].astype(np.float64), correct)),
    )


def calibrated_group(judged: Judged, thresholds: Thresholds) -> CalibratedGroup:
    """Measures a group of mentions."""
    right, softmax = (
        Confidence(
            calibration_error=calibration_error(reliability(values, judged.correct)),
            risk_area=float(np.mean(_risks(order, judged.correct))),
            at_threshold=at_threshold(values, judged.correct, threshold),
        )
        for values, order, threshold in (
            (judged.right, judged.right, thresholds.right),
            (probability(judged.softmax), judged.softmax, thresholds.softmax),
        )
    )
    return CalibratedGroup(
        mentions=len(judged.correct), accuracy=float(judged.correct.mean()), right=right, softmax=softmax
    )


def reliability(values: Values, correct: Flags, bins: int = BINS) -> tuple[ReliabilityBin, ...]:
    """Returns bins of equally many mentions, by rising probability; fewer bins if there are fewer mentions."""
    order = np.argsort(values, kind="stable")
    return tuple(
        ReliabilityBin(mentions=len(rows), probability=float(values[rows].mean()), right=float(correct[rows].mean()))
        for rows in np.array_split(order, bins)
        if len(rows)
    )


def calibration_error(bins: tuple[ReliabilityBin, ...]) -> float:
    """The mean distance between probability and share of right links, weighted by the mentions of each bin."""
    total = sum(each.mentions for each in bins)
    return sum(each.mentions * abs(each.probability - each.right) for each in bins) / total


def at_threshold(values: Values, correct: Flags, threshold: float) -> Threshold:
    """Share and precision of the mentions at or above the threshold."""
    linked = values >= threshold
    return Threshold(linked=float(linked.mean()), precision=float(correct[linked].mean()) if linked.any() else None)


def risk_difference(judged: Judged) -> RiskDifference:
    """The risk area minus that of the softmax, by a paired bootstrap over the mentions.

    A sample draws the mentions with replacement and keeps both confidences of a mention together; see
    :func:`~zeshel_tasks.champion.comparison.compare_accuracy`.
    """
    random, count = np.random.default_rng(_SEED), len(judged.correct)
    orders = [np.argsort(-values, kind="stable") for values in (judged.right, judged.softmax)]
    sampled = []
    for _ in range(_SAMPLES):
        drawn = random.multinomial(count, np.full(count, 1 / count))
        right, softmax = (_drawn_area(order, judged.correct, drawn) for order in orders)
        sampled.append(right - softmax)
    low, high = np.quantile(sampled, [(1 - _CONFIDENCE) / 2, (1 + _CONFIDENCE) / 2])
    areas = [float(np.mean(_risks(values, judged.correct))) for values in (judged.right, judged.softmax)]
    return RiskDifference(difference=areas[0] - areas[1], interval=(float(low), float(high)))


def nil_metrics(nil: NilScores, softmax: NilScores) -> NilMetrics:
    """Measures the detection of mentions without an entity at a probability of 0.5, and at all thresholds."""
    found, wrong = int((nil.without > 0.5).sum()), int((nil.having > 0.5).sum())
    both = np.concatenate(nil)
    lacks = np.repeat([False, True], [len(nil.having), len(nil.without)])
    return NilMetrics(
        mentions=len(both),
        area=roc_area(nil),
        softmax_area=roc_area(softmax),
        precision=found / (found + wrong) if found + wrong else None,
        recall=found / len(nil.without) if len(nil.without) else None,
        f1=2 * found / (found + wrong + len(nil.without)) if len(nil.without) else None,
        calibration_error=calibration_error(reliability(both, lacks)),
    )


def roc_area(scores: NilScores) -> float | None:
    """The probability that a mention without an entity scores higher than one with; ties count half (Mann-Whitney)."""
    having, without = np.sort(scores.having), scores.without
    if not len(having) or not len(without):
        return None
    below, up_to = (np.searchsorted(having, without, side) for side in ("left", "right"))
    return float((below + up_to).mean() / 2 / len(having))


def diagrams(judged: Judged) -> Diagrams:
    """Returns the points of the diagrams."""
    return Diagrams(
        reliability=reliability(judged.right, judged.correct),
        softmax_reliability=reliability(probability(judged.softmax), judged.correct),
        risk=_curve(judged.right, judged.correct),
        softmax_risk=_curve(judged.softmax, judged.correct),
    )


def _risks(values: Values, correct: Flags) -> Values:
    """The share of wrong links among the 1, 2, ... most confident mentions."""
    order = np.argsort(-values, kind="stable")
    return np.asarray(np.cumsum(~correct[order]) / np.arange(1, len(order) + 1))


def _drawn_area(order: Rows, correct: Flags, drawn: npt.NDArray[np.integer]) -> float:
    """The risk area of a sample that has each mention ``drawn`` times."""
    times = drawn[order]
    linked = np.cumsum(times)
    wrong = np.cumsum(times * ~correct[order])
    return float(times @ (wrong / np.maximum(linked, 1)) / linked[-1])


def _curve(values: Values, correct: Flags) -> tuple[Risk, ...]:
    risks = _risks(values, correct)
    count = len(risks)
    ends = np.unique(np.linspace(1, count, min(count, RISK_POINTS)).round().astype(int))
    return tuple(Risk(coverage=float(end / count), risk=float(risks[end - 1])) for end in ends)
