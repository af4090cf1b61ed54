"""``zeshel show``: print the stages, metrics and provenance of a run."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

from rich.box import SIMPLE
from rich.table import Table

from zeshel_tasks.champion.approval import read_approval
from zeshel_tasks.commands.table_console import TableConsole
from zeshel_tasks.errors import ConfigError, DataError
from zeshel_tasks.evaluation.metrics import RETRIEVERS, RecallAt, RecallMetrics
from zeshel_tasks.pipeline.lineage import has_split
from zeshel_tasks.pipeline.registry import RECIPE
from zeshel_tasks.report.formats import DASH, money
from zeshel_tasks.report.metrics import published_metrics
from zeshel_tasks.store import Manifest, Run, RunRecord, open_run
from zeshel_tasks.text.json_text import to_json
from zeshel_tasks.text.redaction import recorded
from zeshel_tasks.text.safe_text import one_line

Finished = dict[str, tuple[RunRecord, Manifest]]


def show_run(run_address: str, *, as_json: bool) -> None:
    """Print a run.

    Raises:
        ConfigError: no stage of the run has finished.
        DataError: a record or a manifest is broken, or comes from a version with other metrics.
    """
    run = open_run(run_address)
    finished = _finished(run)
    if not finished:
        raise ConfigError(f"--run: expected a run with finished stages, got none at {run.address}")
    if as_json:
        print(to_json(_as_json(run, finished), indent=2))
        return
    try:
        costs = _costs(run)
        tables = (
            _stages_table(run, finished, costs),
            _recall_table(finished),
            _accuracy_table(finished),
            _calibration_table(finished),
            _modes_table(finished),
        )
        lines = [*_provenance(run, finished), *costs.lines]
    except (LookupError, TypeError, ValueError, AttributeError) as error:
        problem = "this version does not know the metrics or settings of a manifest; --json shows them unchanged"
        raise DataError(problem, file=run.address, got=f"{type(error).__name__}: {error}") from error
    console = TableConsole(piped_width=120)  # the tables need 90 columns
    for table in tables:
        if table.row_count:
            console.print(table)
    for line in lines:
        console.print(one_line(line), soft_wrap=True)


def _finished(run: Run) -> Finished:
    found = ((name, run.record(name), run.manifest(name)) for name in _due(run))
    # Manifests of earlier versions may contain addresses with secrets.
    return {
        name: (record, manifest.model_copy(update={"config": recorded(manifest.config)}))
        for name, record, manifest in found
        if record and manifest
    }


def _due(run: Run) -> list[str]:
    """The stages of the recipe, except those of splits that the data set does not have."""
    return [stage.name_for(split) for stage, split in RECIPE if split is None or has_split(run, split)]


def _as_json(run: Run, finished: Finished) -> dict[str, Any]:
    return {
        "run": run.address,
        "stages": {
            name: {**record.model_dump(), "manifest": manifest.model_dump()}
            for name, (record, manifest) in finished.items()
        },
    }


class _Costs(NamedTuple):
    """What the stages cost by the prices of the run's report, as text. Empty if it has no prices."""

    by_stage: dict[str, str]
    lines: tuple[str, ...] = ()


def _costs(run: Run) -> _Costs:
    metrics = published_metrics(run)
    prices = metrics.get("run", {}).get("prices")  # an earlier version knew none
    if not prices:
        return _Costs({})
    currency = prices["currency"]
    total, saved = (money(metrics["run"][name], currency) for name in ("cost", "saved_cost"))
    return _Costs(
        {stage["name"]: money(stage["cost"], currency) for stage in metrics["stages"]},
        (f"cost    {total}  saved by reuse {saved}",),
    )


def _stages_table(run: Run, finished: Finished, costs: _Costs) -> Table:
    table = Table(box=SIMPLE, title=one_line(f"run {run.address}"), title_justify="left")
    shows_costs = ("cost",) if costs.by_stage else ()
    for column in ("stage", "state", "this run", "work", *shows_costs, "peak memory", "artifact"):
        table.add_column(column, justify="left" if column in ("stage", "state", "artifact") else "right", no_wrap=True)
    for name in _due(run):
        if name not in finished:
            table.add_row(name, "not done" if run.record(name) is None else "its artifact was deleted")
            continue
        record, manifest = finished[name]
        table.add_row(
            name,
            "reused" if record.reused else "ran",
            f"{record.wall_seconds:,.1f} s",
            f"{manifest.wall_seconds:,.1f} s",
            *(costs.by_stage.get(name, DASH) for _ in shows_costs),
            f"{manifest.peak_memory_mb:,.0f} MB",
            manifest.fingerprint[:12],
        )
    return table


