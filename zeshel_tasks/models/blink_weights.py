"""Reads and writes the weight files of BLINK itself (``pytorch_model.bin``)."""

from __future__ import annotations

import pickle
from pathlib import Path

import torch
from torch import nn

from zeshel_tasks.errors import DataError
from zeshel_tasks.store.runs import open_store


def load_blink_weights(model: nn.Module, path: Path) -> None:
    """Puts the weights of a file that BLINK trained into ``model``; only tensors are unpickled.

    Raises:
        DataError: not a weight file, or one of another architecture.
    """
    try:
        weights = torch.load(path, map_location="cpu", weights_only=True)
    except (RuntimeError, pickle.UnpicklingError, EOFError, OSError) as error:
        raise DataError("not a readable weight file", file=str(path), got=str(error)) from error
    # A constant that older versions of transformers saved as a buffer.
    weights = {name: value for name, value in weights.items() if not name.endswith("embeddings.position_ids")}
    try:
        model.load_state_dict(weights, strict=True)
    except RuntimeError as error:
        raise DataError("weights of another architecture", file=str(path), got=str(error)) from error


def save_blink_weights(model: nn.Module, path: Path) -> None:
    """Writes ``model`` under BLINK's key names; the pickled form is BLINK's, for BLINK to read."""
    torch.save(model.state_dict(), path)


def weights_file(address: str, scratch: Path) -> Path:
    """A local copy of a weight file at a local path or an s3 address.

    Raises:
        DataError: there is no such file.
    """
    folder, _, name = address.rpartition("/")
    path = open_store(folder or ".").local_copy(name, scratch / "blink_weights" / name) if name else None
    if path is None:
        raise DataError("no such weight file", file=address)
    return path
