"""Retrieves the candidates of one mention after the other, and keeps them as token lists until the end."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from bench.plain.biencoder import PlainBiencoder


@dataclass(frozen=True)
class PlainCandidates:
    """The mentions whose gold was retrieved; BLINK drops the others.

    Attributes:
        contexts: int64 [mentions, max_context_length].
        candidates: int64 [mentions, top_k, max_cand_length].
        labels: int64 [mentions], rank of the gold.
    """

    contexts: torch.Tensor
    candidates: torch.Tensor
    labels: torch.Tensor


def search(
    model: PlainBiencoder, context: torch.Tensor, vectors: torch.Tensor, top_k: int
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return scores and positions of the best candidates of one mention, int64 [1, max_length]; both [1, top_k].

    ``vectors`` are those of the world, on the CPU. They are copied to the device for each mention.
    """
    scores = model.contexts(context).mm(vectors.to(context.device).t())
    best, positions = scores.topk(top_k)
    return best, positions


def retrieve(
    model: PlainBiencoder,
    contexts: torch.Tensor,
    labels: torch.Tensor,
    pool: torch.Tensor,
    vectors: torch.Tensor,
    top_k: int,
    device: torch.device,
) -> PlainCandidates:
    """Retrieve the candidates of the mentions of one world.

    Args:
        model: in eval mode, on ``device``.
        contexts: int64 [mentions, max_context_length].
        labels: int64 [mentions], position of the gold in the world.
        pool: int64 [entities, max_cand_length].
        vectors: float32 [entities, hidden size].
        top_k: candidates per mention.
        device: the device that computes.
    """
    kept: list[list[int]] = []
    candidates: list[list[list[int]]] = []
    ranks: list[int] = []
    for row in range(len(contexts)):
        context = contexts[row : row + 1].to(device)
        _, positions = search(model, context, vectors, top_k)
        rank = next((k for k in range(top_k) if positions[0, k].item() == labels[row].item()), None)
        if rank is None:
            continue
        kept.append(context[0].cpu().tolist())
        candidates.append(pool[positions[0].cpu()].tolist())
        ranks.append(rank)
    return PlainCandidates(torch.tensor(kept), torch.tensor(candidates), torch.tensor(ranks))
