"""bench.gpu, on the CPU and on shapes that take an instant."""

import re

import pytest

from bench.gpu.__main__ import main

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


def test_rows_are_positive_and_projection_adds_up(capsys: pytest.CaptureFixture[str]) -> None:
    sizes = [f"--{name}={value}" for name, value in TINY.items()]
    assert main([*sizes, "--device", "cpu", "--compile", "eager"]) == 0
    facts, numerics, ceilings, _, table, *projections = capsys.readouterr().out.strip().split("\n\n")
    for fact in ("CPU: ", "device: cpu", "torch ", "git commit: ", "hidden=32"):
        assert fact in facts
    assert all(line.startswith("ok  ") for line in numerics.splitlines())
    assert [line.split()[0] for line in ceilings.splitlines()] == ["bf16", "fp32", "memory"]
    assert_rows(table.splitlines()[1:])
    assert [projection.splitlines()[0] for projection in projections] == [
        "preset blink:", "preset recommended:", "preset best:",
    ]  # fmt: skip
    for projection in projections:
        assert_adds_up(projection.splitlines()[1:])


def assert_rows(rows: list[str]) -> None:
    names = [next(name for name in [*MODEL_ROWS, "retrieval search"] if row.startswith(name)) for row in rows]
    assert names[:5] == [*MODEL_ROWS, "retrieval search"]
    assert sum("attention dropout" in row for row in rows) == 2
    assert sum("compiled" in row for row in rows) == 4
    for row in rows:
        rate, flop, share = re.search(r"([\d,.]+) \w+ +([\d.e-]+) +([\d.]+)% of ", row).groups()
        assert float(rate.replace(",", "")) > 0
        assert float(flop) > 0
        assert 0 <= float(share) <= 100


def assert_adds_up(lines: list[str]) -> None:
    columns = zip(*(map(float, line.split()[-2:]) for line in lines[1:]), strict=True)
    for *hours, in_all in columns:
        assert in_all == pytest.approx(sum(hours), abs=0.001 * len(hours))
        assert in_all > 0
