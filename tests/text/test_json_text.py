"""NaN and the infinities, which are not JSON, are never written."""

import re
from pathlib import Path

import pytest

from zeshel_tasks.data.json_lines import write_json_lines
from zeshel_tasks.store.checksummed import checksummed
from zeshel_tasks.store.runs import RunRecord
from zeshel_tasks.text.json_text import to_json

ROOT = Path(__file__).parents[2]
WRITER = ROOT / "zeshel_tasks" / "text" / "json_text.py"
BROKEN = [float("nan"), float("inf"), float("-inf")]


@pytest.mark.parametrize("number", BROKEN)
def test_number_that_is_not_json_is_refused(number: float) -> None:
    with pytest.raises(ValueError, match="not JSON compliant"):
        to_json({"metrics": [{"confidence": number}]}, indent=1)


def test_arguments_are_those_of_the_json_module() -> None:
    assert to_json({"b": 1.5, "a": "é"}) == '{"b": 1.5, "a": "\\u00e9"}'
    assert (
        to_json({"b": None, "a": "é"}, indent=1, sort_keys=True, ensure_ascii=False) == '{\n "a": "é",\n "b": null\n}'
    )
    assert to_json({"path": Path("a")}, default=str) == '{"path": "a"}'


@pytest.mark.parametrize("number", BROKEN)
def test_records_and_lines_refuse_the_number(number: float, tmp_path: Path) -> None:
    record = RunRecord(stage="s", artifact="a", fingerprint="f", reused=False, recorded_at="now", wall_seconds=number)
    with pytest.raises(ValueError, match="not JSON compliant"):
        checksummed(record)
    with pytest.raises(ValueError, match="not JSON compliant"):
        write_json_lines(tmp_path / "predictions.jsonl", [{"confidence": number}])


def test_nothing_else_writes_json() -> None:
    files = [path for folder in ("zeshel_tasks", "dags") for path in (ROOT / folder).rglob("*.py") if path != WRITER]
    writers = re.compile(r"\bjson\.dumps?\(|\bJSONEncoder\b|^from json import.*\bdump", re.MULTILINE)
    assert len(files) > 150
    assert [str(path.relative_to(ROOT)) for path in files if writers.search(path.read_text("utf-8"))] == []
