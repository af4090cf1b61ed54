"""Batches of token ids on a device. Sequences of similar length are grouped, to save padding."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch

from zeshel_tasks.data.arrays import Rows

Ids = npt.NDArray[np.integer]

# Tokens of one part of a batch, including padding. On a CPU, larger parts are no faster and only take memory: 4,096
# tokens of a 384-wide BERT run at the rate of the bare matrix products. A GPU needs more, to hide kernel launches, but
# a batch of 128 x 128 tokens must have several parts, or its short sequences are padded to the longest.
_TOKENS_ON_CPU, _TOKENS_ON_GPU = 4096, 8192
# The last rows of a product use other kernels unless their number is a multiple of this (see evaluation/retrieval.py).
_SAME_KERNEL = 16
# Kernels for GPUs want lengths that are multiples of this, in masks above all.
_MULTIPLE_ON_GPU = 16
_MULTIPLE = 8  # of the lengths of groups on a CPU: a wider step pads more, a narrower one leaves more groups unfilled


class TokenBatch(NamedTuple):
    """Sequences of similar length, on a device.

    Attributes:
        ids: int64 [sequences, length].
        mask: bool [sequences, length], False on padding; None without padding.
        segments: int64 [sequences, length]; None means all 0.
        positions: int64 [sequences, length]; None means 0, 1, 2, ...
    """

    ids: torch.Tensor
    mask: torch.Tensor | None
    segments: torch.Tensor | None = None
    positions: torch.Tensor | None = None

    @property
    def visible(self) -> torch.Tensor | None:
        """The mask for all heads and queries, bool [sequences, 1, 1, length].

        A model takes it as it is. Of a mask of two dimensions, transformers asks on each forward pass if it hides
        anything, so the host would wait for the GPU.
        """
        return None if self.mask is None else self.mask[:, None, None, :]


class Batch(NamedTuple):
    """Sequences of any lengths, in parts of similar length.

    Attributes:
        parts: the parts, which contain each sequence once.
        places: int64 [sequences], position of each sequence in the concatenated parts.
    """

    parts: list[TokenBatch]
    places: torch.Tensor


def token_batch(rows: Ids, pad: int, device: torch.device) -> Batch:
    """Returns rows of a token table as a batch.

    Args:
        rows: integers [rows, max_length], padded on the right.
        pad: id of [PAD].
        device: device of the tensors.
    """
    parts, order = [], []
    for chosen, length in parts_by_length(used_lengths(rows, pad), rows.shape[1], device):
        ids = rows[chosen, :length].astype(np.int32, copy=False)  # a device knows few operations on uint16
        parts.append(TokenBatch(on_device(ids, device).long(), mask_of(ids != pad, device)))
        order.append(chosen)
    return Batch(parts, places_of(order, device))


class Group(NamedTuple):
    """Sequences that are computed in a batch of one shape. Nothing but its own length decides a sequence's shape.

    Attributes:
        rows: int64 [sequences], their positions.
        full: sequences of a full group.
        length: to pad them to.
        has_padding: False if all have this length.
    """

    rows: Rows
    full: int
    length: int
    has_padding: bool


def groups_of_one_shape(lengths: Rows, most: int, most_sequences: int, device: torch.device) -> Iterator[Group]:
    """Yields groups, longest first. The arguments are those of :func:`parts_by_length`, and the most for ``full``."""
    bound, multiple = (_TOKENS_ON_GPU, _MULTIPLE_ON_GPU) if device.type == "cuda" else (_TOKENS_ON_CPU, _MULTIPLE)
    padded = np.minimum(most, -(-lengths // multiple) * multiple)
    padded[lengths >= most] = most + 1  # most entities: they need no mask, without which attention is faster
    for shape in np.unique(padded)[::-1].tolist():
        length = min(shape, most)
        rows, count = np.flatnonzero(padded == shape), max(1, min(most_sequences, bound // length))
        if count >= _SAME_KERNEL:
            count -= count % _SAME_KERNEL
        for start in range(0, len(rows), count):
            yield Group(rows[start : start + count], count, length, has_padding=shape <= most)


def batch_of_one_shape(ids: Ids, group: Group, pad: int, device: torch.device) -> Batch:
    """Returns the sequences of a group as one part, filled up with copies of the last one.

    The kernels of a product depend on its shape, and round differently. So the result of a sequence does not depend on
    the others.

    Args:
        ids: integers [sequences, length].
        group: which they are of.
        pad: id of [PAD].
        device: device of the tensors.
    """
    filled = ids[np.minimum(np.arange(group.full), len(ids) - 1)].astype(np.int32, copy=False)
    mask = on_device(filled != pad, device) if group.has_padding else None
    return Batch([TokenBatch(on_device(filled, device).long(), mask)], on_device(np.arange(group.full), device))


def used_lengths(rows: Ids, pad: int) -> Rows:
    """Returns the length of each row without its padding, at least 1."""
    used = np.asarray(rows) != pad
    last: Rows = used.shape[1] - np.argmax(used[:, ::-1], axis=1)
    return np.where(used.any(1), last, 1)


def parts_by_length(lengths: Rows, most: int, device: torch.device) -> Iterator[tuple[Rows, int]]:
    """Yields the positions of sequences of similar length, longest first, and the length to pad them to.

    Parts are limited by tokens, so parts of short sequences contain more of them.

    Args:
        lengths: int64 [sequences], at least 1.
        most: limit of a padded length.
        device: device of the batch.
    """
    bound, multiple = (_TOKENS_ON_GPU, _MULTIPLE_ON_GPU) if device.type == "cuda" else (_TOKENS_ON_CPU, 1)
    order = np.argsort(-lengths, kind="stable")
    start = 0
    while start < len(order):
        length = min(most, -(-int(lengths[order[start]]) // multiple) * multiple)
        end = start + max(1, bound // length)
        yield order[start:end], length
        start = end


def places_of(order: list[Rows], device: torch.device) -> torch.Tensor:
    """Returns the place of each sequence, given the positions of the sequences in each part."""
    everything = np.concatenate(order) if order else np.zeros(0, dtype=np.int64)
    places = np.empty_like(everything)
    places[everything] = np.arange(len(everything))
    return on_device(places, device)


def mask_of(used: npt.NDArray[np.bool_], device: torch.device) -> torch.Tensor | None:
    """Returns None if there is no padding, because attention without a mask is faster."""
    return None if used.all() else on_device(used, device)


def on_device(array: npt.NDArray[np.generic], device: torch.device) -> torch.Tensor:
    """Copies an array to the device. A GPU copies asynchronously."""
    tensor = torch.from_numpy(np.ascontiguousarray(array))
    return tensor.pin_memory().to(device, non_blocking=True) if device.type == "cuda" else tensor.to(device)
