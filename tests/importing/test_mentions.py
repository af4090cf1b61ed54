"""``zeshel import-mentions`` makes a data set that ``download`` takes, and ``zeshel export-mentions`` goes back."""

import json
from pathlib import Path
from typing import Any

import boto3
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.importing.conftest import ImportMentions, lines_of
from tests.support.faults import Fault
from zeshel_tasks.cli import main
from zeshel_tasks.data.raw_text import TokenSpan, character_spans
from zeshel_tasks.download.members import UNFINISHED
from zeshel_tasks.errors import EXIT_CONFIG, EXIT_DATA, EXIT_TRY_AGAIN, StoreUnavailable
from zeshel_tasks.importing.export import export_mentions
from zeshel_tasks.store import open_run
from zeshel_tasks.store.local import LocalStore

THREE = ("--shares", "train=0.6,valid=0.2,test=0.2")
LETTERS = st.sampled_from("ab \u00a0\u0301😀.'日\u200d\n")


def texts(count: int = 10) -> list[Any]:
    """Texts with a mention of each of two entities, of which the second starts within a word, and one of none."""
    spans = [
        {"start": 4, "end": 8, "entity": "7"},
        {"start": 13, "end": 18, "entity": "8"},
        {"start": 0, "end": 3, "entity": None},
    ]
    return [{"id": f"t{number}", "text": "The Vask, im-Orlens 😀.", "spans": spans} for number in range(count)]


