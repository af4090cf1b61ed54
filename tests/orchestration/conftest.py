"""Fixtures for the Airflow side."""

import importlib.util
import os
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).parents[2]


@pytest.fixture(autouse=True)
def no_deployment_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    """Removes a developer's own ZESHEL_* variables."""
    for name in [name for name in os.environ if name.startswith("ZESHEL_")]:
        monkeypatch.delenv(name)


@pytest.fixture
def load_dag_file(monkeypatch: pytest.MonkeyPatch) -> Callable[..., ModuleType]:
    """``load_dag_file("zeshel", ZESHEL_RETRIES="1")`` imports dags/zeshel.py again with these variables."""

    def load(name: str = "zeshel", **variables: str) -> ModuleType:
        for variable, value in {"ZESHEL_STORE": "/data/zeshel", **variables}.items():
            monkeypatch.setenv(variable, value)
        spec = importlib.util.spec_from_file_location(f"{name}_dag_file", ROOT / "dags" / f"{name}.py")
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        return module

    return load
