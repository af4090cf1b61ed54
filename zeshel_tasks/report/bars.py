"""Horizontal bars of a rate within a larger one, a group for each split: as readable for one world as for sixteen."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from matplotlib.figure import Figure
from matplotlib.patches import Patch
from matplotlib.ticker import FixedLocator, NullLocator

from zeshel_tasks.config import Split
from zeshel_tasks.report.axes import add_legend, box, listed, rate_axis
from zeshel_tasks.report.figure import INK, MUTED, SPLIT_COLORS, WIDTH, inline_svg
from zeshel_tasks.report.formats import percent

_LONGEST_LABEL = 21
# In units of the figure; a heading and the gap after a group are measured in rows.
_ROW, _HEADING_ROWS, _GAP_ROWS, _TOP, _BOTTOM = 20, 1.1, 0.6, 32, 30
_BESIDE: dict[str, Any] = {"textcoords": "offset points", "va": "center_baseline", "annotation_clip": False}


@dataclass(frozen=True)
class Bar:
    """A rate within a larger one."""

    name: str
    inner: float | None
    outer: float | None


@dataclass(frozen=True)
class BarGroup:
    """Bars of one split."""

    split: Split
    bars: Sequence[Bar]


def share_bars(name: str, groups: Sequence[BarGroup], inner: str, outer: str) -> str | None:
    """The chart, best bars first in each group; none without a bar. ``inner`` and ``outer`` name the two rates."""
    groups = [group for group in groups if group.bars]
    if not groups:
        return None
    rows = sum(len(group.bars) + _HEADING_ROWS + _GAP_ROWS for group in groups)
    height = _TOP + rows * _ROW + _BOTTOM
    left = 12 + 6.9 * max(len(_shortened(bar.name)) for group in groups for bar in group.bars)

    def draw(figure: Figure) -> None:
        axes = figure.add_axes(box(left, _TOP, 104, _BOTTOM, height))
        _bar_axes(axes, rows)
        _draw_groups(axes, groups, inner, outer)
        handles = [Patch(facecolor=MUTED, label=inner), Patch(facecolor=MUTED, alpha=0.3, label=outer)]
        add_legend(figure, handles, 6 / WIDTH, 1 - 4 / height)

    return inline_svg(name, f"{inner} and {outer}, {listed({group.split for group in groups})}", height, draw)


def _draw_groups(axes: Any, groups: Sequence[BarGroup], inner: str, outer: str) -> None:
    at = 0.0
    for group in groups:
        _heading(axes, group.split, at, inner if at == 0 else "", outer if at == 0 else "")
        at += _HEADING_ROWS
        for bar in sorted(group.bars, key=_best_first):
            _draw_bar(axes, bar, at, SPLIT_COLORS[group.split])
            at += 1
        at += _GAP_ROWS


def _best_first(bar: Bar) -> tuple[float, str]:
    return (-bar.inner if bar.inner is not None else 1.0, bar.name)


def _bar_axes(axes: Any, rows: float) -> None:
    axes.set_ylim(rows - 0.4, -0.6)
    axes.yaxis.set_major_locator(NullLocator())
    axes.grid(axis="x")
    axes.spines["bottom"].set_visible(False)
    axes.tick_params(axis="x", length=0)
    rate_axis(axes.xaxis, axes.set_xlim)
    axes.xaxis.set_major_locator(FixedLocator([0, 0.5, 1]))


def _heading(axes: Any, split: Split, at: float, inner: str, outer: str) -> None:
    axes.annotate(split, (0, at), (-6, 0), ha="right", color=SPLIT_COLORS[split], weight="bold", **_BESIDE)
    axes.annotate(inner, (1, at), (50, 0), ha="right", color=MUTED, size=10.5, **_BESIDE)
    axes.annotate(outer, (1, at), (100, 0), ha="right", color=MUTED, size=10.5, **_BESIDE)


def _draw_bar(axes: Any, bar: Bar, at: float, color: str) -> None:
    inner, outer = bar.inner or 0.0, bar.outer or 0.0
    axes.barh(at, inner, height=0.62, color=color)
    axes.barh(at, max(0.0, outer - inner), left=inner, height=0.62, color=color, alpha=0.3)
    axes.annotate(_shortened(bar.name), (0, at), (-6, 0), ha="right", color=INK, **_BESIDE)
    axes.annotate(percent(bar.inner, 1), (1, at), (50, 0), ha="right", color=INK, **_BESIDE)
    axes.annotate(percent(bar.outer, 1), (1, at), (100, 0), ha="right", color=MUTED, **_BESIDE)


def _shortened(name: str) -> str:
    shown = "".join(letter if letter.isprintable() else "\ufffd" for letter in name)
    return shown if len(shown) <= _LONGEST_LABEL else f"{shown[: _LONGEST_LABEL - 1]}…"
