"""A run's own report: what ``report`` left, with what is of this run alone, and its store's history of this moment.

A run with nothing new gets it too, from a scheduler that has no matplotlib and no torch.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import UTC, datetime

from zeshel_tasks import __version__
from zeshel_tasks.config import Recipe
from zeshel_tasks.report.content import RunFacts, StageSummary
from zeshel_tasks.report.drawn import DrawnReport
from zeshel_tasks.report.history import past_runs
from zeshel_tasks.report.render import render_report
from zeshel_tasks.store import Artifact, Manifest, Run

DRAWN_FILE = "drawn.json"


def run_report(
    run: Run, recipe: Recipe, report: Artifact, inputs: Mapping[str, Artifact]
) -> Iterator[tuple[str, bytes]]:
    """Names and bytes of the files for the run's own folder.

    Args:
        run: whose report it is.
        recipe: its settings.
        report: the artifact that the run made or reused.
        inputs: what that was made from.
    """
    facts = RunFacts.model_validate(
        {
            "address": run.address,
            "preset": recipe.preset,
            "created_at": datetime.now(UTC).isoformat(timespec="seconds"),
            "package_version": __version__,
            "stages": tuple(_summary(run, name, artifact.manifest) for name, artifact in inputs.items()),
            "history": past_runs(run.store, recipe.report.num_past_runs),
        }
    )
    drawn = DrawnReport.from_json(report.path(DRAWN_FILE).read_bytes())
    for name, data in render_report(drawn, facts):
        yield f"report/{name}", data


def _summary(run: Run, name: str, manifest: Manifest) -> StageSummary:
    record = run.record(name)
    return StageSummary(
        name=name,
        reused=record is not None and record.reused,
        # The manifest knows the attempt that committed; a training was perhaps resumed, and counts all of them.
        wall_seconds=max(manifest.wall_seconds, manifest.metrics.get("training_seconds", 0.0)),
        peak_memory_mb=manifest.peak_memory_mb,
        peak_gpu_memory_mb=manifest.peak_gpu_memory_mb,
        device=manifest.device,
        fingerprint=manifest.fingerprint,
        started_at=manifest.started_at,
        gpus=len(manifest.hardware["gpus"]),
    )
