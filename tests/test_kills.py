"""The whole recipe, killed again and again: in the end every artifact is what it would have been without."""

import os
import random
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.faults import Fault
from tests.finished import NAMES, manifest_of
from zeshel_tasks.errors import EXIT_TRY_AGAIN
from zeshel_tasks.store import Run, open_run

VARYING = {"training_seconds", "mentions_per_second", "entities_per_second"}
KILLS = 30


@pytest.fixture
def flags(raw_archive: Path, golden: Path) -> list[str]:
    """Settings of a recipe that takes seconds, with a checkpoint at nearly every step."""
    settings = {
        "source": raw_archive, "bert_model": golden / "bert", "max_mentions_per_world": 6, "max_context_length": 32,
        "max_cand_length": 32, "max_seq_length": 64, "top_k": 8, "checkpoint_minutes": 1e-6, "device": "cpu",
        "train_biencoder.train_batch_size": 4, "num_train_epochs": 2, "print_interval": 0.01,
    }  # fmt: skip
    return [f"--{name}={value}" for name, value in settings.items()]


def start(run: Run, flags: list[str]) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "zeshel_tasks.cli", "pipeline", "--run", run.address, *flags]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment)


def killed_after(lines: int, number: int, process: subprocess.Popen[str]) -> int:
    """Sends the signal when the process has said ``lines`` things about new work; returns how it ended."""
    assert process.stdout is not None
    said: list[str] = []
    for line in process.stdout:
        said += [] if " reused " in line else [line]
        if len(said) == lines:
            process.send_signal(number)
    exit_code = process.wait(60)
    assert exit_code in (0, -signal.SIGKILL, EXIT_TRY_AGAIN), said[-5:]
    return exit_code


def outcome(run: Run, name: str) -> dict[str, Any]:
    """What must not depend on how often a run was killed; the report tells times, and is compared by its metrics."""
    manifest = manifest_of(run, name)
    metrics = {key: value for key, value in manifest.metrics.items() if key not in VARYING}
    files = {} if name == "report" else {file: entry.sha256 for file, entry in manifest.files.items()}
    return {"fingerprint": manifest.fingerprint, "metrics": metrics, "files": files}


def test_a_run_that_is_killed_again_and_again_ends_as_if_never_killed(
    flags: list[str], tmp_path: Path, fault: Fault
) -> None:
    undisturbed, killed = (open_run(f"{tmp_path}/{name}/runs/r") for name in ("undisturbed", "killed"))
    assert killed_after(10**6, signal.SIGKILL, start(undisturbed, flags)) == 0
    generator, deaths = random.Random(4), 0
    while deaths < KILLS:
        number = signal.SIGTERM if deaths % 4 == 3 else signal.SIGKILL
        if killed_after(generator.choice((2, 6, 12, 18, 25)), number, start(killed, flags)) == 0:
            break
        deaths += 1
    fault("training: a whole run is killed", deaths)
    assert deaths > 5
    assert killed_after(10**6, signal.SIGKILL, start(killed, flags)) == 0
    assert {name: outcome(killed, name) for name in NAMES} == {name: outcome(undisturbed, name) for name in NAMES}
