"""Fetches the archive of a data set from any source, and identifies its content."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import IO

from zeshel_tasks.config.data import DownloadConfig
from zeshel_tasks.download.deadline import Deadline
from zeshel_tasks.download.google_drive import DOWNLOAD_ADDRESS, address_behind, download_address
from zeshel_tasks.download.http_client import http_client
from zeshel_tasks.download.http_source import HttpSource
from zeshel_tasks.download.networks import Hops
from zeshel_tasks.download.s3_source import S3Source
from zeshel_tasks.download.transfer import Body, Fetched, Retry, Source, transfer
from zeshel_tasks.errors import ConfigError, DataError
from zeshel_tasks.location import (
    ArchiveLocation,
    DriveFile,
    LocalPath,
    S3Address,
    WebAddress,
    archive_location,
    located,
)
from zeshel_tasks.store.artifacts import sha256_of
from zeshel_tasks.text.safe_text import quoted

_CHUNK = 2**20


def fetch(
    source: str,
    destination: Path,
    config: DownloadConfig,
    *,
    retry: Retry = Retry(),  # noqa: B008  # frozen
    drive_address: str = DOWNLOAD_ADDRESS,
) -> Fetched:
    """Copy an archive into a file, in bounded memory.

    Args:
        source: http(s) or s3 address, a file on Google Drive, ``file://`` or a local path.
        destination: the file, which is overwritten; its content is invalid after an error.
        config: limits of size and time, timeout, allowed networks, and expected SHA-256.
        retry: how often to resume a broken transfer.
        drive_address: where downloads from Google Drive start.

    Raises:
        ConfigError: the address is wrong, or its server refuses.
        DataError: the archive is too large, has another SHA-256 than expected, or is a web page.
        StoreUnavailable: the server does not answer, breaks off repeatedly, or takes too long.
    """
    location = located("source", source, archive_location)
    with deadline_of(config) as deadline, _opened(location, config, retry, drive_address, deadline) as opened:
        fetched = transfer(opened, destination, int(config.max_download_gb * 1e9), retry, deadline)
    if config.sha256 and fetched.sha256 != config.sha256.lower():
        expected = f"SHA-256 {config.sha256.lower()}"
        raise DataError("not the expected archive", file=opened.name, expected=expected, got=fetched.sha256)
    return fetched


def source_identity(
    source: str,
    config: DownloadConfig,
    *,
    retry: Retry = Retry(),  # noqa: B008  # frozen
) -> str:
    """Identity of the archive's content, for the fingerprint.

    ``sha256:`` if it is configured or the file is local; ``etag:`` or ``last-modified:`` from the server's answer;
    otherwise ``address:``. For Google Drive, this is the address of the file without other parts of the link.

    Raises:
        ConfigError: the address is wrong.
        StoreUnavailable: the server does not answer.
    """
    location = located("source", source, archive_location)
    if isinstance(location, DriveFile) and not config.sha256:
        return f"address:{download_address(replace(location, resource_key=None))}"
    with deadline_of(config) as deadline, _opened(location, config, retry, DOWNLOAD_ADDRESS, deadline) as opened:
        return f"sha256:{config.sha256.lower()}" if config.sha256 else opened.identity()


def deadline_of(config: DownloadConfig) -> Deadline:
    """Return the limit of ``max_download_minutes``, starting now."""
    return Deadline(config.max_download_minutes * 60, "max_download_minutes")


@contextmanager
def _opened(
    location: ArchiveLocation, config: DownloadConfig, retry: Retry, drive_address: str, deadline: Deadline
) -> Iterator[Source]:
    if isinstance(location, S3Address):
        yield S3Source(location)
    elif isinstance(location, LocalPath):
        yield LocalSource(location, deadline)
    else:
        hops = Hops(config.private_addresses, deadline)
        with http_client(config.timeout_seconds) as client:
            if isinstance(location, WebAddress):
                yield HttpSource(client, location.address, hops, retry=retry)
            else:
                address, name = download_address(location, drive_address), f"Google Drive file {location.file_id}"
                yield HttpSource(client, address, hops, name=name, on_page=address_behind, retry=retry)


class LocalSource:
    """A file on this machine."""

    def __init__(self, location: LocalPath, deadline: Deadline) -> None:
        self.name, self._path, self._deadline = location.name, location.path, deadline
        try:
            is_file, is_folder = self._path.is_file(), self._path.is_dir()
        except (OSError, ValueError) as error:  # no file can have this name
            raise ConfigError(f"source: expected a file, got {quoted(self.name)}: {quoted(str(error))}") from error
        if not is_file:
            problem = "a folder" if is_folder else "no such file"
            raise ConfigError(f"source: expected a file, got {quoted(self.name)}: {problem}")
        if not self._path.stat().st_size:  # the system's files in /proc have no size, and some have no end
            raise DataError("not a tar archive, or a damaged one: an empty file", file=self.name)

    @contextmanager
    def open(self, start: int) -> Iterator[Body]:
        """Read the file from byte ``start``."""
        with self._readable():
            file = self._path.open("rb")
        with file:
            file.seek(start)
            yield Body(start, self._path.stat().st_size, iter(lambda: self._read(file), b""))

    def identity(self) -> str:
        """``sha256:...``; reads the whole file."""
        with self._readable():
            return f"sha256:{sha256_of(self._path, self._deadline.check)}"

    def _read(self, file: IO[bytes]) -> bytes:
        with self._readable():
            return file.read(_CHUNK)

    @contextmanager
    def _readable(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise ConfigError(f"source: expected a readable file, got {quoted(self.name)}: {error}") from error
