"""A whole Airflow for tests: API server, scheduler, DAG processor and triggerer as processes, with the real DAG."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

from zeshel_tasks.demo.local_airflow import LocalAirflow
from zeshel_tasks.demo.local_airflow.processes import end_processes_of_home

T = TypeVar("T")
DAGS = Path(__file__).parents[2] / "dags"
DAG = "zeshel"
SECONDS = 420


@contextmanager
def running_airflow(folder: Path, migrated: Path, variables: Mapping[str, str]) -> Iterator[LocalAirflow]:
    """Starts an Airflow in ``folder/home`` with its store in ``folder/store``, and leaves no process behind.

    Args:
        migrated: an AIRFLOW_HOME whose database is migrated and not in use; the new home gets a copy of it.
    """
    (folder / "home").mkdir()
    for name in ("airflow.db", "migrated"):
        shutil.copy(migrated / name, folder / "home" / name)
    store = {"ZESHEL_STORE": str(folder / "store")}
    with LocalAirflow(folder / "home", DAGS, {**store, **variables}, DAG) as started:
        yield started
    assert end_processes_of_home((folder / "home").resolve(), 1.0) == 0, "processes were left running"


def wait(look: Callable[[], T], meaning: str, airflow: LocalAirflow | None = None) -> T:
    """Waits for the first answer of ``look`` that is true, and returns it; meanwhile ``airflow`` must run."""
    deadline = time.monotonic() + SECONDS
    while not (answer := look()):
        if airflow is not None:
            airflow.check()
        assert time.monotonic() < deadline, f"expected within {SECONDS:.0f} s: {meaning}"
        time.sleep(1.0)  # each answer takes CPU time of the API server
    return answer


def states(airflow: LocalAirflow, run_id: str) -> dict[str, str | None]:
    """Returns the state of each task of a run."""
    return {task.task_id: task.state for task in airflow.client.task_states(DAG, run_id)}


def ended(airflow: LocalAirflow, run_id: str) -> dict[str, str | None]:
    """Waits for the end of a run, and returns the state of each task."""

    wait(lambda: airflow.client.run_state(DAG, run_id) in ("success", "failed"), f"the end of {run_id}", airflow)
    return states(airflow, run_id)
