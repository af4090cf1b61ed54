"""Small JSON objects that carry their own SHA-256: a changed byte is noticed, not believed."""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Mapping
from typing import Any, TypeVar

from pydantic import BaseModel

from zeshel_tasks.errors import CorruptArtifact
from zeshel_tasks.store.base import Store

log = logging.getLogger(__name__)

READS = 3
"""How often what arrives damaged is fetched: bits also flip on their way."""
_SEAL = "sha256"

Model = TypeVar("Model", bound=BaseModel)


def sealed(model: BaseModel) -> bytes:
    """The model as JSON, with one field more: the SHA-256 of all others."""
    values = model.model_dump(mode="json")
    return json.dumps({**values, _SEAL: _digest(values)}, indent=1).encode()


def read_sealed(store: Store, key: str, model: type[Model], remedy: str) -> Model | None:
    """What was sealed under ``key``, or None where there is no object.

    Args:
        store: where it is.
        key: of the object.
        model: what it must be.
        remedy: what the user can do where it is broken.

    Raises:
        CorruptArtifact: it is not what was written, however often it is read.
    """
    for left in reversed(range(READS)):
        data = store.get(key)
        if data is None:
            return None
        try:
            return model.model_validate(_unsealed(data))
        except (ValueError, RecursionError) as error:
            where, problem = f"{store.address}/{key}", " ".join(str(error).split())
            if not left:
                raise CorruptArtifact(f"broken; {remedy}", file=where, got=problem) from error
            log.warning("%s is broken (%s), reading it again", where, problem)
    raise AssertionError("unreachable")


def _unsealed(data: bytes) -> dict[str, Any]:
    values = json.loads(data)
    if not isinstance(values, dict) or values.pop(_SEAL, None) != _digest(values):
        raise ValueError("it does not have the SHA-256 that was written with it")
    return values


def _digest(values: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()
