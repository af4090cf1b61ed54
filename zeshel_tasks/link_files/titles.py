"""Finds mentions in texts: the titles and aliases of the knowledge base's entities, word for word.

The library pyahocorasick searches for all of them at once (Aho and Corasick, 1975, "Efficient string matching").
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import ahocorasick

from zeshel_tasks.data.raw_text import Span, TokenSpan, character_spans, tokenized
from zeshel_tasks.data.zeshel import Document
from zeshel_tasks.linking.words import without_parenthesis


class TitleFinder:
    """Finds titles and aliases. Memory holds about 35 bytes for each character of them.

    A name is found where the text has the same tokens, so white space does not matter, and no word is cut. A title is
    also found without the parenthesis at its end. Names without any letter or digit, and those of one character, are
    left out. Of names that overlap, the first is a mention, and of those that begin together the longest.

    Args:
        documents: the entities.
        ignore_case: True finds ``batman`` for ``Batman``.
    """

    def __init__(self, documents: Iterable[Document], *, ignore_case: bool) -> None:
        self._ignore_case = ignore_case
        self._names = ahocorasick.Automaton(ahocorasick.STORE_LENGTH)
        for document in documents:
            for name in (document.title, without_parenthesis(document.title), *document.aliases):
                tokens, _ = tokenized(name)
                if len(tokens) > 1 and any(character.isalnum() for character in tokens):
                    self._names.add_word(_padded(self._cased(tokens)))
        self._names.make_automaton()

    def spans(self, text: str) -> list[Span]:
        """Returns the mentions of a text, in order."""
        if not len(self._names):
            return []
        tokens, _ = tokenized(text)
        chosen: list[TokenSpan] = []
        for span in sorted(self._occurrences(tokens), key=lambda span: (span.start, -span.end)):
            if not chosen or span.start > chosen[-1].end:
                chosen.append(span)
        return character_spans(text, tokens, chosen)

    def _occurrences(self, tokens: str) -> Iterator[TokenSpan]:
        searched = _padded(self._cased(tokens))
        # A space is before each token and after the last, so the number of a space is that of the token after it.
        number = {place: count for count, place in enumerate(_spaces(searched))}
        for last, length in self._names.iter(searched):
            yield TokenSpan(number[last - length + 1], number[last] - 1)

    def _cased(self, text: str) -> str:
        return text.casefold() if self._ignore_case else text


def _padded(tokens: str) -> str:
    return f" {tokens} "


def _spaces(text: str) -> Iterator[int]:
    return (place for place, character in enumerate(text) if character == " ")
