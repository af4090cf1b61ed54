"""Unpacks the archive of a data set safely: only the files of a data set, within bounds."""

from __future__ import annotations

import bz2
import gzip
import logging
import lzma
import tarfile
import unicodedata
import zlib
from pathlib import Path, PurePosixPath
from typing import IO, Protocol, cast

from zeshel_tasks.compute.progress import ByteProgress
from zeshel_tasks.download.bounded_xz import BoundedXz
from zeshel_tasks.download.members import ALL_FOLDERS, EXPECTED_NAME, FOLDERS, can_be_kept, is_member
from zeshel_tasks.errors import DataError

MAX_MEMBERS = 100_000
# tarfile reads an extended header (long names) in one piece; a real one has a few hundred bytes.
_MAX_READ = 2**20
_BLOCK = tarfile.BLOCKSIZE
# What arrives instead of a tar archive, by its first bytes.
_OTHERS = {
    b"PK\x03\x04": "a zip archive",
    b"7z\xbc\xaf": "a 7-Zip archive",
    b"Rar!": "a RAR archive",
    b"\x28\xb5\x2f\xfd": "a file compressed with Zstandard",
    b"\x1f\x9d": "a file compressed with compress",
    b"version https://git-lfs": "a pointer of Git LFS instead of the file",
    b"<": "a page of HTML or XML",
    b"{": "JSON",
}
_BROKEN = (tarfile.TarError, EOFError, zlib.error, lzma.LZMAError, OSError, RecursionError, ValueError)

log = logging.getLogger(__name__)


def unpack(archive: Path, destination: Path, max_bytes: int, name: str = "") -> None:
    """Extract the ``*.json`` of ``documents/``, ``mentions/`` and ``contexts/`` from a tar archive, in one pass and
    bounded memory.

    These folders may be inside one common folder (``zeshel/documents/...``), which is dropped. All other files in the
    archive are ignored, with one log line.

    Args:
        archive: a tar file, uncompressed or compressed with bzip2, gzip or xz, which its first bytes tell.
        destination: a folder; created if it does not exist.
        max_bytes: maximum total size of all members, and of the unpacked archive.
        name: of the archive in messages; by default its file name.

    Raises:
        DataError: the file is not a tar archive, is truncated or damaged, contains no data set, or contains an unsafe
            member: an absolute path, ``..``, a link, a device, a duplicate, too many bytes or too many members, or a
            name that is too long or not printable.
    """
    name = name or archive.name
    with archive.open("rb") as packed:
        progress = ByteProgress("unpack", archive.stat().st_size)
        stream = _ForwardReader(_decompressed(packed, name), name, max_bytes)
        try:
            with tarfile.open(fileobj=cast("IO[bytes]", stream), mode="r:") as tar:
                selection = _Selection(name, max_bytes)
                for member in tar:
                    target = selection.target(member)
                    if target is not None:
                        _extract(tar, member, destination / target)
                    progress.update(packed.tell())
            stream.finish()
        except _BROKEN as error:
            if isinstance(error, OSError) and error.errno is not None:
                raise  # an error of the disk; gzip and bz2 raise errors without a number
            got = next((kind for head, kind in _OTHERS.items() if stream.head.startswith(head)), None)
            problem = f"not a tar archive, but {got}" if got else f"not a tar archive, or a damaged one: {error}"
            raise DataError(problem, file=name) from error
    selection.check_complete()


