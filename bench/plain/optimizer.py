"""AdamW that updates one parameter after the other, and a training step."""

from __future__ import annotations

import torch
from torch import nn

MAX_GRAD_NORM = 1.0
_WEIGHT_DECAY = 0.01
_NO_DECAY = ("bias", "gamma", "beta")  # names in older BERTs, so LayerNorm's weights do decay
_TRAINED = {
    "all_encoder_layers": ("additional", "bert_model.encoder.layer"),
    "all": ("additional", "bert_model.encoder.layer", "bert_model.embeddings"),
}


def plain_optimizer(model: nn.Module, type_optimization: str, learning_rate: float) -> torch.optim.Optimizer:
    """Return an optimizer of the parameters that ``type_optimization`` names.

    As in BLINK, the others get gradients, too, which are never used or cleared but count in the clipped norm.
    """
    patterns = _TRAINED[type_optimization]
    trained = {
        name: weight for name, weight in model.named_parameters() if any(pattern in name for pattern in patterns)
    }
    kept = [name for name in trained if any(word in name for word in _NO_DECAY)]
    groups = [
        {"params": [trained[name] for name in trained if name not in kept], "weight_decay": _WEIGHT_DECAY},
        {"params": [trained[name] for name in kept], "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(groups, lr=learning_rate, eps=1e-6, foreach=False, fused=False)


def descend(model: nn.Module, optimizer: torch.optim.Optimizer, loss: torch.Tensor) -> float:
    """Take one step down the gradient of ``loss``. Waits for its value, as BLINK's log does."""
    value = loss.item()
    torch.autograd.backward(loss)
    nn.utils.clip_grad_norm_(model.parameters(), MAX_GRAD_NORM)
    optimizer.step()
    optimizer.zero_grad()
    return value
