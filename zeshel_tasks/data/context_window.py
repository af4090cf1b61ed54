"""Selects the tokens of the context that fit around a mention. Space that one side does not need goes to the other.

Source: BLINK (Wu et al., 2020, arXiv:1911.03814), zeshel example.
"""

from __future__ import annotations

from typing import NamedTuple


class Side(NamedTuple):
    """A mention's context on one side.

    Attributes:
        ids: token ids.
        cut: True if these are only the tokens of the words next to the mention.
    """

    ids: list[int]
    cut: bool


def context_window(left: Side, mention: int, right: Side, max_length: int) -> tuple[list[int], list[int]] | None:
    """Returns the ids that are kept on the left and on the right.

    Args:
        left: the left side, of which the last tokens are kept.
        mention: number of tokens of the mention, including both markers.
        right: the right side, of which the first tokens are kept.
        max_length: length of the window, including [CLS] and [SEP].

    Returns:
        Both lists, or None if a cut side has fewer tokens than would be kept of the whole.
    """
    # Treat a cut side as longer than any window. If it is too short for that, the result is None.
    lengths = (max_length if side.cut else len(side.ids) for side in (left, right))
    left_quota, right_quota = context_quotas(max_length, mention, *lengths)
    if (left.cut and len(left.ids) < left_quota) or (right.cut and len(right.ids) < right_quota):
        return None
    return left.ids[max(0, len(left.ids) - left_quota) :], right.ids[:right_quota]


def context_quotas(max_length: int, mention: int, left: int, right: int) -> tuple[int, int]:
    """Returns the numbers of tokens of the left and the right context that fit around a mention.

    Args:
        max_length: length of the window, including [CLS] and [SEP].
        mention: number of tokens of the mention, including both markers.
        left: number of tokens on the left.
        right: number of tokens on the right.

    Returns:
        (left quota, right quota), never negative. Each side gets half of the space, and what it does not need goes to
        the other.
    """
    left_quota = max(0, (max_length - mention) // 2 - 1)
    right_quota = max(0, max_length - mention - left_quota - 2)
    if left <= left_quota:
        right_quota += left_quota - left
    elif right <= right_quota:
        left_quota += right_quota - right
    return left_quota, right_quota


def first_words(text: str, count: int) -> str:
    """Returns the text up to its ``count``-th space. Words are not cut, so their tokens stay the same."""
    words = text.split(" ", count)
    return text if len(words) <= count else " ".join(words[:count])


def last_words(text: str, count: int) -> str:
    """Returns the text after its ``count``-th last space."""
    words = text.rsplit(" ", count)
    return text if len(words) <= count else " ".join(words[1:])
