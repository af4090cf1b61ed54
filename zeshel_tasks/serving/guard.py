"""What holds for every request: headers, metrics, a bound on their number, and an answer to unexpected errors.

HEAD is answered like GET, of which uvicorn sends no body, and the address may have the form that proxies get:
``GET http://host/v1/kbs``.
"""

from __future__ import annotations

import asyncio
import logging
import re
import time
import traceback
from urllib.parse import unquote

from starlette.datastructures import MutableHeaders
from starlette.requests import Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from zeshel_tasks.serving.metrics import Metrics
from zeshel_tasks.serving.problems import answer_exception, response_of

log = logging.getLogger(__name__)

HEADERS = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; "
    "img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-store",
}
ALWAYS_ANSWERED = ("/livez", "/readyz", "/metrics")
_ORIGIN = re.compile(rb"https?://[^/]*", re.IGNORECASE)
_CLIENT_CLOSED = 499  # nobody sees it; the number is nginx's


class Guard:
    """A middleware around the whole application.

    Args:
        app: the application.
        metrics: where to count.
        max_requests: requests in progress; further ones get status 429.
    """

    def __init__(self, app: ASGIApp, metrics: Metrics, max_requests: int) -> None:
        self._app, self._metrics, self._max_requests, self._open = app, metrics, max_requests, 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answers a request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        method, scope = _method(scope), _normal(scope)
        sender = _Sender(send)
        started = time.monotonic()
        self._open += 1
        self._metrics.open_requests.set(self._open)
        try:
            await self._answer(scope, receive, sender)
        finally:
            self._open -= 1
            self._metrics.open_requests.set(self._open)
            path = getattr(scope.get("route"), "path", "other")
            self._metrics.requests.labels(method, path, str(sender.status)).inc()
            self._metrics.seconds.labels(path).observe(time.monotonic() - started)

    async def _answer(self, scope: Scope, receive: Receive, sender: _Sender) -> None:
        if self._open > self._max_requests and scope["path"] not in ALWAYS_ANSWERED:
            full = response_of(429, "too many requests are in progress", headers={"Retry-After": "1"})
            await full(scope, receive, sender)
            return
        try:
            await self._app(scope, receive, sender)
        except asyncio.CancelledError:  # the time after SIGTERM is over
            if sender.status == _CLIENT_CLOSED:
                stopped = response_of(503, "the service stops", headers={"Retry-After": "1", "Connection": "close"})
                await stopped(scope, receive, sender)
        except Exception as error:
            _log(error)
            if sender.status == _CLIENT_CLOSED:
                await (await answer_exception(Request(scope), error))(scope, receive, sender)


class _Sender:
    """Sends an answer with all headers, and knows its status."""

    def __init__(self, send: Send) -> None:
        self._send, self.status = send, _CLIENT_CLOSED

    async def __call__(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.status = message["status"]
            MutableHeaders(scope=message).update(HEADERS)
        await self._send(message)


def _method(scope: Scope) -> str:
    """The method, for a label: a client may send any word."""
    known = ("GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS", "PATCH")
    return scope["method"] if scope["method"] in known else "other"


def _normal(scope: Scope) -> Scope:
    """The request as the routes know it."""
    changed: dict[str, object] = {"method": "GET"} if scope["method"] == "HEAD" else {}
    written = scope.get("raw_path") or b""
    if (origin := _ORIGIN.match(written)) is not None:
        raw_path = written[origin.end() :] or b"/"
        changed |= {"raw_path": raw_path, "path": unquote(raw_path.decode())}
    return {**scope, **changed}


def _log(error: Exception) -> None:
    """Logs type and place of an error. Its message may quote a user's text."""
    where = "".join(traceback.format_tb(error.__traceback__))
    log.error("unexpected %s at\n%s", type(error).__name__, where)
