"""Explains why Kubernetes did not create a task's pod, and what to do about it."""

from __future__ import annotations

import json

from airflow.sdk.exceptions import AirflowException, AirflowFailException
from kubernetes.client import ApiException
from urllib3.exceptions import HTTPError

from zeshel_tasks.orchestration.pods.outage import is_outage


def not_created(name: str, error: ApiException | HTTPError) -> AirflowException:
    """Return the exception for a pod that could not be created.

    Returns:
        AirflowFailException if the same pod will be refused again, else AirflowException.
    """
    if isinstance(error, HTTPError) or is_outage(error):
        return AirflowException(f"{name}: the pod was not created, because Kubernetes does not answer: {error}")
    message = _message(error)
    if error.status == 403 and "exceeded quota" in message:
        return AirflowException(
            f"{name}: the pod was not created, because the quota of its namespace is used up. Wait for other pods "
            f"to end, or raise the quota (resourceQuota.hard):\n{message}"
        )
    if error.status == 403 and "is forbidden: User " in message:
        return AirflowException(
            f"{name}: the pod was not created, because Airflow may not create pods. Bind the Role to the account "
            f"that runs the task (rbac.subjects):\n{message}"
        )
    if error.status in (400, 403, 422):
        return AirflowFailException(f"{name}: Kubernetes refuses the pod ({error.status}), not retried:\n{message}")
    return AirflowException(f"{name}: the pod was not created ({error.status}):\n{message}")


def _message(error: ApiException) -> str:
    try:
        return str(json.loads(error.body)["message"])
    except (KeyError, TypeError, ValueError):
        return str(error.reason)
