"""Reads entities of Wikidata: JSON, one entity on each line, as in its dumps."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from zeshel_tasks.data.json_lines import BadLine, Record, parse_object
from zeshel_tasks.errors import DataError
from zeshel_tasks.importing.inputs import Input, lines

_INSTANCE_OF = "P31"
_ALL_LANGUAGES = "mul"  # a label that holds for every language, since 2024


def wikidata_records(file: Input, on_bad: BadLine, language: str) -> Iterator[Record]:
    """Yields the entities with ``id``, ``title`` (the label), ``text`` (the description), ``aliases``, ``url``, and
    ``types`` (ids of what the entity is an instance of).

    A dump is an array with one entity on each line: its brackets and commas are passed over.

    Args:
        file: what to read.
        on_bad: receives the error of each line that is not an entity with a label.
        language: of label, description and aliases, such as ``en``.
    """
    for number, raw in lines(file, on_bad):
        text = raw.strip().removesuffix(b",")
        if text in (b"[", b"]", b""):
            continue
        try:
            record = Record(parse_object(text, file.name, number), file.name, number)
            yield Record(_entity(record, language), file.name, number)
        except DataError as error:
            on_bad(error)


def _entity(record: Record, language: str) -> dict[str, Any]:
    labels = _part(record, "labels")
    label = _value(labels, language) or _value(labels, _ALL_LANGUAGES)
    if label is None:
        got = f"labels in {len(labels):,} languages"
        raise record.error("no label", field="labels", expected=f"a label in {language!r} (--language)", got=got)
    identifier = record.name("id")
    aliases = _list(_part(record, "aliases").get(language))
    return {
        "id": identifier,
        "title": label,
        "text": _value(_part(record, "descriptions"), language),
        "aliases": [alias.get("value") for alias in aliases if isinstance(alias, dict)],
        "types": list(_instance_of(_part(record, "claims"))),
        "url": f"https://www.wikidata.org/wiki/{identifier}",
    }


def _part(record: Record, field: str) -> dict[str, Any]:
    value = record.values.get(field) or {}  # an empty part is an empty list in dumps
    if not isinstance(value, dict):
        raise record.error("wrong type", field=field, expected="an object", got=value)
    return value


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []


def _value(texts: dict[str, Any], language: str) -> str | None:
    found = texts.get(language)
    return found.get("value") if isinstance(found, dict) else None


def _instance_of(claims: dict[str, Any]) -> Iterator[str]:
    for claim in _list(claims.get(_INSTANCE_OF)):
        value: Any = claim
        for key in ("mainsnak", "datavalue", "value", "id"):
            value = value.get(key) if isinstance(value, dict) else None
        if isinstance(value, str):
            yield value
