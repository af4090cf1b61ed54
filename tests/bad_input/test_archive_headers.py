"""Tar headers with false sizes, names and extended headers, given to the command line."""

from __future__ import annotations

import tarfile
from pathlib import Path

import pytest

from tests.bad_input.builders import archive_of, data_set_files, empty_member
from tests.bad_input.command import Ended, assert_refused, run
from tests.support.faults import Fault
from zeshel_tasks.download import archive as archive_module
from zeshel_tasks.errors import EXIT_DATA

Capture = pytest.CaptureFixture[str]


@pytest.fixture
def files(tmp_path: Path) -> dict[str, bytes]:
    return data_set_files(tmp_path)


def download(archive: bytes, folder: Path, capsys: Capture) -> Ended:
    (folder / "zeshel.tar").write_bytes(archive)
    return run(["download", "--run", folder / "runs" / "r", "--source", folder / "zeshel.tar"], capsys)


def header_of(name: str, size: bytes) -> bytes:
    """Returns a member's header with a correct checksum and these bytes as its size."""
    header = bytearray(empty_member(name).tobuf(tarfile.USTAR_FORMAT))
    header[124:136] = size.ljust(12, b"\0")
    header[148:156] = b" " * 8
    header[148:156] = f"{sum(header):06o}\0 ".encode()
    return bytes(header)


def test_intact_archive_is_accepted(files: dict[str, bytes], tmp_path: Path, capsys: Capture) -> None:
    ended = download(archive_of(files), tmp_path, capsys)
    assert (ended.code, ended.errors) == (0, [])


@pytest.mark.parametrize(
    "name",
    ["line\nend", "\x1b[31mred", "left\u202eright", "half\udcff", "nbsp\u00a0", "w" * 250, "é" * 120],
    ids=ascii,
)
def test_unprintable_or_overlong_world_name_is_refused(
    files: dict[str, bytes], tmp_path: Path, capsys: Capture, fault: Fault, name: str
) -> None:
    fault("input: hostile archive")
    ended = download(archive_of(files, empty_member(f"documents/{name}.json")), tmp_path, capsys)
    assert_refused(ended, EXIT_DATA, "zeshel.tar: a name that cannot be kept: member 'documents/", "printable")


@pytest.mark.parametrize(
    ("headers", "problem"),
    [
        ({"comment": "x" * 2_000_000}, "damaged header"),
        ({"size": "-1"}, "zeshel.tar: "),
        ({"size": "x"}, "documents/zz.json: empty file"),
        ({"size": "9" * 5000}, "documents/zz.json: empty file"),
        ({"path": "../../x.json"}, "a path that leaves the folder"),
        ({"path": "/x"}, "a path that leaves the folder"),
        ({"path": "documents/a\0b.json"}, "a name that cannot be kept"),
        ({"path": f"documents/{'w' * 5000}.json"}, "a name that cannot be kept"),
        ({"GNU.sparse.major": "1", "GNU.sparse.minor": "0"}, "zeshel.tar: "),
        ({"GNU.sparse.map": "1,2,x"}, "zeshel.tar: "),
    ],
    ids=lambda value: ascii(value)[:32] if isinstance(value, dict) else "",
)
def test_hostile_extended_header_is_refused(
    files: dict[str, bytes], tmp_path: Path, capsys: Capture, fault: Fault, headers: dict[str, str], problem: str
) -> None:
    fault("input: hostile archive")
    ended = download(archive_of(files, empty_member("documents/zz.json", headers=headers)), tmp_path, capsys)
    assert_refused(ended, EXIT_DATA, problem)


@pytest.mark.parametrize("path", ["", "."])
def test_nameless_member_is_ignored(
    files: dict[str, bytes], tmp_path: Path, capsys: Capture, fault: Fault, path: str
) -> None:
    fault("input: strange archive")
    ended = download(archive_of(files, empty_member("x.json", headers={"path": path})), tmp_path, capsys)
    assert ended.code == 0
    assert "INFO: ignored 1 files of the archive that do not belong to the data set" in ended.lines


@pytest.mark.parametrize(
    "size",
    [b"77777777777", b"-1", b"9z", b"\xff" * 12, b"\x80" + b"\xff" * 11, b"\x80" + bytes(10) + b"\x01"],
    ids=["8 GB", "negative", "no number", "negative, binary", "2^88, binary", "1, binary"],
)
def test_header_with_false_size_is_refused(
    files: dict[str, bytes], tmp_path: Path, capsys: Capture, fault: Fault, size: bytes
) -> None:
    fault("input: hostile archive")
    ended = download(header_of("documents/a.json", size) + archive_of(files), tmp_path, capsys)
    assert_refused(ended, EXIT_DATA, "zeshel.tar: ")


@pytest.mark.parametrize("place", [0, 100, 124, 136, 148, 156, 257])
def test_header_with_changed_byte_is_refused(
    files: dict[str, bytes], tmp_path: Path, capsys: Capture, fault: Fault, place: int
) -> None:
    fault("input: broken archive")
    broken = bytearray(archive_of(files))
    broken[place] ^= 0x81
    assert_refused(download(bytes(broken), tmp_path, capsys), EXIT_DATA, "not a tar archive, or a damaged one")


@pytest.mark.parametrize("kind", [tarfile.REGTYPE, tarfile.DIRTYPE], ids=["files", "the same folder"])
def test_too_many_members_are_refused(
    files: dict[str, bytes], tmp_path: Path, capsys: Capture, fault: Fault, monkeypatch: pytest.MonkeyPatch, kind: bytes
) -> None:
    fault("input: hostile archive")
    monkeypatch.setattr(archive_module, "MAX_MEMBERS", 50)
    more = [empty_member("same" if kind == tarfile.DIRTYPE else str(number), kind) for number in range(60)]
    assert_refused(download(archive_of(files, *more), tmp_path, capsys), EXIT_DATA, "too many members", "at most 50")


@pytest.mark.parametrize("missing", ["documents/", "mentions/", "mentions/train", "mentions/val", "mentions/test"])
def test_incomplete_data_set_is_refused(
    files: dict[str, bytes], tmp_path: Path, capsys: Capture, fault: Fault, missing: str
) -> None:
    fault("input: broken archive")
    left = {name: content for name, content in files.items() if not name.startswith(missing)}
    assert_refused(download(archive_of(left), tmp_path, capsys), EXIT_DATA, missing)
