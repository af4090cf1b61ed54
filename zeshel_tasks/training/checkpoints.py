"""Checkpoints of a training, in the store, where the next attempt of the same fingerprint finds them.

    artifacts/<stage>/<fingerprint>/checkpoints/<step>/checkpoint.json    written last; without it nothing exists

Weights, optimizer and random states are safetensors files; nothing is pickled.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from pydantic import BaseModel, ConfigDict, ValidationError
from safetensors.torch import load_file, save_file
from torch import nn

from zeshel_tasks.errors import CorruptArtifact
from zeshel_tasks.store.artifacts import FileEntry, StoredFiles, upload_files
from zeshel_tasks.store.base import Store

log = logging.getLogger(__name__)

_KEPT = 2


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


class _Checkpoint(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")
    state: dict[str, Any]
    files: dict[str, FileEntry]


class Checkpoints:
    """The checkpoints of one fingerprint.

    Args:
        store: where they are kept.
        folder: key prefix, without a trailing slash.
        scratch: a local directory for files on their way.
    """

    def __init__(self, store: Store, folder: str, scratch: Path) -> None:
        self._store, self._folder, self._scratch = store, folder, scratch

    def save(self, state: TrainingState, model: nn.Module, optimizer: torch.optim.Optimizer, best: Path) -> None:
        """Stores everything that :meth:`restore` needs; keeps the last two checkpoints."""
        target = self._scratch / f"checkpoint-{state.step}"
        target.mkdir(parents=True, exist_ok=True)
        save_file(_owned(model.state_dict()), target / "model.safetensors")
        save_file(_optimizer_tensors(optimizer), target / "optimizer.safetensors")
        save_file(_random_states(), target / "random.safetensors")
        paths = {path.name: path for path in target.iterdir()}
        paths |= {f"best/{path.relative_to(best).as_posix()}": path for path in best.rglob("*") if path.is_file()}
        folder = f"{self._folder}/{state.step:09d}"
        files = upload_files(self._store, folder, paths)
        checkpoint = _Checkpoint(state=vars(state), files=files)
        self._store.put(f"{folder}/checkpoint.json", checkpoint.model_dump_json().encode())
        log.info("checkpoint at step %d saved", state.step)
        for path in target.iterdir():
            path.unlink()
        self._remove_all_but(_KEPT)

    def restore(self, model: nn.Module, optimizer: torch.optim.Optimizer, best: Path) -> TrainingState:
        """Puts the newest readable checkpoint into place; a fresh state where there is none."""
        for folder in reversed(self._committed()):
            try:
                state = self._restore_from(folder, model, optimizer, best)
            except CorruptArtifact as error:
                log.warning("checkpoint %s is broken, trying the one before: %s", folder, error)
                continue
            log.info("resuming at step %d from a checkpoint", state.step)
            return state
        return TrainingState()

    def remove(self) -> None:
        """Deletes all checkpoints; for when the artifact is committed."""
        self._remove_all_but(0)

    def _restore_from(
        self, folder: str, model: nn.Module, optimizer: torch.optim.Optimizer, best: Path
    ) -> TrainingState:
        data = self._store.get(f"{folder}/checkpoint.json")
        try:
            checkpoint = _Checkpoint.model_validate_json(data or b"")
        except ValidationError as error:
            raise CorruptArtifact("unreadable checkpoint", file=f"{folder}/checkpoint.json", got=str(error)) from error
        files = StoredFiles(self._store, folder, checkpoint.files, self._scratch / "restored")
        paths = {name: files.path(name) for name in checkpoint.files}  # all verified before anything is changed
        weights, moments = load_file(paths["model.safetensors"]), load_file(paths["optimizer.safetensors"])
        _check_shapes(weights, moments, model, optimizer, folder)
        model.load_state_dict(weights)
        _load_optimizer(optimizer, moments)
        _restore_random_states(load_file(paths["random.safetensors"]))
        for name, path in paths.items():
            if name.startswith("best/"):
                target = best / name.removeprefix("best/")
                target.parent.mkdir(parents=True, exist_ok=True)
                target.write_bytes(path.read_bytes())
        return TrainingState(**checkpoint.state)

    def _committed(self) -> list[str]:
        ending = "/checkpoint.json"
        return sorted(k.removesuffix(ending) for k in self._store.keys(f"{self._folder}/") if k.endswith(ending))

    def _remove_all_but(self, kept: int) -> None:
        committed = self._committed()
        for folder in committed[: len(committed) - kept]:
            self._store.delete(f"{folder}/checkpoint.json")  # first: from here on it does not exist
            for key in list(self._store.keys(f"{folder}/")):
                self._store.delete(key)


def _owned(tensors: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}


def _optimizer_tensors(optimizer: torch.optim.Optimizer) -> dict[str, torch.Tensor]:
    states = optimizer.state_dict()["state"]
    return _owned({f"{index}.{name}": tensor for index, state in states.items() for name, tensor in state.items()})


def _load_optimizer(optimizer: torch.optim.Optimizer, tensors: Mapping[str, torch.Tensor]) -> None:
    states: dict[int, dict[str, torch.Tensor]] = {}
    for key, tensor in tensors.items():
        index, _, name = key.partition(".")
        states.setdefault(int(index), {})[name] = tensor
    optimizer.load_state_dict({"state": states, "param_groups": optimizer.state_dict()["param_groups"]})


def _check_shapes(
    weights: Mapping[str, torch.Tensor],
    moments: Mapping[str, torch.Tensor],
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    folder: str,
) -> None:
    """A checkpoint of other code under the same version would else fail in the middle of a step.

    Raises:
        CorruptArtifact: the checkpoint does not fit this model and optimizer.
    """
    parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    fits = {name: tensor.shape for name, tensor in weights.items()} == {
        name: tensor.shape for name, tensor in model.state_dict().items()
    }
    for key, tensor in moments.items():
        index, _, name = key.partition(".")
        fits &= int(index) < len(parameters) and (name == "step" or tensor.shape == parameters[int(index)].shape)
    if not fits:
        raise CorruptArtifact("weights or optimizer of another model", file=folder)


def _random_states() -> dict[str, torch.Tensor]:
    states = {"cpu": torch.get_rng_state()}
    return states | {f"cuda.{i}": state for i, state in enumerate(torch.cuda.get_rng_state_all())}


def _restore_random_states(states: Mapping[str, torch.Tensor]) -> None:
    torch.set_rng_state(states["cpu"])
    for name, state in states.items():
        if name.startswith("cuda.") and int(name[5:]) < torch.cuda.device_count():
            torch.cuda.set_rng_state(state, int(name[5:]))
