"""Cross-encoder training: pick the gold among the retrieved candidates.

Source: Wu et al., 2020 (arXiv:1911.03814), section 4.2: cross-entropy over a mention's candidates. Mentions whose gold
was not retrieved are left out of the training but count in validation.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from accelerate import Accelerator
from torch import nn
from torch.nn import functional as F

from zeshel_tasks.config.crossencoder import TrainCrossencoderConfig
from zeshel_tasks.data.arrays import Rows
from zeshel_tasks.data.candidate_sets import NO_CANDIDATE, CandidateSets
from zeshel_tasks.evaluation.rerank import candidate_scores, checked_scores
from zeshel_tasks.models.batches import on_device
from zeshel_tasks.models.crossencoder import CrossencoderSettings, save_crossencoder
from zeshel_tasks.training.objective import Part, Tensors, finite_scores, separate_parts
from zeshel_tasks.training.processes import parts_with_rows, share_of


class CrossencoderObjective:
    """Picks the gold among each mention's candidates.

    Args:
        train: candidate sets to train on.
        valid: candidate sets to validate on.
        settings: saved beside the weights.
        tokenizer: saved beside the weights.
        accelerator: device and processes.
        config: hyper-parameters.
    """

    measures: tuple[str, ...] = ("valid_accuracy",)

    def __init__(
        self,
        train: CandidateSets,
        valid: CandidateSets,
        settings: CrossencoderSettings,
        tokenizer: Any,
        accelerator: Accelerator,
        config: TrainCrossencoderConfig,
    ) -> None:
        self._train, self._valid, self._settings, self._tokenizer = train, valid, settings, tokenizer
        self._pad, self._accelerator, self._config = int(tokenizer.pad_token_id), accelerator, config
        self._epoch = 0
        self._trainable = _drawn(train.retrieved, config)
        self.mentions = len(self._trainable)
        self.groups: Rows | None = None

    def begin_epoch(self, model: nn.Module, epoch: int, *, resumed: bool, after_batch: Callable[[], None]) -> None:
        del model, resumed, after_batch  # nothing to prepare
        self._epoch = epoch

    def state(self) -> Tensors:
        return {}

    def restore(self, state: Tensors) -> None:
        pass

    def parts(self, model: nn.Module, rows: Rows, count: int) -> Iterator[Part]:
        parts, unsynced = parts_with_rows(rows, count, self._accelerator), partial(self._accelerator.no_sync, model)
        return separate_parts(partial(self.loss, model), rows, parts, unsynced)

    def loss(self, model: nn.Module, rows: Rows) -> torch.Tensor:
        """Returns this process's share of the mean loss over the mentions ``rows``."""
        share = share_of(self._trainable[rows], self._accelerator)
        mine = share.mine
        # copy before the model runs, because a copy from the host waits for it
        targets = on_device(self._train.gold_rank[mine].astype(np.int64), self._accelerator.device)
        return share.weight * F.cross_entropy(self._scores(model, self._train, mine, self._chosen(mine)), targets)

    def validate(self, model: nn.Module, after_batch: Callable[[], None]) -> dict[str, float]:
        """Returns the accuracy over mentions whose gold was retrieved (``valid_accuracy``), and over all mentions."""
        rows, size = self._valid.retrieved, self._config.eval_batch_size * self._accelerator.num_processes
        correct = torch.zeros((), dtype=torch.int64, device=self._accelerator.device)
        for start in range(0, len(rows), size):
            share = share_of(rows[start : start + size], self._accelerator)
            scores, candidates = self._scores(model, self._valid, share.mine), self._valid.candidates[share.mine]
            best = checked_scores(scores, candidates, "in validation", finite_scores(self._config)).argmax(1)
            if share.weight:
                correct += int((best == self._valid.gold_rank[share.mine]).sum())
            after_batch()
        total = int(self._accelerator.reduce(correct, reduction="sum"))
        return {
            "valid_accuracy": total / max(1, len(rows)),
            "valid_unnormalized_accuracy": total / len(self._valid.mentions),
        }

    def save(self, model: nn.Module, directory: Path) -> None:
        save_crossencoder(model, self._settings, self._tokenizer, directory)  # type: ignore[arg-type]

    def _chosen(self, rows: Rows) -> npt.NDArray[np.bool_] | None:
        """Selects the candidates to train on: bool [len(rows), top_k]."""
        count, all_of_them = self._config.train_candidates, self._train.candidates.shape[1]
        if count is None or count >= all_of_them:
            return None
        chosen = np.zeros((len(rows), all_of_them), dtype=bool)
        for place, row in enumerate(rows):
            there = np.flatnonzero(self._train.candidates[row] != NO_CANDIDATE)
            others = there[there != self._train.gold_rank[row]]
            random = np.random.default_rng([self._config.seed, self._epoch, int(row)])
            chosen[place, random.permutation(others)[: count - 1]] = True
            chosen[place, self._train.gold_rank[row]] = True
        return chosen

    def _scores(
        self, model: nn.Module, sets: CandidateSets, rows: Rows, chosen: npt.NDArray[np.bool_] | None = None
    ) -> torch.Tensor:
        length, device = self._settings.max_seq_length, self._accelerator.device
        return candidate_scores(model, sets, rows, length, self._pad, device, chosen)


def _drawn(rows: Rows, config: TrainCrossencoderConfig) -> Rows:
    """Draws ``max_train_mentions`` of the rows, in their order. More rows include those of fewer."""
    most = config.max_train_mentions
    if most is None or most >= len(rows):
        return rows
    return np.sort(np.random.default_rng(config.seed).permutation(rows)[:most])
