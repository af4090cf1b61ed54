"""eval-crossencoder: score every mention's candidates, measure the accuracy of the cross-encoder alone."""

from __future__ import annotations

import logging

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from zeshel_tasks.compute.device import build_accelerator, device_name
from zeshel_tasks.compute.inference_guard import guarded_batches
from zeshel_tasks.compute.progress import Progress
from zeshel_tasks.data.arrays import Rows, new_array, read_array, release
from zeshel_tasks.data.candidate_sets import CandidateSets
from zeshel_tasks.evaluation.measures import accuracy_metrics
from zeshel_tasks.evaluation.rerank import candidate_scores, checked_scores
from zeshel_tasks.models.crossencoder import load_crossencoder
from zeshel_tasks.models.inference import ready_for_inference
from zeshel_tasks.pipeline.contract import derived_artifact
from zeshel_tasks.pipeline.job import Job
from zeshel_tasks.stages.inputs import SCORES, candidate_sets
from zeshel_tasks.store import Artifact, Metrics

log = logging.getLogger(__name__)


class _Scorer:
    """Scores the candidates of one split, one world after the other."""

    def __init__(self, job: Job, model: nn.Module, sets: CandidateSets, max_seq_length: int, pad: int) -> None:
        self._job, self._config, self._sets = job, job.recipe.eval_crossencoder, sets
        self._max_seq_length, self._pad = max_seq_length, pad
        self._accelerator = build_accelerator(self._config)
        job.device = device_name(self._accelerator)
        self._model = ready_for_inference(model, self._accelerator)

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
                scores[start : start + size] = self._scores(batch)
                count(len(batch))
        scores.flush()
        job.attempt.add(SCORES, path)
        return {"world": world, "mentions": len(rows), "mentions_per_second": round(progress.rate, 1)}

    def _scores(self, rows: Rows) -> npt.NDArray[np.float32]:
        with torch.inference_mode(), self._accelerator.autocast():
            scores = candidate_scores(
                self._model, self._sets, rows, self._max_seq_length, self._pad, self._accelerator.device
            )
            doing, expected = f"on {self._job.split}", "a cross-encoder with finite scores"
            return checked_scores(scores, self._sets.candidates[rows], doing, expected)


def work(job: Job) -> Metrics:
    """Does the stage's work; returns the metrics of its manifest."""
    assert job.split is not None
    model, settings, tokens = load_crossencoder(job.inputs["train-crossencoder"].directory("model"))
    folder = job.scratch / "candidates"
    sets = candidate_sets(job, job.split, tokens, settings.max_context_length, settings.max_cand_length, folder)
    scorer = _Scorer(job, model, sets, settings.max_seq_length, tokens.pad)
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
