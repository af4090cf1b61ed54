"""Opens a knowledge base: assembles its live entities in one local folder.

Search, features and re-ranking then see one world, as if it had been built from its live entities in their order. The
words of the segments were counted when these were made, so the lexical index is only merged and weighted.
"""

from __future__ import annotations

import logging
import tempfile
from collections.abc import Callable
from pathlib import Path

from zeshel_tasks.errors import ConfigError, CorruptArtifact, TryAgain
from zeshel_tasks.knowledge_base.head import KnowledgeBase
from zeshel_tasks.knowledge_base.keys import Live
from zeshel_tasks.knowledge_base.segment_reader import SegmentReader
from zeshel_tasks.linking.entity_set import INDEX, EntitySet, EntitySetDescription
from zeshel_tasks.linking.lexical import LexicalIndex
from zeshel_tasks.store import Store

log = logging.getLogger(__name__)

_READS = 5
_LAYOUT = "2"  # of a local copy; an earlier version has left others in a cache


def open_knowledge_base(store: Store, name: str, cache: Path, biencoder: str | None = None) -> EntitySet:
    """Returns the live entities of a knowledge base.

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

    def assembled(base: KnowledgeBase) -> EntitySet:
        folder = cache / f"{base.head.fingerprint}-{_LAYOUT}"
        if not folder.is_dir():
            cache.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryDirectory(prefix="unfinished-", dir=cache) as scratch:
                part = Path(scratch) / "part"
                assemble(base, SegmentReader(store, Path(scratch) / "segments"), part)
                try:
                    part.rename(folder)
                except OSError:
                    if not folder.is_dir():  # else another process was faster
                        raise
        return EntitySet.open(folder, name)

    return newest(store, name, biencoder, assembled)


def newest(
    store: Store, name: str, biencoder: str | None, assembled: Callable[[KnowledgeBase], EntitySet]
) -> EntitySet:
    """Assembles the newest version, and a newer one if segments disappear because of another change."""
    for _ in range(_READS):
        base = KnowledgeBase.read(store, name)
        if biencoder is not None:
            check_biencoder(base, biencoder)
        try:
            return assembled(base)
        except CorruptArtifact:
            if base.is_current():
                raise
            log.info("knowledge base %s has changed, opening it again", name)
    raise TryAgain(f"knowledge base {name}: others change it all the time; try again")


def check_biencoder(base: KnowledgeBase, biencoder: str) -> None:
    """Checks that the bi-encoder with this fingerprint has encoded the entities.

    Raises:
        ConfigError: another one has, or there is no such knowledge base.
    """
    if (encoded_by := base.head.encoding.fingerprint) != biencoder:
        raise ConfigError(
            f"--kb: expected a knowledge base that the bi-encoder {biencoder:.12} has encoded, got {base.name}, which "
            f"{encoded_by:.12} has encoded; `zeshel kb refresh` encodes it again"
        )


def assemble(base: KnowledgeBase, segments: SegmentReader, folder: Path) -> Live:
    """Writes all files of an entity set into ``folder``, and returns which entities these are."""
    folder.mkdir(exist_ok=True)
    live = Live([segments.keys(segment) for segment in base.head.segments])
    if live.digest != base.head.documents:
        raise CorruptArtifact(
            "its segments have other entities than it names; build it again",
            file=f"{base.store.address}/kb/{base.name}",
            expected=f"{base.head.entities:,} entities",
            got=f"{len(live):,}",
        )
    parts = list(zip(base.head.segments, live.rows, strict=True))
    identity = segments.copy_rows(parts, folder)
    LexicalIndex.write_merged(segments.words(parts), folder / INDEX)
    EntitySetDescription(
        fingerprint=base.head.fingerprint, biencoder=base.head.encoding.fingerprint, tokens_identity=identity
    ).write(folder)
    return live
