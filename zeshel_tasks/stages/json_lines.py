"""JSON-lines files that stages leave for one another.

The user's data is read by ``data/json_lines.py``, which trusts nothing.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any


def write_json_lines(path: Path, records: Iterable[dict[str, Any]]) -> Path:
    """Writes one JSON object a line."""
    with path.open("w", encoding="utf-8") as file:
        file.writelines(json.dumps(record) + "\n" for record in records)
    return path


def read_json_lines(path: Path) -> Iterator[dict[str, Any]]:
    """Reads what :func:`write_json_lines` wrote, one object at a time."""
    with path.open(encoding="utf-8") as file:
        yield from map(json.loads, file)
