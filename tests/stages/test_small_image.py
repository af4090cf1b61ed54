"""The stages and commands that run in zeshel-small, in a process that imports only what that image installs."""

from __future__ import annotations

import shutil
import subprocess
import sys
from importlib import metadata
from pathlib import Path

import pytest
from packaging.utils import canonicalize_name

from tests.images.test_locked import locked
from tests.support.finished import STEPS, copy_of, record_of
from tests.test_import_directions import BLOCKED, ROOT
from zeshel_tasks.config.stages import Recipe
from zeshel_tasks.store import Run

RUN_AGAIN = """
import sys
from tests.support.finished import STEPS
from zeshel_tasks.cli import main
from zeshel_tasks.config.stages import Recipe
from zeshel_tasks.pipeline.contract import run_stage

address, store, recipe = sys.argv[1:]
for stage, split in STEPS:
    if not stage.runs_a_model:
        run_stage(stage, address, Recipe.model_validate_json(recipe), split)
assert main(["gc", "--store", store, "--older-than", "2d"]) == 0
assert main(["champions", "--store", store]) == 0
assert main(["show", "--run", address]) == 0
"""


def not_in_the_image() -> set[str]:
    """The modules on this machine that belong to no package of the small image."""
    there = locked("small").keys() | {"zeshel-tasks"}
    modules = metadata.packages_distributions()
    return {name for name, owners in modules.items() if there.isdisjoint(map(canonicalize_name, owners))} - {"tests"}


@pytest.fixture(scope="module")
def blocked() -> set[str]:
    found = not_in_the_image()
    assert {"torch", "transformers", "tokenizers", "huggingface_hub", "ahocorasick", "airflow"} <= found
    assert {"numpy", "boto3", "mlflow"}.isdisjoint(found)
    return found


def test_stages_without_a_model_and_cleanups_run(
    finished_run: Run, small_recipe: Recipe, blocked: set[str], tmp_path: Path
) -> None:
    run = copy_of(finished_run, tmp_path)
    steps = [stage.name_for(split) for stage, split in STEPS if not stage.runs_a_model]
    before = {name: record_of(run, name) for name in steps}
    for record in before.values():
        shutil.rmtree(Path(run.store.address) / record.artifact)
    code = BLOCKED.format(heavy=blocked, modules="zeshel_tasks.pipeline.registry") + RUN_AGAIN
    command = [sys.executable, "-c", code, run.address, run.store.address, small_recipe.model_dump_json()]
    ended = subprocess.run(command, capture_output=True, text=True, check=False, cwd=ROOT)
    assert ended.returncode == 0, ended.stderr
    assert steps == ["download", "convert", "fuse", "calibrate", "report", "promote"]
    for name, record in before.items():
        assert (record_of(run, name).artifact, record_of(run, name).reused) == (record.artifact, False)
