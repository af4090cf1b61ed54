"""Fetches a data set from an archive at any address, a local folder or an S3 prefix."""

from __future__ import annotations

import logging
import os
import shutil
import unicodedata
from pathlib import Path
from typing import NamedTuple, TypeGuard

from zeshel_tasks.config.data import DownloadConfig
from zeshel_tasks.download.archive import unpack
from zeshel_tasks.download.dumps import dump_identity
from zeshel_tasks.download.fetch import deadline_of, fetch, source_identity
from zeshel_tasks.download.members import ALL_FOLDERS, EXPECTED_NAME, FOLDERS, UNFINISHED, can_be_kept, is_member
from zeshel_tasks.download.transfer import Fetched
from zeshel_tasks.errors import ConfigError, DataError, TryAgain
from zeshel_tasks.location import (
    LocalPath,
    S3Address,
    SourceLocation,
    StoreLocation,
    WikiDump,
    located,
    source_location,
)
from zeshel_tasks.store import Store
from zeshel_tasks.store.artifacts import sha256_of
from zeshel_tasks.store.base import StoredObject
from zeshel_tasks.store.identity import digest_of
from zeshel_tasks.store.runs import store_at

log = logging.getLogger(__name__)


def obtain(source: str, folder: Path, scratch: Path, config: DownloadConfig) -> Fetched:
    """Put ``documents/*.json``, ``mentions/*.json`` and any ``contexts/*.json`` of a data set into a folder.

    Args:
        source: as in :class:`~zeshel_tasks.config.data.DownloadConfig`, but no dump; an S3 prefix ends with ``/``.
        folder: an empty folder.
        scratch: for the downloaded archive.
        config: limits of size and time; ``sha256`` applies to the first source.

    Returns:
        Size and SHA-256 of the archive. For a folder, the total size of its files and a hash of their hashes.

    Raises:
        ConfigError: the address is wrong, or its server refuses.
        DataError: the data set is missing, damaged, unsafe or too large.
        TryAgain: the server does not answer, or an import has not finished.
    """
    own = config_of(source, config)
    max_bytes = int(config.max_unpacked_gb * 1e9)
    location = located("source", source, source_location)
    if _is_folder(location):
        return _copy(_folder(location), folder, max_bytes)
    archive = scratch / "archive"
    fetched = fetch(source, archive, own)
    log.info("archive: %.1f MB, sha256 %s", fetched.size / 1e6, fetched.sha256)
    unpack(archive, folder, max_bytes, location.name)
    archive.unlink()
    return fetched


def identities(config: DownloadConfig) -> dict[str, str]:
    """Content identity of each source. If one changes, the data set is a new one.

    Raises:
        ConfigError: an address is wrong.
        DataError: a folder contains no data set.
        TryAgain: a server does not answer, or an import has not finished.
    """
    found = [_identity(source, config_of(source, config)) for source in config.sources]
    return {f"source {number}" if number > 1 else "source": text for number, text in enumerate(found, start=1)}


def config_of(source: str, config: DownloadConfig) -> DownloadConfig:
    """The settings for one source; ``sha256`` applies only to the first one, which must be one file.

    Raises:
        ConfigError: it is several.
    """
    if source != config.source:
        return config.model_copy(update={"sha256": None})
    location = located("source", source, source_location)
    if config.sha256 is not None and (_is_folder(location) or (isinstance(location, WikiDump) and location.pattern)):
        raise ConfigError(f"sha256: expected none for several files, which are not hashed as one: {location.name!r}")
    return config


def _identity(source: str, config: DownloadConfig) -> str:
    location = located("source", source, source_location)
    if isinstance(location, WikiDump):
        return f"{dump_identity(location, config)} shares:{config.shares_of_wiki(location.world)}"
    if not _is_folder(location):
        return source_identity(source, config)
    found = _folder(location)
    if isinstance(location, LocalPath):
        local = Path(found.store.address)
        with deadline_of(config) as deadline:
            hashes = {file.key: sha256_of(local / file.key, deadline.check) for file in found.files}
        return f"sha256:{digest_of(hashes)}"
    return f"etag:{digest_of({file.key: file.version for file in found.files})}"


def _is_folder(location: SourceLocation) -> TypeGuard[StoreLocation]:
    if isinstance(location, LocalPath):
        return os.path.isdir(location.path)  # noqa: PTH112  # False for a name that no file can have; fetch refuses it
    return isinstance(location, S3Address) and location.address.endswith("/")


class _Folder(NamedTuple):
    """A folder or a prefix, and the files in it that belong to the data set."""

    name: str
    store: Store
    files: list[StoredObject]


def _folder(location: StoreLocation) -> _Folder:
    name, store = location.name, store_at(location)
    check_finished(location)
    files = [
        file
        for folder in ALL_FOLDERS
        for file in store.objects(f"{folder}/")
        if is_member(folder, file.key.removeprefix(f"{folder}/")) and file.key.count("/") == 1
    ]
    check_finished(location)  # again, because an import may have begun before the listing ended
    if isinstance(location, LocalPath):
        _check_regular(location.path, name)
    for folder in FOLDERS:
        if not any(file.key.startswith(f"{folder}/") for file in files):
            raise DataError("not a data set in ZESHEL's format", file=name, expected=f"{folder}/*.json")
    for file in files:
        if not can_be_kept(file.key.partition("/")[2]):
            raise DataError("a name that cannot be kept", file=name, expected=EXPECTED_NAME, got=file.key)
    return _Folder(name, store, files)


def check_finished(location: StoreLocation) -> None:
    """Check that no import is writing the data set at an address.

    Raises:
        TryAgain: one is, or was killed.
    """
    if store_at(location).get(UNFINISHED) is not None:
        raise TryAgain(
            f"{location.name}: an import is writing this data set; if it was killed, run the same import again"
        )


def _check_regular(root: Path, name: str) -> None:
    """Refuse broken links, which a listing leaves out, and pipes and devices, at which reading would wait for ever."""
    for folder in ALL_FOLDERS:
        for path in sorted((root / folder).glob("*")):
            if is_member(folder, path.name) and not (path.is_file() or path.is_dir()):
                problem = "not a file, or a link to a file that is not there"
                raise DataError(problem, file=name, expected="a file", got=f"{folder}/{path.name}")


def _copy(source: _Folder, target: Path, max_bytes: int) -> Fetched:
    size = sum(file.size for file in source.files)
    if size > max_bytes:
        expected = f"at most {max_bytes:,} bytes in all (max_unpacked_gb)"
        raise DataError("too large", file=source.name, expected=expected, got=f"{size:,}")
    copies = {file.key: _copy_file(source, file, target) for file in source.files}
    log.info("%s: %d files, %.1f MB", source.name, len(copies), size / 1e6)
    return Fetched(size, digest_of({key: sha256_of(path) for key, path in copies.items()}))


def _copy_file(source: _Folder, file: StoredObject, folder: Path) -> Path:
    target = folder / unicodedata.normalize("NFC", file.key)  # macOS writes é as e and an accent
    if target.exists():
        raise DataError("the same file twice", file=source.name, got=file.key)
    target.parent.mkdir(exist_ok=True)
    local = source.store.local_copy(file.key, target)
    if local is None:
        raise DataError("a file is gone that was there a moment ago", file=f"{source.name}: {file.key}")
    if local != target:
        shutil.copyfile(local, target)
    return target
