"""Logistic regression whose weights are not negative, so that its probability never falls where a feature rises."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

Values = npt.NDArray[np.float64]

_STEPS = 100
_GRADIENT = 1e-9  # at the minimum
_SMALLEST_STEP = 1e-9
_ROUNDING = 1e-9  # a feature that varies less, relative to its size, is constant: its weight is 0
_INTERCEPT_PENALTY = 1e-9  # only keeps the curvature positive


class Line(NamedTuple):
    """The logarithm of the odds as a weighted sum: float64 [features], and what is added to it."""

    weights: Values
    intercept: float

    def log_odds(self, features: Values) -> Values:
        """Returns float64 [examples]."""
        return np.asarray((features * self.weights).sum(axis=1) + self.intercept)

    def scaled(self, slope: float, offset: float) -> Line:
        """Returns the line whose log odds are ``slope`` times those of this one plus ``offset``."""
        return Line(slope * self.weights, slope * self.intercept + offset)


def fit_logistic(features: Values, event: npt.NDArray[np.bool_], penalty: float = 1e-3) -> Line:
    """Returns the most likely weights, by Newton's method on those that are not held at zero.

    Minimizes the mean negative log-likelihood plus ``penalty`` times the squared weights of features that are scaled to
    a standard deviation of 1. The targets are those of Platt, 1999, "Probabilistic outputs for support vector
    machines": slightly between 0 and 1, so that events that always or never happen have finite odds. The loss is
    convex, so the start does not matter.

    Args:
        features: float64 [examples, features], finite.
        event: bool [examples].
        penalty: strength of the regularization.
    """
    count, width = features.shape
    scale, mean = features.std(axis=0), features.mean(axis=0)
    constant = scale <= _ROUNDING * np.abs(features).max(axis=0)
    scale[constant] = 1
    inputs = np.column_stack([np.where(constant, 0, features - mean) / scale, np.ones(count)])
    happened = int(event.sum())
    targets = np.where(event, (happened + 1) / (happened + 2), 1 / (count - happened + 2))
    ridge = np.append(np.full(width, 2 * penalty), _INTERCEPT_PENALTY)

    def loss(weights: Values) -> float:
        odds = inputs @ weights
        return float(np.mean(np.logaddexp(0, odds) - targets * odds) + ridge @ weights**2 / 2)

    weights = np.zeros(width + 1)
    for _ in range(_STEPS):
        likely = probability(inputs @ weights)
        gradient = inputs.T @ (likely - targets) / count + ridge * weights
        free = np.append((weights[:-1] > 0) | (gradient[:-1] < 0), True)
        if np.abs(gradient[free]).max() < _GRADIENT:
            break
        curvature = (inputs * (likely * (1 - likely) / count)[:, None]).T @ inputs + np.diag(ridge)
        step = np.zeros(width + 1)
        step[free] = -np.linalg.solve(curvature[np.ix_(free, free)], gradient[free])
        size, before = 1.0, loss(weights)
        while loss(after := _bounded(weights + size * step)) >= before and size > _SMALLEST_STEP:
            size /= 2
        if size <= _SMALLEST_STEP:
            break
        weights = after
    return Line(weights[:-1] / scale, float(weights[-1] - weights[:-1] / scale @ mean))


def probability(log_odds: Values) -> Values:
    """The probability of an event with these odds."""
    return np.asarray(np.exp(-np.logaddexp(0, -log_odds)))


def log_loss(log_odds: Values, event: npt.NDArray[np.bool_]) -> float:
    """The mean negative log-likelihood of the events, in nats."""
    return float(np.mean(np.logaddexp(0, np.where(event, -log_odds, log_odds))))


def _bounded(weights: Values) -> Values:
    """No weight but the intercept, the last, is negative."""
    return np.append(np.maximum(weights[:-1], 0), weights[-1])
