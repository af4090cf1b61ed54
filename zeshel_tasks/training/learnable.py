"""Warns before a training of data that teaches nothing or cannot show it: mentions without a wrong choice.

Settings with which no mention has a wrong choice are refused in ``config/biencoder.py``.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator

import numpy as np

from zeshel_tasks.config.biencoder import TrainBiencoderConfig
from zeshel_tasks.data.arrays import Rows
from zeshel_tasks.data.candidate_sets import NO_CANDIDATE, CandidateSets
from zeshel_tasks.data.mention_table import GoldPairs
from zeshel_tasks.data.search_set import SearchSet
from zeshel_tasks.training.objective import epoch_order

log = logging.getLogger(__name__)

_WORTH_A_WARNING = 0.1  # share of the mentions; the last batch of an epoch often has a single one


def warn_of_pairs(train: GoldPairs, config: TrainBiencoderConfig) -> None:
    """Warns of mentions that are alone with their gold in a batch of the first epoch."""
    if config.num_train_epochs and not config.mines_before_training:
        _warn(
            _alone(train, _train_parts(train, config)),
            len(train.mentions),
            "train mentions have only their own gold in their batch, so they teach nothing in the first epoch",
        )


def warn_of_small_worlds(valid: SearchSet, top_k: int) -> None:
    """Warns of mentions whose gold is found with any model, because their world has at most ``top_k`` entities."""
    small = sum(
        len(rows)
        for world, rows in valid.mentions.rows_of_world().items()
        if valid.entities[world].weights.sum() <= top_k
    )
    _warn(
        small,
        len(valid.mentions),
        f"valid mentions are of worlds of up to {top_k} entities (valid_top_k), so they count as found with any model",
    )


def warn_of_sets(train: CandidateSets, valid: CandidateSets) -> None:
    """Warns of mentions whose only candidate is their gold."""
    for sets, split, so in (
        (train, "train", "so they teach nothing"),
        (valid, "valid", "so they count as correct with any model"),
    ):
        rows = sets.retrieved
        alone = int(((sets.candidates[rows] != NO_CANDIDATE).sum(1) == 1).sum())
        _warn(alone, len(rows), f"{split} mentions have their gold as their only candidate, {so}")


def _warn(alone: int, mentions: int, what: str) -> None:
    if alone and alone >= _WORTH_A_WARNING * mentions:
        log.warning("%s of %s %s", f"{alone:,}", f"{mentions:,}", what)


def _alone(pairs: GoldPairs, batches: Iterable[Rows]) -> int:
    """Returns the number of mentions in batches with one gold."""
    gold = np.asarray(pairs.gold_row)
    return sum(len(rows) for rows in batches if (gold[rows] == gold[rows[0]]).all())


def _train_parts(train: GoldPairs, config: TrainBiencoderConfig) -> Iterator[Rows]:
    """Yields the mentions that are each other's negatives in the first epoch."""
    size = config.train_batch_size
    groups = np.asarray(train.mentions.world, dtype=np.int64) if config.one_world_batches else None
    order = epoch_order(len(train.mentions), config.seed, 0, shuffle=config.shuffle, groups=groups, batch_size=size)
    for start in range(0, len(order), size):
        rows = order[start : start + size]
        parts = 1 if config.gradient_cache else min(config.gradient_accumulation_steps, len(rows))
        yield from np.array_split(rows, parts)
