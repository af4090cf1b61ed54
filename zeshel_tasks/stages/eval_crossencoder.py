"""eval-crossencoder: score every mention's candidates, measure the accuracy of the cross-encoder alone."""

from __future__ import annotations

import logging

import numpy as np

from zeshel_tasks.compute.device import Inference, device_name
from zeshel_tasks.compute.inference_guard import guarded_batches
from zeshel_tasks.compute.progress import Progress
from zeshel_tasks.data.arrays import Rows, new_array, read_array, release
from zeshel_tasks.data.candidate_sets import CandidateSets
from zeshel_tasks.evaluation.measures import accuracy_metrics
from zeshel_tasks.linking.reranker import Reranker
from zeshel_tasks.pipeline.contract import derived_artifact
from zeshel_tasks.pipeline.job import Job
from zeshel_tasks.stages.inputs import SCORES, candidate_sets
from zeshel_tasks.store import Artifact, Metrics

log = logging.getLogger(__name__)


class _Scorer:
    """Scores the candidates of one split, one world after the other."""

    def __init__(self, job: Job, reranker: Reranker, sets: CandidateSets) -> None:
        self._job, self._config, self._reranker, self._sets = job, job.recipe.eval_crossencoder, reranker, sets
        job.device = device_name(reranker.placement)

    def scored(self, world: str, rows: Rows) -> Artifact:
        """Scores of the candidates of the mentions ``rows`` of a world; reuses those of an earlier attempt."""
        config = {"world": world, "split": self._job.split, "precision": self._config.precision}
        inputs = {name: artifact.manifest.fingerprint for name, artifact in self._job.inputs.items()}
        return derived_artifact(
            self._job, "candidate-scores", config, inputs, lambda job: self._score(job, world, rows)
        )

    def _score(self, job: Job, world: str, rows: Rows) -> Metrics:
        path = job.scratch / SCORES
        scores = new_array(path, np.float32, (len(rows), self._sets.candidates.shape[1]))
        progress = Progress(f"score {world}", len(rows), "mentions", self._config.print_interval)
        size = self._config.eval_batch_size
        with guarded_batches(self._config, progress, f"scoring {world}", "eval_batch_size") as count:
            for start in range(0, len(rows), size):
                batch = rows[start : start + size]
                scores[start : start + size] = self._reranker.scores(self._sets, batch, f"on {self._job.split}")
                count(len(batch))
        scores.flush()
        job.attempt.add(SCORES, path)
        return {"world": world, "mentions": len(rows), "mentions_per_second": round(progress.rate, 1)}


def work(job: Job) -> Metrics:
    """Does the stage's work; returns the metrics of its manifest."""
    assert job.split is not None
    model, folder = job.inputs["train-crossencoder"].directory("model"), job.scratch / "candidates"
    reranker = Reranker(model, Inference.of(job.recipe.eval_crossencoder))
    settings, tokens = reranker.settings, reranker.tokens
    sets = candidate_sets(job, job.split, tokens, settings.max_context_length, settings.max_cand_length, folder)
    scorer = _Scorer(job, reranker, sets)
    scores = new_array(job.scratch / SCORES, np.float32, sets.candidates.shape)
    best = np.zeros(len(sets.mentions), dtype=np.int64)
    for world, rows in sets.mentions.rows_of_world().items():
        scores[rows] = of_world = read_array(scorer.scored(world, rows).path(SCORES))
        best[rows] = of_world.argmax(1)
        release(scores)
    scores.flush()
    job.attempt.add(SCORES, job.scratch / SCORES)
    correct = best == sets.gold_rank
    mentions = sets.mentions
    metrics = accuracy_metrics(
        correct, sets.gold_rank >= 0, mentions.rows_of_world(), mentions.category, mentions.categories
    )
    log.info(
        "accuracy: %s of %s golds retrieved, unnormalized %.4f",
        f"{metrics.retrieved:,}",
        f"{metrics.mentions:,}",
        metrics.unnormalized_accuracy.micro,
    )
    return {"split": job.split, **metrics.dump()}
