"""What all measurements share: the model's directory, the sizes, the settings."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from torch import nn

from bench.gpu.shape import Shape
from bench.gpu.tables import Tables
from zeshel_tasks.config import Recipe
from zeshel_tasks.models.encoder import Encoder
from zeshel_tasks.recipe import build_recipe

TRAIN_MENTIONS = 2  # of a cross-encoder's step and of its scoring, each with all candidates: the recipe's


@dataclass(frozen=True)
class Setup:
    """One configuration of the package to be measured.

    Attributes:
        shape: of the BERT.
        model: its directory.
        scratch: a directory to write into.
        device: that computes.
        length: tokens of a mention in its context, and of a candidate; a pair has one less than twice as many.
        batch: mentions in a bi-encoder's step.
        encode_batch: entities encoded at once.
        candidates: of a mention.
        entities: that a mention is searched for among.
        settings: laid over the preset ``recommended``.
        compiled: backend of torch.compile for the layers; none leaves them as they are.
        bf16_weights: whether weights and all that is computed are in bf16, instead of autocast over fp32 weights; for
            rows that do not train.
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
    bf16_weights: bool = False

    @property
    def recipe(self) -> Recipe:
        """The settings of all stages, in bf16 autocast."""
        sizes = {
            "precision": "fp32" if self.bf16_weights else "bf16",
            "device": str(self.device),
            "max_context_length": self.length,
            "max_cand_length": self.length,
            "max_seq_length": 2 * self.length,
            "train_biencoder.train_batch_size": self.batch,
            "train_crossencoder.train_batch_size": TRAIN_MENTIONS,
            "eval_crossencoder.eval_batch_size": TRAIN_MENTIONS,
            "encode_batch_size": self.encode_batch,
            "top_k": self.candidates,
            "pooling": "cls",  # whose last layer is cut short; the formula of FLOP counts it so
            "similarity": "dot",
            "train_candidates": None,
        }
        return build_recipe("recommended", sizes, self.settings)

    @property
    def pair_length(self) -> int:
        """Tokens of a pair: the candidate comes without its [CLS]."""
        return 2 * self.length - 1

    def tables(self, shortest: int | None = None) -> Tables:
        """Makes random token tables; rows of full length, or of at least ``shortest`` tokens."""
        return Tables(self.shape.vocabulary, self.length, self.length if shortest is None else shortest)

    def with_settings(self, **settings: Any) -> Setup:
        """The same, with more settings laid over."""
        return replace(self, settings={**self.settings, **settings})

    def ready(self, model: nn.Module) -> None:
        """Makes of the model what is asked for: layers compiled, weights in bf16.

        The last layer is never compiled: its parts are called one by one, for [CLS] alone. Shapes are fixed, as those
        of sequences of full length are; real batches would compile once for each length.
        """
        if self.bf16_weights:
            model.to(torch.bfloat16)
        if self.compiled is not None:
            torch.compiler.reset()
            for layer in _layers(model):
                layer.compile(backend=self.compiled, dynamic=False)


def _layers(model: nn.Module) -> Iterator[nn.Module]:
    """All but the last of each tower."""
    for module in model.modules():
        if isinstance(module, Encoder):
            bert: Any = module.bert_model
            yield from bert.encoder.layer[:-1]
