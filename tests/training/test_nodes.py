"""A training over two hosts gives the result of one host, and a lost host costs one attempt."""

import json
import re
import shutil
import signal
import time
from collections.abc import Iterator, Sequence
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from tests.support.faults import Fault
from tests.support.fork_server import fork_server
from tests.training.hosts import Hosts, can_make_hosts, two_hosts, wait_for_steps
from zeshel_tasks.errors import EXIT_TRY_AGAIN
from zeshel_tasks.pipeline.contract import run_stage
from zeshel_tasks.pipeline.registry import STAGES
from zeshel_tasks.recipe import build_recipe
from zeshel_tasks.store import open_run

pytestmark = pytest.mark.hosts

SETTINGS = {
    "max_context_length": 32,
    "max_cand_length": 32,
    "train_batch_size": 16,
    "num_train_epochs": 2,
    "learning_rate": 1e-3,
    "checkpoint_minutes": 1e-6,
}
PROCESSES = 2


@pytest.fixture(scope="module")
def hosts() -> Iterator[Hosts]:
    if not can_make_hosts():
        pytest.skip("only root can make network namespaces, with `ip`")
    with two_hosts() as made:
        yield made


@pytest.fixture(scope="module")
def undisturbed(pair_tables: Path, golden_with_dropout: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store with a run that has trained in two processes on one machine."""
    fork_server()  # the first process to start decides what all of them have imported
    store = _store(pair_tables, tmp_path_factory.mktemp("undisturbed"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("zeshel_tasks.stages.training.processes_for", lambda config, gang: PROCESSES)
        settings = {"bert_model": str(golden_with_dropout), **SETTINGS}
        run_stage(STAGES["train-biencoder"], f"{store}/runs/r", build_recipe("smoke", settings))
    return store


@pytest.fixture
def store(pair_tables: Path, tmp_path: Path) -> Path:
    """A store with a run that is about to train."""
    return _store(pair_tables, tmp_path)


def _store(pair_tables: Path, folder: Path) -> Path:
    for name in ("runs", "artifacts"):
        shutil.copytree(pair_tables / name, folder / "store" / name)
    return folder / "store"


def arguments(store: Path, bert: Path, **settings: Any) -> list[str]:
    flags = [f"--{name}={value}" for name, value in {**SETTINGS, "bert_model": bert, **settings}.items()]
    return ["train-biencoder", "--run", f"{store}/runs/r", "--preset", "smoke", *flags]


def trained(store: Path, cache: Path) -> tuple[list[dict[str, float]], dict[str, torch.Tensor]]:
    """Returns loss curve and weights of a run."""
    artifact = open_run(f"{store}/runs/r").artifact("train-biencoder", cache)
    model = artifact.directory("model")
    weights = {
        f"{path.parent.name}/{name}": tensor
        for path in sorted(model.rglob("*.safetensors"))
        for name, tensor in load_file(path).items()
    }
    return [json.loads(line) for line in artifact.path("curve.jsonl").read_text().splitlines()], weights


def ended(processes: Sequence[BaseProcess], logs: Sequence[Path]) -> list[int | None]:
    """Waits for processes, and returns their exit codes. Prints their logs, which pytest shows if a test fails."""
    for process in processes:
        process.join(300)
    for log in logs:
        print(log.read_text())
    return [process.exitcode for process in processes]


def assert_same_training(ours: Path, theirs: Path, cache: Path) -> None:
    our_curve, our_weights = trained(ours, cache / "ours")
    their_curve, their_weights = trained(theirs, cache / "theirs")
    assert len(our_curve) == len(their_curve) > 10
    for our_point, their_point in zip(our_curve, their_curve, strict=True):
        assert our_point == pytest.approx(their_point, abs=1e-5)
    assert our_weights.keys() == their_weights.keys()
    for name, tensor in their_weights.items():
        torch.testing.assert_close(our_weights[name], tensor, atol=1e-4, rtol=1e-3, msg=name)


def test_lost_host_costs_one_attempt(
    hosts: Hosts, store: Path, undisturbed: Path, golden_with_dropout: Path, tmp_path: Path, fault: Fault
) -> None:
    logs = [tmp_path / f"log-{host}" for host in range(2)]

    def start(counted: Path | None = None, stall_minutes: float = 10) -> list[BaseProcess]:
        command = arguments(store, golden_with_dropout, stall_minutes=stall_minutes)
        return [hosts.start(host, command, hosts.variables(host), logs[host], counted) for host in range(2)]

    both = start(tmp_path / "killed")
    wait_for_steps(tmp_path / "killed", 4, both[0])
    both[1].kill()
    fault("training: a host of several is killed")
    assert ended(both, logs) == [EXIT_TRY_AGAIN, -signal.SIGKILL]
    both = start(tmp_path / "cut", stall_minutes=0.1)
    wait_for_steps(tmp_path / "cut", 8, both[0])
    hosts.cut()
    fault("training: a host is cut off")
    assert ended(both, logs) == [EXIT_TRY_AGAIN] * 2
    hosts.mend()
    assert ended(start(), logs) == [0, 0]
    assert "resuming at step" in logs[0].read_text()
    assert_same_training(store, undisturbed, tmp_path)


def test_two_hosts_train_like_one(
    hosts: Hosts, store: Path, undisturbed: Path, golden_with_dropout: Path, tmp_path: Path
) -> None:
    command = arguments(store, golden_with_dropout)
    logs = [tmp_path / f"log-{host}" for host in range(2)]
    both = [hosts.start(host, [*hosts.torchrun(host), *command], {}, logs[host]) for host in range(2)]
    assert ended(both, logs) == [0, 0]
    texts = [log.read_text() for log in logs]
    assert_same_training(store, undisturbed, tmp_path)
    for text in texts:
        assert text.count("INFO: [rank ") == text.count("INFO: ")
    assert "checkpoint at step" in texts[0]
    assert "checkpoint at step" not in texts[1], "the first process saves for all"
    assert "committed train-biencoder" in texts[0]
    assert "committed train-biencoder" not in texts[1]
    again = [hosts.start(host, command, hosts.variables(host), logs[host]) for host in range(2)]
    assert ended(again, logs) == [0, 0]
    assert "reused train-biencoder" in logs[0].read_text()
    assert logs[1].read_text().count("train-biencoder") == texts[1].count("train-biencoder"), "it has no work"


def test_sigterm_on_one_host_stops_both(
    hosts: Hosts, store: Path, golden_with_dropout: Path, tmp_path: Path, fault: Fault
) -> None:
    """Each host starts its process itself, as in a TrainJob without torchrun."""
    command = arguments(store, golden_with_dropout, num_train_epochs=1000, print_interval=0.001)
    logs = [tmp_path / f"log-{host}" for host in range(2)]
    both = [hosts.start(host, command, hosts.train_job(host), logs[host]) for host in range(2)]
    while "step " not in (logs[0].read_text() if logs[0].exists() else ""):
        assert all(process.is_alive() for process in both), [log.read_text() for log in logs]
        time.sleep(0.05)
    both[1].terminate()
    fault("training: SIGTERM on one host")
    assert ended(both, logs) == [EXIT_TRY_AGAIN] * 2
    texts = [log.read_text() for log in logs]
    for rank, text in enumerate(texts):
        assert re.search(rf"ERROR: \[rank {rank} of 2\] .*stopped at step \d+; the next attempt resumes there", text)
    assert "checkpoint at step" in texts[0]
