"""Run addresses, run records, and identities of content outside the store."""

import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import boto3
import pytest

from tests.support.finished import record_of
from zeshel_tasks.errors import ConfigError, CorruptArtifact, DataError
from zeshel_tasks.location import store_location
from zeshel_tasks.store import Attempt, Manifest, Run, Store, open_run, open_store
from zeshel_tasks.store.artifacts import artifact_folder
from zeshel_tasks.store.identity import file_identity, folder_identity


@pytest.fixture
def manifest(store: Store, manifest_facts: dict[str, Any], tmp_path: Path) -> Manifest:
    """The manifest of an artifact that is committed in the store."""
    (tmp_path / "result").write_bytes(b"result")
    attempt = Attempt(store, artifact_folder(manifest_facts["stage"], manifest_facts["fingerprint"]))
    attempt.add("result", tmp_path / "result")
    return attempt.commit(manifest_facts)


@pytest.mark.parametrize(
    ("address", "store", "run_id"),
    [
        ("/data/runs/r1", "/data", "r1"),
        ("/data/runs/r1/", "/data", "r1"),
        ("/runs/r1", "/", "r1"),
        ("/data/deep/runs/runs", "/data/deep", "runs"),
        ("file:///data/runs/r1", "/data", "r1"),
        ("file:///my%20data/runs/r1", "/my data", "r1"),
        ("file:///runs/r1", "/", "r1"),
        ("s3://bucket/a/b/runs/r1", "s3://bucket/a/b", "r1"),
        ("s3://bucket/runs/r1/", "s3://bucket", "r1"),
        (
            "s3://bucket/runs/manual__2026-01-02T03:04:05.678+00:00_Xy",
            "s3://bucket",
            "manual__2026-01-02T03:04:05.678+00:00_Xy",
        ),
    ],
)
def test_run_address_names_store_and_run(address: str, store: str, run_id: str) -> None:
    run = open_run(address)
    assert (run.store.address, run.run_id) == (store, run_id)


