"""Counts of what was linked."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Self

from pydantic import BaseModel, ConfigDict


class LinkedCounts(BaseModel):
    """What was linked so far.

    Attributes:
        lines: texts.
        mentions: their mentions.
        nil: mentions that are not linked to an entity.
        rated: mentions with a probability.
        probability: sum of these probabilities.
    """

    model_config = ConfigDict(extra="forbid")
    lines: int = 0
    mentions: int = 0
    nil: int = 0
    rated: int = 0
    probability: float = 0.0

    def add(self, links: Iterable[Mapping[str, Any]]) -> None:
        """Counts the links of one more text."""
        self.lines += 1
        for link in links:
            self.mentions += 1
            self.nil += link["nil"]
            if (probability := link["probability"]) is not None:
                self.rated += 1
                self.probability = round(self.probability + probability, 6)

    @classmethod
    def total(cls, counts: Iterable[LinkedCounts]) -> Self:
        """Returns the sum of counts."""
        found = cls()
        for one in counts:
            for name in cls.model_fields:
                setattr(found, name, getattr(found, name) + getattr(one, name))
        return found

    @property
    def mean_probability(self) -> float | None:
        """Mean of the probabilities; None if there are none."""
        return round(self.probability / self.rated, 6) if self.rated else None

    def __str__(self) -> str:
        return f"{self.mentions:,} mentions in {self.lines:,} lines, {self.nil:,} of them without an entity"
