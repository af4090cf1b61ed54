"""Runs API server, scheduler, DAG processor and triggerer on this machine, with their files in one folder."""

from __future__ import annotations

import fcntl
import os
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from importlib.metadata import version
from pathlib import Path
from typing import IO, Self

import httpx

from zeshel_tasks.demo.local_airflow.client import AirflowClient
from zeshel_tasks.demo.local_airflow.configuration import USER, airflow_environment, free_port, read_secrets
from zeshel_tasks.demo.local_airflow.processes import end_groups, end_processes_of_home, end_scheduler
from zeshel_tasks.orchestration.process.child import sigterm_when_the_parent_dies

START_SECONDS = 180.0
STAGE_STOP_SECONDS = 30.0
# `-s`: no log servers, because all logs are in one folder of this machine.
FIRST = {"api-server": ["api-server"], "dag-processor": ["dag-processor"], "triggerer": ["triggerer", "-s"]}
SCHEDULER = ["scheduler", "-s"]
SCHEDULER_RESTARTS = 3


class AirflowFailed(Exception):
    """A component exited or did not answer in time; the message contains the end of its log."""


class LocalAirflow:
    """A context manager that starts Airflow, and at the end stops all its processes, including running stages.

    Args:
        home: folder for database, logs and secrets; created if it does not exist.
        dags: folder of DAG files.
        variables: environment of the DAG (``ZESHEL_STORE``, ...).
        dag_id: the DAG to wait for.
        say: called with each line of progress.
    """

    def __init__(
        self, home: Path, dags: Path, variables: Mapping[str, str], dag_id: str, say: Callable[[str], None] = print
    ) -> None:
        self.home, self.dag_id, self._say = home.resolve(), dag_id, say
        self.home.mkdir(parents=True, exist_ok=True)
        self.port = free_port()
        self.url = f"http://localhost:{self.port}"
        self.username, self.password = USER, read_secrets(self.home).password
        self._env = airflow_environment(self.home, dags.resolve(), self.port, variables)
        self._components: dict[str, subprocess.Popen[bytes]] = {}
        self._restarts = 0
        self._lock: IO[str] | None = None
        self.client = AirflowClient(f"http://127.0.0.1:{self.port}", self.username, self.password)

    def __enter__(self) -> Self:
        self._lock = _lock(self.home)
        try:
            self._start()
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def check(self) -> None:
        """Start the scheduler again if it has crashed, as every deployment does.

        Airflow's scheduler exits when SQLite is locked at the wrong moment; it continues where it was.

        Raises:
            AirflowFailed: another component has exited, or the scheduler exits again and again.
        """
        for name, process in self._components.items():
            if process.poll() is None:
                continue
            problem = f"airflow {name} ended with exit code {process.returncode}\n{self._tail(name)}"
            if name != "scheduler" or self._restarts == SCHEDULER_RESTARTS:
                raise AirflowFailed(problem)
            self._restarts += 1
            self._say(f"{problem}\nstarting the scheduler again")
            self._spawn("scheduler", SCHEDULER)

    def migrate(self) -> None:
        """Migrate the database, unless this version of Airflow has already done so."""
        done, current = self.home / "migrated", version("apache-airflow-core")
        if (self.home / "airflow.db").exists() and done.exists() and done.read_text() == current:
            return
        self._say("preparing Airflow's database")
        self._run_once("db", "migrate")
        done.write_text(current)

    def stop(self) -> None:
        """Stop all processes; first the scheduler and its tasks, while the API server can still record their states."""
        if "scheduler" in self._components:
            end_scheduler(self._components["scheduler"], STAGE_STOP_SECONDS)
        end_groups([p for name, p in self._components.items() if name in FIRST], 3.0)
        end_processes_of_home(self.home, 5.0)
        self._components.clear()
        self.client.close()
        if self._lock is not None:
            self._lock.close()

    def _start(self) -> None:
        if ended := end_processes_of_home(self.home, 5.0):
            self._say(f"ended {ended} processes of an earlier demo")
        self.migrate()
        self._say("starting Airflow")
        for name, arguments in FIRST.items():
            self._spawn(name, arguments)
        self._wait("the API server", self._api_answers)
        # Do this before the scheduler starts, which would resume these runs.
        for run_id in self.client.fail_unfinished_runs():
            self._say(f"closed the unfinished run {run_id} of an earlier demo; its finished work is reused")
        self._spawn("scheduler", SCHEDULER)
        self._wait(f"the DAG {self.dag_id}", self._dag_is_there)
        self._wait("the scheduler", self._scheduler_is_healthy)

    def _run_once(self, *arguments: str) -> None:
        with self._log_file(arguments[0]) as log:
            done = subprocess.run(
                self._command(arguments), env=self._env, stdin=subprocess.DEVNULL, stdout=log, stderr=log
            )
        if done.returncode != 0:
            raise AirflowFailed(f"airflow {' '.join(arguments)} failed\n{self._tail(arguments[0])}")

    def _spawn(self, name: str, arguments: list[str]) -> None:
        with self._log_file(name) as log:
            self._components[name] = subprocess.Popen(
                self._command(arguments),
                env=self._env,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
                preexec_fn=sigterm_when_the_parent_dies(),
            )

    def _wait(self, what: str, ready: Callable[[], bool]) -> None:
        deadline = time.monotonic() + START_SECONDS
        while not ready():
            self.check()
            if time.monotonic() > deadline:
                raise AirflowFailed(f"{what} was not ready after {START_SECONDS:.0f} s; logs are in {self.home}")
            time.sleep(0.5)

    def _api_answers(self) -> bool:
        try:
            return bool(self.client.health())
        except httpx.TransportError:
            return False

    def _dag_is_there(self) -> bool:
        if errors := self.client.import_errors():
            raise AirflowFailed("\n".join(errors))
        return self.client.has_dag(self.dag_id)

    def _scheduler_is_healthy(self) -> bool:
        return bool(self.client.health()["scheduler"]["status"] == "healthy")

    @staticmethod
    def _command(arguments: list[str] | tuple[str, ...]) -> list[str]:
        return [sys.executable, "-m", "airflow", *arguments]

    def _log_file(self, name: str) -> IO[bytes]:
        return (self.home / f"{name}.log").open("ab")

    def _tail(self, name: str, lines: int = 20) -> str:
        text = (self.home / f"{name}.log").read_text(errors="replace")
        return "\n".join(text.splitlines()[-lines:])


def _lock(home: Path) -> IO[str]:
    """Lock this folder against a second demo for as long as the returned file is open."""
    file = (home / "lock").open("a+")
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        file.seek(0)
        holder = file.read() or "unknown"
        file.close()
        raise AirflowFailed(f"another demo (process {holder}) is running in {home}") from None
    file.truncate(0)
    file.write(str(os.getpid()))
    file.flush()
    return file
