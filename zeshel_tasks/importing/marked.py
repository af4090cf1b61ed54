"""Formats with one mention in its context on each line: BLINK's and KILT's."""

from __future__ import annotations

from collections.abc import Iterator

from zeshel_tasks.data.json_lines import Record
from zeshel_tasks.errors import DataError
from zeshel_tasks.importing.annotated import (
    AnnotatedText,
    Annotation,
    Label,
    NoLabel,
    Reading,
    document_id_of,
    inner,
    items,
    label_of,
)
from zeshel_tasks.importing.inputs import Input
from zeshel_tasks.importing.json_records import json_records

_BEGIN, _END = "[START_ENT]", "[END_ENT]"


def blink_texts(file: Input, reading: Reading) -> Iterator[AnnotatedText]:
    """Yields the mentions of a file with ``context_left``, ``mention``, ``context_right`` and a label."""
    for record in json_records(file, reading.on_bad):
        try:
            annotation, text = _joined(
                record, *(record.text(name) for name in ("context_left", "mention", "context_right"))
            )
            title = record.optional_name("label_title") if reading.gold == "label_id" else None
            labelled = _labelled(annotation, label_of(record, reading.gold), reading.gold, title)
            yield AnnotatedText(record, document_id_of(record, file), text, (labelled,), record.optional_name("world"))
        except DataError as error:
            reading.on_bad(error)


def kilt_texts(file: Input, reading: Reading) -> Iterator[AnnotatedText]:
    """Yields the mentions of a file with ``input``, where the mention is marked, and ``output``."""
    for record in json_records(file, reading.on_bad):
        try:
            annotation, text = _joined(record, *_parts(record))
            labelled = _labelled(annotation, _label(record, reading.gold), "output", None)
            yield AnnotatedText(record, document_id_of(record, file), text, (labelled,))
        except DataError as error:
            reading.on_bad(error)


def _joined(record: Record, left: str, mention: str, right: str) -> tuple[tuple[int, int], str]:
    """Where the mention is in the whole text, and the text. Its parts are separated by white space."""
    if not mention.strip():
        raise record.error("empty", field="mention", expected="a mention", got=repr(mention))
    left += " " if left and not left[-1].isspace() else ""
    right = (" " if right and not right[0].isspace() else "") + right
    return (len(left), len(left) + len(mention)), left + mention + right


def _labelled(span: tuple[int, int], label: Label, field: str, title: str | None) -> Annotation:
    return Annotation(*span, label=label, field=field, title=title)


def _parts(record: Record) -> tuple[str, str, str]:
    text = record.text("input")
    if text.count(_BEGIN) != 1 or text.count(_END) != 1 or text.index(_BEGIN) > text.index(_END):
        raise record.error("no mention", field="input", expected=f"one {_BEGIN} and one {_END} behind it", got=text)
    left, _, rest = text.partition(_BEGIN)
    mention, _, right = rest.partition(_END)
    return left, mention.strip(), right


def _label(record: Record, gold: str) -> Label:
    """The label that all outputs agree on. An output for evaluation may have an answer and no page."""
    labels = set[Label]()
    for number, value in enumerate(items(record, "output") if "output" in record.values else ()):
        output = inner(record, f"output[{number}]", value)
        if gold == "answer":
            labels |= {label_of(output, "answer")} if "answer" in output.values else set()
            continue
        for page in items(output, "provenance") if "provenance" in output.values else ():
            labels.add(label_of(inner(output, "provenance", page), gold))
    if not labels:
        return NoLabel.MISSING
    if len(labels) > 1:
        got = ", ".join(sorted(map(str, labels)))
        raise record.error("several labels", field="output", expected=f"one {gold}", got=got)
    return labels.pop()
