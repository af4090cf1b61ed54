"""Files of a folder are linked once, whenever the process is killed."""

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from pydantic import BaseModel

from tests.support.faults import Fault
from zeshel_tasks.errors import DataError, TryAgain
from zeshel_tasks.link_files import shards
from zeshel_tasks.link_files.counts import LinkedCounts
from zeshel_tasks.link_files.shards import ShardRecord, file_at, finished_counts, link_shards, shard_names
from zeshel_tasks.location import LocalPath, StoreLocation, store_location
from zeshel_tasks.store import LocalStore
from zeshel_tasks.store.checksummed import checksummed, read_checksummed

SETTINGS = {"models": "m1", "settings": "{}"}


class Earlier(BaseModel):
    """A record as an earlier version wrote it."""

    made_from: dict[str, str]
    content: str


class Killed(BaseException):
    """As SIGKILL, no code handles it."""


class Worker:
    """Links files by reversing them, and counts its steps. Dies before a step."""

    def __init__(self, dies_at: int | None = None) -> None:
        self.linked: list[str] = []
        self.steps, self._dies_at = 0, dies_at

    def step(self) -> None:
        if self.steps == self._dies_at:
            raise Killed
        self.steps += 1

    def link(self, given: Path, name: str, made: Path) -> LinkedCounts:
        data = given.read_bytes()[::-1]
        made.write_bytes(data[:2])
        self.step()
        made.write_bytes(data)
        self.step()
        self.linked.append(Path(name).name)
        return LinkedCounts(lines=1, mentions=2, nil=1)


@pytest.fixture
def source(tmp_path: Path) -> StoreLocation:
    for number in range(3):
        path = tmp_path / "in" / f"{number}.jsonl"
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(b'{"text": "%d"}\n' % number)
    (tmp_path / "in" / "notes.txt").touch()
    return store_location(str(tmp_path / "in"))


@pytest.fixture
def s3_folders(bucket: str, source: StoreLocation) -> tuple[StoreLocation, StoreLocation]:
    assert isinstance(source, LocalPath)
    given = store_location(f"s3://{bucket}/in/")
    for path in source.path.iterdir():
        shards.store_at(given).upload(path, path.name)
    return given, store_location(f"s3://{bucket}/out/")


def run(
    source: StoreLocation, target: StoreLocation, folder: Path, worker: Worker, settings: dict[str, str] = SETTINGS
) -> list[str]:
    scratch = folder / "scratch"
    shutil.rmtree(scratch, ignore_errors=True)
    scratch.mkdir()
    return list(link_shards(source, target, shard_names(source), settings, worker.link, scratch))


def content(target: StoreLocation) -> dict[str, bytes | None]:
    store = shards.store_at(target)
    return {key: store.get(key) for key in store.keys("")}


def kills(monkeypatch: pytest.MonkeyPatch, worker: Worker) -> None:
    """The worker also dies before and after each write of the store."""
    for name in ("upload", "put"):
        original: Callable[..., None] = getattr(LocalStore, name)

        def dying(self: LocalStore, *arguments: object, original: Callable[..., None] = original) -> None:
            worker.step()
            original(self, *arguments)
            worker.step()

        monkeypatch.setattr(LocalStore, name, dying)


def test_killed_at_any_step_and_run_again_it_writes_the_same_bytes(
    source: StoreLocation, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fault: Fault
) -> None:
    expected = store_location(str(tmp_path / "expected"))
    whole = Worker()
    with monkeypatch.context() as patched:
        kills(patched, whole)
        assert run(source, expected, tmp_path, whole) == ["0.jsonl", "1.jsonl", "2.jsonl"]
    assert whole.steps == 3 * 6
    fault("linking: killed between two steps", whole.steps)
    for dies_at in range(whole.steps):
        target = store_location(str(tmp_path / f"killed-{dies_at}"))
        dying = Worker(dies_at)
        with monkeypatch.context() as patched:
            kills(patched, dying)
            with pytest.raises(Killed):
                run(source, target, tmp_path, dying)
        again = Worker()
        run(source, target, tmp_path, again)
        assert content(target) == content(expected)
        finished = (dies_at + 1) // 6  # the last step is after the record
        assert again.linked == [f"{number}.jsonl" for number in range(finished, 3)]


