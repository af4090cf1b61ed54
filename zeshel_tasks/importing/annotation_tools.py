"""Exports of annotation tools: doccano, Label Studio and Prodigy."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

from zeshel_tasks.data.json_lines import Record
from zeshel_tasks.errors import DataError
from zeshel_tasks.importing.annotated import (
    AnnotatedText,
    Annotation,
    NoLabel,
    Reading,
    document_id_of,
    inner,
    items,
    label_of,
)
from zeshel_tasks.importing.inputs import Input
from zeshel_tasks.importing.json_records import json_records


def doccano_texts(file: Input, reading: Reading) -> Iterator[AnnotatedText]:
    """Yields the texts of doccano's JSONL: ``label`` with [start, end, label], or ``entities`` with objects."""
    for record in json_records(file, reading.on_bad):
        try:
            name = "entities" if "entities" in record.values else "label"
            annotations = reading.annotations(
                partial(_of_doccano, record, f"{name}[{number}]", value)
                for number, value in enumerate(items(record, name))
            )
            yield AnnotatedText(record, document_id_of(record, file), record.text("text"), annotations)
        except DataError as error:
            reading.on_bad(error)


def prodigy_texts(file: Input, reading: Reading) -> Iterator[AnnotatedText]:
    """Yields the texts that were accepted. The entity is in the span, or in ``accept`` of a choice about one span."""
    for record in json_records(file, reading.on_bad):
        answer = record.values.get("answer", "accept")
        if answer != "accept":
            reading.left_out[f"answer is {answer}"] += 1
            continue
        try:
            annotations = reading.annotations(
                partial(_of_prodigy, record, f"spans[{number}]", value, reading.gold)
                for number, value in enumerate(items(record, "spans"))
            )
            yield AnnotatedText(record, document_id_of(record, file), record.text("text"), annotations)
        except DataError as error:
            reading.on_bad(error)


def label_studio_texts(file: Input, reading: Reading) -> Iterator[AnnotatedText]:
    """Yields the tasks of an export as JSON. A task has one annotation that was not cancelled."""
    for record in json_records(file, reading.on_bad):
        try:
            found = (inner(record, "annotations", value) for value in items(record, "annotations"))
            kept = [annotation for annotation in found if not annotation.values.get("was_cancelled")]
            if not kept:
                reading.left_out["no annotation that was not cancelled"] += 1
                continue
            if len(kept) > 1:
                raise record.error(
                    "several annotations", field="annotations", expected="one of each task", got=len(kept)
                )
            annotations = reading.annotations(_of_label_studio(kept[0], reading.gold))
            yield AnnotatedText(record, document_id_of(record, file), _task_text(record), annotations)
        except DataError as error:
            reading.on_bad(error)


def _of_doccano(record: Record, name: str, value: object) -> Annotation:
    if isinstance(value, list) and len(value) == 3:
        value = dict(zip(("start_offset", "end_offset", "label"), value, strict=True))
    span = inner(record, name, value)
    return Annotation(span.index("start_offset"), span.index("end_offset"), label_of(span, "label"), name)


def _of_prodigy(record: Record, name: str, value: object, gold: str) -> Annotation:
    span = inner(record, name, value)
    if gold == "accept":
        accepted = items(record, "accept") if "accept" in record.values else []
        if len(accepted) > 1 or len(items(record, "spans")) > 1:
            raise record.error("several", field="accept", expected="one choice about one span", got=accepted)
        choice = {"accept": accepted[0]} if accepted else {}
        label = label_of(Record(choice, record.file, record.line), "accept")
    else:
        label = label_of(span, gold)
    return Annotation(span.index("start"), span.index("end"), label, name, text=span.optional_name("text"))


def _of_label_studio(annotation: Record, gold: str) -> Iterator[partial[Annotation]]:
    """The regions of an annotation. Results about a region have its id."""
    regions: dict[object, Record] = {}
    labels: dict[object, object] = {}
    for number, item in enumerate(items(annotation, "result")):
        result = inner(annotation, f"result[{number}]", item)
        value = inner(result, "value", result.values.get("value"))
        region = result.values.get("id")
        if "start" in value.values:
            regions.setdefault(region, value)
        key = "text" if gold == "textarea" and result.values.get("type") == "textarea" else gold
        if key in value.values:
            labels[region] = value.values[key]
    for region, value in regions.items():
        yield partial(_region, value, labels.get(region), gold)


def _region(value: Record, labels: object, gold: str) -> Annotation:
    label = labels
    while isinstance(label, list) and label:  # a taxonomy has lists of paths
        if len(label) > 1 and not isinstance(label[0], str):
            raise value.error("several labels", field=gold, expected="one", got=label)
        if len(label) > 1 and gold != "taxonomy":
            raise value.error("several labels", field=gold, expected="one", got=label)
        label = label[-1]
    found = label if isinstance(label, str) and label else NoLabel.MISSING
    return Annotation(value.index("start"), value.index("end"), found, gold, text=value.optional_name("text"))


def _task_text(record: Record) -> str:
    data = inner(record, "data", record.values.get("data"))
    texts = [name for name, value in data.values.items() if isinstance(value, str)]
    if "text" not in texts and len(texts) != 1:
        raise record.error("no text", field="data", expected="'text', or one string", got=f"fields {', '.join(texts)}")
    return data.text("text" if "text" in texts else texts[0])
