"""Addresses that settings take, each parsed into a :class:`Location`:

    LocalPath    data/zeshel.tar.bz2, ~/models/bert, file:///data/my%20models/bert
    S3Address    s3://bucket/key
    WebAddress   https://host/zeshel.tar.bz2
    DriveFile    https://drive.google.com/file/d/ID/view
    HubModel     bert-base-uncased, google-bert/bert-base-uncased@main

Parsers raise :class:`ValueError` with the expected form, which a pydantic validator reports together with the setting
and its value; :func:`located` makes a :class:`~zeshel_tasks.errors.ConfigError` of it everywhere else.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar
from urllib.parse import parse_qs, unquote, urlsplit

from zeshel_tasks.errors import ConfigError
from zeshel_tasks.text.addresses import DRIVE_HOSTS
from zeshel_tasks.text.redaction import without_secrets
from zeshel_tasks.text.safe_text import quoted

_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*)://(.*)", re.DOTALL)
# `s3://$BUCKET/x` with an empty variable loses its slashes on the way here. It is not meant as a local path.
_LOST_SLASHES = re.compile(r"(s3|file|https?):", re.IGNORECASE)
_BUCKET = re.compile(r"[A-Za-z0-9._-]{1,255}")  # above all, no `key:secret@`, which botocore's messages would repeat
_HUB_MODEL = re.compile(r"(?P<repository>\w[\w.-]*(/\w[\w.-]*)?)(@(?P<revision>\w[\w./-]*))?", re.ASCII)

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Location:
    """The address of something that is stored.

    Attributes:
        address: the text that was parsed. It may contain a password or a signature.
    """

    address: str

    @property
    def name(self) -> str:
        """The address without its secrets, for messages."""
        return without_secrets(self.address)


@dataclass(frozen=True, slots=True)
class LocalPath(Location):
    """A file or a directory of this machine; ``path`` has its ``~`` expanded and its ``%20`` decoded."""

    path: Path


@dataclass(frozen=True, slots=True)
class S3Address(Location):
    """An object, or all objects below a prefix. ``key`` has no slash at either end and may be empty."""

    bucket: str
    key: str


@dataclass(frozen=True, slots=True)
class WebAddress(Location):
    """A file on a web server."""


@dataclass(frozen=True, slots=True)
class DriveFile(Location):
    """A file on Google Drive; ``resource_key`` is part of the links of some older files."""

    file_id: str
    resource_key: str | None


@dataclass(frozen=True, slots=True)
class HubModel(Location):
    """A model on the Hugging Face hub; ``revision`` is a branch, a tag or a commit."""

    repository: str
    revision: str | None


StoreLocation = LocalPath | S3Address
SourceLocation = LocalPath | S3Address | WebAddress | DriveFile
ModelLocation = LocalPath | S3Address | HubModel


def located(setting: str, text: str, parse: Callable[[str], T]) -> T:
    """Parse the location that a setting names.

    Raises:
        ConfigError: ``parse`` refuses the form. The message names the setting, the expected form and the value.
    """
    try:
        return parse(text)
    except ValueError as error:
        raise ConfigError(f"{setting}: {error}, got {quoted(without_secrets(text))}") from error


def store_location(text: str) -> StoreLocation:
    """Parse a local directory or an S3 prefix.

    Raises:
        ValueError: the address has another form.
    """
    found = _parsed(text)
    if isinstance(found, StoreLocation):
        return found
    raise ValueError("expected a local directory or s3://bucket/prefix")


def weights_location(text: str) -> StoreLocation:
    """Parse a local file or an S3 object.

    Raises:
        ValueError: the address has another form.
    """
    found = _parsed(text)
    if isinstance(found, StoreLocation):
        return found
    raise ValueError("expected s3://, file:// or a local path")


def source_location(text: str) -> SourceLocation:
    """Parse a data set: an archive anywhere, a local directory, or an S3 prefix.

    Raises:
        ValueError: the address has another form.
    """
    found = _parsed(text)
    if isinstance(found, SourceLocation):
        return found
    raise ValueError("expected http://, https://, s3://, file:// or a local path")


def model_location(text: str) -> ModelLocation:
    """Parse a pretrained model. An ambiguous name is a local directory if that exists, else a model on the hub.

    Raises:
        ValueError: the address has another form.
    """
    found = _parsed(text)
    on_hub = _HUB_MODEL.fullmatch(text)
    if on_hub and isinstance(found, LocalPath) and not os.path.isdir(found.path):  # noqa: PTH112  # never raises
        return HubModel(text, on_hub["repository"], on_hub["revision"])
    if isinstance(found, StoreLocation):
        return found
    raise ValueError("expected a hub name, s3://, file:// or a local path")


def _parsed(text: str) -> Location | None:
    """Return None for an unknown scheme."""
    found = _SCHEME.fullmatch(text)
    if found is None:
        return None if not text or "://" in text or _LOST_SLASHES.match(text) else _local_path(text, text)
    scheme, rest = found[1].lower(), found[2]
    if scheme == "file":
        return _file(text, rest)
    if scheme == "s3":
        return _s3(text, rest)
    return _web(text) if scheme in ("http", "https") else None


def _local_path(address: str, path: str) -> LocalPath:
    try:
        return LocalPath(address, Path(path).expanduser())
    except RuntimeError:  # ~name of an unknown user
        raise ValueError("expected the path of an existing user's home directory after '~'") from None


def _file(address: str, rest: str) -> LocalPath:
    host, slash, path = rest.partition("/")
    if host not in ("", "localhost") or not slash:
        raise ValueError("expected file:///path of this machine")
    return LocalPath(address, Path(f"/{unquote(path)}"))


def _s3(address: str, rest: str) -> S3Address:
    bucket, _, key = rest.partition("/")
    if not _BUCKET.fullmatch(bucket):
        raise ValueError("expected an address like s3://bucket/prefix")
    return S3Address(address, bucket, key.strip("/"))


def _web(address: str) -> WebAddress | DriveFile:
    try:
        parts = urlsplit(address)
        host, port = parts.hostname, parts.port
    except ValueError:  # [::1, or a port beyond 65535; its words quote the port, which may be half a password
        host, port = None, None
    if not host or port == 0 or any(character.isspace() for character in host):
        raise ValueError("expected an address like https://host/path")
    return _drive_file(address) if host in DRIVE_HOSTS else WebAddress(address)


def _drive_file(address: str) -> DriveFile:
    parts = urlsplit(address)
    query = parse_qs(parts.query)
    in_path = re.search(r"/file/d/([\w-]+)", parts.path)
    file_id = in_path[1] if in_path else query.get("id", [""])[0]
    if not re.fullmatch(r"[\w-]+", file_id):
        raise ValueError("expected the address of a file on Google Drive (.../file/d/ID/view or ...?id=ID)")
    return DriveFile(address, file_id, query.get("resourcekey", [None])[0])
