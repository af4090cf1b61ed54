"""Decides when a training is saved, and restores all of its processes from the same checkpoint."""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable
from pathlib import Path

import torch
from accelerate import Accelerator
from accelerate.utils import broadcast_object_list, gather_object
from torch import nn

from zeshel_tasks.compute.memory import out_of_memory_named
from zeshel_tasks.errors import CorruptArtifact, StoreUnavailable, TryAgain
from zeshel_tasks.training.checkpoint_writer import CheckpointWriter
from zeshel_tasks.training.checkpoints import Checkpoints
from zeshel_tasks.training.objective import Tensors
from zeshel_tasks.training.snapshot import (
    TrainingState,
    final_snapshot,
    random_states,
    restore_random_states,
    take_snapshot,
)


class Saver:
    """Saves after each epoch and at an interval, as soon as the previous snapshot is stored.

    Args:
        checkpoints: where to resume from and save to.
        model: without accelerate's wrapper.
        optimizer: optimizer of the trained parameters.
        prepared: returns the tensors that the objective has prepared for the epoch.
        accelerator: device and processes; the first process saves for all.
        best: local directory of the best epoch's model.
        minutes: minutes between two checkpoints.
    """

    def __init__(
        self,
        checkpoints: Checkpoints,
        model: nn.Module,
        optimizer: torch.optim.Optimizer,
        prepared: Callable[[], Tensors],
        accelerator: Accelerator,
        best: Path,
        minutes: float,
    ) -> None:
        self._checkpoints, self._model, self._optimizer = checkpoints, model, optimizer
        self._prepared, self._accelerator, self._best, self._seconds = prepared, accelerator, best, 60 * minutes
        self._writer = CheckpointWriter(checkpoints)
        self._last = time.monotonic()
        self._epoch_ended = False  # True until the next snapshot is taken

    def restore(self) -> tuple[TrainingState, Tensors]:
        """Restores the newest readable checkpoint, and returns its state and prepared tensors.

        Without a checkpoint, returns a fresh state and no tensors.

        Raises:
            TryAgain: another process cannot read the checkpoint that the first one read.
        """
        accelerator, found = self._accelerator, None
        if accelerator.is_main_process:
            found = self._checkpoints.restore(self._model, self._optimizer, self._best)
        # All processes take the first one's checkpoint, because another attempt may be writing newer ones.
        folder = broadcast_object_list([found.folder if found else None])[0]
        if folder is not None and found is None:
            try:
                found = self._checkpoints.restore_from(folder, self._model, self._optimizer, self._best)
            except CorruptArtifact as error:
                raise TryAgain(f"the first process could read this checkpoint, another one cannot: {error}") from error
        self._last = time.monotonic()
        if found is None:
            return TrainingState(), {}
        restore_random_states(found.random, accelerator.device, accelerator.process_index)
        return found.state, found.prepared

    def due(self) -> bool:
        """True if it is time to save. The first process decides; the others return False.

        Raises:
            ConfigError, OSError: the last snapshot could not be stored, and later ones could not be either.
        """
        if not self._accelerator.is_main_process or self._writer.busy:
            return False
        self._writer.wait()
        return self._epoch_ended or time.monotonic() - self._last > self._seconds

    def epoch_ended(self) -> None:
        """Makes a checkpoint due."""
        self._epoch_ended = True

    def save(self, state: TrainingState) -> None:
        """Starts to save, and returns as soon as everything is copied. All processes call it at the same step."""
        self._last, self._epoch_ended = time.monotonic(), False
        accelerator = self._accelerator
        mine = random_states(accelerator.device, accelerator.process_index)
        random: Tensors = {name: tensor for states in gather_object([mine]) for name, tensor in states.items()}
        if accelerator.is_main_process:
            with out_of_memory_named("for the host's copy of a checkpoint", "use a smaller bert_model"):
                snapshot = take_snapshot(
                    state, self._model, self._optimizer, random, self._prepared(), self._best, self._new_folder()
                )
            self._writer.write(snapshot)

    def save_now(self, state: TrainingState) -> StoreUnavailable | None:
        """Saves and waits. Returns the error if the store did not answer."""
        self._wait()  # wait for the running upload first, because it will finish sooner
        self.save(state)
        return self._wait()

    def save_last(self, state: TrainingState) -> None:
        """Saves after the last step, so that no training is lost if the attempt dies before the commit."""
        self._wait()
        if self._accelerator.is_main_process and self._epoch_ended:
            self._writer.write(final_snapshot(state, self._best, self._new_folder()))
        self._wait()

    def close(self) -> None:
        """Waits until the current snapshot is saved."""
        self._writer.close()

    def _wait(self) -> StoreUnavailable | None:
        problem = self._writer.wait()
        self._accelerator.wait_for_everyone()
        return problem

    def _new_folder(self) -> Path:
        return self._checkpoints.scratch / f"snapshot-{uuid.uuid4().hex}"
