"""Formats numbers, durations and texts for people; a value that is not there becomes a dash."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from zeshel_tasks.text.json_text import to_json

DASH = "–"
MOST_GROUPS = 50  # worlds or categories in a table of the page; metrics.json has all of them


def percent(rate: float | None, decimals: int = 2) -> str:
    """``0.82061`` -> ``82.06%``."""
    return DASH if rate is None else f"{rate * 100:.{decimals}f}%"


def points(difference: float | None, decimals: int = 2) -> str:
    """Percentage points with their sign: ``0.011`` -> ``+1.10``."""
    return DASH if difference is None else f"{difference * 100:+.{decimals}f}"


def count(number: int | None) -> str:
    """``49275`` -> ``49,275``."""
    return DASH if number is None else f"{number:,}"


def decimal(number: float | None) -> str:
    """Four significant digits."""
    return DASH if number is None else f"{number:,.4g}"


def duration(seconds: float | None) -> str:
    """``4980`` -> ``1 h 23 min``: the two largest units, with tenths of a second only below a minute."""
    if seconds is None:
        return DASH
    if round(seconds, 1) < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest} s"
    hours, minutes = divmod(round(seconds / 60), 60)
    return f"{hours} h {minutes} min"


def memory(megabytes: float | None) -> str:
    """``12595`` -> ``12.6 GB``; a megabyte is 10^6 bytes."""
    if megabytes is None:
        return DASH
    return f"{megabytes:,.0f} MB" if round(megabytes) < 1000 else f"{megabytes / 1000:,.1f} GB"


def money(amount: float | None, currency: str) -> str:
    """``1234.5`` -> ``1,234.50 EUR``; below 10, with a third and fourth decimal."""
    if amount is None:
        return DASH
    return f"{amount:,.2f} {currency}" if round(amount, 2) >= 10 else f"{amount:,.4f} {currency}"


def moment(iso8601: str) -> str:
    """Date and time in UTC; a time without a zone is taken as UTC.

    Raises:
        ValueError: not ISO 8601.
    """
    parsed = datetime.fromisoformat(iso8601)
    aware = parsed.replace(tzinfo=UTC) if parsed.tzinfo is None else parsed.astimezone(UTC)
    return f"{aware:%Y-%m-%d %H:%M} UTC"


def setting_value(value: Any) -> str:
    """A value of the configuration, written as in YAML; a setting without a value is ``none``, not a dash."""
    if value is None:
        return "none"
    return value if isinstance(value, str) else to_json(value, ensure_ascii=False)


def label(name: str) -> str:
    """``HIGH_OVERLAP`` -> ``high overlap``."""
    return name.replace("_", " ").lower() if name.isupper() else name


def best_first(groups: Mapping[str, Any], *path: str) -> list[tuple[str, Any]]:
    """Sorts groups by the rate at ``path`` in each, highest first, then by name; groups without a rate are last."""

    def rate(group: Any) -> float:
        for name in path:
            group = group[name]
        return -1.0 if group is None else float(group)

    return sorted(groups.items(), key=lambda item: (-rate(item[1]), item[0]))


def largest(groups: Mapping[str, Any], mentions: str = "mentions") -> dict[str, Any]:
    """The :data:`MOST_GROUPS` groups with the most mentions, in their order. ``mentions`` is a field of each group."""
    kept = set(sorted(groups, key=lambda name: (-groups[name][mentions], name))[:MOST_GROUPS])
    return {name: group for name, group in groups.items() if name in kept}


def others(groups: Mapping[str, Any], mentions: str = "mentions") -> dict[str, int]:
    """The number of groups that :func:`largest` leaves out, and the sum of their mentions."""
    shown = largest(groups, mentions)
    left_out = [group[mentions] for name, group in groups.items() if name not in shown]
    return {"groups": len(left_out), "mentions": sum(left_out)}


def names(texts: Sequence[str]) -> str:
    """``a, b, c``, and the number of those after the first :data:`MOST_GROUPS`."""
    listed, more = ", ".join(texts[:MOST_GROUPS]), len(texts) - MOST_GROUPS
    return f"{listed} and {more:,} others" if more > 0 else listed


def beginning(text: str, characters: int) -> str:
    """The first words of a text, at most ``characters`` long, with an ellipsis if anything was cut off."""
    if len(text) <= characters:
        return text
    cut = text[:characters]
    return f"{cut.rpartition(' ')[0] or cut} …"


def ending(text: str, characters: int) -> str:
    """The last words of a text; see :func:`beginning`."""
    if len(text) <= characters:
        return text
    cut = text[-characters:]
    return f"… {cut.partition(' ')[2] or cut}"
