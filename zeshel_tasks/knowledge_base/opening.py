"""Opens a knowledge base: assembles its live entities in one local folder.

Search, features and re-ranking then see one world, as if it had been built from its live entities in their order.
"""

from __future__ import annotations

import logging
import os
import shutil
import tempfile
from pathlib import Path

from zeshel_tasks.config import Recipe
from zeshel_tasks.data.document_file import DocumentFile
from zeshel_tasks.errors import ConfigError, CorruptArtifact, TryAgain
from zeshel_tasks.knowledge_base.head import KnowledgeBase, changes_folder
from zeshel_tasks.knowledge_base.keys import Live
from zeshel_tasks.knowledge_base.segments import copy_rows, segment_keys
from zeshel_tasks.linking import lexical
from zeshel_tasks.linking.entity_set import INDEX, EntitySet, EntitySetDescription
from zeshel_tasks.linking.lexical import LexicalIndex
from zeshel_tasks.pipeline.contract import derived_artifact
from zeshel_tasks.pipeline.job import Job
from zeshel_tasks.store import Metrics, Run, Store

log = logging.getLogger(__name__)

_READS = 5


def open_knowledge_base(store: Store, name: str, cache: Path, biencoder: str | None = None) -> EntitySet:
    """Returns the live entities of a knowledge base.

    The lexical index is made and stored by whoever opens the knowledge base first after a change.

    Args:
        store: the store.
        name: of the knowledge base.
        cache: local directory. A knowledge base that has not changed since it was opened there is not fetched again.
        biencoder: fingerprint of the bi-encoder that encodes the mentions; None for any.

    Raises:
        ConfigError: there is no such knowledge base, or another bi-encoder has encoded it.
        CorruptArtifact: a segment is missing or damaged.
        TryAgain: others change the knowledge base all the time.
    """
    for _ in range(_READS):
        base = KnowledgeBase.read(store, name)
        if biencoder not in (None, base.head.encoding.fingerprint):
            raise ConfigError(
                f"--kb: expected a knowledge base that the bi-encoder {biencoder:.12} has encoded, got {name}, which "
                f"{base.head.encoding.fingerprint:.12} has encoded; `zeshel kb refresh` encodes it again"
            )
        folder = cache / base.head.fingerprint
        try:
            if not folder.is_dir():
                _assemble(base, folder)
            return EntitySet.open(folder, name)
        except CorruptArtifact:
            if base.is_current():
                raise
            log.info("knowledge base %s has changed, opening it again", name)
    raise TryAgain(f"knowledge base {name}: others change it all the time; try again")


def _assemble(base: KnowledgeBase, folder: Path) -> None:
    """Writes all files into the new folder ``folder``, which appears when it is complete."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="unfinished-", dir=folder.parent) as scratch:
        part = Path(scratch) / "part"
        part.mkdir()
        found = [segment_keys(base.store, segment, Path(scratch) / "keys") for segment in base.head.segments]
        live = Live(found)
        if live.digest != base.head.documents:
            raise CorruptArtifact(
                "its segments have other entities than it names; build it again",
                file=f"{base.store.address}/kb/{base.name}",
                expected=f"{base.head.entities:,} entities",
                got=f"{len(live):,}",
            )
        identity = copy_rows(base.store, zip(base.head.segments, live.rows, strict=True), part)
        _add_index(base, part, Path(scratch))
        EntitySetDescription(
            fingerprint=base.head.fingerprint, biencoder=base.head.encoding.fingerprint, tokens_identity=identity
        ).write(part)
        try:
            part.rename(folder)
        except OSError:
            if not folder.is_dir():  # else another process was faster
                raise


def _add_index(base: KnowledgeBase, part: Path, scratch: Path) -> None:
    """Fetches the lexical index, or makes and stores it."""
    run = Run(base.store, f"index-{os.urandom(8).hex()}", changes_folder(base.name))
    index = base.head.index

    def work(job: Job) -> Metrics:
        (part / INDEX).mkdir()
        LexicalIndex.write(DocumentFile(part), part / INDEX)
        for name in lexical.FILES:
            job.attempt.add(f"{INDEX}/{name}", part / INDEX / name)
        return {"world": base.name, "entities": base.head.entities}

    job = Job(run, Recipe(), {}, index, scratch)
    made = derived_artifact(job, index.stage, index.config, index.inputs, work)
    if not (part / INDEX).is_dir():
        shutil.copytree(made.directory(INDEX), part / INDEX, copy_function=shutil.copyfile)
    run.forget()
