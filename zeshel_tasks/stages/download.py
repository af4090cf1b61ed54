"""download: fetch the data sets, unpack them safely, merge them, check that the result is a ZESHEL-shaped data set."""

from __future__ import annotations

import logging
from pathlib import Path

from zeshel_tasks.data.zeshel import check_dataset
from zeshel_tasks.download.members import ALL_FOLDERS
from zeshel_tasks.download.merge import Part, merge
from zeshel_tasks.download.metrics import DownloadMetrics, SourceMetrics
from zeshel_tasks.download.sources import obtain
from zeshel_tasks.download.transfer import Fetched
from zeshel_tasks.importing.wiki.kept_pages import KeptPages
from zeshel_tasks.importing.wiki.source import obtain_wiki
from zeshel_tasks.location import WikiDump, located, source_location
from zeshel_tasks.pipeline.job import Job
from zeshel_tasks.report.wiki_report import write_wiki_report
from zeshel_tasks.store import Metrics
from zeshel_tasks.text.redaction import without_secrets

log = logging.getLogger(__name__)


def work(job: Job) -> Metrics:
    """Does the stage's work; returns the metrics of its manifest."""
    config, parts, sources = job.recipe.download, [], []
    for number, source in enumerate(config.sources, start=1):
        part, fetched = _obtained(job, source, job.new_folder(f"source-{number}"))
        parts.append(part)
        sources.append(
            SourceMetrics(
                source=part.name, sha256=fetched.sha256, bytes=fetched.size, worlds=tuple(part.dataset.worlds)
            )
        )
    job.check_outside()
    data = _merged(job, parts)
    summary = check_dataset(data)
    for folder in ALL_FOLDERS:
        job.attempt.add_directory(folder, data / folder)
    mentions = {split: sum(worlds.values()) for split, worlds in summary.mentions.items()}
    log.info("%d worlds, %s documents, mentions: %s", len(summary.documents), sum(summary.documents.values()), mentions)
    return DownloadMetrics(
        worlds=len(summary.documents),
        documents=sum(summary.documents.values()),
        documents_by_world=summary.documents,
        mentions=mentions,
        sources=tuple(sources),
        assigned=config.assigned,
    ).dump()


def _obtained(job: Job, source: str, folder: Path) -> tuple[Part, Fetched]:
    """Fetches a data set. A wiki's dump becomes one, and its report a file of the artifact."""
    location, config = located("source", source, source_location), job.recipe.download
    if not isinstance(location, WikiDump):
        return Part(without_secrets(source), folder), obtain(source, folder, job.scratch, config)
    part = Part(without_secrets(source), folder / "data")
    kept = KeptPages(job.run.store, f"{job.folder}/parsed/{folder.name}")
    fetched, summary = obtain_wiki(source, location, part.folder, folder, config, kept)
    job.after_commit.append(kept.remove)
    write_wiki_report(summary, folder / "report")
    job.attempt.add_directory(f"wikis/{summary.world}", folder / "report")
    return part, fetched


def _merged(job: Job, parts: list[Part]) -> Path:
    """Merges the data sets into one folder. A single data set without assigned splits stays unchanged."""
    assigned = job.recipe.download.assigned
    if len(parts) == 1 and not assigned:
        return parts[0].folder
    data = job.new_folder("dataset")
    merge(parts, assigned, data)
    log.info("%d data sets merged; assigned to splits: %s", len(parts), assigned or "no world")
    return data
