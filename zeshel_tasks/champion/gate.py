"""The gate: decides if a model replaces the champion that it was compared with. Needs neither a model nor numpy."""

from __future__ import annotations

from zeshel_tasks.champion.champions import Champion, Champions
from zeshel_tasks.champion.metrics import ComparedGroup, ComparisonMetrics, Decision
from zeshel_tasks.config.results import PromoteConfig


def decide(compared: ComparisonMetrics, config: PromoteConfig) -> Decision:
    """Decides if a model replaces the champion that it was compared with, and says why."""
    if compared.champion is None or compared.overall is None:
        return _decision(True, "there was no champion", compared)
    worst, figures = min(compared.worlds.items(), key=lambda item: item[1].difference)
    text, difference = describe_comparison(compared.champion.run, compared.overall), compared.overall.difference
    if difference < config.margin or difference <= 0:
        reason = f"no better by the margin of {100 * config.margin:g} points, {text}"
    elif compared.overall.may_be_chance:
        reason = f"the difference may be chance, {text}"
    elif figures.difference < -config.max_world_drop:
        drop = f"{-100 * figures.difference:.2f} points in {worst}"
        reason = f"it falls by {drop}, where {100 * config.max_world_drop:g} are allowed; {text}"
    else:
        return _decision(True, f"better, {text}", compared)
    return _decision(False, reason, compared)


def decide_now(
    champions: Champions, identity: str, crossencoder: str, compared: ComparisonMetrics, config: PromoteConfig
) -> Decision:
    """Decides as :func:`decide`, but refuses a model that was rolled back or compared with an earlier champion.

    Args:
        champions: the champions as they are now.
        identity: see :attr:`~zeshel_tasks.champion.champions.Champion.identity`.
        crossencoder: folder of the model's cross-encoder.
        compared: metrics of ``compare`` for the model.
        config: margin and bound.
    """
    rolled_back = champions.rolled_back(crossencoder)
    if rolled_back is not None:
        reason = f"this model was rolled back at {rolled_back.at}: {rolled_back.reason}"
    elif not is_compared_with(champions.rival_of(identity), compared):
        reason = "it was compared with another champion than the present one: clear `compare` and the tasks after it"
    else:
        return decide(compared, config)
    return _decision(False, reason, compared)


def is_compared_with(rival: Champion | None, compared: ComparisonMetrics) -> bool:
    """True if ``compare`` measured the model against this champion, or if there is none in both."""
    now, then = (None if champion is None else champion.identity for champion in (rival, compared.champion))
    return now == then


def describe_comparison(champion: str, overall: ComparedGroup) -> str:
    """One line about all mentions together; ``champion`` is the run of the champion."""
    return f"against champion {champion}: {describe_figures(overall)}"


def describe_figures(figures: ComparedGroup) -> str:
    """``61.20 % instead of 60.10 % (+1.10, -0.20 to +2.30) on 10,000 mentions``."""
    difference, low, high = (f"{100 * value:+.2f}" for value in (figures.difference, *figures.interval))
    return (
        f"{figures.new:.2%} instead of {figures.champion:.2%} ({difference}, {low} to {high}) "
        f"on {figures.mentions:,} mentions"
    )


def _decision(promoted: bool, reason: str, compared: ComparisonMetrics) -> Decision:
    return Decision(promoted=promoted, reason=reason, **dict(compared))
