"""Runs of a real Airflow whose data are the dumps of three wikis: a champion, and its successor after a change."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.importing.wiki.dumps import towns
from tests.orchestration.real_airflow import DAG, ended, running_airflow
from tests.support.rounds import NIGHTLY
from zeshel_tasks.champion.champions import read_champions
from zeshel_tasks.cli import main
from zeshel_tasks.demo.local_airflow import LocalAirflow
from zeshel_tasks.orchestration.settings import run_address
from zeshel_tasks.store import LocalStore, Run, open_run

# An Airflow of its own, because the first champion of a store needs to beat none. It runs beside those of other tests.
pytestmark = [
    pytest.mark.timeout(1200),
    pytest.mark.xdist_group("wiki"),
    pytest.mark.skipif(not NIGHTLY, reason="two whole runs take minutes: part of the nightly tests"),
]
SPLITS = {"harbours": "train", "rivers": "valid", "hills": "test"}


@pytest.fixture(scope="module")
def wikis(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a dump of each wiki."""
    folder = tmp_path_factory.mktemp("wikis")
    for seed, name in enumerate(SPLITS):
        (folder / f"{name}-latest-pages-articles.xml").write_text(towns(20, seed))
    return folder


@pytest.fixture(scope="module")
def airflow_of_wikis(
    wikis: Path, migrated_home: Path, quick_recipe: dict[str, Any], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[LocalAirflow]:
    """An Airflow whose scheduled runs import the wikis."""
    first, *more = (f"wiki:{wikis}/{name}-latest-pages-articles.xml" for name in SPLITS)
    assigned = [f"{world}={split}" for world, split in SPLITS.items()]
    sources = {"download.source": first, "download.more_sources": more, "download.worlds_to_splits": assigned}
    variables = {"ZESHEL_RETRIES": "0", "OMP_NUM_THREADS": "1", "ZESHEL_DEFAULTS": json.dumps(quick_recipe | sources)}
    with running_airflow(tmp_path_factory.mktemp("airflow"), migrated_home, variables) as started:
        yield started


def finished(airflow: LocalAirflow, run_id: str) -> Run:
    airflow.client.trigger(DAG, {}, run_id)
    states = ended(airflow, run_id)
    assert set(states.values()) <= {"success", "skipped"}, states
    return open_run(run_address(str(airflow.home.parent / "store"), run_id))


def metrics(run: Run, stage: str) -> dict[str, Any]:
    manifest = run.manifest(stage)
    assert manifest is not None
    return manifest.metrics


def test_dumps_become_a_champion_that_links_and_a_change_trains_again(
    airflow_of_wikis: LocalAirflow, wikis: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    first = finished(airflow_of_wikis, "first")
    store = str(airflow_of_wikis.home.parent / "store")
    assert metrics(first, "download")["documents_by_world"] == dict.fromkeys(SPLITS, 20)
    champion = read_champions(LocalStore(Path(store))).champion
    assert champion is not None
    assert champion.run == "first"

    download = first.artifact("download", tmp_path / "cache")
    assert main(["kb", "build", "--store", store, "--name", "hills", str(download.path("documents/hills.json"))]) == 0
    capfd.readouterr()
    text = ["--text", "The road to [[Town 3]] is long.", "--device", "cpu"]
    assert main(["link", "--store", store, "--kb", "hills", "--threshold", "0", *text]) == 0
    (link,) = json.loads(capfd.readouterr().out)["links"]
    assert link["mention"] == "Town 3"
    assert link["title"] == f"Town {int(link['id']) - 1}"

    dump = wikis / "harbours-latest-pages-articles.xml"
    dump.write_text(dump.read_text().replace("The town lies near [[Town", "This place is close to [[Town", 1))
    second = finished(airflow_of_wikis, "second")
    for stage in ("download", "convert", "train-biencoder", "train-crossencoder"):
        before, after = first.record(stage), second.record(stage)
        assert before is not None
        assert after is not None
        assert before.artifact != after.artifact
    assert metrics(second, "compare")["champion"]["run"] == "first"
    assert metrics(second, "promote")["promoted"] in (True, False)
