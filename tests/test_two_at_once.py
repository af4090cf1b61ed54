"""Runs, attempts and cleanups at the same time in one store, interleaved at every operation of the store by a seed."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, ExitStack
from datetime import UTC, datetime
from pathlib import Path
from unittest.mock import patch

import pytest

from tests.baton import Baton, Killed
from tests.faults import Fault
from tests.stages.fake_stage import FakeStage
from tests.store.wrapped import AgedStore
from zeshel_tasks.errors import CorruptArtifact
from zeshel_tasks.recipe import build_recipe
from zeshel_tasks.stages import contract
from zeshel_tasks.stages.contract import Job, Metrics, derived_artifact, run_stage
from zeshel_tasks.store import Artifact, LocalStore, Manifest, Run, Store, artifacts, garbage
from zeshel_tasks.store.artifacts import manifest_key, read_manifest_now
from zeshel_tasks.store.garbage import clean_up
from zeshel_tasks.store.lock import LOCK

RECIPE = build_recipe("smoke")
BEFORE = datetime(2000, 1, 1, tzinfo=UTC)
SEEDS = range(100)
"""Of each situation; there are four."""


class Torn(AssertionError):
    """What must never happen has happened."""


class Witness(AgedStore):
    """A store that says at each operation whose turn it is next, and notices a manifest that is written over."""

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
    """Leaves two files; their content is the same whoever makes them."""
    for name in ("tokens", "vectors"):
        path = job.new_folder(name) / "file"
        path.write_text(f"{name} of the world")
        job.attempt.add(name, path)
    return {}


def trains(job: Job) -> Metrics:
    """Reads an artifact that it makes or finds on its way, as the evaluations do."""
    encodings = derived_artifact(job, "candidate-encodings", {"world": "w"}, {}, encodes)
    path = job.new_folder("out") / "weights"
    path.write_text(encodings.path("tokens").read_text() + encodings.path("vectors").read_text())
    job.attempt.add("weights", path)
    return {}


def reads(job: Job) -> Metrics:
    """Reads the stage before it."""
    path = job.new_folder("out") / "result"
    path.write_text(f"from {job.inputs['download'].path('weights').read_text()}")
    job.attempt.add("result", path)
    return {}


FIRST = FakeStage("download", does=trains)
SECOND = FakeStage("convert", inputs=("download",), does=reads)


STORES: dict[str, Store] = {}
"""Of the situations, by their folders."""


class Situation:
    """A store, and threads that work with it at the same time."""

    def __init__(self, folder: Path, seed: int) -> None:
        self.baton = Baton(seed)
        self.store = Witness(LocalStore(folder), self.baton)
        STORES[str(folder)] = self.store
        self.folder, self.seed = folder, seed
        self.runs: set[str] = set()
        self._run_of: dict[str, str] = {}

    def recipe_of(self, run: str) -> None:
        """Both stages of a run, one after the other."""
        for stage in (FIRST, SECOND):
            run_stage(stage, f"{self.folder}/runs/{run}", RECIPE)

    def finished_long_ago(self, run: str, *, lost: tuple[str, ...] = ()) -> None:
        """A run from before everything else; all below the prefixes ``lost`` was deleted since."""
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
        clean_up(self.store, BEFORE)

    def play(self) -> None:
        """Runs the threads to their ends, mends what was killed as production does, and looks for damage.

        Raises:
            Torn: there is some.
        """
        ended = self.baton.run()
        for name, error in ended.items():
            if error is not None and not isinstance(error, Killed):
                raise Torn(f"{name} ended by {error!r}") from error
        self.store.delete(LOCK)  # of a cleanup that was killed
        self._clean_up()
        done = {run for name, run in self._run_of.items() if ended[name] is None}
        for run in set(self._run_of.values()) - done:
            self.recipe_of(run)
        # Whatever is still there is young or in use; a year later all that is not in use is gone.
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
    """Two DAG runs of one fingerprint."""
    situation.add_run("one", "one")
    situation.add_run("other", "other")


def zombie_and_retry(situation: Situation) -> None:
    """An attempt that was given up but works on, its retry, and in some the end of either."""
    situation.add_run("zombie", "run", killed_after=situation.seed % 40 or None)
    situation.add_run("retry", "run")


def rerun_and_cleanup(situation: Situation) -> None:
    """Reruns of what no run refers to any more, and a cleanup at the same time; in some a stage must be done again."""
    lost = ("artifacts/download/",) if situation.seed % 2 else ()
    situation.finished_long_ago("gone", lost=("runs/", *lost))
    situation.add_run("one", "one")
    situation.add_run("other", "other")
    situation.add_cleanup()


def cleanup_that_dies(situation: Situation) -> None:
    """A rerun, and a cleanup that is killed on its way; in some another run refers to the artifacts all the time."""
    if situation.seed % 4 == 0:
        situation.finished_long_ago("before")
        situation.runs.add("before")
    else:
        situation.finished_long_ago("gone", lost=("runs/",))
    situation.add_run("one", "one", killed_after=situation.seed % 30 or None)
    situation.add_cleanup(killed_after=situation.seed % 37)


SITUATIONS = [two_runs, zombie_and_retry, rerun_and_cleanup, cleanup_that_dies]


@pytest.fixture(autouse=True)
def _witnessed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Stages work in the situations' stores, and wait for a cleanup's decision by letting it go on."""

    def open_run(address: str) -> Run:
        folder, _, run = address.rpartition("/runs/")
        return Run(STORES[folder], run)

    monkeypatch.setattr(contract, "open_run", open_run)
    monkeypatch.setattr(artifacts, "_DECISION_PAUSES", (0,) * 40)


