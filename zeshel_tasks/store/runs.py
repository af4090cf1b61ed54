"""Runs: a run is an address with one small record per stage that names the artifact of the run."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path, PurePosixPath

from pydantic import BaseModel, ConfigDict

from zeshel_tasks.errors import ConfigError, CorruptArtifact
from zeshel_tasks.location import LocalPath, StoreLocation, located, store_location
from zeshel_tasks.store.artifacts import Artifact, Manifest, artifact_folder, read_manifest
from zeshel_tasks.store.base import Store, StoredObject
from zeshel_tasks.store.checksummed import checksummed, read_checksummed
from zeshel_tasks.store.local import LocalStore

_RECORD = re.compile(r"runs/[^/]+/(stages|uses)/[^/]+\.json")
_RECORD_OF_CHANGE = re.compile(r"kb/[^/]+/changes/[^/]+/(stages|uses)/[^/]+\.json")


class RunRecord(BaseModel):
    """Names the artifact that a stage of this run made or reused. ``wall_seconds`` is the time it took in this run.

    An artifact that the run made keeps ``reused=False`` if the run is interrupted and finds it again after a restart.
    A cleanup never removes an artifact that a record names.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")
    stage: str
    artifact: str
    fingerprint: str
    reused: bool
    recorded_at: str
    wall_seconds: float


class Run:
    """One run of the recipe in a store, or one change of a knowledge base.

    Args:
        store: the store.
        run_id: its id.
        parent: key prefix of its folder.
    """

    def __init__(self, store: Store, run_id: str, parent: str = "runs") -> None:
        self.store, self.run_id = store, run_id
        self._folder = f"{parent}/{run_id}"

    @property
    def address(self) -> str:
        return f"{self.store.address}/{self._folder}"

    def record(self, name: str) -> RunRecord | None:
        """Returns the record of the stage ``name`` (``eval-biencoder-test``), or None if it has not finished."""
        return read_record(self.store, self._record_key(name))

    def manifest(self, name: str) -> Manifest | None:
        """Returns the manifest that the stage ``name`` of this run committed or reused, or None."""
        record = self.record(name)
        return None if record is None else read_manifest(self.store, record.artifact)

    def finished(self, name: str) -> Manifest:
        """Returns the manifest of the stage ``name``.

        Raises:
            ConfigError: the stage has not finished in this run.
        """
        manifest = self.manifest(name)
        if manifest is None:
            raise ConfigError(f"{self.address}: expected a finished stage {name}, got none: run it first")
        return manifest

    def artifact(self, name: str, cache: Path) -> Artifact:
        """Opens the artifact of the stage ``name``.

        Raises:
            ConfigError: the stage has not finished in this run.
        """
        manifest = self.finished(name)
        return Artifact(self.store, artifact_folder(manifest.stage, manifest.fingerprint), manifest, cache)

    def write_record(self, name: str, manifest: Manifest, *, reused: bool, wall_seconds: float) -> None:
        """Records ``manifest`` as the artifact of the stage ``name``.

        A record of an artifact that this run made itself is not replaced by one that says ``reused``. If an attempt of
        this run made it and recorded only its use, because it was interrupted, the record does not say ``reused``.
        """
        key = self._record_key(name)
        if reused and self._made_by_this_run(key, manifest):
            return
        reused = reused and not self._made_by_this_run(self._use_key(manifest), manifest)
        self._put_record(key, name, manifest, reused, wall_seconds)

    def write_use(self, manifest: Manifest, *, reused: bool, wall_seconds: float) -> None:
        """Records that a stage of this run uses an artifact: an intermediate one, or one that it will deliver."""
        key = self._use_key(manifest)
        if not (reused and self._made_by_this_run(key, manifest)):
            self._put_record(key, PurePosixPath(key).stem, manifest, reused, wall_seconds)

    def publish(self, name: str, data: bytes) -> None:
        """Writes a small file for people into the run's own folder."""
        self.store.put(self.key(name), data)

    def published(self, name: str) -> bytes | None:
        """Returns a file that :meth:`publish` has written, or None."""
        return self.store.get(self.key(name))

    def key(self, name: str) -> str:
        """Returns the key of a file that :meth:`publish` writes."""
        return f"{self._folder}/{name}"

    def forget(self) -> None:
        """Deletes all records."""
        self.store.delete_all(list(self.store.keys(f"{self._folder}/")))

    def _put_record(self, key: str, name: str, manifest: Manifest, reused: bool, wall_seconds: float) -> None:
        record = RunRecord(
            stage=name,
            artifact=artifact_folder(manifest.stage, manifest.fingerprint),
            fingerprint=manifest.fingerprint,
            reused=reused,
            recorded_at=datetime.now(UTC).isoformat(timespec="seconds"),
            wall_seconds=round(wall_seconds, 3),
        )
        self.store.put(key, checksummed(record))

    def _made_by_this_run(self, key: str, manifest: Manifest) -> bool:
        """Returns True if the record under ``key`` says that this run made the artifact."""
        try:
            before = read_record(self.store, key)
        except CorruptArtifact:
            return False  # replace a broken record
        return before is not None and before.fingerprint == manifest.fingerprint and not before.reused

    def _record_key(self, name: str) -> str:
        return f"{self._folder}/stages/{name}.json"

    def _use_key(self, manifest: Manifest) -> str:
        return f"{self._folder}/uses/{manifest.stage}-{manifest.fingerprint[:16]}.json"


