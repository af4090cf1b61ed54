"""Two towers: training with in-batch negatives, and the candidates' encodings."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, TensorDataset

from bench.plain.optimizer import descend
from bench.plain.tower import PlainTower

ENCODE_BATCH_SIZE = 8


class PlainBiencoder(nn.Module):
    """A tower for mentions and one for candidates; ``model`` is the directory of the BERT both start from."""

    def __init__(self, model: Path) -> None:
        super().__init__()
        self.context_encoder = PlainTower(model)
        self.cand_encoder = PlainTower(model)

    def contexts(self, ids: torch.Tensor) -> torch.Tensor:
        """Vectors of mentions: int64 [mentions, max_length] to float32 [mentions, hidden size]."""
        vectors: torch.Tensor = self.context_encoder(ids, torch.zeros_like(ids))
        return vectors

    def candidates(self, ids: torch.Tensor) -> torch.Tensor:
        """Vectors of candidates: int64 [candidates, max_length] to float32 [candidates, hidden size]."""
        vectors: torch.Tensor = self.cand_encoder(ids, torch.zeros_like(ids))
        return vectors


def biencoder_loss(model: PlainBiencoder, contexts: torch.Tensor, golds: torch.Tensor) -> torch.Tensor:
    """Return the cross-entropy of each mention over the batch's golds, including equal ones."""
    scores = model.contexts(contexts).mm(model.candidates(golds).t())
    return F.cross_entropy(scores, torch.arange(len(contexts), device=scores.device))


def train_biencoder(
    model: PlainBiencoder,
    optimizer: torch.optim.Optimizer,
    contexts: torch.Tensor,
    golds: torch.Tensor,
    batch_size: int,
    device: torch.device,
) -> list[float]:
    """Train on int64 [mentions, max_length] each, in order. Return the losses of the steps."""
    losses = []
    for batch in DataLoader(TensorDataset(contexts, golds), batch_size=batch_size):
        loss = biencoder_loss(model, *(part.to(device) for part in batch))
        losses.append(descend(model, optimizer, loss))
    return losses


def encode_candidates(model: PlainBiencoder, pool: torch.Tensor, device: torch.device) -> torch.Tensor:
    """Encode a world's candidates: int64 [candidates, max_length] to float32 [candidates, hidden size].

    As in BLINK, this builds a graph for gradients that are never computed, and copies all vectors for each batch.
    """
    vectors: torch.Tensor | None = None
    for start in range(0, len(pool), ENCODE_BATCH_SIZE):
        batch = model.candidates(pool[start : start + ENCODE_BATCH_SIZE].to(device)).cpu().detach()
        vectors = batch if vectors is None else torch.cat((vectors, batch))
    assert vectors is not None, "a world has entities"
    return vectors
