"""Bi-encoder training in which a gold's score is that of its best view."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from accelerate import Accelerator
from torch import nn
from torch.nn import functional as F

from bench.views.views import Views
from zeshel_tasks.config import TrainBiencoderConfig
from zeshel_tasks.data.mention_table import GoldPairs
from zeshel_tasks.models.batches import on_device, token_batch
from zeshel_tasks.models.bert import load_tokenizer
from zeshel_tasks.models.biencoder import BiencoderSettings, new_biencoder, save_biencoder
from zeshel_tasks.training.fit import Fit
from zeshel_tasks.training.objective import Objective, Part, Rows, Tensors, separate_parts


class ViewsObjective:
    """Scores each mention against the golds of its batch, equal golds left out.

    Args:
        pairs: to train on.
        golds: views of ``pairs.golds``.
        settings: saved beside the weights.
        tokenizer: saved beside the weights.
        device: where to compute.
    """

    def __init__(
        self, pairs: GoldPairs, golds: Views, settings: BiencoderSettings, tokenizer: Any, device: torch.device
    ) -> None:
        self._pairs, self._golds, self._settings, self._tokenizer = pairs, golds, settings, tokenizer
        self._pad, self._device = int(tokenizer.pad_token_id), device
        self.mentions = len(pairs.mentions)
        self.groups: Rows | None = np.asarray(pairs.mentions.world, dtype=np.int64)

    def begin_epoch(self, model: nn.Module, epoch: int, *, resumed: bool, after_batch: Callable[[], None]) -> None:
        pass

    def state(self) -> Tensors:
        return {}

    def restore(self, state: Tensors) -> None:
        pass

    def parts(self, model: nn.Module, rows: Rows, count: int) -> Iterator[Part]:
        return separate_parts(partial(self._loss, model), rows, count)

    def validate(self, model: nn.Module, after_batch: Callable[[], None]) -> dict[str, float]:
        del model, after_batch  # nothing to choose: the one epoch has no other to be better than
        return {"valid_accuracy": 0.0}

    def save(self, model: nn.Module, directory: Path) -> None:
        save_biencoder(model, self._settings, self._tokenizer, directory)  # type: ignore[arg-type]

    def _loss(self, model: nn.Module, rows: Rows) -> torch.Tensor:
        golds, targets = np.unique(self._pairs.gold_row[rows], return_inverse=True)
        views, first = self._golds.rows_of(golds)
        contexts, vectors = model(
            token_batch(self._pairs.mentions.contexts[rows], self._pad, self._device),
            token_batch(self._golds.tokens[views], self._pad, self._device),
        )
        by_gold = (contexts @ vectors.T).tensor_split(first[1:].tolist(), dim=1)
        scores = torch.stack([of_gold.amax(1) for of_gold in by_gold], 1)
        return F.cross_entropy(scores, on_device(targets.reshape(-1), self._device))


def build_views_objective(task: Fit, accelerator: Accelerator) -> tuple[nn.Module, Objective]:
    """The bi-encoder at its start, and its objective over the prepared tables."""
    config = task.config
    assert isinstance(config, TrainBiencoderConfig)
    model, settings = new_biencoder(task.bert, config)
    tokenizer = load_tokenizer(task.bert, lowercase=config.lowercase)
    pairs, golds = GoldPairs.load(task.tables / "train"), Views.load(task.tables / "views")
    return model, ViewsObjective(pairs, golds, settings, tokenizer, accelerator.device)
