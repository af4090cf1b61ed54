"""Texts whose mentions are in double brackets: ``The [[Batmobile]] left``.

A backslash before ``[[`` or ``]]`` makes it part of the text, and ``\\\\`` before them is one backslash, followed by a
mark. Everywhere else, a backslash is a backslash.
"""

from __future__ import annotations

import re
from typing import NamedTuple

_MARK = re.compile(r"(\\*)(\[\[|\]\])")


class Marked(NamedTuple):
    """A text without its marks.

    Attributes:
        text: without marks and without the backslashes before them.
        spans: start and end of each mention in ``text``, in code points.
        places: start and end of what is between the marks of each mention, in the marked text.
    """

    text: str
    spans: list[tuple[int, int]]
    places: list[tuple[int, int]]


def unmarked(marked: str) -> Marked:
    """Finds the mentions of a marked text.

    Raises:
        ValueError: a mark has no partner. The message says which, and where.
    """
    parts: list[str] = []
    found = Marked("", [], [])
    length = done = 0
    opened: tuple[int, int] | None = None  # of the open mention: start in the text, start in the marked text

    def add(part: str) -> None:
        nonlocal length
        parts.append(part)
        length += len(part)

    for match in _MARK.finditer(marked):
        backslashes, mark = match.groups()
        add(marked[done : match.start()] + "\\" * (len(backslashes) // 2))
        done = match.end()
        if len(backslashes) % 2:
            add(mark)
        elif (mark == "[[") == (opened is not None):
            other = "a [[ within a mention" if opened else "a ]] without a [["
            raise ValueError(f"{other} at character {match.start(2)}; write \\{mark} for brackets of the text")
        elif opened is None:
            opened = length, done
        else:
            found.spans.append((opened[0], length))
            found.places.append((opened[1], match.start()))
            opened = None
    if opened is not None:
        raise ValueError(f"a [[ without a ]] at character {opened[1] - 2}; write \\[[ for brackets of the text")
    add(marked[done:])
    return found._replace(text="".join(parts))
