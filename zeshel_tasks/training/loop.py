"""The training loop of both encoders: steps, validation, best epoch, checkpoints, progress."""

from __future__ import annotations

import logging
import math
import shutil
import time
from pathlib import Path
from typing import Any, NoReturn

import torch
from accelerate import Accelerator
from torch import nn

from zeshel_tasks.compute import telemetry
from zeshel_tasks.compute.interrupt import Interrupt
from zeshel_tasks.compute.memory import out_of_memory_named, release_free_memory
from zeshel_tasks.compute.progress import Progress
from zeshel_tasks.compute.watchdog import Watchdog
from zeshel_tasks.config.encoder import EncoderConfig
from zeshel_tasks.data.arrays import Rows
from zeshel_tasks.errors import ConfigError, Preempted
from zeshel_tasks.training.checkpoints import Checkpoints
from zeshel_tasks.training.metrics import EpochMetrics, TrainingMetrics
from zeshel_tasks.training.objective import Objective, epoch_order
from zeshel_tasks.training.optimizer import build_optimizer, choose_trained, set_learning_rates, share_of_peak
from zeshel_tasks.training.processes import Agreement, exchange_in_bf16
from zeshel_tasks.training.saver import Saver
from zeshel_tasks.training.snapshot import TrainingState

log = logging.getLogger(__name__)

_CURVE_POINTS = 500
_STEPS_BETWEEN_RELEASES = 20


class _ToldToStop(Exception):
    """Leaves the training loop after SIGTERM."""


