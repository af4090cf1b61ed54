"""The words and names of some entities, counted: what a lexical index is made of.

The weights of BM25 depend on all entities of a world, but the counts do not. So those of a part of the entities are
made once, and :func:`merged` joins parts, without the entities that are no longer there.

word_hashes.npy     uint64 [words], sorted
word_starts.npy     int64 [words + 1], where the postings of each word start, and the end
word_entities.npy   int32 [postings], positions of entities, ascending within a word
word_counts.npy     unsigned [postings, fields], how often the entity has the word in each of :data:`FIELDS`
lengths.npy         int32 [entities, 2], words of the names and of the text
and the files of names.py
"""

from __future__ import annotations

import shutil
from array import array
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from itertools import chain
from pathlib import Path
from typing import Literal, NamedTuple, get_args
from zipfile import ZipFile, ZipInfo

import numpy as np
import numpy.typing as npt

from zeshel_tasks.data.arrays import ArrayWriter, RowReader, Rows
from zeshel_tasks.data.zeshel import Document
from zeshel_tasks.linking import names
from zeshel_tasks.linking.hashes import Hashes, hashes
from zeshel_tasks.linking.names import NamePairs
from zeshel_tasks.linking.words import words

Field = Literal["everything", "names", "lead"]
"""What BM25 searches: the names of an entity and its text; its title and aliases alone; the first words of its text."""

FIELDS: tuple[Field, ...] = get_args(Field)

NAME_WEIGHT = 3
"""In ``everything``, a word of the title or of an alias counts as if it occurred this often."""

TEXT_CHARACTERS = 20_000
"""The text beyond is not indexed."""

LEAD_WORDS = 32
"""A description begins by saying what its entity is, and often by the identifiers that it documents."""

_BLOCK = 2**20  # bytes
_WORDS_AT_ONCE = 2**21  # that are counted together: 150 MB
_POSTINGS_AT_ONCE = 2**21  # that are merged together: 150 MB

_ARRAYS = ("word_hashes", "word_starts", "word_entities", "word_counts", "lengths")
FILES = (*(f"{name}.npy" for name in _ARRAYS), *names.FILES)
"""Files of :class:`WordCounts`."""

Counts = npt.NDArray[np.unsignedinteger]
Flags = npt.NDArray[np.bool_]


class WordCounts(NamedTuple):
    """Words and names of some entities. See the head of this file; ``name_pairs`` are the names."""

    word_hashes: Hashes
    word_starts: Rows
    word_entities: npt.NDArray[np.int32]
    word_counts: Counts
    lengths: npt.NDArray[np.int32]
    name_pairs: NamePairs

    def save(self, folder: Path) -> None:
        """Writes :data:`FILES` into ``folder``."""
        for name in _ARRAYS:
            np.save(folder / f"{name}.npy", getattr(self, name))
        self.name_pairs.save(folder)


class Part(NamedTuple):
    """The words of some entities, and which of these are still there.

    There may be more parts than a process may open files, and a mapped file counts as an open one. So a part has no
    open file.

    Attributes:
        folder: has the files of :class:`WordCounts`.
        live: bool [entities].
    """

    folder: Path
    live: Flags

    def rows(self, name: str) -> RowReader:
        """Returns what reads one of the arrays."""
        return RowReader(self.folder / f"{name}.npy")


class Postings(NamedTuple):
    """The postings of some words in a list of parts, whose live entities are numbered in their order.

    Attributes:
        words: uint64 [words], sorted.
        sizes: int64 [words], the number of their postings.
        entities: int32 [postings].
        counts: unsigned [postings, fields].
    """

    words: Hashes
    sizes: Rows
    entities: npt.NDArray[np.int32]
    counts: Counts


def count_words(documents: Iterable[Document], folder: Path) -> list[Part]:
    """Counts the words of entities.

    Args:
        documents: the entities.
        folder: gets the files of the parts, in folders of their own, so that memory holds only one of them.
    """
    parts, rest = list[Part](), iter(documents)
    for first in rest:
        block = folder / str(len(parts))
        block.mkdir(parents=True)
        counts = _count(chain([first], rest))
        counts.save(block)
        parts.append(Part(block, np.ones(len(counts.lengths), dtype=np.bool_)))
    return parts


