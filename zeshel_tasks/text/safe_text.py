"""Text and values of unknown origin, as messages show them: one line, bounded, and nothing that acts on a terminal."""

from __future__ import annotations

import reprlib

VALUE_CHARACTERS = 120
_HUGE_BITS = 1024  # Python refuses to write out integers of more than 4,300 digits


class _Repr(reprlib.Repr):
    """``repr`` in bounded time, whatever is nested in whatever: a YAML file's aliases can make 10^9 elements of a few
    lines, and a deep list ends the plain ``repr`` by a RecursionError."""

    def __init__(self) -> None:
        super().__init__()
        self.maxlevel = 4
        self.maxdict = self.maxlist = self.maxtuple = self.maxset = self.maxfrozenset = 8
        self.maxstring = self.maxother = self.maxlong = 2 * VALUE_CHARACTERS

    def repr_int(self, value: int, level: int) -> str:
        bits = value.bit_length()
        return f"an integer of {bits:,} bits" if bits > _HUGE_BITS else super().repr_int(value, level)


_repr = _Repr()


def one_line(text: str) -> str:
    """The text with every character that is not printable as its escape: no second line, no terminal's command.

    Line ends of all kinds, control characters, halves of surrogate pairs and marks that turn the direction of writing
    are among them. A text from data that is logged this way cannot look like a log line of its own.
    """
    if text.isprintable():
        return text
    return "".join(
        character if character.isprintable() else character.encode("unicode_escape").decode("ascii")
        for character in text
    )


def safe_text(value: object, limit: int = VALUE_CHARACTERS) -> str:
    """A value in one line: a string as it is, anything else as its ``repr``; cut after ``limit`` characters."""
    text = value if isinstance(value, str) else _repr.repr(value)
    if len(text) <= limit:
        return one_line(text)
    return f"{one_line(text[:limit])}… ({len(text):,} characters)"


def quoted(value: object) -> str:
    """Like :func:`safe_text`, but a string gets quotation marks."""
    return safe_text(_repr.repr(value))
