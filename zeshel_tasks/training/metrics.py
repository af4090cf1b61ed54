"""Metrics of a training, measured by ``loop.py``."""

from __future__ import annotations

from zeshel_tasks.config.biencoder import Pooling, Similarity
from zeshel_tasks.download.stated import StatedOrigin
from zeshel_tasks.metrics import MetricsModel, Number


class EpochMetrics(MetricsModel):
    """One pass over the training mentions, and the validation after it."""

    epoch: int
    train_loss: Number = None
    valid_recall: Number = None
    valid_recall_at_1: Number = None
    valid_accuracy: Number = None
    valid_unnormalized_accuracy: Number = None
    temperature: Number = None


class VectorMetrics(MetricsModel):
    """How a bi-encoder makes vectors, where a setting follows what the pretrained model declares."""

    pooling: Pooling
    similarity: Similarity
    mention_prompt: str | None = None
    candidate_prompt: str | None = None


class TrainingMetrics(MetricsModel):
    """Metrics of a training stage.

    Attributes:
        best_epoch: the epoch whose model was kept; 0 is the model before training.
        valid_recall: recall of that epoch at ``valid_top_k`` (bi-encoder).
        valid_recall_at_1: recall of that epoch at 1 (bi-encoder).
        valid_top_k: see the setting (bi-encoder).
        valid_entities: the entities that were searched (bi-encoder).
        valid_accuracy: accuracy of that epoch over the mentions whose gold was retrieved (cross-encoder).
        valid_unnormalized_accuracy: accuracy of that epoch over all mentions (cross-encoder).
        epochs: all epochs, in order.
        steps: optimizer steps.
        mentions: training mentions.
        training_seconds: training time of all attempts.
        mentions_per_second: 0 if nothing was trained.
        peak_learning_rate: as set, or suited to the size of the model.
        pretrained: what the pretrained model states about its making; None if the training started from the bi-encoder.
        vectors: see there (bi-encoder).
        dropped_mentions: training mentions left out because their gold was not retrieved (cross-encoder).
    """

    best_epoch: int | None = None
    valid_recall: Number = None
    valid_recall_at_1: Number = None
    valid_top_k: int | None = None
    valid_entities: int | None = None
    valid_accuracy: Number = None
    valid_unnormalized_accuracy: Number = None
    epochs: tuple[EpochMetrics, ...] = ()
    steps: int
    mentions: int
    training_seconds: float = 0.0
    mentions_per_second: Number = None
    peak_learning_rate: Number = None
    pretrained: StatedOrigin | None = None
    vectors: VectorMetrics | None = None
    dropped_mentions: int | None = None

    @property
    def measure(self) -> str:
        """Name of the figure that chose the best epoch."""
        return "accuracy" if self.valid_recall is None else f"recall@{self.valid_top_k}"

    @property
    def measured(self) -> float | None:
        """That figure of the best epoch."""
        return self.valid_accuracy if self.valid_recall is None else self.valid_recall


class CurvePoint(MetricsModel):
    """A line of ``curve.jsonl``: either loss and learning rate, or the measure that chooses the best epoch."""

    step: int
    epoch: float
    loss: Number = None
    learning_rate: Number = None
    valid_recall: Number = None
    valid_accuracy: Number = None
