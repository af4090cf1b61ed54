"""eval-crossencoder: re-rank every mention's candidates, measure accuracy."""

from __future__ import annotations

import logging
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch

from zeshel_tasks.data.candidate_sets import CandidateSets
from zeshel_tasks.data.tokens import Tokens
from zeshel_tasks.evaluation.measures import accuracy_metrics
from zeshel_tasks.evaluation.rerank import candidate_scores
from zeshel_tasks.models.crossencoder import load_crossencoder
from zeshel_tasks.progress import Progress
from zeshel_tasks.stages.contract import Job, Metrics
from zeshel_tasks.stages.inputs import candidate_sets
from zeshel_tasks.stages.json_lines import write_json_lines
from zeshel_tasks.training.device import build_accelerator, device_name

log = logging.getLogger(__name__)


def work(job: Job) -> Metrics:
    """Does the stage's work; returns the metrics of its manifest."""
    assert job.split is not None
    model, settings, tokenizer = load_crossencoder(job.inputs["train-crossencoder"].directory("model"))
    tokens, folder = Tokens(tokenizer), job.scratch / "candidates"
    sets = candidate_sets(job, job.split, tokens, settings.max_context_length, settings.max_cand_length, folder)
    best, confidence = _rerank(job, model, sets, settings.max_seq_length, tokens.pad)
    correct = best == sets.gold_rank
    job.attempt.add("predictions.jsonl", _write_predictions(job.scratch / "predictions.jsonl", sets, best, confidence))
    metrics = accuracy_metrics(correct, sets.gold_rank >= 0, sets.mentions.rows_of_world(), sets.mentions.category)
    log.info(
        "accuracy: %s of %s golds retrieved, unnormalized %.4f",
        f"{metrics['retrieved']:,}",
        f"{metrics['mentions']:,}", metrics["unnormalized_accuracy"]["micro"],
    )  # fmt: skip
    return {"split": job.split, **metrics}


def _rerank(
    job: Job, model: torch.nn.Module, sets: CandidateSets, max_seq_length: int, pad: int
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.float32]]:
    """For each mention, the column of the best candidate and its probability among the candidates."""
    config = job.recipe.eval_crossencoder
    accelerator = build_accelerator(config)
    job.device = device_name(accelerator.device)
    model = model.to(accelerator.device).eval()
    best = np.zeros(len(sets.mentions), dtype=np.int64)
    confidence = np.zeros(len(sets.mentions), dtype=np.float32)
    progress = Progress("score", len(sets.mentions), "mentions", config.print_interval)
    for start in range(0, len(best), config.eval_batch_size):
        rows = np.arange(start, min(start + config.eval_batch_size, len(best)))
        with torch.inference_mode(), accelerator.autocast():
            scores = candidate_scores(model, sets, rows, max_seq_length, pad, accelerator.device)
        highest = scores.float().softmax(1).max(1)
        best[rows], confidence[rows] = highest.indices.cpu().numpy(), highest.values.cpu().numpy()
        progress.update(len(rows))
    return best, confidence


def _write_predictions(
    path: Path, sets: CandidateSets, best: npt.NDArray[np.int64], confidence: npt.NDArray[np.float32]
) -> Path:
    mentions = sets.mentions
    predicted = sets.candidates[np.arange(len(best)), best]
    return write_json_lines(
        path,
        [
            {
                "mention_id": mentions.mention_id[row],
                "world": mentions.worlds[mentions.world[row]],
                "category": mentions.category[row],
                "label_id": int(mentions.label[row]),
                "predicted_id": int(predicted[row]),
                "correct": bool(predicted[row] == mentions.label[row]),
                "confidence": round(float(confidence[row]), 6),
                "gold_rank": None if sets.gold_rank[row] < 0 else int(sets.gold_rank[row]) + 1,
            }
            for row in range(len(best))
        ],
    )
