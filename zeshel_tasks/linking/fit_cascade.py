"""Chooses on valid which mentions the retriever makes clear enough not to be re-ranked."""

from __future__ import annotations

import logging
from typing import NamedTuple

import numpy as np

from zeshel_tasks.config.link import LinkMode
from zeshel_tasks.linking.calibration import Probabilities, Probability
from zeshel_tasks.linking.cascade import Cascade
from zeshel_tasks.linking.fit_calibration import Fitted, RankedScores, fit_calibration, reference_of
from zeshel_tasks.linking.listwise import Flags

log = logging.getLogger(__name__)


class LinkedMentions(NamedTuple):
    """How some mentions are linked.

    Attributes:
        reranked: bool [mentions], True where the cross-encoder scores the candidates.
        right: float32 [mentions], probability that the best candidate is the gold.
        correct: bool [mentions], True where it is.
    """

    reranked: Flags
    right: Probability
    correct: Flags


class FittedCascade(NamedTuple):
    """A cascade, and how each mode links the valid mentions by models that were fitted without their worlds."""

    cascade: Cascade
    valid: dict[LinkMode, LinkedMentions]


def fit_cascade(valid: RankedScores, reranked: Fitted, loss: float) -> FittedCascade:
    """Fits the probabilities by the retriever alone, and chooses from which one on a mention is clear.

    This is the lowest one for which, and for all above which, at most ``loss`` of the valid mentions are linked worse
    than if all were re-ranked: those that only re-ranking links correctly, less those that only the retriever does.

    Args:
        valid: the valid mentions.
        reranked: the calibration of re-ranked mentions.
        loss: share of the valid mentions.
    """
    alone = valid.retrieved()
    retriever = fit_calibration(alone)
    clear_from = _clear_from(retriever.valid.right, valid.correct, alone.correct, loss)
    least = np.inf if clear_from is None else clear_from
    is_clear = retriever.valid.right >= least
    correct = np.where(is_clear, alone.correct, valid.correct)
    reference = reference_of(
        chosen(is_clear, retriever.valid, reranked.valid),
        chosen(retriever.masked.right >= least, retriever.masked, reranked.masked),
        correct,
    )
    cascade = Cascade(clear_from=clear_from, retriever=retriever.calibration, reference=reference)
    modes = _in_modes(is_clear, (valid, reranked.valid), (alone, retriever.valid))
    log.info(
        "cascade: %.1f%% of the valid mentions are clear; %.4f of all are linked correctly, %.4f if all are re-ranked",
        100 * is_clear.mean(),
        correct.mean(),
        valid.correct.mean(),
    )
    return FittedCascade(cascade, modes)


def link_in_modes(scores: RankedScores, reranked: Probabilities, cascade: Cascade) -> dict[LinkMode, LinkedMentions]:
    """Returns how each mode links some mentions, given their probabilities if all are re-ranked."""
    retrieved = cascade.probabilities(scores.retrieval)
    return _in_modes(cascade.is_clear(scores.retrieval), (scores, reranked), (scores.retrieved(), retrieved))


def _in_modes(
    is_clear: Flags, reranked: tuple[RankedScores, Probabilities], retrieved: tuple[RankedScores, Probabilities]
) -> dict[LinkMode, LinkedMentions]:
    all_clear = np.ones(len(is_clear), dtype=np.bool_)
    (scores, found), (scores_alone, found_alone) = reranked, retrieved
    flags: dict[LinkMode, Flags] = {"rerank": ~all_clear, "cascade": is_clear, "retrieve": all_clear}
    return {
        mode: LinkedMentions(
            ~clear,
            np.where(clear, found_alone.right, found.right),
            np.where(clear, scores_alone.correct, scores.correct),
        )
        for mode, clear in flags.items()
    }


def chosen(is_clear: Flags, retrieved: Probabilities, reranked: Probabilities) -> Probabilities:
    """Returns the probabilities by the retriever where a mention is clear, and otherwise those of re-ranking."""
    pairs = zip(retrieved, reranked, strict=True)
    return Probabilities(*(np.where(is_clear, by_retriever, other) for by_retriever, other in pairs))


def _clear_from(right: Probability, reranked: Flags, retrieved: Flags, loss: float) -> float | None:
    order = np.argsort(-right, kind="stable")
    right = right[order]
    lost = np.cumsum(reranked[order].astype(np.int64) - retrieved[order])
    last = np.append(right[1:] != right[:-1], True)  # mentions of equal probability are clear together
    enough = np.logical_and.accumulate(~last | (lost <= loss * len(right)))
    least = right[last & enough]
    return float(least[-1]) if len(least) else None
