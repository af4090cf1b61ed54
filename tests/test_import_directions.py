"""Imports point one way, and what the scheduler and a reused stage need comes without torch."""

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGE = "zeshel_tasks"

SETTINGS = {"", "errors", "config", "presets", "shown", "redaction"}
STORE = SETTINGS | {"store"}
DATA = STORE | {"progress", "data"}
MODELS = DATA | {"models"}
EVALUATION = MODELS | {"evaluation"}
TRAINING = EVALUATION | {"logs", "machine", "disk", "training"}
REPORT = SETTINGS | {"recipe", "report"}
STAGES = TRAINING | REPORT | {"stages"}

ALLOWED = {
    "": set(),
    "shown": set(),
    "redaction": set(),
    "addresses": set(),
    "yaml_text": set(),
    "errors": {"shown", "redaction"},
    "progress": set(),
    "logs": {"shown", "redaction"},
    "machine": set(),
    "disk": {"", "errors"},
    "config": {"addresses"},
    "presets": {"config"},
    "recipe": SETTINGS | {"yaml_text"},
    "store": STORE,
    "data": DATA,
    "models": MODELS,
    "evaluation": EVALUATION,
    "training": TRAINING,
    "report": REPORT,
    "stages": STAGES,
    "commands": STAGES | {"commands"},
    "cli": STAGES | {"commands", "addresses", "yaml_text", "cli"},
    "orchestration": STORE | {"recipe", "stages", "orchestration"},
    "dags": STORE | {"orchestration"},
}
HEAVY = {"torch", "transformers", "accelerate", "numpy", "safetensors", "matplotlib", "huggingface_hub"}
MODULES = sorted([*(ROOT / PACKAGE).rglob("*.py"), *(ROOT / "dags").rglob("*.py")])


def part_of(module: str) -> str:
    """The part of the house that a dotted name belongs to: ``zeshel_tasks.store.s3`` is of ``store``."""
    parts = module.split(".")
    if parts[0] != PACKAGE:
        return parts[0]
    return parts[1] if len(parts) > 1 else ""


def module_name(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def imported(path: Path) -> Iterator[str]:
    """Names of all modules that a file imports, wherever in it."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: imports are absolute"
            # `from zeshel_tasks import machine` imports a module, `from zeshel_tasks.store import Run` a name.
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(ROOT)))
def test_a_module_imports_only_what_stands_below_it(path: Path) -> None:
    own = part_of(module_name(path))
    ours = [name for name in imported(path) if name.partition(".")[0] in (PACKAGE, "dags")]
    known = {name: part_of(name) for name in ours}
    used = {name: "" if part == "__version__" else part for name, part in known.items()}
    assert {name for name, part in used.items() if part not in ALLOWED[own] | {own, ""}} == set()


@pytest.mark.parametrize("part", ["store", "orchestration", "dags", "errors", "config", "cli"])
def test_these_parts_import_no_model_library(part: str) -> None:
    users = {
        str(path.relative_to(ROOT)): name
        for path in MODULES
        if part_of(module_name(path)) == part
        for name in imported(path)
        if name.partition(".")[0] in HEAVY
    }
    assert users == {}


def test_only_orchestration_and_dags_import_airflow() -> None:
    users = {
        part_of(module_name(path)) for path in MODULES for name in imported(path) if name.partition(".")[0] == "airflow"
    }
    assert users == {"orchestration", "dags"}


def test_nothing_but_the_command_line_imports_the_command_line() -> None:
    users = {module_name(path) for path in MODULES for name in imported(path) if part_of(name) == "cli"}
    assert users == set()


def test_every_part_of_the_house_has_its_place() -> None:
    assert {part_of(module_name(path)) for path in MODULES} <= set(ALLOWED)


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
    ["zeshel_tasks.cli", "zeshel_tasks.stages.registry", "zeshel_tasks.store", "zeshel_tasks.commands.show",
     "zeshel_tasks.config"],
)  # fmt: skip
def test_it_is_imported_without_model_libraries_and_airflow(module: str) -> None:
    code = BLOCKED.format(heavy=HEAVY | {"airflow"}, module=module)
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, cwd=ROOT)
    assert ended.returncode == 0, ended.stderr


def test_the_registry_is_imported_without_what_only_pages_need() -> None:
    code = BLOCKED.format(heavy=HEAVY | {"airflow", "jinja2"}, module="zeshel_tasks.stages.registry")
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
