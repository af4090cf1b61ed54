"""The words of texts and names, as BM25 and the comparison of names see them.

A word is a run of letters and digits of any script, after NFKC normalization and case folding. Nothing is stemmed. In a
script without spaces, a word is everything up to the next punctuation, so BM25 finds such a text only by whole phrases.
"""

from __future__ import annotations

import re
from unicodedata import normalize

_WORD = re.compile(r"[^\W_]+")
_LAST_PARENTHESIS = re.compile(r"\([^()]*\)\s*$")
_LUCENES_STOPWORDS = (
    "a an and are as at be but by for if in into is it no not of on or such that the their then there these they this "
    "to was will with"
)
STOPWORDS = frozenset(_LUCENES_STOPWORDS.split())


def words(text: str) -> list[str]:
    """Returns the words of a text, in order."""
    return _WORD.findall(normalize("NFKC", text).casefold())


def content_words(text: str) -> list[str]:
    """Returns the words of a text without English stopwords, which would cost a context's query most of its time."""
    return [word for word in words(text) if word not in STOPWORDS]


def plain_name(name: str) -> str:
    """Returns a name for comparison: its words, separated by spaces."""
    return " ".join(words(name))


def without_parenthesis(title: str) -> str:
    """Returns a title without the parenthesis at its end, which tells entities of the same name apart."""
    return _LAST_PARENTHESIS.sub("", title)
