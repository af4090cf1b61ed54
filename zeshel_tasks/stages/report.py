"""report: the data of a run's report; :mod:`zeshel_tasks.report.run_report` renders the page from it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from zeshel_tasks.champion.gate import describe_comparison
from zeshel_tasks.config.splits import ALL_SPLITS, Split
from zeshel_tasks.data.json_lines import read_json_lines
from zeshel_tasks.download.metrics import DownloadMetrics
from zeshel_tasks.pipeline.job import Job
from zeshel_tasks.report.curves import ThinCurve, thin_curve
from zeshel_tasks.report.report_data import DataSource, Provenance, ReportData
from zeshel_tasks.report.results_table import ReportMetrics, ResultsRow
from zeshel_tasks.report.run_report import DATA_FILE
from zeshel_tasks.stages.mistakes import most_confident_mistakes
from zeshel_tasks.store import Artifact, Manifest, Metrics
from zeshel_tasks.text.redaction import recorded
from zeshel_tasks.training.metrics import CurvePoint

_TRAININGS = ("train-biencoder", "train-crossencoder")


def work(job: Job) -> Metrics:
    """Does the stage's work; returns the metrics of its manifest."""
    manifests = {name: artifact.manifest for name, artifact in job.inputs.items()}
    data = ReportData.model_validate(
        {
            "recall": _metrics_by_split(manifests, "eval-biencoder"),
            "linking": manifests["fuse"].metrics,
            "calibration": manifests["calibrate"].metrics,
            "comparison": manifests["compare"].metrics,
            "training": {name: manifests[name].metrics for name in _TRAININGS},
            "curves": {name: _curve(job.inputs[name]) for name in _TRAININGS},
            "convert": manifests["convert"].metrics,
            "configuration": {name: recorded(manifest.config) for name, manifest in manifests.items()},
            "provenance": _provenance(manifests),
            "mistakes": most_confident_mistakes(job, "test", job.recipe.report.num_mistakes),
        }
    )
    path = job.new_folder("report") / DATA_FILE
    path.write_bytes(data.to_json())
    job.attempt.add(DATA_FILE, path)
    return _results(data).dump()


def _results(data: ReportData) -> ReportMetrics:
    compared, line = data.comparison, None
    if compared is not None and compared.champion is not None and compared.overall is not None:
        line = describe_comparison(compared.champion.run, compared.overall)
    return ReportMetrics(
        results={split: _row(data, split) for split in ALL_SPLITS if split in data.recall},
        comparison=line,
    )


def _row(data: ReportData, split: Split) -> ResultsRow:
    retrieved, linked = data.recall[split], data.linking.splits.get(split) if data.linking else None
    by_k = retrieved.recall.micro
    top_k = max(by_k)
    return ResultsRow(
        mentions=retrieved.mentions,
        recall_at_1=by_k[1],
        recall_at_top_k=by_k[top_k],
        top_k=top_k,
        normalized_accuracy=linked and linked.linker.normalized_accuracy.micro,
        unnormalized_accuracy=linked and linked.linker.unnormalized_accuracy.micro,
        crossencoder_alone=linked and linked.crossencoder.unnormalized_accuracy.micro,
    )


def _curve(training: Artifact) -> ThinCurve:
    return thin_curve([CurvePoint.model_validate(line) for line in read_json_lines(training.path("curve.jsonl"))])


def _metrics_by_split(manifests: Mapping[str, Manifest], stage: str) -> dict[str, Any]:
    return {str(manifest.split): manifest.metrics for manifest in manifests.values() if manifest.stage == stage}


def _provenance(manifests: Mapping[str, Manifest]) -> Provenance:
    download = manifests["download"]
    metrics = DownloadMetrics.model_validate(download.metrics)
    return Provenance(
        sources=tuple(
            DataSource(identity=identity, **dict(source))
            for identity, source in zip(download.inputs.values(), metrics.sources, strict=True)
        ),
        assigned=metrics.assigned,
        worlds=metrics.worlds,
        documents=metrics.documents,
        models={
            name: manifest.inputs["bert_model"]
            for name, manifest in manifests.items()
            if "bert_model" in manifest.inputs
        },
        versions={name: manifest.versions for name, manifest in manifests.items()},
        hardware={name: manifest.hardware for name, manifest in manifests.items()},
    )
