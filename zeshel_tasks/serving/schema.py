"""Requests and answers, as the OpenAPI document describes them.

Their limits are settings, so :func:`check_limits` checks them, and :mod:`~zeshel_tasks.serving.openapi` describes them.
"""

from __future__ import annotations

import re
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, PlainValidator, WithJsonSchema

from zeshel_tasks.config import LinkMode, Offsets
from zeshel_tasks.serving.problems import Problem
from zeshel_tasks.serving.settings import ServeConfig

_MOST = 2**53 - 1  # beyond, JavaScript's numbers are not exact


class _Request(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


_PRECISION = r"^precision=(0|1|0?\.[0-9]{1,9}|1\.0{1,9})$"


def _checked_threshold(given: Any) -> float | str | None:
    if isinstance(given, str) and re.fullmatch(_PRECISION, given):
        return given
    if given is None or (isinstance(given, float | int) and not isinstance(given, bool) and 0 <= given <= 1):
        return given
    raise ValueError("expected a number from 0 to 1 or precision=0.95")


Threshold = Annotated[
    float | str | None,
    PlainValidator(_checked_threshold),
    WithJsonSchema(
        {
            "anyOf": [
                {"type": "number", "minimum": 0, "maximum": 1},
                {"type": "string", "pattern": _PRECISION},
                {"type": "null"},
            ]
        }
    ),
]


class GivenMention(_Request):
    """A part of a document's text."""

    start: int = Field(ge=0, le=_MOST, description="Where the mention begins.")
    end: int = Field(ge=1, le=_MOST, description="One after its last character.")
    text: str | None = Field(None, description="The mention. If it is given, it must be what the offsets say.")


class GivenDocument(_Request):
    """A text with mentions."""

    id: str | None = Field(
        None,
        description="Comes back. If it is the id of an entity of the knowledge base, the text counts as its page.",
    )
    text: str
    mentions: list[GivenMention]
    metadata: dict[str, Any] | None = Field(None, description="Comes back as it is.")


class LinkRequest(_Request):
    """Texts to link."""

    kb: str = Field(description="Name of the knowledge base.")
    documents: list[GivenDocument] = Field(min_length=1)
    top_k: int | None = Field(None, ge=1, description="Candidates to return for each mention.")
    mode: LinkMode | None = Field(
        None,
        description="rerank scores the candidates of every mention with the cross-encoder; cascade only those of "
        "mentions that the retriever does not make clear; retrieve those of none.",
    )
    threshold: Threshold = Field(
        None,
        description="Least probability at which a mention is linked; precision=0.95 is the probability at which the "
        "linked mentions of the valid worlds had this precision.",
    )
    offsets: Offsets = Field(
        "code_points", description="Unit of start and end: utf16 is how JavaScript and Java count characters."
    )


class Candidate(BaseModel):
    """A candidate of a mention."""

    id: str
    title: str
    url: str | None
    score: float
    retrieval: float
    crossencoder: float | None


class Link(BaseModel):
    """The answer for a mention."""

    start: int
    end: int
    mention: str
    id: str | None
    title: str | None
    url: str | None
    nil: bool
    probability: float | None
    nil_probability: float | None
    softmax: float
    candidates: list[Candidate]


class LinkedDocument(BaseModel):
    """The answer for a document."""

    id: str | None = None
    metadata: dict[str, Any] | None = None
    links: list[Link]


class LinkedBy(BaseModel):
    """What has linked the documents. If it is equal, answers are equal."""

    run: str
    models: str
    mode: str
    kb: str
    kb_fingerprint: str
    calibration: str | None


class LinkResponse(BaseModel):
    """The links, in the order of the mentions."""

    documents: list[LinkedDocument]
    linked_by: LinkedBy


class BaseDescription(BaseModel):
    """A knowledge base that the service serves."""

    kb: str
    entities: int
    run: str
    models: str
    mode: str = Field(description="How mentions are linked, unless a request says otherwise.")
    kb_fingerprint: str
    champion: bool = Field(description="False if the knowledge base waits for `zeshel kb refresh`.")


class Bases(BaseModel):
    """The knowledge bases."""

    kbs: list[BaseDescription]


class GivenEntity(_Request):
    """An entity."""

    id: str = Field(min_length=1)
    title: str = Field(min_length=1)
    text: str = Field(min_length=1)
    url: str | None = None
    aliases: list[str] = Field(default_factory=list)
    types: list[str] = Field(default_factory=list)


class PutEntities(_Request):
    """Entities to add, or to replace by their ids."""

    entities: list[GivenEntity] = Field(min_length=1)


class DeleteEntities(_Request):
    """Ids of entities to remove."""

    ids: list[Annotated[str, Field(min_length=1)]] = Field(min_length=1)


class Edited(BaseModel):
    """What a change did."""

    kb: str
    entities: int
    added: int
    updated: int
    removed: int
    kb_fingerprint: str = Field(description="Links are made with the change as soon as they carry this fingerprint.")


class FieldError(BaseModel):
    """A field of the request, and what is wrong with it."""

    field: str
    reason: str


class ProblemDetails(BaseModel):
    """RFC 9457."""

    type: str
    title: str
    status: int
    detail: str
    errors: list[FieldError] | None = None


def check_limits(request: LinkRequest, settings: ServeConfig) -> None:
    """Checks what a request may ask for.

    Raises:
        Problem: it asks for more.
    """
    if len(request.documents) > settings.max_documents:
        _too_many("documents", settings.max_documents, len(request.documents))
    mentions = sum(len(document.mentions) for document in request.documents)
    if mentions > settings.max_mentions:
        _too_many("mentions", settings.max_mentions, mentions)
    if request.top_k is not None and request.top_k > settings.max_top_k:
        raise Problem.of_field("top_k", f"expected at most {settings.max_top_k:,}; got {request.top_k:,}")


def _too_many(what: str, most: int, got: int) -> None:
    raise Problem.of_field("documents", f"expected at most {most:,} {what} in a request; got {got:,}")
