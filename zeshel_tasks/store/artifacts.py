"""Artifacts: the output of a stage, committed by its manifest, verified when read, reused by fingerprint.

artifacts/<stage>/<fingerprint>/manifest.json                  written last; without it nothing exists
artifacts/<stage>/<fingerprint>/attempts/<attempt>/<file>      what one attempt wrote
"""

from __future__ import annotations

import hashlib
import json
import logging
import time
import uuid
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict

from zeshel_tasks.errors import CorruptArtifact, StoreUnavailable
from zeshel_tasks.store.base import Store
from zeshel_tasks.store.checksummed import READS, checksummed, read_checksummed

log = logging.getLogger(__name__)

_DECISION_PAUSES = (1, 2, 4, 8, 15, *[30] * 9)  # seconds, 5 minutes in all: by then the cleanup is dead
Metrics = dict[str, Any]
"""What a stage measured, as its manifest has it."""

_REMEDY = "delete this manifest, and the stage is done again"


class FileEntry(BaseModel):
    """One file of an artifact; ``key`` is relative to the artifact's folder, ``size`` in bytes."""

    model_config = ConfigDict(frozen=True)
    key: str
    size: int
    sha256: str


class Manifest(BaseModel):
    """What a stage did and what it left: the only proof that it finished. Unknown fields are kept out.

    ``uses`` are the folders of the artifacts that this one was made with and that no stage of the recipe has.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")
    stage: str
    split: str | None
    fingerprint: str
    package_version: str
    config: dict[str, Any]
    inputs: dict[str, str]
    uses: tuple[str, ...] = ()
    files: dict[str, FileEntry]
    metrics: Metrics
    started_at: str
    finished_at: str
    wall_seconds: float
    peak_memory_mb: float
    peak_gpu_memory_mb: float | None
    device: str
    versions: dict[str, str]
    hardware: dict[str, Any]


def fingerprint(
    stage: str, split: str | None, version: str, config: Mapping[str, Any], inputs: Mapping[str, str]
) -> str:
    """SHA-256 (hex) of everything that decides what a stage computes."""
    identity = {"stage": stage, "split": split, "version": version, "config": dict(config), "inputs": dict(inputs)}
    return hashlib.sha256(json.dumps(identity, sort_keys=True, default=str).encode()).hexdigest()


def artifact_folder(stage: str, fingerprint: str) -> str:
    """Key prefix of the artifact, without a trailing slash."""
    return f"artifacts/{stage}/{fingerprint}"


def manifest_key(folder: str) -> str:
    """Where the manifest of the artifact in ``folder`` is."""
    return f"{folder}/manifest.json"


def removed_manifest_key(folder: str) -> str:
    """Where a cleanup keeps the manifest until it has decided about the artifact in ``folder``."""
    return f"{folder}/manifest.removed.json"


def read_manifest(store: Store, folder: str) -> Manifest | None:
    """The committed manifest in ``folder``, or None. Where a cleanup has it in hand, what the cleanup decides.

    Raises:
        CorruptArtifact: there is one, but it is not a manifest.
    """
    for seconds in _DECISION_PAUSES:
        manifest = read_manifest_now(store, folder)
        if manifest is not None:
            return manifest
        if store.get(removed_manifest_key(folder)) is None:
            break
        log.info("waiting for a cleanup to decide about %s", folder)
        time.sleep(seconds)
    return read_manifest_now(store, folder)  # it may have been put back after the first look


def read_manifest_now(store: Store, folder: str) -> Manifest | None:
    """As :func:`read_manifest`, but at once: what is there now."""
    return read_checksummed(store, manifest_key(folder), Manifest, _REMEDY)


def put_aside(store: Store, folder: str) -> Manifest | None:
    """The manifest that a cleanup has put aside, or None."""
    return read_checksummed(store, removed_manifest_key(folder), Manifest, _REMEDY)


class StoredFiles:
    """Files in the store, for reading. Each is checked against its entry before it is handed out.

    Args:
        store: where they lie.
        folder: key prefix that the entries' keys are relative to.
        files: what was committed, by name.
        cache: local directory for what must be fetched.
    """

    def __init__(self, store: Store, folder: str, files: Mapping[str, FileEntry], cache: Path) -> None:
        self.store, self._folder, self._files = store, folder, files
        self._cache = cache / folder
        self._verified: dict[str, Path] = {}
        self._remedy = ""  # what to do about a damaged file, for messages

    def path(self, name: str) -> Path:
        """A local file with the bytes that were committed under ``name``; fetched on first use.

        Raises:
            CorruptArtifact: missing, or different in size or SHA-256 from its entry.
        """
        if name not in self._verified:
            entry = self._files.get(name)
            if entry is None:
                raise CorruptArtifact("no such file was committed", file=self._where(name))
            self._verified[name] = self._fetch(entry)
        return self._verified[name]

    def directory(self, prefix: str) -> Path:
        """A local directory with all files whose names begin with ``prefix/``."""
        names = [name for name in self._files if name.startswith(f"{prefix}/")]
        if not names:
            raise CorruptArtifact("no such directory was committed", file=self._where(prefix))
        paths = [self.path(name) for name in names]
        return paths[0].parents[names[0].removeprefix(f"{prefix}/").count("/")]

    def __contains__(self, name: str) -> bool:
        return name in self._files

    def _fetch(self, entry: FileEntry) -> Path:
        cached = self._cache / entry.key
        if cached.is_file() and _matches(cached, entry):
            return cached
        for left in reversed(range(READS)):
            path = self.store.local_copy(f"{self._folder}/{entry.key}", cached)
            if path is None:
                missing = f"missing from the store{self._remedy}"
                raise CorruptArtifact(missing, file=self._where(entry.key), expected=f"{entry.size} bytes")
            if _matches(path, entry):
                return path
            if not left:
                raise CorruptArtifact(
                    f"differs from what was committed{self._remedy}",
                    file=self._where(entry.key),
                    expected=f"{entry.size} bytes, sha256 {entry.sha256}",
                    got=f"{path.stat().st_size} bytes, sha256 {sha256_of(path)}",
                )
            log.warning("%s arrived damaged, fetching it again", self._where(entry.key))
        raise AssertionError("unreachable")

    def _where(self, key: str) -> str:
        return f"{self.store.address}/{self._folder}/{key}"


class Artifact(StoredFiles):
    """A committed artifact: its manifest and its files."""

    def __init__(self, store: Store, folder: str, manifest: Manifest, cache: Path) -> None:
        super().__init__(store, folder, manifest.files, cache)
        self.manifest = manifest
        self._remedy = f"; delete {store.address}/{manifest_key(folder)}, and the stage is done again"


class Uploads:
    """Local files on their way into a folder of the store, below a prefix that no other attempt uses.

    Args:
        store: where they go.
        folder: key prefix that the entries' keys are relative to.
    """

    def __init__(self, store: Store, folder: str) -> None:
        self._store, self._folder, self._prefix = store, folder, f"attempts/{uuid.uuid4().hex}"
        self._entries: dict[str, FileEntry] = {}

    def upload(self, paths: Mapping[str, Path]) -> dict[str, FileEntry]:
        """Uploads files by name; a call after one that failed goes on with what is missing."""
        for name, path in paths.items():
            if name not in self._entries:
                entry = FileEntry(key=f"{self._prefix}/{name}", size=path.stat().st_size, sha256=sha256_of(path))
                self._store.upload(path, f"{self._folder}/{entry.key}")
                self._entries[name] = entry
        return dict(self._entries)


class Attempt:
    """The files of an artifact in the making. Nothing is stored before :meth:`commit`."""

    def __init__(self, store: Store, folder: str) -> None:
        self._store, self._folder = store, folder
        self._paths: dict[str, Path] = {}
        self._uploads = Uploads(store, folder)

    def add(self, name: str, path: Path) -> None:
        """Makes the finished local file part of the artifact, under ``name``."""
        self._paths[name] = path

    def add_directory(self, prefix: str, directory: Path) -> None:
        """Adds all files below ``directory`` as ``prefix/...``."""
        for path in sorted(path for path in directory.rglob("*") if path.is_file()):
            self.add(f"{prefix}/{path.relative_to(directory).as_posix()}", path)

    def commit(self, facts: Mapping[str, Any]) -> Manifest:
        """Uploads the files, then the manifest made of ``facts`` and the files' entries; may be called again.

        Returns:
            The manifest that is committed now: this attempt's, or that of an attempt that was faster, in which
            case this attempt's files are removed again.
        """
        entries = self._uploads.upload(self._paths)
        manifest = Manifest.model_validate({**facts, "files": entries})
        if self._store.put_if_absent(manifest_key(self._folder), checksummed(manifest)):
            return manifest
        winner = read_manifest(self._store, self._folder)
        if winner is None:
            raise StoreUnavailable(f"{self._store.address}/{self._folder}: the manifest vanished while it was read")
        if winner.files == entries:  # the answer to our own write got lost, and the client's retry was refused
            return winner
        log.info("another attempt committed %s first: using its result", self._folder)
        for entry in entries.values():
            self._store.delete(f"{self._folder}/{entry.key}")
        return winner


def sha256_of(path: Path) -> str:
    """SHA-256 of a file in hexadecimal, read in blocks."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _matches(path: Path, entry: FileEntry) -> bool:
    return path.stat().st_size == entry.size and sha256_of(path) == entry.sha256
