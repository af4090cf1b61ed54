"""The interface of a store, tested on the local store, on S3 and on the in-memory store of other tests."""

import os
import random
import threading
import time
import uuid
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest

from zeshel_tasks.errors import ConfigError, TryAgain
from zeshel_tasks.store import Store

pytestmark = pytest.mark.parametrize("store", ["local", "s3", "memory"], indirect=True)

ALL_BYTES = bytes(range(256)) * 3 + b"\r\n\x00\xff"


def in_threads(*actions: Callable[[], None]) -> None:
    """Runs all actions at once, waits for them, and raises an exception of one of them."""
    start, failures = threading.Barrier(len(actions)), []

    def run(action: Callable[[], None]) -> None:
        start.wait()
        try:
            action()
        except Exception as error:
            failures.append(error)

    threads = [threading.Thread(target=run, args=(action,)) for action in actions]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if failures:
        raise failures[0]


def test_object_is_read_back_byte_for_byte(store: Store) -> None:
    store.put("a/object.bin", ALL_BYTES)
    assert store.get("a/object.bin") == ALL_BYTES


def test_empty_object_is_not_missing(store: Store) -> None:
    store.put("empty", b"")
    assert store.get("empty") == b""
    assert store.get("missing") is None


def test_folder_is_not_an_object(store: Store) -> None:
    store.put("folder/object", b"x")
    assert store.get("folder") is None
    assert store.get("folder/object/below") is None


def test_put_replaces_an_existing_object(store: Store) -> None:
    store.put("key", b"a longer first version")
    store.put("key", b"second")
    assert store.get("key") == b"second"


def test_put_if_absent_writes_once(store: Store) -> None:
    assert store.put_if_absent("key", b"first") is True
    assert store.put_if_absent("key", b"second") is False
    assert store.get("key") == b"first"


def test_put_if_absent_writes_again_after_delete(store: Store) -> None:
    store.put_if_absent("key", b"first")
    store.delete("key")
    assert store.put_if_absent("key", b"second") is True
    assert store.get("key") == b"second"


def test_put_if_unchanged_replaces_only_the_version_read(store: Store) -> None:
    store.put("key", b"first")
    found = store.get_version("key")
    assert found is not None
    data, version = found
    assert data == b"first"
    assert store.put_if_unchanged("key", b"second", version) is True
    assert store.put_if_unchanged("key", b"third", version) is False
    assert store.get("key") == b"second"


def test_put_if_unchanged_does_not_recreate_a_deleted_object(store: Store) -> None:
    store.put("key", b"first")
    found = store.get_version("key")
    assert found is not None
    store.delete("key")
    assert store.put_if_unchanged("key", b"second", found[1]) is False
    assert store.get_version("key") is None


def test_one_of_racing_put_if_unchanged_calls_wins(store: Store) -> None:
    store.put("key", b"")
    for _ in range(20):
        found = store.get_version("key")
        assert found is not None
        won: dict[bytes, bool] = {}

        def attempt(name: bytes, version: str = found[1], won: dict[bytes, bool] = won) -> None:
            won[name] = store.put_if_unchanged("key", name, version)

        names = [uuid.uuid4().bytes for _ in range(4)]
        in_threads(*(partial(attempt, name) for name in names))
        assert sorted(won.values()) == [False, False, False, True]
        stored = store.get("key")
        assert stored is not None
        assert won[stored]


def test_one_of_racing_put_if_absent_calls_wins(store: Store) -> None:
    for round_number in range(40):
        key = f"round/{round_number}"
        won: dict[bytes, bool] = {}

        def attempt(name: bytes, key: str = key, won: dict[bytes, bool] = won) -> None:
            won[name] = store.put_if_absent(key, name)

        in_threads(*(lambda name=name: attempt(name) for name in (b"one", b"two", b"three")))
        winners = [name for name, first in won.items() if first]
        assert [store.get(key)] == winners


@pytest.mark.parametrize("size", [0, 1, 100_000, (16 << 20) + 1], ids=["empty", "byte", "small", "in parts"])
def test_uploaded_file_is_read_back_byte_for_byte(store: Store, tmp_path: Path, size: int) -> None:
    path = tmp_path / "file"
    path.write_bytes(random.Random(size).randbytes(size))
    store.upload(path, "models/file")
    copy = store.local_copy("models/file", tmp_path / "cache" / "deep" / "copy")
    assert copy is not None
    assert copy.read_bytes() == path.read_bytes()


def test_upload_replaces_an_existing_object(store: Store, tmp_path: Path) -> None:
    store.put("key", b"old")
    (tmp_path / "new").write_bytes(b"new")
    store.upload(tmp_path / "new", "key")
    assert store.get("key") == b"new"


