"""Bi-encoder training: in-batch negatives.

Source: Wu et al., 2020 (arXiv:1911.03814), equation 5: cross-entropy of each mention over the gold candidates of
the whole batch.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from torch import nn
from torch.nn import functional as F

from zeshel_tasks.data.mention_table import GoldPairs
from zeshel_tasks.models.batches import token_batch
from zeshel_tasks.models.biencoder import BiencoderSettings, save_biencoder
from zeshel_tasks.training.loop import Rows
from zeshel_tasks.training.processes import gather_with_gradient, share_of


class BiencoderObjective:
    """Scores each mention against the golds of its batch.

    Args:
        train: pairs to train on.
        valid: pairs to validate on.
        settings: saved beside the weights.
        tokenizer: saved beside the weights.
        accelerator: device and processes.
        eval_batch_size: mentions of a validation batch.
        mask_duplicate_golds: whether a candidate equal to a mention's gold is kept out of its negatives.
    """

    def __init__(
        self,
        train: GoldPairs,
        valid: GoldPairs,
        settings: BiencoderSettings,
        tokenizer: Any,
        accelerator: Accelerator,
        eval_batch_size: int,
        *,
        mask_duplicate_golds: bool,
    ) -> None:
        self._train, self._valid, self._settings, self._tokenizer = train, valid, settings, tokenizer
        self._pad, self._accelerator = int(tokenizer.pad_token_id), accelerator
        self._eval_batch_size, self._mask_duplicate_golds = eval_batch_size, mask_duplicate_golds
        self.mentions = len(train.mentions)

    def loss(self, model: nn.Module, rows: Rows) -> torch.Tensor:
        mine, everyone = share_of(rows, self._accelerator)
        scores, targets = self._scores(model, self._train, mine, everyone, masked=self._mask_duplicate_golds)
        return F.cross_entropy(scores, targets)

    def validate(self, model: nn.Module, after_batch: Callable[[], None]) -> dict[str, float]:
        """Share of the mentions whose gold scores highest in a batch of mentions of the same world."""
        correct = 0
        for rows in self._valid.mentions.rows_of_world().values():
            for start in range(0, len(rows), self._eval_batch_size):
                batch = rows[start : start + self._eval_batch_size]
                scores, targets = self._scores(model, self._valid, batch, batch, masked=True)
                correct += int((scores.argmax(1) == targets).sum())
                after_batch()
        return {"valid_accuracy": correct / len(self._valid.mentions)}

    def save(self, model: nn.Module, directory: Path) -> None:
        save_biencoder(model, self._settings, self._tokenizer, directory)  # type: ignore[arg-type]

    def _scores(
        self, model: nn.Module, pairs: GoldPairs, mine: Rows, everyone: Rows, *, masked: bool
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Scores [mentions of this process, golds of all] and each mention's column."""
        device = self._accelerator.device
        contexts = token_batch(pairs.mentions.contexts[mine], self._pad, device)
        golds = token_batch(pairs.golds[pairs.gold_row[mine]], self._pad, device)
        context_vectors, gold_vectors = model(*contexts, *golds)
        distributed = len(everyone) > len(mine)
        scores = context_vectors @ (gather_with_gradient(gold_vectors) if distributed else gold_vectors).T
        targets = torch.arange(len(mine), device=device) + self._first_column(mine, everyone)
        if masked:
            gold, all_golds = (torch.from_numpy(pairs.gold_row[rows]).to(device) for rows in (mine, everyone))
            same = gold[:, None] == all_golds[None, :]
            same[torch.arange(len(mine)), targets] = False
            scores = scores.masked_fill(same, float("-inf"))
        return scores, targets

    def _first_column(self, mine: Rows, everyone: Rows) -> int:
        return self._accelerator.process_index * len(mine) if len(everyone) > len(mine) else 0
