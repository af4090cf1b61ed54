"""Bi-encoder training with in-batch negatives and, optionally, hard negatives.

Source: Wu et al., 2020 (arXiv:1911.03814), equation 5: cross-entropy of each mention over the gold candidates of
the whole batch.
"""

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

from zeshel_tasks.config.biencoder import TrainBiencoderConfig
from zeshel_tasks.data.arrays import Rows
from zeshel_tasks.data.mention_table import GoldPairs
from zeshel_tasks.data.search_set import SearchSet
from zeshel_tasks.data.tokens import TokenTable
from zeshel_tasks.models.batches import on_device, token_batch
from zeshel_tasks.models.biencoder import Biencoder, BiencoderSettings, save_biencoder
from zeshel_tasks.training.gradient_cache import Vectors, cached_parts
from zeshel_tasks.training.hard_negatives import NO_NEGATIVE, HardNegatives
from zeshel_tasks.training.objective import Part, Tensors, finite_scores, separate_parts
from zeshel_tasks.training.processes import Share, gather_with_gradient, parts_with_rows, share_of
from zeshel_tasks.training.recall_validation import RecallValidation

_NOTHING = -1  # the key of no entity


class BiencoderObjective:
    """Scores each mention against the golds and the hard negatives of its batch.

    Args:
        train: pairs to train on.
        valid: mentions and entities to validate on.
        settings: saved beside the weights.
        tokenizer: saved beside the weights.
        accelerator: device and processes.
        config: hyper-parameters.
        negatives: hard negatives of ``train``'s mentions, if any.
    """

    measures: tuple[str, ...] = ("valid_recall", "valid_recall_at_1")

    def __init__(
        self,
        train: GoldPairs,
        valid: SearchSet,
        settings: BiencoderSettings,
        tokenizer: Any,
        accelerator: Accelerator,
        config: TrainBiencoderConfig,
        negatives: HardNegatives | None = None,
    ) -> None:
        self._train, self._settings, self._tokenizer = train, settings, tokenizer
        self._pad, self._accelerator, self._config = int(tokenizer.pad_token_id), accelerator, config
        self._negatives = negatives
        self._validation = RecallValidation(
            valid, config.valid_top_k, config.eval_batch_size, self._pad, accelerator, finite_scores(config)
        )
        self.mentions = len(train.mentions)
        self.groups = np.asarray(train.mentions.world, dtype=np.int64) if config.one_world_batches else None

    def begin_epoch(self, model: nn.Module, epoch: int, *, resumed: bool, after_batch: Callable[[], None]) -> None:
        if self._negatives is not None and self._negatives.due(epoch) and not resumed:
            model.eval()
            raw = self._accelerator.unwrap_model(model)
            self._negatives.find(raw, self._pad, epoch, self._accelerator, after_batch)

    def state(self) -> Tensors:
        return {} if self._negatives is None else {"hard_negatives": torch.from_numpy(self._negatives.table)}

    def restore(self, state: Tensors) -> None:
        if self._negatives is not None:
            self._negatives.table[:] = state["hard_negatives"].numpy()

    def parts(self, model: nn.Module, rows: Rows, count: int) -> Iterator[Part]:
        unsynced = partial(self._accelerator.no_sync, model)
        if count == 1 or not self._config.gradient_cache:
            return separate_parts(partial(self.loss, model), rows, count, unsynced)
        share = share_of(rows, self._accelerator)
        return cached_parts(
            partial(self._encode, model),
            lambda vectors: self._cross_entropy(vectors, share),
            np.array_split(share.mine, parts_with_rows(rows, count, self._accelerator)),
            self._accelerator.device,
            unsynced,
        )

    def loss(self, model: nn.Module, rows: Rows) -> torch.Tensor:
        """Returns this process's share of the mean loss over the mentions ``rows``."""
        share = share_of(rows, self._accelerator)
        return self._cross_entropy(self._encode(model, share.mine), share)

    def validate(self, model: nn.Module, after_batch: Callable[[], None]) -> dict[str, float]:
        """Returns recall, see :class:`RecallValidation`, and the learned temperature, if any."""
        raw: Biencoder = self._accelerator.unwrap_model(model)
        return self._validation.measure(raw, after_batch) | raw.figures()

    def save(self, model: nn.Module, directory: Path) -> None:
        save_biencoder(model, self._settings, self._tokenizer, directory)  # type: ignore[arg-type]

    @property
    def _ready_negatives(self) -> HardNegatives | None:
        """The hard negatives, or None before their first round."""
        return self._negatives if self._negatives is not None and self._negatives.found else None

    def _encode(self, model: nn.Module, rows: Rows) -> Vectors:
        """Returns the vectors of mentions, golds and, if any, hard negatives: float [.., dimension] each."""
        pairs, negatives = self._train, self._ready_negatives
        tables = [pairs.golds[pairs.gold_row[rows]], *([] if negatives is None else [negatives.tokens(rows)])]
        entities, where = _each_once(np.concatenate(tables))
        device = self._accelerator.device
        places = on_device(where, device)  # copy before the model runs, because a copy from the host waits for it
        contexts, vectors = model(
            token_batch(pairs.mentions.contexts[rows], self._pad, device), token_batch(entities, self._pad, device)
        )
        return contexts, *vectors[places].split([len(table) for table in tables])

    def _cross_entropy(self, vectors: Vectors, share: Share) -> torch.Tensor:
        contexts, *candidates = vectors
        if self._accelerator.num_processes > 1:
            a_mention = [len(part) // len(share.mine) for part in candidates]  # one gold, some hard negatives
            candidates = [
                gather_with_gradient(part, [size * count for size in share.sizes])
                for part, count in zip(candidates, a_mention, strict=True)
            ]
        columns, targets = self._distinct(share)
        entities = torch.cat(candidates)
        if len(columns) < len(entities):
            entities = entities[on_device(columns, entities.device)]
        return share.weight * F.cross_entropy(contexts @ entities.T, on_device(targets, contexts.device))

    def _distinct(self, share: Share) -> tuple[Rows, Rows]:
        """Returns the columns to score among the golds and hard negatives of all, and each mention's target in them.

        An entity is scored once, whether it is the gold or a hard negative of one mention or of several. Without
        ``mask_duplicate_golds`` each gold is scored, as in BLINK.
        """
        golds = keys = _gold_keys(self._train, share.everyone)
        if self._ready_negatives is not None:
            keys = np.concatenate([golds, self._negative_keys(self._ready_negatives, share.everyone)])
        _, first, entity = np.unique(keys, return_index=True, return_inverse=True)
        of_key = first[entity.reshape(-1)]  # the first column with the same entity
        if not self._config.mask_duplicate_golds:
            of_key[: len(golds)] = np.arange(len(golds))
        columns = np.flatnonzero((of_key == np.arange(len(keys))) & (keys != _NOTHING))
        mine = share.start + np.arange(len(share.mine))
        return columns, np.searchsorted(columns, of_key[mine])

    def _negative_keys(self, negatives: HardNegatives, rows: Rows) -> Rows:
        positions = negatives.table[rows].astype(np.int64)
        worlds = self._train.mentions.world[rows].astype(np.int64)[:, None]
        return np.where(positions == NO_NEGATIVE, _NOTHING, _keys(worlds, positions)).reshape(-1)


def _gold_keys(pairs: GoldPairs, rows: Rows) -> Rows:
    mentions = pairs.mentions
    return _keys(mentions.world[rows].astype(np.int64), mentions.label[rows].astype(np.int64))


def _keys(worlds: Rows, positions: Rows) -> Rows:
    """Returns a unique number for each entity."""
    return (worlds << 32) + positions


def _each_once(table: TokenTable) -> tuple[TokenTable, Rows]:
    """Returns the distinct rows and the index of each row among them, so that a repeated row is encoded once."""
    rows, where = np.unique(table, axis=0, return_inverse=True)
    return rows, where.reshape(-1)
