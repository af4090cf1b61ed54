"""The OpenAPI document: that of FastAPI, with our limits and with problem details for all errors."""

from __future__ import annotations

from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi

from zeshel_tasks.serving.problems import MEDIA_TYPE
from zeshel_tasks.serving.schema import ProblemDetails
from zeshel_tasks.serving.settings import ServeConfig

_REFERENCE = "#/components/schemas/{model}"
_OF_BODIES = {"400": "The body is no JSON object.", "408": "The body took too long.", "413": "The body is too large.",
              "415": "The body has another media type.", "422": "A field is wrong."}  # fmt: skip


def problems(**statuses: str) -> dict[int | str, dict[str, Any]]:
    """Describes the errors of a route: ``problems(s404="no such knowledge base")``."""
    return {int(status.removeprefix("s")): {"description": text} for status, text in statuses.items()}


def openapi(app: FastAPI, settings: ServeConfig) -> dict[str, Any]:
    """Returns the document."""
    document = get_openapi(title=app.title, version=app.version, description=app.description, routes=app.routes)
    schemas = document["components"]["schemas"]
    for name in ("HTTPValidationError", "ValidationError"):
        schemas.pop(name, None)
    problem = ProblemDetails.model_json_schema(ref_template=_REFERENCE)
    schemas.update(problem.pop("$defs", {}), ProblemDetails=problem)
    for operations in document["paths"].values():
        for operation in operations.values():
            _describe_errors(operation)
    request = schemas["LinkRequest"]["properties"]
    request["documents"]["maxItems"] = settings.max_documents
    next(kind for kind in request["top_k"]["anyOf"] if kind["type"] == "integer")["maximum"] = settings.max_top_k
    schemas["GivenDocument"]["properties"]["mentions"]["maxItems"] = settings.max_mentions
    schemas["PutEntities"]["properties"]["entities"]["maxItems"] = settings.max_entities
    schemas["DeleteEntities"]["properties"]["ids"]["maxItems"] = settings.max_entities
    return document


def _describe_errors(operation: dict[str, Any]) -> None:
    answers = operation["responses"]
    answers.pop("422", None)  # FastAPI's own form
    answers["429"] = {"description": "Too much to do; Retry-After says when to try again."}
    answers["500"] = {"description": "An unexpected error."}
    if "requestBody" in operation:
        answers.update({status: {"description": text} for status, text in _OF_BODIES.items()})
    for status, answer in answers.items():
        if int(status) >= 400:
            answer["content"] = {MEDIA_TYPE: {"schema": {"$ref": _REFERENCE.format(model="ProblemDetails")}}}
