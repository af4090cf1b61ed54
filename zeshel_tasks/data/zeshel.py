"""Reads a data set in ZESHEL's format, strictly and one world at a time.

    documents/<world>.json         lines of {"document_id", "title", "text"}, the entities of a world
    contexts/<world>.json          lines of {"document_id", "text"}, pages with mentions that are no entities; optional
    mentions/<split>.json          lines of {"mention_id", "context_document_id", "corpus", "start_index", "end_index",
                                    "text", "label_document_id", "category"}

A document may also have "url" (string), "aliases" and "types" (lists of strings). Other fields are ignored.
Single spaces separate tokens. ``start_index`` and ``end_index`` count tokens from 0, both inclusive.
Source: Logeswaran et al. 2019, "Zero-Shot Entity Linking by Reading Entity Descriptions".
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unicodedata import normalize

from zeshel_tasks.config.splits import SPLITS, Split
from zeshel_tasks.data.json_lines import BadLine, Record, read_records
from zeshel_tasks.errors import DataError
from zeshel_tasks.text.json_text import to_json

MENTION_FILES: dict[Split, str] = {
    "train": "train.json",
    "valid": "val.json",
    "test": "test.json",
    "heldout_train_seen": "heldout_train_seen.json",
    "heldout_train_unseen": "heldout_train_unseen.json",
}
SHOWN_BAD_LINES = 5

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Document:
    """The page of an entity.

    Attributes:
        url: address of the page; None if unknown.
        aliases: other names of the entity.
        types: classes of the entity, such as ``person``.
    """

    document_id: str
    title: str
    text: str
    url: str | None = None
    aliases: tuple[str, ...] = ()
    types: tuple[str, ...] = ()


def document_line(document: Document) -> bytes:
    """Returns an entity as a line of a ZESHEL documents file. Equal entities have equal lines."""
    values: dict[str, Any] = {"document_id": document.document_id, "title": document.title, "text": document.text}
    optional = {"url": document.url, "aliases": list(document.aliases), "types": list(document.types)}
    values |= {name: value for name, value in optional.items() if value}
    return to_json(values, ensure_ascii=False).encode() + b"\n"


@dataclass(frozen=True, slots=True)
class Context:
    """A page with mentions that is no entity, and so no candidate."""

    document_id: str
    text: str


@dataclass(frozen=True, slots=True)
class Mention:
    """A span of a page that refers to an entity of the same world; ``line`` is its line in the file, from 1."""

    mention_id: str
    context_document_id: str
    world: str
    start_index: int
    end_index: int
    text: str
    label_document_id: str
    category: str
    line: int


@dataclass(frozen=True, slots=True)
class DatasetSummary:
    """The content of a data set.

    Attributes:
        documents: world -> number of entities.
        mentions: split -> world -> number of readable mentions, for the splits that exist.
        bad_mentions: split -> number of unreadable mention lines; ``convert`` decides how to treat them.
    """

    documents: dict[str, int]
    mentions: dict[str, dict[str, int]]
    bad_mentions: dict[str, int]


class Dataset:
    """A data set in a folder.

    Args:
        root: the folder that holds ``documents/`` and ``mentions/``.
        name: prefix of file names in messages.

    Attributes:
        worlds: names of the worlds, sorted.

    Raises:
        DataError: the folder has no ``documents/*.json``.
    """

    def __init__(self, root: Path, name: str = "") -> None:
        self.root, self._name = root, name
        files = (path for path in (root / "documents").glob("*.json") if path.is_file())
        self.worlds = tuple(sorted(path.stem for path in files if not path.name.startswith(".")))
        # macOS may write é in the name of a file as e and an accent, and download writes it as one character.
        self._by_normal_form = {normalize("NFC", world): world for world in self.worlds}
        if not self.worlds:
            raise DataError(
                "not a data set in ZESHEL's format", file=name or str(root), expected="documents/<world>.json"
            )

    def splits(self) -> tuple[Split, ...]:
        """The splits that exist, and always train, valid and test, so that reading a missing one fails."""
        return tuple(s for s in MENTION_FILES if s in SPLITS or s in self.splits_with_a_file())

    def splits_with_a_file(self) -> tuple[Split, ...]:
        """The splits that exist."""
        return tuple(split for split, file in MENTION_FILES.items() if (self.root / "mentions" / file).is_file())

    def documents(self, world: str) -> Iterator[Document]:
        """Yields the entities of a world in file order. A document's position is its ``label_id``.

        Raises:
            DataError: a line is broken, a field is missing or has the wrong type, or a ``document_id`` occurs twice.
        """
        first_line: dict[str, int] = {}
        file = f"documents/{world}.json"
        for record in read_records(self.root / file, self.name_in_messages(file)):
            document_id = record.name("document_id")
            _check_new(record, "document_id", document_id, first_line)
            yield Document(
                document_id=document_id,
                title=record.text("title"),
                text=record.text("text"),
                url=record.optional_name("url"),
                aliases=record.names("aliases"),
                types=record.names("types"),
            )

    def contexts(self, world: str) -> Iterator[Context]:
        """Yields the pages of a world that are no entities, in file order; none if it has no file of them.

        Raises:
            DataError: a line is broken, a field is missing or has the wrong type, or a ``document_id`` occurs twice.
        """
        file = f"contexts/{world}.json"
        if not (self.root / file).is_file():
            return
        first_line: dict[str, int] = {}
        for record in read_records(self.root / file, self.name_in_messages(file)):
            document_id = record.name("document_id")
            _check_new(record, "document_id", document_id, first_line)
            yield Context(document_id, record.text("text"))

    def mentions(self, split: Split, on_bad_line: BadLine | None = None) -> Iterator[Mention]:
        """Yields the mentions of a split in file order.

        Args:
            split: the split.
            on_bad_line: receives the error of each bad line, which is skipped; if None, the error is raised.

        Raises:
            DataError: the file does not exist, a line is broken, a field is missing or has the wrong type, a
                ``mention_id`` occurs twice, or a world has no documents.
        """
        file = f"mentions/{MENTION_FILES[split]}"
        first_line: dict[str, int] = {}
        for record in read_records(self.root / file, self.name_in_messages(file), on_bad_line):
            try:
                mention = self._mention(record)
                _check_new(record, "mention_id", mention.mention_id, first_line)
            except DataError as error:
                if on_bad_line is None:
                    raise
                on_bad_line(error)
                continue
            yield mention

    def name_in_messages(self, file: str) -> str:
        """Returns the name of a file for messages."""
        return f"{self._name}: {file}" if self._name else file

    def _mention(self, record: Record) -> Mention:
        corpus = record.name("corpus")
        world = self._by_normal_form.get(normalize("NFC", corpus))
        if world is None:
            raise record.error("unknown world", field="corpus", expected=f"one of {', '.join(self.worlds)}", got=corpus)
        return Mention(
            mention_id=record.name("mention_id"),
            context_document_id=record.name("context_document_id"),
            world=world,
            start_index=record.index("start_index"),
            end_index=record.index("end_index"),
            text=record.name("text"),
            label_document_id=record.name("label_document_id"),
            category=record.plain_name("category"),
            line=record.line,
        )


def check_dataset(root: Path) -> DatasetSummary:
    """Reads a whole data set and counts documents and mentions. Holds the ids of one file in memory.

    Unreadable mention lines are counted and logged. ``convert`` reads them again, and its settings decide if they end
    the run.

    Raises:
        DataError: documents are broken, a file is missing or empty, a split has no readable mention, or a world occurs
            in two of train, valid and test.
    """
    dataset = Dataset(root)
    summary = _counted(dataset, dataset.splits())
    _check_worlds_are_disjoint(summary.mentions)
    return summary


def check_part(dataset: Dataset) -> DatasetSummary:
    """Like :func:`check_dataset`, for a data set that will be merged with others and may lack splits.

    Raises:
        DataError: documents are broken, a file is empty or belongs to no split, or a split has no readable mention.
    """
    files = {path.name for path in (dataset.root / "mentions").glob("*.json") if not path.name.startswith(".")}
    for file in sorted(files.difference(MENTION_FILES.values())):
        expected = f"one of {', '.join(MENTION_FILES.values())}"
        raise DataError("a file of no split", file=dataset.name_in_messages("mentions"), expected=expected, got=file)
    return _counted(dataset, dataset.splits_with_a_file())


def _counted(dataset: Dataset, splits: Iterable[Split]) -> DatasetSummary:
    _check_contexts(dataset)
    documents = {world: sum(1 for _ in dataset.documents(world)) for world in dataset.worlds}
    mentions: dict[str, dict[str, int]] = {}
    bad_mentions: dict[str, int] = {}
    for split in splits:
        mentions[split], bad_mentions[split] = _count_mentions(dataset, split)
    return DatasetSummary(documents, mentions, bad_mentions)


def _check_contexts(dataset: Dataset) -> None:
    for path in sorted((dataset.root / "contexts").glob("*.json")):
        if not path.name.startswith(".") and path.stem not in dataset.worlds:
            file = dataset.name_in_messages(f"contexts/{path.name}")
            raise DataError("contexts of no world", file=file, expected=f"documents/{path.name}")
    for world in dataset.worlds:
        for _ in dataset.contexts(world):
            pass


class BadLines:
    """Counts bad lines and logs the first few.

    Args:
        verb: how the log describes them (``left out``).
    """

    def __init__(self, verb: str) -> None:
        self.count = 0
        self.first: DataError | None = None
        self._verb = verb

    def __call__(self, error: DataError) -> None:
        """Counts a bad line."""
        self.count += 1
        self.first = self.first or error
        if self.count <= SHOWN_BAD_LINES:
            log.warning("%s: %s", self._verb, error)
        if self.count == SHOWN_BAD_LINES:
            log.warning("%s: further ones are counted and not logged", self._verb)


def _count_mentions(dataset: Dataset, split: Split) -> tuple[dict[str, int], int]:
    bad = BadLines("bad mention")
    worlds = Counter(mention.world for mention in dataset.mentions(split, bad))
    if not worlds:
        raise bad.first or DataError("no mentions", file=dataset.name_in_messages(f"mentions/{MENTION_FILES[split]}"))
    return dict(sorted(worlds.items())), bad.count


def _check_worlds_are_disjoint(mentions: dict[str, dict[str, int]]) -> None:
    """Zero-shot means that the worlds of valid and test do not occur in train."""
    split_of: dict[str, Split] = {}
    for split in SPLITS:
        for world in mentions[split]:
            first = split_of.setdefault(world, split)
            if first != split:
                raise DataError(
                    "the same world in two splits",
                    file=f"mentions/{MENTION_FILES[split]}",
                    field="corpus",
                    expected=f"no world of mentions/{MENTION_FILES[first]}",
                    got=world,
                )


def _check_new(record: Record, field: str, value: str, first_line: dict[str, int]) -> None:
    first = first_line.setdefault(value, record.line)
    if first != record.line:
        raise record.error("duplicate", field=field, expected="each id once", got=f"{value}, first on line {first}")
