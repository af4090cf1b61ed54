"""A run's own report: the report data of its artifact, the facts of this run, and the store's history.

A run that reuses everything gets a report too; a scheduler without torch and numpy renders it.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime

from zeshel_tasks import __version__
from zeshel_tasks.config.results import ReportConfig
from zeshel_tasks.config.stages import Recipe
from zeshel_tasks.report.history import past_runs
from zeshel_tasks.report.render import render_report
from zeshel_tasks.report.report_data import Prices, ReportData, RunFacts, StageSummary
from zeshel_tasks.report.results_table import results_table
from zeshel_tasks.store import Artifact, Manifest, Run

log = logging.getLogger(__name__)

DATA_FILE = "report_data.json"


def publish_report(run: Run, recipe: Recipe, report: Artifact, inputs: Mapping[str, Artifact]) -> None:
    """Writes the run's report into its own folder, and the table of results into the log."""
    for name, data in run_report(run, recipe, report, inputs):
        run.publish(name, data)
    for line in results_table(report.manifest.metrics):
        log.info("%s", line)


def run_report(
    run: Run, recipe: Recipe, report: Artifact, inputs: Mapping[str, Artifact]
) -> Iterator[tuple[str, bytes]]:
    """Names and bytes of the files for the run's own folder.

    Args:
        run: the run that the report is about.
        recipe: its settings.
        report: the artifact that the run made or reused.
        inputs: the artifacts that ``report`` was made from.
    """
    facts = RunFacts(
        address=run.address,
        preset=recipe.preset,
        created_at=datetime.now(UTC).isoformat(timespec="seconds"),
        package_version=__version__,
        stages=tuple(_summary(run, name, artifact.manifest) for name, artifact in inputs.items()),
        history=tuple(past_runs(run.store, recipe.report.num_past_runs)),
        prices=_prices(recipe.report),
    )
    data = ReportData.from_json(report.path(DATA_FILE).read_bytes())
    for name, content in render_report(data, facts):
        yield f"report/{name}", content


def _prices(config: ReportConfig) -> Prices | None:
    if config.price_per_gpu_hour is None and config.price_per_hour is None:
        return None
    return Prices(gpu_hour=config.price_per_gpu_hour, hour=config.price_per_hour, currency=config.currency)


def _summary(run: Run, name: str, manifest: Manifest) -> StageSummary:
    record = run.record(name)
    return StageSummary(
        name=name,
        reused=record is not None and record.reused,
        # The manifest counts only the attempt that committed; a training that was resumed counts all its attempts.
        wall_seconds=max(manifest.wall_seconds, manifest.metrics.get("training_seconds", 0.0)),
        peak_memory_mb=manifest.peak_memory_mb,
        peak_gpu_memory_mb=manifest.peak_gpu_memory_mb,
        device=manifest.device,
        fingerprint=manifest.fingerprint,
        started_at=manifest.started_at,
        gpus=len(manifest.hardware["gpus"]),
    )
