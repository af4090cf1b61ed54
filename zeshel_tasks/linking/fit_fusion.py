"""Fits the weights of the final score on the valid mentions."""

from __future__ import annotations

import logging
from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

from zeshel_tasks.linking.fusion import CROSSENCODER_ALONE, RETRIEVER_ALONE, Fusion, Scores
from zeshel_tasks.linking.listwise import fit_weights

log = logging.getLogger(__name__)

_PRIORS = 30.0, 10.0, 3.0, 1.0, 0.03
"""As many mentions speak for the order of the retriever, as it were. A weaker prior replaces one that loses on valid.

With tens of valid mentions, the most likely weights can be worse than the retriever on the mentions of other worlds.
With thousands, the prior hardly matters.
"""

_MOST_SCORES = 4_000_000  # far more than two weights need: 64 MB of features in float64


def fit_fusion(crossencoder: Scores, retrieval: Scores, gold_rank: npt.NDArray[np.int32]) -> Fusion:
    """Returns the weights of the final score.

    They are the most likely ones, given the golds and the strongest prior for the retriever with which they link at
    least as many of these mentions correctly as the cross-encoder or the retriever alone. If there is no such prior, or
    a weight is not positive, the better of the two decides alone. A negative weight would mean that one of them prefers
    wrong entities, which other worlds need not confirm.

    Args:
        crossencoder: float32 [mentions, top_k].
        retrieval: float32 [mentions, top_k], of the same candidates.
        gold_rank: int32 [mentions], column of the gold; -1 if it was not retrieved.
    """
    right = {
        fusion: _right(fusion.final_scores(crossencoder, retrieval), gold_rank)
        for fusion in (CROSSENCODER_ALONE, RETRIEVER_ALONE)
    }
    chosen = max(right, key=lambda fusion: right[fusion])  # the first of equally good ones
    least, positive = right[chosen], False
    for fitted in _most_likely(crossencoder, retrieval, gold_rank):
        right[fitted] = _right(fitted.final_scores(crossencoder, retrieval), gold_rank)
        positive = min(fitted.crossencoder, fitted.retrieval) > 0
        if positive and right[fitted] >= least:
            chosen = fitted
            break
    figures = ", ".join(f"{fusion.combines} {share:.4f}" for fusion, share in right.items())
    log.info(
        "fusion: %s, weights %.4g (cross-encoder) and %.4g (retrieval); accuracy on the mentions it was fitted on: %s",
        chosen.combines,
        chosen.crossencoder,
        chosen.retrieval,
        figures,
    )
    if chosen.combines != "both":
        reason = "links fewer mentions correctly" if positive else "has a weight that is not positive"
        log.warning("fusion: the fitted combination %s, so the %s decides alone", reason, chosen.combines)
    return chosen


def _most_likely(crossencoder: Scores, retrieval: Scores, gold_rank: npt.NDArray[np.int32]) -> Iterator[Fusion]:
    """The most likely weights with each of the priors."""
    known = np.flatnonzero(gold_rank >= 0)
    rows = known[:: -(-len(known) * crossencoder.shape[1] // _MOST_SCORES) or 1]
    present = np.isfinite(crossencoder[rows])
    features = np.stack([np.where(present, scores[rows], 0) for scores in (crossencoder, retrieval)], axis=2)
    (alone,) = fit_weights(features[..., 1:], gold_rank[rows], present)
    for prior in _PRIORS:
        weights = fit_weights(features, gold_rank[rows], present, prior / max(1, len(rows)), center=(0.0, alone))
        yield Fusion(crossencoder=float(weights[0]), retrieval=float(weights[1]))


def _right(scores: Scores, gold_rank: npt.NDArray[np.int32]) -> float:
    return float(np.mean(scores.argmax(1) == gold_rank))
