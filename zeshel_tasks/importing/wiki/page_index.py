"""Finds the entity that a link leads to, among any number of pages, in bounded memory."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path
from typing import NamedTuple

from zeshel_tasks.importing.seen_ids import database


class Entity(NamedTuple):
    """A page that is an entity."""

    document_id: str
    title: str


class PageIndex:
    """The pages of a wiki, on disk.

    Args:
        path: a new file.
        namespaces: numbers of those whose pages are entities.
    """

    def __init__(self, path: Path, namespaces: Collection[int]) -> None:
        self._namespaces = frozenset(namespaces)
        self._database = database(path)
        self._database.execute(
            "CREATE TABLE pages (number INTEGER PRIMARY KEY, id TEXT UNIQUE, title TEXT, namespace INT, name TEXT, "
            "is_entity INT, to_namespace INT, to_name TEXT, UNIQUE (namespace, name))"
        )

    def add(
        self, number: int, page: Entity, key: tuple[int, str], redirect: tuple[int, str] | None, *, has_text: bool
    ) -> bool:
        """Adds a page. Returns False if another one has its id or its title.

        Args:
            number: its place in the dump.
            page: its id and title.
            key: its namespace and name.
            redirect: namespace and name of the page that it redirects to.
            has_text: True if it can be an entity.
        """
        is_entity = has_text and redirect is None and key[0] in self._namespaces
        row = (number, *page, *key, is_entity, *(redirect or (None, None)))
        query = "INSERT INTO pages VALUES (?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT DO NOTHING"
        return self._database.execute(query, row).rowcount == 1

    def is_entity(self, number: int) -> bool:
        """Returns True if the page at this place is an entity."""
        query = "SELECT is_entity FROM pages WHERE number = ?"
        return bool((self._database.execute(query, (number,)).fetchone() or (0,))[0])

    def find(self, namespace: int, name: str) -> Entity | str:
        """Returns the entity that a target leads to, over any number of redirects, or why there is none."""
        seen = set[tuple[int, str]]()
        query = "SELECT id, title, is_entity, to_namespace, to_name FROM pages WHERE namespace = ? AND name = ?"
        while (namespace, name) not in seen:
            seen.add((namespace, name))
            found = self._database.execute(query, (namespace, name)).fetchone()
            if found is None:
                return "a redirect to no page" if len(seen) > 1 else self._missing(namespace)
            if found[2]:
                return Entity(found[0], found[1])
            if found[4] is None:
                return "to a page that is no entity"
            namespace, name = found[3:]
        return "redirects in a circle"

    def close(self) -> None:
        """Closes the database."""
        self._database.close()

    def _missing(self, namespace: int) -> str:
        return "to no page of the dump" if namespace in self._namespaces else "to another namespace"
