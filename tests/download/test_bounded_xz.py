"""Reading xz in bounded memory."""

import io
import lzma
import struct
import tarfile
import zlib
from pathlib import Path

import pytest

from tests.download.test_archive import DATA_SET, MEGABYTE, tar_of
from zeshel_tasks.download.archive import unpack
from zeshel_tasks.download.bounded_xz import BoundedXz
from zeshel_tasks.errors import DataError

CONTENT = bytes(range(256)) * 5000
PACKED = lzma.compress(CONTENT)


def read(packed: bytes, size: int = 1000) -> bytes:
    stream = BoundedXz(io.BytesIO(packed), "archive.tar.xz")
    return b"".join(iter(lambda: stream.read(size), b""))


def with_dictionary(packed: bytes, code: int) -> bytes:
    """The same file, which asks for a dictionary of another size: 4 GB for a code of 40."""
    start, end = 12, 12 + 4 * (packed[12] + 1)  # of the header of the first block
    header = bytearray(packed[start : end - 4])
    assert header[2] == 0x21, "LZMA2 is the only filter"
    header[4] = code
    return packed[:start] + bytes(header) + struct.pack("<I", zlib.crc32(header)) + packed[end:]


@pytest.mark.parametrize(
    "packed",
    [PACKED, PACKED + bytes(8), lzma.compress(CONTENT[:7]) + lzma.compress(CONTENT[7:]),
     lzma.compress(CONTENT[:7]) + bytes(200_000) + lzma.compress(CONTENT[7:]) + bytes(4)],
    ids=["one stream", "padding", "two streams", "padding between streams"],
)  # fmt: skip
@pytest.mark.parametrize("size", [1000, 2**20])
def test_all_streams_are_read(packed: bytes, size: int) -> None:
    assert read(packed, size) == CONTENT


@pytest.mark.parametrize("packed", [PACKED[:-1], PACKED + PACKED[:-20], PACKED[:100]])
def test_file_that_ends_early_is_refused(packed: bytes) -> None:
    with pytest.raises(EOFError):
        read(packed)


def test_other_bytes_after_the_end_are_refused() -> None:
    with pytest.raises(lzma.LZMAError):
        read(PACKED + b"other bytes than those of xz")


def test_dictionary_of_the_strongest_preset_is_accepted() -> None:
    assert read(lzma.compress(CONTENT, preset=9)) == CONTENT


def test_large_dictionary_is_refused(tmp_path: Path) -> None:
    archive = tar_of(tmp_path / "data", DATA_SET, mode="w:xz")
    with tarfile.open(archive) as tar:
        assert len(tar.getnames()) == 2
    archive.write_bytes(with_dictionary(archive.read_bytes(), 40))
    with pytest.raises(DataError, match=r"^data: needs too much memory to unpack; expected at most 256 MiB"):
        unpack(archive, tmp_path / "out", MEGABYTE)
