"""What the triggerer sees of a pod, behind a fake Kubernetes API."""

import asyncio
import threading
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any

import pytest
from airflow.jobs.triggerer_job_runner import TriggerRunner
from airflow.sdk.exceptions import AirflowRuntimeError, TaskDeferred
from airflow.sdk.execution_time.comms import ErrorResponse
from airflow.sdk.execution_time.task_runner import RuntimeTaskInstance

from tests.orchestration.pods.conftest import CONNECTION_LOST, FakeCluster, MakeTask
from tests.support.faults import Fault
from zeshel_tasks.orchestration.pods.trigger import UNREACHABLE_SINCE, StagePodTrigger
from zeshel_tasks.pipeline.registry import STAGES
from zeshel_tasks.pipeline.stage import Step

STEP = Step(STAGES["eval-biencoder"], "test")
RUNNING: dict[str, Any] = {"running": {}}
TOO_OFTEN = 11  # Airflow's trigger gives up after 5 requests, and aiohttp repeats one if its connection is closed


@pytest.fixture
def waiting(make_task: MakeTask, cluster: FakeCluster) -> StagePodTrigger:
    """The trigger of a task, as the triggerer makes it of what is in Airflow's database."""
    task, context = make_task(STEP, pollIntervalSeconds=1, scheduleTimeoutSeconds=1)
    with pytest.raises(TaskDeferred) as deferred:
        task.execute(context)
    path, arguments = deferred.value.trigger.serialize()
    assert path == "zeshel_tasks.orchestration.pods.trigger.StagePodTrigger"
    trigger = StagePodTrigger(**{**arguments, "poll_interval": 0.01, "startup_check_interval": 0.01})
    trigger.log_events_on_startup = False
    trigger._task_instance = SimpleNamespace(
        id=1, dag_id="zeshel", task_id=STEP.name, run_id="r1", map_index=-1, try_number=1, context_carrier=None
    )
    return trigger


def event_of(trigger: StagePodTrigger) -> dict[str, Any]:
    """The only event."""

    async def events() -> list[dict[str, Any]]:
        return [event.payload async for event in trigger.run()]

    (event,) = asyncio.run(events())
    return event


def ago(**time: float) -> str:
    return (datetime.now(UTC) - timedelta(**time)).strftime("%Y-%m-%dT%H:%M:%SZ")


def test_end_of_the_container_is_seen_whatever_its_sidecar_does(waiting: StagePodTrigger, cluster: FakeCluster) -> None:
    cluster.set_status("Running", {"terminated": {"exitCode": 0}})
    assert event_of(waiting)["status"] == "success"


