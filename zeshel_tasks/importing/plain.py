"""Plain JSON lines: {"text", "spans": [{"start", "end", "entity"}]}, with optional ids, worlds and splits."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

from zeshel_tasks.config.splits import Split
from zeshel_tasks.data.json_lines import Record
from zeshel_tasks.errors import DataError
from zeshel_tasks.importing.annotated import (
    AnnotatedText,
    Annotation,
    Reading,
    document_id_of,
    inner,
    items,
    label_of,
    split_of,
)
from zeshel_tasks.importing.inputs import Input
from zeshel_tasks.importing.json_records import json_records


def plain_texts(file: Input, reading: Reading) -> Iterator[AnnotatedText]:
    """Yields the texts of a file."""
    for record in json_records(file, reading.on_bad):
        try:
            split = split_of(record)
            text = AnnotatedText(
                record=record,
                document_id=document_id_of(record, file),
                text=record.text("text"),
                annotations=reading.annotations(
                    partial(_annotation, record, f"spans[{number}]", span, reading.gold, split)
                    for number, span in enumerate(items(record, "spans"))
                ),
                world=record.optional_name("world"),
            )
        except DataError as error:
            reading.on_bad(error)
            continue
        yield text


def _annotation(record: Record, name: str, value: object, gold: str, split: Split | None) -> Annotation:
    span = inner(record, name, value)
    return Annotation(
        start=span.index("start"),
        end=span.index("end"),
        label=label_of(span, gold),
        field=name,
        text=span.optional_name("text"),
        mention_id=span.optional_name("id"),
        split=split_of(span) or split,
    )
