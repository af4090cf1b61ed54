"""Computes the hours that all of ZESHEL takes on one GPU, from measured rates.

The result is an upper bound. It assumes that every sequence has the maximum length, that every gold is retrieved, and
that every world has the measured number of entities. Real sequences are shorter and are computed by length, only
mentions whose gold was retrieved train the cross-encoder, and most worlds are smaller. Download, conversion,
tokenizing, checkpoints and container starts are left out. The times of stages that could run at once are added up.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

GOAL_HOURS = 5.0


@dataclass(frozen=True)
class Rates:
    """Items per second.

    Attributes:
        train_biencoder: mentions.
        encode: sequences through one tower: entities, or mentions in their context.
        search: searches of a mention among all entities of a world.
        train_crossencoder: mentions with all their candidates.
        score: mentions with all their candidates.
    """

    train_biencoder: float
    encode: float
    search: float
    train_crossencoder: float
    score: float


@dataclass(frozen=True)
class Amounts:
    """The amount of work; by default that of ZESHEL with the recommended preset."""

    train: int = 49_275
    valid: int = 10_000
    test: int = 10_000
    entities: int = 492_321
    biencoder_epochs: int = 5
    crossencoder_epochs: int = 5


class Stage(NamedTuple):
    """A stage's time.

    Attributes:
        name: name of the stage or of its part.
        hours: hours on one GPU.
    """

    name: str
    hours: float


def stages(rates: Rates, amounts: Amounts) -> list[Stage]:
    """Return the hours by stage, in the order of the recipe. Each epoch ends with a validation."""
    everyone = amounts.train + amounts.valid + amounts.test
    bi, cross = amounts.biencoder_epochs, amounts.crossencoder_epochs
    seconds = [
        (f"train-biencoder, {bi} epochs", bi * amounts.train / rates.train_biencoder),
        # mentions and their golds
        (f"  {bi} validations of it", bi * 2 * amounts.valid / rates.encode),
        ("eval-biencoder, entities encoded", amounts.entities / rates.encode),
        ("  mentions encoded and searched for", everyone / rates.encode + everyone / rates.search),
        (f"train-crossencoder, {cross} epochs", cross * amounts.train / rates.train_crossencoder),
        (f"  {cross} validations of it", cross * amounts.valid / rates.score),
        ("eval-crossencoder, valid and test", (amounts.valid + amounts.test) / rates.score),
    ]
    return [Stage(name, found / 3600) for name, found in seconds]


def total(found: list[Stage]) -> float:
    """Return the hours of all stages."""
    return sum(stage.hours for stage in found)


def table(columns: dict[str, Rates], amounts: Amounts) -> Iterator[tuple[str, ...]]:
    """Yield rows of cells, headings first. Each set of rates has a column of hours with its sum."""
    found = [stages(rates, amounts) for rates in columns.values()]
    yield ("hours on one GPU", *columns)
    for same_stage in zip(*found, strict=True):
        yield (same_stage[0].name, *(f"{stage.hours:.3f}" for stage in same_stage))
    yield (f"in all (goal: under {GOAL_HOURS:g})", *(f"{total(column):.3f}" for column in found))
