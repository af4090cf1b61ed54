"""A client for the part of Airflow's REST API that the demo and the tests use."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import httpx

# Seconds before a request is repeated. SQLite refuses a write that conflicts with another process's, and Airflow then
# undoes the request. A server or a proxy that restarts drops connections.
_PAUSES = (1.0, 2.0, 4.0, 8.0)


class AirflowRefused(Exception):
    """The API server answered with an error; the message contains its status and reason."""

    def __init__(self, status: int, reason: str) -> None:
        super().__init__(f"HTTP {status}: {reason}")
        self.status, self.reason = status, reason


@dataclass(frozen=True)
class TaskState:
    """A task of a run. ``state`` is None before it is scheduled; times are None before they happen.

    A mapped task has a number, ``map_index``, and may have a ``label``; another one has the number -1.
    """

    task_id: str
    state: str | None
    try_number: int
    started: datetime | None
    ended: datetime | None
    map_index: int = -1
    label: str | None = None

    @property
    def seconds(self) -> float | None:
        """How long the current attempt has taken."""
        if self.started is None:
            return None
        return ((self.ended or datetime.now(UTC)) - self.started).total_seconds()


@dataclass(frozen=True)
class LogLine:
    """One line of a task's log; ``level`` is in lower case."""

    level: str
    text: str


class AirflowClient:
    """Calls the API, and logs in with user name and password when necessary.

    Args:
        url: of the API server, without a path.
    """

    def __init__(self, url: str, username: str, password: str) -> None:
        self._login = {"username": username, "password": password}
        self._http = httpx.Client(base_url=url, timeout=60.0, trust_env=False)

    def close(self) -> None:
        """Close the connections. The client cannot be used afterwards."""
        self._http.close()

    def health(self) -> dict[str, Any]:
        """Status of each component; needs no login."""
        return dict(self._call("GET", "/api/v2/monitor/health"))

    def has_dag(self, dag_id: str) -> bool:
        """Return True if the DAG has been parsed."""
        try:
            self._call("GET", f"/api/v2/dags/{dag_id}/details")
        except AirflowRefused as error:
            if error.status == httpx.codes.NOT_FOUND:
                return False
            raise
        return True

    def import_errors(self) -> list[str]:
        """Stack traces of DAG files that could not be imported."""
        return [error["stack_trace"] for error in self._call("GET", "/api/v2/importErrors")["import_errors"]]

    def trigger(self, dag_id: str, conf: Mapping[str, Any], run_id: str | None = None) -> str:
        """Start a run and return its id.

        Raises:
            AirflowRefused: 400 if ``conf`` does not match the DAG's Params.
        """
        body = {"logical_date": None, "conf": dict(conf), "dag_run_id": run_id}
        return str(self._call("POST", f"/api/v2/dags/{dag_id}/dagRuns", json=body)["dag_run_id"])

    def run_ids(self, dag_id: str) -> list[str]:
        """Ids of the runs of a DAG."""
        return [run["dag_run_id"] for run in self._call("GET", f"/api/v2/dags/{dag_id}/dagRuns")["dag_runs"]]

    def run_state(self, dag_id: str, run_id: str) -> str:
        """State of a run: queued, running, success or failed."""
        return str(self._call("GET", f"/api/v2/dags/{dag_id}/dagRuns/{run_id}")["state"])

    def fail_unfinished_runs(self) -> list[str]:
        """Mark every queued or running run as failed and return their ids."""
        query = {"state": ["queued", "running"], "limit": 100}
        runs = self._call("GET", "/api/v2/dags/~/dagRuns", params=query)["dag_runs"]
        for run in runs:
            self.fail_run(run["dag_id"], run["dag_run_id"])
        return [run["dag_run_id"] for run in runs]

    def fail_run(self, dag_id: str, run_id: str) -> None:
        """Mark a run as failed, which stops its tasks."""
        self._call("PATCH", f"/api/v2/dags/{dag_id}/dagRuns/{run_id}", json={"state": "failed"})

    def clear_failed(self, dag_id: str, run_id: str) -> None:
        """Let the failed tasks of a run, and those after them, run again."""
        body = {"dry_run": False, "dag_run_id": run_id, "only_failed": True, "reset_dag_runs": True}
        self._call("POST", f"/api/v2/dags/{dag_id}/clearTaskInstances", json=body)

    def task_states(self, dag_id: str, run_id: str) -> list[TaskState]:
        """The tasks of a run, in the order in which they started."""
        found = self._call("GET", f"/api/v2/dags/{dag_id}/dagRuns/{run_id}/taskInstances")["task_instances"]
        states = [
            TaskState(
                t["task_id"],
                t["state"],
                t["try_number"],
                _time(t["start_date"]),
                _time(t["end_date"]),
                t["map_index"],
                t["rendered_map_index"],
            )
            for t in found
        ]
        return sorted(states, key=lambda task: task.started or datetime.max.replace(tzinfo=UTC))

    def log(self, dag_id: str, run_id: str, task_id: str, try_number: int, map_index: int = -1) -> list[LogLine]:
        """The log of one attempt so far; exceptions are reduced to type and message."""
        address = f"/api/v2/dags/{dag_id}/dagRuns/{run_id}/taskInstances/{task_id}/logs/{try_number}"
        content = self._call("GET", address, params={"full_content": True, "map_index": map_index})["content"]
        return [parsed for line in content if isinstance(line, dict) for parsed in _log_lines(line)]

    def xcom(self, dag_id: str, run_id: str, task_id: str, key: str = "return_value", map_index: int = -1) -> Any:
        """The value that a task returned."""
        address = f"/api/v2/dags/{dag_id}/dagRuns/{run_id}/taskInstances/{task_id}/xcomEntries/{key}"
        query = {"deserialize": False, "stringify": False, "map_index": map_index}
        return self._call("GET", address, params=query)["value"]

    def asset_events(self, dag_id: str, run_id: str) -> list[dict[str, Any]]:
        """Events of the assets that the tasks of a run updated."""
        query = {"source_dag_id": dag_id, "source_run_id": run_id}
        return list(self._call("GET", "/api/v2/assets/events", params=query)["asset_events"])

    def _call(self, method: str, path: str, **kwargs: Any) -> Any:
        for pause in _PAUSES:
            try:
                return self._call_once(method, path, **kwargs)
            except AirflowRefused as error:
                if "Database error" not in str(error):
                    raise
            except (httpx.ReadError, httpx.RemoteProtocolError):
                if method != "GET":  # the change may have been made
                    raise
            time.sleep(pause)
        return self._call_once(method, path, **kwargs)

    def _call_once(self, method: str, path: str, **kwargs: Any) -> Any:
        answer = self._http.request(method, path, **kwargs)
        if answer.status_code == httpx.codes.UNAUTHORIZED:
            token = self._http.post("/auth/token", json=self._login)
            _check(token)
            self._http.headers["Authorization"] = f"Bearer {token.json()['access_token']}"
            answer = self._http.request(method, path, **kwargs)
        _check(answer)
        return answer.json()


def _check(answer: httpx.Response) -> None:
    if answer.is_error:
        raise AirflowRefused(answer.status_code, answer.text)


def _log_lines(line: Mapping[str, Any]) -> Iterator[LogLine]:
    level = line.get("level", "info")
    yield LogLine(level, line["event"])
    for raised in line.get("error_detail") or []:
        yield LogLine(level, f"{raised['exc_type']}: {raised['exc_value']}")


def _time(text: str | None) -> datetime | None:
    return None if text is None else datetime.fromisoformat(text)
