"""An Airflow operator that runs a command of ``zeshel`` as a child process."""

from __future__ import annotations

import os
import sys
from collections import deque
from collections.abc import Mapping
from typing import Any, ClassVar

from airflow.sdk import BaseOperator
from airflow.sdk.exceptions import AirflowException

from zeshel_tasks.orchestration.params import run_config_of
from zeshel_tasks.orchestration.process.child import ChildProcess
from zeshel_tasks.orchestration.task_command import (
    TaskCommand,
    failure,
    finish,
    named_after,
    published,
    split_level,
    submitted_now,
)
from zeshel_tasks.text.redaction import without_secrets

LAST_LINES = 20
AIRFLOWS_OWN = ("AIRFLOW__", "AIRFLOW_CONN_", "AIRFLOW_VAR_")  # they include secrets


class ZeshelProcessOperator(BaseOperator):  # type: ignore[misc]  # mypy does not follow imports into Airflow
    """Runs ``zeshel ...`` and is green only if the result is in the store.

    Args:
        command: the command to run.
        grace_seconds: time that a stopped stage has to save a checkpoint.
        program: start of the command, before the stage's arguments.
    """

    ui_color = "#dbe9f6"
    program: ClassVar[tuple[str, ...]] = (sys.executable, "-m", "zeshel_tasks")

    def __init__(self, *, command: TaskCommand, grace_seconds: float, **kwargs: Any) -> None:
        super().__init__(**named_after(command, kwargs))
        self.operator_extra_links = command.links
        self.command, self.grace_seconds = command, grace_seconds
        self._child: ChildProcess | None = None
        self._stopped = False

    def execute(self, context: Any) -> Any:
        """Run the command and return its outcome, which Airflow pushes as XCom.

        Raises:
            AirflowFailException, AirflowException: see :func:`zeshel_tasks.orchestration.task_command.finish`.
        """
        arguments = self.command.arguments(context)
        done = self.command.reused(context)
        if done is not None:
            return published(self.command, done, context)
        exit_code, last_lines = self._run(arguments, _child_environment(context["params"]))
        if self._stopped and exit_code != 0:
            raise AirflowException(f"the task was stopped. {failure(self.command.name, exit_code, last_lines)}")
        return finish(self.command, exit_code, last_lines, context)

    def on_kill(self) -> None:
        """Stop the child. Airflow calls this on SIGTERM during :meth:`execute`, which then continues and raises."""
        self._stopped = True
        if self._child is not None:
            self._child.terminate()

    def _run(self, arguments: list[str], env: Mapping[str, str]) -> tuple[int, list[str]]:
        """Return the exit code, and the last errors or, if there were none, the last lines of any level."""
        self.log.info("zeshel %s", " ".join(map(_without_secrets, arguments)))
        if self._stopped:
            raise AirflowException(f"{self.command.name}: the task was stopped before its command started")
        self._child = child = ChildProcess([*self.program, *arguments], env, self.grace_seconds)
        errors: deque[str] = deque(maxlen=LAST_LINES)
        lines: deque[str] = deque(maxlen=LAST_LINES)
        try:
            if self._stopped:  # SIGTERM arrived during the start of the child
                child.terminate()
            level = "INFO"
            for line in child.lines():
                level, text = split_level(line, level)
                getattr(self.log, level.lower())("%s", text)
                (errors if level == "ERROR" else lines).append(text)
            return child.wait(), list(errors or lines)
        finally:  # also if Airflow's timeout or an interrupt ends the loop
            child.close()


def _without_secrets(argument: str) -> str:
    name, equals, value = argument.partition("=")
    return f"{name}{equals}{without_secrets(value)}"


def _child_environment(params: Mapping[str, Any]) -> dict[str, str]:
    """Return our environment without Airflow's settings, connections and variables, and with the run's GPUs."""
    env = {name: value for name, value in os.environ.items() if not name.startswith(AIRFLOWS_OWN)}
    gpus = run_config_of(params).gpus
    if gpus is not None:
        visible = env.get("CUDA_VISIBLE_DEVICES", ",".join(map(str, range(gpus)))).split(",")
        env["CUDA_VISIBLE_DEVICES"] = ",".join(visible[:gpus])
    # Concurrent tasks share the machine's cores, and threads that spin while they wait would slow other tasks down.
    return {"OMP_WAIT_POLICY": "PASSIVE"} | env | {"PYTHONUNBUFFERED": "1"} | submitted_now()
