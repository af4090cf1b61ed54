"""The formats of knowledge bases."""

import json
from pathlib import Path
from typing import Any

import pyarrow
import pyarrow.parquet
import pytest

from tests.support.faults import Fault
from zeshel_tasks.data.zeshel import Document
from zeshel_tasks.errors import ConfigError, DataError
from zeshel_tasks.importing.entities import read_entities
from zeshel_tasks.importing.entity_formats import EntitySettings, entity_reader
from zeshel_tasks.importing.inputs import Input


def read(
    tmp_path: Path, content: bytes | str, name: str, bad: list[DataError] | None = None, **settings: Any
) -> list[Document]:
    path = tmp_path / "kb"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    reader = entity_reader(name, EntitySettings(settings.pop("names", {}), **settings))

    def refuse(error: DataError) -> None:
        if bad is None:
            raise error
        bad.append(error)

    return list(read_entities([Input(path, "kb")], reader, tmp_path, refuse))


def json_line(**values: Any) -> str:
    return json.dumps(values) + "\n"


CSV = (
    "id,title,text,url,aliases,types\r\n"
    '7,"Vask, the ""old"" ferry","It\r\nsails.",https://x/7,Old Vask| The Ferry |,ship\r\n'
)
VASK = Document("7", 'Vask, the "old" ferry', "It\r\nsails.", "https://x/7", ("Old Vask", "The Ferry"), ("ship",))


def test_csv_with_quotation_marks_and_line_ends_in_fields(tmp_path: Path) -> None:
    assert read(tmp_path, CSV, "csv") == [VASK]


def test_csv_with_other_columns_and_delimiter(tmp_path: Path) -> None:
    content = "code;label;sort\nA1;Vask;ferry\n"
    names = {"id": "code", "title": "label", "types": "sort"}
    found = read(tmp_path, content, "csv", names=names, delimiter=";", template="{title} is a {sort}")
    assert found == [Document("A1", "Vask", "Vask is a ferry", types=("ferry",))]


def test_tsv_gives_quotation_marks_no_meaning(tmp_path: Path) -> None:
    content = 'id\ttitle\ttext\n1\t"Vask\t5" wide\n'
    assert read(tmp_path, content, "tsv") == [Document("1", '"Vask', '5" wide')]


def test_parquet_with_lists_and_numbers(tmp_path: Path) -> None:
    columns = {"id": [1, 2], "title": ["Vask", "Orlen"], "text": ["a", "b"], "aliases": [["V", "W"], None]}
    pyarrow.parquet.write_table(pyarrow.table(columns), tmp_path / "kb.parquet")
    found = read(tmp_path, (tmp_path / "kb.parquet").read_bytes(), "parquet")
    assert found == [Document("1", "Vask", "a", aliases=("V", "W")), Document("2", "Orlen", "b")]


def test_damaged_parquet_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"^kb: not a Parquet file, or a damaged one"):
        read(tmp_path, b"PAR1 no table PAR1", "parquet")


@pytest.mark.parametrize(
    ("name", "line", "expected"),
    [
        ("jsonl", {"id": "a", "title": "A", "text": "x", "aliases": "B"}, Document("a", "A", "x", aliases=("B",))),
        ("zeshel", {"document_id": "a", "title": "A", "text": "x"}, Document("a", "A", "x")),
        ("name-description", {"id": 7, "name": "A", "description": "x"}, Document("7", "A", "x")),
        (
            "blink",
            {"text": " x", "idx": "https://en.wikipedia.org/wiki?curid=12", "title": "A", "entity": "A"},
            Document("12", "A", " x", "https://en.wikipedia.org/wiki?curid=12"),
        ),
        (
            "scispacy",
            {"concept_id": "C1", "canonical_name": "A", "aliases": ["B", "C"], "types": ["T116"]},
            Document("C1", "A", "A B, C T116", aliases=("B", "C"), types=("T116",)),
        ),
        (
            "wikidata",
            {
                "id": "Q1",
                "labels": {"en": {"language": "en", "value": "A"}},
                "descriptions": {"en": {"value": "x"}},
                "aliases": {"en": [{"value": "B"}]},
                "claims": {"P31": [{"mainsnak": {"datavalue": {"value": {"id": "Q5"}}}}]},
            },
            Document("Q1", "A", "x", "https://www.wikidata.org/wiki/Q1", ("B",), ("Q5",)),
        ),
        (
            "wikidata",
            {"id": "Q2", "labels": {"mul": {"value": "A"}}, "descriptions": [], "aliases": [], "claims": []},
            Document("Q2", "A", "A", "https://www.wikidata.org/wiki/Q2"),
        ),
    ],
)
def test_line_of_json(name: str, line: dict[str, Any], expected: Document, tmp_path: Path) -> None:
    assert read(tmp_path, json.dumps(line), name) == [expected]


def test_array_of_wikidata(tmp_path: Path) -> None:
    lines = ",\n".join(json.dumps({"id": f"Q{n}", "labels": {"en": {"value": "A"}}}) for n in (1, 2))
    assert [found.document_id for found in read(tmp_path, f"[\n{lines}\n]\n", "wikidata")] == ["Q1", "Q2"]


