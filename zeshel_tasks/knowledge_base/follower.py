"""Follows the changes of a knowledge base in a process that runs for long, while its entities are in use."""

from __future__ import annotations

import weakref
from contextlib import ExitStack
from pathlib import Path

from zeshel_tasks.compute.temporary import temporary_folder
from zeshel_tasks.knowledge_base.head import HeadIndex, KnowledgeBase
from zeshel_tasks.knowledge_base.indexing import IndexReader
from zeshel_tasks.knowledge_base.opening import assemble, newest
from zeshel_tasks.knowledge_base.segment_reader import SegmentReader
from zeshel_tasks.linking.entity_set import EntitySet
from zeshel_tasks.store import Store

_PREFIX = "followed-"


class Follower:
    """The entities of a knowledge base that changes while they are in use.

    An entity set stays usable as long as something refers to it. Then its local files are removed.

    Args:
        store: the store.
        name: of the knowledge base.
        cache: local directory, which may have other content. What a killed process has left there is removed.
        biencoder: fingerprint of the bi-encoder that encodes the mentions; None for any.

    Attributes:
        entities: those of the last update.

    Raises:
        ConfigError, CorruptArtifact, TryAgain: as :func:`open_knowledge_base`.
    """

    def __init__(self, store: Store, name: str, cache: Path, biencoder: str | None = None) -> None:
        self._store, self._name, self._cache, self._biencoder = store, name, cache, biencoder
        cache.mkdir(parents=True, exist_ok=True)
        stack = ExitStack()
        fetched = stack.enter_context(temporary_folder(_PREFIX, cache))
        weakref.finalize(self, stack.close)
        self._segments, self._indexes = SegmentReader(store, fetched, keep=True), IndexReader(fetched)
        self._index: HeadIndex | None = None
        self.entities = newest(store, name, biencoder, self._assembled)

    def update(self) -> bool:
        """Opens the entities of the newest version. Returns False if they are the same. Not for two threads at once.

        Fetches only new segments. After an error, :attr:`entities` is as before.

        Raises:
            ConfigError, CorruptArtifact, TryAgain: as :func:`open_knowledge_base`.
        """
        head = KnowledgeBase.read(self._store, self._name).head
        if head.fingerprint == self.entities.fingerprint and head.index == self._index:
            return False
        self.entities = newest(self._store, self._name, self._biencoder, self._assembled)
        return True

    def _assembled(self, base: KnowledgeBase) -> EntitySet:
        self._segments.forget(but=base.head.segments)
        with ExitStack() as stack:
            folder = stack.enter_context(temporary_folder(_PREFIX, self._cache))
            live = assemble(base, self._segments, folder)
            entities = self._indexes.indexed(base, EntitySet.open(folder, self._name), live)
            self._index = base.head.index
            weakref.finalize(entities, stack.pop_all().close)
        return entities
