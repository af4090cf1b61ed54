"""What a run must have once a stage has finished."""

from zeshel_tasks.config import HELDOUT_SPLITS
from zeshel_tasks.pipeline.registry import RECIPE
from zeshel_tasks.store import Manifest, Run, RunRecord

STEPS = [(stage, split) for stage, split in RECIPE if split not in HELDOUT_SPLITS]
"""The stages of a run whose data set has no held-out mentions, in their order."""
NAMES = [stage.name_for(split) for stage, split in STEPS]


def record_of(run: Run, name: str) -> RunRecord:
    """The record of a finished stage."""
    record = run.record(name)
    assert record is not None, f"{name} has not finished in {run.address}"
    return record


def manifest_of(run: Run, name: str) -> Manifest:
    """The manifest of a finished stage."""
    manifest = run.manifest(name)
    assert manifest is not None, f"{name} has not finished in {run.address}"
    return manifest
