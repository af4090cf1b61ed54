"""What a task runs: a command of ``zeshel``, and how its end becomes the state of the task. Shared by both runners.

An operator runs :meth:`TaskCommand.arguments` as a child process or a pod, then calls :func:`finish`. Only
:func:`finish` marks a task as successful, and it relies on the result in the store, not on the process.
"""

from __future__ import annotations

import signal
import time
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple, Protocol

from airflow.sdk import Asset, BaseOperatorLink
from airflow.sdk.exceptions import AirflowException, AirflowFailException
from airflow.sdk.log import mask_secret

from zeshel_tasks.compute.telemetry import SUBMITTED_AT
from zeshel_tasks.errors import EXIT_CONFIG, EXIT_DATA, EXIT_OK, EXIT_TRY_AGAIN, ZeshelError
from zeshel_tasks.text.json_text import to_json
from zeshel_tasks.text.redaction import secrets_of

LEVELS = ("DEBUG", "INFO", "WARNING", "ERROR")
NO_RETRY = {EXIT_CONFIG: "bad configuration", EXIT_DATA: "bad input data"}
SIGNALS: dict[int, str] = {
    signal.SIGKILL: "; often caused by running out of memory: try smaller batches or more memory",
    signal.SIGTERM: " (SIGTERM): it was stopped before it could finish",
}


class Outcome(NamedTuple):
    """What a task passes on: its XCom ``return_value``, and the extra of its asset's event."""

    value: Any
    extra: dict[str, Any]


class NotDone(Exception):
    """The result is not in the store; the message says what was expected there."""


class TaskCommand(Protocol):
    """A command of ``zeshel`` that a task runs.

    Attributes:
        name: id of the task.
        store: root address of runs and artifacts.
        labels: labels of its pod, besides those of all pods.
        runs_a_model: True if it can use a GPU.
        trains: True if it can use more than one GPU.
        is_small: True if it imports no model library, so that an image without them can run it.
        asset: the Asset that the task updates; None if there is none. Other DAGs can wait for it.
        links: buttons on the task's page.
    """

    @property
    def name(self) -> str: ...
    @property
    def store(self) -> str: ...
    @property
    def labels(self) -> Mapping[str, str]: ...
    @property
    def runs_a_model(self) -> bool: ...
    @property
    def trains(self) -> bool: ...
    @property
    def is_small(self) -> bool: ...
    @property
    def asset(self) -> Asset | None: ...
    @property
    def links(self) -> Sequence[BaseOperatorLink]: ...

    def arguments(self, context: Any) -> list[str]:
        """Return the arguments of ``zeshel``, as a list and never a shell string.

        Raises:
            AirflowFailException: the Params are not valid, so a retry cannot help.
        """

    def reused(self, context: Any) -> Outcome | None:
        """Return the outcome if the result is already there. It needs no process, pod or GPU.

        Returns None if there is work to do, or if Airflow cannot find out; then the command will.

        Raises:
            AirflowSkipException: there is nothing to do.
            AirflowFailException: the command must not run.
        """

    def outcome(self, context: Any, *, ended: bool) -> Outcome:
        """Return the outcome of a command that has ended, as the store shows it.

        Args:
            context: of the task instance.
            ended: True if the exit code was 0; False if it is unknown, because the pod is gone.

        Raises:
            NotDone: the result is not there.
            ZeshelError: the result cannot be read.
        """


def named_after(command: TaskCommand, kwargs: Mapping[str, Any]) -> dict[str, Any]:
    """Return the arguments of an operator that runs the command: its id and its Asset, and ``kwargs``."""
    return {"task_id": command.name, "outlets": [] if command.asset is None else [command.asset], **kwargs}


def submitted_now() -> dict[str, str]:
    """Return the variable from which a command knows how long it waited for its process, or for a node and an image."""
    return {SUBMITTED_AT: repr(time.time())}


def setting_arguments(given: Mapping[str, Any]) -> list[str]:
    """Return settings as arguments ``--name=value``, with one for each item of a list.

    Each is one argument, so that spaces, quotes and leading dashes in a value are safe.
    """
    return [
        f"--{name}={_text(item)}"
        for name, value in given.items()
        for item in (value if isinstance(value, list | tuple) else [value])
    ]


def mask_secrets(values: Iterable[Any]) -> None:
    """Register secrets in addresses with Airflow, which masks them in logs and rendered templates."""
    texts = [text for value in values for text in (value if isinstance(value, list) else [value])]
    for secret in {secret for text in texts if isinstance(text, str) for secret in secrets_of(text)}:
        mask_secret(secret)


def finish(command: TaskCommand, exit_code: int | None, last_lines: Sequence[str], context: Any) -> Any:
    """Return what a task whose command has ended passes on, or raise an exception if it is not done.

    Args:
        command: the command that ended.
        exit_code: as in :mod:`zeshel_tasks.errors`; negative for a signal; None if it is unknown.
        last_lines: the command's errors or last lines, for the exception.
        context: context of the task instance; the asset's event gets the outcome's extra.

    Raises:
        AirflowFailException: exit code 2 or 3, or an error that has one of these; Airflow does not retry.
        AirflowException: any other failure, and exit code 0 without a result in the store; Airflow retries.
    """
    if exit_code not in (EXIT_OK, None):
        raise failure(command.name, exit_code, last_lines)
    try:
        outcome = command.outcome(context, ended=exit_code is not None)
    except NotDone as error:
        problem = f"{command.name}: ended with exit code 0, but {error}"
        raise AirflowException(with_lines(problem, last_lines)) from None
    except ZeshelError as error:  # the result cannot be read
        raise failure(command.name, error.exit_code, str(error).splitlines()) from error
    return published(command, outcome, context)


def published(command: TaskCommand, outcome: Outcome, context: Any) -> Any:
    """Return the value of an outcome, and give its extra to the asset's event."""
    if command.asset is not None:
        context["outlet_events"][command.asset].extra = outcome.extra
    return outcome.value


def failure(name: str, exit_code: int, last_lines: Sequence[str]) -> AirflowException:
    """Return the exception for a failed command. Its type tells Airflow whether to retry."""
    if exit_code in NO_RETRY:
        problem = f"{name}: {NO_RETRY[exit_code]} (exit code {exit_code}), not retried"
        return AirflowFailException(with_lines(problem, last_lines))
    if exit_code == EXIT_TRY_AGAIN:
        problem = f"{name}: asks for a retry (exit code {exit_code})"
    elif (number := _signal(exit_code)) is not None:
        problem = f"{name}: ended by signal {number}{SIGNALS.get(number, '')}"
    else:
        problem = f"{name}: crashed (exit code {exit_code})"
    return AirflowException(with_lines(problem, last_lines))


def with_lines(problem: str, lines: Sequence[str]) -> str:
    """Return ``problem`` followed by the lines."""
    return "\n".join([f"{problem}:" if lines else problem, *lines])


def split_level(line: str, previous: str) -> tuple[str, str]:
    """Return level and text of a command's line. Without one (in a traceback), the previous line's level applies."""
    level, colon, text = line.partition(": ")
    return (level, text) if colon and level in LEVELS else (previous, line)


def _signal(exit_code: int) -> int | None:
    """Return the signal that ended a process: the exit code is its negative, or in a container 128 more."""
    number = -exit_code if exit_code < 0 else exit_code - 128
    return number if number in set(signal.Signals) else None


def _text(value: Any) -> str:
    """Return a JSON value as the command line expects it: strings unquoted, true and false in lower case."""
    return value if isinstance(value, str) else to_json(value)
