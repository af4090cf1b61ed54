"""Batches of token ids on a device. Sequences of similar length are together, to avoid computing padding."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch

from zeshel_tasks.data.arrays import Rows

Ids = npt.NDArray[np.int32]

# Of one part of a batch, padding included. On a CPU more than this is no faster and only takes memory (4,096 tokens of
# a 384-wide BERT run at the rate of the bare matrix products); a GPU needs more to hide the launch of its kernels.
_TOKENS_ON_CPU, _TOKENS_ON_GPU = 4096, 16_384


class TokenBatch(NamedTuple):
    """Sequences of like length, on a device.

    Attributes:
        ids: int64 [sequences, length].
        mask: bool [sequences, length], false on padding; None where there is none.
        segments: int64 [sequences, length]; None is all 0.
        positions: int64 [sequences, length]; None counts from 0.
    """

    ids: torch.Tensor
    mask: torch.Tensor | None
    segments: torch.Tensor | None = None
    positions: torch.Tensor | None = None


class Batch(NamedTuple):
    """Sequences of any lengths, in parts of like length.

    Attributes:
        parts: together they have each sequence once.
        places: int64 [sequences], where each sequence is in the parts, one after the other.
    """

    parts: list[TokenBatch]
    places: torch.Tensor


def token_batch(rows: Ids, pad: int, device: torch.device) -> Batch:
    """Rows of a token table as a batch.

    Args:
        rows: int32 [rows, max_length], padded on the right.
        pad: id of [PAD].
        device: where the tensors go.
    """
    parts, order = [], []
    for chosen, length in parts_by_length(used_lengths(rows, pad), device):
        ids = rows[chosen, :length]
        parts.append(TokenBatch(on_device(ids, device).long(), mask_of(ids != pad, device)))
        order.append(chosen)
    return Batch(parts, places_of(order, device))


def used_lengths(rows: Ids, pad: int) -> Rows:
    """Tokens up to the last one that is not padding, by row; at least 1, since no row is without a column."""
    used = np.asarray(rows) != pad
    last: Rows = used.shape[1] - np.argmax(used[:, ::-1], axis=1)
    return np.where(used.any(1), last, 1)


def parts_by_length(lengths: Rows, device: torch.device) -> Iterator[tuple[Rows, int]]:
    """Positions of sequences of like length, the longest first, and the length of the longest of them.

    The parts are bounded by tokens: short sequences come in larger ones.
    """
    bound = _TOKENS_ON_GPU if device.type == "cuda" else _TOKENS_ON_CPU
    order = np.argsort(-lengths, kind="stable")
    start = 0
    while start < len(order):
        length = int(lengths[order[start]])
        end = start + max(1, bound // length)
        yield order[start:end], length
        start = end


def places_of(order: list[Rows], device: torch.device) -> torch.Tensor:
    """Where each sequence is, given the positions of those in each part."""
    everything = np.concatenate(order) if order else np.zeros(0, dtype=np.int64)
    places = np.empty_like(everything)
    places[everything] = np.arange(len(everything))
    return on_device(places, device)


def mask_of(used: npt.NDArray[np.bool_], device: torch.device) -> torch.Tensor | None:
    """None where everything is used: attention without a mask is faster."""
    return None if used.all() else on_device(used, device)


def on_device(array: npt.NDArray[np.generic], device: torch.device) -> torch.Tensor:
    """A copy on the device; a GPU fetches it while the host goes on."""
    tensor = torch.from_numpy(np.ascontiguousarray(array))
    return tensor.pin_memory().to(device, non_blocking=True) if device.type == "cuda" else tensor.to(device)