def listed_records(store: Store) -> Iterator[StoredObject]:
    """Yields the records of all runs, as in a listing."""
    return (found for found in store.objects("runs/") if _RECORD.fullmatch(found.key))


def records_of_changes(store: Store) -> Iterator[StoredObject]:
    """Yields the records of all changes of knowledge bases, as in a listing.

    A change deletes its records when it is done. One that was killed leaves them.
    """
    return (found for found in store.objects("kb/") if _RECORD_OF_CHANGE.fullmatch(found.key))


def read_record(store: Store, key: str) -> RunRecord | None:
    """Returns the record under ``key``, or None if it does not exist.

    Raises:
        CorruptArtifact: the record is broken.
    """
    return read_checksummed(store, key, RunRecord, "delete this record and run the stage again; it reuses its artifact")


def open_store(address: str, *, patient: bool = True) -> Store:
    """Opens the store at ``s3://bucket/prefix`` or in a local directory.

    Args:
        address: address of the store.
        patient: False to raise an error within seconds if a server does not answer, because someone waits for a page.

    Raises:
        ConfigError: the address has another scheme.
    """
    return store_at(located("store", address, store_location), patient=patient)


def store_at(location: StoreLocation, *, patient: bool = True) -> Store:
    """Opens the store at a location; ``patient`` as in :func:`open_store`."""
    if isinstance(location, LocalPath):
        return LocalStore(location.path)
    from zeshel_tasks.store.s3 import S3Store  # imports boto3

    return S3Store(location.bucket, location.key, patient=patient)


def open_run(address: str) -> Run:
    """Opens the run at ``<store>/runs/<run id>``.

    Raises:
        ConfigError: the address has another form.
    """
    store, run_id = located("--run", address, run_location)
    return Run(store_at(store), run_id)


def run_location(address: str) -> tuple[StoreLocation, str]:
    """Parses the address of a run into its store and its id.

    Raises:
        ValueError: the address has another form than ``<store>/runs/<run id>``.
    """
    location = store_location(address)
    store: StoreLocation
    if isinstance(location, LocalPath):
        path = location.path
        store, folder, run_id = replace(location, path=path.parent.parent), path.parent.name, path.name
    else:
        prefix, folder, run_id = ["", "", *location.key.rsplit("/", 2)][-3:]
        store = replace(location, key=prefix)
    if folder != "runs" or run_id in ("", ".."):
        raise ValueError(f"expected <store>/runs/<run id>, where <store> is {store_location.expected}")
    return store, run_id
