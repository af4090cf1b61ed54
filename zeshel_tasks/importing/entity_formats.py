"""The formats of knowledge bases: how a file becomes rows, and which columns of a row make an entity."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace

from zeshel_tasks.data.json_lines import BadLine, Record
from zeshel_tasks.errors import ConfigError
from zeshel_tasks.importing.entity_columns import EntityColumns
from zeshel_tasks.importing.inputs import Input
from zeshel_tasks.importing.json_records import json_records
from zeshel_tasks.importing.obo import obo_records
from zeshel_tasks.importing.tables import csv_records, parquet_records, tsv_records
from zeshel_tasks.importing.wikidata import wikidata_records

_NAMES_AND_TYPES = "{title} {aliases} {types}"
_CURID = re.compile(r"[?&]curid=(\d+)")


@dataclass(frozen=True)
class EntitySettings:
    """What a user can say about the files.

    Attributes:
        names, template, separator: as in :class:`~zeshel_tasks.importing.entity_columns.EntityColumns`; what is not
            given is as the format says.
        delimiter: between the fields of CSV.
        language: of the names in Wikidata.
    """

    names: dict[str, str]
    template: str | None = None
    separator: str | None = None
    delimiter: str | None = None
    language: str | None = None


Rows = Callable[[Input, EntityColumns, EntitySettings, BadLine], Iterator[Record]]


@dataclass(frozen=True)
class EntityFormat:
    """A format.

    Attributes:
        summary: the files that have it, for the command's help.
        rows: reads a file.
        columns: which columns of a row make an entity.
        takes: names of the settings that only some formats have.
    """

    summary: str
    rows: Rows
    columns: EntityColumns = field(default_factory=EntityColumns)
    takes: tuple[str, ...] = ()


def _csv(file: Input, columns: EntityColumns, settings: EntitySettings, on_bad: BadLine) -> Iterator[Record]:
    return csv_records(file, columns, on_bad, settings.delimiter or ",")


def _tsv(file: Input, columns: EntityColumns, _settings: EntitySettings, on_bad: BadLine) -> Iterator[Record]:
    return tsv_records(file, columns, on_bad)


def _parquet(file: Input, columns: EntityColumns, _settings: EntitySettings, on_bad: BadLine) -> Iterator[Record]:
    return parquet_records(file, columns, on_bad)


def _json(file: Input, _columns: EntityColumns, _settings: EntitySettings, on_bad: BadLine) -> Iterator[Record]:
    return json_records(file, on_bad)


def _obo(file: Input, _columns: EntityColumns, _settings: EntitySettings, on_bad: BadLine) -> Iterator[Record]:
    return obo_records(file, on_bad)


def _wikidata(file: Input, _columns: EntityColumns, settings: EntitySettings, on_bad: BadLine) -> Iterator[Record]:
    return wikidata_records(file, on_bad, settings.language or "en")


def _blink(file: Input, _columns: EntityColumns, _settings: EntitySettings, on_bad: BadLine) -> Iterator[Record]:
    """``idx`` is a page of Wikipedia in BLINK's own file; its number is what KILT and AIDA-CoNLL call the entity."""
    for record in json_records(file, on_bad):
        address = record.values.get("idx")
        found = _CURID.search(address) if isinstance(address, str) else None
        yield replace(record, values=record.values | ({"idx": found[1], "url": address} if found else {}))


ENTITY_FORMATS = {
    "csv": EntityFormat("CSV with a header", _csv, EntityColumns(separator="|"), takes=("separator", "delimiter")),
    "tsv": EntityFormat("TSV with a header", _tsv, EntityColumns(separator="|"), takes=("separator",)),
    "jsonl": EntityFormat("one JSON object on each line, or an array of them", _json, takes=("separator",)),
    "parquet": EntityFormat("Parquet", _parquet, takes=("separator",)),
    "zeshel": EntityFormat("documents/<world>.json of ZESHEL", _json, EntityColumns({"id": "document_id"})),
    "blink": EntityFormat("entity.jsonl of BLINK: text, idx, title, entity", _blink, EntityColumns({"id": "idx"})),
    "name-description": EntityFormat(
        "id, name, description", _json, EntityColumns({"title": "name", "text": "description"})
    ),
    "scispacy": EntityFormat(
        "concept_id, canonical_name, aliases, types, definition",
        _json,
        EntityColumns({"id": "concept_id", "title": "canonical_name", "text": "definition"}, template=_NAMES_AND_TYPES),
    ),
    "obo": EntityFormat("an ontology in OBO's text format", _obo, EntityColumns(template=_NAMES_AND_TYPES)),
    "wikidata": EntityFormat(
        "JSON lines of Wikidata", _wikidata, EntityColumns(template=_NAMES_AND_TYPES), takes=("language",)
    ),
}


@dataclass(frozen=True)
class EntityReader:
    """A format with the user's settings."""

    format: EntityFormat
    columns: EntityColumns
    settings: EntitySettings

    def rows(self, file: Input, on_bad: BadLine) -> Iterator[Record]:
        """Yields the rows of a file; ``on_bad`` receives the error of each one that is not a row."""
        return self.format.rows(file, self.columns, self.settings, on_bad)


def entity_reader(name: str, settings: EntitySettings) -> EntityReader:
    """Returns what reads a format.

    Raises:
        ConfigError: the format has no such setting, or a setting is wrong.
    """
    chosen = ENTITY_FORMATS[name]
    for setting in ("separator", "delimiter", "language"):
        value = getattr(settings, setting)
        if value is not None and setting not in chosen.takes:
            raise ConfigError(f"--{setting}: expected none with --format {name}, got {value!r}")
        if value is not None and (not value or (setting == "delimiter" and (len(value) != 1 or value in '"\r\n'))):
            raise ConfigError(
                f"--{setting}: expected {'one character' if setting == 'delimiter' else 'text'}, got {value!r}"
            )
    columns = EntityColumns(
        names=chosen.columns.names | settings.names,
        template=chosen.columns.template if settings.template is None else settings.template,
        separator=chosen.columns.separator if settings.separator is None else settings.separator,
    )
    return EntityReader(chosen, columns, settings)
