"""Content identity (hash or ETag) of a location."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Mapping

from zeshel_tasks.errors import DataError
from zeshel_tasks.location import S3Address, StoreLocation
from zeshel_tasks.store.artifacts import sha256_of


def content_identity(location: StoreLocation, wanted: Callable[[Iterable[str]], list[str]] | None = None) -> str:
    """Returns ``sha256:...`` for a local file or directory, and ``etag:...`` for an S3 object or prefix.

    Equal files have equal identities wherever they are stored. Nothing is downloaded from S3.

    Args:
        location: of the content.
        wanted: selects the files of a directory or prefix that count, from all relative names; by default, all do.

    Raises:
        DataError: the location does not exist, or contains no file.
        ConfigError, StoreUnavailable: the store refuses or does not answer.
    """
    if isinstance(location, S3Address):
        from zeshel_tasks.store.s3 import object_tags  # imports boto3

        tags = object_tags(location)
        kind, found = "etag", tags if wanted is None else {name: tags[name] for name in wanted(tags)}
    else:
        path = location.path
        files = [path] if path.is_file() else [file for file in path.rglob("*") if file.is_file()]
        names = [file.relative_to(path).as_posix() for file in files]
        kind, found = "sha256", {name: sha256_of(path / name) for name in (names if wanted is None else wanted(names))}
    if not found:
        raise DataError("nothing at this address", file=location.name)
    is_file = list(found) == ["."]
    return f"{kind}:{found['.'] if is_file else digest_of(found)}"


def digest_of(named: Mapping[str, str]) -> str:
    """Returns the hexadecimal digest of names with their hashes or ETags."""
    return hashlib.sha256("\n".join(f"{name} {value}" for name, value in sorted(named.items())).encode()).hexdigest()
