"""Our pages on Airflow's web server. test_real_airflow.py tests who may see them."""

from __future__ import annotations

import asyncio
import shutil
import socket
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from botocore.config import Config
from fastapi import HTTPException
from fastapi.testclient import TestClient

from tests.support.finished import NAMES
from tests.support.silent_server import connections_of
from zeshel_tasks.errors import StoreUnavailable
from zeshel_tasks.orchestration.web import pages
from zeshel_tasks.orchestration.web.pages import app
from zeshel_tasks.store import Run
from zeshel_tasks.store import s3_client as clients
from zeshel_tasks.store.artifacts import manifest_key, removed_manifest_key
from zeshel_tasks.store.s3_client import s3_client


@pytest.fixture
def client(finished_run: Run, monkeypatch: pytest.MonkeyPatch) -> Iterator[TestClient]:
    """A client of the pages, for a user who may read the DAG."""
    monkeypatch.setenv("ZESHEL_STORE", finished_run.store.address)
    (guard,) = [dependency.dependency for dependency in app.router.dependencies]
    assert guard is not None
    monkeypatch.setitem(app.dependency_overrides, guard, lambda: None)
    with TestClient(app) as made:
        yield made


def test_report_page_is_the_published_report(client: TestClient, finished_run: Run) -> None:
    answer = client.get(f"/runs/{finished_run.run_id}/report")
    assert answer.content == finished_run.store.get(f"runs/{finished_run.run_id}/report/index.html")
    assert "sandbox" in answer.headers["content-security-policy"]
    assert answer.headers["x-content-type-options"] == "nosniff"
    numbers = client.get(f"/runs/{finished_run.run_id}/report.json").json()
    assert numbers["run"]["address"] == finished_run.address


@pytest.mark.parametrize("name", NAMES)
def test_each_stage_page_lists_files_metrics_and_settings(client: TestClient, finished_run: Run, name: str) -> None:
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
        ("/runs/nobody/report", "the report does not exist yet"),
        ("/runs/nobody/stages/convert", "the stage convert has not finished"),
        ("/runs/a b/report", "no such run"),
        ("/runs/.hidden/report", "no such run"),
        ("/runs/..%2F..%2Fsecret/report", "Not Found"),
        ("/runs/%2e%2e/report", "no such run"),
    ],
)
def test_missing_page_returns_404(client: TestClient, path: str, says: str) -> None:
    answer = client.get(path)
    assert answer.status_code == 404
    assert says in answer.json()["detail"]


def test_unavailable_store_returns_502(client: TestClient, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("zeshel_tasks.orchestration.web.pages.open_store", unavailable)
    answer = client.get("/runs/weekly/report")
    assert (answer.status_code, answer.json()["detail"]) == (502, "s3://bucket: does not answer")


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("/runs/nobody/report", 404),
        ("/elsewhere", 404),
        ("/runs/nobody/stages/A", 422),
        ("/runs/weekly/report", 401),
        ("/runs/weekly/report", 403),
        ("/runs/weekly/report", 405),
        ("/runs/weekly/report.json", 500),
        ("/runs/weekly/report.json", 503),
    ],
)
def test_each_answer_forbids_scripts(
    client: TestClient, monkeypatch: pytest.MonkeyPatch, path: str, status: int
) -> None:
    """Those of Airflow's guard, of FastAPI and of the server around it, too."""

    def refuse() -> None:
        raise HTTPException(status, "no")

    if status in (401, 403):
        (guard,) = app.dependency_overrides
        monkeypatch.setitem(app.dependency_overrides, guard, refuse)
    monkeypatch.setattr(pages, "_published", lambda *_: 1 / 0 if status == 500 else refuse())
    client._transport.raise_server_exceptions = False
    answer = client.request("POST" if status == 405 else "GET", path)
    assert answer.status_code == status
    assert answer.headers["content-security-policy"].startswith("sandbox")
    assert (answer.headers["x-content-type-options"], answer.headers["cache-control"]) == ("nosniff", "no-store")


def unavailable(_: str, **options: Any) -> Any:
    raise StoreUnavailable("s3://bucket: does not answer")


