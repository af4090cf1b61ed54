"""Broken or hostile archives, given to the command line: refused in one line, and no file leaves the folder."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import random
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.bad_input.command import assert_refused, run
from tests.support.data_set_files import DataSetFiles
from tests.support.faults import Fault
from zeshel_tasks.download import archive as archive_module
from zeshel_tasks.errors import EXIT_CONFIG, EXIT_DATA

MEGABYTE = 10**6


def data_set(folder: Path) -> Path:
    files = DataSetFiles(folder / "zeshel")
    return files.write()


def packed(folder: Path, *more: tarfile.TarInfo, data: bytes = b"") -> bytes:
    """Returns a valid data set as an uncompressed tar, followed by more members."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        archive.add(data_set(folder), "zeshel")
        for member in more:
            archive.addfile(member, io.BytesIO(data) if member.isreg() else None)
    return buffer.getvalue()


def member(name: str, kind: bytes = tarfile.REGTYPE, link: str = "", size: int = 0) -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type, info.linkname, info.size = kind, link, size
    return info


def zipped(folder: Path) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for path in data_set(folder).rglob("*.json"):
            archive.write(path, path.relative_to(folder))
    return buffer.getvalue()


def flipped(content: bytes, at: float) -> bytes:
    changed = bytearray(content)
    changed[int(at * len(changed))] ^= 0x10
    return bytes(changed)


def noisy(folder: Path) -> bytes:
    """Returns a tar that hardly compresses, so that a cut is in the middle of a file."""
    noise = random.Random(1).randbytes(200_000)
    return packed(folder, member("zeshel/noise", size=len(noise)), data=noise)


NOT_ARCHIVES: dict[str, Callable[[Path], bytes]] = {
    "nothing": lambda folder: b"",
    "one byte": lambda folder: b"x",
    "text": lambda folder: b"the data set is on the other server\n" * 50,
    "a web page": lambda folder: b"<!DOCTYPE html><title>Sign in</title>" * 50,
    "JSON": lambda folder: b'{"error": "not found"}',
    "noise": lambda folder: random.Random(3).randbytes(50_000),
    "zeros": lambda folder: bytes(50_000),
    "a zip file": zipped,
    "the head of bzip2": lambda folder: b"BZh9",
    "the head of gzip": lambda folder: b"\x1f\x8b\x08\x00",
    "the head of xz": lambda folder: b"\xfd7zXZ\x00",
    "bzip2 of text": lambda folder: bz2.compress(b"text" * 1000),
    "gzip of a gzip": lambda folder: gzip.compress(gzip.compress(packed(folder))),
    "a tar cut in half": lambda folder: noisy(folder)[:100_000],
    "a tar cut in a header": lambda folder: packed(folder)[:700],
    "a tar without its end": lambda folder: packed(folder).rstrip(b"\x00"),
    "bzip2 cut in half": lambda folder: bz2.compress(noisy(folder))[:90_000],
    "gzip cut in half": lambda folder: gzip.compress(noisy(folder))[:90_000],
    "xz cut in half": lambda folder: lzma.compress(noisy(folder))[:90_000],
    "bzip2 without its last byte": lambda folder: bz2.compress(noisy(folder))[:-1],
    "gzip without its checksum": lambda folder: gzip.compress(noisy(folder))[:-8],
    "bzip2 with a flipped bit": lambda folder: flipped(bz2.compress(noisy(folder)), 0.5),
    "gzip with a flipped bit": lambda folder: flipped(gzip.compress(noisy(folder)), 0.5),
    "xz with a flipped bit": lambda folder: flipped(lzma.compress(noisy(folder)), 0.5),
    "a tar whose header has a flipped bit": lambda folder: flipped(packed(folder), 0.0),
    "an empty tar": lambda folder: bytes(10_240),
}

EMPTY = ("an empty tar", "zeros")  # these are the same

HOSTILE: dict[str, tuple[tarfile.TarInfo, str]] = {
    "an absolute path": (member("/tmp/owned/documents/a.json"), "a path that leaves the folder"),
    "a path that climbs": (member("zeshel/../../owned/documents/a.json"), "a path that leaves the folder"),
    "a path of backslashes that climbs": (member("zeshel/documents/..\\..\\a.json"), ""),
    "a symbolic link": (member("zeshel/documents/x.json", tarfile.SYMTYPE, "/etc/passwd"), "not a plain file"),
    "a link out of sight": (member("zeshel/x", tarfile.SYMTYPE, "../.."), "not a plain file"),
    "a hard link": (member("zeshel/documents/x.json", tarfile.LNKTYPE, "/etc/passwd"), "not a plain file"),
    "a character device": (member("zeshel/documents/x.json", tarfile.CHRTYPE), "not a plain file"),
    "a block device": (member("zeshel/documents/x.json", tarfile.BLKTYPE), "not a plain file"),
    "a pipe": (member("zeshel/documents/x.json", tarfile.FIFOTYPE), "not a plain file"),
    "the same member twice": (member("zeshel/documents/aster.json"), "the same member twice"),
    "two data sets": (member("other/documents/x.json"), "two data sets in one archive"),
    "a name of terminal commands": (member("zeshel/\x1b[2J\nERROR: x/../y"), "a path that leaves the folder"),
    "a name of 100,000 characters": (member("zeshel/" + "x" * 100_000 + "/../y"), "a path that leaves the folder"),
    "a size beyond the limit": (member("zeshel/documents/x.json", size=0), "too large"),
}


