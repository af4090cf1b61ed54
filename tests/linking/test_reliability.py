import math

import numpy as np
import pytest

from zeshel_tasks.linking.reliability import (
    Judged,
    NilScores,
    Thresholds,
    at_threshold,
    calibrated_group,
    calibration_error,
    diagrams,
    nil_metrics,
    reliability,
    risk_difference,
    roc_area,
    split_calibration,
)

RIGHT = np.array([0.9, 0.8, 0.3, 0.1])
SOFTMAX = np.array([-3.0, -1.0, 1.0, 3.0])  # the opposite order
CORRECT = np.array([True, True, False, False])
JUDGED = Judged(RIGHT, SOFTMAX, CORRECT)
EVER = Thresholds(0.0, 0.0)


def test_bins_have_equally_many_mentions_in_the_order_of_probabilities() -> None:
    bins = reliability(RIGHT, CORRECT, bins=2)
    assert [(each.mentions, each.right) for each in bins] == [(2, 0.0), (2, 1.0)]
    assert [each.probability for each in bins] == pytest.approx([0.2, 0.85])
    assert calibration_error(bins) == pytest.approx((0.2 + 0.15) / 2)
    assert len(reliability(RIGHT, CORRECT)) == 4  # of 15, those that have mentions


def test_bins_count_by_their_mentions() -> None:
    bins = reliability(np.array([0.1, 0.2, 1.0]), np.array([False, False, True]), bins=2)
    assert calibration_error(bins) == pytest.approx(0.15 * 2 / 3)


def test_risk_is_the_mean_share_of_errors_among_the_most_confident() -> None:
    group = calibrated_group(JUDGED, EVER)
    assert group.right.risk_area == pytest.approx((0 + 0 + 1 / 3 + 2 / 4) / 4)
    assert group.softmax.risk_area == pytest.approx((1 + 1 + 2 / 3 + 2 / 4) / 4)
    assert (group.mentions, group.accuracy) == (4, 0.5)


def test_threshold_links_the_mentions_at_or_above_it() -> None:
    found = at_threshold(RIGHT, CORRECT, 0.3)
    assert (found.linked, found.precision) == (0.75, pytest.approx(2 / 3))
    assert at_threshold(RIGHT, CORRECT, math.inf).precision is None


def test_risk_difference_has_an_interval_around_it() -> None:
    random = np.random.default_rng(1)
    right = random.random(2000)
    correct = random.random(2000) < right
    better = risk_difference(Judged(right, random.random(2000), correct))
    assert better.interval[0] < better.difference < better.interval[1] < 0
    equal = risk_difference(Judged(right, right, correct))
    assert (equal.difference, equal.interval) == (0, (0, 0))


def test_roc_area_counts_pairs() -> None:
    having, without = np.array([0.1, 0.5, 0.5, 0.9]), np.array([0.5, 0.7])
    pairs = [(w > h) + (w == h) / 2 for h in having for w in without]
    assert roc_area(NilScores(having, without)) == pytest.approx(np.mean(pairs))
    assert roc_area(NilScores(having, without[:0])) is None


def test_missing_entities_are_detected_above_a_half() -> None:
    found = nil_metrics(NilScores(np.array([0.2, 0.5, 0.6]), np.array([0.9, 0.8, 0.4])), NilScores(-RIGHT, -SOFTMAX))
    assert (found.precision, found.recall, found.f1) == (pytest.approx(2 / 3),) * 3
    assert (found.mentions, found.area) == (6, pytest.approx(7 / 9))
    never = nil_metrics(NilScores(np.array([0.2]), np.array([0.4])), NilScores(-RIGHT, -SOFTMAX))
    assert (never.precision, never.recall, never.f1) == (None, 0, 0)


def test_curve_of_many_mentions_has_few_points_and_ends_at_all_of_them() -> None:
    random = np.random.default_rng(1)
    correct = random.random(5000) < 0.7
    curve = diagrams(Judged(random.random(5000), random.random(5000), correct)).risk
    assert len(curve) == 50
    assert (curve[-1].coverage, curve[-1].risk) == (1, pytest.approx(1 - correct.mean()))
    assert [point.risk for point in diagrams(JUDGED).risk] == pytest.approx([0, 0, 1 / 3, 1 / 2])


def test_worlds_are_measured_alone() -> None:
    nil = NilScores(RIGHT, RIGHT)
    rows = {"a": np.array([0, 3]), "b": np.array([1, 2])}
    found = split_calibration(JUDGED, nil, nil, Thresholds(0.5, math.inf), rows)
    assert found.worlds["a"] == calibrated_group(JUDGED.of(rows["a"]), Thresholds(0.5, math.inf))
    assert found.worlds["b"].right.calibration_error == pytest.approx((0.2 + 0.3) / 2)
    assert found.softmax.at_threshold.linked == 0
