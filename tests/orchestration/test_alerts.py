"""Notifications about failed and late runs, and the errors for wrong settings."""

import json
from collections.abc import Callable
from datetime import timedelta
from types import ModuleType

import pytest
from airflow.providers.smtp.notifications.smtp import SmtpNotifier

from zeshel_tasks.errors import ConfigError

LoadDagFile = Callable[..., ModuleType]
SMTP = {"class": "airflow.providers.smtp.notifications.smtp.SmtpNotifier", "kwargs": {"to": "team@example.org"}}


def test_dag_has_no_alerts_without_a_notifier(load_dag_file: LoadDagFile) -> None:
    dag = load_dag_file().report.dag
    assert not dag.on_failure_callback
    assert not dag.deadline


def test_notifier_is_set_for_failures_and_missed_deadlines(load_dag_file: LoadDagFile) -> None:
    notifier = SMTP | {"late": {"subject": "{{ dag_run.dag_run_id }} is late"}}
    dag = load_dag_file(ZESHEL_NOTIFIER=json.dumps(notifier), ZESHEL_DEADLINE_MINUTES="90").report.dag
    callbacks = dag.on_failure_callback if isinstance(dag.on_failure_callback, list) else [dag.on_failure_callback]
    assert [type(callback) for callback in callbacks] == [SmtpNotifier]
    (deadline,) = dag.deadline if isinstance(dag.deadline, list) else [dag.deadline]
    assert deadline.interval == timedelta(minutes=90)
    assert deadline.callback.path == SMTP["class"]
    assert deadline.callback.kwargs == {"to": "team@example.org", "subject": "{{ dag_run.dag_run_id }} is late"}
    assert callbacks[0].subject is None


@pytest.mark.parametrize(
    ("variables", "message"),
    [
        (
            {"ZESHEL_DEADLINE_MINUTES": "90"},
            "ZESHEL_NOTIFIER: expected a notifier, because ZESHEL_DEADLINE_MINUTES is set",
        ),
        ({"ZESHEL_DEADLINE_MINUTES": "-1"}, "ZESHEL_DEADLINE_MINUTES: .*greater than 0"),
        ({"ZESHEL_NOTIFIER": "{}"}, "ZESHEL_NOTIFIER.class"),
        (
            {"ZESHEL_NOTIFIER": '{"class": "no.such.Notifier"}'},
            "ZESHEL_NOTIFIER: expected the class and arguments of an Airflow",
        ),
        ({"ZESHEL_NOTIFIER": json.dumps(SMTP | {"kwargs": {"nobody": 1}})}, "ZESHEL_NOTIFIER: expected .* got airflow"),
        (
            {"ZESHEL_NOTIFIER": json.dumps(SMTP | {"late": {"nobody": 1}}), "ZESHEL_DEADLINE_MINUTES": "9"},
            "ZESHEL_NOTIFIER: expected .* got airflow",
        ),
        ({"ZESHEL_NOTIFIER": '{"class": "not a path"}'}, "ZESHEL_NOTIFIER.class"),
    ],
)
def test_invalid_alert_setting_is_named(load_dag_file: LoadDagFile, variables: dict[str, str], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        load_dag_file(**variables)
