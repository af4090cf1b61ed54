"""One BERT in fp32 with written-out attention, over padded sequences."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import nn
from transformers import BertModel

_DROPOUT = 0.1


class PlainTower(nn.Module):
    """The [CLS] output, or dropout and a linear layer over the pooler's.

    Args:
        model: directory of the pretrained BERT.
        add_linear: True adds a linear layer with one output.
    """

    def __init__(self, model: Path, *, add_linear: bool = False) -> None:
        super().__init__()
        # Keep the outputs of all layers, as BLINK does, although only the last one is used.
        self.bert_model: Any = BertModel.from_pretrained(
            model, attn_implementation="eager", output_hidden_states=True, dtype=torch.float32
        )
        self.additional_linear = nn.Linear(self.bert_model.config.hidden_size, 1) if add_linear else None
        self.dropout = nn.Dropout(_DROPOUT)

    def forward(self, ids: torch.Tensor, segments: torch.Tensor) -> torch.Tensor:
        """Encode int64 [batch, max_length], in which 0 is padding.

        Returns:
            float32 [batch, hidden size], or [batch, 1] with the linear layer.
        """
        output = self.bert_model(input_ids=ids, token_type_ids=segments, attention_mask=(ids != 0).long())
        if self.additional_linear is None:
            vectors: torch.Tensor = output.hidden_states[-1][:, 0]
            return vectors
        scores: torch.Tensor = self.additional_linear(self.dropout(output.pooler_output))
        return scores
