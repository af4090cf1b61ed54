"""Artifacts: the output of a stage, committed by its manifest, verified when read, reused by fingerprint.

artifacts/<stage>/<fingerprint>/manifest.json                  written last; without it, the artifact does not exist
artifacts/<stage>/<fingerprint>/attempts/<attempt>/<file>      the files of one attempt
"""

from __future__ import annotations

import hashlib
import logging
import time
import uuid
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict

from zeshel_tasks.errors import CorruptArtifact, StoreUnavailable
from zeshel_tasks.store.base import Store
from zeshel_tasks.store.checksummed import READS, checksummed, read_checksummed
from zeshel_tasks.text.json_text import to_json

log = logging.getLogger(__name__)

_BLOCK = 2**20

_DECISION_PAUSES = (1, 2, 4, 8, 15, *[30] * 9)  # seconds; after 5 minutes in total, the cleanup must be dead
Metrics = dict[str, Any]
"""Metrics of a stage, as in its manifest."""

_REMEDY = "delete this manifest to run the stage again"


class FileEntry(BaseModel):
    """One file of an artifact; ``key`` is relative to the artifact's folder, ``size`` in bytes."""

    model_config = ConfigDict(frozen=True)
    key: str
    size: int
    sha256: str


class Manifest(BaseModel):
    """Describes an artifact, and is the only proof that its stage finished. Refuses unknown fields.

    ``uses`` are the folders of the artifacts that were used on the way and belong to no stage of the recipe.
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
    """Returns the SHA-256 (hex) of everything that decides what a stage computes."""
    identity = {"stage": stage, "split": split, "version": version, "config": dict(config), "inputs": dict(inputs)}
    return hashlib.sha256(to_json(identity, sort_keys=True, default=str).encode()).hexdigest()


def artifact_folder(stage: str, fingerprint: str) -> str:
    """Key prefix of the artifact, without a trailing slash."""
    return f"artifacts/{stage}/{fingerprint}"


def manifest_key(folder: str) -> str:
    """Key of the manifest of the artifact in ``folder``."""
    return f"{folder}/manifest.json"


def removed_manifest_key(folder: str) -> str:
    """Key under which a cleanup keeps the manifest until it has decided about the artifact in ``folder``."""
    return f"{folder}/manifest.removed.json"


def read_manifest(store: Store, folder: str) -> Manifest | None:
    """Returns the committed manifest in ``folder``, or None. Waits for the decision of a cleanup.

    Raises:
        CorruptArtifact: the object is not a manifest.
    """
    for seconds in _DECISION_PAUSES:
        manifest = read_manifest_now(store, folder)
        if manifest is not None:
            return manifest
        if store.get(removed_manifest_key(folder)) is None:
            break
        log.info("waiting for a cleanup to decide about %s", folder)
        time.sleep(seconds)
    return read_manifest_now(store, folder)  # the cleanup may have restored it after the first read


def read_manifest_now(store: Store, folder: str) -> Manifest | None:
    """Like :func:`read_manifest`, but does not wait for a cleanup."""
    return read_checksummed(store, manifest_key(folder), Manifest, _REMEDY)


def put_aside(store: Store, folder: str) -> Manifest | None:
    """Returns the manifest that a cleanup has set aside, or None."""
    return read_checksummed(store, removed_manifest_key(folder), Manifest, _REMEDY)


def read_kept_manifest(store: Store, folder: str) -> Manifest | None:
    """Like :func:`read_manifest` of an artifact that a cleanup keeps, so that it need not wait for the decision."""
    # A cleanup may set the manifest aside after the first read and restore it after the second.
    return read_manifest_now(store, folder) or put_aside(store, folder) or read_manifest_now(store, folder)


class StoredFiles:
    """Reads files in the store. Each is checked against its entry before it is returned.

    Args:
        store: the store that holds them.
        folder: key prefix that the entries' keys are relative to.
        files: committed files, by name.
        cache: local directory for fetched files.
    """

    def __init__(self, store: Store, folder: str, files: Mapping[str, FileEntry], cache: Path) -> None:
        self.store, self._folder, self._files = store, folder, files
        self._cache = cache / folder
        self._verified: dict[str, Path] = {}
        self._remedy = ""  # tells the user what to do about a damaged file

    def path(self, name: str) -> Path:
        """Returns a local file with the bytes that were committed under ``name``. Fetches it on first use.

        Raises:
            CorruptArtifact: the file is missing, or its size or SHA-256 differs from its entry.
        """
        if name not in self._verified or not self._verified[name].is_file():
            entry = self._files.get(name)
            if entry is None:
                raise CorruptArtifact("no such file was committed", file=self._where(name))
            self._verified[name] = self._fetch(entry)
        return self._verified[name]

    def directory(self, prefix: str) -> Path:
        """Returns a local directory with all files whose names begin with ``prefix/``."""
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
        self._remedy = f"; delete {store.address}/{manifest_key(folder)} to run the stage again"


class Uploads:
    """Uploads local files into a folder of the store, below a prefix that no other attempt uses.

    Args:
        store: the store to upload to.
        folder: key prefix that the entries' keys are relative to.
    """

    def __init__(self, store: Store, folder: str) -> None:
        self._store, self._folder, self._prefix = store, folder, f"attempts/{uuid.uuid4().hex}"
        self._entries: dict[str, FileEntry] = {}

    def upload(self, paths: Mapping[str, Path]) -> dict[str, FileEntry]:
        """Uploads files by name. After a failure, the next call uploads only the missing files."""
        for name, path in paths.items():
            if name not in self._entries:
                entry = FileEntry(key=f"{self._prefix}/{name}", size=path.stat().st_size, sha256=sha256_of(path))
                self._store.upload(path, f"{self._folder}/{entry.key}")
                self._entries[name] = entry
        return dict(self._entries)


class Attempt:
    """Collects the files of a new artifact. Nothing is stored before :meth:`commit`."""

    def __init__(self, store: Store, folder: str) -> None:
        self._store, self._folder = store, folder
        self._paths: dict[str, Path] = {}
        self._uploads = Uploads(store, folder)

    def add(self, name: str, path: Path) -> None:
        """Adds a finished local file to the artifact, under ``name``."""
        self._paths[name] = path

    def add_directory(self, prefix: str, directory: Path) -> None:
        """Adds all files below ``directory`` as ``prefix/...``."""
        for path in sorted(path for path in directory.rglob("*") if path.is_file()):
            self.add(f"{prefix}/{path.relative_to(directory).as_posix()}", path)

    def commit(self, facts: Mapping[str, Any]) -> Manifest:
        """Uploads the files, then a manifest with ``facts`` and the files' entries. May be called again.

        Returns:
            The committed manifest: this attempt's, or that of a faster attempt, in which case this attempt's files
            are deleted.
        """
        entries = self._uploads.upload(self._paths)
        manifest = Manifest.model_validate({**facts, "files": entries})
        if self._store.put_if_absent(manifest_key(self._folder), checksummed(manifest)):
            return manifest
        winner = read_manifest(self._store, self._folder)
        if winner is None:
            raise StoreUnavailable(f"{self._store.address}/{self._folder}: the manifest was deleted while it was read")
        if winner.files == entries:  # our write succeeded, but its answer was lost and the client's retry was refused
            return winner
        log.info("another attempt committed %s first, using its result", self._folder)
        self._store.delete_all([f"{self._folder}/{entry.key}" for entry in entries.values()])
        return winner


def sha256_of(path: Path, at_each_block: Callable[[], None] = lambda: None) -> str:
    """SHA-256 of a file in hexadecimal. Reads the file in blocks.

    Reads no more bytes than the file's size, because files of the system in /proc have none, and some have no end.
    """
    digest, left = hashlib.sha256(), path.stat().st_size
    with path.open("rb") as file:
        while left > 0 and (block := file.read(min(left, _BLOCK))):
            at_each_block()
            digest.update(block)
            left -= len(block)
    return digest.hexdigest()


def _matches(path: Path, entry: FileEntry) -> bool:
    return path.stat().st_size == entry.size and sha256_of(path) == entry.sha256
