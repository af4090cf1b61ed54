"""Encodes token tables into vectors. Holds one batch in memory."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import torch

from zeshel_tasks.compute.device import Placement
from zeshel_tasks.config.retrieval import VectorDtype
from zeshel_tasks.data.arrays import Rows, new_array, release
from zeshel_tasks.data.tokens import TokenTable
from zeshel_tasks.data.vector_file import storable
from zeshel_tasks.models.batches import token_batch, used_lengths
from zeshel_tasks.models.encoder import Encoder

_SORTED_BATCHES = 64


def encode_rows(encoder: Encoder, rows: TokenTable, pad: int, placement: Placement) -> torch.Tensor:
    """Vectors of some rows: float32 [rows, dimension] on the placement's device."""
    with torch.inference_mode(), placement.autocast():
        vectors: torch.Tensor = encoder(token_batch(rows, pad, placement.device))
    return vectors.float()


def encode_table(
    encoder: Encoder,
    table: TokenTable,
    batch_size: int,
    pad: int,
    placement: Placement,
    path: Path,
    counted: Callable[[int], None],
    dtype: VectorDtype = "float32",
) -> None:
    """Encodes a whole table into a memory-mapped ``.npy`` file.

    Args:
        encoder: in eval mode, on the placement's device.
        table: int32 [rows, max_length].
        batch_size: rows encoded at once.
        pad: id of [PAD].
        placement: device and precision.
        path: the file, ``dtype`` [rows, dimension].
        counted: called with the number of rows after each batch.
        dtype: type of the stored vectors.
    """
    out = new_array(path, dtype, (len(table), encoder.dimension))
    for rows in _by_length(table, batch_size, pad):
        out[rows] = storable(encode_rows(encoder, table[rows], pad, placement).cpu().numpy(), dtype)
        release(out)
        release(table)
        counted(len(rows))
    out.flush()


def _by_length(table: TokenTable, batch_size: int, pad: int) -> Iterator[Rows]:
    """Batches of rows of similar length, to save padding. Sorts one stretch of the table at a time."""
    stretch = batch_size * _SORTED_BATCHES
    for start in range(0, len(table), stretch):
        lengths = used_lengths(table[start : start + stretch], pad)
        order = start + np.argsort(lengths, kind="stable")
        yield from (order[i : i + batch_size] for i in range(0, len(order), batch_size))
