"""The command that encodes segments of large knowledge bases, between the commands that cut and publish them."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from zeshel_tasks.data.shards import shard_count
from zeshel_tasks.knowledge_base.cuts import cut_of, encoded_segment, segment_names
from zeshel_tasks.orchestration.grouping import groups
from zeshel_tasks.orchestration.settings import path_safe
from zeshel_tasks.orchestration.shard_commands import MOST_TASKS, EncodeCommand
from zeshel_tasks.orchestration.task_command import NotDone, Outcome, setting_arguments
from zeshel_tasks.pipeline.world_shards import shard_of_name
from zeshel_tasks.store import Manifest, Store, open_store

FOR_LINKS, FOR_CHAMPION = "links", "champion"
"""What a change is for. The runs of two DAGs may have the same id."""


def change_record(purpose: str, context: Any) -> str:
    """Return the name of the records of a run's change of knowledge bases."""
    return f"{purpose}-{path_safe(context['run_id'])}"


def segments_to_encode(cuts: Iterable[tuple[str, Manifest]], bound: int) -> list[list[str]]:
    """Return the segments of each task, as many tasks as a world of the same size has.

    Args:
        cuts: names of knowledge bases, and how they were cut.
        bound: entities from which on they were cut.
    """
    tasks = [
        some
        for name, cut in cuts
        for some in groups(segment_names(name, cut), shard_count(cut.metrics["entities"], bound))
    ]
    return tasks if len(tasks) <= MOST_TASKS else groups([name for some in tasks for name in some], MOST_TASKS)


@dataclass(frozen=True)
class EncodeSegments(EncodeCommand):
    """Encodes segments of a large knowledge base, of 20,000 entities each. Those that are encoded are left as they are.

    Attributes:
        purpose: what the knowledge bases are changed for.
    """

    purpose: str = FOR_LINKS

    name = "encode-segment"

    def arguments(self, context: Any) -> list[str]:
        """Return the arguments of ``zeshel kb encode-segment``."""
        given = {"device": context["params"]["device"]} if context["params"].get("device") else {}
        record = change_record(self.purpose, context)
        base = ["kb", self.name, f"--store={self.store}", f"--record={record}"]
        return [*base, *setting_arguments({**given, "segment": self.shards})]

    def outcome(self, context: Any, *, ended: bool) -> Outcome:  # noqa: ARG002  # the artifacts decide in any case
        """Return how many entities the segments have."""
        store, record = open_store(self.store), change_record(self.purpose, context)
        entities = sum(self._encoded(store, record, segment).metrics["entities"] for segment in self.shards)
        return Outcome({"segments": list(self.shards), "entities": entities}, {})

    def _encoded(self, store: Store, record: str, segment: str) -> Manifest:
        name, number = shard_of_name(segment)
        cut = cut_of(store, name, record)
        encoded = None if cut is None else encoded_segment(store, cut, number)
        if encoded is None:
            raise NotDone(f"the segment {segment} is not encoded at {self.store}")
        return encoded
