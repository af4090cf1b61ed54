"""The scores of the runs of a store, read from their records: no database is needed."""

from __future__ import annotations

import heapq
import logging
import re
from collections.abc import Iterator
from typing import Any

from zeshel_tasks.errors import CorruptArtifact
from zeshel_tasks.store import Run, Store

log = logging.getLogger(__name__)

_EVALUATED = re.compile(r"runs/([^/]+)/stages/eval-crossencoder-test\.json")


def past_runs(store: Store, most: int) -> list[dict[str, Any]]:
    """The latest runs that were evaluated on test, the earliest of them first.

    A run that cannot be read is left out, and the log says so: another run's damage is not this one's.
    """
    found = (
        (listed.modified, key[1]) for listed in store.objects("runs/") if (key := _EVALUATED.fullmatch(listed.key))
    )
    latest = sorted(heapq.nlargest(most, found))
    return [scores for _, run_id in latest for scores in _scores(Run(store, run_id))]


def _scores(run: Run) -> Iterator[dict[str, Any]]:
    try:
        record, accuracy, recall = (
            run.record("eval-crossencoder-test"),
            run.manifest("eval-crossencoder-test"),
            run.manifest("eval-biencoder-test"),
        )
        if record is None or accuracy is None or recall is None:
            return  # its artifacts were deleted
        retrieved = recall.metrics["recall"]["micro"]
        yield {
            "run": run.run_id,
            "evaluated_at": record.recorded_at,
            "mentions": accuracy.metrics["mentions"],
            "unnormalized_accuracy": accuracy.metrics["unnormalized_accuracy"]["micro"],
            "recall_at_1": retrieved["1"],
            "recall_at_top_k": retrieved[max(retrieved, key=int)],
        }
    except (CorruptArtifact, LookupError, TypeError, ValueError) as error:
        log.warning("run %s is left out of the history: %s", run.run_id, error)
