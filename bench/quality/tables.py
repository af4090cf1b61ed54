"""The rows as Markdown tables."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from bench.quality.intervals import Ranks, gain, share
from zeshel_tasks.config.splits import Split

AT = (1, 8, 64)
WorldOf = Mapping[str, str]
"""Mention id -> world, for the mentions of a split."""

_NAMED = ("row", "train mentions")


@dataclass(frozen=True, eq=False)
class Result:
    """A row of the tables.

    Attributes:
        name: name of the row.
        ranks: split -> mention id -> rank of the gold from 0; -1 if it is not among the candidates.
        mentions: train mentions; None without training.
        epochs: epochs of the trainings.
        minutes: minutes of all trainings.
        hours: hours of everything.
        note: why there are no ranks.
        candidates: candidates of a mention; recall at more of them is not shown.
    """

    name: str
    ranks: Mapping[Split, Mapping[str, int]]
    mentions: int | None = None
    epochs: str = ""
    minutes: float | None = None
    hours: float | None = None
    note: str = ""
    candidates: int = AT[-1]

    def by_world(self, split: Split, world_of: WorldOf) -> Ranks:
        """Return the ranks of a split by world, in the order of ``world_of``."""
        worlds: dict[str, list[int]] = {}
        for mention, world in world_of.items():
            worlds.setdefault(world, []).append(self.ranks[split][mention])
        return {world: np.array(ranks) for world, ranks in worlds.items()}


def tables(results: Sequence[Result], worlds: Mapping[Split, WorldOf], others: Sequence[str]) -> Iterator[str]:
    """Yield the lines of all tables: cost, recall by split and world, and the gains over the rows named ``others``."""
    yield from _table(("row", "train mentions", "epochs", "training minutes", "hours in all"), map(_cost, results))
    measured = [result for result in results if result.ranks]
    recall = [f"R@{k}" for k in AT]
    for split, world_of in worlds.items():
        by_world = {result: result.by_world(split, world_of) for result in measured}
        yield from ("", f"Mean of the {split} worlds, in percent ± standard error:", "")
        yield from _table(
            (*_NAMED, *recall), ([*_named(row), *(_share(row, by_world[row], k) for k in AT)] for row in measured)
        )
        for name in others:
            gains = list(_gains(by_world, name))
            if gains:
                yield from ("", f"Mean of the {split} worlds, points more than {name} (95% interval):", "")
                yield from _table((*_NAMED, *recall), gains)
        names = list(dict.fromkeys(world_of.values()))
        for k in AT:
            yield from ("", f"R@{k} in each {split} world, in percent ± standard error:", "")
            heads = (f"{name} ({list(world_of.values()).count(name)})" for name in names)
            rows = (
                [*_named(row), *(_share(row, {name: ranks[name]}, k) for name in names)]
                for row, ranks in by_world.items()
            )
            yield from _table((*_NAMED, *heads), rows)


def _gains(by_world: Mapping[Result, Ranks], name: str) -> Iterator[list[str]]:
    """Yield the gains over the row with this name, on the same number of train mentions if it was trained."""
    for result, ranks in by_world.items():
        for other, theirs in by_world.items():
            if result.name != name == other.name and other.mentions in (None, result.mentions):
                most = min(result.candidates, other.candidates)
                yield [*_named(result), *(_gain(ranks, theirs, k) if k <= most else "" for k in AT)]


def _gain(ranks: Ranks, others: Ranks, k: int) -> str:
    found = gain(ranks, others, k)
    return f"{100 * found.value:+.1f} ({100 * found.low:+.1f} to {100 * found.high:+.1f})"


def _share(result: Result, ranks: Ranks, k: int) -> str:
    if k > result.candidates:
        return ""
    found = share(ranks, k)
    return f"{100 * found.value:.1f} ±{100 * found.error:.1f}"


def _named(result: Result) -> list[str]:
    return [result.name, "" if result.mentions is None else f"{result.mentions:,}"]


def _cost(result: Result) -> list[str]:
    minutes = "" if result.minutes is None else f"{result.minutes:.1f}"
    hours = "" if result.hours is None else f"{result.hours:.2f}"
    return [*_named(result), result.note or result.epochs, minutes, hours]


def _table(head: Sequence[str], rows: Iterable[list[str]]) -> Iterator[str]:
    yield f"| {' | '.join(head)} |"
    yield f"|{'---|' * len(head)}"
    for row in rows:
        yield f"| {' | '.join(row)} |"
