"""From token tables in memory maps to tensors on a device."""

from __future__ import annotations

import numpy as np
import torch

from zeshel_tasks.data.tokens import TokenTable


def token_batch(rows: TokenTable, pad: int, device: torch.device) -> tuple[torch.Tensor, torch.Tensor]:
    """Ids and attention mask of some rows, without the columns that are padding in all of them.

    Args:
        rows: int32 [..., max_length].
        pad: id of [PAD].
        device: where the tensors go.

    Returns:
        int64 and bool, both [..., length of the longest row].
    """
    ids = torch.from_numpy(np.ascontiguousarray(rows)).to(device, non_blocking=True)
    used = (ids != pad).reshape(-1, ids.shape[-1]).any(0).nonzero()
    ids = ids[..., : int(used.max()) + 1 if len(used) else 1].long()
    return ids, ids != pad
