"""``zeshel import-entities``."""

import json
from pathlib import Path

import boto3
import pytest

from tests.support.faults import Fault
from zeshel_tasks.cli import main
from zeshel_tasks.data.zeshel import Dataset, Document
from zeshel_tasks.errors import EXIT_CONFIG, EXIT_DATA, EXIT_TRY_AGAIN, StoreUnavailable
from zeshel_tasks.importing.bad_rows import MaxSkipped
from zeshel_tasks.store.local import LocalStore

LINES = "id,title,text,aliases\n1,Vask,A ferry.,V|W\n2,Orlen,A town.,\n"


@pytest.fixture
def kb(tmp_path: Path) -> Path:
    path = tmp_path / "kb.csv"
    path.write_text(LINES)
    return path


def import_kb(kb: Path, out: object, *flags: str) -> int:
    return main(["import-entities", str(kb), "--format", "csv", "--out", str(out), "--world", "towns", *flags])


def test_imported_world_is_read_as_written(kb: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert import_kb(kb, tmp_path / "out") == 0
    assert capsys.readouterr().out.splitlines()[-1] == "towns: 2 entities, 0 rows skipped"
    documents = [Document("1", "Vask", "A ferry.", aliases=("V", "W")), Document("2", "Orlen", "A town.")]
    assert list(Dataset(tmp_path / "out").documents("towns")) == documents


def test_import_of_the_imported_is_identical(kb: Path, tmp_path: Path) -> None:
    import_kb(kb, tmp_path / "out")
    first = tmp_path / "out" / "documents" / "towns.json"
    again = ["import-entities", str(first), "--format", "zeshel", "--out", str(tmp_path / "again"), "--world", "towns"]
    assert main(again) == 0
    assert (tmp_path / "again" / "documents" / "towns.json").read_bytes() == first.read_bytes()


def test_repeated_import_changes_nothing_and_another_one_is_refused(
    kb: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert import_kb(kb, tmp_path / "out") == import_kb(kb, tmp_path / "out") == 0
    kb.write_text(LINES.replace("ferry", "Ferry"))
    assert import_kb(kb, tmp_path / "out") == EXIT_CONFIG
    assert "--out: expected no other 'documents/towns.json'" in capsys.readouterr().out
    assert "A ferry." in (tmp_path / "out" / "documents" / "towns.json").read_text()


def test_prefix_of_s3_gets_the_world(kb: Path, bucket: str) -> None:
    assert import_kb(kb, f"s3://{bucket}/data") == import_kb(kb, f"s3://{bucket}/data") == 0
    body = boto3.client("s3").get_object(Bucket=bucket, Key="data/documents/towns.json")["Body"].read()
    assert [json.loads(line)["title"] for line in body.splitlines()] == ["Vask", "Orlen"]


@pytest.mark.parametrize(
    ("most", "code"), [("0", EXIT_DATA), ("1", EXIT_DATA), ("2", 0), ("49.9%", EXIT_DATA), ("50%", 0)]
)
def test_number_of_skipped_rows_is_bounded(most: str, code: int, kb: Path, tmp_path: Path) -> None:
    kb.write_text(f"{LINES}3,,x,\n4,,x,\n")
    assert import_kb(kb, tmp_path / "out", "--max-skipped", most) == code
    assert (tmp_path / "out").exists() == (code == 0)


def test_every_skipped_row_is_written_to_a_file(kb: Path, tmp_path: Path) -> None:
    kb.write_text(LINES + "".join(f"{number},,x,\n" for number in range(3, 12)))
    assert import_kb(kb, tmp_path / "out", "--max-skipped", "90%") == 0
    lines = (tmp_path / "out" / "skipped" / "documents-towns.jsonl").read_text().splitlines()
    skipped = [json.loads(line) for line in lines]
    assert [row["line"] for row in skipped] == list(range(4, 13))
    expected = {"problem": "empty", "field": "title", "expected": "a non-empty string", "got": "''"}
    assert skipped[0] == {"file": str(kb), "line": 4} | expected


def test_nothing_stays_of_an_import_that_the_store_refuses(
    kb: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    fault: Fault,
) -> None:
    fault("store: import refused before its end")
    upload = LocalStore.upload

    def fail_on_documents(store: LocalStore, path: Path, key: str) -> None:
        if key.startswith("documents"):
            raise StoreUnavailable("no answer")
        upload(store, path, key)

    monkeypatch.setattr(LocalStore, "upload", fail_on_documents)
    kb.write_text(f"{LINES}3,,x,\n")
    assert import_kb(kb, tmp_path / "out", "--max-skipped", "1") == EXIT_TRY_AGAIN
    assert not [path for path in (tmp_path / "out").rglob("*") if path.is_file()]


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--world", "a/b"], "--world: expected a printable name in UTF-8"),
        (["--world", ".a"], "--world: expected a printable name in UTF-8"),
        (["--max-skipped", "x"], "expected a number of rows, or a share of them such as 0.5%, got 'x'"),
        (["--max-skipped", "101%"], "expected a number of rows, or a share of them such as 0.5%, got '101%'"),
        (["--format", "xml"], "invalid choice: 'xml'"),
    ],
)
def test_wrong_setting(
    flags: list[str], message: str, kb: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert import_kb(kb, tmp_path / "out", *flags) == EXIT_CONFIG
    assert message in capsys.readouterr().out


def test_missing_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert import_kb(tmp_path / "none.csv", tmp_path / "out") == EXIT_DATA
    assert "none.csv: no file at this address" in capsys.readouterr().out


def test_folder_that_cannot_be_made_is_a_wrong_setting(kb: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert import_kb(kb, Path("/proc/x")) == EXIT_CONFIG
    assert "/proc/x/documents: expected a directory that can be created, got" in capsys.readouterr().out


@pytest.mark.parametrize(("text", "shown"), [("20", "20"), ("0.5%", "0.5%"), ("10%", "10%"), ("100%", "100%")])
def test_bound_is_shown_as_it_was_given(text: str, shown: str) -> None:
    assert str(MaxSkipped.parse(text)) == shown
