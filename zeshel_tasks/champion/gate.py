"""Whether a model that was compared with the champion is to replace it; needs no model and no library of numbers."""

from __future__ import annotations

from typing import Any

from zeshel_tasks.champion.champions import Champion, Champions
from zeshel_tasks.config import PromoteConfig
from zeshel_tasks.store import Metrics


def decide(compared: Metrics, config: PromoteConfig) -> Metrics:
    """Whether a model that was compared with the champion replaces it, and why.

    Returns:
        ``promoted``, ``reason``, and what ``compare`` measured.
    """
    if compared["champion"] is None:
        return {"promoted": True, "reason": "there was no champion", **compared}
    worst, figures = min(compared["worlds"].items(), key=lambda item: item[1]["difference"])
    shown, difference = shown_comparison(compared), compared["overall"]["difference"]
    if difference < config.margin or difference <= 0:
        reason = f"no better by the margin of {100 * config.margin:g} points, {shown}"
    elif compared["overall"]["may_be_chance"]:
        reason = f"the difference may be chance, {shown}"
    elif figures["difference"] < -config.max_world_drop:
        drop = f"{-100 * figures['difference']:.2f} points in {worst}"
        reason = f"it falls by {drop}, where {100 * config.max_world_drop:g} are allowed; {shown}"
    else:
        return {"promoted": True, "reason": f"better, {shown}", **compared}
    return {"promoted": False, "reason": reason, **compared}


def decide_now(champions: Champions, crossencoder: str, compared: Metrics, config: PromoteConfig) -> Metrics:
    """As :func:`decide`, for a model that may have been taken back, or compared with a champion of yesterday.

    Args:
        champions: as they are now.
        crossencoder: folder of the model's artifact.
        compared: what ``compare`` measured of it.
        config: margin and bound.
    """
    rolled_back = champions.rolled_back(crossencoder)
    if rolled_back is not None:
        reason = f"this model was taken back at {rolled_back.at}: {rolled_back.reason}"
    elif not is_compared_with(champions.rival_of(crossencoder), compared):
        reason = "the champion is another one than it was compared with: clear `compare` and what follows it"
    else:
        return decide(compared, config)
    return {"promoted": False, "reason": reason, **compared}


def is_compared_with(rival: Champion | None, compared: Metrics) -> bool:
    """Whether ``compare`` measured the model against this champion, or against none."""
    champion = compared["champion"]
    if rival is None or champion is None:
        return rival is champion
    return bool(rival.crossencoder == champion["crossencoder"])


def shown_comparison(metrics: Metrics) -> str:
    """A line about all mentions together."""
    return f"against champion {metrics['champion']['run']}: {shown_figures(metrics['overall'])}"


def shown_figures(figures: dict[str, Any]) -> str:
    """``61.20 % instead of 60.10 % (+1.10, -0.20 to +2.30) on 10,000 mentions``."""
    difference, low, high = (f"{100 * value:+.2f}" for value in (figures["difference"], *figures["interval"]))
    return (
        f"{figures['new']:.2%} instead of {figures['champion']:.2%} ({difference}, {low} to {high}) "
        f"on {figures['mentions']:,} mentions"
    )
