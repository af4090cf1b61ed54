"""Stores bytes locally or in S3: artifacts, and runs that refer to artifacts.

boto3 takes most of a second to import, so ``open_store`` imports it for an S3 address and this package does not.
"""

from zeshel_tasks.store.artifacts import (
    Artifact,
    Attempt,
    FileEntry,
    Manifest,
    Metrics,
    StoredFiles,
    artifact_folder,
    fingerprint,
)
from zeshel_tasks.store.base import Store
from zeshel_tasks.store.local import LocalStore
from zeshel_tasks.store.runs import Run, RunRecord, open_run, open_store

__all__ = [
    "Artifact",
    "Attempt",
    "FileEntry",
    "LocalStore",
    "Manifest",
    "Metrics",
    "Run",
    "RunRecord",
    "Store",
    "StoredFiles",
    "artifact_folder",
    "fingerprint",
    "open_run",
    "open_store",
]
