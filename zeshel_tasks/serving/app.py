"""The routes of the service."""

from __future__ import annotations

import hmac
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from importlib.resources import files
from threading import Event
from typing import Any

from fastapi import APIRouter, FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException

from zeshel_tasks import __version__
from zeshel_tasks.errors import TryAgain
from zeshel_tasks.serving import metrics
from zeshel_tasks.serving.edits import Editor
from zeshel_tasks.serving.follower import StoreFollower
from zeshel_tasks.serving.guard import Guard
from zeshel_tasks.serving.linking import ClientGone, LinkService
from zeshel_tasks.serving.metrics import Metrics
from zeshel_tasks.serving.openapi import openapi, problems
from zeshel_tasks.serving.problems import Problem, answer_exception
from zeshel_tasks.serving.schema import (
    BaseDescription,
    Bases,
    DeleteEntities,
    Edited,
    LinkRequest,
    LinkResponse,
    PutEntities,
    check_limits,
)
from zeshel_tasks.serving.served import ServedBase
from zeshel_tasks.serving.settings import ServeConfig
from zeshel_tasks.serving.strict_json import StrictRoute

_JSON = "application/json"
_RETRY_SECONDS = 5
_PAGE = {
    "/": ("index.html", "text/html"),
    "/page.css": ("page.css", "text/css"),
    "/page.js": ("page.js", "text/javascript"),
}


@dataclass(frozen=True)
class Service:
    """What the routes use.

    Attributes:
        settings: all settings.
        admin_token: what a request that changes entities must show; None forbids such requests.
        drained: set once everything has ended.
    """

    settings: ServeConfig
    admin_token: str | None = field(repr=False)
    metrics: Metrics
    follower: StoreFollower
    links: LinkService
    editor: Editor
    drained: Event = field(default_factory=Event)

    def base(self, name: str) -> ServedBase:
        """Returns what serves a knowledge base now.

        Raises:
            Problem: it is not served, or not yet.
        """
        if name not in self.follower.names:
            raise Problem(404, "no such knowledge base; GET /v1/kbs lists those that are served", [("kb", "unknown")])
        found = self.follower.bases.get(name)
        if found is None:
            raise Problem.try_again(503, "the knowledge base is being loaded", _RETRY_SECONDS)
        return found


def _service(request: Request) -> Service:
    found: Service = request.app.state.service
    return found


def _admin(request: Request) -> None:
    """Refuses a request without the admin token."""
    expected = _service(request).admin_token
    if expected is None:
        raise Problem(403, "this service was started without an admin token, so it takes no changes")
    scheme, _, given = request.headers.get("authorization", "").partition(" ")
    is_right = hmac.compare_digest(given.strip().encode(errors="replace"), expected.encode(errors="replace"))
    if scheme.lower() != "bearer" or not is_right:
        raise Problem(401, "expected the header Authorization: Bearer TOKEN", headers={"WWW-Authenticate": "Bearer"})


class AdminRoute(StrictRoute):
    """A route for admins. The body of anybody else is not even read."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """Returns the handler of a strict route, after a look at the token."""
        handle = super().get_route_handler()

        async def if_admin(request: Request) -> Response:
            _admin(request)
            return await handle(request)

        return if_admin


api, admin_api = APIRouter(route_class=StrictRoute), APIRouter(route_class=AdminRoute)
_UNKNOWN = {"s404": "No such knowledge base.", "s503": "It is being loaded, or the store does not answer."}
_FOR_ADMINS = _UNKNOWN | {"s401": "No admin token, or another one.", "s403": "The service takes no changes."}


@api.post("/v1/link", response_model=LinkResponse, responses=problems(**_UNKNOWN), tags=["link"])
async def link(body: LinkRequest, request: Request) -> Response:
    """Link the mentions of texts against a knowledge base."""
    service = _service(request)
    base = service.base(body.kb)
    check_limits(body, service.settings)

    async def gone() -> None:
        while (await request.receive())["type"] != "http.disconnect":
            pass

    try:
        return Response(await service.links.answer(body, base, gone), media_type=_JSON)
    except ClientGone:
        return Response(status_code=499)


@api.get("/v1/kbs", tags=["knowledge bases"])
async def list_bases(request: Request) -> Bases:
    """List the knowledge bases, with what identifies models and content."""
    follower = _service(request).follower
    return Bases(
        kbs=[
            BaseDescription(
                entities=len(base.entities),
                champion=follower.has_champion(name),
                calibrated_by=base.calibrated_by,
                **base.linked_by(base.mode),
            )
            for name, base in follower.bases.items()
        ]
    )


@admin_api.put("/v1/kbs/{kb}/entities", responses=problems(**_FOR_ADMINS), tags=["knowledge bases"])
async def put_entities(kb: str, body: PutEntities, request: Request) -> Edited:
    """Add entities, and replace those of the same ids. Those that are the same are left alone."""
    service = _service(request)
    service.base(kb)
    return await service.editor.put(kb, body.entities)


@admin_api.delete("/v1/kbs/{kb}/entities", responses=problems(**_FOR_ADMINS), tags=["knowledge bases"])
async def delete_entities(kb: str, body: DeleteEntities, request: Request) -> Edited:
    """Remove entities. Ids that the knowledge base does not have are left alone."""
    service = _service(request)
    service.base(kb)
    return await service.editor.delete(kb, body.ids)


@api.get("/livez", tags=["operation"])
async def livez() -> dict[str, str]:
    """Answer as long as the process does."""
    return {"status": "alive"}


@api.get("/readyz", responses=problems(s503="Not yet, or no longer."), tags=["operation"])
async def readyz(request: Request) -> dict[str, str]:
    """Answer with 200 once a mention was linked to each knowledge base."""
    follower = _service(request).follower
    if not follower.is_ready:
        detail = "; ".join(follower.waits_for) or "the knowledge bases are being loaded"
        raise Problem.try_again(503, detail, _RETRY_SECONDS)
    return {"status": "ready"}


@api.get("/metrics", response_class=Response, include_in_schema=False)
async def show_metrics(request: Request) -> Response:
    """Show the metrics in the format of Prometheus."""
    return Response(_service(request).metrics.page(), media_type=metrics.MEDIA_TYPE)


def _file(name: str, media_type: str) -> Callable[[], Coroutine[Any, Any, Response]]:
    """Returns a handler that answers with a file of the page for people."""
    content = files("zeshel_tasks.serving").joinpath("page", name).read_bytes()

    async def show() -> Response:
        return Response(content, media_type=media_type)

    return show


def create_app(service: Service) -> FastAPI:
    """Returns the application."""

    @asynccontextmanager
    async def lifespan(_app: FastAPI) -> AsyncIterator[None]:
        service.follower.start()
        yield

    app = FastAPI(
        title="zeshel",
        version=__version__,
        description="Links mentions in texts to the entities of your knowledge bases.",
        lifespan=lifespan,
        docs_url=None,  # its page loads scripts from elsewhere
        redoc_url=None,
        redirect_slashes=False,
    )
    app.state.service, app.state.settings = service, service.settings
    for error in (HTTPException, RequestValidationError, TryAgain):
        app.add_exception_handler(error, answer_exception)
    app.include_router(api)
    app.include_router(admin_api)
    for path, (name, media_type) in _PAGE.items():
        app.add_api_route(path, _file(name, media_type), include_in_schema=False)
    app.add_middleware(Guard, metrics=service.metrics, max_requests=service.settings.max_requests)
    document = openapi(app, service.settings)
    app.openapi = lambda: document  # type: ignore[method-assign]
    return app
