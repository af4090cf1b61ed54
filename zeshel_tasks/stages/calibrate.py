"""calibrate: fit on valid what the final scores mean, and measure it on every split."""

from __future__ import annotations

import logging

import numpy as np

from zeshel_tasks.config import ALL_SPLITS, Split
from zeshel_tasks.data.arrays import read_array
from zeshel_tasks.data.json_lines import read_json_lines
from zeshel_tasks.linking.calibration import CALIBRATION_FILE, Probabilities, lowest_threshold
from zeshel_tasks.linking.calibration_metrics import CalibrationMetrics, SplitCalibration
from zeshel_tasks.linking.fit_calibration import Fitted, RankedScores, fit_calibration
from zeshel_tasks.linking.logistic import Values, probability
from zeshel_tasks.linking.reliability import Judged, NilScores, Thresholds, split_calibration
from zeshel_tasks.pipeline.job import Job
from zeshel_tasks.stages.fuse import PREDICTIONS
from zeshel_tasks.stages.inputs import SCORES, RankedSplit
from zeshel_tasks.store import Metrics

PROBABILITIES = "probabilities.npy"

log = logging.getLogger(__name__)


def work(job: Job) -> Metrics:
    """Does the stage's work; returns the metrics of its manifest."""
    valid, _ = _scores(job, "valid")
    fitted = fit_calibration(valid)
    path = job.scratch / CALIBRATION_FILE
    path.write_text(fitted.calibration.model_dump_json(indent=1))
    job.attempt.add(CALIBRATION_FILE, path)
    precision = job.recipe.calibrate.linked_precision
    thresholds = Thresholds(fitted.calibration.threshold(precision), _softmax_threshold(valid, precision))
    splits = [split for split in ALL_SPLITS if f"eval-crossencoder-{split}" in job.inputs]
    return CalibrationMetrics(
        linked_precision=precision,
        threshold=thresholds.right,
        softmax_threshold=thresholds.softmax,
        right=fitted.calibration.right.weights,
        none=fitted.calibration.none.weights,
        splits={split: _calibrated(job, split, fitted, thresholds) for split in splits},
    ).dump()


def _scores(job: Job, split: Split) -> tuple[RankedScores, list[str]]:
    """All scores of a split's mentions in file order, and the names of its worlds in the order of their numbers."""
    fused = job.inputs["fuse"]
    ranked = RankedSplit.read(job.inputs[f"eval-biencoder-{split}"], job.inputs[f"eval-crossencoder-{split}"])
    names = [prediction["world"] for prediction in read_json_lines(fused.path(f"{split}/{PREDICTIONS}"))]
    worlds, number = np.unique(names, return_inverse=True)
    final = read_array(fused.path(f"{split}/{SCORES}"), mapped=True)
    scores = RankedScores(final, ranked.retrieval, ranked.crossencoder, ranked.gold_rank, number.astype(np.int32))
    return scores, worlds.tolist()


def _softmax(scores: RankedScores) -> Values:
    """The logarithms of the odds that the softmax over a mention's candidates gives the best one."""
    return scores.features[:, 0]


def _softmax_threshold(valid: RankedScores, precision: float) -> float:
    correct = valid.correct.astype(np.float64)
    return lowest_threshold(probability(_softmax(valid)), correct, np.ones(len(correct)), precision)


def _calibrated(job: Job, split: Split, fitted: Fitted, thresholds: Thresholds) -> SplitCalibration:
    """Writes the probabilities of a split; returns what they are worth."""
    scores, worlds = _scores(job, split)
    masked = scores.masked()
    found, without = (fitted.calibration.probabilities(*part[:3]) for part in (scores, masked))
    path = job.new_folder(split) / PROBABILITIES
    np.save(path, np.stack(found, axis=1))
    job.attempt.add(f"{split}/{PROBABILITIES}", path)
    if split == "valid":  # the final model has seen it
        found, without = fitted.valid, fitted.masked
    measured = split_calibration(
        Judged(found.right.astype(np.float64), _softmax(scores), scores.correct),
        _nil(found, without),
        NilScores(-_softmax(scores), -_softmax(masked)),
        thresholds,
        {name: np.flatnonzero(scores.world == number) for number, name in enumerate(worlds)},
    )
    log.info(
        "%s: calibration error %.4f, softmax %.4f; precision %s at the threshold for %g; risk area %+.4f; missing "
        "entities: area %s",
        split,
        measured.right.calibration_error,
        measured.softmax.calibration_error,
        _rate(measured.right.at_threshold.precision),
        job.recipe.calibrate.linked_precision,
        measured.risk_difference.difference,
        _rate(measured.nil.area),
    )
    return measured


def _nil(found: Probabilities, without: Probabilities) -> NilScores:
    return NilScores(found.none.astype(np.float64), without.none.astype(np.float64))


def _rate(value: float | None) -> str:
    return "-" if value is None else f"{value:.4f}"
