"""What an import of a wiki kept, what it dropped, and why: numbers, and samples that only the pages decide."""

from __future__ import annotations

import hashlib
import heapq
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

from zeshel_tasks.config.splits import Split

MOST_SAMPLES = 20
MOST_REASONS = 100
"""Some reasons contain a word of the dump, which may have a new one on each page."""
OTHER_REASONS = "other reasons"


class Samples:
    """Counts things, and keeps a few of them that look random and are the same in each import."""

    def __init__(self) -> None:
        self.count = 0
        self._heap: list[tuple[int, str, dict[str, str]]] = []

    def add(self, key: str, sample: dict[str, str]) -> None:
        """Counts a thing. ``key`` tells it from all others."""
        self.count += 1
        rank = -int.from_bytes(hashlib.blake2b(key.encode(), digest_size=8).digest())
        if len(self._heap) < MOST_SAMPLES:
            heapq.heappush(self._heap, (rank, key, sample))
        elif rank > self._heap[0][0]:
            heapq.heapreplace(self._heap, (rank, key, sample))

    def fields(self) -> dict[str, Any]:
        """Returns the number and the samples as JSON."""
        return {"count": self.count, "samples": [sample for _, _, sample in sorted(self._heap, reverse=True)]}


@dataclass
class Summary:
    """The result of an import.

    Attributes:
        world: its name.
        entities: pages that became entities.
        pages: reason -> pages that did not.
        mentions: links that became mentions.
        links: reason -> links that did not.
        splits, categories: number of mentions of each.
    """

    world: str
    entities: Samples = field(default_factory=Samples)
    pages: dict[str, Samples] = field(default_factory=dict)
    mentions: Samples = field(default_factory=Samples)
    links: dict[str, Samples] = field(default_factory=dict)
    splits: dict[Split, int] = field(default_factory=dict)
    categories: Counter[str] = field(default_factory=Counter)

    def drop_page(self, reason: str, page_id: str, title: str) -> None:
        """Notes a page that is no entity."""
        sample = {"page": title, "id": page_id}
        reason = reason if reason in self.pages or len(self.pages) < MOST_REASONS else OTHER_REASONS
        self.pages.setdefault(reason, Samples()).add(f"{page_id}\0{title}", sample)

    def drop_link(self, reason: str, page: str, place: str, target: str, anchor: str) -> None:
        """Notes a link that is no mention; ``place`` is where it is in its page."""
        sample = {"page": page, "target": target, "text": anchor}
        self.links.setdefault(reason, Samples()).add(f"{page}\0{place}", sample)

    def fields(self) -> dict[str, Any]:
        """Returns the report as JSON."""
        return {
            "world": self.world,
            "entities": self.entities.fields(),
            "pages_dropped": _by_count(self.pages),
            "mentions": self.mentions.fields()
            | {"splits": self.splits, "categories": dict(sorted(self.categories.items()))},
            "links_dropped": _by_count(self.links),
        }


def _by_count(found: dict[str, Samples]) -> dict[str, Any]:
    ordered = sorted(found.items(), key=lambda item: (-item[1].count, item[0]))
    return {reason: samples.fields() for reason, samples in ordered}
