"""Our pages on Airflow's web server. Who may see them, a real Airflow is asked: test_real_airflow.py."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from fastapi.testclient import TestClient

from tests.finished import NAMES
from zeshel_tasks.errors import StoreUnavailable
from zeshel_tasks.orchestration.web.pages import app
from zeshel_tasks.store import Run


@pytest.fixture
def client(finished_run: Run, monkeypatch: pytest.MonkeyPatch) -> Iterator[TestClient]:
    """Of the pages, as one who may read the DAG."""
    monkeypatch.setenv("ZESHEL_STORE", finished_run.store.address)
    (guard,) = [dependency.dependency for dependency in app.router.dependencies]
    assert guard is not None
    monkeypatch.setitem(app.dependency_overrides, guard, lambda: None)
    with TestClient(app) as made:
        yield made


def test_the_report_is_the_runs_own(client: TestClient, finished_run: Run) -> None:
    answer = client.get(f"/runs/{finished_run.run_id}/report")
    assert answer.content == finished_run.store.get(f"runs/{finished_run.run_id}/report/index.html")
    assert "sandbox" in answer.headers["content-security-policy"]
    assert answer.headers["x-content-type-options"] == "nosniff"
    numbers = client.get(f"/runs/{finished_run.run_id}/report.json").json()
    assert numbers["run"]["address"] == finished_run.address


@pytest.mark.parametrize("name", NAMES)
def test_each_stage_has_a_page_with_its_files_metrics_and_settings(
    client: TestClient, finished_run: Run, name: str
) -> None:
    manifest, record = finished_run.manifest(name), finished_run.record(name)
    assert manifest is not None
    assert record is not None
    page = client.get(f"/runs/{finished_run.run_id}/stages/{name}").text
    assert record.artifact in page
    for word in (*manifest.files, *manifest.metrics, *manifest.config):
        assert f"<code>{word}</code>" in page


@pytest.mark.parametrize(
    ("path", "says"),
    [
        ("/runs/nobody/report", "there is no report yet"),
        ("/runs/nobody/stages/convert", "the stage convert has not finished"),
        ("/runs/a b/report", "no such run"),
        ("/runs/.hidden/report", "no such run"),
        ("/runs/..%2F..%2Fsecret/report", "Not Found"),
        ("/runs/%2e%2e/report", "no such run"),
    ],
)
def test_what_is_not_there_is_not_found(client: TestClient, path: str, says: str) -> None:
    answer = client.get(path)
    assert answer.status_code == 404
    assert says in answer.json()["detail"]


def test_a_store_that_does_not_answer_is_said(client: TestClient, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("zeshel_tasks.orchestration.web.pages.open_store", unavailable)
    answer = client.get("/runs/weekly/report")
    assert (answer.status_code, answer.json()["detail"]) == (502, "s3://bucket: does not answer")


def unavailable(_: str) -> Any:
    raise StoreUnavailable("s3://bucket: does not answer")
