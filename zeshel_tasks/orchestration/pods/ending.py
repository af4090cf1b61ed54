"""Explains how a stage's pod ended, and what to do about it."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from airflow.sdk.exceptions import AirflowException, AirflowFailException
from kubernetes.client import models as k8s

from zeshel_tasks.orchestration.pods.lost import why_lost
from zeshel_tasks.orchestration.task_command import NO_RETRY, failure, with_lines

LAST_LINES = 20
# Reasons of a pod's status: https://kubernetes.io/docs/concepts/workloads/pods/disruptions
POD_REASONS = {
    "DeadlineExceeded": "ran for longer than activeDeadlineSeconds allows",
    "Evicted": "was evicted by its node",
    "NodeLost": "was lost with its node",
    "NodeShutdown": "was ended because its node shuts down",
    "Terminated": "was ended because its node shuts down",
    "Preempting": "was preempted by a pod of higher priority",
    "UnexpectedAdmissionError": "was refused by its node",
}


def container_state(pod: k8s.V1Pod | None, container: str) -> k8s.V1ContainerState | None:
    """Return the state of the stage's container; None before it exists and after the pod is gone."""
    statuses = (pod.status.container_statuses if pod is not None and pod.status else None) or []
    return next((status.state for status in statuses if status.name == container), None)


def exit_code(pod: k8s.V1Pod | None, container: str) -> int | None:
    """Return the stage's exit code; None until it has ended."""
    state = container_state(pod, container)
    return state.terminated.exit_code if state is not None and state.terminated else None


def is_over(pod: k8s.V1Pod) -> bool:
    """Return True if no container of this pod can run again."""
    return pod.status is not None and pod.status.phase in ("Succeeded", "Failed")


def pod_failure(name: str, pod: k8s.V1Pod | None, container: str, event: Mapping[str, Any]) -> AirflowException:
    """Return the exception that explains why the task is not done.

    Args:
        name: id of the task.
        pod: its last known state; None if it is gone.
        container: name of the stage's container.
        event: event of the trigger that watched the pod.

    Returns:
        AirflowFailException if a retry cannot help, else AirflowException.
    """
    if pod is None:
        return AirflowException(
            f"{name}: pod {event['name']} is gone, and its result is not in the store. It was deleted, evicted or "
            "preempted, or its node was lost; the next try continues where it can"
        )
    state = container_state(pod, container)
    code = exit_code(pod, container)
    lines = _last_lines(state)
    if code in NO_RETRY:
        return failure(name, code, lines)
    if state is not None and state.terminated and state.terminated.reason == "OOMKilled":
        return AirflowException(with_lines(_out_of_memory(name, pod, container), lines))
    if pod.status.reason in POD_REASONS:
        problem = f"{name}: the pod {POD_REASONS[pod.status.reason]} ({pod.status.reason})"
        return AirflowException(with_lines(problem, [pod.status.message] if pod.status.message else lines))
    if code is not None:
        return failure(name, code, lines)
    if state is not None and state.waiting and state.waiting.reason:
        return _did_not_start(name, pod, container, state.waiting)
    if (why := why_lost(pod, datetime.now(UTC))) is not None:
        problem = f"{name}: the pod {pod.metadata.name} is lost, probably with its node: {why}"
        return AirflowException(f"{problem}. The next try starts another one, which continues where it can")
    return AirflowException(with_lines(f"{name}: the pod did not start", _why_not_scheduled(pod, event)))


def _out_of_memory(name: str, pod: k8s.V1Pod, container: str) -> str:
    resources = next(c.resources for c in pod.spec.containers if c.name == container)
    limit = ((resources.limits if resources else None) or {}).get("memory")
    allowed = f"its limit of {limit}" if limit else "its node provides"
    return (
        f"{name}: out of memory: the container needed more than {allowed} and was killed (OOMKilled). Trigger "
        "a run with more `memory` or a smaller batch"
    )


def _did_not_start(name: str, pod: k8s.V1Pod, container: str, waiting: k8s.V1ContainerStateWaiting) -> AirflowException:
    image = next(c.image for c in pod.spec.containers if c.name == container)
    said = [waiting.message] if waiting.message else []
    if waiting.reason == "InvalidImageName":
        return AirflowFailException(
            with_lines(f"{name}: {image!r} is not the name of an image (InvalidImageName), not retried", said)
        )
    if waiting.reason in ("ErrImagePull", "ImagePullBackOff", "ErrImageNeverPull"):
        problem = (
            f"{name}: the image {image} cannot be pulled ({waiting.reason}). Check its name, "
            "that it is in the registry, and that the cluster may read it (imagePullSecrets)"
        )
    elif waiting.reason == "CreateContainerConfigError":
        problem = f"{name}: the container cannot be created: a Secret or ConfigMap that it names is missing"
    else:
        problem = f"{name}: the container did not start ({waiting.reason})"
    return AirflowException(with_lines(problem, said))


def _why_not_scheduled(pod: k8s.V1Pod, event: Mapping[str, Any]) -> list[str]:
    conditions = pod.status.conditions or []
    said = [c.message for c in conditions if c.type == "PodScheduled" and c.status == "False" and c.message]
    return [str(event["message"]), *said] if event.get("message") else said


def _last_lines(state: k8s.V1ContainerState | None) -> list[str]:
    """Return the stage's errors, else its last lines. The termination message is the end of its log."""
    message = state.terminated.message if state is not None and state.terminated else None
    lines = (message or "").splitlines()
    first_error = next((number for number, line in enumerate(lines) if line.startswith("ERROR: ")), None)
    kept = lines[first_error:] if first_error is not None else lines
    return [line.removeprefix("ERROR: ") for line in kept][-LAST_LINES:]
