"""Fetches the dump of a wiki, which may be several files, and identifies its content."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from zeshel_tasks.config.data import DownloadConfig
from zeshel_tasks.download.fetch import deadline_of, fetch, source_identity
from zeshel_tasks.download.transfer import Fetched
from zeshel_tasks.errors import ConfigError, DataError
from zeshel_tasks.location import LocalPath, S3Address, WikiDump
from zeshel_tasks.store.identity import digest_of
from zeshel_tasks.store.runs import store_at
from zeshel_tasks.text.redaction import without_secrets
from zeshel_tasks.text.safe_text import quoted


def obtain_dump(dump: WikiDump, folder: Path, config: DownloadConfig) -> tuple[dict[str, Path], Fetched]:
    """Copy the files of a dump into an empty folder.

    Returns:
        The name of each file in messages and where it is, and size and SHA-256 of the file. For several files, these
        are their total size and a hash of their hashes.

    Raises:
        ConfigError: the address is wrong, its server refuses, or no file has such a name.
        DataError: the dump is too large, or has another SHA-256 than expected.
        StoreUnavailable: the server does not answer, or takes too long.
    """
    paths, found, size = dict[str, Path](), dict[str, Fetched](), 0
    for number, (name, address) in enumerate(_files(dump, config)):
        paths[name] = folder / str(number)
        found[name] = fetch(address, paths[name], config)
        size += found[name].size
        if size > config.max_download_gb * 1e9:
            expected = f"at most {int(config.max_download_gb * 1e9):,} bytes in all (max_download_gb)"
            raise DataError("too large", file=dump.name, expected=expected)
    if dump.pattern is None:
        return paths, found[dump.name]
    return paths, Fetched(size, digest_of({_base(name): fetched.sha256 for name, fetched in found.items()}))


def dump_identity(dump: WikiDump, config: DownloadConfig) -> str:
    """Identity of a dump's content (:func:`source_identity`). That of several files changes with any of them.

    Raises:
        ConfigError: the address is wrong, or no file has such a name.
        StoreUnavailable: the server does not answer, or takes too long.
    """
    found = {_base(name): source_identity(address, config) for name, address in _files(dump, config)}
    return next(iter(found.values())) if dump.pattern is None else f"files:{digest_of(found)}"


def _files(dump: WikiDump, config: DownloadConfig) -> Iterator[tuple[str, str]]:
    """Yields the name in messages and the address of each file, within the time limit of a download."""
    if dump.pattern is None:
        yield dump.name, dump.dump.address
        return
    with deadline_of(config) as deadline:
        found = _matching(dump)
        if not found:
            raise ConfigError(f"source: expected files, got {quoted(dump.name)}: no such files")
        for address in found:
            deadline.check()
            yield f"wiki:{without_secrets(address)}", address


def _matching(dump: WikiDump) -> list[str]:
    """The addresses of the files whose names match, sorted. The names do not begin with a dot."""
    location, pattern = dump.dump, dump.pattern or ""
    name = re.compile(r"(?!\.)" + "[^/]*".join(map(re.escape, pattern.split("*"))))
    if isinstance(location, LocalPath):
        try:
            found = list(location.path.absolute().parent.iterdir())
        except OSError as error:
            raise ConfigError(f"source: expected files, got {quoted(dump.name)}: {error}") from error
        return sorted(str(path) for path in found if name.fullmatch(path.name) and not path.is_dir())
    assert isinstance(location, S3Address)
    store = store_at(S3Address(location.address, location.bucket, location.key.removesuffix(pattern).rstrip("/")))
    keys = (found.key for found in store.objects(pattern.partition("*")[0]))
    return sorted(f"{store.address}/{key}" for key in keys if name.fullmatch(key))


def _base(name: str) -> str:
    return name.rpartition("/")[2]