def download(content: bytes, folder: Path, capsys: pytest.CaptureFixture[str], *flags: str) -> object:
    archive = folder / "zeshel.tar"
    archive.write_bytes(content)
    return run(["download", "--run", folder / "store" / "runs" / "r", "--source", archive, *flags], capsys)


@pytest.mark.parametrize("name", NOT_ARCHIVES)
def test_invalid_or_incomplete_archive_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], fault: Fault, name: str
) -> None:
    ended = download(NOT_ARCHIVES[name](tmp_path), tmp_path, capsys)
    fault("input: broken archive")
    words = "not a data set in ZESHEL's format" if name in EMPTY else "not a tar archive"
    assert_refused(ended, EXIT_DATA, "zeshel.tar: ", words)
    assert not list((tmp_path / "store").rglob("manifest.json"))


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_member_writes_nothing_outside_store(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], fault: Fault, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    info, problem = HOSTILE[name]
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    monkeypatch.setenv("ZESHEL_SCRATCH", str(scratch))
    size = 2 * MEGABYTE if problem == "too large" else 0
    info.size = size
    ended = download(packed(tmp_path, info, data=bytes(size)), tmp_path, capsys, "--max_unpacked_gb", "0.001")
    fault("input: hostile archive")
    if problem:
        assert_refused(ended, EXIT_DATA, problem, "zeshel.tar: ")
    else:  # an ordinary name that does not belong to a data set
        assert ended.code == 0
    assert sorted(path.name for path in tmp_path.iterdir()) in (
        ["scratch", "zeshel", "zeshel.tar"], ["scratch", "store", "zeshel", "zeshel.tar"]
    )  # fmt: skip
    assert list(scratch.iterdir()) == []
    assert not Path("/tmp/owned").exists()


@pytest.mark.parametrize("pack", [bz2.compress, gzip.compress, lzma.compress])
@pytest.mark.parametrize("place", ["in a member", "after the end"])
def test_decompression_bomb_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], fault: Fault, monkeypatch: pytest.MonkeyPatch,
    pack: Callable[[bytes], bytes], place: str,
) -> None:  # fmt: skip
    monkeypatch.setattr(archive_module, "MAX_MEMBERS", 100)  # also limits members without content
    zeros = bytes(50 * MEGABYTE)
    whole = (
        packed(tmp_path, member("zeshel/documents/bomb.json", size=len(zeros)), data=zeros)
        if place == "in a member"
        else packed(tmp_path) + zeros
    )
    bomb = pack(whole)
    assert len(bomb) < MEGABYTE / 5
    ended = download(bomb, tmp_path, capsys, "--max_unpacked_gb", "0.002")
    fault("input: decompression bomb")
    assert_refused(ended, EXIT_DATA, "too large")


def test_archive_over_size_limit_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str], fault: Fault) -> None:
    ended = download(noisy(tmp_path), tmp_path, capsys, "--max_download_gb", "0.0001")
    fault("input: archive too large")
    assert_refused(ended, EXIT_DATA, "too large", "100,000 bytes")


def test_folder_without_data_set_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str], fault: Fault) -> None:
    (tmp_path / "documents").mkdir()
    (tmp_path / "documents" / "aster.json").write_text("{}")
    ended = run(["download", "--run", tmp_path / "store" / "runs" / "r", f"--source={tmp_path}"], capsys)
    fault("input: wrong address")
    assert_refused(ended, EXIT_DATA, "not a data set in ZESHEL's format", "mentions/*.json")


@pytest.mark.parametrize(
    ("source", "words"),
    [
        ("nowhere.tar", "no such file"),
        ("", "download.source"),
        ("ftp://host/x.tar", "expected a local path, file:///path, s3://bucket/key, https://host/path, the link"),
        ("gopher://host/x", "expected a local path, file:///path, s3://bucket/key, https://host/path, the link"),
        ("file://host/x.tar", "expected file:///path of this machine"),
        ("http://", "source: "),
        ("https://[::1/x", "source: "),
        ("http://host:99999999/x", "source: "),
        ("http://exa mple/\n\x1b[2J", "source: "),
        ("s3://", "expected an address like s3://bucket/prefix"),
        ("x" * 5000, "source: "),
        ("a\x00b", "source: "),
        ("https://drive.google.com/drive/folders/abc", "expected the address of a file"),
    ],
)
def test_invalid_source_address_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], fault: Fault, source: str, words: str
) -> None:
    ended = run(["download", "--run", tmp_path / "store" / "runs" / "r", f"--source={source}"], capsys)
    fault("input: wrong address")
    assert_refused(ended, EXIT_CONFIG, words)
