"""The targets of the buttons on a task's page."""

import re
from collections.abc import Callable
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

from zeshel_tasks.orchestration.settings import path_safe
from zeshel_tasks.orchestration.web.links import LINKS

LoadDagFile = Callable[..., ModuleType]


def links(operator: Any, run_id: str) -> dict[str, str]:
    return {link.name: link.get_link(operator, ti_key=SimpleNamespace(run_id=run_id)) for link in LINKS}


def stages(load_dag_file: LoadDagFile) -> list[Any]:
    return [task for task in load_dag_file().report.dag.tasks if LINKS[0] in task.operator_extra_links]


def test_links_lead_to_report_section_and_artifact_of_each_stage(
    load_dag_file: LoadDagFile, finished_report: str
) -> None:
    sections = set(re.findall(r'<section id="([a-z]+)"', finished_report))
    for task in stages(load_dag_file):
        found = links(task, "weekly")
        assert found["Artifact"] == f"/zeshel/runs/weekly/stages/{task.task_id}"
        address, _, section = found["Report"].partition("#")
        assert address == "/zeshel/runs/weekly/report"
        assert section in sections, task.task_id


@pytest.fixture
def finished_report(finished_run: Any) -> str:
    page: bytes = finished_run.store.get(f"runs/{finished_run.run_id}/report/index.html")
    return page.decode()


def test_link_has_the_path_safe_run_id(load_dag_file: LoadDagFile) -> None:
    run_id = "manual__2026-11-24T16:37:07.334824+00:00"
    assert links(stages(load_dag_file)[0], run_id)["Report"].split("/")[3] == path_safe(run_id) != run_id


def test_link_includes_the_path_of_the_base_url(load_dag_file: LoadDagFile, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AIRFLOW__API__BASE_URL", "https://example.org/airflow/")
    assert links(stages(load_dag_file)[0], "weekly")["Report"].startswith("/airflow/zeshel/runs/weekly/report")
