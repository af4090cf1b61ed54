"""Segments: artifacts of some entities with their tokens and vectors, or of the ids of removed entities.

A :class:`Change` makes them and reuses those that an earlier attempt has made. Until the head names a segment, a record
in the folder of the change protects it from a cleanup, as the record of a run does.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import cached_property, partial
from itertools import chain, islice
from pathlib import Path
from typing import TYPE_CHECKING
from uuid import uuid4

import numpy as np

from zeshel_tasks.config.stages import Recipe
from zeshel_tasks.data.document_file import DOCUMENTS, DocumentFile, DocumentWriter
from zeshel_tasks.data.shard_files import cut_in_order
from zeshel_tasks.data.shards import shard_file
from zeshel_tasks.errors import ConfigError
from zeshel_tasks.knowledge_base import head
from zeshel_tasks.knowledge_base.head import Encoding, Segment, changes_folder
from zeshel_tasks.knowledge_base.keys import Flags, Keys, keys
from zeshel_tasks.knowledge_base.segment_reader import FILES, KEYS, REMOVED, TOKENS_IDENTITY, WORDS, SegmentReader
from zeshel_tasks.linking.word_counts import Part, count_words, pack, write_counts
from zeshel_tasks.pipeline.contract import derived_artifact
from zeshel_tasks.pipeline.job import Job, Target
from zeshel_tasks.pipeline.world_shards import CUT
from zeshel_tasks.recipe import build_recipe
from zeshel_tasks.store import Artifact, Metrics, Run, Store, artifact_folder
from zeshel_tasks.store.artifacts import read_manifest, sha256_of

if TYPE_CHECKING:  # imports torch, which a change that encodes nothing does not need
    from zeshel_tasks.config.retrieval import RetrievalConfig
    from zeshel_tasks.evaluation.entity_encoding import EntityEncoder

    LoadEncoder = Callable[[Artifact, RetrievalConfig], EntityEncoder]
    """Returns what encodes entities with the bi-encoder of an artifact."""

STAGE = "knowledge-base"


def load_encoder(biencoder: Artifact, config: RetrievalConfig) -> EntityEncoder:
    """Loads a bi-encoder. A process that often adds entities keeps it instead."""
    from zeshel_tasks.evaluation.entity_encoding import EntityEncoder

    return EntityEncoder.load(biencoder.directory("model"), config)


class Change:
    """Makes the segments of one change of a knowledge base.

    Args:
        store: the store.
        name: of the knowledge base.
        encoding: what encodes entities.
        scratch: local directory.
        load: loads the bi-encoder, if there is something to encode.
        record: name of its records, which the commands of one change on several machines share; None for a new one.
        options: settings of ``eval_biencoder`` that do not change the result, such as ``encode_batch_size``.

    Attributes:
        encoded: entities that were encoded.
        cut: segments that were left to other machines.

    Raises:
        ConfigError: an option is out of range.
    """

    def __init__(
        self,
        store: Store,
        name: str,
        encoding: Encoding,
        scratch: Path,
        load: LoadEncoder = load_encoder,
        record: str | None = None,
        **options: object,
    ) -> None:
        self._store, self._name, self._encoding, self._scratch, self._load = store, name, encoding, scratch, load
        self._segments = SegmentReader(store, scratch / "segments")
        settings = {f"eval_biencoder.{name}": value for name, value in {**options, **encoding.settings}.items()}
        self._config = build_recipe("recommended", settings).eval_biencoder
        self._run = Run(store, record or uuid4().hex, changes_folder(name))
        self._job = Job(self._run, Recipe(), {}, Target(STAGE, None, {}, {}), scratch)
        self.encoded = self.cut = 0

    def encode(self, lines: Iterable[bytes]) -> list[Segment]:
        """Encodes entities, given as lines of :func:`~zeshel_tasks.data.document_file.document_line`."""
        rest, segments = iter(lines), list[Segment]()
        for first in rest:  # of each segment
            with self._folder() as folder:
                with DocumentWriter(Path(folder)) as writer:
                    for line in chain([first], islice(rest, head.SEGMENT_ENTITIES - 1)):
                        writer.add(line)
                documents = DocumentFile(Path(folder))
                segments.append(self._made(Path(folder), self._write_encodings, partial(count_words, documents)))
        return segments

    def cut_if_many(self, lines: Iterable[bytes], most: int | None) -> Iterable[bytes] | None:
        """Returns the lines if there are at most ``most``. Otherwise cuts them and returns None.

        Other machines then encode the segments (``cuts.py``). An artifact holds the lines of each, and :attr:`cut` is
        their number.
        """
        if most is None:
            return lines
        folder = Path(tempfile.mkdtemp(dir=self._scratch))
        sizes = cut_in_order(lines, head.SEGMENT_ENTITIES, folder)
        files = [folder / shard_file(number) for number in range(len(sizes))]
        if sum(sizes) <= most:
            return _lines(files)

        def work(job: Job) -> Metrics:
            for path in files:
                job.attempt.add(path.relative_to(folder).as_posix(), path)
            return {"entities": sum(sizes), "shards": len(sizes)}

        segments = [self._target(sha256_of(path)).folder for path in files]
        config = {"segments": segments, "encoding": self._encoding.model_dump()}
        made = derived_artifact(self._job, CUT, config, {}, work)
        self._run.write_record(CUT, made.manifest, reused=False, wall_seconds=0)
        self.cut = len(segments)
        return None

    def merge(self, parts: Sequence[tuple[Segment, Flags]]) -> Segment:
        """Copies the live rows of segments into a new one; bool [entities] says which ones are live."""
        with self._folder() as folder:
            identity = self._segments.copy_rows(parts, Path(folder))
            return self._made(
                Path(folder), lambda _: {TOKENS_IDENTITY: identity}, lambda _: self._segments.words(parts)
            )

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

        folder = self._encoding.biencoder
        manifest = read_manifest(self._store, folder)
        if manifest is None:
            raise ConfigError(
                f"{self._store.address}: expected the bi-encoder of the knowledge base {self._name}, but {folder} was "
                "deleted; `zeshel kb refresh` takes the champion's"
            )
        encoder = self._load(Artifact(self._store, folder, manifest, self._scratch / "models"), self._config)
        self._job.device = device_name(encoder.placement)
        return encoder

    def _write_encodings(self, folder: Path) -> Metrics:
        documents = DocumentFile(folder)
        encoder = self._encoder
        progress = encoder.write(documents, len(documents), folder, self._name)
        self.encoded += len(documents)
        return {TOKENS_IDENTITY: encoder.tokens_identity, "entities_per_second": round(progress.rate, 1)}

    def _made(self, folder: Path, fill: Callable[[Path], Metrics], count: Callable[[Path], Sequence[Part]]) -> Segment:
        """Makes or reuses the segment of the documents in ``folder``.

        Unless it exists, ``fill`` adds tokens and vectors, and ``count`` gives their words, with files in a folder.
        """
        documents = DocumentFile(folder)

        def work(job: Job) -> Metrics:
            metrics = fill(folder)
            job.device = self._job.device
            of_rows = [keys(document.document_id.encode() for document in documents), keys(documents.lines())]
            np.save(folder / KEYS, np.stack(of_rows, axis=1))
            with self._folder() as scratch:
                write_counts(count(Path(scratch)), Path(scratch) / "words")
                pack(Path(scratch) / "words", folder / WORDS)
            for name in FILES:
                job.attempt.add(name, folder / name)
            return {"entities": len(documents), **metrics}

        target = self._target(sha256_of(folder / DOCUMENTS))
        made = derived_artifact(self._job, STAGE, target.config, target.inputs, work)
        return Segment(artifact=self._folder_of(made), entities=len(documents))

    def _target(self, documents: str) -> Target:
        """The segment of entities, given the SHA-256 of their lines."""
        config = {**self._encoding.settings, "files": FILES}  # a segment of an earlier version lacks some
        return Target(STAGE, None, config, {"documents": documents, "train-biencoder": self._encoding.fingerprint})

    def _folder(self) -> tempfile.TemporaryDirectory[str]:
        return tempfile.TemporaryDirectory(dir=self._scratch)

    @staticmethod
    def _folder_of(made: Artifact) -> str:
        return artifact_folder(STAGE, made.manifest.fingerprint)


def _lines(files: Iterable[Path]) -> Iterator[bytes]:
    for path in files:
        with path.open("rb") as file:
            yield from file
