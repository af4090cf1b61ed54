"""Rows are imported in bounded memory, however many there are."""

import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.rounds import NIGHTLY

ROOT = Path(__file__).parents[2]


@pytest.mark.timeout(3600)
@pytest.mark.skipif(not NIGHTLY, reason="takes minutes")
def test_knowledge_base_of_300_mb_is_imported_in_less_than_1_gb() -> None:
    command = [
        sys.executable,
        "-m",
        "bench.importing",
        "--rows",
        "900000",
        "--only",
        "import-entities",
        "--allowed",
        "1000",
    ]
    bench = subprocess.run(command, capture_output=True, text=True, check=False, cwd=ROOT)
    print(bench.stdout)
    assert bench.returncode == 0, bench.stdout + bench.stderr
    assert "import-entities" in bench.stdout
