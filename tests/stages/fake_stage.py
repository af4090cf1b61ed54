"""Stages whose work is the test's."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from zeshel_tasks.pipeline.contract import Job, Stage
from zeshel_tasks.store import Metrics


@dataclass(frozen=True)
class FakeStage(Stage):
    """A stage under a real one's name whose work is the test's; ``jobs`` are those that it was given."""

    does: Callable[[Job], Metrics] = lambda job: {}
    jobs: list[Job] = field(default_factory=list)

    @property
    def work(self) -> Callable[[Job], Metrics]:
        def work(job: Job) -> Metrics:
            self.jobs.append(job)
            return self.does(job)

        return work


def leaves(text: str) -> Callable[[Job], Metrics]:
    """Work that leaves one file."""

    def work(job: Job) -> Metrics:
        path = job.new_folder("out") / "result.txt"
        path.write_text(text)
        job.attempt.add("result.txt", path)
        return {"length": len(text)}

    return work
