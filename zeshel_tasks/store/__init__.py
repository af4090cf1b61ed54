"""Where bytes live: local and S3 stores, artifacts in them, runs that refer to artifacts."""

from zeshel_tasks.store.artifacts import (
    Artifact,
    Attempt,
    FileEntry,
    Manifest,
    StoredFiles,
    artifact_folder,
    fingerprint,
)
from zeshel_tasks.store.base import Store
from zeshel_tasks.store.local import LocalStore
from zeshel_tasks.store.runs import Run, RunRecord, open_run, open_store
from zeshel_tasks.store.s3 import S3Store

__all__ = [
    "Artifact",
    "Attempt",
    "FileEntry",
    "LocalStore",
    "Manifest",
    "Run",
    "RunRecord",
    "S3Store",
    "Store",
    "StoredFiles",
    "artifact_folder",
    "fingerprint",
    "open_run",
    "open_store",
]
