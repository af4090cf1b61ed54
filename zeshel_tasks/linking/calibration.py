"""What the scores of a mention's candidates mean: the probability that the best one is right, and that none is.

:mod:`~zeshel_tasks.linking.fit_calibration` fits both on valid. Applying them needs only numpy, and each mention is
computed on its own, so a mention has the same probabilities in every batch.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ConfigDict, Field, model_validator

from zeshel_tasks.linking.fusion import Scores
from zeshel_tasks.linking.logistic import probability

CALIBRATION_FILE = "calibration.json"
FEATURES = (
    "log_odds",
    "margin",
    "retrieval_margin",
    "crossencoder_margin",
    "retrieval_rank",
    "crossencoder_rank",
    "final",
    "retrieval",
    "crossencoder",
)
"""The features of a mention's best candidate, which has the highest final score. Higher values speak for it.

``log_odds`` are those of its softmax among the candidates. A margin is its score minus the highest of the others; it is
negative where that score prefers another one. A rank is minus the logarithm of its rank by that score, from 1. The last
three are its scores.
"""

Features = npt.NDArray[np.float64]
"""float64 [mentions, features], in the order of :data:`FEATURES`; infinite where a mention has only one candidate."""
Probability = npt.NDArray[np.float32]
_BLOCK = 1 << 20  # scores: a copy in float64 takes 8 MB
_CERTAIN = 1e-9


class Probabilities(NamedTuple):
    """Probabilities of some mentions, float32 [mentions].

    Attributes:
        right: that the best candidate is the gold.
        none: that the knowledge base has no entity for the mention.
    """

    right: Probability
    none: Probability


class Logistic(BaseModel):
    """The logarithm of the odds of an event as a weighted sum of features."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    weights: dict[str, float]
    intercept: float

    def log_odds(self, features: Features) -> npt.NDArray[np.float64]:
        """Returns float64 [mentions]; the features are finite."""
        weights = np.array([self.weights.get(name, 0.0) for name in FEATURES])
        return np.asarray((features * weights).sum(axis=1) + self.intercept)


class Reference(BaseModel):
    """Probabilities of valid mentions by models that were fitted without their worlds. Thresholds are read from them.

    Attributes:
        right: of each mention, see :class:`Probabilities`.
        none: of each mention.
        correct: True where the best candidate is the gold.
        masked_right: of each mention without its gold among the candidates.
        masked_none: of each mention without its gold among the candidates.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    right: tuple[float, ...]
    none: tuple[float, ...]
    correct: tuple[bool, ...]
    masked_right: tuple[float, ...]
    masked_none: tuple[float, ...]

    def threshold(self, precision: float, nil_share: float = 0.0) -> float:
        """Returns the least ``right`` at which the linked mentions have this precision on valid.

        Use it with the probabilities for the same ``nil_share``; those without one are for 0. Infinity means that no
        threshold has this precision.

        Raises:
            ValueError: ``precision`` is not from 0 to 1, or ``nil_share`` is out of range.
        """
        if not 0 <= precision <= 1:
            raise ValueError(f"expected a precision from 0 to 1, got {precision}")
        known, _ = in_text(np.array(self.right), np.array(self.none), nil_share)
        masked, _ = in_text(np.array(self.masked_right), np.array(self.masked_none), nil_share)
        right = np.concatenate([known, masked])
        correct = np.concatenate([np.array(self.correct, dtype=np.float64), np.zeros(len(masked))])
        weight = np.repeat([1 - nil_share, nil_share], [len(known), len(masked)])
        return lowest_threshold(right, correct, weight, precision)


class Calibration(BaseModel):
    """The models of both probabilities. ``calibration.json`` holds them.

    Attributes:
        ranges: lowest and highest value of each feature on valid. Values beyond them count as these.
        right: of the event that the best candidate is the gold, among mentions whose entity the knowledge base has.
            Its weights are not negative.
        none: of the event that the knowledge base lacks the mention's entity, if half of the mentions are such. Its
            weights are not positive.
        reference: probabilities of valid mentions.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    ranges: dict[str, tuple[float, float]]
    right: Logistic
    none: Logistic
    reference: Reference = Field(repr=False)

    @model_validator(mode="after")
    def _check_features(self) -> Calibration:
        if tuple(self.ranges) != FEATURES or not {*self.right.weights, *self.none.weights} <= set(FEATURES):
            raise ValueError(f"expected the features {', '.join(FEATURES)}, got {', '.join(self.ranges)}")
        return self

    def probabilities(
        self, final: Scores, retrieval: Scores, crossencoder: Scores | None, nil_share: float | None = None
    ) -> Probabilities:
        """Returns the probabilities of some mentions.

        Without ``nil_share`` they answer two separate questions: is the best candidate right, given that the knowledge
        base has the entity; and does it lack the entity, given that this happens as often as not. With it, both are
        probabilities in a text where the knowledge base lacks the entities of this share of the mentions. Then the
        rest, 1 - right - none, is the probability that another entity of the knowledge base is the gold.

        Args:
            final: final scores of the candidates, float32 [mentions, top_k], minus infinity for missing candidates;
                each mention has at least one.
            retrieval: their retrieval scores.
            crossencoder: their cross-encoder scores; None if they were not re-ranked. Then the final scores are the
                retrieval scores.
            nil_share: at least 0 and less than 1.

        Raises:
            ValueError: a mention has no candidate, the arrays have different candidates, or ``nil_share`` is out of
                range.
        """
        found = features_of(final, retrieval, crossencoder)
        clipped = np.clip(found, *np.array([self.ranges[name] for name in FEATURES]).T)
        right, none = (probability(model.log_odds(clipped)) for model in (self.right, self.none))
        return Probabilities(*(part.astype(np.float32) for part in in_text(right, none, nil_share)))


