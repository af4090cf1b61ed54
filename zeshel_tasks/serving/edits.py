"""Changes of knowledge bases by requests, as ``zeshel kb add`` and ``remove`` make them.

A change is in the store when its request is answered. The follower of each replica then loads it from there.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor

from zeshel_tasks.config.retrieval import RetrievalConfig
from zeshel_tasks.data.json_lines import Record
from zeshel_tasks.data.zeshel import Document
from zeshel_tasks.errors import DataError
from zeshel_tasks.evaluation.entity_encoding import EntityEncoder
from zeshel_tasks.importing.entity_columns import EntityColumns
from zeshel_tasks.knowledge_base.changes import Changed, add, remove
from zeshel_tasks.knowledge_base.head import KnowledgeBase
from zeshel_tasks.serving.follower import StoreFollower
from zeshel_tasks.serving.metrics import Metrics
from zeshel_tasks.serving.problems import Problem
from zeshel_tasks.serving.schema import Edited, GivenEntity
from zeshel_tasks.store import Artifact, Store

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
        self._thread = ThreadPoolExecutor(1, "edits")
        self._waiting = 0
        self._encoder: tuple[str, EntityEncoder] | None = None

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

    def close(self) -> None:
        """Ends the thread after it has made the changes that wait."""
        self._thread.shutdown()

    async def _edit(self, name: str, change: Callable[[], Changed]) -> Edited:
        if self._waiting >= _MOST_WAITING:
            raise Problem.try_again(429, "too many changes wait", _RETRY_SECONDS)
        self._waiting += 1
        try:
            return await asyncio.get_running_loop().run_in_executor(self._thread, self._changed, name, change)
        except DataError as error:
            raise Problem(422, error.reason) from None
        finally:
            self._waiting -= 1

    def _changed(self, name: str, change: Callable[[], Changed]) -> Edited:
        changed = change()
        head = KnowledgeBase.read(self._store, name).head
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

    def _loaded(self, biencoder: Artifact, config: RetrievalConfig) -> EntityEncoder:
        """Returns the bi-encoder, and keeps it for the next change."""
        key = f"{biencoder.manifest.fingerprint} {config!r}"
        if self._encoder is None or self._encoder[0] != key:
            loaded = EntityEncoder.load(biencoder.directory("model"), config, self._follower.accelerator)
            self._encoder = key, loaded
        return self._encoder[1]


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
