"""A whole Airflow for tests: API server, scheduler, DAG processor and triggerer as processes, with the real DAG."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from zeshel_tasks.demo.local_airflow import LocalAirflow
from zeshel_tasks.demo.local_airflow.processes import end_processes_of_home

DAGS = Path(__file__).parents[2] / "dags"
DAG = "zeshel"
SECONDS = 420


@contextmanager
def running_airflow(folder: Path, variables: Mapping[str, str]) -> Iterator[LocalAirflow]:
    """An Airflow in ``folder/home`` with its store in ``folder/store``; leaves no process behind."""
    store = {"ZESHEL_STORE": str(folder / "store")}
    with LocalAirflow(folder / "home", DAGS, {**store, **variables}, DAG) as started:
        yield started
    assert end_processes_of_home((folder / "home").resolve(), 1.0) == 0, "processes were left running"


def ended(airflow: LocalAirflow, run_id: str) -> dict[str, str | None]:
    """Waits for the end of a run; the state of each task."""
    deadline = time.monotonic() + SECONDS
    while airflow.client.run_state(DAG, run_id) not in ("success", "failed"):
        airflow.check()
        assert time.monotonic() < deadline, airflow.client.task_states(DAG, run_id)
        time.sleep(0.5)
    return {task.task_id: task.state for task in airflow.client.task_states(DAG, run_id)}
