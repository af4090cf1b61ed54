"""brat's standoff annotations: ``x.ann``, and the text in ``x.txt`` beside it."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path

from zeshel_tasks.data.json_lines import Record
from zeshel_tasks.errors import DataError
from zeshel_tasks.importing.annotated import AnnotatedText, Annotation, NoLabel, Reading
from zeshel_tasks.importing.inputs import MAX_LINE_BYTES, Input, decoded, opened, text_lines

_SPAN = re.compile(r"(\S+) (\d+) (\d+)")
_REFERENCE = re.compile(r"Reference (T\d+) ([^:\s]*):(\S+)")


def brat_texts(file: Input, reading: Reading) -> Iterator[AnnotatedText]:
    """Yields the text of a file of annotations. ``T`` lines are mentions, ``N`` lines name their entities.

    An empty file is a text without mentions.

    Raises:
        DataError: there is no text beside the annotations, or it is too long.
    """
    mentions: dict[str, tuple[Record, list[str]]] = {}
    references: dict[str, dict[str, str]] = {}
    for number, line in text_lines(file, reading.on_bad) if file.path.stat().st_size else ():
        columns = line.split("\t")
        if columns[0].startswith("T"):
            mentions[columns[0]] = Record({}, file.name, number), columns
        elif columns[0].startswith("N") and (found := _REFERENCE.fullmatch((*columns, "")[1])):
            title = {"reference_title": columns[2]} if len(columns) > 2 else {}
            references[found[1]] = {"reference": found[3]} | title
    found_annotations = (
        partial(_annotation, record, columns, references.get(name, {}), reading.gold)
        for name, (record, columns) in mentions.items()
    )
    annotations = reading.annotations(found_annotations)
    name = Path(file.name).name.removesuffix(".ann")
    yield AnnotatedText(Record({}, file.name, 1), name, _text(file), annotations)


def _annotation(record: Record, columns: list[str], labels: dict[str, str], gold: str) -> Annotation:
    if len(columns) != 3:
        raise record.error("broken line", expected="id, type with offsets, and text, separated by tabs", got=columns)
    found = _SPAN.fullmatch(columns[1])
    if found is None:
        raise record.error(
            "not one span", expected="type, start and end: ZESHEL has no mentions in pieces", got=columns[1]
        )
    label = found[1] if gold == "type" else labels.get(gold)
    return Annotation(
        int(found[2]), int(found[3]), NoLabel.MISSING if label is None else label, gold, record, text=columns[2]
    )


def _text(file: Input) -> str:
    beside = replace(file, path=file.path.with_suffix(".txt"), name=f"{file.name.removesuffix('.ann')}.txt")
    if file.path.suffix != ".ann" or not beside.path.is_file():
        raise DataError("no text", file=file.name, expected="x.ann with x.txt beside it, both local")
    with opened(beside) as stream:
        content = stream.read(MAX_LINE_BYTES + 1)
    if len(content) > MAX_LINE_BYTES:
        raise DataError("text too long", file=beside.name, expected=f"at most {MAX_LINE_BYTES:,} bytes")
    return decoded(content, beside, 1)
