"""A stage whose pod, node or Kubernetes API is disturbed."""

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from airflow.sdk.exceptions import AirflowException, AirflowFailException, TaskDeferred

from tests.orchestration.pods.conftest import CONNECTION_LOST, MakeTask, come_back, commit, start
from tests.support.faults import Fault
from zeshel_tasks.orchestration.pods.trigger import UNREACHABLE_SINCE
from zeshel_tasks.pipeline.registry import STAGES
from zeshel_tasks.pipeline.stage import Step

STEP = Step(STAGES["eval-biencoder"], "test")
REFUSALS = [
    (422, 'Pod "x" is invalid: spec.containers[0].resources.requests: must be less than the limit', False),
    (400, 'admission webhook "policy" denied the request: no', False),
    (403, 'pods "x" is forbidden: violates PodSecurity "restricted:latest"', False),
    (403, 'pods "x" is forbidden: exceeded quota: gpus, requested: requests.nvidia.com/gpu=4', True),
    (403, 'pods is forbidden: User "system:serviceaccount:a:b" cannot create resource "pods"', True),
    (404, 'namespaces "ml" not found', True),
]


@pytest.mark.parametrize(("status", "message", "retried"), REFUSALS)
def test_pod_that_is_not_created_is_explained(
    make_task: MakeTask, cluster: Any, status: int, message: str, retried: bool, fault: Fault
) -> None:
    task, context = make_task(STEP)
    cluster.at_creation = [(status, message)] * 20
    with pytest.raises(AirflowException) as caught:
        task.execute(context)
    assert str(caught.value).startswith("eval-biencoder-test: ")
    assert message in str(caught.value)
    assert isinstance(caught.value, AirflowFailException) is not retried
    assert caught.value.__cause__ is None
    fault("pods: Kubernetes does not create a pod")


@pytest.mark.parametrize("refusal", [(503, "etcd is away"), CONNECTION_LOST])
def test_task_waits_with_its_pod_until_kubernetes_answers(
    make_task: MakeTask, cluster: Any, refusal: tuple[int, str], fault: Fault
) -> None:
    task, context = make_task(STEP)
    cluster.refusals = [refusal] * 100
    with pytest.raises(TaskDeferred) as deferred:
        task.execute(context)
    assert cluster.pods == {}
    with pytest.raises(TaskDeferred) as again:
        task.resume_execution(deferred.value.method_name, {**deferred.value.kwargs, "event": "now"}, context)
    assert again.value.kwargs == deferred.value.kwargs
    cluster.refusals = []
    with pytest.raises(TaskDeferred):
        task.resume_execution(again.value.method_name, {**again.value.kwargs, "event": "now"}, context)
    assert list(cluster.pods) == [context["ti"].xcom["pod_name"]]
    fault("pods: the Kubernetes API fails before a stage runs", 2)


def test_pod_that_cannot_be_created_for_a_day_fails_the_task(make_task: MakeTask, cluster: Any) -> None:
    task, context = make_task(STEP)
    cluster.refusals = [(503, "etcd is away")] * 100
    with pytest.raises(AirflowException, match="the pod was not created, because Kubernetes does not answer"):
        task.execute_again(context, since=0.0)


def is_being_deleted(cluster: Any, ago: timedelta) -> None:
    deleted = (datetime.now(UTC) - ago).strftime("%Y-%m-%dT%H:%M:%SZ")
    cluster.pod["metadata"]["deletionTimestamp"] = deleted
    cluster.set_status("Running", {"running": {}})


def test_lost_pod_fails_its_try_and_is_not_taken_over(make_task: MakeTask, cluster: Any, fault: Fault) -> None:
    task, context = make_task(STEP)
    name = start(task, context)
    is_being_deleted(cluster, timedelta(hours=1))
    stuck = cluster.pod
    with pytest.raises(
        AirflowException,
        match=r"is lost, probably with its node: it should have been deleted at .*where it can",
    ) as why:
        come_back(task, context, name, "timeout", "it should have been deleted")
    assert not isinstance(why.value, AirflowFailException)
    cluster.pods[name] = stuck  # no node confirms its deletion
    task, context = make_task(STEP)
    context["ti"].try_number = 2
    assert start(task, context) != name
    fault("pods: a node is lost")


def test_cleared_task_does_not_take_over_a_lost_pod(make_task: MakeTask, cluster: Any, fault: Fault) -> None:
    name = start(*make_task(STEP))
    is_being_deleted(cluster, timedelta(hours=1))
    for try_number in (2, 3):
        task, context = make_task(STEP)
        context["ti"].try_number = try_number
        new = start(task, context)
        assert new != name
        assert set(cluster.pods) == {name, new}
    fault("pods: a node is lost", 2)


