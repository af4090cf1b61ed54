"""The artifact of calibrate, in a finished run of the whole recipe."""

from pathlib import Path

import numpy as np
import pytest

from tests.support.finished import manifest_of
from zeshel_tasks.config.results import CalibrateConfig
from zeshel_tasks.linking.calibration import Calibration
from zeshel_tasks.linking.calibration_metrics import CalibrationMetrics
from zeshel_tasks.linking.cascade import Cascade
from zeshel_tasks.linking.fit_calibration import RankedScores
from zeshel_tasks.linking.metrics import FusionMetrics
from zeshel_tasks.linking.reliability import NilScores, nil_metrics
from zeshel_tasks.stages.inputs import RankedSplit
from zeshel_tasks.store import Run

SPLITS = ("valid", "test")


@pytest.fixture
def metrics(finished_run: Run) -> CalibrationMetrics:
    return CalibrationMetrics.model_validate(manifest_of(finished_run, "calibrate").metrics)


@pytest.mark.parametrize("split", SPLITS)
def test_probabilities_are_those_of_the_calibration(finished_run: Run, split: str, tmp_path: Path) -> None:
    made, fused, retrieved, scored = (
        finished_run.artifact(name, tmp_path)
        for name in ("calibrate", "fuse", f"eval-biencoder-{split}", f"eval-crossencoder-{split}")
    )
    calibration = Calibration.model_validate_json(made.path("calibration.json").read_bytes())
    scores = fused.path(f"{split}/scores.npy"), retrieved.path("scores.npy"), scored.path("scores.npy")
    expected = calibration.probabilities(*(np.load(path) for path in scores))
    written = np.load(made.path(f"{split}/probabilities.npy"), allow_pickle=False)
    assert written.dtype == np.float32
    np.testing.assert_array_equal(written, np.stack(expected, axis=1))
    assert ((written > 0) & (written < 1)).all()


@pytest.mark.parametrize("split", SPLITS)
def test_calibration_is_measured_on_all_mentions_by_world(
    finished_run: Run, metrics: CalibrationMetrics, split: str
) -> None:
    fused = FusionMetrics.model_validate(manifest_of(finished_run, "fuse").metrics)
    measured, linker = metrics.splits[split], fused.splits[split].linker
    assert measured.mentions == linker.mentions
    assert measured.accuracy == pytest.approx(linker.unnormalized_accuracy.micro)
    assert {world: group.mentions for world, group in measured.worlds.items()} == {
        world: group.mentions for world, group in linker.worlds.items()
    }
    for world, group in linker.worlds.items():
        assert measured.worlds[world].accuracy == pytest.approx(group.unnormalized_accuracy)
    assert measured.nil.mentions == 2 * linker.mentions


@pytest.mark.parametrize("split", SPLITS)
def test_modes_are_compared_with_the_accuracy_of_the_evaluation(
    finished_run: Run, metrics: CalibrationMetrics, split: str
) -> None:
    fused = FusionMetrics.model_validate(manifest_of(finished_run, "fuse").metrics).splits[split]
    found = metrics.cascade.splits[split]
    assert (found.modes["rerank"].reranked, found.modes["retrieve"].reranked) == (1, 0)
    for mode, known in (("rerank", fused.linker), ("retrieve", fused.retriever)):
        assert found.modes[mode].accuracy == pytest.approx(known.unnormalized_accuracy.micro)
        for world, group in known.worlds.items():
            assert found.worlds[world][mode].accuracy == pytest.approx(group.unnormalized_accuracy)
    rerank, cascade = found.modes["rerank"], found.modes["cascade"]
    assert rerank.calibration_error == pytest.approx(metrics.splits[split].right.calibration_error)
    if split == "valid":
        assert cascade.accuracy >= rerank.accuracy - CalibrateConfig().cascade_loss - 1e-9
    assert metrics.cascade.loss == CalibrateConfig().cascade_loss == 0.003


def test_cascade_of_test_is_that_of_the_file(finished_run: Run, metrics: CalibrationMetrics, tmp_path: Path) -> None:
    cascade = Cascade.model_validate_json(
        finished_run.artifact("calibrate", tmp_path).path("cascade.json").read_bytes()
    )
    assert cascade.clear_from == metrics.cascade.clear_from
    retrieval = np.load(finished_run.artifact("eval-biencoder-test", tmp_path).path("scores.npy"))
    reranked = 1 - cascade.is_clear(retrieval).mean()
    assert metrics.cascade.splits["test"].modes["cascade"].reranked == pytest.approx(reranked)


def test_threshold_has_the_wanted_precision_on_valid(metrics: CalibrationMetrics) -> None:
    assert metrics.linked_precision == CalibrateConfig().linked_precision
    on_valid = metrics.splits["valid"]
    for found, threshold in ((on_valid.right, metrics.threshold), (on_valid.softmax, metrics.softmax_threshold)):
        if threshold is None:
            assert found.at_threshold.precision is None
        else:
            assert found.at_threshold.precision is not None
            assert found.at_threshold.precision >= 0.95


def test_valid_is_measured_by_models_that_have_not_seen_its_worlds(
    finished_run: Run, metrics: CalibrationMetrics, tmp_path: Path
) -> None:
    made, fused = (finished_run.artifact(name, tmp_path) for name in ("calibrate", "fuse"))
    calibration = Calibration.model_validate_json(made.path("calibration.json").read_bytes())
    for split, seen in (("valid", True), ("test", False)):
        steps = (finished_run.artifact(f"eval-{model}-{split}", tmp_path) for model in ("biencoder", "crossencoder"))
        ranked = RankedSplit.read(*steps)
        final = np.load(fused.path(f"{split}/scores.npy"))
        scores = RankedScores(
            final, ranked.retrieval, ranked.crossencoder, ranked.gold_rank, np.zeros(len(final), dtype=np.int32)
        )
        of_calibration = NilScores(*(calibration.probabilities(*part[:3]).none for part in (scores, scores.masked())))
        expected = nil_metrics(of_calibration, of_calibration).calibration_error
        assert (metrics.splits[split].nil.calibration_error != pytest.approx(expected, abs=1e-5)) is seen
