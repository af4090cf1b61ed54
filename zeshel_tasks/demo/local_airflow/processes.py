"""Ends the processes of the demo: process groups, and all processes with the demo's AIRFLOW_HOME."""

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
    """Send SIGTERM to each leader's process group, and SIGKILL to those whose leader runs after ``seconds``."""
    for leader in leaders:
        _signal_group(leader, signal.SIGTERM)
    for leader in leaders:
        with contextlib.suppress(subprocess.TimeoutExpired):
            leader.wait(seconds)
    for leader in leaders:
        _signal_group(leader, signal.SIGKILL)
        leader.wait()


def end_scheduler(leader: subprocess.Popen[bytes], seconds: float) -> None:
    """Send SIGTERM to the scheduler and to its tasks, for which it would wait, and SIGKILL after ``seconds``.

    The other processes of its group get no SIGTERM: an idle worker that dies while it reads the task queue keeps the
    queue's lock, and the scheduler would wait forever.
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
    """End all our processes with ``AIRFLOW_HOME=<home>`` in their environment, and return their number.

    These include stages, which run in their own process groups, and the Airflow of a demo that was killed.
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
    """The processes that run tasks. Each leads its own group, and its parent is a worker in the scheduler's group."""
    try:
        below = psutil.Process(scheduler).children(recursive=True)
        return [p for p in below if os.getpgid(p.pid) == p.pid and os.getpgid(p.ppid()) == scheduler]
    except (psutil.NoSuchProcess, ProcessLookupError):  # a process has ended; the next call finds the others
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
    except (psutil.Error, OSError):  # another user's process, or it has ended
        return None
