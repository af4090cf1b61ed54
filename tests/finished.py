"""Finished runs: their steps, their records, and copies that a test may change."""

import os
import shutil
from pathlib import Path

from zeshel_tasks.config.splits import HELDOUT_SPLITS
from zeshel_tasks.pipeline.registry import RECIPE
from zeshel_tasks.store import Manifest, Run, RunRecord, open_run

STEPS = [(stage, split) for stage, split in RECIPE if split not in HELDOUT_SPLITS]
"""The stages of a run whose data set has no held-out mentions, in their order."""
NAMES = [stage.name_for(split) for stage, split in STEPS]


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
