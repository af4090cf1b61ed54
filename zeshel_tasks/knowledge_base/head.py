"""The head of a knowledge base: ``kb/<name>/head.json`` names its segments, oldest first.

The segments are immutable. A later one hides what earlier ones say about its entities: a newer text replaces an older
one, and the id of a removed entity hides it. So a change only appends segments, and two changes at once are both kept.
The file changes only by compare-and-swap: the second writer reads it again and appends to what the first one wrote.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Iterator
from datetime import UTC, datetime
from difflib import get_close_matches
from typing import Self

from pydantic import BaseModel, ConfigDict

from zeshel_tasks.config.compute import Precision
from zeshel_tasks.config.retrieval import CandidateForm, VectorDtype
from zeshel_tasks.errors import ConfigError
from zeshel_tasks.store.base import Store, checked_key
from zeshel_tasks.store.checksummed import checksummed, read_checksummed
from zeshel_tasks.text.json_text import to_json
from zeshel_tasks.text.safe_text import quoted

log = logging.getLogger(__name__)

FOLDER = "kb"
SEGMENT_ENTITIES = 20_000
"""Most entities of a segment: 71 MB of tokens and vectors for BERT-base. A killed change repeats at most one."""

MAX_NAME_BYTES = 255
"""Longest name of a folder, in UTF-8."""

_SMALL_SEGMENTS = 32
_REMEDY = "restore an earlier version, or run `zeshel kb delete` and build the knowledge base again"


class Encoding(BaseModel):
    """What encodes the entities.

    Attributes:
        biencoder: folder of the train-biencoder artifact.
        candidate_form, precision, vector_dtype: settings of ``eval_biencoder``.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")
    biencoder: str
    candidate_form: CandidateForm
    precision: Precision
    vector_dtype: VectorDtype

    @property
    def fingerprint(self) -> str:
        """Fingerprint of the bi-encoder."""
        return self.biencoder.rpartition("/")[2]

    @property
    def settings(self) -> dict[str, str]:
        """The settings, by name."""
        return self.model_dump(exclude={"biencoder"})


class Segment(BaseModel):
    """One segment: the folder of its artifact, and the number of its entities, or of the ids that it removes."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    artifact: str
    entities: int
    removed: int = 0

    @property
    def is_small(self) -> bool:
        """True if it should be merged with others."""
        return self.entities < SEGMENT_ENTITIES // 2


class HeadCalibration(BaseModel):
    """What scores mean in the knowledge base.

    Attributes:
        artifact: folder of the artifact that holds the calibration.
        models: fingerprint of the models whose scores it is for.
        mentions: number of labelled mentions that it was fitted on.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")
    artifact: str
    models: str
    mentions: int


class HeadIndex(BaseModel):
    """The approximate index of the entities.

    Attributes:
        artifact: folder of the artifact that holds the index.
        entities: number of those that it was made from.
        probes: groups that a search looks at.
        share: what it finds of the candidates of an exact search, for a sample of mentions.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")
    artifact: str
    entities: int
    probes: int
    share: float


class Head(BaseModel):
    """Content of the file.

    Attributes:
        encoding: what encodes the entities.
        segments: oldest first.
        entities: number of live entities.
        documents: SHA-256 (hex) of the live entities in their order.
        calibration: its own calibration; None if it has none.
        index: of the entities that it had when the index was made; None if it has none.
        created_at, changed_at: ISO 8601.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")
    encoding: Encoding
    segments: tuple[Segment, ...]
    entities: int
    documents: str
    calibration: HeadCalibration | None = None
    index: HeadIndex | None = None
    created_at: str
    changed_at: str

    @property
    def fingerprint(self) -> str:
        """SHA-256 (hex) of the live entities, their order, and what encodes them."""
        decisive = [self.documents, self.encoding.fingerprint, self.encoding.settings]
        return hashlib.sha256(to_json(decisive, sort_keys=True).encode()).hexdigest()

    @property
    def folders(self) -> set[str]:
        """Folders of all artifacts that the knowledge base needs."""
        fitted = (made.artifact for made in (self.calibration, self.index) if made is not None)
        return {*(segment.artifact for segment in self.segments), self.encoding.biencoder, *fitted}

    @property
    def has_many_small_segments(self) -> bool:
        """True if a merge of small segments would shorten the time to open it."""
        return sum(segment.is_small for segment in self.segments) > _SMALL_SEGMENTS


