"""Offsets in UTF-16 or in bytes become offsets in code points."""

from __future__ import annotations

from array import array
from bisect import bisect_left
from itertools import accumulate
from typing import Literal

from zeshel_tasks.data.raw_text import Span

OffsetUnit = Literal["codepoints", "utf16", "bytes"]
"""``codepoints`` is Python's ``text[start:end]``, ``utf16`` that of JavaScript and Java, ``bytes`` that of UTF-8."""

_PAST_UTF16_UNIT = 0x10000


class Offsets:
    """Finds parts of a text whose edges are given in some unit.

    Args:
        text: the text.
        unit: of the offsets.
    """

    def __init__(self, text: str, unit: OffsetUnit) -> None:
        self._edges = None if unit == "codepoints" or text.isascii() else _edges(text, unit)
        self._size = len(text) if self._edges is None else self._edges[-1]

    def span(self, start: int, end: int) -> Span:
        """Returns the part from ``start`` to before ``end``, in code points.

        Raises:
            ValueError: the part is empty, not within the text, or cuts a code point. The message says what was
                expected.
        """
        if not 0 <= start < end <= self._size:
            raise ValueError(f"0 <= start < end <= {self._size:,}, the length of the text")
        return Span(self._code_point(start), self._code_point(end))

    def _code_point(self, offset: int) -> int:
        if self._edges is None:
            return offset
        found = bisect_left(self._edges, offset)
        if self._edges[found] != offset:
            raise ValueError(f"offsets between characters; {offset:,} is within one")
        return found


def _edges(text: str, unit: OffsetUnit) -> array[int]:
    """Offsets of each code point and of the end of the text; 4 bytes each."""
    sizes = (_size(ord(character), unit) for character in text)
    return array("I", accumulate(sizes, initial=0))


def _size(code: int, unit: OffsetUnit) -> int:
    if unit == "utf16":
        return 1 + (code >= _PAST_UTF16_UNIT)
    return 1 + (code >= 0x80) + (code >= 0x800) + (code >= _PAST_UTF16_UNIT)
