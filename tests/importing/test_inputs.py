"""Opening the files to import."""

import bz2
import codecs
import gzip
import lzma
from collections.abc import Callable
from pathlib import Path

import pyarrow
import pytest

from zeshel_tasks.data.json_lines import Record
from zeshel_tasks.errors import ConfigError, DataError
from zeshel_tasks.importing import inputs
from zeshel_tasks.importing.inputs import Input, input_at, lines, text_lines

TEXT = "ä\nß 日本\n".encode()


def refuse(error: DataError) -> None:
    raise error


def written(tmp_path: Path, content: bytes) -> Input:
    path = tmp_path / "rows.txt"
    path.write_bytes(content)
    return Input(path, "rows.txt")


def zstd(content: bytes) -> bytes:
    sink = pyarrow.BufferOutputStream()
    with pyarrow.CompressedOutputStream(sink, "zstd") as stream:
        stream.write(content)
    return bytes(sink.getvalue())


COMPRESSIONS = {"none": bytes, "gzip": gzip.compress, "bzip2": bz2.compress, "xz": lzma.compress, "zstd": zstd}


@pytest.mark.parametrize("compress", COMPRESSIONS.values(), ids=COMPRESSIONS)
def test_lines_of_a_compressed_file(compress: Callable[[bytes], bytes], tmp_path: Path) -> None:
    assert list(text_lines(written(tmp_path, compress(TEXT)), refuse)) == [(1, "ä"), (2, "ß 日本")]


@pytest.mark.parametrize("kind", ["gzip", "bzip2", "xz", "zstd"])
def test_compressed_file_that_is_cut_is_refused(kind: str, tmp_path: Path) -> None:
    packed = COMPRESSIONS[kind](TEXT * 1000)
    with pytest.raises(DataError, match=rf"^rows.txt: damaged or cut: .*; expected {kind} data$"):
        list(lines(written(tmp_path, packed[: len(packed) // 2]), refuse))


def test_two_compressed_files_in_one(tmp_path: Path) -> None:
    assert len(list(lines(written(tmp_path, gzip.compress(TEXT) + gzip.compress(TEXT)), refuse))) == 4


def test_byte_order_mark_and_windows_line_ends_are_left_out(tmp_path: Path) -> None:
    file = written(tmp_path, codecs.BOM_UTF8 + b"a\r\nb")
    assert list(text_lines(file, refuse)) == [(1, "a"), (2, "b")]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("a\n".encode("utf-16"), "rows.txt:1: not UTF-8; expected UTF-8; got UTF-16, as its byte order mark says"),
        ("a\n".encode("utf-16-le"), "rows.txt:1: not text; expected text in UTF-8; got NUL at byte 2"),
        (b"a\n\xe4\n", "rows.txt:2: not UTF-8; expected UTF-8; got byte 0xe4 at position 1 of the line"),
        (b"", "rows.txt: empty file; expected at least one line"),
    ],
    ids=["utf-16", "utf-16 without mark", "latin-1", "empty"],
)
def test_file_that_is_not_text_in_utf_8_is_refused(content: bytes, message: str, tmp_path: Path) -> None:
    with pytest.raises(DataError) as caught:
        list(text_lines(written(tmp_path, content), refuse))
    assert str(caught.value) == message


def test_line_that_is_too_long_is_skipped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(inputs, "MAX_LINE_BYTES", 10)
    bad: list[DataError] = []
    found = list(text_lines(written(tmp_path, b"a\n" + b"b" * 35 + b"\nc\n" + b"d" * 11), bad.append))
    assert found == [(1, "a"), (3, "c")]
    assert [error.line for error in bad] == [2, 4]


def test_object_of_s3_is_an_input(bucket: str, tmp_path: Path) -> None:
    import boto3

    boto3.client("s3").put_object(Bucket=bucket, Key="a/rows.txt", Body=TEXT)
    file = input_at(f"s3://{bucket}/a/rows.txt", tmp_path)
    assert (file.path.read_bytes(), file.stem) == (TEXT, "rows")
    with pytest.raises(DataError, match=r"^s3://.*/a/none.txt: no file at this address$"):
        input_at(f"s3://{bucket}/a/none.txt", tmp_path)


def test_missing_package_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ConfigError, match=r"expected the package pyarrow: .*zeshel-tasks\[import\]"):
        inputs.pyarrow("pyarrow_that_is_not_there")


def test_text_that_is_too_long_is_refused() -> None:
    record = Record({}, "kb", 7)
    inputs.check_length(record, "text", "x" * inputs.MAX_TEXT_CHARACTERS)
    with pytest.raises(
        DataError, match=r"^kb:7: text too long \(field 'text'\); expected at most 4,194,304 characters"
    ):
        inputs.check_length(record, "text", "x" * (inputs.MAX_TEXT_CHARACTERS + 1))
