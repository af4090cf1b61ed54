import pytest
from hypothesis import given
from hypothesis import strategies as st

from zeshel_tasks.link_files.utf16 import Utf16


@given(st.text(st.sampled_from("aé漢😀𐍈"), max_size=20), st.integers(0, 20))
def test_offsets_are_those_of_the_encoded_text(text: str, offset: int) -> None:
    at = min(offset, len(text))
    units = len(text[:at].encode("utf-16-le")) // 2
    assert Utf16(text).units(at) == units
    assert Utf16(text).code_points(units) == at


def test_an_offset_within_a_surrogate_pair_is_refused() -> None:
    with pytest.raises(ValueError, match="within a surrogate pair"):
        Utf16("a😀b").code_points(2)
    assert [Utf16("a😀b").code_points(offset) for offset in (0, 1, 3, 4)] == [0, 1, 2, 3]
