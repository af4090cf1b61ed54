"""A cleanup removes only artifacts that no run refers to, and does no harm if it dies."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Callable, Collection, Iterator
from pathlib import Path

import boto3
import pytest

from tests.store.cleanups import BEFORE, MakeArtifact, everything, folder_of, is_whole, record
from tests.store.wrapped import AgedStore
from tests.support.faults import Fault
from zeshel_tasks.champion.champions import champion_folders
from zeshel_tasks.errors import CorruptArtifact
from zeshel_tasks.store import LocalStore, Run, Store
from zeshel_tasks.store.artifacts import read_manifest_now
from zeshel_tasks.store.base import StoredObject
from zeshel_tasks.store.garbage import LINKS, Cleanup, clean_up
from zeshel_tasks.store.s3 import S3Store


def removed_places(done: Cleanup) -> dict[str, str]:
    return {garbage.place: garbage.reason for garbage in done.removed}


def test_cleanup_removes_only_unreferenced_artifacts(
    aged: AgedStore, make_artifact: MakeArtifact, tmp_path: Path
) -> None:
    kept, gone = make_artifact(aged, "a" * 64), make_artifact(aged, "b" * 64)
    record(aged, "r1", kept)
    aged.grow_old()
    size = sum(listed.size for listed in aged.objects(folder_of(gone)))
    kept_size = sum(listed.size for listed in aged.objects(folder_of(kept)))
    done = clean_up(aged, BEFORE, roots=champion_folders)
    assert is_whole(aged, kept, tmp_path / "cache")
    assert list(aged.keys(f"{folder_of(gone)}/")) == []
    assert removed_places(done) == {folder_of(gone): "no run refers to it"}
    assert done.removed[0].size == size
    assert (done.kept, done.kept_bytes) == (1, kept_size)


def test_artifact_is_removed_once_no_run_refers_to_it(aged: AgedStore, make_artifact: MakeArtifact) -> None:
    manifest = make_artifact(aged, "a" * 64)
    for run in ("r1", "r2"):
        record(aged, run, manifest)
    aged.grow_old()
    for run, is_there in (("r1", True), ("r2", False)):
        aged.delete(f"runs/{run}/stages/train-biencoder.json")
        clean_up(aged, BEFORE, roots=champion_folders)
        assert (read_manifest_now(aged, folder_of(manifest)) is not None) is is_there


@pytest.mark.parametrize("is_old", [False, True])
def test_plan_of_a_link_run_is_removed_once_it_is_old(aged: AgedStore, is_old: bool) -> None:
    plan = f"{LINKS}manual__2026/plan.json"
    aged.put(plan, b"{}")
    if is_old:
        aged.grow_old()
    done = clean_up(aged, BEFORE, roots=champion_folders)
    assert removed_places(done) == ({plan: "plan of a link run"} if is_old else {})
    assert (aged.get(plan) is None) is is_old


def test_young_objects_are_kept(aged: AgedStore, make_artifact: MakeArtifact, tmp_path: Path) -> None:
    manifest = make_artifact(aged, "a" * 64)
    aged.put("artifacts/train-biencoder/f/checkpoints/0001/checkpoint.json", b"x")
    assert clean_up(aged, BEFORE, roots=champion_folders).removed == []
    assert is_whole(aged, manifest, tmp_path / "cache")
    assert aged.get("artifacts/train-biencoder/f/checkpoints/0001/checkpoint.json") == b"x"


def test_artifacts_used_by_a_kept_one_are_kept(aged: AgedStore, make_artifact: MakeArtifact, tmp_path: Path) -> None:
    inner = make_artifact(aged, "e" * 64, stage="candidate-encodings")
    middle = make_artifact(aged, "c" * 64, inner, stage="candidate-scores")
    unused = make_artifact(aged, "d" * 64, stage="candidate-encodings")
    record(aged, "r1", make_artifact(aged, "a" * 64, middle))
    aged.grow_old()
    assert removed_places(clean_up(aged, BEFORE, roots=champion_folders)) == {folder_of(unused): "no run refers to it"}
    assert is_whole(aged, inner, tmp_path / "cache")
    assert is_whole(aged, middle, tmp_path / "cache")


def test_artifacts_used_by_a_young_one_are_kept(aged: AgedStore, make_artifact: MakeArtifact, tmp_path: Path) -> None:
    used = make_artifact(aged, "e" * 64, stage="candidate-encodings")
    aged.grow_old()
    make_artifact(aged, "a" * 64, used)
    assert clean_up(aged, BEFORE, roots=champion_folders).removed == []
    assert is_whole(aged, used, tmp_path / "cache")


def test_artifacts_used_by_an_unfinished_stage_are_kept(
    aged: AgedStore, make_artifact: MakeArtifact, tmp_path: Path
) -> None:
    used = make_artifact(aged, "e" * 64, stage="candidate-encodings")
    Run(aged, "r1").write_use(used, reused=True, wall_seconds=0)
    aged.grow_old()
    assert clean_up(aged, BEFORE, roots=champion_folders).removed == []
    assert is_whole(aged, used, tmp_path / "cache")


def test_unfinished_artifact_is_removed_when_all_its_objects_are_old(aged: AgedStore) -> None:
    folder = "artifacts/train-biencoder/f"
    aged.put(f"{folder}/checkpoints/0001/weights", b"xx")
    aged.grow_old()
    aged.put(f"{folder}/checkpoints/0002/weights", b"yy")
    assert clean_up(aged, BEFORE, roots=champion_folders).removed == []
    assert len(list(aged.keys(folder))) == 2
    aged.grow_old()
    done = clean_up(aged, BEFORE, roots=champion_folders)
    assert removed_places(done) == {folder: "never finished"}
    assert list(aged.keys(folder)) == []


def test_leftovers_of_a_lost_attempt_are_removed(aged: AgedStore, make_artifact: MakeArtifact, tmp_path: Path) -> None:
    manifest = make_artifact(aged, "a" * 64)
    record(aged, "r1", manifest)
    left = f"{folder_of(manifest)}/attempts/other/result"
    aged.put(left, b"left")
    assert clean_up(aged, BEFORE, roots=champion_folders).removed == []
    aged.grow_old()
    done = clean_up(aged, BEFORE, roots=champion_folders)
    assert removed_places(done) == {folder_of(manifest): "left by an attempt"}
    assert done.removed[0].size == len(b"left")
    assert aged.get(left) is None
    assert is_whole(aged, manifest, tmp_path / "cache")


def test_objects_outside_artifact_folders_are_kept(aged: AgedStore) -> None:
    others = {"runs/r1/report/index.html": b"1", "artifacts/readme.txt": b"2", "artifacts/a/file": b"3",
              "airflow-logs/a/b/c/log": b"4", "other": b"5"}  # fmt: skip
    for key, data in others.items():
        aged.put(key, data)
    aged.grow_old()
    assert clean_up(aged, BEFORE, roots=champion_folders).removed == []
    assert everything(aged) == others


def test_dry_run_reports_the_same_and_removes_nothing(aged: AgedStore, make_artifact: MakeArtifact) -> None:
    record(aged, "r1", make_artifact(aged, "a" * 64))
    make_artifact(aged, "b" * 64)
    aged.put("artifacts/train-biencoder/f/checkpoints/0001/weights", b"x")
    aged.put(f"artifacts/train-biencoder/{'a' * 64}/attempts/x/left", b"x")
    aged.grow_old()
    before = everything(aged)
    said = clean_up(aged, BEFORE, roots=champion_folders, dry_run=True)
    assert everything(aged) == before
    assert len(said.removed) == 3
    assert clean_up(aged, BEFORE, roots=champion_folders) == said


@pytest.mark.parametrize(
    "broken", ["runs/r1/stages/train-biencoder.json", f"artifacts/train-biencoder/{'a' * 64}/manifest.json"]
)
def test_cleanup_removes_nothing_if_a_record_or_manifest_is_broken(
    aged: AgedStore, make_artifact: MakeArtifact, fault: Fault, broken: str
) -> None:
    record(aged, "r1", make_artifact(aged, "a" * 64))
    make_artifact(aged, "b" * 64)
    aged.put(broken, b"{}")
    fault("cleanup: broken record or manifest")
    aged.grow_old()
    before = everything(aged)
    with pytest.raises(CorruptArtifact, match=f"{broken}: broken"):
        clean_up(aged, BEFORE, roots=champion_folders)
    assert everything(aged) == before


def test_unreferenced_artifact_with_broken_manifest_is_removed(aged: AgedStore, make_artifact: MakeArtifact) -> None:
    folder = folder_of(make_artifact(aged, "a" * 64))
    aged.put(f"{folder}/manifest.json", b"{")
    aged.grow_old()
    clean_up(aged, BEFORE, roots=champion_folders)
    assert list(aged.keys("artifacts/")) == []


@pytest.fixture
def begun_upload(request: pytest.FixtureRequest, store: Store, tmp_path: Path) -> Callable[[str], None]:
    """A function that starts to write an object and dies."""

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


def test_old_unfinished_uploads_are_removed(aged: AgedStore, begun_upload: Callable[[str], None], fault: Fault) -> None:
    begun_upload("artifacts/train-biencoder/f/attempts/x/model")
    fault("cleanup: an upload that never ended")
    assert len(list(aged.unfinished("artifacts/"))) == 1
    assert clean_up(aged, BEFORE, roots=champion_folders).removed == []
    assert len(list(aged.unfinished("artifacts/"))) == 1
    aged.grow_old()
    done = clean_up(aged, BEFORE, roots=champion_folders)
    assert [garbage.reason for garbage in done.removed] == ["unfinished upload"]
    assert done.removed[0].size == len(b"half")
    assert list(aged.unfinished("artifacts/")) == []


@pytest.mark.parametrize("store", ["s3"], indirect=True)
def test_probe_of_a_killed_process_is_removed(aged: AgedStore, monkeypatch: pytest.MonkeyPatch, fault: Fault) -> None:
    with monkeypatch.context() as killed:
        killed.setattr(S3Store, "delete", lambda self, key: None)
        aged.put_if_absent("key", b"x")
    fault("cleanup: a probe that was never deleted")
    assert len(list(aged.keys(""))) == 2
    aged.grow_old()
    clean_up(aged, BEFORE, roots=champion_folders)
    assert list(aged.keys("")) == ["key"]


class Shuffled(AgedStore):
    """A store whose listings are in no order and miss some objects, as those of S3 Express or of a stale index."""

    missed: Collection[str] = ()

    def objects(self, prefix: str) -> Iterator[StoredObject]:
        found = [listed for listed in super().objects(prefix) if listed.key not in self.missed]
        return iter(sorted(found, key=lambda listed: hashlib.sha256(listed.key.encode()).digest()))


@pytest.mark.parametrize("store", ["memory"], indirect=True)
def test_cleanup_needs_no_order_of_the_listing(store: Store, make_artifact: MakeArtifact, tmp_path: Path) -> None:
    shuffled = Shuffled(store)
    kept = [make_artifact(shuffled, letter * 64) for letter in "abcd"]
    gone = [make_artifact(shuffled, letter * 64) for letter in "ef"]
    for number, manifest in enumerate(kept):
        record(shuffled, f"r{number}", manifest)
    shuffled.grow_old()
    done = clean_up(shuffled, BEFORE, roots=champion_folders)
    assert removed_places(done) == {folder_of(manifest): "no run refers to it" for manifest in gone}
    assert len(done.removed) == len(gone)
    assert all(is_whole(shuffled, manifest, tmp_path / "cache") for manifest in kept)
    assert len(list(shuffled.keys("artifacts/"))) == 3 * len(kept)


@pytest.mark.parametrize("store", ["memory"], indirect=True)
@pytest.mark.parametrize("is_referred", [True, False])
def test_folder_is_kept_if_the_listing_misses_its_manifest(
    store: Store, make_artifact: MakeArtifact, tmp_path: Path, is_referred: bool
) -> None:
    incomplete = Shuffled(store)
    manifest = make_artifact(incomplete, "a" * 64)
    if is_referred:
        record(incomplete, "r1", manifest)
    incomplete.grow_old()
    incomplete.missed = [f"{folder_of(manifest)}/manifest.json"]
    assert clean_up(incomplete, BEFORE, roots=champion_folders).removed == []
    assert is_whole(incomplete, manifest, tmp_path / "cache")


@pytest.mark.parametrize("store", ["memory"], indirect=True)
def test_files_of_a_referred_folder_are_kept_without_its_manifest(aged: AgedStore, make_artifact: MakeArtifact) -> None:
    manifest = make_artifact(aged, "a" * 64)
    record(aged, "r1", manifest)
    aged.delete(f"{folder_of(manifest)}/manifest.json")
    aged.grow_old()
    before = everything(aged)
    assert clean_up(aged, BEFORE, roots=champion_folders).removed == []
    assert everything(aged) == before


@pytest.mark.parametrize("store", ["memory"], indirect=True)
def test_many_records_and_manifests_are_read_at_once(store: Store, make_artifact: MakeArtifact) -> None:
    manifests = [make_artifact(store, f"{number:064}") for number in range(40)]
    for number, manifest in enumerate(manifests):
        record(store, f"r{number}", manifest)
    together, waited = threading.Barrier(4), list[int]()

    def waits_for_others(operation: str, key: str) -> None:
        if operation == "get" and key.endswith(".json") and threading.current_thread() is not threading.main_thread():
            waited.append(together.wait(timeout=60))

    aged = AgedStore(store, waits_for_others)
    aged.grow_old()
    assert clean_up(aged, BEFORE, roots=champion_folders).kept == 40
    assert len(waited) == 80, "each record and each manifest"


@pytest.mark.parametrize("store", ["memory"], indirect=True)
def test_error_of_one_of_many_reads_ends_the_cleanup(store: Store, make_artifact: MakeArtifact) -> None:
    for number in range(40):
        record(store, f"r{number}", make_artifact(store, f"{number:064}"))
    store.put("runs/r7/stages/train-biencoder.json", b"{}")
    aged = AgedStore(store)
    aged.grow_old()
    before = everything(aged)
    with pytest.raises(CorruptArtifact, match=r"runs/r7/stages/train-biencoder.json: broken"):
        clean_up(aged, BEFORE, roots=champion_folders)
    assert everything(aged) == before
