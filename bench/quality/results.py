"""Figures of all seeds, as a table."""

from __future__ import annotations

import statistics
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from bench.quality.rows import Row


@dataclass
class Figures:
    """What was found for one row.

    Attributes:
        row: the row.
        mentions: that it was trained on, in each seed.
        seconds: that training took, by seed.
        values: share (0 to 1) by figure and seed.
    """

    row: Row
    mentions: int
    seconds: list[float] = field(default_factory=list)
    values: dict[str, list[float]] = field(default_factory=dict)

    def add(self, figures: Mapping[str, float]) -> None:
        """Takes one seed's figures."""
        for name, value in figures.items():
            self.values.setdefault(name, []).append(value)

    def cell(self, figure: str) -> str:
        """Mean and range over the seeds, in percent; nothing where it was not measured."""
        found = [100 * value for value in self.values.get(figure, [])]
        if not found:
            return ""
        return f"{statistics.mean(found):.1f} ({min(found):.1f} to {max(found):.1f})"


def table(rows: list[Figures], figures: list[str]) -> Iterator[str]:
    """Lines of a Markdown table."""
    yield f"| row | mentions | seconds | {' | '.join(figures)} |"
    yield f"|---|---|---|{'---|' * len(figures)}"
    for found in rows:
        cells = [found.row.name, f"{found.mentions:,}", f"{statistics.mean(found.seconds):.0f}"]
        yield f"| {' | '.join([*cells, *map(found.cell, figures)])} |"
