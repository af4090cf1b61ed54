import bz2
import gzip
import io
import lzma
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from zeshel_tasks.download import archive as archive_module
from zeshel_tasks.download.archive import unpack
from zeshel_tasks.errors import DataError

DATA_SET = {"documents/aster.json": b'{"a": 1}\n', "mentions/train.json": b'{"b": 2}\n'}
MEGABYTE = 10**6


def tar_of(path: Path, files: dict[str, bytes], *more: tarfile.TarInfo, mode: str = "w:bz2") -> Path:
    with tarfile.open(path, mode) as tar:
        for name, content in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
        for info in more:
            tar.addfile(info)
    return path


def member(name: str, kind: bytes, target: str = "") -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, target
    return info


def unpacked(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize("mode", ["w", "w:gz", "w:bz2", "w:xz"])
def test_compression_is_recognized_by_the_first_bytes(tmp_path: Path, mode: str) -> None:
    unpack(tar_of(tmp_path / "data", DATA_SET, mode=mode), tmp_path / "out", MEGABYTE)
    assert unpacked(tmp_path / "out") == DATA_SET


@pytest.mark.parametrize("prefix", ["zeshel/", "./", "./a/b/"])
def test_common_folder_is_dropped(tmp_path: Path, prefix: str) -> None:
    files = {prefix + name: content for name, content in DATA_SET.items()}
    unpack(tar_of(tmp_path / "data", files, member("zeshel", tarfile.DIRTYPE)), tmp_path / "out", MEGABYTE)
    assert unpacked(tmp_path / "out") == DATA_SET


def test_file_larger_than_one_read_is_unpacked_whole(tmp_path: Path) -> None:
    content = bytes(range(256)) * 10_001
    files = {**DATA_SET, "documents/large.json": content, "documents/last.json": b"{}"}
    unpack(tar_of(tmp_path / "data", files), tmp_path / "out", 10 * MEGABYTE)
    assert unpacked(tmp_path / "out") == files


def test_other_files_are_ignored_and_counted(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    others = ("README.md", "documents/notes.txt", "documents/._aster.json", "tfidf_candidates/train.json")
    with caplog.at_level("INFO"):
        unpack(tar_of(tmp_path / "data", DATA_SET | dict.fromkeys(others, b"x")), tmp_path / "out", MEGABYTE)
    assert unpacked(tmp_path / "out") == DATA_SET
    assert "ignored 4 files" in caplog.text


@pytest.mark.parametrize(
    "bad",
    [
        member("/etc/documents/a.json", tarfile.REGTYPE),
        member("../documents/a.json", tarfile.REGTYPE),
        member("documents/../../a.json", tarfile.REGTYPE),
        member("documents/link.json", tarfile.SYMTYPE, "/etc/passwd"),
        member("documents/hard.json", tarfile.LNKTYPE, "documents/aster.json"),
        member("README.md", tarfile.SYMTYPE, "elsewhere"),
        member("documents/null.json", tarfile.CHRTYPE),
        member("documents/disk.json", tarfile.BLKTYPE),
        member("documents/pipe.json", tarfile.FIFOTYPE),
        member("documents/sparse.json", tarfile.GNUTYPE_SPARSE),
        member("documents/aster.json", tarfile.REGTYPE),
        member("./documents//aster.json", tarfile.REGTYPE),
        member("other/documents/b.json", tarfile.REGTYPE),
    ],
    ids=lambda info: f"{info.name}:{info.type!r}",
)
def test_unsafe_or_ambiguous_member_is_refused_by_name(tmp_path: Path, bad: tarfile.TarInfo) -> None:
    with pytest.raises(DataError) as error:
        unpack(tar_of(tmp_path / "data.tar.bz2", DATA_SET, bad), tmp_path / "out", MEGABYTE)
    assert bad.name in str(error.value)
    assert "data.tar.bz2" in str(error.value)
    assert set(tmp_path.rglob("*.json")) <= {tmp_path / "out" / name for name in DATA_SET}


def test_member_over_size_limit_is_not_written(tmp_path: Path) -> None:
    bomb = tar_of(tmp_path / "data", {**DATA_SET, "documents/bomb.json": bytes(MEGABYTE)})
    with pytest.raises(DataError, match=r"too large: member 'documents/bomb.json'.*at most 500,000 bytes"):
        unpack(bomb, tmp_path / "out", 500_000)
    assert not (tmp_path / "out/documents/bomb.json").exists()


def test_ignored_members_count_towards_the_limit(tmp_path: Path) -> None:
    bomb = tar_of(tmp_path / "data", {"bomb.bin": bytes(MEGABYTE), **DATA_SET})
    with pytest.raises(DataError, match=r"too large: member 'bomb.bin'"):
        unpack(bomb, tmp_path / "out", 500_000)


def test_zeros_after_the_end_mark_count_towards_the_limit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(archive_module, "MAX_MEMBERS", 10)
    plain = tar_of(tmp_path / "data", DATA_SET, mode="w").read_bytes()
    (tmp_path / "bomb").write_bytes(bz2.compress(plain + bytes(10 * MEGABYTE)))
    with pytest.raises(DataError, match="too large"):
        unpack(tmp_path / "bomb", tmp_path / "out", MEGABYTE)


def test_oversized_header_extension_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "data"
    with tarfile.open(path, "w:bz2", format=tarfile.PAX_FORMAT) as tar:
        info = tarfile.TarInfo("documents/a.json")
        info.pax_headers = {"comment": "x" * 5 * MEGABYTE}
        tar.addfile(info)
    with pytest.raises(DataError, match="damaged header"):
        unpack(path, tmp_path / "out", 100 * MEGABYTE)


def test_too_many_members_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(archive_module, "MAX_MEMBERS", 3)
    files = {**DATA_SET, "a": b"", "b": b""}
    with pytest.raises(DataError, match="too many members: member 'b'"):
        unpack(tar_of(tmp_path / "data", files), tmp_path / "out", MEGABYTE)


@pytest.mark.parametrize("pack", [bytes, bz2.compress, lzma.compress], ids=["plain", "bz2", "xz"])
@pytest.mark.parametrize("share", [0.3, 0.6, 0.9])
def test_truncated_archive_is_refused(tmp_path: Path, pack: Callable[[bytes], bytes], share: float) -> None:
    files = {f"documents/w{i}.json": bytes([i]) * 1500 for i in range(9)} | DATA_SET
    packed = pack(tar_of(tmp_path / "whole", files, mode="w").read_bytes()[: 9 * 2048 + 2 * 1024 + 1024])
    (tmp_path / "data").write_bytes(packed[: int(len(packed) * share)])
    with pytest.raises(DataError, match="not a tar archive, or a damaged one"):
        unpack(tmp_path / "data", tmp_path / "out", MEGABYTE)


def test_archive_cut_between_two_members_is_refused(tmp_path: Path) -> None:
    plain = tar_of(tmp_path / "whole", {**DATA_SET, "documents/b.json": b"{}"}, mode="w").read_bytes()
    (tmp_path / "data").write_bytes(plain[: 4 * 512])
    with pytest.raises(DataError, match="without an end mark"):
        unpack(tmp_path / "data", tmp_path / "out", MEGABYTE)


def test_broken_header_in_the_middle_is_refused(tmp_path: Path) -> None:
    plain = bytearray(tar_of(tmp_path / "whole", {**DATA_SET, "documents/b.json": b"{}"}, mode="w").read_bytes())
    plain[4 * 512 + 150] ^= 1
    (tmp_path / "data").write_bytes(plain)
    with pytest.raises(DataError, match="header is broken"):
        unpack(tmp_path / "data", tmp_path / "out", MEGABYTE)


@pytest.mark.parametrize("content", [b"", b"<html>Sign in</html>", b"BZh9 is not enough", b"\x1f\x8bneither", bytes(9)])
def test_file_that_is_not_an_archive_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "data").write_bytes(content)
    with pytest.raises(DataError, match="not a tar archive"):
        unpack(tmp_path / "data", tmp_path / "out", MEGABYTE)


@pytest.mark.parametrize("missing", list(DATA_SET))
def test_archive_without_documents_or_mentions_is_refused(tmp_path: Path, missing: str) -> None:
    files = {name: content for name, content in DATA_SET.items() if name != missing}
    with pytest.raises(DataError, match=missing.split("/")[0]):
        unpack(tar_of(tmp_path / "data", files), tmp_path / "out", MEGABYTE)


@pytest.mark.parametrize(
    ("content", "kind"),
    [
        (b"PK\x03\x04...", "a zip archive"),
        (b"(\xb5/\xfd...", "a file compressed with Zstandard"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n", "a pointer of Git LFS instead of the file"),
        (b"<?xml version='1.0'?><Error><Code>AccessDenied</Code></Error>", "a page of HTML or XML"),
        (b'{"error": "quota exceeded"}', "JSON"),
    ],
)
def test_other_kind_of_file_is_named(tmp_path: Path, content: bytes, kind: str) -> None:
    (tmp_path / "file").write_bytes(content)
    with pytest.raises(DataError, match=f"^file: not a tar archive, but {kind}$"):
        unpack(tmp_path / "file", tmp_path / "out", 10**6)


@pytest.mark.parametrize("module", [bz2, gzip, lzma])
def test_archive_that_was_compressed_in_parts_is_unpacked(tmp_path: Path, module: Any) -> None:
    """As pbzip2, pigz and pixz do."""
    content = tar_of(tmp_path / "data", DATA_SET, mode="w").read_bytes()
    half = len(content) // 2
    (tmp_path / "data").write_bytes(module.compress(content[:half]) + module.compress(content[half:]))
    unpack(tmp_path / "data", tmp_path / "out", MEGABYTE)
    assert unpacked(tmp_path / "out") == DATA_SET
