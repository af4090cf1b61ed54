"""Computes the hours that all of ZESHEL takes on one GPU with a preset, from measured rates.

The result is an upper bound for the GPU. It assumes that every sequence has the maximum length, that every gold is
retrieved, and that every world has the measured number of entities. Real sequences are shorter and are computed by
length, only mentions whose gold was retrieved train the cross-encoder, and most worlds are smaller. Download,
conversion, tokenizing, lexical search, checkpoints and container starts are left out. The times of stages that could
run at once are added up.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

from zeshel_tasks.config.stages import Recipe

GOAL_HOURS = 5.0
_CACHED = 4 / 3  # a backward pass takes as long as two forward passes


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
    """The amount of work; the numbers of mentions and entities are those of ZESHEL.

    Attributes:
        biencoder_step: work of the bi-encoder for a mention in training, relative to that for a mention and its gold.
        mining_rounds: searches for hard negatives; each encodes all train mentions and, at most, all entities.
        searched: entities that a validation of the bi-encoder encodes at most.
        candidates_share: share of the measured candidates that a step of the cross-encoder has.
    """

    train: int = 49_275
    valid: int = 10_000
    test: int = 10_000
    entities: int = 492_321
    biencoder_epochs: int = 5
    biencoder_step: float = 1.0
    mining_rounds: int = 0
    searched: int = 20_000
    crossencoder_epochs: int = 5
    candidates_share: float = 1.0

    @classmethod
    def of(cls, recipe: Recipe) -> Amounts:
        """The work on ZESHEL with these settings, if no training ends early."""
        bi, cross = recipe.train_biencoder, recipe.train_crossencoder
        # Mention, gold and hard negatives, forward and backward; a gradient cache computes everything forward twice.
        step = (2 + bi.hard_negatives) / 2 * (_CACHED if bi.gradient_cache else 1)
        assert bi.valid_entities is not None
        return cls(
            biencoder_epochs=bi.num_train_epochs,
            biencoder_step=step,
            mining_rounds=bi.hard_negative_rounds if bi.hard_negatives else 0,
            searched=cls.valid + bi.valid_entities,
            crossencoder_epochs=cross.num_train_epochs,
            candidates_share=(cross.train_candidates or recipe.eval_biencoder.top_k) / recipe.eval_biencoder.top_k,
        )


class Stage(NamedTuple):
    """A stage's time.

    Attributes:
        name: name of the stage or of its part.
        hours: hours on one GPU.
    """

    name: str
    hours: float


def stages(rates: Rates, amounts: Amounts) -> list[Stage]:
    """Return the hours by stage, in the order of the recipe. Each epoch ends with a validation.

    The rate of the cross-encoder's training is for ``top_k`` candidates.
    """
    everyone = amounts.train + amounts.valid + amounts.test
    bi, cross = amounts.biencoder_epochs, amounts.crossencoder_epochs
    mined = amounts.entities + amounts.train
    seconds = [
        (f"train-biencoder, {bi} epochs", bi * amounts.train * amounts.biencoder_step / rates.train_biencoder),
        (f"  {amounts.mining_rounds} searches for hard negatives", amounts.mining_rounds * mined / rates.encode),
        (f"  {bi} validations of it", bi * (amounts.valid + amounts.searched) / rates.encode),
        ("eval-biencoder, entities encoded", amounts.entities / rates.encode),
        ("  mentions encoded and searched for", everyone / rates.encode + everyone / rates.search),
        (
            f"train-crossencoder, {cross} epochs",
            cross * amounts.train * amounts.candidates_share / rates.train_crossencoder,
        ),
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
