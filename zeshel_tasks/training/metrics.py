"""Metrics of a training, measured by ``loop.py``."""

from __future__ import annotations

from zeshel_tasks.metrics import MetricsModel, Number


class EpochMetrics(MetricsModel):
    """One pass over the training mentions, and the validation after it."""

    epoch: int
    train_loss: Number = None
    valid_accuracy: Number = None
    valid_unnormalized_accuracy: Number = None


class TrainingMetrics(MetricsModel):
    """Metrics of a training stage.

    Attributes:
        best_epoch: the epoch whose model was kept; 0 is the model before training.
        valid_accuracy: accuracy of that epoch.
        valid_unnormalized_accuracy: accuracy of that epoch over all mentions, for the cross-encoder only.
        epochs: all epochs, in order.
        steps: optimizer steps.
        mentions: training mentions.
        training_seconds: training time of all attempts.
        mentions_per_second: 0 if nothing was trained.
        dropped_mentions: training mentions left out because their gold was not retrieved (cross-encoder).
    """

    best_epoch: int | None = None
    valid_accuracy: Number = None
    valid_unnormalized_accuracy: Number = None
    epochs: tuple[EpochMetrics, ...] = ()
    steps: int
    mentions: int
    training_seconds: float = 0.0
    mentions_per_second: Number = None
    dropped_mentions: int | None = None


class CurvePoint(MetricsModel):
    """A line of ``curve.jsonl``: either loss and learning rate, or validation accuracy."""

    step: int
    epoch: float
    loss: Number = None
    learning_rate: Number = None
    valid_accuracy: Number = None
