"""What matplotlib's charts have in common: margins, axes of rates, legends, lists of splits."""

from __future__ import annotations

from collections.abc import Container, Sequence
from typing import Any

from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, PercentFormatter

from zeshel_tasks.config import Split
from zeshel_tasks.report.content import SPLIT_ORDER
from zeshel_tasks.report.figure import MUTED, WIDTH


def add_legend(figure: Figure, handles: Sequence[Any], x: float, y: float) -> None:
    """A one-line legend whose upper left corner is at these fractions of the figure."""
    figure.legend(
        handles=handles,
        loc="upper left",
        bbox_to_anchor=(x, y),
        ncols=len(handles),
        handlelength=1.7,
        columnspacing=1.3,
        borderaxespad=0,
        labelcolor=MUTED,
    )


def rate_axis(axis: Any, set_limits: Any) -> None:
    """Makes an axis one of rates: always from 0% to 100%, so that charts compare."""
    set_limits(0, 1)
    axis.set_major_locator(FixedLocator([0, 0.25, 0.5, 0.75, 1]))
    axis.set_major_formatter(PercentFormatter(1, decimals=0))


def box(left: float, top: float, right: float, bottom: float, height: float) -> tuple[float, float, float, float]:
    """Axes with these margins, as fractions of a figure of this height."""
    return (left / WIDTH, bottom / height, (WIDTH - left - right) / WIDTH, (height - top - bottom) / height)


def listed(splits: Container[Split]) -> str:
    """The splits in their order, for a description."""
    return ", ".join(split for split in SPLIT_ORDER if split in splits)
