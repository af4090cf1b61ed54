import json
import re
from typing import Any

import pytest

from zeshel_tasks.data.json_lines import Record
from zeshel_tasks.data.zeshel import Document
from zeshel_tasks.errors import DataError
from zeshel_tasks.link_files.labels import labelled_mentions
from zeshel_tasks.link_files.lines import LineReader

POSITIONS = {"a": 0, "b": 7}
BLINK = {"context_left": "x", "mention": "y", "context_right": ""}
ZESHEL = {"context_document_id": "a", "start_index": 0, "end_index": 1}


def labels(*lines: dict[str, Any]) -> list[tuple[str, int | None, int]]:
    reader = LineReader("in", 8, "code_points", False, lambda _: Document("a", "A", "one two three"))
    records = [Record(json.loads(json.dumps(line)), "in", number) for number, line in enumerate(lines, start=1)]
    found = labelled_mentions(records, reader, POSITIONS.get)
    return [(each.mention.mention, each.position, each.line) for each in found]


def span(start: int, end: int, **more: Any) -> dict[str, Any]:
    return {"start": start, "end": end, **more}


@pytest.mark.parametrize("name", ["mentions", "spans"])
def test_each_mention_of_a_text_has_a_label(name: str) -> None:
    line = {"text": "Ann met Bob", name: [span(0, 3, entity="b"), span(8, 11, entity=None)]}
    assert labels({"text": "", name: []}, line) == [("Ann", 7, 2), ("Bob", None, 2)]


def test_line_of_one_mention_has_its_label() -> None:
    zeshel = ZESHEL | {"label_document_id": "b"}
    lines = [BLINK | {"entity": "a"}, zeshel, zeshel | {"text": "one two"}, {"text": "so [[y]]", "entity": None}]
    assert labels(*lines) == [("y", 0, 1), ("one two", 7, 2), ("one two", 7, 3), ("y", None, 4)]


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        ({"text": "Ann", "spans": [span(0, 3, entity="c")]}, "in:1: unknown entity.*spans.0..entity.*got c"),
        ({"text": "Ann", "spans": [span(0, 3)]}, "no label.*spans.0..entity"),
        ({"text": "Ann", "spans": [span(0, 3, entity="")]}, "empty.*spans.0..entity"),
        ({"text": "Ann", "spans": [span(0, 3, entity=3)]}, "wrong type.*spans.0..entity"),
        ({"text": "[[Ann]]"}, "no labels.*mentions.*a list of objects with start, end and entity"),
        (
            {"text": "[[a]] and [[b]]", "entity": "a"},
            "in:1: one label.*entity.*expected one mention, or.*got 2 mentions",
        ),
        ({"text": "a", "label_document_id": "a"}, "in:1: one label.*label_document_id.*got 0 mentions"),
        (BLINK, "no label.*entity"),
        (ZESHEL | {"label_document_id": "c"}, "unknown entity.*label_document_id"),
    ],
)
def test_mention_without_a_label_is_refused(line: dict[str, Any], problem: str) -> None:
    with pytest.raises(DataError) as error:
        labels(line)
    assert re.search(problem, str(error.value), re.DOTALL)
