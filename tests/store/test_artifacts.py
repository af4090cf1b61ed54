"""The artifact contract: the manifest commits an artifact, and files are verified when they are read."""

import hashlib
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.store.s3_proxy import Answer, Forward, Request, refusal
from zeshel_tasks.errors import ConfigError, CorruptArtifact, StoreUnavailable
from zeshel_tasks.store import Artifact, Attempt, LocalStore, Manifest, Store, artifact_folder, fingerprint
from zeshel_tasks.store.artifacts import read_manifest, sha256_of
from zeshel_tasks.store.s3 import S3Store

FOLDER = artifact_folder("train-biencoder", "f" * 64)
FILES = {"curve.jsonl": b'{"step": 1}\n', "model/config.json": b"{}", "model/tower/weights.bin": bytes(range(256))}


@pytest.fixture
def commit(tmp_path: Path, manifest_facts: dict[str, Any]) -> Callable[..., Manifest]:
    """A function that commits an attempt with these files."""

    def make(store: Store, files: dict[str, bytes] = FILES, folder: str = FOLDER) -> Manifest:
        attempt = Attempt(store, folder)
        for number, (name, data) in enumerate(files.items()):
            path = tmp_path / f"work-{threading.get_ident()}-{number}"
            path.unlink(missing_ok=True)
            path.write_bytes(data)
            attempt.add(name, path)
        return attempt.commit(manifest_facts)

    return make


def stored_keys(store: Store) -> list[str]:
    return list(store.keys("artifacts/"))


def opened(store: Store, manifest: Manifest, cache: Path) -> Artifact:
    return Artifact(store, FOLDER, manifest, cache)


def test_committed_files_are_read_back_byte_for_byte(
    store: Store, commit: Callable[..., Manifest], tmp_path: Path
) -> None:
    commit(store)
    manifest = read_manifest(store, FOLDER)
    assert manifest is not None
    artifact = opened(store, manifest, tmp_path / "cache")
    assert {name: artifact.path(name).read_bytes() for name in manifest.files} == FILES
    assert "curve.jsonl" in artifact
    assert "other" not in artifact


def test_manifest_records_all_facts_and_files(
    store: Store, commit: Callable[..., Manifest], manifest_facts: dict[str, Any]
) -> None:
    returned, stored = commit(store), read_manifest(store, FOLDER)
    assert stored == returned
    assert stored.model_dump(exclude={"files"}) == manifest_facts
    assert {name: entry.size for name, entry in stored.files.items()} == {n: len(data) for n, data in FILES.items()}


def test_nothing_is_stored_before_commit(store: Store, tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"x")
    Attempt(store, FOLDER).add("file", tmp_path / "file")
    assert stored_keys(store) == []


def test_interrupted_upload_leaves_no_usable_artifact(
    store: Store, commit: Callable[..., Manifest], tmp_path: Path, manifest_facts: dict[str, Any]
) -> None:
    (tmp_path / "first").write_bytes(b"first")
    attempt = Attempt(store, FOLDER)
    attempt.add("first", tmp_path / "first")
    attempt.add("second", tmp_path / "never written")
    with pytest.raises((OSError, StoreUnavailable)):
        attempt.commit(manifest_facts)
    assert len(stored_keys(store)) == 1, "the first file is there, and counts for nothing"
    assert read_manifest(store, FOLDER) is None
    commit(store)
    artifact = opened(store, commit(store), tmp_path / "cache")
    assert artifact.path("curve.jsonl").read_bytes() == FILES["curve.jsonl"]
    assert "first" not in artifact


def test_failed_manifest_write_leaves_no_manifest(
    behind_proxy: Callable[..., S3Store], commit: Callable[..., Manifest]
) -> None:
    def dies_at_the_manifest(request: Request, forward: Forward) -> Answer:
        return refusal(500, "InternalError") if request.path.endswith("manifest.json") else forward(request)

    store = behind_proxy(dies_at_the_manifest)
    with pytest.raises(StoreUnavailable, match=r"manifest\.json"):
        commit(store)
    keys = stored_keys(store)
    assert len(keys) == len(FILES)
    assert not any(key.endswith("manifest.json") for key in keys)


def test_manifest_is_written_after_all_files(
    behind_proxy: Callable[..., S3Store], commit: Callable[..., Manifest]
) -> None:
    written = []

    def notes(request: Request, forward: Forward) -> Answer:
        if request.method == "PUT" and "probe" not in request.path:
            written.append(request.path.rpartition("/")[2])
        return forward(request)

    commit(behind_proxy(notes))
    assert sorted(written[:-1]) == ["config.json", "curve.jsonl", "weights.bin"]
    assert written[-1] == "manifest.json"


