"""``zeshel show``, ``export-blink`` and a stage on runs with missing or broken records, manifests or files."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from tests.bad_input.command import Ended, assert_refused, run
from tests.support.faults import Fault
from zeshel_tasks.errors import EXIT_CONFIG, EXIT_DATA
from zeshel_tasks.store import Manifest, Run, RunRecord, open_run
from zeshel_tasks.store.checksummed import checksummed

Capture = pytest.CaptureFixture[str]

BROKEN = {
    "empty": b"",
    "cut off": b'{"stage": "conv',
    "a list": b"[]",
    "null": b"null",
    "zeros": bytes(300),
    "a web page": b"<!DOCTYPE html><title>503</title>",
    "terminal commands": b"\x1b[2J\nERROR: x",
    "deep": b"[" * 100_000,
    "a huge number": b"9" * 5000,
    "not checksummed": b'{"stage": "convert", "artifact": "artifacts/convert/x", "fingerprint": "x", "reused": false}',
}
COMMANDS = {
    "show": ["show"],
    "show --json": ["show", "--json"],
    "export-blink": ["export-blink", "--out", "{out}"],
    "eval-biencoder": ["eval-biencoder", "--split", "test"],
}


class StoredRun:
    """A copy of a finished run that a test can break."""

    def __init__(self, finished: Run, folder: Path) -> None:
        self.root = shutil.copytree(finished.store.address, folder / "store")
        self.run = open_run(f"{self.root}/runs/{finished.run_id}")
        self.out = folder / "out"

    def record_file(self, name: str) -> Path:
        return self.root / "runs" / self.run.run_id / "stages" / f"{name}.json"

    def artifact_folder(self, name: str) -> Path:
        record = self.run.record(name)
        assert record is not None
        return self.root / record.artifact

    def manifest_file(self, name: str) -> Path:
        return self.artifact_folder(name) / "manifest.json"

    def change(self, path: Path, model: type[RunRecord] | type[Manifest], **changed: Any) -> None:
        """Writes other values with a correct checksum, as an earlier or a later version might have written them."""
        values = {name: value for name, value in json.loads(path.read_bytes()).items() if name in model.model_fields}
        path.write_bytes(checksummed(model.model_validate(values | changed)))

    def command(self, name: str, capsys: Capture) -> Ended:
        first, *more = (argument.format(out=self.out) for argument in COMMANDS[name])
        return run([first, "--run", self.run.address, *more], capsys)


@pytest.fixture
def stored(finished_run: Run, tmp_path: Path) -> StoredRun:
    return StoredRun(finished_run, tmp_path)


def test_intact_run_is_shown(stored: StoredRun, capsys: Capture) -> None:
    ended = stored.command("show", capsys)
    assert (ended.code, ended.errors) == (0, [])
    assert any(line.split()[:2] == ["convert", "ran"] for line in ended.lines)


@pytest.mark.parametrize("content", BROKEN)
@pytest.mark.parametrize("what", ["record", "manifest"])
@pytest.mark.parametrize("command", COMMANDS)
def test_broken_record_or_manifest_is_named_with_remedy(
    stored: StoredRun, capsys: Capture, fault: Fault, command: str, what: str, content: str
) -> None:
    fault("input: broken record or manifest")
    path = stored.record_file("convert") if what == "record" else stored.manifest_file("convert")
    path.write_bytes(BROKEN[content])
    ended = stored.command(command, capsys)
    assert_refused(ended, EXIT_DATA, f"{path}: broken; delete this {what}")
    assert not stored.out.exists()


@pytest.mark.parametrize("what", ["record", "manifest"])
def test_show_distinguishes_missing_record_from_missing_manifest(
    stored: StoredRun, capsys: Capture, fault: Fault, what: str
) -> None:
    fault("input: missing record or manifest", 2)
    (stored.record_file("convert") if what == "record" else stored.manifest_file("convert")).unlink()
    shown = stored.command("show", capsys)
    row = " ".join(next(line for line in shown.lines if line.split()[:1] == ["convert"]).split())
    assert (shown.code, row) == (0, "convert not done" if what == "record" else "convert its artifact was deleted")
    assert_refused(stored.command("export-blink", capsys), EXIT_CONFIG, "expected a finished stage convert, got none")


@pytest.mark.parametrize("command", ["export-blink", "eval-biencoder"])
@pytest.mark.parametrize("change", ["gone", "another byte", "empty", "a folder"])
def test_damaged_artifact_file_is_named(
    stored: StoredRun, capsys: Capture, fault: Fault, command: str, change: str
) -> None:
    fault("input: damaged file of an artifact")
    path = next(stored.artifact_folder("convert").rglob("test.jsonl"))
    content = path.read_bytes()
    path.unlink()
    if change == "a folder":
        path.mkdir()
    elif change != "gone":
        path.write_bytes(b"" if change == "empty" else bytes([content[0] ^ 1]) + content[1:])
    if command == "eval-biencoder":
        for manifest in (stored.root / "artifacts" / "eval-biencoder").rglob("manifest.json"):
            manifest.unlink()  # so that the stage has work to do
    assert_refused(stored.command(command, capsys), EXIT_DATA, str(path))
    assert not stored.out.exists()


@pytest.mark.parametrize(
    "address", ["../../../etc", "/etc", "", "artifacts//x", "\x1b[2J", "artifacts/nothing"],
    ids=ascii,
)  # fmt: skip
@pytest.mark.parametrize("command", ["show", "export-blink"])
def test_record_pointing_elsewhere_is_not_followed(
    stored: StoredRun, capsys: Capture, fault: Fault, command: str, address: str
) -> None:
    fault("input: broken record or manifest")
    stored.change(stored.record_file("convert"), RunRecord, artifact=address)
    ended = stored.command(command, capsys)
    if command == "show" and ended.code == 0:
        assert [line for line in ended.lines if line.split()[:5] == ["convert", "its", "artifact", "was", "deleted"]]
    else:
        assert len(ended.errors) == 1
        assert ended.code in (EXIT_CONFIG, EXIT_DATA)


CHANGES: list[tuple[str, dict[str, Any]]] = [
    ("convert", {"metrics": {}}),
    ("convert", {"metrics": {"worlds": {"train": ["aster"]}}}),
    ("convert", {"metrics": {"worlds": 5}}),
    ("convert", {"files": {}}),
    ("download", {"metrics": {}}),
    ("download", {"config": {}}),
    ("eval-biencoder-test", {"metrics": {}}),
    ("eval-biencoder-test", {"metrics": {"recall": None}}),
    ("eval-biencoder-test", {"files": {}}),
    ("eval-crossencoder-test", {"metrics": {"normalized_accuracy": {"micro": "all"}}}),
    ("fuse", {"metrics": {}}),
    ("fuse", {"metrics": {"splits": {"test": {"linker": {}}}}}),
    ("calibrate", {"metrics": {"splits": {"test": {"right": {}}}}}),
    ("train-biencoder", {"inputs": {}}),
    ("train-biencoder", {"files": {}}),
    ("train-crossencoder", {"files": {}}),
]


@pytest.mark.parametrize(("stage", "changed"), CHANGES, ids=lambda value: str(value)[:40])
@pytest.mark.parametrize("command", ["show", "show --json", "export-blink"])
def test_manifest_of_another_version_gives_at_most_one_error(
    stored: StoredRun, capsys: Capture, fault: Fault, command: str, stage: str, changed: dict[str, Any]
) -> None:
    fault("input: manifest of another version")
    stored.change(stored.manifest_file(stage), Manifest, **changed)
    ended = stored.command(command, capsys)
    if ended.code == 0:
        assert ended.errors == []
        assert command != "export-blink" or (stored.out / "worlds.json").is_file()
    else:
        assert (ended.code, len(ended.errors)) == (EXIT_DATA, 1)
        assert not stored.out.exists()


@pytest.mark.parametrize("run_id", ["[red]", "[bold", "[@click=x]", ":smile:", "é"])
def test_run_address_with_markup_is_shown_verbatim(
    stored: StoredRun, capsys: Capture, fault: Fault, run_id: str
) -> None:
    fault("input: strange run address")
    named = stored.root / "runs" / run_id
    shutil.copytree(stored.root / "runs" / stored.run.run_id, named)
    ended = run(["show", "--run", str(named)], capsys)
    assert ended.code == 0
    assert ended.lines[-1] == f"report  {named}/report/index.html"


@pytest.mark.parametrize("there", ["a file", "a full folder"])
def test_export_leaves_existing_files_alone(stored: StoredRun, capsys: Capture, fault: Fault, there: str) -> None:
    fault("input: wrong command line")
    mine = stored.out if there == "a file" else stored.out / "mine"
    mine.parent.mkdir(exist_ok=True)
    mine.write_text("precious")
    before = sorted(stored.out.parent.rglob("*"))
    ended = stored.command("export-blink", capsys)
    assert_refused(ended, EXIT_CONFIG, "--out: expected a new or empty directory")
    assert sorted(stored.out.parent.rglob("*")) == before
