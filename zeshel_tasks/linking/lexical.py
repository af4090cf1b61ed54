"""Lexical search in a world: BM25 and names.

word_hashes.npy                  uint64 [words], sorted
everything/, names/, lead/       BM25 of each of :data:`~zeshel_tasks.linking.word_counts.FIELDS`; see bm25.py
name_hashes.npy, name_entities.npy    see names.py
text_words.npy                   int32 [entities], words of the text
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Sequence
from contextlib import ExitStack
from pathlib import Path

import numpy as np
import numpy.typing as npt

from zeshel_tasks.data.arrays import ArrayWriter, Rows, read_array
from zeshel_tasks.data.zeshel import Document
from zeshel_tasks.linking import bm25, names
from zeshel_tasks.linking.bm25 import Bm25, Bm25Writer, Scores
from zeshel_tasks.linking.hashes import hashes
from zeshel_tasks.linking.mention_texts import MentionText
from zeshel_tasks.linking.names import NameKind, NamePairs
from zeshel_tasks.linking.word_counts import (
    FIELDS,
    LEAD_WORDS,
    NAME_WEIGHT,
    Field,
    Part,
    count_words,
    live_lengths,
    live_names,
    merged,
)
from zeshel_tasks.linking.words import content_words, plain_name, words

_WORDS, _LENGTHS = "word_hashes.npy", "text_words.npy"

FILES = (_WORDS, *(f"{field}/{name}" for field in FIELDS for name in bm25.FILES), *names.FILES, _LENGTHS)
"""Files of a :class:`LexicalIndex`."""


class LexicalIndex:
    """Finds the entities of a world by words and names. Opens the files that :meth:`write` wrote, memory-mapped."""

    def __init__(self, folder: Path) -> None:
        arrays = (np.asarray(read_array(folder / name, mapped=True)) for name in (_WORDS, _LENGTHS))
        self._words, self._lengths = arrays
        self._bm25: dict[Field, Bm25] = {field: Bm25(folder / field, len(self)) for field in FIELDS}
        self._names = NamePairs.open(folder)

    def __len__(self) -> int:
        """Returns the number of entities."""
        return len(self._lengths)

    @classmethod
    def write(cls, documents: Iterable[Document], folder: Path) -> None:
        """Writes the index of a world's entities into ``folder``, in one pass over them."""
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix="counts-", dir=folder) as scratch:
            cls.write_merged(count_words(documents, Path(scratch)), folder)

    @staticmethod
    def write_merged(parts: Sequence[Part], folder: Path) -> None:
        """Writes the index of the live entities of ``parts``, in their order, as if it was written from them."""
        folder.mkdir(parents=True, exist_ok=True)
        lengths = live_lengths(parts)
        of_names, of_texts = lengths.T
        of_fields = (NAME_WEIGHT * of_names + of_texts, of_names, np.minimum(of_texts, LEAD_WORDS))
        with ExitStack() as stack:
            found = stack.enter_context(ArrayWriter(folder / _WORDS, np.uint64))
            pairs = zip(FIELDS, of_fields, strict=True)
            writers = [stack.enter_context(Bm25Writer(folder / field, of_field)) for field, of_field in pairs]
            for postings in merged(parts):
                found.append(postings.words)
                for column, writer in enumerate(writers):
                    writer.add(postings.sizes, postings.entities, postings.counts[:, column])
        live_names(parts).save(folder)
        np.save(folder / _LENGTHS, of_texts)

    def mention_scores(self, text: MentionText, field: Field = "everything") -> Scores:
        """Returns BM25 of the mention's words for each entity: float32 [entities]."""
        return self._bm25[field].scores(self._numbers(words(text.mention)))

    def context_scores(self, text: MentionText, field: Field = "everything") -> Scores:
        """Returns BM25 of the words around the mention for each entity: float32 [entities]."""
        return self._bm25[field].scores(self._numbers(content_words(text.context)))

    def text_words(self, positions: Rows) -> npt.NDArray[np.int32]:
        """Returns the number of words in the texts of some entities: int32 [entities]."""
        return np.asarray(self._lengths[positions])

    def named(self, kind: NameKind, text: MentionText) -> Rows:
        """Returns the entities that the mention names, or with the kind ``page`` the entity whose page it is on."""
        return self._names.find(kind, text.page if kind == "page" else plain_name(text.mention))

    def _numbers(self, query: Sequence[str]) -> Rows:
        """Returns the numbers of those words of a query that an entity has, in their order."""
        wanted = hashes(query)
        places = np.searchsorted(self._words, wanted)
        known = places < len(self._words)
        known[known] = self._words[places[known]] == wanted[known]
        return places[known]
