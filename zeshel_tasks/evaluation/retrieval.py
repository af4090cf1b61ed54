"""Exact top-k search by dot product over a file of vectors, in constant memory.

The file is mapped in blocks. The scores of a block are matrix products with its pieces, and the best of them are kept.
On a CPU, a piece that is converted to float32 stays in the cache of a core until its product is computed.

The order is defined: by score, highest first, then by position, lowest first. Equal vectors get equal scores, because
all products have the same shape, a multiple of 192 columns. Otherwise a BLAS computes the last columns of a product
with other kernels, which round differently: of two equal vectors, one would win by the last bit of its score.

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
# With 1, 2, 4 and 8 threads, MKL's products of 192 columns and their multiples had equal scores for equal vectors in
# all shapes that were tried, for AVX-512, AVX2 and SSE2. With AVX2 and 64 columns, they differed in up to 26 of 64.
_COLUMNS = 192
# MKL with AVX-512 took 45 to 79 ms for products with 8 to 15 queries and 28 ms with 16; with AVX2, 54 to 60 and 60 ms.
_FEW, _PADDED = range(8, 16), 16


@dataclass(frozen=True)
class SearchSize:
    """Sizes of one search.

    Attributes:
        queries: most queries for one call of :func:`top_k`, which reads the file once.
        block_bytes: size of a block of vectors in float32.
        score_bytes: size of the scores of all queries for one block.
        piece_bytes: size of a piece of a block in float32.
    """

    queries: int
    block_bytes: int
    score_bytes: int
    piece_bytes: int = 2**20


# Pieces of 1 MB, because a linker searches for few mentions at once: the products of a query with 100,000 float16
# vectors of 384 numbers took 13 instead of 27 ms of a core, those of 32 queries 36 instead of 62, and those of 1024 as
# much as with pieces of a whole block.
_CPU = SearchSize(2048, 16 * 2**20, 64 * 2**20)
_GPU = SearchSize(8192, 256 * 2**20, 1024 * 2**20, 256 * 2**20)


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
    rows, of_piece = _rows(len(queries), vectors, size)
    asked, count = _padded(queries), len(queries)
    copied = queries.new_zeros(of_piece, vectors.dimension)
    scores, start = queries.new_empty(len(asked), rows), 0
    best = torch.empty(count, 0, dtype=torch.int64, device=queries.device)
    for block in vectors.blocks(rows):
        for first in range(0, len(block), of_piece):
            entities = torch.from_numpy(block[first : first + of_piece])
            if (entities.dtype, entities.device, len(entities)) != (queries.dtype, queries.device, of_piece):
                copied[: len(entities)] = entities
                entities = copied
            torch.mm(asked, entities.T, out=scores[:, first : first + of_piece])
        found, where = _best_of_block(scores[:count, : len(block)], k)
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


def _padded(queries: torch.Tensor) -> torch.Tensor:
    """The queries, to which a few get zeros on a CPU, where their product takes less time then."""
    if queries.device.type != "cpu" or len(queries) not in _FEW:
        return queries
    return torch.cat([queries, queries.new_zeros(_PADDED - len(queries), queries.shape[1])])


def _rows(queries: int, vectors: VectorFile, size: SearchSize) -> tuple[int, int]:
    """Rows of a block and of a piece of it. All blocks have about the same size, and all pieces the same shape."""
    most = min(size.block_bytes // (4 * vectors.dimension), size.score_bytes // (4 * max(1, queries)))
    blocks = -(-len(vectors) // max(1, most))
    rows = max(1, -(-len(vectors) // max(1, blocks)))
    piece = _multiple(min(rows, max(1, size.piece_bytes // (4 * vectors.dimension))), _COLUMNS)
    return _multiple(rows, piece), piece


def _multiple(number: int, of: int) -> int:
    """The next multiple that is not smaller."""
    return -(-number // of) * of
