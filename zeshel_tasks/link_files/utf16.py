"""Offsets in UTF-16 code units, as JavaScript, Java and C# count the characters of a text."""

from __future__ import annotations

from bisect import bisect_left


class Utf16:
    """Converts offsets of one text. A character beyond U+FFFF has two code units, a surrogate pair."""

    def __init__(self, text: str) -> None:
        self._pairs = [] if text.isascii() else [at for at, character in enumerate(text) if character > "\uffff"]
        self._units = [at + before for before, at in enumerate(self._pairs)]

    def code_points(self, offset: int) -> int:
        """Converts an offset in code units into one in code points.

        Raises:
            ValueError: the offset is within a surrogate pair.
        """
        before = bisect_left(self._units, offset)
        if before and self._units[before - 1] == offset - 1:
            raise ValueError("within a surrogate pair")
        return offset - before

    def units(self, offset: int) -> int:
        """Converts an offset in code points into one in code units."""
        return offset + bisect_left(self._pairs, offset)
