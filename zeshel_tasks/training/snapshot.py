"""Takes and restores the state of a training, as tensors on the host from which a checkpoint is made.

The random states are those of torch's generators. The order of batches is a pure function of seed and epoch
(:func:`zeshel_tasks.training.objective.epoch_order`), and nothing else is random.
"""

from __future__ import annotations

import copy
import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import nn

from zeshel_tasks.errors import CorruptArtifact
from zeshel_tasks.training.objective import Tensors


@dataclass
class TrainingState:
    """The progress of a training: its state besides weights and optimizer.

    Attributes:
        step: optimizer steps done.
        epochs: one record for each finished epoch.
        best_epoch: the epoch whose weights are kept, from 1; 0 before the first validation.
        curve: points for the loss curve.
        unrecorded: losses of the steps since the last point of the curve.
        epoch_loss: sum of the recorded losses of the running epoch.
        epoch_steps: number of these losses.
        seconds: training time of all attempts together.
    """

    step: int = 0
    epochs: list[dict[str, Any]] = field(default_factory=list)
    best_epoch: int = 0
    curve: list[dict[str, float]] = field(default_factory=list)
    unrecorded: list[float] = field(default_factory=list)
    epoch_loss: float = 0.0
    epoch_steps: int = 0
    seconds: float = 0.0


@dataclass(frozen=True)
class Snapshot:
    """A copy of a training at one step, which the training does not change.

    Attributes:
        state: the fields of :class:`TrainingState`.
        tensors: tensors by file name (``model.safetensors``); empty after the last step, when they are not needed.
        folder: its own local directory, in which ``best/`` is the best epoch's model directory.
    """

    state: dict[str, Any]
    tensors: dict[str, Tensors]
    folder: Path

    @property
    def step(self) -> int:
        """Optimizer steps done."""
        return int(self.state["step"])


def take_snapshot(
    state: TrainingState,
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    random: Tensors,
    prepared: Tensors,
    best: Path,
    folder: Path,
) -> Snapshot:
    """Copies everything to the host. The new directory ``folder`` gets hard links to the files of ``best``.

    Args:
        state: the progress of the training.
        model: without accelerate's wrapper.
        optimizer: optimizer of the trained parameters.
        random: random states of all processes, see :func:`random_states`.
        prepared: tensors that the objective has prepared for the epoch.
        best: the best epoch's model directory. Its files may be replaced, but never changed.
        folder: a path on the same file system as ``best``.
    """
    folder.mkdir(parents=True)
    if best.is_dir():
        shutil.copytree(best, folder / "best", copy_function=os.link)
    tensors = {
        "model.safetensors": _copies(model.state_dict()),
        "optimizer.safetensors": _copies(_optimizer_tensors(optimizer)),
        "random.safetensors": _copies(random),
    }
    if prepared:
        tensors["prepared.safetensors"] = _copies(prepared)
    return Snapshot(copy.deepcopy(vars(state)), tensors, folder)


def final_snapshot(state: TrainingState, best: Path, folder: Path) -> Snapshot:
    """Returns the snapshot of a finished training, which contains only the best epoch's model."""
    shutil.copytree(best, folder / "best", copy_function=os.link)
    return Snapshot(copy.deepcopy(vars(state)), {}, folder)


def random_states(device: torch.device, process: int) -> Tensors:
    """Returns the states of this process's generators, under names that contain the number of the process."""
    states = {f"{process}.cpu": torch.get_rng_state()}
    return states | ({f"{process}.cuda": torch.cuda.get_rng_state(device)} if device.type == "cuda" else {})


def restore_random_states(states: Mapping[str, torch.Tensor], device: torch.device, process: int) -> None:
    """Restores the states from :func:`random_states`. Additional processes or GPUs stay as seeded."""
    if f"{process}.cpu" in states:
        torch.set_rng_state(states[f"{process}.cpu"])
    if device.type == "cuda" and f"{process}.cuda" in states:
        torch.cuda.set_rng_state(states[f"{process}.cuda"], device)


def restore_weights(
    model: nn.Module, optimizer: torch.optim.Optimizer, weights: Tensors, moments: Tensors, where: str
) -> None:
    """Restores weights and optimizer.

    Raises:
        CorruptArtifact: they do not fit the model. Otherwise a checkpoint of other code with the same version would
            fail in the middle of a step.
    """
    parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    fits = _shapes(weights) == _shapes(model.state_dict())
    for key, tensor in moments.items():
        index, _, name = key.partition(".")
        fits &= int(index) < len(parameters) and (name == "step" or tensor.shape == parameters[int(index)].shape)
    if not fits:
        raise CorruptArtifact("weights or optimizer of another model", file=where)
    model.load_state_dict(weights)
    states: dict[int, Tensors] = {}
    for key, tensor in moments.items():
        index, _, name = key.partition(".")
        states.setdefault(int(index), {})[name] = tensor
    optimizer.load_state_dict({"state": states, "param_groups": optimizer.state_dict()["param_groups"]})


def _copies(tensors: Mapping[str, torch.Tensor]) -> Tensors:
    return {name: tensor.detach().to("cpu", copy=True).contiguous() for name, tensor in tensors.items()}


def _optimizer_tensors(optimizer: torch.optim.Optimizer) -> Tensors:
    states = optimizer.state_dict()["state"]
    return {f"{index}.{name}": tensor for index, state in states.items() for name, tensor in state.items()}


def _shapes(tensors: Mapping[str, torch.Tensor]) -> dict[str, torch.Size]:
    return {name: tensor.shape for name, tensor in tensors.items()}
