"""The script itself, on the CPU and on shapes that are done in an instant."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
TINY = {
    "layers": 2,
    "hidden": 32,
    "heads": 2,
    "intermediate": 64,
    "vocabulary": 60,
    "length": 8,
    "batch": 4,
    "encode_batch": 4,
    "candidates": 3,
    "entities": 50,
    "seconds": 0.001,
}
MODEL_ROWS = ["bi-encoder training", "cross-encoder training", "candidate encoding", "cross-encoder scoring"]


def test_each_row_is_positive_and_the_projection_adds_up() -> None:
    sizes = [f"--{name}={value}" for name, value in TINY.items()]
    command = [sys.executable, "-m", "bench.gpu", *sizes, "--device", "cpu", "--compile", "eager"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}  # for so little work threads cost more than they bring
    bench = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False, timeout=240)
    assert bench.returncode == 0, bench.stdout + bench.stderr
    facts, numerics, ceilings, _, table, projection = bench.stdout.strip().split("\n\n")
    for fact in ("CPU: ", "device: cpu", "torch ", "git commit: ", "hidden=32"):
        assert fact in facts
    assert all(line.startswith("ok  ") for line in numerics.splitlines())
    assert [line.split()[0] for line in ceilings.splitlines()] == ["bf16", "fp32", "memory"]
    assert_rows(table.splitlines()[1:])
    assert_adds_up(projection.splitlines())


def assert_rows(rows: list[str]) -> None:
    names = [next(name for name in [*MODEL_ROWS, "retrieval search"] if row.startswith(name)) for row in rows]
    assert names[:5] == [*MODEL_ROWS, "retrieval search"]
    assert sum("attention dropout" in row for row in rows) == 2
    assert sum("compiled" in row for row in rows) == 6
    assert sum("bf16 weights" in row for row in rows) == 4
    for row in rows:
        rate, flop, share = re.search(r"([\d,.]+) \w+ +([\d.e-]+) +([\d.]+)% of ", row).groups()  # type: ignore[union-attr]
        assert float(rate.replace(",", "")) > 0
        assert float(flop) > 0
        assert 0 <= float(share) <= 100


def assert_adds_up(lines: list[str]) -> None:
    columns = zip(*(map(float, line.split()[-2:]) for line in lines[1:]), strict=True)
    for *hours, in_all in columns:
        assert in_all == pytest.approx(sum(hours), abs=0.001 * len(hours))
        assert in_all > 0
