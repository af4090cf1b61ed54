"""The figures of all seeds as a table."""

from __future__ import annotations

import statistics
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from bench.quality.rows import Row


@dataclass
class Figures:
    """The figures of one row.

    Attributes:
        row: the row.
        mentions: number of training mentions for each seed.
        seconds: training time, by seed.
        values: share (0 to 1) by figure and seed.
    """

    row: Row
    mentions: int
    seconds: list[float] = field(default_factory=list)
    values: dict[str, list[float]] = field(default_factory=dict)

    def add(self, figures: Mapping[str, float]) -> None:
        """Add the figures of one seed."""
        for name, value in figures.items():
            self.values.setdefault(name, []).append(value)

    def cell(self, figure: str) -> str:
        """Return mean and range over the seeds in percent; empty if it was not measured."""
        found = [100 * value for value in self.values.get(figure, [])]
        if not found:
            return ""
        return f"{statistics.mean(found):.1f} ({min(found):.1f} to {max(found):.1f})"


def table(rows: list[Figures], figures: list[str]) -> Iterator[str]:
    """Yield the lines of a Markdown table."""
    yield f"| row | mentions | seconds | {' | '.join(figures)} |"
    yield f"|---|---|---|{'---|' * len(figures)}"
    for found in rows:
        cells = [found.row.name, f"{found.mentions:,}", f"{statistics.mean(found.seconds):.0f}"]
        yield f"| {' | '.join([*cells, *map(found.cell, figures)])} |"
