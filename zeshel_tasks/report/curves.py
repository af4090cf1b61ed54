"""Thins a training curve of any length to a few hundred points, so that the page stays small."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from zeshel_tasks.training.metrics import CurvePoint

MOST_POINTS = 300


@dataclass(frozen=True)
class ThinPoint:
    """Several consecutive points of a curve: their mean, and the lowest and highest value among them."""

    step: float
    epoch: float
    value: float
    lowest: float
    highest: float


@dataclass(frozen=True)
class ThinCurve:
    """Loss and validation of one training by step, each with at most :data:`MOST_POINTS` points.

    A bi-encoder is validated by recall, a cross-encoder by accuracy.
    """

    loss: tuple[ThinPoint, ...]
    valid_recall: tuple[ThinPoint, ...] = ()
    valid_accuracy: tuple[ThinPoint, ...] = ()

    @property
    def validation(self) -> tuple[ThinPoint, ...]:
        """The one of the two that was measured."""
        return self.valid_recall or self.valid_accuracy


def thin_curve(points: Sequence[CurvePoint], most: int = MOST_POINTS) -> ThinCurve:
    """Replaces consecutive points by their mean; each group has the same number of points.

    A step that is due by ``eval_interval`` and also ends its epoch is validated twice. Its last line counts.
    """
    losses = {point.step: (point.epoch, point.loss) for point in points if point.loss is not None}
    recall = {point.step: (point.epoch, point.valid_recall) for point in points if point.valid_recall is not None}
    accuracy = {point.step: (point.epoch, point.valid_accuracy) for point in points if point.valid_accuracy is not None}
    return ThinCurve(_thin(losses, most), valid_recall=_thin(recall, most), valid_accuracy=_thin(accuracy, most))


def _thin(by_step: dict[int, tuple[float, float]], most: int) -> tuple[ThinPoint, ...]:
    rows = [(step, *by_step[step]) for step in sorted(by_step)]
    size = math.ceil(len(rows) / most) or 1
    return tuple(_merge(rows[start : start + size]) for start in range(0, len(rows), size))


def _merge(rows: Sequence[tuple[int, float, float]]) -> ThinPoint:
    steps, epochs, values = zip(*rows, strict=True)
    return ThinPoint(_mean(steps), _mean(epochs), _mean(values), min(values), max(values))


def _mean(values: Iterable[float]) -> float:
    kept = list(values)
    return kept[0] if len(kept) == 1 else math.fsum(kept) / len(kept)
