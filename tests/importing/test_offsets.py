"""Offsets of other units become code points."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from zeshel_tasks.data.raw_text import Span
from zeshel_tasks.importing.offsets import Offsets, OffsetUnit

ENCODINGS: dict[OffsetUnit, tuple[str, int]] = {
    "codepoints": ("utf-32-le", 4),
    "utf16": ("utf-16-le", 2),
    "bytes": ("utf-8", 1),
}
TEXTS = st.text(st.sampled_from("aé日😀\u0301"), min_size=1, max_size=12)


@pytest.mark.parametrize("unit", ENCODINGS)
@given(text=TEXTS, data=st.data())
def test_offset_counts_what_precedes_it(unit: OffsetUnit, text: str, data: st.DataObject) -> None:
    encoding, size = ENCODINGS[unit]
    start = data.draw(st.integers(0, len(text) - 1))
    end = data.draw(st.integers(start + 1, len(text)))
    given_offsets = [len(text[:edge].encode(encoding)) // size for edge in (start, end)]
    assert Offsets(text, unit).span(*given_offsets) == Span(start, end)


@pytest.mark.parametrize(("unit", "start", "end"), [("utf16", 1, 2), ("utf16", 0, 1), ("bytes", 0, 3), ("bytes", 5, 6)])
def test_offset_within_a_character_is_refused(unit: OffsetUnit, start: int, end: int) -> None:
    with pytest.raises(ValueError, match="within one"):
        Offsets("😀é.", unit).span(start, end)


@pytest.mark.parametrize("unit", ENCODINGS)
@pytest.mark.parametrize(("start", "end"), [(0, 0), (2, 1), (0, 9), (8, 9), (-1, 1)])
def test_span_that_is_empty_or_outside_is_refused(unit: OffsetUnit, start: int, end: int) -> None:
    with pytest.raises(ValueError, match="0 <= start < end <="):
        Offsets("😀é.", unit).span(start, end)
