"""Labels of mentions: the entities that they mean.

A mention of a list has its label in ``entity``: the id of an entity, or null for a mention that none of the knowledge
base's entities is meant by. The lines of one mention have it in ``entity`` or, as in ZESHEL, ``label_document_id``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import NamedTuple

from zeshel_tasks.data.json_lines import Record
from zeshel_tasks.link_files.lines import LISTS, LineReader
from zeshel_tasks.linking.mention_texts import MentionInContext

_LABELS = ("entity", "label_document_id")

FindPosition = Callable[[str], int | None]
"""Returns the position of the entity with this id."""


class LabelledMention(NamedTuple):
    """A mention and its label.

    Attributes:
        mention: as the linker needs it.
        position: of its entity; None if the knowledge base has none.
        line: number of its line, from 1.
    """

    mention: MentionInContext
    position: int | None
    line: int


def labelled_mentions(
    records: Iterable[Record], reader: LineReader, find_position: FindPosition
) -> Iterator[LabelledMention]:
    """Yields the mentions of some lines.

    Raises:
        DataError: a line is not readable, a mention has no label or shares one, or its label is no entity of the
            knowledge base.
    """
    for record in records:
        given = reader.mentions(record)
        for mention, labelled in zip(given, _labelled(record, len(given)), strict=True):
            yield LabelledMention(mention.mention, _position(labelled, find_position), record.line)


def _labelled(record: Record, mentions: int) -> list[Record]:
    """The objects that have the labels of a line's mentions."""
    field = next((field for field in LISTS if field in record.values), None)
    if "text" not in record.values or field is None:
        label = next((label for label in _LABELS if label in record.values), None)
        expected = f"{LISTS[0]}, a list of objects with start, end and entity"
        if "text" in record.values and label is None:
            raise record.error("no labels", field=LISTS[0], expected=expected, got=f"fields {', '.join(record.values)}")
        if mentions != 1:
            raise record.error(
                "one label", field=label, expected=f"one mention, or {expected}", got=f"{mentions:,} mentions"
            )
        return [record]
    spans = record.values[field]
    return [Record(span, record.file, record.line, within=f"{field}[{at}]") for at, span in enumerate(spans)]


def _position(labelled: Record, find_position: FindPosition) -> int | None:
    field = next((field for field in _LABELS if field in labelled.values), None)
    if field is None:
        expected = "the id of an entity, or null for a mention without one"
        raise labelled.error(
            "no label", field=_LABELS[0], expected=expected, got=f"fields {', '.join(labelled.values)}"
        )
    if labelled.values[field] is None:
        return None
    name = labelled.name(field)
    position = find_position(name)
    if position is None:
        expected = "the id of an entity of the knowledge base, or null for a mention without one"
        raise labelled.error("unknown entity", field=field, expected=expected, got=name)
    return position