def test_second_commit_discards_its_files_and_returns_the_first(
    store: Store, commit: Callable[..., Manifest], tmp_path: Path
) -> None:
    first = commit(store, {"result": b"first"})
    second = commit(store, {"result": b"second", "more": b"x"})
    assert second == first
    assert stored_keys(store) == sorted([f"{FOLDER}/manifest.json", f"{FOLDER}/{first.files['result'].key}"])
    assert opened(store, second, tmp_path / "cache").path("result").read_bytes() == b"first"


def test_racing_commits_return_the_same_manifest(store: Store, commit: Callable[..., Manifest], tmp_path: Path) -> None:
    for turn in range(8):
        folder, start = f"artifacts/race/{turn}", threading.Barrier(2)
        results: dict[str, Manifest] = {}

        def attempt(
            name: str, folder: str = folder, results: dict[str, Manifest] = results, start: threading.Barrier = start
        ) -> None:
            start.wait()
            results[name] = commit(store, {"result": name.encode(), "model/weights": b"w"}, folder)

        threads = [threading.Thread(target=attempt, args=(name,)) for name in ("one", "two")]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert results["one"] == results["two"] == read_manifest(store, folder)
        kept = [f"{folder}/{entry.key}" for entry in results["one"].files.values()]
        assert list(store.keys(f"{folder}/")) == sorted([*kept, f"{folder}/manifest.json"])
        artifact = Artifact(store, folder, results["one"], tmp_path / "cache")
        assert artifact.path("result").read_bytes() in (b"one", b"two")


