"""The scores of a store's runs, read from their records, so that no database is needed."""

from __future__ import annotations

import heapq
import logging
import re
from collections.abc import Iterator

from zeshel_tasks.errors import CorruptArtifact
from zeshel_tasks.evaluation.metrics import AccuracyMetrics, RecallMetrics
from zeshel_tasks.linking.metrics import FusionMetrics
from zeshel_tasks.report.report_data import PastRun
from zeshel_tasks.store import Manifest, Run, Store

log = logging.getLogger(__name__)

_EVALUATED = re.compile(r"runs/([^/]+)/stages/eval-crossencoder-test\.json")


def past_runs(store: Store, most: int) -> list[PastRun]:
    """The latest runs that were evaluated on test, the earliest of them first.

    A run that cannot be read is left out with a warning, because it must not make this run's report fail.
    """
    evaluated = (
        (listed.modified, key[1]) for listed in store.objects("runs/") if (key := _EVALUATED.fullmatch(listed.key))
    )
    latest = sorted(heapq.nlargest(most, evaluated))
    return [scores for _, run_id in latest for scores in _scores(Run(store, run_id))]


def _accuracy(run: Run, crossencoder: Manifest) -> AccuracyMetrics:
    """Accuracy of the linker. In runs of an earlier version, without ``fuse``, it was the cross-encoder alone."""
    fused = run.manifest("fuse")
    if fused is None:
        return AccuracyMetrics.model_validate(crossencoder.metrics)
    return FusionMetrics.model_validate(fused.metrics).splits["test"].linker


def _scores(run: Run) -> Iterator[PastRun]:
    try:
        record, accuracy, recall = (
            run.record("eval-crossencoder-test"),
            run.manifest("eval-crossencoder-test"),
            run.manifest("eval-biencoder-test"),
        )
        if record is None or accuracy is None or recall is None:
            return  # its artifacts were deleted
        linked, retrieved = _accuracy(run, accuracy), RecallMetrics.model_validate(recall.metrics)
        by_k = retrieved.recall.micro
        yield PastRun(
            run=run.run_id,
            evaluated_at=record.recorded_at,
            mentions=linked.mentions,
            unnormalized_accuracy=linked.unnormalized_accuracy.micro,
            recall_at_1=by_k[1],
            recall_at_top_k=by_k[max(by_k)],
        )
    except (CorruptArtifact, LookupError, TypeError, ValueError) as error:
        log.warning("run %s is left out of the history: %s", run.run_id, error)
