"""A world of the merged run is encoded in eight shards. Two of their pods are killed.

The tests begin before those of the other runs beside the second one, because the shards come early in the run.
"""

from typing import Any

import pytest
from rich.console import Console
from rich.table import Table

from tests.cluster.deployment import DagRun
from tests.cluster.kubectl import eventually
from tests.cluster.pod_watch import PodWatch

SHARD, SHARDS, KILLED = "encode-shard", 8, 2


@pytest.fixture(scope="module")
def killed(merged_run: DagRun) -> set[int]:
    """Numbers of the shards whose pods were killed."""
    numbers, namespace = set[int](), merged_run.deployment.namespace

    def look() -> dict[str, Any] | None:
        pods = namespace.pods(run=merged_run.name, stage=SHARD)
        running = (pod for pod in pods if pod["status"]["phase"] == "Running")
        return next((pod for pod in running if number_of(pod) not in numbers), None)

    while len(numbers) < KILLED:
        pod = eventually(look, f"a running pod of {SHARD}", 600)
        numbers.add(number_of(pod))
        name = pod["metadata"]["name"]
        namespace.run("delete", "pod", name, "--grace-period=0", "--force", "--wait=false")
    return numbers


def test_only_the_shards_of_killed_pods_run_again(merged_run: DagRun, killed: set[int], pods: PodWatch) -> None:
    names = [f"quill/{number}" for number in range(SHARDS)]

    def finished() -> bool:
        tasks = merged_run.tasks()
        return all(name in tasks and tasks[name].state in ("success", "failed") for name in names)

    eventually(finished, "the end of all shards", 600)
    tasks = merged_run.tasks()
    assert {name: (tasks[name].state, tasks[name].try_number) for name in names} == {
        name: ("success", 1 + (number in killed)) for number, name in enumerate(names)
    }
    assert sum(pod.stage == SHARD for pod in pods.of_run(merged_run.name)) == SHARDS + KILLED
    airflow, run_id = merged_run.deployment.airflow, merged_run.run_id
    outcomes = [airflow.xcom(merged_run.dag_id, run_id, SHARD, map_index=number) for number in range(SHARDS)]
    assert (
        sum(outcome["entities"] for outcome in outcomes)
        == merged_run.metrics("download")["documents_by_world"]["quill"]
    )
    table = Table("shard", "task, s", title="a shard of 40 entities: all of it is overhead")
    for name in names:
        table.add_row(name, f"{tasks[name].seconds:.1f}")
    Console(width=120).print(table)


def number_of(pod: dict[str, Any]) -> int:
    """Returns the number of the shard that a pod encodes."""
    return int(pod["metadata"]["labels"]["map_index"])