def features_of(final: Scores, retrieval: Scores, crossencoder: Scores | None) -> Features:
    """Returns the features of each mention's best candidate; see :meth:`Calibration.probabilities`.

    Without a cross-encoder, the features of both models are 0: those of the retriever would repeat the final score's.
    """
    if crossencoder is None:
        retrieval = crossencoder = np.where(np.isfinite(final), np.float32(0), np.float32(-np.inf))
    if not final.shape == retrieval.shape == crossencoder.shape:
        shapes = ", ".join(str(scores.shape) for scores in (final, retrieval, crossencoder))
        raise ValueError(f"expected three scores of each candidate, got {shapes}")
    found = np.empty((len(final), len(FEATURES)))
    rows = max(1, _BLOCK // max(1, final.shape[1]))
    for start in range(0, len(final), rows):
        block = slice(start, start + rows)
        found[block] = _features(*(scores[block].astype(np.float64) for scores in (final, retrieval, crossencoder)))
    return found


def in_text(right: Features, none: Features, nil_share: float | None) -> tuple[Features, Features]:
    """Turns the separate probabilities into those in a text with this share of mentions without an entity.

    Raises:
        ValueError: ``nil_share`` is less than 0, or not less than 1.
    """
    if nil_share is None:
        return right, none
    if not 0 <= nil_share < 1:
        raise ValueError(f"expected a share of at least 0 and less than 1, got {nil_share}")
    none = np.clip(none, _CERTAIN, 1 - _CERTAIN)
    without, having = none * nil_share, (1 - none) * (1 - nil_share)
    none = without / (without + having)
    return right * (1 - none), none


def lowest_threshold(right: Features, correct: Features, weight: Features, precision: float) -> float:
    """Returns the least probability at which the weighted mentions at or above it have this precision, or infinity."""
    order = np.argsort(-np.where(weight > 0, right, -np.inf), kind="stable")[: np.count_nonzero(weight)]
    right, weight, correct = right[order], weight[order], correct[order]
    total = np.cumsum(weight)
    last = np.append(right[1:] != right[:-1], True)  # mentions of equal probability are linked together
    enough = np.flatnonzero(last & (np.cumsum(weight * correct) >= precision * total))
    return float(right[enough[-1]]) if len(enough) else math.inf


def _features(final: Features, retrieval: Features, crossencoder: Features) -> Features:
    rows, present = np.arange(len(final)), np.isfinite(final)
    if not (present.any(axis=1).all() and all((np.isfinite(s) == present).all() for s in (retrieval, crossencoder))):
        raise ValueError("expected at least one candidate of each mention, and all scores of each candidate")
    best = final.argmax(axis=1)
    own, margin, rank = [], [], []
    for scores in (final, retrieval, crossencoder):
        mine = scores[rows, best]
        others = scores.copy()
        others[rows, best] = -np.inf
        own.append(mine)
        margin.append(mine - others.max(axis=1))
        rank.append(-np.log1p((others > mine[:, None]).sum(axis=1)))
        if scores is final:
            with np.errstate(divide="ignore"):  # the logarithm of 0 where there are no others
                log_odds = -np.log(np.exp(others - mine[:, None]).sum(axis=1))
    return np.stack([log_odds, *margin, *rank[1:], *own], axis=1)
