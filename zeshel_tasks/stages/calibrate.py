"""calibrate: fit on valid what the final scores mean, choose the cascade, and measure both on every split."""

from __future__ import annotations

import logging
from typing import NamedTuple

import numpy as np
from pydantic import BaseModel

from zeshel_tasks.config.link import LinkMode
from zeshel_tasks.config.splits import ALL_SPLITS, Split
from zeshel_tasks.data.arrays import Rows, read_array
from zeshel_tasks.data.json_lines import read_json_lines
from zeshel_tasks.linking.calibration import CALIBRATION_FILE, Probabilities, lowest_threshold
from zeshel_tasks.linking.calibration_metrics import CalibrationMetrics, CascadeMetrics, SplitCalibration, SplitModes
from zeshel_tasks.linking.cascade import CASCADE_FILE, Cascade
from zeshel_tasks.linking.fit_calibration import Fitted, RankedScores, fit_calibration
from zeshel_tasks.linking.fit_cascade import LinkedMentions, fit_cascade, link_in_modes
from zeshel_tasks.linking.logistic import Values, probability
from zeshel_tasks.linking.reliability import Judged, NilScores, Thresholds, split_calibration, split_modes
from zeshel_tasks.pipeline.job import Job
from zeshel_tasks.stages.fuse import PREDICTIONS
from zeshel_tasks.stages.inputs import SCORES, RankedSplit
from zeshel_tasks.store import Metrics

PROBABILITIES = "probabilities.npy"

log = logging.getLogger(__name__)


class _Models(NamedTuple):
    """What was fitted on valid."""

    fitted: Fitted
    thresholds: Thresholds
    cascade: Cascade
    valid: dict[LinkMode, LinkedMentions]


class _Measured(NamedTuple):
    """What the models are worth on a split."""

    calibration: SplitCalibration
    modes: SplitModes


def work(job: Job) -> Metrics:
    """Does the stage's work; returns the metrics of its manifest."""
    config = job.recipe.calibrate
    valid, _ = _scores(job, "valid")
    fitted = fit_calibration(valid)
    cascade = fit_cascade(valid, fitted, config.cascade_loss)
    _add(job, CALIBRATION_FILE, fitted.calibration)
    _add(job, CASCADE_FILE, cascade.cascade)
    threshold = fitted.calibration.reference.threshold(config.linked_precision)
    thresholds = Thresholds(threshold, _softmax_threshold(valid, config.linked_precision))
    models = _Models(fitted, thresholds, *cascade)
    splits = [split for split in ALL_SPLITS if f"eval-crossencoder-{split}" in job.inputs]
    measured = {split: _measured(job, split, models) for split in splits}
    return CalibrationMetrics(
        linked_precision=config.linked_precision,
        threshold=thresholds.right,
        softmax_threshold=thresholds.softmax,
        right=fitted.calibration.right.weights,
        none=fitted.calibration.none.weights,
        cascade=CascadeMetrics(
            loss=config.cascade_loss,
            clear_from=cascade.cascade.clear_from,
            splits={split: found.modes for split, found in measured.items()},
        ),
        splits={split: found.calibration for split, found in measured.items()},
    ).dump()


def _add(job: Job, name: str, model: BaseModel) -> None:
    path = job.scratch / name
    path.write_text(model.model_dump_json(indent=1))
    job.attempt.add(name, path)


def _scores(job: Job, split: Split) -> tuple[RankedScores, dict[str, Rows]]:
    """All scores of a split's mentions in file order, and the rows of each world."""
    fused = job.inputs["fuse"]
    ranked = RankedSplit.read(job.inputs[f"eval-biencoder-{split}"], job.inputs[f"eval-crossencoder-{split}"])
    names = [prediction["world"] for prediction in read_json_lines(fused.path(f"{split}/{PREDICTIONS}"))]
    worlds, number = np.unique(names, return_inverse=True)
    final = read_array(fused.path(f"{split}/{SCORES}"), mapped=True)
    scores = RankedScores(final, ranked.retrieval, ranked.crossencoder, ranked.gold_rank, number.astype(np.int32))
    return scores, {world: np.flatnonzero(number == place) for place, world in enumerate(worlds.tolist())}


def _softmax(scores: RankedScores) -> Values:
    """The logarithms of the odds that the softmax over a mention's candidates gives the best one."""
    return scores.features[:, 0]


def _softmax_threshold(valid: RankedScores, precision: float) -> float:
    correct = valid.correct.astype(np.float64)
    return lowest_threshold(probability(_softmax(valid)), correct, np.ones(len(correct)), precision)


def _measured(job: Job, split: Split, models: _Models) -> _Measured:
    """Writes the probabilities of a split; returns what they, and those of the other modes, are worth."""
    scores, rows_of_world = _scores(job, split)
    masked = scores.masked()
    calibration = models.fitted.calibration
    found, without = (calibration.probabilities(*part[:3]) for part in (scores, masked))
    path = job.new_folder(split) / PROBABILITIES
    np.save(path, np.stack(found, axis=1))
    job.attempt.add(f"{split}/{PROBABILITIES}", path)
    modes = models.valid if split == "valid" else link_in_modes(scores, found, models.cascade)
    if split == "valid":  # the final model has seen it
        found, without = models.fitted.valid, models.fitted.masked
    measured = split_calibration(
        Judged(found.right.astype(np.float64), _softmax(scores), scores.correct),
        _nil(found, without),
        NilScores(-_softmax(scores), -_softmax(masked)),
        models.thresholds,
        rows_of_world,
    )
    compared = split_modes(modes, rows_of_world)
    _log(split, measured, compared, job.recipe.calibrate.linked_precision)
    return _Measured(measured, compared)


def _log(split: Split, measured: SplitCalibration, compared: SplitModes, precision: float) -> None:
    log.info(
        "%s: calibration error %.4f, softmax %.4f; precision %s at the threshold for %g; risk area %+.4f; missing "
        "entities: area %s",
        split,
        measured.right.calibration_error,
        measured.softmax.calibration_error,
        _rate(measured.right.at_threshold.precision),
        precision,
        measured.risk_difference.difference,
        _rate(measured.nil.area),
    )
    log.info(
        "%s: accuracy %s; the cascade re-ranks %.1f%%",
        split,
        ", ".join(f"{mode} {found.accuracy:.4f}" for mode, found in compared.modes.items()),
        100 * compared.modes["cascade"].reranked,
    )


def _nil(found: Probabilities, without: Probabilities) -> NilScores:
    return NilScores(found.none.astype(np.float64), without.none.astype(np.float64))


def _rate(value: float | None) -> str:
    return "-" if value is None else f"{value:.4f}"