class Trainer:
    """Trains one objective.

    Args:
        model: trained in place.
        objective: computes the loss, validates, and saves the model.
        config: hyper-parameters.
        accelerator: device, precision and processes.
        checkpoints: where to resume from and save to.
        best: local directory for the best epoch's model.
        interrupt: set if the process gets SIGTERM.
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
        self._best, self._interrupt, self._measure = best, interrupt, objective.measures[0]
        trained = choose_trained(model, config.type_optimization)
        log.info("training %d of %d parameter tensors", len(trained), len(list(model.parameters())))
        self._model, self._optimizer = accelerator.prepare(model, build_optimizer(model, config))
        if config.gradient_precision == "bf16" and accelerator.num_processes > 1:
            exchange_in_bf16(self._model)
        self._steps_an_epoch = math.ceil(objective.mentions / config.train_batch_size)
        self._total_steps = self._steps_an_epoch * config.num_train_epochs
        _check_learning_rate(self._total_steps, config)
        self._state = TrainingState()
        self._agreement = Agreement(accelerator, config.stall_minutes)
        self._losses: list[torch.Tensor] = []  # losses of the steps since the last point of the curve
        self._saver = Saver(
            checkpoints, model, self._optimizer, objective.state, accelerator, best, config.checkpoint_minutes
        )

    def run(self) -> TrainingState:
        """Trains to the end. The best epoch's model is then in ``best``.

        Raises:
            Preempted: the process was stopped. A checkpoint was saved, or the message says why not.
            ConfigError: the loss is not finite, memory ran out, or the store refuses a checkpoint.
        """
        self._state, prepared = self._saver.restore()
        if prepared:
            self._objective.restore(prepared)
        self._losses = [torch.tensor(loss, device=self._accelerator.device) for loss in self._state.unrecorded]
        self._resumed_at = time.monotonic()
        self._progress = Progress(
            "step", self._total_steps, "mentions", self._config.print_interval, done=self._state.step
        )
        with Watchdog(self._config.stall_minutes) as self._watchdog:
            try:
                self._run()
            except _ToldToStop:
                self._stop()
            finally:
                self._saver.close()
        return self._state

    def _run(self) -> None:
        if self._total_steps == 0 and not self._state.epochs:
            self._validate_epoch(0)
        for epoch in range(len(self._state.epochs), self._config.num_train_epochs):
            if self._is_out_of_patience():
                break
            self._train_epoch(epoch)
            self._validate_epoch(epoch + 1)
            self._saver.epoch_ended()
            if epoch + 1 < self._config.num_train_epochs:
                self._stop_or_save(at_once=True)  # before hard negatives are looked for
        self._count_seconds()
        self._saver.save_last(self._state)

    def _is_out_of_patience(self) -> bool:
        patience, waited = self._config.patience, len(self._state.epochs) - self._state.best_epoch
        if patience is None or waited < patience or not self._state.epochs:
            return False
        log.info("validation did not improve in %d epochs, so training ends early (patience)", waited)
        return True

    def _train_epoch(self, epoch: int) -> None:
        config, done = self._config, self._state.step - epoch * self._steps_an_epoch
        order = epoch_order(
            self._objective.mentions,
            config.seed,
            epoch,
            shuffle=config.shuffle,
            groups=self._objective.groups,
            batch_size=config.train_batch_size,
        )
        with out_of_memory_named(f"before epoch {epoch + 1}", "use a smaller bert_model"):
            self._objective.begin_epoch(self._model, epoch, resumed=done > 0, after_batch=self._stop_if_alone)
        self._stop_or_save()
        self._validate_if_due()  # if the previous attempt was stopped during a validation
        self._model.train()
        for step in range(done, self._steps_an_epoch):
            rows = order[step * self._config.train_batch_size : (step + 1) * self._config.train_batch_size]
            self._train_step(rows)
            self._stop_or_save()
            self._validate_if_due()

    def _stop_or_save(self, *, at_once: bool = False) -> None:
        """Stops after a signal, or saves a checkpoint if one is due. Called between two steps."""
        self._watchdog.beat()
        stop, due = self._agreement.any(self._interrupt.requested, self._saver.due(), at_once=at_once)
        if stop:
            raise _ToldToStop
        if due:
            self._complete_state()
            self._saver.save(self._state)

    def _stop_in_validation(self) -> None:
        self._watchdog.beat()
        if self._agreement.any(self._interrupt.requested)[0]:
            raise _ToldToStop

    def _stop_if_alone(self) -> None:
        """Stops a single process after a signal. Several processes are not in step here and cannot agree to stop."""
        self._watchdog.beat()
        if self._accelerator.num_processes == 1 and self._interrupt.requested:
            raise _ToldToStop

    def _train_step(self, rows: Rows) -> None:
        share = share_of_peak(self._state.step, self._total_steps, self._config)
        set_learning_rates(self._optimizer, share)
        with out_of_memory_named(f"at step {self._state.step + 1}", self._less_memory()):
            loss = self._descend(rows)
        self._state.step += 1
        if self._state.step % _STEPS_BETWEEN_RELEASES == 0 and self._accelerator.device.type == "cpu":
            release_free_memory()
        self._record(loss, share * self._config.peak_learning_rate, len(rows))

    def _descend(self, rows: Rows) -> torch.Tensor:
        """Takes one optimizer step. Returns the loss of ``rows``, or the gradient's norm if it is not finite."""
        total = torch.zeros((), device=self._accelerator.device)
        parts = min(self._config.gradient_accumulation_steps, len(rows))
        for part in self._objective.parts(self._model, rows, parts):
            self._accelerator.backward(part.root)
            total += part.loss
        norm = self._accelerator.clip_grad_norm_(self._model.parameters(), self._config.max_grad_norm)
        self._optimizer.step()
        self._optimizer.zero_grad(set_to_none=True)
        # The gradient may overflow although the loss is finite. It ruins the weights one step before the loss shows it.
        return torch.where(torch.isfinite(norm), total, norm)

    def _record(self, loss: torch.Tensor, rate: float, mentions: int) -> None:
        self._losses.append(loss)
        every = max(1, self._total_steps // _CURVE_POINTS)
        if self._state.step % every == 0 or self._state.step % self._steps_an_epoch == 0:
            self._record_losses(rate)
        self._progress.update(units=mentions, note=self._last_loss())

    def _record_losses(self, rate: float) -> None:
        """Adds a point to the curve: the mean of the losses since the previous point."""
        losses = self._known_losses()
        self._losses.clear()
        mean = sum(losses) / len(losses)
        self._state.epoch_loss += sum(losses)
        self._state.epoch_steps += len(losses)
        self._state.curve.append({**self._where(), "loss": mean, "learning_rate": rate})
        if self._accelerator.is_main_process:
            telemetry.record_training(self._state.step, mean, rate)

    def _known_losses(self) -> list[float]:
        """Returns the losses since the last point of the curve, over all processes. Waits for the device.

        Raises:
            ConfigError: a loss is not a finite number.
        """
        if not self._losses:
            return []
        losses: list[float] = self._accelerator.reduce(torch.stack(self._losses), reduction="mean").tolist()
        broken = next((loss for loss in losses if not math.isfinite(loss)), None)
        if broken is not None:
            raise ConfigError(
                f"the loss became {broken} at or before step {self._state.step}: lower learning_rate (now "
                f"{self._config.peak_learning_rate}) or max_grad_norm, or use precision fp32"
            )
        return losses

    def _last_loss(self) -> str:
        return next((f"loss {point['loss']:.3f}" for point in reversed(self._state.curve) if "loss" in point), "")

    def _validate_epoch(self, epoch: int) -> None:
        state, figures = self._state, self._validate()
        record = {"epoch": epoch, "train_loss": state.epoch_loss / max(1, state.epoch_steps), **figures}
        if state.epoch_steps and state.epoch_loss == 0:
            log.warning("epoch %d: the loss was 0 in every step, so nothing was learned", epoch)
        state.epoch_loss, state.epoch_steps = 0.0, 0
        is_best = not state.epochs or self._measured(record) > max(map(self._measured, state.epochs))
        state.epochs.append(record)
        if is_best:
            state.best_epoch = epoch
            self._keep_as_best()
        log.info("epoch %d: %s", epoch, "  ".join(f"{k} {v:.4f}" for k, v in record.items() if isinstance(v, float)))

    def _validate(self) -> dict[str, float]:
        self._model.eval()
        advice = f"lower eval_batch_size (now {self._config.eval_batch_size})"
        with torch.no_grad(), out_of_memory_named("in validation", advice):
            figures = self._objective.validate(self._model, self._stop_in_validation)
        self._state.curve.append({**self._where(), self._measure: figures[self._measure]})
        if self._accelerator.is_main_process:
            telemetry.record_validation(figures)
        return figures

    def _measured(self, record: dict[str, Any]) -> tuple[float, ...]:
        return tuple(record[measure] for measure in self._objective.measures)

    def _validate_if_due(self) -> None:
        """Validates within an epoch, every ``eval_interval`` steps and only once per step."""
        every, step = self._config.eval_interval, self._state.step
        if every and step and step % every == 0:
            last = next((point["step"] for point in reversed(self._state.curve) if self._measure in point), None)
            if last != step:
                self._validate()
                self._model.train()

    def _keep_as_best(self) -> None:
        if self._accelerator.is_main_process:
            # Create new files instead of changing the old ones, which a checkpoint may share.
            shutil.rmtree(self._best, ignore_errors=True)
            self._best.mkdir(parents=True)
            self._objective.save(self._raw, self._best)

    def _stop(self) -> NoReturn:
        self._complete_state()
        problem = self._saver.save_now(self._state)
        step = self._state.step
        if problem is None:
            raise Preempted(f"stopped at step {step}; the next attempt resumes there")
        raise Preempted(
            f"stopped at step {step}, but its checkpoint could not be saved; the next attempt resumes from the "
            f"previous one. {problem}"
        )

    def _complete_state(self) -> None:
        """Updates the parts of the state that are not updated at each step.

        Raises:
            ConfigError: a loss is not a finite number, so the weights are not worth a checkpoint.
        """
        self._count_seconds()
        self._state.unrecorded = self._known_losses()

    def _count_seconds(self) -> None:
        now = time.monotonic()
        self._state.seconds += now - self._resumed_at
        self._resumed_at = now

    def _less_memory(self) -> str:
        config = self._config
        return (
            f"lower train_batch_size (now {config.train_batch_size}) or raise gradient_accumulation_steps (now "
            f"{config.gradient_accumulation_steps})"
        )

    def _where(self) -> dict[str, Any]:
        return {"step": self._state.step, "epoch": self._state.step / max(1, self._steps_an_epoch)}


def _check_learning_rate(total_steps: int, config: EncoderConfig) -> None:
    if total_steps and not any(share_of_peak(step, total_steps, config) for step in range(total_steps)):
        raise ConfigError(
            f"warmup_proportion: expected less than 1 for a training of {total_steps} step, because the learning rate "
            f"would be 0, got {config.warmup_proportion:g}"
        )


def learned_metrics(state: TrainingState, mentions: int, config: EncoderConfig) -> TrainingMetrics:
    """Returns the metrics of a finished training."""
    best = next(record for record in state.epochs if record["epoch"] == state.best_epoch)
    figures = {name: value for name, value in best.items() if name.startswith("valid_")}
    seen = mentions * (len(state.epochs) if config.num_train_epochs else 0)
    return TrainingMetrics(
        best_epoch=state.best_epoch,
        **figures,
        epochs=tuple(EpochMetrics.model_validate(record) for record in state.epochs),
        steps=state.step,
        mentions=mentions,
        peak_learning_rate=config.peak_learning_rate,
        training_seconds=round(state.seconds, 3),
        mentions_per_second=round(seen / state.seconds, 3) if seen else 0.0,
    )