def test_what_is_finished_is_left_as_it_is(source: StoreLocation, tmp_path: Path) -> None:
    assert isinstance(source, LocalPath)
    target = store_location(str(tmp_path / "out"))
    run(source, target, tmp_path, Worker())
    for change in ("nothing", "input", "output", "record", "settings"):
        settings = SETTINGS
        if change == "input":
            (source.path / "1.jsonl").write_bytes(b'{"text": "new"}\n')
        elif change == "output":
            (tmp_path / "out" / "1.jsonl").unlink()
        elif change == "record":
            (tmp_path / "out" / "finished" / "1.jsonl.json").write_bytes(b"{")
        elif change == "settings":
            settings = {**SETTINGS, "models": "m2"}
        worker = Worker()
        run(source, target, tmp_path, worker, settings)
        everything = [f"{number}.jsonl" for number in range(3)]
        assert worker.linked == {"nothing": [], "settings": everything}.get(change, ["1.jsonl"]), change
    assert content(target)["1.jsonl"] == b'{"text": "new"}\n'[::-1]


def test_record_of_an_earlier_version_has_no_counts_and_its_file_is_linked_again(
    source: StoreLocation, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    target = store_location(str(tmp_path / "out"))
    run(source, target, tmp_path, Worker())
    store = shards.store_at(target)
    record = read_checksummed(store, "finished/1.jsonl.json", ShardRecord, "")
    assert record is not None
    store.put("finished/1.jsonl.json", checksummed(Earlier(made_from=record.made_from, content=record.content)))
    assert finished_counts(source, target, "1.jsonl", SETTINGS) is None
    worker = Worker()
    run(source, target, tmp_path, worker)
    assert worker.linked == ["1.jsonl"]
    assert [record for record in caplog.records if record.levelname != "INFO"] == []
    assert finished_counts(source, target, "1.jsonl", SETTINGS) == LinkedCounts(lines=1, mentions=2, nil=1)


def test_folders_may_be_prefixes_of_s3(s3_folders: tuple[StoreLocation, StoreLocation], tmp_path: Path) -> None:
    source, target = s3_folders
    for expected in (["0.jsonl", "1.jsonl", "2.jsonl"], []):
        worker = Worker()
        run(source, target, tmp_path, worker)
        assert worker.linked == expected
        assert not any((tmp_path / "scratch").iterdir())  # else it would hold all files in the end
    assert content(target)["0.jsonl"] == b'{"text": "0"}\n'[::-1]


def test_an_input_that_changes_while_it_is_read_is_refused(source: StoreLocation, tmp_path: Path) -> None:
    def link(given: Path, name: str, made: Path) -> LinkedCounts:
        made.touch()
        given.write_bytes(b"changed")
        return LinkedCounts()

    def tried() -> Iterator[str]:
        return link_shards(source, store_location(str(tmp_path / "out")), ["0.jsonl"], SETTINGS, link, tmp_path)

    with pytest.raises(TryAgain, match=r"0.jsonl has changed while it was read"):
        list(tried())


def test_a_folder_without_files_to_link_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"nothing to link; expected files whose names end with \.jsonl"):
        shard_names(store_location(str(tmp_path)))


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    file = file_at(store_location(str(tmp_path / "missing.jsonl")))
    with pytest.raises(DataError, match=r"missing.jsonl: no file at this address"):
        file.fetched(tmp_path)
    assert file_at(store_location("s3://bucket/a/b.jsonl")).location.name == "s3://bucket/a/b.jsonl"