def test_obo_has_terms_that_are_not_obsolete(tmp_path: Path) -> None:
    content = r"""format-version: 1.4

[Term]
id: GO:1 ! first
name: cell \"wall\"
namespace: component
def: "The \"rigid\" layer\, outside." [ref:1]
synonym: "wall" EXACT []
synonym: "cortex" RELATED []

[Typedef]
id: part_of
name: part of

[Term]
id: GO:2
name: gone
is_obsolete: true
"""
    wall = Document("GO:1", 'cell "wall"', 'The "rigid" layer, outside.', None, ("wall", "cortex"), ("component",))
    assert read(tmp_path, content, "obo") == [wall]


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("csv", "id,title,text\n1,A\n", "kb:2: wrong number of fields; expected 3 fields, as in the first row; got 2"),
        ("csv", 'id,title,text\n1,"A"b,c\n', "kb:2: broken row: ',' expected after '\"'; expected a row of CSV"),
        ("csv", 'id,title,text\n1,"A,c\n', "kb:2: broken row: unexpected end of data; expected a row of CSV"),
        ("csv", "id,title,id\n1,A,c\n", "kb:1: the same column twice; expected each name once; got id"),
        ("csv", "id,title,text\n1,,c\n", "kb:2: empty (field 'title'); expected a non-empty string; got ''"),
        ("csv", "id,title,text\n1, ,c\n", "kb:2: empty (field 'title'); expected more than white space; got ' '"),
        ("csv", "id,title,text\n1,A,\n", "kb:2: no text (field 'text'); expected a text, or --template for entities"),
        ("csv", "id,title,text\n-1,A,c\n", "kb:2: this id means no entity (field 'id'); expected another id; got -1"),
        (
            "csv",
            "id,title,text\n1,A,c\n1,B,d\n",
            "kb:3: duplicate (field 'id'); expected each id once; got 1, first in kb:2",
        ),
        (
            "csv",
            b"id,title,text\n1,\xe4,c\n",
            "kb:2: not UTF-8; expected UTF-8; got byte 0xe4 at position 3 of the line",
        ),
        ("csv", "id,title,text\n1,A\0,c\n", "kb:2: not text; expected text in UTF-8; got NUL at byte 4"),
        ("jsonl", '{"id": "1", "title": "A\\n", "text": "c"}', "kb:1: control character (field 'title')"),
        ("jsonl", '{"id": "1", "title": "A", "text": "\\ud800"}', "kb:1: half of a surrogate pair (field 'text')"),
        (
            "jsonl",
            '{"id": true, "title": "A", "text": "c"}',
            "kb:1: wrong type (field 'id'); expected a string; got True",
        ),
        (
            "jsonl",
            '{"id": "1", "text": "c"}',
            "kb:1: missing field (field 'title'); expected a string; got fields id, text",
        ),
        ("jsonl", '{"id": "1", "title": "A", "text": ["c"]}', "kb:1: wrong type (field 'text'); expected a string"),
        (
            "wikidata",
            '{"id": "Q1", "labels": {}}',
            "kb:1: no label (field 'labels'); expected a label in 'en' (--language)",
        ),
        ("wikidata", '{"id": "Q1", "labels": 7}', "kb:1: wrong type (field 'labels'); expected an object; got 7"),
        ("blink", '{"title": "A", "text": "c"}', "kb:1: missing field (field 'idx'); expected a string"),
        ("obo", "[Term]\nname: A\n", "kb:1: missing field (field 'id'); expected a string"),
    ],
)
def test_row_that_cannot_be_used(name: str, content: bytes | str, message: str, tmp_path: Path, fault: Fault) -> None:
    fault("input: entity to import that cannot be used")
    with pytest.raises(DataError) as caught:
        read(tmp_path, content, name)
    assert str(caught.value).startswith(message)


def test_other_rows_of_csv_are_used_after_a_bad_one(tmp_path: Path) -> None:
    bad: list[DataError] = []
    content = 'id,title,text\n1,"A"b,c\n2,B,d\n3,C\n4,D,e\n'
    assert [found.document_id for found in read(tmp_path, content, "csv", bad)] == ["2", "4"]
    assert [error.line for error in bad] == [2, 4]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"names": {"id": "code"}}, "--id: expected a column of kb (id, title, text, url, aliases, types), got 'code'"),
        ({"template": "{titel}"}, "--template {titel}: expected a column of kb"),
        ({"delimiter": ", "}, "--delimiter: expected one character, got ', '"),
        ({"language": "en"}, "--language: expected none with --format csv, got 'en'"),
    ],
)
def test_setting_that_does_not_suit_the_file(settings: dict[str, Any], message: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        read(tmp_path, CSV, "csv", **settings)
    assert str(caught.value).startswith(message)


def test_row_without_a_field_of_the_template_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"^kb:1: missing field \(field 'born'\); expected a value for --template"):
        read(tmp_path, json_line(id="1", title="A"), "jsonl", template="{title}, {born}")


def test_template_is_only_for_entities_without_text(tmp_path: Path) -> None:
    lines = json_line(id="1", title="A", born=1900, tags=["x", "y"]) + json_line(id="2", title="B", text="own")
    found = read(tmp_path, lines, "jsonl", template="{title} {born} {tags} {aliases}{{")
    assert [document.text for document in found] == ["A 1900 x, y {{", "own"]
