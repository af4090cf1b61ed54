"""A pipeline that is killed again and again leaves the same artifacts as one that was never killed."""

import os
import random
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import pytest

from tests.support.faults import Fault
from tests.support.finished import NAMES, manifest_of
from tests.support.fork_server import fork_server
from tests.support.rounds import NIGHTLY
from zeshel_tasks.cli import main
from zeshel_tasks.errors import EXIT_TRY_AGAIN
from zeshel_tasks.store import Run, open_run

VARYING = {"training_seconds", "mentions_per_second", "entities_per_second"}
KILLS = 30
LINES = (2, 6, 12, 18, 25) if NIGHTLY else (6, 40, 60)  # about new work, before a kill
NEVER = 10**6  # more lines than a run prints


@pytest.fixture
def flags(raw_archive: Path, golden: Path) -> list[str]:
    """Settings of a recipe that takes seconds and writes a checkpoint at nearly every step."""
    settings = {
        "source": raw_archive, "bert_model": golden / "bert", "max_mentions_per_world": 6, "max_context_length": 32,
        "max_cand_length": 32, "max_seq_length": 64, "top_k": 8, "checkpoint_minutes": 1e-6, "device": "cpu",
        "train_biencoder.train_batch_size": 4, "num_train_epochs": 2, "print_interval": 0.01,
    }  # fmt: skip
    return [f"--{name}={value}" for name, value in settings.items()]


def run_command(stdout: Connection, arguments: list[str]) -> None:
    """Runs the command ``zeshel`` in this process, with its output in a pipe."""
    sys.stdout = os.fdopen(stdout.fileno(), "w", encoding="utf-8", closefd=False)
    sys.exit(main(arguments))


@contextmanager
def pipeline(run: Run, flags: list[str]) -> Iterator[tuple[BaseProcess, Iterator[str]]]:
    """Starts a process that runs the pipeline, and yields it with the lines that it prints."""
    context = fork_server()
    reader, writer = context.Pipe(duplex=False)
    process = context.Process(target=run_command, args=(writer, ["pipeline", "--run", run.address, *flags]))
    process.start()
    writer.close()
    with os.fdopen(os.dup(reader.fileno()), encoding="utf-8") as lines:
        yield process, lines
    reader.close()
    process.join(60)


def exit_code_after(lines: int, number: int, run: Run, flags: list[str]) -> int:
    """Sends a signal to the pipeline after a number of lines about new work, and returns its exit code."""
    with pipeline(run, flags) as (process, printed):
        said: list[str] = []
        for line in printed:
            said += [] if " reused " in line else [line]
            if len(said) == lines and process.pid is not None:
                os.kill(process.pid, number)
    assert process.exitcode in (0, -signal.SIGKILL, EXIT_TRY_AGAIN), said[-5:]
    return process.exitcode


def outcome(run: Run, name: str) -> dict[str, Any]:
    """Returns everything that must not depend on kills. The report shows times, so only its metrics are compared."""
    manifest = manifest_of(run, name)
    metrics = {key: value for key, value in manifest.metrics.items() if key not in VARYING}
    files = {} if name == "report" else {file: entry.sha256 for file, entry in manifest.files.items()}
    return {"fingerprint": manifest.fingerprint, "metrics": metrics, "files": files}


def test_repeatedly_killed_run_leaves_same_artifacts(flags: list[str], tmp_path: Path, fault: Fault) -> None:
    undisturbed, killed = (open_run(f"{tmp_path}/{name}/runs/r") for name in ("undisturbed", "killed"))
    assert exit_code_after(NEVER, signal.SIGKILL, undisturbed, flags) == 0
    generator, deaths = random.Random(4), 0
    while deaths < KILLS:
        number = signal.SIGTERM if deaths % 4 == 3 else signal.SIGKILL
        if exit_code_after(generator.choice(LINES), number, killed, flags) == 0:
            break
        deaths += 1
    fault("training: a whole run is killed", deaths)
    assert deaths > 5
    assert exit_code_after(NEVER, signal.SIGKILL, killed, flags) == 0
    assert {name: outcome(killed, name) for name in NAMES} == {name: outcome(undisturbed, name) for name in NAMES}
