"""A real Airflow that retrains when the data set is updated, asks before it promotes, and tells of what fails."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.orchestration.real_airflow import DAG, ended, running_airflow
from zeshel_tasks.orchestration.demo.local_airflow import LocalAirflow
from zeshel_tasks.store import LocalStore
from zeshel_tasks.store.champions import read_champions

ROOT = Path(__file__).parents[2]
SECONDS = 300.0
# An answer within the second of the question finds the task's process still ending, which Airflow takes for a failure.
READING_SECONDS = 6.0
# It writes down what it is told.
NOTIFIER = """
from airflow.sdk import BaseNotifier

class Recorder(BaseNotifier):
    template_fields = ("text",)

    def __init__(self, path, text, **kwargs):
        super().__init__(**kwargs)
        self.path, self.text = path, text

    def notify(self, context):
        with open(self.path, "a") as file:
            file.write(f"{self.text}: {context['dag_run'].run_id}\\n")

    async def async_notify(self, context):
        with open(self.path, "a") as file:
            file.write(f"{self.text}\\n")
"""
pytestmark = pytest.mark.timeout(1200)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("by_itself")


@pytest.fixture(scope="module")
def data_set(folder: Path) -> Path:
    path = folder / "worlds.tar.bz2"
    command = [sys.executable, "-m", "zeshel_tasks.cli", "make-sample-worlds", "--out", str(path)]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    return path


@pytest.fixture(scope="module")
def airflow(folder: Path, data_set: Path) -> Iterator[LocalAirflow]:
    (folder / "plugins").mkdir()
    (folder / "plugins" / "told_notifier.py").write_text(NOTIFIER)
    defaults = {
        "preset": "smoke",
        "download.source": str(data_set),
        "bert_model": str(ROOT / "tests" / "golden" / "bert"),
        "approve": True,
        "gpus": 0,
        "convert.max_mentions_per_world": 6,
        "max_context_length": 32,
        "max_cand_length": 32,
        "train_biencoder.num_train_epochs": 1,
        "eval_biencoder.top_k": 4,
        "train_crossencoder.max_seq_length": 64,
    }
    notifier = {
        "class": "told_notifier.Recorder",
        "kwargs": {"path": str(folder / "told"), "text": "failed"},
        "late": {"text": "late: {{ dag_run.dag_run_id }}"},
    }
    variables = {
        "PYTHONPATH": f"{ROOT}:{folder / 'plugins'}",
        "OMP_NUM_THREADS": "1",
        "ZESHEL_RETRIES": "0",
        "ZESHEL_DEFAULTS": json.dumps(defaults),
        "ZESHEL_SCHEDULE": "0 3 31 12 *",
        "ZESHEL_SCHEDULE_ASSET": data_set.as_uri(),
        "ZESHEL_NOTIFIER": json.dumps(notifier),
        "ZESHEL_DEADLINE_MINUTES": "0.2",
    }
    with running_airflow(folder, variables) as started:
        yield started


@pytest.fixture(scope="module")
def api(airflow: LocalAirflow) -> Iterator[httpx.Client]:
    credentials = {"username": airflow.username, "password": airflow.password}
    token = httpx.post(f"{airflow.url}/auth/token", json=credentials).json()["access_token"]
    with httpx.Client(base_url=f"{airflow.url}/api/v2", headers={"Authorization": f"Bearer {token}"}) as client:
        assert client.patch(f"/dags/{DAG}", json={"is_paused": False}).is_success
        yield client


def wait(what: Callable[[], Any], meaning: str) -> Any:
    deadline = time.monotonic() + SECONDS
    while not (found := what()):
        assert time.monotonic() < deadline, f"expected {meaning}"
        time.sleep(0.5)
    return found


@pytest.fixture(scope="module")
def run_id(airflow: LocalAirflow, api: httpx.Client) -> str:
    """The run that begins by itself once the data set's Asset is updated."""
    assert airflow.client.run_ids(DAG) == []
    (asset,) = api.get("/assets", params={"uri_pattern": "worlds"}).json()["assets"]
    assert api.post("/assets/events", json={"asset_id": asset["id"], "extra": {}}).is_success
    (found,) = wait(lambda: airflow.client.run_ids(DAG), "a run")
    return str(found)


def state(airflow: LocalAirflow, run_id: str, task: str) -> str | None:
    return {found.task_id: found.state for found in airflow.client.task_states(DAG, run_id)}[task]


def test_a_better_model_waits_for_a_person_who_sees_the_figures(
    airflow: LocalAirflow, api: httpx.Client, run_id: str, folder: Path
) -> None:
    wait(lambda: state(airflow, run_id, "approve") == "awaiting_input", "a question")
    question = f"/dags/{DAG}/dagRuns/{run_id}/taskInstances/approve/-1/hitlDetails"
    body = api.get(question).json()["body"]
    assert "there was no champion" in body
    assert "Unnormalized accuracy on test" in body
    store = LocalStore(folder / "store")
    assert read_champions(store).champion is None
    time.sleep(READING_SECONDS)
    answer = {"chosen_options": ["Approve"], "params_input": {}}
    assert api.patch(question, json=answer).is_success
    states = ended(airflow, run_id)
    log = "\n".join(line.text for line in airflow.client.log(DAG, run_id, "approve", 1))
    assert set(states.values()) == {"success", "skipped"}, f"{states}\n{log}"
    assert read_champions(store).champion is not None


def test_the_decision_is_in_the_event_of_the_asset(airflow: LocalAirflow, run_id: str) -> None:
    (event,) = [found for found in airflow.client.asset_events(DAG, run_id) if found["source_task_id"] == "promote"]
    assert (event["extra"]["metrics"]["promoted"], event["extra"]["metrics"]["reason"]) == (
        True,
        "there was no champion",
    )


def test_a_late_run_is_told(run_id: str, folder: Path) -> None:
    told = folder / "told"
    wait(lambda: told.is_file() and f"late: {run_id}" in told.read_text().splitlines(), "to be told of a late run")


def test_a_failed_run_is_told(airflow: LocalAirflow, folder: Path) -> None:
    airflow.client.trigger(DAG, {"download.source": str(folder / "nowhere")}, "bad")
    assert ended(airflow, "bad")["download"] == "failed"
    wait(lambda: "failed: bad" in (folder / "told").read_text().splitlines(), "to be told of a failed run")
