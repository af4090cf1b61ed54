"""Retrieved candidates: for each mention, positions of entities in its world, best first."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from zeshel_tasks.config.retrieval import CandidateForm
from zeshel_tasks.data.arrays import Rows, new_array, read_array
from zeshel_tasks.data.mention_table import MentionTable
from zeshel_tasks.data.tokens import Tokens, TokenTable, fill_table
from zeshel_tasks.data.zeshel import Document

NO_CANDIDATE = -1
"""Pads the row of a mention whose world has fewer than ``top_k`` entities."""


@dataclass(frozen=True)
class CandidateSets:
    """The candidates of a split's mentions.

    Attributes:
        mentions: the mentions, in file order.
        candidates: int32 [mentions, top_k], positions in the mention's world; :data:`NO_CANDIDATE` pads a row.
        gold_rank: int32 [mentions], column of the gold; -1 if it was not retrieved.
        tokens: by world, int32 or uint16 [entities, max_cand_length].
    """

    mentions: MentionTable
    candidates: npt.NDArray[np.int32]
    gold_rank: npt.NDArray[np.int32]
    tokens: Mapping[str, TokenTable]

    @classmethod
    def load(cls, folder: Path) -> CandidateSets:
        """Opens the tables below ``folder``; all but ``gold_rank`` are memory-mapped."""
        return cls(
            mentions=MentionTable.load(folder / "mentions"),
            candidates=read_array(folder / "candidates.npy", mapped=True),
            gold_rank=read_array(folder / "gold_rank.npy"),
            tokens=load_worlds(folder / "entities"),
        )

    @property
    def retrieved(self) -> Rows:
        """Positions of the mentions whose gold was retrieved."""
        return np.flatnonzero(self.gold_rank >= 0)

    def candidate_tokens(self, rows: Rows, columns: Rows) -> TokenTable:
        """Returns the token ids of candidates: int32 [..., max_cand_length].

        Args:
            rows: mentions, int64 [...]; a mention may occur several times.
            columns: int64, broadcastable to ``rows``: the candidate of each mention, which must not be padding.
        """
        rows, columns = np.broadcast_arrays(rows, columns)
        worlds, positions = self.mentions.world[rows], self.candidates[rows, columns]
        length = next(iter(self.tokens.values())).shape[1]
        ids = np.empty((*rows.shape, length), dtype=np.int32)
        for world in np.unique(worlds):
            of_world = worlds == world
            ids[of_world] = self.tokens[self.mentions.worlds[world]][positions[of_world]]
        return ids


def tokenize_entities(
    documents: Iterable[Document], count: int, tokens: Tokens, max_cand_length: int, form: CandidateForm, path: Path
) -> TokenTable:
    """Writes the token table of a world's ``count`` entities, in file order, memory-mapped at ``path``."""
    table, filled = entity_table(documents, count, tokens, max_cand_length, form, path)
    for _ in filled:
        pass
    return table


def entity_table(
    documents: Iterable[Document], count: int, tokens: Tokens, max_cand_length: int, form: CandidateForm, path: Path
) -> tuple[TokenTable, Iterator[int]]:
    """Like :func:`tokenize_entities`, but returns the table before it is filled, and what fills it.

    The table is uint16 if the vocabulary allows it, else int32.
    """
    table = new_array(path, tokens.stored_as, (count, max_cand_length))
    pairs = ((document.title, document.text) for document in documents)
    return table, fill_table(table, pairs, lambda batch: tokens.candidates(batch, max_cand_length, form))


def load_worlds(folder: Path) -> dict[str, TokenTable]:
    """Opens the ``<world>.npy`` files of a folder: memory-mapped token tables by world."""
    return {path.stem: read_array(path, mapped=True) for path in folder.glob("*.npy")}
