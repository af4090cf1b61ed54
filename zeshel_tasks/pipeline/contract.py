"""The contract of every stage: look up inputs, reuse by fingerprint, work, commit, record."""

from __future__ import annotations

import logging
import os
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from importlib import import_module
from pathlib import Path
from typing import Any, NoReturn

from zeshel_tasks import __version__
from zeshel_tasks.compute import machine
from zeshel_tasks.config import HELDOUT_SPLITS, Recipe, Split, StageConfig
from zeshel_tasks.errors import ConfigError, StoreUnavailable, TryAgain
from zeshel_tasks.pipeline.lineage import read_inputs
from zeshel_tasks.store import Artifact, Attempt, Manifest, Metrics, Run, artifact_folder, fingerprint, open_run
from zeshel_tasks.store.artifacts import read_manifest
from zeshel_tasks.text.redaction import recorded

log = logging.getLogger(__name__)

COMMIT_PAUSES = (5, 10, 20, 40, *[60] * 14)
"""Seconds between attempts to commit, a quarter of an hour in all."""


@dataclass
class Job:
    """What a stage works with.

    Attributes:
        run: the run it works for.
        recipe: all settings of the run.
        split: for the stages that have one.
        inputs: artifacts of the stages before it, by name.
        attempt: takes the files that the stage leaves.
        folder: key prefix of the artifact in the making.
        fingerprint: of the artifact in the making.
        scratch: local directory, removed when the stage ends.
        look_outside: identities of what it reads besides ``inputs``, as they are now.
        seen_outside: the same, as they were when it began.
        device: what it computed on, for the manifest.
        peak_memory_mb: the highest that is known so far.
        peak_gpu_memory_mb: of the processes that worked for it, if others did.
        uses: folders of the artifacts that it made or reused on its way.
        after_commit: called once the artifact is committed.
    """

    run: Run
    recipe: Recipe
    split: Split | None
    inputs: Mapping[str, Artifact]
    attempt: Attempt
    folder: str
    fingerprint: str
    scratch: Path
    look_outside: Callable[[], dict[str, str]] = dict
    seen_outside: Mapping[str, str] = field(default_factory=dict)
    device: str = "cpu"
    peak_memory_mb: float = 0.0
    peak_gpu_memory_mb: float | None = None
    uses: list[str] = field(default_factory=list)
    after_commit: list[Callable[[], None]] = field(default_factory=list)

    def note_peak_memory(self) -> None:
        """Keeps this process's peak, before something else within the stage measures anew."""
        self.peak_memory_mb = max(self.peak_memory_mb, machine.peak_memory_mb())

    def check_outside(self) -> None:
        """To be called once the stage has read what is no input: its fingerprint must be about what it has read.

        Raises:
            TryAgain: that has changed since the stage began.
        """
        for name, now in self.look_outside().items():
            if now != self.seen_outside.get(name):
                raise TryAgain(f"{name} has changed while it was read: from {self.seen_outside.get(name)} to {now}")

    def new_folder(self, name: str) -> Path:
        """A new local directory below ``scratch``."""
        path = self.scratch / name
        path.mkdir(parents=True)
        return path


@dataclass(frozen=True)
class Stage:
    """A stage of the recipe.

    Attributes:
        name: its subcommand (``eval-biencoder``); its module is named alike and has a function ``work(job)``.
        inputs: names of the stages whose artifacts it reads; ``{split}`` stands for its own split.
        inputs_if_there: those that it reads where the run has them.
        outside: identities of what it reads besides, given its settings and the run.
        still_true: whether what the metrics tell of the world outside holds, given the run; if not, it works again.
        splits: the splits it can run for; empty where it has none.
        published: names and bytes of the files that people look for in the run's own folder, given the run, its
            recipe, what was made or reused, and the inputs; written anew for each run.
        shown: lines for the log, given the metrics of what was made or reused.
    """

    name: str
    inputs: tuple[str, ...] = ()
    inputs_if_there: tuple[str, ...] = ()
    outside: Callable[[Any, Run], dict[str, str]] = lambda _, __: {}
    still_true: Callable[[Metrics, Run], bool] = lambda _, __: True
    splits: tuple[Split, ...] = ()
    published: Callable[[Run, Recipe, Artifact, Mapping[str, Artifact]], Iterable[tuple[str, bytes]]] = lambda *_: ()
    shown: Callable[[Metrics], Iterable[str]] = lambda _: ()

    @property
    def settings(self) -> str:
        """Where its settings are in a :class:`~zeshel_tasks.config.Recipe`."""
        return self.name.replace("-", "_")

    @property
    def work(self) -> Callable[[Job], Metrics]:
        """Does the work and returns the metrics; imported only when there is work, since torch takes seconds."""
        work: Callable[[Job], Metrics] = import_module(f"zeshel_tasks.stages.{self.settings}").work
        return work

    def name_for(self, split: Split | None) -> str:
        """Name in a run: ``eval-biencoder-test``.

        Raises:
            ConfigError: a split is missing, or the stage does not have this one.
        """
        if (split is None) == bool(self.splits) or (split is not None and split not in self.splits):
            expected = f"--split {'|'.join(self.splits)}" if self.splits else "no --split"
            raise ConfigError(f"{self.name}: expected {expected}, got {split or 'none'}")
        return self.name if split is None else f"{self.name}-{split}"


