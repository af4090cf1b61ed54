"""What the scores mean in one knowledge base: a calibration fitted on mentions of it, drawn towards the models' own.

Worlds differ more than a function of the scores can know: at the same scores, the links are right twice as often in
one as in another. Some labelled mentions of a world say which kind it is.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from zeshel_tasks.linking.calibration import Calibration, Logistic, Probabilities
from zeshel_tasks.linking.cascade import Cascade, OwnCalibration
from zeshel_tasks.linking.fit_calibration import Fitted, RankedScores, fit_calibration, reference_of
from zeshel_tasks.linking.fit_cascade import chosen
from zeshel_tasks.linking.listwise import Flags
from zeshel_tasks.linking.logistic import Values, probability
from zeshel_tasks.linking.reliability import calibration_error, reliability

LEAST_MENTIONS = 50
MOST_MENTIONS = 100_000
"""All of them are in memory at once, with the scores of their candidates: about 4 kB each."""
_PRIOR = 20
"""The models' calibration counts as much as this many mentions. Of 10, 20 and 50, it had the lowest calibration error
with 50 to 200 mentions, on six sets of scores of real mentions; docs/quality.md has figures."""
_CERTAIN = 1e-9


class LabelledScores(NamedTuple):
    """Scores of mentions of a knowledge base.

    Attributes:
        known: mentions whose entity it has.
        nil: mentions whose entity it lacks; their ``gold_rank`` is -1.
    """

    known: RankedScores
    nil: RankedScores

    def retrieved(self) -> LabelledScores:
        """The mentions as the retriever alone links them."""
        return LabelledScores(self.known.retrieved(), self.nil.retrieved())


class FittedOwn(NamedTuple):
    """An own calibration, and what it is worth if all mentions are re-ranked.

    Attributes:
        calibration: of the knowledge base.
        before: probabilities by the models' calibration that the best candidates of the known mentions are right.
        after: the same by calibrations that were fitted without them.
    """

    calibration: OwnCalibration
    before: Values
    after: Values


def fit_own(scores: LabelledScores, models: Calibration, cascade: Cascade) -> FittedOwn:
    """Fits the calibration of a knowledge base.

    Args:
        scores: of the labelled mentions.
        models: the models' calibration of re-ranked mentions.
        cascade: the models' cascade.
    """
    reranked = _drawn_towards(models, scores)
    retriever = _drawn_towards(cascade.retriever, scores.retrieved())
    alone = scores.known.retrieved()
    is_clear = cascade.is_clear(scores.known.retrieval)
    without = [part.retrieval for part in (scores.known.masked(), scores.nil) if len(part.retrieval)]
    masked_is_clear = np.concatenate([cascade.is_clear(part) for part in without])
    reference = reference_of(
        chosen(is_clear, retriever.valid, reranked.valid),
        chosen(masked_is_clear, retriever.masked, reranked.masked),
        np.where(is_clear, alone.correct, scores.known.correct),
    )
    own = OwnCalibration(reranked=reranked.calibration, retriever=retriever.calibration, reference=reference)
    before = models.probabilities(*scores.known[:3]).right.astype(np.float64)
    return FittedOwn(own, before, reranked.valid.right.astype(np.float64))


def error_of(right: Values, correct: Flags) -> float:
    """Returns the expected calibration error."""
    return calibration_error(reliability(right, correct))


def _drawn_towards(models: Calibration, scores: LabelledScores) -> Fitted:
    """A calibration whose log odds are between those of one fitted on the mentions and those of the models.

    Both are sums of the same features, so they are mixed with the ranges of both.
    """
    fitted = fit_calibration(scores.known, scores.nil, models.ranges)
    models = models.model_copy(update={"ranges": fitted.calibration.ranges})
    count = len(scores.known.final) + len(scores.nil.final)
    share = count / (count + _PRIOR)
    masked = scores.known.masked()
    parts = [models.probabilities(*part[:3]) for part in (masked, scores.nil) if len(part.final)]
    of_masked = Probabilities(*(np.concatenate(values) for values in zip(*parts, strict=True)))
    valid = _between(share, fitted.valid, models.probabilities(*scores.known[:3]))
    without = _between(share, fitted.masked, of_masked)
    calibration = Calibration(
        ranges=fitted.calibration.ranges,
        right=_logistic_between(share, fitted.calibration.right, models.right),
        none=_logistic_between(share, fitted.calibration.none, models.none),
        reference=reference_of(valid, without, scores.known.correct),
    )
    return Fitted(calibration, valid, without)


def _logistic_between(share: float, own: Logistic, models: Logistic) -> Logistic:
    names = {**models.weights, **own.weights}
    weights = {name: share * own.weights.get(name, 0) + (1 - share) * models.weights.get(name, 0) for name in names}
    return Logistic(weights=weights, intercept=share * own.intercept + (1 - share) * models.intercept)


def _between(share: float, own: Probabilities, models: Probabilities) -> Probabilities:
    pairs = zip(own, models, strict=True)
    return Probabilities(
        *(
            probability(share * _log_odds(ours) + (1 - share) * _log_odds(theirs)).astype(np.float32)
            for ours, theirs in pairs
        )
    )


def _log_odds(probabilities: np.ndarray) -> Values:
    certain = np.clip(probabilities.astype(np.float64), _CERTAIN, 1 - _CERTAIN)
    return np.asarray(np.log(certain / (1 - certain)))
