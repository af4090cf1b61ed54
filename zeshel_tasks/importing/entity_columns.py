"""Which columns of a table, or fields of JSON objects, make an entity."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Any

from zeshel_tasks.data.json_lines import Record
from zeshel_tasks.data.zeshel import Document
from zeshel_tasks.errors import ConfigError, DataError
from zeshel_tasks.importing.inputs import check_length
from zeshel_tasks.importing.nil import NIL_LABELS

REQUIRED = ("id", "title")
COLUMNS = ("id", "title", "text", "url", "aliases", "types")
"""What an entity consists of. Unless the user maps them, columns have these names."""

_PLACEHOLDER = re.compile(r"\{([^{}]*)\}")


@dataclass(frozen=True)
class EntityColumns:
    """Maps what an entity consists of to columns.

    Attributes:
        names: name of the column, for those of :data:`COLUMNS` whose column has another name.
        template: text of an entity without one, such as ``{title}, born {year}``. A name in braces stands for a part of
            the entity (:data:`COLUMNS`) or a column.
        separator: separates aliases and types that are one string; None if each string is one alias or type.
    """

    names: dict[str, str] = field(default_factory=dict)
    template: str | None = None
    separator: str | None = None

    def column(self, part: str) -> str:
        """Name of the column of a part of the entity."""
        return self.names.get(part, part)

    def check_header(self, header: list[str], file: str) -> None:
        """Checks that a table has the columns.

        Raises:
            DataError: the table has no header, or two columns of the same name.
            ConfigError: it lacks a column that is required, was named by the user, or is in the template.
        """
        shown = ", ".join(header)
        if twice := {name for name in header if header.count(name) > 1}:
            raise DataError("the same column twice", file=file, line=1, expected="each name once", got=min(twice))
        wanted = {f"--{part}": self.column(part) for part in COLUMNS if part in REQUIRED or part in self.names}
        wanted |= {f"--template {{{name}}}": name for name in self._placeholders() if name not in COLUMNS}
        for setting, name in wanted.items():
            if name not in header:
                raise ConfigError(f"{setting}: expected a column of {file} ({shown}), got {name!r}")

    def document(self, record: Record) -> Document:
        """Makes an entity of a row.

        Raises:
            DataError: a part is missing, empty, or of the wrong type.
        """
        entity: dict[str, Any] = {
            "id": self._name(record, "id"),
            "title": self._name(record, "title"),
            "url": record.optional_name(self.column("url")),
            "aliases": self._names(record, "aliases"),
            "types": self._names(record, "types"),
        }
        if entity["id"] in NIL_LABELS:
            got = entity["id"]
            raise record.error("this id means no entity", field=self.column("id"), expected="another id", got=got)
        entity["text"] = record.optional_name(self.column("text")) or ""
        if not entity["text"].strip():
            entity["text"] = self._rendered(record, entity)
        check_length(record, self.column("text"), entity["text"])
        return Document(document_id=entity.pop("id"), **entity)

    def _placeholders(self) -> list[str]:
        return _PLACEHOLDER.findall(self.template or "")

    def _name(self, record: Record, part: str) -> str:
        column = self.column(part)
        value = record.values.get(column)
        if isinstance(value, int) and not isinstance(value, bool):
            return str(value)
        name = record.plain_name(column)
        if not name.strip():
            raise record.error("empty", field=column, expected="more than white space", got=repr(name))
        return name

    def _names(self, record: Record, part: str) -> tuple[str, ...]:
        column = self.column(part)
        names = record.names(column)
        if self.separator is not None and isinstance(record.values.get(column), str):
            names = tuple(name for text in names for name in map(str.strip, text.split(self.separator)) if name)
        return names

    def _rendered(self, record: Record, entity: dict[str, Any]) -> str:
        if self.template is None:
            column = self.column("text")
            raise record.error("no text", field=column, expected="a text, or --template for entities without one")
        for name in self._placeholders():
            if name not in entity and name not in record.values:
                got = f"fields {', '.join(record.values)}"
                raise record.error("missing field", field=name, expected="a value for --template", got=got)
        parts = record.values | entity
        text = _PLACEHOLDER.sub(lambda found: _shown(parts[found[1]]), self.template).strip()
        if not text:
            raise record.error("no text", field=self.column("text"), expected="a text", got="nothing from --template")
        return text


def _shown(value: object) -> str:
    if isinstance(value, list | tuple):
        return ", ".join(map(_shown, value))
    return "" if value is None else str(value)
