"""Lexical search in a world: BM25 and names."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path

from zeshel_tasks.data.arrays import Rows
from zeshel_tasks.data.zeshel import Document
from zeshel_tasks.linking import bm25, names
from zeshel_tasks.linking.bm25 import Bm25, Scores
from zeshel_tasks.linking.mention_texts import MentionText
from zeshel_tasks.linking.names import NameKind, Names
from zeshel_tasks.linking.words import content_words, plain_name, without_parenthesis, words

FILES = (*bm25.FILES, *names.FILES)
"""Files of a :class:`LexicalIndex`."""


class LexicalIndex:
    """Finds the entities of a world by words and names. Opens the files that :meth:`write` wrote, memory-mapped."""

    def __init__(self, folder: Path) -> None:
        self._bm25, self._names = Bm25(folder), Names(folder)

    def __len__(self) -> int:
        """Returns the number of entities."""
        return len(self._bm25)

    @staticmethod
    def write(documents: Iterable[Document], folder: Path) -> None:
        """Writes the index of a world's entities into ``folder``, in one pass over them."""
        found: list[tuple[NameKind, str, int]] = []

        def noted() -> Iterator[Document]:
            for position, document in enumerate(documents):
                found.extend(_names(document, position))
                yield document

        Bm25.write(noted(), folder)
        Names.write(found, folder)

    def mention_scores(self, text: MentionText) -> Scores:
        """Returns BM25 of the mention's words for each entity: float32 [entities]."""
        return self._bm25.scores(words(text.mention))

    def context_scores(self, text: MentionText) -> Scores:
        """Returns BM25 of the words around the mention for each entity: float32 [entities]."""
        return self._bm25.scores(content_words(text.context))

    def named(self, kind: NameKind, text: MentionText) -> Rows:
        """Returns the entities that the mention names, or with the kind ``page`` the entity whose page it is on."""
        return self._names.find(kind, text.page if kind == "page" else plain_name(text.mention))


def _names(document: Document, position: int) -> Iterator[tuple[NameKind, str, int]]:
    title, bare = plain_name(document.title), plain_name(without_parenthesis(document.title))
    yield "page", document.document_id, position
    yield "title", title, position
    if bare != title:
        yield "title_without_parenthesis", bare, position
    for alias in document.aliases:
        yield "alias", plain_name(alias), position
