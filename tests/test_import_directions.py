"""The scheduler and a reused stage import no model library. `make lint` checks the directions of all imports."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
HEAVY = {"torch", "transformers", "accelerate", "numpy", "safetensors", "matplotlib", "huggingface_hub"}

BLOCKED = """
import importlib.abc, sys

class Blocker(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path, target=None):
        if name.partition(".")[0] in {heavy}:
            raise ImportError(f"{{name}} is not to be imported here")

sys.meta_path.insert(0, Blocker())
import {module}
"""


@pytest.mark.parametrize(
    "module",
    ["zeshel_tasks.cli", "zeshel_tasks.pipeline.registry", "zeshel_tasks.store", "zeshel_tasks.commands.show",
     "zeshel_tasks.config"],
)  # fmt: skip
def test_it_is_imported_without_model_libraries_and_airflow(module: str) -> None:
    code = BLOCKED.format(heavy=HEAVY | {"airflow"}, module=module)
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, cwd=ROOT)
    assert ended.returncode == 0, ended.stderr


def test_the_registry_is_imported_without_what_only_pages_need() -> None:
    code = BLOCKED.format(heavy=HEAVY | {"airflow", "jinja2"}, module="zeshel_tasks.pipeline.registry")
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, cwd=ROOT)
    assert ended.returncode == 0, ended.stderr


def test_the_blocker_blocks() -> None:
    code = BLOCKED.format(heavy=HEAVY, module="zeshel_tasks.models.encoder")
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, cwd=ROOT)
    assert "is not to be imported here" in ended.stderr


def test_the_dag_is_imported_without_model_libraries() -> None:
    code = BLOCKED.format(heavy=HEAVY - {"numpy"}, module="zeshel_tasks.orchestration.factory")
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, cwd=ROOT)
    assert ended.returncode == 0, ended.stderr
