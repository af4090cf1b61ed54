"""The module that every process of Airflow's image imports first."""

import runpy
import sys

import pytest

from tests.images.dockerfile import ROOT


@pytest.mark.parametrize("command", ["scheduler", "triggerer"])
def test_only_the_scheduler_imports_the_kubernetes_clients(command: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["/home/airflow/.local/bin/airflow", command])
    module = runpy.run_path(str(ROOT / "images/airflow/airflow_local_settings.py"))
    imported = [client.__name__ for client in module.get("imported", [])]
    assert imported == (["kubernetes.client", "kubernetes_asyncio.client"] if command == "scheduler" else [])
