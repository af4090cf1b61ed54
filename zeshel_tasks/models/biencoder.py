"""The bi-encoder: one tower encodes mentions, one encodes candidates. The score is the dot product of the vectors.

Source: Wu et al., 2020, "Scalable Zero-shot Entity Linking with Dense Entity Retrieval" (arXiv:1911.03814).
"""

from __future__ import annotations

import copy
import math
from pathlib import Path
from typing import Any

import torch
from pydantic import BaseModel, ConfigDict
from torch import nn

from zeshel_tasks.config.biencoder import Pooling, Similarity, TrainBiencoderConfig
from zeshel_tasks.data.tokens import Prompts, Tokens
from zeshel_tasks.models.batches import Batch
from zeshel_tasks.models.bert import load_bert
from zeshel_tasks.models.declared import prompts_of, with_declared
from zeshel_tasks.models.encoder import Encoder
from zeshel_tasks.models.model_types import ModelShape, check_layer, check_length, model_shape
from zeshel_tasks.models.pooling import Markers, candidate_pooling
from zeshel_tasks.models.tokenizer import load_tokens

_SETTINGS_FILE = "biencoder.json"
_TOWERS = ("context_encoder", "candidate_encoder")
_MAX_LOG_SCALE = math.log(100)  # CLIP's bound; beyond it the softmax sees one candidate


class BiencoderSettings(BaseModel):
    """Settings that are needed to use a saved bi-encoder, stored beside its two towers."""

    model_config = ConfigDict(frozen=True)
    max_context_length: int
    max_cand_length: int
    lowercase: bool
    pull_from_layer: int
    out_dim: int | None
    pooling: Pooling
    similarity: Similarity
    mention_prompt: str = ""
    candidate_prompt: str = ""

    @property
    def prompts(self) -> Prompts:
        """The texts before mentions and candidates."""
        return Prompts(self.mention_prompt, self.candidate_prompt)


class Biencoder(nn.Module):
    """The two towers. Module names are BLINK's.

    Args:
        context_encoder: encodes mentions.
        cand_encoder: encodes candidates.
        temperature: initial value of the learned temperature that divides the scores; None for plain dot products. It
            is for vectors of length 1, whose scores are cosines. Only training needs it, since it changes no ranking.
    """

    def __init__(self, context_encoder: Encoder, cand_encoder: Encoder, temperature: float | None = None) -> None:
        super().__init__()
        self.context_encoder = context_encoder
        self.cand_encoder = cand_encoder
        # Learn the logarithm, as in CLIP (arXiv:2103.00020): the scale stays positive and its steps are relative.
        self.log_scale = None if temperature is None else nn.Parameter(torch.tensor(-math.log(temperature)))

    def forward(self, contexts: Batch, candidates: Batch) -> tuple[torch.Tensor, torch.Tensor]:
        """Encodes mentions and candidates.

        Returns:
            float [mentions, dimension] and float [candidates, dimension]. Their dot products are the scores.
        """
        mentions, entities = self.context_encoder(contexts), self.cand_encoder(candidates)
        if self.log_scale is not None:
            with torch.no_grad():  # in the graph, a clamp would stop the gradient that leads back
                self.log_scale.clamp_(max=_MAX_LOG_SCALE)
            mentions = mentions * self.log_scale.exp()
        return mentions, entities

    def figures(self) -> dict[str, float]:
        """Returns what a training shows of the model: the temperature, if it is learned."""
        return {} if self.log_scale is None else {"temperature": math.exp(-min(self.log_scale.item(), _MAX_LOG_SCALE))}


def check_biencoder(shape: ModelShape, config: TrainBiencoderConfig) -> None:
    """Checks that a model of this shape can become a bi-encoder, before its weights are read.

    Raises:
        ConfigError: the model is too small for these settings.
    """
    check_length(shape, "max_context_length", config.max_context_length)
    check_length(shape, "max_cand_length", config.max_cand_length)
    check_layer(shape.num_hidden_layers, config.pull_from_layer)


def new_biencoder(bert: Path, config: TrainBiencoderConfig) -> tuple[Biencoder, BiencoderSettings]:
    """Creates a bi-encoder whose towers start from the pretrained BERT in the directory ``bert``.

    Raises:
        ConfigError: the BERT cannot be read or is too small for these settings.
    """
    config = with_declared(config, bert)
    assert config.pooling != "auto"
    assert config.similarity != "auto"
    prompts = prompts_of(config)
    settings = BiencoderSettings(
        max_context_length=config.max_context_length,
        max_cand_length=config.max_cand_length,
        lowercase=config.lowercase,
        pull_from_layer=config.pull_from_layer,
        out_dim=config.out_dim if config.add_linear else None,
        pooling=config.pooling,
        similarity=config.similarity,
        mention_prompt=prompts.mention,
        candidate_prompt=prompts.candidate,
    )
    check_biencoder(model_shape(bert), config)
    model = load_bert(bert, config.attention_dropout)
    towers = _towers(model, copy.deepcopy(model), settings, load_tokens(bert, lowercase=config.lowercase))
    temperature = config.temperature if config.similarity == "cosine" else None
    return Biencoder(*towers, temperature), settings


def save_biencoder(model: Biencoder, settings: BiencoderSettings, tokenizer: Any, directory: Path) -> None:
    """Writes ``context_encoder/`` and ``candidate_encoder/`` (model directories of transformers) and the settings."""
    for name, encoder in zip(_TOWERS, (model.context_encoder, model.cand_encoder), strict=True):
        encoder.save(directory / name)
        tokenizer.save_pretrained(directory / name)
    (directory / _SETTINGS_FILE).write_text(settings.model_dump_json(indent=1))


def load_biencoder(directory: Path) -> tuple[Biencoder, BiencoderSettings, Tokens]:
    """Loads the model, settings and tokenizer that :func:`save_biencoder` wrote."""
    settings = BiencoderSettings.model_validate_json((directory / _SETTINGS_FILE).read_text())
    tokens = load_tokens(mention_tower(directory), lowercase=settings.lowercase, prompts=settings.prompts)
    mentions, candidates = (load_bert(directory / name) for name in _TOWERS)
    towers = _towers(mentions, candidates, settings, tokens)
    for name, tower in zip(_TOWERS, towers, strict=True):
        tower.load_linear(directory / name)
    return Biencoder(*towers), settings, tokens


def mention_tower(directory: Path) -> Path:
    """Returns the directory of a saved bi-encoder's mention tower, which has the form of a pretrained BERT."""
    return directory / _TOWERS[0]


def _towers(
    mentions: nn.Module, candidates: nn.Module, settings: BiencoderSettings, tokens: Tokens
) -> tuple[Encoder, Encoder]:
    def tower(bert: nn.Module, pooling: Pooling) -> Encoder:
        return Encoder(
            bert,
            pull_from_layer=settings.pull_from_layer,
            out_dim=settings.out_dim,
            pooling=pooling,
            markers=Markers(tokens.mention_start, tokens.mention_end),
            normalized=settings.similarity == "cosine",
        )

    return tower(mentions, settings.pooling), tower(candidates, candidate_pooling(settings.pooling))
