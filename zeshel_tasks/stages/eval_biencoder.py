"""eval-biencoder: retrieve the top-k candidates of every mention, measure recall."""

from __future__ import annotations

import logging
from typing import Any

from zeshel_tasks.compute.progress import Progress
from zeshel_tasks.data.vector_file import VectorFile
from zeshel_tasks.evaluation.candidate_files import CandidateFiles
from zeshel_tasks.evaluation.measures import describe_recall, method_recall, recall_metrics
from zeshel_tasks.linking.search import GoldRanks, retrieve_candidates
from zeshel_tasks.pipeline.job import Job
from zeshel_tasks.stages.inputs import world_size
from zeshel_tasks.stages.retrieval import DenseRetriever, fitted_retriever, lexical_index, mention_texts
from zeshel_tasks.store import Metrics
from zeshel_tasks.text.json_text import to_json

log = logging.getLogger(__name__)


def work(job: Job) -> Metrics:
    """Does the stage's work; returns the metrics of its manifest."""
    assert job.split is not None
    config, retriever = job.recipe.eval_biencoder, fitted_retriever(job)
    dense = DenseRetriever(job, config)
    table, texts = dense.mentions(job.split), mention_texts(job, job.split, retriever.context_words)
    rows_of_world, folder = table.rows_of_world(), job.new_folder("candidates")
    files, alone = CandidateFiles(folder, len(table), config.top_k), GoldRanks(len(table))
    encodings: dict[str, Any] = {}
    seconds = 0.0
    for world, rows in rows_of_world.items():
        encoded, index = dense.encodings(world), lexical_index(job, world)
        encodings[world] = encoded.record
        vectors = VectorFile(encoded.path("vectors.npy"))
        progress = Progress(f"retrieve {world}", len(rows), "mentions", config.print_interval)
        candidates = dense.search(table, rows, vectors, config.top_k, progress)
        for found in retrieve_candidates(retriever, index, texts, candidates, vectors, config.top_k):
            label = table.label[found.candidates.rows]
            files.put(found.candidates.rows, found.candidates.scores, found.candidates.positions, label)
            alone.put(found, label)
        seconds += progress.seconds
    files.save()
    alone.save(folder)
    (folder / "encodings.json").write_text(to_json(encodings, indent=1))
    for path in folder.iterdir():
        job.attempt.add(path.name, path)
    entities = {world: world_size(job.inputs["download"], world) for world in rows_of_world}
    metrics = recall_metrics(files.gold_rank, rows_of_world, entities, config.top_k)
    methods = {
        method: method_recall(rank, rows_of_world, config.top_k)
        for method, rank in alone.by_method.items()
        if retriever.hybrid or method != "biencoder"  # else it is the result
    }
    for method, recall in methods.items():
        log.info("recall of %s alone: %s", method, describe_recall(recall.micro))
    log.info("recall: %s", describe_recall(metrics.recall.micro))
    metrics = metrics.model_copy(update={"methods": methods})
    return {"split": job.split, **metrics.dump(), "mentions_per_second": round(len(table) / seconds, 1)}
