"""Exact top-k search by dot product, in blocks, over memory-mapped vectors."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import torch

_BLOCK = 65_536  # 256 MiB of float32 vectors of 1,024 dimensions


def top_k(queries: torch.Tensor, vectors: npt.NDArray[np.float32], k: int) -> tuple[torch.Tensor, torch.Tensor]:
    """The ``k`` vectors with the highest dot product, best first.

    Args:
        queries: float32 [queries, dimension].
        vectors: float32 [vectors, dimension], may be memory-mapped.
        k: how many; fewer come back where there are fewer vectors.

    Returns:
        Scores, float32, and positions, int64; both [queries, min(k, vectors)].
    """
    scores = queries.new_empty(len(queries), 0)
    positions = torch.empty(len(queries), 0, dtype=torch.int64, device=queries.device)
    for start in range(0, len(vectors), _BLOCK):
        # copied block by block: a memory map is read-only, and a GPU needs the bytes anyway
        block = torch.from_numpy(np.array(vectors[start : start + _BLOCK])).to(queries.device)
        found, where = (queries @ block.T).topk(min(k, len(block)))
        scores, positions = torch.cat([scores, found], 1), torch.cat([positions, where + start], 1)
        scores, kept = scores.topk(min(k, scores.shape[1]))
        positions = positions.gather(1, kept)
    return scores, positions
