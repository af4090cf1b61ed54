"""Notifications about runs that fail, are late, or wait for a person's answer."""

from __future__ import annotations

import pkgutil
from collections.abc import Mapping
from datetime import timedelta
from typing import Any

from airflow.sdk.definitions.callback import AsyncCallback
from airflow.sdk.definitions.deadline import DeadlineAlert, DeadlineReference

from zeshel_tasks.errors import ConfigError
from zeshel_tasks.orchestration.settings import Deployment


def alerts(deployment: Deployment) -> dict[str, Any]:
    """Return the arguments of ``DAG(...)`` that send notifications.

    Raises:
        ConfigError: there is a deadline without a notifier, or the notifier cannot be created.
    """
    if deployment.notifier is None:
        if deployment.deadline_minutes is not None:
            raise ConfigError(
                "ZESHEL_NOTIFIER: expected a notifier, because ZESHEL_DEADLINE_MINUTES is set; got nothing"
            )
        return {}
    notifier = deployment.notifier
    found: dict[str, Any] = {"on_failure_callback": _notifier(notifier.path, notifier.kwargs)}
    if deployment.deadline_minutes is not None:
        _notifier(notifier.path, notifier.kwargs | notifier.late)
        found["deadline"] = DeadlineAlert(
            reference=DeadlineReference.DAGRUN_QUEUED_AT,
            interval=timedelta(minutes=deployment.deadline_minutes),
            callback=AsyncCallback(notifier.path, kwargs=notifier.kwargs | notifier.late),
        )
    return found


def question_notifiers(deployment: Deployment) -> list[Any]:
    """Return the notifiers of questions, for the argument ``notifiers`` of Airflow's human-in-the-loop operators.

    Raises:
        ConfigError: the notifier cannot be created.
    """
    if (notifier := deployment.notifier) is None:
        return []
    return [_notifier(notifier.path, notifier.kwargs | notifier.question)]


def _notifier(path: str, kwargs: Mapping[str, Any]) -> Any:
    try:
        return pkgutil.resolve_name(path)(**kwargs)
    except (ImportError, AttributeError, TypeError, ValueError) as error:
        raise ConfigError(
            f"ZESHEL_NOTIFIER: expected the class and arguments of an Airflow notifier, got {path}: {error}"
        ) from error
