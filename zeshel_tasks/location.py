"""Addresses that options take, each parsed into a :class:`Location`:

    LocalPath    data/zeshel.tar.bz2, ~/models/bert, file:///data/my%20models/bert
    S3Address    s3://bucket/key
    WebAddress   https://host/zeshel.tar.bz2
    DriveFile    https://drive.google.com/file/d/ID/view
    HubModel     bert-base-uncased, google-bert/bert-base-uncased@main
    WikiDump     wiki:s3://bucket/towns.xml.bz2, wiki:data/towns-pages-articles*.xml.bz2

There is one :class:`Parser` for each kind of option. ``docs/addresses.md`` lists all forms and what they mean.
"""

from __future__ import annotations

import os
import re
import unicodedata
from collections.abc import Callable, Collection
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Generic, TypeVar
from urllib.parse import parse_qs, unquote, urlsplit

from zeshel_tasks.errors import ConfigError
from zeshel_tasks.text.redaction import DRIVE_HOSTS, without_secrets
from zeshel_tasks.text.safe_text import has_control_characters, quoted

MAX_CHARACTERS = 4096  # PATH_MAX of Linux
_MAX_NAME_BYTES = 255  # NAME_MAX of Linux, for each part of a path
_MAX_KEY_BYTES = 1024  # of S3
_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*)://(.*)", re.DOTALL)
# No local paths: `s3://$BUCKET/x` with an empty variable, which loses its slashes on the way here, and Windows paths.
_NOT_LOCAL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*:/|(s3|file|https?|wiki):|[A-Za-z]:\\|\\\\", re.IGNORECASE)
_WIKI = re.compile("wiki:", re.IGNORECASE)
# What follows a wiki's name in that of its dump: enwiki-20261101-pages-articles.xml.bz2, towns_pages_current.xml.7z.
_PAST_WORLD = re.compile(r"[-_](?:[0-9]{8}|latest|pages|history|current|full)(?=[-_.*]|$)|[-_]?\*|\.")
_BUCKET = re.compile(r"[A-Za-z0-9._-]{1,255}")  # above all, no `key:secret@`, which botocore's messages would repeat
_HUB_MODEL = re.compile(r"(?P<repository>\w[\w.-]*(/\w[\w.-]*)?)(@(?P<revision>\w[\w./-]*))?", re.ASCII)

T = TypeVar("T")
L = TypeVar("L", bound="Location")


@dataclass(frozen=True, slots=True)
class Location:
    """The address of something that is stored.

    Attributes:
        address: the text that was parsed. It may contain a password or a signature.
    """

    form: ClassVar[str]
    address: str

    @property
    def name(self) -> str:
        """The address without its secrets, for messages."""
        return without_secrets(self.address)


@dataclass(frozen=True, slots=True)
class LocalPath(Location):
    """A file or a directory of this machine; ``path`` has its ``~`` expanded and its ``%20`` decoded."""

    form = "a local path, file:///path"
    path: Path


@dataclass(frozen=True, slots=True)
class S3Address(Location):
    """An object, or all objects below a prefix. ``key`` has no slash at either end and may be empty."""

    form = "s3://bucket/key"
    bucket: str
    key: str


@dataclass(frozen=True, slots=True)
class WebAddress(Location):
    """A file on a web server."""

    form = "https://host/path"


@dataclass(frozen=True, slots=True)
class DriveFile(Location):
    """A file on Google Drive; ``resource_key`` is part of the links of some older files."""

    form = "the link to a file on Google Drive"
    file_id: str
    resource_key: str | None


@dataclass(frozen=True, slots=True)
class HubModel(Location):
    """A model on the Hugging Face hub; ``revision`` is a branch, a tag or a commit."""

    form = "a name on the Hugging Face hub"
    repository: str
    revision: str | None


