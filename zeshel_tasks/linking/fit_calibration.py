"""Fits a calibration on the valid mentions, each with its gold and again without it."""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from zeshel_tasks.linking.calibration import (
    FEATURES,
    Calibration,
    Features,
    Logistic,
    Probabilities,
    Reference,
    features_of,
)
from zeshel_tasks.linking.fusion import Scores
from zeshel_tasks.linking.listwise import Flags
from zeshel_tasks.linking.logistic import Line, Values, fit_logistic, log_loss, probability

log = logging.getLogger(__name__)

_CHOICES: tuple[tuple[str, ...], ...] = (FEATURES[:1], FEATURES[:6], FEATURES)
"""Sets of features to choose from: the softmax, then also what does not change if all scores of a mention shift."""
_FOLDS = 10
_REFERENCE = 5_000  # mentions; the error of a precision of 0.95 on a fifth of them is below 0.01


class RankedScores(NamedTuple):
    """All scores of the candidates of some mentions.

    Attributes:
        final: float32 [mentions, top_k].
        retrieval: float32 [mentions, top_k].
        crossencoder: float32 [mentions, top_k]; None if the retriever decides alone.
        gold_rank: int32 [mentions], column of the gold; -1 if it was not retrieved.
        world: int32 [mentions], number of the mention's world.
    """

    final: Scores
    retrieval: Scores
    crossencoder: Scores | None
    gold_rank: npt.NDArray[np.int32]
    world: npt.NDArray[np.int32]

    @property
    def correct(self) -> Flags:
        """bool [mentions], True where the best candidate is the gold."""
        return np.asarray(self.final.argmax(axis=1) == self.gold_rank)

    @property
    def features(self) -> Features:
        """See :func:`~zeshel_tasks.linking.calibration.features_of`."""
        return features_of(self.final, self.retrieval, self.crossencoder)

    def retrieved(self) -> RankedScores:
        """The mentions as the retriever alone links them."""
        return self._replace(final=self.retrieval, crossencoder=None)

    def of(self, rows: Flags) -> RankedScores:
        """Returns some of the mentions."""
        return RankedScores(
            self.final[rows],
            self.retrieval[rows],
            None if self.crossencoder is None else self.crossencoder[rows],
            self.gold_rank[rows],
            self.world[rows],
        )

    def followed_by(self, others: RankedScores) -> RankedScores:
        """Returns these mentions and others, which have as many candidates."""
        has_both = self.crossencoder is not None and others.crossencoder is not None
        return RankedScores(
            np.concatenate([self.final, others.final]),
            np.concatenate([self.retrieval, others.retrieval]),
            np.concatenate([self.crossencoder, others.crossencoder]) if has_both else None,
            np.concatenate([self.gold_rank, others.gold_rank]),
            np.concatenate([self.world, others.world]),
        )

    def masked(self) -> RankedScores:
        """The mentions without their golds among the candidates, as if the knowledge base had no entity for them.

        A mention whose gold was not retrieved stays as it is. One without another candidate is left out.
        """
        rows = np.flatnonzero(np.isfinite(self.final).sum(axis=1) > (self.gold_rank >= 0))
        gold = self.gold_rank[rows]
        known = np.flatnonzero(gold >= 0)

        def without(scores: Scores) -> Scores:
            some = np.array(scores[rows])
            some[known, gold[known]] = -np.inf
            return some

        return RankedScores(
            without(self.final),
            without(self.retrieval),
            None if self.crossencoder is None else without(self.crossencoder),
            np.full_like(gold, -1),
            self.world[rows],
        )


class Fitted(NamedTuple):
    """A calibration, and the probabilities of valid mentions by models that were fitted without their worlds.

    Attributes:
        calibration: fitted on all worlds.
        valid: of the valid mentions.
        masked: of the valid mentions without their golds, see :meth:`RankedScores.masked`.
    """

    calibration: Calibration
    valid: Probabilities
    masked: Probabilities


class _Model(NamedTuple):
    """A model of an event, and by fold one that was fitted without the fold."""

    line: Line
    without: dict[int, Line]

    def left_out(self, features: Features, fold: npt.NDArray[np.int32]) -> npt.NDArray[np.float64]:
        """Returns the logarithm of the odds of each mention by the model without its fold.

        That is the model of all mentions for a fold that has none of them.
        """
        odds = self.line.log_odds(features)
        for number, line in self.without.items():
            odds[fold == number] = line.log_odds(features[fold == number])
        return odds

    def scaled(self, slope: float, offset: float) -> _Model:
        """Returns the model with all odds on another scale."""
        lines = {number: line.scaled(slope, offset) for number, line in self.without.items()}
        return _Model(self.line.scaled(slope, offset), lines)


