"""A real Airflow retrains when the data set is updated, asks before it promotes, and sends mails.

The notifier is the one in docs/operations.md. Its mails go to the tests' own server.
"""

from __future__ import annotations

import html
import itertools
from pathlib import Path

import httpx
import pytest

from tests.mailbox import Mailbox, text_of
from tests.orchestration.real_airflow import DAG, ended, wait
from tests.whole_airflow import RetrainedRun
from zeshel_tasks.champion.champions import read_champions
from zeshel_tasks.demo.local_airflow import LocalAirflow
from zeshel_tasks.store import LocalStore

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


def test_asset_event_has_the_decision(airflow: LocalAirflow, retrained: RetrainedRun) -> None:
    events = airflow.client.asset_events(DAG, retrained.run_id)
    (event,) = [found for found in events if found["source_task_id"] == "promote"]
    assert event["extra"]["metrics"]["promoted"] is True
    assert event["extra"]["metrics"]["reason"] == "there was no champion"


def test_late_run_sends_mail(retrained: RetrainedRun, mailbox: Mailbox) -> None:
    assert "It began 20" in text_of(mailbox.wait(f"{retrained.run_id} is late"))


def test_failed_run_sends_mail(airflow: LocalAirflow, airflow_folder: Path, mailbox: Mailbox) -> None:
    airflow.client.trigger(DAG, {"download.source": str(airflow_folder / "nowhere")}, "bad")
    assert ended(airflow, "bad")["download"] == "failed"
    assert DAG in mailbox.wait("Run ID bad")["subject"]


def test_backfill_runs_take_turns_at_each_stage(
    airflow: LocalAirflow, api: httpx.Client, retrained: RetrainedRun
) -> None:
    """All runs begin at once; the first trains and the others reuse. No one is asked: the champion is ahead."""
    changed = {"train_biencoder.learning_rate": 3e-4, "promote.margin": 1}
    backfill = {
        "dag_id": DAG,
        "from_date": "2021-12-01T00:00:00Z",
        "to_date": "2024-12-01T00:00:00Z",
        "max_active_runs": 3,
        "dag_run_conf": changed,
    }
    before = set(airflow.client.run_ids(DAG))
    # Airflow refuses while another of its processes writes to SQLite.
    wait(lambda: api.post("/backfills", json=backfill).is_success, "a backfill", airflow)
    run_ids = wait(lambda: len(found := set(airflow.client.run_ids(DAG)) - before) == 3 and found, "three runs")
    assert run_ids
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
