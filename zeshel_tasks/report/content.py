"""What a report is about: what its run's artifacts say, and what is of the run alone.

Metrics are the ones that the stages' manifests carry, validated here.

Build it from plain data: ``ReportContent.model_validate({"recall": {"test": manifest.metrics}, ...})``.
Keys that a stage adds to its metrics later are ignored; numbers that are not finite become ``None``.
Rates (accuracy, recall, confidence) are fractions of 1.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

from zeshel_tasks.config import Split


def _finite_or_none(value: Any) -> Any:
    return None if isinstance(value, float) and not math.isfinite(value) else value


# What is reported comes first.
SPLIT_ORDER: tuple[Split, ...] = ("test", "valid", "train")

Number = Annotated[float | None, BeforeValidator(_finite_or_none)]
RecallAt = dict[int, Number]


class _Metrics(BaseModel):
    """Written by another stage, perhaps of a later version: what we do not know is not ours to refuse."""

    model_config = ConfigDict(frozen=True, extra="ignore")


class _Given(BaseModel):
    """Written by our caller: an unknown name is a typing error."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class RecallAverages(_Metrics):
    """Recall by k, over all mentions (micro) and as the mean of the worlds (macro)."""

    micro: RecallAt
    macro: RecallAt


class RecallOfWorld(_Metrics):
    """Recall by k of one world."""

    mentions: int
    entities: int
    recall: RecallAt


class BiencoderMetrics(_Metrics):
    """Metrics of ``eval-biencoder`` on one split."""

    mentions: int
    entities: int
    recall: RecallAverages
    worlds: dict[str, RecallOfWorld]


class Averages(_Metrics):
    """One rate over all mentions (micro) and as the mean of the worlds (macro)."""

    micro: Number
    macro: Number


class AccuracyOfGroup(_Metrics):
    """Accuracy of one world or one mention category; normalized is none where nothing was retrieved."""

    mentions: int
    retrieved: int
    normalized_accuracy: Number
    unnormalized_accuracy: Number


class CrossencoderMetrics(_Metrics):
    """Metrics of ``eval-crossencoder`` on one split."""

    mentions: int
    retrieved: int
    normalized_accuracy: Averages
    unnormalized_accuracy: Averages
    worlds: dict[str, AccuracyOfGroup]
    categories: dict[str, AccuracyOfGroup]


class ChampionOfComparison(_Metrics):
    """The champion that was compared with; ``promoted_at`` is ISO 8601."""

    run: str
    promoted_at: str


class ComparedGroup(_Metrics):
    """Unnormalized accuracy of both models on the same mentions, and the interval of the difference."""

    mentions: int
    new: Number
    champion: Number
    difference: Number
    interval: tuple[Number, Number]


class ComparisonMetrics(_Metrics):
    """Metrics of ``compare``; without a champion there is nothing to compare."""

    champion: ChampionOfComparison | None
    overall: ComparedGroup | None = None
    worlds: dict[str, ComparedGroup] = Field(default_factory=dict)


class EpochMetrics(_Metrics):
    """One pass over the training mentions."""

    epoch: int
    train_loss: Number = None
    valid_accuracy: Number = None


class TrainingMetrics(_Metrics):
    """Metrics of a training stage; the last two are the cross-encoder's."""

    best_epoch: int | None = None
    valid_accuracy: Number = None
    epochs: tuple[EpochMetrics, ...] = ()
    steps: int
    mentions: int
    mentions_per_second: Number = None
    dropped_mentions: int | None = None
    valid_unnormalized_accuracy: Number = None


class CurvePoint(_Metrics):
    """A line of ``curve.jsonl``: either loss and learning rate, or validation accuracy."""

    step: int
    epoch: float
    loss: Number = None
    learning_rate: Number = None
    valid_accuracy: Number = None


class ConvertOfWorld(_Metrics):
    """What ``convert`` kept of a world's mentions."""

    mentions: int
    mentions_in_data_set: int
    skipped: int


class ConvertMetrics(_Metrics):
    """Metrics of ``convert``; worlds by split."""

    mentions: dict[str, int]
    worlds: dict[str, dict[str, ConvertOfWorld]]
    capped: bool


class StageSummary(_Given):
    """One stage of the run; ``name`` is the run record's (``eval-biencoder-test``), ``started_at`` is ISO 8601.

    ``wall_seconds`` is what its work took, in a training that was resumed all attempts together, and ``gpus`` how many
    GPUs it held. ``reused`` says that another run did that work.
    """

    name: str
    reused: bool
    wall_seconds: float
    peak_memory_mb: float | None
    peak_gpu_memory_mb: float | None
    device: str | None
    fingerprint: str
    started_at: str
    gpus: int = 0


class DataSource(_Given):
    """A data set as it came: address, what tells its content, and the worlds that it brought."""

    source: str
    identity: str
    sha256: str
    bytes: int
    worlds: tuple[str, ...]


class Provenance(_Given):
    """Where the numbers come from.

    ``assigned`` has the worlds that a setting put into a split; the others are where their data set has them.
    ``versions`` and ``hardware`` are by stage, as in the manifests; stages that agree are shown together.
    """

    sources: tuple[DataSource, ...] = ()
    assigned: dict[str, Split] = Field(default_factory=dict)
    worlds: int | None = None
    documents: int | None = None
    versions: Mapping[str, Mapping[str, Any]] = Field(default_factory=dict)
    hardware: Mapping[str, Mapping[str, Any]] = Field(default_factory=dict)


class PastRun(_Given):
    """The scores on test of a run of the same store; ``evaluated_at`` is ISO 8601."""

    run: str
    evaluated_at: str
    mentions: int
    unnormalized_accuracy: Number
    recall_at_1: Number
    recall_at_top_k: Number


class Mistake(_Given):
    """A mention for which the cross-encoder preferred a wrong candidate.

    ``confidence`` is the predicted candidate's probability among the candidates; ``gold_rank`` is the gold's
    1-based rank in retrieval, none if it was not retrieved.
    """

    split: Split
    world: str
    category: str
    mention: str
    context_left: str
    context_right: str
    confidence: Number
    gold_title: str
    gold_text: str
    gold_rank: int | None
    predicted_title: str
    predicted_text: str


class ReportContent(_Given):
    """What a report shows of artifacts, whichever run made or reused them. What is not there is left out or empty.

    ``training``, ``curves`` and ``configuration`` are by stage name (``train-biencoder``); the evaluations may
    appear in ``configuration`` with or without their split.
    """

    recall: dict[Split, BiencoderMetrics] = Field(default_factory=dict)
    accuracy: dict[Split, CrossencoderMetrics] = Field(default_factory=dict)
    comparison: ComparisonMetrics | None = None
    training: dict[str, TrainingMetrics] = Field(default_factory=dict)
    curves: dict[str, tuple[CurvePoint, ...]] = Field(default_factory=dict)
    convert: ConvertMetrics | None = None
    configuration: dict[str, dict[str, Any]] = Field(default_factory=dict)
    provenance: Provenance
    mistakes: tuple[Mistake, ...] = ()


class RunFacts(_Given):
    """What a report shows of its run alone; ``created_at`` is ISO 8601, ``history`` has the earliest run first."""

    address: str
    preset: str
    created_at: str
    package_version: str
    stages: tuple[StageSummary, ...]
    history: tuple[PastRun, ...] = ()
