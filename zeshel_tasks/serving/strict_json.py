"""Reads the body of a request: its type, size and time are bounded, and it must be plain JSON.

Python's own parser takes NaN, a field twice and any depth. FastAPI answers some broken bodies with status 500.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Sequence
from email.message import Message
from typing import Any

from fastapi import Request, Response
from fastapi.routing import APIRoute
from starlette.requests import ClientDisconnect

from zeshel_tasks.data.json_lines import parse_object
from zeshel_tasks.errors import DataError
from zeshel_tasks.serving.problems import Problem
from zeshel_tasks.serving.schema import check_size
from zeshel_tasks.serving.settings import ServeConfig

MOST_DEPTH = 32
"""Objects and lists within one another. An answer repeats a document's metadata, and must not fail to write them."""

_JSON = "application/json"
_MOST_DISCARDED = 16
"""A body of up to this many times the limit is read to its end. Otherwise, its sender may not see the answer."""


class StrictRequest(Request):
    """A request whose body is read with limits."""

    async def body(self) -> bytes:
        """Returns the body.

        Raises:
            Problem: another media type than JSON; or it is empty, too large, or takes too long.
        """
        if not hasattr(self, "_body"):
            _check_coding(self.headers.getlist("content-encoding"))
            _check_media_type(self.headers.getlist("content-type"))
            settings: ServeConfig = self.app.state.settings
            try:
                async with asyncio.timeout(settings.body_seconds):
                    self._body = await self._read(settings.max_body_bytes)
            except TimeoutError:
                detail = f"expected the whole body within {settings.body_seconds:g} seconds"
                raise Problem(408, detail, headers={"Connection": "close"}) from None
            except ClientDisconnect:
                raise Problem(400, "the body was cut off") from None
            if not self._body.strip():  # FastAPI would take it for no body
                raise Problem.of_field("body", "empty; expected a JSON object", 400)
        return self._body

    async def json(self) -> Any:
        """Returns the object that the body is.

        Raises:
            Problem: it is not a JSON object, or has too many items.
        """
        try:
            values = parse_object(await self.body(), "body", 1, strict=True)
        except DataError as error:
            raise Problem.of_field("body", error.reason, 400) from None
        if _is_deep(values):
            raise Problem.of_field("body", f"too deep; expected at most {MOST_DEPTH} levels", 400)
        check_size(values, self.app.state.settings)
        return values

    async def _read(self, limit: int) -> bytes:
        parts, size = list[bytes](), 0
        async for part in self.stream():
            size += len(part)
            if size <= limit:
                parts.append(part)
            elif size > _MOST_DISCARDED * limit:
                break
        if size > limit:
            raise Problem(413, f"expected a body of at most {limit:,} bytes", headers={"Connection": "close"})
        return b"".join(parts)


class StrictRoute(APIRoute):
    """A route whose requests are strict."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """Returns the handler of FastAPI with a strict request."""
        handle = super().get_route_handler()

        async def strictly(request: Request) -> Response:
            return await handle(StrictRequest(request.scope, request.receive))

        return strictly


def _check_coding(given: Sequence[str]) -> None:
    codings = {coding.strip().lower() for line in given for coding in line.split(",")}
    if codings - {"identity", ""}:
        detail = "expected a body without a Content-Encoding: nothing is unpacked"
        raise Problem(415, detail, headers={"Accept-Encoding": "identity"})


def _check_media_type(given: Sequence[str]) -> None:
    message = Message()
    message["content-type"] = given[0] if len(given) == 1 else ""
    if not message["content-type"] or message.get_content_type() != "application/json":
        raise Problem(415, "expected a body with the media type application/json", headers={"Accept": _JSON})
    if str(message.get_param("charset", "utf-8")).lower() not in ("utf-8", "utf8"):
        raise Problem(415, "expected a body in UTF-8", headers={"Accept": _JSON})


def _is_deep(values: dict[str, Any]) -> bool:
    level: list[Any] = [values]
    for _ in range(MOST_DEPTH):
        nested = (item.values() if isinstance(item, dict) else item for item in level if isinstance(item, dict | list))
        level = [value for items in nested for value in items if isinstance(value, dict | list)]
    return bool(level)
