"""compare: compare the run's model with the champion on the same test mentions.

The champion is evaluated on this run's test split with this run's evaluation settings. If that has been done before,
its artifacts are reused and no model runs.
"""

from __future__ import annotations

import logging
from pathlib import Path

import numpy as np

from zeshel_tasks.champion.champions import KEY, Champion, read_champions
from zeshel_tasks.champion.comparison import Flags, compare_accuracy
from zeshel_tasks.champion.gate import describe_comparison, describe_figures
from zeshel_tasks.champion.metrics import ComparedChampion, ComparedGroup, ComparisonMetrics
from zeshel_tasks.data.json_lines import read_json_lines
from zeshel_tasks.errors import ConfigError
from zeshel_tasks.pipeline.contract import artifact_of_others
from zeshel_tasks.pipeline.job import Job
from zeshel_tasks.pipeline.registry import STAGES
from zeshel_tasks.store import Artifact, Metrics, artifact_folder
from zeshel_tasks.store.artifacts import read_manifest

log = logging.getLogger(__name__)


def work(job: Job) -> Metrics:
    """Does the stage's work; returns the metrics of its manifest."""
    own = artifact_folder("train-crossencoder", job.inputs["train-crossencoder"].manifest.fingerprint)
    accuracy = job.inputs["eval-crossencoder-test"].manifest.metrics["unnormalized_accuracy"]["micro"]
    champion = read_champions(job.run.store).rival_of(own)
    job.check_outside()
    if champion is None:
        log.info("no champion to compare with")
        return ComparisonMetrics(unnormalized_accuracy=accuracy, champion=None).dump()
    evaluated = _evaluated(job, champion)
    new, old = (
        _answers(found.path("predictions.jsonl")) for found in (job.inputs["eval-crossencoder-test"], evaluated)
    )
    overall, worlds = _compared(job, new, old)
    metrics = ComparisonMetrics(
        unnormalized_accuracy=accuracy,
        champion=ComparedChampion(
            run=champion.run, crossencoder=champion.crossencoder, promoted_at=champion.promoted_at
        ),
        overall=overall,
        worlds=worlds,
    ).dump()
    log.info("%s", describe_comparison(champion.run, overall))
    for world, figures in worlds.items():
        log.info("%s: %s", world, describe_figures(figures))
    return metrics


def _evaluated(job: Job, champion: Champion) -> Artifact:
    """Evaluates the champion on this run's test mentions."""
    recipe = job.recipe.model_copy(
        update={
            stage: getattr(job.recipe, stage).as_recorded(job.inputs[f"{stage.replace('_', '-')}-test"].manifest.config)
            for stage in ("eval_biencoder", "eval_crossencoder")
        }
    )
    data = {name: job.inputs[name] for name in ("download", "convert")}
    biencoder, crossencoder = (_model(job, folder) for folder in (champion.biencoder, champion.crossencoder))
    candidates = artifact_of_others(
        job, STAGES["eval-biencoder"], "test", recipe, data | {"train-biencoder": biencoder}
    )
    return artifact_of_others(
        job,
        STAGES["eval-crossencoder"],
        "test",
        recipe,
        data | {"eval-biencoder-test": candidates, "train-crossencoder": crossencoder},
    )


def _model(job: Job, folder: str) -> Artifact:
    store = job.run.store
    manifest = read_manifest(store, folder)
    if manifest is None:
        raise ConfigError(
            f"{store.address}/{KEY}: expected a champion whose model is in the store, got one whose {folder} is gone: "
            "restore it, or run `zeshel rollback`, or delete the file to start without a champion"
        )
    return Artifact(store, folder, manifest, job.scratch / "cache")


def _answers(predictions: Path) -> dict[str, tuple[str, bool]]:
    """Returns the world of each mention by id, and True if it was linked correctly."""
    return {line["mention_id"]: (line["world"], bool(line["correct"])) for line in read_json_lines(predictions)}


def _compared(
    job: Job, new: dict[str, tuple[str, bool]], old: dict[str, tuple[str, bool]]
) -> tuple[ComparedGroup, dict[str, ComparedGroup]]:
    """Compares the answers over all mentions and in each world."""
    config = job.recipe.compare
    worlds = np.array([world for world, _ in new.values()])
    flags: list[Flags] = [np.array([answers[mention][1] for mention in new]) for answers in (new, old)]

    def compared(chosen: Flags) -> ComparedGroup:
        random = np.random.default_rng(config.bootstrap_seed)
        ours, theirs = (values[chosen] for values in flags)
        return compare_accuracy(
            ours, theirs, confidence=config.confidence, samples=config.bootstrap_samples, random=random
        )

    by_world = {str(world): compared(worlds == world) for world in np.unique(worlds)}
    return compared(np.ones(len(worlds), dtype=bool)), by_world