class KnowledgeBase:
    """The head of a knowledge base, as it was when it was read.

    Args:
        store: holds it.
        name: its name.
        head: content of the file; None if it does not exist.
        version: version of the file; None if it does not exist.
    """

    def __init__(self, store: Store, name: str, head: Head | None, version: str | None) -> None:
        self.store, self.name, self._head, self._version = store, name, head, version

    @classmethod
    def read(cls, store: Store, name: str) -> Self:
        """Reads the head, which need not exist.

        Raises:
            ConfigError: the name cannot be a part of a key.
            CorruptArtifact: the file is broken.
        """
        key = _key(checked_name(name))
        # Read the version first: if the file changes in between, the swap fails and the caller reads the file again.
        found = store.get_version(key)
        head = read_checksummed(store, key, Head, _REMEDY)
        return cls(store, name, head, None if found is None else found[1])

    @property
    def exists(self) -> bool:
        """True if there is a head."""
        return self._head is not None

    @property
    def head(self) -> Head:
        """The head.

        Raises:
            ConfigError: there is none; the message names those that exist.
        """
        if self._head is None:
            there = sorted(names(self.store))
            known = ", ".join(there[:20]) or "none; make one with `zeshel kb build`"
            close = " or ".join(get_close_matches(self.name, there))
            raise ConfigError(
                f"expected a knowledge base of {self.store.address}/{FOLDER} ({known}), got {quoted(self.name)}"
                + (f": did you mean {close}?" if close else "")
            )
        return self._head

    def replace(self, encoding: Encoding, segments: tuple[Segment, ...], entities: int, documents: str) -> bool:
        """Writes a new head. Returns False if the file has changed since it was read.

        The calibration and the index stay, unless another bi-encoder has encoded the entities.
        """
        now = datetime.now(UTC).isoformat(timespec="seconds")
        created_at = now if self._head is None else self._head.created_at
        same = self._head if self._head is not None and self._head.encoding == encoding else None
        calibration = None if same is None else same.calibration
        if self._head is not None and self._head.calibration is not None and calibration is None:
            log.warning(
                "knowledge base %s: its calibration was for the earlier bi-encoder and is dropped; make a new one with "
                "`zeshel kb calibrate`",
                self.name,
            )
        head = Head(
            encoding=encoding,
            segments=segments,
            entities=entities,
            documents=documents,
            calibration=calibration,
            index=None if same is None else same.index,
            created_at=created_at,
            changed_at=now,
        )
        return self._put(head)

    def replace_calibration(self, calibration: HeadCalibration) -> bool:
        """Writes a head with another calibration. Returns False if the file has changed since it was read."""
        return self._put(self.head.model_copy(update={"calibration": calibration}))

    def replace_index(self, index: HeadIndex) -> bool:
        """Writes a head with another index. Returns False if the file has changed since it was read."""
        return self._put(self.head.model_copy(update={"index": index}))

    def _put(self, head: Head) -> bool:
        if self._version is None:
            return self.store.put_if_absent(_key(self.name), checksummed(head))
        return self.store.put_if_unchanged(_key(self.name), checksummed(head), self._version)

    def is_current(self) -> bool:
        """Returns True if the file has not changed since it was read."""
        found = self.store.get_version(_key(self.name))
        return self._version == (None if found is None else found[1])

    def delete(self) -> None:
        """Deletes the head."""
        self.store.delete(_key(self.name))


def checked_name(name: str) -> str:
    """Returns the name if it can be a folder in every store.

    Raises:
        ConfigError: it cannot.
    """
    expected = "knowledge base: expected a name that can be a folder, such as products, got "
    if len(name.encode("utf-8", "surrogatepass")) > MAX_NAME_BYTES:
        raise ConfigError(f"{expected}one of {len(name):,} characters, more than {MAX_NAME_BYTES} bytes")
    try:
        checked_key(_key(name))
    except ConfigError:
        raise ConfigError(expected + quoted(name)) from None
    if "/" in name or "\\" in name or name != name.strip():
        raise ConfigError(expected + quoted(name))
    return name


def names(store: Store) -> Iterator[str]:
    """Yields the names of a store's knowledge bases, in any order."""
    for key in store.keys(f"{FOLDER}/"):
        parts = key.split("/")
        if len(parts) == 3 and parts[2] == "head.json":
            yield parts[1]


def knowledge_base_folders(store: Store) -> set[str]:
    """Returns the artifact folders that a cleanup must keep for the store's knowledge bases."""
    found = (KnowledgeBase.read(store, name) for name in names(store))
    return {folder for base in found if base.exists for folder in base.head.folders}


def changes_folder(name: str) -> str:
    """Key prefix of the records of changes that are being prepared."""
    return f"{FOLDER}/{name}/changes"


def _key(name: str) -> str:
    return f"{FOLDER}/{name}/head.json"
