"""JSON objects, one on each line or in an array."""

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from zeshel_tasks.errors import DataError
from zeshel_tasks.importing import json_records as module
from zeshel_tasks.importing.inputs import Input
from zeshel_tasks.importing.json_records import json_records

VALUES = st.recursive(
    st.none() | st.integers() | st.text(max_size=5) | st.sampled_from(['"', "\\", "[{,}]", "\n"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=8,
)


def refuse(error: DataError) -> None:
    raise error


def records(path: Path, content: bytes) -> list[dict[str, Any]]:
    path.write_bytes(content)
    return [record.values for record in json_records(Input(path, "x.json"), refuse)]


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("json") / "x.json"


@settings(max_examples=50)
@given(
    items=st.lists(st.dictionaries(st.text(max_size=4), VALUES, max_size=3), max_size=4), indent=st.none() | st.just(1)
)
def test_array_has_the_objects_that_were_written(path: Path, items: list[Any], indent: int | None) -> None:
    assert records(path, json.dumps(items, ensure_ascii=False, indent=indent).encode()) == items


@pytest.mark.parametrize("block", [1, 2, 3, 7])
def test_blocks_may_end_anywhere(path: Path, block: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_BLOCK", block)
    items = [{"a": 'x\\"]},{', "b": [{"ä": "\\"}]}, {}, {"c": "\u2028"}]
    assert (
        records(path, f"[{json.dumps(items[0])},\n\n {json.dumps(items[1])} ,{json.dumps(items[2])}]\n".encode())
        == items
    )


def test_broken_item_is_named_by_its_position(path: Path) -> None:
    path.write_bytes(b'[{"a": 1},\n 7, {"b": 2}]')
    bad: list[DataError] = []
    assert len(list(json_records(Input(path, "x.json"), bad.append))) == 2
    assert [str(error) for error in bad] == ["x.json[1]:2: not an object; expected a JSON object; got 7"]


@pytest.mark.parametrize("content", [b'[{"a": 1}', b'[{"a": "]', b"["])
def test_array_that_does_not_end_is_refused(path: Path, content: bytes) -> None:
    with pytest.raises(DataError, match=r"^x.json:1: cut; expected ']' at the end of the array$"):
        records(path, content)


def test_item_that_is_too_long_is_refused(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_LINE_BYTES", 100)
    monkeypatch.setattr(module, "_BLOCK", 64)
    with pytest.raises(DataError, match="item too long"):
        records(path, b'[{"a": "' + b"x" * 500 + b'"}]')


def test_lines_are_objects(path: Path) -> None:
    assert records(path, b'\xef\xbb\xbf{"a": 1}\r\n{"b": [2]}') == [{"a": 1}, {"b": [2]}]
