"""Lexical search in a world: BM25 and names."""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Literal, get_args

import numpy as np
import numpy.typing as npt

from zeshel_tasks.data.arrays import Rows, read_array
from zeshel_tasks.data.zeshel import Document
from zeshel_tasks.linking import bm25, names
from zeshel_tasks.linking.bm25 import Bm25, Bm25Builder, Scores
from zeshel_tasks.linking.mention_texts import MentionText
from zeshel_tasks.linking.names import NameKind, Names
from zeshel_tasks.linking.words import content_words, plain_name, without_parenthesis, words

Field = Literal["everything", "names", "lead"]
"""What BM25 searches: the names of an entity and its text; its title and aliases alone; the first words of its text."""

_FIELDS: tuple[Field, ...] = get_args(Field)
_LENGTHS = "text_words.npy"

FILES = (*(f"{field}/{name}" for field in _FIELDS for name in bm25.FILES), *names.FILES, _LENGTHS)
"""Files of a :class:`LexicalIndex`."""

NAME_WEIGHT = 3
"""In ``everything``, a word of the title or of an alias counts as if it occurred this often."""

TEXT_CHARACTERS = 20_000
"""The text beyond is not indexed, which bounds memory."""

LEAD_WORDS = 32
"""A description begins by saying what its entity is, and often by the identifiers that it documents."""


class LexicalIndex:
    """Finds the entities of a world by words and names. Opens the files that :meth:`write` wrote, memory-mapped."""

    def __init__(self, folder: Path) -> None:
        self._bm25: dict[Field, Bm25] = {field: Bm25(folder / field) for field in _FIELDS}
        self._names, self._lengths = Names(folder), read_array(folder / _LENGTHS, mapped=True)

    def __len__(self) -> int:
        """Returns the number of entities."""
        return len(self._lengths)

    @staticmethod
    def write(documents: Iterable[Document], folder: Path) -> None:
        """Writes the index of a world's entities into ``folder``, in one pass over them."""
        indexes: dict[Field, Bm25Builder] = {field: Bm25Builder() for field in _FIELDS}
        found, lengths = list[tuple[NameKind, str, int]](), array("i")
        for position, document in enumerate(documents):
            of_names = words(" ".join((document.title, *document.aliases)))
            of_text = words(document.text[:TEXT_CHARACTERS])
            indexes["everything"].add(of_names * NAME_WEIGHT + of_text)
            indexes["names"].add(of_names)
            indexes["lead"].add(of_text[:LEAD_WORDS])
            found.extend(_names(document, position))
            lengths.append(len(of_text))
        for field, index in indexes.items():
            index.write(folder / field)
        Names.write(found, folder)
        np.save(folder / _LENGTHS, np.array(lengths, dtype=np.int32))

    def mention_scores(self, text: MentionText, field: Field = "everything") -> Scores:
        """Returns BM25 of the mention's words for each entity: float32 [entities]."""
        return self._bm25[field].scores(words(text.mention))

    def context_scores(self, text: MentionText, field: Field = "everything") -> Scores:
        """Returns BM25 of the words around the mention for each entity: float32 [entities]."""
        return self._bm25[field].scores(content_words(text.context))

    def text_words(self, positions: Rows) -> npt.NDArray[np.int32]:
        """Returns the number of words in the texts of some entities: int32 [entities]."""
        return np.asarray(self._lengths[positions])

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
