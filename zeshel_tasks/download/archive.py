"""Safe unpacking of a downloaded data set: only what a data set consists of, and nothing that could do harm."""

from __future__ import annotations

import bz2
import gzip
import logging
import lzma
import tarfile
import unicodedata
import zlib
from pathlib import Path, PurePosixPath
from typing import IO, cast

from zeshel_tasks.compute.progress import ByteProgress
from zeshel_tasks.download.members import EXPECTED_NAME, FOLDERS, can_be_kept, is_member
from zeshel_tasks.errors import DataError

MAX_MEMBERS = 100_000
# A tar header's extension (long names) is read in one piece; a real one has a few hundred bytes.
_MAX_READ = 2**20
_BLOCK = tarfile.BLOCKSIZE
_BROKEN = (tarfile.TarError, EOFError, zlib.error, lzma.LZMAError, OSError, RecursionError, ValueError)

log = logging.getLogger(__name__)


def unpack(archive: Path, destination: Path, max_bytes: int, name: str = "") -> None:
    """Extracts ``documents/*.json`` and ``mentions/*.json`` of a tar archive, in one pass and bounded memory.

    Both folders may lie below one common folder (``zeshel/documents/...``), which is dropped. Anything else in the
    archive is left out, with one log line.

    Args:
        archive: a tar file, plain or packed by bzip2, gzip or xz; recognized by its first bytes.
        destination: a folder; made if it is not there.
        max_bytes: bound of all members' sizes together, and of the unpacked archive itself.
        name: of the archive in messages, where it is not its file's.

    Raises:
        DataError: not a tar archive, a truncated or damaged one, no data set in it, or a member that is unsafe:
            an absolute path, ``..``, a link, a device, a duplicate, more than ``max_bytes`` or too many members;
            a world with a name that is too long or cannot be printed.
    """
    name = name or archive.name
    with archive.open("rb") as packed, _decompressed(packed) as unpacked:
        progress = ByteProgress("unpack", archive.stat().st_size)
        stream = _ForwardReader(unpacked, name, max_bytes)
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
                raise  # the disk's, not the archive's: gzip and bz2 raise theirs without a number
            raise DataError(f"not a tar archive, or a damaged one: {error}", file=name) from error
    selection.check_complete()


class _Selection:
    """Judges each member: unsafe (an error), a part of the data set (where it goes), or something else."""

    def __init__(self, archive: str, max_bytes: int) -> None:
        self._archive, self._max_bytes = archive, max_bytes
        self._seen: set[PurePosixPath] = set()
        self._prefix: PurePosixPath | None = None
        self._found = dict.fromkeys(FOLDERS, 0)
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
            log.info("left out %s files of the archive that are no part of the data set", f"{self._ignored:,}")
        for folder, count in self._found.items():
            if not count:
                raise DataError("not a data set in ZESHEL's format", file=self._archive, expected=f"{folder}/*.json")

    def _safe_path(self, member: tarfile.TarInfo) -> PurePosixPath:
        path = PurePosixPath(unicodedata.normalize("NFC", member.name))  # a Mac has é as e and an accent
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


class _ForwardReader:
    """What ``tarfile`` needs of a file, over a decompressed stream: bounded in all, and in what it reads at once."""

    def __init__(self, stream: IO[bytes], archive: str, max_bytes: int) -> None:
        self._stream, self._archive = stream, archive
        # Headers and padding come on top of the members: up to 3 blocks a member, and a rounded-up end.
        self._limit = max_bytes + 4 * _BLOCK * MAX_MEMBERS
        self._position = 0
        self._last = b""

    def tell(self) -> int:
        return self._position

    def read(self, size: int) -> bytes:
        if not 0 <= size <= _MAX_READ:
            raise DataError("damaged header", file=self._archive, expected=f"at most {_MAX_READ:,} bytes", got=size)
        self._last = self._stream.read(size)
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
        """Checks that the last header read was the end mark (tarfile stops as quietly at a broken one), and reads
        the rest so that the compression's own checksum is verified."""
        if self._last != bytes(_BLOCK):
            raise EOFError("it ends without an end mark, or a member's header is broken")
        while self.read(_MAX_READ):
            pass


def _decompressed(packed: IO[bytes]) -> IO[bytes]:
    head = packed.read(8)
    packed.seek(0)
    if head.startswith(b"BZh"):
        return cast("IO[bytes]", bz2.open(packed))
    if head.startswith(b"\x1f\x8b"):
        return cast("IO[bytes]", gzip.open(packed))
    if head.startswith(b"\xfd7zXZ\x00"):
        return cast("IO[bytes]", lzma.open(packed))
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
