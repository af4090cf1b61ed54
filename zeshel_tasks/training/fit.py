"""Runs in each training process: opens the prepared tables, builds the model and trains."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from accelerate import Accelerator
from pydantic import BaseModel
from torch import nn

from zeshel_tasks.compute import machine
from zeshel_tasks.compute.device import build_accelerator, device_name
from zeshel_tasks.compute.interrupt import on_sigterm
from zeshel_tasks.config.encoder import EncoderConfig
from zeshel_tasks.models.blink_weights import load_blink_weights
from zeshel_tasks.store import open_store
from zeshel_tasks.training.checkpoints import Checkpoints
from zeshel_tasks.training.loop import Trainer, learned_metrics
from zeshel_tasks.training.metrics import TrainingMetrics
from zeshel_tasks.training.objective import Objective

BuildObjective = Callable[["Fit", Accelerator], tuple[nn.Module, Objective]]


@dataclass(frozen=True)
class Fit:
    """A training, described so that another process can do it.

    Attributes:
        build: creates model and objective. It must be importable by name.
        config: hyper-parameters.
        bert: local directory of the pretrained BERT.
        weights: local file of BLINK's weights to start from, if any.
        tables: local directory with the prepared tables.
        store: address of the store that keeps the checkpoints.
        checkpoints: key prefix of the checkpoints in the store.
        out: local directory for ``model/`` (the best epoch) and ``result.json``.
    """

    build: BuildObjective
    config: EncoderConfig
    bert: Path
    weights: Path | None
    tables: Path
    store: str
    checkpoints: str
    out: Path

    @property
    def model(self) -> Path:
        """Directory of the best epoch's model."""
        return self.out / "model"

    @property
    def result(self) -> Path:
        """File with the training's results."""
        return self.out / "result.json"

    def checkpoint_store(self, rank: int = 0) -> Checkpoints:
        """Returns the training's checkpoints, with a scratch directory for this process."""
        return Checkpoints(open_store(self.store), self.checkpoints, self.out / f"checkpoints-{rank}")


class FitResult(BaseModel):
    """The results of a training besides the model."""

    metrics: TrainingMetrics
    curve: list[dict[str, float]]
    device: str
    peak_memory_mb: float
    peak_gpu_memory_mb: float | None


def fit(task: Fit) -> None:
    """Trains to the end, resuming where an earlier attempt stopped.

    Raises:
        Preempted: the process was stopped after saving a checkpoint.
        ConfigError, DataError: see :class:`~zeshel_tasks.training.loop.Trainer` and the loader of the start weights.
    """
    machine.reset_peak_memory()
    accelerator = build_accelerator(task.config)
    torch.manual_seed(task.config.seed)
    model, objective = task.build(task, accelerator)
    if task.weights is not None:
        load_blink_weights(model, task.weights)
    if accelerator.process_index:
        torch.manual_seed(task.config.seed + accelerator.process_index)  # each process has its own dropout
    checkpoints = task.checkpoint_store(accelerator.process_index)
    with on_sigterm() as interrupt:
        state = Trainer(model, objective, task.config, accelerator, checkpoints, task.model, interrupt).run()
    if accelerator.is_main_process:
        result = FitResult(
            metrics=learned_metrics(state, objective.mentions, task.config),
            curve=state.curve,
            device=device_name(accelerator),
            peak_memory_mb=machine.peak_memory_mb(),
            peak_gpu_memory_mb=machine.peak_gpu_memory_mb(),
        )
        task.result.write_text(result.model_dump_json())
    accelerator.wait_for_everyone()
