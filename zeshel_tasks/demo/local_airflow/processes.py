"""Ending what the demo started: process groups, and whatever else carries the demo's AIRFLOW_HOME."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path

import psutil


def end_groups(leaders: Sequence[subprocess.Popen[bytes]], seconds: float) -> None:
    """SIGTERM to each leader's process group, SIGKILL to those whose leader is still there after ``seconds``."""
    for leader in leaders:
        _signal_group(leader, signal.SIGTERM)
    for leader in leaders:
        with contextlib.suppress(subprocess.TimeoutExpired):
            leader.wait(seconds)
    for leader in leaders:
        _signal_group(leader, signal.SIGKILL)
        leader.wait()


def end_scheduler(leader: subprocess.Popen[bytes], seconds: float) -> None:
    """SIGTERM to the scheduler and to the tasks that it would wait for otherwise; SIGKILL after ``seconds``.

    Not to its whole group: an idle worker that dies reading the queue of tasks keeps the queue's lock, and then
    the scheduler waits for ever for those that want to read it.
    """
    if leader.poll() is None:
        leader.terminate()
    told: set[psutil.Process] = set()
    deadline = time.monotonic() + seconds
    while leader.poll() is None and time.monotonic() < deadline:
        for task in set(_task_processes(leader.pid)) - told:
            told.add(task)
            with contextlib.suppress(psutil.NoSuchProcess):
                task.terminate()
        time.sleep(0.2)
    end_groups([leader], 0)


def end_processes_of_home(home: Path, seconds: float) -> int:
    """Ends every process of ours whose environment says ``AIRFLOW_HOME=<home>``; how many there were.

    Stages run in groups of their own, and a demo that was killed could not end its Airflow: this finds both.
    """
    found = [process for process in psutil.process_iter() if _home_of(process) == str(home)]
    for process in found:
        with contextlib.suppress(psutil.NoSuchProcess):
            process.terminate()
    _, alive = psutil.wait_procs(found, timeout=seconds)
    for process in alive:
        with contextlib.suppress(psutil.NoSuchProcess):
            process.kill()
    psutil.wait_procs(alive, timeout=5)
    return len(found)


def _task_processes(scheduler: int) -> list[psutil.Process]:
    """The processes that run tasks: each leads a group of its own, and its parent is a worker in the scheduler's."""
    try:
        below = psutil.Process(scheduler).children(recursive=True)
        return [p for p in below if os.getpgid(p.pid) == p.pid and os.getpgid(p.ppid()) == scheduler]
    except (psutil.NoSuchProcess, ProcessLookupError):  # one ended meanwhile: the next look will do
        return []


def _signal_group(leader: subprocess.Popen[bytes], number: signal.Signals) -> None:
    if leader.poll() is None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(leader.pid, number)


def _home_of(process: psutil.Process) -> str | None:
    if process.pid in (os.getpid(), os.getppid()):
        return None
    try:
        return process.environ().get("AIRFLOW_HOME")
    except (psutil.Error, OSError):  # another user's, or already gone
        return None
