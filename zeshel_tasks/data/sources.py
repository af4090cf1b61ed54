"""A data set from wherever it is: an archive at any address, a local folder, or a prefix in an S3 bucket."""

from __future__ import annotations

import logging
import shutil
from pathlib import Path
from urllib.parse import unquote

from zeshel_tasks.config import DownloadConfig
from zeshel_tasks.data.archive import unpack
from zeshel_tasks.data.fetch import fetch, source_identity
from zeshel_tasks.data.transfer import Fetched
from zeshel_tasks.errors import ConfigError, DataError
from zeshel_tasks.redaction import without_secrets
from zeshel_tasks.store import Store, open_store
from zeshel_tasks.store.base import StoredObject
from zeshel_tasks.store.identity import content_identity

_FOLDERS = ("documents", "mentions")

log = logging.getLogger(__name__)


def obtain(source: str, folder: Path, scratch: Path, config: DownloadConfig) -> Fetched:
    """Puts ``documents/*.json`` and ``mentions/*.json`` of a data set into a folder.

    Args:
        source: as in :class:`~zeshel_tasks.config.DownloadConfig`; an S3 prefix ends with ``/``.
        folder: an empty one.
        scratch: for the archive on its way.
        config: bounds of size and time; its ``sha256`` is that of its first source.

    Returns:
        Size and SHA-256 of the archive; of a folder, the size of all files, and a hash over theirs.

    Raises:
        ConfigError: the address is wrong, or its server refuses.
        DataError: no data set, a damaged or an unsafe one, or too large.
        StoreUnavailable: the server does not answer.
    """
    own = _config_of(source, config)
    max_bytes = int(config.max_unpacked_gb * 1e9)
    if _is_folder(source):
        return _copy(source, folder, max_bytes)
    archive = scratch / "archive"
    fetched = fetch(source, archive, own)
    log.info("archive: %.1f MB, sha256 %s", fetched.size / 1e6, fetched.sha256)
    unpack(archive, folder, max_bytes)
    archive.unlink()
    return fetched


def identities(config: DownloadConfig) -> dict[str, str]:
    """What tells the content of each source: a change of one of them is a new data set.

    Raises:
        ConfigError: an address is wrong.
        DataError: there is nothing in a folder.
        StoreUnavailable: a server does not answer.
    """
    found = [
        content_identity(source) if _is_folder(source) else source_identity(source, _config_of(source, config))
        for source in config.sources
    ]
    return {f"source {number}" if number > 1 else "source": text for number, text in enumerate(found, start=1)}


def _config_of(source: str, config: DownloadConfig) -> DownloadConfig:
    """The settings for one source: ``sha256`` is about the first one, and about an archive."""
    if source != config.source:
        return config.model_copy(update={"sha256": None})
    if config.sha256 is not None and _is_folder(source):
        raise ConfigError(f"sha256: expected none for a folder, whose files are not hashed as one: {source!r}")
    return config


def _is_folder(source: str) -> bool:
    if source.startswith("s3://"):
        return source.endswith("/")
    return "://" not in source.removeprefix("file://") and _local_path(source).is_dir()


def _local_path(source: str) -> Path:
    return Path(unquote(source.removeprefix("file://")) if source.startswith("file://") else source)


def _copy(source: str, folder: Path, max_bytes: int) -> Fetched:
    name = without_secrets(source)
    store = open_store(source if source.startswith("s3://") else str(_local_path(source)))
    found = [file for part in _FOLDERS for file in store.objects(f"{part}/") if _is_wanted(file.key)]
    for part in _FOLDERS:
        if not any(file.key.startswith(f"{part}/") for file in found):
            raise DataError("not a data set in ZESHEL's format", file=name, expected=f"{part}/*.json")
    size = sum(file.size for file in found)
    if size > max_bytes:
        expected = f"at most {max_bytes:,} bytes in all (max_unpacked_gb)"
        raise DataError("too large", file=name, expected=expected, got=f"{size:,}")
    for file in found:
        _copy_file(store, file, folder / file.key, name)
    log.info("%s: %d files, %.1f MB", name, len(found), size / 1e6)
    return Fetched(size, content_identity(str(folder)).partition(":")[2])


def _is_wanted(key: str) -> bool:
    name = key.partition("/")[2]
    return name.endswith(".json") and "/" not in name and not name.startswith(".")


def _copy_file(store: Store, file: StoredObject, target: Path, name: str) -> None:
    target.parent.mkdir(exist_ok=True)
    local = store.local_copy(file.key, target)
    if local is None:
        raise DataError("a file is gone that was there a moment ago", file=f"{name}: {file.key}")
    if local != target:
        shutil.copyfile(local, target)
