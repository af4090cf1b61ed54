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

from zeshel_tasks import __version__
from zeshel_tasks.compute import machine, telemetry
from zeshel_tasks.compute.gang import ALONE, Gang
from zeshel_tasks.compute.gang_joining import joined_gang
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
from zeshel_tasks.text.redaction import recorded
from zeshel_tasks.text.safe_text import quoted

log = logging.getLogger(__name__)


def run_stage(stage: Stage, run_address: str, recipe: Recipe, split: Split | None = None) -> Manifest:
    """Runs a stage, or reuses an artifact with the same fingerprint. Either way, the run records it.

    All processes of a training over several nodes call it. The first one decides, commits and records.
    """
    step, run = Step(stage, split), open_run(run_address)
    config: StageConfig = getattr(recipe, stage.settings)
    with telemetry.stage(step.name, run.run_id), joined_gang(config, trains=stage.trains) as gang:
        return _run_step(step, run, recipe, gang)


def reuse_stage(stage: Stage, run_address: str, recipe: Recipe, split: Split | None = None) -> Manifest | None:
    """Like :func:`run_stage`, but only if the artifact already exists. Returns None if there is work to do."""
    try:
        return _run_step(Step(stage, split), open_run(run_address), recipe, may_work=False)
    except _WorkToDo:
        return None


class _WorkToDo(Exception):
    """There is no artifact to reuse."""


def _run_step(step: Step, run: Run, recipe: Recipe, gang: Gang = ALONE, *, may_work: bool = True) -> Manifest:
    started, name, stage = time.monotonic(), step.name, step.stage
    if not has_split(run, step.split):
        raise ConfigError(f"--split: expected a split of the data set, got {step.split}, which it does not have")
    config: StageConfig = getattr(recipe, stage.settings)
    with scratch_space() as scratch:
        inputs = read_inputs(run, step.inputs, stage.optional_inputs, scratch / "cache")
        outside = stage.outside(config, run)
        target = Target(stage.name, step.split, config.fingerprint_fields(), identities(inputs) | outside)

        if gang.size > 1:
            _check_same(gang, run, target, config)

        def job() -> Job:
            log.info("%s %s starts", name, target.fingerprint[:12])
            look_outside = lambda: stage.outside(config, run)  # noqa: E731
            return Job(run, recipe, inputs, target, scratch, look_outside, seen_outside=outside, gang=gang)

        if not gang.leads:
            return _follow(gang, stage.work, job)

        def make() -> Manifest:
            if not may_work:
                raise _WorkToDo
            gang.tell(_WORK)
            return work_and_commit(stage.work, job(), config.model_dump())

        def record(manifest: Manifest, reused: bool) -> None:
            run.write_record(name, manifest, reused=reused, wall_seconds=time.monotonic() - started)

        if stage.deliver is None:
            manifest, reused = _made_or_reused(run, target, make, record)
        else:
            # The record marks the step as done. Until then, a record of its use protects the artifact from a cleanup.
            manifest, reused = _made_or_reused(run, target, make, _use_recorder(run, started))
            stage.deliver(run, recipe, Artifact(run.store, target.folder, manifest, scratch / "cache"), inputs)
            record(manifest, reused)
    gang.tell(manifest.model_dump_json())
    log.info("%s %s %s", "reused" if reused else "committed", name, manifest.fingerprint[:12])
    if not reused:
        log.info("%s took %.1f s, peak memory %.0f MB", name, time.monotonic() - started, manifest.peak_memory_mb)
    return manifest


_WORK = "work"
"""What the first process tells the others when there is no artifact to reuse. Last, it tells them the manifest."""


def _check_same(gang: Gang, run: Run, target: Target, config: StageConfig) -> None:
    """Checks that all processes would make the same artifact in the same way.

    Raises:
        ConfigError: versions, settings or inputs differ between two processes.
    """
    settings = {f"setting {name}": value for name, value in recorded(config.model_dump(mode="json")).items()}
    versions = {f"version of {name}": version for name, version in machine.versions().items()}
    others = {"fingerprint": target.fingerprint, "run": run.address, "package version": __version__}
    gang.check_same({**settings, **versions, **others})


def _follow(gang: Gang, work: Work, job: Callable[[], Job]) -> Manifest:
    """Works whenever the first process of the gang does, and returns the manifest that it has committed."""
    while (told := gang.hear()) == _WORK:
        work(job())
    return Manifest.model_validate_json(told)


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
        part = Job(job.run, recipe, inputs, target, scratch, device=job.device)  # not the gang's: one makes it
        job.note_peak_memory()
        manifest = work_and_commit(work, part, config)
        job.peak_memory_mb = max(job.peak_memory_mb, manifest.peak_memory_mb)
        return manifest

    record = _use_recorder(job.run, time.monotonic())
    with job.gang.first_then_others():
        manifest, _ = _made_or_reused(job.run, target, make, record if job.gang.leads else lambda _, __: None)
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