def _recall_table(finished: Finished) -> Table:
    evaluated = [manifest.metrics for _, manifest in finished.values() if manifest.stage == "eval-biencoder"]
    table = Table(box=SIMPLE, title="recall over all mentions", title_justify="left")
    for column in ("split", "retrieved by", "mean over"):
        table.add_column(column)
    ks = sorted({k for metrics in evaluated for k in metrics["recall"]["micro"]}, key=int)
    for k in ks:
        table.add_column(f"@{k}", justify="right")
    for metrics in evaluated:
        measured = RecallMetrics.model_validate(metrics)
        recalls = {measured.retriever: measured.recall, **measured.methods}
        for retriever in (name for name in RETRIEVERS if name in recalls):
            for mean, over in (("micro", "mentions"), ("macro", "worlds")):
                rates: RecallAt = getattr(recalls[retriever], mean)
                table.add_row(metrics["split"], RETRIEVERS[retriever], over, *(_percent(rates.get(int(k))) for k in ks))
    return table


def _accuracy_table(finished: Finished) -> Table:
    table = Table(box=SIMPLE, title="accuracy", title_justify="left")
    for column in ("split", "linked by", "mean over", "normalized", "unnormalized", "mentions", "gold retrieved"):
        table.add_column(column, justify="left" if column in ("split", "linked by", "mean over") else "right")
    for split, linked_by, metrics in _accuracies(finished):
        for mean, over in (("micro", "mentions"), ("macro", "worlds")):
            rates = (_percent(metrics[rate][mean]) for rate in ("normalized_accuracy", "unnormalized_accuracy"))
            table.add_row(split, linked_by, over, *rates, f"{metrics['mentions']:,}", f"{metrics['retrieved']:,}")
    return table


def _accuracies(finished: Finished) -> Iterator[tuple[str, str, dict[str, Any]]]:
    """Yield split, who links, and accuracy: of the linker and its parts, or of the cross-encoder before ``fuse``."""
    if "fuse" in finished:
        for split, found in finished["fuse"][1].metrics["splits"].items():
            yield split, "final score", found["linker"]
            yield split, "cross-encoder", found["crossencoder"]
            yield split, "retriever", found["retriever"]
        return
    for _, manifest in finished.values():
        if manifest.stage == "eval-crossencoder":
            yield manifest.metrics["split"], "cross-encoder", manifest.metrics


def _calibration_table(finished: Finished) -> Table:
    table = Table(box=SIMPLE, title="calibration", title_justify="left")
    for column in ("split", "confidence", "error", "precision", "linked", "risk area", "missing entities"):
        table.add_column(column, justify="left" if column in ("split", "confidence") else "right")
    if "calibrate" not in finished:
        return table
    for split, found in finished["calibrate"][1].metrics["splits"].items():
        for confidence, name, area in (("right", "calibrated", "area"), ("softmax", "softmax", "softmax_area")):
            measured = found[confidence]
            at = measured["at_threshold"]
            rates = measured["calibration_error"], at["precision"], at["linked"], measured["risk_area"]
            table.add_row(split, name, *map(_percent, rates), _percent(found["nil"][area]))
    return table


def _modes_table(finished: Finished) -> Table:
    table = Table(box=SIMPLE, title="modes of zeshel link", title_justify="left")
    for column in ("split", "mode", "re-ranked", "accuracy", "error"):
        table.add_column(column, justify="left" if column in ("split", "mode") else "right")
    if "calibrate" not in finished:
        return table
    cascade = finished["calibrate"][1].metrics.get("cascade")  # an earlier version measured without it
    for split, found in cascade["splits"].items() if cascade else ():
        for mode, measured in found["modes"].items():
            rates = (measured[name] for name in ("reranked", "accuracy", "calibration_error"))
            table.add_row(split, mode, *map(_percent, rates))
    return table


def _provenance(run: Run, finished: Finished) -> list[str]:
    lines = []
    if "download" in finished:
        manifest = finished["download"][1]
        lines += [f"data    {data['source']}  sha256 {data['sha256']}" for data in manifest.metrics["sources"]]
    if "train-biencoder" in finished:
        manifest = finished["train-biencoder"][1]
        lines.append(f"model   {manifest.config['bert_model']}  {manifest.inputs['bert_model']}")
        lines.append(f"device  {manifest.device}")
        lines.append(f"made by zeshel-tasks {manifest.package_version}, " + _joined(manifest.versions))
    if "promote" in finished:
        metrics = finished["promote"][1].metrics
        lines.append(f"{'promoted' if metrics['promoted'] else 'not promoted'}  {metrics['reason']}")
    if "fuse" in finished and (approval := read_approval(run, finished["fuse"][0].artifact)) is not None:
        lines.append(str(approval))
    if "report" in finished:
        lines.append(f"report  {run.address}/report/index.html")
    return lines


def _joined(versions: dict[str, str]) -> str:
    return ", ".join(f"{name} {version}" for name, version in versions.items())


def _percent(value: float | None) -> str:
    return "–" if value is None else f"{value:.2%}"
