"""Turns the outputs for all tokens of a sequence into one vector."""

from __future__ import annotations

from typing import Literal, NamedTuple

import torch

from zeshel_tasks.config.biencoder import Pooling
from zeshel_tasks.models.batches import TokenBatch


class Markers(NamedTuple):
    """Ids of the tokens before and after a mention."""

    start: int
    end: int


def candidate_pooling(pooling: Pooling) -> Literal["cls", "mean"]:
    """Returns how candidates are pooled, which have no mention in them."""
    return "cls" if pooling == "cls" else "mean"


def pooled(output: torch.Tensor, batch: TokenBatch, pooling: Pooling, markers: Markers | None) -> torch.Tensor:
    """Returns one vector per sequence: [sequences, hidden], in fp32 unless it is the output for one token.

    Args:
        output: a layer's output, [sequences, length, hidden].
        batch: the sequences.
        pooling: see the setting.
        markers: needed for the pooling of a span; each sequence has both markers once.
    """
    if pooling == "cls":
        return output[:, 0]
    if pooling == "mean":
        return _mean(output, batch.mask)
    assert markers is not None
    span = _mean(output, between(batch.ids, markers))
    return span if pooling == "span" else span + _mean(output, batch.mask)


def between(ids: torch.Tensor, markers: Markers) -> torch.Tensor:
    """Marks the tokens of the mentions, or the markers around a mention without tokens: bool [sequences, length]."""
    starts, ends = ids == markers.start, ids == markers.end
    inside = (starts.cumsum(1) > ends.cumsum(1)) & ~starts
    return torch.where(inside.any(1, keepdim=True), inside, starts | ends)


def _mean(output: torch.Tensor, mask: torch.Tensor | None) -> torch.Tensor:
    """Mean over the marked tokens, in fp32: float [sequences, hidden]."""
    if mask is None:
        return output.float().mean(1)
    used = mask[..., None].float()
    return (output.float() * used).sum(1) / used.sum(1)