def files_of(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_imported_data_set_is_downloaded_and_converted(import_mentions: ImportMentions, tmp_path: Path) -> None:
    assert import_mentions(texts(), "jsonl", *THREE) == 0
    run = str(tmp_path / "store" / "runs" / "first")
    assert main(["download", "--run", run, "--source", str(tmp_path / "data")]) == 0
    assert main(["convert", "--run", run]) == 0
    convert = open_run(run).manifest("convert")
    assert convert is not None
    assert convert.metrics["mentions"] == {"train": 12, "valid": 4, "test": 4}
    converted = lines_of(open_run(run).artifact("convert", tmp_path).path("test.jsonl"))[1]
    expected = {"mention": "orlen", "label_title": "Orlen", "world": "towns-test", "context_left": "the vask , im -"}
    assert {name: converted[name] for name in expected} == expected
    assert converted["context_right"] == "s 😀 ."


def test_exported_data_set_is_imported_unchanged(import_mentions: ImportMentions, tmp_path: Path) -> None:
    shares = "train=0.4,valid=0.2,test=0.2,heldout_train_seen=0.1,heldout_train_unseen=0.1"
    assert import_mentions(texts(20), "jsonl", "--shares", shares, "--split-by", "mention") == 0
    assert main(["export-mentions", str(tmp_path / "data"), "--out", str(tmp_path / "new" / "all.jsonl")]) == 0
    flags = ["--format", "jsonl", "--entities", str(tmp_path / "data"), "--out", str(tmp_path / "again")]
    assert main(["import-mentions", str(tmp_path / "new" / "all.jsonl"), *flags]) == 0
    assert files_of(tmp_path / "again") == files_of(tmp_path / "data")
    assert len(files_of(tmp_path / "data")) == 3 + 3 + 5 + 3


def test_mentions_are_exported_to_standard_output(
    import_mentions: ImportMentions, tmp_path: Path, capfdbinary: pytest.CaptureFixture[bytes]
) -> None:
    assert import_mentions(texts(), "jsonl", *THREE) == 0
    assert main(["export-mentions", str(tmp_path / "data"), "--out", str(tmp_path / "file")]) == 0
    capfdbinary.readouterr()
    assert main(["export-mentions", str(tmp_path / "data"), "--out", "-"]) == 0
    out, err = capfdbinary.readouterr()
    assert out == (tmp_path / "file").read_bytes()
    assert b"INFO: 10 texts" in err


@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(text=st.text(LETTERS, min_size=1, max_size=15), data=st.data())
def test_every_mention_is_found_again_in_its_text(
    text: str, data: st.DataObject, kb: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    edges = [data.draw(st.integers(0, len(text))) for _ in range(6)]
    pairs = {(min(pair), max(pair)) for pair in zip(edges[::2], edges[1::2], strict=True)}
    spans = [pair for pair in sorted(pairs) if text[slice(*pair)].strip()]
    folder = tmp_path_factory.mktemp("texts")
    line = {
        "text": text,
        "spans": [{"start": start, "end": end, "entity": "7", "id": f"{start}-{end}"} for start, end in spans],
    }
    extra = {"text": "Vask", "spans": [{"start": 0, "end": 4, "entity": "7", "id": "last"}]}
    (folder / "m.jsonl").write_text(f"{json.dumps(line)}\n{json.dumps(extra)}\n")
    flags = ["--format", "jsonl", "--entities", str(kb), "--out", str(folder / "data"), "--shares", "train=1"]
    assert main(["import-mentions", str(folder / "m.jsonl"), *flags]) == 0
    context = lines_of(folder / "data" / "contexts" / "towns.json")[0]
    assert context.get("original", context["text"]) == text
    for mention in lines_of(folder / "data" / "mentions" / "train.json")[:-1]:
        start, end = map(int, mention["mention_id"].split("-"))
        place = TokenSpan(mention["start_index"], mention["end_index"])
        (found,) = character_spans(text, context["text"], [place])
        assert text[slice(*found)] == text[start:end].strip()
        assert start <= found.start < found.end <= end


def test_same_mentions_give_the_same_bytes(import_mentions: ImportMentions, tmp_path: Path) -> None:
    assert import_mentions(texts(), "jsonl", *THREE) == import_mentions(texts(), "jsonl", *THREE) == 0
    assert import_mentions(texts(), "jsonl", *THREE, "--seed", "8") == EXIT_CONFIG  # another data set is there


def test_prefix_of_s3_is_a_source(kb: Path, bucket: str, tmp_path: Path) -> None:
    for path in kb.rglob("*.json"):
        boto3.client("s3").upload_file(str(path), bucket, f"in/{path.relative_to(kb).as_posix()}")
    body = "".join(json.dumps(line) + "\n" for line in texts()).encode()
    boto3.client("s3").put_object(Bucket=bucket, Key="m.jsonl", Body=body)
    flags = ["--format", "jsonl", "--entities", f"s3://{bucket}/in", "--out", f"s3://{bucket}/out"]
    assert main(["import-mentions", f"s3://{bucket}/m.jsonl", *flags]) == 0
    run = str(tmp_path / "store" / "runs" / "first")
    assert main(["download", "--run", run, "--source", f"s3://{bucket}/out/"]) == 0
    assert export_mentions(f"s3://{bucket}/out", tmp_path / "all.jsonl") == 10


@pytest.mark.parametrize("address", ["new", "kb"])
def test_nothing_stays_of_a_data_set_that_the_store_refuses(
    address: str,
    kb: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    fault: Fault,
) -> None:
    fault("store: import refused before its end")
    upload, before = LocalStore.upload, files_of(kb)

    def fail_on_train(store: LocalStore, path: Path, key: str) -> None:
        if key == "mentions/train.json":
            raise StoreUnavailable("no answer")
        upload(store, path, key)

    monkeypatch.setattr(LocalStore, "upload", fail_on_train)
    (tmp_path / "m.jsonl").write_text("".join(json.dumps(line) + "\n" for line in texts()))
    flags = ["--format", "jsonl", "--entities", str(kb), "--out", str(tmp_path / address)]
    assert main(["import-mentions", str(tmp_path / "m.jsonl"), *flags]) == EXIT_TRY_AGAIN
    assert files_of(kb) == before
    assert sorted(path.name for path in tmp_path.iterdir()) == ["kb", "m.jsonl"]


@pytest.mark.parametrize("killed_at", ["documents/towns.json", "mentions/train.json", UNFINISHED])
def test_data_set_of_a_killed_import_is_read_only_after_the_import_ran_again(
    killed_at: str, kb: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fault: Fault
) -> None:
    fault("store: import refused before its end")
    out = tmp_path / "out"
    out.mkdir()  # otherwise, all of it appears at once
    (tmp_path / "m.jsonl").write_text("".join(json.dumps(line) + "\n" for line in texts()))
    command = [
        "import-mentions",
        str(tmp_path / "m.jsonl"),
        "--format",
        "jsonl",
        "--entities",
        str(kb),
        "--out",
        str(out),
    ]
    upload = LocalStore.upload

    def fail(store: LocalStore, path: Path, key: str) -> None:
        if key == killed_at:
            raise StoreUnavailable("no answer")
        upload(store, path, key)

    def fail_to_delete(*_: object) -> None:
        raise StoreUnavailable("no answer")

    with monkeypatch.context() as gone:
        gone.setattr(LocalStore, "upload", fail)
        gone.setattr(LocalStore, "delete", fail_to_delete)  # a killed process tidies nothing
        assert main(command) == EXIT_TRY_AGAIN
    download = ["download", "--run", str(tmp_path / "store" / "runs" / "r"), "--source", str(out)]
    for reader in (download, ["export-mentions", str(out), "--out", str(tmp_path / "x")]):
        assert main(reader) == EXIT_TRY_AGAIN
    assert main(command) == 0
    assert main(download) == 0


@pytest.mark.parametrize(("most", "code"), [("1", EXIT_DATA), ("2", 0), ("6%", EXIT_DATA), ("7%", 0)])
def test_skipped_mentions_are_bounded_and_written(
    most: str, code: int, import_mentions: ImportMentions, tmp_path: Path
) -> None:
    lines = texts()
    lines[3]["spans"] = [*lines[3]["spans"], {"start": 1, "end": 99, "entity": "7"}]
    lines[4]["spans"] = [*lines[4]["spans"], {"start": 1, "end": 2, "entity": "none"}]
    assert import_mentions(lines, "jsonl", "--max-skipped", most) == code
    skipped = lines_of(tmp_path / "data" / "skipped" / "mentions.jsonl")
    assert [(row["line"], row["problem"]) for row in skipped] == (
        [] if code else [(4, "wrong span"), (5, "unknown entity")]
    )


def test_files_of_each_split(kb: Path, tmp_path: Path) -> None:
    for number, split in enumerate(("train", "valid", "test")):
        (tmp_path / f"{split}.jsonl").write_text(json.dumps(texts(4)[number]) + "\n")
    flags = [flag for split in ("train", "valid", "test") for flag in (f"--{split}", str(tmp_path / f"{split}.jsonl"))]
    flags += ["--format", "jsonl", "--entities", str(kb), "--out", str(tmp_path / "data")]
    assert main(["import-mentions", *flags]) == 0
    found = {
        name: {line["context_document_id"] for line in lines_of(tmp_path / "data" / "mentions" / name)}
        for name in ("train.json", "val.json", "test.json")
    }
    assert found == {"train.json": {"t0"}, "val.json": {"t1"}, "test.json": {"t2"}}


def test_texts_without_mentions_are_kept(import_mentions: ImportMentions, tmp_path: Path) -> None:
    assert import_mentions([*texts(1), {"id": "t1", "text": "Nothing here.", "spans": []}], "jsonl") == 0
    assert [line["document_id"] for line in lines_of(tmp_path / "data" / "contexts" / "towns.json")] == ["t0", "t1"]


def test_nil_mentions_are_kept_apart(import_mentions: ImportMentions, tmp_path: Path) -> None:
    assert import_mentions(texts(1), "jsonl") == 0
    (nil,) = lines_of(tmp_path / "data" / "nil" / "train.json")
    assert nil == {
        "mention_id": "towns:t0:0-3",
        "context_document_id": "t0",
        "corpus": "towns",
        "start_index": 0,
        "end_index": 0,
        "text": "The",
        "label_document_id": None,
    }


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            ["import-mentions", "--format", "jsonl", "--entities", "{kb}", "--out", "x"],
            "IN: expected at least one file, got none",
        ),
        (
            [
                "import-mentions",
                "{kb}/documents/towns.json",
                "--format",
                "jsonl",
                "--entities",
                "{kb}/none",
                "--out",
                "x",
            ],
            "--entities: expected documents/<world>.json in",
        ),
        (
            ["export-mentions", "{kb}", "--out", "{kb}/x"],
            "DATA: expected a data set with contexts/, as of import-mentions, got",
        ),
        (["export-mentions", "{kb}", "--out", "{kb}"], "--out: expected a new file, got"),
    ],
)
def test_wrong_address(arguments: list[str], message: str, kb: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([argument.format(kb=kb) for argument in arguments]) == EXIT_CONFIG
    assert message in capsys.readouterr().out


def test_world_that_a_split_needs_may_not_exist(
    import_mentions: ImportMentions, kb: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (kb / "documents" / "towns-test.json").write_bytes((kb / "documents" / "towns.json").read_bytes())
    assert import_mentions(texts(), "jsonl", *THREE, "--world", "towns") == EXIT_CONFIG
    assert (
        "--entities: expected no world 'towns-test', which 'towns' needs for its test mentions"
        in capsys.readouterr().out
    )