@dataclass(frozen=True, slots=True)
class WikiDump(Location):
    """The dump of a MediaWiki; ``world`` is the wiki's name in the name of the file.

    ``pattern`` is this name if it has a ``*``. The dump is then all files beside each other whose names match.
    """

    form = "wiki:ADDRESS of a dump"
    dump: LocalPath | S3Address | WebAddress
    world: str
    pattern: str | None


StoreLocation = LocalPath | S3Address
ArchiveLocation = LocalPath | S3Address | WebAddress | DriveFile
SourceLocation = ArchiveLocation | WikiDump
ModelLocation = LocalPath | S3Address | HubModel


class Parser(Generic[L]):
    """Parses the addresses that some options take.

    Args:
        forms: the kinds of locations that these options take.

    Attributes:
        expected: these forms, for messages.
    """

    def __init__(self, *forms: type[L]) -> None:
        self._forms = forms
        *first, last = ", ".join(form.form for form in forms).split(", ")
        self.expected = f"{', '.join(first)} or {last}"

    def __call__(self, text: str) -> L:
        """Parse an address.

        Raises:
            ValueError: the address has another form. The message is the expected form.
        """
        _check_text(text)
        found = self._location(text)
        if HubModel in self._forms and isinstance(found, LocalPath):
            found = _hub_model(found) or found
        if isinstance(found, self._forms):
            return found
        raise ValueError(f"expected {self.expected}")

    def _location(self, text: str) -> Location | None:
        if WikiDump in self._forms and (wiki := _WIKI.match(text)):
            return _wiki_dump(text, text[wiki.end() :])
        found = _SCHEME.fullmatch(text)
        if found is None:
            return None if not text or "://" in text or _NOT_LOCAL.match(text) else _local_path(text, text)
        form, parse = _SCHEMES.get(found[1].lower(), (None, None))
        return parse(text, found[2]) if parse and form in self._forms else None


def located(setting: str, text: str, parse: Callable[[str], T]) -> T:
    """Parse the location that a setting names.

    Raises:
        ConfigError: ``parse`` refuses the form. The message names the setting, the expected form and the value.
    """
    try:
        return parse(text)
    except ValueError as error:
        raise ConfigError(f"{setting}: {error}, got {quoted(without_secrets(text))}") from error


def is_server(address: str, schemes: Collection[str] = ("http", "https")) -> bool:
    """Returns True if a client can connect to the address: it has a scheme, a host, and no port or a possible one."""
    try:
        parts = urlsplit(address)
        is_possible = parts.scheme.lower() in schemes and bool(parts.hostname) and parts.port != 0
    except ValueError:  # a port beyond 65535, half an IPv6 address
        return False
    return is_possible and not parts.netloc.endswith(":") and address.isprintable() and " " not in address


def _check_text(text: str) -> None:
    if len(text) > MAX_CHARACTERS:
        raise ValueError(f"expected at most {MAX_CHARACTERS:,} characters")
    _check_characters(text)
    if any(character.isspace() or unicodedata.category(character) == "Cf" for character in text[:1] + text[-1:]):
        raise ValueError("expected no space or invisible character at either end")


def _check_characters(text: str) -> None:
    if has_control_characters(text):
        raise ValueError("expected a name in UTF-8 without control characters or line ends")


def _local_path(address: str, path: str) -> LocalPath:
    if any(len(os.fsencode(part)) > _MAX_NAME_BYTES for part in path.split("/")):
        raise ValueError(f"expected names of at most {_MAX_NAME_BYTES} bytes")
    try:
        return LocalPath(address, Path(path).expanduser())
    except RuntimeError:  # ~name of an unknown user
        raise ValueError("expected the path of an existing user's home directory after '~'") from None


def _hub_model(local: LocalPath) -> HubModel | None:
    found = _HUB_MODEL.fullmatch(local.address)
    if found is None or os.path.isdir(local.path):  # noqa: PTH112  # never raises
        return None
    return HubModel(local.address, found["repository"], found["revision"])


