"""Encodes token tables into vectors. Holds some batches in memory.

In a large table, the vector of an entity does not depend on the other rows: a row is always computed in a batch of the
same shape. So a part of the table gets the same bits as the whole, on the same kind of machine.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import numpy as np
import torch

from zeshel_tasks.compute.ahead import one_ahead
from zeshel_tasks.compute.device import Placement
from zeshel_tasks.config.retrieval import VectorDtype
from zeshel_tasks.data.arrays import Rows, new_array, release
from zeshel_tasks.data.tokens import TokenTable
from zeshel_tasks.data.vector_file import storable
from zeshel_tasks.models.batches import Batch, batch_of_one_shape, groups_of_one_shape, token_batch, used_lengths
from zeshel_tasks.models.encoder import Encoder

_STRETCH = 2**14  # rows that are sorted by length at once
# A table of fewer rows is encoded in the shapes that take the least time. Filling up a batch for each length would take
# 4% longer with 3,000 rows, 28% with 1,000, and more than twice as long with 300.
_FEW = 4096


def encode_rows(encoder: Encoder, rows: TokenTable, pad: int, placement: Placement) -> torch.Tensor:
    """Vectors of some rows: float32 [rows, dimension] on the placement's device."""
    return _encoded(encoder, token_batch(rows, pad, placement.device), placement)


def encode_table(
    encoder: Encoder,
    table: TokenTable,
    batch_size: int,
    pad: int,
    placement: Placement,
    path: Path,
    counted: Callable[[int], None],
    dtype: VectorDtype = "float32",
    filled: Iterable[int] | None = None,
    is_part: bool = False,
) -> None:
    """Encodes a whole table into a memory-mapped ``.npy`` file.

    Args:
        encoder: in eval mode, on the placement's device.
        table: integers [rows, max_length].
        batch_size: rows encoded at once; fewer if they have many tokens.
        pad: id of [PAD].
        placement: device and precision.
        path: the file, ``dtype`` [rows, dimension].
        counted: called with the number of rows after each batch.
        dtype: type of the stored vectors.
        filled: fills the table and yields how many rows it has so far, ahead of the encoding; None if it is complete.
        is_part: True if its rows need the bits that they have in a larger table.
    """
    few = len(table) < _FEW and not is_part
    out, start = new_array(path, dtype, (len(table), encoder.dimension)), 0
    for end in one_ahead(_stretches(len(table), iter([len(table)] if filled is None else filled))):
        for rows, vectors in _stretch(encoder, table[start:end], batch_size, pad, placement, few=few):
            out[start + rows] = storable(vectors.cpu().numpy(), dtype)
            release(out)
            release(table)
            counted(len(rows))
        start = end
    out.flush()


def _stretch(
    encoder: Encoder, table: TokenTable, batch_size: int, pad: int, placement: Placement, *, few: bool
) -> Iterator[tuple[Rows, torch.Tensor]]:
    """Yields positions in a stretch of a table with their vectors, in batches of similar lengths."""
    lengths = used_lengths(table, pad)
    if few:
        order = np.argsort(lengths, kind="stable")
        for first in range(0, len(order), batch_size):
            rows = order[first : first + batch_size]
            yield rows, encode_rows(encoder, table[rows], pad, placement)
        return
    for group in groups_of_one_shape(lengths, table.shape[1], batch_size, placement.device):
        batch = batch_of_one_shape(table[group.rows, : group.length], group, pad, placement.device)
        yield group.rows, _encoded(encoder, batch, placement)[: len(group.rows)]


def _encoded(encoder: Encoder, batch: Batch, placement: Placement) -> torch.Tensor:
    with torch.inference_mode(), placement.autocast():
        vectors: torch.Tensor = encoder(batch)
    return vectors.float()


def _stretches(rows: int, filled: Iterator[int]) -> Iterator[int]:
    """Yields the end of each stretch of a table once it is filled."""
    known = 0
    for end in (min(start + _STRETCH, rows) for start in range(0, rows, _STRETCH)):
        while known < end:
            known = next(filled)
        yield end
    for _ in filled:  # a table that does not have the expected number of rows raises its error
        pass
