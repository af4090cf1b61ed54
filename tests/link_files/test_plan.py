"""Several machines link the files of a plan, and the summary says what they did."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from zeshel_tasks.errors import DataError
from zeshel_tasks.link_files.counts import LinkedCounts
from zeshel_tasks.link_files.plan import LinkPlan, read_plan, summarize
from zeshel_tasks.link_files.shards import link_shards
from zeshel_tasks.location import StoreLocation, store_location

MADE_FROM = {"models": "m1", "knowledge_base": "k1"}
COUNTS = {"0.jsonl": LinkedCounts(lines=2, mentions=3, nil=1, rated=2, probability=1.5), "1.jsonl": LinkedCounts()}
LinkFiles = Callable[..., None]


@pytest.fixture
def source(tmp_path: Path) -> StoreLocation:
    (tmp_path / "in").mkdir()
    for name in COUNTS:
        (tmp_path / "in" / name).write_text("{}")
    return store_location(str(tmp_path / "in"))


@pytest.fixture
def target(tmp_path: Path) -> StoreLocation:
    return store_location(str(tmp_path / "out"))


@pytest.fixture
def plan(tmp_path: Path) -> LinkPlan:
    location = store_location(str(tmp_path / "links" / "plan.json"))
    assert read_plan(location) is None
    LinkPlan(made_from=MADE_FROM, files=tuple(COUNTS)).write(location)
    written = read_plan(location)
    assert written is not None
    return written


@pytest.fixture
def link(source: StoreLocation, target: StoreLocation, tmp_path: Path) -> LinkFiles:
    def link_file(_: Path, name: str, made: Path) -> LinkedCounts:
        made.write_text("linked")
        return COUNTS[Path(name).name]

    def link_files(*names: str, made_from: dict[str, str] = MADE_FROM) -> None:
        list(link_shards(source, target, names, made_from, link_file, tmp_path))

    return link_files


def test_summary_adds_up_all_files(
    source: StoreLocation, target: StoreLocation, plan: LinkPlan, link: LinkFiles, tmp_path: Path
) -> None:
    link(*COUNTS)
    (tmp_path / "in" / "new.jsonl").touch()
    figures = summarize(source, target, plan).figures
    assert figures == {
        "files": 2, "new_files": 1, "documents": 2, "mentions": 3, "linked": 2, "nil": 1, "mean_probability": 0.75,
    }  # fmt: skip
    written = json.loads((tmp_path / "out" / "summary.json").read_text())
    assert {name: written[name] for name in figures} == figures
    assert written["each_file"]["1.jsonl"]["mean_probability"] is None
    assert written["made_from"] == MADE_FROM


def test_file_that_is_not_linked_as_planned_is_named(
    source: StoreLocation, target: StoreLocation, plan: LinkPlan, link: LinkFiles, tmp_path: Path
) -> None:
    def problem() -> str:
        with pytest.raises(DataError) as caught:
            summarize(source, target, plan)
        assert not (tmp_path / "out" / "summary.json").exists()
        return str(caught.value)

    link("0.jsonl")
    assert "/in: not linked as planned, or changed since: 1.jsonl; expected files, models" in problem()
    link("1.jsonl", made_from={**MADE_FROM, "models": "m2"})
    assert "changed since: 1.jsonl;" in problem()
    link("1.jsonl")
    (tmp_path / "in" / "0.jsonl").write_text("changed")
    assert "changed since: 0.jsonl;" in problem()
    (tmp_path / "in" / "1.jsonl").unlink()
    assert "changed since: 0.jsonl, 1.jsonl;" in problem()
