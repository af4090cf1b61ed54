"""The Airflow plugin, which Airflow finds by its entry point.

Every component of Airflow loads it, including task processes, but only the API server serves pages, and only the
triggerer looks for abandoned pods. So the pages, FastAPI and boto3 are imported at the first request, and the clients
of Kubernetes and of the database for the first search.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any, ClassVar

from airflow.plugins_manager import AirflowPlugin

from zeshel_tasks.orchestration.pods import listener
from zeshel_tasks.orchestration.web.links import PREFIX


async def app(
    scope: MutableMapping[str, Any], receive: Callable[[], Awaitable[Any]], send: Callable[[Any], Awaitable[None]]
) -> None:
    """Serve the pages, as an ASGI application."""
    pages = await asyncio.to_thread(_pages)  # the import takes a second and must not block the server
    await pages(scope, receive, send)


def _pages() -> Any:
    from zeshel_tasks.orchestration.web.pages import app as pages

    return pages


class ZeshelPlugin(AirflowPlugin):  # type: ignore[misc]  # mypy does not follow imports into Airflow
    """Adds our pages to Airflow's web server, and the search for abandoned pods to its triggerer."""

    name = "zeshel"
    fastapi_apps: ClassVar[list[Any]] = [{"app": app, "url_prefix": PREFIX, "name": "zeshel"}]
    listeners: ClassVar[list[Any]] = [listener]
