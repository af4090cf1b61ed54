"""A real Airflow retrains when the data set is updated, asks before it promotes, and sends mails.

The notifier is the one in docs/operations.md. Its mails go to the tests' own server.
"""

from __future__ import annotations

import html
from datetime import datetime
from pathlib import Path

import httpx
import pytest

from tests.orchestration.real_airflow import DAG, ended, wait
from tests.support.mailbox import Mailbox, text_of
from tests.support.whole_airflow import APPROVER, REASON, SKIPPED, RetrainedRun
from zeshel_tasks.champion.champions import read_champions
from zeshel_tasks.demo.local_airflow import LocalAirflow
from zeshel_tasks.orchestration.settings import run_address
from zeshel_tasks.store import LocalStore, open_run

pytestmark = pytest.mark.timeout(1200)


def test_promotion_waits_for_approval_requested_by_mail(
    airflow: LocalAirflow, airflow_folder: Path, retrained: RetrainedRun, mailbox: Mailbox
) -> None:
    run_id = retrained.run_id
    assert "there was no champion" in retrained.question
    assert "Unnormalized accuracy on test" in retrained.question
    mail = mailbox.wait(f"Promote the model of {run_id}?")
    assert mail["to"] == "team@example.org"
    assert retrained.question in html.unescape(text_of(mail))
    assert f"/dags/{DAG}/runs/{run_id}/tasks/approve/required_actions" in text_of(mail)
    assert not retrained.champion_before
    log = "\n".join(line.text for line in airflow.client.log(DAG, run_id, "approve", 1))
    assert set(retrained.states.values()) == {"success", "skipped"}, f"{retrained.states}\n{log}"
    assert read_champions(LocalStore(airflow_folder / "store")).champion is not None


def test_champion_says_who_approved_it_and_why(airflow_folder: Path, retrained: RetrainedRun) -> None:
    assert retrained.asked == [APPROVER]
    champion = read_champions(LocalStore(airflow_folder / "store")).champion
    assert champion is not None
    assert champion.approval is not None
    assert (champion.approval.by, champion.approval.reason) == ("admin", REASON)


def test_asset_event_has_the_decision(airflow: LocalAirflow, retrained: RetrainedRun) -> None:
    events = airflow.client.asset_events(DAG, retrained.run_id)
    (event,) = [found for found in events if found["source_task_id"] == "promote"]
    assert event["extra"]["metrics"]["promoted"] is True
    assert event["extra"]["metrics"]["reason"] == "there was no champion"


def test_late_run_sends_mail(retrained: RetrainedRun, mailbox: Mailbox) -> None:
    assert "It began 20" in text_of(mailbox.wait(f"{retrained.run_id} is late"))


def test_failed_run_sends_mail(run_without_data: str, mailbox: Mailbox) -> None:
    assert DAG in mailbox.wait(f"Run ID {run_without_data}")["subject"]


@pytest.fixture(scope="module")
def backfill(airflow: LocalAirflow, api: httpx.Client, retrained: RetrainedRun) -> list[str]:
    """Ids of two finished runs of a backfill, in the order of their first task.

    Both begin at once; the first trains and the second reuses. No one is asked: the champion is ahead.
    """
    before = set(airflow.client.run_ids(DAG))
    asked = {
        "dag_id": DAG,
        "from_date": "2022-12-01T00:00:00Z",
        "to_date": "2024-12-01T00:00:00Z",
        "max_active_runs": 2,
        "dag_run_conf": {"train_crossencoder.learning_rate": 3e-4, "promote.margin": 1},
    }
    # Airflow refuses while another of its processes writes to SQLite.
    wait(lambda: api.post("/backfills", json=asked).is_success, "a backfill", airflow)
    run_ids = wait(lambda: len(found := set(airflow.client.run_ids(DAG)) - before) == 2 and found, "two runs")
    assert run_ids
    assert all(set(ended(airflow, run_id).values()) == {"success", "skipped"} for run_id in run_ids)
    return sorted(run_ids, key=lambda run_id: times(airflow, run_id)["download"])


def times(airflow: LocalAirflow, run_id: str) -> dict[str, tuple[datetime, datetime]]:
    """Returns when each task of a run started and ended."""
    found = airflow.client.task_states(DAG, run_id)
    return {task.task_id: (task.started, task.ended) for task in found if task.started and task.ended}


def test_backfill_runs_take_turns_at_each_stage(airflow: LocalAirflow, backfill: list[str]) -> None:
    first, second = (times(airflow, run_id) for run_id in backfill)
    for task in ("convert", "train-biencoder", "train-crossencoder"):
        (_, ended), (begun, _) = sorted((first[task], second[task]))
        assert ended <= begun, task


def test_run_with_the_same_params_reuses_all_stages(
    airflow: LocalAirflow, airflow_folder: Path, backfill: list[str], retrained: RetrainedRun
) -> None:
    second = backfill[1]
    run = open_run(run_address(str(airflow_folder / "store"), second))
    for task in retrained.states.keys() - SKIPPED - {"approve"}:
        record = run.record(task)
        assert record is not None
        assert record.reused, task
        assert any(line.text.startswith("reused ") for line in airflow.client.log(DAG, second, task, 1)), task
    assert any("no approval needed" in line.text for line in airflow.client.log(DAG, second, "approve", 1))
