"""The training loop of both encoders: steps, validation, best epoch, checkpoints, progress."""

from __future__ import annotations

import logging
import math
import shutil
import time
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import torch
from accelerate import Accelerator
from torch import nn

from zeshel_tasks.config import EncoderConfig
from zeshel_tasks.errors import ConfigError, Preempted
from zeshel_tasks.progress import Progress
from zeshel_tasks.training.checkpoints import Checkpoints, TrainingState
from zeshel_tasks.training.interrupt import Interrupt
from zeshel_tasks.training.optimizer import build_optimizer, choose_trained, learning_rate_at

log = logging.getLogger(__name__)

Rows = npt.NDArray[np.int64]
_CURVE_POINTS = 500


class Objective(Protocol):
    """What is trained, on which mentions, and how it is validated."""

    mentions: int
    """How many mentions there are to train on."""

    def loss(self, model: nn.Module, rows: Rows) -> torch.Tensor:
        """Mean loss over the mentions ``rows``, of which this process computes its share."""

    def validate(self, model: nn.Module) -> dict[str, float]:
        """Figures of merit; ``valid_accuracy`` chooses the best epoch. The model is in eval mode."""

    def save(self, model: nn.Module, directory: Path) -> None:
        """Writes the model directory."""


class Trainer:
    """Trains one objective.

    Args:
        model: trained in place.
        objective: loss, validation and the form in which the model is saved.
        config: hyper-parameters.
        accelerator: device, precision and processes.
        checkpoints: where to resume from and save to.
        best: local directory for the best epoch's model.
        interrupt: set when the process is told to stop.
    """

    def __init__(
        self,
        model: nn.Module,
        objective: Objective,
        config: EncoderConfig,
        accelerator: Accelerator,
        checkpoints: Checkpoints,
        best: Path,
        interrupt: Interrupt,
    ) -> None:
        self._raw, self._objective, self._config, self._accelerator = model, objective, config, accelerator
        self._checkpoints, self._best, self._interrupt = checkpoints, best, interrupt
        trained = choose_trained(model, config.type_optimization)
        log.info("training %d of %d parameter tensors", len(trained), len(list(model.parameters())))
        self._model, self._optimizer = accelerator.prepare(model, build_optimizer(model, config))
        self._steps_an_epoch = math.ceil(objective.mentions / config.train_batch_size)
        self._total_steps = self._steps_an_epoch * config.num_train_epochs
        self._state = TrainingState()
        self._losses: list[torch.Tensor] = []  # of the steps since the last point of the curve

    def run(self) -> TrainingState:
        """Trains to the end; the best epoch's model is then in ``best``.

        Raises:
            Preempted: told to stop; a checkpoint was saved.
            ConfigError: the loss is not a number.
        """
        self._state = self._checkpoints.restore(self._raw, self._optimizer, self._best)
        self._losses = [torch.tensor(loss, device=self._accelerator.device) for loss in self._state.unrecorded]
        if self._total_steps == 0:
            self._validate_epoch(0)
        self._resumed_at = self._last_checkpoint = time.monotonic()
        self._progress = Progress(
            "step", self._total_steps, "mentions", self._config.print_interval, done=self._state.step
        )
        for epoch in range(len(self._state.epochs), self._config.num_train_epochs):
            self._train_epoch(epoch)
            self._validate_epoch(epoch + 1)
            if epoch + 1 < self._config.num_train_epochs:
                self._save_checkpoint()
        self._state.seconds += time.monotonic() - self._resumed_at
        return self._state

    def _train_epoch(self, epoch: int) -> None:
        order = epoch_order(self._objective.mentions, self._config.seed, epoch, shuffle=self._config.shuffle)
        self._model.train()
        for step in range(self._state.step - epoch * self._steps_an_epoch, self._steps_an_epoch):
            rows = order[step * self._config.train_batch_size : (step + 1) * self._config.train_batch_size]
            self._train_step(rows)
            if self._must_stop():
                self._save_checkpoint()
                raise Preempted(f"told to stop at step {self._state.step}; the next attempt resumes there")
            if time.monotonic() - self._last_checkpoint > 60 * self._config.checkpoint_minutes:
                self._save_checkpoint()

    def _train_step(self, rows: Rows) -> None:
        rate = learning_rate_at(self._state.step, self._total_steps, self._config)
        for group in self._optimizer.param_groups:
            group["lr"] = rate
        total = torch.zeros((), device=self._accelerator.device)
        parts = min(self._config.gradient_accumulation_steps, max(1, len(rows) // self._accelerator.num_processes))
        for part in np.array_split(rows, parts):
            loss = self._objective.loss(self._model, part) * (len(part) / len(rows))
            self._accelerator.backward(loss)
            total += loss.detach()
        self._accelerator.clip_grad_norm_(self._model.parameters(), self._config.max_grad_norm)
        self._optimizer.step()
        self._optimizer.zero_grad(set_to_none=True)
        self._state.step += 1
        self._record(total, rate, len(rows))

    def _record(self, loss: torch.Tensor, rate: float, mentions: int) -> None:
        self._losses.append(loss)
        every = max(1, self._total_steps // _CURVE_POINTS)
        if self._state.step % every == 0 or self._state.step % self._steps_an_epoch == 0:
            self._record_losses(rate)
        self._progress.update(units=mentions, note=self._last_loss())
        if self._config.eval_interval and self._state.step % self._config.eval_interval == 0:
            self._validate()
            self._model.train()

    def _record_losses(self, rate: float) -> None:
        """One point of the curve: the mean of the losses since the last one."""
        mine = torch.stack(self._losses)
        # The device is waited for here, and not at each step.
        losses = self._accelerator.reduce(mine, reduction="mean").tolist()
        self._losses.clear()
        mean = sum(losses) / len(losses)
        if not math.isfinite(mean):
            raise ConfigError(
                f"the loss became {mean} at step {self._state.step}: lower learning_rate (now "
                f"{self._config.learning_rate}) or max_grad_norm, or use precision fp32"
            )
        self._state.epoch_loss += sum(losses)
        self._state.epoch_steps += len(losses)
        self._state.curve.append({**self._where(), "loss": mean, "learning_rate": rate})

    def _last_loss(self) -> str:
        return next((f"loss {point['loss']:.3f}" for point in reversed(self._state.curve) if "loss" in point), "")

    def _validate_epoch(self, epoch: int) -> None:
        state, figures = self._state, self._validate()
        record = {"epoch": epoch, "train_loss": state.epoch_loss / max(1, state.epoch_steps), **figures}
        state.epoch_loss, state.epoch_steps = 0.0, 0
        best = max((known["valid_accuracy"] for known in state.epochs), default=-1.0)
        state.epochs.append(record)
        if figures["valid_accuracy"] > best:
            state.best_epoch = epoch
            self._keep_as_best()
        log.info("epoch %d: %s", epoch, "  ".join(f"{k} {v:.4f}" for k, v in record.items() if isinstance(v, float)))

    def _validate(self) -> dict[str, float]:
        self._model.eval()
        with torch.no_grad():
            figures = self._objective.validate(self._model)
        self._state.curve.append({**self._where(), "valid_accuracy": figures["valid_accuracy"]})
        return figures

    def _keep_as_best(self) -> None:
        if self._accelerator.is_main_process:
            # New files, never new bytes in old ones: a checkpoint may share them.
            shutil.rmtree(self._best, ignore_errors=True)
            self._best.mkdir(parents=True)
            self._objective.save(self._raw, self._best)

    def _save_checkpoint(self) -> None:
        self._last_checkpoint = now = time.monotonic()
        self._state.seconds += now - self._resumed_at
        self._resumed_at = now
        self._state.unrecorded = [float(loss) for loss in self._losses]
        if self._accelerator.is_main_process:
            self._checkpoints.save(self._state, self._raw, self._optimizer, self._best)
        self._accelerator.wait_for_everyone()

    def _must_stop(self) -> bool:
        if self._accelerator.num_processes == 1:
            return self._interrupt.requested
        flag = torch.tensor([float(self._interrupt.requested)], device=self._accelerator.device)
        return bool(self._accelerator.reduce(flag, reduction="sum").item() > 0)

    def _where(self) -> dict[str, Any]:
        return {"step": self._state.step, "epoch": self._state.step / max(1, self._steps_an_epoch)}


def epoch_order(mentions: int, seed: int, epoch: int, *, shuffle: bool) -> Rows:
    """The order in which an epoch visits the mentions: a pure function, so that a resumed epoch knows it."""
    if not shuffle:
        return np.arange(mentions)
    return np.random.default_rng([seed, epoch]).permutation(mentions)


def learned_metrics(state: TrainingState, mentions: int, config: EncoderConfig) -> dict[str, Any]:
    """The manifest's metrics of a finished training."""
    best = next(record for record in state.epochs if record["epoch"] == state.best_epoch)
    figures = {name: value for name, value in best.items() if name.startswith("valid_")}
    seen = mentions * config.num_train_epochs
    return {
        "best_epoch": state.best_epoch,
        **figures,
        "epochs": state.epochs,
        "steps": state.step,
        "mentions": mentions,
        "training_seconds": round(state.seconds, 3),
        "mentions_per_second": round(seen / state.seconds, 3) if seen else 0.0,
    }
