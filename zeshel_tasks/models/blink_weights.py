"""Reads and writes BLINK's weight files (``pytorch_model.bin``)."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import torch
from torch import nn

from zeshel_tasks.errors import DataError
from zeshel_tasks.location import LocalPath, StoreLocation
from zeshel_tasks.models.broken import BROKEN, described
from zeshel_tasks.store.runs import store_at


def load_blink_weights(model: nn.Module, path: Path) -> None:
    """Load the weights of a BLINK file into ``model``. Only tensors are unpickled.

    Raises:
        DataError: the file is not a weight file, or has weights of another architecture.
    """
    try:
        weights = torch.load(path, map_location="cpu", weights_only=True)
    except BROKEN as error:
        raise DataError("not a readable weight file", file=str(path), got=described(error)) from error
    if not isinstance(weights, dict) or not all(map(_is_weight, weights.items())):
        raise DataError("not a weight file", file=str(path), expected="tensors by name", got=type(weights).__name__)
    # Older versions of transformers saved this constant as a buffer.
    weights = {name: value for name, value in weights.items() if not name.endswith("embeddings.position_ids")}
    for name, value in weights.items():
        if not value.is_floating_point():  # torch would convert it
            expected, got = "floating point", str(value.dtype).removeprefix("torch.")
            raise DataError("weights of another type", file=str(path), field=name, expected=expected, got=got)
    # BLINK has no temperature, so a model that learns one keeps its initial value.
    weights = {name: value for name, value in model.state_dict().items() if name == "log_scale"} | weights
    try:
        model.load_state_dict(weights, strict=True)
    except (RuntimeError, AttributeError, TypeError) as error:
        raise DataError("weights of another architecture", file=str(path), got=" ".join(str(error).split())) from error
    for name, weight in model.named_parameters():
        if not weight.isfinite().all():
            raise DataError("weights that are not finite numbers", file=str(path), field=name)


def _is_weight(item: tuple[object, object]) -> bool:
    return isinstance(item[0], str) and isinstance(item[1], torch.Tensor)


def save_blink_weights(model: nn.Module, path: Path) -> None:
    """Write the weights of ``model`` with BLINK's key names, pickled as BLINK reads them."""
    torch.save(model.state_dict(), path)


def weights_file(location: StoreLocation, scratch: Path) -> Path:
    """The weight file at a location; one in a bucket is downloaded into ``scratch``.

    Raises:
        DataError: there is no such file.
    """
    path: Path | None
    if isinstance(location, LocalPath):
        path = location.path if location.path.is_file() else None
    else:
        folder, _, name = location.key.rpartition("/")
        store = store_at(replace(location, key=folder))
        path = store.local_copy(name, scratch / "blink_weights" / name) if name else None
    if path is None:
        raise DataError("no such weight file", file=location.name)
    return path
