"""Each stage at each edge of each of its settings, on a tiny data set: it works, or names the setting in one line.

The usual run tests several settings in one run of a stage, and goes down to one where such a run fails. The nightly run
tests each by itself.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
import yaml

from tests.bad_input.command import Ended, run
from tests.bad_input.edges import INSIDE, NARROWER, Edge, companions, schemas
from tests.support.faults import Fault
from tests.support.finished import copy_of
from tests.support.rounds import rounds
from zeshel_tasks.config.stages import Recipe
from zeshel_tasks.pipeline.registry import STAGES
from zeshel_tasks.store import Run

CHOICES = [
    Edge(stage, name, str(choice).lower() if isinstance(choice, bool) else choice)
    for stage, name, core in schemas()
    for choice in (core.get("enum") or ([True, False] if core["type"] == "boolean" else []))
]
# A thousand epochs take minutes on any data. With the smallest `stall_minutes`, the watchdog ends the process;
# tests/training/test_watchdog.py tests that in a separate process.
LEFT_OUT = {("num_train_epochs", "1000"), ("stall_minutes", "0.001")}
CASES = [edge for edge in (*INSIDE, *CHOICES) if (edge.name, edge.value) not in LEFT_OUT and edge not in NARROWER]

# With these, a stage has almost nothing to do, so a failure of another setting would not show.
ALONE = {("num_train_epochs", "0"), ("max_mentions_per_world", "1"), ("top_k", "2")}
PER_RUN = rounds(usual=8, nightly=1)

# Intermediate artifacts, by the name of the stage's own artifact.
DERIVED = {"eval-biencoder": ["candidate-encodings"], "eval-crossencoder": ["candidate-scores"]}


@pytest.fixture
def store(finished_run: Run, small_recipe: Recipe, tmp_path: Path) -> Path:
    """A store in which all stages are done, with the recipe as a file beside it."""
    copy_of(finished_run, tmp_path)
    (tmp_path / "recipe.yaml").write_text(yaml.safe_dump(small_recipe.model_dump(mode="json")))
    return tmp_path


def settings_of(edges: Sequence[Edge]) -> dict[str, str]:
    """Returns the edges, and the other values that they need, as settings of their stage.

    Raises:
        ValueError: two of them need different values of one setting.
    """
    settings: dict[str, str] = {}
    for edge in edges:
        for name, value in {**companions(edge.stage, edge.name), edge.name: edge.value}.items():
            if settings.setdefault(name, value) != value:
                raise ValueError(f"{name} cannot be {settings[name]} and {value}")
    return settings


def fits(edge: Edge, group: Sequence[Edge]) -> bool:
    """Returns True if one run can be at this edge and at those of the group."""
    if len(group) == PER_RUN or any((member.name, member.value) in ALONE for member in (edge, *group)):
        return False
    try:
        settings_of([*group, edge])
    except ValueError:
        return False
    return edge.stage == group[0].stage


def grouped(edges: Sequence[Edge]) -> list[list[Edge]]:
    """Puts each edge into the first group that it fits into."""
    groups: list[list[Edge]] = []
    for edge in edges:
        group = next((group for group in groups if fits(edge, group)), None)
        if group is None:
            groups.append([edge])
        else:
            group.append(edge)
    return groups


def run_stage_at(edges: Sequence[Edge], store: Path, capsys: pytest.CaptureFixture[str]) -> Ended:
    command = next(known for known in STAGES.values() if known.settings == edges[0].stage)
    for name in (command.name, *DERIVED.get(command.name, [])):
        for manifest in (store / "store" / "artifacts" / name).glob("*/manifest.json"):
            manifest.unlink()
    flags = [f"--{name}={value}" for name, value in settings_of(edges).items()]
    split = ["--split", command.splits[0]] if command.splits else []
    address, recipe = f"{store}/store/runs/first", f"{store}/recipe.yaml"
    ended = run([command.name, "--run", address, *split, "--config", recipe, *flags], capsys)
    assert not any("reused" in line for line in ended.lines)
    return ended


def parts(edges: Sequence[Edge], ended: Ended) -> Iterator[Sequence[Edge]]:
    """Splits the edges of a failed run: the named ones one by one and the rest together, or else into halves."""
    named = [edge for edge in edges if any(edge.name in error for error in ended.errors)]
    if 0 < len(named) < len(edges):
        yield from ([edge] for edge in named)
        yield [edge for edge in edges if edge not in named]
    else:
        half = len(edges) // 2
        yield from (edges[:half], edges[half:])


def assert_works_or_names_the_setting(edges: Sequence[Edge], store: Path, capsys: pytest.CaptureFixture[str]) -> None:
    ended = run_stage_at(edges, store, capsys)
    if ended.code == 0:
        assert ended.errors == [], edges
    elif len(edges) > 1:
        for part in parts(edges, ended):
            assert_works_or_names_the_setting(part, store, capsys)
    else:
        (edge,) = edges
        assert ended.code in (2, 3, 75), (edge, ended)
        assert len(ended.errors) == 1, (edge, ended.errors)
        assert edge.name in ended.errors[0], (edge, ended.errors)


def group_name(edges: Sequence[Edge]) -> str:
    return f"{edges[0].stage}.{'+'.join(edge.name for edge in edges)}"


@pytest.mark.parametrize("edges", grouped(CASES), ids=group_name)
def test_stage_works_at_setting_edges_or_names_the_setting(
    store: Path, capsys: pytest.CaptureFixture[str], fault: Fault, edges: list[Edge]
) -> None:
    fault("input: setting at the edge of its range", len(edges))
    assert_works_or_names_the_setting(edges, store, capsys)


def test_left_out_edges_exist() -> None:
    assert {(edge.name, edge.value) for edge in INSIDE} >= LEFT_OUT


def test_groups_contain_each_edge_once() -> None:
    assert sorted(edge for group in grouped(CASES) for edge in group) == sorted(CASES)


def test_failed_run_is_split_by_named_settings_or_halved() -> None:
    edges = [Edge("report", name, "0") for name in ("a_setting", "b_setting", "c_setting")]
    named, silent = Ended(2, ["b_setting: expected 1, got 0"], []), Ended(1, [], [])
    assert list(parts(edges, named)) == [[edges[1]], [edges[0], edges[2]]]
    assert list(parts(edges, silent)) == [edges[:1], edges[1:]]