@dataclass(frozen=True)
class _Facts:
    """What decides an artifact, known before any work."""

    stage: str
    split: Split | None
    config: dict[str, Any]
    inputs: dict[str, str]
    fingerprint: str = field(init=False)

    def __post_init__(self) -> None:
        value = fingerprint(self.stage, self.split, __version__, self.config, self.inputs)
        object.__setattr__(self, "fingerprint", value)

    @property
    def folder(self) -> str:
        return artifact_folder(self.stage, self.fingerprint)


def run_stage(stage: Stage, run_address: str, recipe: Recipe, split: Split | None = None) -> Manifest:
    """Runs a stage, or reuses what an earlier run of the same fingerprint left; either way the run records it."""
    return _run_stage(stage, run_address, recipe, split, _started)


def reuse_stage(stage: Stage, run_address: str, recipe: Recipe, split: Split | None = None) -> Manifest | None:
    """As :func:`run_stage` where the artifact is there already; None where there would be work."""
    try:
        return _run_stage(stage, run_address, recipe, split, _no_work)
    except _NotThereYet:
        return None


class _NotThereYet(Exception):
    """There is no artifact to reuse."""


def _started(stage: Stage, job: Job, facts: _Facts, config: StageConfig) -> Manifest:
    log.info("%s %s starts", stage.name_for(job.split), facts.fingerprint[:12])
    return _work_and_commit(stage.work, job, facts, config.model_dump())


def _no_work(*_: object) -> NoReturn:
    raise _NotThereYet


def _run_stage(
    stage: Stage,
    run_address: str,
    recipe: Recipe,
    split: Split | None,
    make_new: Callable[[Stage, Job, _Facts, StageConfig], Manifest],
) -> Manifest:
    started = time.monotonic()
    own_name, run = stage.name_for(split), open_run(run_address)
    config: StageConfig = getattr(recipe, stage.settings)
    with _scratch() as scratch:
        if split is not None and not has_split(run, split):
            raise ConfigError(f"--split: expected a split of the data set, got {split}, which it does not have")
        wanted = [name.format(split=split) for name in stage.inputs]
        inputs = read_inputs(run, wanted, stage.inputs_if_there, scratch / "cache")
        identities = {name: artifact.manifest.fingerprint for name, artifact in inputs.items()}
        outside = stage.outside(config, run)
        facts = _Facts(stage.name, split, config.fingerprint_fields(), identities | outside)

        def make() -> Manifest:
            attempt = Attempt(run.store, facts.folder)
            job = Job(
                run, recipe, split, inputs, attempt, facts.folder, facts.fingerprint, scratch,
                look_outside=lambda: stage.outside(config, run), seen_outside=outside,
            )  # fmt: skip
            return make_new(stage, job, facts, config)

        def is_true(manifest: Manifest) -> bool:
            return stage.still_true(manifest.metrics, run)

        def record(manifest: Manifest, reused: bool) -> None:
            run.write_record(own_name, manifest, reused=reused, wall_seconds=time.monotonic() - started)

        manifest, reused = _made_or_reused(run, facts, make, record, is_true)
        artifact = Artifact(run.store, facts.folder, manifest, scratch / "cache")
        for name, data in stage.published(run, recipe, artifact, inputs):
            run.publish(name, data)
    log.info("%s %s %s", "reused" if reused else "committed", own_name, manifest.fingerprint[:12])
    for line in stage.shown(manifest.metrics):
        log.info("%s", line)
    if not reused:
        log.info("%s took %.1f s, peak memory %.0f MB", own_name, time.monotonic() - started, manifest.peak_memory_mb)
    return manifest


def has_split(run: Run, split: Split) -> bool:
    """Whether there is something to evaluate: of the held-out splits, a data set may have none."""
    if split not in HELDOUT_SPLITS:
        return True
    downloaded = run.manifest("download")
    return downloaded is None or split in downloaded.metrics.get("mentions", ())


