"""The machine-readable summary of a run. The page is rendered from it, so it holds every number that the page shows.

``metrics.json``, schema version 2. Rates are fractions of 1,
times are in seconds, memory is in MB, and null means "no value"::

    schema_version   2
    run              address, preset, created_at, package_version, capped; wall_seconds and gpu_seconds of the stages
                     that this run made, saved_wall_seconds and saved_gpu_seconds of those that it reused; prices:
                     null, or gpu_hour, hour and currency, with cost and saved_cost
    headline         the test split: mentions, top_k, and {micro, macro} each of recall_at_1, recall_at_top_k,
                     normalized_accuracy, unnormalized_accuracy
    recall           {split: metrics of eval-biencoder, and retriever: biencoder or hybrid, which gave the candidates}
    accuracy         {split: accuracy of the linker in the form of eval-crossencoder's metrics, and outcomes: shares of
                     the mentions that are correct, wrong_candidate (gold retrieved, another preferred), not_retrieved}
    fusion           the linker's final score: combines, weights, and alone: {split: {retriever, crossencoder: accuracy
                     of each without the other}}
    calibration      metrics of calibrate: linked_precision, threshold, softmax_threshold, the weights right and none,
                     splits: {split: mentions, accuracy, right and softmax (calibration_error, risk_area, at_threshold),
                     risk_difference, nil, diagrams, worlds}, and cascade: loss, clear_from, splits: {split: modes:
                     {mode: reranked, accuracy, calibration_error}, worlds}
    comparison       metrics of compare: champion, overall, worlds
    training         {stage: metrics of the training; pretrained is what the pretrained model's README states}
    curves           {stage: {loss, valid_recall, valid_accuracy: [{step, epoch, value, lowest, highest}]}}, thinned;
                     recall is of the bi-encoder, accuracy of the cross-encoder
    convert          metrics of convert
    stages           [{name, reused, wall_seconds, gpus, cost, peak_memory_mb, peak_gpu_memory_mb, device, fingerprint,
                     started_at}]; wall_seconds of a resumed training are those of all attempts
    configuration    {stage: {setting: {value, preset_default, differs}}}
    provenance       sources: [{source, identity, sha256, bytes, worlds: [...]}] in the order in which they were merged,
                     assigned: {world: split} for worlds that a setting put into a split, worlds, documents,
                     models: {stage: identity} of the pretrained models, and
                     versions, hardware: [{stages: [...], values: {...}}]
    history          [{run, evaluated_at, mentions, unnormalized_accuracy, recall_at_1, recall_at_top_k}], latest last
    mistakes         most confident first, without the entities' texts

A change that would break a reader raises ``schema_version``.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from zeshel_tasks.champion.metrics import ComparisonMetrics
from zeshel_tasks.config.splits import ALL_SPLITS
from zeshel_tasks.data.blink_format import ConvertMetrics
from zeshel_tasks.evaluation.metrics import RETRIEVERS, AccuracyMetrics, RecallMetrics
from zeshel_tasks.linking.calibration_metrics import CalibrationMetrics
from zeshel_tasks.linking.metrics import FusionMetrics
from zeshel_tasks.report.configuration import compare_with_preset
from zeshel_tasks.report.report_data import Provenance, ReportData, RunFacts, StageSummary
from zeshel_tasks.store import Run

SCHEMA_VERSION = 2


def published_metrics(run: Run) -> dict[str, Any]:
    """Returns the ``metrics.json`` of a run's report, in the form of its version; empty if there is none yet."""
    published = run.published("report/metrics.json")
    metrics: dict[str, Any] = {} if published is None else json.loads(published)
    return metrics


def metrics_json(data: ReportData, run: RunFacts) -> dict[str, Any]:
    """The summary of a run as plain JSON data.

    Raises:
        ConfigError: the run names an unknown preset.
    """
    return {
        "schema_version": SCHEMA_VERSION,
        "run": _run(run, capped=data.convert.capped if data.convert else None),
        **_measured(data),
        "stages": [{**stage.model_dump(mode="json"), "cost": _cost(run, [stage])} for stage in run.stages],
        "configuration": compare_with_preset(data.configuration, run.preset),
        "history": [past.model_dump(mode="json") for past in run.history],
        "mistakes": [
            mistake.model_dump(mode="json", exclude={"gold_text", "predicted_text", "gold_facts", "predicted_facts"})
            for mistake in data.mistakes
        ],
    }


def _measured(data: ReportData) -> dict[str, Any]:
    """The parts that do not depend on the run, in an order that depends on the data only."""
    return {
        "headline": _headline(data),
        "recall": {split: _recall(data.recall[split]) for split in ALL_SPLITS if split in data.recall},
        "accuracy": {split: _accuracy(data.accuracy[split]) for split in ALL_SPLITS if split in data.accuracy},
        "fusion": _fusion(data.linking) if data.linking else None,
        "calibration": _calibration(data.calibration) if data.calibration else None,
        "comparison": _comparison(data.comparison) if data.comparison else None,
        "training": {stage: metrics.dump() for stage, metrics in sorted(data.training.items())},
        "curves": dict(sorted(data.model_dump(mode="json", include={"curves"})["curves"].items())),
        "convert": _convert(data.convert) if data.convert else None,
        "provenance": _provenance(data.provenance),
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
        "prices": run.prices and run.prices.model_dump(),
        "cost": _cost(run, ran),
        "saved_cost": _cost(run, reused),
    }


