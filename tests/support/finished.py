"""Finished stages and runs: their steps, their records, and copies that a test may change."""

import os
import shutil
from pathlib import Path
from typing import Any

from zeshel_tasks.cli import main
from zeshel_tasks.config.splits import HELDOUT_SPLITS
from zeshel_tasks.errors import EXIT_OK
from zeshel_tasks.pipeline.registry import RECIPE
from zeshel_tasks.store import Attempt, Manifest, Run, RunRecord, artifact_folder, open_run

STEPS = [(stage, split) for stage, split in RECIPE if split not in HELDOUT_SPLITS]
"""The stages of a run whose data set has no held-out mentions, in their order."""
NAMES = [stage.name_for(split) for stage, split in STEPS]
FACTS: dict[str, Any] = {
    "split": None, "config": {}, "inputs": {}, "metrics": {}, "package_version": "1.2.3", "versions": {},
    "started_at": "2026-01-02T03:04:05+00:00", "finished_at": "2026-01-02T03:05:05+00:00", "wall_seconds": 60.0,
    "peak_memory_mb": 1.0, "peak_gpu_memory_mb": None, "device": "cpu", "hardware": {},
}  # fmt: skip
"""The facts of a manifest, except its stage and its fingerprint, for tests that do not read them."""


def finish_stage(run: Run, stage: str, fingerprint: str, metrics: dict[str, Any] | None = None) -> None:
    """Finishes a stage of a run with an artifact without files."""
    facts = FACTS | {"stage": stage, "fingerprint": fingerprint, "metrics": metrics or {}}
    manifest = Attempt(run.store, artifact_folder(stage, fingerprint)).commit(facts)
    run.write_record(stage, manifest, reused=False, wall_seconds=1)


def record_of(run: Run, name: str) -> RunRecord:
    """Returns the record of a finished stage."""
    record = run.record(name)
    assert record is not None, f"{name} has not finished in {run.address}"
    return record


def manifest_of(run: Run, name: str) -> Manifest:
    """Returns the manifest of a finished stage."""
    manifest = run.manifest(name)
    assert manifest is not None, f"{name} has not finished in {run.address}"
    return manifest


def copy_of(run: Run, folder: Path) -> Run:
    """Copies the run's local store into a folder, by hard links: a store replaces files and never changes them."""
    shutil.copytree(run.store.address, folder / "store", copy_function=os.link)
    return open_run(f"{folder}/store/runs/{run.run_id}")


def copy_with_knowledge_base(run: Run, folder: Path, world: str) -> Run:
    """Copies the run as :func:`copy_of`, and builds a knowledge base of a world of its data, under the world's name."""
    copy = copy_of(run, folder)
    documents = copy.artifact("download", folder / "cache").path(f"documents/{world}.json")
    assert main(["kb", "build", "--store", copy.store.address, "--name", world, str(documents)]) == EXIT_OK
    return copy