class _Selection:
    """Decides about each member: raise an error, extract it to a path, or ignore it."""

    def __init__(self, archive: str, max_bytes: int) -> None:
        self._archive, self._max_bytes = archive, max_bytes
        self._seen: set[PurePosixPath] = set()
        self._prefix: PurePosixPath | None = None
        self._found = dict.fromkeys(ALL_FOLDERS, 0)
        self._bytes = self._ignored = self._members = 0

    def target(self, member: tarfile.TarInfo) -> PurePosixPath | None:
        path = self._safe_path(member)
        if member.isdir():
            return None
        folder = path.parent.name
        if not is_member(folder, path.name):
            self._ignored += 1
            return None
        if not can_be_kept(path.name):
            raise self._error("a name that cannot be kept", member, expected=EXPECTED_NAME)
        prefix = path.parent.parent
        if self._prefix is not None and prefix != self._prefix:
            raise self._error("two data sets in one archive", member, expected=f"all below {self._prefix}")
        self._prefix = prefix
        self._found[folder] += 1
        return PurePosixPath(folder, path.name)

    def check_complete(self) -> None:
        if self._ignored:
            log.info("ignored %s files of the archive that do not belong to the data set", f"{self._ignored:,}")
        for folder in FOLDERS:
            if not self._found[folder]:
                raise DataError("not a data set in ZESHEL's format", file=self._archive, expected=f"{folder}/*.json")

    def _safe_path(self, member: tarfile.TarInfo) -> PurePosixPath:
        path = PurePosixPath(unicodedata.normalize("NFC", member.name))  # macOS writes é as e and an accent
        if path.is_absolute() or ".." in path.parts:
            raise self._error("a path that leaves the folder", member, expected="a relative path without '..'")
        if not (member.isdir() or member.isreg()) or member.issparse():
            raise self._error("not a plain file", member, expected="files and folders", got=_kind(member))
        if member.size < 0:
            raise self._error("negative size", member, got=member.size)
        self._bytes += member.size
        if self._bytes > self._max_bytes:
            raise self._error(
                "too large", member, expected=f"at most {self._max_bytes:,} bytes in all (max_unpacked_gb)"
            )
        if path in self._seen and not member.isdir():
            raise self._error("the same member twice", member)
        self._seen.add(path)
        self._members += 1
        if self._members > MAX_MEMBERS:
            raise self._error("too many members", member, expected=f"at most {MAX_MEMBERS:,}")
        return path

    def _error(self, problem: str, member: tarfile.TarInfo, *, expected: object = None, got: object = ...) -> DataError:
        return DataError(f"{problem}: member {member.name!r}", file=self._archive, expected=expected, got=got)


class _Readable(Protocol):
    def read(self, size: int, /) -> bytes:
        """Returns the next bytes, at most ``size`` of them, and none at the end."""


class _ForwardReader:
    """The methods of a file that ``tarfile`` needs, for a decompressed stream; limits each read and their total."""

    def __init__(self, stream: _Readable, archive: str, max_bytes: int) -> None:
        self._stream, self._archive = stream, archive
        # Headers and padding add up to 3 blocks to each member, and the end of the archive is rounded up.
        self._limit = max_bytes + 4 * _BLOCK * MAX_MEMBERS
        self._position = 0
        self._last = self.head = b""

    def tell(self) -> int:
        return self._position

    def read(self, size: int) -> bytes:
        if not 0 <= size <= _MAX_READ:
            raise DataError("damaged header", file=self._archive, expected=f"at most {_MAX_READ:,} bytes", got=size)
        self._last = self._stream.read(size)
        self.head = self.head or self._last
        self._position += len(self._last)
        if self._position > self._limit:
            raise DataError(
                "too large", file=self._archive, expected=f"at most {self._limit:,} bytes unpacked (max_unpacked_gb)"
            )
        return self._last

    def seek(self, position: int) -> None:
        if position < self._position:
            raise tarfile.ReadError("a header points backwards")
        while self._position < position:
            if not self.read(min(_MAX_READ, position - self._position)):
                raise EOFError("it ends in the middle of a member")

    def finish(self) -> None:
        """Check that the archive ends with an end mark, and read the rest to verify the checksum of the compression.

        tarfile takes a broken header for the end of the archive.
        """
        if self._last != bytes(_BLOCK):
            raise EOFError("it ends without an end mark, or a member's header is broken")
        while self.read(_MAX_READ):
            pass


def _decompressed(packed: IO[bytes], name: str) -> _Readable:
    head = packed.read(8)
    packed.seek(0)
    if head.startswith(b"BZh"):
        return bz2.open(packed)
    if head.startswith(b"\x1f\x8b"):
        return gzip.open(packed)
    if head.startswith(b"\xfd7zXZ\x00"):
        return BoundedXz(packed, name)
    return packed


def _extract(tar: tarfile.TarFile, member: tarfile.TarInfo, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    source = tar.extractfile(member)
    assert source is not None, "only plain files come here"
    left = member.size
    with source, target.open("wb") as out:
        while chunk := source.read(min(left, _MAX_READ)):
            out.write(chunk)
            left -= len(chunk)
    if left:
        raise EOFError(f"member {member.name!r} ends {left:,} bytes early")


def _kind(member: tarfile.TarInfo) -> str:
    if member.issym() or member.islnk():
        return f"a link to {member.linkname!r}"
    return "a sparse file" if member.issparse() else "a device or pipe"
