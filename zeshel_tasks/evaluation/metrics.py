"""Metrics of the two evaluations; ``measures.py`` computes them."""

from __future__ import annotations

from pydantic import Field

from zeshel_tasks.metrics import MetricsModel, Number

RecallAt = dict[int, Number]
"""Recall by k: the share of all mentions whose gold is among the first k candidates."""


class RecallAverages(MetricsModel):
    """Recall over all mentions (micro) and as the mean of the worlds (macro)."""

    micro: RecallAt
    macro: RecallAt


class WorldRecall(MetricsModel):
    """Recall of one world."""

    mentions: int
    entities: int
    recall: RecallAt


RETRIEVERS = {"hybrid": "hybrid", "biencoder": "bi-encoder", "bm25": "BM25", "exact_title": "exact title"}
"""Names of the retrievers for tables, in their order."""


class MethodRecall(RecallAverages):
    """Recall of one method of retrieval, on average and by world."""

    worlds: dict[str, RecallAt]


class RecallMetrics(MetricsModel):
    """Metrics of ``eval-biencoder`` on one split.

    ``methods`` has the recall of other retrievers on the same mentions: those that need no training, and the
    bi-encoder alone if the retriever is hybrid.
    """

    mentions: int
    entities: int
    recall: RecallAverages
    worlds: dict[str, WorldRecall]
    methods: dict[str, MethodRecall] = Field(default_factory=dict)

    @property
    def retriever(self) -> str:
        """Which of :data:`RETRIEVERS` retrieved the candidates."""
        return "hybrid" if "biencoder" in self.methods else "biencoder"


class Averages(MetricsModel):
    """One rate over all mentions (micro) and as the mean of the worlds (macro)."""

    micro: Number
    macro: Number


class GroupAccuracy(MetricsModel):
    """Accuracy of a group of mentions, such as a world or a category.

    ``normalized_accuracy`` is over the mentions whose gold was retrieved, and ``None`` if there are none.
    ``unnormalized_accuracy`` is over all of them. Names as in Logeswaran et al., 2019 (arXiv:1906.07348).
    """

    mentions: int
    retrieved: int
    normalized_accuracy: Number
    unnormalized_accuracy: Number


class AccuracyMetrics(MetricsModel):
    """Metrics of ``eval-crossencoder`` on one split."""

    mentions: int
    retrieved: int
    normalized_accuracy: Averages
    unnormalized_accuracy: Averages
    worlds: dict[str, GroupAccuracy]
    categories: dict[str, GroupAccuracy]
