"""Runs shards, each in a process with one thread, by some workers."""

from __future__ import annotations

import os
import resource
import subprocess
import sys
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Protocol

_ONE_THREAD = {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1", "RAYON_NUM_THREADS": "1"}


class Shards(Protocol):
    """Work in shards.

    Attributes:
        items: entities or mentions of all shards.
    """

    items: int

    def warm_up(self) -> None:
        """Run a process whose work does not count."""

    def commands(self) -> list[list[str]]:
        """Return the arguments of ``zeshel`` for each shard, none of which is done."""

    def seconds_of_work(self, took: Sequence[float]) -> list[float]:
        """Return how long each of these shards worked, given the seconds of its process."""


@dataclass(frozen=True)
class Row:
    """What some workers took.

    Attributes:
        workers: their number.
        seconds: for all shards.
        cpu_seconds: of all processes. Other work on the machine does not change them much.
        work, overhead: seconds of a shard, on average.
    """

    workers: int
    seconds: float
    cpu_seconds: float
    work: float
    overhead: float


def measured(shards: Shards, workers: int) -> Row:
    """Run all shards."""

    def run(command: Sequence[str]) -> float:
        began = time.perf_counter()
        zeshel(*command)
        return time.perf_counter() - began

    commands = shards.commands()
    started, used = time.perf_counter(), _cpu_seconds()
    with ThreadPoolExecutor(workers) as pool:
        took = list(pool.map(run, commands))
    seconds, used = time.perf_counter() - started, _cpu_seconds() - used
    work = sum(shards.seconds_of_work(took))
    return Row(workers, seconds, used, work / len(commands), (sum(took) - work) / len(commands))


def zeshel(*arguments: str) -> None:
    """Run a command with one thread, without its output."""
    subprocess.run([sys.executable, "-m", "zeshel_tasks", *arguments], check=True, env={**os.environ, **_ONE_THREAD},
                   stdout=subprocess.DEVNULL)  # fmt: skip


def _cpu_seconds() -> float:
    """Return the CPU time of all processes that have ended."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime
