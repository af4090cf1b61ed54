"""The cross-encoder: one tower that reads mention and candidate together and scores the pair.

Source: Wu et al., 2020 (arXiv:1911.03814), section 4.2; Logeswaran et al., 2019 (arXiv:1906.07348).
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from pydantic import BaseModel, ConfigDict
from torch import nn

from zeshel_tasks.config.crossencoder import TrainCrossencoderConfig
from zeshel_tasks.data.tokens import Tokens
from zeshel_tasks.models.batches import (
    Batch,
    Ids,
    TokenBatch,
    mask_of,
    on_device,
    parts_by_length,
    places_of,
    used_lengths,
)
from zeshel_tasks.models.bert import load_bert
from zeshel_tasks.models.encoder import Encoder
from zeshel_tasks.models.model_types import ModelShape, check_layer, check_length, model_shape
from zeshel_tasks.models.tokenizer import load_tokens

_SETTINGS_FILE = "crossencoder.json"


class CrossencoderSettings(BaseModel):
    """Settings that are needed to use a saved cross-encoder, stored beside its tower."""

    model_config = ConfigDict(frozen=True)
    max_context_length: int
    max_cand_length: int
    max_seq_length: int
    lowercase: bool
    pull_from_layer: int


class Crossencoder(nn.Module):
    """The tower. Module names are BLINK's."""

    def __init__(self, encoder: Encoder) -> None:
        super().__init__()
        self.encoder = encoder

    def forward(self, pairs: Batch) -> torch.Tensor:
        """Scores the pairs of mention and candidate from :func:`pair_batch`: float [pairs]."""
        scores: torch.Tensor = self.encoder(pairs)
        return scores.squeeze(-1)


def pair_batch(contexts: Ids, candidates: Ids, max_seq_length: int, pad: int, device: torch.device) -> Batch:
    """Lays out mention and candidate as BLINK does: the context, then the candidate without its [CLS].

    BLINK keeps the context's padding between the two. Here it is left out, but the candidate's tokens keep the
    positions that they would have after it, so the scores are the same. (RoBERTa and its relatives do not count
    padding, so there the positions have no gap in either case.)

    Args:
        contexts: int32 [pairs, max_context_length], padded on the right.
        candidates: int32 [pairs, max_cand_length], padded on the right.
        max_seq_length: a pair is cut at this position.
        pad: id of [PAD].
        device: device of the tensors.
    """
    room = contexts.shape[1]
    context = np.minimum(used_lengths(contexts, pad), max_seq_length)
    candidate = np.clip(used_lengths(candidates, pad) - 1, 0, max(0, max_seq_length - room))
    parts, order = [], []
    most = min(max_seq_length, room + candidates.shape[1] - 1)
    for chosen, length in parts_by_length(context + candidate, most, device):
        first, column = context[chosen, None], np.arange(length)[None, :]
        of_candidate, used = column >= first, column < first + candidate[chosen, None]
        ids = np.where(
            of_candidate,
            np.take_along_axis(candidates[chosen], np.clip(column - first + 1, 0, candidates.shape[1] - 1), 1),
            np.take_along_axis(contexts[chosen], np.minimum(column, room - 1), 1),
        )
        positions = np.where(of_candidate & used, column - first + room, np.minimum(column, first - 1))
        tensors = (on_device(values.astype(np.int64), device) for values in (of_candidate & used, positions))
        parts.append(TokenBatch(on_device(ids, device).long(), mask_of(used, device), *tensors))
        order.append(chosen)
    return Batch(parts, places_of(order, device))


def check_crossencoder(shape: ModelShape, config: TrainCrossencoderConfig) -> None:
    """Checks that a model of this shape can become a cross-encoder, before its weights are read.

    Raises:
        ConfigError: the model is too small for these settings.
    """
    pair = config.max_context_length + config.max_cand_length - 1  # the candidate's [CLS] is left out
    check_length(shape, "max_seq_length", min(config.max_seq_length, pair))
    check_layer(shape.num_hidden_layers, config.pull_from_layer)


def new_crossencoder(bert: Path, config: TrainCrossencoderConfig) -> tuple[Crossencoder, CrossencoderSettings]:
    """Creates a cross-encoder that starts from the pretrained BERT in the directory ``bert``.

    Raises:
        ConfigError: the BERT cannot be read or is too small for these settings.
    """
    settings = CrossencoderSettings.model_validate(config.model_dump())
    check_crossencoder(model_shape(bert), config)
    model = load_bert(bert, config.attention_dropout)
    tower = Encoder(model, pull_from_layer=settings.pull_from_layer, out_dim=config.out_dim)
    return Crossencoder(tower), settings


def save_crossencoder(model: Crossencoder, settings: CrossencoderSettings, tokenizer: Any, directory: Path) -> None:
    """Writes ``encoder/`` (a model directory of transformers, with the linear layer beside it) and the settings."""
    model.encoder.save(directory / "encoder")
    tokenizer.save_pretrained(directory / "encoder")
    (directory / _SETTINGS_FILE).write_text(settings.model_dump_json(indent=1))


def load_crossencoder(directory: Path) -> tuple[Crossencoder, CrossencoderSettings, Tokens]:
    """Loads the model, settings and tokenizer that :func:`save_crossencoder` wrote."""
    settings = CrossencoderSettings.model_validate_json((directory / _SETTINGS_FILE).read_text())
    tower = Encoder(load_bert(directory / "encoder"), pull_from_layer=settings.pull_from_layer, out_dim=1)
    tower.load_linear(directory / "encoder")
    return Crossencoder(tower), settings, load_tokens(directory / "encoder", lowercase=settings.lowercase)
