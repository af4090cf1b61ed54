"""Opens the files to import: local or in S3, compressed or not, line by line in bounded memory."""

from __future__ import annotations

import bz2
import codecs
import gzip
import io
import lzma
import zlib
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, cast

from zeshel_tasks.data.json_lines import BadLine, Record
from zeshel_tasks.errors import ConfigError, DataError
from zeshel_tasks.importing.seven_zip import opened_7z
from zeshel_tasks.location import S3Address, StoreLocation, located, store_location
from zeshel_tasks.store.runs import store_at

# More than the longest page of Wikipedia, which has less than 3 million characters.
MAX_TEXT_CHARACTERS = 4 * 2**20
# A line of contexts/ has such a text twice, each character in up to four bytes.
MAX_LINE_BYTES = 64 * 2**20

_COMPRESSED = {b"\x1f\x8b": "gzip", b"BZh": "bzip2", b"\xfd7zXZ\0": "xz", b"\x28\xb5\x2f\xfd": "zstd"}
_COMPRESSED |= {b"7z\xbc\xaf\x27\x1c": "7z"}
_OTHER_ENCODINGS = {codecs.BOM_UTF16_LE: "UTF-16", codecs.BOM_UTF16_BE: "UTF-16"}
_BROKEN = (EOFError, zlib.error, lzma.LZMAError, OSError)
_NEEDS_PYARROW = "expected the package pyarrow: python -m pip install 'zeshel-tasks[import]'"


@dataclass(frozen=True, slots=True)
class Input:
    """A file to import.

    Attributes:
        path: where it is on this machine.
        name: its name in messages.
    """

    path: Path
    name: str

    @property
    def stem(self) -> str:
        """The file's name without its endings."""
        return self.name.rstrip("/").rpartition("/")[2].partition(".")[0] or "file"


def input_at(address: str, scratch: Path) -> Input:
    """Opens a local file, or copies an object of S3 into the folder ``scratch``.

    Raises:
        ConfigError: the address has another form.
        DataError: there is no such file.
    """
    location = located("IN", address, store_location)
    if not isinstance(location, S3Address):
        if not location.path.is_file():
            raise DataError("no file at this address", file=location.name)
        return Input(location.path, location.name)
    store = store_at(S3Address(location.address, location.bucket, location.key.rpartition("/")[0]))
    name = location.key.rpartition("/")[2]
    copy = store.local_copy(name, scratch / f"{len(list(scratch.iterdir()))}-{name[-100:]}") if name else None
    if copy is None:
        raise DataError("no file at this address", file=location.name)
    return Input(copy, location.name)


def fetched_files(location: StoreLocation, folder: str, scratch: Path) -> dict[str, Input]:
    """Fetches ``<folder>/*.json`` of a data set; returns each file by its name without the ending, sorted."""
    store, found = store_at(location), dict[str, Input]()
    for key in sorted(store.keys(f"{folder}/")):
        name = key.removeprefix(f"{folder}/")
        if "/" not in name and name.endswith(".json") and not name.startswith("."):
            path = store.local_copy(key, scratch / name)
            if path is not None:
                found[name.removesuffix(".json")] = Input(path, key)
    return found


@contextmanager
def opened(file: Input, packed: IO[bytes] | None = None) -> Iterator[IO[bytes]]:
    """Opens a file for reading and decompresses it (gzip, bzip2, xz, zstd, 7z), which its first bytes tell.

    Args:
        file: what to read.
        packed: the same file, opened by a caller who wants to know how far it has been read.

    Raises:
        DataError: the compressed data is damaged or cut.
        ConfigError: zstd or 7z needs a package that is not installed.
    """
    with nullcontext(packed) if packed is not None else file.path.open("rb") as packed:
        head = packed.read(6)
        packed.seek(0)
        kind = next((kind for magic, kind in _COMPRESSED.items() if head.startswith(magic)), None)
        try:
            with opened_7z(packed) if kind == "7z" else _decompressed(packed, kind) as stream:
                yield stream
        except _BROKEN as error:
            if kind is None or (isinstance(error, OSError) and error.errno is not None):
                raise  # an error of the disk; gzip and bz2 raise errors without a number
            raise DataError(f"damaged or cut: {error}", file=file.name, expected=f"{kind} data") from error


