"""The mentions and texts of an import, on disk, until their splits are known."""

from __future__ import annotations

import hashlib
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from zeshel_tasks.config.splits import Split
from zeshel_tasks.importing.seen_ids import database

_TABLES = (
    "CREATE TABLE texts (number INTEGER PRIMARY KEY, world TEXT, id TEXT, text BLOB, UNIQUE (world, id))",
    "CREATE TABLE mentions (number INTEGER PRIMARY KEY, text INT, id TEXT UNIQUE, gold TEXT, title TEXT, "
    'start INT, "end" INT, split TEXT, is_free INT)',
)


class MentionRow(NamedTuple):
    """A mention.

    Attributes:
        mention_id: unique.
        gold: ``document_id`` of its entity; None if it has none.
        title: of its entity; empty if it has none.
        start, end: where it is in its text, in code points.
        split: None if the shares decide.
    """

    mention_id: str
    gold: str | None
    title: str
    start: int
    end: int
    split: Split | None


class MentionTable:
    """Texts with their mentions, in the order in which they were added.

    Attributes:
        database: tables ``texts`` (``number``, ``world``, ``id``, ``text`` in UTF-8) and ``mentions`` (``number``,
            ``text``, and the fields of :class:`MentionRow`; ``is_free`` is 1 if the shares decide about the split). The
            function ``rank(seed, ...)`` gives rows an order that depends on nothing else.
    """

    def __init__(self, path: Path) -> None:
        self.database = database(path)
        self.database.create_function("rank", -1, _rank, deterministic=True)
        for statement in (*_TABLES, "CREATE INDEX mentions_of_text ON mentions (text)"):
            self.database.execute(statement)

    def has_text(self, world: str, document_id: str) -> bool:
        """Returns True if a text of the world has this id."""
        query = "SELECT 1 FROM texts WHERE world = ? AND id = ?"
        return self.database.execute(query, (world, document_id)).fetchone() is not None

    def add_text(self, world: str, document_id: str, text: str) -> int:
        """Adds a text; returns its number."""
        row = (world, document_id, text.encode())
        added = self.database.execute("INSERT INTO texts VALUES (NULL, ?, ?, ?)", row)
        return int(added.lastrowid or 0)

    def add_mention(self, text: int, row: MentionRow) -> bool:
        """Adds a mention of a text. Returns False if its id was added before."""
        query = "INSERT INTO mentions VALUES (NULL, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT DO NOTHING"
        return self.database.execute(query, (text, *row, row.split is None)).rowcount == 1

    def rows(self, query: str, *values: object) -> Iterator[Any]:
        """Yields the rows that a query finds."""
        cursor: sqlite3.Cursor = self.database.execute(query, values)
        yield from cursor

    def close(self) -> None:
        """Closes the database."""
        self.database.close()


def _rank(*parts: object) -> bytes:
    return hashlib.sha256("\0".join(map(str, parts)).encode()).digest()
