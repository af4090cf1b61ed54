"""Hard negatives: wrong entities that the bi-encoder in training, or BM25, ranks high for a mention.

Source: Gillick et al., 2019 (arXiv:1909.10506); Wu et al., 2020 (arXiv:1911.03814), section 5.2.1.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from accelerate import Accelerator
from accelerate.utils import gather_object

from zeshel_tasks.config.biencoder import HardNegativeSource
from zeshel_tasks.data.arrays import Rows
from zeshel_tasks.data.mention_table import MentionTable
from zeshel_tasks.data.tokens import TokenTable
from zeshel_tasks.data.vector_file import VectorFile
from zeshel_tasks.evaluation.candidates import retrieve
from zeshel_tasks.evaluation.encoding import encode_table
from zeshel_tasks.models.biencoder import Biencoder

log = logging.getLogger(__name__)

NO_NEGATIVE = -1
POOL_FACTOR = 4  # draw from 4 times as many entities, because the very first are often other names of the gold
_BATCH = 256


class HardNegatives:
    """The hard negatives of the training mentions.

    Args:
        mentions: the training mentions.
        entities: by world, int32 [entities, max_cand_length].
        count: negatives of each mention.
        rounds: number of times that they are searched for in a training.
        epochs: epochs of the training.
        seed: seed of the random choice.
        scratch: a directory for the vectors of one world at a time.
        source: whose ranking they come from; half of them from each with ``both``.
        by_words: int32 [mentions, n], the best entities of each mention by BM25, :data:`NO_NEGATIVE` for a missing one;
            needed unless the source is ``model``.

    Attributes:
        table: int32 [mentions, count], positions in the mention's world; :data:`NO_NEGATIVE` for a missing one.
    """

    def __init__(
        self,
        mentions: MentionTable,
        entities: Mapping[str, TokenTable],
        count: int,
        rounds: int,
        epochs: int,
        seed: int,
        scratch: Path,
        source: HardNegativeSource = "model",
        by_words: npt.NDArray[np.int32] | None = None,
    ) -> None:
        self._mentions, self._entities, self._count, self._seed = mentions, entities, count, seed
        self._scratch, self._source = scratch, source
        self._by_words = None if source == "model" else by_words
        self._epochs = {round_ * epochs // (rounds + 1) for round_ in range(1, rounds + 1)}
        self.table = np.full((len(mentions), count), NO_NEGATIVE, dtype=np.int32)

    @property
    def found(self) -> bool:
        """True after the first round."""
        return bool((self.table != NO_NEGATIVE).any())

    def due(self, epoch: int) -> bool:
        """Returns True if new negatives must be found before this epoch (from 0)."""
        return bool(self._count) and epoch in self._epochs

    def tokens(self, rows: Rows) -> TokenTable:
        """Returns the token ids of the negatives of some mentions, flat: int32 [len(rows) * count, max_cand_length].

        A missing negative gets the tokens of its world's first entity. The caller must mask its score.
        """
        names = self._mentions.worlds
        tables = [self._entities[names[world]] for world in self._mentions.world[rows]]
        return np.concatenate([table[np.maximum(self.table[row], 0)] for table, row in zip(tables, rows, strict=True)])

    def find(
        self, model: Biencoder, pad: int, epoch: int, accelerator: Accelerator, after_batch: Callable[[], None]
    ) -> None:
        """Fills :attr:`table` with the current model, which must be in eval mode. Processes share the worlds."""
        worlds = list(self._mentions.rows_of_world().items())[accelerator.process_index :: accelerator.num_processes]
        found = [
            (rows, self._of_world(model, world, rows, pad, epoch, accelerator, after_batch)) for world, rows in worlds
        ]
        for rows, negatives in gather_object(found):
            self.table[rows] = negatives
        log.info("hard negatives of %s mentions found before epoch %d", f"{len(self._mentions):,}", epoch + 1)

    def _of_world(
        self,
        model: Biencoder,
        world: str,
        rows: Rows,
        pad: int,
        epoch: int,
        accelerator: Accelerator,
        after_batch: Callable[[], None],
    ) -> npt.NDArray[np.int32]:
        random = np.random.default_rng([self._seed, epoch, *world.encode()])
        if self._source == "bm25":
            return self._draw(None, rows, random)
        path = self._scratch / f"hard_negatives-{accelerator.process_index}.npy"
        encode_table(model.cand_encoder, self._entities[world], _BATCH, pad, accelerator, path, lambda _: after_batch())
        best = retrieve(
            model.context_encoder,
            self._mentions.contexts,
            rows,
            VectorFile(path),
            POOL_FACTOR * self._count + 1,
            _BATCH,
            pad,
            accelerator,
            lambda _: after_batch(),
        )
        drawn = [self._draw(candidates.positions, candidates.rows, random) for candidates in best]
        path.unlink()
        return np.concatenate(drawn)

    def _draw(self, positions: Rows | None, rows: Rows, random: np.random.Generator) -> npt.NDArray[np.int32]:
        """Draws some of the best entities of each mention at random, never its gold.

        Args:
            positions: int64 [len(rows), n], the best by the model; None for BM25 alone.
            rows: the mentions.
            random: random number generator.
        """
        by_words = None if self._by_words is None else self._by_words[rows]
        rankings = [ranking for ranking in (positions, by_words) if ranking is not None]
        drawn = np.full((len(rows), self._count), NO_NEGATIVE, dtype=np.int32)
        for row, label in enumerate(self._mentions.label[rows]):
            most = POOL_FACTOR * self._count // len(rankings)
            pools = [_others(ranking[row], label, most) for ranking in rankings]
            # A single ranking keeps its order, on which what is drawn depends.
            pool = pools[0] if len(pools) == 1 else np.unique(np.concatenate(pools))
            chosen = random.permutation(pool)[: self._count]
            drawn[row, : len(chosen)] = chosen
        return drawn


def _others(best: npt.NDArray[Any], label: int, most: int) -> npt.NDArray[Any]:
    others: npt.NDArray[Any] = best[(best != label) & (best != NO_NEGATIVE)][:most]
    return others
