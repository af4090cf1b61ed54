"""compare: compare the run's model with the champion on the same test mentions.

The champion is evaluated on this run's test split with this run's evaluation settings. If that has been done before,
its artifacts are reused and no model runs.
"""

from __future__ import annotations

import logging

import numpy as np
import numpy.typing as npt

from zeshel_tasks.champion.champions import KEY, Champion, read_champions
from zeshel_tasks.champion.comparison import Flags, compare_accuracy
from zeshel_tasks.champion.gate import describe_comparison, describe_figures
from zeshel_tasks.champion.metrics import ComparedChampion, ComparedGroup, ComparisonMetrics
from zeshel_tasks.data.json_lines import read_json_lines
from zeshel_tasks.errors import ConfigError
from zeshel_tasks.linking.fusion import CROSSENCODER_ALONE, FUSION_FILE, Fusion, best_candidates
from zeshel_tasks.linking.metrics import FusionMetrics
from zeshel_tasks.pipeline.contract import artifact_of_others
from zeshel_tasks.pipeline.job import Job
from zeshel_tasks.pipeline.registry import STAGES
from zeshel_tasks.stages.inputs import RankedSplit
from zeshel_tasks.store import Artifact, Metrics, artifact_folder
from zeshel_tasks.store.artifacts import read_manifest

log = logging.getLogger(__name__)


def work(job: Job) -> Metrics:
    """Does the stage's work; returns the metrics of its manifest."""
    fused = job.inputs["fuse"]
    champion = read_champions(job.run.store).rival_of(artifact_folder("fuse", fused.manifest.fingerprint))
    linker = FusionMetrics.model_validate(fused.manifest.metrics).splits["test"].linker
    accuracy = linker.unnormalized_accuracy.micro
    assert accuracy is not None  # there are mentions
    job.check_outside()
    if champion is None:
        log.info("no champion to compare with")
        return ComparisonMetrics(unnormalized_accuracy=accuracy, champion=None).dump()
    predictions = list(read_json_lines(fused.path("test/predictions.jsonl")))
    overall, worlds = _compared(
        job,
        np.array([prediction["world"] for prediction in predictions]),
        np.array([prediction["correct"] for prediction in predictions]),
        _answers_of(job, champion),
    )
    metrics = ComparisonMetrics(
        unnormalized_accuracy=accuracy,
        champion=ComparedChampion(
            run=champion.run,
            crossencoder=champion.crossencoder,
            fusion=champion.fusion,
            promoted_at=champion.promoted_at,
            approval=None if champion.approval is None else str(champion.approval),
        ),
        overall=overall,
        worlds=worlds,
    ).dump()
    log.info("%s", describe_comparison(champion.run, overall))
    for world, figures in worlds.items():
        log.info("%s: %s", world, describe_figures(figures))
    return metrics


def _answers_of(job: Job, champion: Champion) -> Flags:
    """Links this run's test mentions with the champion, in file order. True where it is right."""
    ranked = _evaluated(job, champion)
    best, _ = best_candidates(_fusion_of(job, champion).final_scores(ranked.crossencoder, ranked.retrieval))
    right: Flags = best == ranked.gold_rank
    return right


def _fusion_of(job: Job, champion: Champion) -> Fusion:
    if champion.fusion is None:
        return CROSSENCODER_ALONE
    return Fusion.model_validate_json(_artifact(job, champion.fusion).path(FUSION_FILE).read_bytes())


def _evaluated(job: Job, champion: Champion) -> RankedSplit:
    """The candidates that the champion retrieves for this run's test mentions, with both of its scores."""
    recipe = job.recipe.model_copy(
        update={
            stage: getattr(job.recipe, stage).as_recorded(job.inputs[f"{stage.replace('_', '-')}-test"].manifest.config)
            for stage in ("eval_biencoder", "eval_crossencoder")
        }
    )
    data = {name: job.inputs[name] for name in ("download", "convert")}
    biencoder, crossencoder = (_artifact(job, folder) for folder in (champion.biencoder, champion.crossencoder))
    retriever = {"train-biencoder": biencoder}
    if champion.retriever is not None:
        retriever["fit-retrieval"] = _artifact(job, champion.retriever)
    candidates = artifact_of_others(job, STAGES["eval-biencoder"], "test", recipe, data | retriever)
    scored = artifact_of_others(
        job,
        STAGES["eval-crossencoder"],
        "test",
        recipe,
        data | {"eval-biencoder-test": candidates, "train-crossencoder": crossencoder},
    )
    return RankedSplit.read(candidates, scored)


def _artifact(job: Job, folder: str) -> Artifact:
    store = job.run.store
    manifest = read_manifest(store, folder)
    if manifest is None:
        raise ConfigError(
            f"{store.address}/{KEY}: expected a champion whose model is in the store, got one whose {folder} is gone: "
            "restore it, or run `zeshel rollback`, or delete the file to start without a champion"
        )
    return Artifact(store, folder, manifest, job.scratch / "cache")


def _compared(
    job: Job, worlds: npt.NDArray[np.str_], new: Flags, old: Flags
) -> tuple[ComparedGroup, dict[str, ComparedGroup]]:
    """Compares the answers over all mentions and in each world."""
    config = job.recipe.compare

    def compared(chosen: Flags) -> ComparedGroup:
        random = np.random.default_rng(config.bootstrap_seed)
        return compare_accuracy(
            new[chosen], old[chosen], confidence=config.confidence, samples=config.bootstrap_samples, random=random
        )

    by_world = {str(world): compared(worlds == world) for world in np.unique(worlds)}
    return compared(np.ones(len(worlds), dtype=bool)), by_world
