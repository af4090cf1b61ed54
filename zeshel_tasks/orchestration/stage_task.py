"""Shared by both runners: a stage's command line, and how its end becomes the state of its task.

An operator runs :func:`command_line` as a child process or a pod, then calls :func:`finish`. Only :func:`finish` marks
a task as successful, and it relies on the manifest in the store, not on the process.
"""

from __future__ import annotations

import logging
import signal
from collections.abc import Mapping, Sequence
from typing import Any

from airflow.sdk import Asset
from airflow.sdk.exceptions import AirflowException, AirflowFailException, AirflowSkipException
from airflow.sdk.log import mask_secret

from zeshel_tasks.errors import EXIT_CONFIG, EXIT_DATA, EXIT_OK, EXIT_TRY_AGAIN, ZeshelError
from zeshel_tasks.orchestration.params import DEFAULT_PRESET, recipe_of, recipe_overrides
from zeshel_tasks.pipeline.contract import reuse_stage
from zeshel_tasks.pipeline.lineage import has_split
from zeshel_tasks.pipeline.stage import Step
from zeshel_tasks.store import open_run
from zeshel_tasks.text.json_text import to_json
from zeshel_tasks.text.redaction import secrets_of

log = logging.getLogger(__name__)

LEVELS = ("DEBUG", "INFO", "WARNING", "ERROR")
# Airflow may be unable to reach servers that a stage's pod can reach, so it gives up soon and leaves it to the pod.
_MINUTES_TO_ASK = 0.25
NO_RETRY = {EXIT_CONFIG: "bad configuration", EXIT_DATA: "bad input data"}
SIGNALS: dict[int, str] = {
    signal.SIGKILL: "; often caused by running out of memory: try smaller batches or more memory",
    signal.SIGTERM: " (SIGTERM): it was stopped before it could finish",
}


def asset_of(step: Step) -> Asset:
    """Return the Asset that the step's task updates. Its events contain the metrics, and other DAGs can wait for it."""
    return Asset(name=f"zeshel-{step.name}", group="zeshel")


def command_line(step: Step, run: str, params: Mapping[str, Any]) -> list[str]:
    """Return the arguments of ``zeshel`` for this stage, as a list and never a shell string.

    They include the settings of later stages that it checks.

    Each setting is one argument ``--name=value``, so that spaces, quotes and leading dashes in a value are safe.
    Secrets in addresses are registered with Airflow, which masks them in logs and rendered templates.

    Raises:
        AirflowFailException: the Params are not a valid recipe, so a retry cannot help.
    """
    texts = [text for value in params.values() for text in (value if isinstance(value, list) else [value])]
    for secret in {secret for text in texts if isinstance(text, str) for secret in secrets_of(text)}:
        mask_secret(secret)
    try:
        overrides = recipe_overrides(params)
    except ZeshelError as error:
        # Without its cause: pydantic's message has the value itself, shortened, and no mask finds half a secret.
        raise AirflowFailException(f"{step.name}: bad configuration, not retried:\n{error}") from None
    arguments = [step.stage.name, f"--run={run}", f"--preset={params.get('preset') or DEFAULT_PRESET}"]
    if step.split:
        arguments.append(f"--split={step.split}")
    given = dict(overrides[step.stage.settings])
    for later in (name.replace("-", "_") for name in step.stage.checks):
        given |= {f"{later}.{name}": value for name, value in overrides[later].items()}
    return arguments + [
        f"--{name}={_text(item)}"
        for name, value in given.items()
        for item in (value if isinstance(value, list | tuple) else [value])  # one flag for each item of a list
    ]


def skip_without_split(step: Step, run: str) -> None:
    """Skip the task if the data set does not have the stage's split. Some splits are optional.

    Raises:
        AirflowSkipException: the split does not exist.
    """
    if step.split is None:
        return
    try:
        there = has_split(open_run(run), step.split)
    except ZeshelError as error:
        log.info("%s: the stage will check if the split exists: %s", step.name, error)
        return
    if not there:
        raise AirflowSkipException(f"the data set has no {step.split}")


def finish_if_done(step: Step, run: str, context: Any) -> dict[str, Any] | None:
    """Return the metrics of a stage whose artifact is already in the store. It needs no process, pod or GPU.

    Returns None if there is work to do, or if Airflow cannot find out; then the stage will.
    """
    recipe = recipe_of(context["params"])
    asking = recipe.download.model_copy(update={"max_download_minutes": _MINUTES_TO_ASK})
    try:
        manifest = reuse_stage(step.stage, run, recipe.model_copy(update={"download": asking}), step.split)
    except (ZeshelError, OSError) as error:  # a path on the stages' machine may be unreadable on this one
        log.info("%s: the stage will check if it is already done: %s", step.name, error)
        return None
    return None if manifest is None else finish(step, run, EXIT_OK, [], context)


def finish(step: Step, run: str, exit_code: int, last_lines: Sequence[str], context: Any) -> dict[str, Any]:
    """Return the metrics of a stage that ended, or raise an exception if it is not done.

    Args:
        step: the step that ended.
        run: the run's address.
        exit_code: as in :mod:`zeshel_tasks.errors`; negative for a signal.
        last_lines: the stage's errors or last lines, for the exception.
        context: context of the task instance; the asset's event gets the metrics as its extra.

    Raises:
        AirflowFailException: exit code 2 or 3; Airflow does not retry.
        AirflowException: any other failure, and exit code 0 without a committed manifest; Airflow retries.
    """
    if exit_code != EXIT_OK:
        raise failure(step, exit_code, last_lines)
    manifest = open_run(run).manifest(step.name)
    if manifest is None:
        problem = f"{step.name}: ended with exit code 0, but no manifest is committed at {run}"
        raise AirflowException(with_lines(f"{problem}; expected one, so this task is not done", last_lines))
    event = context["outlet_events"][asset_of(step)]
    event.extra = {"run": run, "fingerprint": manifest.fingerprint, "metrics": manifest.metrics}
    return dict(manifest.metrics)


def failure(step: Step, exit_code: int, last_lines: Sequence[str]) -> AirflowException:
    """Return the exception for a failed stage. Its type tells Airflow whether to retry."""
    if exit_code in NO_RETRY:
        problem = f"{step.name}: {NO_RETRY[exit_code]} (exit code {exit_code}), not retried"
        return AirflowFailException(with_lines(problem, last_lines))
    if exit_code == EXIT_TRY_AGAIN:
        problem = f"{step.name}: asks for a retry (exit code {exit_code})"
    elif (number := _signal(exit_code)) is not None:
        problem = f"{step.name}: ended by signal {number}{SIGNALS.get(number, '')}"
    else:
        problem = f"{step.name}: crashed (exit code {exit_code})"
    return AirflowException(with_lines(problem, last_lines))


def with_lines(problem: str, lines: Sequence[str]) -> str:
    """Return ``problem`` followed by the lines."""
    return "\n".join([f"{problem}:" if lines else problem, *lines])


def split_level(line: str, previous: str) -> tuple[str, str]:
    """Return level and text of a stage's line. Without one (in a traceback), the previous line's level applies."""
    level, colon, text = line.partition(": ")
    return (level, text) if colon and level in LEVELS else (previous, line)


def _signal(exit_code: int) -> int | None:
    """Return the signal that ended a process: the exit code is its negative, or in a container 128 more."""
    number = -exit_code if exit_code < 0 else exit_code - 128
    return number if number in set(signal.Signals) else None


def _text(value: Any) -> str:
    """Return a JSON value as the command line expects it: strings unquoted, true and false in lower case."""
    return value if isinstance(value, str) else to_json(value)
