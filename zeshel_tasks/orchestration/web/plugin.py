"""The Airflow plugin: found by its entry point where the package is installed."""

from __future__ import annotations

from typing import Any, ClassVar

from airflow.plugins_manager import AirflowPlugin

from zeshel_tasks.orchestration.web.links import PREFIX
from zeshel_tasks.orchestration.web.pages import app


class ZeshelPlugin(AirflowPlugin):  # type: ignore[misc]  # mypy does not follow imports into Airflow
    """Puts our pages on Airflow's web server."""

    name = "zeshel"
    fastapi_apps: ClassVar[list[Any]] = [{"app": app, "url_prefix": PREFIX, "name": "zeshel"}]
