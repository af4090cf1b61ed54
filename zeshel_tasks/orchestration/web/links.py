"""The buttons on a task's page, which link to its section of the report and to its artifact."""

from __future__ import annotations

from typing import Any
from urllib.parse import urlparse

from airflow.configuration import conf
from airflow.sdk import BaseOperatorLink

from zeshel_tasks.orchestration.settings import path_safe
from zeshel_tasks.pipeline.stage import Stage

PREFIX = "/zeshel"


class ReportLink(BaseOperatorLink):  # type: ignore[misc]  # mypy does not follow imports into Airflow
    """Links to the section of the run's report about the task's stage."""

    name = "Report"

    def get_link(self, operator: Any, *, ti_key: Any) -> str:
        """Return the address of the page, which exists after the task ``report`` has finished."""
        return report_page(ti_key.run_id, operator.command.step.stage)


class ArtifactLink(BaseOperatorLink):  # type: ignore[misc]  # mypy does not follow imports into Airflow
    """Links to the page about the stage's artifact."""

    name = "Artifact"

    def get_link(self, operator: Any, *, ti_key: Any) -> str:
        """Return the address of the page."""
        return f"{_base()}/runs/{path_safe(ti_key.run_id)}/stages/{operator.command.name}"


def report_page(run_id: str, stage: Stage) -> str:
    """Return the address, without a host, of the section about a stage in a run's report."""
    return f"{_base()}/runs/{path_safe(run_id)}/report#{stage.section}"


LINKS = (ReportLink(), ArtifactLink())


def _base() -> str:
    """Return the path of our pages on Airflow's web server, which may itself be below a path."""
    address: str = conf.get("api", "base_url", fallback="")
    return urlparse(address).path.rstrip("/") + PREFIX
