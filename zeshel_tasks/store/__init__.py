"""Where bytes live: local and S3 stores, artifacts in them, runs that refer to artifacts.

Importing this package does not import boto3, which takes most of a second: ``open_store`` does, for an S3 address.
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
