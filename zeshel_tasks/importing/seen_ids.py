"""Finds ids that occur twice among any number of them, in bounded memory."""

from __future__ import annotations

import sqlite3
from pathlib import Path

from zeshel_tasks.data.json_lines import Record

CACHE_KB = 64 * 1024


def database(path: Path) -> sqlite3.Connection:
    """Opens a new database that is thrown away after the import: fast, and useless after a crash."""
    connection = sqlite3.connect(path, isolation_level=None)
    for setting in ("journal_mode=OFF", "synchronous=OFF", "locking_mode=EXCLUSIVE", f"cache_size=-{CACHE_KB}"):
        connection.execute(f"PRAGMA {setting}").close()
    connection.execute("BEGIN")
    return connection


class SeenIds:
    """The ids so far, and where each one occurred first. ``close`` frees the disk."""

    def __init__(self, path: Path) -> None:
        self._database = database(path)
        self._database.execute("CREATE TABLE ids (id TEXT PRIMARY KEY, place TEXT) WITHOUT ROWID")

    def check(self, record: Record, field: str, value: str) -> None:
        """Notes an id.

        Raises:
            DataError: it occurred before.
        """
        place = f"{record.file}:{record.line}"
        inserted = self._database.execute("INSERT INTO ids VALUES (?, ?) ON CONFLICT DO NOTHING", (value, place))
        if not inserted.rowcount:
            (first,) = self._database.execute("SELECT place FROM ids WHERE id = ?", (value,)).fetchone()
            raise record.error("duplicate", field=field, expected="each id once", got=f"{value}, first in {first}")

    def close(self) -> None:
        """Closes the database."""
        self._database.close()
