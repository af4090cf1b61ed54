"""Each stage at each edge of each of its settings, on a tiny data set: it works, or says in one line which setting
to change."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest
import yaml

from tests.bad_input.command import run
from tests.bad_input.edges import COMPANIONS, INSIDE, NARROWER, Edge, schemas
from tests.faults import Fault
from zeshel_tasks.config import STAGE_CONFIGS, Recipe
from zeshel_tasks.pipeline.registry import STAGES
from zeshel_tasks.store import Run

CHOICES = [
    Edge(stage, name, str(choice).lower() if isinstance(choice, bool) else choice)
    for stage, name, core in schemas()
    for choice in (core.get("enum") or ([True, False] if core["type"] == "boolean" else []))
]
# A thousand epochs take minutes on any data; the smallest `stall_minutes` makes the watchdog end the process, which
# tests/training/test_watchdog.py has a process of its own for.
LEFT_OUT = {("num_train_epochs", "1000"), ("stall_minutes", "5e-324")}
CASES = [edge for edge in (*INSIDE, *CHOICES) if (edge.name, edge.value) not in LEFT_OUT and edge not in NARROWER]

# What stages make on their way, each by the name of the stage's own artifact.
DERIVED = {"eval-biencoder": ["candidate-encodings"], "eval-crossencoder": ["candidate-scores"]}


@pytest.fixture
def store(finished_run: Run, small_recipe: Recipe, tmp_path: Path) -> Path:
    """A store with all stages done, and the recipe of that as a file beside it."""
    shutil.copytree(finished_run.store.address, tmp_path / "store", copy_function=os.link)
    (tmp_path / "recipe.yaml").write_text(yaml.safe_dump(small_recipe.model_dump(mode="json")))
    return tmp_path


@pytest.mark.parametrize("edge", CASES, ids=str)
def test_a_stage_works_at_the_edges_of_its_settings_or_names_the_setting(
    store: Path, capsys: pytest.CaptureFixture[str], fault: Fault, edge: Edge
) -> None:
    command = next(known for known in STAGES.values() if known.settings == edge.stage)
    for name in (command.name, *DERIVED.get(command.name, [])):
        for manifest in (store / "store" / "artifacts" / name).glob("*/manifest.json"):
            manifest.unlink()
    known = STAGE_CONFIGS[edge.stage].model_fields
    settings = {name: value for name, value in COMPANIONS.get(edge.name, {}).items() if name in known}
    flags = [f"--{name}={value}" for name, value in {**settings, edge.name: edge.value}.items()]
    split = ["--split", command.splits[0]] if command.splits else []
    address, recipe = f"{store}/store/runs/first", f"{store}/recipe.yaml"
    ended = run([command.name, "--run", address, *split, "--config", recipe, *flags], capsys)
    fault("input: setting at the edge of its range")
    assert not any("reused" in line for line in ended.lines)
    if ended.code == 0:
        assert ended.errors == []
    else:
        assert ended.code in (2, 3, 75), ended
        assert len(ended.errors) == 1, ended.errors
        assert edge.name in ended.errors[0], ended.errors
