"""The plugin, which every component of Airflow loads. test_real_airflow.py tests that its pages are served."""

import subprocess
import sys

import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient

from zeshel_tasks.orchestration.web import pages, plugin
from zeshel_tasks.store import Run

LOADS = """
import sys
import airflow.plugins_manager
before = set(sys.modules)
import zeshel_tasks.orchestration.web.plugin
new = set(sys.modules) - before
heavy = {"boto3", "fastapi", "airflow.api_fastapi", "zeshel_tasks.orchestration.web.pages"}
assert not new & heavy, sorted(new & heavy)
assert len(new) < 100, len(new)
"""


def test_importing_the_plugin_does_not_load_the_pages() -> None:
    subprocess.run([sys.executable, "-c", LOADS], check=True)


def test_mounted_plugin_serves_the_report(finished_run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ZESHEL_STORE", finished_run.store.address)
    (guard,) = [dependency.dependency for dependency in pages.app.router.dependencies]
    assert guard is not None
    monkeypatch.setitem(pages.app.dependency_overrides, guard, lambda: None)
    (mounted,) = plugin.ZeshelPlugin.fastapi_apps
    server = FastAPI()
    server.mount(mounted["url_prefix"], mounted["app"])
    answer = TestClient(server).get(f"/zeshel/runs/{finished_run.run_id}/report")
    assert answer.content == finished_run.store.get(f"runs/{finished_run.run_id}/report/index.html")
