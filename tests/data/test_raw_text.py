"""Plain text becomes tokens, and tokens become plain text again."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from zeshel_tasks.data.raw_text import Span, TokenSpan, character_spans, tokenized

ODD = st.sampled_from("e\u0301 \u00a0\u2028\u3000\u200b\u200d\ufeff😀🏽日本हि\u0600\x00\x1c\x85_-'’.«»ſßİ\t\r\n")
TEXTS = st.text(st.one_of(ODD, st.characters(exclude_categories=["Cs"])), max_size=30)


@st.composite
def texts_with_spans(draw: st.DrawFn) -> tuple[str, list[Span]]:
    text = draw(TEXTS)
    edges = st.integers(0, len(text))
    pairs = draw(st.lists(st.tuples(edges, edges), max_size=5))
    return text, [Span(min(pair), max(pair)) for pair in pairs]


@given(texts_with_spans())
def test_span_of_tokens_goes_back_to_its_characters(drawn: tuple[str, list[Span]]) -> None:
    text, spans = drawn
    tokens, found = tokenized(text, spans)
    assert tokens.replace(" ", "") == "".join(text.split())
    assert all(token and not any(map(str.isspace, token)) for token in tokens.split(" ")) or not tokens
    for span, place in zip(spans, found, strict=True):
        inside = text[span.start : span.end]
        if place is None:
            assert not inside.strip()
            continue
        start = span.start + len(inside) - len(inside.lstrip())
        assert character_spans(text, tokens, [place]) == [Span(start, start + len(inside.strip()))]
        assert "".join(tokens.split(" ")[place.start : place.end + 1]) == "".join(inside.split())


@pytest.mark.parametrize(
    ("text", "tokens"),
    [
        ("C. W. Jessen's", "C . W . Jessen ' s"),
        ("\u00abcafe\u0301\u00bb  2,5\u20ac", "\u00ab cafe\u0301 \u00bb 2 , 5\u20ac"),
        ("हिन्दी।", "हिन्दी ।"),
        ("", ""),
        (" \n", ""),
    ],
)
def test_punctuation_is_a_token_of_its_own(text: str, tokens: str) -> None:
    assert tokenized(text)[0] == tokens


def test_span_within_a_word_cuts_it() -> None:
    assert tokenized("Orlens Fähre", [Span(0, 5), Span(3, 9)]) == (
        "Orl en s Fä hre",
        [TokenSpan(0, 1), TokenSpan(1, 3)],
    )


def test_tokens_of_zeshel_stay_as_they_are() -> None:
    text = "Tyler ' s ferry ( 1906 )"
    assert tokenized(text)[0] == text


@pytest.mark.parametrize(("tokens", "span"), [("a c", (0, 0)), ("a b", (0, 2)), ("a b", (1, 0)), ("a  b", (0, 0))])
def test_tokens_of_another_text_are_refused(tokens: str, span: tuple[int, int]) -> None:
    with pytest.raises(ValueError, match=r"^expected"):
        character_spans("a b", tokens, [TokenSpan(*span)])