@pytest.mark.parametrize("situation", SITUATIONS)
def test_whatever_the_order_nothing_is_torn(
    tmp_path: Path, fault: Fault, situation: Callable[[Situation], None]
) -> None:
    orders = set()
    for seed in SEEDS:
        played = Situation(tmp_path / str(seed), seed)
        situation(played)
        try:
            played.play()
        except Torn as error:
            raise AssertionError(f"seed {seed}: {error}; order: {' '.join(played.baton.order)}") from error
        orders.add(tuple(played.baton.order))
    assert len(orders) > 0.75 * len(SEEDS)
    fault(f"two at once: {situation.__name__.replace('_', ' ')}", len(SEEDS))


def without_a_second_look_by_the_run() -> AbstractContextManager[object]:
    """A run that believes the manifest that it saw before it wrote its record."""

    def made_or_reused(
        run: Run, facts: contract._Facts, make: Callable[[], Manifest], record: Callable[[Manifest, bool], None]
    ) -> tuple[Manifest, bool]:
        found = artifacts.read_manifest(run.store, facts.folder)
        manifest = found or make()
        record(manifest, found is not None)
        return manifest, found is not None

    return patch.object(contract, "_made_or_reused", made_or_reused)


def without_a_second_look_by_the_cleanup() -> AbstractContextManager[object]:
    """A cleanup that believes what it saw before it put the manifests aside."""
    first_look: dict[int, set[str]] = {}
    look = garbage._References.look

    def once(self: garbage._References, roots: list[str]) -> set[str]:
        if id(self) not in first_look:
            first_look[id(self)] = look(self, roots)
        return first_look[id(self)]

    return patch.object(garbage._References, "look", once)


def without_putting_manifests_aside() -> AbstractContextManager[object]:
    """A cleanup that looks twice, but removes the manifest only after it has looked."""

    def remove(self: garbage._Cleaner, folder: garbage._Folder) -> None:
        for found in folder.objects:
            self._store.delete(found.key)

    changed = ExitStack()
    changed.enter_context(patch.object(garbage._Cleaner, "_put_aside", lambda self, folder: None))
    changed.enter_context(patch.object(garbage._Cleaner, "_remove", remove))
    return changed


def without_a_way_back() -> AbstractContextManager[object]:
    """A cleanup that deletes manifests instead of putting them aside."""

    def delete(self: garbage._Cleaner, folder: garbage._Folder) -> None:
        self._store.delete(manifest_key(folder.name))

    return patch.object(garbage._Cleaner, "_put_aside", delete)


def without_records_of_what_is_used() -> AbstractContextManager[object]:
    """Stages that do not say what they work with before they have finished."""
    return patch.object(Run, "write_use", lambda self, manifest, **facts: None)


def without_following_uses() -> AbstractContextManager[object]:
    """A cleanup that takes only what records name for needed."""
    return patch.object(garbage._References, "manifest", lambda self, folder: read_without_uses(self._store, folder))


def read_without_uses(store: Store, folder: str) -> Manifest | None:
    found = read_manifest_now(store, folder)
    return None if found is None else found.model_copy(update={"uses": ()})


def without_conditional_writes() -> AbstractContextManager[object]:
    """A commit that looks, and then writes."""

    def look_then_put(self: Witness, key: str, data: bytes) -> bool:
        if self.get(key) is not None:
            return False
        self.put(key, data)
        return True

    return patch.object(Witness, "put_if_absent", look_then_put)


def without_uploading_before_the_commit() -> AbstractContextManager[object]:
    """An attempt that commits its manifest before its files."""
    uploads = artifacts.Uploads.upload

    def commit(self: artifacts.Attempt, facts: dict[str, object]) -> Manifest:
        entries = {name: entry_of(self, name) for name in self._paths}
        manifest = Manifest.model_validate({**facts, "files": entries})
        self._store.put_if_absent(manifest_key(self._folder), artifacts.sealed(manifest))
        uploads(self._uploads, self._paths)
        return manifest

    def entry_of(attempt: artifacts.Attempt, name: str) -> artifacts.FileEntry:
        path = attempt._paths[name]
        key = f"{attempt._uploads._prefix}/{name}"
        return artifacts.FileEntry(key=key, size=path.stat().st_size, sha256=artifacts.sha256_of(path))

    return patch.object(artifacts.Attempt, "commit", commit)


BROKEN = {
    without_a_second_look_by_the_run: rerun_and_cleanup,
    without_a_second_look_by_the_cleanup: rerun_and_cleanup,
    without_putting_manifests_aside: rerun_and_cleanup,
    without_a_way_back: cleanup_that_dies,
    without_records_of_what_is_used: rerun_and_cleanup,
    without_following_uses: rerun_and_cleanup,
    without_conditional_writes: two_runs,
    without_uploading_before_the_commit: two_runs,
}


@pytest.mark.parametrize("broken", BROKEN)
def test_each_safeguard_is_missed_when_it_is_not_there(
    tmp_path: Path, broken: Callable[[], AbstractContextManager[object]]
) -> None:
    with broken():
        for seed in range(400):
            played = Situation(tmp_path / str(seed), seed)
            BROKEN[broken](played)
            try:
                played.play()
            except Torn:
                return
    raise AssertionError("no order in which it matters was found")
