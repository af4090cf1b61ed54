"""What a person answered to the question whether a run's model may become the champion."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict

from zeshel_tasks.store import Run
from zeshel_tasks.store.checksummed import checksummed, read_checksummed

_FILE = "approval.json"


class Approval(BaseModel):
    """An answer.

    Attributes:
        model: identity of the model, see :attr:`~zeshel_tasks.champion.champions.Champion.identity`.
        approved: False if the person rejected the model.
        by: id of the person in Airflow; None if Airflow does not say.
        name: name of the person in Airflow.
        reason: what the person wrote.
        at: time of the answer, ISO 8601.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")
    model: str
    approved: bool
    by: str | None
    name: str | None
    reason: str | None
    at: str

    def __str__(self) -> str:
        """``approved by Ada (7) at 2026-01-02T03:04:05+00:00: fewer wrong links``."""
        person = self.by or "somebody"
        if self.name and self.name != self.by:
            person = f"{self.name} ({self.by})"
        reason = f": {self.reason}" if self.reason else ""
        return f"{'approved' if self.approved else 'rejected'} by {person} at {self.at}{reason}"


def record_approval(run: Run, approval: Approval) -> None:
    """Writes the answer into the run's folder, over an earlier one."""
    run.publish(_FILE, checksummed(approval))


def read_approval(run: Run, model: str) -> Approval | None:
    """Returns the answer about a model; None if nobody was asked, or if the run had another model then.

    Raises:
        CorruptArtifact: the answer is broken.
    """
    found = read_checksummed(run.store, run.key(_FILE), Approval, "delete it, and clear the task `approve`")
    return found if found is not None and found.model == model else None
