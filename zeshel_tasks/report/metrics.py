"""The machine-readable summary of a run. The page is rendered from it, so it holds every number the page shows.

``metrics.json``, schema version 2. Rates are fractions of 1, times are seconds, memory is MB; null is "not there"::

    schema_version   2
    run              address, preset, created_at, package_version, capped; of the stages that this run made
                     wall_seconds and gpu_seconds, of those that it reused saved_wall_seconds and saved_gpu_seconds
    headline         of the test split: mentions, top_k, and {micro, macro} each of recall_at_1, recall_at_top_k,
                     normalized_accuracy, unnormalized_accuracy
    recall           {split: metrics of eval-biencoder}
    accuracy         {split: metrics of eval-crossencoder, and outcomes: shares of the mentions that are correct,
                     wrong_candidate (gold retrieved, another preferred), not_retrieved}
    comparison       metrics of compare: champion, overall, worlds
    training         {stage: metrics of the training}
    curves           {stage: {loss, valid_accuracy: [{step, epoch, value, lowest, highest}]}}, thinned
    convert          metrics of convert
    stages           [{name, reused, wall_seconds, gpus, peak_memory_mb, peak_gpu_memory_mb, device, fingerprint,
                     started_at}], wall_seconds of all attempts where a training was resumed
    configuration    {stage: {setting: {value, preset_default, differs}}}
    provenance       sources: [{source, identity, sha256, bytes, worlds: [...]}] in the order in which they were merged,
                     assigned: {world: split} where a setting said so, worlds, documents, and
                     versions, hardware: [{stages: [...], values: {...}}]
    history          [{run, evaluated_at, mentions, unnormalized_accuracy, recall_at_1, recall_at_top_k}], latest last
    mistakes         most confident first, without the entities' texts

A change that would break a reader raises ``schema_version``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from zeshel_tasks.config import ALL_SPLITS
from zeshel_tasks.report.configuration import compare_with_preset
from zeshel_tasks.report.content import (
    BiencoderMetrics,
    ComparisonMetrics,
    ConvertMetrics,
    CrossencoderMetrics,
    Provenance,
    ReportContent,
    RunFacts,
)
from zeshel_tasks.report.curves import thin_curve
from zeshel_tasks.report.drawn import DrawnReport

SCHEMA_VERSION = 2


def metrics_json(drawn: DrawnReport, run: RunFacts) -> dict[str, Any]:
    """The summary of a run as plain JSON data.

    Raises:
        ConfigError: the run names an unknown preset.
    """
    converted = drawn.measured["convert"]
    return {
        "schema_version": SCHEMA_VERSION,
        "run": _run(run, capped=converted["capped"] if converted else None),
        **drawn.measured,
        "stages": [stage.model_dump(mode="json") for stage in run.stages],
        "configuration": compare_with_preset(drawn.configuration, run.preset),
        "history": [past.model_dump(mode="json") for past in run.history],
        "mistakes": [_without_texts(mistake) for mistake in drawn.mistakes],
    }


def measured_json(content: ReportContent) -> dict[str, Any]:
    """The parts of the summary that are not about the run, in an order that depends on the content only."""
    return {
        "headline": _headline(content),
        "recall": {split: _recall(content.recall[split]) for split in ALL_SPLITS if split in content.recall},
        "accuracy": {split: _accuracy(content.accuracy[split]) for split in ALL_SPLITS if split in content.accuracy},
        "comparison": _comparison(content.comparison) if content.comparison else None,
        "training": {stage: metrics.model_dump(mode="json") for stage, metrics in sorted(content.training.items())},
        "curves": {stage: asdict(thin_curve(points)) for stage, points in sorted(content.curves.items())},
        "convert": _convert(content.convert) if content.convert else None,
        "provenance": _provenance(content.provenance),
    }


def _run(run: RunFacts, capped: bool | None) -> dict[str, Any]:
    ran, reused = ([stage for stage in run.stages if stage.reused == was] for was in (False, True))
    return {
        "address": run.address,
        "preset": run.preset,
        "created_at": run.created_at,
        "package_version": run.package_version,
        "capped": capped,
        "wall_seconds": sum(stage.wall_seconds for stage in ran),
        "gpu_seconds": sum(stage.wall_seconds * stage.gpus for stage in ran),
        "saved_wall_seconds": sum(stage.wall_seconds for stage in reused),
        "saved_gpu_seconds": sum(stage.wall_seconds * stage.gpus for stage in reused),
    }


def _headline(content: ReportContent) -> dict[str, Any]:
    recall, accuracy = content.recall.get("test"), content.accuracy.get("test")
    tested = accuracy or recall
    top_k = max(recall.recall.micro, default=None) if recall else None
    return {
        "split": "test",
        "mentions": tested.mentions if tested else None,
        "top_k": top_k,
        "recall_at_1": _recall_at(recall, 1),
        "recall_at_top_k": _recall_at(recall, top_k),
        "normalized_accuracy": _pair(accuracy.normalized_accuracy.model_dump() if accuracy else {}),
        "unnormalized_accuracy": _pair(accuracy.unnormalized_accuracy.model_dump() if accuracy else {}),
    }


def _recall_at(metrics: BiencoderMetrics | None, k: int | None) -> dict[str, float | None]:
    if metrics is None or k is None:
        return _pair({})
    return _pair({"micro": metrics.recall.micro.get(k), "macro": metrics.recall.macro.get(k)})


def _pair(averages: Mapping[str, float | None]) -> dict[str, float | None]:
    return {"micro": averages.get("micro"), "macro": averages.get("macro")}


def _recall(metrics: BiencoderMetrics) -> dict[str, Any]:
    plain = metrics.model_dump(mode="json")
    averages = {average: _by_k(recall) for average, recall in plain["recall"].items()}
    worlds = {world: {**values, "recall": _by_k(values["recall"])} for world, values in sorted(plain["worlds"].items())}
    return {**plain, "recall": averages, "worlds": worlds}


def _by_k(recall: Mapping[str, float | None]) -> dict[str, float | None]:
    return {k: recall[k] for k in sorted(recall, key=int)}


def _accuracy(metrics: CrossencoderMetrics) -> dict[str, Any]:
    plain = metrics.model_dump(mode="json")
    groups = {kind: dict(sorted(plain[kind].items())) for kind in ("worlds", "categories")}
    return {**plain, **groups, "outcomes": _outcomes(metrics)}


def _outcomes(metrics: CrossencoderMetrics) -> dict[str, float] | None:
    correct = metrics.unnormalized_accuracy.micro
    if correct is None or not metrics.mentions:
        return None
    retrieved = metrics.retrieved / metrics.mentions
    # Rounding in a metric must not turn "none" into a negative share.
    wrong = max(0.0, retrieved - correct)
    return {"correct": correct, "wrong_candidate": wrong, "not_retrieved": 1 - retrieved}


def _comparison(metrics: ComparisonMetrics) -> dict[str, Any]:
    plain = metrics.model_dump(mode="json")
    return {**plain, "worlds": dict(sorted(plain["worlds"].items()))}


def _convert(metrics: ConvertMetrics) -> dict[str, Any]:
    plain = metrics.model_dump(mode="json")
    return {
        "mentions": {split: plain["mentions"][split] for split in ALL_SPLITS if split in plain["mentions"]},
        "worlds": {
            split: dict(sorted(plain["worlds"][split].items())) for split in ALL_SPLITS if split in plain["worlds"]
        },
        "capped": plain["capped"],
    }


def _provenance(provenance: Provenance) -> dict[str, Any]:
    plain = provenance.model_dump(mode="json")
    return {**plain, "versions": _grouped(plain["versions"]), "hardware": _grouped(plain["hardware"])}


def _grouped(by_stage: Mapping[str, Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Stages with equal values together, in the order of their first."""
    groups: list[dict[str, Any]] = []
    for stage, values in by_stage.items():
        group = next((group for group in groups if group["values"] == values), None)
        if group is None:
            groups.append({"stages": [stage], "values": dict(sorted(values.items()))})
        else:
            group["stages"].append(stage)
    return groups


def _without_texts(mistake: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in mistake.items() if name != "texts"}