def test_uploaded_file_survives_deletion_of_its_source(store: Store, tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.write_bytes(b"content")
    store.upload(source, "key")
    source.unlink()
    assert store.get("key") == b"content"


def test_upload_follows_symlinks(store: Store, tmp_path: Path) -> None:
    (tmp_path / "blob").write_bytes(b"content")
    (tmp_path / "link").symlink_to(tmp_path / "blob")
    store.upload(tmp_path / "link", "key")
    (tmp_path / "blob").unlink()
    assert store.get("key") == b"content"


def test_local_copy_of_a_missing_object_is_none(store: Store, tmp_path: Path) -> None:
    assert store.local_copy("missing", tmp_path / "copy") is None
    assert not (tmp_path / "copy").exists()


def test_keys_are_in_lexical_order(store: Store) -> None:
    for key in ("b", "a/z", "a/b/c", "a-b", "a.b", "aa", "B", "a/10", "a/9"):
        store.put(key, b"x")
    assert list(store.keys("")) == ["B", "a-b", "a.b", "a/10", "a/9", "a/b/c", "a/z", "aa", "b"]


@pytest.mark.parametrize(
    ("prefix", "expected"),
    [
        ("a/", ["a/1", "a/2/x"]),
        ("a", ["a/1", "a/2/x", "ab/1"]),
        ("a/2/x", ["a/2/x"]),
        ("nothing/here", []),
        ("a/1/", []),
    ],
)
def test_keys_are_filtered_by_prefix(store: Store, prefix: str, expected: list[str]) -> None:
    for key in ("a/1", "a/2/x", "ab/1", "b/1"):
        store.put(key, b"x")
    assert list(store.keys(prefix)) == expected


def test_listing_spans_several_pages(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MOTO_S3_DEFAULT_MAX_KEYS", "10")  # size of a page; S3's own is 1,000
    expected = [f"many/{number:04}" for number in range(25)]
    for key in expected:
        store.put(key, b"")
    assert list(store.keys("many/")) == expected


def test_delete_removes_only_its_object(store: Store) -> None:
    store.put("a/b/one", b"1")
    store.put("a/two", b"2")
    store.delete("a/b/one")
    assert store.get("a/b/one") is None
    assert list(store.keys("")) == ["a/two"]


def test_delete_of_a_missing_object_is_no_error(store: Store) -> None:
    store.delete("never/was")


def test_delete_all_removes_only_its_objects(store: Store) -> None:
    for key in ("a/one", "a/two", "a/three"):
        store.put(key, b"x")
    store.delete_all(["a/one", "a/missing", "a/two"])
    store.delete_all([])
    assert list(store.keys("")) == ["a/three"]


def test_empty_store_has_no_objects(store: Store) -> None:
    assert list(store.keys("")) == []
    assert store.get("a") is None


def test_failed_upload_leaves_no_object(store: Store, tmp_path: Path) -> None:
    with pytest.raises((TryAgain, OSError)):
        store.upload(tmp_path / "no such file", "folder/key")
    assert store.get("folder/key") is None
    assert list(store.keys("")) == []


def test_readers_never_see_a_partial_object(store: Store, tmp_path: Path) -> None:
    versions = [bytes([number]) * 200_000 for number in range(2)]
    for number, version in enumerate(versions):
        (tmp_path / str(number)).write_bytes(version)
    store.put("object", versions[0])
    finished, seen = threading.Event(), []

    def write() -> None:
        try:
            for turn in range(30):
                store.put("object", versions[turn % 2])
                store.upload(tmp_path / str(turn % 2), "object")
        finally:
            finished.set()

    def read() -> None:
        while not finished.is_set():
            seen.append((store.get("object"), tuple(store.keys(""))))

    in_threads(write, read)
    assert seen
    assert all(data in versions and keys == ("object",) for data, keys in seen)


def test_concurrent_writes_and_deletes_in_one_folder_are_independent(store: Store) -> None:
    def write_and_delete(name: str) -> None:
        for turn in range(30):
            store.put(f"folder/{name}", str(turn).encode())
            assert store.get(f"folder/{name}") == str(turn).encode()
            store.delete(f"folder/{name}")
            assert f"folder/{name}" not in list(store.keys("folder/"))

    in_threads(lambda: write_and_delete("one"), lambda: write_and_delete("two"))


@pytest.mark.parametrize(
    "key", ["", "/absolute", "../outside", "a/../../b", "a//b", "a/", "./a", "a\x00b", "a\nb", "x" * 256, "\ud800"]
)
def test_invalid_key_is_refused(store: Store, tmp_path: Path, key: str) -> None:
    (tmp_path / "file").write_bytes(b"x")
    for use in (
        store.get,
        store.delete,
        lambda key: store.put(key, b"x"),
        lambda key: store.put_if_absent(key, b"x"),
        lambda key: store.upload(tmp_path / "file", key),
        lambda key: store.local_copy(key, tmp_path / "copy"),
    ):
        with pytest.raises(ConfigError, match="store key: expected a "):
            use(key)
    assert list(store.keys("")) == []


@pytest.mark.parametrize("prefix", ["/etc/", "../", "a/../../"])
def test_prefix_outside_the_store_is_refused(store: Store, prefix: str) -> None:
    with pytest.raises(ConfigError, match="store key"):
        list(store.keys(prefix))


def test_listing_has_size_age_and_version(store: Store) -> None:
    store.put("a/one", b"12345")
    first = next(store.objects("a/"))
    assert (first.key, first.size) == ("a/one", 5)
    assert abs(first.modified - time.time()) < 60
    store.put("a/one", b"54321")
    second = next(store.objects("a/"))
    assert second.version != first.version
    assert next(store.objects("a/")) == second


def test_upload_sets_the_modification_time(store: Store, tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"x")
    os.utime(path, (0, 0))
    store.upload(path, "key")
    assert abs(next(store.objects("key")).modified - time.time()) < 60


def test_finished_writes_leave_nothing_unfinished(store: Store, tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"x")
    store.upload(path, "a/key")
    store.put("a/other", b"x")
    store.put_if_absent("a/third", b"x")
    assert list(store.unfinished("a/")) == []
