"""One tower over mention and candidate. All pairs of the data are laid out before training or scoring."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, TensorDataset

from bench.plain.optimizer import descend
from bench.plain.tower import PlainTower


class PlainCrossencoder(nn.Module):
    """The tower; ``model`` is the directory of the BERT it starts from."""

    def __init__(self, model: Path) -> None:
        super().__init__()
        self.encoder = PlainTower(model, add_linear=True)

    def forward(self, pairs: torch.Tensor, context_length: int) -> torch.Tensor:
        """Score int64 [mentions, candidates, length], whose first ``context_length`` ids are the mention's.

        Returns:
            float32 [mentions, candidates].
        """
        mentions, candidates, length = pairs.shape
        ids = pairs.view(-1, length)
        segments = torch.zeros_like(ids)
        segments[:, context_length:] = 1
        scores: torch.Tensor = self.encoder(ids, segments * (ids != 0))
        return scores.view(mentions, candidates)


def join_pairs(contexts: torch.Tensor, candidates: torch.Tensor, max_seq_length: int) -> torch.Tensor:
    """Join context with its padding and candidate without its [CLS], with Python lists.

    Args:
        contexts: int64 [mentions, max_context_length].
        candidates: int64 [mentions, candidates, max_cand_length].
        max_seq_length: a pair is cut to this many ids.

    Returns:
        int64 [mentions, candidates, max_seq_length], or less if both together are shorter.
    """
    pairs = [
        [(context + candidate[1:])[:max_seq_length] for candidate in of_mention]
        for context, of_mention in zip(contexts.tolist(), candidates.tolist(), strict=True)
    ]
    return torch.tensor(pairs)


def crossencoder_loss(
    model: PlainCrossencoder, pairs: torch.Tensor, ranks: torch.Tensor, context_length: int
) -> torch.Tensor:
    """Return the cross-entropy over each mention's candidates; ``ranks``, int64 [mentions], are the golds."""
    return F.cross_entropy(model(pairs, context_length), ranks)


def train_crossencoder(
    model: PlainCrossencoder,
    optimizer: torch.optim.Optimizer,
    pairs: torch.Tensor,
    ranks: torch.Tensor,
    context_length: int,
    batch_size: int,
    device: torch.device,
) -> list[float]:
    """Train on the pairs of :func:`join_pairs`, in order. Return the losses of the steps."""
    losses = []
    for batch in DataLoader(TensorDataset(pairs, ranks), batch_size=batch_size):
        part, labels = (tensor.to(device) for tensor in batch)
        losses.append(descend(model, optimizer, crossencoder_loss(model, part, labels, context_length)))
    return losses


def score_pairs(
    model: PlainCrossencoder, pairs: torch.Tensor, context_length: int, batch_size: int, device: torch.device
) -> torch.Tensor:
    """Score the pairs of :func:`join_pairs`: float32 [mentions, candidates]. ``model`` must be in eval mode."""
    scores: list[list[float]] = []
    for (batch,) in DataLoader(TensorDataset(pairs), batch_size=batch_size):
        with torch.no_grad():
            scores.extend(model(batch.to(device), context_length).cpu().tolist())
    return torch.tensor(scores)
