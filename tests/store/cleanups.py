"""Creates artifacts and records for the tests of cleanups, and checks them."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

from zeshel_tasks.store import Artifact, Manifest, Run, Store, artifact_folder
from zeshel_tasks.store.artifacts import read_manifest_now

BEFORE = datetime(2000, 1, 1, tzinfo=UTC)
"""A time between the old objects of an AgedStore and all others."""
MakeArtifact = Callable[..., Manifest]


def folder_of(manifest: Manifest) -> str:
    return artifact_folder(manifest.stage, manifest.fingerprint)


def record(store: Store, run: str, manifest: Manifest) -> None:
    Run(store, run).write_record(manifest.stage, manifest, reused=False, wall_seconds=1)


def everything(store: Store) -> dict[str, bytes | None]:
    return {key: store.get(key) for key in store.keys("")}


def is_whole(store: Store, manifest: Manifest, cache: Path) -> bool:
    """Returns True if every file exists with its committed bytes."""
    artifact = Artifact(store, folder_of(manifest), manifest, cache)
    return read_manifest_now(store, folder_of(manifest)) == manifest and all(
        artifact.path(name).is_file() for name in manifest.files
    )
