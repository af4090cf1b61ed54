"""Runs the work for an artifact, measures it, and commits the manifest."""

from __future__ import annotations

import logging
import time
from datetime import UTC, datetime
from typing import Any

from zeshel_tasks import __version__
from zeshel_tasks.compute import machine
from zeshel_tasks.errors import StoreUnavailable
from zeshel_tasks.pipeline.job import Job, Work
from zeshel_tasks.store import Attempt, Manifest
from zeshel_tasks.text.redaction import recorded

log = logging.getLogger(__name__)

COMMIT_PAUSES = (5, 10, 20, 40, *[60] * 14)
"""Seconds between attempts to commit, a quarter of an hour in all."""


def work_and_commit(work: Work, job: Job, config: dict[str, Any]) -> Manifest:
    """Calls ``work``, then commits the files that it added.

    Args:
        work: makes the files.
        job: its job.
        config: all settings, for the manifest.
    """
    started_at, started = datetime.now(UTC), time.monotonic()
    machine.reset_peak_memory()
    metrics = work(job)
    job.note_peak_memory()
    manifest = _commit_patiently(
        job.attempt,
        {
            "stage": job.target.stage,
            "split": job.target.split,
            "fingerprint": job.target.fingerprint,
            "package_version": __version__,
            "config": recorded(config),
            "inputs": job.target.inputs,
            "uses": sorted(set(job.uses)),
            "metrics": metrics,
            "started_at": started_at.isoformat(timespec="seconds"),
            "finished_at": datetime.now(UTC).isoformat(timespec="seconds"),
            "wall_seconds": round(time.monotonic() - started, 3),
            "peak_memory_mb": job.peak_memory_mb,
            "peak_gpu_memory_mb": job.peak_gpu_memory_mb or machine.peak_gpu_memory_mb(),
            "device": job.device,
            "versions": machine.versions(),
            "hardware": machine.hardware(),
        },
    )
    for clean_up in job.after_commit:
        clean_up()
    return manifest


def _commit_patiently(attempt: Attempt, facts: dict[str, Any]) -> Manifest:
    """Commits, and waits for a store that does not answer, so that hours of work are not lost."""
    for seconds in COMMIT_PAUSES:
        try:
            return attempt.commit(facts)
        except StoreUnavailable as error:
            log.warning("the work is done but not committed yet, trying again in %d s: %s", seconds, error)
            time.sleep(seconds)
    return attempt.commit(facts)
