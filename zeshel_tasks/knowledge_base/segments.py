"""Segments: artifacts of some entities with their tokens and vectors, or of the ids of removed entities.

A :class:`Change` makes them and reuses those that an earlier attempt has made. Until the head names a segment, a record
in the folder of the change protects it from a cleanup, as the record of a run does.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterable, Iterator
from functools import cached_property
from itertools import chain, islice
from pathlib import Path
from typing import TYPE_CHECKING
from uuid import uuid4

import numpy as np

from zeshel_tasks.config import Recipe
from zeshel_tasks.data.arrays import new_array, read_array, release
from zeshel_tasks.data.document_file import DOCUMENTS, DocumentFile, DocumentWriter
from zeshel_tasks.errors import ConfigError, CorruptArtifact
from zeshel_tasks.knowledge_base import head
from zeshel_tasks.knowledge_base.head import Encoding, Segment, changes_folder
from zeshel_tasks.knowledge_base.keys import Flags, Keys, SegmentKeys, keys
from zeshel_tasks.pipeline.contract import derived_artifact
from zeshel_tasks.pipeline.job import Job, Target
from zeshel_tasks.recipe import build_recipe
from zeshel_tasks.store import Artifact, Metrics, Run, Store, artifact_folder
from zeshel_tasks.store.artifacts import put_aside, read_manifest, read_manifest_now, sha256_of

if TYPE_CHECKING:  # imports torch, which a change that encodes nothing does not need
    from zeshel_tasks.evaluation.entity_encoding import EntityEncoder

STAGE = "knowledge-base"
TOKENS, VECTORS, KEYS, REMOVED = "tokens.npy", "vectors.npy", "keys.npy", "removed.npy"
TOKENS_IDENTITY = "tokens"
_ROWS = 4096  # copied at once: 12 MB of vectors for BERT-base


class Change:
    """Makes the segments of one change of a knowledge base.

    Args:
        store: the store.
        name: of the knowledge base.
        encoding: what encodes entities.
        scratch: local directory.
        options: settings of ``eval_biencoder`` that do not change the result, such as ``encode_batch_size``.

    Raises:
        ConfigError: an option is out of range.
    """

    def __init__(self, store: Store, name: str, encoding: Encoding, scratch: Path, **options: object) -> None:
        self._store, self._name, self._encoding, self._scratch = store, name, encoding, scratch
        settings = {f"eval_biencoder.{name}": value for name, value in {**options, **encoding.settings}.items()}
        self._config = build_recipe("recommended", settings).eval_biencoder
        self._run = Run(store, uuid4().hex, changes_folder(name))
        self._job = Job(self._run, Recipe(), {}, Target(STAGE, None, {}, {}), scratch)
        self.encoded = 0

    def encode(self, lines: Iterable[bytes]) -> list[Segment]:
        """Encodes entities, given as lines of :func:`~zeshel_tasks.data.document_file.document_line`."""
        rest, segments = iter(lines), list[Segment]()
        for first in rest:  # of each segment
            with self._folder() as folder:
                with DocumentWriter(Path(folder)) as writer:
                    for line in chain([first], islice(rest, head.SEGMENT_ENTITIES - 1)):
                        writer.add(line)
                segments.append(self._made(Path(folder), self._write_encodings))
        return segments

    def merge(self, parts: Iterable[tuple[Segment, Flags]]) -> Segment:
        """Copies the live rows of segments into a new one; bool [entities] says which ones are live."""
        with self._folder() as folder:
            identity = copy_rows(self._store, parts, Path(folder))
            return self._made(Path(folder), lambda _: {TOKENS_IDENTITY: identity})

    def removal(self, ids: Keys) -> Segment:
        """Makes a segment that removes entities, given the keys of their ids."""
        with self._folder() as folder:
            path = Path(folder) / REMOVED
            np.save(path, np.unique(ids))

            def work(job: Job) -> Metrics:
                job.attempt.add(REMOVED, path)
                return {"removed": len(ids)}

            made = derived_artifact(self._job, STAGE, {}, {REMOVED: sha256_of(path)}, work)
        return Segment(artifact=self._folder_of(made), entities=0, removed=len(ids))

    def finish(self) -> None:
        """Deletes the records. Call it once the head names the segments."""
        self._run.forget()

    @cached_property
    def _encoder(self) -> EntityEncoder:
        from zeshel_tasks.compute.device import device_name
        from zeshel_tasks.evaluation.entity_encoding import EntityEncoder

        folder = self._encoding.biencoder
        manifest = read_manifest(self._store, folder)
        if manifest is None:
            raise ConfigError(
                f"{self._store.address}: expected the bi-encoder of the knowledge base {self._name}, but {folder} was "
                "deleted; `zeshel kb refresh` takes the champion's"
            )
        model = Artifact(self._store, folder, manifest, self._scratch / "models").directory("model")
        encoder = EntityEncoder.load(model, self._config)
        self._job.device = device_name(encoder.accelerator)
        return encoder

    def _write_encodings(self, folder: Path) -> Metrics:
        documents = DocumentFile(folder)
        encoder = self._encoder
        progress = encoder.write(documents, len(documents), folder, self._name)
        self.encoded += len(documents)
        return {TOKENS_IDENTITY: encoder.tokens_identity, "entities_per_second": round(progress.rate, 1)}

    def _made(self, folder: Path, fill: Callable[[Path], Metrics]) -> Segment:
        """Makes or reuses the segment of the documents in ``folder``; ``fill`` adds tokens and vectors, if needed."""
        documents = DocumentFile(folder)

        def work(job: Job) -> Metrics:
            metrics = fill(folder)
            job.device = self._job.device
            of_rows = [keys(document.document_id.encode() for document in documents), keys(documents.lines())]
            np.save(folder / KEYS, np.stack(of_rows, axis=1))
            for name in (DOCUMENTS, TOKENS, VECTORS, KEYS):
                job.attempt.add(name, folder / name)
            return {"entities": len(documents), **metrics}

        inputs = {"documents": sha256_of(folder / DOCUMENTS), "train-biencoder": self._encoding.fingerprint}
        made = derived_artifact(self._job, STAGE, dict(self._encoding.settings), inputs, work)
        return Segment(artifact=self._folder_of(made), entities=len(documents))

    def _folder(self) -> tempfile.TemporaryDirectory[str]:
        return tempfile.TemporaryDirectory(dir=self._scratch)

    @staticmethod
    def _folder_of(made: Artifact) -> str:
        return artifact_folder(STAGE, made.manifest.fingerprint)


def segment_keys(store: Store, segment: Segment, cache: Path) -> SegmentKeys:
    """Reads what a segment says."""
    artifact = opened(store, segment, cache)
    if segment.removed:
        removed = read_array(artifact.path(REMOVED))
        return SegmentKeys(removed, removed[:0])
    found = read_array(artifact.path(KEYS))
    return SegmentKeys(np.ascontiguousarray(found[:, 0]), np.ascontiguousarray(found[:, 1]))


def live_lines(store: Store, parts: Iterable[tuple[Segment, Flags]], scratch: Path) -> Iterator[bytes]:
    """Yields the lines of the live entities of segments, in their order."""
    for segment, flags in (part for part in parts if part[1].any()):
        with tempfile.TemporaryDirectory(dir=scratch) as cache:
            yield from _lines(opened(store, segment, Path(cache)), flags)


def copy_rows(store: Store, parts: Iterable[tuple[Segment, Flags]], folder: Path) -> str | None:
    """Copies the live rows of segments into the files of ``folder``, and returns the identity of the tokens.

    Fetches one segment at a time. Memory holds some rows and 8 bytes of each entity.
    """
    some = [(segment, flags) for segment, flags in parts if flags.any()]
    rows, start, identity = sum(int(flags.sum()) for _, flags in some), 0, None
    out: dict[str, np.memmap] = {}
    with DocumentWriter(folder) as writer:
        for segment, flags in some:
            with tempfile.TemporaryDirectory(dir=folder) as cache:
                artifact = opened(store, segment, Path(cache))
                identity = artifact.manifest.metrics[TOKENS_IDENTITY]
                for line in _lines(artifact, flags):
                    writer.add(line)
                for name in (TOKENS, VECTORS):
                    table = read_array(artifact.path(name), mapped=True)
                    if name not in out:
                        out[name] = new_array(folder / name, table.dtype, (rows, *table.shape[1:]))
                    end = _copy(table, flags, out[name], start)
            start = end
    return identity


def _lines(artifact: Artifact, flags: Flags) -> Iterator[bytes]:
    with artifact.path(DOCUMENTS).open("rb") as file:
        yield from (line for line, is_live in zip(file, flags, strict=True) if is_live)


def _copy(table: np.ndarray, flags: Flags, out: np.memmap, start: int) -> int:
    for first in range(0, len(table), _ROWS):
        some = table[first : first + _ROWS][flags[first : first + _ROWS]]
        out[start : start + len(some)] = some
        start += len(some)
        release(table)
        release(out)
    out.flush()
    return start


def opened(store: Store, segment: Segment, cache: Path) -> Artifact:
    """Opens the artifact of a segment. Does not wait for a cleanup, which keeps what a head or a record names.

    Raises:
        CorruptArtifact: it is missing or broken.
    """
    folder = segment.artifact
    # A cleanup may set the manifest aside after the first read and restore it after the second.
    manifest = read_manifest_now(store, folder) or put_aside(store, folder) or read_manifest_now(store, folder)
    if manifest is None:
        problem = "a segment is missing from the store; build the knowledge base again"
        raise CorruptArtifact(problem, file=f"{store.address}/{folder}")
    return Artifact(store, folder, manifest, cache)