@pytest.fixture
def silent_store(monkeypatch: pytest.MonkeyPatch) -> Iterator[socket.socket]:
    """A server that takes every connection and never answers."""
    monkeypatch.setattr(pages, "SECONDS", 120)  # the store's client must give up first, even on a slow machine
    monkeypatch.setattr(clients, "_IMPATIENT", clients._IMPATIENT.merge(Config(read_timeout=0.5)))
    with socket.create_server(("127.0.0.1", 0)) as silent:  # the system accepts the connections
        for name, value in {
            "ZESHEL_STORE": "s3://bucket/prefix",
            "AWS_ENDPOINT_URL": f"http://127.0.0.1:{silent.getsockname()[1]}",
            "AWS_ACCESS_KEY_ID": "someone",
            "AWS_SECRET_ACCESS_KEY": "secret",
            "AWS_DEFAULT_REGION": "us-east-1",
            "AWS_MAX_ATTEMPTS": "20",
        }.items():
            monkeypatch.setenv(name, value)
        s3_client.cache_clear()
        yield silent
    s3_client.cache_clear()


@pytest.mark.parametrize("page", ["report", "report.json", "stages/convert"])
def test_silent_store_is_asked_twice(client: TestClient, silent_store: socket.socket, page: str) -> None:
    answer = client.get(f"/runs/weekly/{page}")
    assert answer.status_code == 502, "the store's own error, which names it"
    assert "s3://bucket/prefix/runs/weekly/" in answer.json()["detail"]
    assert connections_of(silent_store) == 2


def test_page_times_out_if_the_store_takes_too_long(client: TestClient, monkeypatch: pytest.MonkeyPatch) -> None:
    """Such as a server that sends one byte at a time, so that each wait is short."""
    release = threading.Event()
    monkeypatch.setattr(pages, "SECONDS", 0.2)
    monkeypatch.setattr(pages, "_published", lambda *_: release.wait())
    try:
        answer = client.get("/runs/weekly/report")
    finally:
        release.set()
    assert (answer.status_code, answer.json()["detail"]) == (
        503, "the store did not answer within 0.2 seconds: try again later",
    )  # fmt: skip


def test_number_of_pages_waiting_for_the_store_is_limited(client: TestClient, monkeypatch: pytest.MonkeyPatch) -> None:
    release = threading.Event()
    waiting = threading.Semaphore(0)

    def stuck(*_: str) -> bytes:
        waiting.release()
        release.wait()
        return b"{}"

    monkeypatch.setattr(pages, "_published", stuck)

    async def answers() -> tuple[httpx.Response, list[httpx.Response]]:
        transport = httpx.ASGITransport(app=app)
        async with httpx.AsyncClient(transport=transport, base_url="http://airflow") as browser:
            first = [asyncio.create_task(browser.get("/runs/weekly/report.json")) for _ in range(pages.AT_ONCE)]
            for _ in first:
                await asyncio.to_thread(waiting.acquire)
            one_too_many = await browser.get("/runs/weekly/report.json")
            release.set()
            return one_too_many, await asyncio.gather(*first)

    refused, served = asyncio.run(answers())
    assert (refused.status_code, refused.json()["detail"]) == (
        503, f"{pages.AT_ONCE} pages are already waiting for the store: try again in a minute",
    )  # fmt: skip
    assert {answer.status_code for answer in served} == {200}
    assert client.get("/runs/weekly/report.json").status_code == 200, "their places are free again"


def test_artifact_set_aside_by_a_dead_cleanup_returns_404(
    client: TestClient, finished_run: Run, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    shutil.copytree(finished_run.store.address, tmp_path / "store")
    monkeypatch.setenv("ZESHEL_STORE", f"{tmp_path}/store")
    record = finished_run.record("convert")
    assert record is not None
    (tmp_path / "store" / manifest_key(record.artifact)).rename(
        tmp_path / "store" / removed_manifest_key(record.artifact)
    )
    answer = client.get(f"/runs/{finished_run.run_id}/stages/convert")
    assert answer.status_code == 404
    assert "the artifact was removed or is being removed" in answer.json()["detail"]
