"""Errors as problem details (RFC 9457): JSON with the media type ``application/problem+json``.

    {"type": "about:blank", "title": "Unprocessable Content", "status": 422, "detail": "...",
     "errors": [{"field": "documents[0].mentions[1].end", "reason": "..."}]}

``errors`` is there if the request has fields to blame.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from http import HTTPStatus
from typing import Any

from fastapi import Request, Response
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.routing import Match

from zeshel_tasks.errors import DataError, TryAgain
from zeshel_tasks.text.json_text import to_json
from zeshel_tasks.text.safe_text import quoted, safe_text

MEDIA_TYPE = "application/problem+json"
_SHOWN = 20
_RETRY_SECONDS = "5"
_TITLES = {413: "Content Too Large", 422: "Unprocessable Content"}  # RFC 9110; Python 3.11 has older names


class Problem(HTTPException):
    """A request that is not answered as asked.

    Args:
        status: of HTTP.
        detail: what is wrong, for a person.
        errors: fields and reasons.
        headers: of the answer.
    """

    def __init__(
        self,
        status: int,
        detail: str,
        errors: Iterable[tuple[str, str]] = (),
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(status, detail, headers)
        self.errors = list(errors)

    @classmethod
    def of_field(cls, field: str, reason: str, status: int = 422) -> Problem:
        """A problem with one field of the request."""
        return cls(status, f"{field}: {reason}", [(field, reason)])

    @classmethod
    def of_data(cls, error: DataError, within: str = "") -> Problem:
        """A problem with the input, which the object ``within`` of the request has."""
        field = ".".join(filter(None, (within, error.field)))
        return cls.of_field(field, error.reason)

    @classmethod
    def try_again(cls, status: int, detail: str, seconds: float) -> Problem:
        """A problem that goes away."""
        return cls(status, detail, headers={"Retry-After": str(max(1, round(seconds)))})

    def response(self) -> Response:
        """Returns the answer."""
        return response_of(self.status_code, self.detail, self.errors, self.headers)


def response_of(
    status: int, detail: str, errors: Sequence[tuple[str, str]] = (), headers: Mapping[str, str] | None = None
) -> Response:
    """Returns a problem as an answer."""
    title = _TITLES.get(status) or HTTPStatus(status).phrase
    content: dict[str, Any] = {"type": "about:blank", "title": title, "status": status, "detail": detail}
    if errors:
        content["errors"] = [{"field": field, "reason": reason} for field, reason in errors]
    return Response(to_json(content), status, headers, MEDIA_TYPE)


async def answer_exception(request: Request, error: Exception) -> Response:
    """Answers what FastAPI, Starlette and the rest of this package raise."""
    if isinstance(error, Problem):
        return error.response()
    if isinstance(error, RequestValidationError):
        return _of_validation(error).response()
    if isinstance(error, TryAgain):
        return response_of(503, str(error), headers={"Retry-After": _RETRY_SECONDS})
    if isinstance(error, HTTPException):
        return _of_address(request, error)
    return response_of(500, "an unexpected error; the service's log has its place")


def _of_address(request: Request, error: HTTPException) -> Response:
    """Answers OPTIONS, and requests for an address that does not exist or has other methods."""
    if error.status_code not in (404, 405):
        return response_of(error.status_code, str(error.detail), headers=error.headers)
    allowed = _allowed(request)
    if not allowed:
        return response_of(404, "no such address; GET /openapi.json describes those that there are")
    if request.method == "OPTIONS":
        return Response(status_code=204, headers={"Allow": allowed})
    return response_of(405, f"expected one of the methods {allowed}", headers={"Allow": allowed})


def _allowed(request: Request) -> str:
    """All methods of an address. Starlette names only those of the first route that has it. * has those of all."""
    found = set[str]()
    for route in request.app.routes:
        if request.scope["path"] == "*" or route.matches(request.scope)[0] is not Match.NONE:
            found |= getattr(route, "methods", None) or set()
    if "GET" in found:
        found.add("HEAD")
    return ", ".join(sorted(found | {"OPTIONS"} if found else found))


def _of_validation(error: RequestValidationError) -> Problem:
    found = [(_field(problem["loc"]), _reason(problem)) for problem in error.errors()[:_SHOWN]]
    more = len(error.errors()) - len(found)
    field, reason = found[0]
    return Problem(422, f"{field}: {reason}" + (f" (and {more} more)" if more > 0 else ""), found)


def _field(place: Sequence[str | int]) -> str:
    """``documents[0].mentions[1].end`` of ``("body", "documents", 0, "mentions", 1, "end")``."""
    parts = place[1:] if place[:1] == ("body",) else place
    text = "".join(f"[{part}]" if isinstance(part, int) else f".{safe_text(part)}" for part in parts)
    return text.removeprefix(".") or "body"


def _reason(problem: Mapping[str, Any]) -> str:
    message = safe_text(problem["msg"].removeprefix("Value error, "))
    if problem["type"] in ("missing", "extra_forbidden"):
        return message
    return f"{message}; got {quoted(problem['input'])}"
