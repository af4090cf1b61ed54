"""Trainings in separate processes that die (by SIGKILL) or hang at a chosen moment."""

import os
import signal
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from multiprocessing.process import BaseProcess
from typing import Any

import torch

from tests.support.fork_server import fork_server
from zeshel_tasks.store import LocalStore
from zeshel_tasks.training import loop
from zeshel_tasks.training.fit import Fit, fit
from zeshel_tasks.training.launch import run_in_processes

MOMENTS: dict[str, list[tuple[type, str]]] = {
    "an optimizer step": [(loop.Trainer, "_train_step")],
    "a batch of validation": [(loop.Trainer, "_stop_in_validation")],
    "a call of the store": [(LocalStore, name) for name in ("put", "upload", "delete")],
}


@dataclass(frozen=True)
class Mishap:
    """When a process kills itself, or hangs.

    Attributes:
        moment: one of :data:`MOMENTS`.
        count: number of the moment, from 1.
        before: True for before the moment, False for after it.
        rank: rank of the affected process, if there are several.
        hangs: True to hang instead of dying.
    """

    moment: str
    count: int
    before: bool = False
    rank: int = 0
    hangs: bool = False


def start(task: Fit, mishap: Mishap | None = None) -> BaseProcess:
    """Starts a process that trains."""
    process = fork_server().Process(target=_train, args=(task, mishap))
    process.start()
    return process


def train(task: Fit, mishap: Mishap | None = None) -> int:
    """Trains in a separate process, and returns its exit code, which is -9 if it was killed."""
    process = start(task, mishap)
    process.join(300)
    assert process.exitcode is not None, "hangs"
    return process.exitcode


def train_in_two_processes(task: Fit, mishap: Mishap | None = None) -> None:
    """Trains in two processes, as a stage does on a machine with two GPUs.

    Raises:
        TryAgain: a process was killed.
        ProcessRaisedException: a process crashed, since it lost the other one.
    """
    run_in_processes(partial(_train, mishap=mishap), task, 2, task.out)


def _train(task: Fit, mishap: Mishap | None) -> None:
    torch.set_num_threads(1)
    if mishap is not None and int(os.environ.get("RANK", "0")) == mishap.rank:
        _arm(mishap)
    fit(task)


def _arm(mishap: Mishap) -> None:
    left = [mishap.count]

    def doomed(original: Callable[..., Any], *arguments: Any) -> Any:
        left[0] -= 1
        if left[0] == 0 and mishap.before:
            _strike(mishap)
        returned = original(*arguments)
        if left[0] == 0:
            _strike(mishap)
        return returned

    for owner, name in MOMENTS[mishap.moment]:
        setattr(owner, name, _method(partial(doomed, getattr(owner, name))))


def _strike(mishap: Mishap) -> None:
    if mishap.hangs:
        time.sleep(3600)
    os.kill(os.getpid(), signal.SIGKILL)


def _method(function: Callable[..., Any]) -> Callable[..., Any]:
    return lambda self, *arguments: function(self, *arguments)
