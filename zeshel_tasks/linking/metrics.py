"""Metrics of the linker: of its final score, and of each of the two scores alone."""

from __future__ import annotations

from typing import Literal

from zeshel_tasks.config import Split
from zeshel_tasks.evaluation.metrics import AccuracyMetrics
from zeshel_tasks.metrics import MetricsModel


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