def _cost(run: RunFacts, stages: Sequence[StageSummary]) -> float | None:
    return None if run.prices is None else sum(run.prices.cost(stage.wall_seconds, stage.gpus) for stage in stages)


def _headline(data: ReportData) -> dict[str, Any]:
    recall, accuracy = data.recall.get("test"), data.accuracy.get("test")
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


def _recall_at(metrics: RecallMetrics | None, k: int | None) -> dict[str, float | None]:
    if metrics is None or k is None:
        return _pair({})
    return _pair({"micro": metrics.recall.micro.get(k), "macro": metrics.recall.macro.get(k)})


def _pair(averages: Mapping[str, float | None]) -> dict[str, float | None]:
    return {"micro": averages.get("micro"), "macro": averages.get("macro")}


def _recall(metrics: RecallMetrics) -> dict[str, Any]:
    plain = metrics.dump()
    averages = {average: _by_k(recall) for average, recall in plain["recall"].items()}
    worlds = {world: {**values, "recall": _by_k(values["recall"])} for world, values in sorted(plain["worlds"].items())}
    methods = {
        name: {
            **{average: _by_k(plain["methods"][name][average]) for average in ("micro", "macro")},
            "worlds": {world: _by_k(recall) for world, recall in sorted(plain["methods"][name]["worlds"].items())},
        }
        for name in RETRIEVERS
        if name in plain["methods"]
    }
    return {**plain, "retriever": metrics.retriever, "recall": averages, "worlds": worlds, "methods": methods}


def _by_k(recall: Mapping[str, float | None]) -> dict[str, float | None]:
    return {k: recall[k] for k in sorted(recall, key=int)}


def _accuracy(metrics: AccuracyMetrics) -> dict[str, Any]:
    return {**_sorted_groups(metrics), "outcomes": _outcomes(metrics)}


def _fusion(metrics: FusionMetrics) -> dict[str, Any]:
    alone = {
        split: {"retriever": _sorted_groups(found.retriever), "crossencoder": _sorted_groups(found.crossencoder)}
        for split in ALL_SPLITS
        if (found := metrics.splits.get(split))
    }
    return {"combines": metrics.combines, "weights": metrics.dump()["weights"], "alone": alone}


def _calibration(metrics: CalibrationMetrics) -> dict[str, Any]:
    plain = metrics.dump()
    cascade = plain["cascade"]
    return {
        **plain,
        "splits": _sorted_worlds(plain["splits"]),
        "cascade": cascade and {**cascade, "splits": _sorted_worlds(cascade["splits"])},
    }


def _sorted_worlds(splits: dict[str, Any]) -> dict[str, Any]:
    return {
        split: {**found, "worlds": dict(sorted(found["worlds"].items()))}
        for split in ALL_SPLITS
        if (found := splits.get(split))
    }


def _sorted_groups(metrics: AccuracyMetrics) -> dict[str, Any]:
    plain = metrics.dump()
    return {**plain, **{kind: dict(sorted(plain[kind].items())) for kind in ("worlds", "categories")}}


def _outcomes(metrics: AccuracyMetrics) -> dict[str, float] | None:
    correct = metrics.unnormalized_accuracy.micro
    if correct is None or not metrics.mentions:
        return None
    retrieved = metrics.retrieved / metrics.mentions
    # Rounding must not make the share negative.
    wrong = max(0.0, retrieved - correct)
    return {"correct": correct, "wrong_candidate": wrong, "not_retrieved": 1 - retrieved}


def _comparison(metrics: ComparisonMetrics) -> dict[str, Any]:
    plain = metrics.dump()
    return {**plain, "worlds": dict(sorted(plain["worlds"].items()))}


def _convert(metrics: ConvertMetrics) -> dict[str, Any]:
    plain = metrics.dump()
    return {
        "mentions": {split: plain["mentions"][split] for split in ALL_SPLITS if split in plain["mentions"]},
        "worlds": {
            split: dict(sorted(plain["worlds"][split].items())) for split in ALL_SPLITS if split in plain["worlds"]
        },
        "capped": plain["capped"],
        "heldout": {split: plain["heldout"][split] for split in ALL_SPLITS if split in plain["heldout"]},
    }


def _provenance(provenance: Provenance) -> dict[str, Any]:
    plain = provenance.model_dump(mode="json")
    return {**plain, "versions": _grouped(plain["versions"]), "hardware": _grouped(plain["hardware"])}


def _grouped(by_stage: Mapping[str, Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Groups the stages that have equal values; a group is where its first stage is."""
    groups: list[dict[str, Any]] = []
    for stage, values in by_stage.items():
        group = next((group for group in groups if group["values"] == values), None)
        if group is None:
            groups.append({"stages": [stage], "values": dict(sorted(values.items()))})
        else:
            group["stages"].append(stage)
    return groups
