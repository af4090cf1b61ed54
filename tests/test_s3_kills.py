"""Runs that race on a real S3 server, and a cleanup, are killed at random moments. Nothing is lost, half or left."""

from __future__ import annotations

import os
import random
import signal
import sys
import time
from collections import Counter
from collections.abc import Mapping
from datetime import timedelta
from multiprocessing.process import BaseProcess
from multiprocessing.synchronize import Event
from pathlib import Path

import pytest

from tests.store.cleanups import is_whole
from tests.support.faults import Fault
from tests.support.finished import NAMES
from tests.support.fork_server import fork_server
from tests.support.rounds import NIGHTLY
from tests.support.s3_servers import chosen
from tests.test_kills import flags, outcome
from zeshel_tasks.champion.champions import KEY, read_champions
from zeshel_tasks.cli import main
from zeshel_tasks.commands import gc
from zeshel_tasks.errors import EXIT_TRY_AGAIN
from zeshel_tasks.store import Run, Store, open_run
from zeshel_tasks.store.artifacts import read_manifest_now
from zeshel_tasks.store.lock import LOCK

__all__ = ["flags"]  # a fixture
pytestmark = [
    chosen.needs_processes,
    chosen.needs_conditional_writes,
    pytest.mark.skipif(not NIGHTLY, reason="takes minutes"),
    pytest.mark.timeout(3600),
]

KILLS = int(os.environ.get("KILLS", "300"))
OF_A_STORE, OF_A_CLEANUP = 60, 5  # then a fresh store
RUNS = ("one", "other")
ENDS = (0, EXIT_TRY_AGAIN, -signal.SIGKILL)
KEPT = "runs/kept/report/index.html"  # without any object, gc refuses the address


def run_command(arguments: list[str], environment: Mapping[str, str], log: Path, begun: Event) -> None:
    """Runs the command ``zeshel`` in this process. Its ``gc`` removes what is younger than two days, too."""
    signal.signal(signal.SIGTERM, lambda *_: os._exit(EXIT_TRY_AGAIN))  # as __main__.py does, until main() does it
    os.environ.update(environment)
    output = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    for stream in (1, 2):
        os.dup2(output, stream)
    gc._SHORTEST = timedelta()
    begun.set()
    sys.exit(main(arguments))


class Killer:
    """Starts commands, sends them signals after random times, and counts these by exit code.

    Args:
        log: file for everything that the commands print.
        seed: decides the times.
    """

    def __init__(self, log: Path, seed: int) -> None:
        self._log, self._random = log, random.Random(seed)
        self.deaths = Counter[str]()

    def start(self, *arguments: str) -> BaseProcess:
        environment = {name: value for name, value in os.environ.items() if name.startswith("AWS_")}
        environment["ZESHEL_SCRATCH"] = str(self._log.parent)
        begun = fork_server().Event()
        process = fork_server().Process(target=run_command, args=([*arguments], environment, self._log, begun))
        process.start()
        assert begun.wait(120)
        return process

    def finish(self, *arguments: str) -> int:
        """Runs a command to its end and returns its exit code."""
        process = self.start(*arguments)
        process.join(600)
        return process.exitcode if process.exitcode is not None else -1

    def race(self, seconds: float, *commands: list[str]) -> bool:
        """Starts commands, and kills each after a random time below ``seconds``. Returns True if all ended before.

        Every fourth signal is SIGTERM. After each of them, the command must have ended with an exit code of its own.
        """
        begun, processes = time.monotonic(), [self.start(*command) for command in commands]
        moments = sorted((self._random.uniform(0, seconds), process) for process in processes)
        for moment, process in moments:
            process.join(max(0, begun + moment - time.monotonic()))
            if process.exitcode is None and process.pid is not None:
                number = signal.SIGTERM if self.deaths.total() % 4 == 3 else signal.SIGKILL
                os.kill(process.pid, number)
                process.join(120)
                if process.exitcode != 0:  # it may have ended just before
                    self.deaths[signal.Signals(number).name] += 1
            assert process.exitcode in ENDS, self._log.read_text()[-4000:]
        return all(process.exitcode == 0 for process in processes)


def check_whole(store: Store, cache: Path) -> int:
    """Checks that all manifests and their files are whole, and returns their number. The champion is one of them."""
    number = 0
    for key in store.keys("artifacts/"):
        if key.endswith("/manifest.json"):
            manifest = read_manifest_now(store, key.removesuffix("/manifest.json"))
            assert manifest is not None
            assert is_whole(store, manifest, cache / store.address[len("s3://") :])
            number += 1 + len(manifest.files)
    for folder in read_champions(store).folders:
        assert read_manifest_now(store, folder) is not None
    return number


def test_killed_racing_runs_leave_same_artifacts_and_nothing_else(
    bucket: str, flags: list[str], tmp_path: Path, fault: Fault
) -> None:
    killer = Killer(tmp_path / "log", seed=int(os.environ.get("SEED", "1")))
    undisturbed = open_run(f"s3://{bucket}/undisturbed/runs/r")
    begun = time.monotonic()
    assert killer.finish("pipeline", "--run", undisturbed.address, *flags) == 0
    seconds = time.monotonic() - begun
    expected = {name: outcome(undisturbed, name) for name in NAMES}
    number = 0
    while killer.deaths.total() < KILLS:
        number += 1
        store = f"s3://{bucket}/{number}"
        runs = [open_run(f"{store}/runs/{name}") for name in RUNS]
        pipelines = [["pipeline", "--run", run.address, *flags] for run in runs]
        goal = killer.deaths.total() + OF_A_STORE
        while killer.deaths.total() < goal and not killer.race(seconds / 8, *pipelines):
            pass
        check_whole(runs[0].store, tmp_path / "cache")
        for run, command in zip(runs, pipelines, strict=True):
            assert killer.finish(*command) == 0, (tmp_path / "log").read_text()[-4000:]
            assert {name: outcome(run, name) for name in NAMES} == expected
        check_whole(runs[0].store, tmp_path / "cache")
        clean_up(killer, store, runs, tmp_path / "cache")
        print(f"{chosen.NAME}: {number} stores, {time.monotonic() - begun:.0f} s, {dict(killer.deaths)}", flush=True)
    for death, count in killer.deaths.items():
        fault(f"two at once: racing runs and cleanups on {chosen.NAME} get {death}", count)


def clean_up(killer: Killer, address: str, runs: list[Run], cache: Path) -> None:
    """Kills cleanups that remove what the kills have left, then the artifacts of one run, then everything."""
    store, command = runs[0].store, ["gc", "--store", address, "--older-than", "0d"]
    store.put(KEPT, b"x")
    for forgotten in ("no run", "runs/one/", "runs/other/", KEY):
        for key in [*store.keys(forgotten)]:
            store.delete(key)
        for _ in range(OF_A_CLEANUP):
            killer.race(1, command)
            store.delete(LOCK)
        assert killer.finish(*command) == 0
        files = check_whole(store, cache)
        assert len([*store.keys("artifacts/")]) == files, "every object is a manifest or named by one"
        assert [*store.unfinished("")] == []
    assert [*store.keys("")] == [KEPT]
