"""The Airflow plugin: found by its entry point where the package is installed.

Every component of Airflow loads it, task processes too, and the API server alone shows pages: they are imported, and
FastAPI and boto3 with them, when the first of them is asked for.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any, ClassVar

from airflow.plugins_manager import AirflowPlugin

from zeshel_tasks.orchestration.web.links import PREFIX


async def app(
    scope: MutableMapping[str, Any], receive: Callable[[], Awaitable[Any]], send: Callable[[Any], Awaitable[None]]
) -> None:
    """The pages, as an ASGI application."""
    pages = await asyncio.to_thread(_pages)  # the import takes a second, in which the server goes on
    await pages(scope, receive, send)


def _pages() -> Any:
    from zeshel_tasks.orchestration.web.pages import app as pages

    return pages


class ZeshelPlugin(AirflowPlugin):  # type: ignore[misc]  # mypy does not follow imports into Airflow
    """Puts our pages on Airflow's web server."""

    name = "zeshel"
    fastapi_apps: ClassVar[list[Any]] = [{"app": app, "url_prefix": PREFIX, "name": "zeshel"}]
