"""The charts of what was measured. Each is an ``<svg>`` element, or none where the content has nothing to draw.

Splits keep their colour everywhere, and are never told apart by colour alone: lines have markers, bars headings.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FixedLocator, MaxNLocator, NullLocator

from zeshel_tasks.config import Split
from zeshel_tasks.report.axes import add_legend, box, listed, rate_axis
from zeshel_tasks.report.bars import Bar, BarGroup, share_bars
from zeshel_tasks.report.content import (
    SPLIT_ORDER,
    AccuracyOfGroup,
    BiencoderMetrics,
    CrossencoderMetrics,
    RecallOfWorld,
    TrainingMetrics,
)
from zeshel_tasks.report.curves import ThinCurve, ThinPoint
from zeshel_tasks.report.figure import GRID, INK, MUTED, SPLIT_COLORS, SURFACE, WIDTH, inline_svg
from zeshel_tasks.report.formats import label, percent

_MARKERS = {"train": "^", "valid": "s", "test": "o"}
_AVERAGES = {"micro": "-", "macro": (0, (3, 2))}
_FEW_POINTS = 40


def recall_by_k(recall: Mapping[Split, BiencoderMetrics]) -> str | None:
    """Recall over the number of candidates, a line for each split and average."""
    cutoffs = sorted({k for metrics in recall.values() for k in metrics.recall.micro})
    if not cutoffs:
        return None

    def draw(figure: Figure) -> None:
        axes = figure.add_axes(box(46, 60, 14, 46, 300))
        for split in SPLIT_ORDER:
            if split in recall:
                _recall_lines(axes, split, recall[split])
        axes.set_xscale("log", base=2)
        axes.xaxis.set_major_locator(FixedLocator(cutoffs))
        axes.xaxis.set_minor_locator(NullLocator())
        axes.set_xticklabels([str(k) for k in cutoffs])
        axes.set_xlabel("candidates retrieved (k)")
        rate_axis(axes.yaxis, axes.set_ylim)
        _legends(figure, [split for split in SPLIT_ORDER if split in recall])

    return inline_svg("recall-by-k", f"Recall by number of candidates, {listed(recall)}", 300, draw)


def recall_by_world(recall: Mapping[Split, BiencoderMetrics]) -> str | None:
    """For each world recall@1 within recall at the largest k."""
    top_k = max((k for metrics in recall.values() for k in metrics.recall.micro), default=None)
    if top_k is None:
        return None
    groups = [
        BarGroup(split, [_recall_bar(*world, top_k) for world in recall[split].worlds.items()])
        for split in SPLIT_ORDER
        if split in recall
    ]
    return share_bars("recall-by-world", groups, "R@1", f"R@{top_k}")


def accuracy_by_world(accuracy: Mapping[Split, CrossencoderMetrics]) -> str | None:
    """For each world unnormalized accuracy within the share of golds retrieved."""
    groups = [_accuracy_group(split, accuracy[split].worlds) for split in SPLIT_ORDER if split in accuracy]
    return share_bars("accuracy-by-world", groups, "accuracy", "retrieved")


def accuracy_by_category(accuracy: Mapping[Split, CrossencoderMetrics]) -> str | None:
    """For each mention category unnormalized accuracy within the share of golds retrieved."""
    groups = [_accuracy_group(split, accuracy[split].categories, label) for split in SPLIT_ORDER if split in accuracy]
    return share_bars("accuracy-by-category", groups, "accuracy", "retrieved")


def training_curve(stage: str, curve: ThinCurve, training: TrainingMetrics | None = None) -> str | None:
    """Training loss above, validation accuracy below, over the same steps; ``training`` marks the kept epoch."""
    if not curve.loss and not curve.valid_accuracy:
        return None

    def draw(figure: Figure) -> None:
        upper = figure.add_axes(box(46, 22, 14, 162, 320))
        lower = figure.add_axes(box(46, 206, 14, 46, 320), sharex=upper)
        lower.set_xlim(0, 1.02 * max(point.step for point in (*curve.loss, *curve.valid_accuracy)) or 1)
        _loss_panel(upper, curve.loss)
        _validation_panel(lower, curve.valid_accuracy, training)
        lower.set_xlabel("training step")
        lower.xaxis.set_major_locator(MaxNLocator(nbins=5, integer=True))
        upper.tick_params(labelbottom=False)

    return inline_svg(f"curve-{stage}", f"Training loss and validation accuracy of {stage} by step", 320, draw)


def _recall_bar(world: str, metrics: RecallOfWorld, top_k: int) -> Bar:
    return Bar(world, metrics.recall.get(1), metrics.recall.get(top_k))


def _accuracy_group(split: Split, groups: Mapping[str, AccuracyOfGroup], shown: Callable[[str], str] = str) -> BarGroup:
    bars = [
        Bar(shown(name), group.unnormalized_accuracy, group.retrieved / group.mentions if group.mentions else None)
        for name, group in groups.items()
    ]
    return BarGroup(split, bars)


def _recall_lines(axes: Any, split: Split, metrics: BiencoderMetrics) -> None:
    color = SPLIT_COLORS[split]
    for average, style in _AVERAGES.items():
        recall = getattr(metrics.recall, average)
        points = [(k, recall[k]) for k in sorted(recall) if recall[k] is not None]
        face = color if average == "micro" else SURFACE
        axes.plot(
            *zip(*points, strict=True) if points else ([], []),
            color=color,
            linestyle=style,
            marker=_MARKERS[split],
            markerfacecolor=face,
            markeredgecolor=color,
            clip_on=False,
            zorder=3,
        )


def _legends(figure: Figure, splits: Sequence[Split]) -> None:
    colors = [
        Line2D([], [], color=SPLIT_COLORS[split], marker=_MARKERS[split], label=split, linestyle="-")
        for split in splits
    ]
    averages = [
        Line2D([], [], color=MUTED, linestyle="-", label="micro: all mentions alike"),
        Line2D([], [], color=MUTED, linestyle=_AVERAGES["macro"], label="macro: all worlds alike"),
    ]
    add_legend(figure, colors, 6 / WIDTH, 1)
    add_legend(figure, averages, 6 / WIDTH, 1 - 20 / 300)


def _loss_panel(axes: Any, points: Sequence[ThinPoint]) -> None:
    steps = [point.step for point in points]
    if any(point.lowest < point.highest for point in points):
        band = [point.lowest for point in points], [point.highest for point in points]
        axes.fill_between(steps, *band, color=MUTED, alpha=0.22, linewidth=0)
    axes.plot(steps, [point.value for point in points], color=INK, linewidth=1.6, marker=_marker(points))
    axes.set_ylim(bottom=0)
    axes.yaxis.set_major_locator(MaxNLocator(nbins=4))
    _panel_title(axes, "training loss (nats)")


def _validation_panel(axes: Any, points: Sequence[ThinPoint], training: TrainingMetrics | None) -> None:
    steps, rates = [point.step for point in points], [point.value for point in points]
    axes.plot(steps, rates, color=SPLIT_COLORS["valid"], marker=_marker(points, "s"), clip_on=False, zorder=3)
    rate_axis(axes.yaxis, axes.set_ylim)
    axes.yaxis.set_major_locator(FixedLocator([0, 0.5, 1]))
    _panel_title(axes, "validation accuracy")
    if points and training is not None and training.best_epoch:
        kept = training.best_epoch
        best = min(points, key=lambda point: abs(point.epoch - kept))
        _mark_best(axes, best, f"kept: epoch {kept}, {percent(training.valid_accuracy, 1)}")


def _mark_best(axes: Any, best: ThinPoint, text: str) -> None:
    axes.axvline(best.step, color=GRID, linewidth=1.2, zorder=1)
    below = best.value > 0.6
    axes.annotate(
        text,
        (best.step, best.value),
        (-4, -16 if below else 12),
        textcoords="offset points",
        ha="right" if best.step > sum(axes.get_xlim()) / 2 else "left",
        va="center_baseline",
        color=INK,
        size=11,
    )


def _marker(points: Sequence[ThinPoint], shape: str = "o") -> str:
    return shape if len(points) == 1 or (shape != "o" and len(points) <= _FEW_POINTS) else ""


def _panel_title(axes: Any, title: str) -> None:
    axes.set_title(title, loc="left", size=12, color=MUTED, pad=9)
