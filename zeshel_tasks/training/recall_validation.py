"""Recall of the bi-encoder in training, among the entities of the valid worlds. It chooses the best epoch."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from accelerate import Accelerator

from zeshel_tasks.data.arrays import Rows, release
from zeshel_tasks.data.search_set import EntitySample, SearchSet
from zeshel_tasks.data.tokens import TokenTable
from zeshel_tasks.evaluation.encoding import encode_rows
from zeshel_tasks.evaluation.finite import require_finite
from zeshel_tasks.models.batches import on_device, used_lengths
from zeshel_tasks.models.biencoder import Biencoder
from zeshel_tasks.models.encoder import Encoder
from zeshel_tasks.training.processes import gather, share_of


class RecallValidation:
    """Searches the mentions' golds among the entities of their worlds. The processes share the work.

    Args:
        searched: mentions and entities.
        top_k: the gold counts as found if its rank is below.
        batch_size: sequences that a process encodes at once.
        pad: id of [PAD].
        accelerator: device, precision and processes.
        expected: see :func:`~zeshel_tasks.evaluation.finite.require_finite`.
    """

    def __init__(
        self, searched: SearchSet, top_k: int, batch_size: int, pad: int, accelerator: Accelerator, expected: str
    ) -> None:
        self._searched, self._top_k, self._pad, self._expected = searched, top_k, pad, expected
        self._accelerator, self._batch = accelerator, batch_size * accelerator.num_processes

    def measure(self, model: Biencoder, after_batch: Callable[[], None]) -> dict[str, float]:
        """Returns recall at ``top_k`` (``valid_recall``) and at 1 (``valid_recall_at_1``).

        An entity of a sample counts as all those for which it stands, so a rank estimates that among all entities. An
        equal score counts as a better one: a model with one vector for all entities finds nothing.

        Args:
            model: in eval mode, on the accelerator's device. All processes call it at the same time.
            after_batch: called after each batch, by all processes at the same time. It may raise.
        """
        mentions = self._searched.mentions
        found = torch.zeros(2, dtype=torch.float64)
        with torch.inference_mode():
            for world, rows in mentions.rows_of_world().items():
                entities = self._searched.entities[world]
                vectors = self._encoded(model.cand_encoder, entities.tokens, after_batch)
                for start in range(0, len(rows), self._batch):
                    share = share_of(rows[start : start + self._batch], self._accelerator)
                    queries = encode_rows(
                        model.context_encoder, mentions.contexts[share.mine], self._pad, self._accelerator
                    )
                    ranks = self._ranks(queries, vectors, entities, mentions.label[share.mine].astype(np.int64))
                    if share.weight:
                        found += torch.stack([(ranks < self._top_k).sum(), (ranks < 1).sum()]).cpu()
                    after_batch()
        top_k, first = self._total(found)
        return {"valid_recall": top_k / len(mentions), "valid_recall_at_1": first / len(mentions)}

    def _encoded(self, encoder: Encoder, table: TokenTable, after_batch: Callable[[], None]) -> torch.Tensor:
        """Returns the vectors of all rows in each process: float32 [rows, dimension]."""
        device = self._accelerator.device
        vectors = torch.empty(len(table), encoder.dimension, device=device)
        order = np.argsort(used_lengths(table, self._pad), kind="stable")
        for start in range(0, len(order), self._batch):
            share = share_of(order[start : start + self._batch], self._accelerator)
            mine = encode_rows(encoder, table[share.mine], self._pad, self._accelerator)
            vectors[on_device(share.everyone, device)] = gather(mine, share.sizes)
            release(table)
            after_batch()
        return vectors

    def _ranks(
        self, queries: torch.Tensor, vectors: torch.Tensor, entities: EntitySample, labels: Rows
    ) -> torch.Tensor:
        """Returns the estimated ranks of the golds, from 0: float32 [queries]."""
        gold = on_device(np.searchsorted(entities.positions, labels)[:, None], queries.device)
        scores = queries @ vectors.T
        require_finite(scores, "in validation", self._expected)
        ahead = scores >= scores.gather(1, gold)
        ahead.scatter_(1, gold, False)
        return ahead.float() @ on_device(entities.weights, queries.device)

    def _total(self, counts: torch.Tensor) -> list[float]:
        total: torch.Tensor = self._accelerator.reduce(counts.to(self._accelerator.device), reduction="sum")
        return total.tolist()
