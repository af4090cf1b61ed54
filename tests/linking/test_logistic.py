import numpy as np
import pytest

from zeshel_tasks.linking.logistic import Values, fit_logistic, log_loss, probability


def drawn(weights: list[float], intercept: float, count: int = 20_000) -> tuple[Values, np.ndarray]:
    """Features and events of a logistic model."""
    random = np.random.default_rng(3)
    features = random.normal(size=(count, len(weights))) * [1.0, 10.0, 0.1][: len(weights)]
    return features, random.random(count) < probability(features @ weights + intercept)


def test_weights_of_the_model_that_drew_the_events_are_found() -> None:
    line = fit_logistic(*drawn([0.8, 0.05, 6.0], -0.5), penalty=0)
    assert line.weights == pytest.approx([0.8, 0.05, 6.0], rel=0.1)
    assert line.intercept == pytest.approx(-0.5, abs=0.05)


def test_feature_against_the_event_has_no_weight_and_the_others_are_as_without_it() -> None:
    features, event = drawn([1.0, -0.1], 0.2)
    line = fit_logistic(features, event)
    alone = fit_logistic(features[:, :1], event)
    assert line.weights[1] == 0
    assert line.weights[0] == pytest.approx(alone.weights[0], rel=1e-6)


@pytest.mark.parametrize("happens", [True, False])
def test_event_that_never_varies_has_finite_odds(happens: bool) -> None:
    features = np.arange(8.0)[:, None]
    line = fit_logistic(features, np.full(8, happens))
    assert probability(line.log_odds(features)) == pytest.approx(0.9 if happens else 0.1)  # (8 + 1) / (8 + 2)


def test_feature_without_spread_changes_nothing() -> None:
    features, event = drawn([1.0], 0.0, count=500)
    line = fit_logistic(np.column_stack([features, np.full(500, 7.0)]), event)
    assert line.weights == pytest.approx([fit_logistic(features, event).weights[0], 0.0])


def test_feature_that_varies_by_rounding_alone_has_no_weight() -> None:
    features = 2.5 + np.random.default_rng(0).normal(size=(40, 1)) * 1e-12
    line = fit_logistic(features, np.ones(40, dtype=bool), penalty=0)
    assert line.weights.tolist() == [0]
    assert probability(np.array(line.intercept)) == pytest.approx(41 / 42)


def test_separable_events_end_at_finite_weights() -> None:
    features = np.linspace(-1, 1, 101)[:, None]
    line = fit_logistic(features, features[:, 0] > 0)
    assert np.isfinite(line.weights).all()
    assert log_loss(line.log_odds(features), features[:, 0] > 0) < 0.2


def test_odds_without_bounds_have_a_probability() -> None:
    assert probability(np.array([-1e4, 0.0, 1e4])).tolist() == [0.0, 0.5, 1.0]


def test_scaled_line_has_scaled_odds() -> None:
    features, event = drawn([1.0, 0.1], 0.3, count=200)
    line = fit_logistic(features, event)
    assert line.scaled(2.0, -1.0).log_odds(features) == pytest.approx(2 * line.log_odds(features) - 1)
