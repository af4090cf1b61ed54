"""Exact top-k search by dot product over a file of vectors, in constant memory.

The file is read in blocks. A block's scores are one matrix product, of which the best are kept.

The order is defined: by score, highest first, then by position, lowest first. Equal vectors get equal scores, because
all products have the same shape, a multiple of 64 columns. Otherwise a BLAS computes the last columns of a product with
other kernels, which round differently: of two equal vectors, one would win by the last bit of its score.

Vectors are copied to a GPU synchronously. Pinned, asynchronous copies would save less than a second for all of ZESHEL
(1 GB of float16), whose encoding takes hours.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch

from zeshel_tasks.data.vector_file import VectorFile
from zeshel_tasks.evaluation.finite import require_finite

_LOW_32 = 0xFFFFFFFF
_TIED_ROWS = 64  # sorted at once: 6 MB
_COLUMNS = 64  # MKL's kernels for SSE2 need multiples of 16, those for AVX2 multiples of 4


@dataclass(frozen=True)
class SearchSize:
    """Sizes of one search.

    Attributes:
        queries: most queries for one call of :func:`top_k`, which reads the file once.
        block_bytes: size of a block of vectors in float32.
        score_bytes: size of the scores of all queries for one block.
    """

    queries: int
    block_bytes: int
    score_bytes: int


# Blocks of 16 MB, not of 32, because a linker searches for few mentions at once: among 100,000 vectors of 384 numbers,
# a query took 43 instead of 67 ms of a core, and 32 queries 81 instead of 95.
_CPU = SearchSize(2048, 16 * 2**20, 64 * 2**20)
_GPU = SearchSize(8192, 256 * 2**20, 1024 * 2**20)


def search_size(device: torch.device) -> SearchSize:
    """The sizes for a device. On a CPU, products of this size reach its peak; larger ones only need more memory."""
    return _CPU if device.type == "cpu" else _GPU


def top_k(
    queries: torch.Tensor, vectors: VectorFile, k: int, size: SearchSize | None = None
) -> tuple[torch.Tensor, torch.Tensor]:
    """The ``k`` vectors with the highest dot product, by score (highest first), then by position (lowest first).

    Args:
        queries: float32 [queries, dimension].
        vectors: float32 or float16 [vectors, dimension]; the products are computed in float32.
        k: results of a query; fewer if there are fewer vectors.
        size: sizes of the search; by default those for the queries' device.

    Returns:
        Scores, float32, and positions, int64; both [queries, min(k, vectors)].

    Raises:
        DataError: one of a query's best scores is not a finite number.
    """
    size = size or search_size(queries.device)
    rows = _block_rows(len(queries), vectors, size)
    columns = -(-rows // _COLUMNS) * _COLUMNS
    entities = queries.new_zeros(columns, vectors.dimension)
    scores, start = queries.new_empty(len(queries), columns), 0
    best = torch.empty(len(queries), 0, dtype=torch.int64, device=queries.device)
    for block in vectors.blocks(rows):
        entities[: len(block)] = torch.from_numpy(block)
        torch.mm(queries, entities.T, out=scores)
        found, where = _best_of_block(scores[:, : len(block)], k)
        require_finite(found, "of retrieval", "a bi-encoder with finite vectors")  # topk takes NaN for the largest
        best = torch.cat([best, _keys(found, where + start)], 1)
        best = best.topk(min(k, best.shape[1])).values
        start += len(block)
    return _scores(best), _positions(best)


def _best_of_block(scores: torch.Tensor, k: int) -> tuple[torch.Tensor, torch.Tensor]:
    """The best scores and their columns. Sorts rows with a tie at the k-th place, which ``topk`` breaks arbitrarily."""
    found, where = scores.topk(min(k + 1, scores.shape[1]))
    if found.shape[1] > k:
        tied = (found[:, k - 1] == found[:, k]).nonzero()[:, 0]
        for start in range(0, len(tied), _TIED_ROWS):
            rows = tied[start : start + _TIED_ROWS]
            where[rows] = scores[rows].sort(dim=1, descending=True, stable=True).indices[:, : k + 1]
    return found[:, :k], where[:, :k]


def _keys(scores: torch.Tensor, positions: torch.Tensor) -> torch.Tensor:
    """One integer for a score and its position: higher for a better score, then for a lower position.

    The bits of a float, read as an integer, have the order of the floats after those of negative floats are inverted.
    """
    bits = (scores + 0.0).view(torch.int32)  # + 0.0 makes -0.0 equal to 0.0
    return (_turned(bits).long() << 32) + (_LOW_32 - positions)


def _scores(keys: torch.Tensor) -> torch.Tensor:
    return _turned((keys >> 32).int()).view(torch.float32)


def _positions(keys: torch.Tensor) -> torch.Tensor:
    return _LOW_32 - (keys & _LOW_32)


def _turned(bits: torch.Tensor) -> torch.Tensor:
    return bits ^ ((bits >> 31) & 0x7FFFFFFF)


def _block_rows(queries: int, vectors: VectorFile, size: SearchSize) -> int:
    """Rows of a block, such that all blocks have about the same size."""
    most = min(size.block_bytes // (4 * vectors.dimension), size.score_bytes // (4 * max(1, queries)))
    blocks = -(-len(vectors) // max(1, most))
    return max(1, -(-len(vectors) // max(1, blocks)))
