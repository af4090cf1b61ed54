"""One BERT tower that turns token ids into one vector.

Module names are BLINK's (``bert_model``, ``additional_linear``), so its state dicts load as they are.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import nn

from zeshel_tasks.errors import ConfigError

_LINEAR_FILE = "additional_linear.safetensors"
_DROPOUT = 0.1  # before the linear layer, as in BLINK


class Encoder(nn.Module):
    """BERT with the [CLS] output as its vector, or dropout and a linear layer over the pooler output.

    Args:
        bert_model: the transformer, with a pooler.
        pull_from_layer: index of the layer whose [CLS] output is used; -1 is the last.
        out_dim: output dimension of the linear layer, or None for none.

    Raises:
        ConfigError: there is no such layer.
    """

    def __init__(self, bert_model: nn.Module, *, pull_from_layer: int = -1, out_dim: int | None = None) -> None:
        super().__init__()
        self.bert_model = bert_model
        self.pull_from_layer = pull_from_layer
        self.additional_linear = None
        if out_dim is not None:
            self.additional_linear = nn.Linear(int(self._config.hidden_size), out_dim)
            self.dropout = nn.Dropout(_DROPOUT)

        layers = int(self._config.num_hidden_layers)
        if not -layers - 1 <= pull_from_layer <= layers:
            raise ConfigError(
                f"pull_from_layer: expected {-layers - 1} to {layers} for a model of {layers} layers, "
                f"got {pull_from_layer}"
            )

    def freeze_unused(self) -> None:
        """Takes the parameters that the output does not depend on out of training."""
        layers = int(self._config.num_hidden_layers)
        used = self.pull_from_layer if self.pull_from_layer >= 0 else layers + 1 + self.pull_from_layer
        unused = [*self.bert_model.encoder.layer[used:]]  # type: ignore[index, union-attr]
        if self.additional_linear is None:
            unused.append(self.bert_model.pooler)
        for module in unused:
            module.requires_grad_(False)

    @property
    def _config(self) -> Any:
        return self.bert_model.config

    @property
    def dimension(self) -> int:
        """Length of the vector."""
        return int(self.additional_linear.out_features if self.additional_linear else self._config.hidden_size)

    def forward(
        self, ids: torch.Tensor, attention_mask: torch.Tensor, segment_ids: torch.Tensor | None = None
    ) -> torch.Tensor:
        """Encodes a batch.

        Args:
            ids: int64 [batch, length].
            attention_mask: 1 for tokens, 0 for padding; [batch, length].
            segment_ids: int64 [batch, length]; None is all 0.

        Returns:
            float [batch, dimension].
        """
        every_layer = self.pull_from_layer != -1
        output = self.bert_model(
            input_ids=ids,
            attention_mask=attention_mask,
            token_type_ids=torch.zeros_like(ids) if segment_ids is None else segment_ids,
            output_hidden_states=every_layer,
        )
        if self.additional_linear is None:
            layer = output.hidden_states[self.pull_from_layer] if every_layer else output.last_hidden_state
            vector: torch.Tensor = layer[:, 0]
            return vector
        pooled = output.pooler_output
        if every_layer:
            pooled = self.bert_model.pooler(output.hidden_states[self.pull_from_layer])  # type: ignore[operator]
        scores: torch.Tensor = self.additional_linear(self.dropout(pooled))
        return scores

    def save(self, directory: Path) -> None:
        """Writes a model directory that ``AutoModel`` opens; the linear layer lies beside it."""
        self.bert_model.save_pretrained(directory)  # type: ignore[operator]
        if self.additional_linear is not None:
            save_file(self.additional_linear.state_dict(), directory / _LINEAR_FILE)

    def load_linear(self, directory: Path) -> None:
        """Reads the linear layer that :meth:`save` wrote, if this encoder has one."""
        if self.additional_linear is not None:
            self.additional_linear.load_state_dict(load_file(directory / _LINEAR_FILE))
