"""fit-retrieval: fit the weights of the hybrid retriever on the valid mentions."""

from __future__ import annotations

import logging
from collections.abc import Mapping

import numpy as np
import numpy.typing as npt

from zeshel_tasks.compute.progress import Progress
from zeshel_tasks.config.retrieval import FitRetrievalConfig
from zeshel_tasks.config.splits import Split
from zeshel_tasks.data.arrays import Rows
from zeshel_tasks.data.vector_file import VectorFile
from zeshel_tasks.evaluation.measures import describe_recall, method_recall
from zeshel_tasks.linking.features import FEATURES, Pool, pool_of
from zeshel_tasks.linking.listwise import Weights, combined, fit_weights
from zeshel_tasks.linking.metrics import FitMetrics
from zeshel_tasks.linking.retriever import FILE, Retriever
from zeshel_tasks.linking.search import GoldRanks, Retrieved, in_parts, search_all
from zeshel_tasks.pipeline.job import Job
from zeshel_tasks.stages.retrieval import DenseRetriever, lexical_index, mention_texts
from zeshel_tasks.store import Metrics
from zeshel_tasks.text.json_text import to_json

Ranks = npt.NDArray[np.int32]

_SPLIT: Split = "valid"
_CANDIDATES = 64  # by each method
_MENTIONS = 10_000  # as many as ZESHEL's valid has; bounds memory

log = logging.getLogger(__name__)


def work(job: Job) -> Metrics:
    """Does the stage's work; returns the metrics of its manifest. Loads no model unless the retriever is hybrid."""
    config = job.recipe.fit_retrieval
    if config.hybrid:
        retriever, metrics = _fit(job, config)
    else:
        retriever, metrics = Retriever(), FitMetrics(hybrid=False)
        log.info("the bi-encoder retrieves alone, so there is nothing to fit")
    path = job.scratch / FILE
    path.write_text(to_json(retriever.model_dump(), indent=1))
    job.attempt.add(FILE, path)
    return metrics.dump()


def _fit(job: Job, config: FitRetrievalConfig) -> tuple[Retriever, FitMetrics]:
    dense = DenseRetriever(job, config)
    table, texts = dense.mentions(_SPLIT), mention_texts(job, _SPLIT, config.context_words)
    chosen = _spread(len(table), _MENTIONS)
    rows_of_world = {name: np.flatnonzero(table.world[chosen] == n) for n, name in enumerate(table.worlds)}
    ranks, pools = GoldRanks(len(table)), list[Pool]()
    for world, rows in rows_of_world.items():
        vectors, index = VectorFile(dense.encodings(world).path("vectors.npy")), lexical_index(job, world)
        progress = Progress(f"retrieve {world}", len(rows), "mentions", config.print_interval)
        for part in in_parts(dense.search(table, chosen[rows], vectors, _CANDIDATES, progress), _CANDIDATES):
            found = search_all(index, texts, part, _CANDIDATES)
            ranks.put(Retrieved(part, part, [lexical.baselines for lexical in found]), table.label[part.rows])
            pools.append(pool_of(found, part, vectors))
    by_world = np.concatenate(list(rows_of_world.values()))  # rows in the order of the pools
    pool = Pool.joined(pools)
    at_gold = pool.positions == table.label[chosen[by_world], None]
    gold = np.where(at_gold.any(1), at_gold.argmax(1), -1)
    weights = fit_weights(pool.features, gold, pool.present, importance=_importance(rows_of_world))
    retriever = Retriever(
        hybrid=True,
        context_words=config.context_words,
        weights=dict(zip(FEATURES, weights.tolist(), strict=True)),
    )
    by_method: dict[str, Ranks] = {method: of_all[chosen] for method, of_all in ranks.by_method.items()}
    by_method["hybrid"] = np.empty(len(chosen), dtype=np.int32)
    by_method["hybrid"][by_world] = _ranks(pool, weights, gold)
    recall = {method: method_recall(rank, rows_of_world, _CANDIDATES) for method, rank in by_method.items()}
    for method, measured in recall.items():
        log.info("recall of %s: %s", method, describe_recall(measured.micro))
    job.uses.clear()  # nothing reads them by way of this artifact, which a champion keeps
    log.info("weights: %s", "  ".join(f"{name} {weight:.3f}" for name, weight in retriever.weights.items()))
    return retriever, FitMetrics(hybrid=True, mentions=len(chosen), weights=retriever.weights, recall=recall)


def _importance(rows_of_world: Mapping[str, Rows]) -> npt.NDArray[np.float64]:
    """How much each mention counts, in the order of the pools: a world as much as the root of its mentions.

    The retriever is for other worlds. If each mention counted the same, the largest world of valid would decide; if
    each world did, the chance of a few mentions.
    """
    return np.concatenate([np.full(len(rows), max(1, len(rows)) ** -0.5) for rows in rows_of_world.values()])


def _spread(count: int, most: int) -> Rows:
    """At most ``most`` of ``count`` rows, evenly spread."""
    return np.unique(np.linspace(0, count - 1, min(count, most)).astype(np.int64))


def _ranks(pool: Pool, weights: Weights, gold: Rows) -> Ranks:
    """Ranks of the golds in the order of the fitted score, -1 if beyond the candidates of one method."""
    order = np.argsort(-combined(pool.features, weights, pool.present), axis=1, kind="stable")[:, :_CANDIDATES]
    at_gold = order == gold[:, None]
    return np.where(at_gold.any(1), at_gold.argmax(1), -1).astype(np.int32)
