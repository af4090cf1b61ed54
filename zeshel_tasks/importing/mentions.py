"""Imports texts with mentions of a knowledge base: together they become a data set."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path

from zeshel_tasks.compute.termination import scratch_folder
from zeshel_tasks.config.splits import DEFAULT_SHARES, Shares, Split
from zeshel_tasks.data.json_lines import Record
from zeshel_tasks.data.raw_text import Span
from zeshel_tasks.errors import ConfigError, DataError
from zeshel_tasks.importing.annotated import AnnotatedText, Annotation, NoLabel, Reading
from zeshel_tasks.importing.bad_rows import BadRows, MaxSkipped
from zeshel_tasks.importing.entity_index import Entity, EntityIndex, UnknownEntity
from zeshel_tasks.importing.inputs import Input, check_length, fetched_files, input_at
from zeshel_tasks.importing.mention_files import write_mention_files
from zeshel_tasks.importing.mention_formats import MentionSource
from zeshel_tasks.importing.mention_table import MentionRow, MentionTable
from zeshel_tasks.importing.nil import NIL_LABELS
from zeshel_tasks.importing.offsets import Offsets
from zeshel_tasks.importing.publish import publish_data_set
from zeshel_tasks.importing.splits import SplitBy, assign_splits, check_worlds
from zeshel_tasks.location import located, store_location

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class MentionSettings:
    """What to do with the mentions of a format.

    Attributes:
        source: the format.
        world: of texts that do not name theirs; None if the knowledge base has one world.
        nil_if_unknown: a mention without a label, or of an unknown entity, counts as one without an entity.
        shares, split_by, seed: decide about the split of a mention that has none of its own.
        max_skipped: how many mentions and texts may be skipped.
    """

    source: MentionSource
    world: str | None = None
    nil_if_unknown: bool = False
    shares: Shares = DEFAULT_SHARES
    split_by: SplitBy = "document"
    seed: int = 7
    max_skipped: MaxSkipped = field(default_factory=MaxSkipped)


@dataclass(frozen=True)
class ImportedMentions:
    """Numbers of an import.

    Attributes:
        mentions: split -> number of mentions with an entity.
        nil: number of mentions without one.
        skipped: number of mentions and texts that could not be used.
        left_out: reason -> number of texts that their annotators have rejected.
    """

    mentions: dict[Split, int]
    nil: int
    skipped: int
    left_out: dict[str, int]


def import_mentions(
    sources: Sequence[tuple[str, Split | None]], entities: str, out: str, settings: MentionSettings
) -> ImportedMentions:
    """Writes a data set that ``download`` takes as its source.

    Memory holds one text. The scratch folder holds all texts and mentions, and an index of the entities.

    Args:
        sources: local files or objects of S3, each with the split of its mentions, or None if the shares decide.
        entities: a folder or an S3 prefix with ``documents/``.
        out: a new folder, an S3 prefix, or the one of the entities.
        settings: what to do with the mentions.

    Raises:
        ConfigError: a setting does not suit the mentions, or ``out`` has another data set.
        DataError: too many mentions cannot be used, or none can. Nothing was written to ``out``.
        StoreUnavailable: a store does not answer.
    """
    with scratch_folder() as scratch:
        copies = scratch / "inputs"
        copies.mkdir()
        inputs = [(input_at(address, copies), split) for address, split in sources]
        documents = fetched_documents(entities, scratch / "entities")
        index = EntityIndex(scratch / "entities.sqlite", settings.source.match)
        table = MentionTable(scratch / "mentions.sqlite")
        with closing(index), closing(table), BadRows(settings.max_skipped, scratch / "skipped.jsonl") as bad:
            for world, file in documents.items():
                index.add(world, file)
            index.finish()
            importer = _Importer(tuple(documents), index, table, bad, settings)
            for file, split in inputs:
                importer.read(file, split)
            bad.check_share(importer.used)
            assign_splits(table, settings.shares, settings.split_by, settings.seed)
            check_worlds(table)
            data = scratch / "data"
            counts, nil = write_mention_files(table, documents, data)
        if not counts:
            raise DataError(
                "no mentions with an entity", file=", ".join(source for source, _ in sources), expected="at least one"
            )
        if bad.count:
            (data / "skipped").mkdir()
            (scratch / "skipped.jsonl").rename(data / "skipped" / "mentions.jsonl")
        publish_data_set(out, data, scratch)
    return ImportedMentions(counts, nil, bad.count, dict(importer.reading.left_out))


def fetched_documents(address: str, folder: Path) -> dict[str, Input]:
    """Fetches the entities of a folder or an S3 prefix; returns the file of each world.

    Raises:
        ConfigError: there are none.
    """
    location = located("--entities", address, store_location)
    found = fetched_files(location, "documents", folder)
    if not found:
        raise ConfigError(f"--entities: expected documents/<world>.json in {location.name}, got none")
    return found


class _Importer:
    """Reads files of annotated texts into the table.

    Attributes:
        used: number of mentions so far.
    """

    def __init__(
        self, worlds: tuple[str, ...], index: EntityIndex, table: MentionTable, bad: BadRows, settings: MentionSettings
    ) -> None:
        self._worlds, self._index, self._table, self._bad, self._settings = worlds, index, table, bad, settings
        self.reading = Reading(settings.source.gold, bad, Counter())
        self.used = 0
        if settings.world not in (None, *worlds):
            raise ConfigError(f"--world: expected one of {', '.join(worlds)}, got {settings.world!r}")

    def read(self, file: Input, split: Split | None) -> None:
        """Reads a file. ``split`` is that of its mentions; if it is None, they may have their own."""
        for text in self._settings.source.format.read(file, self.reading):
            try:
                self._add(text, split)
            except DataError as error:
                self._bad(error)

    def _add(self, text: AnnotatedText, split: Split | None) -> None:
        world = self._world(text)
        if self._index.has(world, text.document_id) or self._table.has_text(world, text.document_id):
            expected = f"an id that no entity and no other text of {world} has"
            raise text.record.error("duplicate", field="id", expected=expected, got=text.document_id)
        check_length(text.record, "text", text.text)
        number = self._table.add_text(world, text.document_id, text.text)
        for row, place, name in self._rows(text, world, split):
            if self._table.add_mention(number, row):
                self.used += 1
            else:
                self._bad(place.error("duplicate", field=name, expected="each mention once", got=row.mention_id))

    def _rows(self, text: AnnotatedText, world: str, split: Split | None) -> Iterator[tuple[MentionRow, Record, str]]:
        """Yields the mentions of a text that can be used, each with its place and field for messages."""
        offsets, seen = Offsets(text.text, self._settings.source.unit), set[Span]()
        for annotation in text.annotations:
            place, name = annotation.place or text.record, annotation.field
            try:
                span = _span(text.text, annotation, offsets, place)
                if span in seen:
                    got = f"{span.start} to {span.end}"
                    raise place.error("duplicate", field=name, expected="each span once", got=got)
                gold, title = self._entity(annotation, world, place) or (None, "")
            except DataError as error:
                self._bad(error)
                continue
            seen.add(span)
            mention_id = annotation.mention_id or f"{world}:{text.document_id}:{span.start}-{span.end}"
            yield MentionRow(mention_id, gold, title, *span, split or annotation.split), place, name

    def _world(self, text: AnnotatedText) -> str:
        world = text.world or self._settings.world or (self._worlds[0] if len(self._worlds) == 1 else None)
        if world not in self._worlds:
            expected = f"one of {', '.join(self._worlds)}, or --world"
            raise text.record.error("unknown world", field="world", expected=expected, got=world)
        return world

    def _entity(self, annotation: Annotation, world: str, place: Record) -> Entity | None:
        label, name, skips = annotation.label, annotation.field, not self._settings.nil_if_unknown
        if isinstance(label, NoLabel):
            if skips:
                raise place.error("no label", field=name, expected="an entity, or --nil-if-unknown")
            return None
        if label is None or label in NIL_LABELS:
            return None
        try:
            entity = self._index.find(world, label, place, name)
        except UnknownEntity:
            if skips:
                raise
            return None
        title = annotation.title
        if title is not None and _squeezed(title).casefold() != _squeezed(entity.title).casefold():
            expected = f"{title!r}, which the mention names"
            raise place.error("another entity", field=name, expected=expected, got=repr(entity.title))
        return entity


def _span(text: str, annotation: Annotation, offsets: Offsets, place: Record) -> Span:
    try:
        span = offsets.span(annotation.start, annotation.end)
    except ValueError as error:
        got = f"{annotation.start} to {annotation.end}"
        raise place.error("wrong span", field=annotation.field, expected=str(error), got=got) from None
    found = text[span.start : span.end]
    if not found.strip():
        raise place.error("empty mention", field=annotation.field, expected="more than white space", got=repr(found))
    if annotation.text is not None and _squeezed(annotation.text) != _squeezed(found):
        expected = f"{annotation.text!r} from {annotation.start} to {annotation.end} (see --offsets)"
        raise place.error("another text", field=annotation.field, expected=expected, got=repr(found))
    return span


def _squeezed(text: str) -> str:
    """The text without white space, which tools change in their copies of mentions."""
    return "".join(text.split())
