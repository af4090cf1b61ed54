"""The DAG on a real Airflow with all of its processes and real stages."""

import os
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.orchestration.real_airflow import DAG, DAGS, states
from tests.support.whole_airflow import SKIPPED, RetrainedRun
from zeshel_tasks.config.splits import SPLITS
from zeshel_tasks.demo.local_airflow import AirflowFailed, LocalAirflow
from zeshel_tasks.demo.local_airflow.client import AirflowRefused
from zeshel_tasks.orchestration.settings import path_safe, run_address
from zeshel_tasks.store import open_run

EVALS = {f"eval-biencoder-{split}" for split in SPLITS}
pytestmark = pytest.mark.timeout(900)


def test_run_succeeds_with_parallel_evaluations_and_metrics(
    airflow: LocalAirflow, airflow_folder: Path, retrained: RetrainedRun
) -> None:
    run_id = retrained.run_id
    assert set(retrained.states.values()) == {"success", "skipped"}, failures(airflow, run_id)
    assert {name for name, state in retrained.states.items() if state == "skipped"} == SKIPPED
    assert retrained.states["approve"] == "success"
    stages = retrained.states.keys() - SKIPPED - {"approve"}
    assert len(stages) == 15
    evals = [task for task in airflow.client.task_states(DAG, run_id) if task.task_id in EVALS]
    assert len(evals) == 3
    assert max(task.started for task in evals if task.started) < min(task.ended for task in evals if task.ended)

    run = open_run(run_address(str(airflow_folder / "store"), run_id))
    for task in stages:
        manifest = run.manifest(task)
        assert manifest is not None
        assert airflow.client.xcom(DAG, run_id, task) == manifest.metrics
    events = {event["source_task_id"]: event["extra"] for event in airflow.client.asset_events(DAG, run_id)}
    assert events.keys() == stages
    assert events["report"]["run"] == run.address
    assert Path(run.address, "report", "index.html").is_file()


def test_pages_of_a_run_require_a_token(airflow: LocalAirflow, retrained: RetrainedRun) -> None:
    address = f"{airflow.url}/zeshel/runs/{path_safe(retrained.run_id)}"
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
def test_rest_api_refuses_an_invalid_param(airflow: LocalAirflow, name: str, value: Any) -> None:
    with pytest.raises(AirflowRefused, match=name) as caught:
        airflow.client.trigger(DAG, {name: value})
    assert caught.value.status == 400


def test_missing_data_fails_without_retry_and_is_logged(airflow: LocalAirflow, run_without_data: str) -> None:
    found = states(airflow, run_without_data)
    assert found.pop("download") == "failed"
    assert set(found.values()) == {"upstream_failed"}
    download = airflow.client.task_states(DAG, run_without_data)[0]
    assert download.try_number == 1
    errors = [line.text for line in airflow.client.log(DAG, run_without_data, "download", 1) if line.level == "error"]
    assert any("nowhere.tar.bz2" in text for text in errors)


def test_second_airflow_in_the_same_folder_is_refused(airflow: LocalAirflow) -> None:
    second = LocalAirflow(airflow.home, DAGS, {}, DAG)
    with pytest.raises(AirflowFailed, match=f"another demo \\(process {os.getpid()}\\)"):
        second.__enter__()
    assert airflow.client.health()["scheduler"]["status"] == "healthy"


def failures(airflow: LocalAirflow, run_id: str) -> str:
    """Returns the logs of a run's failed tasks, for the message of an assertion."""
    failed = [task for task in airflow.client.task_states(DAG, run_id) if task.state == "failed"]
    logs = [airflow.client.log(DAG, run_id, task.task_id, task.try_number) for task in failed]
    return "\n".join(line.text for log in logs for line in log)
