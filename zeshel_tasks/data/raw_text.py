"""Turns plain text into ZESHEL's tokens, and positions in one into positions in the other.

ZESHEL's texts consist of tokens with single spaces between them: words, and punctuation characters one by one, as in
``Tyler ' s``. A span that starts or ends inside a word cuts the word. The tokens contain all characters of the text
except white space, in order, so a span of tokens is found again in the text: :func:`character_spans`.
"""

from __future__ import annotations

import re
from array import array
from collections.abc import Iterable
from functools import cache
from itertools import pairwise
from typing import NamedTuple
from unicodedata import category

_PAST_PUNCTUATION = 0x20000  # from here on, Unicode has only Chinese characters, tags and private use


class Span(NamedTuple):
    """A part of a text, in code points: from ``start`` to before ``end``."""

    start: int
    end: int


class TokenSpan(NamedTuple):
    """A part of a tokenized text, in tokens, both inclusive."""

    start: int
    end: int


def tokenized(text: str, spans: Iterable[Span] = ()) -> tuple[str, list[TokenSpan | None]]:
    """Returns the tokens of a text, joined by single spaces, and where each span is among them.

    Each span becomes whole tokens. White space at its ends is not part of them. The result for a span is None if it
    contains nothing but white space.

    Args:
        text: any text.
        spans: parts of ``text``, in any order; they may overlap.
    """
    spans = list(spans)
    edges = sorted({0, len(text), *(edge for span in spans for edge in span)})
    tokens: list[str] = []
    tokens_before = {0: 0}
    for start, end in pairwise(edges):
        tokens += _token().findall(text, start, end)
        tokens_before[end] = len(tokens)
    found = (TokenSpan(tokens_before[span.start], tokens_before[span.end] - 1) for span in spans)
    return " ".join(tokens), [span if span.start <= span.end else None for span in found]


def character_spans(text: str, tokens: str, spans: Iterable[TokenSpan]) -> list[Span]:
    """Returns the parts of a plain text that spans of its tokens stand for.

    Args:
        text: the plain text.
        tokens: the same text as :func:`tokenized` returned it.
        spans: parts of ``tokens``.

    Raises:
        ValueError: ``tokens`` are not those of ``text``, or a span is not within them.
    """
    starts, ends = array("I"), array("I")
    position = 0
    for token in tokens.split(" ") if tokens else ():
        while position < len(text) and text[position].isspace():
            position += 1
        if not token or not text.startswith(token, position):
            raise ValueError(f"expected the tokens of the text, got {token!r} as token {len(starts)}")
        starts.append(position)
        position += len(token)
        ends.append(position)
    found = []
    for first, last in spans:
        if not 0 <= first <= last < len(starts):
            raise ValueError(f"expected a span within {len(starts)} tokens, got {first} to {last}")
        found.append(Span(starts[first], ends[last]))
    return found


@cache
def _token() -> re.Pattern[str]:
    """Finds a word or a punctuation character. BERT's tokenizer splits at the same characters."""
    codes = [code for code in range(33, 127) if not chr(code).isalnum()]
    codes += [code for code in range(128, _PAST_PUNCTUATION) if category(chr(code)).startswith("P")]
    punctuation = "".join(f"\\U{code:08x}" for code in codes)
    return re.compile(rf"[{punctuation}]|[^\s{punctuation}]+")
