"""The approximate index of a large knowledge base: an immutable artifact that its head names.

It is published only if it finds nearly everything that an exact search finds for a sample of mentions. It stays in use
when entities are added and removed. It knows its entities by their keys, as the segments do.
"""

from __future__ import annotations

import logging
import shutil
from pathlib import Path
from typing import NamedTuple
from uuid import uuid4

import numpy as np
import numpy.typing as npt
import torch

from zeshel_tasks.config.stages import Recipe
from zeshel_tasks.data.arrays import Rows, read_array
from zeshel_tasks.errors import ConfigError, CorruptArtifact, DataError, TryAgain
from zeshel_tasks.evaluation.approximate import ApproximateIndex, has_faiss, share_found
from zeshel_tasks.evaluation.candidates import Candidates
from zeshel_tasks.knowledge_base.head import HeadIndex, KnowledgeBase, changes_folder
from zeshel_tasks.knowledge_base.keys import Keys, Live, keys
from zeshel_tasks.linking.entity_set import EntitySet
from zeshel_tasks.pipeline.contract import derived_artifact, scratch_space
from zeshel_tasks.pipeline.job import Job, Target
from zeshel_tasks.store import Artifact, Metrics, Run, Store, artifact_folder
from zeshel_tasks.store.artifacts import read_kept_manifest, sha256_of

STAGE, FILE, CONTENTS = "knowledge-base-index", "vectors.faiss", "contents.npy"
LEAST_SHARE = 0.995
"""Share of the candidates of an exact search that an index must find."""
_LEAST_INDEXED = 0.5
"""Share of the entities that must still be those of an index. Below it, most of the time is that of the others."""
FIRST_PROBES = 16
"""Groups that a search looks at to begin with. The number is doubled until an index finds enough."""
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
        TryAgain: others have encoded the knowledge base again in the meantime, or change it all the time.
    """
    encoding = KnowledgeBase.read(store, name).head.encoding
    run = Run(store, uuid4().hex, changes_folder(name))
    with scratch_space() as scratch:
        path = scratch / FILE
        groups = ApproximateIndex.write(entities.vectors, path)
        measured = _measured(path, entities, groups, exact)
        log.info(
            "%s: %d of %d groups find %.2f%% of the candidates", name, measured.probes, groups, measured.share * 100
        )

        def work(job: Job) -> Metrics:
            np.save(scratch / CONTENTS, keys(entities.documents.lines()))
            for file in (FILE, CONTENTS):
                job.attempt.add(file, scratch / file)
            return {"entities": len(entities), "mentions": len(exact.rows), **measured._asdict()}

        job = Job(run, Recipe(), {}, Target(STAGE, None, {}, {}), scratch)
        inputs = {"entities": entities.fingerprint, "index": sha256_of(path)}
        made = derived_artifact(job, STAGE, {"probes": measured.probes}, inputs, work)
    named = HeadIndex(
        artifact=artifact_folder(STAGE, made.manifest.fingerprint),
        entities=len(entities),
        probes=measured.probes,
        share=measured.share,
    )
    for _ in range(_SWAPS):
        base = KnowledgeBase.read(store, name)
        if base.head.encoding != encoding or encoding.fingerprint != entities.biencoder:
            break
        if base.replace_index(named):
            run.forget()
            return named
    raise TryAgain(f"knowledge base {name}: encoded again, or changed all the time; index it again")


class IndexReader:
    """Opens the index of a knowledge base again and again, while its entities change. Fetches an index once.

    Args:
        cache: local directory for what is fetched.
    """

    def __init__(self, cache: Path) -> None:
        self._cache, self._opened = cache, dict[str, Artifact]()

    def indexed(self, base: KnowledgeBase, entities: EntitySet, live: Live) -> EntitySet:
        """Returns the entities with the index that the head names, if it has enough of them and faiss is installed.

        Args:
            base: the knowledge base.
            entities: its entities.
            live: their keys.

        Raises:
            CorruptArtifact: the index is missing or damaged.
            TryAgain: it was replaced and removed since the knowledge base was read.
        """
        named = base.head.index
        self._forget(but=named)
        if named is None:
            return entities
        if not has_faiss():
            log.warning("knowledge base %s: its index is not used, because faiss is not installed", base.name)
            return entities
        try:
            artifact = self._artifact(base.store, named.artifact)
            path, contents = artifact.path(FILE), read_array(artifact.path(CONTENTS))
        except CorruptArtifact as error:
            if base.is_current():
                raise
            raise TryAgain(f"knowledge base {base.name}: others change it; try again") from error
        places = _places(contents, live.contents)
        there = int((places >= 0).sum())
        log.info("knowledge base %s: its index has %d of %d entities", base.name, there, len(live))
        if there < _LEAST_INDEXED * len(live):
            log.warning("knowledge base %s: index it again with `zeshel kb index`; it is searched exactly", base.name)
            return entities
        return entities.with_index(ApproximateIndex(path, entities.vectors, named.probes, places))

    def _artifact(self, store: Store, folder: str) -> Artifact:
        if folder not in self._opened:
            self._opened[folder] = _artifact(store, folder, self._cache)
        return self._opened[folder]

    def _forget(self, but: HeadIndex | None) -> None:
        for folder in self._opened.keys() - ({but.artifact} if but else set()):
            del self._opened[folder]
            shutil.rmtree(self._cache / folder, ignore_errors=True)


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


def _places(indexed: Keys, live: Keys) -> Rows:
    """Returns where the entities of an index are now: int64 [indexed], -1 for one that is gone.

    An index has only the first of the live entities. So those from the first new one on do not count.
    """
    order = np.argsort(live, kind="stable")
    found = order[np.minimum(np.searchsorted(live, indexed, sorter=order), len(live) - 1)]
    places = np.where(live[found] == indexed, found, -1).astype(np.int64)
    known = np.zeros(len(live) + 1, dtype=np.bool_)
    known[places] = True  # the last one for all that are gone
    known[-1] = False
    places[places >= np.argmin(known)] = -1
    return places


def _measured(path: Path, entities: EntitySet, groups: int, exact: Candidates) -> Measured:
    """Returns the fewest groups, by powers of two, that find enough."""
    queries, positions = torch.from_numpy(exact.queries), np.asarray(exact.positions)
    probes = min(FIRST_PROBES, groups)
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
