"""Runs: an address, and under it one small record a stage that says which artifact the run uses."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

from pydantic import BaseModel, ConfigDict

from zeshel_tasks.errors import ConfigError, CorruptArtifact
from zeshel_tasks.location import LocalPath, StoreLocation, located, store_location
from zeshel_tasks.store.artifacts import Artifact, Manifest, artifact_folder, read_manifest
from zeshel_tasks.store.base import Store, StoredObject
from zeshel_tasks.store.checksummed import checksummed, read_checksummed
from zeshel_tasks.store.local import LocalStore

_RECORD = re.compile(r"runs/[^/]+/(stages|uses)/[^/]+\.json")


class RunRecord(BaseModel):
    """Which artifact a stage of this run made or reused. ``wall_seconds`` is what it took in this run.

    What the run made stays ``reused=False`` when the run is interrupted, goes on, and finds it there.
    An artifact that a record names is never removed by a cleanup.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")
    stage: str
    artifact: str
    fingerprint: str
    reused: bool
    recorded_at: str
    wall_seconds: float


class Run:
    """One run of the recipe in a store."""

    def __init__(self, store: Store, run_id: str) -> None:
        self.store, self.run_id = store, run_id
        self._folder = f"runs/{run_id}"

    @property
    def address(self) -> str:
        return f"{self.store.address}/{self._folder}"

    def record(self, name: str) -> RunRecord | None:
        """The record of the stage ``name`` (``eval-biencoder-test``), or None where it did not finish."""
        return read_record(self.store, self._record_key(name))

    def manifest(self, name: str) -> Manifest | None:
        """The committed manifest that the stage ``name`` of this run made or reused, or None."""
        record = self.record(name)
        return None if record is None else read_manifest(self.store, record.artifact)

    def artifact(self, name: str, cache: Path) -> Artifact:
        """The artifact of the stage ``name``, for reading.

        Raises:
            ConfigError: the stage has not finished in this run.
        """
        record = self.record(name)
        manifest = None if record is None else read_manifest(self.store, record.artifact)
        if record is None or manifest is None:
            raise ConfigError(f"{self.address}: expected a finished stage {name}, got none: run it first")
        return Artifact(self.store, record.artifact, manifest, cache)

    def write_record(self, name: str, manifest: Manifest, *, reused: bool, wall_seconds: float) -> None:
        """Notes that the stage ``name`` of this run is what ``manifest`` describes.

        Nothing is reused that this run made itself: what an earlier attempt noted about it stays.
        """
        self._put_record(self._record_key(name), name, manifest, reused, wall_seconds)

    def write_use(self, manifest: Manifest, *, reused: bool, wall_seconds: float) -> None:
        """Notes that a stage of this run works with an artifact that no stage has for its own."""
        name = f"{manifest.stage}-{manifest.fingerprint[:16]}"
        self._put_record(f"{self._folder}/uses/{name}.json", name, manifest, reused, wall_seconds)

    def publish(self, name: str, data: bytes) -> None:
        """Puts a small file into the run's own folder, where people look for it."""
        self.store.put(f"{self._folder}/{name}", data)

    def _put_record(self, key: str, name: str, manifest: Manifest, reused: bool, wall_seconds: float) -> None:
        if reused and self._made(key, manifest):
            return
        record = RunRecord(
            stage=name,
            artifact=artifact_folder(manifest.stage, manifest.fingerprint),
            fingerprint=manifest.fingerprint,
            reused=reused,
            recorded_at=datetime.now(UTC).isoformat(timespec="seconds"),
            wall_seconds=round(wall_seconds, 3),
        )
        self.store.put(key, checksummed(record))

    def _made(self, key: str, manifest: Manifest) -> bool:
        """Whether the record under ``key`` says that this run made the artifact."""
        try:
            before = read_record(self.store, key)
        except CorruptArtifact:
            return False  # it is to be written anew
        return before is not None and before.fingerprint == manifest.fingerprint and not before.reused

    def _record_key(self, name: str) -> str:
        return f"{self._folder}/stages/{name}.json"


def listed_records(store: Store) -> Iterator[StoredObject]:
    """The records of all runs, as listed."""
    return (found for found in store.objects("runs/") if _RECORD.fullmatch(found.key))


def read_record(store: Store, key: str) -> RunRecord | None:
    """The record under ``key``, or None where there is none.

    Raises:
        CorruptArtifact: it is broken.
    """
    return read_checksummed(
        store, key, RunRecord, "delete this record, and run the stage again, which reuses its artifact"
    )


def open_store(address: str, *, patient: bool = True) -> Store:
    """The store at ``s3://bucket/prefix`` or in a local directory.

    Args:
        address: of the store.
        patient: False where somebody waits for a page: a server that does not answer is an error within seconds.

    Raises:
        ConfigError: any other scheme.
    """
    return store_at(located("store", address, store_location), patient=patient)


def store_at(location: StoreLocation, *, patient: bool = True) -> Store:
    """The store at a location; ``patient`` as in :func:`open_store`."""
    if isinstance(location, LocalPath):
        return LocalStore(location.path)
    from zeshel_tasks.store.s3 import S3Store  # imports boto3

    return S3Store(location.bucket, location.key, patient=patient)


def open_run(address: str) -> Run:
    """The run at ``<store>/runs/<run id>``.

    Raises:
        ConfigError: any other address.
    """
    store, run_id = located("--run", address, _store_and_run_id)
    return Run(store_at(store), run_id)


def _store_and_run_id(address: str) -> tuple[StoreLocation, str]:
    location = store_location(address)
    store: StoreLocation
    if isinstance(location, LocalPath):
        path = location.path
        store, folder, run_id = replace(location, path=path.parent.parent), path.parent.name, path.name
    else:
        prefix, folder, run_id = ["", "", *location.key.rsplit("/", 2)][-3:]
        store = replace(location, key=prefix)
    if folder != "runs" or run_id in ("", ".."):
        raise ValueError("expected <store>/runs/<run id>, where <store> is a local directory or s3://bucket/prefix")
    return store, run_id
