"""Recall@k of retrieval and accuracy of linking, by group, micro (over mentions) and macro (over worlds)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import numpy as np
import numpy.typing as npt

from zeshel_tasks.evaluation.metrics import (
    AccuracyMetrics,
    Averages,
    GroupAccuracy,
    MethodRecall,
    RecallAt,
    RecallAverages,
    RecallMetrics,
    WorldRecall,
)

Flags = npt.NDArray[np.bool_]
RECALL_AT = (1, 4, 8, 16, 32, 64)


def recall_at(gold_rank: npt.NDArray[np.int32], top_k: int) -> RecallAt:
    """Share of ALL given mentions whose gold is among the first k candidates.

    Args:
        gold_rank: rank of the gold, from 0; -1 where it was not retrieved.
        top_k: how many candidates were retrieved. It is the last k, after the smaller ones of
            :data:`RECALL_AT`.
    """
    ks = [*(k for k in RECALL_AT if k < top_k), top_k]
    return {k: float(np.mean((gold_rank >= 0) & (gold_rank < k))) for k in ks}


def recall_metrics(
    gold_rank: npt.NDArray[np.int32],
    rows_of_world: Mapping[str, npt.NDArray[np.int64]],
    entities: Mapping[str, int],
    top_k: int,
) -> RecallMetrics:
    """Recall by world, micro and macro; ``entities`` holds the number of entities of each world."""
    found = method_recall(gold_rank, rows_of_world, top_k)
    return RecallMetrics(
        mentions=len(gold_rank),
        entities=sum(entities[world] for world in rows_of_world),
        recall=RecallAverages(micro=found.micro, macro=found.macro),
        worlds={
            world: WorldRecall(mentions=len(rows), entities=entities[world], recall=found.worlds[world])
            for world, rows in rows_of_world.items()
        },
    )


def method_recall(
    gold_rank: npt.NDArray[np.int32], rows_of_world: Mapping[str, npt.NDArray[np.int64]], top_k: int
) -> MethodRecall:
    """Recall of one method by world, micro and macro; see :func:`recall_at`."""
    worlds = {world: recall_at(gold_rank[rows], top_k) for world, rows in rows_of_world.items()}
    micro = recall_at(gold_rank, top_k)
    macro = {k: _mean_of_known(recall[k] for recall in worlds.values()) for k in micro}
    return MethodRecall(micro=micro, macro=macro, worlds=worlds)


def describe_recall(recall: RecallAt) -> str:
    """``@1 0.4125  @64 0.8971``."""
    return "  ".join(f"@{at} {value:.4f}" for at, value in recall.items())


def accuracy(correct: Flags, retrieved: Flags) -> GroupAccuracy:
    """Accuracy of a group of mentions.

    Args:
        correct: bool [mentions].
        retrieved: bool [mentions], True where the gold was retrieved.
    """
    return GroupAccuracy(
        mentions=len(correct),
        retrieved=int(retrieved.sum()),
        normalized_accuracy=float(correct.sum() / retrieved.sum()) if retrieved.any() else None,
        unnormalized_accuracy=float(correct.mean()),
    )


def accuracy_metrics(
    correct: Flags,
    retrieved: Flags,
    rows_of_world: Mapping[str, npt.NDArray[np.int64]],
    category: npt.NDArray[np.int32],
    categories: Sequence[str],
) -> AccuracyMetrics:
    """Accuracy by world and by mention category, micro and macro (over worlds).

    Args:
        correct: bool [mentions].
        retrieved: bool [mentions], True where the gold was retrieved.
        rows_of_world: positions of the mentions of each world.
        category: int32 [mentions], index into ``categories``.
        categories: names of the categories; each has at least one mention.
    """
    overall = accuracy(correct, retrieved)
    worlds = {world: accuracy(correct[rows], retrieved[rows]) for world, rows in rows_of_world.items()}
    return AccuracyMetrics(
        mentions=overall.mentions,
        retrieved=overall.retrieved,
        normalized_accuracy=Averages(
            micro=overall.normalized_accuracy, macro=_mean_of_known(w.normalized_accuracy for w in worlds.values())
        ),
        unnormalized_accuracy=Averages(
            micro=overall.unnormalized_accuracy, macro=_mean_of_known(w.unnormalized_accuracy for w in worlds.values())
        ),
        worlds=worlds,
        categories={
            name: accuracy(correct[category == index], retrieved[category == index])
            for index, name in enumerate(categories)
        },
    )


def _mean_of_known(values: Iterable[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return float(np.mean(known)) if known else None
