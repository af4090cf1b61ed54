"""Whether a model that was compared with the champion is to replace it; needs the numbers alone."""

from __future__ import annotations

from typing import Any

from zeshel_tasks.config import PromoteConfig

Metrics = dict[str, Any]


def decide(compared: Metrics, config: PromoteConfig) -> Metrics:
    """Whether a model that was compared with the champion replaces it, and why.

    Returns:
        ``promoted``, ``reason``, and what ``compare`` measured.
    """
    if compared["champion"] is None:
        return {"promoted": True, "reason": "there was no champion", **compared}
    worst, figures = min(compared["worlds"].items(), key=lambda item: item[1]["difference"])
    shown, difference, low = (
        shown_comparison(compared),
        compared["overall"]["difference"],
        compared["overall"]["interval"][0],
    )
    if difference < config.margin or difference <= 0:
        reason = f"no better by the margin of {100 * config.margin:g} points, {shown}"
    elif low <= 0:
        reason = f"the difference may be chance, {shown}"
    elif figures["difference"] < -config.max_world_drop:
        drop = f"{-100 * figures['difference']:.2f} points in {worst}"
        reason = f"it falls by {drop}, where {100 * config.max_world_drop:g} are allowed; {shown}"
    else:
        return {"promoted": True, "reason": f"better, {shown}", **compared}
    return {"promoted": False, "reason": reason, **compared}


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