def test_event_waits_until_the_executor_knows_that_the_task_has_deferred(
    waiting: StagePodTrigger, cluster: FakeCluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    slept: list[float] = []
    sleep = asyncio.sleep

    async def note(seconds: float) -> None:
        slept.append(seconds)
        await sleep(0)

    monkeypatch.setattr("zeshel_tasks.orchestration.pods.trigger.SETTLE_SECONDS", 3600)
    monkeypatch.setattr("zeshel_tasks.orchestration.pods.trigger.asyncio.sleep", note)
    cluster.end(0)
    assert event_of(waiting)["status"] == "success"
    assert max(slept) == pytest.approx(3600, abs=60)


@pytest.mark.parametrize("refusal", [(503, "etcd is away"), CONNECTION_LOST])
def test_outage_is_waited_for(
    waiting: StagePodTrigger, cluster: FakeCluster, fault: Fault, refusal: tuple[int, str]
) -> None:
    cluster.set_status("Running", RUNNING)
    cluster.at_reading = [lambda: None, lambda: cluster.refusals.extend([refusal] * TOO_OFTEN), lambda: None]
    cluster.at_reading.append(lambda: cluster.end(0))
    event = event_of(waiting)
    assert event["status"] == "success"
    assert UNREACHABLE_SINCE not in event
    assert cluster.refusals == []
    fault("pods: the Kubernetes API fails while a stage runs", TOO_OFTEN)


def test_outage_of_a_day_is_reported(
    waiting: StagePodTrigger, cluster: FakeCluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("zeshel_tasks.orchestration.pods.trigger.OUTAGE_SECONDS", -1)
    cluster.refusals = [(503, "etcd is away")] * TOO_OFTEN
    event = event_of(waiting)
    assert event["status"] == "error"
    assert event[UNREACHABLE_SINCE] > 0


@pytest.mark.parametrize("deleted", [{"hours": 1}, {"minutes": 2}])
def test_pod_that_stays_terminating_is_lost(
    waiting: StagePodTrigger, cluster: FakeCluster, deleted: dict[str, float], fault: Fault
) -> None:
    cluster.set_status("Running", RUNNING)
    cluster.pod["metadata"]["deletionTimestamp"] = ago(**deleted)
    event = event_of(waiting)
    assert event["status"] == "timeout"
    assert event["message"].startswith("it should have been deleted at ")
    fault("pods: a node is lost")


def test_pod_that_outlives_its_deadline_is_lost(waiting: StagePodTrigger, cluster: FakeCluster, fault: Fault) -> None:
    cluster.pod["spec"] |= {"activeDeadlineSeconds": 3600, "terminationGracePeriodSeconds": 60}
    cluster.set_status("Running", RUNNING, startTime=ago(minutes=63))
    assert "activeDeadlineSeconds, 3600, are over" in event_of(waiting)["message"]
    fault("pods: a node is lost")


def test_pod_that_is_being_deleted_may_still_end(waiting: StagePodTrigger, cluster: FakeCluster) -> None:
    cluster.set_status("Running", RUNNING)
    cluster.pod["metadata"]["deletionTimestamp"] = ago(seconds=30)
    cluster.at_reading = [lambda: None] * 5 + [lambda: cluster.end(75)]
    assert event_of(waiting)["status"] == "failed"


def test_time_in_a_queue_does_not_count_as_waiting_for_a_node(waiting: StagePodTrigger, cluster: FakeCluster) -> None:
    cluster.pod["spec"]["schedulingGates"] = [{"name": "kueue.x-k8s.io/admission"}]
    waiting.schedule_timeout = 0

    def admit() -> None:
        cluster.pod["spec"]["schedulingGates"] = []
        cluster.end(0)

    cluster.at_reading = [lambda: None] * 5 + [admit]
    assert event_of(waiting)["status"] == "success"


def test_unreadable_log_does_not_end_the_waiting(
    waiting: StagePodTrigger, cluster: FakeCluster, monkeypatch: pytest.MonkeyPatch, fault: Fault
) -> None:
    async def unreadable(**_: Any) -> None:
        raise OSError("the node does not answer")

    monkeypatch.setattr(waiting.hook, "read_logs", unreadable)
    waiting.logging_interval = 0.001
    cluster.set_status("Running", RUNNING)
    cluster.at_reading = [lambda: None] * 5 + [lambda: cluster.end(0)]
    assert event_of(waiting)["status"] == "success"
    fault("pods: the log cannot be read")


@pytest.mark.parametrize(
    ("states", "kept"),
    [
        ({"r1": {STEP.name: "deferred"}}, True),
        ({"r1": {STEP.name: "running"}}, True),
        ({"r1": {STEP.name: "failed"}}, False),
        ({"r1": {STEP.name: "success"}}, False),
        ({"r1": {STEP.name: None}}, False),
        ({"r1": {STEP.name: "scheduled"}}, False),
        ({}, False),
        (AirflowRuntimeError(ErrorResponse()), True),
    ],
)
def test_pod_is_deleted_only_if_a_person_ended_its_task(
    waiting: StagePodTrigger,
    cluster: FakeCluster,
    monkeypatch: pytest.MonkeyPatch,
    states: dict[str, Any] | Exception,
    kept: bool,
    fault: Fault,
) -> None:
    def get_task_states(**asked: Any) -> dict[str, Any]:
        assert (asked["dag_id"], asked["task_ids"], asked["run_ids"]) == ("zeshel", [STEP.name], ["r1"])
        if isinstance(states, Exception):
            raise states
        return states

    monkeypatch.setattr(RuntimeTaskInstance, "get_task_states", get_task_states)
    asyncio.run(waiting.on_kill())
    assert bool(cluster.pods) is kept
    fault("pods: a triggerer loses its triggers to another one")


def test_deletion_survives_that_airflow_cancels_the_trigger_again(
    waiting: StagePodTrigger, cluster: FakeCluster, monkeypatch: pytest.MonkeyPatch, fault: Fault
) -> None:
    """Each second, Airflow cancels triggers that have not ended. On a busy machine, the answer takes longer."""
    watched, asked, answered = threading.Event(), threading.Event(), threading.Event()

    def get_task_states(**_: Any) -> dict[str, Any]:
        asked.set()
        assert answered.wait(30)
        return {"r1": {STEP.name: "failed"}}

    async def cancel_twice() -> None:
        runner = TriggerRunner()
        task = asyncio.create_task(runner.run_trigger(7, waiting))
        runner.triggers[7] = {"task": task, "is_watcher": False, "name": "a stage", "events": 0}
        await asyncio.to_thread(watched.wait, 30)
        runner.to_cancel.append(7)
        await runner.cancel_triggers()
        await asyncio.to_thread(asked.wait, 30)
        runner.to_cancel.append(7)
        await runner.cancel_triggers()
        await asyncio.wait([task])
        answered.set()
        await asyncio.gather(*asyncio.all_tasks() - {asyncio.current_task()}, return_exceptions=True)

    monkeypatch.setattr(RuntimeTaskInstance, "get_task_states", get_task_states)
    cluster.set_status("Running", RUNNING)
    cluster.at_reading = [lambda: None, lambda: None, watched.set]
    asyncio.run(cancel_twice())
    assert asked.is_set()
    assert cluster.pods == {}
    fault("pods: a triggerer ends the deletion of a pod")
