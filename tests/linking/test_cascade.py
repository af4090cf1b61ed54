from typing import Any

import numpy as np
import pytest

from tests.linking.test_fit_calibration import example
from zeshel_tasks.errors import ConfigError
from zeshel_tasks.linking.calibration import FEATURES, features_of
from zeshel_tasks.linking.cascade import Calibrations, Cascade
from zeshel_tasks.linking.fit_calibration import RankedScores, fit_calibration
from zeshel_tasks.linking.fit_cascade import FittedCascade, fit_cascade, link_in_modes
from zeshel_tasks.linking.reliability import calibration_error, reliability


def two_models(seed: int = 0, **options: Any) -> RankedScores:
    """Mentions that the retriever links less often than both models together, and never better where it is sure."""
    found = example(seed=seed, sharpness=1.0, **options)
    assert found.crossencoder is not None
    return found._replace(final=(0.6 * found.retrieval + found.crossencoder).astype(np.float32))


def fitted(scores: RankedScores, loss: float = 0.003) -> FittedCascade:
    return fit_cascade(scores, fit_calibration(scores), loss)


@pytest.mark.parametrize("loss", [0.0, 0.003, 0.03])
def test_valid_loses_at_most_the_loss(loss: float) -> None:
    scores = two_models()
    modes = fitted(scores, loss).valid
    accuracy = {mode: linked.correct.mean() for mode, linked in modes.items()}
    assert accuracy["rerank"] - accuracy["cascade"] <= loss + 1e-9
    assert accuracy["rerank"] - accuracy["retrieve"] > 0.1
    assert 0 < modes["cascade"].reranked.mean() < 1


def test_more_mentions_are_clear_if_more_may_be_lost() -> None:
    scores = two_models()
    shares = [fitted(scores, loss).valid["cascade"].reranked.mean() for loss in (0.0, 0.003, 0.03, 1.0)]
    assert shares == sorted(shares, reverse=True)
    assert shares[-1] == 0
    assert len(set(shares)) == 4


def test_clear_mentions_are_those_with_the_surest_retriever() -> None:
    cascade, new = fitted(two_models()).cascade, two_models(seed=1)
    is_clear = cascade.is_clear(new.retrieval)
    right = cascade.probabilities(new.retrieval).right
    assert right[is_clear].min() > right[~is_clear].max()
    linked = link_in_modes(new, fit_calibration(new).valid, cascade)["cascade"]
    np.testing.assert_array_equal(linked.reranked, ~is_clear)
    np.testing.assert_array_equal(linked.correct, np.where(is_clear, new.retrieved().correct, new.correct))


def test_no_mention_is_clear_where_only_the_retriever_errs() -> None:
    scores = two_models()
    wrong = scores._replace(gold_rank=np.ones(len(scores.gold_rank), dtype=np.int32), final=scores.retrieval[:, ::-1])
    wrong.final[:, 1] += 100
    cascade = fitted(wrong).cascade
    assert cascade.clear_from is None
    assert not cascade.is_clear(scores.retrieval).any()


def test_every_mention_is_clear_if_the_retriever_decides() -> None:
    scores = two_models()
    found = fitted(scores._replace(final=scores.retrieval), loss=0.0)
    assert found.valid["cascade"].reranked.mean() == 0


def test_mentions_of_equal_probability_are_clear_together() -> None:
    """The first half of them is linked better by the retriever, and the second by both models."""
    scores = two_models(mentions=100, worlds=1)
    same = np.tile(scores.retrieval[:1], (100, 1))
    first = np.arange(100) < 50
    gold, final = np.where(first, 0, 1).astype(np.int32), same.copy()
    final[:, 1] += 100
    found = fitted(scores._replace(retrieval=same, final=final, gold_rank=gold), loss=0.0)
    assert found.valid["cascade"].reranked.mean() in (0, 1)


def test_probabilities_of_mentions_that_are_not_reranked_are_calibrated() -> None:
    cascade, new = fitted(two_models()).cascade, two_models(seed=1)
    right = cascade.probabilities(new.retrieval).right
    assert calibration_error(reliability(right.astype(np.float64), new.retrieved().correct)) < 0.03
    weights = {*cascade.retriever.right.weights, *cascade.retriever.none.weights}
    assert weights <= {"log_odds", "margin", "final"}


def test_without_a_crossencoder_the_features_of_both_models_are_zero() -> None:
    scores = two_models(mentions=20).retrieved()
    assert scores.masked().crossencoder is None
    found = dict(zip(FEATURES, features_of(*scores[:3]).T, strict=True))
    assert [name for name, values in found.items() if values.any()] == ["log_odds", "margin", "final"]


def test_threshold_of_a_mode_is_that_of_its_valid_mentions() -> None:
    scores = two_models()
    reranked = fit_calibration(scores)
    cascade, modes = fit_cascade(scores, reranked, 0.003)
    calibrations = Calibrations(reranked.calibration, cascade)
    for mode, linked in modes.items():
        reference = calibrations.reference(mode)
        assert reference is not None
        threshold = reference.threshold(0.8)
        assert linked.correct[linked.right >= threshold].mean() == pytest.approx(0.8, abs=0.005)


def test_models_of_an_earlier_version_rerank_all() -> None:
    earlier = Calibrations(fit_calibration(example(mentions=30)).calibration)
    earlier.check("rerank")
    assert not earlier.is_clear("rerank", example(mentions=30).retrieval).any()
    with pytest.raises(ConfigError, match=r"mode: expected rerank, .* earlier version without a cascade, got cascade"):
        earlier.check("cascade")
    with pytest.raises(ConfigError, match="got retrieve: repeat the stage calibrate"):
        Calibrations().check("retrieve")


def test_file_has_the_same_cascade() -> None:
    cascade = fitted(two_models(mentions=300)).cascade
    again = Cascade.model_validate_json(cascade.model_dump_json())
    assert again == cascade
