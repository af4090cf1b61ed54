"""Which runs a cleanup removes, and that it does no harm to one that is resumed."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.store.cleanups import BEFORE, MakeArtifact, folder_of, is_whole, record
from tests.store.wrapped import AgedStore, WrappedStore
from zeshel_tasks.champion.champions import champion_folders
from zeshel_tasks.store import LocalStore, Run, Store
from zeshel_tasks.store.artifacts import read_manifest_now
from zeshel_tasks.store.base import StoredObject
from zeshel_tasks.store.garbage import clean_up
from zeshel_tasks.store.retention import Retention

LAST = {"r1": [10.0, 50.0], "r2": [20.0], "r3": [30.0, 5.0], "r4": [40.0], "r5": [1000.0, 1.0]}
"""When the objects of each run were written, in seconds since 1970."""


def nothing(store: Store) -> set[str]:
    return set()


class DatedStore(WrappedStore):
    """A store whose listing has the times of ``LAST``."""

    def objects(self, prefix: str) -> Iterator[StoredObject]:
        for found in super().objects(prefix):
            run_id, _, name = found.key.removeprefix("runs/").partition("/stages/")
            yield found._replace(modified=LAST[run_id][int(name.removesuffix(".json"))] if name else 0.0)


@pytest.fixture
def runs(tmp_path: Path) -> DatedStore:
    store = DatedStore(LocalStore(tmp_path))
    for run_id, times in LAST.items():
        for number in range(len(times)):
            store.put(f"runs/{run_id}/stages/{number}.json", b"{}")
    store.put("runs/notes.txt", b"of no run")
    return store


@pytest.mark.parametrize(
    ("keep", "lineage", "limit", "removed"),
    [
        (0, set(), 100, ["r2", "r3", "r4", "r1"]),
        (2, set(), 100, ["r2", "r3", "r4"]),
        (2, {"r3", "gone"}, 100, ["r2", "r4"]),
        (0, set(), 35, ["r2", "r3"]),
        (9, set(), 100, []),
    ],
)
def test_last_change_of_a_run_decides(
    runs: DatedStore, keep: int, lineage: set[str], limit: float, removed: list[str]
) -> None:
    old = Retention(keep, lambda store: lineage).old_runs(runs, limit)
    assert [run.run_id for run in old] == removed
    assert all(len(run.objects) == len(LAST[run.run_id]) for run in old)


def test_run_that_is_resumed_during_a_cleanup_stays(
    aged: AgedStore, make_artifact: MakeArtifact, tmp_path: Path
) -> None:
    resumed, other = make_artifact(aged, "a" * 64), make_artifact(aged, "b" * 64)
    record(aged, "r1", resumed)
    record(aged, "r2", other)
    aged.grow_old()

    def resume(operation: str, key: str) -> None:
        if operation == "unfinished":  # the last thing that a cleanup asks before it removes anything
            Run(aged, "r1").write_record(resumed.stage, resumed, reused=False, wall_seconds=2)

    aged.before = resume
    done = clean_up(aged, BEFORE, roots=champion_folders, retention=Retention(0, nothing))
    assert {garbage.place for garbage in done.removed} == {"runs/r2", folder_of(other)}
    assert is_whole(aged, resumed, tmp_path / "cache")
    assert [key for key in aged.keys("runs/") if "/r1/" in key]
    assert read_manifest_now(aged, folder_of(other)) is None


def test_cleanup_that_died_after_the_runs_is_finished_by_the_next(aged: AgedStore, make_artifact: MakeArtifact) -> None:
    record(aged, "r1", make_artifact(aged, "a" * 64))
    aged.grow_old()

    def die(operation: str, key: str) -> None:
        if operation == "put" and key.endswith("manifest.removed.json"):
            raise KeyboardInterrupt

    aged.before = die
    with pytest.raises(KeyboardInterrupt):
        clean_up(aged, BEFORE, roots=champion_folders, retention=Retention(0, nothing))
    aged.before = lambda operation, key: None
    assert list(aged.keys("runs/")) == []
    clean_up(aged, BEFORE, roots=champion_folders)
    assert list(aged.keys("")) == []
