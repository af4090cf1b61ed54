"""The scores of a store's runs, even if some runs are broken or unfinished."""

import logging
import shutil
from pathlib import Path

import pytest

from tests.support.finished import manifest_of
from zeshel_tasks.report.history import past_runs
from zeshel_tasks.store import LocalStore, Run


@pytest.fixture
def store(finished_run: Run, tmp_path: Path) -> LocalStore:
    """A store that has only the finished run, without the runs of other tests."""
    for folder in ("artifacts", "runs/first"):
        shutil.copytree(Path(finished_run.store.address) / folder, tmp_path / "store" / folder)
    return LocalStore(tmp_path / "store")


def again(store: LocalStore, name: str) -> None:
    """Adds a run with the same records."""
    for key in list(store.keys("runs/first/stages/")):
        store.put(key.replace("/first/", f"/{name}/"), store.get(key) or b"")


def test_latest_runs_come_last(store: LocalStore, finished_run: Run) -> None:
    for name in ("b", "a", "c"):
        again(store, name)
    assert [run.run for run in past_runs(store, 10)] == ["first", "b", "a", "c"]
    assert [run.run for run in past_runs(store, 2)] == ["a", "c"]
    assert past_runs(store, 0) == []
    found, accuracy = past_runs(store, 1)[0], manifest_of(finished_run, "fuse").metrics["splits"]["test"]["linker"]
    recall = manifest_of(finished_run, "eval-biencoder-test").metrics["recall"]["micro"]
    assert found.unnormalized_accuracy == accuracy["unnormalized_accuracy"]["micro"]
    assert (found.mentions, found.recall_at_1) == (accuracy["mentions"], recall["1"])
    assert found.recall_at_top_k == recall["100"]


def test_run_without_evaluation_is_left_out(store: LocalStore) -> None:
    store.put("runs/early/stages/convert.json", store.get("runs/first/stages/convert.json") or b"")
    assert [run.run for run in past_runs(store, 10)] == ["first"]


def test_broken_run_is_left_out_with_warning(store: LocalStore, caplog: pytest.LogCaptureFixture) -> None:
    again(store, "broken")
    store.put("runs/broken/stages/eval-crossencoder-test.json", b"{")
    with caplog.at_level(logging.WARNING, logger="zeshel_tasks"):
        assert [run.run for run in past_runs(store, 10)] == ["first"]
    assert "run broken is left out of the history" in caplog.text


def test_run_of_earlier_version_shows_its_crossencoder(store: LocalStore, finished_run: Run) -> None:
    again(store, "earlier")
    store.delete("runs/earlier/stages/fuse.json")
    (found,) = (run for run in past_runs(store, 10) if run.run == "earlier")
    accuracy = manifest_of(finished_run, "eval-crossencoder-test").metrics["unnormalized_accuracy"]["micro"]
    assert found.unnormalized_accuracy == accuracy


def test_run_with_deleted_artifacts_is_left_out(store: LocalStore) -> None:
    again(store, "second")
    record = Run(store, "first").record("eval-biencoder-test")
    assert record is not None
    store.delete(f"{record.artifact}/manifest.json")
    assert past_runs(store, 10) == []