def fit_calibration(
    valid: RankedScores, nil: RankedScores | None = None, ranges: Mapping[str, tuple[float, float]] | None = None
) -> Fitted:
    """Fits the probabilities; see :class:`~zeshel_tasks.linking.calibration.Calibration`.

    The features are those with the lowest log-loss on worlds that the fit leaves out. A model is too sure of itself on
    a world that it was not fitted on, so the left-out worlds also set the scale of the odds.

    Args:
        valid: mentions that have an entity.
        nil: mentions that have none, with the same numbers of worlds; the results have them after the masked ones. None
            if they are unknown.
        ranges: lowest and highest value of each feature that count as they are, besides those of these mentions.
    """
    fold = _folds(valid.world if nil is None else np.concatenate([valid.world, nil.world]))
    valid = valid._replace(world=fold[: len(valid.world)])
    masked = valid.masked()
    if nil is not None:
        masked = masked.followed_by(nil._replace(world=fold[len(valid.world) :]))
    known, without = valid.features, masked.features
    low, high = _ranges(np.concatenate([known, without]))
    if ranges is not None:
        given = np.array([ranges[name] for name in FEATURES])
        low, high = np.minimum(low, given[:, 0]), np.maximum(high, given[:, 1])
    known, without = (np.clip(features, low, high) for features in (known, without))
    both, fold = np.concatenate([known, without]), np.concatenate([valid.world, masked.world])
    right = _fit("right", known, valid.correct, valid.world)
    none = _fit("none", -both, np.repeat([False, True], [len(known), len(without)]), fold)
    if nil is not None:  # as if half of the mentions had none
        none = none.scaled(1, math.log(len(known) / len(without)))
    of_right, of_none = right.left_out(both, fold), none.left_out(-both, fold)
    of_valid, of_masked = (
        Probabilities(*(probability(odds[part]).astype(np.float32) for odds in (of_right, of_none)))
        for part in (slice(None, len(known)), slice(len(known), None))
    )
    calibration = Calibration(
        ranges=dict(zip(FEATURES, zip(low.tolist(), high.tolist(), strict=True), strict=True)),
        right=_logistic(right.line, 1),
        none=_logistic(none.line, -1),
        reference=reference_of(of_valid, of_masked, valid.correct),
    )
    return Fitted(calibration, of_valid, of_masked)


def _folds(world: npt.NDArray[np.int32]) -> npt.NDArray[np.int32]:
    """The number of each mention's fold: worlds stay whole, unless there is only one."""
    number = np.unique(world, return_inverse=True)[1]
    apart = number if number.any() else np.arange(len(world))
    return np.asarray(apart % _FOLDS, dtype=np.int32)


def _ranges(features: Features) -> tuple[Values, Values]:
    """The lowest and the highest finite value of each feature, float64 [features]; 0 where there is none."""
    finite = np.isfinite(features)
    some = finite.any(axis=0)
    low = np.where(some, np.where(finite, features, np.inf).min(axis=0), 0)
    high = np.where(some, np.where(finite, features, -np.inf).max(axis=0), 0)
    return low, high


def _fit(name: str, features: Features, event: Flags, fold: npt.NDArray[np.int32]) -> _Model:
    """Chooses the features and the scale of the odds on the folds that the fit leaves out."""
    models = [_cross_fitted(features, event, fold, len(chosen)) for chosen in _CHOICES]
    losses = [log_loss(model.left_out(features, fold), event) for model in models]
    chosen = int(np.argmin(losses))
    model = models[chosen]
    scale = fit_logistic(model.left_out(features, fold)[:, None], event, penalty=0)
    model = model.scaled(float(scale.weights[0]), scale.intercept)
    log.info(
        "%s: features %s; log-loss on left-out worlds %s, scaled %.4f",
        name,
        ", ".join(_CHOICES[chosen]),
        ", ".join(f"{loss:.4f}" for loss in losses),
        log_loss(model.left_out(features, fold), event),
    )
    return model


def _cross_fitted(features: Features, event: Flags, fold: npt.NDArray[np.int32], width: int) -> _Model:
    def fitted(rows: Flags) -> Line:
        line = fit_logistic(features[rows, :width], event[rows])
        return line._replace(weights=np.append(line.weights, np.zeros(features.shape[1] - width)))

    everything = np.ones(len(fold), dtype=bool)
    others = {int(number): fold != number for number in np.unique(fold)}
    return _Model(
        fitted(everything), {number: fitted(rows if rows.any() else everything) for number, rows in others.items()}
    )


def _logistic(line: Line, sign: int) -> Logistic:
    weights = zip(FEATURES, (sign * line.weights).tolist(), strict=True)
    return Logistic(weights={name: weight for name, weight in weights if weight}, intercept=line.intercept)


def reference_of(valid: Probabilities, masked: Probabilities, correct: Flags) -> Reference:
    """Returns the probabilities of the valid mentions, from which thresholds are read; of many, every n-th one's."""
    kept, kept_masked = (slice(None, None, -(-len(part.right) // _REFERENCE) or 1) for part in (valid, masked))
    return Reference(
        right=_rounded(valid.right[kept]),
        none=_rounded(valid.none[kept]),
        correct=tuple(correct[kept].tolist()),
        masked_right=_rounded(masked.right[kept_masked]),
        masked_none=_rounded(masked.none[kept_masked]),
    )


def _rounded(values: npt.NDArray[np.float32]) -> tuple[float, ...]:
    return tuple(round(value, 5) for value in values.tolist())
