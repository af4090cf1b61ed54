"""The flags of ``zeshel export``; tests/export has what it writes."""

from __future__ import annotations

from pathlib import Path

import pytest

from zeshel_tasks.cli import main
from zeshel_tasks.commands import export


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        ([], "one of the arguments --run --store is required"),
        (["--run", "s/runs/r", "--store", "s"], "not allowed with argument"),
        (["--run", "s/runs/r", "--format", "onnx"], "argument --format: invalid choice: 'onnx'"),
        (["--run", "s/runs/r", "--push", "linker"], "argument --push: expected owner/name, got 'linker'"),
        (["--run", "s/runs/r", "--push", "me/linker@main"], "argument --push: expected owner/name"),
        (
            ["--run", "s/runs/r", "--license", "Apache 2"],
            "argument --license: expected an identifier such as",
        ),
        (
            ["--run", "s/runs/r", "--format", "blink", "--push", "me/x"],
            "--push: expected --format sentence-transformers",
        ),
        (["--run", "s/runs/r", "--format", "blink", "--public"], "--public: expected --format sentence-transformers"),
        (["--store", "s", "--format", "blink"], "--store: expected --format sentence-transformers, got blink"),
    ],
)
def test_wrong_flags_are_named(flags: list[str], said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    usual = [] if "--format" in flags else ["--format", "sentence-transformers"]
    assert main(["export", *usual, *flags, "--out", str(tmp_path / "out")]) == 2
    assert said in capsys.readouterr().out
    assert not list(tmp_path.iterdir())


def test_push_without_a_token_ends_before_anything_is_read(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN", "HF_TOKEN_PATH", "HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HF_HOME", str(tmp_path / "home"))
    flags = ["--format", "sentence-transformers", "--store", str(tmp_path / "none"), "--push", "me/linker"]
    assert main(["export", *flags, "--out", str(tmp_path / "out")]) == 2
    assert "--push: expected a token in HF_TOKEN" in capsys.readouterr().out


@pytest.mark.parametrize("command", [["export-blink"], ["export", "--format", "blink"]])
def test_both_commands_write_blinks_format(command: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[tuple[str, Path]] = []
    monkeypatch.setattr(export, "export_blink", lambda run, out: calls.append((run, out)))
    assert main([*command, "--run", "s/runs/r", "--out", str(tmp_path / "out")]) == 0
    assert calls == [("s/runs/r", tmp_path / "out")]