def test_commit_keeps_its_files_if_the_answer_is_lost(
    behind_proxy: Callable[..., S3Store],
    commit: Callable[..., Manifest],
    aws_environment: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    lost: list[int] = []

    def loses_an_answer(request: Request, forward: Forward) -> Answer:
        answer = forward(request)
        if request.method == "PUT" and request.path.endswith("manifest.json") and not lost:
            lost.append(answer.status)
            return refusal(500, "InternalError")
        return answer

    aws_environment.setenv("AWS_MAX_ATTEMPTS", "3")
    store = behind_proxy(loses_an_answer)
    manifest = commit(store)
    assert lost == [200]
    artifact = opened(store, manifest, tmp_path / "cache")
    assert {name: artifact.path(name).read_bytes() for name in manifest.files} == FILES


def damage(store: Store, key: str, data: bytes | None) -> None:
    store.delete(key)
    if data is not None:
        store.put(key, data)


DAMAGES: dict[str, tuple[Callable[[bytes], bytes | None], str]] = {
    "a flipped bit": (lambda data: bytes([data[0] ^ 1]) + data[1:], "differs from what was committed"),
    "truncated": (lambda data: data[:-1], "differs from what was committed"),
    "longer": (lambda data: data + b"x", "differs from what was committed"),
    "emptied": (lambda data: b"", "differs from what was committed"),
    "missing": (lambda data: None, "missing from the store"),
}


@pytest.mark.parametrize("kind", DAMAGES)
def test_damaged_object_raises_an_error_that_names_it(
    store: Store, commit: Callable[..., Manifest], tmp_path: Path, kind: str
) -> None:
    manifest = commit(store)
    key = f"{FOLDER}/{manifest.files['model/tower/weights.bin'].key}"
    change, words = DAMAGES[kind]
    damage(store, key, change(FILES["model/tower/weights.bin"]))
    artifact = opened(store, manifest, tmp_path / "cache")
    reads: list[tuple[Callable[[str], Path], str]] = [
        (artifact.path, "model/tower/weights.bin"),
        (artifact.directory, "model"),
    ]
    for read, name in reads:
        with pytest.raises(CorruptArtifact, match=words) as raised:
            read(name)
        assert f"{store.address}/{key}" in str(raised.value)
    assert artifact.path("curve.jsonl").read_bytes() == FILES["curve.jsonl"], "the others are still good"


def test_damaged_cached_copy_is_fetched_again(bucket: str, commit: Callable[..., Manifest], tmp_path: Path) -> None:
    store = S3Store(bucket, "")
    manifest = commit(store)
    copy = opened(store, manifest, tmp_path / "cache").path("curve.jsonl")
    copy.write_bytes(b"spoiled     \n")
    again = opened(store, manifest, tmp_path / "cache")
    assert again.path("curve.jsonl").read_bytes() == FILES["curve.jsonl"]


def test_damaged_cached_copy_does_not_hide_a_damaged_object(
    bucket: str, commit: Callable[..., Manifest], tmp_path: Path
) -> None:
    store = S3Store(bucket, "")
    manifest = commit(store)
    opened(store, manifest, tmp_path / "cache").path("curve.jsonl").write_bytes(b"stale")
    damage(store, f"{FOLDER}/{manifest.files['curve.jsonl'].key}", b"damaged")
    with pytest.raises(CorruptArtifact, match="differs from what was committed"):
        opened(store, manifest, tmp_path / "cache").path("curve.jsonl")


def test_intact_cached_copy_is_not_fetched_again(bucket: str, commit: Callable[..., Manifest], tmp_path: Path) -> None:
    store = S3Store(bucket, "")
    manifest = commit(store)
    opened(store, manifest, tmp_path / "cache").path("curve.jsonl")
    store.delete(f"{FOLDER}/{manifest.files['curve.jsonl'].key}")
    assert opened(store, manifest, tmp_path / "cache").path("curve.jsonl").read_bytes() == FILES["curve.jsonl"]


def test_uncommitted_file_or_directory_is_refused(
    store: Store, commit: Callable[..., Manifest], tmp_path: Path
) -> None:
    artifact = opened(store, commit(store), tmp_path / "cache")
    with pytest.raises(CorruptArtifact, match="no such file was committed"):
        artifact.path("pytorch_model.bin")
    with pytest.raises(CorruptArtifact, match="no such directory was committed"):
        artifact.directory("mod")


def test_directory_contains_all_files_below_it(store: Store, commit: Callable[..., Manifest], tmp_path: Path) -> None:
    artifact = opened(store, commit(store), tmp_path / "cache")
    model = artifact.directory("model")
    found = {path.relative_to(model).as_posix(): path.read_bytes() for path in model.rglob("*") if path.is_file()}
    assert found == {"config.json": b"{}", "tower/weights.bin": bytes(range(256))}
    assert artifact.directory("model/tower") == model / "tower"


def test_add_directory_includes_subfolders(store: Store, tmp_path: Path, manifest_facts: dict[str, Any]) -> None:
    (tmp_path / "out" / "deep").mkdir(parents=True)
    (tmp_path / "out" / "a").write_bytes(b"a")
    (tmp_path / "out" / "deep" / "b").write_bytes(b"b")
    attempt = Attempt(store, FOLDER)
    attempt.add_directory("data", tmp_path / "out")
    artifact = opened(store, attempt.commit(manifest_facts), tmp_path / "cache")
    assert artifact.path("data/a").read_bytes() == b"a"
    assert artifact.path("data/deep/b").read_bytes() == b"b"


@pytest.mark.parametrize("content", [b"", b"{}", b'{"stage": "x"', b"\xff\xfe", b"[]", b'{"stage": 1, "extra": 2}'])
def test_broken_manifest_is_refused_by_name(store: Store, content: bytes) -> None:
    store.put(f"{FOLDER}/manifest.json", content)
    with pytest.raises(
        CorruptArtifact, match=r"manifest\.json: broken; delete this manifest to run the stage again"
    ) as raised:
        read_manifest(store, FOLDER)
    assert f"{store.address}/{FOLDER}/manifest.json" in str(raised.value)


def test_commit_to_a_file_as_store_raises_config_error(tmp_path: Path, commit: Callable[..., Manifest]) -> None:
    (tmp_path / "file").write_bytes(b"not a directory")
    with pytest.raises(ConfigError, match="expected a directory"):
        commit(LocalStore(tmp_path / "file"))


IDENTITY: dict[str, Any] = {
    "stage": "train-biencoder",
    "split": None,
    "version": "1.0",
    "config": {"seed": 1, "learning_rate": 1e-5},
    "inputs": {"convert": "abc", "bert_model": "hub:x"},
}


@pytest.mark.parametrize(
    "change",
    [
        {"stage": "train-crossencoder"},
        {"split": "test"},
        {"version": "1.1"},
        {"config": {"seed": 2, "learning_rate": 1e-5}},
        {"config": {"seed": 1}},
        {"config": {"seed": "1", "learning_rate": 1e-5}},
        {"inputs": {"convert": "abd", "bert_model": "hub:x"}},
        {"inputs": {"convert": "hub:x", "bert_model": "abc"}},
        {"inputs": {"convert": "abc"}},
    ],
)
def test_each_part_changes_the_fingerprint(change: dict[str, Any]) -> None:
    assert fingerprint(**IDENTITY) != fingerprint(**{**IDENTITY, **change})


def test_hash_of_a_file_of_the_system_ends() -> None:
    """It has no size, like /proc/self/pagemap, which has no end."""
    assert Path("/proc/version").read_bytes()
    assert sha256_of(Path("/proc/version")) == hashlib.sha256().hexdigest()


def test_order_of_settings_and_inputs_does_not_change_the_fingerprint() -> None:
    reversed_order = {name: dict(reversed(IDENTITY[name].items())) for name in ("config", "inputs")}
    assert fingerprint(**{**IDENTITY, **reversed_order}) == fingerprint(**IDENTITY)


def test_fingerprint_is_the_sha256_of_sorted_json() -> None:
    text = (
        b'{"config": {"learning_rate": 1e-05, "seed": 1}, "inputs": {"bert_model": "hub:x", "convert": "abc"}, '
        b'"split": null, "stage": "train-biencoder", "version": "1.0"}'
    )
    assert fingerprint(**IDENTITY) == hashlib.sha256(text).hexdigest()