def write_counts(parts: Sequence[Part], folder: Path) -> None:
    """Writes the words of the live entities of all parts as those of one."""
    folder.mkdir(parents=True, exist_ok=True)
    dtype = np.result_type(np.uint8, *(part.rows("word_counts").dtype for part in parts))
    with (
        ArrayWriter(folder / "word_hashes.npy", np.uint64) as word_hashes,
        ArrayWriter(folder / "word_starts.npy", np.int64) as starts,
        ArrayWriter(folder / "word_entities.npy", np.int32) as entities,
        ArrayWriter(folder / "word_counts.npy", dtype, (len(FIELDS),)) as counts,
    ):
        written = 0
        starts.append(np.zeros(1))
        for some in merged(parts):
            word_hashes.append(some.words)
            starts.append(written + np.cumsum(some.sizes))
            entities.append(some.entities)
            counts.append(some.counts)
            written += len(some.entities)
    np.save(folder / "lengths.npy", live_lengths(parts))
    live_names(parts).save(folder)


def pack(folder: Path, path: Path) -> None:
    """Puts the files of :class:`WordCounts` into one, without compression. Equal files give equal bytes."""
    with ZipFile(path, "w") as archive:
        for name in FILES:
            with (folder / name).open("rb") as file, archive.open(ZipInfo(name), "w", force_zip64=True) as member:
                shutil.copyfileobj(file, member, _BLOCK)


def unpack(path: Path, folder: Path) -> None:
    """Writes the files that :func:`pack` has put into one into the new folder ``folder``."""
    folder.mkdir()
    with ZipFile(path) as archive:
        for name in FILES:
            with archive.open(name) as member, (folder / name).open("wb") as file:
                shutil.copyfileobj(member, file, _BLOCK)


def live_lengths(parts: Sequence[Part]) -> npt.NDArray[np.int32]:
    """Returns the words of the names and of the text of each live entity: int32 [entities, 2]."""
    return np.concatenate(
        [part.rows("lengths").read()[part.live] for part in parts] or [np.zeros((0, 2), dtype=np.int32)]
    )


def live_names(parts: Sequence[Part]) -> NamePairs:
    """Returns the names of the live entities."""
    return NamePairs.joined([NamePairs.open(part.folder).of(part.live, start) for part, start in _placed(parts)])


