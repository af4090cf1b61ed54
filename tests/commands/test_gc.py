"""``zeshel gc``: its output, its errors, and that it keeps the results of runs."""

from __future__ import annotations

import json
import shutil
from collections import Counter
from pathlib import Path

import pytest

from tests.store.wrapped import AgedStore
from tests.support.finished import STEPS
from zeshel_tasks.champion import champions
from zeshel_tasks.cli import main
from zeshel_tasks.commands import gc
from zeshel_tasks.config.stages import Recipe
from zeshel_tasks.errors import EXIT_CONFIG, EXIT_DATA, EXIT_TRY_AGAIN
from zeshel_tasks.pipeline.contract import run_stage
from zeshel_tasks.store import LocalStore, Run, open_run
from zeshel_tasks.store.lock import LOCK


@pytest.fixture
def store(finished_run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AgedStore:
    """A copy of a store with one finished run that is old."""
    shutil.copytree(Path(finished_run.store.address), tmp_path / "store")
    aged = AgedStore(LocalStore(tmp_path / "store"))
    aged.grow_old()
    monkeypatch.setattr(gc, "open_store", lambda address: aged)
    return aged


def shown(size: int) -> str:
    return f"{size / 1e6:,.1f} MB" if size >= 1e6 else f"{size / 1e3:,.1f} kB"


def collect(store: AgedStore, *flags: str) -> int:
    return main(["gc", "--store", store.address, "--older-than", "30d", *flags])


def test_artifacts_of_a_run_are_kept_and_reusable(
    store: AgedStore, small_recipe: Recipe, capsys: pytest.CaptureFixture[str]
) -> None:
    before = set(store.keys(""))
    assert collect(store) == 0
    assert set(store.keys("")) == before
    assert "removed 0.0 kB; " in capsys.readouterr().out
    for stage, split in STEPS:
        run_stage(stage, f"{store.address}/runs/next", small_recipe, split)
        record = open_run(f"{store.address}/runs/next").record(stage.name_for(split))
        assert record is not None
        assert record.reused


def test_artifacts_without_a_run_are_listed_then_removed(store: AgedStore, capsys: pytest.CaptureFixture[str]) -> None:
    for key in [*store.keys("runs/"), champions.KEY]:
        store.delete(key)
    before = {listed.key: listed.size for listed in store.objects("artifacts/")}
    assert collect(store, "--dry-run") == 0
    listed = capsys.readouterr().out.splitlines()
    assert {found.key for found in store.objects("artifacts/")} == set(before)
    sizes: Counter[str] = Counter()
    for key, size in before.items():
        sizes["/".join(key.split("/")[:3])] += size
    assert [line.split() for line in listed[:-1]] == [
        ["1970-01-01", *shown(sizes[folder]).split(), folder, "no", "run", "refers", "to", "it"]
        for folder in sorted(sizes)
    ]
    assert listed[-1] == f"would remove {shown(sizes.total())}; 0 artifacts of 0.0 kB stay"
    assert collect(store) == 0
    removed = capsys.readouterr().out.splitlines()
    assert [line.replace("would remove", "removed") for line in listed] == removed
    assert list(store.keys("")) == []


def test_encodings_used_by_a_kept_evaluation_are_kept(store: AgedStore) -> None:
    """Even if the run that made them was deleted and another run has only reused the evaluation."""
    record = Run(store, "first").record("eval-biencoder-test")
    assert record is not None
    kept = json.dumps(json.loads(store.get("runs/first/stages/eval-biencoder-test.json") or b""))
    for key in [*store.keys("runs/"), champions.KEY]:
        store.delete(key)
    store.put("runs/other/stages/eval-biencoder-test.json", kept.encode())
    manifest = Run(store, "other").manifest("eval-biencoder-test")
    assert manifest is not None
    assert {folder.split("/")[1] for folder in manifest.uses} == {"candidate-encodings"}
    assert collect(store) == 0
    assert {"/".join(key.split("/")[:3]) for key in store.keys("artifacts/")} == {record.artifact, *manifest.uses}


def test_champion_model_is_kept_without_its_run(store: AgedStore) -> None:
    champion = champions.read_champions(store).champion
    assert champion is not None
    for key in list(store.keys("runs/")):
        store.delete(key)
    assert collect(store) == 0
    kept = {"/".join(key.split("/")[:3]) for key in store.keys("artifacts/")}
    assert kept == set(champion.folders)
    assert len(kept) == 5


def copy_run(store: AgedStore, run_id: str) -> None:
    for key in list(store.keys("runs/first/")):
        store.put(key.replace("/first/", f"/{run_id}/", 1), store.get(key) or b"")


def runs_in(store: AgedStore) -> set[str]:
    return {key.split("/")[1] for key in store.keys("runs/")}


def test_old_runs_are_removed_but_not_the_newest_and_those_of_champions(
    store: AgedStore, capsys: pytest.CaptureFixture[str]
) -> None:
    """All old runs are equally old, so their names decide which are the newest."""
    for run_id in ("a", "b", "c"):
        copy_run(store, run_id)
    store.grow_old()
    copy_run(store, "young")
    everything = {"first", "a", "b", "c", "young"}
    assert collect(store) == 0
    assert runs_in(store) == everything
    capsys.readouterr()
    assert collect(store, "--keep-runs", "3", "--dry-run") == 0
    listed = capsys.readouterr().out
    assert runs_in(store) == everything
    assert [line.split()[3:] for line in listed.splitlines()[:-1]] == [
        ["runs/a", "old", "run"],
        ["runs/b", "old", "run"],
    ]
    assert collect(store, "--keep-runs", "3") == 0
    assert capsys.readouterr().out == listed.replace("would remove", "removed")
    assert runs_in(store) == {"first", "c", "young"}
    assert collect(store, "--keep-runs", "0") == 0
    assert runs_in(store) == {"first", "young"}


def test_artifacts_of_a_removed_run_are_removed_at_once(store: AgedStore, capsys: pytest.CaptureFixture[str]) -> None:
    champion = champions.read_champions(store).champion
    assert champion is not None
    store.delete(champions.KEY)
    assert collect(store, "--keep-runs", "0") == 0
    assert list(store.keys("")) == []
    assert champion.biencoder in capsys.readouterr().out


def test_runs_of_earlier_champions_stay_and_those_rolled_back_go(store: AgedStore) -> None:
    known = champions.read_champions(store)
    assert known.champion is not None
    for run_id in ("second", "third"):
        copy_run(store, run_id)
        folder = known.champion.crossencoder + run_id
        assert champions.read_champions(store).promote(
            known.champion.model_copy(update={"run": run_id, "crossencoder": folder, "fusion": None})
        )
    assert champions.read_champions(store).roll_back("worse")
    store.grow_old()
    assert collect(store, "--keep-runs", "0") == 0
    assert runs_in(store) == {"first", "second"}


@pytest.mark.parametrize("age", ["2d", "13d"])
def test_too_young_runs_are_never_removed(store: AgedStore, capsys: pytest.CaptureFixture[str], age: str) -> None:
    assert main(["gc", "--store", store.address, "--older-than", age, "--keep-runs", "1"]) == EXIT_CONFIG
    assert f"at least 14d with --keep-runs, got '{age}'" in capsys.readouterr().out
    assert main(["gc", "--store", store.address, "--older-than", "14d", "--keep-runs", "-1"]) == EXIT_CONFIG
    assert "expected an integer from 0 to 1000000, got '-1'" in capsys.readouterr().out
    assert runs_in(store) == {"first"}


@pytest.mark.parametrize("age", ["", "0d", "1d", "47h", "30", "d", "-1d", "1.5d", "999999d", "thirty"])
def test_invalid_age_is_refused(store: AgedStore, capsys: pytest.CaptureFixture[str], age: str) -> None:
    assert main(["gc", "--store", store.address, f"--older-than={age}"]) == EXIT_CONFIG
    expected = f"ERROR: --older-than: expected a number of days, such as 30d, and at least 2d, got {age!r}\n"
    assert capsys.readouterr().out == expected


def test_directory_that_is_no_store_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for place in (tmp_path, tmp_path / "nowhere"):
        assert main(["gc", "--store", str(place), "--older-than", "30d"]) == EXIT_CONFIG
        assert f"--store: expected a store with runs/ or artifacts/, got '{place}'" in capsys.readouterr().out
    assert list(tmp_path.iterdir()) == []


def test_concurrent_cleanup_asks_for_retry(store: AgedStore, capsys: pytest.CaptureFixture[str]) -> None:
    store.put(LOCK, b"of another one")
    assert collect(store) == EXIT_TRY_AGAIN
    assert f"ERROR: {store.address}/{LOCK}: another cleanup is running" in capsys.readouterr().out


def test_broken_record_stops_gc_and_is_named(store: AgedStore, capsys: pytest.CaptureFixture[str]) -> None:
    store.put("runs/first/stages/convert.json", b"{")
    assert collect(store) == EXIT_DATA
    assert "runs/first/stages/convert.json: broken; delete this record" in capsys.readouterr().out