def test_cleared_task_waits_until_the_deleted_pod_has_saved_its_checkpoint(make_task: MakeTask, cluster: Any) -> None:
    name = start(*make_task(STEP))
    is_being_deleted(cluster, timedelta(seconds=-60))
    task, context = make_task(STEP)
    context["ti"].try_number = 2
    cluster.at_reading = [lambda: None, lambda: None, cluster.pods.clear]
    assert start(task, context) != name
    assert len(cluster.pods) == 1
    assert cluster.at_reading == []


def test_task_stopped_while_it_waits_for_a_deleted_pod_creates_none(make_task: MakeTask, cluster: Any) -> None:
    name = start(*make_task(STEP))
    is_being_deleted(cluster, timedelta(seconds=-60))
    task, context = make_task(STEP)
    cluster.at_reading = [lambda: None, task.on_kill]
    with pytest.raises(AirflowException, match="stopped before its pod was created"):
        task.execute(context)
    assert list(cluster.pods) == [name]


def with_a_sidecar_that_runs_on(cluster: Any, exit_code: int) -> None:
    cluster.pod["spec"]["containers"].append({"name": "linkerd-proxy", "image": "i"})
    cluster.set_status("Running", {"terminated": {"exitCode": exit_code, "message": "", "reason": "x"}})
    proxy = {"name": "linkerd-proxy", "state": {"running": {}}, "ready": True}
    cluster.pod["status"]["containerStatuses"].insert(0, {**cluster.pod["status"]["containerStatuses"][0], **proxy})


@pytest.mark.parametrize(("exit_code", "status"), [(0, "success"), (1, "failed")])
def test_stage_has_ended_although_a_sidecar_runs_on(
    make_task: MakeTask, cluster: Any, tmp_path: Path, exit_code: int, status: str, fault: Fault
) -> None:
    task, context = make_task(STEP)
    name = start(task, context)
    with_a_sidecar_that_runs_on(cluster, exit_code)
    commit(STEP, tmp_path / "store")
    if exit_code == 0:
        assert come_back(task, context, name, status) == {"mentions": 7}
    else:
        with pytest.raises(AirflowException, match="crashed"):
            come_back(task, context, name, status, "Container state failed")
    assert cluster.pods == {}
    fault("pods: a sidecar runs on")


@pytest.mark.parametrize("refusal", [(503, "etcd is away"), CONNECTION_LOST])
def test_outage_of_kubernetes_returns_the_task_to_the_triggerer(
    make_task: MakeTask, cluster: Any, tmp_path: Path, refusal: tuple[int, str], fault: Fault
) -> None:
    task, context = make_task(STEP)
    name = start(task, context)
    cluster.refusals = [refusal] * 100
    with pytest.raises(TaskDeferred) as deferred:
        come_back(task, context, name, "error", "no answer")
    arguments = deferred.value.trigger.serialize()[1]
    assert (arguments["pod_name"], arguments["pod_namespace"]) == (name, "ml")
    assert UNREACHABLE_SINCE in arguments["trigger_kwargs"]
    commit(STEP, tmp_path / "store")
    assert come_back(task, context, name, "error", "no answer") == {"mentions": 7}
    fault("pods: the Kubernetes API fails while a stage runs")


def test_outage_of_a_day_fails_the_task(make_task: MakeTask, cluster: Any) -> None:
    task, context = make_task(STEP)
    name = start(task, context)
    cluster.refusals = [(503, "etcd is away")] * 100
    event = {"name": name, "namespace": "ml", "status": "error", "message": "", UNREACHABLE_SINCE: 0.0}
    with pytest.raises(AirflowException, match="has not answered for a day"):
        task.trigger_reentry(context, event)


@pytest.mark.parametrize("refusal", [(503, "etcd is away"), (403, "pods is forbidden"), CONNECTION_LOST])
def test_stored_result_is_reused_although_kubernetes_does_not_answer(
    make_task: MakeTask, cluster: Any, downloaded: dict[str, Any], refusal: tuple[int, str], fault: Fault
) -> None:
    task, context = make_task(Step(STAGES["download"]), downloaded)
    context["ti"].try_number = 2
    cluster.refusals = [refusal] * 100
    assert task.execute(context)["worlds"] == 8
    fault("pods: the Kubernetes API fails when a pod is looked for")


@pytest.mark.parametrize("other", [{"instance": "other"}, {"store": "/other/store"}])
def test_pod_of_another_deployment_is_left_alone(
    make_task: MakeTask, cluster: Any, other: dict[str, Any], fault: Fault
) -> None:
    theirs = start(*make_task(STEP, **other))
    cluster.set_status("Running", {"running": {}})
    task, context = make_task(STEP)
    context["ti"].try_number = 2
    mine = start(task, context)
    assert set(cluster.pods) == {theirs, mine}
    assert mine != theirs
    fault("pods: another deployment's pod of the same run")
