"""Metrics of the retriever and of the linker."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from zeshel_tasks.config.splits import Split
from zeshel_tasks.evaluation.metrics import AccuracyMetrics, MethodRecall
from zeshel_tasks.metrics import MetricsModel


class FitMetrics(MetricsModel):
    """What ``fit-retrieval`` fitted on valid; nothing unless the retriever is hybrid.

    Attributes:
        hybrid: True if the retriever is hybrid.
        mentions: number of mentions that it was fitted on.
        weights: by feature.
        recall: of each method alone and of the ``hybrid``, on the mentions that it was fitted on.
    """

    hybrid: bool
    mentions: int = 0
    weights: dict[str, float] = Field(default_factory=dict)
    recall: dict[str, MethodRecall] = Field(default_factory=dict)


class LinkerMetrics(MetricsModel):
    """Accuracy on one split.

    Attributes:
        linker: of the candidate with the highest final score.
        crossencoder: of the candidate with the highest cross-encoder score.
        retriever: of the first candidate.
    """

    linker: AccuracyMetrics
    crossencoder: AccuracyMetrics
    retriever: AccuracyMetrics


class FusionMetrics(MetricsModel):
    """Metrics of ``fuse``.

    Attributes:
        combines: whose scores count in the final score.
        weights: of the cross-encoder score and of the retrieval score in the final score.
        splits: accuracy by split.
    """

    combines: Literal["both", "crossencoder", "retriever"]
    weights: dict[Literal["crossencoder", "retrieval"], float]
    splits: dict[Split, LinkerMetrics]
