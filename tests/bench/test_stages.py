"""bench.stages, on inputs that take an instant."""

import re
from pathlib import Path

import pytest

from bench.stages.__main__ import main

TITLES = [
    "bi-encoder training", "candidate encoding", "retrieval", "cross-encoder training", "cross-encoder scoring",
    "convert + tokenize",
]  # fmt: skip


@pytest.mark.usefixtures("one_fork_server")
def test_table_has_a_row_of_positive_numbers_for_each_stage(
    raw_archive: Path, golden: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    smaller = {"train_biencoder.train_batch_size": 2, "top_k": 4, "max_context_length": 32, "max_cand_length": 32,
               "max_seq_length": 64, "encode_batch_size": 8, "eval_biencoder.eval_batch_size": 8}  # fmt: skip
    settings = [f"--set={name}={value}" for name, value in smaller.items()]
    inputs = ["--data", str(raw_archive), "--model", str(golden / "bert")]
    main([*inputs, "--seconds", "0.01", "--rounds", "1", "--device", "cpu", *settings])
    facts, table = capsys.readouterr().out.split("\n\n")
    for fact in ("CPU: ", "avx512_bf16", "amx_bf16", "torch ", "threads ", "SHA-256 ", "git commit: "):
        assert fact in facts
    rows = table.splitlines()[1:]
    assert [re.split(r"\s{2,}", row)[0] for row in rows] == TITLES
    for row in rows:
        numbers = [float(number.replace(",", "")) for number in re.findall(r"\d[\d,]*\.?\d*", row)]
        assert len(numbers) == 8, row
        assert all(number > 0 for number in numbers), row
