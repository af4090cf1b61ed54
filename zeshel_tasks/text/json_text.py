"""Writes JSON. Nothing else in the package does, so that no file contains what other readers of JSON refuse."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any


def to_json(
    value: Any,
    *,
    indent: int | None = None,
    sort_keys: bool = False,
    ensure_ascii: bool = True,
    default: Callable[[Any], Any] | None = None,
) -> str:
    """Return a value as JSON; the arguments are those of :func:`json.dumps`.

    Raises:
        ValueError: the value contains NaN or an infinity, which ``json.dumps`` writes although they are not JSON
            (RFC 8259, section 6). The caller must refuse such a number, or replace it by None, where it is measured.
    """
    return json.dumps(
        value, indent=indent, sort_keys=sort_keys, ensure_ascii=ensure_ascii, default=default, allow_nan=False
    )
