"""The contract of every stage: look up inputs, reuse by fingerprint, work, commit, record, deliver."""

from __future__ import annotations

import logging
import os
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from zeshel_tasks.compute import telemetry
from zeshel_tasks.compute.termination import scratch_folder
from zeshel_tasks.config.splits import Split
from zeshel_tasks.config.stage_config import StageConfig
from zeshel_tasks.config.stages import Recipe
from zeshel_tasks.errors import ConfigError
from zeshel_tasks.location import local_location, located
from zeshel_tasks.pipeline.commit import work_and_commit
from zeshel_tasks.pipeline.job import Job, Target, Work
from zeshel_tasks.pipeline.lineage import has_split, read_inputs
from zeshel_tasks.pipeline.stage import Stage, Step
from zeshel_tasks.store import Artifact, Manifest, Run, open_run
from zeshel_tasks.store.artifacts import read_manifest
from zeshel_tasks.text.safe_text import quoted

log = logging.getLogger(__name__)


def run_stage(stage: Stage, run_address: str, recipe: Recipe, split: Split | None = None) -> Manifest:
    """Runs a stage, or reuses an artifact with the same fingerprint. Either way, the run records it."""
    step, run = Step(stage, split), open_run(run_address)
    with telemetry.stage(step.name, run.run_id):
        return _run_step(step, run, recipe, may_work=True)


def reuse_stage(stage: Stage, run_address: str, recipe: Recipe, split: Split | None = None) -> Manifest | None:
    """Like :func:`run_stage`, but only if the artifact already exists. Returns None if there is work to do."""
    try:
        return _run_step(Step(stage, split), open_run(run_address), recipe, may_work=False)
    except _WorkToDo:
        return None


class _WorkToDo(Exception):
    """There is no artifact to reuse."""


def _run_step(step: Step, run: Run, recipe: Recipe, *, may_work: bool) -> Manifest:
    started, name, stage = time.monotonic(), step.name, step.stage
    if not has_split(run, step.split):
        raise ConfigError(f"--split: expected a split of the data set, got {step.split}, which it does not have")
    config: StageConfig = getattr(recipe, stage.settings)
    with scratch_space() as scratch:
        inputs = read_inputs(run, step.inputs, stage.optional_inputs, scratch / "cache")
        outside = stage.outside(config, run)
        target = Target(stage.name, step.split, config.fingerprint_fields(), identities(inputs) | outside)

        def make() -> Manifest:
            if not may_work:
                raise _WorkToDo
            log.info("%s %s starts", name, target.fingerprint[:12])
            job = Job(run, recipe, inputs, target, scratch, lambda: stage.outside(config, run), seen_outside=outside)
            return work_and_commit(stage.work, job, config.model_dump())

        def record(manifest: Manifest, reused: bool) -> None:
            run.write_record(name, manifest, reused=reused, wall_seconds=time.monotonic() - started)

        if stage.deliver is None:
            manifest, reused = _made_or_reused(run, target, make, record)
        else:
            # The record marks the step as done. Until then, a record of its use protects the artifact from a cleanup.
            manifest, reused = _made_or_reused(run, target, make, _use_recorder(run, started))
            stage.deliver(run, recipe, Artifact(run.store, target.folder, manifest, scratch / "cache"), inputs)
            record(manifest, reused)
    log.info("%s %s %s", "reused" if reused else "committed", name, manifest.fingerprint[:12])
    if not reused:
        log.info("%s took %.1f s, peak memory %.0f MB", name, time.monotonic() - started, manifest.peak_memory_mb)
    return manifest


def identities(inputs: Mapping[str, Artifact]) -> dict[str, str]:
    """The fingerprints of artifacts, by name."""
    return {name: artifact.manifest.fingerprint for name, artifact in inputs.items()}


def derived_artifact(job: Job, stage: str, config: dict[str, Any], inputs: dict[str, str], work: Work) -> Artifact:
    """Returns an intermediate artifact, which later stages and attempts reuse.

    Args:
        job: the job of the stage; the work gets its device and inputs.
        stage: folder name under ``artifacts/``.
        config: decides the content, together with ``inputs``.
        inputs: identities of everything it is made from.
        work: makes it.
    """
    return _within(job, Target(stage, None, config, inputs), job.recipe, job.inputs, config, work)


def artifact_of_others(
    job: Job, stage: Stage, split: Split | None, recipe: Recipe, inputs: Mapping[str, Artifact]
) -> Artifact:
    """Returns the artifact of a stage for other inputs than this run's, such as another run's model.

    Args:
        job: job of the stage that needs the artifact.
        stage: the stage that makes the artifact, unless it exists.
        split: the split of the stage.
        recipe: settings of the stage.
        inputs: inputs by the names that the stage uses.
    """
    config: StageConfig = getattr(recipe, stage.settings)
    decisive = identities(inputs) | stage.outside(config, job.run)
    target = Target(stage.name, split, config.fingerprint_fields(), decisive)
    return _within(job, target, recipe, inputs, config.model_dump(), stage.work)


def _within(
    job: Job, target: Target, recipe: Recipe, inputs: Mapping[str, Artifact], config: dict[str, Any], work: Work
) -> Artifact:
    """Makes or reuses an intermediate artifact, and records that the stage uses it."""

    def make() -> Manifest:
        scratch = Path(tempfile.mkdtemp(prefix=f"{target.stage}-", dir=job.scratch))
        part = Job(job.run, recipe, inputs, target, scratch, device=job.device)
        job.note_peak_memory()
        manifest = work_and_commit(work, part, config)
        job.peak_memory_mb = max(job.peak_memory_mb, manifest.peak_memory_mb)
        return manifest

    manifest, _ = _made_or_reused(job.run, target, make, _use_recorder(job.run, time.monotonic()))
    job.uses.append(target.folder)
    return Artifact(job.run.store, target.folder, manifest, job.scratch / "cache")


def _use_recorder(run: Run, started: float) -> Callable[[Manifest, bool], None]:
    def record(manifest: Manifest, reused: bool) -> None:
        run.write_use(manifest, reused=reused, wall_seconds=time.monotonic() - started)

    return record


def _made_or_reused(
    run: Run, target: Target, make: Callable[[], Manifest], record: Callable[[Manifest, bool], None]
) -> tuple[Manifest, bool]:
    """Returns the committed artifact, and True if it existed already. A record in the run protects it from a cleanup.

    A cleanup sets a manifest aside before it looks for records (``store/garbage.py``). So if the manifest still exists
    after the record was written, the artifact stays.
    """
    while True:
        found = read_manifest(run.store, target.folder)
        record(found or make(), found is not None)
        kept = read_manifest(run.store, target.folder)
        if kept is not None:
            return kept, found is not None
        log.warning("a cleanup has just removed %s, so it is made again", target.folder)


@contextmanager
def scratch_space() -> Iterator[Path]:
    """A temporary directory; ``ZESHEL_SCRATCH`` is its parent (the scratch volume of a pod).

    Raises:
        ConfigError: ``ZESHEL_SCRATCH`` is not a directory.
    """
    parent = os.environ.get("ZESHEL_SCRATCH")
    folder = located("ZESHEL_SCRATCH", parent, local_location).path if parent else None
    if folder and not folder.is_dir():
        raise ConfigError(f"ZESHEL_SCRATCH: expected a directory, got {quoted(parent)}")
    with scratch_folder(parent=folder) as path:
        yield path
