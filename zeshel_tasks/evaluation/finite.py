"""Refuses scores that are NaN or infinite.

Sorting does not notice them: ``argmax`` of a row of NaN is the first column, so a broken cross-encoder would seem as
accurate as the retrieval before it.
"""

from __future__ import annotations

import torch

from zeshel_tasks.errors import DataError


def require_finite(scores: torch.Tensor, doing: str, expected: str) -> None:
    """Checks scores of any shape. Waits for their device.

    Args:
        scores: without those that are minus infinity on purpose.
        doing: what computed them, for the message: ``in validation``.
        expected: what would give finite scores.

    Raises:
        DataError: a score is NaN or infinite.
    """
    broken = scores[~scores.isfinite()]
    if len(broken):
        raise DataError(
            f"{len(broken):,} of {scores.numel():,} scores {doing} are not finite numbers",
            expected=expected,
            got=f"{broken[0].item()}",
        )
