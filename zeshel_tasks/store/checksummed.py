"""Small JSON objects that contain their own SHA-256, which reveals a changed byte."""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Mapping
from typing import Any, TypeVar

from pydantic import BaseModel

from zeshel_tasks.errors import CorruptArtifact
from zeshel_tasks.store.base import Store
from zeshel_tasks.text.json_text import to_json

log = logging.getLogger(__name__)

READS = 3
"""Number of reads of an object that arrives damaged, because bits also flip in transit."""
_CHECKSUM = "sha256"

Model = TypeVar("Model", bound=BaseModel)


def checksummed(model: BaseModel) -> bytes:
    """Returns the model as JSON with an additional field, the SHA-256 of all others."""
    values = model.model_dump(mode="json")
    return to_json({**values, _CHECKSUM: _digest(values)}, indent=1).encode()


def read_checksummed(store: Store, key: str, model: type[Model], remedy: str) -> Model | None:
    """Reads an object that was written with :func:`checksummed`. Returns None if it does not exist.

    Args:
        store: holds the object.
        key: key of the object.
        model: the type to validate it as.
        remedy: tells the user what to do if it is broken.

    Raises:
        CorruptArtifact: every read returned something else than was written.
    """
    for left in reversed(range(READS)):
        data = store.get(key)
        if data is None:
            return None
        try:
            return model.model_validate(_checked(data))
        except (ValueError, RecursionError) as error:
            where, problem = f"{store.address}/{key}", " ".join(str(error).split())
            if not left:
                raise CorruptArtifact(f"broken; {remedy}", file=where, got=problem) from error
            log.warning("%s is broken (%s), reading it again", where, problem)
    raise AssertionError("unreachable")


def _checked(data: bytes) -> dict[str, Any]:
    values = json.loads(data)
    if not isinstance(values, dict) or values.pop(_CHECKSUM, None) != _digest(values):
        raise ValueError("its content does not match the SHA-256 that was written with it")
    return values


def _digest(values: Mapping[str, Any]) -> str:
    return hashlib.sha256(to_json(values, sort_keys=True).encode()).hexdigest()
