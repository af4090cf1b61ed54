"""The cache of huggingface_hub in states that users reported: damaged, read-only, of another program."""

from __future__ import annotations

import errno
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.download.hub_server import FILES, READ, HubServer, fill, hash_of, model
from tests.support.faults import Fault
from zeshel_tasks.download.hub import cached, snapshot_of
from zeshel_tasks.errors import ConfigError
from zeshel_tasks.store import LocalStore

COMMIT = "a" * 40


def fill_and_damage(cache: Path, links: bool) -> None:
    fill(cache, {name: FILES[name] for name in READ}, COMMIT, links=links)
    (cache / "snapshots" / COMMIT / "vocab.txt").write_bytes(b"")


def test_processes_fill_an_empty_cache_at_once(hub: HubServer, store: LocalStore, cache: Path) -> None:
    """As pods do that share a volume: chart value `stages.hubCache`."""
    snapshot, together = snapshot_of(model(), store), 8
    start = threading.Barrier(together)

    def fill_it(_: int) -> dict[str, bytes]:
        start.wait(timeout=60)
        folder = cached(model(), snapshot)
        return {name: (folder / name).read_bytes() for name in READ}

    with ThreadPoolExecutor(together) as pool:
        found = list(pool.map(fill_it, range(together)))
    assert found == [{name: FILES[name] for name in READ}] * together
    assert (cache / "refs" / "main").read_text() == COMMIT
    assert sorted(path.name for path in (cache / "blobs").iterdir()) == sorted(snapshot.files.values())


@pytest.mark.parametrize("links", [True, False])
def test_damaged_file_is_downloaded_again(
    hub: HubServer, store: LocalStore, cache: Path, links: bool, fault: Fault
) -> None:
    fill_and_damage(cache, links)
    folder = cached(model(), snapshot_of(model(), store))
    assert {name: (folder / name).read_bytes() for name in READ} == {name: FILES[name] for name in READ}
    assert [request.path.rpartition("/")[2] for request in hub.requests][1:] == ["vocab.txt"]
    fault("download: the cache is damaged")


def test_damaged_file_is_refused_offline(
    hub: HubServer, store: LocalStore, cache: Path, monkeypatch: pytest.MonkeyPatch, fault: Fault
) -> None:
    fill_and_damage(cache, links=True)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(ConfigError, match=r"expected vocab\.txt in the cache .*, got none, or damaged ones$"):
        cached(model(), snapshot_of(model(), store))
    fault("download: the cache is damaged")


def test_complete_cache_is_used_offline_without_a_warning(
    hub: HubServer, store: LocalStore, cache: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    fill(cache, {name: FILES[name] for name in READ}, COMMIT)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    assert cached(model(), snapshot_of(model(), store)) == cache / "snapshots" / COMMIT
    assert [record for record in caplog.records if record.levelname == "WARNING"] == []


def parts_of_another_download(cache: Path) -> None:
    fill(cache, {}, COMMIT)
    (cache.parent / ".locks" / cache.name).mkdir(parents=True)
    blob = cache / "blobs" / hash_of("config.json", FILES["config.json"])
    (cache.parent / ".locks" / cache.name / f"{blob.name}.lock").touch()
    blob.with_name(f"{blob.name}.incomplete").write_bytes(b"{")


def links_to_nothing(cache: Path) -> None:
    fill(cache, {name: FILES[name] for name in READ}, COMMIT)
    for blob in (cache / "blobs").iterdir():
        blob.unlink()


@pytest.mark.parametrize("leave", [parts_of_another_download, links_to_nothing])
def test_remains_of_other_downloads_do_not_matter(
    hub: HubServer, store: LocalStore, cache: Path, leave: Callable[[Path], None]
) -> None:
    leave(cache)
    folder = cached(model(), snapshot_of(model(), store))
    assert {name: (folder / name).read_bytes() for name in READ} == {name: FILES[name] for name in READ}


def is_a_file(cache: Path) -> None:
    cache.parent.mkdir(parents=True)
    cache.write_text("a file")


def has_a_file_for_snapshots(cache: Path) -> None:
    cache.mkdir(parents=True)
    (cache / "snapshots").write_text("a file")


def has_a_file_for_refs(cache: Path) -> None:
    cache.mkdir(parents=True)
    (cache / "refs").write_text("a file")


def has_a_folder_for_a_file(cache: Path) -> None:
    (cache / "snapshots" / COMMIT / "config.json").mkdir(parents=True)


def links_to_itself(cache: Path) -> None:
    cache.parent.mkdir(parents=True)
    cache.symlink_to(cache.name)


def has_blobs_elsewhere(cache: Path) -> None:
    cache.mkdir(parents=True)
    (cache / "blobs").symlink_to("/no/such/folder")


@pytest.mark.parametrize(
    "break_it",
    [
        is_a_file,
        has_a_file_for_snapshots,
        has_a_file_for_refs,
        has_a_folder_for_a_file,
        links_to_itself,
        has_blobs_elsewhere,
    ],
)
def test_cache_that_cannot_be_written_is_a_config_error(
    hub: HubServer, store: LocalStore, cache: Path, break_it: Callable[[Path], None], fault: Fault
) -> None:
    break_it(cache)
    with pytest.raises(ConfigError, match=r"^HF_HUB_CACHE or HF_HOME: expected a writable folder, got: "):
        cached(model(), snapshot_of(model(), store))
    fault("download: the cache is damaged")


def test_full_disk_is_not_a_wrong_cache(
    hub: HubServer, store: LocalStore, monkeypatch: pytest.MonkeyPatch, fault: Fault
) -> None:
    found = snapshot_of(model(), store)

    def full(path: Path) -> None:
        raise OSError(errno.ENOSPC, "No space left on device", str(path))

    monkeypatch.setattr(Path, "touch", full)
    with pytest.raises(OSError, match="No space left"):  # which the command line turns into exit 75
        cached(model(), found)
    fault("download: the cache is damaged")
