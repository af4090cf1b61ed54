"""The DAG on a real Airflow: API server, scheduler, DAG processor and triggerer as processes, stages as they are."""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.orchestration.real_airflow import DAG, DAGS, ended, running_airflow
from zeshel_tasks.config import HELDOUT_SPLITS, SPLITS
from zeshel_tasks.demo.local_airflow import AirflowFailed, LocalAirflow
from zeshel_tasks.demo.local_airflow.client import AirflowRefused
from zeshel_tasks.orchestration.settings import run_address
from zeshel_tasks.store import open_run

ROOT = Path(__file__).parents[2]
EVALS = {f"eval-biencoder-{split}" for split in SPLITS}
HELDOUT = {f"{stage}-{split}" for stage in ("eval-biencoder", "eval-crossencoder") for split in HELDOUT_SPLITS}
pytestmark = pytest.mark.timeout(900)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("airflow")


@pytest.fixture(scope="module")
def airflow(folder: Path) -> Iterator[LocalAirflow]:
    variables = {"ZESHEL_RETRIES": "1", "ZESHEL_RETRY_DELAY_SECONDS": "1", "OMP_NUM_THREADS": "1"}
    with running_airflow(folder, variables) as started:
        yield started


@pytest.fixture(scope="module")
def params(folder: Path) -> dict[str, Any]:
    """Sample worlds and a BERT of their vocabulary, and a recipe that is done with them in seconds."""
    zeshel = [sys.executable, "-m", "zeshel_tasks.cli"]
    data = folder / "worlds.tar.bz2"
    subprocess.run([*zeshel, "make-sample-worlds", "--out", str(data)], check=True)
    return {
        "preset": "smoke",
        "download.source": str(data),
        "bert_model": str(ROOT / "tests" / "golden" / "bert"),
        "convert.max_mentions_per_world": 6,
        "max_context_length": 32,
        "max_cand_length": 32,
        "train_biencoder.num_train_epochs": 1,
        "eval_biencoder.top_k": 4,
        "train_crossencoder.max_seq_length": 64,
        "gpus": 0,
    }


def test_all_stages_run_green_side_by_side_with_metrics_and_are_reused(
    airflow: LocalAirflow, folder: Path, params: dict[str, Any]
) -> None:
    first = finished(airflow, params, "first")
    assert set(first.values()) == {"success", "skipped"}, failures(airflow, "first")
    assert first.pop("approve") == "success"
    assert {name for name, state in first.items() if state == "skipped"} == HELDOUT
    assert len(first.keys() - HELDOUT) == 12
    first = {name: state for name, state in first.items() if name not in HELDOUT}
    evals = [task for task in airflow.client.task_states(DAG, "first") if task.task_id in EVALS]
    assert len(evals) == 3
    assert max(task.started for task in evals if task.started) < min(task.ended for task in evals if task.ended)

    run = open_run(run_address(str(folder / "store"), "first"))
    for task in first:
        manifest = run.manifest(task)
        assert manifest is not None
        assert airflow.client.xcom(DAG, "first", task) == manifest.metrics
    events = {event["source_task_id"]: event["extra"] for event in airflow.client.asset_events(DAG, "first")}
    assert events.keys() == first.keys()
    assert events["report"]["run"] == run.address
    assert Path(run.address, "report", "index.html").is_file()

    second = finished(airflow, params, "second")
    assert set(second.values()) == {"success", "skipped"}, failures(airflow, "second")
    assert any("nobody is asked" in line.text for line in airflow.client.log(DAG, "second", "approve", 1))
    again = open_run(run_address(str(folder / "store"), "second"))
    for task in first:
        record = again.record(task)
        assert record is not None
        assert record.reused
        assert any(line.text.startswith("reused ") for line in airflow.client.log(DAG, "second", task, 1))


def test_the_report_is_shown_to_those_alone_who_may_read_the_dag(airflow: LocalAirflow) -> None:
    address = f"{airflow.url}/zeshel/runs/first"
    credentials = {"username": airflow.username, "password": airflow.password}
    token = httpx.post(f"{airflow.url}/auth/token", json=credentials).json()["access_token"]
    for page in ("report", "report.json", "stages/promote"):
        assert httpx.get(f"{address}/{page}").status_code == 401
        answer = httpx.get(f"{address}/{page}", headers={"Authorization": f"Bearer {token}"})
        assert answer.status_code == 200
        assert "sandbox" in answer.headers["content-security-policy"]


@pytest.mark.parametrize(
    ("name", "value"),
    [("train_biencoder.learning_rate", 7), ("preset", "fast"), ("lowercase", "yes"), ("gpus", -1), ("device", "tpu")],
)
def test_a_bad_param_is_refused_by_the_rest_api(airflow: LocalAirflow, name: str, value: Any) -> None:
    with pytest.raises(AirflowRefused, match=name) as caught:
        airflow.client.trigger(DAG, {name: value})
    assert caught.value.status == 400


def test_bad_data_fails_at_once_with_the_stages_own_words_in_the_log(
    airflow: LocalAirflow, folder: Path, params: dict[str, Any]
) -> None:
    states = finished(airflow, {**params, "download.source": str(folder / "nowhere.tar.bz2")}, "no-data")
    assert states.pop("download") == "failed"
    assert set(states.values()) == {"upstream_failed"}
    download = airflow.client.task_states(DAG, "no-data")[0]
    assert download.try_number == 1
    errors = [line.text for line in airflow.client.log(DAG, "no-data", "download", 1) if line.level == "error"]
    assert any("nowhere.tar.bz2" in text for text in errors)


def test_a_second_airflow_in_the_same_folder_is_kept_out(airflow: LocalAirflow, folder: Path) -> None:
    second = LocalAirflow(folder / "home", DAGS, {}, DAG)
    with pytest.raises(AirflowFailed, match=f"another demo \\(process {os.getpid()}\\)"):
        second.__enter__()
    assert airflow.client.health()["scheduler"]["status"] == "healthy"


def finished(airflow: LocalAirflow, params: dict[str, Any], run_id: str) -> dict[str, str | None]:
    """Triggers a run and waits for its end; the state of each task."""
    airflow.client.trigger(DAG, params, run_id)
    return ended(airflow, run_id)


def failures(airflow: LocalAirflow, run_id: str) -> str:
    """The logs of a run's failed tasks, for the message of an assertion."""
    failed = [task for task in airflow.client.task_states(DAG, run_id) if task.state == "failed"]
    logs = [airflow.client.log(DAG, run_id, task.task_id, task.try_number) for task in failed]
    return "\n".join(line.text for log in logs for line in log)
