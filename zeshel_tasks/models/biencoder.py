"""Two towers: one for the mention in its context, one for the candidate. The score is their dot product.

Source: Wu et al., 2020, "Scalable Zero-shot Entity Linking with Dense Entity Retrieval" (arXiv:1911.03814).
"""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import torch
from pydantic import BaseModel, ConfigDict
from torch import nn

from zeshel_tasks.config import TrainBiencoderConfig
from zeshel_tasks.models.bert import check_length, load_bert, load_tokenizer
from zeshel_tasks.models.encoder import Encoder

_SETTINGS_FILE = "biencoder.json"


class BiencoderSettings(BaseModel):
    """What one must know to use a saved bi-encoder; lies beside its two towers."""

    model_config = ConfigDict(frozen=True)
    max_context_length: int
    max_cand_length: int
    lowercase: bool
    pull_from_layer: int
    out_dim: int | None


class Biencoder(nn.Module):
    """The two towers; module names are BLINK's."""

    def __init__(self, context_encoder: Encoder, cand_encoder: Encoder) -> None:
        super().__init__()
        self.context_encoder = context_encoder
        self.cand_encoder = cand_encoder

    def forward(
        self, context_ids: torch.Tensor, context_mask: torch.Tensor, cand_ids: torch.Tensor, cand_mask: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Encodes mentions (int64 [mentions, length]) and candidates (int64 [candidates, length]).

        Returns:
            float [mentions, dimension] and float [candidates, dimension].
        """
        return self.context_encoder(context_ids, context_mask), self.cand_encoder(cand_ids, cand_mask)


def new_biencoder(bert: Path, config: TrainBiencoderConfig) -> tuple[Biencoder, BiencoderSettings]:
    """Both towers start from the pretrained BERT in the directory ``bert``.

    Raises:
        ConfigError: it cannot be read, or is too small for these settings.
    """
    settings = BiencoderSettings(
        max_context_length=config.max_context_length,
        max_cand_length=config.max_cand_length,
        lowercase=config.lowercase,
        pull_from_layer=config.pull_from_layer,
        out_dim=config.out_dim if config.add_linear else None,
    )
    model = load_bert(bert)
    check_length(model, "max_context_length", settings.max_context_length)
    check_length(model, "max_cand_length", settings.max_cand_length)
    tower = Encoder(model, pull_from_layer=settings.pull_from_layer, out_dim=settings.out_dim)
    return Biencoder(tower, copy.deepcopy(tower)), settings


def save_biencoder(model: Biencoder, settings: BiencoderSettings, tokenizer: Any, directory: Path) -> None:
    """Writes ``context_encoder/`` and ``candidate_encoder/`` (model directories of transformers) and the settings."""
    for name, encoder in (("context_encoder", model.context_encoder), ("candidate_encoder", model.cand_encoder)):
        encoder.save(directory / name)
        tokenizer.save_pretrained(directory / name)
    (directory / _SETTINGS_FILE).write_text(settings.model_dump_json(indent=1))


def load_biencoder(directory: Path) -> tuple[Biencoder, BiencoderSettings, Any]:
    """Model, settings and tokenizer as :func:`save_biencoder` wrote them."""
    settings = BiencoderSettings.model_validate_json((directory / _SETTINGS_FILE).read_text())
    towers = []
    for name in ("context_encoder", "candidate_encoder"):
        tower = Encoder(load_bert(directory / name), pull_from_layer=settings.pull_from_layer, out_dim=settings.out_dim)
        tower.load_linear(directory / name)
        towers.append(tower)
    return Biencoder(*towers), settings, load_tokenizer(directory / "context_encoder", lowercase=settings.lowercase)
