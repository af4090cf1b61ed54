"""The scheduler and a reused stage import no model library. `make lint` checks the directions of all imports."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
HEAVY = {"torch", "transformers", "accelerate", "numpy", "safetensors", "huggingface_hub", "tokenizers"}
S3_CLIENT = {"boto3", "botocore"}
TASKS = {"zeshel": "promote", "zeshel_link": "join"}

BLOCKED = """
import importlib.abc, sys

class Blocker(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path, target=None):
        if name.partition(".")[0] in {heavy}:
            raise ImportError(f"{{name}} is not to be imported here")

sys.meta_path.insert(0, Blocker())
import {modules}
"""


def run_python(code: str, **variables: str) -> "subprocess.CompletedProcess[str]":
    env = {**os.environ, **variables}
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, cwd=ROOT, env=env)


def test_no_model_library_airflow_or_s3_client_is_imported_before_it_is_needed() -> None:
    modules = "cli", "pipeline.registry", "store", "commands.show", "config.stages"
    names = ", ".join(f"zeshel_tasks.{module}" for module in modules)
    ended = run_python(BLOCKED.format(heavy=HEAVY | S3_CLIENT | {"airflow", "jinja2"}, modules=names))
    assert ended.returncode == 0, ended.stderr


def test_stages_that_load_no_model_import_no_model_library() -> None:
    """These imports take seconds. compare and report use a model only for a champion that was never evaluated."""
    stages = "convert", "fuse", "calibrate", "compare", "report", "promote"
    names = ", ".join(f"zeshel_tasks.stages.{stage}" for stage in stages)
    ended = run_python(BLOCKED.format(heavy=HEAVY - {"numpy"}, modules=names))
    assert ended.returncode == 0, ended.stderr


@pytest.mark.parametrize("module", ["zeshel_tasks.models.encoder", "zeshel_tasks.store.s3"])
def test_blocker_refuses_heavy_imports(module: str) -> None:
    ended = run_python(BLOCKED.format(heavy=HEAVY | S3_CLIENT, modules=module))
    assert "is not to be imported here" in ended.stderr


def test_dag_files_import_no_model_library_or_s3_client(tmp_path: Path) -> None:
    """Airflow itself imports jinja2, so that is not blocked here."""
    code = BLOCKED.format(heavy=HEAVY | S3_CLIENT | {"kubernetes"}, modules="runpy")
    for dag, task in TASKS.items():
        code += f"\nassert runpy.run_path({str(ROOT / 'dags' / f'{dag}.py')!r})[{task!r}].task_id == {task!r}"
    ended = run_python(code, ZESHEL_STORE="s3://bucket/zeshel", AIRFLOW_HOME=str(tmp_path))
    assert ended.returncode == 0, ended.stderr
