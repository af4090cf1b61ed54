"""The Airflow of all tests except those in a browser, and a run that it starts automatically."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml

from tests.orchestration.real_airflow import DAG, DAGS, ended, running_airflow, states, wait
from tests.support.mailbox import Mailbox, mail_server
from zeshel_tasks.champion.champions import read_champions
from zeshel_tasks.config.splits import HELDOUT_SPLITS
from zeshel_tasks.demo.local_airflow import LocalAirflow
from zeshel_tasks.store import LocalStore

ROOT = Path(__file__).parents[2]
HELDOUT = {f"{stage}-{split}" for stage in ("eval-biencoder", "eval-crossencoder") for split in HELDOUT_SPLITS}
BASES = ("refresh-knowledge-bases", "encode-segment", "publish-knowledge-bases")
SKIPPED = {*HELDOUT, "cut-worlds", "encode-shard", *BASES}
"""Tasks that have nothing to do without held-out mentions, large worlds and knowledge bases."""
YAML_OF_THE_DAG = re.compile(r"```yaml\n(dag:\n.*?)```", re.DOTALL)
# Airflow would render this text if Params were templates.
RENDERED = "rendered-by-a-template"
APPROVER = {"id": "admin", "name": "Ada"}
REASON = "fewer wrong links"
# If the answer comes within a second of the question, the task's process has not ended yet, and Airflow treats that as
# a failure (apache/airflow#71580 and #72716).
READING_SECONDS = 6.0


@dataclass(frozen=True)
class RetrainedRun:
    """The run that an update of the data set started, once a person has approved its model.

    Attributes:
        question: the question, in Markdown.
        asked: who may answer it.
        champion_before: True if the store had a champion when the question was asked.
        states: states of all tasks at the end.
    """

    run_id: str
    question: str
    asked: list[dict[str, str]]
    champion_before: bool
    states: dict[str, str | None]


@pytest.fixture(scope="session")
def migrated_home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An AIRFLOW_HOME with a migrated database, which tests copy."""
    home = tmp_path_factory.mktemp("migrated") / "home"
    made = LocalAirflow(home, DAGS, {}, DAG)
    made.migrate()
    made.client.close()
    return home


@pytest.fixture(scope="session")
def sample_worlds(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The archive of ``zeshel make-sample-worlds``."""
    path = tmp_path_factory.mktemp("sample") / "worlds.tar.bz2"
    command = [sys.executable, "-m", "zeshel_tasks", "make-sample-worlds", "--out", str(path)]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    return path


@pytest.fixture(scope="session")
def quick_recipe(sample_worlds: Path) -> dict[str, Any]:
    """Params of a recipe that takes seconds on the sample worlds."""
    return {
        "preset": "smoke",
        "download.source": str(sample_worlds),
        "bert_model": str(ROOT / "tests" / "golden" / "bert"),
        "convert.max_mentions_per_world": 6,
        "max_context_length": 32,
        "max_cand_length": 32,
        "train_biencoder.num_train_epochs": 1,
        "eval_biencoder.top_k": 4,
        "train_crossencoder.max_seq_length": 64,
        "gpus": 0,
    }


@pytest.fixture(scope="session")
def mailbox() -> Iterator[Mailbox]:
    """The mails from the notifier."""
    with mail_server() as received:
        yield received


@pytest.fixture(scope="session")
def airflow(
    migrated_home: Path,
    sample_worlds: Path,
    quick_recipe: dict[str, Any],
    mailbox: Mailbox,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[LocalAirflow]:
    """An Airflow that retrains after updates of the data set, asks before it promotes, and sends mails."""
    connection = {
        "conn_type": "smtp",
        "host": "127.0.0.1",
        "port": mailbox.port,
        "extra": {"disable_ssl": True, "disable_tls": True},
    }
    variables = {
        "PYTHONPATH": str(ROOT),
        "OMP_NUM_THREADS": "1",
        "ZESHEL_RETRIES": "1",
        "ZESHEL_RETRY_DELAY_SECONDS": "1",
        "ZESHEL_DEFAULTS": json.dumps(quick_recipe),
        "ZESHEL_APPROVERS": json.dumps([APPROVER]),
        "ZESHEL_SCHEDULE": "0 3 31 12 *",
        "ZESHEL_SCHEDULE_ASSET": sample_worlds.as_uri(),
        "ZESHEL_NOTIFIER": json.dumps(documented_notifier()),
        "ZESHEL_DEADLINE_MINUTES": "0.2",
        "AIRFLOW_CONN_SMTP_DEFAULT": json.dumps(connection),
        "AIRFLOW_VAR_HOSTILE": RENDERED,
    }
    with running_airflow(tmp_path_factory.mktemp("airflow"), migrated_home, variables) as started:
        yield started


def documented_notifier() -> dict[str, Any]:
    """The notifier of docs/operations.md."""
    found = YAML_OF_THE_DAG.search((ROOT / "docs" / "operations.md").read_text())
    assert found, "expected the settings of the DAG as YAML"
    notifier: dict[str, Any] = yaml.safe_load(found[1])["dag"]["notifier"]
    return notifier


@pytest.fixture(scope="session")
def airflow_folder(airflow: LocalAirflow) -> Path:
    """The folder with all files of that Airflow and its stages: ``home`` and ``store``."""
    return airflow.home.parent


@pytest.fixture(scope="session")
def api(airflow: LocalAirflow) -> Iterator[httpx.Client]:
    """A client of its REST API, logged in."""
    credentials = {"username": airflow.username, "password": airflow.password}
    token = httpx.post(f"{airflow.url}/auth/token", json=credentials).json()["access_token"]
    headers = {"Authorization": f"Bearer {token}"}
    with httpx.Client(base_url=f"{airflow.url}/api/v2", headers=headers, timeout=60.0) as client:
        yield client


@pytest.fixture(scope="session")
def retrained(airflow: LocalAirflow, airflow_folder: Path, api: httpx.Client, mailbox: Mailbox) -> RetrainedRun:
    """Updates the Asset of the data set, and approves the model of the run that this starts."""
    run_id = _run_after_an_update(airflow, api)
    wait(lambda: states(airflow, run_id)["approve"] == "awaiting_input", "a question", airflow)
    address = f"/dags/{DAG}/dagRuns/{run_id}/taskInstances/approve/-1/hitlDetails"
    question = api.get(address).json()
    champion = read_champions(LocalStore(airflow_folder / "store")).champion
    time.sleep(READING_SECONDS)
    answer = {"chosen_options": ["Approve"], "params_input": {"reason": REASON}}
    assert api.patch(address, json=answer).is_success
    final = ended(airflow, run_id)
    return RetrainedRun(run_id, question["body"], question["assigned_users"], champion is not None, final)


@pytest.fixture(scope="session")
def run_without_data(airflow: LocalAirflow, airflow_folder: Path) -> str:
    """Id of a run that failed because its data set does not exist."""
    run_id = "no-data"
    airflow.client.trigger(DAG, {"download.source": str(airflow_folder / "nowhere.tar.bz2")}, run_id)
    ended(airflow, run_id)
    return run_id


def _run_after_an_update(airflow: LocalAirflow, api: httpx.Client) -> str:
    before = set(airflow.client.run_ids(DAG))
    (asset,) = api.get("/assets", params={"uri_pattern": "worlds"}).json()["assets"]
    assert api.post("/assets/events", json={"asset_id": asset["id"], "extra": {}}).is_success
    (run_id,) = wait(lambda: set(airflow.client.run_ids(DAG)) - before, "a run", airflow)
    return run_id
