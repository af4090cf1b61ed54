import math

import numpy as np
import pytest
from pydantic import ValidationError

from zeshel_tasks.linking.calibration import (
    FEATURES,
    Calibration,
    Logistic,
    Reference,
    features_of,
    lowest_threshold,
)

NONE = -np.inf
FINAL = np.array([[1.0, 3.0, 2.0], [5.0, NONE, NONE]], dtype=np.float32)
RETRIEVAL = np.array([[9.0, 4.0, 1.0], [7.0, NONE, NONE]], dtype=np.float32)
CROSSENCODER = np.array([[0.0, 8.0, 2.0], [-1.0, NONE, NONE]], dtype=np.float32)


def calibration(
    right: dict[str, float], none: dict[str, float] | None = None, **ranges: tuple[float, float]
) -> Calibration:
    return Calibration(
        ranges=dict.fromkeys(FEATURES, (-10.0, 10.0)) | ranges,
        right=Logistic(weights=right, intercept=0.0),
        none=Logistic(weights=none or {}, intercept=0.0),
        reference=Reference(
            right=(0.9, 0.8, 0.6, 0.2),
            none=(0.1, 0.1, 0.5, 0.9),
            correct=(True, True, False, False),
            masked_right=(0.85, 0.5, 0.3, 0.1),
            masked_none=(0.5, 0.5, 0.9, 0.9),
        ),
    )


def test_features_are_of_the_best_candidate_by_final_score() -> None:
    found = dict(zip(FEATURES, features_of(FINAL, RETRIEVAL, CROSSENCODER)[0], strict=True))
    assert found["log_odds"] == pytest.approx(-math.log(math.exp(-1) + math.exp(-2)))
    assert (found["margin"], found["retrieval_margin"], found["crossencoder_margin"]) == (1, -5, 6)
    assert found["retrieval_rank"] == pytest.approx(-math.log(2))
    assert found["crossencoder_rank"] == 0
    assert (found["final"], found["retrieval"], found["crossencoder"]) == (3, 4, 8)


def test_only_candidate_counts_as_the_surest_mention_of_valid() -> None:
    only = features_of(FINAL, RETRIEVAL, CROSSENCODER)[1]
    assert np.isposinf(only[:4]).all()
    fitted = calibration({"margin": 1.0}, margin=(0.0, 2.0))
    right = fitted.probabilities(FINAL, RETRIEVAL, CROSSENCODER).right
    assert right == pytest.approx([1 / (1 + math.exp(-1)), 1 / (1 + math.exp(-2))])


def test_probabilities_of_a_mention_do_not_depend_on_its_batch() -> None:
    random = np.random.default_rng(1)
    scores = [random.normal(size=(50, 7)).astype(np.float32) for _ in range(3)]
    fitted = calibration({"log_odds": 0.7, "retrieval": 0.3}, {"crossencoder": -0.2})
    together = fitted.probabilities(*scores)
    for row in range(50):
        alone = fitted.probabilities(*(part[row : row + 1] for part in scores))
        assert (together.right[row], together.none[row]) == (alone.right[0], alone.none[0])


def test_share_without_entity_makes_one_distribution_of_both_questions() -> None:
    fitted = calibration({"margin": 1.0}, {"margin": -1.0})
    scores = FINAL[:1], RETRIEVAL[:1], CROSSENCODER[:1]
    apart, half, never = (fitted.probabilities(*scores, nil_share=share) for share in (None, 0.5, 0.0))
    assert half.none == pytest.approx(apart.none)
    assert half.right == pytest.approx(apart.right * (1 - apart.none))
    assert (never.right, never.none) == (pytest.approx(apart.right), 0)
    fifth = fitted.probabilities(*scores, nil_share=0.2)
    odds = apart.none / (1 - apart.none) / 4
    assert fifth.none == pytest.approx(odds / (1 + odds), rel=1e-6)


def test_threshold_is_the_lowest_with_the_precision_on_valid() -> None:
    fitted = calibration({})
    assert fitted.reference.threshold(1.0) == 0.8
    assert fitted.reference.threshold(0.6) == 0.6
    assert fitted.reference.threshold(0.0) == 0.2
    # With masked mentions, 0.85 * 0.5 is between 0.9 * 0.9 and 0.8 * 0.9, and 0.6 * 0.5.
    assert fitted.reference.threshold(1.0, nil_share=0.5) == pytest.approx(0.72)
    assert fitted.reference.threshold(0.6, nil_share=0.5) == pytest.approx(0.425)


def test_threshold_is_infinite_where_the_precision_is_never_reached() -> None:
    wrong = np.array([0.9, 0.1])
    assert lowest_threshold(wrong, np.zeros(2), np.ones(2), 0.5) == math.inf


def test_mentions_of_equal_probability_are_linked_together() -> None:
    right, correct = np.array([0.9, 0.9, 0.1]), np.array([1.0, 0.0, 1.0])
    assert lowest_threshold(right, correct, np.ones(3), 0.6) == 0.1
    assert lowest_threshold(right, correct, np.ones(3), 1.0) == math.inf


def test_arguments_out_of_range_are_refused() -> None:
    fitted = calibration({})
    with pytest.raises(ValueError, match="precision from 0 to 1, got 95"):
        fitted.reference.threshold(95)
    with pytest.raises(ValueError, match="less than 1, got 1"):
        fitted.reference.threshold(0.9, nil_share=1)
    with pytest.raises(ValueError, match="three scores"):
        fitted.probabilities(FINAL, RETRIEVAL[:1], CROSSENCODER)
    with pytest.raises(ValueError, match="at least one candidate"):
        fitted.probabilities(FINAL, np.where(FINAL == 3, NONE, RETRIEVAL), CROSSENCODER)
    with pytest.raises(ValueError, match="at least one candidate"):
        fitted.probabilities(*([np.full((1, 2), NONE, dtype=np.float32)] * 3))


def test_calibration_of_other_features_is_refused() -> None:
    content = calibration({}).model_dump()
    with pytest.raises(ValidationError, match="expected the features"):
        Calibration.model_validate(content | {"ranges": {"margin": (0, 1)}})
    with pytest.raises(ValidationError, match="expected the features"):
        Calibration.model_validate(content | {"right": {"weights": {"length": 1.0}, "intercept": 0.0}})


def test_calibration_is_the_same_after_its_file() -> None:
    fitted = calibration({"margin": 0.1 + 0.2}, {"final": -1 / 3})
    assert Calibration.model_validate_json(fitted.model_dump_json()) == fitted
