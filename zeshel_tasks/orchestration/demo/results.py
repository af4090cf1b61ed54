"""The demo's tables: recall and accuracy of a run, and the time of each stage, from its manifests."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rich.table import Table

from zeshel_tasks.config import SPLITS
from zeshel_tasks.store import Run

REPORT_PAGE = "index.html"


def recall_table(run: Run) -> Table:
    """Recall@k of the bi-encoder over all mentions: a row for each split and average."""
    metrics = {split: _metrics(run, f"eval-biencoder-{split}") for split in SPLITS}
    ks = sorted({int(k) for found in metrics.values() for k in found.get("recall", {}).get("micro", {})})
    table = Table("split", "mentions", "average", *(f"recall@{k}" for k in ks), title="Bi-encoder: recall")
    for split, found in metrics.items():
        for average, recall in found.get("recall", {}).items():
            table.add_row(split, str(found["mentions"]), average, *(_percent(recall.get(str(k))) for k in ks))
    return table


def accuracy_table(run: Run) -> Table:
    """Accuracy of the cross-encoder: of the mentions whose gold was retrieved, and of all."""
    columns = ("split", "mentions", "gold retrieved", "average", "normalized", "unnormalized")
    table = Table(*columns, title="Cross-encoder: accuracy")
    for split in SPLITS[1:]:
        found = _metrics(run, f"eval-crossencoder-{split}")
        for average in found.get("unnormalized_accuracy", {}):
            values = (found[f"{kind}_accuracy"][average] for kind in ("normalized", "unnormalized"))
            table.add_row(split, str(found["mentions"]), str(found["retrieved"]), average, *map(_percent, values))
    return table


def stage_table(run: Run, names: list[str]) -> Table:
    """What each stage took in this run, and whether it reused an artifact."""
    table = Table("stage", "seconds", "reused", "peak memory", title="Stages")
    for name in names:
        record, manifest = run.record(name), run.manifest(name)
        if record and manifest:
            memory = f"{manifest.peak_memory_mb:,.0f} MB"
            table.add_row(name, f"{record.wall_seconds:.1f}", "yes" if record.reused else "", memory)
    return table


def report_address(run: Run) -> str | None:
    """Where the report's page lies, or None if there is no report."""
    record, manifest = run.record("report"), run.manifest("report")
    if record is None or manifest is None:
        return None
    page = next((entry for name, entry in manifest.files.items() if name.endswith(REPORT_PAGE)), None)
    return None if page is None else f"{run.store.address}/{record.artifact}/{page.key}"


def _metrics(run: Run, name: str) -> Mapping[str, Any]:
    manifest = run.manifest(name)
    return {} if manifest is None else manifest.metrics


def _percent(value: float | None) -> str:
    return "-" if value is None else f"{100 * value:.2f}"
