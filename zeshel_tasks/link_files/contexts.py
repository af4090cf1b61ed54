"""Mentions of plain texts, with the context that the models see."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from zeshel_tasks.data.context_window import first_words, last_words
from zeshel_tasks.data.raw_text import tokenized

_CHARACTERS_A_TOKEN = 16  # usually more than enough, so that one look suffices
_MOST_CHARACTERS_A_TOKEN = 64
"""Of a text whose tokens are longer on average, such as one word of a million letters, less context is read."""


class TextMention(NamedTuple):
    """A mention in ZESHEL's tokens, as :class:`~zeshel_tasks.linking.mention_texts.MentionInContext`.

    Attributes:
        context_left: tokens before the mention, separated by single spaces.
        mention: its tokens.
        context_right: tokens after it.
        context_document_id: the page that the mention is on; empty if it is no entity's page.
    """

    context_left: str
    mention: str
    context_right: str
    context_document_id: str = ""


def mention_of_text(text: str, start: int, end: int, context_tokens: int, page: str = "") -> TextMention:
    """Returns a mention with at most ``context_tokens`` tokens on each side.

    The text is tokenized as imported data sets are, but only around the mention.

    Args:
        text: plain text.
        start: of the mention, in code points.
        end: one after its last code point.
        context_tokens: see :class:`~zeshel_tasks.linking.evaluation_settings.EvaluationSettings`.
        page: see :class:`TextMention`.
    """
    left, right = _last(text, start, context_tokens), _first(text, end, context_tokens)
    return TextMention(left, tokenized(text[start:end])[0], right, page)


def mention_of_tokens(text: str, start: int, end: int, context_tokens: int, page: str = "") -> TextMention:
    """Like :func:`mention_of_text` for a text that consists of tokens with single spaces between them."""
    left, right = text[:start].removesuffix(" "), text[end:].removeprefix(" ")
    return TextMention(last_words(left, context_tokens), text[start:end], first_words(right, context_tokens), page)


def _last(text: str, end: int, count: int) -> str:
    """The last tokens before ``end``. Doubles the part that it looks at until the first token in it is not needed."""
    for size in _sizes(count):
        start = max(0, end - size)
        tokens = tokenized(text[start:end])[0].split(" ")
        if len(tokens) > count or start == 0:
            break
    return " ".join(tokens[-count:])


def _first(text: str, start: int, count: int) -> str:
    for size in _sizes(count):
        end = start + size
        tokens = tokenized(text[start:end])[0].split(" ")
        if len(tokens) > count or end >= len(text):
            break
    return " ".join(tokens[:count])


def _sizes(count: int) -> Iterator[int]:
    """Numbers of characters that may have ``count`` tokens, each twice the one before."""
    size = _CHARACTERS_A_TOKEN
    while size <= _MOST_CHARACTERS_A_TOKEN:
        yield size * (count + 1)
        size *= 2