def derived_artifact(
    job: Job, stage: str, config: dict[str, Any], inputs: dict[str, str], work: Callable[[Job], Metrics]
) -> Artifact:
    """An artifact of its own within a stage: made once, found again by later stages and attempts.

    Args:
        job: the stage's job; its device and inputs are handed on.
        stage: folder name under ``artifacts/``.
        config: what decides the content, besides ``inputs``.
        inputs: identities of what it is made from.
        work: makes it.
    """
    return _within(job, _Facts(stage, None, config, inputs), job.recipe, job.inputs, config, work)


def artifact_of_others(
    job: Job, stage: Stage, split: Split | None, recipe: Recipe, inputs: Mapping[str, Artifact]
) -> Artifact:
    """What a stage makes of other inputs than this run's own, such as another run's model; reused where it is there.

    Args:
        job: of the stage that asks for it.
        stage: makes it.
        split: of the stage.
        recipe: its settings.
        inputs: by the names that the stage asks for.
    """
    config: StageConfig = getattr(recipe, stage.settings)
    identities = {name: artifact.manifest.fingerprint for name, artifact in inputs.items()}
    identities |= stage.outside(config, job.run)
    facts = _Facts(stage.name, split, config.fingerprint_fields(), identities)
    return _within(job, facts, recipe, inputs, config.model_dump(), stage.work)


def _within(
    job: Job,
    facts: _Facts,
    recipe: Recipe,
    inputs: Mapping[str, Artifact],
    config: dict[str, Any],
    work: Callable[[Job], Metrics],
) -> Artifact:
    """An artifact that a stage needs on its way, and uses."""
    started = time.monotonic()

    def make() -> Manifest:
        attempt = Attempt(job.run.store, facts.folder)
        scratch = Path(tempfile.mkdtemp(prefix=f"{facts.stage}-", dir=job.scratch))
        part = Job(
            job.run, recipe, facts.split, inputs, attempt, facts.folder, facts.fingerprint, scratch, device=job.device
        )  # fmt: skip
        job.note_peak_memory()
        manifest = _work_and_commit(work, part, facts, config)
        job.peak_memory_mb = max(job.peak_memory_mb, manifest.peak_memory_mb)
        return manifest

    def record(manifest: Manifest, reused: bool) -> None:
        job.run.write_use(manifest, reused=reused, wall_seconds=time.monotonic() - started)

    manifest, _ = _made_or_reused(job.run, facts, make, record)
    job.uses.append(facts.folder)
    return Artifact(job.run.store, facts.folder, manifest, job.scratch / "cache")


def _made_or_reused(
    run: Run,
    facts: _Facts,
    make: Callable[[], Manifest],
    record: Callable[[Manifest, bool], None],
    is_true: Callable[[Manifest], bool] = lambda _: True,
) -> tuple[Manifest, bool]:
    """The committed artifact, recorded in the run so that no cleanup takes it, and whether it was there already.

    A cleanup takes a manifest away before it looks for records that name it (``store/garbage.py``): what is still
    there after it was recorded stays.
    """
    while True:
        found = read_manifest(run.store, facts.folder)
        if found is not None and not is_true(found):
            found = None
        record(found or make(), found is not None)
        recorded = read_manifest(run.store, facts.folder)
        if recorded is not None:
            return recorded, found is not None
        log.warning("a cleanup has just removed %s, which was to be reused: it is made again", facts.folder)


def _work_and_commit(work: Callable[[Job], Metrics], job: Job, facts: _Facts, config: dict[str, Any]) -> Manifest:
    started_at, started = datetime.now(UTC), time.monotonic()
    machine.reset_peak_memory()
    metrics = work(job)
    job.note_peak_memory()
    manifest = _commit_patiently(
        job.attempt,
        {
            "stage": facts.stage,
            "split": facts.split,
            "fingerprint": facts.fingerprint,
            "package_version": __version__,
            "config": recorded(config),
            "inputs": facts.inputs,
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
    """Commits, and waits for a store that does not answer: hours of work hang on this minute."""
    for seconds in COMMIT_PAUSES:
        try:
            return attempt.commit(facts)
        except StoreUnavailable as error:
            log.warning("the work is done but not committed yet, trying again in %d s: %s", seconds, error)
            time.sleep(seconds)
    return attempt.commit(facts)


@contextmanager
def _scratch() -> Iterator[Path]:
    """A directory for the stage's files on their way; ``ZESHEL_SCRATCH`` says where (a pod's scratch volume)."""
    parent = os.environ.get("ZESHEL_SCRATCH")
    if parent and not Path(parent).is_dir():
        raise ConfigError(f"ZESHEL_SCRATCH: expected a directory, got {parent!r}")
    with tempfile.TemporaryDirectory(prefix="zeshel-", dir=parent or None) as path:
        yield Path(path)
