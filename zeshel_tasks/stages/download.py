"""download: fetch the archive, unpack it safely, check that it is a ZESHEL-shaped data set."""

from __future__ import annotations

import logging

from zeshel_tasks.data.archive import unpack
from zeshel_tasks.data.fetch import fetch
from zeshel_tasks.data.zeshel import check_dataset
from zeshel_tasks.stages.contract import Job, Metrics

log = logging.getLogger(__name__)


def work(job: Job) -> Metrics:
    """Does the stage's work; returns the metrics of its manifest."""
    config = job.recipe.download
    archive = job.scratch / "archive"
    fetched = fetch(config.source, archive, config)
    log.info("archive: %.1f MB, sha256 %s", fetched.size / 1e6, fetched.sha256)
    data = job.new_folder("dataset")
    unpack(archive, data, int(config.max_unpacked_gb * 1e9))
    archive.unlink(missing_ok=True)
    summary = check_dataset(data)
    for folder in ("documents", "mentions"):
        job.attempt.add_directory(folder, data / folder)
    mentions = {split: sum(worlds.values()) for split, worlds in summary.mentions.items()}
    log.info("%d worlds, %s documents, mentions: %s", len(summary.documents), sum(summary.documents.values()), mentions)
    return {
        "worlds": len(summary.documents),
        "documents": sum(summary.documents.values()),
        "documents_by_world": summary.documents,
        "mentions": mentions,
        "archive_sha256": fetched.sha256,
        "archive_bytes": fetched.size,
    }
