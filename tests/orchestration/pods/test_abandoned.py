"""The search for pods that no task waits for, with Airflow's table of tasks and a fake Kubernetes API."""

import threading
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
from airflow.utils.state import State
from kubernetes.client import ApiException
from sqlalchemy import Column, Integer, MetaData, String, Table, create_engine, delete, insert
from sqlalchemy.exc import OperationalError
from sqlalchemy.orm import Session
from urllib3.exceptions import MaxRetryError

from tests.orchestration.pods.conftest import CONNECTION_LOST, FakeCluster, MakeTask, start
from tests.support.faults import Fault
from zeshel_tasks.orchestration.pods import abandoned, listener
from zeshel_tasks.orchestration.pods.abandoned import delete_abandoned, pod_settings
from zeshel_tasks.pipeline.registry import STAGES
from zeshel_tasks.pipeline.stage import Step

STEP = Step(STAGES["eval-biencoder"], "test")
RUN = "scheduled__2026-01-01T00:00:00+00:00"  # not a valid label
NO_TASK = "no such task"


@pytest.fixture
def set_state(monkeypatch: pytest.MonkeyPatch) -> Callable[[str | None], None]:
    """``set_state("failed")`` sets the state of the only task in Airflow's database, which may be a mapped one."""
    engine = create_engine("sqlite://")
    monkeypatch.setattr(abandoned, "create_session", lambda: Session(engine))
    columns = [Column(name, String) for name in ("dag_id", "run_id", "task_id", "state")]
    table = Table("task_instance", MetaData(), *columns, Column("map_index", Integer))
    table.create(engine)

    def set_state(state: str | None, map_index: int = -1) -> None:
        with engine.begin() as connection:
            connection.execute(delete(table))
            if state != NO_TASK:
                connection.execute(insert(table).values(("zeshel", RUN, STEP.name, state, map_index)))

    return set_state


@pytest.fixture
def look(make_task: MakeTask, cluster: FakeCluster) -> Callable[[], None]:
    """Starts a task's pod; each call of the result is a search by the triggerer."""
    task, context = make_task(STEP, instance="here")
    context["run_id"] = RUN
    task.render_template_fields(context)
    start(task, context)
    cluster.pod["metadata"]["uid"] = "u1"
    cluster.set_status("Running", {"running": {}})
    suspects = set[str]()

    def search() -> None:
        nonlocal suspects
        suspects = delete_abandoned(task.pods, suspects)

    return search


@pytest.mark.parametrize("state", [*State.task_states, NO_TASK])
def test_pod_is_deleted_only_if_no_task_can_wait_for_it(
    state: str | None,
    set_state: Callable[[str | None], None],
    look: Callable[[], None],
    cluster: FakeCluster,
    fault: Fault,
) -> None:
    set_state(state)
    look()
    assert cluster.pods, "the task may just have ended or been cleared"
    look()
    assert bool(cluster.pods) is (state in State.unfinished)
    fault("pods: a task ends while no triggerer watches its pod")


@pytest.mark.parametrize(("map_index", "kept"), [(3, True), (2, False), (-1, False)])
def test_mapped_task_waits_for_its_own_pod_only(
    map_index: int, kept: bool, set_state: Callable[..., None], look: Callable[[], None], cluster: FakeCluster
) -> None:
    cluster.pod["metadata"]["labels"]["map_index"] = "3"
    set_state("deferred", map_index)
    look()
    look()
    assert bool(cluster.pods) is kept


def test_pod_of_a_cleared_task_is_kept(
    set_state: Callable[[str | None], None], look: Callable[[], None], cluster: FakeCluster
) -> None:
    for state in ("failed", None, "failed"):
        set_state(state)
        look()
    assert cluster.pods


@pytest.mark.parametrize(
    "change",
    [
        lambda pod: pod["status"].update(phase="Failed"),
        lambda pod: pod["status"].update(phase="Succeeded"),
        lambda pod: pod["metadata"].update(deletionTimestamp="2026-01-01T00:00:00Z"),
        lambda pod: pod["metadata"]["labels"].update({"app.kubernetes.io/instance": "there"}),
        lambda pod: pod["metadata"]["labels"].update({"app.kubernetes.io/name": "other"}),
    ],
    ids=["failed", "succeeded", "being deleted", "of another deployment", "of another program"],
)
def test_other_pods_are_left_alone(
    change: Callable[[dict[str, Any]], None],
    set_state: Callable[[str | None], None],
    look: Callable[[], None],
    cluster: FakeCluster,
) -> None:
    set_state("failed")
    change(cluster.pod)
    look()
    look()
    assert cluster.pods


