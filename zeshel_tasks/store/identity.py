"""What tells content from other content at the same address, without reading it over a network."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path

from zeshel_tasks.errors import DataError
from zeshel_tasks.store.artifacts import sha256_of


def content_identity(address: str) -> str:
    """Identity of a local file or directory (``sha256:...``), or of an s3 object or prefix (``etag:...``).

    Raises:
        DataError: there is nothing at this address.
        ConfigError, StoreUnavailable: the store refuses or does not answer.
    """
    if address.startswith("s3://"):
        from zeshel_tasks.store.s3 import object_tags, split_s3_address

        _, root = split_s3_address(address)
        tags = {key.removeprefix(root).strip("/"): tag for key, tag in object_tags(address).items()}
        if not tags:
            raise DataError("nothing at this address", file=address)
        return f"etag:{digest_of(tags)}"
    path = Path(address.removeprefix("file://"))
    if path.is_file():
        return f"sha256:{sha256_of(path)}"
    files = {p.relative_to(path).as_posix(): sha256_of(p) for p in sorted(path.rglob("*")) if p.is_file()}
    if not files:
        raise DataError("nothing at this address", file=address)
    return f"sha256:{digest_of(files)}"


def digest_of(named: Mapping[str, str]) -> str:
    """Hex digits that stand for names and what tells the content of each."""
    return hashlib.sha256("\n".join(f"{name} {value}" for name, value in sorted(named.items())).encode()).hexdigest()
