"""Messages show any text as one short line."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from zeshel_tasks.errors import DataError
from zeshel_tasks.text.safe_text import has_control_characters, one_line, quoted, safe_text, told_apart


@given(st.text(st.characters()))
def test_one_line_escapes_only_unprintable_characters(text: str) -> None:
    line = one_line(text)
    assert line.isprintable()
    if text.isprintable():
        assert line == text


@pytest.mark.parametrize("text", ["a\nb", "a\r\x1b[31mb", "a\u2028b", "a\x00b", "\ud800", "a\u202eb", "\x85"])
def test_text_cannot_control_a_terminal_or_start_a_line(text: str) -> None:
    assert one_line(text).isprintable()
    assert len(one_line(text).splitlines()) == 1
    one_line(text).encode()


def test_long_text_is_cut_and_shows_its_length() -> None:
    assert safe_text("x" * 5000) == "x" * 120 + "… (5,000 characters)"


def nested(levels: int) -> list[Any]:
    value: list[Any] = []
    for _ in range(levels):
        value = [value]
    return value


def wide(levels: int) -> list[Any]:
    """Returns 9^levels elements, as a few lines of YAML with aliases can."""
    value: list[Any] = ["lol"]
    for _ in range(levels):
        value = [value] * 9
    return value


@pytest.mark.parametrize(
    "make",
    [
        lambda: 10**10_000,
        lambda: [-(10**10_000)],
        lambda: nested(100_000),
        lambda: wide(30),
        lambda: {"a": nested(9_999)},
        lambda: {"\n": "\n"},
        lambda: b"\x00" * 999,
    ],
    ids=["huge", "huge in a list", "nested", "wide", "nested in a dict", "line ends", "bytes"],
)
def test_any_value_becomes_one_short_line(make: Callable[[], object]) -> None:
    value = make()
    for text in (safe_text(value), quoted(value)):
        assert text.isprintable()
        assert 0 < len(text) < 300


def test_quoted_puts_a_string_in_quotation_marks() -> None:
    assert quoted("a") == "'a'"
    assert quoted(3) == "3"


@given(st.text(), st.text(), st.text(), st.text())
def test_data_error_is_one_line(problem: str, file: str, expected: str, got: str) -> None:
    assert str(DataError(problem, file=file, line=3, expected=expected, got=got)).isprintable()


@pytest.mark.parametrize(
    ("expected", "got", "shown"),
    [
        ("one of caf\u00e9, tea", "cafe\u0301", (r"one of caf\xe9, tea", r"cafe\u0301")),
        ("one of cafe\u0301", "caf\u00e9", (r"one of cafe\u0301", r"caf\xe9")),
        ("'\u00c9', tokens 1 to 1", "'e\u0301'", (r"'\xc9', tokens 1 to 1", r"'e\u0301'")),  # case is ignored
        ("one of caf\u00e9", "caf\u00e8", ("one of caf\u00e9", "caf\u00e8")),
        ("less than caf\u00e9", "caf\u00e9", ("less than caf\u00e9", "caf\u00e9")),
        ("x" * 100_000, "x", ("x" * 100_000, "x")),
    ],
)
def test_texts_that_look_alike_are_told_apart(expected: str, got: str, shown: tuple[str, str]) -> None:
    assert told_apart(expected, got) == shown


@pytest.mark.parametrize("character", ["\x00", "\n", "\x1f", "\x7f", "\x85", "\u2028", "\u2029", "\ud800"])
def test_control_characters_are_found(character: str) -> None:
    assert has_control_characters(f"a{character}b")
    assert not has_control_characters("a b \xa0 é 日本 \u200d 😀")