def test_no_pod_is_deleted_without_an_answer_of_the_database(
    set_state: Callable[[str | None], None],
    look: Callable[[], None],
    cluster: FakeCluster,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    set_state("failed")
    look()
    monkeypatch.setattr(abandoned, "create_session", lambda: Session(create_engine("sqlite://")))  # has no tables
    with pytest.raises(OperationalError):
        look()
    assert cluster.pods


@pytest.mark.parametrize("refusal", [(503, "etcd is away"), CONNECTION_LOST])
def test_search_goes_on_after_an_outage_of_kubernetes(
    refusal: tuple[int, str],
    set_state: Callable[[str | None], None],
    look: Callable[[], None],
    cluster: FakeCluster,
    fault: Fault,
) -> None:
    set_state("failed")
    look()
    cluster.refusals = [refusal] * 4
    with pytest.raises((ApiException, MaxRetryError)):
        look()
    cluster.refusals = []
    look()
    assert cluster.pods == {}
    fault("pods: the Kubernetes API fails during the search for abandoned pods")


@pytest.mark.parametrize("refusals", [[(500, "a webhook is away")], [CONNECTION_LOST] * 4])
def test_pod_whose_deletion_fails_is_deleted_later(
    refusals: list[tuple[int, str]],
    set_state: Callable[[str | None], None],
    look: Callable[[], None],
    cluster: FakeCluster,
    fault: Fault,
) -> None:
    set_state("failed")
    look()
    cluster.at_deletion = refusals
    look()
    assert cluster.pods
    cluster.at_deletion = []
    look()
    assert cluster.pods == {}
    fault("pods: the Kubernetes API fails during the search for abandoned pods")


@pytest.mark.parametrize(
    ("runner", "pods", "instance"),
    [
        ("kubernetes", '{"image": "i", "namespace": "ml", "instance": "here"}', "here"),
        ("kubernetes", '{"image": "i", "namespace": "ml"}', None),
        ("kubernetes", "", None),
        ("kubernetes", "{", None),
        ("process", '{"image": "i", "namespace": "ml", "instance": "here"}', None),
    ],
)
def test_search_needs_a_deployment_with_a_name(
    runner: str, pods: str, instance: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ZESHEL_STORE", "/data/zeshel")
    monkeypatch.setenv("ZESHEL_RUNNER", runner)
    monkeypatch.setenv("ZESHEL_PODS", pods)
    found = pod_settings()
    assert (found.instance if found else None) == instance


@pytest.fixture
def searches(monkeypatch: pytest.MonkeyPatch) -> list[set[str]]:
    """The suspects of each search of a component. The second search fails. The fourth one is the last."""
    seen: list[set[str]] = []

    def search(_: object, suspects: set[str]) -> set[str]:
        seen.append(suspects)
        if len(seen) == 2:
            raise ConnectionError("the database is away")
        return {str(len(seen))}

    monkeypatch.setattr(abandoned, "pod_settings", lambda: "settings" if len(seen) < 4 else None)
    monkeypatch.setattr(abandoned, "delete_abandoned", search)
    return seen


class Job:
    """A component of Airflow, as a listener gets it. Its type comes later."""

    def __init__(self, later: str) -> None:
        self._later = later

    @property
    def heartrate(self) -> float:
        """Airflow remembers the first answer."""
        raise AssertionError("asked for before the type is known")

    @property
    def job_type(self) -> str:
        """Is read only after the pause."""
        return self._later


def start_component(component: object) -> None:
    """Starts a component as Airflow does, which tells its type later, and waits until its search has ended."""
    before = set(threading.enumerate())
    listener.on_starting(component)
    for thread in set(threading.enumerate()) - before:
        thread.join(30)


def test_triggerer_searches_again_and_again(searches: list[set[str]]) -> None:
    start_component(Job("TriggererJob"))
    assert searches == [set(), {"1"}, set(), {"3"}]


@pytest.mark.parametrize("component", [Job("SchedulerJob"), SimpleNamespace()])
def test_no_other_component_searches(component: object, searches: list[set[str]]) -> None:
    start_component(component)
    assert searches == []
