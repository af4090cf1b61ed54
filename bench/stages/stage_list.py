"""The measured stages, in the order of the recipe."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from bench.plain.biencoder import ENCODE_BATCH_SIZE
from bench.stages import our_side, plain_side
from bench.stages.inputs import MIXED_MENTIONS, RETRIEVED_MENTIONS, Inputs, Run

Prepare = Callable[[Inputs], Run]


Size = Callable[[Inputs], int]


@dataclass(frozen=True)
class Work:
    """The work of one side.

    Attributes:
        prepare: prepares the work.
        batch: items that it processes at once; a sample has whole batches.
    """

    prepare: Prepare
    batch: Size


@dataclass(frozen=True)
class Stage:
    """One row of the table.

    Attributes:
        title: name of the measurement.
        items: unit of the items.
        goals: intended speed as a multiple of the comparator's, by our side's precision.
        available: number of items in the sample.
        comparator: the comparator's work.
        ours: our work.
    """

    title: str
    items: str
    goals: Mapping[str, float]
    available: Size
    comparator: Work
    ours: Work


def _one(_: Inputs) -> int:
    return 1


def _mixed(inputs: Inputs) -> int:
    return min(MIXED_MENTIONS, len(inputs.mentions("mixed")))


def _world(inputs: Inputs) -> int:
    return len(inputs.mentions("world"))


def _retrieved(inputs: Inputs) -> int:
    return min(RETRIEVED_MENTIONS, _world(inputs))


def _biencoder_step(inputs: Inputs) -> int:
    return inputs.recipe.train_biencoder.train_batch_size


def _crossencoder_step(inputs: Inputs) -> int:
    return inputs.recipe.train_crossencoder.train_batch_size


def _encoded_at_once(inputs: Inputs) -> int:
    """Return several batches, because rows of similar length are grouped across batches."""
    return 4 * inputs.recipe.eval_biencoder.encode_batch_size


def _retrieved_at_once(inputs: Inputs) -> int:
    return inputs.recipe.eval_biencoder.eval_batch_size


def _scored_at_once(inputs: Inputs) -> int:
    return inputs.recipe.eval_crossencoder.eval_batch_size


STAGES = {
    "train-biencoder": Stage(
        "bi-encoder training",
        "mentions",
        {"fp32": 2.5, "bf16": 8},
        _mixed,
        Work(plain_side.train_biencoder, _biencoder_step),
        Work(our_side.train_biencoder, _biencoder_step),
    ),
    "encode": Stage(
        "candidate encoding",
        "entities",
        {"fp32": 4, "bf16": 10},
        lambda inputs: len(inputs.encoded()),
        Work(plain_side.encode, lambda _: ENCODE_BATCH_SIZE),
        Work(our_side.encode, _encoded_at_once),
    ),
    "retrieve": Stage(
        "retrieval",
        "mentions",
        {"fp32": 4, "bf16": 10},
        _retrieved,
        Work(plain_side.retrieve, _one),
        Work(our_side.retrieve, _retrieved_at_once),
    ),
    "train-crossencoder": Stage(
        "cross-encoder training",
        "mentions",
        {"fp32": 5, "bf16": 12},
        _mixed,
        Work(plain_side.train_crossencoder, _crossencoder_step),
        Work(our_side.train_crossencoder, _crossencoder_step),
    ),
    "score": Stage(
        "cross-encoder scoring",
        "mentions",
        {"fp32": 5, "bf16": 10},
        _mixed,
        Work(plain_side.score, lambda _: plain_side.EVAL_BATCH_SIZE),
        Work(our_side.score, _scored_at_once),
    ),
    "tokenize": Stage(
        "convert + tokenize",
        "mentions",
        {"fp32": 10, "bf16": 10},
        _world,
        Work(plain_side.tokenize, _one),
        Work(our_side.tokenize, _one),
    ),
}
"""The stages in the order of the recipe, except for ``tokenize``, which is part of several stages."""
