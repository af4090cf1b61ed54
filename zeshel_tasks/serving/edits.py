"""Changes of knowledge bases by requests, as ``zeshel kb add`` and ``remove`` make them.

A change is in the store when its request is answered. The follower of each replica then loads it from there.
"""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from queue import SimpleQueue

from zeshel_tasks.champion.champions import read_champions
from zeshel_tasks.config.retrieval import RetrievalConfig
from zeshel_tasks.data.json_lines import Record
from zeshel_tasks.data.zeshel import Document
from zeshel_tasks.errors import ConfigError, CorruptArtifact, DataError, ZeshelError
from zeshel_tasks.evaluation.entity_encoding import EntityEncoder
from zeshel_tasks.importing.entity_columns import EntityColumns
from zeshel_tasks.knowledge_base.changes import Changed, add, remove
from zeshel_tasks.knowledge_base.head import KnowledgeBase
from zeshel_tasks.serving.follower import StoreFollower
from zeshel_tasks.serving.metrics import Metrics
from zeshel_tasks.serving.problems import Problem
from zeshel_tasks.serving.schema import Edited, GivenEntity
from zeshel_tasks.store import Artifact, Store
from zeshel_tasks.store.artifacts import read_manifest

log = logging.getLogger(__name__)

_MOST_WAITING = 16
_RETRY_SECONDS = 5


class Editor:
    """Changes knowledge bases, one change after the other, in a thread of its own.

    Args:
        store: the store.
        follower: knows what is served, and learns of each change.
        metrics: where to count.
    """

    def __init__(self, store: Store, follower: StoreFollower, metrics: Metrics) -> None:
        self._store, self._follower, self._metrics = store, follower, metrics
        self._waiting = 0
        self._encoder: tuple[str, EntityEncoder] | None = None
        self._jobs = SimpleQueue[tuple[Callable[[], Edited], Future[Edited]] | None]()
        # An executor would not do: Python waits for its threads before it ends.
        self._thread = threading.Thread(target=self._loop, name="edits", daemon=True)
        self._thread.start()

    async def put(self, name: str, entities: Sequence[GivenEntity]) -> Edited:
        """Adds entities, and replaces those that differ.

        Raises:
            Problem: an entity cannot be used, or the store does not take the change.
        """
        documents = _documents(entities)
        return await self._edit(name, lambda: add(self._store, name, documents, load=self._loaded))

    async def delete(self, name: str, ids: Sequence[str]) -> Edited:
        """Removes entities. Ids that the knowledge base does not have are left alone.

        Raises:
            Problem: no entity would be left, or the store does not take the change.
        """
        return await self._edit(name, lambda: remove(self._store, name, ids, unknown_ok=True))

    def forget(self) -> None:
        """Frees the bi-encoder that is kept for the next change."""
        self._encoder = None

    def close(self, seconds: float) -> bool:
        """Ends the thread. Returns False if it is busy after these seconds.

        If the process then ends, the change was made or not, as after SIGKILL: only its last step, the swap of the
        head, is visible.
        """
        self._jobs.put(None)
        self._thread.join(seconds)
        return not self._thread.is_alive()

    async def _edit(self, name: str, change: Callable[[], Changed]) -> Edited:
        if self._waiting >= _MOST_WAITING:
            raise Problem.try_again(429, "too many changes wait", _RETRY_SECONDS)
        self._waiting += 1
        done = Future[Edited]()
        self._jobs.put((lambda: self._changed(name, change), done))
        try:
            return await asyncio.wrap_future(done)
        finally:
            self._waiting -= 1

    def _loop(self) -> None:
        while (job := self._jobs.get()) is not None:
            change, done = job
            if done.set_running_or_notify_cancel():
                try:
                    done.set_result(change())
                except BaseException as error:
                    done.set_exception(error)

    def _changed(self, name: str, change: Callable[[], Changed]) -> Edited:
        try:
            changed = change()
        except (ConfigError, CorruptArtifact) as error:
            raise self._refused(name, error) from None
        except DataError as error:
            raise Problem(422, error.reason) from None
        head = KnowledgeBase.read(self._store, name).head
        counts = changed.added, changed.updated, changed.removed
        if any(counts):
            log.info("%s: a request has added %d entities, updated %d and removed %d", name, *counts)
        self._metrics.edits.labels(name).inc()
        self._follower.look_now()
        return Edited(
            kb=name,
            entities=changed.entities,
            added=changed.added,
            updated=changed.updated,
            removed=changed.removed,
            kb_fingerprint=head.fingerprint,
        )

    def _refused(self, name: str, error: ZeshelError) -> Problem:
        """Tells a knowledge base that cannot be changed from a store that has vanished, refuses or is damaged."""
        if isinstance(error, ConfigError) and self._is_deleted(name):
            return Problem(409, str(error))
        log.error("%s was not changed: %s", name, error)
        return Problem.try_again(503, "the store does not take the change; the log says why", _RETRY_SECONDS)

    def _is_deleted(self, name: str) -> bool:
        """Returns True if the knowledge base or its bi-encoder was deleted from a store that is still there."""
        try:
            base = KnowledgeBase.read(self._store, name)
            is_there = base.exists and read_manifest(self._store, base.head.encoding.biencoder) is not None
            return not is_there and read_champions(self._store).champion is not None
        except ZeshelError:
            return False

    def _loaded(self, biencoder: Artifact, config: RetrievalConfig) -> EntityEncoder:
        """Returns the bi-encoder, and keeps it for the next change."""
        key, kept = f"{biencoder.manifest.fingerprint} {config!r}", self._encoder
        if kept is None or kept[0] != key:
            kept = self._encoder = key, EntityEncoder.load(biencoder.directory("model"), config)
        return kept[1]


def _documents(entities: Sequence[GivenEntity]) -> list[Document]:
    """Checks entities as an import does."""
    columns, seen, found = EntityColumns(), set[str](), list[Document]()
    for number, entity in enumerate(entities):
        within = f"entities[{number}]"
        try:
            document = columns.document(Record(entity.model_dump(), "body", 1))
        except DataError as error:
            raise Problem.of_data(error, within) from None
        if document.document_id in seen:
            raise Problem.of_field(f"{within}.id", "an earlier entity has the same id")
        seen.add(document.document_id)
        found.append(document)
    return found
