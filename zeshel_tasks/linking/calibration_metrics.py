"""Metrics of ``calibrate``; ``reliability.py`` computes them."""

from __future__ import annotations

from pydantic import Field

from zeshel_tasks.config.link import LinkMode
from zeshel_tasks.config.splits import Split
from zeshel_tasks.metrics import MetricsModel, Number


class Threshold(MetricsModel):
    """What linking only the mentions at or above a threshold gives.

    Attributes:
        linked: share of the mentions.
        precision: share of the linked mentions that are right; None if none is linked.
    """

    linked: float
    precision: Number


class Confidence(MetricsModel):
    """How well a confidence tells which mentions of a group are right.

    Attributes:
        calibration_error: expected calibration error with 15 bins of equally many mentions (Naeini et al., 2015; Nguyen
            and O'Connor, 2015).
        risk_area: area under the risk-coverage curve: mean share of wrong links over all shares of most confident
            mentions (Geifman and El-Yaniv, 2017).
        at_threshold: at the threshold that has the wanted precision on valid.
    """

    calibration_error: float
    risk_area: float
    at_threshold: Threshold


class CalibratedGroup(MetricsModel):
    """Calibration of a group of mentions; the softmax is over the final scores of the candidates."""

    mentions: int
    accuracy: float
    right: Confidence
    softmax: Confidence


class RiskDifference(MetricsModel):
    """The risk area of ``right`` minus that of the softmax, with its bootstrap interval, lower end first."""

    difference: float
    interval: tuple[float, float]


class NilMetrics(MetricsModel):
    """Detection of mentions without an entity: of those with their gold, and the same without it.

    Attributes:
        mentions: number of both together.
        area: area under the ROC curve: how often a mention without an entity has the higher probability.
        softmax_area: the same by 1 minus the softmax.
        precision: of the mentions whose probability is above 0.5.
        recall: of the mentions without an entity.
        f1: harmonic mean of both.
        calibration_error: as in :class:`Confidence`.
    """

    mentions: int
    area: Number
    softmax_area: Number
    precision: Number
    recall: Number
    f1: Number
    calibration_error: float


class ReliabilityBin(MetricsModel):
    """A bin of the reliability diagram: number of mentions, their mean probability, and the share that is right."""

    mentions: int
    probability: float
    right: float


class Risk(MetricsModel):
    """A point of the risk-coverage curve: the most confident share of the mentions, and how many of them are wrong."""

    coverage: float
    risk: float


class Diagrams(MetricsModel):
    """The points of the diagrams of a group of mentions."""

    reliability: tuple[ReliabilityBin, ...]
    softmax_reliability: tuple[ReliabilityBin, ...]
    risk: tuple[Risk, ...]
    softmax_risk: tuple[Risk, ...]


class SplitCalibration(CalibratedGroup):
    """Calibration of a split.

    Attributes:
        risk_difference: against the softmax.
        nil: detection of mentions without an entity.
        diagrams: of all mentions.
        worlds: calibration by world.
    """

    risk_difference: RiskDifference
    nil: NilMetrics
    diagrams: Diagrams
    worlds: dict[str, CalibratedGroup]


class ModeMetrics(MetricsModel):
    """How a mode links a group of mentions.

    Attributes:
        reranked: share of the mentions whose candidates the cross-encoder scores.
        accuracy: share that is linked correctly; of all mentions, so it is unnormalized.
        calibration_error: as in :class:`Confidence`, of the probabilities of this mode.
    """

    reranked: float
    accuracy: float
    calibration_error: float


class SplitModes(MetricsModel):
    """The modes on a split, of all mentions and by world."""

    modes: dict[LinkMode, ModeMetrics]
    worlds: dict[str, dict[LinkMode, ModeMetrics]]


class CascadeMetrics(MetricsModel):
    """The modes compared.

    Attributes:
        loss: accuracy on valid that the cascade may lose.
        clear_from: probability from which on a mention is not re-ranked; None if all are re-ranked.
        splits: by split, as in :class:`CalibrationMetrics`.
    """

    loss: float
    clear_from: Number
    splits: dict[Split, SplitModes]


class CalibrationMetrics(MetricsModel):
    """Metrics of ``calibrate``.

    Attributes:
        linked_precision: wanted of the linked mentions.
        threshold: least probability with this precision on valid; None if there is none.
        softmax_threshold: the same of the softmax.
        right: weights of the probability of being right.
        none: weights of the probability of having no entity.
        cascade: the modes compared; None if an earlier version measured without them.
        splits: by split. On valid the models are those that were fitted without the mention's world.
    """

    linked_precision: float
    threshold: Number
    softmax_threshold: Number
    right: dict[str, float]
    none: dict[str, float]
    cascade: CascadeMetrics | None = None
    splits: dict[Split, SplitCalibration] = Field(default_factory=dict)
