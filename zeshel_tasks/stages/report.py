"""report: everything the run measured, as ``report/metrics.json`` and a self-contained ``report/index.html``."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from zeshel_tasks import __version__
from zeshel_tasks.redaction import recorded
from zeshel_tasks.report.content import DataSource, Provenance, ReportContent, StageSummary
from zeshel_tasks.report.render import build_report
from zeshel_tasks.stages.contract import Job, Metrics
from zeshel_tasks.stages.history import past_runs
from zeshel_tasks.stages.json_lines import read_json_lines
from zeshel_tasks.stages.mistakes import most_confident_mistakes
from zeshel_tasks.stages.results_table import results
from zeshel_tasks.store import Manifest

_TRAININGS = ("train-biencoder", "train-crossencoder")


def work(job: Job) -> Metrics:
    """Does the stage's work; returns the metrics of its manifest."""
    manifests = {name: artifact.manifest for name, artifact in job.inputs.items()}
    content = ReportContent.model_validate(
        {
            "run_address": job.run.address,
            "preset": job.recipe.preset,
            "created_at": datetime.now(UTC).isoformat(timespec="seconds"),
            "package_version": __version__,
            "stages": tuple(_summary(job, name, manifest) for name, manifest in manifests.items()),
            "recall": _metrics_by_split(manifests, "eval-biencoder"),
            "accuracy": _metrics_by_split(manifests, "eval-crossencoder"),
            "comparison": manifests["compare"].metrics,
            "training": {name: manifests[name].metrics for name in _TRAININGS},
            "curves": {name: list(read_json_lines(job.inputs[name].path("curve.jsonl"))) for name in _TRAININGS},
            "convert": manifests["convert"].metrics,
            "configuration": {name: recorded(manifest.config) for name, manifest in manifests.items()},
            "provenance": _provenance(manifests),
            "history": past_runs(job.run.store, job.recipe.report.num_past_runs),
            "mistakes": most_confident_mistakes(job, "test", job.recipe.report.num_mistakes),
        }
    )
    folder = job.new_folder("report")
    build_report(content, folder)
    job.attempt.add_directory("report", folder)
    recall, accuracy = (_metrics_by_split(manifests, stage) for stage in ("eval-biencoder", "eval-crossencoder"))
    return results(recall, accuracy, manifests["compare"].metrics)


def _summary(job: Job, name: str, manifest: Manifest) -> StageSummary:
    record = job.run.record(name)
    return StageSummary(
        name=name,
        reused=record is not None and record.reused,
        wall_seconds=manifest.wall_seconds,
        peak_memory_mb=manifest.peak_memory_mb,
        peak_gpu_memory_mb=manifest.peak_gpu_memory_mb,
        device=manifest.device,
        fingerprint=manifest.fingerprint,
        started_at=manifest.started_at,
        gpus=len(manifest.hardware["gpus"]),
    )


def _metrics_by_split(manifests: dict[str, Manifest], stage: str) -> dict[str, Any]:
    return {str(manifest.split): manifest.metrics for manifest in manifests.values() if manifest.stage == stage}


def _provenance(manifests: dict[str, Manifest]) -> Provenance:
    download = manifests["download"]
    return Provenance(
        sources=tuple(
            DataSource(identity=identity, **source)
            for identity, source in zip(download.inputs.values(), download.metrics["sources"], strict=True)
        ),
        assigned=download.metrics["assigned"],
        worlds=download.metrics["worlds"],
        documents=download.metrics["documents"],
        versions={name: manifest.versions for name, manifest in manifests.items()},
        hardware={name: manifest.hardware for name, manifest in manifests.items()},
    )
