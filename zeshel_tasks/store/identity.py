"""Content identity (hash or ETag) of a location."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping

from zeshel_tasks.errors import DataError
from zeshel_tasks.location import S3Address, StoreLocation
from zeshel_tasks.store.artifacts import sha256_of


def content_identity(location: StoreLocation) -> str:
    """Returns ``sha256:...`` for a local file or directory, and ``etag:...`` for an S3 object or prefix.

    Equal files have equal identities wherever they are stored. Nothing is downloaded from S3.

    Raises:
        DataError: the location does not exist, or contains no file.
        ConfigError, StoreUnavailable: the store refuses or does not answer.
    """
    if isinstance(location, S3Address):
        from zeshel_tasks.store.s3 import object_tags  # imports boto3

        kind, found = "etag", object_tags(location)
    else:
        path = location.path
        files = [path] if path.is_file() else sorted(file for file in path.rglob("*") if file.is_file())
        kind, found = "sha256", {file.relative_to(path).as_posix(): sha256_of(file) for file in files}
    if not found:
        raise DataError("nothing at this address", file=location.name)
    is_file = list(found) == ["."]
    return f"{kind}:{found['.'] if is_file else digest_of(found)}"


def digest_of(named: Mapping[str, str]) -> str:
    """Returns the hexadecimal digest of names with their hashes or ETags."""
    return hashlib.sha256("\n".join(f"{name} {value}" for name, value in sorted(named.items())).encode()).hexdigest()
