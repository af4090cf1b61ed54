"""Mentions that are titles and aliases of a knowledge base."""

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from zeshel_tasks.data.zeshel import Document
from zeshel_tasks.link_files.titles import TitleFinder

ENTITIES = (
    Document("1", "Batman", "", aliases=("Bruce Wayne", "the Dark Knight")),
    Document("2", "Batman ( film )", ""),
    Document("3", "New York", ""),
    Document("4", "New York City", ""),
    Document("5", "Two - Face ' s Coin", ""),
    Document("6", "X", ""),
    Document("7", "...", ""),
    Document("8", "東京", ""),
)


def found(text: str, *, ignore_case: bool = False) -> list[str]:
    return [text[span.start : span.end] for span in TitleFinder(ENTITIES, ignore_case=ignore_case).spans(text)]


@pytest.mark.parametrize(
    ("text", "mentions"),
    [
        ("Batman met Bruce  Wayne.", ["Batman", "Bruce  Wayne"]),
        ("Batman(film), not Batmans", ["Batman(film)"]),
        ("New York City New York New", ["New York City", "New York"]),
        ("Two-Face's\nCoin is the Dark Knight's.", ["Two-Face's\nCoin", "the Dark Knight"]),
        ("X ... batman", []),
        ("🦇 東京!", ["東京"]),
        ("", []),
        (" \n", []),
    ],
)
def test_titles_and_aliases_are_found(text: str, mentions: list[str]) -> None:
    assert found(text) == mentions


def test_case_may_be_ignored() -> None:
    assert found("BATMAN and the dark KNIGHT", ignore_case=True) == ["BATMAN", "the dark KNIGHT"]
    # Folding the case makes the text longer, which moves no mention.
    finder = TitleFinder([Document("1", "Straße nach Batman", "")], ignore_case=True)
    (span,) = finder.spans("ßßß STRASSE NACH batman ßß")
    assert "ßßß STRASSE NACH batman ßß"[span.start : span.end] == "STRASSE NACH batman"


def test_a_base_may_have_no_name_to_find() -> None:
    assert TitleFinder([Document("7", "...", "")], ignore_case=False).spans("... a b") == []


@given(st.text(alphabet="abN ewYorkß'-\n🦇İ", max_size=60), st.booleans())
def test_mentions_are_in_order_and_do_not_overlap(text: str, ignore_case: bool) -> None:
    documents = [Document(str(n), title, "") for n, title in enumerate(("ab", "ab a", "b", "New York", "ß i̇"))]
    finder = TitleFinder(documents, ignore_case=ignore_case)
    spans = finder.spans(text)
    assert all(one.end <= other.start for one, other in pairwise(spans))
    assert all(text[span.start : span.end].strip() for span in spans)
