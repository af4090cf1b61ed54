"""What is measured, in the order of the recipe."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from bench import our_side, plain_side
from bench.inputs import MIXED_MENTIONS, RETRIEVED_MENTIONS, Inputs, Run

Prepare = Callable[[Inputs], Run]


@dataclass(frozen=True)
class Stage:
    """One row of the table.

    Attributes:
        title: what is measured.
        items: what is counted.
        goal: how many times as fast as the comparator we mean to be.
        comparator: the comparator's work.
        ours: our work.
        batch: items that are worked on at once and should not be split.
        available: items that the sample has.
    """

    title: str
    items: str
    goal: float
    comparator: Prepare
    ours: Prepare
    batch: Callable[[Inputs], int]
    available: Callable[[Inputs], int]


def _one(_: Inputs) -> int:
    return 1


def _mixed(inputs: Inputs) -> int:
    return min(MIXED_MENTIONS, len(inputs.mentions("mixed")))


STAGES = {
    "train-biencoder": Stage(
        "bi-encoder training", "mentions", 5, plain_side.train_biencoder, our_side.train_biencoder,
        lambda inputs: inputs.recipe.train_biencoder.train_batch_size, _mixed,
    ),
    "encode": Stage(
        "candidate encoding", "entities", 10, plain_side.encode, our_side.encode, _one,
        lambda inputs: len(inputs.encoded()),
    ),
    "retrieve": Stage(
        "retrieval", "mentions", 10, plain_side.retrieve, our_side.retrieve, _one,
        lambda inputs: min(RETRIEVED_MENTIONS, len(inputs.mentions("world"))),
    ),
    "train-crossencoder": Stage(
        "cross-encoder training", "mentions", 5, plain_side.train_crossencoder, our_side.train_crossencoder,
        lambda inputs: inputs.recipe.train_crossencoder.train_batch_size, _mixed,
    ),
    "score": Stage("cross-encoder scoring", "mentions", 8, plain_side.score, our_side.score, _one, _mixed),
    "tokenize": Stage(
        "convert + tokenize", "mentions", 10, plain_side.tokenize, our_side.tokenize, _one,
        lambda inputs: len(inputs.mentions("world")),
    ),
}  # fmt: skip
"""In the order of the recipe, but for ``tokenize``, which is part of several stages."""
