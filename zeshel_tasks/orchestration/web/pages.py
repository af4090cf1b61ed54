"""The pages behind the links: files of the store, for those who may read the DAG.

    /zeshel/runs/<run>/report            the run's report
    /zeshel/runs/<run>/report.json       its numbers
    /zeshel/runs/<run>/stages/<name>     a stage's manifest, as a page

They are plain pages without scripts. What comes from data is escaped, and no browser would run it: the report forbids
it itself, and every answer says so again.
"""

from __future__ import annotations

from functools import cache
from importlib.resources import files
from typing import Annotated, Any

from airflow.api_fastapi.core_api.security import requires_access_dag
from fastapi import Depends, FastAPI, HTTPException, Path
from fastapi.responses import HTMLResponse, Response
from jinja2 import Environment, FunctionLoader, StrictUndefined

from zeshel_tasks.errors import ZeshelError
from zeshel_tasks.orchestration.settings import path_safe, read_deployment
from zeshel_tasks.redaction import recorded
from zeshel_tasks.store import Run, open_store

DAG_ID = "zeshel"
_HEADERS = {
    "Content-Security-Policy": "sandbox allow-popups; default-src 'none'; style-src 'unsafe-inline'; img-src data:",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-store",
}

app = FastAPI(
    title="zeshel",
    dependencies=[Depends(requires_access_dag("GET", param_dag_id=DAG_ID))],
    docs_url=None,
    redoc_url=None,
    openapi_url=None,
)

RunId = Annotated[str, Path(max_length=300)]


@app.get("/runs/{run_id}/report")
def report_page(run_id: RunId) -> Response:
    """The run's report."""
    return HTMLResponse(_published(run_id, "report/index.html"), headers=_HEADERS)


@app.get("/runs/{run_id}/report.json")
def report_numbers(run_id: RunId) -> Response:
    """The report's numbers."""
    return Response(_published(run_id, "report/metrics.json"), media_type="application/json", headers=_HEADERS)


@app.get("/runs/{run_id}/stages/{name}")
def stage_page(run_id: RunId, name: Annotated[str, Path(max_length=100, pattern="^[a-z_-]+$")]) -> Response:
    """What a stage of the run left."""
    try:
        run = _run(run_id)
        record, manifest = run.record(name), run.manifest(name)
    except ZeshelError as error:
        raise HTTPException(502, str(error)) from error
    if record is None or manifest is None:
        raise HTTPException(404, f"{run.address}: the stage {name} has not finished")
    shown = {**manifest.model_dump(mode="json"), "config": recorded(manifest.config)}
    page = _template().render(run=run.address, name=name, record=record, manifest=shown, store=run.store.address)
    return HTMLResponse(page, headers=_HEADERS)


def _published(run_id: str, file: str) -> bytes:
    try:
        run = _run(run_id)
        content = run.store.get(f"runs/{run_id}/{file}")
    except ZeshelError as error:
        raise HTTPException(502, str(error)) from error
    if content is None:
        raise HTTPException(404, f"{run.address}: there is no report yet; the task `report` writes it")
    return content


def _run(run_id: str) -> Run:
    if path_safe(run_id) != run_id:
        raise HTTPException(404, "there is no such run")
    return Run(open_store(read_deployment().store), run_id)


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
