"""Computes BERT's output for the first token only.

The last layer is computed only for [CLS], because no other token's output is used. [CLS] still attends to all tokens,
so the result is exact. This saves ten twelfths of a layer: 14% of a model with 6 layers, 3.5% of one with 24.
"""

from __future__ import annotations

from typing import Any

import torch
from torch.nn import functional as F

from zeshel_tasks.models.batches import TokenBatch


def first_token(bert: Any, batch: TokenBatch, layers: int) -> torch.Tensor:
    """Returns the output of a ``transformers.BertModel`` for the first token after some of its layers.

    Args:
        bert: the model. Its own modules are used, so dropout, dtype and gradients are as in its ``forward``.
        batch: sequences; int64 [batch, length].
        layers: number of layers to run.

    Returns:
        float [batch, hidden].
    """
    hidden: torch.Tensor = bert.embeddings(
        input_ids=batch.ids, token_type_ids=batch.segments, position_ids=batch.positions
    )
    if layers == 0:
        return hidden[:, 0]
    for layer in bert.encoder.layer[: layers - 1]:
        hidden = layer(hidden, attention_mask=batch.visible)
    return _last_layer(bert.encoder.layer[layers - 1], hidden, batch.visible)


def _last_layer(layer: Any, hidden: torch.Tensor, visible: torch.Tensor | None) -> torch.Tensor:
    attention, first = layer.attention.self, hidden[:, :1]
    count = int(attention.num_attention_heads)

    def heads(projected: torch.Tensor) -> torch.Tensor:
        batch, length, width = projected.shape
        return projected.view(batch, length, count, width // count).transpose(1, 2)

    attended = F.scaled_dot_product_attention(
        heads(attention.query(first)),
        heads(attention.key(hidden)),
        heads(attention.value(hidden)),
        attn_mask=visible,
        dropout_p=attention.dropout.p if layer.training else 0.0,
    )
    attended = layer.attention.output(attended.transpose(1, 2).flatten(-2), first)
    output: torch.Tensor = layer.output(layer.intermediate(attended), attended)
    return output[:, 0]
