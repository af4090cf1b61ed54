"""report: everything that was measured, with its charts; :mod:`zeshel_tasks.report.run_report` makes pages of it."""

from __future__ import annotations

from typing import Any

from zeshel_tasks.pipeline.contract import Job
from zeshel_tasks.report.content import DataSource, Provenance, ReportContent
from zeshel_tasks.report.draw import draw_report
from zeshel_tasks.report.results_table import results
from zeshel_tasks.report.run_report import DRAWN_FILE
from zeshel_tasks.stages.json_lines import read_json_lines
from zeshel_tasks.stages.mistakes import most_confident_mistakes
from zeshel_tasks.store import Manifest, Metrics
from zeshel_tasks.text.redaction import recorded

_TRAININGS = ("train-biencoder", "train-crossencoder")


def work(job: Job) -> Metrics:
    """Does the stage's work; returns the metrics of its manifest."""
    manifests = {name: artifact.manifest for name, artifact in job.inputs.items()}
    recall, accuracy = (_metrics_by_split(manifests, stage) for stage in ("eval-biencoder", "eval-crossencoder"))
    content = ReportContent.model_validate(
        {
            "recall": recall,
            "accuracy": accuracy,
            "comparison": manifests["compare"].metrics,
            "training": {name: manifests[name].metrics for name in _TRAININGS},
            "curves": {name: list(read_json_lines(job.inputs[name].path("curve.jsonl"))) for name in _TRAININGS},
            "convert": manifests["convert"].metrics,
            "configuration": {name: recorded(manifest.config) for name, manifest in manifests.items()},
            "provenance": _provenance(manifests),
            "mistakes": most_confident_mistakes(job, "test", job.recipe.report.num_mistakes),
        }
    )
    path = job.new_folder("report") / DRAWN_FILE
    path.write_bytes(draw_report(content).to_json())
    job.attempt.add(DRAWN_FILE, path)
    return results(recall, accuracy, manifests["compare"].metrics)


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
