"""Features of the candidates of a mention, from the bi-encoder, BM25 and names."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from zeshel_tasks.data.arrays import Rows
from zeshel_tasks.data.candidate_sets import NO_CANDIDATE
from zeshel_tasks.data.vector_file import VectorFile
from zeshel_tasks.evaluation.candidates import Candidates
from zeshel_tasks.linking.bm25 import best
from zeshel_tasks.linking.lexical import LexicalIndex
from zeshel_tasks.linking.listwise import Features, Flags
from zeshel_tasks.linking.mention_texts import MentionText
from zeshel_tasks.linking.names import NameKind

SCORES = ("dense", "bm25_mention", "bm25_context", "bm25_mention_in_lead", "bm25_context_in_names")
_NAMES: tuple[NameKind, ...] = ("title", "title_without_parenthesis", "alias")
FEATURES = (*SCORES, *_NAMES, "own_page", "log_length")
"""The features, in their order.

The scores have mean 0 and standard deviation 1 among the candidates of a mention, because the scales of scores differ
between worlds and models. They are those of the bi-encoder, and of BM25 with the mention or its context as the query,
over everything, over the first words of the texts, and over the names. The next four are 1 if the mention is the
candidate's title, its title without the parenthesis at its end, or an alias, and if the candidate is the page that the
mention is on, else 0. That page shares all words of the context, so it counts as without BM25. The last one is the
logarithm of 1 + the words of the candidate's text: long pages are linked more often.
"""

_SCORED_AT_ONCE = 16_384  # vectors in memory: 50 MB for BERT-base


class Pool(NamedTuple):
    """Candidates of some mentions, in the order of positions.

    Attributes:
        positions: int64 [mentions, candidates]; :data:`NO_CANDIDATE` pads a row.
        features: float32 [mentions, candidates, features], in the order of :data:`FEATURES`.
    """

    positions: Rows
    features: Features

    @property
    def present(self) -> Flags:
        """bool [mentions, candidates], False for padding."""
        return np.asarray(self.positions != NO_CANDIDATE)

    @classmethod
    def joined(cls, pools: Sequence[Pool]) -> Pool:
        """Returns the mentions of several pools in one."""
        mentions, width = sum(len(pool.positions) for pool in pools), max(pool.positions.shape[1] for pool in pools)
        joined = cls.empty(mentions, width)
        start = 0
        for positions, features in pools:
            part = slice(start, start := start + len(positions)), slice(positions.shape[1])
            joined.positions[part], joined.features[part] = positions, features
        return joined

    @classmethod
    def empty(cls, mentions: int, width: int) -> Pool:
        """Returns a pool of padding."""
        positions = np.full((mentions, width), NO_CANDIDATE, dtype=np.int64)
        return cls(positions, np.zeros((mentions, width, len(FEATURES)), dtype=np.float32))


class Baselines(NamedTuple):
    """What a mention's words alone retrieve, best first.

    Attributes:
        exact_title: int64, entities whose title is the mention.
        bm25: int64, entities by BM25 of the mention's words.
    """

    exact_title: Rows
    bm25: Rows


class Lexical(NamedTuple):
    """What lexical search finds for one mention.

    Attributes:
        baselines: what its words alone retrieve.
        pool: int64, positions of all candidates, sorted.
        features: float32 [pool, features]; the bi-encoder's score is 0.
    """

    baselines: Baselines
    pool: Rows
    features: Features


def search_baselines(index: LexicalIndex, text: MentionText, k: int) -> Baselines:
    """Returns the best ``k`` entities by each of the baselines; ``index`` is of the mention's world."""
    return Baselines(index.named("title", text)[:k], best(index.mention_scores(text), k))


def search_words(index: LexicalIndex, text: MentionText, dense: Rows, k: int) -> Lexical:
    """Searches for a mention by words and names.

    Args:
        index: of the mention's world.
        text: the mention.
        dense: int64, the entities that the bi-encoder retrieved.
        k: entities to retrieve by each query of BM25, and by each kind of name.
    """
    scores = (
        index.mention_scores(text),
        index.context_scores(text),
        index.mention_scores(text, "lead"),
        index.context_scores(text, "names"),
    )
    by_words = [best(of_query, k) for of_query in scores]
    by_name = [index.named(kind, text)[:k] for kind in _NAMES]
    pool = np.unique(np.concatenate([dense, *by_words, *by_name]))
    own = np.isin(pool, index.named("page", text))
    columns = [np.zeros(len(pool)), *(np.where(own, 0, of_query[pool]) for of_query in scores)]
    columns += [*(np.isin(pool, named) for named in by_name), own, np.log1p(index.text_words(pool))]
    return Lexical(Baselines(by_name[0], by_words[0]), pool, np.stack(columns, axis=1).astype(np.float32))


def pool_of(found: Sequence[Lexical], candidates: Candidates, vectors: VectorFile) -> Pool:
    """Returns all candidates with all their features.

    Args:
        found: what lexical search found for each of the mentions.
        candidates: the mentions' vectors and the candidates of the bi-encoder, which ``found`` contains.
        vectors: of the world's entities.
    """
    width = max(len(lexical.pool) for lexical in found)
    pool = Pool.empty(len(found), width)
    positions, features = pool
    for row, lexical in enumerate(found):
        positions[row, : len(lexical.pool)], features[row, : len(lexical.pool)] = lexical.pool, lexical.features
    size = max(1, _SCORED_AT_ONCE // width)
    for start in range(0, len(found), size):
        rows = slice(start, start + size)
        # Not a matrix product, whose last bits depend on the column: equal vectors must have equal scores.
        products = vectors.rows(np.maximum(positions[rows], 0)) * candidates.queries[rows, None]
        features[rows, :, 0] = products.sum(axis=2)
    _standardize(features[..., : len(SCORES)], pool.present)
    return pool


def _standardize(scores: npt.NDArray[np.float32], present: Flags) -> None:
    """Gives each score the mean 0 and the standard deviation 1 among a mention's candidates; padding becomes 0."""
    inside = np.broadcast_to(present[..., None], scores.shape)
    mean = scores.mean(axis=1, keepdims=True, where=inside, dtype=np.float64)
    deviation = scores.std(axis=1, keepdims=True, where=inside, dtype=np.float64)
    scores[:] = np.where(inside, (scores - mean) / np.where(deviation > 1e-6, deviation, 1), 0)
