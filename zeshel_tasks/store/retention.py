"""Retention: which runs a cleanup may remove."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import NamedTuple

from zeshel_tasks.store.base import Store, StoredObject


class OldRun(NamedTuple):
    """A run that can be removed, with the objects in its folder."""

    run_id: str
    objects: tuple[StoredObject, ...]

    @property
    def folder(self) -> str:
        """Key of its folder."""
        return f"runs/{self.run_id}"


@dataclass(frozen=True)
class Retention:
    """A rule that says which runs stay.

    Attributes:
        keep: how many of the newest runs stay. The last change in its folder is the age of a run.
        lineage: returns the ids of the runs that stay in any case.
    """

    keep: int
    lineage: Callable[[Store], Collection[str]]

    def old_runs(self, store: Store, limit: float) -> list[OldRun]:
        """Returns the runs that can be removed, the oldest first.

        Args:
            store: the store.
            limit: in seconds since 1970; a run with a younger object stays.
        """
        objects = defaultdict[str, list[StoredObject]](list)
        for found in store.objects("runs/"):
            folder, _, name = found.key.removeprefix("runs/").partition("/")
            if name:
                objects[folder].append(found)
        changed = {run_id: max(found.modified for found in listed) for run_id, listed in objects.items()}
        oldest_first = sorted(objects, key=lambda run_id: (changed[run_id], run_id))
        stay = {*self.lineage(store), *oldest_first[max(0, len(oldest_first) - self.keep) :]}
        return [
            OldRun(run_id, tuple(objects[run_id]))
            for run_id in oldest_first
            if run_id not in stay and changed[run_id] < limit
        ]
