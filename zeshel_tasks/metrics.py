"""The base of all metrics models. Each model is next to the code that measures it; manifests hold its dumped form.

Rates (accuracy, recall, confidence) are fractions of 1. ``None`` means that there was nothing to measure.
"""

from __future__ import annotations

import math
from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict


def _finite_or_none(value: Any) -> Any:
    return None if isinstance(value, float) and not math.isfinite(value) else value


Number = Annotated[float | None, BeforeValidator(_finite_or_none)]
"""A number that JSON can hold: NaN and the infinities become ``None``."""


class MetricsModel(BaseModel):
    """Metrics as a manifest holds them. A field that a later version added is ignored."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    def dump(self) -> dict[str, Any]:
        """Plain data for a manifest."""
        return self.model_dump(mode="json")
