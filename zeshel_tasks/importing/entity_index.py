"""Finds the entity that a label means, among any number of entities, in bounded memory."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

from zeshel_tasks.data.json_lines import Record
from zeshel_tasks.errors import DataError
from zeshel_tasks.importing.annotated import Match
from zeshel_tasks.importing.bad_rows import refuse
from zeshel_tasks.importing.inputs import Input
from zeshel_tasks.importing.json_records import json_records
from zeshel_tasks.importing.seen_ids import database


class Entity(NamedTuple):
    """What is known of an entity."""

    document_id: str
    title: str


class UnknownEntity(DataError):
    """A label that means no entity of the knowledge base."""


class EntityIndex:
    """The entities of all worlds, on disk."""

    def __init__(self, path: Path, match: Match) -> None:
        self._match = match
        self._database = database(path)
        self._database.execute(
            "CREATE TABLE entities (world TEXT, id TEXT, title TEXT, url TEXT, position INT, PRIMARY KEY (world, id)) "
            "WITHOUT ROWID"
        )

    def add(self, world: str, file: Input) -> None:
        """Adds the entities of ``documents/<world>.json``.

        Raises:
            DataError: the file is not in ZESHEL's format, or an id occurs twice.
        """
        for position, record in enumerate(json_records(file, refuse)):
            row = (world, record.name("document_id"), record.text("title"), record.optional_name("url"), position)
            inserted = self._database.execute("INSERT INTO entities VALUES (?, ?, ?, ?, ?) ON CONFLICT DO NOTHING", row)
            if not inserted.rowcount:
                raise record.error("duplicate", field="document_id", expected="each id once", got=row[1])

    def finish(self) -> None:
        """Makes labels fast to find, after all worlds were added."""
        if self._match != "id":
            self._database.execute(f"CREATE INDEX by_{self._match} ON entities (world, {self._match})")

    def find(self, world: str, label: str, record: Record, field: str) -> Entity:
        """Returns the entity that a label means.

        Raises:
            UnknownEntity: there is none.
            DataError: there are several.
        """
        query = f"SELECT id, title FROM entities WHERE world = ? AND {self._match} = ? LIMIT 2"
        found = [Entity(*row) for row in self._database.execute(query, (world, label))]
        if len(found) == 1:
            return found[0]
        expected = f"the {self._match} of an entity of {world}"
        if found:
            got = f"{label}, of {found[0].document_id} and {found[1].document_id}"
            raise record.error("several entities", field=field, expected=f"{expected} alone", got=got)
        raise UnknownEntity(
            "unknown entity", file=record.file, line=record.line, field=field, expected=expected, got=label
        )

    def has(self, world: str, document_id: str) -> bool:
        """Returns True if an entity has this id."""
        query = "SELECT 1 FROM entities WHERE world = ? AND id = ?"
        return self._database.execute(query, (world, document_id)).fetchone() is not None

    def close(self) -> None:
        """Closes the database."""
        self._database.close()
