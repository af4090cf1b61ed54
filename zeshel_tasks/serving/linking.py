"""From a request to its answer: the same reading, linking and writing as ``zeshel link``."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, TypeVar

from zeshel_tasks.config.link import LinkMode
from zeshel_tasks.data.json_lines import Record
from zeshel_tasks.errors import ConfigError, DataError
from zeshel_tasks.link_files.answers import Answers
from zeshel_tasks.link_files.contexts import TextMention
from zeshel_tasks.link_files.lines import GivenMention
from zeshel_tasks.linking.linker import Linked
from zeshel_tasks.serving.batcher import Batcher, QueueFull
from zeshel_tasks.serving.metrics import Metrics
from zeshel_tasks.serving.problems import Problem
from zeshel_tasks.serving.schema import GivenDocument, LinkRequest
from zeshel_tasks.serving.served import ServedBase
from zeshel_tasks.text.json_text import to_json

_THREADS = 4
_FEW_MENTIONS, _FEW_CHARACTERS = 4, 50_000
"""What is read and written at once: it takes 1 to 3 ms, and a change of threads takes as long on a busy machine."""

T = TypeVar("T")
Gone = Callable[[], Coroutine[Any, Any, None]]


class ClientGone(Exception):
    """Nobody waits for the answer."""


class LinkService:
    """Answers requests.

    Args:
        batcher: links mentions.
        metrics: where to count.
    """

    def __init__(self, batcher: Batcher, metrics: Metrics) -> None:
        self._batcher, self._metrics = batcher, metrics
        self._threads = ThreadPoolExecutor(_THREADS, "requests")

    async def answer(self, request: LinkRequest, base: ServedBase, gone: Gone) -> bytes:
        """Returns the answer as JSON.

        Args:
            request: the request, within the limits.
            base: what links it, from its beginning to its end.
            gone: waits until the client has gone.

        Raises:
            Problem: a field is wrong, or too many mentions wait.
            ClientGone: the client has gone; what was not yet computed is dropped.
        """
        mode = request.mode or base.mode
        answers = _answers(request, base, mode)
        documents = await self._computed(request, lambda: _read(request, base))
        mentions = [given.mention for document in documents for given in document]
        found = await self._linked(base, mode, mentions, gone)
        return await self._computed(request, lambda: self._written(request, documents, found, answers))

    def close(self) -> None:
        """Ends the threads."""
        self._threads.shutdown()

    async def _linked(self, base: ServedBase, mode: LinkMode, mentions: list[TextMention], gone: Gone) -> list[Linked]:
        if not mentions:
            return []
        try:
            done = self._batcher.submit(base.linker, mode, mentions)
        except QueueFull as error:
            raise Problem.try_again(429, "too many mentions wait", error.seconds) from None
        return await _unless_gone(done, gone)

    async def _computed(self, request: LinkRequest, compute: Callable[[], T]) -> T:
        """Computes in a thread, so that a large request does not hold up others."""
        if _is_small(request):
            return compute()
        return await asyncio.get_running_loop().run_in_executor(self._threads, compute)

    def _written(
        self, request: LinkRequest, documents: list[list[GivenMention]], found: list[Linked], answers: Answers
    ) -> bytes:
        linked, written = iter(found), list[dict[str, Any]]()
        for document, mentions in zip(request.documents, documents, strict=True):
            links = [answers.of(given, next(linked)) for given in mentions]
            written.append(_returned(document) | {"links": links})
            self._metrics.mentions.labels(request.kb).inc(len(links))
            self._metrics.nil.labels(request.kb).inc(sum(link["nil"] for link in links))
        return to_json({"documents": written, "linked_by": answers.linked_by}).encode()


def _is_small(request: LinkRequest) -> bool:
    mentions = sum(len(document.mentions) for document in request.documents)
    return mentions <= _FEW_MENTIONS and sum(len(document.text) for document in request.documents) <= _FEW_CHARACTERS


def _answers(request: LinkRequest, base: ServedBase, mode: LinkMode) -> Answers:
    try:
        base.models.loaded.check(mode)
    except ConfigError as error:
        raise Problem.of_field("mode", str(error).removeprefix("mode: ")) from None
    try:
        return base.answers(request.top_k, request.threshold, mode)
    except ConfigError as error:
        field, _, reason = str(error).partition(": ")  # the setting of that name may suit only the usual mode
        raise Problem.of_field("mode" if request.threshold is None else field, reason) from None


def _read(request: LinkRequest, base: ServedBase) -> list[list[GivenMention]]:
    """Reads the mentions of each document."""
    reader, found = base.reader(request.offsets), list[list[GivenMention]]()
    for number, document in enumerate(request.documents):
        record = Record(document.model_dump(exclude_none=True, exclude={"metadata"}), "body", 1)
        try:
            found.append(reader.mentions(record))
        except DataError as error:
            raise Problem.of_data(error, f"documents[{number}]") from None
    return found


def _returned(document: GivenDocument) -> dict[str, Any]:
    """The fields of a document that come back."""
    return {name: getattr(document, name) for name in ("id", "metadata") if name in document.model_fields_set}


async def _unless_gone(done: Future[list[Linked]], gone: Gone) -> list[Linked]:
    """Waits for links, but not longer than their client does."""
    links, leaving = asyncio.wrap_future(done), asyncio.ensure_future(gone())
    try:
        await asyncio.wait((links, leaving), return_when=asyncio.FIRST_COMPLETED)
        if not links.done():
            raise ClientGone
        return links.result()
    finally:
        links.cancel()
        leaving.cancel()
