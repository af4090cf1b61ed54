"""The own calibration of a knowledge base: an immutable artifact that its head names, for the scores of some models."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import NamedTuple
from uuid import uuid4

from zeshel_tasks.config.stages import Recipe
from zeshel_tasks.errors import CorruptArtifact, TryAgain
from zeshel_tasks.knowledge_base.head import HeadCalibration, KnowledgeBase, changes_folder
from zeshel_tasks.linking.cascade import OWN_FILE, OwnCalibration
from zeshel_tasks.pipeline.contract import derived_artifact, scratch_space
from zeshel_tasks.pipeline.job import Job, Target
from zeshel_tasks.store import Artifact, Metrics, Run, Store, artifact_folder
from zeshel_tasks.store.artifacts import read_kept_manifest, sha256_of

STAGE = "knowledge-base-calibration"
_SWAPS = 20

log = logging.getLogger(__name__)


class Own(NamedTuple):
    """The calibration of a knowledge base, and the fingerprint of its artifact."""

    calibration: OwnCalibration
    fingerprint: str


def own_calibration(base: KnowledgeBase, models: str, cache: Path) -> Own | None:
    """Reads the calibration of a knowledge base, if it has one for these models.

    Args:
        base: the knowledge base.
        models: fingerprint of the models.
        cache: local directory for fetched files.

    Raises:
        CorruptArtifact: the calibration is missing or damaged.
        TryAgain: it was replaced and removed since the knowledge base was read.
    """
    named = base.head.calibration
    if named is None:
        return None
    if named.models != models:
        log.warning(
            "knowledge base %s: its calibration is for other models and is not used; make one for these with "
            "`zeshel kb calibrate`",
            base.name,
        )
        return None
    try:
        return _read(base.store, named.artifact, cache)
    except CorruptArtifact as error:
        if base.is_current():
            raise
        raise TryAgain(f"knowledge base {base.name}: others change it; try again") from error


def set_calibration(
    store: Store, name: str, calibration: OwnCalibration, biencoder: str, models: str, metrics: Metrics
) -> HeadCalibration:
    """Stores the calibration of a knowledge base. The entities may change at the same time.

    Args:
        store: the store.
        name: of the knowledge base.
        calibration: the calibration.
        biencoder: fingerprint of the bi-encoder whose scores it is for.
        models: fingerprint of all models.
        metrics: what it was fitted on, with ``mentions``, their number.

    Raises:
        ConfigError: there is no such knowledge base.
        TryAgain: another bi-encoder has encoded it in the meantime, or others change it all the time.
    """
    run = Run(store, uuid4().hex, changes_folder(name))
    with scratch_space() as scratch:
        path = scratch / OWN_FILE
        path.write_text(calibration.model_dump_json(indent=1))

        def work(job: Job) -> Metrics:
            job.attempt.add(OWN_FILE, path)
            return metrics

        job = Job(run, Recipe(), {}, Target(STAGE, None, {}, {}), scratch)
        inputs = {"calibration": sha256_of(path), "models": models}
        made = derived_artifact(job, STAGE, {}, inputs, work)
    folder = artifact_folder(STAGE, made.manifest.fingerprint)
    named = HeadCalibration(artifact=folder, models=models, mentions=int(metrics["mentions"]))
    for _ in range(_SWAPS):
        base = KnowledgeBase.read(store, name)
        if base.head.encoding.fingerprint != biencoder:
            break
        if base.replace_calibration(named):
            run.forget()
            return named
    raise TryAgain(f"knowledge base {name}: encoded again, or changed all the time; calibrate it again")


def _read(store: Store, folder: str, cache: Path) -> Own:
    manifest = read_kept_manifest(store, folder)
    if manifest is None:
        problem = "the calibration is missing from the store; make it again with `zeshel kb calibrate`"
        raise CorruptArtifact(problem, file=f"{store.address}/{folder}")
    path = Artifact(store, folder, manifest, cache).path(OWN_FILE)
    return Own(OwnCalibration.model_validate_json(path.read_bytes()), manifest.fingerprint)
