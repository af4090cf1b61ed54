"""Texts with mentions, as the readers of all formats yield them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import Literal

from zeshel_tasks.config.splits import ALL_SPLITS, Split
from zeshel_tasks.data.json_lines import BadLine, Record
from zeshel_tasks.errors import DataError
from zeshel_tasks.importing.inputs import Input
from zeshel_tasks.importing.offsets import OffsetUnit

Match = Literal["id", "title", "url", "position"]
"""What a label is: of an entity its id, title or url, or its position in its file, from 0."""


class NoLabel(Enum):
    """The label of a mention that has none, which does not say if it has an entity."""

    MISSING = "missing"


Label = str | NoLabel | None
"""None if the mention has no entity."""


@dataclass(frozen=True, slots=True)
class Annotation:
    """A mention.

    Attributes:
        start, end: where it is in its text, in the unit of the format.
        label: its entity.
        field: where the label is, for messages.
        place: where the mention is, for messages, if the text has more than one line.
        text: the mention as the format repeats it, to be compared.
        title: the title of its entity, to be compared.
        mention_id: its id, if the format has one.
        split: its split, if the format says so.
    """

    start: int
    end: int
    label: Label
    field: str
    place: Record | None = None
    text: str | None = None
    title: str | None = None
    mention_id: str | None = None
    split: Split | None = None


@dataclass(frozen=True, slots=True)
class AnnotatedText:
    """A text with its mentions; ``record`` is where it was read, and ``world`` its world if the format says so."""

    record: Record
    document_id: str
    text: str
    annotations: tuple[Annotation, ...]
    world: str | None = None


@dataclass(frozen=True)
class Reading:
    """What the reader of a format gets.

    Attributes:
        gold: where labels are; one of the format's ``golds``.
        on_bad: receives the error of each text or mention that cannot be used.
        left_out: counts the texts that their annotators have rejected, by reason.
    """

    gold: str
    on_bad: BadLine
    left_out: Counter[str] = field(default_factory=Counter)

    def annotations(self, found: Iterator[Callable[[], Annotation]]) -> tuple[Annotation, ...]:
        """Returns the mentions of a text that can be used."""
        good = []
        for make in found:
            try:
                good.append(make())
            except DataError as error:
                self.on_bad(error)
        return tuple(good)


MentionReader = Callable[[Input, Reading], Iterator[AnnotatedText]]


@dataclass(frozen=True)
class MentionFormat:
    """A format.

    Attributes:
        summary: the files that have it, for the command's help.
        read: reads a file.
        golds: where labels can be, and what they are; the first is the default.
        offsets: their unit; None if the format has no offsets.
    """

    summary: str
    read: MentionReader
    golds: Mapping[str, Match]
    offsets: OffsetUnit | None = "codepoints"


def split_of(record: Record, name: str = "split") -> Split | None:
    """Returns the split that a record names, or None.

    Raises:
        DataError: there is no such split.
    """
    value = record.optional_name(name)
    if value is None or value in ALL_SPLITS:
        return value
    if value in ("val", "dev"):
        return "valid"
    raise record.error("unknown split", field=name, expected=f"one of {', '.join(ALL_SPLITS)}", got=value)


def label_of(record: Record, name: str) -> Label:
    """Returns a label, which may be a number; None for ``null``.

    Raises:
        DataError: the label is neither text nor a number.
    """
    if name not in record.values:
        return NoLabel.MISSING
    value = record.values[name]
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value)
    return None if value is None else record.name(name)


def document_id_of(record: Record, file: Input, name: str = "id") -> str:
    """Returns the id of a text: its own, or one made of the file's name and the line.

    Raises:
        DataError: the id is neither text nor a number.
    """
    value = record.values.get(name)
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value)
    item = record.file.removeprefix(file.name).strip("[]")
    return record.optional_name(name) or f"{file.stem}-{item or record.line}"


def inner(record: Record, name: str, value: object) -> Record:
    """Returns an object within a record.

    Raises:
        DataError: the value is not an object.
    """
    if not isinstance(value, dict):
        raise record.error("wrong type", field=name, expected="an object", got=value)
    return Record(value, record.file, record.line, f"{record.within}.{name}" if record.within else name)


def items(record: Record, name: str) -> list[object]:
    """Returns a list within a record.

    Raises:
        DataError: the field is missing, or not a list.
    """
    if name not in record.values:
        got = f"fields {', '.join(record.values)}"
        raise record.error("missing field", field=name, expected="a list", got=got)
    value = record.values[name]
    if not isinstance(value, list):
        raise record.error("wrong type", field=name, expected="a list", got=value)
    return value
