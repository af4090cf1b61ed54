"""What the artifact of ``report`` holds: all of a report that is the same whichever run shows it."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from typing import Any

# A data set may hold whole manuals as one entity; fifty mistakes show a hundred of them.
MOST_TEXT = 12_000


@dataclass(frozen=True)
class DrawnReport:
    """Plain data, from which the page is rendered without a library of numbers.

    Attributes:
        measured: the parts of ``metrics.json`` that are not about the run; see ``metrics.py``.
        configuration: settings by stage.
        mistakes: the most confident first; ``texts`` has of ``gold`` and ``predicted`` the ``text``, cut after
            :data:`MOST_TEXT` characters, and how many ``characters`` it had.
        charts: by name, an ``<svg>`` element, or none where there was nothing to draw.
    """

    measured: dict[str, Any]
    configuration: dict[str, dict[str, Any]]
    mistakes: list[dict[str, Any]]
    charts: dict[str, str | None]

    def to_json(self) -> bytes:
        """The same bytes for the same report."""
        return json.dumps(asdict(self), allow_nan=False).encode()

    @classmethod
    def from_json(cls, data: bytes) -> DrawnReport:
        """What :meth:`to_json` wrote."""
        return cls(**json.loads(data))
