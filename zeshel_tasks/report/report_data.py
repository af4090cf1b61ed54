"""The data of a report: measurements, and facts of a single run.

The artifact of ``report`` contains :class:`ReportData`. The metrics in it are the models that the stages return.
Build it from plain data: ``ReportData.model_validate({"recall": {"test": manifest.metrics}, ...})``.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, Self

from pydantic import BaseModel, ConfigDict, Field

from zeshel_tasks.champion.metrics import ComparisonMetrics
from zeshel_tasks.config.splits import Split
from zeshel_tasks.data.blink_format import ConvertMetrics
from zeshel_tasks.data.zeshel import Document
from zeshel_tasks.download.metrics import SourceMetrics
from zeshel_tasks.evaluation.metrics import AccuracyMetrics, RecallMetrics
from zeshel_tasks.linking.calibration_metrics import CalibrationMetrics
from zeshel_tasks.linking.metrics import FusionMetrics
from zeshel_tasks.metrics import Number
from zeshel_tasks.report.curves import ThinCurve
from zeshel_tasks.report.formats import beginning
from zeshel_tasks.text.json_text import to_json
from zeshel_tasks.training.metrics import TrainingMetrics

# The reported split comes first.
SPLIT_ORDER: tuple[Split, ...] = ("test", "valid", "train")

# An entity's document may be a whole manual, and a report may show two of them for each of fifty mistakes.
MOST_TEXT = 12_000
MOST_NAMES = 20
MOST_NAME = 200


class _Given(BaseModel):
    """Made by our own code, so a field with an unknown name is refused."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Prices(_Given):
    """What computing costs.

    Attributes:
        gpu_hour: a GPU for an hour; None if it costs nothing.
        hour: a stage's pod or machine for an hour, without its GPUs; None if it costs nothing.
        currency: ISO 4217.
    """

    gpu_hour: float | None
    hour: float | None
    currency: str

    def cost(self, wall_seconds: float, gpus: int) -> float:
        """Returns what a stage with a number of GPUs costs."""
        return wall_seconds / 3600 * ((self.hour or 0.0) + gpus * (self.gpu_hour or 0.0))


class StageSummary(_Given):
    """One stage of the run.

    Attributes:
        name: as in the run's records (``eval-biencoder-test``).
        reused: True if another run did the work.
        wall_seconds: time that the work took; for a resumed training, of all attempts.
        started_at: ISO 8601.
        gpus: number of GPUs that it held.
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


class DataSource(SourceMetrics):
    """A data set as it was downloaded; ``identity`` is the hash or ETag that identifies its content."""

    identity: str


class Provenance(_Given):
    """Where the numbers come from.

    Attributes:
        sources: the data sets, in the order in which they were merged.
        assigned: worlds that a setting put into a split; all others are in the split of their data set.
        models: content identity of the pretrained model, by the stage that trained it.
        versions: by stage, as in the manifests.
        hardware: by stage, as in the manifests.
    """

    sources: tuple[DataSource, ...] = ()
    assigned: dict[str, Split] = Field(default_factory=dict)
    worlds: int | None = None
    documents: int | None = None
    models: dict[str, str] = Field(default_factory=dict)
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


class EntityText(_Given):
    """The beginning of an entity's text, and the length of the whole text in characters."""

    text: str
    characters: int

    @classmethod
    def of(cls, text: str) -> Self:
        """Cuts the text after :data:`MOST_TEXT` characters."""
        return cls(text=beginning(text, MOST_TEXT), characters=len(text))


class EntityFacts(_Given):
    """Optional fields of an entity's document, of each list at most :data:`MOST_NAMES` items."""

    url: str | None = None
    aliases: tuple[str, ...] = ()
    types: tuple[str, ...] = ()

    @classmethod
    def of(cls, document: Document) -> Self:
        """Keeps the first names of each list and the first :data:`MOST_NAME` characters of each name."""
        names = {
            field: tuple(beginning(name, MOST_NAME) for name in getattr(document, field)[:MOST_NAMES])
            for field in ("aliases", "types")
        }
        return cls(url=document.url and beginning(document.url, MOST_TEXT), **names)


class Mistake(_Given):
    """A mention for which the linker preferred a wrong candidate.

    Attributes:
        confidence: calibrated probability that the predicted candidate is right.
        gold_rank: rank of the gold in retrieval, from 1; None if it was not retrieved.
    """

    split: Split
    world: str
    category: str
    mention: str
    context_left: str
    context_right: str
    confidence: Number
    gold_title: str
    gold_text: EntityText
    gold_rank: int | None
    predicted_title: str
    predicted_text: EntityText
    gold_facts: EntityFacts = EntityFacts()
    predicted_facts: EntityFacts = EntityFacts()


class ReportData(_Given):
    """The part of a report about artifacts, which is the same in all runs that use them. Missing parts are empty.

    Attributes:
        recall: metrics of ``eval-biencoder``.
        linking: metrics of ``fuse``.
        calibration: metrics of ``calibrate``.
        comparison: metrics of ``compare``.
        training: metrics by stage (``train-biencoder``).
        curves: training curves by stage.
        convert: metrics of ``convert``.
        configuration: settings by stage; the evaluations may appear with or without their split.
        provenance: data, versions and hardware.
        mistakes: the most confident first.
    """

    recall: dict[Split, RecallMetrics] = Field(default_factory=dict)
    linking: FusionMetrics | None = None
    calibration: CalibrationMetrics | None = None
    comparison: ComparisonMetrics | None = None
    training: dict[str, TrainingMetrics] = Field(default_factory=dict)
    curves: dict[str, ThinCurve] = Field(default_factory=dict)
    convert: ConvertMetrics | None = None
    configuration: dict[str, dict[str, Any]] = Field(default_factory=dict)
    provenance: Provenance
    mistakes: tuple[Mistake, ...] = ()

    @property
    def accuracy(self) -> dict[Split, AccuracyMetrics]:
        """Accuracy of the linker by split."""
        return {split: found.linker for split, found in self.linking.splits.items()} if self.linking else {}

    def to_json(self) -> bytes:
        """Returns the data as JSON. Equal data give equal bytes."""
        # The json module writes half of a surrogate pair, which a data set may contain. pydantic's writer refuses it.
        return to_json(self.model_dump(mode="json")).encode()

    @classmethod
    def from_json(cls, data: bytes) -> Self:
        """Reads the JSON of :meth:`to_json`."""
        return cls.model_validate(json.loads(data))


class RunFacts(_Given):
    """The part of a report about its run.

    Attributes:
        created_at: ISO 8601.
        history: starts with the earliest run.
        prices: None if no price is set.
    """

    address: str
    preset: str
    created_at: str
    package_version: str
    stages: tuple[StageSummary, ...]
    history: tuple[PastRun, ...] = ()
    prices: Prices | None = None
