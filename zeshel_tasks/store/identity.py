"""Content identity (hash or ETag) of a file or a folder, for fingerprints."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Mapping

from zeshel_tasks.errors import DataError
from zeshel_tasks.location import S3Address, StoreLocation
from zeshel_tasks.store.artifacts import sha256_of

_MAX_FILE_BYTES = 10**11
"""Bound of a file that is hashed. /proc/kcore claims 128 TB, and the weights of the largest RoBERTa have 43 GB."""


def file_identity(location: StoreLocation) -> str:
    """Returns ``sha256:...`` for a local file, and ``etag:...`` for an S3 object. Nothing is downloaded from S3.

    Raises:
        DataError: there is no file at the location, or it is too large.
        ConfigError, StoreUnavailable: the store refuses or does not answer.
    """
    if isinstance(location, S3Address):
        from zeshel_tasks.store.s3 import object_tags  # imports boto3

        tag = object_tags(location).get(".")
        found = None if tag is None else f"etag:{tag}"
    else:
        path = location.path
        if path.is_file() and (size := path.stat().st_size) > _MAX_FILE_BYTES:
            expected = f"at most {_MAX_FILE_BYTES:,} bytes"
            raise DataError("a file that is too large", file=location.name, expected=expected, got=f"{size:,}")
        found = f"sha256:{sha256_of(path)}" if path.is_file() else None
    if found is None:
        raise DataError("no file at this address", file=location.name)
    return found


def folder_identity(location: StoreLocation, wanted: Callable[[Iterable[str]], list[str]]) -> str:
    """Returns ``sha256:...`` for files of a local directory, and ``etag:...`` for objects of an S3 prefix.

    Equal files have equal identities wherever they are stored. Nothing is downloaded from S3.

    Args:
        location: of the folder.
        wanted: selects the files that count, from the names of those in the folder and in its subfolders.

    Raises:
        DataError: the location does not exist, or contains no such file.
        ConfigError, StoreUnavailable: the store refuses or does not answer.
    """
    if isinstance(location, S3Address):
        from zeshel_tasks.store.s3 import object_tags  # imports boto3

        tags = object_tags(location)
        kind, found = "etag", {name: tags[name] for name in wanted(tags)}
    else:
        path = location.path
        found_files = [file for pattern in ("*", "*/*") for file in path.glob(pattern) if file.is_file()]
        names = [file.relative_to(path).as_posix() for file in found_files]
        kind, found = "sha256", {name: sha256_of(path / name) for name in wanted(names)}
    if not found:
        raise DataError("nothing at this address", file=location.name)
    return f"{kind}:{digest_of(found)}"


def digest_of(named: Mapping[str, str]) -> str:
    """Returns the hexadecimal digest of names with their hashes or ETags."""
    return hashlib.sha256("\n".join(f"{name} {value}" for name, value in sorted(named.items())).encode()).hexdigest()