def _file(address: str, rest: str) -> LocalPath:
    host, slash, path = rest.partition("/")
    if host not in ("", "localhost") or not slash:
        raise ValueError("expected file:///path of this machine")
    try:
        decoded = unquote(path, errors="strict")
    except UnicodeDecodeError:
        raise ValueError("expected percent-encoded UTF-8") from None
    _check_characters(decoded)
    return _local_path(address, f"/{decoded}")


def _s3(address: str, rest: str) -> S3Address:
    bucket, _, key = rest.partition("/")
    if not _BUCKET.fullmatch(bucket):
        raise ValueError("expected an address like s3://bucket/prefix")
    if not {".", ".."}.isdisjoint(key.split("/")):
        raise ValueError("expected an address without '.' and '..' parts, which S3 does not resolve")
    if "//" in f"/{key}":
        raise ValueError("expected an address without empty parts ('//'), which S3 takes for parts of the key")
    if len(key.encode()) > _MAX_KEY_BYTES:
        raise ValueError(f"expected a key of at most {_MAX_KEY_BYTES:,} bytes")
    return S3Address(address, bucket, key.strip("/"))


def _web(address: str, rest: str) -> WebAddress | DriveFile:
    server = address.removesuffix(rest) + re.split("[/?#]", rest)[0]  # the file's name may have spaces
    if not is_server(server):
        raise ValueError("expected an address like https://host/path")
    return _drive_file(address) if urlsplit(server).hostname in DRIVE_HOSTS else WebAddress(address)


def _drive_file(address: str) -> DriveFile:
    parts = urlsplit(address)
    query = parse_qs(parts.query)
    in_path = re.search(r"/file/d/([\w-]+)", parts.path)
    file_id = in_path[1] if in_path else query.get("id", [""])[0]
    if not re.fullmatch(r"[\w-]+", file_id):
        raise ValueError("expected the address of a file on Google Drive (.../file/d/ID/view or ...?id=ID)")
    return DriveFile(address, file_id, query.get("resourcekey", [None])[0])


def _wiki_dump(address: str, of_dump: str) -> WikiDump:
    dump = _dump_location(of_dump)
    path = dump.path.as_posix() if isinstance(dump, LocalPath) else unquote(urlsplit(dump.address).path)
    folder, _, file = (dump.key if isinstance(dump, S3Address) else path).rpartition("/")
    world = _PAST_WORLD.split(file)[0]
    _check_characters(world)
    if not world or of_dump.endswith("/"):
        raise ValueError("expected wiki:ADDRESS of a file that begins with the name of the wiki")
    if "*" in folder or ("*" in file and isinstance(dump, WebAddress)):
        raise ValueError("expected '*' only in the name of files that are local or in S3")
    return WikiDump(address, dump, world, file if "*" in file else None)


_SCHEMES: dict[str, tuple[type[Location], Callable[[str, str], Location]]] = {
    "file": (LocalPath, _file),
    "s3": (S3Address, _s3),
    "http": (WebAddress, _web),
    "https": (WebAddress, _web),
}

local_location = Parser[LocalPath](LocalPath)
"""A file or a directory of this machine."""
store_location = Parser[StoreLocation](LocalPath, S3Address)
"""A store, or a file in one."""
archive_location = Parser[ArchiveLocation](LocalPath, S3Address, WebAddress, DriveFile)
"""A file that is fetched."""
source_location = Parser[SourceLocation](LocalPath, S3Address, WebAddress, DriveFile, WikiDump)
"""A data set: an archive anywhere, a local directory, an S3 prefix, or what becomes of a wiki's dump."""
_dump_location = Parser[LocalPath | S3Address | WebAddress](LocalPath, S3Address, WebAddress)
model_location = Parser[ModelLocation](LocalPath, S3Address, HubModel)
"""A pretrained model. A name that could be both is a local directory if that exists, else a model on the hub."""
