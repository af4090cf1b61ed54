"""SIGTERM ends a stage within seconds, whatever it waits for, and leaves no scratch files."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

import pytest

from tests.download.hub_server import NAME, running_hub
from tests.support.faults import Fault
from zeshel_tasks.cli import main
from zeshel_tasks.compute.progress import ByteProgress
from zeshel_tasks.errors import EXIT_CONFIG, EXIT_TRY_AGAIN
from zeshel_tasks.models import bert as bert_module

SMALL = ["--preset=smoke", "--max_context_length=32", "--max_cand_length=32", "--num_train_epochs=0"]
STOPPED = "ERROR: stopped by SIGTERM before the end; the next attempt reuses the committed results"


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory, raw_archive: Path) -> str:
    """A run that is ready for a training."""
    address = str(tmp_path_factory.mktemp("store") / "runs" / "r")
    assert main(["download", f"--run={address}", f"--source={raw_archive}"]) == 0
    assert main(["convert", f"--run={address}"]) == 0
    return address


@pytest.fixture
def scratch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "scratch"
    folder.mkdir()
    monkeypatch.setenv("ZESHEL_SCRATCH", str(folder))
    return folder


def test_sigterm_during_a_slow_download_from_the_hub(
    golden: Path, run: str, scratch: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fault: Fault
) -> None:
    is_waiting, is_over = threading.Event(), threading.Event()

    def stall(handler: BaseHTTPRequestHandler) -> None:
        hub.serve(handler, cut_after=1000)
        is_waiting.set()
        is_over.wait()

    files = {file.name: file.read_bytes() for file in (golden / "bert").iterdir() if file.suffix != ".safetensors"}
    monkeypatch.setenv("HF_HOME", str(tmp_path / "huggingface"))
    monkeypatch.setenv("HF_HUB_DOWNLOAD_TIMEOUT", "1000")
    with running_hub(files | {"model.safetensors": bytes(10_000)}) as hub:
        monkeypatch.setenv("HF_ENDPOINT", hub.address)
        hub.answer_to = {"model.safetensors": stall}
        command = [sys.executable, "-m", "zeshel_tasks", "train-biencoder", f"--run={run}", f"--bert_model={NAME}"]
        with subprocess.Popen([*command, *SMALL], stdout=subprocess.PIPE, text=True) as process:
            assert is_waiting.wait(200)
            process.terminate()
            printed, _ = process.communicate()
        is_over.set()
    assert process.returncode == EXIT_TRY_AGAIN
    assert printed.splitlines()[-1] == STOPPED
    assert list(scratch.iterdir()) == []
    assert list((tmp_path / "huggingface").rglob("*.scratch")) == []
    fault("download: SIGTERM")


def sends_sigterm(*_: Any, **__: Any) -> None:
    os.kill(os.getpid(), signal.SIGTERM)


def test_sigterm_while_an_archive_is_unpacked(
    raw_archive: Path,
    tmp_path: Path,
    scratch: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    fault: Fault,
) -> None:
    monkeypatch.setattr(ByteProgress, "update", sends_sigterm)
    assert main(["download", f"--run={tmp_path}/runs/r", f"--source={raw_archive}"]) == EXIT_TRY_AGAIN
    assert capsys.readouterr().out.splitlines()[-1] == STOPPED
    assert list(scratch.iterdir()) == []
    fault("download: SIGTERM")


def test_sigterm_while_a_model_is_loaded(
    golden: Path,
    run: str,
    scratch: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    fault: Fault,
) -> None:
    monkeypatch.setattr(bert_module.AutoModel, "from_pretrained", sends_sigterm)
    assert main(["train-biencoder", f"--run={run}", f"--bert_model={golden}/bert", *SMALL]) == EXIT_TRY_AGAIN
    assert capsys.readouterr().out.splitlines()[-1] == STOPPED
    assert list(scratch.iterdir()) == []
    fault("download: SIGTERM")


@pytest.mark.parametrize(
    ("command", "variable"),
    [("train-biencoder", "HF_HUB_ETAG_TIMEOUT"), ("make-small-bert", "HF_HUB_DOWNLOAD_TIMEOUT")],
)
def test_timeout_that_is_no_number_is_named(
    golden: Path, run: str, tmp_path: Path, command: str, variable: str, fault: Fault
) -> None:
    """A process each, because huggingface_hub reads it when it is imported."""
    flags = {
        "train-biencoder": [f"--run={run}", f"--bert_model={golden}/bert", *SMALL],
        "make-small-bert": [f"--data={tmp_path}/x", f"--out={tmp_path}/bert"],
    }[command]
    ended = subprocess.run(
        [sys.executable, "-m", "zeshel_tasks", command, *flags],
        env={**os.environ, variable: "ten"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert ended.returncode == EXIT_CONFIG
    assert ended.stderr == ""
    assert ended.stdout.splitlines()[-1] == f"ERROR: {variable}: expected a whole number of seconds, got 'ten'"
    fault("download: a wrong variable of the environment")
