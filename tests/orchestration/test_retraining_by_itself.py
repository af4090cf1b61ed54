"""A real Airflow that retrains when the data set is updated, asks before it promotes, and writes mails of what happens.

The notifier is the one of docs/operations.md, its mails go to a server of the test's own.
"""

from __future__ import annotations

import email
import email.policy
import html
import itertools
import json
import re
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from email.message import EmailMessage
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml
from aiosmtpd.controller import Controller
from aiosmtpd.smtp import SMTP, Envelope, Session

from tests.orchestration.real_airflow import DAG, ended, running_airflow
from zeshel_tasks.champion.champions import read_champions
from zeshel_tasks.demo.local_airflow import LocalAirflow
from zeshel_tasks.demo.local_airflow.configuration import free_port
from zeshel_tasks.store import LocalStore

ROOT = Path(__file__).parents[2]
SECONDS = 300.0
# An answer within the second of the question finds the task's process still ending, which Airflow takes for a failure
# (apache/airflow#71580 and #72716).
READING_SECONDS = 6.0
YAML_OF_THE_DAG = re.compile(r"```yaml\n(dag:\n.*?)```", re.DOTALL)
pytestmark = pytest.mark.timeout(1200)


class Mailbox:
    """What a mail server was given; its handler."""

    def __init__(self) -> None:
        self.mails: list[EmailMessage] = []

    async def handle_DATA(self, server: SMTP, session: Session, envelope: Envelope) -> str:  # noqa: N802
        assert isinstance(envelope.content, bytes)
        mail = email.message_from_bytes(envelope.content, policy=email.policy.default)
        assert isinstance(mail, EmailMessage)
        self.mails.append(mail)
        return "250 OK"

    def with_subject(self, part: str) -> list[EmailMessage]:
        return [mail for mail in self.mails if part in mail["subject"]]

    def wait(self, part: str) -> EmailMessage:
        """The first mail with ``part`` in its subject."""
        subjects = [mail["subject"] for mail in self.mails]
        found: list[EmailMessage] = wait(lambda: self.with_subject(part), f"a mail with {part!r}, got {subjects}")
        return found[0]


def text_of(mail: EmailMessage) -> str:
    body = mail.get_body()
    assert body is not None
    return str(body.get_content())


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
def mail_server() -> Iterator[Controller]:
    server = Controller(Mailbox(), hostname="127.0.0.1", port=free_port())
    server.start()
    yield server
    server.stop()


@pytest.fixture(scope="module")
def mailbox(mail_server: Controller) -> Mailbox:
    assert isinstance(mail_server.handler, Mailbox)
    return mail_server.handler


@pytest.fixture(scope="module")
def airflow(folder: Path, data_set: Path, mail_server: Controller) -> Iterator[LocalAirflow]:
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
    found = YAML_OF_THE_DAG.search((ROOT / "docs" / "operations.md").read_text())
    assert found, "expected the settings of the DAG as YAML"
    documented = yaml.safe_load(found[1])["dag"]
    connection = {
        "conn_type": "smtp",
        "host": "127.0.0.1",
        "port": mail_server.port,
        "extra": {"disable_ssl": True, "disable_tls": True},
    }
    variables = {
        "PYTHONPATH": str(ROOT),
        "OMP_NUM_THREADS": "1",
        "ZESHEL_RETRIES": "0",
        "ZESHEL_DEFAULTS": json.dumps(defaults),
        "ZESHEL_SCHEDULE": "0 3 31 12 *",
        "ZESHEL_SCHEDULE_ASSET": data_set.as_uri(),
        "ZESHEL_NOTIFIER": json.dumps(documented["notifier"]),
        "ZESHEL_DEADLINE_MINUTES": "0.2",
        "AIRFLOW_CONN_SMTP_DEFAULT": json.dumps(connection),
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


def test_a_better_model_waits_for_a_person_who_gets_a_mail_with_the_figures(
    airflow: LocalAirflow, api: httpx.Client, run_id: str, folder: Path, mailbox: Mailbox
) -> None:
    wait(lambda: state(airflow, run_id, "approve") == "awaiting_input", "a question")
    question = f"/dags/{DAG}/dagRuns/{run_id}/taskInstances/approve/-1/hitlDetails"
    body = api.get(question).json()["body"]
    assert "there was no champion" in body
    assert "Unnormalized accuracy on test" in body
    mail = mailbox.wait(f"Promote the model of {run_id}?")
    assert mail["to"] == "team@example.org"
    assert body in html.unescape(text_of(mail))
    assert f"/dags/{DAG}/runs/{run_id}/tasks/approve/required_actions" in text_of(mail)
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


def test_of_a_late_run_a_mail_tells(run_id: str, mailbox: Mailbox) -> None:
    assert "It began 20" in text_of(mailbox.wait(f"{run_id} is late"))


def test_of_a_failed_run_a_mail_tells(airflow: LocalAirflow, folder: Path, mailbox: Mailbox) -> None:
    airflow.client.trigger(DAG, {"download.source": str(folder / "nowhere")}, "bad")
    assert ended(airflow, "bad")["download"] == "failed"
    assert DAG in mailbox.wait("Run ID bad")["subject"]


def test_the_runs_of_a_backfill_take_turns_at_each_stage(
    airflow: LocalAirflow, api: httpx.Client, folder: Path
) -> None:
    """All of its runs begin at once; the first of them trains, and the others find that done."""
    changed = {"train_biencoder.learning_rate": 3e-4, "promote.margin": 1}
    backfill = {
        "dag_id": DAG,
        "from_date": "2021-12-01T00:00:00Z",
        "to_date": "2024-12-01T00:00:00Z",
        "max_active_runs": 3,
        "dag_run_conf": changed,
    }
    before = set(airflow.client.run_ids(DAG))
    # Airflow refuses it while another of its processes writes to SQLite.
    wait(lambda: api.post("/backfills", json=backfill).is_success, "a backfill")
    run_ids = wait(lambda: len(found := set(airflow.client.run_ids(DAG)) - before) == 3 and found, "three runs")
    assert all(set(ended(airflow, run_id).values()) == {"success", "skipped"} for run_id in run_ids)

    for task in ("convert", "train-biencoder", "train-crossencoder"):
        tries = sorted(
            (found.started, found.ended)
            for run_id in run_ids
            for found in airflow.client.task_states(DAG, run_id)
            if found.task_id == task and found.started and found.ended
        )
        assert len(tries) == 3
        assert all(ended <= begun for (_, ended), (begun, _) in itertools.pairwise(tries)), (task, tries)
