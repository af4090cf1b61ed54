"""Reads segments: what they say, their rows, and the words of their entities."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from zeshel_tasks.data.arrays import new_array, read_array, release
from zeshel_tasks.data.document_file import DOCUMENTS, DocumentWriter, document_of_line
from zeshel_tasks.errors import CorruptArtifact
from zeshel_tasks.knowledge_base.head import Segment
from zeshel_tasks.knowledge_base.keys import Flags, SegmentKeys
from zeshel_tasks.linking.word_counts import Part, count_words, unpack, write_counts
from zeshel_tasks.store import Artifact, Store
from zeshel_tasks.store.artifacts import read_kept_manifest

TOKENS, VECTORS, KEYS, REMOVED = "tokens.npy", "vectors.npy", "keys.npy", "removed.npy"
WORDS = "words.zip"  # the files of linking/word_counts.py in one, because each takes a store some milliseconds
FILES = (DOCUMENTS, TOKENS, VECTORS, KEYS, WORDS)
"""Files of a segment of entities. One that removes entities has only ``removed.npy``."""

TOKENS_IDENTITY = "tokens"
_ROWS = 4096  # copied at once: 12 MB of vectors for BERT-base


class SegmentReader:
    """Reads segments. What is fetched of one is verified once.

    Args:
        store: the store.
        scratch: local directory for what is fetched.
        keep: True to keep fetched tokens and vectors, too, for the next opening.
    """

    def __init__(self, store: Store, scratch: Path, *, keep: bool = False) -> None:
        self._store, self._scratch, self._keep = store, scratch, keep
        self._opened: dict[str, Artifact] = {}
        scratch.mkdir(parents=True, exist_ok=True)

    def keys(self, segment: Segment) -> SegmentKeys:
        """Reads what a segment says."""
        artifact = self._artifact(segment)
        if segment.removed:
            removed = read_array(artifact.path(REMOVED))
            return SegmentKeys(removed, removed[:0])
        found = read_array(artifact.path(KEYS))
        return SegmentKeys(np.ascontiguousarray(found[:, 0]), np.ascontiguousarray(found[:, 1]))

    def words(self, parts: Iterable[tuple[Segment, Flags]]) -> list[Part]:
        """Returns the words of the live entities of segments."""
        return [Part(self._words(segment), flags) for segment, flags in parts if flags.any()]

    def lines(self, parts: Iterable[tuple[Segment, Flags]]) -> Iterator[bytes]:
        """Yields the lines of the live entities of segments, in their order."""
        for segment, flags in (part for part in parts if part[1].any()):
            with self._rows(segment) as artifact, artifact.path(DOCUMENTS).open("rb") as file:
                yield from (line for line, is_live in zip(file, flags, strict=True) if is_live)

    def copy_rows(self, parts: Iterable[tuple[Segment, Flags]], folder: Path) -> str | None:
        """Copies the live rows of segments into the files of ``folder``, and returns the identity of the tokens.

        Fetches one segment at a time. Memory holds some rows and 8 bytes of each entity.
        """
        some = [(segment, flags) for segment, flags in parts if flags.any()]
        rows, start, identity = sum(int(flags.sum()) for _, flags in some), 0, None
        out: dict[str, np.memmap] = {}
        with DocumentWriter(folder) as writer:
            for segment, flags in some:
                with self._rows(segment) as artifact:
                    identity = artifact.manifest.metrics[TOKENS_IDENTITY]
                    writer.copy(artifact.path(DOCUMENTS), flags)
                    for name in (TOKENS, VECTORS):
                        table = read_array(artifact.path(name), mapped=True)
                        if name not in out:
                            out[name] = new_array(folder / name, table.dtype, (rows, *table.shape[1:]))
                        end = _copy(table, flags, out[name], start)
                start = end
        return identity

    def forget(self, but: Iterable[Segment]) -> None:
        """Deletes what was fetched of other segments."""
        kept = {segment.artifact for segment in but}
        for folder in self._opened.keys() - kept:
            del self._opened[folder]
            shutil.rmtree(self._scratch / folder, ignore_errors=True)

    def _words(self, segment: Segment) -> Path:
        """Fetches the words of a segment into a folder. One of an earlier version has none: they are counted here."""
        folder, artifact = self._scratch / segment.artifact / "words", self._artifact(segment)
        if not folder.is_dir():
            with tempfile.TemporaryDirectory(dir=self._scratch) as scratch:
                found = Path(scratch) / "found"
                if WORDS in artifact:
                    unpack(artifact.path(WORDS), found)
                else:
                    rows = np.ones(segment.entities, dtype=np.bool_)
                    lines = self.lines([(segment, rows)])
                    write_counts(count_words(map(document_of_line, lines), Path(scratch) / "blocks"), found)
                folder.parent.mkdir(parents=True, exist_ok=True)
                found.rename(folder)
        return folder

    @contextmanager
    def _rows(self, segment: Segment) -> Iterator[Artifact]:
        """Opens the artifact of a segment for files that are large, which are fetched for this context unless kept."""
        if self._keep:
            yield self._artifact(segment)
        else:
            with tempfile.TemporaryDirectory(dir=self._scratch) as cache:
                yield _opened(self._store, segment, Path(cache))

    def _artifact(self, segment: Segment) -> Artifact:
        if segment.artifact not in self._opened:
            self._opened[segment.artifact] = _opened(self._store, segment, self._scratch)
        return self._opened[segment.artifact]


def _copy(table: np.ndarray, flags: Flags, out: np.memmap, start: int) -> int:
    for first in range(0, len(table), _ROWS):
        some = table[first : first + _ROWS][flags[first : first + _ROWS]]
        out[start : start + len(some)] = some
        start += len(some)
        release(table)
        release(out)
    out.flush()
    return start


def _opened(store: Store, segment: Segment, cache: Path) -> Artifact:
    """Opens the artifact of a segment. Does not wait for a cleanup, which keeps what a head or a record names.

    Raises:
        CorruptArtifact: it is missing or broken.
    """
    folder = segment.artifact
    manifest = read_kept_manifest(store, folder)
    if manifest is None:
        problem = "a segment is missing from the store; build the knowledge base again"
        raise CorruptArtifact(problem, file=f"{store.address}/{folder}")
    return Artifact(store, folder, manifest, cache)
