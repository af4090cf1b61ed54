"""Trainings in processes of their own, which die at a chosen moment as by power loss: by SIGKILL, with no last word."""

import multiprocessing
import os
import signal
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from multiprocessing.process import BaseProcess
from typing import Any

import torch

from zeshel_tasks.store import LocalStore
from zeshel_tasks.training import loop
from zeshel_tasks.training.fit import Fit, fit
from zeshel_tasks.training.launch import run_in_processes

MOMENTS: dict[str, list[tuple[type, str]]] = {
    "an optimizer step": [(loop.Trainer, "_train_step")],
    "a batch of validation": [(loop.Trainer, "_look_up_in_validation")],
    "a call of the store": [(LocalStore, name) for name in ("put", "upload", "delete")],
}


@dataclass(frozen=True)
class Death:
    """When a process kills itself.

    Attributes:
        moment: of :data:`MOMENTS`.
        count: at the how manieth such moment, from 1.
        before: rather than after it.
        rank: only the process of this rank, where there are several.
    """

    moment: str
    count: int
    before: bool = False
    rank: int = 0


def start(task: Fit, death: Death | None = None, processes: int = 1) -> BaseProcess:
    """A process that trains, with ``processes`` processes of its own where it is more than one."""
    # Forked from a server that has imported torch, but never computed with it.
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([__name__, "zeshel_tasks.stages.train_biencoder", "zeshel_tasks.stages.inputs"])
    target = partial(_train_in, processes) if processes > 1 else _train
    process = context.Process(target=target, args=(task, death))
    process.start()
    return process


def train(task: Fit, death: Death | None = None, processes: int = 1) -> int:
    """Trains in a process of its own; returns its exit code, -9 where it died."""
    process = start(task, death, processes)
    process.join(300)
    assert process.exitcode is not None, "hangs"
    return process.exitcode


def _train_in(processes: int, task: Fit, death: Death | None) -> None:
    run_in_processes(partial(_train, death=death), task, processes, task.out)


def _train(task: Fit, death: Death | None) -> None:
    torch.set_num_threads(1)
    if death is not None and int(os.environ.get("RANK", "0")) == death.rank:
        _arm(death)
    fit(task)


def _arm(death: Death) -> None:
    left = [death.count]

    def deadly(original: Callable[..., Any], *arguments: Any) -> Any:
        left[0] -= 1
        if left[0] == 0 and death.before:
            os.kill(os.getpid(), signal.SIGKILL)
        returned = original(*arguments)
        if left[0] == 0:
            os.kill(os.getpid(), signal.SIGKILL)
        return returned

    for owner, name in MOMENTS[death.moment]:
        setattr(owner, name, _method(partial(deadly, getattr(owner, name))))


def _method(function: Callable[..., Any]) -> Callable[..., Any]:
    return lambda self, *arguments: function(self, *arguments)
