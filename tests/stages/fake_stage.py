"""Stages with the work of a test."""

from __future__ import annotations

from dataclasses import dataclass, field

from zeshel_tasks.pipeline.job import Job, Work
from zeshel_tasks.pipeline.stage import Stage
from zeshel_tasks.store import Metrics


@dataclass(frozen=True)
class FakeStage(Stage):
    """A stage with the name of a real one and the work of a test. ``jobs`` are the jobs that it got."""

    work: Work = field(init=False)
    does: Work = lambda job: {}
    jobs: list[Job] = field(default_factory=list)

    def __post_init__(self) -> None:
        def work(job: Job) -> Metrics:
            self.jobs.append(job)
            return self.does(job)

        object.__setattr__(self, "work", work)


def leaves(text: str) -> Work:
    """Returns work that writes one file."""

    def work(job: Job) -> Metrics:
        path = job.new_folder("out") / "result.txt"
        path.write_text(text)
        job.attempt.add("result.txt", path)
        return {"length": len(text)}

    return work
