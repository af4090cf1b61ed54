"""convert: the data set in BLINK's format."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

from zeshel_tasks.config import SPLITS
from zeshel_tasks.data.blink_format import convert_split
from zeshel_tasks.data.zeshel import Dataset
from zeshel_tasks.stages.contract import Job, Metrics
from zeshel_tasks.store import Artifact


def work(job: Job) -> Metrics:
    """Does the stage's work; returns the metrics of its manifest."""
    dataset = Dataset(_fetched(job.inputs["download"]))
    out = job.new_folder("blink_format")
    summaries = {split: convert_split(dataset, split, out, job.recipe.convert) for split in SPLITS}
    for path in sorted(out.glob("*.jsonl")):
        job.attempt.add(path.name, path)
    return {
        "mentions": {split: summary.mentions for split, summary in summaries.items()},
        "skipped": {split: summary.skipped for split, summary in summaries.items()},
        "worlds": {
            split: {world: asdict(figures) for world, figures in summary.worlds.items()}
            for split, summary in summaries.items()
        },
        "capped": any(summary.capped for summary in summaries.values()),
    }


def _fetched(download: Artifact) -> Path:
    """The whole data set in a local folder."""
    download.directory("mentions")
    return download.directory("documents").parent
