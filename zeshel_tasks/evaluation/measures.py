"""Recall@k of retrieval and accuracy of linking, by group, micro (over mentions) and macro (over worlds)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from zeshel_tasks.config import RECALL_AT

Flags = npt.NDArray[np.bool_]


def recall_at(gold_rank: npt.NDArray[np.int32], top_k: int) -> dict[str, float]:
    """Share of ALL given mentions whose gold is among the first k candidates.

    Args:
        gold_rank: from 0; -1 where the gold was not retrieved.
        top_k: how many were retrieved: the last k, after the smaller ones of :data:`~zeshel_tasks.config.RECALL_AT`.
    """
    ks = [*(k for k in RECALL_AT if k < top_k), top_k]
    return {str(k): float(np.mean((gold_rank >= 0) & (gold_rank < k))) for k in ks}


def recall_metrics(
    gold_rank: npt.NDArray[np.int32],
    rows_of_world: Mapping[str, npt.NDArray[np.int64]],
    entities: Mapping[str, int],
    top_k: int,
) -> dict[str, Any]:
    """Recall by world, micro and macro; ``entities`` says how many each world has."""
    worlds = {
        world: {"mentions": len(rows), "entities": entities[world], "recall": recall_at(gold_rank[rows], top_k)}
        for world, rows in rows_of_world.items()
    }
    micro = recall_at(gold_rank, top_k)
    macro = {k: float(np.mean([world["recall"][k] for world in worlds.values()])) for k in micro}  # type: ignore[index]
    return {
        "mentions": len(gold_rank),
        "entities": sum(entities[world] for world in rows_of_world),
        "recall": {"micro": micro, "macro": macro},
        "worlds": worlds,
    }


def accuracy(correct: Flags, retrieved: Flags) -> dict[str, Any]:
    """Accuracy of some mentions.

    ``normalized_accuracy`` is over the mentions whose gold was retrieved (None where there is none);
    ``unnormalized_accuracy`` is over all of them. Names as in Logeswaran et al., 2019 (arXiv:1906.07348).
    """
    return {
        "mentions": len(correct),
        "retrieved": int(retrieved.sum()),
        "normalized_accuracy": float(correct.sum() / retrieved.sum()) if retrieved.any() else None,
        "unnormalized_accuracy": float(correct.mean()),
    }


def accuracy_metrics(
    correct: Flags,
    retrieved: Flags,
    rows_of_world: Mapping[str, npt.NDArray[np.int64]],
    category: npt.NDArray[np.int32],
    categories: Sequence[str],
) -> dict[str, Any]:
    """Accuracy by world and by mention category, micro and macro (over worlds).

    Args:
        correct: bool [mentions].
        retrieved: bool [mentions], whether the gold was.
        rows_of_world: positions of the mentions of each world.
        category: int32 [mentions], index into ``categories``.
        categories: names, each of which some mention has.
    """
    overall = accuracy(correct, retrieved)
    worlds = {world: accuracy(correct[rows], retrieved[rows]) for world, rows in rows_of_world.items()}
    return {
        "mentions": overall["mentions"],
        "retrieved": overall["retrieved"],
        **{
            name: {"micro": overall[name], "macro": _mean_of_known([figures[name] for figures in worlds.values()])}
            for name in ("normalized_accuracy", "unnormalized_accuracy")
        },
        "worlds": worlds,
        "categories": {
            name: accuracy(correct[category == index], retrieved[category == index])
            for index, name in enumerate(categories)
        },
    }


def _mean_of_known(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return float(np.mean(known)) if known else None
