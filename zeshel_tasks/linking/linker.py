"""Links mentions of texts against the entities of a knowledge base, with the numbers of the evaluation."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import islice

import numpy as np

from zeshel_tasks.compute.inference_guard import guarded_batches
from zeshel_tasks.compute.progress import Progress
from zeshel_tasks.config.link import LinkMode
from zeshel_tasks.data.arrays import Rows
from zeshel_tasks.data.candidate_sets import CandidateSets
from zeshel_tasks.data.mention_table import MentionTable
from zeshel_tasks.data.tokens import TokenTable
from zeshel_tasks.errors import ConfigError
from zeshel_tasks.evaluation.candidates import Candidates
from zeshel_tasks.linking.cascade import OwnCalibration
from zeshel_tasks.linking.entity_set import EntitySet
from zeshel_tasks.linking.fusion import Scores, best_candidates
from zeshel_tasks.linking.listwise import Flags
from zeshel_tasks.linking.loaded_models import LoadedModels
from zeshel_tasks.linking.mention_texts import MentionInContext, MentionText, mention_text
from zeshel_tasks.linking.reranker import Reranker
from zeshel_tasks.linking.search import retrieve_candidates

MENTIONS_AT_ONCE = 1024
"""Mentions whose contexts and candidates are in memory together: about 20 MB."""


@dataclass(frozen=True, slots=True)
class Linked:
    """The candidates of a mention, best first by the final score; of equal ones, the one that retrieval prefers.

    Attributes:
        positions: int64 [candidates], of the entities.
        retrieval: float32 [candidates], scores of the retriever.
        crossencoder: float32 [candidates], scores of the cross-encoder; None if the mention was not re-ranked.
        final: float32 [candidates], final scores; those of the retriever if the mention was not re-ranked.
        share: the first candidate's share of the softmax of the final scores. No probability that it is right.
        right: probability that the first candidate is right; None without a calibration.
        none: probability that the knowledge base has no entity for the mention; None without a calibration.
    """

    positions: Rows
    retrieval: Scores
    crossencoder: Scores | None
    final: Scores
    share: float
    right: float | None
    none: float | None


class Linker:
    """Links mentions. It may be used for any number of calls, one after the other.

    Args:
        models: the models in memory, which other linkers may share.
        entities: the knowledge base, encoded with the bi-encoder of ``models``.
        own: what scores mean in this knowledge base; None for what they mean elsewhere.

    Attributes:
        calibrations: what turns scores into probabilities.

    Raises:
        ConfigError: another bi-encoder has encoded the entities.
    """

    def __init__(self, models: LoadedModels, entities: EntitySet, own: OwnCalibration | None = None) -> None:
        if entities.biencoder != models.biencoder:
            raise ConfigError(
                f"--kb: expected {entities.name} encoded with the bi-encoder {models.biencoder[:12]} of run "
                f"{models.run}, got it encoded with {entities.biencoder[:12]}: build it again with these models"
            )
        self._models, self._entities, self._config = models, entities, models.config
        self._retriever, self._fusion, self._search = models.retriever, models.fusion, models.search
        self.calibrations = replace(models.calibrations, own=own)
        self._has_tokens = models.reranker is not None and models.reranker.can_read(entities.tokens_identity)

    def link(self, mentions: Iterable[MentionInContext], mode: LinkMode | None = None) -> Iterator[Linked]:
        """Links mentions, in order. Reads :data:`MENTIONS_AT_ONCE` of them before it returns the first.

        Args:
            mentions: the mentions.
            mode: which of them are re-ranked; None for that of the settings.

        Raises:
            ConfigError: the models cannot link in this mode.
        """
        mode = mode or self._config.mode
        self._models.check(mode)
        waiting = iter(mentions)
        chunks = iter(lambda: list(islice(waiting, MENTIONS_AT_ONCE)), [])
        return (linked for chunk in chunks for linked in self._link(chunk, mode))

    def _link(self, mentions: Sequence[MentionInContext], mode: LinkMode) -> Iterator[Linked]:
        retrieval, positions = self._retrieve(mentions)
        is_clear = self.calibrations.is_clear(mode, retrieval)
        crossencoder, final = np.full_like(retrieval, np.nan), retrieval.copy()
        if self._models.reranker is not None and not is_clear.all():
            rows = np.flatnonzero(~is_clear)
            some = [mentions[row] for row in rows.tolist()]
            crossencoder[rows] = self._rerank(self._models.reranker, some, positions[rows])
            final[rows] = self._fusion.final_scores(crossencoder[rows], retrieval[rows])
        _, share = best_candidates(final)
        right, none = self._probabilities(final, retrieval, crossencoder, is_clear)
        order = np.argsort(-final, axis=1, kind="stable")
        for row, best in enumerate(order):
            yield Linked(
                positions=positions[row, best],
                retrieval=retrieval[row, best],
                crossencoder=None if is_clear[row] else crossencoder[row, best],
                final=final[row, best],
                share=float(share[row]),
                right=right[row],
                none=none[row],
            )

    def _probabilities(
        self, final: Scores, retrieval: Scores, crossencoder: Scores, is_clear: Flags
    ) -> tuple[Sequence[float | None], Sequence[float | None]]:
        """Returns :attr:`Linked.right` and :attr:`Linked.none` of some mentions."""
        reranked, clear = self.calibrations.of_reranked, self.calibrations.of_clear
        if reranked is None:
            unknown = [None] * len(final)
            return unknown, unknown
        found, rest, share = np.empty((2, len(final)), dtype=np.float32), ~is_clear, self._config.nil_share
        if clear is not None:
            found[:, is_clear] = clear.probabilities(final[is_clear], retrieval[is_clear], None, share)
        found[:, rest] = reranked.probabilities(final[rest], retrieval[rest], crossencoder[rest], share)
        right, none = found.tolist()
        return right, none

    def _retrieve(self, mentions: Sequence[MentionInContext]) -> tuple[Scores, Rows]:
        """Returns scores and positions of the candidates, best first: [mentions, candidates]."""
        vectors, rows, k = self._entities.vectors, np.arange(len(mentions)), self._config.candidates
        contexts = self._search.tokens.mentions(_parts(mentions), self._search.max_context_length)
        progress = Progress(f"retrieve from {self._entities.name}", len(rows), "mentions", self._config.print_interval)
        dense = self._search.search(contexts, rows, self._entities.searched, k, progress)
        texts = _Texts([mention_text(mention, self._retriever.context_words) for mention in mentions])
        found = [
            part.candidates
            for part in retrieve_candidates(self._retriever, self._entities.index, texts, dense, vectors, k)
        ]
        return np.concatenate([part.scores for part in found]), np.concatenate([part.positions for part in found])

    def exact(self, mentions: Sequence[MentionInContext], k: int) -> Candidates:
        """Returns the best ``k`` entities of each mention by exact search with the bi-encoder alone."""
        rows = np.arange(len(mentions))
        contexts = self._search.tokens.mentions(_parts(mentions), self._search.max_context_length)
        progress = Progress(f"search {self._entities.name}", len(rows), "mentions", self._config.print_interval)
        parts = list(self._search.search(contexts, rows, self._entities.vectors, k, progress))
        return Candidates(*(np.concatenate(column) for column in zip(*parts, strict=True)))

    def _rerank(self, reranker: Reranker, mentions: Sequence[MentionInContext], positions: Rows) -> Scores:
        """Returns the cross-encoder's scores of the candidates: float32 [mentions, candidates]."""
        contexts = reranker.tokens.mentions(_parts(mentions), reranker.settings.max_context_length)
        table, candidates = self._tokens_of(reranker, positions)
        sets = _candidate_sets(contexts, candidates, table)
        scores = np.empty(positions.shape, dtype=np.float32)
        progress = Progress("score", len(mentions), "mentions", self._config.print_interval)
        size = self._config.score_batch_size
        with guarded_batches(self._config, progress, "scoring", "score_batch_size") as count:
            for start in range(0, len(mentions), size):
                rows = np.arange(start, min(start + size, len(mentions)))
                scores[rows] = reranker.scores(sets, rows, "of candidates")
                count(len(rows))
        return scores

    def _tokens_of(self, reranker: Reranker, positions: Rows) -> tuple[TokenTable, Rows]:
        """Returns a token table for the cross-encoder, and the rows of the candidates in it.

        If the bi-encoder has tokenized the entities in another way, the candidates are tokenized here.
        """
        if self._has_tokens:
            return self._entities.tokens, positions
        distinct, rows = np.unique(positions, return_inverse=True)
        documents = [self._entities.documents[int(position)] for position in distinct]
        pairs = [(document.title, document.text) for document in documents]
        table = reranker.tokens.candidates(pairs, reranker.settings.max_cand_length)
        return table, rows.reshape(positions.shape)


class _Texts:
    """Texts of mentions by row, in memory."""

    def __init__(self, texts: Sequence[MentionText]) -> None:
        self._texts = texts

    def of(self, rows: Rows) -> list[MentionText]:
        return [self._texts[row] for row in rows]


def _parts(mentions: Iterable[MentionInContext]) -> list[tuple[str, str, str]]:
    return [(mention.context_left, mention.mention, mention.context_right) for mention in mentions]


def _candidate_sets(contexts: TokenTable, candidates: Rows, tokens: TokenTable) -> CandidateSets:
    """Returns mentions of a single world, whose golds are unknown."""
    nothing = np.zeros(len(contexts), dtype=np.int32)
    unknown = np.full(len(contexts), -1, dtype=np.int32)
    mentions = MentionTable(contexts, world=nothing, label=unknown, category=nothing, worlds=[""], categories=[""])
    return CandidateSets(mentions, candidates.astype(np.int32), gold_rank=unknown, tokens={"": tokens})
