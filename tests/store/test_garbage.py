"""A cleanup removes what no run refers to, and nothing else; one that dies does no harm."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import boto3
import pytest

from tests.faults import Fault
from tests.store.wrapped import AgedStore
from zeshel_tasks.errors import CorruptArtifact, StoreUnavailable, TryAgain
from zeshel_tasks.store import Artifact, Attempt, LocalStore, Manifest, Run, Store, artifact_folder
from zeshel_tasks.store.artifacts import put_aside, read_manifest_now
from zeshel_tasks.store.garbage import Cleanup, clean_up
from zeshel_tasks.store.lock import DEAD_AFTER_MINUTES, LOCK

BEFORE = datetime(2000, 1, 1, tzinfo=UTC)
Commit = Callable[..., Manifest]
Before = Callable[[str, str], None]


@pytest.fixture
def aged(store: Store) -> AgedStore:
    return AgedStore(store)


@pytest.fixture
def commit(tmp_path: Path, manifest_facts: dict[str, Any]) -> Commit:
    """Commits an artifact that uses others."""

    def make(store: Store, fingerprint: str, *uses: Manifest, stage: str = "train-biencoder") -> Manifest:
        path = tmp_path / "work"
        path.unlink(missing_ok=True)  # a local store has it by a hard link
        path.write_text(f"result of {stage} {fingerprint}")
        attempt = Attempt(store, artifact_folder(stage, fingerprint))
        attempt.add("result", path)
        attempt.add("folder/other", path)
        folders = [folder_of(used) for used in uses]
        return attempt.commit({**manifest_facts, "stage": stage, "fingerprint": fingerprint, "uses": folders})

    return make


def folder_of(manifest: Manifest) -> str:
    return artifact_folder(manifest.stage, manifest.fingerprint)


def record(store: Store, run: str, manifest: Manifest) -> None:
    Run(store, run).write_record(manifest.stage, manifest, reused=False, wall_seconds=1)


def everything(store: Store) -> dict[str, bytes | None]:
    return {key: store.get(key) for key in store.keys("")}


def is_whole(store: Store, manifest: Manifest, cache: Path) -> bool:
    """Every file is there, byte for byte."""
    artifact = Artifact(store, folder_of(manifest), manifest, cache)
    return read_manifest_now(store, folder_of(manifest)) == manifest and all(
        artifact.path(name).is_file() for name in manifest.files
    )


def removed_places(done: Cleanup) -> dict[str, str]:
    return {garbage.place: garbage.reason for garbage in done.removed}


def test_what_a_run_refers_to_stays_and_what_none_does_goes(aged: AgedStore, commit: Commit, tmp_path: Path) -> None:
    kept, gone = commit(aged, "a" * 64), commit(aged, "b" * 64)
    record(aged, "r1", kept)
    aged.grow_old()
    size = sum(listed.size for listed in aged.objects(folder_of(gone)))
    kept_size = sum(listed.size for listed in aged.objects(folder_of(kept)))
    done = clean_up(aged, BEFORE)
    assert is_whole(aged, kept, tmp_path / "cache")
    assert list(aged.keys(f"{folder_of(gone)}/")) == []
    assert removed_places(done) == {folder_of(gone): "no run refers to it"}
    assert done.removed[0].size == size
    assert (done.kept, done.kept_bytes) == (1, kept_size)


def test_an_artifact_goes_when_the_last_run_that_refers_to_it_is_gone(aged: AgedStore, commit: Commit) -> None:
    manifest = commit(aged, "a" * 64)
    for run in ("r1", "r2"):
        record(aged, run, manifest)
    aged.grow_old()
    for run, is_there in (("r1", True), ("r2", False)):
        aged.delete(f"runs/{run}/stages/train-biencoder.json")
        clean_up(aged, BEFORE)
        assert (read_manifest_now(aged, folder_of(manifest)) is not None) is is_there


def test_what_is_young_stays(aged: AgedStore, commit: Commit, tmp_path: Path) -> None:
    manifest = commit(aged, "a" * 64)
    aged.put("artifacts/train-biencoder/f/checkpoints/0001/checkpoint.json", b"x")
    assert clean_up(aged, BEFORE).removed == []
    assert is_whole(aged, manifest, tmp_path / "cache")
    assert aged.get("artifacts/train-biencoder/f/checkpoints/0001/checkpoint.json") == b"x"


def test_what_a_kept_artifact_uses_is_kept(aged: AgedStore, commit: Commit, tmp_path: Path) -> None:
    inner = commit(aged, "e" * 64, stage="candidate-encodings")
    middle = commit(aged, "c" * 64, inner, stage="candidate-scores")
    unused = commit(aged, "d" * 64, stage="candidate-encodings")
    record(aged, "r1", commit(aged, "a" * 64, middle))
    aged.grow_old()
    assert removed_places(clean_up(aged, BEFORE)) == {folder_of(unused): "no run refers to it"}
    assert is_whole(aged, inner, tmp_path / "cache")
    assert is_whole(aged, middle, tmp_path / "cache")


def test_what_a_young_artifact_uses_is_kept_before_a_run_refers_to_it(
    aged: AgedStore, commit: Commit, tmp_path: Path
) -> None:
    used = commit(aged, "e" * 64, stage="candidate-encodings")
    aged.grow_old()
    commit(aged, "a" * 64, used)
    assert clean_up(aged, BEFORE).removed == []
    assert is_whole(aged, used, tmp_path / "cache")


def test_what_an_unfinished_stage_works_with_is_kept(aged: AgedStore, commit: Commit, tmp_path: Path) -> None:
    used = commit(aged, "e" * 64, stage="candidate-encodings")
    Run(aged, "r1").write_use(used, reused=True, wall_seconds=0)
    aged.grow_old()
    assert clean_up(aged, BEFORE).removed == []
    assert is_whole(aged, used, tmp_path / "cache")


def test_an_unfinished_artifact_goes_when_nothing_in_it_is_young(aged: AgedStore) -> None:
    folder = "artifacts/train-biencoder/f"
    aged.put(f"{folder}/checkpoints/0001/weights", b"xx")
    aged.grow_old()
    aged.put(f"{folder}/checkpoints/0002/weights", b"yy")
    assert clean_up(aged, BEFORE).removed == []
    assert len(list(aged.keys(folder))) == 2
    aged.grow_old()
    done = clean_up(aged, BEFORE)
    assert removed_places(done) == {folder: "never finished"}
    assert list(aged.keys(folder)) == []


def test_what_an_attempt_left_beside_an_artifact_goes(aged: AgedStore, commit: Commit, tmp_path: Path) -> None:
    manifest = commit(aged, "a" * 64)
    record(aged, "r1", manifest)
    left = f"{folder_of(manifest)}/attempts/other/result"
    aged.put(left, b"left")
    assert clean_up(aged, BEFORE).removed == []
    aged.grow_old()
    done = clean_up(aged, BEFORE)
    assert removed_places(done) == {folder_of(manifest): "left by an attempt"}
    assert done.removed[0].size == len(b"left")
    assert aged.get(left) is None
    assert is_whole(aged, manifest, tmp_path / "cache")


def test_nothing_else_in_the_store_is_touched(aged: AgedStore) -> None:
    others = {"runs/r1/report/index.html": b"1", "artifacts/readme.txt": b"2", "artifacts/a/file": b"3",
              "airflow-logs/a/b/c/log": b"4", "other": b"5"}  # fmt: skip
    for key, data in others.items():
        aged.put(key, data)
    aged.grow_old()
    assert clean_up(aged, BEFORE).removed == []
    assert everything(aged) == others


def test_a_dry_run_says_the_same_and_changes_nothing(aged: AgedStore, commit: Commit) -> None:
    record(aged, "r1", commit(aged, "a" * 64))
    commit(aged, "b" * 64)
    aged.put("artifacts/train-biencoder/f/checkpoints/0001/weights", b"x")
    aged.put(f"artifacts/train-biencoder/{'a' * 64}/attempts/x/left", b"x")
    aged.grow_old()
    before = everything(aged)
    said = clean_up(aged, BEFORE, dry_run=True)
    assert everything(aged) == before
    assert len(said.removed) == 3
    assert clean_up(aged, BEFORE) == said


@pytest.mark.parametrize(
    "broken", ["runs/r1/stages/train-biencoder.json", f"artifacts/train-biencoder/{'a' * 64}/manifest.json"]
)
def test_where_nobody_knows_what_a_run_needs_nothing_is_removed(
    aged: AgedStore, commit: Commit, fault: Fault, broken: str
) -> None:
    record(aged, "r1", commit(aged, "a" * 64))
    commit(aged, "b" * 64)
    aged.put(broken, b"{}")
    fault("cleanup: broken record or manifest")
    aged.grow_old()
    before = everything(aged)
    with pytest.raises(CorruptArtifact, match=f"{broken}: broken"):
        clean_up(aged, BEFORE)
    assert everything(aged) == before


def test_a_broken_manifest_that_no_run_refers_to_goes(aged: AgedStore, commit: Commit) -> None:
    folder = folder_of(commit(aged, "a" * 64))
    aged.put(f"{folder}/manifest.json", b"{")
    aged.grow_old()
    clean_up(aged, BEFORE)
    assert list(aged.keys("artifacts/")) == []


def interferes_at(number: int, act: Callable[[], None]) -> Before:
    """Acts ahead of the operation with this number."""
    count = itertools.count()

    def before(operation: str, key: str) -> None:
        if next(count) == number:
            act()

    return before


class Killed(BaseException):
    """The process is gone: from here on it does nothing more."""


def kills_at(number: int) -> Before:
    count = itertools.count()

    def before(operation: str, key: str) -> None:
        if next(count) >= number:
            raise Killed

    return before


def raises_once_at(number: int) -> Before:
    def act() -> None:
        raise StoreUnavailable("the store does not answer")

    return interferes_at(number, act)


@pytest.mark.parametrize("store", ["local"], indirect=True)
@pytest.mark.parametrize("interference", [kills_at, raises_once_at])
def test_a_cleanup_that_dies_anywhere_is_finished_by_the_next(
    aged: AgedStore,
    commit: Commit,
    tmp_path: Path,
    fault: Fault,
    interference: Callable[[int], Before],
) -> None:
    """At each operation in turn; meanwhile a run comes to refer to one of the artifacts that were to go."""
    seen = set()
    for number in itertools.count():
        kept, gone, reused = (commit(aged, letter * 64) for letter in "abc")
        record(aged, "r1", kept)
        aged.grow_old()
        aged.before = interference(number)
        died = False
        try:
            clean_up(aged, BEFORE)
        except (Killed, StoreUnavailable):
            died = True
        aged.before = lambda operation, key: None
        record(aged, "r2", reused)
        folder = folder_of(reused)
        is_there = (read_manifest_now(aged, folder) or put_aside(aged, folder)) is not None
        aged.delete(LOCK)
        aged.grow_old()
        clean_up(aged, BEFORE)
        assert is_whole(aged, kept, tmp_path / "cache")
        assert list(aged.keys(f"{folder_of(gone)}/")) == []
        assert not is_there or is_whole(aged, reused, tmp_path / "cache")
        seen.add(is_there)
        aged.delete("runs/r2/stages/train-biencoder.json")
        if not died:
            break
        fault(f"cleanup: {'killed' if interference is kills_at else 'a store that fails once'}")
    assert number > 20
    assert seen == {True, False}


@pytest.mark.parametrize("store", ["local"], indirect=True)
def test_a_run_that_begins_to_reuse_at_any_moment_keeps_its_artifact_or_finds_it_gone(
    aged: AgedStore, commit: Commit, tmp_path: Path
) -> None:
    """The record is written ahead of each operation in turn; then the run looks whether the manifest is there."""
    outcomes = set()
    for number in itertools.count():
        manifest = commit(aged, "a" * 64)
        aged.grow_old()
        acted = []

        def reuse(manifest: Manifest = manifest, acted: list[bool] = acted) -> None:
            record(aged.inner, "r1", manifest)
            acted.append(read_manifest_now(aged.inner, folder_of(manifest)) is not None)

        aged.before = interferes_at(number, reuse)
        clean_up(aged, BEFORE)
        aged.before = lambda operation, key: None
        if not acted:
            break
        if acted[0]:
            assert is_whole(aged, manifest, tmp_path / "cache")
        outcomes.add((acted[0], read_manifest_now(aged, folder_of(manifest)) is not None))
        aged.delete("runs/r1/stages/train-biencoder.json")
        for key in list(aged.keys("artifacts/")):
            aged.delete(key)
    # Seen and spared; put back, though the run had seen it gone; gone, and the run knows.
    assert outcomes == {(True, True), (False, True), (False, False)}


def test_two_cleanups_do_not_meet(aged: AgedStore, commit: Commit) -> None:
    commit(aged, "a" * 64)
    aged.grow_old()
    refused = []

    def second() -> None:
        aged.before = lambda operation, key: None
        with pytest.raises(TryAgain, match=rf"{LOCK}: another cleanup is at work, last seen 0 minutes ago") as raised:
            clean_up(aged, BEFORE)
        refused.append(raised)

    aged.before = interferes_at(4, second)
    clean_up(aged, BEFORE)
    assert refused
    assert list(aged.keys("")) == []


def test_a_dead_cleanups_lock_is_taken_over(
    aged: AgedStore, commit: Commit, caplog: pytest.LogCaptureFixture, fault: Fault
) -> None:
    commit(aged, "a" * 64)
    aged.put(LOCK, b"of a dead one")
    aged.grow_old()
    fault("cleanup: a lock that a dead one left")
    clean_up(aged, BEFORE)
    assert "taking over from a cleanup that was last seen" in caplog.text
    assert list(aged.keys("")) == []
    assert DEAD_AFTER_MINUTES * 60 > 15 * 60


def test_a_cleanup_whose_lock_was_taken_stops_before_it_removes(
    aged: AgedStore, commit: Commit, tmp_path: Path
) -> None:
    manifest = commit(aged, "a" * 64)
    aged.grow_old()

    def takes_over() -> None:
        aged.inner.put(LOCK, b"of another one")

    aged.before = interferes_at(3, takes_over)
    with pytest.raises(TryAgain, match="another cleanup has taken over"):
        clean_up(aged, BEFORE)
    assert is_whole(aged, manifest, tmp_path / "cache")
    assert aged.get(LOCK) == b"of another one"


@pytest.fixture
def begun_upload(request: pytest.FixtureRequest, store: Store, tmp_path: Path) -> Callable[[str], None]:
    """Begins to write an object and dies."""

    def begin(key: str) -> None:
        if isinstance(store, LocalStore):
            path = (tmp_path / "store" / key).with_name(".unfinished-0123")
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(b"half")
        else:
            client, place = (
                boto3.client("s3"),
                {"Bucket": request.getfixturevalue("bucket"), "Key": f"some/prefix/{key}"},
            )
            upload = client.create_multipart_upload(**place)["UploadId"]
            client.upload_part(**place, UploadId=upload, PartNumber=1, Body=b"half")

    return begin


def test_uploads_that_never_ended_go_when_they_are_old(
    aged: AgedStore, begun_upload: Callable[[str], None], fault: Fault
) -> None:
    begun_upload("artifacts/train-biencoder/f/attempts/x/model")
    fault("cleanup: an upload that never ended")
    assert len(list(aged.unfinished("artifacts/"))) == 1
    assert clean_up(aged, BEFORE).removed == []
    assert len(list(aged.unfinished("artifacts/"))) == 1
    aged.grow_old()
    done = clean_up(aged, BEFORE)
    assert [garbage.reason for garbage in done.removed] == ["an upload that did not end"]
    assert done.removed[0].size == len(b"half")
    assert list(aged.unfinished("artifacts/")) == []
