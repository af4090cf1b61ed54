"""Checkpoints of a training, in the store, where the next attempt with the same fingerprint finds them.

    artifacts/<stage>/<fingerprint>/checkpoints/<step>/checkpoint.json    written last; without it, there is none

Weights, optimizer and random states are safetensors files; nothing is pickled. Two attempts of one training may write
here at the same time: their files have different names, and of two checkpoints at one step the later one stays.
"""

from __future__ import annotations

import logging
import shutil
from pathlib import Path
from typing import Any, NamedTuple

import torch
from pydantic import BaseModel, ConfigDict
from safetensors.torch import load_file, save_file
from torch import nn

from zeshel_tasks.errors import CorruptArtifact
from zeshel_tasks.store.artifacts import FileEntry, StoredFiles, Uploads
from zeshel_tasks.store.base import Store
from zeshel_tasks.store.checksummed import checksummed, read_checksummed
from zeshel_tasks.training.objective import Tensors
from zeshel_tasks.training.snapshot import Snapshot, TrainingState, restore_weights

log = logging.getLogger(__name__)

_KEPT = 2
_BEST = "best/"


class Restored(NamedTuple):
    """A restored checkpoint: its folder, the state, and the tensors that the caller must restore.

    These are the random states, and the tensors that the objective had prepared for the epoch.
    """

    folder: str
    state: TrainingState
    random: Tensors
    prepared: Tensors


class _Checkpoint(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")
    state: dict[str, Any]
    files: dict[str, FileEntry]


class Checkpoints:
    """The checkpoints of one fingerprint.

    Args:
        store: where they are kept.
        folder: key prefix, without a trailing slash.
        scratch: a local directory for temporary files.
    """

    def __init__(self, store: Store, folder: str, scratch: Path) -> None:
        self._store, self._folder, self.scratch = store, folder, scratch

    def save(self, snapshot: Snapshot) -> None:
        """Stores a snapshot and removes its local files; keeps the last two checkpoints."""
        try:
            for name, tensors in snapshot.tensors.items():
                save_file(tensors, snapshot.folder / name)
            files = (path for path in snapshot.folder.rglob("*") if path.is_file())
            paths = {path.relative_to(snapshot.folder).as_posix(): path for path in files}
            folder = f"{self._folder}/{snapshot.step:09d}"
            checkpoint = _Checkpoint(state=snapshot.state, files=Uploads(self._store, folder).upload(paths))
            self._store.put(f"{folder}/checkpoint.json", checksummed(checkpoint))
            log.info("checkpoint at step %d saved", snapshot.step)
        finally:
            shutil.rmtree(snapshot.folder)
        self._remove_all_but(_KEPT)

    def restore(self, model: nn.Module, optimizer: torch.optim.Optimizer, best: Path) -> Restored | None:
        """Restores the newest readable checkpoint. Returns None if there is none."""
        for folder in reversed(self._committed()):
            try:
                restored = self.restore_from(folder, model, optimizer, best)
            except CorruptArtifact as error:
                log.warning("checkpoint %s is broken, trying the previous one: %s", folder, error)
                continue
            log.info("resuming at step %d from a checkpoint", restored.state.step)
            return restored
        return None

    def restore_from(self, folder: str, model: nn.Module, optimizer: torch.optim.Optimizer, best: Path) -> Restored:
        """Restores one checkpoint.

        Raises:
            CorruptArtifact: a part of it is missing or damaged. Nothing was changed.
        """
        checkpoint = read_checksummed(self._store, f"{folder}/checkpoint.json", _Checkpoint, "it is skipped")
        if checkpoint is None:
            raise CorruptArtifact("another attempt has just deleted it", file=f"{folder}/checkpoint.json")
        cache = self.scratch / "restored"
        files = StoredFiles(self._store, folder, checkpoint.files, cache)
        paths = {name: files.path(name) for name in checkpoint.files}  # verify all files before changing anything
        random: Tensors = {}
        prepared: Tensors = {}
        if "model.safetensors" in paths:
            weights, moments = load_file(paths["model.safetensors"]), load_file(paths["optimizer.safetensors"])
            random = load_file(paths["random.safetensors"])
            if "prepared.safetensors" in paths:
                prepared = load_file(paths["prepared.safetensors"])
            restore_weights(model, optimizer, weights, moments, folder)
        shutil.rmtree(best, ignore_errors=True)
        for name, path in paths.items():
            if name.startswith(_BEST):
                target = best / name.removeprefix(_BEST)
                target.parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(path, target)
        shutil.rmtree(cache, ignore_errors=True)
        return Restored(folder, TrainingState(**checkpoint.state), random, prepared)

    def remove(self) -> None:
        """Deletes all checkpoints, including unfinished ones. Call it after the artifact is committed."""
        self._remove_all_but(0)
        for key in list(self._store.keys(f"{self._folder}/")):
            self._store.delete(key)

    def _committed(self) -> list[str]:
        ending = "/checkpoint.json"
        return sorted(k.removesuffix(ending) for k in self._store.keys(f"{self._folder}/") if k.endswith(ending))

    def _remove_all_but(self, kept: int) -> None:
        committed = self._committed()
        for folder in committed[: len(committed) - kept]:
            self._store.delete(f"{folder}/checkpoint.json")  # first, so that the checkpoint no longer exists
            for key in list(self._store.keys(f"{folder}/")):
                self._store.delete(key)
