import pytest
from hypothesis import given
from hypothesis import strategies as st

from zeshel_tasks.link_files.marked import unmarked


def test_mentions_are_found_between_brackets() -> None:
    found = unmarked("The [[Batmobile]] left [[Gotham]].")
    assert found.text == "The Batmobile left Gotham."
    assert [found.text[start:end] for start, end in found.spans] == ["Batmobile", "Gotham"]
    assert found.places == [(6, 15), (25, 31)]


@pytest.mark.parametrize(
    ("marked", "text", "mentions"),
    [
        ("no mention", "no mention", []),
        (r"a \[[link\]] [[b]]", "a [[link]] b", ["b"]),
        (r"C:\new \\[[a]]", "C:\\new \\a", ["a"]),
        (r"\\\[[", r"\[[", []),
        (r"[[a\]]b]]", "a]]b", ["a]]b"]),
        ("[[]]", "", [""]),
        ("x[y] [z]", "x[y] [z]", []),
    ],
)
def test_a_backslash_makes_brackets_part_of_the_text(marked: str, text: str, mentions: list[str]) -> None:
    found = unmarked(marked)
    assert (found.text, [text[start:end] for start, end in found.spans]) == (text, mentions)


@pytest.mark.parametrize(
    ("marked", "problem"),
    [
        ("a [[b", r"a \[\[ without a \]\] at character 2"),
        ("a ]] b", r"a \]\] without a \[\[ at character 2"),
        ("[[a [[b]]", r"a \[\[ within a mention at character 4"),
    ],
)
def test_a_mark_without_partner_is_refused(marked: str, problem: str) -> None:
    with pytest.raises(ValueError, match=problem):
        unmarked(marked)


@given(st.lists(st.text("ab []\\", max_size=6), max_size=5))
def test_escaped_parts_come_back(parts: list[str]) -> None:
    """Every other part is a mention. What is escaped has neither marks nor backslashes at an end."""

    def escaped(part: str) -> str:
        return part.replace("[[", "").replace("]]", "").replace("[", "").replace("]", "").rstrip("\\")

    clean = [escaped(part) for part in parts]
    marked = "".join(f"[[{part}]]" if number % 2 else part for number, part in enumerate(clean))
    found = unmarked(marked)
    assert found.text == "".join(clean)
    assert [found.text[start:end] for start, end in found.spans] == clean[1::2]
    assert [marked[start:end] for start, end in found.places] == clean[1::2]
