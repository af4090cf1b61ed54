"""Retrieves the candidates of mentions with the hybrid retriever, and with each of its methods for comparison."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np
import numpy.typing as npt

from zeshel_tasks.data.arrays import Rows
from zeshel_tasks.data.vector_file import VectorFile
from zeshel_tasks.evaluation.candidates import Candidates
from zeshel_tasks.linking.features import Baselines, Lexical, search_baselines, search_words
from zeshel_tasks.linking.lexical import LexicalIndex
from zeshel_tasks.linking.mention_texts import TextsByRow
from zeshel_tasks.linking.retriever import Retriever

Method = Literal["exact_title", "bm25", "biencoder"]

_FUSED_AT_ONCE = 65_536  # candidates whose features are in memory: 2 MB of each


class Retrieved(NamedTuple):
    """Candidates of some mentions by the retriever, and by each of its methods alone.

    Attributes:
        candidates: the result.
        dense: the candidates of the bi-encoder.
        baselines: by mention.
    """

    candidates: Candidates
    dense: Candidates
    baselines: list[Baselines]


def retrieve_candidates(
    retriever: Retriever,
    index: LexicalIndex,
    texts: TextsByRow,
    dense: Iterable[Candidates],
    vectors: VectorFile,
    k: int,
) -> Iterator[Retrieved]:
    """Retrieves candidates of the mentions of one world, given those of the bi-encoder.

    Args:
        retriever: settings and weights; if it is not hybrid, the result is the bi-encoder's.
        index: of the world.
        texts: of the mentions by row.
        dense: ``k`` candidates of each mention by the bi-encoder.
        vectors: of the world's entities.
        k: candidates of each mention.
    """
    for part in in_parts(dense, k):
        if retriever.hybrid:
            found = search_all(index, texts, part, k)
            fused = retriever.fuse(found, part, vectors)
            yield Retrieved(fused, part, [lexical.baselines for lexical in found])
        else:
            yield Retrieved(part, part, [search_baselines(index, text, k) for text in texts.of(part.rows)])


def search_all(index: LexicalIndex, texts: TextsByRow, dense: Candidates, k: int) -> list[Lexical]:
    """Searches by words and names for each mention of ``dense``; see :func:`retrieve_candidates`."""
    of_mentions = zip(texts.of(dense.rows), dense.positions, strict=True)
    return [search_words(index, text, positions, k) for text, positions in of_mentions]


def in_parts(dense: Iterable[Candidates], k: int) -> Iterator[Candidates]:
    """Splits candidates into parts whose pools fit into memory together."""
    size = max(1, _FUSED_AT_ONCE // (4 * k))
    for candidates in dense:
        for start in range(0, len(candidates.rows), size):
            yield candidates.part(start, start + size)


class GoldRanks:
    """Ranks of the golds by each method alone: int32 [mentions], from 0; -1 if it did not retrieve the gold."""

    def __init__(self, mentions: int) -> None:
        self.by_method: dict[Method, npt.NDArray[np.int32]] = {
            method: np.full(mentions, -1, dtype=np.int32) for method in ("exact_title", "bm25", "biencoder")
        }

    def put(self, retrieved: Retrieved, label: npt.NDArray[np.int32]) -> None:
        """Notes the ranks for some mentions; ``label`` is the position of each one's gold."""
        for row, gold, baselines, dense in zip(
            retrieved.dense.rows, label, retrieved.baselines, retrieved.dense.positions, strict=True
        ):
            lists: dict[Method, Rows] = {
                "exact_title": baselines.exact_title,
                "bm25": baselines.bm25,
                "biencoder": dense,
            }
            for method, positions in lists.items():
                found = np.flatnonzero(positions == gold)
                if len(found):
                    self.by_method[method][row] = found[0]

    def save(self, folder: Path) -> None:
        """Writes ``gold_rank_<method>.npy`` for each method."""
        for method, ranks in self.by_method.items():
            np.save(folder / f"gold_rank_{method}.npy", ranks)