def check_length(record: Record, field: str, text: str) -> None:
    """Checks that a text can be converted in bounded memory.

    Raises:
        DataError: it is too long.
    """
    if len(text) > MAX_TEXT_CHARACTERS:
        expected = f"at most {MAX_TEXT_CHARACTERS:,} characters"
        raise record.error("text too long", field=field, expected=expected, got=f"{len(text):,}")


def without_mark(head: bytes, file: Input) -> bytes:
    """Returns the first bytes of a file without a byte order mark.

    Raises:
        DataError: the mark is not that of UTF-8.
    """
    for mark, encoding in _OTHER_ENCODINGS.items():
        if head.startswith(mark):
            got = f"{encoding}, as its byte order mark says"
            raise DataError("not UTF-8", file=file.name, line=1, expected="UTF-8", got=got)
    return head.removeprefix(codecs.BOM_UTF8)


def lines(file: Input, on_bad: BadLine) -> Iterator[tuple[int, bytes]]:
    """Yields the number, from 1, and the bytes of each line with its end, without a byte order mark.

    Args:
        file: what to read.
        on_bad: receives the error of a line that is too long or contains NUL. The line is skipped.

    Raises:
        DataError: the file is empty, damaged or not in UTF-8, as its byte order mark tells.
    """
    number = 0
    with opened(file) as stream:
        for number, raw in enumerate(iter(lambda: stream.readline(MAX_LINE_BYTES + 1), b""), start=1):
            line = without_mark(raw, file) if number == 1 else raw
            if len(raw) > MAX_LINE_BYTES:
                while raw and not raw.endswith(b"\n"):
                    raw = stream.readline(MAX_LINE_BYTES)
                expected = f"at most {MAX_LINE_BYTES:,} bytes"
                on_bad(DataError("line too long", file=file.name, line=number, expected=expected))
            elif b"\0" in line:
                got = f"NUL at byte {line.index(0) + 1}"
                on_bad(DataError("not text", file=file.name, line=number, expected="text in UTF-8", got=got))
            else:
                yield number, line
    if number == 0:
        raise DataError("empty file", file=file.name, expected="at least one line")


def decoded(raw: bytes, file: Input, line: int) -> str:
    """Decodes a line.

    Raises:
        DataError: it is not UTF-8.
    """
    try:
        return raw.decode("utf-8")
    except UnicodeDecodeError as error:
        got = f"byte 0x{raw[error.start]:02x} at position {error.start + 1} of the line"
        raise DataError("not UTF-8", file=file.name, line=line, expected="UTF-8", got=got) from None


def text_lines(file: Input, on_bad: BadLine) -> Iterator[tuple[int, str]]:
    """Like :func:`lines`, decoded and without line ends."""
    for number, raw in lines(file, on_bad):
        try:
            yield number, decoded(raw, file, number).rstrip("\r\n")
        except DataError as error:
            on_bad(error)


def pyarrow(module: str) -> Any:
    """Imports a module of pyarrow.

    Raises:
        ConfigError: pyarrow is not installed.
    """
    from importlib import import_module

    try:
        return import_module(module)
    except ImportError as error:
        raise ConfigError(f"{module}: {_NEEDS_PYARROW}") from error


def _decompressed(packed: IO[bytes], kind: str | None) -> IO[bytes]:
    if kind == "gzip":
        return cast("IO[bytes]", gzip.open(packed))
    if kind == "bzip2":
        return cast("IO[bytes]", bz2.open(packed))
    if kind == "xz":
        return cast("IO[bytes]", lzma.open(packed))
    if kind == "zstd":
        return io.BufferedReader(pyarrow("pyarrow").CompressedInputStream(packed, "zstd"))
    return packed
