"""Requests and answers, as the OpenAPI document describes them.

Their limits are settings, so :func:`check_size` and :func:`check_limits` check them, and
:mod:`~zeshel_tasks.serving.openapi` describes them.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from itertools import chain
from typing import Annotated, Any, Literal, TypeVar

from pydantic import AfterValidator, BaseModel, ConfigDict, FailFast, Field, PlainValidator, WithJsonSchema

from zeshel_tasks.config.link import LinkMode, Offsets
from zeshel_tasks.serving.problems import Problem
from zeshel_tasks.serving.settings import ServeConfig

_MOST = 2**53 - 1  # beyond, JavaScript's numbers are not exact


_MOST_FIELDS = 32  # of an object; the schemas have fewer

T = TypeVar("T")
Items = Annotated[list[T], FailFast()]
"""A list of which the first wrong item is reported: a body may have hundreds of thousands."""


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
    mentions: Items[GivenMention]
    metadata: dict[str, Any] | None = Field(None, description="Comes back as it is.")


class LinkRequest(_Request):
    """Texts to link."""

    kb: str = Field(description="Name of the knowledge base.")
    documents: Items[GivenDocument] = Field(min_length=1)
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
    calibrated_by: Literal["kb", "champion"] | None = Field(
        description="kb if it has its own calibration (`zeshel kb calibrate`); null if answers have no probabilities."
    )
    calibration: str | None = Field(description="Fingerprint of its own calibration.")
    champion: bool = Field(description="False if the knowledge base waits for `zeshel kb refresh`.")


class Bases(BaseModel):
    """The knowledge bases."""

    kbs: list[BaseDescription]


def _not_blank(text: str) -> str:
    if not text.strip():
        raise ValueError("expected more than white space")
    return text


_NAME_CHARACTERS, _MOST_NAMES = 1000, 1000
_TEXT_CHARACTERS, _URL_CHARACTERS = 1_000_000, 10_000

NewName = Annotated[str, Field(min_length=1, max_length=_NAME_CHARACTERS)]
NewText = Annotated[
    str,
    Field(min_length=1, max_length=_TEXT_CHARACTERS, json_schema_extra={"pattern": r"\S"}),
    AfterValidator(_not_blank),
]
NewNames = Items[Annotated[str, Field(max_length=_NAME_CHARACTERS)]]


class GivenEntity(_Request):
    """An entity."""

    id: NewName
    title: NewName
    text: NewText
    url: str | None = Field(None, max_length=_URL_CHARACTERS)
    aliases: NewNames = Field(default_factory=list, max_length=_MOST_NAMES)
    types: NewNames = Field(default_factory=list, max_length=_MOST_NAMES)


class PutEntities(_Request):
    """Entities to add, or to replace by their ids."""

    entities: Items[GivenEntity] = Field(min_length=1)


class DeleteEntities(_Request):
    """Ids of entities to remove."""

    ids: Items[Annotated[str, Field(min_length=1)]] = Field(min_length=1)


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


def check_size(values: Mapping[str, Any], settings: ServeConfig) -> None:
    """Checks how much a body has, before its fields are validated one by one.

    Raises:
        Problem: it has more than a request may have.
    """
    documents, entities = (_objects(values.get(name)) for name in ("documents", "entities"))
    mentions = [_objects(document.get("mentions")) for document in documents]
    for name, most in (("documents", settings.max_documents), ("entities", settings.max_entities)):
        _check_count(name, name, len(_items(values.get(name))), most)
    _check_count("ids", "ids", len(_items(values.get("ids"))), settings.max_entities)
    count = sum(len(_items(document.get("mentions"))) for document in documents)
    _check_count("documents", "mentions", count, settings.max_mentions)
    for given in (values, *documents, *entities, *chain.from_iterable(mentions)):
        if len(given) > _MOST_FIELDS:
            raise Problem(422, f"expected at most {_MOST_FIELDS} fields in an object; got {len(given):,}")


def check_limits(request: LinkRequest, settings: ServeConfig) -> None:
    """Checks what a request may ask for.

    Raises:
        Problem: it asks for more.
    """
    if request.top_k is not None and request.top_k > settings.max_top_k:
        raise Problem.of_field("top_k", f"expected at most {settings.max_top_k:,}; got {request.top_k:,}")
    for number, document in enumerate(request.documents):
        for place, mention in enumerate(document.mentions):
            if (length := mention.end - mention.start) > settings.max_mention_characters:
                most = f"expected at most {settings.max_mention_characters:,} characters"
                raise Problem.of_field(f"documents[{number}].mentions[{place}]", f"{most}; got {length:,}")


def _check_count(field: str, what: str, got: int, most: int) -> None:
    if got > most:
        raise Problem.of_field(field, f"expected at most {most:,} {what} in a request; got {got:,}")


def _items(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []


def _objects(value: Any) -> list[dict[str, Any]]:
    return [item for item in _items(value) if isinstance(item, dict)]