def test_run_address_may_be_relative(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert open_run("out/runs/r1").address == f"{tmp_path}/out/runs/r1"
    assert open_run("runs/r1").address == f"{tmp_path}/runs/r1"


def test_relative_address_is_resolved_when_opened(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    run = open_run("runs/r1")
    monkeypatch.chdir("/")
    run.store.put("key", b"x")
    assert (tmp_path / "key").read_bytes() == b"x"


def test_run_address_opens_the_same_run() -> None:
    for address in ("/data/runs/r1", "s3://bucket/a/runs/r1"):
        run = open_run(address)
        assert open_run(run.address).address == run.address


@pytest.mark.parametrize(
    "address",
    [
        *("out/r1", "out", ".", "/", "/data/runs", "/data/runs/", "runs", "/data/runs/..", "/data/runs/r1/report"),
        *("file:///data/r1", "s3://bucket", "s3://bucket/prefix", "s3://bucket/runs/", "s3://runs/r1"),
    ],
)
def test_invalid_run_address_is_refused(address: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    expected = "<store>/runs/<run id>, where <store> is a local path, file:///path or s3://bucket/key"
    with pytest.raises(ConfigError, match=f"^--run: expected {expected}, got '{re.escape(address)}'$"):
        open_run(address)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("address", ["", "http://host/runs/r1", "gs://bucket/runs/r1", "s3://", "s3:///runs/r1",
                                     "s3:/bucket/runs/r1", "file:", "file://host/runs/r1"])  # fmt: skip
@pytest.mark.parametrize("opens", [open_run, open_store])
def test_invalid_store_address_is_refused(
    opens: Callable[[str], object], address: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ConfigError, match=r"expected .*, got "):
        opens(address)
    assert list(tmp_path.iterdir()) == []


def test_record_names_the_artifact_of_its_stage(store: Store, manifest: Manifest) -> None:
    run = Run(store, "r1")
    run.write_record("train-biencoder", manifest, reused=True, wall_seconds=1.23456)
    record = open_run(run.address).record("train-biencoder")
    assert record is not None
    assert record.stage == "train-biencoder"
    assert record.artifact == f"artifacts/train-biencoder/{manifest.fingerprint}"
    assert record.fingerprint == manifest.fingerprint
    assert record.reused is True
    assert record.wall_seconds == 1.235
    assert run.manifest("train-biencoder") == manifest


def test_unfinished_stage_has_no_record(store: Store, tmp_path: Path) -> None:
    run = Run(store, "r1")
    assert run.record("download") is None
    assert run.manifest("download") is None
    with pytest.raises(ConfigError, match="expected a finished stage download, got none: run it first"):
        run.artifact("download", tmp_path / "cache")


def test_record_of_a_removed_artifact_does_not_count(store: Store, manifest: Manifest, tmp_path: Path) -> None:
    run = Run(store, "r1")
    run.write_record("train-biencoder", manifest, reused=False, wall_seconds=1)
    store.delete(f"artifacts/train-biencoder/{manifest.fingerprint}/manifest.json")
    assert run.manifest("train-biencoder") is None
    with pytest.raises(ConfigError, match="run it first"):
        run.artifact("train-biencoder", tmp_path / "cache")


def test_runs_share_artifacts_but_not_records(store: Store, manifest: Manifest, tmp_path: Path) -> None:
    first, second = Run(store, "r1"), Run(store, "r2")
    first.write_record("train-biencoder", manifest, reused=False, wall_seconds=60)
    assert second.record("train-biencoder") is None
    second.write_record("train-biencoder", manifest, reused=True, wall_seconds=1)
    assert record_of(first, "train-biencoder").reused is False
    for run in (first, second):
        assert run.artifact("train-biencoder", tmp_path / run.run_id).path("result").read_bytes() == b"result"


def test_reuse_by_the_same_run_keeps_its_record(store: Store, manifest: Manifest) -> None:
    run, other = Run(store, "r1"), manifest.model_copy(update={"fingerprint": "e" * 64})
    run.write_record("train-biencoder", manifest, reused=False, wall_seconds=60)
    made = record_of(run, "train-biencoder")
    run.write_record("train-biencoder", manifest, reused=True, wall_seconds=1)
    assert record_of(run, "train-biencoder") == made
    run.write_record("train-biencoder", other, reused=True, wall_seconds=1)
    assert record_of(run, "train-biencoder").reused is True
    run.write_record("train-biencoder", other, reused=False, wall_seconds=30)
    assert (record_of(run, "train-biencoder").reused, record_of(run, "train-biencoder").wall_seconds) == (False, 30)


def test_broken_record_is_overwritten(store: Store, manifest: Manifest) -> None:
    store.put("runs/r1/stages/train-biencoder.json", b"{")
    Run(store, "r1").write_record("train-biencoder", manifest, reused=True, wall_seconds=1)
    assert record_of(Run(store, "r1"), "train-biencoder").reused is True


@pytest.mark.parametrize("content", [b"", b"{}", b"not json", b'{"stage": "x", "unknown": 1}'])
def test_unreadable_record_is_refused_by_name(store: Store, content: bytes) -> None:
    store.put("runs/r1/stages/download.json", content)
    with pytest.raises(CorruptArtifact, match=r"download\.json: broken; delete this record") as raised:
        Run(store, "r1").record("download")
    assert f"{store.address}/runs/r1/stages/download.json" in str(raised.value)


def test_publish_writes_to_the_folder_of_the_run(store: Store) -> None:
    Run(store, "r1").publish("report/index.html", b"<html>")
    assert store.get("runs/r1/report/index.html") == b"<html>"


@pytest.fixture(params=["local", "s3"])
def content(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[str, Callable[[str, bytes], None]]:
    """An address, and a function that writes a file below it."""
    if request.param == "local":

        def write(name: str, data: bytes) -> None:
            (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / name).write_bytes(data)

        return str(tmp_path), write
    bucket = request.getfixturevalue("bucket")

    def put(name: str, data: bytes) -> None:
        boto3.client("s3").put_object(Bucket=bucket, Key=name, Body=data)

    return f"s3://{bucket}", put


Content = tuple[str, Callable[[str, bytes], None]]


def folder(address: str) -> str:
    return folder_identity(store_location(address), list)


def file(address: str) -> str:
    return file_identity(store_location(address))


def test_equal_content_has_the_same_identity_at_any_address(content: Content) -> None:
    address, write = content
    for name in ("one", "two/deep"):
        write(f"{name}/config.json", b"{}")
        write(f"{name}/weights", b"w")
    assert folder(f"{address}/one") == folder(f"{address}/two/deep")
    assert file(f"{address}/one/config.json") == file(f"{address}/two/deep/config.json")
    assert folder(f"{address}/one/") == folder(f"{address}/one")


@pytest.mark.parametrize(("name", "data"), [("m/config.json", b"[]"), ("m/new", b"")], ids=["bytes", "file"])
def test_changed_content_has_another_identity(content: Content, name: str, data: bytes) -> None:
    address, write = content
    write("m/config.json", b"{}")
    before = folder(f"{address}/m")
    write(name, data)
    assert folder(f"{address}/m") != before


def test_swapped_files_have_another_identity(content: Content) -> None:
    address, write = content
    for name, (first, second) in {"one": (b"a", b"b"), "two": (b"b", b"a")}.items():
        write(f"{name}/context", first)
        write(f"{name}/candidate", second)
    assert folder(f"{address}/one") != folder(f"{address}/two")


def test_identity_ignores_neighbours_with_the_same_prefix(content: Content) -> None:
    address, write = content
    write("model/config.json", b"{}")
    before = folder(f"{address}/model")
    write("model-large/config.json", b"[]")
    assert folder(f"{address}/model") == before


def test_root_of_a_store_has_an_identity(content: Content) -> None:
    address, write = content
    write("config.json", b"{}")
    assert folder(address) != file(f"{address}/config.json")


def test_identity_of_a_missing_address_raises_data_error(content: Content) -> None:
    address, write = content
    write("folder/file", b"x")
    for identity_of, name, words in (
        (folder, "nothing", "nothing at this address"),
        (file, "nothing", "no file at this address"),
        (file, "folder", "no file at this address"),
    ):
        with pytest.raises(DataError, match=words) as raised:
            identity_of(f"{address}/{name}")
        assert f"{address}/{name}" in str(raised.value)


def test_identity_takes_no_time_for_what_has_no_end(tmp_path: Path) -> None:
    """Airflow asks for identities. A whole disk, a device, a pipe or memory of the system would keep it busy."""
    os.mkfifo(tmp_path / "pipe")
    for address in ("/", "/dev/zero", str(tmp_path / "pipe")):
        with pytest.raises(DataError, match="no file at this address"):
            file(address)
    with (tmp_path / "sparse").open("wb") as sparse:
        sparse.truncate(10**12)
    with pytest.raises(DataError, match="too large; expected at most 100,000,000,000 bytes; got 1,000,000,000,000"):
        file(str(tmp_path / "sparse"))
    (tmp_path / "zero").symlink_to("/dev/zero")
    with pytest.raises(DataError, match="nothing at this address"):
        folder_identity(store_location(str(tmp_path)), lambda names: [name for name in names if name != "sparse"])


def test_open_store_accepts_every_form_of_address(tmp_path: Path) -> None:
    assert open_store(f"file://{tmp_path}").address == str(tmp_path)
    assert open_store(str(tmp_path)).address == str(tmp_path)
    assert open_store("s3://bucket/prefix/").address == "s3://bucket/prefix"


def test_store_address_opens_the_same_store(store: Store) -> None:
    store.put("key", b"content")
    assert open_store(store.address).get("key") == b"content"
