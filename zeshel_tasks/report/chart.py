"""A line chart as data; ``chart.html`` draws it as inline SVG in the colours and the font of the page.

Lines and ticks are in the units of the data; :meth:`LineChart.x` and :meth:`LineChart.y` convert them to CSS pixels.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

from zeshel_tasks.report.formats import percent


@dataclass(frozen=True)
class Dot:
    """A point of a line; ``y`` is None where the line has a gap, ``text`` is its tooltip."""

    x: float
    y: float | None
    text: str = ""


@dataclass(frozen=True)
class Line:
    """A line of a chart.

    Attributes:
        dots: its points, from left to right.
        color: name of a colour in ``report.css``.
        name: its label in the legend; a line without a name is not in the legend.
        marker: ``circle``, ``square`` or ``triangle``; None draws only the line.
        dashed: True for a dashed line with hollow markers.
    """

    dots: tuple[Dot, ...]
    color: str
    name: str = ""
    marker: str = ""
    dashed: bool = False

    def parts(self) -> Iterator[list[Dot]]:
        """The points between two gaps."""
        part: list[Dot] = []
        for dot in (*self.dots, Dot(0, None)):
            if dot.y is not None:
                part.append(dot)
            elif part:
                yield part
                part = []


@dataclass(frozen=True)
class Tick:
    """A labelled position on an axis; ``anchor`` is the SVG ``text-anchor`` of the label."""

    at: float
    text: str
    anchor: str = "middle"


@dataclass(frozen=True)
class LineChart:
    """Lines over two axes. The first and the last tick of the y axis are its ends.

    Attributes:
        description: text for screen readers.
        lines: drawn in this order, the last on top.
        x_range: values at the left and right end of the x axis.
        title: label of the y axis, above it.
        x_label: label of the x axis, below it.
        band: ``(x, lowest, highest)`` of an area that is shaded behind the lines.
        mark: a point with a text and a vertical line through it.
        height: height of the plot, without the labels around it.
    """

    left: ClassVar = 46
    right: ClassVar = 386
    width: ClassVar = 400

    description: str
    lines: tuple[Line, ...]
    x_range: tuple[float, float]
    x_ticks: tuple[Tick, ...]
    y_ticks: tuple[Tick, ...]
    title: str = ""
    x_label: str = ""
    band: tuple[tuple[float, float, float], ...] = ()
    mark: Dot | None = None
    height: int = 180

    @property
    def top(self) -> int:
        """Upper edge of the plot."""
        return 30 if self.title else 10

    @property
    def bottom(self) -> int:
        """Lower edge of the plot."""
        return self.top + self.height

    def x(self, value: float) -> float:
        """Pixels from the left edge of the chart."""
        first, last = self.x_range
        return round(self.left + (self.right - self.left) * (value - first) / ((last - first) or 1), 1)

    def y(self, value: float) -> float:
        """Pixels from the top edge of the chart."""
        lowest, highest = self.y_ticks[0].at, self.y_ticks[-1].at
        return round(self.bottom - self.height * (value - lowest) / ((highest - lowest) or 1), 1)

    def band_points(self) -> list[tuple[float, float]]:
        """The outline of the band: along its highest values, and back along its lowest."""
        return [(x, high) for x, _, high in self.band] + [(x, low) for x, low, _ in reversed(self.band)]


RATE_TICKS = tuple(Tick(rate, percent(rate, 0)) for rate in (0.0, 0.25, 0.5, 0.75, 1.0))
"""The y axis of rates. It always goes from 0% to 100%, so that charts can be compared."""


def round_ticks(highest: float, at_most: int) -> tuple[Tick, ...]:
    """Ticks from 0 up to at least ``highest``, at multiples of 1, 2 or 5 times a power of ten."""
    if highest <= 0:
        return (Tick(0, "0"), Tick(1, "1"))
    power = 10 ** math.floor(math.log10(highest / at_most))
    step = next(step for step in (power, 2 * power, 5 * power, 10 * power) if math.ceil(highest / step) <= at_most)
    return tuple(Tick(number * step, f"{number * step:,.10g}") for number in range(math.ceil(highest / step) + 1))
