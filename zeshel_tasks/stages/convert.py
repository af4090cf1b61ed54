"""convert: write the data set in BLINK's format."""

from __future__ import annotations

from pathlib import Path

from zeshel_tasks.data.blink_format import convert_metrics, convert_split
from zeshel_tasks.data.heldout import count_golds
from zeshel_tasks.data.zeshel import Dataset
from zeshel_tasks.pipeline.job import Job
from zeshel_tasks.store import Artifact, Metrics


def work(job: Job) -> Metrics:
    """Does the stage's work; returns the metrics of its manifest."""
    dataset = Dataset(_fetched(job.inputs["download"]))
    out = job.new_folder("blink_format")
    summaries = {split: convert_split(dataset, split, out, job.recipe.convert) for split in dataset.splits()}
    for path in sorted(out.glob("*.jsonl")):
        job.attempt.add(path.name, path)
    return convert_metrics(summaries, count_golds(out, summaries)).dump()


def _fetched(download: Artifact) -> Path:
    """Fetches the whole data set into a local folder."""
    for name in download.manifest.files:
        download.path(name)
    return download.directory("documents").parent
