"""Cross-encoder training: the gold among the retrieved candidates.

Source: Wu et al., 2020 (arXiv:1911.03814), section 4.2: cross-entropy over a mention's candidates. Mentions whose gold
was not retrieved cannot be trained on; they count in validation.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from accelerate import Accelerator
from torch import nn
from torch.nn import functional as F

from zeshel_tasks.data.candidate_sets import CandidateSets
from zeshel_tasks.evaluation.rerank import candidate_scores
from zeshel_tasks.models.crossencoder import CrossencoderSettings, save_crossencoder
from zeshel_tasks.training.loop import Rows
from zeshel_tasks.training.processes import share_of


class CrossencoderObjective:
    """Picks the gold among each mention's candidates.

    Args:
        train: candidate sets to train on.
        valid: candidate sets to validate on.
        settings: saved beside the weights.
        tokenizer: saved beside the weights.
        accelerator: device and processes.
        eval_batch_size: mentions of a validation batch.
    """

    def __init__(
        self,
        train: CandidateSets,
        valid: CandidateSets,
        settings: CrossencoderSettings,
        tokenizer: Any,
        accelerator: Accelerator,
        eval_batch_size: int,
    ) -> None:
        self._train, self._valid, self._settings, self._tokenizer = train, valid, settings, tokenizer
        self._pad, self._accelerator = int(tokenizer.pad_token_id), accelerator
        self._eval_batch_size = eval_batch_size
        self._trainable = train.retrieved
        self.mentions = len(self._trainable)

    def loss(self, model: nn.Module, rows: Rows) -> torch.Tensor:
        mine, _ = share_of(self._trainable[rows], self._accelerator)
        scores = self._scores(model, self._train, mine)
        targets = torch.from_numpy(self._train.gold_rank[mine].astype(np.int64)).to(scores.device)
        return F.cross_entropy(scores, targets)

    def validate(self, model: nn.Module, after_batch: Callable[[], None]) -> dict[str, float]:
        """Accuracy where the gold was retrieved (``valid_accuracy``), and over all mentions."""
        rows, correct = self._valid.retrieved, 0
        for start in range(0, len(rows), self._eval_batch_size):
            batch = rows[start : start + self._eval_batch_size]
            best = self._scores(model, self._valid, batch).argmax(1).cpu().numpy()
            correct += int((best == self._valid.gold_rank[batch]).sum())
            after_batch()
        return {
            "valid_accuracy": correct / max(1, len(rows)),
            "valid_unnormalized_accuracy": correct / len(self._valid.mentions),
        }

    def save(self, model: nn.Module, directory: Path) -> None:
        save_crossencoder(model, self._settings, self._tokenizer, directory)  # type: ignore[arg-type]

    def _scores(self, model: nn.Module, sets: CandidateSets, rows: Rows) -> torch.Tensor:
        return candidate_scores(model, sets, rows, self._settings.max_seq_length, self._pad, self._accelerator.device)
