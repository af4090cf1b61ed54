"""Fetching the archive of a data set from wherever it is."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import unquote, urlsplit

from zeshel_tasks.config import DownloadConfig
from zeshel_tasks.download.deadline import Deadline
from zeshel_tasks.download.google_drive import DOWNLOAD_ADDRESS, address_behind, drive_file
from zeshel_tasks.download.http_source import HttpSource, http_client
from zeshel_tasks.download.networks import SCHEMES, Hops
from zeshel_tasks.download.s3_source import S3Source
from zeshel_tasks.download.transfer import Body, Fetched, Retry, Source, transfer
from zeshel_tasks.errors import ConfigError, DataError
from zeshel_tasks.text.redaction import without_secrets
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
    """Copies an archive into a file, in bounded memory.

    Args:
        source: http(s) or s3 address, a file on Google Drive, ``file://`` or a local path.
        destination: the file; overwritten, and of no use if an error is raised.
        config: bounds of size and time, timeout, allowed networks, and expected SHA-256.
        retry: how often a broken transfer is taken up again.
        drive_address: where downloads from Google Drive start.

    Raises:
        ConfigError: the address is wrong, or its server refuses.
        DataError: too large, another SHA-256 than expected, or a web page instead of a file.
        StoreUnavailable: the server does not answer, breaks off again and again, or takes too long.
    """
    with _deadline(config) as deadline, _opened(source, config, retry, drive_address, deadline) as opened:
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
    """What the fingerprint takes for the archive's content.

    ``sha256:`` where it is configured or the file is local, ``etag:`` or ``last-modified:`` as the server tells,
    ``address:`` where nothing tells more (Google Drive: the file's address without what else was in the link).

    Raises:
        ConfigError: the address is wrong.
        StoreUnavailable: the server does not answer.
    """
    with _deadline(config) as deadline, _opened(source, config, retry, DOWNLOAD_ADDRESS, deadline) as opened:
        if config.sha256:
            return f"sha256:{config.sha256.lower()}"
        return f"address:{_drive_identity(source)}" if _is_on_drive(source) else opened.identity()


def _deadline(config: DownloadConfig) -> Deadline:
    return Deadline(config.max_download_minutes * 60, "max_download_minutes")


@contextmanager
def _opened(
    source: str, config: DownloadConfig, retry: Retry, drive_address: str, deadline: Deadline
) -> Iterator[Source]:
    scheme = _scheme(source)
    if scheme in SCHEMES:
        _check_parts(source)
        file, hops = drive_file(source), Hops(config.private_addresses, deadline)
        with http_client(config.timeout_seconds) as client:
            if file is None:
                yield HttpSource(client, source, hops, retry=retry)
            else:
                address, name = file.download_address(drive_address), f"Google Drive file {file.file_id}"
                yield HttpSource(client, address, hops, name=name, on_page=address_behind, retry=retry)
    elif scheme == "s3":
        yield S3Source(source)
    elif is_local(source):
        yield LocalSource(source, local_path(source))
    else:
        expected = "http://, https://, s3://, file:// or a local path"
        raise ConfigError(f"source: expected {expected}, got {without_secrets(source)!r}")


class LocalSource:
    """A file of this machine."""

    def __init__(self, name: str, path: Path) -> None:
        self.name, self._path = without_secrets(name), path
        try:
            is_file, is_folder = path.is_file(), path.is_dir()
        except (OSError, ValueError) as error:  # a name that no file can have
            raise ConfigError(f"source: expected a file, got {quoted(self.name)}: {quoted(str(error))}") from error
        if not is_file:
            problem = "a folder" if is_folder else "no such file"
            raise ConfigError(f"source: expected a file, got {quoted(self.name)}: {problem}")

    @contextmanager
    def open(self, start: int) -> Iterator[Body]:
        """The file from ``start`` on."""
        with self._path.open("rb") as file:
            file.seek(start)
            yield Body(start, self._path.stat().st_size, iter(lambda: file.read(_CHUNK), b""))

    def identity(self) -> str:
        """``sha256:...``; reads the whole file."""
        with self._path.open("rb") as file:
            return f"sha256:{hashlib.file_digest(file, 'sha256').hexdigest()}"


def _scheme(source: str) -> str:
    found = re.match(r"([A-Za-z][A-Za-z0-9+.-]*)://", source)
    return found[1].lower() if found else ""


def _check_parts(source: str) -> None:
    try:
        parts = urlsplit(source)
        is_whole = bool(parts.hostname) and parts.port != 0
    except ValueError:  # a port that is no number, half of an IPv6 address
        is_whole = False
    if not is_whole:
        raise ConfigError(f"source: expected an address like https://host/path, got {without_secrets(source)!r}")


def _is_on_drive(source: str) -> bool:
    return _scheme(source) in SCHEMES and drive_file(source) is not None


def _drive_identity(source: str) -> str:
    file = drive_file(source)
    assert file is not None
    return file._replace(resource_key=None).download_address()


def is_local(source: str) -> bool:
    """Whether it is a path of this machine, or a ``file://`` address."""
    return _scheme(source) in ("file", "")


def local_path(source: str) -> Path:
    """The path of a source that :func:`is_local`.

    Raises:
        ConfigError: of another machine.
    """
    if not _scheme(source):
        return Path(source).expanduser()
    parts = urlsplit(source)
    if parts.netloc not in ("", "localhost"):
        raise ConfigError(f"source: expected file:///path of this machine, got {without_secrets(source)!r}")
    return Path(unquote(parts.path))
