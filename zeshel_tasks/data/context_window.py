"""Which tokens of its context a mention keeps: as many on each side as fit, what one side does not need for the other.

Source: BLINK (Wu et al., 2020, arXiv:1911.03814), zeshel example.
"""

from __future__ import annotations

from typing import NamedTuple


class Side(NamedTuple):
    """A mention's context on one side.

    Attributes:
        ids: token ids.
        cut: whether they are only those of the words next to the mention.
    """

    ids: list[int]
    cut: bool


def context_window(left: Side, mention: int, right: Side, max_length: int) -> tuple[list[int], list[int]] | None:
    """The ids kept on the left and on the right.

    Args:
        left: the last tokens are kept.
        mention: its tokens, both markers included.
        right: the first tokens are kept.
        max_length: the window, [CLS] and [SEP] included.

    Returns:
        Both; None where a side that is cut has less than would be kept of the whole.
    """
    # A side that is cut is longer than all windows, or it would be known that it is not.
    lengths = (max_length if side.cut else len(side.ids) for side in (left, right))
    left_quota, right_quota = context_quotas(max_length, mention, *lengths)
    if (left.cut and len(left.ids) < left_quota) or (right.cut and len(right.ids) < right_quota):
        return None
    return left.ids[max(0, len(left.ids) - left_quota) :], right.ids[:right_quota]


def context_quotas(max_length: int, mention: int, left: int, right: int) -> tuple[int, int]:
    """How many tokens of the left and of the right context fit around a mention.

    Args:
        max_length: the window, [CLS] and [SEP] included.
        mention: tokens of the mention, both markers included.
        left: tokens there are on the left.
        right: tokens there are on the right.

    Returns:
        (left quota, right quota), never negative: half of the rest each, and what one side does not need goes to the
        other.
    """
    left_quota = max(0, (max_length - mention) // 2 - 1)
    right_quota = max(0, max_length - mention - left_quota - 2)
    if left <= left_quota:
        right_quota += left_quota - left
    elif right <= right_quota:
        left_quota += right_quota - right
    return left_quota, right_quota


def first_words(text: str, count: int) -> str:
    """The text up to its ``count``-th space: cut where a word ends, it has the tokens that it has in the whole."""
    words = text.split(" ", count)
    return text if len(words) <= count else " ".join(words[:count])


def last_words(text: str, count: int) -> str:
    """The text after its ``count``-th last space."""
    words = text.rsplit(" ", count)
    return text if len(words) <= count else " ".join(words[1:])
