"""Makes text of unknown origin safe to print: one short line without control characters."""

from __future__ import annotations

import reprlib
import unicodedata

VALUE_CHARACTERS = 120
_NOT_TEXT = ("Cc", "Cs", "Zl", "Zp")  # control characters, halves of surrogate pairs, line and paragraph separators
_COMPARED_CHARACTERS = 100_000
_HUGE_BITS = 1024  # Python refuses to write out integers of more than 4,300 digits


class _Repr(reprlib.Repr):
    """``repr`` in bounded time for any nesting.

    With aliases, a few lines of YAML can describe 10^9 elements. A deep list raises a RecursionError in plain ``repr``.
    """

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
    """The text with every unprintable character escaped.

    These include line ends, control characters, unpaired surrogates and marks that change the writing direction. Text
    from a data set cannot imitate a log line or send commands to a terminal.
    """
    if text.isprintable():
        return text
    return "".join(
        character if character.isprintable() else character.encode("unicode_escape").decode("ascii")
        for character in text
    )


def safe_text(value: object, limit: int = VALUE_CHARACTERS) -> str:
    """A string, or the ``repr`` of any other value, as one line that is cut after ``limit`` characters."""
    text = value if isinstance(value, str) else _repr.repr(value)
    if len(text) <= limit:
        return one_line(text)
    return f"{one_line(text[:limit])}… ({len(text):,} characters)"


def quoted(value: object) -> str:
    """Like :func:`safe_text`, but a string gets quotation marks."""
    return safe_text(_repr.repr(value))


def has_control_characters(text: str) -> bool:
    """True if the text contains a control character, a line end or half of a surrogate pair.

    PostgreSQL, terminals and lists with one item a line do not take all of them.
    """
    return any(unicodedata.category(character) in _NOT_TEXT for character in text)


def told_apart(expected: str, got: str) -> tuple[str, str]:
    """Both texts, with all but ASCII escaped if ``got`` looks like a part of ``expected`` but is not.

    An é may be one character (the normal form NFC) or an e and an accent (NFD).
    """
    if len(expected) + len(got) > _COMPARED_CHARACTERS:  # `got` may be a line of 256 MB
        return expected, got
    if got.casefold() in expected.casefold() or _normal_form(got) not in _normal_form(expected):
        return expected, got
    return _escaped(expected), _escaped(got)


def _normal_form(text: str) -> str:
    return unicodedata.normalize("NFC", text).casefold()


def _escaped(text: str) -> str:
    return text.encode("ascii", "backslashreplace").decode("ascii")
