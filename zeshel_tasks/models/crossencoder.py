"""One tower that reads mention and candidate together and scores the pair.

Source: Wu et al., 2020 (arXiv:1911.03814), section 4.2; Logeswaran et al., 2019 (arXiv:1906.07348).
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from pydantic import BaseModel, ConfigDict
from torch import nn

from zeshel_tasks.config import TrainCrossencoderConfig
from zeshel_tasks.errors import ConfigError
from zeshel_tasks.models.bert import check_length, load_bert, load_tokenizer
from zeshel_tasks.models.encoder import Encoder

_SETTINGS_FILE = "crossencoder.json"
_SEGMENTS = 2  # mention and candidate


class CrossencoderSettings(BaseModel):
    """What one must know to use a saved cross-encoder; lies beside its tower."""

    model_config = ConfigDict(frozen=True)
    max_context_length: int
    max_cand_length: int
    max_seq_length: int
    lowercase: bool
    pull_from_layer: int


class Crossencoder(nn.Module):
    """The tower; module names are BLINK's."""

    def __init__(self, encoder: Encoder) -> None:
        super().__init__()
        self.encoder = encoder

    def forward(self, ids: torch.Tensor, attention_mask: torch.Tensor, segment_ids: torch.Tensor) -> torch.Tensor:
        """Scores each mention's candidates.

        Args:
            ids: int64 [mentions, candidates, length], made by :func:`pair_ids`.
            attention_mask: [mentions, candidates, length].
            segment_ids: int64 [mentions, candidates, length].

        Returns:
            float [mentions, candidates].
        """
        mentions, candidates, length = ids.shape
        flat = (tensor.reshape(-1, length) for tensor in (ids, attention_mask, segment_ids))
        scores: torch.Tensor = self.encoder(*flat)
        return scores.view(mentions, candidates)


def pair_ids(
    context_ids: torch.Tensor, cand_ids: torch.Tensor, max_seq_length: int, pad: int
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Lays out mention and candidate as BLINK does: context (padding kept), then the candidate without its [CLS].

    Args:
        context_ids: int64 [mentions, max_context_length].
        cand_ids: int64 [mentions, candidates, max_cand_length].
        max_seq_length: the pair is cut to this many tokens.
        pad: id of [PAD].

    Returns:
        ids, attention_mask (bool), segment_ids (1 on the candidate's tokens); each [mentions, candidates, length],
        where length is that of the longest pair of the batch: padding at the end changes no score.
    """
    mentions, candidates, _ = cand_ids.shape
    contexts = context_ids.unsqueeze(1).expand(mentions, candidates, -1)
    ids = torch.cat([contexts, cand_ids[..., 1:]], dim=-1)[..., :max_seq_length]
    mask = ids != pad
    longest = int(mask.flatten(0, 1).any(0).nonzero().max()) + 1
    segments = mask.long()
    segments[..., : context_ids.shape[-1]] = 0
    return ids[..., :longest], mask[..., :longest], segments[..., :longest]


def new_crossencoder(bert: Path, config: TrainCrossencoderConfig) -> tuple[Crossencoder, CrossencoderSettings]:
    """Starts from the pretrained BERT in the directory ``bert``.

    Raises:
        ConfigError: it cannot be read, or is too small for these settings.
    """
    settings = CrossencoderSettings.model_validate(config.model_dump())
    model = load_bert(bert)
    pair = settings.max_context_length + settings.max_cand_length - 1  # the candidate comes without its [CLS]
    check_length(model, "max_seq_length", min(settings.max_seq_length, pair))
    if getattr(model.config, "type_vocab_size", _SEGMENTS) < _SEGMENTS:
        raise ConfigError(f"bert_model: expected a model that tells {_SEGMENTS} segments apart, got one in {bert}")
    tower = Encoder(model, pull_from_layer=settings.pull_from_layer, out_dim=config.out_dim)
    return Crossencoder(tower), settings


def save_crossencoder(model: Crossencoder, settings: CrossencoderSettings, tokenizer: Any, directory: Path) -> None:
    """Writes ``encoder/`` (a model directory of transformers, with the linear layer beside it) and the settings."""
    model.encoder.save(directory / "encoder")
    tokenizer.save_pretrained(directory / "encoder")
    (directory / _SETTINGS_FILE).write_text(settings.model_dump_json(indent=1))


def load_crossencoder(directory: Path) -> tuple[Crossencoder, CrossencoderSettings, Any]:
    """Model, settings and tokenizer as :func:`save_crossencoder` wrote them."""
    settings = CrossencoderSettings.model_validate_json((directory / _SETTINGS_FILE).read_text())
    tower = Encoder(load_bert(directory / "encoder"), pull_from_layer=settings.pull_from_layer, out_dim=1)
    tower.load_linear(directory / "encoder")
    return Crossencoder(tower), settings, load_tokenizer(directory / "encoder", lowercase=settings.lowercase)
