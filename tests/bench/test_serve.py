"""bench.serve, at a size that takes seconds."""

import json
import re
from collections.abc import Callable
from contextlib import redirect_stdout
from io import StringIO
from pathlib import Path

import numpy as np
import pytest

from bench.serve.__main__ import main
from bench.serve.drive import Answer, Load
from bench.serve.inputs import write_requests
from bench.serve.soak import growth_percent
from tests.support.rounds import NIGHTLY

SMALLER = {"max_context_length": 32, "max_cand_length": 32, "max_seq_length": 64, "train_batch_size": 8}


@pytest.fixture(scope="module")
def bench(
    raw_archive: Path, golden: Path, tmp_path_factory: pytest.TempPathFactory, one_fork_server: None
) -> Callable[..., tuple[int, str]]:
    """Runs the bench on a small store, and returns its exit code and what it printed."""
    work = tmp_path_factory.mktemp("serve")
    inputs = ["--data", str(raw_archive), "--model", str(golden / "bert"), "--work", str(work), "--entities", "40"]
    settings = [f"--set={name}={value}" for name, value in SMALLER.items()]

    def run(*arguments: str) -> tuple[int, str]:
        with redirect_stdout(StringIO()) as printed:
            code = main([*inputs, *settings, "--candidates", "4", *arguments])
        return code, printed.getvalue()

    return run


@pytest.mark.skipif(not NIGHTLY, reason="starts three servers and six loads; the soak starts one")
def test_service_is_compared_with_a_plain_one_and_with_offline(bench: Callable[..., tuple[int, str]]) -> None:
    code, printed = bench("--mode", "cascade", "--clients", "2", "1", "--seconds", "0.5")
    rows = [line.split() for line in printed.splitlines() if re.match(r"(zeshel|plain|offline) ", line)]
    assert code == 0
    assert [row[:3] for row in rows if row[0] != "offline"] == [
        [server, "cascade", clients] for server in ("zeshel", "plain") for clients in "12"
    ]
    for row in rows:
        numbers = [float(cell.replace(",", "")) for cell in row[2 if row[0] == "offline" else 3 :]]
        if row[0] != "offline":
            assert numbers.pop(-2) == 0, "answers without a status of 2xx"
            assert numbers[:3] == sorted(numbers[:3])
        assert min(numbers) > 0
    assert re.search(r"cascade: \d+% of the mentions a second of zeshel link with 2 clients; the first", printed)


def test_soak_prints_the_memory_and_counts_failures(bench: Callable[..., tuple[int, str]]) -> None:
    code, printed = bench("--soak", "0.03", "--allowed", "1000")
    assert code == 0
    assert re.search(r"requests, 0 failed; \d+ edits, 0 refused; \d+ champions; [+-][\d,]+ MB an hour", printed)


def test_growth_is_from_the_second_quarter_to_the_last() -> None:
    assert growth_percent(np.array([9.0, 9, 100, 80, 90, 95, 120, 80])) == pytest.approx(20)
    assert growth_percent(np.array([100.0])) == 0


def test_times_leave_out_the_first_request_of_each_client() -> None:
    answers = [Answer(0, 0, 5, 200), Answer(1, 0, 4, 200), Answer(1, 4, 6, 503), Answer(0, 5, 8, 0)]
    load = Load(answers)
    assert load.failed == 2
    assert load.seconds.tolist() == [2, 3]
    assert load.milliseconds(50) == 2500
    assert load.rate == pytest.approx(4 / 8)


def test_requests_mention_titles_in_turn_of_the_modes(tmp_path: Path) -> None:
    write_requests(tmp_path / "r.jsonl", 100, 9, ["retrieve", "rerank"])
    bodies = [json.loads(line) for line in (tmp_path / "r.jsonl").read_text().splitlines()]
    assert [body["mode"] for body in bodies] == ["retrieve", "rerank"] * 4 + ["retrieve"]
    for body in bodies:
        ((document,), ((mention,),)) = body["documents"], [part["mentions"] for part in body["documents"]]
        assert len(document["text"][mention["start"] : mention["end"]].split()) == 2