def merged(parts: Sequence[Part]) -> Iterator[Postings]:
    """Yields the postings of all words that live entities have, sorted by word, as many at once as memory holds."""
    if not parts:
        return
    postings = sum(len(part.rows("word_entities")) for part in parts)
    ranges = postings // _POSTINGS_AT_ONCE + 1
    inner = np.array([2**64 * number // ranges for number in range(1, ranges)], dtype=np.uint64)
    placed = [_Placed(part, start, inner) for part, start in _placed(parts)]
    for number in range(ranges):
        some = _joined([part.postings(number) for part in placed])
        if len(some.words):
            yield some


class _Placed:
    """A part whose live entities are numbered from ``start`` on, and whose words are in ranges between ``inner``."""

    def __init__(self, part: Part, start: int, inner: Hashes) -> None:
        self._words, self._starts, self._entities, self._counts = (
            part.rows(name) for name in ("word_hashes", "word_starts", "word_entities", "word_counts")
        )
        self._live = None if part.live.all() else part.live
        self._numbers = (start - 1 + np.cumsum(part.live)).astype(np.int32)
        self._bounds = [0, *np.searchsorted(self._words.read(), inner).tolist(), len(self._words)]

    def postings(self, number: int) -> Postings:
        """Returns the live postings of the words in one of the ranges."""
        low, high = self._bounds[number : number + 2]
        starts = self._starts.read(low, high + 1)
        entities, counts = (rows.read(int(starts[0]), int(starts[-1])) for rows in (self._entities, self._counts))
        sizes = np.diff(starts)
        if self._live is not None and len(sizes):
            live = self._live[entities]
            sizes = np.add.reduceat(live, starts[:-1] - starts[0], dtype=np.int64)
            entities, counts = entities[live], counts[live]
        return Postings(self._words.read(low, high), sizes, self._numbers[entities], counts)


def _placed(parts: Sequence[Part]) -> Iterator[tuple[Part, int]]:
    """Yields each part with the number of its first live entity."""
    start = 0
    for part in parts:
        yield part, start
        start += int(part.live.sum())


def _joined(parts: Sequence[Postings]) -> Postings:
    """Joins the postings of parts. Those of a word are in the order of the parts, and so of the entities."""
    found = np.sort(np.concatenate([part.words for part in parts]))
    found = found[np.diff(found, prepend=~found[:1]) != 0]  # np.unique takes ten times as long
    rows = [np.searchsorted(found, part.words) for part in parts]
    sizes = np.zeros(len(found), dtype=np.int64)
    for part, words_of_part in zip(parts, rows, strict=True):
        sizes[words_of_part] += part.sizes
    free = np.cumsum(sizes) - sizes  # where the next posting of each word goes
    entities = np.empty(sizes.sum(), dtype=np.int32)
    counts = np.empty((len(entities), len(FIELDS)), dtype=np.result_type(*(part.counts.dtype for part in parts)))
    for part, words_of_part in zip(parts, rows, strict=True):
        moved = free[words_of_part] - (np.cumsum(part.sizes) - part.sizes)
        places = np.repeat(moved, part.sizes) + np.arange(len(part.entities))
        entities[places], counts[places] = part.entities, part.counts
        free[words_of_part] += part.sizes
    has_some = sizes > 0
    return Postings(found[has_some], sizes[has_some], entities, counts)


def _count(documents: Iterator[Document]) -> WordCounts:
    """Takes entities, as many as are counted together, and counts their words."""
    number = defaultdict[str, int]()
    number.default_factory = number.__len__
    of_names, of_texts, lengths, found = array("i"), array("i"), array("i"), names.NameList()
    for position, document in enumerate(documents):
        name_words = words(" ".join((document.title, *document.aliases)))
        text_words = words(document.text[:TEXT_CHARACTERS])
        of_names.extend(map(number.__getitem__, name_words))
        of_texts.extend(map(number.__getitem__, text_words))
        lengths.extend((len(name_words), len(text_words)))
        found.add(document, position)
        if len(of_names) + len(of_texts) >= _WORDS_AT_ONCE:
            break
    by_entity = np.frombuffer(lengths, dtype=np.int32).reshape(-1, 2)
    in_names, in_texts = (np.frombuffer(numbers, dtype=np.int32) for numbers in (of_names, of_texts))
    return _counted(hashes(list(number)), in_names, in_texts, by_entity, found.pairs())


def _counted(
    of_words: Hashes,
    in_names: npt.NDArray[np.int32],
    in_texts: npt.NDArray[np.int32],
    lengths: npt.NDArray[np.int32],
    name_pairs: NamePairs,
) -> WordCounts:
    """Counts words.

    Args:
        of_words: uint64 [words].
        in_names, in_texts: the numbers of the words, entity by entity.
        lengths: int32 [entities, 2], see :class:`WordCounts`.
        name_pairs: is returned as it is.
    """
    word_hashes, places = np.unique(of_words, return_inverse=True)
    entities = np.concatenate([np.repeat(np.arange(len(lengths)), lengths[:, column]) for column in (0, 1)])
    pairs = places[np.concatenate([in_names, in_texts])] * len(lengths) + entities
    distinct, postings = np.unique(pairs, return_inverse=True)
    of_names, of_texts = np.split(postings, [len(in_names)])
    is_lead = np.arange(len(in_texts)) - np.repeat(np.cumsum(lengths[:, 1]) - lengths[:, 1], lengths[:, 1]) < LEAD_WORDS
    names_, texts, lead = (np.bincount(of, minlength=len(distinct)) for of in (of_names, of_texts, of_texts[is_lead]))
    counts = np.stack([NAME_WEIGHT * names_ + texts, names_, lead], axis=1)
    words_of_postings, entities_of_postings = np.divmod(distinct, max(1, len(lengths)))
    return WordCounts(
        word_hashes,
        np.searchsorted(words_of_postings, np.arange(len(word_hashes) + 1)),
        entities_of_postings.astype(np.int32),
        counts.astype(np.min_scalar_type(counts.max(initial=0))),
        lengths,
        name_pairs,
    )
