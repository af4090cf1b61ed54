"""Stages, and the situations in which runs, attempts and cleanups meet in one store."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

from tests.stages.fake_stage import FakeStage
from tests.store.memory import MemoryStore
from tests.store.wrapped import AgedStore
from tests.two_at_once.baton import Baton, Killed
from zeshel_tasks.champion.champions import champion_folders
from zeshel_tasks.errors import CorruptArtifact
from zeshel_tasks.pipeline.contract import derived_artifact, run_stage
from zeshel_tasks.pipeline.job import Job
from zeshel_tasks.recipe import build_recipe
from zeshel_tasks.store import Artifact, Manifest, Metrics, Run, Store
from zeshel_tasks.store.artifacts import manifest_key, read_manifest_now
from zeshel_tasks.store.garbage import clean_up
from zeshel_tasks.store.lock import LOCK

RECIPE = build_recipe("smoke")
BEFORE = datetime(2000, 1, 1, tzinfo=UTC)


class Torn(AssertionError):
    """A guarantee of the store was violated."""


class Witness(AgedStore):
    """A store that passes the turn to another thread at each operation, and detects an overwritten manifest."""

    def __init__(self, inner: Store, baton: Baton) -> None:
        super().__init__(inner, lambda operation, key: baton.step())

    def put(self, key: str, data: bytes) -> None:
        super().put(key, data)
        if key.endswith("/manifest.json"):
            raise Torn(f"{key} was put without a look at what is there")

    def put_if_absent(self, key: str, data: bytes) -> bool:
        self.before("put_if_absent", key)
        was_there = self.inner.get(key)
        written = self.inner.put_if_absent(key, data)
        if written and was_there is not None:
            raise Torn(f"{key} was written over")
        return written


def encodes(job: Job) -> Metrics:
    """Writes two files, with the same content in every attempt."""
    for name in ("tokens", "vectors"):
        path = job.new_folder(name) / "file"
        path.write_text(f"{name} of the world")
        job.attempt.add(name, path)
    return {}


def trains(job: Job) -> Metrics:
    """Makes or reuses an intermediate artifact, as the evaluations do."""
    encodings = derived_artifact(job, "candidate-encodings", {"world": "w"}, {}, encodes)
    path = job.new_folder("out") / "weights"
    path.write_text(encodings.path("tokens").read_text() + encodings.path("vectors").read_text())
    job.attempt.add("weights", path)
    return {}


def reads(job: Job) -> Metrics:
    """Reads the artifact of the previous stage."""
    path = job.new_folder("out") / "result"
    path.write_text(f"from {job.inputs['download'].path('weights').read_text()}")
    job.attempt.add("result", path)
    return {}


FIRST = FakeStage("download", does=trains)
SECOND = FakeStage("convert", inputs=("download",), does=reads)


STORES: dict[str, Store] = {}
"""Stores of the situations, by their folders."""


class Situation:
    """A store, and threads that work with it at the same time."""

    def __init__(self, folder: Path, seed: int) -> None:
        self.baton = Baton(seed)
        self.store = Witness(MemoryStore(), self.baton)
        STORES[str(folder)] = self.store
        self.folder, self.seed = folder, seed
        self.runs: set[str] = set()
        self._run_of: dict[str, str] = {}

    def recipe_of(self, run: str) -> None:
        """Runs both stages of a run, one after the other."""
        for stage in (FIRST, SECOND):
            run_stage(stage, f"{self.folder}/runs/{run}", RECIPE)

    def finished_long_ago(self, run: str, *, lost: tuple[str, ...] = ()) -> None:
        """Creates an old, finished run, and deletes everything below the prefixes ``lost``."""
        self.recipe_of(run)
        for prefix in lost:
            for key in list(self.store.keys(prefix)):
                self.store.delete(key)
        self.store.grow_old()

    def add_run(self, name: str, run: str, *, killed_after: int | None = None) -> None:
        self.runs.add(run)
        self._run_of[name] = run
        self.baton.add(name, lambda: self.recipe_of(run), killed_after=killed_after)

    def add_cleanup(self, *, killed_after: int | None = None) -> None:
        self.baton.add("cleanup", lambda: self._clean_up(), killed_after=killed_after)

    def _clean_up(self) -> None:
        clean_up(self.store, BEFORE, roots=champion_folders)

    def play(self) -> None:
        """Runs the threads to their ends, repeats killed work as in production, and looks for damage.

        Raises:
            Torn: a guarantee was violated.
        """
        ended = self.baton.run()
        for name, error in ended.items():
            if error is not None and not isinstance(error, Killed):
                raise Torn(f"{name} ended by {error!r}") from error
        self.store.delete(LOCK)  # the lock of a killed cleanup
        self._clean_up()
        done = {run for name, run in self._run_of.items() if ended[name] is None}
        for run in set(self._run_of.values()) - done:
            self.recipe_of(run)
        # All remaining objects are young or in use. A year later, a cleanup removes everything that is not in use.
        self.store.grow_old()
        self._clean_up()
        self._check()

    def _check(self) -> None:
        referred: set[str] = set()
        for run in self.runs:
            for name in ("download", "convert"):
                record = Run(self.store, run).record(name)
                manifest = None if record is None else read_manifest_now(self.store, record.artifact)
                if record is None or manifest is None:
                    raise Torn(f"{run} has no {name}")
                self._check_artifact(record.artifact, manifest)
                referred |= {record.artifact, *manifest.uses}
        there = {"/".join(key.split("/")[:3]) for key in self.store.keys("artifacts/")}
        if there != referred:
            raise Torn(f"expected {referred} to be in the store, got {there}")

    def _check_artifact(self, folder: str, manifest: Manifest) -> None:
        artifact = Artifact(self.store, folder, manifest, self.folder / "cache")
        try:
            texts = {name: artifact.path(name).read_text() for name in manifest.files}
        except CorruptArtifact as error:
            raise Torn(str(error)) from error
        expected = "tokens of the worldvectors of the world"
        if texts != ({"weights": expected} if manifest.stage == "download" else {"result": f"from {expected}"}):
            raise Torn(f"{folder} has {texts}")
        own = {f"{folder}/{entry.key}" for entry in manifest.files.values()} | {manifest_key(folder)}
        if set(self.store.keys(f"{folder}/")) != own:
            raise Torn(f"{folder} has leftovers")
        for used in manifest.uses:
            if (inner := read_manifest_now(self.store, used)) is None:
                raise Torn(f"{folder} uses {used}, which is gone")
            for name in inner.files:
                Artifact(self.store, used, inner, self.folder / "cache").path(name)


def two_runs(situation: Situation) -> None:
    """Two DAG runs with the same fingerprints."""
    situation.add_run("one", "one")
    situation.add_run("other", "other")


def zombie_and_retry(situation: Situation) -> None:
    """An abandoned attempt that continues to work, and its retry. In some cases, one of them is killed."""
    situation.add_run("zombie", "run", killed_after=situation.seed % 40 or None)
    situation.add_run("retry", "run")


def rerun_and_cleanup(situation: Situation) -> None:
    """Reruns that reuse unreferenced artifacts, and a concurrent cleanup. In some cases, a stage must be repeated."""
    lost = ("artifacts/download/",) if situation.seed % 2 else ()
    situation.finished_long_ago("gone", lost=("runs/", *lost))
    situation.add_run("one", "one")
    situation.add_run("other", "other")
    situation.add_cleanup()


def cleanup_that_dies(situation: Situation) -> None:
    """A rerun, and a cleanup that is killed. In some cases, another run refers to the artifacts all the time."""
    if situation.seed % 4 == 0:
        situation.finished_long_ago("before")
        situation.runs.add("before")
    else:
        situation.finished_long_ago("gone", lost=("runs/",))
    situation.add_run("one", "one", killed_after=situation.seed % 30 or None)
    situation.add_cleanup(killed_after=situation.seed % 37)


SITUATIONS = [two_runs, zombie_and_retry, rerun_and_cleanup, cleanup_that_dies]
