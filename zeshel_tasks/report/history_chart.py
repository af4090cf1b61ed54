"""The chart of the store's last runs: ``history_chart.html`` draws what is placed here, in the looks of ``figure.py``.

It is another one for each run, also where the report is reused and there is no matplotlib.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import ClassVar

from zeshel_tasks.report.content import PastRun
from zeshel_tasks.report.formats import moment, percent

# Paths from the middle of a point.
_TRIANGLE = "m 0 -2.75 l -2.75 5.5 h 5.5 z"
_CIRCLE = "m -2.75 0 a 2.75 2.75 0 1 0 5.5 0 a 2.75 2.75 0 1 0 -5.5 0 z"
_MARGIN = 15.5  # between the outermost runs and the edges of the axes
_TICKS = (0, 0.25, 0.5, 0.75, 1)


@dataclass(frozen=True)
class Point:
    """A run's rate: where it is, and what it says to those who point at it."""

    x: float
    y: float
    text: str


@dataclass(frozen=True)
class Line:
    """A rate over the runs, in parts: there is a gap where a run has none."""

    name: str
    dashes: str
    marker: str
    legend_x: float
    parts: tuple[tuple[Point, ...], ...]


@dataclass(frozen=True)
class HistoryChart:
    """What is in the chart, and where.

    Attributes:
        description: read aloud to those who do not see the chart.
        ticks: text and height of each.
        days: text and place of each, and which end of the text is there.
        lines: the rates.
    """

    width: ClassVar = 400
    height: ClassVar = 260
    left: ClassVar = 46
    right: ClassVar = 386
    top: ClassVar = 34
    bottom: ClassVar = 214

    description: str
    ticks: tuple[tuple[str, float], ...]
    days: tuple[tuple[str, float, str], ...]
    lines: tuple[Line, ...]


def place_history(runs: Sequence[PastRun]) -> HistoryChart | None:
    """Accuracy and recall of the runs, the latest on the right; a single run is no history."""
    if len(runs) < 2:
        return None
    places = list(_places(len(runs)))
    retrieved, linked = [run.recall_at_top_k for run in runs], [run.unnormalized_accuracy for run in runs]
    return HistoryChart(
        description=f"Accuracy and recall on test of the last {len(runs)} runs",
        ticks=tuple((percent(rate, 0), _height(rate)) for rate in _TICKS),
        days=((_day(runs[0]), places[0], "start"), (_day(runs[-1]), places[-1], "end")),
        lines=(
            Line("gold among the candidates", "6 4", _TRIANGLE, 6, tuple(_parts(runs, places, retrieved))),
            Line("linked right", "none", _CIRCLE, 216, tuple(_parts(runs, places, linked))),
        ),
    )


def _places(runs: int) -> Iterator[float]:
    first, last = HistoryChart.left + _MARGIN, HistoryChart.right - _MARGIN
    return (round(first + (last - first) * run / (runs - 1), 2) for run in range(runs))


def _parts(
    runs: Sequence[PastRun], places: Sequence[float], rates: Sequence[float | None]
) -> Iterator[tuple[Point, ...]]:
    part: list[Point] = []
    for run, x, rate in zip(runs, places, rates, strict=True):
        if rate is not None:
            part.append(Point(x, _height(rate), f"{run.run}, {_day(run)}: {percent(rate)}"))
        elif part:
            yield tuple(part)
            part = []
    if part:
        yield tuple(part)


def _height(rate: float) -> float:
    return round(HistoryChart.bottom - rate * (HistoryChart.bottom - HistoryChart.top), 2)


def _day(run: PastRun) -> str:
    return moment(run.evaluated_at).partition(" ")[0]
