"""What a run measured, as a table for the log of its task ``report``."""

from __future__ import annotations

import io
from collections.abc import Iterator
from typing import Any

from rich.box import ASCII
from rich.console import Console
from rich.table import Table

from zeshel_tasks.champion.gate import shown_comparison
from zeshel_tasks.config import ALL_SPLITS
from zeshel_tasks.store import Metrics

_WIDTH = 120


def results(recall: dict[str, Any], accuracy: dict[str, Any], comparison: Metrics) -> Metrics:
    """The numbers of the table, in the manifest of ``report``: by split, micro.

    Args:
        recall: by split, metrics of eval-biencoder.
        accuracy: by split, metrics of eval-crossencoder.
        comparison: metrics of compare.
    """
    rows = {split: _row(recall[split], accuracy.get(split)) for split in ALL_SPLITS if split in recall}
    champion = None if comparison["champion"] is None else shown_comparison(comparison)
    return {"results": rows, "comparison": champion}


def results_table(metrics: Metrics) -> Iterator[str]:
    """The lines of the table, given the metrics of ``report``."""
    table = Table(box=ASCII)
    table.add_column("split")
    for column in ("mentions", "recall@1", "recall@k", "k", "accuracy of retrieved", "accuracy of all"):
        table.add_column(column, justify="right")
    for split, row in metrics["results"].items():
        table.add_row(
            split,
            f"{row['mentions']:,}",
            _percent(row["recall_at_1"]),
            _percent(row["recall_at_top_k"]),
            str(row["top_k"]),
            _percent(row["normalized_accuracy"]),
            _percent(row["unnormalized_accuracy"]),
        )
    written = io.StringIO()
    Console(file=written, width=_WIDTH, color_system=None).print(table)
    yield from written.getvalue().splitlines()
    yield metrics["comparison"] or "there is no champion to compare with"


def _row(recall: Metrics, accuracy: Metrics | None) -> dict[str, Any]:
    retrieved = recall["recall"]["micro"]
    top_k = max(map(int, retrieved))
    linked = accuracy or {}
    return {
        "mentions": recall["mentions"],
        "recall_at_1": retrieved["1"],
        "recall_at_top_k": retrieved[str(top_k)],
        "top_k": top_k,
        "normalized_accuracy": linked.get("normalized_accuracy", {}).get("micro"),
        "unnormalized_accuracy": linked.get("unnormalized_accuracy", {}).get("micro"),
    }


def _percent(rate: float | None) -> str:
    return "-" if rate is None else f"{rate:.2%}"
