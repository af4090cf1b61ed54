"""The pages behind the links. They show files of the store to users who may read the DAG.

    /zeshel/runs/<run>/report            the run's report
    /zeshel/runs/<run>/report.json       its numbers
    /zeshel/runs/<run>/stages/<name>     a stage's manifest, as a page

The pages contain no scripts. Text from data is escaped, and a Content-Security-Policy in the report and in every
response forbids scripts.

A store that is down does not affect the rest of Airflow's web server: pages are rendered in a few threads of our own,
and every request is answered within ``SECONDS``.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from importlib.resources import files
from typing import Annotated, Any

from airflow.api_fastapi.core_api.security import requires_access_dag
from fastapi import Depends, FastAPI, HTTPException, Path
from fastapi.responses import HTMLResponse, Response
from jinja2 import Environment, FunctionLoader, StrictUndefined
from starlette.datastructures import MutableHeaders
from starlette.types import Message, Receive, Scope, Send

from zeshel_tasks.errors import ZeshelError
from zeshel_tasks.orchestration.settings import path_safe, read_deployment
from zeshel_tasks.store import Run, open_store
from zeshel_tasks.store.artifacts import read_manifest_now
from zeshel_tasks.text.redaction import recorded

DAG_ID = "zeshel"
SECONDS = 8.0
"""Time limit of a page. An impatient S3 client gives up on a silent server after 6 to 7 seconds."""
AT_ONCE = 8
"""Maximum number of pages that are rendered at the same time."""
_HEADERS = {
    "Content-Security-Policy": "sandbox allow-popups; default-src 'none'; style-src 'unsafe-inline'; img-src data:",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-store",
}


class _Pages(FastAPI):
    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Add the headers to every response, also to those of FastAPI about errors."""

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message).update(_HEADERS)
            await send(message)

        await super().__call__(scope, receive, send_with_headers)


app = _Pages(
    title="zeshel",
    dependencies=[Depends(requires_access_dag("GET", param_dag_id=DAG_ID))],
    docs_url=None,
    redoc_url=None,
    openapi_url=None,
)

RunId = Annotated[str, Path(max_length=300)]


_threads = ThreadPoolExecutor(AT_ONCE, "zeshel-page")
_free = threading.BoundedSemaphore(AT_ONCE)


@app.get("/runs/{run_id}/report")
async def report_page(run_id: RunId) -> Response:
    """Return the run's report."""
    return await _in_time(lambda: HTMLResponse(_published(run_id, "report/index.html")))


@app.get("/runs/{run_id}/report.json")
async def report_numbers(run_id: RunId) -> Response:
    """Return the report's numbers."""
    return await _in_time(lambda: Response(_published(run_id, "report/metrics.json"), media_type="application/json"))


@app.get("/runs/{run_id}/stages/{name}")
async def stage_page(run_id: RunId, name: Annotated[str, Path(max_length=100, pattern="^[a-z_-]+$")]) -> Response:
    """Return a page about the artifact of a stage."""
    return await _in_time(lambda: HTMLResponse(_stage(run_id, name)))


async def _in_time(make: Callable[[], Response]) -> Response:
    """Run ``make`` in a thread; respond with 503 if it takes too long or if all threads are busy."""
    if not _free.acquire(blocking=False):
        raise HTTPException(503, f"{AT_ONCE} pages are already waiting for the store: try again in a minute")
    page = _threads.submit(_render, make)
    page.add_done_callback(lambda _: _free.release())  # a thread stays busy after a timeout until it returns
    try:
        return await asyncio.wait_for(asyncio.wrap_future(page), SECONDS)
    except TimeoutError as error:
        raise HTTPException(503, f"the store did not answer within {SECONDS:g} seconds: try again later") from error


def _render(make: Callable[[], Response]) -> Response:
    try:
        return make()
    except ZeshelError as error:
        raise HTTPException(502, str(error)) from error


def _stage(run_id: str, name: str) -> str:
    run = _run(run_id)
    record = run.record(name)
    if record is None:
        raise HTTPException(404, f"{run.address}: the stage {name} has not finished")
    manifest = read_manifest_now(run.store, record.artifact)  # do not wait for a cleanup
    if manifest is None:
        raise HTTPException(404, f"{run.store.address}/{record.artifact}: the artifact was removed or is being removed")
    shown = {**manifest.model_dump(mode="json"), "config": recorded(manifest.config)}
    page: str = _template().render(run=run.address, name=name, record=record, manifest=shown, store=run.store.address)
    return page


def _published(run_id: str, file: str) -> bytes:
    run = _run(run_id)
    content = run.store.get(f"runs/{run_id}/{file}")
    if content is None:
        raise HTTPException(404, f"{run.address}: the report does not exist yet; the task `report` writes it")
    return content


def _run(run_id: str) -> Run:
    if path_safe(run_id) != run_id:
        raise HTTPException(404, "there is no such run")
    return Run(open_store(read_deployment().store, patient=False), run_id)


@cache
def _template() -> Any:
    environment = Environment(
        loader=FunctionLoader(lambda name: files("zeshel_tasks.orchestration.web").joinpath(name).read_text("utf-8")),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template("stage.html")
