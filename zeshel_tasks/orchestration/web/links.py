"""The buttons on a task's page: its part of the run's report, and its artifact."""

from __future__ import annotations

from typing import Any
from urllib.parse import urlparse

from airflow.configuration import conf
from airflow.sdk import BaseOperatorLink

from zeshel_tasks.orchestration.settings import path_safe
from zeshel_tasks.pipeline.stage import Stage

PREFIX = "/zeshel"


class ReportLink(BaseOperatorLink):  # type: ignore[misc]  # mypy does not follow imports into Airflow
    """To the section of the run's report that is about the task's stage."""

    name = "Report"

    def get_link(self, operator: Any, *, ti_key: Any) -> str:
        """The address of the page; it is there once the task ``report`` has finished."""
        return report_page(ti_key.run_id, operator.step.stage)


class ArtifactLink(BaseOperatorLink):  # type: ignore[misc]  # mypy does not follow imports into Airflow
    """To what the task's stage left in the store."""

    name = "Artifact"

    def get_link(self, operator: Any, *, ti_key: Any) -> str:
        """The address of the page."""
        return f"{_base()}/runs/{path_safe(ti_key.run_id)}/stages/{operator.step.name}"


def report_page(run_id: str, stage: Stage) -> str:
    """The address, without a host, of the part of a run's report that is about a stage."""
    return f"{_base()}/runs/{path_safe(run_id)}/report#{stage.section}"


LINKS = (ReportLink(), ArtifactLink())


def _base() -> str:
    """Our pages' address on Airflow's web server, all of whose pages may be below a path."""
    address: str = conf.get("api", "base_url", fallback="")
    return urlparse(address).path.rstrip("/") + PREFIX
