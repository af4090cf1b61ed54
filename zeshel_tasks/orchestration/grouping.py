"""Divides work among mapped tasks."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise


def groups(names: Sequence[str], most: int) -> list[list[str]]:
    """Divide names among at most ``most`` tasks, as evenly as possible and in their order."""
    count = max(1, min(len(names), most))
    ends = [len(names) * number // count for number in range(count + 1)]
    return [list(names[start:end]) for start, end in pairwise(ends) if start < end]
