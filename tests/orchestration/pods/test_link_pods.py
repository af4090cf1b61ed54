"""Pods of the mapped task ``link`` of the DAG ``zeshel_link``."""

import json
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from airflow.sdk.bases.operator import ExecutorSafeguard
from airflow.sdk.exceptions import AirflowException, AirflowFailException

from tests.orchestration.pods.conftest import FakeCluster, TaskInstance, come_back, start
from zeshel_tasks.link_files.counts import LinkedCounts
from zeshel_tasks.link_files.plan import LinkPlan
from zeshel_tasks.link_files.shards import link_shards
from zeshel_tasks.location import store_location
from zeshel_tasks.orchestration.link_commands import LinkCommand

PLANNED = {"models": "m1"}
UNRENDERED = {"example.com/template": "{{ ds }}"}
MakeLink = Callable[[], tuple[Any, dict[str, Any]]]


class LinkInstance(TaskInstance):
    """The second mapped task."""

    def __init__(self) -> None:
        super().__init__("link")
        self.dag_id, self.map_index = "zeshel_link", 1

    def xcom_pull(self, **_: Any) -> dict[str, str]:
        """Returns the XCom of the task ``models``."""
        return {"models": "f1"}


@pytest.fixture
def make_link(
    load_dag_file: Callable[..., ModuleType], cluster: FakeCluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> MakeLink:
    """Makes the mapped task as Airflow does on a worker, and its context."""
    monkeypatch.setattr(ExecutorSafeguard, "test_mode", True)
    store = f"{tmp_path}/store"
    pods = {"image": "zeshel-tasks:1", "namespace": "ml", "inCluster": False, "pollIntervalSeconds": 1, "gpus": 2}
    variables = {"ZESHEL_RUNNER": "kubernetes", "ZESHEL_PODS": json.dumps({**pods, "annotations": UNRENDERED})}
    mapped = load_dag_file("zeshel_link", ZESHEL_STORE=store, **variables).links
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "b.jsonl").write_text("{}")
    LinkPlan(made_from=PLANNED, files=("b.jsonl",)).write(store_location(f"{store}/links/r1/plan.json"))

    def make() -> tuple[Any, dict[str, Any]]:
        params = {"kb": "k", "in": f"{tmp_path}/in", "out": f"{tmp_path}/out", "memory": "5Gi"}
        context = {"ti": LinkInstance(), "run_id": "r1", "params": params, "dag": None}
        task = mapped.unmap({"command": LinkCommand(store).for_files(["b.jsonl"])})
        # A MappedOperator names these arguments; a BaseOperator does not.
        task._do_render_template_fields(
            parent=task, template_fields=mapped.template_fields, context=context, jinja_env=None, seen_oids=set()
        )
        return task, {**context, "task": task}

    return make


@pytest.fixture
def link_the_file(tmp_path: Path) -> Callable[[], None]:
    def link_file(_: Path, __: str, made: Path) -> LinkedCounts:
        made.write_text("linked")
        return LinkedCounts(lines=1, mentions=2)

    source, target = (store_location(f"{tmp_path}/{name}") for name in ("in", "out"))
    return lambda: print(*link_shards(source, target, ["b.jsonl"], PLANNED, link_file, tmp_path))


def test_pod_of_a_mapped_task_has_its_files_and_number(make_link: MakeLink, cluster: FakeCluster) -> None:
    start(*make_link())
    metadata, (container,) = cluster.pod["metadata"], cluster.pod["spec"]["containers"]
    assert container["args"][0] == "link"
    assert container["args"][-1] == "--shard=b.jsonl"
    assert container["resources"]["limits"] == {"nvidia.com/gpu": "1", "memory": "5Gi"}
    wanted = {"zeshel/stage": "link", "zeshel/run": "r1", "dag_id": "zeshel_link", "map_index": "1"}
    assert metadata["labels"].items() >= wanted.items()
    assert metadata["annotations"] == UNRENDERED


def test_pod_that_is_gone_has_done_its_work_if_the_files_are_linked(
    make_link: MakeLink, cluster: FakeCluster, link_the_file: Callable[[], None]
) -> None:
    task, context = make_link()
    name = start(task, context)
    cluster.pods.clear()
    with pytest.raises(AirflowException, match=f"link: pod {name} is gone") as caught:
        come_back(task, context, name, "failed")
    assert not isinstance(caught.value, AirflowFailException)
    link_the_file()
    assert come_back(task, context, name, "failed")["mentions"] == 2


def test_linked_files_need_no_pod(make_link: MakeLink, cluster: FakeCluster, link_the_file: Callable[[], None]) -> None:
    link_the_file()
    task, context = make_link()
    linked = task.execute(context)
    assert cluster.pods == {}
    assert linked["files"] == ["b.jsonl"]
    assert task.do_xcom_push, "else Airflow ignores what the task returns"


def test_task_returns_what_airflow_is_to_map_over(
    make_link: MakeLink, cluster: FakeCluster, link_the_file: Callable[[], None]
) -> None:
    task, context = make_link()
    name = start(task, context)
    assert not task.do_xcom_push, "else the pod has a sidecar"
    link_the_file()
    cluster.pods.clear()
    assert come_back(task, context, name, "failed")["mentions"] == 2
    assert task.do_xcom_push
