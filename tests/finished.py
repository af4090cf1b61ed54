"""What a run must have once a stage has finished."""

from zeshel_tasks.store import Manifest, Run, RunRecord


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
