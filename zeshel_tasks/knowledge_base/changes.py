"""Changes of a knowledge base: build, add, remove, refresh, compact and delete.

Each makes its segments first and then swaps the head. If it is killed, the head is as before, and the next attempt
reuses the segments that were finished.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from zeshel_tasks.data.zeshel import Document, document_line
from zeshel_tasks.errors import ConfigError, CorruptArtifact, DataError, TryAgain
from zeshel_tasks.knowledge_base import head
from zeshel_tasks.knowledge_base.head import Encoding, KnowledgeBase, Segment
from zeshel_tasks.knowledge_base.keys import Flags, Keys, Known, Live, SegmentKeys, keys
from zeshel_tasks.knowledge_base.segment_reader import SegmentReader
from zeshel_tasks.knowledge_base.segments import Change
from zeshel_tasks.pipeline.contract import scratch_space
from zeshel_tasks.store import Store

log = logging.getLogger(__name__)

_SWAPS = 20
_AT_ONCE = 1024  # entities that are compared at once
_SHOWN = 5  # unknown ids in a message


@dataclass(frozen=True)
class Changed:
    """What a change did.

    Attributes:
        entities: live entities after it.
        added, updated, removed: entities that are new, have another text, or are gone.
        encoded: entities that this attempt encoded; others were encoded before.
        cut: segments that are left to other machines. Until these have encoded them, nothing changes.
    """

    entities: int
    added: int = 0
    updated: int = 0
    removed: int = 0
    encoded: int = 0
    cut: int = 0


class _Editor:
    """Reads and swaps the head of one knowledge base."""

    def __init__(self, store: Store, name: str, scratch: Path) -> None:
        self.store, self.scratch = store, scratch
        self.base = KnowledgeBase.read(store, name)
        self.segments = SegmentReader(store, scratch / "segments")
        self._keys: dict[str, SegmentKeys] = {}

    def live(self, segments: Sequence[Segment]) -> Live:
        """Returns which entities of the segments are live."""
        for segment in segments:
            if segment.artifact not in self._keys:
                self._keys[segment.artifact] = self.segments.keys(segment)
        return Live([self._keys[segment.artifact] for segment in segments])

    def all_ids(self, segments: Sequence[Segment]) -> Keys:
        """Returns the keys of all ids of segments, also of those that are not live."""
        return np.concatenate([self._keys[segment.artifact].ids for segment in segments])

    def parts(self) -> list[tuple[Segment, Flags]]:
        """Returns the segments with their live rows."""
        segments = self.base.head.segments
        return list(zip(segments, self.live(segments).rows, strict=True))

    def swap(self, encoding: Encoding, segments: Sequence[Segment]) -> Live | None:
        """Makes ``segments`` those of the head. Returns None if the head has changed since it was read.

        Raises:
            DataError: no entity would be left.
        """
        live = self.live(segments)
        if not len(live):
            raise DataError("no entity would be left; `zeshel kb delete` deletes a knowledge base", file=self.base.name)
        if not self.base.replace(encoding, tuple(segments), len(live), live.digest):
            return None
        return live

    def append(self, encoding: Encoding, segments: Sequence[Segment]) -> Live:
        """Appends segments to the head, after those that others have appended in the meantime.

        Raises:
            TryAgain: the knowledge base was encoded again in the meantime, or others are always faster.
        """
        for _ in range(_SWAPS):
            if self.base.head.encoding != encoding:
                break
            live = self.swap(encoding, (*self.base.head.segments, *segments))
            if live is not None:
                return live
            self.read_again()
        raise self.changed()

    def read_again(self) -> None:
        """Reads the head that another change has written."""
        self.base = KnowledgeBase.read(self.store, self.base.name)

    def changed(self) -> TryAgain:
        """Returns the error of a change that another one has overtaken."""
        return TryAgain(f"knowledge base {self.base.name}: changed at the same time; nothing is lost, try again")


@contextmanager
def _editor(store: Store, name: str) -> Iterator[_Editor]:
    """An editor, with a scratch folder.

    Raises:
        TryAgain: a segment was removed while it was read, after another change had replaced it.
    """
    with scratch_space() as scratch:
        editor = _Editor(store, name, scratch)
        try:
            yield editor
        except CorruptArtifact:
            if editor.base.is_current():
                raise
            raise editor.changed() from None


def build(
    store: Store,
    name: str,
    documents: Iterable[Document],
    encoding: Encoding,
    sharded_from: int | None = None,
    **options: Any,
) -> Changed:
    """Makes a knowledge base of these entities, or replaces all entities of one.

    Args:
        store: the store.
        name: of the knowledge base.
        documents: the entities; no id may occur twice.
        encoding: what encodes them.
        sharded_from: only cut more entities than these into segments, for other machines; None to encode them all.
        options: ``load``, ``record`` and settings, see :class:`~zeshel_tasks.knowledge_base.segments.Change`; also for
            the other functions.

    Raises:
        ConfigError: the name is not valid.
        DataError: there are no entities, or an id occurs twice.
        TryAgain: the knowledge base was changed at the same time.
    """
    with _editor(store, name) as editor:
        change = Change(store, name, encoding, editor.scratch, **options)
        lines = change.cut_if_many(map(document_line, documents), sharded_from)
        if lines is None:
            return Changed(entities=editor.base.head.entities if editor.base.exists else 0, cut=change.cut)
        segments = change.encode(lines)
        live = _replaced(editor, encoding, segments)
        change.finish()
    return Changed(entities=len(live), added=len(live), encoded=change.encoded)


def add(store: Store, name: str, documents: Iterable[Document], **options: Any) -> Changed:
    """Adds the entities that are new and replaces those that have another text. The others are left alone.

    Raises:
        ConfigError: there is no such knowledge base, or its bi-encoder was deleted.
        DataError: an id occurs twice.
        TryAgain: the knowledge base was encoded again at the same time.
    """
    with _editor(store, name) as editor:
        encoding, live = editor.base.head.encoding, editor.live(editor.base.head.segments)
        change = Change(store, name, encoding, editor.scratch, **options)
        news = _News(live)
        segments = change.encode(news.of(documents))
        _check_ids(editor, segments)
        if segments:
            live = editor.append(encoding, segments)
        change.finish()
    _merge_if_many(store, name)
    return Changed(entities=len(live), added=news.added, updated=news.updated, encoded=change.encoded)


def remove(store: Store, name: str, ids: Sequence[str], *, unknown_ok: bool = False) -> Changed:
    """Removes entities. Those that were removed before are left alone, so that a killed command can be repeated.

    Args:
        store: the store.
        name: of the knowledge base.
        ids: of the entities.
        unknown_ok: leave ids alone that the knowledge base does not have. A compacted one has forgotten those that were
            removed before.

    Raises:
        ConfigError: there is no such knowledge base.
        DataError: an id was never known, or no entity would be left. Nothing was changed.
        TryAgain: others change the knowledge base all the time.
    """
    with _editor(store, name) as editor:
        wanted = list(dict.fromkeys(ids))
        before = editor.base.head
        live = editor.live(before.segments)
        of_ids = keys(document_id.encode("utf-8", "surrogatepass") for document_id in wanted)
        if not unknown_ok:
            _check_known(editor, wanted, of_ids)
        found = of_ids[Known(live.ids).has(of_ids)]
        if len(found):
            change = Change(store, name, before.encoding, editor.scratch)
            live = editor.append(before.encoding, [change.removal(found)])
            change.finish()
    _merge_if_many(store, name)
    return Changed(entities=len(live), removed=len(found))


def refresh(store: Store, name: str, encoding: Encoding, sharded_from: int | None = None, **options: Any) -> Changed:
    """Encodes all entities again, with another bi-encoder or other settings. Does nothing if they are the same.

    The arguments are those of :func:`build`.

    Raises:
        ConfigError: there is no such knowledge base.
        TryAgain: the knowledge base was changed at the same time.
    """
    with _editor(store, name) as editor:
        change = Change(store, name, encoding, editor.scratch, **options)
        if editor.base.head.encoding == encoding:
            change.finish()  # an earlier attempt may have been killed before
            return Changed(entities=editor.base.head.entities)
        lines = change.cut_if_many(editor.segments.lines(editor.parts()), sharded_from)
        if lines is None:
            return Changed(entities=editor.base.head.entities, cut=change.cut)
        segments = change.encode(lines)
        live = editor.swap(encoding, segments)
        if live is None:
            raise editor.changed()
        change.finish()
    return Changed(entities=len(live), encoded=change.encoded)


def compact(store: Store, name: str) -> Changed:
    """Merges small segments and leaves out what is not live. Encodes nothing, and keeps the order of the entities.

    Raises:
        ConfigError: there is no such knowledge base.
        TryAgain: the knowledge base was built or encoded again at the same time.
    """
    with _editor(store, name) as editor:
        before = editor.base.head
        change = Change(store, name, before.encoding, editor.scratch)
        merged = tuple(_merged(change, editor.parts()))
        for _ in range(_SWAPS):
            now, count = editor.base.head, len(before.segments)
            if now.encoding != before.encoding or now.segments[:count] != before.segments:
                break
            live = editor.swap(now.encoding, (*merged, *now.segments[count:]))
            if live is not None:
                change.finish()
                return Changed(entities=len(live))
            editor.read_again()
        raise editor.changed()


def delete(store: Store, name: str) -> None:
    """Deletes a knowledge base, also one whose head is broken. The next cleanup removes its segments.

    Raises:
        ConfigError: there is no such knowledge base.
    """
    try:
        base = KnowledgeBase.read(store, name)
    except CorruptArtifact:
        log.info("deleting the knowledge base %s, whose head is broken", name)
        base = KnowledgeBase(store, name, None, None)
    else:
        log.info("deleting the knowledge base %s of %d entities", name, base.head.entities)
    base.delete()


class _News:
    """Tells the entities of an input that a knowledge base does not have in the same form, and counts them."""

    def __init__(self, live: Live) -> None:
        self._ids, self._contents = Known(live.ids), Known(live.contents)
        self.added = self.updated = 0

    def of(self, documents: Iterable[Document]) -> Iterator[bytes]:
        rest = iter(documents)
        while some := list(islice(rest, _AT_ONCE)):
            lines = [document_line(document) for document in some]
            is_known = self._ids.has(keys(document.document_id.encode() for document in some))
            is_same = self._contents.has(keys(lines))
            self.updated += int((is_known & ~is_same).sum())
            self.added += int((~is_known).sum())
            yield from (line for line, same in zip(lines, is_same, strict=True) if not same)


def _replaced(editor: _Editor, encoding: Encoding, segments: Sequence[Segment]) -> Live:
    """Makes ``segments`` those of the head, unless another change was faster."""
    if not segments:
        raise DataError("no entities", file=editor.base.name, expected="at least one")
    _check_ids(editor, segments)
    live = editor.swap(encoding, segments)
    if live is None:
        raise editor.changed()
    return live


def _check_ids(editor: _Editor, segments: Sequence[Segment]) -> None:
    """The readers of files refuse an id that occurs twice, with its line. This is for other callers."""
    entities = sum(segment.entities for segment in segments)
    distinct = len(editor.live(segments))
    if distinct != entities:
        raise DataError("ids that occur twice", expected="each id once", got=f"{entities - distinct:,} again")


def _check_known(editor: _Editor, ids: Sequence[str], of_ids: Keys) -> None:
    """Refuses an id that no segment has."""
    ever = Known(editor.all_ids(editor.base.head.segments)).has(of_ids)
    unknown = [document_id for document_id, is_known in zip(ids, ever, strict=True) if not is_known]
    if unknown:
        more = f" and {len(unknown) - _SHOWN:,} more" if len(unknown) > _SHOWN else ""
        got = ", ".join(unknown[:_SHOWN]) + more
        raise DataError("unknown ids", expected=f"ids of entities of {editor.base.name}", got=got)


def _merge_if_many(store: Store, name: str) -> None:
    """Compacts a knowledge base that many small changes have left in many segments. It is no harm if that fails."""
    try:
        if KnowledgeBase.read(store, name).head.has_many_small_segments:
            log.info("knowledge base %s: merging its small segments", name)
            compact(store, name)
    except (ConfigError, TryAgain) as error:
        log.info("knowledge base %s was not compacted: %s", name, error)


def _merged(change: Change, parts: Iterable[tuple[Segment, Flags]]) -> Iterator[Segment]:
    """Yields segments with the live rows of adjacent ones, as long as they fit together."""
    group: list[tuple[Segment, Flags]] = []
    for segment, flags in (part for part in parts if part[1].any()):
        if group and sum(int(live.sum()) for _, live in (*group, (segment, flags))) > head.SEGMENT_ENTITIES:
            yield _one(change, group)
            group = []
        group.append((segment, flags))
    if group:
        yield _one(change, group)


def _one(change: Change, group: Sequence[tuple[Segment, Flags]]) -> Segment:
    if len(group) == 1 and group[0][1].all():
        return group[0][0]
    return change.merge(group)
