"""Follows a DAG run: with a live table in a terminal, otherwise with a line for each change."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Protocol

from rich.console import Console
from rich.live import Live
from rich.table import Table

from zeshel_tasks.demo.local_airflow.client import AirflowClient, LogLine, TaskState

POLL_SECONDS = 1.0
LOG_SECONDS = 5.0
FINAL = ("success", "failed")
AFTER_THE_STAGE = ("::group::Post Execute", "Task failed with exception")
_STYLE = {
    "success": "green",
    "failed": "bold red",
    "running": "cyan",
    "up_for_retry": "yellow",
    "upstream_failed": "red",
}


class Display(Protocol):
    """Shows the tasks; ``notes`` contains the last log line of each task's stage."""

    def update(self, tasks: Sequence[TaskState], notes: dict[str, str]) -> None: ...


class LiveTable:
    """A table with a row per task, redrawn in place."""

    def __init__(self, console: Console) -> None:
        self._live = Live(console=console, auto_refresh=False)

    def __enter__(self) -> LiveTable:
        self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._live.stop()

    def update(self, tasks: Sequence[TaskState], notes: dict[str, str]) -> None:
        """Redraw the table."""
        table = Table("task", "state", "time", "last line", expand=True)
        for task in tasks:
            state = task.state or "waiting"
            note = notes.get(task.task_id, "")
            table.add_row(task.task_id, f"[{_STYLE.get(state, 'dim')}]{state}", duration(task), _one_line(note))
        self._live.update(table, refresh=True)


class Lines:
    """Prints each change of a task's state, and the last new line of each stage every ``LOG_SECONDS``."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._states: dict[str, tuple[str | None, int]] = {}
        self._notes: dict[str, str] = {}

    def __enter__(self) -> Lines:
        return self

    def __exit__(self, *_: object) -> None: ...

    def update(self, tasks: Sequence[TaskState], notes: dict[str, str]) -> None:
        """Print the changes."""
        for task in tasks:
            if task.state == "running":
                self._show_state(task)
            self._show_note(task.task_id, notes.get(task.task_id, ""))
            if task.state not in (None, "scheduled", "queued"):
                self._show_state(task)

    def _show_state(self, task: TaskState) -> None:
        now = (task.state, task.try_number)
        if now != self._states.get(task.task_id):
            self._states[task.task_id] = now
            self._print(f"{task.task_id:24} {task.state} {duration(task)}")

    def _show_note(self, name: str, note: str) -> None:
        if note != self._notes.get(name, ""):
            self._notes[name] = note
            self._print(f"{name:24} {note}")

    def _print(self, line: str) -> None:
        self._console.print(line, markup=False, highlight=False, soft_wrap=True)


def watch(client: AirflowClient, dag_id: str, run_id: str, console: Console, check: Callable[[], None]) -> str:
    """Show the run until it ends, and return its final state.

    Args:
        client: of the Airflow that runs it.
        dag_id: of the DAG.
        run_id: of the run.
        console: to print to.
        check: called in each round; raises if Airflow has exited.
    """
    notes = _Notes(client, dag_id, run_id)
    with LiveTable(console) if console.is_terminal else Lines(console) as display:
        while True:
            check()
            state = client.run_state(dag_id, run_id)
            tasks = client.task_states(dag_id, run_id)
            display.update(tasks, notes.of(tasks))
            if state in FINAL:
                return state
            time.sleep(POLL_SECONDS)


def failed_lines(log: Sequence[LogLine], count: int = 25) -> list[str]:
    """The end of a failed task's log without Airflow's grouping lines."""
    return [line.text for line in log if line.text and not line.text.startswith("::")][-count:]


def duration(task: TaskState) -> str:
    """``1m 05s``; empty before the task starts."""
    if task.seconds is None:
        return ""
    minutes, seconds = divmod(round(task.seconds), 60)
    return f"{minutes}m {seconds:02}s" if minutes else f"{seconds}s"


class _Notes:
    """The last log line of each task's stage. Asks rarely, because each request reads the whole log."""

    def __init__(self, client: AirflowClient, dag_id: str, run_id: str) -> None:
        self._client, self._dag_id, self._run_id = client, dag_id, run_id
        self._notes: dict[str, str] = {}
        self._asked: dict[str, float] = {}
        self._final: set[str] = set()

    def of(self, tasks: Sequence[TaskState]) -> dict[str, str]:
        for task in tasks:
            ended = task.state in FINAL and task.task_id not in self._final
            due = task.state == "running" and time.monotonic() - self._asked.get(task.task_id, 0) > LOG_SECONDS
            if ended or due:
                self._asked[task.task_id] = time.monotonic()
                self._final |= {task.task_id} if ended else set()
                lines = _of_the_stage(self._client.log(self._dag_id, self._run_id, task.task_id, task.try_number))
                if lines:
                    self._notes[task.task_id] = lines[-1]
        return self._notes


def _of_the_stage(log: Sequence[LogLine]) -> list[str]:
    """The lines after the operator's command line and before Airflow's own last lines."""
    texts = [line.text for line in log]
    begin = next((number for number, text in enumerate(texts) if text.startswith("zeshel ")), len(texts))
    end = next((number for number, text in enumerate(texts) if text in AFTER_THE_STAGE), len(texts))
    return [text for text in texts[begin + 1 : end] if text.strip()]


def _one_line(text: str, limit: int = 110) -> str:
    text = text.replace("[", r"\[").splitlines()[0] if text else ""
    return text if len(text) <= limit else text[: limit - 1] + "…"
