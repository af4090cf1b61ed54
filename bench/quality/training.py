"""Trains for a given time: times a few steps, then trains on as many mentions as fit."""

from __future__ import annotations

import shutil
import time
from dataclasses import dataclass
from pathlib import Path

from bench import ours
from zeshel_tasks.compute.device import build_accelerator
from zeshel_tasks.config import EncoderConfig
from zeshel_tasks.training.fit import BuildObjective, Fit, FitResult, fit

_FEWEST_STEPS = 4


@dataclass(frozen=True)
class Pace:
    """The speed of a training on this machine.

    Attributes:
        mentions_per_second: speed of its steps.
        prepared_seconds: time before its first step, to prepare hard negatives.
    """

    mentions_per_second: float
    prepared_seconds: float

    def mentions_in(self, seconds: float, batch_size: int, available: int) -> int:
        """Return the mentions in the whole batches that fit into ``seconds``."""
        fitting = self.mentions_per_second * max(0.0, seconds - self.prepared_seconds)
        return min(max(_FEWEST_STEPS, int(fitting // batch_size)) * batch_size, available)


def new_fit(build: BuildObjective, config: EncoderConfig, bert: Path, tables: Path, out: Path) -> Fit:
    """Return a training that writes into the emptied directory ``out``."""
    return Fit(build, config, bert, None, tables, str(ours.emptied(out) / "store"), "checkpoints", out)


def pace_of(task: Fit, batches: int) -> Pace:
    """Time ``batches`` steps."""
    accelerator = build_accelerator(task.config)
    model, objective = task.build(task, accelerator)
    training = ours.Training(model, objective, task.config, accelerator)
    training.run(min(task.config.train_batch_size, objective.mentions))  # warm-up
    started = time.perf_counter()
    training.prepare()
    prepared = time.perf_counter()
    count = min(batches * task.config.train_batch_size, objective.mentions)
    training.run(count)
    return Pace(count / (time.perf_counter() - prepared), prepared - started)


def trained(task: Fit) -> FitResult:
    """Train to the end. Afterwards the model is in ``task.model``, and nothing else is kept."""
    fit(task)
    shutil.rmtree(task.out / "store", ignore_errors=True)
    return FitResult.model_validate_json(task.result.read_text())
