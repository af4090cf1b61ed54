"""The table of results in the log of the task ``report``."""

from __future__ import annotations

import io
from collections.abc import Iterator, Mapping
from typing import Any

from rich.box import ASCII
from rich.console import Console
from rich.table import Table

from zeshel_tasks.config.splits import Split
from zeshel_tasks.metrics import MetricsModel, Number

_WIDTH = 120


class ResultsRow(MetricsModel):
    """The results of a split over all mentions; accuracies are None if the mentions were not linked.

    ``crossencoder_alone`` is unnormalized, and ``recall_at_1`` is the retriever alone.
    """

    mentions: int
    recall_at_1: Number
    recall_at_top_k: Number
    top_k: int
    normalized_accuracy: Number = None
    unnormalized_accuracy: Number = None
    crossencoder_alone: Number = None


class ReportMetrics(MetricsModel):
    """Metrics of ``report``: the rows by split, and a line about the champion if there is one."""

    results: dict[Split, ResultsRow]
    comparison: str | None


def results_table(metrics: Mapping[str, Any]) -> Iterator[str]:
    """The lines of the table, given the metrics of ``report``."""
    report = ReportMetrics.model_validate(metrics)
    table = Table(box=ASCII)
    table.add_column("split")
    for column in ("mentions", "recall@1", "recall@k", "k", "cross-encoder alone", "linker, of retrieved", "linker"):
        table.add_column(column, justify="right")
    for split, row in report.results.items():
        table.add_row(
            split,
            f"{row.mentions:,}",
            _percent(row.recall_at_1),
            _percent(row.recall_at_top_k),
            str(row.top_k),
            _percent(row.crossencoder_alone),
            _percent(row.normalized_accuracy),
            _percent(row.unnormalized_accuracy),
        )
    written = io.StringIO()
    Console(file=written, width=_WIDTH, color_system=None).print(table)
    yield from written.getvalue().splitlines()
    yield report.comparison or "there is no champion to compare with"


def _percent(rate: float | None) -> str:
    return "-" if rate is None else f"{rate:.2%}"
