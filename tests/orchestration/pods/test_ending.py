from typing import Any

import pytest
from airflow.sdk.exceptions import AirflowFailException
from kubernetes.client import models as k8s

from zeshel_tasks.orchestration.pods.ending import exit_code, is_over, pod_failure

TASK = "train-biencoder"
EVENT = {"name": "zeshel-train-biencoder-x1", "status": "failed", "message": "pod failed"}


def pod(state: k8s.V1ContainerState | None = None, *, limits: dict[str, str] | None = None, **status: Any) -> k8s.V1Pod:
    """Returns a pod with one container in this state."""
    container = k8s.V1Container(name="base", image="i:1", resources=k8s.V1ResourceRequirements(limits=limits))
    described = k8s.V1ContainerStatus(name="base", image="i:1", image_id="", ready=False, restart_count=0, state=state)
    return k8s.V1Pod(
        metadata=k8s.V1ObjectMeta(name=EVENT["name"]),
        spec=k8s.V1PodSpec(containers=[container]),
        status=k8s.V1PodStatus(container_statuses=[described] if state else None, **status),
    )


def terminated(code: int, reason: str = "Error", message: str | None = None) -> k8s.V1ContainerState:
    return k8s.V1ContainerState(
        terminated=k8s.V1ContainerStateTerminated(exit_code=code, reason=reason, message=message)
    )


def waiting(reason: str, message: str | None = None) -> k8s.V1ContainerState:
    return k8s.V1ContainerState(waiting=k8s.V1ContainerStateWaiting(reason=reason, message=message))


@pytest.mark.parametrize(
    ("seen", "words"),
    [
        (None, ["zeshel-train-biencoder-x1 is gone", "continues where it can"]),
        (pod(terminated(137, "OOMKilled"), limits={"memory": "2Gi"}), ["out of memory", "limit of 2Gi", "`memory`"]),
        (pod(terminated(137, "OOMKilled")), ["out of memory", "more than its node provides"]),
        (pod(terminated(137)), ["ended by signal 9", "out of memory"]),
        (pod(terminated(143, message="INFO: checkpoint saved")), ["SIGTERM", "checkpoint saved"]),
        (pod(terminated(75, message="ERROR: store is away")), ["asks for a retry (exit code 75):\nstore is away"]),
        (pod(terminated(1, message="Traceback\nValueError: x")), ["crashed (exit code 1):\nTraceback\nValueError: x"]),
        (pod(reason="Evicted", message="low on disk"), ["evicted by its node (Evicted):\nlow on disk"]),
        (pod(terminated(137), reason="DeadlineExceeded"), ["activeDeadlineSeconds"]),
        (pod(terminated(143), reason="Terminated", message="node shutdown"), ["node shuts down", "node shutdown"]),
        (pod(waiting("ImagePullBackOff", "back-off")), ["image i:1 cannot be pulled", "imagePullSecrets", "back-off"]),
        (pod(waiting("CreateContainerConfigError", 'secret "s3" not found')), ["missing", 'secret "s3" not found']),
        (pod(waiting("ContainerCreating")), ["did not start (ContainerCreating)"]),
        (pod(), ["did not start:\npod failed"]),
    ],
)
def test_pod_failure_is_explained_and_retried(seen: k8s.V1Pod | None, words: list[str]) -> None:
    failure = pod_failure(TASK, seen, "base", EVENT)
    assert not isinstance(failure, AirflowFailException)
    assert str(failure).startswith("train-biencoder: ")
    for part in words:
        assert part in str(failure)


@pytest.mark.parametrize(
    ("seen", "words"),
    [
        (
            pod(terminated(2, message="ERROR: bad setting")),
            "bad configuration (exit code 2), not retried:\nbad setting",
        ),
        (pod(terminated(3, message="ERROR: bad file"), reason="Evicted"), "bad input data (exit code 3), not retried"),
        (pod(waiting("InvalidImageName")), "'i:1' is not the name of an image"),
    ],
)
def test_permanent_failure_is_not_retried(seen: k8s.V1Pod, words: str) -> None:
    failure = pod_failure(TASK, seen, "base", EVENT)
    assert isinstance(failure, AirflowFailException)
    assert words in str(failure)


def test_long_message_is_cut_to_its_last_lines() -> None:
    said = "\n".join(f"INFO: line {number}" for number in range(100))
    lines = str(pod_failure(TASK, pod(terminated(1, message=said)), "base", EVENT)).splitlines()
    assert lines[1:] == [f"INFO: line {number}" for number in range(80, 100)]


def test_exit_code_is_none_until_the_stage_ends() -> None:
    assert exit_code(pod(terminated(0)), "base") == 0
    assert exit_code(pod(waiting("x")), "base") is None
    assert exit_code(pod(), "base") is None
    assert exit_code(None, "base") is None


@pytest.mark.parametrize(
    ("phase", "over"), [("Succeeded", True), ("Failed", True), ("Running", False), ("Pending", False)]
)
def test_pod_is_over_if_succeeded_or_failed(phase: str, over: bool) -> None:
    assert is_over(pod(phase=phase)) is over
