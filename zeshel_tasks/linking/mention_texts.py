"""The texts of a split's mentions that a lexical search needs, on the local disk."""

from __future__ import annotations

import json
from array import array
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple, Protocol

from zeshel_tasks.data.arrays import Rows
from zeshel_tasks.data.context_window import first_words, last_words
from zeshel_tasks.text.json_text import to_json


class MentionText(NamedTuple):
    """A mention, the text around it, and the ``document_id`` of its page, which is empty if it is no entity's page."""

    mention: str
    context: str
    page: str


class MentionInContext(Protocol):
    """What is needed of a mention, such as a :class:`~zeshel_tasks.data.blink_format.BlinkMention`."""

    @property
    def context_left(self) -> str: ...
    @property
    def mention(self) -> str: ...
    @property
    def context_right(self) -> str: ...
    @property
    def context_document_id(self) -> str: ...


def mention_text(mention: MentionInContext, context_words: int) -> MentionText:
    """Returns a mention with ``context_words`` words, separated by spaces, on each side."""
    left = last_words(mention.context_left, context_words)
    right = first_words(mention.context_right, context_words)
    return MentionText(mention.mention, f"{left} {right}", mention.context_document_id)


class TextsByRow(Protocol):
    """Texts of mentions by row."""

    def of(self, rows: Rows) -> list[MentionText]:
        """Returns the texts of some rows."""


class MentionTexts:
    """Texts of mentions by row, in the file ``path``. Memory holds 8 bytes a mention."""

    def __init__(self, path: Path, mentions: Iterable[MentionText]) -> None:
        self._path, self._offsets = path, array("q")
        with path.open("wb") as file:
            for mention in mentions:
                self._offsets.append(file.tell())
                file.write(to_json(mention).encode("ascii") + b"\n")

    def __len__(self) -> int:
        return len(self._offsets)

    def of(self, rows: Rows) -> list[MentionText]:
        """Returns the texts of some rows."""
        found = []
        with self._path.open("rb") as file:
            for row in rows:
                file.seek(self._offsets[row])
                found.append(MentionText(*json.loads(file.readline())))
        return found
