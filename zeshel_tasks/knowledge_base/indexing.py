"""The approximate index of a large knowledge base: an immutable artifact that its head names while its entities stay.

It is published only if it finds nearly everything that an exact search finds for a sample of mentions.
"""

from __future__ import annotations

import logging
from pathlib import Path
from typing import NamedTuple
from uuid import uuid4

import numpy as np
import numpy.typing as npt
import torch

from zeshel_tasks.config.stages import Recipe
from zeshel_tasks.errors import ConfigError, CorruptArtifact, DataError, TryAgain
from zeshel_tasks.evaluation.approximate import ApproximateIndex, has_faiss, share_found
from zeshel_tasks.evaluation.candidates import Candidates
from zeshel_tasks.knowledge_base.head import HeadIndex, KnowledgeBase, changes_folder
from zeshel_tasks.linking.entity_set import EntitySet
from zeshel_tasks.pipeline.contract import derived_artifact, scratch_space
from zeshel_tasks.pipeline.job import Job, Target
from zeshel_tasks.store import Artifact, Metrics, Run, Store, artifact_folder
from zeshel_tasks.store.artifacts import read_kept_manifest, sha256_of

STAGE, FILE = "knowledge-base-index", "vectors.faiss"
LEAST_SHARE = 0.995
"""Share of the candidates of an exact search that an index must find."""
_FIRST_PROBES = 16
_SWAPS = 20

log = logging.getLogger(__name__)


class Measured(NamedTuple):
    """How well an index searches: groups it has, groups that a search looks at, and the share that it finds."""

    groups: int
    probes: int
    share: float


def set_index(store: Store, name: str, entities: EntitySet, exact: Candidates) -> HeadIndex:
    """Makes the index of a knowledge base and publishes it.

    Args:
        store: the store.
        name: of the knowledge base.
        entities: its entities.
        exact: the candidates of a sample of mentions by exact search.

    Raises:
        ConfigError: faiss is not installed.
        DataError: the index finds less than :data:`LEAST_SHARE`, also if it looks at all groups.
        TryAgain: the entities have changed in the meantime, or others change the knowledge base all the time.
    """
    run = Run(store, uuid4().hex, changes_folder(name))
    with scratch_space() as scratch:
        path = scratch / FILE
        groups = ApproximateIndex.write(entities.vectors, path)
        measured = _measured(path, entities, groups, exact)
        log.info(
            "%s: %d of %d groups find %.2f%% of the candidates", name, measured.probes, groups, measured.share * 100
        )

        def work(job: Job) -> Metrics:
            job.attempt.add(FILE, path)
            return {"entities": len(entities), "mentions": len(exact.rows), **measured._asdict()}

        job = Job(run, Recipe(), {}, Target(STAGE, None, {}, {}), scratch)
        inputs = {"entities": entities.fingerprint, "index": sha256_of(path)}
        made = derived_artifact(job, STAGE, {"probes": measured.probes}, inputs, work)
    named = HeadIndex(
        artifact=artifact_folder(STAGE, made.manifest.fingerprint),
        entities=entities.fingerprint,
        probes=measured.probes,
        share=measured.share,
    )
    for _ in range(_SWAPS):
        base = KnowledgeBase.read(store, name)
        if base.head.fingerprint != entities.fingerprint:
            break
        if base.replace_index(named):
            run.forget()
            return named
    raise TryAgain(f"knowledge base {name}: changed in the meantime; index it again")


def indexed(base: KnowledgeBase, entities: EntitySet, cache: Path) -> EntitySet:
    """Returns the entities with the index that the head names, if there is one for them and faiss is installed.

    Raises:
        CorruptArtifact: the index is missing or damaged.
        TryAgain: it was replaced and removed since the knowledge base was read.
    """
    named = base.head.index
    if named is None or named.entities != entities.fingerprint:
        return entities
    if not has_faiss():
        log.warning("knowledge base %s: its index is not used, because faiss is not installed", base.name)
        return entities
    try:
        path = _artifact(base.store, named.artifact, cache).path(FILE)
    except CorruptArtifact as error:
        if base.is_current():
            raise
        raise TryAgain(f"knowledge base {base.name}: others change it; try again") from error
    return entities.with_index(ApproximateIndex(path, entities.vectors, named.probes))


def check_size(entities: int, least: int) -> None:
    """Checks that a knowledge base is so large that an index pays off.

    Raises:
        ConfigError: it is smaller.
    """
    if entities < least:
        raise ConfigError(
            f"--name: expected a knowledge base of at least {least:,} entities (--min-entities), got one of "
            f"{entities:,}, which is searched exactly"
        )


def _measured(path: Path, entities: EntitySet, groups: int, exact: Candidates) -> Measured:
    """Returns the fewest groups, by powers of two, that find enough."""
    queries, positions = torch.from_numpy(exact.queries), np.asarray(exact.positions)
    probes = min(_FIRST_PROBES, groups)
    while True:
        share = _share(ApproximateIndex(path, entities.vectors, probes), queries, positions)
        if share >= LEAST_SHARE:
            return Measured(groups, probes, share)
        if probes == groups:
            expected = f"{LEAST_SHARE:.1%} of what an exact search finds"
            raise DataError("the index is not published", file=entities.name, expected=expected, got=f"{share:.2%}")
        probes = min(2 * probes, groups)


def _share(index: ApproximateIndex, queries: torch.Tensor, exact: npt.NDArray[np.int64]) -> float:
    return share_found(index.top_k(queries, exact.shape[1])[1].numpy(), exact)


def _artifact(store: Store, folder: str, cache: Path) -> Artifact:
    manifest = read_kept_manifest(store, folder)
    if manifest is None:
        problem = "the index is missing from the store; make it again with `zeshel kb index`"
        raise CorruptArtifact(problem, file=f"{store.address}/{folder}")
    return Artifact(store, folder, manifest, cache)
