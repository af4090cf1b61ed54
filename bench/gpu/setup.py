"""Shared by all measurements: the model's directory, the sizes, the settings."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from torch import nn

from bench.gpu.shape import Shape
from bench.gpu.tables import Tables
from zeshel_tasks.config.stages import Recipe
from zeshel_tasks.models.encoder import Encoder
from zeshel_tasks.recipe import build_recipe

TRAIN_MENTIONS = 2  # mentions in a step and in a batch of scoring of the cross-encoder, as in the recipe


@dataclass(frozen=True)
class Setup:
    """A configuration of the package to measure.

    Attributes:
        shape: shape of the BERT.
        model: directory of the BERT.
        scratch: a directory for temporary files.
        device: the device to measure.
        length: tokens of a mention in its context, and of a candidate; a pair has one less than twice as many.
        batch: mentions in a bi-encoder's step.
        encode_batch: entities encoded at once.
        candidates: candidates of a mention.
        entities: entities to search for each mention.
        settings: settings that override the preset ``recommended``.
        compiled: backend of torch.compile for the layers; None leaves them uncompiled.
    """

    shape: Shape
    model: Path
    scratch: Path
    device: torch.device
    length: int = 128
    batch: int = 128
    encode_batch: int = 256
    candidates: int = 64
    entities: int = 100_000
    settings: Mapping[str, Any] = field(default_factory=dict)
    compiled: str | None = None

    @property
    def recipe(self) -> Recipe:
        """Settings of all stages, in bf16."""
        sizes = {
            "precision": "bf16",
            "device": str(self.device),
            "max_context_length": self.length,
            "max_cand_length": self.length,
            "max_seq_length": 2 * self.length,
            "train_biencoder.train_batch_size": self.batch,
            "train_crossencoder.train_batch_size": TRAIN_MENTIONS,
            "eval_crossencoder.eval_batch_size": TRAIN_MENTIONS,
            "encode_batch_size": self.encode_batch,
            "top_k": self.candidates,
            "pooling": "cls",  # as the formula of FLOP assumes: the last layer is computed for [CLS] only
            "similarity": "dot",
            "train_candidates": None,
            "learning_rate": 1e-5,
        }
        return build_recipe("recommended", sizes, self.settings)

    @property
    def pair_length(self) -> int:
        """Tokens of a pair, without the candidate's [CLS]."""
        return 2 * self.length - 1

    def tables(self, shortest: int | None = None) -> Tables:
        """Return a maker of random token tables, with rows of full length or of at least ``shortest`` tokens."""
        return Tables(self.shape.vocabulary, self.length, self.length if shortest is None else shortest)

    def with_settings(self, **settings: Any) -> Setup:
        """Return a copy with more settings."""
        return replace(self, settings={**self.settings, **settings})

    def ready(self, model: nn.Module) -> None:
        """Compile the layers of the model, if configured.

        The last layer is not compiled, because its parts are called one by one for [CLS]. Shapes are static, because
        all sequences have full length. Real batches would compile once for each length.
        """
        if self.compiled is not None:
            torch.compiler.reset()
            for layer in _layers(model):
                layer.compile(backend=self.compiled, dynamic=False)


def _encoders(model: nn.Module) -> Iterator[Encoder]:
    return (module for module in model.modules() if isinstance(module, Encoder))


def _layers(model: nn.Module) -> Iterator[nn.Module]:
    """Yield all layers but the last of each tower."""
    for encoder in _encoders(model):
        bert: Any = encoder.bert_model
        yield from bert.encoder.layer[:-1]
