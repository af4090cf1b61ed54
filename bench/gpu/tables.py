"""Creates random token tables of known lengths, in the package's own types."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from zeshel_tasks.data.candidate_sets import CandidateSets
from zeshel_tasks.data.mention_table import GoldPairs, MentionTable
from zeshel_tasks.data.search_set import EntitySample, SearchSet
from zeshel_tasks.data.tokens import TokenTable
from zeshel_tasks.demo.small_bert import SPECIAL_TOKENS

PAD, CLS, SEP = (SPECIAL_TOKENS.index(token) for token in ("[PAD]", "[CLS]", "[SEP]"))
_WORLD = "world"


@dataclass
class Tables:
    """Creates tables. The same seed and calls give the same tables.

    Attributes:
        vocabulary: size of the model's vocabulary.
        length: tokens of a row.
        shortest: minimum length; rows have random lengths from this to ``length``.
    """

    vocabulary: int
    length: int
    shortest: int

    def __post_init__(self) -> None:
        self._random = np.random.default_rng(7)

    def tokens(self, rows: int) -> TokenTable:
        """Return int32 [rows, length]: [CLS], random words, [SEP] and padding."""
        table = self._random.integers(len(SPECIAL_TOKENS), self.vocabulary, (rows, self.length)).astype(np.int32)
        lengths = self._random.integers(self.shortest, self.length + 1, rows)
        table[np.arange(self.length)[None, :] >= lengths[:, None]] = PAD
        table[:, 0], table[np.arange(rows), lengths - 1] = CLS, SEP
        return table

    def pairs(self, mentions: int) -> GoldPairs:
        """Return mentions of one world, each with a different gold."""
        return GoldPairs(self._mentions(mentions), self.tokens(mentions), np.arange(mentions))

    def searched(self, mentions: int) -> SearchSet:
        """Return mentions of one world, whose entities are their golds."""
        ones = np.ones(mentions, dtype=np.float32)
        entities = EntitySample(self.tokens(mentions), np.arange(mentions), ones)
        return SearchSet(self._mentions(mentions), {_WORLD: entities})

    def sets(self, mentions: int, candidates: int) -> CandidateSets:
        """Return mentions with ``candidates`` distinct entities each, and the gold in a random place."""
        entities = 2 * candidates
        chosen = np.stack([self._random.permutation(entities)[:candidates] for _ in range(mentions)]).astype(np.int32)
        gold_rank = self._random.integers(0, candidates, mentions).astype(np.int32)
        return CandidateSets(self._mentions(mentions), chosen, gold_rank, {_WORLD: self.tokens(entities)})

    def vectors(self, rows: int, dimension: int) -> npt.NDArray[np.float32]:
        """Return random vectors: float32 [rows, dimension]."""
        return self._random.standard_normal((rows, dimension), dtype=np.float32)

    def _mentions(self, count: int) -> MentionTable:
        label = np.arange(count, dtype=np.int32)
        zeros = np.zeros(count, dtype=np.int32)
        return MentionTable(self.tokens(count), zeros, label, zeros, [_WORLD], ["any"])
