"""Which files to link with what, if several machines share the work, and the sum of what they have done."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Any

from pydantic import BaseModel, ConfigDict

from zeshel_tasks.errors import DataError
from zeshel_tasks.link_files.counts import LinkedCounts
from zeshel_tasks.link_files.shards import file_at, finished_counts, shard_names
from zeshel_tasks.location import StoreLocation
from zeshel_tasks.store.checksummed import checksummed, read_checksummed
from zeshel_tasks.store.runs import store_at
from zeshel_tasks.text.json_text import to_json

SUMMARY = "summary.json"
_AT_ONCE = 16
_SHOWN = 5


class LinkPlan(BaseModel):
    """The files of a folder or prefix, as they were listed, and what they are to be linked with.

    Attributes:
        made_from: models, knowledge base and settings, as :func:`.shards.link_shards` gets them.
        files: names, sorted.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")
    made_from: dict[str, str]
    files: tuple[str, ...]

    def write(self, location: StoreLocation) -> None:
        """Writes it into a file."""
        made = file_at(location)
        made.store.put(made.name, checksummed(self))


def read_plan(location: StoreLocation) -> LinkPlan | None:
    """Reads a plan; None if there is none.

    Raises:
        CorruptArtifact: it is broken.
    """
    made = file_at(location)
    return read_checksummed(made.store, made.name, LinkPlan, "make it again")


class LinkSummary(BaseModel):
    """What was linked.

    Attributes:
        made_from: models, knowledge base and settings, by name.
        files: counts of each file.
        new: number of files that came after the listing and are not linked.
    """

    model_config = ConfigDict(frozen=True)
    made_from: dict[str, str]
    files: dict[str, LinkedCounts]
    new: int

    @property
    def figures(self) -> dict[str, Any]:
        """The figures of all files."""
        total = LinkedCounts.total(self.files.values())
        return {"files": len(self.files), "new_files": self.new, **figures_of(total)}


def figures_of(counts: LinkedCounts) -> dict[str, Any]:
    """Returns counts by the names that users see."""
    return {
        "documents": counts.lines,
        "mentions": counts.mentions,
        "linked": counts.mentions - counts.nil,
        "nil": counts.nil,
        "mean_probability": counts.mean_probability,
    }


def summarize(source: StoreLocation, target: StoreLocation, plan: LinkPlan) -> LinkSummary:
    """Checks that all files of a plan are finished, and writes the summary next to them.

    Args:
        source: folder or prefix of the input.
        target: folder or prefix of the output.
        plan: the plan.

    Raises:
        DataError: files are not linked as planned, or have changed since.
    """

    def counts_of(name: str) -> LinkedCounts | None:
        try:
            return finished_counts(source, target, name, plan.made_from)
        except DataError:  # the input was deleted
            return None

    with ThreadPoolExecutor(_AT_ONCE) as threads:  # they wait for the store
        found = dict(zip(plan.files, threads.map(counts_of, plan.files), strict=True))
    if unfinished := [name for name, counts in found.items() if counts is None]:
        shown = ", ".join([*unfinished[:_SHOWN], *(["..."] if len(unfinished) > _SHOWN else [])])
        raise DataError(
            f"not linked as planned, or changed since: {shown}",
            file=source.name,
            expected="files, models and knowledge base as they were when the files were listed; link these files again",
        )
    files = {name: counts for name, counts in found.items() if counts is not None}
    summary = LinkSummary(
        made_from=plan.made_from, files=files, new=len(set(shard_names(source)).difference(plan.files))
    )
    each = {name: figures_of(counts) for name, counts in files.items()}
    written = {"made_from": plan.made_from, **summary.figures, "each_file": each}
    store_at(target).put(SUMMARY, to_json(written, indent=1).encode())
    return summary
