"""The charts of a report. A chart is None if there is nothing to draw.

A split has the same colour and marker everywhere, so that splits are never distinguished by colour alone.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from zeshel_tasks.config.splits import Split
from zeshel_tasks.evaluation.metrics import RecallMetrics
from zeshel_tasks.linking.calibration_metrics import ReliabilityBin, Risk, SplitCalibration
from zeshel_tasks.report.chart import RATE_TICKS, Dot, Line, LineChart, Tick, round_ticks
from zeshel_tasks.report.curves import ThinCurve, ThinPoint
from zeshel_tasks.report.formats import decimal, moment, percent
from zeshel_tasks.report.report_data import SPLIT_ORDER, PastRun
from zeshel_tasks.training.metrics import TrainingMetrics

_MARKERS = {"train": "triangle", "valid": "square", "test": "circle"}
_FEW_POINTS = 40
_BESIDE = 0.04  # of the width of the chart, between its edges and the outermost points


def recall_chart(recall: Mapping[Split, RecallMetrics]) -> LineChart | None:
    """Recall over the number of candidates, with a line for each split and average."""
    cutoffs = sorted({k for metrics in recall.values() for k in metrics.recall.micro})
    if not cutoffs:
        return None
    splits = [split for split in SPLIT_ORDER if split in recall]
    return LineChart(
        description=f"Recall by number of candidates, {', '.join(splits)}",
        # The first split is the one that is reported, so it is drawn on top.
        lines=tuple(line for split in reversed(splits) for line in _recall_lines(split, recall[split])),
        x_range=_with_margins(0, math.log2(cutoffs[-1])),
        x_ticks=tuple(Tick(math.log2(k), str(k)) for k in cutoffs),
        y_ticks=RATE_TICKS,
        x_label="candidates retrieved (k)",
    )


def loss_chart(stage: str, curve: ThinCurve) -> LineChart | None:
    """Training loss by step: the mean of each group of steps as a line, the lowest and highest as a band."""
    if not curve.loss:
        return None
    band = tuple((point.step, point.lowest, point.highest) for point in curve.loss)
    return LineChart(
        description=f"Training loss of {stage} by step",
        lines=(_curve_line(curve.loss, "ink", "circle", few=1),),
        x_range=(0, _last_step(curve)),
        x_ticks=_step_ticks(curve),
        y_ticks=round_ticks(max(point.highest for point in curve.loss), 5),
        title="training loss (nats)",
        band=band if any(lowest < highest for _, lowest, highest in band) else (),
        height=110,
    )


def validation_chart(stage: str, curve: ThinCurve, training: TrainingMetrics | None = None) -> LineChart | None:
    """Recall or accuracy on valid by step; ``training`` tells which epoch was kept."""
    points = curve.validation
    if not points:
        return None
    measure = training.measure if training is not None else "recall" if curve.valid_recall else "accuracy"
    return LineChart(
        description=f"Validation {measure} of {stage} by step",
        lines=(_curve_line(points, "valid", "square", few=_FEW_POINTS),),
        x_range=(0, _last_step(curve)),
        x_ticks=_step_ticks(curve),
        y_ticks=RATE_TICKS[::2],
        title=f"validation {measure}",
        x_label="training step",
        mark=_kept(points, training) if training is not None and training.best_epoch else None,
        height=84,
    )


def reliability_chart(split: Split, measured: SplitCalibration) -> LineChart:
    """The share of right links over their mean probability, calibrated and by the softmax."""
    return LineChart(
        description=f"Share of right links by probability, {split}",
        lines=(
            Line((Dot(0, 0), Dot(1, 1)), "ink", dashed=True),
            Line(_bin_dots(measured.diagrams.softmax_reliability), "valid", "softmax", "square", dashed=True),
            Line(_bin_dots(measured.diagrams.reliability), "test", "calibrated", "circle"),
        ),
        x_range=_with_margins(0, 1),
        x_ticks=RATE_TICKS,
        y_ticks=RATE_TICKS,
        title="linked correctly",
        x_label="probability",
    )


def risk_chart(split: Split, measured: SplitCalibration) -> LineChart:
    """The share of wrong links over the share of most confident mentions that are linked."""
    return LineChart(
        description=f"Share of wrong links by share of linked mentions, {split}",
        lines=(
            Line(_risk_dots(measured.diagrams.softmax_risk), "valid", "softmax", dashed=True),
            Line(_risk_dots(measured.diagrams.risk), "test", "calibrated"),
        ),
        x_range=_with_margins(0, 1),
        x_ticks=RATE_TICKS,
        y_ticks=RATE_TICKS,
        title="linked wrongly",
        x_label="most confident mentions",
    )


def history_chart(runs: Sequence[PastRun]) -> LineChart | None:
    """Accuracy and recall of the runs, the latest on the right; a single run is no history."""
    if len(runs) < 2:
        return None
    retrieved, linked = (
        tuple(_past_dot(number, run, rate) for number, (run, rate) in enumerate(zip(runs, rates, strict=True)))
        for rates in ([run.recall_at_top_k for run in runs], [run.unnormalized_accuracy for run in runs])
    )
    return LineChart(
        description=f"Accuracy and recall on test of the last {len(runs)} runs",
        lines=(
            Line(retrieved, "test", "gold among the candidates", "triangle", dashed=True),
            Line(linked, "test", "linked correctly", "circle"),
        ),
        x_range=_with_margins(0, len(runs) - 1),
        x_ticks=(Tick(0, _day(runs[0]), "start"), Tick(len(runs) - 1, _day(runs[-1]), "end")),
        y_ticks=RATE_TICKS,
    )


def _recall_lines(split: Split, metrics: RecallMetrics) -> list[Line]:
    """Macro below micro, so that the solid line is on top where both are equal."""
    by_average = {"macro": metrics.recall.macro, "micro": metrics.recall.micro}
    return [
        Line(
            tuple(
                Dot(math.log2(k), rate, f"{split}, {average} recall@{k}: {percent(rate)}")
                for k, rate in sorted(by_k.items())
            ),
            color=split,
            name=f"{split}, {average}",
            marker=_MARKERS[split],
            dashed=average == "macro",
        )
        for average, by_k in by_average.items()
    ]


def _bin_dots(bins: Sequence[ReliabilityBin]) -> tuple[Dot, ...]:
    return tuple(
        Dot(each.probability, each.right, f"{percent(each.probability)}: {percent(each.right)} of {each.mentions:,}")
        for each in bins
    )


def _risk_dots(points: Sequence[Risk]) -> tuple[Dot, ...]:
    return tuple(Dot(point.coverage, point.risk) for point in points)


def _curve_line(points: Sequence[ThinPoint], color: str, marker: str, few: int) -> Line:
    """The points have markers only if there are few of them."""
    texts = [f"step {decimal(point.step)}: {decimal(point.value)}" if len(points) <= few else "" for point in points]
    dots = tuple(Dot(point.step, point.value, text) for point, text in zip(points, texts, strict=True))
    return Line(dots, color, marker=marker if len(points) <= few else "")


def _last_step(curve: ThinCurve) -> float:
    return max(point.step for point in (*curve.loss, *curve.validation))


def _step_ticks(curve: ThinCurve) -> tuple[Tick, ...]:
    last = _last_step(curve)
    return tuple(tick for tick in round_ticks(last, 5) if tick.at <= last and tick.at == int(tick.at))


def _kept(points: Sequence[ThinPoint], training: TrainingMetrics) -> Dot:
    kept = training.best_epoch or 0
    best = min(points, key=lambda point: abs(point.epoch - kept))
    return Dot(best.step, best.value, f"kept: epoch {kept}, {percent(training.measured, 1)}")


def _past_dot(number: int, run: PastRun, rate: float | None) -> Dot:
    return Dot(number, rate, f"{run.run}, {_day(run)}: {percent(rate)}")


def _with_margins(first: float, last: float) -> tuple[float, float]:
    margin = (last - first) * _BESIDE or 1
    return first - margin, last + margin


def _day(run: PastRun) -> str:
    return moment(run.evaluated_at).partition(" ")[0]
