"""A training's state as tensors on the host: what a checkpoint is made of, and what puts a training back there.

Only torch's generators are random states here: batches are drawn by a pure function of seed and epoch
(:func:`zeshel_tasks.training.loop.epoch_order`), and nothing else draws.
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
    """Where a training stands, besides weights and optimizer.

    Attributes:
        step: optimizer steps done.
        epochs: one record for each epoch finished.
        best_epoch: the epoch whose weights are kept, from 1; 0 before the first validation.
        curve: points for the loss curve.
        unrecorded: losses of the steps since the last point of the curve.
        epoch_loss: sum of the recorded losses of the running epoch.
        epoch_steps: how many they are.
        seconds: time spent training, by all attempts together.
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
    """A training at one step, apart from everything that training goes on to change.

    Attributes:
        state: the fields of :class:`TrainingState`.
        tensors: by file name (``model.safetensors``); none once all steps are done, for nothing goes on from there.
        folder: local directory of its own; ``best/`` in it is the best epoch's model directory.
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
    """Copies everything to the host; the new directory ``folder`` gets ``best``'s files, linked and not copied.

    Args:
        state: where the training stands.
        model: without a wrapper of accelerate's.
        optimizer: of its trained parameters.
        random: of all processes, see :func:`random_states`.
        prepared: what the objective has prepared for the epoch.
        best: the best epoch's model directory; its files are replaced, never written to.
        folder: on the same file system as ``best``.
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
    """A training whose steps are all done: only the best epoch's model is of use."""
    shutil.copytree(best, folder / "best", copy_function=os.link)
    return Snapshot(copy.deepcopy(vars(state)), {}, folder)


def random_states(device: torch.device, process: int) -> Tensors:
    """Of this process's generators, under names that hold its number."""
    states = {f"{process}.cpu": torch.get_rng_state()}
    return states | ({f"{process}.cuda": torch.cuda.get_rng_state(device)} if device.type == "cuda" else {})


def restore_random_states(states: Mapping[str, torch.Tensor], device: torch.device, process: int) -> None:
    """Puts back what :func:`random_states` took; with more processes or GPUs than then, the new ones stay as seeded."""
    if f"{process}.cpu" in states:
        torch.set_rng_state(states[f"{process}.cpu"])
    if device.type == "cuda" and f"{process}.cuda" in states:
        torch.cuda.set_rng_state(states[f"{process}.cuda"], device)


def restore_weights(
    model: nn.Module, optimizer: torch.optim.Optimizer, weights: Tensors, moments: Tensors, where: str
) -> None:
    """Puts both into place.

    Raises:
        CorruptArtifact: they do not fit; a checkpoint of other code under the same version would else fail in the
            middle of a step.
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
