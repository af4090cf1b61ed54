"""The script itself, on inputs that are done in an instant."""

import os
import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
TITLES = [
    "bi-encoder training", "candidate encoding", "retrieval", "cross-encoder training", "cross-encoder scoring",
    "convert + tokenize",
]  # fmt: skip


def test_the_table_has_a_row_of_positive_numbers_for_each_stage(raw_archive: Path, golden: Path) -> None:
    smaller = {"train_biencoder.train_batch_size": 2, "top_k": 4, "max_context_length": 32, "max_cand_length": 32,
               "max_seq_length": 64, "encode_batch_size": 8, "eval_biencoder.eval_batch_size": 8}  # fmt: skip
    command = [
        sys.executable, "-m", "bench.stages", "--data", raw_archive, "--model", golden / "bert", "--seconds", "0.01",
        "--rounds", "1", "--device", "cpu", *(f"--set={name}={value}" for name, value in smaller.items()),
    ]  # fmt: skip
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}  # for so little work threads cost more than they bring
    bench = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False, timeout=240)
    assert bench.returncode == 0, bench.stdout + bench.stderr
    facts, table = bench.stdout.split("\n\n")
    for fact in ("CPU: ", "avx512_bf16", "amx_bf16", "torch ", "threads ", "SHA-256 ", "git commit: "):
        assert fact in facts
    rows = table.splitlines()[1:]
    assert [re.split(r"\s{2,}", row)[0] for row in rows] == TITLES
    for row in rows:
        numbers = [float(number.replace(",", "")) for number in re.findall(r"\d[\d,]*\.?\d*", row)]
        assert len(numbers) == 8, row
        assert all(number > 0 for number in numbers), row
