"""Imports a knowledge base: its entities become a world of a data set."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from zeshel_tasks.compute.termination import scratch_folder
from zeshel_tasks.data.json_lines import BadLine, Record
from zeshel_tasks.data.zeshel import Document, document_line
from zeshel_tasks.errors import DataError
from zeshel_tasks.importing.bad_rows import BadRows, MaxSkipped
from zeshel_tasks.importing.entity_formats import EntityReader
from zeshel_tasks.importing.inputs import Input, input_at
from zeshel_tasks.importing.publish import publish
from zeshel_tasks.importing.seen_ids import SeenIds
from zeshel_tasks.store import open_store

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Imported:
    """Numbers of rows of an import."""

    used: int
    skipped: int


def import_entities(
    sources: Sequence[str], reader: EntityReader, out: str, world: str, max_skipped: MaxSkipped
) -> Imported:
    """Writes ``documents/<world>.json`` into ``out``, and ``skipped/documents-<world>.jsonl`` if rows were skipped.

    Memory holds a few rows. The scratch folder holds the world and an index of its ids.

    Args:
        sources: local files or objects of S3.
        reader: reads their format.
        out: a folder or an S3 prefix, which may hold other worlds.
        world: name of the world.
        max_skipped: how many rows may be skipped.

    Raises:
        ConfigError: a setting does not suit it, or ``out`` has another world of this name.
        DataError: too many rows cannot be used, or none can. Nothing was written to ``out``.
        StoreUnavailable: a store does not answer.
    """
    store = open_store(out)
    with scratch_folder() as scratch:
        documents, skipped = scratch / "documents.json", scratch / "skipped.jsonl"
        copies = scratch / "inputs"
        copies.mkdir()
        inputs = [input_at(source, copies) for source in sources]
        with BadRows(max_skipped, skipped) as bad:
            used = _write(read_entities(inputs, reader, scratch, bad), documents)
            bad.check_share(used)
        if not used:
            raise DataError("no entities", file=", ".join(sources), expected="at least one row that can be used")
        files = {f"skipped/documents-{world}.jsonl": skipped} if bad.count else {}
        publish(store, files | {f"documents/{world}.json": documents}, scratch)
    return Imported(used, bad.count)


def read_entities(inputs: Iterable[Input], reader: EntityReader, scratch: Path, on_bad: BadLine) -> Iterator[Document]:
    """Yields the entities of files, checked one by one. No id occurs twice among them.

    Args:
        inputs: the files, from :func:`~zeshel_tasks.importing.inputs.input_at`.
        reader: reads their format.
        scratch: a folder for an index of the ids, which is removed at the end.
        on_bad: receives the error of each row that cannot be used, which is skipped unless this raises the error.

    Raises:
        ConfigError: a setting does not suit a file.
        DataError: a file is damaged.
    """
    index = scratch / "ids.sqlite"
    with closing(SeenIds(index)) as seen:
        for file in inputs:
            for record in reader.rows(file, on_bad):
                try:
                    document = _document(record, reader, seen)
                except DataError as error:
                    on_bad(error)
                    continue
                yield document
    index.unlink()


def _document(record: Record, reader: EntityReader, seen: SeenIds) -> Document:
    document = reader.columns.document(record)
    seen.check(record, reader.columns.column("id"), document.document_id)
    return document


def _write(documents: Iterable[Document], path: Path) -> int:
    count = 0
    with path.open("wb") as file:
        for document in documents:
            count += file.write(document_line(document)) > 0
    return count
