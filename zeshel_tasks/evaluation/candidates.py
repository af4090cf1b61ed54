"""Retrieves the candidates of the mentions of one world: encodes contexts and searches for many at once."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch

from zeshel_tasks.compute.device import Placement
from zeshel_tasks.data.arrays import Rows, release
from zeshel_tasks.data.tokens import TokenTable
from zeshel_tasks.data.vector_file import VectorFile
from zeshel_tasks.evaluation.approximate import ApproximateIndex
from zeshel_tasks.evaluation.encoding import encode_rows
from zeshel_tasks.evaluation.retrieval import search_size, top_k
from zeshel_tasks.models.encoder import Encoder


class Candidates(NamedTuple):
    """The candidates of some mentions, best first.

    Attributes:
        rows: int64 [mentions].
        scores: float32 [mentions, candidates].
        positions: int64 [mentions, candidates], rows of the vector file.
        queries: float32 [mentions, dimension], vectors of the mentions.
    """

    rows: Rows
    scores: npt.NDArray[np.float32]
    positions: Rows
    queries: npt.NDArray[np.float32]

    def part(self, first: int, last: int) -> Candidates:
        """Returns those of some of the mentions."""
        rows = slice(first, last)
        return Candidates(self.rows[rows], self.scores[rows], self.positions[rows], self.queries[rows])


def retrieve(
    encoder: Encoder,
    contexts: TokenTable,
    rows: Rows,
    vectors: VectorFile | ApproximateIndex,
    k: int,
    batch_size: int,
    pad: int,
    placement: Placement,
    counted: Callable[[int], None],
) -> Iterator[Candidates]:
    """Retrieves candidates for the mentions ``rows``. Holds only the mentions of one search in memory.

    Args:
        encoder: of mentions, in eval mode, on the placement's device.
        contexts: int32 [mentions, max_context_length].
        rows: int64, mentions of one world.
        vectors: of that world's entities, or an index of them.
        k: candidates of a mention; fewer if the world has fewer entities.
        batch_size: mentions encoded at once.
        pad: id of [PAD].
        placement: device and precision.
        counted: called after each encoded batch with its number of mentions.
    """
    size = search_size(placement.device).queries
    for start in range(0, len(rows), size):
        searched, queries = rows[start : start + size], []
        for first in range(0, len(searched), batch_size):
            batch = contexts[searched[first : first + batch_size]]
            queries.append(encode_rows(encoder, batch, pad, placement))
            counted(len(batch))
        release(contexts)
        vectors_of_mentions = torch.cat(queries)
        if isinstance(vectors, ApproximateIndex):
            found = vectors.top_k(vectors_of_mentions, k)
        else:
            found = top_k(vectors_of_mentions, vectors, k)
        scores, positions = (best.cpu().numpy() for best in found)
        yield Candidates(searched, scores, positions, vectors_of_mentions.cpu().numpy())
        counted(0)
